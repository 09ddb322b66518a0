"""Comparison, tests of single values, logic, and the choice between two values by a condition.

The results are bool Tensors without history; bitwise operators keep the integer dtype; ``where`` is differentiable.
"""

from __future__ import annotations

from typing import Any

from ..backend.arrays import ARRAY_MODULES, is_array
from ..core.operator import Array, Constant, elementwise, linear, primitive
from ..core.promotion import result_type
from ..core.tensor import Tensor
from ..errors import error
from .methods import attach, attach_in_place

__all__ = [
    "allclose",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "eq",
    "equal",
    "ge",
    "gt",
    "isclose",
    "isfinite",
    "isin",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "le",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "ne",
    "signbit",
    "where",
]

# ---- comparison ----------------------------------------------------------------------------------


@elementwise()
def eq(xp: Any, input: Array, other: Array) -> Array:
    """``x == y`` for each element; NaN equals nothing.

    >>> import tinygrad_ja as tg
    >>> tg.eq(tg.tensor([1.0, 2.0]), 2)
    tensor([False,  True])
    """
    return xp.equal(input, other)


@elementwise()
def ne(xp: Any, input: Array, other: Array) -> Array:
    """``x != y`` for each element.

    >>> import tinygrad_ja as tg
    >>> tg.ne(tg.tensor([1.0, 2.0]), 2)
    tensor([ True, False])
    """
    return xp.not_equal(input, other)


@elementwise()
def lt(xp: Any, input: Array, other: Array) -> Array:
    """``x < y`` for each element.

    >>> import tinygrad_ja as tg
    >>> tg.lt(tg.tensor([1, 2, 3]), 2)
    tensor([ True, False, False])
    """
    return xp.less(input, other)


@elementwise()
def le(xp: Any, input: Array, other: Array) -> Array:
    """``x <= y`` for each element.

    >>> import tinygrad_ja as tg
    >>> tg.le(tg.tensor([1, 2, 3]), 2)
    tensor([ True,  True, False])
    """
    return xp.less_equal(input, other)


@elementwise()
def gt(xp: Any, input: Array, other: Array) -> Array:
    """``x > y`` for each element.

    >>> import tinygrad_ja as tg
    >>> tg.gt(tg.tensor([1, 2, 3]), 2)
    tensor([False, False,  True])
    """
    return xp.greater(input, other)


@elementwise()
def ge(xp: Any, input: Array, other: Array) -> Array:
    """``x >= y`` for each element.

    >>> import tinygrad_ja as tg
    >>> tg.ge(tg.tensor([1, 2, 3]), 2)
    tensor([False,  True,  True])
    """
    return xp.greater_equal(input, other)


