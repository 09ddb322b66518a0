"""Values as NumPy arrays, wherever they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend.arrays import BY_TYPE, is_array
from .tensor import Tensor


def on_host(value: Any, dtype: Any = None) -> np.ndarray:
    """A Tensor or array of any device, a list or a number as a NumPy array. What is on the CPU already is not copied.

    >>> on_host(Tensor(np.ones(2))), on_host([1, 2])
    (array([1., 1.]), array([1, 2]))
    """
    array = value.array if isinstance(value, Tensor) else value
    if is_array(array):
        array = BY_TYPE[type(array)].to_host(array)
    return np.asarray(array, dtype=dtype)
