"""The comparisons of ``python -m benchmarks systems``: programs, their arguments, what is compared, and the bars."""

from __future__ import annotations

from . import System

SYSTEMS: dict[str, System] = {}
