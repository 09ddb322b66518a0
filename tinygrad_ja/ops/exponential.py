"""Exponential, logarithmic, trigonometric and hyperbolic functions. Element-wise; integers give float32."""

from __future__ import annotations

import math
from typing import Any

from ..core.operator import Array, Point, elementwise
from .arithmetic import rsqrt
from .comparison import _where
from .creation import ones_like
from .methods import attach, attach_in_place
from .piecewise import clamp

__all__ = [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cos",
    "cosh",
    "deg2rad",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logaddexp2",
    "logit",
    "rad2deg",
    "sigmoid",
    "sin",
    "sinh",
    "tan",
    "tanh",
    "xlogy",
]

# ---- exponentials and logarithms -----------------------------------------------------------------


@elementwise(lambda g, y: g * y)
def exp(xp: Any, input: Array) -> Array:
    """eˣ; dy/dx = y.

    >>> import tinygrad_ja as tg
    >>> tg.exp(tg.tensor([0, 1]))
    tensor([1.    , 2.7183])
    """
    return xp.exp(input)


@elementwise(lambda g, y: g * (y * math.log(2)))
def exp2(xp: Any, input: Array) -> Array:
    """2ˣ; dy/dx = y log 2.

    >>> import tinygrad_ja as tg
    >>> tg.exp2(tg.tensor([0.0, 3.0]))
    tensor([1., 8.])
    """
    return xp.exp2(input)


@elementwise(lambda g, y: g * (y + 1))
def expm1(xp: Any, input: Array) -> Array:
    """eˣ - 1, accurate near 0; dy/dx = y + 1.

    >>> import tinygrad_ja as tg
    >>> tg.expm1(tg.tensor([0.0, 1.0]))
    tensor([0.    , 1.7183])
    """
    return xp.expm1(input)


@elementwise(lambda g, input: g / input, domain=(0.5, 4.0))
def log(xp: Any, input: Array) -> Array:
    """Natural logarithm; dy/dx = 1/x.

    >>> import tinygrad_ja as tg
    >>> tg.log(tg.tensor([1, 2]))
    tensor([0.    , 0.6931])
    """
    return xp.log(input)


@elementwise(lambda g, input: g / (input * math.log(2)), domain=(0.5, 4.0))
def log2(xp: Any, input: Array) -> Array:
    """Logarithm to base 2; dy/dx = 1/(x log 2).

    >>> import tinygrad_ja as tg
    >>> tg.log2(tg.tensor([1.0, 8.0]))
    tensor([0., 3.])
    """
    return xp.log2(input)


@elementwise(lambda g, input: g / (input * math.log(10)), domain=(0.5, 4.0))
def log10(xp: Any, input: Array) -> Array:
    """Logarithm to base 10; dy/dx = 1/(x log 10).

    >>> import tinygrad_ja as tg
    >>> tg.log10(tg.tensor([1.0, 100.0]))
    tensor([0., 2.])
    """
    return xp.log10(input)


@elementwise(lambda g, input: g / (input + 1), domain=(-0.5, 4.0))
def log1p(xp: Any, input: Array) -> Array:
    """log(1 + x), accurate near 0; dy/dx = 1/(1 + x).

    >>> import tinygrad_ja as tg
    >>> tg.log1p(tg.tensor([0.0, 1.0]))
    tensor([0.    , 0.6931])
    """
    return xp.log1p(input)


@elementwise(lambda g, input, other: g * sigmoid(input - other), lambda g, input, other: g * sigmoid(other - input))
def logaddexp(xp: Any, input: Array, other: Array) -> Array:
    """log(eˣ + eʸ) without overflow; derivatives σ(x - y) and σ(y - x).

    >>> import tinygrad_ja as tg
    >>> tg.logaddexp(tg.tensor([0.0, 1000.0]), tg.tensor([0.0, 1000.0]))
    tensor([6.9315e-01, 1.0007e+03])
    """
    return xp.logaddexp(input, other)


