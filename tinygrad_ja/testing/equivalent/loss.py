"""Proofs for losses."""

from __future__ import annotations

_MEDIAN = "clamp(x, -d, d) is the median of -d, x and d, and min(max(-d, x), d) is that, too: max(-d, x) = max(x, -d)."

EQUIVALENT: dict[tuple[str, str], str] = {
    ("huber", "[input] lambda g, input, target, delta: g * clamp(-delta, input - target, delta)"): _MEDIAN,
    ("huber", "[target] lambda g, input, target, delta: g * clamp(-delta, target - input, delta)"): _MEDIAN,
    ("smooth_l1", "[input] lambda g, input, target, beta: g * clamp(-1.0, (input - target) / beta, 1.0)"): _MEDIAN,
    ("smooth_l1", "[target] lambda g, input, target, beta: g * clamp(-1.0, (target - input) / beta, 1.0)"): _MEDIAN,
}
