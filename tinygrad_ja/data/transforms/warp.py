"""Pictures turned, moved, stretched and sheared: an affine map of places, looked up with ``grid_sample``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backend.random import Generator
from ...errors import one_of, refusal
from ...ops.grid import affine_grid, grid_sample
from ...ops.join import cat
from ...ops.shape import expand, reshape
from ..arrays import array_of, placed
from .base import Geometric
from .boxes import bounding, clipped
from .framing import span
from .geometry import as_before, as_floats, need_channels, size_of

_WAYS = ("nearest", "bilinear")


def affine_matrix(
    angle: float, translate: Sequence[float], scale: float, shear: Sequence[float], center: Sequence[float] = (0.0, 0.0)
) -> np.ndarray:
    """The map of places (x, y, 1), (3, 3): T(translate) · C · R(angle) · Shear · scale · C⁻¹, where C moves the origin to ``center``.

    angle: degrees, clockwise, since y points down. shear: degrees in x and y, as torchvision has them. Places in pixels.

    >>> affine_matrix(90, (0, 0), 1, (0, 0)).round(6).tolist()
    [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    turn, shear_x, shear_y = (math.radians(value) for value in (angle, *shear))
    linear = np.array(
        [
            [math.cos(turn - shear_y), -math.cos(turn - shear_y) * math.tan(shear_x) - math.sin(turn) * math.cos(shear_y)],
            [math.sin(turn - shear_y), -math.sin(turn - shear_y) * math.tan(shear_x) + math.cos(turn) * math.cos(shear_y)],
        ]
    )
    middle = np.array(center, np.float64)
    made = np.eye(3)
    made[:2, :2] = linear * (scale / math.cos(shear_y))
    made[:2, 2] = np.array(translate, np.float64) + middle - made[:2, :2] @ middle
    return made


def warp(image: Any, matrix: np.ndarray, interpolation: str = "nearest", fill: Any = 0) -> Any:
    """The picture moved by a map of places (3, 3) round its middle; where nothing comes from, ``fill``, a number or one for each channel."""
    rows, columns = size_of(image)
    half = np.diag([columns / 2, rows / 2, 1.0])
    # places from -1 to 1, as affine_grid counts, from the new picture to the old
    back = np.linalg.inv(half) @ np.linalg.inv(matrix) @ half
    shape = tuple(image.shape)
    channels = shape[-3] if len(shape) > 2 else 1
    pixels = as_floats(reshape(image, (-1, channels, rows, columns)))
    dtype = array_of("warp", pixels).dtype
    theta = placed(back[None, :2].astype(dtype), image)
    grid = expand(affine_grid(theta, (1, 1, rows, columns), align_corners=False), pixels.shape[0], -1, -1, -1)
    made = grid_sample(pixels, grid, interpolation, "zeros", align_corners=False)
    if np.any(np.asarray(fill) != 0):
        ones = placed(np.ones((1, 1, rows, columns), dtype), image)
        seen = grid_sample(ones, grid[:1], interpolation, "zeros", align_corners=False)
        made = made + (1 - seen) * _filling(image, fill, dtype)
    return reshape(as_before(made, image), shape)


def _filling(image: Any, fill: Any, dtype: Any) -> Any:
    if not isinstance(fill, (tuple, list)):
        return fill
    need_channels("warp", image, len(fill))
    return placed(np.array(fill, dtype).reshape(-1, 1, 1), image)


def affine(
    image: Any,
    angle: float,
    translate: Sequence[float],
    scale: float,
    shear: Sequence[float],
    interpolation: str = "nearest",
    fill: Any = 0,
    center: Sequence[float] | None = None,
) -> Any:
    """The picture turned clockwise by ``angle`` degrees, sheared, stretched, then moved by ``translate`` (x, y) pixels.

    center: the place (x, y) that stays, by default the middle. interpolation: "nearest" or "bilinear".
    """
    return warp(image, affine_matrix(angle, translate, scale, shear, _from_middle(image, center)), interpolation, fill)


def rotate(
    image: Any, angle: float, interpolation: str = "nearest", fill: Any = 0, center: Sequence[float] | None = None
) -> Any:
    """The picture turned counter-clockwise by ``angle`` degrees, in its own size.

    >>> import numpy as np
    >>> rotate(np.array([[[1.0, 2.0], [3.0, 4.0]]]), 90)
    array([[[2., 4.],
            [1., 3.]]])
    """
    return affine(image, -angle, (0, 0), 1.0, (0, 0), interpolation, fill, center)


def _from_middle(image: Any, center: Sequence[float] | None) -> tuple[float, float]:
    rows, columns = size_of(image)
    return (0.0, 0.0) if center is None else (center[0] - columns / 2, center[1] - rows / 2)


class _Warp(Geometric):
    """What the two share: their parameter is a matrix. Boxes become the boxes round their turned corners, cut off at the edges."""

    interpolation: str
    fill: Any
    center: Any

    def transform(self, image: Any, params: Any) -> Any:
        """The picture, moved."""
        return warp(image, params[0], self.interpolation, self.fill)

    def transform_mask(self, mask: Any, params: Any) -> Any:
        """The mask, moved, with values that it had, or 0."""
        return warp(mask, params[0], "nearest")

    def transform_boxes(self, boxes: Any, params: Any) -> Any:
        """The boxes round the moved boxes."""
        matrix, (rows, columns) = params
        x = [boxes[:, i : i + 1] - columns / 2 for i in (0, 2, 2, 0)]
        y = [boxes[:, i : i + 1] - rows / 2 for i in (1, 1, 3, 3)]
        (xx, xy), (yx, yy) = matrix[:2, :2].tolist()
        corners = [(xx * a + xy * b, yx * a + yy * b) for a, b in zip(x, y)]
        shift_x, shift_y = matrix[0, 2] + columns / 2, matrix[1, 2] + rows / 2
        across = cat([a for a, _ in corners], 1) + float(shift_x)
        down = cat([b for _, b in corners], 1) + float(shift_y)
        return clipped(bounding(across, down), rows, columns)


def _either_side(op: str, argument: str, value: Any) -> tuple[float, float]:
    """(low, high) from a number, so much to either side of 0, or a range."""
    given = (-value, value) if isinstance(value, (int, float)) and value >= 0 else value
    return span(op, argument, given, -math.inf)


class RandomRotation(_Warp):
    """Turned by a random angle in degrees: ``degrees`` (low, high), or a number for as much to either side. The size stays."""

    def __init__(
        self,
        degrees: float | Sequence[float],
        interpolation: str = "nearest",
        center: Sequence[float] | None = None,
        fill: Any = 0,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(generator)
        self.degrees = _either_side("RandomRotation", "degrees", degrees)
        self.interpolation = one_of("RandomRotation", "interpolation", interpolation, _WAYS)
        self.center, self.fill = center, fill

    def make_params(self, image: Any, target: Any) -> Any:
        """The matrix, and the size."""
        angle = self.uniform(*self.degrees)
        return affine_matrix(-angle, (0, 0), 1.0, (0, 0), _from_middle(image, self.center)), size_of(image)


class RandomAffine(_Warp):
    """Turned, moved, stretched and sheared at random, round ``center``, by default the middle.

    degrees: as for ``RandomRotation``. translate: at most this share of (width, height) to either side. scale: (low, high). shear: degrees, a
    number or (low, high) in x, or (low, high) in x and in y in one tuple of four.
    """

    def __init__(
        self,
        degrees: float | Sequence[float],
        translate: tuple[float, float] | None = None,
        scale: tuple[float, float] | None = None,
        shear: float | Sequence[float] | None = None,
        interpolation: str = "nearest",
        fill: Any = 0,
        center: Sequence[float] | None = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(generator)
        self.degrees = _either_side("RandomAffine", "degrees", degrees)
        self.translate = (0.0, 0.0) if translate is None else translate
        pair = isinstance(self.translate, (tuple, list)) and len(self.translate) == 2
        if not pair or not all([0 <= share <= 1 for share in self.translate]):
            rule, fix = (
                ("two numbers in [0, 1]", "[0, 1] の数 2 つ"),
                ("translate=(0.1, 0.1).", "(0.1, 0.1) などとしてください。"),
            )
            raise refusal("RandomAffine", "translate", translate, rule, fix)
        self.scale = span("RandomAffine", "scale", scale or (1.0, 1.0))
        sheared: Any = (0.0, 0.0) if shear is None else shear
        both = isinstance(sheared, (tuple, list)) and len(sheared) == 4
        parts = (sheared[:2], sheared[2:]) if both else (sheared, (0.0, 0.0))
        self.shear = tuple([_either_side("RandomAffine", "shear", part) for part in parts])
        self.interpolation = one_of("RandomAffine", "interpolation", interpolation, _WAYS)
        self.center, self.fill = center, fill

    def make_params(self, image: Any, target: Any) -> Any:
        """The matrix, and the size."""
        rows, columns = size_of(image)
        angle = self.uniform(*self.degrees)
        most = (self.translate[0] * columns, self.translate[1] * rows)
        shift = [round(self.uniform(-extent, extent)) for extent in most]
        scale = self.uniform(*self.scale)
        shear = [self.uniform(*part) for part in self.shear]
        return affine_matrix(angle, shift, scale, shear, _from_middle(image, self.center)), (rows, columns)
