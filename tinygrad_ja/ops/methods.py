"""Attaches operators to ``Tensor`` as methods, so that ``core`` knows no operator."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..core.tensor import Tensor


def attach(*functions: Callable[..., Any], **named: Callable[..., Any]) -> None:
    """Make functions methods of Tensor, under their own names or, by keyword, under another one.

    ``attach(tanh, __add__=add, absolute=abs)``
    """
    for function in functions:
        setattr(Tensor, function.__name__, function)
    for name, function in named.items():
        setattr(Tensor, name, function)


def attach_in_place(*functions: Callable[..., Any], **named: Callable[..., Any]) -> None:
    """For each function ``f`` add the method ``f_``, which gives the tensor the result as its new value and returns it."""
    for function in functions:
        setattr(Tensor, function.__name__ + "_", _in_place(function))
    for name, function in named.items():
        setattr(Tensor, name, _in_place(function))


def _in_place(function: Callable[..., Any]) -> Callable[..., Tensor]:
    @functools.wraps(function)
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self._assign(function(self, *args, **kwargs))

    return method
