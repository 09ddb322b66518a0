"""Shape operators: other views of the same elements. Four of them have a derivative rule (``expand``, ``sum_to_size``, ``reshape``,
``permute``/``transpose``); the rest of the names are said with these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.operator import Array, linear
from ..core.tensor import Tensor
from ..errors import error, joined
from .methods import attach

__all__ = [
    "alias",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_shapes",
    "broadcast_tensors",
    "broadcast_to",
    "expand",
    "expand_as",
    "flatten",
    "moveaxis",
    "movedim",
    "permute",
    "ravel",
    "reshape",
    "reshape_as",
    "squeeze",
    "sum_to_size",
    "swapaxes",
    "swapdims",
    "t",
    "transpose",
    "unflatten",
    "unsqueeze",
    "view",
    "view_as",
]


# ---- arguments -----------------------------------------------------------------------------------


def dimension(op: str, dim: int, shape: Sequence[int], extra: int = 0) -> int:
    """``dim`` counted from 0; ``extra`` is 1 where a new axis may go behind the last one. A 0-d tensor counts as 1-d, as in PyTorch.

    >>> dimension("sum", -1, (2, 3))
    1
    """
    ndim = len(shape) + extra or 1
    try:
        inside = -ndim <= dim < ndim
    except TypeError:
        rule, fix = ("an integer", "整数"), ("pass one dim.", "次元を 1 つ渡してください。")
        raise error("TG-A001", op=op, argument="dim", value=repr(dim), rule=rule, fix=fix) from None
    if not inside:
        raise error("TG-I001", op=op, dim=dim, shape=tuple(shape), ndim=ndim)
    return dim + ndim if dim < 0 else dim


def _sizes(given: tuple[Any, ...]) -> tuple[int, ...]:
    """``x.view(2, 3)`` and ``x.view((2, 3))`` give the same sizes."""
    if len(given) == 1 and isinstance(given[0], (tuple, list)):
        return tuple(given[0])
    return given


def _dims(op: str, given: Any, shape: Sequence[int]) -> tuple[int, ...]:
    """Distinct dims counted from 0, from one dim or several."""
    several = given if isinstance(given, (tuple, list)) else (given,)
    dims = tuple([dimension(op, dim, shape) for dim in several])
    if len(set(dims)) < len(dims):
        raise error(
            "TG-A001",
            op=op,
            argument="dim",
            value=given,
            rule=("each dim appears once", "同じ次元は 1 度だけ"),
            fix=("drop the repeated dim.", "重なった次元を除いてください。"),
        )
    return dims


# ---- the same value again ------------------------------------------------------------------------


def _any_array(pick: Any) -> Any:
    return (pick.array(pick.shape()),), {}


@linear(lambda g: g, cases=_any_array)
def alias(xp: Any, input: Array) -> Array:
    """The same value as a new entry on the tape."""
    return input


# ---- broadcasting and its transpose --------------------------------------------------------------


def _expand_case(pick: Any) -> Any:
    target = pick.shape(min_dims=0, max_dims=3)
    kept = target[pick.integer(0, len(target)) :]
    source = tuple([1 if pick.boolean() else n for n in kept])
    return (pick.array(source), tuple(target)), {}


def _reduce_case(pick: Any) -> Any:
    (source, size), _ = _expand_case(pick)
    return (pick.array(size), tuple(source.shape)), {}


def not_expandable(shape: Sequence[int], size: Sequence[int]) -> Exception:
    """The error of an expansion that is none."""
    return error(
        "TG-S002",
        op="expand",
        rule=(
            "aligned from the right, each size equals the input's, or the input's is 1; new axes go in front",
            "右端をそろえたとき、各次元の大きさは入力と等しいか、入力が 1。新しい次元は先頭に付く",
        ),
        shapes=f"{tuple(shape)} to {tuple(size)}",
        fix=("unsqueeze or reshape the input first.", "先に入力を unsqueeze か reshape してください。"),
    )


@linear(lambda g, shape: _sum_to_size(g, shape), cases=_expand_case)
def _expand(xp: Any, input: Array, size: tuple[int, ...]) -> Array:
    """Broadcast to ``size``; the transpose sums over the axes that were repeated."""
    try:
        return xp.broadcast_to(input, size)
    except ValueError as failure:
        raise not_expandable(input.shape, size) from failure


@linear(lambda g, shape: _expand(g, shape), cases=_reduce_case)
def _sum_to_size(xp: Any, input: Array, size: tuple[int, ...]) -> Array:
    """Sum over the axes along which ``size`` would have to be broadcast to give the input's shape: the transpose of ``expand``."""
    shape = input.shape
    lead = len(shape) - len(size)
    if lead < 0 or any([n != 1 and n != m for n, m in zip(size, shape[lead:])]):
        raise not_expandable(size, shape)
    axes = tuple(range(lead)) + tuple([i for i in range(lead, len(shape)) if size[i - lead] == 1 != shape[i]])
    if not axes:
        return input
    return xp.add.reduce(input, axes, None, None, True).reshape(size)


