"""Pooling: the largest element, the mean or the norm of each window of a picture.

The largest elements have one primitive for any number of axes. It notes for each window which of its elements was taken, its "tap", in a
byte; the derivative puts the gradient there. Means are sparse matrices along each axis (``resample``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES
from ..core.operator import Array, Constant, Point, linear, primitive
from ..core.tensor import Tensor
from ..errors import error
from .activation import relu
from .arithmetic import div
from .extremum import max as max_along
from .indexing import _getitem
from .piecewise import abs, sign
from .reduce import floating
from .resample import AxisMap, resampled
from .selection import _gather
from .shape import _reshape
from .window import Window, per_axis, reaches, spatial_sizes, windows_of

__all__: list[str] = []

# ---- the largest element of each window ----------------------------------------------------------


def _sizes(pick: Any) -> tuple[int, ...]:
    return pick.choice([(), (2,)]) + tuple([pick.integer(1, 5) for _ in range(pick.integer(1, 3))])


def _windows(pick: Any, sizes: Sequence[int]) -> tuple[Window, ...]:
    """Windows of any kind along the last axes; padding at most half of a window, windows over the right edge."""
    made = []
    for size in sizes[len(sizes) - pick.integer(1, len(sizes)) :]:
        taps, stride = pick.integer(1, 3), pick.integer(1, 3)
        made.append(Window((size + stride - 1) // stride, taps, stride, pick.integer(1, 2), pick.integer(0, taps // 2)))
    return tuple(made)


def _max_case(pick: Any) -> Any:
    sizes = _sizes(pick)
    return (pick.distinct(sizes), _windows(pick, sizes)), {}


def _from_taps_case(pick: Any) -> Any:
    (x, windows), _ = _max_case(pick)
    lead = x.shape[: x.ndim - len(windows)]
    shape = (*lead, *[window.count for window in windows])
    taps = pick.indices(shape, math.prod([window.taps for window in windows])).astype(np.uint8)
    return (pick.array(shape), taps, x.shape, windows), {}


def _at_taps_case(pick: Any) -> Any:
    (_, taps, size, windows), _ = _from_taps_case(pick)
    return (pick.array(size), taps, windows), {}


@primitive(
    lambda g, shape, taps, windows: _from_taps(g[0], taps, shape, windows),
    outputs=2,
    aux=("taps",),
    cases=_max_case,
    points=[
        Point(([1.0, 1.0, 0.0], (Window(1, 3),)), ([1.0, 0.0, 0.0],)),
        Point(([[1.0, 2.0], [2.0, 2.0]], (Window(1, 2), Window(1, 2))), ([[0.0, 1.0], [0.0, 0.0]],)),
        Point(([-math.inf, -math.inf], (Window(1, 3, padding=1),)), ([1.0, 0.0],)),
        Point(([math.inf, math.nan, math.inf], (Window(1, 3),)), ([0.0, 1.0, 0.0],)),
    ],
)
def _window_max(xp: Any, input: Array, windows: tuple[Window, ...]) -> Any:
    """The largest element of each window along the last axes, and the number of its tap. The first of equal ones is taken, and NaN counts
    as largest. The last window is not looked at first: what comes later stays unless something as large stands before it."""
    sizes = input.shape[input.ndim - len(windows) :]
    shape = (*input.shape[: input.ndim - len(windows)], *[window.count for window in windows])
    number_of_taps = math.prod([window.taps for window in windows])
    lowest = -math.inf if input.dtype.kind == "f" else np.iinfo(input.dtype).min
    values = xp.full(shape, lowest, dtype=input.dtype)
    taps = xp.zeros(shape, dtype=np.uint8 if number_of_taps <= 256 else np.int32)
    for number, where, at in reversed(list(reaches(windows, sizes))):
        part, best = input[at], values[where]
        better = (part >= best) | (part != part)
        values[where] = xp.where(better, part, best)
        taps[where] = xp.where(better, number, taps[where])
    return (values, taps), taps


@linear(lambda g, taps, windows: _at_taps(g, taps, windows), cases=_from_taps_case)
def _from_taps(xp: Any, input: Array, taps: Constant, size: tuple[int, ...], windows: tuple[Window, ...]) -> Array:
    """Zeros of shape ``size`` to which each window's number is added where its tap is."""
    made = xp.zeros(size, dtype=input.dtype)
    for number, where, at in reaches(windows, size[len(size) - len(windows) :]):
        made[at] += xp.where(taps[where] == number, input[where], 0)
    return made


