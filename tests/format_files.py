"""Small files of each format, made without the readers under test, and what a test asks of a reader that refuses one."""

from __future__ import annotations

import io
import struct
import tarfile
import tracemalloc
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tinygrad_ja.errors import StateError


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def refused(read, path, match: str) -> None:
    """Reading raises a StateError that names the file and the fault, and takes little memory to find it."""
    tracemalloc.start()
    try:
        with pytest.raises(StateError, match=match) as caught:
            result = read(path)
            list(result)  # of those that read on demand
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert peak < 4_000_000 + 2 * Path(path).stat().st_size


def idx(array: np.ndarray) -> bytes:
    """An array as an IDX file."""
    code = {"u1": 8, "i1": 9, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}[array.dtype.str[1:]]
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, code, array.ndim]) + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def pcm(samples: np.ndarray, bits: int, rate: int = 8000) -> bytes:
    """Samples (frames, channels) of integers as a WAV file, written by Python's library."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(bits // 8)
        file.setframerate(rate)
        if bits == 8:
            file.writeframes((samples + 128).astype(np.uint8).tobytes())
        else:
            file.writeframes(samples.astype("<i4").view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes())
    return buffer.getvalue()


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """Chunks as a RIFF file of sound."""
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def header(tag: int, channels: int, bits: int, rate: int = 16000) -> bytes:
    """The header of a WAV file: format, channels, bits, rate."""
    frame = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits)


def voc(
    *boxes: tuple, size: str = "<size><width>20</width><height>10</height></size>", name: str = "cat", extra: str = ""
) -> bytes:
    """Boxes (xmin, ymin, xmax, ymax) as a Pascal VOC file."""
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        "<part><name>ear</name></part></object>"
        for a, b, c, d in boxes
    )
    return f"<annotation>{extra}<filename>a.jpg</filename>{size}{objects}</annotation>".encode()


def png(array: np.ndarray, mode: str | None = None, kind: str = "PNG") -> bytes:
    """An image as Pillow writes it."""
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(buffer, kind)
    return buffer.getvalue()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def tarred(*members: tarfile.TarInfo, content: bytes = b"") -> bytes:
    """A tar.gz archive, every member with the same content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for member in members:
            file.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def tar_member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    """One member of a tar archive."""
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, kind, "/etc/passwd" if kind != tarfile.REGTYPE else ""
    return member
