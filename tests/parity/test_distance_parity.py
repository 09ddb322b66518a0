"""Distances, similarities and the layers made of them, beside PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from parity.beside_torch import compare, random
from parity.test_products_parity import second_order

import tinygrad_ja as tg

ORDERS = [0, 0.5, 1, 1.5, 2, 3, math.inf]
NEAR = np.array([[0.0, 0.0, 0.0], [1.0, -2.0, 2.0], [0.0, 0.0, 0.0]])
FAR = np.array([[0.0, 0.0, 0.0], [2.0, -1.0, 2.0]])


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("a, b", [((3, 4), (5, 4)), ((2, 3, 4), (2, 5, 4)), ((2, 1, 3, 4), (6, 5, 4)), ((1, 1), (30, 1))])
def test_cdist(p, a, b):
    for dtype, tolerance in ((np.float64, 1e-8), (np.float32, 2e-4)):
        x, y = random(*a).astype(dtype), random(*b, seed=1).astype(dtype)
        compare(lambda s, x, y: s.m.cdist(x, y, p), x, y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("a, b", [((0, 3), (2, 3)), ((2, 3), (0, 3)), ((2, 0), (3, 0)), ((0, 2, 3), (0, 2, 3))])
def test_cdist_of_nothing(p, a, b):
    compare(lambda s, x, y: s.m.cdist(x, y, p), random(*a), random(*b))


@pytest.mark.parametrize("p", ORDERS)
def test_equal_points_and_ties(p):
    compare(lambda s, x, y: s.m.cdist(x, y, p), NEAR, FAR)
    compare(lambda s, x: s.F.pdist(x, p), NEAR)
    compare(lambda s, x, y: s.m.dist(x, y, p), NEAR[:2], FAR, gradients=p > 0)


@pytest.mark.parametrize("mode", ["use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist"])
@pytest.mark.parametrize("rows", [3, 40])
def test_both_ways_to_a_euclidean_distance(mode, rows):
    compare(lambda s, x, y: s.m.cdist(x, y, 2.0, mode), random(rows, 4), random(5, 4, seed=1), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("shape", [(5, 3), (1, 3), (0, 3), (2, 1)])
def test_pdist(p, shape):
    # PyTorch's backward of no pair at all crashes
    compare(lambda s, x: [s.F.pdist(x, p), s.m.pdist(x, p)], random(*shape), rtol=1e-9, atol=1e-9, gradients=shape[0] > 1)


@pytest.mark.parametrize("p", [0.5, 1, 2, 3, math.inf])
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("a, b", [((3, 4), (3, 4)), ((4,), (3, 4)), ((2, 1, 4), (3, 4)), ((0, 4), (0, 4))])
def test_pairwise_distance(p, keepdim, a, b):
    compare(lambda s, x, y: s.F.pairwise_distance(x, y, p, 1e-3, keepdim), random(*a), random(*b, seed=1), rtol=1e-9)


@pytest.mark.parametrize(
    "a, b, dim", [((3, 4), (3, 4), 1), ((3, 4), (3, 4), 0), ((4,), (3, 4), -1), ((2, 1, 3), (4, 3), 2), ((4, 1), (4, 3), 1)]
)
def test_cosine_similarity(a, b, dim):
    compare(lambda s, x, y: s.F.cosine_similarity(x, y, dim), random(*a), random(*b, seed=1), rtol=1e-10)
    compare(lambda s, x, y: s.m.cosine_similarity(x, y, dim, eps=3.0), random(*a), random(*b, seed=1), gradients=False)


def test_cosine_similarity_of_zero_and_of_other_dtypes():
    compare(lambda s, x, y: s.F.cosine_similarity(x, y), NEAR[:2], FAR)
    compare(
        lambda s, x, y: s.F.cosine_similarity(x, y),
        np.array([[1, 2, -3], [0, 4, 1]]),
        random(2, 3, dtype=np.float32),
        atol=1e-6,
    )
    compare(lambda s, x, y: s.F.cosine_similarity(x, y), random(2, 3, seed=1), random(2, 3, dtype=np.float32), atol=1e-6)
    x, y = np.full((1, 4), 300, np.float16), np.ones((1, 4), np.float16)
    compare(lambda s, x, y: s.F.cosine_similarity(x, y), x, y, rtol=1e-3, gradients=False)


@pytest.mark.parametrize("p", [1, 2, 3, math.inf])
@pytest.mark.parametrize("dim", [0, 1, -1, (0, 1)])
def test_normalize(p, dim):
    compare(lambda s, x: s.F.normalize(x, p, dim), random(3, 4), rtol=1e-10)
    compare(lambda s, x: s.F.normalize(x, p, dim, eps=1e-3), NEAR[1:], rtol=1e-10, gradients=p != math.inf)


@pytest.mark.parametrize("p", [0.5, 1, 2, 3, math.inf])
@pytest.mark.parametrize("shape, dim", [((3, 4), 0), ((3, 4), 1), ((2, 3, 4), -2), ((0, 4), 0)])
def test_renorm(p, shape, dim):
    for maxnorm in (0.5, 2.0, 100.0, 0.0):
        compare(
            lambda s, x, m=maxnorm: [s.m.renorm(x, p, dim, m), x.renorm(p, dim, m), (x * 1).renorm_(p, dim, m)],
            random(*shape),
            rtol=1e-9,
        )


def test_dist_broadcasts():
    compare(lambda s, x, y: [s.m.dist(x, y), x.dist(y, 3)], random(2, 3), random(3, seed=1), rtol=1e-10)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_second_order(p):
    second_order(lambda s, x, y: s.F.pairwise_distance(x, y, p), random(3, 4), random(3, 4, seed=1))
    second_order(lambda s, x, y: s.F.cosine_similarity(x, y), random(3, 4), random(3, 4, seed=1))
    second_order(lambda s, x: s.F.normalize(x, p), random(3, 4))
    second_order(lambda s, x: s.m.renorm(x, p, 0, 0.5), random(3, 4))
    second_order(lambda s, x, y: s.m.cdist(x, y, 2.0, "use_mm_for_euclid_dist"), random(3, 4), random(5, 4, seed=1))


LAYERS = [
    ("CosineSimilarity", (), [(3, 4), (3, 4)]),
    ("CosineSimilarity", (0, 1e-3), [(3, 4), (3, 4)]),
    ("PairwiseDistance", (), [(3, 4), (3, 4)]),
    ("PairwiseDistance", (1.0, 1e-3, True), [(3, 4), (4,)]),
    ("Bilinear", (3, 4, 5), [(2, 3), (2, 4)]),
    ("Bilinear", (3, 4, 5, False), [(6, 2, 3), (6, 2, 4)]),
]


@pytest.mark.parametrize("name, arguments, shapes", LAYERS)
def test_layers(name, arguments, shapes):
    ours, theirs = getattr(tg.nn, name)(*arguments).double(), getattr(torch.nn, name)(*arguments).double()
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    arrays = [random(*shape, seed=i) for i, shape in enumerate(shapes)]
    compare(lambda s, *xs: (ours if s.m is tg else theirs)(*xs), *arrays, rtol=1e-10)
    for mine, other in zip(ours.parameters(), theirs.parameters()):
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=1e-10)


def test_bilinear_starts_as_pytorch_does():
    tg.manual_seed(0)
    layer = tg.nn.Bilinear(16, 30, 40)  # uniform in ±1/√16
    for p in layer.parameters():
        assert abs(p).max().item() <= 0.25
    assert layer.weight.std().item() == pytest.approx(0.25 / math.sqrt(3), rel=0.02)
