"""Imported pooling: maxima, means and norms of windows, and of whole channels."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from ...nn import functional as F
from ...ops.creation import from_numpy, zeros
from ...ops.extremum import amax
from ...ops.reduce import mean, sum
from ...ops.selection import scatter
from .import_conv import Pairs, padded, window
from .import_table import Call, Refusal, imports, integers

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


class _Windows:
    """The windows of a pooling node over the axes behind the second one."""

    def __init__(self, call: Call, x: Any) -> None:
        self.kernel = tuple(call.get("kernel_shape"))
        self.sizes = tuple(x.shape[2:])
        self.strides, self.dilations, self.pads = window(call, self.sizes, self.kernel)
        self.reaches = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations)]
        ceil_mode = bool(call.get("ceil_mode", 0)) and call.get("auto_pad", "NOTSET") == "NOTSET"
        self.counts = [self._count(axis, ceil_mode) for axis in range(len(self.sizes))]
        call.allow([*x.shape[:2], *[max(count, 0) for count in self.counts]])
        for count, k in zip(self.counts, self.kernel):
            call.allow((max(count, 0), k))
        if min(self.counts, default=1) < 1:
            raise Refusal(
                (f"a window {self.kernel} larger than {self.sizes}", f"窓 {self.kernel} が {self.sizes} より大きくなっています")
            )

    def _count(self, axis: int, ceil_mode: bool) -> int:
        """How many windows fit; with ``ceil_mode`` one more that sticks out, if it starts inside."""
        n, stride, (before, after) = self.sizes[axis], self.strides[axis], self.pads[axis]
        room = n + before + after - self.reaches[axis]
        count = room // stride + 1
        if ceil_mode and room % stride and count * stride < n + before:
            count += 1
        return count

    @property
    def cover(self) -> Pairs:
        """The padding, (before, after), with which the windows fill each axis exactly."""
        ends = [(count - 1) * s + reach for count, s, reach in zip(self.counts, self.strides, self.reaches)]
        return [(before, end - before - n) for end, (before, _), n in zip(ends, self.pads, self.sizes)]

    def sums(self, call: Call, x: Any) -> Any:
        """The sum of each window; what lies outside counts as zero."""
        x = padded(call, x, self.cover)
        if len(self.sizes) in _MEAN and set(self.dilations) == {1}:
            return _MEAN[len(self.sizes)](x, self.kernel, tuple(self.strides)) * math.prod(self.kernel)
        total = None
        for place in itertools.product(*[range(k) for k in self.kernel]):
            spans = [
                slice(i * d, i * d + (count - 1) * s + 1, s)
                for i, d, s, count in zip(place, self.dilations, self.strides, self.counts)
            ]
            index = (..., *spans)
            part = x[index]
            total = part if total is None else total + part
        return total

    def elements(self, with_padding: bool) -> np.ndarray:
        """How many elements each window counts."""
        made = np.ones(())
        for axis, (n, k) in enumerate(zip(self.sizes, self.kernel)):
            before, after = self.pads[axis]
            first = np.arange(self.counts[axis])[:, None] * self.strides[axis] - before
            places = first + np.arange(k) * self.dilations[axis]
            low, high = (-before, n + after) if with_padding else (0, n)
            made = made[..., None] * ((places >= low) & (places < high)).sum(1)
        return np.maximum(made, 1)


@imports("AveragePool")
def _average_pool(call: Call, x: Any) -> Any:
    windows = _Windows(call, x)
    count = windows.elements(bool(call.get("count_include_pad", 0)))
    return windows.sums(call, x) / from_numpy(count.astype(x.dtype)).to(x.device)


@imports("LpPool")
def _lp_pool(call: Call, x: Any) -> Any:
    p = call.get("p", 2)
    return (_Windows(call, x).sums(call, x.abs() ** p) ** (1 / p)).to(x.dtype)


@imports("MaxPool")
def _max_pool(call: Call, x: Any) -> Any:
    windows = _Windows(call, x)
    count = len(windows.sizes)
    if count not in _MAX:
        raise Refusal((f"{count} spatial axes; 1 to 3 are supported", f"空間の次元が {count} 個です (1 から 3 まで対応)"))
    cover = windows.cover
    wide = padded(call, x if x.dtype.kind == "f" else x.to(np.float32), cover, -np.inf)
    values, flat = _MAX[count](wide, windows.kernel, tuple(windows.strides), 0, tuple(windows.dilations), return_indices=True)
    values = values.to(x.dtype)
    return (values, _original_places(call, x, flat, cover)) if call.wants(1) else values


def _original_places(call: Call, x: Any, flat: Any, cover: Pairs) -> Any:
    """Places in the padded channel as places in the whole tensor, rows first or (``storage_order`` 1) columns first."""
    places = []
    for n, (before, after) in reversed(list(zip(x.shape[2:], cover))):
        wide = n + before + after
        places.append(flat % wide - before)
        flat = flat // wide
    places.reverse()
    sizes = list(x.shape[2:])
    if call.get("storage_order", 0):
        places.reverse()
        sizes.reverse()
    made = 0
    for place, n in zip(places, sizes):
        made = made * n + place
    channel = np.arange(x.shape[0] * x.shape[1], dtype=np.int64) * math.prod(sizes)
    return made + from_numpy(channel.reshape(*x.shape[:2], *(1,) * len(sizes))).to(x.device)


@imports("MaxUnpool", control=(2,))
def _max_unpool(call: Call, x: Any, places: Any, output_shape: Any = None) -> Any:
    kernel = call.get("kernel_shape")
    strides = call.get("strides") or [1] * len(kernel)
    pads = call.get("pads") or [0] * (2 * len(kernel))
    sizes = [
        (n - 1) * s + k - before - after
        for n, s, k, before, after in zip(x.shape[2:], strides, kernel, pads, pads[len(kernel) :])
    ]
    shape = call.allow([*x.shape[:2], *sizes])
    flat = zeros(math.prod(shape), dtype=x.dtype, device=x.device)
    made = scatter(flat, 0, places.reshape(-1), x.reshape(-1)).reshape(shape)
    if output_shape is None:
        return made
    return padded(call, made, [(0, wanted - n) for wanted, n in zip(integers(output_shape)[2:], sizes)])


def _spatial(x: Any) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


@imports("GlobalAveragePool")
def _global_average_pool(call: Call, x: Any) -> Any:
    return mean(x, _spatial(x), True)


@imports("GlobalLpPool")
def _global_lp_pool(call: Call, x: Any) -> Any:
    p = call.get("p", 2)
    return sum(x.abs() ** p, _spatial(x), True) ** (1 / p)


@imports("GlobalMaxPool")
def _global_max_pool(call: Call, x: Any) -> Any:
    return amax(x, _spatial(x), True)


@imports("MaxRoiPool", control=(1,))
def _max_roi_pool(call: Call, x: Any, rois: Any) -> Any:
    height, width = call.get("pooled_shape")
    call.allow([rois.shape[0], x.shape[1], height, width])
    return F.roi_pool(x, rois, (height, width), call.get("spatial_scale", 1.0))
