"""Sound: windows, short-time spectra and back, mel bands and cepstra, µ-law steps, other sampling rates. Differentiable, arrays or Tensors.

Names, arguments and values are those of ``torch.stft``, ``torch.istft`` and torchaudio's functions.
"""

from .companding import mu_law_decoding, mu_law_encoding
from .features import (
    amplitude_to_DB,
    create_dct,
    hz_to_mel,
    mel_spectrogram,
    mel_to_hz,
    melscale_fbanks,
    mfcc,
    spectrogram,
)
from .resampling import resample
from .spectrum import istft, stft
from .windows import blackman_window, hamming_window, hann_window

__all__ = [
    "amplitude_to_DB",
    "blackman_window",
    "create_dct",
    "hamming_window",
    "hann_window",
    "hz_to_mel",
    "istft",
    "mel_spectrogram",
    "mel_to_hz",
    "melscale_fbanks",
    "mfcc",
    "mu_law_decoding",
    "mu_law_encoding",
    "resample",
    "spectrogram",
    "stft",
]
