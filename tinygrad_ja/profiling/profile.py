"""``profile``: a context manager that says where the time of a program goes."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

from ..errors import error
from ..io.files import FilePath, replacing
from . import chrome, tables
from .memory import Memory
from .recorder import Call, Recorder
from .totals import Total, totals

_running = threading.Lock()


class Profile:
    """What ``profile`` returns. After the block: ``calls``, the calls of operators in the order in which they ended; ``seconds``, the time of
    the block; ``totals("operator")`` and ``totals("line")``, sums of the calls; ``print`` shows the table. ``peak`` and ``allocated`` are the
    most bytes in arrays during the block beyond those before it, and those left after it, where memory was watched."""

    def __init__(self, *, memory: bool = False) -> None:
        self.seconds = 0.0
        self.calls: list[Call] = []
        self.peak: int | None = None
        self.allocated: int | None = None
        self._memory = Memory() if memory else None
        self._recorder: Recorder | None = None

    def __enter__(self) -> Profile:
        if not _running.acquire(blocking=False):
            raise error(
                "TG-A003",
                op="profile",
                reason=("another profile is being recorded", "ほかのプロファイルを記録中です"),
                fix=("end its block first.", "先にその with ブロックを終えてください。"),
            )
        if self._memory is not None:
            self._memory.start()
        self._recorder = Recorder(None if self._memory is None else self._memory.now)
        self._recorder.open()
        return self

    def __exit__(self, kind: type | None, failure: BaseException | None, trace: TracebackType | None) -> None:
        recorder = self._recorder
        assert recorder is not None
        try:
            self.seconds = recorder.close() / 1e9
            self.calls = recorder.calls
            if self._memory is not None:
                self.peak, self.allocated = self._memory.stop()
        finally:
            self._recorder = None
            _running.release()

    def totals(self, by: str = "operator") -> list[Total]:
        """Sums of the calls, the longest first. by: "operator" (and part), or "line" of the program, with its backward and its update."""
        return totals(self.calls, by)

    @property
    def outside(self) -> float:
        """Seconds in which this thread ran no operator: Python, the tape, the loader."""
        thread = threading.get_ident() if not self.calls else self.calls[0].thread
        return max(0.0, self.seconds - sum(call.own for call in self.calls if call.thread == thread) / 1e9)

    def table(self, by: str = "operator", rows: int | None = 25) -> str:
        """The sums as text, in English or Japanese. by: as for ``totals``. rows: show so many; None for all."""
        return tables.table(self, by, rows)

    def save_trace(self, path: FilePath) -> Path:
        """Write every call with its time to ``path``, a JSON file that chrome://tracing and https://ui.perfetto.dev show. Returns the path."""
        with replacing(path, "w") as file:
            chrome.write(file, self.calls)
        return Path(path)

    def __str__(self) -> str:
        return self.table()

    __repr__ = __str__


def profile(*, memory: bool = False) -> Profile:
    """Context manager: notes every call of an operator in forward and backward and every update of an optimizer, with its time, its
    floating-point operations and bytes, and the line of the program that it belongs to. A backward belongs to the line of its forward.

    memory: watch allocations too, which makes Python slower (``tracemalloc``). Only one profile runs at a time: another one raises
    ArgumentError.

    >>> import tinygrad_ja as tg
    >>> x = tg.ones(64, 64, requires_grad=True)
    >>> with tg.profile() as p:
    ...     (x @ x).sum().backward()
    >>> found = {total.name: total for total in p.totals()}
    >>> found["matmul"].calls, found["matmul"].flops, found["matmul.backward"].flops
    (1, 524288, 1048576)
    """
    return Profile(memory=memory)
