"""The discrete Fourier transform of real signals, in real numbers: the last axis of a spectrum holds real and imaginary part.

X_k = Σ_j x_j e^(-2πi jk/n) for 0 <= k <= n/2, so Re X_k = Σ_j x_j cos(2π jk/n) and Im X_k = -Σ_j x_j sin(2π jk/n). Both are linear in x, and
the transpose, x_j = Σ_k Re X_k cos(2π jk/n) - Im X_k sin(2π jk/n), is an inverse transform without its factors. The two operators are each
other's derivatives, at the cost of a fast transform.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.operator import Array, linear


def _signal_case(pick: Any) -> Any:
    return (pick.array(pick.shape(min_dims=1, min_side=1, max_side=7)),), {}


def _spectrum_case(pick: Any) -> Any:
    size = pick.integer(1, 7)
    return (pick.array((*pick.shape(max_dims=2), size // 2 + 1, 2)), size), {}


def _precision(dtype: Any) -> Any:
    """float16 is computed in float32."""
    return np.float64 if dtype == np.float64 else np.float32


@linear(lambda g, shape: dft_transpose(g, shape[-1]), cases=_signal_case)
def dft(xp: Any, input: Array) -> Array:
    """Real signals (..., n) to spectra (..., n // 2 + 1, 2)."""
    made = xp.fft.rfft(input.astype(_precision(input.dtype), copy=False))
    return xp.stack([made.real, made.imag], -1).astype(input.dtype, copy=False)


@linear(lambda g: dft(g), cases=_spectrum_case)
def dft_transpose(xp: Any, input: Array, size: int) -> Array:
    """Spectra (..., size // 2 + 1, 2) to Σ_k Re X_k cos(2π jk/size) - Im X_k sin(2π jk/size) for 0 <= j < size.

    The inverse fast transform counts the frequencies between the ends twice, as those of their mirror images, hence the halves. The
    imaginary parts at the ends have no effect: sin(0) and sin(π j) are 0.
    """
    share = xp.full((size // 2 + 1, 2), 0.5, dtype=_precision(input.dtype))
    ends = (0, -1) if size % 2 == 0 else (0,)
    for end in ends:
        share[end, 0] = 1
        share[end, 1] = 0
    halves = input * share
    made = xp.fft.irfft(halves[..., 0] + 1j * halves[..., 1], size, norm="forward")
    return made.astype(input.dtype, copy=False)
