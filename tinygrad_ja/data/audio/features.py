"""What speech models read: spectrograms, mel scales, decibels and cepstral coefficients, with torchaudio's names, formulas and defaults."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...core.tensor import Tensor
from ...errors import Phrase, error, refusal
from ...ops.exponential import log, log10
from ...ops.extremum import amax
from ...ops.linalg import matmul
from ...ops.norms import vector_norm
from ...ops.padding import pad as padded
from ...ops.piecewise import clamp, maximum
from ...ops.reduce import sum as total
from ...ops.shape import reshape, transpose
from ..arrays import array_of, need_float, placed
from .spectrum import stft
from .windows import hann_window


def spectrogram(
    waveform: Any,
    n_fft: int = 400,
    win_length: int | None = None,
    hop_length: int | None = None,
    pad: int = 0,
    window: Any = None,
    power: float | None = 2.0,
    normalized: bool = False,
    center: bool = True,
    pad_mode: str = "reflect",
    onesided: bool = True,
) -> Any:
    """How strong each frequency is at each time: |stft|^power.

    waveform: float (..., T). win_length: default n_fft; hop_length: default win_length // 2; window: (win_length,), default a Hann window;
    pad: zeros on both sides. power: 2 for energy, 1 for magnitude (whose gradient at 0 is 0), None for ``stft``'s own (real, imaginary).
    normalized: divided by the norm of the window. Result: (..., n_fft // 2 + 1, pieces), with a last axis of 2 for power None.

    >>> import tinygrad_ja as tg
    >>> spectrogram(tg.ones(2, 800), n_fft=100).shape
    (2, 51, 17)
    """
    array = need_float("spectrogram", waveform, "waveform")
    if array.ndim < 1:
        rule, fix = ("(..., T)", "(..., T)"), ("pass samples along the last axis.", "最後の軸にサンプルを並べてください。")
        raise error("TG-S002", op="spectrogram", rule=rule, shapes=(), fix=fix)
    width = n_fft if win_length is None else win_length
    hop = width // 2 if hop_length is None else hop_length
    if window is None:
        window = placed(hann_window(width, dtype=array.dtype, device="cpu").numpy(), waveform)
    signal = padded(waveform, (pad, pad)) if pad else waveform
    flat = reshape(signal, (math.prod(signal.shape[:-1]), signal.shape[-1]))
    made = stft(flat, n_fft, hop, width, window, center, pad_mode, False, onesided)
    made = reshape(made, (*array.shape[:-1], *made.shape[1:]))
    if normalized:
        made = made / vector_norm(window)
    if power is None:
        return made
    if power == 1:
        return vector_norm(made, 2, -1)
    energy = total(made * made, -1)
    return energy if power == 2 else energy ** (power / 2)


# ---- the mel scale -------------------------------------------------------------------------------


def hz_to_mel(hertz: Any, mel_scale: str = "htk") -> Any:
    """Pitch as it is heard: "htk" 2595 log10(1 + f / 700) (O'Shaughnessy 1987), "slaney" linear to 1000 Hz and logarithmic above.

    hertz: a number or a NumPy array; the result is float64.

    >>> round(float(hz_to_mel(1000.0)), 1), float(hz_to_mel(1000.0, "slaney"))
    (1000.0, 15.0)
    """
    _check_scale("hz_to_mel", mel_scale)
    hertz = np.asarray(hertz, np.float64)
    if mel_scale == "htk":
        return 2595.0 * np.log10(1.0 + hertz / 700.0)
    return np.where(hertz < 1000.0, hertz * 3 / 200, 15.0 + 27 / math.log(6.4) * np.log(np.maximum(hertz, 1000.0) / 1000.0))


def mel_to_hz(mels: Any, mel_scale: str = "htk") -> Any:
    """The inverse of ``hz_to_mel``.

    >>> float(mel_to_hz(15.0, "slaney"))
    1000.0
    """
    _check_scale("mel_to_hz", mel_scale)
    mels = np.asarray(mels, np.float64)
    if mel_scale == "htk":
        return 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    return np.where(mels < 15.0, mels * 200 / 3, 1000.0 * np.exp(math.log(6.4) / 27 * (np.maximum(mels, 15.0) - 15.0)))


def melscale_fbanks(
    n_freqs: int, f_min: float, f_max: float, n_mels: int, sample_rate: int, norm: str | None = None, mel_scale: str = "htk"
) -> Tensor:
    """Triangles that sum the frequencies of a spectrogram to mel bands: float32 (n_freqs, n_mels).

    Band m rises from the centre of band m - 1 to its own and falls to that of band m + 1; centres are evenly spaced in mels from ``f_min``
    to ``f_max`` Hz. n_freqs: n_fft // 2 + 1. norm: "slaney" gives each triangle the area 1 (in Hz). Raises ArgumentError.

    >>> melscale_fbanks(5, 0.0, 4000.0, 2, 8000).shape
    (5, 2)
    """
    _check_scale("melscale_fbanks", mel_scale)
    if norm not in (None, "slaney"):
        raise _refusal("melscale_fbanks", "norm", norm, ("None or 'slaney'", "None か 'slaney'"))
    if min(n_freqs, n_mels) < 1 or not 0 <= f_min < f_max:
        value = (n_freqs, n_mels, f_min, f_max)
        rule = ("n_freqs and n_mels >= 1, 0 <= f_min < f_max", "n_freqs と n_mels は 1 以上、0 <= f_min < f_max")
        raise _refusal("melscale_fbanks", "(n_freqs, n_mels, f_min, f_max)", value, rule)
    frequencies = np.linspace(0, sample_rate // 2, n_freqs)
    low, high = hz_to_mel(f_min, mel_scale), hz_to_mel(f_max, mel_scale)
    corners = mel_to_hz(np.linspace(low, high, n_mels + 2), mel_scale)
    width = np.diff(corners)
    away = corners - frequencies[:, None]
    rising = -away[:, :-2] / width[:-1]
    falling = away[:, 2:] / width[1:]
    bands = np.maximum(np.minimum(rising, falling), 0)
    if norm == "slaney":
        bands *= 2.0 / (corners[2:] - corners[:-2])
    return Tensor(bands.astype(np.float32))


def mel_spectrogram(
    waveform: Any,
    sample_rate: int = 16000,
    n_mels: int = 128,
    f_min: float = 0.0,
    f_max: float | None = None,
    n_fft: int = 400,
    norm: str | None = None,
    mel_scale: str = "htk",
    **options: Any,
) -> Any:
    """A spectrogram whose frequencies are summed to mel bands: (..., T) -> (..., n_mels, pieces).

    f_max: default half of the sample rate. options: those of ``spectrogram``. norm, mel_scale: those of ``melscale_fbanks``.

    >>> import tinygrad_ja as tg
    >>> mel_spectrogram(tg.ones(1600), n_mels=40).shape
    (40, 9)
    """
    if options.get("power", 2.0) is None:
        raise _refusal("mel_spectrogram", "power", None, ("a number", "数"))
    spectra = spectrogram(waveform, n_fft, **options)
    top = sample_rate // 2 if f_max is None else f_max
    bands = melscale_fbanks(n_fft // 2 + 1, f_min, float(top), n_mels, sample_rate, norm, mel_scale).numpy()
    weights = placed(np.ascontiguousarray(bands.T).astype(array_of("mel_spectrogram", spectra).dtype), spectra)
    return matmul(weights, spectra)


# ---- decibels and cepstra ------------------------------------------------------------------------


def amplitude_to_DB(
    x: Any, multiplier: float = 10.0, amin: float = 1e-10, db_multiplier: float = 0.0, top_db: float | None = None
) -> Any:
    """multiplier · (log10 max(x, amin) - db_multiplier): decibels, with 10 for energies and 20 for magnitudes.

    x: float (..., frequencies, pieces). db_multiplier: log10 of the reference. top_db: what lies further below the loudest place is raised
    to that distance; the loudest place of each spectrogram (..., C, F, M), over its channels where it has any.

    >>> import tinygrad_ja as tg
    >>> amplitude_to_DB(tg.tensor([[1.0, 0.01, 0.0]]), top_db=80.0)
    tensor([[  0., -20., -80.]])
    """
    need_float("amplitude_to_DB", x, "x")
    made = log10(clamp(x, amin)) * multiplier - multiplier * db_multiplier
    if top_db is None:
        return made
    axes = tuple(range(-min(made.ndim, 3), 0))
    return maximum(made, amax(made, axes, True) - top_db)


def create_dct(n_mfcc: int, n_mels: int, norm: str | None = "ortho") -> Tensor:
    """The matrix of the discrete cosine transform (type II), float32 (n_mels, n_mfcc): 2 cos(π/n_mels · (j + 1/2) · k), with norm "ortho"
    scaled to columns of length 1.

    >>> [round(x, 4) for x in create_dct(2, 2).flatten().tolist()]
    [0.7071, 0.7071, 0.7071, -0.7071]
    """
    if norm not in (None, "ortho"):
        raise _refusal("create_dct", "norm", norm, ("None or 'ortho'", "None か 'ortho'"))
    made = np.cos(np.pi / n_mels * (np.arange(n_mels)[:, None] + 0.5) * np.arange(n_mfcc))
    if norm is None:
        return Tensor((2 * made).astype(np.float32))
    made[:, 0] *= math.sqrt(0.5)
    return Tensor((made * math.sqrt(2 / n_mels)).astype(np.float32))


def mfcc(
    waveform: Any, sample_rate: int = 16000, n_mfcc: int = 40, log_mels: bool = False, n_mels: int = 128, **options: Any
) -> Any:
    """Mel-frequency cepstral coefficients (Davis and Mermelstein 1980): the cosine transform of log mel bands, (..., T) -> (..., n_mfcc, M).

    log_mels: log(mel + 1e-6) instead of decibels down to 80 below the loudest place. n_mfcc: at most n_mels. options: those of
    ``mel_spectrogram`` and ``spectrogram``.

    >>> import tinygrad_ja as tg
    >>> mfcc(tg.ones(1600), n_mfcc=13, n_mels=40).shape
    (13, 9)
    """
    if not 1 <= n_mfcc <= n_mels:
        raise _refusal("mfcc", "n_mfcc", n_mfcc, (f"1 to n_mels = {n_mels}", f"1 以上、n_mels = {n_mels} 以下"))
    mels = mel_spectrogram(waveform, sample_rate, n_mels, **options)
    mels = log(mels + 1e-6) if log_mels else amplitude_to_DB(mels, top_db=80.0)
    matrix = placed(create_dct(n_mfcc, n_mels).numpy().astype(array_of("mfcc", mels).dtype), mels)
    return transpose(matmul(transpose(mels, -1, -2), matrix), -1, -2)


def _check_scale(op: str, mel_scale: str) -> None:
    if mel_scale not in ("htk", "slaney"):
        raise _refusal(op, "mel_scale", mel_scale, ("'htk' or 'slaney'", "'htk' か 'slaney'"))


def _refusal(op: str, argument: str, value: Any, rule: Phrase) -> Exception:
    fix = ("pass such a value.", "規則に合う値を渡してください。")
    return refusal(op, argument, value, rule, fix)
