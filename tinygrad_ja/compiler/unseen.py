"""What a function reads that no link shows: clocks, files, the keyboard.

``Witness`` calls the function while it is recorded for the second time, and notes which code of the user ran and which functions of Python it
called, by the machinery of cProfile. That makes a recording two or three times as long, so it is done only where names in the code that the
function can reach say that there may be something to see.
"""

from __future__ import annotations

import os
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

try:  # what cProfile stands on; that module itself imports ``profile``, which may be a file of the user's
    from _lsprof import Profiler
except ImportError:  # not in every Python
    Profiler: Any = None  # type: ignore[no-redef]

from ..core.tape import is_ours
from .code_names import READS_RATES, is_users, names_of
from .reach import Reach

_CLOCKS: dict[str, frozenset[str]] = {
    "time": frozenset(
        f"{name}{unit}" for name in ("time", "perf_counter", "monotonic", "process_time") for unit in ("", "_ns")
    ),
    "datetime": frozenset(("now", "utcnow", "today")),
}
_TIMES = frozenset(("ctime", "gmtime", "localtime", "strftime", "thread_time"))

_FILES = frozenset(
    "access fork_exec fromfile getcwd getcwdb getrandom input listdir lstat open open_code read read1 readall readinto readline readlines "
    "readlink recv scandir stat urandom".split()
)
"""Functions written in C that tell of files, and of what else lies outside of the program."""

_MODULES = frozenset(("_io", "_posixsubprocess", "builtins", "io", "nt", "numpy", "posix"))

_TELLING = frozenset(
    "access check_output cwd default_rng exists fdopen fromfile genfromtxt getatime getctime getcwd getcwdb getmtime getoutput getrandom "
    "getsize glob iglob imread input is_dir is_file isdir isfile islink iterdir listdir lstat memmap open randbits recv rglob run scandir "
    "stat token_bytes urandom urlopen uuid1 uuid4 walk Popen SystemRandom".split()
).union(READS_RATES, _TIMES, *_CLOCKS.values())
"""Names that call for a witness, beside those that begin as ``read_text`` and ``loadtxt`` do."""

_ASIDE = frozenset(("inspect.py", "linecache.py", "traceback.py", "warnings.py"))
"""Files of Python's library that read source files to show lines of them."""


