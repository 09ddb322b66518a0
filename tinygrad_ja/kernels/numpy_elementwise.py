"""Faster NumPy texts of the activations that networks use most.

A Python number beside an array costs NumPy twice what a 0-d array costs, ``clip`` is several times faster than ``maximum`` with a number
for large arrays. Large arrays are computed in threads, a block at a time: the same text of the forward and of the derivative runs on
each block, so that its temporaries are small.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backend.threads import WORTH, get_num_threads, in_parts
from ..core.operator import backward_kernel, kernel
from ..ops import activation, approximations
from ..ops.activation import _relu, _silu, gelu
from ..ops.comparison import keep
from ..ops.exponential import _LARGEST_EXPONENT, exp2, expm1, log1p, sigmoid, tanh
from ..ops.special import erf, erfc
from .machine_code import with_machine_code

_LARGE = 8192
_BLOCK = 131_072
"""Elements of a block: a thread should not come back for the interpreter's lock too often, and a block not start threads again."""
_THREADS = 2 * WORTH
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
    kept = np.negative(mask.view(np.int8)).astype(integer, order="C")
    np.bitwise_and(kept, np.ascontiguousarray(input).view(integer), kept)
    return kept.view(input.dtype)


@backward_kernel(activation._leaky_relu, np.ndarray)
def leaky_relu_backward_numpy(g: np.ndarray, input: np.ndarray, negative_slope: float) -> tuple[Any]:
    """g times the slope, in one new array."""
    slope = (input > 0).astype(input.dtype)
    slope *= 1 - negative_slope
    slope += negative_slope
    slope *= g
    return (slope,)


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


def _single_erf(x: np.ndarray, scale: float) -> np.ndarray:
    """erf(scale x) of float32, in two new arrays."""
    y = np.clip(x, -5.0 / scale, 5.0 / scale)
    squared = y * y
    made = np.multiply(squared, approximations.ERF_SINGLE[-1] * scale**13)
    for k in range(5, -1, -1):
        made += approximations.ERF_SINGLE[k] * scale ** (2 * k + 1)
        made *= y if k == 0 else squared
    return np.tanh(made, made)


@kernel(erf, np.ndarray)
def erf_numpy(input: np.ndarray) -> Any:
    """Error function: a few elements by the C library."""
    if not _plain(input):
        return approximations.erf(np, input)
    if input.size <= _SMALL:
        return np.array([math.erf(x) for x in input.ravel().tolist()], input.dtype).reshape(input.shape)
    return _single_erf(input, 1.0) if input.dtype.char == "f" else approximations.erf(np, input)


@kernel(gelu, np.ndarray)
def gelu_numpy(input: np.ndarray, approximate: str = "none") -> Any:
    """x Φ(x) and Φ(x)."""
    if approximate != "none" or not _plain(input):
        return gelu.operator.forward(np, input, approximate)  # type: ignore[attr-defined]
    root = math.sqrt(0.5)
    large = input.dtype.char == "f" and input.size > _SMALL
    share = _single_erf(input, root) if large else erf_numpy(input * root)
    share *= 0.5
    share += 0.5
    return input * share, share


@backward_kernel(gelu, np.ndarray)
def gelu_backward_numpy(g: np.ndarray, input: np.ndarray, approximate: str, share: np.ndarray) -> tuple[Any]:
    """g (Φ + x φ) in one new array; 2^x costs half of e^x."""
    if approximate != "none" or input.size <= _SMALL:
        return activation._gelu_backward(np, g, input, approximate, share)
    made = input * input
    made *= -0.5 / math.log(2.0)
    np.exp2(made, made)
    made *= input
    made *= 1.0 / math.sqrt(2.0 * math.pi)
    made += share
    made *= g
    return (made,)


# ---- large arrays --------------------------------------------------------------------------------


def in_blocks(function: Any) -> None:
    """Let an element-wise operator of one input run its forward and its backward on large arrays in threads and in blocks."""
    operator = function.operator
    operator.kernels[np.ndarray] = _forward_in_blocks(operator.kernels[np.ndarray], 1 + len(operator.aux))
    before = operator.backward_kernels.get(np.ndarray, lambda usual: usual)
    operator.backward_kernels[np.ndarray] = lambda usual: _backward_in_blocks(before(usual))


def _forward_in_blocks(usual: Callable[..., Any], results: int) -> Callable[..., Any]:
    def forward(input: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        if input.size < _THREADS or get_num_threads() < 2 or not _plain(input) or not input.flags.c_contiguous:
            return usual(input, *args, **kwargs)
        flat = input.reshape(-1)
        made = [np.empty(input.shape, input.dtype) for _ in range(results)]
        into = [each.reshape(-1) for each in made]

        def work(part: slice) -> None:
            ys = usual(flat[part], *args, **kwargs)
            for whole, y in zip(into, ys if results > 1 else (ys,)):
                whole[part] = y

        in_parts(work, flat.size, flat.size, _BLOCK)
        return tuple(made) if results > 1 else made[0]

    return forward


def _backward_in_blocks(usual: Callable[..., Any]) -> Callable[..., Any]:
    def backward(saved: tuple[Any, ...], parents: Sequence[Any], g: Any) -> Any:
        if g.size < _THREADS or get_num_threads() < 2 or not all([_same_place(value, g.shape) for value in saved]):
            return usual(saved, parents, g)
        flat = [value.reshape(-1) if type(value) is np.ndarray else None for value in saved]
        cotangent, made = g.reshape(-1), np.empty(g.shape, g.dtype)
        into = made.reshape(-1)

        def work(part: slice) -> None:
            given = tuple([value if rows is None else rows[part] for value, rows in zip(saved, flat)])
            into[part] = usual(given, parents, cotangent[part])[0]

        in_parts(work, g.size, g.size, _BLOCK)
        return (made,)

    return backward


def _same_place(value: Any, shape: tuple[int, ...]) -> bool:
    """No array, or one of that shape whose elements lie in order."""
    return type(value) is not np.ndarray or (value.shape == shape and value.flags.c_contiguous)


# Only those that compute much for an element: for the others the copy into the result and the wait for the lock cost more than they save.
for _operator in (
    activation._elu,
    activation._mish,
    activation.gelu,
    activation.logsigmoid,
    activation.softplus,
    activation.tanhshrink,
    erf,
):
    in_blocks(_operator)

# NumPy takes several passes for these, or goes element by element. What it computes as fast, exp and tanh for example, stays with it.
with_machine_code(
    gelu,
    _silu,
    activation._mish,
    activation._elu,
    activation._leaky_relu,
    activation._hardswish,
    activation._hardsigmoid,
    activation.softplus,
    activation.logsigmoid,
    erf,
    erfc,
    expm1,
    log1p,
    exp2,
    sigmoid,
)
with_machine_code(tanh, _relu, forward=False)
