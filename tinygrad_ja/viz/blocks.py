"""What is drawn as one block: an operator, or many where a tape is too long to draw them all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from .layout import time_steps
from .walkthrough import Entry, Input, Walkthrough


@dataclasses.dataclass
class Item:
    """One block of a drawing: an entry of the tape, or (``entry`` None) several that are drawn as one. entries: their places on the tape.
    sources: for each input the item that it comes from, or None for what is plugged in. column: where it stands, from the left."""

    entries: list[int]
    entry: Entry | None
    inputs: list[Input]
    sources: list[int | None]
    column: int

    @property
    def title(self) -> str:
        """What stands in the block."""
        if self.entry is None:
            return f"… {len(self.entries):,} …"
        return f"{self.entry.label} = {self.entry.title}" if self.entry.label else self.entry.title

    @property
    def kind(self) -> str:
        """One of "operator", "loss", and "group" for several entries."""
        return "group" if self.entry is None else "loss" if self.entry.is_loss else "operator"

    @property
    def plugged(self) -> bool:
        """Whether anything is plugged in below it."""
        return None in self.sources


def items_of(walk: Walkthrough, limit: int) -> tuple[list[Item], list[str]]:
    """The blocks of a drawing, each after those that it takes values from, and the headings of the columns ("" beside the time steps).

    Of a tape of more than ``limit`` operators the middle becomes one block: whole time steps where there are any, else operators.
    """
    sources = [[given.source for given in entry.inputs if given.kind == "value"] for entry in walk.entries]
    leaves = [[given.source for given in entry.inputs if given.kind == "parameter"] for entry in walk.entries]
    steps = time_steps(sources, leaves)
    if steps is not None:
        columns = [step + 1 for step in steps.of]
        together = _middle(columns, limit)
        if together or len(columns) <= limit:
            headings = ["", *[f"t = {t}" for t in range(steps.number)], ""]
            for column in together[1:]:
                headings[column] = f"t = {together[0] - 1} … {together[-1] - 1}"
            return _in_columns(_items(walk, columns, together), headings)
    order = range(len(walk.entries))
    items = _items(walk, order, _middle(order, limit))
    for item in items:
        item.column = 0
    return items, []


def _in_columns(items: list[Item], headings: list[str]) -> tuple[list[Item], list[str]]:
    """The same without empty columns."""
    used = sorted({item.column for item in items})
    for item in items:
        item.column = used.index(item.column)
    return items, [headings[column] for column in used]


def _middle(ranks: Sequence[int], limit: int) -> range:
    """The ranks that are drawn as one, empty if all fit: ``limit`` entries at most are left, about half of them at each end."""
    if len(ranks) <= limit:
        return range(0)
    counts = [0] * (max(ranks) + 1)
    for rank in ranks:
        counts[rank] += 1
    first, last = _fitting(counts, limit // 2), len(counts) - _fitting(counts[::-1], limit // 2)
    return range(first, last) if 0 < first < last - 1 < len(counts) - 1 else range(0)


def _fitting(counts: Sequence[int], room: int) -> int:
    """How many of the first counts fit into ``room`` together."""
    for fitting, count in enumerate(counts):
        room -= count
        if room < 0:
            return fitting
    return len(counts)


def _items(walk: Walkthrough, ranks: Sequence[int], together: range) -> list[Item]:
    """An item for each entry, in the order of the ranks and then of the tape; one for all entries whose ranks lie in ``together``. The
    rank becomes the item's column."""
    groups: dict[tuple[int, int], list[int]] = {}
    for position, rank in enumerate(ranks):
        key = (together[-1], -1) if rank in together else (rank, position)
        groups.setdefault(key, []).append(position)
    order = sorted(groups)
    item_of = {position: index for index, key in enumerate(order) for position in groups[key]}
    items = []
    for index, (rank, position) in enumerate(order):
        members = groups[rank, position]
        entry = walk.entries[position] if position >= 0 else None
        inputs = _few(entry.inputs if entry is not None else _inputs_of_group(walk, members, item_of, index))
        sources = [item_of[given.source] if given.kind == "value" else None for given in inputs]
        items.append(Item(members, entry, inputs, sources, rank))
    return items


def _inputs_of_group(walk: Walkthrough, members: Sequence[int], item_of: dict[int, int], index: int) -> list[Input]:
    """One input for each item outside that the group takes values from, and its parameters."""
    found: dict[tuple[str, int], Input] = {}
    for given in [given for position in members for given in walk.entries[position].inputs]:
        if given.kind == "value" and item_of[given.source] != index:
            found.setdefault(("value", item_of[given.source]), given)
        elif given.kind == "parameter":
            found.setdefault(("parameter", given.source), dataclasses.replace(given, gradient=None))
    return list(found.values())


def _few(inputs: Sequence[Input], most: int = 12) -> list[Input]:
    """The inputs, but of many that are plugged in only the first ones, and how many more there are."""
    plugs = [given for given in inputs if given.kind != "value"]
    if len(plugs) <= most:
        return list(inputs)
    hidden = {id(given) for given in plugs[most - 1 :]}
    return [given for given in inputs if id(given) not in hidden] + [Input(-1, "", "more", f"… {len(hidden):,} …")]
