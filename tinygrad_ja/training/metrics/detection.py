"""Average precision of detections, as PASCAL VOC defines it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...core.host import on_host
from ...errors import Phrase, refusal


class Boxes(NamedTuple):
    """One image's boxes on the host: (N, 4) as x1, y1, x2, y2; class numbers (N,); scores, crowd flags and areas (N,)."""

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    crowd: np.ndarray
    area: np.ndarray


Image = Mapping[str, Any]


def as_boxes(op: str, argument: str, image: Image, needs_scores: bool) -> Boxes:
    """A dict with ``boxes``, ``labels`` and, for predictions, ``scores`` (targets: ``iscrowd``, ``area`` or ``difficult`` if they like)."""
    wanted = ["boxes", "labels", *(["scores"] if needs_scores else [])]
    missing = [name for name in wanted if name not in image]
    if missing:
        rule: Phrase = f"dict: {', '.join(wanted)}"
        raise refusal(
            op, argument, list(image), rule, (f"add {', '.join(missing)}.", f"{', '.join(missing)} を加えてください。")
        )
    boxes = on_host(image["boxes"], np.float64).reshape(-1, 4)
    count = len(boxes)
    labels = on_host(image["labels"]).ravel().astype(np.int64)
    scores = on_host(image.get("scores", np.ones(count)), np.float64).ravel()
    crowd = on_host(image.get("iscrowd", image.get("difficult", np.zeros(count)))).ravel().astype(bool)
    sizes = boxes[:, 2:] - boxes[:, :2]
    area = on_host(image.get("area", sizes[:, 0] * sizes[:, 1]), np.float64).ravel()
    if not all(len(part) == count for part in (labels, scores, crowd, area)):
        lengths = [count, len(labels), len(scores), len(crowd), len(area)]
        rule = ("one label (and score, ...) for each box", "ボックスごとにラベル (とスコアなど) 1 つ")
        raise refusal(op, argument, lengths, rule, ("give all the same length.", "長さをそろえてください。"))
    if (sizes < 0).any() or not np.isfinite(boxes).all():
        rule = ("x1 <= x2 and y1 <= y2, finite", "x1 <= x2、y1 <= y2、有限の値")
        fix = ("convert from (x, y, w, h) first.", "(x, y, w, h) なら先に変換してください。")
        raise refusal(op, argument, boxes[((sizes < 0).any(1) | ~np.isfinite(boxes).all(1))][0].tolist(), rule, fix)
    return Boxes(boxes, labels, scores, crowd, area)


