"""Where the files of a set are: in ``root``, in the offline folder, in the cache, or, at last, in public."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import TinygradError, error
from .card import Card, File
from .checksum import check_stored

if TYPE_CHECKING:
    from .download import Downloader

Folder = str | os.PathLike[str]

_no_download: ContextVar[tuple[str, str]] = ContextVar(
    "no_download", default=("download=False was given", "download=False が指定されています")
)


@contextmanager
def no_download_because(english: str, japanese: str) -> Iterator[None]:
    """What the error for a missing file gives as the reason that it is not fetched, inside the block, in place of ``download=False``."""
    token = _no_download.set((english, japanese))
    try:
        yield
    finally:
        _no_download.reset(token)


def cache_folder() -> Path:
    """Where downloads are kept: ``TINYGRAD_JA_CACHE``, else ``tinygrad_ja`` in ``XDG_CACHE_HOME``, else in ``~/.cache``."""
    chosen = os.environ.get("TINYGRAD_JA_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "tinygrad_ja")


def folders(card: Card, root: Folder | None = None) -> list[Path]:
    """Where the folder of a set is looked for, in this order: in ``root``, in ``TINYGRAD_JA_DATA``, in the cache. All have one layout."""
    places = [root, os.environ.get("TINYGRAD_JA_DATA"), cache_folder()]
    return [Path(place, card.folder) for place in places if place]


def is_here(card: Card, root: Folder | None = None) -> bool:
    """Whether every file of the set is somewhere."""
    return all(_find(file.path, folders(card, root)) for file in card.files)


def _find(path: str, places: list[Path]) -> Path | None:
    return next((place / path for place in places if (place / path).exists()), None)


class Places:
    """The files of a set, fetched when they are not here.

    root: a folder that is looked at first, and that downloads go to (else the cache). download: whether what is missing is fetched.
    verify: compare the checksums of files that are here; what is fetched is always checked.
    """

    def __init__(self, card: Card, root: Folder | None = None, download: bool = True, verify: bool = False) -> None:
        self.card = card
        self._root = root
        self._download = download
        self._verify = verify
        self._downloader: Downloader | None = None

    def path(self, path: str) -> Path:
        """Where a file of the set is. Raises StateError: TG-F006 when it is nowhere, TG-F007 when its checksum is another."""
        file = self.card.file(path)
        places = folders(self.card, self._root)
        found = _find(path, places)
        if found:
            if self._verify:
                check_stored(found, file)
            return found
        target = places[0] if self._root else places[-1]
        if not file.recipes:
            raise _missing(
                self.card, file, target, ("it is not to be had ready-made in public", "そのままの形では公開されていません")
            )
        if not self._download:
            raise _missing(self.card, file, target, _no_download.get())
        return self._fetched(file, target)

    def _fetched(self, file: File, folder: Path) -> Path:
        from .download import Downloader, Unreachable

        self._downloader = self._downloader or Downloader(self.card)
        try:
            return self._downloader.fetch(file, folder)
        except Unreachable as failure:
            reason = (f"it cannot be fetched ({failure})", f"取得できません ({failure})")
            raise _missing(self.card, file, folder, reason) from failure


def _missing(card: Card, file: File, folder: Path, reason: tuple[str, str]) -> TinygradError:
    """The error for a file that is nowhere (TG-F006)."""
    fix = (
        f"set TINYGRAD_JA_DATA to a folder that has {card.folder}/{file.path}; the set is described at {card.source}.",
        f"環境変数 TINYGRAD_JA_DATA に、{card.folder}/{file.path} のあるフォルダを指定してください。"
        f"データセットの説明は {card.source} にあります。",
    )
    return error("TG-F006", name=card.name, file=file.path, folder=folder, reason=reason, fix=fix)
