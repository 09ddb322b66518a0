"""``python -m benchmarks systems``: programs of ``models/`` next to the same model in PyTorch: same sizes, same data, same budget.

Each run has a process of its own; the sides take turns, one seed after the other. Results are kept in one file (on a GPU in a file of that
GPU) and added to, so that systems and seeds can be measured one by one, today or tomorrow, by several processes too: what was measured
before stays in the tables, with its machine. A run that fails is told, and the others go on; without real data there is nothing to measure,
so it is an error.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

TITLE = {
    "en": "whole trainings on real data, next to the same model in PyTorch",
    "ja": "実データでの学習全体を、PyTorch の同じモデルと並べて",
}

SIDES = ("eager", "compiled", "torch")
SHORTER = " --epochs "
"""Between the name of a comparison and a number of epochs that is not the program's own."""


class Failed(Exception):
    """A training that did not end well; the text says how."""


class Metric(NamedTuple):
    """What is compared: its name in the results of both sides, whether less is better (None: neither is), and the bar."""

    name: str
    less: bool | None = False
    bar: float | None = None


class System(NamedTuple):
    """A program of ``models/`` and its peer of the same name in this folder, the arguments of both, and what is compared."""

    program: str
    arguments: tuple[str, ...]
    metrics: tuple[Metric, ...]


def systems() -> dict[str, System]:
    """All comparisons by name."""
    from .listing import SYSTEMS

    return SYSTEMS


def system_of(name: str, known: Mapping[str, System]) -> System:
    """The comparison of that name, which may end in ``--epochs N``: then with that budget, and without bars, which are for whole ones.
    Raises KeyError."""
    name, _, epochs = name.partition(SHORTER)
    system = known[name]
    if not epochs:
        return system
    metrics = tuple([metric._replace(bar=None) for metric in system.metrics])
    return system._replace(arguments=(*system.arguments, "--epochs", epochs), metrics=metrics)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run what was asked for, add it to the results, print the tables. Ends with the status 1 when a run failed."""
    from .. import timing

    known = systems()
    options = _parsed(argv, known)
    accelerator, hardware = timing.accelerator(options.device), timing.described(options.device)
    file = "systems-quick" if options.quick else "systems"
    path = options.out / f"{timing.named(file, accelerator) if accelerator else file}.json"
    results = _read(path)
    names = [name if options.epochs is None else f"{name}{SHORTER}{options.epochs}" for name in options.names or known]
    asked = {name: system_of(name, known) for name in names}
    runs = [
        (name, seed, side)
        for name in names
        for seed in options.seeds.split(",")
        for side in options.sides.split(",")
        if not (options.missing and seed in results.get(name, {}).get(side, {}))
    ]
    failed = 0
    with ThreadPoolExecutor(options.at_once) as pool:
        begun = {
            pool.submit(_run, asked[name], side, seed, options, _folder(options, name, side, seed)): (name, seed, side)
            for name, seed, side in runs
        }
        try:
            for future in as_completed(begun):
                name, seed, side = begun[future]
                told = f"{name} {side} seed {seed}"
                try:
                    made = future.result()
                except Failed as failure:
                    failed += 1
                    print(f"{told} failed: {failure}", file=sys.stderr, flush=True)
                    continue
                how = {"hardware": hardware, "threads": options.threads, "at_once": options.at_once}
                results = _read(path)  # another process may have added to it
                results.setdefault(name, {}).setdefault(side, {})[seed] = {**made, **how}
                _write(path, results, known)
                shown = {metric.name: made.get(metric.name) for metric in asked[name].metrics}
                print(f"{told}: {shown} {made['train_seconds']:.0f} s", file=sys.stderr, flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    print(markdown(results, known))
    if failed:
        raise SystemExit(1)
    return results


def _parsed(argv: list[str] | None, known: Mapping[str, System]) -> argparse.Namespace:
    from tinygrad_ja.errors import error

    parser = argparse.ArgumentParser(prog="python -m benchmarks systems", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"comparisons (default: all): {', '.join(known)}")
    parser.add_argument("--device", default="cpu", help="where all sides run: cpu or cuda (default cpu)")
    parser.add_argument("--seeds", default="0,1,2", help="seeds, with commas between them (default 0,1,2)")
    parser.add_argument("--sides", default=",".join(SIDES), help=f"sides, with commas between them (default {','.join(SIDES)})")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of every side (default 2)")
    parser.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="a budget of N epochs for all sides in place of the program's, with tables of its own: so that three seeds of a long training "
        "can be compared",
    )
    parser.add_argument("--quick", action="store_true", help="--quick for all sides, to see that everything runs")
    parser.add_argument("--missing", action="store_true", help="leave out what was measured before")
    parser.add_argument(
        "--at-once",
        type=int,
        default=1,
        metavar="N",
        help="run N trainings side by side: for a machine with many processors that is there for minutes only; "
        "times are then of runs beside others (default 1)",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/systems"), help="folder for what the programs write")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder for JSON and tables")
    options = parser.parse_args(argv)
    command = "python -m benchmarks systems"
    for argument, names, allowed in (
        ("NAME", options.names, list(known)),
        ("--sides", options.sides.split(","), list(SIDES)),
    ):
        for name in names:
            if name not in allowed:
                rule, fix = ", ".join(allowed), f"{command} {allowed[0]}"
                raise error("TG-A001", op=command, argument=argument, value=name, rule=rule, fix=fix)
    if options.at_once < 1:
        parser.error("--at-once must be at least 1")
    if options.epochs is not None and options.epochs < 1:
        parser.error("--epochs must be at least 1")
    return options


def _folder(options: argparse.Namespace, name: str, side: str, seed: str) -> Path:
    return Path(options.runs, f"{name.replace(SHORTER, '-')}-{side}-{seed}")


def _run(system: System, side: str, seed: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One training in a process of its own. What it prints is kept in ``folder``. Raises Failed."""
    arguments = [*system.arguments, "--seed", seed, "--device", options.device, *(["--quick"] if options.quick else [])]
    program = ["-m", f"benchmarks.systems.{system.program}", *arguments]
    if side != "torch":
        program = ["-m", "models", system.program, *arguments, "--out", str(folder)]
        program += [*([] if options.quick else ["--real"]), *(["--compile"] if side == "compiled" else [])]
    threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    folder.mkdir(parents=True, exist_ok=True)
    printed, told = folder / "printed.txt", folder / "stderr.txt"
    with printed.open("w") as stdout, told.open("w") as stderr:
        done = subprocess.run(
            [sys.executable, *program], env={**os.environ, **threads}, stdout=stdout, stderr=stderr, check=False
        )
    if done.returncode:
        last = told.read_text(encoding="utf-8", errors="replace").splitlines()[-10:]
        raise Failed("\n  ".join([f"python {' '.join(program)} ended with {done.returncode}", *last]))
    if side == "torch":
        return dict(json.loads(printed.read_text(encoding="utf-8").splitlines()[-1]))
    return dict(json.loads((folder / "results.json").read_text(encoding="utf-8")))


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


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
        if name.partition(SHORTER)[0] not in known:
            continue
        system = system_of(name, known)
        made = [run for runs in sides.values() for run in runs.values()]
        about = sorted({run["hardware"] for run in made})
        beside = max([run.get("at_once", 1) for run in made], default=1)
        if beside > 1:
            about.append(f"seconds are of runs beside others, up to {beside} at once")
        parts.append(f"## {name}\n\n`python -m models {' '.join((system.program, *system.arguments))}`; {'; '.join(about)}\n")
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
            rows.append(_row([side, ", ".join(runs), *values, _spread([run["train_seconds"] for run in runs.values()])]))
    return rows


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean, half = statistics.mean(values), (max(values) - min(values)) / 2
    return f"{mean:.4g}" if len(values) == 1 else f"{mean:.4g} ± {half:.2g}"


