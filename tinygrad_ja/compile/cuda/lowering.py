"""A program and its layout as a list of steps: launches of kernels, products, draws, and instructions that run as eager CuPy.

The first step brings arguments from wherever the caller's arrays lie to fixed places, the last one takes results to arrays that the caller
gets; both find the addresses in a table in device memory, which holds everything that differs from call to call:

    numbers | for each generator its seed and how many draws came before | addresses of arguments | addresses of results
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...backend import philox
from ...backend.philox import PhiloxStream, drawing_text
from ..planning import Layout, Place
from ..program import Array, Instruction, Program
from .elements import prelude
from .folds import reduce_kernel
from .groups import group_kernels, one_by_one
from .kernel import NAME, Address, Launch, Memory, Unsupported
from .maps import add_at_kernel, copy_kernel, map_kernel, place_kernel, reshape_copy, scan_kernel, take_kernel
from .products import Product, product_launches
from .safety import capture_safety
from .space import contiguous


class Plain(NamedTuple):
    """An instruction that runs as eager CuPy. reason: why it is no kernel; unsafe: why no graph can hold it, or ""."""

    instruction: Instruction
    reason: str
    unsafe: str


Step = Launch | Product | Plain


class Table:
    """Where in the table of 64-bit entries everything is."""

    def __init__(self, program: Program) -> None:
        self.generators = list(dict.fromkeys([i.options["generator"] for i in program.instructions if i.kind == "random"]))
        self.streams = len(program.numbers)
        self.arguments = self.streams + 2 * len(self.generators)
        self.results = self.arguments + len(program.arguments)
        self.size = max(1, self.results + len(program.results))
        self.draws = dict.fromkeys(self.generators, 0)

    def stream(self, generator: Any) -> Address:
        """Where seed and number of draws of a generator are."""
        return Address("numbers", 8 * (self.streams + 2 * self.generators.index(generator)))


class Lowered(NamedTuple):
    """steps, each with the instruction that it belongs to (None: arguments, results and writes)."""

    steps: list[tuple[Instruction | None, Step]]
    table: Table
    memory: Memory
    notes: list[str]


def lowered(program: Program, layout: Layout, pointer_of: Callable[[Any], int]) -> Lowered:
    """The steps of a program. pointer_of: the address of a real array."""
    memory, table = Memory(program, layout, pointer_of), Table(program)
    notes: list[str] = []
    steps: list[tuple[Instruction | None, Step]] = []
    steps += [(None, launch) for launch in _arguments(memory, table, program.arguments)]
    copied = {id(i) for i in layout.copies}
    for instruction in program.instructions:
        memory.forget()
        if instruction.kind == "view" and id(instruction) not in copied:
            continue
        steps += [(instruction, step) for step in _steps(memory, layout, table, instruction, notes)]
    memory.forget()
    steps += [(None, step) for step in _results(memory, table, program.results)]
    memory.forget()
    steps += [(None, step) for step in _writes(memory, program, layout)]
    return Lowered(steps, table, memory, list(dict.fromkeys(notes)))


def _steps(memory: Memory, layout: Layout, table: Table, instruction: Instruction, notes: list[str]) -> list[Step]:
    try:
        if instruction.kind == "call":
            raise Unsupported("runs as the eager operator")
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
        return [Plain(instruction, str(reason), unsafe)]


def _kernels(memory: Memory, instruction: Instruction) -> list[Step]:
    """The launches of one plain instruction."""
    kind = instruction.kind
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
    if not isinstance(generator._stream, PhiloxStream):
        raise Unsupported("random numbers of a generator of another device")
    method = _METHODS.get(instruction.function)
    if method is None:
        raise Unsupported(f"no kernel for the draw {instruction.function}")
    before, table.draws[generator] = table.draws[generator], table.draws[generator] + 1
    if 0 in y.shape:
        return []
    target = y
    if memory.strides(y, y.shape) != contiguous(y.shape):
        target = memory.new(y.shape, y.dtype)
    try:
        text, threads = drawing_text(method, y.size, y.dtype, args[:2] if method in ("integers", "beta") else ())
    except KeyError:
        table.draws[generator] = before
        raise Unsupported(f"no kernel for draws of {y.dtype}") from None
    addresses = (memory.address(target), table.stream(generator))
    made: list[Step] = [Launch(text, (-(-threads // 256),), (256,), addresses, (0, before))]
    return made if target is y else [*made, *copy_kernel(memory, target, y)]


# ---- both ends --------------------------------------------------------------------------------------

_COPY = """extern "C" __global__ void __launch_bounds__(256) {name}(const unsigned long long* table{parameters}) {{
{lines}
}}"""
_BLOCK_BYTES = 256 * 16 * 4


def _transfer(entries: Sequence[tuple[int, Address, int]], inward: bool, table_address: Address) -> list[Launch]:
    """One kernel that copies bytes between addresses in the table and fixed ones. entries: (index in the table, address, bytes)."""
    lines, parameters, addresses, block = [], "", [table_address], 0
    for k, (index, address, nbytes) in enumerate(entries):
        blocks = max(1, min(1024, -(-nbytes // _BLOCK_BYTES)))
        parameters += f", char* p{k}"
        addresses.append(address)
        there, here = f"(char*)table[{index}]", f"p{k}"
        source, target = (there, here) if inward else (here, there)
        lines.append(
            f"  if (blockIdx.x < {block + blocks}) {{ copy_bytes({source}, {target}, {nbytes}ull, blockIdx.x - {block}, {blocks}); return; }}"
        )
        block += blocks
    text = _COPY.format(name=NAME, parameters=parameters, lines="\n".join(lines))
    return [Launch(text, (block,), (256,), tuple(addresses))] if lines else []


def _arguments(memory: Memory, table: Table, arguments: Sequence[Array]) -> list[Launch]:
    entries = [(table.arguments + k, memory.address(a), a.nbytes) for k, a in enumerate(arguments) if a.size]
    return _transfer(entries, True, Address("numbers", 0))


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
        entries.append((table.results + k, memory.address(source), a.nbytes))
    return [*made, *_transfer(entries, False, Address("numbers", 0))]


def _copied(memory: Memory, source: Array, target: Array) -> list[Step]:
    """A copy; by CuPy where no kernel knows the dtype."""
    try:
        return list(copy_kernel(memory, source, target))
    except Unsupported as reason:
        return [Plain(Instruction("map", "copy", [source], [target]), str(reason), "")]


def _writes(memory: Memory, program: Program, layout: Layout) -> list[Step]:
    """The copies of new values into the state; together, as if all were read before the first is written."""
    done = {id(entry) for entry in layout.done_writes}
    left = [entry for entry in program.writes if id(entry) not in done and entry[0].size]
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


def module_source(names: dict[str, str]) -> str:
    """One file with kernels: text -> name."""
    body = "\n".join([text.replace(NAME, name) for text, name in names.items()])
    return prelude(body) + (philox.PRELUDE if "philox(" in body or "gamma_number(" in body else "") + body


def number_view(slot: np.ndarray, index: int, dtype: np.dtype) -> np.ndarray:
    """The entry of a table (uint64) as a number of ``dtype``."""
    return slot[index : index + 1].view(np.uint8)[: dtype.itemsize].view(dtype).reshape(())
