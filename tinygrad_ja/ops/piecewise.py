"""Piecewise linear operators: absolute value and sign, rounding, clamping, the larger and the smaller of two.

At a kink the derivative is PyTorch's choice: 0 for ``abs`` and ``sign`` at 0, halves for a tie of ``maximum``. Rounding has derivative 0.
"""

from __future__ import annotations

import math
from typing import Any

from ..core.operator import Array, Point, elementwise
from ..errors import error
from .comparison import _where, isfinite, isnan, keep, logical_not
from .creation import zeros_like
from .methods import attach, attach_in_place

__all__ = [
    "abs",
    "ceil",
    "clamp",
    "clamp_max",
    "clamp_min",
    "copysign",
    "floor",
    "fmax",
    "fmin",
    "frac",
    "heaviside",
    "maximum",
    "minimum",
    "nan_to_num",
    "round",
    "sgn",
    "sign",
    "trunc",
]

# ---- sign ----------------------------------------------------------------------------------------


@elementwise(lambda g, input: g * sign(input))
def abs(xp: Any, input: Array) -> Array:
    """Absolute value; dy/dx = sign(x), 0 at 0.

    >>> import tinygrad_ja as tg
    >>> tg.abs(tg.tensor([-1.5, 2.0]))
    tensor([1.5, 2. ])
    """
    return xp.absolute(input)


@elementwise(lambda g: zeros_like(g))
def sign(xp: Any, input: Array) -> Array:
    """-1, 0 or 1; derivative 0.

    >>> import tinygrad_ja as tg
    >>> tg.sign(tg.tensor([-1.5, 0.0, 2.0]))
    tensor([-1.,  0.,  1.])
    """
    return input if input.dtype.kind == "b" else xp.sign(input)


def sgn(input: Any) -> Any:
    """The same as ``sign`` for real numbers.

    >>> import tinygrad_ja as tg
    >>> tg.sgn(tg.tensor([-1.5, 0.0, 2.0]))
    tensor([-1.,  0.,  1.])
    """
    return sign(input)


@elementwise(
    lambda g, input, y: g * (sign(input) * sign(y)),
    lambda g: zeros_like(g),
    points=[Point(([1.0, -2.0, 0.0, 3.0, -3.0], [-0.0, 3.0, -1.0, 0.0, -0.0]), ([-1.0, -1.0, 0.0, 1.0, 1.0], 0.0))],
)
def copysign(xp: Any, input: Array, other: Array) -> Array:
    """``|x|`` with the sign (bit) of y; derivatives ±1 (0 at x = 0) and 0.

    >>> import tinygrad_ja as tg
    >>> tg.copysign(tg.tensor([1.0, -2.0]), tg.tensor([-0.0, 3.0]))
    tensor([-1.,  2.])
    """
    return xp.copysign(input, other)


@elementwise(
    lambda g: zeros_like(g),
    lambda g, input: g * (input == 0),
    points=[Point(([0.0, 1.0, -1.0], [2.0, 3.0, 4.0]), (0.0, [1.0, 0.0, 0.0]))],
)
def heaviside(xp: Any, input: Array, values: Array) -> Array:
    """0 for x < 0, ``values`` for x = 0, 1 for x > 0; derivatives 0 and 1 where x = 0.

    >>> import tinygrad_ja as tg
    >>> tg.heaviside(tg.tensor([-1.0, 0.0, 2.0]), tg.tensor(0.5))
    tensor([0. , 0.5, 1. ])
    """
    dtype = (values if isinstance(input, (int, float)) else input).dtype
    return xp.where(input == 0, values, xp.asarray(input > 0, dtype=dtype))


# ---- rounding ------------------------------------------------------------------------------------


@elementwise(lambda g: zeros_like(g))
def floor(xp: Any, input: Array) -> Array:
    """The next integer below; derivative 0. Integers stay as they are.

    >>> import tinygrad_ja as tg
    >>> tg.floor(tg.tensor([-1.5, 1.5]))
    tensor([-2.,  1.])
    """
    return xp.floor(input) if input.dtype.kind == "f" else input


@elementwise(lambda g: zeros_like(g))
def ceil(xp: Any, input: Array) -> Array:
    """The next integer above; derivative 0. Integers stay as they are.

    >>> import tinygrad_ja as tg
    >>> tg.ceil(tg.tensor([-1.5, 1.5]))
    tensor([-1.,  2.])
    """
    return xp.ceil(input) if input.dtype.kind == "f" else input


@elementwise(lambda g: zeros_like(g))
def trunc(xp: Any, input: Array) -> Array:
    """The next integer towards zero; derivative 0. Integers stay as they are.

    >>> import tinygrad_ja as tg
    >>> tg.trunc(tg.tensor([-1.5, 1.5]))
    tensor([-1.,  1.])
    """
    return xp.trunc(input) if input.dtype.kind == "f" else input


