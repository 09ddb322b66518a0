"""Operators whose large calls are machine code, where llvmlite is installed: the kernel and the first-order backward of an operator are
handed over as they are, and run while there is no machine code for a call yet (``compiler/native/at_once.py``)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import in_place

LARGE = 1 << 15
"""Elements of the first array, or for a backward of any, from which on there is machine code. It takes some 10 µs to find and to call it."""

FEW = 1 << 10
"""Elements of the first array from which on a text that works in place is machine code."""

load_machine_code: Callable[[], Any] = lambda: None  # noqa: E731
"""Gives the module that has machine code, or None; the package sets it, since that module stands above this one."""


def run(operator: Any, usual: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What ``usual(*args, **kwargs)`` returns, a kernel of ``operator``, by machine code where that pays."""
    own = load_machine_code() if args[0].size >= LARGE else None
    return usual(*args, **kwargs) if own is None else own.forward(operator, usual, args, kwargs)


def with_machine_code(*functions: Any, forward: bool = True) -> None:
    """Let operators run as machine code: their forward (``forward=False``: unless their kernel sees to it, or is as fast) and their
    first-order backward. After their kernels have been registered."""
    for function in functions:
        if forward:
            _forward(function.operator)
        _backward(function.operator)


def _forward(operator: Any) -> None:
    usual = operator.kernels[np.ndarray]

    def of_one(input: np.ndarray) -> Any:  # the sooner it is seen that an array is small, the better
        return usual(input) if input.size < LARGE else run(operator, usual, input)

    operator.kernels[np.ndarray] = of_one if len(operator.parameters) == 1 else functools.partial(run, operator, usual)


def _find(text: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
    """``in_place`` for arrays of NumPy that are not too small."""
    first = inputs[0]
    if type(first) is not np.ndarray or first.size < FEW or first.dtype != np.float32:
        return None
    own = load_machine_code()
    return own and own.in_place(text, inputs, outputs)


in_place.find = _find


def _backward(operator: Any) -> None:
    before = operator.backward_kernels.get(np.ndarray, lambda usual: usual)

    def made(text: Callable[..., Any]) -> Callable[..., Any]:
        usual = before(text)

        def backward(saved: tuple[Any, ...], parents: Sequence[Any], g: Any) -> Any:
            own = load_machine_code() if any([_large(x) for x in (g, *saved)]) else None
            return usual(saved, parents, g) if own is None else own.backward(operator, usual, saved, parents, g)

        def backward_of_one(saved: tuple[Any, ...], parents: Sequence[Any], g: Any) -> Any:
            if g.size < LARGE:
                return usual(saved, parents, g)
            return backward(saved, parents, g)

        return backward_of_one if operator.kind == "elementwise" else backward

    operator.backward_kernels[np.ndarray] = made


def _large(x: Any) -> bool:
    return type(x) is np.ndarray and x.size >= LARGE
