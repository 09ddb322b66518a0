"""``models/dense.py``: the affine layer in both forms, and the perceptron made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from models import dense


@pytest.fixture(autouse=True)
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither data sets nor a network."""
    monkeypatch.delenv("TINYGRAD_JA_DATA", raising=False)
    monkeypatch.setenv("TINYGRAD_JA_CACHE", str(tmp_path / "cache"))


def run(out: Path, *argv: str) -> dict[str, Any]:
    return dense.main(["--quick", "--out", str(out), *argv])


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def test_both_forms_are_the_formula() -> None:
    tg.manual_seed(0)
    layer, x = dense.Affine(3, 2).double(), tg.randn(5, 3).double()
    layer.b.data.normal_()
    W, b = layer.W.detach().numpy(), layer.b.detach().numpy()
    expected = np.stack([W @ row + b for row in x.numpy()])
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-14)
    other = dense.OneMatrix(3, 2).double()
    other.load_state_dict({"M": dense.matrix_of(layer)})
    np.testing.assert_allclose(other(x).detach().numpy(), expected, rtol=1e-14)


def test_gradients_of_both_forms_are_the_same_numbers() -> None:
    tg.manual_seed(0)
    model = dense.MLP([6, 5, 4, 3])
    assert model.sizes == dense.in_form(model, "matrix").sizes == [6, 5, 4, 3]
    in_values, in_gradients = dense.differences(model, tg.randn(7, 6), tg.tensor([0, 1, 2, 0, 1, 2, 0]))
    assert in_values < 1e-14 and in_gradients < 1e-13


def test_the_gradient_of_w_and_b_is_that_of_the_textbook() -> None:
    """∂E/∂W = Σ δ xᵀ and ∂E/∂b = Σ δ, where δ = ∂E/∂y is softmax(y) less the one at the class."""
    tg.manual_seed(0)
    layer, x, target = dense.Affine(4, 3).double(), tg.randn(6, 4).double(), np.array([0, 2, 1, 1, 0, 2])
    y = layer(x)
    F.cross_entropy(y, tg.tensor(target), reduction="sum").backward()
    delta = tg.softmax(y, 1).detach().numpy() - np.eye(3)[target]
    np.testing.assert_allclose(layer.W.grad.numpy(), delta.T @ x.numpy(), rtol=1e-12)
    np.testing.assert_allclose(layer.b.grad.numpy(), delta.sum(0), rtol=1e-12)


def test_a_quick_run_learns_and_writes_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = run(tmp_path, "--epochs", "3")
    assert results["data"] == "synthetic" and results["accuracy"] > 0.5
    assert results["value_difference"] < 1e-13 and results["gradient_difference"] < 1e-12
    names = {"weights.png", "matrix.png", "mistakes.png", "confusion.png", "curves.png", "results.json"}
    assert names <= {path.name for path in tmp_path.iterdir()}
    assert "mnist" in capsys.readouterr().err


def test_both_forms_learn_alike(tmp_path: Path) -> None:
    accuracies = [run(tmp_path / form, "--form", form, "--epochs", "1")["accuracy"] for form in ("affine", "matrix")]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.01)
    np.testing.assert_allclose(losses(tmp_path / "affine"), losses(tmp_path / "matrix"), rtol=1e-4)


def test_a_compiled_run_gives_the_same_losses(tmp_path: Path) -> None:
    run(tmp_path / "plain")
    run(tmp_path / "compiled", "--compile")
    np.testing.assert_allclose(losses(tmp_path / "compiled"), losses(tmp_path / "plain"), rtol=1e-3)


def test_a_resumed_run_ends_the_same(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", "--epochs", "2")
    run(tmp_path / "parts", "--epochs", "1")
    parts = run(tmp_path / "parts", "--epochs", "2", "--resume")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole") and parts["accuracy"] == whole["accuracy"]


def test_sizes_of_one_hidden_layer_work(tmp_path: Path) -> None:
    assert run(tmp_path, "--layers", "1", "--hidden", "8", "--epochs", "1")["parameters"] == 785 * 8 + 9 * 10
