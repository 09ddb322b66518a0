"""Recurrent cells against their formulas, and steps against cells."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError
from tinygrad_ja.ops.gru import gru_cell, gru_step
from tinygrad_ja.ops.linalg import linear
from tinygrad_ja.ops.rnn import lstm_cell, lstm_step, rnn_cell, rnn_step

N, FEATURES, H = 3, 4, 5


def _values(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def _tensors(*arrays):
    return [tg.tensor(a, dtype=np.float64).requires_grad_() for a in arrays]


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_a_peephole_lstm_is_its_formula():
    x, h, c = _values(N, FEATURES), _values(N, H, seed=1), _values(N, H, seed=2)
    w, u, b = _values(4 * H, FEATURES, seed=3), _values(4 * H, H, seed=4), _values(4 * H, seed=5)
    vi, vf, vo = _values(3, H, seed=6)
    zi, zf, zg, zo = np.split(x @ w.T + h @ u.T + b, 4, 1)
    new = _sigmoid(zf + vf * c) * c + _sigmoid(zi + vi * c) * np.tanh(zg)
    made = lstm_cell(*_tensors(x, h, c, w, u), *_tensors(b), None, *_tensors(vi, vf, vo))
    np.testing.assert_allclose(made[1].detach().numpy(), new)
    np.testing.assert_allclose(made[0].detach().numpy(), _sigmoid(zo + vo * new) * np.tanh(new))


def test_the_textbook_gru_resets_before_the_product():
    x, h = _values(N, FEATURES), _values(N, H, seed=1)
    w, u, bx, bh = _values(3 * H, FEATURES, seed=3), _values(3 * H, H, seed=4), _values(3 * H, seed=5), _values(3 * H, seed=6)
    xr, xz, xn = np.split(x @ w.T + bx, 3, 1)
    ur, uz, un = np.split(u, 3)
    br, bz, bn = np.split(bh, 3)
    r, z = _sigmoid(xr + h @ ur.T + br), _sigmoid(xz + h @ uz.T + bz)
    n = np.tanh(xn + (r * h) @ un.T + bn)
    made = gru_cell(*_tensors(x, h, w, u, bx, bh), reset_after=False)
    np.testing.assert_allclose(made.detach().numpy(), (1 - z) * n + z * h)


@pytest.mark.parametrize(
    "cell, step, gates, states", [(rnn_cell, rnn_step, 1, 1), (lstm_cell, lstm_step, 4, 2), (gru_cell, gru_step, 3, 1)]
)
@pytest.mark.parametrize("bias", [False, True])
def test_a_step_on_projected_inputs_is_the_cell(cell, step, gates, states, bias):
    arrays = [_values(N, FEATURES), *[_values(N, H, seed=k + 1) for k in range(states)]]
    arrays += [_values(gates * H, FEATURES, seed=3), _values(gates * H, H, seed=4)]
    biases = [_values(gates * H, seed=5), _values(gates * H, seed=6)] if bias else []
    results = []
    for projected in (False, True):
        tensors = _tensors(*arrays, *biases)
        x, held, w, u = tensors[0], tensors[1 : 1 + states], tensors[1 + states], tensors[2 + states]
        b = tensors[3 + states :] if bias else [None, None]
        made = step(linear(x, w, b[0]), *held, u, b[1]) if projected else cell(x, *held, w, u, *b)
        outputs = list(made) if states > 1 else [made]
        sum((y * y).sum() for y in outputs).backward()
        results.append([y.detach().numpy() for y in outputs] + [t.grad.numpy() for t in tensors])
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_an_output_that_is_not_used_counts_as_zero():
    tensors = _tensors(_values(N, FEATURES), _values(N, H), _values(N, H), _values(4 * H, FEATURES), _values(4 * H, H))
    h, c = lstm_cell(*tensors)
    (only_c,) = tg.grad(c.sum(), tensors[0], retain_graph=True)
    (both,) = tg.grad(c.sum() + 0.0 * h.sum(), tensors[0])
    np.testing.assert_allclose(only_c.numpy(), both.numpy())


def test_an_unknown_nonlinearity_is_explained():
    with pytest.raises(ArgumentError, match="nonlinearity"):
        rnn_cell(*_tensors(_values(N, FEATURES), _values(N, H), _values(H, FEATURES), _values(H, H)), nonlinearity="softplus")


def test_saturated_gates_do_not_overflow():
    x = tg.ones(1, 1) * 1e4
    with np.errstate(all="raise"):
        h, c = lstm_cell(x, tg.zeros(1, 1), tg.zeros(1, 1), tg.tensor([[1.0], [-1.0], [1.0], [1.0]]), tg.zeros(4, 1))
    assert (h.item(), c.item()) == (pytest.approx(np.tanh(1.0)), 1.0)
