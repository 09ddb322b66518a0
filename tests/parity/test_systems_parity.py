"""The peers of ``python -m benchmarks systems`` are the same models: from the same weights, over the same batches and without dropout, a short
training ends with the numbers that ours ends with. On made-up data, so that nothing has to be at hand."""

from __future__ import annotations

import json
from importlib import import_module

import numpy as np
import pytest
import torch

import tinygrad_ja as tg
from benchmarks.systems import systems
from models.vhred import Gaussian
from tinygrad_ja.training import experiment

NO_DROPOUT = ("--dropout", "0")
LESS = {
    "recursive": (*NO_DROPOUT, "--word-dropout", "0"),
    "transformer": (*NO_DROPOUT, "--beams", "2"),
    "vhred": (*NO_DROPOUT, "--word-drop", "0"),
    **dict.fromkeys(("attention", "char_lm", "hred", "masked_lm", "seq2seq", "word_lm"), NO_DROPOUT),
}


@pytest.fixture
def the_same_noise(monkeypatch):
    """Instead of ε ~ N(0, I), of which each side draws its own, the same numbers at every call."""

    def epsilon(shape):
        return np.sin(np.arange(np.prod(shape), dtype=np.float32)).reshape(shape)

    monkeypatch.setattr(Gaussian, "sample", lambda p: p.mean + p.variance.sqrt() * tg.tensor(epsilon(p.mean.shape)))
    for draw in ("sample", "rsample"):
        monkeypatch.setattr(
            torch.distributions.Normal, draw, lambda p: p.loc + p.scale * torch.from_numpy(epsilon(tuple(p.loc.shape)))
        )


@pytest.mark.usefixtures("the_same_noise")
@pytest.mark.parametrize("name", systems())
def test_a_short_training_ends_with_the_same_numbers(name, tmp_path, monkeypatch):
    monkeypatch.delenv("TINYGRAD_JA_DATA", raising=False)
    monkeypatch.setenv("TINYGRAD_JA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        experiment, "save_figure", lambda *given: None
    )  # pictures take most of the time, and are looked at elsewhere
    system = systems()[name]
    arguments = [*system.arguments, "--quick", "--epochs", "1", "--seed", "3", *LESS.get(system.program, ())]
    import_module(f"models.{system.program}").main([*arguments, "--out", str(tmp_path)])
    ours = json.loads((tmp_path / "results.json").read_text())
    theirs = import_module(f"benchmarks.systems.{system.program}").main(arguments)
    compared = [metric.name for metric in system.metrics if metric.name in theirs]
    assert compared and ours["data"] == "synthetic"
    for metric in compared:
        assert ours[metric] == pytest.approx(theirs[metric], rel=1e-4), metric
