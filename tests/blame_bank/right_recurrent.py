"""Right backward functions of recurrent networks, each in another style."""

from __future__ import annotations

import numpy as np

import tinygrad_ja as tg
from tinygrad_ja import nn, textbook
from tinygrad_ja.textbook import composite

from . import gru, lstm, recurrent
from .entry import Arrays, filled, right


def sigmoid(a):
    return np.exp(-np.logaddexp(0, -a))


def numerical(value, g, arrays, step=1e-6):
    """Central differences of Σ g ∘ value(*arrays), element by element."""
    grads = []
    for array in arrays:
        grad = np.zeros_like(array)
        for place in np.ndindex(*array.shape):
            kept = array[place]
            array[place] = kept + step
            above = (g * value(*arrays)).sum()
            array[place] = kept - step
            below = (g * value(*arrays)).sum()
            array[place] = kept
            grad[place] = (above - below) / (2 * step)
        grads.append(grad)
    return grads


right(composite.rnn, recurrent.torch_inputs)(textbook.RNN)
right(composite.lstm, lstm.torch_inputs)(textbook.LSTM)
right(composite.gru, gru.torch_inputs)(textbook.GRU)


@right(recurrent.elman, recurrent.elman_inputs)
def rnn_all_products_after_the_loop(g, x, h, W_in, W, b):
    T, N, H = g.shape
    hs = np.concatenate([h[None], np.empty((T, N, H))])
    for t in range(T):
        hs[t + 1] = np.tanh(x[t] @ W_in + hs[t] @ W + b)
    delta = np.zeros((T + 1, N, H))
    for t in reversed(range(T)):
        delta[t] = (g[t] + delta[t + 1] @ W.T) * (1 - hs[t + 1] ** 2)
    dx = delta[:-1] @ W_in.T
    dW_in = np.einsum("tnd,tnh->dh", x, delta[:-1])
    dW = np.einsum("tni,tnj->ij", hs[:-1], delta[:-1])
    return dx, delta[0] @ W.T, dW_in, dW, delta.sum((0, 1))


@right(recurrent.elman, recurrent.equal_inputs)
def rnn_calls_itself_for_the_step_before(g, x, h, W_in, W, b):
    dx, dW_in, dW, db = np.zeros_like(x), np.zeros_like(W_in), np.zeros_like(W), np.zeros_like(b)

    def step(t, h_prev):
        if t == len(x):
            return np.zeros_like(h_prev)
        h_next = np.tanh(x[t] @ W_in + h_prev @ W + b)
        delta = (g[t] + step(t + 1, h_next)) / np.cosh(x[t] @ W_in + h_prev @ W + b) ** 2
        dx[t] = delta @ W_in.T
        dW_in[...] += x[t].T @ delta
        dW[...] += h_prev.T @ delta
        db[...] += delta.sum(0)
        return delta @ W.T

    dh = step(0, h)
    return {"b": db, "W": dW, "W_in": dW_in, "h": dh, "x": dx}


@right(recurrent.elman, recurrent.elman_inputs)
def rnn_in_single_precision(g, x, h, W_in, W, b):
    g, x, h, W_in, W, b = (np.asarray(a, np.float32) for a in (g, x, h, W_in, W, b))
    hs = [h]
    for x_t in x:
        hs.append(np.tanh(x_t @ W_in + hs[-1] @ W + b))
    dx, dh = np.zeros_like(x), np.zeros_like(h)
    dW_in, dW, db = np.zeros_like(W_in), np.zeros_like(W), np.zeros_like(b)
    for t in reversed(range(len(x))):
        delta = (g[t] + dh) * (1 - hs[t + 1] ** 2)
        dW_in += x[t].T @ delta
        dW += hs[t].T @ delta
        db += delta.sum(axis=0)
        dx[t] = delta @ W_in.T
        dh = delta @ W.T
    return dx, dh, dW_in, dW, db


@right(recurrent.logistic, recurrent.elman_inputs)
def rnn_by_numerical_differentiation(g, x, h, W_in, W, b):
    """As textbooks check a gradient, with h = 1e-4."""

    def states(x, h, W_in, W, b):
        made = []
        for x_t in x:
            h = sigmoid(x_t @ W_in + h @ W + b)
            made.append(h)
        return np.array(made)

    return numerical(states, g, [a.copy() for a in (x, h, W_in, W, b)], step=1e-4)


@right(recurrent.elman, recurrent.elman_inputs)
def rnn_sums_the_paths_of_every_output(g, x, h, W_in, W, b):
    """One walk back for each output, and the sum of all of them."""
    hs = [h]
    for x_t in x:
        hs.append(np.tanh(x_t @ W_in + hs[-1] @ W + b))
    grads = [np.zeros_like(a) for a in (x, h, W_in, W, b)]
    for s in range(len(x)):
        delta = g[s] * (1 - hs[s + 1] ** 2)
        for t in range(s, -1, -1):
            grads[0][t] += delta @ W_in.T
            grads[2] += x[t].T @ delta
            grads[3] += hs[t].T @ delta
            grads[4] += delta.sum(axis=0)
            if t == 0:
                grads[1] += delta @ W.T
            else:
                delta = delta @ W.T * (1 - hs[t] ** 2)
    return tuple(grads)


