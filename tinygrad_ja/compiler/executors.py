"""Which executor runs a program: the machine code of ``native/``, NumPy's functions one by one, a CUDA graph, or the plain interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import error
from .plan import PassCount
from .planning import Pool
from .program import Program, interpret

BACKENDS = ("numpy", "native", "cuda", "plain")


class PlainExecutor:
    """Runs a program instruction by instruction, each in the plainest way: what the others are compared with."""

    nbytes = 0
    name = "plain"

    def __init__(self, program: Program, xp: Any = np) -> None:
        self.program, self.xp = program, xp
        self.notes: list[str] = []
        self.reason = ""

    def run(self, arguments: Sequence[Any], numbers: Sequence[float]) -> list[Any]:
        """The results for these arguments and numbers."""
        return interpret(self.program, arguments, numbers, self.xp)


def executor_for(
    program: Program, array_type: type, disable: Sequence[str], backend: str | None, pool: Pool | None = None
) -> tuple[Any, Program, list[PassCount]]:
    """An executor, the program that it runs, and how many instructions each run of a pass found and left. disable: names of passes; with
    ``"memory"`` each buffer has memory of its own. pool: memory that programs share."""
    if backend is not None and backend not in BACKENDS:
        raise error("TG-P006", backend=backend, allowed=", ".join(BACKENDS))
    if backend == "plain":
        from ..backend.arrays import ARRAY_MODULES

        return PlainExecutor(program, ARRAY_MODULES[array_type]), program, []
    from .passes import MEMORY, optimised

    counts: list[PassCount] = []
    reuse = MEMORY not in disable
    better = optimised(program, set(disable) - {MEMORY}, lambda *count: counts.append(PassCount(*count)))
    if array_type is not np.ndarray:
        from .cuda.executor import CudaExecutor

        return CudaExecutor(better, reuse=reuse), better, counts
    if backend != "numpy":
        from .native import available

        usable, reason = available()
        if usable:
            from .native.executor import NativeExecutor

            return NativeExecutor(better, reuse=reuse, pool=pool), better, counts
        if backend == "native":
            raise error("TG-P007", reason=reason)
    from .numpy_executor import NumpyExecutor

    return NumpyExecutor(better, reuse=reuse, pool=pool), better, counts
