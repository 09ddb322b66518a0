"""Watching operators while they run: their kernels are replaced for a while by functions that call them and look."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..backend.arrays import BACKENDS, Backend
from ..core.operator import OPERATORS, Operator
from .operator_cost import MULTIPLICATIONS, multiplications

Kernel = Callable[..., Any]
Wrap = Callable[[Operator, Backend, Kernel], Kernel]

_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def watching_kernels(wrap: Wrap, names: Iterable[str] | None = None) -> Iterator[None]:
    """Inside, every call of an operator's kernel, in whatever thread, is a call of ``wrap(operator, backend, kernel)``. names: of the
    operators; None for all. May be nested; another thread that wants to watch waits.

    It is the kernels' tables that change, which every call looks into anyway, so nothing is slower when nobody watches.
    """
    with _one_at_a_time:
        operators = [OPERATORS[name] for name in (OPERATORS if names is None else names)]
        backends = list(BACKENDS.values())
        before = [(operator, backend, operator.kernels[backend.array_type]) for operator in operators for backend in backends]
        try:
            for operator, backend, kernel in before:
                operator.kernels[backend.array_type] = wrap(operator, backend, kernel)
            yield
        finally:
            for operator, backend, kernel in before:
                operator.kernels[backend.array_type] = kernel


@contextlib.contextmanager
def watching_products(note: Callable[[int], None]) -> Iterator[None]:
    """Inside, ``note(multiplications)`` is called for every product that this thread runs (``MULTIPLICATIONS`` lists them), whatever runs it:
    Tensors, arrays, recorded or not. What an operator calls inside of itself is its own and not counted again.

    >>> import tinygrad_ja as tg
    >>> counted = []
    >>> with watching_products(counted.append):
    ...     _ = tg.ones(2, 3) @ tg.ones(3, 5)
    >>> counted
    [30]
    """
    thread = threading.get_ident()
    inside = False

    def wrap(operator: Operator, backend: Backend, kernel: Kernel) -> Kernel:
        def reporting(*args: Any, **kwargs: Any) -> Any:
            nonlocal inside
            if inside or threading.get_ident() != thread:
                return kernel(*args, **kwargs)
            inside = True
            try:
                y = kernel(*args, **kwargs)
            finally:
                inside = False
            note(multiplications(operator.name, y, args, kwargs))
            return y

        return reporting

    with watching_kernels(wrap, MULTIPLICATIONS):
        yield
