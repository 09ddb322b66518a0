"""``Checkpoints``: a folder from which a training run goes on exactly where it was, whenever and however it was stopped.

    parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "scaler": scaler, "loader": loader}
    checkpoints = tg.io.Checkpoints("runs/a", parts, keep=2, best=1, mode="min")
    found = checkpoints.restore()  # None at the first start, else what the newest readable checkpoint says
    step = found.step if found else 0
    while step < 1000:
        ...  # one step of training
        step += 1
        if step % 100 == 0:
            checkpoints.save(step, metric=validation_loss, extra={"history": history})

A file holds the state of every part, of the random streams, and what the caller adds. It is written under another name, flushed to the disk and
renamed, and older files go only after that: at every moment the folder has a whole checkpoint.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..backend.arrays import BY_TYPE, is_array
from ..backend.devices import cuda_is_available
from ..backend.random import Generator, default_generator, default_generators
from ..core.tensor import Tensor
from ..errors import Phrase, StateError, TinygradError, error, refusal, text
from .archive import load, load_tree, save
from .files import damaged

_NAME = re.compile(r"checkpoint-\d{8,}\.safetensors")
_LEFTOVER = re.compile(r"\.checkpoint-\d{8,}\.safetensors\.[0-9a-f]{8}\.tmp")
_LONGEST = 1500  # characters
_DEAD_AFTER = 3600.0  # seconds without a write
_KINDS = [{"step": int, "metric": metric, "serial": int} for metric in (float, type(None))]
_OWN = ("checkpoint", "streams", "extra")


class Saved(NamedTuple):
    """A checkpoint in the folder: its file, its step, its metric (None when none was given) and its place in the order of writing."""

    path: Path
    step: int
    metric: float | None
    serial: int


class Restored(NamedTuple):
    """What ``restore`` found: step, metric and extra as they were given to ``save``, and the file."""

    step: int
    metric: float | None
    extra: Any
    path: Path


class Checkpoints:
    """The checkpoints of one training run, files ``checkpoint-<step>.safetensors`` in a folder of its own.

    folder: made when the first checkpoint is written.
    parts: everything whose state belongs to the run, by name: what has ``state_dict`` and ``load_state_dict`` (models, optimizers, schedules,
    GradScaler, loaders) or ``get_state`` and ``set_state``, a ``tg.Generator``, NumPy's ``Generator`` or ``RandomState``, Python's ``Random``.
    The default streams of random numbers (of tinygrad_ja, Python's ``random``, NumPy's ``np.random``) are always saved too.
    keep: how many of the newest files stay, None for all. best: how many of those with the best metric stay besides.
    mode: ``"min"`` when a small metric is good, ``"max"`` when a large one is.
    Raises ArgumentError for a part that has no state and for settings outside of their range.

    >>> import tempfile, tinygrad_ja as tg
    >>> model = tg.nn.Linear(2, 1)
    >>> checkpoints = Checkpoints(tempfile.mkdtemp(), {"model": model})
    >>> checkpoints.restore() is None
    True
    >>> for step in (10, 20, 30):
    ...     path = checkpoints.save(step, metric=1 / step, extra={"note": step})
    >>> [saved.step for saved in checkpoints.saved()], checkpoints.restore("best").extra
    ([20, 30], {'note': 30})
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        parts: Mapping[str, Any],
        *,
        keep: int | None = 2,
        best: int = 1,
        mode: str = "min",
    ) -> None:
        self.folder = Path(folder)
        _require(
            "parts", type(parts).__name__, isinstance(parts, Mapping), ("a dict of name: part", "「名前: 保存するもの」の dict")
        )
        _require(
            "keep", keep, keep is None or (_is_count(keep) and keep >= 1), ("None or an int, keep >= 1", "None か 1 以上の整数")
        )
        _require("best", best, _is_count(best), ("an int, best >= 0", "0 以上の整数"))
        _require("mode", repr(mode), mode in ("min", "max"), ("'min' or 'max'", "'min' か 'max'"))
        self._keep, self._best, self._sign = keep, best, 1 if mode == "min" else -1
        self._parts = {name: _access(name, part) for name, part in parts.items()}
        self._known: dict[Path, tuple[tuple[int, int], Saved]] = {}

    def save(self, step: int, *, metric: float | None = None, extra: Any = None) -> Path:
        """Write the checkpoint of ``step``, then remove files that are neither new nor good enough to stay. Returns the file.

        step: the number of steps done, 0 or more. metric: a number to find the best by. extra: anything ``tg.save`` takes.
        Raises ArgumentError for what cannot be saved; OSError when the disk is full or the folder cannot be written. Then the older files
        are as they were.
        """
        _require("step", step, _is_count(step), ("an int, step >= 0", "0 以上の整数"))
        newest = max([saved.serial for saved in self.saved()], default=0)
        about = {"step": step, "metric": None if metric is None else float(metric), "serial": newest + 1}
        state = {name: access.read() for name, access in self._parts.items()}
        streams = {name: access.read() for name, access in _default_streams().items()}
        path = self.folder / f"checkpoint-{step:08d}.safetensors"
        self.folder.mkdir(parents=True, exist_ok=True)
        save({"checkpoint": about, **state, "streams": streams, "extra": extra}, path)
        self._tidy()
        return path

    def restore(self, which: str | int | os.PathLike[str] = "newest") -> Restored | None:
        """Load a checkpoint into the parts and the random streams: all of it or nothing.

        which: ``"newest"`` or ``"best"``: a damaged file is passed over with a warning for the next one; None is returned when the
        folder has no such checkpoint. A step (int) or a file: just this one.
        Raises StateError when a file that was asked for, or every file, is damaged, and when the state does not fit the parts, ArgumentError
        for a step that is not there, FileNotFoundError for a missing file.
        """
        if which not in ("newest", "best"):
            path = self._path_of(which) if isinstance(which, int) else Path(which)
            return self._take_over(path, load(path))
        readable, faults = self._scan()
        ordered = readable[::-1] if which == "newest" else self._ranked(readable)
        for saved in ordered:
            try:
                state = load(saved.path)
            except StateError as failure:
                faults[saved.path] = failure
                continue
            for path, fault in faults.items():
                warnings.warn(text("TG-F009", path=path, reason=fault), stacklevel=2)
            return self._take_over(saved.path, state)
        if faults:
            raise list(faults.values())[-1]
        return None

    def saved(self) -> list[Saved]:
        """The checkpoints whose header can be read, in the order in which they were written."""
        return self._scan()[0]

    def best(self) -> Saved | None:
        """The one with the best metric, the newest of them; None when no file has one."""
        return next(iter(self._ranked(self.saved())), None)

    # -- the folder

    def _scan(self) -> tuple[list[Saved], dict[Path, StateError]]:
        """The readable files by their serial, and what is wrong with the others."""
        readable, faults = [], {}
        for path in sorted(self.folder.glob("checkpoint-*.safetensors")):
            try:
                if _NAME.fullmatch(path.name):
                    readable.append(self._look_at(path))
            except StateError as failure:
                faults[path] = failure
        return sorted(readable, key=lambda saved: saved.serial), faults

    def _look_at(self, path: Path) -> Saved:
        """What the header of a file says; read once for each file."""
        status = path.stat()
        version = (status.st_mtime_ns, status.st_size)
        if path not in self._known or self._known[path][0] != version:
            about = _about(path, load_tree(path))
            self._known[path] = (version, Saved(path, about["step"], about["metric"], about["serial"]))
        return self._known[path][1]

    def _ranked(self, readable: list[Saved]) -> list[Saved]:
        """Those with a metric, best first."""
        rated = [saved for saved in readable if saved.metric is not None and not math.isnan(saved.metric)]
        return sorted(rated, key=lambda saved: (self._sign * (saved.metric or 0.0), -saved.serial))

    def _path_of(self, step: int) -> Path:
        steps = {saved.step: saved.path for saved in self.saved()}
        listed = ", ".join(str(known) for known in sorted(steps)) or "-"
        _require("which", step, step in steps, (f"a step that was saved: {listed}", f"保存されたステップ: {listed}"), "restore")
        return steps[step]

    def _tidy(self) -> None:
        """Remove files that need not stay, and what killed runs left under temporary names."""
        readable = self.saved()
        newest = readable if self._keep is None else readable[-self._keep :]
        stay = {saved.path for saved in [*newest, *self._ranked(readable)[: self._best]]}
        gone = [saved.path for saved in readable if saved.path not in stay]
        for path in gone:
            del self._known[path]
        for path in [*gone, *filter(_is_dead, self.folder.glob(".checkpoint-*.tmp"))]:
            with contextlib.suppress(FileNotFoundError):  # somebody else was faster
                path.unlink()

    # -- the state

    def _take_over(self, path: Path, state: dict[str, Any]) -> Restored:
        """Give every part its state. When one refuses, those before it get back what they had."""
        about = _about(path, state)
        _check_names(path, list(self._parts), [name for name in state if name not in _OWN])
        streams = _default_streams(list(state["streams"]))
        plan = [(access, state[name]) for name, access in self._parts.items()]
        plan += [(streams[name], value) for name, value in state["streams"].items() if name in streams]
        plan.sort(key=lambda pair: pair[0].is_stream)  # last, since the others may draw
        before: list[tuple[_Access, Any]] = []
        try:
            for access, value in plan:
                before.append((access, _on_host(access.read())))
                _give(path, access, value)
        except BaseException:
            for access, value in before:
                access.write(value)
            raise
        return Restored(about["step"], about["metric"], state["extra"], path)


