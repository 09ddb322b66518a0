"""Attention: each score against its formula and the framework's layers, the decoder step by step, and the program. Without data."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinygrad_ja as tg
from models import attention as program
from models import seq2seq
from tinygrad_ja import nn
from tinygrad_ja.data.text import pair_batch
from tinygrad_ja.nn.decoding import beam_search, greedy_search
from tinygrad_ja.training import Experiment, experiment

pytestmark = pytest.mark.usefixtures("without_data")
SMALL = ["--quick", "--hidden", "24", "--embed", "8", "--size", "400", "--batch", "50"]
KINDS = list(program.KINDS)


def run(folder, *argv):
    return program.main([*SMALL, "--out", str(folder), *argv])


def softmax(e):
    p = np.exp(e - e.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def score(kind, p, q, h):
    """a(q, h) for one query and one state."""
    if kind == "dot":
        return q @ h
    if kind == "general":
        return h @ p["W.weight"].T @ q
    if kind == "bahdanau":
        return p["v.weight"][0] @ np.tanh(p["W.weight"] @ q + p["U.weight"] @ h + p["U.bias"])
    if kind == "concat":
        return p["v.weight"][0] @ np.tanh(p["W.weight"] @ np.r_[q, h])
    return (p["W_Q.weight"] @ q) @ (p["W_K.weight"] @ h) / np.sqrt(len(h))


@pytest.mark.parametrize("kind", KINDS)
def test_contexts_and_weights_are_the_formula(kind):
    tg.manual_seed(0)
    layer = program.KINDS[kind](4).double()
    p = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    q, h = (tg.randn(2, n, 4, dtype=tg.float64) for n in (3, 5))
    padding = tg.tensor([[False] * 5, [False, False, False, True, True]])
    context, weights = layer(q, *layer.prepare(h), padding)
    for n in range(2):
        kept = 5 if n == 0 else 3
        values = h.numpy()[n] @ p["W_V.weight"].T if kind == "scaled" else h.numpy()[n]
        for t in range(3):
            alpha = softmax(np.array([score(kind, p, q.numpy()[n, t], h.numpy()[n, j]) for j in range(kept)]))
            np.testing.assert_allclose(weights[n, t].detach().numpy(), np.r_[alpha, np.zeros(5 - kept)], rtol=1e-9, atol=1e-15)
            np.testing.assert_allclose(context[n, t].detach().numpy(), alpha @ values[:kept], rtol=1e-9)


def test_the_layers_of_the_framework_say_the_same():
    q, h = tg.randn(2, 3, 4), tg.randn(2, 5, 4)
    padding = tg.tensor([[False] * 5, [False, True, False, True, True]])
    mine, theirs = program.Additive(4), nn.AdditiveAttention(4, 4, 4, bias=True)
    pairs = [(theirs.query_proj.weight, mine.W.weight), (theirs.key_proj.weight, mine.U.weight)]
    pairs += [(theirs.key_proj.bias, mine.U.bias), (theirs.weight, mine.v.weight[0])]
    cases = [(mine, theirs, pairs)]
    mine, theirs = program.General(4), nn.LuongAttention(4, method="general")
    cases += [(mine, theirs, [(theirs.weight, mine.W.weight)]), (program.Dot(4), nn.LuongAttention(4, method="dot"), [])]
    mine, theirs = program.Concat(4), nn.LuongAttention(4, method="concat")
    cases += [(mine, theirs, [(theirs.weight, mine.W.weight), (theirs.v, mine.v.weight[0])])]
    for mine, theirs, pairs in cases:
        with tg.no_grad():
            for to, given in pairs:
                to.copy_(given)
        for a, b in zip(mine(q, *mine.prepare(h), padding), theirs(q, h, key_padding_mask=padding)):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-4, atol=1e-6)


def task_of():
    pairs = [("12+3", "15"), ("7+8", "15"), ("100+200", "300"), ("5+0", "5")]
    return seq2seq.Task([pairs, pairs, pairs], words=False)


def model_of(task, kind, cell="gru", forcing=1.0, encoder=seq2seq.Encoder):
    tg.manual_seed(3)
    decoder = program.AttentionDecoder(len(task.target), 5, 4, cell, 0.0, kind)
    return seq2seq.Seq2seq(encoder(len(task.source), 5, 4, cell), decoder, forcing).double()


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing_and_gradients_are_those_of_the_loss(kind, cell):
    task = task_of()
    model = model_of(task, kind, cell)
    loss = seq2seq.loss_of(model, task.target.pad)
    batch, order = pair_batch(task.train, task.source, task.target, multiple=4)
    alone, words = 0.0, 0
    for i in order:
        one, _ = pair_batch([task.train[i]], task.source, task.target)
        alone += loss(one).item() * one.answer.numel()
        words += one.answer.numel()
    assert loss(batch).item() == pytest.approx(alone / words, rel=1e-9)
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
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_all_words_at_once_are_as_one_after_another(kind):
    task = task_of()
    model = model_of(task, kind).eval()
    batch, _ = pair_batch(task.train, task.source, task.target)
    together, end = model.decoder(batch.given, model.read(batch.source))
    assert end["weights"].shape == (4, len(batch.given), 7)
    np.testing.assert_allclose(end["weights"].detach().sum(2).numpy(), 1.0, rtol=1e-9)
    state, scores = model.read(batch.source), []
    for at, words in enumerate(batch.given):
        made, state = model.step(words, state)
        scores.append(made.detach().numpy())
        np.testing.assert_allclose(state["weights"][:, 0].detach().numpy(), end["weights"][:, at].detach().numpy(), rtol=1e-8)
    np.testing.assert_allclose(together.detach().numpy(), np.stack(scores), rtol=1e-8, atol=1e-12)


def test_bahdanau_looks_before_the_step_and_luong_after_it():
    task = task_of()
    batch, _ = pair_batch(task.train, task.source, task.target)
    for kind, same in (("bahdanau", True), ("concat", False)):
        model = model_of(task, kind)
        other = batch.given.clone()
        other[0] = task.target.unk
        first, second = (model.decoder(given, model.read(batch.source))[1]["weights"][:, 0] for given in (batch.given, other))
        assert np.allclose(first.detach().numpy(), second.detach().numpy()) == same


@pytest.mark.parametrize("search", [greedy_search, beam_search])
@pytest.mark.parametrize("kind", ["bahdanau", "scaled"])
def test_searches_carry_the_state_along(kind, search):
    task = task_of()
    model = model_of(task, kind)
    together = seq2seq.write(model, task, task.test, "cpu", search)
    assert together == [seq2seq.write(model, task, [pair], "cpu", search)[0] for pair in task.test]


def test_self_attention_ignores_padding():
    task = task_of()
    model = model_of(task, "dot", encoder=program.SelfAttentiveEncoder)
    batch, order = pair_batch(task.train, task.source, task.target)
    outputs, _, padding = model.encoder(batch.source)
    plain, _, _ = seq2seq.Encoder.forward(model.encoder, batch.source)
    found, weights = model.encoder.look(plain, padding)
    np.testing.assert_allclose(outputs.detach().numpy(), (plain + found).detach().numpy(), rtol=1e-9)
    for row, i in enumerate(order):
        length = len(task.train[i][0])
        assert not weights[row, :, length:].detach().numpy().any()
        alone, _, _ = model.encoder(pair_batch([task.train[i]], task.source, task.target)[0].source)
        np.testing.assert_allclose(outputs[row, :length].detach().numpy(), alone[0].detach().numpy(), rtol=1e-8)


def test_the_program_learns_dates(tmp_path):
    results = run(tmp_path, "--size", "1500", "--hidden", "32")
    made = json.loads((tmp_path / "results.json").read_text())
    assert made["valid_loss"] == results["valid_loss"] and made["data"] == "synthetic"
    assert {"attention.png", "curves.png", "lengths.png"} <= {path.name for path in tmp_path.iterdir()}
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert results["valid_loss"] < 0.8 * rows[0]["loss"]


@pytest.mark.parametrize("kind", ["bahdanau", "scaled"])
def test_translation_runs(tmp_path, monkeypatch, kind):
    drawn, save = {}, experiment.save_figure
    monkeypatch.setattr(experiment, "save_figure", lambda figure, path: (drawn.update({path.name: figure}), save(figure, path)))
    results = run(
        tmp_path, "--task", "translation", "--attention", kind, "--self-attention", "--epochs", "1", "--bidirectional"
    )
    assert {"bleu", "bleu_greedy", "bleu_characters", "bleu_short"} <= set(results)
    assert (tmp_path / "self_attention.png").exists()
    for name, rows, columns in (("attention", "written", "source"), ("self_attention", "word that looks", "word looked at")):
        axes = drawn[f"{name}.png"].axes
        assert (axes[0].get_ylabel(), axes[0].get_xlabel()) == (rows, columns)
        assert axes[0].images[0].get_clim() == (0.0, 1.0) and axes[-1].get_ylabel() == "weight"  # the colour bar


def test_a_run_that_goes_on_ends_the_same(tmp_path, monkeypatch):
    options = ["--task", "addition", "--epochs", "2", "--dropout", "0.1"]
    whole = run(tmp_path / "whole", *options)
    complete = Experiment.train
    monkeypatch.setattr(Experiment, "train", lambda self, trainer: complete(self, trainer, iterations=11))
    run(tmp_path / "parts", *options)
    monkeypatch.setattr(Experiment, "train", complete)
    resumed = run(tmp_path / "parts", *options, "--resume")
    for name in ("valid_loss", "exact_match", "steps", "samples"):
        assert resumed[name] == whole[name]


@pytest.mark.parametrize("kind", ["bahdanau", "general"])
def test_a_compiled_step_gives_the_same(tmp_path, kind):
    options = ["--task", "addition", "--epochs", "1", "--attention", kind]
    plain, compiled = (run(tmp_path / str(i), *options, *more) for i, more in enumerate(([], ["--compile"])))
    assert compiled["valid_loss"] == pytest.approx(plain["valid_loss"], rel=1e-3)
