"""What happens when dtypes or kinds of operands differ: PyTorch's promotion, as casts that the tape records.

The usual case, all operands of one dtype, never comes here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..backend.arrays import BY_TYPE, is_array, meet, usual_dtype
from ..backend.devices import device_of, get_default_dtype
from ..errors import error, joined
from .modes import modes

if TYPE_CHECKING:
    from .operator import Operator

Function = TypeVar("Function", bound=Callable[..., Any])

_CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2}


def result_type(*operands: Any) -> np.dtype:
    """The dtype of a result, by PyTorch's rule: the highest category (bool, integer, float) decides; within it tensors with
    dimensions count before 0-d tensors, and those before Python numbers. Never float64 unless an operand is float64.

    >>> result_type(np.zeros(2, np.int64), np.zeros(2, np.float32))
    dtype('float32')
    >>> result_type(np.zeros(2, np.float32), 1.5)
    dtype('float32')
    >>> result_type(np.zeros(2, np.int32), 1.5)
    dtype('float32')
    """
    best: np.dtype | None = None
    for group in _by_priority(operands):
        dtype = group[0]
        for other in group[1:]:
            dtype = _common(dtype, other)
        if best is None or _CATEGORY[dtype.kind] > _CATEGORY[best.kind]:
            best = dtype
    assert best is not None
    return best


def _by_priority(operands: Sequence[Any]) -> list[list[np.dtype]]:
    groups: list[list[np.dtype]] = [[], [], []]
    for operand in operands:
        array = getattr(operand, "array", operand)
        dtype = getattr(array, "dtype", None)
        if dtype is None:
            groups[2].append(_dtype_of_number(array))
        else:
            groups[0 if array.ndim else 1].append(dtype)
    return [group for group in groups if group]


def _dtype_of_number(value: Any) -> np.dtype:
    if isinstance(value, bool):
        return np.dtype(bool)
    return np.dtype(np.int64) if isinstance(value, int) else get_default_dtype()


def _common(a: np.dtype, b: np.dtype) -> np.dtype:
    if a.kind == "f" and b.kind != "f":
        return a
    if b.kind == "f" and a.kind != "f":
        return b
    return np.promote_types(a, b)


def promote(operator: Operator, operands: Sequence[Any], constants: dict[str, Any], result: Any = None) -> Any:
    """Run ``operator`` again with its operands cast to a common dtype. ``result`` is what it gave without: a float where the
    operands are integers asks for the default float dtype."""
    from .operator import OPERATORS
    from .tensor import Tensor

    operands = [_with_usual_dtype(Tensor(x) if is_array(x) else x) for x in operands]
    target = result_type(*[x for x in operands if x is not None])
    dtypes = {x.dtype for x in operands if type(x) is Tensor}
    if not operator.promotes:
        if dtypes == {target}:
            return operator.run(operands, constants)
        raise error("TG-T001", op=operator.name, dtypes=_names(operands), fix=f"tg.{target}")
    if result is not None and dtypes == {target}:
        if target.kind == "f" or result.dtype.kind != "f":
            # an operator whose result has a dtype of its own, such as an integer power of bools
            operands = [cast_to(x, result.dtype) if type(x) is Tensor else x for x in operands]
            return operator.run(operands, constants)
        target = get_default_dtype()
    cast = OPERATORS["cast"].public
    operands = [cast(x, target) if type(x) is Tensor and x.array.dtype is not target else x for x in operands]
    return operator.run(operands, constants)


def _with_usual_dtype(x: Any) -> Any:
    """An array that was unpickled has a dtype object of its own, equal to the usual one but not the same object."""
    if not hasattr(x, "array"):
        return x
    usual = usual_dtype(x.array.dtype)
    if x.array.dtype is usual or x.array.dtype != usual:
        return x
    return type(x)(x.array.view(usual), x.node)


class Autocast:
    """What a thread casts under ``autocast``: the dtype, on which kind of device, and the casts of parameters made so far, so that a
    weight that is used at every time step is cast once.

    mantissa_bits: 0 to convert to ``dtype``, else float32 numbers are rounded to so many bits (bfloat16, which arrays do not have).
    """

    def __init__(self, device_type: str, dtype: np.dtype, mantissa_bits: int, keeps: bool) -> None:
        self.device_type, self.dtype, self.mantissa_bits, self.keeps = device_type, dtype, mantissa_bits, keeps
        self._kept: dict[int, tuple[Any, Any]] = {}

    def renewed(self) -> Autocast:
        """The same settings without the casts made so far, for a part of the computation that runs again."""
        return Autocast(self.device_type, self.dtype, self.mantissa_bits, self.keeps)

    def lower(self, x: Any) -> Any:
        """A float16 or float32 Tensor in the lower precision, anything else as it is."""
        if x.dtype.name not in ("float16", "float32"):
            return x
        if not (self.keeps and modes.record is not None and x.node is not None and x.is_leaf):
            return self._cast(x)
        if id(x) not in self._kept:
            self._kept[id(x)] = (x, self._cast(x))  # holds x, whose id therefore stays its own
        return self._kept[id(x)][1]

    def _cast(self, x: Any) -> Any:
        from .operator import OPERATORS

        if self.mantissa_bits:
            return OPERATORS["reduce_precision"].public(cast_to(x, self.dtype), self.mantissa_bits)
        return cast_to(x, self.dtype)

    def convert(self, operands: Sequence[Any], rule: str) -> list[Any]:
        """The floating Tensors among ``operands`` as ``rule`` says: in "lower" precision; in "float32" where they are float16; or all in
        the "widest" of their dtypes. Nothing changes where none of them is on the device of this autocast."""
        from .tensor import Tensor

        floats = [x for x in operands if type(x) is Tensor and x.dtype.kind == "f"]
        if not any(device_of(x.array).type == self.device_type for x in floats):
            return list(operands)
        operands = [Tensor(x) if is_array(x) else x for x in operands]
        if rule == "lower":
            return [self.lower(x) if type(x) is Tensor else x for x in operands]
        widest = max([x.dtype for x in floats], key=lambda dtype: dtype.itemsize)
        wanted = usual_dtype(widest if rule == "widest" else np.dtype(np.float32))

        def narrower(x: Any) -> bool:
            return type(x) is Tensor and x.dtype.kind == "f" and x.dtype.itemsize < wanted.itemsize

        return [cast_to(x, wanted) if narrower(x) else x for x in operands]


def autocast(operator: Operator, operands: Sequence[Any], constants: dict[str, Any]) -> Any:
    """Run ``operator`` under ``autocast``: in the lower precision, or in float32, as its ``autocast=`` says."""
    return _autocast_call(operator.autocast, lambda given: operator.run(given, constants), operands)


def _autocast_call(rule: str, call: Callable[[list[Any]], Any], operands: Sequence[Any]) -> Any:
    state, modes.autocast = modes.autocast, None
    try:
        given = state.convert(operands, rule)
        made = call(given)
        if rule != "lower" or all(x is y for x, y in zip(given, operands)):
            return made
        return tuple([state.lower(y) for y in made]) if type(made) is tuple else state.lower(made)
    finally:
        modes.autocast = state


def autocasts(rule: str) -> Callable[[Function], Function]:
    """Decorator of a function of Tensors that is no operator: under ``autocast`` it runs as a whole by ``rule`` ("lower", "float32" or
    "widest"), whatever the operators inside would do.

    >>> import tinygrad_ja as tg
    >>> @autocasts("float32")
    ... def square(x): return x * x
    >>> with tg.autocast("cpu", dtype=tg.float16):
    ...     square(tg.tensor([300.0], dtype=tg.float16))
    tensor([90000.])
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if modes.autocast is None:
                return function(*args, **kwargs)
            count = len(args)

            def run(given: list[Any]) -> Any:
                return function(*given[:count], **dict(zip(kwargs, given[count:])))

            return _autocast_call(rule, run, [*args, *kwargs.values()])

        call.autocast = rule  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]

    return decorate


