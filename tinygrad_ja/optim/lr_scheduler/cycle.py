"""Schedules that go up and down, for the learning rate and against it for the momentum. Step them once a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..optimizer import Optimizer
from .base import LRScheduler


class _MomentumSchedule(LRScheduler):
    """What both share: momentum, or Adam's β₁, moves between two bounds too."""

    def _prepare_momentum(self, base_momentum: Any, max_momentum: Any, last_epoch: int) -> None:
        defaults = self.optimizer.defaults
        rule = (
            "an optimizer with momentum or betas, or cycle_momentum=False",
            "momentum か betas のある optimizer、または cycle_momentum=False",
        )
        self._require("cycle_momentum", True, "momentum" in defaults or "betas" in defaults, rule)
        self.base_momentums = self._per_group("base_momentum", base_momentum)
        self.max_momentums = self._per_group("max_momentum", max_momentum)
        if last_epoch == -1:
            for group, low, high in zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums):
                self._set_momentum(group, high)
                group["max_momentum"], group["base_momentum"] = high, low

    def _set_momentum(self, group: dict[str, Any], value: float) -> None:
        if "betas" in self.optimizer.defaults:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value


class CyclicLR(_MomentumSchedule):
    """Triangles between ``base_lr`` and ``max_lr`` (Smith 2017).

    step_size_up, step_size_down: steps up and down. mode: "triangular"; "triangular2" halves the height after each cycle; "exp_range" scales
    it by gamma^t. scale_fn: a function in place of these, of the cycle (from 1) or of t as ``scale_mode`` says ("cycle", "iterations").
    cycle_momentum: momentum goes down from ``max_momentum`` to ``base_momentum`` as the rate goes up.
    """

    unsaved = ("optimizer", "scale_fn")

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = optimizer
        modes = ("triangular", "triangular2", "exp_range")
        self._require("mode", mode, mode in modes or scale_fn is not None, ", ".join(modes))
        lows = self._per_group("base_lr", base_lr)
        self.max_lrs = self._per_group("max_lr", max_lr)
        if last_epoch == -1:
            for group, low in zip(optimizer.param_groups, lows):
                group["lr"] = low
        down = step_size_up if step_size_down is None else step_size_down
        self.total_size = float(step_size_up + down)
        self.step_ratio = step_size_up / self.total_size
        self.mode, self.gamma, self.scale_fn = mode, gamma, scale_fn
        self.scale_mode = scale_mode if scale_fn is not None else "iterations" if mode == "exp_range" else "cycle"
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._prepare_momentum(base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = lows

    def _scale(self, cycle: int) -> float:
        x = cycle if self.scale_mode == "cycle" else self.last_epoch
        if self.scale_fn is not None:
            return self.scale_fn(x)
        if self.mode == "exp_range":
            return self.gamma**x
        return 1.0 if self.mode == "triangular" else 0.5 ** (x - 1)

    def get_lr(self) -> list[float]:
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1 + self.last_epoch / self.total_size - cycle
        height = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        height *= self._scale(cycle)
        if self.cycle_momentum:
            for group, low, high in zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums):
                self._set_momentum(group, high - (high - low) * height)
        return [low + (high - low) * height for low, high in zip(self.base_lrs, self.max_lrs)]


class OneCycleLR(_MomentumSchedule):
    """Once up from ``max_lr / div_factor`` to ``max_lr`` and down to far below where it began (Smith and Topin 2018).

    total_steps, or epochs and steps_per_epoch: the length. pct_start: the share of it that goes up. anneal_strategy: "cos" or "linear".
    final_div_factor: the end is the beginning divided by this. three_phase: down to the beginning as fast as up, then to the end.
    cycle_momentum: momentum goes down from ``max_momentum`` to ``base_momentum`` as the rate goes up.
    Raises ArgumentError without a length, and for a step after the last one.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = optimizer
        steps = (epochs or 0) * (steps_per_epoch or 0) if total_steps is None else total_steps
        rule = ("total_steps >= 1, or epochs and steps_per_epoch", "total_steps >= 1、または epochs と steps_per_epoch")
        self._require("total_steps", total_steps, isinstance(steps, int) and steps >= 1, rule)
        self._require("pct_start", pct_start, 0 <= pct_start <= 1, "0 <= pct_start <= 1")
        self._require("anneal_strategy", anneal_strategy, anneal_strategy in ("cos", "linear"), "'cos', 'linear'")
        self.total_steps, self.anneal_strategy, self.cycle_momentum = steps, anneal_strategy, cycle_momentum
        top = pct_start * steps - 1
        # (last step, rate at its beginning and end, momentum likewise), by names of the group's entries
        self._phases: list[list[Any]] = [[top, "initial_lr", "max_lr", "max_momentum", "base_momentum"]]
        if three_phase:
            self._phases += [
                [2 * pct_start * steps - 2, "max_lr", "initial_lr", "base_momentum", "max_momentum"],
                [steps - 1, "initial_lr", "min_lr", "max_momentum", "max_momentum"],
            ]
        else:
            self._phases.append([steps - 1, "max_lr", "min_lr", "base_momentum", "max_momentum"])
        if last_epoch == -1:
            for group, high in zip(optimizer.param_groups, self._per_group("max_lr", max_lr)):
                group["initial_lr"], group["max_lr"] = high / div_factor, high
                group["min_lr"] = group["initial_lr"] / final_div_factor
        if cycle_momentum:
            self._prepare_momentum(base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t = self.last_epoch
        self._require("step", t, t <= self.total_steps, f"step <= total_steps = {self.total_steps}")
        index = next((i for i, phase in enumerate(self._phases) if t <= phase[0]), len(self._phases) - 1)
        begin = self._phases[index - 1][0] if index else 0.0
        end, low, high, before, after = self._phases[index]
        share = (t - begin) / (end - begin)
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(self._between(group[low], group[high], share))
            if self.cycle_momentum:
                self._set_momentum(group, self._between(group[before], group[after], share))
        return rates

    def _between(self, start: float, end: float, share: float) -> float:
        if self.anneal_strategy == "cos":
            return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
        return start + (end - start) * share
