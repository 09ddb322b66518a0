"""The C library keeps freed memory, unless the user has chosen otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

glibc = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"

FAULTS = """
import resource
import numpy as np
import tinygrad_ja
def work():
    a = np.ones(1_000_000, np.float32)
    b = a * 2
    return b + a
for _ in range(3):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**chosen: str) -> int:
    """Pages that ten rounds of work on arrays of 4 MB took anew from the system."""
    names = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "TINYGRAD_JA_KEEP_MEMORY")
    environment = {**{name: value for name, value in os.environ.items() if name not in names}, **chosen}
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, env=environment)
    return int(done.stdout)


@pytest.mark.skipif(not glibc, reason="concerns glibc")
def test_arrays_take_their_memory_from_what_was_freed() -> None:
    assert faults() < 100


@pytest.mark.skipif(not glibc, reason="concerns glibc")
@pytest.mark.parametrize("name, value", [("TINYGRAD_JA_KEEP_MEMORY", "0"), ("MALLOC_TRIM_THRESHOLD_", "131072")])
def test_the_user_may_choose_otherwise(name: str, value: str) -> None:
    code = "from tinygrad_ja.backend.memory import keep_freed_memory; print(keep_freed_memory())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, name: value})
    assert done.stdout.strip() == "False"
