"""Programs: what a recorded step computes, as a list of instructions over arrays without elements.

A recording is a list of operators (``core/trace.py``); ``lower`` rewrites each operator into instructions of the few kinds below, passes
rewrite programs into faster ones, and an executor runs the last of them. Every array is made once and never changed (static single
assignment), so a pass may move, merge or drop instructions freely; only ``random`` instructions keep their number and their order, since
the generators' streams must be those of an eager run.

| kind | functions | inputs -> outputs |
| --- | --- | --- |
| ``map`` | NumPy's element-wise functions by name, ``where``, ``cast``, ``copy`` | any number, which broadcast -> 1 |
| ``reduce`` | ``sum prod max min any all argmax argmin``; options ``axes``, ``keepdims`` | 1 -> 1 |
| ``scan`` | ``cumsum cumprod``; option ``axis`` | 1 -> 1 |
| ``matmul`` | NumPy's ``matmul`` of arrays with at least 2 axes | 2 -> 1 |
| ``view`` | ``reshape``, ``transpose`` (``axes``), ``slice`` (``key``), ``broadcast`` | 1 -> 1, the same elements in another shape |
| ``join`` | ``concatenate`` (``axis``) | any number -> 1 |
| ``place`` | zeros with the input at ``key`` | 1 -> 1 |
| ``take`` | rows at indices along ``axis`` (``take``), or elements (``take_along_axis``) | array, indices -> 1 |
| ``add_at`` | zeros to which rows (``take``) or elements (``take_along_axis``) are added at indices along ``axis`` | array, indices -> 1 |
| ``random`` | a method of a generator; options ``generator``, ``args`` | 0 -> 1 |
| ``call`` | an operator, or its backward, as it is: option ``run(*arrays) -> list of arrays`` | any -> any |
| ``group`` | instructions that run together, block by block: option ``body`` | any -> any |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backend.arrays import as_array


class Source(NamedTuple):
    """Where an instruction comes from: the operator, the part of the step ("forward", "backward" or "update"), the user's line."""

    operator: str = ""
    part: str = "forward"
    line: str = ""


NOWHERE = Source()


class Array:
    """A value of a program: shape and dtype, the instruction that makes it (None for what the program is given), and a name."""

    __slots__ = ("shape", "dtype", "maker", "name")

    def __init__(self, shape: Iterable[int], dtype: Any, name: str = "", maker: Instruction | None = None) -> None:
        self.shape = tuple([int(n) for n in shape])
        self.dtype = np.dtype(dtype)
        self.maker = maker
        self.name = name

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        total = 1
        for n in self.shape:
            total *= n
        return total

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return self.name or f"<array {self.shape} {self.dtype}>"


class Instruction:
    """One instruction: kind, function, the arrays it reads and makes, its options, and where it comes from."""

    __slots__ = ("kind", "function", "inputs", "outputs", "options", "source")

    def __init__(
        self,
        kind: str,
        function: str,
        inputs: Sequence[Array],
        outputs: Sequence[Array],
        options: dict[str, Any] | None = None,
        source: Source = NOWHERE,
    ) -> None:
        self.kind = kind
        self.function = function
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.options = options or {}
        self.source = source
        for output in self.outputs:
            output.maker = self

    @property
    def output(self) -> Array:
        """The only output."""
        (output,) = self.outputs
        return output

    def with_inputs(self, inputs: Sequence[Array]) -> Instruction:
        """The same instruction, making the same arrays, of other inputs."""
        return Instruction(self.kind, self.function, inputs, self.outputs, self.options, self.source)

    def __repr__(self) -> str:
        options = "".join(f", {k}={v!r}" for k, v in self.options.items() if k not in ("run", "body", "generator"))
        made = ", ".join(map(repr, self.outputs))
        return f"{made} = {self.function}({', '.join(map(repr, self.inputs))}{options})"


