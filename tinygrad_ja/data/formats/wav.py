"""WAV: sound as integers (PCM of 8, 16, 24 or 32 bits) or floating-point numbers (32 or 64 bits), in chunks of a RIFF file."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from ...errors import StateError
from ...io.files import FilePath, damaged
from .content import read_content

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
_CHUNKS = 1000  # real files have a handful
_CHANNELS = 256
# the last 14 bytes of the identifier in an extensible header; the first two are the format
_GUID = bytes.fromhex("000000001000800000aa00389b71")


class Sound(NamedTuple):
    """What a WAV file holds."""

    samples: np.ndarray
    """float32 (channels, frames); integers are divided so that they lie in [-1, 1)."""
    rate: int
    """Frames per second."""
    bits: int
    """Bits of one sample in the file."""


class _Format(NamedTuple):
    tag: int
    channels: int
    rate: int
    width: int  # bytes of one sample


def read_wav(path: FilePath, limit: int = 1 << 28) -> Sound:
    """The sound in a WAV file. Raises StateError (TG-F005 when it is damaged or compressed, TG-F008 above ``limit`` bytes).

    Integers become x / 2^(bits - 1), 8 bits, which have no sign, (x - 128) / 128: what ``torchaudio.load`` gives.
    Source: Microsoft and IBM, Multimedia Programming Interface and Data Specifications 1.0; ``mmreg.h`` for the extensible header.

    >>> import tempfile, wave; from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "a.wav")
    >>> with wave.open(str(path), "wb") as file:
    ...     file.setparams((1, 2, 8000, 0, "NONE", "")); file.writeframes(bytes([0, 64, 0, 192]))
    >>> read_wav(path)
    Sound(samples=array([[ 0.5, -0.5]], dtype=float32), rate=8000, bits=16)
    """
    return parse_wav(read_content(path, limit), path)


def parse_wav(data: bytes, name: FilePath) -> Sound:
    """``read_wav`` of bytes; ``name`` is what an error calls them."""
    chunks = _chunks(data, name)
    layout = _layout(chunks[b"fmt "], name)
    frame = layout.channels * layout.width
    if len(chunks[b"data"]) % frame:
        raise _fault(
            name,
            f"the sound is no whole number of frames of {frame} bytes",
            f"音が {frame} バイトのフレームの整数倍でありません",
        )
    samples = _samples(chunks[b"data"], layout).reshape(-1, layout.channels).T
    if layout.tag == FLOAT and not np.isfinite(samples).all():
        raise _fault(name, "a sample is not a finite number", "有限でないサンプル値があります")
    return Sound(np.ascontiguousarray(samples), layout.rate, 8 * layout.width)


def _chunks(data: bytes, name: FilePath) -> dict[bytes, memoryview]:
    """The chunks that matter, each within the file and there once."""
    if len(data) < 12 or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise _fault(name, "it does not start with RIFF and WAVE", "RIFF と WAVE で始まっていません")
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data) or len(data) > end + 1:
        raise _fault(
            name, f"it declares {end} bytes and has {len(data)}", f"{end} バイトと宣言していますが、{len(data)} バイトあります"
        )
    found: dict[bytes, memoryview] = {}
    at = 12
    for _ in range(_CHUNKS):
        if at + 8 > end:
            break
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if size > end - at - 8:
            raise _fault(name, f"the chunk at byte {at} is cut off", f"{at} バイト目のチャンクが途中で切れています")
        if kind in (b"fmt ", b"data"):
            if kind in found or (kind == b"data" and b"fmt " not in found):
                raise _fault(name, "its chunks are out of order", "チャンクの順序が正しくありません")
            found[kind] = memoryview(data)[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    if at < end or len(found) < 2:
        raise _fault(name, "it has no sound, or far too many chunks", "音がないか、チャンクが多すぎます")
    return found


def _layout(header: memoryview, name: FilePath) -> _Format:
    if len(header) < 16:
        raise _fault(name, "its header is cut off", "ヘッダが途中で切れています")
    tag, channels, rate, _, frame, bits = struct.unpack_from("<HHIIHH", header)
    if tag == EXTENSIBLE and len(header) >= 40 and header[26:40] == _GUID:
        tag = int.from_bytes(header[24:26], "little")
    if (tag, bits) not in {(PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32), (FLOAT, 32), (FLOAT, 64)}:
        raise _fault(
            name,
            f"format {tag} with {bits} bits is not read, only PCM of 8 to 32 bits and floats",
            f"形式 {tag}・{bits} ビットは扱えません (8 から 32 ビットの PCM と浮動小数点のみ)",
        )
    if not (1 <= channels <= _CHANNELS and rate >= 1 and frame == channels * bits // 8):
        raise _fault(
            name, "channels, rate and frame size do not fit", "チャンネル数、サンプリング周波数、フレームの大きさが合いません"
        )
    return _Format(tag, channels, rate, bits // 8)


def _samples(data: memoryview, layout: _Format) -> np.ndarray:
    if layout.tag == FLOAT:
        with np.errstate(over="ignore"):  # a float64 above float32 becomes infinite, which is refused
            return np.frombuffer(data, f"<f{layout.width}").astype(np.float32)
    if layout.width == 1:
        return _scaled(np.frombuffer(data, np.uint8), 128, 128)
    if layout.width == 3:
        return _from_24_bits(data)
    return _scaled(np.frombuffer(data, f"<i{layout.width}"), 0, 2 ** (8 * layout.width - 1))


def _scaled(integers: np.ndarray, middle: int, largest: int) -> np.ndarray:
    """(x - middle) / largest as float32, with one array in memory."""
    samples = integers.astype(np.float32)
    samples -= middle
    samples /= largest
    return samples


def _from_24_bits(data: memoryview) -> np.ndarray:
    """The three bytes become the upper ones of an int32."""
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return _scaled(wide.view("<i4").reshape(-1), 0, 2**31)


def _fault(name: FilePath, en: str, ja: str) -> StateError:
    return damaged(name, "WAV", (en, ja))
