"""mAP of COCO, the same numbers as pycocotools'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .detection import Boxes, Image, overlaps, read_images

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
MOST = (1, 10, 100)
"""How many detections of an image count, the highest scores first."""


def coco_map(predictions: Sequence[Image], targets: Sequence[Image]) -> dict[str, float]:
    """AP and AR of the COCO challenge for boxes (Lin et al. 2014): means over IoU thresholds 0.50, 0.55, ... 0.95 and classes.

    predictions: for each image a dict of ``boxes`` (N, 4) as x1, y1, x2, y2, ``scores`` and ``labels``. targets: ``boxes`` and ``labels``,
    and if they like ``iscrowd`` (crowds count neither as found nor as missed) and ``area`` (default: that of the box).
    Returns ``AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl`` (small: below 32² pixels, large: above 96²) and ``AR1``, ``AR10``, ``AR100``
    (so many detections of an image), ``ARs``, ``ARm``, ``ARl``; -1 where there is no true box, as pycocotools has it.
    Raises ArgumentError for images or fields that do not fit.

    >>> true = [{"boxes": [[0, 0, 10, 10]], "labels": [1]}]
    >>> found = [{"boxes": [[0, 0, 10, 8]], "labels": [1], "scores": [0.9]}]
    >>> made = coco_map(found, true)
    >>> round(made["AP"], 3), round(made["AP50"], 3), made["AR1"]
    (0.7, 1.0, 0.7)
    """
    found, true = read_images("coco_map", predictions, targets)
    classes = sorted({int(c) for image in true for c in image.labels})
    shape = (len(THRESHOLDS), len(classes))
    precision = {name: np.full((*shape, len(RECALLS)), -1.0) for name in AREAS}
    recall = {(name, most): np.full(shape, -1.0) for name in AREAS for most in MOST}
    for index, label in enumerate(classes):
        images = [_of_class(d, t, label) for d, t in zip(found, true)]
        for name, limits in AREAS.items():
            matched = [_match(image, limits) for image in images if len(image.scores) or len(image.area)]
            for most in MOST:
                curve = _accumulate(matched, most)
                if curve is not None:
                    recall[name, most][:, index] = curve[1]
                    if most == MOST[-1]:
                        precision[name][:, index] = curve[0]
    return _summary(precision, recall)


class _Pair(NamedTuple):
    """Detections of one class in one image, the highest scores first, and the true boxes."""

    scores: np.ndarray
    sizes: np.ndarray
    overlap: np.ndarray
    area: np.ndarray
    crowd: np.ndarray


class _Matched(NamedTuple):
    """(10, D) which detections have a true box, and which do not count; (D,) scores; how many true boxes count."""

    hit: np.ndarray
    ignored: np.ndarray
    scores: np.ndarray
    positives: int


def _of_class(d: Boxes, t: Boxes, label: int) -> _Pair:
    mine, its = np.flatnonzero(d.labels == label), t.labels == label
    mine = mine[np.argsort(-d.scores[mine], kind="stable")][: MOST[-1]]
    boxes = d.boxes[mine]
    sizes = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return _Pair(d.scores[mine], sizes, overlaps(boxes, t.boxes[its], t.crowd[its]), t.area[its], t.crowd[its])


def _match(image: _Pair, limits: tuple[float, float]) -> _Matched:
    """Each detection takes the free true box with which it overlaps most, those that count before those that do not."""
    low, high = limits
    outside = image.crowd | (image.area < low) | (image.area > high)
    order = np.argsort(outside, kind="stable")
    outside, crowd, overlap = outside[order], image.crowd[order], image.overlap[:, order]
    shape = (len(THRESHOLDS), len(image.scores))
    hit, ignored = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for k, threshold in enumerate(THRESHOLDS):
        taken = np.zeros(len(order), dtype=bool)
        for i in range(len(image.scores)):
            g = _best(overlap[i], outside, taken & ~crowd, min(threshold, 1 - 1e-10))
            if g is not None:
                taken[g] = hit[k, i] = True
                ignored[k, i] = outside[g]
    elsewhere = (image.sizes < low) | (image.sizes > high)
    ignored |= ~hit & elsewhere[None, :]
    return _Matched(hit, ignored, image.scores, int((~outside).sum()))


def _best(overlap: np.ndarray, outside: np.ndarray, taken: np.ndarray, threshold: float) -> int | None:
    """The last of the largest overlaps at or above the threshold, among the boxes that count or, failing that, the others."""
    for group in (~outside, outside):
        able = np.flatnonzero(group & ~taken & (overlap >= threshold))
        if able.size:
            values = overlap[able]
            return int(able[len(values) - 1 - values[::-1].argmax()])
    return None


def _accumulate(images: list[_Matched], most: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Interpolated precision (10, 101) and recall (10,) over all images; None without a true box."""
    positives = sum(image.positives for image in images)
    if positives == 0:
        return None
    scores = np.concatenate([image.scores[:most] for image in images])
    order = np.argsort(-scores, kind="stable")
    hit = np.concatenate([image.hit[:, :most] for image in images], axis=1)[:, order]
    ignored = np.concatenate([image.ignored[:, :most] for image in images], axis=1)[:, order]
    right = np.cumsum(hit & ~ignored, axis=1).astype(np.float64)
    wrong = np.cumsum(~hit & ~ignored, axis=1)
    recall = right / positives
    precision = right / (right + wrong + np.spacing(1))
    made = np.zeros((len(THRESHOLDS), len(RECALLS)))
    for k in range(len(THRESHOLDS)):
        best = np.maximum.accumulate(precision[k][::-1])[::-1]
        at = np.searchsorted(recall[k], RECALLS, side="left")
        made[k] = np.concatenate([best, [0.0]])[at]
    return made, recall[:, -1] if scores.size else np.zeros(len(THRESHOLDS))


def _summary(precision: dict[str, np.ndarray], recall: dict[tuple[str, int], np.ndarray]) -> dict[str, float]:
    def mean(values: Any) -> float:
        there = values[values > -1]
        return float(there.mean()) if there.size else -1.0

    every = precision["all"]
    most = MOST[-1]
    return {
        "AP": mean(every),
        "AP50": mean(every[0]),
        "AP75": mean(every[5]),
        "APs": mean(precision["small"]),
        "APm": mean(precision["medium"]),
        "APl": mean(precision["large"]),
        "AR1": mean(recall["all", 1]),
        "AR10": mean(recall["all", 10]),
        "AR100": mean(recall["all", most]),
        "ARs": mean(recall["small", most]),
        "ARm": mean(recall["medium", most]),
        "ARl": mean(recall["large", most]),
    }
