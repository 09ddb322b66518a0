"""Products with a sum added, over chosen axes, of vectors and of many factors, beside PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from parity.beside_torch import OURS, THEIRS, compare, random


def second_order(call, *arrays, rtol=1e-9):
    """Gradients of the summed squares of gradients agree, too."""
    found = []
    for s in (OURS, THEIRS):
        tensors = [s.tensor(a).requires_grad_() for a in arrays]
        gradient = s.m.autograd.grad if s is THEIRS else s.m.grad
        made = call(s, *tensors)
        loss = sum((y * y).sum() for y in (made if isinstance(made, (tuple, list)) else [made]))
        first = gradient(loss, tensors, create_graph=True)
        found.append([h.detach().numpy() for h in gradient(sum((g * g).sum() for g in first), tensors)])
    for ours, theirs in zip(*found):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol)


OPTIONS = [{}, {"beta": 0.5, "alpha": 2.0}, {"beta": 2.0}]


@pytest.mark.parametrize("options", OPTIONS)
def test_products_with_a_sum_added(options):
    for first in [(2, 4), (4,), (1,), (2, 1), ()]:
        compare(lambda s, c, x, y: s.m.addmm(c, x, y, **options), random(*first), random(2, 3), random(3, 4))
        compare(lambda s, c, x, y: s.m.baddbmm(c, x, y, **options), random(*first), random(5, 2, 3), random(5, 3, 4))
        compare(lambda s, c, x, y: s.m.addbmm(c, x, y, **options), random(*first), random(5, 2, 3), random(5, 3, 4))
        compare(lambda s, c, x, y: s.m.addr(c, x, y, **options), random(*first), random(2), random(4))
    for first in [(2,), (1,), ()]:
        compare(lambda s, c, x, y: s.m.addmv(c, x, y, **options), random(*first), random(2, 3), random(3))


def test_beta_of_zero_ignores_nan():
    nan = math.nan
    for name, c, a, b in [
        ("addmm", (2, 4), (2, 3), (3, 4)),
        ("addmv", (2,), (2, 3), (3,)),
        ("addr", (2, 3), (2,), (3,)),
        ("addbmm", (2, 4), (5, 2, 3), (5, 3, 4)),
        ("baddbmm", (5, 2, 4), (5, 2, 3), (5, 3, 4)),
    ]:
        compare(
            lambda s, x, y, c=c, name=name: getattr(s.m, name)(s.tensor(np.full(c, nan)), x, y, beta=0), random(*a), random(*b)
        )


def test_in_place_and_methods():
    compare(lambda s, c, x, y: (c * 1).addmm_(x, y, beta=0.5), random(2, 4), random(2, 3), random(3, 4))
    compare(lambda s, c, x, y: (c * 1).baddbmm_(x, y), random(5, 2, 4), random(5, 2, 3), random(5, 3, 4))
    compare(lambda s, c, x, y: (c * 1).addbmm_(x, y), random(2, 4), random(5, 2, 3), random(5, 3, 4))
    compare(lambda s, c, x, y: (c * 1).addmv_(x, y, alpha=2.0), random(2), random(2, 3), random(3))
    compare(lambda s, c, x, y: (c * 1).addr_(x, y), random(2, 3), random(2), random(3))
    compare(lambda s, c, x, y: c.addmm(x, y), random(2, 4), random(2, 3), random(3, 4))


@pytest.mark.parametrize("name, shapes", [("addmm", [(2, 2), (2, 3), (3, 2)]), ("addr", [(2, 2), (2,), (2,)])])
def test_integers(name, shapes):
    arrays = [np.arange(1, math.prod(shape) + 1).reshape(shape) for shape in shapes]
    compare(lambda s, *xs: getattr(s.m, name)(*xs, beta=2, alpha=3), *arrays)


def test_addr_promotes():
    x, y = random(2, dtype=np.float32), random(2, dtype=np.float32)
    compare(lambda s, c, x, y: s.m.addr(c, x, y), random(2, 2), x, y, gradients=False)


def test_products_of_vectors():
    compare(lambda s, x, y: [s.m.vdot(x, y), x.vdot(y)], random(3), random(3, seed=1))
    for dim in (-1, 0, 1):
        compare(lambda s, x, y, dim=dim: s.linalg.vecdot(x, y, dim=dim), random(3, 4), random(3, 4, seed=1))
    compare(lambda s, x, y: s.linalg.vecdot(x, y), random(2, 1, 3), random(4, 3))
    compare(lambda s, x: [s.m.trace(x), x.trace()], random(3, 4))
    compare(lambda s, x: s.m.trace(x), np.arange(6, dtype=np.int32).reshape(2, 3))


@pytest.mark.parametrize(
    "a, b, dim", [((3,), (3,), -1), ((2, 3), (2, 3), 1), ((3, 2), (3, 2), 0), ((4, 3, 2), (1, 3, 2), -2), ((0, 3), (0, 3), 1)]
)
def test_cross(a, b, dim):
    compare(lambda s, x, y: s.linalg.cross(x, y, dim=dim), random(*a), random(*b, seed=1))
    compare(lambda s, x, y: [s.m.cross(x, y, dim=dim), x.cross(y, dim)], random(*a), random(*b, seed=1))


@pytest.mark.filterwarnings("ignore")
def test_cross_finds_the_first_axis_of_three():
    compare(lambda s, x, y: s.m.cross(x, y), random(2, 3, 3), random(2, 3, 3, seed=1))


@pytest.mark.parametrize(
    "a, b",
    [((2,), (3,)), ((2, 3), (4, 5)), ((2,), (3, 4)), ((2, 3), (4,)), ((), (2, 2)), ((2, 1, 2), (3, 2, 1)), ((0, 2), (3, 1))],
)
def test_kron(a, b):
    compare(lambda s, x, y: s.m.kron(x, y), random(*a), random(*b, seed=1))


@pytest.mark.parametrize(
    "a, b, dims",
    [
        ((2, 3), (3, 4), 1),
        ((2, 3, 4), (3, 4, 5), 2),
        ((2,), (3, 4), 0),
        ((2, 3, 4), (4, 3, 5), ([1, 2], [1, 0])),
        ((2, 3, 4), (4, 3, 5), ((-2, 2), (1, 0))),
        ((2, 1), (3, 2), ([1], [0])),
        ((2, 3), (2, 3), ([0, 1], [0, 1])),
        ((2, 3), (2, 3), ([], [])),
        ((2, 0), (0, 3), 1),
    ],
)
def test_tensordot(a, b, dims):
    compare(lambda s, x, y: s.m.tensordot(x, y, dims), random(*a), random(*b, seed=1))


@pytest.mark.parametrize(
    "shapes",
    [
        [(2, 3), (3, 4)],
        [(2, 30), (30, 3), (3, 20)],
        [(5,), (5, 2), (2, 3)],
        [(2, 5), (5, 3), (3,)],
        [(4,), (4, 4), (4,)],
        [(2, 3), (3, 4), (4, 5), (5, 2)],
    ],
)
def test_multi_dot(shapes):
    arrays = [random(*shape, seed=i) for i, shape in enumerate(shapes)]
    compare(lambda s, *xs: s.linalg.multi_dot(list(xs)), *arrays, rtol=1e-11)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 8, -1, -3])
def test_matrix_power(n):
    x = random(2, 3, 3) + 3 * np.eye(3)
    compare(lambda s, x: s.linalg.matrix_power(x, n), x, rtol=1e-9, gradients=n != 0)
    compare(lambda s, x: [s.m.matrix_power(x, n), x.matrix_power(n)], x, rtol=1e-9, gradients=n != 0)


def test_matrix_power_of_integers():
    compare(lambda s, x: [s.linalg.matrix_power(x, 0), s.linalg.matrix_power(x, 3)], np.arange(4).reshape(2, 2))


@pytest.mark.parametrize("shape", [(), (4,), (2, 4), (0,)])
@pytest.mark.parametrize("bias", [False, True])
def test_bilinear(shape, bias):
    arrays = [random(*shape, 2), random(*shape, 3, seed=1), random(5, 2, 3, seed=2)] + ([random(5)] if bias else [])
    compare(lambda s, *xs: s.F.bilinear(*xs), *arrays)


def test_diagonal():
    compare(lambda s, x: s.linalg.diagonal(x, offset=1), random(2, 3, 4))
    compare(lambda s, x: s.linalg.diagonal(x, dim1=0, dim2=2), random(2, 3, 4))


@pytest.mark.parametrize(
    "call, shapes",
    [
        (lambda s, c, x, y: s.m.addbmm(c, x, y), [(2, 2), (3, 2, 2), (3, 2, 2)]),
        (lambda s, x, y: s.m.kron(x, y), [(2, 2), (2, 1)]),
        (lambda s, x, y: s.linalg.cross(x, y), [(2, 3), (2, 3)]),
        (lambda s, x, y: s.m.tensordot(x, y, 1), [(2, 3), (3, 2)]),
        (lambda s, x, y, w: s.F.bilinear(x, y, w), [(2, 2), (2, 3), (2, 2, 3)]),
    ],
)
def test_second_order(call, shapes):
    second_order(call, *[random(*shape, seed=i) for i, shape in enumerate(shapes)])
