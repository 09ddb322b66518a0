"""Words of Japanese text, by SudachiPy and its dictionaries (Takaoka et al., LREC 2018)."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from ...errors import error, one_of, refusal
from .stored import writable
from .tokenizer import Form, Tokenizer

_PIECE = 1000
"""Characters that are given to SudachiPy at once. It takes 49,149 bytes, and its normal form, in which one character may become 18, 65,535."""

_ENDS = ("。！？!?\n", "、，,;・ \u3000\t")
"""After which characters a long text is cut: at the end of a sentence where there is one, else of a phrase."""

_FORMS = {
    "surface": "surface",
    "dictionary": "dictionary_form",
    "normalized": "normalized_form",
    "reading": "reading_form",
}

_LATIN = re.compile(r"[A-Za-z0-9\u00c0-\u024f]")


class JapaneseTokenizer(Tokenizer):
    """Words of Japanese; needs ``pip install 'tinygrad_ja[japanese]'``.

    mode: "A" short units, "B" middle ones, "C" names and compounds whole. dictionary: "core", "small" or "full" (each a package of its own,
    sudachidict_core and so on). form: "surface" as it is written, "dictionary" the basic form of verbs and adjectives, "normalized" with
    one spelling for all, "reading" in katakana. White space is no token. Other arguments as for ``Tokenizer``.

    A text of any length is taken: it is cut at the ends of sentences first. Threads may share a tokenizer, and it can be pickled.
    Raises ArgumentError, also when a package is missing (TG-A002).

    >>> JapaneseTokenizer()("東京都に行った。")
    ['東京都', 'に', '行っ', 'た', '。']
    >>> JapaneseTokenizer(mode="A", form="dictionary")("東京都に行った。")
    ['東京', '都', 'に', '行く', 'た', '。']
    """

    def __init__(
        self,
        mode: str = "C",
        dictionary: str = "core",
        form: str = "surface",
        lower: bool = False,
        normalize: Form | None = None,
    ) -> None:
        super().__init__(lower, normalize)
        self.mode = one_of("JapaneseTokenizer", "mode", mode, ("A", "B", "C"))
        self.dictionary = one_of("JapaneseTokenizer", "dictionary", dictionary, ("core", "small", "full"))
        self.form = one_of("JapaneseTokenizer", "form", form, _FORMS)
        self._cutter()

    def _cutter(self) -> Any:
        return _cutter(self.dictionary, self.mode)

    def split(self, text: str) -> list[str]:
        """The words."""
        if not writable([text]):
            rule, fix = ("valid Unicode", "正しい Unicode"), ("decode it anew.", "正しく decode し直してください。")
            raise refusal("JapaneseTokenizer", "text", "with half a character", rule, fix)
        cutter, form = self._cutter(), _FORMS[self.form]
        return [
            getattr(word, form)() for piece in pieces(text) for word in cutter.tokenize(piece) if not word.surface().isspace()
        ]

    def detokenize(self, tokens: Iterable[str]) -> str:
        """The words without spaces, but with one between two words in Latin letters or digits.

        >>> JapaneseTokenizer().detokenize(["Deep", "Learning", "を", "学ぶ"])
        'Deep Learningを学ぶ'
        """
        made = [""]
        for token in tokens:
            apart = _LATIN.match(made[-1][-1:]) and _LATIN.match(token)
            made.append(f" {token}" if apart else token)
        return "".join(made)


def pieces(text: str, limit: int = _PIECE) -> Iterator[str]:
    """The text in pieces of at most ``limit`` characters, cut behind the end of a sentence, else of a phrase, else anywhere.

    >>> list(pieces("今日は。いい天気、です", 6))
    ['今日は。', 'いい天気、', 'です']
    """
    start = 0
    while len(text) - start > limit:
        stop = start + limit
        found = [max([text.rfind(end, start, stop) for end in ends]) for ends in _ENDS]
        stop = next((place + 1 for place in found if place >= start), stop)
        yield text[start:stop]
        start = stop
    yield text[start:]


class _Cutters(threading.local):
    """A tokenizer of SudachiPy serves one thread at a time, so each thread has its own. They share the dictionary."""

    def __init__(self) -> None:
        self.made: dict[tuple[str, str], Any] = {}


_cutters = _Cutters()


def _cutter(dictionary: str, mode: str) -> Any:
    made, key = _cutters.made, (dictionary, mode)
    if key not in made:
        loaded = _dictionary(dictionary)
        from sudachipy import SplitMode

        create = getattr(loaded, "tokenizer", None) or loaded.create  # the name before version 0.7
        made[key] = create(mode=getattr(SplitMode, mode))
    return made[key]


@functools.cache
def _dictionary(name: str) -> Any:
    try:
        from sudachipy import Dictionary
    except ImportError:
        raise error("TG-A002", package="sudachipy", install="sudachipy>=0.6.8' 'sudachidict-core") from None
    try:
        return Dictionary(dict=name)
    except ModuleNotFoundError:
        raise error("TG-A002", package=f"sudachidict_{name}", install=f"sudachidict-{name}") from None
