"""Reductions: many elements of an axis become one. Names and dtypes are PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend.devices import get_default_dtype
from ..core.operator import Array, Point, fused, linear, primitive
from .comparison import _where, eq
from .conversion import cast
from .exponential import exp
from .methods import attach
from .shape import _expand, _reshape, movedim

__all__ = [
    "all",
    "any",
    "count_nonzero",
    "logsumexp",
    "mean",
    "prod",
    "std",
    "std_mean",
    "sum",
    "var",
    "var_mean",
]


# ---- axes ----------------------------------------------------------------------------------------


def axes_of(dim: Any) -> Any:
    """``dim`` as an operator stores it: an int, a tuple, or None for all axes (PyTorch's empty list means all too)."""
    if dim is None or type(dim) is int:
        return dim
    return (tuple(dim) or None) if isinstance(dim, (tuple, list)) else int(dim)


def present(dim: Any, ndim: int) -> Any:
    """A 0-d array may be reduced over dim 0 or -1, as in PyTorch; the array modules want no axis then."""
    return None if not ndim and dim in (0, -1, (0,), (-1,)) else dim


def kept_shape(shape: tuple[int, ...], dim: Any) -> tuple[int, ...]:
    """The shape with size 1 at the reduced axes."""
    ndim = len(shape)
    if dim is None or not ndim:
        return (1,) * ndim
    sizes = list(shape)
    for axis in dim if type(dim) is tuple else (dim,):
        sizes[axis] = 1
    return tuple(sizes)


def aligned(g: Any, shape: tuple[int, ...], dim: Any, keepdim: bool) -> Any:
    """A reduced value with its lost axes back as axes of size 1, so that it broadcasts against what was reduced."""
    return g if keepdim or dim is None else _reshape(g, kept_shape(shape, dim))


def count(shape: tuple[int, ...], dim: Any) -> int:
    """How many elements are reduced into one."""
    if dim is None or not shape:
        return math.prod(shape)
    return math.prod([shape[axis] for axis in (dim if type(dim) is tuple else (dim,))])


def floating(input: Any) -> Any:
    """Integers as the default float dtype; floats as they are."""
    return input if input.dtype.kind == "f" else cast(input, get_default_dtype())


def reduction_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    shape = pick.shape(min_side=1)
    dim = pick.choice([None, pick.axis(len(shape)), pick.axes(len(shape)) or None])
    return (pick.distinct(shape), dim, pick.boolean()), {}


# ---- sums ----------------------------------------------------------------------------------------


def _total_dtype(dtype: Any) -> Any:
    """The dtype of a sum: integers and bools add up in int64, floats in their own."""
    return None if dtype.kind == "f" else np.int64


def _in_single(compute: Any, input: Any) -> Any:
    """``compute`` of float16 numbers in float32, since their own range and digits are soon used up; of others as they are."""
    return compute(input.astype(np.float32)).astype(np.float16) if input.dtype == np.float16 else compute(input)


@linear(lambda g, shape, dim, keepdim: _expand(aligned(g, shape, dim, keepdim), shape), cases=reduction_case)
def _sum(xp: Any, input: Array, dim: Any = None, keepdim: bool = False) -> Array:
    """Sum over axes; the transpose copies g to every element."""
    axis, dtype = present(dim, input.ndim), _total_dtype(input.dtype)
    return _in_single(lambda x: xp.sum(x, axis, dtype, None, keepdim), input)


def sum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Sum over ``dim`` (int, tuple, or None for all axes). Integers and bools give int64.

    dy/dx = 1 at every summed element.

    >>> import tinygrad_ja as tg
    >>> tg.sum(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), dim=0)
    tensor([4., 6.])
    """
    if dtype is not None:
        input = cast(input, np.dtype(dtype))
    return _sum(input, dim if dim is None or type(dim) is int else axes_of(dim), keepdim)


def _mean_vjp(g: Any, shape: tuple[int, ...], dim: Any, keepdim: bool) -> Any:
    return _expand(aligned(g / max(count(shape, dim), 1), shape, dim, keepdim), shape)


@linear(_mean_vjp, cases=reduction_case)
def _mean(xp: Any, input: Array, dim: Any = None, keepdim: bool = False) -> Array:
    """Sum over axes divided by the number of elements; NaN for none."""
    axis, n = present(dim, input.ndim), count(input.shape, dim) or math.nan
    return _in_single(lambda x: xp.sum(x, axis, _total_dtype(x.dtype), None, keepdim) / n, input)


def mean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Mean over ``dim`` (int, tuple, or None for all axes). Integers give the default float dtype; an empty mean is NaN.

    dy/dx = 1/n at each of the n elements.

    >>> import tinygrad_ja as tg
    >>> tg.mean(tg.tensor([1, 2, 3, 6]))
    tensor(3.)
    """
    if dtype is not None:
        input = cast(input, np.dtype(dtype))
    elif input.dtype.kind != "f":
        input = floating(input)
    return _mean(input, dim if dim is None or type(dim) is int else axes_of(dim), keepdim)