def expand(input: Any, *size: Any) -> Any:
    """Repeat axes of size 1 up to ``size``; -1 keeps a size, further sizes in front add axes.

    size: ints or one tuple. Raises ShapeError when an axis of another size than 1 would have to change. The transpose is
    ``sum_to_size``.

    >>> import tinygrad_ja as tg
    >>> tg.tensor([[1.0], [2.0]]).expand(-1, 3)
    tensor([[1., 1., 1.],
            [2., 2., 2.]])
    """
    size = _sizes(size)
    if -1 in size:
        shape = input.shape
        lead = len(size) - len(shape)
        size = tuple([shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(size)])
    return _expand(input, size)


def sum_to_size(input: Any, *size: Any) -> Any:
    """Sum over axes until the shape is ``size``, which must broadcast to the input's shape; the transpose is ``expand``.

    >>> import tinygrad_ja as tg
    >>> tg.tensor([[1.0, 2.0], [3.0, 4.0]]).sum_to_size(2)
    tensor([4., 6.])
    """
    return _sum_to_size(input, _sizes(size))


def broadcast_to(input: Any, size: Sequence[int]) -> Any:
    """The same as ``expand``."""
    return expand(input, tuple(size))


def expand_as(input: Any, other: Any) -> Any:
    """``expand`` to the shape of ``other``."""
    return _expand(input, other.shape)


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """The shape that tensors of these shapes broadcast to. Raises ShapeError when there is none.

    >>> broadcast_shapes((2, 1), (3,))
    (2, 3)
    """
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError as failure:
        raise error("TG-S001", op="broadcast_shapes", shapes=joined(shapes)) from failure


def broadcast_tensors(*tensors: Any) -> tuple[Any, ...]:
    """All tensors expanded to their common shape."""
    several: Sequence[Any] = _sizes(tensors)
    shape = broadcast_shapes(*[x.shape for x in several])
    return tuple([_expand(x, shape) for x in several])


# ---- the same elements in another shape ----------------------------------------------------------


def _reshape_case(pick: Any) -> Any:
    shape = pick.shape(min_dims=0, max_dims=3)
    target = pick.choice([(-1,), tuple(shape)[::-1], (1, *shape), (*shape, 1)])
    if 0 in shape and -1 in target:
        target = (0,)
    return (pick.array(shape), target), {}


def not_reshapable(shape: Sequence[int], size: Any) -> Exception:
    """The error of a reshape that does not fit."""
    return error(
        "TG-S002",
        op="reshape",
        rule=(
            "the sizes multiply to the number of elements, and at most one of them is -1",
            "大きさの積が要素数に等しく、-1 は 1 つまで",
        ),
        shapes=f"{tuple(shape)} ({math.prod(shape)} elements) to {size}",
        fix=(
            "correct the sizes, or leave one of them to be computed with -1.",
            "大きさを直すか、1 つを -1 にして計算させてください。",
        ),
    )


@linear(lambda g, shape: _reshape(g, shape), cases=_reshape_case)
def _reshape(xp: Any, input: Array, size: tuple[int, ...]) -> Array:
    """The same elements in the same order in another shape; the transpose goes back to the input's shape."""
    try:
        return input.reshape(size)
    except (ValueError, TypeError) as failure:
        raise not_reshapable(input.shape, size) from failure


def reshape(input: Any, *shape: Any) -> Any:
    """The same elements, in row-major order, in another shape; one size may be -1.

    shape: ints or one tuple. Raises ShapeError when the number of elements differs. The transpose is ``reshape`` back.

    >>> import tinygrad_ja as tg
    >>> tg.tensor([1.0, 2.0, 3.0, 4.0]).reshape(2, -1)
    tensor([[1., 2.],
            [3., 4.]])
    """
    return _reshape(input, _sizes(shape))


def view(input: Any, *shape: Any) -> Any:
    """The same as ``reshape``: tensors are values here, so nobody can tell a view from a copy."""
    return _reshape(input, _sizes(shape))


def reshape_as(input: Any, other: Any) -> Any:
    """``reshape`` to the shape of ``other``."""
    return _reshape(input, other.shape)


def view_as(input: Any, other: Any) -> Any:
    """``reshape`` to the shape of ``other``."""
    return _reshape(input, other.shape)


