"""Every reader of files from strangers: whole files for it, how it is called, what its value must fulfil, how much memory a file may ask for."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...core.tensor import Tensor
from ...data import formats
from ...data.formats.content import EXPANSION
from ...data.text import SubwordTokenizer, Vocabulary
from ...io import Checkpoints, load, load_onnx, load_safetensors, load_torch
from ...io.archive import load_tree
from ...ops.creation import from_numpy
from . import seeds
from .changes import BINARY, TEXT, Change
from .frames import Frame, in_gzip, in_pickle, in_protobuf, in_riff, in_safetensors, in_tar, in_tree, in_zip
from .onnx_seeds import onnx

PIXELS = 1 << 16
"""The limit of pixels that the reader of images is given."""

ELEMENTS = 1 << 12
"""The limit of elements that an ONNX model is given when it runs."""

_OBJECTS = 32
"""Bytes of Python objects that a byte of text may declare: ``[]`` and a comma make a list of 56 bytes, its 16 of the collector and a place in
another list."""

_MEMBER = 1024
"""Bytes of Python objects for a member of an archive."""


class Reader(NamedTuple):
    """How one format is damaged and judged.

    files: whole files. read: reads a file. check: raises AssertionError for a value whose parts do not fit together.
    declared: how many bytes of memory a file declares and the reader checks. words: what means something in the format.
    text: whether people can read it. package: what the reader needs besides NumPy.
    """

    files: Callable[[], list[bytes]]
    read: Callable[[Path], Any]
    check: Callable[[Any], None]
    declared: Callable[[bytes], int]
    frames: Sequence[Frame] = ()
    words: Sequence[bytes] = ()
    text: bool = False
    package: str = ""

    @property
    def changes(self) -> Sequence[Change]:
        """The changes that suit the format."""
        return (*BINARY, *TEXT) if self.text else BINARY


def usable_readers() -> list[str]:
    """The names of the readers whose packages are installed."""
    return [name for name, reader in READERS.items() if not reader.package or importlib.util.find_spec(reader.package)]


# -- what a file declares


def contents(data: bytes) -> int:
    """Bytes of a file, or of what a gzip file declares in its last four bytes, which is checked against what its size can hold."""
    declared = int.from_bytes(data[-4:], "little") if data[:2] == b"\x1f\x8b" else 0
    return len(data) + (declared if declared <= EXPANSION * len(data) else 0)


def _objects(each: int) -> Callable[[bytes], int]:
    """``each`` bytes of Python objects for a byte of text."""
    return lambda data: each * contents(data)


def _samples(data: bytes) -> int:
    """A byte may be a sample, a float32."""
    return 5 * contents(data)


def _header_and_tensors(data: bytes) -> int:
    """Objects for the header, twice the bytes of the tensors, since bfloat16 becomes float32."""
    header = min(int.from_bytes(data[:8], "little"), len(data))
    return _OBJECTS * header + 2 * (len(data) - header)


def _members(data: bytes) -> int:
    """The file, and the sizes that its members declare, where a member of this size is possible."""
    sizes = [info.file_size for info in _listed(data) if info.file_size <= EXPANSION * info.compress_size]
    return contents(data) + sum(sizes) + _MEMBER * (len(sizes) + contents(data) // 512)


def _pickle_and_storages(data: bytes) -> int:
    """Objects for the pickle, as ``]`` makes a list, and the bytes of the storages, of which a bfloat16 becomes twice as many."""
    sizes = {info.filename: info.file_size for info in _listed(data)}
    pickled = sum([min(size, len(data)) for name, size in sizes.items() if name.endswith("data.pkl")])
    return 64 * pickled + 2 * len(data) + _MEMBER * len(sizes)


def _listed(data: bytes) -> list[zipfile.ZipInfo]:
    try:
        return zipfile.ZipFile(io.BytesIO(data)).infolist()
    except Exception:  # no zip archive, which declares nothing
        return []


def _graph(data: bytes) -> int:
    """Objects for the nodes, and four values of ``ELEMENTS`` elements while it runs."""
    return 64 * len(data) + 4 * 8 * ELEMENTS


# -- calls that are more than a function's name


def _pairs(path: Path) -> Any:
    beside = path.with_name("beside.txt")
    return formats.read_pairs(beside, path)


def _archive_members(path: Path) -> Any:
    archive = formats.read_archive(path, 1 << 24)
    return {name: archive[name] for name in archive}


def _restored(path: Path) -> Any:
    """Restore a checkpoint into parts that are whole before."""
    parts = seeds.checkpoint_parts()
    return Checkpoints(path.parent / "run", parts).restore(path), parts["model"].state_dict(), parts["optimizer"].state_dict()


def _loaded(path: Path) -> Any:
    """The state, after the tree alone."""
    load_tree(path)
    return load(path)


def _result(path: Path) -> Any:
    """What a model gives for ones of the shapes that it declares, free axes taken as 2; nothing for inputs above the limit."""
    model = load_onnx(path, max_elements=ELEMENTS, max_runs=300)
    repr(model)
    inputs = []
    for value in model.graph.inputs:
        shape = [n if isinstance(n, int) else 2 for n in value.shape or ()]
        if len(shape) > 32 or np.prod(shape, dtype=float) > ELEMENTS:
            return None
        inputs.append(from_numpy(np.ones(shape, value.dtype or np.float32)))
    with np.errstate(all="ignore"):
        return model(*inputs)


# -- what a value must fulfil


def check_plain(value: Any) -> None:
    """Tensors, arrays, numbers, texts and containers of them; every element of an array can be read."""
    waiting, seen = [value], set()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, (list, tuple)):
            waiting += item
        elif isinstance(item, (Tensor, np.ndarray)):
            _check_array(item.array if isinstance(item, Tensor) else item)
        else:
            assert item is None or isinstance(item, (bool, int, float, str, bytes, np.dtype, np.generic, Path)), type(item)


def _check_array(array: np.ndarray) -> None:
    assert array.dtype.kind in "biuf" and array.dtype.isnative
    assert len(array.tobytes()) == array.nbytes == array.size * array.itemsize


def _check_sound(sound: formats.Sound) -> None:
    assert sound.samples.dtype == np.float32 and sound.samples.ndim == 2 and sound.samples.flags.c_contiguous
    assert np.isfinite(sound.samples).all() and sound.rate >= 1 and sound.bits in (8, 16, 24, 32, 64)
    assert sound.bits > 32 or np.abs(sound.samples).max(initial=0) <= 1 or sound.bits == 32


def _check_annotation(found: formats.Annotation) -> None:
    assert found.boxes.shape == (len(found.names), 4) and found.difficult.shape == (len(found.names),)
    assert min(found.size) >= 1 and all(found.names)
    assert (found.boxes >= 0).all() and (found.boxes <= [*found.size, *found.size]).all()
    assert (found.boxes[:, :2] < found.boxes[:, 2:]).all()


def _check_trees(found: list[formats.Tree]) -> None:
    for tree in found:
        assert len(tree.labels) == len(tree.children) and 0 <= tree.labels.min() and tree.labels.max() < 5
        assert [below for below in tree.children if not below] == [()] * len(tree.words)
        assert all(child < node for node, below in enumerate(tree.children) for child in below)
        assert sorted(child for below in tree.children for child in below) == list(range(len(tree.children) - 1))


def _check_game(game: formats.Game) -> None:
    assert 1 <= game.size <= 52 and np.isfinite(game.komi) and game.handicap >= 0
    points = [*game.black, *game.white, *[move.point for move in game.moves if move.point is not None]]
    assert all(0 <= x < game.size and 0 <= y < game.size for x, y in points)
    assert {move.colour for move in game.moves} <= {"B", "W"}


def _check_rows(rows: list[list[str]]) -> None:
    assert len({len(row) for row in rows}) <= 1


def _check_series(columns: dict[str, np.ndarray]) -> None:
    assert len({len(column) for column in columns.values()}) == 1
    assert all(np.isfinite(column).all() and column.dtype == np.float64 for column in columns.values())


def _check_pairs(pairs: list[tuple[str, str]]) -> None:
    assert [left for left, _ in pairs] == ["one", "two", "three"]


def _check_image(array: np.ndarray) -> None:
    assert array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.dtype in (np.uint8, np.uint16)
    assert array.shape[1] * array.shape[2] <= PIXELS
    _check_array(array)


def _check_vocabulary(vocabulary: Vocabulary) -> None:
    assert len(vocabulary) == len(vocabulary.tokens) == len(vocabulary.counts)
    assert [vocabulary[token] for token in vocabulary.tokens] == list(range(len(vocabulary)))


def _check_subwords(tokenizer: SubwordTokenizer) -> None:
    assert all(left and right for left, right in tokenizer.merges)
    check_plain(tokenizer("abc 犬猫"))


def _check_tensors(found: dict[str, Tensor]) -> None:
    assert all(isinstance(name, str) and type(value) is Tensor for name, value in found.items())
    check_plain(found)


_JSON = [b"[]", b"{}", b",", b'"a":', b"null", b"1e999", b"-", b'"\\ud800"', b'"\\u0000"', b"NaN"]
_TREE = [b'{"$tensor":["w","F32",[1],0]}', b'{"$dict":[[', b'{"$int":"0xf"}', b'{"$float":"inf"}', b'"$tuple"', *_JSON]
_HEADER = [b'"data_offsets":[0,0]', b'"shape":[', b'"BF16"', b'"U64"', b'"__metadata__":{}', b"18446744073709551616", *_JSON]
_XML = [
    b'<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>',
    b'<!DOCTYPE a SYSTEM "file:///etc/passwd">',
    b'<?xml version="1.0" encoding="UTF-16"?>',
    *[b"&b;", b"&#0;", b"&#x110000;", b"&amp;", b"<![CDATA[", b"]]>", b"<object>", b"</object>", b"<!--", b"-->", b"<xmin>", b"xmlns=''"],
]
_PICKLE = [
    *[b"]", b"}", b"(", b")", b"t", b"\x85", b"\x86", b"\x87", b"e", b"u", b"q\x00", b"h\x00", b"R", b"b", b"Q", b"N", b"\x81", b"0", b"2"],
    *[b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch\nSize\n", b"ctorch\nfloat32\n", b"ctorch\nFloatStorage\n", b"i__main__\nx\n"],
    *[b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_tensor_v3\n", b"ccollections\nOrderedDict\n", b"."],
    *[b"J\xff\xff\xff\x7f", b"\x8a\x08" + b"\xff" * 7 + b"\x3f", b"X\xff\xff\xff\xff", b"\x8e" + b"\xff" * 8, b"G\x7f\xf8" + b"\0" * 6],
]

READERS: dict[str, Reader] = {
    "safetensors": Reader(
        seeds.safetensors, load_safetensors, _check_tensors, _header_and_tensors, [in_safetensors], _HEADER, text=True
    ),
    "tg.load": Reader(
        seeds.archive, _loaded, check_plain, _header_and_tensors, [in_tree, in_tree, in_safetensors], _TREE, text=True
    ),
    "checkpoint": Reader(
        seeds.checkpoint, _restored, check_plain, lambda data: _header_and_tensors(data) + 30_000, [in_tree], _TREE, text=True
    ),
    "PyTorch": Reader(seeds.torch, load_torch, check_plain, _pickle_and_storages, [in_zip, in_pickle, in_pickle], _PICKLE),
    "ONNX": Reader(onnx, _result, check_plain, _graph, [in_protobuf], [b"\x08\x01", b"\x12\x00", b"Loop", b"x"], package="onnx"),
    "IDX": Reader(seeds.idx, formats.read_idx, _check_array, contents, [in_gzip]),
    "WAV": Reader(seeds.wav, formats.read_wav, _check_sound, _samples, [in_riff, in_gzip], [b"fmt ", b"data", b"RIFF", b"LIST"]),
    "VOC": Reader(seeds.voc, formats.read_voc, _check_annotation, _objects(_OBJECTS), [], _XML, text=True),
    "trees": Reader(seeds.trees, formats.read_trees, _check_trees, _objects(64), [in_gzip], [b"(2 a)", b"(", b")", b" " * 70_000], text=True),
    "SGF": Reader(
        seeds.sgf, formats.read_sgf, _check_game, _objects(64), [], [b"AB[aa:ii]", b"[aa:ss]", b"SZ[52]", b"[]", b"\\", b"(;", b";B[tt]"], text=True
    ),
    "JSON lines": Reader(
        seeds.json_lines, lambda path: list(formats.read_json_lines(path)), check_plain, _objects(_OBJECTS), [in_gzip], _JSON, text=True
    ),
    "pairs": Reader(seeds.lines, _pairs, _check_pairs, _objects(_OBJECTS), [in_gzip], [b"\n", b"\r", b"\t"], text=True),
    "table": Reader(
        seeds.table, lambda path: list(formats.read_table(path)), _check_rows, _objects(_OBJECTS), [], [b",", b'"', b"\n", b"\r"], text=True
    ),
    "series": Reader(
        seeds.series, formats.read_series, _check_series, _objects(_OBJECTS), [], [b",", b'"', b"\n", b"nan", b"1_0"], text=True
    ),
    "zip": Reader(seeds.zipped, _archive_members, check_plain, _members, [in_zip], [b"PK\1\2", b"PK\3\4", b"PK\5\6", b"../"]),
    "tar": Reader(seeds.tarred, _archive_members, check_plain, _members, [in_tar, in_gzip], [b"../", b"\x80" + b"\xff" * 11, b"x", b"L"]),
    "image": Reader(
        seeds.image,
        lambda path: formats.read_image(path, pixels=PIXELS),
        _check_image,
        lambda data: len(data) + 4 * PIXELS,
        words=[b"IDAT", b"PLTE", b"tRNS", b"IHDR", b"\xff\xd8", b"\xff\xc0"],
        package="PIL",
    ),
    "vocabulary": Reader(seeds.vocabulary, Vocabulary.load, _check_vocabulary, _objects(_OBJECTS), [], _JSON, text=True),
    "subwords": Reader(seeds.subwords, SubwordTokenizer.load, _check_subwords, _objects(_OBJECTS), [], _JSON, text=True),
}
"""Each reader by the name of what it reads."""
