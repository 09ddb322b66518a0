"""The textbook's layers composed of plain operators: only forward is written, the tape does the rest.

Arguments are Tensors with the shapes and layouts of the textbook's classes.
"""

from __future__ import annotations

import math

from ..core.tensor import Tensor
from ..ops.activation import logsigmoid
from ..ops.exponential import exp, log, sigmoid, tanh
from ..ops.indexing import getitem
from ..ops.join import stack
from ..ops.padding import pad
from ..ops.reduce import sum
from ..ops.shape import reshape, transpose, unsqueeze


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x Wᵀ + b."""
    return x @ transpose(weight, 0, 1) + bias


def softmax(x: Tensor) -> Tensor:
    """e^x over its sum along the last axis."""
    e = exp(x - x.detach().amax(-1, keepdim=True))
    return e / sum(e, -1, keepdim=True)


def softmax_cross_entropy(x: Tensor, target: Tensor) -> Tensor:
    """-log softmax(x)[t], the mean over rows, as log Σ e^x - x_t: the logarithm of a softmax that became 0 would be -∞."""
    rows = list(range(len(target)))
    x = x - x.detach().amax(-1, keepdim=True)
    return (log(sum(exp(x), -1)) - x[rows, target]).mean()


def negative_sampling(h: Tensor, weight: Tensor, target: Tensor, negatives: Tensor) -> Tensor:
    """-log σ(h · w_t) - Σ log σ(-h · w_k), the mean over rows."""
    right = sum(h * weight[target], -1)
    wrong = sum(unsqueeze(h, 1) * weight[negatives], -1)
    return -(logsigmoid(right) + sum(logsigmoid(-wrong), -1)).mean()


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """(x - μ) / √(σ² + ε) · γ + β with mean and variance over the batch."""
    d = x - x.mean(0)
    return d / ((d * d).mean(0) + eps).sqrt() * weight + bias


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """The same over the last axis."""
    d = x - x.mean(-1, keepdim=True)
    return d / ((d * d).mean(-1, keepdim=True) + eps).sqrt() * weight + bias


def _windows(x: Tensor, height: int, width: int, stride: int) -> Tensor:
    """Windows of images (N, C, H, W): (height·width, N, C, OH, OW)."""
    h, w = x.shape[-2:]
    oh, ow = (h - height) // stride + 1, (w - width) // stride + 1
    parts = [
        x[:, :, i : i + stride * (oh - 1) + 1 : stride, j : j + stride * (ow - 1) + 1 : stride]
        for i in range(height)
        for j in range(width)
    ]
    return stack(parts)


def convolution(x: Tensor, weight: Tensor, bias: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """Every window times every filter, summed: a product of shifted images, for each place in the filter."""
    m, c, fh, fw = weight.shape
    windows = _windows(pad(x, (padding,) * 4), fh, fw, stride)
    filters = transpose(reshape(weight, (m, c, fh * fw)), 0, 2)  # (places, C, M)
    summed = (transpose(windows, 2, 4) @ unsqueeze(unsqueeze(filters, 1), 1)).sum(0)  # (N, OW, OH, M)
    return transpose(summed, 1, 3) + reshape(bias, (m, 1, 1))


def max_pooling(x: Tensor, size: int, stride: int | None = None) -> Tensor:
    """The largest of each window."""
    return _windows(x, size, size, size if stride is None else stride).max(0)[0]


def embedding(indices: Tensor, weight: Tensor) -> Tensor:
    """W[indices]."""
    return getitem(weight, indices)


def rnn(x: Tensor, h: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)."""
    states = []
    for x_t in x:
        h = tanh(affine(x_t, weight_ih, bias_ih) + affine(h, weight_hh, bias_hh))
        states.append(h)
    return stack(states)


def lstm(x: Tensor, h: Tensor, c: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    """c_t = f ∘ c_{t-1} + i ∘ g, h_t = o ∘ tanh(c_t)."""
    states = []
    for x_t in x:
        i, f, g, o = (affine(x_t, weight_ih, bias_ih) + affine(h, weight_hh, bias_hh)).chunk(4, 1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        states.append(h)
    return stack(states)


def gru(x: Tensor, h: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    """h_t = (1 - z) ∘ n + z ∘ h_{t-1}."""
    states = []
    for x_t in x:
        (xr, xz, xn), (hr, hz, hn) = affine(x_t, weight_ih, bias_ih).chunk(3, 1), affine(h, weight_hh, bias_hh).chunk(3, 1)
        z = sigmoid(xz + hz)
        h = (1 - z) * tanh(xn + sigmoid(xr + hr) * hn) + z * h
        states.append(h)
    return stack(states)


def dot_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(Q Kᵀ / √d) V."""
    return softmax(q @ transpose(k, -1, -2) / math.sqrt(q.shape[-1])) @ v


def additive_attention(q: Tensor, k: Tensor, query_weight: Tensor, key_weight: Tensor, v: Tensor) -> Tensor:
    """Σ_s a_s k_s with a = softmax(vᵀ tanh(W q + U k_s))."""
    hidden = tanh(unsqueeze(q @ transpose(query_weight, 0, 1), 1) + k @ transpose(key_weight, 0, 1))
    return sum(unsqueeze(softmax(hidden @ v), -1) * k, 1)


def multi_head_attention(
    x: Tensor, heads: int, in_proj_weight: Tensor, in_proj_bias: Tensor, out_weight: Tensor, out_bias: Tensor
) -> Tensor:
    """Self attention of each head on its part of the projections, put together and mapped once more."""
    n, t, e = x.shape
    parts = affine(x, in_proj_weight, in_proj_bias).chunk(3, -1)
    q, k, v = (transpose(reshape(part, (n, t, heads, e // heads)), 1, 2) for part in parts)
    merged = reshape(transpose(dot_attention(q, k, v), 1, 2), (n, t, e))
    return affine(merged, out_weight, out_bias)
