"""One kernel while its text is made: its pointers, the arrays it reads and writes, and the element-wise part of its body.

Shapes, strides and constants are part of the text, addresses are arguments: kernels of one text are compiled once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..planning import Layout, Place
from ..program import Array, Instruction, Program
from .elements import applied, known, literal, loaded, storable, stored_type, value_type
from .space import Strides, contiguous, element_strides

THREADS = 256
"""Threads of nearly every block: kernels with the same number can share a launch."""
SPARE = 64 << 20
"""Bytes of memory that are spent so that independent steps do not have to wait for one another."""


class Unsupported(Exception):
    """No kernel is made for this; says why."""


class Address(NamedTuple):
    """Bytes behind the begin of a buffer: "arena", "numbers", "scratch", or a given array."""

    buffer: Any
    offset: int


class Reach(NamedTuple):
    """Bytes that a step may read or write: low <= byte < high of a buffer. Arrays of the state lie in one buffer, "state", since they may
    overlap."""

    buffer: Any
    low: int
    high: int
    writes: bool


class Launch(NamedTuple):
    """A kernel: the C types of its pointers p0, p1, ..., the lines of its body, how many blocks and threads run it, what the pointers are,
    what is reached through them, and how many bytes of shared memory it declares. The body finds its place in ``block`` and ``thread``."""

    parameters: tuple[str, ...]
    lines: tuple[str, ...]
    blocks: int
    threads: int
    addresses: tuple[Address, ...]
    reaches: tuple[Reach, ...]
    shared: int = 0


class Memory:
    """Where arrays lie: the layout's places, and scratch arrays for what kernels hand to the next ones."""

    def __init__(self, program: Program, layout: Layout, pointer_of: Callable[[Any], int], own_products: bool = True) -> None:
        self.own_products = own_products
        self.places = dict(layout.places)
        self.arena = layout.arena
        self.constants = program.constants
        self.numbers = {a: 8 * i for i, a in enumerate(program.numbers)}
        self.pointers: dict[Any, int] = {a: pointer_of(real) for a, real in program.state.items()}
        self.scratch: dict[Array, int] = {}
        self.scratch_nbytes = 0
        self._top = 0

    def address(self, array: Array) -> Address:
        """Where an array's first element lies."""
        place = self.places[array]
        if place.root in self.numbers:
            return Address("numbers", self.numbers[place.root] + place.offset)
        if place.root in self.arena:
            return Address("arena", self.arena[place.root] + place.offset)
        if place.root in self.scratch:
            return Address("scratch", self.scratch[place.root] + place.offset)
        return Address(place.root, place.offset)

    def reach(self, array: Array, writes: bool) -> Reach:
        """The bytes of an array."""
        buffer, offset = self.address(array)
        steps = [(n - 1) * step for n, step in zip(array.shape, self.places[array].strides)]
        begin = self.pointers.get(buffer)
        if begin is not None:
            buffer, offset = "state", offset + begin
        low = offset + sum([step for step in steps if step < 0])
        high = offset + sum([step for step in steps if step > 0]) + array.dtype.itemsize
        return Reach(buffer, low, high if array.size else low, writes)

    def alignment(self, address: Address) -> int:
        """What power of two, up to 256, an address is a multiple of."""
        begin = self.pointers.get(address.buffer, 0)
        return math.gcd(begin + address.offset, 256)

    def strides(self, array: Array, space: Sequence[int]) -> Strides:
        """Strides of an array in a space to which it broadcasts."""
        made = element_strides(array, self.places[array], space)
        if made is None:
            raise Unsupported("elements lie at distances that are no whole numbers of elements")
        return made

    def new(self, shape: Iterable[int], dtype: Any) -> Array:
        """A scratch array, which lives until ``forget``."""
        array = Array(shape, dtype)
        steps = contiguous(array.shape)
        self.places[array] = Place(array, 0, tuple([step * array.dtype.itemsize for step in steps]))
        self.scratch[array] = self._top
        self._top += -(-array.nbytes // 256) * 256
        self.scratch_nbytes = max(self.scratch_nbytes, self._top)
        return array

    def forget(self) -> None:
        """Let the next instruction use the memory of all scratch arrays. Little of it is not used again, so that steps stay independent."""
        if self._top > SPARE:
            self._top = 0

    def literal(self, array: Array) -> str | None:
        """The text of a constant with one element."""
        value = self.constants.get(array)
        return None if value is None or array.size != 1 else literal(np.asarray(value).reshape(()), array.dtype)


class Kernel:
    """Pointers and names of one kernel."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.names: dict[Array, str] = {}
        self.addresses: list[Address] = []
        self.parameters: list[str] = []
        self.reaches: list[Reach] = []

    def pointer(self, array: Array, writes: bool = False, kind: str = "") -> str:
        """The name of a pointer to an array's first element."""
        name = f"p{len(self.addresses)}"
        self.addresses.append(self.memory.address(array))
        self.parameters.append(f"{'' if writes else 'const '}{kind or stored_type(array.dtype)}*")
        self.reaches.append(self.memory.reach(array, writes))
        return name

    def name(self, array: Array) -> str:
        """A new name for the value of an array."""
        self.names[array] = f"v{len(self.names)}"
        return self.names[array]

    def launch(self, lines: Iterable[str], blocks: int, threads: int = THREADS, shared: int = 0) -> Launch:
        """The kernel with these lines as its body."""
        if blocks >= 2**31:
            raise Unsupported("more blocks than a launch can have")
        return Launch(tuple(self.parameters), tuple(lines), blocks, threads, tuple(self.addresses), tuple(self.reaches), shared)


def externals(maps: Sequence[Instruction]) -> list[Array]:
    """What instructions read and none of them makes, in order."""
    made = {a for inner in maps for a in inner.outputs}
    return list(dict.fromkeys([a for inner in maps for a in inner.inputs if a not in made]))


def needed(body: Sequence[Instruction], wanted: Iterable[Array], given: Iterable[Array] = ()) -> list[Instruction]:
    """The instructions of a body that ``wanted`` depends on, when the arrays ``given`` are there already."""
    known_, open_ = set(given), set(wanted)
    made = []
    for inner in reversed(body):
        if any([a in open_ and a not in known_ for a in inner.outputs]):
            made.append(inner)
            open_.update([a for a in inner.inputs if a not in known_])
    return made[::-1]


def check_dtypes(arrays: Iterable[Array]) -> None:
    """Raise Unsupported unless kernels know the dtypes of all."""
    for array in arrays:
        if not known(array.dtype):
            raise Unsupported(f"no kernels for {array.dtype}")


def map_line(kernel: Kernel, instruction: Instruction) -> str:
    """The declaration of a map's output, of values that have names."""
    values = [(kernel.names[a], a.dtype) for a in instruction.inputs]
    output = instruction.outputs[0]
    text = applied(instruction.function, values, output.dtype)
    if text is None:
        raise Unsupported(f"no kernel text for {instruction.function} of {', '.join([str(d) for _, d in values])}")
    return f"const {value_type(output.dtype)} {kernel.name(output)} = {text};"


class Access(NamedTuple):
    """How an array is reached at the current index: pointer, offset as text, and whether neighbours lie side by side."""

    pointer: str
    where: str
    moves: bool


def load_line(kernel: Kernel, array: Array, access: Access) -> str:
    """The declaration of one element."""
    return f"const {value_type(array.dtype)} {kernel.name(array)} = {loaded(f'{access.pointer}[{access.where}]', array.dtype)};"


def section(
    kernel: Kernel,
    loads: dict[Array, Access],
    maps: Sequence[Instruction],
    stores: dict[Array, Access],
    width: int,
    each: Callable[[], Sequence[str]] = list,
) -> list[str]:
    """Lines that load, compute and store ``width`` neighbours. each: makes further lines for every element."""
    outside: list[str] = []
    inside: list[str] = []
    for array, access in loads.items():
        if width > 1 and access.moves:
            name = kernel.name(array)
            outside.append(f"const auto {name}_ = load<{width}>({access.pointer} + {access.where});")
            inside.append(f"const {value_type(array.dtype)} {name} = {loaded(f'{name}_.v[j]', array.dtype)};")
        else:
            outside.append(load_line(kernel, array, access))
    inside += [map_line(kernel, inner) for inner in maps]
    inside += each()
    after: list[str] = []
    for k, (array, access) in enumerate(stores.items()):
        value = storable(kernel.names[array], array.dtype)
        if width > 1:
            outside.append(f"Pack<{stored_type(array.dtype)}, {width}> y{k};")
            inside.append(f"y{k}.v[j] = {value};")
            after.append(f"store<{width}>({access.pointer} + {access.where}, y{k});")
        else:
            after.append(f"{access.pointer}[{access.where}] = {value};")
    if width == 1:
        return [*outside, *inside, *after]
    return [*outside, "#pragma unroll", f"for (int j = 0; j < {width}; ++j) {{", *[f"  {line}" for line in inside], "}", *after]
