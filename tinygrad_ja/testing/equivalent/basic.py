"""Proofs for element-wise operators, products, reductions and norms."""

from __future__ import annotations

_SAME_ROWS = (
    "For two axes (N, C) the new shape (prod((N,)), C) is (N, C) itself, and a reshape to the same shape changes nothing."
)

EQUIVALENT: dict[tuple[str, str], str] = {
    # ---- products of matrices: short ways for two axes -------------------------------------------
    (
        "matmul",
        "[input] _matmul_left: return matmul_nt(g, other) if len(shape) == 2 else matmul(g, _transpose(other, 0, 1))"
        "  =>  return matmul(g, _transpose(other, 0, 1))",
    ): "g otherᵀ either way: matmul_nt(a, b) is a bᵀ by definition, and it only spares the transposed operand a node of its own.",
    (
        "matmul",
        "[other] _rows: return x if x.ndim == 2 else _reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))"
        "  =>  return _reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))",
    ): _SAME_ROWS,
    (
        "linear",
        "[weight] _rows: return x if x.ndim == 2 else _reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))"
        "  =>  return _reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))",
    ): _SAME_ROWS,
    (
        "linear",
        "[bias] _rows: return x if x.ndim == 2 else _reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))"
        "  =>  return _reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))",
    ): _SAME_ROWS,
    # ---- logsumexp: the finite number that stands for y = -inf ------------------------------------
    (
        "logsumexp",
        "_logsumexp_vjp: y = _where(eq(y, -math.inf), 0.0, y)  =>  y = _where(eq(y, -math.inf), 1.0, y)",
    ): "y = -inf only where every x of the row is -inf, and there exp(x - c) = exp(-inf) = 0 for each finite c.",
    # ---- cross entropy: the number that stands for a count of 0 -------------------------------------
    (
        "cross_entropy",
        "_cross_entropy_backward: g = g / (count + (count == 0))  =>  g = g / (count - (count == 0))",
    ): "They differ where the count is 0, as 1 and -1; there the weight of every row is 0, and so is every product with g, for either sign.",
    # ---- norm: numbers that stand where another factor is 0 ---------------------------------------
    (
        "norm",
        "_norm_vjp: scale = _where(null, 0.0, g * _where(null, 1.0, y) ** (1 - ord))"
        "  =>  scale = _where(null, 0.0, g * _where(null, 2.0, y) ** (1 - ord))",
    ): "Where null holds the outer where takes 0 and not the power, whose finite value and derivative therefore do not count.",
    (
        "norm",
        "_norm_vjp: size = _where(zero, 1.0, abs(input))  =>  size = _where(zero, 2.0, abs(input))",
    ): "Where zero holds, size ** (ord - 1) is finite and multiplied by sign(input) = sign(0) = 0; elsewhere size is unchanged.",
    # ---- atan2: what stands for x² + y² at the origin ---------------------------------------------
    **dict.fromkeys(
        [
            ("atan2", f"[{name}] _not_zero: return squared + (squared == 0)  =>  return squared - (squared == 0)")
            for name in ("input", "other")
        ],
        "x² + y² = 0 only for x = y = 0, where the numerator is 0, and 0 / -1 = 0 / 1; elsewhere squared == 0 is 0, added or subtracted.",
    ),
    # ---- elu: short ways ---------------------------------------------------------------------------
    (
        "elu",
        "_slope_of_elu: if alpha < 0:  =>  if alpha < 1:",
    ): "The where is the definition of the slope for every alpha; the products below it are a faster text of it for alpha >= 0.",
    (
        "elu",
        "_slope_of_elu: return slope if steepest == scale else slope + keep(g, input > 0) * (scale - steepest)"
        "  =>  return slope + keep(g, input > 0) * (scale - steepest)",
    ): "Where steepest = scale the added term is keep(g, input > 0) * 0, which is 0 for every finite g.",
    (
        "elu",
        "_slope_of_elu: return slope if steepest == scale else slope + keep(g, input > 0) * (scale - steepest)"
        "  =>  return slope if steepest == scale else slope + keep(g, y > 0) * (scale - steepest)",
    ): "Here alpha >= 0, and all scales are > 0: y = scale x > 0 for x > 0, else y = scale alpha (exp(input_scale x) - 1) <= 0.",
    # ---- fmax, fmin: which of two was taken --------------------------------------------------------
    **dict.fromkeys(
        [(name, "[other] lambda g, input, y: keep(g, logical_not((input == y) | isnan(other)))") for name in ("fmax", "fmin")],
        "y is NaN only where both are, so isnan(y) implies isnan(other); and where other is NaN but y is not, y = input.",
    ),
    # ---- an output that is inside of a range exactly where the input is ----------------------------
    (
        "hardswish",
        "_slope_of_hardswish: return keep(g, input > -3) * _where(input >= 3, 1.0, ramp)"
        "  =>  return keep(g, input > -3) * _where(y >= 3, 1.0, ramp)",
    ): "y = x >= 3 for x >= 3. For 0 < x < 3, y = x (x + 3) / 6 < 3 * 6 / 6 = 3; for x <= 0, y <= 0.",
    **dict.fromkeys(
        [
            ("hardtanh", "lambda g, input, min_val, max_val: keep(g, (y > min_val) & (input < max_val))"),
            ("hardtanh", "lambda g, input, min_val, max_val: keep(g, (input > min_val) & (y < max_val))"),
        ],
        "y = min(max(x, min_val), max_val) with min_val < max_val: y > min_val just where x > min_val, y < max_val just where x < max_val.",
    ),
    ("relu", "lambda g, y: keep(g, input > 0)"): "max(x, 0) > 0 just where x > 0, and both are False for NaN.",
    # ---- operands that may change places -----------------------------------------------------------
    (
        "logit",
        "_slope_of_logit: inside = clamp(input, eps, 1 - eps)  =>  inside = clamp(eps, input, 1 - eps)",
    ): "clamp(x, a, b) = min(max(x, a), b), and max(x, eps) = max(eps, x).",
    # ---- xlogy: a product that is 0 ----------------------------------------------------------------
    (
        "xlogy",
        "[input] _xlogy_by_input: return g * log(_where((input == 0) & (other <= 0), ones_like(input), other))"
        "  =>  return g * log(_where((y == 0) & (other <= 0), ones_like(input), other))",
    ): "Where other <= 0, y is 0 for x = 0, and for x != 0 it is x log 0 = -inf or inf, or x log(negative) = NaN: y = 0 just where x = 0.",
}
