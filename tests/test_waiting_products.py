"""Gradients of weights that are used again and again: one product of all rows, in place of a sum of products."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.core import waiting_products
from tinygrad_ja.core.modes import modes
from tinygrad_ja.core.waiting_products import Products
from tinygrad_ja.ops import linalg
from tinygrad_ja.ops.linalg import weight_gradient

WIDTH = 96
CELLS = {"rnn": tg.nn.RNNCell, "lstm": tg.nn.LSTMCell, "gru": tg.nn.GRUCell}


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Products]]:
    """All that were made in the test."""
    made: list[Products] = []
    begin = Products.__init__

    def init(self: Products, left: np.ndarray, right: np.ndarray) -> None:
        begin(self, left, right)
        made.append(self)

    monkeypatch.setattr(Products, "__init__", init)
    yield made
    assert not modes.products


def unrolled(kind: str, steps: int, device: str = "cpu") -> tuple[Any, list[tg.Tensor]]:
    """The loss of a loop over a cell and a linear layer, and all parameters."""
    tg.manual_seed(0)
    cell, head = CELLS[kind](WIDTH, WIDTH).to(device), tg.nn.Linear(WIDTH, WIDTH).to(device)
    x, state, loss = tg.tensor(normal(steps, 3, WIDTH), device=device), None, 0.0
    for t in range(steps):
        state = cell(x[t], state)
        h = state[0] if kind == "lstm" else state
        loss = loss + (head(h) ** 2).mean()
    return loss, [*cell.parameters(), *head.parameters()]


@pytest.mark.parametrize("rows", [1, 4, 1000])
@pytest.mark.parametrize("kind", CELLS)
def test_gradients_of_a_loop_are_those_of_single_products(
    kind: str, rows: int, made: list[Products], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_products, "MOST_ROWS", rows)
    loss, parameters = unrolled(kind, 7)
    loss.backward()
    assert len(made) >= 7
    count = len(made)
    monkeypatch.setattr(linalg, "WAITING", 1 << 30)
    other, others = unrolled(kind, 7)
    other.backward()
    assert len(made) == count
    for p, q in zip(parameters, others):
        assert p.grad is not None and q.grad is not None and type(p.grad.array) is np.ndarray
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-4, atol=1e-6)


PARTS = [
    lambda w, x: tg.nn.functional.linear(x, w).sum(),
    lambda w, x: (w * w).sum() * x.mean(),
    lambda w, x: (w.T * 2.0).sum(),
]


@pytest.mark.parametrize("order", range(3))
def test_products_meet_other_gradients_of_the_same_weight(
    order: int, made: list[Products], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before them, between them and after them, in each order of the walk."""
    found = []
    for waiting in (1, 1 << 30):
        monkeypatch.setattr(linalg, "WAITING", waiting)
        w = tg.tensor(normal(WIDTH, WIDTH), requires_grad=True)
        parts = [*PARTS[order:], *PARTS[:order]] * 3
        loss = sum(part(w, tg.tensor(normal(2, WIDTH, seed=k))) for k, part in enumerate(parts))
        loss.backward()
        assert w.grad is not None
        found.append(w.grad.numpy())
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)
    assert len(made) == 3


def test_they_end_where_somebody_looks(made: list[Products]) -> None:
    """Hooks, ``tg.grad``, retained graphs, checkpoints; second order goes without."""
    x = tg.tensor(normal(3, WIDTH))
    w = tg.tensor(normal(WIDTH, WIDTH) * 0.1, requires_grad=True)
    seen: list[Any] = []

    def loss_of(w: tg.Tensor) -> tg.Tensor:
        y = x
        for _ in range(3):
            y = tg.nn.functional.linear(y, w).tanh()
        return y.sum()

    (expected,) = tg.grad(loss_of(w), (w,))
    count = len(made)
    assert count == 3
    v = w * 1.0
    v.register_hook(lambda g: seen.append(type(g.array)))
    loss = loss_of(v)
    loss.backward(retain_graph=True)
    loss.backward()
    assert w.grad is not None and seen == [np.ndarray, np.ndarray] and len(made) == count + 6
    np.testing.assert_allclose(w.grad.numpy(), 2 * expected.numpy(), rtol=1e-4, atol=1e-5)
    w.grad = None
    tg.checkpoint(loss_of, w).backward()
    np.testing.assert_allclose(w.grad.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)
    count = len(made)
    (again,) = tg.grad(loss_of(w), (w,), create_graph=True)
    with tg.detect_anomaly():
        tg.grad(loss_of(w), (w,))
    with tg.profile():
        tg.grad(loss_of(w), (w,))
    assert again.requires_grad and len(made) == count
    (again**2).sum().backward()
    np.testing.assert_allclose(again.detach().numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_a_failure_leaves_nothing_behind(made: list[Products]) -> None:
    w = tg.tensor(normal(WIDTH, WIDTH), requires_grad=True)
    y = tg.nn.functional.linear(tg.tensor(normal(2, WIDTH)), w)

    def fail(g: Any) -> None:
        raise RuntimeError("on purpose")

    y.register_hook(fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        y.sum().backward()
    assert w.grad is None and not modes.products
    assert type(weight_gradient(normal(2, WIDTH), normal(2, WIDTH))) is np.ndarray


@pytest.mark.parametrize(
    ("rows", "m", "n", "waits"), [(2, 96, 96, True), (96, 96, 96, False), (2, 8, 8, False), (1, 4096, 1, False)]
)
def test_products_wait_where_that_pays(rows: int, m: int, n: int, waits: bool) -> None:
    modes.products = True
    try:
        kind = type(weight_gradient(normal(rows, m), normal(rows, n)))
        assert (kind is Products) is waits
        assert type(weight_gradient(normal(2, 96).astype(np.float16), normal(2, 96).astype(np.float16))) is np.ndarray
    finally:
        modes.products = False
