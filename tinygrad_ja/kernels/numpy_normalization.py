"""Faster NumPy texts of normalization for large contiguous arrays: in threads, and in blocks whose temporaries stay in the cache.

Everything is a sum of products with factors that are constant along rows or columns. With the mean m and s = 1/√(v + eps) of the elements of
one statistic, y = x a + c with a = s w and c = b - m a, and dx = g a + x q + p with q = -s a mean(g z) and p = -a mean(g) - m q.
The variance is mean(x²) - m², one pass less than the mean of (x - m)², wherever that loses no more than a digit; else x - m is made first.

NumPy broadcasts a column over a row of 128 elements at half its speed, but a product of matrices (rows, 2) and (2, columns) makes
the outer products it needs at full speed. (With an inner size of 1 it would not go to BLAS.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend.threads import in_parts
from ..core.operator import OPERATORS, backward_kernel, kernel
from ..ops.layer_norm import _layer_norm, _layer_norm_backward, _rms_norm, _rms_norm_backward, as_rows
from ..ops.normalization import _batch_norm, _batch_norm_backward, _group_norm, _group_norm_backward, by_channel
from .machine_code import with_machine_code

_BLOCK = 1 << 20
"""Elements of a block. Smaller ones would stay nearer to the processor, but a thread that has to wait for the interpreter's lock sleeps
longer than an operator of so many elements takes; larger products would be shared out by BLAS to threads of its own."""
_ROWS = 2048
"""Rows of a block at most: NumPy adds up columns one row after the other, and the error of a sum grows with their number."""
_WORTH = 4
"""Threads pay for rows from so many times the usual size on: there are as many small operators, which hold the lock, as large ones."""
_SHORT = 16
"""Statistics of fewer elements are left to the plain text."""
_FAR = 10.0
"""From m²/v = 10 on, mean(x²) - m² loses a digit."""
_NEAR = 4.0
"""From m²/v = 4 on, x q + p loses more than (x - m) q does."""

_sums: Any = np.add.reduce


def _plain(operator: Any) -> Any:
    return OPERATORS[operator.operator.name].kernel_for(np)


def _fits(x: np.ndarray) -> bool:
    return x.dtype.char in "fd" and x.size > 0 and x.flags.c_contiguous


# ---- over the batch ------------------------------------------------------------------------------

_plain_batch_norm = _plain(_batch_norm)


class _Channels:
    """(N, C, places) as a matrix with a row for each sample. Channels as blocks of columns would fit into the cache at once, but rows at
    a distance of a power of two push each other out of it."""

    def __init__(self, input: np.ndarray) -> None:
        self.n, self.channels, self.places = by_channel(input.shape)
        self.width = self.channels * self.places
        self.count = self.n * self.places

    def rows(self, x: np.ndarray) -> np.ndarray:
        """The matrix; a view."""
        return x.reshape(self.n, self.width)

    def in_blocks(self, work: Any) -> None:
        """``work`` of a few samples at a time."""
        in_parts(work, self.n, self.n * self.width // (2 * _WORTH), max(1, min(_ROWS, _BLOCK // self.width)))

    def total(self, columns: Any) -> np.ndarray:
        """Sums for each channel, of sums for each column of some samples that ``columns`` makes: (..., width) to (..., C)."""
        found: dict[int, np.ndarray] = {}

        def work(part: slice) -> None:
            found[part.start] = columns(part)

        self.in_blocks(work)
        made = _sums([found[start] for start in sorted(found)], 0)
        return made if self.places == 1 else _sums(made.reshape(*made.shape[:-1], self.channels, self.places), -1)

    def spread(self, by_channel: np.ndarray) -> np.ndarray:
        """A number for each channel as a row of the matrix."""
        return by_channel if self.places == 1 else by_channel.repeat(self.places)


@kernel(_batch_norm, np.ndarray)
def batch_norm_numpy(
    input: np.ndarray, weight: np.ndarray | None = None, bias: np.ndarray | None = None, eps: float = 1e-5
) -> tuple[tuple[Any, Any, Any], Any, Any]:
    """Sums in blocks of samples, then the result in blocks of samples."""
    if not _fits(input):
        return _plain_batch_norm(input, weight, bias, eps)
    shape = _Channels(input)
    x, y = shape.rows(input), np.empty(input.shape, input.dtype)
    rows = shape.rows(y)

    def moments(part: slice) -> np.ndarray:
        return np.stack([_sums(x[part], 0), np.einsum("nk,nk->k", x[part], x[part])])

    m, v = shape.total(moments) / shape.count
    v -= m * m
    rest: Any = m
    if not (m * m <= _FAR * v).all():
        x = x - shape.spread(m)
        rest = shape.total(moments)[0] / shape.count
        x -= shape.spread(rest)
        m, v, rest = m + rest, shape.total(moments)[1] / shape.count, 0.0
    s = 1.0 / np.sqrt(v + eps)
    a = s if weight is None else s * weight
    c = -rest * a if bias is None else bias - rest * a
    factor, summand = shape.spread(a), shape.spread(c)

    def work(part: slice) -> None:
        made = np.multiply(x[part], factor, rows[part])
        made += summand

    shape.in_blocks(work)
    return (y, m, v), m.reshape(1, -1, 1), s.reshape(1, -1, 1)


@backward_kernel(_batch_norm, np.ndarray)
def batch_norm_backward_numpy(
    g: Any, needs: tuple[bool, ...], input: np.ndarray, weight: np.ndarray | None, middle: np.ndarray, scale: np.ndarray
) -> tuple[Any, ...]:
    """The same for the gradients."""
    if not _fits(input):
        return _batch_norm_backward(np, g, needs, input, weight, middle, scale)
    shape = _Channels(input)
    x, dy = shape.rows(input), shape.rows(np.ascontiguousarray(g[0]))
    m, s = middle.ravel(), scale.ravel()
    if (np.square(m * s) > _NEAR).any():
        x, m = x - shape.spread(m), m * 0

    def sums(part: slice) -> np.ndarray:
        return np.stack([_sums(dy[part], 0), np.einsum("nk,nk->k", dy[part], x[part])])

    by_bias, by_weight = shape.total(sums)
    by_weight = s * (by_weight - m * by_bias)
    dx: Any = None
    if needs[0]:
        a = s if weight is None else s * weight
        q = (g[2] * 2 - a * s * by_weight) / shape.count
        p = (g[1] - a * by_bias) / shape.count - m * q
        factors = [shape.spread(each) for each in (a, q, p)]
        dx = np.empty(input.shape, input.dtype)
        rows = shape.rows(dx)

        def work(part: slice) -> None:
            made = np.multiply(dy[part], factors[0], rows[part])
            made += x[part] * factors[1]
            made += factors[2]

        shape.in_blocks(work)
    return dx, by_weight if needs[1] else None, by_bias if needs[2] else None


# ---- over the last axes: blocks of rows ----------------------------------------------------------

_plain_layer_norm = _plain(_layer_norm)
_plain_rms_norm = _plain(_rms_norm)


def _beside_zeros(row: Any, width: int, dtype: Any, other: Any = None) -> np.ndarray:
    """(2, width): a row, or ones, above another one, or zeros."""
    made = np.zeros((2, width), dtype)
    made[0] = 1.0 if row is None else row.reshape(-1)
    if other is not None:
        made[1] = other.reshape(-1)
    return made


def _standardize_rows(
    input: np.ndarray, rows: tuple[int, int], weight: Any, bias: Any, eps: float, centre: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y, m and s (with ``centre=False``: m = 0) over each row."""
    count, width = rows
    dtype = input.dtype
    x, result = input.reshape(rows), np.empty(input.shape, dtype)
    y = result.reshape(rows)
    middle, scale = np.zeros(count, dtype), np.empty(count, dtype)
    ones = np.ones(width, dtype)
    weights, both = _beside_zeros(weight, width, dtype), _beside_zeros(weight, width, dtype, bias)

    def work(part: slice) -> None:
        given = x[part]
        columns = np.ones((len(given), 3), dtype)  # s, -m s, 1
        v = np.vecdot(given, given) / width
        m = middle[part]
        if centre:
            np.divide(np.vecdot(given, ones), width, out=m)
            v -= m * m
            if not (m * m <= _FAR * v).all():
                given, rest = given - m[:, None], m * 0
                shift = np.vecdot(given, ones) / width
                given -= shift[:, None]
                m += shift
                v = np.vecdot(given, given) / width
            else:
                rest = m
        s = np.divide(1.0, np.sqrt(v + eps), out=scale[part])
        columns[:, 0] = s
        made = np.matmul(columns[:, :2], weights, out=y[part])
        made *= given
        if centre:
            columns[:, 1] = -rest * s
            made += np.matmul(columns[:, 1:], both)

    in_parts(work, count, input.size // _WORTH, max(1, 3 * _BLOCK // (4 * width)))
    return result, middle.reshape(-1, 1), scale.reshape(-1, 1)


def _rows_backward(
    g: np.ndarray,
    needs: tuple[bool, ...],
    input: np.ndarray,
    rows: tuple[int, int],
    weight: Any,
    middle: Any,
    scale: np.ndarray,
) -> tuple[Any, Any, Any]:
    """Gradients of x, w and b; ``middle`` is None where nothing is subtracted."""
    count, width = rows
    dtype = input.dtype
    x, dy = input.reshape(rows), np.ascontiguousarray(g).reshape(rows)
    result = np.empty(input.shape, dtype)
    dx = result.reshape(rows)
    weights, ones = _beside_zeros(weight, width, dtype), _beside_zeros(None, width, dtype)
    totals: dict[int, np.ndarray] = {}

    def work(part: slice) -> None:
        given, cotangent = x[part], dy[part]
        columns = np.zeros((4, len(given)), dtype)  # s, 0, -m s, 1
        s = columns[0]
        s[:] = scale[part, 0]
        columns[3] = 1.0
        m: Any = 0.0
        if middle is not None:
            m = middle[part, 0]
            columns[2] = -m * s
            if (np.square(columns[2]) > _NEAR).any():
                given, m = given - m[:, None], 0.0
                columns[2] = 0.0
        product = cotangent * given
        if any(needs[1:]):
            found = columns[2:] @ cotangent
            found[0] += (columns[:2] @ product)[0]
            totals[part.start] = found
        if not needs[0]:
            return
        total = np.vecdot(cotangent, weights[0])
        q = (np.vecdot(product, weights[0]) - m * total) * (s * s * s / -width)
        made = np.matmul(columns[:2].T, weights, out=dx[part])
        made *= cotangent
        p = total * (s / -width) - m * q
        columns[0] = q
        np.matmul(columns[:2].T, ones, out=product)
        product *= given
        made += product
        if middle is not None:
            columns[0] = p
            made += np.matmul(columns[:2].T, ones, out=product)

    in_parts(work, count, input.size // _WORTH, max(1, 3 * _BLOCK // (4 * width)))
    by_weight, by_bias = _sums([totals[start] for start in sorted(totals)], 0) if totals else (None, None)
    return result if needs[0] else None, by_weight, by_bias


@kernel(_layer_norm, np.ndarray)
def layer_norm_numpy(
    input: np.ndarray, weight: np.ndarray | None = None, bias: np.ndarray | None = None, ndim: int = 1, eps: float = 1e-5
) -> tuple[Any, Any, Any]:
    """Statistics and result of a block of rows."""
    rows = as_rows(input.shape, ndim)
    if not _fits(input) or rows[1] < _SHORT:
        return _plain_layer_norm(input, weight, bias, ndim, eps)
    return _standardize_rows(input, rows, weight, bias, eps, True)


@kernel(_rms_norm, np.ndarray)
def rms_norm_numpy(input: np.ndarray, weight: np.ndarray | None = None, ndim: int = 1, eps: float = 1e-5) -> tuple[Any, Any]:
    """The same without a mean."""
    rows = as_rows(input.shape, ndim)
    if not _fits(input) or rows[1] < _SHORT:
        return _plain_rms_norm(input, weight, ndim, eps)
    y, _, scale = _standardize_rows(input, rows, weight, None, eps, False)
    return y, scale


@backward_kernel(_layer_norm, np.ndarray)
def layer_norm_backward_numpy(
    g: np.ndarray,
    needs: tuple[bool, ...],
    input: np.ndarray,
    weight: np.ndarray | None,
    ndim: int,
    middle: np.ndarray,
    scale: np.ndarray,
) -> tuple[Any, ...]:
    """Gradients of a block of rows, and its part of those of weight and bias."""
    rows = as_rows(input.shape, ndim)
    if not _fits(input) or rows[1] < _SHORT:
        return _layer_norm_backward(np, g, needs, input, weight, ndim, middle, scale)
    made, by_weight, by_bias = _rows_backward(g, needs, input, rows, weight, middle, scale)
    sizes = input.shape[-ndim:]
    return made, by_weight.reshape(sizes) if needs[1] else None, by_bias.reshape(sizes) if needs[2] else None


@backward_kernel(_rms_norm, np.ndarray)
def rms_norm_backward_numpy(
    g: np.ndarray, needs: tuple[bool, ...], input: np.ndarray, weight: np.ndarray | None, ndim: int, scale: np.ndarray
) -> tuple[Any, ...]:
    """The same without a mean."""
    rows = as_rows(input.shape, ndim)
    if not _fits(input) or rows[1] < _SHORT:
        return _rms_norm_backward(np, g, needs, input, weight, ndim, scale)
    made, by_weight, _ = _rows_backward(g, needs, input, rows, weight, None, scale)
    return made, by_weight.reshape(input.shape[-ndim:]) if needs[1] else None


# ---- over groups of channels: rows of places -----------------------------------------------------

_plain_group_norm = _plain(_group_norm)


class _Places:
    """(N, C, places) as a matrix with a row for each sample and channel, and statistics (N, G)."""

    def __init__(self, input: np.ndarray, groups: int) -> None:
        n, channels, self.places = by_channel(input.shape)
        self.shape, self.rows = input.shape, n * channels
        self.grouped = (n, groups, channels // groups)
        self.count = self.grouped[2] * self.places

    def in_blocks(self, work: Any) -> None:
        """``work`` of a few rows at a time."""
        in_parts(work, self.rows, self.rows * self.places, max(1, _BLOCK // self.places))

    def beside(self, numbers: np.ndarray) -> np.ndarray:
        """A number for each group or for each channel as what stands beside the rows."""
        column = np.broadcast_to(numbers, self.grouped).reshape(-1, 1)
        return column if self.places >= _SHORT else column.repeat(self.places, 1)

    def scaled(self, *terms: tuple[np.ndarray, np.ndarray], summand: np.ndarray) -> np.ndarray:
        """The sum of matrices times numbers, and of ``summand``, in the shape of the input."""
        factors = [(x, self.beside(factor)) for x, factor in terms]
        last, made = self.beside(summand), np.empty(self.shape, terms[0][0].dtype)
        rows = made.reshape(self.rows, self.places)

        def work(part: slice) -> None:
            y = rows[part]
            for index, (x, factor) in enumerate(factors):
                if index:
                    y += x[part] * factor[part]
                else:
                    np.multiply(x[part], factor[part], y)
            y += last[part]

        self.in_blocks(work)
        return made

    def sums(self, columns: Any) -> np.ndarray:
        """What ``columns`` makes of some rows, (2, rows), for all of them: (2, N, G, C/G)."""
        made = np.empty((2, self.rows), np.float64)

        def work(part: slice) -> None:
            made[:, part] = columns(part)

        self.in_blocks(work)
        return made.reshape(2, *self.grouped)


def _by_channel_of(parameter: Any, groups: int) -> Any:
    return 1.0 if parameter is None else parameter.reshape(1, groups, -1)


@kernel(_group_norm, np.ndarray)
def group_norm_numpy(
    input: np.ndarray, weight: np.ndarray | None = None, bias: np.ndarray | None = None, groups: int = 1, eps: float = 1e-5
) -> tuple[Any, Any, Any]:
    """Sums of each row, then the result of each row. The few sums are put together in float64."""
    if not _fits(input) or input.size < _SHORT * input.shape[0] * groups:
        return _plain_group_norm(input, weight, bias, groups, eps)
    shape, dtype = _Places(input, groups), input.dtype
    x = input.reshape(shape.rows, shape.places)

    def moments(part: slice) -> Any:
        return _sums(x[part], 1), np.einsum("ij,ij->i", x[part], x[part])

    m, v = _sums(shape.sums(moments), -1)[..., None] / shape.count
    v -= m * m
    rest: Any = m
    if not (m * m <= _FAR * v).all():
        x = x - shape.beside(m.astype(dtype))
        rest, v = _sums(shape.sums(moments), -1)[..., None] / shape.count
        v -= rest * rest
        m = m.astype(dtype) + rest
    s = 1.0 / np.sqrt(v + eps)
    a = s * _by_channel_of(weight, groups)
    c = (0.0 if bias is None else _by_channel_of(bias, groups)) - rest * a
    y = shape.scaled((x, a.astype(dtype)), summand=c.astype(dtype))
    return y, m.astype(dtype)[..., None], s.astype(dtype)[..., None]


@backward_kernel(_group_norm, np.ndarray)
def group_norm_backward_numpy(
    g: np.ndarray,
    needs: tuple[bool, ...],
    input: np.ndarray,
    weight: np.ndarray | None,
    groups: int,
    middle: np.ndarray,
    scale: np.ndarray,
) -> tuple[Any, ...]:
    """The same for the gradients."""
    if not _fits(input) or input.size < _SHORT * input.shape[0] * groups:
        return _group_norm_backward(np, g, needs, input, weight, groups, middle, scale)
    shape, dtype = _Places(input, groups), input.dtype
    x, dy = input.reshape(shape.rows, shape.places), np.ascontiguousarray(g).reshape(shape.rows, shape.places)
    m, s = middle[..., 0].astype(np.float64), scale[..., 0].astype(np.float64)
    if (np.square(m * s) > _NEAR).any():
        x, m = x - shape.beside(middle[..., 0]), m * 0
    total, along = shape.sums(lambda part: (_sums(dy[part], 1), np.einsum("ij,ij->i", dy[part], x[part])))
    along = s * (along - m * total)
    made: Any = None
    if needs[0]:
        a = s * _by_channel_of(weight, groups)
        q = -s * _sums(along * a, -1)[..., None] / shape.count
        p = -_sums(total * a, -1)[..., None] / shape.count - m * q
        made = shape.scaled((dy, a.astype(dtype)), (x, q.astype(dtype)), summand=p.astype(dtype))
    by_weight, by_bias = [_sums(each, 0).reshape(-1).astype(dtype) for each in (along, total)]
    return made, by_weight if needs[1] else None, by_bias if needs[2] else None


with_machine_code(_layer_norm, _rms_norm, _batch_norm, _group_norm)
