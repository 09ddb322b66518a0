"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from ..backend.arrays import ARRAY_MODULES, as_array
from .optimizer import Optimizer, Params


def _descend(xp: Any, g: Any, p: Any, rate: Any) -> tuple[Any]:
    return (p - g * rate,)


def _descend_on_average(xp: Any, g: Any, p: Any, v: Any, rate: Any, momentum: Any, share: Any) -> tuple[Any, Any]:
    v = v * momentum + g * share
    return p - v * rate, v


class SGD(Optimizer):
    """p ← p - lr·d, where d is the gradient g, or with momentum μ the running v ← μ v + (1 - dampening) g (at first v = g).

    nesterov: d = g + μ v instead of v (Sutskever et al. 2013). weight_decay λ: λ p is added to g. maximize: climb instead.
    Raises ArgumentError for a setting outside of its range.

    >>> import tinygrad_ja as tg
    >>> w = tg.tensor([1.0], requires_grad=True)
    >>> optimizer = tg.optim.SGD([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.5], requires_grad=True)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        **implementation: Any,
    ) -> None:
        self._take_implementation(implementation)
        self._require_in_range(lr=lr, momentum=momentum, weight_decay=weight_decay)
        allowed = not nesterov or (momentum > 0 and dampening == 0)
        self._require(
            "nesterov",
            nesterov,
            allowed,
            ("nesterov needs momentum > 0 and dampening = 0", "nesterov には momentum > 0 と dampening = 0 が必要"),
        )
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        xp = ARRAY_MODULES[type(p)]
        scratch = self.scratch(p)
        lr, decay, momentum = group["lr"], group["weight_decay"], group["momentum"]
        # the sign of `maximize` goes into the factors, so that the gradient is read and never copied for it
        sign = -1.0 if group["maximize"] else 1.0

        if not momentum and self.in_one_pass(_descend, g, [p], sign * lr, decay=sign * decay):
            return
        velocity = state.get("momentum_buffer")
        if momentum and velocity is not None and not group["nesterov"]:
            share = sign * (1 - group["dampening"])
            if self.in_one_pass(_descend_on_average, g, [p, velocity], lr, momentum, share, decay=sign * decay):
                return
        if decay:
            xp.multiply(p, sign * decay, out=scratch)
            scratch += g
            g = scratch  # sign·g is now the gradient of the loss with its penalty

        if momentum:
            factor = sign * (1 - group["dampening"])
            if velocity is None:
                velocity = state["momentum_buffer"] = as_array(xp.multiply(g, sign))
            else:
                velocity *= momentum
                velocity += g if factor == 1 else xp.multiply(g, factor)
            if group["nesterov"]:  # d = g + μv, subtracted in two parts
                xp.multiply(g, sign * lr, out=scratch)
                p -= scratch
                g, sign = velocity, momentum
            else:
                g, sign = velocity, 1.0

        xp.multiply(g, sign * lr, out=scratch)
        p -= scratch
