"""Recurrent layers against their formulas written in NumPy, their errors, and truncated BPTT."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the device
from tinygrad_ja import nn
from tinygrad_ja.errors import ArgumentError, ShapeError

T, N, D, H = 5, 2, 3, 4


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def weights(layer, suffix=""):
    return {name.removesuffix(suffix): p.detach().numpy() for name, p in layer.named_parameters() if name.endswith(suffix)}


def rnn_step(w, x, h, activation):
    return activation(x @ w["weight_ih"].T + w["bias_ih"] + h @ w["weight_hh"].T + w["bias_hh"])


def lstm_step(w, x, h, c):
    zero = np.zeros(H)
    i, f, g, o = np.split(x @ w["weight_ih"].T + w["bias_ih"] + h @ w["weight_hh"].T + w["bias_hh"], 4, axis=-1)
    c_new = sigmoid(f + w.get("weight_cf", zero) * c) * c + sigmoid(i + w.get("weight_ci", zero) * c) * np.tanh(g)
    return sigmoid(o + w.get("weight_co", zero) * c_new) * np.tanh(c_new), c_new


def gru_step(w, x, h, reset_after):
    xr, xz, xn = np.split(x @ w["weight_ih"].T + w["bias_ih"], 3, axis=-1)
    (ur, uz, un), (br, bz, bn) = np.split(w["weight_hh"], 3), np.split(w["bias_hh"], 3)
    r, z = sigmoid(xr + h @ ur.T + br), sigmoid(xz + h @ uz.T + bz)
    n = np.tanh(xn + (r * (h @ un.T + bn) if reset_after else (r * h) @ un.T + bn))
    return (1 - z) * n + z * h


ACTIVATIONS = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0), "sigmoid": sigmoid}


@pytest.mark.parametrize("nonlinearity", ACTIVATIONS)
def test_rnn_is_its_formula(nonlinearity):
    layer = nn.RNN(D, H, nonlinearity=nonlinearity).double()
    w, x, h = weights(layer, "_l0"), array(T, N, D), array(N, H, seed=1)
    output, h_n = layer(tg.tensor(x), tg.tensor(h[None]))
    for t in range(T):
        h = rnn_step(w, x[t], h, ACTIVATIONS[nonlinearity])
        np.testing.assert_allclose(output.detach().numpy()[t], h, rtol=1e-12)
    np.testing.assert_allclose(h_n.detach().numpy()[0], h, rtol=1e-12)


@pytest.mark.parametrize("peephole", [False, True])
def test_lstm_is_its_formula(peephole):
    layer = nn.LSTM(D, H, peephole=peephole).double()
    assert ("weight_co_l0" in layer.state_dict()) == peephole
    w, x, h, c = weights(layer, "_l0"), array(T, N, D), array(N, H, seed=1), array(N, H, seed=2)
    output, (h_n, c_n) = layer(tg.tensor(x), (tg.tensor(h[None]), tg.tensor(c[None])))
    for t in range(T):
        h, c = lstm_step(w, x[t], h, c)
        np.testing.assert_allclose(output.detach().numpy()[t], h, rtol=1e-11)
    np.testing.assert_allclose(h_n.detach().numpy()[0], h, rtol=1e-11)
    np.testing.assert_allclose(c_n.detach().numpy()[0], c, rtol=1e-11)


@pytest.mark.parametrize("reset_after", [True, False])
def test_gru_is_its_formula(reset_after):
    layer = nn.GRU(D, H, reset_after=reset_after).double()
    w, x, h = weights(layer, "_l0"), array(T, N, D), np.zeros((N, H))
    output, h_n = layer(tg.tensor(x))
    for t in range(T):
        h = gru_step(w, x[t], h, reset_after)
        np.testing.assert_allclose(output.detach().numpy()[t], h, rtol=1e-11)
    np.testing.assert_allclose(h_n.detach().numpy()[0], h, rtol=1e-11)


KINDS = [
    (nn.RNN, nn.RNNCell, {"nonlinearity": "sigmoid"}),
    (nn.LSTM, nn.LSTMCell, {}),
    (nn.LSTM, nn.LSTMCell, {"peephole": True}),
    (nn.GRU, nn.GRUCell, {}),
    (nn.GRU, nn.GRUCell, {"reset_after": False}),
]


@pytest.mark.parametrize("layer_type, cell_type, options", KINDS)
def test_a_layer_is_its_cell_in_a_loop_with_the_same_gradients(layer_type, cell_type, options):
    layer, cell = layer_type(D, H, **options).double(), cell_type(D, H, **options).double()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    x, cotangent = tg.tensor(array(T, N, D)), tg.tensor(array(T, N, H, seed=1))
    (layer(x)[0] * cotangent).sum().backward()
    state, outputs = None, []
    for t in range(T):
        state = cell(x[t], state)
        outputs.append(state[0] if isinstance(state, tuple) else state)
    (tg.stack(outputs) * cotangent).sum().backward()
    for name, p in cell.named_parameters():
        np.testing.assert_allclose(layer.get_parameter(name + "_l0").grad.numpy(), p.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_layers_and_directions_are_stacked(kind):
    layer = kind(D, H, num_layers=2, bidirectional=True).double()
    x = tg.tensor(array(T, N, D))
    expected, finals = x, []
    for number in range(2):
        parts = []
        for suffix in ("", "_reverse"):
            single = kind(D if number == 0 else 2 * H, H).double()
            ending = f"_l{number}{suffix}"
            chosen = {name.removesuffix(ending) + "_l0": v for name, v in layer.state_dict().items() if name.endswith(ending)}
            single.load_state_dict(chosen)
            made, state = single(expected.flip(0) if suffix else expected)
            parts.append(made.flip(0) if suffix else made)
            finals.append(state[0] if kind is nn.LSTM else state)
        expected = tg.cat(parts, dim=2)
    output, state = layer(x)
    np.testing.assert_allclose(output.detach().numpy(), expected.detach().numpy(), rtol=1e-12)
    last = state[0] if kind is nn.LSTM else state
    np.testing.assert_allclose(last.detach().numpy(), tg.cat(finals).detach().numpy(), rtol=1e-12)


def test_batch_first_only_swaps_axes():
    layer = nn.LSTM(D, H, num_layers=2, bidirectional=True)
    other = nn.LSTM(D, H, num_layers=2, bidirectional=True, batch_first=True)
    other.load_state_dict(layer.state_dict())
    x = tg.randn(T, N, D)
    y, (h, c) = layer(x)
    z, (h2, c2) = other(x.transpose(0, 1))
    np.testing.assert_allclose(y.detach().numpy(), z.transpose(0, 1).detach().numpy(), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(c.detach().numpy(), c2.detach().numpy(), rtol=1e-5, atol=1e-7)
    assert h.shape == h2.shape == (4, N, H)


def test_dropout_acts_between_layers_in_training_only():
    layer = nn.RNN(D, H, num_layers=2, dropout=0.5)
    x = tg.randn(T, N, D)
    assert layer(x)[0].tolist() != layer(x)[0].tolist()
    layer.eval()
    assert layer(x)[0].tolist() == layer(x)[0].tolist()
    with pytest.warns(UserWarning, match="num_layers=1"):
        nn.RNN(D, H, dropout=0.5)


def test_parameters_start_uniform_and_follow_the_seed():
    tg.manual_seed(3)
    layer = nn.LSTM(D, 100)
    tg.manual_seed(3)
    again = nn.LSTM(D, 100)
    for p, q in zip(layer.parameters(), again.parameters()):
        assert p.tolist() == q.tolist()
        assert abs(p.detach().numpy()).max() <= 0.1 and p.detach().numpy().std() == pytest.approx(0.1 / math.sqrt(3), rel=0.15)


def test_dtype_follows_the_input():
    output, (h, c) = nn.LSTM(D, H, dtype=tg.float64)(tg.zeros(T, N, D, dtype=tg.float64))
    assert {output.dtype, h.dtype, c.dtype} == {tg.float64}
    output, h = nn.GRU(D, H, num_layers=2)(tg.zeros(T, N, D))
    assert {output.dtype, h.dtype} == {tg.float32}


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_on_a_device_the_same_values(kind):
    layer, x = kind(D, H, num_layers=2, bidirectional=True), tg.randn(T, N, D)
    expected = layer(x)[0].detach().numpy()
    layer.to("strict")
    output, _ = layer(tg.tensor(x, device="strict"))
    np.testing.assert_allclose(output.detach().cpu().numpy(), expected, rtol=1e-5, atol=1e-6)
    output.sum().backward()
    assert {p.grad.device.type for p in layer.parameters()} == {"strict"}


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_shapes_that_do_not_fit_are_named(kind):
    layer = kind(D, H, num_layers=2)
    for shape in ((T, N, D + 1), (T,), (0, N, D), (1, T, N, D)):
        with pytest.raises(ShapeError, match=rf"{kind.__name__}.*\(T, N, 3\)"):
            layer(tg.zeros(shape))
    for shape in ((1, N, H), (2, N + 1, H), (2, N, H + 1), (2, H)):
        state = tg.zeros(shape)
        with pytest.raises(ShapeError, match=rf"\(2, {N}, {H}\)"):
            layer(tg.zeros(T, N, D), (state, state) if kind is nn.LSTM else state)
    with pytest.raises(ArgumentError, match="hx"):
        layer(tg.zeros(T, N, D), tg.zeros(2, N, H) if kind is nn.LSTM else [tg.zeros(2, N, H)])


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_cells_name_shapes_that_do_not_fit(kind):
    cell = kind(D, H)
    with pytest.raises(ShapeError, match=r"\(N, 3\)"):
        cell(tg.zeros(N, D + 1))
    state = tg.zeros(N + 1, H)
    with pytest.raises(ShapeError, match=r"\(N, 4\)"):
        cell(tg.zeros(N, D), (state, state) if kind is nn.LSTMCell else state)


def test_settings_that_make_no_sense():
    for make in (
        lambda: nn.RNN(D, 0),
        lambda: nn.GRU(D, H, num_layers=0),
        lambda: nn.LSTM(D, H, 2, dropout=1.5),
        lambda: nn.RNN(D, H, nonlinearity="gelu"),
        lambda: nn.RNNCell(D, H, nonlinearity="gelu"),
    ):
        with pytest.raises(ArgumentError, match="TG-A001"):
            make()


# ---- truncated BPTT


def gradients(parameters):
    return [p.grad.numpy().copy() for p in parameters]


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch_first", [False, True])
def test_within_a_piece_gradients_are_those_of_full_bptt_from_a_constant_state(kind, batch_first):
    layer = kind(D, H, batch_first=batch_first).double()
    shape = (N, 7, D) if batch_first else (7, N, D)
    x, d = tg.tensor(array(*shape)), tg.tensor(array(*shape[:2], H, seed=1))

    def step(x, d, state):
        output, state = layer(x, state)
        return ((output - d) ** 2).sum(), state

    carried, pieces, states = None, [], []
    for loss, state in nn.truncated_bptt(step, (x, d), 3, batch_first=batch_first):
        states.append(state)
        layer.zero_grad()
        loss.backward()
        made = gradients(layer.parameters())
        start = 3 * len(pieces)
        cut = (slice(None), slice(start, start + 3)) if batch_first else slice(start, start + 3)
        layer.zero_grad()
        expected, carried = step(x[cut], d[cut], nn.detach_state(carried))
        expected.backward()
        assert loss.item() == expected.item()
        for g, e in zip(made, gradients(layer.parameters())):
            np.testing.assert_array_equal(g, e)
        pieces.append(loss.item())
    assert len(pieces) == 3  # 3 + 3 + 1 steps
    whole, last = step(x, d, None)
    assert sum(pieces) == pytest.approx(whole.item(), rel=1e-12)
    for s, e in zip(states[-1] if kind is nn.LSTM else [states[-1]], last if kind is nn.LSTM else [last]):
        assert not s.requires_grad
        np.testing.assert_allclose(s.numpy(), e.detach().numpy(), rtol=1e-12)


def test_one_piece_is_full_bptt_and_shorter_pieces_are_not():
    layer, x = nn.RNN(D, H).double(), tg.tensor(array(6, N, D))
    found = {}
    for k in (2, 6, 100):
        layer.zero_grad()
        for output, _ in nn.truncated_bptt(layer, x, k):
            (output**2).sum().backward()
        found[k] = layer.weight_hh_l0.grad.numpy().copy()
    layer.zero_grad()
    (layer(x)[0] ** 2).sum().backward()
    np.testing.assert_allclose(found[6], layer.weight_hh_l0.grad.numpy(), rtol=1e-12)
    np.testing.assert_allclose(found[100], found[6])
    assert abs(found[2] - found[6]).max() > 1e-3


def test_state_goes_on_from_batch_to_batch():
    layer, x = nn.LSTM(D, H).double(), tg.tensor(array(8, N, D))
    (whole, _), carried, outputs = layer(x), None, []
    for batch in (x[:4], x[4:]):
        for output, state in nn.truncated_bptt(layer, batch, 2, carried):
            outputs.append(output)
            carried = state
    np.testing.assert_allclose(tg.cat(outputs).detach().numpy(), whole.detach().numpy(), rtol=1e-12)


def test_parameters_may_change_between_pieces():
    layer = nn.RNN(D, H)
    optimizer = tg.optim.SGD(layer.parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        for output, _ in nn.truncated_bptt(layer, tg.ones(6, N, D), 2):
            loss = (output**2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < losses[2]


def test_nested_states_are_detached():
    h = tg.ones(2, requires_grad=True) * 2
    state = nn.detach_state({"a": (h, None), "b": [h, 3]})
    assert not state["a"][0].requires_grad and state["a"][1] is None and not state["b"][0].requires_grad and state["b"][1] == 3


def test_what_truncated_bptt_refuses():
    x = tg.zeros(6, N, D)
    for k in (0, -1, 2.5):
        with pytest.raises(ArgumentError, match="TG-A001"):
            nn.truncated_bptt(nn.RNN(D, H), x, k)
    with pytest.raises(ShapeError, match=r"\(6, 2, 3\) and \(5, 2, 3\)"):
        nn.truncated_bptt(nn.RNN(D, H), (x, x[:5]), 2)


def test_all_weights_are_the_parameters_by_layer_and_direction() -> None:
    layer = tg.nn.LSTM(2, 3, num_layers=2, bidirectional=True)
    layer.flatten_parameters()
    weights = layer.all_weights
    assert [len(part) for part in weights] == [4] * 4
    assert [id(p) for part in weights for p in part] == [id(p) for p in layer.parameters()]