class Program:
    """Instructions in an order in which they can run, and the arrays at both ends.

    arguments: arrays that each call brings.
    numbers: 0-d arrays that each call brings as Python numbers (learning rates, step counts).
    state: Array -> the array that lived before the step and lives on (a parameter, a running mean, an optimizer's moment); it is read as it
    is at the moment of the call.
    constants: Array -> its elements, which never change.
    results: arrays that a call returns.
    writes: (array of ``state``, the array whose elements it takes at the end of the step).
    """

    def __init__(
        self,
        arguments: Sequence[Array] = (),
        numbers: Sequence[Array] = (),
        state: dict[Array, Any] | None = None,
        constants: dict[Array, np.ndarray] | None = None,
        instructions: Sequence[Instruction] = (),
        results: Sequence[Array] = (),
        writes: Sequence[tuple[Array, Array]] = (),
    ) -> None:
        self.arguments = list(arguments)
        self.numbers = list(numbers)
        self.state = dict(state or {})
        self.constants = dict(constants or {})
        self.instructions = list(instructions)
        self.results = list(results)
        self.writes = list(writes)

    @property
    def given(self) -> list[Array]:
        """Every array that no instruction makes."""
        return [*self.arguments, *self.numbers, *self.state, *self.constants]

    @property
    def wanted(self) -> list[Array]:
        """Every array that is read after the last instruction."""
        return [*self.results, *(new for _, new in self.writes)]

    def users(self) -> dict[Array, list[Instruction]]:
        """The instructions that read each array."""
        found: dict[Array, list[Instruction]] = {}
        for instruction in self.instructions:
            for array in dict.fromkeys(instruction.inputs):
                found.setdefault(array, []).append(instruction)
        return found

    def replaced(self, instructions: Sequence[Instruction], instead: dict[Array, Array] | None = None) -> Program:
        """The program with other instructions, in which every array of ``instead`` is replaced (repeatedly) by its substitute. Given arrays
        that nobody reads any more are kept, so that calls stay as they are; constants are dropped."""
        swaps = instead or {}

        def now(array: Array) -> Array:
            while array in swaps:
                array = swaps[array]
            return array

        made = []
        for instruction in instructions:
            inputs = tuple([now(a) for a in instruction.inputs])
            made.append(instruction if inputs == instruction.inputs else instruction.with_inputs(inputs))
        results = [now(a) for a in self.results]
        writes = [(old, now(new)) for old, new in self.writes]
        used = {a for i in made for a in i.inputs} | set(results) | {new for _, new in writes}
        constants = {a: value for a, value in self.constants.items() if a in used}
        return Program(self.arguments, self.numbers, self.state, constants, made, results, writes)

    def check(self) -> None:
        """Raise AssertionError unless every array is made once and before it is read."""
        known = set(self.given)
        for instruction in self.instructions:
            missing = [a for a in instruction.inputs if a not in known]
            assert not missing, f"{instruction} reads {missing}, which nothing made before"
            for output in instruction.outputs:
                assert output not in known, f"{output} is made twice"
                known.add(output)
        assert all(a in known for a in self.wanted), "a result is never made"

    def __str__(self) -> str:
        name_arrays(self)
        lines = [f"{a} {a.shape} {a.dtype}" for a in (*self.arguments, *self.numbers, *self.state)]
        lines += [repr(i) for i in self.instructions]
        return "\n".join([*lines, f"-> {', '.join(map(repr, self.results))}"])


def name_arrays(program: Program) -> None:
    """Give every array without a name one that is short and unique: x0 (argument), n0 (number), s0 (state), c0 (constant), v0."""
    groups = (("x", program.arguments), ("n", program.numbers), ("s", program.state), ("c", program.constants))
    made = [a for instruction in flat(program.instructions) for a in instruction.outputs]
    taken = {a.name for _, arrays in groups for a in arrays} | {a.name for a in made}
    for letter, arrays in (*groups, ("v", made)):
        number = 0
        for array in arrays:
            if not array.name:
                while f"{letter}{number}" in taken:
                    number += 1
                array.name = f"{letter}{number}"
                taken.add(array.name)


def flat(instructions: Iterable[Instruction]) -> Iterator[Instruction]:
    """The instructions, with groups replaced by what they hold."""
    for instruction in instructions:
        if instruction.kind == "group":
            yield from flat(instruction.options["body"])
        else:
            yield instruction


# ---- running a program plainly: what passes and executors are compared with -----------------------


