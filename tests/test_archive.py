"""tg.save and tg.load: nothing is lost, nothing runs."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, StateError


def test_nested_state_comes_back_as_it_was(tmp_path):
    state = {
        "model": {"w": tg.randn(2, 3), "n": tg.arange(3), "half": tg.ones(2, dtype=tg.float16), "flag": tg.tensor(True)},
        "steps": {0: {"step": 3}, 1: None},
        "mixed": [1, 2.5, "text", True, None, (1, 2), 2**100],
        "array": np.arange(4.0),
        "empty": tg.zeros(0, 3),
    }
    tg.save(state, tmp_path / "a.npz")
    back = tg.load(tmp_path / "a.npz")
    assert back["mixed"] == state["mixed"] and back["steps"] == state["steps"]
    for name, value in state["model"].items():
        assert back["model"][name].dtype == value.dtype and back["model"][name].tolist() == value.tolist()
    assert back["array"].tolist() == [0.0, 1.0, 2.0, 3.0] and back["empty"].shape == (0, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.npz"
    tg.save({"x": 1}, path)
    for bad in ({"x": object()}, {"f": lambda: 0}, {(1, 2): 3}):
        with pytest.raises(ArgumentError, match="state"):
            tg.save(bad, path)
    assert tg.load(path) == {"x": 1} and len(list(tmp_path.iterdir())) == 1


def test_a_damaged_file_is_refused_wherever_it_is_cut(tmp_path):
    path = tmp_path / "a.npz"
    state = {"w": tg.randn(50), "n": 1}
    tg.save(state, path)
    whole = path.read_bytes()
    for length in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(StateError, match="TG-F002.*a.npz"):
            tg.load(path)
    for position in range(0, len(whole), 37):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            back = tg.load(path)
        except StateError:
            continue
        assert back["w"].tolist() == state["w"].tolist() and back["n"] == 1  # only a time stamp or the like was hit


def test_loading_never_runs_code(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    (tmp_path / "bomb.npz").write_bytes(pickle.dumps(Bomb()))
    np.savez(tmp_path / "object.npz", header=np.array([Bomb()], dtype=object))
    for name in ("bomb.npz", "object.npz"):
        with pytest.raises(StateError):
            tg.load(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        tg.load(tmp_path / "none.npz")
