"""Scatters, masks and windows beside PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from parity.beside_torch import OURS, THEIRS, compare, random

INDEX = np.array([[0, 1, 2, 0], [1, 1, 1, 1]])
REDUCTIONS = ["sum", "prod", "mean", "amax", "amin"]


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("include_self", [True, False])
def test_scatter_reductions(reduce, include_self):
    for dim in (0, 1, -1):
        call = lambda s, x, i, src, dim=dim: s.m.scatter_reduce(x, dim, i, src, reduce, include_self=include_self)  # noqa: E731
        compare(call, random(3, 4), INDEX, random(2, 4, seed=1))
        compare(call, random(3, 5), INDEX, random(3, 6, seed=1), gradients=False)  # PyTorch has no gradient for it
        compare(call, random(3, 5, dtype=np.float32), INDEX, random(2, 4, seed=1, dtype=np.float32), rtol=1e-6, atol=1e-6)
        compare(call, random(3, 4, 2), np.ones((2, 3, 2), np.int64), random(2, 3, 2, seed=1))
    call = lambda s, x, i, src: x.scatter_reduce(0, i, src, reduce, include_self=include_self)  # noqa: E731
    compare(call, random(4), np.array([2, 2, 0]), random(3, seed=1))
    compare(call, np.array(2.0), np.array(0), np.array(3.0))
    compare(call, random(4), np.zeros(0, np.int64), random(0))


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "float16"])
def test_scatter_reductions_of_other_dtypes(reduce, include_self, dtype):
    x, src = np.array([7, 2, 5]).astype(dtype), np.array([1, 4, 2, 6]).astype(dtype)
    call = lambda s, x, i, src: s.m.scatter_reduce(x, 0, i, src, reduce, include_self=include_self)  # noqa: E731
    compare(call, x, np.array([0, 0, 2, 0]), src, rtol=1e-3)


def test_means_of_negative_integers_are_rounded_down():
    compare(lambda s, x, i, v: s.m.scatter_reduce(x, 0, i, v, "mean"), np.array([-7, 2]), np.array([0, 0]), np.array([1, 1]))


@pytest.mark.parametrize("reduce", ["amax", "amin"])
def test_ties_share_the_gradient(reduce):
    x, src = np.array([2.0, 5.0, 1.0]), np.array([2.0, 2.0, 1.0, 5.0])
    compare(lambda s, x, i, v: s.m.scatter_reduce(x, 0, i, v, reduce), x, np.array([0, 0, 0, 1]), src)
    compare(lambda s, x, i, v: x.scatter_reduce(0, i, v, reduce, include_self=False), x + 9, np.array([0, 0, 0, 1]), src)


@pytest.mark.parametrize("zeros", [[], [0], [0, 1], [0, 1, 3]])
@pytest.mark.parametrize("own", [1.0, 0.0])
@pytest.mark.filterwarnings("ignore")
def test_products_with_zeros(zeros, own):
    src = random(5)
    src[zeros] = 0.0
    x = random(3)
    x[0] *= own
    call = lambda s, x, i, v: s.m.scatter_reduce(x, 0, i, v, "prod")  # noqa: E731
    compare(call, x, np.array([0, 0, 1, 0, 1]), src)


def test_second_order_of_products():
    x, src, index = random(3), random(5, seed=1), np.array([0, 0, 1, 0, 1])
    found = []
    for s in (OURS, THEIRS):
        t, v = s.tensor(x).requires_grad_(), s.tensor(src).requires_grad_()
        gradient = s.m.autograd.grad if s is THEIRS else s.m.grad
        y = s.m.scatter_reduce(t, 0, s.tensor(index), v, "prod")
        first = gradient((y * y).sum(), (t, v), create_graph=True)
        second = gradient(sum((g * g).sum() for g in first), (t, v))
        found.append([g.detach().numpy() for g in (*first, *second)])
    for ours, theirs in zip(*found):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reduce", ["prod", "mean", "amax", "amin"])
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_reductions_of_slices(reduce, include_self):
    for dim, shape in [(0, (3, 4)), (1, (4, 3)), (-1, (2, 2, 3))]:
        source = list(shape)
        source[dim] = 4
        call = lambda s, x, i, v, dim=dim: s.m.index_reduce(x, dim, i, v, reduce, include_self=include_self)  # noqa: E731
        compare(call, random(*shape), np.array([0, 2, 0, 0]), random(*source, seed=1))


def test_masked_scatter():
    mask = np.array([[True, False, True], [False, False, True]])
    compare(lambda s, x, m, v: s.m.masked_scatter(x, m, v), random(2, 3), mask, random(5))
    compare(lambda s, x, m, v: x.masked_scatter(m, v), random(2, 3), mask[0], random(4, 2))
    compare(lambda s, x, m, v: s.m.masked_scatter(x, m, v), random(3), mask, random(3))
    compare(lambda s, x, m, v: s.m.masked_scatter(x, m, v), random(3), np.zeros(3, bool), random(0), gradients=False)
    compare(lambda s, x, m, v: s.m.masked_scatter(x, m, v), np.array([1, 2, 3]), mask[0], np.array([7, 8]))
    compare(lambda s, x, m, v: x.clone().masked_scatter_(m, v), random(2, 3), mask, random(5))


def test_put():
    compare(lambda s, x, i, v: s.m.put(x, i, v), random(2, 3), np.array([[0, -1]]), random(2))
    compare(lambda s, x, i, v: x.put(i, v, accumulate=True), random(2, 3), np.array([0, 4, 0, -2]), random(2, 2))
    compare(lambda s, x, i, v: x.clone().put_(i, v), random(4), np.array([3, 1]), random(2))


@pytest.mark.parametrize("offset", [0, 1, -1, 2])
def test_diagonal_scatter(offset):
    n = min(3 + min(offset, 0), 4 - max(offset, 0))
    compare(lambda s, x, v: s.m.diagonal_scatter(x, v, offset), random(3, 4), random(n))
    compare(lambda s, x, v: x.diagonal_scatter(v, offset, dim1=-1, dim2=0), random(4, 2, 3), random(2, n))


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((3, 3), (1, 1), 0),
        ((2, 2), (1, 2), 1),
        ((5,), (2,), 1),
        ((), (), 3),
        ((4, 2), (0, 1), 2),
        ((0, 3), (1, 1), 0),
        ((2, 3, 2), (3, 1, 2), 0),
    ],
)
def test_windows_into_memory(size, stride, offset):
    compare(lambda s, x: s.m.as_strided(x, size, stride, offset), random(3, 4))
    compare(lambda s, x: x.as_strided(size, stride, storage_offset=offset) * 2, random(12))


@pytest.mark.parametrize(("size", "step"), [(1, 1), (2, 1), (3, 2), (4, 4), (4, 1), (0, 1), (2, 3)])
def test_windows_along_an_axis(size, step):
    compare(lambda s, x: x.unfold(0, size, step), random(5))
    compare(lambda s, x: x.unfold(1, size, step), random(2, 6, 3))
    compare(lambda s, x: x.unfold(-1, size, step).unfold(1, 2, 1), random(2, 3, 7))
    compare(lambda s, x: x.transpose(0, 1).unfold(dimension=0, size=size, step=step), random(3, 5))
    if size <= 1:
        compare(lambda s, x: x.unfold(0, size, step), np.array(2.0))
