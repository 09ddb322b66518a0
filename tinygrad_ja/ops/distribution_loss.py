"""Losses of distributions: the Kullback-Leibler divergence, and negative log-likelihoods of counts and of normal variables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.operator import Array, Point, elementwise
from ..core.promotion import autocasts
from ..errors import Phrase, error, joined
from .comparison import _where
from .exponential import exp, log, xlogy
from .loss import reduced, reduction_of
from .reduce import floating
from .shape import unsqueeze

__all__ = ["gaussian_nll_loss", "kl_div", "poisson_nll_loss"]


@autocasts("float32")
def kl_div(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Any:
    """Kullback-Leibler divergence t (log t - x) of probabilities ``target`` from log-probabilities ``input``; shapes broadcast.

    ``log_target``: the target holds logarithms too. ``reduction="batchmean"`` divides the sum by the first size of ``input``: that is
    the divergence of the definition; "mean" divides by the number of elements. dx = -t, dt = log t + 1 - x.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.kl_div(tg.tensor([[0.5, 0.5]]).log(), tg.tensor([[1.0, 0.0]]), reduction="batchmean")
    tensor(0.6931)
    """
    by_batch = reduction == "batchmean" and size_average is None and reduce is None
    reduction = reduction_of("kl_div", "sum" if by_batch else reduction, size_average, reduce)
    loss = exp(target) * (target - input) if log_target else xlogy(target, target) - target * input
    loss = reduced(loss, reduction)
    return loss / input.shape[0] if by_batch and input.ndim else loss


@autocasts("float32")
def poisson_nll_loss(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Negative log-likelihood of counts ``target`` under Poisson distributions: eˣ - t x for ``log_input``, the logarithms of their
    means, else x - t log(x + eps). ``full`` adds Stirling's t log t - t + log(2 π t) / 2 for log t! where t > 1.

    dx = eˣ - t, or 1 - t / (x + eps).

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.poisson_nll_loss(tg.tensor([0.0, 1.0]), tg.tensor([1.0, 0.0]), reduction="none")
    tensor([1.    , 2.7183])
    """
    reduction = reduction_of("poisson_nll_loss", reduction, size_average, reduce)
    loss = exp(input) - target * input if log_input else input - target * log(input + eps)
    if full:
        count = floating(target)
        large = _where(count > 1, count, 1.0)
        loss = loss + _where(count > 1, large * log(large) - large + 0.5 * log(2 * math.pi * large), 0.0)
    return reduced(loss, reduction)


@elementwise(
    lambda g: g,
    cases=lambda pick: ((pick.array(pick.shape(), 0.5, 2.0), 0.25), {}),
    points=[Point(([0.0, 1.0], 0.5), ([1.0, 1.0],))],
)
def _raised(xp: Any, input: Array, low: float = 0.0) -> Array:
    """max(x, low) with the derivative 1 everywhere: a value below the bound may leave it again."""
    return xp.maximum(input, low)


def gaussian_nll_loss(input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> Any:
    """Negative log-likelihood of ``target`` under normal distributions: (log v + (x - t)² / v) / 2 with v = max(var, eps), whose
    derivative is that of var. ``full`` adds log(2 π) / 2.

    var: the shape of ``input``, that shape without its last axis or with one axis of size 1 in place of another, or a number. Raises
    ShapeError for other shapes and ArgumentError for a negative variance (seen on the CPU only).
    dx = (x - t) / v, dv = (1 - (x - t)² / v) / (2 v). Source: Nix and Weigend, 1994.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.gaussian_nll_loss(tg.tensor([1.0]), tg.tensor([3.0]), tg.tensor([4.0]))
    tensor(1.1931)
    """
    reduction = reduction_of("gaussian_nll_loss", reduction)
    number = isinstance(var, (int, float))
    raw = np.asarray(var) if number else getattr(var, "array", var)
    if type(raw) is np.ndarray and (raw < 0).any():
        rule = ("no variance is negative", "分散は 0 以上")
        fix = ("pass softplus(x) or exp(x).", "softplus(x) か exp(x) を渡してください。")
        raise error("TG-A001", op="gaussian_nll_loss", argument="var", value=raw.min(), rule=rule, fix=fix)
    v = max(var, eps) if number else _raised(_variances(input, var), eps)
    difference = input - target
    loss = 0.5 * (difference * difference / v + (math.log(v) if number else log(v)))
    return reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


def _variances(input: Any, var: Any) -> Any:
    """``var`` in a shape that broadcasts against the input's."""
    shape, given = tuple(input.shape), tuple(var.shape)
    if given == shape:
        return var
    if given == shape[:-1]:
        return unsqueeze(var, -1)
    if len(given) == len(shape) and [m for n, m in zip(shape, given) if n != m] == [1]:
        return var
    rule: Phrase = (
        "var has the shape of input, without its last axis, or with 1 in place of one size",
        "var は input と同じ形状、最後の次元のない形状、1 つの次元の大きさが 1 の形状のどれか",
    )
    fix = (f"give a var of shape {shape}.", f"形状 {shape} の var を渡してください。")
    raise error("TG-S002", op="gaussian_nll_loss", rule=rule, shapes=joined([shape, given]), fix=fix)
