"""Matrix products of float32 and float64, by tiles (``tiles.py``) in the order of a walk (``walks.py``).

Where the elements of B's rows do not lie side by side, or where a large B would be read again and again in long strides, B is copied first into
*panels*: for each k the columns of one tile. A matrix that several products share is copied once. Of a large A whose columns are its rows, each
tile is copied.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .code import F32, F64
from .launches import Launch, Unsupported
from .target import compiled, processor
from .team import MOST
from .tiles import UNROLLED, Shape, copy_text, panel_text, tile_shape
from .tiles import tiles as compiled_tiles
from .walks import WALK_WORDS, walk_text

CHUNK = 130_000
"""Multiplications of a chunk: some microseconds."""
NEAR = 512 * 1024
"""Bytes of a B that is read as it lies, in whatever strides, by several rows of tiles."""
SHARED = 64 * 1024
"""Bytes of a B that is read as it lies by several products."""
DEEP = 512
"""About the most steps of k at a time, so that a tile of A stays in the nearest cache."""
BLOCK = 1024 * 1024
"""Bytes of B that stay in the next cache while the rows of A pass by."""
COPIED = 1536 * 1024
"""Bytes of an A, turned round, that is read as it lies: of a larger one each tile is copied, since its columns are far from one another."""


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
    if by_column and (not by_row or (n < m and n < 4)):
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
        extent = k * abs(b.strides[-2])
        packed = not side_by_side or (rows > 2 and extent > NEAR) or (self.key is not None and extent > SHARED)
        made: list[Launch] = []
        scratch_words: tuple[int, ...] = ()
        pack_scratch: tuple[int, ...]
        b_address, scratch = _address(b), 0
        if packed:
            panel_bytes = k * lanes * shape.vectors * itemsize
            b_sizes = sizes if any(b_batch) else (1, 1)
            count = columns * b_sizes[0] * b_sizes[1]
            known = self.panels.get((self.key, shape.vectors)) if self.key is not None else None
            if known is None:
                order = "row" if side_by_side else "column" if b.strides[-2] == itemsize and k > 1 else "none"
                pack = panel_text(self.dtype, shape.vectors, order)
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
        found = dict(
            zip([w for w, u in zip(wanted, used) if u], compiled_tiles(self.dtype, [w for w, u in zip(wanted, used) if u]))
        )
        addresses = [found.get(w, 0) for w in wanted]
        batches = sizes[0] * sizes[1]
        batches_each, rows_each, columns_each = _divided(batches, rows, columns, m * n * k)
        blocks = [-(-batches // batches_each), -(-rows // rows_each), -(-columns // columns_each)]
        k_near = k if k <= DEEP * 3 // 2 else -(-k // -(-k // DEEP) // UNROLLED) * UNROLLED + UNROLLED
        columns_near = max(1, BLOCK // (k_near * lanes * shape.vectors * itemsize))
        copies = a.strides[-2] == itemsize and a.strides[-1] != itemsize and columns > 1 and k * abs(a.strides[-1]) > COPIED
        copied_step = -(-shape.rows // lanes) * lanes * itemsize
        copy, buffers, buffer_each = 0, 0, 0
        if copies:
            copy_name, copy_definition, copy_declared = copy_text(self.dtype, shape.rows)
            copy = compiled({copy_name: copy_definition}, "\n".join(copy_declared))[copy_name]
            buffers, buffer_each = scratch + 63 & ~63, k_near * copied_step
            scratch = buffers + buffer_each * MOST
            scratch_words = (*scratch_words, WALK_WORDS.index("buffers"))
        given = {
            "a": _address(a), "b": b_address, "c": _address(out),
            "tile": addresses[0], "tile_edge": addresses[1], "tile_last": addresses[2], "tile_corner": addresses[3],
            "copy": copy, "buffers": buffers, "buffer_each": buffer_each, "copied_row": itemsize, "copied_step": copied_step,
            "batches": batches, "batches_each": batches_each, "batches_inner": sizes[1],
            "rows": rows, "rows_each": rows_each, "row_blocks": blocks[1], "rows_full": shape.rows, "rows_last": last_rows,
            "columns": columns, "columns_each": columns_each, "column_blocks": blocks[2],
            "columns_near": columns_near, "k_near": k_near,
            "a_outer": a_batch[0], "a_inner": a_batch[1], "b_outer": b_batch[0], "b_inner": b_batch[1],
            "c_outer": c_batch[0], "c_inner": c_batch[1],
            "a_panel": a.strides[-2] * shape.rows, "a_row": a.strides[-2], "a_step": a.strides[-1],
            "panel": panel, "b_step": b_step, "c_panel": lanes * shape.vectors * itemsize,
            "c_tile": out.strides[-2] * shape.rows, "c_row": out.strides[-2], "k": k, "last": rest,
        }  # fmt: skip
        name, text = walk_text()
        words = [given[word] for word in WALK_WORDS]
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
    if batches >= chunks:
        return -(-batches // chunks), rows, columns
    chunks = -(-chunks // batches)
    if rows >= columns:
        return 1, -(-rows // min(chunks, rows)), columns
    return 1, rows, -(-columns // min(chunks, columns))
