"""Common subexpressions: the same function of the same arrays is computed once.

Each instruction gets a key of its function, inputs, options and result; one whose key was seen before is dropped, and its readers read the
earlier result. Since arrays never change, equal keys mean equal elements. The derivative of tanh, g (1 - y²), and that of a second reader
of y both square y; the transposed weight of an RNN is made at each time step. A sum or product of two is the same in either order. Random
draws are never the same, and calls may do what they like.

>>> from ..program import Array, Instruction, Program
>>> x, a, b, y = (Array((2,), "f4", name) for name in "xaby")
>>> twice = [Instruction("map", "exp", [x], [a]), Instruction("map", "exp", [x], [b]), Instruction("map", "add", [a, b], [y])]
>>> common_subexpressions(Program([x], instructions=twice, results=[y])).instructions
[a = exp(x), y = add(a, a)]
"""

from __future__ import annotations

from typing import Any

from ..program import Array, Program
from .rewriting import Writer, frozen

_OWN = ("random", "call", "group")
_EITHER_ORDER = ("add", "multiply")


def common_subexpressions(program: Program) -> Program:
    """The program in which no two instructions compute the same."""
    writer = Writer(program)
    seen: dict[tuple[Any, ...], Array] = {}
    for instruction in writer:
        if instruction.kind in _OWN:
            writer.keep(instruction)
            continue
        inputs = [id(a) for a in instruction.inputs]
        if instruction.function in _EITHER_ORDER:
            inputs.sort()
        output = instruction.output
        key = (instruction.function, tuple(inputs), frozen(instruction.options), output.shape, output.dtype)
        if key in seen:
            writer.replace(output, seen[key])
        else:
            seen[key] = output
            writer.keep(instruction)
    return writer.finished()
