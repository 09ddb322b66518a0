"""From a recording to a program: each step's text runs on symbols, which write the instructions.

``operator.forward`` and the derivatives are the one definition of an operator; ``symbolic.py`` says how they write instructions. A step whose
text cannot be written (choices by values, sorting, ...) becomes a ``call`` of the operator's real kernel. Which operators are called on
purpose, and which have a text for symbols, says ``texts.py``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backend.arrays import ARRAY_MODULES, BY_TYPE, as_array, is_array
from ..core.front import build_backward
from ..core.nested import found, mapped
from ..core.operator import OPERATORS, Operator
from ..core.trace import Step, Value
from .marks import BackwardOf, Draw, Number
from .program import Array, Instruction, Program, Source
from .symbolic import Emitter, Symbol, Unsupported, writing_to
from .symbolic_numpy import contents
from .symbolic_operands import as_symbol
from .texts import BACKWARDS, EXPAND, OPAQUE

__all__ = ["EXPAND", "lower"]


def lower(recording: Any) -> tuple[Program, list[Number]]:
    """The program of a recording, and the number of Python that belongs to each of ``program.numbers``.

    recording: has ``inputs``, ``captured`` (Values with an ``array``, and ``live=False`` where that never changes), ``steps``, ``outputs`` and
    ``writes`` (pairs: a captured Value and the Value that its array takes).
    """
    return _Lowering(recording).program()


class _Lowering:
    def __init__(self, recording: Any) -> None:
        self.recording = recording
        self.emitter = Emitter()
        self.symbols: dict[int, Symbol] = {}
        self.arguments = [self._given(value) for value in recording.inputs]
        self.state: dict[Array, Any] = {}
        self.places: dict[int, Array] = {}
        self.by_array: dict[int, Symbol] = {}
        self.done: dict[Any, Step] = {}
        for value in recording.captured:
            self._capture(value)

    def _given(self, value: Value) -> Array:
        array = Array(value.shape, value.dtype)
        self.symbols[id(value)] = contents(array)
        return array

    def _capture(self, value: Any) -> None:
        live = getattr(value, "live", True)
        elements = value.array if live else BY_TYPE[type(value.array)].to_host(value.array)
        if getattr(value, "live", True):
            array = self._given(value)
            self.state[array] = elements
            self.places[id(value)] = array
        elif type(elements) is np.ndarray and elements.size and (elements == elements.flat[0]).all():
            array = self.emitter.constant(elements.flat[0], elements.dtype)
            self.symbols[id(value)] = Symbol(value.shape, value.dtype, array, fill=elements.flat[0]).freeze()
        else:
            self.emitter.constants[self._given(value)] = elements
        self.by_array[id(value.array)] = self.symbols[id(value)]

    # -- the whole

    def program(self) -> tuple[Program, list[Number]]:
        """All steps."""
        recording, emitter = self.recording, self.emitter
        with writing_to(emitter):
            for step in recording.steps:
                self._step(step)
            emitter.source = Source("", "update")
            results = [self._symbol(value).full for value in recording.outputs]
            writes = [(self.places[id(old)], self._symbol(new).full) for old, new in recording.writes]
        used = {a for i in emitter.instructions for a in i.inputs} | set(results) | {new for _, new in writes}
        constants = {a: value for a, value in emitter.constants.items() if a in used}
        numbers = [(number, array) for number, array in emitter.numbers if array in used]
        arrays = [array for _, array in numbers]
        program = Program(self.arguments, arrays, self.state, constants, emitter.instructions, results, writes)
        return program, [number for number, _ in numbers]

    def _symbol(self, value: Value) -> Symbol:
        symbol = self.symbols.get(id(value))
        if symbol is None:  # a constant that nobody announced
            self._capture(value)
            symbol = self.symbols[id(value)]
        return symbol

    # -- one step

    def _step(self, step: Step) -> None:
        mark, emitter = step.operator, self.emitter
        part = "backward" if isinstance(mark, BackwardOf) else "forward"
        note = step.note if isinstance(step.note, Source) else Source(part=part)
        emitter.source = note._replace(operator=note.operator or mark.name)
        if not emitter.source.operator:
            emitter.source = emitter.source._replace(operator=mark.name)
        if isinstance(mark, Draw):
            self._draw(mark, step)
            return
        known = self._again(step)
        if known is not None:
            for value, first in zip(found(_wanted(step), Value), known):
                self.symbols[id(value)] = self.symbols[id(first)]
            return
        before = emitter.mark()
        try:
            made = self._run(step)
            bound = list(_bound(_wanted(step), made))
        except Exception as failure:  # whatever a text may do with symbols
            emitter.undo(before)
            step_failed(step, failure)
            self._call(step)
            return
        for value, symbol in bound:
            self.symbols[id(value)] = symbol.freeze()

    def _again(self, step: Step) -> list[Value] | None:
        """The results of an earlier step that was the same; a fused operator's reference runs once more when it is differentiated."""
        try:
            key = (step.operator, self._key(step.arguments))
            known = self.done.setdefault(key, step)
        except TypeError:  # an argument that is not hashable
            return None
        return None if known is step else list(found(_wanted(known), Value))

    def _key(self, part: Any) -> Any:
        """What tells the arguments of two steps apart."""
        if isinstance(part, Number):
            return part.source
        if _is_leaf(part):
            return id(self._symbol(part)) if isinstance(part, Value) else id(part)
        if isinstance(part, dict):
            return tuple([(name, self._key(value)) for name, value in part.items()])
        if isinstance(part, (tuple, list)):
            return tuple([self._key(value) for value in part])
        return (type(part), repr(part)) if isinstance(part, (float, slice)) else (type(part), part)

    def _run(self, step: Step) -> Any:
        """The step's text on symbols."""
        arguments = mapped(step.arguments, _is_leaf, self._taken)
        mark = step.operator
        if mark.name == "to_device" and step.result[1].type != arguments["device"].type:  # a program has one device
            return arguments["input"], None
        if not isinstance(mark, BackwardOf):
            return mark.apply(mark.kernels[Symbol], arguments)
        if mark.operator.name in OPAQUE:
            raise Unsupported(f"{mark.name}: its kernel is better")
        gradients = _backward_of(mark)(**arguments)
        pairs = enumerate(zip(gradients, _wanted(step)))
        return [g if v is None else _fitted(mark.operator, g, tuple(v.shape), index) for index, (g, v) in pairs]

    def _taken(self, leaf: Any) -> Any:
        return leaf if isinstance(leaf, Number) else self._held(leaf)

    def _held(self, leaf: Any) -> Symbol:
        """The symbol of a Value, or of an array that stands in its place."""
        if isinstance(leaf, Value):
            return self._symbol(leaf)
        known = self.by_array.get(id(leaf))
        return as_symbol(leaf) if known is None else known

    def _draw(self, mark: Draw, step: Step) -> None:
        method, args, value = step.arguments["method"], step.arguments["args"], step.result
        options = {"generator": mark.generator, "args": args}
        output = Array(value.shape, value.dtype)
        self.emitter.instructions.append(Instruction("random", method, [], [output], options, self.emitter.source))
        self.symbols[id(value)] = contents(output)

    def _call(self, step: Step) -> None:
        """The real kernel as one instruction."""
        inputs: list[Array] = []

        def slot(leaf: Any) -> Slot:
            is_number = isinstance(leaf, Number)
            inputs.append(self.emitter.number(leaf, np.dtype(np.float64)) if is_number else self._held(leaf).full)
            return Slot(len(inputs) - 1, is_number)

        arguments = mapped(step.arguments, _is_leaf, slot)
        values = list(found(_wanted(step), Value))
        outputs = [Array(value.shape, value.dtype) for value in values]
        results = mapped(_wanted(step), _is_value, lambda value: Shape(tuple(value.shape)))
        options = {"run": Call(step.operator, arguments, results)}
        made = Instruction("call", step.operator.name, inputs, outputs, options, self.emitter.source)
        self.emitter.instructions.append(made)
        for value, output in zip(values, outputs):
            self.symbols[id(value)] = contents(output)


