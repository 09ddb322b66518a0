"""Indexing, gathering and scattering as ONNX nodes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.trace import Value
from .export_graph import Graph, flat_positions
from .export_shape import edges, fixed, scattered
from .export_table import FROM_18, Refusal, exports


@exports("index_select")
def _index_select(graph: Graph, input: Value, dim: int, index: Value) -> str:
    return graph.add("Gather", input, index, axis=dim)


@exports("gather")
def _gather(graph: Graph, input: Value, dim: int, index: Value) -> str:
    axis = dim % max(input.ndim, 1)
    size = [n if i == axis else m for i, (n, m) in enumerate(zip(input.shape, index.shape))]
    source: Any = input
    if tuple(size) != input.shape:  # ONNX wants equal sizes off the axis
        for other, n in enumerate(size):
            if n != input.shape[other]:
                source = graph.slice(source, other, 0, n)
    return graph.add("GatherElements", source, index, axis=axis)


@exports("getitem")
def _getitem(graph: Graph, input: Value, index: Any, y: Value) -> str:
    parts = _spelled_out(index, input.ndim)
    if not any(isinstance(part, Value) for part in parts):
        return _basic(graph, input, parts, y)
    try:
        positions = flat_positions(input.shape, lambda array: array[fixed(index)])
    except KeyError:
        places = _Places(graph, input.shape, parts)
        return places.part_turned_back(graph.add("GatherND", places.turned(input), places.indices))
    return graph.gather_flat(input, positions)


def _spelled_out(index: Any, ndim: int) -> list[Any]:
    """The parts of an index, with slices in place of ``...`` and of what is left out."""
    parts = list(index) if isinstance(index, tuple) else [index]
    taken = sum(part.ndim if isinstance(part, Value) and part.dtype == bool else 1 for part in parts if part not in (None, ...))
    rest = [slice(None)] * (ndim - taken)
    if ... in [part for part in parts if not isinstance(part, Value)]:
        place = next(i for i, part in enumerate(parts) if part is ...)
        return [*parts[:place], *rest, *parts[place + 1 :]]
    return [*parts, *rest]


def _basic(graph: Graph, input: Any, parts: list[Any], y: Value) -> str:
    """Slices first, then the axes that an int takes away, then new ones."""
    sliced: list[tuple[int, int, int, int]] = []
    dropped, added = [], []
    axis = place = 0
    for part in parts:
        if part is None:
            added.append(place)
            place += 1
            continue
        n = input.shape[axis]
        if isinstance(part, slice):
            start, stop, step = part.indices(n)
            if (start, stop, step) != (0, n, 1):
                sliced.append((start, stop, axis, step))
            place += 1
        else:
            number = int(part) % n
            sliced.append((number, number + 1, axis, 1))
            dropped.append(axis)
        axis += 1
    made = graph.name(input)
    if sliced:
        starts, stops, axes, steps = zip(*sliced)
        made = graph.add("Slice", made, *[graph.ints(part) for part in (starts, stops, axes, steps)])
    if dropped:
        made = graph.add("Squeeze", made, graph.ints(dropped))
    return graph.add("Unsqueeze", made, graph.ints(added)) if added else made


class _Places:
    """Computed integer arrays side by side in an index, and full slices otherwise, for ONNX's GatherND and ScatterND: those want the
    indexed axes first."""

    def __init__(self, graph: Graph, shape: tuple[int, ...], parts: list[Any]) -> None:
        arrays = [axis for axis, part in enumerate(parts) if isinstance(part, Value)]
        masks = any(part.dtype == bool for part in parts if isinstance(part, Value))
        plain = all(isinstance(part, Value) or part == slice(None) for part in parts)
        if masks or not plain or arrays != list(range(arrays[0], arrays[-1] + 1)):
            raise Refusal(
                (
                    "the size of the result depends on values, or the index mixes computed arrays with other parts",
                    "結果の大きさが値によって変わるか、計算で得た配列とほかのものが添字に混ざっています",
                ),
                ("use tg.where, tg.gather or tg.index_select.", "tg.where、tg.gather、tg.index_select を使ってください。"),
            )
        self.graph, self.front, self.ndim = graph, arrays[0], len(shape)
        self.order = [*arrays, *range(self.front), *range(arrays[-1] + 1, self.ndim)]
        indices = [parts[axis] for axis in arrays]
        self.shape = np.broadcast_shapes(*[index.shape for index in indices])
        self.part = (*shape[: self.front], *self.shape, *shape[arrays[-1] + 1 :])
        columns = [graph.add("Unsqueeze", graph.add("Expand", x, graph.ints(self.shape)), graph.ints([-1])) for x in indices]
        self.indices = columns[0] if len(columns) == 1 else graph.add("Concat", *columns, axis=-1)

    def _moved(self, x: Any, order: list[int]) -> str:
        return self.graph.add("Transpose", x, perm=order) if order != sorted(order) else self.graph.name(x)

    def turned(self, x: Any) -> str:
        """An array of the indexed shape with the indexed axes first."""
        return self._moved(x, self.order)

    def turned_back(self, x: str) -> str:
        """The same undone."""
        return self._moved(x, [int(axis) for axis in np.argsort(self.order)])

    @property
    def _part_order(self) -> list[int]:
        added, front = len(self.shape), self.front
        return [*range(front, front + added), *range(front), *range(front + added, len(self.part))]

    def part_turned(self, x: Any) -> str:
        """An array of the shape of the part with the axes of the indices first."""
        return self._moved(x, self._part_order)

    def part_turned_back(self, x: str) -> str:
        """The same undone."""
        return self._moved(x, [int(axis) for axis in np.argsort(self._part_order)])


def _written(graph: Graph, onto: Any, value: Any, index: Any, reduction: str) -> str:
    """``onto`` with ``value``, broadcast, written or added at an index."""
    try:
        places = None
        part = np.empty(onto.shape, bool)[fixed(index)].shape
    except KeyError:
        places = _Places(graph, onto.shape, _spelled_out(index, len(onto.shape)))
        part = places.part
    given = graph.name(value)
    if isinstance(value, Value):
        shape = value.shape[max(0, value.ndim - len(part)) :]
        given = graph.reshape(value, shape, value.shape)
        given = given if shape == part else graph.add("Expand", given, graph.ints(part))
    if places is None:
        return scattered(graph, onto, given, index, reduction)
    made = graph.add("ScatterND", places.turned(onto), places.indices, places.part_turned(given), reduction=reduction)
    return places.turned_back(made)


# ---- writing -------------------------------------------------------------------------------------


@exports("index_put")
def _index_put(graph: Graph, input: Value, value: Any, index: Any) -> str:
    return _written(graph, input, value, index, "none")


@exports("add_at_zeros")
def _add_at_zeros(graph: Graph, input: Value, size: tuple[int, ...], index: Any) -> str:
    pads = edges(size, index)
    if pads is not None:
        return graph.add("Pad", input, graph.ints(pads))
    return _written(graph, np.zeros(size, input.dtype), input, index, "add")


@exports("zero_at")
def _zero_at(graph: Graph, input: Value, index: Any) -> str:
    there = np.zeros(input.shape, bool)
    try:
        there[fixed(index)] = True
    except KeyError:
        part = _Places(graph, input.shape, _spelled_out(index, input.ndim)).part
        return _written(graph, input, graph.constant(np.zeros(part, input.dtype)), index, "none")
    return graph.add("Where", there, graph.number(0, input), input)


@exports("scale_gradient")
def _scale_gradient(graph: Graph, input: Value) -> str:
    return graph.name(input)


@exports("scatter_zeros")
def _scatter_zeros(graph: Graph, input: Value, size: tuple[int, ...], dim: int, index: Value) -> str:
    zeros = graph.constant(np.zeros(size, input.dtype))
    return graph.add("ScatterElements", zeros, index, _cut_to(graph, input, index), axis=dim, reduction="add")


def _cut_to(graph: Graph, x: Value, index: Value) -> Any:
    made: Any = x
    for axis, (n, m) in enumerate(zip(x.shape, index.shape)):
        if n != m:
            made = graph.slice(made, axis, 0, m)
    return made


@exports("place")
def _place(graph: Graph, input: Value, index: Value, dim: int, y: Value) -> str:
    return graph.add("ScatterElements", graph.constant(np.zeros(y.shape, y.dtype)), index, input, axis=dim)


@exports("add_slices", when=lambda arguments: arguments["padding"] is None)
def _add_slices(graph: Graph, input: Value, size: tuple[int, ...], dim: int, index: Value) -> str:
    """Along the first axis ScatterND adds whole slices; another axis is brought there and back."""
    count = index.ndim
    order = [*range(dim, dim + count), *range(dim), *range(dim + count, input.ndim)]
    source = graph.add("Transpose", input, perm=order) if dim else graph.name(input)
    rows = (size[dim], *size[:dim], *size[dim + 1 :])
    column = graph.add("Unsqueeze", index, graph.ints([-1]))
    made = graph.add("ScatterND", graph.constant(np.zeros(rows, input.dtype)), column, source, reduction="add")
    return graph.add("Transpose", made, perm=[*range(1, dim + 1), 0, *range(dim + 1, len(size))]) if dim else made


@exports("first_largest")
def _first_largest(graph: Graph, input: Value, bag: Value, count: int) -> str:
    """The numbers of the rows that are largest, where the bags lie one behind the other and are of one length."""
    rows, width = input.shape
    length = rows // max(count, 1)
    if bag.array is None or not np.array_equal(bag.array, np.arange(count).repeat(length)):
        raise Refusal(
            ("the bags have different lengths", "bag の長さが違います"),
            (
                "give bags of one length as a matrix (B, N), without padding_idx.",
                "長さの等しい bag を行列 (B, N) で渡してください (padding_idx なし)。",
            ),
        )
    found = graph.add("ArgMax", graph.reshape(input, (count, length, width)), axis=1, keepdims=0)
    return graph.add("Add", found, np.arange(count)[:, None] * length)


@exports("scatter_extreme", when=lambda arguments: arguments["include_self"])
def _scatter_extreme(graph: Graph, input: Value, src: Value, dim: int, index: Value, smallest: bool) -> str:
    if graph.opset < 18:
        raise Refusal(*FROM_18)
    reduction = "min" if smallest else "max"
    return graph.add("ScatterElements", input, index, _cut_to(graph, src, index), axis=dim, reduction=reduction)


@exports("argwhere")
def _argwhere(graph: Graph) -> str:
    raise Refusal(
        ("the size of the result depends on values", "結果の大きさが値によって変わります"),
        ("use tg.where or tg.topk, whose sizes are known.", "大きさの決まる tg.where や tg.topk を使ってください。"),
    )
