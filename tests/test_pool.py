"""Pooling and padding layers: values from formulas, and messages."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, AxisError, DtypeError, ShapeError
from tinygrad_ja.nn import functional as F
from tinygrad_ja.ops.window import Window, reaches, windows_of
from tinygrad_ja.testing import strict


def numbers(*shape):
    return np.random.default_rng(0).permutation(math.prod(shape)).reshape(shape).astype(np.float64)


# ---- windows


@pytest.mark.parametrize(
    "window",
    [Window(3, 2, 2), Window(4, 3, 2, 1, 1), Window(2, 3, 1, 2), Window(5, 1, 2, 1, 0), Window(3, 3, 3, 2, 1), Window(1, 9)],
)
@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_each_tap_of_each_window_is_reached_once(window, size):
    wanted = {
        (k, o, o * window.stride + k * window.dilation - window.padding)
        for o in range(window.count)
        for k in range(window.taps)
        if 0 <= o * window.stride + k * window.dilation - window.padding < size
    }
    found = []
    for k, (_, windows), (_, elements) in reaches((window,), (size,)):
        pairs = zip(range(window.count)[windows], range(size)[elements], strict=True)
        found += [(k, o, element) for o, element in pairs]
    assert len(found) == len(set(found))
    assert set(found) == wanted


def test_a_last_window_over_the_edge_has_to_start_before_it():
    assert windows_of("f", (5,), 2, 2, 0, 1, False)[0].count == 2
    assert windows_of("f", (5,), 2, 2, 0, 1, True)[0].count == 3
    assert windows_of("f", (4,), 1, 3, 0, 1, True)[0].count == 2
    assert windows_of("f", (4,), 2, 5, 1, 1, True)[0].count == 1  # a second one would start in the padding


# ---- the largest element


def test_max_pool_by_hand():
    x = tg.tensor([[[[1.0, 2.0, 5.0, 0.0], [3.0, 4.0, 1.0, 7.0]]]]).requires_grad_()
    y, where = F.max_pool2d(x, 2, return_indices=True)
    assert y.tolist() == [[[[4.0, 7.0]]]]
    assert where.tolist() == [[[[5, 7]]]]
    (y * tg.tensor([10.0, 20.0])).sum().backward()
    assert x.grad.tolist() == [[[[0.0, 0.0, 0.0, 0.0], [0.0, 10.0, 0.0, 20.0]]]]


@pytest.mark.parametrize("kernel", [2, (3, 2), 5, (1, 7)])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_indices_name_the_values(kernel, stride):
    x = numbers(2, 3, 9, 8)
    y, where = F.max_pool2d(x, kernel, stride, 0, 1, True, True)
    assert np.array_equal(np.take_along_axis(x.reshape(2, 3, -1), where.reshape(2, 3, -1), 2).reshape(y.shape), y)


def test_an_infinite_gradient_stays_at_its_element():
    x = tg.tensor([[1.0, 2.0, 4.0, 3.0]]).requires_grad_()
    F.max_pool1d(x, 2).backward(tg.tensor([[math.inf, 1.0]]))
    assert x.grad.tolist() == [[0.0, math.inf, 1.0, 0.0]]


def test_the_memory_for_the_derivative_is_a_byte_for_each_window():
    x = tg.randn(1, 1, 8, 8).requires_grad_()
    saved = [value for value in F.max_pool2d(x, 2).node.parents[0].saved if isinstance(value, np.ndarray)]
    assert [(value.dtype, value.shape) for value in saved] == [(np.uint8, (1, 1, 4, 4))]


def test_arrays_and_tensors_give_the_same():
    x = numbers(1, 2, 6, 6)
    assert type(F.max_pool2d(x, 2)) is np.ndarray
    for f in (
        lambda x: F.max_pool2d(x, 2, return_indices=True)[1],
        lambda x: F.avg_pool2d(x, 3),
        lambda x: F.adaptive_max_pool2d(x, 4),
    ):
        assert np.array_equal(f(x), f(tg.from_numpy(x)).numpy())


def test_large_pictures_are_pooled_in_threads():
    x = numbers(8, 16, 40, 40).astype(np.float32)
    before = tg.get_num_threads()
    results = []
    for count in (1, 3):
        tg.set_num_threads(count)
        t = tg.from_numpy(x).requires_grad_()
        y = F.max_pool2d(t, 2) + F.avg_pool2d(t, 2)
        (y * y).sum().backward()
        results.append((y.detach().numpy(), t.grad.numpy()))
    tg.set_num_threads(before)
    for one, other in zip(*results):
        np.testing.assert_array_equal(one, other)


# ---- means and norms


def test_padding_counts_or_not():
    x = tg.tensor([[2.0, 4.0]])
    assert F.avg_pool1d(x, 3, 1, 1).tolist() == [[2.0, 2.0]]
    assert F.avg_pool1d(x, 3, 1, 1, count_include_pad=False).tolist() == [[3.0, 3.0]]


def test_the_norm_of_a_window():
    x = tg.tensor([[3.0, 4.0, 6.0, 8.0]])
    assert F.lp_pool1d(x, 2, 2).tolist() == [[5.0, 10.0]]
    assert F.lp_pool1d(x, 1, 4).tolist() == [[21.0]]


@pytest.mark.parametrize(("size", "count"), [(5, 3), (7, 4), (8, 3), (3, 5), (6, 6), (10, 1)])
def test_adaptive_windows_go_from_floor_to_ceil(size, count):
    x = numbers(2, size)
    edges = [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
    means = np.stack([x[:, low:high].mean(1) for low, high in edges], 1)
    np.testing.assert_allclose(F.adaptive_avg_pool1d(x, count), means)
    values, where = F.adaptive_max_pool1d(x, count, True)
    np.testing.assert_array_equal(values, np.stack([x[:, low:high].max(1) for low, high in edges], 1))
    np.testing.assert_array_equal(where, np.stack([x[:, low:high].argmax(1) + low for low, high in edges], 1))


def test_one_window_is_the_mean_of_all():
    x = numbers(2, 3, 4, 5)
    np.testing.assert_allclose(F.adaptive_avg_pool2d(x, 1)[..., 0, 0], x.mean((2, 3)))


def test_pooling_by_strides_is_a_convolution_with_equal_weights():
    x = numbers(1, 1, 6, 7)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 2), (2, 3))[:, :, ::2, ::1]
    np.testing.assert_allclose(F.avg_pool2d(x, (3, 2), (2, 1)), windows.mean((-1, -2)))
    np.testing.assert_allclose(F.max_pool2d(x, (3, 2), (2, 1)), windows.max((-1, -2)))


def test_unpooling_is_the_right_inverse_of_pooling():
    x = tg.from_numpy(numbers(2, 3, 6, 6))
    pooled, where = F.max_pool2d(x, 2, return_indices=True)
    spread = F.max_unpool2d(pooled, where, 2)
    assert np.array_equal(F.max_pool2d(spread, 2).numpy(), pooled.numpy())
    assert (spread.numpy() != 0).sum() <= pooled.numpy().size


# ---- on a GPU


@pytest.mark.parametrize(
    "f",
    [
        lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True),
        lambda x: F.max_pool2d(x, 5, return_indices=True),
        lambda x: F.max_pool2d(x, (1, 20), return_indices=True),
        lambda x: F.avg_pool2d(x, 3, 2, 1),
        lambda x: F.adaptive_avg_pool2d(x, 3),
        lambda x: F.adaptive_max_pool2d(x, 3, True),
        lambda x: F.lp_pool2d(x, 2, 2),
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
    ],
)
def test_pooling_keeps_to_what_cupy_has_and_does_not_wait(f):
    x = np.abs(numbers(2, 2, 6, 20)) + 1
    here = f(tg.tensor(x))
    there = tg.tensor(x, device="strict")
    with strict.watch() as events:
        made = f(there)
    assert not events
    for a, b in zip(here if type(here) is tuple else [here], made if type(made) is tuple else [made]):
        np.testing.assert_allclose(strict.peek(b.array), a.numpy(), rtol=1e-12)


# ---- messages

PICTURE = tg.zeros(2, 3, 8, 8)


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: F.max_pool2d(PICTURE, 0), ArgumentError, "kernel_size = 0"),
        (lambda: F.max_pool2d(PICTURE, 2.0), ArgumentError, "kernel_size = 2.0"),
        (lambda: F.max_pool2d(PICTURE, (2, 2, 2)), ArgumentError, "an int, or 2 of them, each >= 1"),
        (lambda: F.max_pool2d(PICTURE, 2, 0), ArgumentError, "stride = 0"),
        (lambda: F.max_pool2d(PICTURE, 2, padding=-1), ArgumentError, "padding = -1"),
        (lambda: F.max_pool2d(PICTURE, 2, padding=2), ArgumentError, "at most half of kernel_size"),
        (lambda: F.max_pool2d(PICTURE, 2, dilation=0), ArgumentError, "dilation = 0"),
        (lambda: F.max_pool2d(PICTURE, 9), ArgumentError, "a window of 9 fits into an axis of 8"),
        (lambda: F.max_pool2d(tg.zeros(8, 8), 2), ShapeError, "(N, C, H, W) or (C, H, W)"),
        (lambda: F.max_pool2d(tg.zeros(2, 3, 0, 8), 1), ShapeError, "(2, 3, 0, 8)"),
        (lambda: F.max_pool1d(PICTURE, 2), ShapeError, "(N, C, L) or (C, L)"),
        (lambda: F.max_pool2d(PICTURE > 0, 2), DtypeError, "bool"),
        (lambda: F.avg_pool2d(PICTURE, 2, divisor_override=0), ArgumentError, "divisor_override = 0"),
        (lambda: F.avg_pool2d(tg.zeros(1, 2, 2, dtype=tg.int32), 2), DtypeError, "float or int64"),
        (lambda: F.lp_pool2d(PICTURE, 0, 2), ArgumentError, "norm_type = 0"),
        (lambda: F.adaptive_avg_pool2d(PICTURE, -1), ArgumentError, "output_size = -1"),
        (lambda: F.adaptive_avg_pool2d(PICTURE, (3,)), ArgumentError, "or 2 of them"),
        (lambda: F.adaptive_avg_pool2d(PICTURE.long(), 3), DtypeError, "int64"),
        (lambda: F.adaptive_max_pool2d(PICTURE > 0, 3), DtypeError, "bool"),
        (lambda: F.adaptive_max_pool2d(PICTURE, "2"), ArgumentError, "output_size"),
        (lambda: F.max_unpool1d(tg.zeros(1, 2), tg.tensor([[0, 1]]), 2, output_size=(6,)), ArgumentError, "from (3,) to (5,)"),
        (lambda: F.max_unpool1d(tg.zeros(1, 2), tg.tensor([[0, 9]]), 2), AxisError, "index 9"),
        (lambda: F.max_unpool1d(tg.zeros(1, 2), tg.tensor([[-1, 0]]), 2), AxisError, "index -1"),
        (lambda: F.max_unpool1d(tg.zeros(1, 2), tg.tensor([[0]]), 2), ShapeError, "indices (1, 1)"),
        (lambda: F.max_unpool1d(tg.zeros(1, 2), tg.zeros(1, 2), 2), DtypeError, "int64"),
        (lambda: tg.nn.ReflectionPad2d((1, 2)), ArgumentError, "an int or 4 of them"),
        (lambda: tg.nn.CircularPad1d(1)(PICTURE), ShapeError, "(N, C, L) or (C, L)"),
        (lambda: tg.nn.ReflectionPad2d(8)(PICTURE), ArgumentError, "at most 7"),
        (lambda: F.pad(PICTURE, (-6, 3), "circular"), ArgumentError, "at most 2"),
    ],
)
def test_messages(call, kind, text):
    with pytest.raises(kind) as found:
        call()
    assert text in str(found.value)
