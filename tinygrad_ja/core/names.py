"""Names of parameters: they are how a derivative says what it needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def names_of(function: Callable[..., Any] | None) -> list[str]:
    """Names of a function's parameters; none for None.

    >>> names_of(lambda g, y: g * y)
    ['g', 'y']
    """
    if function is None:
        return []
    code = getattr(function, "__code__", None)
    if code is None or hasattr(function, "operator"):
        return list(inspect.signature(function).parameters)
    return list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
