"""Losses on the stand-in for a GPU: they ask for nothing that CuPy refuses, and give the values of the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_ja import nn
from tinygrad_ja.core.tensor import Tensor
from tinygrad_ja.nn import functional as F
from tinygrad_ja.testing import strict

RNG = np.random.default_rng(0)
X, Y, Z = RNG.normal(size=(3, 4, 3))
SIGNS, CLASSES = np.array([1, -1, 1, -1]), np.array([0, 2, 1, 1])
W = np.array([0.5, 1.0, 2.0])
STEPS = RNG.normal(size=(6, 2, 4))
TREE = nn.HuffmanTree([3, 2, 1, 1])
CALLS = {
    "cross_entropy": lambda x, t, w: F.cross_entropy(x, t, w, label_smoothing=0.1),
    "nll_loss": lambda x, t, w: F.nll_loss(x, t, w),
    "multi_margin_loss": lambda x, t, w: F.multi_margin_loss(x, t, 2, 1.0, w),
    "focal_loss": lambda x, t, w: F.focal_loss(x, t, 1.5, w),
}
CASES = {
    **{name: (call, X, CLASSES, W) for name, call in CALLS.items()},
    "mse_loss": (lambda x, y, w: F.mse_loss(x, y, weight=w), X, Y, Z),
    "huber_loss": (lambda x, y, w: F.huber_loss(x, y, delta=0.5, weight=w), X, Y, Z),
    "smooth_l1_loss": (F.smooth_l1_loss, X, Y),
    "kl_div": (lambda x, y: F.kl_div(x, y, reduction="batchmean"), X, np.abs(Y)),
    "poisson_nll_loss": (lambda x, y: F.poisson_nll_loss(x, y, full=True), X, np.array([[0, 1, 5]] * 4)),
    "gaussian_nll_loss": (F.gaussian_nll_loss, X, Y, np.abs(Z[:, :1])),
    "hinge_embedding_loss": (lambda x, t: F.hinge_embedding_loss(x, t), X, SIGNS[:, None]),
    "soft_margin_loss": (F.soft_margin_loss, X, SIGNS[:, None]),
    "margin_ranking_loss": (F.margin_ranking_loss, X, Y, SIGNS[:, None]),
    "cosine_embedding_loss": (F.cosine_embedding_loss, X, Y, SIGNS),
    "triplet_margin_loss": (lambda x, y, z: F.triplet_margin_loss(x, y, z, swap=True), X, Y, Z),
    "multilabel_margin_loss": (F.multilabel_margin_loss, X, np.array([[0, -1, 1], [2, 1, -1], [-1, 0, 0], [1, 2, 0]])),
    "multilabel_soft_margin_loss": (F.multilabel_soft_margin_loss, X, np.abs(Y) / 4, W),
    "sigmoid_focal_loss": (lambda x, t: F.sigmoid_focal_loss(x, t, reduction="sum"), X, np.abs(Y) / 4),
    "dice_loss": (lambda x, t: F.dice_loss(x.softmax(1), t), STEPS, RNG.integers(0, 2, (6, 4))),
    "ctc_loss": (
        lambda x, t: F.ctc_loss(x.log_softmax(-1), t, (6, 5), (2, 1), reduction="sum"),
        STEPS,
        np.array([[1, 2], [3, 0]]),
    ),
    "ctc_loss of joined targets": (
        lambda x, t, i, j: F.ctc_loss(x.log_softmax(-1), t, i, j),
        STEPS,
        np.array([1, 2, 3]),
        np.array([6, 5]),
        np.array([2, 1]),
    ),
    "negative_sampling_loss": (
        lambda x, u, t, n: F.negative_sampling_loss(x, t, n, u),
        X,
        Y,
        CLASSES,
        np.array([[0, 1], [3, 3], [2, 0], [1, 2]]),
    ),
    "hierarchical_softmax_loss": (
        lambda x, u, t, path, sign: F.hierarchical_softmax_loss(x, t, path, sign, u),
        X,
        Z[:3],
        CLASSES,
        TREE.path,
        TREE.sign,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_on_a_device(name):
    call, *arrays = CASES[name]
    made = []
    for place in (np.array, strict.array):
        tensors = [Tensor(place(a)) for a in arrays]
        tensors[0].requires_grad_()
        loss = call(*tensors)
        loss.backward()
        made.append((loss.array, tensors[0].grad.array))
    (value, gradient), (on_device, its_gradient) = made
    np.testing.assert_allclose(strict.peek(on_device), value, rtol=1e-12)
    np.testing.assert_allclose(strict.peek(its_gradient), gradient, rtol=1e-10, atol=1e-14)
