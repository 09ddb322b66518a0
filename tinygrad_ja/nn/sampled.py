"""Output layers for large vocabularies: negative sampling and hierarchical softmax (Mikolov et al., 2013)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES
from ..backend.devices import device_of
from ..backend.random import Generator, generator_for
from ..core.tensor import Tensor
from ..ops import activation, counting, creation, extremum, join, linalg, sampled_loss, selection
from ..ops import shape as shapes
from .huffman import HuffmanTree, counts_of
from .module import Module
from .parameter import Parameter

_TICKETS = 2.0**36
"""Into so many equal parts the interval is cut; each word holds a share of them, so that draws are exact."""


class NegativeSampling(Module):
    """-log σ(v·u_d) - Σ log σ(-v·u_n) over words n drawn with probability ∝ counts^power: the output layer of word2vec.

    Parameter ``weight`` (V, embedding_dim), the output vectors u, starts at zero. counts (V): how often each word occurs; a word of count 0
    is never drawn. num_negatives: K, words drawn for each vector; with ``exclude_target`` the right word is not among them. Draws come from
    ``generator``, by default the device's.

    >>> import tinygrad_ja as tg
    >>> layer = tg.nn.NegativeSampling(8, counts=[50, 20, 5, 1], num_negatives=3)
    >>> round(layer(tg.randn(2, 8), tg.tensor([0, 3])).item(), 4)  # (1 + 3) log 2 while u is zero
    2.7726
    """

    def __init__(
        self,
        embedding_dim: int,
        counts: Tensor | Sequence[float],
        num_negatives: int = 5,
        power: float = 0.75,
        exclude_target: bool = True,
        reduction: str = "mean",
        *,
        generator: Generator | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        share = counts_of("NegativeSampling", counts, 2 if exclude_target else 1)
        share[share > 0] **= power
        tickets = np.where(share > 0, np.maximum(np.rint(share / share.sum() * _TICKETS), 1.0), 0.0)
        self.embedding_dim, self.num_negatives, self.power = embedding_dim, num_negatives, power
        self.exclude_target, self.generator = exclude_target, generator
        self.reduction = sampled_loss.reduction_of("NegativeSampling", reduction)
        self.weight = Parameter(creation.zeros(len(share), embedding_dim, device=device, dtype=dtype))
        self.register_buffer("ends", creation.tensor(np.cumsum(tickets).astype(np.int64), device=device))

    def sample(self, shape: Sequence[int], exclude: Tensor | None = None) -> Tensor:
        """Words drawn with replacement, int64 of ``shape``; none is the word of ``exclude`` at its place, which broadcasts."""
        ends = self.ends.array
        if exclude is not None:
            selection._index_of("NegativeSampling", self.ends, exclude, len(ends), 0)
        xp = ARRAY_MODULES[type(ends)]
        uniform = generator_for(device_of(ends), self.generator).uniform(tuple(shape), np.float64)
        if exclude is None:
            ticket = (uniform * ends[-1]).astype(np.int64)
        else:  # the tickets without those of one word: a ticket from where that word's begin moves behind them
            stop = ends[exclude.array]
            start = xp.where(exclude.array > 0, ends[exclude.array - 1], 0)
            ticket = (uniform * (ends[-1] - (stop - start))).astype(np.int64)
            ticket += xp.where(ticket >= start, stop - start, 0)
        return counting.searchsorted(self.ends, Tensor(ticket), right=True)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input: vectors (..., embedding_dim); target: the right words (...)."""
        exclude = shapes.unsqueeze(target, -1) if self.exclude_target else None
        negative = self.sample((*target.shape, self.num_negatives), exclude)
        return sampled_loss.negative_sampling_loss(input, target, negative, self.weight, self.reduction)

    def extra_repr(self) -> str:
        return (
            f"{self.embedding_dim}, words={self.weight.shape[0]}, num_negatives={self.num_negatives}, power={self.power}, "
            f"exclude_target={self.exclude_target}"
        )


class HierarchicalSoftmax(Module):
    """-Σ log σ(± v·u) over the inner nodes of a Huffman tree on the way to a word: a softmax whose cost for a word of V is log V.

    Parameter ``weight`` (V - 1, embedding_dim), the vectors u of the inner nodes, starts at zero. counts (V): how often each word occurs.
    The probabilities of all words sum to 1.

    >>> import tinygrad_ja as tg
    >>> layer = tg.nn.HierarchicalSoftmax(8, counts=[4, 2, 1, 1])
    >>> x = tg.randn(1, 8)
    >>> layer.log_prob(x).detach().exp()  # while u is zero
    tensor([[0.5  , 0.25 , 0.125, 0.125]])
    >>> round(layer(x, tg.tensor([1])).item(), 4)  # 2 log 2
    1.3863
    """

    def __init__(
        self,
        embedding_dim: int,
        counts: Tensor | Sequence[float],
        reduction: str = "mean",
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.embedding_dim, self.tree = embedding_dim, HuffmanTree(counts)
        self.reduction = sampled_loss.reduction_of("HierarchicalSoftmax", reduction)
        self.weight = Parameter(creation.zeros(self.tree.words - 1, embedding_dim, device=device, dtype=dtype))
        self.register_buffer("path", creation.tensor(self.tree.path, device=device))
        self.register_buffer("sign", creation.tensor(self.tree.sign, device=device))

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """input: vectors (..., embedding_dim); target: words (...)."""
        return sampled_loss.hierarchical_softmax_loss(input, target, self.path, self.sign, self.weight, self.reduction)

    def log_prob(self, input: Tensor) -> Tensor:
        """Log-probabilities of all words: (..., embedding_dim) -> (..., V), down the tree level by level."""
        scores = linalg.linear(input, self.weight)
        left, right = activation.logsigmoid(scores), activation.logsigmoid(-scores)
        above = creation.zeros(*input.shape[:-1], 1, dtype=input.dtype, device=input.device)
        parts, words = [above[..., :0]], [np.zeros(0, np.int64)]
        for numbers, children in self.tree.levels:
            both = shapes.flatten(join.stack([above + left[..., numbers], above + right[..., numbers]], -1), -2)
            below = children.reshape(-1)
            parts.append(self._part(both, below < 0))
            words.append(~below[below < 0])
            above = self._part(both, below >= 0)
        if not self.tree.levels:  # a single word
            return above
        return self._take(join.cat(parts, -1), np.argsort(np.concatenate(words)))

    def _part(self, x: Tensor, wanted: np.ndarray) -> Tensor:
        return self._take(x, np.flatnonzero(wanted))

    def _take(self, x: Tensor, index: np.ndarray) -> Tensor:
        return selection.index_select(x, -1, creation.tensor(index, device=x.device))

    def predict(self, input: Tensor) -> Tensor:
        """The most probable words: (..., embedding_dim) -> (...)."""
        return extremum.argmax(self.log_prob(input), -1)

    def extra_repr(self) -> str:
        return f"{self.embedding_dim}, words={self.tree.words}, depth={len(self.tree.levels)}"
