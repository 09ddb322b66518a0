"""Losses that ask for a margin: between a score and a bound, between the scores of two inputs or classes, or between distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES
from ..core.promotion import autocasts
from ..errors import error, joined
from .activation import logsigmoid, relu
from .comparison import _where, keep
from .distance import pairwise_distance
from .loss import check_classes, need_shape, raw, reduced, reduction_of
from .piecewise import clamp_min, minimum
from .reduce import mean, sum
from .selection import gather
from .shape import reshape, unsqueeze

__all__ = [
    "cosine_embedding_loss",
    "hinge_embedding_loss",
    "margin_ranking_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]


def _need_equal_ndim(op: str, *inputs: Any) -> None:
    if len({x.ndim for x in inputs}) > 1:
        rule = ("all inputs have the same number of axes", "すべての入力の次元数が同じ")
        fix = ("reshape or unsqueeze them.", "reshape か unsqueeze でそろえてください。")
        raise error("TG-S002", op=op, rule=rule, shapes=joined([tuple(x.shape) for x in inputs]), fix=fix)


# ---- a score and a label of 1 or -1 --------------------------------------------------------------


@autocasts("float32")
def hinge_embedding_loss(
    input: Any,
    target: Any,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Of distances: x where ``target`` is 1, max(margin - x, 0) where it is -1; shapes broadcast.

    dx = 1 for a target of 1; for -1 it is -1 where x <= margin, else 0.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.hinge_embedding_loss(tg.tensor([0.5, 0.5, 2.0]), tg.tensor([1, -1, -1]), reduction="none")
    tensor([0.5, 0.5, 0. ])
    """
    reduction = reduction_of("hinge_embedding_loss", reduction, size_average, reduce)
    target = raw(target)
    apart = _where(target != 1, clamp_min(margin - input, 0.0), 0.0)
    return reduced(apart + _where(target != -1, input, 0.0), reduction)


@autocasts("float32")
def soft_margin_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """log(1 + exp(-t x)) for targets of 1 and -1, stable for any size of x; shapes broadcast. dx = -t σ(-t x).

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.soft_margin_loss(tg.tensor([0.0, -1000.0]), tg.tensor([1, 1]), reduction="none")
    tensor([6.9315e-01, 1.0000e+03])
    """
    reduction = reduction_of("soft_margin_loss", reduction, size_average, reduce)
    return reduced(-logsigmoid(input * target), reduction)


