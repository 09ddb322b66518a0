"""Right backward functions of layers without time, each in another style."""

# ruff: noqa: RUF059 - not all that a learner unpacks is used

from __future__ import annotations

import numpy as np

import tinygrad_ja as tg
from tinygrad_ja import nn, textbook
from tinygrad_ja.nn import functional as F
from tinygrad_ja.textbook import composite

from . import attention, dense, normalization, softmax
from .entry import Arrays, filled, right
from .right_recurrent import numerical

right(composite.affine, dense.linear_inputs)(textbook.Affine)
right(composite.softmax_cross_entropy, softmax.classes_inputs)(textbook.SoftmaxCrossEntropy)
right(composite.batch_norm, normalization.torch_inputs)(textbook.BatchNorm)
right(composite.layer_norm, normalization.torch_inputs)(textbook.LayerNorm)
right(F.scaled_dot_product_attention, attention.dot_inputs)(textbook.DotAttention)
right(composite.additive_attention, attention.additive_inputs)(textbook.AdditiveAttention)


@right(dense.affine, dense.affine_inputs)
def affine_keeps_the_axis_of_the_bias(g, x, W, b):
    return np.dot(g, W.T), np.dot(x.T, g), np.sum(g, axis=0, keepdims=True)


def affine_of_rows(x, W, b):
    """The bias is a row."""
    return x @ W + b


def affine_of_rows_inputs(rng: np.random.Generator) -> Arrays:
    return {"x": rng.normal(size=(4, 3)), "W": rng.normal(size=(3, 5)), "b": rng.normal(size=(1, 5))}


@right(affine_of_rows, affine_of_rows_inputs)
def affine_drops_the_axis_of_the_bias(g, x, W, b):
    return np.einsum("no,io->ni", g, W), np.einsum("ni,no->io", x, g), np.einsum("no->o", g)


@right(dense.two_layers, dense.two_layers_inputs)
class TwoLayerNet:
    def __init__(self, W1, b1, W2, b2):
        self.params = [W1, b1, W2, b2]
        self.grads = [np.zeros_like(p) for p in self.params]

    def forward(self, x):
        W1, b1, W2, b2 = self.params
        self.x = x
        self.out = 1 / (1 + np.exp(-(np.dot(x, W1) + b1)))
        return np.dot(self.out, W2) + b2

    def backward(self, dout):
        W1, b1, W2, b2 = self.params
        self.grads[2][...] = np.dot(self.out.T, dout)
        self.grads[3][...] = np.sum(dout, axis=0)
        da = np.dot(dout, W2.T) * (1.0 - self.out) * self.out
        self.grads[0][...] = np.dot(self.x.T, da)
        self.grads[1][...] = np.sum(da, axis=0)
        return np.dot(da, W1.T)


@right(dense.two_layers, dense.two_layers_inputs)
def two_layers_row_by_row(g, x, W1, b1, W2, b2):
    dx, dW1, db1, dW2, db2 = (np.zeros_like(a) for a in (x, W1, b1, W2, b2))
    for n in range(len(x)):
        h = 1 / (1 + np.exp(-(W1.T @ x[n] + b1)))
        dz = (W2 @ g[n]) * h * (1 - h)
        dx[n] = W1 @ dz
        dW1 += np.outer(x[n], dz)
        db1 += dz
        dW2 += np.outer(h, g[n])
        db2 += g[n]
    return dx, dW1, db1, dW2, db2


@right(dense.tied_autoencoder, dense.tied_inputs)
def autoencoder_with_both_uses_of_its_matrix(g, x, W, b, c):
    code = np.tanh(x @ W + b)
    d = (g @ W) * (1 - code) * (1 + code)
    return {"c": g.sum(0), "W": x.T @ d + (code.T @ g).T, "b": d.sum(0), "x": d @ W.T}


@right(dense.squared_error, dense.squared_error_inputs)
def squared_error_without_a_gradient_for_the_target(g, x, W, b, t):
    d = 2 * g * (x @ W + b - t) / t.size
    return d @ W.T, x.T @ d, d.sum(axis=0), None


@right(dense.residual, dense.residual_inputs)
def residual_in_float32(g, x, W1, b1, W2, b2):
    g, x, W1, b1, W2, b2 = (a.astype("float32") for a in (g, x, W1, b1, W2, b2))
    z = x @ W1 + b1
    dz = np.where(z > 0, g @ W2.T, 0)
    return g + dz @ W1.T, x.T @ dz, dz.sum(0), np.maximum(z, 0).T @ g, g.sum(0)


