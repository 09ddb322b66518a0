"""Small whole files of every format, from the project's own writers or Python's library, from which the damaged ones are made."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import pickle
import random
import struct
import tarfile
import tempfile
import wave
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ... import nn, optim
from ...backend.random import get_rng_states, manual_seed, set_rng_states
from ...core.tensor import Tensor
from ...data.text import SubwordTokenizer, Vocabulary
from ...io import Checkpoints, save, save_safetensors, save_torch
from ...ops.creation import arange, from_numpy


def idx() -> list[bytes]:
    """Arrays of three dtypes; the last is large, and small when it is compressed."""
    arrays = [np.arange(60).reshape(3, 4, 5), np.arange(10, dtype=">i4"), np.ones((2, 3), ">f8"), np.zeros((1000, 1000))]
    codes = [(8, ">u1"), (0x0C, ">i4"), (0x0E, ">f8"), (8, ">u1")]
    plain = [
        bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(dtype).tobytes()
        for array, (code, dtype) in zip(arrays, codes)
    ]
    return [*plain[:3], *[gzip.compress(content, mtime=0) for content in plain[2:]]]


def wav() -> list[bytes]:
    """Integers of 8, 16 and 24 bits, floats, an extensible header, a chunk that nobody reads."""
    whole = [
        _waves(width, channels, frames)
        for width, channels, frames in ((1, 1, 90), (2, 2, 50), (3, 1, 40), (1, 1, 300_000), (3, 2, 60_000))
    ]
    samples = np.linspace(-1, 1, 40, dtype="<f4").tobytes()
    described = struct.pack("<HHIIHH", 3, 1, 8000, 32_000, 4, 32)
    guid = bytes.fromhex("000000001000800000aa00389b71")
    extensible = struct.pack("<HHIIHHHHIH", 0xFFFE, 1, 8000, 16_000, 2, 16, 22, 16, 4, 1) + guid
    whole += [
        _riff(("fmt ", described), ("LIST", b"INFOISFT"), ("data", samples)),
        _riff(("fmt ", extensible), ("data", b"\1\2" * 20)),
    ]
    return [*whole, gzip.compress(whole[1], mtime=0)]


def _waves(width: int, channels: int, frames: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((channels, width, 8000, 0, "NONE", ""))
        file.writeframes((bytes(range(256)) * (width * channels * frames // 256 + 1))[: width * channels * frames])
    return buffer.getvalue()


def _riff(*chunks: tuple[str, bytes]) -> bytes:
    body = b"".join([name.encode() + struct.pack("<I", len(content)) + content for name, content in chunks])
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def voc() -> list[bytes]:
    """An annotation with two objects, and one with none."""
    box = "<bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>9</xmax><ymax>10</ymax></bndbox>"
    things = "".join(
        [f"<object><name>{name}</name><difficult>{i}</difficult>{box}</object>\n" for i, name in enumerate(["cat", "犬"])]
    )
    head = '<?xml version="1.0"?>\n<annotation verified="no"><filename>a.jpg</filename><!-- two --><size><width>20</width>'
    size = "<height>10</height><depth>3</depth></size>"
    return [f"{head}{size}{things}</annotation>".encode(), f"{head}{size}</annotation>\n".encode()]


def trees() -> list[bytes]:
    """Sentences with a label on every node."""
    text = "(3 (2 The) (4 (3 (2 good) (2 film)) (2 .)))\n(1 (0 bad) (2 映画))\n(2 word)\n"
    return [text.encode(), gzip.compress(text.encode() * 20, mtime=0)]


def sgf() -> list[bytes]:
    """Games with set-up stones, variations, passes and comments."""
    first = "(;GM[1]FF[4]SZ[9]KM[6.5]HA[2]RE[B+R]PB[黒\\]]AB[aa][cc:dd]AW[ii];B[ee]C[a [b\\] c];W[](;B[gg];W[tt])(;B[hh]))"
    return [first.encode(), b"(;SZ[19]Black[pd]\n;White[dp];B[pp]\n(;W[dd]))"]


def json_lines() -> list[bytes]:
    """Objects, lists and numbers, one a line."""
    rows = [
        {"text": "a\n\u3042", "label": 1, "scores": [0.5, -1e-3]},
        [1, None, True],
        "word",
        12345678901234567890,
        {"a": {"b": []}},
    ]
    whole = "".join([json.dumps(row) + "\n" for row in rows]).encode()
    return [whole, gzip.compress(whole * 10, mtime=0)]


def lines() -> list[bytes]:
    """Three lines of text, to lie beside three others."""
    return [b"a dog\na cat\nthe end\n", "犬\n猫\n終\n".encode(), gzip.compress(b"x\ny\nz", mtime=0)]


def table() -> list[bytes]:
    """A table with a header, quoted cells and numbers."""
    return [b'month,value\n"Jan, 1949",112\nFeb,1.5e2\n"a ""b""",-3\n', b"a,b\n1,2\n3,4\n"]


def series() -> list[bytes]:
    """Columns of numbers."""
    return [b"a,b,c\n1,2,3\n-4.5,1e3,6\n", b'"a"\n1\n\n2\n']


_MEMBERS = {"a.txt": b"text\n" * 9, "b/c.bin": bytes(5000), "b/empty": b""}


