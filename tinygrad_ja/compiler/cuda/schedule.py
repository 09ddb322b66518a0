"""Fewer launches: small kernels that do not depend on one another share one, each with blocks of its own.

Steps are taken in order. A kernel joins the earliest launch that comes after everything it depends on and has room for it; so the updates of
all parameters, or the gradients of all biases, are one launch. Two steps depend on one another when one of them writes what the other one
reads or writes; which bytes that are, each step says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from ...backend import philox
from .elements import prelude
from .kernel import Address, Launch, Reach

MOST_KERNELS = 32
"""How many kernels share a launch."""
MOST_POINTERS = 400
"""How many pointers a launch takes: its arguments have at most 4096 bytes."""
MOST_SHARED = 40 << 10
"""How many bytes of shared memory the different kernels of a launch declare: each keeps its own, and a block has at most 48 KiB."""
NAME = "KERNEL"
"""Stands in a launch's text for its name."""

S = TypeVar("S")


class Bundle(NamedTuple):
    """A launch of several kernels: its text, blocks and threads, and what its pointers are."""

    text: str
    blocks: int
    threads: int
    addresses: tuple[Address, ...]


class _Memory:
    """Which stages read and wrote which bytes so far."""

    def __init__(self) -> None:
        self._known: dict[object, np.ndarray] = {}
        self._count: dict[object, int] = {}

    def latest(self, reaches: Sequence[Reach]) -> int:
        """The last stage that a step with these reaches depends on; -1 for none."""
        found = -1
        for buffer, low, high, writes in reaches:
            rows = self._known.get(buffer)
            if rows is None or low >= high:
                continue
            rows = rows[: self._count[buffer]]
            hit = (rows[:, 0] < high) & (rows[:, 1] > low)
            if not writes:
                hit &= rows[:, 3] != 0
            found = max(found, int(rows[:, 2].max(initial=-1, where=hit)))
        return found

    def note(self, reaches: Sequence[Reach], stage: int) -> None:
        """Remember what a stage reaches."""
        for buffer, low, high, writes in reaches:
            count = self._count.get(buffer, 0)
            rows = self._known.get(buffer)
            if rows is None or count == len(rows):
                grown = np.empty((max(64, 2 * count), 4), np.int64)
                if rows is not None:
                    grown[:count] = rows
                self._known[buffer] = rows = grown
            rows[count] = low, high, stage, writes
            self._count[buffer] = count + 1


def staged(steps: Sequence[S], reaches_of: Callable[[S], Sequence[Reach]], share: bool = True) -> list[list[S]]:
    """The steps in stages, which run one after another. A stage holds launches that may run at the same time, or one other step."""
    memory, stages = _Memory(), list[list[S]]()
    pointers: list[int] = []
    shared: list[dict[tuple[str, ...], int]] = []
    for step in steps:
        reaches = reaches_of(step)
        place = len(stages)
        if isinstance(step, Launch) and share:
            for k in range(memory.latest(reaches) + 1, len(stages)):
                other = stages[k][0]
                fits = len(stages[k]) < MOST_KERNELS and pointers[k] + len(step.parameters) <= MOST_POINTERS
                new = 0 if step.lines in shared[k] else step.shared
                fits = fits and sum(shared[k].values()) + new <= MOST_SHARED
                if isinstance(other, Launch) and other.threads == step.threads and fits:
                    place = k
                    break
        if place == len(stages):
            stages.append([])
            pointers.append(0)
            shared.append({})
        stages[place].append(step)
        if isinstance(step, Launch):
            pointers[place] += len(step.parameters)
            shared[place][step.lines] = step.shared
        memory.note(reaches, place)
    return stages


def bundled(launches: Sequence[Launch]) -> Bundle:
    """Launches as one. Each kernel is a function; kernels with one text are one function."""
    functions: dict[str, str] = {}
    parameters: list[str] = []
    addresses: list[Address] = []
    calls: list[str] = []
    begin = 0
    texts = [_function(launch) for launch in launches]
    for launch, text in zip(launches, texts):
        name = functions.setdefault(text, f"{NAME}_{len(functions)}")
        given = [f"p{len(parameters) + k}" for k in range(len(launch.parameters))]
        parameters += [f"{kind} {pointer}" for kind, pointer in zip(launch.parameters, given)]
        addresses += launch.addresses
        arguments = ", ".join([*given, f"blockIdx.x - {begin}u" if begin else "blockIdx.x", "threadIdx.x"])
        begin += launch.blocks
        calls.append(
            f"  if (blockIdx.x < {begin}u) {{ {name}({arguments}); return; }}"
            if len(launches) > 1
            else f"  {name}({arguments});"
        )
    inline = "__noinline__" if len(functions) < len(launches) else "__forceinline__"
    head = [f"static __device__ {inline} void {name}{text}" for text, name in functions.items()]
    threads = launches[0].threads
    head.append(f'extern "C" __global__ void __launch_bounds__({threads}) {NAME}({", ".join(parameters)}) {{')
    return Bundle("\n".join([*head, *calls, "}"]), begin, threads, tuple(addresses))


def _function(launch: Launch) -> str:
    """Parameters and body of a kernel as a function."""
    parameters = [f"{kind} p{k}" for k, kind in enumerate(launch.parameters)]
    own = ", ".join([*parameters, "const unsigned int block", "const unsigned int thread"])
    return "\n".join([f"({own}) {{", *[f"  {line}" for line in launch.lines], "}"])


def module_source(names: dict[str, str]) -> str:
    """One file with the launches of these texts: text -> name."""
    body = "\n".join([re.sub(rf"\b{NAME}\b|{NAME}(?=_)", name, text) for text, name in names.items()])
    return prelude(body) + (philox.PRELUDE if "philox(" in body or "gamma_number(" in body else "") + body
