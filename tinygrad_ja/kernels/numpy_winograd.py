"""Convolution by fewer multiplications: rows of the output are made several at a time (Winograd 1980; Lavin and Gray 2016).

A tile of m output rows by r taps along the rows takes m·r products. Seen as polynomials it is enough to multiply their values at m + r - 1
points: tile = A ((K taps) (B rows)), with matrices A, K and B that the points decide. Each of these products is here a matrix product
over channels and the taps along other axes, where nothing is saved.

The points are chosen for small rounding errors (Barabasz et al. 2020): with at most six of them a sum differs from the true one by less than
twice what the direct sum does. What is not finite would spread over its tile, so such arrays are left to the direct way.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..ops.unfold import Sizes
from .conv_plan import Axis, Job, axes_of, held_parts

POINTS = {3: (0, -1), 4: (0, 1, -1), 5: (0, 1.25, -1.25, 0.6), 6: (0, 0.75, -0.75, 4 / 3, -4 / 3)}
"""Finite points by their number and one: infinity is always among them."""

SAVING = 0.8
"""Products there must remain at most, compared with the direct way."""

CHANNELS, OUTPUTS, PRODUCTS = 8, 16, 4_000_000
"""Where it is worth it: channels and outputs of a group, and products for the images that are laid out together."""

BLOCK = 250_000
"""Numbers in the transformed rows of a block of tiles: 1 MB in single precision."""

COLUMNS = 250_000
"""Numbers in the columns of so many points as are taken together."""

Index = tuple[Any, ...]


@functools.lru_cache
def matrices(tile: int, taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A (tile, n), K (n, taps) and B (n, n) for n = tile + taps - 1 points, in double precision.

    >>> a, k, b = matrices(2, 3)
    >>> rows, kernel = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 0.0, -1.0])
    >>> (a @ ((k @ kernel) * (b @ rows))).tolist()
    [-2.0, -2.0]
    """

    def values(degree: int) -> np.ndarray:
        """At each point the powers below ``degree``; at infinity only the highest counts."""
        finite = np.vander(POINTS[tile + taps - 1], degree, increasing=True)
        return np.concatenate([finite, np.eye(degree)[-1:]]).astype(np.float64)

    return values(tile).T, values(taps), np.linalg.inv(values(tile + taps - 1)).T


# ---- the plan ----------------------------------------------------------------------------------------


class Rows(NamedTuple):
    """A job along the first axis: its tiles, and for each kind of taps (phase, lowest row, the taps by rising rows)."""

    job: Job
    tiles: int
    kinds: list[tuple[int, int, list[int]]]


class Rest(NamedTuple):
    """A job along the other axes; ``views`` as in the direct way, with where each kind of taps is put."""

    jobs: tuple[Job, ...]
    views: list[tuple[Index, Index, Sizes, Sizes]]


class Plan(NamedTuple):
    """All that the shapes decide. The first axis of ``axes`` has a phase for each row of a tile (and each phase of the stride)."""

    groups: int
    tile: int
    taps: int
    axes: tuple[Axis, ...]
    fills: list[tuple[Index, Index]]
    rows: list[Rows]
    rest: list[Rest]


