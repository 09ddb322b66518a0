"""The faults that a backward written by hand can have, as edits of the tape's own rules: a term left out, a derivative forgotten, a factor of
another time step. Each is tried in every place of the program where it could be."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.tape import LEAF, OUTPUT
from .derivatives import ACTIVATIONS, Rule, wrong_activations, wrong_rules
from .graph import Edit, Graph, Step
from .words import Words, words


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
    "time": 3.0,
    "activation": 4.0,
    "scale": 5.0,
    "state": 6.0,
    "swap": 7.0,
    "transpose": 2.0,
    "sign": 5.5,
    "factor": 8.0,
    "term": 9.0,
}
RANKS["twice"] = 10.0


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
    found += _exchanged_parts(graph)
    found += _whole_states(graph)
    found += _single_uses(graph)
    return sorted(found, key=lambda candidate: candidate.rank)


def _make(kind: str, text: Words, edges: Sequence[tuple[Step, int]], edit: Edit, rank: float = 0.0) -> Candidate:
    return _of_edits(kind, text, [(step, k, edit) for step, k in edges], rank)


def _of_edits(kind: str, text: Words, edits: Sequence[tuple[Step, int, Edit]], rank: float) -> Candidate:
    reached = [step.parents[k].reaches for step, k, _ in edits]  # type: ignore[union-attr]
    keys = {(step.index, k): edit for step, k, edit in edits}
    return Candidate(kind, text, edits[-1][0], keys, frozenset().union(*reached), RANKS[kind] + rank)


# ---- one place of the program, at all of its occurrences ---------------------------------------------


def _at_edge(graph: Graph, steps: list[Step], k: int) -> Iterator[Candidate]:
    edges = [(step, k) for step in steps]
    step = steps[-1]  # the first one of a loop reads an initial state, the last what they all read
    carried = [(s, k) for s in steps if _is_carried(graph, s, k)]
    if carried:
        yield _make("time", words("carried", line=step.line), carried, _dropped)
        yield _make("time", words("carried", line=step.line), edges, _dropped, 0.05)  # with the initial state
    if step.node.operator is OUTPUT:
        return
    if len(step.parents) > 1 and step.parents[0] is step.parents[1]:  # a square: both edges are alike
        yield from _rules(step, edges, k)
        if k == 0:
            both = [(s, i) for s in steps for i in (0, 1)]
            yield _make("term", words("dropped", op=step.title, input=_input(step, k), line=step.line), both, _dropped)
        return
    if len(step.parents) > 1 or step.node.operator.kind == "elementwise":
        place = {"op": step.title, "input": _input(step, k), "line": step.line}
        yield _make("twice", words("twice", **place), edges, _twice, _depth(step))
        if not carried:
            yield _make("term", words("dropped", **place), edges, _dropped, _depth(step))
    close = 0.0 if step.operator in ("sub", "neg") and (k == 1 or step.operator == "neg") else 0.3
    yield _make(
        "sign", words("sign", op=step.title, input=_input(step, k), line=step.line), edges, _negative, close + _depth(step)
    )
    if step.operator in ACTIVATIONS:
        for text, rank, edit in wrong_activations(step):
            yield _make("activation", text, edges, edit, rank)
    yield from _rules(step, edges, k)
    yield from _scales(step, edges, k)
    yield from _other_times(graph, steps, k)
    yield from _other_factors(graph, steps, k)
    if step.operator in ("stack", "cat") and k == 0 and len(step.parents) > 1:
        yield from _ends(step)


def _rules(step: Step, edges: list[tuple[Step, int]], k: int) -> Iterator[Candidate]:
    for kind, text, rank, edit in wrong_rules(step, k):
        yield _make(kind, text, edges, edit, rank)


def _depth(step: Step) -> float:
    """Of two places in a chain that explain the same, the one nearer to the output is named."""
    return 0.1 / (2 + step.index)


def _input(step: Step, k: int) -> str:
    operator = step.node.operator
    return operator.input_name(k)


def _dropped(step: Step, g: Any, gx: Any) -> Any:
    return np.zeros_like(gx)


def _twice(step: Step, g: Any, gx: Any) -> Any:
    return 2 * gx


def _negative(step: Step, g: Any, gx: Any) -> Any:
    return -gx


def _is_carried(graph: Graph, step: Step, k: int) -> bool:
    """True when this input comes from the step before: an occurrence of a role that the step itself leads to."""
    parent = step.parents[k]
    if parent is None or parent.name or parent.node.operator is OUTPUT:
        return False
    times = len(graph.roles[step.role])
    return times > 1 and len(graph.roles[parent.role]) == times and parent.occurrence == step.occurrence - 1


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
            yield _make("scale", words(key, n=n, op=step.title, line=step.line), edges, _scaled(factor))


def _scaled(factor: float) -> Edit:
    return lambda step, g, gx: gx * factor


def _ends(step: Step) -> Iterator[Candidate]:
    """Only the output gradient of the last (or the first) step is used."""
    several = [(step, k) for k in range(len(step.parents)) if step.parents[k] is not None]
    yield _make("time", words("only_last_output", line=step.line), several[:-1], _dropped, 0.2)
    yield _make("time", words("only_first_output", line=step.line), several[1:], _dropped, 0.3)


def _softmax_by_hand(graph: Graph) -> Iterator[Candidate]:
    """e / Σ e with each element's own part of the sum only."""
    for steps in graph.roles.values():
        step = steps[0]
        if step.operator != "div" or None in step.parents:
            continue
        e, total = step.parents
        if total.operator == "sum" and total.parents[0] is e:  # type: ignore[union-attr]
            edits = [(s, 0, _own_part) for s in steps] + [(s, 1, _dropped) for s in steps]
            yield _of_edits("term", words("softmax_diagonal", line=step.line), edits, -0.2)


