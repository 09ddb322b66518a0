"""Losses beside PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from parity.beside_torch import OURS, THEIRS, compare, random

REDUCTIONS = ["mean", "sum", "none"]
SHAPES = [((5, 4), (5,)), ((4,), ()), ((2, 4, 3), (2, 3)), ((2, 4, 3, 2), (2, 3, 2)), ((1, 1), (1,)), ((40, 40), (40,))]


def _classes(shape, classes, ignored=None):
    target = np.random.default_rng(2).integers(0, classes, shape)
    if ignored is not None and target.size > 1:
        target.flat[::3] = ignored
    return target


def _class_count(shape):
    return shape[0] if len(shape) == 1 else shape[1]


@pytest.mark.parametrize("shape, target_shape", SHAPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [None, -100, 1])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_class_indices(shape, target_shape, reduction, weighted, ignored, smoothing):
    classes = _class_count(shape)
    if ignored == 1 and classes < 2:
        return
    target = _classes(target_shape, classes, ignored)
    weight = np.random.default_rng(3).uniform(0.5, 2.0, classes) if weighted else None
    options = {"reduction": reduction, "label_smoothing": smoothing}
    if ignored is not None:
        options["ignore_index"] = ignored

    def call(s, x):
        return s.F.cross_entropy(x, s.tensor(target), None if weight is None else s.tensor(weight), **options)

    compare(call, random(*shape))


@pytest.mark.parametrize("shape, target_shape", SHAPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_of_probabilities(shape, target_shape, reduction, weighted, smoothing):
    classes = _class_count(shape)
    weight = np.random.default_rng(3).uniform(0.5, 2.0, classes) if weighted else None
    probabilities = np.abs(random(*shape, seed=5))

    def call(s, x, p):
        w = None if weight is None else s.tensor(weight)
        return s.F.cross_entropy(x, p, w, reduction=reduction, label_smoothing=smoothing)

    compare(call, random(*shape), probabilities)


@pytest.mark.parametrize("scale", [1.0, 20.0, 1e4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy_of_small_and_large_logits(scale, dtype):
    target = _classes((16,), 10)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    x = (random(16, 10) * scale).astype(dtype)
    compare(lambda s, x: s.F.cross_entropy(x, s.tensor(target)), x, rtol=tolerance, atol=tolerance)
    compare(lambda s, x: s.F.cross_entropy(x.transpose(0, 1), s.tensor(target)), x.T.copy(), rtol=tolerance, atol=tolerance)


@pytest.mark.filterwarnings("ignore")
def test_cross_entropy_where_every_target_is_ignored():
    target = np.full((3,), -100)
    compare(lambda s, x: s.F.cross_entropy(x, s.tensor(target)), random(3, 4), gradients=False)
    compare(lambda s, x: s.F.cross_entropy(x, s.tensor(target), reduction="sum"), random(3, 4))


def test_second_order_of_cross_entropy():
    target, found = _classes((5,), 4), []
    for s in (OURS, THEIRS):
        x = s.tensor(random(5, 4)).requires_grad_()
        gradient = s.m.autograd.grad if s is THEIRS else s.m.grad
        (g,) = gradient(s.F.cross_entropy(x, s.tensor(target), label_smoothing=0.1), x, create_graph=True)
        (h,) = gradient((g * g).sum(), x)
        found.append(h.numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("shape, target_shape", SHAPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_nll_loss(shape, target_shape, reduction, weighted):
    classes = _class_count(shape)
    target = _classes(target_shape, classes, -100)
    weight = np.random.default_rng(3).uniform(0.5, 2.0, classes) if weighted else None

    def call(s, x):
        return s.F.nll_loss(x, s.tensor(target), None if weight is None else s.tensor(weight), reduction=reduction)

    compare(call, random(*shape))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss"])
@pytest.mark.filterwarnings("ignore")
def test_differences(name, reduction):
    compare(lambda s, x, y: getattr(s.F, name)(x, y, reduction=reduction), random(3, 4), random(3, 4, seed=1))
    compare(lambda s, x, y: getattr(s.F, name)(x, y, reduction=reduction), random(3, 4), random(4, seed=1))
    compare(lambda s, x: getattr(s.F, name)(x, x.detach(), reduction=reduction), random(3, 4))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy(reduction, weighted):
    weight = np.abs(random(3, 4, seed=3)) if weighted else None
    p, t = np.random.default_rng(0).uniform(0.01, 0.99, (2, 3, 4))

    def call(s, p, t):
        return s.F.binary_cross_entropy(p, t, None if weight is None else s.tensor(weight), reduction=reduction)

    compare(call, p, t)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_binary_cross_entropy_of_certain_probabilities(dtype):
    p = np.array([0.0, 1.0, 0.0, 1.0, 1e-30], dtype)
    t = np.array([0.0, 1.0, 1.0, 0.0, 1.0], dtype)
    compare(lambda s, p: s.F.binary_cross_entropy(p, s.tensor(t), reduction="none"), p, rtol=1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("positive", [False, True])
def test_binary_cross_entropy_with_logits(reduction, weighted, positive):
    weight = np.abs(random(3, 4, seed=3)) if weighted else None
    pos_weight = np.abs(random(4, seed=4)) if positive else None
    t = np.random.default_rng(0).uniform(0, 1, (3, 4))

    def call(s, x, t):
        w = None if weight is None else s.tensor(weight)
        p = None if pos_weight is None else s.tensor(pos_weight)
        return s.F.binary_cross_entropy_with_logits(x, t, w, reduction=reduction, pos_weight=p)

    compare(call, random(3, 4) * 3, t)


def test_binary_cross_entropy_with_large_logits():
    x, t = np.array([1e4, -1e4, 1e4, -1e4, 0.0]), np.array([1.0, 0.0, 0.0, 1.0, 0.5])
    compare(lambda s, x: s.F.binary_cross_entropy_with_logits(x, s.tensor(t), reduction="none"), x)
