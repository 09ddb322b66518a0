"""Operators with a random part: the dropouts and ``rrelu``. Their masks come from the default generator of the input's device."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES
from ..backend.devices import device_of
from ..backend.random import default_generator
from ..core.operator import Array, Constant, linear
from ..core.tensor import Tensor
from ..errors import error
from .activation import leaky_relu

__all__ = [
    "alpha_dropout",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "feature_alpha_dropout",
    "rrelu",
]


def _mask_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    shape = pick.shape()
    front = shape[: pick.integer(0, len(shape))]
    mask = pick.mask((*front, *[1] * (len(shape) - len(front))))
    return (pick.array(shape), mask, pick.choice([1.0, 2.0, 1.25])), {}


@linear(lambda g, mask, scale: apply_mask(g, mask, scale), cases=_mask_case)
def apply_mask(xp: Any, input: Array, mask: Constant, scale: float) -> Array:
    """``scale * input`` where the mask is True, 0 elsewhere; its own transpose."""
    made = xp.multiply(input, mask)
    return made if scale == 1.0 else made * scale


def _uniform(input: Any, shape: tuple[int, ...]) -> Any:
    """Uniform float32 numbers in [0, 1) on the input's device."""
    return default_generator(device_of(getattr(input, "array", input))).uniform(shape, np.float32)


def _need_probability(op: str, p: float) -> None:
    if not 0.0 <= p <= 1.0:
        rule = ("a probability from 0 to 1", "0 から 1 の確率")
        raise error("TG-A001", op=op, argument="p", value=p, rule=rule, fix=("p=0.5.", "p=0.5 などとしてください。"))


def _masked(op: str, input: Any, p: float, training: bool, inplace: bool, axes: int | None = None) -> Any:
    """Dropout of elements, or of everything behind the first ``axes`` axes together."""
    _need_probability(op, p)
    if not training or p == 0.0:
        return input
    kept = _uniform(input, _mask_shape(input, axes)) >= p
    made = apply_mask(input, kept, 1.0 / (1.0 - p) if p < 1.0 else 1.0)
    return input._assign(made) if inplace else made


def _mask_shape(input: Any, axes: int | None) -> tuple[int, ...]:
    shape = tuple(input.shape)
    return shape if axes is None else shape[:axes] + (1,) * (len(shape) - axes)


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Each element becomes 0 with probability ``p``, the others are multiplied by 1 / (1 - p); nothing happens unless ``training``.

    dy/dx = mask / (1 - p).
    Source: Srivastava et al., 2014, "Dropout"; scaled while training ("inverted"), as PyTorch does.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.dropout(tg.tensor([1.0, 2.0]), p=0.5, training=False)
    tensor([1., 2.])
    """
    return _masked("dropout", input, p, training, inplace)


# ---- whole channels ------------------------------------------------------------------------------


def _need_axes(op: str, input: Any, most: float = math.inf) -> None:
    if not 2 <= input.ndim <= most:
        rule = ("channels behind a batch axis, (N, C, ...)", "バッチの次にチャネルの次元がある (N, C, ...)")
        fix = ("use dropout for elements.", "要素ごとなら dropout を使ってください。")
        raise error("TG-S002", op=op, rule=rule, shapes=str(tuple(input.shape)), fix=fix)


def _warn(op: str, message: str) -> None:
    warnings.warn(f"{op}: {message}", UserWarning, stacklevel=3)


def dropout1d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Whole channels of (N, C, L) or (C, L) become 0 with probability ``p``, the others are multiplied by 1 / (1 - p).

    Source: Tompson et al., 2015, "Efficient object localization using convolutional networks".
    """
    _need_axes("dropout1d", input, 3)
    return _masked("dropout1d", input, p, training, inplace, input.ndim - 1)


def dropout2d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Whole channels of (N, C, H, W) become 0 with probability ``p``, the others are multiplied by 1 / (1 - p); see ``dropout1d``.

    As in PyTorch, (N, C, L) and (N, C) are taken too, with a warning.
    """
    if input.ndim == 3:
        _warn("dropout2d", "3 axes are taken as (N, C, L); dropout1d says so")
    elif input.ndim != 4:
        _warn("dropout2d", f"{input.ndim} axes; (N, C, H, W) is expected")
    _need_axes("dropout2d", input)
    return _masked("dropout2d", input, p, training, inplace, 2)


def dropout3d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Whole channels of (N, C, D, H, W) or (C, D, H, W) become 0 with probability ``p``, the others are multiplied by 1 / (1 - p); see
    ``dropout1d``."""
    if input.ndim not in (4, 5):
        _warn("dropout3d", f"{input.ndim} axes; (N, C, D, H, W) or (C, D, H, W) is expected")
    return _masked("dropout3d", input, p, training, inplace, 2 if input.ndim == 5 else 1)


# ---- dropout for selu ----------------------------------------------------------------------------

_SATURATION = 1.7580993408473766
"""Minus the value that selu tends to for x -> -inf."""


def _alpha_masked(op: str, input: Any, p: float, training: bool, inplace: bool, axes: int | None) -> Any:
    _need_probability(op, p)
    if not training or p == 0.0:
        return input
    array = getattr(input, "array", input)
    xp = ARRAY_MODULES[type(array)]
    kept = _uniform(input, _mask_shape(input, axes)) >= p
    scale = 1.0 / math.sqrt((_SATURATION**2 * p + 1.0) * (1.0 - p)) if p < 1.0 else 0.0
    shift = xp.where(kept, _SATURATION * scale * p, _SATURATION * scale * (p - 1.0)).astype(array.dtype)
    made = apply_mask(input, kept, scale) + (Tensor(shift) if type(input) is Tensor else shift)
    return input._assign(made) if inplace else made


def alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """Each element becomes -1.758, what selu tends to for negative numbers, with probability ``p``; then all are scaled and shifted so that
    mean 0 and variance 1 stay as they are.

    y = a (x or -α') + α' a p with α' = 1.758 and a = 1 / sqrt((1 + p α'²) (1 - p)).
    Source: Klambauer et al., 2017, "Self-normalizing neural networks".
    """
    return _alpha_masked("alpha_dropout", input, p, training, inplace, None)


def feature_alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """``alpha_dropout`` of whole channels, the second axis of (N, C, ...)."""
    if training and p:
        _need_axes("feature_alpha_dropout", input)
    return _alpha_masked("feature_alpha_dropout", input, p, training, inplace, 2)


# ---- random slopes -------------------------------------------------------------------------------


def rrelu(input: Any, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False) -> Any:
    """x where x > 0, else r·x with r drawn from [lower, upper) for each element; unless ``training``, r = (lower + upper) / 2.

    Source: Xu et al., 2015, "Empirical evaluation of rectified activations in convolutional network".

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.rrelu(tg.tensor([-1.0, 2.0]), 0.25, 0.75)
    tensor([-0.5,  2. ])
    """
    if lower > upper:
        fix = ("swap them.", "入れ替えてください。")
        raise error("TG-A001", op="rrelu", argument="(lower, upper)", value=(lower, upper), rule="lower <= upper", fix=fix)
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    array = getattr(input, "array", input)
    xp = ARRAY_MODULES[type(array)]
    slope = _uniform(input, tuple(array.shape)) * (upper - lower) + lower
    made = apply_mask(input, xp.where(array > 0, 1.0, slope).astype(array.dtype), 1.0)
    return input._assign(made) if inplace else made
