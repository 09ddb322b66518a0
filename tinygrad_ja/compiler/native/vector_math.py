"""Exponentials, logarithms and what follows from them, for vectors of float32: a reduction of the argument and a polynomial, with an error
of about one unit in the last place, and infinities, NaN and denormal numbers as NumPy has them."""

from __future__ import annotations

from collections.abc import Sequence

from .code import F32, I32, Code, Value

MAGIC = 12582912.0
"""1.5 · 2²³: adding it rounds a small float32 to an integer, which then stands in the lowest bits."""

LN2_HIGH, LN2_LOW = 0.693145751953125, 1.42860682030941723212e-6
LOG2E = 1.44269504088896340736


def polynomial(code: Code, x: Value, coefficients: Sequence[float]) -> Value:
    """Horner's rule; the coefficient of the highest power comes first."""
    y = code.constant(F32, coefficients[0])
    for c in coefficients[1:]:
        y = code.multiply_add(y, x, code.constant(F32, c))
    return y


def clamped(code: Code, x: Value, low: float, high: float) -> Value:
    """x within limits; NaN stays NaN."""
    a, b = code.constant(F32, low), code.constant(F32, high)
    x = code.select(code.compare("olt", x, a), a, x)
    return code.select(code.compare("ogt", x, b), b, x)


def power_of_two(code: Code, n: Value) -> Value:
    """2ⁿ for an int32 n from -126 to 127."""
    biased = code.add(n, code.constant(I32, 127))
    return code.bitcast(code.value(I32, f"shl {code.type(I32)} {biased.text}, {code.constant(I32, 23).text}"), F32)


def _reduced(code: Code, x: Value) -> tuple[Value, Value]:
    """(n, r) with x = n ln 2 + r and |r| <= ln 2 / 2."""
    magic = code.constant(F32, MAGIC)
    # the sum must be rounded here, so the difference must not be contracted into it
    shifted = code.value(
        F32,
        f"call {code.type(F32)} @llvm.fmuladd.{code.suffix(F32)}({code.type(F32)} {x.text}, "
        f"{code.type(F32)} {code.constant(F32, LOG2E).text}, {code.type(F32)} {magic.text})",
    )
    code.declare(f"{code.type(F32)} @llvm.fmuladd.{code.suffix(F32)}({code.type(F32)}, {code.type(F32)}, {code.type(F32)})")
    whole = code.value(F32, f"fsub {code.type(F32)} {shifted.text}, {magic.text}")
    n = code.sub(code.bitcast(shifted, I32), code.bitcast(magic, I32))
    r = code.multiply_add(whole, code.constant(F32, -LN2_HIGH), x)
    return n, code.multiply_add(whole, code.constant(F32, -LN2_LOW), r)


EXPM1 = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
"""(eʳ - 1 - r) / r² for |r| <= ln 2 / 2 (Cephes)."""


def _halves(code: Code, n: Value) -> tuple[Value, Value]:
    """Two powers of two whose product is 2ⁿ, each of them a normal number."""
    half = code.value(I32, f"ashr {code.type(I32)} {n.text}, {code.constant(I32, 1).text}")
    return half, code.sub(n, half)


def exp(code: Code, x: Value) -> Value:
    """eˣ."""
    n, r = _reduced(code, clamped(code, x, -104.0, 89.0))
    y = code.multiply_add(code.mul(r, r), polynomial(code, r, EXPM1), r)
    y = code.add(y, code.constant(F32, 1.0))
    first, second = _halves(code, n)
    return code.mul(code.mul(y, power_of_two(code, first)), power_of_two(code, second))


def exp2(code: Code, x: Value) -> Value:
    """2ˣ."""
    x = clamped(code, x, -151.0, 128.5)
    magic = code.constant(F32, MAGIC)
    shifted = code.value(F32, f"fadd {code.type(F32)} {x.text}, {magic.text}")
    whole = code.value(F32, f"fsub {code.type(F32)} {shifted.text}, {magic.text}")
    n = code.sub(code.bitcast(shifted, I32), code.bitcast(magic, I32))
    r = code.mul(code.sub(x, whole), code.constant(F32, 0.693147180559945309417))
    y = code.multiply_add(code.mul(r, r), polynomial(code, r, EXPM1), r)
    y = code.add(y, code.constant(F32, 1.0))
    first, second = _halves(code, n)
    return code.mul(code.mul(y, power_of_two(code, first)), power_of_two(code, second))


