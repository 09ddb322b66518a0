"""Weights of recurrent layers from elsewhere: each is run by the formula of its own program, and by ours."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.errors import ArgumentError, ShapeError
from tinygrad_ja.io import recurrent_weights

T, N, D, H = 5, 2, 3, 4


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


def drawn(*shape, seed):
    return np.random.default_rng(seed).normal(size=shape)


def weights(gates, biases=1):
    shapes = [(D, gates * H), (H, gates * H), (gates * H,) if biases == 1 else (biases, gates * H)]
    return [drawn(*shape, seed=seed) for seed, shape in enumerate(shapes)]


X = drawn(T, N, D, seed=9)


def run(step, *state):
    """The states h of all time steps."""
    states = []
    for x in X:
        state = step(x, *state)
        states.append(state[0])
    return np.stack(states)


def zeros():
    return np.zeros((N, H))


def ours(layer, state):
    layer = layer.double()
    assert str(layer.load_state_dict(state)) == "<All keys matched successfully>"
    return layer(tg.tensor(X))[0].detach().array


def test_the_rnn_of_the_book():
    """h' = tanh(h Wh + x Wx + b) (Saito, Deep Learning from Scratch 2, section 5.3)."""
    wx, wh, b = weights(1)
    expected = run(lambda x, h: (np.tanh(h @ wh + x @ wx + b),), zeros())
    np.testing.assert_allclose(ours(nn.RNN(D, H), recurrent_weights("RNN", wx, wh, b)), expected, rtol=1e-12)


def test_the_lstm_of_the_book():
    """A = x Wx + h Wh + b holds f, g, i, o side by side (section 6.3)."""
    wx, wh, b = weights(4)

    def step(x, h, c):
        f, g, i, o = np.split(x @ wx + h @ wh + b, 4, axis=1)
        c = sigmoid(f) * c + np.tanh(g) * sigmoid(i)
        return sigmoid(o) * np.tanh(c), c

    expected = run(step, zeros(), zeros())
    np.testing.assert_allclose(ours(nn.LSTM(D, H), recurrent_weights("LSTM", wx, wh, b, gates="fgio")), expected, rtol=1e-12)


def test_the_lstm_of_keras():
    """kernel, recurrent_kernel and bias hold i, f, c, o (keras.layers.LSTM)."""
    wx, wh, b = weights(4)

    def step(x, h, c):
        i, f, candidate, o = np.split(x @ wx + h @ wh + b, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
        return sigmoid(o) * np.tanh(c), c

    expected = run(step, zeros(), zeros())
    np.testing.assert_allclose(ours(nn.LSTM(D, H), recurrent_weights("LSTM", wx, wh, b)), expected, rtol=1e-12)


def test_the_gru_of_keras():
    """z, r, h side by side, a bias for the input and one for the state; h' = z h + (1 - z) ĥ (keras.layers.GRU, reset_after=True)."""
    wx, wh, b = weights(3, biases=2)

    def step(x, h):
        xz, xr, xh = np.split(x @ wx + b[0], 3, axis=1)
        hz, hr, hh = np.split(h @ wh + b[1], 3, axis=1)
        z, r = sigmoid(xz + hz), sigmoid(xr + hr)
        return (z * h + (1 - z) * np.tanh(xh + r * hh),)

    expected = run(step, zeros())
    np.testing.assert_allclose(ours(nn.GRU(D, H), recurrent_weights("GRU", wx, wh, b, gates="zrn")), expected, rtol=1e-12)


def test_parts_of_a_bidirectional_stack_are_joined():
    state, given = {}, {}
    for layer in range(2):
        for reverse in (False, True):
            wx = drawn(D if layer == 0 else 2 * H, 4 * H, seed=2 * layer + reverse)
            given[f"weight_ih_l{layer}{'_reverse' * reverse}"] = wx.T
            state |= recurrent_weights("LSTM", tg.tensor(wx), drawn(H, 4 * H, seed=5), layer=layer, reverse=reverse)
    model = nn.LSTM(D, H, num_layers=2, bidirectional=True, bias=False).double()
    assert str(model.load_state_dict(state)) == "<All keys matched successfully>"
    for name, weight in given.items():
        np.testing.assert_array_equal(getattr(model, name).detach().array, weight)


def test_what_does_not_belong_together_is_refused():
    wx, wh, b = weights(3)
    with pytest.raises(ArgumentError, match="reset gate is applied before"):
        recurrent_weights("GRU", wx, wh, b)
    with pytest.raises(ArgumentError, match="gates = 'zrh'"):
        recurrent_weights("GRU", wx, wh, gates="zrh")
    with pytest.raises(ArgumentError, match="kind = 'lstm'"):
        recurrent_weights("lstm", wx, wh)
    for bad in [(wx.T, wh, None), (wx, wh.T, None), (wx, wh, b[:-1]), (wx, wh[0], None), (wx, wh, np.zeros((3, 3 * H)))]:
        with pytest.raises(ShapeError, match="TG-S002"):
            recurrent_weights("GRU", *bad)
    with pytest.raises(ShapeError, match=r"wx \(3, 12\), wh \(4, 12\)"):
        recurrent_weights("LSTM", wx, wh)
