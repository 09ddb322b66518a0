"""Dead code: what nobody reads is not computed.

A recording holds everything that ran: values that were only printed in an eager run, gradients of inputs that nobody asked for, views. From
the results and the writes backwards, an instruction lives if one of its outputs is read by something that lives. Random draws always live,
since the numbers that come after them depend on how many were drawn before.

>>> from ..program import Array, Instruction, Program
>>> x, y, z = (Array((2,), "f4", name) for name in "xyz")
>>> unread = Instruction("map", "exp", [x], [z])
>>> dead_code(Program([x], instructions=[Instruction("map", "sin", [x], [y]), unread], results=[y])).instructions
[y = sin(x)]
"""

from __future__ import annotations

from ..program import Program
from .rewriting import with_instructions


def dead_code(program: Program) -> Program:
    """The program without instructions whose outputs nobody reads."""
    read = set(program.wanted)
    living = []
    for instruction in reversed(program.instructions):
        if instruction.kind == "random" or any([output in read for output in instruction.outputs]):
            living.append(instruction)
            read.update(instruction.inputs)
    return program if len(living) == len(program.instructions) else with_instructions(program, living[::-1])
