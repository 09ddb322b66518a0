"""Counting and searching: distinct values, histograms, and places in a sorted sequence. None of them has a derivative."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES, is_array
from ..core.operator import Array, Constant, primitive
from ..core.tensor import Tensor
from ..errors import Phrase, error
from .methods import attach
from .shape import dimension

__all__ = ["bincount", "bucketize", "histc", "searchsorted", "unique", "unique_consecutive"]


def _raw(value: Any) -> Any:
    return value.array if type(value) is Tensor else value


def _not_allowed(op: str, argument: str, value: Any, rule: Phrase, fix: Phrase) -> Exception:
    return error("TG-A001", op=op, argument=argument, value=value, rule=rule, fix=fix)


# ---- distinct values -----------------------------------------------------------------------------


def unique(
    input: Any, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The distinct elements in order (always sorted), or with ``dim`` the distinct slices along it in the order of their elements.

    Returns the values, or ``(values, inverse, counts)`` of which only those asked for: ``inverse`` (int64) says where each element is among
    the values, ``counts`` (int64) how often each value occurs. NaN differs from NaN. On a GPU this waits for the number of values.

    >>> import tinygrad_ja as tg
    >>> tg.unique(tg.tensor([3, 1, 3]), return_counts=True)
    (tensor([1, 3]), tensor([1, 2]))
    """
    array = _raw(input)
    xp = ARRAY_MODULES[type(array)]
    slices, axis, rows = _rows("unique", xp, array, dim)
    order = xp.lexsort(rows.T[::-1]) if rows.shape[1] else xp.arange(len(rows))
    group, first, counts = _runs(xp, rows[order])
    inverse = xp.empty(len(rows), dtype=np.int64)
    inverse[order] = group
    inverse = inverse.reshape(array.shape) if dim is None else inverse
    return _asked_for(
        input, slices.take(order[first], axis), inverse if return_inverse else None, counts if return_counts else None
    )


def unique_consecutive(input: Any, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None) -> Any:
    """The first element (slice along ``dim``) of each run of equal ones; see ``unique``.

    >>> import tinygrad_ja as tg
    >>> tg.unique_consecutive(tg.tensor([1, 1, 2, 2, 1]))
    tensor([1, 2, 1])
    """
    array = _raw(input)
    xp = ARRAY_MODULES[type(array)]
    slices, axis, rows = _rows("unique_consecutive", xp, array, dim)
    group, first, counts = _runs(xp, rows)
    inverse = group.reshape(array.shape) if dim is None else group
    return _asked_for(input, slices.take(first, axis), inverse if return_inverse else None, counts if return_counts else None)


def _rows(op: str, xp: Any, array: Any, dim: int | None) -> tuple[Any, int, Any]:
    """An array, the axis along which its elements or slices are compared, and these as the rows of a matrix."""
    if dim is None:
        return array.reshape(-1), 0, array.reshape(-1, 1)
    axis = dimension(op, dim, array.shape)
    array = array if array.ndim else array.reshape(1)
    moved = xp.moveaxis(array, axis, 0)
    if 0 in moved.shape[1:]:
        rule = ("no axis but dim is empty", "dim 以外の次元が空でないこと")
        fix = ("drop the empty axis.", "空の次元を除いてください。")
        raise error("TG-S002", op=op, rule=rule, shapes=str(tuple(array.shape)), fix=fix)
    return array, axis, moved.reshape(len(moved), math.prod(moved.shape[1:]))


def _runs(xp: Any, rows: Any) -> tuple[Any, Any, Any]:
    """Of runs of equal rows: the number of each row's run, the first row of each run, and its length."""
    begins = xp.ones(len(rows), dtype=bool)
    begins[1:] = (rows[1:] != rows[:-1]).any(1)
    first = xp.flatnonzero(begins)
    after = xp.concatenate([first[1:], xp.full(min(1, len(first)), len(rows), dtype=first.dtype)])
    return xp.cumsum(begins, dtype=np.int64) - 1, first, (after - first).astype(np.int64)


def _asked_for(input: Any, *parts: Any) -> Any:
    """The parts that are not None, as Tensors for a Tensor; a single one by itself."""
    made = [Tensor(part) if type(input) is Tensor else part for part in parts if part is not None]
    return made[0] if len(made) == 1 else tuple(made)


# ---- histograms ----------------------------------------------------------------------------------


