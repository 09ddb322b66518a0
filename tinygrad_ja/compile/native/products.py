"""Matrix products C = A B of float32 and float64: tiles of C stay in registers while k runs.

A *tile* has some rows and a few vectors of columns. For each k it loads a row of B as vectors and spreads elements of A over all lanes, so
A may lie in any order. The elements of a row of B must lie side by side. Where they do not, or where a large B would be read again and again in
long strides, B is copied first into *panels*: for each k the columns of one tile. A matrix that several products share is copied once.

Tiles are functions of their own, compiled once for each size; a *walk*, the same for all products, calls them for all tiles of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .code import F32, F64, Code, Value
from .loops import Launch, Unsupported
from .target import compiled, named, processor

UNROLLED = 4
"""Steps of k that are written out."""
CHUNK = 1_000_000
"""Multiplications of a chunk: some microseconds."""
NEAR = 512 * 1024
"""Bytes of a B that is read as it lies, in whatever strides, by several rows of tiles."""


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
    rows = -(-m // -(-m // most))
    vectors = 8
    while vectors > 1 and rows * vectors + vectors + 1 > registers:
        vectors -= 1
    return Shape(rows, min(vectors, -(-n // lanes)))


# ---- tiles -----------------------------------------------------------------------------------------


def _tile_text(dtype: np.dtype, shape: Shape, masked: bool) -> tuple[str, str, tuple[str, ...]]:
    """``tile(a, row, step, b, b_step, c, c_row, k, last)``: strides in bytes; ``last``: columns of the last vector, if ``masked``."""
    lanes = processor().vector // dtype.itemsize
    code = Code(lanes)
    rows, vectors = shape
    kind, scalar = code.type(dtype), {4: "float", 8: "double"}[dtype.itemsize]
    width = lanes * dtype.itemsize
    sets = max(1, min(UNROLLED, 8 // (rows * vectors)))
    slots = [[[code.stack(kind) for _ in range(vectors)] for _ in range(rows)] for _ in range(sets)]
    for s in slots:
        for row in s:
            for slot in row:
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
    c = "%c"
    for r in range(rows):
        for j in range(vectors):
            total = code.plain(f"load {kind}, ptr {slots[0][r][j]}")
            for s in range(1, sets):
                total = code.plain(f"fadd {kind} {total}, {code.plain(f'load {kind}, ptr {slots[s][r][j]}')}")
            code.store(Value(total, dtype), code.moved(c, j * width), dtype.itemsize, mask if j == vectors - 1 else None)
        c = code.plain(f"getelementptr i8, ptr {c}, i64 %c_row")
    code.line("ret void")
    head = "void @NAME(ptr noalias %a, i64 %row, i64 %step, ptr noalias %b, i64 %b_step, ptr noalias %c, i64 %c_row, i64 %k, i64 %last)"
    name, text = named(code.definition(head), "tile")
    return name, text, tuple(code.declared)


def _tiles(dtype: np.dtype, wanted: Sequence[tuple[Shape, bool]]) -> list[int]:
    """Addresses of tiles."""
    made = [_tile_text(dtype, shape, masked) for shape, masked in wanted]
    declared = dict.fromkeys([line for _, _, lines in made for line in lines])
    addresses = compiled({name: text for name, text, _ in made}, "\n".join(declared))
    return [addresses[name] for name, _, _ in made]


# ---- the walk --------------------------------------------------------------------------------------

_WALK = """
define void @NAME(ptr noalias %words, i64 %chunk, i64 %worker) {
entry:
WORDS
  ; chunk -> (batch block, row block, column block)
  %cb = urem i64 %chunk, %column_blocks
  %rest = udiv i64 %chunk, %column_blocks
  %rb = urem i64 %rest, %row_blocks
  %bb = udiv i64 %rest, %row_blocks
  %j0 = mul i64 %cb, %columns_each
  %j1.all = add i64 %j0, %columns_each
  %j1 = call i64 @llvm.smin.i64(i64 %j1.all, i64 %columns)
  %i0 = mul i64 %rb, %rows_each
  %i1.all = add i64 %i0, %rows_each
  %i1 = call i64 @llvm.smin.i64(i64 %i1.all, i64 %rows)
  %n0 = mul i64 %bb, %batches_each
  %n1.all = add i64 %n0, %batches_each
  %n1 = call i64 @llvm.smin.i64(i64 %n1.all, i64 %batches)
  br label %batch
batch:
  %n = phi i64 [ %n0, %entry ], [ %n.next, %batch.end ]
  %n.more = icmp slt i64 %n, %n1
  br i1 %n.more, label %batch.body, label %end
batch.body:
  %outer = udiv i64 %n, %batches_inner
  %inner = urem i64 %n, %batches_inner
  %ao = mul i64 %outer, %a_outer
  %ai = mul i64 %inner, %a_inner
  %an = add i64 %ao, %ai
  %bo = mul i64 %outer, %b_outer
  %bi = mul i64 %inner, %b_inner
  %bn = add i64 %bo, %bi
  %co = mul i64 %outer, %c_outer
  %ci = mul i64 %inner, %c_inner
  %cn = add i64 %co, %ci
  %a.n = getelementptr i8, ptr %a, i64 %an
  %b.n = getelementptr i8, ptr %b, i64 %bn
  %c.n = getelementptr i8, ptr %c, i64 %cn
  br label %column
column:
  %j = phi i64 [ %j0, %batch.body ], [ %j.next, %column.end ]
  %j.more = icmp slt i64 %j, %j1
  br i1 %j.more, label %column.body, label %batch.end
column.body:
  %bj = mul i64 %j, %panel
  %b.j = getelementptr i8, ptr %b.n, i64 %bj
  %cj = mul i64 %j, %c_panel
  %c.j = getelementptr i8, ptr %c.n, i64 %cj
  %j.last = icmp eq i64 %j, %columns.less
  %full.j = select i1 %j.last, ptr %tile_last, ptr %tile
  %edge.j = select i1 %j.last, ptr %tile_corner, ptr %tile_edge
  br label %row
row:
  %i = phi i64 [ %i0, %column.body ], [ %i.next, %row.body ]
  %i.more = icmp slt i64 %i, %i1
  br i1 %i.more, label %row.body, label %column.end
row.body:
  %i.last = icmp eq i64 %i, %rows.less
  %function = select i1 %i.last, ptr %edge.j, ptr %full.j
  %ai.off = mul i64 %i, %a_panel
  %a.i = getelementptr i8, ptr %a.n, i64 %ai.off
  %ci.off = mul i64 %i, %c_tile
  %c.i = getelementptr i8, ptr %c.j, i64 %ci.off
  call void %function(ptr %a.i, i64 %a_row, i64 %a_step, ptr %b.j, i64 %b_step, ptr %c.i, i64 %c_row, i64 %k, i64 %last)
  %i.next = add i64 %i, 1
  br label %row
column.end:
  %j.next = add i64 %j, 1
  br label %column
batch.end:
  %n.next = add i64 %n, 1
  br label %batch
end:
  ret void
}
"""

_WALK_WORDS = (
    "a b c tile tile_edge tile_last tile_corner batches batches_each batches_inner rows rows_each row_blocks columns columns_each "
    "column_blocks a_outer a_inner b_outer b_inner c_outer c_inner a_panel a_row a_step panel b_step c_panel c_tile c_row k last"
).split()
_POINTERS = frozenset({"a", "b", "c", "tile", "tile_edge", "tile_last", "tile_corner"})


def _walk_text() -> tuple[str, str]:
    lines = []
    for place, word in enumerate(_WALK_WORDS):
        lines.append(f"  %{word}.at = getelementptr i64, ptr %words, i64 {place}")
        lines.append(f"  %{word} = load {'ptr' if word in _POINTERS else 'i64'}, ptr %{word}.at")
    lines += ["  %columns.less = sub i64 %columns, 1", "  %rows.less = sub i64 %rows, 1"]
    return named(_WALK.replace("WORDS", "\n".join(lines)), "walk")


# ---- panels ----------------------------------------------------------------------------------------


def _panel_text(dtype: np.dtype, vectors: int, order: str) -> Launch:
    """``pack(words, chunk, worker)``: copies the columns of one tile, for all k, side by side; missing columns are 0. Words: b, panels,
    batches_inner, b_outer, b_inner, stride of k, stride of columns, k, columns, bytes of a panel, panels of a batch. order: which elements
    of B lie side by side: those of a "row", of a "column", or "none"."""
    lanes = processor().vector // dtype.itemsize
    code = Code(lanes)
    step, wide = dtype.itemsize, lanes * dtype.itemsize
    b, panels = code.word("%words", 0, "ptr"), code.word("%words", 1, "ptr")
    inner_count, b_outer, b_inner, k_stride, n_stride, k, columns, size, count = [code.word("%words", w) for w in range(2, 11)]
    panel, batch = code.whole("urem", "%chunk", count), code.whole("udiv", "%chunk", count)
    outer, inner = code.whole("udiv", batch, inner_count), code.whole("urem", batch, inner_count)
    first = code.whole("mul", panel, lanes * vectors)
    source = code.moved(code.moved(b, code.whole("mul", outer, b_outer)), code.whole("mul", inner, b_inner))
    source = code.moved(source, code.whole("mul", first, n_stride))
    target = code.moved(panels, code.whole("mul", "%chunk", size))
    left = code.whole("sub", columns, first)
    masks = [
        code.mask_below(code.plain(f"call i64 @llvm.smax.i64(i64 {code.whole('sub', left, j * lanes)}, i64 0)"))
        for j in range(vectors)
    ]
    code.declare("i64 @llvm.smax.i64(i64, i64)")
    code.declare("i64 @llvm.smin.i64(i64, i64)")
    if order != "column":
        with code.loop(0, k) as i:
            row = code.moved(source, code.whole("mul", i, k_stride))
            made = code.moved(target, code.whole("mul", i, wide * vectors))
            for j in range(vectors):
                if order == "row":
                    vector = code.load(code.moved(row, j * wide), dtype, step, masks[j])
                else:
                    vector = code.load(code.moved(row, code.whole("mul", n_stride, j * lanes)), dtype, n_stride, masks[j])
                code.store(vector, code.moved(made, j * wide), step)
    else:
        with code.loop(0, k, lanes) as i:
            rest = code.mask_below(code.whole("sub", k, i))
            for j in range(vectors):
                rows = []
                for r in range(lanes):
                    n = j * lanes + r
                    exists = code.plain(f"icmp slt i64 {n}, {left}")
                    mask = code.plain(f"and <{lanes} x i1> {rest}, {code.spread(exists, 'i1')}")
                    place = code.moved(code.moved(source, code.whole("mul", n_stride, n)), code.whole("mul", i, step))
                    rows.append(code.load(place, dtype, step, mask).text)
                for r, text in enumerate(_transposed(code, dtype, rows)):
                    k_here = code.whole("add", i, r)
                    with code.when(code.plain(f"icmp slt i64 {k_here}, {k}")):
                        made = code.moved(target, code.whole("mul", k_here, wide * vectors))
                        code.store(Value(text, dtype), code.moved(made, j * wide), step)
    code.line("ret void")
    name, text = named(code.definition("void @NAME(ptr noalias %words, i64 %chunk, i64 %worker)"), "panel")
    return Launch(name, text, tuple(code.declared), [], 1)


def _transposed(code: Code, dtype: np.dtype, rows: list[str]) -> list[str]:
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


# ---- launches --------------------------------------------------------------------------------------


class Packed(NamedTuple):
    """Panels of a B: where they lie, and for which tiles they were made."""

    memory: Any
    address: int
    vectors: int


Panels = dict[Any, Packed]


def products(
    a: np.ndarray, b: np.ndarray, out: np.ndarray, panels: Panels | None = None, key_a: Any = None, key_b: Any = None
) -> list[Launch]:
    """The launches that compute ``np.matmul(a, b, out)``. Raises Unsupported.

    panels: those that earlier products of a step have made, by ``key_b`` (``key_a`` where the product is turned round).
    """
    dtype = out.dtype
    if dtype not in (F32, F64) or a.dtype != dtype or b.dtype != dtype:
        raise Unsupported(f"no tiles for {a.dtype} and {b.dtype}")
    if not (a.flags.aligned and b.flags.aligned and out.flags.aligned):
        raise Unsupported("an array that is not aligned")
    if 0 in a.shape or 0 in b.shape:
        raise Unsupported("an axis without elements")
    batch = out.shape[:-2]
    a = np.broadcast_to(a, (*batch, *a.shape[-2:]))
    b = np.broadcast_to(b, (*batch, *b.shape[-2:]))
    m, n = out.shape[-2:]
    by_row, by_column = out.strides[-1] == dtype.itemsize or n == 1, out.strides[-2] == dtype.itemsize or m == 1
    if not by_row and not by_column:
        raise Unsupported("a product into an array whose elements do not lie side by side")
    if by_column and (not by_row or n < m and n < 4):
        a, b, out = b.swapaxes(-1, -2), a.swapaxes(-1, -2), out.swapaxes(-1, -2)
        key_b = key_a
    return _Product(a, b, out, panels if panels is not None else {}, key_b).launches()


class _Product:
    def __init__(self, a: np.ndarray, b: np.ndarray, out: np.ndarray, panels: Panels, key: Any) -> None:
        self.dtype, self.panels, self.key = out.dtype, panels, key
        self.a, self.b, self.out = _merged(a, b, out)
        self.m, self.n = self.out.shape[-2:]
        self.k = self.a.shape[-1]

    def launches(self) -> list[Launch]:
        """Copying B into panels where that pays, and the product."""
        itemsize = self.dtype.itemsize
        lanes = processor().vector // itemsize
        a, b, out, m, n, k = self.a, self.b, self.out, self.m, self.n, self.k
        shape = tile_shape(m, n, lanes)
        rows, columns = -(-m // shape.rows), -(-n // (lanes * shape.vectors))
        sizes, (a_batch, b_batch, c_batch) = _batches(a, b, out)
        side_by_side = b.strides[-1] == itemsize or n == 1
        # The rows of a B with power-of-two strides share few places in the nearest cache, so it is read from the next one.
        packed = not side_by_side or (rows > 2 and k * b.strides[-2] > NEAR)
        made: list[Launch] = []
        scratch_words: tuple[int, ...] = ()
        b_address, scratch = _address(b), 0
        if packed:
            panel_bytes = k * lanes * shape.vectors * itemsize
            b_sizes = sizes if any(b_batch) else (1, 1)
            count = columns * b_sizes[0] * b_sizes[1]
            known = self.panels.get((self.key, shape.vectors)) if self.key is not None else None
            if known is None:
                order = "row" if side_by_side else "column" if b.strides[-2] == itemsize and k > 1 else "none"
                pack = _panel_text(self.dtype, shape.vectors, order)
                words = [b_address, 0, b_sizes[1], *b_batch, b.strides[-2], b.strides[-1], k, n, panel_bytes, columns]
                if self.key is None:
                    scratch, pack_scratch = panel_bytes * count, (1,)
                else:
                    memory = np.empty(panel_bytes * count + 64, np.uint8)
                    known = Packed(memory, memory.ctypes.data + 63 & ~63, shape.vectors)
                    self.panels[self.key, shape.vectors] = known
                    words[1], pack_scratch = known.address, ()
                if not any(b_batch):
                    words[2:5] = 1, 0, 0
                made.append(Launch(pack.name, pack.text, pack.declared, words, count, pack_scratch, scratch))
            if known is not None:
                b_address = known.address
            else:
                b_address, scratch_words = 0, (1,)
            panel, b_step = panel_bytes, lanes * shape.vectors * itemsize
            if any(b_batch):
                b_batch = (columns * panel_bytes * sizes[1], columns * panel_bytes)
        else:
            panel, b_step = lanes * shape.vectors * itemsize, b.strides[-2]
        last_rows = m - (rows - 1) * shape.rows
        last_columns = n - (columns - 1) * lanes * shape.vectors
        last = Shape(0, -(-last_columns // lanes))
        rest = last_columns - (last.vectors - 1) * lanes
        masked = rest != lanes
        wanted = [
            (shape, False),
            (Shape(last_rows, shape.vectors), False),
            (Shape(shape.rows, last.vectors), masked),
            (Shape(last_rows, last.vectors), masked),
        ]
        used = [rows > 1 and columns > 1, columns > 1, rows > 1, True]
        compiled_tiles = dict(
            zip([w for w, u in zip(wanted, used) if u], _tiles(self.dtype, [w for w, u in zip(wanted, used) if u]))
        )
        tiles = [compiled_tiles.get(w, 0) for w in wanted]
        batches = sizes[0] * sizes[1]
        batches_each, rows_each, columns_each = _divided(batches, rows, columns, m * n * k)
        blocks = [-(-batches // batches_each), -(-rows // rows_each), -(-columns // columns_each)]
        given = {
            "a": _address(a), "b": b_address, "c": _address(out),
            "tile": tiles[0], "tile_edge": tiles[1], "tile_last": tiles[2], "tile_corner": tiles[3],
            "batches": batches, "batches_each": batches_each, "batches_inner": sizes[1],
            "rows": rows, "rows_each": rows_each, "row_blocks": blocks[1],
            "columns": columns, "columns_each": columns_each, "column_blocks": blocks[2],
            "a_outer": a_batch[0], "a_inner": a_batch[1], "b_outer": b_batch[0], "b_inner": b_batch[1],
            "c_outer": c_batch[0], "c_inner": c_batch[1],
            "a_panel": a.strides[-2] * shape.rows, "a_row": a.strides[-2], "a_step": a.strides[-1],
            "panel": panel, "b_step": b_step, "c_panel": lanes * shape.vectors * itemsize,
            "c_tile": out.strides[-2] * shape.rows, "c_row": out.strides[-2], "k": k, "last": rest,
        }  # fmt: skip
        name, text = _walk_text()
        words = [given[word] for word in _WALK_WORDS]
        declared = ("declare i64 @llvm.smin.i64(i64, i64)",)
        made.append(Launch(name, text, declared, words, blocks[0] * blocks[1] * blocks[2], scratch_words, scratch))
        return made


def _address(array: np.ndarray) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


def _merged(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same product with fewer batches: where B is the same in all of them, their rows are rows of one A."""
    while a.ndim > 2 and (b.shape[-3] == 1 or b.strides[-3] == 0):
        m = a.shape[-2]
        if m > 1 and a.shape[-3] > 1 and (a.strides[-3] != m * a.strides[-2] or out.strides[-3] != m * out.strides[-2]):
            break
        a, out = _joined(a), _joined(out)
        b = b[..., 0, :, :]
    return a, b, out


