"""Damaged and hostile files do no harm, whichever reader gets them, and the check that says so finds each kind of harm.

About 2,000 files here; ``python -m tinygrad_ja.testing.mangle`` tries 10,000, in about a minute, and prints a table.
"""

from __future__ import annotations

import gzip
import json
import pickle
import re
import socket
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from pathlib import Path
from random import Random

import numpy as np
import pytest
from format_files import idx, written

import tinygrad_ja as tg
from tinygrad_ja.data import formats
from tinygrad_ja.errors import StateError
from tinygrad_ja.io.files import damaged
from tinygrad_ja.testing.mangle import READERS, Reader, mangled, run, trial, usable_readers
from tinygrad_ja.testing.mangle.__main__ import main
from tinygrad_ja.testing.mangle.changes import BINARY, TEXT
from tinygrad_ja.testing.mangle.seeds import HOSTILE
from tinygrad_ja.testing.time_limit import time_limit

FILES = 110  # for each reader


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_do_no_harm(name, tmp_path):
    if name not in usable_readers():
        pytest.skip(f"{READERS[name].package} is not installed")
    for data in trial.whole_files(name):
        assert run(name, data, tmp_path).fault == ""
    outcomes = [run(name, mangled(name, number), tmp_path) for number in range(FILES)]
    assert {number: outcome.fault for number, outcome in enumerate(outcomes) if outcome.fault} == {}
    assert sum([not outcome.accepted for outcome in outcomes]) > FILES // 5


@pytest.mark.parametrize("name", usable_readers())
def test_whole_files_are_accepted(name, tmp_path):
    outcomes = [run(name, data, tmp_path).accepted for data in trial.whole_files(name)]
    hostile = len(HOSTILE) if name == "PyTorch" else 0
    assert outcomes == [True] * (len(outcomes) - hostile) + [False] * hostile


def test_a_reader_a_number_and_a_seed_give_the_same_file_and_others_another():
    for name in usable_readers():
        files = [mangled(name, number) for number in range(10)]
        trial.whole_files.cache_clear()
        assert files == [mangled(name, number) for number in range(10)]
        assert len(set(files)) > 5 and files != [mangled(name, number, seed=1) for number in range(10)]


@pytest.mark.parametrize(
    "change", sorted({*BINARY, *TEXT}, key=lambda change: change.__name__), ids=lambda change: change.__name__
)
@pytest.mark.parametrize("data", [b"\0", b"a", b"[1]", b'<a b="c">10</a>', bytes(range(256))])
def test_every_change_takes_any_file_and_changes_most(change, data):
    made = [change(data, Random(number), [b"word"]) for number in range(20)]
    assert all(isinstance(content, bytes) for content in made)
    assert any(content != data for content in made) or len(data) == 1


@pytest.mark.parametrize("read", [name for name in formats.__all__ if name.startswith("read_")])
def test_every_reader_of_a_format_is_among_those_that_are_tried(read):
    source = Path(sys.modules[Reader.__module__].__file__).read_text(encoding="utf-8")
    under_others = {"read_content", "read_text", "read_lines"}  # read_table and read_pairs go through them
    assert f"formats.{read}" in source or read in under_others


# ---- the check finds harm


def judged(monkeypatch, folder, read, check=lambda value: None, declared=len, data=b"data"):
    """What ``run`` says about a reader made for the test."""
    monkeypatch.setitem(READERS, "new", Reader(lambda: [data], read, check, declared))
    return run("new", data, folder).fault


def refuse(path):
    raise damaged(path, "new", "a fault")


def test_a_reader_that_refuses_or_accepts_well_has_no_fault(monkeypatch, tmp_path):
    assert judged(monkeypatch, tmp_path, refuse) == ""
    assert judged(monkeypatch, tmp_path, Path.read_bytes) == ""


def raising(path):
    zlib.decompress(path.read_bytes())


def nameless(path):
    raise damaged("another", "new", "a fault")


def talkative(path):
    raise StateError(f"{path} {'a' * 3000}")


def unlimited(path):
    return np.zeros(500_000, np.uint8)


def writing(path):
    path.with_name("exploded").write_text("x")


