"""``models/simple_rnn.py``: the four forms against the formulas, and what they make of a series."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
from models import simple_rnn as program
from tinygrad_ja.testing import gradcheck

FUNCTIONS = {"sigmoid": lambda u: 1 / (1 + np.exp(-u)), "tanh": np.tanh, "relu": lambda u: np.maximum(u, 0)}


@pytest.fixture(autouse=True)
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither data sets nor a network."""
    monkeypatch.delenv("TINYGRAD_JA_DATA", raising=False)
    monkeypatch.setenv("TINYGRAD_JA_CACHE", str(tmp_path / "cache"))


def run(out: Path, *argv: str) -> dict[str, Any]:
    return program.main(["--quick", "--out", str(out), *argv])


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def by_formula(p: dict[str, np.ndarray], variant: str, f: Any, x: np.ndarray, horizon: int) -> np.ndarray:
    """The outputs for one window (T,), with plain loops."""
    W_in, W, b = p["recurrence.W_in"], p["recurrence.W"], p["recurrence.b"]
    W_out, c = p["read.weight"][0], p["read.bias"][0]
    z, outputs = np.zeros(len(b)), []
    if variant == "one-to-many":
        z = f(W_in @ x + b)
        for _ in range(horizon):
            outputs.append(W_out @ z + c)
            z = f(p["W_y"][:, 0] * outputs[-1] + W @ z + b)
        return np.array(outputs)
    for x_t in x:
        before, z = z, f(W_in[:, 0] * x_t + W @ z + b)
        outputs.append(W_out @ (np.concatenate([[x_t], before]) if variant == "previous-state" else z) + c)
    return np.array(outputs[-1:] if variant == "many-to-one" else outputs)


@pytest.mark.parametrize("variant", program.VARIANTS)
@pytest.mark.parametrize("activation", FUNCTIONS)
def test_each_form_is_its_formula(variant: str, activation: str) -> None:
    tg.manual_seed(0)
    model = program.FORMS[variant](5, 3, 4, activation).double()
    x, following = tg.randn(2, 5).double(), tg.randn(2, 3).double()
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    made = model(x)
    assert made.shape == model.target(x, following).shape
    for row, output in zip(x.numpy(), made.detach().numpy()):
        np.testing.assert_allclose(output, by_formula(p, variant, FUNCTIONS[activation], row, 3), rtol=1e-12)


@pytest.mark.parametrize("variant", program.VARIANTS)
def test_gradients_are_those_of_differences(variant: str) -> None:
    tg.manual_seed(0)
    model = program.FORMS[variant](4, 2, 3, "tanh").double()
    x, following = tg.randn(2, 4).double(), tg.randn(2, 2).double()
    names = [name for name, _ in model.named_parameters()]

    def loss(*values: tg.Tensor) -> tg.Tensor:
        y = tg.func.functional_call(model, dict(zip(names, values)), (x,))
        return ((y - model.target(x, following)) ** 2).mean()

    assert gradcheck(loss, tuple(p.detach().requires_grad_() for p in model.parameters()))


def test_targets_are_the_values_one_step_later() -> None:
    x, following = tg.tensor([[1.0, 2.0, 3.0]]), tg.tensor([[4.0, 5.0]])
    targets = {v: form(3, 2, 1, "tanh").target(x, following).tolist() for v, form in program.FORMS.items()}
    assert targets["many-to-many"] == targets["previous-state"] == [[2.0, 3.0, 4.0]]
    assert targets["many-to-one"] == [[4.0]] and targets["one-to-many"] == [[4.0, 5.0]]


@pytest.mark.parametrize("growth", [False, True])
def test_what_is_seen_becomes_the_values_again(growth: bool) -> None:
    values = np.exp(np.linspace(0, 2, 80)) + np.sin(np.arange(80))
    values -= values.min() - 1
    series = program.Series(np.arange(80.0), values, growth, 6, 3, ("value", "値"))
    train, valid, test = series.windows()
    last, truth = series.test_values(3)
    assert len(test) == len(last) and truth[-1].tolist() == values[-3:].tolist()
    np.testing.assert_allclose(series.as_values(test.tensors[1].numpy(), last), truth, rtol=1e-4)
    first, second = series.bounds
    assert (len(train), len(valid)) == (first - 8, second - first - 2)


def test_a_quick_run_predicts_better_than_persistence(tmp_path: Path) -> None:
    results = run(tmp_path, "--epochs", "8")
    assert results["data"] == "synthetic"
    assert results["rmse_many_to_many"] < results["rmse_persistence"]
    assert results["rmse_one_to_many"] < results["rmse_persistence_long"]
    assert {"prediction.png", "continuation.png", "results.json", *program.VARIANTS} <= {p.name for p in tmp_path.iterdir()}


@pytest.mark.parametrize("activation", FUNCTIONS)
@pytest.mark.parametrize("variant", program.VARIANTS)
def test_one_form_alone_runs(tmp_path: Path, variant: str, activation: str) -> None:
    results = run(tmp_path, "--variant", variant, "--activation", activation, "--epochs", "1", "--hidden", "4")
    rmse = [name for name in results if name.startswith("rmse")]
    assert len(rmse) == 2 and np.isfinite([results[name] for name in rmse]).all()
    assert (tmp_path / ("continuation.png" if variant == "one-to-many" else "prediction.png")).exists()


def test_a_compiled_run_gives_the_same_losses(tmp_path: Path) -> None:
    for name, more in (("plain", []), ("compiled", ["--compile"])):
        run(tmp_path / name, "--epochs", "2", *more)
    for variant in program.VARIANTS:
        both = [losses(tmp_path / name / variant) for name in ("plain", "compiled")]
        np.testing.assert_allclose(*both, rtol=1e-3)


def test_a_resumed_run_ends_the_same(tmp_path: Path) -> None:
    base = ["--variant", "many-to-one"]
    whole = run(tmp_path / "whole", "--epochs", "2", *base)
    run(tmp_path / "parts", "--epochs", "1", *base)
    parts = run(tmp_path / "parts", "--epochs", "2", "--resume", *base)
    assert parts["rmse_many_to_one"] == whole["rmse_many_to_one"]
