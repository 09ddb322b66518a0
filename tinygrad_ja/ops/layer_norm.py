"""Normalization within a sample: over its last axes, or over neighbouring channels. The text in common is in ``normalization.py``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.operator import Array, fused, linear
from ..core.promotion import autocasts
from ..errors import error, joined
from .arithmetic import rsqrt
from .normalization import (
    _IN_SINGLE,
    _affine,
    _affine_reference,
    _by_input,
    _in_single,
    _parameters,
    _standardized,
    _standardized_reference,
)
from .reduce import floating, mean
from .shape import _reshape

__all__ = ["layer_norm", "local_response_norm", "rms_norm"]


# ---- over the last axes --------------------------------------------------------------------------


def as_rows(shape: Sequence[int], ndim: int) -> tuple[int, int]:
    """The last ``ndim`` axes as one, and all before them as one."""
    cut = len(shape) - ndim
    return math.prod(shape[:cut]), math.prod(shape[cut:])


def _layer_norm_backward(
    xp: Any, g: Any, needs: tuple[bool, ...], input: Any, weight: Any, ndim: int, middle: Any, scale: Any
) -> tuple[Any, ...]:
    rows = as_rows(input.shape, ndim)
    sizes = input.shape[-ndim:]
    g = g.reshape(rows)
    normal = (input.reshape(rows) - middle) * scale
    made = None
    if needs[0]:
        factor = g if weight is None else g * weight.reshape(-1)
        made = _by_input(xp, factor, normal, scale, (1,), rows[1]).reshape(input.shape)
    return (
        made,
        xp.sum(g * normal, 0).reshape(sizes) if needs[1] else None,
        xp.sum(g, 0).reshape(sizes) if needs[2] else None,
    )


def _layer_norm_reference(input: Any, weight: Any, bias: Any, ndim: int, eps: float) -> Any:
    rows = as_rows(input.shape, ndim)
    normal, _, _ = _standardized_reference(_reshape(input, rows), (1,), eps)
    return _reshape(_affine_reference(normal, weight, bias, rows[1:]), tuple(input.shape))


def _layer_norm_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    shape = pick.shape(min_dims=1)
    ndim = pick.integer(1, len(shape))
    return (pick.distinct(shape) * 3, *_parameters(pick, shape[-ndim:]), ndim, pick.choice((1e-5, 1e-3, 0.5))), {}


@fused(_layer_norm_backward, _layer_norm_reference, aux=("middle", "scale"), cases=_layer_norm_case, unsupported=_IN_SINGLE)
def _layer_norm(
    xp: Any, input: Array, weight: Array | None = None, bias: Array | None = None, ndim: int = 1, eps: float = 1e-5
) -> Any:
    """z w + b, statistics over the last ``ndim`` axes."""
    rows = as_rows(input.shape, ndim)
    y, middle, _, scale = _standardized(xp, input.reshape(rows), (1,), rows[1], eps)
    y *= scale
    return _affine(xp, y, weight, bias, rows[1:]).reshape(input.shape), middle, scale


def _sizes(op: str, input: Any, normalized_shape: Any, **parameters: Any) -> tuple[int, ...]:
    """``normalized_shape`` as a tuple; refuses what does not fit the last axes of the input."""
    sizes = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    given = {"input": tuple(input.shape[max(input.ndim - len(sizes), 0) :])}
    given.update({name: tuple(value.shape) for name, value in parameters.items() if value is not None})
    wrong = [name for name, shape in given.items() if shape != sizes]
    if not sizes or wrong:
        whole = {name: tuple(x.shape) for name, x in {"input": input, **parameters}.items() if x is not None}
        raise error(
            "TG-S002",
            op=op,
            rule=(
                f"input (..., *normalized_shape), weight and bias of normalized_shape = {sizes}, which is not empty",
                f"input は (..., *normalized_shape)、weight と bias は normalized_shape = {sizes} (空でないこと)",
            ),
            shapes=joined([f"{name} {shape}" for name, shape in whole.items()]),
            fix=(
                "normalized_shape names the last axes of the input.",
                "normalized_shape には input の最後の軸の大きさを渡してください。",
            ),
        )
    return sizes


@autocasts("float32")
def layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Normalization over the last axes, whose sizes are ``normalized_shape`` (an int or a tuple); weight and bias have that shape.

    Raises ShapeError for other shapes. Source: Ba, Kiros and Hinton 2016, "Layer normalization".
    dx = s (g w - mean(g w) - z mean(g w z)).

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.layer_norm(tg.tensor([[1.0, 3.0], [5.0, 5.0]]), 2, eps=0.01)
    tensor([[-0.995,  0.995],
            [ 0.   ,  0.   ]])
    """
    ndim = len(_sizes("layer_norm", input, normalized_shape, weight=weight, bias=bias))
    return _in_single(lambda *given: _layer_norm(*given, ndim, eps), floating(input), weight, bias)


