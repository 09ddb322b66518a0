"""Step sizes from the squares of past gradients: Adagrad, Adadelta, RMSprop."""

from __future__ import annotations

from typing import Any

from ..backend.arrays import ARRAY_MODULES
from .moments import into_mean, into_mean_of_squares
from .optimizer import Optimizer, Params


def _descend(xp: Any, g: Any, p: Any, total: Any, eps: Any, rate: Any) -> tuple[Any, Any]:
    total = total + g * g
    return p - g / (xp.sqrt(total) + eps) * rate, total


def _descend_by_mean(xp: Any, g: Any, p: Any, mean: Any, alpha: Any, root: Any, eps: Any, rate: Any) -> tuple[Any, Any]:
    """``root`` is √(1 - α)."""
    share = g * root
    mean = mean * alpha + share * share
    return p - g / (xp.sqrt(mean) + eps) * rate, mean


class Adagrad(Optimizer):
    """p ← p - lr_t·g / (√s + ε) with s ← s + g² and lr_t = lr / (1 + (t - 1)·lr_decay) (Duchi et al. 2011).

    weight_decay λ: λ p is added to g. initial_accumulator_value: s before the first step. maximize: climb instead.
    Raises ArgumentError for a setting outside of its range.

    >>> import tinygrad_ja as tg
    >>> w = tg.tensor([1.0], requires_grad=True)
    >>> optimizer = tg.optim.Adagrad([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.75], requires_grad=True)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
        **implementation: Any,
    ) -> None:
        self._take_implementation(implementation)
        self._require_in_range(
            lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, initial_accumulator_value=initial_accumulator_value, eps=eps
        )
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        xp = ARRAY_MODULES[type(p)]
        if not state:
            state.update(step=0, sum=xp.full_like(p, group["initial_accumulator_value"]))
        state["step"] += 1
        total, eps, rate = state["sum"], group["eps"], group["lr"] / (1 + (state["step"] - 1) * group["lr_decay"])
        sign = -1.0 if group["maximize"] else 1.0
        if self.in_one_pass(_descend, g, [p, total], eps, sign * rate, decay=sign * group["weight_decay"]):
            return
        g, scratch = self.penalized(p, g, group), self.scratch(p)
        xp.multiply(g, g, out=scratch)
        total += scratch
        xp.sqrt(total, out=scratch)
        scratch += eps
        xp.divide(g, scratch, out=scratch)
        scratch *= rate
        p -= scratch


class Adadelta(Optimizer):
    """p ← p - lr·d with d = g·√(u + ε) / √(v + ε) and running means v of g² and u of d² (Zeiler 2012).

    rho: share of the past in the running means. weight_decay λ: λ p is added to g. maximize: climb instead.
    Raises ArgumentError for a setting outside of its range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        **implementation: Any,
    ) -> None:
        self._take_implementation(implementation)
        self._require_in_range(lr=lr, eps=eps, weight_decay=weight_decay)
        self._require("rho", rho, 0 <= rho <= 1, "0 <= rho <= 1")
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize})

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        xp = ARRAY_MODULES[type(p)]
        if not state:
            state.update(step=0, square_avg=xp.zeros_like(p), acc_delta=xp.zeros_like(p))
        state["step"] += 1
        g, scratch, delta = self.penalized(p, g, group), self.scratch(p), self.scratch(p, 2)
        rho, eps, squares, deltas = group["rho"], group["eps"], state["square_avg"], state["acc_delta"]
        into_mean_of_squares(xp, squares, g, rho, scratch)
        xp.add(squares, eps, out=scratch)
        xp.add(deltas, eps, out=delta)
        delta /= scratch
        xp.sqrt(delta, out=delta)
        delta *= g
        into_mean_of_squares(xp, deltas, delta, rho, scratch)
        delta *= group["lr"]
        p -= delta


class RMSprop(Optimizer):
    """p ← p - lr·g / (√v + ε) with a running mean v of g² (Tieleman and Hinton 2012; Graves 2013).

    alpha: share of the past in v. centered: v - m² in place of v, with the running mean m of g. momentum μ: steps along
    b ← μ b + g / (√v + ε). weight_decay λ: λ p is added to g. maximize: climb instead.
    Raises ArgumentError for a setting outside of its range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        maximize: bool = False,
        **implementation: Any,
    ) -> None:
        self._take_implementation(implementation)
        self._require_in_range(lr=lr, eps=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        self._require("alpha", alpha, alpha <= 1, "0 <= alpha <= 1")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        xp = ARRAY_MODULES[type(p)]
        if not state:
            state.update(step=0, square_avg=xp.zeros_like(p))
        for setting, name in (("momentum", "momentum_buffer"), ("centered", "grad_avg")):
            if group[setting] and name not in state:
                state[name] = xp.zeros_like(p)
        state["step"] += 1
        alpha, sign = group["alpha"], -1.0 if group["maximize"] else 1.0
        if not group["momentum"] and not group["centered"]:
            factors = alpha, (1 - alpha) ** 0.5, group["eps"], sign * group["lr"]
            if self.in_one_pass(_descend_by_mean, g, [p, state["square_avg"]], *factors, decay=sign * group["weight_decay"]):
                return
        g, scratch = self.penalized(p, g, group), self.scratch(p)
        into_mean_of_squares(xp, state["square_avg"], g, alpha, scratch)
        if group["centered"]:
            mean = state["grad_avg"]
            into_mean(xp, mean, g, alpha, scratch)
            xp.multiply(mean, mean, out=scratch)
            xp.subtract(state["square_avg"], scratch, out=scratch)
            xp.sqrt(scratch, out=scratch)
        else:
            xp.sqrt(state["square_avg"], out=scratch)
        scratch += group["eps"]
        xp.divide(g, scratch, out=scratch)
        if group["momentum"]:
            velocity = state["momentum_buffer"]
            velocity *= group["momentum"]
            velocity += scratch
            xp.multiply(velocity, group["lr"], out=scratch)
        else:
            scratch *= group["lr"]
        p -= scratch
