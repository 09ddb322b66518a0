"""Functions that show what they leave behind, called plainly and compiled."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_ja as tg
from tinygrad_ja.core.traced import Traced

CALLS = 7

Case = Callable[[], tuple[Callable[..., Any], Callable[..., Any]]]
"""Makes a function, and another one that calls it, plain or compiled, for the k-th time and says what can be seen afterwards."""


def run(case: Case, backend: str) -> Any:
    """What plain and compiled calls show is the same. Returns the compiled function."""
    shown: list[list[Any]] = []
    for wrap in (lambda function: function, functools.partial(tg.compile, backend=backend)):
        function, call = case()
        step = wrap(function)
        shown.append([plain(call(step, k)) for k in range(CALLS)])
    for k, (expected, found) in enumerate(zip(*shown)):
        assert found == expected, f"call {k}"
    return step


def plain(value: Any) -> Any:
    """Tensors as lists of numbers."""
    if isinstance(value, tg.Tensor):
        assert type(value.array) is not Traced
        return value.tolist()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return [(name, plain(part)) for name, part in value.items()]
    if isinstance(value, (tuple, list, collections.deque)):
        return [plain(part) for part in value]
    return value


def ones(k: float = 1.0, size: int = 1) -> tg.Tensor:
    return tg.full((size,), float(k))
