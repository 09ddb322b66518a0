"""Special functions that neither NumPy nor CuPy has, as array text: polynomials, recurrences and asymptotic series.

Everything is computed in float64 (``erf`` of float32 in float32), without branches on values, so that the same text runs on a GPU; both
sides of a ``where`` get arguments inside of their own domain, so no side warns. Relative error in float64: a few units in the last
place, 1e-13 at the worst ends of the ranges.

The tables were fitted with 60 digits: rational functions by least squares of the relative error on Chebyshev nodes, polynomials by
Chebyshev interpolation. Coefficients stand in the order of rising powers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

# erf(x) = tanh(x P(x²)), relative error 1e-7 before rounding; from |x| = 5 on tanh gives 1 in float32
ERF_SINGLE = (
    1.128379274, 0.1027690562, -0.0001918317586, -0.0006197838891, 8.763705604e-05, -5.668433904e-06, 1.418499676e-07,
)  # fmt: skip

# erf(x) = x P(x²) / Q(x²) for x² <= 36, relative error 8e-18
_ERF_TOP = (
    1.1283791670955126, 0.22198515567215593, 0.06681483691669447, 0.007060394135995569, 0.0008862149103511304,
    6.0270127260083084e-05, 4.232821310243498e-06, 1.9068809784028061e-07, 8.022813678149849e-09, 2.1925339203516946e-10,
    4.91480919715132e-12, 4.322488382593463e-14, 5.2996325508048456e-17, -2.1192728014809324e-20,
)  # fmt: skip
_ERF_BOTTOM = (
    1.0, 0.5300625553408207, 0.13590062594223953, 0.022360588310542443, 0.0026397617600263943, 0.00023658640045889735,
    1.6587527572229866e-05, 9.216754365467609e-07, 4.050696424510682e-08, 1.3793623858336581e-09, 3.443257844149994e-11,
    5.502823012959584e-13, 2.1389699608955383e-15,
)  # fmt: skip

# (1 + 2x) exp(x²) erfc(x) = P((x - 3) / (x + 3)) for x >= 0, relative error 2e-17; the form is that of Shepherd and Laframboise
# 1981, "Chebyshev approximation of (1+2x)exp(x²)erfc(x) in 0 <= x < inf"
_ERFC_TAIL = (
    1.2530080582697296, -0.13562110612458117, -0.04756229435345087, 0.1296451587027606, -0.11927366341530699,
    0.06830802734397848, -0.023770514918645888, 0.002529391816066239, 0.0018886903591561553, -0.0007798322721083991,
    -0.00010515979981501177, 0.00012509935235563107, 4.949484992570595e-06, -2.0100567931289227e-05, -7.315105164159062e-07,
    3.472414602875686e-06, 3.5683839153992204e-07, -6.166496077604353e-07, -1.4160064940265987e-07, 1.0187000600072885e-07,
    4.180784698845582e-08, -1.3326364813003834e-08, -8.500397929772615e-09, 9.885798831139365e-10, 8.864219016427092e-10,
)  # fmt: skip

# log Γ(x) = (x - 1) (x - 2) P(x) / Q(x) for 0.7 <= x <= 2.5, relative error 8e-19
_LGAMMA_TOP = (
    2.6630454072483043, 91.46039726037188, 672.524713625354, 1659.1266835645456, 1588.9549634225173, 600.9248143282875,
    82.0368924580388, 3.022908139959685, 0.006715201730044438,
)  # fmt: skip
_LGAMMA_BOTTOM = (
    1.0, 57.173968595244496, 621.7577329416113, 2197.572010922803, 3042.530367402179, 1765.9326288348157, 420.708163601817,
    36.321289845704015, 0.7903274514404053,
)  # fmt: skip

# quantiles of the normal distribution: Wichura 1988, "Algorithm AS 241: the percentage points of the normal distribution"
_ERFINV_CENTRE_TOP = (
    3.3871328727963665, 133.14166789178438, 1971.5909503065513, 13731.69376550946, 45921.95393154987, 67265.7709270087,
    33430.57558358813, 2509.0809287301227,
)  # fmt: skip
_ERFINV_CENTRE_BOTTOM = (
    1.0, 42.31333070160091, 687.1870074920579, 5394.196021424751, 21213.794301586597, 39307.89580009271, 28729.085735721943,
    5226.495278852854,
)  # fmt: skip
_ERFINV_SIDE_TOP = (
    1.4234371107496835, 4.630337846156546, 5.769497221460691, 3.6478483247632045, 1.2704582524523684, 0.2417807251774506,
    0.022723844989269184, 0.0007745450142783414,
)  # fmt: skip
_ERFINV_SIDE_BOTTOM = (
    1.0, 2.053191626637759, 1.6763848301838038, 0.6897673349851, 0.14810397642748008, 0.015198666563616457,
    0.0005475938084995345, 1.0507500716444169e-09,
)  # fmt: skip
_ERFINV_TAIL_TOP = (
    6.657904643501103, 5.463784911164114, 1.7848265399172913, 0.29656057182850487, 0.026532189526576124,
    0.0012426609473880784, 2.7115555687434876e-05, 2.0103343992922881e-07,
)  # fmt: skip
_ERFINV_TAIL_BOTTOM = (
    1.0, 0.599832206555888, 0.1369298809227358, 0.014875361290850615, 0.0007868691311456133, 1.8463183175100548e-05,
    1.421511758316446e-07, 2.0442631033899397e-15,
)  # fmt: skip

# B₂, B₄, ... B₂₄
_BERNOULLI = (
    1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330, 854513 / 138,
    -236364091 / 2730,
)  # fmt: skip


def _polynomial(x: Any, coefficients: Sequence[float]) -> Any:
    """Σ cₖ xᵏ by Horner's rule, in one new array."""
    total = x * coefficients[-1]
    for coefficient in coefficients[-2:0:-1]:
        total += coefficient
        total *= x
    total += coefficients[0]
    return total


