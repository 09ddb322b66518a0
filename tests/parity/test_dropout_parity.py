"""Dropouts and random slopes beside PyTorch, as far as no random number shows; the layers of activations."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from parity.beside_torch import OURS, THEIRS, compare, random

NAMES = ["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"]
SHAPES = {"dropout1d": (2, 3, 4), "dropout3d": (2, 3, 2, 2, 2)}
LAYERS = ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"]


@pytest.mark.parametrize("name", NAMES)
def test_dropouts_of_nothing_and_of_everything(name):
    x = random(*SHAPES.get(name, (2, 3, 2, 2)))
    compare(lambda s, x: getattr(s.F, name)(x, 0.0, True), x)
    compare(lambda s, x: getattr(s.F, name)(x, 1.0, True), x)
    compare(lambda s, x: getattr(s.F, name)(x, 0.5, False), x)


def _pattern(side, name, x, p):
    """Which elements were kept, and the values that the others and the kept ones have."""
    y = getattr(side.F, name)(side.tensor(x), p, True).numpy()
    return y


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("p", [0.3, 0.8])
def test_kept_and_dropped_elements_have_pytorchs_values(name, p):
    x = np.ones(SHAPES.get(name, (2, 3, 2, 2)))
    x = np.concatenate([x] * 20, 1)
    ours, theirs = [np.unique(_pattern(side, name, x, p).round(12)) for side in (OURS, THEIRS)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("dropout1d", (40, 5)),
        ("dropout2d", (4, 20, 3)),
        ("dropout2d", (9, 9)),
        ("dropout3d", (20, 2, 2, 2)),
        ("dropout3d", (30, 2, 2)),
    ],
)
def test_what_counts_as_a_channel(name, shape):
    """The elements that are always dropped together are the same."""
    together = []
    for side in (OURS, THEIRS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            patterns = np.stack([_pattern(side, name, np.ones(shape), 0.5) for _ in range(40)]).reshape(40, -1)
        together.append(np.all(patterns[:, :, None] == patterns[:, None, :], 0))
    np.testing.assert_array_equal(*together)


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_of_dropout(layer):
    made = [[getattr(s.m.nn, layer)(), getattr(s.m.nn, layer)(0.3, True)] for s in (OURS, THEIRS)]
    assert [repr(x) for x in made[0]] == [repr(x) for x in made[1]]
    x = np.ones((2, 3, 2, 2)[: 3 if layer == "Dropout1d" else 4], np.float32)
    for side, layers in zip((OURS, THEIRS), made):
        t = side.tensor(x)
        y = layers[1](t)
        if side is OURS or "Alpha" not in layer:  # PyTorch's forget that they were asked to work in place
            np.testing.assert_array_equal(y.numpy(), t.numpy())
        assert layers[0].eval()(t) is t or np.array_equal(layers[0](t).numpy(), t.numpy())


@pytest.mark.parametrize("bounds", [(0.125, 1 / 3), (0.2, 0.2), (-1.0, 0.5)])
def test_random_slopes_in_evaluation(bounds):
    compare(lambda s, x: s.F.rrelu(x, *bounds), random(3, 4))
    compare(lambda s, x: s.F.rrelu(x, *bounds), np.array([-1.0, 0.0, 2.0]))
    compare(lambda s, x: s.m.nn.RReLU(*bounds).eval()(x), random(3, 4))


def test_equal_bounds_make_training_certain():
    compare(lambda s, x: s.F.rrelu(x, 0.25, 0.25, True), np.array([-1.0, -4.0, 2.0]))


ACTIVATIONS = [
    ("Softmin", ()), ("Softmax", (1,)), ("LogSoftmax", (-1,)), ("Softmax2d", ()), ("Hardshrink", ()), ("Hardshrink", (0.2,)),
    ("Softshrink", ()), ("Softshrink", (0.2,)), ("Tanhshrink", ()), ("Threshold", (0.1, 20)), ("Threshold", (0.1, 20.0, True)),
    ("CELU", ()), ("CELU", (0.5, True)), ("ELU", ()), ("ELU", (2.0, True)), ("SELU", (True,)), ("GLU", (-2,)), ("GLU", ()), ("PReLU", ()),
    ("PReLU", (4, 0.1)), ("Mish", ()), ("Mish", (True,)), ("SiLU", (True,)), ("GELU", ()), ("GELU", ("tanh",)), ("ReLU", (True,)),
    ("ReLU6", (True,)), ("LeakyReLU", (0.2, True)), ("LeakyReLU", ()), ("Hardtanh", ()), ("Hardtanh", (-2.0, 0.5, True)),
    ("Hardsigmoid", (True,)), ("Hardswish", (True,)), ("LogSigmoid", ()), ("Softplus", ()), ("Softplus", (2.0, 10.0)), ("Softsign", ()),
    ("Sigmoid", ()), ("Tanh", ()), ("RReLU", ()), ("RReLU", (0.1, 0.2, True)), ("Identity", (3,)),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Implicit dimension")
@pytest.mark.parametrize(("name", "args"), ACTIVATIONS)
def test_layers_of_activations(name, args):
    layers = [getattr(side.m.nn, name)(*args).eval() for side in (OURS, THEIRS)]
    assert repr(layers[0]) == repr(layers[1])
    assert list(layers[0].state_dict()) == list(layers[1].state_dict())
    x = random(2, 4, 6, 2, dtype=np.float32)
    compare(lambda side, x: layers[side is THEIRS](x * 1.0), x, rtol=2e-5, atol=2e-6)
    if any(a is True for a in args):
        for side, layer in zip((OURS, THEIRS), layers):
            t = side.tensor(x)
            y = layer(t)
            np.testing.assert_array_equal(y.numpy(), t.numpy())
