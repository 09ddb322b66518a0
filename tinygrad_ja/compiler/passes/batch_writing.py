"""Writing one instruction in place of several like it.

There are two ways. The rows of all members become the rows of one array (t n, ...), for products and element-wise functions of matrices, also
where the numbers of rows differ. Or the members' operands are stacked along a new first axis (t, ...), and every option that counts axes is
moved by one.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..program import Array, Instruction
from .rewriting import Writer
from .stacking import Plan, Stacks


def row_shapes(i: Instruction, shared: Sequence[bool]) -> tuple[tuple[int, ...], ...] | None:
    """The shapes of an instruction's inputs with -1 for the rows, where its rows do not depend on each other and it may have any number of
    them; else None. ``shared``: which inputs are the same for all such instructions.

    >>> x, w, y = Array((5, 2), "f4"), Array((2, 3), "f4"), Array((5, 3), "f4")
    >>> row_shapes(Instruction("matmul", "matmul", [x, w], [y]), [False, True])
    ((-1, 2), (2, 3))
    """
    first, output = i.inputs[0], i.output
    if i.kind == "matmul":
        free = first.ndim == 2 and list(shared) == [False, True]
    elif i.function == "take":
        free = i.kind == "take" and i.options["axis"] == 0 and i.inputs[1].ndim == 1
    elif i.kind == "map":
        free = True
    elif i.kind == "reduce":
        free = first.ndim > 1 and 0 not in [a % first.ndim for a in i.options["axes"]]
    elif i.kind in ("scan", "join") or i.function == "take_along_axis":
        free = first.ndim > 1 and i.options["axis"] % first.ndim != 0
    else:
        free = False
    if not free or not output.ndim:
        return None
    shapes = []
    for a, fixed in zip(i.inputs, shared):
        whole = a.ndim and a.shape[0] == output.shape[0] and (i.kind != "map" or a.ndim == output.ndim)
        if not fixed and whole:
            shapes.append((-1, *a.shape[1:]))
        elif fixed or (i.kind == "map" and not a.ndim) or (i.function == "take" and a is first):
            shapes.append(a.shape)
        else:
            return None
    return tuple(shapes)


def write_rows(
    stacks: Stacks, members: Sequence[Instruction], columns: Sequence[Sequence[Array]], plans: Sequence[Plan | None]
) -> Array:
    """The rows of all members as the rows of one instruction. ``columns``: the members' first inputs, their second ones, ...;
    ``plans``: None for a column whose arrays are all the same."""
    first = members[0]
    operands = [column[0] if plan is None else stacks.make_rows(plan, column) for plan, column in zip(plans, columns)]
    shape = (sum([i.output.shape[0] for i in members]), *first.output.shape[1:])
    return stacks.writer.add(first.kind, first.function, operands, shape, first.output.dtype, **first.options)


def flat(writer: Writer, stack: Array) -> Array:
    """A stack (t, n, ...) as (t n, ...)."""
    return writer.reshape(stack, (stack.shape[0] * stack.shape[1], *stack.shape[2:]))


class StackedInstruction:
    """Writes ``count`` instructions like ``first`` as one."""

    def __init__(self, writer: Writer, first: Instruction, count: int) -> None:
        self.writer = writer
        self.first = first
        self.count = count

    def write(self, operands: list[Array], stacked: list[bool]) -> Array | None:
        """The result (count, ...), or with the first two axes as one; ``operands``: stacks, and what all members share."""
        first, output = self.first, self.first.output
        options = dict(first.options)
        as_rows = output.ndim > 1 and self._can_be_flat(operands, stacked)
        if as_rows:
            operands = [flat(self.writer, a) if on else a for a, on in zip(operands, stacked)]
        elif first.kind == "map":
            operands = [self._padded(a, output.ndim) if on else a for a, on in zip(operands, stacked)]
        elif first.kind in ("join", "matmul") or not all(stacked):
            if first.kind == "take" and first.function == "take":
                if stacked[0]:
                    return None
            else:
                operands = [a if on else self._repeated(a) for a, on in zip(operands, stacked)]
        if not as_rows and first.kind == "reduce":
            options["axes"] = tuple([a % first.inputs[0].ndim + 1 for a in options["axes"]])
        elif not as_rows and "axis" in options and first.function != "take":
            options["axis"] = options["axis"] % first.inputs[0].ndim + 1
        elif not as_rows and "key" in options:
            options["key"] = (slice(0, self.count, 1), *options["key"])
        shape = (self.count * output.shape[0], *output.shape[1:]) if as_rows else (self.count, *output.shape)
        return self.writer.add(first.kind, first.function, operands, shape, output.dtype, **options)

    def _can_be_flat(self, operands: list[Array], stacked: list[bool]) -> bool:
        """Whether the rows of all members can be the rows of one array."""
        first, output = self.first, self.first.output
        if first.kind == "matmul":
            return stacked == [True, False]
        if first.kind == "map":
            whole = [a.ndim == output.ndim + 1 and a.shape[1] == output.shape[0] for a, on in zip(operands, stacked) if on]
            shared = [a.ndim < output.ndim or a.shape[0] == 1 for a, on in zip(operands, stacked) if not on]
            return all(whole) and all(shared)
        if not all(stacked) or first.inputs[0].ndim < 2:
            return False
        if first.kind == "reduce":
            return 0 not in [a % first.inputs[0].ndim for a in first.options["axes"]]
        if first.kind in ("scan", "join") or first.function == "take_along_axis":
            return first.options["axis"] % first.inputs[0].ndim != 0 and output.shape[0] == first.inputs[-1].shape[0]
        return False

    def _padded(self, x: Array, ndim: int) -> Array:
        """A stack whose parts have ``ndim`` axes, the new ones in front of the parts' own."""
        return self.writer.reshape(x, (self.count, *(1,) * (ndim + 1 - x.ndim), *x.shape[1:]))

    def _repeated(self, x: Array) -> Array:
        return self.writer.broadcast(self.writer.reshape(x, (1, *x.shape)), (self.count, *x.shape))
