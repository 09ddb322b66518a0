"""Long short-term memory: twelve wrong backward functions."""

# ruff: noqa: RUF059 - not all that a learner unpacks is used

from __future__ import annotations

import numpy as np

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.textbook import composite

from .entry import Arrays, filled, wrong


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def fused(xs, h, c, Wx, Wh, b):
    """Gates side by side in the order f, g, i, o; (T, N, H)."""
    H = h.shape[1]
    hs = []
    for x in xs:
        A = x @ Wx + h @ Wh + b
        f = tg.sigmoid(A[:, :H])
        g = tg.tanh(A[:, H : 2 * H])
        i = tg.sigmoid(A[:, 2 * H : 3 * H])
        o = tg.sigmoid(A[:, 3 * H :])
        c = f * c + i * g
        h = o * tg.tanh(c)
        hs.append(h)
    return tg.stack(hs)


def fused_inputs(rng: np.random.Generator) -> Arrays:
    T, N, D, H = 4, 2, 3, 5
    return {
        "xs": rng.normal(size=(T, N, D)),
        "h": rng.normal(size=(N, H)) * 0.5,
        "c": rng.normal(size=(N, H)),
        "Wx": rng.normal(size=(D, 4 * H)) * 0.7,
        "Wh": rng.normal(size=(H, 4 * H)) * 0.5,
        "b": rng.normal(size=4 * H) * 0.3,
    }


def separate(x, h, c, W_f, W_i, W_g, W_o, U_f, U_i, U_g, U_o):
    """A matrix of its own for each gate; only the last state is returned."""
    for x_t in x:
        f = tg.sigmoid(x_t @ W_f + h @ U_f)
        i = tg.sigmoid(x_t @ W_i + h @ U_i)
        g = tg.tanh(x_t @ W_g + h @ U_g)
        o = tg.sigmoid(x_t @ W_o + h @ U_o)
        c = f * c + i * g
        h = o * tg.tanh(c)
    return h


def separate_inputs(rng: np.random.Generator) -> Arrays:
    T, N, D, H = 3, 2, 5, 4
    state = {"x": rng.normal(size=(T, N, D)), "h": rng.normal(size=(N, H)), "c": rng.normal(size=(N, H))}
    of_x = {f"W_{gate}": rng.normal(size=(D, H)) * 0.6 for gate in "figo"}
    return state | of_x | {f"U_{gate}": rng.normal(size=(H, H)) * 0.6 for gate in "figo"}


def torch_inputs(rng: np.random.Generator) -> Arrays:
    T, N, D, H = 4, 2, 3, 5
    return {
        "x": rng.normal(size=(T, N, D)),
        "h": rng.normal(size=(N, H)) * 0.5,
        "c": rng.normal(size=(N, H)),
        "weight_ih": rng.normal(size=(4 * H, D)) * 0.7,
        "weight_hh": rng.normal(size=(4 * H, H)) * 0.5,
        "bias_ih": rng.normal(size=4 * H) * 0.3,
        "bias_hh": rng.normal(size=4 * H) * 0.3,
    }


def sequence_inputs(rng: np.random.Generator) -> Arrays:
    return {"input": rng.normal(size=(4, 2, 3))}


def peephole(x, h, c, W, U, b, p_i, p_f, p_o):
    """The input and forget gates see c_{t-1}, the output gate sees c_t (Gers and Schmidhuber 2000)."""
    outputs = []
    for x_t in x:
        a_i, a_f, a_g, a_o = (x_t @ W + h @ U + b).chunk(4, 1)
        i = tg.sigmoid(a_i + p_i * c)
        f = tg.sigmoid(a_f + p_f * c)
        c = f * c + i * tg.tanh(a_g)
        o = tg.sigmoid(a_o + p_o * c)
        h = o * tg.tanh(c)
        outputs.append(h)
    return tg.stack(outputs)


def peephole_inputs(rng: np.random.Generator) -> Arrays:
    T, N, D, H = 3, 2, 4, 5
    return {
        "x": rng.normal(size=(T, N, D)),
        "h": rng.normal(size=(N, H)) * 0.5,
        "c": rng.normal(size=(N, H)),
        "W": rng.normal(size=(D, 4 * H)) * 0.6,
        "U": rng.normal(size=(H, 4 * H)) * 0.5,
        "b": rng.normal(size=4 * H) * 0.3,
        "p_i": rng.normal(size=H),
        "p_f": rng.normal(size=H),
        "p_o": rng.normal(size=H),
    }


