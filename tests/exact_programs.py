"""Random programs whose every element is a small whole number, so that all orders of a sum give the same: executors have to agree exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from program_builder import Builder

from tinygrad_ja.backend.random import Generator
from tinygrad_ja.compiler.program import Array, Instruction, Program, interpret

F = np.float32


class ExactProgram(Builder):
    """Instructions of all kinds over small matrices, with numbers, arrays of the state that overlap, and operators that return views."""

    def __init__(self, seed: int, length: int = 60) -> None:
        super().__init__()
        self.rng = rng = np.random.default_rng(seed)
        self.numbers = [Array((), F), Array((), F)]
        self.pool: list[Array] = [self.argument(self._whole(4, 6)), self.argument(self._whole(6, 4)), *self.numbers]
        shared = self._whole(10, 6)
        for real in (shared[:4], shared[3:7], shared[6:].T, self._whole(6, 4).T, self._whole(2, 4, 6), self._whole(24)):
            array = Array(real.shape, F)
            self.state[array] = real
            self.pool.append(array)
        self.pool += [self.constant(self._whole(6)), self.constant(0.0), self.constant(2.0)]
        kinds: list[Callable[[], Array | None]] = [
            self._unary, self._turned, self._turned, *[self._binary] * 5, self._where, self._compared, self._reduce, self._reduce,
            self._scan, self._reshape, self._transpose, self._slice, self._broadcast, self._join, self._join, self._stack,
            self._place, self._product, self._product, self._take, self._take_along, self._add_at, self._add_along, self._call,
            self._call, self._draw, self._group,
        ]  # fmt: skip
        while len(self.instructions) < length:
            made = kinds[rng.integers(len(kinds))]()
            if made is not None and 0 < made.size <= 600:
                self.pool.append(made)

    def _whole(self, *shape: int) -> np.ndarray:
        return self.rng.integers(-4, 5, size=shape).astype(F)

    def build(self) -> Program:
        """Returns some of what was made, and writes much of it to the state."""
        writes = []
        for state in self.state:
            fitting = [a for a in self.pool if a.shape == state.shape and a is not state]
            if fitting and self.rng.random() < 0.8:
                writes.append((state, fitting[int(self.rng.integers(len(fitting)))]))
        results = [self.pool[k] for k in self.rng.choice(len(self.pool), size=5, replace=False)]
        made = Program(self.arguments, self.numbers, self.state, self.constants, self.instructions, results, writes)
        made.check()
        return made

    def inputs(self) -> tuple[list[np.ndarray], list[float]]:
        """Arguments, of any strides, and numbers for a call."""
        values = [self._whole(*a.shape[::-1]).T if self.rng.integers(2) else self._whole(*a.shape) for a in self.arguments]
        return values, [float(n) for n in self._whole(2)]

    # -- instructions

    def pick(self, ndim: int | None = None) -> Array:
        """An array with so many axes, rather a new one."""
        fitting = [a for a in self.pool if ndim is None or a.ndim == ndim]
        return fitting[-1 - int(len(fitting) * self.rng.random() ** 2)]

    def small(self, x: Array) -> Array:
        """The remainder, so that elements stay small."""
        return self.map("fmod", x, 7.0)

    def _partner(self, x: Array) -> Array:
        fitting = [a for a in self.pool if all(m == n or 1 in (m, n) for m, n in zip(a.shape[::-1], x.shape[::-1]))]
        return fitting[-1 - int(len(fitting) * self.rng.random() ** 2)]

    def _unary(self) -> Array:
        function = str(self.rng.choice(["negative", "absolute", "copy", "cast", "square"]))
        made = self.map(function, self.pick())
        return self.small(made) if function == "square" else made

    def _turned(self) -> Array | None:
        """A new array, read by a view in another order and for the last time."""
        made = self.small(self.map("add", self.pick(2), 1.0))
        views = [self.transpose(made), self.slice(made, slice(None, None, -1)), self.reshape(self.transpose(made), *made.shape)]
        kept = self.map("negative", views[self.rng.integers(3)])
        square = self.matmul(made, self.transpose(made))
        mirrored = self.map("subtract", square, self.transpose(square))
        return self.small(mirrored) if self.rng.integers(2) and square.size <= 144 else kept

    def _binary(self) -> Array:
        x = self.pick()
        function = str(self.rng.choice(["add", "subtract", "multiply", "maximum", "minimum"]))
        made = self.map(function, x, self._partner(x))
        return made if function in ("maximum", "minimum") else self.small(made)

    def _where(self) -> Array:
        x = self.pick()
        mask = self.map("greater", x, self._partner(x), dtype=np.bool_)
        return self.map("where", mask, self._partner(mask), x, dtype=F)

    def _compared(self) -> Array:
        x = self.pick()
        mask = self.map("less", x, self._partner(x), dtype=np.bool_)
        return self.map("cast", mask, dtype=F)

    def _axes(self, x: Array) -> list[int]:
        return self.rng.choice(x.ndim, size=self.rng.integers(1, x.ndim + 1), replace=False).tolist()

    def _reduce(self) -> Array | None:
        x = self.pick()
        if not x.ndim:
            return None
        function = str(self.rng.choice(["sum", "sum", "max", "min", "any", "argmax"]))
        keepdims = bool(self.rng.integers(2))
        if function == "argmax":
            return self.map("cast", self.reduce(function, x, self._axes(x)[:1], keepdims, np.int64), dtype=F)
        if function == "any":
            return self.map("cast", self.reduce(function, x, self._axes(x), keepdims, np.bool_), dtype=F)
        return self.small(self.reduce(function, x, self._axes(x), keepdims))

    def _scan(self) -> Array | None:
        x = self.pick()
        return self.small(self.add("scan", "cumsum", [x], x.shape, axis=int(self.rng.integers(x.ndim)))) if x.ndim else None

    def _reshape(self) -> Array:
        x = self.pick()
        if self.rng.integers(2):
            x = self.transpose(x, *self.rng.permutation(x.ndim).tolist())
        shapes = [(x.size,), (1, *x.shape), (*x.shape, 1), *[(k, x.size // k) for k in (2, 3, 4, 6) if x.size % k == 0]]
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
            options = [slice(None), slice(None), start, slice(start, n), slice(None, None, 2), slice(None, None, -1)]
            key.append(options[self.rng.integers(len(options))])
        if self.rng.random() < 0.2:
            key.insert(int(self.rng.integers(len(key) + 1)), None)
        return self.slice(x, *key)

    def _broadcast(self) -> Array:
        x = self.pick()
        shape = [3 if n == 1 and self.rng.random() < 0.7 else n for n in x.shape]
        return self.broadcast(x, *([2] if self.rng.random() < 0.5 else []), *shape)

    def _join(self) -> Array | None:
        x = self.pick()
        if not x.ndim:
            return None
        axis = int(self.rng.integers(x.ndim))
        others = [self.small(self.map("add", x, self._scalar())) for _ in range(self.rng.integers(1, 4))]
        more = [a for a in self.pool if a.ndim == x.ndim and _without(a.shape, axis) == _without(x.shape, axis)]
        parts = [x, *others, more[-1]]
        return self.join(*[parts[k] for k in self.rng.permutation(len(parts))], axis=axis)

    def _stack(self) -> Array:
        x = self.pick()
        axis = int(self.rng.integers(x.ndim + 1))
        rows = []
        for _ in range(int(self.rng.integers(2, 4))):
            made = self.small(self.map("multiply", x, self._scalar()))
            rows.append(self.reshape(made, *x.shape[:axis], 1, *x.shape[axis:]))
        if self.rng.integers(2):
            self.pool.append(self.join(*rows[self.rng.integers(2) :], axis=axis))
        return self.join(*rows, axis=axis)

    def _scalar(self) -> Array:
        return self.numbers[int(self.rng.integers(2))]

    def _place(self) -> Array | None:
        x = self.pick()
        if not x.ndim:
            return None
        return self.place(x, (x.shape[0] + 2, *x.shape[1:]), slice(1, 1 + x.shape[0]))

    def _product(self) -> Array | None:
        a = self.pick(int(self.rng.choice([2, 2, 3])))
        fitting = [b for b in self.pool if b.ndim == 2 and b.shape[0] == a.shape[-1] and a.shape[-1] < 1000]
        return self.small(self.matmul(a, fitting[-1 - int(len(fitting) * self.rng.random())])) if fitting else None

    def _indices(self, below: int, *shape: int) -> Array:
        return self.constant(self.rng.integers(-below, below, size=shape), np.int64)

    def _take(self) -> Array:
        x = self.pick(2)
        axis = int(self.rng.integers(2))
        return self.take(x, self._indices(x.shape[axis], 3), axis)

    def _take_along(self) -> Array:
        x = self.pick(2)
        axis = int(self.rng.integers(2))
        indices = self.reduce("argmax", x, (axis,), True, np.int64)
        return self.add("take", "take_along_axis", [x, indices], indices.shape, x.dtype, axis=axis)

    def _add_at(self) -> Array:
        x = self.pick(2)
        axis = int(self.rng.integers(2))
        shape = list(x.shape)
        shape[axis] = 5
        return self.small(self.add_at(x, self._indices(5, x.shape[axis]), shape, axis))

    def _add_along(self) -> Array:
        x = self.pick(2)
        indices = self._indices(x.shape[1], *x.shape)
        return self.small(self.add("add_at", "take_along_axis", [x, indices], x.shape, axis=1))

    def _call(self) -> Array | None:
        x = self.pick()
        choice = self.rng.integers(4)
        if choice == 0:
            runs: Callable[..., Any] = lambda x: [x]  # noqa: E731
        elif choice == 1:
            runs = lambda x: [x.reshape(-1)[::-1].reshape(x.shape)]  # noqa: E731
        else:
            runs = lambda x: [np.fmod(x * 3 + 1, 5)]  # noqa: E731
        return self.add("call", "operator", [x], x.shape, run=runs)

    def _draw(self) -> Array:
        output = Array((4, 6), F)
        options = {"generator": Generator().manual_seed(int(self.rng.integers(100))), "args": ((4, 6), F)}
        self.instructions.append(Instruction("random", "uniform", [], [output], options))
        return (
            self.map("greater", output, 0.5, dtype=F)
            if self.rng.integers(2)
            else self.map("floor", self.map("multiply", output, 9.0))
        )

    def _group(self) -> Array:
        x = self.pick(2)
        made = group_of(self, x, self.rng)
        self.instructions.append(made)
        return made.outputs[0]

    def generators(self) -> list[Generator]:
        """Those of its draws."""
        return [i.options["generator"] for i in self.instructions if i.kind == "random"]


def group_of(builder: Builder, x: Array, rng: np.random.Generator, inner: int = 1) -> Instruction:
    """A group over the space of ``x``: maps, row reductions, and sums of columns and of everything at the end."""
    outside, builder.instructions = builder.instructions, []
    pool: list[Array] = [x]
    rows: list[Array] = []
    for _ in range(int(rng.integers(3, 9))):
        a, b = pool[rng.integers(len(pool))], pool[-1]
        choice = rng.integers(6)
        if choice == 0 and inner:
            made = builder.reduce(str(rng.choice(["sum", "max", "min"])), a, range(a.ndim - inner, a.ndim), True)
            rows.append(builder.map("fmod", made, 5.0))
        elif choice == 1 and rows:
            pool.append(builder.map("maximum", a, rows[rng.integers(len(rows))]))
        elif choice == 2:
            mask = builder.map("greater", a, b, dtype=np.bool_)
            pool.append(builder.map("where", mask, a, 1.0, dtype=F))
        else:
            function = str(rng.choice(["add", "subtract", "multiply"]))
            pool.append(builder.map("fmod", builder.map(function, a, b), 7.0))
    last = pool[-1]
    outputs = [last, *[a for a in pool[1:-1] if rng.random() < 0.3], *rows[:1]]
    leading = range(last.ndim - inner)
    for axes in (leading, range(last.ndim)):
        if len(axes) and rng.random() < 0.7:
            outputs.append(builder.reduce(str(rng.choice(["sum", "max"])), last, tuple(axes), bool(rng.integers(2))))
    body, builder.instructions = builder.instructions, outside
    made = {a for i in body for a in i.outputs}
    inputs = dict.fromkeys(a for i in body for a in i.inputs if a not in made)
    outputs = [a for a in dict.fromkeys(outputs) if a in made] or [body[-1].output]
    return Instruction("group", "group", list(inputs), outputs, {"body": body, "space": x.shape, "inner": inner})


def both_ways(
    program: Program,
    generators: Sequence[Generator],
    run: Callable[..., list[Any]],
    inputs: Sequence[tuple[list[np.ndarray], list[float]]],
) -> None:
    """Fail unless ``run(arguments, numbers)``, call by call, gives the results of the interpreter and leaves its state and its streams."""
    owners = list({id(_owner(v)): _owner(v) for v in program.state.values()}.values())
    start, streams = [v.copy() for v in owners], [g.get_state() for g in generators]
    wanted = []
    for values, numbers in inputs:
        wanted.append([*interpret(program, values, numbers), *[v.copy() for v in program.state.values()]])
    for owner, value in zip(owners, start):
        owner[...] = value
    for generator, stream in zip(generators, streams):
        generator.set_state(stream)
    for (values, numbers), expected in zip(inputs, wanted):
        made = [*run(values, numbers), *program.state.values()]
        for one, other in zip(made, expected):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def _owner(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])
