"""The gradient of a convolution's weight as machine code,

    w[o, c, k] = Σ x[n, c, position(p, k)] g[n, o, p]    over images n and outputs p.

A vector holds one tap for as many channels o as it has lanes; some taps stay in registers while p runs over an image. g is copied first so that
the channels of a vector lie side by side. Images are added up in shares, a fixed number of them, so that sums do not depend on the threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .code import F32, Code, Value
from .launches import Launch, Unsupported
from .pictures import FRAME, Axis, Bordered, Picture, add_product, axes_of, picture, smaller, spread_element
from .target import named, processor
from .team import MOST
from .turning import turn, turn_square

SHARES = 8
"""Shares of the images, at most."""
BATCH = 128
"""Outputs of the images that are laid out together, about."""
BAND = 512
"""Outputs of an image that are laid out together, at most."""
MOST_TAPS = 256
"""Taps of a channel, at most."""
SHARE_BYTES = 1 << 19
"""Bytes of all shares, at most."""

Tap = tuple[int, int, int]


class _Shape(NamedTuple):
    """What the text depends on. ``vectors``: vectors of channels of g that are worked on together; ``each``: images of a share;
    ``batch``, ``rows``: images, and rows of outputs of each, that are laid out together."""

    axes: tuple[Axis, Axis]
    images: int
    channels: int
    outputs: int
    vectors: int
    each: int
    batch: int
    rows: int


def _groups(axes: Sequence[Axis], channels: int, vectors: int) -> tuple[int, list[list[Tap]]]:
    """``(channels, groups of taps)``: taps of some channels of x at a time, in groups that fit into registers."""
    most = max(1, (processor().registers - 1) // vectors - _outputs_at_once(axes, vectors))
    taps = [(kh, kw) for kh in range(axes[0].taps) for kw in range(axes[1].taps)]
    together = max([n for n in range(1, channels + 1) if channels % n == 0 and n * len(taps) <= most], default=1)
    every = [(c, kh, kw) for c in range(together) for kh, kw in taps]
    count = -(-len(every) // most)
    size = -(-len(every) // count)
    return together, [every[i : i + size] for i in range(0, len(every), size)]


def _outputs_at_once(axes: Sequence[Axis], vectors: int) -> int:
    """Outputs side by side that share the elements of x that they read."""
    return max([n for n in range(1, 4 // vectors + 1) if axes[1].outputs % n == 0])


def _best_vectors(axes: Sequence[Axis], channels: int, outputs: int, lanes: int) -> int:
    """Two vectors of channels if that uses registers better than one."""
    taps = axes[0].taps * axes[1].taps
    if -(-outputs // lanes) % 2:
        return 1

    def used(vectors: int) -> float:
        together, groups = _groups(axes, channels, vectors)
        loads = sum([len(group) + vectors for group in groups]) / (vectors * together * taps)
        return max(loads, 1.0) + 12 / min([len(group) * vectors for group in groups]) / 4

    return min((1, 2), key=used)


def _text(shape: _Shape, x: Picture, g: Picture) -> tuple[str, str, tuple[str, ...], int, int]:
    """``weight(words, chunk, worker)``: a chunk is a share of the images for one block of channels of g. Words: x, g, sums, room."""
    lanes = processor().vector // 4
    code = Code(lanes)
    word = {name: code.word("%words", k, "ptr") for k, name in enumerate("x g sums room".split())}
    axes, images, channels, outputs, vectors, each, batch, rows = shape
    height, width = axes
    wide = lanes * vectors
    blocks = -(-outputs // wide)
    frame = Bordered(axes, channels, x, rows=rows if rows < height.outputs else 0)
    count = rows * width.outputs
    turned = -(-count // lanes) * lanes * wide * 4
    room = (frame.nbytes + turned) * batch
    share, block = code.whole("udiv", "%chunk", blocks), code.whole("urem", "%chunk", blocks)
    mine = code.moved(word["room"], code.whole("mul", "%worker", room))
    turned_at = code.moved(mine, frame.nbytes * batch)
    taps = height.taps * width.taps
    size = -(-channels * taps // lanes) * lanes * wide * 4
    sums = code.moved(word["sums"], code.whole("mul", "%chunk", size))
    code.declare("void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
    code.line(f"call void @llvm.memset.p0.i64(ptr {sums}, i8 0, i64 {size}, i1 false)")
    frame.clear(code, mine, batch)
    first = code.whole("mul", share, each)
    last = code.whole("add", first, each)
    last = smaller(code, last, images)
    left = code.whole("sub", outputs, code.whole("mul", block, wide)) if outputs % wide else ""
    together, groups = _groups(axes, channels, vectors)
    with code.loop(first, last, batch) as n, code.loop(0, height.outputs // rows) as band:
        together_now = smaller(code, code.whole("sub", last, n), batch)
        row = code.whole("mul", band, rows * height.stride)
        source, image_step = code.moved(mine, frame.begin), frame.nbytes
        if not frame.needed:
            source, image_step = frame.copy(code, code.moved(word["x"], code.whole("mul", n, x.image)), mine, row), x.image
        with code.loop(0, together_now) as b:
            number = code.whole("add", n, b)
            room_here = code.moved(mine, code.whole("mul", b, frame.nbytes))
            frame.copy(code, code.moved(word["x"], code.whole("mul", number, x.image)), room_here, row)
            cotangent = code.moved(word["g"], code.whole("mul", number, g.image))
            cotangent = code.moved(cotangent, code.whole("mul", block, wide * g.channel))
            cotangent = code.moved(cotangent, code.whole("mul", band, 4 * count))
            turn(code, cotangent, code.moved(turned_at, code.whole("mul", b, turned)), count, vectors, g.channel, left)
        with code.loop(0, channels // together) as c:
            here = code.moved(source, code.whole("mul", c, together * frame.channel))
            made = code.moved(sums, code.whole("mul", c, together * taps * wide * 4))
            for group in groups:
                _add_group(code, shape, group, frame, (here, image_step), (turned_at, turned), made, together_now)
    code.line("ret void")
    name, text = named(code.definition("void @NAME(ptr noalias %words, i64 %chunk, i64 %worker)"), "conv_weight")
    return name, text, tuple(code.declared), room, size


def _add_group(
    code: Code, shape: _Shape, group: list[Tap], frame: Bordered, x: tuple[str, int], g: tuple[str, int], sums: str, count: str
) -> None:
    """Add the products of some images to the sums of some taps. x, g: where they begin, and bytes from image to image."""
    (height, width), vectors, lanes, kind = shape.axes, shape.vectors, code.lanes, code.type(F32)
    wide, taps = lanes * vectors, height.taps * width.taps
    slots = {(tap, v): code.stack(kind) for tap in group for v in range(vectors)}

    def place(tap: Tap, v: int) -> str:
        c, kh, kw = tap
        return code.moved(sums, 4 * ((c * taps + kh * width.taps + kw) * wide + v * lanes))

    for (tap, v), slot in slots.items():
        code.line(f"store {kind} {code.load(place(tap, v), F32, 4).text}, ptr {slot}")
    across = _outputs_at_once(shape.axes, vectors)
    with code.loop(0, count) as image, code.loop(0, shape.rows) as row, code.loop(0, width.outputs, across) as column:
        here = code.moved(code.moved(x[0], code.whole("mul", image, x[1])), code.whole("mul", row, height.stride * frame.row))
        here = code.moved(here, code.whole("mul", column, 4 * width.stride))
        number = code.whole("add", code.whole("mul", row, width.outputs), column)
        there = code.moved(code.moved(g[0], code.whole("mul", image, g[1])), code.whole("mul", number, 4 * wide))
        cotangents = {
            (p, v): code.load(code.moved(there, 4 * (p * wide + v * lanes)), F32, 4)
            for p in range(across)
            for v in range(vectors)
        }
        uses: dict[Tap, list[tuple[Tap, int]]] = {}
        for p in range(across):
            for c, kh, kw in group:
                down, right = kh * height.dilation - height.before, p * width.stride + kw * width.dilation - width.before
                uses.setdefault((c, down, right), []).append(((c, kh, kw), p))
        for (c, down, right), readers in sorted(uses.items(), key=lambda item: (item[0][2] % 2, item[0][2], item[0])):
            element = spread_element(code, code.moved(here, c * frame.channel + down * frame.row + 4 * right))
            for tap, p in readers:
                for v in range(vectors):
                    add_product(code, slots[tap, v], element, cotangents[p, v])
    for (tap, v), slot in slots.items():
        code.store(Value(code.plain(f"load {kind}, ptr {slot}"), F32), place(tap, v), 4)


def _total_text(shares: int, size: int, row: int, outputs: int, wide: int, output_step: int, blocks: int) -> Launch:
    """``total(words, chunk, worker)``: adds up the shares of as many taps as a vector has lanes, and turns them. row: taps of an output of w.
    Words: sums, w."""
    lanes = processor().vector // 4
    code = Code(lanes)
    sums, w = code.word("%words", 0, "ptr"), code.word("%words", 1, "ptr")
    first = code.whole("mul", "%chunk", lanes)
    rows: str | int = smaller(code, code.whole("sub", row, first), lanes) if row % lanes else lanes
    room = code.stack(f"[{lanes * lanes} x float]")
    with code.loop(0, blocks) as block:
        source = code.moved(code.moved(sums, code.whole("mul", block, size)), code.whole("mul", first, 4 * wide))
        target = code.moved(code.moved(w, code.whole("mul", first, 4)), code.whole("mul", block, wide * output_step))
        left = code.whole("sub", outputs, code.whole("mul", block, wide)) if outputs % wide else ""
        for v in range(wide // lanes):
            with code.loop(0, lanes) as t:
                place = code.moved(code.moved(source, 4 * v * lanes), code.whole("mul", t, 4 * wide))
                total = code.load(place, F32, 4)
                for s in range(1, shares):
                    total = code.add(total, code.load(code.moved(place, s * blocks * size), F32, 4))
                code.store(total, code.moved(room, code.whole("mul", t, 4 * lanes)), 4)
            columns: str | int = smaller(code, code.whole("sub", left, v * lanes), lanes) if left else lanes
            turn_square(code, room, 4 * lanes, code.moved(target, v * lanes * output_step), output_step, rows, columns)
    code.line("ret void")
    name, text = named(code.definition("void @NAME(ptr noalias %words, i64 %chunk, i64 %worker)"), "total")
    return Launch(name, text, tuple(code.declared), [], -(-row // lanes))


def weight_gradient(x: np.ndarray, g: np.ndarray, w: np.ndarray, *geometry: Sequence[int]) -> list[Launch]:
    """The launches that compute the gradient ``w`` from the images ``x`` and the cotangents ``g``. Raises Unsupported."""
    axes = axes_of(False, x.shape[2:], g.shape[2:], w.shape[2:], *geometry)
    given, cotangent, made = picture(x), picture(g, contiguous=True), picture(w, contiguous=True)
    images, channels, outputs = len(x), x.shape[1], g.shape[1]
    lanes = processor().vector // 4
    vectors = _best_vectors(axes, channels, outputs, lanes)
    wide, taps = lanes * vectors, axes[0].taps * axes[1].taps
    if channels > 1 and made.channel != 4 * taps:
        raise Unsupported("a weight whose elements do not lie side by side")
    blocks = -(-outputs // wide)
    all_bytes = blocks * wide * -(-channels * taps // lanes) * lanes * 4
    shares = max(1, min(SHARES, images, SHARE_BYTES // all_bytes))
    each = -(-images // shares)
    shares = -(-images // each)
    height, width = axes
    batch = max(1, min(each, BATCH // (height.outputs * width.outputs)))
    rows = max([n for n in range(1, height.outputs + 1) if height.outputs % n == 0 and n * width.outputs <= BAND], default=1)
    shape = _Shape((height, width), images, channels, outputs, vectors, each, batch, rows)
    name, text, declared, room, size = _text(shape, given._replace(address=0), cotangent._replace(address=0))
    if room > FRAME or taps > MOST_TAPS:
        raise Unsupported(f"more than {MOST_TAPS} taps, or images that are too large to be copied")
    scratch = shares * blocks * size + room * MOST
    words = [given.address, cotangent.address, 0, shares * blocks * size]
    total = _total_text(shares, size, channels * taps, outputs, wide, made.image, blocks)
    return [
        Launch(name, text, declared, words, shares * blocks, (2, 3), scratch),
        total._replace(words=[0, made.address], scratch_words=(0,), scratch=scratch),
    ]
