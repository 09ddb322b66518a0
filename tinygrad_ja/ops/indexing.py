"""``x[index]`` and ``x[index] = value``.

An index is first taken apart as PyTorch reads it: ints, slices, None and ... come first, then the integer and bool tensors. (NumPy
treats an int among arrays as one more array, and puts the axes of ``x[0, :, i]`` in another order.) ``getitem`` is linear; its
transpose adds the cotangent into zeros, and that one's transpose is ``getitem`` again, so every order of derivative is these two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES, BY_TYPE, is_array, meet, place_of
from ..backend.devices import device_of, move
from ..core.modes import modes
from ..core.operator import OPERATORS, Array, linear, primitive
from ..core.promotion import autocasts, cast_to, mixed_devices
from ..core.tensor import Tensor
from ..errors import Phrase, error, joined
from .methods import attach, attach_in_place
from .shape import _expand, _reshape, _sum_to_size, dimension

__all__ = ["index_put", "narrow", "select", "select_scatter", "slice_scatter"]

_ALL = slice(None)


# ---- reading an index ----------------------------------------------------------------------------


def _is_mask(item: Any) -> bool:
    return hasattr(item, "dtype") and item.dtype.kind == "b"


def _is_all(item: Any) -> bool:
    return type(item) is slice and item.start is None and item.stop is None and item.step is None


def _invalid(input: Any, reason: Phrase) -> Exception:
    return error("TG-I003", op="getitem", shape=tuple(input.shape), reason=reason, ndim=input.ndim)


def _array_item(input: Any, item: Any) -> Any:
    """One part of an index that is no plain int, slice, None or ...: an int, or an integer or bool array on the input's device."""
    if isinstance(item, np.generic) or (isinstance(item, np.ndarray) and item.ndim == 0 and item.dtype.kind in "iu"):
        item = item.item()
    if type(item) is int:
        return item
    array = item.array if type(item) is Tensor else item
    if isinstance(array, (bool, list, range)):
        array = np.asarray(
            [part.tolist() if hasattr(part, "tolist") else part for part in array] if type(array) is list else array
        )
        array = array if array.size else array.astype(np.int64)
    if not is_array(array):
        raise _invalid(input, (f"an index of type {type(item).__name__}", f"型 {type(item).__name__} の添字"))
    if array.dtype.kind not in "biu" or array.dtype == np.uint8:
        raise _invalid(input, (f"an index of dtype {array.dtype}", f"dtype {array.dtype} の添字"))
    held = getattr(input, "array", input)
    place = device_of(held)
    if meet(array, held) and place_of(array)[0] == place.type:
        return array
    if place_of(array)[0] != "cpu":
        raise mixed_devices(_getitem.operator, (held, array))  # type: ignore[attr-defined]
    return move(array, place)


def _read(input: Any, index: Any) -> tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]:
    """``(basic, advanced)``: what to apply first and then; None where there is nothing to do."""
    items: list[Any] = []
    arrays = 0
    plain = True
    for item in index if type(index) is tuple else (index,):
        if type(item) is slice:
            if item.step is not None and item.step <= 0:
                raise _invalid(
                    input,
                    (
                        f"the step {item.step} of a slice; tg.flip reverses an axis",
                        f"スライスの刻み {item.step} (逆順にするには tg.flip)",
                    ),
                )
            plain = plain and _is_all(item)
        elif type(item) is int or item is None:
            plain = False
        elif item is not Ellipsis:
            item = _array_item(input, item)
            arrays += type(item) is not int
            plain = plain and type(item) is not int and not (_is_mask(item) and item.ndim == 0)
        items.append(item)
    if not arrays:
        return tuple(items), None
    if arrays > 1:
        items = _separate(items)
        plain = plain and int not in [type(item) for item in items]
    return _stages(items, plain)


def _separate(items: list[Any]) -> list[Any]:
    """Several arrays in one index: a mask becomes the integer indices of its True elements, a 0-d integer array an int."""
    made: list[Any] = []
    for item in items:
        if _is_mask(item) and item.ndim:
            made.extend(ARRAY_MODULES[type(item)].nonzero(item))
        elif is_array(item) and item.ndim == 0 and not _is_mask(item):
            made.append(int(item))
        else:
            made.append(item)
    return made


