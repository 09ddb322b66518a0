"""``gradcheck`` and ``gradgradcheck`` accept right derivatives and say precisely what is wrong about wrong ones."""

from __future__ import annotations

import demo_operators as demo
import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import VerificationError
from tinygrad_ja.testing import gradcheck, gradgradcheck


def leaf(*shape: int, seed: int = 0) -> tg.Tensor:
    return tg.tensor(np.random.default_rng(seed).uniform(0.5, 1.5, shape), requires_grad=True)


def test_a_right_derivative_passes() -> None:
    assert gradcheck(lambda x, y: x * y + demo.demo_exp(x), (leaf(2, 3), leaf(3, seed=1)))
    assert gradgradcheck(lambda x, y: x * y * demo.demo_exp(x), (leaf(2, 3), leaf(3, seed=1)))


def test_several_outputs_and_inputs_that_are_not_checked() -> None:
    assert gradcheck(lambda x, y, n: (x * n, x * y), (leaf(2), tg.tensor(np.ones(2)), 3.0))


def test_a_single_tensor_needs_no_tuple() -> None:
    assert gradcheck(demo.demo_exp, leaf())


def test_a_wrong_derivative_is_named_by_input_and_position() -> None:
    x, y = leaf(2), tg.tensor(np.array([1.0, 3.0]), requires_grad=True)
    with pytest.raises(VerificationError) as found:
        gradcheck(lambda x, y: x * demo.wrong_factor(y), (x, y))
    message = str(found.value)
    expected = float(x.detach().numpy()[1]) * 2 * 3.0  # d(x y²)/dy at the worst element
    assert "output 0 at (1,) with respect to input 1 at (1,)" in message
    assert f"is {expected / 2:.6f}"[:8] in message
    assert "TG-V001" in message


def test_a_wrong_second_derivative_is_found_where_the_first_is_right() -> None:
    def fn(x: tg.Tensor) -> tg.Tensor:
        return demo.wrong_reference_slope(x)

    assert gradcheck(fn, leaf(3))
    assert not gradgradcheck(fn, leaf(3), raise_exception=False)


def test_a_failure_may_be_returned() -> None:
    assert gradcheck(demo.wrong_factor, leaf(2), raise_exception=False) is False


def test_tolerances_are_those_given() -> None:
    assert gradcheck(demo.wrong_factor, leaf(2), atol=10.0)


def test_an_input_must_require_gradients() -> None:
    with pytest.raises(VerificationError, match="requires_grad=True"):
        gradcheck(demo.demo_exp, tg.tensor(np.ones(2)))
