"""Relatives of Adam: Adamax, NAdam, RAdam."""

from __future__ import annotations

from typing import Any

from ..backend.arrays import ARRAY_MODULES
from .moments import into_mean, into_moments
from .optimizer import Optimizer, Params


class Adamax(Optimizer):
    """Adam by the infinity norm: p ← p - lr·m / ((1 - β₁ᵗ)·u) with u ← max(β₂ u, |g| + ε) (Kingma and Ba 2015, section 7.1).

    betas: (β₁, β₂). weight_decay λ: λ p is added to g. maximize: climb instead.
    Raises ArgumentError for a setting outside of its range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        **implementation: Any,
    ) -> None:
        self._take_implementation(implementation)
        self._require_in_range(lr=lr, eps=eps, betas=betas, weight_decay=weight_decay)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize})

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        xp = ARRAY_MODULES[type(p)]
        if not state:
            state.update(step=0, exp_avg=xp.zeros_like(p), exp_inf=xp.zeros_like(p))
        state["step"] += 1
        g, scratch, (beta1, beta2) = self.penalized(p, g, group), self.scratch(p), group["betas"]
        m, u = state["exp_avg"], state["exp_inf"]
        into_mean(xp, m, g, beta1, scratch)
        u *= beta2
        xp.abs(g, out=scratch)
        scratch += group["eps"]
        xp.maximum(u, scratch, out=u)
        xp.divide(m, u, out=scratch)
        scratch *= group["lr"] / (1 - beta1 ** state["step"])
        p -= scratch


class NAdam(Optimizer):
    """Adam with Nesterov's momentum, whose strength μ_t = β₁ (1 - 0.96^(t ψ) / 2) grows (Dozat 2016):

    p ← p - lr·[(1 - μ_t) g / (1 - Π μ) + μ_{t+1} m / (1 - μ_{t+1} Π μ)] / (√v̂ + ε).

    betas: (β₁, β₂). momentum_decay: ψ. weight_decay λ: λ p is added to g, or with ``decoupled_weight_decay`` p ← (1 - lr λ) p as in AdamW.
    maximize: climb instead.
    Raises ArgumentError for a setting outside of its range.
    """

    numbers = {"step": int, "mu_product": float}  # noqa: RUF012 - never changed

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        **implementation: Any,
    ) -> None:
        self._take_implementation(implementation)
        self._require_in_range(lr=lr, eps=eps, betas=betas, weight_decay=weight_decay, momentum_decay=momentum_decay)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        xp = ARRAY_MODULES[type(p)]
        if not state:
            state.update(step=0, mu_product=1.0, exp_avg=xp.zeros_like(p), exp_avg_sq=xp.zeros_like(p))
        state["step"] += 1
        t, lr, (beta1, beta2) = state["step"], group["lr"], group["betas"]
        scratch, step = self.scratch(p), self.scratch(p, 2)
        if group["decoupled_weight_decay"]:
            p *= 1 - lr * group["weight_decay"]
            g = self.penalized(p, g, group, 0.0)
        else:
            g = self.penalized(p, g, group)
        mu = beta1 * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"]))
        mu_next = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * group["momentum_decay"]))
        state["mu_product"] *= mu
        product = state["mu_product"]

        m, v = into_moments(xp, state, g, group["betas"], scratch)
        xp.multiply(g, lr * (1 - mu) / (1 - product), out=step)
        xp.multiply(m, lr * mu_next / (1 - product * mu_next), out=scratch)
        step += scratch
        xp.sqrt(v, out=scratch)
        scratch *= 1 / (1 - beta2**t) ** 0.5
        scratch += group["eps"]
        step /= scratch
        p -= step


class RAdam(Optimizer):
    """Adam that waits until the variance of its step size is known: with ρ_t <= 5 it is momentum, else Adam's step times
    r_t = √[(ρ_t - 4)(ρ_t - 2) ρ_∞ / ((ρ_∞ - 4)(ρ_∞ - 2) ρ_t)] (Liu et al. 2020).

    betas: (β₁, β₂). weight_decay λ: λ p is added to g, or with ``decoupled_weight_decay`` p ← (1 - lr λ) p as in AdamW. maximize: climb
    instead.
    Raises ArgumentError for a setting outside of its range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        **implementation: Any,
    ) -> None:
        self._take_implementation(implementation)
        self._require_in_range(lr=lr, eps=eps, betas=betas, weight_decay=weight_decay)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        xp = ARRAY_MODULES[type(p)]
        if not state:
            state.update(step=0, exp_avg=xp.zeros_like(p), exp_avg_sq=xp.zeros_like(p))
        state["step"] += 1
        t, lr, (beta1, beta2), scratch = state["step"], group["lr"], group["betas"], self.scratch(p)
        if group["decoupled_weight_decay"]:
            p *= 1 - lr * group["weight_decay"]
            g = self.penalized(p, g, group, 0.0)
        else:
            g = self.penalized(p, g, group)
        m, v = into_moments(xp, state, g, group["betas"], scratch)
        correction = 1 - beta2**t
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * t * beta2**t / correction
        factor = lr / (1 - beta1**t)
        if length > 5:
            rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            xp.sqrt(v, out=scratch)
            scratch += group["eps"]
            xp.divide(m, scratch, out=scratch)
            scratch *= factor * (correction * rectified) ** 0.5
        else:
            xp.multiply(m, factor, out=scratch)
        p -= scratch
