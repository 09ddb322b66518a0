"""Convolution on the CPU: one matrix product for each block of outputs, whose columns (im2col) stay in the processor's cache.

Some images at a time are laid out as (channels, phases, rows, ..., images); see ``conv_plan.py`` for the phases. With the images last each tap
of the kernel reads long runs of memory, however small an image is. Where whole rows of a tap lie in the padding of a block, that block
does without the tap. What has enough channels goes by fewer multiplications instead (``numpy_winograd.py``); images that are not split into
groups go with fewer copies (``numpy_rows.py``), and a kernel as large as the image is a matrix (``numpy_one_place.py``). Where llvmlite is
installed, large convolutions are machine code (``MACHINE_CODE``).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..backend.threads import in_parts
from ..core.operator import kernel
from ..ops.conv import _conv_transpose, _conv_weight, _convolution
from ..ops.unfold import Sizes
from . import machine_code
from . import numpy_depthwise as depthwise
from . import numpy_one_place as one_place
from . import numpy_rows as by_rows
from . import numpy_winograd as winograd
from .conv_plan import Axis, Job, Taps, axes_of, held_parts

BLOCK = 600_000
"""Numbers in the columns of a block: 2.4 MB in single precision. Smaller blocks would stay nearer to the processor, but cost more calls, and
threads that wait for the interpreter's lock between them."""

FEWEST = 192
"""Outputs of a block at least, however many taps there are: a product of fewer is slow."""

RUN = 128
"""Numbers that a tap should read at a stretch; small images come several at a time."""

PRODUCTS = 48
"""Multiplications that take as long as the unit of work of ``in_parts``."""

MACHINE_CODE, MACHINE_CODE_LATER = 1 << 23, 1 << 20
"""Multiplications from which on a convolution runs as machine code, where llvmlite is installed: 0.2 ms of NumPy's time or more, against 0.1 s
for the compiling of a new set of shapes; and from which on it does so when it has come some times, as in training."""

Index = tuple[Any, ...]


# ---- the plan of a call ------------------------------------------------------------------------------


class Part(NamedTuple):
    """A block of rows of a job's outputs: ``taps`` of the first axis that reach it, and for each kind of taps what to copy where."""

    rows: slice
    taps: slice
    copies: list[tuple[Index, int, Index]]


class Work(NamedTuple):
    """A job along all axes, with its outputs (``counts``) and taps (``widths``) along each. ``views``: for each kind of taps, where it
    starts, its taps along each axis, and their distance."""

    jobs: tuple[Job, ...]
    counts: Sizes
    widths: Sizes
    views: list[tuple[Index, Sizes, Sizes]]
    parts: list[Part]


