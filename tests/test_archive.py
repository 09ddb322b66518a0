"""tg.save and tg.load: nothing is lost, nothing runs."""

from __future__ import annotations

import errno
import json
import math
import os
import pickle
import random
import re
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the device
from tinygrad_ja import nn
from tinygrad_ja.errors import ArgumentError, StateError
from tinygrad_ja.io.archive import load_tree


def equal(a, b):
    """The same type and value, through dicts, lists and tuples; NaN is itself; -0.0 is not 0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(type(x) is type(y) and equal(a[x], b[y]) for x, y in zip(a, b))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b))
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, tg.Tensor):
        return a.dtype is b.dtype and a.shape == b.shape and a.array.tobytes() == b.array.tobytes()
    return a == b


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())) | st.just(2**70)
KEYS = st.text(max_size=4) | st.integers() | st.sampled_from(["$tensor", "$tuple", "a.b", "__metadata__", "\ud800"])
TENSORS = st.sampled_from(["float32", "int64", "bool", "float16", "uint8"]).flatmap(
    lambda dtype: st.lists(st.integers(0, 2), max_size=3).map(lambda shape: tg.tensor(np.ones(shape, dtype)))
)
STATES = st.recursive(
    PLAIN | TENSORS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=12,
)


@given(state=STATES)
def test_any_nested_state_comes_back_as_it_was(tmp_path_factory, state):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    tg.save(state, path)
    assert equal(tg.load(path), state)


def test_a_training_state_comes_back_as_it_was(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    optimizer = tg.optim.Adam(model.parameters(), lr=0.1)
    model(tg.randn(4, 2)).sum().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "best": float("inf"), "where": (3, None)}
    tg.save(state, tmp_path / "a.safetensors")
    assert equal(tg.load(tmp_path / "a.safetensors"), state)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_arrays_come_back_as_tensors_and_subclasses_as_plain_containers(tmp_path):
    path = tmp_path / "a.safetensors"
    big_endian = np.arange(3, dtype=">i4")
    strided = np.arange(6.0).reshape(2, 3).T
    tg.save(OrderedDict(a=big_endian, b=strided, c=np.float32(2.5), d=np.int64(7)), path)
    back = tg.load(path)
    assert type(back) is dict
    assert back["a"].dtype is tg.int32 and back["a"].tolist() == [0, 1, 2]
    assert back["b"].tolist() == strided.tolist() and back["b"].array.flags.c_contiguous
    assert back["c"].shape == () and back["c"].item() == 2.5 and back["d"].dtype is tg.int64


def test_tensors_are_named_by_their_path_and_names_that_collide_get_a_number(tmp_path):
    path = tmp_path / "a.safetensors"
    state = {"a": {"b": tg.tensor(1)}, "a.b": tg.tensor(2), "list": [tg.tensor(3)], "__metadata__": tg.tensor(4)}
    tg.save(state, path)
    found = {name: value.item() for name, value in tg.io.load_safetensors(path).items()}
    assert found == {"a.b": 1, "a.b~2": 2, "list.0": 3, "__metadata__~2": 4}
    assert equal(tg.load(path), state)


def test_the_tree_can_be_read_without_the_arrays(tmp_path):
    tg.save({"w": tg.ones(3), "step": 5, "pair": (tg.ones(1), 2)}, tmp_path / "a.safetensors")
    assert load_tree(tmp_path / "a.safetensors") == {"w": None, "step": 5, "pair": (None, 2)}


def test_loading_does_not_share_memory_with_anything(tmp_path):
    path = tmp_path / "a.safetensors"
    tg.save({"a": tg.zeros(2)}, path)
    first, second = tg.load(path), tg.load(path)
    first["a"].array[0] = 1.0
    assert second["a"].tolist() == [0.0, 0.0] == tg.load(path)["a"].tolist()


# ---- what cannot be saved


def endless():
    made = []
    made.append(made)
    return made


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"x": object()}, r"state\['x'\] of type object"),
        ({"f": [lambda: 0]}, r"state\['f'\]\[0\] of type function"),
        ({"d": {(1, 2): 3}}, r"state\['d'\] with the key \(1, 2\)"),
        ({1.5: 3}, "with the key 1.5"),
        (b"bytes", "of type bytes"),
        (3j, "of type complex"),
        ({"a": np.ones(2, complex)}, "complex128"),
        (np.array([None]), "object"),
        (endless(), "nested 101 deep"),
    ],
)
def test_what_cannot_be_saved_is_named_and_the_old_file_stays(tmp_path, state, words):
    path = tmp_path / "a.safetensors"
    tg.save({"x": 1}, path)
    with pytest.raises(ArgumentError, match=words):
        tg.save(state, path)
    assert tg.load(path) == {"x": 1} and len(list(tmp_path.iterdir())) == 1


# ---- damaged and foreign files


def test_a_damaged_file_is_refused_wherever_it_is_cut(tmp_path):
    path = tmp_path / "a.safetensors"
    tg.save({"w": tg.randn(50), "n": 1}, path)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 13), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(StateError, match=r"TG-F005.*a\.safetensors"):
            tg.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(StateError, match="TG-F005"):
        tg.load(path)


def test_every_changed_byte_is_noticed(tmp_path):
    """But for the blanks that pad the header."""
    path = tmp_path / "a.safetensors"
    state = {"w": tg.randn(20), "n": [1, 2.5], "text": "text", "k": tg.tensor(3)}
    tg.save(state, path)
    whole = path.read_bytes()
    rng = random.Random(0)
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        try:
            back = tg.load(path)
        except StateError as failure:
            assert "a.safetensors" in str(failure)
        else:
            assert whole[position : position + 1] == b" " and equal(back, state)


def rewritten(path, change):
    """Write the file anew with ``change`` applied to the metadata, and right sizes."""
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    change(header["__metadata__"])
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ('{"$tensor": ["v", "F32", [2], 0]}', "tensor 'v' of the tree is not there"),
        ('{"$tensor": ["w", "F32", [2], 0]}', "checksum of tensor 'w'"),
        ('{"$tensor": ["w", "I32", [2], 1]}', "tensor 'w'"),
        ('{"$tensor": "w"}', "of the tree is not there"),
        ('{"$tensor": [["w"]]}', "of the tree is not there"),
        ("3", "the tree does not name tensor 'w'"),
        ('{"$code": "import os"}', "'\\$code' in the tree has no meaning"),
        ('{"$tuple": [], "a": 1}', "'\\$tuple' in the tree has no meaning"),
        ('{"$tuple": 3}', "no meaning"),
        ('{"$dict": [[1]]}', "no meaning"),
        ('{"$dict": [[[1], 2]]}', "no meaning"),
        ('{"$dict": [[{"$tensor": ["w"]}, 2]]}', "no meaning"),
        ('{"$float": "1e5"}', "no meaning"),
        ('{"$int": "5"}', "no meaning"),
        ('{"$int": "0xfg"}', "no meaning"),
        ("NaN", "NaN is no number of JSON"),
        ('{"a": 1, "a": 2}', "comes twice"),
        ("[" * 200 + "]" * 200, "more than 100 deep"),
        ("[" * 100_000, "JSON text is not valid"),
        ("{", "JSON text is not valid"),
    ],
)
def test_a_tree_without_meaning_is_refused(tmp_path, tree, words):
    path = tmp_path / "a.safetensors"
    tg.save({"w": tg.zeros(2)}, path)
    rewritten(path, lambda metadata: metadata.update(tree=tree, tree_crc32=f"{zlib.crc32(tree.encode()):08x}"))
    with pytest.raises(StateError, match=rf"TG-F005.*a\.safetensors.*{words}"):
        tg.load(path)


def test_the_version_and_the_checksum_of_the_tree_are_looked_at(tmp_path):
    path = tmp_path / "a.safetensors"
    tg.save([1], path)
    rewritten(path, lambda metadata: metadata.update(tree="[2]"))
    with pytest.raises(StateError, match="tree does not have its checksum"):
        tg.load(path)
    tg.save([1], path)
    rewritten(path, lambda metadata: metadata.update(version="9"))
    with pytest.raises(StateError, match="version is '9'"):
        tg.load(path)


def foreign_files(folder: Path) -> dict[str, tuple[bytes, str]]:
    """Name -> content, and what the error must say."""
    np.savez(folder / "x.npz", a=np.ones(2))
    np.save(folder / "x.npy", np.ones(2))
    tg.io.save_torch({"a": tg.ones(1)}, folder / "x.pt")
    tg.io.save_safetensors({"a": tg.ones(1)}, folder / "x.safetensors")
    return {
        "numpy.npz": ((folder / "x.npz").read_bytes(), "zip archive.*numpy.load"),
        "numpy.npy": ((folder / "x.npy").read_bytes(), "array of NumPy.*numpy.load"),
        "torch.pt": ((folder / "x.pt").read_bytes(), "zip archive.*tg.io.load_torch"),
        "other.safetensors": ((folder / "x.safetensors").read_bytes(), "another program.*tg.io.load_safetensors"),
        "a.pickle": (pickle.dumps([1], protocol=2), "pickle.*may run any code"),
        "a.h5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 20, "HDF5.*h5py"),
        "a.gz": (b"\x1f\x8b" + b"\0" * 20, "gzip.*unpack"),
        "a.txt": (b"hello", "5 bytes"),
        "empty": (b"", "0 bytes"),
    }


def test_a_foreign_file_explains_itself(tmp_path, monkeypatch):
    for name, (content, words) in foreign_files(tmp_path).items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StateError, match=f"TG-F005.*{name}.*{words}"):
            tg.load(tmp_path / name)
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    with pytest.raises(StateError, match="zip アーカイブ.*load_torch で"):
        tg.load(tmp_path / "torch.pt")


def test_loading_never_runs_code(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    (tmp_path / "bomb").write_bytes(pickle.dumps(Bomb()))
    np.savez(tmp_path / "object.npz", header=np.array([Bomb()], dtype=object))
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb(), protocol=2))
    for name in ("bomb", "object.npz", "bomb.pt"):
        for read in (tg.load, tg.io.load_safetensors, tg.io.load_torch):
            with pytest.raises(StateError, match="TG-F005"):
                read(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_missing_files_and_folders(tmp_path):
    for read in (tg.load, tg.io.load_safetensors, tg.io.load_torch, tg.io.safetensors_header):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none.safetensors")
        with pytest.raises(StateError, match="folder"):
            read(tmp_path)


def test_tensors_of_another_device_come_and_go(tmp_path):
    path = tmp_path / "a.safetensors"
    tg.save({"w": tg.ones(2).to("strict")}, path)
    assert str(tg.load(path)["w"].device) == "cpu"
    assert tg.load(path, device="strict")["w"].device.type == "strict"


# ---- where writing fails -------------------------------------------------------------------------


def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    tg.save({"step": 1}, path)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched, pytest.raises(OSError, match=re.escape(str(path))) as caught:
        patched.setattr(os, "fsync", full)
        tg.save({"step": 2}, path)
    assert caught.value.errno == errno.ENOSPC
    assert tg.load(path) == {"step": 1} and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_missing_is_named(tmp_path):
    path = tmp_path / "none" / "a.safetensors"
    with pytest.raises(FileNotFoundError, match=re.escape(f"'{path.parent}'")):
        tg.save({"step": 1}, path)
