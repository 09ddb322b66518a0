"""Attention on the CPU, in blocks: the scores of a block stay in the processor's cache from the first product to the last, and the
items of a batch are shared out among threads (NumPy's stacked products run in one).

A further column spares passes over the scores. (v, 1) gives the rows' sums along with the weighted values; (scale q, -l) (k, 1)ᵀ
subtracts each row's logarithm l from its scores. And where all scores are moderate no maximum has to be subtracted.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend.threads import in_parts
from ..core.operator import kernel
from ..ops.attention import _attention, attend, attend_backward, widened
from .machine_code import with_machine_code

BLOCK = 131_072
"""Scores of a block: 512 KiB in single precision; the backward has two such arrays."""

PASSES = 8
"""How often each score is touched: so many fewer of them are worth a thread."""

LARGEST, SMALLEST = 60.0, 1e-6
"""Below that score nothing overflows; above that sum nothing that matters has underflowed."""

SHARED_BY_BLAS = 262_144
"""Multiplications of one product from which on OpenBLAS takes several threads itself; ours would only be in their way."""


class _Batch:
    """The common batch of some arrays: how it is cut along its longest axis, and how many rows of the scores make a block."""

    def __init__(self, query: np.ndarray, key: np.ndarray, value: np.ndarray) -> None:
        self.shape = np.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
        self.rows, self.columns = query.shape[-2], key.shape[-2]
        scores = math.prod(self.shape) * self.rows * self.columns
        self.worth = bool(self.shape) and scores > BLOCK // 4
        if self.worth:
            by_blas = self.rows * self.columns * query.shape[-1] > SHARED_BY_BLAS
            limit = 8 * BLOCK if by_blas else BLOCK
            self.axis = self.shape.index(max(self.shape))
            row = math.prod(self.shape) // self.shape[self.axis] * self.columns
            self.step = max(1, min(self.rows, limit // row))
            self.block = max(1, limit // (row * self.step))
            self.elements = 0 if by_blas else PASSES * scores

    def empty_like(self, array: np.ndarray, side: int) -> np.ndarray:
        """An array of the batch with the last axis ``side``, its axes in memory in the order of those of ``array``."""
        return np.empty_like(array, shape=(*self.shape, array.shape[-2], side))

    def front(self, array: np.ndarray) -> np.ndarray:
        """A view with the axis to be cut in front."""
        return np.moveaxis(array, self.axis, 0)

    def spread(self, array: np.ndarray) -> np.ndarray:
        """The same of an array that is first broadcast to the batch."""
        return self.front(np.broadcast_to(array, (*self.shape, *array.shape[-2:])))

    def spread_bias(self, bias: Any) -> Any:
        """The same of a bias, broadcast to the shape of the scores."""
        return None if bias is None else self.front(np.broadcast_to(bias, (*self.shape, self.rows, self.columns)))

    def in_blocks(self, work: Callable[[slice, slice], None]) -> None:
        """``work(part, rows)`` for each block; the blocks of one part run one after the other."""

        def all_rows(part: slice) -> None:
            for start in range(0, self.rows, self.step):
                work(part, slice(start, start + self.step))

        in_parts(all_rows, self.shape[self.axis], self.elements, self.block)


def _cut(array: Any, part: slice, rows: slice) -> Any:
    return None if array is None else array[part][..., rows, :]


def _beside(array: np.ndarray, column: Any) -> np.ndarray:
    """A copy of ``array`` with one more column."""
    made = np.empty((*array.shape[:-1], array.shape[-1] + 1), array.dtype)
    made[..., :-1] = array
    made[..., -1:] = column
    return made


class _Memory(threading.local):
    """Memory of each thread for the scores of a block. It is kept: pages that are new to a process cost more than a pass over them."""

    def __init__(self) -> None:
        self.kept: dict[Any, np.ndarray] = {}

    def product(self, name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """``a @ b`` in the memory of that name, to be used before the next product of this name in this thread."""
        shape = (*a.shape[:-1], b.shape[-1])
        size = math.prod(shape)
        if size > BLOCK:
            return np.matmul(a, b)
        flat = self.kept.get((name, a.dtype))
        if flat is None or flat.size < size:
            flat = self.kept[name, a.dtype] = np.empty(BLOCK, a.dtype)
        return np.matmul(a, b, out=flat[:size].reshape(shape))


_memory = _Memory()


def _transposed(array: np.ndarray) -> np.ndarray:
    return array.swapaxes(-1, -2)


def _attend_block(q: Any, k: Any, v: Any, b: Any, scale: float) -> Any:
    """Like ``attend`` for scores that are all moderate; None for others."""
    scores = _memory.product("scores", q * scale, _transposed(k))
    if b is not None:
        scores += b
    if not scores.item(scores.argmax()) < LARGEST:  # NaN too
        return None
    made = np.matmul(np.exp(scores, out=scores), _beside(v, 1))
    sums = made[..., -1:]
    if not sums.min() > SMALLEST:
        return None
    return made[..., :-1] / sums, np.log(sums)


@kernel(_attention, np.ndarray)
def attention_numpy(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, bias: np.ndarray | None = None, scale: float = 1.0
) -> Any:
    """The output has the memory layout of the query: heads that were split without a copy are merged without one."""
    dtype = query.dtype
    query, key, value, bias = widened(np, query, key, value, bias)
    batch = _Batch(query, key, value)
    if not batch.worth:
        output, logsum = attend(np, query, key, value, bias, scale)
        return output.astype(dtype, copy=False), logsum, functools.partial(attend_backward, np)
    output, logsum = batch.empty_like(query, value.shape[-1]), batch.empty_like(query, 1)
    q, k, v, b = *[batch.spread(a) for a in (query, key, value)], batch.spread_bias(bias)
    y, total = batch.front(output), batch.front(logsum)

    def work(part: slice, rows: slice) -> None:
        qs, bs = _cut(q, part, rows), _cut(b, part, rows)
        made = _attend_block(qs, k[part], v[part], bs, scale) or attend(np, qs, k[part], v[part], bs, scale)
        _cut(y, part, rows)[...], _cut(total, part, rows)[...] = made

    batch.in_blocks(work)
    return output.astype(dtype, copy=False), logsum, functools.partial(_backward, batch)


def _backward(
    batch: _Batch, g: Any, output: Any, logsum: Any, query: Any, key: Any, value: Any, bias: Any, scale: float, needs_bias: bool
) -> tuple[Any, ...]:
    """Gradients of query, key, value and bias; those of keys and values add up over the blocks of rows."""
    made = [batch.empty_like(a, a.shape[-1]) for a in (query, key, value)]
    if needs_bias:
        made.append(np.empty((*batch.shape, batch.rows, batch.columns), query.dtype))
    d_query, d_key, d_value, *d_bias = [batch.front(a) for a in made]
    g, output, logsum, query, key, value = [batch.spread(a) for a in (g, output, logsum, query, key, value)]
    bias = batch.spread_bias(bias)

    def work(part: slice, rows: slice) -> None:
        gs, ys, ls, qs, bs = [_cut(a, part, rows) for a in (g, output, logsum, query, bias)]
        q_l = _beside(qs * scale, -ls)
        weights = _memory.product("weights", q_l, _transposed(_beside(key[part], 1)))
        if bs is not None:
            weights += bs
        np.exp(weights, out=weights)
        dv = np.matmul(_transposed(weights), gs)
        met = np.einsum("...d,...d->...", gs, ys)[..., None]
        scores = _memory.product("scores", _beside(gs, -met), _transposed(_beside(value[part], 1)))
        scores *= weights
        np.multiply(np.matmul(scores, key[part]), scale, out=_cut(d_query, part, rows))
        dk = np.matmul(_transposed(scores), q_l[..., :-1])
        for whole, share in ((d_key, dk), (d_value, dv)):
            if rows.start:
                whole[part] += share
            else:
                whole[part] = share
        for whole in d_bias:
            _cut(whole, part, rows)[...] = scores

    batch.in_blocks(work)
    return tuple(made) if needs_bias else (*made, None)


with_machine_code(_attention)
