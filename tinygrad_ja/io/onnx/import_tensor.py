"""Tensors in an ONNX file: their dtype, their declared size against the bytes that are there, then the array."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from ...errors import Phrase

DTYPES: dict[int, np.dtype] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.uint8),
    3: np.dtype(np.int8),
    4: np.dtype(np.uint16),
    5: np.dtype(np.int16),
    6: np.dtype(np.int32),
    7: np.dtype(np.int64),
    9: np.dtype(np.bool_),
    10: np.dtype(np.float16),
    11: np.dtype(np.float64),
    12: np.dtype(np.uint32),
    13: np.dtype(np.uint64),
}
"""ONNX's numbers of the dtypes that there are here. Strings, complex numbers, bfloat16 and the 8-, 4- and 2-bit floats are not."""

_FIELDS = {"f": {4: "float_data", 8: "double_data"}, "i": {8: "int64_data"}, "u": {4: "uint64_data", 8: "uint64_data"}}
_EXTERNAL = 1
_LARGEST_AXIS = 2**31
_LARGEST = 2**59  # elements, so that their bytes can still be counted, with empty axes left out


class NoSuchType(Exception):
    """A type of elements that ONNX has and tinygrad_ja does not; the reader collects them."""


class Fault(Exception):
    """What is wrong with a file; the reader adds where."""

    def __init__(self, english: str, japanese: str) -> None:
        super().__init__(english)
        self.phrase: Phrase = (english, japanese)


def dtype_of(number: int) -> np.dtype:
    """The dtype with ONNX's number. Raises NoSuchType for one that is not here.

    >>> dtype_of(7)
    dtype('int64')
    """
    if number not in DTYPES:
        raise NoSuchType(_type_name(number))
    return DTYPES[number]


def _type_name(number: int) -> str:
    import onnx

    known = onnx.TensorProto.DataType
    return f"elements of type {known.Name(number).lower() if number in known.values() else number}"


def declared_bytes(tensor: Any) -> int:
    """How much memory the array of a TensorProto takes, an empty axis counted as one.

    Raises Fault for a shape that cannot be, NoSuchType for a dtype that is not here.
    """
    shape = tuple(tensor.dims)
    if len(shape) > 32 or any([not 0 <= n < _LARGEST_AXIS for n in shape]) or math.prod([n or 1 for n in shape]) >= _LARGEST:
        shown = list(shape[:8])
        raise Fault(f"a tensor with the impossible shape {shown}", f"テンソルの形状 {shown} はありえません")
    return math.prod([n or 1 for n in shape]) * dtype_of(tensor.data_type).itemsize


def read_tensor(tensor: Any, folder: str) -> np.ndarray:
    """The array of a TensorProto; it may be read-only, so that its bytes are not in memory once more.

    folder: where the model's file is; data outside of the file has to lie there. Raises Fault where dtype, shape and data do not fit,
    before any memory is taken, NoSuchType for a dtype that is not here.
    """
    dtype = dtype_of(tensor.data_type)
    shape = tuple(tensor.dims)
    declared_bytes(tensor)
    count = math.prod(shape)
    if tensor.data_location == _EXTERNAL:
        return _external(tensor, folder, dtype, count).reshape(shape)
    if tensor.HasField("raw_data"):
        return _from_bytes(tensor.raw_data, dtype, count).reshape(shape)
    return _from_field(tensor, dtype, count).reshape(shape)


def _check_size(count: int, dtype: np.dtype, there: int) -> None:
    needed = count * dtype.itemsize
    if needed != there:
        raise Fault(
            f"a tensor of {count} elements of {dtype} needs {needed} bytes, and {there} are there",
            f"{dtype} が {count} 個のテンソルには {needed} バイト必要ですが、{there} バイトしかないか、多すぎます",
        )


def _from_bytes(data: bytes, dtype: np.dtype, count: int) -> np.ndarray:
    _check_size(count, dtype, len(data))
    if dtype.kind == "b":
        return np.frombuffer(data, dtype=np.uint8) != 0
    return np.frombuffer(data, dtype=dtype.newbyteorder("<")).astype(dtype, copy=False)


def _from_field(tensor: Any, dtype: np.dtype, count: int) -> np.ndarray:
    """From a list of numbers: each dtype has its list, and the small ones share ``int32_data``, half floats as their bits."""
    field = getattr(tensor, _FIELDS.get(dtype.kind, {}).get(dtype.itemsize, "int32_data"))
    if len(field) != count:
        raise Fault(
            f"a tensor of {count} elements with {len(field)} values",
            f"要素が {count} 個のテンソルに値が {len(field)} 個あります",
        )
    wide = (
        np.float64
        if dtype.kind == "f" and dtype.itemsize > 2
        else np.uint64
        if dtype.itemsize >= 4 and dtype.kind == "u"
        else np.int64
    )
    values = np.fromiter(field, dtype=wide, count=count)
    if dtype == np.float16:
        return _narrow(values, np.dtype(np.uint16)).view(np.float16)
    return values.astype(dtype) if wide is np.float64 else _narrow(values, dtype)


def _narrow(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    narrowed = values.astype(dtype)
    if dtype.kind != "b" and not np.array_equal(narrowed, values):
        raise Fault(f"a tensor of {dtype} with values outside of its range", f"{dtype} の範囲にない値を持つテンソル")
    return narrowed


def _external(tensor: Any, folder: str, dtype: np.dtype, count: int) -> np.ndarray:
    """Data in a file of its own, which has to be an ordinary file in the model's folder or below."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "").replace("\0", "")
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, location))
    if not location or os.path.commonpath([root, path]) != root or not os.path.isfile(path):
        raise Fault(
            f"data in the file {location!r}, which is not a file in the folder of the model",
            f"データのファイル {location!r} がモデルと同じフォルダの中にありません",
        )
    offset = int(entries.get("offset", 0))
    there = os.path.getsize(path) - offset
    length = int(entries.get("length", there))
    if offset < 0 or not 0 <= length <= there:
        raise Fault(
            f"data at bytes {offset} to {offset + length} of {location!r}, beyond its end",
            f"データの位置 {offset} から {offset + length} バイトは {location!r} の外です",
        )
    _check_size(count, dtype, length)
    with open(path, "rb") as file:
        file.seek(offset)
        return _from_bytes(file.read(length), dtype, count)
