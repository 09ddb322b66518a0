"""A program and its layout as a list of steps: launches of kernels, products, draws, and instructions that run as eager CuPy.

The first step brings arguments from wherever the caller's arrays lie to fixed places, the last one takes results to arrays that the caller
gets; both find the addresses in a table in device memory, which holds everything that differs from call to call:

    numbers | for each generator its seed and how many draws came before | addresses of arguments | addresses of results
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...backend.philox import PhiloxStream, drawing_lines
from ..planning import Layout, Place
from ..program import Array, Instruction, Program
from .elements import stored_type
from .folds import reduce_kernel
from .groups import group_kernels, one_by_one
from .kernel import Address, Launch, Memory, Reach, Unsupported
from .maps import add_at_kernel, copy_kernel, map_kernel, place_kernel, reshape_copy, scan_kernel, take_kernel
from .products import Product, product_launches
from .safety import capture_safety
from .space import contiguous
from .tiles import fused_products, is_small, tile_kernel
from .windows import call_kernels


class Plain(NamedTuple):
    """An instruction that runs as eager CuPy. reason: why it is no kernel; unsafe: why no graph can hold it, or ""; draw: how many draws of
    its generator come before it in a step."""

    instruction: Instruction
    reason: str
    unsafe: str
    draw: int = 0


Step = Launch | Product | Plain


def _entry(dtype: np.dtype) -> str:
    """How a number stands in 64 bits, in the language of ``struct``."""
    letter = {"l": "q", "L": "Q"}.get(dtype.char, dtype.char)
    return letter + (8 - dtype.itemsize) * "x"


class Table:
    """Where in the table of 64-bit entries everything is. row: how entries in Python become that memory."""

    def __init__(self, program: Program) -> None:
        drawn = dict.fromkeys([i.options["generator"] for i in program.instructions if i.kind == "random"])
        self.generators = [generator for generator in drawn if isinstance(generator._stream, PhiloxStream)]
        self.streams = len(program.numbers)
        self.arguments = self.streams + 2 * len(self.generators)
        self.results = self.arguments + len(program.arguments)
        self.size = self.results + len(program.results)
        self.draws: dict[Any, int] = dict.fromkeys(self.generators, 0)
        self.row = struct.Struct("=" + "".join([_entry(a.dtype) for a in program.numbers]) + (self.size - self.streams) * "Q")

    def next_draw(self, generator: Any) -> int:
        """The number of one more draw of a step."""
        self.draws[generator] += 1
        return self.draws[generator] - 1

    def stream(self, generator: Any) -> Address:
        """Where seed and number of draws of a generator are."""
        return Address("numbers", 8 * (self.streams + 2 * self.generators.index(generator)))


def reaches_of(memory: Memory, step: Step) -> Sequence[Reach]:
    """What a step reads and writes."""
    if isinstance(step, Plain):
        instruction = step.instruction
        reads = [memory.reach(a, False) for a in instruction.inputs]
        return [*reads, *[memory.reach(a, True) for a in instruction.outputs]]
    return step.reaches


class Lowered(NamedTuple):
    """steps, in order. makers: id of a step -> the instruction that it belongs to; none for arguments, results and writes."""

    steps: list[Step]
    makers: dict[int, Instruction]
    table: Table
    memory: Memory
    notes: list[str]


def lowered(program: Program, layout: Layout, pointer_of: Callable[[Any], int], own_products: bool = True) -> Lowered:
    """The steps of a program. pointer_of: the address of a real array. own_products: make small products by
    kernels of their own."""
    memory, table = Memory(program, layout, pointer_of, own_products), Table(program)
    notes: list[str] = []
    makers: dict[int, Instruction] = {}
    steps: list[Step] = [*_arguments(memory, table, program.arguments)]
    copied = {id(i) for i in layout.copies}
    fused = fused_products(program.instructions, program.wanted, memory) if own_products else {}
    inside = {id(product) for product in fused.values()}
    for instruction in program.instructions:
        memory.forget()
        if id(instruction) in inside or (instruction.kind == "view" and id(instruction) not in copied):
            continue
        made = _steps(memory, layout, table, instruction, notes, fused.get(id(instruction)))
        makers.update({id(step): instruction for step in made})
        steps += made
    memory.forget()
    steps += _results(memory, table, program.results)
    memory.forget()
    steps += _writes(memory, program, layout)
    return Lowered(steps, makers, table, memory, list(dict.fromkeys(notes)))


def _steps(
    memory: Memory, layout: Layout, table: Table, instruction: Instruction, notes: list[str], product: Instruction | None
) -> list[Step]:
    if product is not None:
        try:
            body = instruction.options["body"] if instruction.kind == "group" else [instruction]
            return [tile_kernel(memory, product, body, instruction.outputs)]
        except Unsupported:
            return [*_kernels(memory, product), *_steps(memory, layout, table, instruction, notes, None)]
    try:
        if instruction.kind == "call":
            return list(call_kernels(memory, instruction))
        if instruction.kind == "join":
            return _join(memory, layout, instruction)
        if instruction.kind == "random":
            return _draw(memory, table, instruction)
        if instruction.kind == "group":
            return _group(memory, instruction, notes)
        return _kernels(memory, instruction)
    except Unsupported as reason:
        memory.forget()
        unsafe = capture_safety(instruction)
        name = instruction.function or instruction.kind
        notes.append(f"{name}: {reason}" + (f"; outside of the graph: {unsafe}" if unsafe else ""))
        generator = instruction.options.get("generator") if instruction.kind == "random" else None
        draw = table.next_draw(generator) if generator in table.draws else 0
        return [Plain(instruction, str(reason), unsafe, draw)]


def _kernels(memory: Memory, instruction: Instruction) -> list[Step]:
    """The launches of one plain instruction."""
    kind = instruction.kind
    if kind == "matmul" and memory.own_products and is_small(instruction):
        return [tile_kernel(memory, instruction, [], instruction.outputs)]
    if kind == "matmul":
        return list(product_launches(memory, instruction))
    if kind == "map":
        return list(map_kernel(memory, [instruction], instruction.outputs))
    if kind == "view":
        if instruction.function != "reshape":
            raise Unsupported("a view that copies and is no reshape")
        return list(reshape_copy(memory, instruction.inputs[0], instruction.output))
    kernels: dict[str, Callable[[Memory, Instruction], list[Launch]]] = {
        "reduce": reduce_kernel,
        "scan": scan_kernel,
        "place": place_kernel,
        "take": take_kernel,
        "add_at": add_at_kernel,
    }
    return list(kernels[kind](memory, instruction))


def _group(memory: Memory, instruction: Instruction, notes: list[str]) -> list[Step]:
    try:
        return list(group_kernels(memory, instruction))
    except Unsupported as reason:
        memory.forget()
        notes.append(f"a group of {len(instruction.options['body'])} runs one by one: {reason}")

        def single(memory: Memory, inner: Instruction) -> list[Launch]:
            return _kernels(memory, inner)  # type: ignore[return-value]

        return list(one_by_one(memory, instruction, single))


def _join(memory: Memory, layout: Layout, instruction: Instruction) -> list[Step]:
    made: list[Step] = []
    for part, place in layout.unjoined(instruction):
        target = Array(part.shape, instruction.output.dtype)
        memory.places[target] = place
        made += copy_kernel(memory, part, target)
    return made


_METHODS = {"uniform": "random", "normal": "standard_normal", "integers": "integers", "beta": "beta"}


def _draw(memory: Memory, table: Table, instruction: Instruction) -> list[Step]:
    """A draw of a generator of this device: as many as come before it in the step are added to what the table says."""
    generator, y, args = instruction.options["generator"], instruction.output, instruction.options["args"]
    if generator not in table.draws:
        raise Unsupported("random numbers of a generator of another device")
    method = _METHODS.get(instruction.function)
    if method is None:
        raise Unsupported(f"no kernel for the draw {instruction.function}")
    target = y if memory.strides(y, y.shape) == contiguous(y.shape) else memory.new(y.shape, y.dtype)
    try:
        lines, threads = drawing_lines(method, y.size, y.dtype, args[:2] if method in ("integers", "beta") else ())
    except KeyError:
        raise Unsupported(f"no kernel for draws of {y.dtype}") from None
    before = table.next_draw(generator)
    if 0 in y.shape:
        return []
    lines = [f"const u64 seed = p1[0], draw = p1[1] + {before};", *lines]
    parameters = (f"{stored_type(y.dtype)}*", "const unsigned long long*")
    addresses = (memory.address(target), table.stream(generator))
    made: list[Step] = [Launch(parameters, tuple(lines), -(-threads // 256), 256, addresses, (memory.reach(target, True),))]
    return made if target is y else [*made, *copy_kernel(memory, target, y)]


# ---- both ends --------------------------------------------------------------------------------------

_BLOCK_BYTES = 256 * 16 * 4


def _transfer(memory: Memory, entries: Sequence[tuple[int, Array]], inward: bool) -> list[Launch]:
    """Kernels that copy bytes between addresses in the table and arrays in C order. entries: (index in the table, array)."""
    made = []
    for index, a in entries:
        blocks = max(1, min(1024, -(-a.nbytes // _BLOCK_BYTES)))
        there, here = f"(char*)p0[{index}]", "p1"
        source, target = (there, here) if inward else (here, there)
        line = f"copy_bytes({source}, {target}, {a.nbytes}ull, block, {blocks}u);"
        addresses = (Address("numbers", 0), memory.address(a))
        parameters = ("const unsigned long long*", "char*")
        made.append(Launch(parameters, (line,), blocks, 256, addresses, (memory.reach(a, inward),)))
    return made


def _arguments(memory: Memory, table: Table, arguments: Sequence[Array]) -> list[Launch]:
    return _transfer(memory, [(table.arguments + k, a) for k, a in enumerate(arguments) if a.size], True)


def _results(memory: Memory, table: Table, results: Sequence[Array]) -> list[Step]:
    made: list[Step] = []
    entries = []
    for k, a in enumerate(results):
        if not a.size:
            continue
        source = a
        if memory.strides(a, a.shape) != contiguous(a.shape):
            source = memory.new(a.shape, a.dtype)
            made += _copied(memory, a, source)
        entries.append((table.results + k, source))
    return [*made, *_transfer(memory, entries, False)]


def _copied(memory: Memory, source: Array, target: Array) -> list[Step]:
    """A copy; by CuPy where no kernel knows the dtype."""
    try:
        return list(copy_kernel(memory, source, target))
    except Unsupported as reason:
        return [Plain(Instruction("map", "copy", [source], [target]), str(reason), "")]


def _writes(memory: Memory, program: Program, layout: Layout) -> list[Step]:
    """The copies of new values into the state; together, as if all were read before the first is written."""
    done = {old for old, _ in layout.done_writes}
    left = [entry for entry in program.writes if entry[0] not in done and entry[0].size]
    written = {old for old, _ in left}
    early: list[Step] = []
    late: list[Step] = []
    for old, new in left:
        source = new
        root = memory.places[new].root
        if root in program.state and (len(written) > 1 or old in written) and _overlap(memory, program, root, written):
            source = memory.new(new.shape, new.dtype)
            early += _copied(memory, new, source)
        target = Array(old.shape, old.dtype)
        memory.places[target] = memory.places[old]
        late += _copied(memory, source, target)
    return [*early, *late]


def _overlap(memory: Memory, program: Program, root: Array, written: set[Array]) -> bool:
    """Whether an array of the state shares memory with one that is written."""
    low, high = _bounds(memory, root)
    return any([_bounds(memory, a)[0] < high and low < _bounds(memory, a)[1] for a in written])


def _bounds(memory: Memory, state: Array) -> tuple[int, int]:
    begin = memory.pointers[state]
    place: Place = memory.places[state]
    steps = [(n - 1) * step for n, step in zip(state.shape, place.strides)]
    low = begin + sum([step for step in steps if step < 0])
    return low, begin + sum([step for step in steps if step > 0]) + state.dtype.itemsize
