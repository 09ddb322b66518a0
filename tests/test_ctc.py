"""Connectionist temporal classification against the definition: the sum over all alignments, one by one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, AxisError, DtypeError, ShapeError
from tinygrad_ja.nn.functional import ctc_loss


def collapsed(path, blank):
    """What an alignment says: repeats become one, then blanks go."""
    return [label for label, _ in itertools.groupby(path) if label != blank]


def by_definition(x, labels, blank):
    """Loss and its gradient from every alignment of ``x`` (T, C)."""
    total, gradient = 0.0, np.zeros_like(x)
    for path in itertools.product(range(x.shape[1]), repeat=len(x)):
        if collapsed(path, blank) == list(labels):
            probability = math.exp(sum(x[t, c] for t, c in enumerate(path)))
            total += probability
            for t, c in enumerate(path):
                gradient[t, c] -= probability
    return (-math.log(total), gradient / total) if total else (math.inf, gradient)


@pytest.mark.parametrize("blank", [0, 1, 2])
@pytest.mark.parametrize("steps", [1, 2, 5, 6])
def test_the_loss_is_the_sum_over_all_alignments(steps, blank):
    a, b = [c for c in range(3) if c != blank]
    sequences = [[], [a], [a, b], [a, a], [b, a, b], [b, b, a]]
    x = np.random.default_rng(0).normal(size=(steps, len(sequences), 3))  # not normalized: the loss does not need that
    targets = tg.tensor([labels + [a] * (3 - len(labels)) for labels in sequences])
    logits = tg.tensor(x, dtype=tg.float64, requires_grad=True)
    lengths = [len(labels) for labels in sequences]
    loss = ctc_loss(logits, targets, [steps] * len(sequences), lengths, blank, "none")
    expected = [by_definition(x[:, n], labels, blank) for n, labels in enumerate(sequences)]
    np.testing.assert_allclose(loss.tolist(), [value for value, _ in expected], rtol=1e-12)
    loss.sum().backward()
    np.testing.assert_allclose(logits.grad.numpy(), np.stack([g for _, g in expected], 1), atol=1e-12)


def test_steps_past_an_inputs_end_count_for_nothing():
    x = np.random.default_rng(0).normal(size=(7, 2, 3))
    logits = tg.tensor(x, dtype=tg.float64, requires_grad=True)
    loss = ctc_loss(logits, tg.tensor([[1, 2], [2, 2]]), (3, 7), (2, 1), reduction="none")
    assert loss[0].item() == pytest.approx(by_definition(x[:3, 0], [1, 2], 0)[0])
    loss.sum().backward()
    assert (logits.grad.numpy()[3:, 0] == 0).all()
    np.testing.assert_allclose(logits.grad.numpy()[:3, 0].sum(1), -1.0)  # each step is in one state


def test_a_target_that_is_too_long_costs_infinity_and_moves_nothing():
    x = tg.zeros(2, 2, 3, requires_grad=True)
    targets = tg.tensor([[1, 2], [1, 1]])  # the second needs a blank between, three steps
    loss = ctc_loss(x, targets, (2, 2), (2, 2), reduction="none")
    assert loss.tolist() == [0.0, math.inf]
    loss.sum().backward()
    assert np.isfinite(x.grad.numpy()).all() and (x.grad.numpy()[:, 1] == 0).all()
    assert ctc_loss(x, targets, (2, 2), (2, 2), reduction="none", zero_infinity=True).tolist() == [0.0, 0.0]


def test_a_step_that_cannot_emit_the_label_leaves_the_others_finite():
    x = tg.full((2, 1, 3), math.log(1 / 3), dtype=tg.float64)
    x[0, 0, 1] = -math.inf
    x.requires_grad_()
    loss = ctc_loss(x, tg.tensor([[1]]), (2,), (1,), reduction="sum")  # the only alignment left: blank, 1
    loss.backward()
    assert loss.item() == pytest.approx(math.log(9))
    assert x.grad.tolist() == [[[-1.0, 0.0, 0.0]], [[0.0, -1.0, 0.0]]]


def test_a_long_input_of_small_probabilities_neither_under_nor_overflows():
    x = tg.full((2000, 1, 3), -50.0, dtype=tg.float32, requires_grad=True)
    loss = ctc_loss(x, tg.tensor([[1, 2]]), (2000,), (2,), reduction="sum")
    loss.backward()
    # every alignment has the probability exp(-100000), and there are C(2002, 4): where each of the two labels begins and ends
    assert loss.item() == pytest.approx(100_000 - math.log(math.comb(2002, 4)), rel=1e-5)
    assert np.isfinite(x.grad.numpy()).all()


def test_the_mean_divides_by_the_length_of_each_target_first():
    x = tg.randn(6, 3, 4).log_softmax(-1)
    targets, lengths = tg.tensor([[1, 2, 3], [1, 0, 0], [0, 0, 0]]), (3, 1, 0)
    each = ctc_loss(x, targets, (6, 6, 6), lengths, reduction="none").numpy()
    mean = ctc_loss(x, targets, (6, 6, 6), lengths).item()
    assert mean == pytest.approx(float(each[0] / 3 + each[1] + each[2]) / 3, rel=1e-6)


def test_half_precision_is_summed_in_single():
    x = tg.randn(40, 2, 5).log_softmax(-1)
    targets = tg.tensor([[1, 2, 3], [4, 4, 1]])
    half = x.to(tg.float16).requires_grad_()
    loss = ctc_loss(half, targets, (40, 40), (3, 3), reduction="sum")
    loss.backward()
    assert loss.dtype == half.grad.dtype == tg.float16
    exact = ctc_loss(half.detach().to(tg.float32), targets, (40, 40), (3, 3), reduction="sum")
    assert loss.item() == pytest.approx(exact.item(), rel=1e-3)


def test_a_second_backward_gives_the_same_gradient():
    x = tg.randn(9, 2, 4, dtype=tg.float64, requires_grad=True)
    loss = ctc_loss(x.log_softmax(-1), tg.tensor([[1, 2], [3, 3]]), (9, 7), (2, 2))
    (first,) = tg.grad(loss, x, retain_graph=True)
    (again,) = tg.grad(loss, x)
    assert (first.numpy() == again.numpy()).all()


GOOD = {"targets": [[1, 2], [2, 1]], "input_lengths": (5, 5), "target_lengths": (2, 2)}
REFUSED = [
    ({"blank": 4}, ArgumentError, "blank = 4 is not allowed. Rule: 0 <= blank < 4"),
    ({"blank": -1}, ArgumentError, "blank = -1"),
    ({"reduction": "batchmean"}, ArgumentError, "reduction"),
    ({"input_lengths": (5, 6)}, ArgumentError, r"input_lengths = \[5, 6\] is not allowed. Rule: 0 <= n <= 5"),
    ({"input_lengths": (-1, 5)}, ArgumentError, "input_lengths"),
    ({"target_lengths": (2, 3)}, ArgumentError, "0 <= n <= 2"),
    ({"input_lengths": (5,)}, ShapeError, "input_lengths has N = 2 elements"),
    ({"target_lengths": (2, 2, 2)}, ShapeError, "target_lengths has N = 2 elements"),
    ({"input_lengths": (5.0, 5.0)}, DtypeError, "an integer dtype"),
    ({"targets": [[1.0, 2.0], [2.0, 1.0]]}, DtypeError, "an integer dtype"),
    ({"targets": [[1, 2]]}, ShapeError, r"targets \(N, S\)"),
    ({"targets": [1, 2, 3]}, ShapeError, r"targets \(4,\): as many as target_lengths say"),
    ({"targets": [[1, 4], [2, 1]]}, AxisError, "index 4 is out of range for an axis of size 4"),
    ({"targets": [[1, 2], [-1, 1]]}, AxisError, "index -1"),
]


@pytest.mark.parametrize("change, kind, message", REFUSED)
def test_arguments_are_checked(change, kind, message):
    given = {**GOOD, **change}
    with pytest.raises(kind, match=message):
        ctc_loss(tg.zeros(5, 2, 4), tg.tensor(given.pop("targets")), **given)


def test_log_probabilities_are_not_empty():
    for shape in ((0, 2, 4), (5, 0, 4), (4,)):
        with pytest.raises(ShapeError, match=r"log_probs \(T, N, C\)"):
            ctc_loss(tg.zeros(*shape), tg.tensor([[1], [1]]), (5, 5), (1, 1))


def test_padding_may_hold_anything():
    x = tg.randn(5, 2, 4).log_softmax(-1)
    losses = [ctc_loss(x, tg.tensor([[1, pad], [2, 3]]), (5, 5), (1, 2)).item() for pad in (0, -1, 99)]
    assert losses[0] == losses[1] == losses[2]
