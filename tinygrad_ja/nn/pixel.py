"""Layers that rearrange channels and pixels."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from ..ops import pixel
from .module import Module


class PixelShuffle(Module):
    """(..., C r², H, W) to (..., C, H r, W r), r = ``upscale_factor`` (Shi et al. 2016).

    >>> import tinygrad_ja as tg
    >>> tg.nn.PixelShuffle(2)(tg.zeros(1, 8, 3, 3)).shape
    (1, 2, 6, 6)
    """

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Any:
        """input: (..., C r², H, W)."""
        return pixel.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """(..., C, H r, W r) to (..., C r², H, W), r = ``downscale_factor``.

    >>> import tinygrad_ja as tg
    >>> tg.nn.PixelUnshuffle(2)(tg.zeros(1, 2, 6, 6)).shape
    (1, 8, 3, 3)
    """

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Any:
        """input: (..., C, H r, W r)."""
        return pixel.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """The channels of (N, C, ...) dealt out anew, one of each of ``groups`` groups in turn (Zhang et al. 2018).

    >>> import tinygrad_ja as tg
    >>> tg.nn.ChannelShuffle(2)(tg.arange(4).reshape(1, 4, 1)).flatten()
    tensor([0, 2, 1, 3])
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, input: Tensor) -> Any:
        """input: (N, C, ...)."""
        return pixel.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"