def _verdict(system: System, sides: Mapping[str, Any]) -> str:
    """Whether ours is no worse than the peer's by more than the spread (results: those of the side with more seeds, or else of the compiled
    one), in no more time (the quicker side's; see ``_time_ratio``)."""
    ours, peers = [sides[s] for s in ("compiled", "eager") if sides.get(s)], sides.get("torch")
    if not ours or not peers:
        return "No verdict: one side is missing."
    lines, judged = [], max(ours, key=len)
    for metric in [metric for metric in system.metrics if metric.less is not None]:
        mine = [run[metric.name] for run in judged.values() if run.get(metric.name) is not None]
        theirs = [run[metric.name] for run in peers.values() if run.get(metric.name) is not None]
        if mine and theirs:
            spread = max(max(values) - min(values) for values in (mine, theirs))
            worse = (statistics.mean(mine) - statistics.mean(theirs)) * (1 if metric.less else -1) + 0.0  # no -0
            if min(len(mine), len(theirs)) < 2:
                how = f"worse than PyTorch's by {worse:.3g}" if worse > 0 else "no worse"
                lines.append(f"{metric.name}: {how}, one seed, so no spread is known")
                continue
            verdict = "no worse" if worse <= spread else "worse"
            lines.append(f"{metric.name}: {verdict} than PyTorch's ({worse:+.3g}, spread {spread:.3g})")
    ratios = [ratio for ratio in [_time_ratio(runs, peers) for runs in ours] if ratio is not None]
    if not ratios:
        return "; ".join([*lines, "no seed ran on one machine on both sides, so no times are compared"]) + "."
    return "; ".join([*lines, f"time / PyTorch eager {min(ratios):.2f}"]) + "."


def _time_ratio(ours: Mapping[str, Any], peers: Mapping[str, Any]) -> float | None:
    """By the seeds that both sides ran on machines of one kind, beside as many others; None where there is none."""
    pairs = [(run, peers[seed]) for seed, run in ours.items() if seed in peers and _place(run) == _place(peers[seed])]
    mine, theirs = [sum([pair[side]["train_seconds"] for pair in pairs]) for side in (0, 1)]
    return mine / theirs if pairs else None


def _place(run: Mapping[str, Any]) -> tuple[str, int]:
    return run["hardware"], run.get("at_once", 1)
