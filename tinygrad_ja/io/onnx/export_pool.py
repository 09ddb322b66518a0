"""Pooling and resampling as ONNX nodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...core.trace import Value
from ...ops.interpolate import nearest_map, smooth_map
from ...ops.pool import mean_map, position_tables
from ...ops.resample import AxisMap, in_order
from ...ops.window import Window
from .export_graph import Graph
from .export_table import Refusal, exports

# ---- maxima --------------------------------------------------------------------------------------


@exports("window_max")
def _window_max(graph: Graph, input: Value, windows: tuple[Window, ...], y: list[Value]) -> tuple[str, str]:
    """MaxPool. The taps stand for its indices: ``window_position`` alone uses them, and makes positions of them."""
    source, windows = _whole_window(input, windows)
    return _max_pool(graph, source, windows, y[0].shape, outputs=2)


def _whole_window(input: Value, windows: tuple[Window, ...]) -> tuple[Value, tuple[Window, ...]]:
    """A maximum along one axis of a maximum along another is one over both: the input of the first, and all windows."""
    step = input.step
    if step is None or step.operator.name != "window_max" or len(step.arguments["windows"]) != len(windows):
        return input, windows
    earlier, source = step.arguments["windows"], step.arguments["input"]
    sizes = source.shape[source.ndim - len(windows) :]
    joined = []
    for first, second, n, m in zip(earlier, windows, sizes, input.shape[input.ndim - len(windows) :]):
        if first == Window(n, 1):
            joined.append(second)
        elif second == Window(m, 1):
            joined.append(first)
        else:
            return input, windows
    return _whole_window(source, tuple(joined))


def _max_pool(graph: Graph, x: Value, windows: tuple[Window, ...], shape: Sequence[int], outputs: int) -> Any:
    dims = len(windows)
    sizes = x.shape[x.ndim - dims :]
    behind = [max(0, (w.count - 1) * w.stride + w.dilation * (w.taps - 1) + 1 - w.padding - n) for w, n in zip(windows, sizes)]
    behind = [w.padding if _count(w, n, w.padding) == w.count else after for w, n, after in zip(windows, sizes, behind)]
    batched = x.ndim == dims + 2
    given = x if batched else graph.reshape(x, (1, -1, *sizes), x.shape)
    made = graph.add(
        "MaxPool",
        given,
        outputs=outputs,
        kernel_shape=[w.taps for w in windows],
        strides=[w.stride for w in windows],
        dilations=[w.dilation for w in windows],
        pads=[*[w.padding for w in windows], *behind],
    )
    parts = (made,) if outputs == 1 else made
    parts = parts if batched else tuple([graph.reshape(part, shape) for part in parts])
    return parts[0] if outputs == 1 else parts


def _count(window: Window, size: int, behind: int) -> int:
    return (size + window.padding + behind - window.dilation * (window.taps - 1) - 1) // window.stride + 1


@exports("window_position")
def _window_position(graph: Graph, input: Value, windows: tuple[Window, ...], sizes: tuple[int, ...]) -> str:
    """MaxPool numbers the elements of the whole batch; within a picture that is the remainder. Of other taps, a table says it."""
    step = input.step
    if step is not None and step.operator.name == "window_max":
        _, indices = _max_pool(graph, step.arguments["input"], windows, input.shape, outputs=2)
        return graph.add("Mod", indices, graph.constant(np.array(math.prod(sizes), np.int64)))
    offset, start = position_tables(np, windows, sizes)
    return graph.add(
        "Add", graph.add("Gather", graph.constant(offset), graph.cast(input, np.int64), axis=0), graph.constant(start)
    )


# ---- means and other sizes -----------------------------------------------------------------------


@exports("resample")
def _resample(graph: Graph, input: Value, maps: tuple[AxisMap, ...], y: Value) -> str:
    for write in (_global_mean, _mean_of_windows, _resize):
        made = write(graph, input, maps, y)
        if made is not None:
            return made
    return _products(graph, input, maps)


def _same(a: AxisMap, b: AxisMap) -> bool:
    return a.index.shape == b.index.shape and bool((a.index == b.index).all()) and np.allclose(a.weight, b.weight, rtol=1e-6)


def _with_batch(graph: Graph, x: Value, dims: int, y: Value, write: Callable[[Any], str]) -> str:
    """``write`` of (N, C, ...), whatever the number of leading axes."""
    if x.ndim == dims + 2:
        return write(x)
    return graph.reshape(write(graph.reshape(x, (1, -1, *x.shape[x.ndim - dims :]), x.shape)), y.shape)


def _global_mean(graph: Graph, input: Value, maps: tuple[AxisMap, ...], y: Value) -> str | None:
    if not all(map.count == 1 and _same(map, mean_map(map.size, Window(1, map.size), True)) for map in maps):
        return None
    return _with_batch(graph, input, len(maps), y, partial(graph.add, "GlobalAveragePool"))


def _window_of(map: AxisMap, include: bool) -> Window | None:
    """The windows whose means a map makes, or None."""
    taps, count = map.index.shape
    if not taps or not count:
        return None
    inside = map.index < map.size
    first = int(inside[:, 0].argmax())
    padding = first - int(map.index[first, 0])
    stride = 1
    if count > 1:
        tap = int(inside[:, 1].argmax())
        stride = int(map.index[tap, 1]) - tap + padding
    if padding < 0 or stride < 1:
        return None
    window = Window(count, taps, stride, 1, padding)
    return window if _same(map, mean_map(map.size, window, include)) else None


def _mean_of_windows(graph: Graph, input: Value, maps: tuple[AxisMap, ...], y: Value) -> str | None:
    for include in (True, False):
        windows = [_window_of(map, include) for map in maps]
        found = [window for window in windows if window is not None]
        if len(found) < len(maps):
            continue
        sizes = [map.size for map in maps]
        if not all(_count(w, n, w.padding) == w.count for w, n in zip(found, sizes)):
            continue  # ceil_mode: what stands beyond the padding counts differently
        return _with_batch(
            graph,
            input,
            len(maps),
            y,
            partial(
                graph.add,
                "AveragePool",
                kernel_shape=[w.taps for w in found],
                strides=[w.stride for w in found],
                pads=[w.padding for w in found] * 2,
                count_include_pad=int(include),
            ),
        )
    return None


_RESIZES: dict[tuple[str, str, str | None], Callable[[int, int, Any], AxisMap]] = {
    ("nearest", "asymmetric", "floor"): lambda n, m, real: nearest_map(n, m, None, False),
    ("nearest", "half_pixel", "round_prefer_ceil"): lambda n, m, real: nearest_map(n, m, None, True),
    ("linear", "half_pixel", None): lambda n, m, real: smooth_map("linear", n, m, None, False, real),
    ("linear", "align_corners", None): lambda n, m, real: smooth_map("linear", n, m, None, True, real),
    ("cubic", "half_pixel", None): lambda n, m, real: smooth_map("bicubic", n, m, None, False, real),
    ("cubic", "align_corners", None): lambda n, m, real: smooth_map("bicubic", n, m, None, True, real),
}
"""mode, coordinate transformation and rounding of ONNX's Resize -> the map that it applies along an axis."""


