"""Scans along an axis: running sums, products, extrema and log-sum-exps, first-order recurrences, differences and integrals by trapezoids.

NumPy has ``accumulate`` for some of them, CuPy only for sums and products. The others double the reach of each element, 1, 2, 4, ... steps
(Hillis and Steele 1986), which takes log2(n) passes over the whole array on any device.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.operator import Array, Constant, Point, linear, primitive
from ..core.promotion import autocasts
from ..errors import error
from .comparison import _where, eq, keep, logical_xor
from .conversion import cast
from .exponential import exp
from .extremum import Extremum
from .join import cat
from .methods import attach, attach_in_place
from .piecewise import clamp_max
from .reduce import _total_dtype, backwards, floating, sum
from .selection import _gather
from .shape import _reshape, dimension

__all__ = [
    "cummax",
    "cummin",
    "cumprod",
    "cumsum",
    "cumulative_trapezoid",
    "diff",
    "logcumsumexp",
    "trapezoid",
    "trapz",
]


def _scan_case(pick: Any) -> tuple[Any, int]:
    """A shape, often long along one axis, and that axis."""
    shape = list(pick.shape(min_dims=1))
    dim = pick.axis(len(shape))
    shape[dim] = pick.integer(shape[dim], 9)
    return tuple(shape), dim


def _along(op: str, function: Any, input: Any, dim: int, *args: Any) -> Any:
    """``function`` along the axis ``dim``, counted from 0; a 0-d tensor is one with a single element."""
    axis = dimension(op, dim, input.shape)
    return function(input, axis, *args) if input.ndim else _reshape(function(_reshape(input, (1,)), 0, *args), ())


def _wide(input: Any) -> Any:
    """Half precision as float32, in which it is accumulated; others as they are."""
    return input.astype(np.float32) if input.dtype == np.float16 else input


# ---- running sums --------------------------------------------------------------------------------


@linear(
    lambda g, dim, reverse: _cumsum(g, dim, not reverse),
    cases=lambda pick: ((pick.array((case := _scan_case(pick))[0]), case[1], pick.boolean()), {}),
)
def _cumsum(xp: Any, input: Array, dim: int, reverse: bool = False) -> Array:
    """Running sum along an axis, from its end with ``reverse``; the transpose runs the other way."""
    kind = input.dtype
    back = backwards(input.ndim, dim) if reverse else ()
    made = xp.cumsum(input[back], dim, np.float32 if kind == np.float16 else _total_dtype(kind))[back]
    return made.astype(kind) if kind == np.float16 else made


def cumsum(input: Any, dim: int, *, dtype: Any = None) -> Any:
    """Running sum along ``dim``: y_i = x_0 + ... + x_i. Integers give int64, half precision is added up in float32.

    >>> import tinygrad_ja as tg
    >>> tg.cumsum(tg.tensor([1.0, 2.0, 3.0]), 0)
    tensor([1., 3., 6.])
    """
    if dtype is not None:
        input = cast(input, np.dtype(dtype))
    return _along("cumsum", _cumsum, input, dim)


# ---- recurrences of first order ------------------------------------------------------------------


def _shift_case(pick: Any) -> Any:
    shape, dim = _scan_case(pick)
    return (pick.array(shape), dim, pick.boolean(), pick.choice([0.0, 1.0])), {}


@primitive(lambda g, dim, back: _shift(g, dim, not back), cases=_shift_case)
def _shift(xp: Any, input: Array, dim: int, back: bool = False, fill: float = 0.0) -> Array:
    """The elements one place further, or ``back``, along an axis; the place that gets free is filled, the element that falls out is lost."""
    made = xp.full_like(input, fill)
    source, target = xp.moveaxis(input, dim, 0), xp.moveaxis(made, dim, 0)
    if back:
        target[:-1] = source[1:]
    else:
        target[1:] = source[:-1]
    return made


def _recurrence_vjp(g: Any, y: Any, gate: Any, dim: int, reverse: bool) -> tuple[Any, Any]:
    total = linear_recurrence(g, _shift(gate, dim, not reverse), dim, not reverse)
    return total, total * _shift(y, dim, reverse)


def _recurrence_case(pick: Any) -> Any:
    shape, dim = _scan_case(pick)
    return (pick.array(shape), pick.array(shape), dim, pick.boolean()), {}


@primitive(_recurrence_vjp, joint=True, cases=_recurrence_case)
def linear_recurrence(xp: Any, input: Array, gate: Array, dim: int, reverse: bool = False) -> Array:
    """y_k = x_k + a_k y_{k-1} along an axis, from y_{-1} = 0; y_k = x_k + a_k y_{k+1} with ``reverse``.

    The cotangent of x is the same recurrence the other way, s_k = g_k + a_{k+1} s_{k+1}; that of a is s_k y_{k-1}.
    Source: Blelloch, 1990, "Prefix sums and their applications", section 1.4.
    """
    order = slice(None, None, -1 if reverse else 1)
    total, factor = [_wide(xp.moveaxis(x, dim, 0)[order].copy()) for x in (input, gate)]
    step = 1
    while step < len(total):
        total[step:] += factor[step:] * total[:-step]
        factor[step:] = factor[step:] * factor[:-step]
        step *= 2
    return xp.moveaxis(total[order], 0, dim).astype(input.dtype)


# ---- running products ----------------------------------------------------------------------------


def _cumprod_case(pick: Any) -> Any:
    shape, dim = _scan_case(pick)
    values = pick.array(shape)
    if pick.boolean():
        values = np.asarray(values * pick.mask(shape))
    return (values, dim, pick.mask(shape) if pick.boolean() else None), {}


def _cumprod_vjp(g: Any, y: Any, input: Any, dim: int, starts: Any) -> Any:
    # dx_k = (x_0 ... x_{k-1}) s_k with s_k = g_k + x_{k+1} s_{k+1}: no division, so zeros are no special case
    before, gate = _shift(y, dim, False, 1.0), input
    if starts is not None:
        before, gate = _where(starts, 1.0, before), keep(input, ~starts)
    return before * linear_recurrence(g, _shift(gate, dim, True), dim, True)


@primitive(_cumprod_vjp, cases=_cumprod_case)
def _cumprod(xp: Any, input: Array, dim: int, starts: Constant = None) -> Array:
    """Running product along an axis. It begins anew where the bool mask ``starts`` is True."""
    kind = input.dtype
    if starts is None:
        made = xp.cumprod(input, dim, np.float32 if kind == np.float16 else _total_dtype(kind))
        return made.astype(kind) if kind == np.float16 else made
    product, begun = _wide(xp.moveaxis(input, dim, 0).copy()), xp.moveaxis(starts, dim, 0).copy()
    step = 1
    while step < len(product):
        product[step:] *= xp.where(begun[step:], 1, product[:-step])
        begun[step:] = begun[step:] | begun[:-step]
        step *= 2
    return xp.moveaxis(product, 0, dim).astype(kind)


@autocasts("float32")
def cumprod(input: Any, dim: int, *, dtype: Any = None) -> Any:
    """Running product along ``dim``: y_i = x_0 ... x_i. Integers give int64.

    dy_i/dx_k = the product of all others up to i, right with any number of zeros.

    >>> import tinygrad_ja as tg
    >>> tg.cumprod(tg.tensor([2.0, 3.0, 4.0]), 0)
    tensor([ 2.,  6., 24.])
    """
    if dtype is not None:
        input = cast(input, np.dtype(dtype))
    return _along("cumprod", _cumprod, input, dim)


# ---- running extrema -----------------------------------------------------------------------------


def _running_case(pick: Any) -> Any:
    shape, dim = _scan_case(pick)
    values = pick.distinct(shape) if pick.boolean() else np.asarray(pick.indices(shape, 3))
    return (values, dim, pick.boolean()), {}


@primitive(cases=_running_case)
def running_position(xp: Any, input: Array, dim: int, smallest: bool = False) -> Array:
    """Where along an axis the largest (smallest) element up to each place is, int64; the last one of ties, and the last NaN if there is one."""
    value = xp.moveaxis(input, dim, 0).copy()
    index = xp.arange(len(value)).reshape((-1,) + (1,) * (value.ndim - 1))
    index = xp.broadcast_to(index, value.shape).copy()
    step = 1
    while step < len(value):
        later, earlier = value[step:], value[:-step]
        stays = (later <= earlier if smallest else later >= earlier) | (later != later)
        value[step:] = xp.where(stays, later, earlier)
        index[step:] = xp.where(stays, index[step:], index[:-step])
        step *= 2
    return xp.moveaxis(index, 0, dim)


def _running(op: str, input: Any, dim: int, smallest: bool) -> Extremum:
    axis = dimension(op, dim, input.shape)
    if not input.ndim:
        found = _running(op, _reshape(input, (1,)), 0, smallest)
        return Extremum(*[_reshape(part, ()) for part in found])
    index = running_position(input, axis, smallest)
    return Extremum(_gather(input, axis, index), index)


def cummax(input: Any, dim: int) -> Extremum:
    """``(values, indices)``: the largest element so far along ``dim``, and where it is. The last one of ties gets the gradient; NaN wins.

    >>> import tinygrad_ja as tg
    >>> tg.cummax(tg.tensor([1.0, 3.0, 2.0]), 0).values
    tensor([1., 3., 3.])
    """
    return _running("cummax", input, dim, False)


def cummin(input: Any, dim: int) -> Extremum:
    """``(values, indices)``: the smallest element so far along ``dim``, and where it is. The last one of ties gets the gradient; NaN wins."""
    return _running("cummin", input, dim, True)


# ---- running log-sum-exps ------------------------------------------------------------------------


def _logcumsumexp_vjp(g: Any, y: Any, input: Any, dim: int) -> Any:
    # dx_k = exp(x_k - y_k) s_k with s_k = g_k + exp(y_k - y_{k+1}) s_{k+1}: y never falls, so nothing overflows.
    # Where y = -inf a number stands for it, and exp(x_k - y_k) = 0; only then the difference can be above 0.
    finite = _where(eq(y, -math.inf), 0.0, y)
    gate = exp(clamp_max(_shift(finite, dim) - finite, 0.0))
    return exp(input - finite) * linear_recurrence(g, _shift(gate, dim, True), dim, True)


@primitive(
    _logcumsumexp_vjp,
    cases=lambda pick: ((pick.array((case := _scan_case(pick))[0], -9.0, 9.0), case[1]), {}),
    points=[
        Point(([-math.inf, -math.inf, 1.0], 0), ([0.0, 0.0, 1.0],)),
        Point(([-math.inf, -2000.0], 0), ([0.0, 1.0],)),
        Point(([-2000.0, -math.inf, 1000.0, 1000.0], 0), ([2.0, 0.0, 1.5, 0.5],)),
    ],
)
def _logcumsumexp(xp: Any, input: Array, dim: int) -> Array:
    """log of the running sum of exponentials along an axis, without overflow."""
    total = _wide(xp.moveaxis(input, dim, 0).copy())
    step = 1
    while step < len(total):
        total[step:] = xp.logaddexp(total[step:], total[:-step])
        step *= 2
    return xp.moveaxis(total, 0, dim).astype(input.dtype)


def logcumsumexp(input: Any, dim: int) -> Any:
    """y_i = log(exp(x_0) + ... + exp(x_i)) along ``dim``, stable for any size of x. dy_i/dx_k = exp(x_k - y_i) for k <= i.

    >>> import tinygrad_ja as tg
    >>> tg.logcumsumexp(tg.tensor([0.0, 0.0]), 0)
    tensor([0.    , 0.6931])
    """
    return _along("logcumsumexp", _logcumsumexp, floating(input), dim)


# ---- differences and integrals -------------------------------------------------------------------


def _part(input: Any, dim: int, start: int | None, stop: int | None) -> Any:
    return input[(slice(None),) * dim + (slice(start, stop),)]


def diff(input: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """Differences of neighbours along ``dim``, ``n`` times: y_i = x_{i+1} - x_i; of bools, whether they differ.

    prepend, append: tensors to put before and behind the input first, of its shape except along ``dim``.
    Raises ArgumentError for a negative ``n``, ShapeError for a 0-d input.

    >>> import tinygrad_ja as tg
    >>> tg.diff(tg.tensor([1.0, 4.0, 9.0]))
    tensor([3., 5.])
    """
    if not input.ndim:
        fix = ("reshape it to (1,).", "(1,) に reshape してください。")
        raise error("TG-S002", op="diff", rule=("at least 1 axis", "1 次元以上"), shapes="()", fix=fix)
    if n < 0:
        raise error("TG-A001", op="diff", argument="n", value=n, rule="n >= 0", fix="n=1.")
    axis = dimension("diff", dim, input.shape)
    joined = [part for part in (prepend, input, append) if part is not None]
    if n and len(joined) > 1:
        input = cat(joined, axis)
    for _ in range(min(n, input.shape[axis])):
        later, earlier = _part(input, axis, 1, None), _part(input, axis, None, -1)
        input = logical_xor(later, earlier) if input.dtype.kind == "b" else later - earlier
    return input


def _areas(op: str, y: Any, x: Any, dx: float | None, dim: int) -> tuple[Any, int]:
    """The area over each interval along an axis, and that axis."""
    axis = dimension(op, dim, y.shape)
    if not y.ndim:
        fix = ("give samples along an axis.", "軸に沿った標本を渡してください。")
        raise error("TG-S002", op=op, rule=("at least 1 axis", "1 次元以上"), shapes="()", fix=fix)
    y = floating(y)
    heights = _part(y, axis, 1, None) + _part(y, axis, None, -1)
    if x is None:
        return heights * ((1.0 if dx is None else dx) / 2), axis
    if dx is not None:
        fix = ("leave one of them out.", "どちらか一方だけを渡してください。")
        raise error("TG-A001", op=op, argument="dx", value=dx, rule=("x or dx, not both", "x と dx の両方は渡せない"), fix=fix)
    if x.ndim == 1:
        x = _reshape(x, (-1,) + (1,) * (y.ndim - 1 - axis))
    if x.ndim > y.ndim or x.shape[axis - y.ndim] != y.shape[axis]:
        rule = ("x has as many elements along dim as y", "x の dim の大きさは y と同じ")
        fix = ("give one coordinate for each sample.", "標本ごとに座標を 1 つ渡してください。")
        raise error("TG-S002", op=op, rule=rule, shapes=f"y {tuple(y.shape)}, x {tuple(x.shape)}", fix=fix)
    widths = diff(x, dim=axis - y.ndim)
    return heights * widths / 2, axis


def trapezoid(y: Any, x: Any = None, *, dx: float | None = None, dim: int = -1) -> Any:
    """The integral of the samples ``y`` along ``dim`` by the trapezoidal rule: Σ (x_{i+1} - x_i) (y_i + y_{i+1}) / 2.

    x: coordinates of the samples, (n,) or a shape that broadcasts to that of ``y``; without it they are ``dx`` (1) apart.
    Integers become the default float dtype. Raises ArgumentError for both x and dx.

    >>> import tinygrad_ja as tg
    >>> tg.trapezoid(tg.tensor([1.0, 5.0, 10.0]))
    tensor(10.5)
    """
    areas, axis = _areas("trapezoid", y, x, dx, dim)
    return sum(areas, axis - y.ndim)


trapz = trapezoid


def cumulative_trapezoid(y: Any, x: Any = None, *, dx: float | None = None, dim: int = -1) -> Any:
    """The running integral by the trapezoidal rule, one element shorter along ``dim`` than ``y``; see ``trapezoid``.

    >>> import tinygrad_ja as tg
    >>> tg.cumulative_trapezoid(tg.tensor([1.0, 5.0, 10.0]))
    tensor([ 3. , 10.5])
    """
    areas, axis = _areas("cumulative_trapezoid", y, x, dx, dim)
    return cumsum(areas, axis - y.ndim)


attach(cummax, cummin, cumprod, cumsum, diff, logcumsumexp)
attach_in_place(cumprod, cumsum)
