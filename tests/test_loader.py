"""DataLoader: the same batches whoever makes them, from any point on."""

from __future__ import annotations

import itertools
import json
import os
import time

import loader_sets as sets
import numpy as np
import pytest
from loader_cases import KINDS, WORKERS, names, nothing_left, plain

import tinygrad_ja as tg
from tinygrad_ja.backend.random import default_generator
from tinygrad_ja.data import (
    BatchSampler,
    BucketBatchSampler,
    DataLoader,
    RandomSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)
from tinygrad_ja.errors import ArgumentError, DeviceError, StateError
from tinygrad_ja.testing import strict

pytestmark = pytest.mark.skipif(os.name != "posix", reason="worker processes need POSIX")


@pytest.fixture(autouse=True)
def clean():
    with nothing_left():
        yield


# ---- batches and their order


@pytest.mark.parametrize("options", KINDS, ids=names)
def test_batches_come_in_the_order_of_the_sampler(options):
    loader = DataLoader(sets.Numbers(11), batch_size=3, **options)
    batches = list(loader)
    assert [y.tolist() for _, y in batches] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10]] and len(loader) == 4
    for x, y in batches:
        assert x.dtype == tg.float32 and x.dtype is tg.float32 and x[:, 1, 2].tolist() == y.tolist()


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_seed_decides_the_batches_and_their_random_numbers_whoever_makes_them(shuffle, drop_last):
    epochs = []
    for options in [*KINDS, {"num_workers": 1}, {"num_workers": 3, "prefetch_factor": 5, "persistent_workers": True}]:
        generator = tg.Generator().manual_seed(0)
        loader = DataLoader(sets.Noisy(20), 3, shuffle, drop_last=drop_last, generator=generator, **options)
        epochs.append([plain(list(loader)) for _ in range(2)])
    assert all(one == epochs[0] for one in epochs)
    assert epochs[0][0] != epochs[0][1]
    assert len(epochs[0][0]) == (6 if drop_last else 7)


@pytest.mark.parametrize("options", KINDS, ids=names)
def test_making_batches_leaves_the_default_generator_alone_but_for_one_draw(options):
    tg.manual_seed(1)
    default_generator("cpu").integers(0, 2**62, ())  # the seed of the epoch
    expected = [tg.rand(1).item() for _ in range(5)]
    tg.manual_seed(1)
    assert [tg.rand(1).item() for _ in DataLoader(sets.Noisy(20), 4, shuffle=True, **options)] == expected


def test_python_and_numpy_are_seeded_by_batch_in_processes():
    def drawn(**options):
        loader = DataLoader(sets.NoisyInPython(8), 2, generator=tg.Generator().manual_seed(0), workers="process", **options)
        return plain(list(loader))

    two = drawn(num_workers=2)
    assert two == drawn(num_workers=1) == drawn(num_workers=3)
    assert len({number for batch in two for column in batch for number in column}) == 16


def test_manual_seed_in_an_example_is_for_the_example():
    class Seeded(sets.Numbers):
        def __getitem__(self, index):
            tg.manual_seed(7)
            return tg.rand(1)

    tg.manual_seed(0)
    expected = tg.rand(3).tolist()
    tg.manual_seed(0)
    batch = next(iter(DataLoader(Seeded(4), 4, generator=tg.Generator())))
    assert len(set(plain(batch[:, 0]))) == 1 and tg.rand(3).tolist() == expected


@pytest.mark.parametrize("options", KINDS, ids=names)
def test_batches_of_rows_are_taken_whole(options, monkeypatch):
    monkeypatch.setattr(TensorDataset, "__getitem__", lambda *_: pytest.fail("one by one"))
    data = TensorDataset(np.arange(20).reshape(10, 2), np.arange(10.0))
    x, y = next(iter(DataLoader(Subset(data, range(9, -1, -1)), 4, **options)))
    assert x.tolist() == [[18, 19], [16, 17], [14, 15], [12, 13]] and y.tolist() == [9, 8, 7, 6]


