"""Pixels as numbers: from pictures to Tensors, from bytes to floats and back, and to mean 0 and deviation 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core.tensor import Tensor
from ...errors import error, refusal
from ...ops.piecewise import clamp
from ..arrays import array_of, converted, need_float, placed
from .base import Transform
from .geometry import need_channels


def to_image(picture: Any) -> Tensor:
    """A picture of Pillow, or a NumPy array (H, W, C) or (H, W), as a Tensor (C, H, W). A Tensor stays as it is.

    >>> import numpy as np
    >>> to_image(np.zeros((2, 5, 3), np.uint8)).shape
    (3, 2, 5)
    """
    if type(picture) is Tensor:
        return picture
    array = np.asarray(picture)
    if array.dtype.kind not in "buif" or array.ndim not in (2, 3):
        rule = ("numbers, (H, W, C) or (H, W)", "数の配列で (H, W, C) か (H, W)")
        fix = ("pass one picture.", "画像を 1 枚渡してください。")
        raise error("TG-S002", op="to_image", rule=rule, shapes=f"{array.shape} ({array.dtype})", fix=fix)
    planes = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return Tensor(np.array(planes, order="C"))  # a copy: what Pillow lends is read-only


def to_dtype(image: Any, dtype: Any, scale: bool = False) -> Any:
    """Pixels in another dtype. With ``scale`` the whole range of one becomes that of the other: floats 0 to 1, uint8 0 to 255, and so on.

    Floats are cut off at 0 and 1 first. Raises DtypeError for floats to whole numbers of more than 16 bits, which they cannot all tell apart.

    >>> import numpy as np
    >>> to_dtype(np.array([0, 51, 255], np.uint8), np.float32, scale=True)
    array([0. , 0.2, 1. ], dtype=float32)
    >>> to_dtype(np.array([0.0, 0.2, 1.0]), np.uint8, scale=True)
    array([  0,  51, 255], dtype=uint8)
    """
    old, new = array_of("to_dtype", image, "image").dtype, np.dtype(dtype)
    if not scale or old == new or old.kind == new.kind == "f":
        return converted(image, new)
    if "b" in (old.kind, new.kind):
        raise error(
            "TG-T004",
            op="to_dtype",
            dtype=f"{old} -> {new}",
            allowed=("no bool with scale", "scale では bool 以外"),
            fix="tg.uint8",
        )
    if old.kind == "f":
        if new.itemsize > 2:
            raise error("TG-T004", op="to_dtype", dtype=f"{old} -> {new}", allowed="uint8, int16", fix="tg.uint8")
        return converted(clamp(image, 0, 1) * (np.iinfo(new).max + 1 - 1e-3), new)
    if new.kind == "f":
        return converted(image, new) / np.iinfo(old).max
    bits = int(np.iinfo(new).max).bit_length() - int(np.iinfo(old).max).bit_length()
    return converted(image, new) * 2**bits if bits >= 0 else converted(image // 2**-bits, new)


def normalize(image: Any, mean: float | Sequence[float], std: float | Sequence[float]) -> Any:
    """(image - mean) / std for each channel: float (..., C, H, W). mean, std: a number, or one for each channel."""
    dtype = need_float("normalize", image, "image").dtype
    return (image - _per_channel(image, mean, dtype)) / _per_channel(image, std, dtype)


def _per_channel(image: Any, numbers: float | Sequence[float], dtype: Any) -> Any:
    given = np.array(numbers, dtype)
    if given.ndim == 0:
        return float(given)
    need_channels("normalize", image, len(given))
    return placed(given.reshape(-1, 1, 1), image)


class ToImage(Transform):
    """``to_image``: pictures of Pillow and arrays (H, W, C) become Tensors (C, H, W)."""

    def __call__(self, image: Any, target: Any = None) -> Any:
        return super().__call__(to_image(image), target)

    def transform(self, image: Any, params: Any) -> Any:
        """The Tensor."""
        return image


class ToDtype(Transform):
    """``to_dtype`` of the picture; masks and boxes keep theirs."""

    def __init__(self, dtype: Any, scale: bool = False) -> None:
        super().__init__()
        self.dtype, self.scale = np.dtype(dtype), scale

    def transform(self, image: Any, params: Any) -> Any:
        """The picture in its new dtype."""
        return to_dtype(image, self.dtype, self.scale)


class Normalize(Transform):
    """(image - mean) / std for each channel. Raises ArgumentError for a deviation of 0.

    >>> import tinygrad_ja as tg
    >>> Normalize(mean=[0.5, 1.0], std=[0.5, 2.0])(tg.ones(2, 1, 1)).flatten().tolist()
    [1.0, 0.0]
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        numbers = np.array([*np.ravel(mean), *np.ravel(std)], np.float64)
        if not np.isfinite(numbers).all() or not np.all(np.asarray(std, np.float64) > 0):
            rule = ("finite numbers, those of std above 0", "有限の数。std は 0 より大きい数")
            fix = ("pass mean and deviation of each channel.", "チャネルごとの平均と標準偏差を渡してください。")
            raise refusal("Normalize", "(mean, std)", (mean, std), rule, fix)

    def transform(self, image: Any, params: Any) -> Any:
        """The picture round 0."""
        return normalize(image, self.mean, self.std)
