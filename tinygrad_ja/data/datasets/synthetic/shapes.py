"""Coloured circles, squares and triangles, with boxes and masks: detection and segmentation without a file."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....backend.random import Generator
from ....core.tensor import Tensor
from ....errors import refusal
from ...arrays import cpu_stream
from ...dataset import Dataset
from ..base import Transform
from .numbers import need_positive

_TRIES = 20


class Shapes(Dataset):
    """Images with up to ``objects`` circles, squares and triangles that do not overlap, on a dark, noisy ground. Example: (image, target).

    image: uint8 Tensor (3, side, side). target: dict of ``"boxes"``, float32 Tensor (n, 4) with xmin, ymin, xmax, ymax (the first and the
    last but one pixel, plus one); ``"labels"``, int64 Tensor (n,), ``classes[label]``; ``"masks"``, bool Tensor (n, side, side). The label of
    every pixel, for semantic segmentation, is ``(masks * labels[:, None, None]).sum(0)``.
    transform: a function of the image; transforms: of image and target together.

    >>> import tinygrad_ja as tg
    >>> image, target = Shapes(1, generator=tg.Generator().manual_seed(0))[0]
    >>> image.shape, target["masks"].shape[1:], len(target["boxes"]) == len(target["labels"]) >= 1
    ((3, 64, 64), (64, 64), True)
    """

    classes = ("background", "circle", "square", "triangle")

    def __init__(
        self,
        size: int = 1000,
        side: int = 64,
        objects: int = 3,
        transform: Transform = None,
        transforms: Transform = None,
        generator: Generator | None = None,
    ) -> None:
        need_positive("Shapes", size=size, side=side, objects=objects)
        if side < 16:
            rule = ("at least 16 pixels", "16 画素以上")
            raise refusal("Shapes", "side", side, rule, ("side=64.", "side=64。"))
        self.transform = transform
        self.transforms = transforms
        drawn = cpu_stream(generator)
        made = [_draw(side, objects, drawn) for _ in range(size)]
        self._images = np.stack([image for image, _ in made])
        self._objects = [found for _, found in made]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image: Any = Tensor(self._images[index].copy())
        side = image.shape[-1]
        found = self._objects[index]
        labels = np.array([label for label, _ in found], np.int64)
        masks = np.stack([_mask(label, box, side) for label, box in found])
        target: Any = {"boxes": Tensor(_boxes(masks)), "labels": Tensor(labels), "masks": Tensor(masks)}
        if self.transform is not None:
            image = self.transform(image)
        return (image, target) if self.transforms is None else self.transforms(image, target)


Square = tuple[int, int, int]
"""Left, top and width of the square that a shape fills."""


def _draw(side: int, objects: int, generator: Generator) -> tuple[np.ndarray, list[tuple[int, Square]]]:
    """One image, and the class and place of each shape. The first always finds room."""
    image = generator.integers(0, 50, (3, side, side), np.uint8)
    count = int(generator.integers(1, objects + 1, ()))
    found: list[tuple[int, Square]] = []
    for _ in range(_TRIES * count):
        width = int(generator.integers(side // 5, side // 2, ()))
        left, top = (int(at) for at in generator.integers(0, side - width + 1, (2,)))
        if len(found) < count and not any(_touch((left, top, width), other) for _, other in found):
            label = int(generator.integers(1, 4, ()))
            found.append((label, (left, top, width)))
            colour = generator.integers(100, 256, (3, 1), np.uint8)
            image[:, _mask(label, found[-1][1], side)] = colour
    return image, found


def _touch(a: Square, b: Square) -> bool:
    return abs(2 * a[0] + a[2] - 2 * b[0] - b[2]) < a[2] + b[2] and abs(2 * a[1] + a[2] - 2 * b[1] - b[2]) < a[2] + b[2]


def _mask(label: int, square: Square, side: int) -> np.ndarray:
    """bool (side, side): the pixels of the shape, whose centres are at halves."""
    left, top, width = square
    centres = np.arange(side) + 0.5
    across = ((centres - left) / width)[np.newaxis, :]
    down = ((centres - top) / width)[:, np.newaxis]
    if label == 1:
        return (across - 0.5) ** 2 + (down - 0.5) ** 2 <= 0.25
    inside = (across > 0) & (across < 1) & (down > 0) & (down < 1)
    return inside if label == 2 else inside & (2 * np.abs(across - 0.5) <= down)


def _boxes(masks: np.ndarray) -> np.ndarray:
    """The smallest boxes around masks (n, H, W): float32 (n, 4)."""
    sides = []
    for axis in (1, 2):
        used = np.logical_or.reduce(masks, axis=axis)
        sides += [used.argmax(axis=1), used.shape[1] - used[:, ::-1].argmax(axis=1)]
    xmin, xmax, ymin, ymax = sides
    return np.stack([xmin, ymin, xmax, ymax], axis=1).astype(np.float32)
