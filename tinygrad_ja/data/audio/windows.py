"""Windows that fade a piece of sound in and out before its spectrum is taken, as ``torch.hann_window`` and its kin."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.tensor import Tensor
from ...errors import refusal
from ...ops import creation


def hann_window(window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Half a wave of cosine on a pedestal: sin²(π n / N).

    window_length: elements. periodic: N is ``window_length``, so that windows in a row add up to a constant; else N is one less and the
    window is symmetric. dtype: default float32. Raises ArgumentError for a negative length.

    >>> hann_window(4)
    tensor([0. , 0.5, 1. , 0.5])
    """
    return _cosine("hann_window", window_length, periodic, (0.5, 0.5), dtype, device)


def hamming_window(
    window_length: int, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46, *, dtype: Any = None, device: Any = None
) -> Tensor:
    """alpha - beta cos(2π n / N), which does not go down to 0 at the ends. Arguments as for ``hann_window``.

    >>> [round(x, 2) for x in hamming_window(4).tolist()]
    [0.08, 0.54, 1.0, 0.54]
    """
    return _cosine("hamming_window", window_length, periodic, (alpha, beta), dtype, device)


def blackman_window(window_length: int, periodic: bool = True, *, dtype: Any = None, device: Any = None) -> Tensor:
    """0.42 - 0.5 cos(2π n / N) + 0.08 cos(4π n / N). Arguments as for ``hann_window``.

    >>> [abs(round(x, 2)) for x in blackman_window(4).tolist()]
    [0.0, 0.34, 1.0, 0.34]
    """
    return _cosine("blackman_window", window_length, periodic, (0.42, 0.5, 0.08), dtype, device)


def _cosine(op: str, length: int, periodic: bool, weights: tuple[float, ...], dtype: Any, device: Any) -> Tensor:
    """w_0 - w_1 cos(2π n / N) + w_2 cos(4π n / N) - ..."""
    if not isinstance(length, int) or length < 0:
        rule, fix = ("an int, 0 or more", "0 以上の整数"), ("pass the number of samples.", "サンプル数を渡してください。")
        raise refusal(op, "window_length", length, rule, fix)
    count = max(length if periodic else length - 1, 1)
    angle = 2 * np.pi * np.arange(length) / count
    made = sum([(-1) ** k * weight * np.cos(k * angle) for k, weight in enumerate(weights)], np.zeros(length))
    if length == 1:
        made = np.ones(1)
    return creation.tensor(made, dtype=np.dtype(dtype or np.float32), device=device)
