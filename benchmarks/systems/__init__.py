"""``python -m benchmarks systems``: programs of ``models/`` next to the same model in PyTorch: same sizes, same data, same budget.

Each run has a process of its own; the sides take turns, one seed after the other. Results are kept in one file and added to, so that systems
and seeds can be measured one by one, today or tomorrow: what was measured before stays in the tables, with its machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

TITLE = {
    "en": "whole trainings on real data, next to the same model in PyTorch",
    "ja": "実データでの学習全体を、PyTorch の同じモデルと並べて",
}

SIDES = ("eager", "compiled", "torch")


class Metric(NamedTuple):
    """What is compared: its name in the results of both sides, whether less is better (None: neither is), and the bar."""

    name: str
    less: bool | None = False
    bar: float | None = None


class System(NamedTuple):
    """A program of ``models/`` and its peer of the same name in this folder, the arguments of both, and what is compared. against: the package
    of the peer where that is not PyTorch."""

    program: str
    arguments: tuple[str, ...]
    metrics: tuple[Metric, ...]
    against: str = ""


def systems() -> dict[str, System]:
    """All comparisons by name."""
    from .listing import SYSTEMS

    return SYSTEMS


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run what was asked for, add it to the results, print the tables."""
    from tinygrad_ja.errors import error

    from ..timing import hardware

    known = systems()
    parser = argparse.ArgumentParser(prog="python -m benchmarks systems", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"comparisons (default: all): {', '.join(known)}")
    parser.add_argument("--seeds", default="0,1,2", help="seeds, with commas between them (default 0,1,2)")
    parser.add_argument("--sides", default=",".join(SIDES), help=f"sides, with commas between them (default {','.join(SIDES)})")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of every side (default 2)")
    parser.add_argument("--quick", action="store_true", help="--quick for all sides, to see that everything runs")
    parser.add_argument("--missing", action="store_true", help="leave out what was measured before")
    parser.add_argument("--runs", type=Path, default=Path("runs/systems"), help="folder for what the programs write")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder for JSON and tables")
    options = parser.parse_args(argv)
    sides = options.sides.split(",")
    for argument, names, allowed in (("NAME", options.names, list(known)), ("--sides", sides, list(SIDES))):
        for name in names:
            if name not in allowed:
                command = "python -m benchmarks systems"
                raise error(
                    "TG-A001", op=command, argument=argument, value=name, rule=", ".join(allowed), fix=f"{command} {allowed[0]}"
                )
    path = options.out / ("systems-quick.json" if options.quick else "systems.json")
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in options.names or known:
        for seed in options.seeds.split(","):
            for side in sides:
                found = results.setdefault(name, {}).setdefault(side, {})
                if options.missing and seed in found:
                    continue
                made = _run(known[name], side, seed, options, options.runs / f"{name}-{side}-{seed}")
                if not made:
                    print(f"{name} {side}: {known[name].against or 'PyTorch'} is not installed", file=sys.stderr, flush=True)
                    continue
                found[seed] = {**made, "hardware": hardware(), "threads": options.threads}
                _write(path, results, known)
                shown = {metric.name: made.get(metric.name) for metric in known[name].metrics}
                print(f"{name} {side} seed {seed}: {shown} {made['train_seconds']:.0f} s", file=sys.stderr, flush=True)
    print(markdown(results, known))
    return results


