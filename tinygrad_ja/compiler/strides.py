"""Strides without arrays: where the elements of a view lie, given where those of its source lie, and the other way round.

Everything is in bytes, as in NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .program import Instruction


def contiguous(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """The strides of a C-contiguous array.

    >>> contiguous((2, 3), 4)
    (12, 4)
    """
    strides, step = [], itemsize
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def same_strides(shape: Sequence[int], a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether strides say the same; those of axes with one element say nothing."""
    return 0 in shape or all([n == 1 or s == t for n, s, t in zip(shape, a, b)])


def reshaped(shape: Sequence[int], strides: Sequence[int], new: Sequence[int], itemsize: int) -> tuple[int, ...] | None:
    """The strides of a reshape without a copy; None where there is none.

    >>> reshaped((2, 3, 4), (4, 32, 8), (2, 12), 4), reshaped((2, 3), (4, 8), (6,), 4)
    ((4, 8), None)
    """
    if 0 in new:
        return contiguous(new, itemsize)
    runs: list[tuple[int, int]] = []  # (elements, stride) of axes that run into one another
    for n, step in zip(shape, strides):
        if n != 1:
            if runs and runs[-1][1] == n * step:
                runs[-1] = (runs[-1][0] * n, step)
            else:
                runs.append((n, step))
    made: list[int] = []
    left, step = 1, itemsize
    for n in reversed(new):
        if n > 1 and left == 1:
            left, step = runs.pop()
        if left % n:
            return None
        made.append(step)
        left, step = left // n, step * n
    return tuple(reversed(made))


def view_of(instruction: Instruction, strides: Sequence[int]) -> tuple[int, tuple[int, ...]] | None:
    """Bytes from the first element of a view's input to its own first one, and its strides; None where it has to copy."""
    (x,), y = instruction.inputs, instruction.output
    function, options = instruction.function, instruction.options
    if function == "reshape":
        made = reshaped(x.shape, strides, y.shape, x.dtype.itemsize)
        return None if made is None else (0, made)
    stand_in = np.lib.stride_tricks.as_strided(np.empty((), x.dtype), x.shape, strides)  # of which no element is read
    if function == "transpose":
        seen = stand_in.transpose(options["axes"])
    elif function == "broadcast":
        seen = np.broadcast_to(stand_in, y.shape)
    else:
        key = options["key"] if isinstance(options["key"], tuple) else (options["key"],)
        seen = stand_in[key if any([part is Ellipsis for part in key]) else (*key, ...)]
    return address_of(seen) - address_of(stand_in) if y.size else 0, seen.strides


def address_of(array: Any) -> int:
    """Of the first element of an array of NumPy or CuPy."""
    return int(array.data.ptr if hasattr(array.data, "ptr") else array.__array_interface__["data"][0])


def source_strides(instruction: Instruction, strides: Sequence[int]) -> tuple[int, ...] | None:
    """The strides that a view's input must have so that the view's are ``strides``; None where it has more elements, or there are none."""
    (x,), y = instruction.inputs, instruction.output
    if x.size != y.size:
        return None
    if instruction.function == "transpose":
        axes = [axis % x.ndim for axis in instruction.options["axes"] or reversed(range(x.ndim))]
        return tuple([strides[axes.index(axis)] for axis in range(x.ndim)])
    made = reshaped(y.shape, strides, x.shape, x.dtype.itemsize)
    # As many elements in the same order, unless an axis is turned round.
    if made is None or x.size == 0 or view_of(instruction, made) is None:
        return None
    offset, again = view_of(instruction, made) or (0, ())
    return made if offset == 0 and same_strides(y.shape, again, strides) else None


def run_of(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> int:
    """Bytes that lie together at the end of the axes."""
    run = itemsize
    for n, step in zip(reversed(shape), reversed(strides)):
        if n != 1 and step != run:
            break
        run *= n
    return run


def bounds_of(array: Any) -> tuple[int, int]:
    """The addresses between which the elements of an array of NumPy or CuPy lie."""
    low = address_of(array)
    high = low + array.dtype.itemsize
    for n, step in zip(array.shape, array.strides):
        if step < 0:
            low += (n - 1) * step
        else:
            high += (n - 1) * step
    return (low, low) if array.size == 0 else (low, high)
