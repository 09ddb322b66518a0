"""Schedules that begin low."""

from __future__ import annotations

from ..optimizer import Optimizer
from .base import LRScheduler


class ConstantLR(LRScheduler):
    """lr_0 · factor for ``total_iters`` steps, then lr_0."""

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        self._require("factor", factor, 0 <= factor <= 1, "0 <= factor <= 1")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return self.scaled(self.factor)
        return self.scaled(1 / self.factor) if self.last_epoch == self.total_iters else self.current()

    def closed_form(self) -> list[float]:
        factor = 1.0 if self.last_epoch >= self.total_iters else self.factor
        return [base * factor for base in self.base_lrs]


class LinearLR(LRScheduler):
    """lr_0 times a factor that goes in ``total_iters`` equal steps from ``start_factor`` to ``end_factor``.

    >>> import tinygrad_ja as tg
    >>> optimizer = tg.optim.SGD([tg.ones(1, requires_grad=True)], lr=1.0)
    >>> scheduler = tg.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> rates = []
    >>> for _ in range(4):
    ...     rates.append(scheduler.get_last_lr()[0]); optimizer.step(); scheduler.step()
    >>> rates
    [0.5, 0.75, 1.0, 1.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self._require("start_factor", start_factor, 0 < start_factor <= 1, "0 < start_factor <= 1")
        self._require("end_factor", end_factor, 0 <= end_factor <= 1, "0 <= end_factor <= 1")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return self.scaled(self.start_factor)
        if self._is_initial or self.last_epoch > self.total_iters:
            return self.current()
        rise = self.end_factor - self.start_factor
        before = self.total_iters * self.start_factor + (self.last_epoch - 1) * rise
        return self.scaled(1 + rise / before)

    def closed_form(self) -> list[float]:
        share = min(self.total_iters, self.last_epoch) / self.total_iters
        factor = self.start_factor + (self.end_factor - self.start_factor) * share
        return [base * factor for base in self.base_lrs]


class NoamLR(LRScheduler):
    """lr_t = lr_0 · d_model^-0.5 · min(s^-0.5, s · warmup_steps^-1.5) with s = t + 1: linear up, then down with 1/√s (Vaswani et al. 2017,
    section 5.3; not in PyTorch). Step it once a batch; lr_0 is 1 in the paper.

    >>> import tinygrad_ja as tg
    >>> optimizer = tg.optim.Adam([tg.ones(1, requires_grad=True)], lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    >>> scheduler = tg.optim.lr_scheduler.NoamLR(optimizer, d_model=64, warmup_steps=100)
    >>> for _ in range(99):
    ...     optimizer.step(); scheduler.step()
    >>> scheduler.get_last_lr()  # the top, (64 · 100)^-0.5
    [0.0125]
    """

    def __init__(self, optimizer: Optimizer, d_model: int, warmup_steps: int = 4000, last_epoch: int = -1) -> None:
        self._require("d_model", d_model, d_model >= 1, "d_model >= 1")
        self._require("warmup_steps", warmup_steps, warmup_steps >= 1, "warmup_steps >= 1")
        self.d_model, self.warmup_steps = d_model, warmup_steps
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        s = self.last_epoch + 1
        factor = self.d_model**-0.5 * min(s**-0.5, s * self.warmup_steps**-1.5)
        return [base * factor for base in self.base_lrs]
