"""Windows into the elements of a tensor: ``as_strided`` and, made of it, ``Tensor.unfold``.

Strides may overlap, so one element may be read many times; the transpose adds all of its cotangents. It goes over as few parts as it takes
for each of them to hit no element twice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from ..core.operator import Array, linear
from ..errors import error
from .methods import attach
from .shape import dimension as axis_of

__all__ = ["as_strided"]


def _strided_case(pick: Any) -> Any:
    size = pick.shape(min_side=0, max_side=4)
    stride = tuple([pick.integer(0, 5) for _ in size])
    offset = pick.integer(0, 2)
    last = offset + sum([(n - 1) * s for n, s in zip(size, stride)]) if 0 not in size else offset
    shape = pick.choice([(last + 1,), (2, last + 2), (last + 1, 1, 3)])
    return shape, size, stride, offset


def _window_case(pick: Any) -> Any:
    shape, *window = _strided_case(pick)
    return (pick.array(shape), *window), {}


def _windows_case(pick: Any) -> Any:
    shape, size, stride, offset = _strided_case(pick)
    return (pick.array(size), shape, stride, offset), {}


def _view(xp: Any, flat: Any, size: Sequence[int], stride: Sequence[int], offset: int) -> Any:
    last = offset + sum([(n - 1) * s for n, s in zip(size, stride)])
    if len(size) != len(stride) or min(offset, *stride, 0) < 0 or last >= flat.size:
        raise ValueError(f"size {tuple(size)}, stride {tuple(stride)}, offset {offset} reach outside of {flat.size} elements")
    return xp.lib.stride_tricks.as_strided(flat[offset:], tuple(size), tuple([flat.itemsize * s for s in stride]))


@linear(lambda g, shape, stride, offset: _add_strided(g, shape, stride, offset), cases=_window_case)
def _as_strided(xp: Any, input: Array, size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Array:
    """Element i of the result is element ``offset + i · stride`` of the input in row-major order."""
    if 0 in size:
        return xp.zeros(size, dtype=input.dtype)
    return _view(xp, xp.ascontiguousarray(input).reshape(-1), size, stride, offset).copy()


@linear(lambda g, shape, stride, offset: _as_strided(g, shape, stride, offset), cases=_windows_case)
def _add_strided(xp: Any, input: Array, size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Array:
    """Zeros of shape ``size`` to which element i of the input is added at ``offset + i · stride`` in row-major order."""
    flat = xp.zeros(math.prod(size), dtype=input.dtype)
    if input.size:
        together, one_by_one = _without_overlap(input.shape, stride)
        sizes, strides = [input.shape[i] for i in together], [stride[i] for i in together]
        parts = xp.moveaxis(input, one_by_one, range(len(one_by_one)))
        for index in itertools.product(*[range(input.shape[i]) for i in one_by_one]):
            start = offset + sum([k * stride[i] for k, i in zip(index, one_by_one)])
            window = _view(xp, flat, sizes, strides, start)
            window += parts[index]
    return flat.reshape(size)


def _without_overlap(size: Sequence[int], stride: Sequence[int]) -> tuple[list[int], list[int]]:
    """``(axes, other axes)``: large axes which together name no element twice, and the rest."""
    together: list[int] = []
    for axis in sorted(range(len(size)), key=lambda i: -size[i]):
        span, apart = 0, True
        for i in sorted([*together, axis], key=lambda i: stride[i]):
            apart = apart and (size[i] == 1 or stride[i] > span)
            span += (size[i] - 1) * stride[i]
        if apart:
            together.append(axis)
    return sorted(together), [axis for axis in range(len(size)) if axis not in together]


def as_strided(input: Any, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None) -> Any:
    """A tensor of shape ``size`` whose element (i, j, ...) is number ``storage_offset + i·stride[0] + j·stride[1] + ...`` of the input's
    elements in row-major order. Elements may be read several times; their cotangents add up.

    PyTorch counts in the memory behind the input, which is the same for a contiguous tensor. Raises ArgumentError when sizes and strides
    do not go together, or reach behind the last element.

    >>> import tinygrad_ja as tg
    >>> tg.as_strided(tg.arange(5), (3, 3), (1, 1))
    tensor([[0, 1, 2],
            [1, 2, 3],
            [2, 3, 4]])
    """
    size, stride, offset = tuple(size), tuple(stride), storage_offset or 0
    if len(size) != len(stride) or min([0, offset, *size, *stride]) < 0:
        rule = ("as many sizes as strides, none negative", "size と stride の長さが等しく、負の値がないこと")
        fix = ("give one stride for each size.", "size ごとに stride を 1 つ渡してください。")
        value = f"{size}, {stride}, {offset}"
        raise error("TG-A001", op="as_strided", argument="(size, stride, storage_offset)", value=value, rule=rule, fix=fix)
    count = math.prod(input.shape)
    last = offset + sum([(n - 1) * s for n, s in zip(size, stride)])
    if 0 not in size and last >= count:
        rule = (f"element {last} exists; there are {count}", f"要素 {last} が存在すること (要素は {count} 個)")
        fix = ("use smaller sizes or strides.", "size か stride を小さくしてください。")
        raise error("TG-A001", op="as_strided", argument="(size, stride)", value=f"{size}, {stride}", rule=rule, fix=fix)
    return _as_strided(input, size, stride, offset)


def unfold(input: Any, dimension: int, size: int, step: int) -> Any:
    """Windows of ``size`` along an axis, one every ``step``: that axis counts the windows, a new last axis runs inside of them.

    >>> import tinygrad_ja as tg
    >>> tg.arange(5).unfold(0, 3, 1)
    tensor([[0, 1, 2],
            [1, 2, 3],
            [2, 3, 4]])
    """
    shape = tuple(input.shape)
    axis = axis_of("unfold", dimension, shape)
    length = shape[axis] if shape else 1
    if not 0 <= size <= length or step < 1:
        rule = (
            f"0 <= size <= {length}, the size of the axis, and step >= 1",
            f"0 <= size <= {length} (次元の大きさ)、step >= 1",
        )
        fix = ("use smaller windows.", "窓を小さくしてください。")
        raise error("TG-A001", op="unfold", argument="(size, step)", value=(size, step), rule=rule, fix=fix)
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    if not shape:
        return _as_strided(input, (size,), (1,), 0)
    along = strides[axis]
    sizes = (*shape[:axis], (length - size) // step + 1, *shape[axis + 1 :], size)
    strides[axis] = along * step
    return _as_strided(input, sizes, (*strides, along), 0)


attach(as_strided, unfold=unfold)
