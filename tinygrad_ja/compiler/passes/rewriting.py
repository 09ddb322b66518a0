"""What passes share: a writer that collects the instructions of the new program, and answers to small questions about arrays.

A pass walks through a program, keeps an instruction (``keep``), says that an array is the same as another one (``replace``), or writes new
instructions (``add``, ``reshape``, ...), and hands over what came of it (``finished``). The program that it was given stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..program import NOWHERE, Array, Instruction, Program, Source

Key = tuple[slice, ...]


class Writer:
    """Collects the instructions of the program that a pass makes of ``program``.

    ``made``: array -> the instruction that makes it now. ``source``: where new instructions are said to come from.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.instructions: list[Instruction] = []
        self.made: dict[Array, Instruction] = {}
        self.constants: dict[Array, np.ndarray] = dict(program.constants)
        self.instead: dict[Array, Array] = {}
        self.source: Source = NOWHERE
        self._views: dict[tuple[Any, ...], Array] = {}
        self._uniform: dict[Array, Any] = {}

    def __iter__(self) -> Iterator[Instruction]:
        """The instructions of the given program, each reading what stands instead of its inputs now."""
        for instruction in self.program.instructions:
            self.source = instruction.source
            inputs = tuple([self.now(a) for a in instruction.inputs])
            yield instruction if inputs == instruction.inputs else instruction.with_inputs(inputs)

    def now(self, array: Array) -> Array:
        """What stands instead of an array."""
        while array in self.instead:
            array = self.instead[array]
        return array

    def maker(self, array: Array, kind: str = "", function: str = "") -> Instruction | None:
        """The instruction that makes an array, if it is of that kind and function."""
        found = self.made.get(array)
        if found is None or (kind and found.kind != kind) or (function and found.function != function):
            return None
        return found

    def keep(self, instruction: Instruction) -> None:
        """Take an instruction over."""
        self.instructions.append(instruction)
        for output in instruction.outputs:
            self.made[output] = instruction

    def replace(self, array: Array, by: Array) -> None:
        """Let every later reader of ``array`` read ``by``, which has the same elements."""
        if array is not by:
            self.instead[array] = by

    def add(self, kind: str, function: str, inputs: Sequence[Array], shape: Iterable[int], dtype: Any, **options: Any) -> Array:
        """The output of a new instruction."""
        output = Array(shape, dtype)
        self.keep(Instruction(kind, function, inputs, (output,), options, self.source))
        return output

    def finished(self, instructions: Sequence[Instruction] | None = None) -> Program:
        """The new program; ``instructions``: those that were written, in another order."""
        p = self.program
        results = [self.now(a) for a in p.results]
        writes = [(old, self.now(new)) for old, new in p.writes]
        made = self.instructions if instructions is None else instructions
        return with_instructions(Program(p.arguments, p.numbers, p.state, self.constants, (), results, writes), made)

    # -- views; each is written once, and none where it would change nothing

    def _view(self, function: str, x: Array, shape: tuple[int, ...], detail: Any, options: dict[str, Any]) -> Array:
        key = (function, x, shape, detail)
        if key not in self._views:
            self._views[key] = self.add("view", function, (x,), shape, x.dtype, **options)
        return self._views[key]

    def reshape(self, x: Array, shape: Iterable[int]) -> Array:
        """The elements of ``x`` in another shape."""
        shape = tuple(shape)
        inner = self.maker(x, "view", "reshape")
        if inner is not None:
            x = inner.inputs[0]
        if shape == x.shape:
            return x
        if x in self.constants:
            key = ("constant", x, shape)
            if key not in self._views:
                self._views[key] = self.constant(self.constants[x].reshape(shape), x.dtype)
            return self._views[key]
        return self._view("reshape", x, shape, (), {})

    def transpose(self, x: Array, axes: Iterable[int]) -> Array:
        """``x`` with its axes in another order."""
        axes = tuple(axes)
        if axes == tuple(range(x.ndim)):
            return x
        return self._view("transpose", x, tuple([x.shape[a] for a in axes]), axes, {"axes": axes})

    def slice(self, x: Array, key: Key) -> Array:
        """Part of ``x``; a slice with known ends for each axis."""
        shape = tuple([len(range(*part.indices(n))) for part, n in zip(key, x.shape)])
        if shape == x.shape and all((part.step or 1) > 0 for part in key):
            return x
        return self._view("slice", x, shape, tuple([(s.start, s.stop, s.step) for s in key]), {"key": key})

    def rows(self, x: Array, start: int, stop: int) -> Array:
        """``x[start:stop]``."""
        return self.slice(x, (slice(start, stop, 1), *[slice(0, n, 1) for n in x.shape[1:]]))

    def broadcast(self, x: Array, shape: Iterable[int]) -> Array:
        """``x`` repeated along new axes and axes of size 1."""
        shape = tuple(shape)
        return x if shape == x.shape else self._view("broadcast", x, shape, (), {})

    def join(self, pieces: Sequence[Array], axis: int = 0) -> Array:
        """Arrays one behind the other along an axis."""
        if len(pieces) == 1:
            return pieces[0]
        first = pieces[0].shape
        shape = (*first[:axis], sum([p.shape[axis] for p in pieces]), *first[axis + 1 :])
        return self.add("join", "concatenate", pieces, shape, pieces[0].dtype, axis=axis)

    def constant(self, value: Any, dtype: Any) -> Array:
        """A new constant."""
        elements = np.asarray(value, dtype)
        array = Array(elements.shape, elements.dtype)
        self.constants[array] = elements
        return array

    def uniform(self, array: Array) -> Any:
        """The value that all elements of a constant have, also of one that was broadcast or reshaped; else None."""
        if array not in self._uniform:
            value = None
            maker = self.made.get(array)
            if maker is not None and maker.kind == "view":
                value = self.uniform(maker.inputs[0])
            elif array in self.constants and array.size and self.constants[array].dtype.kind in "fiub":
                elements = self.constants[array]
                first = elements.flat[0]
                same = elements.size == 1 or (elements == first).all()
                if same and (first != 0 or not np.signbit(elements).any() or np.signbit(elements).all()):
                    value = first
            self._uniform[array] = value
        return self._uniform[array]


