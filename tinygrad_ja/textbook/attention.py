"""Attention: scaled dot product, additive, several heads."""

from __future__ import annotations

import numpy as np

from .layer import Layer, softmax, softmax_backward


class DotAttention(Layer):
    """Y = A V with A = softmax(Q Kᵀ / √d) (Vaswani et al. 2017). Framework: ``tg.nn.functional.scaled_dot_product_attention``.

    Q: (..., L, d). K: (..., S, d). V: (..., S, e).
    Backward: dV = Aᵀ dY, dA = dY Vᵀ, then through softmax to dS, dQ = dS K / √d, dK = dSᵀ Q / √d.
    """

    def forward(self, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        self.q, self.k, self.v = q, k, v
        self.weights = softmax(q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1]).astype(q.dtype))
        return self.weights @ v

    def backward(self, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        dv = np.swapaxes(self.weights, -1, -2) @ dy
        ds = softmax_backward(self.weights, dy @ np.swapaxes(self.v, -1, -2))
        ds = ds / np.sqrt(self.q.shape[-1]).astype(dy.dtype)
        return ds @ self.k, np.swapaxes(ds, -1, -2) @ self.q, dv


class AdditiveAttention(Layer):
    """context = Σ_s a_s k_s with a = softmax(vᵀ tanh(W q + U k_s)) (Bahdanau et al. 2015). Framework: ``tg.nn.AdditiveAttention``.

    query_weight: W (H, Q). key_weight: U (H, K). v: (H,). q: (N, Q); k: (N, S, K); context: (N, K).
    """

    def __init__(self, query_weight: np.ndarray, key_weight: np.ndarray, v: np.ndarray) -> None:
        super().__init__(query_weight=query_weight, key_weight=key_weight, v=v)

    def forward(self, q: np.ndarray, k: np.ndarray) -> np.ndarray:
        p = self.params
        self.q, self.k = q, k
        self.hidden = np.tanh((q @ p["query_weight"].T)[:, None, :] + k @ p["key_weight"].T)
        self.weights = softmax(self.hidden @ p["v"])
        return (self.weights[:, :, None] * k).sum(axis=1)

    def backward(self, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = self.params
        ds = softmax_backward(self.weights, (self.k * dy[:, None, :]).sum(axis=2))
        delta = ds[:, :, None] * p["v"] * (1 - self.hidden**2)
        of_query = delta.sum(axis=1)
        self.grads["v"] = (ds[:, :, None] * self.hidden).sum(axis=(0, 1))
        self.grads["query_weight"] = of_query.T @ self.q
        self.grads["key_weight"] = np.einsum("nsh,nsk->hk", delta, self.k)
        dk = self.weights[:, :, None] * dy[:, None, :] + delta @ p["key_weight"]
        return of_query @ p["query_weight"], dk


class MultiHeadAttention(Layer):
    """Self attention with several heads: Y = concat(heads) W_oᵀ + b_o, where each head attends with its own part of the projections of x
    (Vaswani et al. 2017). Framework: ``tg.nn.MultiheadAttention``.

    in_proj_weight: (3E, E), rows for Q, K and V. in_proj_bias: (3E,). out_weight: (E, E). out_bias: (E,). x: (N, T, E).
    """

    def __init__(
        self,
        heads: int,
        in_proj_weight: np.ndarray,
        in_proj_bias: np.ndarray,
        out_weight: np.ndarray,
        out_bias: np.ndarray,
    ) -> None:
        super().__init__(in_proj_weight=in_proj_weight, in_proj_bias=in_proj_bias, out_weight=out_weight, out_bias=out_bias)
        self.heads, self.attention = heads, DotAttention()

    def _split(self, x: np.ndarray) -> np.ndarray:
        """(N, T, E) -> (N, heads, T, E / heads)."""
        n, t, e = x.shape
        return x.reshape(n, t, self.heads, e // self.heads).transpose(0, 2, 1, 3)

    def _merge(self, x: np.ndarray) -> np.ndarray:
        """(N, heads, T, E / heads) -> (N, T, E)."""
        n, _, t, _ = x.shape
        return x.transpose(0, 2, 1, 3).reshape(n, t, -1)

    def forward(self, x: np.ndarray) -> np.ndarray:
        p = self.params
        self.x = x
        q, k, v = np.split(x @ p["in_proj_weight"].T + p["in_proj_bias"], 3, axis=-1)
        self.merged = self._merge(self.attention.forward(self._split(q), self._split(k), self._split(v)))
        return self.merged @ p["out_weight"].T + p["out_bias"]

    def backward(self, dy: np.ndarray) -> np.ndarray:
        p = self.params
        self.grads["out_weight"] = np.einsum("nto,nti->oi", dy, self.merged)
        self.grads["out_bias"] = dy.sum(axis=(0, 1))
        parts = self.attention.backward(self._split(dy @ p["out_weight"]))
        d = np.concatenate([self._merge(part) for part in parts], axis=-1)
        self.grads["in_proj_weight"] = np.einsum("nto,nti->oi", d, self.x)
        self.grads["in_proj_bias"] = d.sum(axis=(0, 1))
        return d @ p["in_proj_weight"]