@pytest.mark.parametrize("options", KINDS, ids=names)
def test_a_collate_function_sees_the_list_of_examples(options):
    loader = DataLoader(sets.Numbers(4), 2, collate_fn=sets.as_list, **options)
    assert [[index for _, index in batch] for batch in loader] == [[0, 1], [2, 3]]
    data = TensorDataset(tg.arange(4))
    assert [plain(batch) for batch in DataLoader(data, 2, collate_fn=sets.as_list, **options)] == [[[0], [1]], [[2], [3]]]


@pytest.mark.parametrize("options", KINDS, ids=names)
def test_without_a_batch_size_examples_come_one_by_one(options):
    loader = DataLoader(sets.Numbers(3), batch_size=None, **options)
    assert len(loader) == 3
    for i, (x, y) in enumerate(loader):
        assert type(x) is tg.Tensor and x.shape == (2, 3) and y == i
    assert list(DataLoader(range(3), None, collate_fn=str, **options)) == ["0", "1", "2"]


@pytest.mark.parametrize("options", KINDS, ids=names)
def test_samplers_of_ones_own(options):
    data = sets.Numbers(10)
    assert [y.tolist() for _, y in DataLoader(data, 2, sampler=[5, 1, 5], **options)] == [[5, 1], [5]]
    assert [y.tolist() for _, y in DataLoader(data, batch_sampler=[[3], [1, 2]], **options)] == [[3], [1, 2]]
    assert len(DataLoader(data, batch_sampler=[[3], [1, 2]], **options)) == 2
    assert [y.tolist() for _, y in DataLoader([(0, 1), (2, 3)], batch_size=2, **options)] == [[1, 3]]


def test_several_passes_at_once_do_not_disturb_each_other():
    for options in WORKERS:
        loader = DataLoader(sets.Numbers(6), 2, persistent_workers=True, **options)
        for _ in range(2):
            assert [(a[1].tolist(), b[1].tolist()) for a, b in zip(loader, loader)] == [
                (c, c) for c in ([0, 1], [2, 3], [4, 5])
            ]


def test_the_default_dtype_is_that_of_the_program():
    class Halves(sets.Numbers):
        def __getitem__(self, index):
            return tg.tensor([0.5])

    tg.set_default_dtype(tg.float64)
    try:
        for options in KINDS:
            assert next(iter(DataLoader(Halves(2), 2, **options))).dtype == tg.float64
    finally:
        tg.set_default_dtype(tg.float32)


@pytest.mark.parametrize("options", WORKERS, ids=names)
def test_workers_know_who_they_are(options):
    assert plain(list(DataLoader(sets.WhichWorker(6), 1, **options))) == [[0], [1], [0], [1], [0], [1]]
    assert plain(list(DataLoader(sets.WhichWorker(2), 1))) == [[-1], [-1]]


def test_processes_have_their_own_copy_of_the_set():
    data = sets.OwnCount(4)
    loader = DataLoader(data, 1, num_workers=2, workers="process", worker_init_fn=sets.set_attribute)
    assert plain(list(loader)) == [[10], [11], [10], [11]] and data.count == 4


# ---- streams


@pytest.mark.parametrize("options", KINDS, ids=names)
def test_a_stream_is_divided_by_its_workers(options):
    loader = DataLoader(sets.Parts(11), 2, **options)
    batches = [plain(i) for i, _ in loader]
    expected = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10]] if not options else [[0, 2], [1, 3], [4, 6], [5, 7], [8, 10], [9]]
    assert batches == expected
    assert [plain(i) for i, _ in loader] == expected
    assert sum(len(i) for i, _ in DataLoader(sets.Parts(11), 2, drop_last=True, **options)) == 10
    assert [i for i, _ in DataLoader(sets.Parts(3), None, **options)] == [0, 1, 2]


