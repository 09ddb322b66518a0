"""The faults that a backward written by hand can have, as edits of the tape's own rules: a term left out, a derivative forgotten, a factor of
another time step. Each is tried in every place of the program where it could be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..core.tape import LEAF, OUTPUT
from .candidate import Candidate, dropped, is_carried, make, of_edits, scaled
from .derivatives import ACTIVATIONS, wrong_activations, wrong_rules
from .graph import Graph, Step
from .in_time import ends, other_times, single_uses, whole_states
from .substitutes import exchanged_parts, late_factors, other_activations, other_divisors, other_factors, other_matrices
from .words import words


def candidates(graph: Graph) -> list[Candidate]:
    """All that are tried, in the order of their ranks."""
    found: list[Candidate] = []
    for steps in graph.roles.values():
        first = steps[0]
        if first.name or first.node.operator is LEAF:
            continue
        for k in range(max(len(step.parents) for step in steps)):
            edges = [step for step in steps if k < len(step.parents) and step.parents[k] is not None]
            if edges:
                found += _at_edge(graph, edges, k)
    found += _softmax_by_hand(graph)
    found += exchanged_parts(graph)
    found += whole_states(graph)
    found += single_uses(graph)
    return sorted(found, key=lambda candidate: candidate.rank)


def _at_edge(graph: Graph, steps: list[Step], k: int) -> Iterator[Candidate]:
    edges = [(step, k) for step in steps]
    step = steps[-1]  # the first one of a loop reads an initial state, the last what they all read
    carried = [(s, k) for s in steps if is_carried(graph, s, k)]
    if carried:
        yield make("time", words("carried", line=step.line), carried, dropped)
        yield make("time", words("carried", line=step.line), edges, dropped, 0.05)  # with the initial state
    if step.node.operator is OUTPUT:
        return
    if len(step.parents) > 1 and step.parents[0] is step.parents[1]:  # a square: both edges are alike
        yield from _rules(step, edges, k)
        if k == 0:
            both = [(s, i) for s in steps for i in (0, 1)]
            yield make("term", words("dropped", op=step.title, input=_input(step, k), line=step.line), both, dropped)
        return
    if len(step.parents) > 1 or step.node.operator.kind == "elementwise":
        place = {"op": step.title, "input": _input(step, k), "line": step.line}
        yield make("twice", words("twice", **place), edges, _twice, _depth(step))
        if not carried:
            yield make("term", words("dropped", **place), edges, dropped, _depth(step))
    close = 0.0 if step.operator in ("sub", "neg") and (k == 1 or step.operator == "neg") else 0.3
    yield make(
        "sign", words("sign", op=step.title, input=_input(step, k), line=step.line), edges, _negative, close + _depth(step)
    )
    if step.operator in ACTIVATIONS:
        for text, rank, edit in wrong_activations(step):
            yield make("activation", text, edges, edit, rank)
    yield from _rules(step, edges, k)
    yield from _scales(step, edges, k)
    yield from other_times(graph, steps, k)
    yield from other_factors(graph, steps, k)
    yield from other_matrices(graph, steps, k)
    yield from other_activations(graph, steps)
    yield from other_divisors(graph, steps, k)
    yield from late_factors(steps, k)
    if step.operator in ("stack", "cat") and k == 0 and len(step.parents) > 1:
        yield from ends(step)


def _rules(step: Step, edges: list[tuple[Step, int]], k: int) -> Iterator[Candidate]:
    for kind, text, rank, edit in wrong_rules(step, k):
        yield make(kind, text, edges, edit, rank)


def _depth(step: Step) -> float:
    """Of two places in a chain that explain the same, the one nearer to the output is named."""
    return 0.1 / (2 + step.index)


def _input(step: Step, k: int) -> str:
    operator = step.node.operator
    return operator.input_name(k)


def _twice(step: Step, g: Any, gx: Any) -> Any:
    return 2 * gx


def _negative(step: Step, g: Any, gx: Any) -> Any:
    return -gx


def _scales(step: Step, edges: list[tuple[Step, int]], k: int) -> Iterator[Candidate]:
    """A mean for a sum or the other way round, where this rule sums or divides."""
    parent = step.parents[k]
    y = step.value
    shape = parent.value.shape if parent is not None and not isinstance(parent.value, tuple) else ()
    if isinstance(y, tuple):
        return
    sizes: dict[int, str] = {}
    if step.operator in ("mean", "sum"):
        sizes[max(1, int(np.prod(shape)) // max(1, y.size))] = step.operator
    elif y.shape != shape and y.size > int(np.prod(shape)):
        sizes[y.size // max(1, int(np.prod(shape)))] = "sum"
    for n, what in sizes.items():
        if n > 1:
            factor = float(n) if what == "mean" else 1.0 / n
            key = "mean_left_out" if what == "mean" else "mean_for_sum"
            yield make("scale", words(key, n=n, op=step.title, line=step.line), edges, scaled(factor))


def _softmax_by_hand(graph: Graph) -> Iterator[Candidate]:
    """e / Σ e with each element's own part of the sum only."""
    for steps in graph.roles.values():
        step = steps[0]
        if step.operator != "div" or None in step.parents:
            continue
        e, total = step.parents
        if total.operator == "sum" and total.parents[0] is e:  # type: ignore[union-attr]
            edits = [(s, 0, _own_part) for s in steps] + [(s, 1, dropped) for s in steps]
            yield of_edits("term", words("softmax_diagonal", line=step.line), edits, -0.2)


def _own_part(step: Step, g: Any, gx: Any) -> Any:
    return gx - g * step.value / step.input_value(1)
