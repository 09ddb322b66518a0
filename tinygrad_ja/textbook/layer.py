"""What the textbook's layers share."""

from __future__ import annotations

from typing import Any

import numpy as np


class Layer:
    """A layer with a backward of its own, as textbooks write it.

    ``forward(...)`` takes and returns NumPy arrays and keeps what backward needs; ``backward(dy)`` takes ∂E/∂y, stores ∂E/∂p of each
    parameter in ``grads`` and returns ∂E/∂x (a tuple when there are several inputs). ``params`` and ``grads`` have PyTorch's names and
    layouts, so that the same arrays can be given to the framework's layer.
    """

    def __init__(self, **params: np.ndarray) -> None:
        self.params = params
        self.grads: dict[str, np.ndarray] = {}

    def forward(self, *inputs: Any) -> Any:
        """The layer's output."""
        raise NotImplementedError

    def backward(self, dy: Any) -> Any:
        """Gradients of the inputs, from that of the output."""
        raise NotImplementedError


def sigmoid(x: np.ndarray) -> np.ndarray:
    """σ(x) = 1 / (1 + e^-x), written with tanh so that nothing overflows."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def softmax(x: np.ndarray) -> np.ndarray:
    """e^x over its sum along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_backward(y: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """dx = y ∘ (dy - Σ y ∘ dy), since ∂y_i/∂x_j = y_i (δ_ij - y_j)."""
    return y * (dy - (y * dy).sum(axis=-1, keepdims=True))
