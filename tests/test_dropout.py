"""What dropouts and random slopes promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the stand-in for CuPy
from tinygrad_ja.errors import ArgumentError, ShapeError

F = tg.nn.functional


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_mean_stays(p):
    tg.manual_seed(0)
    y = F.dropout(tg.ones(20000), p).numpy()
    assert set(np.unique(y)) == {0.0, np.float32(1 / (1 - p))}
    assert abs((y == 0).mean() - p) < 5 * math.sqrt(p * (1 - p) / 20000)


@pytest.mark.parametrize("device", ["cpu", "strict"])
@pytest.mark.parametrize(
    ("name", "shape"), [("dropout1d", (8, 9, 5)), ("dropout2d", (8, 9, 2, 2)), ("dropout3d", (8, 9, 2, 2, 1))]
)
def test_channels_are_dropped_as_wholes(name, shape, device):
    tg.manual_seed(0)
    x = tg.ones(*shape, device=device).requires_grad_()
    y = getattr(F, name)(x, 0.5)
    flat = y.detach().cpu().numpy().reshape(8, 9, -1)
    assert (flat == flat[..., :1]).all() and 0 < (flat == 0).mean() < 1
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.cpu().numpy(), y.detach().cpu().numpy())  # the mask times 1 / (1 - p)


@pytest.mark.parametrize("name", ["alpha_dropout", "feature_alpha_dropout"])
@pytest.mark.parametrize("device", ["cpu", "strict"])
def test_mean_and_variance_of_normal_numbers_stay(name, device):
    tg.manual_seed(1)
    x = tg.randn(400, 300, device=device)
    y = getattr(F, name)(x, 0.3, training=True).cpu().numpy()
    assert y.dtype == np.float32 and abs(y.mean()) < 0.02 and abs(y.var() - 1) < 0.02


def test_the_derivative_of_alpha_dropout_is_the_scale_where_an_element_was_kept():
    tg.manual_seed(0)
    x = tg.ones(50).requires_grad_()
    y = F.alpha_dropout(x, 0.4, True)
    (g,) = tg.grad(y.sum(), x)
    scale = 1 / math.sqrt((1.7580993408473766**2 * 0.4 + 1) * 0.6)
    np.testing.assert_allclose(g.numpy(), np.where(y.detach().numpy() > 0.5, scale, 0), rtol=1e-6)


@pytest.mark.parametrize("device", ["cpu", "strict"])
def test_random_slopes_lie_between_their_bounds_and_are_the_derivative(device):
    tg.manual_seed(0)
    x = tg.full((500,), -2.0, device=device).requires_grad_()
    y = F.rrelu(x, 0.25, 0.75, training=True)
    slopes = -y.detach().cpu().numpy() / 2
    assert 0.25 <= slopes.min() < 0.3 and 0.7 < slopes.max() < 0.75 and abs(slopes.mean() - 0.5) < 0.05
    y.sum().backward()
    np.testing.assert_array_equal(-y.detach().cpu().numpy() / 2, x.grad.cpu().numpy())
    assert F.rrelu(tg.tensor([3.0]), training=True).tolist() == [3.0]


@pytest.mark.parametrize("name", ["dropout", "alpha_dropout", "feature_alpha_dropout", "rrelu"])
def test_in_place_the_tensor_gets_the_result(name):
    x = tg.full((4, 4), -1.0)
    options = {"training": True, "inplace": True}
    assert getattr(F, name)(x, **options) is x and x.tolist() != tg.full((4, 4), -1.0).tolist()


@pytest.mark.parametrize("layer", ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"])
def test_layers_are_silent_in_evaluation_and_seeded_in_training(layer):
    module = getattr(tg.nn, layer)(0.5)
    x = tg.randn(2, 3, 4) if layer == "Dropout1d" else tg.randn(2, 3, 4, 4)
    assert module.eval()(x) is x
    draws = []
    for _ in range(2):
        tg.manual_seed(3)
        draws.append(module.train()(x).tolist())
    assert draws[0] == draws[1] != x.tolist()


def test_shapes_that_pytorch_will_refuse_one_day_are_warned_about():
    with pytest.warns(UserWarning, match="dropout1d says so"):
        F.dropout2d(tg.ones(2, 3, 4))
    with pytest.warns(UserWarning, match=r"dropout3d: 3 axes"):
        F.dropout3d(tg.ones(2, 3, 4))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: F.dropout2d(tg.ones(1, 1, 1, 1), 1.5), ArgumentError, "dropout2d: p = 1.5"),
        (lambda: F.alpha_dropout(tg.ones(1), -0.1), ArgumentError, "alpha_dropout: p = -0.1"),
        (lambda: F.dropout1d(tg.ones(3)), ShapeError, r"\(N, C, ...\)"),
        (lambda: F.dropout1d(tg.ones(1, 1, 1, 1)), ShapeError, r"\(N, C, ...\)"),
        (lambda: F.feature_alpha_dropout(tg.ones(3), 0.5, True), ShapeError, r"\(N, C, ...\)"),
        (lambda: F.rrelu(tg.ones(1), 0.5, 0.25), ArgumentError, "lower <= upper"),
        (lambda: tg.nn.Dropout2d(2), ArgumentError, "Dropout2d: p = 2"),
        (lambda: tg.nn.Softmax2d()(tg.ones(2, 2)), ShapeError, r"\(C, H, W\)"),
    ],
)
def test_arguments_that_do_not_fit_are_explained(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
