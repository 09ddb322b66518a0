"""``tg.compile``: what a recording keeps, and what it lets go of."""

from __future__ import annotations

import tracemalloc

import tinygrad_ja as tg
import tinygrad_ja.nn.functional as F
from tinygrad_ja import nn


def test_a_recording_keeps_no_elements_of_its_step() -> None:
    """Old gradients, the new values of parameters and of the optimizer's state, dropped elements: no program will read them."""
    tg.manual_seed(0)
    layer = nn.Linear(512, 512)  # 1 MB
    optimizer = tg.optim.Adam(layer.parameters())

    @tg.compile
    def step(x: tg.Tensor) -> tg.Tensor:
        optimizer.zero_grad()
        loss = F.dropout(layer(x)).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    for n in (1, 2):
        step(tg.ones(n, 512))
    tracemalloc.start()
    step(tg.ones(3, 512))
    before = tracemalloc.get_traced_memory()[0]
    for n in range(4, 12):
        step(tg.ones(n, 512))
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert step.recordings == 11
    assert grown / 8 < 0.5 * 512 * 512 * 4


def test_a_recording_keeps_no_arguments_of_its_call() -> None:
    step = tg.compile(lambda x: x.sum())
    tracemalloc.start()
    for n in range(1, 9):
        step(tg.ones(n, 1 << 18))
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert step.recordings == 8 and grown < 1 << 20


def test_a_gradient_that_the_step_reads_is_kept_by_the_recording() -> None:
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    step = tg.compile(lambda x: (w * x).sum().backward())
    for calls in range(1, 7):  # gradients add up
        step(tg.ones(2))
        assert w.grad is not None
        assert w.grad.tolist() == [calls, calls]
