"""Parts of kernels in threads: every index once, failures passed on, one thread where the work is small."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import tinygrad_ja as tg
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


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2"])
def test_a_number_of_threads_is_a_positive_int(count: object) -> None:
    with pytest.raises(tg.errors.ArgumentError, match="set_num_threads"):
        tg.set_num_threads(count)  # type: ignore[arg-type]