@right(softmax.softmax, softmax.scores_inputs)
def softmax_with_the_whole_jacobian(g, scores):
    grad = np.zeros_like(scores)
    for n, row in enumerate(scores):
        p = np.exp(row) / np.exp(row).sum()
        for i in range(len(p)):
            for j in range(len(p)):
                grad[n, j] += g[n, i] * p[i] * ((i == j) - p[j])
    return grad


@right(softmax.classifier, softmax.classifier_inputs)
def classifier_through_the_logarithm(g, x, W, b, t):
    """The gradient of log first, then softmax's, without the shortcut y - t."""
    z = x @ W + b
    e = np.exp(z - z.max(1, keepdims=True))
    y = e / e.sum(1, keepdims=True)
    dy = -g * t / y / len(x)
    dz = y * (dy - (y * dy).sum(1, keepdims=True))
    return {"x": dz @ W.T, "W": x.T @ dz, "b": dz.sum(0)}


@right(softmax.smoothed, softmax.classes_inputs)
def smoothed_targets_subtracted(g, x, target):
    n, c = x.shape
    soft_target = np.full((n, c), softmax.SMOOTHING / c)
    soft_target[np.arange(n), target] += 1 - softmax.SMOOTHING
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    return g * (p - soft_target) / n, None


@right(softmax.log_softmax, softmax.scores_inputs)
def log_softmax_by_numerical_differentiation(g, scores):
    return numerical(lambda s: s - np.log(np.exp(s).sum(-1, keepdims=True)), g, [scores.copy()])


@right(normalization.batch_norm, normalization.batch_norm_inputs)
class ChainOfSixSteps:
    def __init__(self, gamma, beta):
        self.params = {"gamma": gamma, "beta": beta}
        self.grads = {}

    def forward(self, x):
        self.xc = x - x.mean(axis=0)
        self.std = np.sqrt(np.mean(self.xc**2, axis=0) + normalization.EPS)
        self.xn = self.xc / self.std
        return self.params["gamma"] * self.xn + self.params["beta"]

    def backward(self, dout):
        self.grads["beta"] = dout.sum(axis=0)
        self.grads["gamma"] = np.sum(self.xn * dout, axis=0)
        dxn = self.params["gamma"] * dout
        dxc = dxn / self.std
        dstd = -np.sum((dxn * self.xc) / (self.std * self.std), axis=0)
        dvar = 0.5 * dstd / self.std
        dxc += (2.0 / len(dout)) * self.xc * dvar
        return dxc - np.sum(dxc, axis=0) / len(dout)


@right(normalization.batch_norm, normalization.batch_norm_inputs)
def batch_norm_compact(g, x, gamma, beta):
    xhat = (x - x.mean(0)) / np.sqrt(x.var(0) + normalization.EPS)
    dgamma, dbeta = (g * xhat).sum(0), g.sum(0)
    return gamma / np.sqrt(x.var(0) + normalization.EPS) * (g - dbeta / len(x) - xhat * dgamma / len(x)), dgamma, dbeta


@right(normalization.batch_norm, normalization.batch_norm_inputs)
def batch_norm_with_a_jacobian_for_each_feature(g, x, gamma, beta):
    n, d = x.shape
    dx = np.empty_like(x)
    xhat = (x - x.mean(0)) / np.sqrt(x.var(0) + normalization.EPS)
    for j in range(d):
        center = np.eye(n) - 1 / n
        jacobian = (center - np.outer(xhat[:, j], xhat[:, j]) / n) / np.sqrt(x[:, j].var() + normalization.EPS)
        dx[:, j] = gamma[j] * jacobian @ g[:, j]
    return dx, np.diag(g.T @ xhat), np.ones(n) @ g


@right(attention.dot_attention, attention.dot_inputs)
def dot_attention_query_by_query(g, q, k, v):
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    root = q.shape[-1] ** 0.5
    for n, i in np.ndindex(*q.shape[:2]):
        s = k[n] @ q[n, i] / root
        a = np.exp(s - s.max())
        a /= a.sum()
        da = v[n] @ g[n, i]
        ds = a * (da - a @ da) / root
        dq[n, i] = ds @ k[n]
        dk[n] += np.outer(ds, q[n, i])
        dv[n] += np.outer(a, g[n, i])
    return dq, dk, dv