class Witness:
    """Calls a function, and notes what ran. ``codes``: code of the user that did; ``called``: what it called whose result may differ, or
    None."""

    def __init__(self, reach: Reach, again: bool) -> None:
        self.codes: list[types.CodeType] = []
        self._reach, self._again = reach, again
        self._wanted = again and _is_wanted(reach)
        self._called: list[str] = []
        self._watched = False

    def call(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """``function(*args, **kwargs)``."""
        profiler = self._profiler() if self._wanted else None
        if profiler is None:
            return function(*args, **kwargs)
        try:
            return _run(function, args, kwargs)
        finally:
            profiler.disable()
            self._watched = True
            self._look(profiler.getstats())

    def ran(self, codes: Iterable[types.CodeType]) -> list[types.CodeType]:
        """Code of the user that ran. ``codes``: some of it that is known anyway."""
        more = [] if self._watched else [function.__code__ for function in self._reach.functions]
        return [*self.codes, *codes, *more]

    def called(self, codes: Iterable[tuple[types.CodeType, dict[str, Any]]]) -> str | None:
        """A function whose result may differ. ``codes``: pieces of code that ran, with their globals; their names tell where there was no
        witness."""
        if self._watched or not self._again:
            return next(iter(self._called), None)
        more = [(function.__code__, function.__globals__) for function in self._reach.functions] if self._wanted else []
        return next(_named([*codes, *more]), None)

    def _profiler(self) -> Any:
        """A profiler that has begun; None where there is none, or another one is at work."""
        if Profiler is None or sys.getprofile() is not None:
            return None
        profiler = Profiler(subcalls=True, builtins=True)
        try:
            profiler.enable()
        except ValueError:
            return None
        return profiler

    def _known(self) -> set[int] | None:
        """Ids of the code that this function can reach, where the profiler sees what other threads run, too; else None."""
        if sys.version_info < (3, 12) or threading.active_count() == 1:
            return None
        codes = [function.__code__ for function in self._reach.functions]
        for code in codes:  # which grows
            codes += [part for part in code.co_consts if isinstance(part, types.CodeType)]
        return set(map(id, codes))

    def _look(self, entries: Iterable[Any]) -> None:
        """Walk through what called what, from the function on, but not into what a replay calls too."""
        calls = {id(entry.code): entry.calls or () for entry in entries}
        known, repeated = self._known(), _repeated()
        waiting: list[tuple[types.CodeType, str]] = [(_run.__code__, "")]
        seen = set()
        while waiting:
            code, via = waiting.pop()
            if (id(code), bool(via)) in seen or id(code) in repeated:
                continue
            seen.add((id(code), bool(via)))
            of_user = is_users(code.co_filename)
            if of_user and known is not None and id(code) not in known:
                continue
            if of_user:
                self.codes.append(code)
            for call in calls.get(id(code), ()):
                if isinstance(call.code, types.CodeType):
                    if not _is_aside(call.code.co_filename):
                        waiting.append((call.code, _via(call.code, via, of_user)))
                elif of_user or via:
                    name = _telling(call.code, of_user)
                    self._called += [f"{via or name}()"] if name else []


def _run(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _repeated() -> set[int]:
    """Ids of the functions below which Python runs at each replay, too."""
    from .recording import Recording

    return {id(Recording.act.__code__), id(Recording.later.__code__)}


def _via(code: types.CodeType, via: str, of_user: bool) -> str:
    """By what the user has called this code: the function that his code calls, or "" where it runs on behalf of the framework."""
    if is_users(code.co_filename) or (is_ours(code.co_filename) and not _reads_files(code.co_filename)):
        return ""
    return code.co_name if of_user else via


def _reads_files(filename: str) -> bool:
    """Whether a file of the framework is one of those that read files for the user."""
    return os.path.basename(os.path.dirname(filename)) in ("io", "data")


def _is_aside(filename: str) -> bool:
    """Whether code only looks for modules, or for lines to show."""
    return filename.startswith("<frozen importlib") or os.path.basename(filename) in _ASIDE


def _telling(title: str, of_user: bool) -> str | None:
    """The name of a function written in C, as a profile calls it, if its result may differ from call to call; of clocks only where code of the
    user reads them itself (loggers and the like do, too)."""
    words = title.split("'")
    if len(words) > 1:  # <method 'read' of '_io.TextIOWrapper' objects>
        return words[1] if words[1] in _FILES and words[3].startswith(("_io.", "_socket.")) else None
    module, _, name = title.strip("<>").split()[-1].rpartition(".")
    if module == "time":
        return f"time.{name}" if of_user and name in _CLOCKS["time"] | _TIMES else None
    if not module:
        return f"datetime.{name}" if of_user and name in _CLOCKS["datetime"] else None
    return name if name in _FILES and module.partition(".")[0] in _MODULES else None


def _is_wanted(reach: Reach) -> bool:
    """Whether it matters which of the code that a function can reach runs."""
    if any([name in _TELLING or name.startswith(("load", "read")) for name in reach.names]):
        return True
    if any([part.read_by(reach.names) for part in reach.counted]):
        return True
    codes = [function.__code__ for function in reach.functions]
    return not all([reach.only_made_tensors(array, codes) for array in reach.read_by_python()])


def _named(codes: Iterable[tuple[types.CodeType, dict[str, Any]]]) -> Iterator[str]:
    """What pieces of code (with their globals) name whose result no link shows."""
    for code, space in codes:
        used = names_of(code)
        yield from sorted(f"{name}()" for name in ("open", "input") if name in used.globals and name not in space)
        for name in used.globals & space.keys():
            value = space[name]
            module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
            if value is sys.modules["time"] or module == "datetime":
                yield from [f"{name}.{clock}()" for clock in sorted(_CLOCKS[str(module)] & (used.attributes | used.imports))]
            elif module == "time":
                yield from [f"{clock}()" for clock in sorted(_CLOCKS["time"]) if value is getattr(sys.modules["time"], clock)]
