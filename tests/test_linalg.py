"""What products promise beyond the checks that every operator passes."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, DtypeError, ShapeError
from tinygrad_ja.nn import functional as F
from tinygrad_ja.ops.norms import linalg_norm


def test_a_product_that_does_not_fit_states_the_rule_and_the_shapes():
    with pytest.raises(ShapeError, match=r"matmul: the shapes do not fit the rule .*m,k.*k,n.* Given: \(2, 3\) and \(2, 3\)"):
        tg.ones(2, 3) @ tg.ones(2, 3)
    with pytest.raises(ShapeError, match="linear"):
        F.linear(tg.ones(2, 3), tg.ones(4, 2))


def test_a_product_of_two_dtypes_is_refused():
    with pytest.raises(DtypeError, match="TG-T001"):
        tg.ones(2, 2) @ tg.ones(2, 2, dtype=np.float64)


def test_functions_of_fixed_rank_refuse_others():
    for call in (tg.mm, tg.bmm, tg.mv, tg.dot, tg.outer):
        with pytest.raises(ShapeError, match="TG-S002"):
            call(tg.ones(1, 1, 1, 1), tg.ones(1, 1, 1, 1))
    with pytest.raises(ShapeError, match="bmm"):
        tg.bmm(tg.ones(1, 2, 2), tg.ones(3, 2, 2))


def test_the_gradient_of_a_product():
    a = tg.tensor([[1.0, 2.0]], requires_grad=True)
    b = tg.tensor([[3.0], [4.0]], requires_grad=True)
    (a @ b).sum().backward()
    assert a.grad.tolist() == [[3.0, 4.0]]
    assert b.grad.tolist() == [[1.0], [2.0]]


def test_a_stack_times_a_matrix_gives_that_matrix_one_gradient():
    a, b = tg.ones(5, 3, 4), tg.ones(4, 2).requires_grad_()
    (a @ b).sum().backward()
    assert b.grad.tolist() == [[15.0] * 2] * 4


def test_linear_without_bias_and_of_a_vector():
    w = tg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert F.linear(tg.tensor([1.0, 1.0]), w).tolist() == [3.0, 7.0]
    assert F.linear(tg.ones(2, 3, 2), w, tg.tensor([1.0, 0.0])).shape == (2, 3, 2)


def test_an_equation_that_is_none_is_explained():
    x = tg.ones(2, 3)
    for equation, fault in [("ij,jk", "one term"), ("i->i", "as many indices"), ("ij->ik", "each index"), ("i1->", "letters")]:
        with pytest.raises(ArgumentError, match=fault):
            tg.einsum(equation, x)
    with pytest.raises(ShapeError, match="one size"):
        tg.einsum("ij,ij->", x, tg.ones(2, 2))


def test_the_gradient_of_an_index_that_is_summed_away_is_constant_along_it():
    x = tg.ones(2, 3).requires_grad_()
    y = tg.tensor([1.0, 2.0])
    tg.einsum("ij,i->", x, y).backward()
    assert x.grad.tolist() == [[1.0] * 3, [2.0] * 3]


def test_the_trace_by_einsum():
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    y = tg.einsum("ii", x)
    y.backward()
    assert y.item() == 5.0
    assert x.grad.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_matrix_norms_take_column_and_row_sums():
    x = tg.tensor([[1.0, -2.0], [3.0, 4.0]])
    assert linalg_norm(x, 1).item() == 6.0
    assert linalg_norm(x, math.inf).item() == 7.0
    assert linalg_norm(x).item() == pytest.approx(math.sqrt(30.0))
    with pytest.raises(ArgumentError, match="ord"):
        linalg_norm(x, "max")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_any_size_has_rows_that_add_up_to_one(dtype):
    for offset in (-1e4, -300.0, -30.0, 0.0, 59.0, 61.0, 300.0):
        x = tg.tensor(np.random.default_rng(0).normal(size=(6, 9)) + offset, dtype=dtype)
        y = tg.softmax(x, -1)
        np.testing.assert_allclose(y.sum(-1).numpy(), np.ones(6), rtol=1e-6)
        np.testing.assert_allclose(tg.log_softmax(x, -1).numpy(), np.log(y.numpy()), rtol=1e-5, atol=1e-5)


def test_softmax_is_as_exact_as_float32_allows():
    x = (np.random.default_rng(0).normal(size=(50, 40)) * 8).astype(np.float32)
    wide = x.astype(np.float64)
    exact = np.exp(wide - wide.max(1, keepdims=True))
    exact /= exact.sum(1, keepdims=True)
    np.testing.assert_allclose(tg.softmax(tg.tensor(x), 1).numpy(), exact, rtol=6e-7)
    np.testing.assert_allclose(tg.log_softmax(tg.tensor(x), 1).numpy(), np.log(exact), rtol=3e-6, atol=1e-6)


def test_a_mask_of_minus_infinity_gives_exact_zeros_and_no_nan_gradient():
    x = tg.tensor([[0.0, -math.inf, 1.0]], requires_grad=True)
    y = tg.softmax(x, -1)
    assert y.tolist()[0][1] == 0.0
    (y * y).sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_a_vector_norm_has_a_number_as_order():
    with pytest.raises(ArgumentError, match="use matrix_norm"):
        tg.linalg.vector_norm(tg.ones(2, 2), "fro")
