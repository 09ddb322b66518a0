"""Convolution of images on the CPU with few copies: one for each tap along a row, none for those along a column.

Images are laid out once for each horizontal tap, shifted so that output x finds under its own number what that tap reads:
(images, taps, channels, rows, outputs of a row). What a vertical tap reads are then whole rows, which lie together, so it is a view: a matrix
of (taps by channels, outputs) for each image. A convolution is the sum over the vertical taps of the weights times such a matrix. Where
channels and horizontal taps are few, so that such products would be thin, the vertical taps are copied, too, and there is one product.

The plan of ``conv_plan.py`` says what each tap reads, for strides, dilations and the transposed convolution as well.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..ops.unfold import Sizes
from .conv_plan import Axis, Job, axes_of

ROOM = 130_000
"""Numbers that are laid out at a time: 0.5 MB in single precision."""

THIN = 32
"""Channels times horizontal taps up to which the vertical taps are copied as well, where there is room for that."""

LARGEST = 500_000
"""Numbers at most that one image is laid out as, so that they stay near the processor."""

FEWEST = 16
"""Outputs of an image at least, for each of the products; smaller images need another layout."""

WEIGHTS = 4_000
"""Weights at most for each output of an image, where their gradient is made."""


class Tap(NamedTuple):
    """What a tap reads along an axis: output ``first`` to ``last`` find the elements ``low, low + step, ...`` (below ``high``), the others
    lie in the padding. ``start``: the position of output 0 among those of its ``phase``."""

    first: int
    last: int
    low: int
    high: int
    step: int
    phase: int
    start: int


class Half(NamedTuple):
    """A job along one axis: outputs ``first, first + step, ...``, which elements of the kernel they use, and what these taps read."""

    first: int
    step: int
    outputs: int
    kernel: slice
    taps: tuple[Tap, ...]


class Plan(NamedTuple):
    """``rows`` and ``columns``: the jobs along each axis. ``held``: for each phase of a column the rows that lie in the image, and which
    rows of the image these are."""

    rows: tuple[Half, ...]
    columns: tuple[Half, ...]
    phases: int
    length: int
    held: tuple[tuple[slice, slice], ...]


@functools.lru_cache(256)
def plan(transposed: bool, channels: int, shape: Sizes, kernel: Sizes, size: Sizes, *geometry: Sizes) -> Plan | None:
    """The plan for images of so many channels, or None where another way is better."""
    if len(shape) != 2:
        return None
    down, across = axes_of(transposed, shape, kernel, size, *geometry)
    rows, columns = tuple([_half(down, job) for job in down.jobs]), tuple([_half(across, job) for job in across.jobs])
    if min([half.outputs for half in rows]) * min([half.outputs for half in columns]) < FEWEST:
        return None
    width = max([len(half.taps) * half.outputs for half in columns])
    if channels * width * down.phases * down.length > LARGEST:
        return None
    return Plan(rows, columns, down.phases, down.length, tuple([down.held(phase) for phase in range(down.phases)]))


def _half(axis: Axis, job: Job) -> Half:
    taps: dict[int, Tap] = {}
    for kind in job.taps:
        for i, place in enumerate(kind.place):
            start = kind.start + i * kind.step
            held, elements = axis.held(kind.phase)
            first, last = max(0, held.start - start), min(job.outputs, held.stop - start)
            low = elements.start + (first + start - held.start) * axis.phases
            last = max(first, last)
            high = low + (last - first - 1) * axis.phases + 1
            taps[place] = Tap(first, last, low, max(high, low), axis.phases, kind.phase, start)
    return Half(job.first, job.step, job.outputs, job.kernel, tuple([taps[place] for place in sorted(taps)]))


class Layout:
    """Some images laid out for the horizontal taps of a job, as matrices: for one thread."""

    def __init__(self, made: Plan, row: Half, column: Half, stacked: bool, count: int, channels: int, dtype: np.dtype) -> None:
        self.plan, self.row, self.column, self.stacked = made, row, column, stacked
        width, depth = column.outputs, len(column.taps) * channels
        if stacked:
            self.laid = np.zeros((count, len(row.taps), len(column.taps), channels, row.outputs, width), dtype)
            self.matrices = [self.laid.reshape(count, len(row.taps) * depth, row.outputs * width)]
        else:
            self.laid = np.zeros((count, len(column.taps), channels, made.phases, made.length, width), dtype)
            whole = self.laid.reshape(count, depth, made.phases, made.length * width)
            places = [(tap.phase, tap.start * width, (tap.start + row.outputs) * width) for tap in row.taps]
            self.matrices = [whole[:, :, phase, low:high] for phase, low, high in places]

    def fill(self, images: np.ndarray) -> None:
        """Lay out ``images`` (count, channels, rows, columns)."""
        count = len(images)
        for i, tap in enumerate(self.column.taps):
            here, there = slice(tap.low, tap.high, tap.step), slice(tap.first, tap.last)
            if self.stacked:
                for j, down in enumerate(self.row.taps):
                    from_rows = images[:, :, down.low : down.high : down.step, here]
                    self.laid[:count, j, i, :, down.first : down.last, there] = from_rows
            else:
                for phase, (positions, elements) in enumerate(self.plan.held):
                    self.laid[:count, i, :, phase, positions, there] = images[:, :, elements, here]


def _layouts(
    made: Plan, images: slice, channels: int, dtype: np.dtype, stack: bool = True
) -> Iterator[tuple[Half, Half, Layout, list[slice]]]:
    """Every pair of jobs with its layout, and the images to lay out one after the other. stack: whether vertical taps may be copied."""
    for column in made.columns:
        depth = channels * len(column.taps)
        for row in made.rows:
            copied = depth * len(row.taps) * row.outputs * column.outputs
            stacked = stack and depth <= THIN and len(row.taps) > 1 and copied <= ROOM
            each = copied if stacked else depth * made.phases * made.length * column.outputs
            count = max(1, min(images.stop - images.start, ROOM // max(each, 1)))
            steps = [slice(low, min(low + count, images.stop)) for low in range(images.start, images.stop, count)]
            yield row, column, Layout(made, row, column, stacked, count, channels, dtype), steps


def _taps_first(weight: np.ndarray, row: Half, column: Half, stacked: bool) -> np.ndarray:
    """The weights (outputs, channels, rows, columns) that a pair of jobs uses, for each product (outputs, taps by channels)."""
    used = weight[:, :, row.kernel, column.kernel]
    outputs, channels, high, wide = used.shape
    if stacked:
        return np.ascontiguousarray(used.transpose(0, 2, 3, 1)).reshape(1, outputs, high * wide * channels)
    return np.ascontiguousarray(used.transpose(2, 0, 3, 1)).reshape(high, outputs, wide * channels)


class Correlation:
    """Convolution or transposed convolution of ``input`` with ``weight`` (outputs, channels, rows, columns) into ``made``; called with a
    range of images, by one thread or by several."""

    def __init__(self, made: Plan, input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: np.ndarray) -> None:
        self.plan, self.input, self.weight, self.out = made, input, weight, out
        self.bias = None if bias is None else bias.reshape(-1, 1)

    def __call__(self, images: slice) -> None:
        whole = len(self.plan.rows) == len(self.plan.columns) == 1 and self.out.dtype == self.weight.dtype
        for row, column, layout, steps in _layouts(self.plan, images, self.weight.shape[1], self.weight.dtype):
            matrices = _taps_first(self.weight, row, column, layout.stacked)
            shape = (len(layout.laid), len(self.weight), row.outputs * column.outputs)
            room, second = np.empty((2, *shape), self.weight.dtype)
            for here in steps:
                count = here.stop - here.start
                y = self.out[here].reshape(count, *shape[1:]) if whole else room[:count]
                layout.fill(self.input[here])
                self._multiply(matrices, layout, y, second[:count])
                if not whole:
                    target = self.out[here, :, row.first :: row.step, column.first :: column.step]
                    target[...] = y.reshape(count, shape[1], row.outputs, column.outputs)

    def _multiply(self, matrices: np.ndarray, layout: Layout, y: np.ndarray, room: np.ndarray) -> None:
        """The sum of the products."""
        if not len(matrices):
            y[...] = 0
        for i, (matrix, columns) in enumerate(zip(matrices, layout.matrices)):
            np.matmul(matrix, columns[: len(y)], out=room if i else y)
            if i:
                np.add(y, room, out=y)
        if self.bias is not None:
            y += self.bias


class Scattering:
    """Transposed convolution the other way round: the product of the weights with each element is added where it belongs, in rows, then the
    taps along a row are added up. ``made`` is the plan of the convolution from ``out`` to ``input``; ``weight`` as in ``Correlation``."""

    def __init__(self, made: Plan, input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: np.ndarray) -> None:
        self.plan, self.input, self.out = made, input, out
        self.bias = None if bias is None else bias.reshape(-1, 1, 1)
        channels, outputs, high, wide = weight.swapaxes(0, 1).shape
        self.matrices = np.ascontiguousarray(weight.transpose(2, 3, 0, 1)).reshape(high, wide * outputs, channels)

    def __call__(self, images: slice) -> None:
        for _, column, layout, steps in _layouts(self.plan, images, self.out.shape[1], self.matrices.dtype, stack=False):
            for here in steps:
                count = here.stop - here.start
                g = self.input[here].reshape(count, self.input.shape[1], -1).astype(self.matrices.dtype, copy=False)
                layout.laid[...] = 0
                for matrix, target in zip(self.matrices, layout.matrices):
                    target[:count] += np.matmul(matrix, g)
                made = self.out[here]
                made[...] = 0 if self.bias is None else self.bias
                for i, tap in enumerate(column.taps):
                    across, there = slice(tap.low, tap.high, tap.step), slice(tap.first, tap.last)
                    for phase, (positions, elements) in enumerate(self.plan.held):
                        made[:, :, elements, across] += layout.laid[:count, i, :, phase, positions, there]


def few_weights(weight: int, size: Sizes) -> bool:
    """Whether ``WeightGradient``, which makes a gradient for each image first, is worth it for so many outputs."""
    return weight <= WEIGHTS * math.prod(size)


class WeightGradient:
    """Gradient of the weight; called with a range of images, by one thread or by several, each of which adds up a share."""

    def __init__(self, made: Plan, input: np.ndarray, other: np.ndarray, kernel: Sizes, dtype: np.dtype) -> None:
        self.plan, self.input, self.other, self.kernel, self.dtype = made, input, other, kernel, dtype
        self.shares: dict[int, np.ndarray] = {}

    def __call__(self, images: slice) -> None:
        channels, outputs = self.input.shape[1], self.other.shape[1]
        ((*_, layout, steps),) = _layouts(self.plan, images, channels, self.dtype, stack=False)
        depth = layout.matrices[0].shape[1]
        share = np.zeros((len(layout.matrices), depth, outputs), self.dtype)
        for here in steps:
            layout.fill(self.input[here])
            g = self.other[here].reshape(here.stop - here.start, outputs, -1).astype(self.dtype, copy=False)
            if depth > outputs:
                g = np.ascontiguousarray(g.swapaxes(1, 2))
            for total, columns in zip(share, layout.matrices):
                if depth > outputs:
                    total += np.add.reduce(np.matmul(columns[: len(g)], g))
                else:  # the products are short, and it is better not to bring the cotangents in order
                    total += np.add.reduce(np.matmul(g, columns[: len(g)].swapaxes(1, 2))).T
        self.shares[images.start] = share

    def total(self) -> np.ndarray:
        """(outputs, channels, rows, columns): all shares, in an order that does not depend on the threads."""
        total = functools.reduce(np.add, [self.shares[start] for start in sorted(self.shares)])
        channels = self.input.shape[1]
        return np.ascontiguousarray(total.reshape(*self.kernel, channels, -1).transpose(3, 2, 0, 1))
