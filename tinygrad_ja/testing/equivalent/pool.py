"""Proofs for pooling and resampling."""

from __future__ import annotations

EQUIVALENT: dict[tuple[str, str], str] = {
    # ---- clipped: an output that is inside of the bounds exactly where the input is ------------------
    **dict.fromkeys(
        [
            ("clipped", "lambda g, input, high: keep(g, (y > 0) & (input < high))"),
            ("clipped", "lambda g, input, high: keep(g, (input > 0) & (y < high))"),
        ],
        "y = min(max(x, 0), high), high >= 0, and y = 0 for NaN. y > 0 just where x > 0 and high > 0, which 0 < x < high implies; y < high "
        "just where x < high and high > 0. So both say 0 < x < high; where high = 0 neither ever holds.",
    ),
}