@pytest.mark.parametrize("count", [0, 1, 2, 5, 17])
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_of_a_stream_may_end_early(count, workers):
    loaders = [DataLoader(sets.Parts(count), 2, num_workers=workers, **options) for options in ({}, {"workers": "process"})]
    thread, process = ([plain(i) for i, _ in loader] for loader in loaders)
    assert thread == process and sorted(i for batch in thread for i in batch) == list(range(count))


def test_persistent_workers_start_a_stream_anew():
    for options in WORKERS:
        loader = DataLoader(sets.Parts(5), 1, persistent_workers=True, **options)
        assert [sorted(i.item() for i, _ in loader) for _ in range(3)] == [[0, 1, 2, 3, 4]] * 3


def test_the_length_of_a_stream_is_that_which_it_says():
    assert len(DataLoader(sets.SizedParts(5), 2)) == 3 and len(DataLoader(sets.SizedParts(5), 2, drop_last=True)) == 2
    assert len(DataLoader(sets.SizedParts(5), None)) == 5
    with pytest.raises(TypeError):
        len(DataLoader(sets.Parts(5)))


# ---- resuming


def saved(state, tmp_path):
    """A state that went through a file."""
    json.dumps(state)
    tg.save(state, tmp_path / "state")
    return tg.load(tmp_path / "state")


ORDERS = {
    "shuffled": lambda data: {"batch_size": 3, "shuffle": True},
    "own generator": lambda data: {"batch_size": 3, "shuffle": True, "generator": tg.Generator().manual_seed(5)},
    "sampler with its generator": lambda data: {
        "batch_size": 5,
        "sampler": RandomSampler(data, replacement=True, num_samples=25, generator=tg.Generator().manual_seed(5)),
    },
    "weighted": lambda data: {"batch_size": 4, "sampler": WeightedRandomSampler(range(1, 21), 20)},
    "one generator for all": lambda data: {
        "batch_size": 3,
        "sampler": RandomSampler(data, generator=(one := tg.Generator().manual_seed(5))),
        "generator": one,
    },
    "batches": lambda data: {
        "batch_sampler": BatchSampler(RandomSampler(data, generator=tg.Generator().manual_seed(5)), 4, True)
    },
    "buckets": lambda data: {"batch_sampler": BucketBatchSampler(range(20), 3, generator=tg.Generator().manual_seed(6))},
}


@pytest.mark.parametrize(
    ("options", "order"),
    [*itertools.product(KINDS[:2], ORDERS), (KINDS[2], "shuffled")],
    ids=lambda value: names(value) if isinstance(value, dict) else value,
)
def test_a_run_resumes_at_every_batch_with_what_would_have_come(options, order, tmp_path, monkeypatch):
    monkeypatch.setattr("tinygrad_ja.data.sampler._CHUNK", 7)  # so that a sampler draws several times in a pass
    data = sets.Noisy(20)

    def loader():
        return DataLoader(data, **ORDERS[order](data), **options, persistent_workers=bool(options))

    def epochs(loader, count):
        for _ in range(count):
            for batch in loader:
                yield plain(batch), tg.rand(1).item()  # the program draws too

    tg.manual_seed(2)
    first = loader()
    states = [(first.state_dict(), tg.get_rng_state())]
    whole = []
    for step in epochs(first, 3):
        whole.append(step)
        states.append((first.state_dict(), tg.get_rng_state()))
    for done, (state, numbers) in enumerate(states[: 2 * len(first) + 1]):
        tg.manual_seed(99)
        second = loader()
        second.load_state_dict(saved(state, tmp_path))
        tg.set_rng_state(numbers)
        assert second.state_dict() == state
        assert list(itertools.islice(epochs(second, 4), len(whole) - done)) == whole[done:]


