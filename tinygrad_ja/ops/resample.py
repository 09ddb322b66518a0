"""Sparse matrices along one axis: means of windows, interpolation, and their transposes are all of this kind."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..backend.arrays import BY_TYPE
from ..core.operator import Array, linear
from .conversion import _cast


class AxisMap:
    """A sparse matrix (count, size) that makes ``count`` elements of the ``size`` elements of an axis:
    ``y[o] = Σ_k weight[k, o] · x[index[k, o]]``. The index ``size`` means that there is no such element; its weight is 0.

    >>> double = AxisMap(2, np.array([[0, 0, 1, 1]]), np.ones((1, 4)))
    >>> double.count, double.T.index.tolist()
    (4, [[0, 2], [1, 3]])
    """

    def __init__(self, size: int, index: np.ndarray, weight: np.ndarray) -> None:
        self.size, self.count = size, index.shape[1]
        self.index, self.weight = index, weight
        self.ragged = bool((index == size).any())
        self.made: dict[Any, Any] = {}  # its tables on a device, and what kernels make of it

    @cached_property
    def T(self) -> AxisMap:
        """The transpose."""
        taps, outputs = (self.index < self.size).nonzero()
        inputs = self.index[taps, outputs]
        order = np.lexsort((outputs, inputs))
        outputs, inputs = outputs[order], inputs[order]
        each = np.bincount(inputs, minlength=self.size)
        rank = np.arange(len(inputs)) - (each.cumsum() - each)[inputs]
        depth = int(each.max()) if each.size else 0
        index, weight = np.full((depth, self.size), self.count), np.zeros((depth, self.size))
        index[rank, inputs] = outputs
        weight[rank, inputs] = self.weight[taps[order], outputs]
        made = AxisMap(self.count, index, weight)
        made.__dict__["T"] = self
        return made

    def scaled(self, factor: np.ndarray) -> AxisMap:
        """With each row of the matrix multiplied by a number."""
        return AxisMap(self.size, self.index, self.weight * factor)

    def tables(self, like: Any) -> tuple[Any, Any]:
        """Index and weights on the device of an array, the weights in its dtype. They are copied there once."""
        backend = BY_TYPE[type(like)]
        place = backend.name, backend.index_of(like), like.dtype
        if place not in self.made:
            self.made[place] = tuple(
                [backend.from_host(part, place[1]) for part in (self.index, self.weight.astype(like.dtype))]
            )
        return self.made[place]

    def __repr__(self) -> str:
        return f"AxisMap({self.size} -> {self.count}, {self.index.tolist()}, {self.weight.tolist()})"


def in_order(maps: Sequence[AxisMap]) -> list[tuple[int, AxisMap]]:
    """``(axis, map)`` for maps along the last axes, axes counted from behind; those first that leave least."""
    from_behind = [(axis - len(maps), map) for axis, map in enumerate(maps)]
    return sorted(from_behind, key=lambda pair: pair[1].count / max(pair[1].size, 1))


def _random_map(pick: Any, size: int) -> AxisMap:
    taps, count = pick.integer(0, 3), pick.integer(1, 5)
    index = pick.indices((taps, count), size + 1)
    return AxisMap(size, index, np.where(index == size, 0.0, pick.array((taps, count))))


def _resample_case(pick: Any) -> Any:
    shape = pick.shape(min_dims=1, min_side=1)
    mapped = shape[len(shape) - pick.integer(1, len(shape)) :]
    return (pick.array(shape), tuple([_random_map(pick, size) for size in mapped])), {}


@linear(lambda g, maps: _resample(g, tuple([map.T for map in maps])), cases=_resample_case)
def _resample(xp: Any, input: Array, maps: tuple[AxisMap, ...]) -> Array:
    """A sparse matrix times the vectors along each of the last axes; the transpose is the same operator with the matrices transposed."""
    for axis, map in in_order(maps):
        dim = input.ndim + axis
        index, weight = map.tables(input)
        before, behind = input.shape[:dim], input.shape[dim + 1 :]
        if map.ragged:
            input = xp.concatenate([input, xp.zeros((*before, 1, *behind), dtype=input.dtype)], dim)
        made = xp.zeros((*before, map.count, *behind), dtype=input.dtype)
        for tap in range(len(map.index)):
            made += xp.take(input, index[tap], dim) * weight[tap].reshape((map.count,) + (1,) * len(behind))
        input = made
    return input


def resampled(input: Any, maps: Sequence[AxisMap]) -> Any:
    """The input with a map along each of its last axes. float16 is computed in float32."""
    dtype = input.dtype
    if dtype == np.float16:
        return _cast(_resample(_cast(input, np.dtype(np.float32)), tuple(maps)), dtype)
    return _resample(input, tuple(maps))
