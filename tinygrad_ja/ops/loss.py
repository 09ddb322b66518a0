"""Losses of probabilities and classes, and what all losses share. Weights, ignored classes, label smoothing and reductions follow
PyTorch's rules exactly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES
from ..core.operator import Array, Constant, Point, fused, primitive
from ..core.promotion import autocasts
from ..errors import Phrase, error, joined
from .activation import logsigmoid
from .conversion import _cast
from .exponential import log, log1p, sigmoid
from .piecewise import clamp_min
from .reduce import mean, sum
from .selection import gather
from .shape import reshape, squeeze
from .softmax import log_softmax

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "nll_loss",
]

# ---- reductions ----------------------------------------------------------------------------------

REDUCTIONS = ("mean", "sum", "none")


def reduced(loss: Any, reduction: str) -> Any:
    """The loss of each element ("none"), or their "mean" or "sum"."""
    return mean(loss) if reduction == "mean" else sum(loss) if reduction == "sum" else loss


def reduction_of(op: str, reduction: str, size_average: bool | None = None, reduce: bool | None = None) -> str:
    """The reduction by its name, or by PyTorch's two older arguments where one of them is given. Raises ArgumentError for others."""
    for name, value in (("size_average", size_average), ("reduce", reduce)):
        if value is not None and not isinstance(value, bool):
            rule = ("True, False or None", "True、False、None のどれか")
            fix = ("pass reduction='mean' by its name.", "reduction='mean' のように名前で渡してください。")
            raise error("TG-A001", op=op, argument=name, value=repr(value), rule=rule, fix=fix)
    if size_average is not None or reduce is not None:
        return "none" if reduce is False else "sum" if size_average is False else "mean"
    if reduction not in REDUCTIONS:
        rule = ("'mean', 'sum' or 'none'", "'mean'、'sum'、'none' のどれか")
        fix = ("reduction='mean'.", "reduction='mean' などとしてください。")
        raise error("TG-A001", op=op, argument="reduction", value=repr(reduction), rule=rule, fix=fix)
    return reduction


def need_shape(op: str, expected: tuple[int, ...], given: Any, rule: Phrase, *others: Any) -> None:
    """Refuse an array whose shape is not ``expected``. ``others`` are shown with it."""
    if tuple(given.shape) != tuple(expected):
        shapes = joined([tuple(x.shape) for x in (*others, given)])
        fix = (f"reshape it to {tuple(expected)}.", f"{tuple(expected)} に reshape してください。")
        raise error("TG-S002", op=op, rule=rule, shapes=shapes, fix=fix)


SAME_SHAPE = ("target has the shape of input", "target は input と同じ形状")


# ---- binary cross entropy ------------------------------------------------------------------------


def _bce_probability(g: Any, input: Any, target: Any) -> Any:
    return g * (input - target) / clamp_min((1 - input) * input, 1e-12)


def _bce_target(g: Any, input: Any) -> Any:
    return g * (clamp_min(log1p(-input), -100.0) - clamp_min(log(input), -100.0))


def _same_case(low: float, high: float) -> Any:
    def case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        shape = pick.shape()
        return (pick.array(shape, low, high), pick.array(shape, 0.0, 1.0)), {}

    return case


@primitive(
    _bce_probability,
    _bce_target,
    cases=_same_case(0.1, 0.9),
    points=[Point((0.0, 1.0), (-1e12, 100.0)), Point((1.0, 0.0), (1e12, -100.0))],
)
def _bce(xp: Any, input: Array, target: Array) -> Array:
    """-(t log p + (1 - t) log(1 - p)) with logarithms not below -100."""
    one = _log_from_minus_hundred(xp, xp.log, input, input == 0)
    other = _log_from_minus_hundred(xp, xp.log1p, -input, input == 1)
    return (target - 1) * other - target * one


def _log_from_minus_hundred(xp: Any, log: Any, x: Any, infinite: Any) -> Any:
    """Logarithm, not below -100; it is not taken where it would be infinite, so nothing warns."""
    return xp.where(infinite, -100.0, xp.maximum(log(xp.where(infinite, 0.5, x)), -100.0))


