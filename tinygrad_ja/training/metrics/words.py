"""How good word vectors are: neighbours, similarity as people judge it, analogies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...core.host import on_host
from ...errors import error, refusal


class WordScore(NamedTuple):
    """A score and the number of examples it is made of, those whose words all have a vector; without any the score is NaN."""

    score: float
    covered: int


def spearman(first: Any, second: Any) -> float:
    """Spearman's rank correlation of two vectors (N,): the correlation of their ranks, equal values sharing the mean of theirs.

    NaN for fewer than two values, or where all are equal. Raises ShapeError for different lengths.

    >>> round(spearman([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 9.0]), 4)
    0.8
    """
    x, y = on_host(first), on_host(second)
    if x.ndim != 1 or x.shape != y.shape:
        fix = ("pass two vectors of one length.", "同じ長さのベクトルを 2 つ渡してください。")
        raise error("TG-S002", op="spearman", rule=("(N), (N)", "(N), (N)"), shapes=f"{x.shape} {y.shape}", fix=fix)
    x, y = (ranks - ranks.mean() for ranks in (_ranks(x), _ranks(y)))
    spread = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / spread) if spread else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place] if len(values) else np.zeros(1)


def nearest(vectors: Any, query: Any, count: int = 10, exclude: Sequence[int] = ()) -> tuple[np.ndarray, np.ndarray]:
    """The rows of ``vectors`` (V, D) with the largest cosine to each query: ``(numbers, cosines)``, both (..., count), the nearest first.

    query: vectors (..., D), or the numbers of rows (...), int, which are then no neighbours of themselves. exclude: rows left out.
    Raises ArgumentError when fewer than ``count`` rows are left.

    >>> nearest([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], 0, count=1)[0]
    array([1])
    """
    unit, asked = _unit(vectors), on_host(query)
    own = asked.dtype.kind in "iu"
    cosines = (unit[asked] if own else _unit(asked)) @ unit.T
    flat = cosines.reshape(-1, len(unit))
    if own:
        flat[np.arange(len(flat)), asked.reshape(-1)] = -np.inf
    flat[:, list(exclude)] = -np.inf
    if not 0 <= count <= np.isfinite(flat).sum(-1).min(initial=len(unit)):
        rule, fix = ("no more than there are", "ある個数まで"), ("choose a smaller count.", "count を小さくしてください。")
        raise refusal("nearest", "count", count, rule, fix)
    order = np.argsort(-flat, -1, kind="stable")[:, :count]
    shape = (*cosines.shape[:-1], count)
    return order.reshape(shape), np.take_along_axis(flat, order, -1).reshape(shape)


def word_similarity(vectors: Any, vocabulary: Any, pairs: Iterable[tuple[str, str, float]]) -> WordScore:
    """Spearman's correlation between the cosine of two words and how similar people find them (as for WordSim-353).

    vectors (V, D). vocabulary: says ``word in vocabulary`` and ``vocabulary[word]``, its row. pairs: (word, word, score).

    >>> vectors, numbers = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], {"cup": 0, "mug": 1, "sky": 2}
    >>> word_similarity(vectors, numbers, [("cup", "mug", 9.0), ("cup", "sky", 1.0), ("cup", "rain", 2.0)])
    WordScore(score=1.0, covered=2)
    """
    found = [(vocabulary[a], vocabulary[b], score) for a, b, score in pairs if a in vocabulary and b in vocabulary]
    if not found:
        return WordScore(float("nan"), 0)
    first, second, scores = (np.array(column) for column in zip(*found))
    unit = _unit(vectors)
    return WordScore(spearman((unit[first] * unit[second]).sum(-1), scores), len(found))


def word_analogies(vectors: Any, vocabulary: Any, questions: Iterable[tuple[str, str, str, str]]) -> WordScore:
    """Share of questions "a is to b as c is to d" with d nearest to b - a + c (unit vectors; a, b, c are no answers).

    vectors, vocabulary: as for ``word_similarity``.

    >>> vectors, numbers = [[1.0, 0.0], [1.0, 1.0], [0.2, 0.0], [0.2, 1.0]], {"man": 0, "king": 1, "woman": 2, "queen": 3}
    >>> word_analogies(vectors, numbers, [("man", "king", "woman", "queen")])
    WordScore(score=1.0, covered=1)
    """
    found = np.array([[vocabulary[word] for word in q] for q in questions if all([word in vocabulary for word in q])], np.int64)
    unit, right = _unit(vectors), 0
    for part in np.array_split(found, max(1, len(found) // 1000)) if len(found) else ():
        a, b, c, d = part.T
        cosines = (unit[b] - unit[a] + unit[c]) @ unit.T
        np.put_along_axis(cosines, part[:, :3], -np.inf, -1)
        right += int((cosines.argmax(-1) == d).sum())
    return WordScore(right / len(found) if len(found) else float("nan"), len(found))


def _unit(vectors: Any) -> np.ndarray:
    """Rows of length 1, floating; those of length 0 stay."""
    array = on_host(vectors)
    array = array if array.dtype.kind == "f" else array.astype(np.float64)
    length = np.linalg.norm(array, axis=-1, keepdims=True)
    return array / np.where(length > 0, length, 1)
