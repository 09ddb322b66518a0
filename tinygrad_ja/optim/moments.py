"""Running means of gradients and of their squares, brought up to date in place."""

from __future__ import annotations

from typing import Any


def into_mean(xp: Any, mean: Any, x: Any, past: float, scratch: Any) -> None:
    """mean ← past·mean + (1 - past)·x."""
    mean *= past
    xp.multiply(x, 1 - past, out=scratch)
    mean += scratch


def into_mean_of_squares(xp: Any, mean: Any, x: Any, past: float, scratch: Any) -> None:
    """mean ← past·mean + (1 - past)·x²."""
    mean *= past
    xp.multiply(x, (1 - past) ** 0.5, out=scratch)  # first, since x² may be too large for float16
    scratch *= scratch
    mean += scratch


def into_moments(xp: Any, state: dict[str, Any], g: Any, betas: tuple[float, float], scratch: Any) -> tuple[Any, Any]:
    """``exp_avg`` and ``exp_avg_sq`` of the state with the gradient ``g`` taken in; returns both."""
    m, v = state["exp_avg"], state["exp_avg_sq"]
    into_mean(xp, m, g, betas[0], scratch)
    into_mean_of_squares(xp, v, g, betas[1], scratch)
    return m, v
