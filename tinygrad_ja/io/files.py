"""Files are written whole or not at all, and read within limits."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import Phrase, StateError, error
from .foreign import guess

FilePath = str | os.PathLike[str]
"""Where a file is."""

_LONGEST_FAULT = 1000  # characters
_GET_AGAIN = ("get the file again.", "ファイルを入手し直してください。")


@contextlib.contextmanager
def replacing(path: FilePath, mode: str = "wb", **options: Any) -> Iterator[Any]:
    """Open a file under a temporary name beside ``path``. When the block ends it is flushed to the disk and takes the name ``path``;
    when the block fails it is removed. Whoever looks sees the old file or the whole new one, even after a power cut. An OSError (the disk is
    full, the folder cannot be written) names ``path``, or the folder that is missing.

    mode, options: as for ``open`` (text is written as UTF-8 unless told otherwise).

    >>> import tempfile; from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "a.txt")
    >>> with replacing(path, "w") as file:
    ...     _ = file.write("whole")
    >>> path.read_text(), len(list(path.parent.iterdir()))
    ('whole', 1)
    """
    folder, name = os.path.split(os.fspath(path))
    if folder and not os.path.isdir(folder):  # before the error names a temporary file that nobody asked for
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)
    temporary = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.tmp")
    if "b" not in mode:
        options.setdefault("encoding", "utf-8")
    try:
        with open(temporary, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as failure:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        if isinstance(failure, OSError) and failure.errno and failure.filename in (None, temporary):
            raise OSError(failure.errno, failure.strerror, os.fspath(path)) from failure  # of the subclass for errno
        raise
    _flush_folder(folder or ".")


def _flush_folder(folder: str) -> None:
    """Make the new name itself durable, where the system lets a folder be opened (Windows does not)."""
    with contextlib.suppress(OSError, AttributeError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def damaged(path: FilePath, kind: str, fault: Phrase, fix: Phrase = _GET_AGAIN) -> StateError:
    """The error for a file that is not what it should be: it names the file and the fault.

    kind: the format, such as ``"safetensors"``. fault: what is wrong and where, in one language or both. fix: what to do about it.

    >>> import os; os.environ["TINYGRAD_JA_LANG"] = "en"
    >>> print(damaged("a.wav", "WAV", "the header ends after 3 bytes"))
    [TG-F005] a.wav is not a whole and valid WAV file: the header ends after 3 bytes. Nothing was loaded. Fix: get the file again.
    """
    made = error("TG-F005", path=os.fspath(path), kind=kind, fault=_shortened(fault), fix=fix)
    assert isinstance(made, StateError)
    return made


def too_large(path: FilePath, what: Phrase, value: int, limit: int) -> StateError:
    """The error for a file of which ``what`` is above a limit, so that no more memory is asked for (TG-F008)."""
    made = error("TG-F008", path=os.fspath(path), what=what, value=value, limit=limit)
    assert isinstance(made, StateError)
    return made


def _shortened(fault: Phrase) -> Phrase:
    """A fault may quote the file, and names in a file may be very long."""
    if isinstance(fault, tuple):
        return fault[0][:_LONGEST_FAULT], fault[1][:_LONGEST_FAULT]
    return fault[:_LONGEST_FAULT]


class Fault(Exception):
    """What is wrong with the file that is being read, where its name is not known; ``opened`` makes a StateError of it.

    fix: what to do about it, where that is not to get the file again."""

    def __init__(self, english: str, japanese: str, fix: Phrase = _GET_AGAIN) -> None:
        super().__init__(english)
        self.phrase, self.fix = (english, japanese), fix


@contextlib.contextmanager
def opened(path: FilePath, kind: str) -> Iterator[tuple[BinaryIO, int]]:
    """Open a file to read bytes from it; yields it and its size in bytes. A ``Fault`` in the block becomes the StateError of ``damaged``.

    kind: the format. Raises FileNotFoundError when the file is missing, StateError for a folder or a pipe, which could wait forever.

    >>> import os, tempfile; os.environ["TINYGRAD_JA_LANG"] = "en"; os.chdir(tempfile.mkdtemp())
    >>> with open("a.bin", "wb") as file:
    ...     _ = file.write(b"12345")
    >>> with opened("a.bin", "binary") as (file, size):
    ...     raise Fault(f"{size} bytes are too few", f"{size} バイトでは足りません")
    Traceback (most recent call last):
        ...
    tinygrad_ja.errors.StateError: [TG-F005] a.bin is not a whole and valid binary file: 5 bytes are too few. ...
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise damaged(path, kind, ("it is a folder or a device, no file", "ファイルではなくフォルダやデバイスです"))
    with open(path, "rb") as file:
        try:
            yield file, os.fstat(file.fileno()).st_size
        except Fault as fault:
            file.seek(0)
            found = guess(file.read(16))
            if found is None or kind in found.kinds:
                raise damaged(path, kind, fault.phrase, fault.fix) from fault
            looks = (f"{fault.phrase[0]} ({found.looks[0]})", f"{fault.phrase[1]} ({found.looks[1]})")
            raise damaged(path, kind, looks, found.fix) from fault


def check_size(path: FilePath, limit: int) -> int:
    """The size of a file in bytes. Raises StateError when it is above ``limit``, so that nothing large is read by mistake;
    FileNotFoundError when it is missing.

    >>> import tempfile; from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "a.bin"); _ = path.write_bytes(b"12345")
    >>> check_size(path, 10)
    5
    """
    size = Path(path).stat().st_size
    if size > limit:
        raise too_large(path, ("its size in bytes", "バイト数"), size, limit)
    return size