@linear(lambda g, taps, shape, windows: _from_taps(g, taps, shape, windows), cases=_at_taps_case)
def _at_taps(xp: Any, input: Array, taps: Constant, windows: tuple[Window, ...]) -> Array:
    """The element at the tap of each window; 0 for a tap outside."""
    made = xp.zeros(taps.shape, dtype=input.dtype)
    for number, where, at in reaches(windows, input.shape[input.ndim - len(windows) :]):
        made[where] += xp.where(taps[where] == number, input[at], 0)
    return made


_TOGETHER = 16
"""Windows of more elements are always reduced along one axis after the other: k + k steps in place of k · k."""
_LONG = 16
"""Windows side by side with more elements than this are the axis of a plain maximum."""


def _stages(windows: tuple[Window, ...], sizes: Sequence[int]) -> list[tuple[Window, ...]]:
    """Windows to be reduced one after the other, the last axis first, so that the first of equal elements in row-major order is found."""
    taps = math.prod([window.taps for window in windows])
    made, counts, steps = [], list(sizes), 0
    for axis in reversed(range(len(windows))):
        stage = [Window(n, 1) for n in counts]
        stage[axis] = windows[axis]
        made.append(tuple(stage))
        counts[axis] = windows[axis].count
        steps += math.prod(counts) * windows[axis].taps
    return [windows] if taps <= _TOGETHER and math.prod(counts) * taps <= steps else made


def _along_tiles(input: Any, windows: tuple[Window, ...]) -> tuple[Any, Any] | None:
    """``(values, taps)`` of long windows side by side along one axis, None for others."""
    sizes = input.shape[input.ndim - len(windows) :]
    found = [i for i, (window, n) in enumerate(zip(windows, sizes)) if window != Window(n, 1)]
    if len(found) != 1 or windows[found[0]].taps <= _LONG or not windows[found[0]].tiles(sizes[found[0]]):
        return None
    window, axis = windows[found[0]], input.ndim - len(windows) + found[0]
    used, before, behind = window.count * window.taps, tuple(input.shape[:axis]), tuple(input.shape[axis + 1 :])
    if used < input.shape[axis]:
        input = _getitem(input, (slice(None),) * axis + (slice(used),))
    made = max_along(_reshape(input, (*before, window.count, window.taps, *behind)), axis + 1)
    return made.values, made.indices


def position_tables(xp: Any, windows: tuple[Window, ...], sizes: Sequence[int]) -> tuple[Any, Any]:
    """``(offset, start)``: tap k of a window is the element ``offset[k] + start[window]`` of a picture of these sizes, row-major."""
    number, offset, start, scale = xp.arange(math.prod([window.taps for window in windows])), 0, 0, 1
    for axis in reversed(range(len(windows))):
        window = windows[axis]
        offset = offset + number % window.taps * (window.dilation * scale)
        first = (xp.arange(window.count) * window.stride - window.padding) * scale
        start = start + first.reshape((window.count,) + (1,) * (len(windows) - 1 - axis))
        number, scale = number // window.taps, scale * sizes[axis]
    return offset, start


def _position_case(pick: Any) -> Any:
    (_, taps, size, windows), _ = _from_taps_case(pick)
    return (taps, windows, size[len(size) - len(windows) :]), {}


@primitive(cases=_position_case, integer=True)
def window_position(xp: Any, input: Array, windows: tuple[Window, ...], sizes: tuple[int, ...]) -> Array:
    """Row-major number, int64, of the element that each window took among the elements of its picture. ``input`` are the taps."""
    offset, start = position_tables(xp, windows, sizes)
    return xp.take(offset, input) + start