@elementwise(
    lambda g, input, other: g * sigmoid((input - other) * math.log(2)),
    lambda g, input, other: g * sigmoid((other - input) * math.log(2)),
)
def logaddexp2(xp: Any, input: Array, other: Array) -> Array:
    """log₂(2ˣ + 2ʸ) without overflow; derivatives 2ˣ/(2ˣ + 2ʸ) and 2ʸ/(2ˣ + 2ʸ).

    >>> import tinygrad_ja as tg
    >>> tg.logaddexp2(tg.tensor([0.0, 3.0]), tg.tensor([0.0, 3.0]))
    tensor([1., 4.])
    """
    return xp.logaddexp2(input, other)


def _xlogy_by_input(g: Any, input: Any, other: Any) -> Any:
    # 0 log y is 0 for every y <= 0, and so is its derivative: log 1 in place of log y
    return g * log(_where((input == 0) & (other <= 0), ones_like(input), other))


@elementwise(
    _xlogy_by_input,
    lambda g, input, other: g * input / other,
    domain=[(-2.0, 2.0), (0.5, 4.0)],
    points=[
        Point(([0.0, 0.0, 0.0], [-1.0, 0.0, 0.5]), ([0.0, 0.0, math.log(0.5)], [0.0, math.nan, 0.0])),
        Point(([1.0, 1.0], [0.0, -1.0]), ([-math.inf, math.nan], [math.inf, -1.0])),
    ],
)
def xlogy(xp: Any, input: Array, other: Array) -> Array:
    """x log y, 0 where x is 0 (unless y is NaN); derivatives log y and x/y.

    >>> import tinygrad_ja as tg
    >>> tg.xlogy(tg.tensor([0.0, 2.0]), tg.tensor([0.0, 1.0]))
    tensor([0., 0.])
    """
    if isinstance(other, (int, float)):
        other = xp.asarray(other, dtype=input.dtype if input.dtype.kind == "f" else None)
    one = xp.ones_like(other)
    return input * xp.log(xp.where((input == 0) & (other == other), one, other))


def _slope_of_logit(g: Any, input: Any, eps: float | None) -> Any:
    if eps is None:
        return g / (input * (1 - input))
    inside = clamp(input, eps, 1 - eps)
    return g * (input == inside) / (inside * (1 - inside))


@elementwise(
    _slope_of_logit,
    cases=lambda pick: ((pick.array(pick.shape(), 0.02, 0.98), pick.choice((None, 0.125, 0.25))), {}),
    points=[Point(([0.25, 0.75, 0.125], 0.25), ([16 / 3, 16 / 3, 0.0],))],
)
def logit(xp: Any, input: Array, eps: float | None = None) -> Array:
    """log(x / (1 - x)), with x first clamped to [eps, 1 - eps]; dy/dx = 1/(x (1 - x)), 0 where clamped.

    >>> import tinygrad_ja as tg
    >>> tg.logit(tg.tensor([0.5, 0.9]))
    tensor([0.    , 2.1972])
    """
    if eps is not None:
        input = xp.clip(input, eps, 1 - eps)
    return xp.log(input / (1 - input))


# by bytes of the dtype: up to here eᵃ is finite and 1 / eᵃ no denormal number, which would be slow; σ(-a) is as good as 0 there
_LARGEST_EXPONENT = {2: 11.0, 4: 87.0, 8: 708.0}


def logistic(xp: Any, x: Any) -> Any:
    """Forward of ``sigmoid``."""
    least = -_LARGEST_EXPONENT[x.dtype.itemsize if x.dtype.kind == "f" else 8]
    return 1.0 / (1.0 + xp.exp(-xp.maximum(x, least)))


