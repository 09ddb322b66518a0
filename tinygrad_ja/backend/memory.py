"""Memory of the CPU: freed blocks are kept for the next array of their size.

glibc gives freed memory back to the system as soon as 128 kB at the end of the heap are free, and takes large blocks from the system one by
one. Each page of a fresh block then costs an interrupt when it is first written, which is a good part of what an operator on a large array
costs. PyTorch and CuPy keep memory in pools of their own; here the C library is told to keep it.
"""

from __future__ import annotations

import ctypes
import os
import sys

KEPT = 256 << 20
"""Bytes of free memory at the end of the heap that are not given back."""

LARGEST_ON_HEAP = 32 << 20
"""Bytes; larger blocks come from the system and go back to it. The most that glibc allows."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory. True when it was told: on Linux with glibc, unless the user has set ``MALLOC_TRIM_THRESHOLD_``,
    ``MALLOC_MMAP_THRESHOLD_`` or ``TINYGRAD_JA_KEEP_MEMORY=0``."""
    chosen = [name for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_") if name in os.environ]
    if chosen or os.environ.get("TINYGRAD_JA_KEEP_MEMORY") == "0" or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    mallopt.restype, mallopt.argtypes = ctypes.c_int, [ctypes.c_int, ctypes.c_int]
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGEST_ON_HEAP)) and bool(mallopt(_M_TRIM_THRESHOLD, KEPT))
