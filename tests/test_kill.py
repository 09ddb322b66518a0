"""A training process is killed at random moments and started again: the weights become those of a run that nobody disturbed, bit for bit.

The ordinary run kills 6 times; for more, ``TINYGRAD_JA_KILLS=50 pytest -s tests/test_kill.py`` prints what happened.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tinygrad_ja as tg

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")

KILLS = int(os.environ.get("TINYGRAD_JA_KILLS", "6"))
STEPS = 120
PROGRAM = Path(__file__).with_name("killed_program.py")
FINAL = re.compile(r"checkpoint-\d{8}\.safetensors")
LEFTOVER = re.compile(r"\.checkpoint-\d{8}\.safetensors\.[0-9a-f]{8}\.tmp")


def start(folder: Path) -> subprocess.Popen[str]:
    """The program, when it has restored its state and trains."""
    command = [sys.executable, "-W", "error::UserWarning", str(PROGRAM), str(folder), str(STEPS)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


def finish(child: subprocess.Popen[str]) -> int:
    assert child.stdout is not None
    code = child.wait(timeout=120)
    child.stdout.close()
    return code


def bits(value: object) -> object:
    """A state in which every array is its bytes."""
    if isinstance(value, dict):
        return {name: bits(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [bits(item) for item in value]
    return (str(value.dtype), value.shape, value.array.tobytes()) if isinstance(value, tg.Tensor) else value


def end_of(folder: Path) -> object:
    """Everything in the last checkpoint but how often one was written."""
    state = tg.load(folder / f"checkpoint-{STEPS:08d}.safetensors")
    del state["checkpoint"]["serial"]
    return bits(state)


def check_folder(folder: Path) -> tuple[int, int]:
    """Every file with a final name is whole, every other is a leftover of this program; how many there are of both."""
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    final = [name for name in names if FINAL.fullmatch(name)]
    for name in final:
        tg.load(folder / name)
    left = [name for name in names if LEFTOVER.fullmatch(name)]
    assert sorted(final + left) == names
    return len(final), len(left)


def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path):
    child = start(tmp_path / "whole")
    began = time.monotonic()
    assert finish(child) == 0
    duration = time.monotonic() - began
    expected = end_of(tmp_path / "whole")

    rng = random.Random(0)
    kills = read = writing = runs = 0
    while kills < KILLS:
        folder = tmp_path / f"run{runs}"
        runs += 1
        left = 0
        while True:
            child = start(folder)
            time.sleep(rng.uniform(0.0, duration / 3) if kills < KILLS else 0.0)
            if kills < KILLS:
                child.send_signal(signal.SIGKILL)
            code = finish(child)
            if code == 0:
                break
            assert code == -signal.SIGKILL
            kills += 1
            final, now_left = check_folder(folder)
            read += final
            writing += now_left > left
            left = now_left
        assert end_of(folder) == expected
    print(
        f"\n{kills} kills in {runs} runs of {STEPS} steps, {writing} of them while a checkpoint was being written: "
        f"{read} files read, all whole; the end of every run is the same bit for bit"
    )
