"""Batch normalisation and layer normalisation."""

from __future__ import annotations

import numpy as np

from .layer import Layer


class BatchNorm(Layer):
    """y = γ ∘ x̂ + β with x̂ = (x - μ) / √(σ² + ε), over the batch for each feature (Ioffe and Szegedy 2015). Framework:
    ``tg.nn.functional.batch_norm``, ``tg.nn.BatchNorm1d``.

    weight: γ (D,). bias: β (D,). x: (N, D). Training keeps running means for ``training=False``: r ← (1 - momentum) r + momentum s, with the
    unbiased variance.
    Backward: dγ = Σ dy ∘ x̂, dβ = Σ dy, dx = γ / √(σ² + ε) ∘ (dy - mean(dy) - x̂ ∘ mean(dy ∘ x̂)).
    """

    def __init__(self, weight: np.ndarray, bias: np.ndarray, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__(weight=weight, bias=bias)
        self.momentum, self.eps, self.training = momentum, eps, True
        self.running_mean, self.running_var = np.zeros_like(weight), np.ones_like(weight)

    def forward(self, x: np.ndarray) -> np.ndarray:
        if self.training:
            mean, var, n = x.mean(axis=0), x.var(axis=0), len(x)
            self.running_mean = (1 - self.momentum) * self.running_mean + self.momentum * mean
            self.running_var = (1 - self.momentum) * self.running_var + self.momentum * var * n / (n - 1)
        else:
            mean, var = self.running_mean, self.running_var
        self.scale = 1 / np.sqrt(var + self.eps)
        self.normalized = (x - mean) * self.scale
        return self.params["weight"] * self.normalized + self.params["bias"]

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.grads["weight"] = (dy * self.normalized).sum(axis=0)
        self.grads["bias"] = dy.sum(axis=0)
        d = dy * self.params["weight"]
        if self.training:  # mean and variance depend on x too
            d = d - d.mean(axis=0) - self.normalized * (d * self.normalized).mean(axis=0)
        return d * self.scale


class LayerNorm(Layer):
    """The same over the features of each row, so that no row depends on another (Ba et al. 2016). Framework:
    ``tg.nn.functional.layer_norm``, ``tg.nn.LayerNorm``.

    weight: γ (D,). bias: β (D,). x: (..., D).
    Backward: dγ, dβ summed over all rows; dx = (d - mean(d) - x̂ ∘ mean(d ∘ x̂)) / √(σ² + ε) with d = γ ∘ dy and means over the features.
    """

    def __init__(self, weight: np.ndarray, bias: np.ndarray, eps: float = 1e-5) -> None:
        super().__init__(weight=weight, bias=bias)
        self.eps = eps

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.scale = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + self.eps)
        self.normalized = (x - x.mean(axis=-1, keepdims=True)) * self.scale
        return self.params["weight"] * self.normalized + self.params["bias"]

    def backward(self, dy: np.ndarray) -> np.ndarray:
        rows = tuple(range(dy.ndim - 1))
        self.grads["weight"] = (dy * self.normalized).sum(axis=rows)
        self.grads["bias"] = dy.sum(axis=rows)
        d = dy * self.params["weight"]
        d = d - d.mean(axis=-1, keepdims=True) - self.normalized * (d * self.normalized).mean(axis=-1, keepdims=True)
        return d * self.scale
