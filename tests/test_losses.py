"""What losses of differences, distributions, margins and regions promise beyond the checks of operators and the comparison with PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the device
from tinygrad_ja.errors import ArgumentError, AxisError, DeviceError, ShapeError
from tinygrad_ja.nn import functional as F
from tinygrad_ja.testing import gradcheck


def floats(*values):
    return tg.tensor(list(values), dtype=tg.float64, requires_grad=True)


# ---- arguments -----------------------------------------------------------------------------------


def test_a_reduction_given_in_the_place_of_an_older_argument_is_named():
    with pytest.raises(ArgumentError, match=r"mse_loss: size_average = 'sum' is not allowed.*reduction='mean' by its name"):
        F.mse_loss(tg.ones(3), tg.ones(3), "sum")
    with pytest.raises(ArgumentError, match="NLLLoss: size_average"):
        tg.nn.NLLLoss(None, "sum")


@pytest.mark.parametrize("name", ["huber_loss", "smooth_l1_loss", "kl_div", "soft_margin_loss", "dice_loss"])
def test_an_unknown_reduction_is_refused(name):
    with pytest.raises(ArgumentError, match=rf"\[TG-A001\] {name}: reduction = 'average'"):
        getattr(F, name)(tg.ones(1, 2, 3), tg.ones(1, 2, 3), reduction="average")


def test_only_the_divergence_is_divided_by_the_batch():
    with pytest.raises(ArgumentError, match="batchmean"):
        F.mse_loss(tg.ones(3), tg.ones(3), reduction="batchmean")
    with pytest.raises(ArgumentError, match="HuberLoss: reduction = 'batchmean'"):
        tg.nn.HuberLoss("batchmean")
    assert tg.nn.KLDivLoss(reduction="batchmean").reduction == "batchmean"


REFUSED = [
    (lambda: F.binary_cross_entropy(tg.tensor([0.5, 1.5]), tg.ones(2)), ArgumentError, r"input = 0.5 ... 1.5 is not allowed"),
    (lambda: F.binary_cross_entropy(tg.tensor([0.5, math.nan]), tg.ones(2)), ArgumentError, "numbers from 0 to 1"),
    (lambda: F.binary_cross_entropy(tg.tensor([0.5]), tg.tensor([-1.0])), ArgumentError, "binary_cross_entropy: target"),
    (lambda: F.cross_entropy(tg.ones(2, 3), tg.tensor([0, 1]), tg.ones(2)), ShapeError, r"weight \(C\)"),
    (lambda: F.nll_loss(tg.ones(2, 3), tg.tensor([0, 1]), tg.ones(3, 1)), ShapeError, r"weight \(C\)"),
    (lambda: F.cross_entropy(tg.ones(2, 3), tg.ones(2, 3), ignore_index=1), ArgumentError, "ignore_index = 1"),
    (lambda: F.huber_loss(tg.ones(3), tg.ones(3), delta=0.0), ArgumentError, r"delta = 0.0 is not allowed. Rule: delta > 0"),
    (lambda: F.smooth_l1_loss(tg.ones(3), tg.ones(3), beta=-1.0), ArgumentError, "beta >= 0"),
    (lambda: F.mse_loss(tg.ones(3, 2), tg.ones(3, 2), weight=tg.ones(2)), ShapeError, r"\(3, 2\) and \(2,\)"),
    (lambda: F.huber_loss(tg.ones(3, 2), tg.ones(3, 2), weight=tg.ones(2)), ShapeError, "weight has the shape of input"),
    (lambda: F.gaussian_nll_loss(tg.ones(3), tg.ones(3), tg.tensor([1.0, -2.0, 1.0])), ArgumentError, "var = -2.0"),
    (lambda: F.gaussian_nll_loss(tg.ones(3), tg.ones(3), -1.0), ArgumentError, "no variance is negative"),
    (lambda: F.gaussian_nll_loss(tg.ones(3, 2), tg.ones(3, 2), tg.ones(2)), ShapeError, r"\(3, 2\) and \(2,\)"),
    (lambda: F.margin_ranking_loss(tg.ones(3, 2), tg.ones(2), tg.ones(2)), ShapeError, "same number of axes"),
    (lambda: F.cosine_embedding_loss(tg.ones(3, 2), tg.ones(3, 2), tg.ones(3, 1)), ShapeError, r"target \(N\)"),
    (lambda: F.cosine_embedding_loss(tg.ones(3), tg.ones(3), tg.ones(3)), ShapeError, r"target \(N\)"),
    (lambda: F.triplet_margin_loss(tg.ones(3, 2), tg.ones(3, 2), tg.ones(2)), ShapeError, "same number of axes"),
    (lambda: F.triplet_margin_loss(tg.ones(3), tg.ones(3), tg.ones(3), margin=0.0), ArgumentError, "margin > 0"),
    (lambda: tg.nn.TripletMarginWithDistanceLoss(margin=-1.0), ArgumentError, "TripletMarginWithDistanceLoss: margin = -1.0"),
    (lambda: F.multi_margin_loss(tg.ones(2, 3), tg.tensor([0, 1]), p=3), ArgumentError, "p is 1 or 2"),
    (lambda: tg.nn.MultiMarginLoss(p=0), ArgumentError, "MultiMarginLoss: p = 0"),
    (lambda: F.multi_margin_loss(tg.ones(2, 3), tg.tensor([0, 3])), AxisError, "index 3 is out of range for an axis of size 3"),
    (lambda: F.multi_margin_loss(tg.ones(2, 3), tg.tensor([0, -1])), AxisError, "index -1"),
    (lambda: F.multi_margin_loss(tg.ones(2, 3), tg.tensor([0])), ShapeError, r"\(2, 3\) and \(1,\)"),
    (lambda: F.multi_margin_loss(tg.ones(2, 0), tg.tensor([0, 0])), ShapeError, "C > 0"),
    (lambda: F.multi_margin_loss(tg.ones(2, 3), tg.tensor([0, 1]), weight=tg.ones(2)), ShapeError, r"weight \(C\)"),
    (lambda: F.multilabel_margin_loss(tg.ones(3), tg.tensor([0, -2, 0])), AxisError, "index -2"),
    (lambda: F.multilabel_margin_loss(tg.ones(3), tg.tensor([0, 3, 0])), AxisError, "index 3"),
    (lambda: F.multilabel_margin_loss(tg.ones(2, 3), tg.tensor([0, 1])), ShapeError, "multilabel_margin_loss"),
    (lambda: F.multilabel_soft_margin_loss(tg.tensor(1.0), tg.tensor(1.0)), ShapeError, "multilabel_soft_margin_loss"),
    (lambda: F.sigmoid_focal_loss(tg.ones(3), tg.ones(3), alpha=1.5), ArgumentError, "0 <= alpha <= 1, or -1 for none"),
    (lambda: F.sigmoid_focal_loss(tg.ones(3), tg.ones(3, 1)), ShapeError, r"\(3,\) and \(3, 1\)"),
    (lambda: F.focal_loss(tg.ones(2, 3), tg.tensor([0, 1]), gamma=-1.0), ArgumentError, "gamma >= 0"),
    (lambda: F.dice_loss(tg.ones(2, 3, 4), tg.ones(2, 3)), ShapeError, "dice_loss"),
    (lambda: F.dice_loss(tg.ones(2, 3), tg.ones(2, 3)), ShapeError, "dice_loss"),
    (lambda: F.dice_loss(tg.ones(1, 3, 2), tg.tensor([[0, 3]])), AxisError, "index 3"),
    (lambda: F.gradient_penalty(lambda x: x.sum(1), tg.ones(2, 3), tg.ones(3, 3)), ShapeError, "fake has the shape of real"),
]


@pytest.mark.parametrize("call, kind, message", REFUSED)
def test_what_does_not_fit_is_refused_with_its_rule(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


# ---- differences and distributions ---------------------------------------------------------------


def test_the_pieces_of_a_huber_loss_meet_smoothly():
    x = floats(2.0 - 1e-9, 2.0 + 1e-9)
    loss = F.huber_loss(x, tg.zeros(2, dtype=tg.float64), "none", 2.0)
    loss.sum().backward()
    np.testing.assert_allclose(loss.tolist(), 2.0, atol=1e-8)
    np.testing.assert_allclose(x.grad.tolist(), 2.0, atol=1e-8)


def test_a_huber_loss_without_an_end_is_half_the_square():
    x, t = tg.randn(5), tg.randn(5)
    np.testing.assert_allclose(F.huber_loss(x, t, delta=math.inf).item(), F.mse_loss(x, t).item() / 2, rtol=1e-6)


def test_a_large_difference_does_not_overflow_on_the_way():
    x = tg.tensor([3e4], dtype=tg.float16)
    with np.errstate(all="raise"):
        assert F.huber_loss(x, tg.zeros(1, dtype=tg.float16)).item() == 3e4
        assert F.smooth_l1_loss(x, tg.zeros(1, dtype=tg.float16)).item() == 3e4


def test_the_divergence_of_a_distribution_from_itself_is_zero():
    p = tg.randn(4, 5, dtype=tg.float64).softmax(1)
    assert F.kl_div(p.log(), p, reduction="batchmean").item() == pytest.approx(0.0, abs=1e-15)
    assert F.kl_div(p.log(), p.log(), reduction="batchmean", log_target=True).item() == pytest.approx(0.0, abs=1e-15)


def test_the_negative_log_likelihood_of_counts():
    x, k = 1.5, 3
    loss = F.poisson_nll_loss(tg.tensor([x], dtype=tg.float64), tg.tensor([k]), log_input=False, eps=0.0)
    assert loss.item() + math.lgamma(k + 1) == pytest.approx(-math.log(x**k * math.exp(-x) / math.factorial(k)))
    full = F.poisson_nll_loss(tg.tensor([x], dtype=tg.float64), tg.tensor([k]), log_input=False, full=True, eps=0.0)
    assert full.item() - loss.item() == pytest.approx(math.lgamma(k + 1), rel=0.02)  # Stirling


def test_a_target_without_stirlings_term_gets_no_nan():
    t = floats(0.0, 1.0, 2.0)
    with np.errstate(all="raise"):
        F.poisson_nll_loss(tg.zeros(3, dtype=tg.float64), t, full=True, reduction="sum").backward()
    np.testing.assert_allclose(t.grad.tolist(), [0.0, 0.0, math.log(2) + 0.25])


def test_the_negative_log_likelihood_of_a_normal_variable():
    loss = F.gaussian_nll_loss(floats(1.0), floats(3.0), floats(4.0), full=True)
    assert loss.item() == pytest.approx(-math.log(math.exp(-((3 - 1) ** 2) / (2 * 4)) / math.sqrt(2 * math.pi * 4)))


def test_a_variance_below_the_smallest_still_gets_its_gradient():
    v = floats(0.0)
    F.gaussian_nll_loss(floats(0.0), floats(0.5), v, eps=0.5).backward()
    assert v.grad.tolist() == [(1 - 0.25 / 0.5) / (2 * 0.5)]


def test_the_logarithms_of_margins_neither_overflow_nor_lose_their_slope():
    x = floats(-1e4, 1e4, 0.0)
    loss = F.soft_margin_loss(x, tg.tensor([1, 1, -1]), reduction="none")
    loss.sum().backward()
    np.testing.assert_allclose(loss.tolist(), [1e4, 0.0, math.log(2)])
    np.testing.assert_allclose(x.grad.tolist(), [-1.0, 0.0, 0.5], atol=1e-300)


# ---- margins of classes --------------------------------------------------------------------------


def _multi_margin(x, t, p, margin, weight):
    return sum(weight[t] * max(0.0, margin - x[t] + x[c]) ** p for c in range(len(x)) if c != t) / len(x)


@pytest.mark.parametrize("p", [1, 2])
def test_multi_margin_loss_by_its_formula(p):
    rng = np.random.default_rng(0)
    x, t, w = rng.normal(size=(6, 4)), rng.integers(0, 4, 6), rng.uniform(1, 2, 4)
    made = F.multi_margin_loss(
        tg.tensor(x, dtype=tg.float64), tg.tensor(t), p, 0.6, tg.tensor(w, dtype=tg.float64), reduction="none"
    )
    np.testing.assert_allclose(made.tolist(), [_multi_margin(row, k, p, 0.6, w) for row, k in zip(x, t)])


def test_multilabel_margin_loss_by_its_formula():
    x = [0.3, -0.2, 0.8, 0.1, 0.5]
    right, wrong = [2, 0], [1, 3, 4]
    expected = sum(max(0.0, 1 - (x[t] - x[c])) for t in right for c in wrong) / 5
    assert F.multilabel_margin_loss(floats(*x), tg.tensor([2, 0, -1, 4, 4])).item() == pytest.approx(expected)


def test_losses_of_arrays_are_arrays():
    x = np.random.default_rng(0).normal(size=(4, 3))
    assert type(F.multi_margin_loss(x, np.array([0, 1, 2, 0]), reduction="none")) is np.ndarray
    assert type(F.multilabel_margin_loss(x, np.array([[0, 1, -1]] * 4), reduction="none")) is np.ndarray
    assert type(F.triplet_margin_loss(x, x + 1, x - 1, reduction="none")) is np.ndarray
    assert type(F.kl_div(x, np.abs(x), reduction="none")) is np.ndarray
    assert type(F.focal_loss(x, np.array([0, 1, 2, 0]), reduction="none")) is np.ndarray


def test_a_loss_without_rows():
    x, none = tg.zeros(0, 3), tg.zeros(0, dtype=tg.int64)
    assert F.multi_margin_loss(x, none, reduction="none").shape == (0,)
    assert F.multi_margin_loss(x, none, reduction="sum").item() == 0.0
    assert F.multilabel_margin_loss(x, tg.zeros(0, 3, dtype=tg.int64), reduction="sum").item() == 0.0


# ---- focal and Dice losses, the penalty of a critic ----------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_focal_loss_without_focus_is_the_cross_entropy(reduction):
    x, t, w = tg.randn(5, 4, 3), tg.tensor(np.random.default_rng(0).integers(0, 4, (5, 3))), tg.rand(4)
    t[0, 0] = -100
    options = {"weight": w, "reduction": reduction}
    np.testing.assert_allclose(F.focal_loss(x, t, 0.0, **options).numpy(), F.cross_entropy(x, t, **options).numpy(), rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_losses_by_their_formulas(gamma):
    x, t = np.array([[0.2, -1.0, 0.5], [3.0, 0.1, 0.0]]), np.array([2, 0])
    p = np.exp(x)[[0, 1], t] / np.exp(x).sum(1)
    made = F.focal_loss(tg.tensor(x, dtype=tg.float64), tg.tensor(t), gamma, reduction="none")
    np.testing.assert_allclose(made.tolist(), -((1 - p) ** gamma) * np.log(p))
    x, t = np.array([0.2, -1.0, 3.0]), np.array([1.0, 0.0, 1.0])
    p = np.where(t == 1, 1 / (1 + np.exp(-x)), 1 / (1 + np.exp(x)))
    alpha = np.where(t == 1, 0.3, 0.7)
    for factor, given in ((alpha, 0.3), (1.0, -1)):
        made = F.sigmoid_focal_loss(tg.tensor(x, dtype=tg.float64), tg.tensor(t, dtype=tg.float64), given, gamma)
        np.testing.assert_allclose(made.tolist(), -factor * (1 - p) ** gamma * np.log(p))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_certain_answers_leave_the_gradients_of_focal_losses_finite(gamma):
    x = tg.tensor([[0.0, 1e4], [1e4, 0.0]], requires_grad=True)
    F.focal_loss(x, tg.tensor([1, -100]), gamma, reduction="sum").backward()
    assert x.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    y = tg.tensor([1e4, -1e4], requires_grad=True)
    F.sigmoid_focal_loss(y, tg.tensor([1.0, 0.0]), gamma=gamma, reduction="sum").backward()
    np.testing.assert_allclose(y.grad.tolist(), [0.0, 0.0], atol=1e-30)


def test_gradients_of_focal_and_dice_losses_agree_with_differences():
    t = tg.tensor(np.random.default_rng(0).integers(0, 3, (2, 4)))
    x = tg.randn(2, 3, 4, dtype=tg.float64, requires_grad=True)
    assert gradcheck(lambda x: F.focal_loss(x, t, 1.5), (x,))
    assert gradcheck(lambda x: F.dice_loss(x.softmax(1), t), (x,))
    assert gradcheck(lambda x: F.sigmoid_focal_loss(x[:, 0], (t > 0).to(tg.float64), reduction="sum"), (x,))


def test_the_dice_loss_is_zero_for_a_perfect_region_and_near_one_for_a_wrong_one():
    t = tg.tensor([[[0, 0], [1, 1]]])
    right = tg.tensor([[[[1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    assert F.dice_loss(right, t, reduction="none").tolist() == [[0.0, 0.0, 0.0]]  # the third class is nowhere
    wrong = right[:, tg.tensor([1, 0, 2])]
    np.testing.assert_allclose(F.dice_loss(wrong, t, smooth=1e-6, reduction="none").tolist(), [[1.0, 1.0, 0.0]], atol=1e-6)
    assert F.dice_loss(wrong, right, reduction="none").tolist() == F.dice_loss(wrong, t, reduction="none").tolist()


def test_the_penalty_of_a_critic_is_a_derivative_of_second_order():
    # D(x) = |x|² has the slope 2 x, of norm 2 |x|; where real and fake are equal the point is known
    x = tg.tensor([[0.6, 0.8], [3.0, 4.0]], dtype=tg.float64)
    a = floats(1.0)
    penalty = F.gradient_penalty(lambda x: a * (x * x).sum(1), x, x)
    penalty.backward()
    assert penalty.item() == pytest.approx(((2 - 1) ** 2 + (10 - 1) ** 2) / 2)
    np.testing.assert_allclose(a.grad.tolist(), [((2 - 1) * 2 * 2 + (10 - 1) * 2 * 10) / 2])


def test_the_penalty_looks_between_the_samples_and_is_seeded():
    seen = []

    def critic(x):
        seen.append(x.detach().numpy())
        return x.sum((1, 2))

    real, fake = tg.ones(50, 2, 3), tg.zeros(50, 2, 3)
    for _ in range(2):
        F.gradient_penalty(critic, real, fake, generator=tg.Generator().manual_seed(3))
    assert (seen[0] == seen[1]).all()
    assert (seen[0] == seen[0][:, :1, :1]).all()  # one number for each sample
    assert 0 <= seen[0].min() < 0.1 and 0.9 < seen[0].max() < 1
    with pytest.raises(DeviceError, match="TG-D007"):
        F.gradient_penalty(critic, real.to("strict"), fake.to("strict"), generator=tg.Generator())
    assert F.gradient_penalty(critic, real, fake, target=math.sqrt(6)).item() == pytest.approx(0.0, abs=1e-10)


def test_a_critic_without_slope_has_a_penalty_and_finite_gradients():
    w = tg.zeros(3, requires_grad=True)
    with tg.no_grad():
        assert F.gradient_penalty(lambda x: x @ w, tg.ones(4, 3), tg.zeros(4, 3)).item() == 1.0
    F.gradient_penalty(lambda x: x @ w, tg.ones(4, 3), tg.zeros(4, 3)).backward()
    assert w.grad.tolist() == [0.0, 0.0, 0.0]


def test_classes_in_floats_are_told_to_become_integers() -> None:
    with pytest.raises(tg.errors.DtypeError, match=r"x.to\(tg.int64\)"):
        tg.nn.functional.cross_entropy(tg.randn(4, 3), tg.tensor([0.0, 1.0, 2.0, 0.0]))
