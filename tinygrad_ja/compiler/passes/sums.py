"""Sums of many terms: chains of ``add`` as one list.

The tape adds cotangents pairwise, in the order of its walk; so do loops that add up losses. What matters is that the terms of such a sum are
independent of it and of its partial sums: they may be added in any order, in one reduction, or inside of one matrix product.
"""

from __future__ import annotations

from ..program import Array, Instruction, Program


class Sum:
    """The terms of a sum, from left to right, the additions that make it, and the array that it is."""

    __slots__ = ("output", "terms", "adds")

    def __init__(self, output: Array, terms: list[Array], adds: list[Instruction]) -> None:
        self.output = output
        self.terms = terms
        self.adds = adds


def sums_of(program: Program) -> dict[Instruction, Sum]:
    """Last addition -> the sum of at least 3 terms that it completes. Partial sums have one reader, and all have one shape and dtype.

    >>> arrays = [Array((2,), "f4", name) for name in "xyzab"]
    >>> x, y, z, a, b = arrays
    >>> adds = [Instruction("map", "add", [x, y], [a]), Instruction("map", "add", [z, a], [b])]
    >>> [found.terms for found in sums_of(Program([x, y, z], instructions=adds, results=[b])).values()]
    [[z, x, y]]
    """
    readers: dict[Array, int] = {}
    for instruction in program.instructions:
        for array in instruction.inputs:
            readers[array] = readers.get(array, 0) + 1
    for array in program.wanted:
        readers[array] = readers.get(array, 0) + 1
    adds = {i.output: i for i in program.instructions if i.function == "add" and _is_uniform(i)}
    inner = {a for i in adds.values() for a in i.inputs if a in adds and readers[a] == 1}
    found = {}
    for output, last in adds.items():
        if output in inner:
            continue
        terms, parts, waiting = [], [], [output]
        while waiting:
            array = waiting.pop()
            if array is output or array in inner:
                parts.append(adds[array])
                waiting.extend(adds[array].inputs[::-1])
            else:
                terms.append(array)
        if len(terms) > 2:
            found[last] = Sum(output, terms, parts)
    return found


def _is_uniform(add: Instruction) -> bool:
    output = add.output
    return output.dtype.kind in "fiu" and all([a.shape == output.shape and a.dtype == output.dtype for a in add.inputs])