def looking_elsewhere(path):
    with open("/etc/hostname"):
        return ""


def connecting(path):
    with socket.socket() as made:
        made.settimeout(0.01)
        made.connect_ex(("127.0.0.1", 9))


def starting(path):
    subprocess.run([sys.executable, "-c", ""], check=True)


def calculating(path):
    return eval("1 + 1")


def unpickling(path):
    return pickle.loads(pickle.dumps(Path))


@pytest.mark.parametrize(
    "read, match",
    [
        (raising, "error in test_mangled_files.py"),
        (nameless, "does not name the file"),
        (talkative, "characters"),
        (unlimited, "bytes of memory"),
        (writing, "open"),
        (looking_elsewhere, "open"),
        (connecting, "socket.connect"),
        (starting, "subprocess.Popen"),
        (calculating, "compile"),
        (unpickling, "pickle.find_class"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_kind_of_harm_is_found(read, match, monkeypatch, tmp_path):
    assert re.search(match, judged(monkeypatch, tmp_path, read))


def test_a_reader_that_does_not_end_is_stopped(monkeypatch, tmp_path):
    monkeypatch.setattr(trial, "SECONDS", 0.1)

    def endless(path):
        while True:
            try:
                time.sleep(1)
            except Exception:
                continue

    assert judged(monkeypatch, tmp_path, endless) == "it took more than 0.1 seconds"


def test_a_value_whose_parts_do_not_fit_is_a_fault(monkeypatch, tmp_path):
    def check(value):
        assert value == b"other"

    assert "its value is wrong" in judged(monkeypatch, tmp_path, Path.read_bytes, check)


def test_the_command_prints_a_table_and_fails_on_harm(monkeypatch, capsys, tmp_path):
    assert main(["--files", "6", "--only", "IDX", "trees"]) == 0
    printed = capsys.readouterr().out
    assert "| IDX | 3 |" in printed and "6 files, 0 faults" in printed
    monkeypatch.setitem(READERS, "IDX", READERS["IDX"]._replace(read=lambda path: 1 // 0, check=lambda value: None))
    assert main(["--only", "IDX", "--number", "1", "--keep", str(tmp_path / "one")]) == 1
    assert (tmp_path / "one").read_bytes() == mangled("IDX", 1)


# ---- files that once did harm


def refused(read, path) -> str:
    with pytest.raises(StateError) as caught:
        read(path)
    assert path.name in str(caught.value)
    return str(caught.value)


def with_tree(path: Path, tree: str) -> Path:
    """A file of ``tg.save`` whose tree is another, under its right checksum."""
    tg.save({"w": tg.zeros(2)}, path)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    header["__metadata__"].update(tree=tree, tree_crc32=f"{zlib.crc32(tree.encode()):08x}")
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
    return path


def test_keys_of_keys_and_deep_descriptions_in_a_tree_are_refused(tmp_path):
    for depth in (20, 100, 200, 250, 300, 320):
        refused(tg.load, with_tree(tmp_path / "a", '{"$dict":[[' * depth + "1" + ",2]]}" * depth))
    for depth in (700, 800, 850, 880, 900):
        refused(
            tg.load, with_tree(tmp_path / "a", '{"$tuple":[' * 50 + '{"$tensor":' + "[" * depth + "]" * depth + "}" + "]}" * 50)
        )


def with_pickle(path: Path, code: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", code)
        file.writestr("archive/data/0", bytes(8))
    return path


STORAGE = b"(X\x07\x00\x00\x00storagectorch.storage\nUntypedStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x08tQ"


@pytest.mark.parametrize(
    "code",
    [
        b"ctorch._utils\n_rebuild_tensor_v3\n(" + STORAGE + b"K\x00(K\x04t(K\x01t\x89NX\x06\x00\x00\x00uint16tR.",
        b"ctorch\nSize\n.",
        STORAGE + b".",
        b"](ctorch\nFloatStorage\nK\x01e.",
    ],
    ids=["dtype that is a text", "function", "storage", "type in a list"],
)
def test_a_pickle_gives_tensors_and_values_or_nothing(code, tmp_path):
    refused(tg.io.load_torch, with_pickle(tmp_path / "a.pt", b"\x80\x02" + code))


@pytest.mark.parametrize("text", ["x" + " " * 500_000 + "y", "(1 (0 a)" + " " * 500_000 + "("])
def test_long_blanks_in_a_tree_do_not_hang_the_reader(text, tmp_path):
    """Reading each blank once for each blank before it, 10^11 steps, would not end within the limit."""
    path = written(tmp_path, "a.txt", text.encode())
    with time_limit(60):
        refused(formats.read_trees, path)


def test_a_compressed_array_is_in_memory_once_while_it_is_read(tmp_path):
    content = idx(np.zeros((1000, 1000), np.uint8))
    assert run("IDX", gzip.compress(content), tmp_path).factor < 1.5


@pytest.mark.parametrize("width", [1, 3])
def test_samples_are_in_memory_twice_at_most_while_they_are_read(width, tmp_path):
    body = bytes(600_000)
    described = struct.pack("<HHIIHH", 1, 1, 8000, 8000 * width, width, 8 * width)
    chunks = b"fmt " + struct.pack("<I", 16) + described + b"data" + struct.pack("<I", len(body)) + body
    outcome = run("WAV", b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks, tmp_path)
    assert outcome.accepted and outcome.factor < 1.8


def test_a_member_of_negative_size_is_refused_when_the_archive_is_read(tmp_path):
    head = bytearray(tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT))
    head[124:136] = b"\xff" * 10 + b"\xfe\0"
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    refused(formats.read_archive, written(tmp_path, "a.tar.gz", gzip.compress(bytes(head) + bytes(1024))))


GROWTH = """
import sys
import numpy as np, onnx
from onnx import helper, numpy_helper
from tinygrad_ja.io import load_onnx

def most_resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

def write(path, elements):
    weight = numpy_helper.from_array(np.zeros(elements, np.float32), "w")
    output = helper.make_tensor_value_info("y", 1, None)
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [output], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)

if sys.argv[2] == "write":
    write(sys.argv[1], 12_000_000)
else:
    write(sys.argv[1] + ".small", 1)
    load_onnx(sys.argv[1] + ".small")
    before = most_resident()
    load_onnx(sys.argv[1])
    print((most_resident() - before) / 48_000_000)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells how much memory a program has had")
def test_a_large_constant_of_an_onnx_file_is_in_memory_twice_at_most(tmp_path):
    pytest.importorskip("onnx")
    for step in ("write", "load"):
        command = [sys.executable, "-c", GROWTH, str(tmp_path / "a.onnx"), step]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert 0.9 < float(printed) < 2.2


def test_an_error_stays_short_however_long_the_names_in_a_file_are(tmp_path):
    onnx_files = pytest.importorskip("onnx_files")
    nodes = [onnx_files.node("Foo" * 10_000, ["x"], ["y"])]
    assert len(refused(tg.io.load_onnx, onnx_files.written(tmp_path / "a.onnx", nodes, ["x"]))) < 500
    table = written(tmp_path, "a.csv", b"a," * 100_000 + b"a\n")
    assert len(refused(formats.read_series, table)) < 1500


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["streams"]["python"].pop("words"),
        lambda state: state["dice"].update(has_uint32=2**70),
        lambda state: state["dice"].update(bit_generator="other"),
        lambda state: state["optimizer"].pop("param_groups"),
        lambda state: state.update(other=state.pop("model")),
        lambda state: state["model"].update({"a" * 10_000: state["model"].pop("weight")}),
    ],
    ids=["words", "large number", "other generator", "no groups", "other part", "long name"],
)
def test_a_checkpoint_that_does_not_fit_is_named(change, tmp_path):
    def parts():
        model = tg.nn.Linear(2, 2)
        return {"model": model, "optimizer": tg.optim.Adam(model.parameters()), "dice": np.random.default_rng(0)}

    path = tg.io.Checkpoints(tmp_path, parts()).save(1)
    state = tg.load(path)
    change(state)
    tg.save(state, path)
    assert len(refused(tg.io.Checkpoints(tmp_path, parts()).restore, path)) < 2000