class _Access(NamedTuple):
    """How the state of a part is read and written."""

    read: Callable[[], Any]
    write: Callable[[Any], Any]
    is_stream: bool = True


def _access(name: str, part: Any) -> _Access:
    allowed = isinstance(name, str) and name not in _OWN
    _require("parts", repr(name), allowed, (f"names other than {_OWN}", f"{_OWN} 以外の名前"))
    if hasattr(part, "state_dict") and hasattr(part, "load_state_dict"):
        return _Access(part.state_dict, part.load_state_dict, False)
    if isinstance(part, Generator):
        return _generator_access(part)
    if isinstance(part, np.random.Generator):
        return _Access(lambda: part.bit_generator.state, lambda state: _set_bits(part.bit_generator, state))
    if isinstance(part, np.random.RandomState):
        return _older_numpy_access(part)
    if isinstance(part, random.Random):
        return _python_access(part)
    usable = hasattr(part, "get_state") and hasattr(part, "set_state")
    rule = ("something with state_dict and load_state_dict", "state_dict と load_state_dict を持つもの")
    _require("parts", f"{name!r}: {type(part).__name__}", usable, rule)
    return _Access(part.get_state, part.set_state, False)


def _give(path: Path, access: _Access, value: Any) -> None:
    """Write the state of one part. The error of a part that refuses it names the file, too; Python's and NumPy's streams raise many kinds."""
    try:
        access.write(value)
    except TinygradError as failure:
        message = str(failure)  # it may list names of the file, of any length
        failure.args = (f"{message[:_LONGEST]}{' ... ' * (len(message) > _LONGEST)} ({path})",)
        raise
    except Exception as failure:
        if not access.is_stream:
            raise
        reason = f"{type(failure).__name__}: {failure}"
        raise damaged(
            path, "checkpoint", (f"it holds no random stream ({reason})", f"乱数列の状態が正しくありません ({reason})")
        ) from failure


