"""Largest and smallest elements, their positions, and order. Ties and NaN are treated as PyTorch does."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..core.operator import Array, Constant, Point, linear, primitive
from ..errors import error
from .comparison import eq
from .conversion import _cast
from .methods import attach
from .piecewise import maximum, minimum
from .reduce import aligned, axes_of, backwards, kept_shape, present, reduction_case, sum
from .selection import gather
from .shape import _reshape, dimension

__all__ = [
    "amax",
    "amin",
    "aminmax",
    "argmax",
    "argmin",
    "argsort",
    "max",
    "min",
    "sort",
    "topk",
]


class Extremum(NamedTuple):
    """What ``max``, ``min``, ``sort`` and ``topk`` along an axis return: the values and where they were found."""

    values: Any
    indices: Any


class Extrema(NamedTuple):
    """What ``aminmax`` returns."""

    min: Any
    max: Any


def tied_vjp(g: Any, y: Any, input: Any, shape: tuple[int, ...], dim: Any, keepdim: bool) -> Any:
    """Every element that equals the extremum gets an equal share."""
    tied = _cast(eq(input, aligned(y, shape, dim, keepdim)), input.dtype)
    share = aligned(g, shape, dim, keepdim) / sum(tied, dim, True)
    return share * tied


@primitive(
    tied_vjp,
    cases=reduction_case,
    points=[Point(([1.0, 2.0, 2.0],), ([0.0, 0.5, 0.5],)), Point(([[3.0, 3.0], [0.0, 1.0]], 1), ([[0.5, 0.5], [0.0, 1.0]],))],
)
def _amax(xp: Any, input: Array, dim: Any = None, keepdim: bool = False) -> Array:
    """Largest element over axes."""
    return xp.max(input, present(dim, input.ndim), None, keepdim)


@primitive(
    tied_vjp,
    cases=reduction_case,
    points=[Point(([1.0, 1.0, 2.0],), ([0.5, 0.5, 0.0],)), Point(([[3.0, 3.0], [0.0, 1.0]], 1), ([[0.5, 0.5], [1.0, 0.0]],))],
)
def _amin(xp: Any, input: Array, dim: Any = None, keepdim: bool = False) -> Array:
    """Smallest element over axes."""
    return xp.min(input, present(dim, input.ndim), None, keepdim)


def amax(input: Any, dim: Any = (), keepdim: bool = False) -> Any:
    """Largest element over ``dim`` (int or tuple; () for all axes). NaN wins. Ties share the gradient equally."""
    return _amax(input, axes_of(dim), keepdim)


def amin(input: Any, dim: Any = (), keepdim: bool = False) -> Any:
    """Smallest element over ``dim`` (int or tuple; () for all axes). NaN wins. Ties share the gradient equally."""
    return _amin(input, axes_of(dim), keepdim)


def aminmax(input: Any, *, dim: int | None = None, keepdim: bool = False) -> Extrema:
    """``(min, max)`` over ``dim``, or over all axes."""
    return Extrema(_amin(input, dim, keepdim), _amax(input, dim, keepdim))


def _placed_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    shape = pick.shape(min_dims=1, min_side=1)
    dim = pick.axis(len(shape))
    size = shape[dim] + pick.integer(0, 2)
    order = np.argsort(pick.distinct(shape[:dim] + (size,) + shape[dim:][1:]), dim)
    return (pick.array(shape), np.asarray(order.take(np.arange(shape[dim]), dim)), dim, size), {}


@linear(lambda g, index, dim: gather(g, dim, index), cases=_placed_case)
def place(xp: Any, input: Array, index: Constant, dim: int, size: int) -> Array:
    """Zeros of ``size`` along ``dim`` with ``input`` at the positions ``index``, which differ from each other along ``dim``.

    The transpose of picking elements by distinct positions, as max, sort and topk do.
    """
    shape = list(input.shape)
    shape[dim] = size
    out = xp.zeros(tuple(shape), dtype=input.dtype)
    xp.put_along_axis(out, index, input, dim)
    return out


def _picked_vjp(g: Any, shape: tuple[int, ...], indices: Any, dim: int) -> Any:
    values = g[0]
    return place(_reshape(values, kept_shape(shape, dim)), indices, dim, shape[dim]) if shape else values


def _pick_along(xp: Any, input: Any, find: Any, dim: int, keepdim: bool) -> Any:
    if not input.ndim:
        if dim not in (0, -1):
            raise error("TG-I001", op="max", dim=dim, shape=(), ndim=1)
        return (input.copy(), xp.zeros((), dtype=np.int64)), None
    indices = xp.expand_dims(find(input, dim), dim)
    values = xp.take_along_axis(input, indices, dim)
    if keepdim:
        return (values, indices), indices
    return (values.squeeze(dim), indices.squeeze(dim)), indices


def _along_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    shape = pick.shape(min_side=1)
    return (pick.distinct(shape), pick.axis(len(shape)), pick.boolean()), {}


@primitive(_picked_vjp, outputs=2, aux=("indices",), cases=_along_case)
def _max_along(xp: Any, input: Array, dim: int, keepdim: bool = False) -> Any:
    """Largest elements along an axis and their positions; only the position found gets the gradient."""
    return _pick_along(xp, input, xp.argmax, dim, keepdim)


@primitive(_picked_vjp, outputs=2, aux=("indices",), cases=_along_case)
def _min_along(xp: Any, input: Array, dim: int, keepdim: bool = False) -> Any:
    """Smallest elements along an axis and their positions."""
    return _pick_along(xp, input, xp.argmin, dim, keepdim)


def max(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """``max(x)``: the largest element; ties share the gradient. ``max(x, dim)``: ``(values, indices)`` along an axis; the element at
    the index gets the gradient. ``max(x, other)``: element-wise, see ``maximum``.

    >>> import tinygrad_ja as tg
    >>> tg.max(tg.tensor([[1.0, 5.0], [4.0, 2.0]]), 1).indices
    tensor([1, 0])
    """
    if hasattr(dim, "dtype") or other is not None:
        return maximum(input, dim if other is None else other)
    if dim is None:
        return _amax(input)
    return Extremum(*_max_along(input, dim, keepdim))


def min(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """``min(x)``, ``min(x, dim)`` or ``min(x, other)``; see ``max``."""
    if hasattr(dim, "dtype") or other is not None:
        return minimum(input, dim if other is None else other)
    if dim is None:
        return _amin(input)
    return Extremum(*_min_along(input, dim, keepdim))


@primitive(cases=_along_case)
def argmax(xp: Any, input: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    """Position of the largest element along ``dim``, or in the flattened tensor; int64, the first one of ties, NaN counts as largest.

    >>> import tinygrad_ja as tg
    >>> tg.argmax(tg.tensor([[1.0, 5.0], [4.0, 2.0]]), dim=1)
    tensor([1, 0])
    """
    return xp.argmax(input, axis=present(dim, input.ndim), keepdims=keepdim)


@primitive(cases=_along_case)
def argmin(xp: Any, input: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    """Position of the smallest element along ``dim``, or in the flattened tensor; int64, the first one of ties."""
    return xp.argmin(input, axis=present(dim, input.ndim), keepdims=keepdim)


# ---- order ---------------------------------------------------------------------------------------


def _sort_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    shape = pick.shape()
    return (pick.distinct(shape), pick.axis(len(shape)), pick.boolean()), {}


def _order(xp: Any, input: Any, dim: int, descending: bool) -> Any:
    """Positions of the elements in order along an axis; equal ones stay in theirs, NaN counts as largest."""
    if not descending:
        return xp.argsort(input, dim, "stable")
    back = backwards(input.ndim, dim)
    return input.shape[dim] - 1 - xp.argsort(input[back], dim, "stable")[back]


def _sorted_vjp(g: Any, shape: tuple[int, ...], indices: Any, dim: int) -> Any:
    return place(g[0], indices, dim, shape[dim]) if shape else g[0]


@primitive(_sorted_vjp, outputs=2, aux=("indices",), cases=_sort_case)
def _sort(xp: Any, input: Array, dim: int = -1, descending: bool = False) -> Any:
    """Values in order and the positions they came from; the transpose puts the gradient back there."""
    if not input.ndim:
        return (input.copy(), xp.zeros((), dtype=np.int64)), None
    indices = _order(xp, input, dim, descending)
    return (xp.take_along_axis(input, indices, dim), indices), indices


def sort(input: Any, dim: int = -1, descending: bool = False, stable: bool = True) -> Extremum:
    """``(values, indices)``: the elements along ``dim`` in order, and where they were. Always stable; NaN counts as largest.

    >>> import tinygrad_ja as tg
    >>> tg.sort(tg.tensor([3.0, 1.0, 2.0])).indices
    tensor([1, 2, 0])
    """
    return Extremum(*_sort(input, dimension("sort", dim, input.shape), descending))


def argsort(input: Any, dim: int = -1, descending: bool = False, stable: bool = True) -> Any:
    """Positions that put the elements along ``dim`` in order."""
    return _sort(input, dimension("argsort", dim, input.shape), descending)[1]


def _topk_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    shape = pick.shape(min_dims=1, min_side=1)
    dim = pick.axis(len(shape))
    return (pick.distinct(shape), pick.integer(1, shape[dim]), dim, pick.boolean()), {}


@primitive(lambda g, shape, indices, dim: place(g[0], indices, dim, shape[dim]), outputs=2, aux=("indices",), cases=_topk_case)
def _topk(xp: Any, input: Array, k: int, dim: int = -1, largest: bool = True) -> Any:
    """The first k of ``sort``."""
    front = tuple([slice(0, k) if axis == dim % input.ndim else slice(None) for axis in range(input.ndim)])
    indices = _order(xp, input, dim, largest)[front]
    return (xp.take_along_axis(input, indices, dim), indices), indices


def topk(input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Extremum:
    """``(values, indices)`` of the ``k`` largest (or smallest) elements along ``dim``, in order.

    >>> import tinygrad_ja as tg
    >>> tg.topk(tg.tensor([3.0, 1.0, 2.0]), 2).values
    tensor([3., 2.])
    """
    size = input.shape[dim] if input.ndim else 1
    if not 0 <= k <= size:
        rule = (f"at most the size {size} of the axis", f"軸の大きさ {size} 以下")
        raise error("TG-A001", op="topk", argument="k", value=k, rule=rule, fix=(f"k={size}.", f"k={size} としてください。"))
    if not input.ndim:
        return Extremum(*_sort(input, dim))
    return Extremum(*_topk(input, k, dim, largest))


attach(amax, amin, aminmax, argmax, argmin, argsort, max, min, sort, topk)
