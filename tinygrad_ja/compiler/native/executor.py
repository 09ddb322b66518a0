"""Programs on the CPU as one table of compiled functions, run by one call.

    executor = NativeExecutor(program)
    results = executor.run(arguments, numbers)

Memory is laid out and arguments are copied as in ``numpy_executor.py``. Instructions for which there is no machine code, such as operators
that run as they are, are NumPy's calls between the parts of the table; ``notes`` says which and why.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...errors import error
from ..numpy_calls import Call
from ..numpy_executor import BoundExecutor, _Build
from ..planning import Pool, contiguous, plan_buffers, same_strides
from ..program import Array, Instruction, Program
from . import operators
from .launches import Launch, Unsupported, tabulated
from .loops import loops
from .moves import Problem, indexed
from .products import Panels, products
from .spaces import Operand
from .target import compile_seconds
from .team import team

Watch = Callable[[Instruction, Sequence[Call]], None]


class NativeExecutor(BoundExecutor):
    """Runs a program again and again.

    steps: the instructions, each with its calls, for profiles. segments: calls of which a step consists. nbytes: of the arena and of scratch
    memory. peak: the most bytes of it that are needed at one time. notes: what runs as NumPy's calls, and why. compile_seconds: what
    compiling took; functions that the process had before cost nothing. reason: why this executor runs and not another one.
    """

    def __init__(self, program: Program, *, reuse: bool = True, pool: Pool | None = None) -> None:
        before = compile_seconds()
        self.program = program
        self.layout = plan_buffers(program, reuse=reuse)
        self.notes: list[str] = []
        self.reason = ""
        self._build = build = _Build(program, self.layout, self.notes, None, operators.supported, pool)
        self._arguments = [partial(array.__setitem__, ...) for array in map(build.array, program.arguments)]
        self._numbers = [partial(array.__setitem__, ()) for array in map(build.array, program.numbers)]
        self._panels: Panels = {}
        self._zeros: list[np.ndarray] = []
        self._problem = np.zeros(2, np.int64)
        self._views = {i.output: i.inputs[0] for i in program.instructions if i.kind == "view"}
        self._factors = Counter(
            [self._identity(x, k) for i in program.instructions if i.kind == "matmul" for k, x in enumerate(i.inputs)]
        )
        self._parts: list[tuple[Instruction, list[Launch] | list[Call]]] = []
        for number, instruction in enumerate(program.instructions):
            self._number = number + 1
            self._parts.append((instruction, self._part(instruction)))
        self._results = [build.reader(a) for a in program.results]
        self._writes = build.writes()
        self._table = _Table([part for _, part in self._parts], self._problem, self._refuse, pool or Pool())
        self.segments = self._table.segments
        self.steps = [(instruction, self._table.calls(k)) for k, (instruction, _) in enumerate(self._parts)]
        self.nbytes = self.layout.nbytes + sum([room.nbytes for room in build.rooms]) + self._table.nbytes
        self.nbytes += sum([panels.nbytes for panels in self._panels.values()])
        self.peak = self.layout.peak
        self.compile_seconds = compile_seconds() - before

    @property
    def launches(self) -> list[Launch] | None:
        """All that a step runs, where that is machine code alone and no write takes the old value of another array that is written."""
        calls = [call for _, part in self._parts for call in part]
        launches = [call for call in calls if isinstance(call, Launch)]
        if len(launches) < len(calls) or self._panels:
            return None
        changed = {old for old, _ in self.program.writes}
        for old, new in self.program.writes:
            if self._base(new) in changed - {old}:  # an old value, which may be gone by now
                return None
            if (old, new) not in self.layout.done_writes:
                launches += self._copy(self._build.array(new), self._build.array(old))
        return launches

    @property
    def memory(self) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """Arrays whose addresses the launches know: one that holds nothing between two runs, those that are only read, and the one in which
        a launch leaves what went wrong."""
        build = self._build
        fixed = [build.array(a) for a in self.program.constants] + self._zeros
        return build.arena, fixed, self._problem

    def _refuse(self) -> None:
        """Raise for an index that does not exist."""
        number, index = self._problem.tolist()
        self._problem[:] = 0
        instruction = self.program.instructions[number - 1]
        wide = instruction.output if instruction.kind == "add_at" else instruction.inputs[0]
        size = wide.shape[instruction.options["axis"]]
        raise error(
            "TG-I002",
            op=instruction.source.operator or instruction.function,
            index=index,
            size=size,
            shape=wide.shape,
            first=-size,
            last=size - 1,
        )

    # ---- binding one instruction -------------------------------------------------------------------

    def _part(self, instruction: Instruction) -> list[Launch] | list[Call]:
        """The launches of an instruction, or NumPy's calls where there are none."""
        build = self._build
        try:
            return self._launches(instruction)
        except Unsupported as reason:
            if str(reason):
                note = f"{instruction.function}: runs as NumPy's calls ({reason})"
                if note not in self.notes:
                    self.notes.append(note)
            known = len(build.calls)
            build.add(instruction)
            return build.calls[known:]

    def _launches(self, instruction: Instruction) -> list[Launch]:
        build, kind = self._build, instruction.kind
        if any([a in build.loose for a in (*instruction.inputs, *instruction.outputs)]):
            raise Unsupported("")
        if kind == "map":
            return loops([instruction], instruction.output.shape, 0, [instruction.output], self._operand)
        if kind == "reduce":
            return loops([instruction], instruction.inputs[0].shape, 0, [instruction.output], self._operand)
        if kind == "group":
            options = instruction.options
            return loops(options["body"], tuple(options["space"]), options["inner"], instruction.outputs, self._operand)
        if kind == "matmul":
            a, b = [build.array(x) for x in instruction.inputs]
            key_a, key_b = [self._key(x, k) for k, x in enumerate(instruction.inputs)]
            return products(a, b, build.array(instruction.output), self._panels, key_a, key_b)
        if kind == "view":
            return self._copied_view(instruction) if id(instruction) in build.copied else []
        if kind == "join":
            return [
                launch
                for part, place in self.layout.unjoined(instruction)
                for launch in self._copy(build.array(part), build.at(part, place))
            ]
        if kind in ("take", "add_at"):
            x, indices = [build.array(a) for a in instruction.inputs]
            return indexed(
                instruction, x, indices, build.array(instruction.output), Problem(self._problem.ctypes.data, self._number)
            )
        if kind == "place":
            return self._placed(instruction)
        if kind == "call":
            inputs, outputs = ([build.array(a) for a in arrays] for arrays in (instruction.inputs, instruction.outputs))
            return operators.launches(instruction, inputs, outputs)
        raise Unsupported("" if kind == "random" else f"no machine code for {kind}")

    def _key(self, x: Array, side: int) -> Any:
        """What a factor of several products is known by; None for that of one."""
        key = self._identity(x, side)
        return key if self._factors[key] > 1 else None

    def _identity(self, x: Array, side: int) -> Any:
        array = self._build.array(x)
        return self._base(x), side, array.__array_interface__["data"][0], array.shape, array.strides

    def _base(self, x: Array) -> Array:
        """The array that a view is a view of."""
        while x in self._views:
            x = self._views[x]
        return x

    def _operand(self, a: Array) -> Operand:
        return _operand(self._build.array(a))

    def _copied_view(self, instruction: Instruction) -> list[Launch]:
        """A reshape of elements that do not lie in order."""
        (x,), y = instruction.inputs, instruction.output
        source, target = self._build.array(x), self._build.array(y)
        if instruction.function != "reshape" or not same_strides(
            y.shape, target.strides, contiguous(y.shape, y.dtype.itemsize)
        ):
            raise Unsupported("a copy into an array that does not lie in order")
        return self._copy(source, target.reshape(x.shape))

    def _placed(self, instruction: Instruction) -> list[Launch]:
        """Zeros with something in them."""
        key = instruction.options["key"]
        if any([isinstance(part, (list, np.ndarray)) for part in (key if isinstance(key, tuple) else (key,))]):
            raise Unsupported("a place that is an array")
        out, x = self._build.array(instruction.output), self._build.array(instruction.inputs[0])
        part = out[(*key, ...) if isinstance(key, tuple) and Ellipsis not in key else key]
        if out.dtype.kind not in "fiub" or x.shape != part.shape:
            raise Unsupported("a place that broadcasts")
        self._zeros.append(np.zeros((), out.dtype))
        return [*self._copy(np.broadcast_to(self._zeros[-1], out.shape), out), *self._copy(x, part)]

    def _copy(self, source: np.ndarray, target: np.ndarray) -> list[Launch]:
        if not source.size:
            return []
        x, y = Array(source.shape, source.dtype), Array(target.shape, target.dtype)
        places = {x: _operand(source), y: _operand(target)}
        return loops([Instruction("map", "copy", [x], [y])], y.shape, 0, [y], places.__getitem__)


