"""Interpolation: a picture in another size. Each mode is a sparse matrix along each axis (``resample``), whose rows hold the weights of the
elements round a place. Places and weights are computed in the input's precision, as PyTorch does, so that rounding picks the same elements.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..core.promotion import autocasts
from ..errors import Phrase, error
from .adaptive import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from .resample import AxisMap, resampled
from .selection import _index_select

_sampled = autocasts("float32")(resampled)  # but not "area", in PyTorch either
_LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3}
_MODES = ("nearest", "nearest-exact", "area", *_LINEAR, "bicubic", "lanczos")

# ---- maps along one axis -------------------------------------------------------------------------


def _step(size: int, count: int, scale: float | None, align_corners: bool, real: Any) -> Any:
    """From one output to the next, in inputs."""
    if align_corners:
        return real(size - 1) / real(count - 1) if count > 1 else real(0)
    return real(1.0 / scale) if scale is not None and scale > 0 else real(size) / real(count)


@lru_cache(256)
def nearest_map(size: int, count: int, scale: float | None, exact: bool) -> AxisMap:
    """The element to the left of each place o · step, which is not the nearest one, or (``exact``) of (o + 0.5) · step, which is."""
    step = _step(size, count, scale, False, np.float32)
    if exact:
        places = (np.arange(count) + 0.5) * step
    elif count in (size, 2 * size):
        places = np.arange(count) // (count // size)
    else:
        places = np.arange(count, dtype=np.float32) * step
    index = np.minimum(np.floor(places.astype(np.float32)).astype(np.int64), size - 1)
    return AxisMap(size, index[None], np.ones((1, count)))


def _cubic(x: Any, a: float) -> Any:
    """Keys' kernel for 0 <= x < 2."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    return np.where(x < 1, near, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a)


@lru_cache(256)
def smooth_map(mode: str, size: int, count: int, scale: float | None, align_corners: bool, real: Any) -> AxisMap:
    """Two elements round each place, weighted by distance, or four weighted by Keys' kernel; beyond an edge the edge's element again."""
    step = _step(size, count, scale, align_corners, real)
    number = np.arange(count).astype(real)
    places = number * step if align_corners else (number + real(0.5)) * step - real(0.5)
    if mode != "bicubic":
        places = np.maximum(places, real(0))
    if count == size and mode != "bicubic":
        places = number
    low = np.minimum(np.floor(places), real(size - 1))
    part = np.clip(places - low, real(0), real(1))
    low = low.astype(np.int64)
    if mode == "bicubic":
        index = np.clip(low + np.arange(-1, 3)[:, None], 0, size - 1)
        away = np.abs(part - np.arange(-1, 3, dtype=real)[:, None])
        return AxisMap(size, index, _cubic(away, real(-0.75)))
    return AxisMap(size, np.stack([low, np.minimum(low + 1, size - 1)]), np.stack([1 - part, part]))


def _sinc(x: Any) -> Any:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


_FILTERS: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "bilinear": (1, lambda x: np.maximum(1 - np.abs(x), 0)),
    "bicubic": (2, lambda x: np.where(np.abs(x) < 2, _cubic(np.abs(x), -0.5), 0)),
    "lanczos": (3, _sinc),
}
"""mode -> half the width of its filter, and the filter."""


@lru_cache(256)
def _filter_map(mode: str, size: int, count: int, scale: float | None, align_corners: bool, real: Any) -> AxisMap:
    """A filter as wide as a step, where that is more than one element, so that no element is passed over (antialiasing)."""
    half, weigh = _FILTERS[mode]
    step = _step(size, count, scale, align_corners, real)
    support = half * step if step >= 1 else real(half)
    centre = step * (np.arange(count).astype(real) + real(0.5))
    start = np.maximum((centre - support + real(0.5)).astype(np.int64), 0)
    stop = np.minimum((centre + support + real(0.5)).astype(np.int64), size)
    index = start + np.arange(max(stop - start))[:, None]
    inside = index < stop
    weight = weigh((index - centre + real(0.5)) * (1 / step if step >= 1 else 1)) * inside
    return AxisMap(size, np.where(inside, index, size), weight / weight.sum(0))


# ---- interpolation -------------------------------------------------------------------------------


def _refuse(argument: str, value: Any, rule: Phrase, fix: Phrase) -> Exception:
    return error("TG-A001", op="interpolate", argument=argument, value=value, rule=rule, fix=fix)


def _check_mode(input: Any, mode: str, align_corners: bool | None, antialias: bool) -> None:
    shape = tuple(input.shape)
    if mode not in _MODES:
        rule = (f"one of {', '.join(_MODES)}", f"{'、'.join(_MODES)} のどれか")
        raise _refuse("mode", repr(mode), rule, ("mode='nearest'.", "mode='nearest' などとしてください。"))
    dims = _LINEAR.get(mode, 2 if mode in ("bicubic", "lanczos") else None)
    if not 3 <= len(shape) <= 5 or (dims or len(shape) - 2) != len(shape) - 2 or 0 in shape[2:]:
        wanted = {None: "(N, C, L), (N, C, H, W), (N, C, D, H, W)", 1: "(N, C, L)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}[
            dims
        ]
        rule = (f"{wanted}, no empty axis behind C", f"{wanted}。C より後の次元は空でないこと")
        fix = (
            f"unsqueeze the input, or choose a mode other than '{mode}'.",
            f"unsqueeze するか、'{mode}' 以外を選んでください。",
        )
        raise error("TG-S002", op="interpolate", rule=rule, shapes=shape, fix=fix)
    if align_corners is not None and mode not in (*_LINEAR, "bicubic"):
        rule = (
            "None unless mode is linear, bilinear, trilinear or bicubic",
            "linear、bilinear、trilinear、bicubic 以外では None",
        )
        raise _refuse("align_corners", align_corners, rule, ("leave it out.", "指定しないでください。"))
    if antialias and not (mode in _FILTERS and len(shape) == 4):
        rule = ("False unless mode is bilinear, bicubic or lanczos", "bilinear、bicubic、lanczos 以外では False")
        raise _refuse("antialias", antialias, rule, ("leave it out.", "指定しないでください。"))
    if mode == "lanczos" and not antialias:
        rule = ("True where mode is lanczos", "lanczos では True")
        raise _refuse("antialias", antialias, rule, ("pass antialias=True.", "antialias=True としてください。"))