def binary_cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Cross entropy of probabilities ``input`` and targets in [0, 1]; logarithms are not taken below -100.

    dp = (p - t) / (p (1 - p)). Raises ShapeError, and ArgumentError for numbers outside of [0, 1] (on the CPU).
    """
    reduction = reduction_of("binary_cross_entropy", reduction, size_average, reduce)
    need_shape("binary_cross_entropy", input.shape, target, SAME_SHAPE, input)
    _need_probabilities("input", raw(input))
    _need_probabilities("target", raw(target))
    loss = _bce(input, target)
    return reduced(loss if weight is None else loss * weight, reduction)


def _need_probabilities(name: str, x: Any) -> None:
    if type(x) is np.ndarray and x.size and not (x.min() >= 0 and x.max() <= 1):  # NaN is refused, too
        fix = (
            "take binary_cross_entropy_with_logits for logits.",
            "ロジットには binary_cross_entropy_with_logits を使ってください。",
        )
        value, rule = f"{x.min()} ... {x.max()}", ("numbers from 0 to 1", "0 以上 1 以下の数")
        raise error("TG-A001", op="binary_cross_entropy", argument=name, value=value, rule=rule, fix=fix)


@primitive(lambda g, input, target: g * (sigmoid(input) - target), lambda g, input: -g * input, cases=_same_case(-3.0, 3.0))
def _bce_logits(xp: Any, input: Array, target: Array) -> Array:
    """max(x, 0) - x t + log(1 + exp(-|x|)), the binary cross entropy of sigmoid(x); dx = sigmoid(x) - t."""
    return xp.maximum(input, 0) - input * target + xp.log1p(xp.exp(-xp.abs(input)))


def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Any:
    """Binary cross entropy of sigmoid(``input``), stable for any size. ``pos_weight`` multiplies the part of the positive targets.

    dx = sigmoid(x) - t.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.binary_cross_entropy_with_logits(tg.tensor([1000.0]), tg.tensor([1.0]))
    tensor(0.)
    """
    reduction = reduction_of("binary_cross_entropy_with_logits", reduction, size_average, reduce)
    need_shape("binary_cross_entropy_with_logits", input.shape, target, SAME_SHAPE, input)
    if pos_weight is None:
        loss = _bce_logits(input, target)
    else:
        loss = (1 - target) * input - ((pos_weight - 1) * target + 1) * logsigmoid(input)
    return reduced(loss if weight is None else loss * weight, reduction)


# ---- classes -------------------------------------------------------------------------------------


def _class_axis(input: Any) -> int:
    return 0 if input.ndim == 1 else 1


def _classes(input: Any, target: Any, op: str) -> None:
    """Refuse a target whose shape is not the input's without the class axis."""
    expected = tuple(input.shape[:1] + input.shape[2:]) if input.ndim > 1 else ()
    if not input.ndim or tuple(target.shape) != expected:
        shapes = joined((tuple(input.shape), tuple(target.shape)))
        rule = (
            "input (N, C) with target (N), (N, C, d1, ...) with (N, d1, ...), or (C) with ()",
            "input (N, C) と target (N)、(N, C, d1, ...) と (N, d1, ...)、または (C) と ()",
        )
        raise error(
            "TG-S002",
            op=op,
            rule=rule,
            shapes=shapes,
            fix=(f"give a target of shape {expected}.", f"形状 {expected} の target を渡してください。"),
        )


def _need_weight(op: str, input: Any, weight: Any) -> None:
    if weight is not None:
        classes = (input.shape[_class_axis(input)],) if input.ndim else (1,)
        need_shape(op, classes, weight, ("weight (C)", "weight は (C)"), input)


def check_classes(op: str, target: np.ndarray, classes: int, ignore_index: int | None, shape: tuple[int, ...]) -> bool:
    """Refuse class indices out of range, unless they are ``ignore_index``. Returns whether some are."""
    if not target.size:
        return False
    low, high = target.item(target.argmin()), target.item(target.argmax())
    ignored = ignore_index is not None and low <= ignore_index <= high
    if 0 <= low and high < classes:
        return ignored
    wrong = target[(target != ignore_index) & ((target < 0) | (target >= classes))]
    if wrong.size:
        raise error("TG-I002", op=op, index=wrong.flat[0], size=classes, first=0, last=classes - 1, shape=shape)
    return ignored


def class_scales(xp: Any, target: Any, weight: Any, ignore_index: int, dtype: Any) -> tuple[Any, Any, Any]:
    """Class indices with the ignored ones as 0; the weight of each, 0 for an ignored one; and 1 or 0 for whether it counts."""
    counts = target != ignore_index
    safe = xp.where(counts, target, xp.zeros_like(target))
    valid = counts.astype(dtype)
    return safe, valid if weight is None else valid * xp.take(weight, safe), valid


def mean_by_weight(xp: Any, total: Any, scale: Any) -> Any:
    """Total over the sum of the weights. Where nothing counts the value is NaN, but its derivative 0."""
    count = xp.sum(scale)
    nothing = count == 0
    return total / (count + nothing) + xp.where(nothing, xp.nan, 0.0).astype(scale.dtype)


def raw(value: Any) -> Any:
    """The array of a Tensor; an array as it is."""
    return getattr(value, "array", value)


