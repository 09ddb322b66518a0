"""Reads the files of ``torch.save`` (.pt, .pth) without PyTorch, and without running what is in them.

Such a file is a zip of uncompressed members: ``data.pkl``, a pickle of the nested state in which each array is a call of
``torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...)``, and ``data/0``, ``data/1``, ...: the storages. The pickle goes through
``pickle_reader``, and each array must lie inside its storage.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..backend.arrays import array_module
from ..backend.devices import Device, move, usable
from ..core.tensor import Tensor
from ..nn.parameter import Parameter
from .files import Fault, opened
from .pickle_reader import Function, unpickle
from .raw import DTYPES, read_array

KIND = "PyTorch"
_LONGEST_PICKLE = 100_000_000
_MOST_DIMENSIONS = 64

STORAGES: dict[str, str] = {
    "BoolStorage": "BOOL",
    "ByteStorage": "U8",
    "CharStorage": "I8",
    "ShortStorage": "I16",
    "IntStorage": "I32",
    "LongStorage": "I64",
    "HalfStorage": "F16",
    "FloatStorage": "F32",
    "DoubleStorage": "F64",
    "BFloat16Storage": "BF16",
}
"""PyTorch's types of storage, and the dtypes in the file."""

UNTYPED = "UntypedStorage"
"""The storage of newer dtypes: bytes, and the tensor says the dtype."""

_NEWER = ("uint16", "uint32", "uint64")
_DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", *_NEWER)


def load_torch(path: str | os.PathLike[str], device: str | Device | None = None) -> Any:
    """Read what ``torch.save`` wrote: a ``state_dict``, or nested dicts, lists and tuples of tensors and plain values.

    As ``torch.load(path, weights_only=True)``: nothing in the file is run. dicts of every kind come back as dict, ``torch.Size`` as
    tuple, bfloat16 as float32; tensors that share memory share it here too. device: where the Tensors are to be, the CPU when None.
    Raises StateError that names the fault of a damaged or foreign file and of one that holds more than data (a whole model, a
    TorchScript archive, sparse or quantized tensors), FileNotFoundError for a missing one.

    >>> import os, tempfile, tinygrad_ja as tg
    >>> path = os.path.join(tempfile.mkdtemp(), "a.pt")
    >>> tg.io.save_torch({"w": tg.ones(2), "steps": 3}, path)
    >>> load_torch(path)
    {'w': tensor([1., 1.]), 'steps': 3}
    """
    place = usable(Device(device or "cpu"))
    with opened(path, KIND) as (file, size):
        return _Archive(file, size, place).state()


class _Storage(NamedTuple):
    """The memory of one or more tensors: a flat array, of bytes where ``kind`` is untyped."""

    array: Any
    kind: str