# ---- variance ------------------------------------------------------------------------------------


def _spread_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    shape = pick.shape(min_dims=1, min_side=2)
    dim = pick.choice([None, pick.axis(len(shape)), pick.axes(len(shape))])
    return (pick.distinct(shape), dim, pick.integer(0, 1), pick.boolean()), {}


def _weight(shape: tuple[int, ...], dim: Any, correction: float) -> float:
    """1 / (n - correction), or NaN where no degree of freedom is left."""
    freedom = count(shape, dim) - correction
    return 1.0 / freedom if freedom > 0 else math.nan


def _var_vjp(g: Any, input: Any, shape: tuple[int, ...], dim: Any, correction: float, keepdim: bool) -> Any:
    factor = 2.0 * _weight(shape, dim, correction)
    return aligned(g * factor, shape, dim, keepdim) * (input - mean(input, dim, True))


@primitive(_var_vjp, cases=_spread_case, points=[Point(([2.0],), (math.nan,))])
def _var(xp: Any, input: Array, dim: Any = None, correction: float = 1, keepdim: bool = False) -> Array:
    """Sum of squared deviations over n - correction; dy/dx = 2 (x - mean) / (n - correction)."""

    def spread(x: Any) -> Any:
        deviation = x - _mean(x, dim, True)
        return _sum(deviation * deviation, dim, keepdim) * _weight(x.shape, dim, correction)

    return _in_single(spread, input)


def _std_vjp(g: Any, y: Any, input: Any, shape: tuple[int, ...], dim: Any, correction: float, keepdim: bool) -> Any:
    # no deviation at all: the gradient is 0 by convention
    factor = g * _weight(shape, dim, correction) / _where(eq(y, 0), math.inf, y)
    return aligned(factor, shape, dim, keepdim) * (input - mean(input, dim, True))


@primitive(
    _std_vjp,
    cases=_spread_case,
    points=[
        Point(([2.0],), (math.nan,)),
        Point(([3.0, 3.0],), (0.0,)),
        Point(([[1.0, 1.0], [2.0, 4.0]], 1, 0), ([[0.0, 0.0], [-0.5, 0.5]],)),
    ],
)
def _std(xp: Any, input: Array, dim: Any = None, correction: float = 1, keepdim: bool = False) -> Array:
    """Root of the variance; dy/dx = (x - mean) / ((n - correction) y), and 0 where y = 0."""
    return _in_single(lambda x: xp.sqrt(_var(x, dim, correction, keepdim)), input)


def _spread_arguments(dim: Any, unbiased: bool | None, correction: float) -> tuple[Any, float]:
    """PyTorch's older forms ``var(x, unbiased)`` and ``var(x, dim, unbiased)`` beside ``correction=``."""
    if type(dim) is bool:
        dim, unbiased = None, dim
    return axes_of(dim), correction if unbiased is None else int(unbiased)


