"""The checks of ``tinygrad_ja.testing.fuzz``: right operators pass, and each kind of mistake is found by the check that is meant for it."""

from __future__ import annotations

import re

import demo_operators as demo
import numpy as np
import pytest
from hypothesis import find
from hypothesis import strategies as st

import tinygrad_ja as tg
from tinygrad_ja.backend.devices import Device, move
from tinygrad_ja.core.operator import OPERATORS, Array, Point, elementwise, linear
from tinygrad_ja.errors import RegistrationError, VerificationError
from tinygrad_ja.ops.comparison import _where
from tinygrad_ja.testing import Pick, check_case, fuzz
from tinygrad_ja.testing.case import LAYOUTS, Case, gufunc_shapes
from tinygrad_ja.testing.pick import NumpyChoices
from tinygrad_ja.testing.strategies import picks


def pick(seed: int = 0) -> Pick:
    return Pick(NumpyChoices(np.random.default_rng(seed)))


@pytest.mark.parametrize("name", demo.RIGHT)
def test_a_right_operator_of_every_kind_passes(name: str) -> None:
    fuzz(name, examples=20)


@pytest.mark.parametrize("name", demo.WRONG)
def test_a_mistake_is_found_by_the_check_meant_for_it(name: str) -> None:
    with pytest.raises(VerificationError, match=re.escape(f"operator '{name}' failed the check '{demo.WRONG[name]}'")):
        fuzz(name, examples=40)


def test_the_message_names_the_input_the_element_and_the_smallest_case() -> None:
    with pytest.raises(VerificationError) as found:
        fuzz(demo.wrong_factor, examples=20)
    message = str(found.value)
    assert "the gradient of 'input' at ()" in message
    assert "central differences give" in message
    assert "wrong_factor(input () float64)" in message


def test_an_operator_that_cannot_be_drawn_fails() -> None:
    with pytest.raises(RegistrationError, match="not_drawable.*which shapes it takes.*cases="):
        fuzz("not_drawable", examples=1)


def test_one_case_can_be_checked_alone() -> None:
    rng = np.random.default_rng(0)
    check_case(demo.demo_between, (np.ones(3), 0.5, np.ones(3)), {}, rng)
    with pytest.raises(VerificationError, match="wrong_factor"):
        check_case(demo.wrong_factor, (np.array([1.0, 2.0]),), {}, rng, only=["gradient"])
    check_case(demo.wrong_factor, (np.array([1.0, 2.0]),), {}, rng, only=["value"])


def test_a_case_calls_with_arguments_in_their_places() -> None:
    case = Case(OPERATORS["demo_between"], (np.ones(3), 0.5), {"other": np.zeros(3)})
    assert case.constants == {"scale": 0.5}
    assert case.differentiable == [0, 1]
    np.testing.assert_array_equal(case.outputs([np.ones(3), np.full(3, 4.0)])[0], np.full(3, 3.0))


def test_forward_mode_takes_arguments_in_their_places() -> None:
    operator = OPERATORS["demo_between"]
    tangent = operator.jvp([np.ones(3), np.ones(3)], [None, np.ones(3)], scale=0.5)
    np.testing.assert_array_equal(tangent, np.full(3, 0.5))


def test_promotion_takes_arguments_in_their_places() -> None:
    made = tg.lerp(tg.ones(2, dtype=tg.float64), tg.ones(2), 0.5) if hasattr(tg, "lerp") else tg.ones(2, dtype=tg.float64)
    assert made.dtype == np.float64


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_hold_the_same_values(name: str) -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    made = LAYOUTS[name](x)
    np.testing.assert_array_equal(made, np.broadcast_to(x[:1], x.shape) if name == "zero strides" else x)
    assert made.flags.c_contiguous == (name == "C")


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_zero_dimensions(name: str) -> None:
    assert LAYOUTS[name](np.array(2.0)).shape == ()


