"""The workers of one workload: started, compared by their first losses, timed in turn, asked for their memory, ended."""

from __future__ import annotations

import json
import math
import os
import selectors
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any, NamedTuple

from .programs import FORMS as TWO_FORMS

PACKAGES = {"eager": "tinygrad_ja", "compiled": "tinygrad_ja", "torch": "torch", "torch.compile": "torch", "jax": "jax"}
"""Side -> the package that it needs."""

LEFT_OUT = {("torch.compile", "tree"): "a graph of 64 different trees, traced node by node, compiles for many minutes"}
"""Side and workload -> why that pair is not measured."""

FORMS: dict[str, dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("eager", "compiled", "torch"), TWO_FORMS),
    "torch.compile": {
        **TWO_FORMS,
        "lstm": ("layer",),
        "seq2seq": ("layer",),
    },  # their loops compile for minutes and are no faster
    "jax": dict.fromkeys(TWO_FORMS, ("scan", "unrolled", "hoisted")),
}
"""The ways to write a recurrence on each side; the fastest is taken. The other workloads have the one form ``plain``."""

FORMS_ON_A_GPU = {"torch": ("layer",), "torch.compile": ("layer",), "jax": ("unrolled",)}
"""Of these, what is measured on a GPU: on an H200 the peers' others were 1.6 to 8 times slower, and JAX's compile for a minute each."""

TOLERANCE = 1e-3
"""How far the losses of the first steps may differ, relatively."""

PATIENCE = 420.0
"""Seconds after which a worker that does not answer is given up."""


MEMORY = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""JAX would take three quarters of a GPU at its start; the sides share one."""


class Failed(Exception):
    """A worker that could not build or run its step; the text says why."""


class Options(NamedTuple):
    """How everything is run."""

    device: str = "cpu"
    threads: int = 2
    quick: bool = False
    rounds: int = 9
    target: float = 0.2
    settle: float = 0.1
    at_once: bool = False
    """Start all sides side by side, where many processors are there: the times of first calls then say little."""


class Worker:
    """A process that runs one side of one workload."""

    def __init__(self, side: str, name: str, form: str, options: Options, environment: Mapping[str, str]) -> None:
        self.form = form
        self.folder = tempfile.mkdtemp(prefix="suite-")  # compilers start without what an earlier run has kept
        command = [sys.executable, "-m", "benchmarks.suite.worker", side, name, form, options.device, str(options.threads)]
        count = str(options.threads)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), count)
        self.process = subprocess.Popen(
            [*command, "quick" if options.quick else "full"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**MEMORY, **environment, **threads, "TORCHINDUCTOR_CACHE_DIR": self.folder},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.commands, self.answers = self.process.stdin, self.process.stdout
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.answers, selectors.EVENT_READ)
        self._answer()

    def ask(self, *command: Any) -> Any:
        """Send a command, wait for the answer."""
        self.commands.write(" ".join(map(str, command)) + "\n")
        self.commands.flush()
        return self._answer().get("value")

    def _answer(self) -> Any:
        if not self.selector.select(PATIENCE):
            self.process.kill()
            self.end()
            raise Failed(f"no answer within {PATIENCE:.0f} s")
        line = self.answers.readline()
        answer = json.loads(line) if line else {"error": f"the process ended with status {self.process.wait()}"}
        if "error" in answer:
            self.end()
            raise Failed(answer["error"])
        return answer

    def end(self) -> None:
        """Let the process end."""
        try:
            self.commands.write("quit\n")
            self.commands.close()
        except OSError:
            pass
        self.process.wait()
        self.selector.close()
        self.answers.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def first_call(seconds: Sequence[float]) -> float:
    """Seconds until the first fast step: the steps up to the last one that took more than three times what the fastest took.

    >>> first_call([2.0, 0.5, 0.01, 0.01, 0.02])
    2.5
    """
    slow = [i for i, value in enumerate(seconds) if value > 3 * min(seconds)]
    return sum(seconds[: slow[-1] + 1]) if slow else seconds[0]


def disagreement(losses: Mapping[str, Sequence[float]]) -> str:
    """Which side's first losses differ from those of the first side, and how; empty when all agree."""
    (reference, expected), *others = losses.items()
    wrong = [name for name, values in {reference: expected, **dict(others)}.items() if not all(map(math.isfinite, values))]
    if wrong:
        return f"losses that are not finite: {', '.join(wrong)}"
    for name, values in others:
        worst = max(abs(a - b) / max(abs(a), 1e-6) for a, b in zip(expected, values))
        if worst > TOLERANCE:
            return f"the losses of {name} differ from those of {reference} by {worst:.1e}"
    return ""


