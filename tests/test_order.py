"""What order statistics promise beyond the checks that every operator passes."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, AxisError, DtypeError, ShapeError

nan = math.nan


def _gradient(y, x):
    (g,) = tg.grad(y, x)
    return g.numpy()


def test_the_median_of_an_even_number_is_the_lower_one():
    assert tg.median(tg.tensor([4, 1, 3, 2])).item() == 2
    values, indices = tg.median(tg.tensor([[4.0, 1.0], [1.0, 2.0]]), 1)
    assert values.tolist() == [1.0, 1.0] and indices.tolist() == [1, 0]


def test_equal_elements_share_the_gradient_of_the_whole_median_but_one_gets_it_along_an_axis():
    x = tg.tensor([2.0, 1.0, 2.0, 3.0], requires_grad=True)
    np.testing.assert_array_equal(_gradient(tg.median(x), x), [0.5, 0.0, 0.5, 0.0])
    found = tg.median(x, 0)
    np.testing.assert_array_equal(_gradient(found.values, x), np.eye(4)[found.indices.item()])


def test_nan_decides_a_median_unless_it_is_left_out():
    x = tg.tensor([[1.0, nan, 0.0], [5.0, 2.0, 4.0]])
    assert math.isnan(tg.median(x).item()) and tg.median(x, 1).indices.tolist() == [1, 2]
    assert tg.nanmedian(x).item() == 2.0 and tg.nanmedian(x, 1).values.tolist() == [0.0, 4.0]
    assert math.isnan(tg.nanmedian(tg.tensor([nan, nan])).item())


def test_quantiles_agree_with_numpys():
    x = np.random.default_rng(0).normal(size=(5, 8))
    for method in ("linear", "lower", "higher", "midpoint", "nearest"):
        made = tg.quantile(tg.tensor(x), tg.tensor([0.1, 0.5, 0.77], dtype=np.float64), 1, interpolation=method).numpy()
        np.testing.assert_allclose(made, np.quantile(x, [0.1, 0.5, 0.77], 1, method=method), rtol=1e-12)


def test_the_gradient_of_a_quantile_goes_to_its_neighbours_and_to_q():
    x = tg.tensor([10.0, 0.0, 30.0], dtype=np.float64, requires_grad=True)
    q = tg.tensor(0.25, dtype=np.float64, requires_grad=True)
    by_x, by_q = tg.grad(tg.quantile(x, q), [x, q])
    np.testing.assert_allclose(by_x.numpy(), [0.5, 0.5, 0.0])
    np.testing.assert_allclose(by_q.item(), 20.0)  # two intervals, the first 10 wide


def test_the_kth_value_is_that_of_the_sorted_axis():
    x = np.random.default_rng(0).normal(size=(4, 6))
    for k in range(1, 7):
        values, indices = tg.kthvalue(tg.tensor(x), k)
        np.testing.assert_array_equal(values.numpy(), np.sort(x)[:, k - 1])
        np.testing.assert_array_equal(np.take_along_axis(x, indices.numpy()[:, None], 1)[:, 0], values.numpy())


def test_of_equally_frequent_elements_the_smallest_is_the_mode():
    values, indices = tg.mode(tg.tensor([[5, 2, 5, 2, 9], [7, 7, 1, 1, 1]]))
    assert values.tolist() == [2, 1] and indices.tolist() == [3, 4]


def test_arguments_that_do_not_fit_are_explained():
    x = tg.ones(2, 3)
    with pytest.raises(ArgumentError, match="k = 4 is not allowed. Rule: 1 <= k <= 3"):
        tg.kthvalue(x, 4)
    for call in (tg.median, tg.nanmedian, tg.mode, lambda t, d: tg.kthvalue(t, 1, d)):
        with pytest.raises(ShapeError, match="at least one element"):
            call(tg.ones(2, 0), 1)
    with pytest.raises(ShapeError, match="at least one element"):
        tg.median(tg.zeros(0, dtype=np.int64))
    with pytest.raises(ArgumentError, match="interpolation = 'cubic'"):
        tg.quantile(x, 0.5, interpolation="cubic")
    with pytest.raises(ArgumentError, match="q = "):
        tg.quantile(x, 1.5)
    with pytest.raises(ArgumentError, match="q = "):
        tg.quantile(x, nan)
    with pytest.raises(DtypeError, match="float32 or float64"):
        tg.quantile(tg.tensor([1, 2]), 0.5)
    with pytest.raises(DtypeError, match="TG-T001"):
        tg.quantile(x, tg.tensor([0.5], dtype=np.float64))
    with pytest.raises(ShapeError, match="at most 1 axis"):
        tg.quantile(x, tg.ones(1, 1))
    with pytest.raises(ShapeError, match="at least one element"):
        tg.quantile(tg.zeros(0), 0.5)


@pytest.mark.parametrize("name", ["median", "nanmedian", "mode", "sort", "argsort"])
def test_one_dim_that_exists_is_needed(name):
    with pytest.raises(ArgumentError, match="an integer"):
        getattr(tg, name)(tg.ones(2, 3), (0, 1))
    with pytest.raises(AxisError, match=name):
        getattr(tg, name)(tg.tensor(1.0), 1)
