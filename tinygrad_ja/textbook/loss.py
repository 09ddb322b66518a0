"""Softmax with cross entropy, and negative sampling."""

from __future__ import annotations

import numpy as np

from .layer import Layer, sigmoid, softmax


class SoftmaxCrossEntropy(Layer):
    """E = -1/N Σ_n log y_n[t_n] with y = softmax(x). Framework: ``tg.nn.functional.cross_entropy``.

    x: scores (N, C); target: classes (N,). Backward: dx = (y - onehot(t)) / N, the two derivatives cancelling to a difference.
    """

    def forward(self, x: np.ndarray, target: np.ndarray) -> np.ndarray:
        self.y, self.target = softmax(x), target
        rows = np.arange(len(target))
        largest = x.max(axis=1)
        log_sum = largest + np.log(np.exp(x - largest[:, None]).sum(axis=1))
        return np.asarray((log_sum - x[rows, target]).mean())

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dx = self.y.copy()
        dx[np.arange(len(self.target)), self.target] -= 1
        return dy * dx / len(self.target)


class NegativeSampling(Layer):
    """E = 1/N Σ_n [-log σ(h_n · w_t) - Σ_k log σ(-h_n · w_k)]: the right word t against K wrong ones (Mikolov et al. 2013). Framework:
    ``tg.nn.functional.negative_sampling_loss``.

    weight: the words' output vectors (V, D). h: (N, D); target: (N,); negatives: (N, K).
    Backward: each score s has ∂E/∂s = (σ(s) - label) / N, with label 1 for t and 0 for the rest.
    """

    def __init__(self, weight: np.ndarray) -> None:
        super().__init__(weight=weight)

    def forward(self, h: np.ndarray, target: np.ndarray, negatives: np.ndarray) -> np.ndarray:
        self.h = h
        self.words = np.concatenate([target[:, None], negatives], axis=1)
        self.labels = np.zeros(self.words.shape, h.dtype)
        self.labels[:, 0] = 1
        vectors = self.params["weight"][self.words]
        self.scores = (vectors * h[:, None, :]).sum(axis=2)
        signed = np.where(self.labels == 1, self.scores, -self.scores)
        return np.asarray(np.logaddexp(0, -signed).sum(axis=1).mean())

    def backward(self, dy: np.ndarray) -> np.ndarray:
        weight = self.params["weight"]
        ds = dy * (sigmoid(self.scores) - self.labels) / len(self.h)
        self.grads["weight"] = np.zeros_like(weight)
        np.add.at(self.grads["weight"], self.words, ds[:, :, None] * self.h[:, None, :])
        return (ds[:, :, None] * weight[self.words]).sum(axis=1)
