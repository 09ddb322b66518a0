"""Order statistics: medians, quantiles, the k-th smallest and the most frequent element.

Each finds positions, which have no derivative, and picks the elements there; the gradient goes where the element came from. NaN counts as
largest, as in PyTorch. Which one of equal elements is picked is not defined, but for ``mode``, which picks the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES, is_array
from ..core.operator import Array, Point, primitive
from ..core.tensor import Tensor
from ..errors import error
from .arithmetic import lerp
from .comparison import eq, isnan, keep
from .conversion import _cast
from .extremum import Extremum, sort
from .methods import attach
from .piecewise import ceil, floor, round
from .reduce import sum
from .scan import running_position
from .selection import _gather
from .shape import _reshape, dimension, movedim, squeeze, unsqueeze

__all__ = ["kthvalue", "median", "mode", "msort", "nanmedian", "nanquantile", "quantile"]


def msort(input: Any) -> Any:
    """The elements in order along the first axis."""
    return sort(input, 0).values


# ---- positions -----------------------------------------------------------------------------------


def _nonempty_case(pick: Any) -> tuple[Any, int]:
    shape = list(pick.shape(min_dims=1))
    dim = pick.integer(0, len(shape) - 1)
    shape[dim] = pick.integer(max(1, shape[dim]), 9)
    return tuple(shape), dim


def _with_nan(pick: Any, shape: tuple[int, ...]) -> np.ndarray:
    return np.where(pick.mask(shape) & pick.mask(shape), math.nan, pick.distinct(shape))


def _median_case(pick: Any) -> Any:
    shape, dim = _nonempty_case(pick)
    return (_with_nan(pick, shape), dim, pick.boolean()), {}


def _repeated_case(pick: Any) -> Any:
    shape, dim = _nonempty_case(pick)
    return (np.asarray(pick.indices(shape, 3)), dim), {}


def _pick_at(xp: Any, order: Any, place: Any, dim: int) -> Any:
    return xp.take_along_axis(order, place.astype(np.int64), dim)


@primitive(cases=_median_case)
def _median_position(xp: Any, input: Array, dim: int, skip_nan: bool = False) -> Array:
    """Where along an axis, which is kept, the lower median is; the first NaN if there is one, unless they are skipped."""
    order = xp.argsort(input, dim, "stable")
    size = input.shape[dim]
    missing = xp.sum(input != input, dim, np.int64, None, True)
    if skip_nan:
        place = (xp.where(missing < size, size - missing, size) - 1) // 2
    else:
        place = xp.where(missing > 0, size - missing, (size - 1) // 2)
    return _pick_at(xp, order, place, dim)


def _kth_case(pick: Any) -> Any:
    shape, dim = _nonempty_case(pick)
    return (pick.distinct(shape), pick.integer(1, shape[dim]), dim), {}


@primitive(cases=_kth_case)
def _kth_position(xp: Any, input: Array, k: int, dim: int) -> Array:
    """Where along an axis, which is kept, the k-th smallest element is."""
    order = xp.argpartition(input, k - 1, dim)
    return order[(slice(None),) * dim + (slice(k - 1, k),)].astype(np.int64)


@primitive(cases=_repeated_case)
def _mode_position(xp: Any, input: Array, dim: int) -> Array:
    """Where along an axis, which is kept, the most frequent element is: the smallest of several, and the last of equal ones."""
    order = xp.argsort(input, dim, "stable")
    values = xp.moveaxis(xp.take_along_axis(input, order, dim), dim, 0)
    begins = xp.ones(values.shape, dtype=np.int8)
    begins[1:] = values[1:] != values[:-1]
    place = xp.arange(len(values)).reshape((-1,) + (1,) * (values.ndim - 1))
    longest = xp.argmax(place - running_position(begins, 0), 0)
    return _pick_at(xp, order, xp.expand_dims(longest, dim), dim)


# ---- the elements there --------------------------------------------------------------------------


def _picked(op: str, input: Any, dim: int, keepdim: bool, find: Callable[[Any, int], Any]) -> Extremum:
    """``(values, indices)`` at the positions that ``find(input, axis)`` gives."""
    axis = dimension(op, dim, input.shape)
    samples = input if input.ndim else _reshape(input, (1,))
    if not samples.shape[axis]:
        raise _empty(op, input)
    index = find(samples, axis)
    values = _gather(samples, axis, index)
    if keepdim and input.ndim:
        return Extremum(values, index)
    return Extremum(squeeze(values, axis), squeeze(index, axis))


def _empty(op: str, input: Any) -> Exception:
    rule = ("at least one element to choose from", "選ぶ要素が 1 つ以上")
    fix = ("choose an axis that is not empty.", "空でない次元を選んでください。")
    return error("TG-S002", op=op, rule=rule, shapes=str(tuple(input.shape)), fix=fix)


def _middle_vjp(g: Any, y: Any, input: Any) -> Any:
    found = eq(input, y) | (isnan(input) & isnan(y))
    return keep(g / sum(_cast(found, g.dtype)), found)


@primitive(
    _middle_vjp,
    cases=lambda pick: ((_with_nan(pick, pick.shape(min_side=1)), pick.boolean()), {}),
    points=[
        Point(([1.0, 2.0, 2.0],), ([0.0, 0.5, 0.5],)),
        Point(([math.nan, 2.0, math.nan],), ([0.5, 0.0, 0.5],)),
        Point(([math.nan, 2.0, 2.0, 3.0], True), ([0.0, 0.5, 0.5, 0.0],)),
    ],
)
def _middle(xp: Any, input: Array, skip_nan: bool = False) -> Array:
    """The lower median of all elements. Equal ones share the gradient."""
    flat = input.reshape(-1)
    return flat[_median_position(flat, 0, skip_nan)].reshape(())


def _median(op: str, input: Any, dim: int | None, keepdim: bool, skip_nan: bool) -> Any:
    if dim is not None:
        return _picked(op, input, dim, keepdim, lambda samples, axis: _median_position(samples, axis, skip_nan))
    if 0 not in input.shape:
        return _middle(input, skip_nan)
    if input.dtype.kind != "f":
        raise _empty(op, input)
    return sum(input) * math.nan


def median(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """``median(x)``: the median of all elements, the lower of two; equal ones share the gradient. ``median(x, dim)``:
    ``(values, indices)`` along an axis, where the element at the index gets the gradient. NaN if there is one, and for no elements.

    >>> import tinygrad_ja as tg
    >>> tg.median(tg.tensor([3.0, 1.0, 2.0, 9.0]))
    tensor(2.)
    """
    return _median("median", input, dim, keepdim, False)


def nanmedian(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """``median`` of the elements that are not NaN.

    >>> import tinygrad_ja as tg
    >>> tg.nanmedian(tg.tensor([3.0, float("nan"), 2.0, 9.0]))
    tensor(3.)
    """
    return _median("nanmedian", input, dim, keepdim, True)


def kthvalue(input: Any, k: int, dim: int = -1, keepdim: bool = False) -> Extremum:
    """``(values, indices)`` of the ``k``-th smallest elements along ``dim``, counted from 1.

    >>> import tinygrad_ja as tg
    >>> tg.kthvalue(tg.tensor([3.0, 1.0, 2.0]), 2).values
    tensor(2.)
    """
    size = input.shape[dimension("kthvalue", dim, input.shape)] if input.ndim else 1
    if size and not 1 <= k <= size:
        fix = (f"k={size}.", f"k={size} としてください。")
        raise error("TG-A001", op="kthvalue", argument="k", value=k, rule=f"1 <= k <= {size}", fix=fix)
    return _picked("kthvalue", input, dim, keepdim, lambda samples, axis: _kth_position(samples, k, axis))


def mode(input: Any, dim: int = -1, keepdim: bool = False) -> Extremum:
    """``(values, indices)`` of the most frequent elements along ``dim``, the smallest of several, and where the last of them is.

    >>> import tinygrad_ja as tg
    >>> tg.mode(tg.tensor([2, 1, 2, 3])).values
    tensor(2)
    """
    return _picked("mode", input, dim, keepdim, _mode_position)


# ---- quantiles -----------------------------------------------------------------------------------

_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


def _probabilities(op: str, input: Any, q: Any) -> Any:
    """``q`` checked: a number as an array of one, on the input's device; a 0-d or 1-d tensor of the input's dtype as 1-d."""
    if type(q) is not Tensor and not is_array(q):
        held = getattr(input, "array", input)
        made = ARRAY_MODULES[type(held)].asarray([q], dtype=input.dtype)
        checked, q = np.asarray([q]), Tensor(made) if type(input) is Tensor else made
    else:
        if q.ndim > 1:
            fix = ("flatten it.", "1 次元にしてください。")
            raise error("TG-S002", op=op, rule=("q has at most 1 axis", "q は 1 次元以下"), shapes=str(tuple(q.shape)), fix=fix)
        if q.dtype != input.dtype:
            raise error("TG-T001", op=op, dtypes=f"{input.dtype}, {q.dtype}", fix=input.dtype)
        checked, q = getattr(q, "array", q), _reshape(q, (-1,))
    if type(checked) is np.ndarray and not bool(((checked >= 0) & (checked <= 1)).all()):  # a GPU would have to be waited for
        fix = ("q=0.5.", "q=0.5 などとしてください。")
        raise error("TG-A001", op=op, argument="q", value=checked, rule=("0 <= q <= 1", "0 <= q <= 1"), fix=fix)
    return q


def _quantile(op: str, input: Any, q: Any, dim: int | None, keepdim: bool, interpolation: str, skip_nan: bool) -> Any:
    if interpolation not in _INTERPOLATIONS:
        rule = (f"one of {', '.join(_INTERPOLATIONS)}", f"{'、'.join(_INTERPOLATIONS)} のどれか")
        fix = ("interpolation='linear'.", "interpolation='linear' などとしてください。")
        raise error("TG-A001", op=op, argument="interpolation", value=repr(interpolation), rule=rule, fix=fix)
    if input.dtype not in (np.float32, np.float64):
        raise error("TG-T004", op=op, dtype=input.dtype, allowed=("float32 or float64", "float32 か float64"), fix="tg.float32")
    if 0 in input.shape:
        raise _empty(op, input)
    several = getattr(q, "ndim", 0) > 0
    q = _probabilities(op, input, q)
    shape = tuple(input.shape)
    axis = 0 if dim is None else dimension(op, dim, shape)
    samples = _reshape(input, (-1,)) if dim is None or not shape else movedim(input, axis, -1)
    made = _at_ranks(sort(samples).values, q, interpolation, skip_nan)
    if keepdim and shape:
        made = unsqueeze(made, axis) if dim is not None else _reshape(made, (1,) * len(shape) + (-1,))
    return movedim(made, -1, 0) if several else squeeze(made, -1)


def _at_ranks(values: Any, q: Any, interpolation: str, skip_nan: bool) -> Any:
    """Elements of ordered ``values`` (..., n) at the ranks q (n - 1), or between two, as (..., len(q))."""
    size = values.shape[-1]
    missing = sum(isnan(values), -1, True)
    last = _cast(size - 1 - missing, values.dtype)
    if skip_nan:
        ranks = keep(q * last, last >= 0)
    else:
        ranks = keep(q * (size - 1), missing == 0) + (size - 1.0) * _cast(missing > 0, values.dtype)
    if interpolation == "nearest":
        return _element(values, round(ranks))
    low, high = floor(ranks), ceil(ranks)
    if interpolation in ("lower", "higher"):
        return _element(values, low if interpolation == "lower" else high)
    weight = ranks - low if interpolation == "linear" else 0.5
    return lerp(_element(values, low), _element(values, high), weight)


def _element(values: Any, rank: Any) -> Any:
    return _gather(values, values.ndim - 1, _cast(rank, np.dtype(np.int64)))


def quantile(input: Any, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear") -> Any:
    """The ``q``-quantiles, 0 <= q <= 1, over ``dim`` or over all elements: those at rank q (n - 1) in order.

    q: a number, or a 0-d or 1-d tensor of the input's dtype; an axis for a 1-d one comes first. interpolation between the neighbours of
    the rank: "linear", "lower", "higher", "midpoint", "nearest". NaN where there is one. The gradient goes to the neighbours, as far as they
    count, and to ``q``. Raises DtypeError unless the input is float32 or float64.

    >>> import tinygrad_ja as tg
    >>> tg.quantile(tg.tensor([0.0, 1.0, 2.0, 3.0]), 0.4)
    tensor(1.2)
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation, False)


def nanquantile(input: Any, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear") -> Any:
    """``quantile`` of the elements that are not NaN; NaN where there is none.

    >>> import tinygrad_ja as tg
    >>> tg.nanquantile(tg.tensor([0.0, float("nan"), 1.0]), 0.5)
    tensor(0.5)
    """
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, True)


attach(kthvalue, median, mode, msort, nanmedian, nanquantile, quantile)
