"""What all sets with a name have in common."""

from __future__ import annotations

from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ...errors import one_of
from ...io.files import damaged
from ..dataset import Dataset
from .card import Card
from .places import Folder, Places

Transform = Callable[..., Any] | None
Held = TypeVar("Held", bound=Sized)


class ItemDataset(Dataset):
    """Examples in a list, ``items``; ``transform`` is applied to each."""

    items: list[Any]
    transform: Transform

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        item = self.items[index]
        return item if self.transform is None else self.transform(item)


class NamedDataset(Dataset):
    """A set of examples with a name, files and a licence.

    root: a folder that is looked at first and that downloads go to; the others are named in ``places.py``. download: whether what is
    missing is fetched. verify: check the SHA-256 of files that are here. Raises StateError: TG-F005 when a file is damaged, TG-F006 when
    the set is nowhere, TG-F007 when a checksum is another.
    """

    card: ClassVar[Card]
    """Name, files, checksums, licence and source."""

    def __init__(self, root: Folder | None, download: bool, verify: bool, transform: Transform = None) -> None:
        self._found_by = (root, download, verify)
        self.transform = transform

    def places(self) -> Places:
        """Where the files of the set are, by the arguments that were given."""
        return Places(self.card, *self._found_by)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} examples; licence: {self.card.licence[0]})"

    def __len__(self) -> int:
        raise NotImplementedError


class NamedItems(ItemDataset, NamedDataset):
    """A named set whose examples are in a list."""


def part(op: str, items: list[Any], split: str, every: int = 10) -> list[Any]:
    """``"train"``, ``"test"`` or ``"all"`` of a set that has no split of its own: every tenth example is for the test."""
    one_of(op, "split", split, ("train", "test", "all"))
    if split == "all":
        return items
    return [item for number, item in enumerate(items) if (number % every == every - 1) == (split == "test")]


def not_empty(held: Held, path: Path, kind: str) -> Held:
    """What a file holds. Raises StateError (TG-F005) when that is nothing, as after a download that failed."""
    if not len(held):
        raise damaged(path, kind, ("it holds no example", "データが 1 件もありません"))
    return held
