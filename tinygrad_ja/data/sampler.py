"""Samplers: in which order the examples of a set are drawn, one by one or in batches.

A sampler without a generator of its own draws one seed from the default generator each time it is iterated over, so ``tg.manual_seed`` decides
the order. Inside a DataLoader the default generator is that of the epoch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

import numpy as np

from ..backend.random import Generator, default_generator
from ..errors import error, refusal

_CHUNK = 1024
"""Indices that a sampler with replacement draws at once."""


class Sampler:
    """Base of all samplers: a subclass defines ``__iter__``, which gives indices, and usually ``__len__``."""

    def __iter__(self) -> Iterator[Any]:
        raise error("TG-U018", kind=type(self).__name__, method="__iter__", parameters="self")


class SequentialSampler(Sampler):
    """0, 1, ..., N-1.

    >>> list(SequentialSampler("abc"))
    [0, 1, 2]
    """

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler):
    """All examples in a random order, or ``num_samples`` of them; with ``replacement`` each draw is from all.

    Without replacement and ``num_samples`` above N, whole random orders follow each other.
    Raises ArgumentError for a ``num_samples`` below 1, or an empty set.

    >>> generator = Generator().manual_seed(0)
    >>> sorted(RandomSampler("abcd", generator=generator))
    [0, 1, 2, 3]
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        self.data_source = data_source
        self.replacement = _flag("RandomSampler", "replacement", replacement)
        self._num_samples = num_samples
        self.generator = checked_generator("RandomSampler", generator)
        positive("RandomSampler", "num_samples", self.num_samples)

    @property
    def num_samples(self) -> int:
        """Indices in one pass: as given, else the present length of the set."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        n = len(self.data_source)
        stream = _stream(self.generator)
        count = self.num_samples
        if self.replacement:
            for start in range(0, count, _CHUNK):
                yield from stream.integers(0, n, (min(_CHUNK, count - start),)).tolist()
            return
        for start in range(0, count, n):
            yield from stream.permutation(n).tolist()[: count - start]

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler):
    """The given indices in a random order.

    >>> sorted(SubsetRandomSampler([5, 3, 9]))
    [3, 5, 9]
    """

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        self.indices = indices
        self.generator = checked_generator("SubsetRandomSampler", generator)

    def __iter__(self) -> Iterator[int]:
        for place in _stream(self.generator).permutation(len(self.indices)).tolist():
            yield self.indices[place]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler):
    """``num_samples`` indices, each drawn with a probability in proportion to its weight.

    weights: N numbers >= 0 that need not sum to 1. With ``replacement``, P(i) = w_i / Σ w at every draw. Without, the same holds among
    those that are left: the smallest of E_i / w_i with exponential E_i (Efraimidis and Spirakis 2006).
    Raises ArgumentError for negative, infinite or only zero weights, and when more are to be drawn than have a weight.

    >>> list(WeightedRandomSampler([0.0, 1.0, 0.0], num_samples=3))
    [1, 1, 1]
    """

    def __init__(
        self, weights: Sequence[float], num_samples: int, replacement: bool = True, generator: Generator | None = None
    ) -> None:
        op = "WeightedRandomSampler"
        self.num_samples = positive(op, "num_samples", num_samples)
        self.replacement = _flag(op, "replacement", replacement)
        self.generator = checked_generator(op, generator)
        self.weights = _numbers(weights)
        if self.weights.ndim != 1 or not np.all(np.isfinite(self.weights) & (self.weights >= 0)) or not self.weights.any():
            rule = (
                "one axis of finite numbers >= 0, not all of them 0",
                "0 以上の有限の数の 1 次元の並びで、すべてが 0 ではない",
            )
            fix = ("give one weight for each example.", "データ 1 件ごとに重みを 1 つ渡してください。")
            raise refusal(op, "weights", type(weights).__name__, rule, fix)
        available = int(np.count_nonzero(self.weights))
        if not replacement and num_samples > available:
            rule = (f"at most the {available} with a weight above 0", f"重みが正の {available} 個以下")
            fix = ("pass replacement=True.", "replacement=True を渡してください。")
            raise refusal(op, "num_samples", num_samples, rule, fix)

    def __iter__(self) -> Iterator[int]:
        stream = _stream(self.generator)
        if self.replacement:
            sums = np.cumsum(self.weights)
            drawn = np.searchsorted(sums, stream.uniform((self.num_samples,), np.float64) * sums[-1], side="right")
        else:
            with np.errstate(divide="ignore"):
                keys = -np.log1p(-stream.uniform(self.weights.shape, np.float64)) / self.weights
            drawn = np.argsort(keys)[: self.num_samples]
        return iter(drawn.tolist())

    def __len__(self) -> int:
        return self.num_samples


def _numbers(given: Any) -> np.ndarray:
    """As float64; NaN where that cannot be."""
    try:
        return np.asarray(given, np.float64)
    except (TypeError, ValueError):
        return np.array([np.nan])


# ---- batches of indices --------------------------------------------------------------------------


class BatchSampler(Sampler):
    """Lists of ``batch_size`` indices from another sampler; the last may be shorter, or is left out with ``drop_last``.

    >>> list(BatchSampler(range(5), batch_size=2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[Any], batch_size: int, drop_last: bool) -> None:
        self.sampler = sampler
        self.batch_size = positive("BatchSampler", "batch_size", batch_size)
        self.drop_last = _flag("BatchSampler", "drop_last", drop_last)

    def __iter__(self) -> Iterator[list[Any]]:
        order = iter(self.sampler)
        while batch := list(itertools.islice(order, self.batch_size)):
            if len(batch) < self.batch_size and self.drop_last:
                return
            yield batch

    def __len__(self) -> int:
        return batches_of(len(self.sampler), self.batch_size, self.drop_last)  # type: ignore[arg-type]


class BucketBatchSampler(Sampler):
    """Batches of examples of about one length, in a random order: little padding, and still a shuffle.

    Each epoch the examples are shuffled and divided into groups of ``batches_per_group`` batches; a group is sorted by length and cut into
    batches, and the batches of all groups come in a random order.

    lengths: one number for each example. batches_per_group: more gives less padding and less mixing.
    shuffle: False sorts the groups as they stand and keeps the batches in that order.

    >>> lengths = [1, 9, 2, 8, 3, 7]
    >>> sorted(sorted(lengths[i] for i in batch) for batch in BucketBatchSampler(lengths, batch_size=2))
    [[1, 2], [3, 7], [8, 9]]
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        drop_last: bool = False,
        shuffle: bool = True,
        batches_per_group: int = 100,
        generator: Generator | None = None,
    ) -> None:
        op = "BucketBatchSampler"
        self.lengths = np.asarray(lengths)
        self.batch_size = positive(op, "batch_size", batch_size)
        self.drop_last = _flag(op, "drop_last", drop_last)
        self.shuffle = _flag(op, "shuffle", shuffle)
        self.batches_per_group = positive(op, "batches_per_group", batches_per_group)
        self.generator = checked_generator(op, generator)
        if self.lengths.ndim != 1 or self.lengths.dtype.kind not in "iuf":
            rule = ("one number for each example", "データ 1 件ごとに数を 1 つ")
            fix = ("[len(x) for x in examples].", "[len(x) for x in examples] としてください。")
            raise refusal(op, "lengths", type(lengths).__name__, rule, fix)

    def __iter__(self) -> Iterator[list[int]]:
        count = len(self.lengths)
        stream = _stream(self.generator) if self.shuffle else None
        order = np.arange(count) if stream is None else stream.permutation(count)
        size = self.batch_size * self.batches_per_group
        batches: list[list[int]] = []
        for start in range(0, count, size):
            group = order[start : start + size]
            group = group[np.argsort(self.lengths[group], kind="stable")]
            batches += BatchSampler(group.tolist(), self.batch_size, False)
        if self.drop_last:
            batches = [batch for batch in batches if len(batch) == self.batch_size]
        places = range(len(batches)) if stream is None else stream.permutation(len(batches)).tolist()
        return iter([batches[place] for place in places])

    def __len__(self) -> int:
        return batches_of(len(self.lengths), self.batch_size, self.drop_last)


class ShapeBatchSampler(Sampler):
    """Batches in which all examples are filled up to one of a few shapes, of about ``tokens`` tokens each: what is compiled for one batch
    serves for all of its shape.

    lengths: for each example a tuple of lengths, such as those of a sentence and of its translation. shapes: tuples of lengths, small ones
    first; an example belongs to the first that holds it. tokens: a batch has tokens // (last length of the shape) examples, at least one.
    shuffle: a random order of examples and batches, in which the last batch of a shape is filled up with further examples of that shape;
    False: the order as it stands, and smaller last batches.
    ``shape_of``: for each example the number of its shape. Raises ArgumentError for an example that no shape holds.

    >>> lengths = [(3, 4), (8, 9), (2, 2), (4, 3)]
    >>> sampler = ShapeBatchSampler(lengths, shapes=[(4, 4), (8, 10)], tokens=8, shuffle=False)
    >>> list(sampler), sampler.shape_of.tolist()
    ([[0, 2], [3], [1]], [0, 1, 0, 0])
    """

    def __init__(
        self,
        lengths: Sequence[Sequence[int]],
        shapes: Sequence[Sequence[int]],
        tokens: int,
        shuffle: bool = True,
        generator: Generator | None = None,
    ) -> None:
        op = "ShapeBatchSampler"
        self.shuffle = _flag(op, "shuffle", shuffle)
        self.generator = checked_generator(op, generator)
        self.shapes = np.asarray(shapes)
        self.sizes = [max(1, positive(op, "tokens", tokens) // int(shape[-1])) for shape in shapes]
        held = np.all(np.asarray(lengths)[:, None] <= self.shapes, axis=-1)  # (examples, shapes)
        if not np.all(held.any(1)):
            longest = tuple(np.asarray(lengths)[~held.any(1)][0].tolist())
            rule = (f"at most {tuple(self.shapes[-1].tolist())}", f"{tuple(self.shapes[-1].tolist())} 以下")
            raise refusal(op, "lengths", longest, rule, ("add a larger shape.", "より大きな形を加えてください。"))
        self.shape_of: np.ndarray = held.argmax(1)

    def __iter__(self) -> Iterator[list[int]]:
        stream = _stream(self.generator) if self.shuffle else None
        order = np.arange(len(self.shape_of)) if stream is None else stream.permutation(len(self.shape_of))
        batches: list[list[int]] = []
        for shape, size in enumerate(self.sizes):
            members = order[self.shape_of[order] == shape]
            if stream is not None and len(members):
                members = np.resize(members, batches_of(len(members), size, False) * size)
            batches += BatchSampler(members.tolist(), size, False)
        places = range(len(batches)) if stream is None else stream.permutation(len(batches)).tolist()
        return iter([batches[place] for place in places])

    def __len__(self) -> int:
        counts = np.bincount(self.shape_of, minlength=len(self.sizes)).tolist()
        return sum([batches_of(count, size, False) for count, size in zip(counts, self.sizes)])


def batches_of(count: int, batch_size: int, drop_last: bool) -> int:
    """Number of batches that ``count`` examples make."""
    return count // batch_size if drop_last else -(-count // batch_size)


# ---- arguments -----------------------------------------------------------------------------------


def _stream(generator: Generator | None) -> Generator:
    """The given generator, else a new one whose seed is drawn from the default generator."""
    if generator is not None:
        return generator
    return Generator().manual_seed(draw_seed(default_generator("cpu")))


def draw_seed(generator: Generator) -> int:
    """A random seed, small enough that numbers of batches can be added to it."""
    return int(generator.integers(0, 2**62, ()))


def positive(op: str, argument: str, value: Any) -> int:
    """``value`` when it is an int above 0. Raises ArgumentError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise refusal(op, argument, repr(value), ("an int above 0", "1 以上の整数"))
    return value


def _flag(op: str, argument: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise refusal(op, argument, repr(value), ("True or False", "True か False"))
    return value


def checked_generator(op: str, generator: Any) -> Generator | None:
    """``generator`` when it is None or a Generator of the CPU. Raises ArgumentError."""
    if generator is not None and not (isinstance(generator, Generator) and generator.device.type == "cpu"):
        raise refusal(
            op, "generator", repr(generator), ("a tg.Generator() of the CPU, or None", "CPU の tg.Generator() か None")
        )
    return generator
