"""One possible fault, and the pieces that all of them are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.tape import OUTPUT
from .graph import Edit, Graph, Step
from .words import Words


class Candidate(NamedTuple):
    """One possible fault.

    kind: a key of ``words.KINDS``. text: what is wrong. step: a place where it is (for its operator and line). edits: how the walk changes.
    affected: names of the inputs whose gradients change. rank: which of several that explain the same is named first, lowest first.
    """

    kind: str
    text: Words
    step: Step
    edits: Mapping[tuple[int, int], Edit]
    affected: frozenset[str]
    rank: float


RANKS = {
    "transpose": 2.0,
    "time": 3.0,
    "activation": 4.0,
    "scale": 5.0,
    "sign": 5.5,
    "state": 6.0,
    "swap": 7.0,
    "factor": 8.0,
    "term": 9.0,
    "twice": 10.0,
}
"""Of several kinds that give the same gradients, the more usual mistake is named first."""


def make(kind: str, text: Words, edges: Sequence[tuple[Step, int]], edit: Edit, rank: float = 0.0) -> Candidate:
    """A fault that is the same at all edges: pairs of a step and the number of its input."""
    return of_edits(kind, text, [(step, k, edit) for step, k in edges], rank)


def of_edits(kind: str, text: Words, edits: Sequence[tuple[Step, int, Edit]], rank: float) -> Candidate:
    """A fault with an edit of its own at each edge."""
    reached = [step.parents[k].reaches for step, k, _ in edits]  # type: ignore[union-attr]
    keys = {(step.index, k): edit for step, k, edit in edits}
    return Candidate(kind, text, edits[-1][0], keys, frozenset().union(*reached), RANKS[kind] + rank)


def dropped(step: Step, g: Any, gx: Any) -> Any:
    """Nothing is sent."""
    return np.zeros_like(gx)


def scaled(factor: float) -> Edit:
    """The gradient times a constant."""
    return lambda step, g, gx: gx * factor


def by_value(values: Mapping[int, Any], rule: Callable[[Step, Any, Any], Any]) -> Edit:
    """``rule(step, g, value)`` with a value for each step, by the step's index."""
    return lambda step, g, gx: rule(step, g, values[step.index])


def is_carried(graph: Graph, step: Step, k: int) -> bool:
    """True when this input comes from the step before: an occurrence of a role that the step itself leads to."""
    parent = step.parents[k]
    if parent is None or parent.name or parent.node.operator is OUTPUT:
        return False
    times = len(graph.roles[step.role])
    return times > 1 and len(graph.roles[parent.role]) == times and parent.occurrence == step.occurrence - 1
