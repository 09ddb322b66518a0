"""Rprop: the sign of the gradient decides, not its size."""

from __future__ import annotations

from typing import Any

from ..backend.arrays import ARRAY_MODULES
from .optimizer import Optimizer, Params


class Rprop(Optimizer):
    """p ← p - η·sign(g), where each element's η grows while the sign of g stays and shrinks when it changes (Riedmiller and Braun 1993).
    After a change the element rests for one step. For whole batches: the signs of small ones are noise.

    lr: η of the first step. etas: factors (η⁻ < 1 < η⁺). step_sizes: bounds of η. maximize: climb instead.
    Raises ArgumentError for a setting outside of its range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        maximize: bool = False,
        **implementation: Any,
    ) -> None:
        self._take_implementation(implementation)
        self._require_in_range(lr=lr)
        pair = isinstance(etas, (tuple, list)) and len(etas) == 2
        self._require("etas", etas, pair and 0 < etas[0] < 1 < etas[1], "0 < etas[0] < 1 < etas[1]")
        super().__init__(params, {"lr": lr, "etas": etas, "step_sizes": step_sizes, "maximize": maximize})

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        xp = ARRAY_MODULES[type(p)]
        if not state:
            state.update(step=0, prev=xp.zeros_like(p), step_size=xp.full_like(p, group["lr"]))
        state["step"] += 1
        g, scratch = self.penalized(p, g, group, 0.0), self.scratch(p)
        previous, size, (shrink, grow) = state["prev"], state["step_size"], group["etas"]
        xp.multiply(g, previous, out=scratch)
        turned = scratch < 0
        size *= xp.where(turned, shrink, xp.where(scratch > 0, grow, 1.0)).astype(p.dtype, copy=False)
        xp.clip(size, *group["step_sizes"], out=size)
        previous[...] = xp.where(turned, 0, g)
        xp.sign(previous, out=scratch)
        scratch *= size
        p -= scratch
