"""From a list of indices to a batch: what a DataLoader does by itself without workers, and what each worker does."""

from __future__ import annotations

import itertools
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backend.devices import set_default_dtype
from ..backend.random import Stream, drawing_from
from ..errors import TinygradError, WorkerError, text
from .collate import default_collate, default_convert
from .dataset import IterableDataset, examples, gather


class Task(NamedTuple):
    """A batch to be made. seed: of the random numbers drawn on the way. indices: of a batch, of one example, or, for a stream, the number of
    examples to take (None: one, not in a batch)."""

    seed: int
    indices: Any


class Begin:
    """Sent to a worker in place of a Task at the start of an epoch: streams start anew."""


class End:
    """In place of a batch: the stream has ended."""


class Job(NamedTuple):
    """What all workers of a DataLoader do."""

    dataset: Any
    collate_fn: Callable[[Any], Any] | None
    in_batches: bool
    drop_last: bool
    num_workers: int = 0
    worker_init_fn: Callable[[int], Any] | None = None


class Fetcher:
    """Makes the batches of a Job, one ``Task`` at a time."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._stream: Iterator[Any] | None = None

    def begin(self) -> None:
        """A new epoch."""
        self._stream = None

    def __call__(self, task: Task) -> Any:
        with drawing_from(Stream(task.seed)):
            if isinstance(self._job.dataset, IterableDataset):
                return self._next_of_stream(task.indices)
            if self._job.in_batches:
                return self._batch(task.indices)
            return self._collate(self._job.dataset[task.indices])

    def _batch(self, indices: Sequence[int]) -> Any:
        if self._job.collate_fn in (None, default_collate):
            return gather(self._job.dataset, indices)
        return self._collate(examples(self._job.dataset, indices))

    @property
    def _collate(self) -> Callable[[Any], Any]:
        return self._job.collate_fn or (default_collate if self._job.in_batches else default_convert)

    def _next_of_stream(self, count: int | None) -> Any:
        if self._stream is None:
            self._stream = iter(self._job.dataset)
        taken = list(itertools.islice(self._stream, 1 if count is None else count))
        if not taken or (count is not None and len(taken) < count and self._job.drop_last):
            return End
        return self._collate(taken[0] if count is None else taken)


# ---- workers -------------------------------------------------------------------------------------


class WorkerInfo(NamedTuple):
    """Which worker this is. id: 0 to num_workers-1. seed: of the worker, other than that of any batch. dataset: its copy of the set."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


class _Here(threading.local):
    info: WorkerInfo | None = None


_here = _Here()


def get_worker_info() -> WorkerInfo | None:
    """In a worker of a DataLoader, which one it is; None elsewhere. An ``IterableDataset`` uses it to give each worker its own part.

    >>> get_worker_info() is None
    True
    """
    return _here.info


class Failure(NamedTuple):
    """An exception in a worker, in a form that can be sent."""

    kind: type[BaseException]
    worker: int
    trace: str
    cause: BaseException | None = None

    def __reduce__(self) -> Any:
        try:
            pickle.dumps(self.kind)
        except Exception:
            return Failure, (WorkerError, self.worker, self.trace)
        return Failure, (self.kind, self.worker, self.trace)

    def exception(self) -> BaseException:
        """The same kind of exception, with the worker's traceback in its message; WorkerError where it cannot be made of one text."""
        message = f"[TG-W001] {text('TG-W001', kind=self.kind.__name__, worker=self.worker, trace=self.trace)}"
        try:
            made = self.kind(_Shown(message)) if issubclass(self.kind, Exception) else WorkerError(message)
        except Exception:
            made = WorkerError(message)
        if isinstance(made, TinygradError):
            made.code = "TG-W001"
        return made


class _Shown(str):
    """A text that a KeyError shows as it is."""

    __repr__ = str.__str__


class Service:
    """What runs inside of a worker: ``answer`` takes a task and gives the reply."""

    def __init__(self, job: Job, number: int, seed: int, dtype: np.dtype) -> None:
        self._number = number
        self._fetch = Fetcher(job)
        self._failure: Failure | None = None
        set_default_dtype(dtype)
        _here.info = WorkerInfo(number, job.num_workers, seed, job.dataset)
        if job.worker_init_fn is not None:
            try:
                job.worker_init_fn(number)
            except BaseException as failure:
                self._failure = self.failed(failure)

    def answer(self, task: Task) -> Any:
        """The batch, ``End`` or a ``Failure``."""
        if self._failure is not None:
            return self._failure
        try:
            return self._fetch(task)
        except BaseException as failure:
            return self.failed(failure)

    def begin(self) -> None:
        """A new epoch."""
        self._fetch.begin()

    def failed(self, failure: BaseException) -> Failure:
        """An exception as a reply."""
        lines = traceback.format_exception(failure)
        if not hasattr(failure, "add_note"):  # before Python 3.11 a traceback does not show notes
            lines += [f"{note}\n" for note in getattr(failure, "__notes__", ())]
        return Failure(type(failure), self._number, "".join(lines), failure)
