"""Proofs for scans, order statistics and scatters."""

from __future__ import annotations

EQUIVALENT: dict[tuple[str, str], str] = {
    # ---- logcumsumexp: the finite number that stands for y = -inf -----------------------------------
    (
        "logcumsumexp",
        "_logcumsumexp_vjp: finite = _where(eq(y, -math.inf), 0.0, y)  =>  finite = _where(eq(y, -math.inf), 1.0, y)",
    ): "y_k = -inf only where x_0 ... x_k are, so exp(x_k - c) is 0 for each finite c, and s_k, with gates of at most 1, is finite.",
    (
        "logcumsumexp",
        "_logcumsumexp_vjp: gate = exp(clamp_max(_shift(finite, dim) - finite, 0.0))"
        "  =>  gate = exp(clamp_max(_shift(finite, dim) - finite, 1.0))",
    ): "y never falls, so the difference is above 0 only behind y_k = -inf, and there s_k, finite for either bound, is multiplied by 0.",
}
