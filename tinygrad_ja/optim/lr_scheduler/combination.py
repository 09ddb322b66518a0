"""Several schedules: one after the other, or all at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from ...core.modes import replayed
from ..optimizer import Optimizer
from .base import LRScheduler
from .plateau import ReduceLROnPlateau


class _Combination(LRScheduler):
    """What both share: the schedules belong to one optimizer, and their states are saved with it."""

    unsaved = ("optimizer", "_schedulers")

    def _take(self, optimizer: Any, schedulers: Sequence[LRScheduler]) -> None:
        self._require("schedulers", schedulers, len(schedulers) > 0, ("at least one", "1 つ以上"))
        for index, scheduler in enumerate(schedulers):
            usable = isinstance(scheduler, LRScheduler) and not isinstance(scheduler, ReduceLROnPlateau)
            rule = ("a scheduler whose step() takes no metric", "step() に値を渡さないスケジューラ")
            self._require(f"schedulers[{index}]", type(scheduler).__name__, usable, rule)
            same = scheduler.optimizer is optimizer
            rule = ("all for one optimizer", "すべて同じ optimizer のもの")
            self._require(f"schedulers[{index}].optimizer", type(scheduler.optimizer).__name__, same, rule)
        self.optimizer, self._schedulers = optimizer, list(schedulers)

    def go_to(self, epoch: int | None) -> None:
        """Begin anew: asked for with 0 by a SequentialLR at the milestone before this one."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        self.begin()
        self._last_lr = self.current()

    def begin(self) -> None:
        """Take the first step of each schedule that has one now."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The states of all schedules are under ``_schedulers``."""
        return {**super().state_dict(), "_schedulers": [scheduler.state_dict() for scheduler in self._schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave. Raises as that of the schedules does; then nothing has changed."""
        self._check_state(state_dict)
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"]):
            scheduler.load_state_dict(state)
        self._restore({name: value for name, value in state_dict.items() if name != "_schedulers"})

    def _check_state(self, state_dict: Mapping[str, Any]) -> None:
        super()._check_state(state_dict)
        states = state_dict.get("_schedulers", [])
        rule = (f"{len(self._schedulers)} states", f"{len(self._schedulers)} 個の状態")
        self._require("_schedulers", len(states), len(states) == len(self._schedulers), rule)
        for scheduler, state in zip(self._schedulers, states):
            scheduler._check_state(state)


class SequentialLR(_Combination):
    """The first schedule until step ``milestones[0]``, the second one, counted from there, until ``milestones[1]``, and so on.

    >>> import tinygrad_ja as tg
    >>> from tinygrad_ja.optim.lr_scheduler import ConstantLR, ExponentialLR
    >>> optimizer = tg.optim.SGD([tg.ones(1, requires_grad=True)], lr=1.0)
    >>> parts = [ConstantLR(optimizer, factor=0.5, total_iters=9), ExponentialLR(optimizer, gamma=0.5)]
    >>> scheduler = tg.optim.lr_scheduler.SequentialLR(optimizer, parts, milestones=[2])
    >>> rates = []
    >>> for _ in range(4):
    ...     rates.append(scheduler.get_last_lr()[0]); optimizer.step(); scheduler.step()
    >>> rates
    [0.5, 0.5, 1.0, 0.5]
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: list[LRScheduler], milestones: list[int], last_epoch: int = -1
    ) -> None:
        self._take(optimizer, schedulers)
        rule = ("one fewer than schedulers", "schedulers より 1 つ少ないこと")
        self._require("milestones", milestones, len(milestones) == len(schedulers) - 1, rule)
        self._milestones = list(milestones)
        self.last_epoch = last_epoch + 1
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        _undo_first_step(self._schedulers)
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first.start()
        self._last_lr = first.get_last_lr()

    def begin(self) -> None:
        """Take the first step of the schedule whose turn is first."""
        self.last_epoch = 0
        _begin(self._schedulers[bisect_right(self._milestones, 0)])

    @replayed
    def step(self, epoch: int | None = None) -> None:
        """Go on by one step."""
        self._require("epoch", epoch, epoch is None, "None")
        self.last_epoch += 1
        index = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[index]
        if index > 0 and self._milestones[index - 1] == self.last_epoch:
            scheduler.go_to(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


def _begin(scheduler: LRScheduler) -> None:
    if isinstance(scheduler, _Combination):
        scheduler.begin()
    else:
        scheduler.last_epoch = -1
        scheduler.start()


def _undo_first_step(schedulers: Sequence[LRScheduler]) -> None:
    """Each schedule took its first step when it was made; only the one whose turn it is should have."""
    for scheduler in schedulers:
        if isinstance(scheduler, _Combination):
            _undo_first_step(scheduler._schedulers)
        else:
            scheduler.last_epoch -= 1


class ChainedScheduler(_Combination):
    """All schedules at every step, each on what the one before it has made of the learning rate."""

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self._require("schedulers", schedulers, len(schedulers) > 0, ("at least one", "1 つ以上"))
        self._take(optimizer or getattr(schedulers[0], "optimizer", None), schedulers)
        self._last_lr = self.current()

    def begin(self) -> None:
        """Take the first step of all."""
        for scheduler in self._schedulers:
            _begin(scheduler)

    @replayed
    def step(self, epoch: int | None = None) -> None:
        """Go on by one step."""
        self._require("epoch", epoch, epoch is None, "None")
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self.current()
