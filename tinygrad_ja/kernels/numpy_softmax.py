"""Faster NumPy texts of softmax along the last axis of contiguous floats.

A reduction along a short axis costs NumPy more than the exponentials themselves. So rows are added up by a product with a vector of
ones, and no maximum is subtracted where none is needed: if the largest element of all is moderate nothing overflows, and if every row's
sum is far above the smallest normal number nothing that matters has underflowed. Both are looked at; else the usual text runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend.threads import WORTH, in_parts
from ..core.operator import kernel
from ..ops.reduce import present
from ..ops.softmax import _log_softmax, _softmax, log_softmax_backward, softmax_backward
from .machine_code import with_machine_code

_SHORT = 160
"""Rows up to this length: repeating a column costs less than broadcasting it, which runs one loop per row."""

LARGE = 2 * WORTH
"""From so many elements on, rows are computed in threads and in blocks of ``BLOCK`` elements."""
BLOCK = 1 << 19

_exp = np.exp
# typed loosely: the stubs do not know the positional form
_add: Any = np.add.reduce
_largest: Any = np.maximum.reduce


class _Ones(dict):
    """width -> a column of ones."""

    def __init__(self, dtype: Any) -> None:
        super().__init__()
        self.dtype = dtype

    def __missing__(self, width: int) -> np.ndarray:
        made = np.ones((width, 1), self.dtype)
        if width <= 4096:
            self[width] = made
        return made


COLUMNS: dict[Any, _Ones] = {np.dtype(code): _Ones(np.dtype(code)) for code in "fd"}
"""dtype -> width -> a column of ones; a product with it adds up rows."""


def exponentials(x: np.ndarray, largest: float, smallest: float, out: np.ndarray | None = None) -> tuple[Any, Any]:
    """``exp(x)`` and its row sums for a matrix, or None where a maximum has to be subtracted first. NaN and +inf fail the first
    comparison."""
    if x.item(x.argmax()) < largest:
        made = _exp(x, out)
        sums = made.dot(COLUMNS[x.dtype][x.shape[1]]) if x.size < LARGE else row_sums(made)
        if sums.item(sums.argmin()) > smallest:
            return made, sums
    return None, None


def row_sums(x: np.ndarray) -> np.ndarray:
    """A column of the sums of a matrix's rows. BLAS would use threads of its own for a large one, beside those that ask for it."""
    width = x.shape[1]
    if x.size < LARGE:
        return x.dot(COLUMNS[x.dtype][width])
    return np.vecdot(x, COLUMNS[x.dtype][width][:, 0])[:, None]


