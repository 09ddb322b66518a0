"""What normalization promises: means and variances, running statistics, messages, large arrays in threads."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, DtypeError, ShapeError
from tinygrad_ja.nn import functional as F


def normal(*shape: int, seed: int = 0, dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).normal(3.0, 2.0, shape).astype(dtype)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = tg.get_num_threads()
    tg.set_num_threads(2)
    yield
    tg.set_num_threads(before)


AXES = {
    "batch_norm": ((0, 2, 3), lambda x: F.batch_norm(x, None, None, training=True)),
    "instance_norm": ((2, 3), lambda x: F.instance_norm(x)),
    "group_norm": ((1, 2, 3), lambda x: F.group_norm(x, 1)),
    "layer_norm": ((3,), lambda x: F.layer_norm(x, 6)),
}


@pytest.mark.parametrize("name", AXES)
def test_the_result_has_mean_0_and_variance_1(name):
    axes, call = AXES[name]
    y = call(normal(5, 4, 3, 6))
    np.testing.assert_allclose(y.mean(axes), 0.0, atol=1e-12)
    np.testing.assert_allclose(y.var(axes), 1.0, rtol=1e-3)  # eps


@pytest.mark.parametrize("name", AXES)
def test_adding_to_the_input_or_scaling_it_changes_nothing(name):
    _, call = AXES[name]
    x = normal(5, 4, 3, 6)
    np.testing.assert_allclose(call(x * 5 + 2), call(x), atol=1e-4)


@pytest.mark.parametrize("name", AXES)
def test_gradients_do_not_point_where_the_result_does_not_change(name):
    axes, call = AXES[name]
    x = tg.tensor(normal(5, 4, 3, 6), dtype=np.float64).requires_grad_()
    (call(x) * normal(5, 4, 3, 6, seed=1)).sum().backward()
    g = x.grad.numpy()
    np.testing.assert_allclose(g.sum(axes), 0.0, atol=1e-11)
    np.testing.assert_allclose((g * x.detach().numpy()).sum(axes), 0.0, atol=1e-3)


def test_a_constant_channel_gives_the_bias():
    x = tg.full((4, 2, 3), 7.0)
    y = F.batch_norm(x, None, None, tg.tensor([2.0, 3.0]), tg.tensor([0.5, -1.0]), training=True)
    np.testing.assert_array_equal(y.numpy(), np.broadcast_to([[0.5], [-1.0]], (4, 2, 3)))


@pytest.mark.parametrize("value", [1e4, 1e10, 1e19])
@pytest.mark.parametrize("shape", [(8, 2, 3), (64, 40, 7)])
def test_a_constant_is_normalized_to_nothing_however_large_it_is(value, shape):
    x = np.full(shape, value, np.float32)
    for y in (F.batch_norm(x, None, None, training=True), F.layer_norm(x, shape[-1]), F.group_norm(x, 1)):
        assert np.abs(y).max() <= 1e-3


def test_half_precision_takes_its_statistics_in_single_precision():
    x = np.full((2, 3000), 30.0, np.float16)  # the sum of the squares is 2.7 million
    x[:, ::2] = 34.0
    for y in (F.layer_norm(x, 3000), F.group_norm(x, 1)):
        assert y.dtype == np.float16
        np.testing.assert_allclose(np.abs(y), 1.0, atol=1e-3)
    np.testing.assert_allclose(F.rms_norm(x, 3000), x / np.sqrt((30.0**2 + 34.0**2) / 2), rtol=2e-3)


def test_integers_become_the_default_dtype():
    y = F.layer_norm(tg.tensor([[1, 3]]), 2, eps=1e-9)
    assert y.dtype == tg.float32
    np.testing.assert_allclose(y.numpy(), [[-1.0, 1.0]], rtol=1e-6)


def test_rms_norm_of_a_formula():
    x = normal(4, 5)
    np.testing.assert_allclose(F.rms_norm(x, 5, eps=0.5), x / np.sqrt((x * x).mean(1, keepdims=True) + 0.5), rtol=1e-12)


def test_local_response_of_a_formula():
    x = normal(2, 7, 3)
    expected = np.empty_like(x)
    for c in range(7):
        window = x[:, max(c - 2, 0) : c + 2]
        expected[:, c] = x[:, c] / (2.0 + 0.5 / 4 * (window**2).sum(1)) ** 0.75
    np.testing.assert_allclose(F.local_response_norm(x, 4, alpha=0.5, k=2.0), expected, rtol=1e-12)


# ---- running statistics


def test_running_statistics_are_the_sample_mean_and_variance_of_the_batches():
    layer = tg.nn.BatchNorm1d(2, momentum=None).double()
    batches = [normal(6, 2, seed=i) for i in range(3)]
    for x in batches:
        layer(tg.from_numpy(x))
    assert layer.num_batches_tracked.item() == 3 and layer.num_batches_tracked.dtype == tg.int64
    np.testing.assert_allclose(layer.running_mean.numpy(), np.mean([x.mean(0) for x in batches], 0), rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.numpy(), np.mean([x.var(0, ddof=1) for x in batches], 0), rtol=1e-12)


def test_evaluation_changes_no_statistic_and_uses_them():
    layer = tg.nn.BatchNorm1d(2).eval()
    layer.load_state_dict({"running_mean": np.ones(2), "running_var": np.full(2, 4.0)}, strict=False)
    y = layer(tg.tensor([[3.0, 1.0]]))
    np.testing.assert_allclose(y.detach().numpy(), [[1.0, 0.0]], atol=1e-5)
    assert layer.num_batches_tracked.item() == 0 and layer.running_mean.tolist() == [1.0, 1.0]


def test_an_earlier_evaluation_keeps_the_statistics_it_was_made_with():
    layer = tg.nn.BatchNorm1d(1).eval()
    x = tg.tensor([[2.0], [4.0]], requires_grad=True)
    y = layer(x)
    layer.train()(tg.tensor([[100.0], [300.0]]))
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 1.0, rtol=1e-4)


def test_running_statistics_without_history():
    layer = tg.nn.BatchNorm1d(2)
    x = tg.randn(4, 2, requires_grad=True)
    layer(x)
    assert not layer.running_mean.requires_grad and not layer.running_var.requires_grad


def test_statistics_given_as_arrays_are_changed_in_place():
    middle, variance = np.zeros(2), np.ones(2)
    x = normal(6, 2)
    F.batch_norm(x, middle, variance, training=True, momentum=0.5)
    np.testing.assert_allclose(middle, x.mean(0) / 2, rtol=1e-12)
    np.testing.assert_allclose(variance, (1 + x.var(0, ddof=1)) / 2, rtol=1e-12)


def test_an_empty_batch_leaves_the_statistics_alone():
    layer = tg.nn.BatchNorm1d(3)
    x = tg.zeros(0, 3).requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = layer(x)
        y.sum().backward()
    assert y.shape == (0, 3) and layer.running_mean.tolist() == [0.0] * 3 and layer.running_var.tolist() == [1.0] * 3
    assert layer.weight.grad.tolist() == [0.0] * 3


def test_reset_copy_and_state():
    layer = tg.nn.BatchNorm2d(2)
    layer(tg.randn(3, 2, 4, 4))
    other = copy.deepcopy(layer)
    layer.reset_running_stats()
    assert layer.running_mean.tolist() == [0.0, 0.0] and layer.num_batches_tracked.item() == 0
    assert other.num_batches_tracked.item() == 1 and other.running_mean.tolist() != [0.0, 0.0]
    assert list(other.state_dict()) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]


# ---- messages


def test_a_single_value_per_channel_has_no_variance():
    with pytest.raises(ShapeError, match="more than one value per channel"):
        tg.nn.BatchNorm1d(3)(tg.zeros(1, 3))
    with pytest.raises(ShapeError, match="more than one value per channel"):
        F.group_norm(tg.zeros(1, 3), 3)
    with pytest.raises(ShapeError, match="more than one place"):
        F.instance_norm(tg.zeros(2, 3, 1))
    assert tg.nn.BatchNorm1d(3).eval()(tg.zeros(1, 3)).shape == (1, 3)


@pytest.mark.parametrize("name", ["weight", "bias", "running_mean", "running_var"])
def test_a_parameter_of_another_size_is_named(name):
    given = {"running_mean": tg.zeros(3), "running_var": tg.ones(3), name: tg.ones(4)}
    with pytest.raises(ShapeError, match=rf"{name} \(C\).*\(4,\)"):
        F.batch_norm(tg.zeros(5, 3), **given)


def test_shapes_and_arguments_are_checked():
    x = tg.zeros(4, 6)
    with pytest.raises(ShapeError, match=r"normalized_shape = \(5,\)"):
        F.layer_norm(x, 5)
    with pytest.raises(ShapeError, match="weight"):
        F.layer_norm(x, 6, tg.ones(5))
    with pytest.raises(ShapeError, match="not empty"):
        F.layer_norm(x, ())
    with pytest.raises(ShapeError, match="normalized_shape"):
        F.rms_norm(x, (4, 4, 6))
    with pytest.raises(ShapeError, match="divisible by num_groups = 4"):
        F.group_norm(x, 4)
    with pytest.raises(ShapeError, match=r"\(N, C, ...\)"):
        F.batch_norm(tg.zeros(6), None, None, training=True)
    with pytest.raises(ArgumentError, match="both or neither"):
        F.batch_norm(x, tg.zeros(6), None, training=True)
    with pytest.raises(ArgumentError, match="both in evaluation"):
        F.batch_norm(x, None, None)
    with pytest.raises(ArgumentError, match="eps > 0 in training"):
        F.batch_norm(x, None, None, training=True, eps=0.0)
    with pytest.raises(ShapeError, match="local_response_norm"):
        F.local_response_norm(x, 2)
    with pytest.raises(ArgumentError, match="size >= 1"):
        F.local_response_norm(tg.zeros(2, 3, 4), 0)
    with pytest.raises(DtypeError):
        F.layer_norm(x, 6, tg.ones(6, dtype=tg.float64))


def test_layers_say_what_they_take():
    with pytest.raises(ShapeError, match="BatchNorm2d.*an input of 4 axes"):
        tg.nn.BatchNorm2d(3)(tg.zeros(2, 3))
    with pytest.raises(ShapeError, match="InstanceNorm1d.*2 or 3 axes"):
        tg.nn.InstanceNorm1d(3)(tg.zeros(2, 3, 4, 5))
    with pytest.raises(ShapeError, match="num_features = 3 at axis 1"):
        tg.nn.InstanceNorm1d(3, affine=True)(tg.zeros(2, 4, 5))
    with pytest.raises(ArgumentError, match="a divisor of num_channels = 6"):
        tg.nn.GroupNorm(4, 6)


# ---- large arrays


LARGE = {
    "batch_norm": ((32, 24, 20, 20), 24, lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True)),
    "batch_norm of one place": ((4000, 75), 75, lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True)),
    "batch_norm of one sample": ((1, 8, 40000), 8, lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True)),
    "layer_norm": ((2100, 130), 130, lambda x, w, b: F.layer_norm(x, 130, w, b)),
    "layer_norm of long rows": ((5, 60000), 60000, lambda x, w, b: F.layer_norm(x, 60000, w, b)),
    "layer_norm of short rows": ((30000, 12), 12, lambda x, w, b: F.layer_norm(x, 12, w, b)),
    "group_norm": ((9, 32, 33, 31), 32, lambda x, w, b: F.group_norm(x, 4, w, b)),
    "instance_norm": ((9, 32, 33, 31), 32, lambda x, w, b: F.instance_norm(x, None, None, w, b)),
    "rms_norm": ((2100, 130), 130, lambda x, w, b: F.rms_norm(x, 130, w) + b),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("shift", [0.0, 300.0])
@pytest.mark.usefixtures("two_threads")
def test_large_arrays_give_what_the_plain_text_gives(name, shift):
    """In float32, in threads; expected from float64 in the other memory order, which no fast kernel takes."""
    shape, width, call = LARGE[name]
    x, w, b = normal(*shape), normal(width, seed=1), normal(width, seed=2)
    x += shift
    g = normal(*shape, seed=3) + x - shift
    results = []
    for dtype in (np.float32, np.float64):
        leaves = [tg.tensor(a.astype(np.float32).astype(dtype)) for a in (x, w, b)]
        if dtype is np.float64:
            leaves[0].array = np.asfortranarray(leaves[0].array)
        for leaf in leaves:
            leaf.requires_grad_()
        y = call(*leaves)
        y.backward(tg.tensor(g.astype(np.float32).astype(dtype)))
        assert y.dtype == dtype
        results.append([y.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)])
    for index, (fast, exact) in enumerate(zip(*results)):
        scale = np.abs(exact).max()
        np.testing.assert_allclose(fast / scale, exact / scale, atol=2e-5 if not shift else 2e-3, err_msg=f"{name} {index}")
