"""Losses of distributions as modules. The formulas stand in ``ops/distribution_loss.py``."""

from __future__ import annotations

from ..core.tensor import Tensor
from ..ops import distribution_loss
from .loss import Loss


class KLDivLoss(Loss):
    """Kullback-Leibler divergence d (log d - x) from log-probabilities x. ``reduction="batchmean"`` is that of the definition.

    >>> import tinygrad_ja as tg
    >>> loss = tg.nn.KLDivLoss(reduction="batchmean")
    >>> loss(tg.tensor([[0.5, 0.5]]).log(), tg.tensor([[1.0, 0.0]]))  # log 2
    tensor(0.6931)
    """

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        log_target: bool = False,
    ) -> None:
        by_batch = reduction == "batchmean" and size_average is None and reduce is None
        super().__init__(size_average, reduce, "sum" if by_batch else reduction)
        if by_batch:
            self.reduction = reduction
        self.log_target = log_target

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input: log-probabilities; target: probabilities, or their logarithms for ``log_target``, of the same shape."""
        return distribution_loss.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


class PoissonNLLLoss(Loss):
    """Negative log-likelihood of counts d under Poisson distributions: eˣ - d x, or x - d log(x + eps) without ``log_input``."""

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        size_average: bool | None = None,
        eps: float = 1e-8,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.log_input, self.full, self.eps = log_input, full, eps

    def forward(self, log_input: Tensor, target: Tensor) -> Tensor:
        """log_input: logarithms of the means, or the means; target: counts of the same shape."""
        return distribution_loss.poisson_nll_loss(
            log_input, target, log_input=self.log_input, full=self.full, eps=self.eps, reduction=self.reduction
        )


class GaussianNLLLoss(Loss):
    """Negative log-likelihood under normal distributions: (log v + (x - d)² / v) / 2 with v = max(var, eps)."""

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.full, self.eps = full, eps

    def forward(self, input: Tensor, target: Tensor, var: Tensor | float) -> Tensor:
        """input: means; target: of the same shape; var: variances that are not negative, one per element or per row."""
        return distribution_loss.gaussian_nll_loss(input, target, var, full=self.full, eps=self.eps, reduction=self.reduction)
