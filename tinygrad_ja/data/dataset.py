"""Sets of examples: by index (``Dataset``) or as a stream (``IterableDataset``), and sets made from others."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES
from ..backend.random import Generator, default_generator
from ..core.tensor import Tensor
from ..errors import error, joined, refusal
from .collate import default_collate, default_convert


class Dataset:
    """Examples by index: a subclass defines ``__getitem__(index)`` and, for samplers, ``__len__()``.

    A subclass may also say how whole batches are had at once, which a DataLoader then uses:

    - ``__getitems__(indices)``, as in PyTorch: the examples at these indices, as a list;
    - ``gather(indices)``: the batch itself, equal to what ``default_collate`` makes of the examples. Used where no ``collate_fn`` is given.

    >>> class Squares(Dataset):
    ...     def __getitem__(self, index):
    ...         return index, index**2
    ...     def __len__(self):
    ...         return 5
    >>> Squares()[3], Squares().gather([1, 2])
    ((3, 9), [tensor([1, 2]), tensor([1, 4])])
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = vars(cls)  # what is inherited would not know of a new __getitem__
        if "__getitem__" in own and "__getitems__" not in own:
            cls.__getitems__ = None
        if ("__getitem__" in own or "__getitems__" in own) and "gather" not in own:
            cls.gather = Dataset.gather  # type: ignore[method-assign]

    __getitems__: Any = None

    def __getitem__(self, index: Any) -> Any:
        raise error("TG-U018", kind=type(self).__name__, method="__getitem__", parameters="self, index")

    def gather(self, indices: Sequence[int]) -> Any:
        """The examples at ``indices`` as one batch."""
        return default_collate(examples(self, indices))

    def __add__(self, other: Dataset) -> ConcatDataset:
        return ConcatDataset([self, other])


def examples(dataset: Any, indices: Sequence[int]) -> list[Any]:
    """The examples at ``indices``. An exception carries a note that says at which index it came."""
    several = getattr(dataset, "__getitems__", None)
    if several is not None:
        return several(indices)
    made = []
    for index in indices:
        try:
            made.append(dataset[index])
        except Exception as failure:
            note = f"This came from dataset[{index!r}]."
            failure.__notes__ = [*getattr(failure, "__notes__", ()), note]  # type: ignore[attr-defined] # add_note needs Python 3.11
            raise
    return made


def gather(dataset: Any, indices: Sequence[int]) -> Any:
    """The examples at ``indices`` as one batch, the fastest way that ``dataset`` knows."""
    return dataset.gather(indices) if isinstance(dataset, Dataset) else default_collate(examples(dataset, indices))


class IterableDataset(Dataset):
    """Examples as a stream: a subclass defines ``__iter__``. For data that has no index, or no end.

    With workers each of them iterates over its own; ``get_worker_info()`` tells ``__iter__`` which part to give, otherwise every worker
    gives all.

    >>> class Countdown(IterableDataset):
    ...     def __iter__(self):
    ...         return iter([3, 2, 1])
    >>> from tinygrad_ja.data import DataLoader
    >>> list(DataLoader(Countdown(), batch_size=2))
    [tensor([3, 2]), tensor([1])]
    """

    def __iter__(self) -> Iterator[Any]:
        raise error("TG-U018", kind=type(self).__name__, method="__iter__", parameters="self")

    def __add__(self, other: Dataset) -> Any:
        return ChainDataset([self, other])


# ---- sets made from arrays and from other sets ---------------------------------------------------


class TensorDataset(Dataset):
    """Tensors or arrays with the same first axis; example i is the tuple of their rows i. Batches are taken from them whole.

    Raises ShapeError when the first axes differ.

    >>> data = TensorDataset(np.arange(6.0).reshape(3, 2), np.array([0, 1, 0]))
    >>> len(data), data[1]
    (3, (tensor([2., 3.], dtype=float64), tensor(1)))
    """

    def __init__(self, *tensors: Any) -> None:
        self.tensors: tuple[Tensor, ...] = tuple(default_convert(x) for x in tensors)
        for x in self.tensors:
            if type(x) is not Tensor:
                raise error("TG-T002", op="TensorDataset", argument="tensors", type=type(x).__name__)
        if not self.tensors or any(not x.ndim or len(x) != len(self.tensors[0]) for x in self.tensors):
            raise error(
                "TG-S002",
                op="TensorDataset",
                rule=("one first axis for all: (N, ...)", "最初の軸の大きさ N が等しい: (N, ...)"),
                shapes=joined([tuple(x.shape) for x in self.tensors]) or "()",
                fix=("pass tensors with as many rows.", "行数の等しいテンソルを渡してください。"),
            )

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(x[index] for x in self.tensors)

    def gather(self, indices: Sequence[int]) -> list[Tensor]:
        return [_rows(x, indices) for x in self.tensors]

    def __len__(self) -> int:
        return len(self.tensors[0])


