"""Vocabulary: which number each token has, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ...backend.devices import Device
from ...core.host import on_host
from ...core.tensor import Tensor
from ...errors import error, refusal
from ...io.files import Fault, FilePath
from ...ops.creation import tensor
from .stored import LIMIT, read_json, texts, writable, write_json

SPECIALS: Mapping[str, str] = {"pad": "<pad>", "unk": "<unk>", "bos": "<bos>", "eos": "<eos>"}
"""Roles of special tokens and their names; their numbers are 0, 1, 2, 3."""

_FORMAT = "tinygrad_ja vocabulary 1"
_KIND = "vocabulary"


class Vocabulary:
    """The tokens of a text and their numbers: special tokens first, then those that occur most; equally frequent ones in the order of their
    characters. The same text gives the same numbers everywhere.

    sentences: an iterable of lists of tokens. min_count: tokens that occur less often are unknown. max_size: how many tokens at most, the
    special ones included. specials: role -> name, in the order of their numbers; a token of a text that has such a name is that special token.
    "unk" stands for unknown tokens, "pad", "bos", "eos" are used by ``encode`` and ``encode_batch``; further roles, such as "mask", are yours.

    tokens: all tokens by number. counts: how often each occurred, in ``nn.NegativeSampling``'s order; that of "unk" counts what became unknown.
    Raises ArgumentError.

    >>> vocabulary = Vocabulary([["the", "cat", "sat"], ["the", "dog"]])
    >>> vocabulary.tokens
    ('<pad>', '<unk>', '<bos>', '<eos>', 'the', 'cat', 'dog', 'sat')
    >>> vocabulary.encode(["the", "bird"], eos=True)
    [4, 1, 3]
    >>> vocabulary.decode([2, 4, 5, 3, 0, 0])
    ['the', 'cat']
    >>> len(vocabulary), "cat" in vocabulary, vocabulary["cat"], vocabulary.pad
    (8, True, 5, 0)
    """

    def __init__(
        self,
        sentences: Iterable[Iterable[str]],
        min_count: int = 1,
        max_size: int | None = None,
        specials: Mapping[str, str] = SPECIALS,
    ) -> None:
        found: Counter[str] = Counter()
        for sentence in sentences:
            if isinstance(sentence, str) or not isinstance(sentence, Iterable):
                rule = ("an iterable of lists of tokens", "トークンのリストを並べたもの")
                fix = (
                    "tokenize each text first; for one list, [tokens].",
                    "先にトークンに分けてください。リスト 1 つなら [tokens]。",
                )
                raise refusal("Vocabulary", "sentences", f"[{str(sentence)[:20]!r}, ...]", rule, fix)
            found.update(sentence)
        self._fill(found, min_count, max_size, _checked_specials(specials))

    @classmethod
    def from_counts(
        cls, counts: Mapping[str, int], min_count: int = 1, max_size: int | None = None, specials: Mapping[str, str] = SPECIALS
    ) -> Vocabulary:
        """A vocabulary of tokens that are counted already."""
        made = cls.__new__(cls)
        made._fill(Counter(counts), min_count, max_size, _checked_specials(specials))
        return made

    def _fill(self, found: Counter[str], min_count: int, max_size: int | None, specials: dict[str, str]) -> None:
        if not all([isinstance(token, str) for token in found]) or not writable(list(found)):
            rule = ("tokens of type str, valid Unicode", "トークンは正しい Unicode の str")
            value = ("other tokens", "ほかのトークン")
            raise refusal("Vocabulary", "sentences", value, rule, ("convert the tokens.", "変換してください。"))
        if max_size is not None and max_size < len(specials):
            rule = (f"at least {len(specials)}, the special tokens", f"特殊トークンの数 {len(specials)} 以上")
            raise refusal("Vocabulary", "max_size", max_size, rule, ("leave it out.", "指定しないでください。"))
        names = set(specials.values())
        words = sorted([token for token in found if token not in names], key=lambda token: (-found[token], token))
        room = len(words) if max_size is None else max_size - len(specials)
        kept = [token for token in words[:room] if found[token] >= min_count]
        counts = [found[token] for token in (*specials.values(), *kept)]
        if "unk" in specials:
            counts[list(specials).index("unk")] += sum([found[token] for token in words[len(kept) :]])
        self._set(specials, kept, counts)

    def _set(self, specials: dict[str, str], words: list[str], counts: list[int]) -> None:
        self.specials = specials
        self.tokens = (*specials.values(), *words)
        self.counts = counts
        self._numbers = {token: number for number, token in enumerate(self.tokens)}
        self._roles = {role: number for number, role in enumerate(specials)}

    # -- look-up

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._numbers

    def __getitem__(self, token: str) -> int:
        """The number of a token, that of "unk" for an unknown one. Raises ArgumentError where there is no "unk"."""
        return self._numbers[token] if token in self._numbers else self._unknown(token)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return (self.specials, self.tokens, self.counts) == (other.specials, other.tokens, other.counts)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Vocabulary(size={len(self)}, specials={list(self.specials.values())})"

    def special(self, role: str) -> int:
        """The number of a special token. Raises ArgumentError when there is none of that role."""
        if role not in self._roles:
            reason = (f"this vocabulary has no special token '{role}'", f"この語彙に特殊トークン '{role}' はありません")
            fix = (
                f'make it with specials={{..., "{role}": "<{role}>"}}.',
                f'specials={{..., "{role}": "<{role}>"}} として作ってください。',
            )
            raise error("TG-A003", op="Vocabulary", reason=reason, fix=fix)
        return self._roles[role]

    @property
    def pad(self) -> int:
        """The number of the padding, for ``padding_idx`` and ``ignore_index``."""
        return self.special("pad")

    @property
    def unk(self) -> int:
        """The number of unknown tokens."""
        return self.special("unk")

    @property
    def bos(self) -> int:
        """The number of the beginning of a sentence."""
        return self.special("bos")

    @property
    def eos(self) -> int:
        """The number of the end of a sentence."""
        return self.special("eos")

    def _unknown(self, token: str) -> int:
        if "unk" in self._roles:
            return self._roles["unk"]
        reason = (
            f"the token {token!r} is not in the vocabulary, which has no 'unk'",
            f"トークン {token!r} は語彙になく、'unk' もありません",
        )
        fix = ('make it with specials={..., "unk": "<unk>"}.', 'specials={..., "unk": "<unk>"} として作ってください。')
        raise error("TG-A003", op="Vocabulary", reason=reason, fix=fix)

    # -- sentences

    def encode(self, tokens: Iterable[str], bos: bool = False, eos: bool = False) -> list[int]:
        """The numbers of tokens, with the beginning and the end of the sentence when asked for."""
        if isinstance(tokens, str):
            rule, fix = ("a list of tokens", "トークンのリスト"), ("tokenize the text first.", "先にトークンに分けてください。")
            raise refusal("Vocabulary.encode", "tokens", repr(tokens[:20]), rule, fix)
        numbers = [self[token] for token in tokens]
        return [*([self.bos] if bos else []), *numbers, *([self.eos] if eos else [])]

    def decode(self, numbers: Any, keep_specials: bool = False) -> list[str]:
        """The tokens of numbers: a sequence of ints, an array (T,) or a Tensor (T,).

        Without ``keep_specials`` a sentence ends at its first "eos", and other special tokens than "unk" are left out. Raises ArgumentError for
        numbers that are not in the vocabulary.
        """
        found = _listed(numbers)
        if found and not 0 <= min(found) <= max(found) < len(self):
            value = min(found) if min(found) < 0 else max(found)
            rule = (f"0 <= number < {len(self)}", f"0 以上 {len(self)} 未満")
            raise refusal(
                "Vocabulary.decode", "numbers", value, rule, ("use its own numbers.", "この語彙の番号を渡してください。")
            )
        if keep_specials:
            return [self.tokens[number] for number in found]
        if "eos" in self._roles and self.eos in found:
            found = found[: found.index(self.eos)]
        silent = {number for role, number in self._roles.items() if role != "unk"}
        return [self.tokens[number] for number in found if number not in silent]

    def encode_batch(
        self,
        sentences: Sequence[Iterable[str]],
        bos: bool = False,
        eos: bool = False,
        max_length: int | None = None,
        batch_first: bool = False,
        device: str | Device | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Sentences as one Tensor: ``(numbers, lengths)`` for ``nn.utils.rnn.pack_padded_sequence(..., enforce_sorted=False)``.

        numbers: int64 (T, N), with ``batch_first`` (N, T), filled up with "pad". lengths: int64 (N,), always on the CPU, "bos" and "eos"
        counted. max_length: longer sentences lose their last tokens, but not "eos".

        >>> vocabulary = Vocabulary([["a", "b", "c"]])
        >>> numbers, lengths = vocabulary.encode_batch([["a"], ["c", "b", "a"]], eos=True, batch_first=True)
        >>> numbers.tolist(), lengths.tolist()
        ([[4, 3, 0, 0], [6, 5, 4, 3]], [2, 4])
        """
        room = None if max_length is None else max_length - bos - eos
        if room is not None and room < 0:
            rule = (f"{bos + eos} or more", f"{bos + eos} 以上")
            raise refusal(
                "Vocabulary.encode_batch", "max_length", max_length, rule, ("leave it out.", "指定しないでください。")
            )
        rows = [self.encode(_shortened(sentence, room), bos, eos) for sentence in sentences]
        lengths = [len(row) for row in rows]
        numbers = np.full((len(rows), max(lengths, default=0)), self.pad, np.int64)
        for row, line in zip(rows, numbers):
            line[: len(row)] = row
        laid = numbers if batch_first else np.ascontiguousarray(numbers.T)
        return tensor(laid, device=device), Tensor(np.array(lengths, np.int64))

    # -- files

    def save(self, path: FilePath) -> None:
        """Write the vocabulary to a JSON file, whole or not at all."""
        words = list(self.tokens[len(self.specials) :])
        write_json(path, {"format": _FORMAT, "specials": self.specials, "tokens": words, "counts": self.counts})

    @classmethod
    def load(cls, path: FilePath, max_bytes: int = LIMIT) -> Vocabulary:
        """The vocabulary in a file that ``save`` wrote.

        Raises StateError that names the file and the fault, for one above ``max_bytes`` too.

        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "words.json")
        >>> Vocabulary([["a", "b"]]).save(path)
        >>> Vocabulary.load(path)["b"]
        5
        """
        made = cls.__new__(cls)
        made._set(*read_json(path, _KIND, _FORMAT, _parts, max_bytes))
        return made


