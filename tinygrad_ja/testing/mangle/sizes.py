"""How much memory a damaged file may ask for: what it declares, as far as its reader checks that against the size of the file or a limit.

Text becomes Python objects, which take many times its size; for such formats a size counts what the smallest values of the format take.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

from ...data.formats.content import EXPANSION

PIXELS = 1 << 16
"""The limit of pixels that the reader of images is given."""

ELEMENTS = 1 << 12
"""The limit of elements that an ONNX model is given when it runs."""

_OBJECTS = 32
"""Bytes of Python objects that a byte of text may declare: ``[]`` and a comma make a list of 56 bytes, its 16 of the collector and a place in
another list."""

_MEMBER = 1024
"""Bytes of Python objects for a member of an archive."""


def contents(data: bytes) -> int:
    """Bytes of a file, or of what a gzip file declares in its last four bytes, which is checked against what its size can hold."""
    declared = int.from_bytes(data[-4:], "little") if data[:2] == b"\x1f\x8b" else 0
    return len(data) + (declared if declared <= EXPANSION * len(data) else 0)


def objects(each: int = _OBJECTS) -> Callable[[bytes], int]:
    """``each`` bytes of Python objects for a byte of text."""
    return lambda data: each * contents(data)


def samples(data: bytes) -> int:
    """The file, and a float32 for each sample, of as many bits as its header says; 8 where that cannot be seen."""
    header = data.find(b"fmt ") + 8
    bits = int.from_bytes(data[header + 14 : header + 16], "little") if header >= 8 else 8
    return contents(data) + 4 * contents(data) * 8 // (bits if bits in (16, 24, 32, 64) else 8)


def header_and_tensors(data: bytes) -> int:
    """Objects for the header, twice the bytes of the tensors, since bfloat16 becomes float32."""
    header = min(int.from_bytes(data[:8], "little"), len(data))
    return _OBJECTS * header + 2 * (len(data) - header)


def members(data: bytes) -> int:
    """The file, and the sizes that its members declare, where a member of this size is possible."""
    sizes = [info.file_size for info in _listed(data) if info.file_size <= EXPANSION * info.compress_size]
    return contents(data) + sum(sizes) + _MEMBER * (len(sizes) + contents(data) // 512)


def pickle_and_storages(data: bytes) -> int:
    """Objects for the pickle, as ``]`` makes a list, and the bytes of the storages, of which a bfloat16 becomes twice as many."""
    sizes = {info.filename: info.file_size for info in _listed(data)}
    pickled = sum([min(size, len(data)) for name, size in sizes.items() if name.endswith("data.pkl")])
    return 64 * pickled + 2 * len(data) + _MEMBER * len(sizes)


def _listed(data: bytes) -> list[zipfile.ZipInfo]:
    try:
        return zipfile.ZipFile(io.BytesIO(data)).infolist()
    except Exception:  # no zip archive, which declares nothing
        return []


def pixels_and_chunks(data: bytes) -> int:
    """The file, a chunk of it, which Pillow reads whole, and the pixels."""
    return 2 * len(data) + 4 * PIXELS


def graph(data: bytes) -> int:
    """Constants, objects for all else, which are nodes, and four values of ``ELEMENTS`` elements while it runs."""
    return 64 * (len(data) - _constants(data)) + 2 * _constants(data) + 4 * 8 * ELEMENTS


def _constants(data: bytes) -> int:
    """Bytes of the initializers' data."""
    from onnx import ModelProto

    try:
        return sum([len(tensor.raw_data) for tensor in ModelProto.FromString(data).graph.initializer])
    except Exception:  # protobuf's own classes; it declares nothing
        return 0
