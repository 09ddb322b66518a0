"""Operators that look elements up by index or by mask, and their transposes, which add what arrives at the same place.

Each index is an array argument without a derivative. On the CPU an index out of range raises; on a GPU it wraps around unnoticed,
because looking would wait for the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES, is_array, meet
from ..core.operator import Array, Constant, elementwise, linear, primitive
from ..core.promotion import autocasts, mixed_devices
from ..core.tensor import Tensor
from ..errors import error, joined
from .indexing import _as_operand, _getitem, _index_put, _zero_at, index_error
from .methods import attach, attach_in_place
from .shape import _expand, _reshape, broadcast_shapes, dimension

__all__ = [
    "argwhere",
    "gather",
    "index_add",
    "index_copy",
    "index_fill",
    "index_select",
    "masked_fill",
    "masked_select",
    "nonzero",
    "scatter",
    "scatter_add",
    "take",
    "take_along_dim",
]


# ---- slices along one axis: index_select, embedding, x[indices] ----------------------------------


def _select_case(pick: Any) -> Any:
    shape = pick.shape(min_dims=1, min_side=1)
    dim = pick.integer(0, len(shape) - 1)
    index = pick.indices(pick.choice([(), (1,), (5,), (2, 3), (0,)]), shape[dim])
    return (pick.array(shape), dim, index, pick.choice([None, 0])), {}


def _add_slices_case(pick: Any) -> Any:
    (x, dim, index, padding), _ = _select_case(pick)
    shape = x.shape
    return (pick.array((*shape[:dim], *index.shape, *shape[dim + 1 :])), shape, dim, index, padding), {}


@linear(
    lambda g, shape, dim, index, padding: _add_slices(g, shape, dim, index, padding),
    # a padding index stops the gradient only, so finite differences are asked without one
    cases=lambda pick: ((*_select_case(pick)[0][:3],), {}),
)
def _index_select(xp: Any, input: Array, dim: int, index: Constant, padding: int | None = None) -> Array:
    """Slices of the input along ``dim`` by number; the axes of ``index`` take the place of that axis. The slice number ``padding``
    receives no gradient."""
    try:
        return xp.take(input, index, dim)
    except IndexError as failure:
        raise index_error("index_select", input.shape, (slice(None),) * dim + (index,)) from failure


@linear(lambda g, dim, index, padding: _take_slices(g, dim, index, padding), cases=_add_slices_case)
def _add_slices(xp: Any, input: Array, size: tuple[int, ...], dim: int, index: Constant, padding: int | None = None) -> Array:
    """Zeros of shape ``size`` to which each slice of the input is added at its number along ``dim``; slice ``padding`` stays zero."""
    made = xp.zeros(size, dtype=input.dtype)
    front = (slice(None),) * dim
    xp.add.at(made, (*front, index), input)
    if padding is not None:
        row = (*front, padding)
        made[row] = 0
    return made


def _take_slices(g: Any, dim: int, index: Any, padding: int | None) -> Any:
    if padding is not None:
        g = _zero_at(g, (slice(None),) * dim + (padding,))
    return _index_select(g, dim, index, padding)


def _index_of(op: str, input: Any, index: Any, size: int, dim: int, negative: bool = False) -> Any:
    """The array of an index argument: integers on the input's device, none of them negative (seen on the CPU only) unless allowed."""
    array = index.array if type(index) is Tensor else index
    if not is_array(array):
        raise error("TG-T002", op=op, argument="index", type=type(index).__name__)
    if array.dtype.kind not in "iu":
        raise error("TG-T004", op=op, dtype=array.dtype, allowed=("an integer dtype", "整数の dtype"), fix="tg.int64")
    held = getattr(input, "array", input)
    if not meet(array, held):
        raise mixed_devices(_index_select.operator, (held, array))  # type: ignore[attr-defined]
    if not negative and type(array) is np.ndarray and array.size:
        worst = min if (least := int(np.minimum.reduce(array, None))) < 0 else max
        index = worst(least, int(np.maximum.reduce(array, None)))
        if index < 0 or 0 < size <= index:
            raise error("TG-I002", op=op, index=index, size=size, shape=tuple(input.shape), first=0, last=size - 1)
    return array


