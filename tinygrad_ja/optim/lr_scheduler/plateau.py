"""A schedule that watches the result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...core.modes import replayed
from ..optimizer import Optimizer
from .base import LRScheduler


class ReduceLROnPlateau(LRScheduler):
    """Multiplies the learning rate by ``factor`` when a metric has not become better for more than ``patience`` steps.

    mode: "min" or "max", what better means. threshold, threshold_mode: by how much, a share of the best ("rel") or absolutely ("abs").
    cooldown: steps to wait after a reduction. min_lr: a floor, one for all or one a group. eps: a smaller change is not made.

    >>> import tinygrad_ja as tg
    >>> optimizer = tg.optim.SGD([tg.ones(1, requires_grad=True)], lr=1.0)
    >>> scheduler = tg.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     scheduler.step(loss)
    >>> scheduler.get_last_lr()
    [0.1]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        self._require("factor", factor, factor < 1, "factor < 1")
        self._require("mode", mode, mode in ("min", "max"), "'min', 'max'")
        self._require("threshold_mode", threshold_mode, threshold_mode in ("rel", "abs"), "'rel', 'abs'")
        kind = type(optimizer).__name__
        self._require("optimizer", kind, isinstance(optimizer, Optimizer), ("an Optimizer", "Optimizer であること"))
        self.optimizer = optimizer
        self.min_lrs = self._per_group("min_lr", min_lr)
        self.default_min_lr = None if isinstance(min_lr, (list, tuple)) else min_lr
        self.mode, self.factor, self.patience, self.cooldown, self.eps = mode, factor, patience, cooldown, eps
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.best = math.inf if mode == "min" else -math.inf
        self.last_epoch, self.num_bad_epochs, self.cooldown_counter = 0, 0, 0
        self._last_lr = self.current()

    @replayed
    def step(self, metrics: Any, epoch: int | None = None) -> None:
        """Take note of the metric (a number or a Tensor of one element)."""
        value = float(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._is_better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self.current()

    def _is_better(self, value: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        if self.threshold_mode == "abs":
            return sign * value < sign * self.best - self.threshold
        return value < self.best * (1 - self.threshold) if sign == 1 else value > self.best * (1 + self.threshold)

    def _reduce(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs) and self.default_min_lr is not None:  # groups were added
            self.min_lrs = [self.default_min_lr] * len(groups)
        rule = (f"{len(groups)} values, one a group", f"グループごとに 1 つ、{len(groups)} 個")
        self._require("min_lrs", self.min_lrs, len(groups) == len(self.min_lrs), rule)
        for group, low in zip(groups, self.min_lrs):
            new = max(group["lr"] * self.factor, low)
            if group["lr"] - new > self.eps:
                group["lr"] = new

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.best = float(self.best)
