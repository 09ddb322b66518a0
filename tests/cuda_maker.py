"""Builds programs for the executor of CUDA graphs instruction by instruction, with data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_ja.compiler.program import Array, Instruction, Program


class Case(NamedTuple):
    """A program, the elements of its arguments, its numbers, and how closely float32 results agree."""

    name: str
    program: Program
    arguments: list[np.ndarray]
    numbers: list[float]
    rtol: float = 2e-5


class Maker:
    """Builds a program instruction by instruction, with data from one seed."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.instructions: list[Instruction] = []
        self.arguments: list[Array] = []
        self.data: list[np.ndarray] = []
        self.numbers: list[Array] = []
        self.state: dict[Array, np.ndarray] = {}
        self.constants: dict[Array, np.ndarray] = {}
        self.writes: list[tuple[Array, Array]] = []

    def elements(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        dtype = np.dtype(dtype)
        if dtype.kind == "b":
            return self.random.random(shape) < 0.5
        if dtype.kind in "iu":
            low = -9 if dtype.kind == "i" else 0
            return self.random.integers(low, 10, shape).astype(dtype)
        return self.random.standard_normal(shape).astype(dtype)

    def argument(self, shape: Sequence[int], dtype: Any = "f4", value: Any = None) -> Array:
        array = Array(shape, dtype)
        self.arguments.append(array)
        self.data.append(self.elements(shape, dtype) if value is None else np.asarray(value, dtype).reshape(shape))
        return array

    def constant(self, value: Any, dtype: Any = "f4") -> Array:
        value = np.asarray(value, dtype)
        array = Array(value.shape, value.dtype)
        self.constants[array] = value
        return array

    def number(self, dtype: Any = "f4") -> Array:
        array = Array((), dtype)
        self.numbers.append(array)
        return array

    def parameter(self, shape: Sequence[int], dtype: Any = "f4") -> Array:
        array = Array(shape, dtype)
        self.state[array] = self.elements(shape, dtype)
        return array

    def add(self, kind: str, function: str, inputs: Sequence[Array], shape: Sequence[int], dtype: Any, **options: Any) -> Array:
        output = Array(shape, dtype)
        self.instructions.append(Instruction(kind, function, inputs, [output], options))
        return output

    def map(self, function: str, *inputs: Array, dtype: Any = None) -> Array:
        shape = np.broadcast_shapes(*[a.shape for a in inputs])
        if dtype is None:
            dtype = np.asarray(getattr(np, function)(*[np.ones((), a.dtype) for a in inputs])).dtype
        return self.add("map", function, inputs, shape, dtype)

    def reduce(self, function: str, x: Array, axes: Sequence[int], keepdims: bool = False, dtype: Any = None) -> Array:
        shape = [1 if d in axes else n for d, n in enumerate(x.shape) if keepdims or d not in axes]
        usual = {"argmax": "i8", "argmin": "i8", "any": "?", "all": "?"}.get(function)
        if usual is None:
            usual = getattr(np, function)(np.ones(2, x.dtype)).dtype
        return self.add("reduce", function, [x], shape, dtype or usual, axes=tuple(axes), keepdims=keepdims)

    def matmul(self, a: Array, b: Array) -> Array:
        shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        return self.add("matmul", "matmul", [a, b], shape, np.result_type(a.dtype, b.dtype))

    def transpose(self, x: Array, *axes: int) -> Array:
        return self.add("view", "transpose", [x], [x.shape[d] for d in axes], x.dtype, axes=axes)

    def reshape(self, x: Array, *shape: int) -> Array:
        return self.add("view", "reshape", [x], shape, x.dtype)

    def slice(self, x: Array, key: Any) -> Array:
        return self.add("view", "slice", [x], np.empty(x.shape)[key].shape, x.dtype, key=key)

    def broadcast(self, x: Array, *shape: int) -> Array:
        return self.add("view", "broadcast", [x], shape, x.dtype)

    def join(self, axis: int, *xs: Array) -> Array:
        shape = list(xs[0].shape)
        shape[axis] = sum([x.shape[axis] for x in xs])
        return self.add("join", "concatenate", xs, shape, xs[0].dtype, axis=axis)

    def group(self, start: int, space: Sequence[int], inner: int, outputs: Sequence[Array]) -> None:
        """Put the instructions from number ``start`` on into a group."""
        body = self.instructions[start:]
        made = {a for i in body for a in i.outputs}
        inputs = list(dict.fromkeys([a for i in body for a in i.inputs if a not in made]))
        makers = {a: a.maker for a in outputs}
        group = Instruction("group", "group", inputs, outputs, {"body": body, "space": tuple(space), "inner": inner})
        for a, maker in makers.items():
            a.maker = maker
        self.instructions[start:] = [group]

    def program(self, *results: Array) -> Program:
        program = Program(self.arguments, self.numbers, self.state, self.constants, self.instructions, results, self.writes)
        program.check()
        return program

    def case(self, name: str, *results: Array, numbers: Sequence[float] = (), rtol: float = 2e-5) -> Case:
        return Case(name, self.program(*results), self.data, list(numbers), rtol)
