"""Samplers: every order is what its definition says, and the seed decides it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_ja as tg
from tinygrad_ja.data import (
    BatchSampler,
    BucketBatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from tinygrad_ja.errors import ArgumentError, MissingMethodError


def seeded(seed=0):
    return tg.Generator().manual_seed(seed)


SAMPLERS = {
    "random": lambda g: RandomSampler(range(50), generator=g),
    "with replacement": lambda g: RandomSampler(range(50), replacement=True, num_samples=3000, generator=g),
    "more than there are": lambda g: RandomSampler(range(50), num_samples=120, generator=g),
    "subset": lambda g: SubsetRandomSampler(list(range(10, 60)), generator=g),
    "weighted": lambda g: WeightedRandomSampler(range(1, 51), 70, generator=g),
    "weighted without replacement": lambda g: WeightedRandomSampler(range(1, 51), 30, replacement=False, generator=g),
    "buckets": lambda g: BucketBatchSampler([n % 7 for n in range(50)], 4, batches_per_group=3, generator=g),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_seed_decides_the_order_and_each_pass_has_its_own(name):
    first, second = SAMPLERS[name](seeded()), SAMPLERS[name](seeded())
    orders = [list(first), list(first)]
    assert orders == [list(second), list(second)]
    assert orders[0] != orders[1] and orders[0] != list(SAMPLERS[name](seeded(1)))
    assert len(first) == len(orders[0])


@pytest.mark.parametrize("name", SAMPLERS)
def test_without_a_generator_manual_seed_decides_with_one_draw(name):
    tg.manual_seed(3)
    order = list(SAMPLERS[name](None))
    after = tg.rand(1).item()
    tg.manual_seed(3)
    pass_ = iter(SAMPLERS[name](None))
    again = [next(pass_)]
    assert tg.rand(1).item() == after  # however much of the pass was used
    assert again + list(pass_) == order


def test_a_random_order_has_every_example_once():
    assert sorted(RandomSampler(range(20))) == list(range(20)) == list(SequentialSampler(range(20)))
    assert sorted(SubsetRandomSampler([3, 3, 8])) == [3, 3, 8]


def test_whole_orders_follow_each_other_when_more_are_asked_for():
    counts = Counter(RandomSampler(range(4), num_samples=10))
    assert sum(counts.values()) == 10 and set(counts.values()) <= {2, 3}
    order = list(RandomSampler(range(4), num_samples=10))
    assert sorted(order[:4]) == sorted(order[4:8]) == [0, 1, 2, 3]


def test_the_length_follows_a_set_that_grows():
    data = [1, 2]
    sampler = RandomSampler(data)
    data.append(3)
    assert len(sampler) == 3 and sorted(sampler) == [0, 1, 2]


def test_weights_are_probabilities():
    weights = np.array([0.0, 1.0, 2.0, 5.0])
    draws = Counter(WeightedRandomSampler(weights, 40_000, generator=seeded()))
    for i, p in enumerate(weights / weights.sum()):
        assert abs(draws[i] / 40_000 - p) <= 4 * np.sqrt(p * (1 - p) / 40_000)  # four standard deviations


def test_without_replacement_the_first_pair_has_the_probability_of_successive_draws():
    weights, passes = [1.0, 2.0, 3.0], 6000
    generator = seeded()
    pairs = Counter(tuple(WeightedRandomSampler(weights, 2, replacement=False, generator=generator)) for _ in range(passes))
    for i in range(3):
        for j in set(range(3)) - {i}:
            p = weights[i] / 6 * weights[j] / (6 - weights[i])
            assert abs(pairs[i, j] / passes - p) <= 4 * np.sqrt(p * (1 - p) / passes)


def test_without_replacement_zero_weights_are_never_drawn():
    for _ in range(20):
        assert set(WeightedRandomSampler([0, 1e-9, 0, 1e9], 2, replacement=False)) == {1, 3}


@given(st.integers(0, 30), st.integers(1, 8), st.booleans())
def test_batches_are_the_order_cut_in_pieces(count, batch_size, drop_last):
    sampler = BatchSampler(SequentialSampler(range(count)), batch_size, drop_last)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    whole = [list(range(count))[start : start + batch_size] for start in range(0, count, batch_size)]
    assert batches == [batch for batch in whole if len(batch) == batch_size or not drop_last]


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 7), st.integers(1, 4), st.booleans(), st.booleans())
def test_buckets_have_every_example_once_and_neighbouring_lengths(lengths, batch_size, group, drop_last, shuffle):
    sampler = BucketBatchSampler(lengths, batch_size, drop_last, shuffle, batches_per_group=group, generator=seeded())
    batches = list(sampler)
    assert len(batches) == len(sampler)
    drawn = [i for batch in batches for i in batch]
    assert len(set(drawn)) == len(drawn)
    if not drop_last:
        assert sorted(drawn) == list(range(len(lengths)))
    assert sum(len(batch) != batch_size for batch in batches) <= (0 if drop_last else 1)
    for batch in batches:
        assert [lengths[i] for i in batch] == sorted(lengths[i] for i in batch)


def test_buckets_save_most_of_the_padding():
    lengths = np.random.default_rng(0).integers(1, 100, 2000)

    def padding(batches):
        return sum(len(batch) * lengths[batch].max() - lengths[batch].sum() for batch in batches)

    shuffled = padding(BatchSampler(RandomSampler(lengths, generator=seeded()), 32, False))
    assert padding(BucketBatchSampler(lengths, 32, generator=seeded())) < shuffled / 10


def test_a_base_class_names_the_missing_method():
    with pytest.raises(MissingMethodError, match="__iter__"):
        list(Sampler())


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomSampler([]),
        lambda: RandomSampler([1], num_samples=0),
        lambda: RandomSampler([1], replacement=1),
        lambda: RandomSampler([1], generator=np.random.default_rng()),
        lambda: BatchSampler([1], 0, False),
        lambda: BatchSampler([1], True, False),
        lambda: BatchSampler([1], 2.0, False),
        lambda: BatchSampler([1], 2, 1),
        lambda: WeightedRandomSampler([1, -1], 1),
        lambda: WeightedRandomSampler([0, 0], 1),
        lambda: WeightedRandomSampler([], 1),
        lambda: WeightedRandomSampler(["a"], 1),
        lambda: WeightedRandomSampler([[1.0]], 1),
        lambda: WeightedRandomSampler([float("nan")], 1),
        lambda: WeightedRandomSampler([1.0], 0),
        lambda: WeightedRandomSampler([1.0, 0.0], 2, replacement=False),
        lambda: BucketBatchSampler([[1]], 2),
        lambda: BucketBatchSampler(["a"], 2),
        lambda: BucketBatchSampler([1], 0),
    ],
)
def test_arguments_without_sense_are_refused(make):
    with pytest.raises(ArgumentError):
        make()
