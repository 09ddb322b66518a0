"""Huffman trees: binary trees in which the words that are counted most often lie nearest to the root."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.tensor import Tensor
from ..errors import error


def counts_of(op: str, counts: Tensor | Sequence[float], positive: int) -> np.ndarray:
    """Counts as a float64 vector. Raises ArgumentError unless they are finite, not negative, and at least so many are ``positive``."""
    made = np.array(counts.detach().cpu().numpy() if isinstance(counts, Tensor) else counts, dtype=np.float64)
    if made.ndim != 1 or not np.isfinite(made).all() or (made < 0).any() or np.count_nonzero(made) < positive:
        rule = (
            f"a vector of finite numbers that are not negative, at least {positive} of them positive",
            f"有限で 0 以上の数のベクトルで、少なくとも {positive} 個は正",
        )
        fix = ("give how often each word occurs.", "各単語の出現回数を渡してください。")
        raise error("TG-A001", op=op, argument="counts", value=f"<{made.shape}>", rule=rule, fix=fix)
    return made


class HuffmanTree:
    """The binary tree over V words with the shortest mean way to a word drawn by ``counts`` (V > 0; Huffman, 1952).

    Its V - 1 inner nodes are numbered level by level from the root, 0, and within a level from the left.

    path: (V, L) int64, the inner nodes from the root to each word, 0 past the end; L is the longest way.
    sign: (V, L) int8, 1 where the way goes left, -1 where it goes right, 0 past the end.
    levels: (level, children) from the root down: a slice of inner nodes, and for each of them its left and right child, an inner node's number
    or ~word.

    >>> tree = HuffmanTree([5, 1, 2])
    >>> tree.code(0), tree.code(1), tree.code(2)
    ('1', '00', '01')
    >>> tree.path.tolist(), tree.sign.tolist()
    ([[0, 0], [0, 1], [0, 1]], [[-1, 0], [1, 1], [1, -1]])
    """

    def __init__(self, counts: Tensor | Sequence[float]) -> None:
        weights = counts_of("HuffmanTree", counts, 0)
        if not weights.size:
            fix = ("count at least one word.", "少なくとも 1 つの単語を数えてください。")
            raise error("TG-A001", op="HuffmanTree", argument="counts", value=[], rule=("not empty", "空でない"), fix=fix)
        self.words = len(weights)
        self.levels = self._by_level(self._merge(weights))
        self.path, self.sign = self._ways()

    @staticmethod
    def _merge(weights: np.ndarray) -> tuple[Any, ...] | int:
        """The two lightest trees become one until a single one is left. Trees are ~word or (left, right)."""
        words = len(weights)
        heap: list[tuple[float, int, Any]] = [(w, i, ~i) for i, w in enumerate(weights.tolist())]
        heapq.heapify(heap)
        for number in range(words, 2 * words - 1):  # of equal weights the older tree first: no deeper than need be
            a = heapq.heappop(heap)
            b = heap[0]
            heapq.heapreplace(heap, (a[0] + b[0], number, (a[2], b[2])))
        return heap[0][2]

    @staticmethod
    def _by_level(root: Any) -> list[tuple[slice, np.ndarray]]:
        levels = []
        nodes, first = ([root] if type(root) is tuple else []), 0
        while nodes:
            below = [child for node in nodes for child in node if type(child) is tuple]
            numbers = iter(range(first + len(nodes), first + len(nodes) + len(below)))
            children = [[next(numbers) if type(child) is tuple else child for child in node] for node in nodes]
            levels.append((slice(first, first + len(nodes)), np.array(children, dtype=np.int64)))
            nodes, first = below, first + len(nodes)
        return levels

    def _ways(self) -> tuple[np.ndarray, np.ndarray]:
        """Carry the ways down from level to level."""
        depth = len(self.levels)
        path, sign = np.zeros((self.words, depth), np.int64), np.zeros((self.words, depth), np.int8)
        nodes, ways = np.zeros((1, depth), np.int64), np.zeros((1, depth), np.int8)
        for level, (numbers, children) in enumerate(self.levels):
            nodes[:, level] = np.arange(numbers.start, numbers.stop)
            nodes, ways = np.repeat(nodes, 2, 0), np.repeat(ways, 2, 0)
            ways[:, level] = np.tile(np.array([1, -1], np.int8), len(children))
            below = children.reshape(-1)
            words = below < 0
            path[~below[words]], sign[~below[words]] = nodes[words], ways[words]
            nodes, ways = nodes[~words], ways[~words]
        return path, sign

    def code(self, word: int) -> str:
        """The way from the root to a word: 0 for left, 1 for right."""
        return "".join({1: "0", -1: "1", 0: ""}[int(s)] for s in self.sign[word])

    def __repr__(self) -> str:
        return f"HuffmanTree(words={self.words}, depth={len(self.levels)})"
