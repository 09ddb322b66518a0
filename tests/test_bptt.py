"""The tape gives exactly what BPTT by hand gives, in both of its forms, for every activation, length and loss."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F

INPUTS, HIDDEN, OUTPUTS = 3, 5, 4

SLOPE = {
    "sigmoid": lambda z: z * (1 - z),
    "tanh": lambda z: 1 - z * z,
    "relu": lambda z: (z > 0).astype(float),
}
FUNCTION = {"sigmoid": tg.sigmoid, "tanh": tg.tanh, "relu": F.relu}
CURVE = {
    "sigmoid": lambda u: 1 / (1 + np.exp(-u)),
    "tanh": np.tanh,
    "relu": lambda u: np.maximum(u, 0),
}


def make(steps, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"W_in": (HIDDEN, INPUTS), "W": (HIDDEN, HIDDEN), "b": (HIDDEN,), "W_out": (OUTPUTS, HIDDEN), "c": (OUTPUTS,)}
    parameters = {name: rng.standard_normal(shape) * 0.6 for name, shape in shapes.items()}
    return parameters, rng.standard_normal((steps, INPUTS)), rng


def softmax(v):
    e = np.exp(v - v.max())
    return e / e.sum()


def by_hand(parameters, x, target, activation, loss):
    """Both hand-derived forms. Columns of D are δ_t, of X are x_t, of Z̃ are z_{t-1}."""
    p, steps = parameters, len(x)
    z, slope, delta_out = [np.zeros(HIDDEN)], [], []
    for t in range(steps):
        z.append(CURVE[activation](p["W_in"] @ x[t] + p["W"] @ z[-1] + p["b"]))
        slope.append(SLOPE[activation](z[-1]))
        v = p["W_out"] @ z[-1] + p["c"]
        g = softmax(v) if loss == "cross-entropy" else v
        delta_out.append(g - target[t])  # for both losses: g(v) - d
    delta = [None] * steps
    following = np.zeros(HIDDEN)
    for t in reversed(range(steps)):
        delta[t] = (p["W"].T @ following + p["W_out"].T @ delta_out[t]) * slope[t]
        following = delta[t]
    d, d_out, previous = np.stack(delta, 1), np.stack(delta_out, 1), np.stack(z[:-1], 1)
    single = {
        "W_in": d @ x,
        "W": d @ previous.T,
        "b": d.sum(1),
        "W_out": d_out @ np.stack(z[1:], 1).T,
        "c": d_out.sum(1),
    }
    # the double form: δ_{t,k} is the effect of u_k on E_t
    double = np.zeros((HIDDEN, HIDDEN))
    for t in range(steps):
        row = (p["W_out"].T @ delta_out[t]) * slope[t]
        for k in range(t, -1, -1):
            double += np.outer(row, z[k])  # z[k] is z_{k-1} of the 1-based formula
            row = (row @ p["W"]) * slope[k - 1] if k else row
    return single, double


def by_tape(parameters, x, target, activation, loss):
    p = {name: tg.tensor(value, requires_grad=True) for name, value in parameters.items()}
    z = tg.zeros(HIDDEN, dtype=tg.float64)
    total = tg.tensor(0.0, dtype=tg.float64)
    for t in range(len(x)):
        z = FUNCTION[activation](p["W_in"] @ tg.tensor(x[t]) + p["W"] @ z + p["b"])
        v = p["W_out"] @ z + p["c"]
        if loss == "cross-entropy":
            total = total - (tg.tensor(target[t]) * tg.log_softmax(v, 0)).sum()
        else:
            total = total + ((v - tg.tensor(target[t])) ** 2).sum() / 2
    total.backward()
    return {name: value.grad.array for name, value in p.items()}


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 16, 40])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("loss", ["squared error", "cross-entropy"])
def test_the_tape_equals_both_forms_derived_by_hand(steps, activation, loss):
    parameters, x, rng = make(steps)
    if loss == "cross-entropy":
        target = np.eye(OUTPUTS)[rng.integers(0, OUTPUTS, steps)]
    else:
        target = rng.standard_normal((steps, OUTPUTS))
    single, double = by_hand(parameters, x, target, activation, loss)
    tape = by_tape(parameters, x, target, activation, loss)
    scale = max(1.0, *(np.abs(g).max() for g in single.values()))
    for name, expected in single.items():
        np.testing.assert_allclose(tape[name], expected, rtol=1e-10, atol=1e-10 * scale, err_msg=name)
    np.testing.assert_allclose(tape["W"], double, rtol=1e-10, atol=1e-10 * scale)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("steps", [1, 5, 40])
def test_the_fused_layer_equals_the_form_derived_by_hand(steps, activation):
    parameters, x, rng = make(steps, seed=1)
    target = rng.standard_normal((steps, OUTPUTS))
    single, _ = by_hand(parameters, x, target, activation, "squared error")
    p = {name: tg.tensor(value, requires_grad=True) for name, value in parameters.items()}
    layer = tg.nn.RNN(INPUTS, HIDDEN, nonlinearity=activation).double()
    names = {"weight_ih_l0": "W_in", "weight_hh_l0": "W", "bias_ih_l0": "b"}
    layer.load_state_dict({**{k: p[v].detach() for k, v in names.items()}, "bias_hh_l0": tg.zeros(HIDDEN, dtype=tg.float64)})
    states, _ = layer(tg.tensor(x))
    v = F.linear(states, p["W_out"], p["c"])
    (((v - tg.tensor(target)) ** 2).sum() / 2).backward()
    scale = max(1.0, *(np.abs(g).max() for g in single.values()))
    for name, mine in names.items():
        np.testing.assert_allclose(getattr(layer, name).grad.array, single[mine], rtol=1e-10, atol=1e-10 * scale)
    np.testing.assert_allclose(layer.bias_hh_l0.grad.array, layer.bias_ih_l0.grad.array)
    np.testing.assert_allclose(p["W_out"].grad.array, single["W_out"], rtol=1e-10, atol=1e-10 * scale)


def test_gradients_vanish_and_explode_with_the_product_of_jacobians():
    """∂z_T/∂z_0 is the product of W f'(u_t); with sigmoid' <= 1/4 a small W makes it vanish, a large linear one explode."""

    def sensitivity(scale, activation, steps=30):
        w = tg.tensor(np.eye(HIDDEN) * scale)
        z0 = tg.tensor(np.full(HIDDEN, 0.1), requires_grad=True)
        z = z0
        for _ in range(steps):
            z = FUNCTION[activation](w @ z)
        (g,) = tg.grad(z.sum(), z0)
        return np.abs(g.array).max()

    assert sensitivity(1.0, "sigmoid") <= 0.25**30
    assert sensitivity(1.5, "relu") == pytest.approx(1.5**30)
