"""Vanishing and exploding gradients: the product of Jacobians is what the tape does, its bound, and clipping."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import tinygrad_ja as tg
from models import vanishing_gradient as program
from models.lstm import error_norms
from tinygrad_ja import nn
from tinygrad_ja.errors import ArgumentError

T, H = 8, 4


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def run(folder, *argv):
    """A run that takes a second."""
    return program.main(["--quick", "--lag", "10", "--hidden", "8", "--epochs", "1", *argv, "--out", str(folder)])


@pytest.fixture(autouse=True)
def no_data(monkeypatch, tmp_path):
    """Made-up data everywhere: neither files nor network."""
    for name in ("TINYGRAD_JA_DATA", "TINYGRAD_JA_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))


def layer(activation="tanh", scale=1.0):
    return program.RNN(1, H, activation, scale).double()


VALUES = {"sigmoid": lambda u: 1 / (1 + np.exp(-u)), "tanh": np.tanh, "relu": lambda u: np.maximum(u, 0)}
SLOPES = {
    "sigmoid": lambda u: VALUES["sigmoid"](u) * (1 - VALUES["sigmoid"](u)),
    "tanh": lambda u: 1 - np.tanh(u) ** 2,
    "relu": lambda u: (u > 0).astype(float),
}


@pytest.mark.parametrize("activation", program.ACTIVATIONS)
def test_slopes_are_the_derivatives_and_never_larger_than_said(activation):
    u = np.linspace(-5, 5, 101) + 1e-3
    made = program.slopes(program.ACTIVATIONS[activation], u)
    np.testing.assert_allclose(made, SLOPES[activation](u), rtol=1e-10)
    assert made.max() <= program.STEEPEST[activation]
    assert program.slopes(tg.sigmoid, np.zeros(1))[0] == 0.25


@pytest.mark.parametrize("activation", program.ACTIVATIONS)
def test_jacobians_are_slope_times_u(activation):
    rnn, x = layer(activation), array(T, 1, 1)
    W, U, b = (p.detach().numpy() for p in (rnn.W, rnn.U, rnn.b))
    h, expected = np.zeros(H), []
    for t in range(T):
        u = W @ x[t, 0] + U @ h + b
        expected.append(np.diag(SLOPES[activation](u)) @ U)
        h = VALUES[activation](u)
    np.testing.assert_allclose(program.jacobians(rnn, tg.tensor(x)), expected[1:], rtol=1e-10, atol=1e-15)


def test_the_tape_multiplies_the_jacobians():
    rnn, x = layer(), tg.tensor(array(T, 1, 1))
    states = [h for (h,) in rnn.states(x)]
    v = array(H, seed=1)
    errors = tg.grad((states[-1] * tg.tensor(v)).sum(), states)
    product = np.eye(H)
    for error, J in zip(reversed(errors), [None, *reversed(program.jacobians(rnn, x))]):
        product = product if J is None else product @ J
        np.testing.assert_allclose(error.numpy()[0], product.T @ v, rtol=1e-10, atol=1e-15)
    assert program.product_norms(rnn, x)[0] == pytest.approx(np.linalg.norm(product, 2))


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("activation", program.ACTIVATIONS)
def test_the_product_is_below_its_bound(activation, scale):
    rnn = layer(activation, scale)
    np.testing.assert_allclose(np.linalg.svd(rnn.U.detach().numpy())[1], scale, rtol=1e-6)
    norms = program.product_norms(rnn, tg.tensor(array(T, 1, 1)))
    bound = (program.STEEPEST[activation] * scale) ** np.arange(T)[::-1]
    assert (norms <= bound * (1 + 1e-6)).all() and norms[-1] == 1


def test_small_weights_vanish_and_large_ones_explode():
    x = tg.tensor(array(40, 2, 1))
    small, large = (error_norms(layer("relu", scale), x, lambda h: h.sum()) for scale in (0.5, 3.0))
    assert small[0] < 1e-9 * small[-1] and large[0] > 1e3 * large[-1]


@pytest.mark.parametrize("threshold", [0.1, 5.0, 1e6, math.inf])
def test_clipping_is_its_formula_and_that_of_the_framework(threshold):
    g = [array(3, 2), array(5, seed=1)]
    norm = math.sqrt(sum((part**2).sum() for part in g))
    clipped, measured = program.clip([tg.tensor(part) for part in g], threshold)
    assert measured.item() == pytest.approx(norm)
    weights = [nn.Parameter(tg.zeros(*part.shape, dtype=tg.float64)) for part in g]
    for w, part in zip(weights, g):
        w.grad = tg.tensor(part)
    nn.utils.clip_grad_norm_(weights, threshold)
    for made, part, w in zip(clipped, g, weights):
        np.testing.assert_allclose(made.numpy(), part * min(1, threshold / norm), rtol=1e-12)
        np.testing.assert_allclose(made.numpy(), w.grad.numpy(), rtol=1e-5)


def test_a_quick_run_breaks_down_without_clipping_and_learns_with_it(tmp_path):
    results = run(tmp_path, "--hidden", "32", "--epochs", "3")
    rows = [json.loads(line)["loss"] for line in (tmp_path / "clipped" / "log.jsonl").read_text().splitlines()]
    assert results["steps_clipped"] == len(rows) and np.mean(rows[-5:]) < 0.8 * np.mean(rows[:5])
    free = [json.loads(line)["loss"] for line in (tmp_path / "free" / "log.jsonl").read_text().splitlines()]
    assert results["steps_free"] < results["steps_clipped"] or free[-1] > 10 * free[0]
    assert results["sigmoid_slope"] == 0.25 and results["product_over_bound"] <= 1 + 1e-6
    assert results["kept_cec"] == 1 and results["kept_sigmoid_small"] < 1e-6 < results["kept_lstm"]
    assert results["data"] == "synthetic" and {"slopes.png", "products.png", "errors.png", "clipping.png"} <= {
        p.name for p in tmp_path.iterdir()
    }


def test_a_run_that_goes_on_ends_where_the_whole_one_does(tmp_path):
    whole = run(tmp_path / "whole", "--epochs", "2")
    run(tmp_path / "parts", "--epochs", "1")
    parts = run(tmp_path / "parts", "--epochs", "2", "--resume")
    assert whole["rmse_clipped"] == parts["rmse_clipped"]


def test_compiled_it_learns_the_same(tmp_path):
    """With a small U: a large one makes the network chaotic, and multiplies any rounding."""
    eager, compiled = (run(tmp_path / str(len(way)), "--gain", "0.5", *way) for way in ([], ["--compile"]))
    assert compiled["rmse_clipped"] == pytest.approx(eager["rmse_clipped"], rel=1e-3)


def test_a_lag_that_is_longer_than_the_series_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="lag"):
        run(tmp_path, "--lag", "100000")


def test_a_run_whose_loss_was_no_number_does_not_go_on(tmp_path):
    options = ["--lr", "1e6"]
    first = run(tmp_path, *options)
    again = run(tmp_path, *options, "--resume")
    assert first["steps_free"] < first["steps_clipped"]
    assert [again[name] for name in ("steps_free", "steps_clipped")] == [first["steps_free"], first["steps_clipped"]]
