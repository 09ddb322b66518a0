"""Tensor as an object: making it, converting it, printing it, and using it where it cannot be."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import (
    ArgumentError,
    AxisError,
    DeviceError,
    DtypeError,
    GradientError,
    ShapeError,
    TinygradError,
    UsageError,
)


def test_dtypes_of_new_tensors():
    assert tg.tensor([1.0]).dtype == tg.float32
    assert tg.tensor([1]).dtype == tg.int64
    assert tg.tensor([True]).dtype == tg.bool
    assert tg.tensor(np.ones(1)).dtype == tg.float64
    assert tg.tensor([[1, 2.5]]).dtype == tg.float32
    assert tg.tensor(3).shape == ()
    assert tg.tensor([tg.tensor(1.0), tg.tensor(2.0)]).tolist() == [1.0, 2.0]
    with pytest.raises(DtypeError):
        tg.tensor([[1, 2], [3]])
    with pytest.raises(DtypeError, match="float32"):
        tg.tensor(["a"])


def test_default_dtype_is_a_setting_of_the_thread():
    tg.set_default_dtype(tg.float64)
    try:
        assert tg.tensor([1.0]).dtype == tg.float64 and tg.zeros(2).dtype == tg.float64
        assert (tg.arange(2) * 1.5).dtype == tg.float64
    finally:
        tg.set_default_dtype(tg.float32)
    with pytest.raises(DtypeError, match="int64"):
        tg.set_default_dtype(tg.int64)


def test_tensor_copies_and_from_numpy_shares():
    a = np.ones(3, np.float32)
    copied, shared = tg.tensor(a), tg.from_numpy(a)
    a[0] = 5.0
    assert copied.tolist() == [1.0, 1.0, 1.0] and shared.tolist() == [5.0, 1.0, 1.0]
    assert tg.as_tensor(a).array is a and tg.as_tensor(shared) is shared
    shared += 1.0  # a new value; the array of the user stays
    assert a.tolist() == [5.0, 1.0, 1.0]


def test_creation():
    assert tg.zeros(2, 3).shape == (2, 3) == tg.ones((2, 3)).shape
    assert tg.full((2,), 7).tolist() == [7, 7] and tg.full((2,), 7).dtype == tg.int64
    assert tg.eye(2).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert tg.arange(1, 7, 2).tolist() == [1, 3, 5] and tg.arange(0, 1, 0.5).dtype == tg.float32
    assert tg.linspace(0, 1, 3).tolist() == [0.0, 0.5, 1.0]
    assert tg.logspace(0, 2, 3).tolist() == [1.0, 10.0, 100.0]
    x = tg.ones(2, dtype=tg.float64)
    assert tg.zeros_like(x).dtype == tg.float64 and tg.full_like(x, 3).tolist() == [3.0, 3.0]
    assert x.new_zeros(4).dtype == tg.float64 and tg.rand_like(x).shape == (2,)
    with pytest.raises(TinygradError, match="-1"):
        tg.zeros(-1)


def test_random_numbers_come_from_the_seed():
    tg.manual_seed(7)
    first = [tg.randn(3).tolist(), tg.rand(2).tolist(), tg.randint(10, (4,)).tolist(), tg.randperm(5).tolist()]
    tg.manual_seed(7)
    again = [tg.randn(3).tolist(), tg.rand(2).tolist(), tg.randint(10, (4,)).tolist(), tg.randperm(5).tolist()]
    assert first == again and sorted(first[3]) == [0, 1, 2, 3, 4]
    state = tg.get_rng_state()
    a = tg.randn(4).tolist()
    tg.set_rng_state(state)
    assert tg.randn(4).tolist() == a


def test_random_distributions():
    g = tg.Generator().manual_seed(0)
    x = tg.randn(20000, generator=g)
    assert abs(x.array.mean()) < 0.03 and abs(x.array.std() - 1) < 0.03
    u = tg.rand(20000, generator=g).array
    assert 0 <= u.min() and u.max() < 1 and abs(u.mean() - 0.5) < 0.01
    p = tg.full((20000,), 0.3)
    assert abs(tg.bernoulli(p, generator=g).array.mean() - 0.3) < 0.02
    for wrong in ((tg.tensor([math.nan]),), (tg.tensor([1.5]),), (p, -0.1)):
        with pytest.raises(ArgumentError, match="0 <= p <= 1"):
            tg.bernoulli(*wrong)
    weights = tg.tensor([0.0, 1.0, 3.0])
    drawn = tg.multinomial(weights, 20000, replacement=True, generator=g).array
    assert set(drawn) == {1, 2} and abs((drawn == 2).mean() - 0.75) < 0.02
    rows = tg.multinomial(tg.tensor([[1.0, 1.0, 0.0], [0.0, 5.0, 1.0]]), 2, generator=g)
    assert sorted(rows.array[0]) == [0, 1] and sorted(rows.array[1]) == [1, 2]
    with pytest.raises(TinygradError):
        tg.multinomial(tg.tensor([0.0, 1.0]), 2)
    z = tg.normal(10.0, tg.full((5000,), 2.0), generator=g)
    assert abs(z.array.mean() - 10) < 0.2


def test_to_python_and_numpy():
    x = tg.tensor([[1.5, 2.0]])
    assert x.tolist() == [[1.5, 2.0]] and x[0, 0].item() == 1.5 and float(x[0, 1]) == 2.0 and int(x[0, 1]) == 2
    assert x.numpy() is x.array and np.asarray(x).tolist() == [[1.5, 2.0]]
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    assert [1, 2, 3][tg.tensor(1)] == 2 and f"{tg.tensor(1.25):.1f}" == "1.2"
    with pytest.raises(UsageError):
        f"{tg.ones(2):.3f}"
    assert len(x) == 1 and [row.tolist() for row in x] == [[1.5, 2.0]] and 2.0 in x


def test_repr():
    assert repr(tg.tensor([1.0, 2.0])) == "tensor([1., 2.])"
    assert repr(tg.tensor([1], dtype=tg.int32)) == "tensor([1], dtype=int32)"
    assert repr(tg.tensor([1.0], requires_grad=True)) == "tensor([1.], requires_grad=True)"
    assert "grad_fn=<mul>" in repr(tg.tensor([1.0], requires_grad=True) * 2)
    assert repr(tg.nn.Parameter(tg.ones(1))).startswith("Parameter containing:\ntensor([1.]")
    assert "size=(0, 3)" in repr(tg.zeros(0, 3))


def test_copies_and_pickles():
    w = tg.nn.Parameter(tg.tensor([1.0, 2.0]))
    other = copy.deepcopy(w)
    assert isinstance(other, tg.nn.Parameter) and other.tolist() == w.tolist() and other.array is not w.array
    back = pickle.loads(pickle.dumps(w))
    assert isinstance(back, tg.nn.Parameter) and back.requires_grad and back.tolist() == [1.0, 2.0]
    with pytest.raises(GradientError, match="detach"):
        copy.deepcopy(w * 2.0)


def test_dlpack_with_numpy():
    x = tg.tensor([1.0, 2.0])
    view = np.from_dlpack(x)
    assert np.shares_memory(view, x.array)
    assert np.shares_memory(tg.from_dlpack(x.array).array, x.array)
    with pytest.raises(GradientError):
        np.from_dlpack(tg.tensor([1.0], requires_grad=True))


def test_an_array_on_the_left_leaves_the_work_to_the_tensor():
    a, x = np.array([1.0, 2.0], np.float32), tg.tensor([3.0, 4.0], requires_grad=True)
    for y, expected in [(a + x, [4.0, 6.0]), (a - x, [-2.0, -2.0]), (a * x, [3.0, 8.0]), (np.float32(2) * x, [6.0, 8.0])]:
        assert isinstance(y, tg.Tensor) and y.requires_grad and y.tolist() == expected
    assert (a < x).tolist() == [True, True]


# ---- bad input, in both languages

X = tg.ones(2, 3)
W = tg.tensor([1.0, 2.0], requires_grad=True)

FAULTS = {
    "constructor": (lambda: tg.Tensor([1.0, 2.0]), DtypeError, ["Tensor", "list"], [r"tg\.tensor"], [r"tg\.tensor"]),
    "broadcast": (
        lambda: X + tg.ones(4),
        ShapeError,
        [r"\(2, 3\)", r"\(4,\)", "add"],
        ["unsqueeze"],
        ["直し方", "ブロードキャスト"],
    ),
    "matmul": (lambda: X @ tg.ones(2, 3), ShapeError, [r"\(2, 3\) (and|と) \(2, 3\)", "matmul"], ["transpose"], ["規則"]),
    "matmul dtype": (
        lambda: X @ tg.ones(3, 2, dtype=tg.float64),
        DtypeError,
        ["float32 (and|と) float64"],
        ["x.to"],
        ["dtype"],
    ),
    "list operand": (lambda: X + [1, 2, 3], DtypeError, ["list", "add"], ["tg.tensor"], ["tg.tensor"]),
    "axis": (lambda: X.sum(dim=5), AxisError, [r"5", r"\(2, 3\)"], ["range"], ["範囲"]),
    "index": (lambda: X[7], AxisError, ["7", "2"], ["range"], ["範囲"]),
    "too many indices": (lambda: X[0, 0, 0], AxisError, [r"\(2, 3\)"], ["indices"], ["添字"]),
    "truth": (lambda: bool(X), UsageError, [r"\(2, 3\)"], ["any"], ["真偽"]),
    "numpy function": (lambda: np.tanh(X), UsageError, ["np.tanh"], ["tg.tanh"], ["tg.tanh"]),
    "numpy array function": (lambda: np.concatenate([X, X]), UsageError, ["np.concatenate"], ["tg.cat"], ["tg.cat"]),
    "item": (lambda: X.item(), UsageError, [r"\(2, 3\)"], ["reduce"], ["1 つ"]),
    "numpy of a gradient": (lambda: W.numpy(), GradientError, ["NumPy"], [r"detach\(\)"], [r"detach\(\)"]),
    "iterate 0-d": (lambda: list(tg.tensor(1.0)), UsageError, ["0-d|0 次元"], ["item"], ["item"]),
    "no such device": (lambda: tg.device("tpu"), DeviceError, ["tpu"], ["'cpu'"], ["'cpu'"]),
    "grad of an integer": (lambda: tg.tensor([1], requires_grad=True), DtypeError, ["int64"], ["float32"], ["浮動小数点"]),
    "leaf in place": (lambda: W.add_(1.0), GradientError, [r"\(2,\)"], ["no_grad"], ["no_grad"]),
    "non-scalar": (lambda: (W * 2.0).backward(), GradientError, [r"\(2,\)"], ["gradient="], ["スカラー"]),
    "assign shape": (lambda: X.clone().__setitem__(0, tg.ones(7)), ShapeError, [r"\(7,\)", r"\(3,\)"], ["broadcast"], ["代入"]),
    "dtype in place": (lambda: tg.arange(3).add_(0.5), DtypeError, ["float32", "int64"], ["in place"], ["上書き"]),
    "dropout p": (lambda: tg.nn.functional.dropout(X, 1.5), TinygradError, ["1.5"], ["Fix"], ["直し方"]),
}


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_explained_in_both_languages(name, language, monkeypatch):
    import re

    monkeypatch.setenv("TINYGRAD_JA_LANG", language)
    call, kind, facts, english, japanese = FAULTS[name]
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert re.match(r"\[TG-[A-Z]\d{3}\] ", message) and caught.value.code in message
    for pattern in facts + (english if language == "en" else japanese):
        assert re.search(pattern, message), f"{pattern!r} is missing in: {message}"
    assert ("Fix:" in message) == (language == "en") and ("直し方" in message) == (language == "ja")


def test_a_failed_operation_leaves_everything_as_it_was():
    x, w = tg.ones(2, 3), tg.tensor([1.0, 2.0], requires_grad=True)
    for call in (lambda: x.add_(tg.ones(5)), lambda: x.__setitem__((0, 9), 1.0), lambda: x.__setitem__(0, tg.ones(4))):
        with pytest.raises(TinygradError):
            call()
    assert x.tolist() == [[1.0] * 3] * 2
    with pytest.raises(TinygradError), tg.no_grad():
        w.mul_(tg.ones(3))
    assert w.tolist() == [1.0, 2.0] and w.grad is None


@pytest.mark.skipif(tg.cuda_is_available(), reason="says what happens where no GPU can be used")
def test_a_missing_gpu_says_which_part_is_missing():
    for use in (lambda: tg.zeros(2, device="cuda"), lambda: tg.ones(2).cuda(), lambda: tg.set_default_device("cuda")):
        with pytest.raises(DeviceError, match="TG-D00[234].*cuda"):
            use()
    assert str(tg.get_default_device()) == "cpu"


FOREIGN = {
    "other byte order": np.array([1.0, 2.0], ">f4"),
    "unpickled": pickle.loads(pickle.dumps(np.array([1.0, 2.0], np.float32))),
    "long long": np.array([1, 2], np.longlong),
}


@pytest.mark.parametrize("make", [tg.tensor, tg.as_tensor])
@pytest.mark.parametrize("kind", FOREIGN)
def test_every_way_to_write_a_dtype_becomes_the_usual_one(kind, make):
    x = make(FOREIGN[kind])
    assert x.dtype is np.dtype(x.dtype.name) and x.tolist() == [1, 2]
    usual = tg.tensor([3, 4], dtype=x.dtype)
    assert (x @ usual).item() == 11 and tg.cat([x, usual]).dtype is usual.dtype


@pytest.mark.parametrize("data", [np.array(["a"]), np.array([1j]), np.array([None])])
def test_what_is_no_number_is_refused(data):
    for make in (tg.tensor, tg.as_tensor):
        with pytest.raises(DtypeError):
            make(data)


def test_a_mask_cannot_take_integers_in_place():
    x = tg.tensor([True, False])
    with pytest.raises(DtypeError, match="int64.*bool"):
        x += 1


def test_a_result_on_the_tape_is_not_copied_or_pickled():
    y = tg.ones(2, requires_grad=True) * 2
    for call in (copy.deepcopy, pickle.dumps):
        with pytest.raises(GradientError, match="TG-G013.*'mul'"):
            call(y)


def test_a_tensor_is_cut_from_its_history_in_place() -> None:
    w = tg.ones(3, requires_grad=True)
    y = w * 2
    assert y.detach_() is y and not y.requires_grad and y.tolist() == [2.0] * 3
    (y * w).sum().backward()
    assert w.grad.tolist() == [2.0] * 3


def test_the_bytes_of_an_element() -> None:
    assert [tg.zeros(0, dtype=d).element_size() for d in (tg.float64, tg.float16, tg.int32, bool)] == [8, 2, 4, 1]
