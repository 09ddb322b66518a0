"""The crops and borders with which SSD is trained (Liu et al. 2016, sections 2.2 and 3.6), under torchvision's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backend.random import Generator
from ...core.host import on_host
from ...errors import error, refusal
from ...ops.region import box_iou
from ..arrays import array_of
from . import geometry
from .base import Geometric, Transform, probability
from .boxes import checked_boxes, mapped, nonempty, only
from .framing import Frame, FrameCrop, span
from .geometry import size_of


class RandomZoomOut(Geometric):
    """The picture somewhere on a larger ground, with probability ``p``: its objects become small.

    fill: the ground's colour, a number or one for each channel. side_range: how many times as long the sides become, between these.
    """

    def __init__(
        self,
        fill: Any = 0,
        side_range: tuple[float, float] = (1.0, 4.0),
        p: float = 0.5,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(generator)
        self.fill, self.p = fill, probability("RandomZoomOut", p)
        self.side_range = span("RandomZoomOut", "side_range", side_range)
        if self.side_range[0] < 1:
            rule, fix = (
                ("1 <= low <= high", "1 <= 下限 <= 上限"),
                ("side_range=(1.0, 4.0).", "side_range=(1.0, 4.0) としてください。"),
            )
            raise refusal("RandomZoomOut", "side_range", side_range, rule, fix)

    def make_params(self, image: Any, target: Any) -> Any:
        """The border (left, top, right, bottom)."""
        if not self.happens(self.p):
            return None
        rows, columns = size_of(image)
        times = self.uniform(*self.side_range)
        height, width = int(rows * times), int(columns * times)
        left, top = int((width - columns) * self.uniform(0, 1)), int((height - rows) * self.uniform(0, 1))
        return left, top, width - columns - left, height - rows - top

    def transform(self, image: Any, params: Any) -> Any:
        """The picture on its ground."""
        return geometry.pad(image, params, self.fill)

    def transform_mask(self, mask: Any, params: Any) -> Any:
        """The mask; 0 on the ground."""
        return geometry.pad(mask, params, 0)

    def transform_boxes(self, boxes: Any, params: Any) -> Any:
        """Boxes move right and down."""
        return mapped(boxes, shift=params[:2])


class RandomIoUCrop(FrameCrop):
    """A random part that covers some object to a chosen degree; needs a target with ``boxes``.

    One of ``sampler_options`` is chosen: 1 or more leaves the picture as it is; else parts are drawn until one has an IoU of at least that
    with some box. Sides are ``min_scale`` to ``max_scale`` of the picture's, width / height ``min_aspect_ratio`` to ``max_aspect_ratio``; after
    ``trials`` failures another option is chosen, after 40 choices the picture stays. Boxes stay whose centre is in the part, cut off at
    its edges; the others go, with their labels.
    """

    def __init__(
        self,
        min_scale: float = 0.3,
        max_scale: float = 1.0,
        min_aspect_ratio: float = 0.5,
        max_aspect_ratio: float = 2.0,
        sampler_options: Sequence[float] | None = None,
        trials: int = 40,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(generator)
        self.min_scale, self.max_scale = span("RandomIoUCrop", "(min_scale, max_scale)", (min_scale, max_scale))
        ratios = (min_aspect_ratio, max_aspect_ratio)
        self.min_aspect_ratio, self.max_aspect_ratio = span("RandomIoUCrop", "(min_aspect_ratio, max_aspect_ratio)", ratios)
        self.sampler_options = list(sampler_options or (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0))
        self.trials = trials

    def make_params(self, image: Any, target: Any) -> Frame | None:
        """The part, or None."""
        if not isinstance(target, dict) or "boxes" not in target:
            rule = ("a target with boxes", "boxes のある target")
            fix = ('call it with (image, {"boxes": ...}).', '(image, {"boxes": ...}) として呼び出してください。')
            raise error("TG-A003", op="RandomIoUCrop", reason=rule, fix=fix)
        boxes = on_host(checked_boxes("RandomIoUCrop", target))
        if not len(boxes):
            return None
        for _ in range(40):
            least = self.sampler_options[self.integer(0, len(self.sampler_options) - 1)]
            if least >= 1.0:
                return None
            for _ in range(self.trials):
                frame = self._draw(*size_of(image))
                if frame is not None and self._covers(frame, boxes, least):
                    return frame
        return None

    def _draw(self, rows: int, columns: int) -> Frame | None:
        width = int(columns * self.uniform(self.min_scale, self.max_scale))
        height = int(rows * self.uniform(self.min_scale, self.max_scale))
        if not (height and width and self.min_aspect_ratio <= width / height <= self.max_aspect_ratio):
            return None
        left = int((columns - width) * self.uniform(0, 1))
        top = int((rows - height) * self.uniform(0, 1))
        return Frame(top, left, height, width)

    def _covers(self, frame: Frame, boxes: np.ndarray, least: float) -> bool:
        inside = _centres_inside(boxes, frame)
        if not inside.any():
            return False
        part = np.array([[frame.left, frame.top, frame.left + frame.width, frame.top + frame.height]], boxes.dtype)
        return bool(box_iou(boxes[inside], part).max() >= least)

    def transform_target(self, target: dict[str, Any], params: Frame) -> dict[str, Any]:
        """The target without the boxes whose centre is not in the part."""
        target["boxes"] = checked_boxes("RandomIoUCrop", target)
        kept = _centres_inside(array_of("RandomIoUCrop", target["boxes"], "boxes"), params)
        return super().transform_target(only(target, kept), params)


def _centres_inside(boxes: Any, frame: Frame) -> Any:
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    across = (x > frame.left) & (x < frame.left + frame.width)
    return across & (y > frame.top) & (y < frame.top + frame.height)


class SanitizeBoundingBoxes(Transform):
    """Takes away boxes with a side shorter than ``min_size`` pixels or a smaller area than ``min_area``, and what belongs to them."""

    def __init__(self, min_size: float = 1.0, min_area: float = 1.0) -> None:
        super().__init__()
        self.min_size, self.min_area = float(min_size), float(min_area)

    def transform(self, image: Any, params: Any) -> Any:
        """The picture stays."""
        return image

    def transform_target(self, target: dict[str, Any], params: Any) -> dict[str, Any]:
        """The target without the small boxes."""
        if "boxes" not in target:
            return target
        target["boxes"] = checked_boxes("SanitizeBoundingBoxes", target)
        array = array_of("SanitizeBoundingBoxes", target["boxes"], "boxes")
        area = (array[:, 2] - array[:, 0]) * (array[:, 3] - array[:, 1])
        return only(target, nonempty(target["boxes"], self.min_size) & (area >= self.min_area))
