"""Numbers of schedules and of GradScalers that code of the user reads: how far a schedule has come, or what the factor grows by; and
learning rates that change during a step.

A schedule runs in Python at each replay, so its numbers may change freely, unless the function reads some of them. Which ones it reads, the
names in its code tell.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from .code_names import names_of
from .links import PLAIN, Link, State, same

_ACTIONS = frozenset("go_to load_state_dict scale start step unscale_ update write".split())
"""Methods that a replay repeats, or that read anew what they need."""

_KNOWN = frozenset(("optimizer", "_scale", "_enabled"))
"""Attributes that are watched in another way."""


class Counted(NamedTuple):
    """A schedule, or a GradScaler, and its attributes at one moment."""

    owner: Any
    attributes: dict[str, Any]
    path: str

    def read_by(self, names: Collection[str]) -> list[str]:
        """Attributes that code reads which uses these names."""
        if "__dict__" in names or "vars" in names:
            return [name for name in self.attributes if name not in _KNOWN]
        seen: set[str] = set()
        waiting = [name for name in names if name not in _ACTIONS and hasattr(self.owner, name)]
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            held = getattr(type(self.owner), name, None)
            method = held.fget if isinstance(held, property) else held
            if isinstance(method, types.FunctionType):
                waiting += names_of(method.__code__).names - _ACTIONS
                seen |= self.attributes.keys() if "__dict__" in waiting else set()
        return [name for name in self.attributes if name in seen and name not in _KNOWN]

    def state(self, names: Collection[str]) -> State | None:
        """What has to be as it was for code that uses these names; None where that is nothing."""
        read = self.read_by(names)
        if not read:
            return None
        made = State(self.owner, functools.partial(_values, self.owner, read), f"{self.path}.{read[0]}")
        made.was = [self.attributes[name] for name in read]
        return made


def counted(owner: Any, path: str) -> Counted:
    """A schedule, or a GradScaler, as it is now."""
    return Counted(owner, {name: _compared(value) for name, value in vars(owner).items()}, path)


def _values(owner: Any, names: list[str]) -> list[Any]:
    held = vars(owner)
    return [_compared(held.get(name)) for name in names]


def _compared(value: Any) -> Any:
    """What two states of an attribute are compared by."""
    if isinstance(value, (list, tuple)):
        return [_compared(part) for part in value]
    if isinstance(value, dict):
        return {name: _compared(part) for name, part in value.items()}
    return value if isinstance(value, PLAIN) else id(value)


class Rates:
    """Watches learning rates, which change during a step where a schedule goes on; any other change is made by the function itself."""

    def __init__(self) -> None:
        self._links: list[Link] = []
        self._expected: list[Any] = []
        self._changed: dict[str, None] = {}

    def watch(self, links: Sequence[Link]) -> None:
        """From now on, look at these."""
        self._links = list(links)
        self.expect()

    def expect(self) -> None:
        """What they are now is right."""
        self._expected = [link.now() for link in self._links]

    def look(self) -> None:
        """Note those that have changed since."""
        for link, expected in zip(self._links, self._expected):
            now = link.now()
            if now is not expected and not same(now, expected):
                self._changed[link.path] = None
        self.expect()

    def by_hand(self) -> list[str]:
        """Paths of those that the function has changed itself."""
        self.look()
        return list(self._changed)
