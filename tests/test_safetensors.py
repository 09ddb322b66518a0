"""The safetensors format: what is written, and every rule of the format that a damaged file can break."""

from __future__ import annotations

import json
import os
import tracemalloc

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, StateError
from tinygrad_ja.io.raw import CODES


def file_of(header, data=b"", length=None):
    """The bytes of a file with this header (an object or a text) and this data."""
    text = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def described(dtype="F32", shape=(1,), begin=0, end=4):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.safetensors"


# ---- writing and reading


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 1, 3)])
@pytest.mark.parametrize("dtype", CODES, ids=str)
def test_every_dtype_and_shape_comes_back(path, dtype, shape):
    array = np.asarray(np.random.default_rng(0).normal(size=shape) * 50).astype(dtype)
    tg.io.save_safetensors({"a": array, "b": tg.Tensor(array)}, path)
    for value in tg.io.load_safetensors(path).values():
        assert value.dtype is dtype and value.shape == shape
        np.testing.assert_array_equal(value.array, array)


def test_the_bytes_are_those_of_the_format(path):
    """Computed by hand from the description of the format."""
    tg.io.save_safetensors({"b": np.array([1, 2], np.uint8), "a": np.array([[1.0]], np.float32)}, path, {"k": "v"})
    header = (
        b'{"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},'
        b'"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}}'
    )
    header += b" " * (-len(header) % 8)
    assert path.read_bytes() == len(header).to_bytes(8, "little") + header + b"\0\0\x80\x3f" + b"\1\2"


def test_layout_byte_order_and_sharing_do_not_matter(path):
    base = np.arange(12.0).reshape(3, 4)
    views = {"t": base.T, "every second": base[:, ::2], "reversed": base[::-1], "big": base.astype(">f8"), "again": base}
    views["expanded"] = np.broadcast_to(base[:1], (5, 4))
    tg.io.save_safetensors(views, path)
    for name, value in tg.io.load_safetensors(path).items():
        assert value.array.flags.c_contiguous and value.array.flags.owndata and value.array.flags.writeable
        np.testing.assert_array_equal(value.array, views[name])


def test_each_array_begins_at_a_multiple_of_its_item_size(path):
    tg.io.save_safetensors({"a": np.ones(3, "?"), "b": np.ones(1, "f8"), "c": np.ones(1, "f2"), "d": np.ones(3, "i4")}, path)
    length = int.from_bytes(path.read_bytes()[:8], "little")
    assert length % 8 == 0
    assert all(entry.begin % CODES_SIZE[entry.dtype] == 0 for entry in tg.io.safetensors_header(path).tensors.values())


CODES_SIZE = {code: dtype.itemsize for dtype, code in CODES.items()}


def test_bfloat16_is_read_as_float32(path):
    values = np.array([1.0, -2.5, 3.0e38, np.inf, 0.0], np.float32)
    halves = (values.view(np.uint32) >> 16).astype("<u2")
    path.write_bytes(
        file_of({"x": described("BF16", (5,), 0, 10), "y": described("BF16", (), 10, 12)}, halves.tobytes() + b"\x80\x3f")
    )
    found = tg.io.load_safetensors(path)
    kept = (values.view(np.uint32) & 0xFFFF0000).view(np.float32)
    assert found["x"].dtype is tg.float32 and found["x"].tolist() == kept.tolist()
    assert found["y"].item() == 1.0


def test_the_order_in_the_header_need_not_be_that_of_the_data(path):
    path.write_bytes(file_of({"b": described(begin=4, end=8), "a": described()}, np.array([1, 2], "<f4").tobytes()))
    assert {name: value.tolist() for name, value in tg.io.load_safetensors(path).items()} == {"a": [1.0], "b": [2.0]}


def test_nothing_at_all_is_a_file_too(path):
    tg.io.save_safetensors({}, path)
    assert tg.io.load_safetensors(path) == {} and path.read_bytes() == (8).to_bytes(8, "little") + b"{}      "


def test_metadata_and_shapes_are_read_without_the_arrays(path):
    tg.io.save_safetensors({"w": tg.zeros(2, 3)}, path, {"epoch": "3", "注": "日本語"})
    header = tg.io.safetensors_header(path)
    assert header.metadata == {"epoch": "3", "注": "日本語"}
    assert header.tensors["w"].shape == (2, 3) and header.tensors["w"].dtype == "F32"


