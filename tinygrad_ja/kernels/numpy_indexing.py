"""Faster NumPy texts of indexing operators. ``np.add.at`` is fast for one flat index only (NumPy >= 1.25), so indices are flattened:
for a (1000, 64) table and 512 rows that takes 82 µs where the plain call takes 371. Many long rows are added as wholes: 2,560 rows into a
(10,000, 100) table in 140 µs where the flat index takes 500."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.operator import adder, kernel
from ..ops.indexing import _add_at_zeros, _getitem, index_error, repeats
from ..ops.selection import _add_slices, _grid, _index_select, _scatter_zeros

_FEW = 256
"""Up to so many added elements the plain ``np.add.at`` is the faster one."""
_WIDE, _MUCH = 32, 32_000
"""From so many elements in a row, and in all, on rows are copied and added as wholes."""
_SOME = 8192
"""Fewer added elements than this are not worth a round of their own."""


@kernel(_getitem, np.ndarray)
def getitem_numpy(input: np.ndarray, index: Any) -> Any:
    """One Python frame less."""
    try:
        return input[index]
    except (IndexError, ValueError) as failure:
        raise index_error("getitem", input.shape, index) from failure


@kernel(_add_at_zeros, np.ndarray)
def add_at_zeros_numpy(input: np.ndarray, size: tuple[int, ...], index: Any) -> np.ndarray:
    """Several index arrays at the front become one flat index."""
    made = np.zeros(size, input.dtype)
    if type(index) is not tuple or not repeats(index):
        made[index] = input
    elif input.size <= _FEW or not all([isinstance(item, np.ndarray) for item in index]):
        np.add.at(made, index, input)
    else:
        count = len(index)
        flat = np.asarray(np.ravel_multi_index(index, size[:count], mode="wrap"))
        add_rows(made, flat, input, math.prod(size[:count]))
    return made


def add_rows(made: np.ndarray, index: np.ndarray, g: np.ndarray, count: int) -> None:
    """``made.reshape(count, -1)[index] += g``, also for an index that repeats. ``made`` is C-ordered zeros."""
    width = made.size // count if count else 0
    flat = index.reshape(-1).astype(np.intp, copy=False)  # products with the width need not fit small integers
    if width >= _WIDE and flat.size * width >= _MUCH:
        _add_wide_rows(made.reshape(count, width), flat, np.ascontiguousarray(g).reshape(-1, width))
        return
    _add_elements(made, flat, np.broadcast_to(g, index.shape + g.shape[index.ndim :]), width)


def _add_elements(made: np.ndarray, index: np.ndarray, g: np.ndarray, width: int) -> None:
    """The same by one index for each element."""
    if width != 1:
        index = (index[:, None] * width + np.arange(width)).reshape(-1)
    np.add.at(made.reshape(-1), index, g.reshape(-1))


def _add_wide_rows(made: np.ndarray, index: np.ndarray, g: np.ndarray) -> None:
    """Where few places get more than one row, rows are copied, the last one for each place, and the others are added in further rounds."""
    last = np.empty(len(made), np.intp)
    rest = _beaten(index, last)
    if 4 * len(rest) > len(index):
        _sum_groups(made, index % len(made), g)
        return
    row = np.dtype((np.void, g.itemsize * g.shape[1]))  # a row as one item is copied faster
    made.view(row)[index, 0] = g.view(row)[:, 0]
    while len(rest) * g.shape[1] > _SOME:
        target = index[rest]
        beaten = _beaten(target, last)
        kept = np.ones(len(rest), bool)
        kept[beaten] = False
        made[target[kept]] += g[rest[kept]]
        rest = rest[beaten]
    _add_elements(made, index[rest], g[rest], g.shape[1])


def _beaten(index: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Positions in ``index`` whose number comes again later. ``last`` is room for one int for each number."""
    place = np.arange(len(index))
    last[index] = place
    return (last[index] != place).nonzero()[0]


