"""Initialisation: distributions, structure, streams of their own, and in place."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the device
from tinygrad_ja import nn
from tinygrad_ja.errors import ArgumentError, DeviceError, ShapeError
from tinygrad_ja.nn import init

SHAPE = (200, 100, 3)
FAN_IN, FAN_OUT = 300, 600


def values(function, *args, shape=SHAPE, **kwargs):
    p = nn.Parameter(tg.zeros(shape))
    made = function(p, *args, generator=tg.Generator().manual_seed(0), **kwargs)
    assert made is p and p.dtype == tg.float32 and p.requires_grad
    return p.detach().numpy().astype(np.float64)


UNIFORM = [
    (init.uniform_, (-2.0, 4.0), -2.0, 4.0),
    (init.xavier_uniform_, (2.0,), *(s * 2 * math.sqrt(6 / (FAN_IN + FAN_OUT)) for s in (-1, 1))),
    (init.kaiming_uniform_, (), *(s * math.sqrt(2) * math.sqrt(3 / FAN_IN) for s in (-1, 1))),
    (init.kaiming_uniform_, (math.sqrt(5),), *(s * math.sqrt(1 / FAN_IN) for s in (-1, 1))),
    (init.kaiming_uniform_, (0, "fan_out", "relu"), *(s * math.sqrt(2) * math.sqrt(3 / FAN_OUT) for s in (-1, 1))),
]


@pytest.mark.parametrize("function, args, low, high", UNIFORM)
def test_uniform_in_its_bounds(function, args, low, high):
    x = values(function, *args)
    assert low <= x.min() < low + 0.01 * (high - low) and high >= x.max() > high - 0.01 * (high - low)
    assert x.mean() == pytest.approx((low + high) / 2, abs=0.01 * (high - low))
    assert x.std() == pytest.approx((high - low) / math.sqrt(12), rel=0.01)


NORMAL = [
    (init.normal_, (3.0, 0.5), 3.0, 0.5),
    (init.xavier_normal_, (), 0.0, math.sqrt(2 / (FAN_IN + FAN_OUT))),
    (init.kaiming_normal_, (), 0.0, math.sqrt(2 / FAN_IN)),
    (init.kaiming_normal_, (0, "fan_out", "tanh"), 0.0, 5 / 3 / math.sqrt(FAN_OUT)),
]


@pytest.mark.parametrize("function, args, mean, std", NORMAL)
def test_normal_with_its_moments(function, args, mean, std):
    x = values(function, *args)
    assert x.mean() == pytest.approx(mean, abs=0.02 * std) and x.std() == pytest.approx(std, rel=0.01)
    assert ((x - mean) ** 4).mean() / std**4 == pytest.approx(3.0, rel=0.05)


def test_truncated_normal_has_the_density_inside_only():
    x = values(init.trunc_normal_, 1.0, 2.0, 0.0, 4.0)
    assert x.min() >= 0 and x.max() <= 4
    # mean and variance of N(1, 2²) cut to [0, 4]
    a, b = -0.5, 1.5
    density = lambda z: math.exp(-z * z / 2) / math.sqrt(2 * math.pi)  # noqa: E731
    mass = (math.erf(b / math.sqrt(2)) - math.erf(a / math.sqrt(2))) / 2
    shift = (density(a) - density(b)) / mass
    variance = 1 + (a * density(a) - b * density(b)) / mass - shift**2
    assert x.mean() == pytest.approx(1 + 2 * shift, abs=0.02) and x.std() == pytest.approx(2 * math.sqrt(variance), rel=0.01)


def test_constants():
    w = tg.empty(2, 3)
    assert init.constant_(w, 2.5).tolist() == [[2.5] * 3] * 2
    assert init.ones_(w).tolist() == [[1.0] * 3] * 2 and init.zeros_(w).tolist() == [[0.0] * 3] * 2
    assert init.eye_(w).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]


@pytest.mark.parametrize("groups", [1, 2])
def test_dirac_passes_channels_through(groups):
    x = np.random.default_rng(0).normal(size=(4, 7))
    w = init.dirac_(tg.empty(4, 4 // groups, 3), groups).numpy()
    padded = np.pad(x, ((0, 0), (1, 1)))
    for out in range(4):
        first = (out // (4 // groups)) * (4 // groups)
        made = sum(np.convolve(padded[first + i], w[out, i][::-1], "valid") for i in range(4 // groups))
        np.testing.assert_array_equal(made, x[out])


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (5, 5), (4, 2, 3), (6, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_orthogonal_rows_or_columns(shape, dtype):
    w = init.orthogonal_(tg.empty(*shape, dtype=dtype), gain=2.0).numpy().reshape(shape[0], -1)
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, 4 * np.eye(min(w.shape)), atol=1e-5)


def test_sparse_columns_have_their_share_of_zeros():
    w = init.sparse_(tg.empty(10, 5), 0.25, std=3.0).numpy()
    assert ((w == 0).sum(axis=0) == 3).all() and 1.5 < w[w != 0].std() < 4.5


@given(st.integers(0, 2**40))
def test_a_generator_decides_alone(seed):
    first = init.normal_(tg.empty(3), generator=tg.Generator().manual_seed(seed))
    tg.manual_seed(0)
    before = tg.rand(1).item()
    tg.manual_seed(0)
    second = init.normal_(tg.empty(3), generator=tg.Generator().manual_seed(seed))
    assert first.tolist() == second.tolist() and tg.rand(1).item() == before


def test_manual_seed_decides_layers():
    def build():
        tg.manual_seed(7)
        return [p.tolist() for p in nn.Sequential(nn.Linear(3, 4), nn.Embedding(5, 2), nn.GRU(2, 3)).parameters()]

    assert build() == build()


def test_default_starts_of_layers():
    tg.manual_seed(0)
    w = nn.Linear(400, 300)
    for p in (w.weight.detach().numpy(), w.bias.detach().numpy()):
        assert abs(p).max() <= 0.05 and p.std() == pytest.approx(0.05 / math.sqrt(3), rel=0.1)
    table = nn.Embedding(300, 100).weight.detach().numpy()
    assert table.mean() == pytest.approx(0, abs=0.02) and table.std() == pytest.approx(1, rel=0.02)


def test_a_change_between_forward_and_backward_is_refused():
    w = nn.Parameter(tg.ones(2, 2))
    y = (w @ w).sum()
    init.zeros_(w)
    with pytest.raises(RuntimeError, match="TG-G003"):
        y.backward()


def test_what_is_refused():
    with pytest.raises(ArgumentError, match="gelu"):
        init.calculate_gain("gelu")
    with pytest.raises(ArgumentError, match="fan_up"):
        init.kaiming_normal_(tg.empty(2, 2), mode="fan_up")
    with pytest.raises(ArgumentError, match="groups"):
        init.dirac_(tg.empty(3, 1, 1), groups=2)
    for wrong in (
        lambda: init.xavier_uniform_(tg.empty(3)),
        lambda: init.orthogonal_(tg.empty(3)),
        lambda: init.eye_(tg.empty(3)),
        lambda: init.sparse_(tg.empty(3), 0.1),
        lambda: init.dirac_(tg.empty(2, 2)),
    ):
        with pytest.raises(ShapeError, match="TG-S002"):
            wrong()


@pytest.mark.parametrize(
    "name, param, gain",
    [("linear", None, 1), ("conv2d", None, 1), ("sigmoid", None, 1), ("tanh", None, 5 / 3), ("relu", None, math.sqrt(2)),
     ("leaky_relu", 0.2, math.sqrt(2 / 1.04)), ("selu", None, 0.75)],
)  # fmt: skip
def test_gain(name, param, gain):
    assert init.calculate_gain(name, param) == pytest.approx(gain)


def test_every_function_runs_where_the_tensor_lives():
    w = {
        name: tg.empty(4, 3, 3, device="strict") if name == "dirac_" else tg.empty(3, 4, device="strict")
        for name in init.__all__
    }
    more = {"constant_": (2.0,), "sparse_": (0.3,)}
    for name in init.__all__:
        if name != "calculate_gain":
            assert getattr(init, name)(w[name], *more.get(name, ())).device == "strict"
    with pytest.raises(DeviceError, match="TG-D007"):
        init.normal_(tg.empty(3, device="strict"), generator=tg.Generator())
