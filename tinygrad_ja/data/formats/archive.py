"""Archives, zip and tar.gz, read in memory: nothing is unpacked to the disk, so that no name in an archive reaches the file system.

Before anything is expanded, the sizes that an archive declares are checked: against what its bytes can hold, and against a limit.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ...errors import StateError
from ...io.files import FilePath, damaged, too_large
from .content import EXPANSION, read_content

MEMBERS = 100_000
"""The most members of an archive."""

_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 1


class Place(NamedTuple):
    """Where a member's bytes are."""

    start: int
    stored: int
    size: int
    compressed: bool
    checksum: int | None  # CRC-32


class Archive(Mapping[str, bytes]):
    """The files in an archive: name -> contents, expanded when they are asked for. It can be pickled and shared between processes.

    >>> import io, zipfile
    >>> buffer = io.BytesIO()
    >>> with zipfile.ZipFile(buffer, "w") as file: file.writestr("a/b.txt", "text")
    >>> archive = parse_archive(buffer.getvalue(), "a.zip")
    >>> list(archive), archive["a/b.txt"]
    (['a/b.txt'], b'text')
    """

    def __init__(self, data: bytes, name: FilePath, places: dict[str, Place]) -> None:
        self._data = data
        self._name = name
        self._places = places

    def __getitem__(self, member: str) -> bytes:
        place = self._places[member]
        stored = self._data[place.start : place.start + place.stored]
        content = _inflated(stored, place.size) if place.compressed else stored
        if content is None or len(content) != place.size or place.checksum not in (None, zlib.crc32(content)):
            raise damaged(
                self._name, "archive", (f"its member {member[:80]!r} is damaged", f"メンバー {member[:80]!r} が壊れています")
            )
        return content

    def path(self, member: str) -> str:
        """What an error about the contents of a member calls it: the archive and the name in it."""
        return f"{os.fspath(self._name)}/{member}"

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def read_archive(path: FilePath, limit: int = 1 << 28) -> Archive:
    """The files in a zip or tar.gz archive; folders in it are left out.

    limit: the most bytes of all files together, and of the file itself (256 MiB). Raises StateError: links, devices, encrypted members,
    names that are absolute or contain ``..``, a name twice, sizes that cannot be (TG-F005; TG-F008 above a limit).
    """
    return parse_archive(read_content(path, limit), path, limit)


def parse_archive(data: bytes, name: FilePath, limit: int = 1 << 28) -> Archive:
    """``read_archive`` of bytes, those of the zip file or those of the tar archive without gzip; ``name`` is what an error calls them."""
    kind = "zip" if data[:2] == b"PK" else "tar"
    places: dict[str, Place] = {}
    total = 0
    try:
        for member, place in _zip_places(data) if kind == "zip" else _tar_places(data):
            _check_member(member, place, places, len(data))
            total += place.size
            if total > limit:
                raise too_large(name, ("the size of its members in bytes", "メンバーの合計バイト数"), total, limit)
            places[member] = place
    except StateError:
        raise
    except _Refused as failure:
        raise damaged(name, kind, (failure.en, failure.ja)) from failure
    except Exception as failure:  # whatever the library raises on damaged bytes
        raise damaged(name, kind, (str(failure)[:200], str(failure)[:200])) from failure
    if sum(place.stored for place in places.values()) > len(data):
        raise damaged(name, kind, ("its members overlap", "メンバーが重なっています"))
    return Archive(data, name, places)


class _Refused(Exception):
    def __init__(self, en: str, ja: str) -> None:
        super().__init__(en)
        self.en = en
        self.ja = ja


def _check_member(member: str, place: Place, places: dict[str, Place], length: int) -> None:
    parts = re.split(r"[/\\]", member)
    if not member or ".." in parts or parts[0] == "" or ":" in parts[0] or "\0" in member:
        raise _Refused(
            f"the name {member[:80]!r} could leave the archive", f"名前 {member[:80]!r} はアーカイブの外を指すおそれがあります"
        )
    if member in places or len(places) >= MEMBERS:
        raise _Refused(f"{member[:80]!r} is there twice, or one too many", f"{member[:80]!r} が 2 つあるか、数が多すぎます")
    most = EXPANSION * place.stored if place.compressed else place.stored
    if min(place.start, place.size) < 0 or place.start + place.stored > length or place.size > most:
        raise _Refused(f"{member[:80]!r} is larger than it can be", f"{member[:80]!r} の大きさは正しくありません")


def _zip_places(data: bytes) -> Iterator[tuple[str, Place]]:
    for info in zipfile.ZipFile(io.BytesIO(data)).infolist():
        if info.is_dir():
            continue
        if info.flag_bits & _ENCRYPTED or info.compress_type not in (_STORED, _DEFLATED):
            raise _Refused(
                f"{info.filename[:80]!r} is encrypted or compressed in a rare way",
                f"{info.filename[:80]!r} は暗号化されているか、特殊な圧縮です",
            )
        header = data[info.header_offset : info.header_offset + 30]
        if len(header) < 30 or header[:4] != b"PK\3\4":
            raise _Refused(f"the header of {info.filename[:80]!r} is not there", f"{info.filename[:80]!r} のヘッダがありません")
        start = info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        yield info.filename, Place(start, info.compress_size, info.file_size, info.compress_type == _DEFLATED, info.CRC)


def _tar_places(data: bytes) -> Iterator[tuple[str, Place]]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as file:
        for info in file:
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                raise _Refused(
                    f"{info.name[:80]!r} is a link, a device or sparse",
                    f"{info.name[:80]!r} はリンクかデバイスか疎なファイルです",
                )
            yield info.name, Place(info.offset_data, info.size, info.size, False, None)


def _inflated(stored: bytes, size: int) -> bytes | None:
    inflater = zlib.decompressobj(wbits=-15)
    try:
        content = inflater.decompress(stored, size + 1)
    except zlib.error:
        return None
    return content if inflater.eof else None
