"""Plain recurrent networks: twelve wrong backward functions."""

# ruff: noqa: B007, RUF059 - who forgets a term has computed it all the same

from __future__ import annotations

import numpy as np

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.nn import functional as F

from .entry import Arrays, filled, wrong


def characters(x, h, Wxh, Whh, Why, bh, by):
    """One sequence, no batch: scores of the next character."""
    scores = []
    for x_t in x:
        h = tg.tanh(Wxh @ x_t + Whh @ h + bh)
        scores.append(Why @ h + by)
    return tg.stack(scores)


def character_inputs(rng: np.random.Generator) -> Arrays:
    T, D, H, M = 5, 3, 4, 6
    return {
        "x": rng.normal(size=(T, D)),
        "h": rng.normal(size=H),
        "Wxh": rng.normal(size=(H, D)),
        "Whh": rng.normal(size=(H, H)) * 0.7,
        "Why": rng.normal(size=(M, H)),
        "bh": rng.normal(size=H),
        "by": rng.normal(size=M),
    }


def batch_first(xs, Wx, Wh, b):
    """States of all steps, (N, T, H), from a first state of zeros."""
    h = tg.zeros((xs.shape[0], Wh.shape[0]), dtype=xs.dtype)
    hs = []
    for t in range(xs.shape[1]):
        a = xs[:, t] @ Wx + h @ Wh + b
        h = tg.tanh(a)
        hs.append(h)
    return tg.stack(hs, 1)


def batch_first_inputs(rng: np.random.Generator) -> Arrays:
    N, T, D, H = 2, 4, 3, 5
    return {
        "xs": rng.normal(size=(N, T, D)),
        "Wx": rng.normal(size=(D, H)) * 0.7,
        "Wh": rng.normal(size=(H, H)) * 0.5,
        "b": rng.normal(size=H) * 0.3,
    }


def elman(x, h, W_in, W, b):
    """States of all steps, (T, N, H)."""
    states = []
    for x_t in x:
        a = x_t @ W_in + h @ W + b
        h = tg.tanh(a)
        states.append(h)
    return tg.stack(states)


def logistic(x, h, W_in, W, b):
    """The same with σ."""
    states = []
    for x_t in x:
        a = x_t @ W_in + h @ W + b
        h = tg.sigmoid(a)
        states.append(h)
    return tg.stack(states)


def rectified(x, h, W_in, W, b):
    """The same with relu."""
    states = []
    for x_t in x:
        a = x_t @ W_in + h @ W + b
        h = F.relu(a)
        states.append(h)
    return tg.stack(states)


def elman_inputs(rng: np.random.Generator) -> Arrays:
    T, N, D, H = 4, 2, 3, 5
    return {
        "x": rng.normal(size=(T, N, D)),
        "h": rng.normal(size=(N, H)) * 0.5,
        "W_in": rng.normal(size=(D, H)) * 0.7,
        "W": rng.normal(size=(H, H)) * 0.5,
        "b": rng.normal(size=H) * 0.3,
    }


def equal_inputs(rng: np.random.Generator) -> Arrays:
    """As many features as units and as many rows as steps."""
    return {
        "x": rng.normal(size=(3, 3, 4)),
        "h": rng.normal(size=(3, 4)) * 0.5,
        "W_in": rng.normal(size=(4, 4)) * 0.7,
        "W": rng.normal(size=(4, 4)) * 0.5,
        "b": rng.normal(size=4) * 0.3,
    }


def read_out(x, h, W_in, W, b, V, c):
    """Many to one: the last state is read out."""
    for x_t in x:
        h = tg.tanh(x_t @ W_in + h @ W + b)
    y = h @ V + c
    return y


def read_out_inputs(rng: np.random.Generator) -> Arrays:
    return elman_inputs(rng) | {"V": rng.normal(size=(5, 6)), "c": rng.normal(size=6)}


def torch_inputs(rng: np.random.Generator) -> Arrays:
    T, N, D, H = 4, 2, 3, 5
    return {
        "x": rng.normal(size=(T, N, D)),
        "h": rng.normal(size=(N, H)) * 0.5,
        "weight_ih": rng.normal(size=(H, D)) * 0.7,
        "weight_hh": rng.normal(size=(H, H)) * 0.5,
        "bias_ih": rng.normal(size=H) * 0.3,
        "bias_hh": rng.normal(size=H) * 0.3,
    }


