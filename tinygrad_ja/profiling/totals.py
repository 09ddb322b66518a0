"""Sums of calls, by operator or by line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..errors import one_of
from .lines import Line
from .recorder import Call


@dataclass
class Total:
    """Sums of some calls.

    name: the operator (``matmul``, ``matmul.backward``), or the line (``model.py:12``, "" where it is not known). line: of a sum by line.
    calls: their number. seconds: with the calls in them. own: without. forward, backward, update, compiled: ``own`` by part of the step. flops,
    nbytes: operations, and bytes read and written. allocated: bytes left allocated. shapes: of the inputs -> number of calls.
    """

    name: str
    line: Line | None = None
    calls: int = 0
    seconds: float = 0.0
    own: float = 0.0
    forward: float = 0.0
    backward: float = 0.0
    update: float = 0.0
    compiled: float = 0.0
    flops: int = 0
    nbytes: int = 0
    allocated: int = 0
    shapes: Counter[tuple[tuple[int, ...], ...]] = field(default_factory=Counter)

    def add(self, call: Call) -> None:
        """Count one more call."""
        own = call.own / 1e9
        self.calls += 1
        self.seconds += call.nanoseconds / 1e9
        self.own += own
        setattr(self, call.part, getattr(self, call.part) + own)
        self.flops += call.flops
        self.nbytes += call.nbytes
        self.allocated += call.allocated
        self.shapes[call.shapes] += 1

    @property
    def gflops_per_second(self) -> float:
        """Thousand millions of floating-point operations a second."""
        return self.flops / self.seconds / 1e9 if self.seconds else 0.0

    @property
    def gigabytes_per_second(self) -> float:
        """Thousand millions of bytes a second."""
        return self.nbytes / self.seconds / 1e9 if self.seconds else 0.0


def totals(calls: Iterable[Call], by: str) -> list[Total]:
    """The sums, the longest (by ``own``) first. by: "operator" or "line"; of a line, calls within calls are in those."""
    one_of("profile", "by", by, ("operator", "line"))
    found: dict[object, Total] = {}
    for call in calls:
        if by == "operator":
            key: object = call.title
            total = found.setdefault(key, Total(call.title))
        else:
            if call.parent is not None:
                continue
            place = call.line and (call.line.file, call.line.number)
            total = found.setdefault(place, Total(call.line.place if call.line else "", call.line))
        total.add(call)
    if by == "line":
        for total in found.values():
            total.own = total.seconds
    return sorted(found.values(), key=lambda total: -total.own)