def step_failed(step: Step, failure: Exception) -> None:
    """Called for each step that becomes a call, with the reason. A place for tools to listen."""


def _is_value(part: Any) -> bool:
    return isinstance(part, Value)


def _is_leaf(part: Any) -> bool:
    return isinstance(part, (Value, Number)) or is_array(part)


def _wanted(step: Step) -> Any:
    """What a step has to give: of a backward only the gradients that were asked for."""
    if not isinstance(step.operator, BackwardOf):
        return step.result
    return [value if needed else None for value, needed in zip(step.result, step.arguments["needs"])]


def _bound(recorded: Any, made: Any) -> Iterator[tuple[Value, Symbol]]:
    """Pairs of a recorded Value and the symbol that stands for it. Raises Unsupported where they do not fit."""
    if isinstance(recorded, Value):
        symbol = as_symbol(made)
        if symbol.shape != tuple(recorded.shape) or symbol.dtype != recorded.dtype:
            raise Unsupported(f"{symbol} in place of {recorded.shape} {recorded.dtype}")
        yield recorded, symbol
    elif isinstance(recorded, (tuple, list)):
        if len(recorded) != len(made):
            raise Unsupported(f"{len(made)} results in place of {len(recorded)}")
        for one, other in zip(recorded, made):
            yield from _bound(one, other)


