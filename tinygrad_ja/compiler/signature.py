"""What makes one call like another: the shapes, dtypes and devices of its Tensors, the values of its other arguments, and the modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..backend.arrays import BY_TYPE
from ..backend.devices import get_default_device, get_default_dtype
from ..core.modes import modes
from ..core.tape import LEAF
from ..core.tensor import Tensor


class Call(NamedTuple):
    """The arguments of a call: ``key`` (calls of one key may share a program), ``arrays`` (those that the call brings, in order), ``leaves``
    (Tensors that want gradients: they belong to the program, as parameters do), ``histories`` (place among the arrays, and Tensor, where
    that was computed from others that want gradients), ``constants`` (Tensors whose elements are part of the key)."""

    key: Any
    arrays: list[Any]
    leaves: list[Tensor]
    histories: list[tuple[int, Tensor]]
    constants: list[Tensor]


def describe(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """The description of a call."""
    call = Call((), [], [], [], [])
    key = [_part(value, call) for value in args]
    if kwargs:
        key.append(tuple([(name, _part(value, call)) for name, value in kwargs.items()]))
    key.append(_modes())
    return call._replace(key=tuple(key))


def recognizer(args: tuple[Any, ...], kwargs: dict[str, Any], call: Call) -> Callable[..., Call | None]:
    """A function that gives what ``describe`` gives where arguments are like these, in a third of the time; None for others. For calls of
    Tensors that want no gradient, plain values and other objects, also in tuples and lists, without keywords."""
    space = {"Tensor": Tensor, "Call": Call, "place": _place, "modes": _modes, "key": call.key, "known": call.key[-1]}
    lines: list[str] = []
    arrays: list[str] = []
    if kwargs or call.leaves or call.histories or call.constants or not _tests(args, "a", space, lines, arrays):
        return _unknown
    lines += ["if modes() != known: return None", f"return Call(key, [{', '.join(arrays)}], [], [], [])"]
    exec("\n    ".join(["def recognize(a, kwargs):", "if kwargs: return None", *lines]), space)
    return space["recognize"]


def _tests(value: Any, name: str, space: dict[str, Any], lines: list[str], arrays: list[str]) -> bool:
    """Add statements that return None unless what has this name is like ``value``; False if no statement can say so."""
    kind = space[f"kind_{name}"] = type(value)
    differs = f"if type({name}) is not kind_{name}"
    if kind is Tensor:
        x = f"x{name}"
        arrays.append(x)
        made = value.array
        space[f"kind_{x}"], space[f"shape_{x}"], space[f"dtype_{x}"] = type(made), made.shape, made.dtype
        lines += [
            f"{differs} or {name}.node is not None: return None",
            f"{x} = {name}.array",
            f"if type({x}) is not kind_{x} or {x}.shape != shape_{x} or {x}.dtype is not dtype_{x}: return None",
        ]
        space[f"place_{x}"] = _place(made)
        if space[f"place_{x}"] is not None:
            lines.append(f"if place({x}) != place_{x}: return None")
        return True
    if kind in _PLAIN:
        space[f"value_{name}"] = value
        lines.append(f"{differs} or {name} != value_{name}: return None")
        return kind is not complex and not (kind is float and (value == 0.0 or value != value))
    if isinstance(value, (tuple, list)):
        parts = [f"{name}_{i}" for i in range(len(value))]
        lines += [f"{differs} or len({name}) != {len(value)}: return None", f"[{', '.join(parts)}] = {name}"]
        return all([_tests(part, n, space, lines, arrays) for part, n in zip(value, parts)])
    if isinstance(value, dict) or kind in BY_TYPE:
        return False
    space[f"value_{name}"] = value  # as long as the key, which holds it too
    lines.append(f"if {name} is not value_{name}: return None")
    return True


def _unknown(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    return None


def _part(value: Any, call: Call) -> Any:
    """What stands in the key for a part of the arguments; Tensors and arrays go into ``call``. (A function inside of ``describe`` that calls
    itself would hold them until the next garbage collection.)"""
    kind = type(value)
    if kind is Tensor:
        array, node = value.array, value.node
        if node is None:
            call.arrays.append(array)
            return array.shape, array.dtype, type(array), _place(array)
        if node.operator is LEAF:
            call.leaves.append(value)
            return "leaf", id(value), array.shape, array.dtype
        call.arrays.append(array)
        call.histories.append((len(call.arrays) - 1, value))
        return "history", array.shape, array.dtype, type(array), _place(array)
    if kind in BY_TYPE:
        call.arrays.append(value)
        return "array", value.shape, value.dtype, _place(value)
    if kind in _PLAIN:
        if kind is float and (value == 0.0 or value != value):  # 0.0 is not -0.0, and NaN is itself
            return kind, repr(value)
        return kind, value
    if isinstance(value, (tuple, list)):
        fixed = getattr(kind, "read_by_python", None)
        if fixed is not None:
            call.constants.extend([getattr(value, name) for name in fixed])
            values = tuple([getattr(value, name).array.tobytes() for name in fixed])
            return kind, values, tuple([_part(part, call) for part, name in zip(value, kind._fields) if name not in fixed])
        return kind, tuple([_part(part, call) for part in value])
    if isinstance(value, dict):
        return kind, tuple([(name, _part(part, call)) for name, part in value.items()])
    return "object", _Same(value)


_PLAIN = frozenset((bool, int, float, complex, str, bytes, type(None)))


class _Same:
    """Any other object: it is the same as itself, and stays alive as long as the key."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return type(other) is _Same and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def _place(array: Any) -> Any:
    backend = BY_TYPE[type(array)]
    return None if backend.name == "cpu" else backend.index_of(array)


def _modes() -> tuple[Any, ...]:
    autocast = modes.autocast
    lower = None if autocast is None else (autocast.device_type, autocast.dtype, autocast.mantissa_bits)
    return modes.record is None, modes.inference, modes.anomaly, lower, get_default_dtype(), get_default_device()
