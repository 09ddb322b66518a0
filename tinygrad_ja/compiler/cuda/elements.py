"""Elements in CUDA C: the type of each dtype, casts, literals, and NumPy's element-wise functions as expressions.

A value has the C type of its dtype, but for float16, which is computed in float32 and rounded after each function, as NumPy does. An
array in memory has the type ``stored``.

>>> import numpy as np
>>> f4, i4 = np.dtype("f4"), np.dtype("i4")
>>> applied("add", [("a", f4), ("b", f4)], f4)
'(a + b)'
>>> applied("divide", [("a", i4), ("b", i4)], np.dtype("f8"))
'((double)(a) / (double)(b))'
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

_VALUE = {
    "?": "bool",
    "b": "signed char",
    "B": "unsigned char",
    "h": "short",
    "H": "unsigned short",
    "i": "int",
    "I": "unsigned int",
    "l": "long long",
    "L": "unsigned long long",
    "q": "long long",
    "Q": "unsigned long long",
    "e": "float",
    "f": "float",
    "d": "double",
}
_ACCUMULATED = {"?": "int", "b": "int", "B": "int", "h": "int", "H": "int"}

BOOL = np.dtype(bool)
HALF = np.dtype(np.float16)
FLOAT = np.dtype(np.float32)


def known(dtype: Any) -> bool:
    """True for the dtypes that kernels are made for: bool, integers and real floats of 16, 32 and 64 bits.

    >>> known(np.dtype("f2")), known(np.dtype("c8"))
    (True, False)
    """
    return np.dtype(dtype).char in _VALUE


def value_type(dtype: np.dtype) -> str:
    """C type of a value in a register."""
    return _VALUE[dtype.char]


def stored_type(dtype: np.dtype) -> str:
    """C type of an element in memory."""
    return "__half" if dtype == HALF else _VALUE[dtype.char]


def accumulated_type(dtype: np.dtype) -> str:
    """C type in which elements are added up or compared: at least 32 bits, which shuffles between lanes need."""
    return _ACCUMULATED.get(dtype.char, _VALUE[dtype.char])


def loaded(code: str, dtype: np.dtype) -> str:
    """The value of an element in memory."""
    return f"__half2float({code})" if dtype == HALF else code


def storable(code: str, dtype: np.dtype) -> str:
    """An element for memory of a value."""
    return f"__float2half_rn({code})" if dtype == HALF else code


def literal(number: Any, dtype: np.dtype) -> str:
    """A constant as C text, exact to the last bit.

    >>> literal(0.1, np.dtype("f8")), literal(-3, np.dtype("i8")), literal(np.inf, np.dtype("f4"))
    ('0x1.999999999999ap-4', '(-3ll)', '(float)INFINITY')
    """
    number = np.asarray(number).astype(dtype).item()
    if dtype == BOOL:
        return "true" if number else "false"
    if dtype.kind in "iu":
        if number == -(2**63):
            return "(-9223372036854775807ll - 1)"
        suffix = "ull" if dtype.char in "LQ" else "ll" if dtype.char in "lq" else "u" if dtype.char == "I" else ""
        return f"({number}{suffix})" if number < 0 else f"{number}{suffix}"
    if math.isnan(number):
        return f"({value_type(dtype)})NAN"
    if math.isinf(number):
        return f"({'-' if number < 0 else ''}({value_type(dtype)})INFINITY)" if number < 0 else f"({value_type(dtype)})INFINITY"
    text = float(number).hex() + ("" if dtype.char == "d" else "f")
    return f"({text})" if number < 0 or text.startswith("-") else text


def cast(code: str, old: np.dtype, new: np.dtype) -> str:
    """A value of ``old`` as one of ``new``."""
    if old == new or (old == HALF and new == FLOAT):
        return code
    if new == BOOL:
        return f"({code} != 0)"
    if new == HALF:
        return f"round_half({code})" if old.char == "d" else f"round_half((float)({code}))"
    if old == HALF and new.char == "f":
        return code
    return f"({value_type(new)})({code})"


@functools.cache
def _loop(function: str, dtypes: tuple[np.dtype, ...]) -> tuple[np.dtype, ...] | None:
    """Dtypes in which NumPy computes, inputs and then the output; None for a function that is no ufunc of one output."""
    if function in ("where", "clip", "round", "nan_to_num", "sinc"):
        if function == "where":
            common = np.result_type(*dtypes[1:])
            return (BOOL, common, common, common)
        common = np.result_type(*dtypes)
        if function == "sinc" and common.kind != "f":
            common = np.dtype(np.float64)
        return (*[common] * len(dtypes), common)
    ufunc = getattr(np, function, None)
    if not isinstance(ufunc, np.ufunc) or ufunc.nout != 1 or ufunc.nin != len(dtypes):
        return None
    try:
        return tuple([np.dtype(d) for d in ufunc.resolve_dtypes((*dtypes, None))])
    except TypeError:
        return None


_SAME_NAME = "sqrt exp exp2 expm1 log log2 log10 log1p sin cos tan sinh cosh tanh floor ceil trunc rint cbrt fmod hypot".split()
_FLOAT = {
    **{name: name for name in _SAME_NAME},
    **{f"arc{name}": f"a{name}" for name in "sin cos tan sinh cosh tanh".split()},
    "arctan2": "atan2",
    "copysign": "copysign",
    "fabs": "fabs",
    "round": "rint",
    "nextafter": "nextafter",
}
"""Functions of floats that C has by a name: with the suffix f for float."""

_ROUNDING = frozenset("floor ceil trunc rint round".split())
_OPERATORS = {
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
    "bitwise_and": "&",
    "bitwise_or": "|",
    "bitwise_xor": "^",
}
_ARITHMETIC = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "true_divide": "/"}
_LOGICAL = {"logical_and": "&&", "logical_or": "||", "logical_xor": "!="}
_TESTS = {
    "isnan": "({0} != {0})",
    "isinf": "is_inf({0})",
    "isfinite": "is_finite({0})",
    "signbit": "(signbit({0}) != 0)",
    "logical_not": "(!({0} != 0))",
}
_PLAIN = {
    "negative": "(-{0})",
    "positive": "{0}",
    "square": "({0} * {0})",
    "reciprocal": "(1 / {0})",
    "sign": "sign_of({0})",
    "maximum": "larger({0}, {1})",
    "minimum": "smaller({0}, {1})",
    "fmax": "larger_known({0}, {1})",
    "fmin": "smaller_known({0}, {1})",
    "floor_divide": "floor_quotient({0}, {1})",
    "remainder": "remainder_of({0}, {1})",
    "mod": "remainder_of({0}, {1})",
    "power": "power_of({0}, {1})",
    "float_power": "power_of({0}, {1})",
    "logaddexp": "log_add_exp({0}, {1})",
    "logaddexp2": "log_add_exp2({0}, {1})",
    "heaviside": "heaviside_of({0}, {1})",
    "left_shift": "shifted_left({0}, {1})",
    "right_shift": "shifted_right({0}, {1})",
    "deg2rad": "({0} * {1}0.017453292519943295)",
    "rad2deg": "({0} * {1}57.29577951308232)",
    "where": "({0} ? {1} : {2})",
    "clip": "smaller(larger({0}, {1}), {2})",
    "sinc": "sinc_of({0})",
    "nan_to_num": "known_number({0})",
}


def _expression(function: str, codes: Sequence[str], dtype: np.dtype) -> str | None:
    """The function of values of ``dtype`` (in which it is computed); None when it is unknown."""
    kind = dtype.kind
    if function in ("absolute", "abs", "fabs"):
        if kind == "f":
            return f"fabs{'' if dtype.char == 'd' else 'f'}({codes[0]})"
        return codes[0] if kind in "bu" else f"({value_type(dtype)})({codes[0]} < 0 ? -{codes[0]} : {codes[0]})"
    if function in _FLOAT:
        if kind == "f":
            return f"{_FLOAT[function]}{'' if dtype.char == 'd' else 'f'}({', '.join(codes)})"
        if function in _ROUNDING:
            return codes[0]
        return f"c_remainder({', '.join(codes)})" if function == "fmod" else None
    if function in _OPERATORS:
        return f"({codes[0]} {_OPERATORS[function]} {codes[1]})"
    if function in _LOGICAL:
        return f"(({codes[0]} != 0) {_LOGICAL[function]} ({codes[1]} != 0))"
    if function in ("invert", "bitwise_not"):
        return f"(!{codes[0]})" if dtype == BOOL else f"(~{codes[0]})"
    if function in _ARITHMETIC:
        if dtype == BOOL:
            return {"add": f"({codes[0]} || {codes[1]})", "multiply": f"({codes[0]} && {codes[1]})"}.get(function)
        return f"({codes[0]} {_ARITHMETIC[function]} {codes[1]})"
    if function in _TESTS:
        if kind != "f" and function != "logical_not":
            always = {"isfinite": "true", "signbit": f"({codes[0]} < 0)" if kind == "i" else "false"}
            return always.get(function, "false")
        return _TESTS[function].format(*codes)
    if function in ("deg2rad", "radians", "rad2deg", "degrees"):
        name = {"radians": "deg2rad", "degrees": "rad2deg"}.get(function, function)
        return _PLAIN[name].format(codes[0], f"({value_type(dtype)})")
    if function == "reciprocal" and kind != "f":
        return f"floor_quotient(({value_type(dtype)})1, {codes[0]})"
    if function == "nan_to_num" and dtype == HALF:
        return None
    return _PLAIN[function].format(*codes) if function in _PLAIN else None


def applied(function: str, values: Sequence[tuple[str, np.dtype]], out: np.dtype) -> str | None:
    """``function`` of values (C text, dtype) as a value of dtype ``out``; None when no kernel can hold it."""
    dtypes = tuple([dtype for _, dtype in values])
    if not all(map(known, (*dtypes, out))):
        return None
    if function in ("cast", "copy"):
        return cast(*values[0], out)
    loop = _loop(function, dtypes)
    if loop is None or not all(map(known, loop)):
        return None
    *inner, made = loop
    codes = [cast(code, dtype, target) for (code, dtype), target in zip(values, inner)]
    text = _expression(function, codes, inner[-1])
    if text is None:
        return None
    if made.kind in "iu" and made.itemsize < 4:
        text = f"({value_type(made)}){text}"  # C computes small integers as int
    if made == HALF and function not in (
        "where",
        "positive",
        "maximum",
        "minimum",
        "fmax",
        "fmin",
        "clip",
        "absolute",
        "negative",
    ):
        text = f"round_half({text})"
    return cast(text, made, out)


IDENTITY = {"sum": "0", "prod": "1", "any": "0", "all": "1"}


def identity(function: str, dtype: np.dtype) -> str:
    """Where a reduction of elements of ``dtype`` (the dtype of its accumulator) begins."""
    if function in IDENTITY:
        return IDENTITY[function]
    sign = "-" if function == "max" else ""
    if dtype.kind == "f":
        return f"{sign}({accumulated_type(dtype)})INFINITY"
    if dtype == BOOL:
        return "0" if function == "max" else "1"
    limits = np.iinfo(dtype)
    return literal(limits.min if function == "max" else limits.max, dtype)


HALF_PRELUDE = """#include <cuda_fp16.h>
__device__ __forceinline__ float round_half(float x) { return __half2float(__float2half_rn(x)); }
__device__ __forceinline__ float round_half(double x) { return __half2float(__double2half(x)); }
"""

PRELUDE = """
#define INLINE __device__ __forceinline__
#define ALL 0xffffffffu
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifndef NAN
#define NAN __int_as_float(0x7fffffff)
#endif
template <class T, int N> struct __align__(sizeof(T) * N) Pack { T v[N]; };
template <int N, class T> INLINE Pack<T, N> load(const T* p) { return *reinterpret_cast<const Pack<T, N>*>(p); }
template <int N, class T> INLINE void store(T* p, const Pack<T, N>& x) { *reinterpret_cast<Pack<T, N>*>(p) = x; }