def _each(argument: str, value: Any, dims: int, convert: Callable[[Any], Any]) -> tuple[Any, ...]:
    """One number for each axis."""
    given = tuple(value) if isinstance(value, (tuple, list)) else (value,) * dims
    try:
        made = tuple([convert(n) for n in given])
    except (TypeError, ValueError):
        made = ()
    if len(made) != dims:
        rule = (f"a number, or {dims} of them", f"数 1 個、または {dims} 個")
        raise _refuse(argument, value, rule, ("give one for each axis behind C.", "C より後の次元ごとに 1 つ渡してください。"))
    return made


def _target(
    sizes: Sequence[int], size: Any, scale_factor: Any, recompute: bool | None
) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    """``(output sizes, scales)``; a scale counts for the places only where it was given and is not computed anew."""
    dims = len(sizes)
    if (size is None) == (scale_factor is None):
        rule = ("exactly one of size and scale_factor", "size と scale_factor のどちらか一方")
        raise _refuse("(size, scale_factor)", (size, scale_factor), rule, ("pass one of them.", "一方だけを渡してください。"))
    none: tuple[float | None, ...] = (None,) * dims
    if size is not None:
        if recompute:
            rule = ("None or False beside size", "size を渡すときは None か False")
            raise _refuse("recompute_scale_factor", recompute, rule, ("leave it out.", "指定しないでください。"))
        wanted, scales = _each("size", size, dims, operator.index), none
    else:
        factors = _each("scale_factor", scale_factor, dims, float)
        wanted = tuple([math.floor(n * factor) for n, factor in zip(sizes, factors)])
        scales = none if recompute else factors
    if min(wanted) < 1:
        rule = ("every size of the result is at least 1", "結果の大きさはどの次元も 1 以上")
        shown = ("size", size) if size is not None else ("scale_factor", scale_factor)
        raise _refuse(*shown, rule, ("ask for a larger result.", "もっと大きくしてください。"))
    return wanted, scales


def interpolate(
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    """A picture (N, C, L), (N, C, H, W) or (N, C, D, H, W) in another size.

    size or scale_factor: what becomes of the axes behind C, a number or one for each; the size is rounded down. mode: "nearest" (the element
    to the left, for other sizes than the double the usual mistake), "nearest-exact", "linear", "bilinear", "trilinear", "bicubic" (Keys
    1981, a = -0.75), "area" (means), "lanczos". align_corners: the centres of the corner elements stay in the corners, not their outer edges.
    recompute_scale_factor: places follow from the rounded sizes, not from ``scale_factor``. antialias: when it gets smaller a filter takes
    all elements into account (4-d "bilinear" and "bicubic" with a = -0.5; "lanczos" always).

    Every mode is linear; the derivative is its transpose. Other dtypes than float only for "nearest" and "nearest-exact".

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.interpolate(tg.tensor([[[1.0, 3.0]]]), scale_factor=2, mode="linear")
    tensor([[[1. , 1.5, 2.5, 3. ]]])
    """
    _check_mode(input, mode, align_corners, antialias)
    sizes = tuple(input.shape[2:])
    wanted, scales = _target(sizes, size, scale_factor, recompute_scale_factor)
    plan = list(zip(sizes, wanted, scales))
    if mode.startswith("nearest"):
        maps = [nearest_map(n, count, scale, mode == "nearest-exact") for n, count, scale in plan]
        return _sampled(input, maps) if input.dtype.kind == "f" else _picked(input, maps)
    if input.dtype.kind != "f":
        raise error("TG-T004", op=f"interpolate (mode '{mode}')", dtype=input.dtype, allowed="float", fix="tg.float32")
    if mode == "area":
        pool = (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[len(sizes) - 1]
        return pool(input, wanted)
    build = _filter_map if antialias else smooth_map
    real = np.float64 if input.dtype == np.float64 else np.float32
    return _sampled(input, [build(mode, n, count, scale, bool(align_corners), real) for n, count, scale in plan])


def _picked(input: Any, maps: Sequence[AxisMap]) -> Any:
    """Elements of any dtype by number."""
    for axis, map in enumerate(maps):
        index, _ = map.tables(getattr(input, "array", input))
        input = _index_select(input, 2 + axis, index[0])
    return input


def upsample(
    input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
) -> Any:
    """``interpolate`` under its old name."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """``interpolate`` with mode "nearest", under its old name."""
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """``interpolate`` with mode "bilinear" and ``align_corners=True``, under its old name.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.upsample_bilinear(tg.tensor([[[[1.0, 3.0]]]]), size=(1, 3))
    tensor([[[[1., 2., 3.]]]])
    """
    return interpolate(input, size, scale_factor, "bilinear", align_corners=True)