@right(lstm.fused, lstm.fused_inputs)
def lstm_keeps_what_tanh_of_c_gave(dhs, xs, h, c, Wx, Wh, b):
    cache = []
    for x in xs:
        f, g, i, o = np.split(x @ Wx + h @ Wh + b, 4, axis=1)
        f, g, i, o = sigmoid(f), np.tanh(g), sigmoid(i), sigmoid(o)
        previous = (h, c)
        c = f * c + i * g
        m = np.tanh(c)
        h = o * m
        cache.append((x, *previous, f, g, i, o, m))
    dxs, dWx, dWh, db, dh, dc = [], 0, 0, 0, 0, 0
    for dy, (x, h_prev, c_prev, f, g, i, o, m) in zip(dhs[::-1], cache[::-1]):
        dh = dh + dy
        dc = dc + dh * (o - o * m * m)
        dA = np.hstack([dc * c_prev * (f - f * f), dc * i * (1 + g) * (1 - g), dc * g * (i - i * i), dh * m * (o - o * o)])
        dWx, dWh, db = dWx + x.T @ dA, dWh + h_prev.T @ dA, db + np.ones(len(dA)) @ dA
        dxs.append(dA @ Wx.T)
        dh, dc = dA @ Wh.T, dc * f
    return np.array(dxs[::-1]), dh, dc, dWx, dWh, db


@right(lstm.separate, lstm.separate_inputs)
def lstm_gate_by_gate(grad, x, h, c, W_f, W_i, W_g, W_o, U_f, U_i, U_g, U_o):
    W, U = {"f": W_f, "i": W_i, "g": W_g, "o": W_o}, {"f": U_f, "i": U_i, "g": U_g, "o": U_o}
    dW, dU = {k: np.zeros_like(w) for k, w in W.items()}, {k: np.zeros_like(u) for k, u in U.items()}
    past = []
    for x_t in x:
        a = {k: (np.tanh if k == "g" else sigmoid)(x_t @ W[k] + h @ U[k]) for k in "figo"}
        past.append((x_t, h, c, a))
        c = a["f"] * c + a["i"] * a["g"]
        h = a["o"] * np.tanh(c)
    dx, dh, dc = [], grad, np.zeros_like(c)
    for x_t, h_prev, c_prev, a in past[::-1]:
        squashed = np.tanh(a["f"] * c_prev + a["i"] * a["g"])
        dc = dc + dh * a["o"] * (1 - squashed**2)
        d = {"f": dc * c_prev, "i": dc * a["g"], "g": dc * a["i"], "o": dh * squashed}
        d = {k: v * (1 - a[k] ** 2 if k == "g" else a[k] * (1 - a[k])) for k, v in d.items()}
        for k in "figo":
            dW[k] += x_t.T @ d[k]
            dU[k] += h_prev.T @ d[k]
        dx.append(sum(d[k] @ W[k].T for k in "figo"))
        dh, dc = sum(d[k] @ U[k].T for k in "figo"), dc * a["f"]
    by_name = {"x": np.array(dx[::-1]), "h": dh, "c": dc}
    return by_name | {f"W_{k}": v for k, v in dW.items()} | {f"U_{k}": v for k, v in dU.items()}


@right(filled(nn.GRU(3, 5)), lstm.sequence_inputs)
def gru_of_the_framework(g, x, weight_ih, weight_hh, bias_ih, bias_hh):
    h = np.zeros((x.shape[1], 5))
    saved = []
    for x_t in x:
        a, m = x_t @ weight_ih.T + bias_ih, h @ weight_hh.T + bias_hh
        r, z = sigmoid(a[:, :5] + m[:, :5]), sigmoid(a[:, 5:10] + m[:, 5:10])
        n = np.tanh(a[:, 10:] + r * m[:, 10:])
        saved.append((x_t, h, r, z, n, m[:, 10:]))
        h = n + z * (h - n)
    dx, dW, dU, db, dc, dh = [], 0, 0, 0, 0, 0
    for g_t, (x_t, h, r, z, n, m) in zip(g[::-1], saved[::-1]):
        dh = dh + g_t
        dn = (dh - z * dh) * (1 - n**2)
        da = np.hstack([dn * m * r * (1 - r), dh * (h - n) * z * (1 - z), dn])
        dm = da * np.hstack([np.ones_like(r), np.ones_like(r), r])
        dW, dU, db, dc = dW + da.T @ x_t, dU + dm.T @ h, db + da.sum(0), dc + dm.sum(0)
        dx.append(da @ weight_ih)
        dh = z * dh + dm @ weight_hh
    return np.array(dx[::-1]), dW, dU, db, dc


