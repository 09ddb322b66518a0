"""Normalization beside PyTorch: functions, running statistics, gradients of gradients, layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from parity.beside_torch import OURS, THEIRS, compare, dtype_of, random

import tinygrad_ja as tg

PARAMETERS = [(True, True), (True, False), (False, True), (False, False)]
SHAPES = [(4, 3), (1, 3, 5), (5, 1, 4), (3, 4, 2, 3), (2, 3, 2, 2, 3), (0, 3, 4), (16, 40, 7, 9), (300, 64)]


def given(shape, wanted, seed=1):
    """Weight and bias as leaves of both sides, or None."""
    arrays = [np.random.default_rng(seed + i).uniform(0.5, 2.0, shape) for i in range(2)]
    return [a for a, want in zip(arrays, wanted) if want]


def spread(parameters, wanted):
    """Tensors of those that are wanted, None for the others."""
    rest = list(parameters)
    return [rest.pop(0) if want else None for want in wanted]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("wanted", PARAMETERS)
def test_batch_norm_in_training(shape, wanted):
    def call(s, x, *parameters):
        return s.F.batch_norm(x, None, None, *spread(parameters, wanted), training=True)

    compare(call, random(*shape) * 2 + 1, *given(shape[1:2], wanted), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("wanted", PARAMETERS)
def test_batch_norm_in_evaluation(shape, wanted):
    middle, variance = random(shape[1], seed=5), np.random.default_rng(6).uniform(0.5, 2.0, shape[1])

    def call(s, x, *parameters):
        return s.F.batch_norm(x, s.tensor(middle), s.tensor(variance), *spread(parameters, wanted), eps=1e-3)

    compare(call, random(*shape), *given(shape[1:2], wanted), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(4, 3), (0, 3, 4), (2, 3, 4, 5)])
@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0])
def test_batch_norm_moves_the_running_statistics(shape, momentum):
    found = []
    for s in (OURS, THEIRS):
        middle, variance = s.tensor(random(3, seed=5)), s.tensor(random(3, seed=6) ** 2)
        s.F.batch_norm(s.tensor(random(*shape)), middle, variance, training=True, momentum=momentum)
        found.append((middle.numpy(), variance.numpy()))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)


@pytest.mark.parametrize("shape", [(3, 2, 5), (2, 3, 4, 2), (1, 3, 4), (2, 3, 300)])
@pytest.mark.parametrize("wanted", PARAMETERS)
@pytest.mark.parametrize("use_input_stats", [True, False])
def test_instance_norm(shape, wanted, use_input_stats):
    found = []

    def call(s, x, *parameters):
        middle, variance = s.tensor(random(shape[1], seed=5)), s.tensor(random(shape[1], seed=6) ** 2)
        y = s.F.instance_norm(x, middle, variance, *spread(parameters, wanted), use_input_stats=use_input_stats, momentum=0.3)
        found.append((middle.numpy(), variance.numpy()))
        return y

    compare(call, random(*shape) + 1, *given(shape[1:2], wanted), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)


@pytest.mark.parametrize(
    "shape, groups",
    [((2, 6), 3), ((2, 6, 5), 1), ((3, 6, 2, 2), 6), ((1, 4, 3), 2), ((3, 8, 9, 9), 4)],
)
@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, False)])  # PyTorch fails for a bias alone
def test_group_norm(shape, groups, wanted):
    def call(s, x, *parameters):
        return s.F.group_norm(x, groups, *spread(parameters, wanted), eps=1e-3)

    compare(call, random(*shape) - 1, *given(shape[1:2], wanted), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "shape, ndim",
    [((4, 5), 1), ((5,), 1), ((2, 3, 4), 2), ((2, 3, 4), 3), ((0, 3), 1), ((2, 0), 1), ((70, 130), 1), ((3, 7000), 1)],
)
@pytest.mark.parametrize("wanted", PARAMETERS)
def test_layer_norm(shape, ndim, wanted):
    def call(s, x, *parameters):
        return s.F.layer_norm(x, shape[-ndim:], *spread(parameters, wanted))

    compare(call, random(*shape) + 2, *given(shape[-ndim:], wanted), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(0, 4, 2), (2, 4, 0)])
def test_groups_and_instances_of_nothing(shape):
    compare(lambda s, x: s.F.group_norm(x, 2), random(*shape))
    compare(lambda s, x: s.F.instance_norm(x), random(*shape))


@pytest.mark.parametrize("shape, ndim", [((4, 5), 1), ((5,), 1), ((2, 3, 4), 2), ((0, 3), 1), ((2, 0), 1), ((70, 130), 1)])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("eps", [None, 1e-3])
def test_rms_norm(shape, ndim, weighted, eps):
    def call(s, x, *parameters):
        return s.F.rms_norm(x, shape[-ndim:], *parameters, eps=eps)

    compare(call, random(*shape), *given(shape[-ndim:], (weighted, False)), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(2, 5, 3), (1, 1, 2, 2), (2, 4, 2, 2, 2), (0, 3, 2)])
@pytest.mark.parametrize("size", [1, 2, 3, 9])
@pytest.mark.parametrize("options", [{}, {"alpha": 0.5, "beta": 1.5, "k": 2.0}])
def test_local_response_norm(shape, size, options):
    compare(lambda s, x: s.F.local_response_norm(x, size, **options), random(*shape), rtol=1e-10)


CALLS = {
    "batch_norm": lambda s, x, w, b: s.F.batch_norm(x, None, None, w, b, training=True),
    "batch_norm in evaluation": lambda s, x, w, b: s.F.batch_norm(x, s.tensor(np.ones(4)), s.tensor(np.full(4, 2.0)), w, b),
    "instance_norm": lambda s, x, w, b: s.F.instance_norm(x, None, None, w, b),
    "group_norm": lambda s, x, w, b: s.F.group_norm(x, 2, w, b),
    "layer_norm": lambda s, x, w, b: s.F.layer_norm(x, (4,), w, b),
    "rms_norm": lambda s, x, w, b: s.F.rms_norm(x, (4,), w) + b,
    "local_response_norm": lambda s, x, w, b: s.F.local_response_norm(x * w + b, 3, alpha=0.5),
}


@pytest.mark.parametrize("name", CALLS)
def test_gradients_of_gradients(name):
    found = []
    for s in (OURS, THEIRS):
        leaves = [s.tensor(a).requires_grad_() for a in (random(3, 4, 4), *given((4,), (True, True)))]
        grad = s.m.autograd.grad
        y = CALLS[name](s, *leaves)
        first = grad((y * s.tensor(random(3, 4, 4, seed=7))).sum(), leaves, create_graph=True)
        total = sum((g * s.tensor(random(*g.shape, seed=8))).sum() for g in first)
        second = grad(total, leaves[:2])
        found.append([t.detach().numpy() for t in (*first, *second)])
    for ours, theirs in zip(*found):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def plain(x, axes, weight, bias):
    """Normalization in PyTorch's plain operators."""
    centred = x - x.mean(axes, True)
    return centred / ((centred * centred).mean(axes, True) + 1e-5) ** 0.5 * weight + bias


