"""``models/bptt_check.py``: tape and formulas agree, formulas with a slip do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
from models import bptt_check as program
from tinygrad_ja.errors import ArgumentError


@pytest.fixture(autouse=True)
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither data sets nor a network."""
    monkeypatch.delenv("TINYGRAD_JA_DATA", raising=False)
    monkeypatch.setenv("TINYGRAD_JA_CACHE", str(tmp_path / "cache"))


def example(activation: str, loss: str, steps: int = 12) -> tuple[program.Network, tg.Tensor, tg.Tensor]:
    tg.manual_seed(1)
    network = program.Network(3, 5, 4, activation).double()
    x, d = tg.randn(steps, 3).double(), tg.randn(steps, 4).double()
    if loss == "cross-entropy":
        d = tg.tensor(np.eye(4)[np.arange(steps) % 4])
    return network, x, d


@pytest.mark.parametrize("activation", program.FUNCTIONS)
@pytest.mark.parametrize("loss", program.LOSSES)
def test_the_tape_equals_the_formulas_and_no_slip_does(activation: str, loss: str) -> None:
    made = program.check(*example(activation, loss), loss)
    assert set(made.differences) == {"W_in", "W", "b", "W_out", "c", "double"}
    assert max(made.differences.values()) < 1e-12
    assert set(made.slips) == set(program.SLIPS) and min(made.slips.values()) > 1e-3


@pytest.mark.parametrize("loss", program.LOSSES)
def test_the_network_is_the_formula(loss: str) -> None:
    network, x, d = example("sigmoid", loss)
    p = {name: value.detach().numpy() for name, value in network.named.items()}
    numbers = program.forward_numbers(p, x.numpy(), d.numpy(), "sigmoid", loss)
    v = network(x.unsqueeze(1)).squeeze(1)
    np.testing.assert_allclose(numbers.z[1:] @ p["W_out"].T + p["c"], v.detach().numpy(), rtol=1e-12)
    (g,) = tg.grad(program.LOSSES[loss](v, d), v)
    np.testing.assert_allclose(numbers.delta_out, g.numpy(), rtol=1e-10, atol=1e-14)


def test_the_slopes_are_the_derivatives() -> None:
    u = np.array([-2.0, -0.5, 0.3, 1.7])
    for name, f in program.FUNCTIONS.items():
        np.testing.assert_allclose(program.SLOPES[name](u), (f(u + 1e-6) - f(u - 1e-6)) / 2e-6, atol=1e-8)


def test_no_error_reaches_a_later_step_and_sigmoid_forgets() -> None:
    norms = program.check(*example("sigmoid", "squared-error"), "squared-error").norms
    assert not np.triu(norms, 1).any() and (np.diag(norms) > 0).all()
    assert norms[-1, 0] < norms[-1, -1] * 0.25**8


def test_a_quick_run_checks_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = program.main(["--quick", "--epochs", "1", "--out", str(tmp_path)])
    assert results["data"] == "synthetic" and results["largest"] < 1e-11
    assert min(results[f"slip_{name}"] for name in program.SLIPS) > 1e-6
    assert len(results["differences"]) == 6
    assert {"deltas-squared-error.png", "deltas-cross-entropy.png"} <= {path.name for path in tmp_path.iterdir()}
    printed = capsys.readouterr().out
    assert printed.count("squared-error, ") == printed.count("cross-entropy, ") == 6


def test_sequences_longer_than_the_data_are_refused(tmp_path: Path) -> None:
    assert len(program.in_sequences(np.zeros((31, 1)), 30)) == 1
    with pytest.raises(ArgumentError, match="--steps = 31 is not allowed.*at most 30, for 31 rows"):
        program.in_sequences(np.zeros((31, 1)), 31)
    with pytest.raises(ArgumentError, match="--steps = 1 is not allowed.*at least 2"):
        program.main(["--quick", "--steps", "1", "--out", str(tmp_path)])


def trained(out: Path, *argv: str) -> dict[str, np.ndarray]:
    """The weights at the end of a run of one loss and one activation."""
    run = program.Experiment("bptt_check", program.TITLE, program.OPTIONS, ["--out", str(out), *argv])
    sequences = program.in_sequences(program.months(np.sin(np.arange(600.0))), run.options.steps)
    program.before_and_after(run, "squared-error", "tanh", sequences)
    newest = max((out / "squared-error-tanh").glob("checkpoint-*.safetensors"))
    return {name: value.numpy() for name, value in tg.load(newest)["model"].items()}


def test_resumed_and_compiled_runs_end_the_same(tmp_path: Path) -> None:
    whole: dict[str, Any] = trained(tmp_path / "whole", "--epochs", "4")
    trained(tmp_path / "parts", "--epochs", "2")
    parts = trained(tmp_path / "parts", "--epochs", "4", "--resume")
    compiled = trained(tmp_path / "compiled", "--epochs", "4", "--compile")
    for name in whole:
        np.testing.assert_array_equal(parts[name], whole[name])
        np.testing.assert_allclose(compiled[name], whole[name], rtol=1e-9, atol=1e-12)


def test_the_results_are_written(tmp_path: Path) -> None:
    results = program.main(["--quick", "--epochs", "0", "--hidden", "4", "--steps", "8", "--out", str(tmp_path)])
    assert json.loads((tmp_path / "results.json").read_text())["largest"] == results["largest"] < 1e-12
