"""Negative sampling, Huffman trees and hierarchical softmax."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the device
from tinygrad_ja import nn
from tinygrad_ja.errors import ArgumentError, AxisError, DeviceError, ShapeError
from tinygrad_ja.nn import functional as F
from tinygrad_ja.testing import gradcheck

RNG = np.random.default_rng(0)


def double(*shape):
    return tg.tensor(RNG.normal(size=shape), dtype=tg.float64, requires_grad=True)


def log_sigmoid(x):
    return -np.log1p(np.exp(-x))


# ---- negative sampling ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_negative_sampling_by_its_formula(shape, count):
    v, u = double(*shape, 6), double(10, 6)
    target, negative = RNG.integers(0, 10, shape), RNG.integers(0, 10, (*shape, count))
    loss = F.negative_sampling_loss(v, tg.tensor(target), tg.tensor(negative), u, "none")
    x, y = v.detach().numpy(), u.detach().numpy()
    expected = -log_sigmoid((x * y[target]).sum(-1)) - log_sigmoid(-(x[..., None, :] * y[negative]).sum(-1)).sum(-1)
    np.testing.assert_allclose(loss.detach().numpy(), expected, rtol=1e-12)
    assert F.negative_sampling_loss(v, tg.tensor(target), tg.tensor(negative), u).item() == pytest.approx(expected.mean())


def test_the_gradient_of_negative_sampling_adds_up_for_repeated_words():
    target, negative = tg.tensor([3, 3]), tg.tensor([[3, 1, 1], [0, 3, 2]])
    v, u = double(2, 4), double(5, 4)
    assert gradcheck(lambda v, u: F.negative_sampling_loss(v, target, negative, u), (v, u))
    F.negative_sampling_loss(v, target, negative, u).backward()
    assert (u.grad.numpy()[4] == 0).all()


def test_scores_of_any_size_are_finite():
    v, u = tg.full((1, 1), 1e4, requires_grad=True), tg.tensor([[1.0], [-1.0]])
    loss = F.negative_sampling_loss(v, tg.tensor([1]), tg.tensor([[0]]), u)
    loss.backward()
    assert loss.item() == 2e4
    assert v.grad.tolist() == [[2.0]]


def test_negative_samplings_shapes_and_words_are_checked():
    v, u = tg.zeros(3, 4), tg.zeros(5, 4)
    for target, negative, weight in [
        (tg.zeros(2, dtype=tg.int64), tg.zeros(3, 2, dtype=tg.int64), u),
        (tg.zeros(3, dtype=tg.int64), tg.zeros(2, dtype=tg.int64), u),
        (tg.zeros(3, dtype=tg.int64), tg.zeros(3, 2, dtype=tg.int64), tg.zeros(5, 3)),
    ]:
        with pytest.raises(ShapeError, match=r"input \(..., D\), target \(...\), negative \(..., K\), weight \(V, D\)"):
            F.negative_sampling_loss(v, target, negative, weight)
    with pytest.raises(AxisError):
        F.negative_sampling_loss(v, tg.tensor([0, 1, 5]), tg.zeros(3, 2, dtype=tg.int64), u)


def test_words_are_drawn_by_their_counts_to_the_power():
    counts, draws = np.array([50.0, 0.0, 10.0, 1.0]), 200_000
    layer = nn.NegativeSampling(2, counts, generator=tg.Generator().manual_seed(0))
    drawn = np.bincount(layer.sample((draws,)).numpy(), minlength=4) / draws
    expected = counts**0.75 / (counts**0.75).sum()
    assert drawn[1] == 0
    np.testing.assert_allclose(drawn, expected, atol=5 * 0.5 / math.sqrt(draws))


def test_without_one_word_the_others_keep_their_shares():
    counts, draws = np.array([50.0, 20.0, 10.0, 1.0]), 200_000
    layer = nn.NegativeSampling(2, counts, power=1.0, generator=tg.Generator().manual_seed(1))
    for word in range(4):
        drawn = np.bincount(layer.sample((draws,), tg.tensor(word)).numpy(), minlength=4) / draws
        expected = np.where(np.arange(4) == word, 0.0, counts)
        assert drawn[word] == 0
        np.testing.assert_allclose(drawn, expected / expected.sum(), atol=5 * 0.5 / math.sqrt(draws))


def test_a_word_that_is_nearly_always_right_is_never_drawn_against_itself():
    layer = nn.NegativeSampling(1, [1e12, 1.0], power=1.0)
    assert (layer.sample((1000, 5), tg.zeros(1000, 1, dtype=tg.int64)).numpy() == 1).all()
    assert (layer.sample((1000, 5), tg.ones(1000, 1, dtype=tg.int64)).numpy() == 0).all()


def test_draws_come_from_the_seed():
    layer = nn.NegativeSampling(4, np.arange(1, 100))
    made = []
    for _ in range(2):
        tg.manual_seed(7)
        made.append(layer.sample((20,)).tolist())
    assert made[0] == made[1]
    own = nn.NegativeSampling(4, np.arange(1, 100), generator=tg.Generator().manual_seed(7))
    assert own.sample((20,)).tolist() == made[0]
    with pytest.raises(DeviceError, match="TG-D007"):
        own.to("strict").sample((20,))


def test_negative_sampling_learns_which_words_come_together():
    tg.manual_seed(0)
    words = nn.Embedding(4, 8)
    layer = nn.NegativeSampling(8, [1, 1, 1, 1], num_negatives=3)
    optimizer = tg.optim.Adam([*words.parameters(), *layer.parameters()], lr=0.1)
    center, context = tg.tensor([0, 1, 2, 3]), tg.tensor([1, 0, 3, 2])
    for _ in range(60):
        optimizer.zero_grad()
        layer(words(center), context).backward()
        optimizer.step()
    scores = (words.weight @ layer.weight.T).detach()
    assert scores.argmax(1).tolist() == context.tolist()


def test_the_state_of_negative_sampling_holds_vectors_and_counts():
    layer, other = nn.NegativeSampling(3, [5, 1, 1]), nn.NegativeSampling(3, [1, 1, 1])
    assert list(layer.state_dict()) == ["weight", "ends"]
    assert layer.weight.shape == (3, 3) and (layer.weight.detach().numpy() == 0).all()
    other.load_state_dict(layer.state_dict())
    assert other.ends.tolist() == layer.ends.tolist()
    assert repr(layer) == "NegativeSampling(3, words=3, num_negatives=5, power=0.75, exclude_target=True)"


@pytest.mark.parametrize("counts", [[1.0], [1.0, 0.0], [1.0, -1.0], [[1.0, 2.0]], [1.0, math.nan]])
def test_counts_that_leave_nothing_to_draw_are_refused(counts):
    with pytest.raises(ArgumentError, match="NegativeSampling: counts"):
        nn.NegativeSampling(3, counts)


# ---- trees ---------------------------------------------------------------------------------------


def test_the_tree_of_huffmans_paper():
    counts = [0.20, 0.18, 0.10, 0.10, 0.10, 0.06, 0.06, 0.04, 0.04, 0.04, 0.04, 0.03, 0.01]
    tree = nn.HuffmanTree(counts)
    mean = sum(p * len(tree.code(word)) for word, p in enumerate(counts))
    assert mean == pytest.approx(3.42)  # table I of Huffman, 1952


@pytest.mark.parametrize("words", [1, 2, 3, 10, 100])
def test_no_code_begins_another_and_all_ways_are_used(words):
    tree = nn.HuffmanTree(RNG.integers(0, 50, words))
    codes = [tree.code(word) for word in range(words)]
    assert sum(2.0 ** -len(code) for code in codes) == 1.0  # Kraft's equality
    assert len(set(codes)) == words
    assert not any(a != b and b.startswith(a) for a in codes for b in codes)
    used = {int(node) for path, sign in zip(tree.path, tree.sign) for node in path[sign != 0]}
    assert used == set(range(words - 1))


def test_the_length_of_a_code_is_that_of_the_best_tree():
    counts = RNG.integers(1, 1000, 200)
    tree = nn.HuffmanTree(counts)
    heap, cost = sorted(counts.tolist()), 0
    while len(heap) > 1:  # the cost of the best tree: the sum of all merged weights
        merged = heap[0] + heap[1]
        heap, cost = sorted([*heap[2:], merged]), cost + merged
    assert sum(int(c) * len(tree.code(word)) for word, c in enumerate(counts)) == cost


def test_a_tree_needs_a_word():
    for counts in ([], [-1.0, 2.0], [[1.0]]):
        with pytest.raises(ArgumentError, match="HuffmanTree: counts"):
            nn.HuffmanTree(counts)


# ---- hierarchical softmax ------------------------------------------------------------------------


@pytest.mark.parametrize("words", [1, 2, 3, 17])
def test_the_probabilities_of_all_words_sum_to_one(words):
    layer = nn.HierarchicalSoftmax(4, RNG.integers(1, 30, words), dtype=tg.float64)
    layer.weight = nn.Parameter(double(words - 1, 4).detach())
    x = double(2, 3, 4)
    log_prob = layer.log_prob(x)
    assert log_prob.shape == (2, 3, words)
    np.testing.assert_allclose(log_prob.exp().sum(-1).detach().numpy(), 1.0, rtol=1e-12)
    target = RNG.integers(0, words, (2, 3))
    layer.reduction = "none"
    picked = np.take_along_axis(log_prob.detach().numpy(), target[..., None], -1)[..., 0]
    np.testing.assert_allclose(layer(x, tg.tensor(target)).detach().numpy(), -picked, rtol=1e-10, atol=1e-12)
    assert (layer.predict(x).numpy() == log_prob.detach().numpy().argmax(-1)).all()


def test_hierarchical_softmax_by_its_formula():
    tree = nn.HuffmanTree([4, 2, 1, 1])
    v, u = double(4, 3), double(3, 3)
    loss = F.hierarchical_softmax_loss(v, tg.tensor([0, 1, 2, 3]), tree.path, tree.sign, u, "none")
    for word in range(4):
        expected = 0.0
        for node, sign in zip(tree.path[word], tree.sign[word]):
            if sign:
                expected -= log_sigmoid(sign * float(v.detach().numpy()[word] @ u.detach().numpy()[node]))
        assert loss[word].item() == pytest.approx(expected)
    target = tg.tensor([3, 0, 0, 2])
    assert gradcheck(lambda v, u: F.hierarchical_softmax_loss(v, target, tree.path, tree.sign, u), (v, u))


def test_hierarchical_softmax_learns_a_table():
    tg.manual_seed(0)
    layer = nn.HierarchicalSoftmax(8, [9, 5, 3, 2, 1])
    x, target = tg.randn(5, 8), tg.tensor([4, 3, 2, 1, 0])
    optimizer = tg.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        layer(x, target).backward()
        optimizer.step()
    assert layer.predict(x).tolist() == target.tolist()


def test_the_state_of_hierarchical_softmax_holds_its_tree():
    layer = nn.HierarchicalSoftmax(3, [9, 5, 3, 2])
    assert list(layer.state_dict()) == ["weight", "path", "sign"]
    assert repr(layer) == "HierarchicalSoftmax(3, words=4, depth=3)"
    with pytest.raises(ShapeError, match=r"path \(V, L\)"):
        F.hierarchical_softmax_loss(tg.zeros(2, 3), tg.tensor([0]), layer.path, layer.sign, layer.weight)
    with pytest.raises(AxisError):
        layer(tg.zeros(1, 3), tg.tensor([4]))


@pytest.mark.parametrize("target, words", [([0, 5], "index 5 is out of range"), ([0.0, 1.0], "integer")])
def test_words_that_negative_sampling_cannot_exclude_are_refused(target, words) -> None:
    layer = tg.nn.NegativeSampling(4, [3, 2, 1])
    with pytest.raises(tg.errors.TinygradError, match=f"NegativeSampling.*{words}"):
        layer(tg.randn(2, 4), tg.tensor(target))


def test_a_gradient_penalty_of_integers_stays_in_single_precision() -> None:
    critic = tg.nn.Linear(2, 1)
    penalty = tg.nn.functional.gradient_penalty(critic, tg.randn(3, 2), tg.ones(3, 2, dtype=tg.int64))
    assert penalty.dtype == tg.float32


@pytest.mark.parametrize("kind", ["negative", "hierarchical"])
def test_a_compiled_step_draws_and_learns_what_a_plain_one_does(kind: str) -> None:
    def losses(wrap) -> tuple[list[float], object]:
        tg.manual_seed(0)
        words = nn.Embedding(20, 4)
        counts = np.arange(1, 21)
        layer = nn.NegativeSampling(4, counts) if kind == "negative" else nn.HierarchicalSoftmax(4, counts)
        optimizer = tg.optim.Adagrad([*words.parameters(), *layer.parameters()], lr=0.1)

        def step(centre, context):
            optimizer.zero_grad()
            loss = layer(words(centre), context)
            loss.backward()
            optimizer.step()
            return loss

        step = wrap(step)
        batches = np.random.default_rng(0).integers(0, 20, (8, 2, 16))
        return [step(*(tg.tensor(part) for part in batch)).item() for batch in batches], step

    plain, _ = losses(lambda step: step)
    made, compiled = losses(tg.compile)
    assert compiled.replays >= 5
    np.testing.assert_allclose(made, plain, rtol=1e-4)
