"""Faster NumPy texts of reductions.

``np.add.reduce`` with positional arguments costs half of ``np.sum``, and for small contiguous matrices a product with a vector of ones
costs a quarter of it.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..core.operator import kernel
from ..ops.extremum import _amax, _amin
from ..ops.reduce import _mean, _sum, _total_dtype, present

# typed loosely: the stubs do not know the positional form
_add: Any = np.add.reduce
_largest: Any = np.maximum.reduce
_smallest: Any = np.minimum.reduce
_LONGEST = 4096
"""Up to here the products' own order of summation is as accurate as NumPy's pairwise one, to an ulp or so."""


@functools.lru_cache(256)
def ones(shape: Any, dtype: np.dtype) -> np.ndarray:
    """A constant array of ones, made once."""
    made = np.ones(shape, dtype)
    made.setflags(write=False)
    return made


@kernel(_sum, np.ndarray)
def sum_numpy(input: np.ndarray, dim: Any = None, keepdim: bool = False) -> Any:
    """Sum; a small contiguous matrix is multiplied by ones."""
    dtype = input.dtype
    if dtype.kind != "f":
        return _add(input, present(dim, input.ndim), _total_dtype(dtype), None, keepdim)
    if dtype.char == "e":
        return _add(input, dim, np.float32, None, keepdim).astype(dtype)
    if not keepdim:
        if dim is None:
            if input.size <= _LONGEST:
                return input.ravel().dot(ones(input.size, dtype))
        elif input.ndim == 2 and type(dim) is int and input.flags.c_contiguous:
            rows, columns = input.shape
            if (dim == 0 or dim == -2) and rows <= _LONGEST:
                return ones(rows, dtype).dot(input)
            if (dim == 1 or dim == -1) and columns <= _LONGEST:
                return input.dot(ones(columns, dtype))
    return _add(input, dim, None, None, keepdim)


@kernel(_mean, np.ndarray)
def mean_numpy(input: np.ndarray, dim: Any = None, keepdim: bool = False) -> Any:
    """Mean by the sum above."""
    half = input.dtype.char == "e"
    total = _add(input, dim, np.float32, None, keepdim) if half else sum_numpy(input, dim, keepdim)
    count = input.size // total.size if total.size else 0
    made = total / count if count else total * math.nan
    return made.astype(input.dtype) if half else made


@kernel(_amax, np.ndarray)
def amax_numpy(input: np.ndarray, dim: Any = None, keepdim: bool = False) -> Any:
    """Largest element; over everything its position is found faster than its value."""
    if dim is None and not keepdim and input.ndim:
        return input.ravel()[input.argmax()]
    return _largest(input, present(dim, input.ndim), None, None, keepdim)


@kernel(_amin, np.ndarray)
def amin_numpy(input: np.ndarray, dim: Any = None, keepdim: bool = False) -> Any:
    """Smallest element."""
    if dim is None and not keepdim and input.ndim:
        return input.ravel()[input.argmin()]
    return _smallest(input, present(dim, input.ndim), None, None, keepdim)
