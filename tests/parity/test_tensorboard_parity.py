"""What TensorBoardLog writes is what TensorBoard's own reader sees, after a resume too."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_ja.training import TensorBoardLog

pytest.importorskip("tensorboardX")
accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def written(folder, rows, kept=()):
    log = TensorBoardLog(folder)
    log.start(list(kept))
    for row in rows:
        log.write(row)
    log.close()


def read(folder):
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def row(step, loss, valid=None):
    made = {"step": step, "epoch": 1, "loss": loss, "lr": 0.5, "seconds": 1.0}
    return made if valid is None else {**made, "valid_loss": valid}


def test_tensorboard_reads_training_and_validation(tmp_path):
    written(tmp_path, [row(1, 0.5), row(2, 0.25, 0.75)])
    assert read(tmp_path) == {
        "loss/train": [(1, 0.5), (2, 0.25)],
        "loss/valid": [(2, 0.75)],
        "lr": [(1, 0.5), (2, 0.5)],
        "seconds": [(1, 1.0), (2, 1.0)],
    }


def test_a_resumed_run_takes_the_place_of_what_it_repeats(tmp_path):
    rows = [row(step, float(step)) for step in range(1, 6)]
    written(tmp_path, rows)
    written(tmp_path, [row(4, 40.0), row(5, 50.0), row(6, 60.0)], kept=rows[:3])
    steps, values = np.array(read(tmp_path)["loss/train"]).T
    assert steps.tolist() == [1, 2, 3, 4, 5, 6]
    assert values.tolist() == [1, 2, 3, 40, 50, 60]


def test_a_new_run_in_the_same_folder_shows_alone(tmp_path):
    written(tmp_path, [row(step, 1.0) for step in range(1, 4)])
    written(tmp_path, [row(1, 2.0)])
    assert read(tmp_path)["loss/train"] == [(1, 2.0)]