# ---- backwards -----------------------------------------------------------------------------------


def _backward_of(mark: BackwardOf) -> Callable[..., Any]:
    text = BACKWARDS.get(mark.operator.name)
    if text is None or mark.operator.derivatives != mark.operator.own_derivatives:
        return mark.run
    return BackwardOf(_Substitute(mark.operator, text)).run  # type: ignore[arg-type]


class _Substitute:
    """Stands for an operator with another text of its backward."""

    def __init__(self, operator: Operator, text: Callable[..., Any]) -> None:
        self.name = operator.name
        self.backward = _built(operator.name, text)


@functools.cache
def _built(name: str, text: Callable[..., Any]) -> Callable[..., Any]:
    return build_backward(OPERATORS[name], (text,), True)


def _fitted(operator: Operator, gradient: Any, shape: tuple[int, ...], index: int) -> Any:
    """A gradient in the recorded shape: summed over what was broadcast."""
    return gradient if gradient is None or tuple(gradient.shape) == shape else operator.fit(gradient, shape, index)


# ---- calls ---------------------------------------------------------------------------------------


class Slot(NamedTuple):
    """Where an input, or the number that a 0-d input holds, goes into the arguments of a call."""

    place: int
    is_number: bool


class Shape(NamedTuple):
    """The shape of a recorded result."""

    sizes: tuple[int, ...]


class Call:
    """What a ``call`` runs: the kernel of an operator, or its backward.

    mark: the Operator or the BackwardOf. arguments: by name, with a ``Slot`` for each input of the instruction. results: what was recorded,
    with a ``Shape`` for each output.
    """

    def __init__(self, mark: Any, arguments: dict[str, Any], results: Any) -> None:
        self.mark, self.arguments, self.results = mark, arguments, results

    def __call__(self, *arrays: Any) -> list[Any]:
        def filled(slot: Slot) -> Any:
            return arrays[slot.place].item() if slot.is_number else arrays[slot.place]

        arguments = mapped(self.arguments, lambda part: type(part) is Slot, filled)
        mark = self.mark
        if isinstance(mark, BackwardOf):
            made: Any = mark.run(**arguments)
            pairs = enumerate(zip(made, self.results))
            made = [g if s is None else _fitted(mark.operator, g, s.sizes, index) for index, (g, s) in pairs]
        else:
            kind = next((type(a) for a in arrays if a.ndim), type(arrays[0]) if arrays else np.ndarray)
            made = mark.apply(mark.kernels[kind], arguments)
        return [_own(y, arrays) for y in _results(self.results, made)]


def _results(recorded: Any, made: Any) -> Iterator[Any]:
    if type(recorded) is Shape:
        yield as_array(made)
    elif isinstance(recorded, (tuple, list)):
        for one, other in zip(recorded, made):
            yield from _results(one, other)


def _own(y: Any, arrays: Sequence[Any]) -> Any:
    """A result in memory of its own, since that of the inputs may be used for something else."""
    xp = ARRAY_MODULES[type(y)]
    return y.copy() if any([xp.may_share_memory(y, a) for a in arrays]) else y
