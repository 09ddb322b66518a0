"""Medians, quantiles and other order statistics beside PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from parity.beside_torch import compare, random

nan = math.nan
WITH_NAN = np.array([[1.0, nan, 0.0, nan, 3.0], [nan, nan, nan, nan, nan], [5.0, 2.0, 4.0, 1.0, 3.0]])
DTYPES = ["float16", "float32", "float64", "int32", "int64", "uint8"]


@pytest.mark.parametrize("name", ["median", "nanmedian", "mode"])
@pytest.mark.parametrize("shape", [(5,), (4,), (3, 4), (2, 5, 3), (1,), ()])
@pytest.mark.parametrize("keepdim", [False, True])
def test_along_an_axis(name, shape, keepdim):
    for dim in range(-max(len(shape), 1), max(len(shape), 1)):
        compare(lambda s, x, dim=dim: getattr(s.m, name)(x, dim, keepdim), random(*shape))
    if name != "mode":
        compare(lambda s, x: getattr(x, name)(), random(*shape))


@pytest.mark.parametrize("name", ["median", "nanmedian"])
def test_medians_with_nan(name):
    compare(lambda s, x: getattr(s.m, name)(x, 1), WITH_NAN)
    compare(lambda s, x: getattr(s.m, name)(x, 0, True), WITH_NAN)
    compare(lambda s, x: getattr(s.m, name)(x), WITH_NAN)
    compare(lambda s, x: getattr(s.m, name)(x), np.array([nan, nan]))


@pytest.mark.parametrize("name", ["median", "nanmedian"])
def test_equal_elements_share_the_gradient_of_the_whole_median(name):
    compare(lambda s, x: getattr(s.m, name)(x), np.array([2.0, 1.0, 2.0, 3.0, 2.0]))
    compare(lambda s, x: getattr(s.m, name)(x * 2), np.array([[2.0, 1.0], [1.0, 3.0]]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype):
    x = np.array([[3, 1, 2, 1, 7], [0, 9, 9, 4, 4]]).astype(dtype)
    gradients = dtype.startswith("float")
    compare(lambda s, x: [s.m.median(x, 1).values, s.m.median(x)], x, gradients=gradients)
    compare(lambda s, x: s.m.kthvalue(x, 2, 1).values, x, gradients=gradients)
    compare(lambda s, x: s.m.mode(x, 1), x, gradients=gradients)
    compare(lambda s, x: s.m.msort(x), x, gradients=gradients)


@pytest.mark.filterwarnings("ignore")
def test_nothing_to_choose_from():
    compare(lambda s, x: s.m.median(x), np.zeros(0))
    for name in ("median", "nanmedian", "mode"):
        compare(lambda s, x, name=name: getattr(s.m, name)(x, 1), np.zeros((0, 3)))


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("keepdim", [False, True])
def test_kth_values(k, keepdim):
    compare(lambda s, x: s.m.kthvalue(x, k, keepdim=keepdim), random(3, 4))
    compare(lambda s, x: s.m.kthvalue(x, k, 0, keepdim), random(4, 3))
    compare(lambda s, x: x.kthvalue(k, -2), random(2, 4, 3))
    compare(lambda s, x: s.m.kthvalue(x, k), np.array([1.0, nan, 0.0, 3.0]))
    compare(lambda s, x: s.m.kthvalue(x, 1, 0, keepdim), np.array(2.0))


@pytest.mark.parametrize("values", [[1, 2, 2, 1, 3], [3, 3, 1, 1], [4, 3, 2, 1], [7], [2, 2, 2]])
def test_the_mode_is_the_smallest_of_the_most_frequent_and_the_last_of_them_is_picked(values):
    compare(lambda s, x: s.m.mode(x), np.array(values))
    compare(lambda s, x: s.m.mode(x, 0, True), np.array(values, np.float64))
    compare(lambda s, x: s.m.mode(x), np.array([values, values[::-1]], np.float64))


@pytest.mark.parametrize("name", ["quantile", "nanquantile"])
@pytest.mark.parametrize("interpolation", ["linear", "lower", "higher", "midpoint", "nearest"])
@pytest.mark.parametrize("dim", [None, 0, -1, 1])
@pytest.mark.parametrize("keepdim", [False, True])
def test_quantiles(name, interpolation, dim, keepdim):
    options = {"keepdim": keepdim, "interpolation": interpolation}
    for q in (0.0, 0.3, 0.5, 1.0):
        compare(lambda s, x, q=q: getattr(s.m, name)(x, q, dim, **options), random(3, 4))
        compare(lambda s, x, q=q: getattr(x, name)(s.tensor(q).reshape(()), dim, **options), random(3, 4))
    compare(lambda s, x, q: getattr(s.m, name)(x, q, dim, **options), random(3, 4, 2), np.array([0.1, 0.55, 0.9]))


@pytest.mark.parametrize("name", ["quantile", "nanquantile"])
@pytest.mark.parametrize("dim", [None, 0, 1])
@pytest.mark.parametrize("interpolation", ["linear", "lower", "nearest"])
def test_quantiles_with_nan(name, dim, interpolation):
    call = lambda s, x, q: getattr(s.m, name)(x, q, dim, interpolation=interpolation)  # noqa: E731
    compare(call, WITH_NAN, np.array([0.2, 0.6]), gradients=False)
    compare(call, WITH_NAN[2:], np.array([0.2, 0.6]), gradients=interpolation == "linear")


def test_quantiles_of_one_number_and_in_float32():
    compare(lambda s, x: s.m.quantile(x, 0.5, 0), np.array(3.0))
    compare(lambda s, x: s.m.quantile(x, 0.5, keepdim=True), np.array(3.0))
    compare(lambda s, x: s.m.quantile(x, 0.3, 1), random(5, 7, dtype=np.float32), rtol=1e-6, atol=1e-6)


def test_sorting_the_first_axis():
    compare(lambda s, x: [s.m.msort(x), x.msort()], random(4, 3))
    compare(lambda s, x: s.m.msort(x), np.array(1.0))


@pytest.mark.parametrize("name", ["max", "min"])
def test_the_other_tensor_by_name(name):
    compare(lambda s, x, y: getattr(s.m, name)(x, other=y), random(2, 3), random(2, 3, seed=1))


def test_a_product_from_the_left():
    compare(lambda s, x, y: x.__rmatmul__(y), random(3, 2), random(4, 3))
