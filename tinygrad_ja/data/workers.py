"""Workers of a DataLoader, as threads or as processes. Each takes tasks and gives their batches back in that order.

Threads share the memory of the program, start at once and suit datasets whose work is NumPy's, which lets other threads run
meanwhile. Processes suit decoding and other work in Python itself. Their batches come through memory that has no name
(``shared.py``), and a process ends as soon as the pipe to its program does, so nothing stays behind, however the program ends.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import random
import signal
import sys
import threading
from collections.abc import Iterable
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np

from ..backend.devices import get_default_dtype
from ..backend.threads import set_num_threads, work_undivided
from ..errors import error
from .fetch import Begin, End, Failure, Job, Service, Task
from .shared import Slot

_GRACE = 2.0
"""Seconds that a worker gets to finish what it is at when it is told to end."""


class Worker(Protocol):
    """A worker as the program sees it."""

    def begin(self) -> None:
        """Tell it that an epoch starts."""

    def put(self, task: Task) -> None:
        """Hand it a task."""

    def get(self, timeout: float) -> Any:
        """The reply to the earliest task without one: a batch, ``End`` or a ``Failure``.

        timeout: seconds to wait, 0: without limit. Raises WorkerError when they have passed, and when the worker is dead.
        """

    def dismiss(self) -> None:
        """Tell it to end; tasks that it has not begun are dropped."""

    def join(self) -> None:
        """Wait for its end, not for long."""


def end(workers: Iterable[Worker]) -> None:
    """End all of them."""
    workers = list(workers)
    for worker in workers:
        worker.dismiss()
    for worker in workers:
        worker.join()


# ---- threads -------------------------------------------------------------------------------------


class ThreadWorker:
    """A worker in a thread of this process."""

    def __init__(self, job: Job, number: int, seed: int) -> None:
        self._number = number
        self._tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._replies: queue.SimpleQueue[Any] = queue.SimpleQueue()
        arguments = (job, number, seed, get_default_dtype(), self._tasks, self._replies)
        self._thread = threading.Thread(target=_serve_in_thread, args=arguments, name=f"DataLoader {number}", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        self._tasks.put(Begin)

    def put(self, task: Task) -> None:
        self._tasks.put(task)

    def get(self, timeout: float) -> Any:
        try:
            return self._replies.get(timeout=timeout or None)
        except queue.Empty:
            raise error("TG-W003", worker=self._number, timeout=timeout) from None

    def dismiss(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._tasks.get_nowait()
        self._tasks.put(End)

    def join(self) -> None:
        if self._thread is threading.current_thread() or sys.is_finalizing():  # garbage collection may call this anywhere
            return
        self._thread.join(_GRACE)


def _serve_in_thread(
    job: Job,
    number: int,
    seed: int,
    dtype: np.dtype,
    tasks: queue.SimpleQueue[Any],
    replies: queue.SimpleQueue[Any],
) -> None:
    work_undivided()
    service = Service(job, number, seed, dtype)
    while (task := tasks.get()) is not End:
        if task is Begin:
            service.begin()
        else:
            replies.put(service.answer(task))


# ---- processes -----------------------------------------------------------------------------------


class ProcessWorker:
    """A worker in a process of its own. At most ``depth`` of its tasks may be without a reply."""

    def __init__(self, job: Job, number: int, seed: int, depth: int, context: Any) -> None:
        self._number = number
        self._owner = os.getpid()
        self._slots = [Slot() for _ in range(depth)]
        self._received = 0
        self._connection, theirs = context.Pipe()
        mine = self._connection if context.get_start_method() == "fork" else None
        arguments = (job, number, seed, get_default_dtype(), theirs, mine, self._slots)
        self._process = context.Process(target=_serve_in_process, args=arguments, name=f"DataLoader {number}", daemon=True)
        try:
            self._process.start()
        except BaseException:
            self._connection.close()
            self._close_slots()
            raise
        finally:
            theirs.close()  # so that the end of the process is seen as the end of the pipe

    def begin(self) -> None:
        self._send(Begin)

    def put(self, task: Task) -> None:
        self._send(task)

    def _send(self, message: Any) -> None:
        with contextlib.suppress(ConnectionError):  # of a dead worker, which get reports
            self._connection.send(message)

    def get(self, timeout: float) -> Any:
        try:
            if timeout and not self._connection.poll(timeout):
                raise error("TG-W003", worker=self._number, timeout=timeout)
            reply = self._connection.recv()
        except (EOFError, ConnectionError):
            raise self._death() from None
        slot = self._slots[self._received % len(self._slots)]
        self._received += 1
        return slot.read(reply) if isinstance(reply, list) else reply

    def _death(self) -> Exception:
        self._process.join(_GRACE)
        code = self._process.exitcode
        how = (f"exit code {code}", f"終了コード {code}")
        if code is not None and code < 0:
            how = (f"killed by signal {-code}", f"シグナル {-code} による終了")
        return error("TG-W002", worker=self._number, process=self._process.pid, how=how)

    def dismiss(self) -> None:
        if os.getpid() == self._owner:  # a forked process holds copies of its parent's workers, which are not its own
            self._connection.close()

    def join(self) -> None:
        if os.getpid() != self._owner:
            return
        for end_it in (lambda: None, self._process.terminate, self._process.kill):
            end_it()
            self._process.join(_GRACE)
            if self._process.exitcode is not None:
                break
        self._process.close()
        self._close_slots()

    def _close_slots(self) -> None:
        for slot in self._slots:
            slot.close()


def _serve_in_process(
    job: Job,
    number: int,
    seed: int,
    dtype: np.dtype,
    connection: Connection,
    other_end: Connection | None,
    slots: list[Slot],
) -> None:
    if other_end is not None:
        other_end.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the program's to handle; it will close the pipe
    gc.freeze()  # what was inherited is not this process's to collect
    set_num_threads(1)
    service = Service(job, number, seed, dtype)
    done = 0
    with contextlib.suppress(EOFError, ConnectionError):  # the program has closed its end of the pipe, or has died
        while True:
            task = connection.recv()
            if task is Begin:
                service.begin()
                continue
            random.seed(task.seed)
            np.random.seed(task.seed % 2**32)
            connection.send(_stored(service, service.answer(task), slots[done % len(slots)]))
            done += 1


def _stored(service: Service, reply: Any, slot: Slot) -> Any:
    """What is sent for a reply: for a batch, where in the slot its pieces are."""
    if reply is End or isinstance(reply, Failure):
        return reply
    try:
        return slot.write(reply)
    except Exception as failure:
        return service.failed(failure)
