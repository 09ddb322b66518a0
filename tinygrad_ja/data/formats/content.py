"""The contents of a file, whole and within a limit; gzip files are expanded, never beyond the size that they declare.

The size is checked before anything is allocated: a gzip file ends with the size of its contents, which must be below the limit and no more
than DEFLATE can make of its compressed bytes.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from ...errors import StateError
from ...io.files import FilePath, damaged, too_large

LIMIT = 1 << 30
"""The most bytes that a reader takes unless told otherwise: 1 GiB."""

# zlib's documentation: the best that DEFLATE can do is 258 bytes for 2 bits
EXPANSION = 1032
_GZIP = b"\x1f\x8b"
_PIECE = 1 << 16


class Contents:
    """The contents of an open file as a stream that knows its ``size`` beforehand; a gzip file is expanded on the way.

    name: what an error calls the file. Raises StateError when the size is above ``limit`` (TG-F008), when a gzip file declares more than
    it can hold, holds more or less than it declares, or is damaged (TG-F005).
    """

    def __init__(self, file: BinaryIO, name: FilePath, limit: int = LIMIT) -> None:
        self.name = name
        stored = file.seek(0, os.SEEK_END)
        file.seek(0)
        compressed = file.read(2) == _GZIP
        self._kind = "gzip" if compressed else "binary"
        self.size = self._declared(file, stored) if compressed else stored
        if self.size > limit:
            raise too_large(name, ("the size of its contents in bytes", "中身のバイト数"), self.size, limit)
        file.seek(0)
        self._file = file
        self._inflater = zlib.decompressobj(wbits=31) if compressed else None
        self._left = self.size

    def read(self, count: int) -> bytes:
        """The next ``count`` bytes, fewer at the end."""
        return b"".join(self._pieces(min(count, self._left)))

    def readinto(self, target: memoryview) -> int:
        """Fill ``target``, bytes, as far as the contents go; the number of bytes."""
        at = 0
        for piece in self._pieces(min(len(target), self._left)):
            target[at : at + len(piece)] = piece
            at += len(piece)
        return at

    def finish(self) -> None:
        """Check that nothing follows: the end of a gzip file is where it declares, and its checksum is right."""
        if self._left:
            raise self._fault(f"{self._left} bytes are left over", f"{self._left} バイト余っています")
        if self._inflater is None:
            return
        if self._inflated(1) or not self._inflater.eof or self._inflater.unused_data or self._file.read(1):
            raise self._fault("its contents are not as long as it declares", "中身の長さが、宣言された長さと違います")

    def _declared(self, file: BinaryIO, stored: int) -> int:
        file.seek(max(0, stored - 4))
        declared = int.from_bytes(file.read(4), "little")
        if stored < 18 or declared > EXPANSION * stored:
            raise self._fault(
                f"it declares {declared} bytes of contents, which {stored} bytes of gzip cannot hold",
                f"中身が {declared} バイトと宣言していますが、{stored} バイトの gzip には収まりません",
            )
        return declared

    def _pieces(self, count: int) -> Iterator[bytes]:
        while count:
            piece = self._inflated(min(count, _PIECE)) if self._inflater else self._file.read(min(count, _PIECE))
            if not piece:
                raise self._fault(f"it ends {self._left} bytes early", f"{self._left} バイト足りません")
            self._left -= len(piece)
            count -= len(piece)
            yield piece

    def _inflated(self, count: int) -> bytes:
        """At least one and at most ``count`` bytes; none at the end."""
        assert self._inflater is not None
        try:
            while not self._inflater.eof:
                waiting = self._inflater.unconsumed_tail or self._file.read(1 << 16)
                piece = self._inflater.decompress(waiting, count)
                if piece or not waiting:
                    return piece
        except zlib.error as failure:
            raise self._fault(f"its gzip data are damaged ({failure})", f"gzip のデータが壊れています ({failure})") from failure
        return b""

    def _fault(self, en: str, ja: str) -> StateError:
        return damaged(self.name, self._kind, (en, ja))


def contents_of(data: bytes, name: FilePath, limit: int = LIMIT) -> bytes:
    """``data`` itself, or expanded when it is gzip.

    >>> import gzip
    >>> contents_of(gzip.compress(b"text"), "a.gz"), contents_of(b"text", "a")
    (b'text', b'text')
    """
    return _whole(io.BytesIO(data), name, limit)


def read_content(path: FilePath, limit: int = LIMIT) -> bytes:
    """The contents of a file, expanded when it is gzip (its first bytes say so, not its name).

    limit: the most bytes of contents. Raises StateError (TG-F008 above the limit, TG-F005 when gzip data are damaged) and
    FileNotFoundError.
    """
    with open(path, "rb") as file:
        return _whole(file, path, limit)


def _whole(file: BinaryIO, name: FilePath, limit: int) -> bytes:
    contents = Contents(file, name, limit)
    whole = contents.read(contents.size)
    contents.finish()
    return whole


def read_text(path: FilePath, limit: int = 1 << 26) -> str:
    """The text of a UTF-8 file, plain or gzip; line ends stay as they are. ``limit``: the most bytes (64 MiB).

    Raises StateError, as ``read_content`` does, and when the bytes are not UTF-8.
    """
    return decoded(read_content(path, limit), path)


def decoded(data: bytes, name: FilePath) -> str:
    """UTF-8 bytes as text; StateError (TG-F005) names the byte that is not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as failure:
        fault = (f"byte {failure.start} is not UTF-8", f"{failure.start} バイト目が UTF-8 ではありません")
        raise damaged(name, "UTF-8", fault) from failure


def read_lines(path: FilePath, limit: int = 1 << 26) -> list[str]:
    r"""The lines of a UTF-8 file, plain or gzip, without their ends. A line ends at ``\n`` and nowhere else.

    >>> import tempfile; from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "a.txt"); _ = path.write_bytes(b"one\ntwo\n")
    >>> read_lines(path)
    ['one', 'two']
    """
    lines = read_text(path, limit).split("\n")
    return lines[:-1] if lines[-1] == "" else lines
