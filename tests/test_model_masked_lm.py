"""The masked language model: what is hidden, what is scored, its features, and the program."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinygrad_ja as tg
from models import masked_lm as program
from models.transformer import Size
from tinygrad_ja.data.text import Vocabulary

SIZE = Size(16, 32, 4, 2)


def new_model(words=20):
    tg.manual_seed(0)
    return program.MaskedLM(words, SIZE, dropout=0.0).double()


# ---- the network ---------------------------------------------------------------------------------


def test_scores_are_the_formula_on_the_encoder_s_output():
    model = new_model()
    tokens, places = tg.tensor([[3, 2, 5], [6, 7, 0]]), tg.tensor([1, 3])
    h = model.encode(tokens).detach().numpy().reshape(6, 16)[[1, 3]]
    linear, _, norm = model.transform
    inner = tg.nn.functional.gelu(tg.tensor(h) @ linear.weight.T + linear.bias).detach().numpy()
    inner = (inner - inner.mean(-1, keepdims=True)) / np.sqrt(inner.var(-1, keepdims=True) + 1e-5)
    inner = inner * norm.weight.detach().numpy() + norm.bias.detach().numpy()
    expected = inner @ model.embedding.weight.detach().numpy().T + model.bias.detach().numpy()
    np.testing.assert_allclose(model(tokens, places).detach().numpy(), expected, rtol=1e-9, atol=1e-12)


def test_both_sides_of_a_hidden_word_matter_and_filling_does_not():
    model = new_model()
    place = tg.tensor([1])
    scores = [model(tg.tensor([words]), place).detach().numpy() for words in ([3, 2, 5], [4, 2, 5], [3, 2, 6], [3, 2, 5, 0, 0])]
    assert abs(scores[0] - scores[1]).max() > 1e-3 and abs(scores[0] - scores[2]).max() > 1e-3
    np.testing.assert_allclose(scores[3], scores[0], rtol=1e-9)


def test_features_are_the_mean_over_the_words():
    model = new_model()
    h = model.encode(tg.tensor([[3, 4, 5]])).detach().numpy()[0]
    np.testing.assert_allclose(model.features(tg.tensor([[3, 4, 5, 0]])).detach().numpy()[0], h.mean(0), rtol=1e-9)


# ---- the data ------------------------------------------------------------------------------------


def vocabulary():
    words = [chr(code) for code in range(97, 117)]
    return words, Vocabulary([words], specials=program.SPECIALS)


def test_batches_hide_words_and_remember_which():
    words, known = vocabulary()
    sentences = [[words[(start + i) % 20] for i in range(8 + start % 8)] for start in range(200)]
    loader = program.loader_of(known, sentences, 240, "cpu", seed=0, shuffle=True)
    chosen = seen = 0
    for masked, places, hidden in loader:
        assert masked.shape[1] in (12, 20) and places.shape == hidden.shape == (masked.numel() // 5,)
        real = hidden.numpy() != -100
        read = masked.numpy().reshape(-1)[places.numpy()[real]]
        assert (np.diff(places.numpy()[real]) > 0).all() and (read != known.pad).all()
        chosen += real.sum()
        seen += int((masked.numpy() != known.pad).sum())
        hidden_words = read == known.special("mask")
        assert hidden_words.mean() > 0.4
    assert chosen / seen == pytest.approx(0.15, abs=0.03)


def test_the_loss_counts_hidden_words_alone():
    model = new_model()
    tokens, places = tg.tensor([[3, 2, 5]]), tg.tensor([1, 0, 0])
    scores = model(tokens, places).detach().numpy()
    values = program.measure(model, (tokens, places, tg.tensor([7, -100, -100])))
    logs = scores[0] - np.log(np.exp(scores[0]).sum())
    assert values["loss"].item() == pytest.approx(-logs[7])
    assert values["accuracy"].item() == float(scores[0].argmax() == 7)


def test_a_batch_in_which_chance_hides_no_word_costs_nothing():
    model = new_model()
    values = program.measure(model, (tg.tensor([[3, 2, 5]]), tg.tensor([0, 0]), tg.tensor([-100, -100])))
    values["loss"].backward()
    assert values["loss"].item() == values["accuracy"].item() == 0.0
    assert all(p.grad is None or not p.grad.numpy().any() for p in model.parameters())


def test_texts_are_cut_into_sentences():
    assert program.cut("a b c d . e f . g h i j ! k".split()) == ["a b c d .".split(), "g h i j !".split()]
    assert [len(part) for part in program.cut(["x"] * 120)] == [56, 56, 8]
    assert [program.polarity(label) for label in range(5)] == [0, 0, -1, 1, 1]


# ---- the program ---------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_data(monkeypatch, tmp_path_factory):
    """An empty folder for the data, so that the made-up sentences are used and nothing is fetched."""
    empty = str(tmp_path_factory.mktemp("empty"))
    monkeypatch.setenv("TINYGRAD_JA_DATA", empty)
    monkeypatch.setenv("XDG_CACHE_HOME", empty)
    monkeypatch.setenv("TINYGRAD_JA_LANG", "en")


@pytest.fixture
def one_shape(monkeypatch):
    """All sentences filled up to one length: one program for all batches."""
    monkeypatch.setattr(program, "LENGTHS", [(56,)])


def run(folder, *argv):
    return program.main(["--quick", "--out", str(folder), "--tokens", "1800", *argv])


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_run_learns_and_a_resumed_one_ends_the_same(tmp_path, capsys, one_shape):
    whole = run(tmp_path, "--epochs", "4")
    assert whole["data"] == "synthetic" and whole["accuracy"] > 1.2 * whole["usual"]
    assert losses(tmp_path)[-1] < losses(tmp_path)[0]
    for name in ("guesses.png", "words.png", "features.png", "curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert "hidden words guessed" in capsys.readouterr().out
    max(tmp_path.glob("checkpoint-*.safetensors")).unlink()
    resumed = run(tmp_path, "--epochs", "4", "--resume")
    for name in ("steps", "loss", "accuracy", "sst", "sst_random", "guesses"):
        assert resumed[name] == whole[name]


def test_the_results_name_every_corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "real_texts", lambda others, **where: program.synthetic_texts())
    for corpus, names in (("sst", "sst"), ("all", "sst, wikitext2, novels")):
        assert run(tmp_path / corpus, "--epochs", "0", "--corpus", corpus)["data"] == names


def test_compiled_losses_are_the_same(tmp_path, one_shape):
    run(tmp_path / "plain", "--epochs", "2")
    run(tmp_path / "compiled", "--epochs", "2", "--compile")
    np.testing.assert_allclose(losses(tmp_path / "compiled"), losses(tmp_path / "plain"), rtol=1e-3)
