"""The safetensors package reads what we write, we read what it writes, and both refuse the same files."""

from __future__ import annotations

import random

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from test_safetensors import FAULTS

import tinygrad_ja as tg
from tinygrad_ja.errors import StateError
from tinygrad_ja.io.raw import CODES

STRICTER = {
    "name twice": "the format forbids it, the package takes the last",
    "entry with more": "the package ignores keys that it does not know",
    "unknown dtype": "8-bit floats: NumPy has none",
    "65 dimensions": "NumPy has at most 64",
    "huge and empty": "NumPy makes no array of this shape",
}
"""What we refuse and the package lets pass, and why."""

SHAPES = [(), (0,), (3,), (2, 0, 3), (4, 1, 3)]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "a.safetensors")


def arrays():
    rng = np.random.default_rng(0)
    return {f"{dtype} {shape}": np.asarray(rng.normal(size=shape) * 9).astype(dtype) for dtype in CODES for shape in SHAPES}


def test_it_reads_what_we_write(path):
    expected = arrays()
    layouts = {
        "transposed": expected["float64 (4, 1, 3)"].T,
        "big endian": np.arange(3, dtype=">i4"),
        "tied": expected["int8 (3,)"],
    }
    tg.io.save_safetensors({**expected, **layouts, "tensor": tg.ones(2)}, path, {"about": "an example", "注": "例"})
    found = safetensors.numpy.load_file(path)
    assert set(found) == {*expected, *layouts, "tensor"}
    for name, value in {**expected, **layouts}.items():
        assert found[name].dtype == value.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found[name], value)
    with safetensors.safe_open(path, "np") as opened:
        assert opened.metadata() == {"about": "an example", "注": "例"}


def test_we_read_what_it_writes(path):
    expected = arrays()
    safetensors.numpy.save_file(expected, path, {"about": "an example"})
    found = tg.io.load_safetensors(path)
    assert set(found) == set(expected) and tg.io.safetensors_header(path).metadata == {"about": "an example"}
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        np.testing.assert_array_equal(found[name].array, value)


def test_the_same_arrays_make_the_same_file(path, tmp_path):
    """Where the names are in the order that the package sorts by."""
    state = {"a": np.ones((2, 3), np.float64), "b": np.ones(5, np.float32), "c": np.ones(3, np.int8)}
    tg.io.save_safetensors(state, path)
    safetensors.numpy.save_file(state, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_bfloat16_of_pytorch_is_read_as_the_same_numbers(path):
    value = torch.randn(2, 7).bfloat16()
    safetensors.torch.save_file({"x": value, "y": torch.tensor(1.5)}, path)
    np.testing.assert_array_equal(tg.io.load_safetensors(path)["x"].array, value.float().numpy())


def test_it_reads_the_weights_of_nested_state(path):
    model = tg.nn.Sequential(tg.nn.Linear(2, 3), tg.nn.BatchNorm1d(3))
    tg.save({"model": model.state_dict(), "losses": [1.0, float("nan")], 3: (tg.ones(1), None)}, path)
    found = safetensors.torch.load_file(path)
    assert set(found) == {*(f"model.{name}" for name in model.state_dict()), "3.0"}
    assert found["model.0.weight"].tolist() == model[0].weight.tolist()


def reference(content):
    """What the package reads, or None where it refuses."""
    try:
        return dict(safetensors.deserialize(content))
    except Exception as failure:
        assert type(failure).__name__ == "SafetensorError"
        return None


@pytest.mark.parametrize("name", FAULTS)
def test_both_refuse_the_same_faults(name):
    assert (reference(FAULTS[name][0]) is None) == (name not in STRICTER)


def test_both_agree_about_changed_files(path):
    """1,000 files with a few bytes changed, most of them in the header."""
    state = {"w": np.arange(3, dtype=np.float32), "long": np.zeros((2, 0), np.int64), "b": np.ones(2, np.float16)}
    tg.io.save_safetensors(state, path, {"about": "an example"})
    with open(path, "rb") as file:
        whole = file.read()
    rng = random.Random(0)
    alphabet = b'0123456789{}[],:" FIUBOLdtyp_-e.\\\0\xff'
    accepted = 0
    for _ in range(1000):
        changed = bytearray(whole)
        for _ in range(rng.choice([1, 1, 2, 3])):
            changed[rng.randrange(len(whole))] = rng.choice(alphabet)
        with open(path, "wb") as file:
            file.write(changed)
        expected = reference(bytes(changed))
        try:
            found = tg.io.load_safetensors(path)
        except StateError as failure:
            assert "TG-F005" in str(failure) and "a.safetensors" in str(failure)
            assert expected is None or "unknown dtype" in str(failure) or "not just dtype" in str(failure)
            continue
        accepted += 1
        assert expected is not None and set(found) == set(expected)
        for name, value in found.items():
            assert list(value.shape) == expected[name]["shape"]
            if expected[name]["dtype"] != "BF16":
                assert value.array.tobytes() == bytes(expected[name]["data"])
    assert 30 < accepted < 970