class _Archive:
    """The members of a file, checked to be as large as the file can hold, and the storages read so far."""

    def __init__(self, file: BinaryIO, size: int, place: Device) -> None:
        self.place = place
        self.storages: dict[str, _Storage] = {}
        with _as_faults():
            self.zip = zipfile.ZipFile(file)
        members = self.zip.infolist()
        self.members = {member.filename: member for member in members}
        if len(self.members) < len(members):
            raise Fault("a member comes twice", "同じ名前のメンバーが 2 つあります")
        self.root = self._find_root()
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
                raise Fault(
                    f"the member {member.filename[:200]!r} is compressed",
                    f"メンバー {member.filename[:200]!r} が圧縮されています",
                )
        if sum(member.file_size for member in members) > size:
            raise Fault(
                f"its members together are larger than its {size} bytes", f"メンバーの合計が {size} バイトを超えています"
            )

    def _find_root(self) -> str:
        """The folder in the zip, named after the file when it was written."""
        found = [name for name in self.members if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(found) != 1:
            raise Fault(
                "it has no data.pkl, or several, so torch.save did not write it",
                "data.pkl が 1 つではないので torch.save のファイルではありません",
                ("arrays of NumPy (.npz) are read by numpy.load.", "NumPy の配列 (.npz) なら numpy.load で読んでください。"),
            )
        root = found[0].removesuffix("data.pkl")
        if any(name.startswith(f"{root}code/") for name in self.members):
            raise Fault(
                "it is a TorchScript archive, which is code",
                "TorchScript アーカイブ (コード) です",
                (
                    "in PyTorch, torch.save(torch.jit.load(path).state_dict(), other_path).",
                    "PyTorch で torch.save(torch.jit.load(path).state_dict(), other_path) としてください。",
                ),
            )
        return root

    def state(self) -> Any:
        """The whole value."""
        order = self._bytes("byteorder", 10) if f"{self.root}byteorder" in self.members else b"little"
        if order != b"little":
            raise Fault(f"its byte order is {order!r}, not little", f"バイト順が little ではなく {order!r} です")
        found = unpickle(self._bytes("data.pkl", _LONGEST_PICKLE), _NAMES, self.storage)
        _check_plain(found)
        return found

    def storage(self, persistent_id: Any) -> _Storage:
        """The storage of ``("storage", type, key, location, number of elements)``; each is read once."""
        if not isinstance(persistent_id, tuple) or len(persistent_id) != 5 or persistent_id[0] != "storage":
            raise TypeError("a persistent id that is no storage")
        _, stored, key, _, count = persistent_id
        if not isinstance(stored, _Stored) or not isinstance(key, str) or type(count) is not int:
            raise TypeError("a storage without dtype, key and size")
        if key not in self.storages:
            self.storages[key] = _Storage(self._array(f"data/{key}", stored, count), stored.kind)
        found = self.storages[key]
        if found.kind != stored.kind:
            raise Fault(f"the storage {key[:50]!r} has two dtypes", f"ストレージ {key[:50]!r} の dtype が 2 通りあります")
        return found

    def _array(self, name: str, stored: _Stored, count: int) -> Any:
        member = self._member(name)
        needed = count * DTYPES[stored.code].itemsize
        if needed != member.file_size:
            raise Fault(
                f"{name} has {member.file_size} bytes, {count} elements of {stored.kind} take {needed}",
                f"{name} は {member.file_size} バイトですが、{stored.kind} の {count} 要素は {needed} バイトです",
            )
        return move(self._read(member, count, stored.code), self.place)

    def _bytes(self, name: str, limit: int) -> bytes:
        member = self._member(name)
        if member.file_size > limit:
            raise Fault(
                f"{name} has {member.file_size} bytes, above the limit of {limit}",
                f"{name} が上限 {limit} を超える {member.file_size} バイトです",
            )
        return self._read(member, member.file_size, "U8").tobytes()

    def _member(self, name: str) -> zipfile.ZipInfo:
        if self.root + name not in self.members:
            raise Fault(f"the member {name[:200]!r} is missing", f"メンバー {name[:200]!r} がありません")
        return self.members[self.root + name]

    def _read(self, member: zipfile.ZipInfo, count: int, code: str) -> np.ndarray:
        """The elements of a member; zipfile compares their CRC-32."""
        with _as_faults(), self.zip.open(member) as stream:
            return read_array(stream, (count,), code)


@contextlib.contextmanager
def _as_faults() -> Iterator[None]:
    """What ``zipfile`` raises for damaged archives, as a Fault."""
    try:
        yield
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, OSError, struct.error) as failure:
        raise Fault(f"the zip archive is damaged: {failure}", f"zip アーカイブが壊れています: {failure}") from failure


def _check_plain(state: Any) -> None:
    """Raise Fault where a function, a type of storage or a storage by itself is in what the user would get."""
    waiting, seen = [state], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, (Function, _Stored, _Storage)):
            raise Fault("a name or a storage stands where a value should be", "値の場所に名前かストレージがあります")
        if isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)


# -- what the names in a pickle stand for


class _Stored(NamedTuple):
    """A type of storage: its name, and the dtype in the file."""

    kind: str
    code: str


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any = None, metadata: Any = None
) -> Tensor:
    """``torch._utils._rebuild_tensor_v2``: a view of a storage."""
    if not isinstance(storage, _Storage) or storage.kind == UNTYPED:
        raise TypeError("a tensor without a typed storage")
    return _view(storage.array, offset, size, stride, requires_grad)


