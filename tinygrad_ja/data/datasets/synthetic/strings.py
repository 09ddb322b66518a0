"""Text from small rules: sums and dates in the format of ``Addition`` and ``Dates``, a tiny English, and its Japanese."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from ....backend.random import Generator
from ...arrays import cpu_stream
from ..base import ItemDataset, Transform
from .numbers import need_positive


class Additions(ItemDataset):
    """Sums of two numbers below ``10 ** digits``, as text, like ``datasets.Addition``. Example: (question, answer), both str.

    ``widths``: the most characters of a question and of an answer.

    >>> import tinygrad_ja as tg
    >>> Additions(2, generator=tg.Generator().manual_seed(0)).items
    [('850+636', '1486'), ('511+269', '780')]
    """

    def __init__(
        self, size: int = 50_000, digits: int = 3, transform: Transform = None, generator: Generator | None = None
    ) -> None:
        self.transform = transform
        need_positive("Additions", size=size, digits=digits)
        self.widths = (2 * digits + 1, digits + 1)
        pairs = cpu_stream(generator).integers(0, 10**digits, (size, 2)).tolist()
        self.items = [(f"{a}+{b}", str(a + b)) for a, b in pairs]


_MONTHS = "January February March April May June July August September October November December".split()
_WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_FIRST = datetime.date(1970, 1, 1)
_DAYS = (datetime.date(2018, 1, 1) - _FIRST).days


class DateStrings(ItemDataset):
    """Dates from 1970 to 2017 as people write them, and as ISO 8601, like ``datasets.Dates``. Example: (question, answer), both str.

    Four forms, three cases of letters. ``widths``: the most characters of a question and of an answer.

    >>> import tinygrad_ja as tg
    >>> DateStrings(3, generator=tg.Generator().manual_seed(1)).items
    [('THURSDAY, SEPTEMBER 17, 1992', '1992-09-17'), ('7/27/94', '1994-07-27'), ('4/1/06', '2006-04-01')]
    """

    widths = (29, 10)

    def __init__(self, size: int = 50_000, transform: Transform = None, generator: Generator | None = None) -> None:
        self.transform = transform
        need_positive("DateStrings", size=size)
        source = cpu_stream(generator)
        days = source.integers(0, _DAYS, (size,)).tolist()
        forms = source.integers(0, 4, (size,)).tolist()
        cases = source.integers(0, 3, (size,)).tolist()
        self.items = [
            _written(_FIRST + datetime.timedelta(days=day), form, case) for day, form, case in zip(days, forms, cases)
        ]


def _written(day: datetime.date, form: int, case: int) -> tuple[str, str]:
    month = _MONTHS[day.month - 1]
    text = (
        f"{day.month}/{day.day}/{day.year % 100:02}",
        f"{month[:3]} {day.day}, {day.year}",
        f"{month} {day.day}, {day.year}",
        f"{_WEEKDAYS[day.weekday()]}, {month} {day.day}, {day.year}",
    )[form]
    return (text, text.lower(), text.upper())[case], day.isoformat()


# English, Japanese
_PEOPLE = (("i", "私"), ("you", "あなた"), ("we", "私 たち"), ("they", "彼 ら"))
_VERBS = (
    ("see", "を", "見 ま す"),
    ("like", "が", "好き で す"),
    ("want", "が", "欲し い で す"),
    ("know", "を", "知 っ て い ま す"),
)
_NEGATIVE = ("見 ま せ ん", "好き で は あ り ま せ ん", "欲し く あ り ま せ ん", "知 り ま せ ん")
_THINGS = (("dog", "犬"), ("cat", "猫"), ("book", "本"), ("flower", "花"), ("teacher", "先生"), ("picture", "絵"))
_KINDS = (("", ""), ("red ", "赤 い "), ("big ", "大き な "), ("small ", "小さ な "), ("new ", "新し い "))


class TinyEnJa(ItemDataset):
    """Sentences of a tiny English and their Japanese, tokens separated by spaces, like ``datasets.SmallParallelEnJa``. Example: (English,
    Japanese), both str. There are 960 of them, in random order; ``size`` takes the first ones.

    >>> import tinygrad_ja as tg
    >>> TinyEnJa(generator=tg.Generator().manual_seed(0))[0]
    ('they want a big flower .', '彼 ら は 大き な 花 が 欲し い で す 。')
    """

    def __init__(self, size: int = 960, transform: Transform = None, generator: Generator | None = None) -> None:
        self.transform = transform
        need_positive("TinyEnJa", size=size)
        everything = [
            _sentence(person, verb, negative, kind, thing)
            for person in _PEOPLE
            for verb in range(len(_VERBS))
            for negative in (False, True)
            for kind in _KINDS
            for thing in _THINGS
        ]
        order = cpu_stream(generator).permutation(len(everything)).tolist()
        self.items = [everything[at] for at in order[:size]]


def _sentence(
    person: tuple[str, str], verb: int, negative: bool, kind: tuple[str, str], thing: tuple[str, str]
) -> tuple[str, str]:
    english, particle, ending = _VERBS[verb]
    does = f"do n't {english}" if negative else english
    ending = _NEGATIVE[verb] if negative else ending
    return f"{person[0]} {does} a {kind[0]}{thing[0]} .", f"{person[1]} は {kind[1]}{thing[1]} {particle} {ending} 。"


# what stands for what: one of the alternatives is drawn. Other words stand for themselves
_GRAMMAR: dict[str, tuple[str, ...]] = {
    "S": ("NP VP .", "NP VP .", "NP VP and NP VP .", "PP , NP VP ."),
    "NP": ("the N", "the N", "a N", "the A N", "the N PP"),
    "VP": ("V NP", "V NP", "V NP PP", "sleeps", "sings"),
    "PP": ("in the L", "near the L", "under the L"),
    "N": ("dog", "cat", "bird", "child", "teacher", "horse"),
    "A": ("small", "old", "quick", "red"),
    "V": ("sees", "likes", "follows", "finds", "calls"),
    "L": ("garden", "house", "tree", "river", "school"),
}


class GrammarText(ItemDataset):
    """Sentences of a small grammar of English: a text for language models that needs no file. Example: a line, str of tokens separated by
    spaces; ``text`` is the whole.

    >>> import tinygrad_ja as tg
    >>> GrammarText(2, generator=tg.Generator().manual_seed(0)).items
    ['near the tree , the cat sees the cat .', 'near the school , a child sings .']
    """

    def __init__(self, size: int = 5_000, transform: Transform = None, generator: Generator | None = None) -> None:
        self.transform = transform
        need_positive("GrammarText", size=size)
        source = cpu_stream(generator)
        self.items = [_derived("S", source) for _ in range(size)]
        self.text = "\n".join(self.items) + "\n"


def _derived(start: str, generator: Generator) -> str:
    """The words that ``start`` becomes, from left to right."""
    waiting = [start]
    words = []
    while waiting:
        symbol = waiting.pop()
        alternatives: Sequence[str] = _GRAMMAR.get(symbol, ())
        if alternatives:
            drawn = int(generator.integers(0, len(alternatives), ()))
            waiting += reversed(alternatives[drawn].split())
        else:
            words.append(symbol)
    return " ".join(words)
