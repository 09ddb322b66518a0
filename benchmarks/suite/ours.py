"""tinygrad_ja's side: the program as it stands, or under ``tg.compile``."""

from __future__ import annotations

import statistics
import time
from typing import Any

import tinygrad_ja as tg
from tinygrad_ja.blas import loaded_openblas

from . import programs
from .workloads import Problem


class Runner:
    """The step of a workload as the worker calls it.

    batches: the problem's, on this side and its device.
    """

    def __init__(self, name: str, problem: Problem, form: str, device: str, threads: int, compiled: bool = False) -> None:
        tg.set_num_threads(threads)
        tg.manual_seed(0)
        side = programs.Side(tg, problem, device)
        self.cuda = device.startswith("cuda")
        self.function: Any = programs.build(side, name, form)
        side.problem = None  # a step reaches its model and its optimizer; all that it reaches is watched
        if compiled:
            self.function = tg.compile(self.function)
        self.batches = [tuple(side.tensor(array) for array in batch) for batch in problem.batches]

    def step(self, batch: tuple[Any, ...]) -> Any:
        """One step; the loss as this side gives it."""
        return self.function(*batch)

    def finish(self) -> None:
        """Wait until all that was asked for is computed."""
        if self.cuda:
            tg.cuda.synchronize()

    def details(self) -> dict[str, Any]:
        """What the report tells of this side beside times."""
        found = loaded_openblas()
        return {"version": f"tinygrad_ja {tg.__version__}", "kernels": found.core_type if found else ""}


class Compiled(Runner):
    """The same step under ``tg.compile``."""

    def __init__(self, name: str, problem: Problem, form: str, device: str, threads: int) -> None:
        super().__init__(name, problem, form, device, threads, compiled=True)

    def details(self) -> dict[str, Any]:
        """Beside that the arena, the calls or launches of a step, who runs it, and what is not replayed and why."""
        made = super().details()
        try:
            plan = self.function.plan()
        except tg.errors.UsageError:
            return {**made, "notes": self.function.notes or ["nothing was replayed"]}
        return {**made, "arena": plan.arena, "calls": plan.calls, "executor": plan.executor, "notes": plan.notes}

    def record(self) -> float:
        """Seconds of a call that records, when all that is needed is loaded: the median of five."""
        found = []
        for _ in range(5):
            self.function.reset()
            start = time.perf_counter()
            self.step(self.batches[0])
            self.finish()
            found.append(time.perf_counter() - start)
        return statistics.median(found)
