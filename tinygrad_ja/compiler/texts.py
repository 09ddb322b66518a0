"""What ``lower`` has to say about single operators: texts for symbols in place of their own, and those that stay as they are.

An operator's own text is written for NumPy, where a pass over a block of memory is cheap and a call dear; it collects gates in blocks, writes
into parts of arrays, and picks elements by flat positions. The texts here say the same with fewer instructions, each of them element-wise
as far as possible, so that an executor can run them in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..ops.attention import _scores, widened
from ..ops.loss import _as_rows, _from_rows
from . import texts_recurrent
from .symbolic import Symbol, Unsupported
from .symbolic_index import take
from .symbolic_numpy import reduced
from .symbolic_operands import as_symbol, broadcast_arrays, cast
from .texts_recurrent import is_zero

OPAQUE = frozenset(
    """
    convolution conv_transpose conv_weight fold unfold window_max from_taps at_taps window_position resample sample sample_spread
    sample_weights as_strided add_strided inv solve solve_triangular minors cofactor det slogdet from_triangle cholesky eigh eigvalsh qr
    complement svd svdvals pinv argsort sort topk search kth_position median_position mode_position middle pull cdist
    ctc linear_recurrence running_position logcumsumexp argwhere isin first_largest scatter_extreme rnn_layer lstm_layer gru_layer
    to_device reduce_precision
    """.split()
)
"""Operators that are called as they are."""

EXPAND = frozenset(("rnn_layer", "lstm_layer", "gru_layer"))
"""Operators that should be recorded as their references: the loop over time steps, which can be batched and fused."""


# ---- cross entropy -------------------------------------------------------------------------------


def _cross_entropy(
    xp: Any,
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """The element of each target is picked from the logits; the shifted ones stay in one pass with their exponentials."""
    wide = np.promote_types(input.dtype, np.float32)
    x = cast(_as_rows(xp, input), wide)
    rows, classes = x.shape
    index, counts, scale = _class_scales(xp, target, weight, ignore_index, wide)
    top = xp.max(x, 1, None, True)
    shifted = x - top
    numerators = xp.exp(shifted)
    totals = xp.sum(numerators, 1, None, None, True)
    log_totals = xp.log(totals)
    loss = (log_totals - (xp.take_along_axis(x, index, 1) - top)) * scale
    if label_smoothing:
        spread = log_totals - shifted
        spread = xp.sum(spread if weight is None else spread * weight, 1, None, None, True)
        loss = loss * (1 - label_smoothing) + spread * counts * (label_smoothing / classes)
    if reduction == "none":
        loss = loss.reshape(target.shape)
    else:
        loss = xp.sum(loss)
        if reduction == "mean":
            loss = loss / xp.sum(scale)
    position = index[:, 0] + np.arange(rows) * classes
    return cast(loss, input.dtype), numerators, totals, scale[:, 0], counts[:, 0], position


def _class_scales(xp: Any, target: Any, weight: Any, ignore_index: int, dtype: Any) -> tuple[Any, Any, Any]:
    """Class indices with the ignored ones as 0, whether each counts (1 or 0), and its weight, each a column."""
    column = target.reshape(-1, 1)
    counted = column != ignore_index
    counts: Any = cast(counted, dtype)
    index = xp.where(counted, column, 0)
    return index, counts, counts if weight is None else counts * take(as_symbol(weight), index, 0)


def _cross_entropy_backward(
    xp: Any,
    g: Any,
    input: Any,
    target: Any,
    weight: Any,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    numerators: Any,
    totals: Any,
) -> tuple[Any]:
    """As the operator's own, but the class of each row is found by comparing, in the same pass."""
    classes = numerators.shape[1]
    index, counts, scale = _class_scales(xp, target, weight, ignore_index, numerators.dtype)
    g = g.reshape(-1, 1) if g.ndim else g
    if reduction == "mean":
        count = xp.sum(scale)
        g = g / (count + (count == 0))
    strength = g * scale
    onehot = cast(index, np.int32) == np.arange(classes, dtype=np.int32)
    if label_smoothing:
        strength = strength * (1 - label_smoothing)
        smooth = g * (label_smoothing / classes) * counts
        made = numerators * ((strength + smooth * (classes if weight is None else xp.sum(weight))) / totals)
        made = made - (smooth if weight is None else smooth * weight)
    else:
        made = numerators * (strength / totals)
    made = made - xp.where(onehot, strength, 0.0)
    return (_from_rows(xp, cast(made, input.dtype), input.shape),)


