"""Numbers and patterns: what recurrent networks and classifiers are tried on first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ....backend.random import Generator
from ....core.tensor import Tensor
from ....errors import refusal
from ...arrays import cpu_stream
from ...dataset import TensorDataset
from ...sampler import positive


def need_positive(op: str, **sizes: int) -> None:
    """ArgumentError (TG-A001) unless all sizes are ints of at least 1."""
    for argument, value in sizes.items():
        positive(op, argument, value)


class BinaryAddition(TensorDataset):
    """Pairs of numbers and their sum in binary, lowest bit first: the carry is what a recurrent network has to keep.

    Example: (x, d), float32 Tensors (bits, 2) and (bits, 1): bit t of both numbers, and of their sum. size: number of pairs; the numbers are
    below 2^(bits - 1), so that the sum fits.

    >>> import tinygrad_ja as tg
    >>> x, d = BinaryAddition(3, bits=4, generator=tg.Generator().manual_seed(0))[0]
    >>> x.T.tolist(), d.T.tolist()
    ([[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0]], [[1.0, 1.0, 0.0, 1.0]])
    """

    def __init__(self, size: int = 10_000, bits: int = 8, generator: Generator | None = None) -> None:
        need_positive("BinaryAddition", size=size, bits=bits)
        if bits > 62:
            rule = ("at most 62, so that sums are int64", "62 以下 (和が int64 に収まるように)")
            raise refusal("BinaryAddition", "bits", bits, rule, ("bits=8.", "bits=8。"))
        pairs = cpu_stream(generator).integers(0, 2 ** (bits - 1), (size, 2))
        places = np.arange(bits)
        inputs = (pairs[:, np.newaxis, :] >> places[:, np.newaxis]) & 1
        sums = (pairs.sum(axis=1, keepdims=True) >> places) & 1
        super().__init__(inputs.astype(np.float32), sums[:, :, np.newaxis].astype(np.float32))


class Copy(TensorDataset):
    """The copying problem: symbols, a long pause, a sign, and then the symbols have to be said again.

    Example: (x, d), int64 Tensors (length + delay + length,). x: ``length`` symbols 1 to ``symbols``, then 0; a delimiter, ``symbols + 1``,
    stands just before the last ``length`` places. d: 0, and the symbols in the last places. Hochreiter and Schmidhuber 1997, in the form of
    Arjovsky, Shah, Bengio: Unitary evolution recurrent neural networks, 2016.

    >>> import tinygrad_ja as tg
    >>> x, d = Copy(1, length=2, delay=3, symbols=4, generator=tg.Generator().manual_seed(0))[0]
    >>> x.tolist(), d.tolist()
    ([4, 3, 0, 0, 5, 0, 0], [0, 0, 0, 0, 0, 4, 3])
    """

    def __init__(
        self, size: int = 10_000, length: int = 10, delay: int = 20, symbols: int = 8, generator: Generator | None = None
    ) -> None:
        need_positive("Copy", size=size, length=length, delay=delay, symbols=symbols)
        drawn = cpu_stream(generator).integers(1, symbols + 1, (size, length))
        inputs = np.zeros((size, length + delay + length), np.int64)
        inputs[:, :length] = drawn
        inputs[:, length + delay - 1] = symbols + 1
        targets = np.zeros_like(inputs)
        targets[:, -length:] = drawn
        super().__init__(inputs, targets)


class Adding(TensorDataset):
    """The adding problem: two of many numbers are marked, and their sum is asked for at the end. Example: (x, y), float32 Tensors (length, 2)
    and (1,).

    x_t = (a number uniform in [0, 1), a mark): the mark is 1 at one step of the first half and at one of the second, else 0. Who always
    answers 1 has the mean squared error 1/6. Hochreiter and Schmidhuber 1997, in the form of Le, Jaitly, Hinton: A simple way to initialize
    recurrent networks of rectified linear units, 2015.

    >>> import tinygrad_ja as tg
    >>> x, y = Adding(1, length=4, generator=tg.Generator().manual_seed(0))[0]
    >>> x[:, 1].tolist(), (x[:, 0] * x[:, 1]).sum().item() == y.item()
    ([1.0, 0.0, 1.0, 0.0], True)
    """

    def __init__(self, size: int = 10_000, length: int = 100, generator: Generator | None = None) -> None:
        need_positive("Adding", size=size, length=length)
        if length < 2:
            raise refusal("Adding", "length", length, ("at least 2", "2 以上"), ("length=100.", "length=100。"))
        source = cpu_stream(generator)
        numbers = source.uniform((size, length), np.float32)
        marks = np.zeros((size, length), np.float32)
        for low, high in ((0, length // 2), (length // 2, length)):
            marks[np.arange(size), source.integers(low, high, (size,))] = 1.0
        super().__init__(np.stack([numbers, marks], axis=2), (numbers * marks).sum(axis=1, keepdims=True))


class Spiral(TensorDataset):
    """Points on the arms of a spiral, one arm a class: no line separates them. Example: (x, label), float32 Tensor (2,) and int64 Tensor ().

    Point i of arm k of n points: radius r = i/n, angle 4k + 4r + noise·N(0, 1), x = (r sin, r cos). size: points of each class.
    The set of the book Deep Learning from Scratch 2.

    >>> points, labels = Spiral(100).tensors
    >>> points.shape, labels.shape
    ((300, 2), (300,))
    """

    def __init__(self, size: int = 100, classes: int = 3, noise: float = 0.2, generator: Generator | None = None) -> None:
        need_positive("Spiral", size=size, classes=classes)
        labels = np.repeat(np.arange(classes), size)
        radius = np.tile(np.arange(size) / size, classes)
        angle = 4.0 * labels + 4.0 * radius + noise * cpu_stream(generator).normal((classes * size,), np.float64)
        points = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)
        super().__init__(points.astype(np.float32), labels)


class Sine(TensorDataset):
    """A noisy sine, one step ahead: example t is (x_t, x_{t+1}), float32 Tensors (1,). ``values`` is the whole wave, a Tensor (size + 1,).

    x_t = sin(2π t / period) + noise·N(0, 1).

    >>> wave = Sine(8, period=4, noise=0.0)
    >>> wave.values.round(decimals=3).tolist()[:4], len(wave)
    ([0.0, 1.0, 0.0, -1.0], 8)
    """

    def __init__(self, size: int = 1000, period: float = 25.0, noise: float = 0.05, generator: Generator | None = None) -> None:
        need_positive("Sine", size=size)
        clean = np.sin(2 * math.pi * np.arange(size + 1) / period)
        wave = (clean + noise * cpu_stream(generator).normal((size + 1,), np.float64)).astype(np.float32)
        self.values = Tensor(wave)
        super().__init__(wave[:-1, np.newaxis].copy(), wave[1:, np.newaxis].copy())


class BarsAndStripes(TensorDataset):
    """All pictures of vertical bars and of horizontal stripes, each once: 2·2^side - 2 of them. What Boltzmann machines are tried on.

    Example: (picture, label), float32 Tensor (1, side, side) of 0 and 1, and int64 Tensor (): 0 bars, 1 stripes. The empty and the full
    picture, which are both, count as bars. MacKay, Information theory, inference, and learning algorithms, 2003.

    >>> pictures, labels = BarsAndStripes(2).tensors
    >>> pictures.flatten(1).tolist()[1], labels.tolist()
    ([1.0, 0.0, 1.0, 0.0], [0, 0, 0, 0, 1, 1])
    """

    def __init__(self, side: int = 4) -> None:
        need_positive("BarsAndStripes", side=side)
        if side > 12:
            rule = ("at most 12: there are 2^(side + 1) - 2 pictures", "12 以下 (絵は 2^(side + 1) - 2 枚あります)")
            raise refusal("BarsAndStripes", "side", side, rule, ("side=4.", "side=4。"))
        columns = (np.arange(2**side)[:, np.newaxis] >> np.arange(side)) & 1
        bars = np.repeat(columns[:, np.newaxis, :], side, axis=1)
        stripes = bars[1:-1].transpose(0, 2, 1)
        pictures = np.concatenate([bars, stripes]).astype(np.float32)
        labels: Any = np.repeat([0, 1], [len(bars), len(stripes)])
        super().__init__(pictures[:, np.newaxis], labels)
