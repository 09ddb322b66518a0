"""Steps run plainly and compiled, side by side."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_ja as tg
from tinygrad_ja import nn


def batches(count: int, *shapes: tuple[int, ...], seed: int = 0) -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(seed)
    return [tuple(tg.tensor(rng.normal(size=s).astype("f4")) for s in shapes) for _ in range(count)]


Maker = Callable[[], tuple[Callable[..., Any], list[Any]]]


def assert_same_run(make: Maker, data: list[tuple[Any, ...]], backend: str, rtol: float = 2e-5, atol: float = 2e-6) -> Any:
    """Run the steps plainly and compiled, from the same seed: results, and all that the maker wants compared at the end, agree."""
    runs = []
    compiled = None
    for wrap in (lambda f: f, functools.partial(tg.compile, backend=backend)):
        tg.manual_seed(7)
        step, watched = make()
        compiled = wrap(step)
        tg.manual_seed(11)
        made = [compiled(*batch) for batch in data]
        runs.append([*arrays(made), *arrays(watched)])
    assert len(runs[0]) == len(runs[1])
    for a, b in zip(*runs):
        np.testing.assert_allclose(b, a, rtol=rtol, atol=atol)
    assert compiled.replays > 0, compiled.notes
    return compiled


def arrays(value: Any) -> list[np.ndarray]:
    """Copies of all arrays in nested lists, in order."""
    if isinstance(value, tg.Tensor):
        return [value.detach().cpu().numpy().copy()]
    return [array for part in value for array in arrays(part)]


def train(model: nn.Module, optimizer: Any, loss_of: Callable[..., Any], clip: float | None = None) -> Callable[..., Any]:
    def step(*batch: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(model, *batch)
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        return loss

    return step
