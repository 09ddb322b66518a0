"""Files of PyTorch read and written without PyTorch: what comes back, and every way in which a hostile file is refused."""

from __future__ import annotations

import pickle
import random
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the device
from tinygrad_ja import nn
from tinygrad_ja.errors import ArgumentError, StateError
from tinygrad_ja.io.files import Fault
from tinygrad_ja.io.pickle_reader import Function, unpickle
from tinygrad_ja.testing.time_limit import time_limit


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.pt"


# ---- what was written comes back


def test_a_state_dict_comes_back(path):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LSTM(4, 5))
    tg.io.save_torch(model.state_dict(), path)
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LSTM(4, 5))
    other.load_state_dict(tg.io.load_torch(path))
    for a, b in zip(model.state_dict().values(), other.state_dict().values()):
        assert a.dtype == b.dtype and a.tolist() == b.tolist()


def test_every_storage_begins_at_a_multiple_of_64_and_the_file_is_the_same_each_time(path, tmp_path):
    state = {"a": np.ones(3, np.uint8), "b": np.ones(5), "c": np.zeros(0), "d": np.ones((), np.uint16)}
    tg.io.save_torch(state, path)
    tg.io.save_torch(state, tmp_path / "again.pt")
    whole = path.read_bytes()
    assert whole == (tmp_path / "again.pt").read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        for member in archive.infolist():
            name, extra = struct.unpack_from("<HH", whole, member.header_offset + 26)
            assert (member.header_offset + 30 + name + extra) % 64 == 0


def test_tensors_go_where_they_are_asked_for(path):
    tg.io.save_torch({"a": tg.ones(2, device="strict")}, path)
    assert tg.io.load_torch(path, device="strict")["a"].device.type == "strict"
    assert tg.io.load_torch(path)["a"].device.type == "cpu"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"x": object()}, r"state\['x'\] of type object"),
        ([{(1, 2): 3}], r"state\[0\] with the key \(1, 2\)"),
        ({"n": 2**3000}, r"state\['n'\] of 376 bytes"),
        (b"bytes", "of type bytes"),
        ({"c": np.ones(1, complex)}, "complex128"),
    ],
)
def test_what_cannot_be_saved_is_named(path, state, words):
    with pytest.raises(ArgumentError, match=f"TG-A001.*save_torch.*{words}"):
        tg.io.save_torch(state, path)
    assert not path.exists()


def test_a_state_that_holds_itself_is_refused(path):
    state = []
    state.append(state)
    with pytest.raises(ArgumentError, match="nested 101 deep"):
        tg.io.save_torch(state, path)


# ---- the pickle machine

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(value=PLAIN, protocol=st.integers(2, 5))
def test_the_machine_agrees_with_pythons_pickle(value, protocol):
    found = unpickle(pickle.dumps(value, protocol=protocol), {}, lambda key: key)
    assert found == value and repr(found) == repr(value)


NAMES = {"builtins complex": Function(lambda *parts: ("complex", parts)), "builtins int": 3}


def test_a_listed_name_is_called():
    code = pickle.dumps(2j, protocol=2).replace(b"__builtin__", b"builtins")
    assert unpickle(code, NAMES, None) == ("complex", (0.0, 2.0))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (b"cos\nsystem\nX\x02\0\0\0ls\x85R.", "os.system, which is no plain data"),
        (b"\x8c\x02os\x8c\x06system\x93)R.", "os.system"),
        (b"cbuiltins\nint\n)R.", "called that is no function"),
        (b"cbuiltins\ncomplex\nNR.", "called that is no function"),
        (b"X\x02\0\0\0os)R.", "called that is no function"),
        (b"cbuiltins\ncomplex\n)\x81.", "instruction"),
        (b"(ios\nsystem\n.", "instruction"),
    ],
)
def test_nothing_else_is_called(code, words):
    with pytest.raises(Fault, match=words):
        unpickle(code, NAMES, None)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (b"", "ends after 0 bytes"),
        (b".", "makes no sense"),
        (b"N", "ends after 1 bytes"),
        (b"X\xff\xff\xff\xffa.", "ends after"),
        (b"X\x01\0\0\0\xff.", "makes no sense"),
        (b"\x8a\xff1.", "ends after"),
        (b"h\x07.", "makes no sense"),
        (b"q\x07.", "makes no sense"),
        (b"\x85.", "makes no sense"),
        (b"t.", "makes no sense"),
        (b"Na.", "makes no sense"),
        (b"NNNs.", "no dict"),
        (b"}(Nu.", "a key without a value"),
        (b"}]Ns.", "a key of type list"),
        (b"})Ns.", "a key of type tuple"),
        (b"cos", "makes no sense"),
        (b"cos\nsys", "makes no sense"),
        (b"]}b.", "an object with attributes"),
        (b"}Nb.", "an object with attributes"),
        (b"I1\n.", "instruction b'I'"),
        (b"K\x01Q.", "no storage"),
    ],
)
def test_a_pickle_that_makes_no_sense_is_a_fault(code, words):
    def no_storage(key):
        raise TypeError("no storage")

    with pytest.raises(Fault, match=words):
        unpickle(code, {}, no_storage)