@elementwise()
def isclose(xp: Any, input: Array, other: Array, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Array:
    """``|x - y| <= atol + rtol |y|`` for each element; equal infinities are close, NaNs only with ``equal_nan``.

    >>> import tinygrad_ja as tg
    >>> tg.isclose(tg.tensor([1.0, 2.0]), tg.tensor([1.000001, 2.1]))
    tensor([ True, False])
    """
    return xp.isclose(input, other, rtol, atol, equal_nan)


def allclose(input: Any, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """True when ``isclose`` holds for every element.

    >>> import tinygrad_ja as tg
    >>> tg.allclose(tg.tensor([1.0, 2.0]), tg.tensor([1.000001, 2.1]))
    False
    """
    return bool(_raw(isclose(input, other, rtol, atol, equal_nan)).all())


def equal(input: Any, other: Any) -> bool:
    """True when both have the same shape and the same elements.

    >>> import tinygrad_ja as tg
    >>> tg.equal(tg.tensor([1.0, 2.0]), tg.tensor([1.0, 2.0]))
    True
    """
    return input.shape == other.shape and bool(_raw(eq(input, other)).all())


def _raw(value: Any) -> Any:
    return value.array if type(value) is Tensor else value


@primitive(cases=lambda pick: ((pick.array(pick.shape()), pick.array((3,))), {}))
def _isin(xp: Any, elements: Array, test_elements: Constant, invert: bool = False) -> Array:
    """Which elements occur among ``test_elements``."""
    found = xp.isin(elements, test_elements)
    return xp.logical_not(found) if invert else found


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Any:
    """For each of ``elements`` whether it is one of ``test_elements`` (or, with ``invert``, none). Either may be a number.

    ``assume_unique`` is accepted for its name's sake; the result is the same. Raises DtypeError when both are numbers.

    >>> import tinygrad_ja as tg
    >>> tg.isin(tg.tensor([1, 2, 3]), tg.tensor([2, 5]))
    tensor([False,  True, False])
    """
    given = elements if type(elements) is Tensor or is_array(elements) else test_elements
    array = _raw(given)
    if not is_array(array):
        raise error("TG-T002", op="isin", argument="elements", type=type(elements).__name__)
    xp = ARRAY_MODULES[type(array)]
    if not is_array(_raw(elements)):
        elements = Tensor(xp.asarray(elements))
    if not is_array(_raw(test_elements)):
        test_elements = xp.asarray(test_elements)
    return _isin(elements, test_elements, invert)


# ---- tests of single values ----------------------------------------------------------------------


@elementwise()
def isnan(xp: Any, input: Array) -> Array:
    """True for NaN.

    >>> import tinygrad_ja as tg
    >>> tg.isnan(tg.tensor([1.0, float("nan")]))
    tensor([False,  True])
    """
    return xp.isnan(input)


@elementwise()
def isinf(xp: Any, input: Array) -> Array:
    """True for either infinity.

    >>> import tinygrad_ja as tg
    >>> tg.isinf(tg.tensor([1.0, float("-inf")]))
    tensor([False,  True])
    """
    return xp.isinf(input)


@elementwise()
def isfinite(xp: Any, input: Array) -> Array:
    """True unless NaN or infinite.

    >>> import tinygrad_ja as tg
    >>> tg.isfinite(tg.tensor([1.0, float("inf"), float("nan")]))
    tensor([ True, False, False])
    """
    return xp.isfinite(input)


@elementwise()
def isposinf(xp: Any, input: Array) -> Array:
    """True for positive infinity.

    >>> import tinygrad_ja as tg
    >>> tg.isposinf(tg.tensor([float("inf"), float("-inf")]))
    tensor([ True, False])
    """
    return xp.equal(input, float("inf"))


@elementwise()
def isneginf(xp: Any, input: Array) -> Array:
    """True for negative infinity.

    >>> import tinygrad_ja as tg
    >>> tg.isneginf(tg.tensor([float("inf"), float("-inf")]))
    tensor([False,  True])
    """
    return xp.equal(input, float("-inf"))


@elementwise()
def signbit(xp: Any, input: Array) -> Array:
    """True where the sign bit is set: for negative numbers and for -0.0.

    >>> import tinygrad_ja as tg
    >>> tg.signbit(tg.tensor([-0.0, 0.0, -2.0]))
    tensor([ True, False,  True])
    """
    return xp.signbit(input) if input.dtype.kind == "f" else xp.less(input, 0)


# ---- logic ---------------------------------------------------------------------------------------


@elementwise()
def logical_and(xp: Any, input: Array, other: Array) -> Array:
    """True where both are non-zero.

    >>> import tinygrad_ja as tg
    >>> tg.logical_and(tg.tensor([True, True]), tg.tensor([0, 2]))
    tensor([False,  True])
    """
    return xp.logical_and(input, other)


@elementwise()
def logical_or(xp: Any, input: Array, other: Array) -> Array:
    """True where one is non-zero.

    >>> import tinygrad_ja as tg
    >>> tg.logical_or(tg.tensor([False, True]), tg.tensor([0, 0]))
    tensor([False,  True])
    """
    return xp.logical_or(input, other)


@elementwise()
def logical_xor(xp: Any, input: Array, other: Array) -> Array:
    """True where exactly one is non-zero.

    >>> import tinygrad_ja as tg
    >>> tg.logical_xor(tg.tensor([False, True]), tg.tensor([1, 1]))
    tensor([ True, False])
    """
    return xp.logical_xor(input, other)


@elementwise()
def logical_not(xp: Any, input: Array) -> Array:
    """True for zero.

    >>> import tinygrad_ja as tg
    >>> tg.logical_not(tg.tensor([0.0, 1.5]))
    tensor([ True, False])
    """
    return xp.logical_not(input)


@elementwise(integer=True)
def bitwise_and(xp: Any, input: Array, other: Array) -> Array:
    """Bits that both have; for bools ``and``. Integers and bools only.

    >>> import tinygrad_ja as tg
    >>> tg.bitwise_and(tg.tensor([6, 5]), 3)
    tensor([2, 1])
    """
    return xp.bitwise_and(input, other)


@elementwise(integer=True)
def bitwise_or(xp: Any, input: Array, other: Array) -> Array:
    """Bits that one of them has; for bools ``or``. Integers and bools only.

    >>> import tinygrad_ja as tg
    >>> tg.bitwise_or(tg.tensor([4, 5]), 3)
    tensor([7, 7])
    """
    return xp.bitwise_or(input, other)


@elementwise(integer=True)
def bitwise_xor(xp: Any, input: Array, other: Array) -> Array:
    """Bits that exactly one has; for bools ``xor``. Integers and bools only.

    >>> import tinygrad_ja as tg
    >>> tg.bitwise_xor(tg.tensor([4, 5]), 1)
    tensor([5, 4])
    """
    return xp.bitwise_xor(input, other)


@elementwise(integer=True)
def bitwise_not(xp: Any, input: Array) -> Array:
    """Every bit turned over; for bools ``not``. Integers and bools only.

    >>> import tinygrad_ja as tg
    >>> tg.bitwise_not(tg.tensor([True, False])), tg.bitwise_not(tg.tensor([0, 5]))
    (tensor([False,  True]), tensor([-1, -6]))
    """
    return xp.invert(input)


# ---- choice --------------------------------------------------------------------------------------


def _case_of_where(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    condition, input, other = pick.broadcastable(3)
    return (pick.mask(condition), pick.array(input), pick.array(other)), {}


@elementwise(
    lambda g, condition: _where(condition, g, 0.0),
    lambda g, condition: _where(logical_not(condition), g, 0.0),
    cases=_case_of_where,
)
def _where(xp: Any, condition: Constant, input: Array, other: Array) -> Array:
    """``input`` where the condition holds, else ``other``; the cotangent goes to the one that was chosen."""
    return xp.where(condition, input, other)


def _case_of_keep(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    shape = pick.shape()
    return (pick.array(shape), pick.mask(shape)), {}


@linear(lambda g, mask: keep(g, mask), broadcasts=True, cases=_case_of_keep)
def keep(xp: Any, input: Array, mask: Constant) -> Array:
    """``input`` where the mask holds, else 0. What derivatives of pieces use: unlike ``input * mask`` it stops infinities and NaN.

    >>> import numpy as np
    >>> keep(np.array([1.0, np.inf]), np.array([True, False]))
    array([1., 0.])
    """
    return xp.where(mask, input, 0.0)


def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """``input`` where ``condition`` (bool) holds, else ``other``; the three broadcast, ``input`` and ``other`` may be numbers.

    The gradient of an element goes to the one that was chosen. With the condition alone: the tuple of index Tensors of its non-zero
    elements. Raises DtypeError for a condition that is not bool.

    >>> import tinygrad_ja as tg
    >>> x = tg.tensor([1.0, -2.0])
    >>> tg.where(x > 0, x, 0.0)
    tensor([1., 0.])
    """
    if input is None and other is None:
        from .selection import nonzero

        return nonzero(condition, as_tuple=True)
    mask = _raw(condition)
    if not is_array(mask):
        raise error("TG-T002", op="where", argument="condition", type=type(condition).__name__)
    if mask.dtype.kind != "b":
        raise error("TG-T004", op="where", dtype=mask.dtype, allowed=("a bool condition", "bool の条件"), fix="tg.bool")
    if isinstance(input, (bool, int, float)) and isinstance(other, (bool, int, float)):
        input = Tensor(ARRAY_MODULES[type(mask)].asarray(input, dtype=result_type(input, other)))
    return _where(mask, input, other)


def _choose(self: Tensor, condition: Any, other: Any) -> Any:
    """``self`` where ``condition`` holds, else ``other``."""
    return where(condition, self, other)


def _operator(function: Any) -> Any:
    """``==`` and ``!=``: False and True, not an error, beside things that cannot be compared, such as None and strings."""

    def method(self: Tensor, other: Any) -> Any:
        if type(other) is Tensor or isinstance(other, (int, float)) or is_array(other) or hasattr(other, "dtype"):
            return function(self, other)
        return NotImplemented

    method.__doc__ = function.__doc__
    return method


attach(
    allclose,
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    eq,
    equal,
    ge,
    gt,
    isclose,
    isfinite,
    isinf,
    isnan,
    isneginf,
    isposinf,
    le,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    ne,
    signbit,
    where=_choose,
    __eq__=_operator(eq),
    __ne__=_operator(ne),
    __lt__=lt,
    __le__=le,
    __gt__=gt,
    __ge__=ge,
    __and__=bitwise_and,
    __rand__=bitwise_and,
    __or__=bitwise_or,
    __ror__=bitwise_or,
    __xor__=bitwise_xor,
    __rxor__=bitwise_xor,
    __invert__=bitwise_not,
)
attach_in_place(
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    eq,
    ge,
    gt,
    le,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    ne,
    __iand__=bitwise_and,
    __ior__=bitwise_or,
    __ixor__=bitwise_xor,
)