def _default_streams(saved: Sequence[str] = ()) -> dict[str, _Access]:
    """The streams that a process has without making them; one on a GPU counts when it is in use here or was ``saved``."""
    for name in saved:
        if name.startswith("cuda") and cuda_is_available():
            default_generator(name)
    found = {str(device): _generator_access(generator) for device, generator in default_generators().items()}
    found["python"] = _python_access(random)
    found["numpy"] = _older_numpy_access(np.random)
    return found


def _generator_access(generator: Generator) -> _Access:
    return _Access(generator.get_state, lambda state: _continue(generator, state))


def _python_access(stream: Any) -> _Access:
    """Of Python's ``random`` or a ``Random``: its 625 words are an array in the file."""

    def read() -> dict[str, Any]:
        version, words, gauss = stream.getstate()
        return {"version": version, "words": np.array(words, np.uint32), "gauss": gauss}

    def write(state: dict[str, Any]) -> None:
        stream.setstate((state["version"], tuple(state["words"].tolist()), state["gauss"]))

    return _Access(read, write)


def _older_numpy_access(stream: Any) -> _Access:
    """Of ``np.random`` or a ``RandomState``."""
    return _Access(lambda: stream.get_state(legacy=False), lambda state: stream.set_state(_as_arrays(state)))


def _continue(generator: Generator, state: dict[str, Any]) -> None:
    if "stream" in state:
        generator.set_state(state)
    else:  # a file of an earlier version, for a stream on a GPU
        generator.manual_seed(state["seed"])