# ---- attention -----------------------------------------------------------------------------------


def _attention(xp: Any, query: Any, key: Any, value: Any, bias: Any = None, scale: float = 1.0) -> Any:
    """The exponentials and their sums are kept, so that the backward needs no product for them."""
    q, k, v, b = widened(np, query, key, value, bias)
    scores = _scores(xp, q, k, b, scale)
    if not scores.shape[-1]:
        raise Unsupported("attention without keys")
    top = xp.max(scores, -1, None, True)
    if b is not None:
        top = xp.where(top == -math.inf, 0.0, top)
    weights = xp.exp(scores - top)
    sums = xp.sum(weights, -1, None, None, True)
    if b is not None:
        sums = sums + cast(sums == 0, sums.dtype)
    y = xp.matmul(weights, v) / sums
    logsum = top + xp.log(sums)
    logsum.kept = {"weights": weights, "sums": sums}
    return cast(y, query.dtype), logsum, None


def _attention_backward(
    xp: Any,
    g: Any,
    y: Any,
    needs: tuple[bool, ...],
    query: Any,
    key: Any,
    value: Any,
    bias: Any,
    scale: float,
    logsum: Any,
) -> tuple[Any, ...]:
    """With the exponentials E and their row sums s: g' = g / s, dV = Eᵀ g', dS = E (g' Vᵀ - sum(g' y)), dQ = scale dS K, dK = scale dSᵀ Q."""
    dtype, kept = query.dtype, logsum.kept
    g, y, query, key, value, bias = widened(np, g, y, query, key, value, bias)
    if kept:
        weights, g = kept["weights"], g / kept["sums"]
    else:
        weights = xp.exp(_scores(xp, query, key, bias, scale) - logsum)
    d_value = xp.matmul(xp.swapaxes(weights, -1, -2), g) if needs[2] else None
    d_scores = xp.matmul(g, xp.swapaxes(value, -1, -2)) - xp.sum(g * y, -1, None, None, True)
    d_scores = d_scores * weights
    made = (
        xp.matmul(d_scores, key) * scale if needs[0] else None,
        xp.matmul(xp.swapaxes(d_scores, -1, -2), query * scale) if needs[1] else None,
        d_value,
        d_scores if needs[3] else None,
    )
    return tuple([None if d is None else cast(d, dtype) for d in made])


# ---- indexing ------------------------------------------------------------------------------------


def _gather(xp: Any, input: Any, dim: int, index: Any) -> Any:
    index = as_symbol(index)
    part = input[tuple([slice(None) if i == dim else slice(0, n) for i, n in enumerate(index.shape)])]
    return xp.take_along_axis(part, index, dim)


def _scatter_zeros(xp: Any, input: Any, size: tuple[int, ...], dim: int, index: Any) -> Any:
    from .symbolic import emitter

    index = as_symbol(index)
    if input.shape != index.shape:
        raise Unsupported("values that are broadcast to their indices")
    inputs = [input.full, index.full]
    made = emitter().emit("add_at", "take_along_axis", inputs, size, input.dtype, axis=dim % len(size))
    return Symbol(size, input.dtype, made)


def _add_slices(xp: Any, input: Any, size: tuple[int, ...], dim: int, index: Any, padding: int | None = None) -> Any:
    """What belongs to the padding is dropped before it is added, not after."""
    index = as_symbol(index)
    if padding is not None:
        kept = (index != padding if padding >= 0 else index != padding + size[dim]).reshape(
            *index.shape, *[1] * (len(size) - dim - 1)
        )
        input = xp.where(kept, input, 0.0)
    made = xp.zeros(size, input.dtype)
    xp.add.at(made, ((slice(None),) * dim + (index,)), input)
    return made


