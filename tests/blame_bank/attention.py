"""Attention by dot product, additive and with several heads: six wrong backward functions."""

# ruff: noqa: RUF059 - not all that a learner unpacks is used

from __future__ import annotations

import math

import numpy as np

from tinygrad_ja.nn import functional as F
from tinygrad_ja.textbook import composite

from .entry import Arrays, wrong


def softmax(s):
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def dot_attention(query, key, value):
    scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])
    weights = F.softmax(scores, -1)
    return weights @ value


def dot_inputs(rng: np.random.Generator) -> Arrays:
    N, L, S, d, e = 2, 4, 5, 3, 6
    return {"query": rng.normal(size=(N, L, d)), "key": rng.normal(size=(N, S, d)), "value": rng.normal(size=(N, S, e))}


def self_inputs(rng: np.random.Generator) -> Arrays:
    """Queries, keys and values of one sequence: all of one size."""
    return {name: rng.normal(size=(2, 3, 4)) for name in ("query", "key", "value")}


def thinned(q, k, v, mask):
    """Some weights are struck out after the softmax, as dropout does."""
    weights = F.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), -1)
    kept = weights * mask
    return kept @ v


def thinned_inputs(rng: np.random.Generator) -> Arrays:
    q, k, v = dot_inputs(rng).values()
    return {"q": q, "k": k, "v": v, "mask": (rng.random((2, 4, 5)) < 0.7) / 0.7}


def additive_inputs(rng: np.random.Generator) -> Arrays:
    N, S, Q, K, H = 2, 4, 3, 5, 6
    return {
        "q": rng.normal(size=(N, Q)),
        "k": rng.normal(size=(N, S, K)),
        "query_weight": rng.normal(size=(H, Q)) * 0.6,
        "key_weight": rng.normal(size=(H, K)) * 0.6,
        "v": rng.normal(size=H),
    }


HEADS = 2


def heads_of(x):
    N, T, E = x.shape
    return x.reshape(N, T, HEADS, E // HEADS).transpose(1, 2)


def several_heads(x, W_q, W_k, W_v, W_o):
    """Self attention of two heads."""
    q = heads_of(x @ W_q)
    k = heads_of(x @ W_k)
    v = heads_of(x @ W_v)
    weights = F.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]), -1)
    context = (weights @ v).transpose(1, 2)
    return context.reshape(x.shape) @ W_o


def several_heads_inputs(rng: np.random.Generator) -> Arrays:
    E = 4
    return {"x": rng.normal(size=(2, 3, E))} | {f"W_{part}": rng.normal(size=(E, E)) * 0.7 for part in "qkvo"}


@wrong(
    dot_attention,
    dot_inputs,
    "scale",
    place="scores",
    repair=("ds = softmax_backward(p, dp)\n", "ds = softmax_backward(p, dp) / np.sqrt(q.shape[-1])\n"),
)
def forgets_the_root_of_d(g, q, k, v):
    def softmax_backward(p, dp):
        return p * (dp - np.sum(p * dp, axis=-1, keepdims=True))

    p = softmax(np.einsum("nld,nsd->nls", q, k) / np.sqrt(q.shape[-1]))
    dv = np.einsum("nls,nle->nse", p, g)
    dp = np.einsum("nle,nse->nls", g, v)
    ds = softmax_backward(p, dp)
    dq = np.einsum("nls,nsd->nld", ds, k)
    dk = np.einsum("nls,nld->nsd", ds, q)
    return dq, dk, dv


@wrong(
    dot_attention,
    self_inputs,
    "transpose",
    place="scores",
    repair=("dk = dscore @ q\n", "dk = dscore.transpose(0, 2, 1) @ q\n"),
)
def forgets_to_transpose_for_the_keys(grad, q, k, v):
    scale = 1 / np.sqrt(q.shape[-1])
    attn = softmax(q @ k.transpose(0, 2, 1) * scale)
    dv = attn.transpose(0, 2, 1) @ grad
    dattn = grad @ v.transpose(0, 2, 1)
    dscore = attn * (dattn - (dattn * attn).sum(-1, keepdims=True)) * scale
    dq = dscore @ k
    dk = dscore @ q
    return dq, dk, dv


