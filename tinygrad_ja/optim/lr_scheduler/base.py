"""``LRScheduler``: counts steps, and writes the learning rate of each group into the optimizer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from ...core.modes import replayed
from ...errors import Phrase, error, refusal, text
from ..optimizer import Optimizer

_PYTORCHS = frozenset(
    "_anneal_func_type _get_lr_called_within_step _scale_fn_custom _schedule_phases lr_lambdas mode_worse use_beta1 verbose".split()
)
"""Entries that PyTorch's schedules save and these do without: functions, and what follows from the settings."""


class LRScheduler:
    """Base of the schedules. A subclass defines ``get_lr``: the next learning rate of each group, usually from ``group["lr"]``, so that
    schedules can be chained; and ``closed_form``, the same from ``base_lrs`` and ``last_epoch`` alone.

    last_epoch: -1 starts afresh; else the number of steps taken before, for groups that still have their ``initial_lr``.
    Attributes: ``base_lrs`` (learning rates at the start), ``last_epoch`` (steps so far).
    Raises ArgumentError for what is no optimizer and for a ``last_epoch`` without an ``initial_lr``.
    """

    unsaved: tuple[str, ...] = ("optimizer",)
    """Attributes that are no part of the state."""

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self._require(
            "optimizer",
            type(optimizer).__name__,
            isinstance(optimizer, Optimizer),
            ("an Optimizer", "Optimizer であること"),
        )
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            known = "initial_lr" in group
            self._require("last_epoch", last_epoch, known, ("groups with their initial_lr", "initial_lr のあるグループ"))
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.start()

    def _require(self, argument: str, value: Any, allowed: bool, rule: Phrase) -> None:
        """Refuse a setting."""
        if not allowed:
            raise refusal(type(self).__name__, argument, value, rule)

    def _per_group(self, argument: str, value: Any) -> list[Any]:
        """``value`` for each group: one number for all, or a list of as many as there are groups."""
        count = len(self.optimizer.param_groups)
        if not isinstance(value, (list, tuple)):
            return [value] * count
        rule = (f"{count} values, one a group", f"グループごとに 1 つ、{count} 個")
        self._require(argument, value, len(value) == count, rule)
        return list(value)

    def start(self) -> None:
        """Set the first learning rate."""
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def get_lr(self) -> list[float]:
        """The learning rate of each group at ``last_epoch``."""
        raise NotImplementedError

    def closed_form(self) -> list[float]:
        """The same without the history; where a subclass has none, ``get_lr``."""
        return self.get_lr()

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group that ``step`` set last."""
        return self._last_lr

    @replayed
    def step(self, epoch: int | None = None) -> None:
        """Go on by one step, or to ``epoch``; the optimizer's groups get their new ``lr``."""
        if self.last_epoch == 0 and not self.optimizer.stepped:
            warnings.warn(text("TG-A005", scheduler=type(self).__name__), stacklevel=2)
        self._step_count += 1
        self.go_to(epoch)

    def go_to(self, epoch: int | None) -> None:
        """Set the learning rate of the next step, or of ``epoch``, without counting it as a step."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self.write(self.get_lr() if epoch is None else self.closed_form())

    def write(self, values: list[float]) -> None:
        """Set ``lr`` of each group. Raises ArgumentError where groups were added that this schedule does not know."""
        groups = self.optimizer.param_groups
        rule = (
            f"{len(values)} groups, as when the schedule was made",
            f"スケジューラを作ったときと同じ {len(values)} 個のグループ",
        )
        self._require("optimizer.param_groups", len(groups), len(values) == len(groups), rule)
        for group, lr in zip(groups, values):
            group["lr"] = lr
        self._last_lr = self.current()

    def current(self) -> list[float]:
        """``lr`` of each group now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def scaled(self, factor: float) -> list[float]:
        """``lr`` of each group times a factor."""
        return [group["lr"] * factor for group in self.optimizer.param_groups]

    # -- saving

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer and functions: plain numbers, lists and texts."""
        return {name: value for name, value in self.__dict__.items() if name not in self.unsaved}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave, here or in PyTorch. Raises StateError for entries of another kind of scheduler; then nothing has
        changed."""
        self._check_state(state_dict)
        self._restore(state_dict)

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update({name: value for name, value in state.items() if name not in _PYTORCHS})

    def _check_state(self, state_dict: Mapping[str, Any]) -> None:
        unknown = sorted(set(state_dict) - set(self.state_dict()) - _PYTORCHS)
        if unknown:
            names = ", ".join(unknown)
            raise error(
                "TG-F003",
                what=type(self).__name__,
                reason=(f"it has no {names}", f"{names} というものはありません"),
                fix=("load it into the same kind of scheduler", "同じ種類のスケジューラに読み込んでください。"),
            )
