"""The safetensors format: a dict of arrays in one file that any program can read without running code.

    8 bytes       n, little endian
    n bytes       JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ..., "__metadata__": {"key": "text"}}
    the rest      the arrays, row-major and little endian, one after the other without gaps

Everything that the header says is checked against the size of the file before memory is asked for
(https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
import math
import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..backend.arrays import usual_dtype
from ..backend.devices import Device, move, usable
from ..core.tensor import Tensor
from .files import Fault, opened, replacing
from .raw import CODES, DTYPES, host_array, plain_bytes, read_array, unfit
from .strict_json import parse_json

_KIND = "safetensors"
_HEADER_LIMIT = 100_000_000  # as in the reference implementation
_LARGEST = 2**63 - 1
_MOST_DIMENSIONS = 64  # NumPy's limit


class Entry(NamedTuple):
    """One tensor as the header describes it; ``begin`` and ``end`` count bytes from the first array on."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """What a file holds: its tensors in the order of their data, and texts about them."""

    tensors: dict[str, Entry]
    metadata: dict[str, str]


def save_safetensors(
    tensors: Mapping[str, Any], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a flat dict of Tensors or arrays, such as ``model.state_dict()``, to ``path`` (``safetensors.torch.save_file``).

    Layout, byte order and device do not matter; what shares memory is written once for each name. metadata: texts.
    Raises ArgumentError for names that are no str, values that are no arrays and dtypes that the format does not have.

    >>> import os, tempfile, tinygrad_ja as tg
    >>> path = os.path.join(tempfile.mkdtemp(), "a.safetensors")
    >>> save_safetensors(tg.nn.Linear(2, 1).state_dict(), path, {"about": "an example"})
    >>> {name: tuple(value.shape) for name, value in load_safetensors(path).items()}
    {'weight': (1, 2), 'bias': (1,)}
    """
    arrays = {name: host_array("save_safetensors", name, value) for name, value in tensors.items()}
    write(path, arrays, dict(metadata or {}))


def load_safetensors(path: str | os.PathLike[str], device: str | Device | None = None) -> dict[str, Tensor]:
    """Read all tensors of a file (``safetensors.torch.load_file``); bfloat16 becomes float32, which holds the same numbers.

    device: where the Tensors are to be, the CPU when None.
    Raises StateError that names the fault of a damaged file, FileNotFoundError for a missing one.
    """
    place = usable(Device(device or "cpu"))
    with opened(path, _KIND) as (file, size):
        return {name: Tensor(move(array, place)) for name, array in read_arrays(file, read_header(file, size))}


def safetensors_header(path: str | os.PathLike[str]) -> Header:
    """Names, dtypes, shapes and metadata of a file, without its arrays. Raises as ``load_safetensors`` does.

    >>> import os, tempfile, tinygrad_ja as tg
    >>> path = os.path.join(tempfile.mkdtemp(), "a.safetensors")
    >>> save_safetensors({"w": tg.zeros(2, 3)}, path, {"about": "an example"})
    >>> safetensors_header(path)
    Header(tensors={'w': Entry(dtype='F32', shape=(2, 3), begin=0, end=24)}, metadata={'about': 'an example'})
    """
    with opened(path, _KIND) as (file, size):
        return read_header(file, size)


# -- writing


