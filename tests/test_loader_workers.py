"""Workers of a DataLoader: their failures arrive, their memory is right, and nothing of them stays behind."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import loader_sets as sets
import pytest
from loader_cases import KINDS, WORKERS, names, nothing_left, plain, shared_memory

import tinygrad_ja as tg
from tinygrad_ja.data import DataLoader
from tinygrad_ja.errors import ArgumentError, ShapeError, WorkerError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="worker processes need POSIX")


@pytest.fixture(autouse=True)
def clean():
    with nothing_left():
        yield


# ---- failures


@pytest.mark.parametrize("options", WORKERS, ids=names)
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (sets.Broken, ValueError),
        (sets.BrokenKey, KeyError),
        (sets.BrokenTensor, ShapeError),
        (sets.BrokenStrangely, WorkerError),
        (sets.Leaving, WorkerError),
    ],
)
def test_an_exception_in_a_worker_comes_here_with_traceback_and_index(options, data, kind):
    seen = []
    with pytest.raises(kind) as caught:
        for batch in DataLoader(data(10), 2, **options):
            seen.append(batch.tolist())
    message = str(caught.value)
    assert seen == [[0, 1], [2, 3]]
    assert "TG-W001" in message and "in worker 0" in message and "\n  File" in message and "self.failure()" in message
    if data is not sets.Leaving:
        assert "dataset[5]" in message


def test_an_exception_without_workers_is_raised_as_it_is():
    with pytest.raises(ValueError) as caught:
        list(DataLoader(sets.Broken(10), 2))
    assert str(caught.value) == "no such picture"
    assert caught.value.__notes__ == ["This came from dataset[5]."]


@pytest.mark.parametrize("options", KINDS, ids=names)
def test_stop_iteration_in_an_example_does_not_end_the_epoch(options):
    with pytest.raises((RuntimeError, StopIteration)):
        list(DataLoader(sets.Stopping(10), 2, **options))


@pytest.mark.parametrize("options", KINDS, ids=names)
def test_a_broken_stream_says_so(options):
    with pytest.raises(ValueError, match="the stream broke"):
        list(DataLoader(sets.BrokenStream(), 2, **options))


@pytest.mark.parametrize("options", WORKERS, ids=names)
def test_a_worker_that_cannot_start_says_why(options):
    with pytest.raises(OSError, match="worker 0 cannot start"):
        list(DataLoader(sets.Numbers(4), 2, worker_init_fn=sets.fail, **options))


def test_a_loader_works_again_after_a_failure():
    for options in WORKERS:
        loader = DataLoader(sets.Broken(8), 2, persistent_workers=True, **options)
        for _ in range(2):
            with pytest.raises(ValueError):
                list(loader)


def test_the_end_of_a_worker_process_is_an_error_not_a_hang():
    with pytest.raises(WorkerError, match=r"TG-W002.*worker 0.*exit code 7"):
        list(DataLoader(sets.Dying(10), 2, num_workers=2, workers="process"))


@pytest.mark.parametrize("persistent", [False, True])
def test_a_killed_worker_process_is_an_error_not_a_hang(persistent):
    loader = DataLoader(sets.Numbers(4000), 2, num_workers=2, workers="process", persistent_workers=persistent)
    iterator = iter(loader)
    next(iterator)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match=r"killed by signal 9"):
        list(iterator)
    assert len(list(loader)) == 2000


@pytest.mark.parametrize("options", WORKERS, ids=names)
def test_a_timeout_is_an_error(options):
    class Waiting(sets.Numbers):
        def __getitem__(self, index):
            time.sleep(0.5 if index == 4 else 0)
            return index

    with pytest.raises(WorkerError, match=r"TG-W003.*0.1 s"):
        list(DataLoader(Waiting(10), 2, timeout=0.1, **options))


def test_what_cannot_be_sent_is_an_error():
    loader = DataLoader(sets.Unsendable(4), 2, num_workers=1, workers="process", collate_fn=sets.as_list)
    with pytest.raises((AttributeError, WorkerError, ValueError), match="TG-W001.*worker 0"):
        list(loader)


def test_a_set_that_cannot_be_sent_names_the_ways_out():
    class Local(sets.Numbers):
        pass

    loader = DataLoader(Local(4), num_workers=1, workers="process", multiprocessing_context="spawn")
    with pytest.raises(ArgumentError, match="workers='thread'"):
        list(loader)


# ---- memory of processes


def test_values_of_all_kinds_come_back_from_processes():
    def batches(**options):
        return list(DataLoader(sets.Varied(12), 1, collate_fn=sets.first_of, **options))

    for here, there in zip(batches(), batches(num_workers=2, workers="process")):
        assert plain(here) == plain(there) and list(here) == list(there)
        for name, value in here.items():
            assert type(there[name]) is type(value)
            if hasattr(value, "dtype"):
                assert there[name].dtype == value.dtype and there[name].shape == value.shape


def test_batches_of_processes_are_the_programs_own():
    loader = DataLoader(sets.Numbers(8), 2, num_workers=1, workers="process", prefetch_factor=1)
    kept = []
    for x, y in loader:
        x.array[0] = -1  # writable, and nobody else's
        kept.append((x, y))
    assert [y.tolist() for _, y in kept] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert [x[1, 0, 0].item() for x, _ in kept] == [1, 3, 5, 7]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_every_start_method_gives_the_same_batches(method):
    options = {"num_workers": 1, "workers": "process", "multiprocessing_context": method}
    loader = DataLoader(sets.Noisy(9), 2, shuffle=True, generator=tg.Generator().manual_seed(1), **options)
    assert plain(list(loader)) == plain(
        list(DataLoader(sets.Noisy(9), 2, shuffle=True, generator=tg.Generator().manual_seed(1)))
    )


# ---- nothing stays behind


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("options", WORKERS, ids=names)
def test_leaving_an_epoch_early_ends_the_workers_or_keeps_them_usable(options, persistent):
    loader = DataLoader(sets.Numbers(50), 2, persistent_workers=persistent, **options)
    for stop in (0, 3):
        for i, _ in enumerate(loader):
            if i == stop:
                break
    iterator = iter(loader)
    next(iterator)
    del iterator
    if not persistent:
        assert not multiprocessing.active_children()
    assert [y.tolist() for _, y in loader][-1] == [48, 49]


def test_persistent_processes_are_the_same_ones():
    loader = DataLoader(sets.Numbers(8), 2, num_workers=2, workers="process", persistent_workers=True)
    list(loader)
    before = sorted(child.pid for child in multiprocessing.active_children())
    list(loader)
    assert sorted(child.pid for child in multiprocessing.active_children()) == before and len(before) == 2


def test_an_epoch_that_was_never_begun_starts_nothing():
    iterator = iter(DataLoader(sets.Numbers(8), 2, num_workers=2, workers="process"))
    assert not multiprocessing.active_children()
    del iterator


PROGRAM = """
import os, signal, sys, time
sys.path.insert(0, {tests!r})
import loader_sets as sets
from tinygrad_ja.data import DataLoader