def _stages(items: list[Any], plain: bool) -> tuple[tuple[Any, ...] | None, tuple[Any, ...]]:
    if plain:
        return None, tuple(items)
    basic: list[Any] = []
    advanced: list[Any] = []
    for item in items:
        if is_array(item) and _is_mask(item) and item.ndim == 0:  # a bool adds an axis of size 1 or 0
            basic.append(None)
            xp = ARRAY_MODULES[type(item)]
            advanced.append(xp.arange(int(item)))
        elif is_array(item):
            basic.extend([_ALL] * (item.ndim if _is_mask(item) else 1))
            advanced.append(item)
        else:
            basic.append(item)
            if type(item) is not int:
                advanced.append(item if item is Ellipsis else _ALL)
    return tuple(basic), tuple(advanced)


def _lone_array(advanced: tuple[Any, ...], ndim: int) -> tuple[int, Any] | None:
    """``(axis, array)`` when the index is one integer array and otherwise full slices."""
    found = None
    for place, item in enumerate(advanced):
        if type(item) is slice:
            continue
        if item is Ellipsis:
            if found is not None:
                break
            behind = advanced[place + 1 :]
            found = next(((ndim - len(behind) + i, a) for i, a in enumerate(behind) if is_array(a)), None)
            return None if found is None or _is_mask(found[1]) else found
        if found is not None or _is_mask(item):
            return None
        found = place, item
    return found


def index_error(op: str, shape: Sequence[int], index: Any) -> Exception:
    """The error of an index that failed: which axis and which value, or why the index cannot be for this shape."""
    items = list(index if type(index) is tuple else (index,))
    used = sum([item.ndim if _is_mask(item) else 1 for item in items if item is not None and item is not Ellipsis])
    reason = (f"{used} indices for {len(shape)} axes", f"{len(shape)} 次元に添字が {used} 個")
    if len([item for item in items if item is Ellipsis]) > 1:
        return error(
            "TG-I003", op=op, shape=tuple(shape), reason=("more than one ...", "... が 2 つ以上あります"), ndim=len(shape)
        )
    if used > len(shape):
        return error("TG-I003", op=op, shape=tuple(shape), reason=reason, ndim=len(shape))
    for place, item in enumerate(items):
        if item is Ellipsis:
            items[place : place + 1] = [_ALL] * (len(shape) - used)
            break
    axis = 0
    for item in items:
        if item is None:
            continue
        size = shape[axis]
        if _is_mask(item) and tuple(item.shape) != tuple(shape[axis : axis + item.ndim]):
            reason = (
                f"a mask of shape {tuple(item.shape)} for axes of shape {tuple(shape[axis : axis + item.ndim])}",
                f"形状 {tuple(shape[axis : axis + item.ndim])} の軸に形状 {tuple(item.shape)} のマスク",
            )
            return error("TG-I003", op=op, shape=tuple(shape), reason=reason, ndim=len(shape))
        outside = _outside(item, size)
        if outside is not None:
            return error("TG-I002", op=op, index=outside, size=size, shape=tuple(shape), first=-size, last=size - 1)
        axis += item.ndim if _is_mask(item) else 1
    shapes = joined([tuple(item.shape) for item in items if is_array(item)])
    given: Phrase = (
        (f"index shapes {shapes} that do not broadcast together", f"添字の形状 {shapes} はブロードキャストできません")
        if shapes
        else repr(index)
    )
    return error("TG-I003", op=op, shape=tuple(shape), reason=given, ndim=len(shape))


def _outside(item: Any, size: int) -> int | None:
    """A value of one index that an axis of ``size`` does not have."""
    if type(item) is int:
        return None if -size <= item < size else item
    if not is_array(item) or _is_mask(item):
        return None
    host = BY_TYPE[type(item)].to_host(item)
    wrong = host[(host < -size) | (host >= size)]
    return int(wrong.flat[0]) if wrong.size else None


# ---- the two transposes --------------------------------------------------------------------------


def _some_slice(pick: Any, size: int) -> slice:
    return slice(pick.integer(-2, size), pick.integer(0, size + 1), pick.integer(1, 2))


