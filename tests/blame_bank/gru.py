"""Gated recurrent units: eight wrong backward functions."""

# ruff: noqa: F841 - who forgets a term has computed it all the same

from __future__ import annotations

import numpy as np

import tinygrad_ja as tg
from tinygrad_ja.nn import functional as F
from tinygrad_ja.textbook import composite

from .entry import Arrays, wrong


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def torch_inputs(rng: np.random.Generator) -> Arrays:
    T, N, D, H = 4, 2, 3, 5
    return {
        "x": rng.normal(size=(T, N, D)),
        "h": rng.normal(size=(N, H)),
        "weight_ih": rng.normal(size=(3 * H, D)) * 0.7,
        "weight_hh": rng.normal(size=(3 * H, H)) * 0.5,
        "bias_ih": rng.normal(size=3 * H) * 0.3,
        "bias_hh": rng.normal(size=3 * H) * 0.3,
    }


def cho(x, h, W_r, W_z, W_n, U_r, U_z, U_n):
    """The first form (Cho et al. 2014): the state is reset before it is multiplied."""
    states = []
    for x_t in x:
        r = tg.sigmoid(x_t @ W_r + h @ U_r)
        z = tg.sigmoid(x_t @ W_z + h @ U_z)
        n = tg.tanh(x_t @ W_n + (r * h) @ U_n)
        h = (1 - z) * n + z * h
        states.append(h)
    return tg.stack(states)


def cho_inputs(rng: np.random.Generator) -> Arrays:
    T, N, D, H = 3, 2, 5, 4
    state = {"x": rng.normal(size=(T, N, D)), "h": rng.normal(size=(N, H))}
    of_x = {f"W_{gate}": rng.normal(size=(D, H)) * 0.6 for gate in "rzn"}
    return state | of_x | {f"U_{gate}": rng.normal(size=(H, H)) * 0.6 for gate in "rzn"}


def late_reset(x, h, W, U, b, c):
    """The form of cuDNN: the product is reset. Gates side by side in the order r, z, n; the last state."""
    for x_t in x:
        x_r, x_z, x_n = (x_t @ W + b).chunk(3, 1)
        h_r, h_z, h_n = (h @ U + c).chunk(3, 1)
        r = tg.sigmoid(x_r + h_r)
        z = tg.sigmoid(x_z + h_z)
        n = tg.tanh(x_n + r * h_n)
        h = (1 - z) * n + z * h
    return h