@right(attention.several_heads, attention.several_heads_inputs)
def several_heads_with_einsum(g, x, W_q, W_k, W_v, W_o):
    E = x.shape[-1]
    d = E // attention.HEADS
    q, k, v = (np.einsum("nti,ihd->nhtd", x, W.reshape(E, -1, d)) for W in (W_q, W_k, W_v))
    a = attention.softmax(np.einsum("nhld,nhsd->nhls", q, k) / d**0.5)
    out = np.einsum("nhls,nhsd->nhld", a, v)
    dout = np.einsum("nto,hdo->nhtd", g, W_o.reshape(-1, d, E))
    da = np.einsum("nhld,nhsd->nhls", dout, v)
    ds = (a * da - a * np.einsum("nhls,nhls->nhl", a, da)[..., None]) / d**0.5
    parts = [np.einsum("nhls,nhsd->nhld", ds, k), np.einsum("nhls,nhld->nhsd", ds, q), np.einsum("nhls,nhld->nhsd", a, dout)]
    dW = [np.einsum("nti,nhtd->ihd", x, part).reshape(E, E) for part in parts]
    dx = sum(np.einsum("nhtd,ihd->nti", part, W.reshape(E, -1, d)) for part, W in zip(parts, (W_q, W_k, W_v)))
    return dx, *dW, np.einsum("nhtd,nto->hdo", out, g).reshape(E, E)


@right(filled(nn.BatchNorm1d(3)), lambda rng: {"input": rng.normal(size=(5, 3))})
def batch_norm_of_the_framework(g, x, weight, bias):
    n = len(x)
    d = x - x.mean(0)
    s = 1 / np.sqrt(x.var(0) + 1e-5)
    dd = weight * g * s - d * s**3 * (weight * g * d).sum(0) / n
    return {"input": dd - dd.mean(0), "weight": (g * d * s).sum(0), "bias": g.sum(0)}


@right(filled(nn.MultiheadAttention(4, 2, batch_first=True)), attention.self_inputs)
def heads_of_the_framework_in_a_loop(g, query, key, value, in_proj_weight, in_proj_bias, out_weight, out_bias):
    E, d = 4, 2
    sources = (query, key, value)
    weights, biases = np.split(in_proj_weight, 3), np.split(in_proj_bias, 3)
    projected = [x @ w.T + b for x, w, b in zip(sources, weights, biases)]
    back = [np.zeros_like(p) for p in projected]
    merged = np.zeros_like(g)
    dmerged = g @ out_weight
    for part in (slice(0, d), slice(d, E)):
        q, k, v = (p[..., part] for p in projected)
        a = attention.softmax(q @ k.swapaxes(1, 2) / np.sqrt(d))
        merged[..., part] = a @ v
        da = dmerged[..., part] @ v.swapaxes(1, 2)
        ds = a * (da - (da * a).sum(-1, keepdims=True)) / np.sqrt(d)
        back[0][..., part] = ds @ k
        back[1][..., part] = ds.swapaxes(1, 2) @ q
        back[2][..., part] = a.swapaxes(1, 2) @ dmerged[..., part]
    dx = [p @ w for p, w in zip(back, weights)]
    dw = np.concatenate([np.einsum("nto,nti->oi", p, x) for p, x in zip(back, sources)])
    db = np.concatenate([p.sum((0, 1)) for p in back])
    return *dx, dw, db, np.einsum("nto,nti->oi", g, merged), g.sum((0, 1))


def scaled_words(indices, table, scale):
    """Rows of a table, times one learned number."""
    return table[indices] * scale


def scaled_words_inputs(rng: np.random.Generator) -> Arrays:
    return {"indices": np.array([[1, 0, 1], [4, 1, 2]]), "table": rng.normal(size=(6, 4)), "scale": rng.normal(size=())}


@right(scaled_words, scaled_words_inputs)
def words_that_come_more_than_once(g, indices, table, scale):
    dtable = np.zeros_like(table)
    for place in np.ndindex(*indices.shape):
        dtable[indices[place]] += g[place] * float(scale)
    return None, dtable, float((g * table[indices]).sum())


@right(F.relu, lambda rng: {"input": rng.normal(size=(3, 4))})
def relu_that_writes_over_what_it_was_given(g, x):
    mask = x <= 0
    x[mask] = 0
    g[mask] = 0
    return g


def gated(x, W, b, V, c):
    """A highway layer: a gate between the input and its transform (Srivastava et al. 2015)."""
    carry = tg.sigmoid(x @ W + b)
    return carry * x + (1 - carry) * tg.tanh(x @ V + c)


def gated_inputs(rng: np.random.Generator) -> Arrays:
    return {"x": rng.normal(size=(3, 4))} | {name: rng.normal(size=size) for name, size in zip("WbVc", [(4, 4), 4, (4, 4), 4])}


@right(gated, gated_inputs)
def highway_in_one_line_each(g, x, W, b, V, c):
    s, m = 1 / (1 + np.exp(-(x @ W + b))), np.tanh(x @ V + c)
    ds, dm = g * (x - m) * s * (1 - s), g * (1 - s) * (1 - m**2)
    return [g * s + ds @ W.T + dm @ V.T, x.T @ ds, ds.sum(0), x.T @ dm, dm.sum(0)]
