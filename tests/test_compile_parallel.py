"""Data parallelism around compiled parts: two processes with half of each batch, whose gradients are averaged between a compiled backward and
a compiled update, train like one process with all of it."""

from __future__ import annotations

import multiprocessing
from multiprocessing import shared_memory
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg

STEPS, REPLICAS, ROWS = 12, 2, 16
WIDTHS = (10, 20, 5)


def build() -> tg.nn.Module:
    tg.manual_seed(0)
    return tg.nn.Sequential(tg.nn.Linear(*WIDTHS[:2]), tg.nn.Tanh(), tg.nn.Linear(*WIDTHS[1:]))


def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(step)
    return rng.normal(size=(ROWS, WIDTHS[0])).astype(np.float32), rng.integers(0, WIDTHS[2], ROWS)


def parts(model: Any, optimizer: Any) -> tuple[Any, Any]:
    """Backward and update, each compiled."""

    @tg.compile
    def backward(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = tg.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    @tg.compile
    def update() -> None:
        tg.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()

    return backward, update


def replica(rank: int, name: str, barrier: Any, results: Any) -> None:
    """Train on every REPLICAS-th row. The gradients of all replicas lie in shared memory."""
    model = build()
    optimizer = tg.optim.Adam(model.parameters(), lr=0.01)
    backward, update = parts(model, optimizer)
    memory = shared_memory.SharedMemory(name)
    try:
        count = sum(p.numel() for p in model.parameters())
        everyones = np.ndarray((REPLICAS, count), np.float32, memory.buf)
        for step in range(STEPS):
            x, y = batch(step)
            backward(tg.tensor(x[rank::REPLICAS]), tg.tensor(y[rank::REPLICAS]))
            everyones[rank] = np.concatenate([p.grad.numpy().ravel() for p in model.parameters()])
            barrier.wait(60)
            mean = everyones.mean(0)
            barrier.wait(60)
            for p, part in zip(model.parameters(), np.split(mean, np.cumsum([p.numel() for p in model.parameters()])[:-1])):
                p.grad = tg.tensor(part.reshape(p.shape))
            update()
        del everyones
    finally:
        memory.close()
    results.put((rank, backward.replays, update.replays, [p.detach().numpy() for p in model.parameters()]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_replicas_that_average_their_gradients_train_like_one_process() -> None:
    context = multiprocessing.get_context("spawn")
    memory = shared_memory.SharedMemory(create=True, size=4 * REPLICAS * 1000)
    try:
        barrier, results = context.Barrier(REPLICAS), context.Queue()
        workers = [context.Process(target=replica, args=(r, memory.name, barrier, results)) for r in range(REPLICAS)]
        for worker in workers:
            worker.start()
        made = sorted([results.get(timeout=120) for _ in workers], key=lambda result: result[0])
        for worker in workers:
            worker.join(60)
            assert worker.exitcode == 0
    finally:
        memory.close()
        memory.unlink()
    model = build()
    optimizer = tg.optim.Adam(model.parameters(), lr=0.01)
    for step in range(STEPS):
        x, y = map(tg.tensor, batch(step))
        optimizer.zero_grad()
        tg.nn.functional.cross_entropy(model(x), y).backward()
        tg.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    for rank, backwards, updates, parameters in made:
        assert backwards >= STEPS - 4 and updates >= STEPS - 4, (rank, backwards, updates)
        for p, found, first in zip(model.parameters(), parameters, made[0][3]):
            np.testing.assert_array_equal(found, first)
            np.testing.assert_allclose(found, p.detach().numpy(), rtol=2e-4, atol=2e-5)
