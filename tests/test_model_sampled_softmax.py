"""The three output layers: their formulas, their probabilities, and the program that compares them."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from models import sampled_softmax as program
from models.cbow import CBOW
from models.skip_gram import corpus_of, output_layer

COUNTS = [400, 200, 100, 50, 30, 20, 10]


@pytest.fixture
def nothing_here(monkeypatch, tmp_path):
    for name in ("TINYGRAD_JA_DATA", "TINYGRAD_JA_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    return tmp_path


@pytest.mark.parametrize("kind", program.KINDS)
def test_every_loss_is_its_formula(kind):
    assert program.formula_error(kind, words=23) < 1e-12


@pytest.mark.parametrize("kind", program.KINDS)
def test_the_probabilities_of_all_words_sum_to_one(kind):
    tg.manual_seed(0)
    layer = output_layer(kind, 4, COUNTS)
    tg.nn.init.normal_(layer.weight)
    p = program.log_prob(layer, tg.randn(5, 4), COUNTS).detach().exp()
    assert p.shape == (5, 7)
    np.testing.assert_allclose(p.sum(1).numpy(), 1.0, rtol=1e-5)


def test_the_softmaxes_read_their_loss_from_those_probabilities():
    h, target = tg.randn(6, 4), tg.randint(7, (6,))
    for kind in ("full", "hierarchical"):
        layer = output_layer(kind, 4, COUNTS)
        tg.nn.init.normal_(layer.weight)
        picked = program.log_prob(layer, h, COUNTS).gather(1, target.unsqueeze(1))
        assert layer(h, target).item() == pytest.approx(-picked.mean().item(), rel=1e-5)


def test_negative_sampling_comes_to_the_true_probabilities():
    """With one fixed h and as many dimensions as it takes, the loss is least where u · h = log p - log K q."""
    tg.manual_seed(0)
    true = np.array([0.05, 0.4, 0.1, 0.2, 0.05, 0.1, 0.1])
    layer = output_layer("negative", 1, COUNTS, negative=5)
    layer.exclude_target = False
    h, words = tg.ones(4000, 1), np.random.default_rng(0).choice(7, (150, 4000), p=true)
    optimizer = tg.optim.Adam(layer.parameters(), lr=0.1)
    for target in words:
        optimizer.zero_grad()
        layer(h, tg.tensor(target)).backward()
        optimizer.step()
    found = program.log_prob(layer, h[:1], COUNTS).detach().exp().numpy()[0]
    np.testing.assert_allclose(found, true, atol=0.02)


def test_perplexity_is_that_of_the_formula_and_frequencies_alone_that_of_the_thinned_text():
    tg.manual_seed(0)
    model = CBOW(COUNTS, 3, "full")
    contexts, centres = tg.randint(8, (700, 4)), tg.randint(7, (700,))
    assert program.perplexity(model, contexts, centres, COUNTS) == pytest.approx(7.0)  # u is zero: every word alike
    share = np.array(COUNTS) / sum(COUNTS)
    expected = np.exp(-np.log(share[centres.numpy()]).mean())
    assert program.unigram_perplexity(centres, COUNTS, 1.0) == pytest.approx(expected)


def test_what_is_held_out_is_not_trained_on():
    corpus = corpus_of([[f"w{n % 50}" for n in range(1000)], [f"w{n % 50}" for n in range(500)]], 1)
    rest, (contexts, centres) = program.held_out(corpus, window=2, sample=1.0)
    assert [len(stream) for stream in rest.streams] == [980, 490]
    assert contexts.shape == (len(centres), 4) and len(centres) == 20 - 4 + 10 - 4


def test_the_program_compares_them_without_data_and_resumes(nothing_here):
    argv = ["--quick", "--size", "8", "--window", "2", "--sample", "1", "--compile"]
    results = program.main([*argv, "--out", str(nothing_here / "a")])
    assert results["data"] == "synthetic"
    for kind in program.KINDS:
        assert results[f"{kind}_perplexity"] < results["unigram_perplexity"]
        assert (nothing_here / "a" / kind / "curves.png").exists()
    assert (nothing_here / "a" / "costs.png").exists()
    again = program.main([*argv, "--out", str(nothing_here / "a"), "--resume"])
    assert [again[f"{kind}_perplexity"] for kind in program.KINDS] == [results[f"{kind}_perplexity"] for kind in program.KINDS]
