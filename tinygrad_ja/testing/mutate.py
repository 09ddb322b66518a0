"""``python -m tinygrad_ja.testing.mutate``: plant wrong derivatives in every operator and count how many the checks find.

    python -m tinygrad_ja.testing.mutate                 every operator
    python -m tinygrad_ja.testing.mutate tanh matmul     these
    --jobs N (2)    --cases N (60)    --json FILE    --import MODULE (registers operators of yours; may be repeated)

Exit code 1 when a mutant survives that is not in ``equivalent/``, when a proof there is no longer needed, or when an operator fails
without any mutant.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import multiprocessing
import sys
import time
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..core.operator import OPERATORS, Operator
from ..errors import VerificationError
from .case import draw_case
from .equivalent import EQUIVALENT
from .fuzz import CHECKS, check_points, check_trial, operators_of_the_package
from .mutants import Mutant, mutants_of
from .pick import NumpyChoices, Pick
from .time_limit import TooLong, time_limit
from .trial import Trial

FIRST = ("gradient",)
"""The check that runs on all cases before any other: it finds nearly every mutant."""
REST = tuple(name for name in CHECKS if name not in ("value", "gradient"))
SECONDS = 20
"""A mutant that takes longer, such as an endless loop, counts as found."""


class Result(NamedTuple):
    """What happened to the mutants of one operator. ``fault``: it fails its checks without any mutant."""

    operator: str
    mutants: int
    killed: int
    survivors: list[str]
    excused: list[str]
    stale: list[str]
    seconds: float
    fault: str = ""


def mutate(name: str, cases: int = 60) -> Result:
    """Plant every mutant of one operator, check each on up to ``cases`` drawn cases, and put the right derivatives back."""
    start = time.perf_counter()
    operator = OPERATORS[name]
    planned = list(mutants_of(operator))
    proofs = [text for owner, text in EQUIVALENT if owner == name]
    if not planned:
        return Result(name, 0, 0, [], [], proofs, 0.0)
    try:
        check_points(operator)
        trials = _draw(operator, cases)
        for trial in trials:
            check_trial(trial)
    except Exception as failure:
        return Result(name, len(planned), 0, [], [], [], time.perf_counter() - start, f"{failure}")
    alive = [mutant.text for mutant in planned if not is_killed(operator, mutant, trials)]
    return Result(
        name,
        mutants=len(planned),
        killed=len(planned) - len(alive),
        survivors=[text for text in alive if text not in proofs],
        excused=[text for text in alive if text in proofs],
        stale=[text for text in proofs if text not in alive],
        seconds=time.perf_counter() - start,
    )


def _draw(operator: Operator, cases: int) -> list[Trial]:
    """Trials from a seed of the operator's name, so that every run sees the same."""
    rng = np.random.default_rng(zlib.crc32(operator.name.encode()))
    pick = Pick(NumpyChoices(rng))
    with np.errstate(all="ignore"):
        return [Trial(draw_case(operator, pick), rng) for _ in range(cases)]


def is_killed(operator: Operator, mutant: Mutant, trials: Sequence[Trial]) -> bool:
    """Whether some check fails, on some trial, with the mutant in place."""
    right = operator.derivatives
    operator.replace_derivatives(mutant.derivatives)
    try:
        with time_limit(SECONDS):
            check_points(operator)
            for checks in (FIRST, REST):
                for seed, trial in enumerate(trials):
                    check_trial(trial.again(seed), checks)
    except (VerificationError, TooLong):
        return True
    finally:
        operator.replace_derivatives(right)
    return False


# ---- running all, and the report -----------------------------------------------------------------


def run(names: Sequence[str], jobs: int = 2, cases: int = 60, modules: Sequence[str] = ()) -> list[Result]:
    """Results of the operators named (all of the package when none is), in that order."""
    _load(modules)
    names = list(names) or [operator.name for operator in operators_of_the_package() if operator.derivatives]
    if jobs <= 1 or len(names) == 1:
        return [mutate(name, cases) for name in names]
    with multiprocessing.get_context("spawn").Pool(jobs, _load, (modules,)) as pool:
        return list(pool.imap(functools.partial(mutate, cases=cases), names))


def _load(modules: Sequence[str]) -> None:
    operators_of_the_package()
    for module in modules:
        importlib.import_module(module)


def report(results: Sequence[Result]) -> str:
    """A table, one line an operator; then every survivor with its mutated source, every fault, and the score."""
    lines = [f"{'operator':28} {'mutants':>7} {'killed':>7} {'proven':>7} {'alive':>6} {'s':>6}"]
    for r in results:
        counts = f"{r.mutants:7} {r.killed:7} {len(r.excused):7} {len(r.survivors):6} {r.seconds:6.1f}"
        lines.append(f"{r.operator:28} {counts}{'  FAILS WITHOUT MUTANTS' if r.fault else ''}")
    for r in results:
        lines += [f"\nsurvivor in {r.operator}:\n    {text}" for text in r.survivors]
        lines += [f"\n{r.operator} needs no proof any more for:\n    {text}" for text in r.stale]
        lines += [f"\n{r.operator} fails without mutants:\n    {r.fault}"] if r.fault else []
    planted, killed = sum(r.mutants for r in results), sum(r.killed for r in results)
    proven, alive = sum(len(r.excused) for r in results), sum(len(r.survivors) for r in results)
    score = 100 * killed / max(planted - proven, 1)
    lines.append(
        f"\n{planted} mutants of {len(results)} operators: {killed} killed, {proven} equivalent by proof, {alive} alive"
    )
    lines.append(f"score {score:.1f} %")
    return "\n".join(lines)


def passed(results: Sequence[Result]) -> bool:
    """No survivor without a proof, no proof without a survivor, no operator that fails by itself."""
    return not any(r.survivors or r.stale or r.fault for r in results)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tinygrad_ja.testing.mutate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="operators; all of the package when none is named")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--json", metavar="FILE", help="write the results there, too")
    parser.add_argument("--import", dest="modules", action="append", default=[], metavar="MODULE")
    options = parser.parse_args(argv)
    results = run(options.names, options.jobs, options.cases, options.modules)
    print(report(results))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump([r._asdict() for r in results], file, indent=1, ensure_ascii=False)
    return 0 if passed(results) else 1


if __name__ == "__main__":
    sys.exit(main())
