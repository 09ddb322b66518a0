"""A machine for ``CudaExecutor`` that needs no GPU: the generated kernels are compiled by g++ and run on the CPU, thread by thread.

Threads of a block are fibers, so barriers and shuffles between lanes work; products do in NumPy what cuBLAS is asked for. Fresh memory is full
of garbage. What it cannot show: races between blocks, speed, and rounding of the GPU's own functions.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_ja.compiler.cuda.schedule import NAME, module_source

SHIM = r"""
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>
#include <vector>
#define __global__
#define __device__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(n)
#define __align__(n) alignas(n)
#define __shared__ static
struct Triple { unsigned int x, y, z; };
static Triple threadIdx, blockIdx, blockDim, gridDim;
struct uint4 { unsigned int x, y, z, w; };
static inline unsigned int __umulhi(unsigned int a, unsigned int b) { return (unsigned int)(((unsigned long long)a * b) >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
struct __half { unsigned short bits; };
static inline float __half2float(__half h) {
  unsigned int s = (h.bits & 0x8000u) << 16, e = (h.bits >> 10) & 31, m = h.bits & 1023;
  float f;
  if (e == 0) { f = ldexpf((float)m, -24); return s ? -f : f; }
  unsigned int bits = e == 31 ? s | 0x7f800000u | (m << 13) : s | ((e + 112) << 23) | (m << 13);
  memcpy(&f, &bits, 4);
  return f;
}
static inline __half __double2half(double x) {
  __half h;
  unsigned short s = signbit(x) ? 0x8000 : 0;
  double a = fabs(x);
  if (x != x) h.bits = 0x7e00;
  else if (a >= 65520.0) h.bits = s | 0x7c00;
  else {
    int e = a == 0 ? -14 : ilogb(a);
    if (e < -14) e = -14;
    double q = rint(ldexp(a, 10 - e));
    h.bits = s | (unsigned short)((e + 14) * 1024 + (int)q);
  }
  return h;
}
static inline __half __float2half_rn(float x) { return __double2half(x); }
template <class T> static T atomicAdd(T* p, T x) { T old = *p; *p = old + x; return old; }
static inline __half atomicAdd(__half* p, __half x) { __half old = *p; *p = __float2half_rn(__half2float(old) + __half2float(x)); return old; }

enum State { READY, BLOCK, WARP, DONE };
struct Fiber { ucontext_t context; State state; Triple index; std::vector<char> stack; };
static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static int current;
static char slots[1024][16];
static void (*body)(unsigned long long*);
static unsigned long long* arguments;
static void wait_for(State s) {
  fibers[current].state = s;
  swapcontext(&fibers[current].context, &scheduler);
}
static inline void __syncthreads() { wait_for(BLOCK); }
static inline void __syncwarp() { wait_for(WARP); }
template <class T> static T __shfl_xor_sync(unsigned int, T x, int d) {
  int me = current;
  memcpy(slots[me], &x, sizeof(T));
  wait_for(WARP);
  T y;
  memcpy(&y, slots[me ^ d], sizeof(T));
  wait_for(WARP);
  return y;
}
static void enter() {
  body(arguments);
  fibers[current].state = DONE;
  swapcontext(&fibers[current].context, &scheduler);
}
static void run_block(int n) {
  while ((int)fibers.size() < n) { fibers.emplace_back(); fibers.back().stack.resize(1 << 16); }
  for (int t = 0; t < n; ++t) {
    Fiber& f = fibers[t];
    f.state = READY;
    f.index.x = t % blockDim.x; f.index.y = t / blockDim.x; f.index.z = 0;
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.data();
    f.context.uc_stack.ss_size = f.stack.size();
    f.context.uc_link = 0;
    makecontext(&f.context, enter, 0);
  }
  for (;;) {
    int done = 0, blocked = 0, ran = 0;
    for (int t = 0; t < n; ++t) {
      if (fibers[t].state == READY) { current = t; threadIdx = fibers[t].index; swapcontext(&scheduler, &fibers[t].context); ++ran; }
      done += fibers[t].state == DONE;
      blocked += fibers[t].state == BLOCK;
    }
    if (done == n) return;
    if (done + blocked == n) for (int t = 0; t < n; ++t) if (fibers[t].state == BLOCK) fibers[t].state = READY;
    for (int w = 0; w < n; w += 32) {
      int waiting = 0, all = 0;
      for (int t = w; t < n && t < w + 32; ++t) { waiting += fibers[t].state == WARP; all += fibers[t].state != DONE; }
      if (all && waiting == all) for (int t = w; t < n && t < w + 32; ++t) if (fibers[t].state == WARP) fibers[t].state = READY;
    }
  }
}
typedef const unsigned int* Sizes;
static void run(void (*kernel)(unsigned long long*), int fibered, Sizes grid, Sizes block, unsigned long long* args) {
  body = kernel; arguments = args;
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block[0], block[1], block[2]};
  int n = block[0] * block[1] * block[2];
  static int turn = 0;
  turn ^= 1;  // blocks run in no order that a kernel may rely on
  for (unsigned int b = 0; b < grid[0]; ++b) {
    blockIdx = {turn ? grid[0] - 1 - b : b, 0, 0};
    if (fibered) { run_block(n); continue; }
    for (int t = 0; t < n; ++t) { threadIdx = {(unsigned int)t, 0, 0}; kernel(args); }
  }
}
"""


@functools.cache
def compiler() -> str | None:
    """A C++ compiler, if there is one."""
    return shutil.which("g++") or shutil.which("clang++")


def _parameters(text: str) -> list[str]:
    found = re.search(rf"\b{NAME}\(([^)]*)\) {{", text)
    assert found, text
    return [p.rsplit(None, 1)[0] for p in found[1].split(", ")]


class Library:
    """Kernels, compiled once in a few files at the same time."""

    def __init__(self, texts: Sequence[str], files: int = 2) -> None:
        texts = list(dict.fromkeys(texts))
        files = files if len(texts) > 20 else 1
        parts = [texts[k::files] for k in range(files)]
        with ThreadPoolExecutor(len(parts)) as pool:
            self.functions = {text: run for part in pool.map(_compiled, parts) for text, run in part.items()}


def _compiled(texts: Sequence[str]) -> dict[str, Any]:
    names = {text: f"kernel_{k}" for k, text in enumerate(texts)}
    pieces = [SHIM, module_source(names).replace("#include <cuda_fp16.h>", "")]
    for text, name in names.items():
        fibered = int("over_" in text or "__sync" in text or "__shfl" in text)
        passed = ", ".join([f"({kind})a[{k}]" for k, kind in enumerate(_parameters(text))])
        pieces.append(f"static void call_{name}(unsigned long long* a) {{ {name}({passed}); }}")
        pieces.append(
            f'extern "C" void run_{name}(const unsigned int* g, const unsigned int* b, unsigned long long* a) '
            f"{{ run(call_{name}, {fibered}, g, b, a); }}"
        )
    whole = "\n".join(pieces)
    folder = Path(tempfile.gettempdir()) / "cuda_on_cpu"
    folder.mkdir(exist_ok=True)
    target = folder / f"{hashlib.sha256(whole.encode()).hexdigest()[:24]}.so"
    if not target.exists():
        file = target.with_suffix(".cpp")
        file.write_text(whole)
        made = tempfile.mktemp(dir=folder)
        command = [compiler() or "", "-O1", "-std=c++17", "-w", "-ffp-contract=off", "-shared", "-fPIC", str(file), "-o", made]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:3000]
        Path(made).rename(target)
    library = ctypes.CDLL(str(target))
    return {text: getattr(library, f"run_{name}") for text, name in names.items()}


class _Memory:
    def __init__(self, owner: Any, address: int, shape: Any, dtype: Any, strides: Any) -> None:
        self.owner = owner
        self.__array_interface__ = {
            "version": 3,
            "data": (address, False),
            "shape": tuple(shape),
            "typestr": np.dtype(dtype).str,
            "strides": tuple(strides),
        }


class Emulated:
    """The machine. wrap, unwrap: for another type of arrays outside (the strict stand-in). library: with kernels compiled before."""

    def __init__(
        self,
        xp: Any = np,
        wrap: Callable[[Any], Any] = lambda x: x,
        unwrap: Callable[[Any], Any] = lambda x: x,
        library: Library | None = None,
    ) -> None:
        self.xp, self._wrap, self._unwrap, self._library = xp, wrap, unwrap, library
        self.sent: list[int] = []
        self.graphs = 0

    def allocate(self, nbytes: int) -> tuple[Any, int]:
        memory = np.full(max(nbytes, 512) + 256, 0xA5, np.uint8)
        return memory, memory.ctypes.data + -memory.ctypes.data % 256

    def view(self, owner: Any, address: int, nbytes: int, shape: Any, dtype: Any, strides: Any) -> Any:
        return self._wrap(np.asarray(_Memory(owner, address, shape, dtype, strides)))

    def address(self, array: Any) -> int:
        return int(self._unwrap(array).__array_interface__["data"][0])

    def put(self, address: int, host: np.ndarray) -> None:
        host = np.ascontiguousarray(host)
        ctypes.memmove(address, host.ctypes.data, host.nbytes)

    def empty(self, shape: Any, dtype: Any) -> Any:
        return self._wrap(np.full(shape, 7, dtype))

    def contiguous(self, array: Any) -> Any:
        return self._wrap(np.ascontiguousarray(self._unwrap(array)))

    def sender(self, address: int, row: struct.Struct) -> Callable[..., None]:
        def send(*entries: Any) -> None:
            made = row.pack(*entries)
            self.sent.append(len(made))
            ctypes.memmove(address, made, len(made))

        return send

    def compile(self, texts: Sequence[str]) -> list[Callable[..., None]]:
        known = self._library or Library(texts)
        return [self._function(known, text) for text in texts]

    def _function(self, library: Library, text: str) -> Callable[..., None]:
        run = library.functions[text]

        def launch(grid: Any, block: Any, arguments: Any) -> None:
            triples = [(ctypes.c_uint * 3)(*(tuple(t) + (1, 1, 1))[:3]) for t in (grid, block)]
            run(*triples, (ctypes.c_ulonglong * len(arguments))(*arguments))

        return launch

    def pointers(self, addresses: Sequence[int]) -> tuple[int, ...]:
        return tuple(map(int, addresses))

    def use_stream(self) -> None:
        pass

    def product(self, call: Any, addresses: Sequence[int], tf32: bool) -> None:
        """As cuBLAS: column-major matrices, leading dimensions, one stride between matrices."""
        dtype = np.dtype(call.kind)
        if call.matrices:
            lists = [np.asarray(_Memory(None, address, (call.times,), np.uint64, (8,))) for address in addresses]
            for each in zip(*lists):
                self.product(call._replace(matrices=(), times=1), [int(address) for address in each], tf32)
            return

        def matrices(address: int, rows: int, columns: int, leading: int, batch: int) -> np.ndarray:
            assert leading >= max(rows, 1), "cuBLAS refuses a leading dimension below the number of rows"
            steps = (batch * dtype.itemsize, dtype.itemsize, leading * dtype.itemsize)
            return np.asarray(_Memory(None, address, (call.times, rows, columns), dtype, steps))

        def operand(address: int, side: Any, rows: int, columns: int) -> np.ndarray:
            if side.transposed:
                return matrices(address, columns, rows, side.leading, side.batch).transpose(0, 2, 1)
            return matrices(address, rows, columns, side.leading, side.batch)

        a = operand(addresses[0], call.left, call.m, call.k)
        b = operand(addresses[1], call.right, call.k, call.n)
        c = matrices(addresses[2], call.m, call.n, call.leading, call.batch)
        wide = np.float32 if call.kind == "e" else dtype
        made = np.matmul(a.astype(wide), b.astype(wide))
        c[...] = made if call.beta == 0 else made + call.beta * c

    @contextlib.contextmanager
    def own_stream(self) -> Iterator[None]:
        yield

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        self.graphs += 1
        return run

    def current_stream(self) -> int:
        return 0

    def synchronize(self) -> None:
        pass