def index_select(input: Any, dim: int, index: Any) -> Any:
    """The slices along ``dim`` whose numbers are in ``index``, a 1-d integer tensor. The derivative adds each slice's cotangent at
    its number.

    >>> import tinygrad_ja as tg
    >>> tg.index_select(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), 1, tg.tensor([1, 1]))
    tensor([[2., 2.],
            [4., 4.]])
    """
    shape = tuple(input.shape)
    axis = dimension("index_select", dim, shape)
    array = _index_of("index_select", input, index, shape[axis] if shape else 1, axis)
    if array.ndim > 1:
        rule = ("index has at most 1 axis", "index は 1 次元以下")
        raise error(
            "TG-S002",
            op="index_select",
            rule=rule,
            shapes=str(tuple(array.shape)),
            fix=("use input[index].", "input[index] を使ってください。"),
        )
    if not shape:
        return _reshape(_index_select(_reshape(input, (1,)), 0, _reshape(array, (-1,))), ())
    return _index_select(input, axis, _reshape(array, (-1,)) if not array.ndim else array)


def index_add(input: Any, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Any:
    """The input with ``alpha`` times each slice of ``source`` added at its number in ``index`` along ``dim``; repeats add up.

    >>> import tinygrad_ja as tg
    >>> tg.zeros(3).index_add(0, tg.tensor([0, 0, 2]), tg.tensor([1.0, 2.0, 3.0]))
    tensor([3., 0., 3.])
    """
    shape = tuple(input.shape)
    axis = dimension("index_add", dim, shape)
    if not shape:
        return _reshape(index_add(_reshape(input, (1,)), axis, index, source, alpha=alpha), ())
    array = _index_of("index_add", input, index, shape[axis], axis)
    array = array if array.ndim else array.reshape(-1)
    _need_slices("index_add", shape, axis, array, source)
    added = _add_slices(source, shape, axis, array)
    return input + (added if alpha == 1 else added * alpha)


def _need_slices(op: str, shape: tuple[int, ...], axis: int, index: Any, source: Any) -> None:
    expected = (*shape[:axis], *index.shape, *shape[axis + 1 :])
    if index.ndim != 1 or tuple(source.shape) != expected:
        rule = (
            "index (K), source like the input but with K slices along dim",
            "index は (K)、source は dim に K 個のスライスがあり、ほかは input と同じ",
        )
        shapes = f"input {shape}, index {tuple(index.shape)}, source {tuple(source.shape)}"
        raise error(
            "TG-S002",
            op=op,
            rule=rule,
            shapes=shapes,
            fix=(f"give a source of shape {expected}.", f"形状 {expected} の source を渡してください。"),
        )


def index_copy(input: Tensor, dim: int, index: Any, source: Tensor) -> Tensor:
    """The input with the slices of ``source`` in place of those whose numbers are in ``index`` along ``dim``."""
    shape = tuple(input.shape)
    axis = dimension("index_copy", dim, shape)
    if not shape:
        return _reshape(index_copy(_reshape(input, (1,)), axis, index, source), ())
    array = _index_of("index_copy", input, index, shape[axis], axis)
    array = array if array.ndim else array.reshape(-1)
    _need_slices("index_copy", shape, axis, array, source)
    return _index_put(input, _as_operand(input, source), (slice(None),) * axis + (array,))


def index_fill(input: Tensor, dim: int, index: Any, value: Any) -> Tensor:
    """The input with ``value``, a number or a 0-d tensor, in the slices whose numbers are in ``index`` along ``dim``."""
    axis = dimension("index_fill", dim, input.shape)
    if not input.ndim:
        return _reshape(index_fill(_reshape(input, (1,)), axis, index, value), ())
    array = _index_of("index_fill", input, index, input.shape[axis], axis, negative=True)
    return _index_put(input, _as_operand(input, value), (slice(None),) * axis + (array,))


def take(input: Any, index: Any) -> Any:
    """Elements of the flattened input by number, in the shape of ``index``.

    >>> import tinygrad_ja as tg
    >>> tg.take(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), tg.tensor([0, 3]))
    tensor([1., 4.])
    """
    return _index_select(_reshape(input, (-1,)), 0, index)


# ---- one element for each position: gather and scatter -------------------------------------------


def _gather_case(pick: Any) -> Any:
    shape = pick.shape(min_dims=1, min_side=1)
    dim = pick.integer(0, len(shape) - 1)
    wanted = [pick.integer(0 if n > 3 else 1, n) for n in shape]
    wanted[dim] = pick.integer(1, 5)
    return (pick.array(shape), dim, pick.indices(tuple(wanted), shape[dim])), {}


def _scatter_case(pick: Any) -> Any:
    (x, dim, index), _ = _gather_case(pick)
    return (pick.array(index.shape), x.shape, dim, index), {}


def _grid(xp: Any, dim: int, index: Any) -> tuple[Any, ...]:
    """Index arrays that name for each position of ``index`` that position, but ``index`` itself along ``dim``."""
    ndim = index.ndim
    ranges = [xp.arange(n).reshape((n,) + (1,) * (ndim - 1 - axis)) for axis, n in enumerate(index.shape)]
    ranges[dim] = index
    return tuple(ranges)


@linear(lambda g, shape, dim, index: _scatter_zeros(g, shape, dim, index), cases=_gather_case)
def _gather(xp: Any, input: Array, dim: int, index: Constant) -> Array:
    """``y[i, j, k] = x[i, index[i, j, k], k]`` for dim 1; the transpose adds each element's cotangent where it came from."""
    grid = _grid(xp, dim, index)
    try:
        return input[grid]
    except IndexError as failure:
        raise index_error("gather", input.shape, grid) from failure


@linear(lambda g, dim, index: _gather(g, dim, index), cases=_scatter_case)
def _scatter_zeros(xp: Any, input: Array, size: tuple[int, ...], dim: int, index: Constant) -> Array:
    """Zeros of shape ``size`` to which ``x[i, j, k]`` is added at ``[i, index[i, j, k], k]`` for dim 1: the transpose of gather."""
    made = xp.zeros(size, dtype=input.dtype)
    grid = _grid(xp, dim, index)
    try:
        xp.add.at(made, grid, input)
    except IndexError as failure:
        raise index_error("scatter_add", size, grid) from failure
    return made


def _gather_arguments(op: str, input: Any, dim: int, index: Any) -> tuple[int, Any]:
    """The axis and the index array of a gather or scatter, checked: as many axes as the input, none longer except along ``dim``."""
    shape = tuple(input.shape)
    axis = dimension(op, dim, shape)
    array = _index_of(op, input, index, shape[axis] if shape else 1, axis)
    longer = [n > m for i, (n, m) in enumerate(zip(array.shape, shape)) if i != axis]
    if array.ndim != len(shape) or True in longer:
        rule = (
            "index has as many axes as the input, and no axis longer except dim",
            "index の次元数は input と同じで、dim 以外の次元は input の大きさ以下",
        )
        shapes = f"input {shape}, index {tuple(array.shape)}"
        raise error(
            "TG-S002",
            op=op,
            rule=rule,
            shapes=shapes,
            fix=("unsqueeze, expand or slice the index.", "index を unsqueeze、expand、スライスなどで合わせてください。"),
        )
    return axis, array


def gather(input: Any, dim: int, index: Any, *, sparse_grad: bool = False) -> Any:
    """For each position of ``index`` the input's element at that position, with the index in place of the coordinate ``dim``:
    ``y[i, j] = x[i, index[i, j]]`` for dim 1.

    index: integer tensor of as many axes as the input, not longer except along ``dim``. The derivative is ``scatter_add``.

    >>> import tinygrad_ja as tg
    >>> tg.gather(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), 1, tg.tensor([[1], [0]]))
    tensor([[2.],
            [3.]])
    """
    if not input.ndim and index.ndim == 1:
        input = _reshape(input, (1,))
    axis, array = _gather_arguments("gather", input, dim, index)
    if not array.ndim:
        return _reshape(_gather(_reshape(input, (1,)), 0, _reshape(array, (1,))), ())
    return _gather(input, axis, array)


def _first_part(src: Any, shape: Sequence[int], op: str) -> Any:
    """``src`` cut to the shape of the index."""
    if tuple(src.shape) == tuple(shape):
        return src
    if src.ndim != len(shape) or any([n < m for n, m in zip(src.shape, shape)]):
        shapes = f"src {tuple(src.shape)}, index {tuple(shape)}"
        raise error(
            "TG-S002",
            op=op,
            rule=("src is at least as large as index", "src はどの次元も index の大きさ以上"),
            shapes=shapes,
            fix=("slice the index.", "index をスライスしてください。"),
        )
    return _getitem(src, tuple([slice(0, n) for n in shape]))


@autocasts("widest")
def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Any:
    """The input with each element of ``src`` added at its position, with ``index`` in place of the coordinate ``dim``; repeats add up.
    The derivative of ``src`` is ``gather``.

    >>> import tinygrad_ja as tg
    >>> tg.zeros(3).scatter_add(0, tg.tensor([0, 0, 2]), tg.tensor([1.0, 2.0, 3.0]))
    tensor([3., 0., 3.])
    """
    axis, array = _gather_arguments("scatter_add", input, dim, index)
    part = _first_part(src, array.shape, "scatter_add")
    if not array.ndim:
        return input + part
    return input + _scatter_zeros(part, tuple(input.shape), axis, array)


def scatter(input: Tensor, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: str | None = None) -> Tensor:
    """The input with the elements of ``src`` (or one ``value``) at their positions, with ``index`` in place of the coordinate ``dim``.
    Which of several elements for the same place wins is not defined. ``reduce="add"`` adds instead.

    >>> import tinygrad_ja as tg
    >>> tg.zeros(2, 3).scatter(1, tg.tensor([[2], [0]]), 1.0)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    axis, array = _gather_arguments("scatter", input, dim, index)
    src = value if src is None else src
    part = _as_operand(input, src)
    part = _first_part(part, array.shape, "scatter") if part.ndim or type(src) is Tensor else part
    if reduce == "add":
        return scatter_add(input, dim, array, _expand(part, array.shape))
    if reduce is not None:
        raise error(
            "TG-A001",
            op="scatter",
            argument="reduce",
            value=reduce,
            rule=("None or 'add'", "None か 'add'"),
            fix=("use scatter_reduce.", "scatter_reduce を使ってください。"),
        )
    if not array.ndim:
        return input * 0 + part
    return _index_put(input, part, _grid(ARRAY_MODULES[type(array)], axis, array))


def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Any:
    """``gather`` after the other axes of the input and of ``indices`` were broadcast together; without ``dim``, of the flattened input.

    >>> import tinygrad_ja as tg
    >>> x = tg.tensor([[3.0, 1.0], [2.0, 4.0]])
    >>> tg.take_along_dim(x, tg.tensor([[1, 0], [0, 1]]), dim=1)
    tensor([[1., 3.],
            [2., 4.]])
    """
    if dim is None:
        return gather(_reshape(input, (-1,)), 0, _reshape(indices, (-1,)))
    shape, wanted = list(input.shape), list(indices.shape)
    axis = dimension("take_along_dim", dim, shape)
    if len(wanted) != len(shape):
        rule = ("indices has as many axes as the input", "indices の次元数は input と同じ")
        raise error(
            "TG-S002",
            op="take_along_dim",
            rule=rule,
            shapes=joined((tuple(shape), tuple(wanted))),
            fix=("unsqueeze it.", "unsqueeze してください。"),
        )
    sizes = shape[axis], wanted[axis]
    shape[axis] = wanted[axis] = 1
    common = list(broadcast_shapes(tuple(shape), tuple(wanted)))
    grown = [(*common[:axis], size, *common[axis + 1 :]) for size in sizes]
    return gather(_expand(input, grown[0]), axis, _expand(indices, grown[1]))


# ---- masks ---------------------------------------------------------------------------------------


def _masked_fill_case(pick: Any) -> Any:
    shape, mask = pick.broadcastable(2)
    return (pick.array(shape), pick.mask(mask), pick.choice([pick.array(()), 0.5])), {}


@elementwise(
    lambda g, mask: _masked_fill(g, mask, 0),
    lambda g, mask: _masked_fill(g, ~mask, 0),
    cases=_masked_fill_case,
)
def _masked_fill(xp: Any, input: Array, mask: Constant, value: Array) -> Array:
    """``value`` where the mask is True, else the input. Where it is True the cotangent goes to the value, else to the input."""
    return xp.where(mask, value, input)


def _mask_of(op: str, mask: Any) -> Any:
    array = mask.array if type(mask) is Tensor else mask
    if not is_array(array):
        raise error("TG-T002", op=op, argument="mask", type=type(mask).__name__)
    if array.dtype.kind != "b":
        raise error("TG-T004", op=op, dtype=array.dtype, allowed="bool", fix="tg.bool")
    return array


def masked_fill(input: Any, mask: Any, value: Any) -> Any:
    """``value``, a number or a 0-d tensor, where the bool ``mask`` is True, else the input; both broadcast. The dtype stays the input's.

    The cotangent of the filled elements goes to ``value``, that of the others to the input.

    >>> import tinygrad_ja as tg
    >>> tg.tensor([1.0, 2.0]).masked_fill(tg.tensor([True, False]), -1.0)
    tensor([-1.,  2.])
    """
    dtype = input.dtype
    if type(value) is Tensor or hasattr(value, "dtype"):
        if value.ndim:
            shapes = str(tuple(value.shape))
            raise error(
                "TG-S002",
                op="masked_fill",
                rule=("value has no axes", "value は 0 次元"),
                shapes=shapes,
                fix=("use where.", "where を使ってください。"),
            )
    elif dtype.kind != "f" and isinstance(value, float):
        if not value.is_integer():
            raise error("TG-T006", actual="float", expected=dtype)
        value = int(value)
    if dtype.kind == "b" and not hasattr(value, "dtype"):
        value = bool(value)
    elif dtype.kind in "iu" and not hasattr(value, "dtype") and not -(limit := int(np.iinfo(dtype).max)) - 1 <= value <= limit:
        rule = (f"a number of dtype {dtype}", f"dtype {dtype} で表せる数")
        fix = ("convert the input to a wider dtype.", "input をもっと広い dtype にしてください。")
        raise error("TG-A001", op="masked_fill", argument="value", value=value, rule=rule, fix=fix)
    return _masked_fill(input, _mask_of("masked_fill", mask), value)


def masked_select(input: Any, mask: Any) -> Any:
    """The elements where the bool ``mask`` is True, as a 1-d tensor; input and mask broadcast. On a GPU this waits for the count.

    >>> import tinygrad_ja as tg
    >>> x = tg.tensor([1.0, 2.0, 3.0])
    >>> tg.masked_select(x, x > 1.5)
    tensor([2., 3.])
    """
    array = _mask_of("masked_select", mask)
    shape = broadcast_shapes(tuple(input.shape), tuple(array.shape))
    if not shape:
        input, array, shape = _reshape(input, (1,)), _reshape(array, (1,)), (1,)
    if tuple(array.shape) != shape:
        array = ARRAY_MODULES[type(array)].broadcast_to(array, shape)
    return _getitem(input if tuple(input.shape) == shape else _expand(input, shape), (array,))


def _integers_case(pick: Any) -> Any:
    return (pick.indices(pick.shape(), 3),), {}


@primitive(cases=_integers_case, syncs="the number of elements that are not zero is the size of the result")
def argwhere(xp: Any, input: Array) -> Array:
    """Coordinates of the elements that are not zero, int64 of shape (count, ndim), in row-major order. No derivative.

    >>> import tinygrad_ja as tg
    >>> tg.argwhere(tg.tensor([[0, 1], [1, 0]]))
    tensor([[0, 1],
            [1, 0]])
    """
    return xp.argwhere(input)


def nonzero(input: Any, *, as_tuple: bool = False) -> Any:
    """``argwhere``; with ``as_tuple=True`` one 1-d tensor per axis, which together are an index.

    >>> import tinygrad_ja as tg
    >>> tg.nonzero(tg.tensor([0, 5, 7]), as_tuple=True)
    (tensor([1, 2]),)
    """
    found = argwhere(_reshape(input, (1,)) if as_tuple and not input.ndim else input)
    return tuple([_getitem(found, (slice(None), axis)) for axis in range(found.shape[1])]) if as_tuple else found


def one_hot(input: Any, num_classes: int = -1) -> Any:
    """Int64 vectors that are 1 at the class and 0 elsewhere, shape ``input.shape + (num_classes,)`` (``nn.functional.one_hot``).

    input: int64 classes, 0 <= class < num_classes; -1 for ``num_classes`` means the largest class + 1. No derivative. Raises
    AxisError for a class out of range (on the CPU).

    >>> import tinygrad_ja as tg
    >>> one_hot(tg.tensor([0, 2]))
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    shape = tuple(input.shape)
    held = getattr(input, "array", input)
    array = _index_of("one_hot", held, input, max(num_classes, 0), 0)
    if num_classes < 0:
        if not math.prod(shape):
            rule = ("it is given for a tensor without elements", "要素のないテンソルでは指定が必要")
            raise error(
                "TG-A001",
                op="one_hot",
                argument="num_classes",
                value=num_classes,
                rule=rule,
                fix=("pass num_classes.", "num_classes を渡してください。"),
            )
        num_classes = int(array.max()) + 1
    elif type(array) is np.ndarray and array.size and array.max() >= num_classes:
        worst = int(array.max())
        raise error("TG-I002", op="one_hot", index=worst, size=num_classes, shape=shape, first=0, last=num_classes - 1)
    xp = ARRAY_MODULES[type(array)]
    made = (array[..., None] == xp.arange(num_classes)).astype(np.int64)
    return Tensor(made) if type(input) is Tensor else made


attach(index_select, index_add, index_copy, index_fill, take, gather, scatter_add, scatter, take_along_dim)
attach(masked_fill, masked_select, argwhere, nonzero)
attach_in_place(index_add, index_copy, index_fill, scatter_add, scatter, masked_fill)
