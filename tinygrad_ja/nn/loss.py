"""Losses of numbers, classes and sequences as modules. ``reduction``: "mean", "sum" or "none" (a loss per element); ``size_average``
and ``reduce`` are its older names."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.tensor import Tensor
from ..ops import ctc, loss, regression_loss
from .module import Module


class Loss(Module):
    """What all losses share: a checked ``reduction``."""

    def __init__(self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = loss.reduction_of(type(self).__name__, reduction, size_average, reduce)


class WeightedLoss(Loss):
    """A loss with a ``weight`` that is part of its state."""

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)


class MSELoss(Loss):
    """(x - d)²."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input, target: the same shape."""
        return regression_loss.mse_loss(input, target, reduction=self.reduction)


class L1Loss(Loss):
    """|x - d|."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input, target: the same shape."""
        return regression_loss.l1_loss(input, target, reduction=self.reduction)


class SmoothL1Loss(Loss):
    """(x - d)² / (2 beta) where |x - d| < beta, else |x - d| - beta / 2.

    >>> import tinygrad_ja as tg
    >>> tg.nn.SmoothL1Loss(reduction="none")(tg.tensor([1.0, 3.0]), tg.tensor([1.0, 1.0]))
    tensor([0. , 1.5])
    """

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        beta: float = 1.0,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.beta = beta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input, target: the same shape."""
        return regression_loss.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class HuberLoss(Loss):
    """(x - d)² / 2 where |x - d| <= delta, else delta (|x - d| - delta / 2).

    >>> import tinygrad_ja as tg
    >>> tg.nn.HuberLoss(reduction="none", delta=2.0)(tg.tensor([2.0, 5.0]), tg.tensor([1.0, 1.0]))
    tensor([0.5, 6. ])
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        self.delta = delta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input, target: the same shape."""
        return regression_loss.huber_loss(input, target, reduction=self.reduction, delta=self.delta)


class CrossEntropyLoss(WeightedLoss):
    """-log softmax(x)[d]: classes from scores.

    weight: (C,), a factor per class. ignore_index: a class whose elements do not count. label_smoothing: the share of the target that is
    spread over all classes.

    >>> import tinygrad_ja as tg
    >>> loss = tg.nn.CrossEntropyLoss()(tg.zeros(1, 4), tg.tensor([2]))
    >>> round(loss.item(), 4)  # log 4
    1.3863
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input: scores (C,), (N, C) or (N, C, ...); target: class indices (), (N,) or (N, ...), or probabilities like ``input``."""
        return loss.cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(WeightedLoss):
    """-x[d]: classes from log-probabilities. weight, ignore_index: as in CrossEntropyLoss."""

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input: log-probabilities (C,), (N, C) or (N, C, ...); target: class indices (), (N,) or (N, ...)."""
        return loss.nll_loss(input, target, weight=self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class BCELoss(WeightedLoss):
    """-d log x - (1 - d) log(1 - x): two classes from probabilities. weight: a factor per element, broadcast."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input: probabilities; target: numbers in [0, 1] of the same shape."""
        return loss.binary_cross_entropy(input, target, weight=self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(WeightedLoss):
    """``BCELoss`` of σ(x), without its overflow. pos_weight: a factor of the term with d, broadcast."""

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input: any numbers; target: numbers in [0, 1] of the same shape."""
        return loss.binary_cross_entropy_with_logits(
            input, target, weight=self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


class CTCLoss(Loss):
    """-log of the sum of the probabilities of all alignments of a label sequence (connectionist temporal classification).

    blank: the class that stands for no label. zero_infinity: a target that its input is too short for costs 0 instead of infinity.

    >>> import tinygrad_ja as tg
    >>> x = tg.zeros(4, 2, 3).log_softmax(-1)  # 4 steps, 2 sequences, 3 classes
    >>> tg.nn.CTCLoss(reduction="none")(x, tg.tensor([[1, 2], [2, 0]]), (4, 3), (2, 1))
    tensor([1.6864, 1.5041])
    """

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        super().__init__(reduction=reduction)
        self.blank, self.zero_infinity = blank, zero_infinity

    def forward(
        self,
        log_probs: Tensor,
        targets: Tensor,
        input_lengths: Tensor | Sequence[int] | int,
        target_lengths: Tensor | Sequence[int] | int,
    ) -> Tensor:
        """log_probs: (T, N, C) or (T, C); targets: (N, S), or all in one axis; the lengths of both: N integers."""
        return ctc.ctc_loss(log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction, self.zero_infinity)