def long_inputs(rng: np.random.Generator) -> Arrays:
    """Twenty steps whose gates are all but shut or open."""
    return {
        "x": rng.normal(size=(20, 2, 3)) * 3,
        "h": rng.normal(size=(2, 5)),
        "c": rng.normal(size=(2, 5)) * 4,
        "weight_ih": rng.normal(size=(20, 3)),
        "weight_hh": rng.normal(size=(20, 5)),
        "bias_ih": rng.normal(size=20),
        "bias_hh": rng.normal(size=20),
    }


@right(composite.lstm, long_inputs)
def lstm_saturated_in_single_precision(g, *inputs):
    layer = textbook.LSTM(*(a.astype(np.float32) for a in inputs[3:]))
    layer.forward(*(a.astype(np.float32) for a in inputs[:3]))
    return *layer.backward(g.astype(np.float32)), *layer.grads.values()


@right(gru.cho, gru.cho_inputs)
def gru_from_a_small_tape_of_its_own(g, x, h, W_r, W_z, W_n, U_r, U_z, U_n):
    grads = {k: np.zeros_like(v) for k, v in {"W_r": W_r, "W_z": W_z, "W_n": W_n, "U_r": U_r, "U_z": U_z, "U_n": U_n}.items()}
    tape = []
    for x_t in x:
        r, z = sigmoid(x_t @ W_r + h @ U_r), sigmoid(x_t @ W_z + h @ U_z)
        n = np.tanh(x_t @ W_n + (r * h) @ U_n)
        tape.append((x_t, h, r, z, n))
        h = n - z * n + z * h
    dx, dh = [], np.zeros_like(h)
    for t in range(len(tape) - 1, -1, -1):
        x_t, before, r, z, n = tape[t]
        dh += g[t]
        to_n, to_z, to_h = dh - dh * z, dh * before - dh * n, dh * z
        to_n = to_n - to_n * n * n
        to_z = to_z * z * (1 - z)
        to_rh = to_n @ U_n.T
        to_r = to_rh * before * r * (1 - r)
        to_h = to_h + to_rh * r
        for gate, left, d in (("r", before, to_r), ("z", before, to_z), ("n", r * before, to_n)):
            grads[f"W_{gate}"] += x_t.T @ d
            grads[f"U_{gate}"] += left.T @ d
        dx.insert(0, to_r @ W_r.T + to_z @ W_z.T + to_n @ W_n.T)
        dh = to_h + to_r @ U_r.T + to_z @ U_z.T
    return {"x": np.array(dx), "h": dh, **grads}


def one_layer(x, weight_ih, weight_hh, bias_ih, bias_hh):
    """From states of zeros."""
    h = c = tg.zeros((x.shape[1], weight_hh.shape[1]), dtype=x.dtype)
    return composite.lstm(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh)


def one_layer_inputs(rng: np.random.Generator) -> Arrays:
    drawn = lstm.torch_inputs(rng)
    return {name: array for name, array in drawn.items() if name not in "hc"}


@right(one_layer, one_layer_inputs)
def lstm_with_einsum_over_all_gates(g, x, weight_ih, weight_hh, bias_ih, bias_hh):
    T, N, D = x.shape
    H = weight_hh.shape[1]
    W, U = weight_ih.reshape(4, H, D), weight_hh.reshape(4, H, H)
    bias = (bias_ih + bias_hh).reshape(4, 1, H)
    hs, cs, gates = np.zeros((T + 1, N, H)), np.zeros((T + 1, N, H)), np.zeros((T, 4, N, H))
    for t in range(T):
        made = np.einsum("khd,nd->knh", W, x[t]) + np.einsum("khj,nj->knh", U, hs[t]) + bias
        gates[t] = sigmoid(made)
        gates[t, 2] = np.tanh(made[2])
        cs[t + 1] = gates[t, 1] * cs[t] + gates[t, 0] * gates[t, 2]
        hs[t + 1] = gates[t, 3] * np.tanh(cs[t + 1])
    slope = gates * (1 - gates)
    slope[:, 2] = 1 - gates[:, 2] ** 2
    delta = np.zeros_like(gates)
    dh, dc = np.zeros((N, H)), np.zeros((N, H))
    for t in range(T)[::-1]:
        i, f, c_tilde, o = gates[t]
        dh = dh + g[t]
        dc = dc + dh * o * (1 - np.tanh(cs[t + 1]) ** 2)
        delta[t] = np.stack([dc * c_tilde, dc * cs[t], dc * i, dh * np.tanh(cs[t + 1])]) * slope[t]
        dh, dc = np.einsum("knh,khj->nj", delta[t], U), dc * f
    dW = np.einsum("tknh,tnd->khd", delta, x).reshape(4 * H, D)
    dU = np.einsum("tknh,tnj->khj", delta, hs[:-1]).reshape(4 * H, H)
    db = np.einsum("tknh->kh", delta).reshape(4 * H)
    return np.einsum("tknh,khd->tnd", delta, W), dW, dU, db, db
