"""Data beside torch.utils.data: lengths, batches, collated values, kinds of errors."""

from __future__ import annotations

import itertools
from collections import namedtuple

import numpy as np
import pytest
import torch
import torch.utils.data as peer

import tinygrad_ja as tg
import tinygrad_ja.data as ours

Point = namedtuple("Point", "x y")


class Squares:
    """A set for both sides."""

    def __init__(self, count):
        self.count = count

    def __getitem__(self, index):
        if not 0 <= index < self.count:
            raise IndexError(index)
        return np.full((2, 2), index, np.float32), index**2, f"{index}"

    def __len__(self):
        return self.count


def same(mine, theirs):
    """Equal form, dtypes and values."""
    if isinstance(theirs, torch.Tensor):
        assert type(mine) is tg.Tensor
        assert str(mine.dtype) == str(theirs.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
    elif isinstance(theirs, dict):
        assert type(mine) is type(theirs) and list(mine) == list(theirs)
        for key in theirs:
            same(mine[key], theirs[key])
    elif isinstance(theirs, (list, tuple)):
        assert type(mine) is type(theirs) and len(mine) == len(theirs)
        for one, other in zip(mine, theirs):
            same(one, other)
    else:
        assert mine == theirs


def converted(value, tensor):
    """``value`` with its marked lists as tensors of one library."""
    if isinstance(value, dict):
        return {key: converted(item, tensor) for key, item in value.items()}
    if isinstance(value, Point):
        return Point(*(converted(item, tensor) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(converted(item, tensor) for item in value)
    return tensor(value) if isinstance(value, np.ndarray) and value.ndim == 2 else value


BATCHES = {
    "ints": [1, 2, 3],
    "ints and floats": [1, 2.5],
    "floats": [1.0, 2.5],
    "bools": [True, False],
    "numpy numbers": [np.float32(1), np.float32(2)],
    "numpy halves": [np.float16(1)],
    "text": ["a", "b"],
    "bytes": [b"a", b"b"],
    "vectors": [np.ones(3, np.int32), np.zeros(3, np.int32)],
    "scalars": [np.array(1, np.uint8), np.array(2, np.uint8)],
    "tensors": [np.ones((1, 2)), np.zeros((1, 2))],
    "tuples": [(1, 2.0), (3, 4.0)],
    "lists": [[1, "a"], [2, "b"]],
    "dicts": [{"a": 1, "b": np.ones((2, 2))}, {"a": 2, "b": np.zeros((2, 2))}],
    "points": [Point(1, "u"), Point(2, "v")],
    "nested": [{"a": (1, [np.ones((1, 1)), "t"])}, {"a": (2, [np.ones((1, 1)), "s"])}],
    "empty lists": [[], []],
}


@pytest.mark.parametrize("name", BATCHES)
def test_collated_batches_are_equal(name):
    same(
        ours.default_collate(converted(BATCHES[name], tg.from_numpy)),
        peer.default_collate(converted(BATCHES[name], torch.from_numpy)),
    )


@pytest.mark.parametrize("name", BATCHES)
def test_converted_data_is_equal(name):
    same(
        ours.default_convert(converted(BATCHES[name], tg.from_numpy)),
        peer.default_convert(converted(BATCHES[name], torch.from_numpy)),
    )


@pytest.mark.parametrize(
    "batch",
    [[None], [object()], [np.array(["a"])], [[1], [1, 2]], [np.ones(2), np.ones(3)], [np.ones((1, 2)), np.ones((1, 3))]],
)
def test_what_cannot_be_collated_is_refused_with_the_same_kind_of_error(batch):
    with pytest.raises((TypeError, RuntimeError)) as theirs:
        peer.default_collate(converted(batch, torch.from_numpy))
    with pytest.raises(theirs.type):
        ours.default_collate(converted(batch, tg.from_numpy))


@pytest.mark.parametrize(
    ("count", "batch_size", "drop_last"),
    [*itertools.product([1, 7, 8], [1, 3, 8, 9, None], [False]), (7, 3, True), (2, 3, True)],
)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_loaders_give_the_same_batches(count, batch_size, drop_last, num_workers):
    mine = ours.DataLoader(Squares(count), batch_size, drop_last=drop_last, num_workers=num_workers)
    theirs = peer.DataLoader(Squares(count), batch_size, drop_last=drop_last)
    assert len(mine) == len(theirs)
    same([list(mine)], [list(theirs)])


def test_loaders_give_the_same_batches_of_rows_sets_and_subsets():
    x, y = np.arange(24, dtype=np.float32).reshape(8, 3), np.arange(8)
    mine, theirs = (
        ours.TensorDataset(tg.from_numpy(x), tg.from_numpy(y)),
        peer.TensorDataset(torch.from_numpy(x), torch.from_numpy(y)),
    )
    same(mine[3], theirs[3])
    for make in (
        lambda lib, data: data,
        lambda lib, data: lib.Subset(data, [5, 1, 1, 7]),
        lambda lib, data: lib.ConcatDataset([data, data]),
        lambda lib, data: lib.StackDataset(data, Squares(8)),
        lambda lib, data: lib.StackDataset(a=data, b=Squares(8)),
    ):
        a, b = make(ours, mine), make(peer, theirs)
        assert len(a) == len(b)
        same(list(ours.DataLoader(a, 3)), list(peer.DataLoader(b, 3)))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_streams_are_divided_among_workers_alike():
    def stream(lib):
        class Stream(lib.IterableDataset):
            def __iter__(self):
                info = lib.get_worker_info()
                first, step = (0, 1) if info is None else (info.id, info.num_workers)
                return iter(range(first, 13, step))

        return Stream()

    for num_workers, batch_size, drop_last in itertools.product([0, 2, 3], [1, 2, 4], [False, True]):
        mine = ours.DataLoader(stream(ours), batch_size, drop_last=drop_last, num_workers=num_workers)
        if num_workers and (batch_size, drop_last) != (2, False):
            continue  # processes of PyTorch are slow to start
        theirs = peer.DataLoader(stream(peer), batch_size, drop_last=drop_last, num_workers=num_workers)
        same(list(mine), list(theirs))


@pytest.mark.parametrize(
    "make",
    [
        lambda lib: lib.SequentialSampler(range(5)),
        lambda lib: lib.BatchSampler(range(7), 3, False),
        lambda lib: lib.BatchSampler(range(7), 3, True),
        lambda lib: lib.ChainDataset([]),
    ],
)
def test_orders_without_chance_are_equal(make):
    assert list(make(ours)) == list(make(peer))


@pytest.mark.parametrize(
    "make",
    [
        lambda lib: lib.RandomSampler(range(5)),
        lambda lib: lib.RandomSampler(range(5), replacement=True),
        lambda lib: lib.RandomSampler(range(5), num_samples=13),
        lambda lib: lib.RandomSampler(range(5), replacement=True, num_samples=100),
        lambda lib: lib.SubsetRandomSampler([1, 2, 4]),
        lambda lib: lib.WeightedRandomSampler([1.0, 2.0], 9),
        lambda lib: lib.WeightedRandomSampler([1.0, 2.0], 2, replacement=False),
        lambda lib: lib.BatchSampler(lib.RandomSampler(range(5)), 2, True),
    ],
)
def test_random_orders_have_the_same_length_and_kind_of_indices(make):
    mine, theirs = make(ours), make(peer)
    assert len(mine) == len(theirs) == len(list(mine)) == len(list(theirs))
    assert type(next(iter(mine))) is type(next(iter(theirs)))


@pytest.mark.filterwarnings("ignore:Length of split")
@pytest.mark.parametrize("lengths", [[3, 4], [0.5, 0.5], [0.3, 0.3, 0.4], [0.9, 0.05, 0.05], [7], [7, 0]])
def test_splits_have_the_same_sizes(lengths):
    assert [len(p) for p in ours.random_split(range(7), lengths)] == [len(p) for p in peer.random_split(range(7), lengths)]


ARGUMENTS = [
    {"num_workers": -1},
    {"timeout": -1},
    {"prefetch_factor": 2},
    {"persistent_workers": True},
    {"prefetch_factor": -1, "num_workers": 1},
    {"batch_size": 0},
    {"batch_size": None, "drop_last": True},
    {"shuffle": True, "sampler": [0]},
    {"batch_sampler": [[0]], "batch_size": 2},
    {"batch_sampler": [[0]], "shuffle": True},
    {"batch_sampler": [[0]], "drop_last": True},
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_contradictions_are_refused_with_the_same_kind_of_error(arguments):
    with pytest.raises(Exception) as theirs:
        peer.DataLoader(Squares(3), **arguments)
    with pytest.raises(theirs.type):
        ours.DataLoader(Squares(3), **arguments)


@pytest.mark.parametrize(
    "make",
    [
        lambda lib: lib.RandomSampler([]),
        lambda lib: lib.RandomSampler([1], num_samples=0),
        lambda lib: lib.BatchSampler([1], 0, False),
        lambda lib: lib.WeightedRandomSampler([1.0], 0),
        lambda lib: lib.random_split(range(5), [1, 2]),
        lambda lib: lib.Dataset()[0],
        lambda lib: lib.ConcatDataset([range(2)])[5],
        lambda lib: lib.StackDataset(range(2), range(3)),
    ],
)
def test_misuse_is_refused_with_the_same_kind_of_error(make):
    with pytest.raises(Exception) as theirs:
        make(peer)
    with pytest.raises(Exception) as mine:
        make(ours)
    assert issubclass(mine.type, theirs.type) or (issubclass(mine.type, ValueError) and theirs.type is AssertionError)


class Broken(Squares):
    def __getitem__(self, index):
        raise KeyError("no such picture")


def test_an_exception_of_a_worker_has_the_same_class_and_shows_the_traceback_there():
    for lib, options in ((peer, {}), (ours, {}), (ours, {"workers": "process"})):
        with pytest.raises(KeyError) as caught:
            list(lib.DataLoader(Broken(3), num_workers=1, **options))
        assert "worker" in str(caught.value) and "KeyError" in str(caught.value) and "__getitem__" in str(caught.value)


def test_the_signature_has_pytorchs_names_in_pytorchs_order():
    import inspect

    mine = list(inspect.signature(ours.DataLoader).parameters)
    theirs = [name for name in inspect.signature(peer.DataLoader).parameters if name in mine]
    assert mine[: len(theirs)] == theirs
    assert mine[len(theirs) :] == ["workers", "device"]
