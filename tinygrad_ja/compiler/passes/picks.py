"""Picks as sums: one element of each row is found by comparing, where the comparison is made anyway.

Cross entropy takes the score of the right class from each row, and its gradient subtracts 1 at the same places, which is a comparison of the
class with 0, 1, 2, ... As a sum over the row,

    x[n, class n]     ->     Σᵥ where(class n = v, x[n, v], 0)

the pick belongs to the loop that computes scores, softmax and gradient, and the scores need not be written to memory for it. No bit changes:
everything else in the sum is zero.
"""

from __future__ import annotations

import numpy as np

from ..program import Array, Instruction, Program
from .rewriting import Writer


def picks_as_sums(program: Program) -> Program:
    """The program with ``take_along_axis`` as a sum where its index is compared with all positions as well."""
    made = {output: i for i in program.instructions for output in i.outputs}

    def chosen(array: Array) -> Array:
        """What an index is a reshape or a cast of."""
        while (maker := made.get(array)) is not None and maker.function in ("reshape", "cast"):
            (array,) = maker.inputs
        return array

    compared: dict[tuple[Array, tuple[int, ...]], Array] = {}
    for i in program.instructions:
        if i.function == "equal" and i.inputs[1] in program.constants and i.output.ndim:
            positions = program.constants[i.inputs[1]]
            if positions.size == i.output.shape[-1] and np.array_equal(positions.reshape(-1), np.arange(positions.size)):
                compared[(chosen(i.inputs[0]), i.output.shape)] = i.inputs[1]
    if not compared:
        return program
    writer = Writer(program)
    for old, i in zip(program.instructions, writer):
        positions_of = compared.get((chosen(old.inputs[1]), old.inputs[0].shape)) if _is_pick(old, made) else None
        if positions_of is None:
            writer.keep(i)
        else:
            x, index = i.inputs
            at = writer.now(positions_of)
            like = index if index.dtype == at.dtype else writer.add("map", "cast", (index,), index.shape, at.dtype)
            mask = writer.add("map", "equal", (like, at), x.shape, np.bool_)
            kept = writer.add("map", "where", (mask, x, writer.constant(0, x.dtype)), x.shape, x.dtype)
            axes = (x.ndim - 1,)
            total = writer.add("reduce", "sum", (kept,), i.output.shape, x.dtype, axes=axes, keepdims=True)
            writer.replace(i.output, total)
    return writer.finished()


def _is_pick(i: Instruction, made: dict[Array, Instruction]) -> bool:
    """Whether an instruction takes one element from each row of what a function has computed."""
    if i.function != "take_along_axis" or i.kind != "take" or i.options["axis"] % i.output.ndim != i.output.ndim - 1:
        return False
    x, index = i.inputs
    maker = made.get(x)
    fits = index.shape == (*x.shape[:-1], 1) and x.dtype.kind == "f"
    return fits and maker is not None and maker.kind == "map"