def _run(system: System, side: str, seed: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One training in a process of its own."""
    arguments = [*system.arguments, "--seed", seed, *(["--quick"] if options.quick else [])]
    program = ["-m", f"benchmarks.systems.{system.program}", *arguments]
    if side != "torch":
        program = [
            "-m",
            "models",
            system.program,
            *arguments,
            "--out",
            str(folder),
            *(["--compile"] if side == "compiled" else []),
        ]
    threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, *program], env={**os.environ, **threads}, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(program)} ended with {done.returncode}")
    if side == "torch":
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))
    (folder / "printed.txt").write_text(done.stdout, encoding="utf-8")
    return dict(json.loads((folder / "results.json").read_text(encoding="utf-8")))


def _write(path: Path, results: dict[str, Any], known: Mapping[str, System]) -> None:
    from tinygrad_ja.io.files import replacing

    path.parent.mkdir(parents=True, exist_ok=True)
    for file, content in (
        (path, json.dumps(results, indent=1, ensure_ascii=False)),
        (path.with_suffix(".md"), markdown(results, known)),
    ):
        with replacing(file, "w") as target:
            target.write(content + "\n")


def markdown(results: Mapping[str, Any], known: Mapping[str, System]) -> str:
    """A table of each comparison: means over the seeds and their spread (largest less smallest), and the time of the training."""
    parts = [
        "Whole trainings next to PyTorch: mean over the seeds ± half of the spread (largest less smallest); seconds of the training.\n"
    ]
    for name, sides in results.items():
        system = known.get(name)
        if system is None:
            continue
        machines = {run["hardware"] for runs in sides.values() for run in runs.values()}
        parts.append(
            f"## {name}\n\n`python -m models {' '.join((system.program, *system.arguments))}`; {'; '.join(sorted(machines))}\n"
        )
        titles = ["side", "seeds", *[_title(metric) for metric in system.metrics], "seconds"]
        parts.append("\n".join([_row(titles), _row(["---", *["---:"] * (len(titles) - 1)]), *_rows(system, sides)]) + "\n")
        parts.append(_verdict(system, sides) + "\n")
    return "\n".join(parts)


def _title(metric: Metric) -> str:
    return metric.name if metric.bar is None else f"{metric.name} (bar {'<=' if metric.less else '>='} {metric.bar:g})"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rows(system: System, sides: Mapping[str, Any]) -> list[str]:
    rows = []
    for side in SIDES:
        runs = sides.get(side)
        if runs:
            values = [_spread([run[m.name] for run in runs.values() if run.get(m.name) is not None]) for m in system.metrics]
            label = (side == "torch" and system.against) or side
            rows.append(_row([label, ", ".join(runs), *values, _spread([run["train_seconds"] for run in runs.values()])]))
    return rows


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean, half = statistics.mean(values), (max(values) - min(values)) / 2
    return f"{mean:.4g}" if len(values) == 1 else f"{mean:.4g} ± {half:.2g}"


def _verdict(system: System, sides: Mapping[str, Any]) -> str:
    """Whether ours is no worse than the peer's by more than the spread (results: the compiled side's, or else the eager one's), in no more
    time (the quicker side's; see ``_time_ratio``)."""
    ours, peers = [sides[s] for s in ("compiled", "eager") if sides.get(s)], sides.get("torch")
    if not ours or not peers:
        return "No verdict: one side is missing."
    lines = []
    for metric in [metric for metric in system.metrics if metric.less is not None]:
        mine = [run[metric.name] for run in ours[0].values() if run.get(metric.name) is not None]
        theirs = [run[metric.name] for run in peers.values() if run.get(metric.name) is not None]
        if mine and theirs:
            spread = max(max(values) - min(values) for values in (mine, theirs))
            worse = (statistics.mean(mine) - statistics.mean(theirs)) * (1 if metric.less else -1)
            if min(len(mine), len(theirs)) < 2:
                how = f"worse than {system.against or 'PyTorch'}'s by {worse:.3g}" if worse > 0 else "no worse"
                lines.append(f"{metric.name}: {how}, one seed, so no spread is known")
                continue
            verdict = "no worse" if worse <= spread else "worse"
            lines.append(f"{metric.name}: {verdict} than {system.against or 'PyTorch'}'s ({worse:+.3g}, spread {spread:.3g})")
    ratios = [ratio for ratio in [_time_ratio(runs, peers) for runs in ours] if ratio is not None]
    if not ratios:
        return "; ".join([*lines, "no seed ran on one machine on both sides, so no times are compared"]) + "."
    return "; ".join([*lines, f"time / {system.against or 'PyTorch eager'} {min(ratios):.2f}"]) + "."


def _time_ratio(ours: Mapping[str, Any], peers: Mapping[str, Any]) -> float | None:
    """By the seeds that both sides ran on machines of one kind; None where there is none."""
    pairs = [(run, peers[seed]) for seed, run in ours.items() if seed in peers and run["hardware"] == peers[seed]["hardware"]]
    mine, theirs = [sum([pair[side]["train_seconds"] for pair in pairs]) for side in (0, 1)]
    return mine / theirs if pairs else None