def write(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write arrays of dtypes in ``CODES``. The wide ones come first, so that each lies at a multiple of its item size."""
    ordered = sorted(arrays.items(), key=lambda item: -item[1].itemsize)
    header = _header_of(ordered, metadata)
    with replacing(path) as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for _, array in ordered:
            file.write(plain_bytes(array))


def _header_of(arrays: Iterable[tuple[str, np.ndarray]], metadata: Mapping[str, str]) -> bytes:
    if not all(isinstance(text, str) for pair in metadata.items() for text in pair):
        raise unfit("save_safetensors", "metadata", ("a dict of str to str", "str から str への dict"))
    content: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    begin = 0
    for name, array in arrays:
        if name == "__metadata__":
            raise unfit(
                "save_safetensors",
                repr(name),
                ("any name but this, which the format keeps", "この名前以外 (形式が使う名前です)"),
            )
        end = begin + array.nbytes
        content[name] = {"dtype": CODES[usual_dtype(array.dtype)], "shape": array.shape, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    try:
        header = text.encode()
    except UnicodeEncodeError as failure:
        rule = ("texts that UTF-8 can hold", "UTF-8 で表せる文字列")
        raise unfit("save_safetensors", repr(failure.object[failure.start - 9 : failure.end]), rule) from failure
    header += b" " * (-len(header) % 8)
    if len(header) > _HEADER_LIMIT:
        rule = (f"at most {_HEADER_LIMIT:,} bytes of names and texts", f"名前と文字列は合わせて {_HEADER_LIMIT:,} バイトまで")
        raise unfit("save_safetensors", ("the header", "ヘッダ"), rule)
    return header


# -- reading


def read_header(file: BinaryIO, size: int) -> Header:
    """The checked header of a file of ``size`` bytes; raises Fault. Afterwards ``file`` stands at the first array."""
    if size < 8:
        raise Fault(
            f"it has {size} bytes, the length of the header alone takes 8",
            f"{size} バイトしかありません。ヘッダの長さだけで 8 バイト必要です",
        )
    length = int.from_bytes(file.read(8), "little")
    if length > size - 8:
        raise Fault(
            f"the header should have {length} bytes, but only {size - 8} follow",
            f"ヘッダは {length} バイトのはずですが、残りは {size - 8} バイトしかありません",
        )
    if length > _HEADER_LIMIT:
        raise Fault(
            f"the header has {length} bytes, above the limit of {_HEADER_LIMIT}",
            f"ヘッダが上限 {_HEADER_LIMIT} を超える {length} バイトです",
        )
    content = parse_json(file.read(length))
    if not isinstance(content, dict):
        raise Fault("the header is no JSON object", "ヘッダが JSON のオブジェクトではありません")
    metadata = _metadata(content.pop("__metadata__", {}))
    entries = {name: _entry(name, described) for name, described in content.items()}
    tensors = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)))
    _check_extents(tensors, size - 8 - length)
    return Header(tensors, metadata)


def _metadata(content: Any) -> dict[str, str]:
    if not isinstance(content, dict) or not all(isinstance(text, str) for text in content.values()):
        raise Fault("__metadata__ is no object of texts", "__metadata__ が文字列のオブジェクトではありません")
    return content


def _entry(name: str, described: Any) -> Entry:
    """The entry of one tensor, right in itself: shape and dtype take exactly the bytes between the offsets."""
    where = f"tensor {name[:200]!r}"
    if not isinstance(described, dict) or set(described) != {"dtype", "shape", "data_offsets"}:
        raise Fault(
            f"{where} has not just dtype, shape and data_offsets", f"{where} が dtype、shape、data_offsets だけを持っていません"
        )
    code, shape, offsets = described["dtype"], described["shape"], described["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise Fault(
            f"{where} has the unknown dtype {reprlib.repr(code)}", f"{where} の dtype {reprlib.repr(code)} は未対応です"
        )
    if not _are_sizes(shape) or len(shape) > _MOST_DIMENSIONS:
        raise Fault(f"{where} has a shape that is no list of sizes", f"{where} の形状が大きさのリストではありません")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise Fault(
            f"{where} has data_offsets that are no two positions", f"{where} の data_offsets が 2 つの位置ではありません"
        )
    itemsize = DTYPES[code].itemsize
    if math.prod(extent or 1 for extent in shape) * itemsize > _LARGEST:
        raise Fault(f"{where} has a shape too large for any memory", f"{where} の形状が大きすぎます")
    begin, end = offsets
    needed = math.prod(shape) * itemsize
    if end - begin != needed:
        raise Fault(
            f"{where} of shape {tuple(shape)} and dtype {code} takes {needed} bytes, its offsets span {end - begin}",
            f"{where} (形状 {tuple(shape)}、dtype {code}) は {needed} バイトですが、data_offsets は {end - begin} バイトです",
        )
    return Entry(code, tuple(shape), begin, end)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= _LARGEST for value in values)


def _check_extents(tensors: Mapping[str, Entry], size: int) -> None:
    """The tensors fill the rest of the file: no gap, no overlap, nothing left over."""
    position = 0
    for name, entry in tensors.items():
        if entry.begin != position:
            raise Fault(
                f"tensor {name[:200]!r} begins at byte {entry.begin} of the data, but {position} is next",
                f"テンソル {name[:200]!r} はデータの {entry.begin} バイト目から始まりますが、次は {position} バイト目のはずです",
            )
        position = entry.end
    if position != size:
        raise Fault(
            f"the tensors take {position} bytes, but {size} follow the header",
            f"テンソルは {position} バイトですが、ヘッダの後に {size} バイトあります",
        )


def read_arrays(file: BinaryIO, header: Header) -> Iterator[tuple[str, np.ndarray]]:
    """Names and arrays of a file that stands at its first array. Raises Fault."""
    for name, entry in header.tensors.items():
        yield name, read_array(file, entry.shape, entry.dtype)
