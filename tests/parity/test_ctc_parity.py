"""Connectionist temporal classification beside PyTorch.

PyTorch's gradient of the log-probabilities holds exp(x) too much in each place, which the derivative of ``log_softmax`` takes away again: so
gradients are compared before it.
"""

from __future__ import annotations

import numpy as np
import pytest
from parity.beside_torch import compare, random


def _lengths(rng, batch, most, least=0):
    return rng.integers(least, most + 1, batch)


def _labels(rng, shape, classes, blank):
    labels = rng.integers(0, classes - 1, shape)
    return labels + (labels >= blank)


def _call(targets, inputs, lengths, **options):
    def call(s, x):
        given = [s.tensor(v) if isinstance(v, np.ndarray) else v for v in (targets, inputs, lengths)]
        return s.F.ctc_loss(s.F.log_softmax(x, -1), *given, **options)

    return call


@pytest.mark.parametrize("seed", range(40))
def test_random_batches(seed):
    rng = np.random.default_rng(seed)
    steps, batch, classes, longest = rng.integers(1, 10), rng.integers(1, 5), rng.integers(2, 6), rng.integers(0, 4)
    blank = int(rng.integers(0, classes))
    lengths = _lengths(rng, batch, longest)
    inputs = np.minimum(_lengths(rng, batch, steps) + 2 * lengths, steps)
    targets = _labels(rng, (batch, longest), classes, blank)
    # a loss without a path is infinite, and PyTorch's gradient of it NaN
    call = _call(targets, inputs, lengths, blank=blank, reduction=["mean", "sum", "none"][seed % 3], zero_infinity=True)
    compare(call, 3 * random(steps, batch, classes, seed=seed), rtol=1e-10)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("blank", [0, 2, 4])
def test_targets_one_after_the_other(reduction, blank):
    rng = np.random.default_rng(blank)
    lengths = np.array([3, 0, 2, 1])
    targets = _labels(rng, (6,), 5, blank)
    compare(_call(targets, (9, 8, 7, 9), tuple(lengths), blank=blank, reduction=reduction), random(9, 4, 5), rtol=1e-10)
    compare(_call(targets, np.full(4, 9), lengths, blank=blank, reduction=reduction), random(9, 4, 5), rtol=1e-10)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_one_sequence_without_a_batch(reduction):
    targets = np.array([1, 1, 2])
    for inputs, lengths in ((np.array(7), np.array(3)), (np.array([6]), np.array([3])), ((7,), (3,))):
        compare(_call(targets, inputs, lengths, reduction=reduction), random(7, 4), rtol=1e-10)
    compare(_call(targets[None], (7,), (2,), reduction=reduction), random(7, 4), rtol=1e-10)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("index_dtype", ["int32", "int64"])
def test_dtypes_of_a_larger_batch(dtype, tolerance, index_dtype):
    rng = np.random.default_rng(0)
    targets = _labels(rng, (16, 10), 20, 0).astype(index_dtype)
    lengths = _lengths(rng, 16, 10, 1).astype(index_dtype)
    inputs = _lengths(rng, 16, 50, 25).astype(index_dtype)
    x = (2 * random(50, 16, 20)).astype(dtype)
    compare(_call(targets, inputs, lengths), x, rtol=tolerance, atol=tolerance)


def test_targets_without_a_path():
    targets, x = np.array([[1, 2], [1, 1], [0, 0]]), random(3, 3, 4)
    for zero_infinity in (False, True):
        call = _call(targets, (1, 2, 0), (2, 2, 0), reduction="none", zero_infinity=zero_infinity)
        compare(call, x, gradients=zero_infinity)


def test_classes_of_probability_zero():
    x = random(5, 2, 4)
    x[:, :, 3] = -np.inf
    compare(_call(np.array([[1, 2], [2, 1]]), (5, 5), (2, 2)), x, rtol=1e-10, gradients=False)
    compare(_call(np.array([[1, 3], [2, 1]]), (5, 5), (2, 2), reduction="none"), x, rtol=1e-10, gradients=False)