def in_blocks_of_rows(work: Any, rows: np.ndarray) -> None:
    """``work`` of parts of a matrix's rows, in threads."""
    in_parts(work, rows.shape[0], rows.size, max(1, BLOCK // rows.shape[1]))


def _rows(x: np.ndarray, dim: int) -> Any:
    """``x`` as a matrix whose rows are reduced; None where the fast text does not apply."""
    ndim = x.ndim
    if (dim == -1 or dim == ndim - 1) and ndim and x.dtype in COLUMNS and x.size and x.flags.c_contiguous:
        return x if ndim == 2 else x.reshape(-1, x.shape[-1])
    return None


def _beside(column: np.ndarray, width: int) -> np.ndarray:
    """A column in the shape that combines fastest with a matrix of that width."""
    return column.repeat(width, 1) if width <= _SHORT else column


def _in_threads(block: Any, shape: tuple[int, ...], *rows: np.ndarray) -> np.ndarray:
    """``block(*parts, out)`` for parts of the rows."""
    made = np.empty(shape, rows[0].dtype)
    into = made.reshape(rows[0].shape)
    in_blocks_of_rows(lambda part: block(*[x[part] for x in rows], into[part]), into)
    return made


def _softmax_block(x: np.ndarray, y: np.ndarray) -> None:
    found, sums = exponentials(x, 60.0, 1e-6, y)
    if found is None:
        np.subtract(x, _largest(x, 1, None, None, True), y)
        sums = row_sums(_exp(y, y))
    y *= _beside(1.0 / sums, y.shape[1])


def _softmax_backward_block(g: np.ndarray, y: np.ndarray, dx: np.ndarray) -> None:
    np.subtract(g, _beside(np.vecdot(g, y)[:, None], y.shape[1]), dx)
    dx *= y


def _log_softmax_block(x: np.ndarray, y: np.ndarray) -> None:
    found, sums = exponentials(x, 8.0, 1e-2, y)
    if found is None:
        x = x - _largest(x, 1, None, None, True)
        sums = row_sums(_exp(x, y))
    np.subtract(x, _beside(np.log(sums), y.shape[1]), y)


def _log_softmax_backward_block(g: np.ndarray, y: np.ndarray, dx: np.ndarray) -> None:
    _exp(y, dx)
    dx *= _beside(row_sums(g), y.shape[1])
    np.subtract(g, dx, dx)


@kernel(_softmax, np.ndarray)
def softmax_numpy(input: np.ndarray, dim: int) -> np.ndarray:
    """Softmax."""
    rows = _rows(input, dim)
    if rows is not None:
        if input.size >= LARGE:
            return _in_threads(_softmax_block, input.shape, rows)
        made, sums = exponentials(rows, 60.0, 1e-6)
        if made is not None:
            made /= _beside(sums, made.shape[1])
            return made if rows is input else made.reshape(input.shape)
    axis = present(dim, input.ndim)
    if not input.size:
        return input.copy()
    made = _exp(input - _largest(input, axis, None, None, True))
    made /= _add(made, axis, None, None, True)
    return made


@kernel(softmax_backward, np.ndarray)
def softmax_backward_numpy(gradient: np.ndarray, output: np.ndarray, dim: int) -> np.ndarray:
    """dx = g y - y sum(g y)."""
    if output.size >= LARGE and _rows(output, dim) is not None and _rows(gradient, dim) is not None:
        return _in_threads(_softmax_backward_block, output.shape, _rows(gradient, dim), _rows(output, dim))
    made = gradient * output
    rows = _rows(made, dim)
    if rows is None:
        made -= output * _add(made, present(dim, made.ndim), None, None, True)
        return made
    width = rows.shape[1]
    sums = rows.dot(COLUMNS[made.dtype][width])
    if width > _SHORT:
        made -= output * sums.reshape(made.shape[:-1] + (1,))
        return made
    part = sums.repeat(width, 1)
    if rows is not made:
        part = part.reshape(made.shape)
    part *= output
    made -= part
    return made


@kernel(_log_softmax, np.ndarray)
def log_softmax_numpy(input: np.ndarray, dim: int) -> np.ndarray:
    """Logarithm of softmax. The bounds are narrow: what is subtracted should not be large against the result."""
    rows = _rows(input, dim)
    if rows is not None:
        if input.size >= LARGE:
            return _in_threads(_log_softmax_block, input.shape, rows)
        made, sums = exponentials(rows, 8.0, 1e-2)
        if made is not None:
            np.log(sums, sums)
            np.subtract(rows, _beside(sums, made.shape[1]), made)
            return made if rows is input else made.reshape(input.shape)
    axis = present(dim, input.ndim)
    if not input.size:
        return input.copy()
    made = input - _largest(input, axis, None, None, True)
    made -= np.log(_add(_exp(made), axis, None, None, True))
    return made


@kernel(log_softmax_backward, np.ndarray)
def log_softmax_backward_numpy(gradient: np.ndarray, output: np.ndarray, dim: int) -> np.ndarray:
    """dx = g - exp(y) sum(g)."""
    if output.size >= LARGE and _rows(output, dim) is not None and _rows(gradient, dim) is not None:
        return _in_threads(_log_softmax_backward_block, output.shape, _rows(gradient, dim), _rows(output, dim))
    made = _exp(output)
    rows = _rows(gradient, dim)
    if rows is not None and gradient.ndim == 2:
        width = rows.shape[1]
        made *= _beside(rows.dot(COLUMNS[rows.dtype][width]), width)
    else:
        made *= _add(gradient, present(dim, gradient.ndim), None, None, True)
    return np.subtract(gradient, made, made if made.ndim else None)


with_machine_code(_softmax, softmax_backward, _log_softmax, log_softmax_backward)