def largest(input: Any, windows: tuple[Window, ...], indices: bool) -> tuple[Any, Any]:
    """The largest element of each window and, with ``indices``, its number in the picture (int64)."""
    dims, found = len(windows), None
    for stage in _stages(windows, input.shape[input.ndim - dims :]):
        sizes = tuple(input.shape[input.ndim - dims :])
        values, taps = _along_tiles(input, stage) or _window_max(input, stage)
        if indices:
            here = window_position(taps, stage, sizes)
            if found is not None:
                shape = tuple(here.shape)
                pictures = math.prod(shape[: len(shape) - dims])
                flat = [_reshape(x, (pictures, math.prod(x.shape[x.ndim - dims :]))) for x in (found, here)]
                here = _reshape(_gather(flat[0], 1, flat[1]), shape)
            found = here
        input = values
    return input, found


def _max_pool(op: str, dims: int, input: Any, arguments: tuple[Any, ...], indices: bool) -> Any:
    if input.dtype.kind == "b":
        raise error("TG-T004", op=op, dtype=input.dtype, allowed="float or int", fix="tg.float32")
    sizes = spatial_sizes(op, input, dims)
    values, found = largest(input, windows_of(op, sizes, *arguments), indices)
    return (values, found) if indices else values


def max_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window of (N, C, L) or (C, L).

    kernel_size: elements of a window; stride: from one window to the next, without it ``kernel_size``; padding: so many elements of -inf at
    both ends, at most half a window; dilation: from one element of a window to the next; ceil_mode: a last window may reach over the end.
    Returns (N, C, count); with ``return_indices`` also the position of each (int64). The gradient goes to the element taken, the first of
    equal ones; NaN counts as largest.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.max_pool1d(tg.tensor([[1.0, 3.0, 2.0, 0.0]]), 2)
    tensor([[3., 2.]])
    """
    return _max_pool("max_pool1d", 1, input, (kernel_size, stride, padding, dilation, ceil_mode), return_indices)


def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window of (N, C, H, W) or (C, H, W); see ``max_pool1d``. Arguments are ints or pairs; an index is
    ``row · W + column``."""
    return _max_pool("max_pool2d", 2, input, (kernel_size, stride, padding, dilation, ceil_mode), return_indices)


def max_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window of (N, C, D, H, W) or (C, D, H, W); see ``max_pool1d``. Arguments are ints or triples."""
    return _max_pool("max_pool3d", 3, input, (kernel_size, stride, padding, dilation, ceil_mode), return_indices)


def max_pool1d_with_indices(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """``max_pool1d`` with ``return_indices=True``."""
    return _max_pool("max_pool1d", 1, input, (kernel_size, stride, padding, dilation, ceil_mode), True)


def max_pool2d_with_indices(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """``max_pool2d`` with ``return_indices=True``."""
    return _max_pool("max_pool2d", 2, input, (kernel_size, stride, padding, dilation, ceil_mode), True)


def max_pool3d_with_indices(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """``max_pool3d`` with ``return_indices=True``."""
    return _max_pool("max_pool3d", 3, input, (kernel_size, stride, padding, dilation, ceil_mode), True)


# ---- means ---------------------------------------------------------------------------------------


@lru_cache(256)
def _sum_map(size: int, window: Window) -> AxisMap:
    """Adds up each window."""
    index = np.arange(window.count) * window.stride + np.arange(window.taps)[:, None] - window.padding
    outside = (index < 0) | (index >= size)
    return AxisMap(size, np.where(outside, size, index), np.where(outside, 0.0, 1.0))


@lru_cache(256)
def _counts(size: int, window: Window, count_include_pad: bool) -> np.ndarray:
    """How many elements of each window count; what ``ceil_mode`` adds beyond the padding never does."""
    start = np.arange(window.count) * window.stride - window.padding
    stop = np.minimum(start + window.taps, size + window.padding)
    return stop - start if count_include_pad else np.minimum(stop, size) - np.maximum(start, 0)


@lru_cache(256)
def mean_map(size: int, window: Window, count_include_pad: bool) -> AxisMap:
    return _sum_map(size, window).scaled(1.0 / _counts(size, window, count_include_pad))


def _avg_pool(op: str, dims: int, input: Any, arguments: tuple[Any, ...], include: bool, divisor: int | None = None) -> Any:
    kernel_size, stride, padding, ceil_mode = arguments
    sizes = spatial_sizes(op, input, dims)
    windows = windows_of(op, sizes, kernel_size, stride, padding, 1, ceil_mode)
    if divisor == 0:
        fix = ("leave it out.", "指定しないでください。")
        raise error("TG-A001", op=op, argument="divisor_override", value=0, rule=("not 0", "0 以外"), fix=fix)
    if input.dtype.kind != "f":
        return _whole_means(op, input, sizes, windows, include, divisor)
    if divisor is None:
        return resampled(input, [mean_map(n, window, include) for n, window in zip(sizes, windows)])
    return resampled(input, [_sum_map(n, window) for n, window in zip(sizes, windows)]) / divisor


def _whole_means(
    op: str, input: Any, sizes: Sequence[int], windows: Sequence[Window], include: bool, divisor: int | None
) -> Any:
    """Means of int64, rounded towards 0."""
    if input.dtype != np.int64:
        raise error("TG-T004", op=op, dtype=input.dtype, allowed="float or int64", fix="tg.float32")
    totals = resampled(input, [_sum_map(n, window) for n, window in zip(sizes, windows)])
    if divisor is not None:
        return div(totals, divisor, rounding_mode="trunc")
    xp = ARRAY_MODULES[type(getattr(input, "array", input))]
    count = 1
    for size, window in zip(sizes, windows):
        count = np.multiply.outer(count, _counts(size, window, include))
    count = xp.asarray(count)
    return div(totals, Tensor(count) if type(totals) is Tensor else count, rounding_mode="trunc")


def avg_pool1d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True
) -> Any:
    """The mean of each window of (N, C, L) or (C, L).

    kernel_size, stride, padding, ceil_mode: as in ``max_pool1d``, but the padding is zeros; count_include_pad: whether they count as
    elements. Each element gets its share of the gradients of all windows it is in.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.avg_pool1d(tg.tensor([[1.0, 3.0, 2.0, 0.0]]), 2)
    tensor([[2., 1.]])
    """
    return _avg_pool("avg_pool1d", 1, input, (kernel_size, stride, padding, ceil_mode), count_include_pad)


def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean of each window of (N, C, H, W) or (C, H, W); see ``avg_pool1d``. divisor_override: divides the sum of each window in place
    of the number of its elements."""
    arguments = (kernel_size, stride, padding, ceil_mode)
    return _avg_pool("avg_pool2d", 2, input, arguments, count_include_pad, divisor_override)


