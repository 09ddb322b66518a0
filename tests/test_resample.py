"""Interpolation, grids and pixels: values from formulas, and messages."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, DtypeError, ShapeError
from tinygrad_ja.nn import functional as F
from tinygrad_ja.ops.interpolate import nearest_map
from tinygrad_ja.ops.resample import AxisMap
from tinygrad_ja.testing import strict


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape)


def dense(map):
    """The matrix that a map stands for."""
    matrix = np.zeros((map.count, map.size + 1))
    for index, weight in zip(map.index, map.weight):
        matrix[np.arange(map.count), index] += weight
    return matrix[:, :-1]


# ---- maps


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("size", "count", "taps"), [(4, 3, 2), (1, 5, 1), (200, 130, 3), (60, 200, 4), (3, 2, 0)])
def test_a_map_is_its_matrix(seed, size, count, taps):
    rng = np.random.default_rng(seed)
    index = rng.integers(0, size + 1, (taps, count))
    map = AxisMap(size, index, np.where(index == size, 0.0, rng.normal(size=(taps, count))))
    np.testing.assert_allclose(dense(map.T), dense(map).T)
    assert map.T.T is map
    from tinygrad_ja.ops.resample import _resample

    x = rng.normal(size=(2, size, 3))
    identity = AxisMap(3, np.arange(3)[None], np.ones((1, 3)))
    np.testing.assert_allclose(_resample(x, (map, identity)), np.einsum("os,nsc->noc", dense(map), x), atol=1e-12)


# ---- interpolation


def test_a_line_stays_a_line():
    x = np.linspace(0.0, 1.0, 5).reshape(1, 1, 5)
    y = F.interpolate(x, size=9, mode="linear", align_corners=True)
    np.testing.assert_allclose(y[0, 0], np.linspace(0.0, 1.0, 9))


def test_bicubic_weighs_with_keys_kernel():
    impulse = np.zeros((1, 1, 1, 7))
    impulse[..., 3] = 1.0
    y = F.interpolate(impulse, size=(1, 13), mode="bicubic", align_corners=True)[0, 0, 0]
    # at distance 1/2 ((a + 2) d - (a + 3)) d² + 1, at distance 3/2 ((a d - 5 a) d + 8 a) d - 4 a, with a = -3/4
    np.testing.assert_allclose(y, [0, 0, 0, -0.09375, 0, 0.59375, 1, 0.59375, 0, -0.09375, 0, 0, 0], atol=1e-12)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "area", "bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [False, True])
def test_a_constant_stays_a_constant(mode, antialias):
    if antialias and mode not in ("bilinear", "bicubic"):
        return
    y = F.interpolate(np.full((1, 2, 7, 9), 3.0), size=(5, 14), mode=mode, antialias=antialias)
    np.testing.assert_allclose(y, np.full((1, 2, 5, 14), 3.0))


def test_nearest_takes_the_element_to_the_left_and_exact_the_nearest():
    assert nearest_map(6, 4, None, False).index.tolist() == [[0, 1, 3, 4]]  # floor(1.5 o)
    assert nearest_map(6, 4, None, True).index.tolist() == [[0, 2, 3, 5]]  # floor(1.5 (o + 0.5))


def test_the_area_is_the_mean():
    x = numbers(2, 3, 6, 8)
    np.testing.assert_allclose(F.interpolate(x, size=(3, 2), mode="area"), x.reshape(2, 3, 3, 2, 2, 4).mean((3, 5)))


def test_the_derivative_is_the_transpose():
    x = tg.tensor(numbers(1, 1, 5, 6)).requires_grad_()
    g = numbers(1, 1, 9, 4)
    y = F.interpolate(x, size=(9, 4), mode="bicubic")
    y.backward(tg.tensor(g))
    v = numbers(1, 1, 5, 6) + 1
    np.testing.assert_allclose((x.grad.numpy() * v).sum(), (g * F.interpolate(v, size=(9, 4), mode="bicubic")).sum())


# ---- grids


def test_the_identity_grid_gives_the_picture():
    x = numbers(2, 3, 4, 5)
    theta = np.broadcast_to(np.eye(2, 3), (2, 2, 3))
    for align in (False, True):
        grid = F.affine_grid(theta, x.shape, align)
        for mode in ("bilinear", "nearest", "bicubic"):
            np.testing.assert_allclose(F.grid_sample(x, grid, mode, align_corners=align), x, atol=1e-12)


def test_a_turn_by_a_half():
    x = numbers(1, 2, 4, 4)
    grid = F.affine_grid(np.array([[[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]]), x.shape, False)
    np.testing.assert_allclose(F.grid_sample(x, grid), x[..., ::-1, ::-1], atol=1e-12)


def test_beyond_the_edge():
    x = np.array([[[[1.0, 2.0, 3.0]]]])
    grid = np.array(
        [[[[3.0, 0.0], [-2.0, 0.0]]]]
    )  # places 5 and -2 of the centres 0, 1, 2, where -1 and 1 are the outer centres
    sample = lambda padding: F.grid_sample(x, grid, "bilinear", padding, True)[0, 0, 0].tolist()  # noqa: E731
    assert sample("zeros") == [0.0, 0.0]
    assert sample("border") == [3.0, 1.0]
    assert sample("reflection") == [1.0, 2.0]  # 4 -> 0 and -1 -> 1


def test_float16_is_computed_in_float32():
    x, grid = numbers(1, 2, 6, 6).astype(np.float16), np.random.default_rng(1).uniform(-1, 1, (1, 4, 4, 2)).astype(np.float16)
    y = F.grid_sample(tg.tensor(x, dtype=tg.float16), tg.tensor(grid, dtype=tg.float16))
    assert y.dtype == tg.float16
    exact = F.grid_sample(x.astype(np.float64), grid.astype(np.float64))
    np.testing.assert_allclose(y.numpy(), exact, atol=2e-3)


# ---- pixels


def test_pixel_shuffle_by_its_definition():
    x = numbers(2, 12, 3, 4)
    y = F.pixel_shuffle(x, 2)
    for c, i, j in np.ndindex(3, 2, 2):
        np.testing.assert_array_equal(y[:, c, i::2, j::2], x[:, c * 4 + i * 2 + j])
    np.testing.assert_array_equal(F.pixel_unshuffle(y, 2), x)


# ---- on a GPU


@pytest.mark.parametrize(
    "f",
    [
        lambda x, grid: F.interpolate(x, scale_factor=2),
        lambda x, grid: F.interpolate(x.long(), scale_factor=2),
        lambda x, grid: F.interpolate(x, size=(3, 9), mode="bilinear"),
        lambda x, grid: F.interpolate(x, size=(3, 9), mode="bicubic", antialias=True),
        lambda x, grid: F.interpolate(x, size=(3, 4), mode="area"),
        lambda x, grid: F.grid_sample(x, grid, "bilinear", "reflection"),
        lambda x, grid: F.grid_sample(x, grid, "bicubic", "border", True),
        lambda x, grid: F.grid_sample(x, grid, "nearest"),
        lambda x, grid: F.affine_grid(grid[:, :, 0, :1] + x[:, :2, 0, :3], (2, 2, 3, 4)),
        lambda x, grid: F.pixel_unshuffle(F.channel_shuffle(x, 2), 2),
    ],
)
def test_resampling_keeps_to_what_cupy_has_and_does_not_wait(f):
    x, grid = numbers(2, 2, 6, 8), np.random.default_rng(1).uniform(-1.5, 1.5, (2, 2, 5, 2))
    here = f(tg.tensor(x), tg.tensor(grid))
    given = tg.tensor(x, device="strict"), tg.tensor(grid, device="strict")
    with strict.watch() as events:
        made = f(*given)
    assert not events
    np.testing.assert_allclose(strict.peek(made.array), here.numpy(), rtol=1e-10, atol=1e-12)


# ---- messages

PICTURE = tg.zeros(2, 3, 8, 8)
GRID = tg.zeros(2, 4, 4, 2)


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: F.interpolate(PICTURE), ArgumentError, "exactly one of size and scale_factor"),
        (lambda: F.interpolate(PICTURE, 3, 2.0), ArgumentError, "exactly one of size and scale_factor"),
        (lambda: F.interpolate(PICTURE, 3, mode="cubic"), ArgumentError, "mode = 'cubic'"),
        (lambda: F.interpolate(PICTURE, 3, mode="linear"), ShapeError, "(N, C, L)"),
        (lambda: F.interpolate(tg.zeros(8, 8), 3), ShapeError, "(N, C, L), (N, C, H, W), (N, C, D, H, W)"),
        (lambda: F.interpolate(PICTURE, 3, align_corners=True), ArgumentError, "align_corners = True"),
        (lambda: F.interpolate(PICTURE, (3,)), ArgumentError, "a number, or 2 of them"),
        (lambda: F.interpolate(PICTURE, 3.5), ArgumentError, "size = 3.5"),
        (lambda: F.interpolate(PICTURE, scale_factor=(1.0,)), ArgumentError, "scale_factor = (1.0,)"),
        (lambda: F.interpolate(PICTURE, 0), ArgumentError, "at least 1"),
        (lambda: F.interpolate(PICTURE, scale_factor=0.01), ArgumentError, "scale_factor = 0.01"),
        (lambda: F.interpolate(PICTURE, 3, recompute_scale_factor=True), ArgumentError, "recompute_scale_factor"),
        (lambda: F.interpolate(PICTURE, 3, antialias=True), ArgumentError, "antialias = True"),
        (lambda: F.interpolate(PICTURE, 3, mode="lanczos"), ArgumentError, "antialias = False"),
        (lambda: F.interpolate(PICTURE.long(), 3, mode="bilinear"), DtypeError, "int64"),
        (lambda: F.interpolate(tg.zeros(2, 3, 0, 8), 3), ShapeError, "no empty axis"),
        (lambda: F.grid_sample(PICTURE, GRID, "linear"), ArgumentError, "one of bilinear, nearest, bicubic"),
        (lambda: F.grid_sample(PICTURE, GRID, padding_mode="reflect"), ArgumentError, "padding_mode = 'reflect'"),
        (lambda: F.grid_sample(PICTURE, GRID[:1]), ShapeError, "(1, 4, 4, 2)"),
        (lambda: F.grid_sample(PICTURE, tg.zeros(2, 4, 4, 3)), ShapeError, "(2, 4, 4, 3)"),
        (lambda: F.grid_sample(tg.zeros(1, 1, 2, 2, 2), tg.zeros(1, 2, 2, 2, 3), "bicubic"), ShapeError, "but for bicubic"),
        (lambda: F.grid_sample(PICTURE, GRID.double()), DtypeError, "one float dtype"),
        (lambda: F.affine_grid(tg.zeros(2, 3, 3), (2, 1, 4, 4)), ShapeError, "theta (2, 3, 3)"),
        (lambda: F.affine_grid(tg.zeros(2, 2, 3), (2, 1, 0, 4)), ShapeError, "all sizes above 0"),
        (lambda: F.affine_grid(tg.zeros(2, 2, 3).long(), (2, 1, 3, 4)), DtypeError, "int64"),
        (lambda: F.pixel_shuffle(PICTURE, 2), ShapeError, "C a multiple of 4"),
        (lambda: F.pixel_shuffle(PICTURE, 0), ArgumentError, "upscale_factor = 0"),
        (lambda: F.pixel_unshuffle(PICTURE, 3), ShapeError, "H and W multiples of 3"),
        (lambda: F.pixel_unshuffle(PICTURE, -1), ArgumentError, "downscale_factor = -1"),
        (lambda: F.channel_shuffle(PICTURE, 2), ShapeError, "C a multiple of 2"),
        (lambda: F.channel_shuffle(tg.zeros(4, 2), 2), ShapeError, "(4, 2)"),
    ],
)
def test_messages(call, kind, text):
    with pytest.raises(kind) as found:
        call()
    assert text in str(found.value)
