"""A case made ready for the checks of an operator: values, cotangents, directions and the gradients that belong to them."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backend.arrays import as_array
from ..core.tensor import Tensor
from ..core.transforms import grad
from .case import LAYOUTS, Case
from .pick import NumpyChoices, Pick

STEP = 1e-6
"""Step of the central differences, in float64."""


class Variant(NamedTuple):
    """How a case is run once more: in a smaller dtype, and with another memory layout for each input and each cotangent."""

    dtype: str
    layouts: list[str]


def draw_variant(case: Case, pick: Pick) -> Variant:
    """A dtype and layouts for a case."""
    names = list(LAYOUTS)
    count = len(case.inputs) + max(1, case.operator.outputs or 1)
    return Variant(pick.choice(["float32", "float16"]), [pick.choice(names) for _ in range(count)])


class Trial:
    """One case with everything the checks share. All arrays are read-only: a change in place fails where it happens."""

    def __init__(self, case: Case, rng: np.random.Generator, variant: Variant | None = None) -> None:
        self.case = case
        self.rng = rng
        self.variant = variant or draw_variant(case, Pick(NumpyChoices(rng)))
        self.inputs, self.constants = case.convert(read_only)
        self.moving = case.differentiable if self.live else []
        self.moved = [self.inputs[i] for i in self.moving]

    def __repr__(self) -> str:
        return f"{self.case}; then as {self.variant.dtype}, layouts {', '.join(self.variant.layouts)}"

    # -- values

    def outputs(self, inputs: Sequence[Any], constants: dict[str, Any] | None = None) -> list[Any]:
        """The operator's outputs; arrays for arrays, Tensors for Tensors."""
        made = self.case.outputs(inputs, self.constants if constants is None else constants)
        return [as_array(y) for y in made]

    @functools.cached_property
    def values(self) -> list[np.ndarray]:
        """Outputs for the inputs as drawn, from plain arrays."""
        return self.outputs(self.inputs)

    @functools.cached_property
    def live(self) -> list[int]:
        """Indices of the outputs that have a derivative: the floating ones."""
        return [i for i, y in enumerate(self.values) if y.dtype.kind == "f"]

    # -- directions

    @functools.cached_property
    def cotangents(self) -> list[np.ndarray]:
        """A random cotangent for each floating output, zero where the output is not finite."""
        ys = [self.values[i] for i in self.live]
        return [read_only(np.where(np.isfinite(y), self.rng.uniform(-1, 1, y.shape), 0.0).astype(y.dtype)) for y in ys]

    @functools.cached_property
    def directions(self) -> list[np.ndarray]:
        """A random direction for each differentiable input, zero where the input is not finite."""
        return [read_only(np.where(np.isfinite(x), self.rng.uniform(-1, 1, x.shape), 0.0)) for x in self.moved]

    def shifted(self, directions: Sequence[np.ndarray], step: float) -> list[Any]:
        """Inputs moved along ``directions``."""
        inputs = list(self.inputs)
        for index, direction in zip(self.moving, directions):
            inputs[index] = read_only(inputs[index] + step * direction)
        return inputs

    # -- derivatives

    def tensors(self, inputs: Sequence[Any], moving: Sequence[int]) -> list[Any]:
        """Inputs as Tensors, of which ``moving`` want a gradient. Numbers and None stay."""
        wrapped = [Tensor(x) if hasattr(x, "dtype") else x for x in inputs]
        for index in moving:
            wrapped[index].requires_grad_()
        return wrapped

    def gradients(
        self,
        inputs: Sequence[Any] | None = None,
        cotangents: Sequence[Any] | None = None,
        moving: Sequence[int] | None = None,
        constants: dict[str, Any] | None = None,
    ) -> list[Any]:
        """Arrays of gradients of the ``moving`` inputs; zeros where the derivative gives none."""
        moving = self.moving if moving is None else moving
        tensors = self.tensors(self.inputs if inputs is None else inputs, moving)
        ys = self.outputs(tensors, constants)
        us = [Tensor(u) for u in (self.cotangents if cotangents is None else cotangents)]
        wanted = [tensors[i] for i in moving]
        made = grad([ys[i] for i in self.live], wanted, us, allow_unused=True)
        return [x.array * 0 if g is None else g.array for g, x in zip(made, wanted)]

    @functools.cached_property
    def numeric(self) -> tuple[float, float]:
        """Central difference along ``directions``, and its rounding error."""
        return central_difference(self, self.directions)

    def again(self, seed: int) -> Trial:
        """The same trial for other derivatives of the operator: what does not depend on them is kept."""
        same = copy.copy(self)
        same.__dict__.pop("first", None)
        same.rng = np.random.default_rng(seed)
        return same

    @functools.cached_property
    def first(self) -> list[np.ndarray]:
        """Gradients for the inputs and cotangents as drawn; none where no input has a derivative."""
        return self.gradients() if self.moving else []


