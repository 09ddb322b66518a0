"""Pieces of words by byte-pair encoding (Sennrich, Haddow and Birch, ACL 2016): what occurs often together becomes one token."""

from __future__ import annotations

import functools
import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from ...errors import refusal
from ...io.files import Fault, FilePath
from .stored import LIMIT, read_json, texts, write_json
from .tokenizer import FORMS, Form, Tokenizer

_CHUNKS = re.compile(r" ?[^\W\d_]{1,32}| ?\d{1,32}| ?[^\w\s]{1,32}| ?_{1,32}|\s")
"""What no token reaches over: a word with the space before it, digits, marks. 32 characters at most, so that no text takes quadratic time."""

_FORMAT = "tinygrad_ja subwords 1"
_KIND = "subword"


class SubwordTokenizer(Tokenizer):
    """Tokens from characters and the merges of two tokens that were learnt, in their order. Made by ``train`` or ``load``.

    A word keeps the space before it, and the tokens one after the other are the text again, every character of it. New characters are tokens
    of their own, unknown to a ``Vocabulary`` only.

    >>> tokenizer = SubwordTokenizer.train(["low low lower lowest", "new new newer newest"], merges=6)
    >>> tokenizer("lower new slow")
    ['low', 'e', 'r', ' new', ' ', 's', 'low']
    """

    def __init__(self, merges: Sequence[tuple[str, str]], lower: bool = False, normalize: Form | None = None) -> None:
        super().__init__(lower, normalize)
        self.merges = [(str(left), str(right)) for left, right in merges]
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        merges: int = 1000,
        min_count: int = 2,
        lower: bool = False,
        normalize: Form | None = None,
    ) -> SubwordTokenizer:
        """Learn ``merges`` merges: each time the pair of neighbours that occurs most often becomes one token; of equally frequent ones the
        first in the order of characters. Fewer when no pair occurs ``min_count`` times any more.
        """
        if not isinstance(merges, int) or merges < 0 or isinstance(texts, str):
            rule = ("a list of texts, and an int >= 0", "テキストのリストと、0 以上の整数")
            raise refusal(
                "SubwordTokenizer.train", "(texts, merges)", (type(texts).__name__, merges), rule, ("[text].", "[text]。")
            )
        plain = cls([], lower, normalize)
        chunks: Counter[str] = Counter()
        for text in texts:
            chunks.update(_CHUNKS.findall(plain.prepared(text)))
        return cls(_learnt(chunks, merges, min_count), lower, normalize)

    def split(self, text: str) -> list[str]:
        """The tokens of a prepared text."""
        return [token for chunk in _CHUNKS.findall(text) for token in self._chunk(chunk)]

    @functools.cached_property
    def _chunk(self) -> Any:
        return functools.lru_cache(65_536)(self._merged)

    def _merged(self, chunk: str) -> tuple[str, ...]:
        parts = list(chunk)
        while len(parts) > 1:
            pair = min(pairwise(parts), key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if pair not in self._ranks:
                break
            parts = _joined(parts, pair)
        return tuple(parts)

    def detokenize(self, tokens: Iterable[str]) -> str:
        """The tokens one after the other."""
        return "".join(tokens)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_chunk"}

    def save(self, path: FilePath) -> None:
        """Write the merges to a JSON file, whole or not at all."""
        left, right = [pair[0] for pair in self.merges], [pair[1] for pair in self.merges]
        write_json(path, {"format": _FORMAT, "lower": self.lower, "normalize": self.normalize, "left": left, "right": right})

    @classmethod
    def load(cls, path: FilePath, max_bytes: int = LIMIT) -> SubwordTokenizer:
        """The tokenizer in a file that ``save`` wrote. Raises StateError that names the file and the fault."""
        merges, lower, normalize = read_json(path, _KIND, _FORMAT, _parts, max_bytes)
        return cls(merges, lower, normalize)


def _parts(content: dict[str, Any]) -> tuple[list[tuple[str, str]], bool, Form | None]:
    left, right = texts(content, "left", unique=False), texts(content, "right", unique=False)
    lower, normalize = content.get("lower"), content.get("normalize")
    merges = list(zip(left, right))
    if len(left) != len(right) or len(set(merges)) != len(merges) or "" in left or "" in right:
        raise Fault("its merges are no pairs, or one stands twice", "結合の対がそろっていないか、重複しています")
    if type(lower) is not bool or normalize not in FORMS:
        raise Fault("'lower' or 'normalize' is none of the values that exist", "'lower' か 'normalize' の値が正しくありません")
    return merges, lower, normalize


def _joined(parts: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """The parts with each occurrence of the pair, from the left, as one."""
    made: list[str] = []
    i = 0
    while i < len(parts):
        both = i + 1 < len(parts) and (parts[i], parts[i + 1]) == pair
        made.append(parts[i] + parts[i + 1] if both else parts[i])
        i += 1 + both
    return made


def _learnt(chunks: Counter[str], merges: int, min_count: int) -> list[tuple[str, str]]:
    """The merges. How often each pair occurs is kept up to date: only the chunks that hold the merged pair are counted anew. The heap may hold
    old counts of a pair beside the current one; they are passed over."""
    words = [list(chunk) for chunk in chunks]
    weights = list(chunks.values())
    counts: Counter[tuple[str, str]] = Counter()
    holders: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for number, word in enumerate(words):
        for pair in pairwise(word):
            counts[pair] += weights[number]
            holders[pair].add(number)
    heap = [(-times, pair) for pair, times in counts.items()]
    heapq.heapify(heap)
    learnt: list[tuple[str, str]] = []
    while heap and len(learnt) < merges:
        times, best = heapq.heappop(heap)
        if -times != counts[best]:
            continue
        if -times < min_count:
            break
        learnt.append(best)
        change: Counter[tuple[str, str]] = Counter()
        for number in holders.pop(best):
            word, made = words[number], _joined(words[number], best)
            words[number] = made
            for pair in pairwise(word):
                change[pair] -= weights[number]
            for pair in pairwise(made):
                change[pair] += weights[number]
                holders[pair].add(number)
        for pair, difference in change.items():
            if difference:
                counts[pair] += difference
                heapq.heappush(heap, (-counts[pair], pair))
    return learnt
