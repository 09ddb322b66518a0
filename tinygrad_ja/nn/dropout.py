"""Dropout layers: noise in training, nothing in evaluation."""

from __future__ import annotations

from ..core.tensor import Tensor
from ..errors import error
from ..ops import random
from .module import Module


class Dropout(Module):
    """In training each element is 0 with probability ``p``, else divided by 1 - p; in evaluation the input itself
    (Srivastava et al. 2014).

    >>> import tinygrad_ja as tg
    >>> layer = tg.nn.Dropout(0.5).eval()
    >>> layer(tg.ones(3)).tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise error(
                "TG-A001",
                op="Dropout",
                argument="p",
                value=p,
                rule="0 <= p <= 1",
                fix=("pass a probability.", "確率を渡してください。"),
            )
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        """input: any shape."""
        return random.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