def var(input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float = 1) -> Any:
    """Variance over ``dim``: sum of squared deviations over ``n - correction`` (1: unbiased, 0: population).

    dy/dx = 2 (x - mean) / (n - correction).

    >>> import tinygrad_ja as tg
    >>> tg.var(tg.tensor([1.0, 2.0, 3.0]))
    tensor(1.)
    """
    dim, correction = _spread_arguments(dim, unbiased, correction)
    return _var(floating(input), dim, correction, keepdim)


def std(input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float = 1) -> Any:
    """Standard deviation over ``dim``; the gradient is 0 where it is 0."""
    dim, correction = _spread_arguments(dim, unbiased, correction)
    return _std(floating(input), dim, correction, keepdim)


def var_mean(
    input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float = 1
) -> tuple[Any, Any]:
    """``(var, mean)`` over ``dim``."""
    made = var(input, dim, unbiased, keepdim, correction=correction)
    return made, mean(input, None if type(dim) is bool else dim, keepdim)


def std_mean(
    input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float = 1
) -> tuple[Any, Any]:
    """``(std, mean)`` over ``dim``."""
    made = std(input, dim, unbiased, keepdim, correction=correction)
    return made, mean(input, None if type(dim) is bool else dim, keepdim)


# ---- product -------------------------------------------------------------------------------------


def backwards(ndim: int, axis: int) -> tuple[slice, ...]:
    """Index that reverses one axis."""
    return tuple([slice(None, None, -1) if i == axis % ndim else slice(None) for i in range(ndim)])


def _exclusive(xp: Any, input: Any) -> Any:
    """Along the last axis, the product of all elements before each one."""
    shifted = xp.concatenate([xp.ones_like(input[..., :1]), input[..., :-1]], -1)
    return xp.cumprod(shifted, -1)


def _prod_backward(xp: Any, g: Any, input: Any, dim: Any, keepdim: bool) -> tuple[Any]:
    # The product of all other elements, without a division, so zeros are no special case.
    if not input.ndim:
        return (g.reshape(()),)
    flat = input.reshape(-1) if dim is None else xp.moveaxis(input, dim, -1)
    reverse = flat[..., ::-1]
    others = _exclusive(xp, flat) * _exclusive(xp, reverse)[..., ::-1]
    if dim is None:
        return ((g.reshape(1) * others).reshape(input.shape),)
    return ((g if keepdim else xp.expand_dims(g, dim)) * xp.moveaxis(others, -1, dim),)


def _prod_reference(input: Any, dim: Any, keepdim: bool) -> Any:
    """A tree of products of halves."""
    shape = tuple(input.shape)
    axis = dim if shape else None
    x = _reshape(input, (-1,)) if axis is None else movedim(input, axis, -1)
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        pairs = x[..., :half] * x[..., half : 2 * half]
        if x.shape[-1] % 2:
            last = x[..., -1:]
            pairs = pairs * last if half == 1 else _joined(pairs, last)
        x = pairs
    if not x.shape[-1]:
        x = sum(x, -1, True) + 1
    sizes = kept_shape(shape, axis)
    if keepdim:
        return _reshape(x, sizes)
    return _reshape(x, () if axis is None else tuple([n for i, n in enumerate(shape) if i != axis % len(shape)]))


def _joined(a: Any, b: Any) -> Any:
    from .join import cat

    return cat([a, b], -1)


def _prod_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    shape = pick.shape()
    values = pick.array(shape)
    if pick.boolean():
        values = np.asarray(values * pick.mask(shape))
    return (values, pick.choice([None, pick.axis(len(shape))]), pick.boolean()), {}