def _rows(x: Tensor, indices: Sequence[int]) -> Tensor:
    """The rows of ``x`` at ``indices``, copied."""
    if x.node is not None:
        return x[list(indices)]
    array = x.array
    return Tensor(array.take(ARRAY_MODULES[type(array)].asarray(indices, dtype=np.intp), axis=0))


class StackDataset(Dataset):
    """Sets side by side: example i is the tuple, or with keywords the dict, of their examples i.

    >>> StackDataset(image=["a", "b"], label=[0, 1])[1]
    {'image': 'b', 'label': 1}
    """

    datasets: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            reason = (
                "the sets come either by position (tuples) or by keyword (dicts)",
                "データセットは位置引数 (タプル) かキーワード引数 (dict) のどちらか一方で渡します",
            )
            raise error("TG-A003", op="StackDataset", reason=reason, fix=("choose one.", "どちらかにしてください。"))
        self.datasets = args or kwargs
        lengths = [len(dataset) for dataset in args or kwargs.values()]
        if len(set(lengths)) > 1:
            rule = ("sets of one length", "長さの等しいデータセット")
            fix = ("cut the longer ones with Subset.", "長いものを Subset で切ってください。")
            raise error("TG-S002", op="StackDataset", rule=rule, shapes=joined(lengths), fix=fix)

    def __getitem__(self, index: int) -> Any:
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)

    def gather(self, indices: Sequence[int]) -> Any:
        if isinstance(self.datasets, dict):
            return {name: gather(dataset, indices) for name, dataset in self.datasets.items()}
        return [gather(dataset, indices) for dataset in self.datasets]

    def __len__(self) -> int:
        return len(next(iter(self.datasets.values())) if isinstance(self.datasets, dict) else self.datasets[0])


class ConcatDataset(Dataset):
    """Sets one after the other: ``ConcatDataset([a, b])``, also ``a + b``.

    >>> both = ConcatDataset(["abc", "de"])
    >>> len(both), both[3], both[-5]
    (5, 'd', 'a')
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets or any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            reason = (
                "it needs at least one set, and none of them a stream",
                "1 つ以上のデータセットが必要で、IterableDataset は含められません",
            )
            fix = ("use ChainDataset for streams.", "IterableDataset には ChainDataset を使ってください。")
            raise error("TG-A003", op="ConcatDataset", reason=reason, fix=fix)
        self.cumulative_sizes = list(itertools.accumulate(len(dataset) for dataset in self.datasets))

    def __getitem__(self, index: int) -> Any:
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise error(
                "TG-I002",
                op="ConcatDataset",
                index=index,
                size=len(self),
                shape=(len(self),),
                first=-len(self),
                last=len(self) - 1,
            )
        number = bisect.bisect_right(self.cumulative_sizes, place)
        start = self.cumulative_sizes[number - 1] if number else 0
        return self.datasets[number][place - start]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


class ChainDataset(IterableDataset):
    """Streams one after the other.

    >>> list(ChainDataset([range(2), "a"]))
    [0, 1, 'a']
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain.from_iterable(self.datasets)

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self.datasets)


class Subset(Dataset):
    """The examples of a set at ``indices``, in that order.

    >>> list(Subset("abcdef", [4, 0]))
    ['e', 'a']
    """

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def gather(self, indices: Sequence[int]) -> Any:
        return gather(self.dataset, [self.indices[i] for i in indices])

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        return examples(self.dataset, [self.indices[i] for i in indices])

    def __len__(self) -> int:
        return len(self.indices)


def random_split(dataset: Any, lengths: Sequence[float], generator: Generator | None = None) -> list[Subset]:
    """Split ``dataset`` at random into disjoint parts that together are all of it.

    lengths: sizes that sum to ``len(dataset)``, or fractions that sum to 1 (what rounding leaves goes to the first parts, one each).
    Raises ArgumentError for anything else.

    >>> [len(part) for part in random_split(range(10), [0.7, 0.3])]
    [7, 3]
    """
    total = len(dataset)
    sizes = _sizes(lengths, total)
    order = (default_generator("cpu") if generator is None else generator).permutation(total).tolist()
    ends = list(itertools.accumulate(sizes))
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends)]


def _sizes(lengths: Sequence[float], total: int) -> list[int]:
    given = list(lengths)
    if math.isclose(sum(given), 1.0) and all(0 <= x <= 1 for x in given):
        sizes = [math.floor(total * x) for x in given]
        for i in range(total - sum(sizes)):
            sizes[i % len(sizes)] += 1
        return sizes
    if sum(given) != total or any(x < 0 or x != int(x) for x in given):
        rule = (
            f"sizes that sum to the {total} examples, or fractions that sum to 1",
            f"合計がデータ数 {total} になる件数か、合計が 1 になる割合",
        )
        fix = ("for instance [0.8, 0.2].", "たとえば [0.8, 0.2] としてください。")
        raise refusal("random_split", "lengths", given, rule, fix)
    return [int(x) for x in given]