def with_first_state(rng: np.random.Generator) -> Arrays:
    return {"input": rng.normal(size=(4, 2, 3)), "hx": rng.normal(size=(1, 2, 5))}


@wrong(characters, character_inputs, "time", place="Whh", repair=("Why.T @ dy", "Why.T @ dy + dhnext"))
def forgets_dhnext(g, inputs, hprev, Wxh, Whh, Why, bh, by):
    hs = {-1: hprev}
    for t in range(len(inputs)):
        hs[t] = np.tanh(np.dot(Wxh, inputs[t]) + np.dot(Whh, hs[t - 1]) + bh)
    dWxh, dWhh, dWhy = np.zeros_like(Wxh), np.zeros_like(Whh), np.zeros_like(Why)
    dbh, dby = np.zeros_like(bh), np.zeros_like(by)
    dinputs = np.zeros_like(inputs)
    dhnext = np.zeros_like(hprev)
    for t in reversed(range(len(inputs))):
        dy = g[t]
        dWhy += np.outer(dy, hs[t])
        dby += dy
        dh = Why.T @ dy
        dhraw = (1 - hs[t] * hs[t]) * dh
        dbh += dhraw
        dWxh += np.outer(dhraw, inputs[t])
        dWhh += np.outer(dhraw, hs[t - 1])
        dinputs[t] = Wxh.T @ dhraw
        dhnext = Whh.T @ dhraw
    return dinputs, dhnext, dWxh, dWhh, dWhy, dbh, dby


@wrong(batch_first, batch_first_inputs, "time", place="Wh", repair=("self.grads[1][...] = dWh", "self.grads[1] += dWh"))
class overwrites_the_gradient_of_each_step:
    def __init__(self, Wx, Wh, b):
        self.params = [Wx, Wh, b]
        self.grads = [np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)]

    def forward(self, xs):
        Wx, Wh, b = self.params
        N, T, D = xs.shape
        H = Wh.shape[0]
        self.xs = xs
        self.hs = np.zeros((N, T + 1, H))
        for t in range(T):
            self.hs[:, t + 1] = np.tanh(np.dot(xs[:, t], Wx) + np.dot(self.hs[:, t], Wh) + b)
        return self.hs[:, 1:]

    def backward(self, dhs):
        Wx, Wh, b = self.params
        N, T, H = dhs.shape
        dxs = np.zeros_like(self.xs)
        dh = 0
        for t in reversed(range(T)):
            dt = (dhs[:, t] + dh) * (1 - self.hs[:, t + 1] ** 2)
            db = np.sum(dt, axis=0)
            dWh = np.dot(self.hs[:, t].T, dt)
            dWx = np.dot(self.xs[:, t].T, dt)
            dh = np.dot(dt, Wh.T)
            dxs[:, t] = np.dot(dt, Wx.T)
            self.grads[0] += dWx
            self.grads[1][...] = dWh
            self.grads[2] += db
        return dxs


@wrong(elman, elman_inputs, "activation", place="tanh", repair=("1 - np.tanh(h_t) ** 2", "1 - h_t**2"))
def squashes_a_second_time(g, x, h, W_in, W, b):
    T = x.shape[0]
    states = [h]
    for t in range(T):
        states.append(np.tanh(x[t] @ W_in + states[t] @ W + b))
    grad_x, grad_h = np.zeros_like(x), np.zeros_like(h)
    grad_W_in, grad_W, grad_b = 0, 0, 0
    for t in range(T - 1, -1, -1):
        h_t, h_before = states[t + 1], states[t]
        grad_a = (g[t] + grad_h) * (1 - np.tanh(h_t) ** 2)
        grad_W_in = grad_W_in + x[t].T @ grad_a
        grad_W = grad_W + h_before.T @ grad_a
        grad_b = grad_b + grad_a.sum(0)
        grad_x[t] = grad_a @ W_in.T
        grad_h = grad_a @ W.T
    return grad_x, grad_h, grad_W_in, grad_W, grad_b


