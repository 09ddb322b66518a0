"""Kernels that stand before the usual ones of a GPU, and hand a call to cuDNN: convolutions, batch normalization and attention, each with its
first-order gradients. Where cuDNN is off, or has no plan, or these texts offer it nothing, the usual kernel runs.

A function ``_by_...`` takes the engine and the arguments of an operator's forward or backward. It returns the results, or None, which leaves
the call to the usual kernel.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES
from ..core.operator import Operator
from ..ops.attention import _attention, attend_backward
from ..ops.conv import _add_bias, _conv_transpose, _conv_weight, _convolution
from ..ops.normalization import _batch_norm, by_channel
from .cudnn import ALIGNMENT, TYPES, Engine, batchnorm, batchnorm_backward, dgrad, fprop, sdpa, sdpa_backward, wgrad

# ---- convolution ---------------------------------------------------------------------------------

Sizes = tuple[int, ...]


def _padding_behind(n: int, k: int, size: int, stride: int, before: int, dilation: int) -> int | None:
    """Zeros behind an axis with which cuDNN gives ``size`` outputs. Our operators read as many as their outputs need; cuDNN gives all
    outputs that fit, and where those are more there is no such number. As many as before, if that is right."""
    needed = (size - 1) * stride + dilation * (k - 1) + 1 - n - before
    return next((a for a in (before, max(needed, 0)) if needed <= a < needed + stride), None)


def _conv(
    engine: Engine,
    node: Any,
    a: Any,
    b: Any,
    made: Sizes,
    places: Sequence[Sizes],
    stride: Sizes,
    before: Sizes,
    dilation: Sizes,
) -> Any:
    """The array of shape ``made`` that a node makes of two. places: sizes of input, kernel and output along the places."""
    if a.dtype.char not in TYPES or a.dtype != b.dtype or 0 in (*a.shape, *b.shape, *made):
        return None
    after = tuple(map(_padding_behind, *places, stride, before, dilation))
    if None in after:
        return None
    xp = ARRAY_MODULES[type(a)]
    y = xp.empty(made, a.dtype)
    arrays = [xp.ascontiguousarray(a), xp.ascontiguousarray(b), y]
    if y.ndim == 3:  # rows are images of height 1
        arrays = [x.reshape(*x.shape[:2], 1, x.shape[2]) for x in arrays]
        before, after, stride, dilation = (0, *before), (0, *after), (1, *stride), (1, *dilation)
    geometry = {"pre_padding": before, "post_padding": after, "stride": stride, "dilation": dilation}
    return y if engine.run(node, arrays[:2], arrays[2:], **geometry) else None


def _by_conv(
    node: Any,
    engine: Engine,
    input: Any,
    weight: Any,
    bias: Any,
    size: Sizes,
    stride: Sizes,
    before: Sizes,
    dilation: Sizes,
    groups: int,
) -> Any:
    """node: ``fprop``, or ``dgrad`` for the transposed convolution."""
    inner, kernel = input.shape[2:], weight.shape[2:]
    places, outputs = (
        ((inner, kernel, size), weight.shape[0]) if node is fprop else ((size, kernel, inner), groups * weight.shape[1])
    )
    y = _conv(engine, node, input, weight, (input.shape[0], outputs, *size), places, stride, before, dilation)
    return None if y is None else _add_bias(y, bias)


def _by_wgrad(
    engine: Engine, input: Any, other: Any, kernel: Sizes, stride: Sizes, before: Sizes, dilation: Sizes, groups: int
) -> Any:
    places = (input.shape[2:], kernel, other.shape[2:])
    made = (other.shape[1], input.shape[1] // groups, *kernel)
    return _conv(engine, wgrad, input, other, made, places, stride, before, dilation)


# ---- batch normalization -------------------------------------------------------------------------


def _by_batchnorm(engine: Engine, input: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    if input.dtype != np.float32 or not input.size:
        return None
    xp = ARRAY_MODULES[type(input)]
    view = (*by_channel(input.shape), 1)
    one = (1, view[1], 1, 1)
    y = xp.empty(input.shape, input.dtype)
    mean, scale, running_mean, running_var = [xp.empty(one, input.dtype) for _ in range(4)]
    zeros = xp.zeros(one, input.dtype)
    w = xp.ones(one, input.dtype) if weight is None else xp.ascontiguousarray(weight).reshape(one)
    b = zeros if bias is None else xp.ascontiguousarray(bias).reshape(one)
    inputs = [xp.ascontiguousarray(input).reshape(view), w, b, zeros, zeros]
    outputs = [y.reshape(view), mean, scale, running_mean, running_var]
    if not engine.run(batchnorm, inputs, outputs, eps=float(eps)):
        return None
    variance = xp.maximum(1.0 / (scale * scale) - eps, 0.0)
    column = (1, view[1], 1)
    return (y, mean.reshape(-1), variance.reshape(-1)), mean.reshape(column), scale.reshape(column)


def _by_batchnorm_backward(
    engine: Engine, g: Any, needs: tuple[bool, ...], input: Any, weight: Any, middle: Any, scale: Any, **unused: Any
) -> Any:
    if input.dtype != np.float32 or not input.size:
        return None
    g, by_mean, by_variance = g
    xp = ARRAY_MODULES[type(input)]
    channels = by_channel(input.shape)
    view, one = (*channels, 1), (1, channels[1], 1, 1)
    dx = xp.empty(channels, input.dtype)
    dw, db = xp.empty(one, input.dtype), xp.empty(one, input.dtype)
    w = xp.ones(one, input.dtype) if weight is None else xp.ascontiguousarray(weight).reshape(one)
    large = [xp.ascontiguousarray(x).reshape(view) for x in (g, input)]
    small = [xp.ascontiguousarray(x).reshape(one) for x in (w, middle, scale)]
    if not engine.run(batchnorm_backward, [*large, *small], [dx.reshape(view), dw, db]):
        return None
    if needs[0]:  # cuDNN knows of no gradient that comes by way of the mean or the variance
        centred = input.reshape(channels) - middle
        column, count = (1, -1, 1), channels[0] * channels[2]
        dx += (by_mean.reshape(column) + by_variance.reshape(column) * 2 * centred) / count
    made = (dx.reshape(input.shape), dw.reshape(-1), db.reshape(-1))
    return tuple([gradient if needed else None for gradient, needed in zip(made, needs)])


# ---- attention -----------------------------------------------------------------------------------


def _in_rows(x: Any) -> bool:
    """Whether the last axis lies in one piece, its rows where they can be loaded at once, and no axis goes backwards or stands still."""
    *steps, last = x.strides
    return bool(last == x.itemsize and all([step > 0 and step % ALIGNMENT == 0 for step in steps]))


def _heads(x: Any) -> Any:
    """(B, H, T, E) of up to four axes; a copy where they are not in rows."""
    x = x if _in_rows(x) else ARRAY_MODULES[type(x)].ascontiguousarray(x)
    return x[(None,) * (4 - x.ndim)]


def _like(x: Any, width: int) -> Any:
    """An array (..., width) to be written, in rows, with its axes in memory in the order of those of ``x`` where that is possible."""
    xp, shape = ARRAY_MODULES[type(x)], (*x.shape[:-1], width)
    made = xp.empty_like(x, shape=shape)
    return made if _in_rows(made) else xp.empty(shape, x.dtype)


def _attention_inputs(query: Any, key: Any, value: Any, bias: Any) -> list[Any] | None:
    """What cuDNN takes of the inputs; None if it is not offered them."""
    if query.dtype != np.float16 or query.ndim > 4 or not query.size * key.size * value.size:
        return None
    if not query.shape[:-2] == key.shape[:-2] == value.shape[:-2]:
        return None
    made = [_heads(x) for x in (query, key, value)]
    if bias is None:
        return made
    if not bias.size or bias.ndim > 4:
        return None
    xp = ARRAY_MODULES[type(bias)]
    lowest = float(np.finfo(bias.dtype).min)  # a row of -inf would become NaN
    return [*made, xp.ascontiguousarray(xp.maximum(bias, lowest))[(None,) * (4 - bias.ndim)]]


def _by_sdpa(engine: Engine, query: Any, key: Any, value: Any, bias: Any = None, scale: float = 1.0) -> Any:
    inputs = _attention_inputs(query, key, value, bias)
    if inputs is None:
        return None
    xp = ARRAY_MODULES[type(query)]
    y = _like(query, value.shape[-1])  # heads that were split without a copy are merged without one
    logsum = xp.empty((*query.shape[:-1], 1), np.float32)
    if not engine.run(sdpa, inputs, [_heads(y), _heads(logsum)], scale=float(scale)):
        return None
    if bias is not None:
        sees = xp.max(bias, -1, None, True) != -math.inf
        y *= sees  # in place: the order of the axes in memory stays
        logsum *= sees
    return y, logsum, functools.partial(attend_backward, xp)


def _by_sdpa_backward(
    engine: Engine,
    g: Any,
    needs: tuple[bool, ...],
    query: Any,
    key: Any,
    value: Any,
    bias: Any,
    y: Any,
    logsum: Any,
    scale: float,
    **unused: Any,
) -> Any:
    inputs = None if needs[3] else _attention_inputs(query, key, value, bias)
    if inputs is None or logsum.dtype != np.float32:
        return None
    made = [_like(x, x.shape[-1]) for x in (query, key, value)]
    given = [*inputs[:3], _heads(y), _heads(g), _heads(logsum), *inputs[3:]]
    if not engine.run(sdpa_backward, given, [_heads(x) for x in made], scale=float(scale)):
        return None
    return (*made, None)


# ---- registration --------------------------------------------------------------------------------

FORWARD: list[tuple[Any, Callable[..., Any]]] = [
    (_convolution, functools.partial(_by_conv, fprop)),
    (_conv_transpose, functools.partial(_by_conv, dgrad)),
    (_conv_weight, _by_wgrad),
    (_batch_norm, _by_batchnorm),
    (_attention, _by_sdpa),
]
BACKWARD: list[tuple[Any, Callable[..., Any]]] = [
    (_batch_norm, _by_batchnorm_backward),
    (_attention, _by_sdpa_backward),
]


def stand_before(engine: Engine, array_type: type, enabled: Callable[[], bool]) -> None:
    """Put these kernels before those of arrays of that type; they offer calls to the engine while ``enabled()``."""
    for function, offer in FORWARD:
        _before_forward(function.operator, functools.partial(offer, engine), array_type, enabled)
    for function, offer in BACKWARD:
        _before_backward(function.operator, functools.partial(offer, engine), array_type, enabled)


def _before_forward(operator: Operator, offer: Callable[..., Any], array_type: type, enabled: Callable[[], bool]) -> None:
    usual = operator.kernels[array_type]

    def kernel(*args: Any, **kwargs: Any) -> Any:
        made = offer(*args, **kwargs) if enabled() else None
        return usual(*args, **kwargs) if made is None else made

    operator.kernels[array_type] = kernel


def _before_backward(operator: Operator, offer: Callable[..., Any], array_type: type, enabled: Callable[[], bool]) -> None:
    def made(usual: Callable[..., Any]) -> Callable[..., Any]:
        def backward(saved: tuple[Any, ...], parents: Sequence[Any], g: Any) -> Any:
            found = None
            if enabled():
                needs = tuple([parent is not None for parent in parents])
                found = offer(g, needs, **dict(zip(operator.saves, saved)))
            return usual(saved, parents, g) if found is None else found

        return backward

    operator.backward_kernels[array_type] = made
    operator.__dict__.pop("backward", None)  # it may have been chosen already
