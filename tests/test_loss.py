"""What losses promise beyond the checks that every operator passes."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, AxisError, ShapeError
from tinygrad_ja.nn import functional as F


def test_cross_entropy_of_equal_logits_is_the_logarithm_of_the_number_of_classes():
    x = tg.zeros(3, 4).requires_grad_()
    loss = F.cross_entropy(x, tg.tensor([0, 1, 3]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(4.0))
    np.testing.assert_allclose(x.grad.numpy(), (0.25 - np.eye(4)[[0, 1, 3]]) / 3, rtol=1e-6)


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
@pytest.mark.parametrize("wrong", [4, -1, 100])
def test_a_class_out_of_range_is_named(loss, wrong):
    with pytest.raises(AxisError, match=rf"\[TG-I002\] .*: index {wrong} is out of range for an axis of size 4"):
        loss(tg.zeros(3, 4), tg.tensor([0, wrong, 1]))


def test_an_ignored_target_has_no_loss_and_no_gradient():
    x = tg.tensor(np.random.default_rng(0).normal(size=(3, 4)), dtype=np.float64).requires_grad_()
    loss = F.cross_entropy(x, tg.tensor([1, -100, 2]))
    loss.backward()
    alone = F.cross_entropy(x.detach()[np.array([0, 2])], tg.tensor([1, 2]))
    assert loss.item() == pytest.approx(alone.item())
    assert x.grad.numpy()[1].tolist() == [0.0] * 4


def test_small_and_large_logits_give_the_same_gradient():
    x = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    target = tg.tensor([0, 1, 2, 3, 4])
    gradients = []
    for offset in (0.0, 100.0):
        logits = tg.tensor(x + np.float32(offset)).requires_grad_()
        F.cross_entropy(logits, target).backward()
        gradients.append(logits.grad.numpy())
    np.testing.assert_allclose(gradients[0], gradients[1], atol=2e-6)


def test_shapes_and_arguments_are_checked():
    with pytest.raises(ShapeError, match=r"give a target of shape \(3,\)"):
        F.cross_entropy(tg.zeros(3, 4), tg.tensor([1, 2]))
    with pytest.raises(ShapeError, match="probabilities"):
        F.cross_entropy(tg.zeros(3, 4), tg.zeros(3, 5))
    with pytest.raises(ArgumentError, match="reduction"):
        F.mse_loss(tg.zeros(3), tg.zeros(3), reduction="average")
    with pytest.raises(ArgumentError, match="label_smoothing"):
        F.cross_entropy(tg.zeros(3, 4), tg.tensor([0, 1, 2]), label_smoothing=2.0)
    with pytest.raises(ShapeError, match="binary_cross_entropy"):
        F.binary_cross_entropy(tg.ones(3), tg.ones(3, 1))


def test_the_mean_squared_error_and_its_gradients():
    x, t = tg.tensor([1.0, 2.0], requires_grad=True), tg.tensor([0.0, 4.0], requires_grad=True)
    loss = F.mse_loss(x, t)
    loss.backward()
    assert loss.item() == 2.5
    assert x.grad.tolist() == [1.0, -2.0]
    assert t.grad.tolist() == [-1.0, 2.0]


def test_a_certain_wrong_probability_costs_a_hundred():
    assert F.binary_cross_entropy(tg.tensor([0.0]), tg.tensor([1.0])).item() == 100.0
    assert F.binary_cross_entropy(tg.tensor([1.0]), tg.tensor([0.0])).item() == 100.0


def test_certain_logits_neither_overflow_nor_lose_their_gradient():
    x = tg.tensor([1000.0, -1000.0], requires_grad=True)
    loss = F.binary_cross_entropy_with_logits(x, tg.tensor([0.0, 1.0]), reduction="sum")
    loss.backward()
    assert loss.item() == 2000.0
    assert x.grad.tolist() == [1.0, -1.0]


def test_dropout_keeps_the_expected_value_and_scales_the_gradient():
    tg.manual_seed(0)
    x = tg.ones(200, 200).requires_grad_()
    y = F.dropout(x, 0.25)
    y.sum().backward()
    assert set(np.unique(y.detach().numpy()).tolist()) == {0.0, np.float32(1 / 0.75)}
    assert abs(float(y.detach().mean()) - 1.0) < 0.02
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())


def test_dropout_by_the_same_seed_is_the_same():
    tg.manual_seed(1)
    a = F.dropout(tg.ones(100))
    tg.manual_seed(1)
    assert (F.dropout(tg.ones(100)).numpy() == a.numpy()).all()


def test_dropout_of_nothing_and_of_everything():
    x = tg.ones(5)
    assert F.dropout(x, 0.0).tolist() == [1.0] * 5
    assert F.dropout(x, 1.0).tolist() == [0.0] * 5
    assert F.dropout(x, 0.9, training=False) is x
    for p in (-0.1, 1.5):
        with pytest.raises(ArgumentError, match="probability"):
            F.dropout(x, p)


def test_dropout_in_place():
    x = tg.ones(10)
    assert F.dropout(x, 1.0, inplace=True) is x
    assert x.tolist() == [0.0] * 10


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_batch_in_which_every_target_is_ignored_leaves_the_weights_alone(smoothing):
    x = tg.randn(3, 4, requires_grad=True)
    target = tg.full((3,), -100)
    with np.errstate(invalid="ignore"):
        loss = tg.nn.functional.cross_entropy(x, target, label_smoothing=smoothing)
    assert np.isnan(loss.item())
    loss.backward()
    assert x.grad.tolist() == [[0.0] * 4] * 3


def test_cross_entropy_of_a_0d_tensor_is_refused():
    with pytest.raises(ShapeError, match="class axis"):
        F.cross_entropy(tg.tensor(1.0), tg.tensor(1.0))
