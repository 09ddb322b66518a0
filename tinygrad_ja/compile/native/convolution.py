"""Convolution, its transpose and the gradient of its weight as machine code: direct sums with everything about the shapes written into the text.

Both directions are one kind of sum,

    y[o, q] = Σ x[c, position(q, k)] w[o, c, k]    over channels c and taps k,

where ``position`` is q·stride + k·dilation - before for a convolution and (q + before - k·dilation) / stride, if whole, for its transpose. A
vector holds one output for as many channels o as it has lanes. A *tile* is a run of outputs q whose vectors all stay in registers while c
runs; an element of x is spread over all lanes and meets every tap in which some output of the tile reads it. At the end vectors are turned
into runs of outputs of one channel. Weights are copied first so that the channels of a vector lie side by side; images that have a border of
zeros are copied into one, each by the thread that needs it.

The gradient of the weight keeps taps in registers while q runs, and reads g with its channels side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .code import F32, Code, Value
from .launches import Launch, Unsupported
from .turning import turn, turn_square
from .target import named, processor
from .team import MOST

Pair = tuple[int, int]


# ---- what is computed --------------------------------------------------------------------------------


class Axis(NamedTuple):
    """One axis of a picture: ``size`` elements of x, ``count`` outputs, and how taps lie."""

    transposed: bool
    size: int
    count: int
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

    @property
    def skips(self) -> bool:
        """Whether the taps that read the picture itself, not the zeros around it, follow each other."""
        return self.taps == 1 or self.dilation == 1

    @property
    def border(self) -> Pair:
        """Zeros that are needed before and behind the picture."""
        places = [p for q in range(self.count) for _, p in self.reads(q)]
        return max(0, -min(places, default=0)), max(0, max(places, default=0) - self.size + 1)


def axes_of(transposed_: bool, shape: Sequence[int], size: Sequence[int], kernel: Sequence[int], *geometry: Sequence[int]) -> list[Axis]:
    """The axes of pictures, always two."""
    axes = [Axis(transposed_, *numbers) for numbers in zip(shape, size, kernel, *geometry)]
    if len(axes) > 2:
        raise Unsupported("more than two axes")
    return [Axis(transposed_, 1, 1, 1, 1, 0, 1)] * (2 - len(axes)) + axes


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


def _tiles(axes: Sequence[Axis], most: int) -> list[Tile]:
    """Tiles with at most ``most`` outputs that cover all of them: whole rows, or parts of one row."""
    height, width = axes
    tiles: list[Tile] = []
    if width.count <= most // height.period and height.count >= height.period:
        fit = min(height.count, most // width.count) // height.period * height.period
        even = [r for r in range(height.period, fit + 1, height.period) if height.count % r == 0 and 2 * r >= fit]
        rows = even[-1] if even else fit
        whole = height.count // rows * rows
        tiles.append(Tile(rows, width.count, range(0, whole, rows), range(1)))
        if whole < height.count:
            tiles.append(Tile(height.count - whole, width.count, range(whole, height.count, height.count - whole), range(1)))
        return tiles
    pieces = -(-width.count // most)
    columns = -(-width.count // pieces)
    columns = min(width.count, -(-columns // width.period) * width.period)
    whole = width.count // columns * columns
    starts = [range(0, whole, columns)] if whole > 2 * columns else [range(c, c + columns, columns) for c in range(0, whole, columns)]
    if whole < width.count:
        starts.append(range(whole, width.count, width.count - whole))
    for first in range(min(height.period, height.count)):
        for start in starts:
            tiles.append(Tile(1, min(columns, width.count - start.start), range(first, height.count, height.period), start))
    return tiles


# ---- pieces of text ----------------------------------------------------------------------------------


def _copy_rows(code: Code, source: str, target: str, rows: int, width: int, source_row: int, target_row: int) -> None:
    """Copy ``rows`` rows of ``width`` elements."""
    with code.loop(0, rows) as r:
        a = code.moved(source, code.whole("mul", r, source_row))
        b = code.moved(target, code.whole("mul", r, target_row))
        for low in range(0, width, code.lanes):
            mask = None if low + code.lanes <= width else code.mask_below(str(width - low))
            code.store(code.load(code.moved(a, 4 * low), F32, 4, mask), code.moved(b, 4 * low), 4, mask)


class Bordered:
    """Copies an image into a frame of zeros, if it needs one. tiles: those that read it, which may do without."""

    def __init__(self, axes: Sequence[Axis], channels: int, picture: Picture, tiles: Sequence[Tile] = ()) -> None:
        (self.top, below), (self.left, right) = [axis.border for axis in axes]
        if tiles and all([tile.rows == 1 for tile in tiles]) and axes[0].skips:
            self.top = below = 0
        if tiles and all([len(tile.column_starts) == 1 for tile in tiles]):
            self.left = right = 0
        self.height, self.width, self.channels, self.picture = axes[0].size, axes[1].size, channels, picture
        self.needed = any((self.top, below, self.left, right))
        self.row = 4 * (self.left + self.width + right) if self.needed else picture.row
        self.channel = self.row * (self.top + self.height + below) if self.needed else picture.channel
        self.begin = self.top * self.row + 4 * self.left
        self.nbytes = -(-(self.channel * channels + 64) // 64) * 64 if self.needed else 0

    def text(self, code: Code, image: str, room: str) -> str:
        """Copy ``image`` into ``room``; returns where its position (0, 0) is."""
        if not self.needed:
            return image
        code.declare("void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        code.line(f"call void @llvm.memset.p0.i64(ptr {room}, i8 0, i64 {self.nbytes}, i1 false)")
        begin = code.moved(room, self.begin)
        with code.loop(0, self.channels) as c:
            source = code.moved(image, code.whole("mul", c, self.picture.channel))
            target = code.moved(begin, code.whole("mul", c, self.channel))
            _copy_rows(code, source, target, self.height, self.width, self.picture.row, self.row)
        return begin


def _accumulators(code: Code, count: int) -> list[str]:
    return [code.stack(code.type(F32)) for _ in range(count)]


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
    kind = code.type(F32)
    total = code.multiply_add(a, b, Value(code.plain(f"load {kind}, ptr {slot}"), F32))
    code.line(f"store {kind} {total.text}, ptr {slot}")


def spread_element(code: Code, place: str) -> Value:
    return Value(code.spread(code.plain(f"load float, ptr {place}"), "float"), F32)


# ---- convolution and its transpose -------------------------------------------------------------------


class _Shape(NamedTuple):
    """What the text of a convolution depends on. ``vectors``: vectors of output channels that a tile has at once."""

    axes: tuple[Axis, Axis]
    channels: int
    outputs: int
    vectors: int
    biased: bool
    split: int


def _room_for_outputs(axes: Sequence[Axis], vectors: int) -> int:
    """How many outputs a tile may have."""
    weights = axes[1].taps * vectors
    spare = processor().registers - 1
    return max(1, (spare - min(weights, spare // 3)) // vectors)


def _best_vectors(axes: Sequence[Axis], outputs: int, lanes: int) -> int:
    """Vectors of channels: more than one where the pictures are so small that one would leave most registers empty."""
    blocks = -(-outputs // lanes)
    for vectors in (1, 2, 4):
        if blocks % (2 * vectors) or max([t.rows * t.columns for t in _tiles(axes, _room_for_outputs(axes, vectors))]) * vectors > 12:
            return vectors
    return 4


def _convolution_text(shape: _Shape, x: Picture, y: Picture) -> tuple[str, str, tuple[str, ...], Bordered]:
    """``convolution(words, chunk, worker)``: a chunk is some blocks of channels of one image. Words: x, weights, bias, y, room."""
    lanes = processor().vector // 4
    code = Code(lanes)
    names = "x weights bias y room".split()
    word = {name: code.word("%words", k, "ptr") for k, name in enumerate(names)}
    axes, channels, outputs, vectors, _, split = shape
    each = lanes * vectors
    blocks = -(-outputs // each)
    tiles = _tiles(axes, _room_for_outputs(axes, vectors))
    frame = Bordered(axes, channels, x, tiles)
    image, share = code.whole("udiv", "%chunk", split), code.whole("urem", "%chunk", split)
    first = code.whole("mul", share, blocks // split)
    source = code.moved(word["x"], code.whole("mul", image, x.image))
    source = frame.text(code, source, code.moved(word["room"], code.whole("mul", "%worker", frame.nbytes)))
    target = code.moved(word["y"], code.whole("mul", image, y.image))
    taps = axes[0].taps * axes[1].taps
    with code.loop(first, code.whole("add", first, blocks // split)) as block:
        weights = code.moved(word["weights"], code.whole("mul", block, channels * taps * each * 4))
        bias = code.moved(word["bias"], code.whole("mul", block, each * 4))
        made = code.moved(target, code.whole("mul", block, each * y.channel))
        left = code.whole("sub", outputs, code.whole("mul", block, each)) if outputs % each else ""
        for tile in tiles:
            rows_at, columns_at = tile.row_starts, tile.column_starts
            with code.loop(0, len(rows_at)) as i, code.loop(0, len(columns_at)) as j:
                down = code.whole("mul", i, rows_at.step // axes[0].period * axes[0].step * frame.row)
                right = code.whole("mul", j, columns_at.step // axes[1].period * axes[1].step * 4)
                here = code.moved(code.moved(source, down), right)
                there = code.moved(code.moved(made, code.whole("mul", i, rows_at.step * y.row)), code.whole("mul", j, columns_at.step * 4))
                there = code.moved(there, rows_at.start * y.row + columns_at.start * 4)
                _tile_text(code, shape, tile, i, frame, here, weights, bias, there, y, left)
    code.line("ret void")
    name, text = named(code.definition("void @NAME(ptr noalias %words, i64 %chunk, i64 %worker)"), "convolution")
    return name, text, tuple(code.declared), frame


class _Run(NamedTuple):
    """Rows of taps that differ only in where they begin: the row of the first in the kernel and in x, and the distances to the next.
    uses: position in x -> the outputs of the tile that read it, and with which tap of the row."""

    count: int
    tap: int
    row: int
    tap_step: int
    row_step: int
    uses: dict[Pair, list[tuple[Pair, int]]]


def _range(code: Code, run: _Run, axis: Axis, tile: Tile, index: str) -> tuple[str | int, str | int]:
    """Which rows of taps of a run read the picture itself."""
    step, spread = tile.row_starts.step // axis.period * axis.step, max([down for down, _ in run.uses])
    rows = [
        run.row + i * step + n * run.row_step + down
        for i in range(len(tile.row_starts))
        for n in (0, run.count - 1)
        for down in (0, spread)
    ]
    if not axis.skips or (0 <= min(rows) and max(rows) < axis.size):
        return 0, run.count
    first = code.whole("add", code.whole("mul", index, step), run.row)
    if run.row_step < 0:
        low, high = code.whole("sub", first, axis.size - 1), code.whole("add", first, spread + 1)
    else:
        low, high = code.whole("sub", -spread, first), code.whole("sub", axis.size, first)
    return larger(code, low, 0), smaller(code, high, run.count)


def _runs(axes: Sequence[Axis], tile: Tile) -> list[_Run]:
    """All rows of taps of a tile."""
    height, width = axes
    column_reads = [(c, width.reads(tile.column_starts.start + c)) for c in range(tile.columns)]
    if len(tile.column_starts) == 1:
        column_reads = [(c, [(k, p) for k, p in reads if 0 <= p < width.size]) for c, reads in column_reads]
    runs: list[_Run] = []
    for step in range(height.period):
        for kh in range(step, height.taps, height.period):
            rows = [(r, p) for r in range(tile.rows) for k, p in height.reads(tile.row_starts.start + r) if k == kh]
            if not rows or not any([reads for _, reads in column_reads]):
                continue
            first = min([p for _, p in rows])
            uses: dict[Pair, list[tuple[Pair, int]]] = {}
            for r, ph in rows:
                for c, reads in column_reads:
                    for kw, pw in reads:
                        uses.setdefault((ph - first, pw), []).append(((r, c), kw))
            last = runs[-1] if runs else None
            if last is not None and last.uses == uses:
                there = last.tap + last.tap_step * last.count, last.row + last.row_step * last.count
                if last.count == 1:
                    runs[-1] = last._replace(count=2, tap_step=kh - last.tap, row_step=first - last.row)
                    continue
                if there == (kh, first):
                    runs[-1] = last._replace(count=last.count + 1)
                    continue
            runs.append(_Run(1, kh, first, 0, 0, uses))
    return runs


def _tile_text(
    code: Code, shape: _Shape, tile: Tile, index: str, frame: Bordered, x: str, weights: str, bias: str, y: str, out: Picture, left: str
) -> None:
    """All sums of a tile. index: which one of those that lie below each other."""
    lanes, kind = code.lanes, code.type(F32)
    (height, width), vectors = shape.axes, shape.vectors
    each = lanes * vectors
    outputs = [(r, c) for r in range(tile.rows) for c in range(tile.columns)]
    slots = {(q, v): slot for (q, v), slot in zip([(q, v) for q in outputs for v in range(vectors)], _accumulators(code, len(outputs) * vectors))}
    for v in range(vectors):
        start = code.load(code.moved(bias, 4 * lanes * v), F32, 4).text if shape.biased else "zeroinitializer"
        for q in outputs:
            code.line(f"store {kind} {start}, ptr {slots[q, v]}")
    runs = _runs(shape.axes, tile)
    ranges = [_range(code, run, height, tile, index) for run in runs]
    with code.loop(0, shape.channels) as channel:
        here = code.moved(x, code.whole("mul", channel, frame.channel))
        w = code.moved(weights, code.whole("mul", channel, height.taps * width.taps * each * 4))
        for run, limits in zip(runs, ranges):
            with code.loop(*limits) as number:
                source = code.moved(code.moved(here, run.row * frame.row), code.whole("mul", number, run.row_step * frame.row))
                tap_row = width.taps * each * 4
                row = code.moved(code.moved(w, run.tap * tap_row), code.whole("mul", number, run.tap_step * tap_row))
                loaded: dict[Pair, Value] = {}
                for (down, right), uses in sorted(run.uses.items(), key=lambda item: (item[0][0], item[0][1] % 4, item[0][1])):
                    element = spread_element(code, code.moved(source, down * frame.row + 4 * right))
                    for q, kw in uses:
                        for v in range(vectors):
                            if (kw, v) not in loaded:
                                loaded[kw, v] = code.load(code.moved(row, 4 * (kw * each + v * lanes)), F32, 4)
                            add_product(code, slots[q, v], element, loaded[kw, v])
    room = code.stack(f"[{len(outputs) * each} x float]")
    for number, q in enumerate(outputs):
        for v in range(vectors):
            total = Value(code.plain(f"load {kind}, ptr {slots[q, v]}"), F32)
            code.store(total, code.moved(room, 4 * (number * each + v * lanes)), 4)
    for v in range(vectors):
        for low in range(0, len(outputs), lanes):
            part = outputs[low : low + lanes]
            there = code.moved(y, v * lanes * out.channel + part[0][0] * out.row + part[0][1] * 4)
            columns: str | int = smaller(code, code.whole("sub", left, v * lanes), lanes) if left else lanes
            here = code.moved(room, 4 * (low * each + v * lanes))
            turn_square(code, here, 4 * each, there, out.channel, len(part), columns)


def _weights_text(channels: int, outputs: int, taps: int, each: int, strides: Sequence[int], biased: bool) -> Launch:
    """``pack(words, chunk, worker)``: the weights of one block of output channels, (channels, taps, channels of the block). Words: weights,
    packed, bias, packed bias."""
    lanes = processor().vector // 4
    code = Code(lanes)
    output_step, channel_step = strides
    w, packed, bias, packed_bias = [code.word("%words", k, "ptr") for k in range(4)]
    first = code.whole("mul", "%chunk", each)
    left = code.whole("sub", outputs, first)
    source = code.moved(w, code.whole("mul", first, output_step))
    target = code.moved(packed, code.whole("mul", "%chunk", channels * taps * each * 4))
    for v in range(each // lanes if biased else 0):
        at = code.whole("mul", code.whole("add", first, v * lanes), 4)
        code.store(code.load(code.moved(bias, at), F32, 4, below(code, left, v * lanes)), code.moved(packed_bias, at), 4)
    count = channels * taps if channel_step == 4 * taps else taps
    with code.loop(0, channels * taps // count) as c:
        here, there = code.moved(source, code.whole("mul", c, channel_step)), code.moved(target, code.whole("mul", c, taps * each * 4))
        turn(code, here, there, count, each // lanes, output_step, left if outputs % each else "")
    code.line("ret void")
    name, text = named(code.definition("void @NAME(ptr noalias %words, i64 %chunk, i64 %worker)"), "weights")
    return Launch(name, text, tuple(code.declared), [], -(-outputs // each))


def correlation(transposed_: bool, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, y: np.ndarray, *geometry: Sequence[int]) -> list[Launch]:
    """The launches of a convolution or its transpose."""
    if transposed_:
        w = w.swapaxes(0, 1)
    axes = axes_of(transposed_, x.shape[2:], y.shape[2:], w.shape[2:], *geometry)
    given, made = picture(x), picture(y, contiguous=True)
    images, channels, outputs = len(x), x.shape[1], y.shape[1]
    lanes = processor().vector // 4
    vectors = _best_vectors(axes, outputs, lanes)
    each, taps = lanes * vectors, axes[0].taps * axes[1].taps
    blocks = -(-outputs // each)
    split = 1 if images >= 8 else blocks
    shape = _Shape((axes[0], axes[1]), channels, outputs, vectors, bias is not None, split)
    packed = blocks * channels * taps * each * 4
    biases = blocks * each * 4
    name, text, declared, frame = _convolution_text(shape, given._replace(address=0), made._replace(address=0))
    scratch = packed + biases + frame.nbytes * MOST
    picture(w, contiguous=True)
    pack = _weights_text(channels, outputs, taps, each, w.strides[:2], bias is not None)
    weights = w.__array_interface__["data"][0]
    bias_at = 0
    if bias is not None:
        if bias.dtype != F32 or (outputs > 1 and bias.strides[0] != 4):
            raise Unsupported("a bias whose elements do not lie side by side")
        bias_at = bias.__array_interface__["data"][0]
    first = pack._replace(words=[weights, 0, bias_at, packed], scratch_words=(1, 3), scratch=scratch)
    words = [given.address, 0, packed, made.address, packed + biases]
    return [first, Launch(name, text, declared, words, images * split, (1, 2, 4), scratch)]
