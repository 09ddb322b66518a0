"""Norms of vectors and matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.operator import Array, Point, primitive
from ..errors import error
from .comparison import _where, eq
from .conversion import cast
from .extremum import amax, amin, tied_vjp
from .methods import attach
from .piecewise import abs, sign
from .reduce import _sum, aligned, axes_of, floating, present, reduction_case, sum
from .shape import _reshape

__all__ = ["norm"]


def _norm_vjp(g: Any, y: Any, input: Any, shape: tuple[int, ...], ord: float, dim: Any, keepdim: bool) -> Any:
    if ord == 0:
        return input * 0
    if ord == 1:
        return aligned(g, shape, dim, keepdim) * sign(input)
    if abs_is_extreme(ord):
        return tied_vjp(g, y, abs(input), shape, dim, keepdim) * sign(input)
    # 0 where the norm is 0, and where the element is: a convention, as PyTorch's
    null = eq(y, 0)
    scale = _where(null, 0.0, g * _where(null, 1.0, y) ** (1 - ord))
    scale = aligned(scale, shape, dim, keepdim)
    if ord == 2:
        return input * scale
    zero = eq(input, 0)
    size = _where(zero, 1.0, abs(input))
    return sign(input) * size ** (ord - 1) * scale


def abs_is_extreme(ord: float) -> bool:
    """True for the norms that are the largest or the smallest absolute value."""
    return ord in (math.inf, -math.inf)


_ORDERS = (2.0, 2.0, 3.0, 3.0, 0.5, -1.0, 1.0, math.inf, -math.inf, 0.0)


def _norm_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    (x, dim, keepdim), _ = reduction_case(pick)
    values = np.asarray(np.sign(x) * (0.3 + np.abs(x)))
    return (values, pick.choice(_ORDERS), dim, keepdim), {}


_NORM_POINTS = [
    Point(([0.0, 0.0],), (0.0,)),
    Point(([0.0, 0.0], 3.0), (0.0,)),
    Point(([0.0, 4.0], 3.0), ([0.0, 1.0],)),
    Point(([0.0, 0.0], 0.5), (0.0,)),
    Point(([0.0, -4.0], 0.5), ([0.0, -1.0],)),
    Point(([0.0, 2.0], -1.0), (0.0,)),
    Point(([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]], 2.0, 1), ([[0.6, 0.8], [0.0, 0.0], [0.0, -1.0]],)),
    Point(([[2.0, -2.0, 1.0], [3.0, 4.0, -5.0]], math.inf, 1), ([[0.5, -0.5, 0.0], [0.0, 0.0, -1.0]],)),
    Point(([[2.0, -2.0, 4.0], [3.0, 4.0, -2.0]], -math.inf, 1), ([[0.5, -0.5, 0.0], [0.0, 0.0, -1.0]],)),
    Point(([[0.0, -2.0, 1.0], [4.0, 0.0, 0.0]], 1.0, 1), ([[0.0, -1.0, 1.0], [1.0, 0.0, 0.0]],)),
]


@primitive(_norm_vjp, cases=_norm_case, points=_NORM_POINTS)
def _norm(xp: Any, input: Array, ord: float = 2.0, dim: Any = None, keepdim: bool = False) -> Array:
    """(sum |x|^ord)^(1/ord), the largest or smallest |x| for ±inf, the number of non-zeros for 0."""
    axis = present(dim, input.ndim)
    if ord == 2:
        return xp.sqrt(_sum(input * input, dim, keepdim))
    if ord == 0:
        return xp.sum(input != 0, axis, input.dtype, None, keepdim)
    size = xp.abs(input)
    if ord == 1:
        return _sum(size, dim, keepdim)
    if abs_is_extreme(ord):
        return (xp.max if ord > 0 else xp.min)(size, axis, None, keepdim)
    return _sum(size**ord, dim, keepdim) ** (1.0 / ord)


def norm(input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    """p-norm of the elements over ``dim`` (``torch.norm``): p a number, ±inf, 0, or "fro" (2). For matrix norms see ``linalg.norm``.

    dy/dx = sign(x) (|x| / y)^(p-1), and 0 where y = 0.

    >>> import tinygrad_ja as tg
    >>> tg.norm(tg.tensor([3.0, 4.0]))
    tensor(5.)
    """
    if isinstance(p, str) and p != "fro":
        raise error(
            "TG-A001",
            op="norm",
            argument="p",
            value=repr(p),
            rule=("a number, inf, -inf or 'fro'", "数、inf、-inf、'fro' のどれか"),
            fix=("p=2.", "p=2 などとしてください。"),
        )
    if dtype is not None:
        input = cast(input, np.dtype(dtype))
    return _norm(floating(input), 2.0 if p is None or p == "fro" else float(p), axes_of(dim), keepdim)


def vector_norm(x: Any, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Norm of the elements over ``dim``, as ``torch.linalg.vector_norm``: (sum |x|^ord)^(1/ord), ±inf and 0 included."""
    return norm(x, ord, dim, keepdim, dtype)


def matrix_norm(A: Any, ord: Any = "fro", dim: tuple[int, int] = (-2, -1), keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Norm of matrices, as ``torch.linalg.matrix_norm``: "fro", or 1, -1, inf, -inf (largest or smallest column or row sum)."""
    if dtype is not None:
        A = cast(A, np.dtype(dtype))
    if ord == "fro":
        return norm(A, 2, tuple(dim), keepdim)
    if ord not in (1, -1, math.inf, -math.inf):
        rule = ("'fro', 1, -1, inf or -inf", "'fro'、1、-1、inf、-inf のどれか")
        raise error(
            "TG-A001",
            op="linalg.matrix_norm",
            argument="ord",
            value=repr(ord),
            rule=rule,
            fix=("ord='fro'.", "ord='fro' などとしてください。"),
        )
    rows, columns = [axis % A.ndim for axis in dim]
    summed, chosen = (rows, columns) if ord in (1, -1) else (columns, rows)
    sums = sum(abs(A), summed, True)
    made = (amax if ord > 0 else amin)(sums, chosen, True)
    if keepdim:
        return made
    return _reshape(made, tuple([n for axis, n in enumerate(A.shape) if axis not in (rows, columns)]))


def linalg_norm(A: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Vector or matrix norm, as ``torch.linalg.norm``: without ``ord`` the 2-norm of all elements over ``dim``; with ``ord`` and two
    dims (or a matrix and no ``dim``) a matrix norm."""
    dims = axes_of(dim)
    matrix = (type(dims) is tuple and len(dims) == 2) or (dims is None and A.ndim == 2)
    if ord is None or (not matrix and ord != "fro"):
        return vector_norm(A, 2 if ord is None else ord, dim, keepdim, dtype=dtype)
    if not matrix:
        raise error(
            "TG-S002",
            op="linalg.norm",
            rule="(m,n)->()",
            shapes=str(tuple(A.shape)),
            fix=("pass dim=, the two axes.", "dim= に 2 つの次元を渡してください。"),
        )
    return matrix_norm(A, ord, (-2, -1) if dims is None else dims, keepdim, dtype=dtype)


attach(norm)
