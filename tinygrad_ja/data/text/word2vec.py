"""What word2vec trains on (Mikolov et al. 2013): words and their neighbours, without most of the words that are everywhere.

Negative words are drawn by ``nn.NegativeSampling(dim, counts=vocabulary.counts)``, in proportion to count^0.75.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backend.random import Generator
from ...core.host import on_host
from ...core.tensor import Tensor
from ...errors import refusal
from ..arrays import cpu_stream


def skipgram_pairs(
    sentences: Any, window: int, dynamic: bool = False, *, generator: Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Each word with each word at most ``window`` away in its sentence: ``(centres, contexts)``, int64 (P,), by centre, from left to right.

    sentences: numbers of words, one sequence or a list of them. dynamic: each centre's window is drawn from 1 to ``window``, so that near words
    count more, as in the original program.

    >>> centres, contexts = skipgram_pairs([5, 6, 7], window=1)
    >>> centres.tolist(), contexts.tolist()
    ([5, 6, 6, 7], [6, 5, 7, 6])
    """
    words, sentence = _joined("skipgram_pairs", sentences)
    places, inside = _neighbours("skipgram_pairs", words, sentence, window)
    if dynamic:
        inside &= _near(len(words), window, generator)
    centre, column = inside.nonzero()
    return Tensor(words[centre]), Tensor(words[places[centre, column]])


def cbow_windows(
    sentences: Any, window: int, pad: int | None = None, dynamic: bool = False, *, generator: Generator | None = None
) -> tuple[Tensor, Tensor]:
    """The ``window`` words before and after each word, and the word: ``(contexts (P, 2 · window), centres (P,))``, int64.

    sentences: numbers of words, one sequence or a list of them. pad: what stands where a sentence has no word, for a ``padding_idx``; without
    it only words with a whole window are centres. dynamic: each window is drawn from 1 to ``window``, as for ``skipgram_pairs``; needs a pad.

    >>> contexts, centres = cbow_windows([5, 6, 7, 8], window=1)
    >>> contexts.tolist(), centres.tolist()
    ([[5, 7], [6, 8]], [6, 7])
    """
    words, sentence = _joined("cbow_windows", sentences)
    places, inside = _neighbours("cbow_windows", words, sentence, window)
    if dynamic:
        if pad is None:
            fix = ("pass pad.", "pad を渡してください。")
            raise refusal("cbow_windows", "dynamic", True, ("False without a pad", "pad がなければ False"), fix)
        inside &= _near(len(words), window, generator)
    if pad is None:
        whole = inside.all(1)
        return Tensor(words[places[whole]]), Tensor(words[whole])
    filled = np.where(inside, words[places] if len(words) else places, pad)
    return Tensor(filled), Tensor(words)


def keep_probabilities(counts: Sequence[int] | np.ndarray, threshold: float = 1e-5) -> np.ndarray:
    """min(1, √(t / f)) for each word, float64: with which a word of relative frequency f is kept; a word that never occurs, always.

    >>> keep_probabilities([1, 99], threshold=0.04).round(3).tolist()
    [1.0, 0.201]
    """
    times = np.asarray(counts, np.float64)
    if times.ndim != 1 or (times < 0).any() or not threshold > 0 or not times.sum() > 0:
        rule = ("counts >= 0, not all 0, threshold > 0", "出現回数は 0 以上ですべて 0 は不可、threshold は正")
        fix = ("pass vocabulary.counts.", "vocabulary.counts を渡してください。")
        raise refusal("keep_probabilities", "(counts, threshold)", (times.shape, threshold), rule, fix)
    share = times / times.sum()
    return np.sqrt(np.minimum(1.0, threshold / np.maximum(share, threshold)))


def subsample(
    numbers: Any, counts: Sequence[int] | np.ndarray, threshold: float = 1e-5, *, generator: Generator | None = None
) -> Any:
    """The words without many of the frequent ones: each stays with its probability of ``keep_probabilities``. int64 (T,) to (T',); of a
    list of sentences a list of what is left of each.

    >>> import tinygrad_ja as tg
    >>> kept = subsample([0, 1] * 1000, counts=[1, 9999], threshold=1e-3, generator=tg.Generator().manual_seed(0))
    >>> int((kept == 0).sum()), int((kept == 1).sum()) < 60
    (1000, True)
    """
    words, sentence = _joined("subsample", numbers)
    share = keep_probabilities(counts, threshold)
    if len(words) and not 0 <= words.min() <= words.max() < len(share):
        rule = (f"numbers below {len(share)}, the number of counts", f"counts の個数 {len(share)} 未満の番号")
        raise refusal(
            "subsample", "numbers", int(words.max()), rule, ("pass vocabulary.counts.", "vocabulary.counts を渡してください。")
        )
    stream = cpu_stream(generator)
    kept = stream.uniform((len(words),), np.float64) < share[words]
    if not _several(numbers):
        return Tensor(words[kept])
    ends = np.cumsum(np.bincount(sentence[kept], minlength=len(numbers)))
    return [Tensor(part) for part in np.split(words[kept], ends[:-1])]


def _several(sentences: Any) -> bool:
    """Whether it is a list of sequences and not one sequence."""
    return isinstance(sentences, (list, tuple)) and bool(sentences) and not isinstance(sentences[0], (int, np.integer))


def _joined(op: str, sentences: Any) -> tuple[np.ndarray, np.ndarray]:
    """All words in a row, int64, and the number of the sentence of each."""
    rows = [_numbers(op, row) for row in (sentences if _several(sentences) else [sentences])]
    lengths = [len(row) for row in rows]
    return np.concatenate(rows), np.repeat(np.arange(len(rows)), lengths)


def _numbers(op: str, row: Any) -> np.ndarray:
    array = on_host(row)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        rule, fix = (
            ("ints, (T,), or a list of such", "整数 (T,)、またはそのリスト"),
            ("encode the words first.", "先に encode してください。"),
        )
        raise refusal(op, "sentences", f"{array.shape} ({array.dtype})", rule, fix)
    return array.astype(np.int64)


def _offsets(window: int) -> np.ndarray:
    return np.concatenate([np.arange(-window, 0), np.arange(1, window + 1)])


def _near(words: int, window: int, generator: Generator | None) -> np.ndarray:
    """Which of the neighbours are in the window that is drawn for each word, (T, 2 · window)."""
    reach = cpu_stream(generator).integers(1, window + 1, (words, 1))
    return np.abs(_offsets(window)) <= reach


def _neighbours(op: str, words: np.ndarray, sentence: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the neighbours of each word, (T, 2 · window), and which of them are in its sentence."""
    if not isinstance(window, int) or window < 1:
        raise refusal(
            op, "window", window, ("an int, 1 or more", "1 以上の整数"), ("window=2.", "window=2 などとしてください。")
        )
    places = np.arange(len(words))[:, None] + _offsets(window)
    inside = (places >= 0) & (places < len(words))
    places = np.clip(places, 0, max(len(words) - 1, 0))
    if len(words):
        inside &= sentence[places] == sentence[:, None]
    return places, inside