@elementwise(lambda g: zeros_like(g))
def round(xp: Any, input: Array, *, decimals: int = 0) -> Array:
    """The nearest number with ``decimals`` decimals, halves to the even one; derivative 0. Integers stay as they are.

    >>> import tinygrad_ja as tg
    >>> tg.round(tg.tensor([0.5, 1.5, 2.5])), tg.round(tg.tensor([0.1234]), decimals=2)
    (tensor([0., 2., 2.]), tensor([0.12]))
    """
    if input.dtype.kind != "f" and decimals >= 0:
        return input
    return xp.round(input, decimals) if decimals else xp.rint(input)


@elementwise(lambda g: g)
def frac(xp: Any, input: Array) -> Array:
    """``x - trunc(x)``, with the sign of x; derivative 1.

    >>> import tinygrad_ja as tg
    >>> tg.frac(tg.tensor([-1.5, 1.25]))
    tensor([-0.5 ,  0.25])
    """
    return input - xp.trunc(input)


@elementwise(
    lambda g, input: g * isfinite(input), points=[Point(([math.nan, math.inf, -math.inf, 1.0],), ([0.0, 0.0, 0.0, 1.0],))]
)
def nan_to_num(
    xp: Any, input: Array, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Array:
    """NaN replaced by ``nan`` (0) and infinities by ``posinf``, ``neginf`` (the largest finite numbers); derivative 1, 0 where
    replaced.

    >>> import tinygrad_ja as tg
    >>> tg.nan_to_num(tg.tensor([float("nan"), float("inf"), 1.0]), posinf=9.0)
    tensor([0., 9., 1.])
    """
    if input.dtype.kind != "f":
        return input
    return xp.nan_to_num(input, True, 0.0 if nan is None else nan, posinf, neginf)


# ---- clamping ------------------------------------------------------------------------------------


def _inside(g: Any, input: Any, min: Any, max: Any) -> Any:
    """The cotangent where ``min <= input <= max``, else 0."""
    if max is None:
        return keep(g, input >= min)
    if min is None:
        return keep(g, input <= max)
    return keep(g, (input >= min) & (input <= max))


def _case_of_clamp(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    min, max = pick.choice(((None, 0.5), (-0.5, None), (-0.5, 1.0), (1.0, -0.5)))
    return (pick.array(pick.shape()), min, max), {}


@elementwise(
    _inside,
    cases=_case_of_clamp,
    points=[
        Point(([-2.0, -1.0, 0.0, 1.0, 2.0], -1.0, 1.0), ([0.0, 1.0, 1.0, 1.0, 0.0],)),
        Point(([-2.0, -1.0, 0.0], -1.0, None), ([0.0, 1.0, 1.0],)),
        Point(([0.0, 1.0, 2.0], None, 1.0), ([1.0, 1.0, 0.0],)),
    ],
)
def _clamp(xp: Any, input: Array, min: Any = None, max: Any = None) -> Array:
    """Into [min, max], both numbers or None."""
    if max is None:
        return xp.maximum(input, min)
    if min is None:
        return xp.minimum(input, max)
    return xp.clip(input, min, max)


def _below(g: Any, input: Any, min: Any, max: Any) -> Any:
    if max is None:
        return keep(g, input < min)
    return keep(g, (input < min) & (min < max))


def _above(g: Any, input: Any, min: Any, max: Any) -> Any:
    if min is None:
        return keep(g, input > max)
    return keep(g, (input > max) | (max < min))


def _case_of_clamp_between(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    input, min, max = map(pick.array, pick.broadcastable(3))
    return pick.choice(((input, min, max), (input, min, None), (input, None, max))), {}


@elementwise(
    _inside,
    _below,
    _above,
    cases=_case_of_clamp_between,
    points=[
        Point(
            ([-2.0, -1.0, 0.0, 1.0, 2.0], -1.0, 1.0),
            ([0.0, 1.0, 1.0, 1.0, 0.0], 1.0, 1.0),
        ),
        Point(([-2.0, 1.0, 2.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]), ([0.0, 1.0, 0.0], 0.0, [0.0, 0.0, 1.0])),
        Point(([-2.0, -1.0, 0.0, 1.0, 2.0], 1.0, -1.0), (0.0, 0.0, 5.0)),
        Point(([-2.0, -1.0, 0.0], -1.0, None), ([0.0, 1.0, 1.0], 1.0)),
        Point(([0.0, 1.0, 2.0], None, 1.0), ([1.0, 1.0, 0.0], 1.0)),
    ],
)
def _clamp_between(xp: Any, input: Array, min: Array | None = None, max: Array | None = None) -> Array:
    """Into [min, max], Tensors or None; where min > max it is max."""
    lifted = input if min is None else xp.maximum(input, min)
    return lifted if max is None else xp.minimum(lifted, max)


def clamp(input: Any, min: Any = None, max: Any = None) -> Any:
    """Values below ``min`` become ``min``, values above ``max`` become ``max``; the bounds are numbers, Tensors or None.

    Derivative 1 from min to max, both included, else 0; the gradient of an element outside goes to the bound. Raises ArgumentError
    when both bounds are None.

    >>> import tinygrad_ja as tg
    >>> tg.clamp(tg.tensor([-2.0, 0.5, 3.0]), -1, 1)
    tensor([-1. ,  0.5,  1. ])
    """
    if min is None and max is None:
        raise error(
            "TG-A001",
            op="clamp",
            argument="min",
            value=None,
            rule=("min and max are not both None", "min と max の少なくとも一方は None でないこと"),
            fix=("pass one of them.", "どちらかを渡してください。"),
        )
    if _is_number(min) and _is_number(max):
        return _clamp(input, min, max)
    return _clamp_between(input, min, max)


def _is_number(bound: Any) -> bool:
    return bound is None or isinstance(bound, (int, float))


def clamp_min(input: Any, min: Any) -> Any:
    """``clamp`` with a lower bound only.

    >>> import tinygrad_ja as tg
    >>> tg.clamp_min(tg.tensor([-2.0, 3.0]), 0)
    tensor([0., 3.])
    """
    return _clamp(input, min, None) if isinstance(min, (int, float)) else _clamp_between(input, min, None)


def clamp_max(input: Any, max: Any) -> Any:
    """``clamp`` with an upper bound only.

    >>> import tinygrad_ja as tg
    >>> tg.clamp_max(tg.tensor([-2.0, 3.0]), 0)
    tensor([-2.,  0.])
    """
    return _clamp(input, None, max) if isinstance(max, (int, float)) else _clamp_between(input, None, max)


# ---- the larger and the smaller ------------------------------------------------------------------


def _unless_less(g: Any, one: Any, two: Any) -> Any:
    """The cotangent unless ``one < two``; half of it where they are equal."""
    return _where(one == two, g * 0.5, keep(g, logical_not(one < two)))


@elementwise(
    lambda g, input, other: _unless_less(g, input, other),
    lambda g, input, other: _unless_less(g, other, input),
    points=[Point(([2.0, 3.0, 1.0, math.nan], [2.0, 1.0, 3.0, 1.0]), ([0.5, 1.0, 0.0, 1.0], [0.5, 0.0, 1.0, 1.0]))],
)
def maximum(xp: Any, input: Array, other: Array) -> Array:
    """The larger of two; NaN if one is NaN. The gradient goes to the larger, at a tie half to each.

    >>> import tinygrad_ja as tg
    >>> tg.maximum(tg.tensor([1.0, 5.0]), tg.tensor([3.0, 2.0]))
    tensor([3., 5.])
    """
    return xp.maximum(input, other)


@elementwise(
    lambda g, input, other: _unless_less(g, other, input),
    lambda g, input, other: _unless_less(g, input, other),
    points=[Point(([2.0, 3.0, 1.0, math.nan], [2.0, 1.0, 3.0, 1.0]), ([0.5, 0.0, 1.0, 1.0], [0.5, 1.0, 0.0, 1.0]))],
)
def minimum(xp: Any, input: Array, other: Array) -> Array:
    """The smaller of two; NaN if one is NaN. The gradient goes to the smaller, at a tie half to each.

    >>> import tinygrad_ja as tg
    >>> tg.minimum(tg.tensor([1.0, 5.0]), tg.tensor([3.0, 2.0]))
    tensor([1., 2.])
    """
    return xp.minimum(input, other)


@elementwise(
    lambda g, input, y: keep(g, (input == y) | isnan(y)),
    lambda g, input, y: keep(g, logical_not((input == y) | isnan(y))),
    points=[
        Point(([1.0, math.nan, 1.0, math.nan], [1.0, 1.0, math.nan, math.nan]), ([1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0]))
    ],
)
def fmax(xp: Any, input: Array, other: Array) -> Array:
    """The larger of two; of a NaN and a number the number. The gradient goes to the one chosen, at a tie to the first.

    >>> import tinygrad_ja as tg
    >>> tg.fmax(tg.tensor([1.0, float("nan")]), tg.tensor([3.0, 2.0]))
    tensor([3., 2.])
    """
    return xp.fmax(input, other)


@elementwise(
    lambda g, input, y: keep(g, (input == y) | isnan(y)),
    lambda g, input, y: keep(g, logical_not((input == y) | isnan(y))),
    points=[
        Point(([1.0, math.nan, 1.0, math.nan], [1.0, 1.0, math.nan, math.nan]), ([1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0]))
    ],
)
def fmin(xp: Any, input: Array, other: Array) -> Array:
    """The smaller of two; of a NaN and a number the number. The gradient goes to the one chosen, at a tie to the first.

    >>> import tinygrad_ja as tg
    >>> tg.fmin(tg.tensor([1.0, float("nan")]), tg.tensor([3.0, 2.0]))
    tensor([1., 2.])
    """
    return xp.fmin(input, other)


attach(
    abs,
    ceil,
    clamp,
    clamp_max,
    clamp_min,
    copysign,
    floor,
    fmax,
    fmin,
    frac,
    heaviside,
    maximum,
    minimum,
    nan_to_num,
    round,
    sgn,
    sign,
    trunc,
    __abs__=abs,
)
attach_in_place(abs, ceil, clamp, clamp_max, clamp_min, copysign, floor, frac, heaviside, nan_to_num, round, sgn, sign, trunc)
