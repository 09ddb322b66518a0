"""Sets that need no file: made from a formula or a small grammar, the same ones for the same seed."""

from .dialogues import TableTalk
from .numbers import Adding, BarsAndStripes, BinaryAddition, Copy, Sine, Spiral
from .shapes import Shapes
from .strings import Additions, DateStrings, GrammarText, TinyEnJa

__all__ = [
    "Adding",
    "Additions",
    "BarsAndStripes",
    "BinaryAddition",
    "Copy",
    "DateStrings",
    "GrammarText",
    "Shapes",
    "Sine",
    "Spiral",
    "TableTalk",
    "TinyEnJa",
]
