"""Normalization: elements brought to mean 0 and variance 1 over a batch, a group or an instance, then scaled and shifted (over a layer: see
``layer_norm.py``).

With the mean m and the variance v of n elements, s = 1/√(v + eps) and z = (x - m) s, the output is y = z w + b, and for a cotangent g of z
dx = s (g - mean(g) - z mean(g z)). float16 is computed in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES
from ..core.operator import Array, fused
from ..core.promotion import autocasts
from ..core.tensor import Tensor
from ..errors import error, joined
from .arithmetic import rsqrt
from .conversion import _cast
from .reduce import floating, mean
from .shape import _reshape

__all__ = ["batch_norm", "group_norm", "instance_norm"]

_IN_SINGLE = {"float16": "its statistics lack range and digits; the public functions cast to float32"}


# ---- the common text -----------------------------------------------------------------------------


def _standardized(xp: Any, x: Any, axes: tuple[int, ...], count: int, eps: float) -> tuple[Any, Any, Any, Any]:
    """x - m, m, v and s over ``axes``, which stay as axes of size 1. Without elements m and v are NaN."""
    n = count or math.nan
    middle = xp.sum(x, axes, None, None, True) / n
    centred = x - middle
    spread = xp.sum(centred * centred, axes, None, None, True) / n
    return centred, middle, spread, 1.0 / xp.sqrt(spread + eps)


def _affine(xp: Any, y: Any, weight: Any, bias: Any, shape: tuple[int, ...]) -> Any:
    """y w + b, with weight and bias in a shape that broadcasts; y is changed."""
    if weight is not None:
        y *= weight.reshape(shape)
    if bias is not None:
        y += bias.reshape(shape)
    return y


def _by_input(xp: Any, g: Any, normal: Any, scale: Any, axes: tuple[int, ...], count: int) -> Any:
    """s (g - mean(g) - z mean(g z))."""
    n = max(count, 1)
    along = xp.sum(g * normal, axes, None, None, True) / n
    return scale * (g - xp.sum(g, axes, None, None, True) / n - normal * along)


def _standardized_reference(x: Any, axes: tuple[int, ...], eps: float) -> tuple[Any, Any, Any]:
    """z, m and v in plain operators."""
    middle = mean(x, axes, True)
    centred = x - middle
    spread = mean(centred * centred, axes, True)
    return centred * rsqrt(spread + eps), middle, spread


def _affine_reference(y: Any, weight: Any, bias: Any, shape: tuple[int, ...]) -> Any:
    if weight is not None:
        y = y * _reshape(weight, shape)
    return y if bias is None else y + _reshape(bias, shape)


def _parameters(pick: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Both, one or none of weight and bias."""
    return tuple([pick.array(shape, *limits) if pick.boolean() else None for limits in ((0.5, 2.0), (-1.0, 1.0))])  # type: ignore[return-value]


# ---- over the batch ------------------------------------------------------------------------------


_NOT_CHANNELS = (0, 2)
"""Axes of (N, C, places) over which a channel's statistics go."""


def by_channel(shape: Sequence[int]) -> tuple[int, int, int]:
    """(N, C, d1, ...) as (N, C, d1 ...)."""
    return shape[0], shape[1], math.prod(shape[2:])


def _batch_norm_backward(
    xp: Any, g: Any, needs: tuple[bool, ...], input: Any, weight: Any, middle: Any, scale: Any
) -> tuple[Any, ...]:
    view = by_channel(input.shape)
    count = view[0] * view[2]
    g, by_mean, by_variance = g[0].reshape(view), g[1].reshape(1, -1, 1), g[2].reshape(1, -1, 1)
    centred = input.reshape(view) - middle
    normal = centred * scale
    made = None
    if needs[0]:
        factor = g if weight is None else g * weight.reshape(1, -1, 1)
        made = _by_input(xp, factor, normal, scale, _NOT_CHANNELS, count)
        made += (by_mean + by_variance * 2 * centred) / max(count, 1)
        made = made.reshape(input.shape)
    return made, xp.sum(g * normal, _NOT_CHANNELS) if needs[1] else None, xp.sum(g, _NOT_CHANNELS) if needs[2] else None


def _batch_norm_reference(input: Any, weight: Any, bias: Any, eps: float) -> tuple[Any, Any, Any]:
    view = by_channel(input.shape)
    normal, middle, spread = _standardized_reference(_reshape(input, view), _NOT_CHANNELS, eps)
    y = _affine_reference(normal, weight, bias, (1, -1, 1))
    return _reshape(y, tuple(input.shape)), _reshape(middle, (view[1],)), _reshape(spread, (view[1],))


