"""Proofs for products, decompositions and distances."""

from __future__ import annotations

EQUIVALENT: dict[tuple[str, str], str] = {
    (
        "cdist",
        "_cdist_vjp: weight = g if p == math.inf else g * _where(eq(y, 0), 1.0, y) ** (1 - p)"
        "  =>  weight = g if p == math.inf else g * _where(eq(y, 0), 2.0, y) ** (1 - p)",
    ): "They differ where y = 0, as 1 and 2^(1 - p). There all coordinates are equal, and the weight is multiplied by their slope, "
    "sign(0) = 0, or by their difference, which the products round to 0.",
}
