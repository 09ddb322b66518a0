"""Sets of examples, sets made from them, and from examples to a batch."""

from __future__ import annotations

import itertools
from collections import OrderedDict, UserDict, namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_ja as tg
from tinygrad_ja.data import (
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    PadCollate,
    StackDataset,
    Subset,
    TensorDataset,
    WindowDataset,
    default_collate,
    default_convert,
    random_split,
)
from tinygrad_ja.errors import ArgumentError, DtypeError, MissingMethodError, ShapeError
from tinygrad_ja.testing import strict

Point = namedtuple("Point", "x y")


class Squares(Dataset):
    def __init__(self, count):
        self.count = count

    def __getitem__(self, index):
        return index, float(index) ** 2

    def __len__(self):
        return self.count


class Stream(IterableDataset):
    def __init__(self, *values):
        self.values = values

    def __iter__(self):
        return iter(self.values)


# ---- sets


def test_rows_of_tensors_and_of_arrays_are_examples():
    data = TensorDataset(tg.arange(6).reshape(3, 2), np.array([5, 6, 7]))
    x, y = data[2]
    assert len(data) == 3 and x.tolist() == [4, 5] and y.item() == 7
    x, y = data.gather([2, 0, -1])
    assert x.tolist() == [[4, 5], [0, 1], [4, 5]] and y.tolist() == [7, 5, 7]


def test_a_batch_of_rows_shares_no_memory_with_the_set():
    data = TensorDataset(tg.zeros(4, 2))
    (batch,) = data.gather([0, 1])
    batch.array[...] = 1.0
    assert not data.tensors[0].array.any()


def test_rows_of_a_leaf_keep_their_history():
    leaf = tg.ones(3, 2, requires_grad=True)
    (batch,) = TensorDataset(leaf).gather([1, 1])
    batch.sum().backward()
    assert leaf.grad.tolist() == [[0, 0], [2, 2], [0, 0]]


@pytest.mark.parametrize("tensors", [(), (np.ones(3), np.ones(2)), (np.array(1.0),)])
def test_tensors_without_one_first_axis_are_refused(tensors):
    with pytest.raises(ShapeError, match="TensorDataset"):
        TensorDataset(*tensors)


def test_what_is_no_tensor_is_refused():
    with pytest.raises(DtypeError, match="list"):
        TensorDataset([1, 2])


def test_a_subclass_with_its_own_getitem_does_not_inherit_a_way_around_it():
    class Doubled(TensorDataset):
        def __getitem__(self, index):
            return super().__getitem__(index)[0] * 2

    data = Doubled(tg.arange(4))
    assert data.gather([1, 3]).tolist() == [2, 6]
    assert Subset(data, [3]).gather([0]).tolist() == [6]
    assert next(iter(DataLoader(data, batch_size=4))).tolist() == [0, 2, 4, 6]

    class Negated(Subset):
        def __getitem__(self, index):
            return -super().__getitem__(index)[0]

    data = Negated(TensorDataset(tg.arange(4)), [3, 1])
    assert data.gather([1, 0]).tolist() == [-1, -3] and Subset(data, [1]).gather([0]).tolist() == [-1]


def test_concatenated_sets_count_from_both_ends():
    data = Squares(3) + Squares(2)
    assert type(data) is ConcatDataset and data.cumulative_sizes == [3, 5]
    assert [data[i][0] for i in range(5)] == [0, 1, 2, 0, 1] == [data[i - 5][0] for i in range(5)]
    for outside in (5, -6):
        with pytest.raises(IndexError, match=str(outside)):
            data[outside]


def test_concatenation_skips_empty_sets():
    assert [ConcatDataset(["", "a", "", "bc"])[i] for i in range(3)] == ["a", "b", "c"]


def test_streams_are_chained_not_concatenated():
    assert list(Stream(1, 2) + Stream(3)) == [1, 2, 3]
    for datasets in ([], [Stream(1)]):
        with pytest.raises(ArgumentError, match="ChainDataset"):
            ConcatDataset(datasets)
    with pytest.raises(TypeError):
        len(ChainDataset([Stream(1)]))


