"""Lowering: every operator's steps, forward and backward, as instructions that give what its kernels give."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.compile import lower as lowering
from tinygrad_ja.compile.lower import lower
from tinygrad_ja.compile.marks import BackwardOf, Draw, Number
from tinygrad_ja.compile.texts import OPAQUE
from tinygrad_ja.compile.program import Program, Source, flat, interpret
from tinygrad_ja.core.nested import mapped
from tinygrad_ja.core.operator import OPERATORS
from tinygrad_ja.core.tape import Output
from tinygrad_ja.core.tensor import Tensor
from tinygrad_ja.core.trace import Step, Trace, Value
from tinygrad_ja.core.traced import Traced
from tinygrad_ja.testing.case import Case, draw_case
from tinygrad_ja.testing.pick import NumpyChoices, Pick


class Recording:
    """A call of an operator and its backward as steps, and what they gave."""

    def __init__(self, case: Case, inputs: list[Any], cotangents: np.random.Generator | None) -> None:
        operator = case.operator
        self.given: list[np.ndarray] = []
        self.expected: list[np.ndarray] = []
        with np.errstate(all="ignore"), Trace() as trace:
            moving = set(case.differentiable)
            tensors = [self._input(trace, x, i, i in moving) if isinstance(x, np.ndarray) else x for i, x in enumerate(inputs)]
            ys = case.outputs(tensors)
            self.steps, self.inputs = trace.steps, trace.inputs
            self.outputs = [trace.output(y) for y in ys]
            self.expected += [y.array._elements for y in ys]
            nodes = {n.number: n for n in [y.node.parents[0] if isinstance(y.node, Output) else y.node for y in ys if y.node]}
            if cotangents is not None and len(nodes) == 1 and operator.derivatives:
                self._backward(operator, nodes.popitem()[1], ys, cotangents)
            self.captured = trace.constants
        self.writes: list[Any] = []

    def _input(self, trace: Trace, x: np.ndarray, place: int, moves: bool) -> Tensor:
        self.given.append(x)
        tensor = Tensor(x)
        return trace.input(tensor.requires_grad_() if moves else tensor, f"x{place}")

    def _cotangent(self, y: Tensor, rng: np.random.Generator) -> Value:
        elements = rng.uniform(-1, 1, y.shape).astype(y.array.dtype)
        elements = np.where(np.isfinite(y.array._elements), elements, 0).astype(y.array.dtype)
        self.given.append(elements)
        self.inputs.append(Value(f"g{len(self.inputs)}", elements))
        return self.inputs[-1]

    def _backward(self, operator: Any, node: Any, ys: list[Tensor], rng: np.random.Generator) -> None:
        first = len(self.given)
        values = tuple([self._cotangent(y, rng) for y in ys])
        elements = tuple(self.given[first:])
        needs = tuple([p is not None for p in node.parents])
        shapes = tuple([None if p is None else p.shape for p in node.parents])
        saved = mapped(node.saved, lambda x: type(x) is Traced, lambda x: x._elements)
        mark = BackwardOf(operator)
        made = mark.run(saved, elements if operator.several else elements[0], needs, shapes)
        gradients = [
            None if g is None or not needed else g if g.shape == shape else operator.fit(g, shape, index)
            for index, (g, needed, shape) in enumerate(zip(made, needs, shapes))
        ]
        arguments = {
            "saved": mapped(node.saved, lambda x: type(x) is Traced, lambda x: x.entry),
            "g": values if operator.several else values[0],
            "needs": needs,
            "shapes": shapes,
        }
        step = Step(mark, arguments, Source(operator.name, "backward"))
        step.result = [None if g is None else Value(f"d{i}", np.asarray(g), step) for i, g in enumerate(gradients)]
        self.steps.append(step)
        self.outputs += [value for value in step.result if value is not None]
        self.expected += [np.asarray(g) for g in gradients if g is not None]


def cases(name: str, seeds: range, dtype: str) -> list[Case]:
    made = []
    for seed in seeds:
        case = draw_case(OPERATORS[name], Pick(NumpyChoices(np.random.default_rng(seed))))
        if any(isinstance(c, (np.dtype, type)) for c in case.constants.values()) and dtype != "float64":
            continue
        inputs, constants = case.convert(lambda a: a.astype(dtype) if a.dtype == np.float64 else a)
        case.inputs, case.constants = inputs, constants
        made.append(case)
    return made


def shuffled(x: Any, rng: np.random.Generator) -> Any:
    return rng.permutation(x.reshape(-1)).reshape(x.shape) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


@functools.cache
def failures(name: str) -> list[tuple[str, Exception]]:
    """Why steps of an operator became calls."""
    found: list[tuple[str, Exception]] = []
    listener = lowering.step_failed
    lowering.step_failed = lambda step, failure: found.append((step.operator.name, failure))
    try:
        for case in cases(name, range(6), "float64"):
            lower(Recording(case, case.inputs, np.random.default_rng(0)))
    finally:
        lowering.step_failed = listener
    return found


def close(actual: np.ndarray, expected: np.ndarray, dtype: str) -> bool:
    tolerance = {"float64": 1e-11, "float32": 2e-5, "float16": 4e-3}[
        str(expected.dtype) if expected.dtype.kind == "f" else dtype
    ]
    if expected.dtype.kind != "f":
        return bool((actual == expected).all())
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0, where=np.isfinite(expected))))
    return np.allclose(actual, expected, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


def check(case: Case, dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    recording = Recording(case, case.inputs, np.random.default_rng(seed))
    program, numbers = lower(recording)
    program.check()
    assert not numbers
    inputs = case.inputs if case.operator.name in OPAQUE else [shuffled(x, rng) for x in case.inputs]
    other = Recording(case, inputs, np.random.default_rng(seed + 1))
    for run in (recording, other):
        if [v.shape for v in run.outputs] != [v.shape for v in recording.outputs]:
            continue
        with np.errstate(all="ignore"):
            results = interpret(program, run.given)
        for place, (result, expected, value) in enumerate(zip(results, run.expected, recording.outputs)):
            assert result.shape == value.shape and result.dtype == value.dtype, (case, place, result.shape, result.dtype)
            assert close(result, expected, dtype), f"{case}, result {place}:\n{result}\nfor\n{expected}\n{program}"


@pytest.mark.parametrize("name", list(OPERATORS))
def test_operator(name: str) -> None:
    for dtype, seeds in (("float64", range(4)), ("float32", range(4, 8))):
        if dtype in OPERATORS[name].unsupported:
            continue
        for seed, case in zip(seeds, cases(name, seeds, dtype)):
            check(case, dtype, seed)
