"""Constant folding: what follows from constants alone is computed now and not at each step.

Zeros of a first state, masks, positions, scalars such as ``1 - beta``: an instruction that reads nothing but constants is run once, here, and
its result becomes a constant itself, unless that is large (a mebibyte) or only repeats its input. Constants with equal elements become one,
so that later passes see that instructions read the same.

>>> from ..program import Array, Instruction, Program
>>> import numpy as np
>>> two, y = Array((), "f4", "two"), Array((), "f4", "y")
>>> folded = constant_folding(Program(constants={two: np.float32(2)}, instructions=[Instruction("map", "exp", [two], [y])], results=[y]))
>>> folded.instructions, [round(float(value), 4) for value in folded.constants.values()]
([], [7.3891])
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..program import Array, Program, run_instruction
from .rewriting import Writer

LARGEST = 2**20
"""Bytes of a result that is still kept as a constant."""

_NEVER = ("random", "call", "group")


def constant_folding(program: Program) -> Program:
    """The program with what depends on constants alone computed."""
    writer = Writer(program)
    seen: dict[tuple[Any, ...], Array] = {}

    def one_for_all(array: Array, value: np.ndarray) -> Array:
        if value.nbytes > LARGEST:
            return array
        return seen.setdefault((value.shape, value.dtype, value.tobytes()), array)

    for array, value in program.constants.items():
        writer.replace(array, one_for_all(array, np.asarray(value)))
    for instruction in writer:
        known = [writer.constants.get(a) for a in instruction.inputs]
        worth = instruction.kind not in _NEVER and instruction.function != "broadcast"
        if worth and known and instruction.output.nbytes <= LARGEST and all([value is not None for value in known]):
            with np.errstate(all="ignore"):
                (value,) = run_instruction(instruction, known)
            value = np.ascontiguousarray(value).reshape(instruction.output.shape)
            writer.replace(instruction.output, one_for_all(writer.constant(value, value.dtype), value))
        else:
            writer.keep(instruction)
    return writer.finished()