@wrong(elman, elman_inputs, "state", "activation", place="tanh", repair=("(1 - h_prev**2)", "(1 - h_next**2)"))
def takes_the_slope_of_the_step_before(g, x, h, W_in, W, b):
    trace = [h]
    for x_t in x:
        trace.append(np.tanh(x_t @ W_in + trace[-1] @ W + b))
    dW_in, dW, db = np.zeros_like(W_in), np.zeros_like(W), np.zeros_like(b)
    dx, carried = [], np.zeros_like(h)
    for x_t, h_prev, h_next, g_t in zip(x[::-1], trace[-2::-1], trace[:0:-1], g[::-1]):
        delta = (g_t + carried) * (1 - h_prev**2)
        dW_in += x_t.T @ delta
        dW += h_prev.T @ delta
        db += delta.sum(axis=0)
        dx.append(delta @ W_in.T)
        carried = delta @ W.T
    return np.array(dx[::-1]), carried, dW_in, dW, db


@wrong(logistic, elman_inputs, "shape", place="b", repair=("db = db + delta\n", "db = db + delta.sum(axis=0)\n"))
def lets_the_bias_grow_a_batch_axis(g, x, h, W_in, W, b):
    hs = [h]
    for x_t in x:
        hs.append(1 / (1 + np.exp(-(x_t @ W_in + hs[-1] @ W + b))))
    dx = np.zeros_like(x)
    dh = np.zeros_like(h)
    dW_in = np.zeros_like(W_in)
    dW = np.zeros_like(W)
    db = np.zeros_like(b)
    for t in reversed(range(len(x))):
        s = hs[t + 1]
        delta = (g[t] + dh) * s * (1 - s)
        dW_in += x[t].T @ delta
        dW += hs[t].T @ delta
        db = db + delta
        dx[t] = delta @ W_in.T
        dh = delta @ W.T
    return dx, dh, dW_in, dW, db


@wrong(elman, equal_inputs, "transpose", place="W", repair=("dh = delta @ W\n", "dh = delta @ W.T\n"))
def sends_back_through_the_untransposed_matrix(g, x, h, W_in, W, b):
    hs = [h]
    for x_t in x:
        hs.append(np.tanh(np.dot(x_t, W_in) + np.dot(hs[-1], W) + b))
    hs = np.array(hs)
    deltas = np.zeros_like(hs[1:])
    dh = np.zeros_like(h)
    for t in reversed(range(len(x))):
        delta = (g[t] + dh) * (1 - hs[t + 1] ** 2)
        deltas[t] = delta
        dh = delta @ W
    dW_in = np.einsum("tnd,tnh->dh", x, deltas)
    dW = np.einsum("tni,tnj->ij", hs[:-1], deltas)
    db = deltas.sum(axis=(0, 1))
    return deltas @ W_in.T, dh, dW_in, dW, db


@wrong(filled(nn.RNN(3, 5)), with_first_state, "state", place="weight_hh_l0", repair=("hs[t + 1]).sum(0)", "hs[t]).sum(0)"))
def multiplies_with_the_state_after_the_step(grad_output, x, hx, weight_ih, weight_hh, bias_ih, bias_hh):
    seq_len, batch, _ = x.shape
    hs = [hx[0]]
    for t in range(seq_len):
        hs.append(np.tanh(x[t] @ weight_ih.T + bias_ih + hs[t] @ weight_hh.T + bias_hh))
    grads = {
        "weight_ih_l0": np.zeros_like(weight_ih),
        "weight_hh_l0": np.zeros_like(weight_hh),
        "bias_ih_l0": np.zeros_like(bias_ih),
    }
    grad_x, grad_h = np.empty_like(x), np.zeros_like(hs[0])
    for t in range(seq_len - 1, -1, -1):
        grad_pre = (grad_output[t] + grad_h) * (1 - np.square(hs[t + 1]))
        grads["weight_ih_l0"] += (grad_pre[:, :, None] * x[t][:, None, :]).sum(0)
        grads["weight_hh_l0"] += np.einsum("bi,bj->bij", grad_pre, hs[t + 1]).sum(0)
        grads["bias_ih_l0"] += grad_pre.sum(0)
        grad_x[t] = grad_pre @ weight_ih
        grad_h = grad_pre @ weight_hh
    grads["bias_hh_l0"] = grads["bias_ih_l0"].copy()
    return {"input": grad_x, "hx": grad_h[None], **grads}