def torch_layout(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    """The same with the matrices as PyTorch keeps them, and the states of all steps."""
    states = []
    for x_t in x:
        x_r, x_z, x_n = F.linear(x_t, weight_ih, bias_ih).chunk(3, 1)
        h_r, h_z, h_n = F.linear(h, weight_hh, bias_hh).chunk(3, 1)
        r = tg.sigmoid(x_r + h_r)
        z = tg.sigmoid(x_z + h_z)
        n = tg.tanh(x_n + r * h_n)
        h = (1 - z) * n + z * h
        states.append(h)
    return tg.stack(states)


def late_reset_inputs(rng: np.random.Generator) -> Arrays:
    T, N, D, H = 4, 3, 2, 5
    return {
        "x": rng.normal(size=(T, N, D)),
        "h": rng.normal(size=(N, H)),
        "W": rng.normal(size=(D, 3 * H)) * 0.7,
        "U": rng.normal(size=(H, 3 * H)) * 0.5,
        "b": rng.normal(size=3 * H) * 0.3,
        "c": rng.normal(size=3 * H) * 0.3,
    }


@wrong(cho, cho_inputs, "term", "time", place="z * h", repair=("dh = dr @ U_r.T", "dh = dh * z + dr @ U_r.T"))
def forgets_the_way_past_the_candidate(g, x, h, W_r, W_z, W_n, U_r, U_z, U_n):
    hs, gates = [h], []
    for x_t in x:
        r, z = sigmoid(x_t @ W_r + h @ U_r), sigmoid(x_t @ W_z + h @ U_z)
        n = np.tanh(x_t @ W_n + (r * h) @ U_n)
        h = (1 - z) * n + z * h
        gates.append((r, z, n))
        hs.append(h)
    dW_r, dW_z, dW_n = np.zeros_like(W_r), np.zeros_like(W_z), np.zeros_like(W_n)
    dU_r, dU_z, dU_n = np.zeros_like(U_r), np.zeros_like(U_z), np.zeros_like(U_n)
    dx, dh = np.zeros_like(x), np.zeros_like(h)
    for t in reversed(range(len(x))):
        r, z, n = gates[t]
        dh = dh + g[t]
        dn = dh * (1 - z) * (1 - n**2)
        dz = dh * (hs[t] - n) * z * (1 - z)
        drh = dn @ U_n.T
        dr = drh * hs[t] * r * (1 - r)
        dW_r += x[t].T @ dr
        dW_z += x[t].T @ dz
        dW_n += x[t].T @ dn
        dU_r += hs[t].T @ dr
        dU_z += hs[t].T @ dz
        dU_n += (r * hs[t]).T @ dn
        dx[t] = dr @ W_r.T + dz @ W_z.T + dn @ W_n.T
        dh = dr @ U_r.T + dz @ U_z.T + drh * r
    return dx, dh, dW_r, dW_z, dW_n, dU_r, dU_z, dU_n


@wrong(cho, cho_inputs, "factor", place="r * h", repair=("+ drh\n", "+ drh * r\n"))
def sends_back_past_the_reset_gate(g, x, h, W_r, W_z, W_n, U_r, U_z, U_n):
    cache = []
    for x_t in x:
        r = sigmoid(np.dot(x_t, W_r) + np.dot(h, U_r))
        z = sigmoid(np.dot(x_t, W_z) + np.dot(h, U_z))
        n = np.tanh(np.dot(x_t, W_n) + np.dot(r * h, U_n))
        cache.append((x_t, h, r, z, n))
        h = (1 - z) * n + z * h
    grads = [np.zeros_like(p) for p in (W_r, W_z, W_n, U_r, U_z, U_n)]
    dxs, dh_prev = [], np.zeros_like(h)
    for g_t, (x_t, h_prev, r, z, n) in zip(g[::-1], cache[::-1]):
        dh = g_t + dh_prev
        dn = dh * (1 - z) * (1 - n**2)
        dz = dh * (h_prev - n) * z * (1 - z)
        drh = np.dot(dn, U_n.T)
        dr = drh * h_prev * r * (1 - r)
        for grad, (left, delta) in zip(grads, [(x_t, dr), (x_t, dz), (x_t, dn), (h_prev, dr), (h_prev, dz), (r * h_prev, dn)]):
            grad += np.dot(left.T, delta)
        dxs.append(np.dot(dr, W_r.T) + np.dot(dz, W_z.T) + np.dot(dn, W_n.T))
        dh_prev = dh * z + np.dot(dr, U_r.T) + np.dot(dz, U_z.T) + drh
    return (np.array(dxs[::-1]), dh_prev, *grads)


@wrong(
    composite.gru,
    torch_inputs,
    "factor",
    place="sigmoid(xr + hr) * hn",
    repair=("of_h = of_x", "of_h = np.hstack([dr, dz, dn * r])"),
)
class sends_the_same_delta_to_both_matrices:
    def __init__(self, weight_ih, weight_hh, bias_ih, bias_hh):
        self.params = {"weight_ih": weight_ih, "weight_hh": weight_hh, "bias_ih": bias_ih, "bias_hh": bias_hh}
        self.grads = {}

    def forward(self, x, h):
        W, U, b, c = self.params.values()
        self.x, self.cache, ys = x, [], []
        for x_t in x:
            x_r, x_z, x_n = np.split(x_t @ W.T + b, 3, axis=1)
            h_r, h_z, h_n = np.split(h @ U.T + c, 3, axis=1)
            r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
            n = np.tanh(x_n + r * h_n)
            self.cache.append((h, h_n, r, z, n))
            h = (1 - z) * n + z * h
            ys.append(h)
        return np.stack(ys)

    def backward(self, dy):
        W, U, b, c = self.params.values()
        dW, dU, db, dc = (np.zeros_like(p) for p in (W, U, b, c))
        dx, dh = np.zeros_like(self.x), np.zeros_like(self.cache[0][0])
        for t in reversed(range(len(dy))):
            h_prev, h_n, r, z, n = self.cache[t]
            dh = dh + dy[t]
            dn = dh * (1 - z) * (1 - n**2)
            dz = dh * (h_prev - n) * z * (1 - z)
            dr = dn * h_n * r * (1 - r)
            of_x = np.hstack([dr, dz, dn])
            of_h = of_x
            dW += of_x.T @ self.x[t]
            dU += of_h.T @ h_prev
            db += of_x.sum(axis=0)
            dc += of_h.sum(axis=0)
            dx[t] = of_x @ W
            dh = dh * z + of_h @ U
        self.grads = {"weight_ih": dW, "weight_hh": dU, "bias_ih": db, "bias_hh": dc}
        return dx, dh


@wrong(late_reset, late_reset_inputs, "sign", place="z", repair=("(n - h_prev)", "(h_prev - n)"))
def subtracts_the_wrong_way_round(grad, x, h, W, U, b, c):
    cache = []
    for x_t in x:
        x_r, x_z, x_n = np.split(x_t @ W + b, 3, axis=1)
        h_r, h_z, h_n = np.split(h @ U + c, 3, axis=1)
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        n = np.tanh(x_n + r * h_n)
        cache.append((x_t, h, h_n, r, z, n))
        h = z * h + (1 - z) * n
    dW, dU, db, dc = np.zeros_like(W), np.zeros_like(U), np.zeros_like(b), np.zeros_like(c)
    dx = np.zeros_like(x)
    dh = grad
    for t in range(len(x) - 1, -1, -1):
        x_t, h_prev, h_n, r, z, n = cache[t]
        dn = dh * (1 - z) * (1 - n**2)
        dz = dh * (n - h_prev) * z * (1 - z)
        dr = dn * h_n * r * (1 - r)
        d_from_x = np.concatenate([dr, dz, dn], axis=1)
        d_from_h = np.concatenate([dr, dz, dn * r], axis=1)
        dW += x_t.T @ d_from_x
        dU += h_prev.T @ d_from_h
        db += d_from_x.sum(axis=0)
        dc += d_from_h.sum(axis=0)
        dx[t] = d_from_x @ W.T
        dh = dh * z + d_from_h @ U.T
    return dx, dh, dW, dU, db, dc


@wrong(torch_layout, torch_inputs, "state", place="z * h", repair=("(hs[t + 1] - n)", "(hs[t] - n)"))
def compares_the_candidate_with_the_new_state(dy, x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    hs, kept = [h], []
    for x_t in x:
        xr, xz, xn = np.split(x_t @ weight_ih.T + bias_ih, 3, axis=1)
        hr, hz, hn = np.split(hs[-1] @ weight_hh.T + bias_hh, 3, axis=1)
        r, z = sigmoid(xr + hr), sigmoid(xz + hz)
        n = np.tanh(xn + r * hn)
        kept.append((r, z, n, hn))
        hs.append((1 - z) * n + z * hs[-1])
    dx, dh = np.zeros_like(x), np.zeros_like(h)
    of_x, of_h = [], []
    for t in reversed(range(len(x))):
        r, z, n, hn = kept[t]
        dh = dh + dy[t]
        dn = dh * (1 - z) * (1 - n**2)
        dz = dh * (hs[t + 1] - n) * z * (1 - z)
        dr = dn * hn * r * (1 - r)
        of_x.insert(0, np.hstack([dr, dz, dn]))
        of_h.insert(0, np.hstack([dr, dz, dn * r]))
        dx[t] = of_x[0] @ weight_ih
        dh = dh * z + of_h[0] @ weight_hh
    of_x, of_h = np.array(of_x), np.array(of_h)
    grad_ih = np.einsum("tng,tnd->gd", of_x, x)
    grad_hh = np.einsum("tng,tnh->gh", of_h, np.array(hs[:-1]))
    return dx, dh, grad_ih, grad_hh, of_x.sum((0, 1)), of_h.sum((0, 1))


@wrong(
    late_reset,
    late_reset_inputs,
    "activation",
    place="n = tg.tanh",
    repair=("dn = dh * (1 - z)\n", "dn = dh * (1 - z) * (1 - n**2)\n"),
)
def forgets_the_tanh_of_the_candidate(grad, x, h, W, U, b, c):
    H = h.shape[1]
    hs, rs, zs, ns, ms = [h], [], [], [], []
    for x_t in x:
        a, m = x_t @ W + b, hs[-1] @ U + c
        rs.append(sigmoid(a[:, :H] + m[:, :H]))
        zs.append(sigmoid(a[:, H : 2 * H] + m[:, H : 2 * H]))
        ns.append(np.tanh(a[:, 2 * H :] + rs[-1] * m[:, 2 * H :]))
        ms.append(m[:, 2 * H :])
        hs.append((1 - zs[-1]) * ns[-1] + zs[-1] * hs[-1])
    dx, dW, dU, db, dc = np.zeros_like(x), np.zeros_like(W), np.zeros_like(U), np.zeros_like(b), np.zeros_like(c)
    dh = grad
    for t in reversed(range(len(x))):
        r, z, n, m = rs[t], zs[t], ns[t], ms[t]
        dn = dh * (1 - z)
        dz = dh * (hs[t] - n) * z * (1 - z)
        dr = dn * m * r * (1 - r)
        da = np.hstack([dr, dz, dn])
        dm = np.hstack([dr, dz, dn * r])
        dW += x[t].T @ da
        dU += hs[t].T @ dm
        db += da.sum(0)
        dc += dm.sum(0)
        dx[t] = da @ W.T
        dh = dh * z + dm @ U.T
    return dx, dh, dW, dU, db, dc


@wrong(composite.gru, torch_inputs, "factor", place="sigmoid(xr + hr) * hn", repair=("grad_n * h_prev * r", "grad_n * h_n * r"))
def resets_the_state_where_the_product_was_reset(grad_y, x, h, w_ih, w_hh, b_ih, b_hh):
    grads = {"x": np.zeros_like(x), "weight_ih": 0, "weight_hh": 0, "bias_ih": 0, "bias_hh": 0}
    saved = []
    for x_t in x:
        i_r, i_z, i_n = np.split(x_t @ w_ih.T + b_ih, 3, axis=1)
        h_r, h_z, h_n = np.split(h @ w_hh.T + b_hh, 3, axis=1)
        r, z = sigmoid(i_r + h_r), sigmoid(i_z + h_z)
        n = np.tanh(i_n + r * h_n)
        saved.append((h, r, z, n, h_n))
        h = n + z * (h - n)
    grad_h = np.zeros_like(h)
    for t in range(len(x))[::-1]:
        h_prev, r, z, n, h_n = saved[t]
        grad_h = grad_h + grad_y[t]
        grad_z = grad_h * (h_prev - n) * z * (1 - z)
        grad_n = grad_h * (1 - z) * (1 - n * n)
        grad_r = grad_n * h_prev * r * (1 - r)
        gi = np.concatenate((grad_r, grad_z, grad_n), axis=-1)
        gh = np.concatenate((grad_r, grad_z, grad_n * r), axis=-1)
        grads["weight_ih"] = grads["weight_ih"] + gi.T @ x[t]
        grads["weight_hh"] = grads["weight_hh"] + gh.T @ h_prev
        grads["bias_ih"] = grads["bias_ih"] + gi.sum(0)
        grads["bias_hh"] = grads["bias_hh"] + gh.sum(0)
        grads["x"][t] = gi @ w_ih
        grad_h = grad_h * z + gh @ w_hh
    grads["h"] = grad_h
    return grads


@wrong(cho, cho_inputs, "term", "time", place="U_r", repair=("+ dz @ U_z.T + drh * r", "+ dr @ U_r.T + dz @ U_z.T + drh * r"))
def forgets_that_the_state_made_the_reset_gate(g, x, h, W_r, W_z, W_n, U_r, U_z, U_n):
    T = len(x)
    hs, rs, zs, ns = np.zeros((T + 1, *h.shape)), [None] * T, [None] * T, [None] * T
    hs[0] = h
    for t in range(T):
        rs[t] = sigmoid(x[t] @ W_r + hs[t] @ U_r)
        zs[t] = sigmoid(x[t] @ W_z + hs[t] @ U_z)
        ns[t] = np.tanh(x[t] @ W_n + (rs[t] * hs[t]) @ U_n)
        hs[t + 1] = (1 - zs[t]) * ns[t] + zs[t] * hs[t]
    dr_all, dz_all, dn_all = np.zeros_like(hs[1:]), np.zeros_like(hs[1:]), np.zeros_like(hs[1:])
    dh = np.zeros_like(h)
    for t in reversed(range(T)):
        r, z, n = rs[t], zs[t], ns[t]
        dh = dh + g[t]
        dn = dn_all[t] = dh * (1 - z) * (1 - n**2)
        dz = dz_all[t] = dh * (hs[t] - n) * z * (1 - z)
        drh = dn @ U_n.T
        dr = dr_all[t] = drh * hs[t] * r * (1 - r)
        dh = dh * z + dz @ U_z.T + drh * r
    dx = dr_all @ W_r.T + dz_all @ W_z.T + dn_all @ W_n.T
    dW = [np.einsum("tnd,tnh->dh", x, d) for d in (dr_all, dz_all, dn_all)]
    lefts = (hs[:-1], hs[:-1], np.array(rs) * hs[:-1])
    dU = [np.einsum("tni,tnj->ij", left, d) for left, d in zip(lefts, (dr_all, dz_all, dn_all))]
    return (dx, dh, *dW, *dU)
