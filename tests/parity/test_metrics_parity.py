"""Metrics of detection beside pycocotools, on random images with crowds, ties and boxes of all sizes."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from tinygrad_ja.training.metrics import coco_map

coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
cocoeval = pytest.importorskip("pycocotools.cocoeval")

NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def random_images(seed: int, images: int, classes: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rng = np.random.default_rng(seed)
    found, true = [], []
    for _ in range(images):
        n = int(rng.integers(0, 9))
        corner = rng.uniform(0, 300, (n, 2)).round(1)
        size = np.exp(rng.uniform(1.0, 5.5, (n, 2))).round(1)
        boxes = np.concatenate([corner, corner + size], axis=1)
        labels = rng.integers(0, classes, n)
        true.append({"boxes": boxes, "labels": labels, "iscrowd": (rng.uniform(size=n) < 0.15).astype(int)})
        copies = boxes[rng.integers(0, n, 3 * n)] if n else np.zeros((0, 4))
        moved = copies + rng.normal(0, 1, copies.shape) * rng.choice([0.0, 2.0, 15.0], (len(copies), 1))
        stray = rng.uniform(0, 300, (2, 2))
        moved = np.concatenate([moved, np.concatenate([stray, stray + rng.uniform(5, 90, (2, 2))], axis=1)])
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 0.5)
        scores = rng.choice([0.9, 0.7, 0.5, 0.3], len(moved)) if rng.uniform() < 0.5 else rng.uniform(size=len(moved))
        found.append({"boxes": moved, "labels": rng.integers(0, classes, len(moved)), "scores": scores})
    return found, true


def by_pycocotools(found: list[dict[str, Any]], true: list[dict[str, Any]]) -> list[float]:
    def row(box: Any) -> list[float]:
        return [box[0], box[1], box[2] - box[0], box[3] - box[1]]

    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for image, (d, t) in enumerate(zip(found, true), 1):
        for box, label, crowd in zip(t["boxes"], t["labels"], t["iscrowd"]):
            area = (box[2] - box[0]) * (box[3] - box[1])
            entry = {"id": len(annotations) + 1, "image_id": image, "category_id": int(label), "bbox": row(box)}
            annotations.append({**entry, "area": area, "iscrowd": int(crowd)})
        for box, label, score in zip(d["boxes"], d["labels"], d["scores"]):
            detections.append({"image_id": image, "category_id": int(label), "bbox": row(box), "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        ground = coco.COCO()
        categories = [{"id": c} for c in sorted({a["category_id"] for a in annotations})]
        ground.dataset = {
            "images": [{"id": i + 1} for i in range(len(true))],
            "annotations": annotations,
            "categories": categories,
        }
        ground.createIndex()
        evaluation = cocoeval.COCOeval(ground, ground.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


@pytest.mark.parametrize("seed", range(8))
def test_coco_map_gives_the_numbers_of_pycocotools(seed: int) -> None:
    found, true = random_images(seed, images=12, classes=1 + seed % 4)
    ours = coco_map(found, true)
    assert [ours[name] for name in NAMES] == pytest.approx(by_pycocotools(found, true), abs=1e-12)


def test_more_than_a_hundred_detections_of_one_class() -> None:
    found, true = random_images(100, images=3, classes=1)
    rng = np.random.default_rng(1)
    for d in found:
        repeat = rng.integers(0, len(d["boxes"]), 150)
        d["boxes"], d["labels"] = d["boxes"][repeat] + rng.normal(0, 0.1, (150, 1)), d["labels"][repeat]
        d["scores"] = rng.uniform(size=150)
    ours = coco_map(found, true)
    assert [ours[name] for name in NAMES] == pytest.approx(by_pycocotools(found, true), abs=1e-12)
