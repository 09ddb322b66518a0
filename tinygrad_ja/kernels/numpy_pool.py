"""Faster NumPy texts of max pooling, in threads and in blocks of pictures that stay in the cache.

Elements of each tap are first copied side by side: comparing and choosing go at full speed only there. The numbers of the taps are bytes,
and the mask of a comparison is bytes too, so that the tap is the maximum of mask · number over all taps, in which later numbers are larger.
The derivative masks the bits of the cotangent, which keeps infinities from becoming NaN where the mask is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend.threads import in_parts
from ..core.operator import OPERATORS, kernel
from ..ops.pool import _from_taps, _window_max
from ..ops.window import Window, reaches
from .machine_code import with_machine_code

_BLOCK = 65_536
"""Windows of a block."""
_BITS = {2: np.int16, 4: np.int32, 8: np.int64}
"""Size of a float -> integers of that size."""

_plain_window_max = OPERATORS["window_max"].kernel_for(np)
_plain_from_taps = OPERATORS["from_taps"].kernel_for(np)


def _few_taps(windows: Sequence[Window]) -> bool:
    return math.prod([window.taps for window in windows]) <= 256


@kernel(_window_max, np.ndarray)
def window_max_numpy(input: np.ndarray, windows: tuple[Window, ...]) -> Any:
    """Falls back to the plain text where the largest element is NaN, or where one of -inf might come from the padding."""
    if input.dtype.kind != "f" or not input.size or not _few_taps(windows):
        return _plain_window_max(input, windows)
    dims = len(windows)
    lead, sizes = input.shape[: input.ndim - dims], input.shape[input.ndim - dims :]
    counts = tuple([window.count for window in windows])
    pictures, places = math.prod(lead), math.prod(counts)
    x = input.reshape(pictures, *sizes)
    values, taps = np.empty((*lead, *counts), input.dtype), np.zeros((*lead, *counts), np.uint8)
    y, tap_of = values.reshape(pictures, *counts), taps.reshape(pictures, *counts)
    plan = list(reaches(windows, sizes))
    whole = plan[0][1][1:] == tuple([slice(0, n) for n in counts])  # every window has the first tap

    def work(part: slice) -> None:
        given, best, number_of = x[part], y[part], tap_of[part]
        if whole:
            best[...] = given[plan[0][2]]
        else:
            best[...] = -math.inf
        for number, where, at in plan[whole:]:
            mine, old, tap = np.ascontiguousarray(given[at]), best[where], number_of[where]
            better = (mine > old).view(np.uint8)
            np.maximum(old, mine, out=old)
            better *= np.uint8(number)
            np.maximum(tap, better, out=tap)

    in_parts(work, pictures, values.size * len(plan), max(1, _BLOCK // max(places, 1)))
    odd = values.size and (math.isnan(values.max()) or (not whole and values.min() == -math.inf))
    if odd:
        return _plain_window_max(input, windows)
    return (values, taps), taps


@kernel(_from_taps, np.ndarray)
def from_taps_numpy(input: np.ndarray, taps: np.ndarray, size: tuple[int, ...], windows: tuple[Window, ...]) -> np.ndarray:
    """Windows that do not overlap fill their places once; others are added to zeros."""
    dims = len(windows)
    sizes = size[len(size) - dims :]
    tiles = all([window.tiles(n) for window, n in zip(windows, sizes)])
    covers = tiles and all([window.count * window.taps == n for window, n in zip(windows, sizes)])
    made = (np.empty if covers else np.zeros)(size, input.dtype)
    if input.dtype.kind != "f" or not input.size or not _few_taps(windows):
        return _plain_from_taps(input, taps, size, windows)
    pictures, counts = math.prod(size[: len(size) - dims]), input.shape[input.ndim - dims :]
    bits = _BITS[input.dtype.itemsize]
    y = made.reshape(pictures, *sizes)
    g, chosen = np.ascontiguousarray(input).reshape(pictures, *counts).view(bits), taps.reshape(pictures, *counts)
    plan = list(reaches(windows, sizes))

    def work(part: slice) -> None:
        gradient, number_of, out = g[part], chosen[part], y[part]
        for number, where, at in plan:
            mask = np.negative((number_of[where] == number).view(np.int8))  # all bits, or none
            if tiles:
                np.bitwise_and(gradient[where], mask, out=out.view(bits)[at])
            else:
                out[at] += np.bitwise_and(gradient[where], mask).view(input.dtype)

    in_parts(work, pictures, input.size * len(plan), max(1, _BLOCK // max(math.prod(counts), 1)))
    return made


with_machine_code(_window_max, _from_taps)