@pytest.mark.parametrize(
    "name, axes, column", [("batch_norm", (0, 2), True), ("instance_norm", (2,), True), ("layer_norm", (2,), False)]
)
def test_the_third_order_is_that_of_plain_operators(name, axes, column):
    """(PyTorch's own is another one: its formula for the second order takes the statistics for constants.)"""
    found = []
    for s in (OURS, THEIRS):
        x, w, b = leaves = [s.tensor(a).requires_grad_() for a in (random(3, 4, 4), *given((4,), (True, True)))]
        shape = (-1, 1) if column else (-1,)
        y = CALLS[name](s, x, w, b) if s is OURS else plain(x, axes, w.reshape(shape), b.reshape(shape))
        for _ in range(2):
            (g,) = s.m.autograd.grad((y * s.tensor(random(3, 4, 4, seed=7))).sum(), x, create_graph=True)
            y = g * g
        found.append([t.numpy() for t in s.m.autograd.grad(y.sum(), leaves[:2])])
    for ours, theirs in zip(*found):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-5), ("float16", 5e-3)])
def test_smaller_dtypes(name, dtype, tolerance):
    if name == "batch_norm in evaluation":
        pytest.skip("the running statistics of this call are float64")
    x, (w, b) = random(30, 4, 4).astype(dtype), [a.astype(dtype) for a in given((4,), (True, True))]
    compare(CALLS[name], x, w, b, rtol=tolerance, atol=tolerance * 10)


