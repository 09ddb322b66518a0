"""Which matrix kernels NumPy's OpenBLAS runs on this processor, and how to get the fast ones.

OpenBLAS chooses its kernels once, when NumPy loads it, by the processor's model. An AMD processor that it does not know gets AVX2
kernels although it has AVX-512; ``OPENBLAS_CORETYPE=SkylakeX`` in the environment chooses for it. ``prepare`` sets that before NumPy
loads, so this file imports neither NumPy nor anything of the package, and command lines run it by its path.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

CORE_TYPE = "OPENBLAS_CORETYPE"
"""The environment variable by which a user chooses the kernels of OpenBLAS."""

FAST_CORE_TYPE = "SkylakeX"
"""The oldest AVX-512 kernels of OpenBLAS: every processor with ``AVX512_FLAGS`` can run them."""

AVX512_FLAGS = frozenset({"avx512f", "avx512dq", "avx512bw", "avx512vl"})
"""What the SkylakeX kernels need, as /proc/cpuinfo spells it."""

AVX512_CORE_TYPES = frozenset({"skylakex", "cooperlake", "sapphirerapids"})
"""Kernel families of OpenBLAS that use AVX-512, in lower case."""

FIRST_AMD_FAMILY_WITH_AVX512 = 25  # Zen 4 is family 25 as Zen 3 is, but only Zen 4 has the flags; Zen 5 is family 26


class Processor(NamedTuple):
    """What /proc/cpuinfo says of the first processor; empty where there is no such file."""

    name: str = ""
    vendor: str = ""
    family: int = 0
    flags: frozenset[str] = frozenset()

    @property
    def has_avx512(self) -> bool:
        """True when it can run AVX-512 matrix kernels."""
        return self.flags >= AVX512_FLAGS


class OpenBLAS(NamedTuple):
    """A loaded OpenBLAS: its file, its kernel family (``"Haswell"``), its number of threads."""

    path: str
    core_type: str
    threads: int


def read_cpuinfo(path: str = "/proc/cpuinfo") -> str:
    """The text of /proc/cpuinfo; empty on systems without it."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def processor(cpuinfo: str) -> Processor:
    """The first processor that a text like /proc/cpuinfo describes.

    >>> processor("vendor_id : AuthenticAMD\\ncpu family : 26\\nflags : fpu avx2 avx512f").family
    26
    """
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    family = fields.get("cpu family", "")
    return Processor(
        name=fields.get("model name", ""),
        vendor=fields.get("vendor_id", ""),
        family=int(family) if family.isdigit() else 0,
        flags=frozenset(fields.get("flags", "").split()),
    )


def slower_kernels(cpu: Processor, core_type: str) -> bool:
    """True when the processor has AVX-512 and OpenBLAS runs kernels of an older family.

    >>> slower_kernels(Processor(flags=AVX512_FLAGS), "Haswell"), slower_kernels(Processor(flags=AVX512_FLAGS), "SkylakeX")
    (True, False)
    """
    return cpu.has_avx512 and bool(core_type) and core_type.lower() not in AVX512_CORE_TYPES


def prepare(environment: MutableMapping[str, str] | None = None, cpuinfo: str | None = None) -> str | None:
    """Choose the AVX-512 kernels on an AMD processor that has them. Call before NumPy loads.

    environment: the variables to read and set, default those of this process; a value that the user set is respected.
    cpuinfo: text to read the processor from, default /proc/cpuinfo.
    Returns the value that was set, None when nothing was.
    """
    environment = os.environ if environment is None else environment
    cpu = processor(read_cpuinfo() if cpuinfo is None else cpuinfo)
    known = cpu.vendor == "AuthenticAMD" and cpu.family >= FIRST_AMD_FAMILY_WITH_AVX512
    if not (known and cpu.has_avx512) or environment.get(CORE_TYPE):
        return None
    environment[CORE_TYPE] = FAST_CORE_TYPE
    return FAST_CORE_TYPE


def loaded_openblas(maps: str = "/proc/self/maps") -> OpenBLAS | None:
    """The OpenBLAS of this process, which NumPy must have loaded; None when it uses another BLAS or none can be found."""
    for path in _loaded_libraries(maps) or _bundled_libraries():
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        core_type: bytes | None = _call(library, "get_corename", ctypes.c_char_p)
        threads: int | None = _call(library, "get_num_threads", ctypes.c_int)
        if core_type is not None:
            return OpenBLAS(path, core_type.decode(errors="replace"), threads or 0)
    return None


def thread_setters(maps: str = "/proc/self/maps") -> list[Callable[[int], None]]:
    """For every OpenBLAS of this process, the function that sets its number of threads; empty when there is none."""
    found: list[Callable[[int], None]] = []
    for path in _loaded_libraries(maps) or _bundled_libraries():
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        functions = [getattr(library, symbol, None) for symbol in _symbols("set_num_threads")]
        for function in [function for function in functions if function is not None][:1]:
            function.restype, function.argtypes = None, [ctypes.c_int]
            found.append(function)
    return found


def _symbols(name: str) -> list[str]:
    """The names that a function of OpenBLAS may have: wheels add a prefix and a suffix."""
    return [f"{prefix}openblas_{name}{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "")]


def _loaded_libraries(maps: str) -> list[str]:
    """Files of this process with openblas in their names, where the system lists them (Linux)."""
    try:
        lines = Path(maps).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    paths = (line.split(maxsplit=5)[-1] for line in lines if "openblas" in line.rpartition("/")[2])
    return sorted(set(paths), key=lambda path: ("numpy" not in path, path))  # SciPy brings an OpenBLAS of its own


def _bundled_libraries() -> list[str]:
    """The OpenBLAS that NumPy's wheels carry: beside the package on Windows, inside it on macOS."""
    from importlib.util import find_spec

    spec = find_spec("numpy")
    if spec is None or spec.origin is None:
        return []
    package = Path(spec.origin).parent
    folders = (package.with_name("numpy.libs"), package / ".dylibs")
    return sorted(str(file) for folder in folders if folder.is_dir() for file in folder.iterdir() if "openblas" in file.name)


def _call(library: ctypes.CDLL, name: str, result: type) -> Any:
    """Call a function of OpenBLAS under whichever of its names the library has."""
    for symbol in _symbols(name):
        function = getattr(library, symbol, None)
        if function is not None:
            function.restype = result
            function.argtypes = []
            return function()
    return None
