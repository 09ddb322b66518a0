"""doc2vec: formulas of both models, inference with everything else fixed, and that the vectors know the labels."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from models import doc2vec as program
from models.skip_gram import corpus_of
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


@pytest.mark.parametrize("kind", ["dm", "dbow"])
def test_the_loss_is_the_formula(kind):
    model = filled(program.MODELS[kind](3, COUNTS, 4))
    d, u = model.documents.weight.detach().numpy(), model.output.weight.detach().numpy()
    document, centre = np.array([0, 2, 2]), np.array([1, 4, 6])
    contexts = np.array([[1, 2, 7, 7], [3, 3, 0, 5], [7, 7, 7, 7]])
    if kind == "dm":
        v = model.words.weight.detach().numpy()
        h = [(d[0] + v[1] + v[2]) / 3, (d[2] + v[3] + v[3] + v[0] + v[5]) / 5, d[2]]
        inputs = (document, contexts, centre)
    else:
        h, inputs = d[document], (document, centre)
    tg.manual_seed(1)
    negative = model.output.sample((3, 5), tg.tensor(centre).unsqueeze(1)).numpy()
    tg.manual_seed(1)
    loss = model(*(tg.tensor(x) for x in inputs))
    assert loss.item() == pytest.approx(negative_loss(u, h, centre, negative), rel=1e-12)


def test_examples_know_their_document():
    texts = [tg.tensor([1, 2, 3]), tg.tensor([], dtype=tg.int64), tg.tensor([4, 5])]
    model = program.DBOW(3, COUNTS, 4)
    document, words = model.examples(texts, 2, inference=True)
    assert document.tolist() == [0, 0, 0, 2, 2] and words.tolist() == [1, 2, 3, 4, 5]
    document, words, centres = model.examples(texts, 1)
    assert document.tolist() == [0, 0, 0, 0, 2, 2]
    assert words.tolist() == [2, 1, 3, 2, 5, 4] and centres.tolist() == [1, 2, 2, 3, 4, 5]
    document, contexts, centres = program.DM(3, COUNTS, 4).examples(texts, 1)
    assert document.tolist() == [0, 0, 0, 2, 2] and centres.tolist() == [1, 2, 3, 4, 5]
    assert all(7 in row for row in contexts.tolist()[2:4])


def test_in_the_training_of_dbow_the_centres_predict_too():
    model = filled(program.DBOW(3, COUNTS, 4))
    d, v, u = (p.detach().numpy() for p in model.parameters())
    document, word, centre = np.array([0, 2]), np.array([1, 4]), np.array([3, 3])
    tg.manual_seed(1)
    draws = [model.output.sample((2, 5), tg.tensor(word).unsqueeze(1)).numpy() for _ in range(2)]
    tg.manual_seed(1)
    loss = model(*(tg.tensor(x) for x in (document, word, centre)))
    expected = negative_loss(u, d[document], word, draws[0]) + negative_loss(u, v[centre], word, draws[1])
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", ["dm", "dbow"])
def test_inference_changes_nothing_but_the_new_documents(kind, nothing_here):
    run = Experiment("doc2vec", program.TITLE, program.OPTIONS, [*ARGV, "--out", str(nothing_here / "a")])
    reviews = program.made_up()
    corpus = corpus_of(reviews["train"].sentences, 1)
    model = program.MODELS[kind](len(corpus.streams), corpus.vocabulary.counts, 12)
    tg.nn.init.normal_(model.output.weight)  # it starts at zero, and nothing could be learned from it
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    some = corpus._replace(streams=corpus.streams[:40])
    vectors = program.infer(run, model, some)
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


@pytest.mark.parametrize("kind", ["dm", "dbow"])
def test_one_model_alone_runs_compiled(nothing_here, kind):
    results = program.main([*ARGV, "--epochs", "2", "--model", kind, "--compile", "--out", str(nothing_here / "a")])
    assert {f"{kind}_accuracy", "words_accuracy"} <= set(results) and "both_accuracy" not in results
