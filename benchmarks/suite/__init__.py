"""``python -m benchmarks suite``: whole training steps next to PyTorch, torch.compile and JAX.

The same work for every side: the same initial weights, the same batches, and the losses of the first steps are compared before anything is
timed. Each side has its own process, which stays alive; they take turns, and medians are compared. A recurrence that can be written in two
ways is measured in both on each side and the faster one is taken. Writes JSON, Markdown tables and a bar chart; a run that is stopped leaves
the rows that it has measured in files whose names begin with ``suite-so-far``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

TITLE = {
    "en": "whole training steps, eager and compiled, next to PyTorch, torch.compile and JAX",
    "ja": "学習 1 ステップ全体 (eager と compile、PyTorch・torch.compile・JAX と並べて)",
}

PEERS = ("torch", "torch.compile", "jax")


def chosen(argument: str, text: str, known: Sequence[str]) -> list[str]:
    """The names in a list with commas, in the order of ``known``; all of them when it is empty."""
    from tinygrad_ja.errors import error

    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            command = "python -m benchmarks suite"
            rule, fix = ", ".join(known), f"{command} {argument} {known[0]}"
            raise error("TG-A001", op=command, argument=argument, value=name, rule=rule, fix=fix)
    return [name for name in known if name in names or not names]


def settings(wanted: str, environment: Mapping[str, str], cpuinfo: str | None = None) -> tuple[dict[str, dict[str, str]], str]:
    """The environments of the workers by the name of the BLAS setting, and a note where only one is run.

    ``default`` is what OpenBLAS chooses by itself, ``fast`` what the command lines of this package choose for it.
    """
    from tinygrad_ja.blas import CORE_TYPE, prepare

    default = dict(environment)
    fast = {name: value for name, value in environment.items() if name != CORE_TYPE}
    made = prepare(fast, cpuinfo)
    if made is None:
        note = "On this processor there is one BLAS setting: OpenBLAS chooses the kernels and nothing is set."
        return {"default": default}, note
    if environment.get(CORE_TYPE) == made:
        del default[CORE_TYPE]
    both = {"default": default, "fast": fast}
    return {name: both[name] for name in both if wanted in (name, "both")}, ""


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measure the workloads, print the tables and write them under ``--out``."""
    from .. import timing
    from . import report
    from .rounds import Options, begin, finish
    from .workloads import WORKLOADS, problem

    parser = argparse.ArgumentParser(prog="python -m benchmarks suite", description=__doc__)
    parser.add_argument("--device", default="cpu", help="where all sides run: cpu or cuda (default cpu)")
    parser.add_argument("--peers", default="", help=f"peers, with commas between them (default {','.join(PEERS)}; none: -)")
    parser.add_argument("--workloads", default="", help=f"workloads, with commas between them (default {','.join(WORKLOADS)})")
    parser.add_argument(
        "--blas", choices=["default", "fast", "both"], default="both", help="kernels of OpenBLAS (default both)"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of every side (default 2)")
    parser.add_argument("--rounds", type=int, default=9, help="rounds in which the sides take turns (default 9)")
    parser.add_argument("--quick", action="store_true", help="small sizes and one round, to see that everything runs")
    parser.add_argument(
        "--at-once",
        action="store_true",
        help="start all sides of all workloads side by side: for a machine with many processors that is there "
        "for minutes; times of first calls then say little",
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder for JSON, tables and chart")
    options = parser.parse_args(argv)

    peers = [] if options.peers == "-" else chosen("--peers", options.peers, PEERS)
    names = chosen("--workloads", options.workloads, tuple(WORKLOADS))
    environments, note = settings(options.blas, os.environ)
    how = Options(options.device, options.threads, options.quick, options.rounds, at_once=options.at_once)
    if options.quick:
        how = how._replace(rounds=1, target=0.01, settle=0.0)
    hardware = timing.described(options.device)
    where = hardware if options.device == "cpu" else timing.accelerator(options.device)
    results: dict[str, Any] = {"hardware": hardware, "device": options.device, "threads": options.threads}
    results.update(quick=options.quick, note=note, sides=["eager", "compiled", *peers], versions=[], blas={}, rows=[])
    for setting, environment in environments.items():
        results["blas"][setting] = ""
        sides = results["sides"]
        waiting = _begun(names, sides, how, environment) if how.at_once else {}
        for name in names:
            row = finish(waiting.pop(name) if waiting else begin(name, sides, how, environment), sides, how)
            title, floor = (f"{name}, smaller (--quick)", "") if how.quick else (WORKLOADS[name].title, WORKLOADS[name].floor)
            row.update(title=title, floor=floor, blas=setting, source=problem(name, how.quick).source)
            results["rows"].append(row)
            _remember(results, row, setting)
            milliseconds = {
                side: round(found["seconds"] * 1e3, 3) for side, found in row["sides"].items() if "seconds" in found
            }
            print(f"{setting} {name}: {milliseconds} {row['disagreement']}", file=sys.stderr, flush=True)
            so_far = timing.write_results(options.out, "suite-so-far", where, results, report.markdown(results))
    tables = report.markdown(results)
    print(tables)
    table = timing.write_results(options.out, "suite", where, results, tables)
    for file in (so_far, so_far.with_suffix(".json")):
        file.unlink()
    report.chart(results, [table.with_suffix(".png"), table.with_suffix(".svg")])
    return results


def _begun(names: Sequence[str], sides: Sequence[str], how: Any, environment: Mapping[str, str]) -> dict[str, Any]:
    """The workers of all workloads, started side by side."""
    from .rounds import begin

    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(lambda name: begin(name, sides, how, environment), names)))


def _remember(results: dict[str, Any], row: dict[str, Any], setting: str) -> None:
    """Versions and kernels, which the workers tell, belong to the whole."""
    for found in row["sides"].values():
        version, kernels = found.pop("version", None), found.pop("kernels", "")
        if version and version not in results["versions"]:
            results["versions"].append(version)
        results["blas"][setting] = results["blas"][setting] or kernels