def _joined(x: np.ndarray) -> np.ndarray:
    *outer, batch, m, n = x.shape
    *outer_strides, batch_stride, row, column = x.strides
    return np.lib.stride_tricks.as_strided(x, (*outer, batch * m, n), (*outer_strides, row if m > 1 else batch_stride, column))


def _batches(*arrays: np.ndarray) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """The batches as two axes, and the strides of each array along them."""
    axes: list[tuple[int, list[int]]] = []
    for axis, size in enumerate(arrays[0].shape[:-2]):
        if size == 1:
            continue
        strides = [x.strides[axis] for x in arrays]
        if axes and all([before == size * now for before, now in zip(axes[-1][1], strides)]):
            axes[-1] = (axes[-1][0] * size, strides)
        else:
            axes.append((size, strides))
    if len(axes) > 2:
        raise Unsupported("a product with more than two axes of batches that do not lie in order")
    axes = [(1, [0] * len(arrays))] * (2 - len(axes)) + axes
    return (axes[0][0], axes[1][0]), [(axes[0][1][x], axes[1][1][x]) for x in range(len(arrays))]


def _divided(batches: int, rows: int, columns: int, multiplications: int) -> tuple[int, int, int]:
    """Batches, rows and columns of tiles of a chunk."""
    chunks = min(32, batches * multiplications // CHUNK)
    if chunks < 2:
        return batches, rows, columns
    if batches >= 2:
        each = -(-batches // chunks)
        if each > 1 or batches >= chunks:
            return each, rows, columns
    chunks = max(2, chunks // batches)
    if rows >= columns:
        return 1, max(1, rows // min(chunks, rows)), columns
    return 1, rows, max(1, columns // min(chunks, columns))
