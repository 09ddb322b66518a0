"""Files are written whole or not at all, and read within limits."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import Phrase, StateError, error


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], mode: str = "wb", **options: Any) -> Iterator[Any]:
    """Open a file under a temporary name beside ``path``. When the block ends it is flushed to the disk and takes the name ``path``;
    when the block fails it is removed. Whoever looks sees the old file or the whole new one, even after a power cut.

    mode, options: as for ``open`` (text is written as UTF-8 unless told otherwise).

    >>> import tempfile; from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "a.txt")
    >>> with replacing(path, "w") as file:
    ...     _ = file.write("whole")
    >>> path.read_text(), len(list(path.parent.iterdir()))
    ('whole', 1)
    """
    folder, name = os.path.split(os.fspath(path))
    temporary = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.tmp")
    if "b" not in mode:
        options.setdefault("encoding", "utf-8")
    try:
        with open(temporary, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
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


def damaged(path: str | os.PathLike[str], kind: str, fault: Phrase) -> StateError:
    """The error for a file that is not what it should be: it names the file and the fault.

    kind: the format, such as ``"safetensors"``. fault: what is wrong and where, in one language or both.

    >>> import os; os.environ["TINYGRAD_JA_LANG"] = "en"
    >>> print(damaged("a.wav", "WAV", "the header ends after 3 bytes"))
    [TG-F005] a.wav is not a whole and valid WAV file: the header ends after 3 bytes. Nothing was loaded. Fix: get the file again.
    """
    made = error("TG-F005", path=os.fspath(path), kind=kind, fault=fault)
    assert isinstance(made, StateError)
    return made


def check_size(path: str | os.PathLike[str], limit: int) -> int:
    """The size of a file in bytes. Raises StateError when it is above ``limit``, so that nothing large is read by mistake;
    FileNotFoundError when it is missing.

    >>> import tempfile; from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "a.bin"); _ = path.write_bytes(b"12345")
    >>> check_size(path, 10)
    5
    """
    size = Path(path).stat().st_size
    if size > limit:
        raise error("TG-F008", path=os.fspath(path), what=("its size in bytes", "バイト数"), value=size, limit=limit)
    return size
