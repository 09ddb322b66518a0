"""What this installation is made of, and what is wrong with it: ``show_config`` and ``python -m tinygrad_ja doctor``.

The checks take what they look at as arguments and return a finding or None; ``findings`` gathers the facts and asks them all.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .backend.devices import get_default_device, get_default_dtype, gpu_problem
from .blas import CORE_TYPE, FAST_CORE_TYPE, OpenBLAS, Processor, loaded_openblas, processor, read_cpuinfo, slower_kernels
from .errors import TinygradError, language, text


class Finding(NamedTuple):
    """One remark of the doctor: its code in the catalogue, its text with the command that mends it, and whether something is wrong
    (a machine without a GPU is worth a remark, but nothing is wrong with it)."""

    code: str
    message: str
    wrong: bool = True


_LABELS = {
    "tinygrad_ja": ("tinygrad_ja", "tinygrad_ja"),
    "python": ("Python", "Python"),
    "numpy": ("NumPy", "NumPy"),
    "cupy": ("CuPy", "CuPy"),
    "processor": ("processor", "プロセッサ"),
    "blas": ("BLAS", "BLAS"),
    "gpu": ("GPU", "GPU"),
    "device": ("default device", "既定のデバイス"),
    "dtype": ("default dtype", "既定の dtype"),
}

_WORDS = {
    "absent": ("not installed", "入っていません"),
    "unknown": ("unknown", "不明"),
    "avx512": ("with AVX-512", "AVX-512 あり"),
    "no avx512": ("without AVX-512", "AVX-512 なし"),
    "kernels": ("kernels", "カーネル"),
    "threads": ("threads", "スレッド数"),
    "usable": ("usable", "使えます"),
    "unusable": ("not usable", "使えません"),
    "driver": ("driver for CUDA", "ドライバの CUDA"),
    "fine": ("Nothing is wrong.", "問題はありません。"),
    "wrong": ("To mend", "直すところ"),
    "remark": ("Remark", "参考"),
}


def _word(name: str) -> str:
    return _WORDS[name][language() == "ja"]


# ---- what is there -------------------------------------------------------------------------------


def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Print versions, BLAS kernels and threads, the GPU, and the defaults; in English or Japanese.

    mode: ``"stdout"`` prints; ``"dicts"`` returns the same as nested dicts of plain values, as ``numpy.show_config`` does.

    >>> import tinygrad_ja as tg
    >>> tg.show_config(mode="dicts")["dtype"]
    'float32'
    """
    facts = gather()
    if mode == "dicts":
        return facts
    print(report(facts))
    return None


def gather() -> dict[str, Any]:
    """All facts of this process, as plain values."""
    from importlib import metadata  # slow to import

    cpu = processor(read_cpuinfo())
    return {
        "tinygrad_ja": package_version(),
        "python": f"{platform.python_version()} ({sys.platform}, {platform.machine()})",
        "numpy": np.__version__,
        "cupy": " ".join(f"{name} {metadata.version(name)}" for name in cupy_packages()) or None,
        "processor": {"name": cpu.name or platform.processor(), "vendor": cpu.vendor, "avx512": cpu.has_avx512},
        "blas": blas_facts(loaded_openblas()),
        "gpu": gpu_facts(),
        "device": _default_device(),
        "dtype": str(get_default_dtype()),
    }


def report(facts: Mapping[str, Any], reasons: bool = True) -> str:
    """The facts as lines for people, in the current language; ``reasons=False`` leaves out why no GPU can be used."""
    cpu, blas = facts["processor"], facts["blas"]
    lines = {
        **facts,
        "cupy": facts["cupy"] or _word("absent"),
        "processor": f"{cpu['name'] or _word('unknown')}, {_word('avx512' if cpu['avx512'] else 'no avx512')}",
        "blas": f"{blas['name']} {blas['version']}".strip(),
        "gpu": _gpu_line(facts["gpu"], reasons),
    }
    if blas["core_type"]:
        lines["blas"] += f", {_word('kernels')}: {blas['core_type']}, {_word('threads')}: {blas['threads']}"
    return "\n".join(f"{labels[language() == 'ja']}: {lines[name]}" for name, labels in _LABELS.items())


def hardware() -> str:
    """Name of the processor, its vectors where they are known (processors of one name may differ in that), and number of cores."""
    cpu = processor(read_cpuinfo())
    vectors = " with AVX-512" if "avx512f" in cpu.flags else " with AVX2" if "avx2" in cpu.flags else ""
    return f"{cpu.name or platform.processor() or platform.machine()}{vectors}, {os.cpu_count()} cores"


def package_version() -> str:
    """The version of this package: of the module, or of the installed metadata while the module is still loading."""
    from importlib import metadata  # slow to import

    module = sys.modules[__package__ or "tinygrad_ja"]
    found = getattr(module, "__version__", None)
    if found is None:
        try:
            found = metadata.version("tinygrad_ja")
        except metadata.PackageNotFoundError:
            found = "?"
    return str(found)


def cupy_packages() -> list[str]:
    """Names of the installed packages that bring CuPy; more than one is a fault."""
    from importlib import metadata  # slow to import

    names = {(d.metadata["Name"] or "").lower() for d in metadata.distributions()}
    return sorted(name for name in names if name == "cupy" or name.startswith(("cupy-cuda", "cupy-rocm")))


