"""Arrays as the bytes that files hold: row-major, little endian, of the dtypes that safetensors names."""

from __future__ import annotations

from typing import IO, Any

import numpy as np

from ..backend.arrays import BY_TYPE, is_array, usual_dtype
from ..core.tensor import Tensor
from ..errors import Phrase, refusal
from .files import Fault

DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # the upper half of a float32
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}
"""The dtypes that can be read, and how they lie in the file."""

CODES: dict[np.dtype, str] = {usual_dtype(dtype): code for code, dtype in DTYPES.items() if code != "BF16"}
"""The dtypes that can be written."""

_PIECE = 1 << 18  # elements


def host_array(op: str, name: Any, value: Any) -> np.ndarray:
    """The NumPy array of a Tensor, an array of any device or a NumPy scalar. Raises ArgumentError, in the name of ``op``, for anything
    else, for a name that is no str, and for a dtype that cannot be written."""
    raw = value.array if type(value) is Tensor else np.asarray(value) if isinstance(value, np.generic) else value
    if not isinstance(name, str) or not is_array(raw):
        kind = type(value).__name__
        rule = (f"a str with a Tensor or an array (here {kind})", f"str と Tensor か配列の組 (ここでは {kind})")
        raise unfit(op, repr(name), rule)
    array = BY_TYPE[type(raw)].to_host(raw)
    if usual_dtype(array.dtype) not in CODES:
        raise unfit(op, f"{name!r}, {array.dtype}", ", ".join(str(dtype) for dtype in CODES))
    return array


def unfit(op: str, value: Phrase, rule: Phrase) -> Exception:
    """The error for something in a dict of tensors that cannot be written."""
    fix = (
        "pass a dict of names and Tensors, such as model.state_dict(); put long lists of numbers into a Tensor.",
        "model.state_dict() のような、名前と Tensor の dict を渡してください。長い数のリストは Tensor にしてください。",
    )
    return refusal(op, "tensors", value, rule, fix)


def plain_bytes(array: np.ndarray) -> memoryview:
    """The bytes of an array.

    >>> bytes(plain_bytes(np.array([[1, 2], [3, 4]], dtype=">u2").T))
    b'\\x01\\x00\\x03\\x00\\x02\\x00\\x04\\x00'
    """
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data


def read_array(stream: IO[bytes], shape: tuple[int, ...], code: str) -> np.ndarray:
    """The array whose bytes come next in ``stream``; bfloat16 becomes float32. Raises Fault where the stream ends.

    code: a key of ``DTYPES``. The size of the array must have been checked. It is read in pieces, so that its bytes are not in memory twice.

    >>> import io
    >>> read_array(io.BytesIO(bytes([0x80, 0x3F, 0x00, 0x40])), (2,), "BF16")
    array([1., 2.], dtype=float32)
    """
    stored = DTYPES[code]
    array = np.empty(shape, np.uint32 if code == "BF16" else usual_dtype(stored))
    flat = array.reshape(-1)
    for start in range(0, flat.size, _PIECE):
        part = flat[start : start + _PIECE]
        piece = np.empty(part.size, stored) if part.dtype != stored else part
        if stream.readinto(piece.view(np.uint8).data) != piece.nbytes:  # type: ignore[attr-defined]
            raise Fault("the file became shorter while it was read", "読み込み中にファイルが短くなりました")
        if code == "BF16":
            np.left_shift(piece, 16, out=part, dtype=np.uint32)
        elif piece is not part:
            part[...] = piece
    return array.view(np.float32) if code == "BF16" else array
