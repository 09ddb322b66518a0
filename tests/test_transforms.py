"""tg.func and checkpoint."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the device
from tinygrad_ja import func
from tinygrad_ja.backend import random
from tinygrad_ja.errors import GradientError

rng = np.random.default_rng(0)
A = rng.standard_normal((3, 4))


def f(x):
    """R^4 -> R^3 with the Jacobian diag(1 - tanh²(Ax)) A."""
    return tg.tanh(tg.tensor(A) @ x)


def jacobian_of_f(x):
    return (1 - np.tanh(A @ x) ** 2)[:, None] * A


def test_vjp_and_jvp_are_the_two_sides_of_the_jacobian():
    x, v, u = rng.standard_normal(4), rng.standard_normal(4), rng.standard_normal(3)
    y, back = func.vjp(f, tg.tensor(x))
    np.testing.assert_allclose(y.array, np.tanh(A @ x))
    np.testing.assert_allclose(back(tg.tensor(u))[0].array, u @ jacobian_of_f(x))
    y, forward = func.jvp(f, (tg.tensor(x),), (tg.tensor(v),))
    np.testing.assert_allclose(forward.array, jacobian_of_f(x) @ v)


@pytest.mark.parametrize("transform", [func.jacrev, func.jacfwd])
def test_jacobians(transform):
    x = rng.standard_normal(4)
    np.testing.assert_allclose(transform(f)(tg.tensor(x)).array, jacobian_of_f(x))


@pytest.mark.parametrize("transform", [func.jacrev, func.jacfwd])
def test_jacobian_of_a_chosen_argument(transform):
    a, b = rng.standard_normal(2), rng.standard_normal(2)
    made = transform(lambda p, q: p * q * q, argnums=1)(tg.tensor(a), tg.tensor(b))
    np.testing.assert_allclose(made.array, np.diag(2 * a * b))


def rosenbrock(x):
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()


def rosenbrock_hessian(x):
    n = len(x)
    h = np.zeros((n, n))
    for i in range(n - 1):
        h[i, i] += 1200 * x[i] ** 2 - 400 * x[i + 1] + 2
        h[i, i + 1] -= 400 * x[i]
        h[i + 1, i] -= 400 * x[i]
        h[i + 1, i + 1] += 200
    return h


def test_hessian_and_hvp_of_the_rosenbrock_function():
    x, v = rng.standard_normal(4), rng.standard_normal(4)
    np.testing.assert_allclose(func.hessian(rosenbrock)(tg.tensor(x)).array, rosenbrock_hessian(x))
    _, product = func.hvp(rosenbrock, tg.tensor(x), tg.tensor(v))
    np.testing.assert_allclose(product.array, rosenbrock_hessian(x) @ v)


def test_forward_over_reverse_gives_the_hessian_too():
    x = rng.standard_normal(3)
    made = func.jacfwd(func.jacrev(rosenbrock))(tg.tensor(x))
    np.testing.assert_allclose(made.array, rosenbrock_hessian(x))


def test_transforms_of_a_function_that_ignores_an_input():
    x = tg.tensor(rng.standard_normal(2))
    _, tangent = func.jvp(lambda a: tg.ones(3), (x,), (x,))
    assert tangent.tolist() == [0.0, 0.0, 0.0]
    _, back = func.vjp(lambda a, b: a * 2.0, x, x)
    assert back(tg.ones(2, dtype=tg.float64))[1].tolist() == [0.0, 0.0]


def test_results_have_no_history_of_their_own():
    x = tg.tensor(rng.standard_normal(3))
    assert (
        not func.hessian(rosenbrock)(x).requires_grad
        and not func.jvp(f, (tg.ones(4, dtype=tg.float64),), (x.new_ones(4),))[1].requires_grad
    )
    w = tg.tensor(2.0, requires_grad=True, dtype=tg.float64)
    jacobian = func.jacrev(lambda v: v * w)(x)  # depends on w, which is no input of the transform
    jacobian.sum().backward()
    assert w.grad.item() == 3.0


def test_gradients_flow_through_a_transform():
    x = tg.tensor(rng.standard_normal(3), requires_grad=True)
    _, product = func.hvp(lambda v: (v**3).sum(), x, tg.ones(3, dtype=tg.float64))
    product.sum().backward()  # d/dx sum(6 x) = 6
    np.testing.assert_allclose(x.grad.array, np.full(3, 6.0))


# ---- checkpoint


def block(x, w):
    return tg.tanh(x @ w) * x


def test_checkpoint_gives_the_same_gradients_and_forgets_the_inside():
    x = tg.tensor(rng.standard_normal((3, 3)), requires_grad=True)
    w = tg.tensor(rng.standard_normal((3, 3)), requires_grad=True)
    expected = tg.grad(block(block(x, w), w).sum(), (x, w))
    y = tg.checkpoint(block, tg.checkpoint(block, x, w), w)
    assert y.grad_fn.parents[0].name == "checkpoint"
    for g, e in zip(tg.grad(y.sum(), (x, w), retain_graph=True), expected):
        np.testing.assert_allclose(g.array, e.array)
    y.sum().backward()
    np.testing.assert_allclose(w.grad.array, expected[1].array)


def test_checkpoint_finds_parameters_that_are_not_arguments():
    w = tg.tensor(rng.standard_normal((3, 3)), requires_grad=True)
    x = tg.tensor(rng.standard_normal((3, 3)))
    y = tg.checkpoint(lambda v: block(v, w), x)
    assert y.requires_grad
    (g,) = tg.grad(y.sum(), w)
    np.testing.assert_allclose(g.array, tg.grad(block(x, w).sum(), w)[0].array)


def test_checkpoint_second_order():
    x = tg.tensor(rng.standard_normal((2, 2)), requires_grad=True)

    def second(run):
        (g,) = tg.grad(run(x).sum(), x, create_graph=True)
        return tg.grad((g * g).sum(), x)[0].array

    def cubic(v):
        return v * v * tg.tanh(v)

    np.testing.assert_allclose(second(lambda v: tg.checkpoint(cubic, v)), second(cubic))


@pytest.mark.parametrize("device", ["cpu", "strict", "new"])
def test_checkpoint_draws_the_same_random_numbers_again(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if device == "new":  # nobody has drawn there before
        device = "strict"
        monkeypatch.delitem(random._streams.by_device, tg.device("strict"), raising=False)
    x = tg.ones(1000, device=device, requires_grad=True)
    tg.manual_seed(3)
    y = tg.checkpoint(lambda v: tg.nn.functional.dropout(v, 0.5), x)
    after = tg.rand(3, device=device).tolist()
    y.sum().backward()
    assert x.grad.tolist() == y.tolist()
    tg.manual_seed(3)
    tg.nn.functional.dropout(x, 0.5)
    assert tg.rand(3, device=device).tolist() == after


def test_checkpoint_of_several_outputs_and_without_gradients():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    a, b = tg.checkpoint(lambda v: (v * 2.0, v * v), x)
    (a.sum() + b.sum()).backward()
    assert x.grad.tolist() == [4.0, 6.0]
    with tg.no_grad():
        assert not tg.checkpoint(lambda v: v * 2.0, x).requires_grad


def test_checkpoint_runs_again_with_its_arguments_as_they_were():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    h, state, option = x * 1, x * 1, x * 1
    y = tg.checkpoint(lambda a, pair, c=None: a * pair[0] * c, h, (state,), c=option)
    h += 10
    state += 10
    option += 10
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 12.0]


def test_checkpoint_of_a_function_that_changes_its_argument():
    def part(a):
        a *= 3
        return a * a

    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = tg.checkpoint(part, x * 2)
    assert y.tolist() == [36.0, 144.0]
    y.sum().backward(retain_graph=True)
    y.sum().backward()
    assert x.grad.tolist() == [144.0, 288.0]


def test_checkpoint_refuses_a_leaf_that_changed_before_the_second_run():
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    y = tg.checkpoint(lambda: w * w).sum()
    with tg.no_grad():
        w += 1
    with pytest.raises(GradientError, match="'checkpoint'.*changed in place"):
        y.backward()


def test_checkpoint_passes_on_what_is_no_tensor():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    note, y, nothing = tg.checkpoint(lambda a: ("note", a * a, None), x)
    y.sum().backward()
    assert note == "note" and nothing is None and x.grad.tolist() == [2.0, 4.0]


def test_checkpoint_in_checkpoint_has_every_order():
    def orders(part):
        x = tg.tensor([1.0, 2.0], dtype=tg.float64, requires_grad=True)
        m = x * 2
        (of_m, of_x) = tg.grad(part(m).sum(), (m, x), create_graph=True)
        return [of_m.tolist(), of_x.tolist(), tg.grad(of_m.sum() + of_x.sum(), x)[0].tolist()]

    def plain(a):
        with tg.no_grad():
            scale = a * a
        return (a * a).tanh() * scale

    nested = orders(lambda a: tg.checkpoint(lambda b: tg.checkpoint(plain, b) * b, a))
    for made, expected in zip(nested, orders(lambda a: plain(a) * a)):
        np.testing.assert_allclose(made, expected, rtol=1e-9, atol=1e-9)
