"""Diagonals and triangles of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend.devices import Device, get_default_device, move
from ..core.operator import Array, linear
from ..core.tensor import Tensor
from ..errors import error
from .methods import attach, attach_in_place
from .shape import _reshape, dimension

__all__ = ["diag", "diag_embed", "diagflat", "diagonal", "tril", "tril_indices", "triu", "triu_indices"]


def _diagonal_length(rows: int, columns: int, offset: int) -> int:
    return max(0, min(rows + min(offset, 0), columns - max(offset, 0)))


def _distinct_dims(pick: Any, ndim: int) -> tuple[int, int]:
    first = pick.integer(0, ndim - 1)
    second = (first + pick.integer(1, ndim - 1)) % ndim
    return first, second


def _diagonal_case(pick: Any) -> Any:
    shape = pick.shape(min_dims=2, max_dims=3)
    return (pick.array(shape), pick.integer(-3, 3), *_distinct_dims(pick, len(shape))), {}


def _embed_case(pick: Any) -> Any:
    (like, offset, dim1, dim2), _ = _diagonal_case(pick)
    rest = tuple([n for i, n in enumerate(like.shape) if i not in (dim1, dim2)])
    length = _diagonal_length(like.shape[dim1], like.shape[dim2], offset)
    return (pick.array((*rest, length)), like.shape, offset, dim1, dim2), {}


@linear(lambda g, shape, offset, dim1, dim2: _embed_diagonal(g, shape, offset, dim1, dim2), cases=_diagonal_case)
def _diagonal(xp: Any, input: Array, offset: int, dim1: int, dim2: int) -> Array:
    """Elements (i, i + offset) of the plane of ``dim1`` and ``dim2``, as the last axis."""
    return xp.diagonal(input, offset, dim1, dim2)


@linear(lambda g, offset, dim1, dim2: _diagonal(g, offset, dim1, dim2), cases=_embed_case)
def _embed_diagonal(xp: Any, input: Array, size: tuple[int, ...], offset: int, dim1: int, dim2: int) -> Array:
    """Zeros of shape ``size`` with the last axis of the input on a diagonal: the transpose of ``diagonal``."""
    rows, columns = size[dim1], size[dim2]
    rest = tuple([n for i, n in enumerate(size) if i not in (dim1, dim2)])
    flat = xp.zeros((*rest, rows * columns), dtype=input.dtype)
    length = _diagonal_length(rows, columns, offset)
    if length:
        start = offset if offset >= 0 else -offset * columns
        step = columns + 1  # from (i, j) to (i + 1, j + 1) in row-major order
        flat[..., start : start + (length - 1) * step + 1 : step] = input
    return xp.moveaxis(flat.reshape((*rest, rows, columns)), (-2, -1), (dim1, dim2))


def _plane(op: str, dim1: int, dim2: int, shape: tuple[int, ...], extra: int = 0) -> tuple[int, int]:
    axes = dimension(op, dim1, shape, extra), dimension(op, dim2, shape, extra)
    if axes[0] == axes[1]:
        raise error(
            "TG-A001",
            op=op,
            argument="dim2",
            value=dim2,
            rule=("dim1 and dim2 differ", "dim1 と dim2 が異なること"),
            fix=("name two axes.", "異なる 2 つの次元を指定してください。"),
        )
    return axes


def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """The diagonal of the plane of ``dim1`` and ``dim2`` as the last axis; ``offset`` > 0 is above the main diagonal.

    >>> import tinygrad_ja as tg
    >>> tg.diagonal(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([1., 4.])
    """
    return _diagonal(input, offset, *_plane("diagonal", dim1, dim2, input.shape))


def diag_embed(input: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """Matrices of zeros with the last axis of the input on their diagonals, which lie in the plane of ``dim1`` and ``dim2``.

    >>> import tinygrad_ja as tg
    >>> tg.diag_embed(tg.tensor([1.0, 2.0]))
    tensor([[1., 0.],
            [0., 2.]])
    """
    shape = tuple(input.shape)
    dim1, dim2 = _plane("diag_embed", dim1, dim2, shape, 1)
    side = shape[-1] + abs(offset)
    size = list(shape[:-1])
    for dim in sorted((dim1, dim2)):
        size.insert(dim, side)
    return _embed_diagonal(input, tuple(size), offset, dim1, dim2)


def diag(input: Any, diagonal: int = 0) -> Any:
    """The diagonal of a matrix, or the matrix of a vector's elements on a diagonal.

    >>> import tinygrad_ja as tg
    >>> tg.diag(tg.diag(tg.tensor([1.0, 2.0])))
    tensor([1., 2.])
    """
    if input.ndim == 1:
        return diag_embed(input, diagonal)
    if input.ndim == 2:
        return _diagonal(input, diagonal, 0, 1)
    fix = ("use diagonal or diag_embed for more axes.", "もっと次元の多いものには diagonal か diag_embed を使ってください。")
    raise error("TG-S002", op="diag", rule=("1 or 2 axes", "1 次元か 2 次元"), shapes=str(tuple(input.shape)), fix=fix)


def diagflat(input: Any, offset: int = 0) -> Any:
    """The matrix with all elements of the input on a diagonal."""
    return diag_embed(_reshape(input, (-1,)), offset)


# ---- triangles -----------------------------------------------------------------------------------


def _triangle_case(pick: Any) -> Any:
    return (pick.array(pick.shape(min_dims=2)), pick.integer(-3, 3)), {}


def _need_matrix(op: str, input: Any) -> None:
    if input.ndim < 2:
        fix = ("reshape it to a matrix first.", "先に行列に reshape してください。")
        raise error("TG-S002", op=op, rule=("at least 2 axes", "2 次元以上"), shapes=str(tuple(input.shape)), fix=fix)


@linear(lambda g, diagonal: tril(g, diagonal), cases=_triangle_case)
def tril(xp: Any, input: Array, diagonal: int = 0) -> Array:
    """The lower triangle of the last two axes, zero above the diagonal of that number; its own transpose.

    >>> import tinygrad_ja as tg
    >>> tg.tril(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[1., 0.],
            [3., 4.]])
    """
    _need_matrix("tril", input)
    return xp.tril(input, diagonal)


@linear(lambda g, diagonal: triu(g, diagonal), cases=_triangle_case)
def triu(xp: Any, input: Array, diagonal: int = 0) -> Array:
    """The upper triangle of the last two axes, zero below the diagonal of that number; its own transpose.

    >>> import tinygrad_ja as tg
    >>> tg.triu(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), 1)
    tensor([[0., 2.],
            [0., 0.]])
    """
    _need_matrix("triu", input)
    return xp.triu(input, diagonal)


def _indices(found: tuple[np.ndarray, ...], dtype: Any, device: Any) -> Tensor:
    place = get_default_device() if device is None else Device(device)
    return Tensor(move(np.stack(found).astype(np.int64 if dtype is None else dtype), place))


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Indices of the lower triangle of a (row, col) matrix: int64 of shape (2, count), in row-major order.

    >>> tril_indices(2, 2)
    tensor([[0, 1, 1],
            [0, 0, 1]])
    """
    return _indices(np.tril_indices(row, offset, col), dtype, device)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Indices of the upper triangle of a (row, col) matrix: int64 of shape (2, count), in row-major order.

    >>> triu_indices(2, 2)
    tensor([[0, 0, 1],
            [0, 1, 1]])
    """
    return _indices(np.triu_indices(row, offset, col), dtype, device)


attach(diagonal, diag_embed, diag, diagflat, tril, triu)
attach_in_place(tril, triu)
