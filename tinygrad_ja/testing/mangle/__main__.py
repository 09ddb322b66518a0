"""``python -m tinygrad_ja.testing.mangle``: see the package's text."""

from __future__ import annotations

import argparse
import faulthandler
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import VerificationError
from .readers import usable_readers
from .trial import SECONDS, Outcome, mangled, run, whole_files


class Row(NamedTuple):
    """The files of one reader. faults: number of the file and what happened."""

    name: str
    outcomes: list[Outcome]
    faults: list[tuple[int, str]]


def row_of(name: str, count: int, seed: int, folder: Path) -> Row:
    """Try ``count`` damaged files, after the whole ones, with which everything is loaded that the reader needs."""
    for data in whole_files(name):
        whole = run(name, data, folder)
        if whole.fault:
            raise VerificationError(f"a whole {name} file: {whole.fault}")
    outcomes, faults = [], []
    for number in range(count):
        faulthandler.dump_traceback_later(20 * SECONDS, exit=True, file=2)  # a loop in C hears no alarm
        outcome = run(name, mangled(name, number, seed), folder)
        faulthandler.cancel_dump_traceback_later()
        outcomes.append(outcome)
        if outcome.fault:
            faults.append((number, outcome.fault))
    return Row(name, outcomes, faults)


def shown(row: Row) -> str:
    """One line of the table."""
    accepted = sum([outcome.accepted for outcome in row.outcomes])
    factor = max([outcome.factor for outcome in row.outcomes])
    slowest = max([outcome.seconds for outcome in row.outcomes])
    cells = [row.name, len(row.outcomes), len(row.outcomes) - accepted, accepted, f"{factor:.2f}", f"{slowest:.3f} s"]
    return "| " + " | ".join([str(cell) for cell in [*cells, len(row.faults)]]) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 when a file did harm."""
    parser = argparse.ArgumentParser(prog="python -m tinygrad_ja.testing.mangle", description="Damaged files for every reader.")
    parser.add_argument("--files", type=int, default=10_000, help="how many in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", nargs="+", choices=usable_readers(), default=usable_readers(), metavar="READER", help="these readers"
    )
    parser.add_argument("--number", type=int, help="one file alone")
    parser.add_argument("--keep", type=Path, help="where that file is written to")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        if given.number is not None:
            return _one(given.only[0], given.number, given.seed, Path(folder), given.keep)
        print("| reader | files | refused | accepted | peak memory factor | slowest | faults |", flush=True)
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
        rows = []
        for name in given.only:
            rows.append(row_of(name, -(-given.files // len(given.only)), given.seed, Path(folder)))
            print(shown(rows[-1]), flush=True)
    for row in rows:
        for number, fault in row.faults[:20]:
            print(f"{row.name} --number {number} --seed {given.seed}: {fault}")
    print(f"{sum([len(row.outcomes) for row in rows])} files, {sum([len(row.faults) for row in rows])} faults")
    return int(any([row.faults for row in rows]))


def _one(name: str, number: int, seed: int, folder: Path, keep: Path | None) -> int:
    data = mangled(name, number, seed)
    if keep is not None:
        keep.write_bytes(data)
    outcome = run(name, data, folder)
    print(f"{len(data)} bytes: {outcome}")
    return int(bool(outcome.fault))


if __name__ == "__main__":
    sys.exit(main())