def _resize(graph: Graph, input: Value, maps: tuple[AxisMap, ...], y: Value) -> str | None:
    real = input.dtype.type
    for (mode, places, rounding), made_by in _RESIZES.items():
        if all(_same(map, made_by(map.size, map.count, real)) for map in maps if map.size):
            options: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": places, "nearest_mode": rounding}
            if mode == "cubic":
                options["cubic_coeff_a"] = -0.75
            return graph.add("Resize", input, None, None, graph.ints(y.shape), **options)
    return None


def _products(graph: Graph, input: Value, maps: tuple[AxisMap, ...]) -> str:
    """Any other map is what it is, a matrix."""
    made = graph.name(input)
    last = input.ndim - 1
    for axis, map in in_order(maps):
        matrix = np.zeros((map.size + 1, map.count), input.dtype)
        for index, weight in zip(map.index, map.weight):
            matrix[index, np.arange(map.count)] += weight.astype(input.dtype)
        dim = input.ndim + axis
        turned = made if dim == last else graph.transpose(made, dim, last, input.ndim)
        product = graph.add("MatMul", turned, matrix[:-1])
        made = product if dim == last else graph.transpose(product, dim, last, input.ndim)
    return made


# ---- pictures looked at anywhere -----------------------------------------------------------------


@exports("sample")
def _sample(graph: Graph, input: Value, weight: Value, index: Value) -> str:
    """Σ_k weight[n, k, p] x[n, c, index[n, k, p]], an index of -1 meaning 0."""
    n, channels, _ = input.shape
    taps, places = weight.shape[1:]
    flat = graph.reshape(index, (n, 1, taps * places), index.shape)
    inside = graph.add("Max", flat, graph.constant(np.array(0, np.int64)))
    wide = graph.add("Expand", inside, graph.ints((n, channels, taps * places)))
    found = graph.reshape(graph.add("GatherElements", input, wide, axis=2), (n, channels, taps, places))
    outside = graph.add("Less", index, graph.constant(np.array(0, np.int64)))
    kept = graph.add("Where", outside, graph.number(0, weight), weight)
    weighted = graph.add("Mul", found, graph.reshape(kept, (n, 1, taps, places)))
    return graph.reduce("ReduceSum", weighted, [2], False)


@exports("from_taps", "at_taps")
def _taps(graph: Graph) -> str:
    raise Refusal(
        ("it is a derivative of max pooling", "最大値プーリングの微分です"),
        ("export the forward pass.", "順伝播を書き出してください。"),
    )
