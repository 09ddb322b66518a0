"""Sound at another sampling rate, by a windowed sinc filter (Smith, Digital Audio Resampling), as ``torchaudio.functional.resample``."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from ...errors import refusal
from ...ops.conv import conv1d
from ...ops.padding import constant_pad_nd
from ...ops.shape import reshape, transpose
from ..arrays import need_float, placed


def resample(waveform: Any, orig_freq: int, new_freq: int, lowpass_filter_width: int = 6, rolloff: float = 0.99) -> Any:
    """The same sound with ``new_freq`` samples a second instead of ``orig_freq``: float (..., T) -> (..., ceil(T · new_freq / orig_freq)).

    Each new sample is a sum of old ones round its place, weighted by sinc(2 f t) cos²: what lies above the lower half rate is filtered out.
    One filter for each of the ``new_freq`` (with their common divisor taken out) places between old samples, all as one convolution.
    lowpass_filter_width: zero crossings on each side; more is sharper and slower. rolloff: the filter's edge, as a share of half the rate.
    Raises ArgumentError for rates that are no positive ints; DtypeError for integers.

    >>> import tinygrad_ja as tg
    >>> resample(tg.ones(100), 8000, 16000).shape
    (200,)
    """
    array = need_float("resample", waveform, "waveform")
    rates = (orig_freq, new_freq)
    if not all([isinstance(rate, int) and rate >= 1 for rate in rates]):
        fix = ("orig_freq=8000, new_freq=16000 for instance.", "orig_freq=8000 などと渡してください。")
        raise refusal("resample", "(orig_freq, new_freq)", rates, ("positive ints", "正の整数"), fix)
    if lowpass_filter_width < 1 or not 0 < rolloff <= 1:
        rule = ("width >= 1, 0 < rolloff <= 1", "width >= 1、0 < rolloff <= 1")
        value = (lowpass_filter_width, rolloff)
        raise refusal("resample", "(lowpass_filter_width, rolloff)", value, rule, ("leave them out.", "指定しないでください。"))
    if orig_freq == new_freq:
        return waveform
    common = math.gcd(orig_freq, new_freq)
    old, new = orig_freq // common, new_freq // common
    filters, reach = _filters(old, new, lowpass_filter_width, rolloff)
    length = array.shape[-1]
    flat = reshape(waveform, (math.prod(array.shape[:-1]), 1, length))
    flat = constant_pad_nd(flat, (reach, reach + old))
    made = conv1d(flat, placed(filters.astype(array.dtype), waveform), stride=old)
    joined = reshape(transpose(made, 1, 2), (made.shape[0], made.shape[1] * made.shape[2]))
    wanted = -(-new * length // old)
    return reshape(joined[:, :wanted], (*array.shape[:-1], wanted))


@lru_cache(64)
def _filters(old: int, new: int, crossings: int, rolloff: float) -> tuple[np.ndarray, int]:
    """``(filters (new, 1, taps), taps on the left)``: filter p makes the sample at p / new, old samples lying at k / old."""
    edge = min(old, new) * rolloff
    reach = math.ceil(crossings * old / edge)
    places = np.arange(-reach, reach + old)[None, None] / old - np.arange(new)[:, None, None] / new
    places = np.clip(places * edge, -crossings, crossings)
    window = np.cos(places * math.pi / crossings / 2) ** 2
    return np.sinc(places) * window * (edge / old), reach
