"""What a program costs: floating-point operations and bytes of memory traffic, from shapes alone.

A product of (m, k) and (k, n) counts 2 m n k floating-point operations. Element-wise functions, reductions and scans count one for each
element that they compute or reduce, whatever the function; moving elements counts none. Bytes are the elements that an instruction reads
and makes: a view moves none, and of a group only what comes from outside of it or is read outside of it counts, since the rest stays in
the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from typing import Any, TypeVar

from ..profiling.operator_cost import MULTIPLICATIONS, Cost, multiplications
from .program import Array, Instruction, Program, Source

Key = TypeVar("Key", bound=Hashable)


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of several costs.

    >>> total([Cost(2, 8), Cost(3, 4)])
    Cost(flops=5, nbytes=12)
    """
    costs = list(costs)
    return Cost(sum(cost.flops for cost in costs), sum(cost.nbytes for cost in costs))


def instruction_cost(instruction: Instruction, copies: Collection[Instruction] = ()) -> Cost:
    """The cost of one instruction; of a group, of all that it holds. copies: views that have to copy.

    >>> import numpy as np
    >>> a, b, c = Array((2, 3), np.float32), Array((3, 5), np.float32), Array((2, 5), np.float32)
    >>> instruction_cost(Instruction("matmul", "matmul", (a, b), (c,)))
    Cost(flops=60, nbytes=124)
    """
    return total([cost for _, cost in parts(instruction, copies)])


def program_cost(program: Program, copies: Collection[Instruction] = ()) -> Cost:
    """The cost of all instructions of a program."""
    return total([instruction_cost(instruction, copies) for instruction in program.instructions])


def costs_by(program: Program, key: Callable[[Source], Key], copies: Collection[Instruction] = ()) -> dict[Key, Cost]:
    """The cost of a program by what ``key`` says of each instruction's source: ``lambda source: source.operator``, for instance. The
    values add up to ``program_cost``."""
    found: dict[Key, list[Cost]] = {}
    for instruction in program.instructions:
        for part, cost in parts(instruction, copies):
            found.setdefault(key(part.source), []).append(cost)
    return {name: total(costs) for name, costs in found.items()}


def parts(instruction: Instruction, copies: Collection[Instruction] = ()) -> Iterator[tuple[Instruction, Cost]]:
    """An instruction with its cost; of a group each instruction in it, whose bytes are those that cross the group's border: an array from
    outside counts where it is first read."""
    if instruction.kind != "group":
        yield instruction, Cost(_flops(instruction), _nbytes(instruction, copies))
        return
    unread, wanted = set(instruction.inputs), set(instruction.outputs)
    for part in instruction.options["body"]:
        read = [a for a in dict.fromkeys(part.inputs) if a in unread]
        unread.difference_update(read)
        yield part, Cost(_flops(part), sum(map(stored, read)) + sum(a.nbytes for a in part.outputs if a in wanted))


def stored(array: Array) -> int:
    """The bytes in memory that reading an array touches: those of what it repeats, if it is broadcast.

    >>> import numpy as np
    >>> row, full = Array((1, 4), np.float32), Array((100, 4), np.float32)
    >>> _ = Instruction("view", "broadcast", (row,), (full,))
    >>> stored(full), stored(row)
    (16, 16)
    """
    nbytes = array.nbytes
    while array.maker is not None and array.maker.kind == "view":
        (array,) = array.maker.inputs
        nbytes = min(nbytes, array.nbytes)
    return nbytes


# ---- kinds of instruction ------------------------------------------------------------------------


def _flops(instruction: Instruction) -> int:
    kind, inputs, outputs = instruction.kind, instruction.inputs, instruction.outputs
    if kind == "map":
        return 0 if instruction.function in ("cast", "copy") else outputs[0].size
    if kind in ("reduce", "scan", "add_at"):
        return inputs[0].size
    if kind == "matmul":
        return 2 * outputs[0].size * inputs[0].shape[-1]
    return _flops_of_call(instruction) if kind == "call" else 0


def _flops_of_call(instruction: Instruction) -> int:
    """Of an operator that runs as it is: of its products, where its inputs say how many there are; else one for each element. A backward
    counts twice its forward, for the gradients of two factors."""
    name, _, backward = instruction.function.partition(".")
    inputs, outputs = instruction.inputs, instruction.outputs
    if name in MULTIPLICATIONS and not backward:
        try:
            options: dict[str, Any] = {"equation": instruction.options["equation"]} if name == "einsum" else {}
            return 2 * multiplications(name, outputs[0], inputs, options)
        except (KeyError, IndexError, TypeError):  # its arguments are not the operator's, one for one
            pass
    return max([a.size for a in (*inputs, *outputs)], default=0)


def _nbytes(instruction: Instruction, copies: Collection[Instruction]) -> int:
    inputs, outputs = dict.fromkeys(instruction.inputs), instruction.outputs
    made = sum(a.nbytes for a in outputs)
    if instruction.kind == "view":
        return 2 * made if instruction in copies else 0
    if instruction.kind == "take":  # it reads the rows that it copies, and their indices
        return 2 * made + instruction.inputs[1].nbytes
    if instruction.kind == "add_at":  # zeros, then a sum for each row
        x, indices = instruction.inputs
        return made + 3 * x.nbytes + indices.nbytes
    return sum(map(stored, inputs)) + made
