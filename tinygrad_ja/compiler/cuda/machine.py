"""The GPU as the executor needs it: memory, kernels, products, graphs. Tests put another machine in its place, which runs the same kernels on
the CPU."""

from __future__ import annotations

import contextlib
import gc
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from .cublas import WORKSPACE, Cublas
from .products import Product
from .schedule import module_source

SLOTS = 32
"""How many calls the host may be ahead of the GPU."""
PER_MODULE = 12
"""How many kernels are compiled together."""


class Machine:
    """One GPU, with a stream for capturing and a pool of memory that nobody else uses: what a captured graph writes to stays its own."""

    def __init__(self) -> None:
        import cupy  # type: ignore[import-not-found, unused-ignore]

        self.xp = cupy
        self.runtime, self._empty = cupy.cuda.runtime, cupy.ndarray
        self.device = cupy.cuda.Device()
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.pool = cupy.cuda.MemoryPool()
        self._cublas: Cublas | None = None

    # -- memory

    def allocate(self, nbytes: int) -> tuple[Any, int]:
        """(what keeps the memory alive, its address)."""
        memory = self.pool.malloc(max(nbytes, 512))
        return memory, memory.ptr

    def view(self, owner: Any, address: int, nbytes: int, shape: Sequence[int], dtype: Any, strides: Sequence[int]) -> Any:
        """An array at an address."""
        memory = self.xp.cuda.UnownedMemory(address, nbytes, owner)
        return self.xp.ndarray(tuple(shape), dtype, self.xp.cuda.MemoryPointer(memory, 0), tuple(strides))

    def address(self, array: Any) -> Any:
        """Of the first element of a real array."""
        return array.data.ptr

    def put(self, address: int, host: np.ndarray) -> None:
        """Copy a host array to an address, at once."""
        host = np.ascontiguousarray(host)
        if host.nbytes:
            self.runtime.memcpy(address, host.ctypes.data, host.nbytes, self.runtime.memcpyHostToDevice)

    def empty(self, shape: Sequence[int], dtype: Any) -> Any:
        """A fresh array of the usual pool, for a result."""
        return self._empty(shape, dtype)

    def contiguous(self, array: Any) -> Any:
        """The array itself, or a copy in C order."""
        return array if array.flags.c_contiguous else self.xp.ascontiguousarray(array)

    # -- the table

    def sender(self, address: int, row: struct.Struct) -> Callable[..., None]:
        """A function (entries) that copies such a row to an address, in the order of the current stream and without waiting, from pinned
        memory that no earlier copy still reads: rows take turns in two halves, and an event follows the last copy of each."""
        size, half = row.size, SLOTS // 2
        host = np.frombuffer(self.xp.cuda.alloc_pinned_memory(SLOTS * max(size, 1)), np.uint8, SLOTS * size)
        events = [self.xp.cuda.Event(disable_timing=True) for _ in range(2)]
        begin, view, pack, copy = host.ctypes.data, host.data, row.pack_into, self.runtime.memcpyAsync
        to_device, stream_of, turn = self.runtime.memcpyHostToDevice, self.current_stream, 0

        def send(*entries: Any) -> None:
            nonlocal turn
            pack(view, turn * size, *entries)
            copy(address, begin + turn * size, size, to_device, stream_of())
            turn += 1
            if turn % half == 0:
                events[turn // half - 1].record()
                turn %= SLOTS
                events[turn // half].synchronize()

        return send

    # -- kernels

    def compile(self, texts: Sequence[str]) -> list[Callable[..., None]]:
        """Functions called with (grid, block, arguments), one for each launch's text, compiled by several threads."""
        parts = [list(texts[begin : begin + PER_MODULE]) for begin in range(0, len(texts), PER_MODULE)]
        with ThreadPoolExecutor(max(1, min(len(parts), os.cpu_count() or 1))) as pool:
            return [function for part in pool.map(self._module, parts) for function in part]

    def _module(self, texts: Sequence[str]) -> list[Callable[..., None]]:
        names = {text: f"kernel_{k}" for k, text in enumerate(texts)}
        with self.xp.cuda.Device(self.device.id):
            module = self.xp.RawModule(code=module_source(names))
            return [module.get_function(name) for name in names.values()]

    def pointers(self, addresses: Sequence[int]) -> tuple[Any, ...]:
        """Arguments of a kernel."""
        return tuple([np.uint64(address) for address in addresses])

    @property
    def products(self) -> Cublas:
        """The handle of cuBLAS."""
        if self._cublas is None:
            self._workspace = self.pool.malloc(WORKSPACE)
            self._cublas = Cublas(self._workspace.ptr)
        return self._cublas

    def use_stream(self) -> None:
        """Let products run on the current stream."""
        self.products.use(self.xp.cuda.get_current_stream().ptr)

    def product(self, call: Product, addresses: Sequence[int], tf32: bool) -> None:
        """Run a product on the stream of ``use_stream``."""
        self.products.product(call, addresses, tf32)

    # -- graphs

    @contextlib.contextmanager
    def own_stream(self) -> Iterator[None]:
        """In the block, work goes to the machine's stream, in order with what came before and comes after, and to its pool."""
        outside = self.xp.cuda.get_current_stream()
        self.stream.wait_event(outside.record())
        with self.stream, self.xp.cuda.using_allocator(self.pool.malloc):
            yield
        outside.wait_event(self.stream.record())

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        """What ``run`` gives the stream, as a graph that a call launches on the current stream. ``run`` does nothing now."""
        collecting = gc.isenabled()
        gc.disable()  # a finalizer that frees memory would end the capture
        try:
            self.stream.begin_capture()
            try:
                run()
            except BaseException:
                with contextlib.suppress(Exception):
                    self.stream.end_capture()
                raise
            graph = self.stream.end_capture()
        finally:
            if collecting:
                gc.enable()
        graph.upload(self.stream)
        launch: Callable[[], None] = graph.launch
        return launch

    def current_stream(self) -> int:
        """The stream to which calls go now."""
        return int(self.xp.cuda.get_current_stream().ptr)

    def synchronize(self) -> None:
        """Wait for everything."""
        self.device.synchronize()
