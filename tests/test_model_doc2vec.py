"""doc2vec: formulas of both models, inference with everything else fixed, and that the vectors know the labels."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from models import doc2vec as program
from models.skip_gram import corpus_of
from tinygrad_ja.errors import ArgumentError
from tinygrad_ja.training.experiment import Experiment

COUNTS = [40, 20, 10, 5, 3, 2, 1]
ARGV = ["--quick", "--size", "12", "--batch-size", "256"]


@pytest.fixture
def nothing_here(monkeypatch, tmp_path):
    for name in ("TINYGRAD_JA_DATA", "TINYGRAD_JA_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    return tmp_path


def filled(module):
    random = np.random.default_rng(0)
    module.double()
    for parameter in module.parameters():
        parameter.data = tg.tensor(random.normal(size=tuple(parameter.shape)))
    return module


def negative_loss(u, h, target, negative):
    f = lambda x: np.log(1 / (1 + np.exp(-x)))  # noqa: E731
    return np.mean([-f(u[w] @ x) - sum(f(-u[n] @ x) for n in drawn) for x, w, drawn in zip(h, target, negative)])


def test_the_loss_of_dm_is_the_formula():
    model = filled(program.DM(3, COUNTS, 4))
    d, v, u = (p.detach().numpy() for p in model.parameters())
    document, centre = np.array([0, 2, 2]), np.array([1, 4, 6])
    contexts = np.array([[1, 2, 7, 7], [3, 3, 0, 5], [7, 7, 7, 7]])
    h = [(d[0] + v[1] + v[2]) / 3, (d[2] + v[3] + v[3] + v[0] + v[5]) / 5, d[2]]
    tg.manual_seed(1)
    negative = model.output.sample((3, 5), tg.tensor(centre).unsqueeze(1)).numpy()
    tg.manual_seed(1)
    loss = model(*(tg.tensor(x) for x in (document, contexts, centre)))
    assert loss.item() == pytest.approx(negative_loss(u, h, centre, negative), rel=1e-12)


def test_examples_know_their_document():
    texts = [tg.tensor([1, 2, 3]), tg.tensor([], dtype=tg.int64), tg.tensor([4, 5])]
    model = program.DBOW(3, COUNTS, 4)
    document, words, centres = model.examples(texts, 1)
    assert document.tolist() == [0, 0, 0, 0, 2, 2]
    assert words.tolist() == [2, 1, 3, 2, 5, 4] and centres.tolist() == [1, 2, 2, 3, 4, 5]
    document, contexts, centres = program.DM(3, COUNTS, 4).examples(texts, 1)
    assert document.tolist() == [0, 0, 0, 2, 2] and centres.tolist() == [1, 2, 3, 4, 5]
    assert all(7 in row for row in contexts.tolist()[2:4])


def test_the_loss_of_dbow_is_that_of_documents_and_of_centres():
    model = filled(program.DBOW(3, COUNTS, 4))
    d, v, u = (p.detach().numpy() for p in model.parameters())
    document, word, centre = np.array([0, 2]), np.array([1, 4]), np.array([3, 3])
    tg.manual_seed(1)
    draws = [model.output.sample((2, 5), tg.tensor(word).unsqueeze(1)).numpy() for _ in range(2)]
    tg.manual_seed(1)
    loss = model(*(tg.tensor(x) for x in (document, word, centre)))
    expected = negative_loss(u, d[document], word, draws[0]) + negative_loss(u, v[centre], word, draws[1])
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_inference_of_dbow_goes_down_the_gradient_of_the_mean_loss(nothing_here):
    run = Experiment("doc2vec", program.TITLE, program.OPTIONS, [*ARGV, "--steps", "3", "--out", str(nothing_here / "a")])
    model, corpus = filled(program.DBOW(3, COUNTS, 4)), corpus_of([[str(n) for n in range(7) for _ in range(COUNTS[n])]], 1)
    assert list(corpus.vocabulary.counts) == COUNTS
    texts = [np.array([1, 1, 6]), np.array([], np.int64), np.array([0])]
    vectors = model.infer(run, corpus._replace(streams=texts))
    u, p = model.output.weight.detach().numpy(), np.array(COUNTS) ** 0.75 / (np.array(COUNTS) ** 0.75).sum()
    for text, vector in zip(texts, vectors):
        a, d = np.bincount(text, minlength=7) / max(1, len(text)), np.zeros(4)
        for _ in range(3):
            d = d - ((a + 5 * p) / (1 + np.exp(-u @ d)) - a) @ u  # the derivative by hand
        np.testing.assert_allclose(vector, d, rtol=1e-10)


def test_the_loss_of_inference_is_that_of_every_word_of_the_document():
    random = np.random.default_rng(0)
    u, d, texts = tg.tensor(random.normal(size=(7, 4))), random.normal(size=(2, 4)), [[1, 1, 6], [0]]
    share = np.stack([np.bincount(text, minlength=7) / len(text) for text in texts])
    noise = tg.tensor(5 * np.array(COUNTS) / sum(COUNTS))
    loss = program.inference_loss(tg.tensor(d), u, tg.tensor(share), noise)
    right = [-tg.nn.functional.logsigmoid(u[text] @ tg.tensor(x)).mean() for text, x in zip(texts, d)]
    drawn = [-(noise * tg.nn.functional.logsigmoid(-(u @ tg.tensor(x)))).sum() for x in d]
    assert loss.item() == pytest.approx(sum(part.item() for part in right + drawn), rel=1e-12)


@pytest.mark.parametrize("kind", ["dm", "dbow"])
def test_inference_changes_nothing_but_the_new_documents(kind, nothing_here):
    run = Experiment("doc2vec", program.TITLE, program.OPTIONS, [*ARGV, "--out", str(nothing_here / "a")])
    reviews = program.made_up()
    corpus = corpus_of(reviews["train"].sentences, 1)
    model = program.MODELS[kind](len(corpus.streams), corpus.vocabulary.counts, 12)
    tg.nn.init.normal_(model.output.weight)  # it starts at zero, and nothing could be learned from it
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    some = corpus._replace(streams=corpus.streams[:40])
    vectors = model.infer(run, some)
    assert vectors.shape == (40, 12) and (np.abs(vectors).max(1) > 0).all()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_without_data_the_program_tells_praise_from_blame(nothing_here):
    results = program.main([*ARGV, "--epochs", "15", "--out", str(nothing_here / "a")])
    assert results["data"] == "synthetic"
    for kind in ("dm", "dbow", "both"):
        assert results[f"{kind}_accuracy"] > results["majority"] + 0.1
    assert (nothing_here / "a" / "accuracy.png").exists()
    again = program.main([*ARGV, "--epochs", "15", "--out", str(nothing_here / "a"), "--resume"])
    assert again["words_accuracy"] == results["words_accuracy"]


def test_reviews_that_are_all_neutral_are_refused(nothing_here, monkeypatch):
    made = program.made_up()
    made["dev"] = made["dev"]._replace(labels=np.full(len(made["dev"].labels), -1))
    monkeypatch.setattr(program, "made_up", lambda: made)
    with pytest.raises(ArgumentError, match="'dev': 0.* at least one in each part"):
        program.main([*ARGV, "--out", str(nothing_here / "a")])


@pytest.mark.parametrize("kind", ["dm", "dbow"])
def test_one_model_alone_runs_compiled(nothing_here, kind):
    results = program.main([*ARGV, "--epochs", "2", "--model", kind, "--compile", "--out", str(nothing_here / "a")])
    assert {f"{kind}_accuracy", "words_accuracy"} <= set(results) and "both_accuracy" not in results
