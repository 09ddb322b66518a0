"""What the writers of machine code hand to the executor: functions, and how they are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .target import compiled


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


def tabulated(launches: Sequence[Launch]) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Compile launches. Returns all their words; records (function, where its words begin, chunks); and which words want the address of the
    scratch memory added."""
    texts = {launch.name: launch.text for launch in launches}
    addresses = compiled(texts, "\n".join(dict.fromkeys([line for launch in launches for line in launch.declared])))
    words: list[int] = []
    rebased: list[int] = []
    records = np.zeros((len(launches), 3), np.int64)
    for record, launch in zip(records, launches):
        record[:] = addresses[launch.name], len(words), launch.chunks
        rebased += [len(words) + place for place in launch.scratch_words]
        words += launch.words
    return np.array(words, np.int64), records, rebased
