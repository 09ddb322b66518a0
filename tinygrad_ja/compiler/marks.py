"""What stands where an operator stands in the steps of a recording: the backward of an operator as one step, and a draw of random numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from ..backend.random import Generator
from ..core.operator import Operator


class BackwardOf:
    """The first-order backward of ``operator`` as one step.

    Arguments of the step: ``saved`` (a tuple, in the order of ``operator.saves``), ``g`` (the cotangent, or a tuple of them), ``needs``
    (which inputs get a gradient) and ``shapes`` (theirs, None where nothing is needed). Its result is a list with a Value, or None, for each
    input.
    """

    aux: tuple[str, ...] = ()

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.name = f"{operator.name}.backward"

    def run(self, saved: tuple[Any, ...], g: Any, needs: tuple[bool, ...], shapes: tuple[Any, ...]) -> list[Any]:
        """The gradients from raw arrays, as the tape computes them."""
        parents = [_Parent(shape) if needed else None for needed, shape in zip(needs, shapes)]
        return list(self.operator.backward(saved, parents, g))

    def __repr__(self) -> str:
        return f"<{self.name}>"


class _Parent:
    """Stands for a node of the tape, of which a derivative asks for the shape only."""

    __slots__ = ("shape",)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape


class Draw:
    """Random numbers as one step: arguments ``method`` (of the generator) and ``args``. Its result is a Value."""

    aux: tuple[str, ...] = ()

    def __init__(self, generator: Generator, name: str) -> None:
        self.generator = generator
        self.name = name

    def __repr__(self) -> str:
        return f"<draw of {self.name}>"


class Numbers:
    """The numbers of Python that one recording reads anew at each call, such as learning rates and step counts, and what was computed from
    them; two that are computed in the same way are one.

    actions: what else happens in Python at each call, in order; a number is read after those that came before it.
    """

    def __init__(self) -> None:
        self.actions: list[Callable[[], Any]] = []
        self.checks: dict[str, bool] = {}
        """Comparisons that the recorded program made, in Python's notation, and how they came out."""
        self._readers: dict[str, tuple[int, Callable[[], Any]]] = {}
        self._known: dict[str, Number] = {}

    def read(self, key: Any, reader: Callable[[], float]) -> Number:
        """The number that ``reader`` gives. ``key`` tells two readers apart."""
        return self.number(self._reading(key, reader), reader())

    def check(self, key: Any, reader: Callable[[], bool]) -> None:
        """Something that has to be as it is now for the recording to hold."""
        self.checks[self._reading(key, reader)] = reader()

    def _reading(self, key: Any, reader: Callable[[], Any]) -> str:
        source = f"r{key}_{len(self.actions)}"
        self._readers.setdefault(source, (len(self.actions), reader))
        return source

    def number(self, source: str, value: float) -> Number:
        """The number of that source."""
        made = self._known.get(source)
        if made is None or float(made) != value:
            made = self._known[source] = Number(value)
            made.source, made.table = source, self
        return made

    def function(self, sources: Sequence[str], actions: bool = False) -> Callable[[], tuple[Any, ...]]:
        """A function that gives the values of these sources now; with ``actions`` it does what happens in Python as well, in order."""
        wanted = set(re.findall(r"\br\w+", " ".join(sources)))
        space: dict[str, Any] = {}
        lines = ["def values():"]
        stages = len(self.actions) if actions else 0
        for stage in range(stages + 1):
            for name, (position, reader) in self._readers.items():
                if name in wanted and (position == stage or (not actions and stage == 0)):
                    space[f"read_{name}"] = reader
                    lines.append(f"    {name} = read_{name}()")
            if stage < stages:
                space[f"act_{stage}"] = self.actions[stage]
                lines.append(f"    act_{stage}()")
        lines.append(f"    return ({''.join(source + ', ' for source in sources)})")
        exec("\n".join(lines), space)
        return space["values"]


class Number(float):
    """A number that is read anew at each call. Arithmetic with it gives another one; how it compares with others is a check of the recording.

    source: how it is computed, in Python's notation.
    """

    source: str
    table: Numbers

    def compute(self) -> float:
        """Its value now."""
        return self.table.function([self.source])()[0]

    def __reduce__(self) -> Any:
        return float, (float(self),)


def _source_of(value: Any) -> str | None:
    if type(value) is Number:
        return value.source
    return repr(value) if type(value) in (int, float, bool) else None


_BINARY = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "pow": "**"}
_COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


def _binary(name: str, sign: str, reflected: bool) -> Callable[[Number, Any], Any]:
    plain = getattr(float, f"__{'r' if reflected else ''}{name}__")

    def method(self: Number, other: Any) -> Any:
        source = _source_of(other)
        if source is None:
            return NotImplemented
        first, second = (source, self.source) if reflected else (self.source, source)
        return self.table.number(f"({first} {sign} {second})", plain(float(self), float(other)))

    return method


def _comparison(name: str, sign: str) -> Callable[[Number, Any], Any]:
    plain = getattr(float, f"__{name}__")

    def method(self: Number, other: Any) -> Any:
        source, result = _source_of(other), plain(self, other)
        if source is not None and result is not NotImplemented:
            self.table.checks[f"{self.source} {sign} {source}"] = result
        return result

    return method


for _name, _sign in _BINARY.items():
    setattr(Number, f"__{_name}__", _binary(_name, _sign, False))
    setattr(Number, f"__r{_name}__", _binary(_name, _sign, True))
for _name, _sign in _COMPARISONS.items():
    setattr(Number, f"__{_name}__", _comparison(_name, _sign))


def _bool(self: Number) -> bool:
    result = float(self) != 0.0
    self.table.checks[f"{self.source} != 0"] = result
    return result


def _negative(self: Number) -> Number:
    return self.table.number(f"(-{self.source})", -float(self))


Number.__bool__ = _bool  # type: ignore[method-assign, assignment]
Number.__neg__ = _negative  # type: ignore[method-assign, assignment]
Number.__hash__ = float.__hash__  # type: ignore[method-assign]
