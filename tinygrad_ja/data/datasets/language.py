"""Language with structure: word analogies and similarities, sentiment trees, dialogues."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ...errors import one_of
from ...io.files import damaged
from ..formats import read_json_lines, read_lines, read_table, read_trees
from .base import NamedItems, Transform, not_empty
from .card import Card, File
from .places import Folder
from .recipes import first_lines, github, same, utterances


class Analogies(NamedItems):
    """Questions "a is to b as c is to?" for word vectors: 19,544 in 14 sections. Example: (a, b, c, d), four str.

    ``sections`` maps the name of a section to the range of its examples. Licence: Apache 2.0. Mikolov et al., Efficient estimation of word
    representations in vector space, 2013.
    """

    card = Card(
        "analogies",
        "word_eval",
        ("word analogies, 19,544 questions", "単語の類推問題 19,544 問"),
        ("Apache 2.0", "Apache 2.0"),
        "https://github.com/tmikolov/word2vec",
        (
            File(
                "questions-words.txt",
                603955,
                "8c29b3332afc46f3fb8be04cb5297bf96f39aa7131272dff57869b4485b22a36",
                (same(github("tmikolov/word2vec", "20c129af10659f7c50e86e3be406df663beff438", "questions-words.txt")),),
            ),
        ),
    )

    def __init__(
        self, root: Folder | None = None, transform: Transform = None, download: bool = True, verify: bool = False
    ) -> None:
        super().__init__(root, download, verify, transform)
        self.sections: dict[str, range] = {}
        self.items = []
        path = self.places().path("questions-words.txt")
        section, start = "", 0
        for number, line in enumerate(read_lines(path), 1):
            words = tuple(line.split())
            if line.startswith(": "):
                section, start = line[2:].strip(), len(self.items)
            elif len(words) == 4 and section:
                self.items.append(words)
            else:
                raise damaged(path, "analogies", (f"line {number} is not four words", f"{number} 行目が 4 語ではありません"))
            self.sections[section] = range(start, len(self.items))
        not_empty(self.items, path, "analogies")


class WordSim353(NamedItems):
    """Similarity of words as people judge it: 353 pairs. Example: (word, word, score), the score a float from 0 to 10.

    Licence: offered for download by its authors without a clear one. Finkelstein et al., Placing search in context, 2002.
    """

    card = Card(
        "wordsim353",
        "word_eval",
        ("similarity of 353 pairs of words", "単語 353 組の類似度"),
        ("unclear: offered for free download by its authors", "不明 (著者が無料で配布)"),
        "https://github.com/fanglanting/skip-gram-pytorch",
        (
            File(
                "wordsim353/combined.csv",
                7433,
                "49ff6433ae68abe716fb66433fd870483e289a7a8c74531f59eca847d103fff3",
                (
                    same(
                        github(
                            "fanglanting/skip-gram-pytorch",
                            "0a16cd6b03f56ebca1854c4b07368ea826625d0f",
                            "wordsim353/combined.csv",
                        )
                    ),
                ),
            ),
        ),
    )

    def __init__(
        self, root: Folder | None = None, transform: Transform = None, download: bool = True, verify: bool = False
    ) -> None:
        super().__init__(root, download, verify, transform)
        path = self.places().path("wordsim353/combined.csv")
        rows = list(read_table(path))
        if not rows or len(rows[0]) != 3:
            raise damaged(path, "WordSim-353", ("it has not three columns", "列が 3 つではありません"))
        self.items = not_empty([(first, second, _score(score, path)) for first, second, score in rows[1:]], path, "WordSim-353")


def _score(text: str, path: Path) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10:
        raise damaged(
            path, "WordSim-353", (f"{text[:20]!r} is no score from 0 to 10", f"{text[:20]!r} は 0 から 10 の点ではありません")
        )
    return value


def _sst(split: str, size: int, sha256: str, lines: int) -> File:
    url = github("munikarmanish/RNTN", "12bb731ba9fbdcdf2368b8515a241773f2b97547", f"trees/{split}.txt")
    return File(f"{split}.txt", size, sha256, (first_lines(lines, url),))


class SentimentTrees(NamedItems):
    """Stanford Sentiment Treebank: sentences of film reviews as trees with a label on every node. Example: a ``formats.Tree`` (words,
    children, labels), whose ``children`` the layers of ``nn`` over trees take.

    Labels: 0 very negative, 1 negative, 2 neutral, 3 positive, 4 very positive. split: ``"train"`` (8,544), ``"dev"`` (1,101) or ``"test"``
    (2,210). Words are as in the file, with ``\\/`` for a slash and ``-LRB-`` for a bracket. Licence: none stated. Socher et al., Recursive
    deep models for semantic compositionality over a sentiment treebank, 2013.
    """

    card = Card(
        "sst",
        "sst_trees",
        ("sentiment trees, 8,544 + 1,101 + 2,210", "感情ラベル付きの木 8,544 + 1,101 + 2,210 本"),
        ("unclear: released for download without a licence text", "不明 (ライセンス文なしで公開)"),
        "https://nlp.stanford.edu/sentiment/",
        (
            # the public train.txt has the trees of dev.txt at its end
            _sst("train", 2160058, "e2f3f41b0b1e6d4dddc0effe3bfc2d27ed8928079aa9a03d652311614fc5feb7", 8544),
            _sst("dev", 280825, "0e9336aed6e4730e19f58d00a77b3f0297efdb755f7b5e598c98a05e3f97ea40", 1101),
            _sst("test", 559614, "6e54806dee95cf80cd918e7dfb3f6770f6df24bf826f289a4d1f709e1c8f6761", 2210),
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
        one_of("SentimentTrees", "split", split, ("train", "dev", "test"))
        path = self.places().path(f"{split}.txt")
        self.items = not_empty(read_trees(path), path, "tree")


class Turn(NamedTuple):
    """One utterance."""

    speaker: str
    """``"U"`` user or ``"S"`` system."""
    text: str


class Dialogue(NamedTuple):
    """A conversation."""

    id: str
    services: list[str]
    turns: list[Turn]


_SPANS = (
    (1, 37),
    (38, 52),
    (57, 58),
    (59, 60),
    (61, 66),
    (67, 68),
    (69, 70),
    (86, 93),
    (95, 104),
    (105, 117),
    (119, 120),
    (121, 127),
)
_FILES = {
    "train": [number for span in _SPANS for number in range(*span)],
    "dev": [*range(1, 15), 16, 19, 20],
    "test": [*range(1, 12), 13, 14, 15, 17, 18, 20, 21, 24, 25, 30, 32, 33, 34],
}


def _sgd(split: str, size: int, sha256: str, each: int, total: int) -> File:
    repository = ("google-research-datasets/dstc8-schema-guided-dialogue", "e852981ae34990f4358979625854259302feaa78")
    urls = [github(*repository, f"{split}/dialogues_{number:03}.json") for number in _FILES[split]]
    return File(f"sgd/{split}.jsonl.gz", size, sha256, (utterances(urls, each, total),))


class SchemaGuidedDialogues(NamedItems):
    """Conversations of a user with an assistant (Schema-Guided Dialogue, DSTC8), utterances only. Example: a ``Dialogue`` (id, services,
    turns), each turn a ``Turn`` (speaker, text).

    split: ``"train"`` (5,000), ``"dev"`` (500) or ``"test"`` (500): the first dialogues of each of its smaller files. Fetching reads these
    files, up to 4 MB each. Licence: CC BY-SA 4.0. Rastogi et al., Towards scalable multi-domain conversational agents, 2019.
    """

    card = Card(
        "sgd",
        "dialogue",
        ("multi-turn dialogues, 5,000 + 500 + 500", "複数ターンの対話 5,000 + 500 + 500 件"),
        ("CC BY-SA 4.0", "CC BY-SA 4.0"),
        "https://github.com/google-research-datasets/dstc8-schema-guided-dialogue",
        (
            _sgd("train", 5815217, "ab39db3c1cac34de0447433d38b467bc4a688bfadd868b1b5069c7edb94bab88", 53, 5000),
            _sgd("dev", 569118, "0f61a77e37e099134b2009b11d8ad467277de7372b0b284d354abb5ffb4a47ca", 30, 500),
            _sgd("test", 590479, "8b61f152e9a70bb69f197104431026ab6870ea3f4c51eb19de05c0cf464faf20", 21, 500),
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
        one_of("SchemaGuidedDialogues", "split", split, ("train", "dev", "test"))
        path = self.places().path(f"sgd/{split}.jsonl.gz")
        self.items = not_empty(
            [_dialogue(row, number, path) for number, row in enumerate(read_json_lines(path), 1)], path, "dialogue"
        )


def _dialogue(row: Any, number: int, path: Path) -> Dialogue:
    try:
        made = Dialogue(row["id"], list(row["services"]), [Turn(speaker, text) for speaker, text in row["turns"]])
        right = all(turn.speaker in ("U", "S") and isinstance(turn.text, str) for turn in made.turns)
    except (KeyError, TypeError, ValueError):
        right = False
    if not right:
        raise damaged(path, "dialogue", (f"line {number} is no dialogue", f"{number} 行目が対話ではありません"))
    return made
