"""Pairs of sentences as batches for an encoder and a decoder: the source packed, the target shifted by one word, lengths alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...backend.random import Generator
from ...core.tensor import Tensor
from ...nn.utils.rnn import PackedSequence, pack_padded_sequence
from ...ops.creation import full
from ...ops.join import cat
from ..loader import DataLoader
from ..sampler import BucketBatchSampler, positive
from .vocabulary import Vocabulary

Pair = tuple[Sequence[str], Sequence[str]]
"""Tokens of the source and of the target."""


class PairBatch(NamedTuple):
    """source: packed, longest first. given: "bos" and the target; answer: the target and "eos", then "pad"; both int64 (T, N)."""

    source: PackedSequence
    given: Tensor
    answer: Tensor


def pair_batch(
    pairs: Sequence[Pair], source: Vocabulary, target: Vocabulary, multiple: int = 1, device: Any = None
) -> tuple[PairBatch, list[int]]:
    """The batch of these pairs, and where each of its sentences stood among them.

    source, target: vocabularies. multiple: the words of a target, T - 1, are made a multiple of it. device: where the batch is to be.

    >>> words = Vocabulary([["a", "b"]])  # "a" is 4, "b" is 5; "pad", "unk", "bos", "eos" are 0 to 3
    >>> batch, order = pair_batch([(["a"], ["b"]), (["b", "a"], ["a", "a"])], words, words)
    >>> batch.source.data.tolist(), batch.given.T.tolist(), batch.answer.T.tolist(), order
    ([5, 4, 4], [[2, 4, 4], [2, 5, 3]], [[4, 4, 3], [5, 3, 0]], [1, 0])
    """
    multiple = positive("pair_batch", "multiple", multiple)
    order = np.argsort([-len(x) for x, _ in pairs], kind="stable").tolist()
    numbers, lengths = source.encode_batch([pairs[i][0] for i in order])
    shifted, _ = target.encode_batch([pairs[i][1] for i in order], bos=True, eos=True)
    missing = -(len(shifted) - 2) % multiple
    if missing:
        shifted = cat([shifted, full((missing, len(order)), target.pad)])
    shifted = shifted.to(device)
    packed = pack_padded_sequence(numbers, lengths).to(device)
    return PairBatch(packed, shifted[:-1], shifted[1:]), order


def pair_loader(
    pairs: Sequence[Pair],
    source: Vocabulary,
    target: Vocabulary,
    batch_size: int,
    shuffle: bool = False,
    multiple: int = 4,
    device: Any = None,
    generator: Generator | None = None,
) -> DataLoader:
    """Batches of pairs whose sources have about one length, and then their targets, in a random order with ``shuffle``.

    The sorted lengths are cut at the same places in every epoch, so there are few shapes, which a compiled step records once each; only which
    pairs of a length come together is drawn, each epoch with a seed from ``generator``. Other arguments as for ``pair_batch``.

    >>> words = Vocabulary([["a", "b"]])
    >>> loader = pair_loader([(["a"], ["b"]), (["b", "a"], ["a"]), (["b"], ["b"])], words, words, batch_size=2)
    >>> [tuple(batch.given.shape) for batch in loader]
    [(5, 2), (5, 1)]
    """
    longest = 1 + max((len(y) for _, y in pairs), default=0)
    lengths = [longest * len(x) + len(y) for x, y in pairs]
    sampler = BucketBatchSampler(lengths, batch_size, shuffle=shuffle, batches_per_group=max(1, len(pairs)))

    def collate(some: Sequence[Pair]) -> PairBatch:
        return pair_batch(some, source, target, multiple, device)[0]

    return DataLoader(pairs, batch_sampler=sampler, collate_fn=collate, generator=generator)
