"""Losses of the difference of two tensors: squares, absolute values, and the pieces between them."""

from __future__ import annotations

from typing import Any

from ..core.operator import Array, elementwise, fused
from ..core.promotion import autocasts
from ..errors import error
from .loss import REDUCTIONS, need_shape, reduced, reduction_of
from .piecewise import abs, clamp
from .reduce import sum

__all__ = ["huber_loss", "l1_loss", "mse_loss", "smooth_l1_loss"]


def _pair_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    a, b = pick.broadcastable(2)
    return (pick.array(a, 0.1, 2.0), pick.array(b, -2.0, -0.1), pick.choice(REDUCTIONS)), {}


def _per_element(g: Any, count: int, reduction: str) -> Any:
    """Cotangent of each element's loss."""
    return g / max(count, 1) if reduction == "mean" else g


def _mse_backward(xp: Any, g: Any, needs: tuple[bool, ...], difference: Any, reduction: str) -> tuple[Any, Any]:
    made = difference * (2.0 * _per_element(g, difference.size, reduction))
    return made if needs[0] else None, -made if needs[1] else None


def _mse_reference(input: Any, target: Any, reduction: str) -> Any:
    difference = input - target
    return reduced(difference * difference, reduction)


@fused(_mse_backward, _mse_reference, aux=("difference",), broadcasts=True, promotes=True, cases=_pair_case)
def _mse_loss(xp: Any, input: Array, target: Array, reduction: str = "mean") -> Any:
    """(x - t)²; dx = 2 (x - t), dt = -dx."""
    difference = xp.subtract(input, target)
    return reduced(difference * difference, reduction), difference


def mse_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Any = None,
) -> Any:
    """Mean squared error; shapes broadcast. ``reduction``: "mean", "sum" or "none"; ``size_average`` and ``reduce`` are its older
    names. ``weight``, of the input's shape, multiplies each element's loss, and "mean" divides by its sum.

    dx = 2 (x - t) / n.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.mse_loss(tg.tensor([1.0, 2.0]), tg.tensor([1.0, 4.0]))
    tensor(2.)
    """
    reduction = reduction_of("mse_loss", reduction, size_average, reduce)
    if weight is None:
        return _mse_loss(input, target, reduction)
    return _weighted("mse_loss", _mse_loss(input, target, "none"), input, weight, reduction)


def _weighted(op: str, loss: Any, input: Any, weight: Any, reduction: str) -> Any:
    """PyTorch divides a weighted mean of squares or absolute values by the sum of the weights."""
    _need_weight(op, input, weight)
    total = loss * weight
    return sum(total) / sum(weight) if reduction == "mean" else reduced(total, reduction)


def _need_weight(op: str, input: Any, weight: Any) -> None:
    need_shape(op, input.shape, weight, ("weight has the shape of input", "weight は input と同じ形状"), input)


def _l1_backward(xp: Any, g: Any, needs: tuple[bool, ...], difference: Any, reduction: str) -> tuple[Any, Any]:
    made = xp.sign(difference) * _per_element(g, difference.size, reduction)
    return made if needs[0] else None, -made if needs[1] else None


@fused(
    _l1_backward,
    lambda input, target, reduction: reduced(abs(input - target), reduction),
    aux=("difference",),
    broadcasts=True,
    promotes=True,
    cases=_pair_case,
)
def _l1_loss(xp: Any, input: Array, target: Array, reduction: str = "mean") -> Any:
    """|x - t|; dx = sign(x - t), dt = -dx."""
    difference = xp.subtract(input, target)
    return reduced(xp.abs(difference), reduction), difference


def l1_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Any = None,
) -> Any:
    """Mean absolute error; arguments as those of ``mse_loss``. dx = sign(x - t) / n, 0 where x = t.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.l1_loss(tg.tensor([1.0, 2.0]), tg.tensor([1.0, 4.0]))
    tensor(1.)
    """
    reduction = reduction_of("l1_loss", reduction, size_average, reduce)
    if weight is None:
        return _l1_loss(input, target, reduction)
    return _weighted("l1_loss", _l1_loss(input, target, "none"), input, weight, reduction)


# ---- a square near zero, a line farther out ------------------------------------------------------


def _bent_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (*map(pick.array, pick.broadcastable(2)), pick.choice((0.5, 1.0))), {}


@elementwise(
    lambda g, input, target, delta: g * clamp(input - target, -delta, delta),
    lambda g, input, target, delta: g * clamp(target - input, -delta, delta),
    cases=_bent_case,
)
def _huber(xp: Any, input: Array, target: Array, delta: float = 1.0) -> Array:
    """(x - t)² / 2 up to |x - t| = delta, then delta (|x - t| - delta / 2); dx = x - t, clamped to ±delta."""
    size = xp.abs(input - target)
    slope = xp.minimum(size, delta)
    return slope * (size - 0.5 * slope)


@elementwise(
    lambda g, input, target, beta: g * clamp((input - target) / beta, -1.0, 1.0),
    lambda g, input, target, beta: g * clamp((target - input) / beta, -1.0, 1.0),
    cases=_bent_case,
)
def _smooth_l1(xp: Any, input: Array, target: Array, beta: float = 1.0) -> Array:
    """(x - t)² / (2 beta) up to |x - t| = beta, then |x - t| - beta / 2; dx = (x - t) / beta, clamped to ±1."""
    size = xp.abs(input - target)
    bent = xp.minimum(size, beta)
    return bent / beta * (size - 0.5 * bent)


@autocasts("float32")
def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Any:
    """Half of the square for |x - t| <= delta, the line delta (|x - t| - delta / 2) beyond; shapes broadcast. ``weight``, of the
    input's shape, multiplies each element's loss ("mean" still divides by the number of elements).

    dx = (x - t), clamped to ±delta, / n. Source: Huber, 1964, "Robust estimation of a location parameter".
    Raises ArgumentError unless delta > 0.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.huber_loss(tg.tensor([1.0, 5.0]), tg.tensor([0.0, 0.0]), reduction="none", delta=2.0)
    tensor([0.5, 8. ])
    """
    reduction = reduction_of("huber_loss", reduction)
    if not delta > 0:
        fix = ("delta=1.0; delta is where the line begins.", "delta=1.0 などとしてください。直線に変わる位置です。")
        raise error("TG-A001", op="huber_loss", argument="delta", value=delta, rule="delta > 0", fix=fix)
    loss = _huber(input, target, delta)
    if weight is not None:
        _need_weight("huber_loss", input, weight)
        loss = loss * weight
    return reduced(loss, reduction)


@autocasts("float32")
def smooth_l1_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Any:
    """``huber_loss`` with delta = beta, divided by beta: slope ±1 beyond beta; for beta 0 ``l1_loss``. Shapes broadcast.

    dx = ((x - t) / beta, clamped to ±1) / n. Source: Girshick, 2015, "Fast R-CNN". Raises ArgumentError for a negative beta.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.smooth_l1_loss(tg.tensor([1.0, 5.0]), tg.tensor([0.0, 0.0]), reduction="none", beta=2.0)
    tensor([0.25, 4.  ])
    """
    reduction = reduction_of("smooth_l1_loss", reduction, size_average, reduce)
    if beta == 0:
        return _l1_loss(input, target, reduction)
    if not beta > 0:
        fix = ("beta=1.0; beta is where the line begins.", "beta=1.0 などとしてください。直線に変わる位置です。")
        raise error("TG-A001", op="smooth_l1_loss", argument="beta", value=beta, rule="beta >= 0", fix=fix)
    return reduced(_smooth_l1(input, target, beta), reduction)
