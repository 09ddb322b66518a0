"""What greedy search, sampling and beam search promise, against all sequences of a small Markov model."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the stand-in for CuPy
from tinygrad_ja.errors import ArgumentError, DtypeError, ShapeError
from tinygrad_ja.nn.decoding import beam_search, filtered, greedy_search, sample

END, WORDS, LONGEST = 0, 4, 4


class Markov:
    """Scores that depend on the last token and, by the state, on the number of the step and of the sentence."""

    def __init__(self, seed, device="cpu"):
        self.table = np.random.default_rng(seed).normal(scale=1.5, size=(3, LONGEST, WORDS, WORDS))
        self.scores = tg.tensor(self.table, device=device)
        self.steps = 0

    def state(self, device="cpu"):
        """Nested, with something in it that is no Tensor."""
        return {"sentence": tg.arange(3, device=device), "at": [(tg.zeros(3, dtype=tg.int64, device=device),), "x"]}

    def step(self, tokens, state):
        self.steps += 1
        (at,), text = state["at"]
        assert text == "x"
        return self.scores[state["sentence"], at, tokens], {"sentence": state["sentence"], "at": [(at + 1,), text]}

    def log_p(self, sentence, at, last):
        scores = self.table[sentence, at, last]
        return scores - np.log(np.exp(scores).sum())

    def all_sequences(self, sentence, start):
        """(tokens, log-probability, length with END) of everything up to LONGEST tokens."""
        made = []
        for length in range(LONGEST + 1):
            for tokens in itertools.product(range(1, WORDS), repeat=length):
                whole = [*tokens, END][:LONGEST]
                last = [start, *whole]
                made.append(
                    (list(tokens), sum(self.log_p(sentence, t, last[t])[whole[t]] for t in range(len(whole))), len(whole))
                )
        return made


START = [1, 2, 3]


def penalised(found, alpha):
    return [(tokens, log_p / ((5 + length) / 6) ** alpha) for tokens, log_p, length in found]


def test_the_probabilities_of_all_sequences_sum_to_one():
    assert sum(math.exp(log_p) for _, log_p, _ in Markov(0).all_sequences(1, 2)) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(5))
def test_greedy_search_takes_the_most_probable_token(seed):
    model = Markov(seed)
    found = greedy_search(model.step, model.state(), tg.tensor(START), END, LONGEST)
    for sentence, start in enumerate(START):
        expected, last = [], start
        for at in range(LONGEST):
            last = int(model.log_p(sentence, at, last).argmax())
            if last == END:
                break
            expected.append(last)
        assert found[sentence] == expected


@pytest.mark.parametrize("alpha", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_beam_that_holds_everything_finds_the_best(seed, alpha):
    model = Markov(seed)
    found = beam_search(model.step, model.state(), tg.tensor(START), END, LONGEST, beams=200, length_penalty=alpha)
    for sentence, start in enumerate(START):
        best, _ = max(penalised(model.all_sequences(sentence, start), alpha), key=lambda pair: pair[1])
        assert found[sentence] == best


def test_all_hypotheses_with_their_scores():
    model = Markov(3)
    found = beam_search(model.step, model.state(), tg.tensor(START), END, LONGEST, 200, 0.6, return_all=True)
    for sentence, start in enumerate(START):
        expected = sorted(penalised(model.all_sequences(sentence, start), 0.6), key=lambda pair: -pair[1])
        assert len(found[sentence]) == len(expected) == 1 + 3 + 9 + 27 + 81
        assert [tokens for tokens, _ in found[sentence]] == [tokens for tokens, _ in expected]
        np.testing.assert_allclose([score for _, score in found[sentence]], [score for _, score in expected], rtol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_one_beam_is_greedy_search_and_more_beams_are_not_worse_here(seed):
    model = Markov(seed)
    start = tg.tensor(START)
    greedy = greedy_search(model.step, model.state(), start, END, LONGEST)
    assert beam_search(model.step, model.state(), start, END, LONGEST, beams=1) == greedy
    scores = [beam_search(model.step, model.state(), start, END, LONGEST, beams=n, return_all=True) for n in (1, 3, 200)]
    for one, three, everything in zip(*scores):
        assert len(three) == 3
        assert one[0][1] <= everything[0][1] + 1e-6 and three[0][1] <= everything[0][1] + 1e-6
        assert three == sorted(three, key=lambda pair: -pair[1])


def test_a_batch_is_as_each_sentence_alone():
    model = Markov(7)
    together = beam_search(model.step, model.state(), tg.tensor(START), END, LONGEST, beams=3, length_penalty=1.0)
    for sentence in range(3):
        state = {"sentence": tg.tensor([sentence]), "at": [(tg.tensor([0]),), "x"]}
        alone = beam_search(model.step, state, tg.tensor([START[sentence]]), END, LONGEST, beams=3, length_penalty=1.0)
        assert alone == [together[sentence]]


@pytest.mark.parametrize("search", [greedy_search, beam_search, sample])
def test_it_stops_when_all_have_ended(search):
    calls = []

    def step(tokens, state):
        calls.append(len(tokens))
        return tg.tensor([[20.0, 0.0, 0.0]] * len(tokens)) if len(calls) > 1 else tg.tensor(
            [[0.0, 20.0, 0.0]] * len(tokens)
        ), state

    tg.manual_seed(0)
    assert search(step, (), tg.tensor([1, 1]), END, 50) == [[1], [1]]
    assert len(calls) == 2


def test_what_is_drawn_is_drawn_as_often_as_it_is_probable():
    scores = np.array([1.0, 2.0, 0.0, -1.0])
    count = 4000

    def step(tokens, state):
        return tg.tensor(scores).unsqueeze(0).repeat(count, 1), state

    def shares(**how):
        found = sample(step, (), tg.ones(count, dtype=tg.int64), END, 1, generator=tg.Generator().manual_seed(5), **how)
        return np.bincount([row[0] if row else END for row in found], minlength=4) / count

    def softmax(x):
        return np.exp(x) / np.exp(x).sum()

    np.testing.assert_allclose(shares(), softmax(scores), atol=0.03)
    np.testing.assert_allclose(shares(temperature=0.5), softmax(scores / 0.5), atol=0.03)
    two = np.where([True, True, False, False], softmax(scores), 0)
    np.testing.assert_allclose(shares(top_k=2), two / two.sum(), atol=0.03)
    np.testing.assert_allclose(shares(top_p=0.7), two / two.sum(), atol=0.03)  # 0.64 is less, 0.88 is enough
    np.testing.assert_allclose(shares(top_p=0.5), [0, 1, 0, 0])
    np.testing.assert_allclose(shares(top_k=9, top_p=1.0), softmax(scores), atol=0.03)


def test_after_top_k_the_share_of_top_p_is_of_what_is_left():
    p = tg.tensor([[0.4, 0.3, 0.2, 0.1]])
    np.testing.assert_allclose(filtered(p, top_k=2, top_p=0.5).numpy(), [[0.4, 0.0, 0.0, 0.0]], rtol=1e-6)  # 4/7 is enough
    np.testing.assert_allclose(filtered(p, top_p=0.5).numpy(), [[0.4, 0.3, 0.0, 0.0]], rtol=1e-6)


def test_the_same_generator_draws_the_same():
    model = Markov(1)
    drawn = [
        sample(model.step, model.state(), tg.tensor(START), END, LONGEST, generator=tg.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("search", [greedy_search, beam_search, sample])
def test_it_runs_where_the_model_is(search):
    for device in ("cpu", "strict"):
        model = Markov(2, device)
        found = search(model.step, model.state(device), tg.tensor(START, device=device), END, LONGEST)
        assert len(found) == 3 and all(len(row) <= LONGEST and END not in row for row in found)


def test_no_gradient_is_recorded():
    w = tg.zeros(3, requires_grad=True)
    seen = []

    def step(tokens, state):
        scores = w.unsqueeze(0) + tg.zeros(len(tokens), 3)
        seen.append(scores.requires_grad)
        return scores, state

    for search in (greedy_search, sample, beam_search):
        search(step, (), tg.tensor([1]), END, 2)
    assert not any(seen)


@pytest.mark.parametrize(
    ("search", "change", "kind"),
    [
        (greedy_search, {"max_length": 0}, ArgumentError),
        (greedy_search, {"start": [1]}, DtypeError),
        (greedy_search, {"start": tg.tensor([1.0])}, ShapeError),
        (greedy_search, {"start": tg.tensor([[1]])}, ShapeError),
        (greedy_search, {"end": WORDS}, ShapeError),
        (sample, {"temperature": 0.0}, ArgumentError),
        (sample, {"top_k": 0}, ArgumentError),
        (sample, {"top_p": 1.5}, ArgumentError),
        (beam_search, {"beams": 0}, ArgumentError),
        (beam_search, {"length_penalty": -1.0}, ArgumentError),
    ],
)
def test_senseless_arguments_are_refused(search, change, kind):
    model = Markov(0)
    with pytest.raises(kind, match=search.__name__):
        search(model.step, model.state(), **{"start": tg.tensor(START), "end": END, "max_length": 3, **change})
