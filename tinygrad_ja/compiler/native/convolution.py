"""Convolution and its transpose as machine code: direct sums, with all that the shapes decide written into the text.

Both are one kind of sum,

    y[o, q] = Σ x[c, position(q, k)] w[o, c, k]    over channels c and taps k,

where ``position`` is q·stride + k·dilation - before for a convolution and (q + before - k·dilation) / stride, if whole, for its transpose. A
vector holds one output for as many channels o as it has lanes. A *tile* is a run of outputs q whose vectors all stay in registers while c
runs; an element of x is spread over all lanes and meets every tap in which some output of the tile reads it. At the end vectors are turned
into runs of outputs of one channel. Weights are copied first so that the channels of a vector lie side by side; images that have a border of
zeros are copied into one, each by the thread that needs it. Taps that read nothing but zeros are left out where whole rows of outputs do
so, and where a tile is as wide as the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .code import F32, Code, Value
from .launches import Launch, Unsupported
from .pictures import (
    FRAME,
    Axis,
    Bordered,
    Pair,
    Picture,
    Tile,
    add_product,
    axes_of,
    below,
    larger,
    picture,
    smaller,
    spread_element,
)
from .target import named, processor
from .team import MOST
from .turning import turn, turn_square

WIDEST = 32
"""Taps in a row, at most."""


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
        if (
            blocks % (2 * vectors)
            or max([t.rows * t.columns for t in _tiles(axes, _room_for_outputs(axes, vectors))]) * vectors > 12
        ):
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
    mine = code.moved(word["room"], code.whole("mul", "%worker", frame.nbytes))
    frame.clear(code, mine)
    source = frame.copy(code, source, mine)
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
                there = code.moved(
                    code.moved(made, code.whole("mul", i, rows_at.step * y.row)), code.whole("mul", j, columns_at.step * 4)
                )
                there = code.moved(there, rows_at.start * y.row + columns_at.start * 4)
                _tile_text(code, shape, tile, i, frame, here, weights, bias, there, y, left)
    code.line("ret void")
    name, text = named(code.definition("void @NAME(ptr noalias %words, i64 %chunk, i64 %worker)"), "convolution")
    return name, text, tuple(code.declared), frame


def _tiles(axes: Sequence[Axis], most: int) -> list[Tile]:
    """Tiles with at most ``most`` outputs that cover all of them: whole rows, or parts of one row."""
    height, width = axes
    tiles: list[Tile] = []
    if width.outputs <= most // height.period and height.outputs >= height.period:
        fit = min(height.outputs, most // width.outputs) // height.period * height.period
        even = [r for r in range(height.period, fit + 1, height.period) if height.outputs % r == 0 and 2 * r >= fit]
        rows = even[-1] if even else fit
        whole = height.outputs // rows * rows
        tiles.append(Tile(rows, width.outputs, range(0, whole, rows), range(1)))
        if whole < height.outputs:
            tiles.append(
                Tile(height.outputs - whole, width.outputs, range(whole, height.outputs, height.outputs - whole), range(1))
            )
        return tiles
    columns, starts = _column_starts(width, most)
    for first in range(min(height.period, height.outputs)):
        for start in starts:
            tiles.append(Tile(1, min(columns, width.outputs - start.start), range(first, height.outputs, height.period), start))
    return tiles


def _column_starts(axis: Axis, most: int) -> tuple[int, list[range]]:
    """The columns of a tile that is a part of a row, and where such tiles begin, those apart that read the zeros around the picture."""
    pieces = -(-axis.outputs // max(most // axis.period * axis.period, axis.period))
    columns = -(-axis.outputs // pieces)
    columns = min(axis.outputs, -(-columns // axis.period) * axis.period)
    whole = axis.outputs // columns * columns
    starts: list[range] = []
    for first in range(0, whole, columns):
        if starts and axis.inside(first, columns) and axis.inside(starts[-1].start, columns):
            starts[-1] = range(starts[-1].start, first + columns, columns)
        else:
            starts.append(range(first, first + columns, columns))
    if len(starts) > 4:
        starts = [range(0, whole, columns)]
    if whole < axis.outputs:
        starts.append(range(whole, axis.outputs, axis.outputs - whole))
    return columns, starts


class _Run(NamedTuple):
    """Rows of taps that differ only in where they begin: the row of the first in the kernel and in x, and the distances to the next.
    uses: position in x -> the outputs of the tile that read it, and with which tap of the row."""

    rows: int
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
        for n in (0, run.rows - 1)
        for down in (0, spread)
    ]
    if 0 <= min(rows) and max(rows) < axis.size:
        return 0, run.rows
    first, apart = code.whole("add", code.whole("mul", index, step), run.row), max(abs(run.row_step), 1)
    if run.row_step < 0:
        before, behind = code.whole("sub", first, axis.size - 1), code.whole("add", first, spread)
    else:
        before, behind = code.whole("sub", -spread, first), code.whole("sub", axis.size - 1, first)
    low = code.whole("udiv", code.whole("add", larger(code, before, 0), apart - 1), apart)
    high = code.whole("udiv", code.whole("add", larger(code, behind, -1), apart), apart)
    return low, smaller(code, high, run.rows)


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
                there = last.tap + last.tap_step * last.rows, last.row + last.row_step * last.rows
                if last.rows == 1:
                    runs[-1] = last._replace(rows=2, tap_step=kh - last.tap, row_step=first - last.row)
                    continue
                if there == (kh, first):
                    runs[-1] = last._replace(rows=last.rows + 1)
                    continue
            runs.append(_Run(1, kh, first, 0, 0, uses))
    return runs


def _tile_text(
    code: Code,
    shape: _Shape,
    tile: Tile,
    index: str,
    frame: Bordered,
    x: str,
    weights: str,
    bias: str,
    y: str,
    out: Picture,
    left: str,
) -> None:
    """All sums of a tile. index: which one of those that lie below each other."""
    lanes, kind = code.lanes, code.type(F32)
    (height, width), vectors = shape.axes, shape.vectors
    each = lanes * vectors
    outputs = [(r, c) for r in range(tile.rows) for c in range(tile.columns)]
    slots = {(q, v): code.stack(kind) for q in outputs for v in range(vectors)}
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
                for (below_, right), uses in sorted(
                    run.uses.items(), key=lambda item: (item[0][0], item[0][1] % 4, item[0][1])
                ):
                    element = spread_element(code, code.moved(source, below_ * frame.row + 4 * right))
                    for q, kw in uses:
                        for v in range(vectors):
                            if (kw, v) not in loaded:
                                loaded[kw, v] = code.load(code.moved(row, 4 * (kw * each + v * lanes)), F32, 4)
                            add_product(code, slots[q, v], element, loaded[kw, v])
    room = code.stack(f"[{len(outputs) * each} x float]")
    for place, q in enumerate(outputs):
        for v in range(vectors):
            total = Value(code.plain(f"load {kind}, ptr {slots[q, v]}"), F32)
            code.store(total, code.moved(room, 4 * (place * each + v * lanes)), 4)
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
        here, there = (
            code.moved(source, code.whole("mul", c, channel_step)),
            code.moved(target, code.whole("mul", c, taps * each * 4)),
        )
        turn(code, here, there, count, each // lanes, output_step, left if outputs % each else "")
    code.line("ret void")
    name, text = named(code.definition("void @NAME(ptr noalias %words, i64 %chunk, i64 %worker)"), "weights")
    return Launch(name, text, tuple(code.declared), [], -(-outputs // each))


def correlation(
    transposed: bool, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, y: np.ndarray, *geometry: Sequence[int]
) -> list[Launch]:
    """The launches of a convolution or its transpose. Raises Unsupported."""
    if transposed:
        w = w.swapaxes(0, 1)
    axes = axes_of(transposed, x.shape[2:], y.shape[2:], w.shape[2:], *geometry)
    given, made = picture(x), picture(y, contiguous=True)
    picture(w, contiguous=True)
    if axes[1].taps > WIDEST and x.ndim == 3:  # along the axis whose taps are not written out
        axes, given, made = axes[::-1], given._replace(row=4), made._replace(row=4)
    if axes[1].taps > WIDEST:
        raise Unsupported(f"more than {WIDEST} taps in a row")
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
    if frame.nbytes > FRAME:
        raise Unsupported("images that are too large to be copied")
    scratch = packed + biases + frame.nbytes * MOST
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
