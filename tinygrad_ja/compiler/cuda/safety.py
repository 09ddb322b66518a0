"""Which instructions a CUDA graph can hold. A graph is made by capturing what a stream is given, and some calls refuse that: cuBLAS and the
other libraries behind ``matmul`` and ``linalg`` as CuPy binds them, and whatever waits for the GPU or copies from the host.

No GPU is needed to know. Whether an operator waits is part of its definition (``syncs``), which the tests of all operators check on the
stand-in for CuPy; which libraries it uses is read from its own text and from every function of this package that it names.

>>> import tinygrad_ja as tg
>>> operator_safety("sort"), operator_safety("det")
('', 'it uses linalg')
"""

from __future__ import annotations

import dis
import functools
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

from ...core.nested import found
from ...core.operator import OPERATORS, Operator
from ..lower import Slot
from ..program import Instruction

LIBRARIES = frozenset("matmul dot tensordot einsum linalg inner vdot".split())
"""Names whose functions call libraries that refuse to be captured."""
_PACKAGE = __name__.partition(".")[0]
_MACHINERY = tuple(
    [f"{_PACKAGE}.{part}" for part in ("errors", "backend.", "core.front", "core.tape", "core.promotion", "core.names")]
)
"""Modules whose functions no text calls with arrays of the program, but for their shapes."""


def capture_safety(instruction: Instruction) -> str:
    """Why no graph can hold an instruction that runs as eager CuPy; "" if one can."""
    kind = instruction.kind
    if kind == "matmul":
        return "it uses matmul"
    if kind == "random":
        return "a generator of another device" if instruction.function != "permutation" else "it draws from CuPy"
    if kind == "group":
        return next((why for inner in instruction.options["body"] if (why := capture_safety(inner))), "")
    if kind != "call":
        return ""
    run = instruction.options["run"]
    mark = getattr(run, "mark", None)
    if mark is None:
        return _of_function(run) if isinstance(run, types.FunctionType) else ""
    if any([slot.is_number for slot in found(run.arguments, Slot)]):
        return "it waits for the GPU to read a number"
    return operator_safety(mark.name) if isinstance(mark, Operator) else operator_safety(mark.operator.name, "backward")


@functools.cache
def operator_safety(name: str, part: str = "forward") -> str:
    """Why the forward, or the backward, of an operator cannot be captured; ""."""
    operator = OPERATORS[name]
    if operator.syncs:
        return f"it waits: {operator.syncs}"
    if part == "forward":
        return _of_function(operator.forward)
    functions: list[Callable[..., Any]] = [d for d in operator.derivatives if d is not None]
    if operator.aux:
        functions.append(operator.forward)  # it may hand the backward functions of its own
    if operator.reference is not None and (not functions or operator.derivatives[0] is None):
        functions.append(operator.reference)
    return next((why for f in functions if (why := _of_function(f))), "")


def _of_function(function: Callable[..., Any]) -> str:
    for code in _reached(function):
        for kind, name in _used(code):
            if name in LIBRARIES or kind == "matmul":
                return f"it uses {name}"
    return ""


def _used(code: types.CodeType) -> Iterator[tuple[str, str]]:
    """Names of attributes and functions that a code object uses, with "matmul" for the operator @."""
    for instruction in dis.get_instructions(code):
        text = instruction.argrepr
        if instruction.opname.startswith(("BINARY_MATRIX", "INPLACE_MATRIX")):
            yield "matmul", "matmul"
        elif instruction.opname == "BINARY_OP" and text.startswith("@"):
            yield "matmul", "matmul"
        elif instruction.opname.startswith(("LOAD_ATTR", "LOAD_METHOD", "LOAD_GLOBAL", "LOAD_NAME")):
            yield "name", str(instruction.argval)


def _reached(function: Callable[..., Any]) -> Iterator[types.CodeType]:
    """The code of a function and of every function of this package that it reaches by name."""
    open_, seen = [function], set()
    while open_:
        current = inspect.unwrap(open_.pop())
        if isinstance(current, functools.partial):
            current = current.func
        if not isinstance(current, types.FunctionType) or current.__code__ in seen:
            continue
        seen.add(current.__code__)
        codes = [current.__code__]
        cells = dict(zip(current.__code__.co_freevars, current.__closure__ or ()))
        while codes:
            code = codes.pop()
            yield code
            codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
            for name in (*code.co_names, *code.co_freevars):
                value = cells[name].cell_contents if name in cells else current.__globals__.get(name)
                open_ += _functions_of(value)


def _functions_of(value: Any) -> list[Callable[..., Any]]:
    """What to look at behind a name: functions of this package, and for an operator its own text."""
    owner = getattr(value, "operator", None)
    if isinstance(owner, Operator):
        return [owner.forward]
    if isinstance(value, types.FunctionType):
        module = value.__module__ or ""
        return [value] if module.partition(".")[0] == _PACKAGE and not module.startswith(_MACHINERY) else []
    return []
