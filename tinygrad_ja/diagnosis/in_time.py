"""Faults of recurrent networks: what should come back from the next step, values of another step, one step's part for the sum of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .candidate import Candidate, by_value, dropped, is_carried, make, scaled
from .derivatives import ACTIVATIONS, Rule
from .graph import Graph, Step
from .words import words


def whole_states(graph: Graph) -> Iterator[Candidate]:
    """Everything that leads from one step to the next through one state, and all of it together."""
    by_state: dict[int, list[tuple[Step, int]]] = {}
    for step in graph.steps:
        for k in range(len(step.parents)):
            if is_carried(graph, step, k):
                by_state.setdefault(step.parents[k].role, []).append((step, k))  # type: ignore[union-attr]
    every = [edge for edges in by_state.values() for edge in edges]
    for role, edges in by_state.items():
        if len({(step.role, k) for step, k in edges}) > 1:
            yield make("time", words("state_cut", line=graph.roles[role][0].line), edges, dropped, -0.2)
    if len(by_state) > 1:
        yield make("time", words("all_cut"), every, dropped, -0.1)


def single_uses(graph: Graph) -> Iterator[Candidate]:
    """A parameter that is used at every step gets the part of one step alone: ``=`` was written for ``+=``."""
    for step in graph.steps:
        if not step.name:
            continue
        uses = [(user, k) for user in graph.steps for k, parent in enumerate(user.parents) if parent is step]
        roles = {(user.role, k) for user, k in uses}
        if len(roles) == 1 and len(uses) > 1:
            yield make("time", words("only_step", name=step.name, which=("first", "最初")), uses[1:], dropped, 0.1)
            yield make("time", words("only_step", name=step.name, which=("last", "最後")), uses[:-1], dropped, 0.1)
            share = scaled(1.0 / len(uses))
            yield make("scale", words("mean_over_time", name=step.name, n=len(uses)), uses, share, 0.2)


def ends(step: Step) -> Iterator[Candidate]:
    """Only the output gradient of the last (or the first) step is used."""
    several = [(step, k) for k in range(len(step.parents)) if step.parents[k] is not None]
    yield make("time", words("only_last_output", line=step.line), several[:-1], dropped, 0.2)
    yield make("time", words("only_first_output", line=step.line), several[1:], dropped, 0.3)


def other_times(graph: Graph, steps: list[Step], k: int) -> Iterator[Candidate]:
    """The value that the rule multiplies with, taken from the step after or before."""
    step = steps[-1]
    if len(steps) < 2:
        return
    if step.operator in ACTIVATIONS:
        for shift in (1, -1):
            values = _shifted([s.value for s in steps], shift)
            if shift < 0:
                values[0] = _before_first(graph, steps, values[0])
            rule = ACTIVATIONS[step.operator][0]
            if rule is not None:
                yield make(
                    "state",
                    words(_when(shift), line=step.line, op=step.title),
                    [(s, k) for s in steps],
                    by_value({s.index: v for s, v in zip(steps, values)}, _with_other_output(rule)),
                )
        return
    if step.operator not in ("mul", "matmul", "linear") or k > 1 or (step.operator == "linear" and k != 1):
        return
    other = 1 - k
    for shift in (1, -1):
        series = _series(graph, steps, other, shift)
        if series is not None:
            edit = by_value({s.index: v for s, v in zip(steps, series)}, _product_rule(step.operator, k))
            yield make("state", words(_when(shift), line=step.line, op=step.title), [(s, k) for s in steps], edit)


def _with_other_output(rule: Rule) -> Callable[[Step, Any, Any], Any]:
    return lambda step, g, y: g * rule(step.input_value(0), y)


def _before_first(graph: Graph, steps: list[Step], otherwise: Any) -> Any:
    """The output of an activation at the step before the first: the initial state, or the activation of it."""
    initial = _initial(graph, steps[0].role)
    if initial is not None:
        return initial
    parent = steps[0].parents[0]
    initial = None if parent is None else _initial(graph, parent.role)
    return otherwise if initial is None else steps[0].node.operator.public(initial)


def _initial(graph: Graph, role: int) -> Any:
    """What the first step reads where the others read the state that ``role`` made one step before."""
    for user in graph.steps:
        for k, parent in enumerate(user.parents):
            if parent is not None and parent.role == role and is_carried(graph, user, k):
                return graph.roles[user.role][0].input_value(k)
    return None


def _when(shift: int) -> str:
    return "state_after" if shift > 0 else "state_before"


def _series(graph: Graph, steps: list[Step], other: int, shift: int) -> list[Any] | None:
    """The values of one input of each occurrence, shifted in time; None when they do not change with time or do not line up."""
    values = [s.input_value(other) for s in steps]
    if any(v is None or np.shape(v) != np.shape(values[0]) for v in values) or all(v is values[0] for v in values):
        return None
    parents = [s.parents[other] for s in steps]
    last = parents[-1]
    if shift > 0 and last is not None and not last.name and is_carried(graph, steps[-1], other):
        return [*values[1:], graph.roles[last.role][-1].value]  # the state after the last step
    return _shifted(values, shift)


def _shifted(values: list[Any], shift: int) -> list[Any]:
    return [*values[1:], values[0]] if shift > 0 else [values[-1], *values[:-1]]


def _product_rule(operator: str, k: int) -> Callable[[Step, Any, Any], Any]:
    """The derivative of a product by input ``k`` with another value ``v`` of the other input."""
    if operator == "mul":
        return lambda step, g, v: g * v
    if operator == "linear":
        return lambda step, g, v: np.swapaxes(g, -1, -2) @ v
    if k == 0:
        return lambda step, g, v: g @ np.swapaxes(v, -1, -2)
    return lambda step, g, v: np.swapaxes(v, -1, -2) @ g