if __name__ == "__main__":
    loader = DataLoader(sets.Numbers(100_000), 2, num_workers=2, workers={workers!r}, persistent_workers={persistent})
    other = iter(DataLoader(sets.Numbers(100_000), 2, num_workers=1, workers={workers!r}))
    next(other)
    for i, batch in enumerate(loader):
        if i == 3:
            import multiprocessing
            print(*[child.pid for child in multiprocessing.active_children()], flush=True)
            {act}
"""


ACTS = {
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", {-9}),
    "Ctrl-C": ("os.killpg(os.getpgid(0), signal.SIGINT); time.sleep(1)", {-2, 1, 130}),
    "exception": ("raise ValueError", {1}),
    "exit": ("sys.exit(3)", {3}),
    "held": ("held = iter(loader); next(held); sys.exit(3)", {3}),
    "end": ("break", {0}),
}
"""What ends the program, and the exit codes that it then has."""


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    ("act", "workers", "persistent"),
    [
        *itertools.product(["SIGKILL", "Ctrl-C", "exception", "exit", "end"], ["process"], [False]),
        *itertools.product(["SIGKILL", "Ctrl-C", "exit", "held"], ["process"], [True]),
        *itertools.product(["Ctrl-C", "exit", "held"], ["thread"], [True]),
    ],
)
def test_no_process_outlives_the_program(act, workers, persistent, tmp_path):
    code, codes = ACTS[act]
    before = shared_memory()
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(PROGRAM).format(tests=str(Path(__file__).parent), workers=workers, persistent=persistent, act=code)
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=60, start_new_session=True, env=environment
    )
    children = [int(pid) for pid in done.stdout.split()]
    assert len(children) == (3 if workers == "process" else 0)
    assert done.returncode in codes, done.stderr
    assert "resource_tracker" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
    assert done.stderr.count("Traceback") <= 1, done.stderr
    deadline = time.monotonic() + 10
    while any(map(alive, children)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(alive, children))
    assert not shared_memory() - before


def test_messages_are_in_japanese_too(monkeypatch):
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    with pytest.raises(ValueError, match="ワーカー 0 で ValueError が起きました"):
        list(DataLoader(sets.Broken(10), 2, num_workers=2))
