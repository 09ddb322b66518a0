"""``tg.compile``: what a recording keeps, and what it lets go of."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

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


def test_memory_is_used_again_unless_that_is_switched_off() -> None:
    def step(x: Any) -> Any:
        for _ in range(4):
            x = (x @ x).tanh()
        return x.sum()

    arenas = []
    for disable in ((), ("memory",)):
        compiled = tg.compile(step, disable=disable)
        made = [compiled(tg.full((64, 64), 0.01)).item() for _ in range(4)]
        assert made == pytest.approx([step(tg.full((64, 64), 0.01)).item()] * 4, rel=1e-5)  # sums of 4096 in float32
        arenas.append(compiled.plan().arena)
    assert arenas[0] < arenas[1]


class Last(nn.Module):
    """The last state of a recurrent layer, read out."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer, self.out = layer, nn.Linear(64, 10)

    def forward(self, x: Any) -> Any:
        """Scores (N, 10) of sequences (T, N, 32)."""
        return self.out(self.layer(x)[0][-1])


NETWORKS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "mlp": (
        lambda: nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.GELU(), nn.Linear(128, 10)),
        (1024, 64),
    ),
    "convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 196, 10)
        ),
        (32, 1, 28, 28),
    ),
    "rnn": (lambda: Last(nn.RNN(32, 64)), (50, 16, 32)),
    "lstm": (lambda: Last(nn.LSTM(32, 64)), (50, 16, 32)),
    "gru": (lambda: Last(nn.GRU(32, 64)), (50, 16, 32)),
    "transformer": (
        lambda: nn.Sequential(nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0), nn.Linear(64, 10)),
        (512, 1, 64),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_needs_less_memory_than_an_eager_one(name: str) -> None:
    """What an eager step allocates at most, and the arena and the gradients of a compiled one."""
    make, shape = NETWORKS[name]
    tg.manual_seed(0)
    model = make()
    optimizer = tg.optim.SGD(model.parameters(), lr=0.01)
    x = tg.randn(*shape)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        scores = model(x).reshape(-1, 10)
        loss = F.cross_entropy(scores, tg.arange(len(scores)) % 10)
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(3):
        step(x)
    optimizer.zero_grad()
    gc.collect()
    tracemalloc.start()
    step(x)
    eager = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    compiled = tg.compile(step, backend="numpy")
    for _ in range(3):
        compiled(x)
    gradients = sum(p.grad.array.nbytes for p in model.parameters())
    assert compiled.plan().arena + gradients < eager, (compiled.plan().arena, gradients, eager)
