"""Bytes that are allocated: as ``tracemalloc`` counts them for NumPy and Python, and of a GPU's pool where one is used."""

from __future__ import annotations

import tracemalloc

from ..backend.arrays import BACKENDS


class Memory:
    """Counts between ``start`` and ``stop``."""

    def __init__(self) -> None:
        self._was_tracing = False
        self._before = 0

    def start(self) -> None:
        """Begin to count."""
        self._was_tracing = tracemalloc.is_tracing()
        if not self._was_tracing:
            tracemalloc.start()
        tracemalloc.reset_peak()
        self._before = tracemalloc.get_traced_memory()[0]

    def now(self) -> int:
        """Bytes that are allocated."""
        return tracemalloc.get_traced_memory()[0] + _on_gpu()

    def stop(self) -> tuple[int, int]:
        """The most bytes since ``start`` (on the CPU), and those now, both less those at ``start``."""
        now, peak = tracemalloc.get_traced_memory()
        if not self._was_tracing:
            tracemalloc.stop()
        return peak - self._before, now - self._before


def _on_gpu() -> int:
    backend = BACKENDS.get("cuda")
    pool = getattr(backend.xp, "get_default_memory_pool", None) if backend is not None else None
    return int(pool().used_bytes()) if pool is not None else 0
