"""Matrix products of float32 and float64, by tiles (``tiles.py``) in the order of a walk (``walks.py``).

Where the elements of B's rows do not lie side by side, or where a large B would be read again and again in long strides, B is copied first into
*panels*: for each k the columns of one tile. A matrix that several products share is copied once. So is an A whose columns
lie side by side, tile by tile, unless it is small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..program import Array, Instruction
from .code import F32, F64
from .launches import Launch, Unsupported
from .loops import loops
from .spaces import Operand
from .target import processor
from .team import MOST
from .tiles import UNROLLED, Shape, copy_function, tile_shape
from .tiles import tiles as compiled_tiles
from .walks import COPY_WORDS, WALK_WORDS, copy_text, walk_text

CHUNK = 130_000
"""Multiplications of a chunk: some microseconds."""
NEAR = 512 * 1024
"""Bytes of a B that is read as it lies, in whatever strides, by several rows of tiles."""
SHARED = 64 * 1024
"""Bytes of a B that is read as it lies by several products, or by many rows of tiles."""
OFTEN = 8
"""Rows of tiles that are many."""
DEEP = 512
"""About the most steps of k at a time, so that a tile of A stays in the nearest cache."""
BLOCK = 1024 * 1024
"""Bytes of B that stay in the next cache while the rows of A pass by."""
COPIED = 64 * 1024
"""Bytes that a chunk copies."""
GROUP = 8
"""Tiles of A that are copied together."""
SMIN = ("declare i64 @llvm.smin.i64(i64, i64)",)

TURNED = 64 * 1024
"""Bytes of an A whose columns are rows up to which it is read as it lies."""


Panels = dict[Any, np.ndarray]
"""The memory of factors that several products share: by what they are known by, and the vectors of a panel."""

Pair = tuple[int, int]


class Factor(NamedTuple):
    """How a walk finds a factor: its address, bytes from batch to batch (outer, inner), from tile to tile, from row to row within a tile of
    A, and from k to k."""

    address: int
    batch: Pair
    panel: int
    row: int
    step: int


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
    if n == 1 and m > 1 and a.strides[-1] == dtype.itemsize:
        return _dots(a, b, out)
    by_row, by_column = out.strides[-1] == dtype.itemsize or n == 1, out.strides[-2] == dtype.itemsize or m == 1
    if not by_row and not by_column:
        raise Unsupported("a product into an array whose elements do not lie side by side")
    if by_column and (not by_row or (n < m and n < 4)):
        a, b, out = b.swapaxes(-1, -2), a.swapaxes(-1, -2), out.swapaxes(-1, -2)
        key_b = key_a
    return _Product(a, b, out, panels if panels is not None else {}, key_b).launches()


def _dots(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> list[Launch]:
    """The product with one column: a dot product for each row of A."""
    arrays = [a, b.swapaxes(-1, -2), out]
    x, y, z = [Array(array.shape, array.dtype) for array in arrays]
    terms = Array(a.shape, a.dtype)
    body = [
        Instruction("map", "multiply", [x, y], [terms]),
        Instruction("reduce", "sum", [terms], [z], {"axes": (a.ndim - 1,), "keepdims": True}),
    ]
    places = {key: Operand(_address(array), array.strides) for key, array in zip((x, y, z), arrays)}
    return loops(body, a.shape, 1, [z], places.__getitem__)


class Copy(NamedTuple):
    """What a walk copies where it meets it: by which function, to which memory (and bytes of it for each worker), bytes from k to k and
    from panel to panel there, and how many elements there are for each k, in most panels and in the last one."""

    function: int = 0
    buffers: int = 0
    each: int = 0
    step: int = 0
    panel: int = 0
    usual: int = 0
    last: int = 0


class _Product:
    def __init__(self, a: np.ndarray, b: np.ndarray, out: np.ndarray, panels: Panels, key: Any) -> None:
        self.dtype, self.panels, self.key = out.dtype, panels, key
        self.a, self.b, self.out = _merged(a, b, out)
        self.m, self.n = self.out.shape[-2:]
        self.k = self.a.shape[-1]

    def launches(self) -> list[Launch]:
        """Copying A and B where that pays, and the product."""
        itemsize = self.dtype.itemsize
        self.lanes = lanes = processor().vector // itemsize
        a, b, out, m, n, k = self.a, self.b, self.out, self.m, self.n, self.k
        self.shape = shape = tile_shape(m, n, lanes)
        self.rows, self.columns = rows, columns = -(-m // shape.rows), -(-n // (lanes * shape.vectors))
        self.sizes, (a_batch, b_batch, c_batch) = _batches(a, b, out)
        self.made: list[Launch] = []
        self.scratch, self.scratch_words = 0, list[int]()
        width = lanes * shape.vectors * itemsize
        self.k_near = k if k <= DEEP * 3 // 2 else -(-k // -(-k // DEEP) // UNROLLED) * UNROLLED + UNROLLED
        self.columns_near = max(1, BLOCK // (self.k_near * width))
        self.by_columns = columns >= rows
        self.copy = Copy()
        plain_b = Factor(_address(b), b_batch, lanes * shape.vectors * b.strides[-1] if n > 1 else 0, 0, b.strides[-2])
        plain_a = Factor(_address(a), a_batch, a.strides[-2] * shape.rows, a.strides[-2], a.strides[-1])
        factor_b = self._panels(plain_b)
        factor_a = self._turned(plain_a)
        batches = self.sizes[0] * self.sizes[1]
        batches_each, rows_each, columns_each = _divided(batches, rows, columns, m * n * k, 8 if self.copy.function else 32)
        blocks = [-(-batches // batches_each), -(-rows // rows_each), -(-columns // columns_each)]
        addresses, last = self._tiles()
        given = {
            "a": factor_a.address, "b": factor_b.address, "c": _address(out),
            "tile": addresses[0], "tile_edge": addresses[1], "tile_last": addresses[2], "tile_corner": addresses[3],
            "copy": self.copy.function, "buffers": self.copy.buffers, "buffer_each": self.copy.each, "copied_row": itemsize,
            "copied_step": self.copy.step, "copied_panel": self.copy.panel, "left_usual": self.copy.usual, "left_last": self.copy.last,
            "batches": batches, "batches_each": batches_each, "batches_inner": self.sizes[1],
            "rows": rows, "rows_each": rows_each, "row_blocks": blocks[1],
            "columns": columns, "columns_each": columns_each, "column_blocks": blocks[2],
            "rows_near": GROUP, "columns_near": self.columns_near, "k_near": self.k_near,
            "a_outer": factor_a.batch[0], "a_inner": factor_a.batch[1], "b_outer": factor_b.batch[0], "b_inner": factor_b.batch[1],
            "c_outer": c_batch[0], "c_inner": c_batch[1],
            "a_panel": factor_a.panel, "a_row": factor_a.row, "a_step": factor_a.step,
            "panel": factor_b.panel, "b_step": factor_b.step, "b_column": b.strides[-1], "c_panel": width,
            "c_tile": out.strides[-2] * shape.rows, "c_row": out.strides[-2], "k": k, "last": last,
        }  # fmt: skip
        name, text = walk_text(self.by_columns)
        words = [given[word] for word in WALK_WORDS]
        chunks = blocks[0] * blocks[1] * blocks[2]
        return [*self.made, Launch(name, text, SMIN, words, chunks, tuple(self.scratch_words), self.scratch)]

    def _room(self, nbytes: int, word: str) -> int:
        """Scratch memory, to whose begin a word of the walk will point."""
        begin = self.scratch + 63 & ~63
        self.scratch = begin + nbytes
        self.scratch_words.append(WALK_WORDS.index(word))
        return begin

    def _panels(self, plain: Factor) -> Factor:
        """B in panels, which are copied beforehand, or where a walk by columns meets them; or B as it lies."""
        b, k, vectors = self.b, self.k, self.shape.vectors
        side_by_side = b.strides[-1] == self.dtype.itemsize or self.n == 1
        # The rows of a B with power-of-two strides share few places in the nearest cache, so it is read from the next one.
        extent = k * abs(b.strides[-2])
        often = self.key is not None or self.rows > OFTEN
        if side_by_side and not (self.rows > 2 and extent > NEAR) and not (often and extent > SHARED):
            return plain
        most = self.lanes * vectors
        last = self.n - (self.columns - 1) * most
        order = "row" if side_by_side else "column" if b.strides[-2] == self.dtype.itemsize and k > 1 else "none"
        function = copy_function(self.dtype, vectors, most, order)
        if self.key is None and self.by_columns and self.rows > 1:
            self._copied_on_the_way(function, vectors, most, last, min(self.columns_near, self.columns))
            return plain
        size = k * most * self.dtype.itemsize
        known = self.panels.get((self.key, vectors)) if self.key is not None else None
        memory = known
        if self.key is not None and memory is None:
            memory = np.empty(self._count(plain) * self.columns * size + 64, np.uint8)
            self.panels[self.key, vectors] = memory
        made = self._copied(plain, "b", function, order, (vectors, self.columns, most, last, size), b.strides[-2:], memory)
        if known is not None:
            self.made.pop()
        return made

    def _turned(self, plain: Factor) -> Factor:
        """An A whose columns lie side by side, tile by tile: copied beforehand, or where a walk by rows meets it; or A as it lies."""
        a, itemsize, k, most = self.a, self.dtype.itemsize, self.k, self.shape.rows
        if a.strides[-2] != itemsize or a.strides[-1] == itemsize or self.columns < 2 or k * abs(a.strides[-1]) < TURNED:
            return plain
        vectors = -(-most // self.lanes)
        last = self.m - (self.rows - 1) * most
        function = copy_function(self.dtype, vectors, most, "row")
        if not self.by_columns:
            self._copied_on_the_way(function, vectors, most, last, min(self.rows, GROUP))
            return plain
        size = k * vectors * self.lanes * itemsize + 64 * (
            1 + k // 16 % 2
        )  # tiles do not begin at equal places of the nearest cache
        return self._copied(
            plain, "a", function, "row", (vectors, self.rows, most, last, size), (a.strides[-1], itemsize), None
        )

    def _copied_on_the_way(self, function: int, vectors: int, most: int, last: int, count: int) -> None:
        """Let the walk copy so many tiles or panels together."""
        step = vectors * self.lanes * self.dtype.itemsize
        panel = self.k_near * step + 64
        self.copy = Copy(function, self._room(panel * count * MOST, "buffers"), panel * count, step, panel, most, last)

    def _count(self, plain: Factor) -> int:
        return self.sizes[0] * self.sizes[1] if any(plain.batch) else 1

    def _copied(
        self,
        plain: Factor,
        word: str,
        function: int,
        order: str,
        panels: tuple[int, int, int, int, int],
        strides: Sequence[int],
        memory: np.ndarray | None,
    ) -> Factor:
        """Copy a factor before the walk, to scratch memory or to ``memory``. panels: vectors for each k, number of panels, elements of one and
        of the last one, bytes of one."""
        vectors, count, most, last, size = panels
        k, itemsize = self.k, self.dtype.itemsize
        step = vectors * self.lanes * itemsize
        inner = self.sizes[1] if any(plain.batch) else 1
        if memory is None:
            address = self._room(self._count(plain) * count * size, word)
        else:
            address = memory.ctypes.data + 63 & ~63
        scratch_words = (COPY_WORDS.index("target"),) if memory is None else ()
        parts = max(1, min(32, k * count * step // COPIED))
        panels_each, k_each = (-(-count // parts), k) if order == "column" else (count, -(-k // parts))
        blocks = -(-count // panels_each), -(-k // k_each)
        given = {
            "source": plain.address, "target": address, "copy": function, "batches_inner": inner, "source_outer": plain.batch[0],
            "source_inner": plain.batch[1], "panels": count, "panels_each": panels_each, "panel_blocks": blocks[0], "apart": plain.panel,
            "k": k, "k_each": k_each, "k_blocks": blocks[1], "k_stride": strides[0], "n_stride": strides[1], "step": step, "size": size,
            "left_usual": most, "left_last": last,
        }  # fmt: skip
        name, text = copy_text()
        words, chunks = [given[word] for word in COPY_WORDS], self._count(plain) * blocks[0] * blocks[1]
        self.made.append(Launch(name, text, SMIN, words, chunks, scratch_words, self.scratch))
        batch = (count * size * inner, count * size) if any(plain.batch) else (0, 0)
        return Factor(address, batch, size, itemsize, step)

    def _tiles(self) -> tuple[list[int], int]:
        """The addresses of the tiles: usual, last row, last column, both; and the columns of the last vector."""
        shape, lanes = self.shape, self.lanes
        last_rows = self.m - (self.rows - 1) * shape.rows
        last_columns = self.n - (self.columns - 1) * lanes * shape.vectors
        vectors = -(-last_columns // lanes)
        rest = last_columns - (vectors - 1) * lanes
        masked = rest != lanes
        wanted = [(Shape(r, shape.vectors), False) for r in (shape.rows, last_rows)]
        wanted += [(Shape(r, vectors), masked) for r in (shape.rows, last_rows)]
        used = [self.rows > 1 and self.columns > 1, self.columns > 1, self.rows > 1, True]
        needed = [w for w, u in zip(wanted, used) if u]
        found = dict(zip(needed, compiled_tiles(self.dtype, needed)))
        return [found.get(w, 0) for w in wanted], rest


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


def _divided(batches: int, rows: int, columns: int, multiplications: int, most: int) -> tuple[int, int, int]:
    """Batches, rows and columns of tiles of a chunk, of which there are at most about so many."""
    chunks = min(most, batches * multiplications // CHUNK)
    if chunks < 2:
        return batches, rows, columns
    if batches >= chunks:
        return -(-batches // chunks), rows, columns
    chunks = -(-chunks // batches)
    if rows >= columns:
        return 1, -(-rows // min(chunks, rows)), columns
    return 1, rows, -(-columns // min(chunks, columns))