@wrong(elman, elman_inputs, "time", repair=("in range(len(x)):", "in reversed(range(len(x))):"))
def walks_from_the_first_step_to_the_last(g, x, h, W_in, W, b):
    hs = np.zeros((len(x) + 1, *h.shape))
    hs[0] = h
    for t, x_t in enumerate(x):
        hs[t + 1] = np.tanh(x_t @ W_in + hs[t] @ W + b)
    dx, dh = np.zeros_like(x), np.zeros_like(h)
    dW_in, dW, db = np.zeros_like(W_in), np.zeros_like(W), np.zeros_like(b)
    for t in range(len(x)):
        dh = dh + g[t]
        da = dh * (1 - hs[t + 1] ** 2)
        dW_in += np.dot(x[t].T, da)
        dW += np.dot(hs[t].T, da)
        db += np.sum(da, axis=0)
        dx[t] = np.dot(da, W_in.T)
        dh = np.dot(da, W.T)
    return dx, dh, dW_in, dW, db


@wrong(rectified, elman_inputs, "activation", place="relu", repair=("(h_next >= 0)", "(h_next > 0)"))
def asks_an_output_of_relu_whether_it_is_at_least_zero(g, x, h, W_in, W, b):
    hs = [h]
    for x_t in x:
        hs.append(np.maximum(0, x_t @ W_in + hs[-1] @ W + b))
    dx, dW_in, dW, db = np.zeros_like(x), np.zeros_like(W_in), np.zeros_like(W), np.zeros_like(b)
    dh = np.zeros_like(h)
    t = len(x) - 1
    while t >= 0:
        h_next = hs[t + 1]
        delta = (dh + g[t]) * (h_next >= 0)
        dW_in += x[t].T @ delta
        dW += hs[t].T @ delta
        db += delta.sum(0)
        dx[t] = delta @ W_in.T
        dh = delta @ W.T
        t -= 1
    return dx, dh, dW_in, dW, db


@wrong(
    elman,
    elman_inputs,
    "time",
    "term",
    place="stack",
    repair=("delta = dh * (", "delta = (dh if t == T - 1 else dh + g[t]) * ("),
)
def hears_the_last_output_only(g, x, h, W_in, W, b):
    T = len(x)
    hs = [h]
    for t in range(T):
        hs.append(np.tanh(x[t] @ W_in + hs[t] @ W + b))
    dW_in, dW, db = np.zeros_like(W_in), np.zeros_like(W), np.zeros_like(b)
    dx = np.zeros_like(x)
    dh = g[-1]
    for t in reversed(range(T)):
        delta = dh * (1 - hs[t + 1] ** 2)
        dW_in += x[t].T @ delta
        dW += hs[t].T @ delta
        db += delta.sum(axis=0)
        dx[t] = delta @ W_in.T
        dh = delta @ W.T
    return dx, dh, dW_in, dW, db


@wrong(
    elman, equal_inputs, "factor", place="W_in", repair=("dx.insert(0, np.dot(da, W.T))", "dx.insert(0, np.dot(da, W_in.T))")
)
def sends_to_the_input_through_the_wrong_matrix(g, x, h, W_in, W, b):
    hs, caches = h, []
    for x_t in x:
        h_new = np.tanh(np.dot(x_t, W_in) + np.dot(hs, W) + b)
        caches.append((x_t, hs, h_new))
        hs = h_new
    dx, dW_in, dW, db, dh = [], 0, 0, 0, 0
    for g_t, (x_t, h_old, h_new) in zip(reversed(g), reversed(caches)):
        da = (g_t + dh) * (1 - h_new**2)
        dW_in += np.dot(x_t.T, da)
        dW += np.dot(h_old.T, da)
        db += da.sum(axis=0)
        dx.insert(0, np.dot(da, W.T))
        dh = np.dot(da, W.T)
    return np.stack(dx), dh, dW_in, dW, db


@wrong(read_out, read_out_inputs, "twice", place="V", repair=("if t == T - 1:", "if t == T:"))
def adds_the_read_out_before_the_loop_and_inside_it(g, x, h, W_in, W, b, V, c):
    T = len(x)
    hs = [h]
    for t in range(T):
        hs.append(np.tanh(x[t] @ W_in + hs[t] @ W + b))
    dV, dc = hs[T].T @ g, g.sum(axis=0)
    dh = g @ V.T
    dx, dW_in, dW, db = np.zeros_like(x), np.zeros_like(W_in), np.zeros_like(W), np.zeros_like(b)
    for t in reversed(range(T)):
        if t == T - 1:
            dh = dh + g @ V.T
        delta = dh * (1 - hs[t + 1] ** 2)
        dW_in += x[t].T @ delta
        dW += hs[t].T @ delta
        db += delta.sum(axis=0)
        dx[t] = delta @ W_in.T
        dh = delta @ W.T
    return dx, dh, dW_in, dW, db, dV, dc
