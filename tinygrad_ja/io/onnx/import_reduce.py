"""Imported reductions: sums, means, norms, extrema and where they are, the largest k."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ...ops.comparison import where
from ...ops.creation import full
from ...ops.exponential import exp, log
from ...ops.extremum import amax, amin, argmax, argmin, topk
from ...ops.reduce import prod, sum
from ...ops.selection import nonzero
from .import_table import Call, axes_of, imports, number


def _total(x: Any, axes: tuple[int, ...], keep: bool) -> Any:
    return sum(x, axes, keep, dtype=x.dtype)


def _mean(x: Any, axes: tuple[int, ...], keep: bool) -> Any:
    count = int(np.prod([x.shape[axis] for axis in axes]))
    total = _total(x, axes, keep)
    return total / count if x.dtype.kind == "f" else total // count


def _product(x: Any, axes: tuple[int, ...], keep: bool) -> Any:
    for axis in sorted([axis % x.ndim for axis in axes], reverse=True):
        x = prod(x, axis, keep, dtype=x.dtype)
    return x


def _log_sum_exp(x: Any, axes: tuple[int, ...], keep: bool) -> Any:
    if x.numel() == 0:
        return log(_total(exp(x), axes, keep))
    top = amax(x, axes, True).detach()
    top = where(top.isfinite(), top, 0.0)
    made = log(_total(exp(x - top), axes, True)) + top
    return made if keep else made.squeeze(axes)


def _extremum(pick: Callable[..., Any], smallest: bool) -> Callable[[Any, tuple[int, ...], bool], Any]:
    """The extremum; of no elements it is the dtype's own extreme value at the other end."""

    def reduce(x: Any, axes: tuple[int, ...], keep: bool) -> Any:
        if x.numel():
            return pick(x.to(np.uint8), axes, keep).to(np.bool_) if x.dtype.kind == "b" else pick(x, axes, keep)
        inside = {axis % x.ndim for axis in axes}
        shape = [1 if axis in inside else n for axis, n in enumerate(x.shape) if keep or axis not in inside]
        return full(shape, _end(x.dtype, smallest), dtype=x.dtype, device=x.device)

    return reduce


def _end(dtype: np.dtype, largest: bool) -> Any:
    if dtype.kind == "f":
        return np.inf if largest else -np.inf
    if dtype.kind == "b":
        return largest
    return np.iinfo(dtype).max if largest else np.iinfo(dtype).min


_REDUCTIONS: dict[str, Callable[[Any, tuple[int, ...], bool], Any]] = {
    "ReduceL1": lambda x, axes, keep: _total(x.abs(), axes, keep),
    "ReduceL2": lambda x, axes, keep: _total(x * x, axes, keep).sqrt().to(x.dtype),
    "ReduceLogSum": lambda x, axes, keep: log(_total(x, axes, keep)),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _extremum(amax, smallest=False),
    "ReduceMean": _mean,
    "ReduceMin": _extremum(amin, smallest=True),
    "ReduceProd": _product,
    "ReduceSum": _total,
    "ReduceSumSquare": lambda x, axes, keep: _total(x * x, axes, keep),
}


def _reduced(function: Callable[[Any, tuple[int, ...], bool], Any], call: Call, x: Any, axes: Any = None) -> Any:
    wanted = axes_of(call, axes)
    if not wanted:
        if call.get("noop_with_empty_axes", 0):
            return x
        wanted = range(x.ndim)
    return function(x, tuple(wanted), bool(call.get("keepdims", 1)))


for _name in _REDUCTIONS:
    imports(_name)(partial(_reduced, _REDUCTIONS[_name]))


@imports("ArgMax", "ArgMin")
def _arg_extremum(call: Call, x: Any) -> Any:
    pick = argmax if call.node.op_type == "ArgMax" else argmin
    axis, keep = call.get("axis", 0), bool(call.get("keepdims", 1))
    if call.get("select_last_index", 0):
        return x.shape[axis] - 1 - pick(x.flip(axis), axis, keep)
    return pick(x, axis, keep)


@imports("TopK")
def _top_k(call: Call, x: Any, k: Any = None) -> Any:
    count = call.get("k") if k is None else number(k)
    values, places = topk(x, count, call.get("axis", -1), bool(call.get("largest", 1)), bool(call.get("sorted", 1)))
    return values, places


@imports("NonZero")
def _non_zero(call: Call, x: Any) -> Any:
    return nonzero(x).permute(1, 0)
