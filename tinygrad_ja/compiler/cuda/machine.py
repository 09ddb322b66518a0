"""The GPU as the executor needs it: memory, kernels, products, graphs. Tests put another machine in its place, which runs the same kernels on
the CPU."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from .cublas import WORKSPACE, Cublas
from .products import Product
from .schedule import NAME, module_source

SENT = 16, 64, 510
"""How many 64-bit entries a kernel can be given as arguments: it takes 4 KB of them."""
PER_MODULE = 12
"""How many kernels are compiled together."""


def sending_kernel(count: int) -> str:
    """The text of a kernel that writes as many of its ``count`` arguments of 64 bits as it is told to an address."""
    return f"""struct Row {{ unsigned long long entries[{count}]; }};
extern "C" __global__ void {NAME}(const Row row, unsigned long long* to, const unsigned int used) {{
  for (unsigned int k = threadIdx.x; k < used; k += 32u) to[k] = row.entries[k];
}}"""


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
        self._threads: set[int] = set()

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
        """A function (stream, entries) that puts such a row to an address, in the order of the stream and without waiting: as arguments of
        kernels, which the driver has read when the call returns."""
        host = ctypes.create_string_buffer(row.size + 8 * SENT[-1])
        launches = []
        for begin in range(0, row.size, 8 * SENT[-1]):
            count = min((row.size - begin) // 8, SENT[-1])
            room = next(n for n in SENT if n >= count)
            kernel: Any = self.compile([sending_kernel(room)])[0]
            given = [ctypes.c_uint64(address + begin), ctypes.c_uint32(count)]
            pointers = (ctypes.c_void_p * 3)(ctypes.addressof(host) + begin, *map(ctypes.addressof, given))
            launches.append((kernel, given, pointers, ctypes.addressof(pointers)))
        pack, launch = row.pack_into, self.xp.cuda.driver.launchKernel
        functions = [(kernel.kernel.ptr, pointers) for kernel, _, _, pointers in launches]

        def send(stream: int, *entries: Any) -> None:
            pack(host, 0, *entries)
            if threading.get_ident() not in self._threads:
                self.device.use()  # the driver's context becomes this thread's
                self._threads.add(threading.get_ident())
            for function, pointers in functions:
                launch(function, 1, 1, 1, 32, 1, 1, 0, stream, pointers, 0)

        send.keep = launches  # type: ignore[attr-defined]
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
