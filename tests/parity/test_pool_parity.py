"""Pooling and padding, as functions and as layers, beside PyTorch."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from parity.beside_torch import OURS, THEIRS, compare, random

import tinygrad_ja as tg

SHAPES = {1: [(2, 3, 7), (3, 6)], 2: [(2, 3, 6, 7), (3, 5, 6)], 3: [(2, 2, 5, 6, 7), (2, 6, 5, 5)]}
DIMS = [1, 2, 3]
ROUNDING = {"float16": 4e-3, "float32": 1e-6}
inf, nan = math.inf, math.nan


def pool(name, dims):
    """``call(side)`` is the function of that name for so many axes."""
    return lambda side: getattr(side.F, f"{name}{dims}d")


def arguments(dims):
    """(kernel_size, stride, padding, dilation, ceil_mode) in all combinations that PyTorch takes."""
    mixed = {1: 3, 2: (2, 3), 3: (1, 2, 3)}[dims]
    kernels = {1: (1, 2, 3), 2: (2, 3, mixed), 3: (2, mixed)}[dims]
    for kernel, stride, padding, dilation, ceil in product(kernels, (None, 1, 3), (0, 1), (1, 2), (False, True)):
        if not padding or (isinstance(kernel, int) and kernel > 1):
            yield kernel, stride, padding, dilation, ceil


# ---- max pooling


@pytest.mark.parametrize("dims", DIMS)
def test_max_pool(dims):
    f = pool("max_pool", dims)
    for shape in SHAPES[dims]:
        for given in arguments(dims):
            compare(lambda s, x, given=given: f(s)(x, *given, return_indices=True), random(*shape))


@pytest.mark.parametrize("dims", DIMS)
def test_max_pool_without_and_with_indices(dims):
    x = random(*SHAPES[dims][0])
    compare(lambda s, x: pool("max_pool", dims)(s)(x, 2, padding=1, stride=1), x)
    compare(lambda s, x: getattr(s.F, f"max_pool{dims}d_with_indices")(x, 2, (), 1), x)
    compare(lambda s, x: getattr(s.F, f"adaptive_max_pool{dims}d_with_indices")(x, 2), x)


@pytest.mark.parametrize("kernel", [(1, 5), (5, 1), 5, (3, 6)])
def test_large_windows_are_reduced_axis_by_axis(kernel):
    compare(lambda s, x: s.F.max_pool2d(x, kernel, 1, 0, 1, False, True), np.round(random(2, 3, 8, 9)))
    compare(lambda s, x: s.F.max_pool2d(x, kernel, ceil_mode=True, return_indices=True), np.round(random(2, 3, 8, 9)))


@pytest.mark.parametrize("size", [40, 41, 80, 83])
def test_long_windows_side_by_side(size):
    for kernel in (20, 40, size):
        compare(lambda s, x, k=kernel: s.F.max_pool1d(x, k, return_indices=True), np.round(random(2, 3, size)))
    compare(lambda s, x: s.F.max_pool2d(x, (20, 2), return_indices=True), np.round(random(2, size, 5)))


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("kernel", [2, 3])
def test_the_first_of_equal_elements_gets_the_gradient(dims, kernel):
    x = np.random.default_rng(0).integers(0, 2, SHAPES[dims][0]).astype(float)
    for stride in (1, 2, 3):
        compare(lambda s, x, stride=stride: pool("max_pool", dims)(s)(x, kernel, stride, 1, return_indices=True), x)
    compare(lambda s, x: pool("adaptive_max_pool", dims)(s)(x, 3, True), x)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("special", [nan, inf, -inf])
@pytest.mark.parametrize("given", [(2,), (3, 1, 1), (2, 1, 1, 2), (3, 2, 1, 1, True), (5, 5), (6, 1, 3)])
def test_special_values_in_max_pool(special, given):
    x = random(2, 2, 7, 8)
    x[0, 0, 2, 3] = x[1, 1, 0, 0] = x[1, 0, 6, 7] = special
    compare(lambda s, x: s.F.max_pool2d(x, *given, return_indices=True), x)
    compare(lambda s, x: s.F.max_pool2d(x, *given, return_indices=True), np.full((1, 1, 7, 8), -inf))
    compare(lambda s, x: s.F.adaptive_max_pool2d(x, (3, 2), True), x)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64", "int32", "uint8"])
def test_dtypes_of_max_pool(dtype):
    x = (10 * np.abs(random(2, 3, 6, 7))).astype(dtype)
    options = {"gradients": dtype.startswith("float"), "rtol": ROUNDING.get(dtype, 0.0), "atol": ROUNDING.get(dtype, 0.0)}
    compare(lambda s, x: s.F.max_pool2d(x, 3, 2, 1, return_indices=True), x, **options)
    compare(lambda s, x: s.F.max_pool2d(x, 2), x, **options)
    compare(lambda s, x: s.F.max_pool2d(x, 5), x, **options)


# ---- means and norms


@pytest.mark.parametrize("dims", DIMS)
def test_avg_pool(dims):
    f = pool("avg_pool", dims)
    for shape in SHAPES[dims]:
        for kernel, stride, padding, dilation, ceil in arguments(dims):
            if dilation == 1:
                for include in (True, False):
                    given = kernel, stride, padding, ceil, include
                    compare(lambda s, x, given=given: f(s)(x, *given), random(*shape), rtol=1e-10)


@pytest.mark.parametrize("dims", [2, 3])
def test_another_divisor(dims):
    for divisor in (1, 5, -2):
        for padding in (0, 1):
            given = {"padding": padding, "divisor_override": divisor, "ceil_mode": True, "count_include_pad": False}
            compare(lambda s, x, given=given: pool("avg_pool", dims)(s)(x, 2, 3, **given), random(*SHAPES[dims][0]))


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("special", [nan, inf, -inf])
def test_special_values_stay_in_their_windows(special):
    x = random(2, 2, 7, 8)
    x[0, 0, 2, 3] = special
    for dtype in (np.float64, np.float32):
        for given in [(2,), (3, 2, 1), (3, 1, 1, True, False)]:
            call = lambda s, x, given=given: s.F.avg_pool2d(x, *given)  # noqa: E731
            compare(call, x.astype(dtype), rtol=1e-5, atol=1e-6)
        compare(lambda s, x: s.F.adaptive_avg_pool2d(x, (3, 5)), x.astype(dtype), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["avg_pool", "lp_pool", "adaptive_avg_pool"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_dtypes_of_means(name, dtype):
    tolerance = 10 * ROUNDING[dtype] if dtype == "float32" else ROUNDING[dtype]
    given = {"avg_pool": (3, 2), "lp_pool": (2, 3, 2), "adaptive_avg_pool": (3,)}[name]
    x = np.abs(random(2, 3, 8, 7)).astype(dtype) + np.dtype(dtype).type(0.5)
    compare(lambda s, x: getattr(s.F, f"{name}2d")(x, *given), x, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("given", [(2,), (3, 2, 1), (3, 2, 1, True, False), (2, 2, 0, False, True, 3)])
def test_means_of_int64_are_rounded_towards_zero(given):
    compare(lambda s, x: s.F.avg_pool2d(x, *given), np.random.default_rng(0).integers(-9, 9, (2, 3, 7, 8)), gradients=False)


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("p", [1, 2, 3, 2.5])
def test_lp_pool(dims, p):
    for shape in SHAPES[dims]:
        for stride, ceil in product((None, 1, 3), (False, True)):
            x = np.abs(random(*shape)) + 0.1
            compare(lambda s, x, stride=stride, ceil=ceil: pool("lp_pool", dims)(s)(x, p, 2, stride, ceil), x, rtol=1e-10)


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero")
@pytest.mark.parametrize("p", [1, 2, 3, 0.5, -1])
def test_lp_pool_of_windows_whose_sum_is_zero(p):
    compare(lambda s, x: s.F.lp_pool1d(x, p, 2), np.array([[0.0, 0.0, 1.0, 0.0, -2.0, 1.0, -1.0, 1.0]]))


@pytest.mark.parametrize("dims", DIMS)
def test_adaptive_pools(dims):
    sizes = [1, 2, 3, 4, 5, 9, *([(2, None, 4)[-dims:]] if dims > 1 else [])]
    for shape in SHAPES[dims]:
        for size in sizes:
            compare(lambda s, x, size=size: pool("adaptive_avg_pool", dims)(s)(x, size), random(*shape))
            compare(lambda s, x, size=size: pool("adaptive_max_pool", dims)(s)(x, size, return_indices=True), random(*shape))


def test_a_size_of_zero():
    compare(lambda s, x: s.F.adaptive_avg_pool2d(x, (0, 2)), random(2, 3, 4, 5), gradients=False)
    compare(lambda s, x: s.F.adaptive_max_pool2d(x, (2, 0), True), random(2, 3, 4, 5), gradients=False)


@pytest.mark.parametrize("dims", DIMS)
def test_an_empty_batch(dims):
    x = np.zeros((0, *SHAPES[dims][0][1:]))
    for name, given in [("max_pool", (2,)), ("avg_pool", (2,)), ("adaptive_avg_pool", (3,)), ("adaptive_max_pool", (3,))]:
        compare(lambda s, x, name=name, given=given: pool(name, dims)(s)(x, *given), x)


# ---- the way back


@pytest.mark.parametrize("dims", DIMS)
def test_max_unpool(dims):
    for shape, stride in product(SHAPES[dims], (None, 1, 3)):
        pooled, indices = pool("max_pool", dims)(THEIRS)(torch.tensor(random(*shape)), 2, stride, return_indices=True)

        def call(s, y, i, shape=shape, stride=stride):
            f = pool("max_unpool", dims)(s)
            return [
                f(y, i, 2, stride, 0, shape[-dims:]),
                f(y, i, kernel_size=2, stride=stride, output_size=list(shape[-dims:])),
            ]

        if stride != 1:  # PyTorch refuses no repeated index, but which element it keeps is left open
            compare(call, pooled.numpy(), indices.numpy())


# ---- derivatives of derivatives


@pytest.mark.parametrize(
    "call",
    [
        lambda s, x: s.F.max_pool2d(x, 3, 2, 1),
        lambda s, x: s.F.max_pool2d(x, 5),
        lambda s, x: s.F.avg_pool2d(x, 3, 2, 1),
        lambda s, x: s.F.adaptive_avg_pool2d(x, 3),
        lambda s, x: s.F.adaptive_max_pool2d(x, 3),
        lambda s, x: s.F.lp_pool2d(x, 3, 2),
    ],
)
def test_second_derivatives(call):
    x, sides = np.abs(random(2, 3, 6, 7)) + 0.1, []
    for side, grad in ((OURS, tg.grad), (THEIRS, torch.autograd.grad)):
        t = side.tensor(x).requires_grad_()
        (first,) = grad((call(side, t) ** 3).sum(), t, create_graph=True)
        (second,) = grad((first * first).sum(), t)
        sides.append(second.numpy())
    np.testing.assert_allclose(*sides, rtol=1e-9, atol=1e-10)


# ---- padding


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    ("shape", "pad"),
    [
        ((2, 3), (1, 2)),
        ((2, 2, 4), (3, 0)),
        ((2, 4, 3), (2, 1, 3, 2)),
        ((2, 2, 4, 3), (0, 2, 3, 1)),
        ((2, 2, 4, 3), (-1, 1, 2, -1)),
        ((2, 2, 4, 3), (2, -1, -2, 2)),
        ((2, 3, 4, 3), (1, 2, 3, 0, 2, 1)),
        ((1, 2, 3, 4, 3), (1, 2, 3, 0, 2, 1)),
        ((1, 2, 3, 4, 3), (1, 0, 0, 0, 0, 0)),
        ((0, 2, 4, 3), (0, 2, 3, 1)),
    ],
)
def test_pad(mode, shape, pad):
    compare(lambda s, x: s.F.pad(x, pad, mode), random(*shape))


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64"])
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_dtypes_of_pad(mode, dtype):
    options = {"gradients": dtype.startswith("float"), "rtol": ROUNDING.get(dtype, 0.0), "atol": ROUNDING.get(dtype, 0.0)}
    compare(lambda s, x: s.F.pad(x, (2, 1, 0, 3), mode), (9 * random(2, 4, 5)).astype(dtype), **options)


# ---- layers

LAYERS = {
    "MaxPool": [(2,), (3, 2, 1, 1), (2, None, 0, 2, False, True)],
    "AvgPool": [(2,), (3, 2, 1, True, False)],
    "LPPool": [(2, 2), (3, 2, 1, True)],
    "AdaptiveAvgPool": [(3,), (1,)],
    "AdaptiveMaxPool": [(3,), (2, True)],
    "ConstantPad": [(1, 2.5)],
    "ZeroPad": [(1,)],
    "ReflectionPad": [(1,)],
    "ReplicationPad": [(2,)],
    "CircularPad": [(1,)],
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dims", DIMS)
def test_layers(name, dims):
    x = np.abs(random(*SHAPES[dims][0])) + 0.1
    for given in LAYERS[name]:
        ours, theirs = (getattr(side.nn, f"{name}{dims}d")(*given) for side in (tg, torch))
        assert repr(ours) == repr(theirs)
        assert list(ours.state_dict()) == []
        compare(lambda s, x, ours=ours, theirs=theirs: (ours if s is OURS else theirs)(x), x, rtol=1e-10)


@pytest.mark.parametrize("name", ["ConstantPad2d", "ZeroPad2d", "ReflectionPad2d", "ReplicationPad2d", "CircularPad2d"])
def test_padding_of_each_side(name):
    value = (7.0,) if name == "ConstantPad2d" else ()
    ours, theirs = (getattr(side.nn, name)((1, 0, 2, 1), *value) for side in (tg, torch))
    assert repr(ours) == repr(theirs)
    compare(lambda s, x: (ours if s is OURS else theirs)(x), random(2, 3, 4, 5))


@pytest.mark.parametrize("dims", DIMS)
def test_pooling_with_indices_and_back(dims):
    def both(s, x):
        nn = tg.nn if s is OURS else torch.nn
        down = getattr(nn, f"MaxPool{dims}d")(2, stride=2, return_indices=True)
        up = getattr(nn, f"MaxUnpool{dims}d")(2, stride=2)
        pooled, indices = down(x)
        return [pooled, up(pooled, indices, output_size=x.shape)]

    compare(both, random(*SHAPES[dims][0]))
    assert repr(getattr(tg.nn, f"MaxUnpool{dims}d")(2, 3)) == repr(getattr(torch.nn, f"MaxUnpool{dims}d")(2, 3))
