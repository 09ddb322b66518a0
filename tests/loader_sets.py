"""Sets for the tests of DataLoader. They stand in a module of their own, so that worker processes of every start method find them."""

from __future__ import annotations

import os
import random
import time

import numpy as np

import tinygrad_ja as tg
from tinygrad_ja.data import Dataset, IterableDataset, get_worker_info


class Numbers(Dataset):
    """Example i: i as an array, and i."""

    def __init__(self, count):
        self.count = count

    def __getitem__(self, index):
        return np.full((2, 3), index, np.float32), index

    def __len__(self):
        return self.count


class Noisy(Numbers):
    """Example i comes with random numbers of the default generator."""

    def __getitem__(self, index):
        return index, tg.rand(2), tg.default_generator("cpu").integers(0, 1000, ())


class NoisyInPython(Numbers):
    """With numbers of the library and of NumPy, which are seeded in processes only."""

    def __getitem__(self, index):
        return random.random(), np.random.rand()


class Broken(Numbers):
    """One example cannot be made."""

    def __getitem__(self, index):
        if index == 5:
            raise self.failure()
        return index

    def failure(self):
        return ValueError("no such picture")


class Strange(Exception):
    """An exception that is not made of one text."""

    def __init__(self, first, second):
        super().__init__(first, second)


class BrokenStrangely(Broken):
    def failure(self):
        return Strange(1, 2)


class BrokenKey(Broken):
    def failure(self):
        return KeyError("a\nb")


class BrokenTensor(Broken):
    def failure(self):
        return tg.errors.error("TG-S004", actual=(1,), expected=(2,))


class Leaving(Broken):
    def failure(self):
        return SystemExit(3)


class Stopping(Broken):
    def failure(self):
        return StopIteration("not the end")


class Dying(Numbers):
    """Its process ends in the middle of example 5."""

    def __getitem__(self, index):
        if index == 5:
            os._exit(7)
        return index


class Slow(Numbers):
    """Example 5 takes its time."""

    def __getitem__(self, index):
        if index == 5:
            time.sleep(30)
        return index


class Unsendable(Numbers):
    def __getitem__(self, index):
        return lambda: index


class Varied(Numbers):
    """Batches of all kinds of values and of growing size."""

    def __getitem__(self, index):
        return {
            "empty": np.zeros((0, 3)),
            "number": np.float16(index),
            "half": tg.full((index + 1, 40), index, dtype=tg.float16),
            "turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            "text": f"例{index}",
            "nothing": None,
            "strided": np.arange(20)[::3],
        }


class WhichWorker(Numbers):
    def __getitem__(self, index):
        info = get_worker_info()
        return -1 if info is None else info.id


class Parts(IterableDataset):
    """0 .. count-1, divided among the workers, with random numbers."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for i in range(first, self.count, step):
            yield i, tg.rand(1)


class SizedParts(Parts):
    def __len__(self):
        return self.count


class BrokenStream(IterableDataset):
    def __iter__(self):
        yield 1
        raise ValueError("the stream broke")


def first_of(batch):
    """A collate function."""
    return batch[0]


def as_list(batch):
    return list(batch)


def fail(number):
    raise OSError(f"worker {number} cannot start")


def set_attribute(number):
    get_worker_info().dataset.count = number + 10


class OwnCount(Numbers):
    def __getitem__(self, index):
        return self.count
