"""µ-law: samples of sound in 256 steps that are fine where the sound is soft (ITU-T G.711; WaveNet, van den Oord et al. 2016, eq. 5)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...errors import refusal
from ...ops.exponential import expm1, log1p
from ...ops.piecewise import clamp, sign
from ..arrays import array_of, converted, need_float


def mu_law_encoding(x: Any, quantization_channels: int = 256) -> Any:
    """Samples in [-1, 1] as whole numbers 0 to ``quantization_channels`` - 1, as ``torchaudio.functional.mu_law_encoding``.

    f(x) = sign(x) log(1 + µ|x|) / log(1 + µ) with µ = quantization_channels - 1, then (f + 1) / 2 · µ rounded.
    x: float array or Tensor of any shape; beyond [-1, 1] it is cut off. Result: int64 of its shape. Raises DtypeError for integers (divide
    16-bit samples by 32768 first), ArgumentError for fewer than 2 channels.

    >>> import tinygrad_ja as tg
    >>> mu_law_encoding(tg.tensor([-1.0, -0.01, 0.0, 0.01, 1.0]))
    tensor([  0,  98, 128, 157, 255])
    """
    mu = _mu("mu_law_encoding", quantization_channels)
    need_float("mu_law_encoding", x, "x")
    x = clamp(x, -1.0, 1.0)
    folded = sign(x) * log1p(abs(x) * mu) / math.log1p(mu)
    return converted((folded + 1) / 2 * mu + 0.5, np.dtype(np.int64))


def mu_law_decoding(x_mu: Any, quantization_channels: int = 256) -> Any:
    """The inverse: steps 0 to ``quantization_channels`` - 1 as float32 samples in [-1, 1].

    x_mu: integer (or float) array or Tensor. Encoding and decoding moves a sample by at most half a step, which for 256 channels is 0.022
    at full volume and 0.00009 at silence.

    >>> import tinygrad_ja as tg
    >>> mu_law_decoding(tg.tensor([0, 255])).tolist()
    [-1.0, 1.0]
    """
    mu = _mu("mu_law_decoding", quantization_channels)
    if array_of("mu_law_decoding", x_mu, "x_mu").dtype.kind != "f":
        x_mu = converted(x_mu, np.dtype(np.float32))
    folded = x_mu / mu * 2 - 1
    return sign(folded) * expm1(abs(folded) * math.log1p(mu)) / mu


def _mu(op: str, channels: int) -> int:
    if not isinstance(channels, int) or channels < 2:
        rule, fix = ("an int, 2 or more", "2 以上の整数"), ("256 is usual.", "ふつうは 256 です。")
        raise refusal(op, "quantization_channels", channels, rule, fix)
    return channels - 1
