"""Pooling to a given size: window i of ``count`` along an axis of n has the elements from floor(i n / count) to ceil((i + 1) n / count)."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES
from ..core.tensor import Tensor
from ..errors import error
from .pool import largest
from .reduce import mean
from .resample import AxisMap, resampled
from .selection import _index_select
from .window import Window, spatial_sizes


def _output_sizes(op: str, output_size: Any, sizes: Sequence[int]) -> tuple[int, ...]:
    """One size for each axis; None keeps the input's."""
    dims = len(sizes)
    given = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * dims
    try:
        wanted = tuple([n if size is None else operator.index(size) for size, n in zip(given, sizes)])
    except TypeError:
        wanted = ()
    if len(given) != dims or len(wanted) != dims or min(wanted) < 0:
        rule = (f"an int >= 0 or None, or {dims} of them", f"0 以上の整数か None、または {dims} 個")
        fix = ("output_size=1.", "output_size=1 などとしてください。")
        raise error("TG-A001", op=op, argument="output_size", value=output_size, rule=rule, fix=fix)
    return wanted


def _edges(xp: Any, size: int, count: int) -> tuple[Any, Any]:
    """First element of each window, and the one behind its last."""
    number = xp.arange(count)
    return number * size // count, ((number + 1) * size + count - 1) // count


# ---- means ---------------------------------------------------------------------------------------


@lru_cache(256)
def mean_map(size: int, count: int) -> AxisMap:
    """The mean of each window."""
    start, stop = _edges(np, size, count)
    index = start + np.arange(max(stop - start, default=0))[:, None]
    inside = index < stop
    return AxisMap(size, np.where(inside, index, size), np.where(inside, 1.0 / (stop - start), 0.0))


def _adaptive_avg_pool(op: str, dims: int, input: Any, output_size: Any) -> Any:
    sizes = spatial_sizes(op, input, dims)
    if input.dtype.kind != "f":
        raise error("TG-T004", op=op, dtype=input.dtype, allowed="float", fix="tg.float32")
    wanted = _output_sizes(op, output_size, sizes)
    if wanted == (1,) * dims:
        return mean(input, tuple(range(-dims, 0)), True)
    return resampled(input, [mean_map(n, count) for n, count in zip(sizes, wanted)])


def adaptive_avg_pool1d(input: Any, output_size: Any) -> Any:
    """Means of ``output_size`` windows of (N, C, L) or (C, L), as equal as can be; they may share elements.

    Each element gets its share of the gradients of all windows it is in.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.adaptive_avg_pool1d(tg.tensor([[1.0, 3.0, 5.0]]), 2)
    tensor([[2., 4.]])
    """
    return _adaptive_avg_pool("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input: Any, output_size: Any) -> Any:
    """Means of windows of (N, C, H, W) or (C, H, W), so many that the result has the ``output_size``: an int or a pair, where None keeps
    the input's size. See ``adaptive_avg_pool1d``."""
    return _adaptive_avg_pool("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_avg_pool3d(input: Any, output_size: Any) -> Any:
    """Means of windows of (N, C, D, H, W) or (C, D, H, W); see ``adaptive_avg_pool2d``."""
    return _adaptive_avg_pool("adaptive_avg_pool3d", 3, input, output_size)


# ---- largest elements ----------------------------------------------------------------------------


def _side_by_side(xp: Any, size: int, count: int) -> tuple[int, Any]:
    """``(length, positions)``: the elements of all windows one window after the other, each made equally long by its last element."""
    if size % max(count, 1) == 0:
        return size // max(count, 1), None
    length = max([-(-(i + 1) * size // count) - i * size // count for i in range(count)])
    start, stop = _edges(xp, size, count)
    return length, xp.minimum(start[:, None] + xp.arange(length), stop[:, None] - 1).reshape(-1)


def _adaptive_max_pool(op: str, dims: int, input: Any, output_size: Any, indices: bool) -> Any:
    sizes = spatial_sizes(op, input, dims)
    if input.dtype.kind == "b":
        raise error("TG-T004", op=op, dtype=input.dtype, allowed="float or int", fix="tg.float32")
    xp = ARRAY_MODULES[type(getattr(input, "array", input))]
    windows, places = [], []
    for axis, (size, count) in enumerate(zip(sizes, _output_sizes(op, output_size, sizes))):
        length, positions = _side_by_side(xp, size, count)
        windows.append(Window(count, length, length))
        places.append(positions)
        if positions is not None:
            input = _index_select(input, input.ndim - dims + axis, positions)
    values, found = largest(input, tuple(windows), indices)
    if not indices:
        return values
    array, total, scale = getattr(found, "array", found), 0, 1
    for axis in reversed(range(dims)):
        length = input.shape[input.ndim - dims + axis]
        place = array % length
        total = total + (place if places[axis] is None else xp.take(places[axis], place)) * scale
        array, scale = array // length, scale * sizes[axis]
    return values, Tensor(total) if type(found) is Tensor else total


def adaptive_max_pool1d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """The largest elements of ``output_size`` windows of (N, C, L) or (C, L), and with ``return_indices`` their positions (int64). The
    gradient goes to the element taken, the first of equal ones; NaN counts as largest.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.adaptive_max_pool1d(tg.tensor([[1.0, 3.0, 5.0]]), 2)
    tensor([[3., 5.]])
    """
    return _adaptive_max_pool("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """The largest elements of windows of (N, C, H, W) or (C, H, W); ``output_size`` is an int or a pair, where None keeps the input's size.
    See ``adaptive_max_pool1d``; an index is ``row · W + column``."""
    return _adaptive_max_pool("adaptive_max_pool2d", 2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """The largest elements of windows of (N, C, D, H, W) or (C, D, H, W); see ``adaptive_max_pool2d``."""
    return _adaptive_max_pool("adaptive_max_pool3d", 3, input, output_size, return_indices)


def adaptive_max_pool1d_with_indices(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """``adaptive_max_pool1d`` with ``return_indices=True``."""
    return adaptive_max_pool1d(input, output_size, True)


def adaptive_max_pool2d_with_indices(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """``adaptive_max_pool2d`` with ``return_indices=True``."""
    return adaptive_max_pool2d(input, output_size, True)


def adaptive_max_pool3d_with_indices(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """``adaptive_max_pool3d`` with ``return_indices=True``."""
    return adaptive_max_pool3d(input, output_size, True)
