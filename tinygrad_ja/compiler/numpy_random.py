"""Draws of the generators straight into arrays: the numbers that ``Generator.uniform`` and ``normal`` would return, and the stream afterwards
where they would leave it.

Uniform numbers of single precision are 24 bits of each half of a 64-bit output, low half first. PCG64's outputs in bulk and one pass over
them take half of the time of ``Generator.random``; and since PCG64 can be advanced by any number of outputs in no time, a second thread can
draw the second half of a large array.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend.random import Generator
from ..backend.threads import WORTH, get_num_threads, in_parts
from .numpy_calls import Binding, Call, copy, plainly
from .program import Instruction

MANY = 8192
"""Numbers from which on they are drawn in bulk, so many at a time."""
_UPPER, _SCALE = np.array(0xFFFFFF00, np.uint32), np.array(2.0**-32, np.float32)


def bind_random(instruction: Instruction, y: np.ndarray, binding: Binding) -> list[Call]:
    """The calls of a draw. The stream is asked for at each call: seeding makes a new one."""
    generator, method, args = instruction.options["generator"], instruction.function, instruction.options["args"]
    if not isinstance(generator, Generator) or method not in ("uniform", "normal") or tuple(args[0]) != y.shape:
        return plainly(instruction, (), y, binding)
    drawn = np.dtype(np.float64 if y.dtype == np.float64 else np.float32)
    direct = y.dtype == drawn and y.flags.c_contiguous
    made = y if direct else binding.room.array(y.shape, drawn)
    name = "random" if method == "uniform" else "standard_normal"
    bulk = _Bulk(made.reshape(-1)) if name == "random" and drawn == np.float32 and made.size >= 2 * MANY else None

    def call() -> None:
        stream = generator._stream
        if bulk is None or not bulk.fill(stream.bit_generator):
            getattr(stream, name)(None, drawn, made)
        else:
            stream.random(None, drawn, bulk.rest)  # leaves what a generator keeps of its last output

    return [call] if direct else [call, copy(made, y)]


class _Bulk:
    """Fills all of an array but the last few elements, ``rest``."""

    def __init__(self, y: np.ndarray) -> None:
        self.y = y
        self.count = (y.size - 1) // 4 * 4
        self.rest = y[self.count :]
        self.divided = y.size >= 2 * WORTH and get_num_threads() > 1
        self.other = np.random.PCG64(0)

    def fill(self, bits: Any) -> bool:
        """Draw, unless the generator is of another kind or keeps half of an output."""
        if type(bits) is not np.random.PCG64:
            return False
        state = bits.state
        if state["has_uint32"]:
            return False
        middle = self.count // 4 * 2 if self.divided else self.count
        if middle == self.count:
            _draw(bits, self.y[:middle])
            return True
        self.other.state = state
        self.other.advance(middle // 2)
        halves = [(bits, self.y[:middle]), (self.other, self.y[middle : self.count])]

        def work(some: slice) -> None:
            for half in halves[some]:
                _draw(*half)

        in_parts(work, 2, 4 * WORTH)
        bits.advance((self.count - middle) // 2)
        return True


def _draw(bits: Any, y: np.ndarray) -> None:
    for low in range(0, y.size, MANY):
        _convert(bits.random_raw(min(MANY, y.size - low) // 2).view(np.uint32), y[low : low + MANY])


def _convert(raw: np.ndarray, y: np.ndarray) -> None:
    np.bitwise_and(raw, _UPPER, raw)
    y[...] = raw
    np.multiply(y, _SCALE, y)
