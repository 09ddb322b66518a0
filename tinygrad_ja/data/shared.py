"""Memory that two processes share, without a name: nothing of it can outlive them, however they end."""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
from io import BytesIO
from typing import Any

import numpy as np

from ..backend.arrays import usual_dtype
from ..core.tensor import Tensor

_ALIGNMENT = 64


class Slot:
    """Room for one batch. A worker writes into it, the main process reads from it, and only then is it used again.

    It grows with the batches. A batch is stored as the pickled text of its form, without the bytes of its arrays, and these bytes after it.

    >>> slot = Slot()
    >>> sizes = slot.write({"x": np.arange(3), "name": "a"})
    >>> slot.read(sizes)
    {'x': array([0, 1, 2]), 'name': 'a'}
    >>> slot.close()
    """

    def __init__(self) -> None:
        self._descriptor = _nameless_file()
        self._map: mmap.mmap | None = None

    def write(self, batch: Any) -> list[int]:
        """Store a batch; the sizes of its pieces in bytes, which ``read`` needs."""
        form = BytesIO()
        arrays: list[pickle.PickleBuffer] = []
        _Pickler(form, protocol=5, buffer_callback=arrays.append).dump(batch)
        pieces = [form.getbuffer(), *(array.raw() for array in arrays)]
        sizes = [piece.nbytes for piece in pieces]
        places = _places(sizes)
        if places[-1] > self._size():
            os.ftruncate(self._descriptor, places[-1])
        with memoryview(self._mapped(places[-1])) as memory:
            for piece, start in zip(pieces, places):
                memory[start : start + piece.nbytes] = piece
        return sizes

    def read(self, sizes: list[int]) -> Any:
        """A copy of the batch that was stored last."""
        places = _places(sizes)
        pieces = []
        with memoryview(self._mapped(places[-1])) as memory:
            for size, start in zip(sizes, places):
                piece = np.empty(size, np.uint8).data
                piece[:] = memory[start : start + size]
                pieces.append(piece)
        return pickle.loads(pieces[0], buffers=pieces[1:])

    def close(self) -> None:
        """Give the memory back, on this side."""
        if self._map is not None:
            self._map.close()
        os.close(self._descriptor)

    def _size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def _mapped(self, size: int) -> mmap.mmap:
        """The memory, at least ``size`` bytes of it."""
        if self._map is None or len(self._map) < size:
            if self._map is not None:
                self._map.close()
            self._map = mmap.mmap(self._descriptor, self._size())
        return self._map

    def __getstate__(self) -> Any:  # how a process that is no fork gets it
        from multiprocessing import reduction

        return reduction.DupFd(self._descriptor)

    def __setstate__(self, state: Any) -> None:
        self._descriptor = state.detach()
        self._map = None


def _nameless_file() -> int:
    """The descriptor of an empty file without a name, in memory where the system can do that (Linux)."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("tinygrad_ja")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _places(sizes: list[int]) -> list[int]:
    """Where each piece begins, and the end of all."""
    places = [0]
    for size in sizes:
        places.append(-(-(places[-1] + max(size, 1)) // _ALIGNMENT) * _ALIGNMENT)
    return places


class _Pickler(pickle.Pickler):
    """Takes the array of a plain Tensor as it is, which spares a copy."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is Tensor and value.node is None and type(value.array) is np.ndarray:
            return _received, (value.array,)
        return NotImplemented


def _received(array: np.ndarray) -> Tensor:
    return Tensor(array.view(usual_dtype(array.dtype)))
