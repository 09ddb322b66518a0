"""Sums of many terms, written as few instructions: products and reductions that only the sum reads are done over all terms at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..program import Array, Instruction
from .products import swapped
from .rewriting import Writer, frozen, is_plain
from .stacking import Plan, Stacks

STARTING = 16384
"""Bytes that could be copied in the time that an instruction saves by not being run."""


def kind_of_term(i: Instruction, made: dict[Array, Instruction], weights: Callable[[Array], bool]) -> Any:
    """What terms like the output of ``i`` have in common, None where they cannot be summed at once. ``made``: array -> the instruction that
    makes it. ``weights``: whether an array was there before the step."""
    shapes = tuple([a.shape for a in i.inputs])
    if i.kind == "matmul" and len(shapes[0]) == len(shapes[1]) == 2:
        a, b = i.inputs
        if weights(a) or (weights(b) and a.shape[1] > 1):
            return None
        turned = a in made and made[a].function == "transpose"
        return ("matmul", a.shape[0], b.shape[1]) if turned or 1 in a.shape else None
    if i.kind == "reduce" and i.function == "sum" and i.inputs[0].dtype == i.output.dtype:
        rows = 0 in [a % i.inputs[0].ndim for a in i.options["axes"]]
        return ("reduce", shapes[0][1:] if rows else shapes[0], len(shapes[0]), frozen(i.options))
    if i.kind == "add_at" and i.function == "take" and i.options["axis"] == 0 and len(shapes[1]) == 1:
        return ("add_at", i.inputs[1].dtype)
    if i.kind == "place" and placed_row(i) is not None:
        return ("place", *shapes)
    return None


def placed_row(place: Instruction) -> int | None:
    """The row into which a place writes, if it is one whole row."""
    key, output = place.options["key"], place.output
    if not is_plain(key, output.ndim) or output.ndim < 2 or place.inputs[0].shape != (1, *output.shape[1:]):
        return None
    return key[0].start if key[0].stop == key[0].start + 1 else None


def sum_of_parts(stacks: Stacks, parts: Sequence[Array]) -> list[Array]:
    """Fewer terms of the same sum: those that lie in one array, one behind the other, are summed by one reduction."""
    by_root: dict[Array, list[tuple[int, Array]]] = {}
    for part in parts:
        root, offset = stacks.at(part)
        by_root.setdefault(root, []).append((offset, part))
    for entries in by_root.values():
        entries.sort(key=lambda entry: entry[0])
    groups = [[part for _, part in entries] for entries in by_root.values()]
    if len(parts) > 2 * len(groups):  # all of them, where they come from a few batches
        groups = [[part for arrays in groups for part in arrays]]
    made = []
    for arrays in groups:
        plan = stacks.plan(arrays) if len(arrays) > 2 else None
        alone = plan is not None and plan.how == "join" and len(by_root) == len(parts)
        if plan is None or alone or plan.cost > (len(arrays) - 1) * STARTING:
            made.extend(arrays)
            continue
        stack = stacks.make(plan, arrays)
        made.append(stacks.writer.add("reduce", "sum", (stack,), stack.shape[1:], stack.dtype, axes=(0,), keepdims=False))
    return made


def write_terms(stacks: Stacks, leaves: Sequence[Instruction], inputs: Sequence[Sequence[Array]]) -> Array | None:
    """The sum of the outputs of instructions of one kind, None where stacking costs more than it saves."""
    kind = leaves[0].kind
    if kind == "matmul":
        return _sum_of_products(stacks, inputs)
    if kind == "reduce":
        return _sum_of_sums(stacks, leaves, [x for (x,) in inputs])
    return _sum_of_rows(stacks, leaves, inputs)


def _sum_of_products(stacks: Stacks, inputs: Sequence[Sequence[Array]]) -> Array | None:
    """Σ aₜ bₜ = [a₁ᵀ; a₂ᵀ; ...]ᵀ [b₁; b₂; ...], the terms in the order in which they can be stacked most cheaply."""
    writer: Writer = stacks.writer
    rows = [(swapped(writer, a), b) for a, b in inputs]
    orders = [rows, *[_by_place(stacks, rows, side) for side in (0, 1)]]
    choices: list[tuple[list[Plan], list[list[Array]]]] = []
    for order in orders:
        sides = [list(side) for side in zip(*order)]
        choices.append(([stacks.plan_rows(side) for side in sides], sides))
    plans, sides = min(choices, key=lambda choice: sum([plan.cost for plan in choice[0]]))
    (m, n), item = (inputs[0][0].shape[0], inputs[0][1].shape[1]), inputs[0][0].dtype.itemsize
    if sum([plan.cost for plan in plans]) > (len(inputs) - 1) * (8 * STARTING + 3 * m * n * item):
        return None
    left, right = [stacks.make_rows(plan, side) for plan, side in zip(plans, sides)]
    return writer.add("matmul", "matmul", (writer.transpose(left, (1, 0)), right), (m, n), left.dtype)


def _by_place(stacks: Stacks, rows: list[tuple[Array, Array]], side: int) -> list[tuple[Array, Array]]:
    places = [stacks.at(pair[side]) for pair in rows]
    first = {root: k for k, (root, _) in reversed(list(enumerate(places)))}
    return [rows[k] for k in sorted(range(len(rows)), key=lambda k: (first[places[k][0]], places[k][1]))]


def _sum_of_sums(stacks: Stacks, leaves: Sequence[Instruction], arrays: list[Array]) -> Array | None:
    """Σ sum(xₜ) = sum([x₁; x₂; ...])."""
    output, ndim = leaves[0].output, arrays[0].ndim
    axes = tuple([a % ndim for a in leaves[0].options["axes"]])
    plan_of = stacks.plan_rows if 0 in axes else stacks.plan
    by_place = sorted(range(len(arrays)), key=lambda k: stacks.at(arrays[k])[1])
    choices = [(plan_of(a), a) for a in (arrays, [arrays[k] for k in by_place])]
    plan, arrays = min(choices, key=lambda choice: choice[0].cost)
    if plan.cost > (len(leaves) - 1) * 2 * STARTING:
        return None
    if 0 in axes:
        stack = stacks.make_rows(plan, arrays)
    else:
        stack, axes = stacks.make(plan, arrays), (0, *[a + 1 for a in axes])
    shape = [n for a, n in enumerate(stack.shape) if a not in axes]
    total = stacks.writer.add("reduce", "sum", (stack,), shape, stack.dtype, axes=axes, keepdims=False)
    return stacks.writer.reshape(total, output.shape)


def _sum_of_rows(stacks: Stacks, leaves: Sequence[Instruction], inputs: Sequence[Sequence[Array]]) -> Array | None:
    """Rows that are added to zeros at indices, several times, are added once."""
    writer, output = stacks.writer, leaves[0].output
    rows = [x for x, *_ in inputs]
    plan = stacks.plan_rows(rows)
    if plan.cost > (len(leaves) - 1) * (2 * STARTING + 3 * output.nbytes):
        return None
    stack = stacks.make_rows(plan, rows)
    if leaves[0].kind == "place":
        indices = writer.constant([placed_row(i) for i in leaves], "i8")
    else:
        columns = [index for _, index in inputs]
        indices = stacks.make_rows(stacks.plan_rows(columns), columns)
    return writer.add("add_at", "take", (stack, indices), output.shape, output.dtype, axis=0)
