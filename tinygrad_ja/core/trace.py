"""Traces: a program's operators as a list, recorded from one run. What exports a model or replays a step starts from this list.

A traced array stands where a NumPy array stands. Which operators are called with it is seen by the one look-up that every operator
does anyway (``operator.kernels[type(array)]``): for a ``Traced`` array the kernel computes the values with NumPy's kernel and notes the
operator, its arguments and its results. So recording costs nothing where nothing is recorded, and has no state outside of its arrays.

What a program may do with a traced Tensor: call operators, and ask for shape and dtype, which count as constants. Asking for values
(``float(x)``, ``if x:``, ``x.tolist()``, ``np.f(x)``) is an error that shows the line, since the list could not follow. Tensors that are not
traced (parameters, masks) become constants of the list when they meet a traced one; one array is one constant.

>>> import tinygrad_ja as tg
>>> from tinygrad_ja.core.trace import Trace
>>> w = tg.tensor([[1.0, 2.0]])
>>> with Trace({"w": w}) as trace:
...     x = trace.input(tg.ones(3, 2), "x")
...     y = tg.relu(x @ w.T + w.sum())
...     _ = trace.output(y)
>>> print(trace)
x (3, 2) float32
c0 (2, 1) float32 constant
v0 (3, 1) float32 = matmul(x, c0)
c1 () float32 constant
v1 (3, 1) float32 = add(v0, c1)
v2 (3, 1) float32 = relu(v1)
-> v2
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

import numpy as np

from ..backend.arrays import BY_TYPE, as_array
from ..backend.devices import device_of, move
from ..errors import error
from .nested import found, mapped
from .operator import Operator
from .tape import changed_since, next_number, user_line
from .tensor import Tensor
from .traced import Traced
from .traced_calls import mixed_traces


class Value:
    """An array of a trace, without its elements unless it is a constant.

    shape, dtype: as of the array. step: the step that made it, None for an input and a constant. array: the elements of a constant,
    else None. name: unique in its trace. live: a constant whose elements may differ when the program runs again.
    """

    __slots__ = ("name", "shape", "dtype", "step", "array", "live")

    def __init__(self, name: str, like: Any, step: Step | None = None, array: Any = None) -> None:
        self.name = name
        self.shape: tuple[int, ...] = like.shape
        self.dtype: np.dtype = like.dtype
        self.step = step
        self.array = array
        self.live = False

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __repr__(self) -> str:
        return self.name


class Step:
    """One operator's run: the operator; its arguments by name, in which each array is a ``Value``; what it gave (a Value, or a tuple of
    what the kernel returned, extra results included); and ``note``, what the trace's ``note`` function said at that moment."""

    __slots__ = ("operator", "arguments", "result", "note")

    def __init__(self, operator: Operator, arguments: dict[str, Any], note: Any) -> None:
        self.operator = operator
        self.arguments = arguments
        self.note = note
        self.result: Any = None

    @property
    def outputs(self) -> list[Value]:
        """What the public function returns, in order, without the extra results that derivatives ask for."""
        operator = self.operator
        made = self.result[0] if operator.aux else self.result
        return list(made) if operator.several else [made]

    @property
    def inputs(self) -> list[Value]:
        """Every Value among the arguments, in order."""
        made: list[Value] = []
        for value in self.arguments.values():
            if type(value) is Value:
                made.append(value)
            elif type(value) not in _SIMPLE:
                made += found(value, Value)
        return made


def read_by(steps: Iterable[Step]) -> set[int]:
    """The ids of all Values that steps have among their arguments."""
    read: set[int] = set()
    for step in steps:
        for value in step.arguments.values():
            kind = type(value)
            if kind is Value:
                read.add(id(value))
            elif kind not in _SIMPLE:
                read.update(map(id, found(value, Value)))
    return read