template <class T> INLINE T larger(T a, T b) { return (a > b || a != a) ? a : b; }
template <class T> INLINE T smaller(T a, T b) { return (a < b || a != a) ? a : b; }
template <class T> INLINE T larger_known(T a, T b) { return (a > b || b != b) ? a : b; }
template <class T> INLINE T smaller_known(T a, T b) { return (a < b || b != b) ? a : b; }
template <class T> INLINE bool is_inf(T x) { return x == (T)INFINITY || x == -(T)INFINITY; }
template <class T> INLINE bool is_finite(T x) { return x - x == 0; }
template <class T> INLINE T sign_of(T x) { return x > 0 ? (T)1 : x < 0 ? (T)-1 : x; }
INLINE bool sign_of(bool x) { return x; }
template <class T> INLINE T c_remainder(T a, T b) { return b == 0 ? (T)0 : (T)(a % b); }
template <class T> INLINE T floor_quotient(T a, T b) {
  if (b == 0 || (b == (T)-1 && (T)-1 < 0)) return b == 0 ? (T)0 : (T)(0 - a);
  T q = (T)(a / b);
  return (a % b != 0 && (a < 0) != (b < 0)) ? (T)(q - 1) : q;
}
template <class T> INLINE T remainder_of(T a, T b) {
  if (b == 0 || (b == (T)-1 && (T)-1 < 0)) return (T)0;
  T r = (T)(a % b);
  return (r != 0 && (r < 0) != (b < 0)) ? (T)(r + b) : r;
}
template <class T> INLINE T float_remainder(T a, T b, T r) {
  if (b == 0) return r;
  if (r != 0) return (b < 0) != (r < 0) ? r + b : r;
  return b < 0 ? -(T)0 : (T)0;
}
template <class T> INLINE T float_quotient(T a, T b, T r) {
  if (b == 0) return a / b;
  T q = (a - r) / b;
  if (r != 0 && (b < 0) != (r < 0)) q -= 1;
  if (q == 0) return a / b > 0 ? (T)0 : -(T)0;
  T f = (T)floor((double)q);
  return q - f > (T)0.5 ? f + 1 : f;
}
INLINE float remainder_of(float a, float b) { return float_remainder(a, b, fmodf(a, b)); }
INLINE double remainder_of(double a, double b) { return float_remainder(a, b, fmod(a, b)); }
INLINE float floor_quotient(float a, float b) { return float_quotient(a, b, fmodf(a, b)); }
INLINE double floor_quotient(double a, double b) { return float_quotient(a, b, fmod(a, b)); }
template <class T> INLINE T power_of(T a, T b) {
  T made = 1;
  for (; b > 0; b = (T)(b >> 1), a = (T)(a * a)) if (b & 1) made = (T)(made * a);
  return made;
}
INLINE float power_of(float a, float b) { return powf(a, b); }
INLINE double power_of(double a, double b) { return pow(a, b); }
template <class T> INLINE T shifted_left(T a, T b) { return b >= 0 && b < (T)(sizeof(T) * 8) ? (T)(a << b) : (T)0; }
template <class T> INLINE T shifted_right(T a, T b) {
  return b >= 0 && b < (T)(sizeof(T) * 8) ? (T)(a >> b) : a < 0 ? (T)-1 : (T)0;
}
INLINE float log_add_exp(float a, float b) {
  if (a == b) return a + 0.69314718055994530942f;
  float d = a - b;
  return d > 0 ? a + log1pf(expf(-d)) : d <= 0 ? b + log1pf(expf(d)) : d;
}
INLINE double log_add_exp(double a, double b) {
  if (a == b) return a + 0.69314718055994530942;
  double d = a - b;
  return d > 0 ? a + log1p(exp(-d)) : d <= 0 ? b + log1p(exp(d)) : d;
}
template <class T> INLINE T log_add_exp2(T a, T b) {
  return log_add_exp(a * (T)0.69314718055994530942, b * (T)0.69314718055994530942) * (T)1.4426950408889634074;
}
template <class T> INLINE T heaviside_of(T a, T b) { return a != a ? a : a == 0 ? b : a < 0 ? (T)0 : (T)1; }
INLINE float sinc_of(float x) { float y = 3.14159265358979323846f * (x == 0 ? 1.0e-20f : x); return sinf(y) / y; }
INLINE double sinc_of(double x) { double y = 3.14159265358979323846 * (x == 0 ? 1.0e-20 : x); return sin(y) / y; }
template <class T> INLINE T known_number(T x) { return x; }
INLINE float known_number(float x) {
  return x != x ? 0.0f : x > 3.402823466e38f ? 3.402823466e38f : x < -3.402823466e38f ? -3.402823466e38f : x;
}
INLINE double known_number(double x) {
  return x != x ? 0.0 : x > 1.7976931348623157e308 ? 1.7976931348623157e308 : x < -1.7976931348623157e308 ? -1.7976931348623157e308 : x;
}


