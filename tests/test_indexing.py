"""Indexing: reading and writing parts, repeated indices, and what a failure leaves behind."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, AxisError, DtypeError, GradientError, ShapeError, UsageError
from tinygrad_ja.kernels import numpy_indexing
from tinygrad_ja.ops import indexing, selection
from tinygrad_ja.ops.bag import embedding
from tinygrad_ja.ops.selection import one_hot


def leaf(*shape):
    return tg.arange(float(np.prod(shape)), dtype=tg.float64).reshape(*shape).requires_grad_()


# ---- reading -------------------------------------------------------------------------------------


def test_a_part_is_a_value():
    x = tg.tensor([1.0, 2.0, 3.0])
    y = x[0]
    y += 1.0
    z = x[1:]
    z[0] = 9.0
    assert x.tolist() == [1.0, 2.0, 3.0] and y.item() == 2.0 and y.shape == () and z.tolist() == [9.0, 3.0]


def test_repeated_indices_add_their_gradients():
    x = leaf(3)
    x[tg.tensor([0, 2, 0, 0])].backward(tg.tensor([1.0, 10.0, 100.0, 1000.0], dtype=tg.float64))
    assert x.grad.tolist() == [1101.0, 0.0, 10.0]


def test_repeated_pairs_of_indices_add_their_gradients():
    x = leaf(2, 3)
    x[[0, 1, 0], [2, 0, 2]].backward(tg.tensor([1.0, 2.0, 4.0], dtype=tg.float64))
    assert x.grad.tolist() == [[0.0, 0.0, 5.0], [2.0, 0.0, 0.0]]


def test_an_int_beside_indices_drops_its_axis_first_as_in_pytorch():
    x = tg.zeros(2, 3, 4)
    assert x[0, :, [1, 2]].shape == (3, 2)  # NumPy would give (2, 3)
    assert x[[0, 1], :, 1].shape == (2, 3)
    assert x[[0, 1], :, [1, 2]].shape == (2, 3)


def test_a_tensor_of_no_axes_is_an_index():
    x = leaf(3, 2)
    y = x[tg.tensor(1)]
    assert y.tolist() == [2.0, 3.0]
    y.backward(tg.ones(2, dtype=tg.float64))
    assert x.grad.tolist() == [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    assert x[np.int64(2), tg.tensor(0)].item() == 4.0


def test_an_empty_index_selects_nothing():
    x = leaf(3, 2)
    for part in (x[[]], x[tg.tensor([], dtype=tg.int64)], x[x < -1.0].reshape(0, 2), x[3:]):
        assert part.shape == (0, 2)
        (g,) = tg.grad(part, x, tg.zeros(0, 2, dtype=tg.float64))
        assert g.tolist() == [[0.0, 0.0]] * 3


def test_the_second_order_of_a_gather_of_rows():
    x = leaf(3)
    y = x[[1, 1, 2]]
    (g,) = tg.grad(y * y * y, x, tg.ones(3, dtype=tg.float64), create_graph=True)
    (h,) = tg.grad(g, x, tg.ones(3, dtype=tg.float64))
    assert g.tolist() == [0.0, 6.0, 12.0] and h.tolist() == [0.0, 12.0, 12.0]  # 2 * 3 x², 2 * 6 x at x = 1; 3 x², 6 x at x = 2


@pytest.mark.parametrize(
    "index, error, words",
    [
        (3, AxisError, r"TG-I002.*index 3.*size 3.*\(3, 4\)"),
        ((slice(None), -5), AxisError, r"TG-I002.*index -5.*size 4"),
        ((..., 4), AxisError, r"TG-I002.*index 4.*size 4"),
        (tg.tensor([0, 7]), AxisError, r"TG-I002.*index 7.*size 3"),
        ((slice(None), tg.tensor([0, 9])), AxisError, r"TG-I002.*index 9.*size 4"),
        ((tg.tensor([0, 1]), tg.tensor([0, -9])), AxisError, r"TG-I002.*index -9.*size 4"),
        ((0, 0, 0), AxisError, r"TG-I003.*3 indices for 2 axes"),
        ((..., 0, ...), AxisError, r"TG-I003.*more than one"),
        (slice(None, None, -1), AxisError, "TG-I003.*flip"),
        (1.0, AxisError, "TG-I003.*float"),
        ("a", AxisError, "TG-I003.*str"),
        (tg.tensor([0.0]), AxisError, "TG-I003.*float32"),
        (tg.tensor([True, False]), AxisError, r"TG-I003.*mask of shape \(2,\)"),
        ((tg.tensor([0, 1]), tg.tensor([0, 1, 2])), AxisError, r"TG-I003.*\(2,\) and \(3,\)"),
    ],
)
def test_a_bad_index_says_which_axis_and_why(index, error, words):
    x = tg.zeros(3, 4)
    with pytest.raises(error, match=words):
        x[index]
    with pytest.raises(error, match=words):
        x[index] = 1.0
    assert not x.array.any()


def test_a_scalar_cannot_be_indexed_by_a_number():
    with pytest.raises(UsageError, match="TG-U004"):
        tg.tensor(1.0)[0]


# ---- writing -------------------------------------------------------------------------------------


def test_writing_plain_data_changes_this_tensor_alone():
    x = tg.zeros(3)
    held, detached = x[...], x.detach()
    x[0] = 5
    assert x.tolist() == [5.0, 0.0, 0.0] and held.tolist() == detached.tolist() == [0.0, 0.0, 0.0]


def test_writing_in_a_loop_copies_once():
    x = tg.zeros(1000)
    x[0] = 1.0
    memory = x.array
    address = memory.ctypes.data
    del memory
    for i in range(10):
        x[i] = float(i)
    assert x.array.ctypes.data == address


def test_overlapping_parts_are_read_before_they_are_written():
    x = tg.arange(5.0)
    x[1:] = x[:-1]
    assert x.tolist() == [0.0, 0.0, 1.0, 2.0, 3.0]


def test_a_leaf_cannot_be_written_while_the_tape_records():
    x = leaf(3)
    for value in (1.0, tg.tensor(1.0, requires_grad=True)):
        with pytest.raises(GradientError, match="TG-G004"):
            x[0] = value
    assert x.tolist() == [0.0, 1.0, 2.0] and x.is_leaf


def test_a_leaf_is_written_under_no_grad_and_backward_notices():
    x = leaf(3)
    y = x * x
    with tg.no_grad():
        x[0] = 7.0
    assert x.tolist() == [7.0, 1.0, 2.0] and x.requires_grad and x.is_leaf
    with pytest.raises(GradientError, match="TG-G003"):
        y.backward(tg.ones(3, dtype=tg.float64))


def test_data_writes_through():
    x = leaf(2)
    x.data[1] = 9.0
    assert x.tolist() == [0.0, 9.0]


def test_gradients_go_to_the_value_in_the_part_and_to_the_rest_elsewhere():
    x, v = leaf(2, 2), tg.tensor([5.0, 6.0], dtype=tg.float64, requires_grad=True)
    y = x * 1.0
    y[1] = v
    y[0, 0] = 3.0
    y.backward(tg.tensor([[1.0, 2.0], [4.0, 8.0]], dtype=tg.float64))
    assert y.tolist() == [[3.0, 1.0], [5.0, 6.0]]
    assert x.grad.tolist() == [[0.0, 2.0], [0.0, 0.0]] and v.grad.tolist() == [4.0, 8.0]


def test_a_broadcast_value_receives_the_sum():
    v = tg.tensor([[2.0]], dtype=tg.float64, requires_grad=True)
    y = tg.zeros(3, dtype=tg.float64)
    y[1:] = v
    y.backward(tg.tensor([1.0, 2.0, 4.0], dtype=tg.float64))
    assert y.tolist() == [0.0, 2.0, 2.0] and v.grad.tolist() == [[6.0]]


def test_what_was_saved_before_a_write_stays_right():
    x = leaf(3)
    y = x * 2.0
    z = y * y
    y[0] = 100.0
    z.backward(tg.ones(3, dtype=tg.float64))
    assert x.grad.tolist() == [0.0, 8.0, 16.0]  # d(4 x²)/dx


def test_a_sequence_of_writes_is_a_recurrence_with_a_gradient():
    w = tg.tensor(2.0, dtype=tg.float64, requires_grad=True)
    h = tg.zeros(4, dtype=tg.float64)
    h[0] = w
    for t in range(1, 4):
        h[t] = h[t - 1] * w
    h[3].backward()
    assert h.tolist() == [2.0, 4.0, 8.0, 16.0] and w.grad.item() == 4 * 2.0**3


def test_the_second_order_of_a_write():
    v = tg.tensor([2.0, 3.0], dtype=tg.float64, requires_grad=True)
    y = tg.ones(3, dtype=tg.float64)
    y[[0, 2]] = v * v
    (g,) = tg.grad(y * y, v, tg.ones(3, dtype=tg.float64), create_graph=True)  # v⁴
    (h,) = tg.grad(g, v, tg.ones(2, dtype=tg.float64))
    assert g.tolist() == [32.0, 108.0] and h.tolist() == [48.0, 108.0]


def test_values_are_cast_to_the_tensor():
    x = tg.zeros(2, dtype=tg.int64)
    x[0] = 1.9
    x[1] = tg.tensor(2.5, requires_grad=True)
    assert x.tolist() == [1, 2] and x.dtype == tg.int64 and not x.requires_grad
    y = tg.zeros(2, dtype=tg.float32)
    v = tg.tensor(1.5, dtype=tg.float64, requires_grad=True)
    y[0] = v
    y.backward(tg.ones(2))
    assert y.dtype == tg.float32 and v.grad.dtype == tg.float64


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize(
    "index, value, error, words",
    [
        (0, (4,), ShapeError, r"TG-S005.*\(4,\).*\(3,\)"),
        (slice(1, None), (2, 2), ShapeError, "TG-S005"),
        (tg.tensor([0, 1]), (3, 3), ShapeError, "TG-S005"),
        ((0, tg.tensor([0, 1])), (3,), ShapeError, "TG-S005"),
        ((0, tg.tensor([0, 5])), (2,), AxisError, "TG-I002"),
        (5, (), AxisError, "TG-I002"),
    ],
)
def test_a_failed_write_leaves_the_tensor_as_it_was(recorded, index, value, error, words):
    x = leaf(2, 3) * 1.0 if recorded else tg.arange(6.0).reshape(2, 3)
    node = x.node
    with pytest.raises(error, match=words):
        x[index] = tg.ones(*value)
    assert x.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]] and x.node is node


def test_a_value_must_be_a_tensor_or_a_number():
    with pytest.raises(DtypeError, match="TG-T002"):
        tg.zeros(2)[0] = "a"


# ---- looking up ----------------------------------------------------------------------------------


def test_the_padding_row_of_an_embedding_receives_no_gradient():
    w = leaf(3, 2)
    y = embedding(tg.tensor([[0, 1], [1, 2]]), w, padding_idx=1)
    assert y.tolist() == [[[0.0, 1.0], [2.0, 3.0]], [[2.0, 3.0], [4.0, 5.0]]]
    y.backward(tg.ones(2, 2, 2, dtype=tg.float64))
    assert w.grad.tolist() == [[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]]


def test_the_second_order_of_an_embedding_with_padding():
    w = leaf(3, 1)
    y = embedding(tg.tensor([1, 1, 2]), w, padding_idx=2)
    (g,) = tg.grad(y * y * y, w, tg.ones(3, 1, dtype=tg.float64), create_graph=True)
    (h,) = tg.grad(g, w, tg.ones(3, 1, dtype=tg.float64))
    assert g.tolist() == [[0.0], [6.0], [0.0]] and h.tolist() == [[0.0], [12.0], [0.0]]


def test_one_hot_is_int64_and_finds_the_number_of_classes():
    y = one_hot(tg.tensor([[2], [0]]))
    assert y.dtype == tg.int64 and y.tolist() == [[[0, 0, 1]], [[1, 0, 0]]]
    assert one_hot(tg.tensor(1), 3).tolist() == [0, 1, 0] and one_hot(tg.zeros(0, dtype=tg.int64), 3).shape == (0, 3)


def test_masked_fill_of_minus_infinity_has_a_finite_gradient():
    x = leaf(3)
    x.masked_fill(tg.tensor([True, False, True]), float("-inf")).backward(tg.ones(3, dtype=tg.float64))
    assert x.grad.tolist() == [0.0, 1.0, 0.0]


def test_in_place_names_give_the_tensor_the_result():
    x = tg.zeros(3)
    x.index_add_(0, tg.tensor([0, 0]), tg.ones(2)).masked_fill_(x == 0.0, -1.0).scatter_(0, tg.tensor([2]), 5.0)
    assert x.tolist() == [2.0, -1.0, 5.0]


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda x: tg.gather(x, 1, tg.tensor([[4]])), AxisError, r"TG-I002.*index 4.*size 4"),
        (lambda x: tg.gather(x, 1, tg.tensor([[-1]])), AxisError, "TG-I002.*index -1"),
        (lambda x: tg.gather(x, 1, tg.tensor([1])), ShapeError, r"TG-S002.*\(3, 4\).*\(1,\)"),
        (lambda x: tg.gather(x, 1, tg.zeros(4, 1, dtype=tg.int64)), ShapeError, "TG-S002"),
        (lambda x: tg.gather(x, 1, tg.tensor([[0.0]])), DtypeError, "TG-T004"),
        (lambda x: tg.gather(x, 1, [[0]]), DtypeError, "TG-T002"),
        (lambda x: tg.scatter_add(x, 0, tg.tensor([[3]]), tg.ones(1, 1)), AxisError, "TG-I002"),
        (lambda x: tg.scatter_add(x, 0, tg.tensor([[1, 1]]), tg.ones(1, 1)), ShapeError, "TG-S002"),
        (lambda x: x.scatter(0, tg.tensor([[1]]), 1.0, reduce="max"), ArgumentError, "TG-A001"),
        (lambda x: x.index_select(1, tg.tensor([4])), AxisError, r"TG-I002.*index 4.*size 4"),
        (lambda x: x.index_select(1, tg.tensor([[0]])), ShapeError, "TG-S002"),
        (lambda x: x.index_add(0, tg.tensor([0]), tg.ones(2, 4)), ShapeError, "TG-S002"),
        (lambda x: x.index_add(0, tg.tensor([3]), tg.ones(1, 4)), AxisError, "TG-I002"),
        (lambda x: x.take(tg.tensor([12])), AxisError, "TG-I002"),
        (lambda x: x.masked_fill(x, 1.0), DtypeError, "TG-T004.*bool"),
        (lambda x: x.masked_fill(x > 0, tg.ones(2)), ShapeError, "TG-S002"),
        (lambda x: x.long().masked_fill(x > 0, 1.5), DtypeError, "TG-T006"),
        (lambda x: x.masked_select(tg.tensor([True, False])), ShapeError, "TG-S001"),
        (lambda x: embedding(tg.tensor([3]), x), AxisError, r"TG-I002.*index 3.*size 3"),
        (lambda x: embedding(tg.tensor([-1]), x), AxisError, "TG-I002.*index -1"),
        (lambda x: embedding(tg.tensor([0]), x, padding_idx=3), AxisError, "TG-I002"),
        (lambda x: one_hot(tg.tensor([3]), 3), AxisError, "TG-I002.*index 3"),
        (lambda x: one_hot(tg.zeros(0, dtype=tg.int64)), ArgumentError, "TG-A001"),
        (lambda x: x.narrow(1, 3, 2), ArgumentError, "TG-A001"),
        (lambda x: x.select(0, 3), AxisError, "TG-I002"),
        (lambda x: x.select_scatter(tg.ones(3), 0, 0), ShapeError, "TG-S005"),
    ],
)
def test_errors_name_the_rule_and_the_shapes(call, error, words):
    with pytest.raises(error, match=words):
        call(tg.zeros(3, 4))


# ---- faster kernels ------------------------------------------------------------------------------


def _kernel_cases():
    rng = np.random.default_rng(0)
    g = rng.normal(size=(60, 20))
    rows, columns = rng.integers(-40, 40, 60), rng.integers(-20, 20, (60, 1))
    picked = rng.integers(0, 30, (3, 7, 5))
    return [
        (indexing._add_at_zeros, (g, (40, 20), (rows,))),
        (indexing._add_at_zeros, (g, (40, 20), (rows[:, None], (columns + np.arange(20)) % 20 - 20))),
        (indexing._add_at_zeros, (g[:5], (9, 20), (slice(2, 7),))),
        (selection._add_slices, (g, (40, 20), 0, rows)),
        (selection._add_slices, (g, (40, 20), 0, rows % 40, 3)),
        (selection._add_slices, (g, (60, 7), 1, rng.integers(0, 7, 20), 0)),
        (selection._add_slices, (rng.normal(size=(4, 6, 7, 5)), (4, 9, 5), 1, rng.integers(0, 9, (6, 7)))),
        (selection._index_select, (g, 1, rng.integers(0, 20, (2, 3)))),
        (selection._scatter_zeros, (rng.normal(size=(3, 7, 5)), (4, 30, 5), 0, picked[..., :5] % 4)),
        (selection._scatter_zeros, (np.zeros((3, 0)), (2, 0), 0, np.zeros((3, 0), int))),
        (selection._scatter_zeros, (rng.normal(size=(3, 7, 5)), (4, 30, 5), 1, picked)),
    ]


@pytest.mark.parametrize("operator, arguments", _kernel_cases())
def test_the_numpy_kernels_agree_with_the_definitions(operator, arguments):
    fast = operator.operator.kernels[np.ndarray]
    assert fast.__module__ == numpy_indexing.__name__
    np.testing.assert_allclose(fast(*arguments), operator.operator.forward(np, *arguments), rtol=1e-13, atol=1e-13)


def test_a_0d_tensor_counts_as_one_slice():
    x, zero = tg.tensor(2.0), tg.tensor([0])
    assert x.index_add(0, zero, tg.tensor([3.0])).item() == 5.0
    assert x.index_copy(0, zero, tg.tensor([3.0])).item() == 3.0
    assert x.index_fill(-1, zero, 3.0).item() == 3.0
    assert x.gather(0, tg.tensor([0, 0])).tolist() == [2.0, 2.0]
    assert x.repeat_interleave(2, 0).tolist() == [2.0, 2.0]
    with pytest.raises(ShapeError, match="index_add"):
        x.index_add(0, zero, tg.tensor([[3.0]]))


def test_a_0d_index_is_one_slice():
    x = tg.tensor([1.0, 2.0])
    assert x.index_add(0, tg.tensor(1), tg.tensor([3.0])).tolist() == [1.0, 5.0]
    assert x.index_copy(0, tg.tensor(1), tg.tensor([3.0])).tolist() == [1.0, 3.0]


def test_index_fill_counts_negative_numbers_from_the_end():
    assert tg.zeros(3).index_fill(0, tg.tensor([-1, 0]), 1.0).tolist() == [1.0, 0.0, 1.0]
    with pytest.raises(AxisError, match="-4"):
        tg.zeros(3).index_fill(0, tg.tensor([-4]), 1.0)


def test_masked_fill_keeps_the_dtype_and_refuses_what_it_cannot_hold():
    assert tg.tensor([True, False]).masked_fill(tg.tensor([False, True]), 1).dtype == tg.bool
    small = tg.tensor([1, 2], dtype=tg.uint8)
    assert small.masked_fill(tg.tensor([True, False]), -1).tolist() == [255, 2]
    with pytest.raises(ArgumentError, match="value = 300"):
        small.masked_fill(tg.tensor([True, False]), 300)
