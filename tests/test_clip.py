"""Gradient clipping: the norm, the bound, what stays as it is, and that nothing waits for a device."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError
from tinygrad_ja.nn.utils import clip_grad_norm_, clip_grad_value_, get_total_norm
from tinygrad_ja.testing import strict


def parameters(*gradients, device="cpu"):
    made = []
    for g in gradients:
        g = np.asarray(g)
        p = tg.zeros(g.shape, dtype=g.dtype, device=device).requires_grad_()
        p.grad = tg.tensor(g, device=device)
        made.append(p)
    return made


@given(
    st.lists(st.lists(st.floats(-100, 100), min_size=1, max_size=4), min_size=1, max_size=4),
    st.floats(0.01, 100),
    st.sampled_from([1.0, 2.0, 3.0, math.inf]),
)
def test_the_norm_is_at_most_the_bound_and_the_direction_stays(gradients, bound, order):
    params = parameters(*gradients)
    whole = np.concatenate([np.array(g) for g in gradients])
    norm = np.linalg.norm(whole, order)
    assert clip_grad_norm_(params, bound, order).item() == pytest.approx(norm, rel=1e-9, abs=1e-12)
    clipped = np.concatenate([p.grad.numpy() for p in params])
    assert np.linalg.norm(clipped, order) <= bound * (1 + 1e-9)
    np.testing.assert_allclose(clipped, whole * min(1, bound / (norm + 1e-6)), rtol=1e-9, atol=1e-12)


def test_the_gradients_stay_the_same_objects_and_others_are_left_out():
    a, b = parameters([3.0, 4.0], [0.0])
    lone, before, array = tg.zeros(2, requires_grad=True), a.grad, a.grad.array
    assert clip_grad_norm_((p for p in [a, b, lone]), 1.0).item() == 5.0
    assert a.grad is before and a.grad.array is array and lone.grad is None
    assert clip_grad_norm_(lone, 1.0).item() == 0.0 and clip_grad_norm_([], 1.0).item() == 0.0
    assert clip_grad_norm_(a, 0.5).item() == pytest.approx(1.0, rel=1e-5)


def test_dtype_stays():
    for dtype in (np.float32, np.float64):
        p = parameters(np.full(3, 2.0, dtype))
        assert clip_grad_norm_(p, 1.0).dtype == dtype and p[0].grad.dtype == dtype
    half = parameters(np.full(100, 300.0, np.float16))  # squares overflow float16
    assert clip_grad_norm_(half, 3.0).item() == pytest.approx(3000.0) and half[0].grad.dtype == tg.float16
    assert half[0].grad.numpy()[0] == pytest.approx(0.3, rel=1e-2)


@pytest.mark.filterwarnings("ignore:invalid value")  # NumPy's, for inf * 0
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_norm_that_is_not_finite_may_be_an_error(bad):
    (p,) = parameters([1.0, bad])
    with pytest.raises(ArgumentError, match="detect_anomaly"):
        clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert p.grad.tolist()[0] == 1.0
    assert not math.isfinite(clip_grad_norm_(p, 1.0).item())


def test_values_are_clipped_in_place():
    (p,) = parameters([-3.0, 0.5, 2.0])
    array = p.grad.array
    clip_grad_value_(p, 1.0)
    assert p.grad.tolist() == [-1.0, 0.5, 1.0] and p.grad.array is array


@pytest.mark.parametrize("clip", [lambda p: clip_grad_norm_(p, 0.1), lambda p: clip_grad_value_(p, 0.1)])
def test_a_gradient_with_a_history_is_not_spoilt(clip):
    x = tg.tensor([2.0], requires_grad=True)
    (x**3).sum().backward(create_graph=True)
    first = x.grad
    doubled = first * first
    clip(x)
    assert abs(x.grad.item()) == pytest.approx(0.1, rel=1e-4)
    (g,) = tg.grad(doubled.sum(), x)
    assert g.item() == pytest.approx(2 * 12.0 * 12.0)  # d(9x⁴)/dx at 2


def test_total_norm_of_one_tensor_and_of_many():
    assert get_total_norm(tg.tensor([3.0, 4.0])).item() == 5.0
    assert get_total_norm([tg.tensor([3.0]), tg.tensor([[4.0]])], 1).item() == 7.0
    assert get_total_norm([tg.tensor([3.0]), tg.tensor(-4.0)], math.inf).item() == 4.0
    assert get_total_norm([tg.tensor([3.0, 0.0]), tg.tensor([-4.0])], 0).item() == 2.0


def test_on_a_device_nothing_waits():
    params = parameters([3.0, 4.0], [[12.0]], device="strict")
    with strict.watch() as events:
        total = clip_grad_norm_(params, 1.0)
        clip_grad_value_(params, 0.5)
    assert not events
    assert total.device == "strict" and total.item() == 13.0
    assert params[1].grad.cpu().tolist() == [[0.5]]
