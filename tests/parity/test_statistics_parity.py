"""Covariance, correlation, and sums without NaN beside PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from parity.beside_torch import compare, random

nan = math.nan
WITH_NAN = np.array([[1.0, nan, 0.5], [nan, nan, nan], [5.0, 2.0, 4.0]])


@pytest.mark.parametrize("name", ["nansum", "nanmean"])
@pytest.mark.parametrize("dim", [None, 0, -1, (0, 1), [1]])
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_is_left_out(name, dim, keepdim):
    compare(lambda s, x: getattr(s.m, name)(x, dim, keepdim), WITH_NAN, gradients=False)
    compare(lambda s, x: getattr(s.m, name)(x, dim, keepdim), WITH_NAN[[0, 2]])
    compare(lambda s, x: getattr(x, name)(dim=dim, keepdim=keepdim), random(3, 4))
    compare(lambda s, x: getattr(s.m, name)(x, dim, keepdim, dtype=s.m.float32), WITH_NAN[2:], rtol=1e-6)


def test_sums_of_integers_and_scalars():
    compare(lambda s, x: s.m.nansum(x), np.array([1, 2]))
    compare(lambda s, x: s.m.nansum(x, 0), np.array([True, True]))
    compare(lambda s, x: [s.m.nansum(x), s.m.nanmean(x, 0)], np.array(2.0))
    compare(lambda s, x: s.m.nanmean(x, 0), random(4, 3, dtype=np.float16), rtol=2e-3)


@pytest.mark.parametrize("correction", [0, 1, 2])
@pytest.mark.parametrize("shape", [(3, 5), (1, 4), (4,)])
def test_covariance(correction, shape):
    n = shape[-1]
    f, a = np.arange(1, n + 1), np.linspace(0.3, 1.0, n)
    compare(lambda s, x: s.m.cov(x, correction=correction), random(*shape))
    compare(lambda s, x, f: x.cov(correction=correction, fweights=f), random(*shape), f)
    compare(lambda s, x, a: s.m.cov(x, correction=correction, aweights=a), random(*shape), a)
    compare(lambda s, x, f, a: s.m.cov(x, correction=correction, fweights=f, aweights=a), random(*shape), f, a)


@pytest.mark.filterwarnings("ignore")
def test_covariance_of_unusual_tensors():
    compare(lambda s, x: s.m.cov(x), np.array([[1, 2, 4], [0, 5, 5]]), rtol=1e-6)
    for x in (np.array(3.0), np.zeros((2, 0)), np.zeros((0, 3)), np.array([1.0]), np.array([[1.0, 2.0], [3.0, 4.0]])):
        compare(lambda s, x: s.m.cov(x, correction=2), x, gradients=False)
        compare(lambda s, x: s.m.cov(x), x, gradients=False)


@pytest.mark.filterwarnings("ignore")
def test_correlation():
    compare(lambda s, x: s.m.corrcoef(x), random(3, 5))
    compare(lambda s, x: x.corrcoef(), random(1, 5))
    compare(lambda s, x: s.m.corrcoef(x), random(5), rtol=1e-9, atol=1e-9)
    compare(lambda s, x: s.m.corrcoef(x), np.array([[1, 2, 5], [1, 3, 3]]), rtol=1e-6)
    compare(lambda s, x: s.m.corrcoef(x), np.array(3.0), gradients=False)
