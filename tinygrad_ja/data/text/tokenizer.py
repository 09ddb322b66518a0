"""Text cut into tokens and put together again: by spaces, by characters as a reader sees them, by English words."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from typing import Literal, get_args

from ...errors import one_of, refusal

Form = Literal["NFC", "NFKC", "NFD", "NFKD"]
"""A normal form of Unicode."""

FORMS = (None, *get_args(Form))


class Tokenizer:
    """What tokenizers share: ``tokenizer(text)`` is a list of str, ``tokenizer.detokenize(tokens)`` a text.

    lower: the text in lower case first. normalize: None, or a normal form of Unicode; "NFKC" makes full-width letters and half-width kana
    ordinary ones (ｱ to ア).
    A subclass says in ``split`` how a text that is prepared in this way is cut. Raises ArgumentError for what is no text.
    """

    def __init__(self, lower: bool = False, normalize: Form | None = None) -> None:
        if normalize not in FORMS:
            rule, fix = (f"one of {FORMS}", f"{FORMS} のどれか"), ("normalize='NFKC'.", "normalize='NFKC' などとしてください。")
            raise refusal(type(self).__name__, "normalize", normalize, rule, fix)
        self.lower, self.normalize = lower, normalize

    def __call__(self, text: str) -> list[str]:
        return self.split(self.prepared(text))

    def prepared(self, text: str) -> str:
        """The text in its normal form and case."""
        if not isinstance(text, str):
            rule, fix = (
                ("a str", "str"),
                ("pass one text; decode bytes first.", "テキストを 1 つ渡してください。bytes は先に decode します。"),
            )
            raise refusal(type(self).__name__, "text", (f"a {type(text).__name__}", type(text).__name__), rule, fix)
        if self.normalize is not None:
            text = unicodedata.normalize(self.normalize, text)
        return text.lower() if self.lower else text

    def split(self, text: str) -> list[str]:
        """The tokens of a prepared text."""
        raise NotImplementedError

    def detokenize(self, tokens: Iterable[str]) -> str:
        """A text of these tokens."""
        raise NotImplementedError


class SpaceTokenizer(Tokenizer):
    """What stands between white space.

    >>> SpaceTokenizer()("a  b\\nc")
    ['a', 'b', 'c']
    """

    def split(self, text: str) -> list[str]:
        """What stands between white space."""
        return text.split()

    def detokenize(self, tokens: Iterable[str]) -> str:
        """The tokens with a space between two."""
        return " ".join(tokens)


# ---- characters ----------------------------------------------------------------------------------

_REGIONS = "\U0001f1e6-\U0001f1ff"  # two of these letters are a flag
_JOINER = "\u200d"
_ALSO = ((0x1160, 0x11FF), (0xD7B0, 0xD7FF), (0xFF9E, 0xFF9F), (0x1F3FB, 0x1F3FF), (0xE0020, 0xE007F))
"""Jamo vowels and finals, half-width voicing marks, skin colours, tags of flags: no marks by category, but part of the character before."""


@functools.cache
def _graphemes() -> re.Pattern[str]:
    """A character as it is seen (nearly UAX #29): a code point and the marks on it; what a joiner joins; a flag; the end of a line of DOS."""
    marks = [code for code in (*range(0x300, 0x20000), *range(0xE0000, 0xE01F0)) if unicodedata.category(chr(code))[0] == "M"]
    runs: list[list[int]] = []
    for code in marks:
        if runs and code == runs[-1][1] + 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    extending = "".join([f"{chr(first)}-{chr(last)}" for first, last in (*runs, *_ALSO)])
    return re.compile(f"\r\n|[{_REGIONS}]{{2}}|.(?:[{extending}]|{_JOINER}.?)*", re.DOTALL)


class CharacterTokenizer(Tokenizer):
    """Characters as a reader sees them: が in two code points is one, and so are flags and families of emoji.

    whitespace: "keep", "drop", or "collapse", by which each run of white space is one space.

    >>> len("か\\u3099き 1"), len(CharacterTokenizer()("か\\u3099き 1"))
    (5, 4)
    >>> CharacterTokenizer(normalize="NFKC", whitespace="drop")("ﾃﾞｰﾀ 1")
    ['デ', 'ー', 'タ', '1']
    """

    def __init__(self, lower: bool = False, normalize: Form | None = None, whitespace: str = "keep") -> None:
        super().__init__(lower, normalize)
        self.whitespace = one_of("CharacterTokenizer", "whitespace", whitespace, ("keep", "drop", "collapse"))

    def split(self, text: str) -> list[str]:
        """The characters."""
        if self.whitespace != "keep":
            text = ("" if self.whitespace == "drop" else " ").join(re.split(r"\s+", text))
        if text.isascii() and "\r" not in text:
            return list(text)
        return _graphemes().findall(text)

    def detokenize(self, tokens: Iterable[str]) -> str:
        """The characters, one after the other."""
        return "".join(tokens)


# ---- words ---------------------------------------------------------------------------------------

_WORDS = re.compile(r"\d+(?:[.,:]\d+)+(?!\w)|\w+(?:['\u2019\-]\w+)*|\.{2,}|[^\w\s]")
_CLOSING = re.compile(r"[.,;:!?%)\]}…\u2019”»]|\.{2,}")
_OPENING = re.compile(r"[(\[{$£€“\u2018«#@]")


class WordTokenizer(Tokenizer):
    """Words, numbers and marks of English and its kin: "don't", "well-known" and "3.14" are one token, each mark is one.

    >>> WordTokenizer(lower=True)('He said, "It\\'s $3.50 - not (much)!"')
    ['he', 'said', ',', '"', "it's", '$', '3.50', '-', 'not', '(', 'much', ')', '!', '"']
    """

    def split(self, text: str) -> list[str]:
        """Words, numbers and marks."""
        return _WORDS.findall(text)

    def detokenize(self, tokens: Iterable[str]) -> str:
        """The tokens with spaces where English has them. A straight quotation mark opens and closes in turn.

        >>> WordTokenizer().detokenize(["It's", "(", "not", ")", '"', "so", '"', "."])
        'It\\'s (not) "so".'
        """
        made, glued, quoted = [""], True, False
        for token in tokens:
            closing = quoted if token == '"' else bool(_CLOSING.fullmatch(token))
            made.append(token if glued or closing else f" {token}")
            if token == '"':
                quoted = not quoted
            glued = quoted if token == '"' else bool(_OPENING.fullmatch(token))
        return "".join(made)
