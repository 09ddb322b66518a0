"""Transforms that choose what part of a picture is seen, which way round and how large; boxes and masks go along."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...backend.random import Generator
from ...errors import one_of, refusal
from . import geometry
from .base import Geometric, probability
from .boxes import clipped, mapped, mirrored
from .geometry import INTERPOLATIONS, PADDING_MODES, size_of


class RandomHorizontalFlip(Geometric):
    """Left and right swapped with probability ``p``.

    >>> import tinygrad_ja as tg
    >>> flip = RandomHorizontalFlip(p=1.0)
    >>> image, target = flip(tg.tensor([[[1.0, 2.0, 3.0]]]), {"boxes": tg.tensor([[0.0, 0.0, 1.0, 1.0]])})
    >>> image.tolist(), target["boxes"].tolist()
    ([[[3.0, 2.0, 1.0]]], [[2.0, 0.0, 3.0, 1.0]])
    """

    def __init__(self, p: float = 0.5, *, generator: Generator | None = None) -> None:
        super().__init__(generator)
        self.p = probability("RandomHorizontalFlip", p)

    def make_params(self, image: Any, target: Any) -> Any:
        """The width, when it is to happen."""
        return size_of(image)[1] if self.happens(self.p) else None

    def transform(self, image: Any, params: Any) -> Any:
        """The picture in a mirror."""
        return geometry.hflip(image)

    def transform_boxes(self, boxes: Any, params: Any) -> Any:
        """x becomes width - x."""
        return mirrored(boxes, params, 0)


class RandomVerticalFlip(Geometric):
    """Top and bottom swapped with probability ``p``."""

    def __init__(self, p: float = 0.5, *, generator: Generator | None = None) -> None:
        super().__init__(generator)
        self.p = probability("RandomVerticalFlip", p)

    def make_params(self, image: Any, target: Any) -> Any:
        """The height, when it is to happen."""
        return size_of(image)[0] if self.happens(self.p) else None

    def transform(self, image: Any, params: Any) -> Any:
        """The picture upside down."""
        return geometry.vflip(image)

    def transform_boxes(self, boxes: Any, params: Any) -> Any:
        """y becomes height - y."""
        return mirrored(boxes, params, 1)


# ---- borders and crops ---------------------------------------------------------------------------


class Pad(Geometric):
    """A border: ``padding`` an int, (x, y) or (left, top, right, bottom); ``padding_mode`` "constant" (``fill``), "edge", "reflect" or
    "symmetric". In masks of a constant border stands 0.
    """

    def __init__(self, padding: int | Sequence[int], fill: Any = 0, padding_mode: str = "constant") -> None:
        super().__init__()
        self.padding, self.fill = geometry.border_of("Pad", padding), fill
        self.padding_mode = one_of("Pad", "padding_mode", padding_mode, PADDING_MODES)

    def transform(self, image: Any, params: Any) -> Any:
        """The picture with its border."""
        return geometry.pad(image, self.padding, self.fill, self.padding_mode)

    def transform_mask(self, mask: Any, params: Any) -> Any:
        """The mask with a border of the same size."""
        return geometry.pad(mask, self.padding, 0, self.padding_mode)

    def transform_boxes(self, boxes: Any, params: Any) -> Any:
        """Boxes move right and down."""
        return mapped(boxes, shift=self.padding[:2])


class Frame(NamedTuple):
    """A part of a picture: its first row and column, its height and width."""

    top: int
    left: int
    height: int
    width: int


class FrameCrop(Geometric):
    """What the crops share: their parameter is a ``Frame``."""

    def transform(self, image: Any, params: Frame) -> Any:
        """The part of the picture."""
        return geometry.crop(image, *params)

    def transform_boxes(self, boxes: Any, params: Frame) -> Any:
        """The part of each box that is seen."""
        return _seen(boxes, params)


def _seen(boxes: Any, frame: Frame) -> Any:
    return clipped(mapped(boxes, shift=(-frame.left, -frame.top)), frame.height, frame.width)


class CenterCrop(FrameCrop):
    """The middle of the picture, of size an int or (height, width)."""

    def __init__(self, size: int | Sequence[int]) -> None:
        super().__init__()
        self.size = geometry.pair_of("CenterCrop", size)

    def make_params(self, image: Any, target: Any) -> Frame:
        """Where the middle begins."""
        return Frame(*geometry.center_of(image, *self.size), *self.size)


class RandomCrop(Geometric):
    """A part of that size from a random place.

    size: an int or (height, width). padding: a border that is put round the picture first, as for ``Pad``; fill and padding_mode its kind.
    pad_if_needed: a picture that is smaller is filled up on both sides. Raises ArgumentError for a smaller picture without it.

    >>> import tinygrad_ja as tg
    >>> RandomCrop(32, padding=4, padding_mode="reflect")(tg.zeros(3, 32, 32)).shape
    (3, 32, 32)
    """

    def __init__(
        self,
        size: int | Sequence[int],
        padding: int | Sequence[int] | None = None,
        pad_if_needed: bool = False,
        fill: Any = 0,
        padding_mode: str = "constant",
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(generator)
        self.size = geometry.pair_of("RandomCrop", size)
        self.padding = geometry.border_of("RandomCrop", padding or 0)
        self.pad_if_needed, self.fill = pad_if_needed, fill
        self.padding_mode = one_of("RandomCrop", "padding_mode", padding_mode, PADDING_MODES)

    def make_params(self, image: Any, target: Any) -> tuple[tuple[int, ...], Frame]:
        """The border and the part of the picture with it."""
        left, top, right, bottom = self.padding
        rows, columns = size_of(image)
        height, width = self.size
        if self.pad_if_needed:
            more_rows, more_columns = max(height - rows - top - bottom, 0), max(width - columns - left - right, 0)
            left, top, right, bottom = left + more_columns, top + more_rows, right + more_columns, bottom + more_rows
        free_rows, free_columns = rows + top + bottom - height, columns + left + right - width
        if free_rows < 0 or free_columns < 0:
            rule = (
                f"at most the picture with its border, {(rows, columns)}",
                f"パディングを含む画像の大きさ {(rows, columns)} 以下",
            )
            fix = ("pass pad_if_needed=True, or a smaller size.", "pad_if_needed=True を渡すか、size を小さくしてください。")
            raise refusal("RandomCrop", "size", self.size, rule, fix)
        frame = Frame(self.integer(0, free_rows), self.integer(0, free_columns), height, width)
        return (left, top, right, bottom), frame

    def transform(self, image: Any, params: tuple[tuple[int, ...], Frame]) -> Any:
        """The part of the picture with its border."""
        return self._part(image, params, self.fill)

    def transform_mask(self, mask: Any, params: tuple[tuple[int, ...], Frame]) -> Any:
        """The same part of a mask; where nothing was, 0."""
        return self._part(mask, params, 0)

    def _part(self, image: Any, params: tuple[tuple[int, ...], Frame], fill: Any) -> Any:
        border, frame = params
        bordered = geometry.pad(image, border, fill, self.padding_mode) if any(border) else image
        return geometry.crop(bordered, *frame)

    def transform_boxes(self, boxes: Any, params: tuple[tuple[int, ...], Frame]) -> Any:
        """The part of each box that is seen."""
        (left, top, *_), frame = params
        return _seen(mapped(boxes, shift=(left, top)), frame)


# ---- other sizes ---------------------------------------------------------------------------------


class Resize(Geometric):
    """The whole picture in another size, as ``functional.resize``; masks with "nearest"."""

    def __init__(
        self, size: int | Sequence[int], interpolation: str = "bilinear", max_size: int | None = None, antialias: bool = True
    ) -> None:
        super().__init__()
        geometry.pair_of("Resize", size)
        self.size, self.max_size, self.antialias = size, max_size, antialias
        self.interpolation = one_of("Resize", "interpolation", interpolation, INTERPOLATIONS)

    def make_params(self, image: Any, target: Any) -> tuple[tuple[int, int], tuple[int, int]]:
        """The new size and the old one, each (height, width)."""
        return geometry.resized_to(image, self.size, self.max_size), size_of(image)

    def transform(self, image: Any, params: Any) -> Any:
        """The picture in its new size."""
        return geometry.resize(image, params[0], self.interpolation, antialias=self.antialias)

    def transform_mask(self, mask: Any, params: Any) -> Any:
        """The mask in its new size, with values that it had."""
        return geometry.resize(mask, params[0], "nearest")

    def transform_boxes(self, boxes: Any, params: Any) -> Any:
        """Boxes stretched alike."""
        (height, width), (rows, columns) = params
        return mapped(boxes, scale=(width / columns, height / rows))


class RandomResizedCrop(FrameCrop):
    """A part of random area and proportion, brought to ``size`` (Szegedy et al. 2015, the augmentation of ImageNet).

    scale: the part's area as a share of the picture's, between these. ratio: its width / height, between these, evenly in the logarithm. When
    ten tries do not fit into the picture, the largest part in the middle that has an allowed ratio.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: str = "bilinear",
        antialias: bool = True,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(generator)
        self.size = geometry.pair_of("RandomResizedCrop", size)
        self.scale, self.ratio = span("RandomResizedCrop", "scale", scale), span("RandomResizedCrop", "ratio", ratio)
        self.interpolation = one_of("RandomResizedCrop", "interpolation", interpolation, INTERPOLATIONS)
        self.antialias = antialias

    def make_params(self, image: Any, target: Any) -> Frame:
        """The part that is seen."""
        rows, columns = size_of(image)
        for _ in range(10):
            area = rows * columns * self.uniform(*self.scale)
            ratio = math.exp(self.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < width <= columns and 0 < height <= rows:
                return Frame(self.integer(0, rows - height), self.integer(0, columns - width), height, width)
        nearest = min(max(columns / rows, self.ratio[0]), self.ratio[1])
        height, width = min(rows, round(columns / nearest)), min(columns, round(rows * nearest))
        return Frame((rows - height) // 2, (columns - width) // 2, height, width)

    def transform(self, image: Any, params: Frame) -> Any:
        """The part of the picture in its new size."""
        return geometry.resize(super().transform(image, params), self.size, self.interpolation, antialias=self.antialias)

    def transform_mask(self, mask: Any, params: Frame) -> Any:
        """The part of the mask, with values that it had."""
        return geometry.resize(super().transform(mask, params), self.size, "nearest")

    def transform_boxes(self, boxes: Any, params: Frame) -> Any:
        """The part of each box that is seen, stretched alike."""
        return mapped(super().transform_boxes(boxes, params), (self.size[1] / params.width, self.size[0] / params.height))


def span(op: str, argument: str, value: Any, above: float = 0.0) -> tuple[float, float]:
    """(low, high) with above < low <= high, checked."""
    given = tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(given) != 2 or not above < given[0] <= given[1]:
        rule = (f"(low, high), {above:g} < low <= high", f"(下限, 上限)。{above:g} < 下限 <= 上限")
        raise refusal(op, argument, value, rule, ("leave it out.", "指定しないでください。"))
    return float(given[0]), float(given[1])