@pytest.mark.parametrize("training", [True, False])
def test_half_precision_beside_parameters_of_single_precision(training):
    found = []
    for s in (OURS, THEIRS):
        x = s.tensor(random(8, 3, 5, dtype=np.float16)).requires_grad_()
        w = s.tensor(np.ones(3, np.float32)).requires_grad_()
        middle, variance = s.tensor(np.zeros(3, np.float32)), s.tensor(np.ones(3, np.float32))
        y = s.F.batch_norm(x, middle, variance, w, training=training)
        y.sum().backward()
        assert [dtype_of(t) for t in (y, x.grad, w.grad, middle)] == ["float16", "float16", "float32", "float32"]
        found.append([y.detach().numpy(), middle.numpy(), variance.numpy()])
    for ours, theirs in zip(*found):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("shift", [0.0, 30.0, 1e4])
def test_a_large_mean_costs_as_many_digits_as_it_costs_pytorch(shift):
    x = (random(32, 8, 40) + shift).astype(np.float32)
    wide = x.astype(np.float64)
    exact = {"batch": torch.nn.functional.batch_norm(torch.tensor(wide), None, None, training=True).numpy()}
    exact["layer"] = torch.nn.functional.layer_norm(torch.tensor(wide), (40,)).numpy()
    for name, call in {
        "batch": lambda s: s.F.batch_norm(s.tensor(x), None, None, training=True),
        "layer": lambda s: s.F.layer_norm(s.tensor(x), (40,)),
    }.items():
        ours, theirs = [np.abs(call(s).numpy() - exact[name]).max() for s in (OURS, THEIRS)]
        assert ours <= 4 * theirs + 2e-6


# ---- layers


