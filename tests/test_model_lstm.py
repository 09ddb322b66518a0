"""LSTM: its formula, the framework's layer, the constant error carousel, and that it remembers where an RNN forgets."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinygrad_ja as tg
from models import lstm as program
from models import memory_tasks as tasks
from tinygrad_ja import nn

T, N, D, H = 6, 3, 2, 4


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def weights(layer):
    return {name: value.detach().numpy() for name, value in layer.named_parameters()}


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def run(folder, *argv):
    """A run that takes a second."""
    short = ["--quick", "--lag", "6", "--hidden", "8", "--epochs", "1", "--steps", "20"]
    return program.main([*short, *argv, "--out", str(folder)])


@pytest.fixture(autouse=True)
def no_data(monkeypatch, tmp_path):
    """Made-up data everywhere: neither files nor network."""
    for name in ("TINYGRAD_JA_DATA", "TINYGRAD_JA_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))


@pytest.mark.parametrize("kind", [program.LSTM, program.CEC])
def test_the_layer_is_its_formula(kind):
    layer = kind(D, H).double()
    w, x, h, c = weights(layer), array(T, N, D), array(N, H, seed=1), array(N, H, seed=2)
    made, (h_T, c_T) = layer(tg.tensor(x), (tg.tensor(h), tg.tensor(c)))
    for t in range(T):
        a, i, f, o = np.split(x[t] @ w["W"].T + h @ w["U"].T + w["b"], 4, axis=1)
        c = sigmoid(i) * np.tanh(a) + (1 if kind is program.CEC else sigmoid(f)) * c
        h = sigmoid(o) * np.tanh(c)
        np.testing.assert_allclose(made.detach().numpy()[t], h, rtol=1e-12)
    np.testing.assert_array_equal(h_T.detach().numpy(), made.detach().numpy()[-1])
    np.testing.assert_allclose(c_T.detach().numpy(), c, rtol=1e-12)


def test_the_forget_gate_starts_open():
    b = program.LSTM(D, H).b.detach().numpy()
    chosen = program.LSTM(D, H, keep=3.0, admit=-2.0).b.detach().numpy()
    assert (chosen[2 * H : 3 * H] == 3).all() and (chosen[H : 2 * H] == -2).all()
    assert (b[2 * H : 3 * H] == 1).all() and (np.abs(np.delete(b, range(2 * H, 3 * H))) <= H**-0.5).all()


def test_it_equals_the_layer_of_the_framework_in_value_and_gradient():
    own = program.LSTM(D, H).double()
    layer = own.as_layer()
    x, towards = tg.tensor(array(T, N, D)), tg.tensor(array(T, N, H, seed=1))
    for network in (own, layer):
        (network(x)[0] * towards).sum().backward()
    np.testing.assert_allclose(own(x)[0].detach().numpy(), layer(x)[0].detach().numpy(), rtol=1e-12)
    a, i, f, o = np.split(own.U.grad.numpy(), 4)
    np.testing.assert_allclose(layer.weight_hh_l0.grad.numpy(), np.concatenate([i, f, a, o]), rtol=1e-10)
    a, i, f, o = np.split(own.W.grad.numpy(), 4)
    np.testing.assert_allclose(layer.weight_ih_l0.grad.numpy(), np.concatenate([i, f, a, o]), rtol=1e-10)


def test_along_the_memory_the_error_is_multiplied_by_the_forget_gates():
    """With U = 0 nothing but the memory connects two steps: ∂E/∂c_{t-1} = f_t ∘ ∂E/∂c_t."""
    layer = program.LSTM(D, H).double()
    nn.init.zeros_(layer.U)
    x = tg.tensor(array(T, 1, D))
    states = layer.states(x)
    errors = [error.numpy()[0] for error in tg.grad(states[-1][0].sum(), [c for _, c in states])]
    w = weights(layer)
    forget = sigmoid(np.split(x.numpy()[:, 0] @ w["W"].T + w["b"], 4, axis=1)[2])
    for t in range(1, T):
        np.testing.assert_allclose(errors[t - 1], forget[t] * errors[t], rtol=1e-12)


def test_the_error_in_the_carousel_is_constant():
    x = tg.tensor(array(200, N, D))
    carousel = program.error_norms(program.CEC(D, H).double(), x, lambda h: (h**2).sum())
    np.testing.assert_array_equal(carousel, carousel[-1])
    assert carousel[0] > 0
    gated = program.error_norms(program.LSTM(D, H).double(), x, lambda h: (h**2).sum())
    assert gated[0] < 1e-6 * gated[-1]


def test_scaling_comes_back_and_parts_follow_one_another():
    spots = np.array([0.0, 1.0, 100.0, 300.0], np.float32)
    np.testing.assert_allclose(tasks.unscaled(tasks.scaled(spots)), spots, rtol=1e-5, atol=1e-5)
    months = tasks.made_up_spots()
    spans = [months.span(part) for part in ("train", "valid", "test")]
    assert spans[0][0] == 0 and spans[0][1] == spans[1][0] and spans[1][1] == spans[2][0] and spans[2][1] == len(months.values)


def test_a_forecast_sees_nothing_of_the_year_before_its_month():
    """A model that repeats its input forecasts the value of twelve months before."""
    months = tasks.made_up_spots()

    class Same(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(tg.ones(1))

        def forward(self, x):
            return x * self.w

    first, last = months.span("test")
    expected = months.values[first - tasks.AHEAD : last - tasks.AHEAD]
    np.testing.assert_allclose(tasks.forecasts(Same(), months, "test"), expected, rtol=1e-4, atol=1e-3)


def test_a_quick_run_remembers_and_writes_everything(tmp_path):
    results = run(tmp_path, "--steps", "300", "--hidden", "16", "--epochs", "2")
    assert results["adding_error_lstm"] < 0.5 / 6  # always 1: 1/6
    assert results["kept_cec"] == 1 and results["kept_lstm"] < 1
    assert results["data"] == "synthetic" and json.loads((tmp_path / "results.json").read_text()) == results
    assert {"sunspots.png", "adding.png", "carousel.png", "sunspots", "adding"} <= {p.name for p in tmp_path.iterdir()}
    rows = [json.loads(line) for line in (tmp_path / "sunspots" / "lstm" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_a_run_that_goes_on_ends_where_the_whole_one_does(tmp_path):
    whole = run(tmp_path / "whole", "--steps", "20", "--epochs", "2")
    run(tmp_path / "parts", "--steps", "10", "--epochs", "1")
    parts = run(tmp_path / "parts", "--steps", "20", "--epochs", "2", "--resume")
    for name in ("sunspots_rnn", "sunspots_lstm", "adding_error_rnn", "adding_error_lstm"):
        assert whole[name] == parts[name]


def test_compiled_it_learns_the_same(tmp_path):
    run(tmp_path / "eager")
    run(tmp_path / "compiled", "--compile")
    for part in ("sunspots", "adding"):
        eager, compiled = (losses(tmp_path / kind / part / "lstm") for kind in ("eager", "compiled"))
        np.testing.assert_allclose(compiled, eager, rtol=1e-4)
