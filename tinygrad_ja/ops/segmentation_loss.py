"""Losses for classes of very different size: focal losses, and the Dice coefficient of regions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES
from ..errors import Phrase, error
from .exponential import expm1, sigmoid
from .loss import (
    binary_cross_entropy_with_logits,
    check_classes,
    class_scales,
    cross_entropy,
    mean_by_weight,
    need_shape,
    raw,
    reduced,
    reduction_of,
)
from .piecewise import clamp_min
from .reduce import sum
from .shape import flatten

__all__ = ["dice_loss", "focal_loss", "sigmoid_focal_loss"]


def _need_value(op: str, argument: str, value: float, fit: bool, rule: Phrase, fix: Phrase) -> None:
    if not fit:
        raise error("TG-A001", op=op, argument=argument, value=value, rule=rule, fix=fix)


def _focus(missing: Any, gamma: float) -> Any:
    """missing^gamma for the probability that is missing from the right answer; its slope at 0 is 0 for a gamma below 1, too."""
    return clamp_min(missing, float(np.finfo(missing.dtype).tiny)) ** gamma


def focal_loss(
    input: Any,
    target: Any,
    gamma: float = 2.0,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Any:
    """-(1 - p_t)^gamma log p_t for the softmax p of logits: what is classified well counts less.

    Arguments as for ``cross_entropy`` with class indices, which it is for gamma 0; ``weight`` (C) is the α of the paper. Raises ArgumentError
    for a negative gamma. Source: Lin, Goyal, Girshick, He and Dollár, 2017, "Focal loss for dense object detection".

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.focal_loss(tg.tensor([[0.0, 0.0]]), tg.tensor([1]))  # (1/2)² log 2
    tensor(0.1733)
    """
    reduction = reduction_of("focal_loss", reduction)
    _need_value("focal_loss", "gamma", gamma, gamma >= 0, "gamma >= 0", ("gamma=2.0.", "gamma=2.0 などとしてください。"))
    lost = cross_entropy(input, target, ignore_index=ignore_index, reduction="none")
    target, weight = raw(target), raw(weight)
    xp = ARRAY_MODULES[type(target)]
    _, scale, _ = class_scales(xp, target, weight, ignore_index, lost.dtype)
    loss = _focus(-expm1(-lost), gamma) * lost * scale
    return mean_by_weight(xp, sum(loss), scale) if reduction == "mean" else reduced(loss, reduction)


def sigmoid_focal_loss(inputs: Any, targets: Any, alpha: float = 0.25, gamma: float = 2, reduction: str = "none") -> Any:
    """Focal loss of independent yes-or-no logits, as ``torchvision.ops.sigmoid_focal_loss``: α_t (1 - p_t)^gamma times the binary cross
    entropy, where α_t is ``alpha`` for the target 1 and 1 - alpha for 0; no factor for alpha -1.

    inputs, targets: the same shape, targets in [0, 1]. Raises ShapeError, and ArgumentError for other alphas or a negative gamma.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.sigmoid_focal_loss(tg.tensor([0.0]), tg.tensor([1.0]))  # 1/4 (1/2)² log 2
    tensor([0.0433])
    """
    reduction = reduction_of("sigmoid_focal_loss", reduction)
    rule = ("0 <= alpha <= 1, or -1 for none", "0 <= alpha <= 1、または使わないなら -1")
    fix = ("alpha=0.25.", "alpha=0.25 などとしてください。")
    _need_value("sigmoid_focal_loss", "alpha", alpha, 0 <= alpha <= 1 or alpha == -1, rule, fix)
    fix = ("gamma=2.", "gamma=2 などとしてください。")
    _need_value("sigmoid_focal_loss", "gamma", gamma, gamma >= 0, "gamma >= 0", fix)
    loss = binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    loss = _focus(sigmoid(-inputs) * targets + sigmoid(inputs) * (1 - targets), gamma) * loss
    if alpha >= 0:
        loss = (alpha * targets + (1 - alpha) * (1 - targets)) * loss
    return reduced(loss, reduction)


def dice_loss(input: Any, target: Any, smooth: float = 1.0, reduction: str = "mean") -> Any:
    """1 - (2 Σ p t + smooth) / (Σ p + Σ t + smooth), the sums over the pixels of each sample and class: one minus the soft Dice coefficient.

    input: probabilities (N, C, d1, ...), for instance of ``softmax`` or ``sigmoid``; target: the same shape with numbers in [0, 1], or class
    indices (N, d1, ...). ``smooth`` > 0 makes the loss of a class that is neither there nor predicted 0. "none" gives (N, C). Raises
    ShapeError, and AxisError for a class out of range (on the CPU).

    Source: Milletari, Navab and Ahmadi, 2016, "V-Net" (there with squares in the denominator).

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.dice_loss(tg.tensor([[[0.5, 1.0], [0.5, 0.0]]]), tg.tensor([[0, 0]]), reduction="none")
    tensor([[0.1111, 0.3333]])
    """
    reduction = reduction_of("dice_loss", reduction)
    if input.ndim < 3 or target.dtype.kind == "f":
        rule = ("input (N, C, d1, ...) with a target of its shape, or of class indices (N, d1, ...)",) * 2
        need_shape("dice_loss", input.shape if input.ndim > 2 else (0, 0, 0), target, rule, input)
    else:
        target = _one_hot(input, raw(target))
    p, t = flatten(input, 2), flatten(target, 2)
    return reduced(1 - (2 * sum(p * t, 2) + smooth) / (sum(p, 2) + sum(t, 2) + smooth), reduction)


def _one_hot(input: Any, target: Any) -> Any:
    """Class indices (N, d1, ...) as zeros and ones (N, C, d1, ...)."""
    shape = tuple(input.shape)
    rule = ("class indices (N, d1, ...)", "クラスの番号 (N, d1, ...)")
    need_shape("dice_loss", (shape[0], *shape[2:]), target, rule, input)
    if type(target) is np.ndarray:
        check_classes("dice_loss", target, shape[1], None, shape)
    classes = ARRAY_MODULES[type(target)].arange(shape[1]).reshape(-1, *[1] * (len(shape) - 2))
    return (target[:, None] == classes).astype(input.dtype)
