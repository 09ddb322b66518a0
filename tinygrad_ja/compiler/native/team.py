"""Running a table of compiled functions: one after the other, each in chunks that several threads share.

A record of the table holds a function, the table of words that it gets, and its number of chunks; the function is called with ``(words,
chunk, worker)``. Threads beside the caller's are plain threads of the system that never touch Python. They take chunks by one atomic word,
"ticket": the number of the job in its upper half, chunks left in its lower half. A worker reads the ticket, then the job, then takes a chunk by
compare-and-swap; if the job had changed in between, so has the ticket, and nothing was taken. The caller takes chunks as well, so a thread
that sleeps or was put aside delays nothing. After a while without work a worker sleeps on a condition variable.

What a chunk computes depends on its number alone, and chunks do not depend on the number of threads, nor do results.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys
import threading
from typing import Any

import numpy as np

from ...backend import threads
from .target import compiled, named, processor

SPINS = 100_000
"""How often a worker looks for work before it sleeps, some 20 to 50 ns apart: some milliseconds, so that it is awake from step to step. A
system often wakes a thread on the processor of the one that calls it, where it waits until that one pauses: the step of an LSTM took
56 ms instead of 39 when its worker slept between steps."""

MOST = min(64, max(8, 2 * (os.cpu_count() or 1)))
"""The most threads, the caller's included."""

# Words of a team, each in a cache line of its own: ticket; chunks done by workers; function, words and chunks of the job; owned;
# stop; workers that may work; workers asleep; number of the last wake-up; mutex; condition; how often a worker looks before it sleeps.
_TICKET, _DONE, _JOB, _OWNED, _STOP, _LIMIT, _ASLEEP, _CALLS, _MUTEX, _CONDITION, _PATIENCE = range(0, 176, 16)
_WORDS = 208


def _pause() -> tuple[str, str]:
    """The declaration and the call of what a waiting loop does."""
    name = processor().features
    if "sse2" in name:
        return "declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"
    return "", ""


def _run_text() -> str:
    """``run(records, count, team, threads, problem)``: the caller's side. It stops, and returns what it finds, where ``problem`` is not 0."""
    _, pause = _pause()
    return f"""
define i64 @NAME(ptr %records, i64 %count, ptr %team, i64 %threads, ptr %problem) {{
entry:
  %done = getelementptr i64, ptr %team, i64 {_DONE}
  %job = getelementptr i64, ptr %team, i64 {_JOB}
  %job1 = getelementptr i64, ptr %team, i64 {_JOB + 1}
  %job2 = getelementptr i64, ptr %team, i64 {_JOB + 2}
  %owned = getelementptr i64, ptr %team, i64 {_OWNED}
  %many = icmp sgt i64 %threads, 1
  br i1 %many, label %try, label %start
try:
  %pair = cmpxchg ptr %owned, i64 0, i64 1 acquire monotonic
  %got = extractvalue {{ i64, i1 }} %pair, 1
  br label %start
start:
  %divided = phi i1 [ false, %entry ], [ %got, %try ]
  br label %next
next:
  %i = phi i64 [ 0, %start ], [ %i1, %after ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %record, label %end
record:
  %at = mul i64 %i, 3
  %place = getelementptr i64, ptr %records, i64 %at
  %place1 = getelementptr i64, ptr %place, i64 1
  %place2 = getelementptr i64, ptr %place, i64 2
  %function = load ptr, ptr %place
  %words = load ptr, ptr %place1
  %chunks = load i64, ptr %place2
  %several = icmp sgt i64 %chunks, 1
  %share = and i1 %several, %divided
  br i1 %share, label %together, label %alone
alone:
  %c = phi i64 [ 0, %record ], [ %c1, %call ]
  %left = icmp slt i64 %c, %chunks
  br i1 %left, label %call, label %after
call:
  call void %function(ptr %words, i64 %c, i64 0)
  %c1 = add i64 %c, 1
  br label %alone
together:
  store atomic i64 0, ptr %done monotonic, align 8
  store atomic ptr %function, ptr %job monotonic, align 8
  store atomic ptr %words, ptr %job1 monotonic, align 8
  store atomic i64 %chunks, ptr %job2 monotonic, align 8
  %old = load atomic i64, ptr %team monotonic, align 8
  %upper = and i64 %old, -4294967296
  %number = add i64 %upper, 4294967296
  %ticket = or i64 %number, %chunks
  store atomic i64 %ticket, ptr %team release, align 8
  br label %take
take:
  %mine = phi i64 [ 0, %together ], [ %mine1, %work ], [ %mine, %again ]
  %now = load atomic i64, ptr %team monotonic, align 8
  %rest = and i64 %now, 4294967295
  %any = icmp ne i64 %rest, 0
  br i1 %any, label %again, label %wait
again:
  %fewer = sub i64 %now, 1
  %swap = cmpxchg ptr %team, i64 %now, i64 %fewer acq_rel monotonic
  %taken = extractvalue {{ i64, i1 }} %swap, 1
  br i1 %taken, label %work, label %take
work:
  %chunk = sub i64 %chunks, %rest
  call void %function(ptr %words, i64 %chunk, i64 0)
  %mine1 = add i64 %mine, 1
  br label %take
wait:
  %others = load atomic i64, ptr %done acquire, align 8
  %sum = add i64 %others, %mine
  %all = icmp eq i64 %sum, %chunks
  br i1 %all, label %after, label %spin
spin:
  {pause}
  br label %wait
after:
  %i1 = add i64 %i, 1
  %trouble = load atomic i64, ptr %problem monotonic, align 8
  %fine = icmp eq i64 %trouble, 0
  br i1 %fine, label %next, label %end
end:
  %found = phi i64 [ 0, %next ], [ %trouble, %after ]
  br i1 %divided, label %release, label %out
release:
  store atomic i64 0, ptr %owned release, align 8
  br label %out
out:
  ret i64 %found
}}
"""


