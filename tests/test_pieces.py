"""Functions made of pieces: what their derivatives let through where a slope is zero."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.ops import comparison


@pytest.mark.parametrize("size", [5, 20_000])
@pytest.mark.parametrize(
    "inner",
    [
        tg.relu,
        lambda x: tg.clamp(x, 0.0, 2.0),
        lambda x: tg.clamp(x, tg.zeros(1), tg.ones(1)),
        lambda x: tg.maximum(x, tg.zeros(1)),
        lambda x: tg.fmax(x, tg.zeros(1)),
        lambda x: tg.nn.functional.hardtanh(x, 0.0, 1.0),
        lambda x: tg.nn.functional.relu6(x),
        lambda x: tg.nn.functional.threshold(x, 0.0, 0.0),
        lambda x: tg.nn.functional.hardshrink(x, 2.0),
        lambda x: tg.nn.functional.softshrink(x, 2.0),
        lambda x: tg.nn.functional.hardsigmoid(x - 9.0),
        lambda x: tg.nn.functional.hardswish(x - 9.0),
    ],
)
def test_an_infinite_gradient_stops_where_the_slope_is_zero(inner, size):
    """sqrt'(0) is infinite, but a piece with slope 0 in front of it lets nothing through: 0, not 0 · inf = NaN."""
    x = tg.full((size,), -1.0, requires_grad=True)
    with np.errstate(divide="ignore"):
        tg.sqrt(inner(x)).sum().backward()
    assert x.grad.array.max() == x.grad.array.min() == 0.0


def test_keep_lets_exactly_the_masked_through():
    rng = np.random.default_rng(0)
    for dtype in (np.float16, np.float32, np.float64):
        x = rng.standard_normal((300, 100)).astype(dtype)
        x[::7] = np.inf
        x[::11] = np.nan
        for mask in (x > 0, (x > 0).T.copy().T, x[:1] > 0):
            made = comparison.keep(x, mask)
            assert made.dtype == dtype
            np.testing.assert_array_equal(made, np.where(mask, x, np.zeros((), dtype)))
        np.testing.assert_array_equal(comparison.keep(x.T, (x > 0).T), np.where(x > 0, x, np.zeros((), dtype)).T)
