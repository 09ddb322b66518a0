"""Dropout layers: noise in training, nothing in evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..core.tensor import Tensor
from ..errors import error
from ..ops import random
from .module import Module


class _Dropout(Module):
    """A function of the input, ``p``, ``training`` and ``inplace``."""

    function: ClassVar[Callable[..., Any]]

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise error(
                "TG-A001",
                op=type(self).__name__,
                argument="p",
                value=p,
                rule="0 <= p <= 1",
                fix=("pass a probability.", "確率を渡してください。"),
            )
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        """input: of the shape that the class names."""
        return type(self).function(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """In training each element is 0 with probability ``p``, else divided by 1 - p; in evaluation the input itself. Any shape
    (Srivastava et al. 2014).

    >>> import tinygrad_ja as tg
    >>> layer = tg.nn.Dropout(0.5).eval()
    >>> layer(tg.ones(3)).tolist()
    [1.0, 1.0, 1.0]
    """

    function = staticmethod(random.dropout)


class Dropout1d(_Dropout):
    """``Dropout`` of whole channels of (N, C, L) or (C, L), whose neighbours tell too much about an element (Tompson et al. 2015).

    >>> import tinygrad_ja as tg
    >>> tg.nn.Dropout1d(1.0)(tg.ones(2, 3)).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """

    function = staticmethod(random.dropout1d)


class Dropout2d(_Dropout):
    """``Dropout`` of whole channels of (N, C, H, W)."""

    function = staticmethod(random.dropout2d)


class Dropout3d(_Dropout):
    """``Dropout`` of whole channels of (N, C, D, H, W) or (C, D, H, W)."""

    function = staticmethod(random.dropout3d)


class AlphaDropout(_Dropout):
    """Dropout to the value that ``SELU`` tends to for negative numbers, so that mean 0 and variance 1 stay. Any shape (Klambauer et al. 2017).

    >>> import tinygrad_ja as tg
    >>> tg.nn.AlphaDropout(0.2).eval()(tg.ones(2)).tolist()
    [1.0, 1.0]
    """

    function = staticmethod(random.alpha_dropout)


class FeatureAlphaDropout(_Dropout):
    """``AlphaDropout`` of whole channels of (N, C, ...)."""

    function = staticmethod(random.feature_alpha_dropout)
