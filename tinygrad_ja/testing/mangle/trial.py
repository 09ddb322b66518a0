"""One damaged file: made, read under watch, judged."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
import traceback
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from ...errors import StateError
from ..time_limit import TooLong, time_limit
from .changes import changed, spliced
from .readers import READERS

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

SECONDS = 5.0
"""The longest that a reader may take for one file, of at most 2 MiB."""

CONSTANT = 1 << 18
"""Bytes that a reader may take for any file, however small."""

RESIDENT = 1 << 26
"""Bytes by which the process may grow besides, since memory that libraries take in C is seen in no other way."""

MESSAGE = 2000
"""The most characters of an error."""


class Outcome(NamedTuple):
    """What a reader did. fault: what it should not have done, empty when it did well. factor: of the memory that the file declares."""

    accepted: bool
    seconds: float
    factor: float
    fault: str


@lru_cache
def whole_files(name: str) -> list[bytes]:
    """The undamaged files of a reader."""
    return READERS[name].files()


def mangled(name: str, number: int, seed: int = 0) -> bytes:
    """The damaged file of a number for a reader."""
    reader, files = READERS[name], whole_files(name)
    draw = Random(f"{seed} {name} {number}")
    data = draw.choice(files)
    change = partial(changed, draw=draw, words=reader.words, changes=reader.changes)
    if draw.random() < 0.05:
        return spliced(data, draw.choice(files), draw)
    if reader.frames and draw.random() < 0.6:
        return draw.choice(reader.frames)(data, draw, change)
    return change(data)


def run(name: str, data: bytes, folder: Path) -> Outcome:
    """Write ``data`` to a file of ``folder``, read it and judge what happened. The folder must hold nothing else.

    A file that took too much memory is read once more, since the first of its kind may have loaded modules; one that took too long is read
    once more without a count of its memory, which makes Python five times slower.
    """
    outcome = _judged(name, data, folder, _traced)
    if outcome.seconds > SECONDS:
        return _judged(name, data, folder, _untraced)._replace(factor=outcome.factor)
    return _judged(name, data, folder, _traced) if outcome.factor > 2 else outcome


def _judged(name: str, data: bytes, folder: Path, memory: Callable[[], AbstractContextManager[Callable[[], int]]]) -> Outcome:
    reader = READERS[name]
    path = folder / "mangled.file"
    path.write_bytes(data)
    (folder / "beside.txt").write_bytes(b"one\ntwo\nthree\n")
    before, resident_before = set(folder.iterdir()), resident()
    accepted, fault = False, ""
    with watched(folder) as events, _quiet(), memory() as peak:
        start = time.perf_counter()
        try:
            with time_limit(SECONDS):
                value = reader.read(path)
                accepted = True
        except StateError as failure:
            fault = _fault_of_message(str(failure), path)
        except TooLong:
            fault = f"it took more than {SECONDS} seconds"
        except Exception as failure:
            fault = f"{type(failure).__name__} in {_where(failure)}: {failure}"[:500]
        seconds = time.perf_counter() - start
    declared = max(1, reader.declared(data))
    factor = max(0, peak() - CONSTANT) / declared
    if accepted:
        fault = _fault_of_value(reader.check, value)
    growth = resident() - resident_before
    if factor > 2 or growth > 2 * declared + RESIDENT:
        fault = fault or f"{peak()} bytes of memory, {growth} more of the process, for {declared} declared"
    if set(folder.iterdir()) != before:
        fault = f"new files: {sorted(set(os.listdir(folder)) - {found.name for found in before})}"
    if events:
        fault = "; ".join(events[:5])
    return Outcome(accepted, seconds, factor, fault)


def _fault_of_message(message: str, path: Path) -> str:
    if path.name not in message:
        return f"the error does not name the file: {message[:300]}"
    return f"the error has {len(message)} characters: {message[:200]}" if len(message) > MESSAGE else ""


def _fault_of_value(check: Any, value: Any) -> str:
    try:
        check(value)
    except Exception as failure:
        return f"its value is wrong: {type(failure).__name__} {failure} in {_where(failure)}"
    return ""


def _where(failure: BaseException) -> str:
    """The innermost places of the project in a traceback."""
    frames = traceback.extract_tb(failure.__traceback__)
    return " < ".join([f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[:-4:-1]])


# -- time and memory


@contextlib.contextmanager
def _untraced() -> Iterator[Callable[[], int]]:
    yield lambda: 0


@contextlib.contextmanager
def _traced() -> Iterator[Callable[[], int]]:
    """Yields a function that tells the most bytes that Python's objects and NumPy's arrays took in the block."""
    peaks: list[int] = []
    gc.disable()  # cycles of earlier files would hide what this one takes
    tracemalloc.start()
    try:
        yield lambda: peaks[0]
    finally:
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        gc.enable()


def resident() -> int:
    """The most bytes of memory that the process has had, where the system tells it (not on Windows)."""
    if resource is None:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# -- what a reader must not do


_FORBIDDEN = (
    "socket.",
    "subprocess.",
    "os.",
    "shutil.",
    "ctypes.",
    "pickle.",
    "exec",
    "compile",
    "urllib.",
    "ftplib.",
    "mmap.",
)
_ALLOWED = {"os.listdir", "os.scandir", "os.walk", "os.fwalk"}
_PLACES = (sys.prefix, sys.base_prefix, sys.pycache_prefix, Path(__file__).parents[3])
_LIBRARY = tuple({os.path.realpath(place) for place in _PLACES if place})
_watching: list[tuple[str, list[str]]] = []


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """Yields a list that fills with what the block does besides reading files in ``folder`` and loading parts of the project: files opened
    elsewhere or written, connections, processes, code compiled or run, pickles. From Python's audit events (PEP 578)."""
    _install()
    found: list[str] = []
    _watching.append((os.path.realpath(folder), found))
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # of modules that load for the first time
    try:
        yield found
    finally:
        sys.dont_write_bytecode = writes
        _watching.pop()


@lru_cache
def _install() -> None:
    """Audit hooks stay as long as the process; this one rests while nothing is watched."""
    sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    folder, found = _watching[-1]
    if _is_harmful(event, arguments, folder):
        found.append(f"{event} {arguments}"[:200])


def _is_harmful(event: str, arguments: tuple[Any, ...], folder: str) -> bool:
    if event == "open":
        return not _may_open(arguments, folder)
    if event == "compile":
        return not str(arguments[1]).startswith(("<operator ", "<backward of ", *_LIBRARY))
    if event == "exec":
        return not arguments[0].co_filename.startswith(("<operator ", "<backward of ", "<frozen ", *_LIBRARY))
    return event.startswith(_FORBIDDEN) and event not in _ALLOWED


def _may_open(arguments: tuple[Any, ...], folder: str) -> bool:
    """Files may be read, in the folder or in the libraries."""
    path, _, flags = arguments
    if isinstance(path, int):
        return True
    writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
    return not writes and os.path.realpath(os.fspath(path)).startswith((folder, *_LIBRARY))