def _sum_groups(made: np.ndarray, index: np.ndarray, g: np.ndarray) -> None:
    """``made[index] = `` the sums of the rows with the same index. Sorted by index, and then by how many there are, they are blocks of equally
    many rows for each of some places, and each block is summed at once."""
    order = _order(index, len(made))
    target = index[order]
    first = np.concatenate([[0], (target[1:] != target[:-1]).nonzero()[0] + 1])
    length = np.concatenate([first[1:], [len(index)]]) - first
    rows = g.take(order[_order(length.repeat(length), len(index) + 1)], 0)
    sums = np.empty((len(first), g.shape[1]), g.dtype)
    count = np.bincount(length)
    low = start = 0
    for n in count.nonzero()[0]:
        high, stop = low + count[n], start + n * count[n]
        np.add.reduce(rows[start:stop].reshape(-1, n, g.shape[1]), 1, out=sums[low:high])
        low, start = high, stop
    made[target[first[_order(length, len(index) + 1)]]] = sums


def _order(numbers: np.ndarray, bound: int) -> np.ndarray:
    """Stable order of numbers in [0, bound): 16 bits are sorted by their digits, three times as fast."""
    return np.argsort(numbers.astype(np.uint16) if bound <= 2**16 else numbers, kind="stable")


@kernel(_index_select, np.ndarray)
def index_select_numpy(input: np.ndarray, dim: int, index: np.ndarray, padding: int | None = None) -> np.ndarray:
    """The method costs a quarter of ``np.take``."""
    try:
        return input.take(index, dim)
    except IndexError as failure:
        raise index_error("index_select", input.shape, (slice(None),) * dim + (index,)) from failure


@kernel(_add_slices, np.ndarray)
def add_slices_numpy(
    input: np.ndarray, size: tuple[int, ...], dim: int, index: np.ndarray, padding: int | None = None
) -> np.ndarray:
    """Slices along the first axis are rows; another axis is brought to the front."""
    made = np.zeros(size, input.dtype)
    at: Any = (slice(None),) * dim + (index,)
    try:
        if input.size <= _FEW or (index.dtype.kind == "u" and index.dtype.itemsize == 8):
            np.add.at(made, at, input)
        elif dim == 0:
            add_rows(made, index, input, size[0])
        else:
            front = np.zeros((size[dim], *size[:dim], *size[dim + 1 :]), input.dtype)
            k = index.ndim
            order = (*range(dim, dim + k), *range(dim), *range(dim + k, input.ndim))
            add_rows(front, index, input.transpose(order), size[dim])
            made = np.moveaxis(front, 0, dim)
    except IndexError as failure:
        raise index_error("index_add", size, at) from failure
    if padding is not None:
        made[(slice(None),) * dim + (padding,)] = 0
    return made


@adder(_index_select, np.ndarray)
def add_to_slices(saved: tuple[Any, ...], g: np.ndarray, total: np.ndarray) -> None:
    """Rows are added where they belong: zeros for all the others would be written and read for nothing."""
    dim, index, padding = saved
    if dim or g.size <= _FEW or not total.flags.c_contiguous:
        total += add_slices_numpy(g, total.shape, dim, index, padding)
        return
    count = len(total)
    places, each = np.unique(index.reshape(-1).astype(np.intp) % count, return_inverse=True)
    rows = np.zeros((len(places), total.size // count), g.dtype)
    add_rows(rows, each.reshape(index.shape), g, len(places))
    if padding is not None:
        rows[places == padding % count] = 0
    total.reshape(count, -1)[places] += rows


@kernel(_scatter_zeros, np.ndarray)
def scatter_zeros_numpy(input: np.ndarray, size: tuple[int, ...], dim: int, index: np.ndarray) -> np.ndarray:
    """One flat index instead of one per axis."""
    made = np.zeros(size, input.dtype)
    grid = _grid(np, dim, index)
    try:
        if input.size <= _FEW:
            np.add.at(made, grid, input)
        else:
            np.add.at(made.reshape(-1), np.ravel_multi_index(grid, size).reshape(-1), input.reshape(-1))
    except (IndexError, ValueError) as failure:
        raise index_error("scatter_add", size, grid) from failure
    return made