def read_only(array: np.ndarray) -> np.ndarray:
    """A copy in C order that nobody can write to."""
    copied = np.array(array, order="C")
    copied.setflags(write=False)
    return copied


def dot(us: Sequence[np.ndarray], vs: Sequence[np.ndarray]) -> float:
    """Sum of the products of all elements; an element whose factor in ``us`` is zero does not count."""
    total = 0.0
    for u, v in zip(us, vs):
        total += float(np.sum(np.where(u == 0, 0.0, u * v)))
    return total


def size_of(us: Sequence[np.ndarray], vs: Sequence[np.ndarray]) -> float:
    """The same of absolute values: what rounding errors of ``dot`` are proportional to."""
    return dot([np.abs(u) for u in us], [np.abs(v) for v in vs])


def largest(*arrays: np.ndarray) -> float:
    """Largest finite absolute value, at least 1."""
    found = [float(np.max(np.abs(a), initial=0.0, where=np.isfinite(a))) for a in arrays if a.dtype.kind == "f"]
    return max([1.0, *found])


def central_difference(trial: Trial, directions: Sequence[np.ndarray]) -> tuple[float, float]:
    """``(d<u, f(x + t v)>/dt, its rounding error)`` at t = 0, by central differences."""
    above = trial.outputs(trial.shifted(directions, STEP))
    below = trial.outputs(trial.shifted(directions, -STEP))
    differences = [(above[i] - below[i]) / (2 * STEP) for i in trial.live]
    values = [trial.values[i] for i in trial.live]
    # one unit in the last place of y, divided by the step, with room for a few hundred of them
    noise = 500 * np.finfo(float).eps * size_of(trial.cotangents, values) / STEP
    return dot(trial.cotangents, differences), noise


def central_difference_of_gradient(
    trial: Trial, weights: Sequence[np.ndarray], directions: Sequence[np.ndarray], cotangents: Sequence[np.ndarray]
) -> tuple[float, float]:
    """The same for <weights, gradient> when inputs move along ``directions`` and cotangents along ``cotangents``."""

    def at(step: float) -> list[np.ndarray]:
        us = [read_only(u + step * w) for u, w in zip(trial.cotangents, cotangents)]
        return trial.gradients(trial.shifted(directions, step), us)

    differences = [(a - b) / (2 * STEP) for a, b in zip(at(STEP), at(-STEP))]
    noise = 500 * np.finfo(float).eps * size_of(weights, trial.first) / STEP
    return dot(weights, differences), noise


def close(analytic: float, numeric: float, scale: float, noise: float) -> bool:
    """Whether two directional derivatives agree: 1e-5 of the sizes of their terms, and the rounding error of the difference."""
    if not (math.isfinite(analytic) and math.isfinite(numeric)):
        return False
    return abs(analytic - numeric) <= 1e-5 * scale + noise + 1e-9