def _index_case(pick: Any) -> Any:
    """A shape and an index for it, as ``_read`` passes it on: all basic, or arrays and full slices."""
    shape = pick.shape(min_dims=1, max_dims=3, min_side=1)
    kind = pick.choice(["basic", "ellipsis", "arrays", "repeated", "mask"])
    if kind == "basic":
        items = [pick.integer(-n, n - 1) if pick.boolean() else _some_slice(pick, n) for n in shape]
        index = tuple(items[: pick.integer(1, len(items))])
    elif kind == "ellipsis":
        index = (None, Ellipsis, pick.integer(0, shape[-1] - 1))
    elif kind == "mask":
        index = (pick.mask(shape[: pick.integer(1, len(shape))]),)
    elif kind == "arrays":
        index = (pick.indices((2, 1), shape[0]), *[pick.indices((3,), n) for n in shape[1:2]])
    else:
        index = (pick.indices((5,), shape[0]) - shape[0] * pick.integer(0, 1),)
    return shape, index


def _getitem_case(pick: Any) -> Any:
    shape, index = _index_case(pick)
    return (pick.array(shape), index), {}


def _scatter_case(pick: Any) -> Any:
    shape, index = _index_case(pick)
    return (pick.array(np.zeros(shape)[index].shape), shape, index), {}


_MASK_SYNCS = "the size of x[mask] is known only after the mask was counted"


@linear(lambda g, shape, index: _add_at_zeros(g, shape, index), cases=_getitem_case, syncs=_MASK_SYNCS)
def _getitem(xp: Any, input: Array, index: Any) -> Array:
    """The part of the input at ``index``; the transpose adds the cotangent into zeros."""
    try:
        return input[index]
    except (IndexError, ValueError) as failure:
        raise index_error("getitem", input.shape, index) from failure


def repeats(index: tuple[Any, ...]) -> bool:
    """Whether an index may name an element more than once: integer arrays can."""
    return any([is_array(item) and not _is_mask(item) for item in index])


@linear(lambda g, index: _getitem(g, index), cases=_scatter_case, syncs=_MASK_SYNCS)
def _add_at_zeros(xp: Any, input: Array, size: tuple[int, ...], index: Any) -> Array:
    """Zeros of shape ``size`` to which the input is added at ``index``, as often as the index names an element."""
    made = xp.zeros(size, dtype=input.dtype)
    if type(index) is tuple and repeats(index):
        xp.add.at(made, index, input)
    else:
        made[index] = input
    return made


def getitem(input: Any, index: Any) -> Any:
    """``x[index]`` with an int, slice, None, ..., bool mask, integer tensor (or list), or a tuple of these, as PyTorch reads it.

    The result is a new value. Raises AxisError (an IndexError) for an index out of range (on the CPU; on a GPU it wraps around, as
    checking would wait), for too many indices, and for a slice with a negative step. The derivative adds the cotangent into zeros at
    ``index``.

    >>> import tinygrad_ja as tg
    >>> x = tg.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> x[1, 0], x[:, [1, 1]], x[x > 1.5]
    (tensor(3.), tensor([[2., 2.],
            [4., 4.]]), tensor([2., 3., 4.]))
    """
    if type(index) is int:
        if not input.ndim:
            raise error("TG-U004")
        return _getitem(input, index)
    if type(index) is Tensor and type(input) is Tensor:  # the usual x[indices] needs no reading
        array, held = index.array, input.array
        together = type(array) is type(held) and (type(held) is np.ndarray or place_of(array) == place_of(held))
        if together and array.dtype.kind == "i" and array.ndim and held.ndim:
            return OPERATORS["index_select"].public(input, 0, array)
    basic, advanced = _read(input, index)
    if basic is not None:
        input = _getitem(input, basic)
    if advanced is None:
        return input
    lone = _lone_array(advanced, input.ndim)
    if lone is None or not 0 <= lone[0] < input.ndim:
        return _getitem(input, advanced)
    return OPERATORS["index_select"].public(input, lone[0], lone[1])


# ---- writing a part ------------------------------------------------------------------------------


def _index_put_case(pick: Any) -> Any:
    shape, index = _index_case(pick)
    positions = np.arange(math.prod(shape)).reshape(shape)[index]
    if np.unique(positions).size < positions.size:  # which of several values wins is not defined
        index = (slice(0, 2),)
    part = np.zeros(shape)[index].shape
    value = part[pick.integer(0, len(part)) :]
    if pick.integer(0, 2) == 2:
        value = (1,) * pick.integer(1, 2) + part
    return (pick.array(shape), pick.array(value), index), {}