def _exchanged_parts(graph: Graph) -> Iterator[Candidate]:
    """Gates that take each other's gradient where one product is split into them."""
    for steps in graph.roles.values():
        step = steps[0]
        if step.operator != "split" or len(step.value) > 8:
            continue
        for i, j in itertools.combinations(range(len(step.value)), 2):
            if step.value[i].shape == step.value[j].shape:
                text = words("outputs_swapped", i=i, j=j, line=step.line)
                yield _make("swap", text, [(s, 0) for s in steps], _with_exchanged(i, j))


def _with_exchanged(i: int, j: int) -> Edit:
    def edit(step: Step, g: Any, gx: Any) -> Any:
        parts = list(g)
        parts[i], parts[j] = parts[j], parts[i]
        return step.node.operator.backward(step.node.saved, step.node.parents, tuple(parts))[0]

    return edit


def _own_part(step: Step, g: Any, gx: Any) -> Any:
    return gx - g * step.value / step.input_value(1)


# ---- values of another time, or of another name ------------------------------------------------------


def _other_times(graph: Graph, steps: list[Step], k: int) -> Iterator[Candidate]:
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
                yield _make(
                    "state",
                    words(_when(shift), line=step.line, op=step.title),
                    [(s, k) for s in steps],
                    _by_value({s.index: v for s, v in zip(steps, values)}, _with_other_output(rule)),
                )
        return
    if step.operator not in ("mul", "matmul", "linear") or k > 1 or (step.operator == "linear" and k != 1):
        return
    other = 1 - k
    for shift in (1, -1):
        series = _series(graph, steps, other, shift)
        if series is not None:
            edit = _by_value({s.index: v for s, v in zip(steps, series)}, _product_rule(step.operator, k))
            yield _make("state", words(_when(shift), line=step.line, op=step.title), [(s, k) for s in steps], edit)


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
            if parent is not None and parent.role == role and _is_carried(graph, user, k):
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
    if shift > 0 and last is not None and not last.name and _is_carried(graph, steps[-1], other):
        return [*values[1:], graph.roles[last.role][-1].value]  # the state after the last step
    return _shifted(values, shift)


def _shifted(values: list[Any], shift: int) -> list[Any]:
    return [*values[1:], values[0]] if shift > 0 else [values[-1], *values[:-1]]


def _by_value(values: Mapping[int, Any], rule: Callable[[Step, Any, Any], Any]) -> Edit:
    return lambda step, g, gx: rule(step, g, values[step.index])


def _product_rule(operator: str, k: int) -> Callable[[Step, Any, Any], Any]:
    """The derivative of a product by input ``k`` with another value ``v`` of the other input."""
    if operator == "mul":
        return lambda step, g, v: g * v
    if operator == "linear":
        return lambda step, g, v: np.swapaxes(g, -1, -2) @ v
    if k == 0:
        return lambda step, g, v: g @ np.swapaxes(v, -1, -2)
    return lambda step, g, v: np.swapaxes(v, -1, -2) @ g


def _other_factors(graph: Graph, steps: list[Step], k: int) -> Iterator[Candidate]:
    """A product's derivative with some other value of the same step and shape."""
    step = steps[0]
    if step.operator != "mul" or k > 1:
        return
    right = step.input_value(1 - k)
    for role in graph.roles.values():
        value = role[0].value
        if isinstance(value, tuple) or role[0].name or np.shape(value) != np.shape(right) or value is right:
            continue
        if len(role) != len(steps):
            continue
        text = words("other_factor", line=step.line, used=role[0].title, at=role[0].line)
        values = {s.index: other.value for s, other in zip(steps, role)}
        edges = [(s, k) for s in steps]
        yield _make("factor", text, edges, _by_value(values, lambda s, g, v: g * v), 2.0)


# ---- whole states, and single steps ------------------------------------------------------------------


def _whole_states(graph: Graph) -> Iterator[Candidate]:
    """Everything that leads from one step to the next through one state, and all of it together."""
    by_state: dict[int, list[tuple[Step, int]]] = {}
    for step in graph.steps:
        for k in range(len(step.parents)):
            if _is_carried(graph, step, k):
                by_state.setdefault(step.parents[k].role, []).append((step, k))  # type: ignore[union-attr]
    every = [edge for edges in by_state.values() for edge in edges]
    for role, edges in by_state.items():
        if len({(step.role, k) for step, k in edges}) > 1:
            yield _make("time", words("state_cut", line=graph.roles[role][0].line), edges, _dropped, -0.2)
    if len(by_state) > 1:
        yield _make("time", words("all_cut"), every, _dropped, -0.1)


def _single_uses(graph: Graph) -> Iterator[Candidate]:
    """A parameter that is used at every step gets the part of one step alone: ``=`` was written for ``+=``."""
    for step in graph.steps:
        if not step.name:
            continue
        uses = [(user, k) for user in graph.steps for k, parent in enumerate(user.parents) if parent is step]
        roles = {(user.role, k) for user, k in uses}
        if len(roles) == 1 and len(uses) > 1:
            yield _make("time", words("only_step", name=step.name, which=("first", "最初")), uses[1:], _dropped, 0.1)
            yield _make("time", words("only_step", name=step.name, which=("last", "最後")), uses[:-1], _dropped, 0.1)
            share = _scaled(1.0 / len(uses))
            yield _make("scale", words("mean_over_time", name=step.name, n=len(uses)), uses, share, 0.2)
