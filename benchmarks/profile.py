"""``python -m benchmarks profile WORKLOAD``: where the time of a workload of the suite goes, instruction by instruction, beside its floor."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

TITLE = {
    "en": "where the time of one workload of the suite goes, compiled or eager",
    "ja": "suite の学習ステップ 1 つについて、時間がどこに使われるか (compile または eager)",
}


def main(argv: list[str] | None = None) -> float:
    """Print the median time of a step, its floor on this machine, and the profile. Returns the median in seconds."""
    import numpy as np

    import tinygrad_ja as tg

    from .suite import ours
    from .suite.workloads import WORKLOADS, problem
    from .timing import hardware

    parser = argparse.ArgumentParser(prog="python -m benchmarks profile", description=__doc__)
    parser.add_argument("workload", choices=list(WORKLOADS))
    parser.add_argument("--eager", action="store_true", help="the step as it stands instead of the compiled one")
    parser.add_argument(
        "--form", default="layer", choices=["layer", "loop"], help="how a recurrence is written (default layer)"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument("--steps", type=int, default=20, help="steps in the profile (default 20)")
    parser.add_argument("--rows", type=int, default=20, help="rows of the table (default 20)")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    options = parser.parse_args(argv)

    kind = ours.Runner if options.eager else ours.Compiled
    numbers = problem(options.workload, options.quick)
    runner = kind(options.workload, numbers, options.form, "cpu", options.threads)

    def steps(count: int) -> None:
        for k in range(count):
            runner.step(runner.batches[k % len(runner.batches)])

    steps(10)
    median = _median(lambda: steps(1), 1.0)
    a = np.ones((768, 768), np.float32)
    rate = 2 * 768**3 / _median(lambda: a @ a, 0.3)
    print(f"{WORKLOADS[options.workload].title}: {median * 1e3:.3f} ms a step; {hardware()}, {options.threads} threads")
    print(f"{WORKLOADS[options.workload].floor}; a large product runs at {rate / 1e9:.0f} GFLOP/s")
    with tg.profile() as found:
        steps(options.steps)
    print(found.table(rows=options.rows))
    return median


def _median(function: Callable[[], Any], seconds: float) -> float:
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples) < 3:
        start = time.perf_counter()
        function()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)