def cast_to(x: Any, dtype: np.dtype) -> Any:
    """A Tensor in another dtype, recorded when both are floating."""
    from .operator import OPERATORS

    return x if x.array.dtype is dtype else OPERATORS["cast"].public(x, dtype)


def _names(operands: Sequence[Any]) -> str:
    return joined([x.dtype for x in operands if hasattr(x, "dtype")])


def operand(operator: Operator, value: Any, name: str, other: Any) -> Any:
    """The operand beside a Tensor when it is neither Tensor, float nor int: bool, NumPy number, or array of the same device."""
    if isinstance(value, (bool, int, float)):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.generic):
        return value.item()
    if is_array(value):
        if meet(value, other):
            return value
        raise mixed_devices(operator, (value, other))
    raise error("TG-T002", op=operator.name, argument=name, type=type(value).__name__)


def coerce(operator: Operator, value: Any, name: str, other: Any) -> Any:
    """An input of an operator that takes arrays only: None where it is optional, an error for anything that is no such array."""
    if value is None and name in operator.optional:
        return None
    if is_array(value) and is_array(other):
        if meet(value, other):
            return value
        raise mixed_devices(operator, (other, value))
    culprit, argument = (value, name) if is_array(other) else (other, operator.inputs[0])
    raise error("TG-T002", op=operator.name, argument=argument, type=type(culprit).__name__)


def mixed_dtypes(operator: Operator, arrays: Sequence[Any]) -> tuple[Any, bool]:
    """``(an array, whether all arrays have its dtype)``; for operators of any number of inputs."""
    some = arrays[0]
    kind = type(some)
    if kind in BY_TYPE:
        dtype = some.dtype
        for a in arrays:
            if type(a) is not kind or a.dtype is not dtype:
                break
        else:
            return some, True
    some = next((a for a in arrays if type(a) in BY_TYPE), None)
    for index, a in enumerate(arrays):
        if a is None and operator.optional:
            continue
        if type(a) not in BY_TYPE and (operator.kind != "elementwise" or not isinstance(a, (bool, int, float, np.generic))):
            raise error("TG-T002", op=operator.name, argument=operator.input_name(index), type=type(a).__name__)
        if type(a) in BY_TYPE and not meet(a, some):
            raise mixed_devices(operator, arrays)
    assert some is not None
    return some, all(a.dtype is some.dtype for a in arrays if type(a) in BY_TYPE)


def mixed_devices(operator: Operator, operands: Sequence[Any]) -> Exception:
    """The error that names the devices of all operands."""
    devices = [str(device_of(a)) for a in (getattr(x, "array", x) for x in operands) if is_array(a)]
    return error("TG-D001", op=operator.name, devices=joined(devices), fix=devices[0])
