"""``Arguments``: what a recorded function is handed, with stand-ins in place of the Tensors and arrays that the call brings.

Lists and dicts are the caller's own: while the function runs they hold stand-ins, so that it finds their class, and may change them as in
any call. Afterwards what it has left alone is as it was, and what it has put there is settled. A Tensor that it has put in the place of
another value can be put there by a program as well (``changes``); any other change cannot (``changed``). Tuples are made anew.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..backend.arrays import BY_TYPE
from ..core.tensor import Tensor
from ..core.traced import Traced
from ..nn.module import Module
from ..optim.optimizer import Optimizer
from .reach import is_of_user, slots_of

ATTRIBUTES = "(attributes)"
"""Stands in a path for the attributes of a list or a dict of a class of the user's."""

Path = tuple[tuple[str, Any], ...]
"""The way from ``(args, kwargs)`` to something in them: pairs of a kind of step, ``"item"`` or ``ATTRIBUTES``, and a key."""


class Argument(NamedTuple):
    """Stands in what a program leaves in containers for the Tensor, or the array, that a call brings at this place."""

    place: int


class Item(NamedTuple):
    """An item of a container: what it was, and what stood there while the function ran."""

    key: Any
    value: Any
    stand_in: Any


class Container(NamedTuple):
    """A list or a dict among the arguments, the way to it, and its items before the function ran."""

    value: Any
    path: Path
    items: list[Item]


def attributes_of(value: Any) -> dict[str, Any] | None:
    """The attributes of a list, a dict or a tuple of a class of the user's, if it can have any beside its items.

    >>> attributes_of([1, 2]) is None
    True
    """
    if type(value) in (list, dict, tuple):
        return None
    attributes = getattr(value, "__dict__", None)
    return attributes if type(attributes) is dict and attributes is not value else None


