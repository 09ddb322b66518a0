"""Counts the multiplications of matrix products and convolutions while they run, from the shapes of their operands."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ..backend.arrays import ARRAY_MODULES
from ..core.operator import OPERATORS


def _einsum(y: Any, *operands: Any, equation: str) -> int:
    """Two operands at a time from the left, as the operator does: each pair multiplies once for every setting of its indices. An index
    that only one of the two has, and nobody later, is summed away before."""
    inputs, _, out = equation.partition("->")
    terms = inputs.split(",")
    size = {i: n for term, operand in zip(terms, operands) for i, n in zip(term, operand.shape)}
    total, left = 0, set(terms[0])
    for position, term in enumerate(terms[1:], start=1):
        right, later = set(term), set(out).union(*terms[position + 1 :])
        met = (left & right) | ((left | right) & later)
        total += math.prod(size[i] for i in met)
        left = (left | right) & later
    return total


def _products(*weights: Any) -> int:
    """Multiplications of one row by each of the matrices."""
    return sum(weight.size for weight in weights)


MULTIPLICATIONS: dict[str, Callable[..., int]] = {
    "matmul": lambda y, input, other: y.size * input.shape[-1],
    "matmul_nt": lambda y, input, other: y.size * input.shape[-1],
    "matmul_tn": lambda y, input, other: y.size * input.shape[-2],
    "linear": lambda y, input, weight, bias=None: y.size * weight.shape[-1],
    "einsum": _einsum,
    "convolution": lambda y, input, weight, *rest: y.size * math.prod(weight.shape[1:]),
    "conv_transpose": lambda y, input, weight, *rest: input.size * math.prod(weight.shape[1:]),
    "attention": lambda y, query, key, value, *rest: (
        math.prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])
    ),
    "rnn_step": lambda y, gates, hx, w_hh, *rest, **options: gates.shape[0] * _products(w_hh),
    "lstm_step": lambda y, gates, hx, cx, w_hh, *rest: gates.shape[0] * _products(w_hh),
    "gru_step": lambda y, gates, hx, w_hh, *rest, **options: gates.shape[0] * _products(w_hh),
    "rnn_cell": lambda y, x, hx, w_ih, w_hh, *rest, **options: x.shape[0] * _products(w_ih, w_hh),
    "lstm_cell": lambda y, x, hx, cx, w_ih, w_hh, *rest: x.shape[0] * _products(w_ih, w_hh),
    "gru_cell": lambda y, x, hx, w_ih, w_hh, *rest, **options: x.shape[0] * _products(w_ih, w_hh),
    "rnn_layer": lambda y, x, hx, w_ih, w_hh, *rest, **options: x.shape[0] * _products(w_ih, w_hh),
    "lstm_layer": lambda y, x, hx, cx, w_ih, w_hh, *rest, **options: x.shape[0] * _products(w_ih, w_hh),
    "gru_layer": lambda y, x, hx, w_ih, w_hh, *rest, **options: x.shape[0] * _products(w_ih, w_hh),
}
"""Operator -> its multiplications (each with an addition: MACs), from its output and the arguments of its kernel. Those by zeros that
pad an image count; products of one element with one other, as in normalisation or between gates, do not."""

_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def watching_products(note: Callable[[int], None]) -> Iterator[None]:
    """Inside, ``note(multiplications)`` is called for every operator of the table that this thread runs, whatever runs it: Tensors,
    arrays, recorded or not. What an operator calls inside of itself is its own and not counted again.

    >>> import tinygrad_ja as tg
    >>> counted = []
    >>> with watching_products(counted.append):
    ...     _ = tg.ones(2, 3) @ tg.ones(3, 5)
    >>> counted
    [30]
    """
    watched = _Watched(note)
    with _one_at_a_time:
        tables = {name: OPERATORS[name].kernels for name in MULTIPLICATIONS}
        before = {name: {kind: table[kind] for kind in ARRAY_MODULES} for name, table in tables.items()}
        try:
            for name, kernels in before.items():
                tables[name].update({kind: watched.kernel(k, MULTIPLICATIONS[name]) for kind, k in kernels.items()})
            yield
        finally:
            for name, kernels in before.items():
                tables[name].update(kernels)


class _Watched:
    """Wraps kernels so that they report, once for the outermost of them."""

    def __init__(self, note: Callable[[int], None]) -> None:
        self.note = note
        self.thread = threading.get_ident()
        self.inside = False

    def kernel(self, kernel: Callable[..., Any], formula: Callable[..., int]) -> Callable[..., Any]:
        def reporting(*args: Any, **kwargs: Any) -> Any:
            if self.inside or threading.get_ident() != self.thread:
                return kernel(*args, **kwargs)
            self.inside = True
            try:
                y = kernel(*args, **kwargs)
            finally:
                self.inside = False
            self.note(formula(y, *args, **kwargs))
            return y

        return reporting
