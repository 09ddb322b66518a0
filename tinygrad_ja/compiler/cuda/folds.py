"""Kernels that reduce. The axes of the space are put in two groups, those that stay and those that are reduced, in any order in memory.

- ``row_kernel``: the threads of a warp or block share the reduced axes of one place of those that stay, and go over them once for each
  phase: a phase ends in reductions, whose results the next one uses (softmax, layer norm). What a later phase uses stays in registers
  where it fits, and is computed anew where it does not.
- ``column_kernel``: neighbours of the axes that stay belong to neighbouring threads, which walk along the reduced ones.
- ``fold``: reductions over the same axes, by the one of the two that reads memory in order. Long ones are cut into chunks, whose results
  a second kernel reduces: in the same order at each run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..program import Array, Instruction
from .elements import accumulated_type, cast, identity, storable, value_type
from .kernel import THREADS, Access, Kernel, Launch, Memory, Unsupported, check_dtypes, externals, map_line, needed, section
from .space import Strides, is_wide, merged, offset, split, vector_width

REGISTERS = 64
"""How many values a thread keeps for later phases."""
BLOCKS = 264
"""How many blocks keep a GPU busy: two for each of its 132 processors."""
_OPERATION = {
    "sum": "Sum",
    "prod": "Prod",
    "max": "Max",
    "min": "Min",
    "any": "Any",
    "all": "All",
    "argmax": "Argmax",
    "argmin": "Argmin",
}


def partial_dtype(instruction: Instruction) -> np.dtype:
    """Dtype of the accumulator of a reduction: that of the elements, or for sums of the result, but at least 32 bits."""
    (x,), y = instruction.inputs, instruction.output
    if instruction.function in ("any", "all"):
        return np.dtype(np.int32)
    dtype = y.dtype if instruction.function in ("sum", "prod") else x.dtype
    if dtype.char == "e":
        return np.dtype(np.float32)
    return np.dtype(np.int32) if accumulated_type(dtype) == "int" else dtype


class _Accumulator:
    """One reduction's text: declaration, step, combination, and the value of its result."""

    def __init__(self, instruction: Instruction, name: str) -> None:
        self.instruction, self.name = instruction, name
        (self.x,), self.y = instruction.inputs, instruction.output
        self.operation = _OPERATION[instruction.function]
        self.indexed = instruction.function in ("argmax", "argmin")
        self.dtype = partial_dtype(instruction)
        kind = accumulated_type(self.dtype)
        self.kind = f"Found<{kind}>" if self.indexed else kind

    def declaration(self) -> str:
        start = "{0, -1}" if self.indexed else identity(self.instruction.function, self.dtype)
        return f"{self.kind} {self.name} = {start};"

    def step(self, value: str, index: str) -> str:
        if self.indexed:
            new = f"{self.kind}{{{value}, (long long)({index})}}"
        elif self.instruction.function in ("any", "all"):
            new = f"(int)({value} != 0)"
        else:
            cast_first = self.instruction.function in ("sum", "prod")
            new = f"({self.kind})({cast(value, self.x.dtype, self.y.dtype) if cast_first else value})"
        return f"{self.name} = {self.operation}::of({self.name}, {new});"

    def result(self) -> str:
        if self.indexed:
            return f"({value_type(self.y.dtype)}){self.name}.i"
        return cast(self.name, self.dtype, self.y.dtype)


def _aligned_sizes(array: Array, space: Sequence[int]) -> tuple[int, ...]:
    return (*[1] * (len(space) - array.ndim), *array.shape)


def _is_row(array: Array, space: Sequence[int], reduced: Sequence[int]) -> bool:
    """Whether the array has one element for each place of the axes that stay."""
    sizes = _aligned_sizes(array, space)
    return all([sizes[axis] == 1 for axis in reduced])


def _levels(body: Sequence[Instruction]) -> dict[Array, int]:
    """How many reductions come before each array that the body makes."""
    levels: dict[Array, int] = {}
    for inner in body:
        level = max([levels.get(a, 0) for a in inner.inputs], default=0) + (inner.kind == "reduce")
        levels.update(dict.fromkeys(inner.outputs, level))
    return levels


