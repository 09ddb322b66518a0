"""Where the time of a training run goes, and how much memory it takes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from .. import cuda

PHASES = ("data", "steps", "validation", "other")
"""Waiting for the loader; training steps; validation; logs, checkpoints, pictures and everything else."""


class Clock:
    """A stop-watch that is always in one phase. ``seconds`` is the time in each, over all parts of a resumed run.

    >>> clock = Clock()
    >>> clock.enter("steps"); clock.enter("other")
    >>> list(clock.seconds)
    ['data', 'steps', 'validation', 'other']
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._phase = "other"
        self._since: float | None = None

    def start(self) -> None:
        """Go on, in the phase ``other``."""
        self._phase, self._since = "other", time.perf_counter()

    def enter(self, phase: str) -> None:
        """The time from now on belongs to ``phase``."""
        now = time.perf_counter()
        if self._since is not None:
            self.seconds[self._phase] += now - self._since
        self._phase, self._since = phase, now

    def stop(self) -> None:
        """Stand still until ``start``."""
        self.enter("other")
        self._since = None

    @property
    def total(self) -> float:
        """Seconds in all phases together."""
        return sum(self.seconds.values())

    def shares(self) -> dict[str, float]:
        """The share of each phase, 0 to 1."""
        total = self.total
        return {phase: seconds / total if total else 0.0 for phase, seconds in self.seconds.items()}

    def restore(self, seconds: Mapping[str, float]) -> None:
        """Take over the times of an earlier part of the run."""
        self.seconds = {phase: float(seconds[phase]) for phase in PHASES}


def peak_memory() -> int | None:
    """The most memory that this process has held so far, in bytes; None where the system does not tell (Windows)."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):  # unlike getrusage, it does not count a parent process before exec
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes on macOS


def gpu_memory(on_gpu: bool) -> int | None:
    """Bytes that the GPU's memory pool holds, or None without one."""
    return cuda.memory_reserved() if on_gpu else None


def memory_text(on_gpu: bool) -> str:
    """Both, as in ``"512 MB"`` or ``"512 MB, GPU 2,048 MB"``."""
    peak, pool = peak_memory(), gpu_memory(on_gpu)
    parts = [f"{peak / 1e6:,.0f} MB"] if peak is not None else []
    parts += [f"GPU {pool / 1e6:,.0f} MB"] if pool is not None else []
    return ", ".join(parts)