LAYERS = {
    "BatchNorm1d (N, C)": (lambda nn: nn.BatchNorm1d(3), (4, 3)),
    "BatchNorm1d": (lambda nn: nn.BatchNorm1d(3, momentum=None), (4, 3, 5)),
    "BatchNorm2d": (lambda nn: nn.BatchNorm2d(3, 1e-3, 0.2), (4, 3, 2, 5)),
    "BatchNorm2d without parameters": (lambda nn: nn.BatchNorm2d(3, affine=False), (4, 3, 2, 5)),
    "BatchNorm2d without bias": (lambda nn: nn.BatchNorm2d(3, bias=False), (4, 3, 2, 5)),
    "BatchNorm2d without memory": (lambda nn: nn.BatchNorm2d(3, track_running_stats=False), (4, 3, 2, 5)),
    "BatchNorm3d": (lambda nn: nn.BatchNorm3d(3), (2, 3, 2, 2, 3)),
    "LayerNorm": (lambda nn: nn.LayerNorm(5), (4, 3, 5)),
    "LayerNorm of two axes": (lambda nn: nn.LayerNorm((3, 5), 1e-3), (4, 3, 5)),
    "LayerNorm without parameters": (lambda nn: nn.LayerNorm([5], elementwise_affine=False), (4, 5)),
    "LayerNorm without bias": (lambda nn: nn.LayerNorm(5, bias=False), (4, 5)),
    "RMSNorm": (lambda nn: nn.RMSNorm(5), (4, 5)),
    "RMSNorm without weight": (lambda nn: nn.RMSNorm((3, 5), 1e-3, elementwise_affine=False), (4, 3, 5)),
    "GroupNorm": (lambda nn: nn.GroupNorm(2, 4), (3, 4, 5)),
    "GroupNorm without parameters": (lambda nn: nn.GroupNorm(4, 4, 1e-3, affine=False), (3, 4, 5)),
    "GroupNorm without bias": (lambda nn: nn.GroupNorm(4, 4, bias=False), (3, 4, 5)),
    "InstanceNorm1d": (lambda nn: nn.InstanceNorm1d(3), (4, 3, 5)),
    "InstanceNorm1d of one sample": (lambda nn: nn.InstanceNorm1d(3, affine=True), (3, 5)),
    "InstanceNorm1d with another number of channels": (lambda nn: nn.InstanceNorm1d(7), (4, 3, 5)),
    "InstanceNorm2d": (lambda nn: nn.InstanceNorm2d(3, affine=True, track_running_stats=True), (4, 3, 5, 2)),
    "InstanceNorm3d": (lambda nn: nn.InstanceNorm3d(3, 1e-3, 0.2, True, True), (4, 3, 5, 2, 2)),
    "LocalResponseNorm": (lambda nn: nn.LocalResponseNorm(3, k=2.0), (4, 3, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    """Text, keys, values and gradients, for two batches in training and one in evaluation; the statistics afterwards."""
    build, shape = LAYERS[name]
    sides = [(tg, build(tg.nn)), (torch, build(torch.nn))]
    assert repr(sides[0][1]) == repr(sides[1][1])
    states = [{k: (tuple(v.shape), dtype_of(v), v.tolist()) for k, v in layer.state_dict().items()} for _, layer in sides]
    assert list(states[0].items()) == list(states[1].items())
    rng = np.random.default_rng(0)
    fresh = {k: rng.uniform(0.5, 2.0, v[0]) for k, v in states[0].items() if not k.startswith("num")}
    found = []
    for library, layer in sides:
        layer.double()
        state = {k: library.tensor(v) for k, v in fresh.items()}
        layer.load_state_dict(state, strict=False)
        made = []
        for step, training in enumerate((True, True, False)):
            x = library.tensor(random(*shape, seed=step) + 1, requires_grad=True)
            y = layer.train(training)(x)
            (y * library.tensor(random(*shape, seed=9))).sum().backward()
            made += [y.detach().numpy(), x.grad.numpy()]
        made += [p.grad.numpy() for p in layer.parameters()]
        made += [b.numpy() for b in layer.buffers()]
        found.append(made)
    assert len(found[0]) == len(found[1])
    for ours, theirs in zip(*found):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)
        assert ours.dtype == theirs.dtype


@pytest.mark.parametrize(
    "name, shape", [("BatchNorm1d", (4, 3)), ("BatchNorm2d", (2, 3, 4, 2)), ("BatchNorm3d", (2, 3, 2, 2, 2))]
)
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"bias": False}, {"track_running_stats": False}])
def test_lazy_layers(name, shape, options):
    """Also the instances' ones: text and keys before the first input, and everything after it."""
    for kind in (name, name.replace("Batch", "Instance")):
        if kind.startswith("Instance") and len(shape) == 2:
            shape = (*shape, 5)
        found = []
        for library in (tg, torch):
            layer = getattr(library.nn, f"Lazy{kind}")(**options)
            before = repr(layer), list(layer.state_dict())
            y = layer(library.tensor(random(*shape, dtype=np.float32)))
            found.append((*before, type(layer).__name__, repr(layer), list(layer.state_dict())))
            last = (library, layer, y)
            if library is tg:
                ours = last
        assert found[0] == found[1]
        np.testing.assert_allclose(ours[2].detach().numpy(), last[2].detach().numpy(), atol=1e-5)
        if options == {}:
            loaded = getattr(tg.nn, f"Lazy{kind}")()
            loaded.load_state_dict(ours[1].state_dict())
            np.testing.assert_array_equal(loaded.running_var.numpy(), ours[1].running_var.numpy())
            assert loaded.train(False)(tg.tensor(random(*shape, dtype=np.float32))).shape == shape
            assert loaded.num_features == 3
