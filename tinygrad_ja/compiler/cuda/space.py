"""Index spaces: which elements of memory the threads of a kernel reach, as C text with shapes and strides as constants.

Strides here count elements. Axes over which every operand moves evenly become one, so that most kernels see one axis.

>>> merged((2, 3, 4), [(12, 4, 1), (0, 0, 0)])
((24,), [(1,), (0,)])
>>> print(";".join(split("i", (5, 4), "d")))
const unsigned int d1 = i % 4u;const unsigned int d0 = i / 4u
>>> offset(["d0", "d1"], (4, 1))
'(int)d0 * 4 + (int)d1'
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..planning import Place
from ..program import Array

Strides = tuple[int, ...]


def element_strides(array: Array, place: Place, space: Sequence[int]) -> Strides | None:
    """Strides, in elements, of an array that broadcasts to ``space``; None if they are no whole numbers of elements."""
    itemsize = array.dtype.itemsize
    missing = len(space) - array.ndim
    made = [0] * missing
    for n, step in zip(array.shape, place.strides):
        if n != 1 and step % itemsize:
            return None
        made.append(0 if n == 1 else step // itemsize)
    return tuple(made)


def contiguous(shape: Sequence[int]) -> Strides:
    """Strides of a C-contiguous array, 0 along axes of one element.

    >>> contiguous((2, 1, 3))
    (3, 0, 1)
    """
    made, step = [], 1
    for n in reversed(shape):
        made.append(0 if n == 1 else step)
        step *= max(n, 1)
    return tuple(reversed(made))


def merged(shape: Sequence[int], operands: Sequence[Strides]) -> tuple[tuple[int, ...], list[Strides]]:
    """The space with as few axes as the strides of all operands allow; none of one element, but one axis at least.

    >>> merged((2, 1, 3), [(3, 0, 1), (1, 0, 2)])
    ((2, 3), [(3, 1), (1, 2)])
    """
    axes: list[list[int]] = []  # [n, stride of operand 0, ...], the outermost first
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        steps = [strides[axis] for strides in operands]
        if axes and all([before == step * n for before, step in zip(axes[-1][1:], steps)]):
            axes[-1] = [axes[-1][0] * n, *steps]
        else:
            axes.append([n, *steps])
    if not axes:
        axes.append([1, *[0] * len(operands)])
    return tuple([axis[0] for axis in axes]), [tuple([axis[k + 1] for axis in axes]) for k in range(len(operands))]


def span(shape: Sequence[int], strides: Strides) -> int:
    """The largest distance, in elements, between two elements.

    >>> span((2, 3), (10, -1))
    12
    """
    return sum([(n - 1) * abs(step) for n, step in zip(shape, strides)])


def is_wide(shape: Sequence[int], operands: Sequence[Strides]) -> bool:
    """Whether indices or offsets need 64 bits."""
    return max([math.prod(shape), *[span(shape, strides) for strides in operands]]) >= 2**31 - 2**20


def split(index: str, shape: Sequence[int], letter: str, wide: bool = False) -> list[str]:
    """Declarations of the coordinates ``letter0``, ... of a linear index."""
    kind, suffix = ("unsigned long long", "ull") if wide else ("unsigned int", "u")
    lines, rest = [], index
    for axis in reversed(range(1, len(shape))):
        lines.append(f"const {kind} {letter}{axis} = {rest} % {shape[axis]}{suffix}")
        rest = f"({rest} / {shape[axis]}{suffix})" if axis > 1 else f"{rest} / {shape[axis]}{suffix}"
    lines.append(f"const {kind} {letter}0 = {rest}")
    return lines


def offset(coordinates: Sequence[str], strides: Strides, wide: bool = False) -> str:
    """Offset of an element as C text."""
    kind = "long long" if wide else "int"
    terms = [
        f"({kind}){c}" if step == 1 else f"({kind}){c} * {step}{'ll' if wide else ''}"
        for c, step in zip(coordinates, strides)
        if step
    ]
    return " + ".join(terms) or "0"


def vector_width(shape: Sequence[int], operands: Sequence[tuple[Strides, int, int]], largest: int = 16) -> int:
    """How many neighbours along the last axis one thread takes at once. operands: (strides, itemsize, alignment of the address in bytes).

    >>> vector_width((8,), [((1,), 4, 256), ((0,), 4, 4)]), vector_width((6,), [((1,), 4, 256)]), vector_width((8,), [((2,), 4, 256)])
    (4, 2, 1)
    """
    sizes = [itemsize for strides, itemsize, _ in operands if strides[-1]]
    if not sizes or any([strides[-1] not in (0, 1) for strides, _, _ in operands]):
        return 1
    width = largest // max(sizes)
    while width > 1 and (
        shape[-1] % width
        or any(
            [
                strides[-1] == 1 and (alignment % (width * itemsize) or any([step % width for step in strides[:-1]]))
                for strides, itemsize, alignment in operands
            ]
        )
    ):
        width //= 2
    return max(width, 1)
