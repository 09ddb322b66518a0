"""Element-wise operators: dtypes, Python operators, ties and kinks, changes in place, accuracy of the special functions, errors."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import errors
from tinygrad_ja.ops import activation as F
from tinygrad_ja.ops import approximations
from tinygrad_ja.ops.special import _bessel_i

INF, NAN = math.inf, math.nan


def leaf(values: Any, dtype: Any = "float64") -> tg.Tensor:
    return tg.tensor(np.asarray(values, dtype), requires_grad=True)


def gradient(function: Any, *inputs: tg.Tensor) -> list[Any]:
    y = function(*inputs)
    return [g.tolist() for g in tg.grad(y, inputs, tg.ones_like(y))]


# ---- dtypes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    "function", [tg.exp, tg.sigmoid, tg.erf, tg.lgamma, tg.i0, F.gelu, F.softplus, F.mish, F.selu, F.hardswish]
)
def test_a_floating_dtype_stays(function: Any, dtype: str) -> None:
    x = leaf([0.5, 1.5], dtype)
    y = function(x)
    assert y.dtype == dtype
    assert tg.grad(y, x, tg.ones_like(y))[0].dtype == dtype


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64"])
@pytest.mark.parametrize("function", [tg.exp, tg.sqrt, tg.sigmoid, tg.erf, tg.erfc, tg.lgamma, tg.reciprocal, tg.i0])
def test_integers_give_float32(function: Any, dtype: str) -> None:
    assert function(tg.tensor(np.ones(2, dtype))).dtype == tg.float32


@pytest.mark.parametrize("number", [2, 2.5, True, np.float64(2.5), np.int64(2), np.float32(1.5)])
def test_a_number_beside_float32_changes_nothing(number: Any) -> None:
    x = tg.tensor([1.0, 2.0])
    for y in (x + number, number * x, x - number, number - x, x / number, number / x, x**number, tg.maximum(x, number)):
        assert y.dtype == tg.float32


def test_integer_arithmetic_stays_integer_and_division_is_float32() -> None:
    x = tg.tensor([7, -7])
    assert (x + 1).dtype == (x * 2).dtype == (x**2).dtype == (x // 2).dtype == (x % 2).dtype == tg.int64
    assert (x / 2).dtype == (x + 0.5).dtype == (2.0**x).dtype == tg.float32
    assert (x // 2).tolist() == [3, -4] and (x % 2).tolist() == [1, 1] and tg.fmod(x, 2).tolist() == [1, -1]


def test_rounding_leaves_integers_alone() -> None:
    x = tg.tensor([1, -2])
    for function in (tg.floor, tg.ceil, tg.trunc, tg.round):
        assert function(x).dtype == tg.int64 and function(x).tolist() == [1, -2]


def test_float_power_is_float64() -> None:
    assert tg.float_power(tg.tensor([4, 9]), 0.5).dtype == tg.float64


# ---- Python operators ----------------------------------------------------------------------------


def test_reflected_operators() -> None:
    x = tg.tensor([1.0, 2.0, 4.0])
    assert (3 - x).tolist() == [2.0, 1.0, -1.0]
    assert (8 / x).tolist() == [8.0, 4.0, 2.0]
    assert (2**x).tolist() == [2.0, 4.0, 16.0]
    assert (5 % x).tolist() == [0.0, 1.0, 1.0]
    assert (5 // x).tolist() == [5.0, 2.0, 1.0]
    assert (np.ones(3, "f4") - x).tolist() == [0.0, -1.0, -3.0]
    assert type(np.ones(3, "f4") - x) is tg.Tensor


@pytest.mark.parametrize(
    ("function", "slope"),
    [
        (lambda x: 3 - x, lambda x: -1.0),
        (lambda x: 3 / x, lambda x: -3 / x**2),
        (lambda x: 2**x, lambda x: math.log(2) * 2**x),
        (lambda x: 5 % x, lambda x: -math.floor(5 / x)),
    ],
)
def test_reflected_operators_have_their_own_derivatives(function: Any, slope: Any) -> None:
    assert gradient(function, leaf([0.7, 1.9]))[0] == pytest.approx([slope(0.7), slope(1.9)])


def test_comparison_is_element_wise_and_hashing_is_by_identity() -> None:
    x = tg.tensor([1, 2, 3])
    assert (x == 2).tolist() == [False, True, False] and (x != tg.tensor([1, 0, 3])).tolist() == [False, True, False]
    assert (x < 2).tolist() == [True, False, False] and (2 <= x).tolist() == [False, True, True]
    assert (x == 2).dtype == tg.bool
    assert len({x, x, tg.tensor([1, 2, 3])}) == 2


def test_comparison_with_something_else_is_false_not_an_error() -> None:
    x = tg.tensor([1.0])
    assert (x == None) is False and (x != "x") is True  # noqa: E711


def test_logic_and_bits() -> None:
    a, b = tg.tensor([True, True, False]), tg.tensor([True, False, False])
    assert (a & b).tolist() == [True, False, False] and (a | b).tolist() == [True, True, False]
    assert (a ^ b).tolist() == [False, True, False] and (~a).tolist() == [False, False, True]
    assert (tg.tensor([6]) & 3).tolist() == [2] and (1 | tg.tensor([6])).tolist() == [7] and (~tg.tensor([0])).tolist() == [-1]


def test_a_comparison_has_no_history() -> None:
    x = leaf([1.0, -1.0])
    assert not (x > 0).requires_grad and not tg.isnan(x).requires_grad and not tg.isclose(x, x).requires_grad


# ---- changes in place ----------------------------------------------------------------------------


def test_in_place_operators_rebind_the_name_to_a_new_value() -> None:
    x = tg.tensor([1.0, 2.0])
    y = z = x * 1
    y += 1
    assert y is z and y.tolist() == [2.0, 3.0] and x.tolist() == [1.0, 2.0]
    y -= 1
    y *= 4
    y /= 2
    y **= 2
    y %= 5
    y //= 2
    assert y is z and y.tolist() == [2.0, 0.0]


def test_in_place_methods_are_recorded() -> None:
    x = leaf([1.0, 2.0])
    y = x * 1
    assert y.mul_(x).add_(1).exp_() is y
    assert tg.grad(y, x, tg.ones_like(y))[0].tolist() == pytest.approx([2 * math.exp(2), 4 * math.exp(5)])


def test_an_operand_saved_before_a_change_in_place_keeps_its_value() -> None:
    x = leaf([3.0])
    y = x * 1
    z = y * y
    y += 100
    assert tg.grad(z, x, tg.ones_like(z))[0].tolist() == [6.0]


def test_in_place_keeps_the_dtype() -> None:
    counts = tg.tensor([1, 2])
    with pytest.raises(errors.DtypeError, match="TG-T006"):
        counts += 0.5
    x = tg.tensor([1.0])
    x += tg.tensor(np.array([0.5]))
    assert x.dtype == tg.float32 and x.tolist() == [1.5]


def test_a_leaf_changes_in_place_only_without_gradients() -> None:
    x = leaf([1.0])
    with pytest.raises(errors.GradientError, match="TG-G004"):
        x += 1
    with tg.no_grad():
        x += 1
    assert x.tolist() == [2.0] and x.is_leaf


def test_activations_take_inplace() -> None:
    for function in (
        F.relu,
        F.relu6,
        F.leaky_relu,
        F.elu,
        F.selu,
        F.celu,
        F.silu,
        F.mish,
        F.hardtanh,
        F.hardsigmoid,
        F.hardswish,
    ):
        x = tg.tensor([-1.5, 0.5]) * 1
        expected = function(x).tolist()
        assert function(x, inplace=True) is x and x.tolist() == expected
    x = tg.tensor([-1.5, 0.5]) * 1
    assert F.threshold(x, 0.0, 9.0, inplace=True) is x and x.tolist() == [9.0, 0.5]


# ---- gradients at ties, kinks and holes ----------------------------------------------------------


def test_a_gradient_has_the_shape_of_its_operand_not_of_the_result() -> None:
    a, b = leaf(np.ones((2, 1, 3))), leaf(np.full((4, 1), 2.0))
    ga, gb = tg.grad((a * b).sum(), (a, b))
    assert ga.shape == (2, 1, 3) and gb.shape == (4, 1)
    assert ga.tolist() == [[[8.0] * 3]] * 2 and gb.tolist() == [[6.0]] * 4


def test_a_tie_shares_the_gradient() -> None:
    a, b = leaf([1.0, 2.0, 3.0]), leaf([3.0, 2.0, 1.0])
    assert gradient(tg.maximum, a, b) == [[0.0, 0.5, 1.0], [1.0, 0.5, 0.0]]
    assert gradient(tg.minimum, a, b) == [[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]]


def test_nan_in_maximum_and_fmax() -> None:
    a, b = leaf([1.0, NAN, NAN]), leaf([NAN, 2.0, NAN])
    assert all(math.isnan(v) for v in tg.maximum(a, b).tolist())
    assert tg.fmax(a, b).tolist()[:2] == tg.fmin(a, b).tolist()[:2] == [1.0, 2.0]
    assert gradient(tg.fmax, a, b) == gradient(tg.fmin, a, b) == [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]


@pytest.mark.parametrize("function", [tg.abs, tg.sign, F.relu, F.relu6, tg.floor, tg.ceil, tg.round, tg.trunc, F.softshrink])
def test_derivative_at_zero_is_zero(function: Any) -> None:
    assert gradient(function, leaf([0.0, -0.0])) == [[0.0, 0.0]]


def test_clamp_counts_its_bounds_as_inside_and_hardtanh_does_not() -> None:
    x = leaf([-2.0, -1.0, 0.0, 1.0, 2.0])
    assert gradient(lambda x: tg.clamp(x, -1, 1), x) == [[0.0, 1.0, 1.0, 1.0, 0.0]]
    assert gradient(F.hardtanh, x) == [[0.0, 0.0, 1.0, 0.0, 0.0]]


def test_clamp_between_tensors_sends_the_gradient_to_the_bound() -> None:
    x, low, high = leaf([-5.0, 0.0, 5.0]), leaf([-1.0] * 3), leaf([1.0] * 3)
    assert gradient(tg.clamp, x, low, high) == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert gradient(tg.clamp_min, x, low) == [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
    assert gradient(tg.clamp_max, x, high) == [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


def test_powers_at_zero() -> None:
    x = leaf([0.0, 2.0])
    assert gradient(lambda x: x**0, x) == [[0.0, 0.0]]
    assert gradient(lambda x: x**1, x) == [[1.0, 1.0]]
    assert gradient(lambda x: x**2, x) == [[0.0, 4.0]]
    base, exponent = leaf([0.0, 0.0, 0.0, 2.0]), leaf([0.0, 1.0, 2.0, 3.0])
    by_base, by_exponent = gradient(tg.pow, base, exponent)
    assert by_base == [0.0, 1.0, 0.0, 12.0] and by_exponent == pytest.approx([0.0, 0.0, 0.0, 8 * math.log(2)])
    assert gradient(lambda p: 0.0**p, leaf([0.0, 1.0, 2.0])) == [[0.0, 0.0, 0.0]]


def test_xlogy_is_zero_at_zero_and_nan_beside_nan() -> None:
    x, y = tg.tensor([0.0, 0.0, 0.0, 1.0]), tg.tensor([0.0, INF, NAN, 1.0])
    values = tg.xlogy(x, y).tolist()
    assert values[:2] == [0.0, 0.0] and math.isnan(values[2]) and values[3] == 0.0
    assert tg.grad(tg.xlogy(leaf([0.0]), (other := leaf([1.0]))), other, tg.ones(1))[0].tolist() == [0.0]
    assert gradient(lambda x: tg.xlogy(x, 2.0), leaf([0.0, 3.0]))[0] == pytest.approx([math.log(2)] * 2)


def test_where_sends_the_gradient_to_the_chosen_and_never_nan_from_the_other() -> None:
    x = leaf([4.0, 0.0])
    with np.errstate(divide="ignore"):
        y = tg.where(x > 0, x, 0.0).sqrt().sum()
    assert y.item() == 2.0
    a, b = leaf([1.0, 2.0]), leaf([3.0])
    assert gradient(lambda a, b: tg.where(tg.tensor([True, False]), a, b), a, b) == [[1.0, 0.0], [1.0]]


def test_where_with_numbers_and_with_the_condition_alone() -> None:
    mask = tg.tensor([True, False])
    assert tg.where(mask, 1.0, 0.0).dtype == tg.float32 and tg.where(mask, 1, 0).dtype == tg.int64
    assert tg.tensor([1.0, 2.0]).where(mask, 9.0).tolist() == [1.0, 9.0]
    assert [index.tolist() for index in tg.where(tg.tensor([[0, 3], [5, 0]]))] == [[0, 1], [1, 0]]


def test_heaviside_and_copysign_look_at_the_sign_of_zero_as_they_should() -> None:
    assert tg.heaviside(tg.tensor([-1.0, -0.0, 0.0, 2.0]), tg.tensor(0.5)).tolist() == [0.0, 0.5, 0.5, 1.0]
    assert tg.copysign(tg.tensor([1.0, 1.0]), tg.tensor([-0.0, 0.0])).tolist() == [-1.0, 1.0]
    assert tg.signbit(tg.tensor([-0.0, 0.0])).tolist() == [True, False]


# ---- no overflow, no warning ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_saturating_functions_neither_overflow_nor_warn(dtype: str) -> None:
    far = 200.0 if dtype == "float16" else 1000.0  # its square is finite
    x = leaf([-far, -30.0, 0.0, 30.0, far], dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for function in (tg.sigmoid, F.logsigmoid, F.softplus, F.elu, F.selu, F.celu, F.mish, F.silu, F.gelu, tg.tanh, tg.erf):
            y = function(x)
            (g,) = tg.grad(y, x, tg.ones_like(y))
            assert tg.isfinite(y).all() and tg.isfinite(g).all(), function
        y = tg.logaddexp(x, -x)
        assert tg.isfinite(y).all() and tg.isfinite(tg.grad(y, x, tg.ones_like(y))[0]).all()
    assert tg.sigmoid(x).tolist()[2:] == pytest.approx([0.5, 1.0, 1.0], abs=1e-3)
    assert F.logsigmoid(x).tolist()[0] == -far and F.softplus(x).tolist()[-1] == far


@pytest.mark.parametrize(("dtype", "far"), [("float16", 1e4), ("float32", 1e18), ("float64", 1e100)])
def test_gelu_is_constant_or_linear_far_out(dtype: str, far: float) -> None:
    x = leaf([-far, far], dtype)
    for approximate in ("none", "tanh"):
        with np.errstate(over="ignore"):
            (g,) = tg.grad(F.gelu(x, approximate=approximate), x, tg.ones_like(x))
        assert g.tolist() == [0.0, 1.0]


# ---- accuracy of the special functions -----------------------------------------------------------

GRID = np.concatenate([np.linspace(-6.0, 6.0, 401), [1e-300, 1e-10, -1e-10]])


def test_erf_and_erfc_agree_with_the_c_library() -> None:
    values = GRID.tolist()
    np.testing.assert_allclose(approximations.erf(np, GRID), [math.erf(x) for x in values], rtol=1e-14)
    np.testing.assert_allclose(tg.erfc(tg.tensor(GRID)).numpy(), [math.erfc(x) for x in values], rtol=1e-14)
    tail = np.linspace(6.0, 26.0, 101)
    np.testing.assert_allclose(tg.erfc(tg.tensor(tail)).numpy(), [math.erfc(x) for x in tail.tolist()], rtol=1e-13)
    single = GRID.astype("f4")
    np.testing.assert_allclose(approximations.erf(np, single), [math.erf(x) for x in single.tolist()], rtol=5e-7)


def test_erfinv_undoes_erf() -> None:
    y = np.linspace(-3.0, 3.0, 301)
    np.testing.assert_allclose(tg.erfinv(tg.erf(tg.tensor(y))).numpy(), y, rtol=1e-9, atol=1e-15)
    x = np.array([1e-12, 0.1, 0.5, 0.85, 0.9, 0.999, 1 - 2.0**-40])
    back = tg.erfinv(tg.tensor(x)).numpy()
    np.testing.assert_allclose([math.erf(v) for v in back.tolist()], x, rtol=2e-15)
    assert tg.erfinv(tg.tensor([-1.0, 1.0])).tolist() == [-INF, INF] and math.isnan(tg.erfinv(tg.tensor(1.5)).item())


def test_lgamma_agrees_with_the_c_library() -> None:
    x = np.concatenate([np.linspace(0.01, 30.0, 777), 10.0 ** np.arange(-8, 15), [1.0, 2.0]])
    np.testing.assert_allclose(tg.lgamma(tg.tensor(x)).numpy(), [math.lgamma(v) for v in x.tolist()], rtol=5e-14, atol=1e-15)
    negative = np.linspace(-9.93, -0.07, 98)
    expected = [math.lgamma(v) for v in negative.tolist()]
    np.testing.assert_allclose(tg.lgamma(tg.tensor(negative)).numpy(), expected, rtol=1e-12, atol=1e-13)
    assert tg.lgamma(tg.tensor([0.0, -1.0, -7.0, INF, -INF])).tolist() == [INF] * 5


def test_lgamma_keeps_its_digits_beside_its_zeros() -> None:
    """log Γ(1 + e) = -γ e + π²/12 e² + O(e³), log Γ(2 + e) = (1 - γ) e + (π²/12 - 1/2) e² + O(e³)."""
    euler, half = 0.57721566490153286, math.pi**2 / 12
    for zero, first, second in ((1.0, -euler, half), (2.0, 1 - euler, half - 0.5)):
        x = zero + np.array([1e-9, -1e-9, 1e-7])
        e = x - zero
        np.testing.assert_allclose(tg.lgamma(tg.tensor(x)).numpy(), first * e + second * e * e, rtol=1e-13)


# from mpmath at 30 digits
DIGAMMA = {
    0.1: -10.423754940411076,
    1.0: -0.5772156649015329,
    1.5: 0.03648997397857652,
    2.0: 0.42278433509846714,
    10.0: 2.251752589066721,
    -0.5: 0.03648997397857652,
    -3.3: 3.620353460592126,
}
POLYGAMMA = {
    (1, 0.1): 101.43329915079275,
    (1, 2.5): 0.49035775610023485,
    (1, 10.0): 0.10516633568168575,
    (1, -0.5): 8.934802200544679,
    (1, -3.3): 14.817739525515929,
    (2, 0.1): -2001.8614573783436,
    (2, 2.5): -0.2362040516417274,
    (2, 10.0): -0.011049834970802067,
    (2, -0.5): -0.82879664423432,
    (2, -3.3): 68.76944547748523,
    (4, 0.1): -2400015.6072031953,
    (4, 2.5): -0.3137559995067314,
    (4, 10.0): -0.0007299311682352867,
    (4, -0.5): -3.4742498266672253,
    (4, -3.3): 9738.733062132023,
}
BESSEL = {
    (0, 0.5): 1.0634833707413236,
    (0, 3.0): 4.8807925858650245,
    (0, 24.0): 2168619088.2413764,
    (0, 30.0): 781672297823.9775,
    (1, 0.5): 0.2578943053908963,
    (1, 3.0): 3.9533702174026093,
    (1, 24.0): 2122947893.2873137,
    (1, 30.0): 768532038938.957,
    (2, 0.5): 0.031906149177738256,
    (2, 24.0): 1991706763.800767,
    (3, 0.5): 0.002645111968990286,
    (3, 30.0): 671140461797.4396,
}


def test_digamma_and_polygamma() -> None:
    x = np.array(list(DIGAMMA))
    np.testing.assert_allclose(tg.digamma(tg.tensor(x)).numpy(), list(DIGAMMA.values()), rtol=1e-13)
    for (n, point), value in POLYGAMMA.items():
        assert tg.polygamma(n, tg.tensor(np.array(point))).item() == pytest.approx(value, rel=1e-13)
    assert tg.polygamma(0, tg.tensor(np.array(0.1))).item() == pytest.approx(DIGAMMA[0.1], rel=1e-13)


def test_bessel_functions() -> None:
    for (order, point), value in BESSEL.items():
        at = tg.tensor(np.array(point))
        assert _bessel_i(at, order).item() == pytest.approx(value, rel=1e-14)
        assert _bessel_i(-at, order).item() == pytest.approx(-value if order % 2 else value, rel=1e-14)
        assert _bessel_i(at, -order).item() == _bessel_i(at, order).item()
        assert order or tg.i0(at).item() == _bessel_i(at, 0).item()


@pytest.mark.parametrize("function", [tg.erfc, tg.erfinv, tg.lgamma, tg.digamma, tg.i0, tg.sinc])
def test_float32_is_the_rounded_float64_result(function: Any) -> None:
    x = np.linspace(0.05, 0.95, 91).astype("f4")
    np.testing.assert_allclose(
        function(tg.tensor(x)).numpy(), function(tg.tensor(x.astype("f8"))).numpy(), rtol=2e-7, atol=1e-7
    )


# ---- higher orders -------------------------------------------------------------------------------


def derivative(function: Any, at: float, order: int) -> float:
    x = leaf(at)
    y = function(x)
    for _ in range(order):
        if not y.requires_grad:  # the derivative before is constant
            return 0.0
        (y,) = tg.grad(y, x, create_graph=True)
    return float(y)


def _third_derivative_of_sinc(x: float) -> float:
    """Of its power series Σ (-1)ᵏ (πx)²ᵏ / (2k + 1)!, term by term."""
    return math.fsum(
        (-1) ** k * math.pi ** (2 * k) * x ** (2 * k - 3) / ((2 * k + 1) * math.factorial(2 * k - 3)) for k in range(2, 30)
    )


def test_derivatives_of_the_gamma_family_are_the_next_of_the_family() -> None:
    x = tg.tensor(np.array(2.5))
    assert derivative(tg.lgamma, 2.5, 1) == tg.digamma(x).item()
    for order in (2, 3, 4):
        assert derivative(tg.lgamma, 2.5, order) == pytest.approx(tg.polygamma(order - 1, x).item(), rel=1e-14)


@pytest.mark.parametrize(
    ("function", "x", "order", "expected"),
    [
        (tg.sinc, 0.0, 2, -(math.pi**2) / 3),
        (tg.sinc, 0.0, 4, math.pi**4 / 5),
        (tg.sinc, 0.25, 3, _third_derivative_of_sinc(0.25)),
        (tg.sinc, 0.95, 3, _third_derivative_of_sinc(0.95)),
        (tg.i0, 0.0, 2, 0.5),
        (tg.i0, 0.0, 4, 0.375),
        (lambda x: _bessel_i(x, 1), 0.0, 1, 0.5),
        (tg.tanh, 0.0, 3, -2.0),
        (lambda x: x**3, 2.0, 3, 6.0),
        (lambda x: x**2, 2.0, 3, 0.0),
        (lambda x: 1 / x, 2.0, 3, -6 / 16),
        (lambda x: 2**x, 1.0, 3, 2 * math.log(2) ** 3),
        (F.gelu, 0.0, 2, 2 / math.sqrt(2 * math.pi)),
        (F.silu, 0.0, 2, 0.5),
        (F.softplus, 0.0, 2, 0.25),
        (F.elu, -1.0, 3, math.exp(-1)),
        (F.relu, 2.0, 2, 0.0),
        (tg.abs, 2.0, 2, 0.0),
    ],
)
def test_higher_derivatives(function: Any, x: float, order: int, expected: float) -> None:
    assert derivative(function, x, order) == pytest.approx(expected, rel=1e-10, abs=1e-12)


# ---- kernels and memory --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (1,), (7, 3), (65,), (300, 301), (2, 70000)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_and_small_arrays_take_different_kernels_to_the_same_values(shape: tuple[int, ...], dtype: str) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(dtype) * 3
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(F.relu(tg.tensor(x)).numpy(), x * (x > 0), rtol=0)
    np.testing.assert_allclose(tg.sigmoid(tg.tensor(x)).numpy(), 1 / (1 + np.exp(-x)), rtol=tolerance)
    some = tg.tensor(x).reshape(-1)[-5:]
    for function in (tg.erf, F.gelu, F.silu):
        np.testing.assert_allclose(
            function(tg.tensor(x)).reshape(-1)[-5:].numpy(), function(some).numpy(), rtol=tolerance, atol=tolerance
        )


def test_division_by_a_number_saves_no_array() -> None:
    y = leaf([1.0, 2.0]) / 3
    assert not any(isinstance(value, np.ndarray) for value in y.grad_fn.saved)


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: tg.tensor([1.0]) + "1", errors.DtypeError),
        (lambda: tg.tensor([1.0, 2.0]) + tg.tensor([1.0, 2.0, 3.0]), errors.ShapeError),
        (lambda: tg.tensor([2, 3]) ** -1, errors.DtypeError),
        (lambda: tg.tensor([True]) - tg.tensor([True]), errors.DtypeError),
        (lambda: tg.tensor([1.0]) & 1, errors.DtypeError),
        (lambda: tg.div(tg.tensor([1.0]), 2, rounding_mode="up"), errors.ArgumentError),
        (lambda: tg.clamp(tg.tensor([1.0])), errors.ArgumentError),
        (lambda: tg.polygamma(-1, tg.tensor([1.0])), errors.ArgumentError),
        (lambda: tg.where(tg.tensor([1.0]), 1.0, 2.0), errors.DtypeError),
        (lambda: tg.where(True, tg.tensor([1.0]), 2.0), errors.DtypeError),
        (lambda: tg.isin(1, 2), errors.DtypeError),
        (lambda: F.gelu(tg.tensor([1.0]), approximate="sigmoid"), errors.ArgumentError),
        (lambda: F.glu(tg.tensor([1.0, 2.0, 3.0])), errors.ShapeError),
    ],
)
def test_errors(call: Any, kind: type) -> None:
    with pytest.raises(kind):
        call()