def _ratio(x: Any, top: Sequence[float], bottom: Sequence[float]) -> Any:
    return _polynomial(x, top) / _polynomial(x, bottom)


def in_double(function: Callable[[Any, Any], Any], xp: Any, x: Any) -> Any:
    """``function`` in float64, its result in the dtype of ``x`` (float64 for integers)."""
    dtype = x.dtype if x.dtype.kind == "f" else xp.float64
    return function(xp, x.astype(xp.float64)).astype(dtype)


# ---- error function ------------------------------------------------------------------------------


def erf(xp: Any, x: Any) -> Any:
    """Error function 2/√π ∫₀ˣ exp(-t²) dt; float32 stays in float32, which makes GELU fast."""
    if x.dtype == xp.float32:
        return _erf_single(xp, x)
    if x.dtype == xp.float16:
        return _erf_single(xp, x.astype(xp.float32)).astype(x.dtype)
    return in_double(_erf_double, xp, x)


def _erf_single(xp: Any, x: Any) -> Any:
    inside = x.clip(-5.0, 5.0)
    return xp.tanh(inside * _polynomial(inside * inside, ERF_SINGLE))


def _erf_double(xp: Any, x: Any) -> Any:
    inside = x.clip(-6.0, 6.0)
    made = (inside * _ratio(inside * inside, _ERF_TOP, _ERF_BOTTOM)).clip(-1.0, 1.0)
    # exactly 1 beyond, however a compiler rounds: others may multiply by x
    return xp.where(xp.absolute(x) >= 6.0, xp.copysign(1.0, x), made)


def erfc(xp: Any, x: Any) -> Any:
    """1 - erf(x) in float64, with full relative accuracy in the tail."""
    a = xp.minimum(xp.absolute(x), 30.0)
    scaled = _polynomial((a - 3.0) / (a + 3.0), _ERFC_TAIL) / (1.0 + 2.0 * a)
    # exp(-a²) loses digits with the rounding of a²; the square of a short number is exact (Cody 1969)
    short = xp.trunc(a * 1024.0) / 1024.0
    tail = xp.exp(-short * short) * xp.exp((short - a) * (short + a)) * scaled
    return xp.where(x < 0, 2.0 - tail, tail)


