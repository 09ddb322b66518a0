"""Averaged stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from ..backend.arrays import ARRAY_MODULES
from .optimizer import Optimizer, Params


class ASGD(Optimizer):
    """p ← (1 - λ η_t) p - η_t g with η_t = lr / (1 + λ lr t)^α; the state's ``ax`` is the mean of p from step ``t0`` on (Polyak and
    Juditsky 1992).

    lambd: λ. alpha: α. weight_decay: weight_decay·p is added to g. maximize: climb instead.
    Raises ArgumentError for a setting outside of its range.
    """

    numbers = {"step": int, "eta": float, "mu": float}  # noqa: RUF012 - never changed

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        **implementation: Any,
    ) -> None:
        self._take_implementation(implementation)
        self._require_in_range(lr=lr, weight_decay=weight_decay)
        defaults = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        xp = ARRAY_MODULES[type(p)]
        if not state:
            state.update(step=0, eta=group["lr"], mu=1.0, ax=xp.zeros_like(p))
        state["step"] += 1
        t, lr, decay, scratch = state["step"], group["lr"], group["lambd"], self.scratch(p)
        g, mean = self.penalized(p, g, group), state["ax"]
        xp.multiply(g, state["eta"], out=scratch)
        p *= 1 - decay * state["eta"]
        p -= scratch
        if state["mu"] == 1:
            mean[...] = p
        else:
            xp.subtract(p, mean, out=scratch)
            scratch *= state["mu"]
            mean += scratch
        state["eta"] = lr / (1 + decay * lr * t) ** group["alpha"]
        state["mu"] = 1 / max(1, t - group["t0"])
