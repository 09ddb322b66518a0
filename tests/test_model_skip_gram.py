"""Skip-gram and CBOW: the formulas, the examples they learn from, and that they learn."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest

import tinygrad_ja as tg
from models import cbow, skip_gram
from models.skip_gram import Passes, SkipGram, corpus_of, grammar, output_layer
from tinygrad_ja.data.text import cbow_windows, skipgram_pairs
from tinygrad_ja.training.metrics import word_similarity

COUNTS = [40, 20, 10, 5, 3, 2, 1]
KINDS = ("full", "negative", "hierarchical")


@pytest.fixture
def nothing_here(monkeypatch, tmp_path):
    """No data and no cache: programs go on with made-up data. ``--quick`` loads nothing from a network."""
    monkeypatch.setenv("TINYGRAD_JA_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("TINYGRAD_JA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TINYGRAD_JA_LANG", "en")
    return tmp_path


def run(program, folder, *argv):
    return program.main(["--quick", "--out", str(folder), *argv])


def sigma(x):
    return 1 / (1 + np.exp(-x))


def filled(module):
    """The module in double precision with random weights: output vectors start at zero."""
    random = np.random.default_rng(0)
    module.double()
    for parameter in module.parameters():
        parameter.data = tg.tensor(random.normal(size=tuple(parameter.shape)))
    return module


# ---- formulas ----


def test_full_softmax_is_the_formula():
    model = filled(SkipGram(COUNTS, 4, "full"))
    v, u = (p.detach().numpy() for p in model.parameters())
    centre, context = np.array([0, 3, 3]), np.array([1, 2, 6])
    expected = np.mean([np.log(np.exp(u @ v[w]).sum()) - u[c] @ v[w] for w, c in zip(centre, context)])
    assert model(tg.tensor(centre), tg.tensor(context)).item() == pytest.approx(expected, rel=1e-12)


def test_negative_sampling_is_the_formula_and_its_gradient_that_of_the_original_program():
    model = filled(SkipGram(COUNTS, 4, "negative"))
    v, u = (p.detach().numpy().copy() for p in model.parameters())
    centre, context = np.array([0, 3, 3, 5]), np.array([1, 2, 6, 0])
    tg.manual_seed(5)
    negative = model.output.sample((4, 5), tg.tensor(context).unsqueeze(1)).numpy()
    tg.manual_seed(5)
    loss = model(tg.tensor(centre), tg.tensor(context))
    loss.backward()
    expected, dv, du = 0.0, np.zeros_like(v), np.zeros_like(u)
    for w, c, drawn in zip(centre, context, negative):
        for word, label in [(c, 1.0), *((n, 0.0) for n in drawn)]:  # word2vec.c: g = label - f, times the other vector
            f = sigma(u[word] @ v[w])
            expected -= np.log(f if label else 1 - f) / 4
            dv[w] += (f - label) * u[word] / 4
            du[word] += (f - label) * v[w] / 4
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(model.words.weight.grad.numpy(), dv, atol=1e-12)
    np.testing.assert_allclose(model.output.weight.grad.numpy(), du, atol=1e-12)


def test_hierarchical_softmax_is_the_product_along_the_way():
    model = filled(SkipGram(COUNTS, 4, "hierarchical"))
    v, u = (p.detach().numpy() for p in model.parameters())
    tree = model.output.tree
    p = [np.prod([sigma(s * (u[n] @ v[2])) for n, s in zip(tree.path[w], tree.sign[w]) if s]) for w in range(7)]
    assert sum(p) == pytest.approx(1.0)
    assert model(tg.tensor([2]), tg.tensor([4])).item() == pytest.approx(-np.log(p[4]), rel=1e-12)


def test_cbow_predicts_from_the_mean_of_what_is_no_padding():
    model = filled(cbow.CBOW(COUNTS, 4, "full"))
    v, u = (p.detach().numpy() for p in model.parameters())
    contexts, centre = np.array([[1, 2, 7, 7], [3, 3, 0, 5], [7, 7, 7, 7]]), np.array([0, 4, 6])
    means = [v[[1, 2]].mean(0), v[[3, 3, 0, 5]].mean(0), np.zeros(4)]
    np.testing.assert_allclose(model.mean(tg.tensor(contexts)).detach().numpy(), means, atol=1e-12)
    expected = np.mean([np.log(np.exp(u @ h).sum()) - u[w] @ h for h, w in zip(means, centre)])
    loss = model(tg.tensor(contexts), tg.tensor(centre))
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert not model.words.weight.grad[7].numpy().any()  # the padding learns nothing


@pytest.mark.parametrize("kind, expected", [("full", np.log(7)), ("negative", 6 * np.log(2))])
def test_the_first_loss_is_that_of_knowing_nothing(kind, expected):
    layer = output_layer(kind, 4, COUNTS)
    assert layer(tg.randn(3, 4), tg.tensor([0, 1, 2])).item() == pytest.approx(expected, rel=1e-5)


# ---- examples ----


def test_a_pass_is_the_shuffled_examples_and_the_next_one_is_drawn_anew():
    corpus = corpus_of([list("abcdefgh") * 40, list("hgfedcba") * 40], min_count=1)
    passes = Passes(corpus, 1.0, 64, lambda texts: skipgram_pairs(texts, 2), each=4)
    tg.manual_seed(1)
    first, second = (np.concatenate([np.stack([part.numpy() for part in batch], 1) for batch in passes]) for _ in range(2))
    pairs = np.stack([part.numpy() for part in skipgram_pairs([stream.tolist() for stream in corpus.streams], 2)], 1)
    assert len(first) == len(pairs) // 64 * 64 and abs(len(passes) - len(first) // 64) <= 1
    left = {tuple(row): 0 for row in np.unique(pairs, axis=0)}
    for row in pairs:
        left[tuple(row)] += 1
    for row in first:
        left[tuple(row)] -= 1
    assert min(left.values()) >= 0
    assert (first[:64] != second[:64]).any()
    tg.manual_seed(1)
    again = np.concatenate([np.stack([part.numpy() for part in batch], 1) for batch in passes])
    np.testing.assert_array_equal(again, first)


def test_rare_words_and_the_borders_of_texts_are_minded():
    corpus = corpus_of([["a", "b", "a", "x"], ["b", "a", "b"]], min_count=2, similar=[("A", "b", 3.0)])
    assert corpus.vocabulary.tokens == ("a", "b") and corpus.size == 6
    assert [stream.tolist() for stream in corpus.streams] == [[0, 1, 0], [1, 0, 1]]
    assert list(corpus.similar) == [("a", "b", 3.0)]
    contexts, centres = cbow_windows(corpus.streams, 1, pad=2)
    assert contexts.tolist() == [[2, 1], [0, 0], [1, 2], [2, 0], [1, 1], [0, 2]] and centres.tolist() == [0, 1, 0, 1, 0, 1]


# ---- programs ----

SMALL = ("--size", "16", "--window", "2", "--batch-size", "256", "--epochs", "2")


@pytest.mark.parametrize("program, name", [(skip_gram, "skip_gram"), (cbow, "cbow")])
def test_without_data_the_program_learns_which_words_stand_in_the_same_places(nothing_here, capsys, program, name):
    results = run(program, nothing_here / "a", *SMALL, "--epochs", "4")
    assert results["data"] == "synthetic" and results["program"] == name
    corpus = grammar()
    untrained = word_similarity(tg.randn(len(corpus.vocabulary), 16).numpy(), corpus.vocabulary, corpus.similar).score
    assert results["similarity"] > max(0.2, untrained + 0.15) and results["loss"] < 6 * np.log(2)
    written = {path.name for path in (nothing_here / "a").iterdir()}
    assert {"words.png", "curves.png", "results.json", "log.csv"} <= written
    assert json.loads((nothing_here / "a" / "results.json").read_text())["similarity"] == results["similarity"]
    assert "Nearest words" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_every_output_layer_runs_compiled_with_the_same_losses(nothing_here, kind):
    plain, fast = (
        run(cbow, nothing_here / name, *SMALL, "--output", kind, *more) for name, more in (("a", ()), ("b", ("--compile",)))
    )
    assert fast["loss"] == pytest.approx(plain["loss"], rel=1e-3)
    assert fast["similarity"] == pytest.approx(plain["similarity"], abs=0.05)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(nothing_here, monkeypatch):
    whole = run(skip_gram, nothing_here / "a", *SMALL)
    begin = skip_gram.Trainer.run

    def interrupted(self, **limits):
        self.on(
            "step", lambda trainer: signal.raise_signal(signal.SIGINT) if trainer.iteration == whole["steps"] * 2 // 3 else None
        )
        return begin(self, **limits)

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(skip_gram.Trainer, "run", interrupted)
        run(skip_gram, nothing_here / "b", *SMALL)
    resumed = run(skip_gram, nothing_here / "b", *SMALL, "--resume")
    assert resumed["loss"] == whole["loss"] and resumed["similarity"] == whole["similarity"]


def test_the_novels_are_words_in_lower_case():
    try:
        corpus = skip_gram.novels(1, 5, download=False)
    except tg.errors.StateError:
        pytest.skip("the novels are not here")
    assert corpus.vocabulary.tokens[0] == "the" and corpus.size > 90_000
    assert all(token[0].isalpha() and token == token.lower() and "_" not in token for token in corpus.vocabulary.tokens)
    assert min(corpus.vocabulary.counts) == 5 and len(corpus.similar) == 353 and len(corpus.questions) == 19_544