def zipped() -> list[bytes]:
    """Archives, compressed and not."""
    return [_zip(method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]


def _zip(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in _MEMBERS.items():
            file.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def tarred() -> list[bytes]:
    """tar.gz archives in two dialects."""
    return [_tar(dialect) for dialect in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]


def _tar(dialect: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=dialect) as file:
        for name, content in {**_MEMBERS, "long" * 40: b"1", "語": b"2"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def image() -> list[bytes]:
    """PNG of four kinds and JPEG, as Pillow writes them."""
    from PIL import Image

    colours = np.arange(8 * 9 * 3, dtype=np.uint8).reshape(8, 9, 3)
    made = [Image.fromarray(colours), *[Image.fromarray(colours).convert(mode) for mode in ("P", "1", "RGBA")]]
    return [*[_pillow(one, "PNG") for one in made], _pillow(made[0], "JPEG")]


def _pillow(image: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def vocabulary() -> list[bytes]:
    """Words and their counts."""
    return [_written(Vocabulary([["a", "b", "犬"], ["a", "b"], ["a"]]).save), _written(Vocabulary([]).save)]


def subwords() -> list[bytes]:
    """Merges of a tokenizer."""
    return [_written(SubwordTokenizer([("a", "b"), ("ab", "c"), ("犬", "猫")], lower=True).save)]


def safetensors() -> list[bytes]:
    """Weights of a layer, arrays without dimensions or elements, many names, one array that is much larger than the header."""
    mixed = {"a": np.float32(1.5), "b": np.zeros((0, 3)), "c": np.arange(6).reshape(2, 3), "d": np.ones(3, np.float16)}
    flags = {f"layer.{i}": np.array([i % 2 == 0]) for i in range(20)}
    layer = {"weight": arange(6.0).reshape(3, 2), "bias": arange(3.0)}
    groups = [layer, mixed, flags, {"large": np.zeros(250_000, np.float32)}]
    whole = [_written(partial(save_safetensors, group, metadata={"about": "あ"})) for group in groups]
    return [*whole, _brain_floats()]


def _brain_floats() -> bytes:
    """bfloat16, which takes twice its size in memory."""
    header = b'{"w":{"dtype":"BF16","shape":[200000],"data_offsets":[0,400000]}}'
    return len(header).to_bytes(8, "little") + header + bytes(400_000)


def archive() -> list[bytes]:
    """Nested state with everything that ``tg.save`` knows."""
    plain = [None, True, 2**70, -3, 0.5, float("nan"), "text\n\u3042", (1, ("b",)), {3: "int", "$key": [], "a": {"b": {}}}]
    state = {"w": arange(6.0), "nested": {"k": (arange(2), [arange(3)])}, "plain": plain}
    return [_written(partial(save, state)), _written(partial(save, [arange(200_000.0)]))]


@contextlib.contextmanager
def fixed_streams() -> Iterator[None]:
    """In the block the process's random numbers start from 0; afterwards they go on as if nothing had been."""
    python, numpy, own = random.getstate(), np.random.get_state(), get_rng_states()
    random.seed(0)
    np.random.seed(0)
    manual_seed(0)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        set_rng_states(own)


def checkpoint_parts() -> dict[str, Any]:
    """A model and its optimizer, which has moments after one step, and a generator."""
    model = nn.Linear(2, 2)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    model(Tensor(np.ones((1, 2), np.float32))).sum().backward()
    optimizer.step()
    return {"model": model, "optimizer": optimizer, "dice": np.random.default_rng(0)}


def checkpoint() -> list[bytes]:
    """The checkpoint of a run."""
    with fixed_streams(), tempfile.TemporaryDirectory() as folder:
        path = Checkpoints(folder, checkpoint_parts()).save(3, metric=0.5, extra={"note": [1, 2]})
        return [path.read_bytes()]


def torch() -> list[bytes]:
    """A state_dict with views of one storage, nested values, and pickles that would run a program or write a file."""
    shared = from_numpy(np.arange(12, dtype=np.float32))
    state = {
        "a": shared[2:8].reshape(2, 3),
        "b": shared.reshape(3, 4).T,
        "n": [1, 2.5, (None, "x")],
        "u": from_numpy(np.ones(2, np.uint16)),
    }
    whole = [
        _written(partial(save_torch, state)),
        _written(partial(save_torch, {"weight": arange(2.0), "bias": arange(1.0)})),
    ]
    large = {"large": from_numpy(np.zeros(200_000, np.float32)), "flags": from_numpy(np.ones(9, bool))}
    whole.append(_written(partial(save_torch, large)))
    return [*whole, *[_with_pickle(whole[1], code) for code in HOSTILE]]


class _Bomb:
    """Unpickled, it makes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("exploded", "w")


HOSTILE = [
    pickle.dumps({"weight": _Bomb()}, protocol=2),
    pickle.dumps(_Bomb(), protocol=4),
    b"\x80\x02cos\nsystem\nX\x0e\x00\x00\x00touch exploded\x85R.",
    b"\x80\x02cbuiltins\neval\nX\x13\x00\x00\x00open('exploded','w')\x85R.",
]
"""Pickles that would run code in Python's own ``pickle``."""


def _with_pickle(data: bytes, code: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            content = code if info.filename.endswith("/data.pkl") else old.read(info)
            new.writestr(zipfile.ZipInfo(info.filename), content)
    return buffer.getvalue()


def _written(write: Callable[[Path], Any]) -> bytes:
    """The bytes that ``write`` puts into a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a")
        write(path)
        return path.read_bytes()
