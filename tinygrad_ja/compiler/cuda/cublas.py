"""cuBLAS by ``ctypes``: the one function that products need, callable while a graph is captured.

CuPy's own binding refuses to run then, and gives float16 products of more than two axes no tensor cores. The packages that bind all of
cuBLAS bring several further libraries each; what is used here is five functions whose signatures have not changed for years.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

from .kernel import Unsupported

_TYPES = {"e": 2, "f": 0, "d": 1}  # CUDA_R_16F, CUDA_R_32F, CUDA_R_64F
_COMPUTE = {"e": 68, "f": 68, "d": 70}  # CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_64F
_COMPUTE_TF32 = 77  # CUBLAS_COMPUTE_32F_FAST_TF32
WORKSPACE = 32 << 20
"""Bytes that cuBLAS may use between its kernels: what NVIDIA recommends for its newest GPUs."""


@functools.cache
def library() -> Any:
    """The loaded library with its functions' types. Raises Unsupported when there is none."""
    path = None
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib  # type: ignore[import-not-found, unused-ignore]

        path = load_nvidia_dynamic_lib("cublas").abs_path
    except Exception:
        path = None
    found = None
    for name in (
        [path] if path else ["libcublas.so.13", "libcublas.so.12", "libcublas.so", "cublas64_13.dll", "cublas64_12.dll"]
    ):
        try:
            found = ctypes.CDLL(name)
            break
        except OSError:
            continue
    if found is None:
        raise Unsupported("cuBLAS is not found")
    pointer, number, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong
    matrix: list[Any] = [pointer, number, number, long]  # address, dtype, leading dimension, stride
    found.cublasCreate_v2.argtypes = [ctypes.POINTER(pointer)]
    found.cublasDestroy_v2.argtypes = [pointer]
    found.cublasSetStream_v2.argtypes = [pointer, pointer]
    found.cublasSetWorkspace_v2.argtypes = [pointer, pointer, ctypes.c_size_t]
    sizes: list[Any] = [pointer, *[number] * 5, pointer]
    found.cublasGemmStridedBatchedEx.argtypes = [*sizes, *matrix, *matrix, pointer, *matrix, *[number] * 3]
    many: list[Any] = [pointer, number, number]  # addresses on the GPU, dtype, leading dimension
    found.cublasGemmBatchedEx.argtypes = [*sizes, *many, *many, pointer, *many, *[number] * 3]
    return found


def _check(status: int, function: str) -> None:
    if status:
        raise RuntimeError(f"{function} failed with status {status}")


class Cublas:
    """A handle with a workspace of its own. One stream at a time uses it."""

    def __init__(self, workspace: int) -> None:
        self._library = library()
        self._handle = ctypes.c_void_p()
        self._workspace = workspace
        _check(self._library.cublasCreate_v2(ctypes.byref(self._handle)), "cublasCreate")
        self._scalars = {
            kind: (ctypes.c_double if kind == "d" else ctypes.c_float, _COMPUTE[kind]) for kind in _TYPES
        }  # alpha and beta have the type of the computation

    def use(self, stream: int) -> None:
        """Run what follows on a stream; this resets the workspace, so that is set again."""
        _check(self._library.cublasSetStream_v2(self._handle, stream), "cublasSetStream")
        _check(self._library.cublasSetWorkspace_v2(self._handle, self._workspace, WORKSPACE), "cublasSetWorkspace")

    def product(self, call: Any, addresses: Sequence[int], tf32: bool) -> None:
        """Run one ``Product`` on three addresses: of the matrices, or of lists of addresses on the GPU if it has ``matrices``."""
        a, b, c = addresses
        kind, compute = self._scalars[call.kind]
        alpha, beta = kind(1), kind(call.beta)
        compute = _COMPUTE_TF32 if tf32 and call.kind == "f" else compute
        dtype = _TYPES[call.kind]
        sizes = (int(call.left.transposed), int(call.right.transposed), call.m, call.n, call.k)
        first: Any
        if call.matrices:
            name = "cublasGemmBatchedEx"
            first = (a, dtype, call.left.leading), (b, dtype, call.right.leading), (c, dtype, call.leading)
        else:
            name = "cublasGemmStridedBatchedEx"
            left, right = (call.left.leading, call.left.batch), (call.right.leading, call.right.batch)
            first = (a, dtype, *left), (b, dtype, *right), (c, dtype, call.leading, call.batch)
        status = getattr(self._library, name)(
            *(self._handle, *sizes, ctypes.byref(alpha), *first[0], *first[1], ctypes.byref(beta), *first[2]),
            *(call.times, compute, -1),
        )
        _check(status, name)

    def close(self) -> None:
        """Give the handle back."""
        if self._handle:
            self._library.cublasDestroy_v2(self._handle)
            self._handle = ctypes.c_void_p()
