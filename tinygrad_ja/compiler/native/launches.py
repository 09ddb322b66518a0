"""What the writers of machine code hand to the executor: functions, and how they are called."""

from __future__ import annotations

from typing import NamedTuple


class Launch(NamedTuple):
    """A call of a compiled function.

    declared: functions that its text calls. words: the table that it gets. chunks: how often it is called, each time with another number.
    scratch_words: those words to which the address of the scratch memory has to be added. scratch: the bytes of that which it needs.
    """

    name: str
    text: str
    declared: tuple[str, ...]
    words: list[int]
    chunks: int
    scratch_words: tuple[int, ...] = ()
    scratch: int = 0


class Unsupported(Exception):
    """What there is no machine code for, and why."""
