"""Faster NumPy texts of softmax along the last axis of contiguous floats.

A reduction along a short axis costs NumPy more than the exponentials themselves. So rows are added up by a product with a vector of
ones, and no maximum is subtracted where none is needed: if the largest element of all is moderate nothing overflows, and if every row's
sum is far above the smallest normal number nothing that matters has underflowed. Both are looked at; else the usual text runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.operator import kernel
from ..ops.reduce import present
from ..ops.softmax import _log_softmax, _softmax, log_softmax_backward, softmax_backward

_SHORT = 160
"""Rows up to this length: repeating a column costs less than broadcasting it, which runs one loop per row."""

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


def exponentials(x: np.ndarray, largest: float, smallest: float) -> tuple[Any, Any]:
    """``exp(x)`` and its row sums for a matrix, or None where a maximum has to be subtracted first. NaN and +inf fail the first
    comparison."""
    if x.item(x.argmax()) < largest:
        made = _exp(x)
        sums = made.dot(COLUMNS[x.dtype][x.shape[1]])
        if sums.item(sums.argmin()) > smallest:
            return made, sums
    return None, None


def _rows(x: np.ndarray, dim: int) -> Any:
    """``x`` as a matrix whose rows are reduced; None where the fast text does not apply."""
    ndim = x.ndim
    if (dim == -1 or dim == ndim - 1) and ndim and x.dtype in COLUMNS and x.size and x.flags.c_contiguous:
        return x if ndim == 2 else x.reshape(-1, x.shape[-1])
    return None


def _beside(column: np.ndarray, width: int) -> np.ndarray:
    """A column in the shape that combines fastest with a matrix of that width."""
    return column.repeat(width, 1) if width <= _SHORT else column


@kernel(_softmax, np.ndarray)
def softmax_numpy(input: np.ndarray, dim: int) -> np.ndarray:
    """Softmax."""
    rows = _rows(input, dim)
    if rows is not None:
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
    made = _exp(output)
    rows = _rows(gradient, dim)
    if rows is not None and gradient.ndim == 2:
        width = rows.shape[1]
        made *= _beside(rows.dot(COLUMNS[rows.dtype][width]), width)
    else:
        made *= _add(gradient, present(dim, gradient.ndim), None, None, True)
    return np.subtract(gradient, made, made if made.ndim else None)
