"""Operators are checked when they are defined, not when they fail."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.core.front import source_of
from tinygrad_ja.core.operator import OPERATORS, Array, Constant, elementwise, fused, kernel, linear, primitive
from tinygrad_ja.errors import RegistrationError, ShapeError


@pytest.fixture(autouse=True)
def forget_new_operators():
    before = set(OPERATORS)
    yield
    for name in set(OPERATORS) - before:
        del OPERATORS[name]


def test_an_unknown_name_in_a_derivative_lists_the_allowed_ones():
    with pytest.raises(RegistrationError, match="'bent'.*asks for 'z'.*dim, g, input, shape, y"):

        @primitive(lambda g, z: g)
        def bent(xp, input: Array, dim: int = 0):
            return input


@pytest.mark.parametrize(
    "decorate, words",
    [
        (lambda f: elementwise(lambda g: g, lambda g: g)(f), "1 inputs .* but 2 derivatives"),
        (lambda f: fused(lambda xp, g: (g,), None)(f), "needs a reference"),
        (lambda f: linear(None)(f), "needs its transpose"),
        (lambda f: primitive(lambda g: g, aux=("input",))(f), "name of something else"),
    ],
)
def test_incomplete_definitions_are_refused(decorate, words):
    def lonely(xp, input: Array):
        return input

    with pytest.raises(RegistrationError, match=words):
        decorate(lonely)


def test_the_first_parameter_is_the_array_module():
    with pytest.raises(RegistrationError, match="must be xp"):

        @elementwise(lambda g: g)
        def wrong(input: Array):
            return input


def test_an_operator_without_input_is_refused():
    with pytest.raises(RegistrationError, match="no input"):

        @elementwise()
        def nothing(xp, n: int):
            return n


def test_a_name_is_taken_once():
    with pytest.raises(RegistrationError, match="exists already"):

        @elementwise(lambda g: g)
        def tanh(xp, input: Array):
            return input


def test_an_operator_that_does_not_broadcast_must_return_the_inputs_shape():
    @primitive(lambda g: g)
    def total(xp, input: Array):
        return xp.sum(input)

    x = tg.ones(2, 3, requires_grad=True)
    with pytest.raises(
        ShapeError, match=r"total: the gradient for input 'input' has shape \(\), but the input has shape \(2, 3\)"
    ):
        total(x).backward()
    assert x.grad is None


def test_every_part_of_a_definition_reaches_its_derivative():
    @primitive(
        lambda g, scale, index, shape, y: g * scale + 0.0 * y.sum() if shape == (3,) and index is not None else None,
        aux=("index",),
    )
    def scaled(xp, input: Array, mask: Constant, *, scale: float = 2.0):
        return input * scale * mask, xp.argmax(input)

    x = tg.tensor([1.0, 5.0, 2.0], requires_grad=True)
    y = scaled(x, tg.ones(3), scale=3.0)
    y.sum().backward()
    assert y.tolist() == [3.0, 15.0, 6.0] and x.grad.tolist() == [3.0, 3.0, 3.0]
    assert scaled(np.ones(3), np.ones(3)).tolist() == [2.0, 2.0, 2.0]


def test_optional_inputs_and_joint_derivatives():
    @primitive(lambda g, needs, input: (g * 2.0, g if needs[1] else None), joint=True)
    def twice_plus(xp, input: Array, bias: Array | None = None):
        return 2.0 * input if bias is None else 2.0 * input + bias

    x, b = tg.ones(3, requires_grad=True), tg.ones(3, requires_grad=True)
    twice_plus(x).sum().backward()
    twice_plus(x, b).sum().backward()
    assert x.grad.tolist() == [4.0] * 3 and b.grad.tolist() == [1.0] * 3


def test_variadic_operators():
    @linear(lambda g, tensors: [g for _ in tensors], joint=True)
    def add_all(xp, *tensors: Array):
        total = tensors[0]
        for tensor in tensors[1:]:
            total = total + tensor
        return total

    xs = [tg.ones(2, requires_grad=True) for _ in range(3)]
    add_all(*xs).sum().backward()
    assert all(x.grad.tolist() == [1.0, 1.0] for x in xs)


def test_a_kernel_replaces_the_forward_for_one_array_type():
    calls = []

    @elementwise(lambda g: g * 2.0)
    def doubled(xp, input: Array):
        return input * 2.0

    @kernel(doubled, np.ndarray)
    def doubled_numpy(input):
        calls.append(input.shape)
        return input + input

    x = tg.ones(3, requires_grad=True)
    doubled(x).sum().backward()
    assert calls == [(3,)] and x.grad.tolist() == [2.0] * 3


def test_a_fused_operator_takes_its_higher_orders_from_the_reference():
    @fused(lambda xp, g, input: (g * 3 * input**2,), lambda input: input * input * input)
    def cubed(xp, input: Array):
        return input**3

    x = tg.tensor(2.0, requires_grad=True, dtype=tg.float64)
    (g,) = tg.grad(cubed(x), x, create_graph=True)
    (h,) = tg.grad(g, x, create_graph=True)
    (k,) = tg.grad(h, x)
    assert [g.item(), h.item(), k.item()] == [12.0, 12.0, 6.0]


def test_a_fused_operator_without_a_backward_uses_the_reference_for_the_first_order_too():
    @fused(None, lambda input, other: input * other)
    def product(xp, input: Array, other: Array):
        return input * other

    x, w = tg.tensor(2.0, requires_grad=True), tg.tensor(5.0, requires_grad=True)
    product(x, w).backward()
    assert (x.grad.item(), w.grad.item()) == (5.0, 2.0)


def test_a_reference_gets_its_arguments_in_the_order_of_the_forward_whatever_it_calls_them():
    calls = []

    def plain(exponent, base, scale, factor):
        calls.append((exponent, scale))
        return base**exponent * factor * scale

    @fused(None, plain)
    def scaled_power(xp, power: int, input: Array, scale: float, other: Array):
        return input**power * other * scale

    x, w = tg.tensor(3.0, requires_grad=True, dtype=tg.float64), tg.tensor(5.0, requires_grad=True, dtype=tg.float64)
    y = scaled_power(2, x, 10.0, w)
    g, h = tg.grad(y, (x, w), create_graph=True)
    (second,) = tg.grad(g, x)
    assert (y.item(), g.item(), h.item(), second.item()) == (450.0, 300.0, 90.0, 100.0)
    assert set(calls) == {(2, 10.0)}


def test_a_reference_gets_the_keywords_of_the_forward_by_name():
    @fused(None, lambda input, *, power, other: input**power * other)
    def power_times(xp, input: Array, *, power: int = 2, other: Array):
        return input**power * other

    x, w = tg.tensor(3.0, requires_grad=True, dtype=tg.float64), tg.tensor(5.0, requires_grad=True, dtype=tg.float64)
    power_times(x, power=3, other=w).backward()
    assert (x.grad.item(), w.grad.item()) == (135.0, 27.0)


def test_the_public_function_keeps_name_docstring_and_signature():
    import inspect

    assert tg.tanh.__name__ == "tanh" and "tangent" in tg.tanh.__doc__
    assert list(inspect.signature(tg.tanh).parameters) == ["input"]
    assert source_of(tg.tanh).startswith("def tanh(input):")
