"""Losses as modules. ``reduction``: "mean", "sum" or "none" (a loss per element)."""

from __future__ import annotations

from ..core.tensor import Tensor
from ..errors import error
from ..ops import loss
from .module import Module


class _Loss(Module):
    def __init__(self, reduction: str) -> None:
        super().__init__()
        if reduction not in loss.REDUCTIONS:
            rule = ("'mean', 'sum' or 'none'", "'mean'、'sum'、'none' のどれか")
            kind = type(self).__name__
            raise error(
                "TG-A001",
                op=kind,
                argument="reduction",
                value=repr(reduction),
                rule=rule,
                fix=("reduction='mean'.", "reduction='mean' などとしてください。"),
            )
        self.reduction = reduction


class MSELoss(_Loss):
    """(x - d)²."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input, target: the same shape."""
        return loss.mse_loss(input, target, reduction=self.reduction)


class L1Loss(_Loss):
    """|x - d|."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input, target: the same shape."""
        return loss.l1_loss(input, target, reduction=self.reduction)


class CrossEntropyLoss(_Loss):
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
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
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


class NLLLoss(_Loss):
    """-x[d]: classes from log-probabilities. weight, ignore_index: as in CrossEntropyLoss."""

    def __init__(self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input: log-probabilities (C,), (N, C) or (N, C, ...); target: class indices (), (N,) or (N, ...)."""
        return loss.nll_loss(input, target, weight=self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class BCELoss(_Loss):
    """-d log x - (1 - d) log(1 - x): two classes from probabilities. weight: a factor per element, broadcast."""

    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input: probabilities; target: numbers in [0, 1] of the same shape."""
        return loss.binary_cross_entropy(input, target, weight=self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_Loss):
    """``BCELoss`` of σ(x), without its overflow. pos_weight: a factor of the term with d, broadcast."""

    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean", pos_weight: Tensor | None = None) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input: any numbers; target: numbers in [0, 1] of the same shape."""
        return loss.binary_cross_entropy_with_logits(
            input, target, weight=self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )
