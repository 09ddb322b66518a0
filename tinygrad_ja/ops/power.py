"""Powers: ``x ** y`` for Tensors and numbers on either side, and what is made of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.operator import Array, Point, elementwise
from ..core.promotion import cast_to
from ..core.tensor import Tensor
from .arithmetic import mul
from .comparison import _where, isnan
from .creation import zeros_like
from .exponential import log
from .methods import attach, attach_in_place

__all__ = ["float_power", "ldexp", "pow"]


def _power_by_base(g: Any, input: Any, other: Any) -> Any:
    if isinstance(other, (int, float)):
        if other == 0:
            return zeros_like(g)
        if other == 2:
            return g * (input * 2)
        return g * (_pow(input, other - 1) * other)
    # x⁰ is 1 for x = 0 and NaN, too: the exponent 0 in place of -1 makes y xʸ⁻¹ = 0 there
    constant = (other == 0) & ((input == 0) | isnan(input))
    return g * (other * _pow(input, other - 1 + constant))


def _power_by_exponent(g: Any, y: Any, input: Any, other: Any) -> Any:
    if isinstance(input, (int, float)):
        return _rpow_slope(g, y, float(input), other)
    # 0ʸ is constant for y >= 0: log 1 in place of log 0
    return g * (y * log(_where((input == 0) & (other >= 0), 1.0, input)))


def _case_of_pow(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    base, exponent = pick.broadcastable(2)
    exponents = pick.array(exponent)
    return (pick.array(base, 0.5, 2.0), np.where(pick.mask(exponent), exponents, np.rint(exponents))), {}


@elementwise(
    _power_by_base,
    _power_by_exponent,
    cases=_case_of_pow,
    points=[
        Point(([0.0, 0.0, 0.0], [0.0, 1.0, 2.0]), ([0.0, 1.0, 0.0], 0.0)),
        Point((0.0, -1.0), (-math.inf, -math.inf)),
        Point(([-2.0, 2.0, math.nan], [3.0, 0.0, 0.0]), ([12.0, 0.0, 0.0], [math.nan, math.log(2), math.nan])),
    ],
)
def _pow(xp: Any, input: Array, other: Array) -> Array:
    """Power ``x ** y``; y x^(y-1) and x^y log x."""
    if isinstance(other, (int, float)):
        if other == 2:
            return input * input
        if other == 3:
            return input * input * input
        if other == 0.5:
            return xp.sqrt(input)
        if other == -0.5:
            return 1.0 / xp.sqrt(input)
        if other == -1 and input.dtype.kind == "f":
            return xp.reciprocal(input)
    return xp.power(input, other)


def _rpow_slope(g: Any, y: Any, base: float, input: Any) -> Any:
    if base > 0:
        return g * (y * math.log(base))
    if base == 0:
        return _where(input < 0, g * -math.inf, 0.0)
    return g * math.nan


@elementwise(
    lambda g, y, base, input: _rpow_slope(g, y, base, input),
    cases=lambda pick: ((pick.array(pick.shape()), pick.choice((0.25, 0.5, 1.0, 2.0, 3.0))), {}),
    points=[
        Point(([-1.0, 0.0, 1.0], 0.0), ([-math.inf, 0.0, 0.0],)),
        Point(([-1.0, 2.0], -2.0), (math.nan,)),
    ],
)
def _rpow(xp: Any, input: Array, base: float = 2.0) -> Array:
    """``base ** x`` for a number as base, so that ``2 ** x`` finds its kernel by the Tensor; derivative y log(base)."""
    return xp.power(base, input)


def pow(input: Any, exponent: Any) -> Any:
    """Power ``input ** exponent``; at least one of them a Tensor, the other may be a number.

    dy/dx = y x^(y-1), zero where the exponent is zero; with respect to the exponent x^y log x, zero for x = 0 and y >= 0. Integers to
    a negative integer power raise DtypeError.

    >>> import tinygrad_ja as tg
    >>> tg.pow(tg.tensor([1.0, 2.0, 3.0]), 2), tg.pow(2, tg.tensor([1.0, 2.0, 3.0]))
    (tensor([1., 4., 9.]), tensor([2., 4., 8.]))
    """
    return _rpow(exponent, input) if isinstance(input, (int, float)) else _pow(input, exponent)


def _power_of_number(self: Tensor, other: Any) -> Any:
    """``other ** self``."""
    return pow(other, self)


def float_power(input: Any, exponent: Any) -> Any:
    """Power computed in float64, whatever the dtypes; derivative as for ``pow``.

    >>> import tinygrad_ja as tg
    >>> tg.float_power(tg.tensor([4, 9]), 0.5)
    tensor([2., 3.], dtype=float64)
    """
    return pow(_as_double(input), _as_double(exponent))


def _as_double(value: Any) -> Any:
    return cast_to(value, np.dtype(np.float64)) if type(value) is Tensor else value


def ldexp(input: Any, other: Any) -> Any:
    """``input * 2 ** other``; derivatives 2^y and x 2^y log 2. An integer ``other`` does not widen a floating ``input``.

    >>> import tinygrad_ja as tg
    >>> tg.ldexp(tg.tensor([1.0, 3.0]), tg.tensor([2, -1]))
    tensor([4. , 1.5])
    """
    if type(other) is Tensor and other.dtype.kind != "f" and type(input) is Tensor and input.dtype.kind == "f":
        other = cast_to(other, input.dtype)
    return mul(input, pow(2.0, other))


attach(float_power, ldexp, pow, __pow__=_pow, __rpow__=_power_of_number)
attach_in_place(float_power, ldexp, pow, __ipow__=_pow)
