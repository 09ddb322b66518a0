"""What a value that a reader returns must fulfil, whatever the file was: parts that fit together, numbers in their range, nothing but data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...core.tensor import Tensor
from ...data import formats
from ...data.text import SubwordTokenizer, Vocabulary
from .sizes import PIXELS


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
            check_array(item.array if isinstance(item, Tensor) else item)
        else:
            assert item is None or isinstance(item, (bool, int, float, str, bytes, np.dtype, np.generic, Path)), type(item)


def check_array(array: np.ndarray) -> None:
    assert array.dtype.kind in "biuf" and array.dtype.isnative
    assert len(array.tobytes()) == array.nbytes == array.size * array.itemsize


def check_sound(sound: formats.Sound) -> None:
    assert sound.samples.dtype == np.float32 and sound.samples.ndim == 2 and sound.samples.flags.c_contiguous
    assert np.isfinite(sound.samples).all() and sound.rate >= 1 and sound.bits in (8, 16, 24, 32, 64)
    assert sound.bits > 32 or np.abs(sound.samples).max(initial=0) <= 1 or sound.bits == 32


def check_annotation(found: formats.Annotation) -> None:
    assert found.boxes.shape == (len(found.names), 4) and found.difficult.shape == (len(found.names),)
    assert min(found.size) >= 1 and all(found.names)
    assert (found.boxes >= 0).all() and (found.boxes <= [*found.size, *found.size]).all()
    assert (found.boxes[:, :2] < found.boxes[:, 2:]).all()


def check_trees(found: list[formats.Tree]) -> None:
    for tree in found:
        assert len(tree.labels) == len(tree.children) and 0 <= tree.labels.min() and tree.labels.max() < 5
        assert [below for below in tree.children if not below] == [()] * len(tree.words)
        assert all(child < node for node, below in enumerate(tree.children) for child in below)
        assert sorted(child for below in tree.children for child in below) == list(range(len(tree.children) - 1))


def check_game(game: formats.Game) -> None:
    assert 1 <= game.size <= 52 and np.isfinite(game.komi) and game.handicap >= 0
    points = [*game.black, *game.white, *[move.point for move in game.moves if move.point is not None]]
    assert all(0 <= x < game.size and 0 <= y < game.size for x, y in points)
    assert {move.colour for move in game.moves} <= {"B", "W"}


def check_rows(rows: list[list[str]]) -> None:
    assert len({len(row) for row in rows}) <= 1


def check_series(columns: dict[str, np.ndarray]) -> None:
    assert len({len(column) for column in columns.values()}) == 1
    assert all(np.isfinite(column).all() and column.dtype == np.float64 for column in columns.values())


def check_pairs(pairs: list[tuple[str, str]]) -> None:
    assert [left for left, _ in pairs] == ["one", "two", "three"]


def check_image(array: np.ndarray) -> None:
    assert array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.dtype in (np.uint8, np.uint16)
    assert array.shape[1] * array.shape[2] <= PIXELS
    check_array(array)


def check_vocabulary(vocabulary: Vocabulary) -> None:
    assert len(vocabulary) == len(vocabulary.tokens) == len(vocabulary.counts)
    assert [vocabulary[token] for token in vocabulary.tokens] == list(range(len(vocabulary)))


def check_subwords(tokenizer: SubwordTokenizer) -> None:
    assert all(left and right for left, right in tokenizer.merges)
    check_plain(tokenizer("abc 犬猫"))


def check_tensors(found: dict[str, Tensor]) -> None:
    assert all(isinstance(name, str) and type(value) is Tensor for name, value in found.items())
    check_plain(found)