@fused(_prod_backward, _prod_reference, cases=_prod_case)
def _prod(xp: Any, input: Array, dim: Any = None, keepdim: bool = False) -> Array:
    """Product over an axis; dy/dx_i = the product of all others, right with any number of zeros."""
    return xp.prod(input, present(dim, input.ndim), _total_dtype(input.dtype), None, keepdim)


def prod(input: Any, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Product over ``dim`` (an int, or None for all axes). Integers and bools give int64.

    dy/dx_i = product of all x_j, j != i.

    >>> import tinygrad_ja as tg
    >>> tg.prod(tg.tensor([2.0, 3.0, 4.0]))
    tensor(24.)
    """
    if dtype is not None:
        input = cast(input, np.dtype(dtype))
    return _prod(input, dim, keepdim)


# ---- logic and counting --------------------------------------------------------------------------


@primitive(cases=reduction_case)
def _all(xp: Any, input: Array, dim: Any = None, keepdim: bool = False) -> Array:
    """True where every element is not zero."""
    return xp.all(input, present(dim, input.ndim), None, keepdim)


@primitive(cases=reduction_case)
def _any(xp: Any, input: Array, dim: Any = None, keepdim: bool = False) -> Array:
    """True where some element is not zero."""
    return xp.any(input, present(dim, input.ndim), None, keepdim)


def all(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """True where every element along ``dim`` (int, tuple or None) is not zero; True for no elements."""
    return _all(input, axes_of(dim), keepdim)


def any(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """True where some element along ``dim`` (int, tuple or None) is not zero; False for no elements."""
    return _any(input, axes_of(dim), keepdim)


@primitive(cases=lambda pick: (reduction_case(pick)[0][:2], {}))
def _count_nonzero(xp: Any, input: Array, dim: Any = None) -> Array:
    """Number of elements that are not zero."""
    return xp.sum(input != 0, present(dim, input.ndim), np.int64)


def count_nonzero(input: Any, dim: Any = None) -> Any:
    """Number of elements along ``dim`` (int, tuple or None) that are not zero; int64."""
    return _count_nonzero(input, axes_of(dim))


# ---- log-sum-exp ---------------------------------------------------------------------------------


def _logsumexp_vjp(g: Any, y: Any, input: Any, shape: tuple[int, ...], dim: Any, keepdim: bool) -> Any:
    # a row of -inf only has y = -inf; with 0 instead its weights exp(-inf) are 0, not NaN
    y = _where(eq(y, -math.inf), 0.0, y)
    return aligned(g, shape, dim, keepdim) * exp(input - aligned(y, shape, dim, keepdim))


@primitive(
    _logsumexp_vjp,
    cases=reduction_case,
    points=[
        Point(([-math.inf, -math.inf], 0), (0.0,)),
        Point(([[-math.inf, 1.0], [-math.inf, -math.inf]], 1, True), ([[0.0, 1.0], [0.0, 0.0]],)),
    ],
)
def _logsumexp(xp: Any, input: Array, dim: Any, keepdim: bool = False) -> Array:
    """log(sum(exp(x))) without overflow; dy/dx = exp(x - y)."""
    axis = present(dim, input.ndim)
    top = xp.max(input, axis, None, True) if input.size else _sum(input, dim, True)
    top = xp.where(xp.isfinite(top), top, xp.zeros_like(top))
    total = _in_single(lambda x: xp.log(_sum(xp.exp(x - top), dim, True)) + top, input)
    return total if keepdim else total.reshape(_sum(input, dim, False).shape)


def logsumexp(input: Any, dim: Any, keepdim: bool = False) -> Any:
    """log(sum(exp(x))) over ``dim`` (int or tuple), stable for any size of x; -inf where all elements are.

    dy/dx = exp(x - y), the softmax.
    """
    return _logsumexp(floating(input), axes_of(dim), keepdim)


attach(
    all,
    any,
    count_nonzero,
    logsumexp,
    mean,
    prod,
    std,
    sum,
    var,
)
