"""Adafactor: Adam's adaptivity with the memory of two vectors instead of a matrix."""

from __future__ import annotations

from typing import Any

from ..backend.arrays import ARRAY_MODULES
from .optimizer import Optimizer, Params


class Adafactor(Optimizer):
    """Of the running mean V of g², a matrix (and any tensor by its last two axes) keeps only the means R of the rows and C of the columns:
    V ≈ R C / mean(R) (Shazeer and Stern 2018).

    u = g / √V, clipped to root mean square d, then p ← p - max(ε₂, RMS(p))·min(lr, 1/√t)·u.

    beta2_decay γ: the share of the present in V is t^γ. eps: (ε₁, ε₂); ε₁ None means the dtype's epsilon. weight_decay λ: first
    p ← (1 - lr λ) p. maximize: climb instead.
    Raises ArgumentError for a setting outside of its range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **implementation: Any,
    ) -> None:
        self._take_implementation(implementation)
        self._require_in_range(lr=lr, weight_decay=weight_decay)
        self._require("beta2_decay", beta2_decay, beta2_decay <= 0, "beta2_decay <= 0")
        pair = isinstance(eps, (tuple, list)) and len(eps) == 2
        allowed = pair and (eps[0] is None or eps[0] >= 0) and eps[1] >= 0
        self._require("eps", eps, allowed, ("two numbers >= 0", "2 つの 0 以上の数"))
        self._require("d", d, d >= 1, "d >= 1")
        defaults = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": eps,
            "d": d,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def state_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The means of rows and columns keep the reduced axis with size 1."""
        if name == "row_var":
            return shape[:-1] + (1,)
        return shape[:-2] + (1,) + shape[-1:] if name == "col_var" else shape

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        xp = ARRAY_MODULES[type(p)]
        if not state:
            state["step"] = 0
            for name in ("row_var", "col_var") if p.ndim > 1 else ("variance",):
                state[name] = xp.zeros_like(p, shape=self.state_shape(name, p.shape))
        state["step"] += 1
        if not p.size:
            return  # no element has no mean
        t, lr, scratch = state["step"], group["lr"], self.scratch(p)
        smallest, smallest_rms = group["eps"]
        smallest = float(xp.finfo(p.dtype).eps) if smallest is None else smallest
        g = self.penalized(p, g, group, 0.0)
        rate = xp.maximum(_rms(xp, p), smallest_rms) * min(lr, t**-0.5)
        p *= 1 - lr * group["weight_decay"]

        present = t ** group["beta2_decay"]
        xp.multiply(g, g, out=scratch)
        if p.ndim > 1:
            rows, columns = state["row_var"], state["col_var"]
            rows += present * (xp.mean(scratch, -1, keepdims=True) - rows)
            columns += present * (xp.mean(scratch, -2, keepdims=True) - columns)
            xp.multiply(rows, columns, out=scratch)
            scratch /= xp.maximum(xp.mean(rows, -2, keepdims=True), smallest)
        else:
            scratch -= state["variance"]
            scratch *= present
            scratch += state["variance"]
            state["variance"][...] = scratch
        xp.maximum(scratch, smallest * smallest, out=scratch)
        xp.sqrt(scratch, out=scratch)
        xp.divide(g, scratch, out=scratch)
        scratch *= rate / xp.maximum(_rms(xp, scratch) / group["d"], 1)
        p -= scratch


def _rms(xp: Any, x: Any) -> Any:
    """Root mean square, which stays on the device."""
    return xp.sqrt(xp.sum(x * x) / x.size)
