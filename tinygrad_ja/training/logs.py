"""Logs of a training run: CSV, JSON lines and TensorBoard. A killed run leaves whole lines; a resumed one drops those it repeats.

A row is a dict of numbers with ``step`` and ``epoch``. A log has ``start(rows)``, which begins it anew with the rows that are kept,
``write(row)``, and ``close()``.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..errors import error
from ..io.files import replacing

LogRow = Mapping[str, float]


class Log(Protocol):
    """What a Trainer asks of a log."""

    def start(self, rows: Sequence[LogRow]) -> None:
        """Begin anew, with the rows that are kept of an earlier run."""

    def write(self, row: LogRow) -> None:
        """Add a row."""

    def close(self) -> None:
        """Nothing more comes."""


class _LinesLog:
    """A text file that grows by whole lines: each is one write to the system, with nothing kept back in the process."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file: Any = None

    def _begin(self, text: str) -> None:
        self.close()
        with replacing(self.path, "w", newline="") as file:
            file.write(text)
        self._file = open(self.path, "ab", buffering=0)

    def _append(self, line: str) -> None:
        self._file.write(line.encode())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class JSONLog(_LinesLog):
    """One JSON object a line (``.jsonl``). A value that is NaN or infinite is written as null, since JSON knows no such number.

    >>> import tempfile; from pathlib import Path
    >>> log = JSONLog(Path(tempfile.mkdtemp(), "log.jsonl"))
    >>> log.start([]); log.write({"step": 1, "loss": 0.5}); log.close()
    >>> log.path.read_text()
    '{"step": 1, "loss": 0.5}\\n'
    """

    def start(self, rows: Sequence[LogRow]) -> None:
        """Begin the file anew with ``rows``."""
        self._begin("".join(map(_json_line, rows)))

    def write(self, row: LogRow) -> None:
        """Append a row."""
        self._append(_json_line(row))


def _json_line(row: LogRow) -> str:
    return json.dumps({name: value if math.isfinite(value) else None for name, value in row.items()}, ensure_ascii=False) + "\n"


class CSVLog(_LinesLog):
    """A table with a header, one row a line. When a row has a new column, the file is written anew with it.

    >>> import tempfile; from pathlib import Path
    >>> log = CSVLog(Path(tempfile.mkdtemp(), "log.csv"))
    >>> log.start([]); log.write({"step": 1, "loss": 0.5}); log.write({"step": 2, "valid_loss": 0.75}); log.close()
    >>> print(log.path.read_text(), end="")
    step,loss,valid_loss
    1,0.5,
    2,,0.75
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._columns: list[str] = []
        self._rows: list[LogRow] = []

    def start(self, rows: Sequence[LogRow]) -> None:
        """Begin the file anew with ``rows``."""
        self._rows = list(rows)
        self._columns = list(dict.fromkeys(name for row in rows for name in row))
        lines = [self._columns, *map(self._cells, rows)] if rows else []
        self._begin("".join(map(_csv_line, lines)))

    def write(self, row: LogRow) -> None:
        """Append a row."""
        if set(row) <= set(self._columns):
            self._rows.append(row)
            self._append(_csv_line(self._cells(row)))
        else:
            self.start([*self._rows, row])

    def _cells(self, row: LogRow) -> list[Any]:
        return [row.get(name, "") for name in self._columns]


def _csv_line(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


class TensorBoardLog:
    """Scalars for TensorBoard, in event files in ``folder``: ``loss/train`` and ``loss/valid`` in one picture, over the step.

    A resumed run purges what an earlier one wrote beyond its checkpoint. Raises ArgumentError when tensorboardX is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            import tensorboardX
        except ImportError as failure:
            raise error("TG-A002", package="tensorboardX", install="tensorboardX") from failure
        self.folder = Path(folder)
        self._make: Any = tensorboardX.SummaryWriter
        self._writer: Any = None

    def start(self, rows: Sequence[LogRow]) -> None:
        """Begin a new file; what the folder holds of steps after the last of ``rows`` no longer counts."""
        self.close()
        purged = int(rows[-1]["step"]) + 1 if rows else 0
        # files are named by the second, and read in the order of their names
        self._writer = self._make(str(self.folder), purge_step=purged, filename_suffix=f".{purged:012d}")

    def write(self, row: LogRow) -> None:
        """Add the values of a row."""
        for name, value in row.items():
            if name not in ("step", "epoch"):
                self._writer.add_scalar(_tag(name), value, int(row["step"]))
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _tag(name: str) -> str:
    if name in ("lr", "seconds"):
        return name
    return f"{name[6:]}/valid" if name.startswith("valid_") else f"{name}/train"