@elementwise(lambda g, y: g * (y - y * y), domain=(-4.0, 4.0))
def sigmoid(xp: Any, input: Array) -> Array:
    """σ(x) = 1 / (1 + e⁻ˣ), without overflow; dy/dx = y (1 - y).

    >>> import tinygrad_ja as tg
    >>> tg.sigmoid(tg.tensor([0.0, -2.0, 1000.0]))
    tensor([0.5   , 0.1192, 1.    ])
    """
    return logistic(xp, input)


# ---- trigonometric functions ---------------------------------------------------------------------


@elementwise(lambda g, input: g * cos(input))
def sin(xp: Any, input: Array) -> Array:
    """Sine of an angle in radians; dy/dx = cos x.

    >>> import tinygrad_ja as tg
    >>> tg.sin(tg.tensor([0.0, 1.0]))
    tensor([0.    , 0.8415])
    """
    return xp.sin(input)


@elementwise(lambda g, input: -g * sin(input))
def cos(xp: Any, input: Array) -> Array:
    """Cosine of an angle in radians; dy/dx = -sin x.

    >>> import tinygrad_ja as tg
    >>> tg.cos(tg.tensor([0.0, 1.0]))
    tensor([1.    , 0.5403])
    """
    return xp.cos(input)


@elementwise(lambda g, y: g + g * (y * y), domain=(-1.2, 1.2))
def tan(xp: Any, input: Array) -> Array:
    """Tangent of an angle in radians; dy/dx = 1 + y².

    >>> import tinygrad_ja as tg
    >>> tg.tan(tg.tensor([0.0, 1.0]))
    tensor([0.    , 1.5574])
    """
    return xp.tan(input)


@elementwise(lambda g, input: g * rsqrt(1 - input * input), domain=(-0.9, 0.9))
def asin(xp: Any, input: Array) -> Array:
    """Angle whose sine is x; dy/dx = 1/√(1 - x²). NaN outside of [-1, 1].

    >>> import tinygrad_ja as tg
    >>> tg.asin(tg.tensor([0.0, 1.0]))
    tensor([0.    , 1.5708])
    """
    return xp.arcsin(input)


@elementwise(lambda g, input: -g * rsqrt(1 - input * input), domain=(-0.9, 0.9))
def acos(xp: Any, input: Array) -> Array:
    """Angle whose cosine is x; dy/dx = -1/√(1 - x²). NaN outside of [-1, 1].

    >>> import tinygrad_ja as tg
    >>> tg.acos(tg.tensor([0.0, 1.0]))
    tensor([1.5708, 0.    ])
    """
    return xp.arccos(input)


@elementwise(lambda g, input: g / (input * input + 1))
def atan(xp: Any, input: Array) -> Array:
    """Angle whose tangent is x; dy/dx = 1/(1 + x²).

    >>> import tinygrad_ja as tg
    >>> tg.atan(tg.tensor([0.0, 1.0]))
    tensor([0.    , 0.7854])
    """
    return xp.arctan(input)


def _not_zero(squared: Any) -> Any:
    return squared + (squared == 0)  # at the origin the derivatives of atan2 are 0, as in PyTorch


@elementwise(
    lambda g, input, other: g * (other / _not_zero(input * input + other * other)),
    lambda g, input, other: -g * (input / _not_zero(input * input + other * other)),
    domain=[(-2.0, 2.0), (0.3, 2.0)],
    points=[
        Point((0.0, 0.0), (0.0, 0.0)),
        Point(([1.0, 0.0, 1.0, -1.0], [0.0, 1.0, -1.0, -1.0]), ([0.0, 1.0, -0.5, -0.5], [-1.0, 0.0, -0.5, 0.5])),
    ],
)
def atan2(xp: Any, input: Array, other: Array) -> Array:
    """Angle of the point (``other``, ``input``), from -π to π; derivatives x/(x² + y²) and -y/(x² + y²).

    >>> import tinygrad_ja as tg
    >>> tg.atan2(tg.tensor([1.0, 0.0]), tg.tensor([1.0, -1.0]))
    tensor([0.7854, 3.1416])
    """
    return xp.arctan2(input, other)


