"""Norms of vectors and matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.operator import Array, Point, primitive
from ..core.promotion import autocasts
from ..errors import error
from .comparison import _where, eq
from .conversion import cast
from .decomposition import svdvals
from .extremum import amax, amin, tied_vjp
from .methods import attach, attach_in_place
from .piecewise import abs, clamp_min, sign
from .reduce import _sum, aligned, axes_of, count, floating, present, reduction_case, sum
from .shape import _dims, _reshape, dimension, movedim

__all__ = ["dist", "norm", "renorm"]


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
    """(sum |x|^ord)^(1/ord), the largest or smallest |x| for ±inf, the number of non-zeros for 0. Half precision adds up in float32."""
    if input.dtype.itemsize == 2:
        return _norm(input.astype(np.float32), ord, dim, keepdim).astype(input.dtype)
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


def _check_not_empty(op: str, input: Any, ord: float, dim: Any) -> None:
    """Nothing has no largest and no smallest element."""
    if (ord < 0 or ord == math.inf) and 0 in input.shape and not count(tuple(input.shape), dim):
        fix = ("use another order.", "別の次数を使ってください。")
        rule = (f"at least one element for ord={ord}", f"ord={ord} では要素が 1 つ以上")
        raise error("TG-S002", op=op, rule=rule, shapes=str(tuple(input.shape)), fix=fix)


def norm(input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    """p-norm of the elements over ``dim`` (``torch.norm``): p a number, ±inf, 0, or "fro" (2); or "nuc", the sum of the singular values
    of a matrix. For other matrix norms see ``linalg.matrix_norm``.

    dy/dx = sign(x) (|x| / y)^(p-1), and 0 where y = 0.

    >>> import tinygrad_ja as tg
    >>> tg.norm(tg.tensor([3.0, 4.0]))
    tensor(5.)
    """
    if p == "nuc":
        return matrix_norm(input, p, tuple(range(input.ndim)) if dim is None else dim, keepdim, dtype=dtype)
    if isinstance(p, str) and p != "fro":
        rule = ("a number, inf, -inf, 'fro' or 'nuc'", "数、inf、-inf、'fro'、'nuc' のどれか")
        fix = ("p=2.", "p=2 などとしてください。")
        raise error("TG-A001", op="norm", argument="p", value=repr(p), rule=rule, fix=fix)
    if dtype is not None:
        input = _in_dtype("norm", input, dtype)
    ord, dims = 2.0 if p is None or p == "fro" else float(p), axes_of(dim)
    _check_not_empty("norm", input, ord, dims)
    return _norm(floating(input), ord, dims, keepdim)


def _in_dtype(op: str, input: Any, dtype: Any) -> Any:
    """Converted; a dtype narrower than the input's is refused."""
    target = np.dtype(dtype)
    if target.kind != "f" or (input.dtype.kind == "f" and target.itemsize < input.dtype.itemsize):
        allowed = (f"a floating dtype not narrower than {input.dtype}", f"{input.dtype} より狭くない浮動小数点の dtype")
        raise error("TG-T004", op=op, dtype=target, allowed=allowed, fix=f"tg.{input.dtype}")
    return cast(input, target)


@autocasts("float32")
def dist(input: Any, other: Any, p: float = 2) -> Any:
    """p-norm of the difference of two tensors that broadcast.

    >>> import tinygrad_ja as tg
    >>> tg.dist(tg.tensor([1.0, 5.0]), tg.tensor([4.0, 1.0]))
    tensor(5.)
    """
    return norm(input - other, p)


def normalize(input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12) -> Any:
    """x / max(|x|_p, eps) along ``dim`` (``torch.nn.functional.normalize``).

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.normalize(tg.tensor([[3.0, 4.0]]))
    tensor([[0.6, 0.8]])
    """
    return input / clamp_min(norm(input, p, dim, True), eps)


@autocasts("float32")
def renorm(input: Any, p: float, dim: int, maxnorm: float) -> Any:
    """The slices along ``dim`` whose p-norm is above ``maxnorm``, scaled down to it; the others as they are.

    >>> import tinygrad_ja as tg
    >>> tg.renorm(tg.tensor([[3.0, 4.0], [0.3, 0.4]]), 2, 0, 1.0)
    tensor([[0.6, 0.8],
            [0.3, 0.4]])
    """
    if input.ndim < 2:
        fix = ("add an axis.", "次元を加えてください。")
        raise error("TG-S002", op="renorm", rule=("at least 2 axes", "2 次元以上"), shapes=str(tuple(input.shape)), fix=fix)
    for name, value, fits in (("p", p, p > 0), ("maxnorm", maxnorm, maxnorm >= 0)):
        if not fits:
            rule = ("p > 0, maxnorm >= 0", "p > 0、maxnorm >= 0")
            fix = ("p=2.", "p=2 などとしてください。")
            raise error("TG-A001", op="renorm", argument=name, value=value, rule=rule, fix=fix)
    axis = dimension("renorm", dim, input.shape)
    size = norm(input, p, tuple([i for i in range(input.ndim) if i != axis]), True)
    # PyTorch's 1e-7: the result is a little below maxnorm, so that it stays as it is when renormed again
    return input * _where(size > maxnorm, maxnorm / (size + 1e-7), 1.0)


