"""Compiles CUDA sources to machine code of an H100 (sm_90) without a GPU: by NVRTC from pip's packages, or by nvcc."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ARCHITECTURE = "sm_90"


def _site_packages() -> list[Path]:
    return [Path(p) for p in sys.path if p.endswith("site-packages")]


@functools.cache
def compiler() -> tuple[Callable[[str], str] | None, str]:
    """(function that compiles a source and returns what went wrong, ""), or (None, why there is none)."""
    for folder in _site_packages():
        for library in sorted(folder.glob("nvidia/*/lib/libnvrtc.so.*"), reverse=True):
            if "builtins" in library.name or ".alt." in library.name:
                continue
            headers = [str(p.parent) for p in folder.glob("nvidia/*/include/cuda_fp16.h")]
            if headers:
                return functools.partial(_by_nvrtc, str(library), headers[0]), ""
    nvcc = shutil.which("nvcc")
    if nvcc:
        return functools.partial(_by_nvcc, nvcc), ""
    return None, 'needs nvcc, or pip install -e ".[cuda-sources]"'


def _by_nvrtc(library: str, headers: str, source: str) -> str:
    nvrtc = ctypes.CDLL(library)
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
    options = [f"-arch={ARCHITECTURE}", "-std=c++17", "-ftz=true", f"-I{headers}"]
    given = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    status = nvrtc.nvrtcCompileProgram(program, len(options), given)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return "" if status == 0 and size.value else f"NVRTC: status {status}\n{log.value.decode()}"


def _by_nvcc(nvcc: str, source: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernels.cu"
        file.write_text(source)
        command = [
            nvcc,
            f"-arch={ARCHITECTURE}",
            "-std=c++17",
            "-ftz=true",
            "-cubin",
            "-w",
            str(file),
            "-o",
            str(file.with_suffix(".o")),
        ]
        made = subprocess.run(command, capture_output=True, text=True)
    return "" if made.returncode == 0 else made.stderr
