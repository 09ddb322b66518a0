"""What makes one call like another: the shapes, dtypes and devices of its Tensors, the values of its other arguments, and the modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..backend.arrays import BY_TYPE
from ..backend.devices import get_default_device, get_default_dtype
from ..core.modes import modes
from ..core.tape import LEAF
from ..core.tensor import Tensor
from .arguments import attributes_of, items_of


class Call(NamedTuple):
    """The arguments of a call: ``key`` (calls of one key may share a program), ``arrays`` (those that the call brings, in order; what comes
    twice counts once), ``holders`` (for each of them its Tensor, or itself where it comes as an array), ``leaves`` (Tensors that want
    gradients: they belong to the program, as parameters do), ``histories`` (place among the arrays, and Tensor, where that was computed from
    others that want gradients), ``constants`` (Tensors whose elements are part of the key)."""

    key: Any
    arrays: list[Any]
    holders: list[Any]
    leaves: list[Tensor]
    histories: list[tuple[int, Tensor]]
    constants: list[Tensor]


def describe(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """The description of a call."""
    call = Call((), [], [], [], [], [])
    seen: dict[int, int] = {}
    key = [_part(value, call, seen) for value in args]
    if kwargs:
        key.append(tuple([(name, _part(value, call, seen)) for name, value in kwargs.items()]))
    key.append(_modes())
    return call._replace(key=tuple(key))


def recognizer(args: tuple[Any, ...], kwargs: dict[str, Any], call: Call) -> Callable[..., Call | None]:
    """A function that gives what ``describe`` gives where arguments are like these, in a third of the time; None for others. For calls of
    Tensors that want no gradient, plain values and other objects, also in tuples and lists, without keywords."""
    space = {"Tensor": Tensor, "Call": Call, "place": _place, "modes": _modes, "key": call.key, "known": call.key[-1]}
    lines: list[str] = []
    arrays: list[str] = []
    several: list[str] = []
    if kwargs or call.leaves or call.histories or call.constants or not _tests(args, "a", space, lines, arrays, several):
        return _unknown
    if len(arrays) != len(call.arrays):  # something comes twice
        return _unknown
    if len(several) == 2:
        lines.append(f"if {several[0]} is {several[1]}: return None")
    elif several:
        ids = ", ".join([f"id({name})" for name in several])
        lines.append(f"if len({{{ids}}}) != {len(several)}: return None")
    holders = ", ".join([x[1:] for x in arrays])
    lines += ["if modes() != known: return None", f"return Call(key, [{', '.join(arrays)}], [{holders}], [], [], [])"]
    exec("\n    ".join(["def recognize(a, kwargs):", "if kwargs: return None", *lines]), space)
    return space["recognize"]


def _tests(value: Any, name: str, space: dict[str, Any], lines: list[str], arrays: list[str], several: list[str]) -> bool:
    """Add statements that return None unless what has this name is like ``value``; False if no statement can say so. several: names of what
    must not come twice."""
    kind = space[f"kind_{name}"] = type(value)
    differs = f"if type({name}) is not kind_{name}"
    if kind is Tensor:
        x = f"x{name}"
        arrays.append(x)
        several.append(name)
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
        if attributes_of(value) is not None:
            return False
        if isinstance(value, list):
            several.append(name)
        parts = [f"{name}_{i}" for i in range(len(value))]
        lines += [f"{differs} or len({name}) != {len(value)}: return None", f"[{', '.join(parts)}] = {name}"]
        return all([_tests(part, n, space, lines, arrays, several) for part, n in zip(value, parts)])
    if isinstance(value, dict) or kind in BY_TYPE:
        return False
    space[f"value_{name}"] = value  # as long as the key, which holds it too
    lines.append(f"if {name} is not value_{name}: return None")
    return True


def _unknown(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    return None


def _part(value: Any, call: Call, seen: dict[int, int]) -> Any:
    """What stands in the key for a part of the arguments; Tensors and arrays go into ``call``. ``seen``: by their ids, Tensors, arrays, lists
    and dicts that came before. (A function inside of ``describe`` that calls itself would hold them until the next garbage collection.)"""
    kind = type(value)
    if kind is Tensor:
        array, node = value.array, value.node
        if node is not None and node.operator is LEAF:
            call.leaves.append(value)
            return "leaf", id(value), array.shape, array.dtype
        if id(value) in seen:
            return "again", seen[id(value)]
        seen[id(value)] = len(seen)
        call.arrays.append(array)
        call.holders.append(value)
        if node is None:
            return array.shape, array.dtype, type(array), _place(array)
        call.histories.append((len(call.arrays) - 1, value))
        return "history", array.shape, array.dtype, type(array), _place(array)
    if kind in _PLAIN:
        if kind is float and (value == 0.0 or value != value):  # 0.0 is not -0.0, and NaN is itself
            return kind, repr(value)
        return kind, value
    if kind in BY_TYPE or isinstance(value, (list, dict)):
        if id(value) in seen:
            return "again", seen[id(value)]
        seen[id(value)] = len(seen)
    if kind in BY_TYPE:
        call.arrays.append(value)
        call.holders.append(value)
        return "array", value.shape, value.dtype, _place(value)
    if isinstance(value, (tuple, list, dict)):
        return _contents(value, call, seen)
    return "object", _Same(value)


def _contents(value: Any, call: Call, seen: dict[int, int]) -> Any:
    """What stands in the key for a tuple, a list or a dict: its class, its parts and its attributes."""
    kind, more = type(value), attributes_of(value)
    if isinstance(value, dict):
        parts: Any = tuple([(name, _part(part, call, seen)) for name, part in items_of(value)])
    else:
        fixed = getattr(kind, "read_by_python", None)
        if fixed is not None:
            call.constants.extend([getattr(value, name) for name in fixed])
            parts = (
                tuple([getattr(value, name).array.tobytes() for name in fixed]),
                tuple([_part(part, call, seen) for part, name in zip(value, kind._fields) if name not in fixed]),
            )
        else:
            items = list.__iter__(value) if isinstance(value, list) else value
            parts = tuple([_part(part, call, seen) for part in items])
    if more is None:
        return kind, parts
    return kind, parts, tuple([(name, _part(part, call, seen)) for name, part in more.items()])


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
