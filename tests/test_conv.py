"""What convolutions promise: values by formula, causality, transposition, messages, the fast ways on the CPU, lazy layers."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Iterator

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, DtypeError, ShapeError, StateError, UsageError
from tinygrad_ja.kernels import machine_code, numpy_conv, numpy_rows, numpy_winograd
from tinygrad_ja.nn import functional as F
from tinygrad_ja.ops import conv


def normal(*shape: int, seed: int = 0, dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def by_formula(x, w, size, stride, before, dilation, groups):
    """y[n, o, p] = Σ x[n, c, p·stride + k·dilation - before] w[o, c, k], one term after the other."""
    y = np.zeros((x.shape[0], w.shape[0], *size))
    outputs, channels = w.shape[0] // groups, w.shape[1]
    for o, c, k in itertools.product(range(w.shape[0]), range(channels), np.ndindex(*w.shape[2:])):
        for p in np.ndindex(*size):
            q = tuple(a * s + b * d - m for a, s, b, d, m in zip(p, stride, k, dilation, before))
            if all(0 <= i < n for i, n in zip(q, x.shape[2:])):
                y[(slice(None), o, *p)] += x[(slice(None), o // outputs * channels + c, *q)] * w[(o, c, *k)]
    return y


def random_geometry(rng, rank):
    def each(low, high):
        return tuple(int(n) for n in rng.integers(low, high, rank, endpoint=True))

    return each(1, 8 if rank < 3 else 4), each(1, 5 if rank < 3 else 2), each(1, 6), (each(1, 3), each(0, 3), each(1, 3))


# ---- values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_convolution_is_its_formula(seed):
    rng = np.random.default_rng(seed)
    shape, kernel, size, geometry = random_geometry(rng, 1 + seed % 2)
    groups = 1 + seed % 3
    x, w = rng.normal(size=(3, 2 * groups, *shape)), rng.normal(size=(2 * groups, 2, *kernel))
    expected = by_formula(x, w, size, *geometry, groups)
    np.testing.assert_allclose(conv._convolution(x, w, None, size, *geometry, groups), expected, atol=1e-12)


@pytest.mark.parametrize("scattering", [True, False])
@pytest.mark.parametrize("seed", range(15))
def test_the_three_operators_are_one_trilinear_form(seed, scattering, monkeypatch):
    monkeypatch.setattr(numpy_conv, "_scattering_pays", lambda *args: scattering)
    rng = np.random.default_rng(seed)
    shape, kernel, size, geometry = random_geometry(rng, 1 + seed % 3)
    groups, batch = 1 + seed % 2, int(rng.integers(1, 20))
    x, w = rng.normal(size=(batch, 2 * groups, *shape)), rng.normal(size=(3 * groups, 2, *kernel))
    g = rng.normal(size=(batch, 3 * groups, *size))
    totals = [
        np.sum(g * conv._convolution(x, w, None, size, *geometry, groups)),
        np.sum(x * conv._conv_transpose(g, w, None, shape, *geometry, groups)),
        np.sum(w * conv._conv_weight(x, g, kernel, *geometry, groups)),
    ]
    np.testing.assert_allclose(totals, totals[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernel", [(4,), (3, 2), (2, 1, 3), (1, 1)])
def test_a_kernel_as_large_as_the_image_is_a_matrix(kernel, groups, dtype, monkeypatch):
    rng = np.random.default_rng(0)
    x, w, b = [
        rng.normal(size=size).astype(dtype) for size in ((5, 2 * groups, *kernel), (3 * groups, 2, *kernel), (3 * groups,))
    ]
    one, none = (1,) * len(kernel), (0,) * len(kernel)
    g = rng.normal(size=(5, 3 * groups, *one)).astype(dtype)
    c = rng.normal(size=2 * groups).astype(dtype)

    def run():
        return (
            conv._convolution(x, w, b, one, one, none, one, groups),
            conv._conv_transpose(g, w, c, kernel, (2,) * len(kernel), none, one, groups),
            conv._conv_weight(x, g, kernel, one, none, one, groups),
        )

    asked, is_one_place = [], numpy_conv.one_place.is_one_place
    monkeypatch.setattr(numpy_conv.one_place, "is_one_place", lambda *args: asked.append(is_one_place(*args)) or asked[-1])
    made = run()
    assert asked == [True] * 3
    monkeypatch.setattr(numpy_conv.one_place, "is_one_place", lambda *args: False)
    for one_product, usual in zip(made, run(), strict=True):
        assert one_product.dtype == dtype and one_product.flags.c_contiguous
        np.testing.assert_allclose(one_product, usual, rtol=1e-2 if dtype == np.float16 else 1e-12, atol=1e-12)


def test_convolution_with_a_single_one_moves_the_input():
    x, w = normal(2, 1, 6), np.zeros((1, 1, 3))
    w[0, 0, 2] = 1
    np.testing.assert_array_equal(F.conv1d(x, w), x[:, :, 2:])
    np.testing.assert_array_equal(F.conv_transpose1d(x, w, padding=2), np.pad(x, ((0, 0), (0, 0), (0, 0)))[:, :, :4])


@pytest.mark.parametrize("dilation", [1, 2, 5])
@pytest.mark.parametrize("stride", [1, 3])
def test_a_causal_output_depends_on_no_later_input(dilation, stride):
    x, w = tg.tensor(normal(1, 2, 17)).requires_grad_(), tg.tensor(normal(3, 2, 3))
    y = F.causal_conv1d(x, w, dilation=dilation, stride=stride)
    assert y.shape == (1, 3, -(-17 // stride))
    for t in range(y.shape[2]):
        (g,) = tg.grad(y[:, :, t].sum(), x, retain_graph=True)
        seen = np.flatnonzero(np.abs(g.numpy()).sum((0, 1)))
        assert set(seen) == {t * stride - k * dilation for k in range(3) if t * stride >= k * dilation}


def test_causal_convolution_is_convolution_after_zeros():
    x, w, b = normal(2, 4, 9), normal(6, 2, 3), normal(6)
    padded = np.pad(x, ((0, 0), (0, 0), (4, 0)))
    expected = F.conv1d(padded, w, b, dilation=2, groups=2)
    np.testing.assert_allclose(F.causal_conv1d(x, w, b, 2, 2), expected, atol=1e-12)
    np.testing.assert_allclose(F.causal_conv1d(x[0], w, b, 2, 2), expected[0], atol=1e-12)


def test_half_precision_is_summed_in_single():
    x, w = np.full((1, 4096, 1, 1), 1.0, np.float16), np.full((1, 4096, 1, 1), 1 / 4096, np.float16)
    assert F.conv2d(x, w).item() == 1  # in half precision the sum would stop growing
    assert F.conv_transpose2d(x, w.swapaxes(0, 1).reshape(4096, 1, 1, 1)).item() == 1
    assert F.fold(np.full((1, 4096, 1), 0.5, np.float16), (1, 1), (1, 1)).dtype == np.float16


def test_autocast_convolves_in_the_lower_precision():
    with tg.autocast("cpu", dtype=tg.float16):
        assert F.conv1d(tg.ones(1, 1, 4), tg.ones(1, 1, 2)).dtype == tg.float16


def test_folding_windows_counts_them():
    counted = F.fold(F.unfold(np.ones((1, 2, 4, 5)), 3, padding=1), (4, 5), 3, padding=1)
    rows, columns = np.array([2, 3, 3, 2]), np.array([2, 3, 3, 3, 2])
    np.testing.assert_array_equal(counted, np.broadcast_to(np.outer(rows, columns), (1, 2, 4, 5)))


# ---- the ways on the CPU -----------------------------------------------------------------------------


@pytest.mark.parametrize("scattering", [True, False])
@pytest.mark.parametrize("room, thin", [(1, 0), (2000, 100), (130_000, 8)])
@pytest.mark.parametrize("seed", range(6))
def test_images_by_rows_give_the_same(seed, room, thin, scattering, monkeypatch):
    used: list[bool] = []
    plan = numpy_rows.plan.__wrapped__  # not the cached one

    def counting(*args):
        made = plan(*args)
        used.append(made is not None)
        return made

    for name, value in (("FEWEST", 1), ("ROOM", room), ("THIN", thin), ("WEIGHTS", 10**9), ("plan", counting)):
        monkeypatch.setattr(numpy_rows, name, value)
    monkeypatch.setattr(numpy_conv, "_scattering_pays", lambda *args: scattering)
    rng = np.random.default_rng(seed)
    shape, kernel, size, geometry = random_geometry(rng, 2)
    x, w, b = rng.normal(size=(7, 3, *shape)), rng.normal(size=(5, 3, *kernel)), rng.normal(size=5)
    y = conv._convolution(x, w, b, size, *geometry, 1)
    np.testing.assert_allclose(y, by_formula(x, w, size, *geometry, 1) + b[:, None, None], atol=1e-12)
    g, c = rng.normal(size=y.shape), rng.normal(size=3)
    back = conv._conv_transpose(g, w, c, shape, *geometry, 1) - c[:, None, None]
    of_weight = conv._conv_weight(x, g, kernel, *geometry, 1)
    forward = np.sum(g * (y - b[:, None, None]))
    np.testing.assert_allclose([np.sum(x * back), np.sum(w * of_weight)], forward, rtol=1e-9, atol=1e-9)
    assert used and (max(kernel) == 1 or all(used))


def test_images_by_rows_sum_half_precision_in_single():
    x, w = normal(2, 64, 8, 8, dtype=np.float16), normal(4, 64, 3, 3, seed=1, dtype=np.float16)
    g = normal(2, 4, 8, 8, seed=2, dtype=np.float16)
    geometry = ((1, 1), (1, 1), (1, 1))
    for operator, arguments in (
        (conv._convolution, (x, w, None, (8, 8))),
        (conv._conv_transpose, (g, w, None, (8, 8))),
        (conv._conv_weight, (x, g, (3, 3))),
    ):
        made = operator(*arguments, *geometry, 1)
        wide = operator(*[a.astype(np.float32) if isinstance(a, np.ndarray) else a for a in arguments], *geometry, 1)
        assert made.dtype == np.float16
        np.testing.assert_array_equal(made, wide.astype(np.float16))


@pytest.fixture
def fewer_multiplications_always(monkeypatch) -> Iterator[list[int]]:
    """Small cases go the way of large ones, too; a list of how often."""
    used: list[int] = []
    plan = numpy_winograd.plan.__wrapped__  # not the cached one

    def counting(*args):
        made = plan(*args)
        used.extend([] if made is None else [1])
        return made

    for name in ("CHANNELS", "OUTPUTS", "PRODUCTS"):
        monkeypatch.setattr(numpy_winograd, name, 0)
    monkeypatch.setattr(numpy_winograd, "SAVING", 9.0)
    monkeypatch.setattr(numpy_winograd, "plan", counting)
    monkeypatch.setattr(numpy_rows, "plan", lambda *args: None)
    yield used


def test_fewer_multiplications_give_the_same(fewer_multiplications_always):
    rng = np.random.default_rng(0)
    for case in range(60):
        shape, kernel, size, geometry = random_geometry(rng, 2 + case % 2)
        if case % 3:
            geometry = ((1,) * len(shape), geometry[1], (1,) * len(shape))
        groups, batch = 1 + case % 2, int(rng.integers(1, 20))
        x, w, g, b, c = (
            rng.normal(size=s).astype(np.float32)
            for s in (
                (batch, 2 * groups, *shape),
                (3 * groups, 2, *kernel),
                (batch, 3 * groups, *size),
                (3 * groups,),
                (2 * groups,),
            )
        )
        for operator, args in (
            (conv._convolution, (x, w, b, size, *geometry, groups)),
            (conv._conv_transpose, (g, w, c, shape, *geometry, groups)),
            (conv._conv_weight, (x, g, kernel, *geometry, groups)),
        ):
            wide = [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in args]
            expected = operator.operator.forward(np, *wide)
            made = operator(*args)
            assert made.dtype == np.float32
            np.testing.assert_allclose(made, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))
    assert len(fewer_multiplications_always) > 60


@pytest.mark.parametrize("tile, taps", [(2, 2), (3, 2), (4, 2), (2, 3), (3, 3), (4, 3), (2, 4), (3, 4), (2, 5)])
def test_products_at_points_are_a_convolution(tile, taps):
    a, k, b = numpy_winograd.matrices(tile, taps)
    rows, kernel = normal(tile + taps - 1), normal(taps, seed=1)
    np.testing.assert_allclose(a @ ((k @ kernel) * (b @ rows)), np.correlate(rows, kernel), atol=1e-12)


@pytest.mark.parametrize("kernel, padding", [(3, 1), (5, 0)])
def test_fewer_multiplications_round_about_as_little(kernel, padding, monkeypatch):
    x, w = normal(4, 64, 16, 16, dtype=np.float32), normal(64, 64, kernel, kernel, seed=1, dtype=np.float32)
    exact = F.conv2d(x.astype(np.float64), w.astype(np.float64), padding=padding)
    monkeypatch.setattr(machine_code, "load_machine_code", lambda: None)
    monkeypatch.setattr(numpy_rows, "plan", lambda *args: None)
    fewer = np.abs(F.conv2d(x, w, padding=padding) - exact).max()
    monkeypatch.setattr(numpy_winograd, "plan", lambda *args: None)
    direct = np.abs(F.conv2d(x, w, padding=padding) - exact).max()
    assert direct < fewer < 3 * direct  # another way, and rounded a little more


def test_what_is_not_finite_stays_where_the_kernel_reaches():
    x, w = normal(4, 64, 16, 16, dtype=np.float32), normal(64, 64, 3, 3, seed=1, dtype=np.float32)
    x[2, 5, 7, 8] = np.inf
    bad = ~np.isfinite(F.conv2d(x, w, padding=1)).all(1)
    assert set(zip(*np.nonzero(bad))) == {(2, i, j) for i in (6, 7, 8) for j in (7, 8, 9)}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("groups", [1, 16])
def test_threads_give_the_same_result_each_time(threads, groups):
    before = tg.get_num_threads()
    tg.set_num_threads(threads)
    try:
        x, w = normal(33, 16, 14, 14, dtype=np.float32), normal(32, 16 // groups, 5, 5, seed=1, dtype=np.float32)
        g = normal(33, 32, 10, 10, seed=2, dtype=np.float32)
        geometry = ((1, 1), (0, 0), (1, 1))
        made = [conv._conv_weight(x, g, (5, 5), *geometry, groups) for _ in range(3)]
        assert all(np.array_equal(made[0], again) for again in made)
        whole = F.conv2d(x, w, groups=groups)
        np.testing.assert_allclose(whole[7:9], F.conv2d(x[7:9].astype(np.float64), w, groups=groups), atol=1e-4)
    finally:
        tg.set_num_threads(before)


def test_inputs_of_any_memory_layout():
    x, w = normal(3, 4, 6, 7), normal(5, 4, 3, 3, seed=1)
    expected = F.conv2d(x, w)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(F.conv2d(last, np.asfortranarray(w)), expected, atol=1e-12)
    np.testing.assert_allclose(F.conv2d(x[:, :, ::-1], w), F.conv2d(x[:, :, ::-1].copy(), w), atol=1e-12)
    np.testing.assert_allclose(F.conv2d(np.broadcast_to(x[:1], x.shape), w)[2], expected[0], atol=1e-12)


# ---- what does not fit -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x, w, kwargs",
    [
        ((2, 3, 4, 4), (2, 3, 5, 5), {}),
        ((2, 3, 4, 4), (2, 4, 3, 3), {}),
        ((2, 3, 4, 4), (2, 3, 3), {}),
        ((3, 4), (2, 3, 3, 3), {}),
        ((2, 4, 4, 4), (3, 2, 3, 3), {"groups": 2}),
        ((2, 3, 4, 4), (2, 3, 0, 3), {}),
        ((2, 3, 4, 4), (2, 3, 3, 3), {"bias": tg.zeros(3)}),
    ],
)
def test_shapes_that_do_not_fit_are_named(x, w, kwargs):
    with pytest.raises(ShapeError, match="TG-S002") as caught:
        F.conv2d(tg.zeros(*x), tg.zeros(*w), **kwargs)
    assert str(x) in str(caught.value) and str(w) in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"stride": 0},
        {"stride": (1, 2, 3)},
        {"stride": 1.5},
        {"padding": -1},
        {"padding": "some"},
        {"dilation": 0},
        {"groups": 0},
        {"padding": "same", "stride": 2},
    ],
    ids=str,
)
def test_settings_that_are_not_allowed_are_named(settings):
    name = "stride" if "stride" in settings else next(iter(settings))
    with pytest.raises(ArgumentError, match=f"conv2d: {name} = "):
        F.conv2d(tg.zeros(2, 3, 4, 4), tg.zeros(2, 3, 3, 3), **settings)


def test_transposed_convolution_refuses_what_does_not_fit():
    x, w = tg.zeros(2, 3, 4, 4), tg.zeros(3, 2, 2, 2)
    with pytest.raises(ArgumentError, match="output_padding = "):
        F.conv_transpose2d(x, w, output_padding=1)
    with pytest.raises(ShapeError, match="less padding"):
        F.conv_transpose2d(x, w, padding=3)
    with pytest.raises(ShapeError, match="TG-S002"):
        F.conv_transpose2d(x, tg.zeros(2, 3, 2, 2))
    with pytest.raises(ShapeError, match="TG-S002"):
        F.conv_transpose2d(x, w, tg.zeros(3))


def test_dtypes_that_do_not_fit():
    with pytest.raises(DtypeError, match="TG-T001"):
        F.conv1d(tg.zeros(1, 1, 4), tg.zeros(1, 1, 2, dtype=tg.float64))
    with pytest.raises(DtypeError, match="TG-T004"):
        F.conv1d(tg.zeros(1, 1, 4, dtype=bool), tg.zeros(1, 1, 2, dtype=bool))


@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 4, 4, 4), (2, 0, 4, 4), (3, 4, 0)])
def test_unfold_takes_images(shape):
    with pytest.raises(ShapeError, match="unfold"):
        F.unfold(tg.zeros(*shape), 1)


@pytest.mark.parametrize("shape", [(2, 26, 4), (2, 27, 5), (27,), (2, 0, 4)])
def test_fold_takes_the_columns_of_its_windows(shape):
    with pytest.raises(ShapeError, match="fold"):
        F.fold(tg.zeros(*shape), 4, 3)
    with pytest.raises(ArgumentError, match="kernel_size = "):
        F.fold(tg.zeros(2, 27, 4), 4, (3, 3, 3))


@pytest.mark.parametrize(
    "layer, settings",
    [
        ("Conv2d", {"groups": 2}),
        ("Conv2d", {"groups": 0}),
        ("Conv2d", {"padding": "some"}),
        ("Conv2d", {"padding": "same", "stride": 2}),
        ("Conv2d", {"padding_mode": "mirror"}),
        ("ConvTranspose2d", {"padding_mode": "circular"}),
        ("ConvTranspose2d", {"padding": "same"}),
        ("LazyConv2d", {"padding": "some"}),
    ],
    ids=str,
)
def test_layers_check_their_settings(layer, settings):
    args = (4, 3) if layer.startswith("Lazy") else (3, 4, 3)
    with pytest.raises(ArgumentError, match=f"{layer}: "):
        getattr(tg.nn, layer)(*args, **settings)


def test_messages_are_japanese_too(monkeypatch):
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    with pytest.raises(ShapeError, match="チャネル数"):
        F.conv2d(tg.zeros(2, 3, 4, 4), tg.zeros(2, 4, 3, 3))


# ---- lazy layers -------------------------------------------------------------------------------------


def test_a_lazy_parameter_is_a_parameter_without_a_shape():
    layer = tg.nn.LazyLinear(2)
    weight = layer.weight
    assert isinstance(weight, tg.nn.Parameter) and isinstance(weight, tg.nn.UninitializedParameter) and weight.requires_grad
    assert layer.state_dict()["weight"] is weight
    for use in (lambda: weight.shape, lambda: weight.numel(), lambda: weight.sum(), lambda: tg.nn.init.zeros_(weight)):
        with pytest.raises(UsageError, match="TG-U015"):
            use()
    with pytest.raises(DtypeError, match="UninitializedParameter"):
        weight + 1
    with pytest.raises(UsageError, match="once with a batch"):
        tg.optim.SGD(layer.parameters(), lr=0.1)
    layer(tg.zeros(4, 3))
    assert layer.weight is weight and weight.shape == (2, 3) and not isinstance(weight, tg.nn.UninitializedParameter)


def test_dtype_of_a_lazy_layer_can_be_chosen_before_its_shape():
    layer = tg.nn.Sequential(tg.nn.LazyConv2d(4, 3), tg.nn.Flatten(), tg.nn.LazyLinear(2, dtype=tg.float16)).double()
    assert layer(tg.zeros(1, 3, 5, 5, dtype=tg.float64)).dtype == tg.float64
    assert repr(layer).count("Lazy") == 0 and layer[2].in_features == 36


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_of_a_lazy_layer_is_lazy(duplicate):
    layer = tg.nn.LazyConv1d(4, 3, groups=2)
    other = duplicate(layer)
    assert other(tg.zeros(2, 6, 5)).shape == (2, 4, 3)
    assert isinstance(layer.weight, tg.nn.UninitializedParameter)


def test_a_lazy_layer_checks_its_first_input():
    with pytest.raises(ShapeError, match="LazyConv1d"):
        tg.nn.LazyConv1d(4, 3)(tg.zeros(2, 3, 9, 3))
    with pytest.raises(ArgumentError, match="in_channels"):
        tg.nn.LazyConv1d(4, 3, groups=2)(tg.zeros(2, 3, 9))


def test_state_without_shapes_fits_lazy_layers_only():
    empty = tg.nn.LazyLinear(2).state_dict()
    assert str(tg.nn.LazyLinear(2).load_state_dict(empty)) == "<All keys matched successfully>"
    with pytest.raises(StateError, match="weight: a UninitializedParameter"):
        tg.nn.Linear(3, 2).load_state_dict(empty)


def test_a_lazy_layer_of_ones_own():
    class Scale(tg.nn.LazyModuleMixin, tg.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = tg.nn.UninitializedParameter()
            self.register_buffer("seen", tg.nn.UninitializedBuffer(dtype=tg.int64))

        def initialize_parameters(self, x):
            if self.has_uninitialized_params():
                self.scale.materialize(x.shape[1:])
                self.seen.materialize(())
                tg.nn.init.ones_(self.scale)
                tg.nn.init.zeros_(self.seen)

        def forward(self, x):
            self.seen += 1
            return self.scale * x

    layer = Scale()
    assert layer(tg.full((2, 3), 5.0)).tolist() == layer(tg.full((2, 3), 5.0)).tolist() == [[5.0] * 3] * 2
    assert type(layer) is Scale and layer.seen.item() == 2 and not layer.has_uninitialized_params()

    class Forgetful(Scale):
        def initialize_parameters(self, x):
            pass

    with pytest.raises(UsageError, match="forward"):
        Forgetful()(tg.ones(2, 3))
