"""Pictures, and one with objects whose boxes and masks are known, for the tests of image transforms."""

from __future__ import annotations

import numpy as np

import tinygrad_ja as tg
from tinygrad_ja.data import transforms as T


def picture(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape or (3, 13, 17), dtype=np.uint8)


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape or (3, 13, 17)).astype(np.float32)


def seeded(seed: int = 0) -> tg.Generator:
    return tg.Generator().manual_seed(seed)


def scene() -> tuple[np.ndarray, dict]:
    """A picture whose object k is drawn with the value k + 1, its boxes, labels and masks."""
    boxes = np.array([[2, 3, 9, 8], [20, 1, 29, 12], [5, 12, 18, 19]], np.float32)
    image, masks = np.zeros((1, 20, 30), np.float32), np.zeros((3, 20, 30), np.uint8)
    for k, (x1, y1, x2, y2) in enumerate(boxes.astype(int)):
        image[0, y1:y2, x1:x2] = k + 1
        masks[k, y1:y2, x1:x2] = 1
    target = {"boxes": boxes, "labels": np.array([10, 20, 30]), "masks": masks, "mask": image[0].astype(np.uint8), "name": "a"}
    return image, target


GEOMETRIC = {
    "hflip": lambda g: T.RandomHorizontalFlip(1.0),
    "vflip": lambda g: T.RandomVerticalFlip(1.0),
    "pad": lambda g: T.Pad((1, 2, 3, 4)),
    "center_crop": lambda g: T.CenterCrop((12, 40)),
    "random_crop": lambda g: T.RandomCrop(14, padding=3, generator=g),
    "zoom_out": lambda g: T.RandomZoomOut(p=1.0, generator=g),
    "iou_crop": lambda g: T.RandomIoUCrop(generator=g),
    "double": lambda g: T.Resize((40, 60), "nearest"),
    "compose": lambda g: T.Compose([T.RandomZoomOut(p=0.5, generator=g), T.RandomIoUCrop(generator=g)]),
}
"""What moves places, without interpolation: generator -> transform."""