def erfinv(xp: Any, x: Any) -> Any:
    """The y with erf(y) = x, in float64: NaN outside of [-1, 1], infinite at its ends."""
    a = xp.absolute(x)
    q = x.clip(-0.85, 0.85) * 0.5
    centre = q * _ratio(0.180625 - q * q, _ERFINV_CENTRE_TOP, _ERFINV_CENTRE_BOTTOM)
    chance = (1.0 - xp.where(a < 1.0, xp.maximum(a, 0.85), 0.85)) * 0.5
    r = xp.sqrt(-xp.log(chance))
    side = _ratio(xp.minimum(r, 5.0) - 1.6, _ERFINV_SIDE_TOP, _ERFINV_SIDE_BOTTOM)
    tail = _ratio(xp.maximum(r, 5.0) - 5.0, _ERFINV_TAIL_TOP, _ERFINV_TAIL_BOTTOM)
    outer = xp.copysign(xp.where(r <= 5.0, side, tail), x)
    quantile = xp.where(a <= 0.85, centre, outer) * math.sqrt(0.5)
    ends = xp.where(a == 1.0, xp.copysign(math.inf, x), math.nan)
    return xp.where(a < 1.0, quantile, ends)


# ---- gamma function ------------------------------------------------------------------------------


def lgamma(xp: Any, x: Any) -> Any:
    """log |Γ(x)| in float64: +inf at 0, -1, -2, ..."""
    a = xp.where(x > 0, x, 1.0 - x)
    value = _lgamma_positive(xp, a)
    # reflection: Γ(x) Γ(1 - x) = π / sin(πx)
    sine = xp.absolute(xp.sin(math.pi * _off_integer(xp, x)))
    pole = (x <= 0) & (sine == 0)
    reflected = math.log(math.pi) - xp.log(xp.where((x > 0) | pole, 1.0, sine)) - value
    value = xp.where(x > 0, value, reflected)
    return xp.where(pole | xp.isinf(x), math.inf, value)


def _off_integer(xp: Any, x: Any) -> Any:
    """Signed distance of a negative number from the nearest integer, 0 for the others."""
    negative = x.clip(-1e300, 0.0)
    return negative - xp.rint(negative)


def _lgamma_positive(xp: Any, x: Any) -> Any:
    """Between 0.7 and 2.5 a rational function with the zeros at 1 and 2 taken out; below, one step up; above, Stirling's series."""
    small = x < 0.7
    near = xp.where(small, x + 1.0, x).clip(0.7, 2.5)
    value = (near - 1.0) * (near - 2.0) * _ratio(near, _LGAMMA_TOP, _LGAMMA_BOTTOM)
    value = (0.0 - xp.log(xp.where(small, x, 1.0))) + value
    return xp.where(x < 2.5, value, _stirling(xp, x.clip(2.5, 1e300)))


def _stirling(xp: Any, x: Any) -> Any:
    """log Γ(x) for x >= 2.5: Stirling's series at x + 7, brought back by Γ(x + 1) = x Γ(x); far out without the steps."""
    far = x > 20.0
    step = xp.minimum(x, 20.0)
    product = step * (step + 1.0) * (step + 2.0) * (step + 3.0) * (step + 4.0) * (step + 5.0) * (step + 6.0)
    a = xp.where(far, x, step + 7.0)
    inverse = 1.0 / a
    series = _polynomial(inverse * inverse, [b / ((2 * k + 2) * (2 * k + 1)) for k, b in enumerate(_BERNOULLI[:8])])
    value = (a - 0.5) * xp.log(a) - a + 0.5 * math.log(2 * math.pi) + series * inverse
    return value - xp.where(far, 0.0, xp.log(product))


def digamma(xp: Any, x: Any) -> Any:
    """d/dx log Γ(x) in float64: ∓inf at ±0, NaN at -1, -2, ..."""
    a = xp.where(x > 0, x, 1.0 - x)
    steps = 0.0
    for k in range(10):
        steps = steps + 1.0 / (a + k)
    far = a + 10.0
    inverse = 1.0 / (far * far)
    series = _polynomial(inverse, [0.0, *[b / (2 * k + 2) for k, b in enumerate(_BERNOULLI[:8])]])
    value = xp.log(far) - 0.5 / far - series - steps
    # reflection: ψ(1 - x) - ψ(x) = π cot(πx)
    offset = xp.where(x > 0, 0.25, _off_integer(xp, x))
    pole = offset == 0
    value = xp.where(x > 0, value, value - math.pi / xp.tan(math.pi * xp.where(pole, 0.25, offset)))
    return xp.where(pole, xp.where(x == 0, xp.copysign(math.inf, -x), math.nan), value)


