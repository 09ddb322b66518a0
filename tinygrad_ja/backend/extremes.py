"""The largest and the smallest of what arrives at each place, alike on every kind of array."""

from __future__ import annotations

from typing import Any

import numpy as np


def extreme_at(xp: Any, to: Any, places: Any, values: Any, smallest: bool) -> None:
    """``xp.maximum.at`` (``xp.minimum.at``) in place; NaN wins.

    NumPy's own does that. CuPy 14 compares float64 as float32 there and passes over NaN, so elsewhere floats go as integers of the same order:
    the bits of a negative float, but for the sign, are turned round.

    >>> to = np.zeros(2)
    >>> extreme_at(np, to, np.array([0, 0, 1]), np.array([1.0, 3.0, -2.0]), smallest=False)
    >>> to.tolist()
    [3.0, 0.0]
    """
    function = xp.minimum if smallest else xp.maximum
    if xp is np or to.dtype.kind != "f":
        function.at(to, places, values)
        return
    integers = np.dtype(f"i{to.dtype.itemsize}")
    bounds = np.iinfo(integers)
    nan = bounds.min if smallest else bounds.max  # bits of a NaN, too

    def turned(bits: Any) -> Any:
        return bits ^ ((bits >> (8 * integers.itemsize - 1)) & bounds.max)

    def keys(x: Any) -> Any:
        return xp.where(x == x, turned(x.view(integers)), nan)

    made = keys(to)
    function.at(made, places, keys(values))
    to[...] = turned(made).view(to.dtype)