def _work_text(lock: int, unlock: int, wait: int) -> str:
    """``work(start)``: a worker's side. ``start``: a table with the team and the number of the worker. The other arguments: addresses of
    the system's functions."""
    _, pause = _pause()
    return f"""
define ptr @NAME(ptr %start) {{
entry:
  %team = load ptr, ptr %start
  %place = getelementptr i64, ptr %start, i64 1
  %worker = load i64, ptr %place
  %done = getelementptr i64, ptr %team, i64 {_DONE}
  %job = getelementptr i64, ptr %team, i64 {_JOB}
  %job1 = getelementptr i64, ptr %team, i64 {_JOB + 1}
  %job2 = getelementptr i64, ptr %team, i64 {_JOB + 2}
  %stop = getelementptr i64, ptr %team, i64 {_STOP}
  %limit = getelementptr i64, ptr %team, i64 {_LIMIT}
  %asleep = getelementptr i64, ptr %team, i64 {_ASLEEP}
  %calls = getelementptr i64, ptr %team, i64 {_CALLS}
  %mutex = getelementptr i64, ptr %team, i64 {_MUTEX}
  %condition = getelementptr i64, ptr %team, i64 {_CONDITION}
  %patience = getelementptr i64, ptr %team, i64 {_PATIENCE}
  br label %look
look:
  %spins = phi i64 [ 0, %entry ], [ 0, %work ], [ 0, %awake ], [ %spins, %try ], [ %spins1, %idle ]
  %now = load atomic i64, ptr %team acquire, align 8
  %rest = and i64 %now, 4294967295
  %any = icmp ne i64 %rest, 0
  %most = load atomic i64, ptr %limit monotonic, align 8
  %allowed = icmp slt i64 %worker, %most
  %go = and i1 %any, %allowed
  br i1 %go, label %try, label %idle
try:
  %function = load atomic ptr, ptr %job monotonic, align 8
  %words = load atomic ptr, ptr %job1 monotonic, align 8
  %chunks = load atomic i64, ptr %job2 monotonic, align 8
  %fewer = sub i64 %now, 1
  %swap = cmpxchg ptr %team, i64 %now, i64 %fewer acq_rel monotonic
  %taken = extractvalue {{ i64, i1 }} %swap, 1
  br i1 %taken, label %work, label %look
work:
  %chunk = sub i64 %chunks, %rest
  call void %function(ptr %words, i64 %chunk, i64 %worker)
  %before = atomicrmw add ptr %done, i64 1 release
  br label %look
idle:
  {pause}
  %spins1 = add i64 %spins, 1
  %enough = load atomic i64, ptr %patience monotonic, align 8
  %tired = icmp sgt i64 %spins1, %enough
  br i1 %tired, label %sleep, label %look
sleep:
  %l = call i32 inttoptr (i64 {lock} to ptr)(ptr %mutex)
  %number = load atomic i64, ptr %calls monotonic, align 8
  %a = atomicrmw add ptr %asleep, i64 1 monotonic
  br label %check
check:
  %s = load atomic i64, ptr %stop monotonic, align 8
  %halt = icmp ne i64 %s, 0
  %current = load atomic i64, ptr %calls monotonic, align 8
  %called = icmp ne i64 %current, %number
  %up = or i1 %halt, %called
  br i1 %up, label %rise, label %rest.more
rest.more:
  %w = call i32 inttoptr (i64 {wait} to ptr)(ptr %condition, ptr %mutex)
  br label %check
rise:
  %b = atomicrmw sub ptr %asleep, i64 1 monotonic
  %u = call i32 inttoptr (i64 {unlock} to ptr)(ptr %mutex)
  br i1 %halt, label %leave, label %awake
awake:
  br label %look
leave:
  ret ptr null
}}
"""


