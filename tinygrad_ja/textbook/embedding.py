"""Embedding."""

from __future__ import annotations

import numpy as np

from .layer import Layer


class Embedding(Layer):
    """y = W[indices]: a product with one-hot vectors, without the product. Framework: ``tg.nn.functional.embedding``, ``tg.nn.Embedding``.

    weight: (V, D). indices: any shape (...); y: (..., D). Backward: each row of dy is added to the row that it came from; a row that was
    looked up twice gets both.
    """

    def __init__(self, weight: np.ndarray) -> None:
        super().__init__(weight=weight)

    def forward(self, indices: np.ndarray) -> np.ndarray:
        self.indices = indices
        return self.params["weight"][indices]

    def backward(self, dy: np.ndarray) -> None:
        """Indices have no gradient."""
        self.grads["weight"] = np.zeros_like(self.params["weight"])
        np.add.at(self.grads["weight"], self.indices, dy)
