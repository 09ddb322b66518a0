"""``python -m benchmarks profile WORKLOAD``: where the time of a workload of the suite goes, instruction by instruction, beside its floor."""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
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
    parser.add_argument(
        "--recording", action="store_true", help="a call that records instead of one that replays, by source file"
    )
    parser.add_argument("--steps", type=int, default=20, help="steps in the profile (default 20)")
    parser.add_argument("--rows", type=int, default=20, help="rows of the table (default 20)")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    options = parser.parse_args(argv)
    if options.recording:
        return _recording(options)

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


def _recording(options: argparse.Namespace) -> float:
    """The same of a recording, beside an eager step. cProfile makes small functions of Python look dearer than they are: shares are rough."""
    import tinygrad_ja as tg
    from tinygrad_ja.table import aligned

    from .suite import ours
    from .suite.workloads import WORKLOADS, problem
    from .timing import hardware

    numbers = problem(options.workload, options.quick)
    eager, compiled = [
        kind(options.workload, numbers, options.form, "cpu", options.threads) for kind in (ours.Runner, ours.Compiled)
    ]
    first = eager.batches[0], compiled.batches[0]

    def record() -> None:
        compiled.function.reset()
        compiled.step(first[1])

    for _ in range(3):
        eager.step(first[0])
        compiled.step(first[1])
    operators = compiled.function.plan().operators
    taken = _median(lambda: eager.step(first[0]), 1.0)
    median = _median(record, 1.0)
    print(f"{WORKLOADS[options.workload].title}; {hardware()}, {options.threads} threads")
    print(f"eager step {taken * 1e3:.2f} ms, recording {median * 1e3:.2f} ms: {median / taken:.1f} eager steps")
    print(f"{operators} operators recorded, {(median - taken) / operators * 1e6:.0f} µs each beyond the eager step")
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(options.steps):
        record()
    profile.disable()
    spent: Counter[str] = Counter()
    root = str(Path(tg.__file__).parents[1]) + os.sep
    for (file, _, name), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        ours_own = file.startswith(f"{root}tinygrad_ja{os.sep}")
        spent[file.removeprefix(root) if ours_own else _outside(file, name)] += own
    whole = sum(spent.values())
    rows = [[name, f"{own / whole:.1%}"] for name, own in spent.most_common(options.rows)]
    print("\n".join(aligned([["file", "share"], *rows])))
    return median


def _outside(file: str, name: str) -> str:
    if name == "<method 'dot' of 'numpy.ndarray' objects>" or "matmul" in name:
        return "NumPy's products"
    return "Python's and NumPy's built-in functions" if file == "~" else "other files"


def _median(function: Callable[[], Any], seconds: float) -> float:
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples) < 3:
        start = time.perf_counter()
        function()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)