def forms_of(side: str, name: str, device: str) -> tuple[str, ...]:
    """The ways in which a side runs a workload on a device; the fastest is taken.

    >>> forms_of("jax", "rnn", "cpu"), forms_of("jax", "rnn", "cuda"), forms_of("jax", "mlp", "cuda")
    (('scan', 'unrolled', 'hoisted'), ('unrolled',), ('plain',))
    """
    forms = FORMS[side].get(name, ("plain",))
    return FORMS_ON_A_GPU.get(side, forms) if device != "cpu" and name in TWO_FORMS else forms


def _start(side: str, name: str, options: Options, environment: Mapping[str, str]) -> tuple[Worker, dict[str, Any]]:
    """The worker of a side in its fastest form, and what it said of its first steps."""
    if (side, name) in LEFT_OUT:
        raise Failed(LEFT_OUT[side, name])
    if find_spec(PACKAGES[side]) is None:
        raise Failed(f"{PACKAGES[side]} is not installed")
    forms = forms_of(side, name, options.device)
    best: tuple[float, Worker, dict[str, Any]] | None = None
    failures = []
    for form in forms[:1] if options.quick else forms:
        try:
            worker = Worker(side, name, form, options, environment)
            said = worker.ask("first")
            seconds = worker.ask("time", options.target, options.settle) if len(forms) > 1 else 0.0
        except Failed as failure:
            failures.append(f"{form}: {failure}" if len(forms) > 1 else str(failure))
            continue
        said["forms"] = {**(best[2]["forms"] if best else {}), form: seconds}
        if best is None or seconds < best[0]:
            if best is not None:
                best[1].end()
            best = seconds, worker, said
        else:
            best[2]["forms"] = said["forms"]
            worker.end()
    if best is None:
        raise Failed("; ".join(failures))
    return best[1], best[2]


class Begun(NamedTuple):
    """The workers of a workload, which have run their first steps, and what is known of each side."""

    name: str
    workers: dict[str, Worker]
    found: dict[str, dict[str, Any]]


def begin(name: str, sides: Sequence[str], options: Options, environment: Mapping[str, str] | None = None) -> Begun:
    """Start all sides of a workload, one after the other or (``at_once``) side by side."""
    environment = dict(os.environ if environment is None else environment)
    begun = Begun(name, {}, {})

    def start(side: str) -> None:
        try:
            worker, said = _start(side, name, options, environment)
        except Failed as failure:
            begun.found[side] = {"reason": str(failure)}
            return
        forms = said.pop("forms")
        begun.workers[side] = worker
        begun.found[side] = {"form": worker.form, "forms": forms, "first": first_call(said.pop("seconds")), **said}

    try:
        with ThreadPoolExecutor(len(sides) if options.at_once else 1) as pool:
            for done in [pool.submit(start, side) for side in sides]:
                done.result()
    except BaseException:
        end(begun)
        raise
    return begun


def end(begun: Begun) -> None:
    """Let all workers of a workload end."""
    for worker in begun.workers.values():
        worker.end()


def finish(begun: Begun, sides: Sequence[str], options: Options) -> dict[str, Any]:
    """Time the workers in turn, ask for their memory, and end them."""
    workers = {side: begun.workers[side] for side in sides if side in begun.workers}
    found = {side: begun.found[side] for side in sides}
    try:
        wrong = disagreement({side: found[side]["losses"] for side in workers}) if workers else ""
        samples: dict[str, list[float]] = {side: [] for side in workers}
        for _ in range(options.rounds):
            for side, worker in workers.items():
                samples[side].append(worker.ask("time", options.target, options.settle))
        for side, worker in workers.items():
            found[side].update(seconds=statistics.median(samples[side]), fastest=min(samples[side]), **worker.ask("memory"))
            found[side]["record"] = None if options.at_once else worker.ask("record")
    finally:
        end(begun)
    return {"name": begun.name, "disagreement": wrong, "sides": found}


def measure(name: str, sides: Sequence[str], options: Options, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What all sides need for a workload: for each side seconds a step, first call, peak memory, or the reason for a missing one."""
    return finish(begin(name, sides, options, environment), sides, options)
