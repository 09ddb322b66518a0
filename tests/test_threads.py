"""Parts of kernels in threads: every index once, failures passed on, one thread where the work is small."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import blas
from tinygrad_ja.backend.threads import WORTH, in_parts


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = tg.get_num_threads()
    tg.set_num_threads(3)
    yield
    tg.set_num_threads(before)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 100, 101])
@pytest.mark.parametrize("block", [0, 1, 7, 1000])
@pytest.mark.parametrize("elements", [1, 10 * WORTH])
@pytest.mark.usefixtures("three_threads")
def test_parts_cover_the_range_once(length: int, block: int, elements: int) -> None:
    seen: list[int] = []
    in_parts(lambda part: seen.extend(range(part.start, part.stop)), length, elements, block)
    assert sorted(seen) == list(range(length))


@pytest.mark.usefixtures("three_threads")
def test_large_work_runs_in_several_threads_and_small_work_in_one() -> None:
    barrier = threading.Barrier(3, timeout=10)  # passes only when three parts are at work at the same time
    in_parts(lambda part: barrier.wait(), 3, 3 * WORTH)
    names: set[str] = set()
    in_parts(lambda part: names.add(threading.current_thread().name), 3, 10)
    assert names == {threading.current_thread().name}


@pytest.mark.usefixtures("three_threads")
def test_a_failure_in_another_thread_is_raised_here() -> None:
    def fail(part: slice) -> None:
        if part.start:
            raise ValueError("part failed")

    with pytest.raises(ValueError, match="part failed"):
        in_parts(fail, 300, 10 * WORTH)


@pytest.mark.usefixtures("three_threads")
def test_a_part_of_a_part_is_not_divided_again() -> None:
    seen: list[int] = []

    def work(part: slice) -> None:
        in_parts(lambda inner: seen.append(inner.stop - inner.start), 100, 10 * WORTH)

    in_parts(work, 3, 10 * WORTH)
    assert seen == [100, 100, 100]


@pytest.mark.usefixtures("three_threads")
def test_the_callers_errstate_holds_in_every_part() -> None:
    large = np.full(10 * WORTH, 1000.0)
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        in_parts(lambda part: np.exp(large[part]) if part.start else None, large.size, large.size)
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("error")
        in_parts(lambda part: np.exp(large[part]), large.size, large.size)


def test_a_program_that_ends_may_still_compute() -> None:
    code = """
import atexit
import numpy as np
from tinygrad_ja.backend.threads import WORTH, in_parts
made = np.zeros(10 * WORTH)
def last():
    in_parts(lambda part: made[part].fill(1.0), made.size, made.size)
    print(made.all())
atexit.register(last)
last()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "3"}
    )
    assert done.stdout.split() == ["True", "True"], done.stderr


@pytest.mark.skipif(blas.loaded_openblas() is None, reason="NumPy uses another BLAS")
def test_the_number_of_threads_of_openblas_comes_back() -> None:
    code = """
from tinygrad_ja import blas, get_num_threads
from tinygrad_ja.backend.threads import WORTH, in_parts
inside, before = [], blas.loaded_openblas().threads
in_parts(lambda part: inside.append(blas.loaded_openblas().threads), 10, 10 * WORTH)
print(get_num_threads(), *inside, before, blas.loaded_openblas().threads)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["2", "1", "1", "1", "1"]


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2"])
def test_a_number_of_threads_is_a_positive_int(count: object) -> None:
    with pytest.raises(tg.errors.ArgumentError, match="set_num_threads"):
        tg.set_num_threads(count)  # type: ignore[arg-type]
