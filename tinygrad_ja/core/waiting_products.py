"""Sums of products Aᵀ B that are not made yet: the gradient of a weight that is used again and again, as at each time step of a loop.

A product of few rows writes a whole matrix, which is then read and added to another one. All rows one below the other make one product.
"""

from __future__ import annotations

from typing import Any

import numpy as np

MOST_ROWS = 1 << 10
"""Rows that wait at most: they keep the arrays of their time steps alive."""


class Products:
    """Σ_t A_tᵀ B_t, not made yet. shape: of the sum."""

    __slots__ = ("_left", "_right", "_rows", "_total", "shape")

    def __init__(self, left: np.ndarray, right: np.ndarray) -> None:
        self.shape = left.shape[1], right.shape[1]
        self._left, self._right, self._rows = [left], [right], len(left)
        self._total: np.ndarray | None = None

    def add(self, other: Products) -> None:
        """Take in the products of another one."""
        self._left += other._left
        self._right += other._right
        self._rows += other._rows
        if self._rows > MOST_ROWS:
            self._total = self.array()
            self._left, self._right, self._rows = [], [], 0

    def array(self) -> np.ndarray:
        """The sum, as an array that nobody else holds."""
        if not self._left:
            assert self._total is not None
            return self._total
        left, right = [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in (self._left, self._right)]
        made: np.ndarray = left.T.dot(right)
        if self._total is not None:
            made += self._total
        return made


def made_of(g: Any) -> Any:
    """A gradient as what it is, and ``Products`` as an array."""
    return g.array() if type(g) is Products else g
