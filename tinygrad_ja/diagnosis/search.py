"""Finds the faults that turn the tape's gradients into the given ones, simplest first."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from .candidates import Candidate, candidates
from .graph import Graph
from .whole import Closeness, Gradients, Sizes, Whole, explain, meaning_of, multiple
from .words import words

MOST_PAIRS = 1500
"""How many pairs of faults are tried when no single one explains everything."""
NEAR = 0.5
"""Cosine from which on a fault that does not explain the numbers is worth a look."""


class Explanation(NamedTuple):
    """Faults that together give exactly the gradients ``names``; of a mere guess, which names none, the cosine to what was given."""

    faults: tuple[Candidate | Whole, ...]
    names: tuple[str, ...]
    rank: float
    similarity: float = 1.0

    @property
    def exact(self) -> bool:
        """False for a mere guess."""
        return bool(self.names)


class Search:
    """What is known about one comparison. given: gradients by the user's backward. right: by the tape. wrong: names that differ."""

    def __init__(self, graph: Graph, cotangent: np.ndarray, given: Gradients, right: Gradients, tolerance: float) -> None:
        self.graph, self.cotangent, self.given, self.right, self.tolerance = graph, cotangent, given, right, tolerance
        largest = {name: float(np.abs(g).max(initial=0.0)) for name, g in right.items()}
        noise = 1e-8 * max(largest.values(), default=0.0) or 1e-12
        self.close = {name: Closeness(tolerance, max(size, noise)) for name, size in largest.items()}
        self.errors = {name: self.close[name].error(mine, right[name]) for name, mine in given.items()}
        self.wrong = tuple(name for name, error in self.errors.items() if error > tolerance)
        self.sizes = _sizes(graph)

    def run(self) -> list[Explanation]:
        """Explanations, the most probable first; none when nothing that is known comes near."""
        found = self._together() + self._single()
        whole = self._each_whole(self.right)
        if whole is not None:
            found.append(Explanation(tuple(whole), self.wrong, max(w.rank for w in whole) + 3.0 * (len(whole) - 1)))
        if not found:
            found = self._with_wholes() or self._pairs() or self._nearest()
        return sorted(found, key=lambda explanation: explanation.rank)

    # -- one fault

    def _together(self) -> list[Explanation]:
        """The same multiple of every gradient: something at the very end, or at the very start of the walk."""
        if len(self.wrong) < 2 or self.wrong != tuple(name for name in self.given if self.right[name].any()):
            return []
        factors = [self._factor(name) for name in self.wrong]
        first = factors[0]
        if first is None or any(factor is None or abs(factor - first) > 1e-4 * abs(first) for factor in factors):
            return []
        if abs(first + 1) < self.tolerance:
            return [Explanation((Whole("sign", words("all_negative"), 1.0),), self.wrong, 1.0)]
        meaning, rank = meaning_of(first, self.sizes)
        text = words("all_scaled", factor=f"{first:.4g}", meaning=meaning)
        kind = "twice" if abs(first - 2) < self.tolerance else "scale"
        return [Explanation((Whole(kind, text, rank),), self.wrong, rank)]

    def _factor(self, name: str) -> float | None:
        mine, right = self.given[name], self.right[name]
        if mine.size != right.size:
            return None
        if self.close[name].same(-mine, right):
            return -1.0
        return multiple(mine.reshape(right.shape), right, self.close[name])

    def _single(self) -> list[Explanation]:
        wrong = frozenset(self.wrong)
        able = [c for c in self._candidates if c.affected & frozenset(self.given) >= wrong]
        return [Explanation((c,), self.wrong, c.rank) for c in able if self._matches(self._gradients(c))]

    @property
    def _candidates(self) -> list[Candidate]:
        if not hasattr(self, "_all"):
            self._all = candidates(self.graph)
        return self._all

    def _gradients(self, *parts: Candidate) -> Gradients | None:
        """The gradients under these faults; None where a wrong rule does not even fit the shapes."""
        edits = {key: edit for part in parts for key, edit in part.edits.items()}
        try:
            with np.errstate(all="ignore"):
                return self.graph.gradients(self.cotangent, edits)
        except Exception:  # whatever a wrong rule runs into, it is not what the user's backward ran into
            return None

    def _matches(self, made: Gradients | None) -> bool:
        return made is not None and all(self.close[name].same(mine, made[name]) for name, mine in self.given.items())

    # -- several

    def _each_whole(self, base: Gradients) -> list[Whole] | None:
        """A change of each gradient that differs from ``base``; None when one has none."""
        found: list[Whole] = []
        for name, mine in self.given.items():
            if self.close[name].same(mine, base[name]):
                continue
            whole = explain(name, mine, base, self.given, self.sizes, self.close[name])
            whole = whole or self._lacking_factor(name, mine, base[name])
            if whole is None:
                return None
            found.append(whole)
        return _once(found)

    def _lacking_factor(self, name: str, mine: np.ndarray, right: np.ndarray) -> Whole | None:
        """Some value of the forward that the gradient should have been multiplied with, or divided by."""
        close = self.close[name]
        for steps in self.graph.roles.values():
            value = steps[0].value
            if len(steps) > 1 or not isinstance(value, np.ndarray) or value.size < 2:
                continue
            value = value.squeeze()
            if not _broadcasts(value.shape, right.shape):
                continue
            with np.errstate(all="ignore"):
                for key, whole in (("whole_factor", mine * value), ("whole_inverse", mine / value)):
                    if whole.shape == right.shape and close.same(whole, right):
                        text = words(key, name=name, op=steps[0].name or steps[0].title, line=steps[0].line)
                        return Whole("factor", text, 8.0)
        return None

    def _with_wholes(self) -> list[Explanation]:
        """One fault in the walk, and changes of some gradients after it."""
        found = []
        for candidate in self._candidates:
            if not candidate.affected & frozenset(self.wrong):
                continue
            made = self._gradients(candidate)
            whole = None if made is None else self._each_whole(made)
            if whole is not None and len(whole) < len(self.wrong):
                rank = candidate.rank + 3.0 * len(whole)
                found.append(Explanation((candidate, *whole), self.wrong, rank))
        return found

    def _pairs(self) -> list[Explanation]:
        wrong = frozenset(self.wrong)
        able = [c for c in self._candidates if c.kind not in ("twice",) and c.affected & wrong]
        pairs = sorted(itertools.combinations(able, 2), key=lambda pair: pair[0].rank + pair[1].rank)
        pairs = [
            (a, b)
            for a, b in pairs
            if (a.affected | b.affected) & frozenset(self.given) >= wrong and not a.edits.keys() & b.edits.keys()
        ]
        for a, b in pairs[:MOST_PAIRS]:
            if self._matches(self._gradients(a, b)):
                return [Explanation((a, b), self.wrong, a.rank + b.rank)]
        return []

    def _nearest(self) -> list[Explanation]:
        """The faults whose gradients point most nearly where the given ones point."""
        best: list[Explanation] = []
        for candidate in self._candidates:
            made = self._gradients(candidate)
            if made is not None:
                similarity = self._similarity(made)
                best.append(Explanation((candidate,), (), -similarity, similarity))
        near = [explanation for explanation in best if explanation.similarity >= NEAR]
        return sorted(near, key=lambda explanation: explanation.rank)[:3]

    def _similarity(self, made: Gradients) -> float:
        """How alike the gradients that were given and those under a fault are: the smaller of two cosines, of the gradients and of their
        errors. (The errors of a gradient that has nothing to do with the right one look like a wrong sign.)"""
        names = [name for name in self.wrong if self.given[name].shape == self.right[name].shape]
        given, faulty, right = (_in_one([part[name] for name in names]) for part in (self.given, made, self.right))
        return min(_cosine(given, faulty), _cosine(given - right, faulty - right))


def _in_one(gradients: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *[g.ravel() for g in gradients]])


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0 and np.isfinite(size) else 0.0


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(shape[::-1], to[::-1]))


def _once(found: list[Whole]) -> list[Whole]:
    """Two gradients that were exchanged are one fault."""
    kept: list[Whole] = []
    for whole in found:
        if whole.kind == "swap" and any(other.kind == "swap" for other in kept):
            continue
        kept.append(whole)
    return kept


def _sizes(graph: Graph) -> Sizes:
    """Lengths that a mean could be taken over: axes of the output and of the inputs, products of the output's first axes."""
    shapes: list[tuple[str, tuple[int, ...]]] = [("y", graph.output.shape)]
    shapes += [(step.name, step.value.shape) for step in graph.steps if step.name]
    found: dict[int, str] = {}
    for name, shape in shapes:
        for axis, n in enumerate(shape):
            if n > 1:
                found.setdefault(n, f"axis {axis} of {name}")
    shape = graph.output.shape
    for count in range(2, len(shape) + 1):
        found.setdefault(int(np.prod(shape[:count])), f"axes 0 to {count - 1} of y")
    averages = any(step.operator in ("mean", "div") for step in graph.steps if not step.name)
    return Sizes(found, averages)
