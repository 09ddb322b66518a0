"""``pytest -m gpu``: every program of ``models/`` runs on a GPU, in a process of its own, on made-up data."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tinygrad_ja.commands import programs

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 200.0
"""Seconds for one program."""

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_data")]


def numbers(made: Any) -> Iterator[float]:
    """All numbers in what a JSON file holds."""
    if isinstance(made, (dict, list)):
        for part in made.values() if isinstance(made, dict) else made:
            yield from numbers(part)
    elif isinstance(made, (int, float)):
        yield made


def run(name: str, folder: Path, device: str, *options: str) -> dict[str, Any]:
    """What the program writes into ``results.json``."""
    command = [sys.executable, "-m", "models", name, "--quick", "--device", device, "--out", str(folder), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads((folder / "results.json").read_text(encoding="utf-8")))


def check(name: str, folder: Path, device: str, *options: str) -> None:
    """Runs a program: it ends well, its results are of the device, and all that it measured is finite."""
    results = run(name, folder, device, *options)
    assert results["program"] == name and results["device"] == device
    assert all(math.isfinite(number) for number in numbers(results))


@pytest.mark.gpu
@pytest.mark.parametrize("options", [(), ("--compile",)], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", programs(ROOT / "models"))
def test_the_program_runs_on_a_gpu(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    check(name, tmp_path, "cuda", *options)


@pytest.mark.parametrize("name", ["cbow"])
def test_the_same_check_on_the_cpu(name: str, tmp_path: Path) -> None:
    check(name, tmp_path, "cpu", "--compile")
