"""``Link``: one step from a container to what it holds, and ``guard_of``: a function that tells whether every link leads where it did.

The guard is written as text, one comparison of identities for each link (``d["scale"] is v3 and ...``, some 30 ns each), because it runs
before every replay. Numbers and texts that are other objects of the same value pass as well. What cannot be compared by identity, the
elements of an array, is a ``State``.
"""

from __future__ import annotations

import collections
import contextvars
import math
import types
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..core.tape import Leaf

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "(nothing)"})()

PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), slice, range, np.dtype, np.generic)
"""Values that hold nothing and never change."""

_SUBSCRIPTED = frozenset((dict, list, collections.deque))


class Attributes:
    """The attributes of an object, by name."""

    __slots__ = ("owner",)

    def __init__(self, owner: Any) -> None:
        self.owner = owner

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self.owner, name)
        except AttributeError:
            raise KeyError(name) from None

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self.owner, name, value)


class ClassAttributes:
    """The attributes of a class itself, by name, without those of its bases."""

    __slots__ = ("kind",)

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def __getitem__(self, name: str) -> Any:
        return vars(self.kind)[name]

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self.kind, name, value)

    def __len__(self) -> int:
        return len(vars(self.kind))

    def __iter__(self) -> Any:
        return iter(vars(self.kind))


class Link:
    """One step from a container to what it holds. ``container`` is a dict, a list or a deque, a cell, a weak reference, a context
    variable, or the attributes of an object or a class; ``value`` what it held, ``MISSING`` where that was nothing."""

    __slots__ = ("container", "key", "value", "path")

    def __init__(self, container: Any, key: Any, value: Any, path: str) -> None:
        self.container = container
        self.key = key
        self.value = value
        self.path = path

    def now(self) -> Any:
        """What the container holds there now; ``MISSING`` when that is gone."""
        container = self.container
        try:
            if isinstance(container, types.CellType):
                return container.cell_contents
            if isinstance(container, contextvars.ContextVar):
                return container.get(MISSING)
            if isinstance(container, weakref.ref):
                return container()
            if isinstance(container, dict):
                return dict.get(container, self.key, MISSING)
            return container[self.key]
        except (LookupError, ValueError, TypeError):  # TypeError: where there was a tuple there is something else
            return MISSING

    def put(self, value: Any) -> None:
        """Let the container hold ``value`` there."""
        if isinstance(self.container, types.CellType):
            self.container.cell_contents = value
        elif isinstance(self.container, contextvars.ContextVar):
            self.container.set(value)
        elif not isinstance(self.container, weakref.ref):
            self.container[self.key] = value


class TupleItems:
    """The items of a tuple that a container holds: one of them is replaced by putting another tuple into the container."""

    __slots__ = ("link",)

    def __init__(self, link: Link) -> None:
        self.link = link

    def __getitem__(self, index: int) -> Any:
        return self.link.now()[index]

    def __setitem__(self, index: int, value: Any) -> None:
        items = list(self.link.now())
        items[index] = value
        self.link.put(tuple(items))

    def length(self) -> int | None:
        """How many there are; None where the container holds something else now."""
        now = self.link.now()
        return len(now) if type(now) is tuple else None


class State:
    """Something that changes without another object taking its place. ``read()`` gives what two moments are compared by."""

    __slots__ = ("path", "owner", "read", "was")

    def __init__(self, owner: Any, read: Callable[[], Any], path: str) -> None:
        self.owner, self.read, self.path = owner, read, path
        self.was = read()

    def holds(self) -> bool:
        """Whether it is as it was."""
        return bool(self.read() == self.was)


def same(a: Any, b: Any) -> bool:
    """Whether two plain values, without attributes, are equal and of one type, or tuples of such and of the same objects."""
    if type(a) is not type(b):
        return False
    if type(a) is tuple:
        return len(a) == len(b) and all([x is y or same(x, y) for x, y in zip(a, b)])
    if not isinstance(a, PLAIN) or getattr(a, "__dict__", None):
        return False
    if type(a) is float:
        return (a == b and math.copysign(1.0, a) == math.copysign(1.0, b)) or (a != a and b != b)
    return bool(a == b or (a != a and b != b))


def guard_of(
    links: Iterable[Link],
    sizes: Iterable[tuple[Any, int, str]],
    orders: Iterable[tuple[dict[Any, Any], tuple[Any, ...], str]],
    sets: Iterable[tuple[set[Any], frozenset[Any], str]],
    absent: Iterable[tuple[dict[str, Any], set[str]]],
    states: Iterable[State],
    free: Iterable[Sequence[Link]],
    present: Iterable[Leaf] = (),
) -> Callable[[], bool]:
    """A function that is True as long as every link leads where it did.

    sizes: containers and how many entries they have. orders: dicts and their keys. sets: and what is in them. absent: dicts and keys that
    they do not have. free: links to one Tensor, each time another one: they only have to lead to the same. present: leaves that have a
    gradient, whichever.
    """
    space: dict[str, Any] = {"same": same}
    names: dict[int, str] = {}

    def name_of(value: Any) -> str:
        known = names.get(id(value))
        if known is None:
            known = names[id(value)] = f"v{len(names)}"
            space[known] = value
        return known

    def entries_of(container: Any) -> str:
        if type(container) is not ClassAttributes:
            return name_of(container)
        space[name := f"of_{name_of(container.kind)}"] = vars(container.kind)
        return name

    def read(link: Link) -> str:
        container, key = link.container, link.key
        if link.value is not MISSING:
            if type(container) is types.CellType:
                return f"{name_of(container)}.cell_contents"
            if type(container) is Attributes and key.isidentifier():
                return f"{name_of(container.owner)}.{key}"
            if type(container) is ClassAttributes:
                return f"{entries_of(container)}[{key!r}]"
            if type(container) in _SUBSCRIPTED:
                return f"{name_of(container)}[{key!r}]" if type(key) in (str, int) else f"{name_of(container)}[{name_of(key)}]"
        space[name := f"now{len(space)}"] = link.now
        return f"{name}()"

    terms = [f"len({entries_of(container)}) == {size}" for container, size, _ in sizes]
    terms += [f"(*{name_of(container)},) == {name_of(keys)}" for container, keys, _ in orders]
    terms += [
        f"{name_of(container)} == {name_of(items)}" if items else f"not {name_of(container)}" for container, items, _ in sets
    ]
    terms += [f"{name_of(container.keys())}.isdisjoint({name_of(keys)})" for container, keys in absent]
    for link in links:
        here, value = read(link), name_of(link.value)
        if isinstance(link.value, (*PLAIN, tuple)) and link.value is not None and not isinstance(link.value, bool):
            terms.append(f"({here} is {value} or same({here}, {value}))")
        else:
            terms.append(f"{here} is {value}")
    for first, *others in free:
        terms.append(f"type({read(first)}) is {name_of(type(first.value))}")
        terms += [f"{read(other)} is {read(first)}" for other in others]
    terms += [f"{name_of(leaf)}.grad is not None" for leaf in present]
    terms += [f"{name_of(state.holds)}()" for state in states]
    body = "".join(f"        if not ({' and '.join(terms[i : i + 40])}): return False\n" for i in range(0, len(terms), 40))
    source = f"def guard():\n    try:\n{body}        return True\n    except (LookupError, ValueError, AttributeError): return False\n"
    exec(compile(source, "<guard>", "exec"), space)
    return space["guard"]
