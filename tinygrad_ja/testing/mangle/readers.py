"""Every reader of files from strangers: whole files, how it is called, what its value must fulfil, how much memory it may take."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...data import formats
from ...data.text import SubwordTokenizer, Vocabulary
from ...io import Checkpoints, load, load_onnx, load_safetensors, load_torch
from ...io.archive import load_tree
from ...ops.creation import from_numpy
from . import seeds, words
from .changes import BINARY, TEXT, Change
from .frames import Frame, in_gzip, in_pickle, in_protobuf, in_riff, in_safetensors, in_tar, in_tree, in_zip
from .onnx_seeds import onnx
from .sizes import (
    ELEMENTS,
    PIXELS,
    contents,
    graph,
    header_and_tensors,
    members,
    objects,
    pickle_and_storages,
    pixels_and_chunks,
    samples,
)
from .values import (
    check_annotation,
    check_array,
    check_game,
    check_image,
    check_pairs,
    check_plain,
    check_rows,
    check_series,
    check_sound,
    check_subwords,
    check_tensors,
    check_trees,
    check_vocabulary,
)


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


# -- calls that are more than a function's name


def _pairs(path: Path) -> Any:
    beside = path.with_name("beside.txt")
    return formats.read_pairs(beside, path)


def _archive_members(path: Path) -> Any:
    archive = formats.read_archive(path, 1 << 24)
    return {name: archive[name] for name in archive}


def _restored(path: Path) -> Any:
    """Restore a checkpoint into parts that are whole before."""
    with seeds.fixed_streams():
        parts = seeds.checkpoint_parts()
        restored = Checkpoints(path.parent / "run", parts).restore(path)
    return restored, parts["model"].state_dict(), parts["optimizer"].state_dict()


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


READERS: dict[str, Reader] = {
    "safetensors": Reader(
        seeds.safetensors, load_safetensors, check_tensors, header_and_tensors, [in_safetensors], words.HEADER, text=True
    ),
    "tg.load": Reader(
        seeds.archive, _loaded, check_plain, header_and_tensors, [in_tree, in_tree, in_safetensors], words.TREE, text=True
    ),
    "checkpoint": Reader(
        seeds.checkpoint,
        _restored,
        check_plain,
        lambda data: header_and_tensors(data) + 30_000,
        [in_tree],
        words.TREE,
        text=True,
    ),
    "PyTorch": Reader(seeds.torch, load_torch, check_plain, pickle_and_storages, [in_zip, in_pickle, in_pickle], words.PICKLE),
    "ONNX": Reader(onnx, _result, check_plain, graph, [in_protobuf], words.ONNX, package="onnx"),
    "IDX": Reader(seeds.idx, formats.read_idx, check_array, contents, [in_gzip]),
    "WAV": Reader(seeds.wav, formats.read_wav, check_sound, samples, [in_riff, in_gzip], words.WAV),
    "VOC": Reader(seeds.voc, formats.read_voc, check_annotation, objects(), [], words.XML, text=True),
    "trees": Reader(seeds.trees, formats.read_trees, check_trees, objects(64), [in_gzip], words.TREES, text=True),
    "SGF": Reader(
        seeds.sgf,
        formats.read_sgf,
        check_game,
        objects(64),
        [],
        words.SGF,
        text=True,
    ),
    "JSON lines": Reader(
        seeds.json_lines,
        lambda path: list(formats.read_json_lines(path)),
        check_plain,
        objects(),
        [in_gzip],
        words.JSON,
        text=True,
    ),
    "pairs": Reader(seeds.lines, _pairs, check_pairs, objects(), [in_gzip], words.LINES, text=True),
    "table": Reader(
        seeds.table,
        lambda path: list(formats.read_table(path)),
        check_rows,
        objects(),
        [],
        words.TABLE,
        text=True,
    ),
    "series": Reader(seeds.series, formats.read_series, check_series, objects(), [], words.SERIES, text=True),
    "zip": Reader(seeds.zipped, _archive_members, check_plain, members, [in_zip], words.ZIP),
    "tar": Reader(seeds.tarred, _archive_members, check_plain, members, [in_tar, in_gzip], words.TAR),
    "image": Reader(
        seeds.image,
        lambda path: formats.read_image(path, pixels=PIXELS),
        check_image,
        pixels_and_chunks,
        words=words.IMAGE,
        package="PIL",
    ),
    "vocabulary": Reader(seeds.vocabulary, Vocabulary.load, check_vocabulary, objects(), [], words.JSON, text=True),
    "subwords": Reader(seeds.subwords, SubwordTokenizer.load, check_subwords, objects(), [], words.JSON, text=True),
}
"""Each reader by the name of what it reads."""
