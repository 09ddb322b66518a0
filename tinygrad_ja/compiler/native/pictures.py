"""Pictures and their axes for machine code of convolutions: how they lie, which elements an output reads, and frames of zeros around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .code import F32, Code, Value
from .launches import Unsupported

Pair = tuple[int, int]

FRAME = 1 << 22
"""Bytes of an image that is copied into a frame, at most."""


class Axis(NamedTuple):
    """One axis of a picture: ``size`` elements of x, so many outputs, and how taps lie."""

    transposed: bool
    size: int
    outputs: int
    taps: int
    stride: int
    before: int
    dilation: int

    def reads(self, q: int) -> list[tuple[int, int]]:
        """``(tap, position)`` for everything that output ``q`` sums, positions outside of the picture included."""
        places = [(k, k * self.dilation) for k in range(self.taps)]
        if not self.transposed:
            return [(k, q * self.stride + shift - self.before) for k, shift in places]
        return [
            (k, (q + self.before - shift) // self.stride) for k, shift in places if not (q + self.before - shift) % self.stride
        ]

    @property
    def period(self) -> int:
        """Outputs so far apart read alike."""
        return self.stride if self.transposed else 1

    @property
    def step(self) -> int:
        """How far apart that is in x."""
        return 1 if self.transposed else self.stride

    def inside(self, first: int, count: int) -> bool:
        """Whether outputs from ``first`` on, so many, read nothing but the picture itself."""
        return all([0 <= p < self.size for q in range(first, first + count) for _, p in self.reads(q)])

    @property
    def border(self) -> Pair:
        """Zeros that are needed before and behind the picture."""
        places = [p for q in range(self.outputs) for _, p in self.reads(q)]
        return max(0, -min(places, default=0)), max(0, max(places, default=0) - self.size + 1)


def axes_of(
    transposed: bool, shape: Sequence[int], size: Sequence[int], kernel: Sequence[int], *geometry: Sequence[int]
) -> list[Axis]:
    """The axes of pictures, always two."""
    axes = [Axis(transposed, *numbers) for numbers in zip(shape, size, kernel, *geometry)]
    if len(axes) > 2:
        raise Unsupported("more than two axes")
    return [Axis(transposed, 1, 1, 1, 1, 0, 1)] * (2 - len(axes)) + axes


class Picture(NamedTuple):
    """How an array (N, C, H, W) lies: bytes from image to image, channel to channel and row to row."""

    address: int
    image: int
    channel: int
    row: int


def picture(array: np.ndarray, contiguous: bool = False) -> Picture:
    """Raises Unsupported unless elements of a row (of all rows, if ``contiguous``) lie side by side."""
    if array.dtype != F32:
        raise Unsupported(f"no convolution of {array.dtype}")
    if not array.flags.aligned:
        raise Unsupported("an array that is not aligned")
    image, channel, *along = array.strides
    *rows, width = array.shape[2:]
    row = along[0] if rows else width * 4
    if (width > 1 and along[-1] != 4) or (contiguous and rows and rows[0] > 1 and row != 4 * width):
        raise Unsupported("rows whose elements do not lie side by side")
    return Picture(array.__array_interface__["data"][0], image, channel, row if rows and rows[0] > 1 else 4 * width)


class Tile(NamedTuple):
    """``rows`` by ``columns`` outputs, and where such tiles begin."""

    rows: int
    columns: int
    row_starts: range
    column_starts: range

    def skips(self, axis: Axis) -> bool:
        """Whether no such tile has to read the zeros on the left and on the right."""
        return len(self.column_starts) == 1 or all([axis.inside(start, self.columns) for start in self.column_starts])


# ---- pieces of text ----------------------------------------------------------------------------------


class Bordered:
    """Copies an image, or some rows of it, into a frame of zeros, if it needs one. tiles: those that read it, which may do without. rows: how
    many rows of outputs read what is in a frame at one time; 0 for all."""

    def __init__(
        self, axes: Sequence[Axis], channels: int, picture: Picture, tiles: Sequence[Tile] = (), rows: int = 0
    ) -> None:
        height, width = axes
        (self.top, below), (self.left, right) = [axis.border for axis in axes]
        if tiles and all([tile.rows == 1 for tile in tiles]):
            self.top = below = 0
        if tiles and all([tile.skips(width) for tile in tiles]):
            self.left = right = 0
        self.height, self.width, self.channels, self.picture = height.size, width.size, channels, picture
        self.needed = any((self.top, below, self.left, right))
        self.rows = self.top + self.height + below
        self.banded = bool(rows)
        if rows:
            self.top, self.rows = height.before, (rows - 1) * height.stride + (height.taps - 1) * height.dilation + 1
        self.row = 4 * (self.left + self.width + right) if self.needed else picture.row
        self.channel = self.row * self.rows if self.needed else picture.channel
        self.begin = self.top * self.row + 4 * self.left
        self.nbytes = -(-(self.channel * channels + 64) // 64) * 64 if self.needed else 0

    def clear(self, code: Code, room: str, frames: int = 1) -> None:
        """Make frames of zeros in ``room``, one behind the other."""
        if self.needed:
            code.declare("void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
            code.line(f"call void @llvm.memset.p0.i64(ptr {room}, i8 0, i64 {frames * self.nbytes}, i1 false)")

    def copy(self, code: Code, image: str, room: str, first: str | int = 0) -> str:
        """Copy ``image``, from row ``first`` on, into the frame at ``room``; returns where its position (first, 0) is."""
        image = code.moved(image, code.whole("mul", first, self.picture.row))
        if not self.needed:
            return image
        begin = code.moved(room, self.begin)
        low: str | int = 0
        high: str | int = self.height
        if self.banded:  # rows from -top to rows - top, of which some, or all, may not exist
            end = self.rows - self.top
            low = smaller(code, larger(code, code.whole("sub", 0, first), -self.top), end)
            high = larger(code, smaller(code, code.whole("sub", self.height, first), end), low)
        with code.loop(0, self.channels) as c:
            source = code.moved(image, code.whole("mul", c, self.picture.channel))
            target = code.moved(begin, code.whole("mul", c, self.channel))
            if self.banded:
                self._fill(code, None, target, -self.top, low)
                self._fill(code, None, target, high, self.rows - self.top)
            self._fill(code, source, target, low, high)
        return begin

    def _fill(self, code: Code, source: str | None, target: str, low: str | int, high: str | int) -> None:
        """Copy rows, or set them to 0."""
        with code.loop(low, high) as r:
            there = code.moved(target, code.whole("mul", r, self.row))
            here = code.moved(source or target, code.whole("mul", r, self.picture.row))
            for first in range(0, self.width, code.lanes):
                mask = None if first + code.lanes <= self.width else code.mask_below(str(self.width - first))
                value = code.constant(F32, 0) if source is None else code.load(code.moved(here, 4 * first), F32, 4, mask)
                code.store(value, code.moved(there, 4 * first), 4, mask)


def below(code: Code, left: str, skip: int) -> str:
    """Which of the lanes ``skip``, ``skip + 1``, ... are below ``left``."""
    return code.mask_below(larger(code, code.whole("sub", left, skip), 0))


def larger(code: Code, a: str | int, b: str | int) -> str:
    """The larger of two integers."""
    code.declare("i64 @llvm.smax.i64(i64, i64)")
    return code.plain(f"call i64 @llvm.smax.i64(i64 {a}, i64 {b})")


def smaller(code: Code, a: str | int, b: str | int) -> str:
    """The smaller of two integers."""
    code.declare("i64 @llvm.smin.i64(i64, i64)")
    return code.plain(f"call i64 @llvm.smin.i64(i64 {a}, i64 {b})")


def add_product(code: Code, slot: str, a: Value, b: Value) -> None:
    """Add a product to the vector in a slot."""
    kind = code.type(F32)
    total = code.multiply_add(a, b, Value(code.plain(f"load {kind}, ptr {slot}"), F32))
    code.line(f"store {kind} {total.text}, ptr {slot}")


def spread_element(code: Code, place: str) -> Value:
    """A number from memory in all lanes."""
    return Value(code.spread(code.plain(f"load float, ptr {place}"), "float"), F32)
