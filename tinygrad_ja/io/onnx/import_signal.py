"""Imported operators of signals: Fourier transforms as matrix products, windows, mel weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...nn import functional as F
from ...ops.creation import arange, from_numpy
from ...ops.join import stack
from ...ops.linalg import matmul
from .import_elementwise import asked_dtype
from .import_table import Call, imports, number


def _waves(call: Call, like: Any, rows: int, columns: int, length: int, sign: int) -> tuple[Any, Any]:
    """Cosine and sine of sign · 2π j k / length, (rows, columns)."""
    call.allow((rows, columns))
    turns = np.outer(np.arange(rows), np.arange(columns)) % length  # before the division, so that large angles stay exact
    angle = sign * 2 * np.pi * turns / length
    return tuple([from_numpy(part.astype(like.dtype)).to(like.device) for part in (np.cos(angle), np.sin(angle))])  # type: ignore[return-value]


def _resized(call: Call, x: Any, axis: int, length: int) -> Any:
    """Cut, or filled up with zeros."""
    x = x.movedim(axis, -1)
    call.allow([*x.shape[:-1], length])
    return F.pad(x, (0, length - x.shape[-1]))


def _transform(call: Call, x: Any, axis: int, length: int, inverse: bool, onesided: bool) -> Any:
    """Signals (..., 1 or 2), real or with an imaginary part, transformed along an axis."""
    real = _resized(call, x[..., 0], axis, length)
    imaginary = _resized(call, x[..., 1], axis, length) if x.shape[-1] == 2 else None
    columns = length // 2 + 1 if onesided else length
    cosine, sine = _waves(call, x, length, columns, length, 1 if inverse else -1)
    made_real, made_imaginary = matmul(real, cosine), matmul(real, sine)
    if imaginary is not None:
        made_real, made_imaginary = made_real - matmul(imaginary, sine), made_imaginary + matmul(imaginary, cosine)
    scale = length if inverse else 1
    return stack([made_real / scale, made_imaginary / scale], -1).movedim(-2, axis)


def _real_inverse(call: Call, x: Any, axis: int, length: int) -> Any:
    """From the first half of a spectrum the real signal (..., 1): the other half is its mirror image, so most frequencies count twice."""
    half = length // 2 + 1
    real, imaginary = _resized(call, x[..., 0], axis, half), _resized(call, x[..., 1], axis, half)
    times = np.full(half, 2.0)
    times[0] = 1
    if length % 2 == 0:
        times[-1] = 1
    weight = from_numpy((times / length).astype(x.dtype)).to(x.device)
    cosine, sine = _waves(call, x, half, length, length, 1)
    made = matmul(real * weight, cosine) - matmul(imaginary * weight, sine)
    return made.movedim(-1, axis).unsqueeze(-1)


@imports("DFT", control=(1, 2))
def _dft(call: Call, x: Any, length: Any = None, axis: Any = None) -> Any:
    along = (call.get("axis", 1) if call.opset < 20 else int(number(axis, -2))) % x.ndim
    inverse, onesided = bool(call.get("inverse", 0)), bool(call.get("onesided", 0))
    usual = 2 * (x.shape[along] - 1) if inverse and onesided else x.shape[along]
    count = int(number(length, usual))
    if inverse and onesided:
        return _real_inverse(call, x, along, count)
    return _transform(call, x, along, count, inverse, onesided)


@imports("STFT", control=(1, 3))
def _stft(call: Call, x: Any, step: Any, window: Any = None, frame_length: Any = None) -> Any:
    """Spectra (N, frames, frequencies, 2) of pieces of a signal (N, T, 1 or 2)."""
    usual = window.shape[0] if window is not None else x.shape[1]
    length, hop = int(number(frame_length, usual)), int(number(step))
    frames = 1 + (x.shape[1] - length) // hop
    call.allow([x.shape[0], frames, length, x.shape[2]])
    places = arange(frames, device=x.device).reshape(-1, 1) * hop + arange(length, device=x.device)
    pieces = x[:, places]  # (N, frames, length, 1 or 2)
    if window is not None:
        pieces = pieces * window.reshape(-1, 1)
    return _transform(call, pieces, 2, length, False, bool(call.get("onesided", 1)))


_WINDOWS = {"BlackmanWindow": (0.42, -0.5, 0.08), "HammingWindow": (25 / 46, -21 / 46, 0.0), "HannWindow": (0.5, -0.5, 0.0)}


@imports(*_WINDOWS, control=(0,))
def _cosine_window(call: Call, size: Any) -> Any:
    """a + b cos(2π n / N) + c cos(4π n / N); N counts one point more for a periodic window."""
    a, b, c = _WINDOWS[call.node.op_type]
    count = int(number(size))
    call.allow((count,))
    turn = 2 * np.pi * np.arange(count) / max(count if call.get("periodic", 1) else count - 1, 1)
    made = a + b * np.cos(turn) + c * np.cos(2 * turn)
    return from_numpy(made.astype(asked_dtype(call.get("output_datatype", 1)))).to(size.device)


@imports("MelWeightMatrix", control=(0, 1, 2, 3, 4))
def _mel_weight_matrix(call: Call, bins: Any, length: Any, rate: Any, lowest: Any, highest: Any) -> Any:
    """Triangles over the frequencies of a spectrum, evenly spaced in mel."""
    count, size = int(number(bins)), int(number(length))
    call.allow((size // 2 + 1, count + 2))
    low, high = [2595 * np.log10(1 + number(edge) / 700) for edge in (lowest, highest)]
    mel = np.arange(count + 2) * ((high - low) / (count + 2)) + low
    edges = ((size + 1) * (700 * (10 ** (mel / 2595) - 1)) // number(rate)).astype(np.int64)
    made = np.zeros((size // 2 + 1, count))
    for i, (left, centre, right) in enumerate(zip(edges, edges[1:], edges[2:])):
        rising, falling = np.arange(left, centre + 1), np.arange(centre, right)
        made[rising, i] = (rising - left) / (centre - left) if centre > left else 1
        if right > centre:
            made[falling, i] = (right - falling) / (right - centre)
    return from_numpy(made.astype(asked_dtype(call.get("output_datatype", 1)))).to(bins.device)