class Plan(NamedTuple):
    """All that the shapes decide. ``fills``: parts of the laid-out images, and which elements come there."""

    axes: tuple[Axis, ...]
    fills: list[tuple[Index, Index]]
    works: list[Work]

    @property
    def covers(self) -> bool:
        """True when every element of the images is laid out somewhere."""
        return all([(axis.size - 1 + axis.before) // axis.phases < axis.length for axis in self.axes])


@functools.lru_cache(256)
def _plan(transposed: bool, images: int, channels: int, *axes: Sizes) -> Plan:
    """The plan for so many images at a time."""
    made = axes_of(transposed, *axes)
    every = slice(None)
    fills = [((every, *phase, *there), (every, *here)) for phase, there, here in held_parts(made)]
    return Plan(made, fills, [_work(made, jobs, images, channels) for jobs in itertools.product(*[axis.jobs for axis in made])])


def _work(axes: tuple[Axis, ...], jobs: tuple[Job, ...], images: int, channels: int) -> Work:
    kinds = list(itertools.product(*[job.taps for job in jobs]))
    views = []
    for kind in kinds:
        start = (*[taps.phase for taps in kind], *[slice(taps.start, None) for taps in kind])
        views.append((start, tuple([len(taps.place) for taps in kind]), tuple([taps.step for taps in kind])))
    width = channels * math.prod([job.width for job in jobs])
    row = math.prod([job.outputs for job in jobs[1:]]) * images
    count = jobs[0].outputs
    blocks = -(-count // max(1, max(FEWEST, BLOCK // max(width, 1)) // row))
    step = -(-count // blocks)
    parts = []
    for low in range(0, count, step):
        rows = slice(low, min(low + step, count))
        reaching = sorted([k for taps in jobs[0].taps for k in _reaching(axes[0], taps, rows)])
        chosen = slice(reaching[0], reaching[-1] + 1) if reaching else slice(0, 0)
        parts.append(Part(rows, chosen, [copy for i, kind in enumerate(kinds) for copy in _copies(i, kind, rows, chosen)]))
    return Work(jobs, tuple([job.outputs for job in jobs]), tuple([job.width for job in jobs]), views, parts)


def _reaching(axis: Axis, taps: Taps, rows: slice) -> Iterator[int]:
    """Those of the taps that read at least one element of the image for these rows."""
    held = axis.held(taps.phase)[0]
    for i, k in enumerate(taps.place):
        start = taps.start + i * taps.step
        if start + rows.start < held.stop and start + rows.stop > held.start:
            yield k


def _copies(number: int, kind: tuple[Taps, ...], rows: slice, chosen: slice) -> Iterator[tuple[Index, int, Index]]:
    """``(where in the columns, which view, which part of it)``; the columns are (groups, taps, channels, other taps, rows, ...)."""
    first, *others = kind
    inside = [i for i, k in enumerate(first.place) if chosen.start <= k < chosen.stop]
    if inside:
        every = slice(None)
        low, high = [first.place[i] - chosen.start for i in (inside[0], inside[-1])]
        there = [slice(taps.place.start, taps.place.stop, taps.place.step) for taps in others]
        here = (every, slice(inside[0], inside[-1] + 1), every, *[every] * len(others), rows)
        yield (every, slice(low, high + 1, first.place.step), every, *there), number, here


# ---- the images of a block, laid out -----------------------------------------------------------------


class Images:
    """Some images laid out, and room for the columns of a block: for one thread."""

    def __init__(self, plan: Plan, groups: int, channels: int, count: int, dtype: np.dtype) -> None:
        self.plan, self.groups, self.channels, self.count = plan, groups, channels, count
        shape = (groups * channels, *[axis.phases for axis in plan.axes], *[axis.length for axis in plan.axes], count)
        self.laid = np.zeros(shape, dtype)
        self.views = [[self._view(work, *view) for view in work.views] for work in plan.works]
        self.room = np.empty(max([math.prod(self._shape(work, part)) for work in plan.works for part in work.parts]), dtype)

    def _shape(self, work: Work, part: Part) -> tuple[int, ...]:
        taps, rows = part.taps.stop - part.taps.start, part.rows.stop - part.rows.start
        return (self.groups, taps, self.channels, *work.widths[1:], rows, *work.counts[1:], self.count)

    def _view(self, work: Work, start: Index, widths: Sizes, steps: Sizes) -> np.ndarray:
        """All that a kind of taps reads, (groups, taps, channels, other taps, rows, ...)."""
        channel, along, image = self.laid.strides[0], self.laid.strides[1 + len(widths) : -1], self.laid.strides[-1]
        taps = [step * stride for step, stride in zip(steps, along)]
        shape = (self.groups, widths[0], self.channels, *widths[1:], *work.counts, self.count)
        strides = (self.channels * channel, taps[0], channel, *taps[1:], *along, image)
        begin: Index = (slice(None), *start)
        return np.lib.stride_tricks.as_strided(self.laid[begin], shape, strides)

    def fill(self, images: np.ndarray) -> None:
        """Lay out ``images`` (count, channels, ...)."""
        last = winograd.images_last(images)
        for there, here in self.plan.fills:
            self.laid[there] = last[here]

    def columns(self, index: int, part: Part) -> np.ndarray:
        """The columns of a block of outputs, (groups, taps by channels, outputs)."""
        shape = self._shape(self.plan.works[index], part)
        made = self.room[: math.prod(shape)].reshape(shape)
        for there, view, here in part.copies:
            np.copyto(made[there], self.views[index][view][here])
        return self._as_matrices(made)

    def _as_matrices(self, columns: np.ndarray) -> np.ndarray:
        inner = 2 + len(self.plan.axes)
        shape = columns.shape
        return columns.reshape(self.groups, math.prod(shape[1:inner]), math.prod(shape[inner:]))

    def add_columns(self, part: Part, rows: np.ndarray, g: np.ndarray) -> None:
        """Add the product of ``rows`` (groups, taps by channels, outputs) and ``g``, the columns of a block, where they came from."""
        (work,) = self.plan.works
        shape = self._shape(work, part)
        made = self.room[: math.prod(shape)].reshape(shape)
        np.matmul(rows, g, out=self._as_matrices(made))
        for there, view, here in part.copies:
            source, target = made[there], self.views[0][view][here]
            for first, *others in np.ndindex(source.shape[1], *source.shape[3 : 2 + len(self.plan.axes)]):
                tap = (slice(None), first, slice(None), *others)
                target[tap] += source[tap]

    def take(self, made: np.ndarray) -> None:
        """Write what is laid out into ``made`` (count, channels, ...), and forget it."""
        for there, here in self.plan.fills:
            target: Index = (slice(None), *here)
            made[target] = np.moveaxis(self.laid[there], -1, 0)
        self.laid[...] = 0


# ---- convolution and transposed convolution ----------------------------------------------------------


def _at_a_time(batch: int, row: int, taps: int, channels: int, outputs: int) -> int:
    """How many images to lay out together where rows of the output have ``row`` elements: one where short runs cost less than bringing
    the images last and first again."""
    if batch == 1 or not row or (row >= RUN // 8 and taps * channels * 8 < row * (channels + outputs) / 2):
        return 1
    return min(batch, 1 << max(0, -(-RUN // row) - 1).bit_length())


def _row(size: Sizes, stride: Sizes) -> int:
    """How many outputs lie side by side: those of a row, by which of the phases they belong to."""
    return -(-size[-1] // stride[-1])


def _correlate(
    transposed: bool, input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, size: Sizes, groups: int, *geometry: Sizes
) -> np.ndarray:
    """Convolution or transposed convolution with ``weight`` (groups, outputs, channels, *kernel)."""
    batch, dtype = input.shape[0], weight.dtype
    outputs, channels, kernel = weight.shape[1], weight.shape[2], weight.shape[3:]
    made = np.empty((batch, groups * outputs, *size), input.dtype)
    if not made.size or not weight.size:
        made[...] = 0 if bias is None else bias.reshape(-1, *[1] * len(size))
        return made
    if _pointwise(kernel, size, input.shape[2:], *geometry):
        return _mix_channels(input, weight.reshape(weight.shape[:3]), bias, made)
    strides = geometry[0] if transposed else (1,) * len(size)
    at_a_time = _at_a_time(batch, _row(size, strides), math.prod(kernel), channels, outputs)
    shapes = (input.shape[2:], kernel, size, *geometry)
    products = weight.size * math.prod(size) // math.prod(strides)
    work: Any
    tiles = winograd.plan(transposed, groups, channels, outputs, products * at_a_time, dtype, *shapes)
    rows = by_rows.plan(transposed, channels, *shapes) if groups == 1 else None
    if transposed and _scattering_pays(
        products, weight.size * math.prod(input.shape[2:]), channels, outputs, tiles is not None
    ):
        back = by_rows.plan(False, outputs, size, kernel, input.shape[2:], *geometry) if groups == 1 else None
        if back is not None:
            work = by_rows.Scattering(back, input, weight[0], bias, made)
        else:
            work = _Scattering(input, weight, bias, made, *geometry)
    elif rows is not None:
        work = by_rows.Correlation(rows, input, weight[0], bias, made)
    elif tiles is not None and winograd.harmless(input, weight):
        work = winograd.Correlation(tiles, input, weight, bias, made, at_a_time)
    else:
        work = _Correlation(_plan(transposed, at_a_time, groups * channels, *shapes), input, weight, bias, made, at_a_time)
    in_parts(work, batch, products * batch // PRODUCTS + made.size + input.size)
    return made


def _pointwise(kernel: Sizes, size: Sizes, shape: Sizes, stride: Sizes, before: Sizes, dilation: Sizes) -> bool:
    """True where every output sees the one element at its own place."""
    return max(kernel) == 1 and max(stride) == 1 and not any(before) and size == shape


def _mix_channels(input: np.ndarray, matrix: np.ndarray, bias: np.ndarray | None, made: np.ndarray) -> np.ndarray:
    """``matrix`` (groups, outputs, channels) times the channels at each place."""
    groups, outputs, channels = matrix.shape
    x, y = input.reshape(len(input), groups, channels, -1), made.reshape(len(input), groups, outputs, -1)

    def part(images: slice) -> None:
        np.matmul(matrix, x[images].astype(matrix.dtype, copy=False), out=y[images], casting="same_kind")
        if bias is not None:
            y[images] += bias.reshape(groups, outputs, 1)

    in_parts(part, len(input), x.size * outputs // PRODUCTS + made.size, 1)
    return made


class _Correlation:
    """The work of one call; called with a range of images, by one thread or by several."""

    def __init__(
        self, plan: Plan, input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, made: np.ndarray, at_a_time: int
    ) -> None:
        self.plan, self.input, self.made, self.at_a_time = plan, input, made, at_a_time
        self.bias = None if bias is None else bias.reshape(weight.shape[0], weight.shape[1], 1)
        self.groups, self.channels, self.dtype = weight.shape[0], weight.shape[2], weight.dtype
        self.matrices = [_taps_first(weight, work) for work in plan.works]

    def __call__(self, images: slice) -> None:
        laid: Images | None = None
        for here in _in_steps(images, self.at_a_time):
            if laid is None or laid.count != here.stop - here.start:
                laid = Images(self.plan, self.groups, self.channels, here.stop - here.start, self.dtype)
            laid.fill(self.input[here])
            for index, work in enumerate(self.plan.works):
                self._finish(laid, index, work, here)

    def _finish(self, laid: Images, index: int, work: Work, here: slice) -> None:
        """All outputs of a job for the images that are laid out."""
        matrix, made = self.matrices[index], self.made[here]
        groups, outputs = matrix.shape[:2]
        row = math.prod(work.counts[1:]) * laid.count
        in_place = len(self.plan.works) == laid.count == 1 and made.dtype == matrix.dtype
        shape = (groups, outputs, work.counts[0] * row)
        y = made.reshape(shape) if in_place else np.empty(shape, matrix.dtype)
        for part in work.parts:
            columns = laid.columns(index, part)
            rows = matrix[:, :, part.taps].reshape(groups, outputs, columns.shape[1])
            np.matmul(rows, columns, out=y[:, :, part.rows.start * row : part.rows.stop * row])
        if self.bias is not None:
            y += self.bias
        if not in_place:
            target = (slice(None), slice(None), *[slice(job.first, None, job.step) for job in work.jobs])
            made[target] = np.moveaxis(y.reshape(groups * outputs, *work.counts, laid.count), -1, 0)


def _scattering_pays(gathering: int, scattering: int, channels: int, outputs: int, fewer: bool) -> bool:
    """Whether a transposed convolution should add columns of the outputs up (scatter), not multiply columns of the inputs. That many
    products each; copying a number takes as long as some 10 of them, adding one as 25."""
    return scattering * (1 + 25 / channels) < gathering * ((0.6 if fewer else 1.0) + 10 / outputs)


class _Scattering:
    """Transposed convolution by adding up columns: the work of one call, as ``_Correlation``."""

    def __init__(
        self, input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, made: np.ndarray, *geometry: Sizes
    ) -> None:
        self.input, self.made, self.bias = input, made, bias
        self.groups, self.channels, self.dtype = weight.shape[0], weight.shape[1], weight.dtype
        size, kernel = input.shape[2:], weight.shape[3:]
        self.at_a_time = _at_a_time(len(input), _row(size, (1,) * len(size)), math.prod(kernel), self.channels, weight.shape[2])
        self.plan = _plan(False, self.at_a_time, self.groups * self.channels, made.shape[2:], kernel, size, *geometry)
        # (groups, taps of the first axis, outputs here, other taps, channels of the columns' product)
        self.rows = np.ascontiguousarray(np.moveaxis(np.moveaxis(weight, 3, 1), 3, -1))

    def __call__(self, images: slice) -> None:
        (work,) = self.plan.works
        laid: Images | None = None
        for here in _in_steps(images, self.at_a_time):
            if laid is None or laid.count != here.stop - here.start:
                laid = Images(self.plan, self.groups, self.channels, here.stop - here.start, self.dtype)
            g = winograd.images_last(self.input[here].astype(self.dtype, copy=False))
            g = g.reshape(self.groups, g.shape[0] // self.groups, -1)
            row = math.prod(work.counts[1:]) * laid.count
            for part in work.parts:
                rows = self.rows[:, part.taps].reshape(self.groups, -1, g.shape[1])
                laid.add_columns(part, rows, g[:, :, part.rows.start * row : part.rows.stop * row])
            made = self.made[here]
            if not self.plan.covers:
                made[...] = 0
            laid.take(made)
            if self.bias is not None:
                made += self.bias.reshape(-1, *[1] * (made.ndim - 2))


def _in_steps(images: slice, step: int) -> Iterator[slice]:
    for low in range(images.start, images.stop, step):
        yield slice(low, min(low + step, images.stop))


def _taps_first(weight: np.ndarray, work: Work) -> np.ndarray:
    """The part of the weight that a job uses, (groups, outputs, taps of the first axis, channels, other taps)."""
    used: Index = (..., *[job.kernel for job in work.jobs])
    return np.ascontiguousarray(np.moveaxis(weight[used], 3, 2))


def _by_machine_code(
    transposed: bool, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, size: Sizes, groups: int, *geometry: Sizes
) -> np.ndarray | None:
    """The convolution or its transpose; None where there is no machine code for it, or it does not pay."""
    if 0 in size or not x.size:
        return None
    if groups > 1:
        one = groups == x.shape[1] == len(weight) and weight.shape[1] == 1
        return depthwise.correlation(transposed, x, weight, bias, size, *geometry) if one else None
    places = math.prod(x.shape[2:] if transposed else size)
    machine, later = _machine_code(weight.size * len(x) * places)
    if machine is None:
        return None
    made = np.empty((len(x), weight.shape[int(transposed)], *size), x.dtype)
    return made if machine.convolution(transposed, x, weight, bias, made, *geometry, later=later) else None


def _machine_code(products: int) -> tuple[Any, bool]:
    """The module that has machine code, or None where so many multiplications are too few; and whether it is for calls that come again."""
    enough = products >= min(MACHINE_CODE, MACHINE_CODE_LATER)
    return machine_code.load_machine_code() if enough else None, products < MACHINE_CODE


def _weight_by_machine_code(x: np.ndarray, g: np.ndarray, shape: Sizes, groups: int, *geometry: Sizes) -> np.ndarray | None:
    """The gradient of the weight, of that shape; None where there is no machine code for it, or it does not pay."""
    if groups > 1:
        one = groups == x.shape[1] == g.shape[1]
        return depthwise.gradient_of_weight(x, g, shape[2:], *geometry) if one else None
    machine, later = _machine_code(math.prod(shape) * g[:, 0].size)
    if machine is None:
        return None
    made = np.empty(shape, x.dtype)
    return made if machine.gradient_of_weight(x, g, made, *geometry, later=later) else None


def _grouped(weight: np.ndarray, groups: int) -> np.ndarray:
    """(groups, outputs, channels, *kernel), single precision for half."""
    made = weight.astype(np.float32) if weight.dtype == np.float16 else weight
    return made.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])


@kernel(_convolution, np.ndarray)
def convolution_numpy(
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    size: Sizes,
    stride: Sizes,
    before: Sizes,
    dilation: Sizes,
    groups: int,
) -> np.ndarray:
    """Convolution."""
    if one_place.is_one_place(weight.shape[2:], input.shape[2:], size, stride, before, dilation):
        return one_place.convolution(input, _grouped(weight, groups), bias, size)
    made = _by_machine_code(False, input, weight, bias, size, groups, stride, before, dilation)
    if made is None:
        made = _correlate(False, input, _grouped(weight, groups), bias, size, groups, stride, before, dilation)
    return made


@kernel(_conv_transpose, np.ndarray)
def conv_transpose_numpy(
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    size: Sizes,
    stride: Sizes,
    before: Sizes,
    dilation: Sizes,
    groups: int,
) -> np.ndarray:
    """Transposed convolution."""
    if one_place.is_one_place(weight.shape[2:], size, input.shape[2:], stride, before, dilation):
        return one_place.transposed(input, _grouped(weight, groups), bias, size)
    made = _by_machine_code(True, input, weight, bias, size, groups, stride, before, dilation)
    if made is None:
        made = _correlate(True, input, _grouped(weight, groups).swapaxes(1, 2), bias, size, groups, stride, before, dilation)
    return made


# ---- the gradient of the weight ----------------------------------------------------------------------


@kernel(_conv_weight, np.ndarray)
def conv_weight_numpy(
    input: np.ndarray,
    other: np.ndarray,
    kernel: Sizes,
    stride: Sizes,
    before: Sizes,
    dilation: Sizes,
    groups: int,
) -> np.ndarray:
    """Gradient of the weight: the columns times the cotangents, added up over blocks."""
    batch, channels, outputs, size = input.shape[0], input.shape[1] // groups, other.shape[1] // groups, other.shape[2:]
    shape = (groups * outputs, channels, *kernel)
    if not input.size or not other.size:
        return np.zeros(shape, input.dtype)
    dtype = np.dtype(np.float32) if input.dtype == np.float16 else input.dtype
    if one_place.is_one_place(kernel, input.shape[2:], size, stride, before, dilation):
        return one_place.gradient_of_weight(input, other, kernel, groups, dtype)
    made = _weight_by_machine_code(input, other, shape, groups, stride, before, dilation)
    if made is not None:
        return made
    if _pointwise(kernel, size, input.shape[2:], stride, before, dilation):
        return _mixed_channels(input, other, groups, dtype).reshape(shape).astype(input.dtype, copy=False)
    row = _row(size, (1,) * len(size))
    at_a_time = _at_a_time(batch, row, math.prod(kernel), channels, 0)
    shapes = (input.shape[2:], kernel, size, stride, before, dilation)
    products = math.prod(shape) * math.prod(size)
    tiles = winograd.plan(False, groups, channels, outputs, products * at_a_time, dtype, *shapes)
    rows = by_rows.plan(False, channels, *shapes) if groups == 1 and by_rows.few_weights(math.prod(shape), size) else None
    work: Any
    if rows is not None:
        work = by_rows.WeightGradient(rows, input, other, kernel, dtype)
    elif tiles is not None and winograd.harmless(input, other):
        work = winograd.WeightGradient(tiles, input, other, groups, at_a_time)
    else:
        work = _WeightGradient(_plan(False, at_a_time, groups * channels, *shapes), input, other, groups, dtype, at_a_time)
    in_parts(work, batch, products * batch // PRODUCTS + input.size + other.size)
    return np.ascontiguousarray(work.total().reshape(shape), input.dtype)


def _mixed_channels(input: np.ndarray, other: np.ndarray, groups: int, dtype: np.dtype) -> np.ndarray:
    """Σ g xᵀ over images and places, (groups, outputs, channels): the gradient of the matrix of ``_mix_channels``."""
    x, g = [array.reshape(len(array), groups, array.shape[1] // groups, -1) for array in (input, other)]
    shares: dict[int, np.ndarray] = {}

    def part(images: slice) -> None:
        products = [
            np.matmul(g[i].astype(dtype, copy=False), x[i].astype(dtype, copy=False).swapaxes(1, 2))
            for i in range(images.start, images.stop)
        ]
        shares[images.start] = functools.reduce(np.add, products)

    in_parts(part, len(input), x.size * g.shape[2] // PRODUCTS + g.size, 8)
    return functools.reduce(np.add, [shares[start] for start in sorted(shares)])


class _WeightGradient:
    """The work of one call; called with a range of images, by one thread or by several, each of which adds up a share."""

    def __init__(self, plan: Plan, input: np.ndarray, other: np.ndarray, groups: int, dtype: np.dtype, at_a_time: int) -> None:
        self.plan, self.input, self.other, self.groups = plan, input, other, groups
        self.dtype, self.at_a_time = dtype, at_a_time
        self.channels, self.outputs = input.shape[1] // groups, other.shape[1] // groups
        self.shares: dict[int, np.ndarray] = {}

    def __call__(self, images: slice) -> None:
        (work,) = self.plan.works
        shape = (self.groups, work.widths[0], self.channels * math.prod(work.widths[1:]), self.outputs)
        share = np.zeros(shape, self.dtype)
        laid: Images | None = None
        for here in _in_steps(images, self.at_a_time):
            if laid is None or laid.count != here.stop - here.start:
                laid = Images(self.plan, self.groups, self.channels, here.stop - here.start, self.dtype)
            laid.fill(self.input[here])
            g = _pixels_first(self.other[here], self.groups, self.dtype)
            row = math.prod(work.counts[1:]) * laid.count
            for part in work.parts:
                made = np.matmul(laid.columns(0, part), g[:, part.rows.start * row : part.rows.stop * row])
                share[:, part.taps] += made.reshape(self.groups, -1, *shape[2:])
        self.shares[images.start] = share

    def total(self) -> np.ndarray:
        """(groups, outputs, channels, *kernel): all shares, in an order that does not depend on the threads."""
        total = functools.reduce(np.add, [self.shares[start] for start in sorted(self.shares)])
        (work,) = self.plan.works
        total = total.reshape(self.groups, work.widths[0], self.channels, *work.widths[1:], self.outputs)
        return np.moveaxis(np.moveaxis(total, -1, 1), 2, 3)


def _pixels_first(g: np.ndarray, groups: int, dtype: np.dtype) -> np.ndarray:
    """(N, O, *size) -> (groups, |size|·N, O/groups)."""
    if g.shape[1] == groups:
        return np.ascontiguousarray(np.moveaxis(g, 0, -1), dtype).reshape(groups, -1, 1)
    made = np.ascontiguousarray(np.moveaxis(np.moveaxis(g, 1, -1), 0, -2), dtype)
    return made.reshape(-1, groups, g.shape[1] // groups).swapaxes(0, 1)