def with_instructions(program: Program, instructions: Sequence[Instruction]) -> Program:
    """The program with other instructions, and without constants that none of them reads."""
    p = program
    used = {a for i in instructions for a in i.inputs}
    used.update(p.wanted)
    constants = {a: value for a, value in p.constants.items() if a in used}
    return Program(p.arguments, p.numbers, p.state, constants, instructions, p.results, p.writes)


def canonical(key: Any, shape: tuple[int, ...]) -> tuple[Key, tuple[int, ...]]:
    """A key of ints, slices, None and ... as one slice for each axis, and the shape to which its result is reshaped.

    >>> canonical((..., 1, None), (4, 5))
    ((slice(0, 4, 1), slice(1, 2, 1)), (4, 1))
    """
    items = list(key) if isinstance(key, tuple) else [key]
    used = sum([item is not None and item is not Ellipsis for item in items])
    missing = [slice(None)] * (len(shape) - used)
    dots = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
    items[dots : dots + 1] = missing
    made: list[slice] = []
    final: list[int] = []
    for item in items:
        if item is None:
            final.append(1)
            continue
        n = shape[len(made)]
        if isinstance(item, slice):
            start, stop, step = item.indices(n)
            length = len(range(start, stop, step))
            stop = start + (length - 1) * step + 1 if length else start
            if step < 0:
                stop = start + length * step
            made.append(slice(start, stop if stop >= 0 else None, step))
            final.append(length)
        else:
            start = int(item) % n
            made.append(slice(start, start + 1, 1))
    return tuple(made), tuple(final)


def is_plain(key: Any, ndim: int) -> bool:
    """Whether a key is what ``canonical`` makes, with steps forward."""
    return (
        isinstance(key, tuple)
        and len(key) == ndim
        and all([isinstance(s, slice) and type(s.start) is int and type(s.stop) is int and (s.step or 0) > 0 for s in key])
    )


def cut_axis(key: Key, shape: tuple[int, ...]) -> int | None:
    """The only axis that a plain key cuts, in steps of 1; None where it cuts several, or none."""
    axes = [a for a, (s, n) in enumerate(zip(key, shape)) if (s.start, s.stop) != (0, n)]
    return axes[0] if len(axes) == 1 and key[axes[0]].step == 1 else None


def size_of(shape: Iterable[int]) -> int:
    """Number of elements."""
    return math.prod(shape)


def frozen(value: Any) -> Any:
    """Options as something that can be a key of a dictionary.

    >>> frozen({"key": (slice(0, 2), None)})
    (('key', (('slice', 0, 2, None), None)),)
    """
    if isinstance(value, dict):
        return tuple([(k, frozen(v)) for k, v in sorted(value.items())])
    if isinstance(value, (tuple, list)):
        return tuple([frozen(v) for v in value])
    if isinstance(value, slice):
        return ("slice", value.start, value.stop, value.step)
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value