def test_sets_side_by_side():
    pair, named = StackDataset(Squares(3), "abc"), StackDataset(n=Squares(3), letter="abc")
    assert pair[1] == ((1, 1.0), "b") and named[2] == {"n": (2, 4.0), "letter": "c"} and len(pair) == len(named) == 3
    numbers, letters = pair.gather([0, 2])
    assert numbers[0].tolist() == [0, 2] and letters == ["a", "c"]
    assert named.gather([1])["letter"] == ["b"]
    with pytest.raises(ShapeError, match="3 and 4"):
        StackDataset("abc", "abcd")
    for arguments in ({"args": (), "kwargs": {}}, {"args": ("a",), "kwargs": {"b": "b"}}):
        with pytest.raises(ArgumentError):
            StackDataset(*arguments["args"], **arguments["kwargs"])


def test_a_subset_of_a_subset():
    inner = Subset(Squares(10), [9, 8, 7])
    assert [x for x, _ in Subset(inner, [2, 0])] == [7, 9]
    assert Subset(inner, [2, 0]).__getitems__([1]) == [(9, 81.0)]
    assert Subset(inner, [2, 0]).gather([0, 1])[0].tolist() == [7, 9]


def test_a_base_class_names_the_missing_method():
    with pytest.raises(MissingMethodError, match="Dataset has no __getitem__"):
        Dataset()[0]
    with pytest.raises(NotImplementedError, match="__iter__"):
        iter(IterableDataset())


@given(total=st.integers(0, 40), cuts=st.lists(st.integers(0, 40), max_size=4), seed=st.integers(0, 5))
def test_a_split_is_a_partition(total, cuts, seed):
    edges = [0, *sorted(min(cut, total) for cut in cuts), total]
    sizes = [high - low for low, high in itertools.pairwise(edges)]
    parts = random_split(range(total), sizes, generator=tg.Generator().manual_seed(seed))
    again = random_split(range(total), sizes, generator=tg.Generator().manual_seed(seed))
    assert [len(part) for part in parts] == sizes
    assert sorted(i for part in parts for i in part.indices) == list(range(total))
    assert [part.indices for part in parts] == [part.indices for part in again]


@pytest.mark.parametrize(
    ("fractions", "sizes"), [([0.5, 0.5], [6, 5]), ([0.3, 0.3, 0.4], [4, 3, 4]), ([0.1] * 10, [2] + [1] * 9), ([1], [11])]
)
def test_fractions_leave_the_rest_to_the_first_parts(fractions, sizes):
    assert [len(part) for part in random_split(range(11), fractions)] == sizes


@pytest.mark.parametrize("lengths", [[5, 5], [0.5, 0.6], [12, -1], [], [10.5, 0.5]])
def test_a_split_that_is_none_is_refused(lengths):
    with pytest.raises(ArgumentError, match="sum to the 11 examples"):
        random_split(range(11), lengths)


# ---- windows


@given(length=st.integers(2, 30), window=st.integers(1, 10), horizon=st.integers(1, 4), stride=st.integers(1, 5))
def test_windows_are_slices_of_the_series(length, window, horizon, stride):
    series = np.arange(length * 2.0).reshape(length, 2)
    if length < window + horizon:
        with pytest.raises(ArgumentError, match=f"window \\+ horizon = {window + horizon}"):
            WindowDataset(series, window, horizon, stride)
        return
    data = WindowDataset(tg.from_numpy(series), window, horizon, stride)
    starts = range(0, length - window - horizon + 1, stride)
    assert len(data) == len(starts)
    xs, ys = data.gather(range(len(data)))
    for i, start in enumerate(starts):
        x, y = data[i]
        assert x.tolist() == xs[i].tolist() == series[start : start + window].tolist()
        assert y.tolist() == ys[i].tolist() == series[start + window : start + window + horizon].tolist()
    assert data[-1][0].tolist() == data[len(data) - 1][0].tolist()
    with pytest.raises(IndexError):
        data[len(data)]


# ---- collate


@given(hnp.arrays(hnp.scalar_dtypes().filter(lambda d: d.kind in "buif" and d.itemsize <= 8), hnp.array_shapes(min_dims=1)))
def test_arrays_and_tensors_of_one_shape_are_stacked(array):
    native = array.astype(array.dtype.newbyteorder("="))
    for batch in (list(native), [tg.from_numpy(np.asarray(row)) for row in native]):
        made = default_collate(batch)
        assert made.dtype == native.dtype
        np.testing.assert_array_equal(made.array, native)


def test_numbers_become_pytorchs_dtypes():
    for batch, dtype in (([1.5, 2], "float64"), ([1, 2], "int64"), ([True, False], "bool"), ([np.float32(1)], "float32")):
        assert str(default_collate(batch).dtype) == dtype


