"""``EarlyStopping``: notes the best result, and when there has been none better for too long."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..errors import refusal


class EarlyStopping:
    """Watches one value of the validation and says when to stop.

    monitor: its name, such as ``"valid_loss"``. mode: ``"min"`` or ``"max"``, what better means. min_delta: by how much it must be better
    than the best. patience: stop after so many validations in a row that were not; None never stops, and only the best is noted.
    restore_best: at the end of the training the model gets the weights of the best validation. Source: Prechelt, Early stopping - but
    when?, 1998.

    ``best``, ``best_step``: the best value and its step; ``waited``: validations since. A value that is NaN is not better.
    Raises ArgumentError for a mode or a patience that does not exist.

    >>> stopping = EarlyStopping("valid_loss", patience=2)
    >>> [stopping.update(value, step) for step, value in enumerate([3.0, 2.0, 2.5, 2.4])]
    [True, True, False, False]
    >>> stopping.stopped, stopping.best, stopping.best_step
    (True, 2.0, 1)
    """

    def __init__(
        self,
        monitor: str = "valid_loss",
        *,
        patience: int | None = 5,
        mode: str = "min",
        min_delta: float = 0.0,
        restore_best: bool = False,
    ) -> None:
        _require("mode", mode, mode in ("min", "max"), "'min', 'max'")
        _require("min_delta", min_delta, min_delta >= 0, "min_delta >= 0")
        _require("patience", patience, patience is None or patience >= 1, "None, patience >= 1")
        self.monitor, self.mode, self.patience = monitor, mode, patience
        self.min_delta, self.restore_best = min_delta, restore_best
        self.best = math.inf if mode == "min" else -math.inf
        self.best_step = 0
        self.waited = 0

    def update(self, value: float, step: int) -> bool:
        """Take note of the value at ``step``. True when it is the best so far."""
        sign = 1 if self.mode == "min" else -1
        better = sign * value < sign * self.best - self.min_delta
        if better:
            self.best, self.best_step, self.waited = float(value), step, 0
        else:
            self.waited += 1
        return better

    @property
    def stopped(self) -> bool:
        """True when the patience is at its end."""
        return self.patience is not None and self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """The best so far, and how long ago it was."""
        return {"best": self.best, "best_step": self.best_step, "waited": self.waited}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave."""
        self.best, self.best_step = float(state_dict["best"]), int(state_dict["best_step"])
        self.waited = int(state_dict["waited"])


def _require(argument: str, value: Any, allowed: bool, rule: str) -> None:
    if not allowed:
        raise refusal("EarlyStopping", argument, repr(value), rule)
