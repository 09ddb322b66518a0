"""Arithmetic: sums, products, quotients, squares and roots.

Every operator here takes Tensors of any shapes that broadcast, or one Tensor and a number, and returns the dtype that PyTorch's promotion
gives; a result that is not an integer is float32 for integer operands.
"""

from __future__ import annotations

from typing import Any

from ..core.operator import Array, elementwise
from ..errors import error
from .creation import zeros_like
from .methods import attach, attach_in_place

__all__ = [
    "add",
    "addcdiv",
    "addcmul",
    "div",
    "floor_divide",
    "fmod",
    "hypot",
    "lerp",
    "mul",
    "neg",
    "positive",
    "reciprocal",
    "remainder",
    "rsqrt",
    "rsub",
    "sqrt",
    "square",
    "sub",
    "true_divide",
]

# ---- sums and products ---------------------------------------------------------------------------


@elementwise(lambda g: g, lambda g: g)
def _add(xp: Any, input: Array, other: Array) -> Array:
    """Sum ``x + y``; d(x + y) = dx + dy."""
    return xp.add(input, other)


def add(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    """Sum ``input + alpha * other``; d(x + a y) = dx + a dy.

    >>> import tinygrad_ja as tg
    >>> tg.add(tg.tensor([1.0, 2.0]), 1)
    tensor([2., 3.])
    """
    return _add(input, other) if alpha == 1 else _add(input, other * alpha)


@elementwise(lambda g: g, lambda g: -g)
def _sub(xp: Any, input: Array, other: Array) -> Array:
    """Difference ``x - y``; d(x - y) = dx - dy."""
    return xp.subtract(input, other)


def sub(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    """Difference ``input - alpha * other``; d(x - a y) = dx - a dy. Bools cannot be subtracted.

    >>> import tinygrad_ja as tg
    >>> tg.sub(tg.tensor([1.0, 2.0]), tg.tensor([3.0]), alpha=2)
    tensor([-5., -4.])
    """
    return _sub(input, other) if alpha == 1 else _sub(input, other * alpha)


@elementwise(lambda g: -g, lambda g: g)
def _rsub(xp: Any, input: Array, other: Array) -> Array:
    """``y - x``, so that ``1 - x`` finds its kernel by the Tensor."""
    return xp.subtract(other, input)


def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    """Reversed difference ``other - alpha * input``.

    >>> import tinygrad_ja as tg
    >>> tg.rsub(tg.tensor([1.0, 2.0]), 1)
    tensor([ 0., -1.])
    """
    return _rsub(input, other) if alpha == 1 else _rsub(input * alpha, other)


@elementwise(lambda g, other: g * other, lambda g, input: g * input)
def mul(xp: Any, input: Array, other: Array) -> Array:
    """Product ``x * y``; d(x y) = y dx + x dy.

    >>> import tinygrad_ja as tg
    >>> tg.mul(tg.tensor([1.0, 2.0]), tg.tensor([[3.0], [4.0]]))
    tensor([[3., 6.],
            [4., 8.]])
    """
    return xp.multiply(input, other)


@elementwise(lambda g: -g)
def neg(xp: Any, input: Array) -> Array:
    """Negative ``-x``.

    >>> import tinygrad_ja as tg
    >>> tg.neg(tg.tensor([1.0, -2.0]))
    tensor([-1.,  2.])
    """
    return xp.negative(input)


def positive(input: Any) -> Any:
    """``input`` itself.

    >>> import tinygrad_ja as tg
    >>> tg.positive(tg.tensor([1.0, -2.0]))
    tensor([ 1., -2.])
    """
    return input


@elementwise(
    lambda g: g,
    lambda g, tensor2, value: g * tensor2 * value,
    lambda g, tensor1, value: g * tensor1 * value,
    cases=lambda pick: ([pick.array(shape) for shape in pick.broadcastable(3)], {"value": pick.choice((1, 0.5, -2.0))}),
)
def addcmul(xp: Any, input: Array, tensor1: Array, tensor2: Array, *, value: Any = 1) -> Array:
    """``input + value * tensor1 * tensor2``; derivatives 1, value t₂, value t₁.

    >>> import tinygrad_ja as tg
    >>> tg.addcmul(tg.tensor([1.0]), tg.tensor([2.0]), tg.tensor([3.0]), value=0.5)
    tensor([4.])
    """
    product = tensor1 * tensor2
    return input + (product if value == 1 else product * value)


def _case_of_addcdiv(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    input, tensor1, tensor2 = pick.broadcastable(3)
    return (pick.array(input), pick.array(tensor1), pick.array(tensor2, 0.5, 2.0)), {"value": pick.choice((1, 0.5, -2.0))}


@elementwise(
    lambda g: g,
    lambda g, tensor2, value: g * value / tensor2,
    lambda g, tensor1, tensor2, value: g * (tensor1 / tensor2) * -value / tensor2,
    cases=_case_of_addcdiv,
)
def addcdiv(xp: Any, input: Array, tensor1: Array, tensor2: Array, *, value: Any = 1) -> Array:
    """``input + value * tensor1 / tensor2``; derivatives 1, value / t₂, -value t₁ / t₂².

    >>> import tinygrad_ja as tg
    >>> tg.addcdiv(tg.tensor([1.0]), tg.tensor([3.0]), tg.tensor([2.0]), value=2)
    tensor([4.])
    """
    quotient = tensor1 / tensor2
    return input + (quotient if value == 1 else quotient * value)


@elementwise(
    lambda g, weight: g * (1 - weight),
    lambda g, weight: g * weight,
    lambda g, input, end: g * (end - input),
    domain=[(-2.0, 2.0), (-2.0, 2.0), (0.0, 1.0)],
)
def lerp(xp: Any, input: Array, end: Array, weight: Array) -> Array:
    """Linear interpolation ``input + weight * (end - input)``; exact at both ends. ``weight`` is a Tensor or a number.

    Derivatives 1 - w, w, end - start.

    >>> import tinygrad_ja as tg
    >>> tg.lerp(tg.tensor([0.0, 2.0]), tg.tensor([4.0, 4.0]), 0.25)
    tensor([1. , 2.5])
    """
    step = end - input
    near, far = input + weight * step, end - step * (1 - weight)
    if isinstance(weight, (int, float)):
        return near if abs(weight) < 0.5 else far
    return xp.where(xp.abs(weight) < 0.5, near, far)


# ---- quotients -----------------------------------------------------------------------------------


@elementwise(
    lambda g, other: g / other,
    lambda g, y, other: g * y / -other,
    domain=[(-2.0, 2.0), (0.5, 2.0)],
)
def _div(xp: Any, input: Array, other: Array) -> Array:
    """Quotient ``x / y``; d(x / y) = dx / y - (x / y) dy / y."""
    return xp.true_divide(input, other)


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    """Quotient ``input / other``, or rounded: towards zero with ``rounding_mode="trunc"``, down with ``"floor"``.

    d(x / y) = dx / y - x dy / y²; a rounded quotient has derivative zero. Raises ArgumentError for another ``rounding_mode``.

    >>> import tinygrad_ja as tg
    >>> x = tg.tensor([-7, 7])
    >>> tg.div(x, 2), tg.div(x, 2, rounding_mode="trunc"), tg.div(x, 2, rounding_mode="floor")
    (tensor([-3.5,  3.5]), tensor([-3,  3]), tensor([-4,  3]))
    """
    if rounding_mode is None:
        return _div(input, other)
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode == "trunc":
        return _trunc_divide(input, other)
    raise error(
        "TG-A001",
        op="div",
        argument="rounding_mode",
        value=rounding_mode,
        rule=("None, 'trunc' or 'floor'", "None、'trunc'、'floor' のどれか"),
        fix=("choose one of these.", "この中から選んでください。"),
    )


def true_divide(input: Any, other: Any) -> Any:
    """Quotient ``input / other``; the same as ``div`` without rounding.

    >>> import tinygrad_ja as tg
    >>> tg.true_divide(tg.tensor([3, 4]), 2)
    tensor([1.5, 2. ])
    """
    return _div(input, other)


@elementwise(
    lambda g, y, input: g * y / -input,
    lambda g, input: g / input,
    domain=[(0.5, 2.0), (-2.0, 2.0)],
)
def _rdiv(xp: Any, input: Array, other: Array) -> Array:
    """``y / x``, so that ``1 / x`` finds its kernel by the Tensor."""
    return xp.true_divide(other, input)


@elementwise(lambda g: zeros_like(g), lambda g: zeros_like(g), domain=[(-2.0, 2.0), (0.5, 2.0)])
def floor_divide(xp: Any, input: Array, other: Array) -> Array:
    """Quotient rounded down, ``floor(x / y)``; derivative 0. Integers stay integers.

    >>> import tinygrad_ja as tg
    >>> tg.floor_divide(tg.tensor([-7, 7]), 2)
    tensor([-4,  3])
    """
    return xp.floor_divide(input, other)


@elementwise(lambda g: zeros_like(g), lambda g: zeros_like(g), domain=[(-2.0, 2.0), (0.5, 2.0)])
def _trunc_divide(xp: Any, input: Array, other: Array) -> Array:
    """Quotient rounded towards zero; derivative 0."""
    down = xp.floor_divide(input, other)
    if down.dtype.kind == "f":
        return xp.trunc(xp.true_divide(input, other))
    inexact = (down * other != input) & (down < 0)
    return down + inexact.astype(down.dtype)


@elementwise(
    lambda g: g,
    lambda g, input, other: -g * floor_divide(input, other),
    domain=[(-2.0, 2.0), (0.5, 2.0)],
)
def remainder(xp: Any, input: Array, other: Array) -> Array:
    """``x - y floor(x / y)``, with the sign of y (Python's ``%``); derivatives 1 and -floor(x / y).

    >>> import tinygrad_ja as tg
    >>> tg.remainder(tg.tensor([-3, 3]), 2)
    tensor([1, 1])
    """
    return xp.remainder(input, other)


@elementwise(
    lambda g: g,
    lambda g, input, other: -g * _trunc_divide(input, other),
    domain=[(-2.0, 2.0), (0.5, 2.0)],
)
def fmod(xp: Any, input: Array, other: Array) -> Array:
    """``x - y trunc(x / y)``, with the sign of x (C's ``fmod``); derivatives 1 and -trunc(x / y).

    >>> import tinygrad_ja as tg
    >>> tg.fmod(tg.tensor([-3, 3]), 2)
    tensor([-1,  1])
    """
    return xp.fmod(input, other)


@elementwise(lambda g, y: -g * (y * y), domain=(0.5, 2.0))
def reciprocal(xp: Any, input: Array) -> Array:
    """``1 / x``; dy/dx = -y².

    >>> import tinygrad_ja as tg
    >>> tg.reciprocal(tg.tensor([2, 4]))
    tensor([0.5 , 0.25])
    """
    return xp.reciprocal(input) if input.dtype.kind == "f" else 1.0 / input


# ---- squares and roots ---------------------------------------------------------------------------


@elementwise(lambda g, input: g * (input * 2))
def square(xp: Any, input: Array) -> Array:
    """``x * x``; dy/dx = 2 x.

    >>> import tinygrad_ja as tg
    >>> tg.square(tg.tensor([1.0, -3.0]))
    tensor([1., 9.])
    """
    return xp.square(input)


@elementwise(lambda g, y: g / (y * 2), domain=(0.5, 4.0))
def sqrt(xp: Any, input: Array) -> Array:
    """Square root; dy/dx = 1 / (2 y). NaN for negative values.

    >>> import tinygrad_ja as tg
    >>> tg.sqrt(tg.tensor([4, 9]))
    tensor([2., 3.])
    """
    return xp.sqrt(input)


@elementwise(lambda g, y: g * (y * y * y) * -0.5, domain=(0.5, 4.0))
def rsqrt(xp: Any, input: Array) -> Array:
    """``1 / sqrt(x)``; dy/dx = -y³ / 2.

    >>> import tinygrad_ja as tg
    >>> tg.rsqrt(tg.tensor([4.0, 16.0]))
    tensor([0.5 , 0.25])
    """
    return 1.0 / xp.sqrt(input)


@elementwise(lambda g, input, y: g * (input / y), lambda g, other, y: g * (other / y), domain=[(0.5, 2.0), (0.5, 2.0)])
def hypot(xp: Any, input: Array, other: Array) -> Array:
    """``sqrt(x² + y²)`` without overflow on the way; derivatives x / h and y / h (NaN at the origin, as in PyTorch).

    >>> import tinygrad_ja as tg
    >>> tg.hypot(tg.tensor([3.0]), tg.tensor([4.0]))
    tensor([5.])
    """
    return xp.hypot(input, other)


attach(
    add,
    addcdiv,
    addcmul,
    div,
    floor_divide,
    fmod,
    hypot,
    lerp,
    mul,
    neg,
    positive,
    reciprocal,
    remainder,
    rsqrt,
    sqrt,
    square,
    sub,
    true_divide,
    __add__=_add,
    __radd__=_add,
    __sub__=_sub,
    __rsub__=_rsub,
    __mul__=mul,
    __rmul__=mul,
    __truediv__=_div,
    __rtruediv__=_rdiv,
    __rdiv__=_rdiv,
    __floordiv__=floor_divide,
    __rfloordiv__=lambda self, other: floor_divide(other, self),
    __mod__=remainder,
    __rmod__=lambda self, other: remainder(other, self),
    __neg__=neg,
    __pos__=positive,
)
attach_in_place(
    add,
    addcdiv,
    addcmul,
    div,
    floor_divide,
    fmod,
    hypot,
    lerp,
    mul,
    neg,
    reciprocal,
    remainder,
    rsqrt,
    sqrt,
    square,
    sub,
    true_divide,
    __iadd__=_add,
    __isub__=_sub,
    __imul__=mul,
    __itruediv__=_div,
    __ifloordiv__=floor_divide,
    __imod__=remainder,
)
