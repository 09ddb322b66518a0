"""Writes files that ``torch.load(path, weights_only=True)`` reads, without PyTorch. ``torch_reader`` describes the format."""

from __future__ import annotations

import math
import os
import struct
import zipfile
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..backend.arrays import is_array, usual_dtype
from ..core.tensor import Tensor
from .archive import place_of, unsaveable
from .files import replacing
from .raw import CODES, host_array, plain_bytes
from .torch_reader import STORAGES, UNTYPED

_DEEPEST = 100
_ALIGNMENT = 64  # of each storage in the file, so that it can be mapped into memory
_STORAGE_OF = {code: name for name, code in STORAGES.items()}


def save_torch(obj: Any, path: str | os.PathLike[str]) -> None:
    """Write ``obj``, nested dicts, lists and tuples of Tensors, arrays, numbers, strings, bools and None, as ``torch.save`` does.

    A Tensor or array that is there twice is one in PyTorch too. Raises ArgumentError for anything else (a dict key must be a str or an int).

    >>> import os, tempfile, tinygrad_ja as tg
    >>> path = os.path.join(tempfile.mkdtemp(), "a.pt")
    >>> save_torch(tg.nn.Linear(2, 1).state_dict(), path)
    >>> list(tg.io.load_torch(path))
    ['weight', 'bias']
    """
    pickle = _Pickle()
    pickle.add(obj, ())
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        _put(archive, file, "data.pkl", b"\x80\x02" + bytes(pickle.code) + b".")
        _put(archive, file, "byteorder", b"little")
        for storage in pickle.storages.values():
            _put(archive, file, f"data/{storage.key}", plain_bytes(storage.array))
        _put(archive, file, "version", b"3\n")


def _put(archive: zipfile.ZipFile, file: BinaryIO, name: str, content: bytes | memoryview) -> None:
    """Add one member, its bytes at a multiple of 64: an extra field of the zip format fills the gap."""
    member = zipfile.ZipInfo(f"archive/{name}")
    member.file_size = len(content)
    large = 20 if len(content) * 1.05 > zipfile.ZIP64_LIMIT else 0  # the bytes that zipfile adds for a large member
    header = 30 + len(member.filename) + 4 + large
    gap = -(file.tell() + header) % _ALIGNMENT
    member.extra = b"FB" + struct.pack("<H", gap) + b"Z" * gap
    with archive.open(member, "w") as stream:
        stream.write(content)


class _Storage(NamedTuple):
    """An array, where it is in the file, and what it was made of (kept, so that no other array gets its id)."""

    key: str
    raw: Any
    array: np.ndarray


class _Pickle:
    """The instructions of a pickle (protocol 2), and the arrays that it refers to as storages."""

    def __init__(self) -> None:
        self.code = bytearray()
        self.storages: dict[int, _Storage] = {}  # by the id of the array

    def add(self, value: Any, where: tuple[Any, ...]) -> None:
        """Add the instructions that build ``value``."""
        if len(where) > _DEEPEST:
            raise unsaveable("save_torch", where[:3], f"..., nested {len(where)} deep", f"... ({len(where)} 段の入れ子)")
        if type(value) is Tensor or is_array(value) or isinstance(value, np.generic):
            self._add_array(value, where)
        elif value is None or isinstance(value, bool):
            self.code += {None: b"N", True: b"\x88", False: b"\x89"}[value]
        elif isinstance(value, int):
            self._add_int(value, where)
        elif isinstance(value, float):
            self.code += b"G" + struct.pack(">d", value)
        elif isinstance(value, str):
            text = value.encode(errors="surrogatepass")
            self.code += b"X" + struct.pack("<I", len(text)) + text
        elif isinstance(value, (list, tuple)):
            self.code += b"(" if isinstance(value, tuple) else b"]("
            for index, item in enumerate(value):
                self.add(item, (*where, index))
            self.code += b"t" if isinstance(value, tuple) else b"e"
        elif isinstance(value, dict):
            self._add_dict(value, where)
        else:
            raise unsaveable("save_torch", where, f" of type {type(value).__name__}", f" (型 {type(value).__name__})")

    def _add_int(self, value: int, where: tuple[Any, ...]) -> None:
        size = value.bit_length() // 8 + 1
        if -(2**31) <= value < 2**31:
            self.code += b"J" + struct.pack("<i", value)
        elif size < 256:
            self.code += b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
        else:
            raise unsaveable("save_torch", where, f" of {size} bytes", f" ({size} バイトの整数)")

    def _add_dict(self, value: dict[Any, Any], where: tuple[Any, ...]) -> None:
        self.code += b"}("
        for key, item in value.items():
            if not isinstance(key, (str, int)):
                raise unsaveable("save_torch", where, f" with the key {key!r}", f" (キー {key!r})")
            self.add(key, where)
            self.add(item, (*where, key))
        self.code += b"u"

    def _add_array(self, value: Any, where: tuple[Any, ...]) -> None:
        """``_rebuild_tensor_v2(storage, 0, size, stride, requires_grad, OrderedDict())``; ``_v3`` with a dtype."""
        raw = value.array if type(value) is Tensor else value
        if id(raw) not in self.storages:
            self.storages[id(raw)] = _Storage(str(len(self.storages)), raw, host_array("save_torch", place_of(where), value))
        key, _, array = self.storages[id(raw)]
        code = CODES[usual_dtype(array.dtype)]
        by_bytes = code not in _STORAGE_OF
        self._add_name("torch._utils", "_rebuild_tensor_v3" if by_bytes else "_rebuild_tensor_v2")
        self.code += b"(("
        self._add_all("storage")
        self._add_name(*(("torch.storage", UNTYPED) if by_bytes else ("torch", _STORAGE_OF[code])))
        self._add_all(key, "cpu", array.nbytes if by_bytes else array.size)
        self.code += b"tQ"
        self._add_all(0, array.shape, _strides(array.shape), type(value) is Tensor and value.requires_grad)
        self._add_name("collections", "OrderedDict")  # of hooks
        self.code += b")R"
        if by_bytes:
            self._add_name("torch", usual_dtype(array.dtype).name)
        self.code += b"tR"

    def _add_all(self, *values: Any) -> None:
        for value in values:
            self.add(value, ())

    def _add_name(self, module: str, name: str) -> None:
        self.code += f"c{module}\n{name}\n".encode()


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of an array in row-major order, in elements."""
    return tuple([math.prod(shape[axis + 1 :]) for axis in range(len(shape))])
