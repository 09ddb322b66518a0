"""Layers that compare two tensors."""

from __future__ import annotations

from ..core.tensor import Tensor
from ..ops import distance
from .module import Module


class CosineSimilarity(Module):
    """x₁ · x₂ / (max(|x₁|, eps) max(|x₂|, eps)) along ``dim``; the inputs broadcast.

    >>> import tinygrad_ja as tg
    >>> tg.nn.CosineSimilarity()(tg.tensor([[3.0, 4.0]]), tg.tensor([[4.0, 3.0]]))
    tensor([0.96])
    """

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """x1, x2: shapes that broadcast."""
        return distance.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """|x₁ - x₂ + eps|_p along the last axis, which becomes 1 with ``keepdim``; the inputs broadcast.

    >>> import tinygrad_ja as tg
    >>> tg.nn.PairwiseDistance(eps=0.0)(tg.tensor([[3.0, 4.0]]), tg.zeros(1, 2))
    tensor([5.])
    """

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """x1, x2: shapes that broadcast."""
        return distance.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
