"""The short-time Fourier transform and its inverse, with ``torch.stft``'s arguments and values, differentiable.

A spectrum is real here: its last axis holds real and imaginary part, as ``torch.view_as_real`` lays a complex tensor out. There are no
complex tensors, so ``return_complex`` can only be False.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...errors import Phrase, error, refusal
from ...ops.fourier import dft, dft_transpose
from ...ops.join import cat
from ...ops.padding import constant_pad_nd, pad
from ...ops.rearrange import flip
from ...ops.shape import expand, reshape, transpose, unsqueeze
from ...ops.strided import _add_strided, unfold
from ..arrays import array_of, need_float, placed

_LEAST_ENVELOPE = 1e-11
"""Where the windows add up to less, as in PyTorch, nothing can be recovered."""

_COUNT = ("an int, 1 or more", "1 以上の整数")


class Frames(NamedTuple):
    """How a signal is cut: pieces of ``n_fft`` samples, one every ``hop_length``, each times a window of ``n_fft`` numbers (or None)."""

    n_fft: int
    hop_length: int
    window: Any


def stft(
    input: Any,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Any = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
) -> Any:
    """Spectra of overlapping pieces: X[k, m] = Σ_j window[j] x[m · hop + j] e^(-2πi jk / n_fft).

    input: real (T,) or (B, T), float32 or float64. n_fft: samples in a piece. hop_length: from one piece to the next, default n_fft // 4.
    window: (win_length,), default ones; win_length, default n_fft, is filled up with zeros on both sides. center: piece m is centred at
    sample m · hop, for which ``pad_mode`` ("reflect", "replicate", "constant", "circular") continues the signal. normalized: times
    n_fft^(-1/2). onesided: only the frequencies 0 to n_fft // 2 (default; the others are their mirror image).
    Result: (K, M, 2) or (B, K, M, 2): frequencies, pieces, real and imaginary part.
    Raises ArgumentError or ShapeError, for a signal shorter than a piece among others.

    >>> import math
    >>> import tinygrad_ja as tg
    >>> wave = tg.cos(tg.arange(64) * (2 * math.pi / 8))  # eight samples a period
    >>> spectrum = stft(wave, n_fft=16, hop_length=8, center=False)
    >>> spectrum.shape, (spectrum[:, 0] ** 2).sum(-1).argmax().item()
    ((9, 7, 2), 2)
    """
    _refuse_complex("stft", return_complex)
    array = need_float("stft", input)
    if array.ndim not in (1, 2):
        rule, fix = ("(T,) or (B, T)", "(T,) か (B, T)"), ("reshape the signal.", "reshape してください。")
        raise error("TG-S002", op="stft", rule=rule, shapes=tuple(array.shape), fix=fix)
    frames = _frames("stft", input, n_fft, hop_length, win_length, window)
    signal = input if array.ndim == 2 else unsqueeze(input, 0)
    if center:
        signal = pad(signal, (n_fft // 2, n_fft // 2), pad_mode)
    if signal.shape[1] < n_fft:
        rule = (f"a signal of {n_fft} samples or more (n_fft)", f"信号は n_fft = {n_fft} サンプル以上")
        fix = ("use a smaller n_fft, or center=True.", "n_fft を小さくするか、center=True としてください。")
        raise error("TG-S002", op="stft", rule=rule, shapes=tuple(array.shape), fix=fix)
    pieces = unfold(signal, 1, n_fft, frames.hop_length)
    spectrum = dft(pieces if frames.window is None else pieces * frames.window)
    if onesided is False:
        spectrum = _mirrored(spectrum, n_fft)
    if normalized:
        spectrum = spectrum * n_fft**-0.5
    made = transpose(spectrum, 1, 2)
    return made if array.ndim == 2 else reshape(made, made.shape[1:])


def istft(
    input: Any,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Any = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Any:
    """The signal of a spectrum, the inverse of ``stft``: pieces added up where they overlap, divided by the sum of the squared windows.

    Of all signals it is the one whose spectrum is nearest to ``input`` (Griffin and Lim 1984), where ``input`` is no signal's spectrum.
    input: (K, M, 2) or (B, K, M, 2); K is n_fft // 2 + 1, with onesided=False n_fft, of which those behind the middle are not looked at.
    length: samples of the result, by default what the pieces cover. Other arguments as given to ``stft``. Result: (T,) or (B, T).
    Raises ArgumentError where the windows add up to nothing, ShapeError for another shape.

    >>> import tinygrad_ja as tg
    >>> from tinygrad_ja.data.audio import hann_window
    >>> x, window = tg.randn(100), hann_window(16)
    >>> y = istft(stft(x, 16, window=window), 16, window=window, length=100)
    >>> tg.allclose(x, y, atol=1e-6)
    True
    """
    _refuse_complex("istft", return_complex)
    array = need_float("istft", input)
    frames = _frames("istft", input, n_fft, hop_length, win_length, window)
    _check("istft", "length", length, length is None or _whole(length), _COUNT)
    frequencies = n_fft if onesided is False else n_fft // 2 + 1
    if array.ndim not in (3, 4) or array.shape[-1] != 2 or array.shape[-3] != frequencies or array.shape[-2] < 1:
        rule = (
            f"(..., {frequencies}, pieces, 2), with or without a batch",
            f"(..., {frequencies}, 区間の数, 2)。バッチの有無は自由",
        )
        fix = ("pass what stft returned, and its n_fft and onesided.", "stft の結果と、同じ n_fft、onesided を渡してください。")
        raise error("TG-S002", op="istft", rule=rule, shapes=tuple(array.shape), fix=fix)
    spectrum = transpose(input if array.ndim == 4 else unsqueeze(input, 0), 1, 2)
    if onesided is False:
        spectrum = spectrum[:, :, : n_fft // 2 + 1]
    pieces = _inverse(spectrum, n_fft)
    if normalized:
        pieces = pieces * n_fft**0.5
    signal = _added_up(pieces, frames, n_fft // 2 if center else 0, center, length)
    return signal if array.ndim == 4 else reshape(signal, signal.shape[1:])


def _refuse_complex(op: str, return_complex: bool | None) -> None:
    if return_complex:
        rule = ("False: there are no complex tensors", "False (複素数のテンソルはありません)")
        fix = ("take the parts from the last axis.", "最後の軸から実部と虚部を取り出してください。")
        raise refusal(op, "return_complex", True, rule, fix)


def _frames(op: str, like: Any, n_fft: int, hop_length: int | None, win_length: int | None, window: Any) -> Frames:
    """The arguments, checked; the window as long as a piece."""
    _check(op, "n_fft", n_fft, _whole(n_fft), _COUNT)
    hop = n_fft // 4 if hop_length is None else hop_length
    width = n_fft if win_length is None else win_length
    _check(op, "hop_length", hop, _whole(hop), _COUNT)
    _check(
        op, "win_length", width, _whole(width) and width <= n_fft, (f"1 to n_fft = {n_fft}", f"1 以上、n_fft = {n_fft} 以下")
    )
    left = (n_fft - width) // 2
    if window is None:
        if width == n_fft:
            return Frames(n_fft, hop, None)
        window = placed(np.ones(width, array_of(op, like).dtype), like)
    if tuple(array_of(op, window, "window").shape) != (width,):
        rule = (f"window has win_length = {width} elements", f"window の要素数は win_length = {width}")
        fix = ("make the window of that length.", "その長さの窓を作ってください。")
        raise error("TG-S002", op=op, rule=rule, shapes=tuple(window.shape), fix=fix)
    return Frames(n_fft, hop, constant_pad_nd(window, (left, n_fft - width - left)))


def _whole(value: Any) -> bool:
    return isinstance(value, int) and value >= 1


def _check(op: str, argument: str, value: Any, fine: bool, rule: Phrase) -> None:
    if not fine:
        fix = ("pass such a number.", "規則に合う数を渡してください。")
        raise refusal(op, argument, value, rule, fix)


def _mirrored(spectrum: Any, n_fft: int) -> Any:
    """(B, M, n_fft // 2 + 1, 2) with the other frequencies behind: X_(n-k) is the conjugate of X_k."""
    mirror = flip(spectrum[:, :, 1 : (n_fft + 1) // 2], 2)
    return cat([spectrum, mirror * placed(np.array([1, -1], array_of("stft", spectrum).dtype), spectrum)], 2)


def _inverse(spectrum: Any, n_fft: int) -> Any:
    """Pieces (B, M, n_fft) of one-sided spectra: each inner frequency counts twice, for its mirror image."""
    share = np.full((n_fft // 2 + 1, 1), 2 / n_fft)
    share[0] = 1 / n_fft
    if n_fft % 2 == 0:
        share[-1] = 1 / n_fft
    return dft_transpose(spectrum * placed(share.astype(array_of("istft", spectrum).dtype), spectrum), n_fft)


def _added_up(pieces: Any, frames: Frames, start: int, center: bool, length: int | None) -> Any:
    n_fft, hop, window = frames
    batch, count = pieces.shape[:2]
    whole = n_fft + hop * (count - 1)
    if window is None:
        window = placed(np.ones(n_fft, array_of("istft", pieces).dtype), pieces)
    signal = _add_strided(pieces * window, (batch, whole), (whole, hop, 1), 0)
    envelope = _add_strided(expand(window * window, count, n_fft), (whole,), (hop, 1), 0)
    stop = whole - start if length is None else start + length
    kept = slice(start, min(stop, whole))
    envelope = envelope[kept]
    if kept.stop <= start or float(array_of("istft", envelope).min()) < _LEAST_ENVELOPE:
        rule = ("windows that cover every sample", "すべてのサンプルを覆う窓")
        fix = ("use a smaller hop_length, or center=True.", "hop_length を小さくするか、center=True としてください。")
        raise refusal("istft", "(window, hop_length, center)", (n_fft, hop, center), rule, fix)
    made = signal[:, kept] / envelope
    return constant_pad_nd(made, (0, stop - whole)) if stop > whole else made
