"""Distinct values, histograms and searches beside PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from parity.beside_torch import compare, random

nan = math.nan
FLAGS = [(False, False), (True, False), (False, True), (True, True)]


@pytest.mark.parametrize(("inverse", "counts"), FLAGS)
@pytest.mark.parametrize("dim", [None, 0, 1, -1])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_distinct_values(inverse, counts, dim, dtype):
    x = np.random.default_rng(0).integers(0, 2, (6, 2, 2)).astype(dtype)
    compare(lambda s, x: s.m.unique(x, True, inverse, counts, dim), x, gradients=False)
    flags = {"return_inverse": inverse, "return_counts": counts}
    compare(lambda s, x: s.m.unique_consecutive(x, dim=dim, **flags), x, gradients=False)
    compare(lambda s, x: x.unique(dim=dim, **flags), x, gradients=False)


@pytest.mark.parametrize("x", [[3.0, nan, 3.0, nan], [], 2.0, [[3.0, 1.0], [1.0, 3.0]], [-1.0, -2.0, -1.0]])
def test_distinct_values_of_unusual_tensors(x):
    compare(lambda s, x: s.m.unique(x, return_inverse=True, return_counts=True), np.array(x), gradients=False)
    compare(lambda s, x: s.m.unique_consecutive(x, True, True), np.array(x), gradients=False)


def test_distinct_rows_of_no_rows_and_with_nan():
    compare(lambda s, x: s.m.unique(x, return_inverse=True, return_counts=True, dim=0), np.zeros((0, 2)), gradients=False)
    compare(lambda s, x: s.m.unique(x, return_counts=True, dim=0), np.array([[nan, 1.0], [nan, 1.0]]), gradients=False)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_counts_of_integers(dtype):
    x = np.array([1, 1, 3, 0]).astype(dtype)
    compare(lambda s, x: [s.m.bincount(x), x.bincount(minlength=6), s.m.bincount(x, minlength=2)], x)
    for weights in ("float32", "float64", "float16", "int64"):
        w = np.array([0.5, 1.0, 2.0, 4.0]).astype(weights)
        compare(lambda s, x, w: s.m.bincount(x, w, 5), x, w, gradients=False)
    compare(lambda s, x: [s.m.bincount(x), s.m.bincount(x, minlength=3)], np.zeros(0, dtype))
    compare(lambda s, x, w: s.m.bincount(x, w), np.zeros(0, dtype), np.zeros(0), gradients=False)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("bins", [1, 3, 7, 100])
def test_histograms(dtype, bins):
    x = random(500, dtype=dtype)
    for low, high in [(0, 0), (-1, 1), (0, 2), (-0.3, 0.4)]:
        tolerance = 2 if dtype == "float16" else 0  # an element at an edge, rounded to one side or the other
        compare(lambda s, x, lo=low, hi=high: s.m.histc(x, bins, lo, hi), x, gradients=False, atol=tolerance)
    compare(lambda s, x: s.m.histc(x, bins), np.array([1.0, 1.0], dtype), gradients=False)
    compare(lambda s, x: x.histc(bins, min=1, max=2), np.array([1.0, 2.0, nan, 5.0, 1.5], dtype), gradients=False)
    compare(lambda s, x: s.m.histc(x, bins), np.zeros((0,), dtype), gradients=False)


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("out_int32", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_places_in_a_sorted_sequence(right, out_int32, dtype):
    options = {"right": right, "out_int32": out_int32}
    rng = np.random.default_rng(0)
    for n in (0, 1, 2, 5, 8):
        sequence = np.sort(rng.integers(0, 5, n)).astype(dtype)
        values = rng.integers(-1, 7, (3, 4)).astype(dtype)
        compare(lambda s, a, v: s.m.searchsorted(a, v, **options), sequence, values, gradients=False)
        compare(lambda s, a, v: s.m.bucketize(v, a, **options), sequence, values, gradients=False)
        rows = np.sort(rng.integers(0, 5, (3, n)), -1).astype(dtype)
        compare(lambda s, a, v: s.m.searchsorted(a, v, **options), rows, values, gradients=False)
        for number in (2, 2.5):
            compare(lambda s, a, number=number: s.m.searchsorted(a, number, **options), sequence, gradients=False)
            compare(lambda s, a, number=number: s.m.bucketize(number, a, **options), sequence, gradients=False)


@pytest.mark.parametrize("side", ["left", "right"])
def test_other_ways_to_search(side):
    a = np.array([3.0, 1.0, 2.0])
    compare(lambda s, a, v: s.m.searchsorted(a, v, side=side, sorter=s.m.argsort(a)), a, np.array([2.0, 9.0]), gradients=False)
    for shape in [(1, 3), (3,)]:
        call = lambda s, a, v: s.m.searchsorted(a, v, side=side)  # noqa: E731
        compare(call, np.sort(a).reshape(shape), np.full((*shape[:-1], 2), nan), gradients=False)
