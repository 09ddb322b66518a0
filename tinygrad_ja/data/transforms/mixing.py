"""Two pictures in one, and their labels in the same proportion: MixUp (Zhang et al. 2018) and CutMix (Yun et al. 2019)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...backend.random import Generator
from ...errors import error, refusal
from ...ops.rearrange import roll
from ...ops.selection import one_hot
from ..arrays import array_of, converted, need_float
from .base import Transform
from .erasing import erase
from .geometry import size_of


class MixUp(Transform):
    """Batches of which each picture is λ of itself and 1 - λ of the one before it: ``MixUp(num_classes=10)(images, labels)`` returns both.

    Which picture is before it is random when the batch was drawn at random. images: float (N, ..., H, W). labels: int (N,), for which
    ``num_classes`` must be given, or shares (N, K). The new labels are shares, float (N, K), for ``F.cross_entropy``. alpha: of the
    Beta(alpha, alpha) from which λ is drawn, once for the batch. Raises ArgumentError, ShapeError or DtypeError.

    >>> import tinygrad_ja as tg
    >>> images, labels = MixUp(num_classes=3)(tg.zeros(4, 1, 8, 8), tg.tensor([0, 1, 2, 0]))
    >>> labels.shape, labels.sum(1).round(decimals=5).tolist()
    ((4, 3), [1.0, 1.0, 1.0, 1.0])
    """

    def __init__(self, alpha: float = 1.0, num_classes: int | None = None, *, generator: Generator | None = None) -> None:
        super().__init__(generator)
        if not alpha > 0:
            raise refusal(type(self).__name__, "alpha", alpha, ("above 0", "0 より大きい数"), ("alpha=1.0.", "alpha=1.0。"))
        self.alpha, self.num_classes = float(alpha), num_classes

    def __call__(self, image: Any, target: Any = None) -> Any:
        array = array_of(type(self).__name__, image, "images")
        labels = array_of(type(self).__name__, target, "labels")
        if array.ndim < 3 or labels.ndim not in (1, 2) or labels.shape[0] != array.shape[0]:
            rule = ("images (N, ..., H, W) with labels (N,) or (N, K)", "画像 (N, ..., H, W) とラベル (N,) か (N, K)")
            shapes = f"{tuple(array.shape)}, {tuple(labels.shape)}"
            fix = ("pass a whole batch.", "バッチ全体を渡してください。")
            raise error("TG-S002", op=type(self).__name__, rule=rule, shapes=shapes, fix=fix)
        shares = self._shares(target, labels)
        part = float(self._stream.beta(self.alpha, self.alpha, (1,), np.float64)[0])
        made, part = self._mixed(image, part)
        return made, shares * part + roll(shares, 1, 0) * (1 - part)

    def _shares(self, target: Any, labels: Any) -> Any:
        if labels.ndim == 2:
            return target if labels.dtype.kind == "f" else converted(target, np.dtype(np.float32))
        if self.num_classes is None:
            rule, fix = (
                ("the number of classes, for labels (N,)", "ラベルが (N,) ならクラスの数"),
                ("num_classes=10.", "num_classes=10 など。"),
            )
            raise refusal(type(self).__name__, "num_classes", None, rule, fix)
        return converted(one_hot(target, self.num_classes), np.dtype(np.float32))

    def _mixed(self, image: Any, part: float) -> tuple[Any, float]:
        """The mixed pictures, and the share of each picture itself."""
        need_float("MixUp", image, "images")
        return image * part + roll(image, 1, 0) * (1 - part), part


class CutMix(MixUp):
    """Batches of which each picture has a rectangle, of area 1 - λ, from the one before it. Arguments as for ``MixUp``, but bytes are taken,
    too. The labels count what is really seen."""

    def _mixed(self, image: Any, part: float) -> tuple[Any, float]:
        """The pictures with their rectangles, and the share of each picture itself."""
        rows, columns = size_of(image)
        half = 0.5 * math.sqrt(1.0 - part)
        x, y = self.integer(0, columns - 1), self.integer(0, rows - 1)
        left, right = max(x - int(half * columns), 0), min(x + int(half * columns), columns)
        top, bottom = max(y - int(half * rows), 0), min(y + int(half * rows), rows)
        other = roll(image, 1, 0)[..., top:bottom, left:right]
        made = erase(image, top, left, bottom - top, right - left, other)
        return made, 1.0 - (right - left) * (bottom - top) / (columns * rows)