def _picked(log_probabilities: Any, safe: Any) -> Any:
    """The element of each target's class."""
    axis = _class_axis(log_probabilities)
    index = ARRAY_MODULES[type(safe)].expand_dims(safe, axis)
    return squeeze(gather(log_probabilities, axis, index), axis)


def _class_losses(log_probabilities: Any, target: Any, weight: Any, ignore_index: int, reduction: str, smoothing: float) -> Any:
    """The loss of classes from log-probabilities in plain operators, float16 by way of float32."""
    dtype = log_probabilities.dtype
    if dtype.itemsize < 4:
        wide = _cast(log_probabilities, np.dtype(np.float32))
        return _cast(_class_losses(wide, target, weight, ignore_index, reduction, smoothing), dtype)
    target, weight = raw(target), raw(weight)
    xp = ARRAY_MODULES[type(target)]
    safe, scale, valid = class_scales(xp, target, weight, ignore_index, dtype)
    loss = -_picked(log_probabilities, safe) * scale
    if smoothing:
        axis = _class_axis(log_probabilities)
        weighted = log_probabilities
        if weight is not None:
            weighted = weighted * weight.reshape((-1,) + (1,) * (log_probabilities.ndim - 1 - axis))
        loss = loss * (1 - smoothing) - sum(weighted, axis) * valid * (smoothing / log_probabilities.shape[axis])
    if reduction == "mean":
        return mean_by_weight(xp, sum(loss), scale)
    return reduced(loss, reduction)


