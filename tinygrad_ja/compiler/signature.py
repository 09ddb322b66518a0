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
    """A function that gives what ``describe`` gives where arguments are like these, in a third of the time; None for others. For calls with
    Tensors that want no gradient and plain values."""
    if kwargs or call.leaves or call.histories or call.constants:
        return _unknown
    names = [f"a{i}" for i in range(len(args))]
    space = {"Tensor": Tensor, "Call": Call, "place": _place, "modes": _modes, "key": call.key, "known": call.key[-1]}
    arrays = []
    lines = [
        "def recognize(args, kwargs):",
        f"    if kwargs or len(args) != {len(args)}: return None",
        f"    [{', '.join(names)}] = args",
    ]
    for name, value, part in zip(names, args, call.key):
        if type(value) is Tensor:
            x = f"x{name}"
            space[f"s{x}"], space[f"d{x}"], space[f"k{x}"], space[f"p{x}"] = part
            lines += [
                f"    if type({name}) is not Tensor or {name}.node is not None: return None",
                f"    {x} = {name}.array",
                f"    if type({x}) is not k{x} or {x}.shape != s{x} or {x}.dtype is not d{x}: return None",
            ]
            if part[-1] is not None:
                lines.append(f"    if place({x}) != p{x}: return None")
            arrays.append(x)
        elif type(value) in _PLAIN and value == value and value != 0:
            space[f"t{name}"], space[f"v{name}"] = type(value), value
            lines.append(f"    if type({name}) is not t{name} or {name} != v{name}: return None")
        else:
            return _unknown
    lines += ["    if modes() != known: return None", f"    return Call(key, [{', '.join(arrays)}], [], [], [])"]
    exec("\n".join(lines), space)
    return space["recognize"]


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
