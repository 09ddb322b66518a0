"""Imported normalizations, and Dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...nn import functional as F
from ...ops.arithmetic import add, mul
from ...ops.comparison import where
from ...ops.creation import full_like, ones_like, zeros_like
from ...ops.reduce import mean, sum, var_mean
from .import_elementwise import asked_dtype, binary
from .import_table import Call, imports, number


@imports("BatchNormalization", control=(3, 4))
def _batch_normalization(call: Call, x: Any, scale: Any, bias: Any, running_mean: Any, running_var: Any) -> Any:
    """By the running statistics, or by those of the batch: where the node asks for that, and in ``train()`` mode."""
    eps, momentum = call.get("epsilon", 1e-5), call.get("momentum", 0.9)
    by_node = call.get("training_mode", 0) if call.opset >= 14 else call.outputs > 1
    if not by_node and not call.training:
        return F.batch_norm(x, running_mean, running_var, scale, bias, False, 0.0, eps).to(x.dtype)
    axes = (0, *range(2, x.ndim))
    var, average = var_mean(x.detach().to(running_var.dtype), axes, correction=0)
    new_mean = running_mean * momentum + average * (1 - momentum)
    new_var = running_var * momentum + var * (1 - momentum)
    if call.training:
        call.remember(3, new_mean)
        call.remember(4, new_var)
    made = F.batch_norm(x, None, None, scale, bias, True, 0.0, eps).to(x.dtype)
    return (made, new_mean, new_var, average, var)[: call.outputs]


@imports("InstanceNormalization")
def _instance_normalization(call: Call, x: Any, scale: Any, bias: Any) -> Any:
    return F.instance_norm(x, weight=scale, bias=bias, eps=call.get("epsilon", 1e-5))


@imports("GroupNormalization")
def _group_normalization(call: Call, x: Any, scale: Any, bias: Any) -> Any:
    groups = call.get("num_groups")
    if call.opset < 21:  # a number for each group, later for each channel
        call.allow((scale.numel(), x.shape[1] // groups))
        scale, bias = [part.repeat_interleave(x.shape[1] // groups) for part in (scale, bias)]
    work = x.to(_stash_dtype(call, x))
    made = F.group_norm(work, groups, None, None, call.get("epsilon", 1e-5)).to(x.dtype)
    shape = (-1, *(1,) * (x.ndim - 2))
    return made * scale.reshape(shape) + bias.reshape(shape)


def _stash_dtype(call: Call, x: Any) -> np.dtype:
    """The dtype in which statistics are computed."""
    wanted = asked_dtype(call.get("stash_type", 1))
    return x.dtype if x.dtype == np.float64 else wanted


@imports("LayerNormalization")
def _layer_normalization(call: Call, x: Any, scale: Any, bias: Any = None) -> Any:
    axis = call.get("axis", -1) % x.ndim
    axes = tuple(range(axis, x.ndim))
    work = x.to(_stash_dtype(call, x))
    eps = call.get("epsilon", 1e-5)
    made = binary(call, mul, F.layer_norm(work, x.shape[axis:], None, None, eps).to(x.dtype), scale)
    made = made if bias is None else binary(call, add, made, bias)
    if call.outputs == 1:
        return made
    var, average = var_mean(work, axes, keepdim=True, correction=0)
    return made, average, (var + eps).rsqrt()


@imports("RMSNormalization")
def _rms_normalization(call: Call, x: Any, scale: Any) -> Any:
    axis = call.get("axis", -1) % x.ndim
    work = x.to(_stash_dtype(call, x))
    return binary(call, mul, F.rms_norm(work, x.shape[axis:], None, call.get("epsilon", 1e-5)).to(x.dtype), scale)


@imports("MeanVarianceNormalization")
def _mean_variance_normalization(call: Call, x: Any) -> Any:
    axes = tuple(call.get("axes", (0, 2, 3)))
    centred = x - mean(x, axes, True)
    return centred / (mean(centred * centred, axes, True).sqrt() + 1e-9)


@imports("LpNormalization")
def _lp_normalization(call: Call, x: Any) -> Any:
    axis = call.get("axis", -1)
    norm = sum(x.abs(), axis, True) if call.get("p", 2) == 1 else sum(x * x, axis, True).sqrt()
    return where(norm == 0, zeros_like(x), x / where(norm == 0, ones_like(norm), norm))


@imports("LRN")
def _lrn(call: Call, x: Any) -> Any:
    size = call.get("size")
    alpha, beta, bias = call.get("alpha", 1e-4), call.get("beta", 0.75), call.get("bias", 1.0)
    call.allow((x.numel() // max(x.shape[1], 1), x.shape[1] + size))
    squares = F.pad((x * x).movedim(1, -1), ((size - 1) // 2, size // 2))
    channels = x.shape[1]
    total = squares[..., :channels]
    for i in range(1, min(size, squares.shape[-1])):
        total = total + squares[..., i : i + channels]
    return x / (total.movedim(-1, 1) * (alpha / size) + bias) ** beta


@imports("Dropout", control=(1, 2))
def _dropout(call: Call, x: Any, ratio: Any = None, training_mode: Any = None) -> Any:
    """Drops where the node asks for it, and in ``train()`` mode."""
    p = number(ratio, call.get("ratio", 0.5))
    kept = full_like(x, 1)
    if call.training or number(training_mode, False):
        kept = F.dropout(kept, p, True)
    made = x if p == 0 else x * kept
    return made, (kept != 0 if call.opset >= 10 else kept)