@linear(
    lambda g, index: _zero_at(g, index),
    cases=lambda pick: ((_index_put_case(pick)[0][0], (slice(0, 2),)), {}),
)
def _zero_at(xp: Any, input: Array, index: Any) -> Array:
    """The input with zeros at ``index``; its own transpose."""
    made = input.copy()
    made[index] = 0
    return made


@primitive(
    lambda g, index: _zero_at(g, index),
    lambda g, shape, index: _sum_to_value(_getitem(g, index), shape),
    cases=_index_put_case,
    syncs=_MASK_SYNCS,
)
def _index_put(xp: Any, input: Array, value: Array, index: Any) -> Array:
    """The input with ``value``, broadcast, at ``index``. The cotangent goes to the value there and to the input elsewhere."""
    made = input.copy()
    _write(made, index, value)
    return made


def _sum_to_value(g: Any, shape: tuple[int, ...]) -> Any:
    """Undo the broadcasting of an assigned value, which may have more axes of size 1 in front than the part."""
    more = max(0, len(shape) - g.ndim)
    g = _sum_to_size(g, shape[more:])
    return _reshape(g, shape)


def _write(array: Any, index: Any, value: Any) -> None:
    try:
        array[index] = value
    except IndexError as failure:
        raise index_error("setitem", array.shape, index) from failure
    except (ValueError, TypeError) as failure:
        try:
            part = tuple(array[index].shape)
        except IndexError:
            raise index_error("setitem", array.shape, index) from failure
        shape = tuple(getattr(value, "shape", ()))
        more = max(0, len(shape) - len(part))
        if more and math.prod(shape[:more]) == 1:  # PyTorch ignores such axes; NumPy only where no int or mask is in the index
            _write(array, index, value.reshape(shape[more:]))
        else:
            raise error("TG-S005", actual=shape, expected=part, shape=tuple(array.shape)) from failure


def _value_for(input: Tensor, value: Any) -> Any:
    """What is assigned: a Tensor as it is, else a number or an array on the input's device."""
    if type(value) is Tensor or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if not is_array(value):
        raise error("TG-T002", op="setitem", argument="value", type=type(value).__name__)
    return move(value, device_of(input.array))


def setitem(input: Tensor, index: Any, value: Any) -> None:
    """``x[index] = value``: give ``x`` a new value in which the part at ``index`` is ``value``, broadcast and in the dtype of ``x``.

    The tape knows: gradients of the part go to ``value``, the others to what ``x`` was before. Without a history the part is written
    in place; no other tensor changes. A failure leaves ``x`` as it was.

    Raises GradientError for a leaf that requires gradients while the tape records, ShapeError when the value does not broadcast to
    the part, AxisError for a bad index.
    """
    value = _value_for(input, value)
    basic, advanced = _read(input, index)
    aliases_leaf = type(getattr(input, "_role", None)) is Tensor  # x.data[i] = v
    moving = input.node is not None or (type(value) is Tensor and value.node is not None)
    differentiated = moving and modes.record is not None and not aliases_leaf and input.array.dtype.kind == "f"
    if differentiated or _is_recorded(input) or _is_recorded(value):
        input._assign(_with_part(input, _as_operand(input, value), basic, advanced))
        return
    if type(value) is Tensor:
        value = _on_device(input, value).array
    array = input._writable()
    if basic is None or advanced is None:
        _write(array, advanced if basic is None else basic, value)
    else:
        _write(_getitem(array, basic), advanced, value)
    (input._role if aliases_leaf else input)._note_change()


def _is_recorded(value: Any) -> bool:
    """Whether a recorder must see what happens to a Tensor as an operator, in place of a write into its array."""
    return type(value) is Tensor and BY_TYPE[type(value.array)].kernel_of is not None


def _on_device(input: Tensor, value: Tensor) -> Tensor:
    if not meet(value.array, input.array):
        devices = (str(input.device), str(value.device))
        raise error("TG-D001", op="setitem", devices=joined(devices), fix=devices[0])
    return value


