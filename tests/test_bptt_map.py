"""tg.bptt_map: the terms of BPTT's double sum, apart, and what they show."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import tinygrad_ja as tg
import tinygrad_ja.viz.gradient_map as gradient_map
from tinygrad_ja import nn
from tinygrad_ja.errors import ArgumentError, DtypeError, GradientError
from tinygrad_ja.testing import strict

H = 4


def sigmoid_rnn(steps, scale=1.0, seed=0):
    """z_t = σ(W z_{t-1} + x_t), E_t = |z_t - d_t|² / 2. W, the states z_{-1} ... and the losses."""
    rng = np.random.default_rng(seed)
    W = tg.tensor(rng.standard_normal((H, H)) * scale, requires_grad=True)
    x, d = rng.standard_normal((steps, H)), rng.standard_normal((steps, H))
    z = tg.tensor(rng.standard_normal(H))
    states, losses = [z], []
    for t in range(steps):
        z = tg.sigmoid(W @ z + tg.tensor(x[t]))
        states.append(z)
        losses.append(((z - tg.tensor(d[t])) ** 2).sum() / 2)
    return W, states, losses, d


def test_the_entries_are_the_terms_of_the_double_sum():
    """∂E_s/∂W = Σ_{t<=s} δ_{s,t} z_{t-1}ᵀ with δ_{s,s} = (z_s - d_s)∘σ'(u_s) and δ_{s,t-1} = δ_{s,t} W∘σ'(u_{t-1})."""
    W, states, losses, d = sigmoid_rnn(6)
    made = tg.bptt_map(losses, W)
    w, z = W.detach().numpy(), [state.detach().numpy() for state in states]
    slope = [a * (1 - a) for a in z[1:]]
    for s in range(6):
        delta = (z[s + 1] - d[s]) * slope[s]
        for t in range(s, -1, -1):
            term = np.outer(delta, z[t])  # z[t] is z_{t-1}: the list starts one earlier
            np.testing.assert_allclose(made.gradients[s, t], term, rtol=1e-12, atol=1e-15)
            assert made.matrix[s, t] == pytest.approx(np.sqrt((term**2).sum()))
            delta = (delta @ w) * slope[t - 1]
    assert (made.matrix[np.triu_indices(6, 1)] == 0).all() and not made.reached[np.triu_indices(6, 1)].any()


def test_a_row_sums_to_the_gradient_of_its_loss():
    W, _, losses, _ = sigmoid_rnn(7)
    made = tg.bptt_map(losses, W)
    for s, loss in enumerate(losses):
        (g,) = tg.grad(loss, W, retain_graph=True)
        np.testing.assert_allclose(made.rows[s], g.array, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(made.gradients[s].sum(0), g.array, rtol=1e-12, atol=1e-15)
    assert made.difference < 1e-14 and made.shape == (7, 7) and made.uses_per_step == 1


def test_a_sigmoid_network_forgets_at_least_as_fast_as_a_power_of_a_quarter():
    """σ' <= 1/4, so ‖δ_{s,t}‖ <= ‖z_s - d_s‖ (‖W‖/4)^(s-t) / 4."""
    steps = 12
    W, states, losses, d = sigmoid_rnn(steps, scale=0.5)
    matrix = tg.bptt_map(losses, W).matrix
    norm = np.linalg.norm(W.detach().numpy(), 2)
    for s in range(steps):
        start = np.linalg.norm(states[s + 1].detach().numpy() - d[s])
        for t in range(s + 1):
            bound = start * (norm / 4) ** (s - t) / 4 * np.linalg.norm(states[t].detach().numpy())
            assert 0 < matrix[s, t] <= bound * (1 + 1e-12)
    assert matrix[-1, 0] < 1e-3 * matrix[-1, -1]