def ravel(input: Any) -> Any:
    """All elements along one axis."""
    return _reshape(input, (-1,))


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Join the axes ``start_dim`` to ``end_dim`` into one.

    >>> import tinygrad_ja as tg
    >>> tg.zeros(2, 3, 4).flatten(1).shape
    (2, 12)
    """
    shape = input.shape
    start, end = dimension("flatten", start_dim, shape), dimension("flatten", end_dim, shape)
    if start > end:
        rule = ("start_dim is not behind end_dim", "start_dim は end_dim より後ろでないこと")
        raise error(
            "TG-A001",
            op="flatten",
            argument="start_dim",
            value=start_dim,
            rule=rule,
            fix=("exchange the two.", "2 つを入れ替えてください。"),
        )
    return _reshape(input, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


def unflatten(input: Any, dim: int, sizes: Sequence[int]) -> Any:
    """Split the axis ``dim`` into axes of ``sizes``, one of which may be -1.

    >>> import tinygrad_ja as tg
    >>> tg.zeros(2, 12).unflatten(1, (3, -1)).shape
    (2, 3, 4)
    """
    shape = input.shape
    dim = dimension("unflatten", dim, shape)
    sizes = list(sizes)
    if sizes.count(-1) == 1:
        others = math.prod([n for n in sizes if n != -1])
        sizes[sizes.index(-1)] = shape[dim] // others if others else 0
    if math.prod(sizes) != shape[dim]:
        raise not_reshapable(shape, (*shape[:dim], *sizes, *shape[dim + 1 :]))
    return _reshape(input, (*shape[:dim], *sizes, *shape[dim + 1 :]))


def squeeze(input: Any, dim: int | Sequence[int] | None = None) -> Any:
    """Drop axes of size 1: all of them, or those of ``dim`` (an int or a tuple) that have size 1.

    >>> import tinygrad_ja as tg
    >>> tg.zeros(1, 2, 1).squeeze(-1).shape
    (1, 2)
    """
    shape = input.shape
    dims = range(len(shape)) if dim is None else _dims("squeeze", dim, shape)
    return _reshape(input, tuple([n for i, n in enumerate(shape) if n != 1 or i not in dims]))


def unsqueeze(input: Any, dim: int) -> Any:
    """Insert an axis of size 1 at ``dim``, -(ndim + 1) <= dim <= ndim.

    >>> import tinygrad_ja as tg
    >>> tg.zeros(2, 3).unsqueeze(-1).shape
    (2, 3, 1)
    """
    shape = input.shape
    dim = dimension("unsqueeze", dim, shape, 1)
    return _reshape(input, (*shape[:dim], 1, *shape[dim:]))


def _at_least(ndim: int, tensors: Sequence[Any]) -> Any:
    if len(tensors) != 1 or isinstance(tensors[0], (tuple, list)):
        return tuple([_at_least(ndim, (x,)) for x in _sizes(tuple(tensors))])
    x = tensors[0]
    shape = tuple(x.shape)
    if len(shape) >= ndim:
        return x
    if ndim == 3:
        return _reshape(x, {0: (1, 1, 1), 1: (1, *shape, 1), 2: (*shape, 1)}[len(shape)])
    return _reshape(x, (1,) * (ndim - len(shape)) + shape)


def atleast_1d(*tensors: Any) -> Any:
    """The tensor itself, or (1,) from a scalar; a tuple for several tensors."""
    return _at_least(1, tensors)


def atleast_2d(*tensors: Any) -> Any:
    """Axes of size 1 in front until there are two; a tuple for several tensors."""
    return _at_least(2, tensors)


def atleast_3d(*tensors: Any) -> Any:
    """Three axes at least, (n,) becomes (1, n, 1) and (m, n) becomes (m, n, 1); a tuple for several tensors."""
    return _at_least(3, tensors)


# ---- axes in another order -----------------------------------------------------------------------


def _transpose_case(pick: Any) -> Any:
    shape = pick.shape(min_dims=1, max_dims=3)
    return (pick.array(shape), pick.axis(len(shape)), pick.axis(len(shape))), {}


def _permute_case(pick: Any) -> Any:
    shape = pick.shape(min_dims=1, max_dims=4, min_side=1, max_side=3)
    left = list(range(len(shape)))
    dims = tuple([left.pop(pick.integer(0, len(left) - 1)) for _ in shape])
    return (pick.array(shape), dims), {}


@linear(lambda g, dim0, dim1: _transpose(g, dim0, dim1), cases=_transpose_case)
def _transpose(xp: Any, input: Array, dim0: int, dim1: int) -> Array:
    """Exchange two axes; its own transpose."""
    return input.swapaxes(dim0, dim1)


@linear(lambda g, dims: _permute(g, _inverse(dims)), cases=_permute_case)
def _permute(xp: Any, input: Array, dims: tuple[int, ...]) -> Array:
    """Axes in the order ``dims``; the transpose is the inverse order."""
    return input.transpose(dims)


def _inverse(dims: Sequence[int]) -> tuple[int, ...]:
    return tuple([dims.index(place) for place in range(len(dims))])


def transpose(input: Any, dim0: int, dim1: int) -> Any:
    """Exchange the axes ``dim0`` and ``dim1``.

    >>> import tinygrad_ja as tg
    >>> tg.zeros(2, 3, 4).transpose(0, -1).shape
    (4, 3, 2)
    """
    ndim = input.ndim
    if not (-ndim <= dim0 < ndim and -ndim <= dim1 < ndim):
        dimension("transpose", dim0, input.shape)
        dimension("transpose", dim1, input.shape)
        return input  # a 0-d tensor
    return _transpose(input, dim0, dim1)


def swapaxes(input: Any, axis0: int, axis1: int) -> Any:
    """The same as ``transpose``."""
    return transpose(input, axis0, axis1)


def swapdims(input: Any, dim0: int, dim1: int) -> Any:
    """The same as ``transpose``."""
    return transpose(input, dim0, dim1)


def permute(input: Any, *dims: Any) -> Any:
    """Axes in the order ``dims`` (ints or one tuple, each axis once).

    >>> import tinygrad_ja as tg
    >>> tg.zeros(2, 3, 4).permute(2, 0, 1).shape
    (4, 2, 3)
    """
    shape = input.shape
    ndim = len(shape)
    order = tuple([dim + ndim if dim < 0 else dim for dim in _sizes(dims)])
    if sorted(order) != list(range(ndim)):
        order = _dims("permute", _sizes(dims), shape)
        rule = (
            f"all {len(shape)} axes of shape {tuple(shape)} are named",
            f"形状 {tuple(shape)} の {len(shape)} 個の次元をすべて指定すること",
        )
        raise error(
            "TG-A001",
            op="permute",
            argument="dims",
            value=order,
            rule=rule,
            fix=("name every axis once.", "どの次元も 1 度ずつ指定してください。"),
        )
    return _permute(input, order)


def movedim(input: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Any:
    """Move the axes ``source`` to the places ``destination``; the others keep their order.

    >>> import tinygrad_ja as tg
    >>> tg.zeros(2, 3, 4).movedim(-1, 0).shape
    (4, 2, 3)
    """
    shape = input.shape
    origins, places = _dims("movedim", source, shape), _dims("movedim", destination, shape)
    if len(origins) != len(places):
        rule = ("as many destinations as sources", "source と同じ個数の destination")
        raise error(
            "TG-A001",
            op="movedim",
            argument="destination",
            value=destination,
            rule=rule,
            fix=("name one place per axis.", "次元ごとに移動先を 1 つ指定してください。"),
        )
    order = [dim for dim in range(len(shape)) if dim not in origins]
    for place, origin in sorted(zip(places, origins)):
        order.insert(place, origin)
    return _permute(input, tuple(order))


moveaxis = movedim


def t(input: Any) -> Any:
    """Transpose of a matrix; a 0-d or 1-d tensor comes back as it is. Raises ShapeError for more axes."""
    if input.ndim > 2:
        fix = (
            "use x.mT for the last two axes, or transpose(dim0, dim1).",
            "最後の 2 次元なら x.mT、そうでなければ transpose(dim0, dim1) を使ってください。",
        )
        raise error("TG-S002", op="t", rule=("at most 2 axes", "2 次元以下"), shapes=str(tuple(input.shape)), fix=fix)
    return _transpose(input, 0, 1) if input.ndim == 2 else input


def _reverse_axes(input: Tensor) -> Tensor:
    """All axes in reverse order; for a matrix its transpose."""
    ndim = input.ndim
    if ndim == 2:
        return _transpose(input, 0, 1)
    return _permute(input, tuple(range(ndim))[::-1]) if ndim > 2 else input


def _transpose_matrices(input: Tensor) -> Tensor:
    """The last two axes exchanged."""
    if input.ndim < 2:
        fix = ("reshape it to a row or a column first.", "先に行ベクトルか列ベクトルに reshape してください。")
        raise error("TG-S002", op="mT", rule=("at least 2 axes", "2 次元以上"), shapes=str(tuple(input.shape)), fix=fix)
    return _transpose(input, -2, -1)


attach(expand, expand_as, sum_to_size, broadcast_to, reshape, reshape_as, view, view_as, ravel, flatten, unflatten)
attach(squeeze, unsqueeze, transpose, swapaxes, swapdims, permute, movedim, t, moveaxis=moveaxis)
attach(T=property(_reverse_axes), mT=property(_transpose_matrices))  # type: ignore[arg-type]
