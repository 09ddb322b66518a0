"""``RunFolder``: the folder of a run belongs to one process at a time, and knows which of several trainings the run has begun."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from pathlib import Path
from typing import Any

from ..errors import error
from ..io.files import replacing
from .trainer import Trainer

_LOCK, _BEGUN = ".lock", "trainings.txt"

_claimed: dict[Path, Any] = {}
"""The folders that belong to this process, and the open file of each, whose lock the system gives back however the process ends."""


class RunFolder:
    """A folder, made when it is not there and claimed for this process until ``release``.

    resume: whether the run goes on that was there before. Two runs in one folder would remove and load each other's checkpoints; so StateError
    (TG-F014) is raised where the folder belongs to another process. (On Windows, and where the file system has no locks, nobody notices.)

    >>> import tempfile
    >>> folder = RunFolder(Path(tempfile.mkdtemp(), "a"), resume=False)
    >>> folder.path.is_dir()
    True
    >>> folder.release()
    """

    def __init__(self, path: Path, resume: bool) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._place = path.resolve()
        self._begun = _lines(path / _BEGUN) if resume else []
        self._claim()

    def _claim(self) -> None:
        if sys.platform == "win32":
            return
        import fcntl

        while self._place not in _claimed:
            file = open(self._place / _LOCK, "a+")
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as failure:
                file.seek(0)
                process = file.read().strip()
                file.close()
                raise error("TG-F014", path=self.path, process=process) from failure
            except OSError:  # a file system without locks
                file.close()
                return
            if not _is_there(file, self._place / _LOCK):  # its owner released it just now
                file.close()
                continue
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            _claimed[self._place] = file

    def release(self) -> None:
        """Another process may have the folder."""
        if self._place in _claimed:
            _release(self._place)

    def note(self, trainer: Trainer) -> None:
        """A training has begun: what an earlier run left in its folder is gone."""
        name = self._name(trainer)
        if self._begun is None or name == "." or name in self._begun:
            return
        self._begun.append(name)
        with replacing(self.path / _BEGUN, "w") as file:
            file.writelines(f"{name}\n" for name in self._begun)

    def knows(self, trainer: Trainer) -> bool:
        """Whether a training has begun in this run; if not, the checkpoints in its folder are those of an earlier run."""
        return self._begun is None or self._name(trainer) in self._begun

    def _name(self, trainer: Trainer) -> str:
        return "." if trainer.folder is None else Path(os.path.relpath(trainer.folder, self.path)).as_posix()


def _release(place: Path) -> None:
    file = _claimed.pop(place)
    (place / _LOCK).unlink(missing_ok=True)
    file.close()


@atexit.register
def _release_all() -> None:
    """What a run that failed has left."""
    for place in list(_claimed):
        with contextlib.suppress(OSError):
            _release(place)


def _forget() -> None:
    """A child has no lock of its parent's."""
    while _claimed:
        _claimed.popitem()[1].close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _is_there(file: Any, path: Path) -> bool:
    """Whether an open file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lines(path: Path) -> list[str] | None:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else None