class Trace:
    """A recording. Make traced inputs with ``input``, run the program on them, name its results with ``output``.

    names: name -> Tensor whose array keeps that name when it becomes a constant (``dict(model.named_parameters())``).
    note: called at each step, with its operator; its result is kept as ``step.note``.
    expand: called with an operator and its arguments; True records the operator's reference in plain operators instead (the extra
    results that its derivative asks for are then missing, so only for a program without backward).

    A context manager: after the block, its arrays refuse everything, so that none is taken for a number by mistake, and Tensors that
    were there before and took a traced value in place have their old one again. Attributes:
    ``inputs``, ``steps``, ``outputs`` and ``constants`` (the Values of captured arrays, in order of capture).

    Raises UsageError where the program asks for values or mixes two traces, and where a captured array was changed in place.
    """

    mutable = False
    """Whether traced arrays may be written in place; a trace that is exported holds none of that."""
    xp: Any = np
    """The module of the arrays that are traced."""
    array_type: type = np.ndarray
    """Their type."""
    elsewhere = False
    """Whether some of them are on another device."""

    def __init__(
        self,
        names: Mapping[str, Tensor] | None = None,
        note: Callable[[Any], Any] | None = None,
        expand: Callable[[Operator, dict[str, Any]], bool] | None = None,
    ) -> None:
        self.inputs: list[Value] = []
        self.steps: list[Step] = []
        self.outputs: list[Value] = []
        self.open = True
        self._note = note
        self._expand = expand
        self._names = {id(x.array): (name, x.array) for name, x in (names or {}).items()}
        self._captured: dict[int, tuple[Value, int]] = {}
        self._replaced: list[tuple[Tensor, Any, Any]] = []
        self._made = 0
        self._anywhere: dict[int, Any] = {}

    @property
    def constants(self) -> list[Value]:
        """The constants, in the order in which they were met."""
        return [value for value, _ in self._captured.values()]

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, kind: type | None, failure: BaseException | None, trace: TracebackType | None) -> None:
        self.open = False
        for tensor, array, node in self._replaced:
            tensor.array, tensor.node = array, node
        if kind is None:
            for value, number in self._captured.values():
                self._refuse_changed(value, number)

    def input(self, x: Tensor, name: str) -> Tensor:
        """A stand-in for ``x``, with the name ``name`` in the trace. Raises UsageError when ``x`` is of another trace."""
        if type(x.array) is not np.ndarray:
            raise error(
                "TG-U017",
                reason=(
                    "an input must be a Tensor on the CPU that is in no trace",
                    "入力は、ほかの記録に属さない CPU の Tensor でなければなりません",
                ),
                line=user_line(),
                fix=(
                    "pass x.cpu(), and do not trace inside of a trace.",
                    "x.cpu() を渡し、記録の中で記録を始めないでください。",
                ),
            )
        value = Value(name, x.array)
        self.inputs.append(value)
        return Tensor(Traced(x.array, self, value), x.node)

    def output(self, x: Tensor) -> Value:
        """Note ``x`` as a result of the program. One that depends on no input is a constant."""
        value = self._value(x.array)
        self.outputs.append(value)
        return value

    def __str__(self) -> str:
        lines = [f"{value} {_described(value)}" for value in self.inputs]
        shown: set[str] = set()
        for step in self.steps:
            for value in step.inputs:
                if value.array is not None and value.name not in shown:
                    shown.add(value.name)
                    lines.append(f"{value} {_described(value)} constant")
            made = ", ".join(f"{value} {_described(value)}" for value in step.outputs)
            lines.append(f"{made} = {step.operator.name}({', '.join(_shown_arguments(step))})")
        return "\n".join([*lines, f"-> {', '.join(map(str, self.outputs))}"])

    # -- recording

    def capture(self, array: np.ndarray) -> Traced:
        """A constant: an array that was there before, known by its identity."""
        entry = self._captured.get(id(array))
        if entry is None:
            name, _ = self._names.get(id(array), (f"c{len(self._captured)}", None))
            entry = self._captured[id(array)] = (Value(name, array, array=array), next_number())
            self.elsewhere = self.elsewhere or type(array) is not self.array_type
        self._refuse_changed(*entry)
        return Traced(array, self, entry[0])

    def is_mine(self) -> bool:
        """Whether this thread is traced; another one that meets a traced array computes with its elements."""
        return True

    def replaces(self, tensor: Tensor) -> None:
        """Remember the value of a Tensor that is about to take a traced one in place."""
        self._replaced.append((tensor, tensor.array, tensor.node))

    def write(self, traced: Traced, new: Traced) -> None:
        """A traced array gets the elements of another one, of its shape and dtype, in place."""
        traced._elements, traced.entry = new._elements, new.entry

    def traced(self, array: Any) -> Traced:
        """An array as a traced one."""
        return array if type(array) is Traced else self.capture(array)

    def blank(self, array: Any) -> Traced:
        """A traced array of elements that were made just now and belong to nobody."""
        return Traced(array, self, Value(f"c{len(self._captured)}", array, array=array))

    def record(self, operator: Operator, arguments: dict[str, Any]) -> Any:
        """Run ``operator`` on its arguments, traced and others, and note the step. Returns what its kernel returns, traced."""
        taken, plain = {}, {}
        for name, value in arguments.items():
            kind = type(value)
            if kind is Traced and value.recording is self:
                taken[name], plain[name] = value.entry, value._elements
            elif kind in _SIMPLE:
                taken[name] = plain[name] = value
            else:
                taken[name], plain[name] = self.both(value)
        if self._expand is not None and self._expand(operator, taken):
            return self._run_reference(operator, arguments)
        kind = self.array_type
        if self.elsewhere:
            kind, plain = self.at_one_place(operator, plain)
        return self.note_step(operator, taken, operator.apply(operator.kernels[kind], plain))

    def at_one_place(self, operator: Any, plain: dict[str, Any]) -> tuple[type, dict[str, Any]]:
        """The type of the arrays among a step's arguments, and those with all arrays on one device. Raises DeviceError where they are not."""
        kinds = dict.fromkeys(map(type, found(plain, *BY_TYPE)))
        if len(kinds) > 1:
            settled = [array for array in found(plain, *BY_TYPE) if id(array) not in self._anywhere]
            kinds = dict.fromkeys(map(type, settled))
            if len(kinds) > 1:
                from .promotion import mixed_devices

                raise mixed_devices(operator, settled)
            place = device_of(settled[0])
            plain = mapped(plain, lambda x: type(x) in BY_TYPE and type(x) not in kinds, lambda x: move(x, place))
        return next(iter(kinds), self.array_type), plain

    def note_anywhere(self, array: Any) -> Any:
        """An array that code for a traced one has just made, which may have to go to where that is. Returns it."""
        self._anywhere[id(array)] = array
        return array

    def both(self, value: Any) -> tuple[Any, Any]:
        """A nested value with Values in place of its arrays, and the same with their elements."""
        kind = type(value)
        if kind is Traced:
            return self._value(value), value._elements
        if kind in _SIMPLE:
            return value, value
        if kind is dict:
            taken, plain = {}, {}
            for name, part in value.items():
                taken[name], plain[name] = self.both(part)
            return taken, plain
        if kind is tuple or kind is list:
            pairs = [self.both(part) for part in value]
            return kind([pair[0] for pair in pairs]), kind([pair[1] for pair in pairs])
        return mapped(value, _is_array, self._value), mapped(value, _stands_in, _plain)

    def note_step(self, operator: Any, arguments: dict[str, Any], made: Any) -> Any:
        """Note a step that has been run; ``made`` is what it gave, from real arrays. Returns that, traced."""
        step = Step(operator, arguments, self._note(operator) if self._note else None)
        self.steps.append(step)
        if type(made) in BY_TYPE:
            self._made += 1
            step.result = value = Value(f"v{self._made - 1}", made, step)
            return Traced(made, self, value)
        traced, step.result = self._results(made, step)
        return traced

    def _results(self, made: Any, step: Step) -> tuple[Any, Any]:
        if _is_result(made):
            traced = self._result(as_array(made), step)
            return traced, traced.entry
        if isinstance(made, (tuple, list)):
            pairs = [self._results(part, step) for part in made]
            return _like(made, [pair[0] for pair in pairs]), _like(made, [pair[1] for pair in pairs])
        return made, made

    def record_backward(
        self, operator: Operator, usual: Callable[..., Any], saved: tuple[Any, ...], parents: Any, g: Any
    ) -> Any:
        """The backward of a fused operator: run on traced arrays, so that only derivatives that are written in operators work."""
        return usual(saved, parents, g)

    def _run_reference(self, operator: Operator, arguments: dict[str, Any]) -> Any:
        def tensor(array: Any) -> Tensor:
            return Tensor(array if type(array) is Traced else self.capture(array))

        assert operator.reference is not None
        inputs = {name: mapped(arguments[name], _is_array, tensor) for name in operator.inputs}
        made = operator.apply(operator.reference, {**arguments, **inputs})
        y = mapped(made, lambda x: type(x) is Tensor, lambda x: x.array if type(x.array) is Traced else self.capture(x.array))
        return (y, *[None for _ in operator.aux]) if operator.aux else y

    def _result(self, array: np.ndarray, step: Step) -> Traced:
        value = Value(f"v{self._made}", array, step)
        self._made += 1
        return Traced(array, self, value)

    def _value(self, array: Any) -> Value:
        if type(array) is not Traced:
            return self.capture(array).entry
        if array.recording is not self:
            raise mixed_traces()
        return array.entry

    def _refuse_changed(self, value: Value, number: int) -> None:
        if changed_since(number, value.array):
            raise error(
                "TG-U017",
                reason=(
                    f"the constant {value.name} {value.shape} was changed in place after an operator used it",
                    f"定数 {value.name} {value.shape} が、演算で使われた後に上書きされました",
                ),
                line=user_line(),
                fix=("make a new tensor: y = x + ....", "y = x + ... のように新しいテンソルを作ってください。"),
            )


_SIMPLE = frozenset((int, float, bool, str, type(None)))


def _described(value: Value) -> str:
    return f"{value.shape} {value.dtype}"


def _shown_arguments(step: Step) -> Iterator[str]:
    operator = step.operator
    for name, argument in step.arguments.items():
        if name == operator.variadic:
            yield from map(repr, argument)
        elif name in operator.inputs or name in operator.array_constants:
            if argument is not None:
                yield repr(argument)
        else:
            yield f"{name}={argument!r}"


def _is_traced(value: Any) -> bool:
    return type(value) is Traced


def _like(value: Any, parts: list[Any]) -> Any:
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


def _stands_in(value: Any) -> bool:
    """True for a traced array, and for a number of a type of its own, which NumPy would take for a float64."""
    return type(value) is Traced or (
        isinstance(value, float) and type(value) is not float and not isinstance(value, np.generic)
    )


def _plain(value: Any) -> Any:
    return value._elements if type(value) is Traced else float(value)


def _is_array(value: Any) -> bool:
    return type(value) in BY_TYPE


def _is_result(value: Any) -> bool:
    return type(value) in BY_TYPE or isinstance(value, np.generic)
