"""Threads for kernels on the CPU. NumPy runs an element-wise function in one thread and lets go of the interpreter's lock meanwhile, so
parts of a large array can be computed side by side.

    out = np.empty_like(x)
    in_parts(lambda part: np.exp(x[part], out[part]), len(x), x.size)

OpenBLAS has threads of its own; ``set_num_threads`` sets both.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from itertools import pairwise

from .. import blas
from ..errors import error

WORTH = 65_536
"""Elements for a thread from which on handing work over (some 30 µs) pays, at about 1 ns of work for an element and a pass."""


class _Threads:
    """The number of threads, and the pool that runs all parts but the caller's own. Made when it is first needed, and anew in a child
    process, which inherits no threads."""

    def __init__(self) -> None:
        given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
        self.count = max(1, int(given)) if given.isdigit() else _processors()
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0
        self._blas: list[Callable[[int], None]] | None = None
        self._of_blas = 0
        self._lock = threading.Lock()

    @property
    def pool(self) -> ThreadPoolExecutor:
        """The threads beside the caller's."""
        if self._pool is None or self._process != os.getpid():
            self._pool = ThreadPoolExecutor(max(1, self.count - 1), thread_name_prefix="tinygrad_ja")
            self._process = os.getpid()
        return self._pool

    def resize(self, count: int) -> None:
        """Use ``count`` threads from now on."""
        self.count, self._pool = count, None
        self.set_blas(count)
        self._of_blas = count

    def set_blas(self, count: int | None) -> None:
        """Let OpenBLAS use ``count`` threads, or None: as many as before the first call (the user may have chosen)."""
        with self._lock:
            if self._blas is None:
                self._blas, loaded = blas.thread_setters(), blas.loaded_openblas()
                self._of_blas = loaded.threads if loaded is not None and loaded.threads else self.count
        for setter in self._blas:
            setter(self._of_blas if count is None else count)


def _processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_threads = _Threads()


class _Here(threading.local):
    inside = False  # of a part, whose own work is not divided again


_here = _Here()


def get_num_threads() -> int:
    """Threads that a kernel on the CPU may use: at first ``OMP_NUM_THREADS``, else the processors of this process."""
    return _threads.count


def set_num_threads(count: int) -> None:
    """Let kernels on the CPU, and OpenBLAS, use ``count`` threads.

    Raises ArgumentError when ``count`` is no positive int.

    >>> import tinygrad_ja as tg
    >>> before = tg.get_num_threads()
    >>> tg.set_num_threads(1); tg.get_num_threads()
    1
    >>> tg.set_num_threads(before)
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise error(
            "TG-A001",
            op="set_num_threads",
            argument="count",
            value=repr(count),
            rule=("an int >= 1", "1 以上の整数"),
            fix=("set_num_threads(1).", "set_num_threads(1) などとしてください。"),
        )
    _threads.resize(count)


def work_undivided() -> None:
    """From now on kernels that are called in this thread stay in it: it is one of several that work side by side."""
    _here.inside = True


def undivided() -> bool:
    """True in a thread that is one of several which work side by side."""
    return _here.inside


def in_parts(work: Callable[[slice], object], length: int, elements: int, block: int = 0) -> None:
    """Call ``work(slice)`` for parts that together are ``range(length)``: one part for each thread where ``elements``, the size of the
    whole work, is worth it, else one part in all.

    block: at most so many of ``length`` at a time, so that what a part makes stays in the processor's cache; 0: no limit.
    Meanwhile each part's products run in its own thread only: threads of OpenBLAS would fight with these for the processors. The caller's
    ``np.errstate`` holds in every part. An exception of a part is raised here, after all parts have ended.
    """
    alone = (
        elements < 2 * WORTH or _here.inside or not threading.main_thread().is_alive()
    )  # a program that ends starts no thread
    count = 1 if alone else min(_threads.count, length, elements // WORTH)
    if count < 2:
        _in_blocks(work, 0, length, block)
        return
    edges = [length * i // count for i in range(count + 1)]
    _threads.set_blas(1)
    others: list[Future[None]] = [
        _threads.pool.submit(copy_context().run, _part, work, low, high, block) for low, high in pairwise(edges[1:])
    ]
    try:
        _part(work, 0, edges[1], block)
    finally:
        failures = [future.exception() for future in others]
        _threads.set_blas(None)
    for failure in failures:
        if failure is not None:
            raise failure


def _part(work: Callable[[slice], object], low: int, high: int, block: int) -> None:
    """What one thread does."""
    _here.inside = True
    try:
        _in_blocks(work, low, high, block)
    finally:
        _here.inside = False


def _in_blocks(work: Callable[[slice], object], low: int, high: int, block: int) -> None:
    """``work`` on ``low:high``, ``block`` at a time."""
    step = block or max(high - low, 1)
    for start in range(low, high, step):
        work(slice(start, min(start + step, high)))
