"""Embeddings and bags of them beside PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from parity.beside_torch import OURS, THEIRS, compare, random

TABLE = random(7, 3)
NUMBERS = np.array([[1, 2, 1], [5, 6, 1]])


@pytest.mark.parametrize("padding_idx", [None, 1, -2])
@pytest.mark.parametrize("scale_grad_by_freq", [False, True])
@pytest.mark.parametrize("shape", [(6,), (2, 3), (), (0,), (1, 6, 1)])
def test_rows_of_a_table(padding_idx, scale_grad_by_freq, shape):
    numbers = NUMBERS.reshape(-1)[: int(np.prod(shape))].reshape(shape)
    options = {"padding_idx": padding_idx, "scale_grad_by_freq": scale_grad_by_freq}
    compare(lambda s, i, w: s.F.embedding(i, w, **options), numbers, TABLE)
    compare(lambda s, i, w: s.F.embedding(i, w, **options), numbers.astype(np.int32), TABLE.astype(np.float32), rtol=1e-6)


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0])
def test_rows_that_are_too_long_are_shortened_in_place(norm_type):
    results = []
    for side in (OURS, THEIRS):
        weight = side.tensor(TABLE * 3).requires_grad_()
        y = side.F.embedding(side.tensor(NUMBERS), weight, max_norm=1.0, norm_type=norm_type)
        (y * y).sum().backward()
        results.append([y.detach().numpy(), weight.detach().numpy(), weight.grad.numpy()])
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


MODES = ["sum", "mean", "max"]
OFFSETS = [[0], [0, 2, 5], [0, 0, 3, 3], [0, 6], [0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_idx", [None, 1, -2])
@pytest.mark.parametrize("offsets", OFFSETS)
@pytest.mark.parametrize("last", [False, True])
def test_bags_by_offset(mode, padding_idx, offsets, last):
    if last:
        offsets = [*offsets, 6]
    call = lambda s, i, w, o: s.F.embedding_bag(i, w, o, mode=mode, padding_idx=padding_idx, include_last_offset=last)  # noqa: E731
    compare(call, NUMBERS.reshape(-1), TABLE, np.array(offsets))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_idx", [None, 1])
def test_bags_of_one_length(mode, padding_idx):
    compare(lambda s, i, w: s.F.embedding_bag(i, w, mode=mode, padding_idx=padding_idx), NUMBERS, TABLE)
    same = np.repeat(TABLE[:1], 7, 0)
    compare(lambda s, i, w: s.F.embedding_bag(i, w, mode=mode), NUMBERS, same)  # ties
    compare(lambda s, i, w: s.F.embedding_bag(i, w, mode=mode), NUMBERS, TABLE.astype(np.float32), rtol=1e-6, atol=1e-6)


def test_weights_of_the_samples():
    weights = random(2, 3, seed=3)
    compare(lambda s, i, w, p: s.F.embedding_bag(i, w, mode="sum", per_sample_weights=p), NUMBERS, TABLE, weights)
    call = lambda s, i, w, o, p: s.F.embedding_bag(i, w, o, mode="sum", per_sample_weights=p)  # noqa: E731
    compare(call, NUMBERS.reshape(-1), TABLE, np.array([0, 2]), weights.reshape(-1))


def test_no_numbers():
    for mode in MODES:
        call = lambda s, i, w, o, mode=mode: s.F.embedding_bag(i, w, o, mode=mode)  # noqa: E731
        compare(call, np.zeros(0, np.int64), TABLE, np.array([0, 0]), gradients=False)
        compare(call, np.zeros(0, np.int64), TABLE, np.zeros(0, np.int64), gradients=False)


@pytest.mark.parametrize(
    ("kind", "args", "kwargs"),
    [
        ("Embedding", (7, 3), {}),
        ("Embedding", (7, 3, -1, 1.0, 3.0, True, False), {}),
        ("Embedding", (7, 3), {"max_norm": 0.5}),
        ("EmbeddingBag", (7, 3), {}),
        ("EmbeddingBag", (7, 3, 1.0, 3.0, False, "sum", False, None, False, -1), {}),
        ("EmbeddingBag", (7, 3), {"mode": "max", "padding_idx": 1}),
    ],
)
def test_layers(kind, args, kwargs):
    layers = [getattr(side.m.nn, kind)(*args, **kwargs) for side in (OURS, THEIRS)]
    assert repr(layers[0]) == repr(layers[1]) and list(layers[0].state_dict()) == list(layers[1].state_dict())
    results = []
    for side, layer in zip((OURS, THEIRS), layers):
        layer.weight.data = side.tensor(TABLE.astype(np.float32))
        y = layer(side.tensor(NUMBERS))
        (y * y).sum().backward()
        results.append([y.detach().numpy(), layer.weight.grad.numpy()])
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["Embedding", "EmbeddingBag"])
@pytest.mark.parametrize("freeze", [True, False])
def test_tables_made_before(kind, freeze):
    made = [getattr(side.m.nn, kind).from_pretrained(side.tensor(TABLE), freeze, padding_idx=2) for side in (OURS, THEIRS)]
    assert repr(made[0]) == repr(made[1])
    assert made[0].weight.requires_grad is made[1].weight.requires_grad is (not freeze)
    np.testing.assert_array_equal(made[0].weight.detach().numpy(), TABLE)
