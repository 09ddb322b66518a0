"""Interpolation, grids and rearranged pixels beside PyTorch."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from parity.beside_torch import OURS, THEIRS, compare, random

import tinygrad_ja as tg

SHAPES = {1: (2, 3, 7), 2: (2, 3, 6, 7), 3: (2, 2, 4, 6, 5)}
MODES = {
    1: ["nearest", "nearest-exact", "area", "linear"],
    2: ["nearest", "nearest-exact", "area", "bilinear", "bicubic"],
    3: ["nearest", "nearest-exact", "area", "trilinear"],
}
TARGETS = [
    {"size": 1},
    {"size": 4},
    {"size": 11},
    {"scale_factor": 1},
    {"scale_factor": 2},
    {"scale_factor": 2.0},
    {"scale_factor": 1.7},
    {"scale_factor": 0.6},
    {"scale_factor": 1.7, "recompute_scale_factor": True},
]
EACH = [(dims, mode) for dims, modes in MODES.items() for mode in modes]
TOLERANCE = {"float64": 1e-12, "float32": 3e-6, "float16": 4e-3}


def smooth(mode):
    return "linear" in mode or mode == "bicubic"


# ---- interpolation


@pytest.mark.parametrize(("dims", "mode"), EACH)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_interpolate(dims, mode, dtype):
    tolerance = TOLERANCE[dtype]
    for target, align in product(TARGETS, (None, False, True) if smooth(mode) else (None,)):
        call = lambda s, x, t=target, align=align: s.F.interpolate(x, mode=mode, align_corners=align, **t)  # noqa: E731
        compare(call, random(*SHAPES[dims], dtype=np.dtype(dtype)), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "area", "bilinear", "bicubic"])
def test_another_size_or_factor_for_each_axis(mode):
    for target in ({"size": (3, 9)}, {"scale_factor": (0.5, 3.3)}, {"size": SHAPES[2][2:]}, {"scale_factor": (1, 2)}):
        compare(lambda s, x, target=target: s.F.interpolate(x, mode=mode, **target), random(*SHAPES[2]))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("align", [None, True])
def test_antialiasing(mode, align):
    if mode == "lanczos" and align:
        return
    for target in TARGETS:
        given = {"mode": mode, "align_corners": align, "antialias": True, **target}
        compare(lambda s, x, given=given: s.F.interpolate(x, **given), random(2, 3, 9, 13), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("dims", "mode"), EACH)
def test_interpolate_float16(dims, mode):
    x = random(*SHAPES[dims], dtype=np.float16)
    compare(lambda s, x: s.F.interpolate(x, scale_factor=1.7, mode=mode), x, rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_bytes_are_picked(mode, dims):
    x = np.random.default_rng(0).integers(0, 256, SHAPES[dims], dtype=np.uint8)
    compare(lambda s, x: s.F.interpolate(x, scale_factor=1.7, mode=mode), x, gradients=False)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
@pytest.mark.parametrize("size", [3, 5, 10, 50, 100, 333])
def test_sizes_whose_steps_round(mode, size):
    for count in (1, 2, 7, 49, 99, 200, 1000):
        x = np.arange(size, dtype=np.float32).reshape(1, 1, size)
        compare(lambda s, x, count=count: s.F.interpolate(x, count, mode=mode), x, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("mode", ["nearest", "area", "bilinear", "bicubic"])
@pytest.mark.parametrize("special", [math.inf, math.nan])
def test_special_values_stay_in_their_places(mode, special):
    x = random(1, 2, 6, 7)
    x[0, 0, 2, 3] = special
    for target in ({"size": (3, 9)}, {"scale_factor": 2}):
        ours, theirs = (s.F.interpolate(s.tensor(x), mode=mode, **target).numpy() for s in (OURS, THEIRS))
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_old_names():
    x = random(*SHAPES[2])
    with pytest.warns(UserWarning, match="deprecated"):
        compare(lambda s, x: s.F.upsample(x, scale_factor=2, mode="bilinear", align_corners=False), x)
        compare(lambda s, x: s.F.upsample_nearest(x, size=(5, 3)), x)
        compare(lambda s, x: s.F.upsample_bilinear(x, size=(5, 3)), x)
        compare(lambda s, x: s.F.upsample_bilinear(x, scale_factor=3), x)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_second_derivatives_of_interpolation(mode):
    x, sides = random(*SHAPES[2]), []
    for side, grad in ((OURS, tg.grad), (THEIRS, torch.autograd.grad)):
        t = side.tensor(x).requires_grad_()
        (first,) = grad((side.F.interpolate(t, size=(4, 9), mode=mode) ** 3).sum(), t, create_graph=True)
        sides.append(grad((first * first).sum(), t)[0].numpy())
    np.testing.assert_allclose(*sides, rtol=1e-9, atol=1e-10)


# ---- grids

GRIDS = list(product(["bilinear", "nearest", "bicubic"], ["zeros", "border", "reflection"], [True, False]))


@pytest.mark.parametrize(("mode", "padding", "align"), GRIDS)
def test_grid_sample(mode, padding, align):
    call = lambda s, x, grid: s.F.grid_sample(x, grid, mode, padding, align)  # noqa: E731
    compare(call, random(2, 3, 5, 4), random(2, 3, 6, 2, seed=1), rtol=1e-10, atol=1e-10)
    compare(call, random(2, 3, 5, 4), 3 * random(2, 3, 6, 2, seed=1), rtol=1e-10, atol=1e-10)
    compare(call, random(1, 1, 1, 1), 2 * random(1, 2, 3, 2, seed=1), rtol=1e-10, atol=1e-10)
    compare(call, random(2, 3, 1, 4), 2 * random(2, 2, 3, 2, seed=1), rtol=1e-10, atol=1e-10)
    compare(call, random(2, 3, 5, 4), np.zeros((2, 0, 3, 2)))
    compare(call, np.zeros((0, 3, 5, 4)), np.zeros((0, 2, 3, 2)))
    x, grid = random(2, 3, 5, 4, dtype=np.float32), random(2, 3, 6, 2, seed=1, dtype=np.float32)
    compare(call, x, grid, rtol=2e-5, atol=2e-5)
    if mode != "bicubic":
        compare(call, random(2, 2, 3, 4, 5), 2 * random(2, 3, 2, 4, 3, seed=1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("mode", "padding", "align"), GRIDS)
def test_places_on_pixels_and_edges(mode, padding, align):
    line = np.linspace(-2, 2, 17)
    grid = np.stack(np.meshgrid(line, line), -1)[None]
    compare(lambda s, x, g: s.F.grid_sample(x, g, mode, padding, align), random(1, 2, 5, 5), grid, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_places_that_are_nowhere(mode, padding):
    x, grid = random(1, 2, 5, 5), np.array([[[[math.nan, 0.0], [math.inf, 0.3]]]])
    ours, theirs = (s.F.grid_sample(s.tensor(x), s.tensor(grid), mode, padding, False).numpy() for s in (OURS, THEIRS))
    np.testing.assert_allclose(ours, theirs)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_an_infinite_pixel_stays_in_its_place():
    x = random(1, 2, 5, 5)
    x[0, 0, 2, 2] = math.inf
    for padding in ("zeros", "border"):
        sides = [
            s.F.grid_sample(s.tensor(x), s.tensor(1.5 * random(1, 4, 4, 2)), "bilinear", padding, False) for s in (OURS, THEIRS)
        ]
        np.testing.assert_allclose(*[side.numpy() for side in sides])


@pytest.mark.parametrize("align", [True, False, None])
@pytest.mark.filterwarnings("ignore:Default grid_sample and affine_grid", "ignore:Since version 1.3.0")
def test_affine_grid(align):
    for size in ((2, 3, 4, 5), (2, 3, 1, 5), (2, 1, 1, 1)):
        compare(lambda s, t, size=size: s.F.affine_grid(t, list(size), align), random(2, 2, 3))
    for size in ((2, 3, 4, 5, 6), (2, 3, 1, 5, 1)):
        compare(lambda s, t, size=size: s.F.affine_grid(t, list(size), align), random(2, 3, 4))
    compare(lambda s, t: s.F.affine_grid(t, [2, 1, 3, 4], align), random(2, 2, 3, dtype=np.float32), rtol=1e-6, atol=1e-6)


def test_a_spatial_transformer():
    def turned(s, x, theta):
        return s.F.grid_sample(x, s.F.affine_grid(theta, [2, 3, 4, 4], False), align_corners=False)

    compare(turned, random(2, 3, 5, 6), random(2, 2, 3, seed=2), rtol=1e-10, atol=1e-10)


# ---- pixels and channels


@pytest.mark.parametrize("shape", [(8, 2, 3), (2, 8, 2, 3), (2, 3, 4, 2, 2)])
def test_pixel_shuffle(shape):
    for dtype in (np.float64, np.float32, np.int64):
        x = (9 * random(*shape)).astype(dtype)
        options = {"gradients": x.dtype.kind == "f", "rtol": 1e-6}
        compare(lambda s, x: s.F.pixel_shuffle(x, 2), x, **options)
        compare(lambda s, x: s.F.pixel_unshuffle(s.F.pixel_shuffle(x, 2), 2), x, **options)
        compare(lambda s, x: s.F.pixel_shuffle(x, 1), x, **options)


@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 6, 2, 3), (1, 4, 2, 2, 2)])
def test_channel_shuffle(shape):
    for groups in (1, 2, shape[1]):
        compare(lambda s, x, groups=groups: s.F.channel_shuffle(x, groups), random(*shape))


# ---- layers


@pytest.mark.parametrize(
    ("name", "given", "shape"),
    [
        ("Upsample", {"scale_factor": 2}, SHAPES[2]),
        ("Upsample", {"scale_factor": (2, 1.5), "mode": "bilinear"}, SHAPES[2]),
        ("Upsample", {"size": 5, "mode": "linear", "align_corners": True}, SHAPES[1]),
        ("Upsample", {"size": (5, 4, 3), "mode": "trilinear"}, SHAPES[3]),
        ("Upsample", {"scale_factor": 1.3, "mode": "bicubic", "recompute_scale_factor": True}, SHAPES[2]),
        ("UpsamplingNearest2d", {"scale_factor": 2}, SHAPES[2]),
        ("UpsamplingNearest2d", {"size": (3, 8)}, SHAPES[2]),
        ("UpsamplingBilinear2d", {"scale_factor": 2}, SHAPES[2]),
        ("UpsamplingBilinear2d", {"size": 9}, SHAPES[2]),
        ("PixelShuffle", {"upscale_factor": 2}, (2, 8, 3, 2)),
        ("PixelUnshuffle", {"downscale_factor": 2}, (2, 2, 4, 6)),
        ("ChannelShuffle", {"groups": 3}, (2, 6, 4, 3)),
    ],
)
def test_layers(name, given, shape):
    ours, theirs = (getattr(side.nn, name)(**given) for side in (tg, torch))
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == []
    compare(lambda s, x: (ours if s is OURS else theirs)(x), random(*shape))
