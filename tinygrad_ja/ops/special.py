"""Special functions: error functions, the gamma family, a Bessel function and sinc. Element-wise; integers give float32."""

from __future__ import annotations

import functools
import math
from typing import Any

from ..core.operator import Array, Point, elementwise
from ..core.tensor import Tensor
from ..errors import error
from . import approximations
from .exponential import exp
from .methods import attach, attach_in_place

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


def _case_of_polygamma(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (pick.array(pick.shape(), 0.5, 4.0), pick.integer(1, 3)), {}


@elementwise(lambda g, input, n: g * _polygamma(input, n + 1), cases=_case_of_polygamma)
def _polygamma(xp: Any, input: Array, n: int = 1) -> Array:
    """The n-th derivative of digamma, n >= 1."""
    return approximations.in_double(functools.partial(approximations.polygamma, n=n), xp, input)


def polygamma(n: int, input: Any) -> Any:
    """The n-th derivative of digamma(x), n >= 0; dy/dx = polygamma(n + 1, x). Raises ArgumentError for negative n.

    >>> import tinygrad_ja as tg
    >>> tg.polygamma(1, tg.tensor([1.0, 2.0]))
    tensor([1.6449, 0.6449])
    """
    if n < 0:
        raise error(
            "TG-A001",
            op="polygamma",
            argument="n",
            value=n,
            rule="n >= 0",
            fix=("pass the order of the derivative.", "微分の階数を渡してください。"),
        )
    return _polygamma(input, n) if n else digamma(input)


@elementwise(lambda g, input: g * _bessel_i(input, 1))
def i0(xp: Any, input: Array) -> Array:
    """Modified Bessel function of the first kind I₀(x); dy/dx = I₁(x).

    >>> import tinygrad_ja as tg
    >>> tg.i0(tg.tensor([0.0, 1.0]))
    tensor([1.    , 1.2661])
    """
    return approximations.in_double(functools.partial(approximations.bessel_i, n=0), xp, input)


@elementwise(
    lambda g, input, n: g * ((_bessel_i(input, n - 1) + _bessel_i(input, n + 1)) * 0.5),
    cases=lambda pick: ((pick.array(pick.shape()), pick.integer(0, 3)), {}),
    points=[Point((0.0, 0), (0.0,)), Point((0.0, 1), (0.5,)), Point((0.0, 2), (0.0,))],
)
def _bessel_i(xp: Any, input: Array, n: int = 1) -> Array:
    """Modified Bessel function of the first kind Iₙ(x); dy/dx = (Iₙ₋₁(x) + Iₙ₊₁(x)) / 2 (Abramowitz and Stegun 9.6.26)."""
    return approximations.in_double(functools.partial(approximations.bessel_i, n=n), xp, input)


@elementwise(
    lambda g, input: g * _derivative_of_sinc(input, 1),
    points=[Point(([0.0, 0.25, 0.5, 1.0],), ([0.0, math.sqrt(8) * (1 - 4 / math.pi), -4 / math.pi, -1.0],))],
)
def sinc(xp: Any, input: Array) -> Array:
    """sin(πx) / (πx), 1 at 0; dy/dx = (cos(πx) - y) / x.

    >>> import tinygrad_ja as tg
    >>> tg.sinc(tg.tensor([0.0, 0.5]))
    tensor([1.    , 0.6366])
    """
    return xp.sinc(input)


@elementwise(
    lambda g, input, n: g * _derivative_of_sinc(input, n + 1),
    cases=lambda pick: ((pick.array(pick.shape()), pick.integer(1, 3)), {}),
)
def _derivative_of_sinc(xp: Any, input: Array, n: int = 1) -> Array:
    """The n-th derivative of sinc, n >= 1."""
    return approximations.derivative_of_sinc(xp, input, n)


def _polygamma_of(self: Tensor, n: int) -> Any:
    """The n-th derivative of digamma at the elements."""
    return polygamma(n, self)


attach(digamma, erf, erfc, erfinv, i0, lgamma, sinc, polygamma=_polygamma_of)
attach_in_place(digamma, erf, erfc, erfinv, i0, lgamma, sinc, polygamma_=_polygamma_of)