def overlaps(detected: np.ndarray, true: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """IoU of boxes (D, 4) and (G, 4): (D, G). Of a crowd the union is the detection alone."""
    low = np.maximum(detected[:, None, :2], true[None, :, :2])
    high = np.minimum(detected[:, None, 2:], true[None, :, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=2)
    area = np.prod(detected[:, 2:] - detected[:, :2], axis=1)[:, None]
    union = area + np.prod(true[:, 2:] - true[:, :2], axis=1)[None, :] - both
    if crowd is not None:
        union = np.where(crowd[None, :], area, union)
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


class Curve(NamedTuple):
    """Precision and recall after each detection, from the highest score down, (D,) each, with the scores."""

    precision: np.ndarray
    recall: np.ndarray
    scores: np.ndarray


def precision_recall_curve(hits: Any, scores: Any, positives: int) -> Curve:
    """hits: (D,) whether each detection is right. scores: (D,). positives: how many there were to find.

    >>> curve = precision_recall_curve([True, False, True], [0.9, 0.8, 0.7], 2)
    >>> curve.precision.round(2).tolist(), curve.recall.tolist()
    ([1.0, 0.5, 0.67], [0.5, 0.5, 1.0])
    """
    hit, score = on_host(hits).astype(bool), on_host(scores, np.float64)
    order = np.argsort(-score, kind="stable")
    right = np.cumsum(hit[order])
    return Curve(right / np.arange(1, len(right) + 1), right / max(positives, 1), score[order])


def average_precision(precision: Any, recall: Any, *, points: int | None = None) -> float:
    """Area under P(R), with each precision replaced by the highest at that recall or beyond (VOC 2010 and later).

    points: 11 for the mean at recalls 0, 0.1, ... 1 (VOC 2007), 101 for COCO's. Sources: Everingham et al. 2010; Lin et al. 2014.

    >>> average_precision([1.0, 0.5, 2 / 3], [0.5, 0.5, 1.0])
    0.8333333333333333
    """
    p, r = on_host(precision, np.float64), on_host(recall, np.float64)
    if not p.size:
        return 0.0
    best = np.maximum.accumulate(p[::-1])[::-1]
    if points is None:
        steps = np.diff(np.concatenate([[0.0], r]))
        return float((steps * best).sum())
    at = np.searchsorted(r, np.linspace(0.0, 1.0, points), side="left")
    return float(np.concatenate([best, [0.0]])[np.minimum(at, len(best))].mean())


def mean_average_precision(
    predictions: Sequence[Image], targets: Sequence[Image], *, iou_threshold: float = 0.5, points: int | None = None
) -> dict[str, Any]:
    """mAP of PASCAL VOC: AP of each class at one IoU threshold, and their mean.

    predictions: for each image a dict of ``boxes`` (N, 4) as x1, y1, x2, y2, ``scores`` (N,) and ``labels`` (N,). targets: ``boxes`` and
    ``labels``, and ``difficult`` (N,) if some boxes count neither as found nor as missed. points: as for ``average_precision``.
    A detection belongs to the true box of its class with which it overlaps most; the first one (by score) above the threshold is right,
    every other one is wrong. Classes without a true box do not count.
    Returns {"map": mean, "ap": {class: AP}, "curves": {class: Curve}}; NaN as mean without any true box.
    Raises ArgumentError for images or fields that do not fit.

    >>> true = [{"boxes": [[0, 0, 10, 10]], "labels": [1]}]
    >>> found = [{"boxes": [[0, 0, 10, 9], [50, 50, 60, 60]], "labels": [1, 1], "scores": [0.9, 0.8]}]
    >>> mean_average_precision(found, true)["map"]
    1.0
    """
    found, true = read_images("mean_average_precision", predictions, targets)
    classes = sorted({int(c) for image in true for c in image.labels[~image.crowd]})
    curves = {c: _voc_curve(found, true, c, iou_threshold) for c in classes}
    ap = {c: average_precision(curve.precision, curve.recall, points=points) for c, curve in curves.items()}
    return {"map": float(np.mean(list(ap.values()))) if ap else float("nan"), "ap": ap, "curves": curves}


def read_images(op: str, predictions: Sequence[Image], targets: Sequence[Image]) -> tuple[list[Boxes], list[Boxes]]:
    """Both sides on the host. Raises ArgumentError when their numbers differ."""
    if len(predictions) != len(targets):
        rule = ("as many images as targets", "targets と同じ枚数")
        fix = ("give an empty entry to an image without detections.", "検出のない画像には空の要素を入れてください。")
        raise refusal(op, "predictions", f"{len(predictions)}, {len(targets)}", rule, fix)
    return [as_boxes(op, "predictions", p, True) for p in predictions], [as_boxes(op, "targets", t, False) for t in targets]


def _voc_curve(found: list[Boxes], true: list[Boxes], label: int, threshold: float) -> Curve:
    hits: list[bool] = []
    scores: list[float] = []
    rows = [(score, image, i) for image, d in enumerate(found) for i, score in enumerate(d.scores) if d.labels[i] == label]
    taken = [np.zeros(len(t.labels), dtype=bool) for t in true]
    overlap = [overlaps(d.boxes, t.boxes) for d, t in zip(found, true)]
    for score, image, i in sorted(rows, key=lambda row: -row[0]):
        t = true[image]
        of_class = np.where(t.labels == label, overlap[image][i], -1.0)
        best = int(of_class.argmax()) if of_class.size else -1
        if best < 0 or of_class[best] < threshold:
            hits.append(False)
        elif t.crowd[best]:
            continue
        else:
            hits.append(not taken[image][best])
            taken[image][best] = True
        scores.append(score)
    positives = sum(int(((t.labels == label) & ~t.crowd).sum()) for t in true)
    return precision_recall_curve(hits, scores, positives)
