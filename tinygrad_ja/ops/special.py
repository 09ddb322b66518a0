"""Special functions: error functions, the gamma family, a Bessel function and sinc. Element-wise; integers give float32."""

from __future__ import annotations

import functools
import math
from typing import Any

from ..core.operator import Array, elementwise
from ..core.tensor import Tensor
from ..errors import error
from . import approximations
from .comparison import _where
from .exponential import cos, exp, sin
from .methods import attach, attach_in_place
from .piecewise import abs as absolute

__all__ = ["digamma", "erf", "erfc", "erfinv", "i0", "lgamma", "polygamma", "sinc"]

_SLOPE = 2 / math.sqrt(math.pi)


@elementwise(lambda g, input: g * (exp(-input * input) * _SLOPE), domain=(-3.0, 3.0))
def erf(xp: Any, input: Array) -> Array:
    """Error function 2/√π ∫₀ˣ exp(-t²) dt; dy/dx = 2/√π exp(-x²).

    >>> import tinygrad_ja as tg
    >>> tg.erf(tg.tensor([0.0, 0.5]))
    tensor([0.    , 0.5205])
    """
    return approximations.erf(xp, input)


@elementwise(lambda g, input: g * (exp(-input * input) * -_SLOPE), domain=(-3.0, 3.0))
def erfc(xp: Any, input: Array) -> Array:
    """Complement ``1 - erf(x)``, accurate in the tail; dy/dx = -2/√π exp(-x²).

    >>> import tinygrad_ja as tg
    >>> tg.erfc(tg.tensor([0.0, 0.5]))
    tensor([1.    , 0.4795])
    """
    return approximations.in_double(approximations.erfc, xp, input)


@elementwise(lambda g, y: g * (exp(y * y) / _SLOPE), domain=(-0.9, 0.9))
def erfinv(xp: Any, input: Array) -> Array:
    """The y with erf(y) = x, for -1 < x < 1; dy/dx = √π/2 exp(y²).

    >>> import tinygrad_ja as tg
    >>> tg.erfinv(tg.tensor([0.0, 0.5]))
    tensor([0.    , 0.4769])
    """
    return approximations.in_double(approximations.erfinv, xp, input)


@elementwise(lambda g, input: g * digamma(input), domain=(0.3, 4.0))
def lgamma(xp: Any, input: Array) -> Array:
    """log |Γ(x)|; dy/dx = digamma(x). Infinite at 0, -1, -2, ...

    >>> import tinygrad_ja as tg
    >>> tg.lgamma(tg.tensor([1.0, 5.0]))
    tensor([0.    , 3.1781])
    """
    return approximations.in_double(approximations.lgamma, xp, input)


@elementwise(lambda g, input: g * _polygamma(input, 1), domain=(0.3, 4.0))
def digamma(xp: Any, input: Array) -> Array:
    """ψ(x) = d/dx log Γ(x); dy/dx = polygamma(1, x). NaN at -1, -2, ...

    >>> import tinygrad_ja as tg
    >>> tg.digamma(tg.tensor([1.0, 2.0]))
    tensor([-0.5772,  0.4228])
    """
    return approximations.in_double(approximations.digamma, xp, input)


@elementwise(lambda g, input, n: g * _polygamma(input, n + 1), cases=lambda pick: ((pick.array(pick.shape(), 0.5, 4.0), 2), {}))
def _polygamma(xp: Any, input: Array, n: int = 1) -> Array:
    """The n-th derivative of digamma, n >= 1."""
    return approximations.in_double(functools.partial(_of_order, n), xp, input)


def _of_order(n: int, xp: Any, x: Any) -> Any:
    return approximations.polygamma(xp, x, n)


def polygamma(n: int, input: Any) -> Any:
    """The n-th derivative of digamma(x), n >= 0; dy/dx = polygamma(n + 1, x). Raises ArgumentError for negative n.

    >>> import tinygrad_ja as tg
    >>> tg.polygamma(1, tg.tensor([1.0, 2.0]))
    tensor([1.6449, 0.6449])
    """
    if n < 0:
        raise error("TG-A001", op="polygamma", argument="n", value=n, rule="n >= 0", fix="pass the order of the derivative.")
    return _polygamma(input, n) if n else digamma(input)


@elementwise(lambda g, input: g * _i1(input))
def i0(xp: Any, input: Array) -> Array:
    """Modified Bessel function of the first kind I₀(x); dy/dx = I₁(x).

    >>> import tinygrad_ja as tg
    >>> tg.i0(tg.tensor([0.0, 1.0]))
    tensor([1.    , 1.2661])
    """
    return approximations.in_double(functools.partial(_bessel, 0), xp, input)


def _slope_of_i1(g: Any, input: Any, y: Any) -> Any:
    # I₁' = I₀ - I₁/x, and I₁/x = 1/2 + x²/16 + ... near 0
    tiny = absolute(input) < 1e-3
    quotient = _where(tiny, 0.5 + input * input * 0.0625, y / _where(tiny, input * 0 + 1, input))
    return g * (i0(input) - quotient)


@elementwise(_slope_of_i1)
def _i1(xp: Any, input: Array) -> Array:
    """Modified Bessel function of the first kind I₁(x)."""
    return approximations.in_double(functools.partial(_bessel, 1), xp, input)


def _bessel(order: int, xp: Any, x: Any) -> Any:
    return approximations.bessel_i(xp, x, order)


# d/dx sin(πx)/(πx) = Σₖ (-1)ᵏ π²ᵏ 2k x²ᵏ⁻¹ / (2k + 1)!: the closed form loses all digits near 0
_SINC_SERIES = [(-1) ** k * math.pi ** (2 * k) * 2 * k / math.factorial(2 * k + 1) for k in range(1, 9)]


def _slope_of_sinc(g: Any, input: Any) -> Any:
    near = absolute(input) < 0.3
    small = _where(near, input, 0.0)
    squared = small * small
    series = squared * _SINC_SERIES[-1]
    for coefficient in _SINC_SERIES[-2:0:-1]:
        series = (series + coefficient) * squared
    series = (series + _SINC_SERIES[0]) * small
    large = _where(near, input * 0 + 1, input)
    angle = large * math.pi
    closed = (cos(angle) - sin(angle) / angle) / large
    return g * _where(near, series, closed)


@elementwise(_slope_of_sinc)
def sinc(xp: Any, input: Array) -> Array:
    """sin(πx) / (πx), 1 at 0; dy/dx = (cos(πx) - y) / x.

    >>> import tinygrad_ja as tg
    >>> tg.sinc(tg.tensor([0.0, 0.5]))
    tensor([1.    , 0.6366])
    """
    return xp.sinc(input)


def _polygamma_of(self: Tensor, n: int) -> Any:
    """The n-th derivative of digamma at the elements."""
    return polygamma(n, self)


attach(digamma, erf, erfc, erfinv, i0, lgamma, sinc, polygamma=_polygamma_of)
attach_in_place(digamma, erf, erfc, erfinv, i0, lgamma, sinc, polygamma_=_polygamma_of)