INLINE void copy_bytes(const char* from, char* to, unsigned long long n, unsigned int block, unsigned int blocks) {
  const unsigned long long both = (unsigned long long)from | (unsigned long long)to;
  const unsigned long long first = (unsigned long long)block * blockDim.x + threadIdx.x, step = (unsigned long long)blocks * blockDim.x;
  unsigned long long done = 0;
  if ((both & 15) == 0) {
    for (unsigned long long i = first; i < n / 16; i += step) ((Pack<int, 4>*)to)[i] = ((const Pack<int, 4>*)from)[i];
    done = n / 16 * 16;
  } else if ((both & 3) == 0) {
    for (unsigned long long i = first; i < n / 4; i += step) ((int*)to)[i] = ((const int*)from)[i];
    done = n / 4 * 4;
  }
  for (unsigned long long i = done + first; i < n; i += step) to[i] = from[i];
}

struct Sum { template <class T> static INLINE T of(T a, T b) { return a + b; } };
struct Prod { template <class T> static INLINE T of(T a, T b) { return a * b; } };
struct Max { template <class T> static INLINE T of(T a, T b) { return larger(a, b); } };
struct Min { template <class T> static INLINE T of(T a, T b) { return smaller(a, b); } };
struct Any { template <class T> static INLINE T of(T a, T b) { return a | b; } };
struct All { template <class T> static INLINE T of(T a, T b) { return a & b; } };
template <class T> struct Found { T v; long long i; };
template <class T> INLINE Found<T> shuffled(Found<T> x, int d) {
  Found<T> made;
  made.v = __shfl_xor_sync(ALL, x.v, d);
  made.i = __shfl_xor_sync(ALL, x.i, d);
  return made;
}
template <class T> INLINE T shuffled(T x, int d) { return __shfl_xor_sync(ALL, x, d); }
template <class T> INLINE bool first_of(Found<T> a, Found<T> b, bool better, bool equal) {
  if (b.i < 0) return true;
  if (a.i < 0) return false;
  if (a.v != a.v || b.v != b.v) return a.v != a.v && b.v != b.v ? a.i < b.i : a.v != a.v;
  return better || (equal && a.i < b.i);
}
struct Argmax { template <class T> static INLINE T of(T a, T b) { return first_of(a, b, a.v > b.v, a.v == b.v) ? a : b; } };
struct Argmin { template <class T> static INLINE T of(T a, T b) { return first_of(a, b, a.v < b.v, a.v == b.v) ? a : b; } };
template <class Op, class T> INLINE T over_warp(T x) {
  for (int d = 16; d; d >>= 1) x = Op::of(x, shuffled(x, d));
  return x;
}
template <class Op, int Warps, class T> INLINE T over_block(T x, T* shared) {
  x = over_warp<Op>(x);
  __syncthreads();
  if ((threadIdx.x & 31) == 0) shared[threadIdx.x >> 5] = x;
  __syncthreads();
  x = shared[0];
  for (int w = 1; w < Warps; ++w) x = Op::of(x, shared[w]);
  return x;
}
"""
"""What every module of kernels begins with."""


def prelude(text: str) -> str:
    """What must stand before ``text``."""
    return (HALF_PRELUDE if "half" in text else "") + PRELUDE
