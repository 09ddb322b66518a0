"""Sound: spectra, mel bands, cepstra, µ-law and sampling rates against their formulas, on arrays, Tensors and the stand-in for CuPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_ja as tg
from tinygrad_ja.data import audio
from tinygrad_ja.errors import ArgumentError, DtypeError, ShapeError
from tinygrad_ja.ops.fourier import dft, dft_transpose
from tinygrad_ja.testing import gradcheck, strict


def noise(*shape: int, dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


# ---- transform


@pytest.mark.parametrize("n", [1, 2, 3, 8, 15])
def test_the_transform_is_its_sum(n):
    x, j = noise(2, n), np.arange(n)
    angle = 2 * np.pi * np.outer(np.arange(n // 2 + 1), j) / n
    made = dft(x)
    np.testing.assert_allclose(made[..., 0], x @ np.cos(angle).T, atol=1e-12)
    np.testing.assert_allclose(made[..., 1], -x @ np.sin(angle).T, atol=1e-12)
    g = noise(2, n // 2 + 1, 2)
    np.testing.assert_allclose(dft_transpose(g, n), g[..., 0] @ np.cos(angle) - g[..., 1] @ np.sin(angle), atol=1e-12)


def test_a_spectrum_is_the_sum_over_each_piece():
    x, window, n, hop = noise(50), noise(8), 12, 5
    made = audio.stft(x, n, hop, 8, window, center=False)
    assert made.shape == (7, 8, 2)  # 12 // 2 + 1 frequencies, (50 - 12) // 5 + 1 pieces
    full = np.pad(window, (2, 2))
    for m in range(8):
        expected = np.fft.fft(x[m * hop : m * hop + n] * full)[:7]
        np.testing.assert_allclose(made[:, m, 0] + 1j * made[:, m, 1], expected, atol=1e-12)


@given(st.integers(0, 10_000), st.integers(2, 20), st.data())
def test_the_inverse_gives_the_signal_back(seed, n_fft, data):
    rng = np.random.default_rng(seed)
    hop = data.draw(st.integers(1, n_fft))
    length = data.draw(st.integers(n_fft, 80))
    options = {
        "window": rng.uniform(0.5, 1.5, n_fft),
        "center": hop <= n_fft // 2,
        "normalized": data.draw(st.booleans()),
        "onesided": data.draw(st.booleans()),
    }
    x = rng.normal(size=(2, length))
    spectrum = audio.stft(x, n_fft, hop, **options)
    back = audio.istft(spectrum, n_fft, hop, **options)
    covered = min(back.shape[1], length)
    assert covered > 0
    np.testing.assert_allclose(back[:, :covered], x[:, :covered], atol=1e-9)


def test_a_signal_longer_than_the_pieces_ends_in_zeros():
    x = noise(23)
    back = audio.istft(audio.stft(x, 8, 4), 8, 4, length=40)
    np.testing.assert_allclose(back[:20], x[:20], atol=1e-12)
    assert back.shape == (40,) and (back[28:] == 0).all()


def test_gradients_of_spectra_and_signals():
    x = tg.tensor(noise(2, 20), requires_grad=True)
    window = tg.tensor(noise(6) + 2, requires_grad=True)
    assert gradcheck(lambda x, w: audio.stft(x, 8, 3, 6, w, normalized=True), (x, window))
    spectrum = tg.tensor(noise(2, 5, 7, 2), requires_grad=True)
    assert gradcheck(lambda s: audio.istft(s, 8, 3, window=tg.tensor(np.hanning(10)[1:-1])), (spectrum,))


def test_loudness_has_a_finite_gradient_at_silence():
    for power in (1.0, 2.0):
        x = tg.zeros(64, requires_grad=True)
        audio.spectrogram(x, 16, power=power).sum().backward()
        assert (x.grad == 0).all()


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: audio.stft(noise(10), 8, return_complex=True), ArgumentError),
        (lambda: audio.stft(noise(10), 8, 0), ArgumentError),
        (lambda: audio.stft(noise(10), 0), ArgumentError),
        (lambda: audio.stft(noise(10), 8.0), ArgumentError),
        (lambda: audio.istft(noise(5, 4, 2), "8"), ArgumentError),
        (lambda: audio.istft(noise(5, 4, 2), 8, length=9.5), ArgumentError),
        (lambda: audio.stft(noise(10), 8, win_length=9), ArgumentError),
        (lambda: audio.stft(noise(10), 8, window=noise(7)), ShapeError),
        (lambda: audio.stft(noise(5), 8, center=False), ShapeError),
        (lambda: audio.stft(noise(3), 8), ArgumentError),  # too short to be reflected
        (lambda: audio.stft(noise(1, 2, 10), 8), ShapeError),
        (lambda: audio.stft(np.arange(10), 8), DtypeError),
        (lambda: audio.stft([1.0, 2.0], 2), DtypeError),
        (lambda: audio.istft(noise(4, 4, 2), 8), ShapeError),
        (lambda: audio.istft(noise(5, 4, 2), 8, 2, window=np.zeros(8)), ArgumentError),
        (lambda: audio.istft(noise(5, 4, 2), 8, 9), ArgumentError),
        (lambda: audio.istft(noise(5, 4, 2), 8, length=0), ArgumentError),
        (lambda: audio.hann_window(-1), ArgumentError),
        (lambda: audio.mu_law_encoding(np.arange(3)), DtypeError),
        (lambda: audio.mu_law_encoding(noise(3), 1), ArgumentError),
        (lambda: audio.melscale_fbanks(5, 10.0, 5.0, 3, 8000), ArgumentError),
        (lambda: audio.melscale_fbanks(5, 0.0, 5.0, 3, 8000, mel_scale="bark"), ArgumentError),
        (lambda: audio.mfcc(noise(800), n_mfcc=50, n_mels=40), ArgumentError),
        (lambda: audio.create_dct(2, 3, "slaney"), ArgumentError),
        (lambda: audio.mel_spectrogram(noise(800), power=None), ArgumentError),
        (lambda: audio.resample(noise(10), 0, 5), ArgumentError),
        (lambda: audio.resample(noise(10), 8.5, 5), ArgumentError),
        (lambda: audio.resample(np.arange(10), 8, 5), DtypeError),
    ],
)
def test_wrong_arguments_explain_themselves(call, kind):
    with pytest.raises(kind, match="Fix:"):
        call()


# ---- windows and features


def test_periodic_windows_add_up_to_a_constant():
    for window, level in ((audio.hann_window, 2.0), (audio.hamming_window, 2.16), (audio.blackman_window, 1.68)):
        w = window(16).numpy()
        np.testing.assert_allclose(w.reshape(4, 4).sum(0), np.full(4, level), atol=1e-6)
        np.testing.assert_allclose(window(9, periodic=False).numpy(), window(9, periodic=False).numpy()[::-1], atol=1e-6)


def test_the_energy_of_a_spectrogram_is_parsevals():
    x = noise(4, 96)
    made = audio.spectrogram(x, 16, 16, 16, window=np.ones(16), center=False)
    twice = np.full(9, 2.0)
    twice[[0, 8]] = 1.0  # the frequencies between the ends stand for their mirror images too
    energy = (made * twice[:, None]).sum(1) / 16
    np.testing.assert_allclose(energy, (x.reshape(4, 6, 16) ** 2).sum(-1), rtol=1e-12)


def test_powers_of_a_spectrogram_are_powers_of_its_magnitude():
    x = noise(2, 3, 100)
    parts = audio.spectrogram(x, 20, power=None)
    magnitude = np.hypot(parts[..., 0], parts[..., 1])
    assert magnitude.shape == (2, 3, 11, 11)
    for power in (1, 2, 3):
        np.testing.assert_allclose(audio.spectrogram(x, 20, power=power), magnitude**power, rtol=1e-10)
    scaled = audio.spectrogram(x, 20, power=1, normalized=True)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(20) / 20)
    np.testing.assert_allclose(scaled, magnitude / np.sqrt((window**2).sum()), rtol=1e-6)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_mels_and_hertz_are_inverse(scale):
    hertz = np.linspace(0, 20000, 101)
    np.testing.assert_allclose(audio.mel_to_hz(audio.hz_to_mel(hertz, scale), scale), hertz, atol=1e-8)
    assert (np.diff(audio.hz_to_mel(hertz, scale)) > 0).all()


def test_mel_bands_are_triangles_between_even_mels():
    bands = audio.melscale_fbanks(2001, 0.0, 2000.0, 5, 4000).numpy()
    corners = 700 * (10 ** (np.linspace(0, 2595 * math.log10(1 + 2000 / 700), 7) / 2595) - 1)
    for m in range(5):
        expected = np.interp(np.arange(2001.0), corners[m : m + 3], [0, 1, 0], left=0, right=0)
        np.testing.assert_allclose(bands[:, m], expected, atol=1e-5)
    flat = audio.melscale_fbanks(2001, 0.0, 2000.0, 5, 4000, norm="slaney").numpy()
    np.testing.assert_allclose(flat.sum(0), np.ones(5), atol=1e-3)  # the area, with one bin a hertz


def test_decibels():
    x = np.array([[[1.0, 1e-3, 1e-12]], [[1e-2, 1.0, 1.0]]])
    np.testing.assert_allclose(audio.amplitude_to_DB(x), [[[0, -30, -100]], [[-20, 0, 0]]])
    np.testing.assert_allclose(audio.amplitude_to_DB(x, 20.0, db_multiplier=1.0)[0, 0, 0], -20)
    np.testing.assert_allclose(audio.amplitude_to_DB(x, top_db=25.0), [[[0, -25, -25]], [[-20, 0, 0]]])
    pictures = np.stack([x, x * 10])[:, :1]  # (2, 1, 1, 3): the loudest place of each counts
    np.testing.assert_allclose(audio.amplitude_to_DB(pictures, top_db=25.0)[1], [[[10, -15, -15]]])


def test_the_cosine_transform_is_orthogonal():
    matrix = audio.create_dct(8, 8).numpy()
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(8), atol=1e-6)
    plain = audio.create_dct(3, 4, None).numpy()
    j, k = np.meshgrid(np.arange(4), np.arange(3), indexing="ij")
    np.testing.assert_allclose(plain, 2 * np.cos(np.pi / 4 * (j + 0.5) * k), atol=1e-6)


def test_cepstra_are_the_transform_of_log_bands():
    x = noise(2, 900)
    bands = audio.mel_spectrogram(x, 8000, 20, n_fft=128)
    expected = np.einsum("jk,njm->nkm", audio.create_dct(7, 20).numpy(), np.log(bands + 1e-6))
    np.testing.assert_allclose(audio.mfcc(x, 8000, 7, True, 20, n_fft=128), expected, atol=1e-5)


# ---- µ-law


def test_steps_follow_the_formula():
    x = np.linspace(-1, 1, 999)
    folded = np.sign(x) * np.log1p(255 * np.abs(x)) / np.log(256)
    expected = np.floor((folded + 1) / 2 * 255 + 0.5)
    made = audio.mu_law_encoding(x)
    assert made.dtype == np.int64 and (made == expected).all()
    assert audio.mu_law_encoding(np.array([-7.0, 7.0])).tolist() == [0, 255]


@given(st.integers(2, 1024))
def test_decoding_moves_a_sample_by_half_a_step_at_most(channels):
    steps = np.arange(channels)
    values = audio.mu_law_decoding(steps.astype(np.float64), channels)
    assert abs(values[0] + 1) < 1e-12 and abs(values[-1] - 1) < 1e-12 and (np.diff(values) > 0).all()
    assert (audio.mu_law_encoding(values, channels) == steps).all()
    x, mu = np.linspace(-1, 1, 301), channels - 1
    back = audio.mu_law_decoding(audio.mu_law_encoding(x, channels).astype(np.float64), channels)
    folded, folded_back = (np.sign(samples) * np.log1p(mu * np.abs(samples)) / np.log1p(mu) for samples in (x, back))
    assert (np.abs(folded_back - folded) <= 1 / mu + 1e-9).all()  # steps are 2 / µ apart in the logarithm


# ---- sampling rates


@pytest.mark.parametrize(("old", "new"), [(8000, 16000), (16000, 8000), (44100, 16000), (3, 7)])
def test_a_tone_keeps_its_pitch(old, new):
    frequency = 0.05 * min(old, new)
    x = np.sin(2 * np.pi * frequency * np.arange(3000) / old)
    y = audio.resample(x, old, new)
    assert y.shape == (math.ceil(3000 * new / old),)
    inner = slice(len(y) // 4, -len(y) // 4)
    expected = np.sin(2 * np.pi * frequency * np.arange(len(y)) / new)
    np.testing.assert_allclose(y[inner], expected[inner], atol=2e-3)


def test_what_is_above_half_the_rate_is_gone():
    x = np.sin(2 * np.pi * 3500 * np.arange(8000) / 8000)
    y = audio.resample(x, 8000, 4000, lowpass_filter_width=32)
    assert np.abs(y[100:-100]).max() < 1e-3


def test_the_same_rate_is_the_same_sound_and_axes_stay():
    x = noise(2, 3, 40)
    assert audio.resample(x, 16000, 16000) is x
    assert audio.resample(x, 2, 3).shape == (2, 3, 60)
    assert audio.resample(x[:, :, :0], 2, 3).shape == (2, 3, 0) and audio.resample(x[:0], 2, 3).shape == (0, 3, 60)
    assert gradcheck(lambda x: audio.resample(x, 3, 2), (tg.tensor(noise(2, 12), requires_grad=True),))


# ---- devices and dtypes

CALLS = {
    "stft": lambda x: audio.stft(x, 16, window=None, win_length=12, onesided=False),
    "istft": lambda x: audio.istft(audio.stft(x, 16, onesided=False), 16, onesided=False, length=50),
    "spectrogram": lambda x: audio.spectrogram(x, 16, pad=2, power=1.0, normalized=True),
    "mel_spectrogram": lambda x: audio.mel_spectrogram(x, 8000, 5, n_fft=32),
    "mfcc": lambda x: audio.mfcc(x, 8000, 4, n_mels=5, n_fft=32),
    "mu_law": lambda x: audio.mu_law_decoding(audio.mu_law_encoding(x)),
    "resample": lambda x: audio.resample(x, 3, 2),
}


@pytest.mark.parametrize("device", ["strict", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("name", CALLS)
def test_arrays_and_tensors_on_every_device_give_the_same(name, device):
    x = noise(2, 64, dtype=np.float32) / 4
    on_array = CALLS[name](x)
    assert type(on_array) is np.ndarray and on_array.dtype == np.float32
    on_tensor = CALLS[name](tg.tensor(x))
    with strict.watch() as events:
        on_device = CALLS[name](tg.tensor(x, device=device))
    assert on_device.device.type == device
    waits = [event.what for event in events if event.kind == "d2h"]
    assert device != "strict" or waits == (["float()"] if name == "istft" else [])  # whether the windows cover the signal
    np.testing.assert_array_equal(on_tensor.numpy(), on_array)
    exact = device == "strict"
    np.testing.assert_allclose(on_device.cpu().numpy(), on_array, rtol=0 if exact else 1e-3, atol=0 if exact else 1e-3)


@pytest.mark.parametrize("name", ["spectrogram", "mel_spectrogram", "mfcc"])
def test_where_new_tensors_are_made_does_not_matter(name):
    x = noise(2, 64, dtype=np.float32) / 4
    expected = CALLS[name](x)
    with tg.device("strict"):
        on_array, on_device = CALLS[name](x), CALLS[name](tg.tensor(x))
    np.testing.assert_array_equal(on_array, expected)
    np.testing.assert_array_equal(on_device.cpu().numpy(), expected)
