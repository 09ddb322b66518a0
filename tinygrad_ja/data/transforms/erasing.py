"""A rectangle taken out of a picture (Zhong et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backend.random import Generator
from ...core.tensor import Tensor
from ...errors import refusal
from ..arrays import array_of, placed
from .base import Transform, probability
from .framing import Frame, span
from .geometry import need_channels, size_of


def erase(image: Any, top: int, left: int, height: int, width: int, value: Any) -> Any:
    """A copy of the picture with ``value``, a number or an array that broadcasts to (..., height, width), in a rectangle."""
    made = image.clone() if type(image) is Tensor else image.copy()
    made[..., top : top + height, left : left + width] = value
    return made


class RandomErasing(Transform):
    """With probability ``p`` a random rectangle becomes ``value``: a number, one for each channel, or "random", which is normal noise in floats
    and evenly distributed in whole numbers.

    scale: the rectangle's area as a share of the picture's. ratio: its height / width, evenly in the logarithm. When ten tries do not fit, the
    picture stays. Boxes and masks stay as they are.
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float | Sequence[float] | str = 0.0,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(generator)
        self.p = probability("RandomErasing", p)
        self.scale, self.ratio = span("RandomErasing", "scale", scale), span("RandomErasing", "ratio", ratio)
        if isinstance(value, str) and value != "random":
            rule, fix = (
                ("a number, one for each channel, or 'random'", "数、チャネルごとの数、'random' のどれか"),
                ("value=0.", "value=0。"),
            )
            raise refusal("RandomErasing", "value", value, rule, fix)
        self.value = value

    def make_params(self, image: Any, target: Any) -> Any:
        """The rectangle and what is put there."""
        if not self.happens(self.p):
            return None
        rows, columns = size_of(image)
        for _ in range(10):
            area = rows * columns * self.uniform(*self.scale)
            ratio = math.exp(self.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if height < rows and width < columns:
                frame = Frame(self.integer(0, rows - height), self.integer(0, columns - width), height, width)
                return frame, self._filling(image, frame)
        return None

    def _filling(self, image: Any, frame: Frame) -> Any:
        dtype = array_of("RandomErasing", image).dtype
        if self.value == "random":
            shape = (*image.shape[:-2], frame.height, frame.width)
            if dtype.kind == "f":
                return placed(self._stream.normal(shape, dtype), image)
            return placed(self._stream.integers(0, int(np.iinfo(dtype).max) + 1, shape, dtype), image)
        if isinstance(self.value, (tuple, list)):
            need_channels("RandomErasing", image, len(self.value))
            return placed(np.array(self.value, dtype).reshape(-1, 1, 1), image)
        return self.value

    def transform(self, image: Any, params: Any) -> Any:
        """The picture without the rectangle."""
        (top, left, height, width), value = params
        return erase(image, top, left, height, width, value)
