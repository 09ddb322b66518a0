"""What a convolution reads where, axis by axis: the part of the kernels on the CPU that only knows shapes.

Elements of an image that lie a multiple of the stride apart are laid out side by side, as a phase, so that a tap of the kernel reads
neighbours whatever the stride. The transposed convolution is, for each remainder of its positions by the stride, a convolution with the taps
that reach them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

from ..ops.unfold import Sizes


class Taps(NamedTuple):
    """Taps of one phase, evenly spaced: ``place`` among the taps of a job, and the position that output 0 reads through the first of them."""

    place: range
    phase: int
    start: int
    step: int


class Job(NamedTuple):
    """Outputs ``first, first + step, ...``, so many ``outputs``, and what they read: ``kernel`` says which of the kernel's elements."""

    first: int
    step: int
    outputs: int
    kernel: slice
    taps: list[Taps]

    @property
    def width(self) -> int:
        """Number of taps."""
        return sum([len(taps.place) for taps in self.taps])


class Axis(NamedTuple):
    """An axis of the images: ``phases`` of ``length`` positions each; position i of phase f is element ``i·phases + f - before``."""

    phases: int
    length: int
    before: int
    size: int
    jobs: list[Job]

    def held(self, phase: int) -> tuple[slice, slice]:
        """Positions of a phase that are inside the image, and the elements of the image they hold."""
        low = -((phase - self.before) // self.phases)
        high = min(self.length, (self.size - 1 + self.before - phase) // self.phases + 1)
        low, high = max(low, 0), max(high, low, 0)
        first = low * self.phases + phase - self.before
        return slice(low, high), slice(first, max(first + (high - low) * self.phases, 0), self.phases)


def reading(size: int, kernel: int, outputs: int, stride: int, before: int, dilation: int) -> Axis:
    """Convolution: output p reads element ``p·stride + k·dilation - before`` through tap k."""
    taps = []
    apart = stride // math.gcd(stride, dilation)  # taps of the same phase
    for first in range(min(apart, kernel)):
        place = range(first, kernel, apart)
        taps.append(Taps(place, first * dilation % stride, first * dilation // stride, apart * dilation // stride))
    job = Job(0, 1, outputs, slice(None), taps)
    return Axis(stride, outputs + (kernel - 1) * dilation // stride, before, size, [job])


def reached(size: int, kernel: int, outputs: int, stride: int, before: int, dilation: int) -> Axis:
    """Transposed convolution: element p reaches output ``p·stride + k·dilation - before`` through tap k."""
    jobs = []
    apart = stride // math.gcd(stride, dilation)
    for first in range(min(stride, outputs)):
        reaching = [k for k in range(min(apart, kernel)) if (first + before - k * dilation) % stride == 0]
        taps = []
        for k in reaching:  # at most one
            place = range(len(range(k, kernel, apart)))
            taps.append(Taps(place, 0, (first + before - k * dilation) // stride, -(apart * dilation // stride)))
        chosen = slice(reaching[0], None, apart) if reaching else slice(0)
        jobs.append(Job(first, stride, len(range(first, outputs, stride)), chosen, taps))
    every = [(taps, job.outputs) for job in jobs for taps in job.taps]
    lowest = min([taps.start + taps.step * taps.place[-1] for taps, _ in every], default=0)
    padding = max(0, -lowest)
    length = max([taps.start + count for taps, count in every], default=0) + padding
    moved = [job._replace(taps=[taps._replace(start=taps.start + padding) for taps in job.taps]) for job in jobs]
    return Axis(1, length, padding, size, moved)


def axes_of(transposed: bool, shape: Sizes, kernel: Sizes, size: Sizes, *geometry: Sizes) -> tuple[Axis, ...]:
    """The axes of images of ``shape`` and outputs of ``size``."""
    return tuple([(reached if transposed else reading)(*axis) for axis in zip(shape, kernel, size, *geometry)])


def held_parts(axes: tuple[Axis, ...]) -> Iterator[tuple[Sizes, list[slice], list[slice]]]:
    """``(phases, positions, elements)`` of each part of the images that is laid out somewhere."""
    for phase in itertools.product(*[range(axis.phases) for axis in axes]):
        held = [axis.held(f) for axis, f in zip(axes, phase)]
        if all([there.stop > there.start for there, _ in held]):
            yield phase, [there for there, _ in held], [here for _, here in held]
