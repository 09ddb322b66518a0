"""Faster NumPy texts of shape, joining and rearranging operators: for small arrays NumPy's own Python code costs more than the work."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.operator import kernel
from ..errors import error
from ..ops.join import _cat, _shapes_differ, _stack, _unbind
from ..ops.rearrange import _roll
from ..ops.shape import _expand, _permute, _reshape, _sum_to_size, _transpose, not_expandable, not_reshapable

_add: Any = np.add.reduce
_SMALL = 16384
"""Results of at most so many elements are filled; larger ones stay a view with stride 0."""


@kernel(_expand, np.ndarray)
def expand_numpy(input: np.ndarray, size: tuple[int, ...]) -> Any:
    """Filling a small new array takes 0.5 µs, ``np.broadcast_to`` 3 µs."""
    try:
        if len(size) < input.ndim:
            raise not_expandable(input.shape, size)
        if math.prod(size) > _SMALL:
            return np.broadcast_to(input, size)
        made = np.empty(size, input.dtype)
        made[...] = input
        return made
    except ValueError as failure:
        raise not_expandable(input.shape, size) from failure


@kernel(_sum_to_size, np.ndarray)
def sum_to_size_numpy(input: np.ndarray, size: tuple[int, ...]) -> Any:
    """Sum over leading axes alone needs no reshape."""
    shape = input.shape
    if shape == size:
        return input
    if not size:
        return _add(input, None)
    lead = len(shape) - len(size)
    if lead > 0 and shape[lead:] == size:
        return _add(input, 0 if lead == 1 else tuple(range(lead)))
    if lead < 0 or any([n != 1 and n != m for n, m in zip(size, shape[lead:])]):
        raise not_expandable(size, shape)
    axes = tuple(range(lead)) + tuple([i for i in range(lead, len(shape)) if size[i - lead] == 1 != shape[i]])
    made = _add(input, axes, None, None, True)
    return made.reshape(size) if lead else made


@kernel(_reshape, np.ndarray)
def reshape_numpy(input: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """One Python frame less."""
    try:
        return input.reshape(size)
    except (ValueError, TypeError) as failure:
        raise not_reshapable(input.shape, size) from failure


@kernel(_transpose, np.ndarray)
def transpose_numpy(input: np.ndarray, dim0: int, dim1: int) -> np.ndarray:
    """One Python frame less."""
    return input.swapaxes(dim0, dim1)


@kernel(_permute, np.ndarray)
def permute_numpy(input: np.ndarray, dims: tuple[int, ...]) -> np.ndarray:
    """One Python frame less."""
    return input.transpose(dims)


@kernel(_cat, np.ndarray)
def cat_numpy(*tensors: np.ndarray, dim: int = 0, sizes: tuple[int, ...] = ()) -> np.ndarray:
    """One Python frame less."""
    try:
        return np.concatenate(tensors, dim)
    except ValueError as failure:
        raise _shapes_differ(
            "cat", tensors, (f"the shapes agree except in dim {dim}", f"次元 {dim} 以外の大きさが等しい")
        ) from failure


@kernel(_stack, np.ndarray)
def stack_numpy(*tensors: np.ndarray, dim: int = 0) -> np.ndarray:
    """``np.array`` of a list and ``np.concatenate`` cost a third of ``np.stack``."""
    first = tensors[0]
    shape = first.shape
    try:
        if dim == 0 or not shape:
            return np.array(tensors)
        ndim = len(shape) + 1
        axis = dim + ndim if dim < 0 else dim
        if not 0 <= axis < ndim:
            raise error("TG-I001", op="stack", dim=dim, shape=shape, ndim=ndim)
        made = np.empty((*shape[:axis], len(tensors), *shape[axis:]), first.dtype)
        front = (slice(None),) * axis
        for place, x in enumerate(tensors):
            if x.shape != shape:
                raise _shapes_differ("stack", tensors, ("all shapes agree", "すべて同じ形状"))
            at: Any = (*front, place)
            made[at] = x
        return made
    except ValueError as failure:
        raise _shapes_differ("stack", tensors, ("all shapes agree", "すべて同じ形状")) from failure


@kernel(_unbind, np.ndarray)
def unbind_numpy(input: np.ndarray, dim: int = 0) -> tuple[Any, ...]:
    """``transpose`` instead of ``np.moveaxis``."""
    if not input.ndim:
        raise error("TG-U004")
    if dim:
        order = list(range(input.ndim))
        order.insert(0, order.pop(dim))
        input = input.transpose(order)
    return tuple(input)


@kernel(_roll, np.ndarray)
def roll_numpy(input: np.ndarray, shifts: tuple[int, ...], dims: tuple[int, ...]) -> np.ndarray:
    """Two slices for each axis, instead of the index bookkeeping of ``np.roll``."""
    for shift, dim in zip(shifts, dims):
        n = input.shape[dim]
        cut = -shift % n if n else 0
        if cut:
            front = (slice(None),) * (dim % input.ndim)
            last, first = (*front, slice(cut, None)), (*front, slice(None, cut))
            input = np.concatenate((input[last], input[first]), dim)
    return input