def memory_until_refused(code):
    """Peak bytes of reading a pickle that must be refused."""
    tracemalloc.start()
    with time_limit(60), pytest.raises(Fault):
        unpickle(code, {}, lambda key: key)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_bombs_do_not_go_off():
    """Tuples of tuples that double at each level make a short pickle; hashing the last would take 2^60 steps."""
    doubling = b")" + b"".join(b"q%ch%ch%c\x86" % (i, i, i) for i in range(60))
    assert memory_until_refused(b"}" + doubling + b"Ns.") < 1_000_000
    assert memory_until_refused(b"\x8a\xff" * 1000) < 1_000_000
    assert memory_until_refused(b"]" * 20_000) < 6_000_000  # open lists
    assert memory_until_refused(b"(" * 20_000 + b"t" * 20_000) < 6_000_000


def test_a_list_that_holds_itself_and_deep_nesting_do_no_harm():
    found = unpickle(b"]q\0h\0a.", {}, None)
    assert found[0] is found
    deep = unpickle(b"]" * 50_000 + b"a" * 49_999 + b".", {}, None)
    assert type(deep) is list
    del deep


def test_the_number_of_instructions_is_limited(monkeypatch):
    monkeypatch.setattr("tinygrad_ja.io.pickle_reader._MOST_INSTRUCTIONS", 1000)
    with pytest.raises(Fault, match="more than 1000 instructions"):
        unpickle(b"N" * 2000, {}, None)


# ---- hostile archives


def tensor(storage="FloatStorage", key="0", count=4, offset=0, size="K\x04\x85", stride="K\x01\x85", module="torch"):
    """The pickle of one tensor."""
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagec"
        + f"{module}\n{storage}\n".encode()
        + b"X\x01\0\0\0"
        + key.encode()
        + b"X\x03\0\0\0cpuJ"
        + struct.pack("<i", count)
        + b"tQJ"
        + struct.pack("<i", offset)
        + size.encode("latin1")
        + stride.encode("latin1")
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def write(path, code, members=None, compression=zipfile.ZIP_STORED, root="archive"):
    """An archive with this pickle and 16 bytes in ``data/0``."""
    content = {"data.pkl": b"\x80\x02" + code + b".", "version": b"3\n", "data/0": np.arange(4, dtype="<f4").tobytes()}
    content.update(members or {})
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, value in content.items():
            if value is not None:
                archive.writestr(f"{root}/{name}", value)


def test_an_archive_made_by_hand_is_read(path):
    write(path, tensor())
    assert tg.io.load_torch(path).tolist() == [0.0, 1.0, 2.0, 3.0]
    write(path, tensor(size="K\x02K\x02\x86", stride="K\x01K\x02\x86"), {"byteorder": b"little"}, root="any name")
    assert tg.io.load_torch(path).tolist() == [[0.0, 2.0], [1.0, 3.0]]
    huge = "\x8a\x08\0\0\0\0\0\0\0\x10"
    write(path, tensor(size="K\x01K\x02K\x02\x87", stride=f"{huge}K\x01K\x02\x87"))
    assert tg.io.load_torch(path).tolist() == [[[0.0, 2.0], [1.0, 3.0]]]
    write(path, b"]" + tensor(size=")", stride=")", offset=2) + b"a" + tensor(size="K\x02\x85", offset=2) + b"a")
    assert [value.tolist() for value in tg.io.load_torch(path)] == [2.0, [2.0, 3.0]]


