"""Groups, block by block: all instructions of a group run on some rows before any runs on the next ones, so that what they hand to each other
stays in the processor's cache; several threads take blocks side by side where the work is worth it.

A block is so many rows that an array of it has ``BLOCK`` elements. What is used inside of the group only lies in scratch memory of the size of
a block. Sums over rows are taken block by block and then over the blocks, in an order that depends on the shapes alone, never on the number of
threads. A small group is one block: its calls are those that its instructions would be one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from ..backend.threads import WORTH, get_num_threads, in_parts
from .numpy_calls import REDUCTIONS, Binding, Call, Room, bind, bind_reduction
from .program import Array, Instruction
from .strides import reshaped

BLOCK = 32_768
"""Elements of an array in a block: eight arrays of single precision lie in a cache of 1 MB."""
HEAVY = 200_000
"""Nanoseconds of work from which on a second thread pays: handing over costs some 30 µs, and both wait for the interpreter now and then."""
SMALL_PRODUCT = 1 << 19
"""Multiplications of a product that OpenBLAS leaves to one thread."""

_COST = {
    "add": 0.15,
    "subtract": 0.15,
    "multiply": 0.15,
    "negative": 0.1,
    "copy": 0.1,
    "greater": 0.1,
    "less": 0.1,
    "square": 0.1,
}
_DEFAULT_COST = 0.4
"""Nanoseconds for an element of single precision, roughly."""


def cost(instructions: Sequence[Instruction]) -> float:
    """Nanoseconds that element-wise instructions and reductions take, roughly."""
    total = 0.0
    for instruction in instructions:
        largest = max([a.size for a in (*instruction.inputs, *instruction.outputs)])
        total += largest * _COST.get(instruction.function, _DEFAULT_COST)
    return total


def bind_in_threads(
    instruction: Instruction, xs: Sequence[np.ndarray], y: np.ndarray, rooms: list[Room], notes: list[str], threads: int | None
) -> list[Call] | None:
    """A large element-wise instruction, or many small products, in as many parts as there are threads; None where that does not pay."""
    count = threads or get_num_threads()
    if count < 2 or not y.ndim:
        return None
    if instruction.kind == "matmul":
        return _products_in_threads(instruction, xs, y, notes, count)
    if instruction.kind != "map" or cost([instruction]) < HEAVY:
        return None
    arrays = {**dict(zip(instruction.inputs, xs)), instruction.output: y}
    return _Blocks([instruction], y.shape, 0, arrays, -(-y.size // count)).calls(rooms, notes, count)


def _products_in_threads(
    instruction: Instruction, xs: Sequence[np.ndarray], y: np.ndarray, notes: list[str], count: int
) -> list[Call] | None:
    """Stacks of matrices that are too small for threads of BLAS."""
    a, b = xs
    work = a.shape[-1] * a.shape[-2] * b.shape[-1]
    stacked = y.ndim > 2 and a.shape[:-2] == b.shape[:-2] and len(y) >= count and y.dtype.char in "fd"
    if not stacked or work > SMALL_PRODUCT or work * math.prod(y.shape[:-2]) / 10 < HEAVY:
        return None
    edges = [len(y) * t // count for t in range(count + 1)]
    bound = [
        bind(instruction, (a[low:high], b[low:high]), y[low:high], Binding(Room(), notes)) for low, high in pairwise(edges)
    ]
    return [partial(_run_parts, bound)]


def bind_group(
    group: Instruction, arrays: dict[Array, np.ndarray], rooms: list[Room], notes: list[str], threads: int | None
) -> list[Call]:
    """The calls of a group. arrays: its inputs and outputs."""
    options = group.options
    size = math.prod(options["space"])
    blocks = _Blocks(options["body"], tuple(options["space"]), options["inner"], arrays, BLOCK if size > 2 * BLOCK else size)
    return blocks.calls(rooms, notes, threads or get_num_threads())


class _Blocks:
    """A group in coordinates that suit blocks: all arrays have as many axes as its space, reductions keep theirs, and the leading axes have
    become one, the rows, as far as all arrays allow.

    shapes: of every array. axes: of reductions, by output. given: inputs and outputs of the group. edges: first and last row of each block.
    """

    def __init__(
        self, body: Sequence[Instruction], space: tuple[int, ...], inner: int, arrays: dict[Array, np.ndarray], block: int
    ) -> None:
        self.body = list(body)
        self.space = space or (1,)
        local = [a for instruction in self.body for a in instruction.outputs]
        self.shapes = {a: (1,) * (len(self.space) - a.ndim) + a.shape for a in (*arrays, *local)}
        self.axes: dict[Array, tuple[int, ...]] = {}
        for instruction in self.body:
            if instruction.kind == "reduce":
                self._keep_axes(instruction)
        self.given = {a: array.reshape(self.shapes[a]) for a, array in arrays.items()}
        self._join_rows(len(space) - inner)
        rows, width = self.space[0], math.prod(self.space[1:])
        divisible = len(space) > inner and all(
            [i.function in REDUCTIONS for i in self.body if i.kind == "reduce" and 0 in self.axes[i.output]]
        )
        self.step = max(1, min(rows, block // max(width, 1)) if divisible else rows)
        self.edges = [(low, min(low + self.step, rows)) for low in range(0, max(rows, 1), self.step)]

    def _keep_axes(self, reduction: Instruction) -> None:
        (x,), y = reduction.inputs, reduction.output
        first = len(self.space) - x.ndim
        axes = tuple(sorted([first + axis % x.ndim for axis in reduction.options["axes"]])) if x.ndim else ()
        self.axes[y] = axes
        self.shapes[y] = tuple([1 if axis in axes else n for axis, n in enumerate(self.shapes[x])])

    def _join_rows(self, limit: int) -> None:
        """Make the first axes one: as many of the ``limit`` first as lie in order in every array that has them."""
        count = limit
        while count > 1 and not self._can_join(count):
            count -= 1
        if count < 2:
            return
        self.space = (math.prod(self.space[:count]), *self.space[count:])
        self.shapes = {a: (math.prod(shape[:count]), *shape[count:]) for a, shape in self.shapes.items()}
        self.given = {a: array.reshape(self.shapes[a]) for a, array in self.given.items()}
        self.axes = {a: tuple(sorted({max(axis - count + 1, 0) for axis in axes})) for a, axes in self.axes.items()}

    def _can_join(self, count: int) -> bool:
        full = self.space[:count]
        if any([shape[:count] not in (full, (1,) * count) for shape in self.shapes.values()]):
            return False
        if any([len([axis for axis in axes if axis < count]) not in (0, count) for axes in self.axes.values()]):
            return False
        return all(
            [
                reshaped(x.shape, x.strides, (math.prod(x.shape[:count]), *x.shape[count:]), x.itemsize) is not None
                for x in self.given.values()
            ]
        )

    # -- binding

    def calls(self, rooms: list[Room], notes: list[str], threads: int) -> list[Call]:
        """All calls: what every block needs, the blocks, and what is made of their parts."""
        shared, parts, before, after = self._bind_shared(Binding(rooms[0], notes, True))
        slots, sizes = self._slots(shared)
        count = min(threads, len(self.edges)) if cost(self.body) >= HEAVY else 1
        lists: list[list[Call]] = []
        for t in range(count):
            if t > 0:
                rooms += [Room() for _ in range(t + 1 - len(rooms))]
                rooms[t].reset()
            binding = Binding(rooms[t], notes, True)
            memory = [rooms[t].array((nbytes,), np.uint8) for nbytes in sizes]
            calls: list[Call] = []
            for number in range(len(self.edges) * t // count, len(self.edges) * (t + 1) // count):
                calls += self._bind_block(number, shared, parts, slots, memory, binding)
            lists.append(calls)
        return [*before, *(lists[0] if count == 1 else [partial(_run_parts, lists)]), *after]

    def _bind_shared(self, binding: Binding) -> tuple[dict[Array, np.ndarray], dict[Array, np.ndarray], list[Call], list[Call]]:
        """Of a group with several blocks: arrays that are the same for all of them, arrays with a row from each block for sums over rows,
        the calls that compute the former, and those that sum the latter."""
        shared: dict[Array, np.ndarray] = {}
        parts: dict[Array, np.ndarray] = {}
        before: list[Call] = []
        after: list[Call] = []
        if len(self.edges) == 1:
            return shared, parts, before, after
        shared.update({a: x for a, x in self.given.items() if self.shapes[a][0] == 1})
        for instruction in self.body:
            y = instruction.output
            if instruction.kind == "reduce" and self.shapes[instruction.inputs[0]][0] != 1 and 0 in self.axes[y]:
                parts[y] = binding.room.array((len(self.edges), *self.shapes[y][1:]), y.dtype)
                whole = self.given[y].reshape(self.shapes[y][1:])
                after.append(partial(REDUCTIONS[instruction.function].reduce, parts[y], 0, None, whole))
            elif self.shapes[y][0] == 1:
                if y not in shared:
                    shared[y] = binding.room.array(self.shapes[y], y.dtype)
                before += self._bind(instruction, [shared[a] for a in instruction.inputs], shared[y], binding)
        return shared, parts, before, after

    def _slots(self, shared: dict[Array, np.ndarray]) -> tuple[dict[Array, int], list[int]]:
        """The number of a piece of scratch memory for each array that is used inside only, and their sizes. A piece goes on to the next
        array of its size when its array has been read for the last time."""
        last = {a: k for k, instruction in enumerate(self.body) for a in (*instruction.inputs, *instruction.outputs)}
        slots: dict[Array, int] = {}
        sizes: list[int] = []
        free: list[int] = []
        for k, instruction in enumerate(self.body):
            y = instruction.output
            dying = [a for a in dict.fromkeys(instruction.inputs) if a in slots and last[a] == k]
            if y not in self.given and y not in shared:
                same = [a for a in dying if self.shapes[a] == self.shapes[y] and a.dtype == y.dtype]
                size = math.prod(self._shape(y, self.step)) * y.dtype.itemsize
                fitting = [slot for slot in free if sizes[slot] == size]
                if instruction.kind == "map" and same:
                    slots[y] = slots[same[0]]
                    dying.remove(same[0])
                elif fitting:
                    slots[y] = fitting[-1]
                    free.remove(fitting[-1])
                else:
                    slots[y] = len(sizes)
                    sizes.append(size)
                if last[y] == k:
                    dying.append(y)
            free += [slots[a] for a in dying]
        return slots, sizes

    def _shape(self, a: Array, rows: int) -> tuple[int, ...]:
        """Of an array in a block of so many rows."""
        shape = self.shapes[a]
        return (min(shape[0], rows), *shape[1:])

    def _bind_block(
        self,
        number: int,
        shared: dict[Array, np.ndarray],
        parts: dict[Array, np.ndarray],
        slots: dict[Array, int],
        memory: list[np.ndarray],
        binding: Binding,
    ) -> list[Call]:
        low, high = self.edges[number]
        here = dict(shared)
        for a, x in self.given.items():
            here.setdefault(a, x[low:high] if len(self.edges) > 1 else x)
        for a, slot in slots.items():
            here[a] = np.ndarray(self._shape(a, high - low), a.dtype, memory[slot])
        calls: list[Call] = []
        for instruction in self.body:
            y = instruction.output
            if y in parts:
                calls += self._bind(instruction, [here[instruction.inputs[0]]], parts[y][number : number + 1], binding)
            elif y not in shared:
                calls += self._bind(instruction, [here[a] for a in instruction.inputs], here[y], binding)
        return calls

    def _bind(self, instruction: Instruction, xs: list[np.ndarray], y: np.ndarray, binding: Binding) -> list[Call]:
        mark = binding.room.mark()
        if instruction.kind == "reduce":
            calls = bind_reduction(instruction.function, self.axes[instruction.output], xs[0], y, binding)
        else:
            calls = bind(instruction, xs, y, binding)
        binding.room.release(mark)
        return calls


def _run_parts(parts: list[list[Call]]) -> None:
    """Each list of calls in a thread of its own."""

    def work(some: slice) -> None:
        for calls in parts[some]:
            for call in calls:
                call()

    in_parts(work, len(parts), 2 * WORTH * len(parts))
