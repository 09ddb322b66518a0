"""What a file is that somebody tried to read as something else, told by its first bytes."""

from __future__ import annotations

from typing import NamedTuple


class Guess(NamedTuple):
    """What a file looks like and what to do with it, in both languages; ``kinds`` are the readers for which that is no news."""

    kinds: tuple[str, ...]
    looks: tuple[str, str]
    fix: tuple[str, str]


_PICKLE = Guess(
    (),
    ("it looks like a Python pickle", "Python の pickle のようです"),
    (
        "reading a pickle may run any code, so it is not read here; save the weights anew with torch.save (PyTorch 1.6 or newer) or as "
        "safetensors.",
        "pickle の読み込みでは任意のコードが動きうるので、ここでは読みません。torch.save (PyTorch 1.6 以降) か safetensors で保存し直して"
        "ください。",
    ),
)

_SAFETENSORS = Guess(
    ("safetensors", "tinygrad_ja"),
    ("it looks like a safetensors file", "safetensors ファイルのようです"),
    ("read it with tg.io.load_safetensors.", "tg.io.load_safetensors で読んでください。"),
)

_BY_START: dict[bytes, Guess] = {
    b"PK\x03\x04": Guess(
        ("PyTorch",),
        (
            "it looks like a zip archive: PyTorch's .pt or NumPy's .npz",
            "zip アーカイブ (PyTorch の .pt か NumPy の .npz) のようです",
        ),
        (
            "read weights of PyTorch with tg.io.load_torch, arrays of NumPy with numpy.load.",
            "PyTorch の重みは tg.io.load_torch で、NumPy の配列は numpy.load で読んでください。",
        ),
    ),
    b"\x93NUMPY": Guess(
        (),
        ("it looks like an array of NumPy", "NumPy の配列のようです"),
        ("read it with numpy.load.", "numpy.load で読んでください。"),
    ),
    b"\x89HDF": Guess(
        (),
        ("it looks like an HDF5 file, as Keras writes them", "HDF5 ファイル (Keras など) のようです"),
        ("read it with h5py.", "h5py で読んでください。"),
    ),
    b"\x1f\x8b": Guess(
        (), ("it looks like a gzip file", "gzip ファイルのようです"), ("unpack it first.", "先に展開してください。")
    ),
    **{bytes([0x80, protocol]): _PICKLE for protocol in range(1, 6)},
}


def guess(start: bytes) -> Guess | None:
    """What a file may be that begins with these bytes (16 are enough); None when nothing is known.

    >>> guess(b"\\x93NUMPY\\x01").looks[0]
    'it looks like an array of NumPy'
    """
    for mark, found in _BY_START.items():
        if start.startswith(mark):
            return found
    return _SAFETENSORS if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**32 else None