def blas_facts(openblas: OpenBLAS | None) -> dict[str, Any]:
    """The BLAS that NumPy was built with, and the kernel family and threads of the OpenBLAS that runs."""
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[call-overload, index, unused-ignore]
    return {
        "name": str(built.get("name", "")),
        "version": str(built.get("version", "")),
        "found": bool(built.get("found", True)) and built.get("name") != "none",
        "core_type": openblas.core_type if openblas else "",
        "threads": openblas.threads if openblas else 0,
    }


def gpu_facts() -> dict[str, Any]:
    """Whether a GPU can be used; its name, memory and the driver's CUDA version, or the code and reason of what is missing."""
    problem = gpu_problem()
    if problem is not None:
        return {"usable": False, "code": problem[0], "reason": problem[1]}
    import cupy

    runtime = cupy.cuda.runtime
    names = [runtime.getDeviceProperties(index)["name"].decode() for index in range(runtime.getDeviceCount())]
    driver = runtime.driverGetVersion()
    return {"usable": True, "names": names, "driver": f"{driver // 1000}.{driver % 1000 // 10}"}


def _gpu_line(gpu: Mapping[str, Any], reasons: bool) -> str:
    if gpu["usable"]:
        return f"{_word('usable')}: {', '.join(gpu['names'])}; {_word('driver')} {gpu['driver']}"
    line = f"{_word('unusable')} [{gpu['code']}]"
    return f"{line}: {text(gpu['code'], device='cuda', reason=gpu['reason'])}" if reasons else line


def _default_device() -> str:
    try:
        return str(get_default_device())
    except TinygradError as failure:
        return f"{os.environ.get('TINYGRAD_JA_DEVICE')} [{failure.code}]"


# ---- what is wrong -------------------------------------------------------------------------------


def check_kernels(cpu: Processor, core_type: str, environment: Mapping[str, str]) -> Finding | None:
    """An AVX-512 processor on which OpenBLAS runs kernels of an older family.

    >>> from tinygrad_ja.blas import AVX512_FLAGS, Processor
    >>> check_kernels(Processor("EPYC", "AuthenticAMD", 26, AVX512_FLAGS), "Haswell", {}).code
    'TG-C001'
    """
    if not slower_kernels(cpu, core_type):
        return None
    chosen = environment.get(CORE_TYPE, "")
    if chosen.lower() == FAST_CORE_TYPE.lower():
        return Finding("TG-C002", text("TG-C002", value=chosen, core_type=core_type))
    return Finding("TG-C001", text("TG-C001", processor=cpu.name, core_type=core_type, fix=FAST_CORE_TYPE))


def check_threads(threads: int, processors: int) -> Finding | None:
    """More threads of OpenBLAS than processors that this process may use."""
    if threads <= processors:
        return None
    return Finding("TG-C003", text("TG-C003", threads=threads, processors=processors))


def check_blas(found: bool) -> Finding | None:
    """A NumPy without any BLAS."""
    return None if found else Finding("TG-C004", text("TG-C004"))


def check_cupy_packages(packages: Sequence[str]) -> Finding | None:
    """Two CuPy packages in one environment."""
    if len(packages) < 2:
        return None
    package = f"cupy-cuda{13 if 'cupy-cuda13x' in packages else 12}x[ctk]>=14.2,<15"
    return Finding("TG-C005", text("TG-C005", packages=" ".join(packages), package=package))


def check_gpu(problem: tuple[str, str] | None, wanted: bool) -> Finding | None:
    """Why no GPU can be used. It is wrong when one is wanted: CuPy is installed, or the default device is a GPU."""
    if problem is None:
        return None
    code, reason = problem
    return Finding(code, text(code, device="cuda", reason=reason), wrong=wanted or code != "TG-D002")


def check_device_name() -> Finding | None:
    """A ``TINYGRAD_JA_DEVICE`` that names no device, or a GPU that is not there."""
    try:
        get_default_device()
    except TinygradError as failure:
        return Finding(failure.code, str(failure).removeprefix(f"[{failure.code}] "))
    return None


def findings() -> list[Finding]:
    """All remarks on this installation, those that need mending first."""
    openblas = loaded_openblas()
    core_type, threads = (openblas.core_type, openblas.threads) if openblas else ("", 0)
    wanted = os.environ.get("TINYGRAD_JA_DEVICE", "").startswith("cuda")
    device = check_device_name()
    gpu = check_gpu(gpu_problem(), wanted)
    made = [
        check_kernels(processor(read_cpuinfo()), core_type, os.environ),
        check_threads(threads, usable_processors()),
        check_blas(blas_facts(openblas)["found"]),
        check_cupy_packages(cupy_packages()),
        device,
        gpu if device is None or gpu is None or device.code != gpu.code else None,
    ]
    return sorted((finding for finding in made if finding is not None), key=lambda finding: not finding.wrong)


def usable_processors() -> int:
    """Number of processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def doctor() -> int:
    """Print the configuration and every finding with the command that mends it. Returns 1 when something is wrong, else 0."""
    print(report(gather(), reasons=False))
    found = findings()
    wrong = any(finding.wrong for finding in found)
    print()
    if not wrong:
        print(_word("fine"))
    for finding in found:
        print(f"{_word('wrong' if finding.wrong else 'remark')} [{finding.code}]: {finding.message}")
    return int(wrong)