def avg_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean of each window of (N, C, D, H, W) or (C, D, H, W); see ``avg_pool2d``."""
    arguments = (kernel_size, stride, padding, ceil_mode)
    return _avg_pool("avg_pool3d", 3, input, arguments, count_include_pad, divisor_override)


# ---- norms ---------------------------------------------------------------------------------------


def _lp_pool(op: str, dims: int, input: Any, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool) -> Any:
    if norm_type == 0:
        fix = ("norm_type=2.", "norm_type=2 などとしてください。")
        raise error("TG-A001", op=op, argument="norm_type", value=norm_type, rule=("not 0", "0 以外"), fix=fix)
    elements = math.prod(per_axis(op, "kernel_size", kernel_size, dims, 1))
    mean = _avg_pool(op, dims, floating(input) ** norm_type, (kernel_size, stride, 0, ceil_mode), True)
    signed = sign(mean) * relu(abs(mean))  # the mean itself, but with the gradient 0 where it is 0, and the root's infinite
    return (signed * elements) ** (1.0 / norm_type)


def lp_pool1d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """(Σ x^p)^(1/p) over each window of (N, C, L) or (C, L), p = ``norm_type``; x^p, not |x|^p, as in PyTorch. Where the sum is 0 so is
    the gradient. A window that ``ceil_mode`` lets reach over the end counts as if its missing elements were as large as the mean of the others.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.lp_pool1d(tg.tensor([[3.0, 4.0, 0.0, 1.0]]), 2, 2)
    tensor([[5., 1.]])
    """
    return _lp_pool("lp_pool1d", 1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """(Σ x^p)^(1/p) over each window of (N, C, H, W) or (C, H, W); see ``lp_pool1d``."""
    return _lp_pool("lp_pool2d", 2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """(Σ x^p)^(1/p) over each window of (N, C, D, H, W) or (C, D, H, W); see ``lp_pool1d``."""
    return _lp_pool("lp_pool3d", 3, input, norm_type, kernel_size, stride, ceil_mode)