def coupled(x, h, c, W_i, W_g, W_o, U_i, U_g, U_o):
    """What is not written over is kept: f = 1 - i."""
    outputs = []
    for x_t in x:
        i = tg.sigmoid(x_t @ W_i + h @ U_i)
        g = tg.tanh(x_t @ W_g + h @ U_g)
        o = tg.sigmoid(x_t @ W_o + h @ U_o)
        kept = 1 - i
        c = kept * c + i * g
        h = o * tg.tanh(c)
        outputs.append(h)
    return tg.stack(outputs)


def coupled_inputs(rng: np.random.Generator) -> Arrays:
    drawn = separate_inputs(rng)
    return {name: array for name, array in drawn.items() if not name.endswith("_f")}


@wrong(fused, fused_inputs, "time", place="c = f * c", repair=("ds = dh_next * o *", "ds = dc_next + dh_next * o *"))
def forgets_dc(dhs, xs, h, c, Wx, Wh, b):
    T, N, D = xs.shape
    H = h.shape[1]
    cache = []
    for t in range(T):
        A = np.dot(xs[t], Wx) + np.dot(h, Wh) + b
        f, g = sigmoid(A[:, :H]), np.tanh(A[:, H : 2 * H])
        i, o = sigmoid(A[:, 2 * H : 3 * H]), sigmoid(A[:, 3 * H :])
        c_next = f * c + g * i
        h_next = o * np.tanh(c_next)
        cache.append((xs[t], h, c, i, f, g, o, c_next))
        h, c = h_next, c_next
    dxs, dWx, dWh, db = np.zeros_like(xs), np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)
    dh, dc_next = np.zeros((N, H)), np.zeros((N, H))
    for t in reversed(range(T)):
        x, h_prev, c_prev, i, f, g, o, c_next = cache[t]
        dh_next = dhs[t] + dh
        tanh_c_next = np.tanh(c_next)
        ds = dh_next * o * (1 - tanh_c_next**2)
        dc_next = ds * f
        di = ds * g * i * (1 - i)
        df = ds * c_prev * f * (1 - f)
        do = dh_next * tanh_c_next * o * (1 - o)
        dg = ds * i * (1 - g**2)
        dA = np.hstack((df, dg, di, do))
        dWh += np.dot(h_prev.T, dA)
        dWx += np.dot(x.T, dA)
        db += dA.sum(axis=0)
        dxs[t] = np.dot(dA, Wx.T)
        dh = np.dot(dA, Wh.T)
    return dxs, dh, dc_next, dWx, dWh, db


@wrong(fused, fused_inputs, "time", place="Wh", repair=("self.step(dhs[t], dc, t)", "self.step(dhs[t] + dh, dc, t)"))
class forgets_dh:
    def __init__(self, Wx, Wh, b):
        self.params = [Wx, Wh, b]
        self.grads = [np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)]

    def forward(self, xs, h, c):
        Wx, Wh, b = self.params
        H = h.shape[1]
        self.cache, hs = [], []
        for x in xs:
            A = np.dot(x, Wx) + np.dot(h, Wh) + b
            f, g = sigmoid(A[:, :H]), np.tanh(A[:, H : 2 * H])
            i, o = sigmoid(A[:, 2 * H : 3 * H]), sigmoid(A[:, 3 * H :])
            c_next = f * c + g * i
            self.cache.append((x, h, c, i, f, g, o, c_next))
            h, c = o * np.tanh(c_next), c_next
            hs.append(h)
        return np.array(hs)

    def step(self, dh_next, dc_next, t):
        Wx, Wh, b = self.params
        x, h_prev, c_prev, i, f, g, o, c_next = self.cache[t]
        tanh_c_next = np.tanh(c_next)
        ds = dc_next + (dh_next * o) * (1 - tanh_c_next**2)
        df = ds * c_prev * f * (1 - f)
        dg = ds * i * (1 - g**2)
        di = ds * g * i * (1 - i)
        do = dh_next * tanh_c_next * o * (1 - o)
        dA = np.hstack((df, dg, di, do))
        self.grads[0] += np.dot(x.T, dA)
        self.grads[1] += np.dot(h_prev.T, dA)
        self.grads[2] += dA.sum(axis=0)
        return np.dot(dA, Wx.T), np.dot(dA, Wh.T), ds * f

    def backward(self, dhs):
        dxs = [None] * len(dhs)
        dh, dc = 0, 0
        for t in reversed(range(len(dhs))):
            dxs[t], dh, dc = self.step(dhs[t], dc, t)
        return np.array(dxs), dh, dc