@autocasts("float32")
def margin_ranking_loss(
    input1: Any,
    input2: Any,
    target: Any,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """max(margin - t (x₁ - x₂), 0): a target of 1 wants x₁ to be the larger, -1 the smaller, by ``margin``. Shapes broadcast, but have
    the same number of axes (ShapeError).

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.margin_ranking_loss(tg.tensor([3.0]), tg.tensor([1.0]), tg.tensor([-1.0]))
    tensor(2.)
    """
    reduction = reduction_of("margin_ranking_loss", reduction, size_average, reduce)
    _need_equal_ndim("margin_ranking_loss", input1, input2, target)
    return reduced(clamp_min(-target * (input1 - input2) + margin, 0.0), reduction)


# ---- distances of vectors ------------------------------------------------------------------------


@autocasts("float32")
def cosine_embedding_loss(
    input1: Any,
    input2: Any,
    target: Any,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """1 - cos(x₁, x₂) where ``target`` is 1, max(cos(x₁, x₂) - margin, 0) where it is -1.

    inputs (N, D) with a target (N), or (D) with (). Raises ShapeError for others.

    >>> import tinygrad_ja as tg
    >>> x = tg.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> tg.nn.functional.cosine_embedding_loss(x, tg.tensor([[0.0, 2.0], [2.0, 0.0]]), tg.tensor([1, -1]), reduction="none")
    tensor([1., 1.])
    """
    reduction = reduction_of("cosine_embedding_loss", reduction, size_average, reduce)
    target = raw(target)
    dim = target.ndim
    if dim > 1 or not input1.ndim == input2.ndim == dim + 1:
        rule = ("inputs (N, D) with target (N), or (D) with ()", "入力 (N, D) と target (N)、または (D) と ()")
        shapes = joined([tuple(x.shape) for x in (input1, input2, target)])
        fix = ("reshape the target.", "target を reshape してください。")
        raise error("TG-S002", op="cosine_embedding_loss", rule=rule, shapes=shapes, fix=fix)
    squares = (sum(input1 * input1, dim) + 1e-12) * (sum(input2 * input2, dim) + 1e-12)
    cosine = sum(input1 * input2, dim) / squares**0.5
    alike = _where(target == 1, 1 - cosine, 0.0)
    return reduced(alike + _where(target == -1, clamp_min(cosine - margin, 0.0), 0.0), reduction)


def need_margin(op: str, margin: float) -> None:
    """Refuse a margin that is not positive."""
    if not margin > 0:
        raise error(
            "TG-A001",
            op=op,
            argument="margin",
            value=margin,
            rule="margin > 0",
            fix=("margin=1.0.", "margin=1.0 などとしてください。"),
        )


@autocasts("float32")
def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """max(d(a, p) - d(a, n) + margin, 0) with the distance ‖x - y + eps‖ₚ over the last axis; the anchor shall be closer to the
    positive than to the negative example.

    ``swap`` takes d(p, n) in place of d(a, n) where it is smaller (Balntas et al., 2016). Raises ShapeError for inputs of different
    numbers of axes and ArgumentError unless margin > 0.

    >>> import tinygrad_ja as tg
    >>> a, p, n = tg.tensor([[0.0, 0.0]]), tg.tensor([[3.0, 4.0]]), tg.tensor([[0.0, 2.0]])
    >>> tg.nn.functional.triplet_margin_loss(a, p, n)
    tensor(4.)
    """
    reduction = reduction_of("triplet_margin_loss", reduction, size_average, reduce)
    need_margin("triplet_margin_loss", margin)

    def distance(x: Any, y: Any) -> Any:
        return pairwise_distance(x, y, p, eps)

    return _triplet("triplet_margin_loss", anchor, positive, negative, distance, margin, swap, reduction)


def triplet_margin_with_distance_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    distance_function: Callable[[Any, Any], Any] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """``triplet_margin_loss`` with any distance: ``distance_function(x, y)``, by default the Euclidean one.

    >>> import tinygrad_ja as tg
    >>> a, p, n = tg.tensor([[0.0]]), tg.tensor([[3.0]]), tg.tensor([[2.0]])
    >>> tg.nn.functional.triplet_margin_with_distance_loss(a, p, n, distance_function=lambda x, y: ((x - y) ** 2).sum(-1))
    tensor(6.)
    """
    reduction = reduction_of("triplet_margin_with_distance_loss", reduction)
    need_margin("triplet_margin_with_distance_loss", margin)
    distance = distance_function or pairwise_distance
    return _triplet("triplet_margin_with_distance_loss", anchor, positive, negative, distance, margin, swap, reduction)


def _triplet(
    op: str,
    anchor: Any,
    positive: Any,
    negative: Any,
    distance: Callable[[Any, Any], Any],
    margin: float,
    swap: bool,
    reduction: str,
) -> Any:
    _need_equal_ndim(op, anchor, positive, negative)
    apart = distance(anchor, negative)
    if swap:
        apart = minimum(apart, distance(positive, negative))
    return reduced(clamp_min(margin + distance(anchor, positive) - apart, 0.0), reduction)


# ---- scores of classes ---------------------------------------------------------------------------


def need_p(op: str, p: int) -> None:
    """Refuse a power other than 1 and 2."""
    if p not in (1, 2):
        rule, fix = ("p is 1 or 2", "p は 1 か 2"), ("p=1.", "p=1 としてください。")
        raise error("TG-A001", op=op, argument="p", value=p, rule=rule, fix=fix)


@autocasts("float32")
def multi_margin_loss(
    input: Any,
    target: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Sum over the wrong classes c of max(margin - x_t + x_c, 0)^p / C: the right class t shall win by ``margin``.

    input (N, C) with a target of class indices (N), or (C) with () or (1); p 1 or 2; weight (C): a factor per right class. Raises
    ShapeError, ArgumentError for another p, and AxisError for a class out of range (on the CPU).

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.multi_margin_loss(tg.tensor([[0.0, 2.0, 1.5]]), tg.tensor([1]), reduction="none")
    tensor([0.1667])
    """
    reduction = reduction_of("multi_margin_loss", reduction, size_average, reduce)
    need_p("multi_margin_loss", p)
    target, weight = raw(target), raw(weight)
    classes = _class_count("multi_margin_loss", input, target, target.size == (input.shape[0] if input.ndim > 1 else 1))
    _check("multi_margin_loss", target, classes, None, input)
    if weight is not None:
        need_shape("multi_margin_loss", (classes,), weight, ("weight (C)", "weight は (C)"), input)
    xp = ARRAY_MODULES[type(target)]
    index = target.reshape(-1, 1)
    scores = reshape(input, (-1, classes))
    hinge = relu(margin - gather(scores, 1, index) + scores)
    if p == 2:
        hinge = hinge * hinge
    loss = sum(keep(hinge, xp.arange(classes) != index), 1) / classes
    if weight is not None:
        loss = loss * weight[target.reshape(-1)]
    return reduced(reshape(loss, tuple(target.shape)), reduction)


@autocasts("float32")
def multilabel_margin_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Sum over the right classes t and the wrong ones c of max(1 - x_t + x_c, 0) / C.

    input (N, C) or (C), target of the same shape: the indices of the right classes, then -1; what follows a -1 is not looked at.
    Raises ShapeError, and AxisError for a class out of range (on the CPU).

    >>> import tinygrad_ja as tg
    >>> x, t = tg.tensor([0.1, 0.2, 0.4, 0.8]), tg.tensor([3, 0, -1, 1])
    >>> tg.nn.functional.multilabel_margin_loss(x, t)
    tensor(0.85)
    """
    reduction = reduction_of("multilabel_margin_loss", reduction, size_average, reduce)
    target = raw(target)
    classes = _class_count("multilabel_margin_loss", input, target, tuple(target.shape) == tuple(input.shape))
    _check("multilabel_margin_loss", target, classes, -1, input)
    xp = ARRAY_MODULES[type(target)]
    index = target.reshape(-1, classes)
    given = xp.cumsum(index < 0, 1) == 0
    if xp is np:  # on a GPU looking for the longest row would wait for the device
        longest = int(given.sum(1).max(initial=0))
        index, given = index[:, :longest], given[:, :longest]
    right = ((index[:, :, None] == xp.arange(classes)) & given[:, :, None]).any(1)
    scores = reshape(input, (-1, classes))
    wanted = gather(scores, 1, xp.where(given, index, xp.zeros_like(index)))
    hinge = relu(1 - unsqueeze(wanted, 2) + unsqueeze(scores, 1))
    loss = sum(keep(hinge, given[:, :, None] & ~right[:, None, :]), (1, 2)) / classes
    return reduced(reshape(loss, tuple(target.shape[:-1])), reduction)


def _check(op: str, target: Any, classes: int, allowed: int | None, input: Any) -> None:
    """Refuse class indices out of range but for one that is ``allowed`` (seen on the CPU only)."""
    if type(target) is np.ndarray:
        check_classes(op, target, classes, allowed, tuple(input.shape))


def _class_count(op: str, input: Any, target: Any, fit: bool) -> int:
    """C of input (N, C) or (C); refuse others, C = 0, and a target that does not ``fit``."""
    if not fit or input.ndim > 2 or 0 in input.shape[-1:]:
        rule = (
            "input (N, C) or (C), C > 0, and a target for each of its rows",
            "input は (N, C) か (C) (C > 0) で、target は各行に対応すること",
        )
        fix = ("see help() for the target's shape.", "target の形状は help() で確かめてください。")
        raise error("TG-S002", op=op, rule=rule, shapes=joined([tuple(input.shape), tuple(target.shape)]), fix=fix)
    return input.shape[-1] if input.ndim else 1


def multilabel_soft_margin_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Mean over the classes, the last axis, of the binary cross entropies -t log σ(x) - (1 - t) log σ(-x).

    target: numbers in [0, 1]; weight: a factor per class, broadcast. Shapes broadcast. dx = (σ(x) - t) / C.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.multilabel_soft_margin_loss(tg.tensor([[0.0, 0.0]]), tg.tensor([[1.0, 0.0]]))
    tensor(0.6931)
    """
    reduction = reduction_of("multilabel_soft_margin_loss", reduction, size_average, reduce)
    if not input.ndim:
        _class_count("multilabel_soft_margin_loss", input, target, False)
    loss = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    return reduced(mean(loss if weight is None else loss * weight, -1), reduction)
