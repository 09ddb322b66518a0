"""Making, joining and turning symbols: what instructions say with views, joins and constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .symbolic import Symbol, Unsupported, emitter
from .symbolic_operands import as_symbol, cast, common_dtype, copy, mapped


def where(condition: Any, *choices: Any) -> Symbol:
    """A choice between two."""
    if len(choices) != 2:
        raise Unsupported("where without choices")
    dtype = common_dtype(*choices)
    condition = cast(as_symbol(condition), bool)
    return mapped("where", [condition, *[as_symbol(x, dtype) for x in choices]], dtype)


def axes_of(axis: Any, ndim: int) -> tuple[int, ...]:
    """Axes as a sorted tuple, counted from 0."""
    if axis is None:
        return tuple(range(ndim))
    made = [int(a) for a in (axis if isinstance(axis, (tuple, list)) else (axis,))]
    if any([not -ndim <= a < ndim for a in made]) or len({a % ndim for a in made}) < len(made):
        raise ValueError(f"axis {axis} of an array of {ndim} axes")
    return tuple(sorted([a % ndim for a in made]))


def sizes(shape: Any) -> tuple[int, ...]:
    """A shape given as an int or a tuple."""
    return (int(shape),) if isinstance(shape, (int, np.integer)) else tuple([int(n) for n in shape])


def full(shape: Any, value: Any, dtype: Any = None) -> Symbol:
    """An array of one number."""
    made = as_symbol(value, dtype or (np.float64 if isinstance(value, float) else None))
    made = cast(made, dtype) if dtype is not None else made
    return Symbol(sizes(shape), made.dtype, made.seen_as(sizes(shape)).small, fill=made.fill)


def full_like(x: Any, value: Any, dtype: Any = None, shape: Any = None, **kwargs: Any) -> Symbol:
    """An array of one number in the shape of another."""
    return full(x.shape if shape is None else shape, value, dtype or x.dtype)


def ones_like(x: Any, dtype: Any = None, shape: Any = None, **kwargs: Any) -> Symbol:
    """Ones."""
    return full_like(x, 1, dtype, shape)


def zeros_like(x: Any, dtype: Any = None, shape: Any = None, **kwargs: Any) -> Symbol:
    """Zeros."""
    return full_like(x, 0, dtype, shape)


def concatenate(arrays: Sequence[Any], axis: int = 0, **kwargs: Any) -> Symbol:
    """Arrays one behind the other."""
    symbols = [as_symbol(x) for x in arrays]
    dtype = np.result_type(*[x.dtype for x in symbols])
    if not symbols[0].ndim or not -symbols[0].ndim <= axis < symbols[0].ndim:
        raise ValueError("concatenate along an axis that is none")
    axis %= symbols[0].ndim
    others = {(*x.shape[:axis], *x.shape[axis + 1 :]) for x in symbols}
    if len(others) > 1 or len({x.ndim for x in symbols}) > 1:
        raise ValueError("all the input array dimensions except for the concatenation axis must match exactly")
    filled = [x for x in symbols if x.shape[axis]] or symbols[:1]
    shape = (*symbols[0].shape[:axis], sum([x.shape[axis] for x in symbols]), *symbols[0].shape[axis + 1 :])
    if len(filled) == 1:
        return copy(cast(filled[0], dtype))
    joined = [cast(x, dtype).full for x in filled]
    return Symbol(shape, dtype, emitter().emit("join", "concatenate", joined, shape, dtype, axis=axis))


def stack(arrays: Sequence[Any], axis: int = 0, **kwargs: Any) -> Symbol:
    """Arrays side by side along a new axis."""
    symbols = [as_symbol(x) for x in arrays]
    if len({x.shape for x in symbols}) > 1:
        raise ValueError("all input arrays must have the same shape")
    place = axis % (symbols[0].ndim + 1)
    return concatenate([expand_dims(x, place) for x in symbols], place)


def side_by_side(parts: Sequence[Symbol]) -> Symbol:
    """The same along a first axis, joined only when somebody wants the whole."""
    shape, dtype = (len(parts), *parts[0].shape), parts[0].dtype
    held = [copy(part) for part in parts]
    return Symbol(shape, dtype, make=lambda: stack(held).full, parts=held)


def expand_dims(x: Any, axis: Any) -> Symbol:
    """A further axis of size 1."""
    return x.reshape(np.expand_dims(np.broadcast_to(np.False_, x.shape), axis).shape)


def squeeze(x: Symbol, axis: Any = None) -> Symbol:
    """Without axes of size 1."""
    return x.reshape(np.squeeze(np.broadcast_to(np.False_, x.shape), axis).shape)


def moveaxis(x: Symbol, source: Any, destination: Any) -> Symbol:
    """Some axes in other places."""
    marked = np.broadcast_to(np.False_, [2 + i for i in range(x.ndim)])
    return x.transpose([n - 2 for n in np.moveaxis(marked, source, destination).shape])


def swapaxes(x: Symbol, first: int, second: int) -> Symbol:
    """Two axes exchanged."""
    order = list(range(x.ndim))
    order[first], order[second] = order[second], order[first]
    return x.transpose(order)


def roll(x: Symbol, shift: Any, axis: Any = None) -> Symbol:
    """Elements moved round along an axis."""
    if axis is None:
        return roll(x.reshape(-1), shift, 0).reshape(x.shape)
    pairs = zip(shift, axis) if isinstance(axis, (tuple, list)) else [(shift, axis)]
    for distance, place in pairs:
        n = x.shape[place]
        cut = -distance % n if n else 0
        if cut:
            front = (slice(None),) * (place % x.ndim)
            x = concatenate([x[front + (part,)] for part in (slice(cut, None), slice(0, cut))], place)
    return x


def flip(x: Symbol, axis: Any = None) -> Symbol:
    """Axes in reverse order."""
    axes = axes_of(axis, x.ndim)
    return copy(x[tuple([slice(None, None, -1) if i in axes else slice(None) for i in range(x.ndim)])])


def triangle(function: Any) -> Callable[..., Any]:
    """``tril`` or ``triu``: one side of the diagonal, zeros elsewhere."""

    def cut(x: Any, k: int = 0) -> Symbol:
        return where(function(np.ones(x.shape[-2:], bool), k), x, np.zeros((), x.dtype))

    return cut