@pytest.mark.parametrize(
    ("tensors", "metadata", "words"),
    [
        ({1: np.ones(1)}, None, "a str with a Tensor"),
        ({"a": [1.0]}, None, "here list"),
        ({"a": {"b": np.ones(1)}}, None, "here dict"),
        ({"a": np.ones(1, complex)}, None, "complex128"),
        ({"__metadata__": np.ones(1)}, None, "any name but this"),
        ({"\ud800": np.ones(1)}, None, "UTF-8"),
        ({}, {"a": 1}, "str to str"),
        ({}, {"a": "\udfff"}, "UTF-8"),
        ({}, {"a": "x" * 100_000_001}, "100,000,000 bytes"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(path, tensors, metadata, words):
    with pytest.raises(ArgumentError, match=f"TG-A001.*{words}"):
        tg.io.save_safetensors(tensors, path, metadata)
    assert not path.exists()


# ---- damaged files

ONE = {"x": described()}
FAULTS = {
    "empty": (b"", "0 bytes"),
    "no header": (b"\1\0\0", "3 bytes"),
    "header beyond the end": (file_of(ONE, b"\0" * 4, length=10_000), "10000 bytes, but only"),
    "length of 2^63": (file_of(ONE, b"\0" * 4, length=2**63), "but only"),
    "length of 2^64 - 1": (file_of(ONE, b"\0" * 4, length=2**64 - 1), "but only"),
    "length 0": (file_of("", b""), "JSON text is not valid"),
    "no UTF-8": ((3).to_bytes(8, "little") + b'"\xff"', "JSON text is not valid"),
    "no JSON": (file_of("{x}"), "JSON text is not valid"),
    "two texts": (file_of("{}{}"), "JSON text is not valid"),
    "an array": (file_of("[]"), "no JSON object"),
    "deeply nested": (file_of('{"a":' * 100_000), "JSON text is not valid"),
    "a number of many digits": (file_of("1" * 10_000), "JSON text is not valid"),
    "name twice": (file_of('{"x":%s,"x":%s}' % ((json.dumps(described()),) * 2), b"\0" * 4), "comes twice"),
    "key twice": (file_of('{"x":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"\0" * 4), "comes twice"),
    "metadata with numbers": (file_of({"__metadata__": {"a": 1}}), "no object of texts"),
    "metadata as a list": (file_of({"__metadata__": []}), "no object of texts"),
    "entry is a list": (file_of({"x": []}), "not just dtype"),
    "entry without shape": (file_of({"x": {"dtype": "F32", "data_offsets": [0, 0]}}), "not just dtype"),
    "entry with more": (file_of({"x": {**described(), "code": "1"}}, b"\0" * 4), "not just dtype"),
    "unknown dtype": (file_of({"x": described("F8_E4M3", (4,))}, b"\0" * 4), "dtype 'F8_E4M3'"),
    "dtype is a list": (file_of({"x": described(["F32"])}, b"\0" * 4), "unknown dtype"),
    "negative size": (file_of({"x": described(shape=(-1,))}, b"\0" * 4), "no list of sizes"),
    "size 1.0": (file_of({"x": described(shape=(1.0,))}, b"\0" * 4), "no list of sizes"),
    "size true": (file_of({"x": described(shape=(True,))}, b"\0" * 4), "no list of sizes"),
    "size NaN": (file_of('{"x":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', b"\0" * 4), "NaN is no number of JSON"),
    "size 2^64": (file_of({"x": described(shape=(2**64,))}, b"\0" * 4), "no list of sizes"),
    "shape is a text": (file_of('{"x":{"dtype":"F32","shape":"1","data_offsets":[0,4]}}', b"\0" * 4), "no list of sizes"),
    "65 dimensions": (file_of({"x": described(shape=(1,) * 65)}, b"\0" * 4), "no list of sizes"),
    "product beyond 2^63": (file_of({"x": described(shape=(2**40, 2**40))}, b"\0" * 4), "too large"),
    "product that wraps to 4": (file_of({"x": described(shape=(2**62, 4, 1))}, b"\0" * 4), "too large"),
    "huge and empty": (file_of({"x": described(shape=(0, 2**62, 2**62), end=0)}), "too large"),
    "shape larger than the offsets": (file_of({"x": described(shape=(2,))}, b"\0" * 4), "takes 8 bytes, its offsets span 4"),
    "one offset": (file_of({"x": {**described(), "data_offsets": [4]}}, b"\0" * 4), "no two positions"),
    "offsets backwards": (file_of({"x": described(begin=4, end=0)}, b"\0" * 4), "span -4"),
    "offset beyond the end": (file_of({"x": described(shape=(2,), end=8)}, b"\0" * 4), "take 8 bytes, but 4 follow"),
    "cut data": (file_of(ONE, b"\0" * 3), "take 4 bytes, but 3 follow"),
    "more data": (file_of(ONE, b"\0" * 5), "take 4 bytes, but 5 follow"),
    "gap before": (file_of({"x": described(begin=4, end=8)}, b"\0" * 8), "begins at byte 4 of the data, but 0 is next"),
    "gap between": (file_of({"x": described(), "y": described(begin=8, end=12)}, b"\0" * 12), "byte 8 of the data, but 4"),
    "overlap": (
        file_of({"x": described(shape=(2,), end=8), "y": described(begin=4, end=8)}, b"\0" * 8),
        "byte 4 of the data, but 8",
    ),
    "the same bytes": (file_of({"x": described(), "y": described()}, b"\0" * 4), "byte 0 of the data, but 4"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(path, name):
    content, words = FAULTS[name]
    path.write_bytes(content)
    for read in (tg.io.load_safetensors, tg.io.safetensors_header, tg.load):
        with pytest.raises(StateError, match=rf"TG-F005.*a\.safetensors.*{words}"):
            read(path)


def test_a_fault_is_named_in_japanese(path, monkeypatch):
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    path.write_bytes(FAULTS["cut data"][0])
    with pytest.raises(StateError, match="テンソルは 4 バイトですが、ヘッダの後に 3 バイトあります"):
        tg.io.load_safetensors(path)


def test_a_declared_size_takes_no_memory_before_it_is_checked(path):
    path.write_bytes(file_of({"x": described("U8", (2**40,), 0, 2**40)}, b"\0" * 4, length=None))
    tracemalloc.start()
    with pytest.raises(StateError):
        tg.io.load_safetensors(path)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(("dtype", "times"), [("F32", 1), ("BF16", 2)])
def test_reading_takes_no_memory_beside_the_result(path, dtype, times):
    """bfloat16 becomes float32, twice its size."""
    size = 5_000_000
    path.write_bytes(file_of({"x": described(dtype, (size * times // 4,), 0, size)}, bytes(size)))
    tracemalloc.start()
    tg.io.load_safetensors(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < times * size + 1_500_000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_refused_instead_of_waited_for(path):
    os.mkfifo(path)
    for read in (tg.load, tg.io.load_safetensors, tg.io.load_torch):
        with pytest.raises(StateError, match="no file"):
            read(path)
