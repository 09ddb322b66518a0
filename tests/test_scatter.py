"""What scatters, masks and windows promise beyond the checks that every operator passes."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the stand-in for CuPy
from tinygrad_ja.errors import ArgumentError, AxisError, DtypeError, ShapeError


def _gradients(y, *inputs):
    return [g.tolist() for g in tg.grad(y, inputs)]


REDUCTIONS = {"sum": np.sum, "prod": np.prod, "mean": np.mean, "amax": np.max, "amin": np.min}


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("device", ["cpu", "strict"])
def test_each_place_gets_the_reduction_of_what_arrives_there(reduce, include_self, device):
    rng = np.random.default_rng(0)
    x, src, index = rng.normal(size=4), rng.normal(size=12), rng.integers(0, 3, 12)
    expected = x.copy()
    for place in range(3):
        arrived = list(src[index == place]) + ([x[place]] if include_self else [])
        expected[place] = REDUCTIONS[reduce](arrived)
    on = [tg.tensor(a, device=device) for a in (x, index, src)]
    made = on[0].scatter_reduce(0, on[1], on[2], reduce, include_self=include_self)
    np.testing.assert_allclose(made.cpu().numpy(), expected, rtol=1e-12)


def test_ties_share_the_gradient_and_an_element_that_is_left_out_has_no_part():
    x = tg.tensor([2.0, 5.0], requires_grad=True)
    src = tg.tensor([2.0, 2.0, 1.0], requires_grad=True)
    index = tg.tensor([0, 0, 0])
    third = 1 / 3
    np.testing.assert_allclose(
        np.concatenate(_gradients(x.scatter_reduce(0, index, src, "amax").sum(), x, src)),
        [third, 1, third, third, 0],
        rtol=1e-6,
    )
    y = x.scatter_reduce(0, index, src, "amax", include_self=False)
    assert _gradients(y.sum(), x, src) == [[0.0, 1.0], [0.5, 0.5, 0.0]]


def test_second_derivatives_of_a_product_with_two_zeros():
    x = tg.ones(1, dtype=np.float64).requires_grad_()
    src = tg.tensor([0.0, 0.0, 3.0], dtype=np.float64, requires_grad=True)
    y = x.scatter_reduce(0, tg.tensor([0, 0, 0]), src, "prod")
    (first,) = tg.grad(y.sum(), src, create_graph=True)
    assert first.tolist() == [0.0, 0.0, 0.0]
    assert _gradients(first[0], src) == [[0.0, 3.0, 0.0]]


def test_the_source_of_a_mask_gets_its_gradients_in_order():
    x, source = tg.zeros(2, 2).requires_grad_(), tg.tensor([5.0, 6.0, 7.0], requires_grad=True)
    y = x.masked_scatter(tg.tensor([[True, False], [False, True]]), source)
    assert y.tolist() == [[5.0, 0.0], [0.0, 6.0]]
    assert _gradients((y * tg.tensor([[1.0, 2.0], [3.0, 4.0]])).sum(), x, source) == [[[0.0, 2.0], [3.0, 0.0]], [1.0, 4.0, 0.0]]


def test_infinities_outside_of_a_diagonal_stay_where_they_are():
    y = tg.full((2, 2), math.inf).diagonal_scatter(tg.tensor([1.0, 2.0]))
    assert y.tolist() == [[1.0, math.inf], [math.inf, 2.0]]


def test_overlapping_windows_add_their_cotangents():
    x = tg.arange(6.0).requires_grad_()
    assert _gradients(x.unfold(0, 3, 1).sum(), x) == [[1.0, 2.0, 3.0, 3.0, 2.0, 1.0]]
    assert _gradients(tg.as_strided(x, (4, 4), (0, 1), 1).sum(), x) == [[0.0, 4.0, 4.0, 4.0, 4.0, 0.0]]
    assert _gradients(tg.as_strided(x, (2, 3), (2, 1)).sum(), x) == [[1.0, 1.0, 2.0, 1.0, 1.0, 0.0]]


def test_windows_of_a_transposed_tensor_follow_its_own_order():
    x = tg.arange(6).reshape(2, 3).T
    assert x.unfold(0, 2, 1).tolist() == [[[0, 1], [3, 4]], [[1, 2], [4, 5]]]


def test_windows_share_no_memory():
    x = tg.arange(4.0)
    y = x.unfold(0, 2, 1)
    y[0] = 9.0
    assert x.tolist() == [0.0, 1.0, 2.0, 3.0] and y.tolist() == [[9.0, 9.0], [1.0, 2.0], [2.0, 3.0]]


@pytest.mark.parametrize(("rows", "width", "count"), [(3000, 64, 7), (2000, 100, 3000), (2000, 70, 70000), (1700, 64, 1)])
@pytest.mark.parametrize("first", [0, 1])
def test_many_long_rows_are_added_as_few_are(rows, width, count, first):
    rng = np.random.default_rng(0)
    index = rng.integers(first - 1, 1, rows) * rng.integers(0, count, rows)  # also from the end
    g = rng.integers(-9, 9, (rows, width)).astype(np.float32)
    expected = np.zeros((count, width), np.float32)
    np.add.at(expected, index, g)
    table = tg.zeros(count, width).requires_grad_()
    (found,) = tg.grad((table[tg.tensor(index)] * tg.tensor(g)).sum(), table)
    np.testing.assert_array_equal(found.numpy(), expected)


X, PLACES = tg.ones(3), tg.tensor([0, 1])


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: X.scatter_reduce(0, PLACES, tg.ones(2), "max"), ArgumentError, "one of sum, prod, mean, amax, amin"),
        (lambda: X.index_reduce(0, PLACES, tg.ones(2), "sum"), ArgumentError, "one of prod, mean, amax, amin"),
        (lambda: X.scatter_reduce(0, PLACES, tg.tensor([1, 2]), "sum"), DtypeError, "TG-T001"),
        (lambda: X.scatter_reduce(0, PLACES + 2, tg.ones(2), "amax"), AxisError, "index 3"),
        (lambda: X.scatter_reduce(0, PLACES, tg.ones(1), "sum"), ShapeError, "src is at least as large"),
        (lambda: X.index_reduce(0, PLACES, tg.ones(3), "amax"), ShapeError, "source like the input"),
        (lambda: X.masked_scatter(tg.tensor([True, True, False]), tg.ones(1)), ShapeError, "an element for each True"),
        (lambda: X.masked_scatter(tg.tensor([1, 0, 1]), tg.ones(2)), DtypeError, "bool"),
        (lambda: X.masked_scatter(X > 0, tg.tensor([1, 2, 3])), DtypeError, "TG-T001"),
        (lambda: X.put(tg.tensor([3]), tg.ones(1)), AxisError, "index 3"),
        (lambda: X.put(PLACES, tg.ones(3)), ShapeError, "as many elements in source"),
        (lambda: X.put(tg.ones(2), tg.ones(2)), DtypeError, "an integer dtype"),
        (lambda: X.put(PLACES, tg.tensor([1, 2])), DtypeError, "TG-T001"),
        (lambda: tg.ones(2, 2).diagonal_scatter(tg.ones(3)), ShapeError, r"\(3,\)"),
        (lambda: X.as_strided((2,), (2,), 1), ArgumentError, "element 3 exists; there are 3"),
        (lambda: X.as_strided((2,), (1, 1)), ArgumentError, "as many sizes as strides"),
        (lambda: X.as_strided((2,), (-1,), 2), ArgumentError, "none negative"),
        (lambda: X.unfold(0, 4, 1), ArgumentError, "0 <= size <= 3"),
        (lambda: X.unfold(0, 2, 0), ArgumentError, "step >= 1"),
        (lambda: X.unfold(1, 2, 1), AxisError, "TG-I001"),
    ],
)
def test_arguments_that_do_not_fit_are_explained(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_an_empty_index_changes_nothing():
    for x in (tg.tensor(2.0), tg.ones(2)):
        y = x.scatter_reduce(0, tg.zeros(0, dtype=tg.int64), tg.ones(0), "sum")
        assert y is not x and y.tolist() == x.tolist()


def test_the_product_of_bools_is_their_conjunction():
    x = tg.tensor([True, True, False])
    made = x.scatter_reduce(0, tg.tensor([0, 0, 1]), tg.tensor([True, False, True]), "prod")
    assert made.dtype == tg.bool and made.tolist() == [False, True, False]


def test_a_strided_view_never_leaves_its_memory() -> None:
    from tinygrad_ja.ops.strided import _view

    with pytest.raises(ValueError, match="reach outside of 6 elements"):
        _view(np, np.zeros(6), (3, 2), (2, 2), 0)


@pytest.mark.parametrize("smallest", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i8"])
def test_extremes_of_arrays_that_are_not_numpy_s_are_those_of_numpy(dtype: str, smallest: bool) -> None:
    """There floats go as integers; special values too keep their order, and NaN wins."""
    from tinygrad_ja.backend.extremes import extreme_at
    from tinygrad_ja.testing import strict

    rng = np.random.default_rng(0)
    for _ in range(100):
        to, values = [(3 * rng.standard_normal((n, 3))).astype(dtype) for n in (4, 6)]
        if dtype != "i8":
            for special in (np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324):
                to.flat[rng.integers(to.size)] = values.flat[rng.integers(values.size)] = special
        places, theirs = rng.integers(0, 4, 6), strict.ndarray(to.copy())
        extreme_at(np, to, places, values, smallest)
        extreme_at(strict.xp, theirs, strict.ndarray(places), strict.ndarray(values), smallest)
        np.testing.assert_array_equal(strict.peek(theirs), to)
