"""IDX: the format of MNIST. Two zero bytes, the type, the number of axes, the size of each axis as 4 bytes, then the elements (big-endian)."""

from __future__ import annotations

import math

import numpy as np

from ...io.files import FilePath, damaged
from .content import LIMIT, Contents

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_AXES = 8  # the format allows 255; real files have 1 to 4


def read_idx(path: FilePath, limit: int = LIMIT) -> np.ndarray:
    """The array in an IDX file, plain or gzip, in the machine's byte order.

    The sizes in the header must be exactly those of the file, which is checked before the array is made. Raises StateError (TG-F005,
    TG-F008 when the contents are above ``limit`` bytes). Source: yann.lecun.com/exdb/mnist, "the IDX file format".

    >>> import tempfile; from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "a.idx"); _ = path.write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 2, 7, 9]))
    >>> read_idx(path)
    array([[7, 9]], dtype=uint8)
    """
    with open(path, "rb") as file:
        contents = Contents(file, path, limit)
        dtype, shape = _header(contents)
        array = _empty(shape, dtype, path)
        contents.readinto(array.reshape(-1).view(np.uint8).data)
        contents.finish()
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _empty(shape: tuple[int, ...], dtype: np.dtype, path: FilePath) -> np.ndarray:
    try:
        return np.empty(shape, dtype)
    except ValueError as failure:  # no elements, but axes longer together than NumPy can count
        fault = (f"no array has the shape {shape}", f"形状 {shape} の配列は作れません")
        raise damaged(path, "IDX", fault) from failure


def _header(contents: Contents) -> tuple[np.dtype, tuple[int, ...]]:
    start = contents.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in DTYPES or not 1 <= start[3] <= _AXES:
        raise damaged(
            contents.name, "IDX", ("its first four bytes are not those of IDX", "先頭の 4 バイトが IDX のものではありません")
        )
    dtype = np.dtype(DTYPES[start[2]])
    sizes = contents.read(4 * start[3])
    shape = tuple(int.from_bytes(sizes[at : at + 4], "big") for at in range(0, len(sizes), 4))
    expected = 4 + 4 * start[3] + math.prod(shape) * dtype.itemsize
    if expected != contents.size:
        fault = (
            f"the header tells of {expected} bytes, but there are {contents.size}",
            f"ヘッダによると {expected} バイトのはずですが、{contents.size} バイトあります",
        )
        raise damaged(contents.name, "IDX", fault)
    return dtype, shape
