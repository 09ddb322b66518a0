"""Faster NumPy texts of the activations that networks use most.

A Python number beside an array costs NumPy twice what a 0-d array costs, ``clip`` is several times faster than ``maximum`` with a number
for large arrays, and a long polynomial runs in the cache when it is evaluated in blocks.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from ..core.operator import kernel
from ..ops import approximations
from ..ops.activation import _relu, _silu, gelu
from ..ops.comparison import keep
from ..ops.exponential import _LARGEST_EXPONENT, sigmoid
from ..ops.special import erf

_LARGE = 8192
_BLOCK = 65536
_SMALL = 64


class _Constants(NamedTuple):
    zero: np.ndarray
    one: np.ndarray
    least: np.ndarray


@functools.cache
def _constants(dtype: np.dtype) -> _Constants:
    """0-d arrays of one floating dtype: 0, 1, and the least argument whose negative has a finite exponential."""
    return _Constants(*[np.array(value, dtype) for value in (0.0, 1.0, -_LARGEST_EXPONENT[dtype.itemsize])])


def _plain(x: np.ndarray) -> bool:
    """A floating array that is not 0-d (NumPy turns results of those into scalars, which cannot be written to)."""
    return x.dtype.char in "fd" and x.ndim > 0


_INTEGERS = {np.dtype(code): np.dtype(f"i{np.dtype(code).itemsize}") for code in "efd"}
"""Floating dtype -> the integer of its size."""


@kernel(keep, np.ndarray)
def keep_numpy(input: np.ndarray, mask: Any) -> Any:
    """For large arrays ``np.where`` costs ten times a product; a bitwise and with 0 or -1 costs as much as the product."""
    size = input.size
    if size < _LARGE or type(mask) is not np.ndarray or mask.shape != input.shape or mask.dtype != np.bool_:
        return np.where(mask, input, 0.0)
    integer = _INTEGERS[input.dtype]
    kept = mask.astype(integer, order="C")
    np.negative(kept, kept)
    np.bitwise_and(kept, np.ascontiguousarray(input).view(integer), kept)
    return kept.view(input.dtype)


@kernel(_relu, np.ndarray)
def relu_numpy(input: np.ndarray) -> Any:
    """max(x, 0)."""
    if input.dtype.kind != "f":
        return np.maximum(input, 0)
    if input.size > _LARGE:
        return input.clip(0.0, math.inf)
    return np.maximum(input, _constants(input.dtype).zero)


@kernel(sigmoid, np.ndarray)
def sigmoid_numpy(input: np.ndarray) -> Any:
    """1 / (1 + e⁻ˣ), in one new array."""
    if not _plain(input):
        return sigmoid.operator.forward(np, input)  # type: ignore[attr-defined]
    _, one, least = _constants(input.dtype)
    y = input.clip(least, math.inf) if input.size > _LARGE else np.maximum(input, least)
    np.negative(y, y)
    np.exp(y, y)
    np.add(y, one, y)
    return np.reciprocal(y, y)


@kernel(_silu, np.ndarray)
def silu_numpy(input: np.ndarray) -> Any:
    """x σ(x) and σ(x)."""
    gate = sigmoid_numpy(input)
    return input * gate, gate


@kernel(erf, np.ndarray)
def erf_numpy(input: np.ndarray) -> Any:
    """Error function: a few elements by the C library, many in blocks that stay in the cache."""
    if not _plain(input):
        return approximations.erf(np, input)
    if input.size <= _SMALL:
        return np.array([math.erf(x) for x in input.ravel().tolist()], input.dtype).reshape(input.shape)
    if input.size <= 2 * _BLOCK:
        return approximations.erf(np, input)
    flat = input.ravel()
    y = np.empty(flat.shape, flat.dtype)
    for start in range(0, flat.size, _BLOCK):
        y[start : start + _BLOCK] = approximations.erf(np, flat[start : start + _BLOCK])
    return y.reshape(input.shape)


@kernel(gelu, np.ndarray)
def gelu_numpy(input: np.ndarray, approximate: str = "none") -> Any:
    """x Φ(x) and Φ(x)."""
    if approximate != "none" or not _plain(input):
        return gelu.operator.forward(np, input, approximate)  # type: ignore[attr-defined]
    share = erf_numpy(input * math.sqrt(0.5))
    share *= 0.5
    share += 0.5
    return input * share, share
