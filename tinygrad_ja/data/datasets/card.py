"""What is known of a data set before it is here: its name, files, checksums, licence and source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

Get = Callable[[str], bytes]
"""Fetches a URL."""

Made = bytes | Mapping[str, bytes]
"""A file as it is stored, or the files of a folder."""

Recipe = Callable[[Get], Made]
"""How a file is made from public ones."""


class File(NamedTuple):
    """One file, archive or folder of a set."""

    path: str
    """Below the set's folder."""
    size: int
    """Bytes of the contents: expanded, or of all members together."""
    sha256: str
    """Of the contents, so that it does not depend on how they are compressed: of the expanded bytes; for an archive or a folder, of the
    lines ``<sha256>  <name>`` of all members in the order of their names (``sha256sum`` writes such lines)."""
    recipes: tuple[Recipe, ...] = ()
    """Ways to get it, tried in this order. None: it has to be there."""


class Card(NamedTuple):
    """A data set as it is listed."""

    name: str
    folder: str
    about: tuple[str, str]
    """English, Japanese."""
    licence: tuple[str, str]
    source: str
    """A page about it."""
    files: tuple[File, ...]

    def file(self, path: str) -> File:
        """The file at ``path``."""
        return next(file for file in self.files if file.path == path)

    @property
    def size(self) -> int:
        """Bytes of all contents."""
        return sum(file.size for file in self.files)