def bincount(input: Any, weights: Any = None, minlength: int = 0) -> Any:
    """How often each of 0, 1, 2, ... occurs in a 1-d tensor of integers, int64, with at least ``minlength`` entries; with ``weights``
    the sums of theirs, float32 for float32 weights, else float64. On a GPU this waits for the largest element.

    Raises DtypeError unless the input is of an integer dtype, ShapeError unless it is 1-d, ArgumentError for a negative element.

    >>> import tinygrad_ja as tg
    >>> tg.bincount(tg.tensor([1, 1, 3]))
    tensor([0, 2, 0, 1])
    """
    array, heavy = _raw(input), _raw(weights)
    xp = ARRAY_MODULES[type(array)]
    if array.dtype.kind not in "iu":
        raise error("TG-T004", op="bincount", dtype=array.dtype, allowed=("an integer dtype", "整数の dtype"), fix="tg.int64")
    shapes = str(tuple(array.shape)) if heavy is None else f"{tuple(array.shape)}, {tuple(heavy.shape)}"
    if array.ndim != 1 or (heavy is not None and heavy.shape != array.shape):
        rule = ("input (n), weights (n)", "input は (n)、weights は (n)")
        fix = ("flatten them.", "1 次元にしてください。")
        raise error("TG-S002", op="bincount", rule=rule, shapes=shapes, fix=fix)
    if minlength < 0:
        raise _not_allowed("bincount", "minlength", minlength, ("minlength >= 0", "minlength >= 0"), "minlength=0.")
    if array.size and int(array.min()) < 0:
        fix = ("shift the values.", "値をずらしてください。")
        raise _not_allowed("bincount", "input", int(array.min()), ("no element is negative", "負の要素がないこと"), fix)
    numbers = array.astype(np.int64)
    if heavy is None or not array.size:
        made = xp.bincount(numbers, minlength=minlength).astype(np.int64)
    else:
        made = xp.bincount(numbers, heavy.astype(np.float64), minlength)
        made = made.astype(np.float32) if heavy.dtype == np.float32 else made
    return Tensor(made) if type(input) is Tensor else made


def histc(input: Any, bins: int = 100, min: float = 0, max: float = 0) -> Any:
    """How many elements fall into each of ``bins`` equal parts of [min, max], in the input's floating dtype; those outside and NaN are
    left out. ``min == max`` stands for the smallest and the largest element. On a GPU this waits for the counts.

    >>> import tinygrad_ja as tg
    >>> tg.histc(tg.tensor([1.0, 2.0, 1.0]), bins=4, min=0, max=3)
    tensor([0., 2., 1., 0.])
    """
    array = _raw(input)
    xp = ARRAY_MODULES[type(array)]
    if array.dtype.kind != "f":
        allowed = ("a floating dtype", "浮動小数点の dtype")
        raise error("TG-T004", op="histc", dtype=array.dtype, allowed=allowed, fix="tg.float32")
    if bins < 1:
        raise _not_allowed("histc", "bins", bins, ("bins >= 1", "bins >= 1"), "bins=100.")
    low, high = float(min), float(max)
    if low == high and array.size:
        low, high = float(array.min()), float(array.max())
    if low == high:
        low, high = low - 1, high + 1
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        rule = ("a finite range, min < max", "有限の範囲で min < max")
        fix = (
            "give min and max, or drop the elements that are not finite.",
            "min と max を渡すか、有限でない要素を除いてください。",
        )
        raise _not_allowed("histc", "(min, max)", (low, high), rule, fix)
    flat = array.reshape(-1)
    wide = flat.astype(np.float32) if array.dtype == np.float16 else flat
    part = (wide - low) * bins / (high - low)
    inside = (wide >= low) & (wide <= high)
    place = xp.where(inside, part, 0.0).astype(np.int64)
    place = xp.where(inside, xp.minimum(place, bins - 1), bins)
    made = xp.bincount(place, minlength=bins + 1)[:bins].astype(array.dtype)
    return Tensor(made) if type(input) is Tensor else made


# ---- searching -----------------------------------------------------------------------------------


def _sorted_case(pick: Any) -> Any:
    batch = pick.shape(max_dims=2) if pick.boolean() else ()
    sequence = np.sort(np.asarray(pick.indices((*batch, pick.integer(0, 9)), 5)), -1)
    wanted = (*batch, pick.integer(0, 4)) if batch else pick.shape()
    return (np.asarray(pick.indices(wanted, 6)), sequence, pick.boolean()), {}


@primitive(cases=_sorted_case)
def _search(xp: Any, input: Array, sequence: Constant, right: bool = False) -> Array:
    """Where each element would be inserted into its row of ``sequence``: by bisection of all of them at once."""
    if sequence.ndim == 1:
        return xp.searchsorted(sequence, input, "right" if right else "left").astype(np.int64)
    low = xp.zeros(input.shape, dtype=np.int64)
    size = sequence.shape[-1]
    if not size:
        return low
    high = xp.full(input.shape, size, dtype=np.int64)
    for _ in range(size.bit_length()):
        middle = (low + high) // 2
        value = xp.take_along_axis(sequence, xp.minimum(middle, size - 1), -1)
        # "not ... >=" rather than "<": NaN comes last
        behind = (xp.logical_not(value > input) if right else xp.logical_not(value >= input)) & (low < high)
        low, high = xp.where(behind, middle + 1, low), xp.where(behind, high, middle)
    return low


