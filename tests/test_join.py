"""Joining, splitting and padding: one entry on the tape each, and errors that name the rule."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.core.below import nodes_below
from tinygrad_ja.errors import ArgumentError, AxisError, DtypeError, GradientError, ShapeError, UsageError
from tinygrad_ja.ops import join
from tinygrad_ja.ops.padding import pad


@pytest.mark.parametrize(
    "take_apart, put_together",
    [
        (lambda x: x.unbind(), lambda parts: tg.stack(parts)),
        (lambda x: x.unbind(-1), lambda parts: tg.stack(parts, -1)),
        (lambda x: x.split([1, 0, 2], 1), lambda parts: tg.cat(parts, 1)),
        (lambda x: x.chunk(3), lambda parts: tg.cat(parts)),
        (lambda x: x.tensor_split(2, -1), lambda parts: tg.cat(parts, -1)),
        (lambda x: x.hsplit((1,)), lambda parts: tg.hstack(parts)),
        (lambda x: x.vsplit(2), lambda parts: tg.vstack(parts)),
        (lambda x: tuple(x), lambda parts: tg.stack(parts)),
    ],
)
def test_what_was_taken_apart_goes_together_again(take_apart, put_together):
    x = tg.arange(12.0).reshape(4, 3).requires_grad_()
    y = put_together(take_apart(x))
    assert y.tolist() == x.tolist()
    u = tg.arange(12.0).reshape(4, 3) * 2.0
    y.backward(u)
    assert x.grad.tolist() == u.tolist()


def test_unbinding_time_steps_is_one_entry_on_the_tape():
    steps = 50
    x = tg.ones(steps, 3, requires_grad=True)
    total = sum(part for part in x)
    names = [node.name for node in nodes_below([total.node]).values()]
    assert names.count("unbind") == 1 and names.count("output") == steps
    total.backward(tg.ones(3))
    assert x.grad.tolist() == np.ones((steps, 3)).tolist()


def test_the_backward_of_unbind_runs_its_transpose_once():
    calls = []
    operator = join._unbind.operator
    before = operator.derivatives

    def count(g, dim):
        calls.append(len(g))
        return join._stack(*g, dim=dim)

    operator.replace_derivatives((count,))
    try:
        x = tg.ones(20, 2, requires_grad=True)
        tg.stack(x.unbind()).backward(tg.ones(20, 2))
    finally:
        operator.replace_derivatives(before)
    assert calls == [20]


def test_unused_parts_have_a_zero_gradient():
    x = tg.ones(6, requires_grad=True)
    x.split(2)[1].backward(tg.tensor([3.0, 4.0]))
    assert x.grad.tolist() == [0.0, 0.0, 3.0, 4.0, 0.0, 0.0]


def test_one_tensor_joined_with_itself_receives_both_gradients():
    x = tg.ones(2, requires_grad=True)
    tg.cat([x, x]).backward(tg.tensor([1.0, 2.0, 3.0, 4.0]))
    assert x.grad.tolist() == [4.0, 6.0]


def test_cat_gives_each_input_its_own_dtype_back():
    x = tg.ones(2, dtype=tg.float32, requires_grad=True)
    y = tg.ones(1, dtype=tg.float64, requires_grad=True)
    z = tg.cat([x, y, tg.tensor([1, 2])])
    assert z.dtype == tg.float64
    z.backward(tg.arange(5.0, dtype=tg.float64))
    assert x.grad.dtype == tg.float32 and x.grad.tolist() == [0.0, 1.0] and y.grad.tolist() == [2.0]


def test_the_second_order_of_a_split():
    x = tg.tensor([1.0, 2.0, 3.0], dtype=tg.float64, requires_grad=True)
    a, b = x.split([1, 2])
    y = a * b  # x0 x1, x0 x2
    (g,) = tg.grad(y, x, tg.ones(2, dtype=tg.float64), create_graph=True)
    assert g.tolist() == [5.0, 1.0, 1.0]
    (h,) = tg.grad(g, x, tg.tensor([1.0, 0.0, 0.0], dtype=tg.float64))
    assert h.tolist() == [0.0, 1.0, 1.0]


def test_block_diag_and_pad_stop_the_gradient_of_the_border():
    x = tg.ones(1, 2, requires_grad=True)
    tg.block_diag(tg.ones(1, 1), x).backward(tg.arange(6.0).reshape(2, 3))
    assert x.grad.tolist() == [[4.0, 5.0]]
    y = tg.ones(2, requires_grad=True)
    pad(y, (1, 1), value=5.0).backward(tg.arange(4.0))
    assert y.grad.tolist() == [1.0, 2.0]


def test_reflected_elements_add_their_gradients():
    x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = pad(x, (2, 1), mode="reflect")
    assert y.tolist() == [3.0, 2.0, 1.0, 2.0, 3.0, 2.0]
    y.backward(tg.tensor([1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0]))
    assert x.grad.tolist() == [100.0, 101010.0, 10001.0]


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda x: tg.cat([]), ArgumentError, "TG-A001.*at least one"),
        (lambda x: tg.cat([x, tg.zeros(2, 2)]), ShapeError, r"TG-S002.*\(2, 3\) and \(2, 2\)"),
        (lambda x: tg.cat([x, x[0]], 1), ShapeError, "TG-S002.*number of axes"),
        (lambda x: tg.cat([tg.tensor(1.0)]), ShapeError, "TG-S002.*stack"),
        (lambda x: tg.cat([x], 2), AxisError, "TG-I001"),
        (lambda x: tg.cat([x, [1.0]]), DtypeError, "TG-T002"),
        (lambda x: tg.stack([x, tg.zeros(2, 2)]), ShapeError, "TG-S002"),
        (lambda x: tg.stack([x, tg.zeros(2, 2)], 1), ShapeError, "TG-S002"),
        (lambda x: tg.stack([x], 3), AxisError, "TG-I001"),
        (lambda x: x.split([1, 2]), ArgumentError, r"TG-A001.*sum to 2.*\(2, 3\)"),
        (lambda x: x.split(0), ArgumentError, "TG-A001"),
        (lambda x: x.chunk(0), ArgumentError, "TG-A001"),
        (lambda x: x.hsplit(2), ArgumentError, "TG-A001.*divides 3"),
        (lambda x: x[0].vsplit(1), ShapeError, "TG-S002"),
        (lambda x: x.sum().unbind(), UsageError, "TG-U004"),
        (lambda x: tg.combinations(x), ShapeError, "TG-S002"),
        (lambda x: tg.meshgrid(x, indexing="yx"), ArgumentError, "TG-A001"),
        (lambda x: pad(x, (1,)), ArgumentError, "TG-A001"),
        (lambda x: pad(x, (-2, -2)), ArgumentError, "TG-A001"),
        (lambda x: pad(x, (3, 0), mode="reflect"), ArgumentError, "TG-A001.*at most 2"),
        (lambda x: pad(x, (4, 0), mode="circular"), ArgumentError, "TG-A001.*at most 3"),
        (lambda x: pad(x, (1, 0), mode="mirror"), ArgumentError, "TG-A001"),
    ],
)
def test_errors_name_the_rule_and_the_shapes(call, error, words):
    with pytest.raises(error, match=words):
        call(tg.zeros(2, 3))


def test_a_part_without_a_history_has_no_gradient():
    with pytest.raises(GradientError, match="TG-G005"):
        tg.zeros(4).split(2)[0].backward(tg.ones(2))