@pytest.mark.parametrize("options", KINDS, ids=names)
def test_a_stream_resumes_by_making_again_what_was_delivered(options):
    whole = plain(list(DataLoader(sets.Parts(9), 2, generator=tg.Generator().manual_seed(4), **options)))
    for stop in range(len(whole) + 1):
        first = DataLoader(sets.Parts(9), 2, generator=tg.Generator().manual_seed(4), **options)
        iterator = iter(first)
        for _ in range(stop):
            next(iterator)
        second = DataLoader(sets.Parts(9), 2, generator=tg.Generator(), **options)
        second.load_state_dict(first.state_dict())
        assert plain(list(second)) == whole[stop:]


def test_a_state_is_small_whatever_the_set():
    loader = DataLoader(TensorDataset(tg.arange(100_000)), 10, shuffle=True, generator=tg.Generator())
    next(iter(loader))
    assert len(json.dumps(loader.state_dict())) < 1000


def test_batches_made_ahead_do_not_count():
    loader = DataLoader(sets.Numbers(20), 1, num_workers=2, prefetch_factor=4)
    iterator = iter(loader)
    next(iterator)
    time.sleep(0.05)
    assert loader.state_dict()["batches"] == 1


def test_states_that_do_not_fit_are_refused():
    loader = DataLoader(sets.Numbers(10), 2)
    state = loader.state_dict()
    generator = tg.Generator().get_state()
    wrong = [
        {"seed": 1},
        [],
        {**state, "length": 4},
        {**state, "length": "5"},
        {**state, "batches": -1},
        {**state, "batches": "2"},
        {**state, "seed": 0.5},
        {**state, "generator": generator},
        {**state, "batches": 6},
        {**state, "seed": 1, "samplers": [generator]},
        {**state, "seed": 1, "samplers": None},
    ]
    for one in wrong:
        with pytest.raises(StateError, match="TG-F003.*DataLoader"):
            loader.load_state_dict(one)
    assert loader.state_dict() == state
    loader = DataLoader(sets.Numbers(10), 2, generator=tg.Generator())
    with pytest.raises(StateError, match="the state of a generator is damaged"):
        loader.load_state_dict({**loader.state_dict(), "generator": {"seed": 1}})


# ---- devices


def test_batches_are_moved_to_a_device():
    for options in KINDS:
        loader = DataLoader(sets.Numbers(4), 2, device=strict.STRICT.name, pin_memory=True, **options)
        for x, y in loader:
            assert x.device == "strict" and y.device == "strict"
    with pytest.raises(DeviceError):
        DataLoader(sets.Numbers(4), device="nowhere")


# ---- arguments


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_workers": -1},
        {"num_workers": True},
        {"num_workers": 1.5},
        {"timeout": -1},
        {"timeout": "1"},
        {"multiprocessing_context": "spoon"},
        {"workers": "fiber"},
        {"prefetch_factor": 2},
        {"prefetch_factor": 0, "num_workers": 1},
        {"persistent_workers": True},
        {"batch_size": 0},
        {"batch_size": 1.5},
        {"batch_size": None, "drop_last": True},
        {"shuffle": "yes"},
        {"shuffle": True, "sampler": [0]},
        {"batch_sampler": [[0]], "batch_size": 2},
        {"batch_sampler": [[0]], "shuffle": True},
        {"batch_sampler": [[0]], "sampler": [0]},
        {"batch_sampler": [[0]], "drop_last": True},
        {"generator": np.random.default_rng()},
    ],
    ids=" ".join,
)
def test_arguments_that_contradict_each_other_are_refused(arguments):
    with pytest.raises(ArgumentError, match="DataLoader"):
        DataLoader(sets.Numbers(4), **arguments)


@pytest.mark.parametrize("data", [5, iter([1]), None])
def test_what_is_no_set_is_refused(data):
    with pytest.raises(ArgumentError, match="IterableDataset"):
        DataLoader(data)


@pytest.mark.parametrize("arguments", [{"shuffle": True}, {"sampler": [0]}, {"batch_sampler": [[0]]}], ids=str)
def test_a_stream_has_its_own_order(arguments):
    with pytest.raises(ArgumentError, match="IterableDataset"):
        DataLoader(sets.Parts(3), **arguments)
