"""Faster NumPy texts of scans: ``accumulate`` passes over the array once, the doubling of ``ops/scan.py`` log2(n) times."""

from __future__ import annotations

import numpy as np

from ..core.operator import kernel
from ..ops.scan import _logcumsumexp, running_position


@kernel(running_position, np.ndarray)
def running_position_numpy(input: np.ndarray, dim: int, smallest: bool = False) -> np.ndarray:
    """The last place so far where an element equals the extremum so far, or is NaN."""
    extremum = (np.minimum if smallest else np.maximum).accumulate(input, dim)
    place = np.arange(input.shape[dim]).reshape((-1,) + (1,) * (input.ndim - 1 - dim % input.ndim))
    return np.maximum.accumulate(np.where((input == extremum) | (input != input), place, 0), dim)


@kernel(_logcumsumexp, np.ndarray)
def logcumsumexp_numpy(input: np.ndarray, dim: int) -> np.ndarray:
    """Half precision is accumulated in float32."""
    wide = input.astype(np.float32) if input.dtype == np.float16 else input
    return np.logaddexp.accumulate(wide, dim).astype(input.dtype, copy=False)
