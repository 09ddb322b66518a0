"""Depthwise convolution on the CPU: an output sees one channel only, so there is no product of matrices in it.

    y[n, c] = Σ_k w[c, k] x_k[n, c]        x_k: what tap k of the kernel reads, a view of the images as they are laid out (``conv_plan.py``)
    ∂E/∂w[c, k] = Σ_n <g[n, c], x_k[n, c]>

With all ``x_k`` as arrays these are an element-wise sum and sums over rows, which machine code computes in one pass
(``backend/in_place.py``). Where there is none, images go the way of all others (``numpy_conv.py``).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..backend.in_place import run_in_place
from ..ops.unfold import Sizes
from .conv_plan import Axis, Job, axes_of, held_parts

WORTH = 1 << 18
"""Multiplications from which on it pays: the views take some 50 µs to make."""

TAPS = 49
"""The most elements of a kernel."""

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
    transposed: bool, input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, size: Sizes, groups: int, *geometry: Sizes
) -> np.ndarray | None:
    """The convolution of ``input`` (N, C, ...) with ``weight`` (C, 1, ...), or its transpose; None where it has to go another way."""
    places = input[0, 0].size if transposed else math.prod(size)
    if not _is_worth_it(input, weight, groups, len(input) * weight.size * places):
        return None
    axes, fills, parts = _plan(transposed, input.shape[2:], weight.shape[2:], size, *geometry)
    laid, wide = _laid(input, axes, fills), (1, len(weight), *[1] * len(size))
    given = [] if bias is None else [bias.reshape(wide)]
    made = np.empty((len(input), len(weight), *size), input.dtype)
    for part in parts:
        y = made if len(parts) == 1 else np.empty((*made.shape[:2], *part.size), made.dtype)
        taps = [weight[at].reshape(wide) for at, _ in part.taps]
        views = [laid[read] for _, read in part.taps]
        if not taps:
            y[...] = given[0] if given else 0
        elif not run_in_place(_sum_of_products, [*views, *taps, *given], [y]):
            return None
        if y is not made:
            made[part.outputs] = y
    return made


def gradient_of_weight(input: np.ndarray, other: np.ndarray, kernel: Sizes, groups: int, *geometry: Sizes) -> np.ndarray | None:
    """The gradient of the weight (C, 1, *kernel) from images and the gradients of the outputs; None where it has to go another way."""
    made = np.empty((other.shape[1], 1, *kernel), input.dtype)
    if not _is_worth_it(input, made, groups, made[0].size * other.size):
        return None
    axes, fills, [part] = _plan(False, input.shape[2:], kernel, other.shape[2:], *geometry)
    laid = _laid(input, axes, fills)
    sums = [np.empty(len(made), made.dtype) for _ in part.taps]
    if not run_in_place(_products, [other, *[laid[read] for _, read in part.taps]], sums):
        return None
    for (at, _), total in zip(part.taps, sums):
        made[at] = total
    return made


def _is_worth_it(input: np.ndarray, weight: np.ndarray, groups: int, products: int) -> bool:
    one = weight.shape[1] == 1 and len(weight) == input.shape[1] == groups
    return one and weight.dtype == input.dtype == np.float32 and products >= WORTH and weight[0].size <= TAPS


def _laid(images: np.ndarray, axes: tuple[Axis, ...], fills: list[tuple[Index, Index]]) -> np.ndarray:
    """(N, C, phases ..., positions ...), with zeros around the images."""
    made = np.zeros((*images.shape[:2], *[axis.phases for axis in axes], *[axis.length for axis in axes]), images.dtype)
    for there, here in fills:
        made[there] = images[here]
    return made


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