@functools.lru_cache(256)
def plan(
    transposed: bool, groups: int, channels: int, outputs: int, products: int, dtype: np.dtype, *shapes: Sizes
) -> Plan | None:
    """The plan, or None where the direct way is better: too little to do, strides or taps that do not fit, or double precision wanted."""
    if channels < CHANNELS or outputs < OUTPUTS or products < PRODUCTS or len(shapes[0]) < 2 or dtype != np.float32:
        return None
    first, *others = axes_of(transposed, *shapes)
    tile = _best_tile(first)
    if not tile or not all([axis.length for axis in others]):
        return None
    taps = len(first.jobs[0].taps[0].place)
    rows = [_rows(job, tile) for job in first.jobs]
    length = max([(low + tile + taps - 2) // tile + r.tiles for r in rows for _, low, _ in r.kinds])
    axes = (first._replace(phases=first.phases * tile, length=length), *others)
    every = slice(None)
    fills = []
    for phase, there, here in held_parts(axes):
        fills.append(((phase[0], there[0], every, *phase[1:], *there[1:]), (every, *here)))
    rest = [_rest(jobs) for jobs in itertools.product(*[axis.jobs for axis in others])]
    return Plan(groups, tile, taps, axes, fills, rows, rest)


def _best_tile(axis: Axis) -> int:
    """Rows of a tile with the fewest products, 0 where it does not pay."""
    every = [taps for job in axis.jobs for taps in job.taps]
    kinds = {len(job.taps) for job in axis.jobs}
    width = len(every[0].place) if every else 0
    fits = len(kinds) == 1 and all([len(taps.place) == width and abs(taps.step) == 1 for taps in every])
    if not fits or width < 2:
        return 0
    counts = [job.outputs for job in axis.jobs]
    costs = {tile: (tile + width - 1) * sum([-(-n // tile) for n in counts]) for tile in range(2, max(POINTS) - width + 2)}
    best = min(costs, key=lambda tile: (costs[tile], tile), default=0)
    return best if best and costs[best] <= SAVING * width * sum(counts) else 0


def _rows(job: Job, tile: int) -> Rows:
    kinds = []
    for taps in job.taps:
        place = list(taps.place) if taps.step > 0 else list(reversed(taps.place))
        kinds.append((taps.phase, min(taps.start, taps.start + (len(place) - 1) * taps.step), place))
    return Rows(job, -(-job.outputs // tile), kinds)


def _rest(jobs: tuple[Job, ...]) -> Rest:
    views = []
    for kind in itertools.product(*[job.taps for job in jobs]):
        there = tuple([slice(taps.place.start, taps.place.stop, taps.place.step) for taps in kind])
        start = (*[taps.phase for taps in kind], *[slice(taps.start, None) for taps in kind])
        views.append((there, start, tuple([len(taps.place) for taps in kind]), tuple([taps.step for taps in kind])))
    return Rest(jobs, views)


def images_last(images: np.ndarray) -> np.ndarray:
    """(N, ...) -> (..., N) with the images side by side in memory: a copy of its own, since the next one then moves long runs."""
    made = np.moveaxis(images, 0, -1)
    return made if len(images) == 1 else np.ascontiguousarray(made)


def harmless(*arrays: np.ndarray) -> bool:
    """True when all is finite, and far from overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        return all([math.isfinite(flat.dot(flat)) for flat in [array.ravel() for array in arrays]])


# ---- the images of a block, laid out and transformed -------------------------------------------------


class Tiles:
    """Some images laid out as (rows of a tile, tiles, channels, phases, ..., images), and rooms to work in: for one thread."""

    def __init__(self, plan: Plan, channels: int, count: int) -> None:
        self.plan, self.channels, self.count = plan, channels, count
        first, *others = plan.axes
        inner = [*[axis.phases for axis in others], *[axis.length for axis in others]]
        self.laid = np.zeros((first.phases, first.length, plan.groups * channels, *inner, count), np.float32)
        self.points = plan.tile + plan.taps - 1
        self.input_matrix = matrices(plan.tile, plan.taps)[2].astype(np.float32)
        kinds = len(plan.rows[0].kinds)
        each = kinds * self.points * self.laid[0, 0].size
        longest = max([rows.tiles for rows in plan.rows])
        blocks = -(-longest * each // BLOCK)
        self.step = -(-longest // blocks)
        self.gathered = np.empty(each * self.step, np.float32)
        self.transformed = np.empty(each * self.step, np.float32)
        self.room = np.empty(0, np.float32)
        self.views: dict[tuple[int, int], list[tuple[Index, np.ndarray]]] = {}

    def fill(self, images: np.ndarray) -> None:
        """Lay out ``images`` (count, channels, ...)."""
        last = images_last(images)
        for there, here in self.plan.fills:
            self.laid[there] = last[here].swapaxes(0, 1)

    def _values(self, tiles: int) -> np.ndarray:
        """The room for transformed rows, as (kinds, points, tiles, channels, ...)."""
        shape = (len(self.plan.rows[0].kinds), self.points, tiles, *self.laid.shape[2:])
        return self.transformed[: math.prod(shape)].reshape(shape)

    def transform(self, rows: Rows, low: int, high: int) -> None:
        """Make the values at all points of the rows that tiles ``low:high`` read."""
        made = self._values(high - low)
        gathered = self.gathered[: made.size].reshape(made.shape)
        stride = self.plan.axes[0].phases // self.plan.tile
        for kind, (phase, lowest, _) in enumerate(rows.kinds):
            start = 0
            while start < self.points:  # as many rows as lie side by side
                shift, row = divmod(lowest + start, self.plan.tile)
                stop = min(self.points, start + self.plan.tile - row)
                first = row * stride + phase
                part = self.laid[first : first + (stop - start) * stride : stride, low + shift : high + shift]
                gathered[kind, start:stop] = part
                start = stop
        flat = (len(made), self.points, made[0, 0].size)
        np.matmul(self.input_matrix, gathered.reshape(flat), out=made.reshape(flat))

    def columns(self, rest: int, tiles: int) -> Iterator[tuple[slice, np.ndarray]]:
        """The columns of the tiles transformed last, some points at a time: ``(which, (points, groups, kinds by channels by taps,
        outputs))``."""
        jobs = self.plan.rest[rest].jobs
        shape = (*self._outer[1:], *[job.width for job in jobs], tiles, *[job.outputs for job in jobs], self.count)
        size, inner = math.prod(shape), 3 + len(jobs)
        step = max(1, min(self.points, COLUMNS // max(size, 1)))
        if self.room.size < step * size:
            self.room = np.empty(step * size, np.float32)
        for low in range(0, self.points, step):
            which = slice(low, min(low + step, self.points))
            count = which.stop - low
            made = self.room[: count * size].reshape(count, *shape)
            for there, view in self._views(rest, tiles):
                np.copyto(made[there], view[which])
            yield which, made.reshape(count, shape[0], math.prod(shape[1:inner]), math.prod(shape[inner:]))

    @property
    def _outer(self) -> Sizes:
        return self.points, self.plan.groups, len(self.plan.rows[0].kinds), self.channels

    def _views(self, rest: int, tiles: int) -> list[tuple[Index, np.ndarray]]:
        """``(where in the columns, what comes there)``."""
        found = self.views.get((rest, tiles))
        if found is None:
            found = self.views[rest, tiles] = []
            values = self._values(tiles)
            kind, point, tile, channel, *_ = values.strides
            jobs, views = self.plan.rest[rest]
            along, image = values.strides[4 + len(jobs) : -1], values.strides[-1]
            every = (slice(None),) * 4
            for there, start, widths, steps in views:
                taps = [step * stride for step, stride in zip(steps, along)]
                strides = (point, self.channels * channel, kind, channel, *taps, tile, *along, image)
                shape = (*self._outer, *widths, tiles, *[job.outputs for job in jobs], self.count)
                begin: Index = (*every, *start)
                view = np.lib.stride_tricks.as_strided(values[begin], shape, strides, writeable=False)
                found.append(((*every, *there), view))
        return found


def _valid(rows: Rows, tile: int, low: int, high: int, row: int) -> int:
    """How many of the tiles ``low:high`` have a row of that number inside of the output."""
    return max(0, min(high, -(-(rows.job.outputs - row) // tile)) - low)


class Correlation:
    """Convolution or transposed convolution with ``weight`` (groups, outputs, channels, *kernel) into ``made``; called with a range of
    images, by one thread or by several."""

    def __init__(
        self, plan: Plan, input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, made: np.ndarray, at_a_time: int
    ) -> None:
        self.plan, self.input, self.made, self.at_a_time = plan, input, made, at_a_time
        self.bias = None if bias is None else bias.reshape(-1, 1)
        self.channels = weight.shape[2]
        output, kernel, _ = matrices(plan.tile, plan.taps)
        self.output_matrix, self.kernel_matrix = output.astype(np.float32), kernel.astype(np.float32)
        self.matrices = [[self._transformed(weight, rows, rest) for rest in plan.rest] for rows in plan.rows]

    def _transformed(self, weight: np.ndarray, rows: Rows, rest: Rest) -> np.ndarray:
        """(points, groups, outputs, kinds by channels by other taps)."""
        index: Index = (..., rows.job.kernel, *[job.kernel for job in rest.jobs])
        used = weight[index]
        made = np.stack([np.tensordot(self.kernel_matrix, used[:, :, :, place], (1, 3)) for _, _, place in rows.kinds], 3)
        return np.ascontiguousarray(made).reshape(*made.shape[:3], -1)

    def __call__(self, images: slice) -> None:
        laid: Tiles | None = None
        for low in range(images.start, images.stop, self.at_a_time):
            here = slice(low, min(low + self.at_a_time, images.stop))
            if laid is None or laid.count != here.stop - low:
                laid = Tiles(self.plan, self.channels, here.stop - low)
            laid.fill(self.input[here])
            for rows, of_rest in zip(self.plan.rows, self.matrices):
                for first in range(0, rows.tiles, laid.step):
                    last = min(first + laid.step, rows.tiles)
                    laid.transform(rows, first, last)
                    for rest, matrix in enumerate(of_rest):
                        self._finish(laid, matrix, rows, rest, first, last, self.made[here])

    def _finish(self, laid: Tiles, matrix: np.ndarray, rows: Rows, rest: int, low: int, high: int, made: np.ndarray) -> None:
        """The outputs of tiles ``low:high``."""
        points, groups, outputs, _ = matrix.shape
        jobs, tiles = self.plan.rest[rest].jobs, high - low
        counts = [job.outputs for job in jobs]
        values = np.empty((points, groups, outputs, tiles * math.prod(counts) * laid.count), np.float32)
        for which, columns in laid.columns(rest, tiles):
            np.matmul(matrix[which], columns, out=values[which])
        tile = self.plan.tile
        y = np.matmul(self.output_matrix, values.reshape(points, -1)).reshape(tile, groups * outputs, -1)
        if self.bias is not None:
            y += self.bias
        y = y.reshape(tile, groups * outputs, tiles, *counts, laid.count)
        for row in range(tile):
            valid = _valid(rows, tile, low, high, row)
            start, step = rows.job.first + rows.job.step * (low * tile + row), rows.job.step * tile
            here = slice(start, start + valid * step, step)
            target: Index = (slice(None), slice(None), here, *[slice(job.first, None, job.step) for job in jobs])
            made[target] = np.moveaxis(y[row, :, :valid], -1, 0)


class WeightGradient:
    """Gradient of the weight; called with a range of images, by one thread or by several, each of which adds up a share."""

    def __init__(self, plan: Plan, input: np.ndarray, other: np.ndarray, groups: int, at_a_time: int) -> None:
        self.plan, self.input, self.other, self.at_a_time = plan, input, other, at_a_time
        self.channels, self.outputs = input.shape[1] // groups, other.shape[1] // groups
        output, kernel, _ = matrices(plan.tile, plan.taps)
        self.output_matrix, self.kernel_matrix = output.astype(np.float32), kernel.astype(np.float32)
        self.shares: dict[int, np.ndarray] = {}

    def __call__(self, images: slice) -> None:
        (rows,) = self.plan.rows
        laid: Tiles | None = None
        share: np.ndarray | None = None
        for low in range(images.start, images.stop, self.at_a_time):
            here = slice(low, min(low + self.at_a_time, images.stop))
            if laid is None or laid.count != here.stop - low:
                laid = Tiles(self.plan, self.channels, here.stop - low)
            laid.fill(self.input[here])
            for first in range(0, rows.tiles, laid.step):
                last = min(first + laid.step, rows.tiles)
                laid.transform(rows, first, last)
                g = self._cotangents(self.other[here], rows, first, last)
                made = np.concatenate([np.matmul(columns, g[which]) for which, columns in laid.columns(0, last - first)])
                share = made if share is None else np.add(share, made, out=share)
        assert share is not None
        self.shares[images.start] = share

    def _cotangents(self, g: np.ndarray, rows: Rows, low: int, high: int) -> np.ndarray:
        """Values at all points of the cotangents of some tiles, (points, groups, tiles by outputs along the axes, outputs)."""
        tile = self.plan.tile
        laid = np.zeros((tile, high - low, *g.shape[3:], *g.shape[:2]), np.float32)
        for row in range(tile):
            valid = _valid(rows, tile, low, high, row)
            part = g[:, :, low * tile + row :: tile][:, :, :valid]
            laid[row, :valid] = part.transpose(2, *range(3, part.ndim), 0, 1)
        made = np.matmul(self.output_matrix.T, laid.reshape(tile, -1))
        return made.reshape(len(made), -1, self.plan.groups, self.outputs).swapaxes(1, 2)

    def total(self) -> np.ndarray:
        """(groups, outputs, channels, *kernel): all shares, in an order that does not depend on the threads."""
        total = functools.reduce(np.add, [self.shares[start] for start in sorted(self.shares)])
        (rows,), (rest,) = self.plan.rows, self.plan.rest
        widths = [job.width for job in rest.jobs]
        total = total.reshape(len(total), self.plan.groups, len(rows.kinds), self.channels, *widths, self.outputs)
        made = np.empty((self.plan.groups, self.outputs, self.channels, rows.job.width, *widths), np.float32)
        for kind, (_, _, place) in enumerate(rows.kinds):
            taps = np.tensordot(self.kernel_matrix.T, total[:, :, kind], 1)  # (taps, groups, channels, other taps, outputs)
            made[:, :, :, place] = np.moveaxis(np.moveaxis(taps, -1, 2), 0, 3)
        return made
