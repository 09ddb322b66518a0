"""A run that was stopped, by Ctrl-C or by SIGKILL, goes on bit for bit as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import training_program as program
from training_program import Shuffled

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the device
from tinygrad_ja.errors import StateError
from tinygrad_ja.training.batches import Batches

KINDS = ["list", "generator", "loader", "workers"]
SCRIPT = Path(__file__).with_name("training_program.py")


def run(folder, kind, *, stop_at=None, resume=False, **options):
    """One part of a run; ``stop_at``: Ctrl-C comes during that step."""
    trainer = program.build(folder, kind, progress=False, **options)
    if stop_at is not None:
        trainer.on("step", lambda t: signal.raise_signal(signal.SIGINT) if t.iteration == stop_at else None)
    return trainer, trainer.run(epochs=program.EPOCHS, resume=resume)


def left_behind(trainer):
    """All that two equal runs have in common: weights, buffers, optimizer, history, the best."""
    state = trainer.parts["optimizer"].state_dict()
    moments = [value for entries in state["state"].values() for value in entries.values() if isinstance(value, tg.Tensor)]
    arrays = [value.cpu().array for value in [*trainer.model.state_dict().values(), *moments]]
    history = [{name: value for name, value in row.items() if name != "seconds"} for row in trainer.history]
    return arrays, history, trainer.stopping.state_dict(), trainer.parts["optimizer"].param_groups[0]["lr"]


def assert_equal(one, other):
    (arrays, *rest), (others, *other_rest) = left_behind(one), left_behind(other)
    assert rest == other_rest
    for a, b in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings("error::UserWarning:tinygrad_ja")  # a schedule's, that its optimizer has not stepped yet
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", ["cpu", "strict"])
def test_a_run_stopped_by_ctrl_c_goes_on_bit_for_bit(device, kind, tmp_path):
    with tg.device(device):
        whole, _ = run(tmp_path / "whole", kind)
        assert whole.iteration == 40
        for stop_at in (1, 9, 10, 14, 21, 39, 40)[
            :: 1 if device == "cpu" else 3
        ]:  # within an epoch, its last batch, a validation, the end
            folder = tmp_path / str(stop_at)
            _, report = run(folder, kind, stop_at=stop_at)
            assert (report.outcome, report.steps) == ("interrupted", stop_at)
            assert report.checkpoint.is_file() and f"--resume): {report.checkpoint}" in str(report)
            resumed, report = run(folder, kind, resume=True)
            assert report.outcome == "finished"
            assert_equal(resumed, whole)


def test_many_stops_are_as_good_as_none(tmp_path):
    whole, _ = run(tmp_path / "whole", "loader")
    for stop_at in range(3, 40, 5):
        run(tmp_path / "parts", "loader", stop_at=stop_at, resume="auto")
    resumed, _ = run(tmp_path / "parts", "loader", resume=True)
    assert_equal(resumed, whole)


def test_logs_hold_each_row_once_after_a_resume(tmp_path):
    whole, _ = run(tmp_path / "whole", "list")
    run(tmp_path / "parts", "list", stop_at=17, checkpoint_every=5)
    (tmp_path / "parts" / "checkpoint-00000017.safetensors").unlink()  # as if the run had been killed after step 17
    resumed, _ = run(tmp_path / "parts", "list", resume=True)
    lines = (tmp_path / "parts" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [row["step"] for row in whole.history]
    assert [json.loads(line) for line in lines] == resumed.history
    table = (tmp_path / "parts" / "log.csv").read_text().splitlines()
    assert len(table) == 1 + len(whole.history)


def test_a_new_run_in_the_same_folder_replaces_the_old_one(tmp_path):
    run(tmp_path, "list")
    trainer, _ = run(tmp_path, "list", stop_at=5)
    assert [path.name for path in tmp_path.glob("checkpoint*")] == ["checkpoint-00000005.safetensors"]
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == len(trainer.history) == 1


def test_other_settings_are_refused_and_nothing_changes(tmp_path):
    run(tmp_path, "list", stop_at=5)
    trainer = program.build(tmp_path, "generator", progress=False)
    before = [p.detach().numpy().copy() for p in trainer.model.parameters()]
    with pytest.raises(StateError, match="TG-F003.*kind = 'list' / 'generator'"):
        trainer.run(epochs=program.EPOCHS, resume=True)
    assert trainer.iteration == 0
    for p, values in zip(trainer.model.parameters(), before):
        np.testing.assert_array_equal(p.detach().numpy(), values)


def test_the_weights_of_the_best_validation_are_in_a_checkpoint(tmp_path):
    trainer, report = run(tmp_path, "list", keep=1)
    best = tmp_path / f"checkpoint-{report.best_step:08d}.safetensors"
    state = tg.load(best)
    assert state["checkpoint"]["metric"] == report.best == min(r["valid_loss"] for r in trainer.history if "valid_loss" in r)


# ---- real processes ------------------------------------------------------------------------------


def start(folder, *options):
    command = [sys.executable, str(SCRIPT), str(folder), "loader", *options]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parent.parent), "TINYGRAD_JA_LANG": "en"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)


def send_at(process, step, number):
    """Send a signal when the program says that it has done ``step``."""
    for line in process.stdout:
        if line.startswith(f"done {step}\n"):
            process.send_signal(number)
            return
    raise AssertionError(process.stderr.read())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"), "loader", checkpoint_every=2)[0]


def restored(folder):
    trainer, _ = run(folder, "loader", resume=True, checkpoint_every=2)
    return trainer


def test_ctrl_c_ends_the_step_writes_a_checkpoint_and_says_how_to_go_on(tmp_path, uninterrupted):
    process = start(tmp_path, "--slow")
    send_at(process, 13, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "finishing this step" in err and "Traceback" not in err
    assert "interrupted" in out and "resume=True" in out
    (newest,) = tg.io.Checkpoints(tmp_path, {}).saved()[-1:]
    assert f"{newest.path}" in out and newest.step in (13, 14)
    assert_equal(restored(tmp_path), uninterrupted)


def test_the_second_ctrl_c_stops_at_once(tmp_path, uninterrupted):
    process = start(tmp_path, "--slow")
    send_at(process, 13, signal.SIGINT)
    for line in process.stderr:
        if "Ctrl-C again" in line:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)
    if process.returncode != 130:  # the first may have been served before the second came
        assert "KeyboardInterrupt" in err
    assert_equal(restored(tmp_path), uninterrupted)


def test_a_killed_process_goes_on_bit_for_bit(tmp_path, uninterrupted):
    for step in (5, 18, 33):
        process = start(tmp_path, "--resume", "--slow")
        send_at(process, step, signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        for line in (tmp_path / "log.jsonl").read_text().splitlines():
            json.loads(line)
    assert_equal(restored(tmp_path), uninterrupted)


def test_a_place_in_an_epoch_that_an_earlier_version_saved():
    """Of the random numbers before the epoch it has those of the CPU alone."""
    tg.manual_seed(1)
    order = Shuffled(list(range(20)))
    whole = list(Batches(order).rest())
    tg.manual_seed(1)
    old = {"done": 7, "random_before": tg.get_rng_state()}
    tg.manual_seed(2)
    batches = Batches(order)
    batches.load_state_dict(old)
    assert list(batches.rest()) == whole[7:]