def _rms_norm_backward(
    xp: Any, g: Any, needs: tuple[bool, ...], input: Any, weight: Any, ndim: int, scale: Any
) -> tuple[Any, ...]:
    rows = as_rows(input.shape, ndim)
    g = g.reshape(rows)
    normal = input.reshape(rows) * scale
    made = None
    if needs[0]:
        factor = g if weight is None else g * weight.reshape(-1)
        made = scale * (factor - normal * (xp.sum(factor * normal, 1, None, None, True) / max(rows[1], 1)))
        made = made.reshape(input.shape)
    return made, xp.sum(g * normal, 0).reshape(input.shape[-ndim:]) if needs[1] else None


def _rms_norm_reference(input: Any, weight: Any, ndim: int, eps: float) -> Any:
    rows = as_rows(input.shape, ndim)
    x = _reshape(input, rows)
    y = x * rsqrt(mean(x * x, 1, True) + eps)
    return _reshape(_affine_reference(y, weight, None, rows[1:]), tuple(input.shape))


def _rms_norm_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    (x, weight, _, ndim, eps), _ = _layer_norm_case(pick)
    return (x, weight, ndim, eps), {}


@fused(_rms_norm_backward, _rms_norm_reference, aux=("scale",), cases=_rms_norm_case, unsupported=_IN_SINGLE)
def _rms_norm(xp: Any, input: Array, weight: Array | None = None, ndim: int = 1, eps: float = 1e-5) -> Any:
    """x s w with s = 1/√(mean(x²) + eps) over the last ``ndim`` axes."""
    rows = as_rows(input.shape, ndim)
    x = input.reshape(rows)
    scale = 1.0 / xp.sqrt(xp.sum(x * x, 1, None, None, True) / (rows[1] or math.nan) + eps)
    return _affine(xp, x * scale, weight, None, rows[1:]).reshape(input.shape), scale


@autocasts("float32")
def rms_norm(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    """x / √(mean(x²) + eps) over the last axes, whose sizes are ``normalized_shape`` (an int or a tuple), times ``weight`` of that shape.

    eps: None for the distance from 1 to the next number of the dtype (of float32 for float16). Raises ShapeError for other shapes.
    Source: Zhang and Sennrich 2019, "Root mean square layer normalization". dx = s (g w - z mean(g w z)) with z = x s.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.rms_norm(tg.tensor([1.0, -1.0, 1.0, 1.0]), 4)
    tensor([ 1., -1.,  1.,  1.])
    """
    ndim = len(_sizes("rms_norm", input, normalized_shape, weight=weight))

    def run(input: Any, weight: Any) -> Any:
        return _rms_norm(input, weight, ndim, float(np.finfo(input.dtype).eps) if eps is None else eps)

    return _in_single(run, floating(input), weight)


# ---- over neighbouring channels ------------------------------------------------------------------


def _window_sum_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (pick.array(pick.shape(min_dims=2)), pick.integer(0, 3), pick.integer(0, 3)), {}


@linear(lambda g, before, after: _window_sum(g, after, before), cases=_window_sum_case)
def _window_sum(xp: Any, input: Array, before: int, after: int) -> Array:
    """For each channel (axis 1) the sum of itself, of ``before`` channels before it and ``after`` after it, as far as there are any."""
    made = input.copy()
    n = input.shape[1]
    for distance in range(1, min(before, n - 1) + 1):
        made[:, distance:] += input[:, : n - distance]
    for distance in range(1, min(after, n - 1) + 1):
        made[:, : n - distance] += input[:, distance:]
    return made


def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """x / (k + alpha/size Σ x²)^beta, the sum over ``size`` neighbouring channels of (N, C, d1, ...).

    Raises ShapeError for fewer than three axes, ArgumentError for ``size < 1``. Source: Krizhevsky, Sutskever and Hinton 2012, "ImageNet
    classification with deep convolutional neural networks".

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.local_response_norm(tg.ones(1, 3, 1), 3, alpha=3.0, beta=1.0).ravel()
    tensor([0.3333, 0.25  , 0.3333])
    """
    if input.ndim < 3:
        raise error(
            "TG-S002",
            op="local_response_norm",
            rule="input (N, C, d1, ...)",
            shapes=tuple(input.shape),
            fix=("add the missing axis with unsqueeze.", "足りない軸を unsqueeze で加えてください。"),
        )
    if size < 1:
        raise error(
            "TG-A001",
            op="local_response_norm",
            argument="size",
            value=size,
            rule="size >= 1",
            fix=("size=5.", "size=5 などとしてください。"),
        )

    def run(x: Any) -> Any:
        return x / (_window_sum(x * x, size // 2, (size - 1) // 2) * (alpha / size) + k) ** beta

    return _in_single(run, floating(input))