def _as_operand(input: Tensor, value: Any) -> Tensor:
    dtype = input.array.dtype
    if type(value) is Tensor:
        return cast_to(_on_device(input, value), dtype)
    return Tensor(ARRAY_MODULES[type(input.array)].asarray(value, dtype=dtype))


def _with_part(input: Any, value: Any, basic: Any, advanced: Any) -> Any:
    """A new tensor: ``input`` with ``value`` at the index that was read into ``basic`` and ``advanced``."""
    if basic is None or advanced is None:
        return _index_put(input, value, advanced if basic is None else basic)
    part = _getitem(input, basic)
    return _index_put(input, _index_put(part, value, advanced), basic)


@autocasts("widest")
def index_put(input: Tensor, indices: Sequence[Any], values: Tensor, accumulate: bool = False) -> Tensor:
    """The input with ``values``, broadcast, at ``indices``, a tuple of integer or bool tensors (None: the whole axis).

    With ``accumulate=True`` the values are added, also where an index repeats; without it the winner of a repeated index is not
    defined.

    >>> import tinygrad_ja as tg
    >>> tg.zeros(3).index_put((tg.tensor([0, 0]),), tg.tensor([1.0, 2.0]), accumulate=True)
    tensor([3., 0., 0.])
    """
    basic, advanced = _read(input, tuple([_ALL if item is None else item for item in indices]))
    value = _as_operand(input, values)
    if not accumulate:
        return _with_part(input, value, basic, advanced)
    stages = [index for index in (basic, advanced) if index is not None]
    shapes = [tuple(input.shape)]
    part = input.detach()
    for index in stages:
        part = _getitem(part, index)
        shapes.append(tuple(part.shape))
    added = _expand(value, shapes.pop())
    for index in reversed(stages):
        added = _add_at_zeros(added, shapes.pop(), index)
    return input + added


# ---- parts by name -------------------------------------------------------------------------------


def narrow(input: Any, dim: int, start: int, length: int) -> Any:
    """``length`` slices along ``dim`` from ``start`` on.

    >>> import tinygrad_ja as tg
    >>> tg.narrow(tg.tensor([1.0, 2.0, 3.0]), 0, 1, 2)
    tensor([2., 3.])
    """
    shape = tuple(input.shape)
    axis = dimension("narrow", dim, shape)
    size = shape[axis] if shape else 0
    first = int(start) + size if start < 0 else int(start)
    if not 0 <= first <= first + length <= size:
        rule = (
            f"start and start + length lie within {size}, the size of dim {dim}",
            f"start と start + length は次元 {dim} の大きさ {size} 以内",
        )
        raise error(
            "TG-A001",
            op="narrow",
            argument="(start, length)",
            value=(start, length),
            rule=rule,
            fix=("shorten the part.", "部分を短くしてください。"),
        )
    return _getitem(input, (_ALL,) * axis + (slice(first, first + length),))


def select(input: Any, dim: int, index: int) -> Any:
    """The slice number ``index`` along ``dim``, without that axis.

    >>> import tinygrad_ja as tg
    >>> tg.select(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), 1, -1)
    tensor([2., 4.])
    """
    axis = dimension("select", dim, input.shape)
    return _getitem(input, (_ALL,) * axis + (int(index),))


def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A new tensor: the input with ``src`` as its slice number ``index`` along ``dim``."""
    axis = dimension("select_scatter", dim, input.shape)
    return _with_exact_part("select_scatter", input, src, (_ALL,) * axis + (int(index),))


def slice_scatter(
    input: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """A new tensor: the input with ``src`` as its part ``start:end:step`` along ``dim``."""
    axis = dimension("slice_scatter", dim, input.shape)
    return _with_exact_part("slice_scatter", input, src, (_ALL,) * axis + (slice(start, end, step),))


def _with_exact_part(op: str, input: Tensor, src: Tensor, index: tuple[Any, ...]) -> Tensor:
    expected = _getitem(input.detach(), index).shape
    if tuple(src.shape) != tuple(expected):
        raise error("TG-S005", actual=tuple(src.shape), expected=tuple(expected), shape=tuple(input.shape))
    return _index_put(input, _as_operand(input, src), index)


attach(narrow, select, select_scatter, slice_scatter, index_put, __getitem__=getitem, __setitem__=setitem)
attach_in_place(index_put)
