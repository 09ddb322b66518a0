"""Encoder and decoder: their formula, packing, teacher forcing, and the program. Without data, so on made-up pairs."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

import tinygrad_ja as tg
from models import seq2seq as program
from tinygrad_ja.data.text import pair_batch
from tinygrad_ja.errors import ArgumentError
from tinygrad_ja.nn.decoding import beam_search, greedy_search
from tinygrad_ja.training import Experiment

pytestmark = pytest.mark.usefixtures("without_data")
SMALL = ["--quick", "--hidden", "24", "--embed", "8", "--size", "600", "--batch", "50"]


def run(folder, *argv):
    return program.main([*SMALL, "--out", str(folder), *argv])


def task_of(reverse=False):
    pairs = [("12+3", "15"), ("7+8", "15"), ("100+200", "300"), ("5+0", "5")]
    return program.Task([pairs, pairs, pairs], words=False, reverse=reverse)


def model_of(task, cell="lstm", peeky=False, both_ways=False, forcing=1.0):
    tg.manual_seed(3)
    encoder = program.Encoder(len(task.source), 5, 4, cell, 0.0, both_ways)
    decoder = program.Decoder(len(task.target), 5, 4, cell, 0.0, peeky)
    return program.Seq2seq(encoder, decoder, forcing).double()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_step(p, name, x, h, c):
    u = p[f"{name}.weight_ih_l0"] @ x + p[f"{name}.bias_ih_l0"] + p[f"{name}.weight_hh_l0"] @ h + p[f"{name}.bias_hh_l0"]
    i, f, g, o = np.split(u, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def reference(p, source, given, peeky):
    """Scores (T, V) for one pair, by the formulas at the top of the program, in plain NumPy."""
    h, c = np.zeros(4), np.zeros(4)
    for word in source:
        h, c = lstm_step(p, "encoder.rnn", p["encoder.embedding.weight"][word], h, c)
    sentence, scores = h, []
    for word in given:
        x = p["decoder.embedding.weight"][word]
        h, c = lstm_step(p, "decoder.rnn", np.r_[sentence, x] if peeky else x, h, c)
        out = np.r_[sentence, h] if peeky else h
        scores.append(p["decoder.affine.weight"] @ out + p["decoder.affine.bias"])
    return np.array(scores)


@pytest.mark.parametrize("peeky", [False, True])
def test_the_model_is_the_formula_for_sentences_of_every_length(peeky):
    task = task_of()
    model = model_of(task, peeky=peeky)
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    batch, order = pair_batch(task.train, task.source, task.target)
    scores = model(batch.source, batch.given).detach().numpy()
    for column, i in enumerate(order):
        source, target = task.train[i]
        given = task.target.encode(target, bos=True)
        expected = reference(p, task.source.encode(source), given, peeky)
        np.testing.assert_allclose(scores[: len(given), column], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("both_ways", [False, True])
def test_padding_changes_nothing(cell, both_ways):
    task = task_of()
    model = model_of(task, cell, both_ways=both_ways)
    loss = program.loss_of(model, task.target.pad)
    batch, order = pair_batch(task.train, task.source, task.target, multiple=4)
    alone, words = 0.0, 0
    for i in order:
        one, _ = pair_batch([task.train[i]], task.source, task.target)
        alone += loss(one).item() * one.answer.numel()
        words += one.answer.numel()
    assert loss(batch).item() == pytest.approx(alone / words, rel=1e-9)


def test_the_gradient_is_that_of_the_loss():
    task = task_of()
    model = model_of(task, "gru", peeky=True)
    loss = program.loss_of(model, task.target.pad)
    batch, _ = pair_batch(task.train, task.source, task.target)
    loss(batch).backward()
    for p in model.parameters():
        direction = tg.randn(*p.shape, dtype=tg.float64)
        slope = (p.grad * direction).sum().item()
        ends = []
        for sign in (1, -1):
            with tg.no_grad():
                p.add_(sign * 1e-5 * direction)
                ends.append(loss(batch).item())
                p.add_(-sign * 1e-5 * direction)
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-9)


def test_without_teacher_forcing_the_decoder_reads_what_it_writes():
    task = task_of()
    batch, _ = pair_batch(task.train, task.source, task.target)
    model = model_of(task, forcing=0.0)
    other = batch.given.clone()
    other[1:] = task.target.pad
    free = model(batch.source, batch.given).detach().numpy()
    np.testing.assert_array_equal(free, model(batch.source, other).detach().numpy())
    words = np.concatenate([batch.given[:1].numpy(), free.argmax(2)[:-1]])
    np.testing.assert_allclose(model.eval()(batch.source, tg.tensor(words)).detach().numpy(), free, rtol=1e-9, atol=1e-12)


def test_teacher_forcing_is_a_matter_of_chance_in_training_only():
    task = task_of()
    batch, _ = pair_batch(task.train, task.source, task.target)
    model = model_of(task, forcing=0.5)
    forced = model_of(task, forcing=1.0)(batch.source, batch.given).detach().numpy()
    drawn = [model(batch.source, batch.given).detach().numpy() for _ in range(6)]
    np.testing.assert_allclose(drawn[0][0], forced[0], rtol=1e-9, atol=1e-12)  # the first word is BOS in any case
    assert not all(np.allclose(scores, drawn[0]) for scores in drawn)
    np.testing.assert_allclose(model.eval()(batch.source, batch.given).detach().numpy(), forced, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("search", [greedy_search, beam_search])
def test_what_is_written_is_in_the_order_of_the_pairs(search):
    task = task_of()
    model = model_of(task)
    together = program.write(model, task, task.test, "cpu", search)
    assert together == [program.write(model, task, [pair], "cpu", search)[0] for pair in task.test]
    assert model.training


def test_a_reversed_source_is_turned_round_and_words_that_occur_once_are_unknown():
    assert task_of(reverse=True).train[0] == (list("3+21"), list("15"))
    pairs = [("a b", "x y"), ("a c", "x z")]
    task = program.Task([pairs, pairs[:1], pairs[:1]], words=True)
    assert "a" in task.source and "b" not in task.source and task.source.encode(["b"]) == [task.source.unk]


def test_a_part_without_pairs_is_refused():
    pairs = [("1+1", "2")]
    with pytest.raises(ArgumentError, match=r"numbers of pairs = \[0, 1, 1\] is not allowed"):
        program.Task([[], pairs, pairs], words=False)


def test_the_program_learns(tmp_path, capsys):
    results = run(tmp_path, "--task", "addition", "--reverse", "--peeky", "--size", "2000", "--lr", "0.02")
    made = json.loads((tmp_path / "results.json").read_text())
    assert made["valid_loss"] == results["valid_loss"] and made["data"] == "synthetic"
    assert {"curves.png", "lengths.png", "results.json"} <= {path.name for path in tmp_path.iterdir()}
    assert "answers right in every character" in capsys.readouterr().out
    numbers = [*program.synthetic.Additions(2000, generator=tg.Generator().manual_seed(1))]
    found = Counter(letter for _, answer in numbers for letter in [*answer, "EOS"])
    shares = np.array([*found.values()]) / sum(found.values())
    assert results["valid_loss"] < -0.85 * (shares * np.log(shares)).sum()  # clearly better than how often a letter occurs


@pytest.mark.parametrize(
    "options", [["--task", "dates", "--cell", "gru", "--bidirectional"], ["--task", "translation", "--cell", "rnn"]]
)
def test_other_tasks_run(tmp_path, options):
    results = run(tmp_path, *options, "--teacher-forcing", "0.5", "--epochs", "1")
    assert np.isfinite(results["valid_loss"])
    names = {"exact_match"} if "dates" in options else {"bleu", "bleu_greedy", "bleu_characters", "bleu_short"}
    assert names <= set(results)


def test_the_defaults_are_those_of_the_task(capsys):
    with pytest.raises(SystemExit):
        program.main(["--task", "translation", "--help"])
    assert "(default gru)" in capsys.readouterr().out


def test_plain_sgd_learns_at_its_own_rate(tmp_path, capsys):
    with pytest.raises(SystemExit):
        program.main(["--optimizer", "sgd", "--help"])
    assert "(default 0.5)" in capsys.readouterr().out
    first, last = (run(tmp_path / e, "--optimizer", "sgd", "--epochs", e)["valid_loss"] for e in ("1", "6"))
    assert last < 0.9 * first


def test_a_run_that_goes_on_ends_the_same(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", "--epochs", "2")
    complete = Experiment.train
    monkeypatch.setattr(Experiment, "train", lambda self, trainer: complete(self, trainer, iterations=17))
    run(tmp_path / "parts", "--epochs", "2")
    monkeypatch.setattr(Experiment, "train", complete)
    resumed = run(tmp_path / "parts", "--epochs", "2", "--resume")
    for name in ("valid_loss", "exact_match", "steps", "samples"):
        assert resumed[name] == whole[name]


def test_a_compiled_step_gives_the_same(tmp_path):
    plain, compiled = (run(tmp_path / str(i), "--epochs", "1", *more) for i, more in enumerate(([], ["--compile"])))
    assert compiled["valid_loss"] == pytest.approx(plain["valid_loss"], rel=1e-3)