def constant_error_carousel():
    """An LSTM cell whose forget gate is 1 and whose gates do not see the state: c_t = c_{t-1} + i∘g."""
    cell = nn.LSTMCell(2, H).double()
    with tg.no_grad():
        cell.weight_hh.zero_()
        cell.weight_ih[H : 2 * H] = 0.0
        cell.bias_ih[H : 2 * H] = 60.0  # σ(60) is 1 in floating point
    return cell


def test_the_error_in_the_carousel_stays_constant():
    tg.manual_seed(0)
    cell, losses, state = constant_error_carousel(), [], None
    for x in tg.randn(20, 1, 2, dtype=tg.float64):
        state = cell(x, state)
        losses.append(state[1].sum())  # ∂E_s/∂c_s = 1
    matrix = tg.bptt_map(losses, cell.weight_ih).matrix
    for t in range(20):
        np.testing.assert_allclose(matrix[t:, t], matrix[t, t], rtol=1e-12)
    assert (matrix.diagonal() > 1e-3).all()


# ---- truncation


def test_truncation_cuts_exactly_what_lies_before_the_piece():
    tg.manual_seed(0)
    cell = nn.RNNCell(3, H).double()
    x = tg.randn(10, 1, 3, dtype=tg.float64)

    def step(piece, state):
        losses = []
        for x_t in piece:
            state = cell(x_t, state)
            losses.append(state.sum())
        return losses, state

    start = tg.ones(1, H, dtype=tg.float64)
    whole = tg.bptt_map(step(x, start)[0], cell.weight_hh)
    losses = [loss for part, _ in nn.truncated_bptt(step, x, 4, start) for loss in part]
    made = tg.bptt_map(losses, cell.weight_hh)
    s, t = np.indices((10, 10))
    assert (made.cut == (t < s // 4 * 4)).all()
    assert (made.matrix[made.cut] == 0).all() and (made.gradients[made.cut] == 0).all()
    kept = (t <= s) & ~made.cut
    np.testing.assert_allclose(made.matrix[kept], whole.matrix[kept], rtol=1e-12)
    assert not whole.cut.any() and (whole.matrix[t <= s] > 0).all()
    assert repr(made) == "<BPTTMap of 10 losses and 10 steps, 32 entries cut>"


def test_a_zero_first_state_is_no_cut():
    cell, state, losses = nn.RNNCell(2, 3), None, []
    for x in tg.randn(4, 1, 2):
        state = cell(x, state)
        losses.append(state.sum())
    made = tg.bptt_map(losses, cell.weight_hh)
    assert (made.matrix[:, 0] == 0).all() and made.reached[:, 0].all() and not made.cut.any()


def test_a_loss_that_does_not_depend_on_the_weight_is_no_cut():
    w, v = tg.tensor(0.5, requires_grad=True), tg.tensor(2.0, requires_grad=True)
    made = tg.bptt_map([v * 1.0, w * v], w, uses_per_step=1)
    assert made.matrix.tolist() == [[0.0], [2.0]] and not made.reached[0].any() and not made.cut.any()


# ---- which uses make a step


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_recurrent_layer_counts_as_a_cell_for_each_step(kind):
    tg.manual_seed(1)
    layer, cell = getattr(nn, kind)(3, H).double(), getattr(nn, kind + "Cell")(3, H).double()
    cell.load_state_dict({name.removesuffix("_l0"): p for name, p in layer.state_dict().items()})
    x = tg.randn(6, 2, 3, dtype=tg.float64)
    output, _ = layer(x)
    losses, state = [], None
    for x_t in x:
        state = cell(x_t, state)
        losses.append(((state[0] if kind == "LSTM" else state) ** 2).sum())
    for name, p in layer.named_parameters():
        by_layer = tg.bptt_map([(output[t] ** 2).sum() for t in range(6)], p)
        by_cell = tg.bptt_map(losses, cell.get_parameter(name.removesuffix("_l0")))
        np.testing.assert_allclose(by_layer.gradients, by_cell.gradients, rtol=1e-10, atol=1e-14, err_msg=name)


def test_layers_in_both_directions_and_above_each_other_have_rows_that_sum_to_the_gradient():
    tg.manual_seed(2)
    layer = nn.LSTM(3, H, num_layers=2, bidirectional=True).double()
    output, _ = layer(tg.randn(5, 2, 3, dtype=tg.float64))
    losses = [(output[t] ** 2).sum() for t in range(5)]
    for name, p in layer.named_parameters():
        made = tg.bptt_map(losses, p)
        assert made.shape == (5, 5) and made.difference < 1e-13, name
    backwards = tg.bptt_map(losses, layer.weight_hh_l1_reverse)
    s, t = np.indices((5, 5))
    assert (backwards.matrix[s + t > 4] == 0).all()  # its use number t is at time 4 - t, and sees what comes later


def test_uses_are_grouped_by_step():
    """A GRU by hand uses its block of weights three times in a step."""
    tg.manual_seed(0)
    W = tg.randn(3, H, H, dtype=tg.float64, requires_grad=True)
    h, losses = tg.ones(H, dtype=tg.float64), []
    for _ in range(4):
        z, r = tg.sigmoid(W[0] @ h), tg.sigmoid(W[1] @ h)
        h = (1 - z) * tg.tanh(W[2] @ (r * h)) + z * h
        losses.append(h.sum())
    made = tg.bptt_map(losses, W)
    assert made.shape == (4, 4) and made.uses_per_step == 3 and made.difference < 1e-14
    single = tg.bptt_map(losses, W, uses_per_step=1)
    assert single.shape == (4, 12)
    np.testing.assert_allclose(single.gradients.reshape(4, 4, 3, 3, H, H).sum(2), made.gradients, rtol=1e-12)


def test_one_loss_at_the_end_sees_every_step():
    W, _, losses, _ = sigmoid_rnn(5)
    made = tg.bptt_map(losses[-1:], W)
    assert made.shape == (1, 5) and (made.matrix > 0).all()
    np.testing.assert_allclose(made.matrix[0], tg.bptt_map(losses, W).matrix[-1])


def test_a_value_made_from_a_parameter_once_may_stand_for_it():
    tg.manual_seed(0)
    parameter = tg.randn(H, H, requires_grad=True)
    W, z, losses = parameter.T, tg.ones(H), []
    for _ in range(3):
        z = tg.tanh(W @ z)
        losses.append(z.sum())
    assert tg.bptt_map(losses, W).shape == (3, 3)
    with pytest.raises(ArgumentError, match="TG-A003.*used once, by .* for all 3 losses"):
        tg.bptt_map(losses, parameter)


def test_checkpointed_steps_are_looked_into():
    tg.manual_seed(0)
    cell = nn.RNNCell(2, 3).double()
    x = tg.randn(4, 1, 2, dtype=tg.float64)

    def run(step):
        h, losses = tg.ones(1, 3, dtype=tg.float64), []
        for x_t in x:
            h = step(x_t, h)
            losses.append(h.sum())
        return tg.bptt_map(losses, cell.weight_hh).gradients

    np.testing.assert_allclose(run(lambda x_t, h: tg.checkpoint(cell, x_t, h)), run(cell), rtol=1e-12)


def test_a_hook_on_a_state_acts_as_in_backward():
    w = tg.tensor(0.5, requires_grad=True)
    first = w * 1.0
    first.register_hook(lambda g: g * 0)
    losses = [first * 1.0, w * first]
    assert tg.bptt_map(losses, w, uses_per_step=1).matrix.tolist() == [[0.0, 0.0], [0.0, 0.5]]


def test_terms_that_do_not_add_up_are_refused():
    """A hook on a whole layer doubles its gradients; the layer's cells do not have it."""
    layer = nn.RNN(2, 3)
    output, _ = layer(tg.randn(4, 1, 2))
    node = output.grad_fn
    while node.operator.name != "rnn_layer":
        node = node.parents[0]
    node.register_hook(lambda gradients, _: tuple([None if g is None else g * 2 for g in gradients]))
    with pytest.raises(ArgumentError, match="TG-A003.*do not add up"):
        tg.bptt_map([output[t].sum() for t in range(4)], layer.weight_hh_l0)


# ---- what it leaves alone, what it refuses


def test_nothing_changes_on_the_tape():
    W, states, losses, _ = sigmoid_rnn(4)
    states[2].retain_grad()
    seen = []
    W.register_hook(lambda g: seen.append(1))
    expected = tg.bptt_map(losses, W).rows.sum(0)
    assert W.grad is None and states[2].grad is None and not seen
    sum(losses[1:], losses[0]).backward()
    np.testing.assert_allclose(W.grad.array, expected, rtol=1e-12)
    assert W.grad is not None and states[2].grad is not None and seen == [1]


def test_it_works_under_no_grad():
    W, _, losses, _ = sigmoid_rnn(3)
    with tg.no_grad():
        assert tg.bptt_map(losses, W).shape == (3, 3)


def test_a_layer_is_unrolled_in_its_own_precision_under_autocast():
    tg.manual_seed(0)
    layer = nn.RNN(3, H)
    output, _ = layer(tg.randn(4, 2, 3))
    losses = [(output[t] ** 2).sum() for t in range(4)]
    expected = tg.bptt_map(losses, layer.weight_hh_l0).gradients
    with tg.autocast("cpu", dtype=tg.float16):
        np.testing.assert_array_equal(tg.bptt_map(losses, layer.weight_hh_l0).gradients, expected)


def test_large_gradients_are_not_kept(monkeypatch):
    monkeypatch.setattr(gradient_map, "KEPT_BYTES", 100)
    W, _, losses, _ = sigmoid_rnn(4)
    made = tg.bptt_map(losses, W)
    assert made.gradients is None and made.rows.shape == (4, H, H) and (made.matrix.diagonal() > 0).all()


def test_a_freed_or_changed_tape_is_refused():
    W, _, losses, _ = sigmoid_rnn(3)
    losses[-1].backward()
    with pytest.raises(GradientError, match="TG-G002"):
        tg.bptt_map(losses, W)
    W, _, losses, _ = sigmoid_rnn(3)
    with tg.no_grad():
        W *= 2.0
    with pytest.raises(GradientError, match="TG-G003"):
        tg.bptt_map(losses, W)


def test_wrong_arguments_explain_themselves():
    W, _, losses, _ = sigmoid_rnn(3)
    other = tg.ones(2, requires_grad=True)
    for bad in (losses[0], [], None, {0: losses[0]}):
        with pytest.raises(ArgumentError, match="TG-A001.*losses"):
            tg.bptt_map(bad, W)
    with pytest.raises(DtypeError, match=r"TG-T002.*losses\[1\]"):
        tg.bptt_map([losses[0], 1.0], W)
    with pytest.raises(GradientError, match="TG-G005"):
        tg.bptt_map([losses[0].detach()], W)
    with pytest.raises(GradientError, match="TG-G001"):
        tg.bptt_map([W * 2], W)
    with pytest.raises(DtypeError, match="TG-T002.*'W'"):
        tg.bptt_map(losses, "W")
    with pytest.raises(GradientError, match="TG-G005"):
        tg.bptt_map(losses, W.detach())
    with pytest.raises(ArgumentError, match="TG-A003.*no loss depends on W"):
        tg.bptt_map(losses, other)
    for bad in (0, 2, 1.0, True):
        with pytest.raises(ArgumentError, match="TG-A001.*uses_per_step.*3 uses"):
            tg.bptt_map(losses, W, uses_per_step=bad)


def test_arrays_of_another_device_are_brought_to_the_host():
    W, x = [tg.Tensor(strict.array(np.full((2, 2), 0.5, np.float32))) for _ in range(2)]
    W.requires_grad_()
    losses, z = [], x
    for _ in range(3):
        z = tg.tanh(W @ z)
        losses.append(z.sum())
    on_cpu = tg.tensor(strict.peek(W.array), requires_grad=True)
    z, expected = tg.tensor(strict.peek(x.array)), []
    for _ in range(3):
        z = tg.tanh(on_cpu @ z)
        expected.append(z.sum())
    made = tg.bptt_map(losses, W)
    assert type(made.rows) is np.ndarray
    np.testing.assert_allclose(made.gradients, tg.bptt_map(expected, on_cpu).gradients, rtol=1e-6)


# ---- how it looks


def test_the_text_shows_numbers_cuts_and_the_check():
    z, losses, w = tg.tensor(1.0), [], tg.tensor(0.5, requires_grad=True)
    for t in range(4):
        z = w * (z.detach() if t == 2 else z)
        losses.append(z * 1)
    rows = [line.split() for line in str(tg.bptt_map(losses, w)).splitlines()]
    assert rows[2:6] == [
        ["0", "1", ".", ".", "."],
        ["1", "0.5", "0.5", ".", "."],
        ["2", "//", "//", "0.25", "."],
        ["3", "//", "//", "0.12", "0.12"],
    ]
    assert "largest relative difference 0.0e+00" in str(tg.bptt_map(losses, w))


def test_a_long_map_has_a_short_text():
    W, _, losses, _ = sigmoid_rnn(50)
    text = str(tg.bptt_map(losses, W))
    assert len(text.splitlines()) == 13 and max(map(len, text.splitlines())) < 110


def test_the_text_speaks_japanese(monkeypatch):
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    W, _, losses, _ = sigmoid_rnn(4)
    first, *_, last = str(tg.bptt_map(losses, W)).splitlines()
    assert "誤差 4 個、時刻 4 個" in first and "行の和" in last


@pytest.mark.parametrize("language, kind", [("en", "png"), ("ja", "svg"), ("en", "pdf")])
def test_the_picture_is_written_whole(tmp_path, monkeypatch, language, kind):
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("TINYGRAD_JA_LANG", language)
    W, _, losses, _ = sigmoid_rnn(4)
    path = tg.bptt_map(losses, W).save(tmp_path / f"map.{kind}", title="σ")
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[kind]
    assert path.read_bytes().startswith(start) and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_picture_has_log_colours_and_hatches_what_is_cut():
    pytest.importorskip("matplotlib")
    w = tg.tensor(0.5, requires_grad=True)
    axes = tg.bptt_map([w * 1.0, w.detach() * (w * 1.0)], w).plot(limits=(0.1, 1.0)).axes[0]
    assert type(axes.images[0].norm).__name__ == "LogNorm" and axes.images[0].get_clim() == (0.1, 1.0)
    assert [patch.get_xy() for patch in axes.patches] == [(-0.5, 0.5)]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("use at step t", "loss at step s")


def test_a_map_of_nothing_can_be_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    w = tg.tensor(0.5, requires_grad=True)
    assert tg.bptt_map([w * 0.0], w).save(tmp_path / "map.png").exists()
    exploded = tg.bptt_map([w * float("inf"), w * 1.0], w)
    assert np.isinf(exploded.matrix[0, 0]) and exploded.save(tmp_path / "map.png").exists()


def test_a_picture_that_cannot_be_made_says_why(tmp_path, monkeypatch):
    w = tg.tensor(0.5, requires_grad=True)
    made = tg.bptt_map([w * 1.0], w)
    with pytest.raises(ArgumentError, match=r"TG-A001.*\.png, \.svg or \.pdf"):
        made.save(tmp_path / "map.txt")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ArgumentError, match="TG-A002.*matplotlib"):
        made.save(tmp_path / "map.png")
    assert not list(tmp_path.iterdir())
