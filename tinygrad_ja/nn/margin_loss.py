"""Losses with a margin, and of vectors and their distances, as modules. The formulas stand in ``ops/margin_loss.py``."""

from __future__ import annotations

from collections.abc import Callable

from ..core.tensor import Tensor
from ..ops import margin_loss
from .distance import PairwiseDistance
from .loss import Loss, WeightedLoss


class HingeEmbeddingLoss(Loss):
    """x where d = 1, max(margin - x, 0) where d = -1, for distances x.

    >>> import tinygrad_ja as tg
    >>> tg.nn.HingeEmbeddingLoss(reduction="none")(tg.tensor([0.5, 0.25]), tg.tensor([1, -1]))
    tensor([0.5 , 0.75])
    """

    def __init__(
        self,
        margin: float = 1.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input: distances; target: 1 or -1, of the same shape."""
        return margin_loss.hinge_embedding_loss(input, target, margin=self.margin, reduction=self.reduction)


class SoftMarginLoss(Loss):
    """log(1 + exp(-d x)) for d = 1 or -1."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input: scores; target: 1 or -1, of the same shape."""
        return margin_loss.soft_margin_loss(input, target, reduction=self.reduction)


class MarginRankingLoss(Loss):
    """max(margin - d (x₁ - x₂), 0): which of two shall be the larger."""

    def __init__(
        self,
        margin: float = 0.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        """input1, input2: scores; target: 1 where input1 shall be the larger, else -1; all of the same shape."""
        return margin_loss.margin_ranking_loss(input1, input2, target, margin=self.margin, reduction=self.reduction)


class CosineEmbeddingLoss(Loss):
    """1 - cos(x₁, x₂) where d = 1, max(cos(x₁, x₂) - margin, 0) where d = -1."""

    def __init__(
        self,
        margin: float = 0.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        """input1, input2: (N, D) or (D); target: 1 or -1, (N) or ()."""
        return margin_loss.cosine_embedding_loss(input1, input2, target, margin=self.margin, reduction=self.reduction)


class TripletMarginLoss(Loss):
    """max(d(a, p) - d(a, n) + margin, 0) with the distance of the p-norm.

    >>> import tinygrad_ja as tg
    >>> loss = tg.nn.TripletMarginLoss(margin=2.0)
    >>> loss(tg.tensor([[0.0, 0.0]]), tg.tensor([[3.0, 4.0]]), tg.tensor([[0.0, 2.0]]))
    tensor(5.)
    """

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        margin_loss.need_margin(type(self).__name__, margin)
        self.margin, self.p, self.eps, self.swap = margin, p, eps, swap

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """anchor, positive, negative: (N, D) or (D)."""
        return margin_loss.triplet_margin_loss(
            anchor,
            positive,
            negative,
            margin=self.margin,
            p=self.p,
            eps=self.eps,
            swap=self.swap,
            reduction=self.reduction,
        )


class TripletMarginWithDistanceLoss(Loss):
    """``TripletMarginLoss`` with any distance, a function or a module of two tensors; by default the Euclidean one."""

    def __init__(
        self,
        *,
        distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        margin_loss.need_margin(type(self).__name__, margin)
        self.distance_function = PairwiseDistance() if distance_function is None else distance_function
        self.margin, self.swap = margin, swap

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """anchor, positive, negative: whatever the distance takes."""
        return margin_loss.triplet_margin_with_distance_loss(
            anchor,
            positive,
            negative,
            distance_function=self.distance_function,
            margin=self.margin,
            swap=self.swap,
            reduction=self.reduction,
        )


class MultiMarginLoss(WeightedLoss):
    """Sum over the wrong classes c of max(margin - x[d] + x[c], 0)^p / C. weight: (C,), a factor per right class."""

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        margin_loss.need_p(type(self).__name__, p)
        self.p, self.margin = p, margin

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input: scores (N, C) or (C); target: class indices (N) or ()."""
        return margin_loss.multi_margin_loss(
            input, target, p=self.p, margin=self.margin, weight=self.weight, reduction=self.reduction
        )


class MultiLabelMarginLoss(Loss):
    """Sum over the right classes d and the wrong ones c of max(1 - x[d] + x[c], 0) / C."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input: scores (N, C) or (C); target: indices of the right classes, then -1, of the same shape."""
        return margin_loss.multilabel_margin_loss(input, target, reduction=self.reduction)


class MultiLabelSoftMarginLoss(WeightedLoss):
    """Mean over the classes of the binary cross entropies of σ(x). weight: (C,), a factor per class."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input: scores (N, C); target: numbers in [0, 1] of the same shape."""
        return margin_loss.multilabel_soft_margin_loss(input, target, weight=self.weight, reduction=self.reduction)
