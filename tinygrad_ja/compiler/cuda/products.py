"""``matmul`` as calls of cuBLAS: transposes are read as they lie, a batch is one call, by one stride or by a list of addresses, and an operand
is copied only when neither of its last two axes has its elements side by side.

cuBLAS counts in columns: the product of rows C = A B is there Cᵀ = Bᵀ Aᵀ, so the operands change places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..program import Array, Instruction
from .kernel import Address, Launch, Memory, Reach, Unsupported
from .maps import copy_kernel, fill_kernel, integer_product
from .space import Strides


class Side(NamedTuple):
    """An operand for BLAS: transposed or not, elements from one column to the next, and from one matrix to the next."""

    transposed: bool
    leading: int
    batch: int


class Product(NamedTuple):
    """One call: C (m x n, column-major) = left (m x k) right (k x n) + beta C, ``times`` times. matrices: where each product of a batch without
    a common stride begins, in bytes from the three addresses."""

    kind: str
    m: int
    n: int
    k: int
    left: Side
    right: Side
    leading: int
    batch: int
    times: int
    addresses: tuple[Address, Address, Address]
    reaches: tuple[Reach, ...]
    matrices: tuple[tuple[int, int, int], ...] = ()
    beta: float = 0.0


def product_launches(memory: Memory, instruction: Instruction) -> list[Launch | Product]:
    """The calls of a ``matmul``, and the copies before them."""
    (a, b), y = instruction.inputs, instruction.output
    if 0 in y.shape:
        return []
    if a.shape[-1] == 0:
        return list(fill_kernel(memory, y))
    if y.dtype.kind in "biu" and a.dtype.kind in "biu" and b.dtype.kind in "biu":
        return list(integer_product(memory, a, b, y))
    if y.dtype.char not in "efd":
        raise Unsupported(f"a product of {y.dtype}")
    before: list[Launch | Product] = []
    after: list[Launch | Product] = []
    operands = []
    for x in (a, b):
        if x.dtype != y.dtype or not _readable(memory.strides(x, x.shape), x.shape):
            made, copies = _copied(memory, x, y.dtype)
            before += copies
            x = made
        operands.append(x)
    target = y
    if not _readable(memory.strides(y, y.shape), y.shape) or _overlapping(memory, y):
        target = memory.new(y.shape, y.dtype)
        after += copy_kernel(memory, target, y)
    return [*before, _call_of(memory, operands[0], operands[1], target), *after]


def _copied(memory: Memory, x: Array, dtype: np.dtype) -> tuple[Array, list[Launch]]:
    made = memory.new(x.shape, dtype)
    return made, copy_kernel(memory, x, made)


def _overlapping(memory: Memory, y: Array) -> bool:
    return any([n > 1 and step == 0 for n, step in zip(y.shape, memory.strides(y, y.shape))])


def _readable(strides: Strides, shape: Sequence[int]) -> bool:
    """Whether BLAS can read the matrices of the last two axes as they lie."""
    return _side(strides[-2:], shape[-2:]) is not None


def _side(strides: Sequence[int], shape: Sequence[int]) -> tuple[bool, int] | None:
    """(rows lie side by side, leading dimension) of a matrix: True for C order, False for Fortran's; None if neither."""
    (rows, columns), (down, across) = shape, strides
    if (across == 1 or columns == 1) and (rows == 1 or down >= columns):
        return True, max(down, columns, 1)
    if (down == 1 or rows == 1) and (columns == 1 or across >= rows):
        return False, max(across, rows, 1)
    return None


def _call_of(memory: Memory, a: Array, b: Array, y: Array) -> Product:
    batch = y.shape[:-2]
    m, n, k = y.shape[-2], y.shape[-1], a.shape[-1]
    steps = [memory.strides(x, (*batch, *x.shape[-2:]))[:-2] for x in (a, b, y)]
    sides = [_side(memory.strides(x, x.shape)[-2:], x.shape[-2:]) for x in (a, b, y)]
    addresses = [memory.address(x) for x in (a, b, y)]
    left, right, out = sides
    assert left is not None and right is not None and out is not None, "operands were copied where BLAS cannot read them"
    axes = [axis for axis in range(len(batch)) if batch[axis] > 1]
    # The whole batch is one matrix if the weight is the same for all and rows follow one another.
    if axes and not any([steps[1][axis] for axis in axes]) and left[0] and out[0]:
        height = m
        if m == 1 and min(steps[0][axes[-1]], steps[2][axes[-1]]) > 0:
            near, far = steps[0][axes[-1]], steps[2][axes[-1]]
            if near >= k and far >= n:
                left, out = (True, near), (True, far)
        while (
            axes
            and _follows(batch[axes[-1]], height, steps[0][axes[-1]], left[1])
            and _follows(batch[axes[-1]], height, steps[2][axes[-1]], out[1])
        ):
            height *= batch[axes.pop()]
        m = height
    inner, count = axes[:], 1
    strides: tuple[int, int, int] = (0, 0, 0)
    taken = 0
    while inner:
        axis = inner[-1]
        step = (steps[0][axis], steps[1][axis], steps[2][axis])
        if min(step) < 0 or (taken and step != (strides[0] * count, strides[1] * count, strides[2] * count)):
            break
        strides = step if not taken else strides
        count *= batch[axis]
        taken += 1
        inner.pop()
    matrices: list[tuple[int, int, int]] = []
    if inner:  # no common stride
        itemsize = y.dtype.itemsize
        offsets = [
            [sum([i * step[axis] for i, axis in zip(index, axes)]) for index in np.ndindex(*[batch[axis] for axis in axes])]
            for step in steps
        ]
        matrices = [(i * itemsize, j * itemsize, k * itemsize) for i, j, k in zip(*offsets)]
    reaches = memory.reach(a, False), memory.reach(b, False), memory.reach(y, True)
    sizes = (m, n, k)
    if out[0]:  # in C order: the transposed product of swapped operands
        sizes = (n, m, k)
        left, right = (not right[0], right[1]), (not left[0], left[1])
        strides = (strides[1], strides[0], strides[2])
        matrices = [(j, i, k) for i, j, k in matrices]
        addresses = [addresses[1], addresses[0], addresses[2]]
    sides_ = Side(left[0], left[1], strides[0]), Side(right[0], right[1], strides[1])
    times = len(matrices) or count
    where = (addresses[0], addresses[1], addresses[2])
    return Product(y.dtype.char, *sizes, *sides_, out[1], strides[2], times, where, reaches, tuple(matrices))


def _follows(n: int, height: int, step: int, leading: int) -> bool:
    return n > 1 and step == height * leading
