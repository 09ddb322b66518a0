"""What reductions promise beyond the checks that every operator passes."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, AxisError


def _gradient(y, x):
    (g,) = tg.grad(y, x)
    return g.numpy()


def test_integers_add_up_in_int64_and_average_in_float32():
    x = tg.tensor([200, 100], dtype=np.uint8)
    assert x.sum().dtype == np.int64 and x.sum().item() == 300
    assert tg.tensor([True, True]).sum().item() == 2
    assert tg.mean(tg.tensor([1, 2])).dtype == np.float32
    assert tg.var(tg.tensor([1, 2])).dtype == np.float32


@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "amax", "logsumexp", "prod", "norm"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_keep_their_dtype(name, dtype):
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=dtype)
    assert getattr(tg, name)(x, dim=1).dtype == dtype


def test_a_half_precision_sum_does_not_stop_growing():
    x = tg.ones(5000, dtype=np.float16)
    assert x.sum().item() == 5000


def test_a_list_and_an_empty_list_of_dims():
    x = tg.ones(2, 3, 4)
    assert tg.sum(x, [0, 2]).shape == (3,)
    assert tg.sum(x, []).shape == ()
    assert tg.amax(x).shape == ()


def test_a_dim_out_of_range_is_explained():
    with pytest.raises(AxisError, match=r"\[TG-I001\] sum: dim 2 is out of range for shape \(2, 3\)"):
        tg.sum(tg.ones(2, 3), 2)
    with pytest.raises(AxisError, match="TG-I001"):
        tg.max(tg.ones(2, 3), -3)


def test_an_empty_mean_is_nan_and_an_empty_product_one():
    assert math.isnan(tg.mean(tg.zeros(0)).item())
    assert tg.prod(tg.zeros(0)).item() == 1.0
    assert tg.sum(tg.zeros(0)).item() == 0.0


def test_ties_of_a_full_maximum_share_the_gradient():
    x = tg.tensor([1.0, 3.0, 3.0], requires_grad=True)
    np.testing.assert_array_equal(_gradient(x.max(), x), [0.0, 0.5, 0.5])


def test_along_an_axis_the_first_of_ties_is_picked():
    x = tg.tensor([[1.0, 3.0, 3.0]], requires_grad=True)
    found = tg.max(x, 1)
    assert found.indices.tolist() == [1] and found.indices.dtype == np.int64
    np.testing.assert_array_equal(_gradient(found.values.sum(), x), [[0.0, 1.0, 0.0]])


def test_the_product_of_others_needs_no_division():
    x = tg.tensor([2.0, 0.0, 5.0], requires_grad=True)
    np.testing.assert_array_equal(_gradient(x.prod(), x), [0.0, 10.0, 0.0])


def test_norms_have_gradient_zero_at_zero():
    for p in (0, 1, 2, 3, 0.5):
        x = tg.zeros(3).requires_grad_()
        np.testing.assert_array_equal(_gradient(tg.norm(x, p), x), np.zeros(3))


def test_an_unknown_norm_is_explained():
    with pytest.raises(ArgumentError, match="p = 'l2' is not allowed"):
        tg.norm(tg.ones(2, 2), "l2")


def test_logsumexp_neither_overflows_nor_makes_nan():
    x = tg.tensor([[1000.0, 1000.0], [-math.inf, -math.inf]], requires_grad=True)
    y = tg.logsumexp(x, 1)
    np.testing.assert_allclose(y.detach().numpy(), [1000.0 + math.log(2.0), -math.inf], rtol=1e-6)
    np.testing.assert_allclose(_gradient(y.sum(), x), [[0.5, 0.5], [0.0, 0.0]], rtol=1e-4)


def test_the_small_and_the_large_text_of_a_sum_agree():
    rng = np.random.default_rng(0)
    for shape in [(3, 5), (64, 64), (65, 64), (300, 300)]:
        x = rng.normal(size=shape).astype(np.float32)
        for dim in (None, 0, 1):
            made = tg.sum(tg.tensor(x), dim).numpy()
            np.testing.assert_allclose(made, x.sum(dim, dtype=np.float64), rtol=0, atol=2e-4)


def test_sums_of_infinities_and_nan():
    x = tg.tensor([[math.inf, 1.0], [math.nan, 2.0]])
    assert tg.sum(x, 1).tolist()[0] == math.inf
    assert math.isnan(tg.sum(x, 1).tolist()[1])
    assert tg.sum(x, 0).tolist()[1] == 3.0
