"""The random numbers of a GPU: Philox4x32-10, a function of (seed, number of the draw, index), so that a stream is two integers.

Every draw (one call of a method) has a number, and element i of it depends on nothing else than seed, that number and i. So the state can be
saved, any part of a draw can be made by any thread, and a step that is replayed finds the number of its first draw in device memory and
goes on where the eager program would. ``philox_words`` computes the same bits with NumPy.

>>> import numpy as np
>>> [f"{int(word[0]):08x}" for word in philox_words(np.zeros(1, np.uint64), 0, 0)]
['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

_LOW = np.uint64(0xFFFFFFFF)


def philox_words(index: np.ndarray, seed: int, draw: int, turn: int = 0) -> list[np.ndarray]:
    """Four words of 32 bits for each index (uint64): those of a draw of a stream. turn: counts the trials of methods that reject."""
    u = np.uint64
    shift = u(32)
    c = [
        index & _LOW,
        (index >> shift) | u(turn << 16),
        np.full_like(index, draw & 0xFFFFFFFF),
        np.full_like(index, draw >> 32),
    ]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p, q = u(0xD2511F53) * c[0], u(0xCD9E8D57) * c[2]
        c = [((q >> shift) ^ c[1] ^ u(key[0])) & _LOW, q & _LOW, ((p >> shift) ^ c[3] ^ u(key[1])) & _LOW, p & _LOW]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def uniform_numbers(size: int, dtype: Any, seed: int, draw: int) -> np.ndarray:
    """What ``PhiloxStream.random`` draws, computed by NumPy."""
    if np.dtype(dtype) == np.float64:
        words = philox_words(np.arange((size + 1) // 2, dtype=np.uint64), seed, draw)
        pairs = [(words[k] << np.uint64(21)) ^ (words[k + 1] >> np.uint64(11)) for k in (0, 2)]
        return (np.stack(pairs, 1).reshape(-1)[:size]).astype(np.float64) * 2.0**-53
    words = philox_words(np.arange((size + 3) // 4, dtype=np.uint64), seed, draw)
    return (np.stack(words, 1).reshape(-1)[:size] >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)


PRELUDE = """
typedef unsigned int u32;
typedef unsigned long long u64;
__device__ __forceinline__ uint4 philox(u64 index, u32 turn, u64 seed, u64 draw) {
  u32 x = (u32)index, y = (u32)(index >> 32) | (turn << 16), z = (u32)draw, w = (u32)(draw >> 32);
  u32 k0 = (u32)seed, k1 = (u32)(seed >> 32);
  #pragma unroll
  for (int r = 0; r < 10; ++r) {
    u32 h0 = __umulhi(0xD2511F53u, x), l0 = 0xD2511F53u * x, h1 = __umulhi(0xCD9E8D57u, z), l1 = 0xCD9E8D57u * z;
    x = h1 ^ y ^ k0; y = l1; z = h0 ^ w ^ k1; w = l0;
    k0 += 0x9E3779B9u; k1 += 0xBB67AE85u;
  }
  uint4 made;
  made.x = x; made.y = y; made.z = z; made.w = w;
  return made;
}
__device__ __forceinline__ float unit(u32 a) { return (float)(a >> 8) * 5.9604644775390625e-8f; }
__device__ __forceinline__ double unit(u32 a, u32 b) { return (double)(((u64)a << 21) ^ (b >> 11)) * 1.1102230246251565e-16; }
__device__ __forceinline__ float above_zero(u32 a) { return (float)((a >> 8) + 1) * 5.9604644775390625e-8f; }
__device__ __forceinline__ double above_zero(u32 a, u32 b) { return (double)((((u64)a << 21) ^ (b >> 11)) + 1) * 1.1102230246251565e-16; }
__device__ __forceinline__ void normal_pair(double u, double v, double* a, double* b) {
  double r = sqrt(-2.0 * log(u)), t = 6.283185307179586477 * v;
  *a = r * cos(t); *b = r * sin(t);
}
__device__ __forceinline__ void normal_pair(float u, float v, float* a, float* b) {
  float r = sqrtf(-2.0f * logf(u)), t = 6.2831853071795864769f * v;
  *a = r * cosf(t); *b = r * sinf(t);
}
__device__ double gamma_number(double shape, u64 i, u32 part, u64 seed, u64 draw) {
  double k = shape < 1.0 ? shape + 1.0 : shape, d = k - 1.0 / 3.0, c = 1.0 / sqrt(9.0 * d), made = d;
  for (u32 turn = 0; turn < 64u; ++turn) {
    uint4 a = philox(i, 1u + part + 2u * turn, seed, draw), b = philox(i, 0x4000u + part + 2u * turn, seed, draw);
    double x, unused;
    normal_pair(above_zero(a.x, a.y), unit(a.z, a.w), &x, &unused);
    double v = 1.0 + c * x;
    v = v * v * v;
    if (v > 0.0 && log(above_zero(b.x, b.y)) < 0.5 * x * x + d - d * v + d * log(v)) { made = d * v; break; }
  }
  if (shape < 1.0) {
    uint4 e = philox(i, 0x2000u + part, seed, draw);
    made *= pow(above_zero(e.x, e.y), 1.0 / shape);
  }
  return made;
}
"""

_WORDS = "const uint4 w = philox(i, 0u, seed, draw);"
_BODY = {
    ("random", "f"): [_WORDS, "const float v[4] = {{unit(w.x), unit(w.y), unit(w.z), unit(w.w)}};"],
    ("random", "d"): [_WORDS, "const double v[2] = {{unit(w.x, w.y), unit(w.z, w.w)}};"],
    ("standard_normal", "f"): [
        *[_WORDS, "float v[4];", "normal_pair(above_zero(w.x), unit(w.y), v, v + 1);"],
        "normal_pair(above_zero(w.z), unit(w.w), v + 2, v + 3);",
    ],
    ("standard_normal", "d"): [_WORDS, "double v[2];", "normal_pair(above_zero(w.x, w.y), unit(w.z, w.w), v, v + 1);"],
    ("integers", "l"): [
        *[_WORDS, "long long v[2];"],
        "v[0] = {low}ll + (long long)__umul64hi(((u64)w.x << 32) | w.y, {span}ull);",
        "v[1] = {low}ll + (long long)__umul64hi(((u64)w.z << 32) | w.w, {span}ull);",
    ],
    ("beta", "d"): [
        "const double x = gamma_number({a}, i, 0u, seed, draw), y = gamma_number({b}, i, 1u, seed, draw);",
        "const double v[1] = {{x + y > 0 ? x / (x + y) : 0.5}};",
    ],
}
_EACH = {("random", "f"): 4, ("standard_normal", "f"): 4, ("beta", "d"): 1}
STORED = {
    "e": "__half",
    "f": "float",
    "d": "double",
    "i": "int",
    "l": "long long",
    "h": "short",
    "b": "signed char",
    "B": "unsigned char",
}
"""C types of the dtypes that draws end in."""


def drawing_lines(method: str, size: int, dtype: np.dtype, arguments: Sequence[float] = ()) -> tuple[list[str], int]:
    """Lines of CUDA that draw ``size`` numbers into the array p0, and how many threads of blocks of 256 they need. They find ``block``,
    ``thread``, ``seed`` and ``draw`` declared.

    Raises KeyError for a method or dtype that has no kernel.
    """
    kind = {"random": "f", "standard_normal": "f", "integers": "l", "beta": "d"}[method]
    if method in ("random", "standard_normal") and dtype == np.float64:
        kind = "d"
    each = _EACH.get((method, kind), 2)
    stored = STORED[dtype.char]
    values: dict[str, Any] = {}
    if method == "integers":
        low, high = arguments
        values = {"low": int(low), "span": int(high) - int(low)}
    elif method == "beta":
        values = {"a": f"{float(arguments[0])!r}", "b": f"{float(arguments[1])!r}"}
    made = "__float2half_rn((float)v[j])" if stored == "__half" else f"({stored})v[j]"
    lines = [
        f"const u64 i = (u64)block * 256 + thread, first = i * {each};",
        f"if (first >= {size}ull) return;",
        *[line.format(**values) for line in _BODY[method, kind]],
        f"for (int j = 0; j < {each}; ++j) if (first + j < {size}ull) p0[first + j] = {made};",
    ]
    return lines, -(-size // each)


def source(lines: Sequence[str], stored: str) -> str:
    """A whole file with one kernel, ``draw``."""
    head = f'extern "C" __global__ void __launch_bounds__(256) draw({stored}* p0, u64 seed, u64 draw) {{'
    body = ["const unsigned int block = blockIdx.x, thread = threadIdx.x;", *lines]
    half = "#include <cuda_fp16.h>\n" if stored == "__half" else ""
    return half + PRELUDE + "\n".join([head, *[f"  {line}" for line in body], "}"])


@functools.lru_cache(maxsize=512)
def _compiled(method: str, size: int, dtype: np.dtype, arguments: Sequence[float]) -> tuple[Any, int]:
    import cupy  # type: ignore[import-not-found, unused-ignore]

    lines, threads = drawing_lines(method, size, dtype, arguments)
    return cupy.RawModule(code=source(lines, STORED[dtype.char])).get_function("draw"), threads


class PhiloxStream:
    """A stream of random numbers on a GPU, with the methods of NumPy's generators that are used here.

    seed: 0 .. 2^64-1. draws: how many calls were made so far.
    """

    def __init__(self, seed: int, index: int = 0) -> None:
        self.seed, self.index, self.draws = seed, index, 0

    @property
    def bit_generator(self) -> PhiloxStream:
        """Itself: what holds the state, as of NumPy's generators."""
        return self

    @property
    def state(self) -> dict[str, int]:
        """Seed and number of draws as plain numbers; assigning them continues from there."""
        return {"seed": self.seed, "draws": self.draws}

    @state.setter
    def state(self, state: dict[str, int]) -> None:
        self.seed, self.draws = int(state["seed"]), int(state["draws"])

    def random(self, shape: Any, dtype: Any = np.float64) -> Any:
        """Uniform numbers in [0, 1)."""
        return self._drawn("random", shape, np.dtype(dtype))

    def standard_normal(self, shape: Any, dtype: Any = np.float64) -> Any:
        """Normal numbers with mean 0 and variance 1."""
        return self._drawn("standard_normal", shape, np.dtype(dtype))

    def integers(self, low: int, high: int, shape: Any) -> Any:
        """Integers, low <= n < high."""
        return self._drawn("integers", shape, np.dtype(np.int64), (low, high))

    def beta(self, a: float, b: float, shape: Any) -> Any:
        """Numbers of Beta(a, b)."""
        return self._drawn("beta", shape, np.dtype(np.float64), (a, b))

    def _drawn(self, method: str, shape: Any, dtype: np.dtype, arguments: Sequence[float] = ()) -> Any:
        import cupy

        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        with cupy.cuda.Device(self.index):
            made = cupy.empty(shape, dtype)
            if made.size:
                function, threads = _compiled(method, made.size, dtype, tuple(arguments))
                function((-(-threads // 256),), (256,), (made, np.uint64(self.seed), np.uint64(self.draws)))
        self.draws += 1
        return made