def test_the_form_of_the_examples_is_kept():
    batch = default_collate([{"p": Point(1, "a"), "l": [1.0, (2, 3)]}, {"p": Point(4, "b"), "l": [5.0, (6, 7)]}])
    assert type(batch["p"]) is Point and batch["p"].x.tolist() == [1, 4] and batch["p"].y == ("a", "b")
    assert batch["l"][0].tolist() == [1.0, 5.0] and [x.tolist() for x in batch["l"][1]] == [[2, 6], [3, 7]]
    assert type(default_collate([OrderedDict(a=1)])) is OrderedDict and type(default_collate([UserDict(a=1)])) is UserDict
    assert default_collate(["a", "b"]) == ["a", "b"] and default_collate([b"a"]) == [b"a"]


def test_memmaps_are_arrays(tmp_path):
    made = np.memmap(tmp_path / "a", dtype="f4", shape=(2, 3), mode="w+")
    assert type(default_collate([made[0], made[1]]).array) is np.ndarray


@pytest.mark.parametrize(
    "batch", [[np.ones(2), np.ones(3)], [tg.ones(2), tg.ones(1)], [[1, 2], [1]], [np.ones(2), 3], [tg.ones(2), 3]]
)
def test_unequal_examples_are_refused(batch):
    with pytest.raises(ShapeError, match="default_collate"):
        default_collate(batch)


@pytest.mark.parametrize("batch", [[None], [object()], [np.array(["a"])], [np.array([None])], [1, "a"], [2**70]])
def test_what_is_no_batch_is_refused(batch):
    with pytest.raises(TypeError, match="default_collate"):
        default_collate(batch)


@pytest.mark.parametrize("collate", [default_collate, PadCollate()])
def test_an_empty_batch_is_refused(collate):
    with pytest.raises(ArgumentError, match="at least one example"):
        collate([])


def test_tensors_with_history_keep_it():
    leaf = tg.ones(2, requires_grad=True)
    default_collate([leaf, leaf * 2]).sum().backward()
    assert leaf.grad.tolist() == [3, 3]


def test_arrays_of_a_gpu_stay_there():
    batch = default_collate([tg.ones(2, device="strict"), tg.zeros(2, device="strict")])
    assert batch.device == "strict" and batch.tolist() == [[1, 1], [0, 0]]
    assert default_collate([strict.array(np.ones(2))]).device == "strict"


def test_conversion_shares_memory_and_leaves_the_rest():
    array = np.ones(2)
    made = default_convert({"a": [array, "text"], "b": (np.float32(1), 2)})
    assert made["a"][0].array is array and made["a"][1] == "text" and made["b"][0].item() == 1 and made["b"][1] == 2


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.booleans())
def test_sequences_are_padded_and_their_lengths_told(lengths, batch_first):
    examples = [(np.arange(1, n + 1), {"label": n}) for n in lengths]
    (padded, told), labels = PadCollate(batch_first, padding_value=-1)(examples)
    assert told.tolist() == lengths == labels["label"].tolist()
    rows = padded if batch_first else padded.T
    assert rows.tolist() == [[*range(1, n + 1), *[-1] * (max(lengths) - n)] for n in lengths]


def test_sequences_of_vectors_are_padded_too():
    padded, lengths = PadCollate()([tg.ones(2, 3), tg.ones(4, 3)])
    assert padded.shape == (4, 2, 3) and padded[2:, 0].sum().item() == 0 and lengths.tolist() == [2, 4]


@pytest.mark.parametrize("dim", [-1, 1, 2])
def test_the_axis_of_the_length_may_be_another(dim):
    examples = [tg.randn(2, 3, 5), tg.randn(2, 1, 5) if dim == 1 else tg.randn(2, 3, 4)]
    padded, lengths = PadCollate(batch_first=True, dim=dim)(examples)
    assert padded.shape == (2, 2, 3, 5) and lengths.tolist() == [x.shape[dim] for x in examples]
    second = examples[1]
    assert (padded[0] == examples[0]).all() and (padded[1, :, : second.shape[1], : second.shape[2]] == second).all()
    assert float(padded[1].abs().sum()) == float(second.abs().sum())
    in_time, _ = PadCollate(dim=dim)(examples)
    assert in_time.shape == (max(lengths.tolist()), 2, *np.delete(second.shape, dim))


def test_an_axis_that_an_example_does_not_have_is_refused():
    with pytest.raises(IndexError, match="TG-I"):
        PadCollate(dim=2)([tg.ones(2, 3), tg.ones(2, 4)])
