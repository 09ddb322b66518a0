"""Faults that show in one gradient as a whole: another shape, transposed, of the other sign, a multiple, exchanged with another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from .words import Words, words

Gradients = Mapping[str, np.ndarray]


class Sizes(NamedTuple):
    """Numbers of things that a mean could be taken over, and what they are; whether the forward takes any mean at all."""

    names: Mapping[int, str]
    averages: bool


class Whole(NamedTuple):
    """A change of a right gradient that makes it the given one. kind and text as in ``Candidate``; factor where it is a multiple."""

    kind: str
    text: Words
    rank: float
    factor: float | None = None


class Closeness(NamedTuple):
    """When two gradients count as equal: their largest difference is at most ``tolerance`` times the largest element, or times ``floor``
    where all are smaller (a gradient that is zero comes out as rounding errors)."""

    tolerance: float
    floor: float

    def same(self, mine: np.ndarray, right: np.ndarray, times: float = 1.0) -> bool:
        """True when they agree, up to axes of size 1."""
        return self.error(mine, right) <= self.tolerance * times

    def error(self, mine: np.ndarray, right: np.ndarray) -> float:
        """Largest difference over the largest right element; infinite for other shapes or values that are not finite."""
        if mine.shape != right.shape and _squeezed(mine.shape) == _squeezed(right.shape):
            mine = mine.reshape(right.shape)
        if mine.shape != right.shape or not np.isfinite(mine).all():
            return np.inf
        if not right.size:
            return 0.0
        difference = float(np.abs(mine - right).max())
        return difference / max(float(np.abs(right).max()), self.floor)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def explain(name: str, mine: np.ndarray, right: Gradients, given: Gradients, sizes: Sizes, close: Closeness) -> Whole | None:
    """How ``mine`` may have come from ``right[name]``, or None.

    given: all gradients that were handed in, for exchanges. sizes: for the meaning of a multiple.
    """
    return next(_explanations(name, mine, right, given, sizes, close), None)


def _explanations(
    name: str, mine: np.ndarray, right: Gradients, given: Gradients, sizes: Sizes, close: Closeness
) -> Iterator[Whole]:
    true = right[name]
    if mine.ndim == 2 and true.ndim == 2 and close.same(mine.T, true) and not close.same(mine, true):
        yield Whole("transpose", words("whole_transposed", name=name), 2.0)
    for other, its in right.items():
        if other != name and other in given and close.same(mine, its) and close.same(given[other], true):
            yield Whole("swap", words("whole_swapped", name=name, other=other), 2.5)
    if mine.shape != true.shape and _squeezed(mine.shape) != _squeezed(true.shape):
        yield from _shapes(name, mine, true, close)
        return
    mine = mine.reshape(true.shape)
    if true.any() and not mine.any():
        yield Whole("term", words("whole_zero", name=name), 4.0)
    if close.same(-mine, true):
        yield Whole("sign", words("whole_negative", name=name), 2.0, -1.0)
    factor = multiple(mine, true, close)
    if factor is not None:
        meaning, rank = meaning_of(factor, sizes)
        text = words("whole_scaled", name=name, factor=f"{factor:.4g}", meaning=meaning)
        yield Whole("twice" if abs(factor - 2) < close.tolerance else "scale", text, rank, factor)
    yield from _orders(name, mine, true, close)


def _shapes(name: str, mine: np.ndarray, true: np.ndarray, close: Closeness) -> Iterator[Whole]:
    for count in range(1, mine.ndim + 1):
        for axes in itertools.combinations(range(mine.ndim), count):
            summed = mine.sum(axis=axes)
            if _squeezed(summed.shape) == _squeezed(true.shape) and close.same(summed, true):
                shown = axes[0] if len(axes) == 1 else axes
                yield Whole("shape", words("unsummed", name=name, actual=str(mine.shape), axes=shown), 0.0)
                return
    key = "averaged" if mine.size < true.size else "shape"
    yield Whole("shape", words(key, name=name, actual=str(mine.shape), expected=str(true.shape)), 0.5)


def multiple(mine: np.ndarray, true: np.ndarray, close: Closeness) -> float | None:
    """c where ``mine = c · true``, c not 0 or ±1; None when there is none."""
    power = float((true * true).sum())
    if power == 0:
        return None
    factor = float((mine * true).sum()) / power
    if (
        abs(factor) < close.tolerance
        or abs(abs(factor) - 1) < close.tolerance
        or not close.same(mine, factor * true, max(1.0, abs(factor)))
    ):
        return None
    return factor


def meaning_of(factor: float, sizes: Sizes) -> tuple[Words, float]:
    """What a multiple probably is, and the rank of that explanation."""
    for n, what in sizes.names.items():
        if abs(factor * n - 1) < 1e-4:
            return (f": 1/{n}, the mean over {what} for the sum", f" (1/{n}。{what} について、和でなく平均を取っています)"), 2.0
        if sizes.averages and abs(factor / n - 1) < 1e-4:
            return (f": {n}, the sum over {what} for the mean", f" ({n}。{what} について、平均でなく和を取っています)"), 2.0
    return ("", ""), 11.0


def _orders(name: str, mine: np.ndarray, true: np.ndarray, close: Closeness) -> Iterator[Whole]:
    for axis in range(true.ndim):
        if true.shape[axis] > 1 and close.same(np.flip(mine, axis), true):
            yield Whole("swap", words("whole_reversed", name=name, axis=axis), 2.5)
    if true.ndim == 0:
        return
    for count in (2, 3, 4):
        if true.shape[0] % count or true.shape[0] == count:
            continue
        blocks = np.split(true, count)
        for order in itertools.permutations(range(count)):
            if order != tuple(range(count)) and close.same(mine, np.concatenate([blocks[i] for i in order])):
                yield Whole("swap", words("blocks", name=name, count=count, order=", ".join(map(str, order))), 2.5)


def as_arrays(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Gradients that a user returned (arrays, Tensors, numbers) as arrays of float64."""
    return {
        name: np.asarray(getattr(value, "array", value), dtype=np.float64)
        for name, value in values.items()
        if value is not None
    }
