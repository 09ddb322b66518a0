"""Calls as a trace that chrome://tracing and Perfetto read: the JSON of the Trace Event Format, a complete event ("X") for each call."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any, TextIO

from .recorder import Call

_GPU = 1_000_000
"""The row of the GPU, above the numbers of rows of threads."""


def write(file: TextIO, calls: Iterable[Call]) -> None:
    """Write the trace, an event a line."""
    process = os.getpid()
    rows: dict[tuple[int, str], int] = {}
    file.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
    file.write(json.dumps(_named("process_name", process, 0, "tinygrad_ja")))
    for call in sorted(calls, key=lambda call: (call.start, -call.nanoseconds)):
        key = (call.thread, call.device)
        if key not in rows:
            rows[key] = len(rows) + (0 if call.device == "cpu" else _GPU)
            name = f"thread {call.thread}" if call.device == "cpu" else call.device
            file.write(",\n" + json.dumps(_named("thread_name", process, rows[key], name)))
        file.write(",\n" + json.dumps(_event(call, process, rows[key])))
    file.write("\n]}\n")


def _named(what: str, process: int, row: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": process, "tid": row, "args": {"name": name}}


def _event(call: Call, process: int, row: int) -> dict[str, Any]:
    args: dict[str, Any] = {"shapes": " ".join(map(str, call.shapes))}
    if call.parent is None:
        args |= {"flops": call.flops, "bytes": call.nbytes}
    if call.line is not None:
        args |= {"line": call.line.place, "code": call.line.text}
    return {
        "name": call.title,
        "cat": call.part,
        "ph": "X",
        "ts": call.start / 1e3,
        "dur": call.nanoseconds / 1e3,
        "pid": process,
        "tid": row,
        "args": args,
    }
