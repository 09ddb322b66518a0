"""Choices from which a test case is drawn. An operator's ``cases=`` receives a ``Pick`` and never knows who decides.

Behind it stands a source with two abilities: an integer in a range, and a NumPy generator for the values of arrays. Hypothesis
is one source (shapes and arguments shrink to the smallest failing ones), a NumPy generator the other (fast; the mutation tool
uses it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

T = TypeVar("T")
Shape = tuple[int, ...]


class Choices(Protocol):
    """A source of decisions."""

    def integer(self, low: int, high: int) -> int:
        """An integer, low <= n <= high; ``low`` is the simplest."""

    def generator(self) -> np.random.Generator:
        """A generator for array values."""


class NumpyChoices:
    """Decisions of a NumPy generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def integer(self, low: int, high: int) -> int:
        return int(self._rng.integers(low, high, endpoint=True))

    def generator(self) -> np.random.Generator:
        return self._rng


class HypothesisChoices:
    """Decisions of Hypothesis, given its ``draw``. Array values come from one drawn seed: their shapes shrink, they do not."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        from hypothesis import strategies

        self._draw = draw
        self._integers = strategies.integers
        self._rng: np.random.Generator | None = None

    def integer(self, low: int, high: int) -> int:
        return int(self._draw(self._integers(low, high)))

    def generator(self) -> np.random.Generator:
        if self._rng is None:
            self._rng = np.random.default_rng(self.integer(0, 2**32 - 1))
        return self._rng


class Pick:
    """What ``cases=lambda pick: ((arguments...), {keywords})`` draws with. Float arrays are float64.

    >>> pick = Pick(NumpyChoices(np.random.default_rng(0)))
    >>> pick.array((2, 3)).shape, pick.choice(["mean"]), pick.axis(1) in (0, -1)
    ((2, 3), 'mean', True)
    """

    def __init__(self, choices: Choices) -> None:
        self._choices = choices

    @property
    def rng(self) -> np.random.Generator:
        """The generator of array values, for a case that needs a special distribution."""
        return self._choices.generator()

    # -- decisions

    def integer(self, low: int, high: int) -> int:
        """An integer, low <= n <= high."""
        return self._choices.integer(low, high)

    def boolean(self) -> bool:
        """True or False."""
        return self.integer(0, 1) == 1

    def choice(self, options: Sequence[T]) -> T:
        """One of ``options``."""
        return options[self.integer(0, len(options) - 1)]

    # -- shapes and axes

    def shape(self, min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 4) -> Shape:
        """A shape. An axis of size 0 (where ``min_side`` allows it) is rare, so that most cases say something about values."""
        ndim = self.integer(min_dims, max_dims)
        sides = [self.integer(max(min_side, min(1, max_side)), max_side) for _ in range(ndim)]
        if min_side <= 0 < ndim and self.integer(0, 11) == 11:
            sides[self.integer(0, ndim - 1)] = 0
        return tuple(sides)

    def broadcastable(self, count: int) -> list[Shape]:
        """``count`` shapes that broadcast together: axes of size 1 and missing leading axes stand for the common size."""
        common = self.shape()
        return [common] if count == 1 else [self._reduced(common) for _ in range(count)]

    def _reduced(self, common: Shape) -> Shape:
        if not common or not self.boolean():
            return common
        kept = common[self.integer(0, len(common)) :]
        return tuple([1 if self.integer(0, 2) == 2 else side for side in kept])

    def axis(self, ndim: int) -> int:
        """A dim of an array of ``ndim`` axes, maybe negative; 0 or -1 for a 0-d array, as PyTorch allows."""
        ndim = max(ndim, 1)
        return self.integer(-ndim, ndim - 1)

    def axes(self, ndim: int) -> tuple[int, ...]:
        """Distinct dims of an array of ``ndim`` axes, in any order, maybe negative; () only for a 0-d array."""
        rest = list(range(ndim))
        count = self.integer(min(1, ndim), ndim)
        chosen = [rest.pop(self.integer(0, len(rest) - 1)) for _ in range(count)]
        return tuple([dim - ndim if self.boolean() else dim for dim in chosen])

    # -- arrays

    def array(self, shape: Shape, low: float = -2.0, high: float = 2.0) -> np.ndarray:
        """Uniform float64 values in [low, high)."""
        return np.asarray(self.rng.uniform(low, high, shape))

    def distinct(self, shape: Shape) -> np.ndarray:
        """Float64 values in random order, at least 0.05 apart and none within 0.02 of zero: none changes place when it moves a
        little."""
        size = int(np.prod(shape, dtype=int))
        ranks = self.rng.permutation(size) - size // 2
        values = 0.1 * (ranks + 0.5) + self.rng.uniform(-0.02, 0.02, size)
        return np.asarray(values.reshape(shape))

    def indices(self, shape: Shape, size: int) -> np.ndarray:
        """Int64 values in [0, size)."""
        return np.asarray(self.rng.integers(0, size, shape, dtype=np.int64))

    def mask(self, shape: Shape) -> np.ndarray:
        """Random bools."""
        return np.asarray(self.rng.integers(0, 2, shape), dtype=bool)
