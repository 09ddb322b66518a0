"""Text in rows: tables with commas or tabs, time series, pairs of parallel lines, JSON lines."""

from __future__ import annotations

import csv
import io
import math
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...errors import StateError
from ...io.files import Fault, FilePath, damaged
from ...io.strict_json import parse_json
from .content import LIMIT, Contents, read_content, read_lines


def read_table(path: FilePath, delimiter: str = ",", limit: int = 1 << 26) -> Iterator[list[str]]:
    """The rows of a table with one delimiter, the header first, as lists of text. All rows must be as long as the first; empty lines are
    left out. Raises StateError with the number of the line (TG-F005; TG-F008 above ``limit`` bytes).

    >>> import tempfile; from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "a.csv"); _ = path.write_text('word,score\\n"a,b",1.5\\n')
    >>> list(read_table(path))
    [['word', 'score'], ['a,b', '1.5']]
    """
    text = io.TextIOWrapper(io.BytesIO(read_content(path, limit)), encoding="utf-8", newline="")
    rows = csv.reader(text, delimiter=delimiter, strict=True)
    width = None
    while True:
        try:
            row = next(rows, None)
        except (csv.Error, UnicodeDecodeError) as failure:
            raise _fault(path, "CSV", rows.line_num, str(failure), str(failure)) from failure
        if row is None:
            return
        if not row:
            continue
        width = width or len(row)
        if len(row) != width:
            raise _fault(
                path,
                "CSV",
                rows.line_num,
                f"{len(row)} cells instead of {width}",
                f"セルが {width} 個ではなく {len(row)} 個です",
            )
        yield row


def read_series(path: FilePath, *columns: str, delimiter: str = ",", limit: int = 1 << 26) -> dict[str, np.ndarray]:
    """Columns of finite numbers from a table with a header: name -> float64 array.

    columns: which ones (all, when none is named). Raises StateError with line and column (TG-F005; TG-F008 above ``limit`` bytes).

    >>> import tempfile; from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "a.csv"); _ = path.write_text("month,value\\nJan,112\\nFeb,118\\n")
    >>> read_series(path, "value")
    {'value': array([112., 118.])}
    """
    rows = read_table(path, delimiter, limit)
    header = next(rows, [])
    missing = [column for column in columns or [""] if column and column not in header]
    if missing or not header or len(set(header)) < len(header):
        raise _fault(
            path,
            "CSV",
            1,
            f"the header {header} lacks {missing} or repeats a name",
            f"見出し {header} に {missing} がないか、重複があります",
        )
    wanted = {column: header.index(column) for column in columns or header}
    values = {column: array("d") for column in wanted}
    for number, row in enumerate(rows, 2):
        for column, at in wanted.items():
            values[column].append(_number(row[at], column, path, number))
    return {column: np.array(numbers, np.float64) for column, numbers in values.items()}


def _number(text: str, column: str, path: FilePath, row: int) -> float:
    try:
        value = float(text) if "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _fault(
            path,
            "CSV",
            row,
            f"{text[:20]!r} in column '{column}' is not a number",
            f"列 '{column}' の {text[:20]!r} が数ではありません",
        )
    return value


def read_pairs(source: FilePath, target: FilePath, limit: int = 1 << 26) -> list[tuple[str, str]]:
    """The lines of two files side by side, as in a parallel text. Raises StateError when one file has more lines than the other
    (TG-F005; TG-F008 above ``limit`` bytes).

    >>> import tempfile; from pathlib import Path
    >>> folder = Path(tempfile.mkdtemp()); _ = (folder / "a.en").write_text("a dog\\n"); _ = (folder / "a.ja").write_text("犬\\n", "utf-8")
    >>> read_pairs(folder / "a.en", folder / "a.ja")
    [('a dog', '犬')]
    """
    left, right = read_lines(source, limit), read_lines(target, limit)
    if len(left) != len(right):
        fault = (
            f"it has {len(right)} lines, but {source} has {len(left)}",
            f"{len(right)} 行ありますが、{source} は {len(left)} 行です",
        )
        raise damaged(target, "parallel text", fault)
    return list(zip(left, right))


def read_json_lines(path: FilePath, limit: int = LIMIT, line_limit: int = 1 << 20) -> Iterator[Any]:
    """The values in a file of JSON lines, plain or gzip, one after the other; only one line is in memory.

    Raises StateError with the number of the line: not JSON, not UTF-8, longer than ``line_limit`` bytes, nested too deeply, a name twice in
    one object, a number that is not finite (TG-F005; TG-F008 above ``limit`` bytes).

    >>> import tempfile; from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "a.jsonl"); _ = path.write_text('{"a": 1}\\n[2, 3]\\n')
    >>> list(read_json_lines(path))
    [{'a': 1}, [2, 3]]
    """
    with open(path, "rb") as file:
        contents = Contents(file, path, limit)
        for number, line in enumerate(_byte_lines(contents, line_limit), 1):
            if line.strip():
                try:
                    yield parse_json(line)
                except Fault as failure:
                    raise _fault(path, "JSON lines", number, *failure.phrase) from failure
        contents.finish()


def _byte_lines(contents: Contents, longest: int) -> Iterator[bytes]:
    rest = b""
    number = 1
    while piece := contents.read(1 << 16):
        *lines, rest = (rest + piece).split(b"\n")
        for line in [*lines, rest]:
            if len(line) > longest:
                raise _fault(
                    contents.name, "JSON lines", number, f"longer than {longest} bytes", f"{longest} バイトより長い行です"
                )
        number += len(lines)
        yield from lines
    if rest:
        yield rest


def _fault(name: FilePath, kind: str, line: int, en: str, ja: str) -> StateError:
    return damaged(name, kind, (f"line {line}: {en}", f"{line} 行目: {ja}"))
