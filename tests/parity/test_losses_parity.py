"""Losses of differences, distributions and margins beside PyTorch, and the layers of all losses."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from parity.beside_torch import OURS, THEIRS, compare, random

import tinygrad_ja as tg

pytestmark = pytest.mark.filterwarnings("ignore")

REDUCTIONS = ["mean", "sum", "none"]
RNG = np.random.default_rng(5)
SIGNS = RNG.choice([1.0, -1.0], (4, 3))
PROBABILITIES = RNG.uniform(0.05, 1.0, (4, 3))
COUNTS = np.array([[0.0, 1.0, 2.0], [3.0, 0.0, 5.0], [1.0, 1.0, 7.0], [2.0, 4.0, 0.0]])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("width", [0.3, 1.0, 2, math.inf])
@pytest.mark.parametrize("shapes", [((4, 3), (4, 3)), ((4, 3), (3,)), ((), ()), ((0, 3), (0, 3))])
def test_bent_differences(reduction, width, shapes):
    x, t = 2 * random(*shapes[0]), 2 * random(*shapes[1], seed=1)
    compare(lambda s, x, t: s.F.huber_loss(x, t, reduction, width), x, t)
    if math.isfinite(width):
        compare(lambda s, x, t: s.F.smooth_l1_loss(x, t, reduction=reduction, beta=width), x, t)


def test_bent_differences_at_their_ends():
    x = np.array([-2.0, -1.0, 0.0, 1.0, 2.0, math.inf, -math.inf, math.nan])
    compare(lambda s, x, t: s.F.huber_loss(x, t, "none", 1.0), x, np.zeros(8))
    compare(lambda s, x, t: s.F.smooth_l1_loss(x, t, reduction="none", beta=1.0), x, np.zeros(8))
    compare(lambda s, x, t: s.F.smooth_l1_loss(x, t, reduction="none", beta=1e-300), x, np.zeros(8))
    compare(lambda s, x, t: s.F.smooth_l1_loss(x, t, reduction="none", beta=0.0), x[:-1], np.zeros(7))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
def test_weighted_differences(name, reduction):
    x, t, w = random(3, 4), random(3, 4, seed=1), np.abs(random(3, 4, seed=2))
    compare(lambda s, x, t, w: getattr(s.F, name)(x, t, reduction=reduction, weight=w), x, t, w)


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss"])
@pytest.mark.parametrize(
    "dtypes", [("float32", "float64"), ("float64", "float32"), ("float32", "int64"), ("float16", "float16")]
)
def test_dtypes_promote(name, dtypes):
    x, t = random(3, 4).astype(dtypes[0]), np.sign(random(3, 4, seed=1)).astype(dtypes[1])
    tolerance = 2e-3 if "float16" in dtypes else 1e-5
    if name in ("huber_loss", "soft_margin_loss") and dtypes[0] != dtypes[1]:
        return  # PyTorch does not differentiate a huber_loss of two dtypes, nor soft_margin_loss by its target
    if name == "soft_margin_loss":
        compare(lambda s, x: s.F.soft_margin_loss(x, s.tensor(t)), x, rtol=tolerance, atol=tolerance)
    else:
        compare(lambda s, x, t: getattr(s.F, name)(x, t), x, t, rtol=tolerance, atol=tolerance)


LEGACY = [
    "l1_loss",
    "mse_loss",
    "smooth_l1_loss",
    "kl_div",
    "poisson_nll_loss",
    "soft_margin_loss",
    "hinge_embedding_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "multilabel_soft_margin_loss",
]


@pytest.mark.parametrize("name", LEGACY)
@pytest.mark.parametrize("size_average", [None, True, False])
@pytest.mark.parametrize("reduce", [None, True, False])
def test_the_older_names_of_the_reductions(name, size_average, reduce):
    def call(s, x):
        return getattr(s.F, name)(x, s.tensor(np.abs(SIGNS)), size_average=size_average, reduce=reduce)

    compare(call, RNG.uniform(0.1, 0.9, (4, 3)))


@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("shapes", [((4, 3), (4, 3)), ((4, 3), (3,)), ((3,), (3,)), ((), ())])
def test_kl_div(reduction, log_target, shapes):
    t = RNG.uniform(0.1, 1.0, shapes[1])
    compare(lambda s, x, t: s.F.kl_div(x, t, reduction=reduction, log_target=log_target), random(*shapes[0]), t)


def test_kl_div_from_impossible_targets():
    x, t = random(4), np.array([0.0, 0.5, 0.0, 1.0])
    compare(lambda s, x: s.F.kl_div(x, s.tensor(t), reduction="none"), x)
    compare(lambda s, x, t: s.F.kl_div(x, t, reduction="none"), x, t)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("log_input", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_poisson_nll_loss(reduction, log_input, full):
    options = {"log_input": log_input, "full": full, "reduction": reduction, "eps": 1e-3}
    compare(lambda s, x: s.F.poisson_nll_loss(x, s.tensor(COUNTS), **options), PROBABILITIES)
    compare(lambda s, x: s.F.poisson_nll_loss(x, s.tensor(COUNTS.astype(int)), **options), PROBABILITIES, rtol=1e-6)
    compare(lambda s, x, t: s.F.poisson_nll_loss(x, t, **options), PROBABILITIES, COUNTS + 0.5)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shape", [(4, 3), (4,), (4, 1), (1, 3)])
def test_gaussian_nll_loss(reduction, full, shape):
    v = np.random.default_rng(0).uniform(0.1, 2.0, shape)
    x, t = random(4, 3), random(4, 3, seed=1)
    compare(lambda s, x, t, v: s.F.gaussian_nll_loss(x, t, v, full=full, reduction=reduction), x, t, v)
    compare(lambda s, x, t: s.F.gaussian_nll_loss(x, t, 0.5, full=full, reduction=reduction), x, t)


def test_gaussian_nll_loss_of_variances_below_the_smallest():
    x, t, v = random(4), random(4, seed=1), np.array([0.0, 1e-9, 1e-3, 2.0])
    compare(lambda s, x, t, v: s.F.gaussian_nll_loss(x, t, v, eps=1e-3, reduction="none"), x, t, v)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("target_dtype", ["float64", "int64"])
def test_labels_of_plus_and_minus_one(reduction, target_dtype):
    t = SIGNS.astype(target_dtype)
    compare(lambda s, x: s.F.soft_margin_loss(x, s.tensor(t), reduction=reduction), random(4, 3))
    compare(lambda s, x: s.F.hinge_embedding_loss(x, s.tensor(t), 0.7, reduction=reduction), random(4, 3))
    compare(lambda s, x: s.F.hinge_embedding_loss(x, s.tensor(t[0]), reduction=reduction), random(4, 3))
    for margin in (0.0, 0.5):

        def ranking(s, x, y, margin=margin):
            return s.F.margin_ranking_loss(x, y, s.tensor(t), margin, reduction=reduction)

        compare(ranking, random(4, 3), random(4, 3, seed=1))


def test_labels_at_kinks_and_other_labels():
    x = np.array([0.5, 1.0, 1.0, 2.0, 0.0])
    for t in ([-1, -1, 1, -1, -1], [0, 0, 2, 2, -1]):
        compare(lambda s, x, t=t: s.F.hinge_embedding_loss(x, s.tensor(np.array(t)), reduction="none"), x)
    y, t = np.array([0.5, 2.0, 0.0, 2.5, 0.0]), np.array([1.0, 1.0, 1.0, -1.0, 0.0])
    compare(lambda s, x, y, t: s.F.margin_ranking_loss(x, y, t, 0.5, reduction="none"), x, y, t)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("margin", [0.0, 0.3, -0.5])
def test_cosine_embedding_loss(reduction, margin):
    x, y = random(6, 3), random(6, 3, seed=1)
    t = np.array([1, -1, 1, -1, 0, 2])

    def call(s, x, y):
        return s.F.cosine_embedding_loss(x, y, s.tensor(t), margin, reduction=reduction)

    compare(call, x, y)
    compare(call, x, y[:1])
    compare(lambda s, x, y: s.F.cosine_embedding_loss(x, y, s.tensor(np.array(-1)), margin), x[0], y[0])
    compare(call, np.zeros((6, 3)), y, rtol=1e-8)  # PyTorch's 1e-12 that keeps it from 0 / 0 is a float32


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("p", [1, 2, 3.0, math.inf])
@pytest.mark.parametrize("swap", [False, True])
def test_triplet_margin_loss(reduction, p, swap):
    triplet = [random(5, 3, seed=i) for i in range(3)]
    compare(lambda s, *x: s.F.triplet_margin_loss(*x, margin=0.7, p=p, swap=swap, reduction=reduction), *triplet)
    compare(lambda s, *x: s.F.triplet_margin_loss(*x, p=p, swap=swap, reduction=reduction), *[x[0] for x in triplet])


@pytest.mark.parametrize("distance", [None, lambda x, y: (x - y).abs().sum(-1)])
@pytest.mark.parametrize("swap", [False, True])
def test_triplets_with_any_distance(distance, swap):
    triplet = [random(5, 3, seed=i) for i in range(3)]
    for reduction in REDUCTIONS:
        options = {"distance_function": distance, "margin": 0.7, "swap": swap, "reduction": reduction}
        compare(lambda s, *x, o=options: s.F.triplet_margin_with_distance_loss(*x, **o), *triplet)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_multi_margin_loss(reduction, p, weighted):
    weight = RNG.uniform(0.5, 2.0, 4)
    for shape, target in (((5, 4), [0, 3, 1, 1, 2]), ((4,), 2), ((4,), [2]), ((1, 4), [3])):

        def call(s, x, target=target):
            w = s.tensor(weight) if weighted else None
            return s.F.multi_margin_loss(x, s.tensor(np.array(target)), p, 0.8, w, reduction=reduction)

        compare(call, random(*shape))
    at_kinks = np.array([[0.0, 1.0, 2.0, -1.0], [1.0, 0.0, 5.0, 1.0]])
    compare(lambda s, x: s.F.multi_margin_loss(x, s.tensor(np.array([1, 0])), p, reduction=reduction), at_kinks)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_multilabel_margin_loss(reduction):
    rows = [[3, 0, -1, 1], [-1, 2, 2, 2], [0, 1, 2, 3], [1, -1, -1, -1], [3, 3, -1, 0]]
    for shape, target in (((5, 4), rows), ((4,), rows[0]), ((4,), rows[1]), ((2, 4), [rows[1]] * 2)):
        target = np.array(target)
        compare(lambda s, x, t=target: s.F.multilabel_margin_loss(x, s.tensor(t), reduction=reduction), random(*shape))
    ties = np.array([0.0, 1.0, 2.0, 0.0])
    compare(lambda s, x: s.F.multilabel_margin_loss(x, s.tensor(np.array(rows[0])), reduction=reduction), ties)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_multilabel_soft_margin_loss(reduction, weighted):
    w = np.array([0.5, 1.0, 2.0])

    def call(s, x, t):
        return s.F.multilabel_soft_margin_loss(x, t, s.tensor(w) if weighted else None, reduction=reduction)

    compare(call, 4 * random(4, 3), PROBABILITIES)
    compare(call, random(3), PROBABILITIES[0])
    compare(call, 500 * random(2, 4, 3), PROBABILITIES[0])


@pytest.mark.parametrize("name", ["huber_loss", "poisson_nll_loss", "kl_div", "cosine", "triplet"])
def test_second_order(name):
    found = []
    for s in (OURS, THEIRS):
        x = s.tensor(random(5, 3)).requires_grad_()
        y = s.tensor(random(5, 3, seed=1))
        if name == "cosine":
            loss = s.F.cosine_embedding_loss(x, y, s.tensor(np.array([1, -1, 1, -1, 1])))
        elif name == "triplet":
            loss = s.F.triplet_margin_loss(x, y, s.tensor(random(5, 3, seed=2)))
        elif name == "kl_div":
            loss = s.F.kl_div(x * x, y, log_target=True)
        else:
            loss = getattr(s.F, name)(x, y)
        gradient = torch.autograd.grad if s is THEIRS else tg.grad
        (g,) = gradient(loss, x, create_graph=True)
        found.append(gradient((g * g).sum(), x)[0].numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9, atol=1e-12)


# ---- layers --------------------------------------------------------------------------------------

W3 = np.array([0.5, 1.0, 2.0])
CLASSES = np.array([0, 2, 1, 1])
LABELS = np.array([[0, -1, 1], [2, 1, -1], [-1, 0, 0], [1, 2, 0]])
LAYERS = [
    ("MSELoss", {}, (SIGNS,)),
    ("L1Loss", {"reduction": "none"}, (SIGNS,)),
    ("SmoothL1Loss", {"beta": 0.5}, (SIGNS,)),
    ("HuberLoss", {"delta": 0.5}, (SIGNS,)),
    ("KLDivLoss", {"reduction": "batchmean"}, (PROBABILITIES,)),
    ("KLDivLoss", {"log_target": True}, (PROBABILITIES,)),
    ("PoissonNLLLoss", {"full": True, "log_input": True}, (COUNTS,)),
    ("GaussianNLLLoss", {"full": True, "eps": 0.1}, (SIGNS, PROBABILITIES)),
    ("HingeEmbeddingLoss", {"margin": 0.5}, (SIGNS,)),
    ("SoftMarginLoss", {"reduction": "sum"}, (SIGNS,)),
    ("MarginRankingLoss", {"margin": 0.5}, (PROBABILITIES, SIGNS)),
    ("CosineEmbeddingLoss", {"margin": 0.1}, (PROBABILITIES, SIGNS[:, 0])),
    ("TripletMarginLoss", {"margin": 0.5, "p": 1.0, "swap": True}, (PROBABILITIES, SIGNS)),
    ("TripletMarginWithDistanceLoss", {"margin": 0.5, "swap": True}, (PROBABILITIES, SIGNS)),
    ("MultiMarginLoss", {"p": 2, "margin": 0.5, "weight": W3}, (CLASSES,)),
    ("MultiLabelMarginLoss", {}, (LABELS,)),
    ("MultiLabelSoftMarginLoss", {"weight": W3}, (PROBABILITIES,)),
    ("CrossEntropyLoss", {"weight": W3, "ignore_index": 1, "label_smoothing": 0.1}, (CLASSES,)),
    ("NLLLoss", {"weight": W3, "ignore_index": 1}, (CLASSES,)),
    ("BCELoss", {"weight": W3}, (PROBABILITIES,)),
    ("BCEWithLogitsLoss", {"weight": W3, "pos_weight": W3}, (PROBABILITIES,)),
    ("CTCLoss", {"reduction": "none"}, ()),
]


def _layer(s, name, options):
    given = {k: s.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    return getattr(s.m.nn, name)(**given)


@pytest.mark.parametrize("name, options, others", LAYERS)
def test_layers(name, options, others):
    theirs, ours = _layer(THEIRS, name, options), _layer(OURS, name, options)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    if name == "CTCLoss":
        return
    x = RNG.uniform(0.1, 0.9, (4, 3))
    compare(lambda s, x: (ours if s is OURS else theirs)(x, *map(s.tensor, others)), x, rtol=1e-11)


POSITIONAL = [
    ("SmoothL1Loss", (None, None, "sum", 0.5)),
    ("HuberLoss", ("sum", 0.5)),
    ("KLDivLoss", (None, None, "sum", True)),
    ("PoissonNLLLoss", (True, True, None, 1e-6, None, "sum")),
    ("HingeEmbeddingLoss", (0.5, None, None, "sum")),
    ("TripletMarginLoss", (0.5, 1.0, 1e-5, True, None, None, "sum")),
    ("MultiMarginLoss", (2, 0.5, None, None, None, "sum")),
    ("CrossEntropyLoss", (None, None, 3, None, "sum", 0.2)),
    ("NLLLoss", (None, False, 3)),
    ("CTCLoss", (2, "sum", True)),
    ("MSELoss", (False,)),
    ("BCEWithLogitsLoss", (None, True, False)),
]


@pytest.mark.parametrize("name, arguments", POSITIONAL)
def test_the_arguments_of_layers_stand_in_the_same_order(name, arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, ours = getattr(torch.nn, name)(*arguments), getattr(tg.nn, name)(*arguments)
    names = [
        "reduction",
        "beta",
        "delta",
        "log_target",
        "full",
        "eps",
        "margin",
        "p",
        "swap",
        "ignore_index",
        "label_smoothing",
    ]
    for attribute in [*names, "blank", "zero_infinity", "log_input"]:
        assert getattr(ours, attribute, None) == getattr(theirs, attribute, None), attribute
