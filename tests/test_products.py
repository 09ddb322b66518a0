"""What sums of products promise beyond the checks that every operator passes."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, AxisError, DtypeError, ShapeError
from tinygrad_ja.nn import functional as F
from tinygrad_ja.ops.products import _cheapest_splits


def test_the_sum_is_expanded_to_the_product_and_never_the_other_way_round():
    assert tg.addmm(tg.tensor([10.0]), tg.ones(2, 3), tg.ones(3, 4)).tolist() == [[13.0] * 4] * 2
    with pytest.raises(ShapeError, match="expand"):
        tg.addmm(tg.ones(5, 2, 2), tg.ones(2, 3), tg.ones(3, 2))


def test_factors_of_integer_tensors_are_integers():
    a = tg.tensor([[1, 2], [3, 4]])
    assert tg.addmm(a, a, a, beta=2, alpha=3).dtype == tg.int64
    with pytest.raises(ArgumentError, match=r"alpha = 0\.5"):
        tg.addmm(a, a, a, alpha=0.5)


def test_dtypes_are_not_mixed():
    with pytest.raises(DtypeError, match="TG-T001"):
        tg.addmm(tg.ones(2, 2, dtype=tg.float64), tg.ones(2, 2), tg.ones(2, 2))


@pytest.mark.parametrize(
    "name, ndims", [("addmm", (2, 2)), ("addmv", (2, 1)), ("addr", (1, 1)), ("baddbmm", (3, 3)), ("addbmm", (3, 3))]
)
def test_functions_of_fixed_rank_refuse_others(name, ndims):
    factors = [tg.ones(*(2,) * (n + 1)) for n in ndims]
    with pytest.raises(ShapeError, match="TG-S002"):
        getattr(tg, name)(tg.ones(2), *factors)


def test_a_stack_of_another_length_is_refused():
    for call in (tg.addbmm, tg.baddbmm):
        with pytest.raises(ShapeError, match=r"\(2, 2, 2\) and \(3, 2, 2\)"):
            call(tg.ones(1), tg.ones(2, 2, 2), tg.ones(3, 2, 2))


def test_half_precision_adds_up_in_single():
    x = tg.ones(1, 4096, dtype=tg.float16)
    assert tg.addmm(tg.zeros(1, dtype=tg.float16), x, x.T).item() == 4096
    assert tg.linalg.vecdot(x, x).item() == 4096


def test_the_vector_product_is_orthogonal_to_both_factors():
    rng = np.random.default_rng(0)
    a, b = tg.tensor(rng.normal(size=(5, 3))), tg.tensor(rng.normal(size=(5, 3)))
    c = tg.linalg.cross(a, b)
    np.testing.assert_allclose(tg.linalg.vecdot(a, c).numpy(), 0, atol=1e-6)
    np.testing.assert_allclose(c.numpy(), np.cross(a.numpy(), b.numpy()), rtol=1e-6)


def test_vector_products_need_three_components():
    with pytest.raises(ShapeError, match="size 3"):
        tg.linalg.cross(tg.ones(2, 2), tg.ones(2, 2))
    with pytest.raises(ShapeError, match="axis of size 3"):
        tg.cross(tg.ones(2, 2), tg.ones(2, 2))
    with pytest.raises(ShapeError, match="as many axes"):
        tg.linalg.cross(tg.ones(3), tg.ones(2, 3))
    with pytest.raises(AxisError, match="TG-I001"):
        tg.linalg.cross(tg.ones(2, 3), tg.ones(2, 3), dim=2)


def test_a_trace_is_the_sum_of_a_diagonal_and_its_gradient_the_identity():
    x = tg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
    y = tg.trace(x)
    y.backward()
    assert y.item() == 6.0
    assert x.grad.tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    with pytest.raises(ShapeError, match="trace"):
        tg.trace(tg.ones(2, 2, 2))


@pytest.mark.parametrize(
    "a, b, dims, failure, text",
    [
        ((2, 3), (3, 2), -1, ArgumentError, "0 to the number of axes"),
        ((2, 3), (3, 2), 3, ArgumentError, "0 to the number of axes"),
        ((2, 4), (3, 2), ([1], [0]), ShapeError, "as long as"),
        ((2, 2), (2, 2), ([0, 0], [0, 1]), ArgumentError, "each once"),
        ((2, 2), (2, 2), ([0], [0, 1]), ArgumentError, "each once"),
        ((2, 2), (2, 2), ([0], [0], [0]), ArgumentError, "pair"),
        ((2, 2), (2, 2), ([5], [0]), AxisError, "TG-I001"),
    ],
)
def test_axes_that_cannot_be_contracted_are_refused(a, b, dims, failure, text):
    with pytest.raises(failure, match=text):
        tg.tensordot(tg.ones(*a), tg.ones(*b), dims)


def test_a_kronecker_product_of_two_products_is_the_product_of_two_kronecker_products():
    a, b, c, d = (tg.tensor(np.random.default_rng(i).normal(size=(2, 2))) for i in range(4))
    np.testing.assert_allclose(tg.kron(a @ b, c @ d).numpy(), (tg.kron(a, c) @ tg.kron(b, d)).numpy(), rtol=1e-4, atol=1e-6)


def test_multi_dot_takes_the_cheapest_order():
    # Cormen et al., section 15.2: the best order is (A1 (A2 A3)) ((A4 A5) A6)
    split = _cheapest_splits((30, 35, 15, 5, 10, 20, 25))
    assert (split[0, 5], split[0, 2], split[3, 5]) == (2, 0, 4)


def test_multi_dot_refuses_what_is_no_chain():
    for shapes in [[(2, 3), (2, 3)], [(2, 2), (2,), (2, 2)], [(2, 2, 2), (2, 2)]]:
        with pytest.raises(ShapeError, match="multi_dot"):
            tg.linalg.multi_dot([tg.ones(*shape) for shape in shapes])
    with pytest.raises(ArgumentError, match="two factors"):
        tg.linalg.multi_dot([tg.ones(2, 2)])


@pytest.mark.parametrize(
    "shapes",
    [[(2, 3), (3, 4), (5, 3, 4)], [(2, 2), (2, 4), (5, 3, 4)], [(2, 3), (2, 4), (5, 3, 4), (4,)], [(2, 3), (2, 4), (3, 4)]],
)
def test_a_bilinear_form_that_does_not_fit_states_the_rule(shapes):
    with pytest.raises(ShapeError, match=r"bilinear: .*\(o,i,j\)"):
        F.bilinear(*[tg.ones(*shape) for shape in shapes])


def test_raw_arrays_give_raw_arrays():
    a = np.arange(4.0).reshape(2, 2)
    for made in (tg.addmm(a, a, a), tg.tensordot(a, a), tg.kron(a, a), tg.trace(a), tg.linalg.multi_dot([a, a, a])):
        assert isinstance(made, (np.ndarray, np.generic))


def test_a_0d_tensor_has_no_axis_to_sum_over():
    with pytest.raises(ArgumentError, match="dims"):
        tg.tensordot(tg.tensor(1.0), tg.tensor(2.0), ([0], [0]))