def _newer_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, dtype: Any, metadata: Any = None
) -> Tensor:
    """``torch._utils._rebuild_tensor_v3``: a view of bytes."""
    if not isinstance(storage, _Storage) or storage.kind != UNTYPED or not _is_newer(dtype):
        raise TypeError("a tensor without bytes, or of a dtype that has a storage of its own")
    if storage.array.size % dtype.itemsize:
        raise TypeError(f"{storage.array.size} bytes are no whole elements of {dtype}")
    return _view(storage.array.view(dtype), offset, size, stride, requires_grad)


def _is_newer(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.name in _NEWER


def _view(flat: Any, offset: Any, size: Any, stride: Any, requires_grad: Any) -> Tensor:
    """A Tensor whose element i is ``flat[offset + i · stride]``. Every element must be inside, and no copy may be larger than the storage."""
    if not (_are_sizes((offset,)) and _are_sizes(size) and _are_sizes(stride) and len(size) == len(stride) <= _MOST_DIMENSIONS):
        raise TypeError("offset, size and stride of a tensor are no sizes")
    stride = tuple([s if n > 1 else 1 for n, s in zip(size, stride)])
    count = math.prod(size)
    last = offset + sum([(n - 1) * s for n, s in zip(size, stride)])
    if count > flat.size or 0 in stride or (count and last >= flat.size):
        raise Fault(
            f"a tensor of shape {size}, stride {stride} and offset {offset} does not fit into its storage of {flat.size} elements",
            f"形状 {size}、ストライド {stride}、オフセット {offset} のテンソルが {flat.size} 要素のストレージに収まりません",
            (
                "get the file again; for an expanded tensor, save x.contiguous().",
                "ファイルを入手し直してください。expand したテンソルなら x.contiguous() を保存してください。",
            ),
        )
    xp = array_module(flat)
    if not count:
        array = xp.zeros(size, dtype=flat.dtype)
    elif _is_row_major(size, stride):
        array = flat[offset : offset + count].reshape(size)
    else:
        array = xp.lib.stride_tricks.as_strided(flat[offset:], size, [flat.itemsize * s for s in stride])
    made = Tensor(array)
    return made.requires_grad_() if requires_grad is True and array.dtype.kind == "f" else made


def _is_row_major(size: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    expected = 1
    for n, s in zip(size[::-1], stride[::-1]):
        if n > 1 and s != expected:
            return False
        expected *= n
    return True


def _are_sizes(values: Any) -> bool:
    return isinstance(values, tuple) and all(type(value) is int and 0 <= value < 2**62 for value in values)


def _parameter(data: Any, requires_grad: Any = True, hooks: Any = None) -> Tensor:
    """``torch._utils._rebuild_parameter``."""
    if type(data) is not Tensor:
        raise TypeError("a parameter without data")
    return Parameter(data.detach(), requires_grad is True and data.dtype.kind == "f")


def _empty() -> dict[Any, Any]:
    """``OrderedDict()``: its items come later. One that was made of another dict would be a copy, and many copies are a bomb."""
    return {}


def _same(value: Any) -> Any:
    """``torch.Size(tuple)``, ``torch.device(text)`` and ``Counter(dict)`` come back as what they are made of."""
    return value


_NAMES: dict[str, Any] = {
    "collections OrderedDict": Function(_empty),
    "collections Counter": Function(_same),
    "torch Size": Function(_same),
    "torch device": Function(_same),
    "torch._utils _rebuild_tensor_v2": Function(_tensor),
    "torch._utils _rebuild_tensor_v3": Function(_newer_tensor),
    "torch._utils _rebuild_parameter": Function(_parameter),
    "torch.storage UntypedStorage": _Stored(UNTYPED, "U8"),
    **{f"torch {kind}": _Stored(kind, code) for kind, code in STORAGES.items()},
    **{f"torch {dtype}": np.dtype(dtype) for dtype in _DTYPES},
    "torch bfloat16": np.dtype("float32"),
}
