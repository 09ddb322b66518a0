"""Faults in which another value, another part or another order stands where the right one belongs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .candidate import Candidate, by_value, make, of_edits, scaled
from .derivatives import ACTIVATIONS
from .graph import Edit, Graph, Step
from .words import words


def other_factors(graph: Graph, steps: list[Step], k: int) -> Iterator[Candidate]:
    """A product's derivative with some other value of the same step and shape."""
    step = steps[0]
    if step.operator != "mul" or k > 1:
        return
    right = step.input_value(1 - k)
    for role in graph.roles.values():
        value = role[0].value
        if isinstance(value, tuple) or np.shape(value) != np.shape(right) or value is right or len(role) != len(steps):
            continue
        text = words("other_factor", line=step.line, used=role[0].name or role[0].title, at=role[0].line or role[0].name)
        values = {s.index: other.value for s, other in zip(steps, role)}
        edges = [(s, k) for s in steps]
        yield make("factor", text, edges, by_value(values, lambda s, g, v: g * v), 2.0)


def other_matrices(graph: Graph, steps: list[Step], k: int) -> Iterator[Candidate]:
    """A product's derivative through another matrix of the same shape, as it is or transposed."""
    step = steps[-1]
    if step.operator not in ("matmul", "linear") or k != 0:
        return
    right = step.input_value(1)
    if np.ndim(right) != 2:
        return
    for leaf in graph.steps[: len(graph.names)]:
        if np.ndim(leaf.value) != 2 or any(np.array_equal(value, right) for value in (leaf.value, leaf.value.T)):
            continue
        for value in (leaf.value, leaf.value.T):
            if value.shape != right.shape:
                continue
            matrix = value if step.operator == "linear" else value.T
            text = words("other_matrix", op=step.title, name=leaf.name, line=step.line)
            yield make("factor", text, [(s, 0) for s in steps], _through(matrix), 0.3)


def _through(matrix: np.ndarray) -> Edit:
    return lambda step, g, gx: g @ matrix


def other_activations(graph: Graph, steps: list[Step]) -> Iterator[Candidate]:
    """φ' taken at the value of another gate: one with the same activation, the same shape and as many steps."""
    step = steps[-1]
    rule = ACTIVATIONS.get(step.operator, (None, ""))[0]
    if rule is None:
        return
    for role in graph.roles.values():
        other = role[-1]
        if other.role == step.role or other.operator != step.operator or len(role) != len(steps):
            continue
        if np.shape(other.value) == np.shape(step.value):
            values = {s.index: rule(o.input_value(0), o.value) for s, o in zip(steps, role)}
            text = words("other_gate", op=step.title, line=step.line, at=other.line)
            yield make("activation", text, [(s, 0) for s in steps], by_value(values, lambda s, g, slope: g * slope), 1.0)


def other_divisors(graph: Graph, steps: list[Step], k: int) -> Iterator[Candidate]:
    """A mean over another number of things than the forward's."""
    step = steps[-1]
    parent = step.parents[k]
    if k != 0 or parent is None or isinstance(step.value, tuple) or isinstance(parent.value, tuple):
        return
    if step.operator == "mean":
        right = float(parent.value.size // max(1, step.value.size))
    elif step.operator == "div" and np.size(step.input_value(1)) == 1:
        right = float(np.ravel(step.input_value(1))[0])
    else:
        return
    for n in sorted(_counts(graph)):
        if n != right:
            text = words("other_count", n=n, right=f"{right:g}", line=step.line)
            yield make("scale", text, [(s, 0) for s in steps], scaled(right / n), 1.0)


def _counts(graph: Graph) -> set[int]:
    """Lengths of axes, and products of neighbouring ones, of the inputs and of the output."""
    shapes = [graph.output.shape, *(step.value.shape for step in graph.steps[: len(graph.names)])]
    return {int(np.prod(shape[i:j])) for shape in shapes for i in range(len(shape)) for j in range(i + 1, len(shape) + 1)} - {1}


def late_factors(steps: list[Step], k: int) -> Iterator[Candidate]:
    """r ∘ (W h): the factor r applied after W instead of before, on the way to h."""
    step = steps[-1]
    product = step.parents[k]
    if step.operator != "mul" or product is None or product.operator not in ("matmul", "linear") or product.parents[0] is None:
        return
    edits: list[tuple[Step, int, Edit]] = []
    for s in steps:
        below, factor = s.parents[k], s.input_value(1 - k)
        if below is None or below.parents[0] is None or np.shape(factor) != np.shape(below.input_value(0)):
            return
        edits.append((below, 0, _after(factor)))
    yield of_edits("factor", words("late_factor", line=step.line), edits, 1.0)


def _after(factor: Any) -> Edit:
    def edit(step: Step, g: Any, gx: Any) -> Any:
        node = step.node
        return node.operator.backward(node.saved, node.parents, g / factor)[0] * factor

    return edit


def exchanged_parts(graph: Graph) -> Iterator[Candidate]:
    """Parts of one array (the gates of a recurrent cell) whose gradients go to each other's places."""
    for steps in graph.roles.values():
        groups = [_parts(graph, step) for step in steps]
        count = len(groups[0])
        if not 2 <= count <= 4 or any(len(group) != count for group in groups):
            continue
        for order in itertools.permutations(range(count)):
            if order != tuple(range(count)):
                edits = [edit for group in groups for edit in _in_order(group, order)]
                text = words("parts_exchanged", order=", ".join(map(str, order)), line=groups[-1][0].line)
                moved = sum(i != j for i, j in enumerate(order))
                yield of_edits("swap", text, edits, 0.01 * moved)


def _parts(graph: Graph, step: Step) -> list[Step]:
    """The slices of one shape that are cut from ``step``, or ``step`` itself where it is a split into parts of one shape."""
    if step.operator == "split":
        return [step] * len(step.value) if len({part.shape for part in step.value}) == 1 else []
    if isinstance(step.value, tuple):
        return []
    users = [user for user in graph.users(step) if user.operator in ("getitem", "narrow")]
    return users if len({user.value.shape for user in users}) == 1 else []


def _in_order(group: Sequence[Step], order: Sequence[int]) -> list[tuple[Step, int, Edit]]:
    if group[0].operator == "split":
        return [(group[0], 0, _reordered(order))]
    return [(step, 0, _in_place_of(group[order[i]])) for i, step in enumerate(group)]


def _reordered(order: Sequence[int]) -> Edit:
    def edit(step: Step, g: Any, gx: Any) -> Any:
        parts = [g[order.index(i)] for i in range(len(order))]
        return step.node.operator.backward(step.node.saved, step.node.parents, tuple(parts))[0]

    return edit


def _in_place_of(other: Step) -> Edit:
    return lambda step, g, gx: other.node.operator.backward(other.node.saved, other.node.parents, g)[0]
