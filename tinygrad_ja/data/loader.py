"""``DataLoader``: batches of a dataset in a seeded order, made ahead by workers, and resumable at any batch."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..backend.devices import Device, usable
from ..backend.random import Generator, Stream, default_generator, drawing_from
from ..core.modes import modes
from ..core.tape import user_line
from ..core.tensor import Tensor
from ..errors import error, refusal
from .collate import mapped
from .dataset import IterableDataset
from .fetch import End, Failure, Fetcher, Job, Task
from .sampler import BatchSampler, RandomSampler, SequentialSampler, batches_of, checked_generator, draw_seed, positive
from .workers import ProcessWorker, ThreadWorker, Worker, end


@dataclass
class _Position:
    """Where an epoch is: its seed, from which everything random in it follows, and how many batches the program has got."""

    seed: int
    batches: int = 0
    samplers: list[Any] = field(default_factory=list)  # states that the samplers' own generators had at its start


class DataLoader:
    """Iterates over a dataset in batches, with PyTorch's arguments.

    dataset: anything with ``__getitem__`` and ``__len__``, or an ``IterableDataset``.
    batch_size: examples in a batch; None: single examples, not stacked.
    shuffle: a new random order in each epoch.
    sampler, batch_sampler: an order of one's own, of indices or of lists of indices.
    num_workers: how many threads or processes make batches ahead; 0: they are made when they are asked for.
    collate_fn: makes a batch of a list of examples; default ``default_collate``.
    pin_memory: accepted for PyTorch's programs. Copies to a GPU go through pinned memory and do not block in any case.
    drop_last: leave out a last batch that is not full.
    timeout: seconds to wait for a batch of a worker before it is a WorkerError; 0: no limit.
    worker_init_fn: called in each worker with its number.
    multiprocessing_context: name of a start method ("fork", "spawn", "forkserver") or a context, for processes.
    generator: where the seed of each epoch comes from; default: the default generator, which ``tg.manual_seed`` starts.
    prefetch_factor: batches that each worker makes ahead; default 2.
    persistent_workers: keep the workers from epoch to epoch.
    workers: "thread" or "process".
    device: where the Tensors of the batches go.

    An exception in a worker is raised here, of the same class, with the worker's traceback and the index of the example. Raises
    ArgumentError for arguments that contradict each other.

    **Order and random numbers.** Each epoch draws one seed from ``generator``. The order follows from it, and so do the random numbers of
    each batch: while the batch is made, the default generator is one of its own. So batches are the same whatever the number and kind of
    workers. (``random`` and ``numpy.random`` are seeded like this in processes only.)

    **Resuming.** ``state_dict()`` at any moment, ``load_state_dict()`` in another process: the next iteration gives the batches that had
    not been delivered.

    >>> import numpy as np
    >>> from tinygrad_ja.data import TensorDataset
    >>> data = TensorDataset(np.arange(10.0, dtype=np.float32), np.arange(10))
    >>> [y.tolist() for x, y in DataLoader(data, batch_size=4)]
    [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    >>> loader = DataLoader(data, batch_size=4, shuffle=True, num_workers=2, generator=Generator().manual_seed(0))
    >>> sorted(n for x, y in loader for n in y.tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        workers: str = "thread",
        device: str | Device | None = None,
    ) -> None:
        self.dataset = dataset
        self.num_workers = num_workers
        self.collate_fn = collate_fn
        self.pin_memory = pin_memory
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.generator = checked_generator("DataLoader", generator)
        self.prefetch_factor = prefetch_factor
        self.persistent_workers = persistent_workers
        self.workers = workers
        self.device = None if device is None else usable(Device(device))
        self._stream = isinstance(dataset, IterableDataset)
        self._check_workers()
        self._check_order(batch_size, shuffle, sampler, batch_sampler, drop_last)
        self.drop_last = drop_last
        self.batch_size = None if batch_sampler is not None else batch_size
        if not self._stream and sampler is None and batch_sampler is None:
            sampler = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
        if not self._stream and self.batch_size is not None and sampler is not None:
            batch_sampler = BatchSampler(sampler, self.batch_size, drop_last)
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self._position: _Position | None = None
        self._resumes = False
        self._idle: list[Worker] = []
        weakref.finalize(self, _end_idle, self._idle)

    # ---- what it gives

    def __len__(self) -> int:
        """Number of batches (or single examples) in an epoch; TypeError when the dataset or the sampler has no length."""
        if self._stream:
            count = len(self.dataset)
            return count if self.batch_size is None else batches_of(count, self.batch_size, self.drop_last)
        return len(self._order)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        if modes.recording is not None:
            raise error(
                "TG-U016",
                what=("iterating over a DataLoader in a compiled function", "コンパイルした関数の中で DataLoader を回す処理"),
                line=user_line(),
                fix=(
                    "loop over the DataLoader outside, and pass each batch to the compiled function.",
                    "DataLoader のループは外に置き、バッチをコンパイルした関数の引数として渡してください。",
                ),
            )
        position = self._position
        if position is None or not self._resumes:
            generator = default_generator("cpu") if self.generator is None else self.generator
            position = _Position(draw_seed(generator))
            position.samplers = [owner.get_state() for owner in self._generators()]
        else:
            for owner, state in zip(self._generators(), position.samplers):
                owner.set_state(state)
        self._position, self._resumes = position, False
        return self._delivered(position)

    def _delivered(self, position: _Position) -> Iterator[Any]:
        """The batches from ``position`` on, counted there as they are handed out."""
        tasks = self._tasks(position.seed)
        if not self._stream:  # of a stream the first batches have to be made again to come to the next
            tasks = itertools.islice(tasks, position.batches, None)
        made = self._made_by_workers(tasks, position.seed) if self.num_workers else self._made_here(tasks)
        if self._stream:
            made = itertools.islice(made, position.batches, None)
        for batch in made:
            position.batches += 1
            yield batch if self.device is None else mapped(self._moved, batch)

    def _moved(self, value: Any) -> Any:
        return value.to(self.device) if type(value) is Tensor else value

    # ---- the order

    @property
    def _order(self) -> Iterable[Any]:
        """The sampler that gives what one Task is about."""
        order = self.sampler if self.batch_sampler is None else self.batch_sampler
        assert order is not None
        return order

    def _tasks(self, seed: int) -> Iterator[Task]:
        """The tasks of an epoch. Samplers draw from its stream of random numbers, unless they have generators of their own."""
        stream = Stream(seed)
        with drawing_from(stream):
            order = itertools.repeat(self.batch_size) if self._stream else iter(self._order)
        for number in itertools.count(1):
            with drawing_from(stream):
                indices = next(order, End)
            if indices is End:
                return
            yield Task(seed + number, indices)

    def _generators(self) -> list[Generator]:
        """The generators that samplers have for themselves."""
        owners = (self.sampler, self.batch_sampler, getattr(self.batch_sampler, "sampler", None))
        found = [getattr(owner, "generator", None) for owner in owners]
        return list({id(one): one for one in found if isinstance(one, Generator)}.values())

    # ---- making batches

    def _job(self) -> Job:
        in_batches = self.batch_sampler is not None or self.batch_size is not None
        return Job(self.dataset, self.collate_fn, in_batches, self.drop_last, self.num_workers, self.worker_init_fn)

    def _made_here(self, tasks: Iterator[Task]) -> Iterator[Any]:
        fetch = Fetcher(self._job())
        for task in tasks:
            batch = fetch(task)
            if batch is End:
                return
            yield batch

    def _made_by_workers(self, tasks: Iterator[Task], seed: int) -> Iterator[Any]:
        workers = self._hired(seed)
        pending: deque[Worker] = deque()
        try:
            yield from self._exchanged(tasks, workers, pending)
        except GeneratorExit:  # the program has left its loop
            self._keep_or_end(workers, pending)
            raise
        except BaseException:
            end(workers)
            raise
        self._keep_or_end(workers, pending)

    def _exchanged(self, tasks: Iterator[Task], workers: list[Worker], pending: deque[Worker]) -> Iterator[Any]:
        """Tasks against batches. pending: the workers that have tasks, in the order of the batches."""
        turns = deque(workers)  # whose turn it is to get a task

        def hand_out() -> None:
            if turns and (task := next(tasks, None)) is not None:
                turns[0].put(task)
                pending.append(turns[0])
                turns.rotate(-1)

        for worker in workers:
            worker.begin()
        for _ in range(self._depth * len(workers)):
            hand_out()
        while pending:
            worker = pending.popleft()
            batch = worker.get(self.timeout)
            if isinstance(batch, Failure):
                raise batch.exception() from batch.cause
            if batch is not End:
                hand_out()
                yield batch
            elif worker in turns:
                turns.remove(worker)

    def _keep_or_end(self, workers: list[Worker], pending: deque[Worker]) -> None:
        """After an epoch: persistent workers are kept for the next one, once they are done with what they have."""
        if not self.persistent_workers or self._idle or sys.is_finalizing():  # at the end of the program nobody would reply
            end(workers)
            return
        try:
            for worker in pending:
                worker.get(self.timeout)
        except BaseException:
            end(workers)
            raise
        self._idle.extend(workers)

    @property
    def _depth(self) -> int:
        return 2 if self.prefetch_factor is None else self.prefetch_factor

    def _hired(self, seed: int) -> list[Worker]:
        """Workers that are ready: the idle ones of the last epoch, or new ones."""
        if self._idle:
            workers = list(self._idle)
            self._idle.clear()
            return workers
        job = self._job()
        made: list[Worker] = []
        try:
            for number in range(self.num_workers):
                made.append(self._new_worker(job, number, seed))
        except BaseException:
            end(made)
            raise
        return made

    def _new_worker(self, job: Job, number: int, seed: int) -> Worker:
        seed += 2**62 + number  # far from those of the batches
        if self.workers == "thread":
            return ThreadWorker(job, number, seed)
        context = self.multiprocessing_context
        if context is None or isinstance(context, str):
            context = multiprocessing.get_context(context)
        try:
            return ProcessWorker(job, number, seed, self._depth, context)
        except (pickle.PicklingError, AttributeError, TypeError) as failure:
            raise error(
                "TG-A003",
                op="DataLoader",
                reason=(
                    f"the dataset or a function cannot be sent to a worker process: {failure}",
                    f"データセットか関数をワーカーのプロセスに送れません: {failure}",
                ),
                fix=(
                    "define classes and functions at the top of a module, or use workers='thread'.",
                    "クラスと関数をモジュールの最上位で定義するか、workers='thread' を使ってください。",
                ),
            ) from failure

    # ---- state

    def state_dict(self) -> dict[str, Any]:
        """Where the epoch that was begun last is, as plain values for ``tg.save``: its seed and how many batches were delivered.

        Generators that the loader or its samplers were given are in it. The default generator is not; ``tg.get_rng_state()`` is its state.
        """
        position = self._position
        return {
            "seed": None if position is None else position.seed,
            "batches": 0 if position is None else position.batches,
            "length": self._length(),
            "samplers": [] if position is None else position.samplers,
            "generator": None if self.generator is None else self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``: the next iteration gives the batches that were still to come in that epoch.

        Of an ``IterableDataset`` the earlier batches are made again and left out. Raises StateError when the state is not one of a loader with
        as many batches.
        """
        fault = self._fault(state)
        if fault is not None:
            fix = (
                "make the loader as it was when the state was saved.",
                "状態を保存したときと同じ引数で DataLoader を作ってください。",
            )
            raise error("TG-F003", what="DataLoader", reason=fault, fix=fix)
        if self.generator is not None:
            self.generator.set_state(state["generator"])
        self._resumes = state["seed"] is not None
        self._position = _Position(state["seed"], state["batches"], list(state["samplers"])) if self._resumes else None

    def _length(self) -> int | None:
        try:
            return len(self)
        except (TypeError, NotImplementedError):
            return None

    def _fault(self, state: Any) -> tuple[str, str] | None:
        keys = {"seed", "batches", "length", "samplers", "generator"}
        if not isinstance(state, dict) or set(state) != keys:
            return f"it is not a dict of {sorted(keys)}", f"{sorted(keys)} の dict ではありません"
        seed, batches, samplers, here = state["seed"], state["batches"], state["samplers"], self._length()
        if state["length"] != here:
            return (
                f"it has {state['length']!r} batches in an epoch, this loader {here}",
                f"1 エポックのバッチ数が {state['length']!r} ですが、ここでは {here} です",
            )
        if not isinstance(batches, int) or not 0 <= batches <= (batches if here is None else here):
            return f"{batches!r} batches were delivered", f"渡したバッチの数が {batches!r} です"
        if not (seed is None or isinstance(seed, int)):
            return f"its seed is {seed!r}", f"シードが {seed!r} です"
        if (state["generator"] is None) != (self.generator is None):
            return "only one of the two has a generator", "片方にだけ generator があります"
        if not isinstance(samplers, list) or (seed is not None and len(samplers) != len(self._generators())):
            return "its samplers have other generators", "サンプラーの generator が違います"
        try:
            for one in (*samplers, *([] if self.generator is None else [state["generator"]])):
                Generator().set_state(one)
        except (KeyError, TypeError, ValueError):
            return "the state of a generator is damaged", "generator の状態が壊れています"
        return None

    # ---- arguments

    def _check_workers(self) -> None:
        op, count = "DataLoader", self.num_workers
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise refusal(op, "num_workers", repr(count), ("an int, 0 or more", "0 以上の整数"))
        if not isinstance(self.timeout, (int, float)) or self.timeout < 0:
            raise refusal(op, "timeout", repr(self.timeout), ("seconds, 0 or more", "0 以上の秒数"))
        if self.workers not in ("thread", "process"):
            raise refusal(op, "workers", repr(self.workers), ("'thread' or 'process'", "'thread' か 'process'"))
        if self.prefetch_factor is not None:
            positive(op, "prefetch_factor", self.prefetch_factor)
        if not count and self.prefetch_factor is not None:
            raise refusal(
                op, "prefetch_factor", repr(self.prefetch_factor), ("only with num_workers > 0", "num_workers > 0 のときだけ")
            )
        if not count and self.persistent_workers:
            raise refusal(op, "persistent_workers", True, ("only with num_workers > 0", "num_workers > 0 のときだけ"))
        method = self.multiprocessing_context
        if isinstance(method, str) and method not in multiprocessing.get_all_start_methods():
            allowed = ", ".join(multiprocessing.get_all_start_methods())
            raise refusal(op, "multiprocessing_context", repr(method), (f"one of {allowed}", f"{allowed} のどれか"))
        if count and self.workers == "process" and os.name != "posix":
            raise refusal(op, "workers", repr(self.workers), ("'thread' on this system", "この OS では 'thread'"))

    def _check_order(self, batch_size: Any, shuffle: Any, sampler: Any, batch_sampler: Any, drop_last: bool) -> None:
        op = "DataLoader"
        if not self._stream and not hasattr(self.dataset, "__getitem__"):
            rule = (
                "a set with __getitem__ and __len__, or an IterableDataset",
                "__getitem__ と __len__ を持つもの、または IterableDataset",
            )
            raise refusal(op, "dataset", repr(self.dataset), rule)
        if shuffle not in (None, False, True):
            raise refusal(op, "shuffle", repr(shuffle), ("True, False or None", "True、False、None のどれか"))
        if self._stream and (shuffle or sampler is not None or batch_sampler is not None):
            name = "shuffle" if shuffle else "sampler" if sampler is not None else "batch_sampler"
            raise refusal(
                op,
                name,
                "...",
                ("not with an IterableDataset, which has its own order", "IterableDataset には順序があるので使えません"),
            )
        if sampler is not None and shuffle:
            raise refusal(op, "shuffle", repr(shuffle), ("not together with a sampler", "sampler とは併用できません"))
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            rule = (
                "not together with batch_size, shuffle, sampler or drop_last",
                "batch_size、shuffle、sampler、drop_last とは併用できません",
            )
            raise refusal(op, "batch_sampler", type(batch_sampler).__name__, rule)
        if batch_size is None and drop_last:
            raise refusal(op, "drop_last", drop_last, ("only with a batch_size", "batch_size があるときだけ"))
        if batch_size is not None:
            positive(op, "batch_size", batch_size)


def _end_idle(idle: list[Worker]) -> None:
    end(idle)
    idle.clear()
