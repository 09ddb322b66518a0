"""Writing into parts of a tensor: reductions of what arrives at the same place, and elements under a mask, at flat numbers, on a diagonal."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES
from ..backend.extremes import extreme_at
from ..core.operator import Array, Constant, Point, primitive
from ..core.tensor import Tensor
from ..errors import error
from .arithmetic import div
from .comparison import _where, eq, keep
from .conversion import _cast
from .diagonal import _diagonal, _embed_diagonal, _plane
from .indexing import _as_operand, _index_put, _zero_at, index_error
from .methods import attach, attach_in_place
from .scan import _cumprod
from .selection import (
    _add_slices,
    _first_part,
    _gather,
    _gather_arguments,
    _grid,
    _index_of,
    _index_select,
    _mask_of,
    _need_slices,
    _scatter_zeros,
)
from .shape import _expand, _reshape, broadcast_shapes, dimension

__all__ = ["diagonal_scatter", "index_reduce", "masked_scatter", "put", "scatter_reduce"]


def _places(dim: int, index: Any) -> tuple[Any, ...]:
    return _grid(ARRAY_MODULES[type(index)], dim, index)


def _need_in_range(op: str, index: Any, shape: tuple[int, ...], axis: int) -> None:
    """Indices are looked at on the CPU; on a GPU that would have to wait."""
    if type(index) is np.ndarray and index.size and int(index.max()) >= shape[axis]:
        raise index_error(op, shape, _places(axis, index))


# ---- the largest and the smallest ----------------------------------------------------------------


def _extreme_case(pick: Any) -> Any:
    shape = pick.shape(min_dims=1, min_side=1)
    dim = pick.integer(0, len(shape) - 1)
    wanted = [pick.integer(0 if n > 3 else 1, n) for n in shape]
    wanted[dim] = pick.integer(1, 5)
    index = pick.indices(tuple(wanted), shape[dim])
    values = pick.distinct((int(np.prod(shape)) + index.size,))
    input, src = values[: -index.size or None], values[len(values) - index.size :]
    return (input.reshape(shape), src.reshape(index.shape), dim, index, pick.boolean(), pick.boolean()), {}


def _extreme_vjp(g: Any, y: Any, input: Any, src: Any, dim: int, index: Any, include_self: bool) -> tuple[Any, Any]:
    mine = eq(input, y)
    if not include_self:
        mine = _zero_at(mine, _places(dim, index))
    theirs = _cast(eq(src, _gather(y, dim, index)), g.dtype)
    share = g / (mine + _scatter_zeros(theirs, y.shape, dim, index))
    return share * mine, _gather(share, dim, index) * theirs


@primitive(
    _extreme_vjp,
    joint=True,
    cases=_extreme_case,
    points=[
        Point(
            ([2.0, 5.0], [2.0, 1.0, 2.0], 0, np.array([0, 1, 0]), False, True),
            ([1 / 3, 1.0], [1 / 3, 0.0, 1 / 3]),
        ),
        Point(([2.0, 5.0], [2.0, 2.0], 0, np.array([0, 0]), True, False), ([0.0, 1.0], [0.5, 0.5])),
    ],
)
def _scatter_extreme(
    xp: Any, input: Array, src: Array, dim: int, index: Constant, smallest: bool = False, include_self: bool = True
) -> Array:
    """The largest (smallest) of what arrives at each place, and of the input there. Equal ones share the cotangent."""
    wide = np.float32 if input.dtype == np.float16 else input.dtype if input.dtype.kind == "f" else np.dtype(np.int64)
    made = input.astype(wide)
    places = _grid(xp, dim, index)
    if not include_self:
        low, high = (-np.inf, np.inf) if input.dtype.kind == "f" else (np.iinfo(np.int64).min, np.iinfo(np.int64).max)
        made[places] = high if smallest else low
    extreme_at(xp, made, places, src.astype(wide), smallest)
    return made.astype(input.dtype)


# ---- any reduction -------------------------------------------------------------------------------


def _scatter_product(input: Any, src: Any, dim: int, index: Any, include_self: bool) -> Any:
    """Products of what arrives at each place: sorted by place, a running product that begins anew at each, and its last element. Its
    derivatives of every order are right with zeros."""
    xp = ARRAY_MODULES[type(index)]
    shape = tuple(input.shape)
    count = int(np.prod(shape))
    place: Any = 0
    for size, along in zip(shape, _grid(xp, dim, index)):
        place = place * size + along
    place = place.reshape(-1)
    order = xp.argsort(place, -1, "stable")
    place = place[order]
    changes = place[1:] != place[:-1]
    edge = xp.ones(min(1, len(place)), dtype=bool)
    products = _cumprod(_index_select(_reshape(src, (-1,)), 0, order), 0, xp.concatenate([edge, changes]))
    factors = _add_slices(keep(products, xp.concatenate([changes, edge])), (count,), 0, place)
    touched = xp.zeros(count, dtype=bool)
    touched[place] = True
    factors, touched = _reshape(factors, shape), touched.reshape(shape)
    return _where(touched, input * factors if include_self else factors, input)


def _scatter_mean(input: Any, src: Any, dim: int, index: Any, include_self: bool) -> Any:
    xp = ARRAY_MODULES[type(index)]
    count = _scatter_zeros(xp.ones(index.shape, dtype=np.int64), tuple(input.shape), dim, index)
    count = count + 1 if include_self else xp.maximum(count, 1)
    if input.dtype.kind != "f":
        total = _scatter_sum(input, src, dim, index, include_self)
        return _cast(div(total, Tensor(count) if type(total) is Tensor else count, rounding_mode="floor"), input.dtype)
    return _scatter_sum(input, src, dim, index, include_self) / count.astype(input.dtype)


def _scatter_sum(input: Any, src: Any, dim: int, index: Any, include_self: bool) -> Any:
    kept = input if include_self else _zero_at(input, _places(dim, index))
    return kept + _scatter_zeros(src, tuple(input.shape), dim, index)


_REDUCTIONS = {
    "sum": _scatter_sum,
    "prod": _scatter_product,
    "mean": _scatter_mean,
    "amax": lambda input, src, dim, index, include_self: _scatter_extreme(input, src, dim, index, False, include_self),
    "amin": lambda input, src, dim, index, include_self: _scatter_extreme(input, src, dim, index, True, include_self),
}


def _reduced(
    op: str, allowed: tuple[str, ...], input: Any, dim: int, index: Any, src: Any, reduce: str, include_self: bool
) -> Any:
    if reduce not in allowed:
        rule = (f"one of {', '.join(allowed)}", f"{'、'.join(allowed)} のどれか")
        fix = (f"reduce={allowed[0]!r}.", f"reduce={allowed[0]!r} などとしてください。")
        raise error("TG-A001", op=op, argument="reduce", value=repr(reduce), rule=rule, fix=fix)
    if input.dtype != src.dtype:
        raise error("TG-T001", op=op, dtypes=f"{input.dtype}, {src.dtype}", fix=input.dtype)
    if not input.ndim:
        one, place, part = [_reshape(x, (-1,)) for x in (input, index, src)]
        return _reshape(_reduced(op, allowed, one, dim, place, part, reduce, include_self), ())
    axis, array = _gather_arguments(op, input, dim, index)
    _need_in_range(op, array, tuple(input.shape), axis)
    if reduce == "prod" and input.dtype.kind == "b":
        reduce = "amin"
    made = _REDUCTIONS[reduce](input, _first_part(src, array.shape, op), axis, array, include_self)
    return made if made.dtype == input.dtype else _cast(made, input.dtype)


def scatter_reduce(input: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True) -> Any:
    """The input with, at each place to which elements of ``src`` go (``index`` in place of the coordinate ``dim``, as in ``scatter_add``),
    their sum, product, mean, largest or smallest: reduce = "sum", "prod", "mean", "amax", "amin". ``include_self=False`` leaves the
    input's own element out of it.

    Equal largest or smallest elements share the cotangent. Derivatives of products are right with zeros, to every order.
    Raises DtypeError when input and src differ in dtype.

    >>> import tinygrad_ja as tg
    >>> tg.ones(2).scatter_reduce(0, tg.tensor([0, 0, 1]), tg.tensor([2.0, 3.0, 4.0]), "prod")
    tensor([6., 4.])
    """
    return _reduced("scatter_reduce", tuple(_REDUCTIONS), input, dim, index, src, reduce, include_self)


def index_reduce(input: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True) -> Any:
    """``scatter_reduce`` of whole slices: slice k of ``source`` along ``dim`` goes to the slice ``index[k]``. reduce = "prod", "mean",
    "amax", "amin".

    >>> import tinygrad_ja as tg
    >>> tg.zeros(2).index_reduce(0, tg.tensor([1, 1]), tg.tensor([2.0, 3.0]), "amax")
    tensor([0., 3.])
    """
    shape = tuple(input.shape)
    axis = dimension("index_reduce", dim, shape)
    array = _index_of("index_reduce", input, index, shape[axis] if shape else 1, axis)
    if shape:
        _need_slices("index_reduce", shape, axis, array, source)
        array = _expand(array.reshape((-1,) + (1,) * (len(shape) - 1 - axis)), tuple(source.shape))
    return _reduced("index_reduce", ("prod", "mean", "amax", "amin"), input, dim, array, source, reduce, include_self)


# ---- under a mask, at numbers, on a diagonal -----------------------------------------------------


def masked_scatter(input: Any, mask: Any, source: Any) -> Any:
    """The input with the elements of ``source``, in their order, at the places where the bool ``mask`` is True; input and mask broadcast.

    Raises DtypeError when the dtypes of input and source differ, ShapeError for fewer elements than places (on the CPU).

    >>> import tinygrad_ja as tg
    >>> tg.zeros(3).masked_scatter(tg.tensor([True, False, True]), tg.tensor([1.0, 2.0]))
    tensor([1., 0., 2.])
    """
    array = _mask_of("masked_scatter", mask)
    if input.dtype != source.dtype:
        raise error("TG-T001", op="masked_scatter", dtypes=f"{input.dtype}, {source.dtype}", fix=input.dtype)
    xp = ARRAY_MODULES[type(array)]
    shape = broadcast_shapes(tuple(input.shape), tuple(array.shape))
    array = xp.broadcast_to(array, shape)
    count = int(np.prod(tuple(source.shape)))
    if type(array) is np.ndarray and array.sum() > count:
        rule = ("source has an element for each True of the mask", "source の要素はマスクの True 以上")
        fix = ("give more elements.", "要素を増やしてください。")
        shapes = f"{int(array.sum())} True, source {tuple(source.shape)}"
        raise error("TG-S002", op="masked_scatter", rule=rule, shapes=shapes, fix=fix)
    input = input if tuple(input.shape) == shape else _expand(input, shape)
    if not count:
        return input
    place = xp.cumsum(array.reshape(-1), 0, np.int64).reshape(shape) - 1
    picked = _index_select(_reshape(source, (-1,)), 0, xp.where(array, xp.minimum(place, count - 1), 0))
    return _where(array, picked, input)


def put(input: Any, index: Any, source: Any, accumulate: bool = False) -> Any:
    """The input with the elements of ``source`` at the numbers ``index`` of the flattened input; ``accumulate=True`` adds them. Which of
    several elements for the same place wins is not defined.

    >>> import tinygrad_ja as tg
    >>> tg.zeros(2, 2).put(tg.tensor([1, -1]), tg.tensor([5.0, 6.0]))
    tensor([[0., 5.],
            [0., 6.]])
    """
    shape = tuple(input.shape)
    count = int(np.prod(shape))
    array = getattr(index, "array", index)
    if array.dtype.kind not in "iu":
        raise error("TG-T004", op="put", dtype=array.dtype, allowed=("an integer dtype", "整数の dtype"), fix="tg.int64")
    if input.dtype != source.dtype:
        raise error("TG-T001", op="put", dtypes=f"{input.dtype}, {source.dtype}", fix=input.dtype)
    if int(np.prod(tuple(source.shape))) != array.size:
        rule = ("as many elements in source as in index", "source の要素数は index と同じ")
        shapes = f"index {tuple(array.shape)}, source {tuple(source.shape)}"
        fix = ("give one element for each index.", "添字ごとに要素を 1 つ渡してください。")
        raise error("TG-S002", op="put", rule=rule, shapes=shapes, fix=fix)
    array = array.reshape(-1)
    if type(array) is np.ndarray and array.size and not -count <= array.min() <= array.max() < count:
        worst = int(array.min()) if array.min() < -count else int(array.max())
        raise error("TG-I002", op="put", index=worst, size=count, shape=shape, first=-count, last=count - 1)
    array = ARRAY_MODULES[type(array)].where(array < 0, array + count, array)
    flat, values = _reshape(input, (-1,)), _reshape(source, (-1,))
    made = flat + _add_slices(values, (count,), 0, array) if accumulate else _index_put(flat, values, (array,))
    return _reshape(made, shape)


def diagonal_scatter(input: Any, src: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """The input with ``src`` in place of ``diagonal(input, offset, dim1, dim2)``, whose shape it has.

    >>> import tinygrad_ja as tg
    >>> tg.diagonal_scatter(tg.zeros(2, 2), tg.tensor([1.0, 2.0]))
    tensor([[1., 0.],
            [0., 2.]])
    """
    shape = tuple(input.shape)
    plane = _plane("diagonal_scatter", dim1, dim2, shape)
    held = getattr(input, "array", input)
    expected = tuple(_diagonal(held, offset, *plane).shape)
    if tuple(src.shape) != expected:
        raise error("TG-S005", actual=tuple(src.shape), expected=expected, shape=shape)
    mask = _embed_diagonal(ARRAY_MODULES[type(held)].ones(expected, dtype=bool), shape, offset, *plane)
    src = _as_operand(input, src) if type(input) is Tensor else src
    return _where(mask, _embed_diagonal(src, shape, offset, *plane), input)


attach(diagonal_scatter, index_reduce, masked_scatter, put, scatter_reduce)
attach_in_place(index_reduce, masked_scatter, put, scatter_reduce)