# ---- under the names of torch.linalg ---------------------------------------------------------------


def vector_norm(x: Any, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Norm of the elements over ``dim``, as ``torch.linalg.vector_norm``: (sum |x|^ord)^(1/ord), ±inf and 0 included."""
    if isinstance(ord, str):
        rule, fix = (
            ("a number", "数"),
            ("use matrix_norm for 'fro' and 'nuc'.", "'fro' と 'nuc' は matrix_norm を使ってください。"),
        )
        raise error("TG-A001", op="linalg.vector_norm", argument="ord", value=repr(ord), rule=rule, fix=fix)
    return norm(x, float(ord), dim, keepdim, dtype)


_MATRIX_ORDERS = ("fro", "nuc", math.inf, -math.inf, 1, -1, 2, -2)


@autocasts("float32")
def matrix_norm(A: Any, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Norm of matrices, as ``torch.linalg.matrix_norm``: "fro"; "nuc", 2 and -2, the sum, the largest and the smallest of the singular
    values; 1, -1, inf and -inf, the largest or smallest column or row sum.

    The gradient of the singular values is U Vᵀ, so those that coincide share it.

    >>> import tinygrad_ja as tg
    >>> tg.linalg.matrix_norm(tg.tensor([[3.0, 0.0], [0.0, -4.0]]), 2)
    tensor(4.)
    """
    A = floating(A) if dtype is None else _in_dtype("linalg.matrix_norm", A, dtype)
    dims = tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    if A.ndim < 2 or len(dims) != 2:
        fix = ("pass dim=, the two axes.", "dim= に 2 つの次元を渡してください。")
        rule = ("a matrix, two axes in dim", "行列、dim には 2 つの次元")
        raise error("TG-S002", op="linalg.matrix_norm", rule=rule, shapes=f"{tuple(A.shape)}, dim={dim}", fix=fix)
    rows, columns = _dims("linalg.matrix_norm", dims, A.shape)
    if ord not in _MATRIX_ORDERS:
        rule = ("'fro', 'nuc', inf, -inf, 1, -1, 2 or -2", "'fro'、'nuc'、inf、-inf、1、-1、2、-2 のどれか")
        fix = ("ord='fro'.", "ord='fro' などとしてください。")
        raise error("TG-A001", op="linalg.matrix_norm", argument="ord", value=repr(ord), rule=rule, fix=fix)
    if ord == "fro":
        return norm(A, 2, (rows, columns), keepdim)
    if ord in ("nuc", 2, -2):
        values = svdvals(movedim(A, (rows, columns), (-2, -1)))
        made = sum(values, -1) if ord == "nuc" else _extreme(values, -1, ord)
    else:
        summed, chosen = (rows, columns) if ord in (1, -1) else (columns, rows)
        made = _extreme(sum(abs(A), summed, True), chosen, ord)
    kept = [1 if axis in (rows, columns) else n for axis, n in enumerate(A.shape)]
    return _reshape(made, tuple(kept if keepdim else [n for axis, n in enumerate(kept) if axis not in (rows, columns)]))


def _extreme(values: Any, dim: int, ord: float) -> Any:
    """The largest value for a positive order, 0 where there is none; the smallest for a negative one."""
    if not values.shape[dim]:
        _check_not_empty("linalg.matrix_norm", values, min(ord, 0), dim)
        return sum(values, dim)
    return (amax if ord > 0 else amin)(values, dim)


def linalg_norm(A: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Vector or matrix norm, as ``torch.linalg.norm``: without ``ord`` the 2-norm of all elements over ``dim``; with it a matrix norm for
    two dims (or a matrix and no ``dim``), a vector norm for one (or a vector and no ``dim``)."""
    dims = axes_of(dim)
    if ord is None:
        return vector_norm(A, 2, dims, keepdim, dtype=dtype)
    if dims is None and A.ndim not in (1, 2):
        fix = ("pass dim=, one axis or two.", "dim= に 1 つか 2 つの次元を渡してください。")
        rule = ("a vector or a matrix, or dim", "ベクトルか行列、または dim の指定")
        raise error("TG-S002", op="linalg.norm", rule=rule, shapes=str(tuple(A.shape)), fix=fix)
    if isinstance(ord, str) or (dims is None and A.ndim == 2) or (type(dims) is tuple and len(dims) == 2):
        return matrix_norm(A, ord, (-2, -1) if dims is None else dims, keepdim, dtype=dtype)
    return vector_norm(A, ord, dims, keepdim, dtype=dtype)


attach(norm, dist, renorm)
attach_in_place(renorm)
