"""Programs as machine code: LLVM, through llvmlite, compiles the loops of a plan for the processor at hand, and a table of them runs without
Python in between. ``executor.py`` is the start; ``loops.py`` writes element-wise loops and reductions, ``products.py`` matrix products,
``operators.py`` convolutions and pooling, ``team.py`` runs a table on several threads."""

from __future__ import annotations

import functools


@functools.cache
def available() -> tuple[bool, str]:
    """Whether programs can be compiled here, and if not, why."""
    try:
        import llvmlite.binding  # noqa: F401
    except ImportError:
        return False, 'llvmlite is not installed (pip install "tinygrad_ja[compile]")'
    except OSError as problem:
        return False, f"llvmlite cannot be loaded: {problem}"
    import sys

    if sys.byteorder != "little" or sys.maxsize < 2**32:
        return False, "only little-endian systems with 64-bit addresses are supported"
    from .target import compiled

    try:
        compiled({"nothing": "define void @nothing() {\n  ret void\n}"})
    except Exception as problem:
        return False, f"LLVM cannot compile here: {problem}"
    return True, ""
