"""What scans promise beyond the checks that every operator passes."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, AxisError, ShapeError
from tinygrad_ja.ops.scan import linear_recurrence


def _gradient(y, x):
    (g,) = tg.grad(y, x)
    return g.numpy()


def test_a_recurrence_is_what_a_loop_computes():
    rng = np.random.default_rng(0)
    x, a = rng.normal(size=(7, 3)), rng.normal(size=(7, 3))
    y = np.zeros((7, 3))
    for k in range(7):
        y[k] = x[k] + a[k] * (y[k - 1] if k else 0)
    np.testing.assert_allclose(linear_recurrence(tg.tensor(x), tg.tensor(a), 0).numpy(), y, rtol=1e-12)
    reverse = linear_recurrence(tg.tensor(x[::-1].copy()), tg.tensor(a[::-1].copy()), 0, True)
    np.testing.assert_allclose(reverse.numpy(), y[::-1], rtol=1e-12)


def test_the_derivative_of_a_product_is_the_product_of_the_others_up_to_each_place():
    x = tg.tensor([2.0, 0.0, 3.0, 0.0, 5.0], requires_grad=True)
    last = tg.cumprod(x, 0)[2]
    np.testing.assert_array_equal(_gradient(last, x), [0.0, 6.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(_gradient(tg.cumprod(x, 0)[4], x), np.zeros(5))


def test_third_derivatives_of_products_with_two_zeros():
    x = tg.tensor([0.0, 0.0, 3.0], dtype=np.float64, requires_grad=True)
    y = tg.cumprod(x, 0)[2]  # x0 x1 x2, whose third derivative by each of them is 1
    (first,) = tg.grad(y, x, create_graph=True)
    (second,) = tg.grad(first[0], x, create_graph=True)
    assert second.tolist() == [0.0, 3.0, 0.0]
    (third,) = tg.grad(second[1], x)
    assert third.tolist() == [0.0, 0.0, 1.0]


def test_products_of_a_long_axis_have_gradients_where_a_division_would_overflow():
    x = tg.full((400,), 1e-3).requires_grad_()
    np.testing.assert_allclose(_gradient(tg.cumprod(x, 0)[0], x), [1.0] + [0.0] * 399)


@pytest.mark.parametrize(("name", "expected"), [("cummax", [0, 1, 2, 2, 4]), ("cummin", [0, 0, 0, 3, 3])])
def test_the_last_of_ties_gets_the_gradient(name, expected):
    x = tg.tensor([1.0, 3.0, 3.0, 1.0, 5.0], requires_grad=True)
    values, indices = getattr(tg, name)(x, 0)
    assert indices.tolist() == expected and indices.dtype == np.int64
    np.testing.assert_array_equal(_gradient(values.sum(), x), np.bincount(expected, minlength=5))


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 65])
def test_running_extrema_of_any_length(length):
    x = np.random.default_rng(length).integers(0, 9, (length, 2))
    np.testing.assert_array_equal(tg.cummax(tg.tensor(x), 0).values.numpy(), np.maximum.accumulate(x))
    np.testing.assert_array_equal(tg.cummin(tg.tensor(x), 0).values.numpy(), np.minimum.accumulate(x))


def test_log_sum_exps_neither_overflow_nor_make_nan():
    x = tg.tensor([-math.inf, -2000.0, 1000.0, 1000.0], requires_grad=True)
    y = tg.logcumsumexp(x, 0)
    np.testing.assert_allclose(y.detach().numpy(), [-math.inf, -2000.0, 1000.0, 1000.0 + math.log(2.0)], rtol=1e-6)
    np.testing.assert_allclose(_gradient(y.sum(), x), [0.0, 1.0, 1.5, 0.5], rtol=1e-4)


def test_running_sums_and_log_sum_exps_agree():
    x = np.random.default_rng(0).normal(size=(3, 33))
    expected = np.log(np.cumsum(np.exp(x), 1))
    np.testing.assert_allclose(tg.logcumsumexp(tg.tensor(x), 1).numpy(), expected, rtol=1e-12)


def test_half_precision_is_accumulated_in_single():
    assert tg.cumsum(tg.ones(4000, dtype=np.float16), 0)[-1].item() == 4000
    y = tg.logcumsumexp(tg.zeros(3000, dtype=np.float16), 0)
    assert y.dtype == np.float16 and abs(y[-1].item() - math.log(3000)) < 0.01


def test_integrals_of_polynomials():
    x = tg.linspace(0.0, 1.0, 101, dtype=np.float64)
    assert abs(tg.trapezoid(x * x, x).item() - 1 / 3) < 1e-4
    np.testing.assert_allclose(tg.cumulative_trapezoid(x, dx=0.01)[-1].item(), 0.5)


def test_differences_undo_running_sums():
    x = tg.tensor([[3.0, 1.0, 4.0], [1.0, 5.0, 9.0]])
    assert tg.diff(tg.cumsum(x, 1), prepend=tg.zeros(2, 1)).tolist() == x.tolist()


def test_arguments_that_do_not_fit_are_explained():
    x = tg.ones(2, 3)
    for name in ("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", "diff"):
        with pytest.raises(AxisError, match=rf"TG-I001\] {name}: dim 2"):
            getattr(tg, name)(x, dim=2)
    with pytest.raises(ArgumentError, match="n = -1"):
        tg.diff(x, -1)
    with pytest.raises(ShapeError, match="at least 1 axis"):
        tg.diff(tg.tensor(1.0))
    with pytest.raises(ShapeError, match="at least 1 axis"):
        tg.trapezoid(tg.tensor(1.0))
    with pytest.raises(ArgumentError, match="x or dx"):
        tg.trapezoid(x, x, dx=1.0)
    with pytest.raises(ShapeError, match="as many elements along dim"):
        tg.trapezoid(x, tg.ones(2))
