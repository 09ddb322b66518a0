"""Boxes and regions beside plain loops written from the papers' definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, AxisError, ShapeError
from tinygrad_ja.nn import functional as F
from tinygrad_ja.testing import gradcheck

RNG = np.random.default_rng(0)
PICTURES = RNG.normal(size=(2, 3, 9, 11))


def random_boxes(count, seed=0, high=10.0):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-1, high, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0, high / 2, (count, 2))], 1)


def with_pictures(boxes, pictures=2):
    return np.concatenate([np.arange(len(boxes))[:, None] % pictures, boxes], 1)


# ---- boxes


def iou(a, b):
    width, height = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def test_box_iou():
    one, two = random_boxes(6), random_boxes(5, 1)
    np.testing.assert_allclose(F.box_iou(one, two), [[iou(a, b) for b in two] for a in one])
    assert F.box_iou(tg.tensor([[0.0, 0.0, 1.0, 1.0]]), tg.tensor([[2.0, 2.0, 3.0, 3.0]])).tolist() == [[0.0]]
    assert F.box_iou(one, two[:0]).shape == (6, 0)


def test_box_iou_is_differentiable():
    assert gradcheck(F.box_iou, (tg.tensor(random_boxes(4)).requires_grad_(), tg.tensor(random_boxes(3, 1)).requires_grad_()))


def kept_by_loops(boxes, scores, threshold):
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 1.0])
def test_nms(threshold):
    boxes, scores = random_boxes(40, 2), np.random.default_rng(3).uniform(size=40)
    assert F.nms(tg.tensor(boxes), tg.tensor(scores), threshold).tolist() == kept_by_loops(boxes, scores, threshold)


def test_equal_scores_keep_their_order():
    boxes = tg.tensor([[0.0, 0.0, 1.0, 1.0]] * 3 + [[5.0, 5.0, 6.0, 6.0]])
    assert F.nms(boxes, tg.tensor([0.5, 0.5, 0.9, 0.5]), 0.5).tolist() == [2, 3]
    assert F.nms(boxes, tg.ones(4), 0.5).tolist() == [0, 3]


def test_nms_of_nothing_and_of_points():
    assert F.nms(tg.zeros(0, 4), tg.zeros(0), 0.5).tolist() == []
    assert F.nms(tg.zeros(2, 4), tg.ones(2), 0.5).tolist() == [0, 1]  # 0/0 is above no threshold
    assert F.nms(tg.zeros(2, 4), tg.ones(2), 0.5).dtype == tg.int64


def test_batched_nms_is_nms_of_each_class():
    boxes, scores = random_boxes(40, 4), np.random.default_rng(5).uniform(size=40)
    classes = np.random.default_rng(6).integers(0, 3, 40)
    wanted = []
    for c in range(3):
        (members,) = (classes == c).nonzero()
        wanted += members[kept_by_loops(boxes[members], scores[members], 0.2)].tolist()
    wanted.sort(key=lambda i: -scores[i])
    assert F.batched_nms(tg.tensor(boxes), tg.tensor(scores), tg.tensor(classes), 0.2).tolist() == wanted
    assert F.batched_nms(tg.zeros(0, 4), tg.zeros(0), tg.zeros(0).long(), 0.2).tolist() == []


# ---- largest elements in bins


def half_up(x):
    return math.floor(abs(x) + 0.5) * (1 if x >= 0 else -1)


def roi_pool_by_loops(pictures, rois, size, scale):
    (h, w), (_, channels, height, width) = size, pictures.shape
    made = np.zeros((len(rois), channels, h, w))
    for k, (n, *box) in enumerate(rois):
        x1, y1, x2, y2 = [half_up(v * scale) for v in box]
        bin_h, bin_w = max(y2 - y1 + 1, 1) / h, max(x2 - x1 + 1, 1) / w
        for i, j in np.ndindex(h, w):
            rows = [y for y in range(y1 + math.floor(i * bin_h), y1 + math.ceil((i + 1) * bin_h)) if 0 <= y < height]
            columns = [x for x in range(x1 + math.floor(j * bin_w), x1 + math.ceil((j + 1) * bin_w)) if 0 <= x < width]
            if rows and columns:
                made[k, :, i, j] = pictures[int(n)][:, rows][:, :, columns].max((1, 2))
    return made


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 7)])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_roi_pool(size, scale):
    rois = with_pictures(random_boxes(12, 7, 12.0 / scale))
    np.testing.assert_allclose(F.roi_pool(PICTURES, rois, size, scale), roi_pool_by_loops(PICTURES, rois, size, scale))


def test_the_gradient_of_roi_pool_goes_to_the_first_largest_element():
    x = tg.tensor([[[[1.0, 2.0], [2.0, 2.0]]]]).requires_grad_()
    F.roi_pool(x, tg.tensor([[0.0, 0.0, 0.0, 1.0, 1.0]]), 1).sum().backward()
    assert x.grad.tolist() == [[[[0.0, 1.0], [0.0, 0.0]]]]


def test_roi_pool_is_differentiable():
    rois = with_pictures(random_boxes(5, 8))
    assert gradcheck(lambda x: F.roi_pool(x, rois, (2, 3)), (tg.tensor(PICTURES).requires_grad_(),))


# ---- means of samples


def bilinear(picture, y, x):
    _, height, width = picture.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = (min(max(v, 0.0), n - 1.0) for v, n in ((y, height), (x, width)))
    i, j = int(y), int(x)
    below, right = min(i + 1, height - 1), min(j + 1, width - 1)
    upper = picture[:, i, j] * (1 - (x - j)) + picture[:, i, right] * (x - j)
    lower = picture[:, below, j] * (1 - (x - j)) + picture[:, below, right] * (x - j)
    return upper * (1 - (y - i)) + lower * (y - i)


def roi_align_by_loops(pictures, rois, size, scale, ratio, aligned):
    h, w = size
    made = np.zeros((len(rois), pictures.shape[1], h, w))
    for k, (n, *box) in enumerate(rois):
        x1, y1, x2, y2 = [v * scale - (0.5 if aligned else 0.0) for v in box]
        height, width = y2 - y1, x2 - x1
        if not aligned:
            height, width = max(height, 1.0), max(width, 1.0)
        rows, columns = [ratio if ratio > 0 else math.ceil(side / bins) for side, bins in ((height, h), (width, w))]
        for i, j in np.ndindex(h, w):
            total = 0.0
            for a, b in np.ndindex(max(rows, 0), max(columns, 0)):
                y = y1 + i * height / h + (a + 0.5) * height / h / rows
                x = x1 + j * width / w + (b + 0.5) * width / w / columns
                total = total + bilinear(pictures[int(n)], y, x)
            made[k, :, i, j] = total / max(rows * columns, 1)
    return made


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [-1, 1, 2, 3])
@pytest.mark.parametrize(("size", "scale"), [((1, 1), 1.0), ((2, 3), 0.5), ((5, 5), 1.0)])
def test_roi_align(size, scale, ratio, aligned):
    rois = with_pictures(random_boxes(8, 9, 12.0 / scale))
    rois[3, 3:] = rois[3, 1:3]  # without an area
    wanted = roi_align_by_loops(PICTURES, rois, size, scale, ratio, aligned)
    np.testing.assert_allclose(F.roi_align(PICTURES, rois, size, scale, ratio, aligned), wanted, atol=1e-12)


def test_roi_align_is_differentiable():
    rois = with_pictures(random_boxes(4, 8))
    assert gradcheck(lambda x: F.roi_align(x, rois, (2, 3), 1.0, 2, True), (tg.tensor(PICTURES).requires_grad_(),))


@pytest.mark.parametrize("f", [F.roi_pool, F.roi_align])
def test_boxes_of_each_picture_may_be_a_list(f):
    x, rois = tg.tensor(PICTURES).float(), random_boxes(5, 1)
    numbered = np.concatenate([np.array([0, 0, 1, 1, 1])[:, None], rois], 1)
    listed = [tg.tensor(rois[:2]), tg.tensor(rois[2:])]
    assert f(x, listed, 2).tolist() == f(x, tg.tensor(numbered), 2).tolist()
    assert f(x, listed, (2, 4)).dtype == tg.float32
    assert f(x, [tg.zeros(0, 4), tg.zeros(0, 4)], (2, 4)).shape == (0, 3, 2, 4)
    assert f(x, tg.zeros(0, 5), (2, 4)).shape == (0, 3, 2, 4)


@pytest.mark.parametrize("f", [F.roi_pool, F.roi_align])
def test_regions_on_a_device(f):
    x, rois = PICTURES, with_pictures(random_boxes(5, 1))
    here = f(tg.tensor(x), tg.tensor(rois), 3)
    there = f(tg.tensor(x, device="strict"), tg.tensor(rois, device="strict"), 3)
    np.testing.assert_allclose(there.cpu().numpy(), here.numpy())
    assert F.nms(tg.tensor(rois[:, 1:], device="strict"), tg.ones(5, device="strict"), 0.5).device.type == "strict"


# ---- messages


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: F.nms(tg.zeros(3, 5), tg.zeros(3), 0.5), ShapeError, "boxes (K, 4)"),
        (lambda: F.nms(tg.zeros(3, 4), tg.zeros(2), 0.5), ShapeError, "scores (2,)"),
        (lambda: F.box_iou(tg.zeros(3, 4), tg.zeros(4)), ShapeError, "boxes2 (K, 4)"),
        (lambda: F.roi_pool(tg.zeros(3, 4, 4), tg.zeros(1, 5), 2), ShapeError, "(3, 4, 4)"),
        (lambda: F.roi_align(tg.zeros(1, 3, 4, 4), tg.zeros(1, 4), 2), ShapeError, "(K, 5)"),
        (lambda: F.roi_align(tg.zeros(1, 3, 4, 4), [tg.zeros(1, 4)] * 2, 2), ShapeError, "a list with (K, 4) for each picture"),
        (lambda: F.roi_align(tg.zeros(1, 3, 4, 4), tg.tensor([[1.0, 0, 0, 1, 1]]), 2), AxisError, "index 1"),
        (lambda: F.roi_pool(tg.zeros(1, 3, 4, 4), tg.zeros(1, 5), (2, 2, 2)), ArgumentError, "output_size"),
    ],
)
def test_messages(call, kind, text):
    with pytest.raises(kind) as found:
        call()
    assert text in str(found.value)
