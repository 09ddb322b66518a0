"""Step sizes in proportion to each layer's weights, for large batches: LARS and LAMB. Neither is in PyTorch."""

from __future__ import annotations

from typing import Any

from ..backend.arrays import ARRAY_MODULES
from .moments import into_moments
from .optimizer import Optimizer, Params


def _trust_ratio(xp: Any, weights: Any, update: Any) -> Any:
    """‖weights‖ / ‖update‖ as a 0-d array, 1 where one of them is 0: stays on the device."""
    wide = xp.promote_types(weights.dtype, xp.float32)  # squares and their sums leave the range of float16
    a, b = (xp.sqrt(xp.sum(xp.square(x, dtype=wide))) for x in (weights, update))
    usable = (a > 0) & (b > 0)
    return xp.where(usable, a / xp.where(usable, b, 1), 1).astype(weights.dtype)


class LARS(Optimizer):
    """v ← μ v + lr·η·‖p‖ / ‖d‖·d, p ← p - v, with d = g + λ p: each parameter moves by about the share η of its own size (You et al. 2017).

    trust_coefficient: η. Where ‖p‖ or ‖d‖ is 0 the ratio counts as 1. maximize: climb instead.
    Biases and the parameters of normalisation layers usually go into a group with SGD instead.
    Raises ArgumentError for a setting outside of its range.

    >>> import tinygrad_ja as tg
    >>> w = tg.tensor([3.0, 4.0], requires_grad=True)
    >>> optimizer = tg.optim.LARS([w], lr=1.0, momentum=0.0, trust_coefficient=0.5)
    >>> w.sum().backward()
    >>> optimizer.step()  # by 0.5 · 5 along (1, 1) / √2
    >>> w
    tensor([1.2322, 2.2322], requires_grad=True)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        *,
        maximize: bool = False,
    ) -> None:
        self._require_in_range(lr=lr, momentum=momentum, weight_decay=weight_decay, trust_coefficient=trust_coefficient)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        xp = ARRAY_MODULES[type(p)]
        if not state:
            state["momentum_buffer"] = xp.zeros_like(p)
        velocity, scratch = state["momentum_buffer"], self.scratch(p)
        d = self.penalized(p, g, group)
        velocity *= group["momentum"]
        xp.multiply(d, _trust_ratio(xp, p, d), out=scratch)
        scratch *= group["lr"] * group["trust_coefficient"]
        velocity += scratch
        p -= velocity


class LAMB(Optimizer):
    """p ← p - lr·‖p‖ / ‖r‖·r, where r = m̂ / (√v̂ + ε) + λ p is the step of AdamW (You et al. 2020).

    betas: (β₁, β₂) of the running means m of g and v of g². Where ‖p‖ or ‖r‖ is 0 the ratio counts as 1. maximize: climb instead.
    Raises ArgumentError for a setting outside of its range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        self._require_in_range(lr=lr, eps=eps, betas=betas, weight_decay=weight_decay)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize})

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        xp = ARRAY_MODULES[type(p)]
        if not state:
            state.update(step=0, exp_avg=xp.zeros_like(p), exp_avg_sq=xp.zeros_like(p))
        state["step"] += 1
        t, (beta1, beta2), scratch = state["step"], group["betas"], self.scratch(p)
        m, v = into_moments(xp, state, self.penalized(p, g, group, 0.0), group["betas"], scratch)
        xp.sqrt(v, out=scratch)
        scratch *= 1 / (1 - beta2**t) ** 0.5
        scratch += group["eps"]
        xp.divide(m, scratch, out=scratch)
        scratch *= 1 / (1 - beta1**t)
        if group["weight_decay"]:
            scratch += group["weight_decay"] * p
        scratch *= group["lr"] * _trust_ratio(xp, p, scratch)
        p -= scratch
