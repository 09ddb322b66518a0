"""The processor to compile for, and the compiler: LLVM through llvmlite. Functions that were compiled once in this process are kept by
their text, so that equal loops, in one program or in several, are compiled once."""

from __future__ import annotations

import functools
import hashlib
import os
import threading
import time
from typing import Any, NamedTuple


class Processor(NamedTuple):
    """What code is made for: the names that LLVM knows, the bytes of a vector register, the number of those registers, and whether a store
    of some lanes costs no more than that of all (without AVX-512 one costs up to 20 cycles)."""

    name: str
    features: str
    vector: int
    registers: int
    masks: bool


@functools.cache
def processor() -> Processor:
    """The processor of this machine. ``TINYGRAD_JA_VECTOR=32`` limits its vectors to 32 bytes."""
    import llvmlite.binding as llvm

    name = llvm.get_host_cpu_name()
    try:
        flags: Any = llvm.get_host_cpu_features()
        features = flags.flatten()
    except RuntimeError:  # a system where LLVM cannot tell
        flags, features = {}, ""
    vector, registers = 16, 32 if "aarch64" in llvm.get_default_triple() or "arm64" in llvm.get_default_triple() else 16
    if all([flags.get(flag) for flag in ("avx512f", "avx512dq", "avx512bw", "avx512vl")]):
        vector, registers = 64, 32
    elif flags.get("avx2") and flags.get("fma"):
        vector = 32
    masks = vector == 64
    limit = os.environ.get("TINYGRAD_JA_VECTOR", "")
    if limit.isdigit() and 16 <= int(limit) < vector:
        vector, registers = int(limit), 16
    return Processor(name, features, vector, registers, masks)


class _Compiler:
    """Compiles texts of LLVM's language and keeps the machine code for as long as the process lives."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        self.llvm = llvm
        try:
            llvm.initialize()
        except RuntimeError:
            pass  # newer releases of llvmlite do it by themselves
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        cpu = processor()
        self.machine = llvm.Target.from_default_triple().create_target_machine(cpu=cpu.name, features=cpu.features, opt=2)
        self.engines: list[Any] = []
        self.addresses: dict[str, int] = {}
        self.seconds = 0.0

    def addresses_of(self, texts: dict[str, str], common: str) -> dict[str, int]:
        """Address of each function: ``texts`` maps a name to the definition of the function of that name."""
        with _lock:
            missing = {name: text for name, text in texts.items() if name not in self.addresses}
            if missing:
                start = time.perf_counter()
                self._compile(missing, common)
                self.seconds += time.perf_counter() - start
            return {name: self.addresses[name] for name in texts}

    def _compile(self, texts: dict[str, str], common: str) -> None:
        llvm = self.llvm
        module = llvm.parse_assembly("\n".join([common, *texts.values()]))
        module.verify()
        module.triple = llvm.get_process_triple()
        options = llvm.PipelineTuningOptions(speed_level=2)
        options.loop_unrolling = False
        options.loop_vectorization = False
        options.slp_vectorization = False
        builder = llvm.create_pass_builder(self.machine, options)
        builder.getModulePassManager().run(module, builder)
        engine = llvm.create_mcjit_compiler(module, self.machine)
        engine.finalize_object()
        self.engines.append(engine)
        for name in texts:
            self.addresses[name] = engine.get_function_address(name)


_lock = threading.RLock()
"""Held while something is compiled: one compiler for all threads, and no fork in the middle, whose child could never compile again."""
_made: list[_Compiler] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def _compiler() -> _Compiler:
    with _lock:
        if not _made:
            _made.append(_Compiler())
        return _made[0]


def compiled(texts: dict[str, str], common: str = "") -> dict[str, int]:
    """The addresses of functions, compiled unless this process has them: name -> definition. ``common``: what they call."""
    return _compiler().addresses_of(texts, common)


def compile_seconds() -> float:
    """Seconds that this process has spent compiling."""
    return _compiler().seconds


def assembly(text: str, common: str = "") -> str:
    """The machine code of a definition as text, to be read."""
    compiler = _compiler()
    module = compiler.llvm.parse_assembly(common + text)
    builder = compiler.llvm.create_pass_builder(compiler.machine, compiler.llvm.PipelineTuningOptions(speed_level=2))
    builder.getModulePassManager().run(module, builder)
    made: str = compiler.machine.emit_assembly(module)
    return made


def named(text: str, prefix: str) -> tuple[str, str]:
    """A name that is the same for the same text, and the text with ``@NAME`` replaced by it."""
    name = f"{prefix}_{hashlib.sha256(text.encode()).hexdigest()[:20]}"
    return name, text.replace("@NAME", f"@{name}")
