"""Checksums of contents, however they are compressed or packed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from ...errors import error
from ..formats import contents_of, parse_archive
from .card import File, Made

_ARCHIVES = (".zip", ".tar.gz")


def digest(content: bytes | Mapping[str, bytes]) -> str:
    """SHA-256 of bytes; of several files, that of the lines that ``sha256sum`` writes for them, in the order of their names.

    >>> digest(b"")[:16], digest({"a": b""})[:16]
    ('e3b0c44298fc1c14', 'fba1930570cf2d33')
    """
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    lines = [f"{digest(content[name])}  {name}\n" for name in sorted(content)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check(path: Path, made: Made, file: File) -> None:
    """Raise StateError (TG-F007) unless ``made``, what is or will be at ``path``, has the contents of ``file``."""
    found = digest(_contents(made, path, file))
    if found != file.sha256:
        raise error("TG-F007", path=path, actual=found, expected=file.sha256)


def check_stored(path: Path, file: File) -> None:
    """``check`` of what is at ``path`` now."""
    if path.is_dir():
        check(path, {part.relative_to(path).as_posix(): part.read_bytes() for part in path.rglob("*") if part.is_file()}, file)
    else:
        check(path, path.read_bytes(), file)


def _contents(made: Made, path: Path, file: File) -> bytes | Mapping[str, bytes]:
    if not isinstance(made, bytes):
        return made
    archive = file.path.endswith(_ARCHIVES)
    # an archive has, beside its members, their names and some padding
    content = contents_of(made, path, limit=2 * file.size + (1 << 20))
    return parse_archive(content, path, limit=file.size) if archive else content
