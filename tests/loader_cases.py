"""What the tests of DataLoader share: who makes the batches, batches as lists, and a look at what is left behind."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import sys
import threading
import time

KINDS = [
    {},
    {"num_workers": 2},
    {"num_workers": 2, "workers": "process"},
]
WORKERS = KINDS[1:]


def names(options):
    """The name of one of KINDS."""
    return options.get("workers", "thread" if options else "none")


def plain(batches):
    """Batches as lists."""
    if isinstance(batches, (list, tuple)):
        return [plain(batch) for batch in batches]
    if isinstance(batches, dict):
        return {name: plain(value) for name, value in batches.items()}
    return batches.tolist() if hasattr(batches, "tolist") else batches


@contextlib.contextmanager
def nothing_left():
    """Fails when a worker process, thread, open file or named piece of memory outlives the block."""
    from multiprocessing import forkserver, resource_tracker

    resource_tracker.ensure_running()  # these two are kept running by Python itself
    forkserver.ensure_running()
    gc.collect()
    files, threads, memory = open_files(), threading.active_count(), shared_memory()
    yield
    gc.collect()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and (multiprocessing.active_children() or threading.active_count() > threads):
        time.sleep(0.01)
    assert not multiprocessing.active_children()
    assert (open_files(), threading.active_count()) == (files, threads)
    assert not shared_memory() - memory


def open_files():
    """Number of open files of this process."""
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


def shared_memory():
    """Named pieces of memory of Python's own kind, or of ours."""
    found = os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else []
    return {name for name in found if name.startswith("psm_") or "tinygrad" in name}