# ---- hyperbolic functions ------------------------------------------------------------------------


@elementwise(lambda g, input: g * cosh(input))
def sinh(xp: Any, input: Array) -> Array:
    """Hyperbolic sine; dy/dx = cosh x.

    >>> import tinygrad_ja as tg
    >>> tg.sinh(tg.tensor([0.0, 1.0]))
    tensor([0.    , 1.1752])
    """
    return xp.sinh(input)


@elementwise(lambda g, input: g * sinh(input))
def cosh(xp: Any, input: Array) -> Array:
    """Hyperbolic cosine; dy/dx = sinh x.

    >>> import tinygrad_ja as tg
    >>> tg.cosh(tg.tensor([0.0, 1.0]))
    tensor([1.    , 1.5431])
    """
    return xp.cosh(input)


@elementwise(lambda g, y: g - g * (y * y), domain=(-3.0, 3.0))
def tanh(xp: Any, input: Array) -> Array:
    """Hyperbolic tangent; dy/dx = 1 - y².

    >>> import tinygrad_ja as tg
    >>> tg.tanh(tg.tensor([0.0, 1.0]))
    tensor([0.    , 0.7616])
    """
    return xp.tanh(input)


@elementwise(lambda g, input: g * rsqrt(input * input + 1))
def asinh(xp: Any, input: Array) -> Array:
    """Inverse hyperbolic sine; dy/dx = 1/√(x² + 1).

    >>> import tinygrad_ja as tg
    >>> tg.asinh(tg.tensor([0.0, 1.0]))
    tensor([0.    , 0.8814])
    """
    return xp.arcsinh(input)


@elementwise(lambda g, input: g * rsqrt(input * input - 1), domain=(1.2, 4.0))
def acosh(xp: Any, input: Array) -> Array:
    """Inverse hyperbolic cosine, for x >= 1; dy/dx = 1/√(x² - 1).

    >>> import tinygrad_ja as tg
    >>> tg.acosh(tg.tensor([1.0, 2.0]))
    tensor([0.   , 1.317])
    """
    return xp.arccosh(input)


@elementwise(lambda g, input: g / (1 - input * input), domain=(-0.9, 0.9))
def atanh(xp: Any, input: Array) -> Array:
    """Inverse hyperbolic tangent, for -1 < x < 1; dy/dx = 1/(1 - x²).

    >>> import tinygrad_ja as tg
    >>> tg.atanh(tg.tensor([0.0, 0.5]))
    tensor([0.    , 0.5493])
    """
    return xp.arctanh(input)


# ---- angles --------------------------------------------------------------------------------------


@elementwise(lambda g: g * (math.pi / 180), domain=(-180.0, 180.0))
def deg2rad(xp: Any, input: Array) -> Array:
    """Degrees to radians; derivative π/180.

    >>> import tinygrad_ja as tg
    >>> tg.deg2rad(tg.tensor([180.0, 90.0]))
    tensor([3.1416, 1.5708])
    """
    return input * (math.pi / 180)


@elementwise(lambda g: g * (180 / math.pi))
def rad2deg(xp: Any, input: Array) -> Array:
    """Radians to degrees; derivative 180/π.

    >>> import tinygrad_ja as tg
    >>> tg.rad2deg(tg.tensor([0.0, 1.0]))
    tensor([ 0.    , 57.2958])
    """
    return input * (180 / math.pi)


_UNARY = (
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atanh,
    cos,
    cosh,
    deg2rad,
    exp,
    exp2,
    expm1,
    log,
    log10,
    log1p,
    log2,
    rad2deg,
    sigmoid,
    sin,
    sinh,
    tan,
    tanh,
)
attach(*_UNARY, atan2, logaddexp, logaddexp2, logit, xlogy)
attach_in_place(*_UNARY, atan2, logit, xlogy)