def run_instruction(instruction: Instruction, values: Sequence[Any], xp: Any = np) -> list[Any]:
    """The outputs of one instruction for the elements of its inputs, allocated anew, in the plainest way."""
    kind, function, options = instruction.kind, instruction.function, instruction.options
    if kind == "call":
        return [as_array(y) for y in options["run"](*values)]
    if kind == "random":
        return [as_array(getattr(options["generator"], function)(*options["args"]))]
    if kind == "group":
        local = dict(zip(instruction.inputs, values))
        _run_all(options["body"], local, xp)
        return [local[a] for a in instruction.outputs]
    return [as_array(_PLAIN[kind](xp, instruction, function, options, *values))]


def _map(xp: Any, instruction: Instruction, function: str, options: dict[str, Any], *values: Any) -> Any:
    output = instruction.outputs[0]
    if function in ("cast", "copy"):
        return xp.array(values[0], dtype=output.dtype)
    return as_array(getattr(xp, function)(*values)).astype(output.dtype, copy=False)


def _reduce(xp: Any, instruction: Instruction, function: str, options: dict[str, Any], x: Any) -> Any:
    axes, output = tuple(options["axes"]), instruction.outputs[0]
    if function in ("argmax", "argmin"):
        (axis,) = axes
        made = as_array(getattr(xp, function)(x, axis=axis))
    elif function in ("sum", "prod"):
        made = as_array(getattr(xp, function)(x, axis=axes, dtype=output.dtype))
    else:
        made = as_array(getattr(xp, function)(x, axis=axes))
    return made.astype(output.dtype, copy=False).reshape(output.shape)


def _view(xp: Any, instruction: Instruction, function: str, options: dict[str, Any], x: Any) -> Any:
    if function == "transpose":
        return x.transpose(options["axes"])
    if function == "slice":
        return x[options["key"]]
    if function == "broadcast":
        return xp.broadcast_to(x, instruction.outputs[0].shape)
    return x.reshape(instruction.outputs[0].shape)


def _place(xp: Any, instruction: Instruction, function: str, options: dict[str, Any], x: Any) -> Any:
    output = instruction.outputs[0]
    made = xp.zeros(output.shape, output.dtype)
    made[options["key"]] = x
    return made


def _take(xp: Any, instruction: Instruction, function: str, options: dict[str, Any], x: Any, indices: Any) -> Any:
    if function == "take":
        return xp.take(x, indices, axis=options["axis"])
    return xp.take_along_axis(x, indices, options["axis"])


def _add_at(xp: Any, instruction: Instruction, function: str, options: dict[str, Any], x: Any, indices: Any) -> Any:
    output, axis = instruction.outputs[0], options["axis"]
    made = xp.zeros(output.shape, output.dtype)
    if function == "take":
        xp.add.at(made, (*[slice(None)] * axis, indices), x)
    else:
        key = [xp.arange(n).reshape([-1 if i == d else 1 for i in range(x.ndim)]) for d, n in enumerate(indices.shape)]
        key[axis] = indices
        xp.add.at(made, tuple(key), x)
    return made


_PLAIN: dict[str, Callable[..., Any]] = {
    "map": _map,
    "reduce": _reduce,
    "scan": lambda xp, i, function, options, x: getattr(xp, function)(x, axis=options["axis"], dtype=i.outputs[0].dtype),
    "matmul": lambda xp, i, function, options, a, b: xp.matmul(a, b),
    "view": _view,
    "join": lambda xp, i, function, options, *xs: xp.concatenate(xs, axis=options["axis"]),
    "place": _place,
    "take": _take,
    "add_at": _add_at,
}


def _run_all(instructions: Iterable[Instruction], known: dict[Array, Any], xp: Any) -> None:
    for instruction in instructions:
        for array, value in zip(instruction.outputs, run_instruction(instruction, [known[a] for a in instruction.inputs], xp)):
            known[array] = value


def interpret(program: Program, arguments: Sequence[Any] = (), numbers: Sequence[float] = (), xp: Any = np) -> list[Any]:
    """Run a program plainly: returns its results, and changes the arrays of its state."""
    known: dict[Array, Any] = dict(zip(program.arguments, arguments))
    known.update({a: xp.asarray(n, dtype=a.dtype) for a, n in zip(program.numbers, numbers)})
    known.update(program.state)
    known.update({a: xp.asarray(value) for a, value in program.constants.items()})
    _run_all(program.instructions, known, xp)
    results = [xp.array(known[a]) for a in program.results]
    new = [xp.array(known[a]) for _, a in program.writes]
    for (old, _), value in zip(program.writes, new):
        program.state[old][...] = value
    return results
