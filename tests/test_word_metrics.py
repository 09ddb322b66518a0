"""Scores of word vectors against SciPy and against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinygrad_ja.errors import ArgumentError, ShapeError
from tinygrad_ja.training.metrics import nearest, spearman, word_analogies, word_similarity


@pytest.mark.parametrize("seed", range(3))
def test_spearman_is_that_of_scipy_with_ties(seed):
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(seed)
    x, y = random.integers(0, 8, 40), random.normal(size=40).round(1)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y)[0], abs=1e-12)


def test_spearman_of_nothing_to_rank_is_nan():
    assert math.isnan(spearman([], [])) and math.isnan(spearman([1.0], [2.0])) and math.isnan(spearman([1, 1], [1, 2]))
    assert spearman([1, 2, 3], [3, 2, 1]) == -1.0
    with pytest.raises(ShapeError, match="spearman"):
        spearman([1, 2], [1, 2, 3])


def test_nearest_is_by_cosine_and_leaves_the_word_itself_out():
    vectors = np.array([[1.0, 0.0], [10.0, 1.0], [1.0, 1.0], [-1.0, 0.0]])
    numbers, cosines = nearest(vectors, 0, count=3)
    assert numbers.tolist() == [1, 2, 3]
    np.testing.assert_allclose(cosines, [10 / math.sqrt(101), math.sqrt(0.5), -1.0])
    assert nearest(vectors, np.array([[0, 3], [1, 2]]), count=1)[0].shape == (2, 2, 1)
    assert nearest(vectors, np.array([2.0, 0.0]), count=1)[0].tolist() == [0]
    assert nearest(vectors, 0, count=1, exclude=[1])[0].tolist() == [2]
    for count in (4, -1):
        with pytest.raises(ArgumentError, match="count"):
            nearest(vectors, 0, count=count)


def test_similarity_counts_the_pairs_that_are_covered():
    vectors = np.array([[1.0, 0.0], [1.0, 0.2], [1.0, 1.0], [0.0, 0.0]])
    numbers = {"a": 0, "b": 1, "c": 2, "zero": 3}
    pairs = [("a", "b", 9.0), ("a", "c", 5.0), ("b", "c", 6.0), ("a", "zero", 0.0), ("a", "d", 3.0)]
    assert word_similarity(vectors, numbers, pairs) == (1.0, 4)
    score, count = word_similarity(vectors, numbers, [("x", "y", 1.0)])
    assert math.isnan(score) and count == 0


def test_analogies_are_answered_by_a_word_that_is_not_asked():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(30, 5))
    words = [f"w{n}" for n in range(30)]
    numbers = {word: n for n, word in enumerate(words)}
    questions = [tuple(words[n] for n in random.permutation(30)[:4]) for _ in range(300)]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    right = 0
    for a, b, c, d in [[numbers[word] for word in question] for question in questions]:
        cosines = unit @ (unit[b] - unit[a] + unit[c])
        right += max((n for n in range(30) if n not in (a, b, c)), key=lambda n: cosines[n]) == d
    assert word_analogies(vectors, numbers, [*questions, ("w0", "w1", "w2", "?")]) == (right / 300, 300)
    score, count = word_analogies(vectors, numbers, [])
    assert math.isnan(score) and count == 0
