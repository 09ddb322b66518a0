"""Dialogues side by side: utterances of different lengths, dialogues of different numbers of turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..core.tensor import Tensor
from .sampler import positive


class DialogueBatch(NamedTuple):
    """N dialogues, each of at most D utterances of at most T tokens.

    words: int64 (T, D, N), token t of utterance d of dialogue n; padding behind the last token, and where a dialogue has no such utterance.
    places: int64 (K,), the places of the tokens among the T·D·N. Output layers that take these rows alone need not score the padding. It is
    filled up with places of padding, so a loss has to ignore that number.
    """

    words: Tensor
    places: Tensor


class DialogueCollate:
    """A collate function for dialogues, lists of utterances, each a list of token numbers: makes a ``DialogueBatch``.

    padding_value: no token of an utterance has this number. turns, words: D and T are rounded up to multiples of these, and K to a quarter of
    T·D·N, so that few different shapes occur (each is a program of its own under ``tg.compile``).

    >>> collate = DialogueCollate(turns=1, words=1)
    >>> batch = collate([[[5, 6], [7]], [[8, 9]]])
    >>> batch.words.tolist()
    [[[5, 8], [7, 0]], [[6, 9], [0, 0]]]
    >>> batch.words.flatten()[batch.places].tolist()
    [5, 8, 7, 6, 9, 0]
    """

    def __init__(self, padding_value: int = 0, turns: int = 4, words: int = 8) -> None:
        self.padding_value = padding_value
        self.turns = positive("DialogueCollate", "turns", turns)
        self.words = positive("DialogueCollate", "words", words)

    def __call__(self, dialogues: Sequence[Sequence[Sequence[int]]]) -> DialogueBatch:
        turns, length = np.max([self.shape(dialogue) for dialogue in dialogues], axis=0)
        words = np.full((length, turns, len(dialogues)), self.padding_value, np.int64)
        for n, dialogue in enumerate(dialogues):
            for d, utterance in enumerate(dialogue):
                words[: len(utterance), d, n] = utterance
        flat = words.ravel()
        tokens, padding = np.flatnonzero(flat != self.padding_value), np.flatnonzero(flat == self.padding_value)
        missing = min(_up(len(tokens), max(flat.size // 4, 1)), flat.size) - len(tokens)
        return DialogueBatch(Tensor(words), Tensor(np.concatenate([tokens, padding[:missing]])))

    def shape(self, dialogue: Sequence[Sequence[int]]) -> tuple[int, int]:
        """(D, T) of a batch of this dialogue alone: what a sampler sorts by."""
        longest = max([len(utterance) for utterance in dialogue], default=1)
        return _up(len(dialogue), self.turns), _up(longest, self.words)


def _up(size: int, step: int) -> int:
    """``size``, or the next multiple of ``step``; at least one ``step``."""
    return max(-(-size // step), 1) * step
