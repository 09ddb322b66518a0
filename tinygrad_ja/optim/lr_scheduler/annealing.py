"""Schedules along a cosine."""

from __future__ import annotations

import math

from ...core.modes import replayed
from ..optimizer import Optimizer
from .base import LRScheduler


class CosineAnnealingLR(LRScheduler):
    """lr_t = eta_min + (lr_0 - eta_min)·(1 + cos(π t / T_max)) / 2 (Loshchilov and Hutter 2017, without the restarts).

    >>> import tinygrad_ja as tg
    >>> optimizer = tg.optim.SGD([tg.ones(1, requires_grad=True)], lr=1.0)
    >>> scheduler = tg.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
    >>> optimizer.step(); scheduler.step(); scheduler.get_last_lr()
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self._require("T_max", T_max, T_max >= 1, "T_max >= 1")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t, period, low = self.last_epoch, self.T_max, self.eta_min
        if self._is_initial:
            return self.current() if t == 0 else self.closed_form()
        groups = self.optimizer.param_groups
        if (t - 1 - period) % (2 * period) == 0:  # the step before was at the bottom, from where no factor leads up
            rise = (1 - math.cos(math.pi / period)) / 2
            return [group["lr"] + (base - low) * rise for group, base in zip(groups, self.base_lrs)]
        factor = (1 + math.cos(math.pi * t / period)) / (1 + math.cos(math.pi * (t - 1) / period))
        return [low + factor * (group["lr"] - low) for group in groups]

    def closed_form(self) -> list[float]:
        height = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """Cosines one after the other: lr = eta_min + (lr_0 - eta_min)·(1 + cos(π T_cur / T_i)) / 2, where T_cur counts from the last restart
    (Loshchilov and Hutter 2017).

    T_0: length of the first cosine; each next one is T_mult times as long. ``step(epoch)`` takes fractions too, such as
    ``epoch + batch / batches``.
    """

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self._require("T_0", T_0, isinstance(T_0, int) and T_0 >= 1, ("an int >= 1", "1 以上の整数"))
        self._require("T_mult", T_mult, isinstance(T_mult, int) and T_mult >= 1, ("an int >= 1", "1 以上の整数"))
        self.T_0, self.T_i, self.T_mult, self.eta_min = T_0, T_0, T_mult, eta_min
        self.T_cur: float = last_epoch
        if last_epoch >= 0:
            self._restarts_before(last_epoch)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]

    @replayed
    def step(self, epoch: float | None = None) -> None:
        """Go on by one step, or to ``epoch``, which may lie between steps."""
        if epoch is not None:
            self._require("epoch", epoch, epoch >= 0, "epoch >= 0")
        elif self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur -= self.T_i
                self.T_i *= self.T_mult
        else:
            self._restarts_before(epoch)
        self._step_count += 1
        self.last_epoch = math.floor(epoch)
        self.write(self.get_lr())

    def _restarts_before(self, epoch: float) -> None:
        """Set T_cur and T_i for an epoch."""
        self.T_cur, self.T_i = epoch, self.T_0
        if self.T_mult == 1:
            self.T_cur = epoch % self.T_0
            return
        while self.T_cur >= self.T_i:
            self.T_cur -= self.T_i
            self.T_i *= self.T_mult
