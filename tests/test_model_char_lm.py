"""The language model of characters: its formula, the carried state, writing, and the program. Without data, so on made-up text."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinygrad_ja as tg
from models import char_lm as program
from tinygrad_ja.data.text import Vocabulary
from tinygrad_ja.errors import ArgumentError
from tinygrad_ja.nn import functional as F

pytestmark = pytest.mark.usefixtures("without_data")
SMALL = ["--quick", "--hidden", "24", "--embedding", "8", "--steps", "16", "--length", "20"]


def run(folder, *argv):
    return program.main([*SMALL, "--out", str(folder), *argv])


def model_of(cell, size=7, **options):
    tg.manual_seed(1)
    return program.RecurrentLM(size, 5, 4, cell=cell, **options).double()


def numbers(*shape, size=7):
    return np.random.default_rng(0).integers(0, size, shape)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(p, cell, x):
    """Scores (T, V) for one sequence of symbols, by the formulas in plain NumPy, from the zero state."""
    W_x, W_h, b_x, b_h = (p[f"recurrent.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    h, c = np.zeros(5), np.zeros(5)
    scores = []
    for symbol in x:
        u, v = W_x @ p["embedding.weight"][symbol] + b_x, W_h @ h + b_h
        if cell == "rnn":
            h = np.tanh(u + v)
        elif cell == "lstm":
            i, f, g, o = np.split(u + v, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            (r, z, n), (hr, hz, hn) = np.split(u, 3), np.split(v, 3)
            z = sigmoid(z + hz)
            h = z * h + (1 - z) * np.tanh(n + sigmoid(r + hr) * hn)
        scores.append(p["output.weight"] @ h + p["output.bias"])
    return np.array(scores)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_model_is_the_formula_and_carries_its_state(cell):
    model = model_of(cell)
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    x = numbers(9, 2)
    first, state = model(tg.tensor(x[:4]), model.zeros(2))
    second, _ = model(tg.tensor(x[4:]), state)
    found = tg.cat([first, second]).detach().numpy()
    for n in range(2):
        np.testing.assert_allclose(found[:, n], reference(p, cell, x[:, n]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_loss_goes_on_from_piece_to_piece_but_its_gradient_does_not(cell):
    model = model_of(cell)
    x, y = numbers(2, 8, 3)
    measure = program.CarriedLoss(model, 3)
    losses = [measure((tg.tensor(x[part]), tg.tensor(y[part])))["loss"] for part in (slice(0, 4), slice(4, 8))]
    whole = F.cross_entropy(model(tg.tensor(x), model.zeros(3))[0].flatten(0, 1), tg.tensor(y).flatten())
    assert (losses[0].item() + losses[1].item()) / 2 == pytest.approx(whole.item(), rel=1e-12)
    assert not any(part.requires_grad for part in measure.state)
    losses[1].backward()  # through the second piece alone: embeddings of symbols that it lacks get nothing
    missing = sorted(set(range(7)) - set(x[4:].flatten().tolist()))
    assert not model.embedding.weight.grad.numpy()[missing].any()
    measure.forget()
    assert not any(part.numpy().any() for part in measure.state)


def test_the_validation_loss_counts_every_symbol_once():
    model = model_of("lstm", dropout=0.5)
    text = numbers(31)
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    parts = [reference(p, "lstm", text[15 * n : 15 * n + 15]) for n in range(2)]
    scores, targets = np.concatenate(parts), text[1:]
    log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    expected = -log_p[np.arange(30), targets].mean()
    assert program.validation_loss(model, text, streams=2, steps=4) == pytest.approx(expected, rel=1e-6)
    assert model.training


def test_the_unigram_loss_is_that_of_counts_plus_one():
    found = program.unigram_loss(np.array([0, 0, 0, 1]), np.array([0, 1, 2]), 3)
    assert found == pytest.approx(-np.log([4 / 7, 2 / 7, 1 / 7]).mean())


def test_tied_weights_are_one_parameter():
    tied = program.RecurrentLM(7, 5, 5, tied=True)
    assert tied.output.weight is tied.embedding.weight
    assert len(list(tied.parameters())) == len(list(program.RecurrentLM(7, 5, 5).parameters())) - 1


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_argmax_takes_the_most_probable_symbol_each_time(cell):
    model = model_of(cell, layers=2)
    made = [3, 1]
    for _ in range(6):
        made.append(int(program.read(model, made)[0].argmax().item()))
    assert program.write(model, [3, 1], 6) == made[2:]
    assert program.write(model, [3, 1], 6, temperature=1e-4) == made[2:]


def test_sampling_is_reproducible_and_follows_the_distribution():
    model = model_of("gru")
    assert program.write(model, [2], 30, 1.0, seed=5) == program.write(model, [2], 30, 1.0, seed=5)
    assert program.write(model, [2], 30, 1.0, seed=5) != program.write(model, [2], 30, 1.0, seed=6)
    drawn = [program.write(model, [2], 1, 0.5, seed)[0] for seed in range(400)]
    expected = (program.read(model, [2])[0] / 0.5).softmax(-1).numpy()
    assert np.abs(np.bincount(drawn, minlength=7) / 400 - expected).max() < 0.08
    assert 4 not in program.write(model, [2], 60, 2.0, never=[4])


def test_a_prompt_keeps_the_known_characters():
    vocabulary = Vocabulary([list("ab\n")], specials={})
    assert vocabulary.decode(program.known("aXb\\n", vocabulary)) == ["a", "b", "\n"]
    assert len(program.known("XYZ", vocabulary)) == 1


def test_a_quick_run_learns_and_writes_everything(tmp_path, capsys):
    results = run(tmp_path, "--epochs", "2", "--lr", "0.02")
    assert results["loss"] < 0.6 * results["unigram_loss"] and results["data"] == "synthetic"
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == results
    for name in ("surprise.png", "next.png", "curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    written = (tmp_path / "samples.txt").read_text(encoding="utf-8")
    assert "==== argmax ====" in written and "==== temperature 0.8 ====" in written
    assert results["texts"]["temperature 0.8"] in capsys.readouterr().out


def test_resume_gives_the_same_end(tmp_path):
    short = ["--cell", "gru", "--dropout", "0.2"]
    whole = run(tmp_path / "whole", *short, "--epochs", "2")
    run(tmp_path / "parts", *short, "--epochs", "1")
    parts = run(tmp_path / "parts", *short, "--epochs", "2", "--resume", "--length", "20")
    assert parts["loss"] == whole["loss"] and parts["texts"] == whole["texts"]


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_a_compiled_run_has_the_same_losses(tmp_path, cell):
    options = ["--cell", cell, "--epochs", "1", "--steps", "8", "--streams", "64", "--dropout", "0.2"]
    eager = run(tmp_path / "eager", *options)
    compiled = run(tmp_path / "compiled", *options, "--compile")
    assert compiled["loss"] == pytest.approx(eager["loss"], rel=1e-3)


def test_the_training_step_is_recorded_once():
    """The state lives in the items of a list, so that a replay finds and changes it; going back to zeros asks for no new recording."""
    model = model_of("lstm")
    measure = program.CarriedLoss(model, 3)
    step = tg.compile(tg.training.Update(measure, tg.optim.AdamW(model.parameters(), lr=1e-3), clip_norm=1.0))
    x, y = numbers(2, 4, 3)
    for _ in range(8):
        step((tg.tensor(x), tg.tensor(y)))
    recordings = step.recordings
    measure.forget()
    for _ in range(4):
        step((tg.tensor(x), tg.tensor(y)))
    assert step.recordings == recordings and step.replays > 4


def test_impossible_sizes_are_refused():
    with pytest.raises(ArgumentError, match="--hidden = 0"):
        program.main(["--hidden", "0"])