@wrong(
    composite.lstm, torch_inputs, "state", place="c = sigmoid(f) * c", repair=("cs[t + 1] * f * (1 - f)", "cs[t] * f * (1 - f)")
)
def opens_the_forget_gate_to_the_new_memory(grad_output, x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    hs, cs, gates = [h], [c], []
    for x_t in x:
        a = x_t @ weight_ih.T + bias_ih + hs[-1] @ weight_hh.T + bias_hh
        i, f, g, o = np.split(a, 4, axis=1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        cs.append(f * cs[-1] + i * g)
        hs.append(o * np.tanh(cs[-1]))
        gates.append((i, f, g, o))
    grad_x = np.zeros_like(x)
    grad_ih, grad_hh, grad_b = np.zeros_like(weight_ih), np.zeros_like(weight_hh), np.zeros_like(bias_ih)
    grad_h, grad_c = np.zeros_like(h), np.zeros_like(c)
    for t in range(len(x) - 1, -1, -1):
        i, f, g, o = gates[t]
        tc = np.tanh(cs[t + 1])
        grad_h = grad_h + grad_output[t]
        grad_c = grad_c + grad_h * o * (1 - tc**2)
        grad_o = grad_h * tc * o * (1 - o)
        grad_i = grad_c * g * i * (1 - i)
        grad_f = grad_c * cs[t + 1] * f * (1 - f)
        grad_g = grad_c * i * (1 - g**2)
        grad_a = np.concatenate([grad_i, grad_f, grad_g, grad_o], axis=1)
        grad_ih += grad_a.T @ x[t]
        grad_hh += grad_a.T @ hs[t]
        grad_b += grad_a.sum(0)
        grad_x[t] = grad_a @ weight_ih
        grad_h = grad_a @ weight_hh
        grad_c = grad_c * f
    return grad_x, grad_h, grad_c, grad_ih, grad_hh, grad_b, grad_b


@wrong(fused, fused_inputs, "activation", place="h = o * tg.tanh(c)", repair=("(1 - tanh_c)", "(1 - tanh_c**2)"))
def forgets_to_square_the_tanh_of_c(dhs, xs, h, c, Wx, Wh, b):
    T, N, D = xs.shape
    H = h.shape[1]
    hs, cs, acts = [h], [c], []
    for t in range(T):
        A = xs[t] @ Wx + hs[t] @ Wh + b
        f, g, i, o = A[:, :H], A[:, H : 2 * H], A[:, 2 * H : 3 * H], A[:, 3 * H :]
        f, g, i, o = sigmoid(f), np.tanh(g), sigmoid(i), sigmoid(o)
        acts.append((f, g, i, o))
        cs.append(f * cs[t] + i * g)
        hs.append(o * np.tanh(cs[t + 1]))
    dA = np.zeros((T, N, 4 * H))
    dh, dc = np.zeros((N, H)), np.zeros((N, H))
    for t in reversed(range(T)):
        f, g, i, o = acts[t]
        tanh_c = np.tanh(cs[t + 1])
        dh = dh + dhs[t]
        dc = dc + dh * o * (1 - tanh_c)
        dA[t, :, :H] = dc * cs[t] * f * (1 - f)
        dA[t, :, H : 2 * H] = dc * i * (1 - g**2)
        dA[t, :, 2 * H : 3 * H] = dc * g * i * (1 - i)
        dA[t, :, 3 * H :] = dh * tanh_c * o * (1 - o)
        dh = dA[t] @ Wh.T
        dc = dc * f
    dWx = np.tensordot(xs, dA, axes=([0, 1], [0, 1]))
    dWh = np.tensordot(np.array(hs[:-1]), dA, axes=([0, 1], [0, 1]))
    return dA @ Wx.T, dh, dc, dWx, dWh, dA.sum(axis=(0, 1))


def last_state_backward(grad_h, x, h, c, weights, step):
    """Gradients of ``separate`` when ``step`` gives those of the four gates, of the state before and of the memory before."""
    W, U = weights[:4], weights[4:]
    cache = []
    for x_t in x:
        f, i, g, o = (x_t @ w + h @ u for w, u in zip(W, U))
        f, i, g, o = sigmoid(f), sigmoid(i), np.tanh(g), sigmoid(o)
        cache.append((x_t, h, c, f, i, g, o))
        c = f * c + i * g
        cache[-1] += (np.tanh(c),)
        h = o * np.tanh(c)
    grad_x, grad_W, grad_U = [], [np.zeros_like(w) for w in W], [np.zeros_like(u) for u in U]
    grad_c = np.zeros_like(c)
    for x_t, h_prev, *kept in reversed(cache):
        deltas, grad_h, grad_c = step(grad_h, grad_c, *kept)
        for w, u, delta in zip(grad_W, grad_U, deltas):
            w += x_t.T @ delta
            u += h_prev.T @ delta
        grad_x.insert(0, sum(delta @ w.T for delta, w in zip(deltas, W)))
    return np.array(grad_x), grad_h, grad_c, *grad_W, *grad_U


@wrong(
    separate,
    separate_inputs,
    "activation",
    "factor",
    place="f = tg.sigmoid",
    repair=("c_prev * i * (1 - i)", "c_prev * f * (1 - f)"),
)
def takes_the_slope_of_the_wrong_gate(grad, x, h, c, *weights):
    U_f, U_i, U_g, U_o = weights[4:]

    def step(grad_h, grad_c, c_prev, f, i, g, o, tanh_c):
        grad_c = grad_c + grad_h * o * (1 - tanh_c**2)
        da_f = grad_c * c_prev * i * (1 - i)
        da_i = grad_c * g * i * (1 - i)
        da_g = grad_c * i * (1 - g**2)
        da_o = grad_h * tanh_c * o * (1 - o)
        grad_h = da_f @ U_f.T + da_i @ U_i.T + da_g @ U_g.T + da_o @ U_o.T
        return (da_f, da_i, da_g, da_o), grad_h, grad_c * f

    return last_state_backward(grad, x, h, c, weights, step)


@wrong(separate, separate_inputs, "activation", place="g = tg.tanh", repair=("i * g * (1 - g)", "i * (1 - g**2)"))
def takes_the_candidate_for_a_gate(grad, x, h, c, *weights):
    U_f, U_i, U_g, U_o = weights[4:]

    def step(grad_h, grad_c, c_prev, f, i, g, o, tanh_c):
        grad_c = grad_c + grad_h * o * (1 - tanh_c**2)
        da_f = grad_c * c_prev * f * (1 - f)
        da_i = grad_c * g * i * (1 - i)
        da_g = grad_c * i * g * (1 - g)
        da_o = grad_h * tanh_c * o * (1 - o)
        grad_h = da_f @ U_f.T + da_i @ U_i.T + da_g @ U_g.T + da_o @ U_o.T
        return (da_f, da_i, da_g, da_o), grad_h, grad_c * f

    return last_state_backward(grad, x, h, c, weights, step)


@wrong(filled(nn.LSTM(3, 5)), sequence_inputs, "swap", repair=("[df, di, dg, do]", "[di, df, dg, do]"))
def stacks_the_gates_in_another_order(dy, x, weight_ih, weight_hh, bias_ih, bias_hh):
    h = c = np.zeros((x.shape[1], weight_hh.shape[1]))
    steps = []
    for x_t in x:
        made = x_t @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh
        i, f, g, o = np.split(made, 4, axis=1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        steps.append([i, f, g, o, h, c])
        c = f * c + i * g
        h = o * np.tanh(c)
        steps[-1].append(np.tanh(c))
    dx, dW, dU, db = [], 0, 0, 0
    dh, dc = np.zeros_like(h), np.zeros_like(c)
    for t in reversed(range(len(x))):
        i, f, g, o, h_prev, c_prev, tanh_c = steps[t]
        dh = dh + dy[t]
        dc = dc + dh * o * (1 - tanh_c**2)
        di, df = dc * g * i * (1 - i), dc * c_prev * f * (1 - f)
        dg, do = dc * i * (1 - g**2), dh * tanh_c * o * (1 - o)
        d = np.concatenate([df, di, dg, do], axis=1)
        dW, dU, db = dW + d.T @ x[t], dU + d.T @ h_prev, db + d.sum(axis=0)
        dx.insert(0, d @ weight_ih)
        dh, dc = d @ weight_hh, dc * f
    return np.array(dx), dW, dU, db, db


@wrong(separate, separate_inputs, "term", "time", place="U_o", repair=("da_g @ U_g.T\n", "da_g @ U_g.T + da_o @ U_o.T\n"))
def forgets_that_the_state_feeds_the_output_gate_too(grad, x, h, c, *weights):
    U_f, U_i, U_g, U_o = weights[4:]

    def step(grad_h, grad_c, c_prev, f, i, g, o, tanh_c):
        grad_c = grad_c + grad_h * o * (1 - tanh_c**2)
        da_f = grad_c * c_prev * f * (1 - f)
        da_i = grad_c * g * i * (1 - i)
        da_g = grad_c * i * (1 - g**2)
        da_o = grad_h * tanh_c * o * (1 - o)
        grad_h = da_f @ U_f.T + da_i @ U_i.T + da_g @ U_g.T
        return (da_f, da_i, da_g, da_o), grad_h, grad_c * f

    return last_state_backward(grad, x, h, c, weights, step)


@wrong(
    peephole, peephole_inputs, "term", place="p_o * c", repair=("+ dh * o * (1 - tc**2)", "+ dh * o * (1 - tc**2) + do * p_o")
)
def forgets_that_the_output_gate_looks_at_c(g_out, x, h, c, W, U, b, p_i, p_f, p_o):
    cache = []
    for x_t in x:
        a = x_t @ W + h @ U + b
        a_i, a_f, a_g, a_o = np.split(a, 4, axis=1)
        i, f, g = sigmoid(a_i + p_i * c), sigmoid(a_f + p_f * c), np.tanh(a_g)
        c_new = f * c + i * g
        o = sigmoid(a_o + p_o * c_new)
        cache.append((x_t, h, c, i, f, g, o, c_new))
        h, c = o * np.tanh(c_new), c_new
    dx, dW, dU, db = np.zeros_like(x), np.zeros_like(W), np.zeros_like(U), np.zeros_like(b)
    dp_i, dp_f, dp_o = np.zeros_like(p_i), np.zeros_like(p_f), np.zeros_like(p_o)
    dh, dc = np.zeros_like(h), np.zeros_like(c)
    for t in reversed(range(len(x))):
        x_t, h_prev, c_prev, i, f, g, o, c_new = cache[t]
        tc = np.tanh(c_new)
        dh = dh + g_out[t]
        do = dh * tc * o * (1 - o)
        dc = dc + dh * o * (1 - tc**2)
        di, df, dg = dc * g * i * (1 - i), dc * c_prev * f * (1 - f), dc * i * (1 - g**2)
        dp_i += (di * c_prev).sum(axis=0)
        dp_f += (df * c_prev).sum(axis=0)
        dp_o += (do * c_new).sum(axis=0)
        da = np.concatenate([di, df, dg, do], axis=1)
        dW += x_t.T @ da
        dU += h_prev.T @ da
        db += da.sum(axis=0)
        dx[t] = da @ W.T
        dh = da @ U.T
        dc = dc * f + di * p_i + df * p_f
    return dx, dh, dc, dW, dU, db, dp_i, dp_f, dp_o


@wrong(separate, separate_inputs, "factor", place="c = f * c", repair=("grad_h, grad_c\n", "grad_h, grad_c * f\n"))
def hands_all_of_dc_to_the_step_before(grad, x, h, c, *weights):
    U_f, U_i, U_g, U_o = weights[4:]

    def step(grad_h, grad_c, c_prev, f, i, g, o, tanh_c):
        grad_c = grad_c + grad_h * o * (1 - tanh_c**2)
        da_f = grad_c * c_prev * f * (1 - f)
        da_i = grad_c * g * i * (1 - i)
        da_g = grad_c * i * (1 - g**2)
        da_o = grad_h * tanh_c * o * (1 - o)
        grad_h = da_f @ U_f.T + da_i @ U_i.T + da_g @ U_g.T + da_o @ U_o.T
        return (da_f, da_i, da_g, da_o), grad_h, grad_c

    return last_state_backward(grad, x, h, c, weights, step)


@wrong(fused, fused_inputs, "twice", repair=("dh_next = dhs[t] + dh\n", "dh_next = dh\n"))
def adds_the_output_of_a_step_in_the_loop_and_in_the_cell(dhs, xs, h, c, Wx, Wh, b):
    H = Wh.shape[0]
    cells = []
    for x in xs:
        A = np.dot(x, Wx) + np.dot(h, Wh) + b
        f, g, i, o = sigmoid(A[:, :H]), np.tanh(A[:, H : 2 * H]), sigmoid(A[:, 2 * H : 3 * H]), sigmoid(A[:, 3 * H :])
        cells.append((x, h, c, i, f, g, o))
        c = f * c + i * g
        h = o * np.tanh(c)
    dxs, dWx, dWh, db = np.zeros_like(xs), np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)
    dh, dc = np.zeros_like(h), np.zeros_like(c)
    for t in reversed(range(len(xs))):
        dh += dhs[t]
        x, h_prev, c_prev, i, f, g, o = cells[t]
        dh_next = dhs[t] + dh
        tanh_c_next = np.tanh(f * c_prev + i * g)
        ds = dc + dh_next * o * (1 - tanh_c_next**2)
        do = dh_next * tanh_c_next * o * (1 - o)
        dA = np.hstack((ds * c_prev * f * (1 - f), ds * i * (1 - g**2), ds * g * i * (1 - i), do))
        dWx += np.dot(x.T, dA)
        dWh += np.dot(h_prev.T, dA)
        db += dA.sum(axis=0)
        dxs[t] = np.dot(dA, Wx.T)
        dh = np.dot(dA, Wh.T)
        dc = ds * f
    return dxs, dh, dc, dWx, dWh, db


@wrong(coupled, coupled_inputs, "sign", place="kept", repair=("(g + c_prev)", "(g - c_prev)"))
def adds_what_the_coupled_gate_takes_away(grad, x, h, c, W_i, W_g, W_o, U_i, U_g, U_o):
    cache = []
    for x_t in x:
        i, g, o = sigmoid(x_t @ W_i + h @ U_i), np.tanh(x_t @ W_g + h @ U_g), sigmoid(x_t @ W_o + h @ U_o)
        c_new = (1 - i) * c + i * g
        cache.append((h, c, i, g, o, np.tanh(c_new)))
        h, c = o * np.tanh(c_new), c_new
    dW_i, dW_g, dW_o = np.zeros_like(W_i), np.zeros_like(W_g), np.zeros_like(W_o)
    dU_i, dU_g, dU_o = np.zeros_like(U_i), np.zeros_like(U_g), np.zeros_like(U_o)
    dx, dh, dc = np.zeros_like(x), 0, 0
    for t in reversed(range(len(x))):
        h_prev, c_prev, i, g, o, tanh_c = cache[t]
        dh = dh + grad[t]
        dc = dc + dh * o * (1 - tanh_c**2)
        di = dc * (g + c_prev) * i * (1 - i)
        dg = dc * i * (1 - g**2)
        do = dh * tanh_c * o * (1 - o)
        dW_i += x[t].T @ di
        dW_g += x[t].T @ dg
        dW_o += x[t].T @ do
        dU_i += h_prev.T @ di
        dU_g += h_prev.T @ dg
        dU_o += h_prev.T @ do
        dx[t] = di @ W_i.T + dg @ W_g.T + do @ W_o.T
        dh = di @ U_i.T + dg @ U_g.T + do @ U_o.T
        dc = dc * (1 - i)
    return dx, dh, dc, dW_i, dW_g, dW_o, dU_i, dU_g, dU_o
