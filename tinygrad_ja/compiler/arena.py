"""Offsets of blocks of memory of which it is known from when to when they are needed.

In the order of time, each block gets the smallest hole that it fits into ("best fit"). Where that leaves many holes, the largest blocks come
first, each at the lowest place that is free as long as it is needed ("greedy by size").
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

ALIGNMENT = 64
"""Bytes of a cache line, at whose begin every block begins."""

LOSS = 0.05
"""Share of the memory that holes may take before another packing is tried, and that it has to save."""

MOST_BLOCKS = 2000
"""Blocks up to which one is tried: each is compared with all others."""


class Block(NamedTuple):
    """Memory that is needed from one instruction to another, both included."""

    birth: int
    death: int
    nbytes: int


def most_alive(blocks: Sequence[Block]) -> int:
    """The most bytes that are needed at one time."""
    changes = [0] * (2 + max([block.death for block in blocks], default=0))
    for block in blocks:
        changes[block.birth] += block.nbytes
        changes[block.death + 1] -= block.nbytes
    return max(itertools.accumulate(changes))


def packed(blocks: Sequence[Block]) -> tuple[list[int], int]:
    """``(offsets, bytes of all)``: blocks in the order of time, each in the smallest hole; or, where that leaves many holes, the largest
    first, each as low as it can be.

    >>> packed([Block(0, 1, 64), Block(1, 3, 128), Block(2, 4, 128), Block(4, 5, 320)])
    ([128, 0, 320, 0], 448)
    """
    offsets, nbytes = _in_order(blocks)
    if nbytes > (1 + LOSS) * most_alive(blocks) and len(blocks) <= MOST_BLOCKS:
        others, fewer = _by_size(blocks)
        if fewer * (1 + LOSS) < nbytes:
            return others, fewer
    return offsets, nbytes


def _in_order(blocks: Sequence[Block]) -> tuple[list[int], int]:
    """A block's memory is free for others from its death on."""
    arena = _Arena()
    offsets: list[int] = []
    alive: list[tuple[int, int]] = []  # (death, number)
    for number, block in enumerate(blocks):
        while alive and alive[0][0] < block.birth:
            gone = heapq.heappop(alive)[1]
            arena.give(offsets[gone], blocks[gone].nbytes)
        offsets.append(arena.take(block.nbytes))
        heapq.heappush(alive, (block.death, number))
    return offsets, arena.end


def _by_size(blocks: Sequence[Block]) -> tuple[list[int], int]:
    """Each at the lowest place that no block of its time has taken (Pisarchyk and Lee 2020, "greedy by size")."""
    births, deaths = np.array([block.birth for block in blocks]), np.array([block.death for block in blocks])
    sizes = np.array([_rounded(block.nbytes) for block in blocks])
    offsets = np.zeros(len(blocks), np.int64)
    order = np.lexsort((births, -sizes))
    for count, number in enumerate(order):
        placed = order[:count]
        beside = placed[(births[placed] <= deaths[number]) & (deaths[placed] >= births[number])]
        begins = offsets[beside]
        by_place = np.argsort(begins, kind="stable")
        begins = begins[by_place]
        free = np.concatenate([[0], np.maximum.accumulate(begins + sizes[beside][by_place])])
        fits = np.flatnonzero(begins - free[:-1] >= sizes[number])
        offsets[number] = free[fits[0]] if fits.size else free[-1]
    return offsets.tolist(), int((offsets + sizes).max(initial=0))


class _Arena:
    """Memory with holes."""

    def __init__(self) -> None:
        self.end = 0
        self.holes: list[tuple[int, int]] = []  # (begin, end), in order, none beside another

    def take(self, nbytes: int) -> int:
        """The offset of new memory: the smallest hole that is large enough, else at the end."""
        size = _rounded(nbytes)
        fitting = [(high - low, low) for low, high in self.holes if high - low >= size]
        if fitting:
            room, low = min(fitting)
            self.holes.remove((low, low + room))
            if room > size:
                self.holes.append((low + size, low + room))
                self.holes.sort()
            return low
        begin = self.end
        if self.holes and self.holes[-1][1] == self.end:
            begin = self.holes.pop()[0]
        self.end = begin + size
        return begin

    def give(self, offset: int, nbytes: int) -> None:
        """Make a hole."""
        self.holes.append((offset, offset + _rounded(nbytes)))
        self.holes.sort()
        merged: list[tuple[int, int]] = []
        for low, high in self.holes:
            if merged and merged[-1][1] == low:
                merged[-1] = (merged[-1][0], high)
            else:
                merged.append((low, high))
        self.holes = merged


def _rounded(nbytes: int) -> int:
    return max(ALIGNMENT, -(-nbytes // ALIGNMENT) * ALIGNMENT)
