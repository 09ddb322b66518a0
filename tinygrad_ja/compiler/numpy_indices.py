"""Gathering and adding at indices as calls of NumPy (``numpy_calls.py``).

``take`` with ``out`` goes through a copy unless its mode says what to do with indices out of range; so the indices are looked at first, which
costs 2 µs, and once for all where they are constants. Rows are added as ``kernels/numpy_indexing.py`` adds them for the eager operators.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels.numpy_indexing import add_rows, add_slices_numpy
from ..ops.indexing import index_error

if TYPE_CHECKING:
    from .numpy_calls import Binding, Call, Room
    from .program import Instruction

_SMALL = 1024
"""Up to so many elements the copy costs less than the look."""


def bind_take(instruction: Instruction, xs: Sequence[np.ndarray], y: np.ndarray, binding: Binding) -> list[Call]:
    """Rows, or elements along an axis."""
    x, indices = xs
    axis = instruction.options["axis"] % x.ndim
    if instruction.function == "take":
        if not x.flags.c_contiguous or not indices.size:
            return [partial(_assign, y, x, (slice(None),) * axis + (indices,))]
        calls, usable = _within(indices, x.shape[axis], binding.room, wraps=True)
        if y.size <= _SMALL and calls:
            return [partial(_take_small, x, indices, axis, y)]
        return [*calls, partial(x.take, usable, axis, y, "wrap")]
    if not x.flags.c_contiguous or not y.size:
        return [partial(_assign, y, x, _grid(axis, indices))]
    calls, flat = _flat(x.shape, y.shape, indices, axis, binding.room)
    return [*calls, partial(x.reshape(-1).take, flat, None, y, "wrap")]


def _take_small(x: np.ndarray, indices: np.ndarray, axis: int, y: np.ndarray) -> None:
    try:
        x.take(indices, axis, y)
    except IndexError as failure:
        raise index_error("index_select", x.shape, (slice(None),) * axis + (indices,)) from failure


def _assign(y: np.ndarray, x: np.ndarray, key: Any) -> None:
    y[...] = x[key]


def bind_add_at(instruction: Instruction, xs: Sequence[np.ndarray], y: np.ndarray, binding: Binding) -> list[Call]:
    """Zeros, to which rows or elements are added."""
    x, indices = xs
    axis = instruction.options["axis"] % y.ndim
    room = binding.room
    target = y if y.flags.c_contiguous else room.array(y.shape, y.dtype)
    end = [] if target is y else [partial(y.__setitem__, Ellipsis, target)]
    if instruction.function == "take":
        if axis == 0 and x.size:
            return [partial(target.fill, 0), partial(_add_rows, target, indices, x), *end]
        return [partial(_add_slices, x, y, axis, indices)]
    if not x.size:
        return [partial(y.fill, 0)]
    calls, flat = _flat(y.shape, x.shape, indices, axis, room)
    values = x
    if not x.flags.c_contiguous:
        values = room.array(x.shape, x.dtype)
        calls = [*calls, partial(values.__setitem__, Ellipsis, x)]
    return [partial(target.fill, 0), *calls, partial(np.add.at, target.reshape(-1), flat.reshape(-1), values.reshape(-1)), *end]


def _add_rows(target: np.ndarray, indices: np.ndarray, x: np.ndarray) -> None:
    try:
        if x.size <= 256:
            np.add.at(target, indices, x)
        else:
            add_rows(target, indices, x, target.shape[0])
    except IndexError as failure:
        raise index_error("index_add", target.shape, (indices,)) from failure


def _add_slices(x: np.ndarray, y: np.ndarray, axis: int, indices: np.ndarray) -> None:
    y[...] = add_slices_numpy(x, y.shape, axis, indices)


def _grid(axis: int, indices: np.ndarray) -> tuple[np.ndarray, ...]:
    """Index arrays that pick elements along an axis."""
    key = [np.arange(n).reshape([-1 if i == d else 1 for i in range(indices.ndim)]) for d, n in enumerate(indices.shape)]
    key[axis] = indices
    return tuple(key)


def _flat(
    shape: tuple[int, ...], wanted: tuple[int, ...], indices: np.ndarray, axis: int, room: Room
) -> tuple[list[Call], np.ndarray]:
    """The positions in a C-contiguous array of a shape that indices along an axis mean, for each element of the shape ``wanted``."""
    calls, usable = _within(indices, shape[axis], room, wraps=False)
    steps = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
    base = np.zeros(wanted, np.intp)
    for d, n in enumerate(wanted):
        if d != axis and shape[d] != 1:
            base += (np.arange(n) * steps[d]).reshape([-1 if i == d else 1 for i in range(len(wanted))])
    if not calls:
        return [], np.ascontiguousarray(usable * steps[axis] + base)
    flat = room.array(wanted, np.intp)
    return [*calls, partial(np.multiply, usable, np.array(steps[axis]), flat), partial(np.add, flat, base, flat)], flat


def _within(indices: np.ndarray, n: int, room: Room, wraps: bool) -> tuple[list[Call], np.ndarray]:
    """Calls that check indices, and where they leave them as positions; without calls for constants. wraps: whether the reader takes
    negative ones from the end by itself."""
    if not indices.flags.writeable:
        _check(indices, n)
        return [], np.remainder(indices, n).astype(np.intp)
    ready = indices
    before: list[Call] = []
    if indices.dtype != np.intp or not indices.flags.c_contiguous or not wraps:
        ready = room.array(indices.shape, np.intp)
        before.append(partial(ready.__setitem__, Ellipsis, indices))
    low, high, flat = np.empty((), np.intp), np.empty((), np.intp), ready.reshape(-1)
    least, most = partial(np.minimum.reduce, flat, 0, None, low), partial(np.maximum.reduce, flat, 0, None, high)

    def check() -> None:
        least()
        most()
        if low.item() < 0 or high.item() >= n:
            _check(indices, n)
            if not wraps:
                np.remainder(ready, n, ready)

    return [*before, check], ready


def _check(indices: np.ndarray, n: int) -> None:
    """Refuse indices outside of [-n, n)."""
    if indices.size and (indices.min() < -n or indices.max() >= n):
        raise index_error("index_select", (n,), (indices,))
