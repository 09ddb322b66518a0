"""Imported resizing: for each axis a sparse matrix of the weights that the modes of ONNX describe."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...ops.comparison import where
from ...ops.creation import from_numpy
from ...ops.resample import AxisMap, resampled
from ...ops.selection import index_select
from .import_table import Call, Refusal, imports, integers


def _places(call: Call, size: int, count: int, scale: float, roi: tuple[float, float]) -> np.ndarray:
    """Where each element of the result lies in the input, in elements."""
    mode = call.get("coordinate_transformation_mode", "half_pixel")
    out = np.arange(count, dtype=np.float64)
    wide = scale * size
    if call.opset < 11 or mode == "asymmetric":
        return out / scale
    if mode == "align_corners":
        return out * 0 if wide == 1 else out * (size - 1) / (wide - 1)
    if mode == "tf_crop_and_resize":
        start, end = roi
        inner = out * 0 + 0.5 * (end - start) * (size - 1) if wide == 1 else out * (end - start) * (size - 1) / (wide - 1)
        return inner + start * (size - 1)
    if mode == "pytorch_half_pixel" and wide == 1:
        return out * 0 - 0.5
    half = (out + 0.5) / scale - 0.5
    if mode == "tf_half_pixel_for_nn":
        return half + 0.5
    if mode == "half_pixel_symmetric":
        return half + size / 2 * (1 - count / wide)
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return half
    raise Refusal((f"coordinate_transformation_mode {mode!r}", f"coordinate_transformation_mode {mode!r} には対応していません"))


_NEAREST: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ceil": np.ceil,
    "floor": np.floor,
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
}


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' kernel."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def _map(call: Call, mode: str, size: int, scale: float, places: np.ndarray) -> AxisMap:
    """The weights of one axis."""
    if mode == "nearest":
        rounding = call.get("nearest_mode", "round_prefer_floor") if call.opset >= 11 else "floor"
        index = np.clip(_NEAREST[rounding](places).astype(np.int64), 0, size - 1)
        return AxisMap(size, index[None], np.ones((1, len(places))))
    half, kernel = (1, _triangle) if mode == "linear" else (2, lambda x: _cubic(x, call.get("cubic_coeff_a", -0.75)))
    shrink = min(scale, 1.0) if call.get("antialias", 0) else 1.0
    call.allow((int(2 * half / shrink), len(places)))
    start = math.floor(-half / shrink) + 1
    taps = np.arange(start, 2 - start)[:, None]
    low = np.floor(places)
    index = (low + taps).astype(np.int64)
    weight = kernel((taps - (places - low)) * shrink)
    if call.get("exclude_outside", 0):
        weight = weight * ((index >= 0) & (index < size))
    weight = weight / weight.sum(0)
    return AxisMap(size, np.clip(index, 0, size - 1), weight)


def _along(x: Any, axis: int, map: AxisMap, mode: str) -> Any:
    if mode == "nearest":
        return index_select(x, axis, from_numpy(map.index[0]).to(x.device))
    return resampled(x.movedim(axis, -1), [map]).movedim(-1, axis)


def _resized(
    call: Call, x: Any, mode: str, axes: list[int], counts: list[int], scales: list[float], roi: list[float] | None = None
) -> Any:
    shape = list(x.shape)
    for axis, count in zip(axes, counts):
        shape[axis] = count
    call.allow(shape)
    crop = call.get("coordinate_transformation_mode") == "tf_crop_and_resize" and call.opset >= 11
    dtype = x.dtype
    made = x if dtype.kind == "f" or mode == "nearest" else x.to(np.float32)
    inside = np.ones(())
    for i, (axis, count, scale) in enumerate(zip(axes, counts, scales)):
        size = x.shape[axis]
        ends = (0.0, 1.0) if roi is None else (roi[i], roi[i + len(axes)])
        places = _places(call, size, count, scale, ends)
        within = (places >= 0) & (places <= size - 1)
        inside = inside * within.reshape(-1, *(1,) * (x.ndim - 1 - axis))
        if scale != 1 or count != size or crop:
            made = _along(made, axis, _map(call, mode, size, scale, places), mode)
    if crop:
        outside = from_numpy(np.broadcast_to(inside == 0, made.shape).copy()).to(x.device)
        made = where(outside, call.get("extrapolation_value", 0.0), made)
    return made.to(dtype)


@imports("Resize", control=(1, 2, 3))
def _resize(call: Call, x: Any, *settings: Any) -> Any:
    mode = call.get("mode", "nearest")
    if mode not in ("nearest", "linear", "cubic"):
        raise Refusal((f"mode {mode!r}", f"mode {mode!r} には対応していません"))
    roi, scales, sizes = (None, settings[0], None) if call.opset < 11 else (*settings, None, None, None)[:3]
    axes = [axis % x.ndim for axis in call.get("axes", range(x.ndim))]
    lengths = [x.shape[axis] for axis in axes]
    if sizes is not None and sizes.numel():
        counts, factors = _from_sizes(call, lengths, integers(sizes))
    else:
        factors = [float(n) for n in scales.reshape(-1).tolist()]
        counts = [_result_size(n, factor) for n, factor in zip(lengths, factors)]
    numbers = None if roi is None or not roi.numel() else [float(n) for n in roi.reshape(-1).tolist()]
    return _resized(call, x, mode, axes, counts, factors, numbers)


def _result_size(size: int, scale: float) -> int:
    if not 0 < scale < math.inf:
        raise Refusal((f"the scale {scale}", f"倍率 {scale} は使えません"))
    return math.floor(size * scale)


def _from_sizes(call: Call, lengths: list[int], sizes: list[int]) -> tuple[list[int], list[float]]:
    policy = call.get("keep_aspect_ratio_policy", "stretch")
    factors = [size / n for size, n in zip(sizes, lengths)]
    if policy == "stretch":
        return sizes, factors
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [math.floor(factor * n + 0.5) for n in lengths], [factor] * len(lengths)


@imports("Upsample", control=(1,))
def _upsample(call: Call, x: Any, scales: Any = None) -> Any:
    factors = [float(n) for n in (call.get("scales") if scales is None else scales.reshape(-1).tolist())]
    mode = call.get("mode", "nearest")
    counts = [_result_size(n, factor) for n, factor in zip(x.shape, factors)]
    return _resized(call, x, {"bilinear": "linear"}.get(mode, mode), list(range(x.ndim)), counts, factors)
