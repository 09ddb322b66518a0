"""Boxes (x1, y1, x2, y2) in pixels, float (K, 4), as they follow a picture; and the rows of a target that belong to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.host import on_host
from ...errors import error
from ...ops.join import stack
from ...ops.piecewise import clamp, maximum, minimum
from ..arrays import array_of, converted, placed

PER_BOX = ("boxes", "labels", "masks", "area", "iscrowd", "difficult")
"""Entries of a target that have one row for each box."""


def checked_boxes(op: str, target: dict[str, Any]) -> Any:
    """The boxes of a target as float (K, 4). Raises ShapeError for another shape, or for rows of labels and the like that are not K."""
    boxes = target["boxes"]
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4) if isinstance(boxes, (list, tuple)) else boxes
    array = array_of(op, boxes, "boxes")
    rows = {name: _count(value) for name, value in {**target, "boxes": boxes}.items() if name in PER_BOX}
    if array.ndim != 2 or array.shape[1] != 4 or set(rows.values()) != {array.shape[0]}:
        rule = (
            "boxes (K, 4), and K rows in everything that belongs to them",
            "boxes は (K, 4)。それに対応するほかの項目も K 行",
        )
        fix = ("check the target.", "target を確かめてください。")
        raise error("TG-S002", op=op, rule=rule, shapes=f"boxes {tuple(array.shape)}, rows {rows}", fix=fix)
    return boxes if array.dtype.kind == "f" else converted(boxes, np.dtype(np.float32))


def _count(rows: Any) -> int | None:
    shape: tuple[int, ...] = (len(rows),) if isinstance(rows, (list, tuple)) else getattr(rows, "shape", ())
    return shape[0] if len(shape) else None


def nonempty(boxes: Any, least: float = 0.0) -> Any:
    """Which boxes, bool (K,), are wider and higher than 0, and no side shorter than ``least``."""
    array = array_of("nonempty", boxes, "boxes")
    sides = array[:, 2:] - array[:, :2]
    return ((sides > 0) & (sides >= least)).all(1)


def only(target: dict[str, Any], kept: Any) -> dict[str, Any]:
    """The target with those of its boxes, and of what belongs to them, for which ``kept`` (K,) is True."""
    host = on_host(kept)
    if host.all():
        return target
    numbers = np.flatnonzero(host).tolist()
    made = dict(target)
    for name in PER_BOX:
        if name in target:
            made[name] = [target[name][i] for i in numbers] if isinstance(target[name], list) else _rows(target[name], numbers)
    return made


def _rows(value: Any, numbers: list[int]) -> Any:
    index = placed(np.array(numbers, np.int64), value)
    return value[index]


def mapped(boxes: Any, scale: tuple[float, float] = (1.0, 1.0), shift: tuple[float, float] = (0.0, 0.0)) -> Any:
    """Boxes in a picture that was stretched by ``scale`` (x, y) and then moved by ``shift`` (x, y)."""
    dtype = array_of("mapped", boxes, "boxes").dtype
    return boxes * placed(np.array(scale * 2, dtype), boxes) + placed(np.array(shift * 2, dtype), boxes)


def clipped(boxes: Any, height: int, width: int) -> Any:
    """The part of each box that lies inside of a picture."""
    x1, y1, x2, y2 = [boxes[:, i] for i in range(4)]
    return stack([clamp(x1, 0, width), clamp(y1, 0, height), clamp(x2, 0, width), clamp(y2, 0, height)], 1)


def mirrored(boxes: Any, extent: int, axis: int) -> Any:
    """Boxes in a mirror: axis 0 swaps left and right in a picture ``extent`` wide, axis 1 top and bottom."""
    columns = [boxes[:, i] for i in range(4)]
    columns[axis], columns[axis + 2] = extent - columns[axis + 2], extent - columns[axis]
    return stack(columns, 1)


def bounding(corners_x: Any, corners_y: Any) -> Any:
    """The boxes (K, 4) round four corners each, x and y (K, 4)."""
    columns = []
    for pick in (minimum, maximum):
        for corners in (corners_x, corners_y):
            first, second = pick(corners[:, 0], corners[:, 1]), pick(corners[:, 2], corners[:, 3])
            columns.append(pick(first, second))
    return stack(columns, 1)
