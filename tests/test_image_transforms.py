"""Pictures: each transform against Pillow, colorsys or its formula; boxes and masks that go along; the same on every device."""

from __future__ import annotations

import colorsys
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import floats, picture, seeded
from PIL import Image

import tinygrad_ja as tg
from tinygrad_ja.data import transforms as T
from tinygrad_ja.data.transforms import functional as TF
from tinygrad_ja.errors import ArgumentError, DeviceError, DtypeError, ShapeError

# ---- sizes


def with_pillow(x: np.ndarray, size: tuple[int, int], way: Image.Resampling) -> np.ndarray:
    planes = [np.asarray(Image.fromarray(plane).resize(size[::-1], way)) for plane in x]
    return np.stack(planes)


@pytest.mark.parametrize("size", [(7, 9), (5, 40), (30, 30), (13, 4), (13, 17)])
@pytest.mark.parametrize("way", ["bilinear", "bicubic"])
def test_resize_is_pillows(size, way):
    x, pillows = picture(), getattr(Image.Resampling, way.upper())
    theirs = with_pillow(x.astype(np.float32), size, pillows)
    np.testing.assert_allclose(TF.resize(x.astype(np.float32), size, way), theirs, atol=2e-3)
    ours = TF.resize(x, size, way).astype(int)
    assert ours.shape == (3, *size)
    assert np.abs(ours - np.clip(theirs, 0, 255)).max() < 0.51
    if way == "bilinear":  # Pillow rounds and cuts off after each axis, which shows where bicubic overshoots
        assert np.abs(ours - with_pillow(x, size, pillows).astype(int)).max() <= 1


def test_an_int_is_the_shorter_side():
    assert TF.resize(np.zeros((3, 20, 30)), 10).shape == (3, 10, 15)
    assert TF.resize(np.zeros((30, 20)), 10).shape == (15, 10)
    assert TF.resize(np.zeros((2, 3, 20, 31)), 10).shape == (2, 3, 10, 15)
    assert TF.resize(np.zeros((3, 20, 40)), 10, max_size=15).shape == (3, 7, 15)


def test_nearest_keeps_values_of_any_dtype():
    x = np.arange(12).reshape(3, 4) > 5
    assert TF.resize(x, (6, 8), "nearest").tolist() == np.kron(x, np.ones((2, 2))).astype(bool).tolist()


def test_bytes_do_not_overflow_in_bicubic():
    edge = np.repeat(np.array([0, 0, 255, 255], np.uint8), 2)[None, None]
    made = TF.resize(edge, (1, 40), "bicubic")
    assert made.min() == 0 and made.max() == 255 and made[0, 0, 0] == 0 and made[0, 0, -1] == 255


# ---- crops and borders


@given(st.integers(-8, 20), st.integers(-8, 20), st.integers(1, 12), st.integers(1, 12))
def test_a_crop_is_a_part_of_an_endless_picture(top, left, height, width):
    x = picture(2, 6, 7)
    endless = np.zeros((2, 60, 60), np.uint8)
    endless[:, 20:26, 20:27] = x
    expected = endless[:, 20 + top : 20 + top + height, 20 + left : 20 + left + width]
    np.testing.assert_array_equal(TF.crop(x, top, left, height, width), expected)


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric", "constant"])
def test_borders_are_numpys(mode):
    x = picture(2, 5, 6)
    border = (1, 2, 3, 4)  # left, top, right, bottom
    np.testing.assert_array_equal(TF.pad(x, border, 0, mode), np.pad(x, ((0, 0), (2, 4), (1, 3)), mode))
    np.testing.assert_array_equal(TF.pad(x, (1, 2), 0, mode), np.pad(x, ((0, 0), (2, 2), (1, 1)), mode))


def test_a_border_with_a_colour():
    made = TF.pad(np.zeros((3, 2, 2)), 1, fill=(1, 2, 3))
    assert made[:, 0, 0].tolist() == [1, 2, 3] and made[:, 1, 1].tolist() == [0, 0, 0]


def test_the_middle():
    x = np.arange(20).reshape(4, 5)
    assert TF.center_crop(x, (2, 3)).tolist() == [[6, 7, 8], [11, 12, 13]]
    assert TF.center_crop(x, (6, 1)).tolist() == [[0], [2], [7], [12], [17], [0]]


