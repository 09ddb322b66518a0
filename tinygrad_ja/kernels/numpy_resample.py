"""Faster NumPy texts of sparse matrices along an axis, and of sums at scattered places.

The elements that some neighbouring outputs are made of lie together, so the matrix is a band of small dense blocks, and products with those
are BLAS's. There 0 · inf makes NaN of what an infinite element has nothing to do with; a result that is not finite is made anew.
"""

from __future__ import annotations

import math

import numpy as np

from ..backend.threads import in_parts
from ..core.operator import OPERATORS, kernel
from ..ops.grid import _sample, _sample_spread, _sample_weights
from ..ops.resample import AxisMap, _resample, in_order

_SIDE = 48
"""About so many rows or columns of a block: larger ones hold more zeros, smaller ones are more calls."""
_BLOCK = 65_536
"""Elements that are taken through all axes at once."""

_plain_resample = OPERATORS["resample"].kernel_for(np)
_plain_sample = OPERATORS["sample"].kernel_for(np)


def is_finite(x: np.ndarray) -> bool:
    """Whether no element is infinite or NaN (nor their sum, for very large ones)."""
    with np.errstate(invalid="ignore", over="ignore"):
        return math.isfinite(x.sum())


# ---- along an axis -------------------------------------------------------------------------------


def _blocks(map: AxisMap, dtype: np.dtype) -> list[tuple[slice, slice, np.ndarray]]:
    """``(outputs, inputs, matrix)`` of each block of the band; matrices have a row for each output."""
    found: list[tuple[slice, slice, np.ndarray]] = []
    count = -(-max(map.size, map.count) // _SIDE)
    for i in range(count):
        low, high = map.count * i // count, map.count * (i + 1) // count
        index, weight = map.index[:, low:high], map.weight[:, low:high]
        inside = index < map.size
        if low == high:
            continue
        first = int(index.min(where=inside, initial=map.size))
        last = int(index.max(where=inside, initial=-1)) + 1
        matrix = np.zeros((high - low, max(last - first, 0)))
        taps, outputs = inside.nonzero()
        np.add.at(matrix, (outputs, index[taps, outputs] - first), weight[taps, outputs])
        found.append((slice(low, high), slice(first, first + matrix.shape[1]), matrix.astype(dtype)))
    return found


def _along(x: np.ndarray, axis: int, map: AxisMap, out: np.ndarray) -> None:
    """One map along an axis of a contiguous (N, ...), counted from behind."""
    trail = math.prod(x.shape[x.ndim + axis + 1 :])
    lead = math.prod(x.shape[: x.ndim + axis])
    key = "blocks", x.dtype
    if key not in map.made:
        map.made[key] = _blocks(map, x.dtype)
    if trail == 1:
        x, out = x.reshape(lead, map.size), out.reshape(lead, map.count)
        for outputs, inputs, matrix in map.made[key]:
            np.matmul(x[:, inputs], matrix.T, out=out[:, outputs])
    else:
        x, out = x.reshape(lead, map.size, trail), out.reshape(lead, map.count, trail)
        for outputs, inputs, matrix in map.made[key]:
            np.matmul(matrix, x[:, inputs], out=out[:, outputs])


@kernel(_resample, np.ndarray)
def resample_numpy(input: np.ndarray, maps: tuple[AxisMap, ...]) -> np.ndarray:
    """Products with small dense matrices, some pictures after the others, through all axes."""
    if input.dtype.char not in "fd" or not input.size:
        return _plain_resample(input, maps)
    before = input.shape[: input.ndim - len(maps)]
    pictures = math.prod(before)
    plan = in_order(maps)
    x = np.ascontiguousarray(input).reshape(pictures, *input.shape[input.ndim - len(maps) :])
    made = np.empty((*before, *[map.count for map in maps]), input.dtype)
    y = made.reshape(pictures, *made.shape[len(before) :])

    def work(part: slice) -> None:
        given = x[part]
        with np.errstate(invalid="ignore", over="ignore"):
            for axis, map in plan[:-1]:
                shape = list(given.shape)
                shape[axis] = map.count
                following = np.empty(shape, given.dtype)
                _along(given, axis, map, following)
                given = following
            _along(given, *plan[-1], y[part])

    size = max(input.size, made.size)
    in_parts(work, pictures, size * len(maps), max(1, _BLOCK * pictures // size) if len(maps) > 1 else 0)
    return made if is_finite(made) else _plain_resample(input, maps)


# ---- scattered places ----------------------------------------------------------------------------


def _picked(x: np.ndarray, index: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Elements (C, P) of (C, L) by number; any for the number -1. A short way of ``np.take`` only with ``mode`` and ``out``."""
    return np.take(x, index, 1, out, "clip")


@kernel(_sample, np.ndarray)
def sample_numpy(input: np.ndarray, weight: np.ndarray, index: np.ndarray) -> np.ndarray:
    """One picture after the other; the weight of an element that is not there becomes 0."""
    n, channels, size = input.shape
    made = np.zeros((n, channels, index.shape[2]), input.dtype)
    if not size or not made.size:
        return made
    if not is_finite(weight):
        return _plain_sample(input, weight, index)

    def work(part: slice) -> None:
        picked = np.empty(made.shape[1:], input.dtype)
        with np.errstate(invalid="ignore", over="ignore"):
            for x, weights, numbers, y in zip(input[part], weight[part], index[part], made[part]):
                for factor, number in zip(np.where(numbers >= 0, weights, weights.dtype.type(0)), numbers):
                    _picked(x, number, picked)
                    y += np.multiply(picked, factor, out=picked)

    in_parts(work, n, made.size * index.shape[1])
    return made if is_finite(made) else _plain_sample(input, weight, index)


@kernel(_sample_weights, np.ndarray)
def sample_weights_numpy(input: np.ndarray, other: np.ndarray, index: np.ndarray) -> np.ndarray:
    """One picture after the other; what was made of an element that is not there becomes 0."""
    made = np.zeros(index.shape, input.dtype)
    if not other.size:
        return made

    def work(part: slice) -> None:
        picked = np.empty(input.shape[1:], input.dtype)
        for g, x, numbers, y in zip(input[part], other[part], index[part], made[part]):
            for number, out in zip(numbers, y):
                np.einsum("cp,cp->p", g, _picked(x, number, picked), out=out)
            y[numbers < 0] = 0

    in_parts(work, len(made), input.size * index.shape[1])
    return made


@kernel(_sample_spread, np.ndarray)
def sample_spread_numpy(input: np.ndarray, weight: np.ndarray, index: np.ndarray, size: int) -> np.ndarray:
    """``np.add.at`` is fast for one flat index, so all axes are flattened."""
    n, channels, _ = input.shape
    made = np.zeros((n, channels, size), input.dtype)
    start = (np.arange(n * channels) * size).reshape(n, channels, 1)
    for k in range(index.shape[1]):
        inside = (index[:, k] >= 0)[:, None]
        part = np.where(inside, input * weight[:, k, None], input.dtype.type(0))
        np.add.at(made.reshape(-1), (start + np.maximum(index[:, k], 0)[:, None]).reshape(-1), part.reshape(-1))
    return made