def _batch_norm_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    shape = pick.shape(min_dims=2, max_dims=4)
    return (pick.distinct(shape) * 3, *_parameters(pick, shape[1:2]), pick.choice((1e-5, 1e-3, 0.5))), {}


@fused(
    _batch_norm_backward,
    _batch_norm_reference,
    aux=("middle", "scale"),
    outputs=3,
    cases=_batch_norm_case,
    unsupported=_IN_SINGLE,
)
def _batch_norm(
    xp: Any, input: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> tuple[tuple[Any, Any, Any], Any, Any]:
    """z w + b, m and v (C) of (N, C, ...), over all axes but the channels'."""
    view = by_channel(input.shape)
    y, middle, spread, scale = _standardized(xp, input.reshape(view), _NOT_CHANNELS, view[0] * view[2], eps)
    y *= scale
    y = _affine(xp, y, weight, bias, (1, -1, 1)).reshape(input.shape)
    return (y, middle.reshape(-1), spread.reshape(-1)), middle, scale


def _scale_shift_backward(xp: Any, g: Any, needs: tuple[bool, ...], input: Any, scale: Any, shift: Any) -> tuple[Any, ...]:
    view = by_channel(input.shape)
    g = g.reshape(view)
    return (
        (g * scale.reshape(1, -1, 1)).reshape(input.shape) if needs[0] else None,
        xp.sum(g * input.reshape(view), _NOT_CHANNELS) if needs[1] else None,
        xp.sum(g, _NOT_CHANNELS) if needs[2] else None,
    )


def _scale_shift_reference(input: Any, scale: Any, shift: Any) -> Any:
    y = _affine_reference(_reshape(input, by_channel(input.shape)), scale, shift, (1, -1, 1))
    return _reshape(y, tuple(input.shape))


def _scale_shift_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    shape = pick.shape(min_dims=2, max_dims=4)
    return (pick.array(shape), pick.array(shape[1:2]), pick.array(shape[1:2])), {}


@fused(_scale_shift_backward, _scale_shift_reference, cases=_scale_shift_case)
def _scale_shift(xp: Any, input: Array, scale: Array, shift: Array) -> Any:
    """A factor and a summand for each channel of (N, C, ...)."""
    made = input.reshape(by_channel(input.shape)) * scale.reshape(1, -1, 1)
    made += shift.reshape(1, -1, 1)
    return made.reshape(input.shape)


def _raw(value: Any) -> Any:
    return value.array if type(value) is Tensor else value


def _in_single(run: Callable[..., Any], input: Any, *parameters: Any) -> Any:
    """``run(input, *parameters)``, in float32 for float16."""
    if input.dtype != np.float16:
        return run(input, *parameters)
    wide = [x if x is None or x.dtype != np.float16 else _cast(x, np.dtype(np.float32)) for x in (input, *parameters)]
    return _cast(run(*wide), np.dtype(np.float16))


def _check_channels(op: str, input: Any, **parameters: Any) -> None:
    """Refuse an input without channels, and parameters that are not one number for each."""
    if input.ndim < 2:
        raise error(
            "TG-S002",
            op=op,
            rule="input (N, C, ...)",
            shapes=tuple(input.shape),
            fix=("add the missing axis with unsqueeze.", "足りない軸を unsqueeze で加えてください。"),
        )
    for name, value in parameters.items():
        if value is not None and tuple(value.shape) != (input.shape[1],):
            raise error(
                "TG-S002",
                op=op,
                rule=f"input (N, C, ...), {name} (C)",
                shapes=joined((tuple(input.shape), tuple(value.shape))),
                fix=(f"give {name} the shape ({input.shape[1]},).", f"{name} の形状を ({input.shape[1]},) にしてください。"),
            )


def _check_running(op: str, running_mean: Any, running_var: Any, needed: bool) -> None:
    if (running_mean is None) is not (running_var is None) or (needed and running_mean is None):
        raise error(
            "TG-A001",
            op=op,
            argument="running_mean, running_var",
            value=joined(["None" if x is None else tuple(x.shape) for x in (running_mean, running_var)]),
            rule=("both or neither, and both in evaluation", "両方渡すか両方 None にする。評価時は両方必要"),
            fix=("pass both, or training=True.", "両方渡すか、training=True にしてください。"),
        )


def _check_several(op: str, input: Any, count: int, what: tuple[str, str]) -> None:
    """Refuse statistics of a single value."""
    if count == 1:
        raise error(
            "TG-S002",
            op=op,
            rule=what,
            shapes=tuple(input.shape),
            fix=(
                "give a larger batch, or evaluate with running statistics.",
                "バッチを大きくするか、移動平均で評価してください。",
            ),
        )


_MORE_PER_CHANNEL = ("more than one value per channel in training", "学習時は 1 チャネルあたり 2 個以上の値")


def _follow(running: Any, value: Any, momentum: float) -> None:
    """Give a running statistic its next value, (1 - momentum) old + momentum new."""
    old = _raw(running)
    made = old * (1.0 - momentum) + value.astype(old.dtype) * momentum
    if type(running) is Tensor:
        running._assign(Tensor(made))
    else:
        running[...] = made


def _evaluated(input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, eps: float) -> Any:
    """Normalization by statistics that are given."""
    middle, spread = _raw(running_mean), _raw(running_var)

    def run(input: Any, weight: Any, bias: Any) -> Any:
        xp = ARRAY_MODULES[type(spread)]
        scale = 1.0 / xp.sqrt(spread.astype(input.dtype) + eps)
        if weight is not None:
            scale = weight * scale
        shift = scale * -middle.astype(input.dtype)
        return _scale_shift(input, scale, shift if bias is None else shift + bias)

    return _in_single(run, input, weight, bias)


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Normalization of each channel of (N, C, ...) over the batch and the places, as ``torch.nn.functional.batch_norm``.

    running_mean, running_var: (C). In training they get ``(1 - momentum) old + momentum new``, with the variance of a sample (n - 1), unless
    they are None; in evaluation they take the place of the batch's statistics. weight, bias: (C).
    Raises ShapeError for a single value per channel in training, and for other shapes.
    Source: Ioffe and Szegedy 2015, "Batch normalization". dx = w s (g - mean(g) - z mean(g z)) in training, w s g in evaluation.

    >>> import tinygrad_ja as tg
    >>> x = tg.tensor([[1.0], [3.0]])
    >>> tg.nn.functional.batch_norm(x, None, None, training=True, eps=1e-9)
    tensor([[-1.],
            [ 1.]])
    """
    _check_channels("batch_norm", input, weight=weight, bias=bias, running_mean=running_mean, running_var=running_var)
    _check_running("batch_norm", running_mean, running_var, not training)
    if eps < 0 or (training and not eps):
        raise error(
            "TG-A001",
            op="batch_norm",
            argument="eps",
            value=eps,
            rule=("eps > 0 in training, else eps >= 0", "学習時は eps > 0、評価時は eps >= 0"),
            fix=("eps=1e-5.", "eps=1e-5 などとしてください。"),
        )
    input = floating(input)
    if not training:
        return _evaluated(input, weight, bias, running_mean, running_var, eps)
    n, _, places = by_channel(input.shape)
    _check_several("batch_norm", input, n * places, _MORE_PER_CHANNEL)

    def run(input: Any, weight: Any, bias: Any) -> Any:
        y, middle, spread = _batch_norm(input, weight, bias, eps)
        if running_mean is not None and n * places:
            _follow(running_mean, _raw(middle), momentum)
            _follow(running_var, _raw(spread) * (n * places / (n * places - 1)), momentum)
        return y

    return _in_single(run, input, weight, bias)


# ---- over groups of channels ---------------------------------------------------------------------


def _by_group(shape: Sequence[int], groups: int) -> tuple[int, int, int, int]:
    """(N, C, d1, ...) as (N, G, C/G, d1 ...)."""
    return shape[0], groups, shape[1] // groups, math.prod(shape[2:])


def _group_norm_backward(
    xp: Any, g: Any, needs: tuple[bool, ...], input: Any, weight: Any, groups: int, middle: Any, scale: Any
) -> tuple[Any, ...]:
    view = _by_group(input.shape, groups)
    g = g.reshape(view)
    normal = (input.reshape(view) - middle) * scale
    made = None
    if needs[0]:
        factor = g if weight is None else g * weight.reshape(1, groups, -1, 1)
        made = _by_input(xp, factor, normal, scale, (2, 3), view[2] * view[3]).reshape(input.shape)
    return (
        made,
        xp.sum(g * normal, (0, 3)).reshape(-1) if needs[1] else None,
        xp.sum(g, (0, 3)).reshape(-1) if needs[2] else None,
    )


def _group_norm_reference(input: Any, weight: Any, bias: Any, groups: int, eps: float) -> Any:
    view = _by_group(input.shape, groups)
    normal, _, _ = _standardized_reference(_reshape(input, view), (2, 3), eps)
    return _reshape(_affine_reference(normal, weight, bias, (1, *view[1:3], 1)), tuple(input.shape))


def _group_norm_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    groups, width = pick.integer(1, 3), pick.integer(1, 3)
    batch, *places = pick.shape(min_dims=1)
    shape = (batch, groups * width, *places)
    return (pick.distinct(shape) * 3, *_parameters(pick, shape[1:2]), groups, pick.choice((1e-5, 1e-3, 0.5))), {}


@fused(_group_norm_backward, _group_norm_reference, aux=("middle", "scale"), cases=_group_norm_case, unsupported=_IN_SINGLE)
def _group_norm(
    xp: Any, input: Array, weight: Array | None = None, bias: Array | None = None, groups: int = 1, eps: float = 1e-5
) -> Any:
    """z w + b of (N, C, ...), statistics over each group of C/G channels and all places of one sample."""
    view = _by_group(input.shape, groups)
    y, middle, _, scale = _standardized(xp, input.reshape(view), (2, 3), view[2] * view[3], eps)
    y *= scale
    return _affine(xp, y, weight, bias, (1, *view[1:3], 1)).reshape(input.shape), middle, scale


@autocasts("float32")
def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Normalization of groups of ``C / num_groups`` channels of (N, C, ...) in each sample. weight, bias: (C).

    Raises ShapeError when ``num_groups`` does not divide C. Source: Wu and He 2018, "Group normalization".

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.group_norm(tg.tensor([[1.0, 3.0, 5.0, 5.0]]), 2, eps=0.01)
    tensor([[-0.995,  0.995,  0.   ,  0.   ]])
    """
    _check_channels("group_norm", input, weight=weight, bias=bias)
    n, channels, places = by_channel(input.shape)
    if num_groups < 1 or channels % num_groups:
        raise error(
            "TG-S002",
            op="group_norm",
            rule=(f"C divisible by num_groups = {num_groups}", f"C が num_groups = {num_groups} で割り切れる"),
            shapes=tuple(input.shape),
            fix=("choose a divisor of C.", "C の約数を選んでください。"),
        )
    _check_several("group_norm", input, n * channels // num_groups * places, _MORE_PER_CHANNEL)
    return _in_single(lambda *given: _group_norm(*given, num_groups, eps), floating(input), weight, bias)


def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Normalization of each channel of each sample of (N, C, d1, ...) over its places, as ``torch.nn.functional.instance_norm``.

    running_mean, running_var: (C). They follow the mean over the batch of the statistics, or with ``use_input_stats=False`` take their
    place. weight, bias: (C). Raises ShapeError for a single place. Source: Ulyanov et al. 2016, "Instance normalization".

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.instance_norm(tg.tensor([[[1.0, 3.0], [5.0, 5.0]]]), eps=0.01)
    tensor([[[-0.995,  0.995],
             [ 0.   ,  0.   ]]])
    """
    _check_channels("instance_norm", input, weight=weight, bias=bias, running_mean=running_mean, running_var=running_var)
    _check_running("instance_norm", running_mean, running_var, not use_input_stats)
    input = floating(input)
    if not use_input_stats:
        return _evaluated(input, weight, bias, running_mean, running_var, eps)
    n, channels, places = by_channel(input.shape)
    _check_several("instance_norm", input, places, ("more than one place in training", "学習時は位置が 2 個以上"))
    if running_mean is not None and n * places:
        _follow_instances(running_mean, running_var, _raw(input).reshape(n, channels, places), momentum)
    return _in_single(lambda *given: _group_norm(*given, channels or 1, eps), input, weight, bias)


def _follow_instances(running_mean: Any, running_var: Any, x: Any, momentum: float) -> None:
    """Both running statistics, by the means over the batch of those of the instances."""
    xp = ARRAY_MODULES[type(x)]
    _, middle, spread, _ = _standardized(xp, x if x.dtype != np.float16 else x.astype(np.float32), (2,), x.shape[2], 0.0)
    _follow(running_mean, xp.mean(middle, (0, 2)), momentum)
    _follow(running_var, xp.mean(spread, (0, 2)) * (x.shape[2] / (x.shape[2] - 1)), momentum)