def expm1(code: Code, x: Value) -> Value:
    """eˣ - 1 = 2ᵇ (2ᵃ (eʳ - 1) + (2ᵃ - 2⁻ᵇ)) with a + b = n."""
    tiny = code.compare("olt", code.intrinsic("fabs", x), code.constant(F32, 1e-9))
    n, r = _reduced(code, clamped(code, x, -104.0, 89.0))
    y = code.multiply_add(code.mul(r, r), polynomial(code, r, EXPM1), r)
    first, second = _halves(code, n)
    a = power_of_two(code, first)
    inverse = power_of_two(code, code.sub(code.constant(I32, 0), second))
    made = code.mul(code.multiply_add(a, y, code.sub(a, inverse)), power_of_two(code, second))
    return code.select(tiny, x, made)  # also keeps -0


def tanh(code: Code, x: Value) -> Value:
    """(e²ˣ - 1) / (e²ˣ + 1), from the exponential less one of 2 |x|."""
    size = code.intrinsic("fabs", x)
    limit = code.constant(F32, 10.0)
    limited = code.select(code.compare("ogt", size, limit), limit, size)
    n, r = _reduced(code, code.add(limited, limited))
    y = code.multiply_add(code.mul(r, r), polynomial(code, r, EXPM1), r)
    scale = power_of_two(code, n)
    less_one = code.multiply_add(scale, y, code.sub(scale, code.constant(F32, 1.0)))
    made = code.binary("fdiv", less_one, code.add(less_one, code.constant(F32, 2.0)))
    return code.intrinsic("copysign", made, x)


LOG = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
"""(log(1 + f) - f + f² / 2) / f³ for 1 + f between √½ and √2 (Cephes)."""


def log(code: Code, x: Value) -> Value:
    """The natural logarithm: log(m 2ᵉ) = log(1 + f) + e ln 2 with m = 1 + f between √½ and √2."""
    small = code.compare("olt", x, code.constant(F32, 1.17549435e-38))
    scaled = code.select(small, code.mul(x, code.constant(F32, 8388608.0)), x)
    base = code.constant(I32, 0x3F3504F3)
    offset = code.sub(code.bitcast(scaled, I32), base)
    whole = code.value(I32, f"ashr {code.type(I32)} {offset.text}, {code.constant(I32, 23).text}")
    rest = code.binary("and", offset, code.constant(I32, 0x007FFFFF))
    f = code.sub(code.bitcast(code.add(rest, base), F32), code.constant(F32, 1.0))
    e = code.convert(whole, F32)
    e = code.sub(e, code.select(small, code.constant(F32, 23.0), code.constant(F32, 0.0)))
    square = code.mul(f, f)
    y = code.mul(code.mul(square, f), polynomial(code, f, LOG))
    y = code.multiply_add(e, code.constant(F32, LN2_LOW), y)
    y = code.multiply_add(square, code.constant(F32, -0.5), y)
    y = code.multiply_add(e, code.constant(F32, LN2_HIGH), code.add(f, y))
    infinity = code.constant(F32, float("inf"))
    y = code.select(code.compare("ult", x, infinity), y, x)  # infinity; NaN is not below it but unordered
    y = code.select(code.compare("oeq", x, code.constant(F32, 0.0)), code.constant(F32, -float("inf")), y)
    wrong = code.compare("ult", x, code.constant(F32, 0.0))  # negative or NaN
    return code.select(wrong, code.bits(0x7FC00000), y)


def log1p(code: Code, x: Value) -> Value:
    """log(1 + x): the logarithm of the rounded sum u, and (x - (u - 1)) / u for what the rounding lost."""
    one = code.constant(F32, 1.0)
    u = code.value(F32, f"fadd {code.type(F32)} {x.text}, {one.text}")
    back = code.value(F32, f"fsub {code.type(F32)} {u.text}, {one.text}")
    lost = code.binary("fdiv", code.sub(x, back), u)
    plain = log(code, u)
    usual = code.add(plain, lost)
    simple = code.binary(
        "or", code.compare("ueq", u, code.constant(F32, float("inf"))), code.compare("ole", u, code.constant(F32, 0.0))
    )
    made = code.select(simple, plain, usual)
    tiny = code.compare("olt", code.intrinsic("fabs", x), code.constant(F32, 1e-9))
    return code.select(tiny, x, made)  # also keeps -0