def _shortened(sentence: Iterable[str], room: int | None) -> Iterable[str]:
    return sentence if room is None or isinstance(sentence, str) else list(sentence)[:room]


def _listed(numbers: Any) -> list[int]:
    """Ints from a sequence, an array or a Tensor of one axis."""
    array = on_host(numbers)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        rule, fix = ("ints, (T,)", "整数 (T,)"), ("decode one sentence at a time.", "1 文ずつ渡してください。")
        raise error("TG-S002", op="Vocabulary.decode", rule=rule, shapes=f"{array.shape} ({array.dtype})", fix=fix)
    return [int(number) for number in array.tolist()]


def _checked_specials(specials: Mapping[str, str]) -> dict[str, str]:
    made = dict(specials) if isinstance(specials, Mapping) else {"": ""}
    texts_only = all([isinstance(text, str) and text for pair in made.items() for text in pair])
    if not texts_only or len(set(made.values())) != len(made) or not writable(list(made.values())):
        rule = ("role -> name, no name twice or empty", "役割 -> 名前。重複や空の名前は不可")
        fix = ('{"pad": "<pad>", "unk": "<unk>"}.', '{"pad": "<pad>", "unk": "<unk>"} などとしてください。')
        raise refusal("Vocabulary", "specials", specials, rule, fix)
    return made


def _parts(content: dict[str, Any]) -> tuple[dict[str, str], list[str], list[int]]:
    """Specials, words and counts from what a file holds, each checked."""
    specials, words, counts = content.get("specials"), texts(content, "tokens"), content.get("counts")
    if not isinstance(specials, dict):
        raise Fault("'specials' is no object", "'specials' がオブジェクトではありません")
    names = texts({"specials": list(specials.values())}, "specials")
    if not writable(list(specials)) or "" in names or "" in specials or not set(names).isdisjoint(words):
        raise Fault("a special token is empty or stands among the others", "特殊トークンが空か、他のトークンと重複しています")
    if not isinstance(counts, list) or len(counts) != len(names) + len(words):
        raise Fault("there is not one count for each token", "トークンごとの出現回数がそろっていません")
    if not all([type(count) is int and 0 <= count < 2**63 for count in counts]):
        raise Fault("a count is no whole number from 0 to 2^63 - 1", "出現回数が 0 以上 2^63 未満の整数ではありません")
    return specials, words, counts
