"""Timing that is fair to both sides: the peers run in turn within one run, and medians are compared."""

from __future__ import annotations

import gc
import json
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def in_turn(
    functions: dict[str, Callable[[], Any]],
    rounds: int,
    target: float = 0.02,
    settle: float = 0.0,
    finish: Callable[[], Any] = lambda: None,
) -> dict[str, float]:
    """Median seconds per call of each function. In every round each function runs for about ``target`` seconds.

    settle: seconds for which each function runs untimed at the beginning of its turn. Libraries with threads of their own (OpenMP, OpenBLAS)
    let them spin for a while after their last work, which would take the processor from the side whose turn it is.
    finish: waits for what has been asked for, as a GPU needs it: before a turn, and as the last thing of the time of a turn.
    """
    counts = {}
    for name, function in functions.items():
        function()
        function()
        finish()
        start = time.perf_counter()
        function()
        finish()
        counts[name] = max(1, int(target / max(time.perf_counter() - start, 1e-7)))
    samples: dict[str, list[float]] = {name: [] for name in functions}
    gc.collect()
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            while time.perf_counter() - start < settle:
                function()
                finish()
            start = time.perf_counter()
            for _ in range(counts[name]):
                function()
            finish()
            samples[name].append((time.perf_counter() - start) / counts[name])
    return {name: statistics.median(values) for name, values in samples.items()}


def hardware() -> str:
    """Name of the processor, its vectors where they are known, and number of cores."""
    from tinygrad_ja.config import hardware as described

    return described()


def accelerator(device: str) -> str:
    """Name of the GPU; empty for the CPU."""
    if not device.startswith("cuda"):
        return ""
    import tinygrad_ja as tg

    return str(tg.cuda.get_device_name())


def described(device: str) -> str:
    """The GPU, if it is one, and the processor."""
    return ", ".join(filter(None, (accelerator(device), hardware())))


def named(benchmark: str, hardware: str) -> str:
    """The name of a file of results, without its ending.

    >>> named("suite", "NVIDIA H200")
    'suite-nvidia-h200'
    """
    return benchmark + "-" + re.sub(r"[^a-z0-9]+", "-", hardware.lower()).strip("-")


def write_results(folder: Path, benchmark: str, hardware: str, results: Any, table: str) -> Path:
    """Write ``results`` as JSON and ``table`` as Markdown, named after the benchmark and the hardware. Returns the table's path."""
    from tinygrad_ja.io.files import replacing

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{named(benchmark, hardware)}.md"
    for file, text in ((path.with_suffix(".json"), json.dumps(results, indent=2)), (path, table)):
        with replacing(file, "w") as written:
            written.write(text + "\n")
    return path


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table whose columns line up."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        first = cells[0].ljust(widths[0])
        return "| " + " | ".join([first, *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:]))]) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([line(header), rule, *map(line, rows)])
