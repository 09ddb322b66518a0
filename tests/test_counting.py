"""What counting, searching and statistics promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, AxisError, DtypeError, ShapeError
from tinygrad_ja.testing import strict


def test_the_inverse_puts_the_distinct_values_back():
    x = np.random.default_rng(0).integers(0, 4, (5, 6))
    values, inverse, counts = tg.unique(tg.tensor(x), return_inverse=True, return_counts=True)
    np.testing.assert_array_equal(values.numpy()[inverse.numpy()], x)
    np.testing.assert_array_equal(counts.numpy(), np.bincount(x.reshape(-1)))
    rows, where = tg.unique(tg.tensor(x[:, :2]), dim=0, return_inverse=True)
    np.testing.assert_array_equal(rows.numpy()[where.numpy()], x[:, :2])


def test_nan_differs_from_itself():
    assert tg.unique(tg.tensor([math.nan, 1.0, math.nan])).shape == (3,)


def test_runs_can_be_expanded_again():
    x = tg.tensor([1, 1, 2, 2, 2, 1])
    values, counts = tg.unique_consecutive(x, return_counts=True)
    assert tg.repeat_interleave(values, counts).tolist() == x.tolist()


def test_histograms_count_every_element_once():
    x = tg.randn(1000)
    counts = tg.histc(x, 13)
    assert counts.sum().item() == 1000 and counts.dtype == np.float32
    np.testing.assert_array_equal(tg.histc(x, 8, -1, 1).numpy(), np.histogram(x.numpy(), 8, (-1, 1))[0])


def test_every_row_is_searched_on_its_own():
    rng = np.random.default_rng(0)
    rows, values = np.sort(rng.normal(size=(4, 9)), -1), rng.normal(size=(4, 5))
    for side in ("left", "right"):
        made = tg.searchsorted(tg.tensor(rows), tg.tensor(values), side=side).numpy()
        np.testing.assert_array_equal(made, [np.searchsorted(row, v, side) for row, v in zip(rows, values)])


def test_counting_runs_on_the_stand_in_for_cupy():
    x = tg.tensor([[2, 0, 2], [1, 1, 2]], device="strict")
    flat = x.reshape(-1)
    assert tg.bincount(flat).tolist() == [1, 2, 3]
    assert tg.bincount(flat, tg.ones(6, device="strict")).tolist() == [1.0, 2.0, 3.0]
    assert [t.tolist() for t in tg.unique(x, return_inverse=True, return_counts=True)] == [
        [0, 1, 2],
        [[2, 0, 2], [1, 1, 2]],
        [1, 2, 3],
    ]
    assert tg.unique(x, dim=1).tolist() == [[0, 2, 2], [1, 1, 2]]
    assert tg.unique_consecutive(flat).tolist() == [2, 0, 2, 1, 2]
    assert tg.histc(x.float(), 3).tolist() == [1.0, 2.0, 3.0]
    assert tg.bucketize(x, tg.tensor([1, 2], device="strict")).tolist() == [[1, 0, 1], [0, 0, 1]]
    assert tg.cov(x.float()).tolist() == np.cov(strict.peek(x.array)).astype(np.float32).tolist()
    assert tg.quantile(x.float(), 0.5, 1).tolist() == [2.0, 1.0]


def test_covariance_is_numpys():
    x = np.random.default_rng(0).normal(size=(3, 6))
    f, a = np.array([1, 2, 3, 1, 1, 2]), np.linspace(0.5, 1.0, 6)
    made = tg.cov(tg.tensor(x), correction=2, fweights=tg.tensor(f), aweights=tg.tensor(a))
    np.testing.assert_allclose(made.numpy(), np.cov(x, ddof=2, fweights=f, aweights=a), rtol=1e-12)
    np.testing.assert_allclose(tg.corrcoef(tg.tensor(x)).numpy(), np.corrcoef(x), rtol=1e-12)


def test_means_without_nan_have_no_gradient_there():
    x = tg.tensor([[1.0, math.nan, 3.0], [math.nan, math.nan, 2.0]], requires_grad=True)
    (g,) = tg.grad(tg.nanmean(x, 1).sum(), x)
    assert g.tolist() == [[0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_no_degree_of_freedom_is_a_warning():
    with pytest.warns(RuntimeWarning, match="no degree of freedom"):
        assert tg.cov(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), correction=2).tolist() == [[math.inf] * 2] * 2


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: tg.bincount(tg.tensor([1.0])), DtypeError, "an integer dtype"),
        (lambda: tg.bincount(tg.tensor([[1]])), ShapeError, r"input \(n\)"),
        (lambda: tg.bincount(tg.tensor([1]), tg.ones(2)), ShapeError, r"weights \(n\)"),
        (lambda: tg.bincount(tg.tensor([-1])), ArgumentError, "no element is negative"),
        (lambda: tg.bincount(tg.tensor([1]), minlength=-1), ArgumentError, "minlength >= 0"),
        (lambda: tg.histc(tg.tensor([1])), DtypeError, "a floating dtype"),
        (lambda: tg.histc(tg.ones(2), 0), ArgumentError, "bins >= 1"),
        (lambda: tg.histc(tg.ones(2), 3, 4, 2), ArgumentError, "min < max"),
        (lambda: tg.histc(tg.tensor([1.0, math.inf])), ArgumentError, "a finite range"),
        (lambda: tg.searchsorted(tg.tensor(1.0), tg.ones(2)), ShapeError, "at least 1 axis"),
        (lambda: tg.searchsorted([1.0], tg.ones(2)), DtypeError, "TG-T002"),
        (lambda: tg.searchsorted(tg.ones(2), tg.tensor([1])), DtypeError, "TG-T001"),
        (lambda: tg.searchsorted(tg.ones(2, 3), tg.ones(3, 2)), ShapeError, r"sequence \(n\), or"),
        (lambda: tg.searchsorted(tg.ones(2), 1.0, side="both"), ArgumentError, "'left' or 'right'"),
        (lambda: tg.searchsorted(tg.ones(2), 1.0, right=True, side="left"), ArgumentError, "side = 'left'"),
        (lambda: tg.searchsorted(tg.ones(2), 1.0, sorter=tg.tensor([0])), ShapeError, "sorter has the shape"),
        (lambda: tg.searchsorted(tg.ones(2), 1.0, sorter=tg.ones(2)), DtypeError, "int64"),
        (lambda: tg.bucketize(tg.ones(2), tg.ones(1, 2)), ShapeError, r"boundaries \(n\)"),
        (lambda: tg.unique(tg.ones(2), dim=1), AxisError, "TG-I001"),
        (lambda: tg.unique(tg.ones(2, 0), dim=0), ShapeError, "no axis but dim is empty"),
        (lambda: tg.nanmean(tg.tensor([1])), DtypeError, "a floating dtype"),
        (lambda: tg.cov(tg.ones(1, 1, 1)), ShapeError, r"\(variables, samples\)"),
        (lambda: tg.cov(tg.ones(2, 3), fweights=tg.ones(3)), DtypeError, "an integer dtype"),
        (lambda: tg.cov(tg.ones(2, 3), aweights=tg.tensor([1, 1, 1])), DtypeError, "a floating dtype"),
        (lambda: tg.cov(tg.ones(2, 3), fweights=tg.tensor([1, 1])), ShapeError, "one number for each sample"),
        (lambda: tg.cov(tg.ones(2, 3), fweights=tg.tensor([1, -1, 1])), ArgumentError, "no weight is negative"),
    ],
)
def test_arguments_that_do_not_fit_are_explained(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
