"""Imported operators of pictures: sampling at places, regions, boxes, blocks of pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...nn import functional as F
from ...ops.creation import from_numpy
from ...ops.extremum import amax
from ...ops.join import cat, stack
from .import_table import Call, imports, number


@imports("GridSample")
def _grid_sample(call: Call, x: Any, grid: Any) -> Any:
    mode = call.get("mode", "linear" if call.opset >= 20 else "bilinear")
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    call.allow([*x.shape[:2], *grid.shape[1:-1]])
    return F.grid_sample(x, grid, mode, call.get("padding_mode", "zeros"), bool(call.get("align_corners", 0)))


@imports("RoiAlign", control=(1, 2))
def _roi_align(call: Call, x: Any, rois: Any, batch: Any) -> Any:
    size = (call.get("output_height", 1), call.get("output_width", 1))
    ratio, scale = call.get("sampling_ratio", 0), call.get("spatial_scale", 1.0)
    call.allow([rois.shape[0], x.shape[1], *size, max(ratio, 1), max(ratio, 1)])
    default = "half_pixel" if call.opset >= 16 else "output_half_pixel"
    aligned = call.get("coordinate_transformation_mode", default) == "half_pixel"
    if call.get("mode", "avg") == "avg":
        boxes = [rois[i : i + 1] for i in range(rois.shape[0])]
        made = [
            F.roi_align(x[int(b) : int(b) + 1], [box], size, scale, ratio or -1, aligned)
            for b, box in zip(batch.tolist(), boxes)
        ]
        return cat(made)
    return stack([_largest(call, x[int(b)], box, size, ratio, scale, aligned) for b, box in zip(batch.tolist(), rois.tolist())])


def _largest(call: Call, x: Any, box: list[float], size: tuple[int, int], ratio: int, scale: float, aligned: bool) -> Any:
    """Mode "max": of all corners round the samples of a cell, each times its bilinear weight, the largest."""
    shift = 0.5 if aligned else 0.0
    left, top, right, bottom = [n * scale - shift for n in box]
    rows = _corners(call, top, bottom, size[0], x.shape[1], ratio, aligned)
    columns = _corners(call, left, right, size[1], x.shape[2], ratio, aligned)
    values = []
    for row, row_weight in rows:
        for column, column_weight in columns:
            weight = from_numpy((row_weight[:, None] * column_weight).astype(x.dtype)).to(x.device)
            seen = x[:, from_numpy(row[:, None]).to(x.device), from_numpy(column[None]).to(x.device)] * weight
            cells = seen.reshape(x.shape[0], size[0], -1, size[1], len(column) // size[1])
            values.append(amax(cells, (2, 4)))
    return amax(stack(values), 0)


def _corners(
    call: Call, start: float, end: float, cells: int, size: int, ratio: int, aligned: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Along one axis, the element before and after each sample, with its weight."""
    length = end - start if aligned else max(end - start, 1.0)
    samples = ratio if ratio > 0 else max(math.ceil(length / cells), 1)
    call.allow((cells, samples))
    places = start + (np.arange(cells * samples) + 0.5) * (length / (cells * samples))
    outside = (places < -1) | (places > size)
    places = np.clip(places, 0, size - 1)
    low = np.floor(places).astype(np.int64)
    high = np.minimum(low + 1, size - 1)
    part = places - low
    return [(low, (1 - part) * ~outside), (high, part * ~outside)]


@imports("NonMaxSuppression", control=(2, 3, 4))
def _non_max_suppression(
    call: Call, boxes: Any, scores: Any, most: Any = None, iou_threshold: Any = None, score_threshold: Any = None
) -> Any:
    """(batch, class, box) of the boxes that stay, the best first in each class."""
    limit = int(number(most, 0))
    overlap, least = number(iou_threshold, 0.0), number(score_threshold)
    corners = _as_corners(boxes.detach(), bool(call.get("center_point_box", 0)))
    chosen = []
    for image in range(boxes.shape[0]):
        for label in range(scores.shape[1]):
            score = scores.detach()[image, label]
            allowed = np.flatnonzero(np.ones(score.shape, bool) if least is None else (score > least).cpu().numpy())
            kept = from_numpy(allowed).to(boxes.device)
            stay = kept[F.nms(corners[image][kept], score[kept], overlap)].tolist()[:limit]
            chosen += [(image, label, box) for box in stay]
    return from_numpy(np.array(chosen, dtype=np.int64).reshape(-1, 3)).to(boxes.device)


def _as_corners(boxes: Any, by_centre: bool) -> Any:
    """(low, low, high, high), whichever diagonal is given."""
    if by_centre:
        centre, size = boxes[..., :2], boxes[..., 2:]
        first, second = centre - size / 2, centre + size / 2
    else:
        first, second = boxes[..., :2], boxes[..., 2:]
    return stack([first.minimum(second), first.maximum(second)], -2).reshape(boxes.shape)


@imports("DepthToSpace")
def _depth_to_space(call: Call, x: Any) -> Any:
    batch, channels, height, width = x.shape
    block = call.get("blocksize")
    if call.get("mode", "DCR") == "DCR":
        parts = x.reshape(batch, block, block, channels // block**2, height, width).permute(0, 3, 4, 1, 5, 2)
    else:
        parts = x.reshape(batch, channels // block**2, block, block, height, width).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(batch, channels // block**2, height * block, width * block)


@imports("SpaceToDepth")
def _space_to_depth(call: Call, x: Any) -> Any:
    batch, channels, height, width = x.shape
    block = call.get("blocksize")
    parts = x.reshape(batch, channels, height // block, block, width // block, block)
    order = (0, 3, 5, 1, 2, 4) if call.get("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return parts.permute(order).reshape(batch, channels * block**2, height // block, width // block)