def objects_in(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
    """What arguments bring beside Tensors, arrays and plain containers: other objects, and the classes of containers of the user's."""
    waiting: list[Any] = [*args, *kwargs.values()]
    seen: dict[int, Any] = {}
    for value in waiting:  # which grows meanwhile
        if isinstance(value, (tuple, list, dict)):
            if id(value) in seen:
                continue
            seen[id(value)] = value
            waiting += value if isinstance(value, tuple) else [part for _, part in items_of(value)]
            waiting += (attributes_of(value) or {}).values()
            if type(value) not in (tuple, list, dict):
                yield type(value)
        elif not isinstance(value, Tensor) and type(value) not in BY_TYPE:
            yield value


class Arguments:
    """Hands a function its arguments, and the caller what the function has made of them.

    ``args``, ``kwargs``: for the function. ``given``: pairs of a stand-in and what it stands for, in the order of ``Call.arrays``.
    ``objects``: what the function is given as it is.
    """

    def __init__(self, stand_in: Callable[[Any], Any], left: list[Tensor]) -> None:
        self.given: list[tuple[Any, Any]] = []
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        self.objects: list[Any] = []
        self._make = stand_in
        self._left = {id(x) for x in left}
        self._stood: dict[int, Any] = {}
        self._originals: dict[int, tuple[Any, Any]] = {}
        self._containers: list[Container] = []

    def hand(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Put stand-ins into these arguments. ``put_back`` has to follow, also when this fails."""
        self.args = tuple([self._handed(value, (("item", 0), ("item", i))) for i, value in enumerate(args)])
        self.kwargs = {name: self._handed(value, (("item", 1), ("item", name))) for name, value in kwargs.items()}

    def _handed(self, value: Any, path: Path) -> Any:
        if type(value) is Tensor or type(value) in BY_TYPE:
            return value if id(value) in self._left else self._stand_in_for(value)
        if isinstance(value, (list, dict)):
            if id(value) not in self._stood:
                self._stood[id(value)] = value
                self._enter(value, path)
                attributes = attributes_of(value)
                if attributes is not None:
                    self._enter(attributes, (*path, (ATTRIBUTES, None)))
            return value
        if isinstance(value, tuple):
            return self._tuple_for(value, path)
        self.objects.append(value)
        return value

    def _stand_in_for(self, value: Any) -> Any:
        made = self._stood.get(id(value))
        if made is None:
            made = self._stood[id(value)] = self._make(value)
            self.given.append((made, value))
            self._originals[id(made)] = made, value
        return made

    def _enter(self, container: Any, path: Path) -> None:
        items: list[Item] = []
        self._containers.append(Container(container, path, items))
        for key, value in items_of(container):
            made = self._handed(value, (*path, ("item", key)))
            items.append(Item(key, value, made))
            if made is not value:
                put(container, key, made)

    def _tuple_for(self, value: Any, path: Path) -> Any:
        fixed = getattr(type(value), "read_by_python", ())
        names = getattr(type(value), "_fields", range(len(value)))
        parts = [
            part if name in fixed else self._handed(part, (*path, ("item", i)))
            for i, (name, part) in enumerate(zip(names, value))
        ]
        attributes = attributes_of(value) or {}
        held = {name: self._handed(part, (*path, (ATTRIBUTES, None), ("item", name))) for name, part in attributes.items()}
        if all([a is b for a, b in zip((*parts, *held.values()), (*value, *attributes.values()))]):
            return value
        made = tuple.__new__(type(value), parts)
        if held:
            vars(made).update(held)
        self._originals[id(made)] = made, value
        return made

    # -- what the function has changed

    def changes(self) -> list[tuple[Path, Any]]:
        """Where the function has put something else in the place of an item, and what; ``Argument`` stands for stand-ins."""
        places = {id(made): Argument(place) for place, (made, _) in enumerate(self.given)}
        made = []
        for container in self._containers:
            if not _is_rearranged(container):
                for item in container.items:
                    now = get(container.value, item.key)
                    if now is not item.stand_in:
                        made.append(((*container.path, ("item", item.key)), _with_places(now, places)))
        return made

    def changed(self, can_be_put: Callable[[Any], bool]) -> Any:
        """A container in which the function has changed something that no program can change, or None. ``can_be_put``: whether a Tensor
        can be put into containers by a program."""
        for container in self._containers:
            if _is_rearranged(container):
                return container.value
            for item in container.items:
                now = get(container.value, item.key)
                if now is not item.stand_in and not _are_tensors(now, can_be_put):
                    return container.value
        return None

    def new(self) -> list[Any]:
        """Tensors and traced arrays that the function has put into containers, and no stand-ins."""
        made: dict[int, Any] = {}

        def note(x: Any) -> Any:
            made[id(x)] = x
            return x

        self._settle(note)
        return list(made.values())

    def put_back(self, real: Callable[[Any], Any]) -> None:
        """Put into the containers what was there before, and in place of what is new ``real`` of it."""
        self._settle(real, self._originals)

    def _settle(self, real: Callable[[Any], Any], originals: dict[int, tuple[Any, Any]] | None = None) -> None:
        settling = Settling(real, self._originals, originals is None, {id(c.value): c.value for c in self._containers})
        for container in self._containers:
            for key, now in items_of(container.value):
                made = settling.of(now)
                if made is not now:
                    put(container.value, key, made)


class Settling:
    """Changes what containers hold in place of what a function has put there, down to Tensors and traced arrays. ``looking``: stand-ins
    stay where they are."""

    def __init__(
        self, real: Callable[[Any], Any], originals: dict[int, tuple[Any, Any]], looking: bool, seen: dict[int, Any]
    ) -> None:
        self._real, self._originals, self._looking, self._seen = real, originals, looking, seen

    def of(self, value: Any) -> Any:
        """What is to stand in place of ``value``."""
        known = self._originals.get(id(value))
        if known is not None:
            return value if self._looking else known[1]
        if type(value) in (Tensor, Traced):
            return self._real(value)
        if isinstance(value, tuple):
            parts = [self.of(part) for part in value]
            return value if all([a is b for a, b in zip(parts, value)]) else tuple.__new__(type(value), parts)
        if id(value) not in self._seen:
            self._seen[id(value)] = value
            self._visit(value)
        return value

    def _visit(self, value: Any) -> None:
        if isinstance(value, (dict, list, collections.deque)):
            for key, part in items_of(value):
                made = self.of(part)
                if made is not part:
                    put(value, key, made)
        elif isinstance(value, set):
            parts = [self.of(part) for part in value]
            value.clear()
            value.update(parts)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            for field in dataclasses.fields(value):
                part = getattr(value, field.name, None)
                made = self.of(part)
                if made is not part:
                    object.__setattr__(value, field.name, made)
        elif (attributes := object_attributes(value)) is not None:
            for name, part in list(attributes.items()):
                attributes[name] = self.of(part)
        for name, part in slots_in(value):
            if (made := self.of(part)) is not part:
                object.__setattr__(value, name, made)


def object_attributes(value: Any) -> dict[str, Any] | None:
    """The attributes of an object of a class of the user's; None for anything else."""
    attributes = getattr(value, "__dict__", None)
    if type(attributes) is not dict or isinstance(value, (type, Module, Optimizer)) or not is_of_user(type(value)):
        return None
    return attributes


def slots_in(value: Any) -> list[tuple[str, Any]]:
    """The ``__slots__`` of an object of a class of the user's that hold something."""
    if isinstance(value, (Module, Optimizer)) or not is_of_user(type(value)):
        return []
    return [(name, getattr(value, name)) for kind in type(value).__mro__ for name in slots_of(kind) if hasattr(value, name)]


# ---- containers ----------------------------------------------------------------------------------


def container_at(args: tuple[Any, ...], kwargs: dict[str, Any], path: Path) -> Any:
    """The container that holds what a path leads to."""
    found: Any = (args, kwargs)
    for kind, key in path[:-1]:
        found = vars(found) if kind == ATTRIBUTES else get(found, key)
    return found


def get(container: Any, key: Any) -> Any:
    """What a container holds, whatever its class makes of ``container[key]``."""
    if isinstance(container, dict):
        return dict.__getitem__(container, key)
    return (list if isinstance(container, list) else type(container)).__getitem__(container, key)


def put(container: Any, key: Any, value: Any) -> None:
    """Let a container hold a value in place of another, whatever its class makes of ``container[key] = value``."""
    kind = dict if isinstance(container, dict) else list if isinstance(container, list) else type(container)
    kind.__setitem__(container, key, value)


def items_of(container: Any) -> list[tuple[Any, Any]]:
    """Keys and what is there, whatever the container's class makes of iteration."""
    if isinstance(container, dict):
        return list((collections.OrderedDict if isinstance(container, collections.OrderedDict) else dict).items(container))
    return list(enumerate(list.__iter__(container) if isinstance(container, list) else container))


def _is_rearranged(container: Container) -> bool:
    """Whether a container has other keys now, or has them in another order."""
    keys = [key for key, _ in items_of(container.value)]
    if len(keys) != len(container.items):
        return True
    return isinstance(container.value, dict) and not all([key is item.key for key, item in zip(keys, container.items)])


def _with_places(value: Any, places: dict[int, Argument]) -> Any:
    if id(value) in places:
        return places[id(value)]
    if isinstance(value, tuple):
        return tuple.__new__(type(value), [_with_places(part, places) for part in value])
    return value


def _are_tensors(value: Any, can_be_put: Callable[[Any], bool]) -> bool:
    """Whether a value is a Tensor that a program can put somewhere, or a tuple of such."""
    if type(value) is Tensor:
        return can_be_put(value)
    plain = isinstance(value, tuple) and attributes_of(value) is None
    return plain and len(value) > 0 and all([_are_tensors(part, can_be_put) for part in value])
