"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

from ..backend.arrays import ARRAY_MODULES
from .optimizer import Optimizer, Params


def _descend(
    xp: Any, g: Any, p: Any, m: Any, v: Any, kept: Any, beta1: Any, share1: Any, beta2: Any, root2: Any, eps: Any, rate: Any
) -> tuple[Any, Any, Any]:
    """As ``update``; ``root2`` is √(1 - β₂)."""
    m = m * beta1 + g * share1
    root = g * root2
    v = v * beta2 + root * root
    return p * kept - m / (xp.sqrt(v) + eps) * rate, m, v


class Adam(Optimizer):
    """p ← p - lr·m̂ / (√v̂ + ε) with running means of the gradient and of its square (Kingma and Ba 2015):

    m ← β₁ m + (1 - β₁) g, v ← β₂ v + (1 - β₂) g², m̂ = m / (1 - β₁ᵗ), v̂ = v / (1 - β₂ᵗ).

    betas: (β₁, β₂). weight_decay λ: λ p is added to g. amsgrad: the largest v so far in place of v (Reddi et al. 2018). maximize: climb
    instead.
    Raises ArgumentError for a setting outside of its range.

    >>> import tinygrad_ja as tg
    >>> w = tg.tensor([1.0], requires_grad=True)
    >>> optimizer = tg.optim.Adam([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.75], requires_grad=True)
    """

    _decoupled = False

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
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
            "amsgrad": amsgrad,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        xp = ARRAY_MODULES[type(p)]
        if not state:
            state.update(step=0, exp_avg=xp.zeros_like(p), exp_avg_sq=xp.zeros_like(p))
        state["step"] += 1
        t, m, v = state["step"], state["exp_avg"], state["exp_avg_sq"]
        scratch = self.scratch(p)
        lr, decay, (beta1, beta2) = group["lr"], group["weight_decay"], group["betas"]
        sign = -1.0 if group["maximize"] else 1.0
        c = (1 - beta2**t) ** 0.5
        kept = 1 - lr * decay if self._decoupled else 1.0
        if not group["amsgrad"]:
            factors = kept, beta1, sign * (1 - beta1), beta2, (1 - beta2) ** 0.5, group["eps"] * c, lr * c / (1 - beta1**t)
            if self.in_one_pass(_descend, g, [p, m, v], *factors, decay=0.0 if self._decoupled else sign * decay):
                return

        if decay and self._decoupled:
            p *= kept
        elif decay:
            g = xp.multiply(p, sign * decay) + g  # up to the sign, which m takes below and v does not see

        m *= beta1
        xp.multiply(g, sign * (1 - beta1), out=scratch)
        m += scratch
        v *= beta2
        xp.multiply(g, (1 - beta2) ** 0.5, out=scratch)  # first, since g² may be too large for float16
        scratch *= scratch
        v += scratch
        if group["amsgrad"]:
            if "max_exp_avg_sq" not in state:
                state["max_exp_avg_sq"] = v.copy()
            largest = state["max_exp_avg_sq"]
            v = xp.maximum(largest, v, out=largest)

        # m̂ / (√v̂ + ε) = (m / (√v + ε c)) · c / (1 - β₁ᵗ) with c = √(1 - β₂ᵗ): two passes fewer
        xp.sqrt(v, out=scratch)
        scratch += group["eps"] * c
        xp.divide(m, scratch, out=scratch)
        scratch *= lr * c / (1 - beta1**t)
        p -= scratch


class AdamW(Adam):
    """Adam with decoupled weight decay: p ← p - lr·λ·p before Adam's own step, so that λ does not enter m and v (Loshchilov and Hutter
    2019). Here λ is 0.01 unless set."""

    _decoupled = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        **implementation: Any,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, **implementation)