FAULTY = {
    "offset beyond": (tensor(offset=1), {}, "does not fit into its storage of 4 elements"),
    "negative offset": (tensor(offset=-1), {}, "no sizes"),
    "too large": (tensor(size="K\x05\x85"), {}, "does not fit"),
    "stride beyond": (tensor(size="K\x02\x85", stride="K\x04\x85"), {}, "does not fit"),
    "negative stride": (tensor(stride="J\xff\xff\xff\xff\x85"), {}, "no sizes"),
    "size and stride of other lengths": (tensor(stride=")"), {}, "no sizes"),
    "size is no tuple": (tensor(size="K\x04"), {}, "no sizes"),
    "size of 2^70": (tensor(size="\x8a\x09" + "\0" * 8 + "\x40\x85"), {}, "no sizes"),
    "product wraps": (tensor(size="\x8a\x08\0\0\0\0\0\0\0\x10\x8a\x08\0\0\0\0\0\0\0\x10\x86", stride="K\0K\0\x86"), {}, "fit"),
    "expanded": (tensor(size="M\xff\xff\x85", stride="K\0\x85"), {}, "does not fit"),
    "more elements than its storage": (tensor(size="K\x03K\x02\x86", stride="K\x01K\x01\x86"), {}, "does not fit"),
    "repeated inside": (tensor(size="K\x02\x85", stride="K\0\x85"), {}, "contiguous"),
    "size is true": (tensor(size="\x88\x85"), {}, "no sizes"),
    "65 dimensions": (tensor(size="(" + "K\x01" * 65 + "t", stride="(" + "K\x01" * 65 + "t"), {}, "no sizes"),
    "wrong count": (tensor(count=5), {}, "data/0 has 16 bytes, 5 elements of FloatStorage take 20"),
    "negative count": (tensor(count=-4), {}, "take -16"),
    "count of another dtype": (tensor(storage="DoubleStorage"), {}, "take 32"),
    "missing storage": (tensor(key="7"), {}, "'data/7' is missing"),
    "storage of two dtypes": (b"(" + tensor() + tensor(storage="IntStorage") + b"t", {}, "two dtypes"),
    "unknown storage": (tensor(storage="QInt8Storage"), {}, "torch.QInt8Storage"),
    "untyped without a dtype": (tensor(storage="UntypedStorage", module="torch.storage", count=16), {}, "typed storage"),
    "other rebuild": (b"ctorch._utils\n_rebuild_qtensor\n)R", {}, "_rebuild_qtensor.*state_dict"),
    "rebuild without arguments": (b"ctorch._utils\n_rebuild_tensor_v2\n)R", {}, "makes no sense"),
    "parameter of a number": (b"ctorch._utils\n_rebuild_parameter\nK\x01\x85R", {}, "a parameter without data"),
    "OrderedDict of a list": (b"ccollections\nOrderedDict\n]\x85R", {}, "makes no sense"),
    "code": (b"cos\nsystem\nX\x02\0\0\0ls\x85R", {}, "os.system"),
    "whole model": (b"c__main__\nNet\n)\x81", {}, "__main__.Net.*state_dict"),
    "big endian": (tensor(), {"byteorder": b"big"}, "byte order is b'big'"),
    "no pickle": (b"", {"data.pkl": None}, "no data.pkl"),
    "TorchScript": (tensor(), {"code/a.py": b"import os"}, "TorchScript"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_hostile_archive_is_refused(path, name):
    code, members, words = FAULTY[name]
    write(path, code, members)
    with pytest.raises(StateError, match=rf"TG-F005.*a\.pt.*{words}"):
        tg.io.load_torch(path)


def test_compressed_members_are_refused(path):
    """PyTorch never compresses, and a small file could become a large one."""
    write(path, tensor(count=2_500_000), {"data/0": bytes(10_000_000)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(StateError, match="is compressed"):
        tg.io.load_torch(path)


def test_members_that_overlap_are_refused(path):
    """A thousand names for the same bytes."""
    content = bytes(1000)
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 0, 0, 33, zlib.crc32(content), 1000, 1000, 1, 0) + b"a" + content
    names = [f"archive/data/{i}".encode() for i in range(1000)]
    entry = struct.pack("<IHHHHHHIII", 0x02014B50, 20, 20, 0, 0, 0, 33, zlib.crc32(content), 1000, 1000)
    central = b"".join(entry + struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, 0) + name for name in [*names, b"a/data.pkl"])
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1001, 1001, len(central), len(local), 0)
    path.write_bytes(local + central + end)
    with pytest.raises(StateError, match="its members together are larger"):
        tg.io.load_torch(path)


def test_an_archive_with_two_pickles_is_refused(path):
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a/data.pkl", "b/data.pkl"):
            archive.writestr(name, b"\x80\x02N.")
    with pytest.raises(StateError, match="no data.pkl, or several"):
        tg.io.load_torch(path)


def test_a_member_that_comes_twice_is_refused(path):
    write(path, tensor())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data/0", bytes(16))
    with pytest.raises(StateError, match="a member comes twice"):
        tg.io.load_torch(path)


def test_reading_takes_no_memory_beside_the_result(path):
    count = 1_000_000
    write(
        path, tensor(count=count, size="J" + struct.pack("<i", count).decode("latin1") + "\x85"), {"data/0": bytes(4 * count)}
    )
    tracemalloc.start()
    tg.io.load_torch(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * count + 1_500_000


def test_a_changed_or_cut_file_is_refused_or_is_the_same(path):
    """Every byte of the arrays and of the pickle is covered by a checksum; names and time stamps of the zip are not."""
    state = {"w": np.arange(6.0).reshape(2, 3), "n": [1, "text"]}
    tg.io.save_torch(state, path)
    whole = path.read_bytes()
    rng = random.Random(0)
    for length in range(0, len(whole), 61):
        path.write_bytes(whole[:length])
        with pytest.raises(StateError, match="TG-F005"):
            tg.io.load_torch(path)
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(rng.choice([1, 1, 4])):
            changed[rng.randrange(len(whole))] = rng.randrange(256)
        path.write_bytes(changed)
        try:
            found = tg.io.load_torch(path)
        except StateError as failure:
            assert "a.pt" in str(failure)
        else:
            assert found["n"] == state["n"] and found["w"].tolist() == state["w"].tolist()
