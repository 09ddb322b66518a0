"""Text: Shakespeare's plays, six novels, WikiText-2. Examples are lines; ``text`` is the whole."""

from __future__ import annotations

from pathlib import Path

from ...errors import one_of
from ..formats import read_text
from .base import NamedItems, Transform, not_empty
from .card import Card, File
from .places import Folder
from .recipes import between, github, packed, same


class TextDataset(NamedItems):
    """A text. Example: a line, str without its end. ``text`` is the whole as one str, for models of characters or of a long stream."""

    text: str

    def _hold(self, text: str, path: Path) -> None:
        not_empty(text.strip(), path, "text")
        self.text = text
        self.items = text.removesuffix("\n").split("\n")


class TinyShakespeare(TextDataset):
    """1,115,394 characters of Shakespeare's plays. Example: a line; ``text`` is the whole.

    split: ``"train"`` (the first 90 % of the characters), ``"valid"`` (the next 5 %), ``"test"`` (the last 5 %) or ``"all"``.
    Licence: public domain. Karpathy, char-rnn, 2015.
    """

    card = Card(
        "tinyshakespeare",
        "tinyshakespeare",
        ("1.1 million characters of Shakespeare", "シェイクスピアの戯曲 110 万文字"),
        ("public domain", "パブリックドメイン"),
        "https://github.com/karpathy/char-rnn",
        (
            File(
                "input.txt",
                1115394,
                "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                (
                    same(
                        github(
                            "karpathy/char-rnn", "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e", "data/tinyshakespeare/input.txt"
                        )
                    ),
                ),
            ),
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
        one_of("TinyShakespeare", "split", split, ("train", "valid", "test", "all"))
        path = self.places().path("input.txt")
        text = read_text(path)
        first, second = len(text) * 90 // 100, len(text) * 95 // 100
        self._hold({"train": text[:first], "valid": text[first:second], "test": text[second:], "all": text}[split], path)


def _novel(title: str, size: int, sha256: str, source: tuple[str, str, str], first: str, last: str) -> File:
    url = github("GITenberg/" + source[0], source[1], source[2])
    return File(f"gutenberg/{title}.txt.gz", size, sha256, (packed(url, between(first, last)),))


class Novels(TextDataset):
    """A novel of the 19th century, in English, from Project Gutenberg, without its header and licence. Example: a line; ``text`` is the whole.

    title: one of ``Novels.titles``, from ``"war_and_peace"`` (3.2 million characters) to ``"sherlock_holmes"`` (0.6 million).
    Licence: public domain in the USA.
    """

    titles = (
        "war_and_peace",
        "middlemarch",
        "moby_dick",
        "tale_of_two_cities",
        "pride_and_prejudice",
        "sherlock_holmes",
    )
    card = Card(
        "novels",
        "text_corpora",
        ("six English novels, 1.45 million words", "英語の小説 6 冊、145 万語"),
        ("public domain in the USA", "米国でパブリックドメイン"),
        "https://www.gutenberg.org",
        (
            _novel(
                "war_and_peace",
                3207384,
                "d2774b951b40026908696b8c9b96d94c8f68669cfde41ca4ab709fe6856fd109",
                ("War-and-Peace_2600", "fa22ab90f00f627e83d14acabe32d91602d2365d", "2600.txt"),
                "WAR AND PEACE\n\nBy Leo Tolstoy/Tolstoi",
                "to recognize a dependence of which we are not\nconscious.",
            ),
            _novel(
                "middlemarch",
                1794735,
                "3d847bc5d5ed4305eb2176b68c46af70e12b6a5748c5693918d472ea31b59813",
                ("Middlemarch_145", "39add53d31f10ba5cecdcbe8c095f90b25fd4b3f", "145.txt"),
                "Middlemarch\n\n\nBy\n\nGeorge Eliot",
                "faithfully a hidden life, and rest in unvisited tombs.",
            ),
            _novel(
                "moby_dick",
                1215756,
                "6c445761e922cd08ac5412fa9ef4a34888adf60757e8c7ab9db68a9f21800cc6",
                ("Moby-Dick--Or-The-Whale_2701", "bdf1948e6cd00963730971e5624e764a35f238c3", "2701.txt"),
                "MOBY DICK; OR THE WHALE\n\nBy Herman Melville",
                "after her missing children, only found another\norphan.",
            ),
            _novel(
                "tale_of_two_cities",
                757220,
                "2326ff794eaaf3337c357df9129143150bb02afff7d8baf946a193b679c4e9f5",
                ("A-Tale-of-Two-Cities_98", "0f6111bc7237af7375295ec1754c2e57e19f67f1", "98.txt"),
                "A TALE OF TWO CITIES\n\nA STORY OF THE FRENCH REVOLUTION",
                'far better rest that I go to than I have ever known."',
            ),
            _novel(
                "pride_and_prejudice",
                684768,
                "dfc684d4f857fa938268f9ab9c5567b64bd0691251eca959644adeabe6287a4d",
                ("Pride-and-Prejudice_1342", "81db45c9c48c592f0b77f01fc59e677ad0a5634e", "1342.txt"),
                "PRIDE AND PREJUDICE\n\nBy Jane Austen",
                "Derbyshire, had been the means of uniting them.",
            ),
            _novel(
                "sherlock_holmes",
                562331,
                "369b44ac9865a7dd3c06eb27212002653a7ae92422aaeb5f8b15fe9f429fbf8e",
                ("The-Adventures-of-Sherlock-Holmes_1661", "7e5dd2703fbf503c004063e96ab7c61262375e5f", "1661.txt"),
                "THE ADVENTURES OF SHERLOCK HOLMES\n\nby\n\nSIR ARTHUR CONAN DOYLE",
                "where I believe that she has met with considerable success.",
            ),
        ),
    )

    def __init__(
        self,
        title: str = "pride_and_prejudice",
        root: Folder | None = None,
        transform: Transform = None,
        download: bool = True,
        verify: bool = False,
    ) -> None:
        super().__init__(root, download, verify, transform)
        one_of("Novels", "title", title, self.titles)
        path = self.places().path(f"gutenberg/{title}.txt.gz")
        self._hold(read_text(path), path)


def _wikitext(split: str, size: int, sha256: str) -> File:
    path = f"word_language_model/data/wikitext-2/{split}.txt"
    url = github("pytorch/examples", "77f55b912142e11fcfdf5b530231fb9c52f181e8", path)
    return File(f"wikitext-2/{split}.txt.gz", size, sha256, (packed(url),))


class WikiText2(TextDataset):
    """The validation and test parts of WikiText-2: articles of Wikipedia, tokens separated by spaces, rare words as ``<unk>``.
    Example: a line, often empty; ``text`` is the whole.

    split: ``"valid"`` (217,646 tokens with an end for every line) or ``"test"`` (245,569). The training part, 10.8 MB, is not included.
    Licence: CC BY-SA 3.0. Merity, Xiong, Bradbury, Socher: Pointer sentinel mixture models, 2016.
    """

    card = Card(
        "wikitext2",
        "text_corpora",
        ("articles of Wikipedia, validation and test parts", "Wikipedia の記事 (検証用とテスト用)"),
        ("CC BY-SA 3.0", "CC BY-SA 3.0"),
        "https://github.com/pytorch/examples/tree/main/word_language_model",
        (
            _wikitext("valid", 1121681, "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"),
            _wikitext("test", 1256449, "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"),
        ),
    )

    def __init__(
        self,
        root: Folder | None = None,
        split: str = "valid",
        transform: Transform = None,
        download: bool = True,
        verify: bool = False,
    ) -> None:
        super().__init__(root, download, verify, transform)
        one_of("WikiText2", "split", split, ("valid", "test"))
        path = self.places().path(f"wikitext-2/{split}.txt.gz")
        self._hold(read_text(path), path)
