"""Convolutions, sliding windows, their layers and lazy layers beside PyTorch."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from parity.beside_torch import OURS, THEIRS, compare, dtype_of, random

import tinygrad_ja as tg

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
SHAPES = {1: (9,), 2: (7, 8), 3: (5, 6, 6)}
KERNELS = {1: (3,), 2: (3, 2), 3: (2, 3, 1)}
SETTINGS = [
    {},
    {"stride": 2},
    {"padding": 1},
    {"dilation": 2},
    {"groups": 2},
    {"stride": 2, "padding": 1, "dilation": 2, "groups": 2},
    {"stride": 3, "padding": 2},
]
RANKS = [1, 2, 3]


# ---- values, gradients, gradients of gradients -------------------------------------------------------


@pytest.mark.parametrize("settings", [*SETTINGS, {"padding": "same", "dilation": 2}, {"padding": "valid"}], ids=str)
@pytest.mark.parametrize("rank", RANKS)
def test_convolution(rank, settings):
    groups = settings.get("groups", 1)
    arrays = random(2, 4, *SHAPES[rank]), random(6, 4 // groups, *KERNELS[rank], seed=1), random(6, seed=2)
    compare(lambda s, x, w, b: getattr(s.F, f"conv{rank}d")(x, w, b, **settings), *arrays, **CLOSE)
    compare(lambda s, x, w: getattr(s.F, f"conv{rank}d")(x[0], w, **settings), *arrays[:2], **CLOSE)


@pytest.mark.parametrize(
    "settings",
    [*SETTINGS, {"stride": 3, "output_padding": 2}, {"dilation": 3, "output_padding": 1}, {"padding": 2, "stride": 2}],
    ids=str,
)
@pytest.mark.parametrize("rank", RANKS)
def test_transposed_convolution(rank, settings):
    groups = settings.get("groups", 1)
    arrays = random(2, 4, *SHAPES[rank]), random(4, 6 // groups, *KERNELS[rank], seed=1), random(6, seed=2)
    compare(lambda s, x, w, b: getattr(s.F, f"conv_transpose{rank}d")(x, w, b, **settings), *arrays, **CLOSE)
    compare(lambda s, x, w: getattr(s.F, f"conv_transpose{rank}d")(x[0], w, **settings), *arrays[:2], **CLOSE)


@pytest.mark.parametrize("settings", [{"stride": (2, 1)}, {"padding": (0, 2)}, {"dilation": (1, 2)}, {"stride": (2,)}], ids=str)
def test_settings_of_each_axis(settings):
    arrays = random(2, 4, 7, 8), random(4, 4, 3, 2, seed=1)
    compare(lambda s, x, w: s.F.conv2d(x, w, **settings), *arrays, **CLOSE)
    compare(lambda s, x, w: s.F.conv_transpose2d(x, w, **settings), *arrays, **CLOSE)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_each_channel_alone(multiplier):
    arrays = random(3, 4, 6, 5), random(4 * multiplier, 1, 3, 3, seed=1)
    compare(lambda s, x, w: s.F.conv2d(x, w, padding=1, groups=4), *arrays, **CLOSE)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("settings", [{}, {"stride": 2, "padding": 1, "groups": 2}, {"dilation": 2}], ids=str)
def test_gradients_of_gradients(transposed, settings):
    groups = settings.get("groups", 1)
    x, w, b = random(2, 4, 5, 6), random(4, 4 // groups, 2, 3, seed=1), random(4, seed=2)
    name = "conv_transpose2d" if transposed else "conv2d"
    found = []
    for s, grad in ((OURS, tg.grad), (THEIRS, torch.autograd.grad)):
        leaves = [s.tensor(a).requires_grad_() for a in (x, w, b)]
        y = getattr(s.F, name)(*leaves, **settings)
        first = grad((y * y * y).sum(), leaves, create_graph=True)
        second = grad(sum((g * g).sum() for g in first), leaves)
        found.append([g.detach().numpy() for g in (*first, *second)])
    for ours, theirs in zip(*found):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_empty_batch():
    compare(lambda s, x, w, b: s.F.conv2d(x, w, b, padding=1), random(0, 3, 5, 5), random(2, 3, 2, 2), random(2), **CLOSE)
    compare(lambda s, x, w: s.F.conv_transpose2d(x, w), random(0, 3, 2, 2), random(3, 2, 2, 2), **CLOSE)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_dtypes(dtype):
    tolerance = {np.float16: 2e-3, np.float32: 1e-5}.get(dtype, 1e-12)
    x, w = random(2, 8, 6, 6) * 2, random(4, 8, 3, 3, seed=1) * 2
    compare(lambda s, x, w: s.F.conv2d(x, w, padding=1), x.astype(dtype), w.astype(dtype), rtol=tolerance, atol=tolerance * 30)
    if dtype is not np.int64:
        w = w.swapaxes(0, 1)
        compare(
            lambda s, x, w: s.F.conv_transpose2d(x, w, stride=2),
            *(x.astype(dtype), w.astype(dtype)),
            rtol=tolerance,
            atol=tolerance * 30,
        )


@pytest.mark.parametrize(
    "name, shapes, settings",
    [
        ("conv2d", ((17, 16, 14, 14), (32, 16, 5, 5)), {}),
        ("conv2d", ((9, 24, 16, 16), (16, 24, 3, 3)), {"padding": 1}),
        ("conv2d", ((9, 24, 15, 13), (16, 24, 4, 4)), {"padding": 1, "stride": 2}),
        ("conv2d", ((5, 32, 16, 16), (32, 16, 3, 3)), {"padding": 2, "dilation": 2, "groups": 2}),
        ("conv_transpose2d", ((9, 64, 8, 8), (64, 32, 4, 4)), {"padding": 1, "stride": 2}),
        ("conv3d", ((3, 16, 6, 7, 8), (16, 16, 3, 3, 3)), {"padding": 1}),
        ("conv2d", ((9, 32, 16, 16), (32, 1, 3, 3)), {"padding": 1, "groups": 32}),
        ("conv2d", ((9, 32, 16, 16), (48, 32, 1, 1)), {}),
        ("conv1d", ((4, 16, 2000), (32, 16, 2)), {"dilation": 8}),
    ],
    ids=str,
)
def test_layers_of_ordinary_size_in_single_precision(name, shapes, settings):
    x, w = (random(*shape, dtype=np.float32) for shape in shapes)
    bias = random(w.shape[1] if "transpose" in name else w.shape[0], dtype=np.float32)
    compare(lambda s, x, w, b: getattr(s.F, name)(x, w, b, **settings) * 1e-2, x, w, bias, rtol=1e-4, atol=2e-4)


# ---- sliding windows ---------------------------------------------------------------------------------

WINDOWS = [
    {},
    {"dilation": 2},
    {"padding": 1, "stride": 2},
    {"padding": (1, 0), "stride": (1, 3), "dilation": (2, 1)},
    {"stride": 3},
]


@pytest.mark.parametrize("settings", WINDOWS, ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 6, 7), (3, 6, 7), (0, 3, 6, 7)], ids=str)
def test_unfold_and_fold(shape, settings):
    x = random(*shape)
    compare(lambda s, x: s.F.unfold(x, (2, 3), **settings), x, **CLOSE)
    columns = tg.nn.functional.unfold(x, (2, 3), **settings)
    compare(lambda s, x: s.F.fold(x, (6, 7), (2, 3), **settings), columns, **CLOSE)


def test_unfold_of_other_dtypes():
    x = random(2, 3, 5, 5)
    for dtype in (np.float16, np.float32, bool):
        half = 4e-3 if dtype is np.float16 else 1e-6  # we sum the gradient in single precision
        compare(lambda s, x: s.F.unfold(x, 2), x.astype(dtype), rtol=half, atol=half)
    compare(lambda s, x: s.F.fold(x, 4, 2), random(2, 12, 9, dtype=np.float16), rtol=4e-3, atol=4e-3)


# ---- layers ------------------------------------------------------------------------------------------


def both(name, *args, **kwargs):
    """The layer of both sides with the same parameters, in double precision."""
    theirs = getattr(torch.nn, name)(*args, **kwargs).double()
    ours = getattr(tg.nn, name)(*args, **kwargs).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    return ours, theirs


def same_results(ours, theirs, x, *args):
    """Equal values and equal gradients of the input and of all parameters."""
    a, b = tg.tensor(x).requires_grad_(), torch.tensor(x, requires_grad=True)
    y, z = ours(a, *args), theirs(b, *args)
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), **CLOSE)
    (y * y).sum().backward()
    (z * z).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), **CLOSE)
    for p, q in zip(ours.parameters(), theirs.parameters()):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), **CLOSE)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bias": False, "stride": 2},
        {"padding": 1, "dilation": 2, "groups": 2},
        *({"padding": 2, "padding_mode": mode} for mode in ("reflect", "replicate", "circular")),
        {"padding": "same", "padding_mode": "circular", "dilation": 2},
        {"padding": "valid", "padding_mode": "reflect"},
    ],
    ids=str,
)
@pytest.mark.parametrize("rank", RANKS)
def test_convolution_layers(rank, settings):
    ours, theirs = both(f"Conv{rank}d", 4, 6, 3, **settings)
    assert repr(ours) == repr(theirs)
    same_results(ours, theirs, random(2, 4, *[6, 7, 5][:rank]))
    same_results(*both(f"Conv{rank}d", 4, 6, 3, **settings), random(4, *[6, 7, 5][:rank]))


@pytest.mark.parametrize(
    "settings", [{}, {"stride": 2, "output_padding": 1, "padding": 1}, {"bias": False, "groups": 2, "dilation": 2}], ids=str
)
@pytest.mark.parametrize("rank", RANKS)
def test_transposed_layers(rank, settings):
    ours, theirs = both(f"ConvTranspose{rank}d", 4, 6, 3, **settings)
    assert repr(ours) == repr(theirs)
    same_results(ours, theirs, random(2, 4, *[4, 3, 5][:rank]))


@pytest.mark.parametrize("size", [[11, 10], [12, 9], (2, 6, 12, 10)], ids=str)
def test_output_size_of_a_transposed_layer(size):
    same_results(*both("ConvTranspose2d", 4, 6, 3, stride=2, padding=(0, 1)), random(2, 4, 5, 5), size)
    with pytest.raises(ValueError):
        tg.nn.ConvTranspose2d(4, 6, 3, stride=2)(tg.zeros(2, 4, 5, 5), [13, 11])


@pytest.mark.parametrize("name", ["Conv1d", "Conv2d", "ConvTranspose2d", "LazyConv2d", "LazyLinear"])
def test_parameters_start_in_the_same_range(name):
    args = {"LazyLinear": (5,), "LazyConv2d": (5, 3)}.get(name, (8, 5, 3))
    x = random(1, 8, 9, 9, dtype=np.float32) if "2d" in name else random(1, 8, 8, dtype=np.float32)
    ours, theirs = getattr(tg.nn, name)(*args), getattr(torch.nn, name)(*args)
    ours(tg.tensor(x)), theirs(torch.tensor(x))
    for p, q in zip(ours.parameters(), theirs.parameters()):
        assert tuple(p.shape) == tuple(q.shape) and dtype_of(p) == dtype_of(q)
        largest = float(np.abs(q.detach().numpy()).max())
        assert 0.5 * largest < np.abs(p.detach().numpy()).max() < 2 * largest


@pytest.mark.parametrize("settings", WINDOWS, ids=str)
def test_window_layers(settings):
    ours, theirs = tg.nn.Unfold((2, 3), **settings), torch.nn.Unfold((2, 3), **settings)
    assert repr(ours) == repr(theirs)
    same_results(ours, theirs, random(2, 3, 6, 7))
    columns = ours(tg.tensor(random(2, 3, 6, 7))).numpy()
    ours, theirs = tg.nn.Fold((6, 7), (2, 3), **settings), torch.nn.Fold((6, 7), (2, 3), **settings)
    assert repr(ours) == repr(theirs)
    same_results(ours, theirs, columns)


# ---- lazy layers -------------------------------------------------------------------------------------

LAZY = [
    ("LazyLinear", (3,), (2, 4)),
    ("LazyConv1d", (4, 3), (2, 6, 9)),
    ("LazyConv2d", (4, 3, 2, 1), (2, 6, 9, 8)),
    ("LazyConv3d", (4, 2), (6, 4, 3, 3)),
    ("LazyConvTranspose1d", (4, 3, 2), (2, 6, 9)),
    ("LazyConvTranspose2d", (4, 3), (2, 6, 3, 4)),
    ("LazyConvTranspose3d", (4, 2), (2, 6, 3, 3, 3)),
]


@pytest.mark.parametrize("name, args, shape", LAZY, ids=lambda v: str(v))
@pytest.mark.parametrize("bias", [True, False])
def test_lazy_layers_become_ordinary_ones(name, args, shape, bias):
    ours, theirs = getattr(tg.nn, name)(*args, bias=bias), getattr(torch.nn, name)(*args, bias=bias)
    assert repr(ours) == repr(theirs)
    assert repr(ours.weight) == repr(theirs.weight) == "<UninitializedParameter>"
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours, theirs = ours.double(), theirs.double()
    y, z = ours(tg.tensor(random(*shape))), theirs(torch.tensor(random(*shape)))
    assert tuple(y.shape) == tuple(z.shape) and dtype_of(y) == dtype_of(z)
    assert repr(ours) == repr(theirs) and type(ours) is getattr(tg.nn, name.removeprefix("Lazy"))
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    same_results(ours, theirs, random(*shape))


@pytest.mark.parametrize("name, args, shape", LAZY[:3], ids=lambda v: str(v))
def test_state_of_an_ordinary_layer_in_a_lazy_one(name, args, shape):
    results = []
    for nn, tensor in ((tg.nn, tg.tensor), (torch.nn, torch.tensor)):
        full, lazy = getattr(nn, name)(*args), getattr(nn, name)(*args)
        x = tensor(random(*shape, dtype=np.float32))
        y = full(x)
        assert str(lazy.load_state_dict(full.state_dict())) == "<All keys matched successfully>"
        assert type(lazy).__name__ == name  # until its first input
        same = bool(np.array_equal(copy.deepcopy(lazy)(x).detach().numpy(), y.detach().numpy()))
        with pytest.raises(RuntimeError):
            full.load_state_dict(getattr(nn, name)(*args).state_dict())
        results.append((same, type(full).__name__))
    assert results[0] == results[1] == (True, name.removeprefix("Lazy"))
