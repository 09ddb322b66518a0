"""Runs a program on a GPU: all of it as one CUDA graph.

    executor = CudaExecutor(program)
    results = executor.run(arguments, numbers)

The first run launches the steps one by one, which compiles kernels and lets libraries load what they need; the second one captures them as
a graph, and from then on a call is one small copy to the GPU (numbers, state of the generators, addresses of arguments and results) and one
launch. Nothing waits for the GPU. What no graph can hold runs between graphs, in order; if capturing fails, everything runs step by step.
``notes`` says why. The addresses of the state are part of the graph: when an array of it is replaced, everything is built anew.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..planning import Layout, plan_buffers
from ..program import Array, Instruction, Program, run_instruction
from .kernel import SPARE, Address, Launch
from .lowering import Lowered, Plain, lowered, reaches_of
from .products import Product
from .schedule import Bundle, bundled, staged

WARM_UP = 1
"""How many runs come before the one that captures."""


class CudaExecutor:
    """Runs a program again and again.

    nbytes: of the arena, of scratch memory and of the copies of arguments. peak: the most bytes of the arena that live at one time.
    launches: what a call launches, once it is captured. kernels: their texts. notes: what does not run as a kernel of the graph, and why.
    reason: why this executor runs.

    tf32: let products of float32 use the faster, less precise units. graph: False runs the steps one by one.
    share: let independent kernels share launches. own_products: make small products by kernels of their own, with what follows.
    reuse: use memory again.
    """

    def __init__(
        self,
        program: Program,
        *,
        tf32: bool = False,
        graph: bool = True,
        share: bool = True,
        own_products: bool = True,
        reuse: bool = True,
        machine: Any = None,
    ) -> None:
        if machine is None:
            from .machine import Machine

            machine = Machine()
        self.program, self.machine = program, machine
        self.tf32, self.graph, self.share, self.own_products, self.reuse = tf32, graph, share, own_products, reuse
        self.reason = ""
        self.notes: list[str] = []
        self._build()

    # -- building

    def _build(self) -> None:
        """Lay out memory, make and compile the kernels, bind them to addresses."""
        program, machine = self.program, self.machine
        self._state = list(program.state.values())
        self._state_ids = list(map(id, self._state))
        self._made = [(a.shape, a.dtype) for a in program.results]
        self.layout: Layout = _laid_out(program, self.reuse)
        self._lowered: Lowered = lowered(program, self.layout, machine.address, self.own_products)
        self.notes = list(self._lowered.notes)
        self.table = self._lowered.table
        self._place()
        self._views: dict[Array, Any] = {}
        self.steps = self._bound()
        self._segments = self._cut()
        self._captured: list[Callable[[], None]] | None = None
        self._runs = 0
        self._base: dict[Any, int] = {}  # draws of each generator before the step
        self._stream = machine.current_stream()

    def _place(self) -> None:
        """Give every buffer an address."""
        program, machine = self.program, self.machine
        self._keep: list[Any] = []
        self._owner: dict[Any, tuple[Any, int, int]] = {}

        def room(key: Any, nbytes: int) -> int:
            owner, address = machine.allocate(nbytes)
            self._keep.append(owner)
            self._owner[key] = (owner, address, max(nbytes, 512))
            return int(address)

        room("arena", self.layout.nbytes)
        room("scratch", self._lowered.memory.scratch_nbytes)
        self._send = machine.sender(room("numbers", self.table.row.size), self.table.row)
        for a in program.arguments:
            room(a, a.nbytes)
        for a, value in program.constants.items():
            machine.put(room(a, a.nbytes), np.asarray(value, a.dtype).reshape(a.shape))
        for a, real in program.state.items():
            self._owner[a] = (real, machine.address(real), _extent(a, self.layout.places[a].strides))
        self.nbytes = self.layout.nbytes + self._lowered.memory.scratch_nbytes + sum([a.nbytes for a in program.arguments])
        self.peak = self.layout.peak

    def _resolved(self, address: Address) -> int:
        return self._owner[address.buffer][1] + address.offset

    def _array(self, a: Array) -> Any:
        """The array at its place."""
        if a not in self._views:
            memory = self._lowered.memory
            where, place = memory.address(a), memory.places[a]
            owner, _, nbytes = self._owner[where.buffer]
            self._views[a] = self.machine.view(owner, self._resolved(where), nbytes, a.shape, a.dtype, place.strides)
        return self._views[a]

    def _bound(self) -> list[tuple[list[Instruction], Callable[[], None], str]]:
        """Every step as a call without arguments, with the instructions that it runs, and why no graph can hold it."""
        memory = self._lowered.memory
        stages = staged(self._lowered.steps, lambda step: reaches_of(memory, step), self.share)
        ready = [
            bundled([s for s in stage if isinstance(s, Launch)]) if isinstance(stage[0], Launch) else stage[0]
            for stage in stages
        ]
        self.kernels = list(dict.fromkeys([step.text for step in ready if isinstance(step, Bundle)]))
        functions = dict(zip(self.kernels, self.machine.compile(self.kernels)))
        made: list[tuple[list[Instruction], Callable[[], None], str]] = []
        for stage, step in zip(stages, ready):
            instructions = [i for s in stage if (i := self._lowered.makers.get(id(s))) is not None]
            if isinstance(step, Bundle):
                made.append((instructions, self._launch(functions[step.text], step), ""))
            elif isinstance(step, Product):
                made.append((instructions, self._product(step), ""))
            else:
                made.append((instructions, self._plain(step), step.unsafe))
        self._has_products = any([isinstance(step, Product) for step in ready])
        return made

    def _launch(self, function: Callable[..., None], step: Bundle) -> Callable[[], None]:
        arguments = self.machine.pointers([self._resolved(a) for a in step.addresses])
        grid, block = (step.blocks,), (step.threads,)
        return lambda: function(grid, block, arguments)

    def _product(self, step: Product) -> Callable[[], None]:
        addresses = [self._resolved(a) for a in step.addresses]
        machine, tf32 = self.machine, self.tf32
        if step.matrices:
            table = np.array(step.matrices, np.uint64).T + np.array(addresses, np.uint64)[:, None]
            owner, begin = machine.allocate(table.nbytes)
            machine.put(begin, table)
            self._keep.append(owner)
            addresses = [begin + k * table[0].nbytes for k in range(3)]
        return lambda: machine.product(step, addresses, tf32)

    def _plain(self, step: Plain) -> Callable[[], None]:
        instruction, xp = step.instruction, self.machine.xp
        values = [self._array(a) for a in instruction.inputs]
        targets = [self._array(a) for a in instruction.outputs]

        def run() -> None:
            for target, value in zip(targets, run_instruction(instruction, values, xp)):
                target[...] = value

        def draw() -> None:
            generator = instruction.options["generator"]
            stream, base = generator._stream, self._base.get(generator)
            if base is None:
                targets[0][...] = xp.asarray(run_instruction(instruction, values, xp)[0])
                return
            after, stream.draws = stream.draws, base + step.draw
            run()
            stream.draws = after

        return draw if instruction.kind == "random" else run

    def _cut(self) -> list[tuple[str, list[Callable[[], None]]]]:
        """Runs of steps that one graph can hold ("") and those that none can (why)."""
        segments: list[tuple[str, list[Callable[[], None]]]] = []
        for _, call, unsafe in self.steps:
            if segments and not segments[-1][0] and not unsafe:
                segments[-1][1].append(call)
            else:
                segments.append((unsafe, [call]))
        return segments

    @property
    def launches(self) -> int:
        """Graphs and calls between them that a step launches; all kernels and products if nothing is captured."""
        if not self.graph:
            return len(self.steps)
        return len(self._segments)

    # -- running

    def run(self, arguments: Sequence[Any] = (), numbers: Sequence[float] = ()) -> list[Any]:
        """One step: the results, as new arrays; the state changes in place."""
        if list(map(id, self.program.state.values())) != self._state_ids:
            self._build()
        machine = self.machine
        stream = machine.current_stream()
        if stream != self._stream:
            machine.synchronize()  # the arena must not be in use by a run on another stream
            self._stream = stream
        contiguous, empty, address = machine.contiguous, machine.empty, machine.address
        given = [contiguous(x) for x in arguments]
        results = [empty(shape, dtype) for shape, dtype in self._made]
        entries = [*self._draws(), *[address(x) for x in given], *[address(x) for x in results]]
        try:
            self._send(*numbers, *entries)
        except (OverflowError, struct.error):  # 1e39 as float32 is infinite
            self._send(*[a.dtype.type(x).item() for a, x in zip(self.program.numbers, numbers)], *entries)
        if self.graph and self._captured is None and self._runs >= WARM_UP:
            self._capture()
        if self._captured is not None:
            for call in self._captured:
                call()
        else:
            with machine.own_stream():
                self._replay()
        self._runs += 1
        return results

    def _draws(self) -> list[int]:
        """Seeds and counts of the generators, which are then further by what a step draws."""
        entries = []
        for generator, draws in self.table.draws.items():
            stream = generator._stream
            self._base[generator] = stream.draws
            entries += [stream.seed, stream.draws]
            stream.draws += draws
        return entries

    def _replay(self) -> None:
        """Run the steps one by one, on the current stream."""
        if self._has_products:
            self.machine.use_stream()
        for _, call, _ in self.steps:
            call()

    def _capture(self) -> None:
        """Turn the steps into graphs; on failure run step by step from now on."""
        machine = self.machine
        captured: list[Callable[[], None]] = []
        try:
            for unsafe, calls in self._segments:
                captured.append(self._between(calls) if unsafe else self._graph_of(calls))
        except Exception as failure:
            self.graph = False
            self.notes.append(f"no graph: {type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''}")
            return
        self._captured = captured
        machine.synchronize()

    def _graph_of(self, calls: Sequence[Callable[[], None]]) -> Callable[[], None]:
        def run() -> None:
            if self._has_products:
                self.machine.use_stream()
            for call in calls:
                call()

        with self.machine.own_stream():
            return self.machine.capture(run)

    def _between(self, calls: Sequence[Callable[[], None]]) -> Callable[[], None]:
        def run() -> None:
            with self.machine.own_stream():
                for call in calls:
                    call()

        return run


def _laid_out(program: Program, reuse: bool) -> Layout:
    """A layout that uses no memory twice if it must not, or if that is little: then independent steps do not have to wait for one another."""
    loose = plan_buffers(program, reuse=False)
    return loose if not reuse or loose.nbytes <= SPARE else plan_buffers(program)


def _extent(array: Array, strides: Sequence[int]) -> int:
    return sum([(n - 1) * abs(step) for n, step in zip(array.shape, strides)]) + array.dtype.itemsize if array.size else 1
