"""Boxes (x1, y1, x2, y2) and what is inside of them. The definitions are those of ``torchvision.ops``, where these functions have the same
names; PyTorch itself does not have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES, BY_TYPE
from ..core.host import on_host
from ..core.tensor import Tensor
from ..errors import error
from .comparison import keep
from .grid import _sample, combined
from .indexing import _getitem
from .piecewise import clamp_min, maximum, minimum
from .shape import _reshape, permute
from .window import per_axis

# ---- boxes ---------------------------------------------------------------------------------------


def _need_boxes(op: str, argument: str, boxes: Any) -> None:
    shape = tuple(boxes.shape)
    if len(shape) != 2 or shape[1] != 4:
        rule = (f"{argument} (K, 4): x1, y1, x2, y2", f"{argument} は (K, 4): x1, y1, x2, y2")
        fix = ("give one row of four numbers for each box.", "箱ごとに 4 つの数の行を渡してください。")
        raise error("TG-S002", op=op, rule=rule, shapes=shape, fix=fix)


def _area(boxes: Any) -> Any:
    x1, y1, x2, y2 = [_getitem(boxes, (slice(None), i)) for i in range(4)]
    return (x2 - x1) * (y2 - y1)


def box_iou(boxes1: Any, boxes2: Any) -> Any:
    """Intersection over union (N, M) of each of the boxes (N, 4) with each of the boxes (M, 4). Differentiable, though not where boxes only
    touch; 0/0 for two boxes without an area is NaN. ``torchvision.ops.box_iou``.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.box_iou(tg.tensor([[0.0, 0.0, 2.0, 2.0]]), tg.tensor([[1.0, 0.0, 3.0, 2.0]]))
    tensor([[0.3333]])
    """
    _need_boxes("box_iou", "boxes1", boxes1)
    _need_boxes("box_iou", "boxes2", boxes2)
    one, two = _getitem(boxes1, (slice(None), None)), _getitem(boxes2, (None,))
    low = maximum(_getitem(one, (..., slice(0, 2))), _getitem(two, (..., slice(0, 2))))
    high = minimum(_getitem(one, (..., slice(2, 4))), _getitem(two, (..., slice(2, 4))))
    sides = clamp_min(high - low, 0)
    both = _getitem(sides, (..., 0)) * _getitem(sides, (..., 1))
    areas = _getitem(_area(boxes1), (slice(None), None)) + _getitem(_area(boxes2), (None,))
    return both / (areas - both)


def _on_device(made: np.ndarray, like: Any) -> Any:
    backend = BY_TYPE[type(like)]
    return backend.from_host(made, backend.index_of(like))


def _placed(made: np.ndarray, like: Any) -> Any:
    """A host array where ``like`` lives, as a Tensor if that is one."""
    return Tensor(_on_device(made, like.array)) if type(like) is Tensor else _on_device(made, like)


def nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    """Non-maximum suppression: numbers (int64) of the boxes (K, 4) that stay, best score (K) first. Each box is dropped whose intersection
    over union with a better one that stays is above ``iou_threshold``. It waits for a GPU. ``torchvision.ops.nms``.

    >>> import tinygrad_ja as tg
    >>> boxes = tg.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.1], [5.0, 5.0, 6.0, 6.0]])
    >>> tg.nn.functional.nms(boxes, tg.tensor([0.5, 0.9, 0.7]), 0.5)
    tensor([1, 2])
    """
    _need_boxes("nms", "boxes", boxes)
    if tuple(scores.shape) != (boxes.shape[0],):
        fix = ("give one score for each box.", "箱ごとに点数を 1 つ渡してください。")
        shapes = f"boxes {tuple(boxes.shape)}, scores {tuple(scores.shape)}"
        raise error("TG-S002", op="nms", rule=("boxes (K, 4), scores (K)", "boxes (K, 4)、scores (K)"), shapes=shapes, fix=fix)
    given = on_host(boxes)
    order = np.argsort(-on_host(scores), kind="stable")
    low, high = given[:, :2], given[:, 2:]
    area = (high - low).prod(1)
    kept = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(best)
        both = np.maximum(np.minimum(high[best], high[order]) - np.maximum(low[best], low[order]), 0).prod(1)
        with np.errstate(invalid="ignore"):  # two boxes without an area: 0/0 is above nothing
            overlap = both / (area[best] + area[order] - both)
        order = order[~(overlap > iou_threshold)]
    return _placed(np.array(kept, dtype=np.int64), boxes)


def batched_nms(boxes: Any, scores: Any, idxs: Any, iou_threshold: float) -> Any:
    """``nms`` among the boxes of each class ``idxs`` (K) for itself: the classes are moved apart. ``torchvision.ops.batched_nms``.

    >>> import tinygrad_ja as tg
    >>> boxes = tg.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.1]])
    >>> tg.nn.functional.batched_nms(boxes, tg.tensor([0.5, 0.9]), tg.tensor([0, 1]), 0.5)
    tensor([1, 0])
    """
    _need_boxes("batched_nms", "boxes", boxes)
    given = on_host(boxes)
    if not given.size:
        return nms(boxes, scores, iou_threshold)
    classes = on_host(idxs).astype(np.float64)
    apart = given.astype(np.float64) - given.min() + (classes * (float(given.max()) - float(given.min()) + 1))[:, None]
    return nms(_placed(apart, boxes), scores, iou_threshold)


# ---- pooling of regions --------------------------------------------------------------------------


def _regions(op: str, input: Any, boxes: Any) -> tuple[np.ndarray, np.ndarray]:
    """``(numbers of pictures (K), boxes (K, 4))`` on the host, from (K, 5) or from one (K, 4) for each picture."""
    if len(input.shape) != 4 or 0 in input.shape[2:] or input.dtype.kind != "f":
        rule = ("input (N, C, H, W) of floats, not empty", "input は空でない浮動小数の (N, C, H, W)")
        shapes = f"{tuple(input.shape)} {input.dtype}"
        raise error(
            "TG-S002", op=op, rule=rule, shapes=shapes, fix=("unsqueeze or convert it.", "unsqueeze か型変換をしてください。")
        )
    several = isinstance(boxes, (list, tuple))
    parts = [on_host(part) for part in (boxes if several else [boxes])]
    width = 4 if several else 5
    if any([part.ndim != 2 or part.shape[1] != width for part in parts]) or (several and len(parts) != input.shape[0]):
        rule = (
            "boxes (K, 5), the picture's number and x1, y1, x2, y2, or a list with (K, 4) for each picture",
            "boxes は (K, 5) (画像の番号と x1, y1, x2, y2)、または画像ごとの (K, 4) のリスト",
        )
        fix = ("pass one of these.", "どちらかを渡してください。")
        raise error("TG-S002", op=op, rule=rule, shapes=[part.shape for part in parts], fix=fix)
    if several:
        numbers = np.concatenate([np.full(len(part), i) for i, part in enumerate(parts)]) if parts else np.zeros(0)
        rows = np.concatenate(parts) if parts else np.zeros((0, 4))
    else:
        numbers, rows = parts[0][:, 0], parts[0][:, 1:]
    numbers = numbers.astype(np.int64)
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < input.shape[0]:
        worst, last = int(numbers.min() if numbers.min() < 0 else numbers.max()), input.shape[0] - 1
        raise error("TG-I002", op=op, index=worst, size=last + 1, shape=tuple(input.shape), first=0, last=last)
    return numbers, rows.astype(np.float64 if input.dtype == np.float64 else np.float32)


def _bins(start: Any, stop: Any, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """First element, and the one behind the last, of each of ``count`` bins (K, count) of whole pixels start ... stop."""
    length = np.maximum(stop - start + 1, 1) / start.dtype.type(count)
    number = np.arange(count).astype(start.dtype)
    low = np.floor(number * length[:, None]) + start[:, None]
    high = np.ceil((number + 1) * length[:, None]) + start[:, None]
    return np.clip(low, 0, size).astype(np.int64), np.clip(high, 0, size).astype(np.int64)


def _rounded(x: np.ndarray) -> np.ndarray:
    """The nearest integer, halves away from zero."""
    return np.copysign(np.floor(np.abs(x) + x.dtype.type(0.5)), x)


def _largest_in_bins(xp: Any, picture: Any, rows: Sequence[Any], columns: Sequence[Any]) -> Any:
    """Numbers (C, bins of rows, bins of columns) of the largest elements of a picture (C, H, W) in each bin, -1 for an empty one."""
    channels, _, width = picture.shape
    found = xp.full((channels, len(rows), len(columns)), -1, dtype=np.int64)
    for j, (left, right) in enumerate(columns):
        if left >= right:
            continue
        part = picture[:, :, left:right]
        place = part.argmax(2)
        best = part.max(2)
        for i, (top, bottom) in enumerate(rows):
            if top < bottom:
                row = best[:, top:bottom].argmax(1) + top
                found[:, i, j] = row * width + xp.take_along_axis(place, row[:, None], 1)[:, 0] + left
    return found


def roi_pool(input: Any, boxes: Any, output_size: Any, spatial_scale: float = 1.0) -> Any:
    """The largest element in each of ``output_size`` bins of each box, to (K, C, h, w) (Girshick 2015). ``torchvision.ops.roi_pool``.

    input: (N, C, H, W); boxes: (K, 5), each row a picture's number and x1, y1, x2, y2, or a list with (K, 4) for each picture;
    spatial_scale: what coordinates are multiplied by to be pixels; they are rounded, and both ends belong to the box. An empty bin gives 0.
    The gradient goes to the element taken, the first of equal ones; boxes have none, and are looked at on the host.

    >>> import tinygrad_ja as tg
    >>> picture = tg.arange(16.0).reshape(1, 1, 4, 4)
    >>> tg.nn.functional.roi_pool(picture, tg.tensor([[0.0, 0.0, 0.0, 1.0, 3.0]]), (2, 1))
    tensor([[[[ 5.],
              [13.]]]])
    """
    numbers, rows = _regions("roi_pool", input, boxes)
    h, w = per_axis("roi_pool", "output_size", output_size, 2, 1)
    _, channels, height, width = input.shape
    array = input.array if type(input) is Tensor else input
    xp = ARRAY_MODULES[type(array)]
    x1, y1, x2, y2 = _rounded(rows * rows.dtype.type(spatial_scale)).T
    tops, bottoms = _bins(y1, y2, h, height)
    lefts, rights = _bins(x1, x2, w, width)
    found = [
        _largest_in_bins(xp, array[n], list(zip(tops[k], bottoms[k])), list(zip(lefts[k], rights[k]))).reshape(channels, h * w)
        for k, n in enumerate(numbers.tolist())
    ]
    index = xp.stack(found) if found else xp.zeros((0, channels, h * w), dtype=np.int64)
    flat = _reshape(input, (*input.shape[:2], height * width))
    at = _on_device(numbers, array)[:, None, None], xp.arange(channels)[:, None], xp.maximum(index, 0)
    made = keep(_getitem(flat, at), index >= 0)
    return _reshape(made, (len(numbers), channels, h, w))


def _bilinear_taps(start: Any, length: Any, count: int, samples: Any, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """``(weights, numbers)``, (K, count) each, of two elements for each of up to so many samples in every bin; -1 for none."""
    real = start.dtype.type
    made = []
    number = np.arange(count).astype(real)
    share = real(1) / np.maximum(samples, 1).astype(real)[:, None]
    for i in range(samples.max(initial=1)):
        place = start[:, None] + length[:, None] * number + ((real(i) + real(0.5)) * length)[:, None] * share
        inside = (place >= -1) & (place <= size) & (i < samples)[:, None]
        place = np.minimum(np.maximum(place, 0), size - 1)
        low = np.floor(place)
        part = place - low
        low = low.astype(np.int64)
        for weight, at in ((1 - part, low), (part, np.minimum(low + 1, size - 1))):
            made.append((weight * inside * share, np.where(inside, at, -1)))
    return made


def roi_align(
    input: Any, boxes: Any, output_size: Any, spatial_scale: float = 1.0, sampling_ratio: int = -1, aligned: bool = False
) -> Any:
    """The mean of bilinearly interpolated samples in each of ``output_size`` bins of each box, to (K, C, h, w), without any rounding
    (He et al. 2017). ``torchvision.ops.roi_align``.

    input, boxes, spatial_scale: as in ``roi_pool``; sampling_ratio: samples of a bin along each axis, -1 for about one for each pixel;
    aligned: coordinates are those of corners, half a pixel from the centres (else boxes are also at least one pixel large). Linear in the
    input; the boxes have no gradient, and are looked at on the host.

    >>> import tinygrad_ja as tg
    >>> picture = tg.arange(16.0).reshape(1, 1, 4, 4)
    >>> tg.nn.functional.roi_align(picture, [tg.tensor([[0.0, 0.0, 2.0, 2.0]])], 1, sampling_ratio=1, aligned=True)
    tensor([[[[2.5]]]])
    """
    numbers, rows = _regions("roi_align", input, boxes)
    wanted = per_axis("roi_align", "output_size", output_size, 2, 1)
    n, channels, height, width = input.shape
    real = rows.dtype.type
    rows = rows * real(spatial_scale) - real(0.5 if aligned else 0.0)
    along, sizes = [], (height, width)
    for axis, (size, count) in enumerate(zip(sizes, wanted)):
        start, span = rows[:, 1 - axis], rows[:, 3 - axis] - rows[:, 1 - axis]
        length = (span if aligned else np.maximum(span, real(1))) / real(count)
        samples = np.full(len(rows), sampling_ratio) if sampling_ratio > 0 else np.ceil(length).astype(np.int64)
        taps = _bilinear_taps(start, length, count, samples, size)
        spread = (len(rows), count, 1) if axis == 0 else (len(rows), 1, count)
        full = (len(rows), *wanted)
        flat = [[np.broadcast_to(part.reshape(spread), full).reshape(1, -1) for part in tap] for tap in taps]
        along.append([(weights, elements) for weights, elements in flat])
    weight, index = combined(along, sizes)
    picture = np.repeat(numbers * (height * width), wanted[0] * wanted[1])
    index = np.where(index >= 0, index + picture, -1)
    flat = _reshape(permute(input, (1, 0, 2, 3)), (1, channels, n * height * width))
    made = _sample(flat, _placed(weight.astype(input.dtype), input), _placed(index, input))
    return permute(_reshape(made, (channels, len(rows), *wanted)), (1, 0, 2, 3))
