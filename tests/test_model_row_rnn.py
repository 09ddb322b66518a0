"""Digits read row by row: the formulas, what the pictures are drawn from, and that it learns, resumes and compiles."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinygrad_ja as tg
from models import row_rnn as program

T, N, D, H = 5, 3, 4, 6
SHORT = ["--quick", "--hidden", "16", "--epochs", "1", "--batch", "100"]


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


def run(folder, *argv):
    return program.main([*SHORT, *argv, "--out", str(folder)])


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(autouse=True)
def few_made_up_digits(monkeypatch, tmp_path):
    """Neither files nor network, and few digits."""
    for name in ("TINYGRAD_JA_DATA", "TINYGRAD_JA_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    made = program.made_up_digits((1500, 200))
    monkeypatch.setattr(program, "made_up_digits", lambda: made)


def rnn_step(w, x, h, c):
    h = np.tanh(x @ w["weight_ih_l0"].T + w["bias_ih_l0"] + h @ w["weight_hh_l0"].T + w["bias_hh_l0"])
    return h, c


def lstm_step(w, x, h, c):
    i, f, g, o = np.split(x @ w["weight_ih_l0"].T + w["bias_ih_l0"] + h @ w["weight_hh_l0"].T + w["bias_hh_l0"], 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_step(w, x, h, c):
    xr, xz, xn = np.split(x @ w["weight_ih_l0"].T + w["bias_ih_l0"], 3, axis=1)
    hr, hz, hn = np.split(h @ w["weight_hh_l0"].T + w["bias_hh_l0"], 3, axis=1)
    z = sigmoid(xz + hz)
    return (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * h, c


@pytest.mark.parametrize("cell, step", [("rnn", rnn_step), ("lstm", lstm_step), ("gru", gru_step)])
def test_scores_come_from_the_last_state_of_the_formula(cell, step):
    model = program.RowClassifier(cell, H, D).double()
    w = {name.removeprefix("rnn."): p.detach().numpy() for name, p in model.named_parameters()}
    x, h, c = np.random.default_rng(0).normal(size=(T, N, D)), np.zeros((N, H)), np.zeros((N, H))
    for x_t in x:
        h, c = step(w, x_t, h, c)
    scores = h @ w["output.weight"].T + w["output.bias"]
    np.testing.assert_allclose(model(tg.tensor(x)).detach().numpy(), scores, rtol=1e-10)
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    opinions = model.opinions(tg.tensor(x)).detach().numpy()
    np.testing.assert_allclose(opinions[-1], shares, rtol=1e-10)
    np.testing.assert_allclose(opinions.sum(2), 1, rtol=1e-12)


def test_rows_are_the_time_steps():
    images = tg.randint(256, (N, 28, 28)).to(tg.uint8)
    x = program.as_steps(images).numpy()
    assert x.shape == (28, N, 28) and x.dtype == np.float32
    np.testing.assert_array_equal(x[5, 1], images.numpy()[1, 5].astype(np.float32) / 255)


def test_an_opinion_does_not_know_the_rows_below():
    model = program.RowClassifier("lstm", H, D)
    x = tg.randn(T, N, D)
    other = x.clone()
    other[3:] += 1
    one, two = model.opinions(x).detach().numpy(), model.opinions(other).detach().numpy()
    np.testing.assert_array_equal(one[:3], two[:3])
    assert (one[3:] != two[3:]).any()


def test_digits_are_chosen_by_how_wrong_the_network_was_halfway():
    opinions = np.full((4, 4, 10), 0.1)
    for index, halfway in enumerate([0.6, 0.9, 0.7, 0.8]):
        opinions[2, index, 9] = halfway
        opinions[-1, index, 3] = 0.9
    # 0: class 3, sure of 9 before; 1: class 4, still wrong at the end; 2: class 3 again, surer; 3: class 9 all along
    assert program.chosen(opinions, np.array([3, 4, 3, 9]), 2) == [2, 1]


def test_a_run_learns_and_writes_everything(tmp_path):
    results = run(tmp_path, "--epochs", "3", "--lr", "0.01")
    names = {"curves.png", "row_by_row.png", "after_row.png", "mistakes.png", "results.json", "log.csv", "log.jsonl"}
    assert names < {path.name for path in tmp_path.iterdir()}
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert results["data"] == "synthetic"
    assert len(results["accuracy_after_row"]) == 28 and results["accuracy_after_row"][-1] == results["accuracy"]
    assert results["accuracy"] > results["accuracy_after_row"][0] + 0.1  # the first row says nothing
    assert losses(tmp_path)[-1] < losses(tmp_path)[0]


@pytest.mark.parametrize("cell", ["rnn", "gru"])
def test_the_other_cells_run(tmp_path, cell):
    results = run(tmp_path, "--cell", cell)
    assert results["options"]["cell"] == cell and 0 <= results["accuracy"] <= 1


def test_a_resumed_run_ends_as_one_that_did_not_stop(tmp_path):
    whole = run(tmp_path / "a", "--epochs", "2")
    run(tmp_path / "b", "--epochs", "1")
    resumed = run(tmp_path / "b", "--epochs", "2", "--resume")
    assert resumed["accuracy_after_row"] == whole["accuracy_after_row"]
    assert losses(tmp_path / "b") == losses(tmp_path / "a")


def test_compiled_the_losses_are_the_same(tmp_path):
    run(tmp_path / "a", "--hidden", "8")
    run(tmp_path / "b", "--hidden", "8", "--compile")
    np.testing.assert_allclose(losses(tmp_path / "b"), losses(tmp_path / "a"), rtol=1e-4)
