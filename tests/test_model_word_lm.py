"""The language model of words: sentences, next words, unknown words, and the program. Without data, so on made-up text."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinygrad_ja as tg
from models import word_lm as program
from models.char_lm import RecurrentLM

pytestmark = pytest.mark.usefixtures("without_data")
SMALL = ["--quick", "--hidden", "24", "--steps", "10", "--length", "8"]


def run(folder, *argv):
    return program.main([*SMALL, "--out", str(folder), *argv])


def small_model():
    tg.manual_seed(3)
    return RecurrentLM(9, 6, 6, cell="rnn").double()


def test_a_sentence_has_the_product_of_the_probabilities_of_its_words():
    model = small_model()
    sentence, before = [4, 2, 2, 8], 1
    p = [program.next_words(model, [before, *sentence[:i]]) for i in range(4)]
    for distribution in p:
        assert distribution.shape == (9,) and distribution.sum() == pytest.approx(1)
    expected = np.prod([p[i][word] for i, word in enumerate(sentence)])
    assert np.exp(program.sentence_log_probability(model, sentence, before)) == pytest.approx(expected, rel=1e-9)


def test_all_sentences_of_one_length_have_probability_1_together():
    model = small_model()
    total = sum(np.exp(program.sentence_log_probability(model, [a, b], 0)) for a in range(9) for b in range(9))
    assert total == pytest.approx(1, rel=1e-9)


def test_rare_and_new_words_become_unknown():
    train = [["a", "b"], [], ["a", "b", "a"], ["c", "<unk>"], *[["a", "b"]] * 6, ["z"]]
    texts = program.Texts(train, [["a", "new", "b"], ["c"]], min_count=2)
    assert texts.vocabulary.tokens == ("<unk>", "<eos>", "a", "b")
    assert texts.test.tolist() == [2, 0, 3, 1, 0, 1]  # a <unk> b <eos> <unk> <eos>
    assert texts.unknown == pytest.approx(2 / 6)
    assert texts.train.tolist()[:6] == [2, 3, 1, 2, 3, 2] and 1 not in np.flatnonzero(np.diff(texts.train) == 0)
    assert texts.valid.tolist() == [2, 3, 1, 0, 1]  # the last tenth of the lines: its words are not counted for the vocabulary


def test_a_prompt_is_what_was_given_or_known_words_of_the_test():
    lines = [["the", "cat", "sat", "on", "the", "mat"] * 2] * 10
    texts = program.Texts(lines, [["a", *lines[0]], lines[0]], min_count=1)
    said = texts.vocabulary.decode(texts.prompt(""), keep_specials=True)
    assert said == ["<eos>", "the", "cat", "sat", "on", "the"]
    assert texts.vocabulary.decode(texts.prompt("the dog"), keep_specials=True) == ["<eos>", "the", "<unk>"]


def test_line_ends_are_shown_as_lines():
    texts = program.Texts([["a", "b"]] * 10, [["a"]], 1)
    assert program.said(texts.vocabulary, texts.vocabulary.encode(["<eos>", "a", "b", "<eos>", "a", "?"])) == "a b\na <unk>"


def test_a_quick_run_beats_the_unigram_model_and_writes_everything(tmp_path, capsys):
    results = run(tmp_path, "--prompt", "the dog jumps")
    for cell in ("rnn", "lstm"):
        assert results[f"{cell}_perplexity"] < 0.7 * results["unigram_perplexity"]
        whole = (tmp_path / f"next_{cell}.txt").read_text(encoding="utf-8").splitlines()
        assert len(whole) == results["vocabulary"]
        assert sum(float(line.split()[0]) for line in whole) == pytest.approx(1, abs=1e-3)
        assert (
            f"{cell}, argmax" in results["texts"] and "<unk>" not in results["texts"][f"{cell}, argmax"][len("the dog <unk>") :]
        )
    assert results["log_p"] > results["log_p_shuffled"]
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == results
    for name in ("perplexity.png", "next.png", "rnn/curves.png", "lstm/curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert "The next word after “the dog <unk>”" in capsys.readouterr().out


def test_resume_goes_on_with_both_cells(tmp_path):
    short = ["--streams", "40", "--tied"]
    whole = run(tmp_path / "whole", *short, "--epochs", "2")
    run(tmp_path / "parts", *short, "--epochs", "1", "--cell", "rnn")
    parts = run(tmp_path / "parts", *short, "--epochs", "2", "--resume")
    for name in ("rnn_perplexity", "lstm_perplexity", "texts"):
        assert parts[name] == whole[name]


def test_a_compiled_run_has_the_same_losses(tmp_path):
    options = ["--cell", "gru", "--epochs", "1", "--tied"]
    eager = run(tmp_path / "eager", *options)
    compiled = run(tmp_path / "compiled", *options, "--compile")
    assert compiled["gru_perplexity"] == pytest.approx(eager["gru_perplexity"], rel=1e-3)


def test_a_novel_is_cut_into_words(monkeypatch):
    class Book:
        text = "It was late.\n\n" * 9 + "The end!"

    monkeypatch.setattr(program, "Novels", lambda title, **where: Book)
    train, test = program.novel("any")
    assert train == [["it", "was", "late", "."]] * 9 and test == [["the", "end", "!"]]
