"""A group as few kernels: one for the maps alone; with row reductions one for everything that works row by row; and one for each set of
axes over which columns are reduced. What column reductions read is computed anew, but for what lies in memory already: that is less
traffic than writing it.

A group that no kernel fits runs instruction by instruction, through scratch arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..program import Array, Instruction
from .folds import fold, row_kernel
from .kernel import Launch, Memory, Unsupported, needed
from .maps import map_kernel


def group_kernels(memory: Memory, group: Instruction) -> list[Launch]:
    """The launches of a group."""
    space, inner = tuple(group.options["space"]), int(group.options["inner"])
    body, outputs = list(group.options["body"]), list(group.outputs)
    if 0 in space:
        raise Unsupported("no elements")
    rows = tuple(range(len(space) - inner, len(space)))
    used = {a for i in body for a in i.inputs}
    reductions = [i for i in body if i.kind == "reduce"]
    if any([i.kind not in ("map", "reduce") for i in body]):
        raise Unsupported("a body with more than maps and reductions")
    by_row = [i for i in reductions if i.output in used or (_axes(i, space) == rows and i.options.get("keepdims"))]
    if any([_axes(i, space) != rows for i in by_row]):
        raise Unsupported("a reduction inside of a body that is not over rows")
    columns = [i for i in reductions if i not in by_row]
    made_by_column = {i.output for i in columns}
    elements = [a for a in outputs if a not in made_by_column]
    launches: list[Launch] = []
    if by_row:
        spare = _row_values(memory, body, by_row, columns, elements)
        work, stored = _with_spares([i for i in body if i not in columns], elements, spare)
        launches += row_kernel(memory, work, space, rows, stored)
        given = [*elements, *spare]
        for key, some in _by_axes(columns):
            maps = _renamed(needed([i for i in body if i.kind == "map"], [i.inputs[0] for i in some], given), spare)
            launches += fold(memory, maps, [_swapped(i, spare) for i in some], key[0], key[1])
        return launches
    maps = [i for i in body if i.kind == "map"]
    full = [a for a in elements if a.shape == space]
    for shape in dict.fromkeys([a.shape for a in elements if a.shape != space]):
        launches += map_kernel(memory, maps, [a for a in elements if a.shape == shape])
    sets = _by_axes(columns)
    with_stores = [k for k, (key, _) in enumerate(sets) if key[0] == space][-1:]
    for k, (key, some) in sorted(enumerate(sets), key=lambda entry: entry[0] in with_stores):
        stored = full if k in with_stores else []
        wanted = [*[i.inputs[0] for i in some], *stored]
        launches += fold(memory, needed(maps, wanted), some, key[0], key[1], stored)
    if full and not with_stores:
        launches += map_kernel(memory, maps, full)
    return launches


def _axes(reduction: Instruction, space: Sequence[int]) -> tuple[int, ...]:
    """Axes of the space over which it reduces."""
    ndim = reduction.inputs[0].ndim
    return tuple(sorted([axis % ndim + len(space) - ndim for axis in reduction.options["axes"]]))


def _by_axes(columns: Sequence[Instruction]) -> list[tuple[tuple[tuple[int, ...], tuple[int, ...]], list[Instruction]]]:
    """Reductions of arrays of one shape over the same axes together."""
    sets: dict[tuple[tuple[int, ...], tuple[int, ...]], list[Instruction]] = {}
    for i in columns:
        shape = i.inputs[0].shape
        axes = tuple(sorted([axis % len(shape) for axis in i.options["axes"]]))
        sets.setdefault((shape, axes), []).append(i)
    return list(sets.items())


def _row_values(
    memory: Memory,
    body: Sequence[Instruction],
    by_row: Sequence[Instruction],
    columns: Sequence[Instruction],
    stored: Sequence[Array],
) -> dict[Array, Array]:
    """Scratch arrays for the results of row reductions that column reductions depend on and no output holds."""
    wanted = {i.inputs[0] for i in columns}
    reached = {a for i in needed(body, wanted, stored) for a in i.outputs}
    return {
        i.output: memory.new(i.output.shape, i.output.dtype) for i in by_row if i.output in reached and i.output not in stored
    }


def _with_spares(
    work: list[Instruction], stored: Sequence[Array], spare: dict[Array, Array]
) -> tuple[list[Instruction], list[Array]]:
    """The body with copies of row values to scratch arrays."""
    extra = [Instruction("map", "copy", [a], [copy]) for a, copy in spare.items()]
    return [*work, *extra], [*stored, *spare.values()]


def _swapped(instruction: Instruction, instead: dict[Array, Array]) -> Instruction:
    """The instruction reading other arrays; its outputs do not learn of it."""
    if not any([a in instead for a in instruction.inputs]):
        return instruction
    makers = [a.maker for a in instruction.outputs]
    made = instruction.with_inputs([instead.get(a, a) for a in instruction.inputs])
    for a, maker in zip(instruction.outputs, makers):
        a.maker = maker
    return made


def _renamed(maps: Sequence[Instruction], instead: dict[Array, Array]) -> list[Instruction]:
    return [_swapped(i, instead) for i in maps]


def one_by_one(memory: Memory, group: Instruction, launches_of: Callable[[Memory, Instruction], list[Launch]]) -> list[Launch]:
    """The body's instructions one after another; what stays inside lies in scratch arrays."""
    outputs = set(group.outputs)
    made: list[Launch] = []
    for inner in group.options["body"]:
        for a in inner.outputs:
            if a not in outputs:
                scratch = memory.new(a.shape, a.dtype)
                memory.places[a] = memory.places[scratch]
        made += launches_of(memory, inner)
    return made