def _operand(array: np.ndarray) -> Operand:
    if not array.flags.aligned:
        raise Unsupported("an array that is not aligned")
    return Operand(array.__array_interface__["data"][0], array.strides)


class _Table:
    """The records of a program's launches, their words and their scratch memory, and the calls that run them.

    problem, refuse: a word in which a function leaves what went wrong, and what then raises. segments: one call for each run of launches,
    and NumPy's calls between them.
    """

    def __init__(self, parts: Sequence[list[Any]], problem: np.ndarray, refuse: Callable[[], None], pool: Pool) -> None:
        self._problem, self._refuse = problem, refuse
        launches = [launch for part in parts for launch in part if isinstance(launch, Launch)]
        need = max([launch.scratch for launch in launches], default=0)
        self._scratch = pool.take("scratch", need + 64)
        self._words, self._records, rebased = tabulated(launches)
        self._words[rebased] += self._scratch.ctypes.data + 63 & ~63
        self._records[:, 1] = self._records[:, 1] * 8 + self._words.ctypes.data
        self.nbytes = need + self._words.nbytes + self._records.nbytes
        self._first: list[int] = []
        self._parts = parts
        self.segments: list[Call] = []
        begin = end = 0
        for part in parts:
            self._first.append(end)
            if part and isinstance(part[0], Launch):
                end += len(part)
            elif part:
                self._add(begin, end)
                self.segments += part
                begin = end
        self._add(begin, end)

    def _add(self, begin: int, end: int) -> None:
        if end > begin:
            self.segments.append(self._call(begin, end))

    def _call(self, begin: int, end: int) -> Call:
        """Run some records."""
        records, count = ctypes.c_void_p(self._records.ctypes.data + 24 * begin), ctypes.c_int64(end - begin)
        problem, refuse = ctypes.c_void_p(self._problem.ctypes.data), self._refuse
        shared = bool((self._records[begin:end, 2] > 1).any())

        def call() -> None:
            own = team()
            if own.run(records, count, own.address, own.ready() if shared else 1, problem):
                refuse()

        return call

    def calls(self, part: int) -> list[Call]:
        """The calls of one part alone."""
        found = self._parts[part]
        if found and isinstance(found[0], Launch):
            return [self._call(self._first[part], self._first[part] + len(found))]
        return list(found)
