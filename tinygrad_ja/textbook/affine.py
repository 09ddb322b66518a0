"""Affine layer."""

from __future__ import annotations

import numpy as np

from .layer import Layer


class Affine(Layer):
    """y = x Wᵀ + b. Framework: ``tg.nn.functional.linear``, ``tg.nn.Linear``.

    weight: (M, D). bias: (M,). x: (N, D); y: (N, M).
    Backward: dx = dy W, dW = dyᵀ x, db = Σ_n dy.

    >>> import numpy as np
    >>> layer = Affine(np.array([[1.0, 2.0]]), np.array([0.5]))
    >>> layer.forward(np.array([[3.0, 4.0]]))
    array([[11.5]])
    >>> layer.backward(np.array([[1.0]])), layer.grads["weight"]
    (array([[1., 2.]]), array([[3., 4.]]))
    """

    def __init__(self, weight: np.ndarray, bias: np.ndarray) -> None:
        super().__init__(weight=weight, bias=bias)

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.x = x
        return x @ self.params["weight"].T + self.params["bias"]

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.grads["weight"] = dy.T @ self.x
        self.grads["bias"] = dy.sum(axis=0)
        return dy @ self.params["weight"]