@autocasts("float32")
def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Negative log-likelihood: minus the log-probability of each target's class, times that class's weight.

    input (N, C), (N, C, d1, ...) or (C); target of class indices without the class axis. "mean" divides by the sum of the weights.
    Raises AxisError for a class out of range (on the CPU).
    """
    reduction = reduction_of("nll_loss", reduction, size_average, reduce)
    _classes(input, target, "nll_loss")
    _need_weight("nll_loss", input, weight)
    indices = raw(target)
    if type(indices) is np.ndarray:
        check_classes("nll_loss", indices, input.shape[_class_axis(input)], ignore_index, tuple(input.shape))
    return _class_losses(input, indices, weight, ignore_index, reduction, 0.0)


def _as_rows(xp: Any, x: Any) -> Any:
    """(N, C, d1, ...) as (N d1 ..., C)."""
    if x.ndim == 2:
        return x
    if x.ndim == 1:
        return x.reshape(1, -1)
    return xp.moveaxis(x, 1, -1).reshape(-1, x.shape[1])


def _from_rows(xp: Any, rows: Any, shape: tuple[int, ...]) -> Any:
    if len(shape) <= 2:
        return rows.reshape(shape)
    return xp.moveaxis(rows.reshape(shape[:1] + shape[2:] + shape[1:2]), -1, 1)


def _cross_entropy_backward(
    xp: Any,
    g: Any,
    input: Any,
    weight: Any,
    reduction: str,
    label_smoothing: float,
    numerators: Any,
    totals: Any,
    scale: Any,
    valid: Any,
    position: Any,
) -> tuple[Any]:
    # per row: dx = softmax (A + B sum(w)) - A onehot - B w,  A = (1 - smoothing) w_target g,  B = smoothing / C g
    rows, classes = numerators.shape
    if reduction == "none":
        g = g.reshape(-1, 1)
    elif reduction == "mean":
        count = rows if scale is None else xp.sum(scale)
        g = g / (count + (count == 0))  # where nothing counts the loss is NaN, but the gradient 0: the weights survive
    strength = g if scale is None else g * scale[:, None]
    if not label_smoothing:
        made = numerators * (strength / totals)
    else:
        strength = strength * (1 - label_smoothing)
        smooth = g * (label_smoothing / classes)
        if valid is not None:
            smooth = smooth * valid[:, None]
        made = numerators * ((strength + smooth * (classes if weight is None else xp.sum(weight))) / totals)
        made -= smooth if weight is None else smooth * weight
    flat = made.reshape(-1)
    flat[position] -= strength.reshape(-1)
    return (_from_rows(xp, xp.asarray(made, input.dtype), input.shape),)


def _cross_entropy_case(pick: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    classes = pick.integer(1, 4)
    shape = pick.choice([(pick.integer(1, 4),), pick.shape(max_dims=3, min_side=1)])
    full = (*shape[:1], classes, *shape[1:])
    weight = pick.array((classes,), 0.5, 2.0) if pick.boolean() else None
    ignore = pick.choice([-100, 0]) if classes > 1 else -100
    target = pick.indices(shape, classes)
    if ignore == 0 and target.size:
        target.flat[0] = classes - 1
    smoothing = pick.choice([0.0, 0.0, 0.1])
    return (pick.array(full), target, weight, ignore, pick.choice(REDUCTIONS), smoothing), {}


def _cross_entropy_reference(
    input: Any, target: Any, weight: Any, ignore_index: int, reduction: str, label_smoothing: float
) -> Any:
    log_probabilities = log_softmax(input, _class_axis(input))
    return _class_losses(log_probabilities, target, weight, ignore_index, reduction, label_smoothing)


@fused(
    _cross_entropy_backward,
    _cross_entropy_reference,
    points=[Point(([[1.0, 2.0]], np.array([-100])), ([[0.0, 0.0]],))],
    aux=("numerators", "totals", "scale", "valid", "position"),
    cases=_cross_entropy_case,
)
def _cross_entropy(
    xp: Any,
    input: Array,
    target: Constant,
    weight: Constant = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Cross entropy of class indices. Kept for the backward: exponentials and their row sums, the weights of the rows, whether
    they count (both None where all are 1), and the flat positions of the targets."""
    wide = xp.promote_types(input.dtype, xp.float32)
    x = xp.ascontiguousarray(_as_rows(xp, input).astype(wide, copy=False))
    flat = target.reshape(-1)
    safe, scale, valid = class_scales(xp, flat, weight, ignore_index, wide)
    shifted = x - xp.max(x, 1, None, True)
    numerators = xp.exp(shifted)
    totals = xp.sum(numerators, 1, None, None, True)
    log_totals = xp.log(totals)
    position = safe + xp.arange(x.shape[0]) * x.shape[1]
    loss = (log_totals[:, 0] - shifted.reshape(-1)[position]) * scale
    if label_smoothing:
        spread = log_totals - shifted
        spread = xp.sum(spread if weight is None else spread * weight, 1)
        loss = loss * (1 - label_smoothing) + spread * valid * (label_smoothing / x.shape[1])
    if reduction == "none":
        loss = loss.reshape(target.shape)
    else:
        loss = xp.sum(loss) if reduction == "sum" else mean_by_weight(xp, xp.sum(loss), scale)
    return loss.astype(input.dtype, copy=False), numerators, totals, scale, valid, position


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Cross entropy of logits: log_softmax and negative log-likelihood in one, as ``torch.nn.functional.cross_entropy``.

    input (N, C), (N, C, d1, ...) or (C); target: class indices without the class axis, or probabilities of the input's shape (these
    are differentiated too). ``weight`` (C): weight of each class. "mean" divides by the sum of the targets' weights; for
    probabilities by the number of rows. Raises AxisError for a class out of range (on the CPU).

    dx = (softmax(x) - onehot) / N.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.cross_entropy(tg.tensor([[0.0, 0.0]]), tg.tensor([1]))
    tensor(0.6931)
    """
    reduction = reduction_of("cross_entropy", reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        rule = ("between 0 and 1", "0 以上 1 以下")
        raise error(
            "TG-A001",
            op="cross_entropy",
            argument="label_smoothing",
            value=label_smoothing,
            rule=rule,
            fix=("0.1.", "0.1 などにしてください。"),
        )
    _need_weight("cross_entropy", input, weight)
    if target.dtype.kind == "f":
        if target.ndim == input.ndim - 1 != 0:
            allowed = (
                "int64 for classes, or probabilities of the input's shape",
                "クラスなら int64、確率なら input と同じ形状",
            )
            raise error("TG-T004", op="cross_entropy (target)", dtype=target.dtype, allowed=allowed, fix="tg.int64")
        if ignore_index >= 0:
            rule = ("below 0: probabilities have no index to ignore", "負の数 (確率には無視する番号がない)")
            fix = ("leave it out.", "指定しないでください。")
            raise error("TG-A001", op="cross_entropy", argument="ignore_index", value=ignore_index, rule=rule, fix=fix)
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    _classes(input, target, "cross_entropy")
    return _cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)


def _soft_cross_entropy(input: Any, target: Any, weight: Any, reduction: str, label_smoothing: float) -> Any:
    need_shape("cross_entropy", input.shape, target, ("probabilities of the input's shape", "input と同じ形状の確率"), input)
    if not input.ndim:
        fix = ("unsqueeze(0) both.", "どちらも unsqueeze(0) してください。")
        raise error(
            "TG-S002", op="cross_entropy", rule=("input has a class axis", "input にクラスの次元がある"), shapes="()", fix=fix
        )
    axis = _class_axis(input)
    classes = input.shape[axis]
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    scores = log_softmax(input, axis) * target
    if weight is not None:
        scores = scores * reshape(weight, (-1,) + (1,) * (input.ndim - 1 - axis))
    loss = -sum(scores, axis)
    if reduction == "mean":
        return sum(loss) / (math.prod(loss.shape) or math.nan)
    return reduced(loss, reduction)
