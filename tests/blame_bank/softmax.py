"""Softmax and cross entropy: seven wrong backward functions."""

# ruff: noqa: F841 - who forgets a term has computed it all the same

from __future__ import annotations

import numpy as np

import tinygrad_ja as tg
from tinygrad_ja.nn import functional as F
from tinygrad_ja.textbook import composite

from .entry import Arrays, wrong

SMOOTHING = 0.2


def softmax(scores):
    e = tg.exp(scores)
    return e / e.sum(-1, keepdim=True)


def scores_inputs(rng: np.random.Generator) -> Arrays:
    return {"scores": rng.normal(size=(4, 5))}


def row_inputs(rng: np.random.Generator) -> Arrays:
    return {"input": rng.normal(size=(4, 5)), "dim": -1}


def classes_inputs(rng: np.random.Generator) -> Arrays:
    return {"x": rng.normal(size=(4, 5)), "target": np.array([3, 0, 4, 3])}


def classifier(x, W, b, t):
    """Cross entropy of one affine layer with one-hot targets."""
    logits = x @ W + b
    logp = F.log_softmax(logits, -1)
    return -(t * logp).sum(-1).mean()


def classifier_inputs(rng: np.random.Generator) -> Arrays:
    N, D, C = 4, 3, 5
    return {"x": rng.normal(size=(N, D)), "W": rng.normal(size=(D, C)), "b": rng.normal(size=C), "t": np.eye(C)[[1, 4, 0, 1]]}


def smoothed(x, target):
    """A part of the probability is asked of every class."""
    logp = F.log_softmax(x, -1)
    nll = -logp[list(range(len(target))), target].mean()
    uniform = -logp.mean()
    return (1 - SMOOTHING) * nll + SMOOTHING * uniform


def masked(x, target, mask):
    """Only the words that are not padding count."""
    logp = F.log_softmax(x, -1)
    nll = -logp[list(range(len(target))), target]
    return (mask * nll).sum() / mask.sum()


def masked_inputs(rng: np.random.Generator) -> Arrays:
    return {"x": rng.normal(size=(6, 5)), "target": np.array([3, 0, 4, 3, 1, 1]), "mask": np.array([1.0, 1, 0, 1, 1, 0])}


def log_softmax(scores):
    return F.log_softmax(scores, -1)


@wrong(softmax, scores_inputs, "term", place="softmax", repair=("return dx", "return dx - y * dx.sum(axis=1, keepdims=True)\n"))
def forgets_the_sum_over_the_row(dout, scores):
    y = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    dx = y * dout
    return dx


@wrong(
    composite.softmax_cross_entropy,
    classes_inputs,
    "scale",
    place="mean",
    repair=("dx = dx * dout\n", "dx = dx * dout / batch_size\n"),
)
def forgets_to_divide_by_the_batch(dout, x, t):
    batch_size = t.shape[0]
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    dx = e / np.sum(e, axis=1, keepdims=True)
    dx[np.arange(batch_size), t] -= 1
    dx = dx * dout
    return dx


@wrong(
    F.softmax, row_inputs, "term", "activation", place="softmax", repair=("np.diag(p * (1 - p))", "np.diag(p) - np.outer(p, p)")
)
def takes_softmax_for_a_sigmoid(g, x, axis):
    grad = np.zeros_like(x)
    for n in range(len(x)):
        p = np.exp(x[n]) / np.exp(x[n]).sum()
        jacobian = np.diag(p * (1 - p))
        grad[n] = jacobian @ g[n]
    return {"input": grad}


@wrong(classifier, classifier_inputs, "sign", repair=("(t - y)", "(y - t)"))
def subtracts_the_answer_from_the_target(g, x, W, b, t):
    z = x @ W + b
    z -= z.max(axis=1, keepdims=True)
    y = np.exp(z)
    y /= y.sum(axis=1, keepdims=True)
    dz = g * (t - y) / len(x)
    return dz @ W.T, x.T @ dz, dz.sum(axis=0), None


@wrong(
    smoothed,
    classes_inputs,
    "term",
    place="uniform",
    repair=("return g * (1 - SMOOTHING) * hard", "return g * ((1 - SMOOTHING) * hard + SMOOTHING * soft)"),
)
def forgets_the_even_part_of_the_target(g, x, target):
    n, c = x.shape
    p = np.exp(x - x.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    hard = (p - np.eye(c)[target]) / n
    soft = (p - 1 / c) / n
    return g * (1 - SMOOTHING) * hard


@wrong(masked, masked_inputs, "scale", place="mask.sum()", repair=("dx /= len(ts)", "dx /= mask.sum()"))
def divides_by_the_padding_too(dout, xs, ts, mask):
    ys = np.exp(xs) / np.exp(xs).sum(axis=1, keepdims=True)
    dx = ys.copy()
    dx[np.arange(len(ts)), ts] -= 1
    dx *= dout
    dx /= len(ts)
    dx *= mask[:, np.newaxis]
    return dx, None, None


@wrong(
    log_softmax,
    scores_inputs,
    "factor",
    place="log_softmax",
    repair=("g - g.sum(-1, keepdims=True)", "g - np.exp(logp) * g.sum(-1, keepdims=True)"),
)
def forgets_the_probability_before_the_sum(g, scores):
    logp = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    return g - g.sum(-1, keepdims=True)
