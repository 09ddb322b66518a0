"""Max pooling and its derivative as machine code: a vector holds windows side by side in a row.

For each tap the elements of all windows of a vector are loaded, every second one by two loads and a shuffle. The element taken is the first of
equal ones, and NaN counts as largest; where windows reach over the edge, a mask says which of them have the tap at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from ...ops.window import Window
from .code import BOOL, F32, I32, Code, Value
from .launches import Launch, Unsupported
from .moves import run_of_axes
from .target import named, processor

CHUNK = 24_000
"""Elements of a chunk."""


class _Pictures:
    """An array (..., H, W): its pictures with their distance, and the distance of rows, in bytes."""

    def __init__(self, array: np.ndarray, dims: int) -> None:
        if not array.flags.aligned:
            raise Unsupported("an array that is not aligned")
        lead = array.ndim - dims
        self.count, self.step = run_of_axes(array.shape[:lead], array.strides[:lead])
        *rows, self.width = array.shape[lead:]
        self.height = rows[0] if rows else 1
        self.row = array.strides[lead] if rows else 0
        if self.width > 1 and array.strides[-1] != array.itemsize:
            raise Unsupported("rows whose elements do not lie side by side")
        self.address: int = array.__array_interface__["data"][0]


def _two(windows: Sequence[Window]) -> tuple[Window, Window]:
    """The windows along the last two axes."""
    if len(windows) > 2:
        raise Unsupported("windows along more than two axes")
    down, along = (*[Window(1, 1)] * (2 - len(windows)), *windows)
    return down, along


def _mask(flags: Sequence[bool]) -> str | None:
    """A mask that is known now; None for all."""
    return None if all(flags) else f"<{', '.join([f'i1 {int(flag)}' for flag in flags])}>"


class _Columns:
    """Some windows of a row, side by side: those from ``low``, as many as a vector has lanes."""

    def __init__(self, code: Code, window: Window, low: int, size: int) -> None:
        self.code, self.window, self.low, self.size = code, window, low, size
        self.there = [low + lane < window.count for lane in range(code.lanes)]

    def first(self, tap: int) -> int:
        """The position of a tap of the first window."""
        return self.low * self.window.stride + tap * self.window.dilation - self.window.padding

    def having(self, tap: int) -> list[bool]:
        """Which windows exist and have this tap."""
        first, stride = self.first(tap), self.window.stride
        return [there and 0 <= first + lane * stride < self.size for lane, there in enumerate(self.there)]

    def load(self, row: str, tap: int) -> Value:
        """The elements of a tap."""
        code, stride, lanes = self.code, self.window.stride, self.code.lanes
        place, having = code.moved(row, 4 * self.first(tap)), self.having(tap)
        if stride != 2:
            return code.load(place, F32, 4 * stride, _mask(having))
        spread = [having[n // 2] and not n % 2 for n in range(2 * lanes)]
        halves = [code.load(code.moved(place, 4 * low), F32, 4, _bounded(spread[low : low + lanes])) for low in (0, lanes)]
        return code.value(F32, _shuffle(code, halves[0], halves[1], range(0, 2 * lanes, 2)))

    def store_alternating(self, row: str, even: Value, odd: Value) -> None:
        """Two taps of windows with stride 2, side by side."""
        code, lanes = self.code, self.code.lanes
        place, having = code.moved(row, 4 * self.first(0)), [self.having(0), self.having(1)]
        for low in (0, lanes):
            order = [(low + n) // 2 + lanes * ((low + n) % 2) for n in range(lanes)]
            flags = [having[(low + n) % 2][(low + n) // 2] for n in range(lanes)]
            if any(flags):
                code.store(code.value(F32, _shuffle(code, even, odd, order)), code.moved(place, 4 * low), 4, _mask(flags))


def _bounded(flags: list[bool]) -> str | None:
    """A mask that reads no element before the first or behind the last that is needed, but may read those between."""
    needed = [n for n, flag in enumerate(flags) if flag]
    return _mask([bool(needed) and needed[0] <= n <= needed[-1] for n in range(len(flags))])


def _shuffle(code: Code, a: Value, b: Value, order: Sequence[int]) -> str:
    kind, listed = code.type(a.dtype), ", ".join([f"i32 {n}" for n in order])
    return f"shufflevector {kind} {a.text}, {kind} {b.text}, <{len(order)} x i32> <{listed}>"


def _chunks(pictures: int, elements: int) -> tuple[int, int]:
    """Pictures of a chunk, and chunks."""
    each = min(pictures, max(1, CHUNK // max(elements, 1), -(-pictures // 64)))
    return each, -(-pictures // each)


def _row_exists(code: Code, window: Window, row: str, tap: int, size: int) -> tuple[str, Any]:
    """The number of a row of the picture, and a context in which it exists."""
    shift = tap * window.dilation - window.padding
    number = code.whole("add", code.whole("mul", row, window.stride), shift)
    if 0 <= shift and (window.count - 1) * window.stride + shift < size:
        return number, nullcontext()
    return number, code.when(code.plain(f"icmp ult i64 {number}, {size}"))


# ---- the largest element of each window --------------------------------------------------------------


def window_max(x: np.ndarray, windows: tuple[Window, ...], values: np.ndarray, taps: Sequence[np.ndarray]) -> list[Launch]:
    """The launches that find the largest elements and, as often as wanted, their taps. Raises Unsupported."""
    if x.dtype != F32:
        raise Unsupported(f"no pooling of {x.dtype}")
    dims = len(windows)
    down, along = _two(windows)
    given, made, numbers = _Pictures(x, dims), _Pictures(values, dims), [_Pictures(t, dims) for t in taps]
    code = Code(processor().vector // 4)
    names = [f"%{name}" for name in ("x", "y", *[f"t{k}" for k in range(len(taps))])]
    pointers = [code.word("%words", k, "ptr") for k in range(len(names))]
    each, chunks = _chunks(given.count, given.height * given.width)
    first = code.whole("mul", "%chunk", each)
    last = _smaller(code, code.whole("add", first, each), given.count)
    kind, mask_kind = code.type(F32), code.type(BOOL)
    best, tap_of, found = code.stack(kind), code.stack(code.type(I32)), code.stack(mask_kind)
    with code.loop(first, last) as n, code.loop(0, down.count) as row:
        picture = code.moved(pointers[0], code.whole("mul", n, given.step))
        targets = [
            code.moved(code.moved(p, code.whole("mul", n, a.step)), code.whole("mul", row, a.row))
            for p, a in zip(pointers[1:], (made, *numbers))
        ]
        for low in range(0, along.count, code.lanes):
            columns = _Columns(code, along, low, given.width)
            certain = False
            code.line(f"store {kind} {code.constant(F32, -np.inf).text}, ptr {best}")
            code.line(f"store {code.type(I32)} zeroinitializer, ptr {tap_of}")
            code.line(f"store {mask_kind} zeroinitializer, ptr {found}")
            for kh in range(down.taps):
                number, exists = _row_exists(code, down, row, kh, given.height)
                always = isinstance(exists, nullcontext)
                with exists:
                    source = code.moved(picture, code.whole("mul", number, given.row))
                    for kw in range(along.taps):
                        having = columns.having(kw)
                        if not any(having):
                            continue
                        whole = having == columns.there and always
                        _compare(code, columns, source, kw, kh * along.taps + kw, (best, tap_of, found), certain)
                        certain = certain or whole
            mask = _mask(columns.there)
            code.store(Value(code.plain(f"load {kind}, ptr {best}"), F32), code.moved(targets[0], 4 * low), 4, mask)
            number_of = Value(code.plain(f"load {code.type(I32)}, ptr {tap_of}"), I32)
            for target, array in zip(targets[1:], taps):
                size = array.itemsize
                code.store(code.convert(number_of, array.dtype), code.moved(target, size * low), size, mask)
    code.line("ret void")
    name, text = named(code.definition("void @NAME(ptr noalias %words, i64 %chunk, i64 %worker)"), "window_max")
    return [Launch(name, text, tuple(code.declared), [a.address for a in (given, made, *numbers)], chunks)]


def _compare(code: Code, columns: _Columns, row: str, kw: int, number: int, slots: tuple[str, str, str], certain: bool) -> None:
    """Take the elements of a tap that are larger than all before, or the first of their windows. certain: every window has one."""
    best, tap_of, found = slots
    kind, numbers, mask_kind = code.type(F32), code.type(I32), code.type(BOOL)
    element = columns.load(row, kw)
    having = _mask([h or not t for h, t in zip(columns.having(kw), columns.there)])
    before = Value(code.plain(f"load {kind}, ptr {best}"), F32)
    larger = code.binary("and", code.compare("ugt", element, before), code.compare("ord", before, before))
    if not certain:
        new = code.plain(f"xor {mask_kind} {code.plain(f'load {mask_kind}, ptr {found}')}, {code.constant(BOOL, 1).text}")
        larger = code.binary("or", larger, Value(new, BOOL))
        seen = code.constant(BOOL, 1).text
        if having is not None:
            seen = code.plain(f"or {mask_kind} {having}, {code.plain(f'load {mask_kind}, ptr {found}')}")
        code.line(f"store {mask_kind} {seen}, ptr {found}")
    if having is not None:
        larger = code.binary("and", larger, Value(having, BOOL))
    old = Value(code.plain(f"load {numbers}, ptr {tap_of}"), I32)
    code.line(f"store {kind} {code.select(larger, element, before).text}, ptr {best}")
    code.line(f"store {numbers} {code.select(larger, code.constant(I32, number), old).text}, ptr {tap_of}")


def _smaller(code: Code, a: str, b: int) -> str:
    code.declare("i64 @llvm.smin.i64(i64, i64)")
    return code.plain(f"call i64 @llvm.smin.i64(i64 {a}, i64 {b})")


# ---- its derivative ----------------------------------------------------------------------------------


def from_taps(g: np.ndarray, taps: np.ndarray, windows: tuple[Window, ...], out: np.ndarray) -> list[Launch]:
    """The launches that add each number of ``g`` to zeros where its window's tap is. Raises Unsupported."""
    if g.dtype != F32 or taps.dtype.kind not in "iu":
        raise Unsupported(f"no pooling of {g.dtype}")
    dims = len(windows)
    down, along = _two(windows)
    given, numbers, made = [_Pictures(a, dims) for a in (g, taps, out)]
    if made.height > 1 and made.row != 4 * made.width:
        raise Unsupported("rows that do not lie one behind the other")
    apart = down.tiles(made.height) and along.tiles(made.width)
    covered = apart and down.count * down.taps == made.height and along.count * along.taps == made.width
    code = Code(processor().vector // 4)
    pointers = [code.word("%words", k, "ptr") for k in range(3)]
    each, chunks = _chunks(made.count, made.height * made.width)
    first = code.whole("mul", "%chunk", each)
    last = _smaller(code, code.whole("add", first, each), made.count)
    with code.loop(first, last) as n:
        here, there, target = [code.moved(p, code.whole("mul", n, a.step)) for p, a in zip(pointers, (given, numbers, made))]
        if not covered:
            code.declare("void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
            code.line(f"call void @llvm.memset.p0.i64(ptr {target}, i8 0, i64 {4 * made.height * made.width}, i1 false)")
        with code.loop(0, down.count) as row:
            sources = [code.moved(p, code.whole("mul", row, a.row)) for p, a in ((here, given), (there, numbers))]
            for low in range(0, along.count, code.lanes):
                columns = _Columns(code, along, low, made.width)
                mask = _mask(columns.there)
                value = code.load(code.moved(sources[0], 4 * low), F32, 4, mask)
                tap = code.load(code.moved(sources[1], taps.itemsize * low), taps.dtype, taps.itemsize, mask)
                _give_back(code, columns, down, row, value, code.convert(tap, I32), target, made, apart)
    code.line("ret void")
    name, text = named(code.definition("void @NAME(ptr noalias %words, i64 %chunk, i64 %worker)"), "from_taps")
    return [Launch(name, text, tuple(code.declared), [given.address, numbers.address, made.address], chunks)]


def _give_back(
    code: Code, columns: _Columns, down: Window, row: str, value: Value, tap: Value, target: str, made: _Pictures, apart: bool
) -> None:
    """Store the numbers of some windows, where windows lie apart, or add them."""
    along, zero = columns.window, code.constant(F32, 0)
    for kh in range(down.taps):
        number, exists = _row_exists(code, down, row, kh, made.height)
        with exists:
            place = code.moved(target, code.whole("mul", number, made.row))
            parts = []
            for kw in range(along.taps):
                mine = code.compare("eq", tap, code.constant(I32, kh * along.taps + kw))
                parts.append(code.select(mine, value, zero))
            if apart and along.stride == along.taps == 2:
                columns.store_alternating(place, *parts)
                continue
            for kw, part in enumerate(parts):
                having = columns.having(kw)
                if any(having):
                    at = code.moved(place, 4 * columns.first(kw))
                    stride = 4 * along.stride
                    if not apart:
                        part = code.add(part, code.load(at, F32, stride, _mask(having)))
                    code.store(part, at, stride, _mask(having))
