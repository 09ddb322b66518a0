"""One side of one workload, in a process that lives as long as its turns: commands come as lines on stdin, answers go as JSON lines to stdout.

``first``: the losses of the first steps and how long they took. ``time TARGET SETTLE``: seconds per step over about TARGET seconds, after
SETTLE untimed seconds. ``memory``: MB that steps need beyond the process with the library and the data. ``record``: seconds of a call that
records, where the side has such. ``quit``.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FIRST = 6
"""Steps whose losses are compared; the first ones, which may record and compile, are among them."""

SIDES = {
    "eager": ("ours", "Runner"),
    "compiled": ("ours", "Compiled"),
    "torch": ("torch_side", "Runner"),
    "torch.compile": ("torch_side", "Compiled"),
    "jax": ("jax_side", "Runner"),
}
"""Column of the table -> file and class."""


def runner(side: str) -> Any:
    """The class of a side."""
    module, name = SIDES[side]
    return getattr(importlib.import_module(f"benchmarks.suite.{module}"), name)


def status(key: str) -> float:
    """A line of /proc/self/status in MB; 0 where there is no such file."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(key)) / 1024
    except OSError:
        return 0.0


class Worker:
    """Answers to the commands."""

    def __init__(self, side: str, name: str, form: str, device: str, threads: int, quick: bool) -> None:
        from .workloads import problem

        made = runner(side)
        numbers = problem(name, quick)
        self.before = status("VmRSS")
        self.runner = made(name, numbers, form, device, threads)
        self.count = 0

    def steps(self, count: int) -> Any:
        """That many steps; the last loss."""
        loss = None
        for _ in range(count):
            loss = self.runner.step(self.runner.batches[self.count % len(self.runner.batches)])
            self.count += 1
        self.runner.finish()
        return loss

    def first(self) -> dict[str, Any]:
        """Losses and seconds of the first steps."""
        losses, seconds = [], []
        for _ in range(FIRST):
            start = time.perf_counter()
            loss = self.steps(1)
            seconds.append(time.perf_counter() - start)
            losses.append(float(loss.detach() if hasattr(loss, "detach") else loss))
        return {"losses": losses, "seconds": seconds, **self.runner.details()}

    def time(self, target: float, settle: float) -> float:
        """Seconds per step."""
        start = time.perf_counter()
        while time.perf_counter() - start < settle:
            self.steps(1)
        start = time.perf_counter()
        self.steps(2)
        count = max(1, int(target / (time.perf_counter() - start) * 2))
        start = time.perf_counter()
        self.steps(count)
        return (time.perf_counter() - start) / count

    def memory(self) -> dict[str, float]:
        """MB beyond the beginning: the peak of some steps, and what stays between steps."""
        gc.collect()
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
        except OSError:
            return {}
        self.steps(len(self.runner.batches) + 1)
        return {"peak": status("VmHWM") - self.before, "kept": status("VmRSS") - self.before}

    def answer(self, command: str, *arguments: str) -> Any:
        """The answer to a line."""
        if command == "first":
            return self.first()
        if command == "time":
            return self.time(*map(float, arguments))
        if command == "record":
            return self.runner.record() if hasattr(self.runner, "record") else None
        return self.memory()


def main(argv: list[str]) -> None:
    """Build the step, say that it stands, answer until ``quit``."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to stderr

    def say(value: Any) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        side, name, form, device, threads, quick = argv
        worker = Worker(side, name, form, device, int(threads), quick == "quick")
        say({"ready": True})
        for line in sys.stdin:
            words = line.split()
            if words == ["quit"]:
                return
            say({"value": worker.answer(*words)})
    except Exception as failure:
        say({"error": f"{type(failure).__name__}: {failure}".splitlines()[0]})
        raise


if __name__ == "__main__":
    main(sys.argv[1:])