class Team:
    """The threads of this process that run compiled code. Made when first needed, and anew in a child process."""

    def __init__(self) -> None:
        common = _pause()[0]
        name, text = named(_run_text(), "run")
        self.run: Any = ctypes.CFUNCTYPE(
            ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p
        )(compiled({name: text}, common)[name])
        raw = np.zeros(_WORDS + 16, np.int64)
        skip = (-raw.ctypes.data % 128) // 8
        self.memory = raw[skip : skip + _WORDS]
        self.address = self.memory.ctypes.data
        self.lock = threading.Lock()
        self.handles: list[ctypes.c_void_p] = []
        self.starts: list[np.ndarray] = []
        self.process = os.getpid()
        self.count = 0
        self._asleep = ctypes.c_int64.from_address(self.address + 8 * _ASLEEP)
        self._patience = ctypes.c_int64.from_address(self.address + 8 * _PATIENCE)
        self.system: Any = None if sys.platform == "win32" else ctypes.CDLL(None)
        if self.system is not None:
            self.system.pthread_mutex_init(self._at(_MUTEX), None)
            self.system.pthread_cond_init(self._at(_CONDITION), None)
            atexit.register(self.end)

    def _at(self, word: int) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.address + 8 * word)

    def ready(self, patience: int = SPINS) -> int:
        """Threads that may share work now, the caller's included; wakes the others. patience: how often they look for more, then they sleep."""
        count = threads.get_num_threads()
        if count < 2 or self.system is None or threads.undivided():
            return 1
        self._patience.value = patience
        if count != self.count:
            self._grow(count)
        if self._asleep.value:
            with self.lock:
                self.system.pthread_mutex_lock(self._at(_MUTEX))
                self.memory[_CALLS] += 1
                self.system.pthread_cond_broadcast(self._at(_CONDITION))
                self.system.pthread_mutex_unlock(self._at(_MUTEX))
        return count

    def _grow(self, count: int) -> None:
        with self.lock:
            self.memory[_LIMIT] = self.count = count
            count = min(count, MOST)
            if len(self.handles) >= count - 1 or self.memory[_STOP]:
                return
            system = self.system
            addresses = [
                ctypes.cast(f, ctypes.c_void_p).value or 0
                for f in (system.pthread_mutex_lock, system.pthread_mutex_unlock, system.pthread_cond_wait)
            ]
            name, text = named(_work_text(*addresses), "work")
            function = ctypes.c_void_p(compiled({name: text}, _pause()[0])[name])
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # signals are for Python's threads
            try:
                while len(self.handles) < count - 1:
                    start = np.array([self.address, len(self.handles) + 1], np.int64)
                    handle = ctypes.c_void_p()
                    if system.pthread_create(ctypes.byref(handle), None, function, ctypes.c_void_p(start.ctypes.data)):
                        break
                    self.starts.append(start)
                    self.handles.append(handle)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def end(self) -> None:
        """Stop the workers."""
        if self.process != os.getpid() or not self.handles:
            return
        self.system.pthread_mutex_lock(self._at(_MUTEX))
        self.memory[_STOP] = 1
        self.system.pthread_cond_broadcast(self._at(_CONDITION))
        self.system.pthread_mutex_unlock(self._at(_MUTEX))
        for handle in self.handles:
            self.system.pthread_join(handle, None)
        self.handles.clear()


_team: Team | None = None


def team() -> Team:
    """The team of this process."""
    global _team
    if _team is None:
        _team = Team()
    return _team


def _forget() -> None:
    global _team
    _team = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
