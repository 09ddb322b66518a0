"""Scans along an axis beside PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from parity.beside_torch import OURS, THEIRS, compare, random

inf, nan = math.inf, math.nan
SCANS = ["cumsum", "cumprod", "cummax", "cummin", "logcumsumexp"]
SHAPES = [
    ((5,), 0),
    ((3, 4), 0),
    ((3, 4), -1),
    ((2, 9, 3), 1),
    ((1,), 0),
    ((), 0),
    ((), -1),
    ((0,), 0),
    ((2, 0), 0),
    ((0, 3), 1),
]


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize(("shape", "dim"), SHAPES)
def test_along_an_axis(name, shape, dim):
    compare(lambda s, x: getattr(s.m, name)(x, dim), random(*shape))
    compare(lambda s, x: getattr(x, name)(dim=dim), random(*shape))


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "int32", "int64", "uint8", "bool"])
def test_dtypes(name, dtype):
    if name == "logcumsumexp" and not dtype.startswith("float"):
        return  # PyTorch has it for floats only
    x = np.array([[0, 1, 2, 1], [3, 0, 1, 4]]).astype(dtype)
    tolerance = {"float16": 2e-3, "float32": 1e-6}.get(dtype, 0)
    compare(lambda s, x: getattr(s.m, name)(x, 1), x, rtol=tolerance, atol=tolerance)


@pytest.mark.filterwarnings("ignore:overflow")
def test_long_scans_in_half_precision_are_accumulated_in_single():
    compare(lambda s, x: s.m.cumsum(x, 0), np.ones(3000, np.float16), rtol=1e-3)
    compare(lambda s, x: s.m.cumprod(x, 0), np.full(300, 1.001, np.float16), rtol=1e-3, gradients=False)


def test_a_result_of_another_dtype():
    compare(lambda s, x: s.m.cumsum(x, 0, dtype=s.m.float64), random(4, dtype=np.float32), rtol=1e-6)
    compare(lambda s, x: s.m.cumprod(x, 0, dtype=s.m.float64), random(4, dtype=np.float32), rtol=1e-6)
    compare(lambda s, x: s.m.cumprod(x, 0, dtype=s.m.float32), np.array([1, 2, 3]))


@pytest.mark.parametrize("zeros", [[], [0], [4], [2], [0, 3], [1, 2], [0, 1, 2, 3, 4]])
def test_products_with_zeros(zeros):
    x = random(5)
    x[zeros] = 0.0
    compare(lambda s, x: s.m.cumprod(x, 0), x)
    compare(lambda s, x: s.m.cumprod(x * 2, 1), np.stack([x, x[::-1]]))


def _second_order(side, call, x, first, second):
    gradient = side.m.autograd.grad if side is THEIRS else side.m.grad
    t = side.tensor(x).requires_grad_()
    (g,) = gradient((call(side, t) * side.tensor(first)).sum(), t, create_graph=True)
    (h,) = gradient((g * side.tensor(second)).sum(), t)
    return g.detach().numpy(), h.numpy()


@pytest.mark.parametrize("zeros", [[], [0], [2], [1, 3], [0, 1, 2]])
def test_second_order_of_products_with_zeros(zeros):
    x = random(5)
    x[zeros] = 0.0
    sides = [_second_order(s, lambda s, x: s.m.cumprod(x, 0), x, random(5, seed=1), random(5, seed=2)) for s in (OURS, THEIRS)]
    np.testing.assert_allclose(sides[0][0], sides[1][0], atol=1e-12)
    np.testing.assert_allclose(sides[0][1], sides[1][1], atol=1e-12)


def test_second_order_of_log_sum_exps():
    x = random(6) * 5
    sides = [
        _second_order(s, lambda s, x: s.m.logcumsumexp(x, 0), x, random(6, seed=1), random(6, seed=2)) for s in (OURS, THEIRS)
    ]
    np.testing.assert_allclose(sides[0][1], sides[1][1], atol=1e-12)


@pytest.mark.parametrize("name", ["cummax", "cummin"])
def test_the_last_of_ties_and_of_nan_is_picked(name):
    compare(lambda s, x: getattr(s.m, name)(x, 0), np.array([1.0, 3.0, 3.0, 2.0, 3.0, 1.0, 1.0]))
    compare(lambda s, x: getattr(s.m, name)(x, 0), np.array([1.0, 3.0, nan, 2.0, nan, 5.0]), gradients=False)
    compare(lambda s, x: getattr(s.m, name)(x, 1), np.array([[2, 2, 1, 1], [0, 5, 5, 0]]))
    compare(lambda s, x: getattr(s.m, name)(x, 0), np.array([True, False, True]))


@pytest.mark.filterwarnings("ignore:invalid value")
def test_log_sum_exps_of_extreme_numbers():
    compare(lambda s, x: s.m.logcumsumexp(x, 0), np.array([1000.0, 1000.0, -1000.0, 2000.0]))
    compare(lambda s, x: s.m.logcumsumexp(x, 0), np.array([-inf, -inf, 1.0, -inf, 2.0]), gradients=False)
    compare(lambda s, x: s.m.logcumsumexp(x, 0), np.array([0.0, inf, 1.0, nan]), gradients=False)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("dim", [0, -1])
def test_differences(n, dim):
    compare(lambda s, x: s.m.diff(x, n, dim), random(3, 4))
    compare(lambda s, x: x.diff(n=n, dim=dim), np.array([[1, 5, 2], [9, 9, 0]]))
    compare(lambda s, x: s.m.diff(x, n, dim), np.array([[True, False, False], [True, True, False]]))
    compare(lambda s, x, a, b: s.m.diff(x, n, dim, a, b), random(3, 4), random(3, 4, seed=1), random(3, 4, seed=2))
    compare(lambda s, x, a: s.m.diff(x, n, 1, prepend=a), random(3, 4), random(3, 1))
    compare(lambda s, x, a: s.m.diff(x, n, 1, append=a), random(3, 4), random(3, 2))


@pytest.mark.parametrize("name", ["trapezoid", "cumulative_trapezoid"])
def test_integrals(name):
    compare(lambda s, y: getattr(s.m, name)(y), random(5))
    for dim in (0, 1, -1):
        compare(lambda s, y, dim=dim: getattr(s.m, name)(y, dx=0.5, dim=dim), random(3, 4, 2))
        compare(lambda s, y, x, dim=dim: getattr(s.m, name)(y, x, dim=dim), random(3, 4, 2), random(3, 4, 2, seed=1))
        compare(lambda s, y, x, dim=dim: getattr(s.m, name)(y, x, dim=dim), random(4, 4, 4), random(4, seed=1))
    compare(lambda s, y, x: getattr(s.m, name)(y, x), random(3, 4), random(1, 4, seed=1))
    compare(lambda s, y: getattr(s.m, name)(y), np.array([[1, 2, 4]]))
    compare(lambda s, y: getattr(s.m, name)(y), random(2, 1))
    compare(lambda s, y: s.m.trapezoid(y, dim=0), random(1, 3))
    compare(lambda s, y: s.m.trapz(y, dx=2.0), random(4))
