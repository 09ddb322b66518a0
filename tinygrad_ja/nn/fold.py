"""Sliding windows as layers."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from ..ops import unfold
from .module import Module


class Unfold(Module):
    """The windows of images as columns: (N, C, H, W) -> (N, C·kh·kw, L). See ``nn.functional.unfold``.

    >>> import tinygrad_ja as tg
    >>> layer = tg.nn.Unfold(kernel_size=(2, 3))
    >>> layer
    Unfold(kernel_size=(2, 3), dilation=1, padding=0, stride=1)
    >>> layer(tg.zeros(2, 5, 3, 4)).shape
    (2, 30, 4)
    """

    def __init__(self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> None:
        super().__init__()
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        """input: (N, C, H, W) or (C, H, W)."""
        return unfold.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(Module):
    """Images to which columns are added where ``Unfold`` takes them from: (N, C·kh·kw, L) -> (N, C, *output_size). See
    ``nn.functional.fold``.

    ``fold(unfold(x))`` is x times the number of windows over each element.

    >>> import tinygrad_ja as tg
    >>> tg.nn.Fold((3, 3), 2)(tg.nn.Unfold(2)(tg.ones(1, 3, 3)))
    tensor([[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]])
    """

    def __init__(self, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> None:
        super().__init__()
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        """input: (N, C·kh·kw, L) or (C·kh·kw, L)."""
        return unfold.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
            f"stride={self.stride}"
        )
