"""Softmax and its logarithm."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.operator import Array, fused, primitive
from ..core.promotion import autocasts
from .conversion import cast
from .exponential import exp
from .methods import attach
from .reduce import floating, present, sum

__all__ = ["log_softmax", "softmax", "softmin"]


def _case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    shape = pick.shape(min_side=1)
    return (pick.array(shape, -3.0, 3.0), pick.axis(len(shape))), {}


def _backward_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    shape = pick.shape(min_side=1)
    return (pick.array(shape), pick.array(shape), pick.axis(len(shape))), {}


def _softmax_backward_reference(gradient: Any, output: Any, dim: int) -> Any:
    return output * (gradient - sum(gradient * output, dim, True))


@fused(None, _softmax_backward_reference, cases=_backward_case)
def softmax_backward(xp: Any, gradient: Array, output: Array, dim: int) -> Array:
    """dx = y (g - sum(g y)), the derivative of softmax as an operator of its own."""
    made = gradient * output
    return made - output * xp.sum(made, present(dim, made.ndim), None, None, True)


@primitive(lambda g, y, dim: softmax_backward(g, y, dim), cases=_case)
def _softmax(xp: Any, input: Array, dim: int) -> Array:
    """exp(x) over its sum along an axis."""
    axis = present(dim, input.ndim)
    if not input.size:
        return input.copy()  # no largest element
    made = xp.exp(input - xp.max(input, axis, None, True))
    return made / xp.sum(made, axis, None, None, True)


def _in_single(function: Any, input: Any, dim: int) -> Any:
    """``function``, of float16 in float32: its sums leave the range of float16 soon."""
    if input.dtype != np.float16:
        return function(input, dim)
    return cast(function(cast(input, np.dtype(np.float32)), dim), np.dtype(np.float16))


@autocasts("float32")
def softmax(input: Any, dim: int, dtype: Any = None) -> Any:
    """exp(x_i) / sum_j exp(x_j) along ``dim``, stable for any size of x; NaN for a row of -inf, as in PyTorch.

    dx = y (g - sum(g y)).

    >>> import tinygrad_ja as tg
    >>> tg.softmax(tg.tensor([0.0, 0.0]), dim=0)
    tensor([0.5, 0.5])
    """
    if dtype is not None:
        input = cast(input, np.dtype(dtype))
    return _in_single(_softmax, floating(input), dim)


def _log_softmax_backward_reference(gradient: Any, output: Any, dim: int) -> Any:
    return gradient - exp(output) * sum(gradient, dim, True)


@fused(None, _log_softmax_backward_reference, cases=_backward_case)
def log_softmax_backward(xp: Any, gradient: Array, output: Array, dim: int) -> Array:
    """dx = g - exp(y) sum(g), the derivative of log_softmax as an operator of its own."""
    return gradient - xp.exp(output) * xp.sum(gradient, present(dim, gradient.ndim), None, None, True)


@primitive(lambda g, y, dim: log_softmax_backward(g, y, dim), cases=_case)
def _log_softmax(xp: Any, input: Array, dim: int) -> Array:
    """x - log(sum(exp(x))) along an axis."""
    axis = present(dim, input.ndim)
    if not input.size:
        return input.copy()  # no largest element
    made = input - xp.max(input, axis, None, True)
    return made - xp.log(xp.sum(xp.exp(made), axis, None, None, True))


@autocasts("float32")
def log_softmax(input: Any, dim: int, dtype: Any = None) -> Any:
    """log(softmax(x)) along ``dim``, computed as x - log(sum(exp(x))), so that no probability underflows.

    dx = g - exp(y) sum(g).
    """
    if dtype is not None:
        input = cast(input, np.dtype(dtype))
    return _in_single(_log_softmax, floating(input), dim)


def softmin(input: Any, dim: int, dtype: Any = None) -> Any:
    """``softmax(-x, dim)``."""
    return softmax(-input, dim, dtype)


attach(softmax, log_softmax)
