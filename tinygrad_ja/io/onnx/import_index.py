"""Imported operators that choose and place elements by number: the families of Gather and Scatter, OneHot, Compress, Unique."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops.comparison import where
from ...ops.counting import unique
from ...ops.creation import arange, from_numpy
from ...ops.indexing import index_put
from ...ops.scatter import scatter_reduce
from ...ops.selection import gather, index_select, scatter
from .import_table import Call, Refusal, imports, number


def _counted(index: Any, size: int) -> Any:
    """Numbers from 0 on, where negative ones count from the end."""
    index = index.to(np.int64)
    return where(index < 0, index + size, index)


@imports("Gather")
def _gather(call: Call, x: Any, index: Any) -> Any:
    axis = call.get("axis", 0) % x.ndim
    shape = call.allow([*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]])
    return index_select(x, axis, _counted(index, x.shape[axis]).reshape(-1)).reshape(shape)


@imports("GatherElements")
def _gather_elements(call: Call, x: Any, index: Any) -> Any:
    axis = call.get("axis", 0)
    return gather(x, axis, _counted(index, x.shape[axis]))


@imports("GatherND")
def _gather_nd(call: Call, x: Any, index: Any) -> Any:
    batch, depth = call.get("batch_dims", 0), index.shape[-1]
    call.allow([*index.shape[:-1], *x.shape[batch + depth :]])
    if batch + depth > x.ndim:
        raise Refusal((f"{depth} indices into shape {x.shape}", f"形状 {x.shape} に対して添字が {depth} 個あります"))
    return x[_grid(x, batch, index.ndim - 1) + _columns(x, index, batch)]


def _columns(x: Any, index: Any, first: int = 0) -> tuple[Any, ...]:
    """The last axis of ``index`` as one array of places for each axis of x from ``first`` on."""
    return tuple([_counted(index[..., i], x.shape[first + i]) for i in range(index.shape[-1])])


def _grid(x: Any, count: int, ndim: int) -> tuple[Any, ...]:
    """The place of each element itself along the first ``count`` axes."""
    return tuple(
        [arange(x.shape[i], device=x.device).reshape([-1 if axis == i else 1 for axis in range(ndim)]) for i in range(count)]
    )


_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@imports("Scatter", "ScatterElements")
def _scatter_elements(call: Call, x: Any, index: Any, updates: Any) -> Any:
    axis = call.get("axis", 0)
    places = _counted(index, x.shape[axis])
    how = call.get("reduction", "none")
    if how == "none":
        return scatter(x, axis, places, updates)
    return scatter_reduce(x, axis, places, updates, _REDUCE[how])


@imports("ScatterND")
def _scatter_nd(call: Call, x: Any, index: Any, updates: Any) -> Any:
    places = _columns(x, index)
    how = call.get("reduction", "none")
    if how == "none":
        return index_put(x, places, updates)
    depth = index.shape[-1]
    inner = int(np.prod(x.shape[depth:], dtype=np.int64))
    row = from_numpy(np.zeros((), dtype=np.int64)).to(x.device)
    for place, size in zip(places, x.shape):
        row = row * size + place
    flat = (row.reshape(-1, 1) * inner + arange(inner, device=x.device)).reshape(-1)
    return scatter_reduce(x.reshape(-1), 0, flat, updates.reshape(-1), _REDUCE[how]).reshape(x.shape)


@imports("TensorScatter")
def _tensor_scatter(call: Call, past: Any, update: Any, start: Any = None) -> Any:
    """New steps of a cache written from ``start`` on, a number for each of the batch."""
    axis = call.get("axis", -2) % past.ndim
    batch, steps = past.shape[0], update.shape[axis]
    first = from_numpy(np.zeros(batch, dtype=np.int64)).to(past.device) if start is None else start
    places = first.reshape(-1, 1) + arange(steps, device=past.device)
    if call.get("mode", "linear") == "circular":
        places = places % past.shape[axis]
    index = places.reshape([batch, *[steps if i == axis else 1 for i in range(1, past.ndim)]])
    return scatter(past, axis, index.expand(update.shape), update)


@imports("OneHot", control=(1, 2))
def _one_hot(call: Call, index: Any, depth: Any, values: Any) -> Any:
    count = int(number(depth))
    axis = call.get("axis", -1)
    axis += index.ndim + 1 if axis < 0 else 0
    shape = [*index.shape]
    shape.insert(axis, count)
    call.allow(shape)
    classes = arange(count, device=index.device).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return where(_counted(index, count).unsqueeze(axis) == classes, values[1], values[0])


@imports("Compress")
def _compress(call: Call, x: Any, condition: Any) -> Any:
    kept = from_numpy(np.flatnonzero(condition.cpu().numpy())).to(x.device)
    axis = call.get("axis")
    return x.reshape(-1)[kept] if axis is None else index_select(x, axis, kept)


@imports("Unique")
def _unique(call: Call, x: Any) -> Any:
    """The different elements, or slices along ``axis``, with the place of the first, the inverse and the counts."""
    axis = call.get("axis")
    values, inverse, counts = unique(x, True, True, True, axis)
    flat = inverse.reshape(-1)
    numbers = arange(flat.numel(), device=x.device)
    start = from_numpy(np.full(counts.numel(), flat.numel(), dtype=np.int64)).to(x.device)
    first = scatter_reduce(start, 0, flat, numbers, "amin")
    if not call.get("sorted", 1):
        order = first.argsort()
        values = values[order] if axis is None else index_select(values, axis, order)
        rank = order.argsort()
        first, counts, flat = first[order], counts[order], rank[flat]
    return values, first, flat, counts
