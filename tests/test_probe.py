"""``linear_probe`` against what can be known of its answer."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, ShapeError
from tinygrad_ja.training import linear_probe


def parts(x: np.ndarray) -> tuple[tg.Tensor, ...]:
    return tg.tensor(x.astype(np.float32)).split(len(x) // 3)


def test_a_direction_is_found_and_moving_and_scaling_features_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 5))
    y = (x[:, 2] > 0) ^ (rng.random(600) < 0.05)
    found = linear_probe(parts(x), parts(y))
    assert found.accuracy > 0.85 and found.valid_accuracy > 0.85 and found.outputs.shape == (200,)
    right = ((found.outputs.numpy() > 0) == y[400:]).mean()
    assert found.accuracy == pytest.approx(right)
    moved = linear_probe(parts(1000 * x + [3, 1, 4, 1, 5]), parts(y))
    np.testing.assert_allclose(moved.outputs, found.outputs, atol=1e-2)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1.1, 1 / 3])
def test_a_feature_that_is_constant_in_the_training_data_says_nothing(constant: float) -> None:
    rng = np.random.default_rng(3)
    x = np.column_stack([rng.standard_normal((300, 2)), np.full(300, constant)])
    x[100:, 2] += 0.01 * rng.standard_normal(200)
    found, without = linear_probe(parts(x), parts(x[:, 0] > 0)), linear_probe(parts(x[:, :2]), parts(x[:, 0] > 0))
    np.testing.assert_allclose(found.outputs, without.outputs, rtol=1e-3, atol=1e-2)


def test_the_penalty_is_chosen_on_the_validation_part() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal(
        (300, 200)
    )  # twice as many directions as training rows: without a penalty noise is learned by heart
    y = x[:, 0] + x[:, 1] > 0
    penalties = (1e-6, 1e-2, 1.0)
    each = [linear_probe(parts(x), parts(y), [penalty]) for penalty in penalties]
    best = linear_probe(parts(x), parts(y), penalties)
    assert each[1].valid_accuracy > max(each[0].valid_accuracy, each[2].valid_accuracy)
    assert (best.penalty, best.accuracy) == (1e-2, each[1].accuracy)


def test_at_the_optimum_the_gradient_vanishes() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((300, 3)), rng.integers(0, 2, 300).astype(float)
    found = linear_probe(parts(x), parts(y), [0.1])
    train = (x[:100] - x[:100].mean(0)) / x[:100].std(0)
    test = np.column_stack([(x[200:] - x[:100].mean(0)) / x[:100].std(0), np.ones(100)])
    w = np.linalg.lstsq(test, found.outputs.numpy().astype(np.float64), rcond=None)[0]
    error = 1 / (1 + np.exp(-(train @ w[:3] + w[3]))) - y[:100]
    np.testing.assert_allclose(error @ train / 100 + 0.1 * w[:3], 0, atol=2e-3)
    np.testing.assert_allclose(error.mean(), 0, atol=2e-3)


def test_wrong_shapes_are_refused() -> None:
    x, y = tg.randn(4, 2), tg.ones(4)
    for features, labels in (
        [[x, x], [y, y]],
        [[x, x, x], [y, y, tg.ones(3)]],
        [[x, x, tg.randn(4, 3)], [y, y, y]],
        [[y, y, y]] * 2,
    ):
        with pytest.raises(ShapeError, match="linear_probe"):
            linear_probe(features, labels)
    with pytest.raises(ArgumentError, match="penalties"):
        linear_probe([x, x, x], [y, y, y], [])