def _set_bits(bits: Any, state: dict[str, Any]) -> None:
    bits.state = _as_arrays(state)


def _as_arrays(state: Any) -> Any:
    """NumPy's states have arrays where ``tg.load`` gives Tensors."""
    if isinstance(state, dict):
        return {name: _as_arrays(value) for name, value in state.items()}
    return state.array if type(state) is Tensor else state


def _on_host(state: Any) -> Any:
    """A copy of a state, its arrays on the CPU."""
    if isinstance(state, dict):
        return {name: _on_host(value) for name, value in state.items()}
    if isinstance(state, (list, tuple)):
        copies = [_on_host(value) for value in state]
        return tuple(copies) if isinstance(state, tuple) else copies
    if type(state) is Tensor:
        return Tensor(_on_host(state.array))
    return BY_TYPE[type(state)].to_host(state).copy() if is_array(state) else state


def _about(path: Path, state: Any) -> dict[str, Any]:
    """The entry ``checkpoint`` of a state; StateError for a file that ``tg.save`` wrote but ``Checkpoints`` did not."""
    about = state.get("checkpoint") if isinstance(state, dict) else None
    right = isinstance(about, dict) and {name: type(value) for name, value in about.items()} in _KINDS
    if not right or not isinstance(state.get("streams"), dict) or "extra" not in state:
        reason = ("tg.save wrote it, but not Checkpoints", "Checkpoints ではなく tg.save で書かれています")
        raise damaged(path, "checkpoint", reason, ("read it with tg.load.", "tg.load で読んでください。"))
    return state["checkpoint"]


def _check_names(path: Path, mine: list[str], saved: list[str]) -> None:
    if set(mine) != set(saved):
        raise error(
            "TG-F003",
            what=path,
            reason=(
                f"it holds {', '.join(saved)[:500]}, the parts are {', '.join(mine)}",
                f"中身は {', '.join(saved)[:500]}、parts は {', '.join(mine)} です",
            ),
            fix=(
                "pass the same parts; to load some of them, take their states from tg.load(path).",
                "同じ parts を渡してください。一部だけなら tg.load(path) から取り出して読み込めます。",
            ),
        )


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_dead(path: Path) -> bool:
    """True for the file of a ``save`` that was killed: nobody has written to it for an hour."""
    with contextlib.suppress(FileNotFoundError):
        return _LEFTOVER.fullmatch(path.name) is not None and time.time() - path.stat().st_mtime > _DEAD_AFTER
    return False


def _require(argument: str, value: Any, allowed: bool, rule: Phrase, method: str = "") -> None:
    if not allowed:
        raise refusal(f"Checkpoints.{method}" if method else "Checkpoints", argument, value, rule)
