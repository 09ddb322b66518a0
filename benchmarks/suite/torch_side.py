"""PyTorch's side: the program as it stands, or under ``torch.compile``. Optimizers take the fused kernels, which are the fastest ones."""

from __future__ import annotations

from typing import Any

import torch

from . import programs
from .workloads import Problem


class Runner:
    """The step of a workload as the worker calls it; see ``ours.py``."""

    def __init__(self, name: str, problem: Problem, form: str, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        torch.backends.cudnn.allow_tf32 = False
        side = programs.Side(torch, problem, device, fused=True)
        self.cuda = device.startswith("cuda")
        self.function: Any = programs.build(side, name, form)
        self.batches = [tuple(side.tensor(array) for array in batch) for batch in problem.batches]

    def step(self, batch: tuple[Any, ...]) -> Any:
        """One step; the loss as this side gives it."""
        return self.function(*batch)

    def finish(self) -> None:
        """Wait until all that was asked for is computed."""
        if self.cuda:
            torch.cuda.synchronize()

    def details(self) -> dict[str, Any]:
        """What the report tells of this side beside times."""
        return {"version": f"torch {torch.__version__}"}


class Compiled(Runner):
    """The whole step under ``torch.compile``; on a GPU with ``mode="reduce-overhead"``, which replays CUDA graphs."""

    def __init__(self, name: str, problem: Problem, form: str, device: str, threads: int) -> None:
        super().__init__(name, problem, form, device, threads)
        self.function = torch.compile(self.function, mode="reduce-overhead" if self.cuda else None)
