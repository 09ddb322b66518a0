"""Convolutions of images as machine code outside of compiled programs, for the kernels that every call runs.

What a call needs (texts compiled, words, records) depends on shapes, layouts and geometry, and is made once for each of those; a later call
writes the addresses of its arrays into a copy. So several threads may run the same convolution. Making it takes some 0.1 s, so there is a
limit (``KEPT``) to how often that is done: a network that meets another size at each call soon goes NumPy's way with new ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .code import F32
from .conv_weight import weight_gradient
from .convolution import correlation
from .launches import Launch, Unsupported, tabulated
from .target import processor
from .team import team

KEPT = 256
"""Shapes that are compiled in a process, at most."""

PATIENCE = 1000
"""How often a thread looks for more work before it sleeps: what comes next is NumPy's and wants the processors for threads of its own."""

TAPS, OUTPUTS = 128, 1024
"""The largest kernel and the longest side of an image: texts of larger ones take long to write."""


class _Way(NamedTuple):
    """words, records: as of a table, with the places of words in ``records``. slots: where the address of which array goes. rebased: words
    to which the address of ``scratch`` bytes is added. shared: whether there are chunks for several threads."""

    words: np.ndarray
    records: np.ndarray
    slots: list[tuple[int, int]]
    rebased: list[int]
    scratch: int
    shared: bool


_ways: dict[Any, _Way | None] = {}
_NO_PROBLEM = np.zeros(1, np.int64)


def worth_it(x: np.ndarray, w: np.ndarray, y: np.ndarray) -> bool:
    """Whether there may be machine code for a convolution: images in single precision, all of a moderate size."""
    sides = (*x.shape[2:], *y.shape[2:])
    return x.ndim == 4 and x.dtype == y.dtype == w.dtype == F32 and max(sides) <= OUTPUTS and math.prod(w.shape[2:]) <= TAPS


def convolution(
    transposed: bool, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, y: np.ndarray, *geometry: tuple[int, ...]
) -> bool:
    """Fill ``y`` with a convolution or its transpose. False where there is no machine code for it, or where it is slow: vectors hold
    channels of ``y``."""
    if y.shape[1] < processor().vector // 4 or not worth_it(x, w, y):
        return False
    arrays = [x, w, y] if bias is None else [x, w, y, bias]
    return _run((transposed, *geometry), arrays, lambda: correlation(transposed, x, w, bias, y, *geometry))


def gradient_of_weight(x: np.ndarray, g: np.ndarray, w: np.ndarray, *geometry: tuple[int, ...]) -> bool:
    """Fill ``w`` with the gradient of a weight. False where there is no machine code for it."""
    return worth_it(x, w, g) and _run(("weight", *geometry), [x, g, w], lambda: weight_gradient(x, g, w, *geometry))


def _run(kind: tuple[Any, ...], arrays: list[np.ndarray], launches: Callable[[], list[Launch]]) -> bool:
    key = (kind, *[(a.shape, a.strides, a.dtype, a.flags.aligned) for a in arrays])
    if key not in _ways:
        if len(_ways) >= KEPT or len({_address(a) for a in arrays}) < len(arrays):
            return False
        _ways[key] = _way(arrays, launches)
    way = _ways[key]
    if way is None:
        return False
    words, records = way.words.copy(), way.records.copy()
    for place, k in way.slots:
        words[place] = _address(arrays[k])
    scratch = np.empty(way.scratch + 64, np.uint8)
    words[way.rebased] += _address(scratch) + 63 & ~63
    records[:, 1] = records[:, 1] * 8 + _address(words)
    own = team()
    own.run(_address(records), len(records), own.address, own.ready(PATIENCE) if way.shared else 1, _address(_NO_PROBLEM))
    return True


def _address(array: np.ndarray) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


def _way(arrays: list[np.ndarray], launches: Callable[[], list[Launch]]) -> _Way | None:
    """How to call; None if there is no machine code."""
    addresses = {_address(a): k for k, a in enumerate(arrays)}
    try:
        made = launches()
    except Unsupported:
        return None
    words, records, rebased = tabulated(made)
    slots = [(place, addresses[word]) for place, word in enumerate(words.tolist()) if word in addresses]
    words[[place for place, _ in slots]] = 0
    scratch = max(launch.scratch for launch in made)
    return _Way(words, records, slots, rebased, scratch, any(launch.chunks > 1 for launch in made))
