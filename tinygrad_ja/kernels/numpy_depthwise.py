"""Depthwise convolution on the CPU: an output sees one channel only, so there is no product of matrices in it.

    y[n, c] = Σ_k w[c, k] x_k[n, c]        x_k: what tap k of the kernel reads, a view of the images as they are laid out (``conv_plan.py``)
    ∂E/∂w[c, k] = Σ_n <g[n, c], x_k[n, c]>

With all ``x_k`` as arrays these are an element-wise sum and sums over rows, for which there is machine code (``backend/in_place.py``). Where
there is none, images go the way of all others (``numpy_conv.py``).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..backend.in_place import in_place
from ..ops.unfold import Sizes
from . import machine_code
from .conv_plan import Axis, Job, axes_of, held_parts

WORTH = 1 << 15
"""Outputs from which on it pays: finding what to run, and the views, take some 50 to 100 µs."""

TAPS = 49
"""The most elements of a kernel: for so many, compiling takes a second."""

ROOM = 1 << 18
"""Numbers that are laid out at a time, if that is more than one image: 1 MB, which stays in the processor's cache."""

Index = tuple[Any, ...]


class _Part(NamedTuple):
    """Outputs of one job along each axis: where they lie, how many they are, and for each tap its place in the weight and what it reads."""

    outputs: Index
    size: Sizes
    taps: list[tuple[Index, Index]]


@functools.lru_cache(256)
def _plan(transposed: bool, *axes: Sizes) -> tuple[tuple[Axis, ...], list[tuple[Index, Index]], list[_Part]]:
    """The axes, what of the images is laid out where, and the parts of the outputs."""
    made = axes_of(transposed, *axes)
    fills = [((..., *phase, *there), (..., *here)) for phase, there, here in held_parts(made)]
    return made, fills, [_part(jobs, axes[1]) for jobs in itertools.product(*[axis.jobs for axis in made])]


def _part(jobs: tuple[Job, ...], kernel: Sizes) -> _Part:
    reads = [dict(_read_by(job, range(side)[job.kernel])) for job, side in zip(jobs, kernel)]
    taps = [
        ((slice(None), 0, *at), (..., *[phase for phase, _ in read], *[place for _, place in read]))
        for at, read in zip(itertools.product(*reads), itertools.product(*[of_axis.values() for of_axis in reads]))
    ]
    outputs = (..., *[slice(job.first, None, job.step) for job in jobs])
    return _Part(outputs, tuple([job.outputs for job in jobs]), taps)


def _read_by(job: Job, kernel: range) -> Iterator[tuple[int, tuple[int, slice]]]:
    """An element of the kernel, and the phase and the positions that it reads, in order."""
    found = {}
    for taps in job.taps:
        for i, k in enumerate(taps.place):
            start = taps.start + i * taps.step
            found[kernel[k]] = taps.phase, slice(start, start + job.outputs)
    yield from sorted(found.items())


def correlation(
    transposed: bool, input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, size: Sizes, *geometry: Sizes
) -> np.ndarray | None:
    """The convolution of ``input`` (N, C, ...) with ``weight`` (C, 1, ...), or its transpose; None where it has to go another way."""
    places = math.prod(input.shape[2:] if transposed else size)
    if not _is_worth_it(input, weight.dtype, weight[0].size, places):
        return None
    axes, fills, parts = _plan(transposed, input.shape[2:], weight.shape[2:], size, *geometry)
    laid, blocks = _room(input, axes)
    wide = (1, len(weight), *[1] * len(size))
    given = [] if bias is None else [bias.reshape(wide)]
    made = np.empty((len(input), len(weight), *size), input.dtype)
    work = []
    for part in parts:
        views, taps = [laid[read] for _, read in part.taps], [weight[at].reshape(wide) for at, _ in part.taps]
        y = np.empty((len(laid), len(weight), *part.size), made.dtype)
        run = in_place(_sum_of_products, [*views, *taps, *given], [y]) if taps else None
        work.append((part, [*views, *taps, *given, y], run))
    if any([part.taps and run is None for part, _, run in work]):
        return None
    for block in blocks:
        _fill(laid, input[block], fills)
        for part, arrays, run in work:
            y = made[block] if len(parts) == 1 else arrays[-1]
            if run is None:  # no tap reaches these outputs
                y[...] = given[0] if given else 0
            else:
                run([*arrays[:-1], y])
            if len(parts) > 1:
                made[block][part.outputs] = y
    return made


def gradient_of_weight(input: np.ndarray, other: np.ndarray, kernel: Sizes, *geometry: Sizes) -> np.ndarray | None:
    """The gradient of the weight (C, 1, *kernel) from images and the gradients of the outputs; None where it has to go another way."""
    if not _is_worth_it(input, other.dtype, math.prod(kernel), math.prod(other.shape[2:])):
        return None
    axes, fills, [part] = _plan(False, input.shape[2:], kernel, other.shape[2:], *geometry)
    laid, blocks = _room(input, axes)
    views = [laid[read] for _, read in part.taps]
    sums = list(np.empty((len(views), input.shape[1]), input.dtype))
    run = in_place(_products, [other[blocks[0]], *views], sums)
    if run is None:
        return None
    made = np.zeros((input.shape[1], 1, *kernel), input.dtype)
    for block in blocks:
        _fill(laid, input[block], fills)
        run([other[block], *views, *sums])
        for (at, _), total in zip(part.taps, sums):
            made[at] += total
    return made


def _is_worth_it(input: np.ndarray, dtype: np.dtype, taps: int, places: int) -> bool:
    outputs = input.shape[0] * input.shape[1] * places
    return (
        dtype == input.dtype == np.float32
        and outputs >= WORTH
        and taps <= TAPS
        and machine_code.load_machine_code() is not None
    )


def _room(images: np.ndarray, axes: tuple[Axis, ...]) -> tuple[np.ndarray, list[slice]]:
    """Zeros for some images, (N', C, phases ..., positions ...), and the blocks of N' in which all come."""
    one = (images.shape[1], *[axis.phases for axis in axes], *[axis.length for axis in axes])
    count = next(n for n in range(max(1, min(len(images), ROOM // max(1, math.prod(one)))), 0, -1) if len(images) % n == 0)
    return np.zeros((count, *one), images.dtype), [slice(low, low + count) for low in range(0, len(images), count)]


def _fill(laid: np.ndarray, images: np.ndarray, fills: list[tuple[Index, Index]]) -> None:
    for there, here in fills:
        laid[there] = images[here]


def _sum_of_products(xp: Any, *parts: Any) -> tuple[Any]:
    """Σ x_k w_k, plus what there is after those."""
    count = len(parts) // 2
    made = parts[0] * parts[count]
    for x, w in zip(parts[1:count], parts[count + 1 : 2 * count]):
        made = made + x * w
    return (made + parts[-1] if len(parts) > 2 * count else made,)


def _products(xp: Any, g: Any, *views: Any) -> tuple[Any, ...]:
    axes = (0, *range(2, g.ndim))
    return tuple([xp.sum(g * x, axis=axes) for x in views])
