"""Convolutions as machine code outside of compiled programs, for the kernels that every call runs.

What a call needs (texts compiled, words, records) depends on shapes, layouts and geometry, and is made once for each of those; a later call
writes the addresses of its arrays into a copy. So several threads may run the same convolution.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .conv_weight import weight_gradient
from .convolution import correlation
from .launches import Launch, Unsupported, tabulated
from .target import processor
from .team import team

KEPT = 512
"""Ways to call that are kept."""


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


def convolution(
    transposed: bool, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, y: np.ndarray, *geometry: tuple[int, ...]
) -> bool:
    """Fill ``y`` with a convolution or its transpose. False where there is no machine code for it, or where it is slow: vectors hold
    channels of ``y``."""
    if y.shape[1] < processor().vector // 4:
        return False
    arrays = [x, w, y] if bias is None else [x, w, y, bias]
    return _run((transposed, *geometry), arrays, lambda: correlation(transposed, x, w, bias, y, *geometry))


def gradient_of_weight(x: np.ndarray, g: np.ndarray, w: np.ndarray, *geometry: tuple[int, ...]) -> bool:
    """Fill ``w`` with the gradient of a weight. False where there is no machine code for it."""
    return _run(("weight", *geometry), [x, g, w], lambda: weight_gradient(x, g, w, *geometry))


def _run(kind: tuple[Any, ...], arrays: list[np.ndarray], launches: Callable[[], list[Launch]]) -> bool:
    key = (kind, *[(a.shape, a.strides, a.dtype, a.flags.aligned) for a in arrays])
    try:
        way = _ways[key]
    except KeyError:
        way = _way(arrays, launches)
        if len(_ways) >= KEPT:
            _ways.clear()
        _ways[key] = way
    if way is None:
        return False
    words, records = way.words.copy(), way.records.copy()
    for place, k in way.slots:
        words[place] = arrays[k].__array_interface__["data"][0]
    scratch = np.empty(way.scratch + 64, np.uint8)
    words[way.rebased] += scratch.__array_interface__["data"][0] + 63 & ~63
    records[:, 1] = records[:, 1] * 8 + words.__array_interface__["data"][0]
    own = team()
    own.run(
        ctypes.c_void_p(records.__array_interface__["data"][0]),
        ctypes.c_int64(len(records)),
        own.address,
        own.ready() if way.shared else 1,
        ctypes.c_void_p(_NO_PROBLEM.__array_interface__["data"][0]),
    )
    return True


def _way(arrays: list[np.ndarray], launches: Callable[[], list[Launch]]) -> _Way | None:
    """How to call; None if there is no machine code."""
    addresses = {a.__array_interface__["data"][0]: k for k, a in enumerate(arrays)}
    if len(addresses) < len(arrays):
        return None
    try:
        made = launches()
    except Unsupported:
        return None
    words, records, rebased = tabulated(made)
    slots = [(place, addresses[word]) for place, word in enumerate(words.tolist()) if word in addresses]
    words[[place for place, _ in slots]] = 0
    scratch = max(launch.scratch for launch in made)
    return _Way(words, records, slots, rebased, scratch, any(launch.chunks > 1 for launch in made))
