"""Boxes, labels and masks that go along with a picture; pictures and targets on every device."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pictures import GEOMETRIC, floats, scene, seeded

import tinygrad_ja as tg
from tinygrad_ja.data import transforms as T
from tinygrad_ja.errors import ShapeError
from tinygrad_ja.testing import strict


@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize("seed", range(12))
def test_boxes_labels_and_masks_follow_their_objects(name, seed):
    image, target = scene()
    before = {key: np.copy(value) for key, value in target.items()}
    made, moved = GEOMETRIC[name](seeded(seed))(image, target)
    assert moved["name"] == "a"
    assert all([(before[key] == target[key]).all() for key in target])  # nothing was changed in place
    assert len(moved["boxes"]) == len(moved["labels"]) == len(moved["masks"])
    np.testing.assert_array_equal(moved["mask"], made[0])
    for (x1, y1, x2, y2), label, mask in zip(moved["boxes"], moved["labels"], moved["masks"]):
        np.testing.assert_array_equal(mask.astype(bool), made[0] == label // 10)
        rows, columns = np.nonzero(mask)
        assert (x1, y1, x2, y2) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    gone = {1, 2, 3} - {label // 10 for label in moved["labels"]}
    if name != "iou_crop" and name != "compose":
        assert not np.isin(made, list(gone)).any()


def test_resizing_stretches_boxes():
    image, target = scene()
    made, moved = T.Resize((10, 90))(image, target)
    assert made.shape == (1, 10, 90) and moved["masks"].shape == (3, 10, 90)
    np.testing.assert_allclose(moved["boxes"], target["boxes"] * [3, 0.5, 3, 0.5])
    assert set(np.unique(moved["mask"])) <= {0, 1, 2, 3}
    _, seen = T.RandomResizedCrop((8, 9), generator=seeded(1))(image, target)
    assert (seen["boxes"] >= 0).all() and (seen["boxes"] <= [9, 8, 9, 8]).all()


def test_an_iou_crop_covers_what_it_promises():
    image, target = scene()
    crop = T.RandomIoUCrop(sampler_options=[0.5], generator=seeded())
    for _ in range(30):
        frame = crop.make_params(image, target)
        area = frame.height * frame.width
        overlaps = []
        for x1, y1, x2, y2 in target["boxes"]:
            width = max(0.0, min(x2, frame.left + frame.width) - max(x1, frame.left))
            height = max(0.0, min(y2, frame.top + frame.height) - max(y1, frame.top))
            overlaps.append(width * height / (area + (x2 - x1) * (y2 - y1) - width * height))
        assert max(overlaps) >= 0.5
        assert 0.5 <= frame.width / frame.height <= 2.0 and frame.width >= 9 and frame.height >= 6
    assert T.RandomIoUCrop()(image, {"boxes": np.zeros((0, 4))})[0] is image


def test_small_boxes_are_taken_away():
    boxes = [[0, 0, 5, 5], [0, 0, 0.5, 9], [3, 3, 3, 8], [1, 1, 2, 2]]
    _, target = T.SanitizeBoundingBoxes(min_size=1, min_area=2)(np.zeros((8, 8)), {"boxes": boxes, "labels": list("abcd")})
    assert target["labels"] == ["a"] and target["boxes"].tolist() == [[0, 0, 5, 5]]


def test_a_mask_needs_no_dict_and_a_class_stays():
    assert T.RandomHorizontalFlip(1.0)(floats(), 3)[1] == 3
    classes = np.arange(13 * 17).reshape(13, 17)
    assert (T.RandomHorizontalFlip(1.0)(floats(), classes)[1] == classes[:, ::-1]).all()
    assert (T.RandomRotation((90, 90))(np.zeros((3, 13, 13)), classes[:, :13])[1] == np.rot90(classes[:, :13])).all()
    assert T.ColorJitter(0.5)(floats(), classes)[1] is classes
    with pytest.raises(ShapeError, match='{"boxes": ...}'):
        T.RandomHorizontalFlip(1.0)(floats(), np.zeros((5, 4)))


# ---- devices

ON_DEVICES = {
    **GEOMETRIC,
    "resize": lambda g: T.Resize(9),
    "resized_crop": lambda g: T.RandomResizedCrop(9, generator=g),
    "symmetric": lambda g: T.Pad(3, padding_mode="symmetric"),
    "reflect": lambda g: T.Pad(3, padding_mode="reflect"),
    "dtype": lambda g: T.ToDtype(np.uint8, scale=True),
    "normalize": lambda g: T.Normalize([0.5, 0.5, 0.5], [0.1, 0.2, 0.3]),
    "jitter": lambda g: T.ColorJitter(0.5, 0.5, 0.5, 0.5, generator=g),
    "distort": lambda g: T.RandomPhotometricDistort(p=1.0, generator=g),
    "grey": lambda g: T.Grayscale(3),
    "rotation": lambda g: T.RandomRotation(40, "bilinear", fill=[1, 2, 3], generator=g),
    "affine": lambda g: T.RandomAffine(40, (0.1, 0.2), (0.5, 1.5), (1, 2, 3, 4), generator=g),
    "erasing": lambda g: T.RandomErasing(1.0, value="random", generator=g),
    "erasing_colour": lambda g: T.RandomErasing(1.0, value=(1, 2, 3), generator=g),
    "per_image": lambda g: T.PerImage(T.RandomCrop(5, generator=g)),
}


@pytest.mark.parametrize("device", ["strict", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(
    ("name", "dtype"),
    [case for case in itertools.product(ON_DEVICES, ["float32", "uint8"]) if case != ("normalize", "uint8")],
)
def test_arrays_and_tensors_on_every_device_give_the_same(name, dtype, device):
    x = (floats(2, 3, 20, 30) * (255 if dtype == "uint8" else 1)).astype(dtype)
    boxes = {"boxes": scene()[1]["boxes"]}
    with_target = name in ("iou_crop", "compose")

    def call(image):
        made = ON_DEVICES[name](seeded(4))(image, boxes) if with_target else ON_DEVICES[name](seeded(4))(image)
        return made[0] if with_target else made

    on_array = call(x)
    assert type(on_array) is np.ndarray
    with strict.watch() as events:
        on_device = call(tg.tensor(x, device=device))
    assert on_device.device.type == device and not [event for event in events if event.kind == "d2h"]
    np.testing.assert_array_equal(call(tg.tensor(x)).numpy(), on_array)
    off = np.abs(on_device.cpu().numpy().astype(np.float64) - on_array)
    if dtype == "uint8":
        assert off.max() <= 1 and (off > 0).mean() < 0.02  # what lies between two numbers may be rounded either way
    elif device == "strict":
        assert off.max() <= 1e-5
    else:
        assert (off > 1e-5).mean() < 0.02  # a place between two pixels may be either, where it is looked up with "nearest"


def test_targets_on_a_device():
    image, target = scene()
    there = {key: tg.tensor(value, device="strict") if key != "name" else value for key, value in target.items()}
    made, moved = T.RandomCrop(10, generator=seeded(2))(tg.tensor(image, device="strict"), there)
    expected, known = T.RandomCrop(10, generator=seeded(2))(image, target)
    assert (strict.peek(made.array) == expected).all()
    for key in ("boxes", "labels", "masks", "mask"):
        assert (strict.peek(moved[key].array) == known[key]).all()


def test_mixing_on_a_device():
    x = floats(4, 3, 8, 8)
    for kind in (T.MixUp, T.CutMix):
        images, labels = kind(num_classes=5, generator=seeded())(x, np.arange(4))
        there, shares = kind(num_classes=5, generator=seeded())(
            tg.tensor(x, device="strict"), tg.tensor(np.arange(4), device="strict")
        )
        np.testing.assert_allclose(strict.peek(there.array), images, rtol=1e-6)
        np.testing.assert_allclose(strict.peek(shares.array), labels, rtol=1e-6)
