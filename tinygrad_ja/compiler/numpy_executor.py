"""Programs on the CPU as a flat list of NumPy's calls, each bound to arrays of one arena: nothing is looked up, made or let go in a step.

    executor = NumpyExecutor(program)
    results = executor.run(arguments, numbers)

``planning.py`` says where the arrays lie, ``numpy_calls.py`` binds one instruction, ``numpy_blocks.py`` a group of them. Arguments are copied
into arrays of the executor. After an exception in a step (an index out of range) the state may be half new, as it would be eagerly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..backend.arrays import as_array
from .numpy_blocks import bind_group, bind_in_threads
from .numpy_calls import Binding, Call, Room, bind, copy, overlap
from .numpy_random import bind_random
from .planning import Layout, Place, Pool, plan_buffers
from .program import Array, Instruction, Program, run_instruction

Watch = Callable[[Instruction, Sequence[Call]], None]


class BoundExecutor:
    """What executors share whose programs have become calls that are bound to their arrays. ``segments``: the calls of a step, in order;
    ``steps``: the instructions, each with its calls."""

    segments: list[Call]
    steps: list[tuple[Instruction, list[Call]]]
    _arguments: list[Callable[[Any], Any]]
    _numbers: list[Callable[[Any], Any]]
    _results: list[Callable[[], np.ndarray]]
    _writes: list[Call]

    @property
    def calls(self) -> int:
        """Calls of a step."""
        return len(self.segments) + len(self._writes)

    def run(self, arguments: Sequence[Any] = (), numbers: Sequence[float] = (), watch: Watch | None = None) -> list[np.ndarray]:
        """One step: the results, as new arrays; the state changes in place. watch: runs the calls of each instruction, for profiles."""
        for put, given in zip(self._arguments, arguments):
            put(given)
        for put, given in zip(self._numbers, numbers):
            put(given)
        if watch is None:
            for segment in self.segments:
                segment()
        else:
            for instruction, calls in self.steps:
                watch(instruction, calls)
        results = [read() for read in self._results]
        for call in self._writes:
            call()
        return results


class NumpyExecutor(BoundExecutor):
    """Runs a program again and again.

    steps: the instructions, each with its calls. nbytes: of the arena and of scratch memory. peak: the most bytes of the arena that are
    needed at one time. notes: what could not be done without allocating. reason: why this executor runs and not another one (set by whoever
    chooses).
    """

    def __init__(self, program: Program, *, reuse: bool = True, threads: int | None = None, pool: Pool | None = None) -> None:
        self.program = program
        self.layout = plan_buffers(program, reuse=reuse)
        self.notes: list[str] = []
        self.reason = ""
        build = _Build(program, self.layout, self.notes, threads, pool=pool)
        self._arguments = [partial(array.__setitem__, ...) for array in map(build.array, program.arguments)]
        self._numbers = [partial(array.__setitem__, ()) for array in map(build.array, program.numbers)]
        self.steps: list[tuple[Instruction, list[Call]]] = []
        for instruction in program.instructions:
            known = len(build.calls)
            build.add(instruction)
            self.steps.append((instruction, build.calls[known:]))
        self.segments = build.calls
        self._results = [build.reader(a) for a in program.results]
        self._writes = build.writes()
        self.nbytes = self.layout.nbytes + sum([room.nbytes for room in build.rooms])
        self.peak = self.layout.peak


class _Build:
    """Makes the arrays and the calls of an executor."""

    def __init__(
        self,
        program: Program,
        layout: Layout,
        notes: list[str],
        threads: int | None,
        placed: Callable[[Instruction], bool] = lambda instruction: False,
        pool: Pool | None = None,
    ) -> None:
        """placed: which calls do not run as operators, so that their arrays have their places."""
        self.placed = placed
        self.program, self.layout, self.notes, self.threads = program, layout, notes, threads
        self.calls: list[Call] = []
        self.rooms = [Room()]
        self.binding = Binding(self.rooms[0], notes)
        self.copied = {id(instruction) for instruction in layout.copies}
        self.arena = (pool or Pool()).take("arena", layout.nbytes + 64)
        self._arrays: dict[Array, np.ndarray] = {}
        self._buffers: dict[Array, Any] = {}
        begin = -self.arena.ctypes.data % 64
        for root, offset in layout.arena.items():
            self._buffers[root] = self.arena[begin + offset :]
        for a, real in program.state.items():
            self._buffers[a] = real
        for a, value in program.constants.items():
            made = np.array(value, a.dtype, order="C").reshape(a.shape)
            made.setflags(write=False)
            self._buffers[a] = made
        for a in (*program.arguments, *program.numbers):
            self._buffers[a] = np.empty(a.shape, a.dtype)
        self._find_loose()

    # -- arrays

    def array(self, a: Array) -> np.ndarray:
        """The array at its place."""
        if a not in self._arrays:
            self._arrays[a] = self.at(a, self.layout.places[a])
        return self._arrays[a]

    def at(self, a: Array, place: Place) -> np.ndarray:
        """An array like ``a`` at a place."""
        return _at(self._buffers[place.root], place.offset, a.shape, a.dtype, place.strides)

    # -- instructions

    def add(self, instruction: Instruction) -> None:
        """Bind an instruction."""
        self.rooms[0].reset()
        kind = instruction.kind
        if kind == "call" or any([a in self.loose for a in (*instruction.inputs, *instruction.outputs)]):
            self._add_call(instruction)
        elif kind == "view":
            if id(instruction) in self.copied:
                self._add_bound(instruction)
        elif kind == "join":
            for part, place in self.layout.unjoined(instruction):
                self.calls.append(copy(self.array(part), self.at(part, place)))
        elif kind == "group":
            arrays = {a: self.array(a) for a in (*instruction.inputs, *instruction.outputs)}
            self.calls += bind_group(instruction, arrays, self.rooms, self.notes, self.threads)
        else:
            self._add_bound(instruction)

    def _add_bound(self, instruction: Instruction) -> None:
        if instruction.kind == "random":
            self.calls += bind_random(instruction, self.array(instruction.output), self.binding)
            return
        xs, y = [self.array(a) for a in instruction.inputs], self.array(instruction.output)
        divided = bind_in_threads(instruction, xs, y, self.rooms, self.notes, self.threads)
        self.calls += bind(instruction, xs, y, self.binding) if divided is None else divided

    # -- calls

    def _find_loose(self) -> None:
        """Arrays that operators make and only operators read are handed over as they are, without a copy to their place."""
        users = self.program.users()
        may: set[Array] = set()
        calls = {id(i) for i in self.program.instructions if i.kind == "call" and not self.placed(i)}
        for instruction in self.program.instructions:
            for a in instruction.outputs:
                own = self.layout.places[a].root
                if (id(instruction) in calls and own is a and a in self.layout.arena) or (
                    instruction.kind == "view" and instruction.inputs[0] in may
                ):
                    may.add(a)
        self.loose: set[Array] = set()
        for instruction in reversed(self.program.instructions):
            for a in instruction.outputs:
                readers = users.get(a, [])
                if a in may and all([id(user) in calls or user.outputs[0] in self.loose for user in readers]):
                    self.loose.add(a)
        self.values: dict[Array, Any] = {}
        self.last_user = {a: users[a][-1] for a in self.loose if a in users}
        wanted = set(self.program.wanted)
        self.kept = {a for a in self.loose if a in wanted}

    def _add_call(self, instruction: Instruction) -> None:
        if instruction.kind == "call":
            self.binding.note(f"{instruction.function}: runs as the eager operator, which allocates")
        values, loose = self.values, self.loose
        fixed = {a: self.array(a) for a in instruction.inputs if a not in loose}
        inputs: list[tuple[Array, Any]] = [(a, fixed.get(a)) for a in instruction.inputs]  # None: among the values
        outputs: list[tuple[int, Callable[[Any], None]]] = []
        for k, a in enumerate(instruction.outputs):
            if a in loose:
                outputs.append((k, partial(_keep, values, a, instruction.kind == "view")))
            else:
                outputs.append((k, partial(self.array(a).__setitem__, ...)))
        dead = [a for a in dict.fromkeys(instruction.inputs) if self.last_user.get(a) is instruction and a not in self.kept]
        run = partial(run_instruction, instruction) if instruction.kind == "view" else instruction.options["run"]
        listed = instruction.kind == "view"

        def call() -> None:
            given = [values[a] if x is None else x for a, x in inputs]
            made = run(given) if listed else run(*given)
            for k, put in outputs:
                put(made[k])
            for a in dead:
                del values[a]

        self.calls.append(call)

    # -- the end

    def reader(self, a: Array) -> Callable[[], np.ndarray]:
        """How a result is read."""
        if a not in self.loose:
            return self.array(a).copy
        values = self.values
        return lambda: np.array(values[a])

    def writes(self) -> list[Call]:
        """The copies of new values into the state."""
        done = set(self.layout.done_writes)
        left = [entry for entry in self.program.writes if entry not in done]
        targets = [self.array(old) for old, _ in left]
        early: list[Call] = []
        late: list[Call] = []
        for (_, new), target in zip(left, targets):
            if new in self.loose:
                late.append(partial(_write_value, target, self.values, new))
                continue
            source = self.array(new)
            if self.layout.places[new].root in self.program.state and any([overlap(source, other) for other in targets]):
                source, given = np.empty(new.shape, new.dtype), source
                early.append(copy(given, source))
            late.append(copy(source, target))
        return early + late


def _write_value(target: np.ndarray, values: dict[Array, Any], a: Array) -> None:
    target[...] = values[a]


def _keep(values: dict[Array, Any], a: Array, is_view: bool, made: Any) -> None:
    """Keep what an operator returned; a copy where it lies in memory that is not its own, which may change before it is read."""
    made = as_array(made)
    owner = made
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    values[a] = made if owner.flags.owndata or is_view else made.copy()


class _Memory:
    """Memory somewhere, in the form from which NumPy makes arrays."""

    def __init__(
        self, owner: Any, address: int, shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...], read: bool
    ) -> None:
        self.owner = owner
        self.__array_interface__ = {
            "version": 3,
            "data": (address, read),
            "shape": shape,
            "typestr": dtype.str,
            "strides": strides,
        }


def _at(buffer: np.ndarray, offset: int, shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...]) -> np.ndarray:
    """The array that lies so many bytes behind the first element of ``buffer``."""
    address = buffer.__array_interface__["data"][0] + offset
    return np.asarray(_Memory(buffer, address, shape, dtype, strides, not buffer.flags.writeable))
