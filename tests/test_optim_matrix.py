"""Optimizers that look at more than one element at a time: Muon, LAMB, LARS, L-BFGS; and the choices between implementations."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError
from tinygrad_ja.optim.muon import orthogonalize


def parameter(*shape, seed=0):
    return tg.tensor(np.random.default_rng(seed).normal(size=shape), requires_grad=True)


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3), (1, 5)])
def test_newton_schulz_brings_all_singular_values_near_one(shape) -> None:
    matrix = np.random.default_rng(1).normal(size=shape)
    made = np.linalg.svd(orthogonalize(np, matrix, (3.4445, -4.7750, 2.0315), 8, 1e-7))[1]
    assert (0.6 < made).all() and (made < 1.3).all()


def test_muon_moves_a_matrix_by_its_learning_rate_in_every_direction() -> None:
    w = parameter(6, 3)
    before = w.detach().numpy().copy()
    w.grad = tg.tensor(np.random.default_rng(2).normal(size=(6, 3)))
    tg.optim.Muon([w], lr=0.1, weight_decay=0.0, ns_steps=12).step()
    sizes = np.linalg.svd(before - w.detach().numpy())[1]
    np.testing.assert_allclose(sizes, 0.1 * np.sqrt(6 / 3), rtol=0.35)


def test_lars_is_its_formula() -> None:
    w = parameter(3, 2)
    x, v = w.detach().numpy().copy(), np.zeros((3, 2))
    optimizer = tg.optim.LARS([w], lr=0.5, momentum=0.9, weight_decay=0.1, trust_coefficient=0.02)
    for step in range(4):
        g = np.random.default_rng(step).normal(size=(3, 2))
        w.grad = tg.tensor(g)
        optimizer.step()
        d = g + 0.1 * x
        v = 0.9 * v + 0.5 * 0.02 * np.linalg.norm(x) / np.linalg.norm(d) * d
        x = x - v
        np.testing.assert_allclose(w.detach().numpy(), x, rtol=1e-13)


def test_lamb_is_its_formula() -> None:
    w = parameter(3, 2)
    x, m, s = w.detach().numpy().copy(), 0.0, 0.0
    optimizer = tg.optim.LAMB([w], lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1)
    for t in range(1, 5):
        g = np.random.default_rng(t).normal(size=(3, 2))
        w.grad = tg.tensor(g)
        optimizer.step()
        m, s = 0.8 * m + 0.2 * g, 0.9 * s + 0.1 * g * g
        r = (m / (1 - 0.8**t)) / (np.sqrt(s / (1 - 0.9**t)) + 1e-3) + 0.1 * x
        x = x - 0.1 * np.linalg.norm(x) / np.linalg.norm(r) * r
        np.testing.assert_allclose(w.detach().numpy(), x, rtol=1e-13)


@pytest.mark.parametrize("name", ["LARS", "LAMB"])
def test_a_parameter_of_zeros_moves_too(name) -> None:
    w = tg.zeros(3, requires_grad=True)
    w.grad = tg.ones(3)
    getattr(tg.optim, name)([w], lr=0.1).step()
    assert (w.detach().numpy() < 0).all() and np.isfinite(w.detach().numpy()).all()


# ---- L-BFGS


def rosenbrock(w):
    return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2


def minimize(w, steps, loss=rosenbrock, **options):
    optimizer = tg.optim.LBFGS([w], **options)

    def closure():
        optimizer.zero_grad()
        value = loss(w)
        value.backward()
        return value

    for _ in range(steps):
        optimizer.step(closure)
    return optimizer, closure


def test_lbfgs_finds_the_end_of_the_valley() -> None:
    w = tg.tensor([-1.2, 1.0], dtype=tg.float64, requires_grad=True)
    minimize(w, 5, line_search_fn="strong_wolfe", max_iter=20)
    np.testing.assert_allclose(w.tolist(), [1.0, 1.0], atol=1e-4)


def test_lbfgs_reaches_the_bottom_of_a_quadratic_in_as_many_steps_as_dimensions() -> None:
    scales = tg.tensor([1.0, 4.0, 9.0], dtype=tg.float64)
    w = tg.tensor([3.0, -2.0, 1.0], dtype=tg.float64, requires_grad=True)
    minimize(w, 1, lambda w: (scales * w * w).sum() / 2, line_search_fn="strong_wolfe", max_iter=10)
    np.testing.assert_allclose(w.tolist(), [0.0, 0.0, 0.0], atol=1e-4)


def test_lbfgs_goes_on_from_a_file(tmp_path) -> None:
    start = [-1.2, 1.0]
    straight = tg.tensor(start, dtype=tg.float64, requires_grad=True)
    minimize(straight, 6, line_search_fn="strong_wolfe", max_iter=3)

    w = tg.tensor(start, dtype=tg.float64, requires_grad=True)
    optimizer, _ = minimize(w, 3, line_search_fn="strong_wolfe", max_iter=3)
    tg.save({"optimizer": optimizer.state_dict(), "w": w.detach()}, tmp_path / "half.safetensors")
    state = tg.load(tmp_path / "half.safetensors")
    resumed = tg.tensor(state["w"], requires_grad=True)
    second = tg.optim.LBFGS([resumed], line_search_fn="strong_wolfe", max_iter=3)
    second.load_state_dict(state["optimizer"])

    def closure():
        second.zero_grad()
        value = rosenbrock(resumed)
        value.backward()
        return value

    for _ in range(3):
        second.step(closure)
    assert resumed.tolist() == straight.tolist()


def test_lbfgs_needs_a_closure_and_one_group() -> None:
    a, b = parameter(2), parameter(2)
    with pytest.raises(ArgumentError, match="closure"):
        tg.optim.LBFGS([a]).step()
    with pytest.raises(ArgumentError, match="one group"):
        tg.optim.LBFGS([{"params": [a]}, {"params": [b]}])


def test_lbfgs_goes_on_when_its_parameters_move() -> None:
    start = [-1.2, 1.0]
    straight = tg.tensor(start, dtype=tg.float64, requires_grad=True)
    minimize(straight, 3, line_search_fn="strong_wolfe", max_iter=3)

    w = tg.tensor(start, dtype=tg.float64, requires_grad=True)
    optimizer, closure = minimize(w, 2, line_search_fn="strong_wolfe", max_iter=3)
    w.grad = None
    w.data = w.detach().to("strict")
    optimizer.step(closure)
    np.testing.assert_allclose(w.tolist(), straight.tolist(), rtol=1e-12)


def test_a_parameter_that_takes_no_part_stays() -> None:
    a, b = parameter(2), parameter(3)
    before = b.tolist()
    optimizer = tg.optim.LBFGS([a, b], line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = (a * a).sum()
        value.backward()
        return value

    optimizer.step(closure)
    assert b.tolist() == before and abs(a.detach().numpy()).max() < 1e-3


# ---- implementations


@pytest.mark.parametrize(
    "name", ["SGD", "Adam", "AdamW", "Adagrad", "Adadelta", "RMSprop", "Adamax", "NAdam", "RAdam", "Rprop"]
)
def test_choices_between_implementations_are_taken(name) -> None:
    w = parameter(2)
    optimizer = getattr(tg.optim, name)([w], lr=0.1, foreach=True)
    assert "foreach" not in optimizer.param_groups[0]
