"""Operators that move elements, as ONNX nodes: shapes, joining, splitting, padding, diagonals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core.operator import OPERATORS
from ...core.trace import Value
from .export_graph import Graph, flat_positions
from .export_table import exports

_END = 2**63 - 1


@exports("alias", "clone", "to_device")
def _same(graph: Graph, input: Value) -> str:
    return graph.name(input)


@exports("cast")
def _cast(graph: Graph, input: Value, y: Value) -> str:
    return graph.cast(input, y.dtype)


@exports("reshape")
def _reshape(graph: Graph, input: Value, y: Value) -> str:
    return graph.reshape(input, y.shape, input.shape)


@exports("expand")
def _expand(graph: Graph, input: Value, y: Value) -> str:
    return graph.name(input) if input.shape == y.shape else graph.add("Expand", input, graph.ints(y.shape))


@exports("sum_to_size")
def _sum_to_size(graph: Graph, input: Value, size: tuple[int, ...]) -> str:
    more = input.ndim - len(size)
    axes = [axis for axis, n in enumerate(input.shape) if axis < more or (size[axis - more] == 1 and n != 1)]
    made = graph.reduce("ReduceSum", input, axes, True) if axes else graph.name(input)
    return graph.reshape(made, size, None if axes else input.shape)


@exports("permute")
def _permute(graph: Graph, input: Value, dims: Sequence[int]) -> str:
    return graph.add("Transpose", input, perm=[dim % input.ndim for dim in dims])


@exports("transpose")
def _transpose(graph: Graph, input: Value, dim0: int, dim1: int) -> str:
    return graph.transpose(input, dim0, dim1, input.ndim) if input.ndim else graph.name(input)


@exports("flip")
def _flip(graph: Graph, input: Value, dims: Any) -> str:
    axes = [dim % input.ndim for dim in ((dims,) if isinstance(dims, int) else dims)]
    if not axes:
        return graph.name(input)
    ends = [-_END] * len(axes)
    return graph.add("Slice", input, *[graph.ints(part) for part in ([-1] * len(axes), ends, axes, [-1] * len(axes))])


@exports("roll")
def _roll(graph: Graph, input: Value, shifts: Any, dims: Any) -> str:
    made = graph.name(input)
    for shift, dim in zip(shifts, dims):
        n = input.shape[dim]
        if n and shift % n:
            cut = n - shift % n
            made = graph.add("Concat", graph.slice(made, dim, cut, n), graph.slice(made, dim, 0, cut), axis=dim)
    return made


# ---- joining and splitting -----------------------------------------------------------------------


@exports("cat")
def _cat(graph: Graph, tensors: tuple[Value, ...], dim: int) -> str:
    return graph.name(tensors[0]) if len(tensors) == 1 else graph.add("Concat", *tensors, axis=dim)


@exports("stack")
def _stack(graph: Graph, tensors: tuple[Value, ...], dim: int, y: Value) -> str:
    if len(tensors) == 1:
        return graph.reshape(tensors[0], y.shape, tensors[0].shape)
    return graph.add("Concat", *[graph.add("Unsqueeze", x, graph.ints([dim])) for x in tensors], axis=dim)


@exports("split")
def _split(graph: Graph, input: Value, sizes: tuple[int, ...], dim: int) -> tuple[str, ...]:
    made = graph.add("Split", input, graph.ints(sizes), outputs=len(sizes), axis=dim)
    return (made,) if len(sizes) == 1 else made


@exports("unbind")
def _unbind(graph: Graph, input: Value, dim: int, y: list[Value]) -> tuple[str, ...]:
    if len(y) == 1:
        return (graph.reshape(input, y[0].shape, input.shape),)
    parts = _split(graph, input, (1,) * input.shape[dim], dim)
    return tuple([graph.add("Squeeze", part, graph.ints([dim])) for part in parts])


# ---- padding -------------------------------------------------------------------------------------


def edges(size: Sequence[int], index: Any) -> list[int] | None:
    """The pads of ONNX's Pad where ``index`` says by full slices of step 1 where the input lies in ``size``; else None."""
    parts = index if isinstance(index, tuple) else (index,)
    if len(parts) != len(size) or not all(type(part) is slice and part.step in (None, 1) for part in parts):
        return None
    spans = [part.indices(n) for part, n in zip(parts, size)]
    return [start for start, _, _ in spans] + [n - stop for (_, stop, _), n in zip(spans, size)]


@exports("pad_constant")
def _pad_constant(graph: Graph, input: Value, size: tuple[int, ...], index: Any, value: float) -> str:
    pads = edges(size, index)
    assert pads is not None
    return graph.add("Pad", input, graph.ints(pads), graph.number(value, input))


def scattered(graph: Graph, onto: Any, x: Any, index: Any, reduction: str) -> str:
    """``onto`` with the elements of ``x`` written or added at a constant index."""
    positions = flat_positions(onto.shape, lambda array: array[fixed(index)])
    flat = graph.reshape(onto, (-1,), getattr(onto, "shape", None))
    source = graph.reshape(x, (-1,))
    made = graph.add("ScatterElements", flat, positions.reshape(-1), source, axis=0, reduction=reduction)
    return graph.reshape(made, onto.shape)


def fixed(index: Any) -> Any:
    """An index with the arrays of its constants in place of their Values; raises KeyError where one is computed."""
    if isinstance(index, tuple):
        return tuple([fixed(part) for part in index])
    if isinstance(index, Value):
        if index.array is None:
            raise KeyError(index.name)
        return index.array
    return index


# ---- picks at constant places --------------------------------------------------------------------


def _picks(name: str) -> Any:
    """An operator that only picks elements: its kernel on numbers says which."""

    def write(graph: Graph, arguments: dict[str, Any]) -> str:
        input = arguments.pop("input")
        kernel = OPERATORS[name].kernels[np.ndarray]
        return graph.gather_flat(input, flat_positions(input.shape, lambda array: kernel(array, **arguments)))

    return write


_pick_diagonal, _pick_strided = _picks("diagonal"), _picks("as_strided")


@exports("diagonal")
def _diagonal(graph: Graph, input: Value, offset: int, dim1: int, dim2: int) -> str:
    return _pick_diagonal(graph, {"input": input, "offset": offset, "dim1": dim1, "dim2": dim2})


@exports("as_strided")
def _as_strided(graph: Graph, input: Value, size: Any, stride: Any, offset: int) -> str:
    return _pick_strided(graph, {"input": input, "size": size, "stride": stride, "offset": offset})


@exports("embed_diagonal")
def _embed_diagonal(graph: Graph, input: Value, size: tuple[int, ...], offset: int, dim1: int, dim2: int) -> str:
    places = np.diagonal(np.arange(int(np.prod(size))).reshape(size), offset, dim1, dim2)
    zeros = graph.constant(np.zeros(int(np.prod(size)), input.dtype))
    made = graph.add("ScatterElements", zeros, places.reshape(-1), graph.reshape(input, (-1,), input.shape), axis=0)
    return graph.reshape(made, size)


@exports("tril")
def _tril(graph: Graph, input: Value, diagonal: int) -> str:
    return graph.add("Trilu", input, graph.constant(np.array(diagonal, np.int64)), upper=0)


@exports("triu")
def _triu(graph: Graph, input: Value, diagonal: int) -> str:
    return graph.add("Trilu", input, graph.constant(np.array(diagonal, np.int64)), upper=1)
