"""Pairs of sequences: English and Japanese sentences, sums and dates as text, each with what it should become."""

from __future__ import annotations

from typing import Any

from ...errors import one_of
from ...io.files import damaged
from ..formats import read_lines, read_pairs
from .base import NamedItems, Transform, not_empty, part
from .card import Card, File
from .places import Folder
from .recipes import github, same

_ENJA = ("odashi/small_parallel_enja", "312408a11c5fbcbc09443bebb18121f7efdcd61e")
_DLFS2 = ("oreilly-japan/deep-learning-from-scratch-2", "842ae31c2bb070f5116275606ed90396626a2c17")


def _enja(path: str, size: int, sha256: str) -> File:
    return File(path, size, sha256, (same(github(*_ENJA, path)),))


class SmallParallelEnJa(NamedItems):
    """Short English and Japanese sentences, 4 to 16 words, tokens separated by spaces. Example: (English, Japanese), both str.

    split: ``"train"`` (50,000), ``"dev"`` (500) or ``"test"`` (500). transform: a function of the pair. ``vocabulary`` reads the lists of
    words that come with the set. Licence: the sentences are from the Tanaka corpus (Tatoeba, CC BY 2.0 FR); the selection states none.
    """

    card = Card(
        "small_parallel_enja",
        "small_parallel_enja",
        ("English-Japanese sentences, 50,000 + 500 + 500 pairs", "英日の対訳文 50,000 + 500 + 500 組"),
        (
            "sentences: Tanaka corpus, Tatoeba, CC BY 2.0 FR; the selection states no licence",
            "文は Tanaka コーパス (Tatoeba、CC BY 2.0 FR)。抜粋には明記なし",
        ),
        "https://github.com/odashi/small_parallel_enja",
        (
            _enja("train.en", 1701356, "148b05dcd28638fe20ee84f2b1127001c80982be352007dda241fb759adadc76"),
            _enja("train.ja", 2784447, "fc81a1434349ec98a449d7ae9cd2530057f689637684ecfed3501ea6a8a07ecc"),
            _enja("dev.en", 17054, "04a2673449770657fd5e3b963cb856be3130923212b6db8ac7eaeef18f06c041"),
            _enja("dev.ja", 27781, "cd534f56b8639dc130f86a365e5ec0aa70042000bdd740a622fbbf8b6be4acca"),
            _enja("test.en", 17301, "45edb380749ec2b49cca7618fc5a7595fc9f791180672ba466b90c873a4aa8bf"),
            _enja("test.ja", 27793, "d37dc460a81b064e4106c8913eb11fa300da05cf3f58a7a5bbfec7e20947ddef"),
            _enja("train.en.vocab.4k", 30025, "afaf88e38434392981dbc2f0be1d7b9ab91caf5199e13f759b72ab5f423c8548"),
            _enja("train.en.vocab.all", 51162, "aab7c63156220e227e70f83c7e324f92cdbfbda2133204c9cc0970a5ea1763af"),
            _enja("train.ja.vocab.4k", 31009, "07222c9b4682b90c674554556183cc8d8eb61897f4f62c0bedd6c26c665a947e"),
            _enja("train.ja.vocab.all", 73669, "a296d3bf32a13151ff2b9799cf26ecdb9d6028b32f01cc7824a7090ff5674894"),
        ),
    )

    def __init__(
        self,
        root: Folder | None = None,
        split: str = "train",
        transform: Transform = None,
        download: bool = True,
        verify: bool = False,
    ) -> None:
        super().__init__(root, download, verify, transform)
        one_of("SmallParallelEnJa", "split", split, ("train", "dev", "test"))
        places = self.places()
        english, japanese = places.path(f"{split}.en"), places.path(f"{split}.ja")
        self.items = not_empty(read_pairs(english, japanese), english, "parallel text")

    def vocabulary(self, language: str, size: str = "4k") -> list[str]:
        """The words of ``"en"`` or ``"ja"`` in the training part: the ``"4k"`` most frequent, or ``"all"``.

        ``<unk>``, ``<s>`` and ``</s>`` stand first.
        """
        one_of("vocabulary", "language", language, ("en", "ja"))
        one_of("vocabulary", "size", size, ("4k", "all"))
        return read_lines(self.places().path(f"train.{language}.vocab.{size}"))


class QuestionDataset(NamedItems):
    """Short texts with answers, such as ``("16+75", "91")``. The longest question and answer have ``widths`` characters."""

    widths: tuple[int, int]

    def __init__(
        self,
        root: Folder | None = None,
        split: str = "train",
        transform: Transform = None,
        download: bool = True,
        verify: bool = False,
    ) -> None:
        super().__init__(root, download, verify, transform)
        place = self.places().path(self.card.files[0].path)
        lines = read_lines(place)
        question, answer = self.widths
        if any(len(line) != question + 1 + answer or line[question] != "_" for line in lines):
            fault = (f"a line is not {question} characters, '_' and {answer} characters", "長さの違う行があります")
            raise damaged(place, "question and answer", fault)
        pairs: list[Any] = [(line[:question].rstrip(), line[question + 1 :].rstrip()) for line in lines]
        self.items = not_empty(part(type(self).__name__, pairs, split), place, "question and answer")


class Addition(QuestionDataset):
    """Sums of two numbers below 1,000, as text. Example: (question, answer), such as ``("16+75", "91")``.

    split: ``"train"`` (45,000), ``"test"`` (every tenth line, 5,000) or ``"all"``. Questions have up to 7 characters, answers up to 4.
    ``synthetic.Additions`` makes such pairs without a file. Licence: MIT, (c) 2018 Koki Saitoh.
    """

    widths = (7, 4)
    card = Card(
        "addition",
        "dlfs2_seq",
        ("sums as text, 50,000 pairs", "足し算の文字列 50,000 組"),
        ("MIT, (c) 2018 Koki Saitoh", "MIT, (c) 2018 斎藤康毅"),
        "https://github.com/oreilly-japan/deep-learning-from-scratch-2",
        (
            File(
                "addition.txt",
                650000,
                "34e0746f5014c11311c9452ee9050bf14e38eca44ec4aaf4d81eba2b38674009",
                (same(github(*_DLFS2, "dataset/addition.txt")),),
            ),
        ),
    )


class Dates(QuestionDataset):
    """Dates as people write them, and as ISO 8601. Example: (question, answer), such as ``("september 27, 1994", "1994-09-27")``.

    split: ``"train"`` (45,000), ``"test"`` (every tenth line, 5,000) or ``"all"``. Questions have up to 29 characters, answers 10.
    ``synthetic.DateStrings`` makes such pairs without a file. Licence: MIT, (c) 2018 Koki Saitoh.
    """

    widths = (29, 10)
    card = Card(
        "dates",
        "dlfs2_seq",
        ("dates as text, 50,000 pairs", "日付の書式の変換 50,000 組"),
        ("MIT, (c) 2018 Koki Saitoh", "MIT, (c) 2018 斎藤康毅"),
        "https://github.com/oreilly-japan/deep-learning-from-scratch-2",
        (
            File(
                "date.txt",
                2050000,
                "62e66a301ce8537868e725512d2a45663fc366526b7e42028cb703bda2b1c79a",
                (same(github(*_DLFS2, "dataset/date.txt")),),
            ),
        ),
    )
