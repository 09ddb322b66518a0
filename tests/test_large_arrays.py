"""What runs in threads and in blocks gives what the plain text gives, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.core.operator import OPERATORS, Array, backward_kernel, elementwise
from tinygrad_ja.nn import functional as F


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = tg.get_num_threads()
    tg.set_num_threads(2)
    yield
    tg.set_num_threads(before)


def both(call, *arrays, g_seed=9):
    """Values and gradients in float32 for contiguous arrays, and in float64 for a part of them at a time."""
    found = []
    for dtype in (np.float32, np.float64):
        leaves = [tg.tensor(a.astype(np.float32).astype(dtype)).requires_grad_() for a in arrays]
        y = call(*leaves)
        g = np.random.default_rng(g_seed).normal(size=y.shape).astype(np.float32).astype(dtype)
        y.backward(tg.tensor(g) if y.ndim else None)
        assert y.dtype == dtype and all(x.grad.dtype == dtype for x in leaves)
        found.append([y.detach().numpy(), *[x.grad.numpy() for x in leaves]])
    for fast, exact in zip(*found):
        np.testing.assert_allclose(fast, exact, rtol=2e-5, atol=3e-6 * max(1.0, np.abs(exact).max()))


ELEMENTWISE = {
    **{
        name: getattr(F, name) for name in "elu selu celu gelu leaky_relu logsigmoid mish relu softplus silu tanhshrink".split()
    },
    "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "elu of 2": lambda x: F.elu(x, 2.0),
    "leaky_relu of 0.3": lambda x: F.leaky_relu(x, 0.3),
    "softplus of 2": lambda x: F.softplus(x, 2.0, 5.0),
    "erf": tg.erf,
}


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("shape", [(400, 701), (5, 7)])
def test_element_wise_operators(name, shape):
    both(ELEMENTWISE[name], np.random.default_rng(0).normal(0.0, 3.0, shape))


@pytest.mark.parametrize("name", ["gelu", "mish", "leaky_relu"])
def test_other_memory_orders_and_a_cotangent_without_memory(name):
    x = np.random.default_rng(0).normal(size=(400, 701)).astype(np.float32)
    plain, other = [tg.tensor(x).requires_grad_() for _ in range(2)]
    other.array = np.asfortranarray(x)
    for leaf in (plain, other):
        getattr(F, name)(leaf).sum().backward()
    np.testing.assert_allclose(other.grad.numpy(), plain.grad.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("function", [tg.softmax, tg.log_softmax])
@pytest.mark.parametrize("shape", [(600, 500), (70000, 3), (3, 90000), (4, 300, 200)])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_softmax(function, shape, scale):
    both(lambda x: function(x, -1), np.random.default_rng(0).normal(0.0, scale, shape))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"ignore_index": 3}])
def test_cross_entropy(reduction, scale, options):
    target = tg.tensor(np.random.default_rng(1).integers(0, 500, 600))
    x = np.random.default_rng(0).normal(0.0, scale, (600, 500))
    both(lambda x: F.cross_entropy(x, target, reduction=reduction, **options) / 600, x)


def test_a_row_of_minus_infinity_is_nan_and_the_others_are_not():
    x = np.zeros((600, 500), np.float32)
    x[7] = -np.inf
    with np.errstate(invalid="ignore"):
        y = tg.softmax(x, -1)
    assert np.isnan(y[7]).all() and np.isfinite(np.delete(y, 7, 0)).all()


def test_a_backward_kernel_replaces_the_derivative_for_one_kind_of_array():
    @elementwise(lambda g, input: g * 3 * input * input)
    def cube_for_a_test(xp, input: Array):
        return input * input * input

    try:

        @backward_kernel(cube_for_a_test, np.ndarray)
        def fast(g, input):
            return (g * 100,)

        x = tg.tensor([2.0], requires_grad=True)
        assert tg.grad(cube_for_a_test(x), x)[0].tolist() == [100.0]
        assert tg.grad(cube_for_a_test(x), x, create_graph=True)[0].tolist() == [12.0]
        operator = cube_for_a_test.operator
        operator.replace_derivatives([lambda g, input: g * 5])
        assert tg.grad(cube_for_a_test(x), x)[0].tolist() == [5.0]
        operator.replace_derivatives(operator.own_derivatives)
        assert tg.grad(cube_for_a_test(x), x)[0].tolist() == [100.0]
    finally:
        del OPERATORS["cube_for_a_test"]
