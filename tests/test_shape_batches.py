"""ShapeBatchSampler: every example in the first shape that holds it, batches of one shape, none left out."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.data import DataLoader, ShapeBatchSampler
from tinygrad_ja.errors import ArgumentError

SHAPES = [(4, 5), (8, 10), (16, 20)]


def lengths(count=200):
    return np.random.default_rng(0).integers(1, [17, 21], (count, 2)).tolist()


def test_examples_belong_to_the_first_shape_that_holds_them():
    given = lengths()
    sampler = ShapeBatchSampler(given, SHAPES, tokens=40)
    for (source, target), number in zip(given, sampler.shape_of):
        holding = [s >= source and t >= target for s, t in SHAPES]
        assert holding.index(True) == number


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_batch_has_one_shape_and_its_number_of_tokens(shuffle):
    sampler = ShapeBatchSampler(lengths(), SHAPES, tokens=40, shuffle=shuffle)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert {number for batch in batches for number in batch} == set(range(200))
    for batch in batches:
        (shape,) = {int(sampler.shape_of[number]) for number in batch}
        full = 40 // SHAPES[shape][1]
        assert len(batch) == full if shuffle else len(batch) <= full
    if not shuffle:
        assert sum(map(len, batches)) == 200


def test_the_order_follows_from_the_seed_and_differs_from_epoch_to_epoch():
    def epochs(seed):
        sampler = ShapeBatchSampler(lengths(), SHAPES, tokens=40)
        loader = DataLoader(list(range(200)), batch_sampler=sampler, generator=tg.Generator().manual_seed(seed))
        return [[batch.tolist() for batch in loader] for _ in range(2)]

    first, second = epochs(1)
    assert [first, second] == epochs(1) != epochs(2)
    assert first != second


def test_a_shape_with_few_examples_still_fills_its_batch():
    batches = list(ShapeBatchSampler([(1, 1), (1, 1), (9, 9)], SHAPES, tokens=40))
    assert sorted(map(sorted, batches)) == [[0, 0, 0, 0, 1, 1, 1, 1], [2, 2]]


def test_an_example_that_no_shape_holds_is_named():
    with pytest.raises(ArgumentError, match=r"\(3, 21\)"):
        ShapeBatchSampler([(1, 1), (3, 21)], SHAPES, tokens=40)
    with pytest.raises(ArgumentError):
        ShapeBatchSampler([(1, 1)], SHAPES, tokens=0)