def test_random_crops_are_all_the_parts_and_nothing_else():
    x = np.arange(12).reshape(1, 3, 4)
    crop = T.RandomCrop(2, generator=seeded())
    found = {tuple(crop(x).ravel()) for _ in range(200)}
    assert found == {tuple(x[0, i : i + 2, j : j + 2].ravel()) for i in range(2) for j in range(3)}
    padded = {tuple(T.RandomCrop((3, 4), padding=1, generator=seeded(i))(x).ravel()) for i in range(200)}
    around = np.pad(x[0], 1)
    assert padded == {tuple(around[i : i + 3, j : j + 4].ravel()) for i in range(3) for j in range(3)}
    assert T.RandomCrop(6, pad_if_needed=True, padding_mode="edge")(x).shape == (1, 6, 6)


def test_resized_crops_keep_to_area_and_ratio():
    crop = T.RandomResizedCrop(8, scale=(0.2, 0.5), ratio=(0.5, 2.0), generator=seeded())
    x = np.zeros((3, 60, 80))
    areas, ratios = [], []
    for _ in range(300):
        frame = crop.make_params(x, None)
        assert 0 <= frame.top <= 60 - frame.height and 0 <= frame.left <= 80 - frame.width
        areas.append(frame.height * frame.width / 4800)
        ratios.append(frame.width / frame.height)
    assert 0.19 < min(areas) < 0.23 and 0.45 < max(areas) < 0.51
    assert 0.48 < min(ratios) < 0.56 and 1.8 < max(ratios) < 2.1
    assert crop(x).shape == (3, 8, 8)
    narrow = T.RandomResizedCrop(8, scale=(1.0, 1.0), ratio=(0.5, 0.5)).make_params(np.zeros((10, 40)), None)
    assert narrow == (0, 17, 10, 5)  # nothing fits: the largest part in the middle that is twice as high as wide


def test_flips_happen_as_often_as_they_should():
    x = np.arange(4).reshape(1, 2, 2)
    flip = T.RandomHorizontalFlip(0.3, generator=seeded())
    flipped = sum([flip(x).ravel().tolist() == [1, 0, 3, 2] for _ in range(1000)])
    assert 250 < flipped < 350
    assert T.RandomVerticalFlip(1.0)(x).ravel().tolist() == [2, 3, 0, 1]
    assert T.RandomVerticalFlip(0.0)(x) is x


# ---- values


def test_scaling_covers_the_whole_range():
    every = np.arange(256, dtype=np.uint8)
    there = TF.to_dtype(every, np.float32, scale=True)
    np.testing.assert_array_equal(there, every.astype(np.float32) / 255)
    np.testing.assert_array_equal(TF.to_dtype(there, np.uint8, scale=True), every)
    assert TF.to_dtype(np.array([-1.0, 2.0]), np.uint8, scale=True).tolist() == [0, 255]
    assert TF.to_dtype(every, np.int16, scale=True).tolist() == [n * 128 for n in range(256)]
    np.testing.assert_array_equal(TF.to_dtype(TF.to_dtype(every, np.int16, scale=True), np.uint8, scale=True), every)
    assert TF.to_dtype(np.array([200], np.uint8), np.float32).tolist() == [200.0]


def test_a_picture_of_pillow_becomes_channels_first():
    x = picture(4, 5, 3)
    made = T.ToImage()(Image.fromarray(x))
    assert made.shape == (3, 4, 5) and (made.numpy() == x.transpose(2, 0, 1)).all()
    assert T.ToImage()(x[..., 0]).shape == (1, 4, 5)
    made += 1  # its own memory


