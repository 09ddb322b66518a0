"""Conversations from a few rules."""

from __future__ import annotations

from ....backend.random import Generator
from ...arrays import cpu_stream
from ..base import ItemDataset, Transform
from ..language import Dialogue, Turn
from .numbers import need_positive

# a turn of the conversation: one of the ways to say it is drawn. {food}, {city} and {people} are drawn once
_TURNS = (
    ("I want {food} food in {city}.", "Please find a {food} restaurant in {city}.", "Is there a {food} place in {city}?"),
    ("For how many people?", "How many will you be?", "What is the number of guests?"),
    ("We are {people}.", "A table for {people}, please.", "{people} people."),
    ("I found a {food} place in {city}. A table for {people}?", "{food} in {city} for {people}, right?"),
    ("Yes, please.", "Perfect, thanks.", "That is right."),
    ("Enjoy your meal!", "It is done. Have a nice day!", "You are welcome."),
)
_WORDS = {
    "food": ("Thai", "French", "Chinese", "Korean"),
    "city": ("Osaka", "Kyoto", "Nara", "Kobe"),
    "people": ("2", "3", "4", "5"),
}


class TableTalk(ItemDataset):
    """Conversations in which a user wants a table in a restaurant, like ``datasets.SchemaGuidedDialogues``. Example: a ``Dialogue`` (id,
    services, turns) of four or six turns. What the assistant says in its second one depends on what the user said first.

    >>> import tinygrad_ja as tg
    >>> for turn in TableTalk(1, generator=tg.Generator().manual_seed(0))[0].turns[:4]:
    ...     print(turn.speaker, turn.text)
    U I want Korean food in Nara.
    S For how many people?
    U We are 4.
    S I found a Korean place in Nara. A table for 4?
    """

    def __init__(self, size: int = 1_000, transform: Transform = None, generator: Generator | None = None) -> None:
        self.transform = transform
        need_positive("TableTalk", size=size)
        self.items = [_conversation(str(number), cpu_stream(generator)) for number in range(size)]


def _conversation(name: str, source: Generator) -> Dialogue:
    def one(ways: tuple[str, ...]) -> str:
        return ways[int(source.integers(0, len(ways), ()))]

    about = {slot: one(words) for slot, words in _WORDS.items()}
    turns = _TURNS[: 4 if int(source.integers(0, 4, ())) == 0 else 6]
    return Dialogue(name, ["Restaurants"], [Turn("US"[d % 2], one(ways).format(**about)) for d, ways in enumerate(turns)])