def _threads_for(rows: int, length: int) -> int:
    """Threads that share a row."""
    return 32 if length <= 256 or (length <= 1024 and rows >= 2048) else THREADS if length <= 8192 else 2 * THREADS


class _Rows:
    """A row kernel while it is made."""

    def __init__(
        self,
        memory: Memory,
        body: Sequence[Instruction],
        space: tuple[int, ...],
        reduced: Sequence[int],
        stored: Sequence[Array],
        chunks: int,
    ) -> None:
        self.memory, self.space, self.reduced = memory, space, tuple(reduced)
        self.kept = tuple([axis for axis in range(len(space)) if axis not in self.reduced])
        self.body = needed(body, stored)
        self.stored, self.chunks = list(stored), chunks
        self.kernel = Kernel(memory)
        read = externals(self.body)
        check_dtypes([*read, *stored, *[a for inner in self.body for a in inner.outputs]])
        self.kernel.names.update({a: text for a in read if (text := memory.literal(a)) is not None})
        self.read = [a for a in read if a not in self.kernel.names]
        self.levels = _levels(self.body)
        self.is_row = {a: _is_row(a, space, self.reduced) for inner in self.body for a in (*inner.inputs, *inner.outputs)}
        self.is_row.update(dict.fromkeys(self.partials(), True))
        for inner in self.body:
            if inner.kind == "reduce" and not self.is_row[inner.inputs[0]]:
                sizes = _aligned_sizes(inner.inputs[0], space)
                if any([sizes[axis] != space[axis] for axis in self.reduced]):
                    raise Unsupported("a reduction of an array that does not fill the row")
        self._place()

    def _place(self) -> None:
        arrays = [*self.read, *self.stored]
        steps: list[Strides] = []
        for a in arrays:
            if a in self.partials():
                steps.append(
                    _result_strides(self.memory, a, self.space, self.reduced) if self.chunks == 1 else (0,) * len(self.space)
                )
            else:
                steps.append(self.memory.strides(a, self.space))
        kept = [tuple([s[axis] for axis in self.kept]) for s in steps]
        inner = [tuple([s[axis] for axis in self.reduced]) for s in steps]
        self.row_shape, row_steps = merged(tuple([self.space[axis] for axis in self.kept]), kept)
        self.shape, self.steps = merged(tuple([self.space[axis] for axis in self.reduced]), inner)
        self.wide = is_wide(self.space, steps)
        self.rows, self.length = math.prod(self.row_shape), math.prod(self.shape)
        self.row_steps = dict(zip(arrays, row_steps))
        self.inner_steps = dict(zip(arrays, self.steps))
        operands = []
        for a in arrays:
            if not self.is_row[a]:
                step = math.gcd(*[s * a.dtype.itemsize for s in self.row_steps[a]]) or 256
                alignment = math.gcd(self.memory.alignment(self.memory.address(a)), step)
                operands.append((self.inner_steps[a], a.dtype.itemsize, alignment))
        moving = [a for a in self.stored if not self.is_row[a]]
        self.width = 1
        if self.chunks == 1 and all([self.inner_steps[a][-1] == 1 for a in moving]):
            self.width = vector_width(self.shape, operands)
        self.team = _threads_for(self.rows * self.chunks, self.length // self.width)

    def partials(self) -> dict[Array, Instruction]:
        """Outputs of reductions: they may have lost their axes, so they are stored row by row."""
        return {inner.output: inner for inner in self.body if inner.kind == "reduce"}

    def launch(self) -> Launch:
        """The kernel."""
        kernel, wide = self.kernel, self.wide
        index = "unsigned long long" if wide else "unsigned int"
        team, per_block = self.team, (THREADS // 32 if self.team == 32 else 1)
        total = self.rows * self.chunks
        lines = [
            f"const unsigned int lane = thread{' & 31' if team == 32 else ''};",
            f"const {index} place = ({index})block" + (f" * {per_block} + (thread >> 5);" if team == 32 else ";"),
            f"if (place >= {total}{'ull' if wide else 'u'}) return;",
        ]
        if self.chunks > 1:
            lines += [f"const {index} i = place / {self.chunks}, chunk = place % {self.chunks};"]
        else:
            lines += [f"const {index} i = place;"]
        lines += [f"{line};" for line in split("i", self.row_shape, "r", wide)]
        coordinates = [f"r{axis}" for axis in range(len(self.row_shape))]
        self.bases: dict[Array, str] = {}
        for a in self.read:
            self.bases[a] = f"({kernel.pointer(a)} + ({offset(coordinates, self.row_steps[a], wide)}))"
        partials = self.partials()
        for a in self.stored:
            at = "(long long)place" if self.chunks > 1 and a in partials else offset(coordinates, self.row_steps[a], wide)
            self.bases[a] = f"({kernel.pointer(a, True)} + ({at}))"
        for a in self.read:
            if self.is_row[a]:
                lines += section(kernel, {a: Access(self.bases[a], "0", False)}, [], {}, 1)
        lines += self._phases()
        row_stores = [a for a in self.stored if self.is_row[a]]
        if row_stores:
            lines.append("if (lane == 0) {")
            lines += [f"  {self.bases[a]}[0] = {storable(kernel.names[a], a.dtype)};" for a in row_stores]
            lines.append("}")
        return kernel.launch(lines, -(-total // per_block), team * per_block, 256 * len(self.partials()))

    # -- phases

    def _phases(self) -> list[str]:
        elements = [a for inner in self.body for a in inner.outputs if not self.is_row[a]]
        reductions = [inner for inner in self.body if inner.kind == "reduce" and not self.is_row[inner.inputs[0]]]
        stored = [a for a in self.stored if not self.is_row[a]]
        level = {a: self.levels[a] for a in elements}
        level.update({a: self._first_phase(a) for a in self.read})
        last = max([level[a] for a in stored] + [level[inner.inputs[0]] for inner in reductions], default=-1)
        per_thread = -(-self.length // (self.team * self.width)) * self.width
        kept = self._carried(level, last, stored)
        self.cached = kept if self.chunks == 1 and per_thread * len(kept) <= REGISTERS else []
        self.per_thread = per_thread
        self.level, self.last = level, last
        lines: list[str] = []
        for a in self.cached:
            lines.append(f"{value_type(a.dtype)} {self._cache(a)}[{per_thread}];")
        for phase in range(max([*self.levels.values(), last, 0]) + 1):
            for inner in self.body:
                if self.is_row[inner.outputs[0]] and self.levels[inner.outputs[0]] == phase:
                    lines += self._row_line(inner)
            now = [inner for inner in reductions if level[inner.inputs[0]] == phase]
            if phase <= last and (now or phase == last or any([level[a] == phase for a in self.cached])):
                lines += self._loop(phase, now, stored if phase == last else [])
        return lines

    def _first_phase(self, array: Array) -> int:
        """The phase that first reads an array from memory."""
        return min([self.levels[i.outputs[0]] - (i.kind == "reduce") for i in self.body if array in i.inputs])

    def _carried(self, level: dict[Array, int], last: int, stored: Sequence[Array]) -> list[Array]:
        """Arrays of the row that a later phase uses."""
        carried: list[Array] = []
        for inner in self.body:
            if inner.kind == "map" and not self.is_row[inner.outputs[0]]:
                carried += [a for a in inner.inputs if a in level and not self.is_row[a] and level[a] < level[inner.outputs[0]]]
            elif inner.kind == "reduce" and not self.is_row[inner.inputs[0]]:
                carried += [a for a in inner.inputs if level[a] < self.levels[inner.outputs[0]] - 1]
        carried += [a for a in stored if level[a] < last]
        return list(dict.fromkeys(carried))

    def _cache(self, array: Array) -> str:
        return f"c{self.cached.index(array)}"

    def _row_line(self, inner: Instruction) -> list[str]:
        """A map of values of the row, or a reduction of one element."""
        if inner.kind == "map":
            return [map_line(self.kernel, inner)]
        (x,), y = inner.inputs, inner.output
        if not self.is_row[x]:
            return []  # the loop of an earlier phase made it
        accumulator = _Accumulator(inner, f"a{len(self.kernel.names)}")
        lines = [accumulator.declaration(), accumulator.step(self.kernel.names[x], "0")]
        return [*lines, f"const {value_type(y.dtype)} {self.kernel.name(y)} = {accumulator.result()};"]

    def _loop(self, phase: int, reductions: Sequence[Instruction], stored: Sequence[Array]) -> list[str]:
        kernel, width, team = self.kernel, self.width, self.team
        cached = self.cached
        if cached:
            fresh = [a for a in cached if self.level[a] == phase]
            targets = [*[inner.inputs[0] for inner in reductions], *stored, *fresh]
            there = [a for a in cached if self.level[a] < phase]
        else:
            fresh, there = [], []
            targets = [*[inner.inputs[0] for inner in reductions], *stored]
        rows = [a for a in self.is_row if self.is_row[a]]
        maps = [inner for inner in needed(self.body, targets, [*there, *rows]) if inner.kind == "map"]
        used = {a for inner in maps for a in inner.inputs} | set(targets)
        loads = [a for a in self.read if a in used and not self.is_row[a] and a not in there]
        reloaded = [a for a in there if a in used]
        accumulators = {inner.output: _Accumulator(inner, f"a{phase}_{k}") for k, inner in enumerate(reductions)}
        coordinates = [f"e{axis}" for axis in range(len(self.shape))]
        inner_lines = [f"{line};" for line in split("c", self.shape, "e", self.wide)]

        def access(a: Array) -> Access:
            return Access(self.bases[a], offset(coordinates, self.inner_steps[a], self.wide), self.inner_steps[a][-1] == 1)

        slot = "k" if width == 1 else f"k * {width} + j"

        def each() -> list[str]:
            index = "c" if width == 1 else "c + j"
            made = [a.step(kernel.names[a.x], index) for a in accumulators.values()]
            return made + [f"{self._cache(a)}[{slot}] = {kernel.names[a]};" for a in fresh if a not in there]

        saved = dict(kernel.names)
        for a in reloaded:
            kernel.names[a] = f"{self._cache(a)}[{slot}]"
        body = section(kernel, {a: access(a) for a in loads}, maps, {a: access(a) for a in stored}, width, each)
        for a in [*loads, *reloaded, *[a for inner in maps for a in inner.outputs]]:
            if a not in saved:
                kernel.names.pop(a, None)
        kind = "unsigned long long" if self.wide else "unsigned int"
        lines = [a.declaration() for a in accumulators.values()]
        if self.chunks > 1:
            size = -(-self.length // self.chunks)
            lines.append(
                f"for ({kind} c = chunk * {size} + lane; c < (chunk + 1) * {size} && c < {self.length}; c += {team}) {{"
            )
        elif cached:
            lines += ["#pragma unroll", f"for (int k = 0; k < {self.per_thread // width}; ++k) {{"]
            lines.append(f"  const {kind} c = ((({kind})k * {team}) + lane) * {width};")
            lines.append(f"  if (c < {self.length}) {{")
        else:
            lines.append(f"for ({kind} c = lane * {width}; c < {self.length}; c += {team * width}) {{")
        lines += [f"    {line}" for line in [*inner_lines, *body]]
        lines += ["}"] if not cached else ["  }", "}"]
        for accumulator in accumulators.values():
            lines += self._combine(accumulator)
        return lines

    def _combine(self, accumulator: _Accumulator) -> list[str]:
        name, operation = accumulator.name, accumulator.operation
        lines = []
        if self.team == 32:
            lines.append(f"{name} = over_warp<{operation}>({name});")
        else:
            lines.append(f"__shared__ {accumulator.kind} s{name}[{self.team // 32}];")
            lines.append(f"{name} = over_block<{operation}, {self.team // 32}>({name}, s{name});")
        y = accumulator.y
        lines.append(f"const {value_type(y.dtype)} {self.kernel.name(y)} = {accumulator.result()};")
        return lines


def row_kernel(
    memory: Memory,
    body: Sequence[Instruction],
    space: tuple[int, ...],
    reduced: Sequence[int],
    stored: Sequence[Array],
    chunks: int = 1,
) -> list[Launch]:
    """Maps and reductions over the axes ``reduced`` of a space. stored: what is written, with one element for each row, or one for each
    element. chunks: cut the reduced axes; then the body's reductions are the only outputs, and end in arrays of (rows, chunks)."""
    if 0 in space:
        raise Unsupported("no elements")
    return [_Rows(memory, body, space, reduced, stored, chunks).launch()]


def _tile(width: int, depth: int) -> tuple[int, int]:
    """Threads of a block of a column kernel: neighbours, and threads that share a column."""
    across = min(32, _power_of_two(width))
    down = min(THREADS // across, _power_of_two(depth))
    return THREADS // down, down


def _power_of_two(n: int) -> int:
    """The smallest one that is not below ``n``."""
    return 1 << max(n - 1, 0).bit_length()


def column_kernel(
    memory: Memory,
    maps: Sequence[Instruction],
    reductions: Sequence[Instruction],
    space: tuple[int, ...],
    reduced: Sequence[int],
    stored: Sequence[Array] = (),
    chunks: int = 1,
) -> list[Launch]:
    """Reductions over the same axes of a space, and maps whose outputs fill it. chunks: then results are arrays of (chunks, columns)."""
    kept = [axis for axis in range(len(space)) if axis not in reduced]
    kernel = Kernel(memory)
    made = {a for inner in maps for a in inner.outputs}
    read = list(dict.fromkeys([*externals(maps), *[inner.inputs[0] for inner in reductions if inner.inputs[0] not in made]]))
    check_dtypes([*read, *stored, *[inner.output for inner in (*maps, *reductions)]])
    kernel.names.update({a: text for a in read if (text := memory.literal(a)) is not None})
    read = [a for a in read if a not in kernel.names]
    arrays = [*read, *stored]
    steps = [memory.strides(a, space) for a in arrays]
    results = [] if chunks > 1 else [inner.output for inner in reductions]
    steps += [_result_strides(memory, a, space, reduced) for a in results]
    wide = is_wide(space, steps)
    columns, outer = merged([space[axis] for axis in kept], [tuple([s[axis] for axis in kept]) for s in steps])
    depths, inner_steps = merged([space[axis] for axis in reduced], [tuple([s[axis] for axis in reduced]) for s in steps])
    width, depth = math.prod(columns), math.prod(depths)
    across, down = _tile(width, depth)
    kind = "unsigned long long" if wide else "unsigned int"
    access = {}
    coordinates = [f"r{axis}" for axis in range(len(columns))]
    along = [f"e{axis}" for axis in range(len(depths))]
    for a, far, near in zip(arrays, outer, inner_steps):
        where = f"{offset(coordinates, far, wide)} + {offset(along, near, wide)}"
        access[a] = Access(kernel.pointer(a, a in stored), where, False)
    accumulators = [_Accumulator(inner, f"a{k}") for k, inner in enumerate(reductions)]

    def each() -> list[str]:
        return [a.step(kernel.names[a.x], "k") for a in accumulators]

    body = section(kernel, {a: access[a] for a in read}, maps, {a: access[a] for a in stored}, 1, each)
    size = -(-depth // chunks)
    across_blocks = -(-width // across)
    lines = [
        f"const unsigned int x = thread % {across}, y = thread / {across}, chunk = block / {across_blocks};",
        f"const {kind} i = ({kind})(block % {across_blocks}) * {across} + x;",
        *[a.declaration() for a in accumulators],
    ]
    lines.append(f"if (i < {width}) {{")
    lines += [f"  {line};" for line in split("i", columns, "r", wide)]
    stop = f"({kind})(chunk + 1) * {size}"
    lines.append(f"  for ({kind} k = ({kind})chunk * {size} + y; k < {stop} && k < {depth}; k += {down}) {{")
    lines += [f"    {line};" for line in split("k", depths, "e", wide)]
    lines += [f"    {line}" for line in body]
    lines += ["  }", "}"]
    for fold_ in accumulators:
        lines.append(f"__shared__ {fold_.kind} s{fold_.name}[{down}][{across}];")
        lines.append(f"s{fold_.name}[y][x] = {fold_.name};")
    lines.append("__syncthreads();")
    places = dict(zip(results, outer[len(arrays) :]))
    lines.append(f"if (y == 0 && i < {width}) {{")
    lines += [f"  {line};" for line in split("i", columns, "r", wide)]
    for fold_ in accumulators:
        lines.append(
            f"  for (int w = 1; w < {down}; ++w) {fold_.name} = {fold_.operation}::of({fold_.name}, s{fold_.name}[w][x]);"
        )
        target = f"(long long)chunk * {width} + i" if chunks > 1 else offset(coordinates, places[fold_.y], wide)
        lines.append(f"  {kernel.pointer(fold_.y, True)}[{target}] = {storable(fold_.result(), fold_.y.dtype)};")
    lines.append("}")
    return [kernel.launch(lines, across_blocks * chunks, THREADS, 16 * THREADS * len(accumulators))]


def fold(
    memory: Memory,
    maps: Sequence[Instruction],
    reductions: Sequence[Instruction],
    space: tuple[int, ...],
    reduced: Sequence[int],
    stored: Sequence[Array] = (),
) -> list[Launch]:
    """Reductions over the same axes of arrays that maps make over a space, and maps whose outputs (``stored``) fill it."""
    reduced = tuple(reduced)
    kept = [axis for axis in range(len(space)) if axis not in reduced]
    rows, depth = math.prod([space[axis] for axis in kept]), math.prod([space[axis] for axis in reduced])
    long_axes = [axis for axis in range(len(space)) if space[axis] > 1]
    in_columns = (bool(long_axes) and long_axes[-1] in kept) or (depth <= 16 and rows >= 1024)
    indexed = any([inner.function in ("argmax", "argmin") for inner in reductions])
    if in_columns:
        across, down = _tile(rows, depth)
        chunks = max(1, min(BLOCKS // -(-rows // across), depth // (4 * down)))
    else:
        chunks = max(1, min(BLOCKS * 4 // rows, depth // 4096))
    even = all([_even_step(memory, inner.output, space, reduced) is not None for inner in reductions])
    chunks = 1 if indexed or not even else chunks
    body = [*maps, *reductions]
    if chunks == 1:
        if in_columns:
            return column_kernel(memory, maps, reductions, space, reduced, stored)
        return row_kernel(memory, body, space, reduced, [*[inner.output for inner in reductions], *stored])
    partial = []
    shape, axis = ((chunks, rows), 0) if in_columns else ((rows, chunks), 1)
    second: list[Launch] = []
    for inner in reductions:
        cut = memory.new(shape, partial_dtype(inner))
        partial.append(Instruction("reduce", inner.function, inner.inputs, [cut], inner.options))
        step = _even_step(memory, inner.output, space, reduced) or 0
        flat = Array((rows,), inner.output.dtype)
        memory.places[flat] = memory.places[inner.output]._replace(strides=(step * inner.output.dtype.itemsize,))
        second += fold(
            memory,
            [],
            [Instruction("reduce", inner.function, [cut], [flat], {"axes": (axis,), "keepdims": False})],
            shape,
            (axis,),
        )
    if in_columns:
        first = column_kernel(memory, maps, partial, space, reduced, stored, chunks)
    else:
        first = row_kernel(memory, [*maps, *partial], space, reduced, [*[inner.output for inner in partial], *stored], chunks)
    return [*first, *second]


def _result_strides(memory: Memory, y: Array, space: Sequence[int], reduced: Sequence[int]) -> Strides:
    """Strides of the result of a reduction along the axes of the space that stay, 0 along the others."""
    own = memory.strides(y, y.shape)
    kept = [axis for axis in range(len(space)) if axis not in reduced]
    if y.ndim == len(kept) and y.shape == tuple([space[axis] for axis in kept]):
        found = dict(zip(kept, own))
        return tuple([found.get(axis, 0) for axis in range(len(space))])
    return memory.strides(y, space)


def _even_step(memory: Memory, y: Array, space: Sequence[int], reduced: Sequence[int]) -> int | None:
    """The distance of one result of a reduction to the next, if it is the same for all."""
    steps = _result_strides(memory, y, space, reduced)
    kept = [axis for axis in range(len(space)) if axis not in reduced]
    shape, (strides,) = merged([space[axis] for axis in kept], [tuple([steps[axis] for axis in kept])])
    return strides[0] if len(shape) == 1 else None


def reduce_kernel(memory: Memory, instruction: Instruction) -> list[Launch]:
    """One reduction."""
    (x,), y = instruction.inputs, instruction.output
    if 0 in y.shape:
        return []
    if 0 in x.shape:
        raise Unsupported("a reduction of no elements")
    axes = sorted([axis % x.ndim for axis in instruction.options["axes"]]) if x.ndim else []
    return fold(memory, [], [instruction], x.shape, axes)
