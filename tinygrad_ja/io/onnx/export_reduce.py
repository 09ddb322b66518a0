"""Reductions, sorting and scans as ONNX nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core.trace import Value
from .export_graph import Graph
from .export_table import exports

Axes = Any


def axes_of(x: Value, dim: Axes) -> list[int] | None:
    """The axes of a reduction, none negative; None for all."""
    if dim is None:
        return None
    dims = dim if isinstance(dim, (tuple, list)) else (dim,)
    return [axis % max(x.ndim, 1) for axis in dims] if x.ndim else []


def _reduces(op: str) -> Any:
    def write(graph: Graph, input: Value, dim: Axes, keepdim: bool, y: Value) -> str:
        given = input if input.dtype == y.dtype else graph.cast(input, y.dtype)
        return graph.reduce(op, given, axes_of(input, dim), keepdim)

    return write


for _ours, _theirs in {
    "sum": "ReduceSum",
    "prod": "ReduceProd",
    "amax": "ReduceMax",
    "amin": "ReduceMin",
    "logsumexp": "ReduceLogSumExp",
}.items():
    exports(_ours)(_reduces(_theirs))


@exports("mean")
def _mean(graph: Graph, input: Value, dim: Axes, keepdim: bool, y: Value) -> str:
    axes = axes_of(input, dim)
    if keepdim and input.ndim > 2 and axes is not None and sorted(axes) == list(range(2, input.ndim)):
        return graph.add("GlobalAveragePool", input)
    return graph.reduce("ReduceMean", input if input.dtype == y.dtype else graph.cast(input, y.dtype), axes, keepdim)


def _quantifier(op: str) -> Any:
    def write(graph: Graph, input: Value, dim: Axes, keepdim: bool) -> str:
        truth = input if input.dtype == bool else graph.cast(input, bool)
        return graph.cast(graph.reduce(op, graph.cast(truth, np.int32), axes_of(input, dim), keepdim), bool)

    return write


exports("all")(_quantifier("ReduceMin"))
exports("any")(_quantifier("ReduceMax"))


@exports("count_nonzero")
def _count_nonzero(graph: Graph, input: Value, dim: Axes) -> str:
    return graph.reduce("ReduceSum", graph.cast(graph.cast(input, bool), np.int64), axes_of(input, dim), False)


def _variance(graph: Graph, x: Value, dim: Axes, correction: float, keepdim: bool) -> str:
    axes = axes_of(x, dim)
    count = math.prod([x.shape[axis] for axis in (range(x.ndim) if axes is None else axes)])
    centred = graph.add("Sub", x, graph.reduce("ReduceMean", x, axes, True))
    made = graph.reduce("ReduceMean", graph.add("Mul", centred, centred), axes, keepdim)
    if correction == 0:
        return made
    factor = count / (count - correction) if count > correction else math.nan
    return graph.add("Mul", made, graph.number(factor, x))


@exports("var")
def _var(graph: Graph, input: Value, dim: Axes, correction: float, keepdim: bool) -> str:
    return _variance(graph, input, dim, correction, keepdim)


@exports("std")
def _std(graph: Graph, input: Value, dim: Axes, correction: float, keepdim: bool) -> str:
    return graph.add("Sqrt", _variance(graph, input, dim, correction, keepdim))


@exports("norm")
def _norm(graph: Graph, input: Value, ord: float, dim: Axes, keepdim: bool) -> str:
    axes = axes_of(input, dim)
    if ord in (1, 2):
        return graph.reduce(f"ReduceL{int(ord)}", input, axes, keepdim)
    size = graph.add("Abs", input)
    if math.isinf(ord):
        return graph.reduce("ReduceMax" if ord > 0 else "ReduceMin", size, axes, keepdim)
    if ord == 0:
        return graph.reduce("ReduceSum", graph.cast(graph.cast(input, bool), input.dtype), axes, keepdim)
    total = graph.reduce("ReduceSum", graph.add("Pow", size, graph.number(ord, input)), axes, keepdim)
    return graph.add("Pow", total, graph.number(1 / ord, input))


# ---- where an extremum is ------------------------------------------------------------------------


def _position(op: str) -> Any:
    def write(graph: Graph, input: Value, dim: int | None, keepdim: bool) -> str:
        if dim is None or not input.ndim:
            found = graph.add(op, graph.reshape(input, (-1,), input.shape), axis=0, keepdims=0)
            return graph.reshape(found, (1,) * input.ndim) if keepdim else found
        return graph.add(op, input, axis=dim, keepdims=int(keepdim))

    return write


exports("argmax")(_position("ArgMax"))
exports("argmin")(_position("ArgMin"))


def _extremum_along(reduce: str, find: str) -> Any:
    def write(graph: Graph, input: Value, dim: int, keepdim: bool) -> tuple[str, str]:
        if not input.ndim:
            return graph.name(input), graph.constant(np.zeros((), np.int64))
        return graph.reduce(reduce, input, [dim % input.ndim], keepdim), graph.add(find, input, axis=dim, keepdims=int(keepdim))

    return write


exports("max_along")(_extremum_along("ReduceMax", "ArgMax"))
exports("min_along")(_extremum_along("ReduceMin", "ArgMin"))


def _ordered(graph: Graph, x: Value, count: int, dim: int, largest: bool) -> tuple[str, str]:
    return graph.add("TopK", x, graph.ints([count]), outputs=2, axis=dim, largest=int(largest), sorted=1)


@exports("topk")
def _topk(graph: Graph, input: Value, k: int, dim: int, largest: bool) -> tuple[str, str]:
    if not input.ndim:
        return graph.name(input), graph.constant(np.zeros((), np.int64))
    return _ordered(graph, input, k, dim, largest)


@exports("sort")
def _sort(graph: Graph, input: Value, dim: int, descending: bool) -> tuple[str, str]:
    if not input.ndim:
        return graph.name(input), graph.constant(np.zeros((), np.int64))
    return _ordered(graph, input, input.shape[dim], dim, descending)


def _of_rank(graph: Graph, x: Value, rank: int, dim: int) -> str:
    """The position along ``dim`` of the element that ``rank`` elements are smaller than."""
    _, order = _ordered(graph, x, rank + 1, dim, False)
    return graph.slice(order, dim, rank, rank + 1)


@exports("search")
def _search(graph: Graph, input: Value, sequence: Value, right: bool) -> str:
    """How many elements of a sorted sequence are below the number (not above it)."""
    column = graph.add("Unsqueeze", input, graph.ints([-1]))
    if sequence.ndim > 1:
        sequence = graph.add("Unsqueeze", sequence, graph.ints([-2]))
    below = graph.add("LessOrEqual" if right else "Less", sequence, column)
    return graph.reduce("ReduceSum", graph.cast(below, np.int64), [input.ndim], False)


# ---- scans ---------------------------------------------------------------------------------------


@exports("cumsum")
def _cumsum(graph: Graph, input: Value, dim: int, reverse: bool, y: Value) -> str:
    given = input if input.dtype == y.dtype else graph.cast(input, y.dtype)
    if not input.ndim:
        return graph.name(given)
    return graph.add("CumSum", given, graph.constant(np.array(dim, np.int64)), reverse=int(reverse))


def doubling(graph: Graph, x: Any, shape: Sequence[int], dim: int, fill: Any, combine: Any) -> str:
    """An associative scan: combined with what is 1, 2, 4, ... elements before, every element has met all before it."""
    distance = 1
    made = graph.name(x)
    while distance < shape[dim]:
        kept = graph.slice(made, dim, 0, shape[dim] - distance)
        pads = [0] * (2 * len(shape))
        pads[dim] = distance
        made = combine(made, graph.add("Pad", kept, graph.ints(pads), fill))
        distance *= 2
    return made


@exports("cumprod", when=lambda arguments: arguments["starts"] is None)
def _cumprod(graph: Graph, input: Value, dim: int, y: Value) -> str:
    given = input if input.dtype == y.dtype else graph.cast(input, y.dtype)
    if not input.ndim:
        return graph.name(given)
    one = graph.number(1, y)
    return doubling(graph, given, input.shape, dim % input.ndim, one, lambda a, b: graph.add("Mul", a, b))


@exports("logcumsumexp")
def _logcumsumexp(graph: Graph, input: Value, dim: int) -> str:
    if not input.ndim:
        return graph.name(input)
    highest = graph.reduce("ReduceMax", input, [dim % input.ndim], True)
    terms = graph.add("Exp", graph.add("Sub", input, highest))
    total = graph.add("CumSum", terms, graph.constant(np.array(dim, np.int64)))
    return graph.add("Add", graph.add("Log", total), highest)


@exports("shift")
def _shift(graph: Graph, input: Value, dim: int, back: bool, fill: float) -> str:
    """Each element one place further, ``fill`` where none came from."""
    n, dim = input.shape[dim], dim % input.ndim
    kept = graph.slice(input, dim, 1, n) if back else graph.slice(input, dim, 0, n - 1)
    pads = [0] * (2 * input.ndim)
    pads[dim + input.ndim if back else dim] = 1
    return graph.add("Pad", kept, graph.ints(pads), graph.number(fill, input))


@exports("running_position")
def _running_position(graph: Graph, input: Value, dim: int, smallest: bool) -> str:
    """The last largest among the elements up to each place: a row for each place, in which later elements cannot win."""
    n, axis, last = input.shape[dim], dim % input.ndim, input.ndim - 1
    turned = graph.name(input) if axis == last else graph.transpose(input, axis, last, input.ndim)
    limits = np.finfo(input.dtype) if input.dtype.kind == "f" else np.iinfo(input.dtype)
    worst = graph.number(limits.max if smallest else limits.min, input)
    earlier = np.tri(n, dtype=bool)
    rows = graph.add("Where", earlier, graph.add("Unsqueeze", turned, graph.ints([-2])), worst)
    found = graph.add("ArgMin" if smallest else "ArgMax", rows, axis=-1, keepdims=0, select_last_index=1)
    return found if axis == last else graph.transpose(found, axis, last, input.ndim)


@exports("linear_recurrence")
def _linear_recurrence(graph: Graph, input: Value, gate: Value, dim: int, reverse: bool) -> str:
    """y_t = x_t + a_t y_{t-1}, by doubling: the pairs (a, x) of neighbouring stretches combine to (a' a, x' + a' x)."""
    n, axis, distance = input.shape[dim], dim % input.ndim, 1
    total, factor = graph.name(input), graph.name(gate)

    def moved(x: str, fill: float) -> str:
        kept = graph.slice(x, axis, distance, n) if reverse else graph.slice(x, axis, 0, n - distance)
        pads = [0] * (2 * input.ndim)
        pads[axis + input.ndim if reverse else axis] = distance
        return graph.add("Pad", kept, graph.ints(pads), graph.number(fill, input))

    while distance < n:
        total = graph.add("Add", total, graph.add("Mul", factor, moved(total, 0)))
        factor = graph.add("Mul", factor, moved(factor, 1))
        distance *= 2
    return total


# ---- positions by order --------------------------------------------------------------------------


@exports("kth_position")
def _kth_position(graph: Graph, input: Value, k: int, dim: int) -> str:
    return _of_rank(graph, input, k - 1, dim)


@exports("median_position", when=lambda arguments: not arguments["skip_nan"])
def _median_position(graph: Graph, input: Value, dim: int) -> str:
    return _of_rank(graph, input, (input.shape[dim] - 1) // 2, dim)


@exports("middle", when=lambda arguments: not arguments["skip_nan"])
def _middle(graph: Graph, input: Value) -> str:
    flat = graph.reshape(input, (-1,), input.shape)
    count = math.prod(input.shape)
    values, _ = graph.add("TopK", flat, graph.ints([(count + 1) // 2]), outputs=2, axis=0, largest=0, sorted=1)
    return graph.add("Gather", values, graph.constant(np.array((count - 1) // 2, np.int64)), axis=0)
