"""Shape, rearranging, diagonal and conversion operators: what they promise beyond their values (those are in tests/parity)."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, AxisError, DeviceError, ShapeError
from tinygrad_ja.kernels import numpy_shape
from tinygrad_ja.ops import conversion, join, rearrange, shape


def gradient(function, *arrays, cotangent=None):
    """Gradients of ``sum(cotangent * function(*arrays))``; without a cotangent, of the plain sum."""
    xs = [tg.tensor(a, dtype=tg.float64).requires_grad_() for a in arrays]
    y = function(*xs)
    u = np.ones(y.shape) if cotangent is None else cotangent
    return [None if g is None else g.tolist() for g in tg.grad(y, xs, tg.tensor(u, dtype=tg.float64), allow_unused=True)]


# ---- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.reshape(4),
        lambda x: x.view(4, 1),
        lambda x: x.T,
        lambda x: x.transpose(0, 1),
        lambda x: x.flatten(),
        lambda x: x.unsqueeze(0),
        lambda x: x.expand(2, 2, 2),
        lambda x: x.expand(100, 100, 2, 2),
        lambda x: x.diagonal(),
        lambda x: x.flip(0),
        lambda x: x.unbind()[0],
        lambda x: x.chunk(2)[1],
    ],
)
def test_a_tensor_is_a_value_so_changing_a_view_leaves_the_original(view):
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]])
    y = view(x)
    y += 10.0
    y[0] = 7.0
    assert x.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    x[...] = 0.0
    assert 0.0 not in y


def test_sizes_may_be_numbers_or_one_tuple():
    x = tg.zeros(2, 6)
    assert x.view(3, 4).shape == x.view((3, 4)).shape == x.reshape([3, 4]).shape == (3, 4)
    assert x.permute(1, 0).shape == x.permute((1, 0)).shape == (6, 2)
    assert tg.zeros(2, 1).expand(2, 3).shape == tg.zeros(2, 1).expand((2, 3)).shape == (2, 3)


def test_zero_sized_axes_keep_their_place():
    x = tg.zeros(0, 3)
    assert x.reshape(3, 0).shape == (3, 0) and x.T.shape == (3, 0) and x.flatten().shape == (0,)
    assert x.repeat(2, 2).shape == (0, 6) and x.roll(1, 0).shape == (0, 3) and x.sum_to_size(1, 3).tolist() == [[0.0] * 3]
    assert tg.diag(tg.zeros(0)).shape == (0, 0) and x.unflatten(0, (2, 0)).shape == (2, 0, 3)


def test_scalars_have_dims_minus_one_and_zero():
    x = tg.tensor(5.0)
    assert x.flatten().shape == (1,) and x.squeeze(0).shape == () and x.unsqueeze(-1).shape == (1,)
    assert x.transpose(0, -1).tolist() == 5.0 and x.reshape(()).shape == ()


# ---- gradients -----------------------------------------------------------------------------------


def test_the_gradient_of_expand_sums_over_the_copies():
    assert gradient(lambda x: x.expand(3, 2, 4), [[1.0], [2.0]]) == [[[12.0], [12.0]]]


def test_the_gradient_of_a_permutation_is_the_inverse_permutation():
    u = np.arange(24.0).reshape(4, 2, 3)
    (g,) = gradient(lambda x: x.permute(2, 0, 1), np.zeros((2, 3, 4)), cotangent=u)
    assert g == u.transpose(1, 2, 0).tolist()


def test_the_gradient_of_repeat_interleave_counts():
    assert gradient(lambda x: x.repeat_interleave(tg.tensor([2, 0, 3])), [1.0, 2.0, 3.0]) == [[2.0, 0.0, 3.0]]


def test_the_gradient_of_tril_is_zero_above_the_diagonal():
    assert gradient(lambda x: x.tril(), np.ones((2, 2))) == [[[1.0, 0.0], [1.0, 1.0]]]


def test_second_order_goes_through_views():
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=tg.float64, requires_grad=True)
    y = x.T.reshape(4).flip(0).expand(2, 4)
    (g,) = tg.grad(y * y * y, x, tg.ones(2, 4, dtype=tg.float64), create_graph=True)
    (h,) = tg.grad(g, x, tg.ones(2, 2, dtype=tg.float64))
    assert g.tolist() == (6 * x.detach() ** 2).tolist() and h.tolist() == (12 * x.detach()).tolist()


# ---- faster kernels ------------------------------------------------------------------------------

CASES = [
    (shape._expand, (np.ones((3, 1)), (2, 3, 4))),
    (shape._expand, (np.ones(()), (200, 100))),
    (shape._expand, (np.ones((1, 3)), (0, 3))),
    (shape._sum_to_size, (np.arange(24.0).reshape(2, 3, 4), (3, 1))),
    (shape._sum_to_size, (np.arange(24.0).reshape(2, 3, 4), (4,))),
    (shape._sum_to_size, (np.arange(24.0).reshape(2, 3, 4), ())),
    (shape._sum_to_size, (np.arange(24.0).reshape(2, 3, 4), (2, 3, 1))),
    (rearrange._roll, (np.arange(24.0).reshape(2, 3, 4), (5, -1), (-1, 0))),
    (join._unbind, (np.arange(24.0).reshape(2, 3, 4), -2)),
]


@pytest.mark.parametrize("operator, arguments", CASES)
def test_the_numpy_kernels_agree_with_the_definitions(operator, arguments):
    fast = operator.operator.kernels[np.ndarray]
    assert fast.__module__ == numpy_shape.__name__
    assert np.array_equal(fast(*arguments), operator.operator.forward(np, *arguments))


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
def test_the_numpy_kernel_of_stack_agrees_with_its_definition(dim):
    arrays = [np.arange(6.0).reshape(2, 3) + i for i in range(4)]
    fast = join._stack.operator.kernels[np.ndarray]
    assert fast is numpy_shape.stack_numpy and np.array_equal(fast(*arrays, dim=dim), np.stack(arrays, dim))


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda x: x.reshape(4, 2), ShapeError, r"TG-S002.*\(2, 3\).*6 elements.*\(4, 2\)"),
        (lambda x: x.view(-1, -1), ShapeError, "TG-S002"),
        (lambda x: x.unflatten(1, (2, 2)), ShapeError, "TG-S002"),
        (lambda x: x.expand(4, 3), ShapeError, r"TG-S002.*\(2, 3\) to \(4, 3\)"),
        (lambda x: x.expand(3), ShapeError, "TG-S002"),
        (lambda x: x.sum_to_size(5), ShapeError, "TG-S002"),
        (lambda x: x.transpose(0, 2), AxisError, r"TG-I001.*dim 2.*\(2, 3\)"),
        (lambda x: x.unsqueeze(3), AxisError, "TG-I001"),
        (lambda x: x.squeeze(-3), AxisError, "TG-I001"),
        (lambda x: x.flatten(1, 0), ArgumentError, "TG-A001"),
        (lambda x: x.permute(0), ArgumentError, "TG-A001.*2 axes"),
        (lambda x: x.permute(0, 0), ArgumentError, "TG-A001.*once"),
        (lambda x: x.movedim((0, 1), 0), ArgumentError, "TG-A001"),
        (lambda x: x.flip(0, -2), ArgumentError, "TG-A001"),
        (lambda x: x.roll((1, 2), 0), ArgumentError, "TG-A001"),
        (lambda x: x.repeat(2), ArgumentError, "TG-A001"),
        (lambda x: x.repeat_interleave(tg.tensor([1, 2, 3]), dim=0), ArgumentError, "TG-A001.*2 slices"),
        (lambda x: x.unsqueeze(0).t(), ShapeError, "TG-S002"),
        (lambda x: x[0].mT, ShapeError, "TG-S002"),
        (lambda x: x[0].tril(), ShapeError, "TG-S002"),
        (lambda x: x.diagonal(0, 1, -1), ArgumentError, "TG-A001"),
        (lambda x: x[0].fliplr(), ShapeError, "TG-S002"),
        (lambda x: tg.broadcast_shapes((2,), (3,)), ShapeError, "TG-S001"),
    ],
)
def test_errors_name_the_rule_and_the_shapes(call, error, words):
    with pytest.raises(error, match=words):
        call(tg.zeros(2, 3))


# ---- conversion ----------------------------------------------------------------------------------


def test_to_returns_the_tensor_itself_when_nothing_changes():
    x = tg.ones(2)
    assert x.to(tg.float32) is x and x.float() is x and x.cpu() is x and x.contiguous() is x and x.to("cpu", tg.float32) is x
    copied = x.to(tg.float32, copy=True)
    assert copied is not x and not np.shares_memory(copied.array, x.array)


def test_to_reads_dtype_device_and_other_tensors():
    x = tg.ones(2)
    assert x.to("cpu", tg.float64).dtype == tg.float64
    assert x.to(dtype=np.float16).dtype == tg.float16
    assert x.to(tg.zeros(1, dtype=tg.int64)).dtype == tg.int64
    assert x.type_as(tg.zeros(1, dtype=tg.float64)).dtype == tg.float64


def test_the_gradient_comes_back_in_the_dtype_of_the_input():
    x = tg.tensor([1.0, 2.0], dtype=tg.float32, requires_grad=True)
    (x.double() * 3.0).backward(tg.ones(2, dtype=tg.float64))
    assert x.grad.dtype == tg.float32 and x.grad.tolist() == [3.0, 3.0]


def test_an_integer_has_no_gradient():
    x = tg.tensor([1.5, -1.5], requires_grad=True)
    assert x.long().tolist() == [1, -1] and not x.long().requires_grad and not x.bool().requires_grad


def test_clone_has_memory_of_its_own_and_passes_gradients():
    x = tg.ones(2, requires_grad=True)
    y = x.clone()
    assert not np.shares_memory(x.array, y.array)
    y.backward(tg.tensor([1.0, 2.0]))
    assert x.grad.tolist() == [1.0, 2.0]


def test_contiguous_copies_a_transpose():
    x = tg.zeros(2, 3).T
    assert not x.is_contiguous() and x.contiguous().is_contiguous() and x.contiguous().shape == (3, 2)


def test_a_move_is_differentiated_by_the_move_back():
    operator = conversion._to_device.operator
    assert operator.kind == "linear" and gradient(lambda x: conversion._to_device(x, tg.device("cpu")), [1.0]) == [[1.0]]


@pytest.mark.skipif(tg.cuda_is_available(), reason="there is a GPU")
def test_a_missing_gpu_explains_itself():
    with pytest.raises(DeviceError, match="TG-D00[234]"):
        tg.ones(1).cuda()
