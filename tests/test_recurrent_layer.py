"""A recurrent layer as one operator is the loop over its steps: values, gradients, and gradients of gradients."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.errors import ArgumentError, ShapeError
from tinygrad_ja.ops.recurrent_layer import gru_layer, gru_steps, lstm_layer, lstm_steps, rnn_layer, rnn_steps

D, H = 3, 4
PAIRS = {"rnn": (rnn_layer, rnn_steps, 1, 1), "lstm": (lstm_layer, lstm_steps, 4, 2), "gru": (gru_layer, gru_steps, 3, 1)}
BATCHES = {"equal": (3,) * 60, "shorter and shorter": (5, 5, 4, 2, 2, 1), "one sequence": (1,) * 30, "wide": (300, 300)}


def arrays(kind, batch_sizes, dtype=np.float64):
    _, _, gates, states = PAIRS[kind]
    rng = np.random.default_rng(0)
    shapes = [
        (sum(batch_sizes), D),
        *[(batch_sizes[0], H)] * states,
        (gates * H, D),
        (gates * H, H),
        (gates * H,),
        (gates * H,),
    ]
    return [rng.normal(size=shape).astype(dtype) * 0.5 for shape in shapes]


def leaves(values):
    return [tg.tensor(a, dtype=a.dtype).requires_grad_() for a in values]


def weighted(ys, dtype=np.float64):
    rng = np.random.default_rng(1)
    return sum((y * tg.tensor(rng.normal(size=y.shape).astype(dtype))).sum() for y in ys)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("kind", PAIRS)
def test_a_layer_is_the_loop_over_its_steps(kind, batch, reverse):
    options = {"batch_sizes": BATCHES[batch], "reverse": reverse}
    found = []
    for function in PAIRS[kind][:2]:
        inputs = leaves(arrays(kind, BATCHES[batch]))
        ys = function(*inputs, **options)
        found.append([*ys, *tg.grad(weighted(ys), inputs)])
    for fast, loop in zip(*found):
        np.testing.assert_allclose(fast.detach().numpy(), loop.detach().numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", PAIRS)
def test_the_second_order_of_a_layer_is_that_of_the_loop(kind):
    options = {"batch_sizes": (3, 2, 2), "reverse": True}
    found = []
    for function in PAIRS[kind][:2]:
        inputs = leaves(arrays(kind, (3, 2, 2)))
        first = tg.grad(weighted([y * y for y in function(*inputs, **options)]), inputs, create_graph=True)
        found.append(tg.grad(weighted(first), inputs))
    for fast, loop in zip(*found):
        np.testing.assert_allclose(fast.numpy(), loop.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", PAIRS)
def test_without_recording_the_values_are_the_same(kind):
    layer, inputs = PAIRS[kind][0], leaves(arrays(kind, (3, 3, 2)))
    recorded = layer(*inputs, batch_sizes=(3, 3, 2))
    with tg.no_grad():
        made = layer(*inputs, batch_sizes=(3, 3, 2))
    for y, z in zip(made, recorded):
        assert not y.requires_grad
        np.testing.assert_array_equal(y.numpy(), z.detach().numpy())


@pytest.mark.parametrize("kind", PAIRS)
def test_float16_is_rounded_once_and_not_at_every_step(kind):
    layer, batch = PAIRS[kind][0], (2,) * 50
    half = arrays(kind, batch, np.float16)
    inputs, wide = leaves(half), leaves([a.astype(np.float64) for a in half])
    ys, expected = layer(*inputs, batch_sizes=batch), layer(*wide, batch_sizes=batch)
    for y, z in zip(ys, expected):
        assert y.dtype == tg.float16
        np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=2**-10, atol=2**-14)
    (ys[0].sum()).backward()
    (expected[0].sum()).backward()
    for x, w in zip(inputs, wide):
        assert x.grad.dtype == tg.float16
        np.testing.assert_allclose(x.grad.numpy(), w.grad.numpy(), rtol=0.03, atol=0.01 * abs(w.grad.numpy()).max())


@pytest.mark.parametrize("kind", PAIRS)
def test_only_gradients_that_are_asked_for_are_made(kind):
    inputs = leaves(arrays(kind, (2, 2)))
    for index, wanted in enumerate(inputs):
        given = [x if i == index else x.detach() for i, x in enumerate(inputs)]
        ys = PAIRS[kind][0](*given, batch_sizes=(2, 2))
        (alone,) = tg.grad(weighted(ys), wanted)
        (together,) = tg.grad(weighted(PAIRS[kind][0](*inputs, batch_sizes=(2, 2))), wanted)
        np.testing.assert_allclose(alone.numpy(), together.numpy(), rtol=1e-12)


@pytest.mark.parametrize("kind", PAIRS)
def test_a_layer_can_be_passed_back_twice(kind):
    inputs = leaves(arrays(kind, (2, 2)))
    total = weighted(PAIRS[kind][0](*inputs, batch_sizes=(2, 2)))
    first = tg.grad(total, inputs, retain_graph=True)
    for g, h in zip(first, tg.grad(total, inputs)):
        np.testing.assert_array_equal(g.numpy(), h.numpy())


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_saturated_gates_do_not_overflow(kind):
    inputs = leaves([a * 1e4 for a in arrays(kind, (2, 2, 2), np.float32)])
    with np.errstate(over="raise", invalid="raise"):
        ys = PAIRS[kind][0](*inputs, batch_sizes=(2, 2, 2))
        ys[0].sum().backward()
    assert all(np.isfinite(x.grad.numpy()).all() for x in inputs)


def test_what_a_layer_refuses():
    inputs = leaves(arrays("rnn", (2, 2)))
    with pytest.raises(ArgumentError, match="nonlinearity"):
        rnn_layer(*inputs, batch_sizes=(2, 2), nonlinearity="gelu")
    with pytest.raises(ShapeError, match=r"\(l,i\)"):
        lstm_layer(*leaves(arrays("lstm", (2, 2)))[:3], *leaves(arrays("gru", (2, 2)))[2:], batch_sizes=(2, 2))


# ---- choices of our own


def test_the_outputs_of_both_directions_side_by_side_or_added():
    x = tg.randn(5, 2, D)
    for make in (nn.RNN, nn.LSTM, nn.GRU):
        side, added = make(D, H, bidirectional=True), make(D, H, bidirectional=True, merge="sum")
        added.load_state_dict(side.state_dict())
        y, _ = side(x)
        np.testing.assert_allclose(added(x)[0].detach().numpy(), (y[..., :H] + y[..., H:]).detach().numpy(), rtol=1e-6)
        stacked = make(D, H, num_layers=2, bidirectional=True, merge="sum")
        assert stacked.weight_ih_l1.shape[1] == H and stacked(x)[0].shape == (5, 2, H)
    assert repr(nn.GRU(D, H, bidirectional=True, merge="sum")) == "GRU(3, 4, bidirectional=True, merge=sum)"
    with pytest.raises(ArgumentError, match="merge"):
        nn.RNN(D, H, merge="mean")


def test_the_peephole_lstm_has_a_name():
    x = tg.randn(5, 2, D)
    named, option = nn.PeepholeLSTM(D, H, num_layers=2, bidirectional=True), nn.LSTM(D, H, 2, bidirectional=True, peephole=True)
    option.load_state_dict(named.state_dict())
    np.testing.assert_array_equal(named(x)[0].detach().numpy(), option(x)[0].detach().numpy())
    cell, other = nn.PeepholeLSTMCell(D, H), nn.LSTMCell(D, H, peephole=True)
    other.load_state_dict(cell.state_dict())
    np.testing.assert_array_equal(cell(x[0])[0].detach().numpy(), other(x[0])[0].detach().numpy())
    assert repr(named) == "PeepholeLSTM(3, 4, num_layers=2, bidirectional=True)"
    assert repr(option) == "LSTM(3, 4, num_layers=2, bidirectional=True, peephole=True)"
    assert repr(cell) == "PeepholeLSTMCell(3, 4)"


def test_a_peephole_lstm_with_a_projection():
    layer = nn.LSTM(D, H, proj_size=2, peephole=True).double()
    x = np.random.default_rng(0).normal(size=(3, 1, D))
    w = {name.removesuffix("_l0"): p.detach().numpy() for name, p in layer.named_parameters()}
    h, c = np.zeros(2), np.zeros(H)
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    for t in range(3):
        i, f, g, o = np.split(w["weight_ih"] @ x[t, 0] + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"], 4)
        c = sigmoid(f + w["weight_cf"] * c) * c + sigmoid(i + w["weight_ci"] * c) * np.tanh(g)
        h = w["weight_hr"] @ (sigmoid(o + w["weight_co"] * c) * np.tanh(c))
    output, (h_n, c_n) = layer(tg.tensor(x))
    assert output.shape == (3, 1, 2)
    np.testing.assert_allclose(h_n[0, 0].detach().numpy(), h, rtol=1e-12)
    np.testing.assert_allclose(c_n[0, 0].detach().numpy(), c, rtol=1e-12)


def test_under_autocast_a_layer_computes_in_lower_precision():
    layer, x = nn.LSTM(D, H), tg.randn(5, 2, D)
    with tg.autocast("cpu", dtype=tg.float16):
        output, _ = layer(x)
    assert output.dtype == tg.float16
    output.float().sum().backward()
    assert layer.weight_hh_l0.grad.dtype == tg.float32