def test_normalize():
    x = floats(2, 3, 4, 5)
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    expected = (x - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    np.testing.assert_allclose(T.Normalize(mean, std)(x), expected, rtol=1e-5, atol=1e-6)
    assert T.Normalize(0.5, 0.5)(x).dtype == np.float32


# ---- colours


def test_grey():
    x = picture()
    weights = np.array([0.2989, 0.587, 0.114])
    exact = np.einsum("c,chw->hw", weights, x)
    assert np.abs(TF.rgb_to_grayscale(x)[0] - exact).max() <= 1
    pillow = np.asarray(Image.fromarray(x.transpose(1, 2, 0)).convert("L")).astype(int)
    assert np.abs(TF.rgb_to_grayscale(x)[0].astype(int) - pillow).max() <= 1
    assert (TF.rgb_to_grayscale(x, 3) == TF.rgb_to_grayscale(x)).all()
    assert (T.RandomGrayscale(1.0)(x) == TF.rgb_to_grayscale(x, 3)).all()


def test_factors():
    x = floats()
    grey = np.einsum("c,chw->hw", np.array([0.2989, 0.587, 0.114]), x)
    for factor in (0.0, 0.4, 1.0, 1.7):
        for function, other in (
            (TF.adjust_brightness, 0.0),
            (TF.adjust_contrast, grey.mean()),
            (TF.adjust_saturation, grey),
        ):
            expected = np.clip(factor * x + (1 - factor) * other, 0, 1)
            np.testing.assert_allclose(function(x, factor), expected, atol=1e-6)
    assert TF.adjust_brightness(picture(), 3.0).max() == 255


@pytest.mark.parametrize("turns", [-0.5, -0.2, 0.0, 0.1, 0.5])
def test_hue_is_colorsyss(turns):
    x = np.concatenate([floats(3, 4, 4), np.zeros((3, 1, 4)), np.ones((3, 1, 4)), np.full((3, 1, 4), 0.5)], 1)
    x[:, 0] = np.eye(3, 4)  # pure colours and black
    made = TF.adjust_hue(x, turns)
    for i, j in np.ndindex(x.shape[1:]):
        hue, saturation, value = colorsys.rgb_to_hsv(*x[:, i, j])
        np.testing.assert_allclose(made[:, i, j], colorsys.hsv_to_rgb((hue + turns) % 1.0, saturation, value), atol=1e-6)


def test_jitter_stays_in_its_ranges_and_varies_its_order():
    jitter = T.ColorJitter(0.2, (0.5, 0.6), 2.0, 0.1, generator=seeded())
    orders = set()
    for _ in range(200):
        params = jitter.make_params(picture(), None)
        orders.add(tuple([function.__name__ for function, _ in params]))
        for function, factor in params:
            low, high = getattr(jitter, function.__name__.removeprefix("adjust_"))
            assert low <= factor <= high
    assert len(orders) == 24
    assert jitter.saturation == (0.0, 3.0) and jitter.brightness == (0.8, 1.2)
    assert T.ColorJitter().make_params(picture(), None) == []


# ---- places


@pytest.mark.parametrize("angle", [0, 90, 180, 270])
def test_quarter_turns(angle):
    x = picture(2, 8, 8)
    np.testing.assert_array_equal(TF.rotate(x, angle), np.rot90(x, angle // 90, (1, 2)))


def test_moving_by_whole_pixels():
    x = picture(2, 6, 7)
    expected = np.zeros_like(x)
    expected[:, 1:, :-2] = x[:, :-1, 2:]
    np.testing.assert_array_equal(TF.affine(x, 0, (-2, 1), 1.0, (0, 0)), expected)
    filled = TF.affine(x, 0, (-2, 1), 1.0, (0, 0), fill=(7, 9))
    assert (filled[0, 0] == 7).all() and (filled[1, :, -2:] == 9).all() and (filled[:, 1:, :-2] == expected[:, 1:, :-2]).all()


def test_stretching_is_resizing_seen_from_the_middle():
    x = floats(1, 8, 8)
    made = TF.affine(x, 0, (0, 0), 2.0, (0, 0), "bilinear")
    larger = TF.resize(x, (16, 16), antialias=False)
    np.testing.assert_allclose(made[:, 1:-1, 1:-1], larger[:, 5:11, 5:11], atol=1e-6)


def test_a_turned_box_holds_the_turned_object():
    x = np.zeros((1, 40, 50), np.float32)
    x[:, 10:20, 15:30] = 1
    turn = T.RandomAffine(30, (0.1, 0.1), (0.8, 1.1), 10, generator=seeded(3))
    for _ in range(20):
        made, target = turn(x, {"boxes": np.array([[15.0, 10.0, 30.0, 20.0]], np.float32), "mask": x[0]})
        rows, columns = np.nonzero(made[0])
        (x1, y1, x2, y2) = target["boxes"][0]
        assert x1 - 1 <= columns.min() and columns.max() + 1 <= x2 + 1
        assert y1 - 1 <= rows.min() and rows.max() + 1 <= y2 + 1
        assert columns.min() - x1 < 2 and x2 - columns.max() < 3 and rows.min() - y1 < 2 and y2 - rows.max() < 3
        assert (target["mask"] == made[0]).all()


# ---- erasing and mixing


def test_erasing_takes_a_rectangle_of_the_right_area():
    x = floats(3, 50, 60)
    before = x.copy()
    erasing = T.RandomErasing(1.0, scale=(0.1, 0.2), ratio=(0.5, 2.0), value=2.0, generator=seeded())
    shares, ratios = [], []
    for _ in range(100):
        made = erasing(x)
        gone = (made == 2.0).all(0)
        rows, columns = np.flatnonzero(gone.any(1)), np.flatnonzero(gone.any(0))
        assert gone.sum() == len(rows) * len(columns)
        shares.append(gone.mean())
        ratios.append(len(rows) / len(columns))
        assert (made[:, ~gone] == x[:, ~gone]).all()
    assert 0.09 < min(shares) < 0.12 and 0.17 < max(shares) < 0.21
    assert 0.45 < min(ratios) < 0.6 and 1.7 < max(ratios) < 2.2
    assert (x == before).all()
    noise = T.RandomErasing(1.0, scale=(0.3, 0.3), value="random", generator=seeded())(x) - x
    assert 0.8 < noise[noise != 0].std() < 1.4
    grains = T.RandomErasing(1.0, scale=(0.3, 0.3), value="random", generator=seeded())(np.zeros((3, 60, 60), np.uint8))
    assert grains.dtype == np.uint8 and grains.max() > 250 and 110 < grains[grains > 0].mean() < 145
    assert T.RandomErasing(1.0, value=(5, 6, 7))(x).max(axis=(1, 2)).tolist() == [5, 6, 7]


def test_mixup_is_the_same_mixture_of_pictures_and_labels():
    x = np.eye(4, dtype=np.float32).reshape(4, 1, 2, 2)
    images, labels = T.MixUp(0.4, num_classes=4, generator=seeded())(x, np.arange(4))
    np.testing.assert_allclose(images.reshape(4, 4), labels)
    part = labels[0, 0]
    np.testing.assert_allclose(labels, part * np.eye(4) + (1 - part) * np.roll(np.eye(4), 1, 0), atol=1e-6)
    again, shares = T.MixUp(0.4, generator=seeded())(x, np.eye(4, dtype=np.float32))
    np.testing.assert_allclose(shares, labels)
    np.testing.assert_allclose(again, images)


def test_shares_of_mixup_have_betas_moments():
    stream, alpha = seeded(), 0.3
    drawn = stream.beta(alpha, alpha, (20_000,), np.float64)
    assert abs(drawn.mean() - 0.5) < 0.02 and abs(drawn.var() - 0.25 / (2 * alpha + 1)) < 0.01


def test_cutmix_labels_say_what_is_seen():
    x = np.broadcast_to(np.arange(5.0).reshape(5, 1, 1, 1), (5, 3, 20, 30))
    mix = T.CutMix(num_classes=5, generator=seeded())
    for _ in range(30):
        images, labels = mix(x, np.arange(5))
        for n in range(5):
            own = (images[n] == n).mean()
            expected = np.zeros(5)
            expected[n] += own
            expected[n - 1] += 1 - own
            np.testing.assert_allclose(labels[n], expected, atol=1e-6)


# ---- combinations


def test_choices_and_orders():
    x = np.zeros((1, 1))
    plus = T.Lambda(lambda image: image + 1)
    double = T.Lambda(lambda image: image * 2)
    assert T.Compose([plus, double, plus])(x) == 3
    ordered = {float(T.RandomOrder([plus, double, plus], generator=seeded(i))(x)[0, 0]) for i in range(40)}
    assert ordered == {2.0, 3.0, 4.0}
    choice = T.RandomChoice([plus, double, T.Lambda(lambda image: image - 5)], p=[1, 0, 3], generator=seeded())
    drawn = [float(choice(x)[0, 0]) for _ in range(800)]
    assert set(drawn) == {1.0, -5.0} and 140 < drawn.count(1.0) < 260
    apply = T.RandomApply([plus, plus], p=0.25, generator=seeded())
    assert 140 < sum([float(apply(x)[0, 0]) == 2 for _ in range(800)]) < 260


def test_each_picture_of_a_batch_for_itself():
    x = np.broadcast_to(np.arange(16).reshape(4, 4), (50, 1, 4, 4))
    together = T.RandomCrop(2, generator=seeded())(x)
    apart = T.PerImage(T.RandomCrop(2, generator=seeded()))(x)
    assert together.shape == apart.shape == (50, 1, 2, 2)
    assert (together == together[0]).all() and len({tuple(one.ravel()) for one in apart}) == 9


def test_a_seed_gives_the_same_pictures():
    x = picture()
    transforms = [
        T.RandomCrop(8, padding=2, generator=seeded()),
        T.ColorJitter(0.5, 0.5, 0.5, 0.5, generator=seeded()),
        T.RandomErasing(1.0, value="random", generator=seeded()),
        T.RandomAffine(30, (0.2, 0.2), generator=seeded()),
        T.RandomPhotometricDistort(generator=seeded()),
    ]
    first = [transform(x) for transform in transforms]
    for transform, made in zip(transforms, first):
        assert not np.array_equal(transform(x), made)
        transform.generator.manual_seed(0)
        assert (transform(x) == made).all()
    tg.manual_seed(5)
    default = T.RandomCrop(5)(x)
    tg.manual_seed(5)
    assert (T.RandomCrop(5)(x) == default).all()


class Varied(tg.data.Dataset):
    """The same picture, cropped in a different place each time."""

    def __init__(self, **options):
        self.crop = T.RandomCrop(4, **options)

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.crop(np.arange(64.0, dtype=np.float32).reshape(1, 8, 8))


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_in_workers_a_loader_varies_what_a_generator_of_its_own_would_repeat(workers):
    def corners(num_workers):
        loader = tg.data.DataLoader(
            Varied(), 2, num_workers=num_workers, workers=workers, generator=tg.Generator().manual_seed(0)
        )
        return [batch[:, 0, 0, 0].tolist() for _ in range(2) for batch in loader]

    assert corners(2) == corners(0) and len({str(batch) for batch in corners(2)}) > 5
    with pytest.raises(ArgumentError, match="RandomCrop: it has a generator of its own.*leave generator out"):
        list(tg.data.DataLoader(Varied(generator=tg.Generator()), 2, num_workers=2, workers=workers))
    assert len(list(tg.data.DataLoader(Varied(generator=tg.Generator()), 2))) == 4


def test_transforms_show_and_pickle_themselves():
    transform = T.Compose([T.RandomCrop(8, padding=2), T.ToDtype(np.float32, scale=True), T.Normalize(0.5, 0.5)])
    copy = pickle.loads(pickle.dumps(transform))
    assert "RandomCrop(size=(8, 8), padding=(2, 2, 2, 2)" in repr(copy)
    assert copy(picture()).dtype == np.float32


def test_gradients_go_through_what_is_smooth():
    x = tg.tensor(floats(1, 3, 12, 12), requires_grad=True)
    whole = T.Compose(
        [T.RandomCrop(8, padding=2), T.ColorJitter(0.1, 0.1, 0.1, 0.1), T.RandomAffine(20, interpolation="bilinear")]
    )
    whole(x).sum().backward()
    assert x.grad.shape == x.shape and float(abs(x.grad).sum()) > 0


# ---- wrong use


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: T.Resize(0), ArgumentError),
        (lambda: T.Resize((1, 2, 3)), ArgumentError),
        (lambda: T.Resize(9, "lanczos")(floats()), ArgumentError),
        (lambda: TF.resize(floats(), 10, max_size=9), ArgumentError),
        (lambda: TF.resize(floats(3, 0, 4), 10), ShapeError),
        (lambda: T.RandomCrop(99)(floats()), ArgumentError),
        (lambda: T.Pad(-1), ArgumentError),
        (lambda: T.Pad(2, padding_mode="wrap"), ArgumentError),
        (lambda: T.Pad(30, padding_mode="reflect")(floats()), ArgumentError),
        (lambda: T.Pad(3, fill=(1, 2))(floats()), ShapeError),
        (lambda: T.RandomHorizontalFlip(1.5), ArgumentError),
        (lambda: T.RandomHorizontalFlip()(floats(9)), ShapeError),
        (lambda: T.RandomHorizontalFlip()([1, 2]), DtypeError),
        (lambda: T.Normalize(0.5, 0.0), ArgumentError),
        (lambda: T.Normalize(None, 1.0), ArgumentError),
        (lambda: T.RandomHorizontalFlip(None), ArgumentError),
        (lambda: T.RandomRotation(5)(floats(3, 0, 4)), ShapeError),
        (lambda: T.Resize(5)(floats().astype(complex)), DtypeError),
        (lambda: T.ColorJitter(None), ArgumentError),
        (lambda: T.RandomAffine(5, translate=3), ArgumentError),
        (lambda: T.RandomHorizontalFlip(1.0)(floats(), {"boxes": [[1, 2, 3, 4]], "labels": 3}), ShapeError),
        (lambda: T.Normalize([0.5], [1.0])(floats()), ShapeError),
        (lambda: T.Normalize(0.5, 1.0)(picture()), DtypeError),
        (lambda: T.ToDtype(np.int64, scale=True)(floats()), DtypeError),
        (lambda: T.ToImage()("a.png"), ShapeError),
        (lambda: T.ColorJitter(hue=0.7), ArgumentError),
        (lambda: T.ColorJitter(brightness=-1), ArgumentError),
        (lambda: T.ColorJitter(saturation=1)(floats(4, 5, 5)), ShapeError),
        (lambda: TF.adjust_hue(floats(), 0.6), ArgumentError),
        (lambda: T.Grayscale(2)(floats()), ArgumentError),
        (lambda: T.RandomRotation((5, -5)), ArgumentError),
        (lambda: T.RandomRotation(5, "bicubic"), ArgumentError),
        (lambda: T.RandomAffine(5, translate=(2, 0)), ArgumentError),
        (lambda: T.RandomErasing(value="noise"), ArgumentError),
        (lambda: T.RandomErasing(scale=(0.5, 0.1)), ArgumentError),
        (lambda: T.RandomZoomOut(side_range=(0.5, 2.0)), ArgumentError),
        (lambda: T.RandomIoUCrop()(floats()), ArgumentError),
        (lambda: T.MixUp()(floats(2, 3, 4, 4), np.arange(2)), ArgumentError),
        (lambda: T.MixUp(0), ArgumentError),
        (lambda: T.CutMix(num_classes=3)(floats(2, 3, 4, 4), np.arange(3)), ShapeError),
        (lambda: T.MixUp(num_classes=3)(picture(2, 3, 4, 4), np.arange(2)), DtypeError),
        (lambda: T.Compose([]), ArgumentError),
        (lambda: T.RandomChoice([T.Grayscale()], p=[1, 2]), ArgumentError),
        (lambda: T.PerImage(T.Grayscale())(floats(2, 3, 4, 4), {}), ArgumentError),
        (lambda: T.RandomHorizontalFlip(1.0)(floats(), {"boxes": np.zeros((2, 5))}), ShapeError),
        (lambda: T.CenterCrop(4)(floats(), {"boxes": np.zeros((2, 4)), "labels": [1]}), ShapeError),
        (lambda: T.RandomCrop(4, generator=tg.Generator("strict")), DeviceError),
    ],
)
def test_wrong_use_explains_itself(call, kind):
    with pytest.raises(kind, match="Fix:"):
        call()


def test_a_rotation_matrix_is_a_rotation():
    from tinygrad_ja.data.transforms.warp import affine_matrix

    matrix = affine_matrix(30, (5, 6), 2.0, (0, 0), (1, 2))
    np.testing.assert_allclose(matrix @ [1, 2, 1], [6, 8, 1])  # the centre only moves
    np.testing.assert_allclose(matrix[:2, :2], 2 * np.array([[math.cos(math.pi / 6), -0.5], [0.5, math.cos(math.pi / 6)]]))