# ---- others --------------------------------------------------------------------------------------


def _batch_norm_backward(
    xp: Any, g: Any, needs: tuple[bool, ...], input: Any, weight: Any, middle: Any, scale: Any
) -> tuple[Any, ...]:
    """Without the parts of mean and variance where nobody used those."""
    from ..ops.normalization import _NOT_CHANNELS, _by_input, by_channel
    from ..ops.normalization import _batch_norm_backward as whole

    if not (is_zero(g[1]) and is_zero(g[2])):
        return whole(xp, g, needs, input, weight, middle, scale)
    view = by_channel(input.shape)
    dy = g[0].reshape(view)
    normal = (input.reshape(view) - middle) * scale
    factor = dy if weight is None else dy * weight.reshape(1, -1, 1)
    made = _by_input(xp, factor, normal, scale, _NOT_CHANNELS, view[0] * view[2]).reshape(input.shape) if needs[0] else None
    return (
        made,
        reduced("sum", dy * normal, _NOT_CHANNELS) if needs[1] else None,
        reduced("sum", dy, _NOT_CHANNELS) if needs[2] else None,
    )


def _place(xp: Any, input: Any, index: Any, dim: int, size: int) -> Any:
    """The positions differ, so adding is the same as putting."""
    shape = list(input.shape)
    shape[dim] = size
    return _scatter_zeros(xp, input, tuple(shape), dim, index)


def _diagonal(xp: Any, input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """Every (m + 1)-th element of the rows one behind the other."""
    ndim = input.ndim
    others = [i for i in range(ndim) if i not in (dim1 % ndim, dim2 % ndim)]
    turned = input.transpose([*others, dim1 % ndim, dim2 % ndim])
    n, m = turned.shape[-2:]
    length = max(0, min(n, m - offset) if offset >= 0 else min(n + offset, m))
    start = offset if offset >= 0 else -offset * m
    flat = turned.reshape(*turned.shape[:-2], n * m)
    return flat[..., start : start + length * (m + 1) : m + 1]


def _cross(xp: Any, input: Any, other: Any, dim: int = -1) -> Any:
    a, b = [xp.moveaxis(x, dim, 0) for x in broadcast_arrays([as_symbol(input), as_symbol(other)])]
    parts = [a[i] * b[j] - a[j] * b[i] for i, j in ((1, 2), (2, 0), (0, 1))]
    return xp.moveaxis(xp.stack(parts, 0), 0, dim)


def _isclose(xp: Any, input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    made = (xp.absolute(input - other) <= xp.absolute(other) * rtol + atol) & xp.isfinite(other) | (input == other)
    return made | (xp.isnan(input) & xp.isnan(other)) if equal_nan else made


TEXTS: dict[str, Callable[..., Any]] = {
    "add_slices": _add_slices,
    "attention": _attention,
    "cross": _cross,
    "cross_entropy": _cross_entropy,
    "diagonal": _diagonal,
    "gather": _gather,
    "gru_cell": texts_recurrent.gru_cell,
    "gru_step": texts_recurrent.gru_step,
    "isclose": _isclose,
    "lstm_cell": texts_recurrent.lstm_cell,
    "lstm_step": texts_recurrent.lstm_step,
    "place": _place,
    "rnn_cell": texts_recurrent.rnn_cell,
    "scatter_zeros": _scatter_zeros,
}
"""Operator -> its text for symbols, with the parameters of its own."""

BACKWARDS: dict[str, Callable[..., Any]] = {
    "attention": _attention_backward,
    "batch_norm": _batch_norm_backward,
    "cross_entropy": _cross_entropy_backward,
    "gru_cell": texts_recurrent.gru_cell_backward,
    "gru_step": texts_recurrent.gru_step_backward,
    "lstm_cell": texts_recurrent.lstm_cell_backward,
    "lstm_step": texts_recurrent.lstm_step_backward,
    "rnn_cell": texts_recurrent.rnn_cell_backward,
    "rnn_step": texts_recurrent.rnn_step_backward,
}
"""The same for backwards; the names of their parameters say what they need, as with the operators' own."""