def _sequence(op: str, sequence: Any, sorter: Any) -> Any:
    array = _raw(sequence)
    if not is_array(array):
        raise error("TG-T002", op=op, argument="sorted_sequence", type=type(sequence).__name__)
    if not array.ndim:
        fix = ("reshape it to (1,).", "(1,) に reshape してください。")
        raise error("TG-S002", op=op, rule=("a sequence has at least 1 axis", "列は 1 次元以上"), shapes="()", fix=fix)
    if sorter is None:
        return array
    order = _raw(sorter)
    if order.dtype != np.int64:
        raise error("TG-T004", op=op, dtype=order.dtype, allowed="int64", fix="tg.int64")
    if order.shape != array.shape:
        rule = ("sorter has the shape of the sequence", "sorter の形状は列と同じ")
        shapes = f"{tuple(array.shape)}, {tuple(order.shape)}"
        raise error(
            "TG-S002", op=op, rule=rule, shapes=shapes, fix=("pass argsort(sequence).", "argsort(列) を渡してください。")
        )
    return ARRAY_MODULES[type(array)].take_along_axis(array, order, -1)


def searchsorted(
    sorted_sequence: Any,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Any = None,
) -> Any:
    """Where each element of ``input`` would be inserted into ``sorted_sequence``, ordered along its last axis, int64 (int32).

    sorted_sequence: (n,), or (..., n) for an input (..., m). input: a tensor of its dtype, or a number for a 1-d sequence.
    right (side="right"): behind equal elements, not before. sorter: ``argsort`` of a sequence that is not in order.

    >>> import tinygrad_ja as tg
    >>> tg.searchsorted(tg.tensor([1, 3, 5]), tg.tensor([3, 6]))
    tensor([1, 3])
    """
    if side not in (None, "left", "right") or (right and side == "left"):
        rule = ("'left' or 'right', and 'right' with right=True", "'left' か 'right'。right=True なら 'right'")
        fix = ("leave side or right out.", "side か right のどちらかだけを渡してください。")
        raise _not_allowed("searchsorted", "side", repr(side), rule, fix)
    return _searched(
        "searchsorted", input, _sequence("searchsorted", sorted_sequence, sorter), right or side == "right", out_int32
    )


def _searched(op: str, input: Any, sequence: Any, right: bool, out_int32: bool) -> Any:
    xp = ARRAY_MODULES[type(sequence)]
    values = _raw(input)
    if isinstance(values, (bool, int, float)):
        values = xp.asarray(values, dtype=np.result_type(sequence.dtype, type(values)))
        wide = values.dtype
    else:
        wide = sequence.dtype
        if values.dtype != wide:
            raise error("TG-T001", op=op, dtypes=f"{wide}, {values.dtype}", fix=wide)
    if sequence.ndim > 1 and tuple(values.shape[:-1]) != tuple(sequence.shape[:-1]):
        rule = ("sequence (n), or sequence (..., n) and input (..., m)", "列が (n)、または列が (..., n) で input が (..., m)")
        shapes = f"{tuple(sequence.shape)}, {tuple(values.shape)}"
        fix = ("expand one of them.", "一方を expand してください。")
        raise error("TG-S002", op=op, rule=rule, shapes=shapes, fix=fix)
    made = _search(values, sequence.astype(wide, copy=False), right)
    made = made.astype(np.int32) if out_int32 else made
    return made if is_array(input) else Tensor(xp.asarray(made))


def bucketize(input: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False) -> Any:
    """The number of the interval between the 1-d ``boundaries`` in which each element lies, int64 (int32): 0 up to the first boundary.
    With ``right`` an element that equals a boundary belongs to the interval above it.

    >>> import tinygrad_ja as tg
    >>> tg.bucketize(tg.tensor([1, 3, 6]), tg.tensor([1, 3, 5]))
    tensor([0, 1, 3])
    """
    sequence = _sequence("bucketize", boundaries, None)
    if sequence.ndim > 1:
        fix = ("use searchsorted.", "searchsorted を使ってください。")
        raise error(
            "TG-S002", op="bucketize", rule=("boundaries (n)", "boundaries は (n)"), shapes=str(tuple(sequence.shape)), fix=fix
        )
    return _searched("bucketize", input, sequence, right, out_int32)


attach(bincount, histc, unique, unique_consecutive)
