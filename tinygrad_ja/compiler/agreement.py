"""Whether two recordings of one function are the same program, and which of its constants really are constants.

A recording alone cannot tell where an array that it met came from: a parameter that lives on, or numbers that Python made up during the
call (``tg.tensor([t, 1.0])``, a batch from an iterator). Two recordings can: an array that both met was there before and is read anew at each
call; arrays that differ as objects and hold the same elements are constants; and elements that differ would have gone stale, so they are
refused. Numbers of Python among the arguments of operators are compared in the same way.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from ..backend.arrays import BY_TYPE
from ..core.trace import Step, Value
from .marks import BackwardOf, Draw, Number
from .recording import Recording


class Difference(NamedTuple):
    """What two recordings do not share: what it is, as a pair of English and Japanese, and the line of the user."""

    what: tuple[str, str]
    line: str
    stale: bool
    """A constant whose elements, or a number, differ where everything else is the same."""


def compare(
    first: Recording, second: Recording, stored: tuple[list[Value], list[Value]] = ([], [])
) -> tuple[Difference | None, dict[Value, Value]]:
    """The first difference, or None, and the Value of ``first`` that each captured Value of ``second`` corresponds to. stored: what both have
    put into attributes and items."""
    partner: dict[Value, Value] = dict(zip(second.inputs, first.inputs))
    captured: dict[Value, Value] = {}
    firsts, seconds = first.steps, second.steps
    for a, b in zip(firsts, seconds):
        difference = _steps_differ(a, b, partner, captured)
        if difference is not None:
            return difference, captured
    if len(firsts) != len(seconds):
        what = (
            f"{len(firsts)} operators at one call and {len(seconds)} at the next",
            f"演算の数が呼び出しごとに違います ({len(firsts)} 個と {len(seconds)} 個)",
        )
        return Difference(what, _line(seconds[-1] if seconds else None), False), captured
    ends: list[tuple[list[Any], list[Any]]] = [
        (first.outputs, second.outputs),
        ([v for pair in first.writes for v in pair], [v for pair in second.writes for v in pair]),
        ([e.value for e in first.gradients], [e.value for e in second.gradients]),
        ([v for _, v in first.argument_writes], [v for _, v in second.argument_writes]),
        stored,
        ([v for _, v in first.renewals], [v for _, v in second.renewals]),
    ]
    for a_values, b_values in ends:
        alike = len(a_values) == len(b_values)
        if not alike or not all(_alike(a, b, partner, captured) for a, b in zip(a_values, b_values)):
            what = ("other results or other changes of state", "結果または状態の変更が呼び出しごとに違います")
            return Difference(what, "", False), captured
    return None, captured


def _steps_differ(a: Step, b: Step, partner: dict[Value, Value], captured: dict[Value, Value]) -> Difference | None:
    if not _same_operator(a.operator, b.operator):
        what = (
            f"'{a.operator.name}' at one call and '{b.operator.name}' at the next",
            f"演算が呼び出しごとに違います ('{a.operator.name}' と '{b.operator.name}')",
        )
        return Difference(what, _line(b), False)
    for name, argument in b.arguments.items():
        before = a.arguments[name]
        if not _alike(before, argument, partner, captured):
            stale = _may_be_stale(before, argument)
            what = (
                f"'{name}' of '{b.operator.name}': {_shown(before)} at one call and {_shown(argument)} at the next",
                f"'{b.operator.name}' の '{name}' が呼び出しごとに違います: {_shown(before)} と {_shown(argument)}",
            )
            return Difference(what, _line(b), stale)
    _pair(a.result, b.result, partner)
    return None


def _same_operator(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if type(a) is BackwardOf:
        return a.operator is b.operator
    if type(a) is Draw:
        return a.generator is b.generator and a.name == b.name
    return a is b


def _pair(a: Any, b: Any, partner: dict[Value, Value]) -> None:
    if isinstance(a, Value) and isinstance(b, Value):
        partner[b] = a
    elif isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        for x, y in zip(a, b):
            _pair(x, y, partner)


def _alike(a: Any, b: Any, partner: dict[Value, Value], captured: dict[Value, Value]) -> bool:
    """Whether two arguments are the same, one array of the first recording standing for one of the second."""
    if type(b) is Value:
        if type(a) is not Value:
            return False
        if b in partner:
            return partner[b] is a
        if a.array is None or b.array is None or a.shape != b.shape or a.dtype is not b.dtype:
            return False
        partner[b] = captured[b] = a
        return True
    if type(b) is Number or type(a) is Number:
        return type(a) is type(b) and a.source == b.source
    if isinstance(b, (tuple, list)):
        return type(a) is type(b) and len(a) == len(b) and all([_alike(x, y, partner, captured) for x, y in zip(a, b)])
    if isinstance(b, dict):
        return isinstance(a, dict) and a.keys() == b.keys() and all([_alike(a[k], b[k], partner, captured) for k in b])
    if a is b:
        return True
    if type(a) is not type(b) or type(b) in BY_TYPE:
        return False
    if type(b) is functools.partial:  # how a forward says that its backward is to be made
        return a.func is b.func
    try:
        return bool(a == b or (a != a and b != b))
    except Exception:
        return False


def equal_elements(a: Any, b: Any) -> bool:
    """Whether two arrays hold the same elements, NaN included."""
    if type(a) is not np.ndarray:
        a, b = BY_TYPE[type(a)].to_host(a), BY_TYPE[type(b)].to_host(b)
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def same_memory(a: Any, b: Any) -> bool:
    """Whether two arrays are one, or the same part of one."""
    if a is b:
        return True
    if type(a) is not np.ndarray or type(b) is not np.ndarray or a.base is None or b.base is None:
        return False
    return a.__array_interface__ == b.__array_interface__


def _may_be_stale(a: Any, b: Any) -> bool:
    return type(a) in (bool, int, float) and type(b) in (bool, int, float)


def _shown(value: Any) -> str:
    return f"an array {value.shape}" if type(value) is Value else repr(value)[:80]


def _line(step: Step | None) -> str:
    return "" if step is None or step.note is None else step.note.line