@wrong(F.scaled_dot_product_attention, self_inputs, "swap", repair=("return dk, dq, dv", "return dq, dk, dv"))
def returns_the_keys_gradient_first(dy, query, key, value):
    N, L, d = query.shape
    dq, dk, dv = np.zeros_like(query), np.zeros_like(key), np.zeros_like(value)
    for n in range(N):
        a = softmax(query[n] @ key[n].T / np.sqrt(d))
        dv[n] = a.T @ dy[n]
        da = dy[n] @ value[n].T
        ds = np.zeros_like(a)
        for row in range(L):
            ds[row] = (np.diag(a[row]) - np.outer(a[row], a[row])) @ da[row]
        dq[n] = ds @ key[n] / np.sqrt(d)
        dk[n] = ds.T @ query[n] / np.sqrt(d)
    return dk, dq, dv


@wrong(thinned, thinned_inputs, "factor", place="mask", repair=("dp = dkept\n", "dp = dkept * mask\n"))
def forgets_the_mask_on_the_way_back(g, q, k, v, mask):
    root = np.sqrt(q.shape[-1])
    p = softmax(q @ k.swapaxes(1, 2) / root)
    kept = p * mask
    dv = kept.swapaxes(1, 2) @ g
    dkept = g @ v.swapaxes(1, 2)
    dp = dkept
    ds = p * (dp - (p * dp).sum(-1, keepdims=True)) / root
    return {"q": ds @ k, "k": ds.swapaxes(1, 2) @ q, "v": dv}


@wrong(
    composite.additive_attention,
    additive_inputs,
    "term",
    place="* k",
    repair=("dk = np.dot(dt, U)\n", "dk = np.dot(dt, U) + a[:, :, None] * dc[:, None, :]\n"),
)
def forgets_that_the_keys_are_summed_as_well(dc, q, k, W, U, v):
    N, S, K = k.shape
    hidden = np.tanh(np.dot(q, W.T).reshape(N, 1, -1) + np.dot(k, U.T))
    a = softmax(np.dot(hidden, v))
    da = np.sum(k * dc.reshape(N, 1, K), axis=2)
    ds = a * da
    ds -= a * np.sum(ds, axis=1, keepdims=True)
    dv = np.einsum("ns,nsh->h", ds, hidden)
    dt = ds[:, :, None] * v * (1 - hidden**2)
    dW = np.dot(dt.sum(axis=1).T, q)
    dU = np.einsum("nsh,nsk->hk", dt, k)
    dq = np.dot(dt.sum(axis=1), W)
    dk = np.dot(dt, U)
    return dq, dk, dW, dU, dv


@wrong(
    several_heads,
    several_heads_inputs,
    "term",
    place="W_v",
    repair=("dq @ W_q.T + dk @ W_k.T\n", "dq @ W_q.T + dk @ W_k.T + dv @ W_v.T\n"),
)
def forgets_that_x_is_the_values_too(g, x, W_q, W_k, W_v, W_o):
    N, T, E = x.shape
    H, d = HEADS, E // HEADS

    def split(m):
        return m.reshape(N, T, H, d).transpose(0, 2, 1, 3)

    def merge(m):
        return m.transpose(0, 2, 1, 3).reshape(N, T, E)

    q, k, v = split(x @ W_q), split(x @ W_k), split(x @ W_v)
    a = softmax(np.einsum("nhld,nhsd->nhls", q, k) / np.sqrt(d))
    context = merge(a @ v)
    dcontext = split(g @ W_o.T)
    da = np.einsum("nhld,nhsd->nhls", dcontext, v)
    ds = a * (da - (a * da).sum(-1, keepdims=True)) / np.sqrt(d)
    dq = merge(np.einsum("nhls,nhsd->nhld", ds, k))
    dk = merge(np.einsum("nhls,nhld->nhsd", ds, q))
    dv = merge(np.einsum("nhls,nhld->nhsd", a, dcontext))
    dx = dq @ W_q.T + dk @ W_k.T
    dW_q, dW_k, dW_v = (np.einsum("nti,nto->io", x, d_part) for d_part in (dq, dk, dv))
    dW_o = np.einsum("nti,nto->io", context, g)
    return dx, dW_q, dW_k, dW_v, dW_o
