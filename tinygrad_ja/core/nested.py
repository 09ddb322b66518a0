"""Nested tuples, lists and dicts: what is in them, and the same with something changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def found(value: Any, *kinds: type) -> Iterator[Any]:
    """Every object of one of these types within nested tuples, lists and dicts, in order.

    >>> list(found({"a": (1, "x"), "b": [2]}, int))
    [1, 2]
    """
    if type(value) in kinds:
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from found(part, *kinds)
    elif isinstance(value, dict):
        yield from found(list(value.values()), *kinds)


def mapped(value: Any, chosen: Callable[[Any], bool], change: Callable[[Any], Any]) -> Any:
    """A nested value in which everything that is ``chosen`` is changed.

    >>> mapped({"a": (1, "x")}, lambda part: part == 1, lambda part: part + 1)
    {'a': (2, 'x')}
    """
    if chosen(value):
        return change(value)
    if isinstance(value, dict):
        return {name: mapped(part, chosen, change) for name, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[mapped(part, chosen, change) for part in value])
    if isinstance(value, (tuple, list)):
        return type(value)([mapped(part, chosen, change) for part in value])
    return value
