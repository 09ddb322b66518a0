"""Programs for tests: written by hand, and drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_ja.compiler.program import Array, Instruction, Program, Source, interpret


class Builder:
    """Writes instructions; every method returns the array that it makes. ``part`` and ``line`` say where they come from."""

    def __init__(self) -> None:
        self.arguments: list[Array] = []
        self.state: dict[Array, np.ndarray] = {}
        self.constants: dict[Array, np.ndarray] = {}
        self.instructions: list[Instruction] = []
        self.values: list[np.ndarray] = []
        self.part = "forward"
        self.line = ""

    def argument(self, value: Any) -> Array:
        value = np.asarray(value)
        array = Array(value.shape, value.dtype)
        self.arguments.append(array)
        self.values.append(value)
        return array

    def parameter(self, value: Any) -> Array:
        value = np.array(value)
        array = Array(value.shape, value.dtype)
        self.state[array] = value
        return array

    def constant(self, value: Any, dtype: Any = np.float32) -> Array:
        value = np.asarray(value, dtype)
        array = Array(value.shape, value.dtype)
        self.constants[array] = value
        return array

    def add(
        self, kind: str, function: str, inputs: Sequence[Array], shape: Sequence[int], dtype: Any = None, **options: Any
    ) -> Array:
        output = Array(shape, dtype or inputs[0].dtype)
        self.instructions.append(Instruction(kind, function, inputs, [output], options, Source("", self.part, self.line)))
        return output

    def map(self, function: str, *inputs: Any, dtype: Any = None) -> Array:
        like = next(a for a in inputs if isinstance(a, Array))
        arrays = [a if isinstance(a, Array) else self.constant(a, like.dtype) for a in inputs]
        return self.add("map", function, arrays, np.broadcast_shapes(*[a.shape for a in arrays]), dtype)

    def matmul(self, a: Array, b: Array) -> Array:
        stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return self.add("matmul", "matmul", [a, b], (*stack, a.shape[-2], b.shape[-1]))

    def reduce(
        self, function: str, x: Array, axes: Sequence[int] | None = None, keepdims: bool = False, dtype: Any = None
    ) -> Array:
        lost = tuple(range(x.ndim)) if axes is None else tuple(axes)
        shape = [1 if a in lost else n for a, n in enumerate(x.shape) if keepdims or a not in lost]
        return self.add("reduce", function, [x], shape, dtype, axes=lost, keepdims=keepdims)

    def reshape(self, x: Array, *shape: int) -> Array:
        return self.add("view", "reshape", [x], np.empty(x.shape, bool).reshape(shape).shape)

    def transpose(self, x: Array, *axes: int) -> Array:
        axes = axes or tuple(range(x.ndim))[::-1]
        return self.add("view", "transpose", [x], [x.shape[a] for a in axes], axes=axes)

    def slice(self, x: Array, *key: Any) -> Array:
        return self.add("view", "slice", [x], np.empty(x.shape, bool)[key].shape, key=key)

    def broadcast(self, x: Array, *shape: int) -> Array:
        return self.add("view", "broadcast", [x], shape)

    def join(self, *pieces: Array, axis: int = 0) -> Array:
        first = pieces[0].shape
        shape = (*first[:axis], sum(p.shape[axis] for p in pieces), *first[axis + 1 :])
        return self.add("join", "concatenate", pieces, shape, axis=axis)

    def place(self, x: Array, shape: Sequence[int], *key: Any) -> Array:
        return self.add("place", "place", [x], shape, key=key)

    def take(self, x: Array, indices: Array, axis: int = 0) -> Array:
        return self.add("take", "take", [x, indices], (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), axis=axis)

    def add_at(self, x: Array, indices: Array, shape: Sequence[int], axis: int = 0) -> Array:
        return self.add("add_at", "take", [x, indices], shape, axis=axis)

    def random(self, generator: np.random.Generator, *shape: int) -> Array:
        output = Array(shape, np.float64)
        options = {"generator": generator, "args": (shape,)}
        self.instructions.append(Instruction("random", "random", [], [output], options))
        return output

    def program(self, *results: Array, writes: Sequence[tuple[Array, Array]] = ()) -> Program:
        made = Program(self.arguments, (), self.state, self.constants, self.instructions, results, writes)
        made.check()
        return made


def results_of(program: Program, values: Sequence[np.ndarray], numbers: Sequence[float] = ()) -> list[np.ndarray]:
    """What a program returns and what it writes; its state is as before afterwards."""
    program.check()
    before = {a: np.array(v) for a, v in program.state.items()}
    with np.errstate(all="ignore"):
        made = interpret(program, values, numbers)
    made += [np.array(program.state[a]) for a, _ in program.writes]
    for array, value in before.items():
        program.state[array][...] = value
    return made


def same_results(program: Program, other: Program, values: Sequence[np.ndarray], numbers: Sequence[float] = ()) -> None:
    """Fail unless two programs give the same, up to rounding."""
    for one, two in zip(results_of(program, values, numbers), results_of(other, values, numbers)):
        assert one.shape == two.shape and one.dtype == two.dtype
        scale = np.abs(one[np.isfinite(one)]).max(initial=1.0) if one.dtype.kind == "f" else 1
        tolerance = {"f": 1e-9}.get(one.dtype.kind, 0) if one.dtype.itemsize == 8 or one.dtype.kind != "f" else 2e-5
        np.testing.assert_allclose(two, one, rtol=tolerance, atol=tolerance * scale)


def counts(program: Program) -> dict[str, int]:
    """Instructions of each kind."""
    found: dict[str, int] = {}
    for instruction in program.instructions:
        found[instruction.kind] = found.get(instruction.kind, 0) + 1
    return found


class RandomProgram(Builder):
    """A program of random instructions over float64 arrays, with views, joins, products, sums, gathers and random draws."""

    def __init__(self, seed: int, length: int = 40) -> None:
        super().__init__()
        self.rng = rng = np.random.default_rng(seed)
        self.pool: list[Array] = []
        for shape in ((3, 4), (4, 3), (4,), (2, 3, 4), (), (1, 4)):
            self.pool.append(self.argument(rng.normal(size=shape)))
        self.pool.append(self.parameter(rng.normal(size=(4, 4))))
        self.pool.append(self.constant(1.0, np.float64))
        self.pool.append(self.constant(rng.normal(size=(3, 4)), np.float64))
        kinds: list[Callable[[], Array | None]] = [
            *[self._unary] * 2, *[self._binary] * 5, self._scaled, self._reduce, self._reshape, self._transpose, self._slice,
            self._broadcast, self._join, self._place, self._product, self._product, self._gather, self._scatter, self._chain, self._draw,
        ]  # fmt: skip
        while len(self.instructions) < length:
            made = kinds[rng.integers(len(kinds))]()
            if made is not None and made.size and made.size <= 4096:
                self.pool.append(made)

    def build(self) -> Program:
        """The program, which returns some of what was made, and writes the parameter."""
        rng = self.rng
        picked = [self.pool[k] for k in rng.choice(len(self.pool), size=6, replace=False)]
        (state,) = self.state
        new = next((a for a in self.pool[::-1] if a.shape == state.shape and a is not state), state)
        return self.program(*picked, self.pool[-1], writes=[(state, new)])

    def pick(self, ndim: int | None = None) -> Array | None:
        fitting = [a for a in self.pool if ndim is None or a.ndim == ndim]
        return fitting[int(len(fitting) * self.rng.random() ** 0.6)] if fitting else None

    def _unary(self) -> Array | None:
        function = self.rng.choice(["negative", "tanh", "sin", "absolute", "copy", "cast", "square"])
        x = self.pick()
        return self.map(str(function), x)

    def _binary(self) -> Array | None:
        x = self.pick()
        fitting = [a for a in self.pool if _broadcasts(a.shape, x.shape)]
        y = fitting[self.rng.integers(len(fitting))]
        function = self.rng.choice(["add", "add", "subtract", "multiply", "maximum", "minimum"])
        made = self.map(str(function), x, y)
        return self.map("tanh", made) if function == "multiply" else made

    def _scaled(self) -> Array | None:
        return self.map(
            str(self.rng.choice(["multiply", "add", "divide"])), self.pick(), float(self.rng.choice([1, 2, -1, 0.5, 0.3]))
        )

    def _reduce(self) -> Array | None:
        x = self.pick()
        if not x.ndim:
            return None
        axes = tuple(sorted(self.rng.choice(x.ndim, size=self.rng.integers(1, x.ndim + 1), replace=False).tolist()))
        return self.reduce(str(self.rng.choice(["sum", "sum", "max", "min"])), x, axes, bool(self.rng.integers(2)))

    def _reshape(self) -> Array | None:
        x = self.pick()
        shapes = [(x.size,), (1, x.size), (x.size, 1), *[(k, x.size // k) for k in (2, 3, 4) if x.size % k == 0]]
        return self.reshape(x, *shapes[self.rng.integers(len(shapes))])

    def _transpose(self) -> Array | None:
        x = self.pick()
        return self.transpose(x, *self.rng.permutation(x.ndim).tolist()) if x.ndim else None

    def _slice(self) -> Array | None:
        x = self.pick()
        if not x.ndim:
            return None
        key: list[Any] = []
        for n in x.shape:
            start = int(self.rng.integers(n))
            options = [slice(None), start, slice(start, n), slice(0, start + 1), slice(None, None, 2)]
            key.append(options[self.rng.integers(len(options))])
        if self.rng.random() < 0.2:
            key.insert(int(self.rng.integers(len(key) + 1)), None)
        return self.slice(x, *key)

    def _broadcast(self) -> Array | None:
        x = self.pick()
        shape = [3 if n == 1 and self.rng.random() < 0.7 else n for n in x.shape]
        return self.broadcast(x, *([2] if self.rng.random() < 0.5 else []), *shape)

    def _join(self) -> Array | None:
        x = self.pick()
        if not x.ndim:
            return None
        axis = int(self.rng.integers(x.ndim))
        fitting = [a for a in self.pool if a.ndim == x.ndim and _without(a.shape, axis) == _without(x.shape, axis)]
        others = [fitting[self.rng.integers(len(fitting))] for _ in range(self.rng.integers(1, 4))]
        return self.join(x, *others, axis=axis)

    def _place(self) -> Array | None:
        x = self.pick(2)
        axis = int(self.rng.integers(2))
        total = list(x.shape)
        total[axis] += 2
        key = [slice(None), slice(None)]
        start = int(self.rng.integers(3))
        key[axis] = slice(start, start + x.shape[axis])
        return self.place(x, total, *key)

    def _product(self) -> Array | None:
        a = self.pick(int(self.rng.choice([2, 2, 3])))
        if a is None:
            return None
        fitting = [b for b in self.pool if b.ndim == 2 and b.shape[0] == a.shape[-1]]
        if not fitting:
            return None
        return self.map("tanh", self.matmul(a, fitting[self.rng.integers(len(fitting))]))

    def _gather(self) -> Array | None:
        x = self.pick(2)
        axis = int(self.rng.integers(2))
        return self.take(x, self.constant(self.rng.integers(x.shape[axis], size=3), np.int64), axis)

    def _scatter(self) -> Array | None:
        x = self.pick(2)
        return self.add_at(x, self.constant(self.rng.integers(5, size=x.shape[0]), np.int64), (5, x.shape[1]))

    def _chain(self) -> Array | None:
        """A sum of products or slices, as backward passes make them."""
        x = self.pick(2)
        terms = []
        for _ in range(int(self.rng.integers(3, 6))):
            choice = self.rng.integers(3)
            left = self.map("sin", x) if choice else self.map("multiply", x, 0.7)
            if choice == 2:
                terms.append(self.matmul(self.transpose(left), self.map("cos", x)))
            elif choice == 1:
                terms.append(self.broadcast(self.reduce("sum", left, (0,)), x.shape[1], x.shape[1]))
            else:
                start = int(self.rng.integers(x.shape[1]))
                row = self.reduce("sum", left, (0,), True)
                terms.append(self.place(row, (x.shape[1], x.shape[1]), slice(start, start + 1)))
        total = terms[0]
        for term in terms[1:]:
            total = self.map("add", total, term) if self.rng.random() < 0.5 else self.map("add", term, total)
        return total

    def _draw(self) -> Array | None:
        return self.random(np.random.default_rng(7), 3, 4)


def _broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(a[::-1], b[::-1]))


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])