def polygamma(xp: Any, x: Any, n: int) -> Any:
    """The n-th derivative of digamma, n >= 1, in float64: (-1)ⁿ⁺¹ n! ζ(n + 1, x); infinite at 0, -1, -2, ..."""
    a = xp.minimum(xp.where(x > 0, x, 1.0 - x), 1e150)
    value = (-1.0) ** (n + 1) * math.factorial(n) * _hurwitz_zeta(a, n + 1)
    # reflection: the n-th derivative of ψ(1 - x) - ψ(x) = π cot(πx)
    offset = xp.where(x > 0, 0.25, _off_integer(xp, x))
    pole = offset == 0
    cotangent = 1.0 / xp.tan(math.pi * xp.where(pole, 0.25, offset))
    curve = _polynomial(cotangent, _derivative_of_cotangent(n)) * math.pi ** (n + 1)
    value = xp.where(x > 0, value, (-1.0) ** n * value - curve)
    return xp.where(pole, (-1.0) ** (n + 1) * math.inf, value)


def _hurwitz_zeta(x: Any, s: int) -> Any:
    """Σₖ (x + k)⁻ˢ for x > 0: ten terms, the rest by the Euler-Maclaurin formula."""
    total = x**-s
    for k in range(1, 10):
        total = total + (x + k) ** -s
    a = x + 10.0
    last = a**-s
    factors = []
    rising = float(s)
    for j, b in enumerate(_BERNOULLI, 1):
        factors.append(b / math.factorial(2 * j) * rising)
        rising *= (s + 2 * j - 1) * (s + 2 * j)
    rest = a / (s - 1) + 0.5 + _polynomial(1.0 / (a * a), factors) / a
    return total + last * rest


def _derivative_of_cotangent(n: int) -> list[float]:
    """Coefficients of Pₙ, with dⁿ/dxⁿ cot x = Pₙ(cot x): P₀ = c, Pₙ₊₁ = -(1 + c²) Pₙ'."""
    p = [0.0, 1.0]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(p)][1:]
        p = [-(low + high) for low, high in zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope])]
    return p


# ---- Bessel functions ----------------------------------------------------------------------------

_SERIES_END = 25.0


def bessel_i(xp: Any, x: Any, n: int) -> Any:
    """Modified Bessel function Iₙ of any integer order in float64: the power series, whose terms are all positive, up to |x| = 25, beyond
    it the asymptotic series (Abramowitz and Stegun 9.6.6, 9.6.10, 9.7.1)."""
    order = abs(n)
    a = xp.absolute(x)
    near = xp.minimum(a, _SERIES_END)
    t = near * near * 0.25
    series = 1.0
    for k in range(46, 0, -1):
        series = 1.0 + t / (k * (k + order)) * series
    for k in range(1, order + 1):
        series = series * near * (0.5 / k)
    far = xp.maximum(a, _SERIES_END)
    tail = 1.0
    for k in range(24, 0, -1):
        tail = 1.0 - tail * (4 * order * order - (2 * k - 1) ** 2) / (8 * k) / far
    growth = xp.exp(far * 0.5)
    value = xp.where(a <= _SERIES_END, series, growth * (tail / xp.sqrt(2 * math.pi * far)) * growth)
    return xp.copysign(value, x) if order % 2 else value


# ---- sinc ----------------------------------------------------------------------------------------


def derivative_of_sinc(xp: Any, x: Any, n: int) -> Any:
    """The n-th derivative of f(x) = sin(πx) / (πx), n >= 1: near 0 the power series of f, elsewhere from
    x f⁽ᵏ⁾ + k f⁽ᵏ⁻¹⁾ = dᵏ/dxᵏ sin(πx) / π, which loses digits near 0."""
    near = xp.absolute(x) < 0.3 * n
    small = xp.where(near, x, 0.0)
    squared = small * small
    series = 0.0
    lowest = (n + 1) // 2
    for k in range(lowest + 4 + 3 * n, lowest - 1, -1):
        series = series * squared + (-1) ** k * math.pi ** (2 * k) / ((2 * k + 1) * math.factorial(2 * k - n))
    if n % 2:
        series = series * small
    large = xp.where(near, 1.0, x)
    sine, cosine = xp.sin(large * math.pi), xp.cos(large * math.pi)
    derivatives = (sine, cosine, -sine, -cosine)
    f = sine / (large * math.pi)
    for k in range(1, n + 1):
        f = (derivatives[k % 4] * math.pi ** (k - 1) - f * k) / large
    return xp.where(near, series, f)
