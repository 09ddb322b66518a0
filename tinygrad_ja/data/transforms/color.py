"""Colours of pictures (..., C, H, W): brightness, contrast, saturation, hue and grey, with torchvision's formulas.

Floats lie in [0, 1], whole numbers between 0 and the largest of their dtype. A factor of 1 (hue: 0) changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...backend.random import Generator
from ...errors import error, refusal
from ...ops.comparison import where
from ...ops.extremum import amax, amin
from ...ops.join import cat
from ...ops.piecewise import clamp, floor, minimum
from ...ops.reduce import mean
from ...ops.selection import index_select
from ..arrays import array_of, converted, placed
from .base import Transform, probability
from .geometry import as_floats
from .values import to_dtype

_LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601


def rgb_to_grayscale(image: Any, num_output_channels: int = 1) -> Any:
    """0.2989 R + 0.587 G + 0.114 B, once or three times: (..., 3, H, W) to (..., 1 or 3, H, W). One channel counts as grey already."""
    if num_output_channels not in (1, 3):
        raise refusal("rgb_to_grayscale", "num_output_channels", num_output_channels, ("1 or 3", "1 か 3"), ("1.", "1。"))
    grey = converted(_grey(image), array_of("rgb_to_grayscale", image).dtype)
    return grey if num_output_channels == 1 else cat([grey] * 3, -3)


def adjust_brightness(image: Any, brightness_factor: float) -> Any:
    """The picture times a factor: 0 is black."""
    _factor("adjust_brightness", brightness_factor)
    return _clipped(as_floats(image) * brightness_factor, image)


def adjust_contrast(image: Any, contrast_factor: float) -> Any:
    """Away from the mean of the grey picture: 0 is an even grey."""
    _factor("adjust_contrast", contrast_factor)
    return _blend(image, mean(_whole(_grey(image), image), (-3, -2, -1), True), contrast_factor)


def adjust_saturation(image: Any, saturation_factor: float) -> Any:
    """Away from the grey picture: 0 is grey. A picture of one channel stays as it is."""
    _factor("adjust_saturation", saturation_factor)
    return image if _channels(image) == 1 else _blend(image, _whole(_grey(image), image), saturation_factor)


def adjust_hue(image: Any, hue_factor: float) -> Any:
    """Colours turned round the circle of hues by ``hue_factor`` turns, -0.5 to 0.5. A picture of one channel stays as it is."""
    if not -0.5 <= hue_factor <= 0.5:
        raise refusal("adjust_hue", "hue_factor", hue_factor, ("-0.5 to 0.5", "-0.5 以上 0.5 以下"), ("0.1.", "0.1 など。"))
    if _channels(image) == 1:
        return image
    dtype = array_of("adjust_hue", image).dtype
    pixels = image if dtype.kind == "f" else to_dtype(image, np.float32, scale=True)
    return to_dtype(_turned(pixels, hue_factor), dtype, scale=True)


def _turned(image: Any, turns: float) -> Any:
    """With the hue h in sixths of a turn, value v = max(r, g, b) and chroma c = v - min(r, g, b), a channel is v - c max(0, min(k, 4 - k, 1))
    where k = (n + h) mod 6 and n is 5, 3, 1 for r, g, b (Smith 1978)."""
    red, green, blue = [image[..., i : i + 1, :, :] for i in range(3)]
    value = amax(image, -3, True)
    chroma = value - amin(image, -3, True)
    safe = where(chroma > 0, chroma, chroma + 1)
    behind_green = where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4)
    hue = where(value == red, (green - blue) / safe, behind_green) + 6 * turns
    channels = []
    for n in (5, 3, 1):
        k = hue + n
        k = k - 6 * floor(k / 6)
        channels.append(value - chroma * clamp(minimum(k, 4 - k), 0, 1))
    return cat(channels, -3)


def _channels(image: Any) -> int:
    shape = tuple(image.shape)
    if len(shape) < 3 or shape[-3] not in (1, 3):
        rule, fix = (
            ("(..., 1 or 3, H, W)", "(..., 1 または 3, H, W)"),
            ("pass grey or RGB.", "グレースケールか RGB を渡してください。"),
        )
        raise error("TG-S002", op=("a change of colours", "色の変換"), rule=rule, shapes=shape, fix=fix)
    return shape[-3]


def _grey(image: Any) -> Any:
    """The grey picture (..., 1, H, W) in floats."""
    pixels = as_floats(image)
    if _channels(image) == 1:
        return pixels
    red, green, blue = [pixels[..., i : i + 1, :, :] * weight for i, weight in enumerate(_LUMA)]
    return red + green + blue


def _whole(made: Any, image: Any) -> Any:
    return made if array_of("color", image).dtype.kind == "f" else floor(made)


def _blend(image: Any, other: Any, factor: float) -> Any:
    return _clipped(as_floats(image) * factor + other * (1 - factor), image)


def _clipped(made: Any, image: Any) -> Any:
    dtype = array_of("color", image).dtype
    return clamp(made, 0, 1) if dtype.kind == "f" else converted(clamp(made, 0, int(np.iinfo(dtype).max)), dtype)


def _factor(op: str, factor: float) -> None:
    if not factor >= 0:
        raise refusal(op, "factor", factor, ("0 or more", "0 以上"), ("1.0 changes nothing.", "1.0 なら変わりません。"))


# ---- transforms ----------------------------------------------------------------------------------


class Grayscale(Transform):
    """``rgb_to_grayscale``."""

    def __init__(self, num_output_channels: int = 1) -> None:
        super().__init__()
        self.num_output_channels = num_output_channels

    def transform(self, image: Any, params: Any) -> Any:
        """The grey picture."""
        return rgb_to_grayscale(image, self.num_output_channels)


class RandomGrayscale(Transform):
    """Grey, in as many channels as before, with probability ``p``."""

    def __init__(self, p: float = 0.1, *, generator: Generator | None = None) -> None:
        super().__init__(generator)
        self.p = probability("RandomGrayscale", p)

    def make_params(self, image: Any, target: Any) -> Any:
        """The number of channels, when it is to happen."""
        return _channels(image) if self.happens(self.p) else None

    def transform(self, image: Any, params: Any) -> Any:
        """The grey picture."""
        return rgb_to_grayscale(image, params)


Adjustment = tuple[Callable[[Any, float], Any], float]
"""A function of a picture, and its factor."""


def _around(op: str, argument: str, value: Any, middle: float, low: float, high: float) -> tuple[float, float] | None:
    """The range of a factor from a number (so much to either side of ``middle``) or a range. None for one that changes nothing."""
    given = value if isinstance(value, (tuple, list)) else ()
    if isinstance(value, (int, float)):
        given = (max(middle - value, low), middle + value)
    fine = len(given) == 2 and low <= given[0] <= given[1] <= high
    if not fine or (isinstance(value, (int, float)) and value < 0):
        rule = (
            f"a number >= 0, or (low, high) in [{low:g}, {high:g}]",
            f"0 以上の数、または [{low:g}, {high:g}] 内の (下限, 上限)",
        )
        raise refusal(op, argument, value, rule, ("0.2, or (0.8, 1.2).", "0.2 や (0.8, 1.2) としてください。"))
    return None if given == (middle, middle) else (given[0], given[1])


class _Colors(Transform):
    """What the two share: a range of factors, or None, for each of the four."""

    def __init__(self, brightness: Any, contrast: Any, saturation: Any, hue: Any, generator: Generator | None) -> None:
        super().__init__(generator)
        op, infinity = type(self).__name__, float("inf")
        self.brightness = _around(op, "brightness", brightness, 1.0, 0.0, infinity)
        self.contrast = _around(op, "contrast", contrast, 1.0, 0.0, infinity)
        self.saturation = _around(op, "saturation", saturation, 1.0, 0.0, infinity)
        self.hue = _around(op, "hue", hue, 0.0, -0.5, 0.5)

    def _adjustments(self) -> list[tuple[Callable[[Any, float], Any], tuple[float, float] | None]]:
        return [
            (adjust_brightness, self.brightness),
            (adjust_contrast, self.contrast),
            (adjust_saturation, self.saturation),
            (adjust_hue, self.hue),
        ]


class ColorJitter(_Colors):
    """Brightness, contrast, saturation and hue changed by random factors, in a random order.

    Each argument: a number x for factors from max(0, 1 - x) to 1 + x (hue: -x to x, x at most 0.5), or (low, high). 0 changes nothing.
    """

    def __init__(
        self,
        brightness: float | Sequence[float] = 0,
        contrast: float | Sequence[float] = 0,
        saturation: float | Sequence[float] = 0,
        hue: float | Sequence[float] = 0,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(brightness, contrast, saturation, hue, generator)

    def make_params(self, image: Any, target: Any) -> list[Adjustment]:
        """Functions and their factors, in the order in which they are applied."""
        each = self._adjustments()
        ordered = [each[i] for i in self.order(4)]
        return [(adjust, self.uniform(*factors)) for adjust, factors in ordered if factors is not None]

    def transform(self, image: Any, params: list[Adjustment]) -> Any:
        """The picture in other colours."""
        for adjust, factor in params:
            image = adjust(image, factor)
        return image


class RandomPhotometricDistort(_Colors):
    """The distortion of SSD (Howard 2013; Liu et al. 2016): brightness, contrast, saturation, hue and the order of the channels, each with
    probability ``p``; the contrast before or after the colours. Arguments: (low, high) of each factor.
    """

    def __init__(
        self,
        brightness: tuple[float, float] = (0.875, 1.125),
        contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue: tuple[float, float] = (-0.05, 0.05),
        p: float = 0.5,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(brightness, contrast, saturation, hue, generator)
        self.p = probability("RandomPhotometricDistort", p)

    def make_params(self, image: Any, target: Any) -> tuple[list[Adjustment], list[int] | None]:
        """Functions and their factors in their order, and the order of the channels."""
        each = self._adjustments()
        ordered = [each[i] for i in ((0, 1, 2, 3) if self.happens(0.5) else (0, 2, 3, 1))]
        chosen = [(adjust, factors) for adjust, factors in ordered if factors is not None and self.happens(self.p)]
        steps = [(adjust, self.uniform(*factors)) for adjust, factors in chosen]
        return steps, self.order(image.shape[-3]) if self.happens(self.p) else None

    def transform(self, image: Any, params: tuple[list[Adjustment], list[int] | None]) -> Any:
        """The picture in other colours."""
        steps, channels = params
        for adjust, factor in steps:
            image = adjust(image, factor)
        return image if channels is None else index_select(image, -3, placed(np.array(channels), image))
