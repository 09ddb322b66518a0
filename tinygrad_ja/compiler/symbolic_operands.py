"""What texts compute with beside symbols: numbers and plain arrays as operands, with NumPy's rules for dtypes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from .marks import Number
from .symbolic import Symbol, Unsupported, broadcast, emitter

SCALARS = (bool, int, float)


def is_scalar(value: Any) -> bool:
    """A number of Python, whose dtype follows from the arrays beside it."""
    return type(value) in SCALARS or isinstance(value, Number)


def as_symbol(value: Any, dtype: Any = None) -> Symbol:
    """A symbol for an array, a number of NumPy, or (in ``dtype``) a number of Python."""
    if isinstance(value, Symbol):
        return value
    if type(value) in SCALARS:
        array = emitter().scalar(value, dtype)
        return Symbol((), array.dtype, array, fill=emitter().constants[array][()])
    if isinstance(value, Number):
        if dtype is None:
            raise Unsupported("a changing number without a dtype")
        return Symbol((), dtype, emitter().number(value, np.dtype(dtype)))
    if not isinstance(value, (np.ndarray, np.generic, list, tuple)):
        raise Unsupported(f"an operand of type {type(value).__name__}")
    elements = np.asarray(value)
    if elements.dtype.kind not in "biuf":
        raise Unsupported(f"an operand of dtype {elements.dtype}")
    fill = elements.flat[0] if elements.size == 1 else None
    return Symbol(elements.shape, elements.dtype, emitter().constant(elements), fill=fill)


def kind_of(value: Any) -> Any:
    """What decides the dtype of a result: a dtype, or int or float for a number of Python."""
    if isinstance(value, Number):
        return float
    if type(value) in (int, float):
        return type(value)
    return np.dtype(bool) if type(value) is bool else as_symbol(value).dtype


@functools.lru_cache(4096)
def loop_of(ufunc: np.ufunc, *kinds: Any) -> tuple[np.dtype, ...]:
    """The dtypes in which a ufunc computes, the result's last."""
    return ufunc.resolve_dtypes((*kinds, None))


def common_dtype(*values: Any) -> np.dtype:
    """The dtype to which NumPy promotes."""
    weak = {int: 1, float: 1.0}
    return np.result_type(*[weak.get(kind, kind) for kind in map(kind_of, values)])


def cast(x: Symbol, dtype: Any) -> Symbol:
    """``x`` in another dtype; itself where it is that."""
    dtype = np.dtype(dtype)
    if x.dtype == dtype:
        return x
    small = x.small
    fill = None if x.fill is None else np.asarray(x.fill).astype(dtype)[()]
    if fill is not None:
        return Symbol(x.shape, dtype, emitter().constant(fill, dtype), fill=fill)
    return Symbol(x.shape, dtype, emitter().emit("map", "cast", [small], small.shape, dtype))


def broadcast_arrays(arrays: Sequence[Symbol]) -> list[Symbol]:
    """All in their common shape."""
    shape = broadcast(*[a.shape for a in arrays])
    return [a.seen_as(shape) for a in arrays]


def mapped(function: str, inputs: Sequence[Symbol], dtype: Any) -> Symbol:
    """An element-wise instruction, of what the inputs hold before they are broadcast."""
    arrays = [x.small for x in inputs]
    shape = broadcast(*[x.shape for x in inputs])
    small = broadcast(*[a.shape for a in arrays])
    return Symbol(shape, dtype, emitter().emit("map", function, arrays, small, dtype))


def copy(x: Symbol, *args: Any, **kwargs: Any) -> Symbol:
    """Another symbol for the same elements, which may be changed: arrays never change, so nothing is copied."""
    return Symbol(x.shape, x.dtype, x.small, fill=x.fill)