def test_gufunc_signatures() -> None:
    for seed in range(20):
        (n, k), (same, m) = gufunc_shapes("(n,k),(k,m)->(n,m)", pick(seed))
        assert k == same and min(n, m) >= 1
        assert gufunc_shapes("(3)->()", pick(seed)) == [(3,)]
        assert len(gufunc_shapes("(n?,k),(k)->(n?)", pick(seed))[0]) in (1, 2)


@pytest.mark.parametrize("seed", range(10))
def test_distinct_values_stay_apart_when_they_move_a_little(seed: int) -> None:
    values = np.sort(pick(seed).distinct((7, 3)).ravel())
    assert np.diff(values).min() >= 0.05
    assert np.abs(values).min() >= 0.02


@pytest.mark.parametrize("seed", range(20))
def test_what_a_pick_promises(seed: int) -> None:
    p = pick(seed)
    shape = p.shape(1, 3)
    assert 1 <= len(shape) <= 3
    assert all(0 <= side <= 4 for side in shape)
    np.broadcast_shapes(*p.broadcastable(3))
    axes = [dim % 3 for dim in p.axes(3)]
    assert len(set(axes)) == len(axes) >= 1
    assert p.axis(0) in (-1, 0)
    assert p.axes(0) == ()
    assert p.indices((4,), 2).max() <= 1
    assert p.mask((2, 2)).dtype == bool


def test_every_kind_of_shape_occurs() -> None:
    for wanted in (lambda s: s == (), lambda s: 0 in s, lambda s: np.prod(s) == 1 and len(s) > 1):
        find(st.builds(lambda p: p.shape(), picks()), wanted)


def test_points_state_gradients_that_no_difference_can_find() -> None:
    @elementwise(lambda g, input: g * (input > 0), points=[Point((0.0,), (0.0,)), Point(([-1.0, 2.0],), ([0.0, 1.0],))])
    def ramp(xp, input: Array):
        return xp.maximum(input, 0.0)

    @elementwise(lambda g, input: g * (input >= 0), points=[Point((0.0,), (0.0,))])
    def wrong_ramp(xp, input: Array):
        return xp.maximum(input, 0.0)

    try:
        fuzz(ramp, examples=5)
        with pytest.raises(VerificationError, match=r"'wrong_ramp' failed the check 'points'.*\(0\.0,\)"):
            fuzz(wrong_ramp, examples=5)
    finally:
        del OPERATORS["ramp"], OPERATORS["wrong_ramp"]


def test_points_are_checked_for_other_cotangents_than_one() -> None:
    @elementwise(lambda g, input: _where(input == 0, 0.5, g * (input > 0)), points=[Point((0.0,), (0.5,))])
    def half_at_zero(xp, input: Array):
        return xp.maximum(input, 0.0)

    try:
        with pytest.raises(VerificationError, match="gradient 0 at the point"):
            fuzz(half_at_zero, examples=2)
    finally:
        del OPERATORS["half_at_zero"]


def test_points_state_the_dtype_of_a_gradient_too() -> None:
    @linear(lambda g: g, cases=lambda pick: ((pick.array((2,)),), {}), points=[Point(([1.0, 2.0],), (1.0,))])
    def halved_precision(xp, input: Array):
        return input.astype(np.float32)

    try:
        with pytest.raises(VerificationError, match="gradient 0 at the point .* is float32"):
            fuzz(halved_precision, examples=2)
    finally:
        del OPERATORS["halved_precision"]


def test_what_moves_to_another_device_brings_its_gradient_back() -> None:
    def draw(pick: Pick):
        return (pick.array((2,)), Device("cpu")), {}

    @linear(lambda g: g, cases=draw)
    def one_way(xp, input: Array, device: Device):
        return move(input, device)

    try:
        with pytest.raises(VerificationError, match="'one_way' failed the check 'strict'"):
            fuzz(one_way, examples=2)
    finally:
        del OPERATORS["one_way"]
