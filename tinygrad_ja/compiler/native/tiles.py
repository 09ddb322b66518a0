"""The parts of a matrix product C = A B: *tiles* of C stay in registers while k runs; copies of A and B lie as tiles read them.

A tile has some rows and a few vectors of columns. For each k it loads a row of B as vectors and spreads elements of A over all lanes, so A
may lie in any order. The elements of a row of B must lie side by side.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .code import Code, Value
from .target import compiled, named, processor

UNROLLED = 4
"""Steps of k that are written out."""


class Shape(NamedTuple):
    """The rows of a tile and its vectors of columns."""

    rows: int
    vectors: int


def tile_shape(m: int, n: int, lanes: int) -> Shape:
    """The best tile for C with m rows and n columns: as many accumulators as registers allow, rows of equal tiles.

    >>> tile_shape(64, 512, 16).rows <= 14
    True
    """
    registers = processor().registers
    most = 14 if registers == 32 else 4
    tiles = -(-m // most)
    tiles += tiles % 2 if tiles > 1 else 0  # an even number, for two threads
    rows = -(-m // tiles)
    vectors = 8
    while vectors > 1 and rows * vectors + vectors + 1 > registers:
        vectors -= 1
    return Shape(rows, min(vectors, -(-n // lanes)))


@functools.lru_cache(256)
def _tile_text(dtype: np.dtype, shape: Shape, masked: bool) -> tuple[str, str, tuple[str, ...]]:
    """``tile(a, row, step, b, b_step, c, c_row, k, last, add)``: strides in bytes; ``last``: columns of the last vector,
    if ``masked``; ``add``: to what C holds."""
    lanes = processor().vector // dtype.itemsize
    code = Code(lanes)
    rows, vectors = shape
    kind, scalar = code.type(dtype), {4: "float", 8: "double"}[dtype.itemsize]
    width = lanes * dtype.itemsize
    sets = max(1, min(UNROLLED, 8 // (rows * vectors)))
    slots = [[[code.stack(kind) for _ in range(vectors)] for _ in range(rows)] for _ in range(sets)]
    for slot in itertools.chain.from_iterable(itertools.chain.from_iterable(slots)):
        code.line(f"store {kind} zeroinitializer, ptr {slot}")
    mask = code.mask_below("%last") if masked else None
    code.declare(f"{kind} @llvm.fmuladd.{code.suffix(dtype)}({kind}, {kind}, {kind})")
    a_slot, b_slot = code.stack("ptr"), code.stack("ptr")
    code.line(f"store ptr %a, ptr {a_slot}")
    code.line(f"store ptr %b, ptr {b_slot}")
    row_offsets = ["0", "%row"]
    for r in range(2, rows):
        row_offsets.append(code.plain(f"mul i64 %row, {r}"))

    def steps(count: int) -> None:
        a, b = code.plain(f"load ptr, ptr {a_slot}"), code.plain(f"load ptr, ptr {b_slot}")
        for u in range(count):
            columns = []
            for j in range(vectors):
                place = code.moved(b, j * width)
                columns.append(code.load(place, dtype, dtype.itemsize, mask if j == vectors - 1 else None).text)
            for r in range(rows):
                element = code.plain(f"load {scalar}, ptr {code.moved(a, row_offsets[r])}")
                spread = code.spread(element, scalar)
                for j in range(vectors):
                    slot = slots[u % sets][r][j]
                    before = code.plain(f"load {kind}, ptr {slot}")
                    after = code.plain(
                        f"call {kind} @llvm.fmuladd.{code.suffix(dtype)}({kind} {spread}, {kind} {columns[j]}, {kind} {before})"
                    )
                    code.line(f"store {kind} {after}, ptr {slot}")
            a, b = code.plain(f"getelementptr i8, ptr {a}, i64 %step"), code.plain(f"getelementptr i8, ptr {b}, i64 %b_step")
        code.line(f"store ptr {a}, ptr {a_slot}")
        code.line(f"store ptr {b}, ptr {b_slot}")

    whole = code.plain(f"and i64 %k, -{UNROLLED}")
    with code.loop(0, whole, UNROLLED):
        steps(UNROLLED)
    with code.loop(whole, "%k"):
        steps(1)
    totals: list[Value] = []
    for r in range(rows):
        for j in range(vectors):
            text = code.plain(f"load {kind}, ptr {slots[0][r][j]}")
            for k in range(1, sets):
                text = code.plain(f"fadd {kind} {text}, {code.plain(f'load {kind}, ptr {slots[k][r][j]}')}")
            totals.append(Value(text, dtype))
    more, store = code.fresh("more"), code.fresh("store")
    code.branch("%add", more, store)
    for label in (more, store):
        code.label(label)
        c = "%c"
        for r in range(rows):
            for j in range(vectors):
                place, existing, value = code.moved(c, j * width), mask if j == vectors - 1 else None, totals[r * vectors + j]
                if label == more:
                    value = code.binary("fadd", code.load(place, dtype, dtype.itemsize, existing), value)
                code.store(value, place, dtype.itemsize, existing)
            c = code.plain(f"getelementptr i8, ptr {c}, i64 %c_row")
        code.line("ret void")
    names = "ptr noalias %a, i64 %row, i64 %step, ptr noalias %b, i64 %b_step, ptr noalias %c, i64 %c_row, i64 %k, i64 %last, i1 %add"
    name, text = named(code.definition(f"void @NAME({names})"), "tile")
    return name, text, tuple(code.declared)


def tiles(dtype: np.dtype, wanted: Sequence[tuple[Shape, bool]]) -> list[int]:
    """Addresses of tiles."""
    made = [_tile_text(dtype, shape, masked) for shape, masked in wanted]
    declared = dict.fromkeys([line for _, _, lines in made for line in lines])
    addresses = compiled({name: text for name, text, _ in made}, "\n".join(declared))
    return [addresses[name] for name, _, _ in made]


# ---- copies ----------------------------------------------------------------------------------------


def _masks(code: Code, count: str, vectors: int) -> list[str]:
    """For each of some vectors which lanes are among ``count`` elements."""
    code.declare("i64 @llvm.smax.i64(i64, i64)")
    left = [code.whole("sub", count, j * code.lanes) for j in range(vectors)]
    return [code.mask_below(code.plain(f"call i64 @llvm.smax.i64(i64 {n}, i64 0)")) for n in left]


@functools.lru_cache(256)
def copy_function(dtype: np.dtype, vectors: int, most: int, order: str) -> int:
    """The address of ``copy(source, k_stride, n_stride, target, k, last, count, apart, size)``, which copies panels of B or tiles of A: for
    each k ``most`` elements side by side, as whole vectors.

    order: which elements of the source lie side by side: those of one k ("row"), those of one column ("column"), or "none". last: elements
    of the last panel; what is missing is 0. count: panels, ``apart`` bytes apart in the source, ``size`` bytes in the target.
    """
    lanes = processor().vector // dtype.itemsize
    code = Code(lanes)
    step, wide = dtype.itemsize, lanes * dtype.itemsize
    whole = code.whole("sub", "%count", 1)
    if order == "column":
        with code.loop(0, "%count") as t:
            is_last = code.plain(f"icmp eq i64 {t}, {whole}")
            left = code.plain(f"select i1 {is_last}, i64 %last, i64 {most}")
            source, target = (
                code.moved("%source", code.whole("mul", t, "%apart")),
                code.moved("%target", code.whole("mul", t, "%size")),
            )
            _turn_squares(code, dtype, vectors, source, target, left)
    else:
        masks = {count: _masks(code, count, vectors) for count in (str(most), "%last")}

        def copy(i: str, t: str, count: str) -> None:
            row = code.moved(code.moved("%source", code.whole("mul", i, "%k_stride")), code.whole("mul", t, "%apart"))
            made = code.moved(code.moved("%target", code.whole("mul", t, "%size")), code.whole("mul", i, wide * vectors))
            for j in range(vectors):
                place, stride = code.moved(row, j * wide), str(step)
                if order == "none":
                    place, stride = code.moved(row, code.whole("mul", "%n_stride", j * lanes)), "%n_stride"
                code.store(code.load(place, dtype, stride, masks[count][j]), code.moved(made, j * wide), step)

        with code.loop(0, "%k") as i:
            with code.loop(0, whole) as t:
                copy(i, t, str(most))
            copy(i, whole, "%last")
    code.line("ret void")
    names = "ptr noalias %source, i64 %k_stride, i64 %n_stride, ptr noalias %target, i64 %k, i64 %last, i64 %count, i64 %apart, i64 %size"
    name, text = named(code.definition(f"void @NAME({names})"), "copy")
    return compiled({name: text}, "\n".join(code.declared))[name]


def _turn_squares(code: Code, dtype: np.dtype, vectors: int, source: str, target: str, left: str) -> None:
    """The copy of one panel where the elements of a column lie side by side: squares are read column by column and written row by row."""
    lanes, step = code.lanes, dtype.itemsize
    with code.loop(0, "%k", lanes) as i:
        rest = code.mask_below(code.whole("sub", "%k", i))
        for j in range(vectors):
            columns = []
            for n in range(j * lanes, (j + 1) * lanes):
                exists = code.plain(f"icmp slt i64 {n}, {left}")
                mask = code.plain(f"and <{lanes} x i1> {rest}, {code.spread(exists, 'i1')}")
                place = code.moved(code.moved(source, code.whole("mul", "%n_stride", n)), code.whole("mul", i, step))
                columns.append(code.load(place, dtype, step, mask).text)
            for r, text in enumerate(transposed(code, dtype, columns)):
                k = code.whole("add", i, r)
                with code.when(code.plain(f"icmp slt i64 {k}, %k")):
                    made = code.moved(target, code.whole("mul", k, lanes * step * vectors))
                    code.store(Value(text, dtype), code.moved(made, j * lanes * step), step)


def transposed(code: Code, dtype: np.dtype, rows: list[str]) -> list[str]:
    """Vectors as the columns of a square: log2(lanes) rounds in which pairs of vectors exchange halves of their blocks."""
    lanes, kind = code.lanes, code.type(dtype)
    half = lanes // 2
    while half:
        made = list(rows)
        for r in range(lanes):
            if r & half:
                continue
            low = [x if not x & half else lanes + (x ^ half) for x in range(lanes)]
            high = [x ^ half if not x & half else lanes + x for x in range(lanes)]
            for target, order in ((r, low), (r | half, high)):
                listed = ", ".join([f"i32 {x}" for x in order])
                made[target] = code.plain(
                    f"shufflevector {kind} {rows[r]}, {kind} {rows[r | half]}, <{lanes} x i32> <{listed}>"
                )
        rows = made
        half //= 2
    return rows
