"""Muon: momentum whose matrix is made orthogonal before the step."""

from __future__ import annotations

import math
from typing import Any

from ..backend.arrays import ARRAY_MODULES
from .optimizer import Optimizer, Params


class Muon(Optimizer):
    """p ← (1 - lr λ) p - lr'·O(b), with b ← μ b + (1 - μ) g and O(b) ≈ U Vᵀ of b = U S Vᵀ: all directions get steps of one size (Jordan et
    al. 2024). For the matrices of hidden layers; give everything else to another optimizer.

    O is ``ns_steps`` Newton-Schulz iterations X ← a X + (b A + c A²) X with A = X Xᵀ and ``ns_coefficients`` (a, b, c). nesterov: of
    μ b + (1 - μ) g in place of b. adjust_lr_fn: lr' = lr·√max(1, rows / columns) for None or "original", and 0.2·lr·√max(rows, columns),
    the size of AdamW's steps, for "match_rms_adamw". Iterates are kept in the parameter's dtype, where PyTorch rounds them to bfloat16.
    Raises ArgumentError for a setting outside of its range and for a parameter that is no matrix.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        self._require_in_range(lr=lr, momentum=momentum, weight_decay=weight_decay)
        known = (None, "original", "match_rms_adamw")
        self._require("adjust_lr_fn", repr(adjust_lr_fn), adjust_lr_fn in known, ", ".join(map(repr, known)))
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, defaults)
        for p in [p for group in self.param_groups for p in group["params"]]:
            self._require("params", tuple(p.shape), p.ndim == 2, ("matrices", "行列であること"))

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        xp = ARRAY_MODULES[type(p)]
        if not state:
            state["momentum_buffer"] = xp.zeros_like(p)
        velocity, scratch, momentum = state["momentum_buffer"], self.scratch(p), group["momentum"]
        velocity *= momentum
        xp.multiply(g, 1 - momentum, out=scratch)
        velocity += scratch
        if group["nesterov"]:
            direction = velocity * momentum
            direction += scratch
        else:
            direction = velocity
        rows, columns = p.shape
        if group["adjust_lr_fn"] == "match_rms_adamw":
            lr = group["lr"] * 0.2 * math.sqrt(max(rows, columns))
        else:
            lr = group["lr"] * math.sqrt(max(1.0, rows / columns))
        p *= 1 - group["lr"] * group["weight_decay"]
        p -= lr * orthogonalize(xp, direction, group["ns_coefficients"], group["ns_steps"], group["eps"])


def orthogonalize(xp: Any, matrix: Any, coefficients: tuple[float, float, float], steps: int, eps: float) -> Any:
    """The nearest matrix with orthogonal rows (or columns), about: singular values come to lie between 0.7 and 1.2."""
    a, b, c = coefficients
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / xp.maximum(xp.sqrt(xp.sum(x * x)), eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x
