"""What embeddings and bags of them promise."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the stand-in for CuPy
from tinygrad_ja.core.operator import OPERATORS
from tinygrad_ja.errors import ArgumentError, AxisError, DtypeError, ShapeError

F = tg.nn.functional


def test_the_gradient_by_frequency_is_the_mean_over_the_uses_of_a_row():
    w = tg.zeros(3, 2).requires_grad_()
    g = tg.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    (found,) = tg.grad((F.embedding(tg.tensor([1, 0, 1]), w, scale_grad_by_freq=True) * g).sum(), w)
    assert found.tolist() == [[3.0, 4.0], [3.0, 4.0], [0.0, 0.0]]
    y = F.embedding_bag(tg.tensor([[1, 0], [1, 1]]), w, mode="sum", scale_grad_by_freq=True)
    (found,) = tg.grad((y * g[:2]).sum(), w)  # row 1: once in the first bag, twice in the second, divided by 3
    np.testing.assert_allclose(found.numpy(), [[1.0, 2.0], [7 / 3, 10 / 3], [0.0, 0.0]], rtol=1e-6)


def test_only_rows_that_are_used_and_too_long_are_shortened():
    w = tg.nn.Parameter(tg.tensor([[3.0, 4.0], [0.3, 0.4], [30.0, 40.0]]))
    y = F.embedding(tg.tensor([0, 1]), w, max_norm=1.0)
    np.testing.assert_allclose(y.detach().numpy(), [[0.6, 0.8], [0.3, 0.4]], rtol=1e-5)
    np.testing.assert_allclose(w.detach().numpy(), [[0.6, 0.8], [0.3, 0.4], [30.0, 40.0]], rtol=1e-5)
    y.sum().backward()
    assert w.grad.tolist() == [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize("device", ["cpu", "strict"])
def test_bags_are_reductions_of_rows(device):
    table = np.random.default_rng(0).normal(size=(5, 3))
    numbers, offsets = np.array([0, 4, 4, 2, 1, 0]), np.array([0, 2, 2, 5])
    on = [tg.tensor(a, device=device) for a in (numbers, table, offsets)]
    bags = [numbers[0:2], numbers[2:2], numbers[2:5], numbers[5:6]]
    for mode, reduce in (("sum", np.sum), ("mean", np.mean), ("max", np.max)):
        expected = [reduce(table[bag], 0) if len(bag) else np.zeros(3) for bag in bags]
        np.testing.assert_allclose(F.embedding_bag(*on, mode=mode).cpu().numpy(), expected, rtol=1e-12)


def test_the_first_of_equal_rows_gets_the_gradient_of_the_largest():
    w = tg.ones(3, 1).requires_grad_()
    (g,) = tg.grad(F.embedding_bag(tg.tensor([[2, 0, 1]]), w, mode="max").sum(), w)
    assert g.tolist() == [[0.0], [0.0], [1.0]]


def test_second_derivatives_go_through_a_bag():
    w = tg.tensor([[1.0], [2.0]], dtype=np.float64, requires_grad=True)
    y = F.embedding_bag(tg.tensor([[0, 1, 1]]), w, mode="sum")  # w0 + 2 w1
    (first,) = tg.grad((y**3).sum(), w, create_graph=True)
    (second,) = tg.grad(first[1].sum(), w)  # d²(s³) = 6 s · 2 · (1, 2)
    assert second.tolist() == [[60.0], [120.0]]


def test_a_padding_row_of_a_layer_starts_at_zero_and_stays_there():
    for layer in (tg.nn.Embedding(4, 2, padding_idx=1), tg.nn.EmbeddingBag(4, 2, padding_idx=-3)):
        assert layer.padding_idx == 1 and layer.weight[1].tolist() == [0.0, 0.0]
        layer(tg.tensor([[1, 2, 1]])).sum().backward()
        assert layer.weight.grad[1].tolist() == [0.0, 0.0] and layer.weight.grad[2].tolist() != [0.0, 0.0]


W, N = tg.ones(3, 2), tg.tensor([0, 1])


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: F.embedding_bag(N, W, N[:1], mode="min"), ArgumentError, "'sum', 'mean' or 'max'"),
        (lambda: F.embedding_bag(N, W), ShapeError, "without offsets"),
        (lambda: F.embedding_bag(N.reshape(1, 2), W, N[:1]), ShapeError, "without offsets"),
        (lambda: F.embedding_bag(N.reshape(1, 1, 2), W), ShapeError, "without offsets"),
        (lambda: F.embedding_bag(N, W, tg.tensor([1])), ArgumentError, "begin with 0"),
        (lambda: F.embedding_bag(N, W, tg.tensor([0, 3])), ArgumentError, "end at most at 2"),
        (lambda: F.embedding_bag(N, W, tg.tensor([0, 2, 1])), ArgumentError, "never fall"),
        (lambda: F.embedding_bag(N, W, tg.tensor([]), mode="sum"), DtypeError, "an integer dtype"),
        (lambda: F.embedding_bag(N, W, N[:1], mode="max", scale_grad_by_freq=True), ArgumentError, "not with mode='max'"),
        (lambda: F.embedding_bag(N, W, N[:1], mode="max", sparse=True), ArgumentError, "sparse = True"),
        (lambda: F.embedding_bag(N, W, N[:1], per_sample_weights=tg.ones(2)), ArgumentError, "only with mode='sum'"),
        (lambda: F.embedding_bag(N, W, N[:1], mode="sum", per_sample_weights=tg.ones(1)), ShapeError, "the shape of input"),
        (lambda: F.embedding_bag(N + 2, W, N[:1]), AxisError, "index 3"),
        (lambda: F.embedding_bag(N, W, N[:1], padding_idx=3), AxisError, "TG-I002"),
        (lambda: F.embedding_bag(tg.ones(2), W, N[:1]), DtypeError, "an integer dtype"),
        (lambda: tg.nn.EmbeddingBag(3, 2, padding_idx=3), ArgumentError, "EmbeddingBag: padding_idx = 3"),
        (lambda: tg.nn.EmbeddingBag(3, 2, _weight=tg.ones(2, 2)), ShapeError, r"EmbeddingBag.*\(3, 2\)"),
        (lambda: tg.nn.EmbeddingBag.from_pretrained(tg.ones(2)), ShapeError, "EmbeddingBag.from_pretrained"),
    ],
)
def test_arguments_that_do_not_fit_are_explained(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


# ---- one table that is looked up several times ---------------------------------------------------


@pytest.mark.parametrize("padding", [None, 0, -1])
@pytest.mark.parametrize("count", [3, 400])
def test_gradients_of_several_looks_into_one_table_add_up(count: int, padding: int | None) -> None:
    """The rows of the later ones are added to the gradient of the first: many rows and few, some of them the same, some of padding."""
    rng = np.random.default_rng(0)
    table = tg.tensor(rng.normal(size=(50, 20)).astype(np.float32), requires_grad=True)
    looks = [rng.integers(0, 50, (count, 2)) for _ in range(3)]
    cotangents = [rng.normal(size=(count, 2, 20)).astype(np.float32) for _ in range(3)]
    loss = sum(
        [(F.embedding(tg.tensor(i), table, padding_idx=padding) * tg.tensor(g)).sum() for i, g in zip(looks, cotangents)]
    )
    loss.backward()
    expected = np.zeros((50, 20))
    for index, g in zip(looks, cotangents):
        np.add.at(expected, index, g)
    if padding is not None:
        expected[padding] = 0
    np.testing.assert_allclose(table.grad.numpy(), expected, rtol=1e-4, atol=1e-4)


def test_numbers_from_the_end_are_the_same_rows() -> None:
    table = tg.tensor(np.zeros((50, 20), np.float32), requires_grad=True)
    index = np.arange(400) % 50
    (table[tg.tensor(index)] + table[tg.tensor(np.where(index % 2 == 0, index - 50, index))]).sum().backward()
    np.testing.assert_array_equal(table.grad.numpy(), np.full((50, 20), 16.0))


def test_a_table_that_is_used_otherwise_as_well() -> None:
    """Whoever comes first: a gradient that somebody else holds is never added to."""
    rng = np.random.default_rng(0)
    values, index = rng.normal(size=(50, 20)).astype(np.float32), np.arange(400) % 50
    for order in itertools.permutations(range(3)):
        table = tg.tensor(values, requires_grad=True)
        other = tg.tensor(values, requires_grad=True)
        uses = [table[tg.tensor(index)].sum() * 2, (table + other).sum(), table[tg.tensor(index)].sum() * 3]
        (uses[order[0]] + uses[order[1]] + uses[order[2]]).backward()
        np.testing.assert_array_equal(table.grad.numpy(), np.full((50, 20), 41.0))
        np.testing.assert_array_equal(other.grad.numpy(), np.ones((50, 20)))


def test_hooks_keep_what_they_were_given() -> None:
    table = tg.tensor(np.zeros((50, 20), np.float32), requires_grad=True)
    seen: list[Any] = []
    table.register_hook(lambda g: seen.append(g.numpy().copy()))
    index = tg.tensor(np.arange(400) % 50)
    rows, again = table[index], table[index]
    rows.retain_grad()
    (rows + again * 2.0).sum().backward()
    np.testing.assert_array_equal(rows.grad.numpy(), np.ones((400, 20)))
    np.testing.assert_array_equal(seen, [np.full((50, 20), 24.0)])


def test_a_second_backward_through_the_same_graph() -> None:
    table = tg.tensor(np.zeros((50, 20), np.float32), requires_grad=True)
    index = tg.tensor(np.arange(400) % 50)
    y = (table[index] + table[index]).sum()
    (first,) = tg.autograd.grad(y, table, retain_graph=True)
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_array_equal(first.numpy(), np.full((50, 20), 16.0))
    np.testing.assert_array_equal(table.grad.numpy(), np.full((50, 20), 32.0))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "uint32"])
def test_numbers_of_few_bits(dtype: str) -> None:
    """Their products with the width of a row would not fit."""
    limit = min(int(np.iinfo(dtype).max), 399)
    index = tg.tensor((np.arange(400) * 7 % (limit + 1)).astype(dtype))
    for count in (3, 400):
        table = tg.tensor(np.zeros((400, 700), np.float32), requires_grad=True)
        (F.embedding(index[:count], table) + F.embedding(index[:count], table)).sum().backward()
        expected = np.bincount(index.numpy()[:count], minlength=400) * 2.0
        np.testing.assert_array_equal(table.grad.numpy(), np.repeat(expected[:, None], 700, 1))


def test_a_derivative_that_replaces_the_operators_own_is_asked_each_time() -> None:
    operator = OPERATORS["index_select"]
    own = operator.derivatives
    index = tg.tensor(np.arange(400) % 50)
    try:
        operator.replace_derivatives([lambda g, shape, dim, index, padding: own[0](g, shape, dim, index, padding) * 10.0])
        table = tg.tensor(np.zeros((50, 20), np.float32), requires_grad=True)
        (table[index] + table[index] + table[index]).sum().backward()
    finally:
        operator.replace_derivatives(own)
    np.testing.assert_array_equal(table.grad.numpy(), np.full((50, 20), 240.0))
