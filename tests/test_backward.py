"""``backward``, ``grad`` and hooks: what they refuse, and what they leave alone."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the device
from tinygrad_ja.errors import ArgumentError, DeviceError, DtypeError, GradientError


def leaf(values):
    return tg.tensor(np.asarray(values, dtype=np.float64), requires_grad=True)


def test_one_cotangent_for_each_output():
    x = leaf([1.0, 2.0])
    with pytest.raises(ArgumentError, match="each of the 2 outputs"):
        tg.backward([x.sum(), (x * 2).sum()], [tg.tensor(1.0)])
    with pytest.raises(ArgumentError, match="each of the 2 outputs"):
        tg.grad([x * 1, x * 2], x, tg.ones(2))
    for wrong in (2.0, "1"):
        with pytest.raises(DtypeError, match="'gradient'"):
            x.sum().backward(wrong)


def test_grad_of_a_value_between_does_not_run_what_is_behind_it():
    x = leaf([0.0, 0.0])
    h = x.exp()
    y = h.sum()
    tg.grad(y, h)
    tg.grad(y, h)
    h.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_an_input_that_is_named_twice_counts_once():
    x = leaf([1.0, 2.0])
    (x * x).sum().backward(inputs=[x, x])
    assert x.grad.tolist() == [2.0, 4.0]


def test_the_retained_gradient_is_the_one_after_all_hooks():
    x = leaf([1.0])
    y = x * 1
    y.retain_grad()
    y.register_hook(lambda g: g * 2)
    y.backward()
    assert y.grad.tolist() == x.grad.tolist() == [2.0]


@pytest.mark.parametrize("result", [2.0, "no", (1.0,)])
def test_a_hook_that_returns_no_tensor_is_told_so(result):
    x = leaf([1.0, 2.0])
    x.register_hook(lambda g: result)
    with pytest.raises(GradientError, match="TG-G010"):
        x.sum().backward()


def test_operator_hooks_see_gradients_in_the_shapes_of_the_inputs():
    x, b = leaf([[1.0, 2.0], [3.0, 4.0]]), leaf([1.0, 1.0])
    y = x + b
    seen = []
    y.grad_fn.register_hook(lambda grads, g: seen.append([tuple(part.shape) for part in grads]))
    y.sum().backward()
    assert seen == [[(2, 2), (2,)]]
    for wrong, error in (((None,), ArgumentError), ((tg.ones(5, 2), None), GradientError)):
        y = x + b
        y.grad_fn.register_hook(lambda grads, g, wrong=wrong: wrong)
        with pytest.raises(error):
            y.sum().backward()


def test_the_gradient_that_is_assigned_fits_the_tensor():
    x = leaf([1.0, 2.0])
    for wrong in (np.ones(2), tg.ones(2), 1.0):
        with pytest.raises(DtypeError):
            x.grad = wrong
    with pytest.raises(DeviceError, match="TG-D001.*cpu and strict.*x.to"):
        x.grad = tg.zeros(2, dtype=x.dtype, device="strict")
    assert x.grad is None
