"""Sound beside PyTorch: ``torch.stft``, ``torch.istft``, windows, and the features made of them as torchaudio writes them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from parity.beside_torch import OURS, compare, random

from tinygrad_ja.data import audio


def stft(side, x, *args, **options):
    if side is OURS:
        return audio.stft(x, *args, **options)
    return torch.view_as_real(torch.stft(x, *args, return_complex=True, **options))


def istft(side, x, *args, **options):
    return audio.istft(x, *args, **options) if side is OURS else torch.istft(torch.view_as_complex(x), *args, **options)


OPTIONS = [
    {},
    {"hop_length": 3},
    {"hop_length": 5, "win_length": 9},
    {"center": False},
    {"normalized": True, "onesided": False},
    {"pad_mode": "constant", "hop_length": 7},
    {"pad_mode": "replicate", "win_length": 10, "onesided": True},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("n_fft", [1, 2, 10, 16, 17])
@pytest.mark.parametrize("shape", [(60,), (2, 47)])
def test_stft(shape, n_fft, options):
    options = {**options, "win_length": min(options.get("win_length", n_fft), n_fft)}
    options["hop_length"] = options.get("hop_length", max(n_fft // 4, 1))
    window = random(options["win_length"], seed=3)
    compare(lambda s, x, w: stft(s, x, n_fft, window=w, **options), random(*shape), window, rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings("ignore:A window was not provided")
def test_stft_without_a_window():
    compare(lambda s, x: stft(s, x, 12), random(2, 40), rtol=1e-10, atol=1e-10)
    compare(lambda s, x: stft(s, x, 12, win_length=5), random(40), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("onesided", [True, False])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("length", [None, 20, 33, 70])
@pytest.mark.parametrize("n_fft", [9, 12])
@pytest.mark.filterwarnings("ignore:The length of signal is shorter")
def test_istft_of_any_spectrum(n_fft, length, center, onesided):
    frequencies = n_fft // 2 + 1 if onesided else n_fft
    window = (
        np.abs(random(8 if center and length != 70 else n_fft, seed=1)) + 0.5
    )  # no sample that is kept may be without a window
    options = {"win_length": len(window), "center": center, "length": length, "normalized": True, "onesided": onesided}
    call = lambda s, x, w: istft(s, x, n_fft, 3, window=w, **options)  # noqa: E731
    for shape in ((frequencies, 14, 2), (2, frequencies, 14, 2)):
        compare(call, random(*shape), window, rtol=1e-9, atol=1e-9)


def test_float32_is_as_exact_as_theirs():
    x = random(4000, dtype=np.float32)
    exact = torch.view_as_real(torch.stft(torch.tensor(x, dtype=torch.float64), 400, return_complex=True)).numpy()
    theirs = torch.view_as_real(torch.stft(torch.tensor(x), 400, return_complex=True)).numpy()
    ours = audio.stft(x, 400)
    assert ours.dtype == np.float32
    assert np.abs(ours - exact).max() <= 2 * np.abs(theirs - exact).max()


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("name", ["hann_window", "hamming_window", "blackman_window"])
def test_windows(name, periodic):
    for length in (0, 1, 2, 7, 400):
        ours, theirs = getattr(audio, name)(length, periodic).numpy(), getattr(torch, name)(length, periodic).numpy()
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


# ---- torchaudio's formulas, in PyTorch


def sinc_resample(x, orig, new, width=6, rolloff=0.99):
    """``torchaudio.functional.resample`` with "sinc_interp_hann"."""
    common = math.gcd(orig, new)
    orig, new = orig // common, new // common
    base = min(orig, new) * rolloff
    reach = math.ceil(width * orig / base)
    index = torch.arange(-reach, reach + orig, dtype=torch.float64)[None, None] / orig
    t = ((torch.arange(0, -new, -1, dtype=torch.float64)[:, None, None] / new + index) * base).clamp(-width, width)
    window = torch.cos(t * math.pi / width / 2) ** 2
    kernels = torch.where(t == 0, torch.ones_like(t), torch.sin(t * math.pi) / (t * math.pi)) * window * base / orig
    padded = torch.nn.functional.pad(x, (reach, reach + orig))
    made = torch.nn.functional.conv1d(padded[:, None], kernels, stride=orig).transpose(1, 2).reshape(x.shape[0], -1)
    return made[..., : math.ceil(new * x.shape[-1] / orig)]


@pytest.mark.parametrize(("orig", "new"), [(1, 2), (3, 1), (441, 160), (160, 441), (4, 6)])
def test_resample(orig, new):
    def call(side, x):
        return audio.resample(x, orig, new) if side is OURS else sinc_resample(x, orig, new)

    compare(call, random(2, 500), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("power", [1.0, 2.0, 2.5])
def test_spectrogram(power):
    def call(side, x):
        if side is OURS:
            return audio.spectrogram(x, 30, 24, 10, 4, np.ones(24) if power == 1 else None, power, True)
        window = torch.ones(24, dtype=x.dtype) if power == 1 else torch.hann_window(24, dtype=x.dtype)
        x = torch.nn.functional.pad(x, (4, 4))
        made = torch.stft(x, 30, 10, 24, window, return_complex=True)
        return (made / window.pow(2.0).sum().sqrt()).abs().pow(power)

    compare(call, random(2, 90), rtol=1e-10, atol=1e-10)


def test_mfcc():
    """The chain of torchaudio.transforms.MFCC, with its own formulas for bands, decibels and cosines."""
    x, rate, n_fft, n_mels, n_mfcc = random(2, 4000), 8000, 256, 26, 13

    def theirs(x):
        spectrum = torch.stft(x, n_fft, 128, n_fft, torch.hann_window(n_fft, dtype=x.dtype), return_complex=True).abs().pow(2.0)
        frequencies = torch.linspace(0, rate // 2, n_fft // 2 + 1, dtype=torch.float64)
        top = 2595.0 * math.log10(1.0 + rate / 2 / 700.0)
        points = 700.0 * (10.0 ** (torch.linspace(0, top, n_mels + 2, dtype=torch.float64) / 2595.0) - 1.0)
        difference = points[1:] - points[:-1]
        slopes = points[None] - frequencies[:, None]
        bands = torch.clamp(torch.minimum(-slopes[:, :-2] / difference[:-1], slopes[:, 2:] / difference[1:]), min=0)
        mels = torch.matmul(spectrum.transpose(-1, -2), bands).transpose(-1, -2)
        decibels = 10 * torch.log10(torch.clamp(mels, min=1e-10))
        decibels = torch.maximum(decibels, decibels.amax() - 80)
        n = torch.arange(n_mels, dtype=torch.float64)
        matrix = torch.cos(math.pi / n_mels * (n + 0.5) * torch.arange(n_mfcc, dtype=torch.float64)[:, None])
        matrix[0] *= 1 / math.sqrt(2)
        return torch.matmul(decibels.transpose(-1, -2), (matrix * math.sqrt(2 / n_mels)).t()).transpose(-1, -2)

    def call(side, x):
        return audio.mfcc(x, rate, n_mfcc, n_mels=n_mels, n_fft=n_fft) if side is OURS else theirs(x)

    compare(call, x, rtol=1e-4, atol=1e-4, gradients=False)
