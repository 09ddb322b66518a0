"""Optimizers of the user in compiled steps: what they keep is found, what they read is watched, what they count is not frozen."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compiled_runs import arrays, assert_same_run, batches, train

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.errors import UsageError

F = nn.functional
SCALE = 1.0


class Settings(tg.optim.Optimizer):
    """Its rule reads an attribute, an item of a list, an attribute of the class, and a global name."""

    factor = 1.0

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 0.1})
        self.decay, self.table = 0.1, [1.0]

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        p -= group["lr"] * self.factor * self.table[0] * SCALE * (g + self.decay * p)


class Decayed(tg.optim.SGD):
    """Its step does something before that of SGD."""

    factor, decay = 1.0, 0.1

    def step(self, closure: Any = None) -> Any:
        with tg.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.mul_(1 - group["lr"] * self.decay * self.factor * SCALE)
        return super().step(closure)


class Momentum(tg.optim.Optimizer):
    """Written as for PyTorch: the whole step, with a Tensor in the state; it may count, too."""

    counts = False

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 0.1, "beta": 0.9})

    @tg.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state.setdefault(p, {})
                if not state:
                    state["mean"] = tg.zeros_like(p)
                    state["count"] = 0
                state["mean"] = group["beta"] * state["mean"] + (1 - group["beta"]) * p.grad
                if self.counts:
                    state["count"] += 1
                p.sub_(state["mean"], alpha=group["lr"] / (1 - 0.5 ** (state["count"] + 1 if self.counts else 1)))


class Counting(Momentum):
    counts = True


class Steady(Momentum):
    """The same without a number in the state."""

    @tg.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state.setdefault(p, {})
                state["mean"] = group["beta"] * state.get("mean", 0.0) + p.grad
                p.sub_(state["mean"], alpha=group["lr"])


def losses(make: Callable[[Any], Any], wrap: Callable[[Any], Any], change: Callable[[Any, int], Any]) -> tuple[np.ndarray, Any]:
    """What 16 steps give, with a change after every fourth."""
    global SCALE
    SCALE, Settings.factor, Decayed.factor = 1.0, 1.0, 1.0
    tg.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = make(model.parameters())
    step = wrap(train(model, optimizer, lambda m, x: m(x).square().mean()))
    made: list[np.ndarray] = []
    for k, batch in enumerate(batches(16, (4, 3))):
        if k and k % 4 == 0:
            change(optimizer, k // 4)
        made += arrays([step(*batch), *model.parameters()])
    return np.concatenate([a.ravel() for a in made]), step


def change_a_setting(optimizer: Any, k: int) -> None:
    global SCALE
    if k == 1:
        optimizer.decay = 0.5
    elif k == 2:
        type(optimizer).factor = 2.0
    else:
        SCALE = 0.5
        getattr(optimizer, "table", [0.0])[0] = 0.5


@pytest.mark.parametrize("make", [Settings, lambda p: Decayed(p, lr=0.1)], ids=["rule", "step"])
def test_what_an_optimizer_of_the_user_reads_is_watched(make: Any, backend: str) -> None:
    expected, _ = losses(make, lambda f: f, change_a_setting)
    made, compiled = losses(make, lambda f: tg.compile(f, backend=backend), change_a_setting)
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-6)
    assert compiled.replays >= 6


@pytest.mark.filterwarnings("ignore:.*called as it is:UserWarning")
@pytest.mark.parametrize("make, replays", [(Steady, 6), (Momentum, 0), (Counting, 0)])
def test_a_step_that_keeps_tensors_in_the_state(make: Any, replays: int, backend: str) -> None:
    def change(optimizer: Any, k: int) -> None:
        optimizer.param_groups[0]["beta"] = 0.9 - 0.1 * k

    expected, _ = losses(make, lambda f: f, change)
    made, compiled = losses(make, lambda f: tg.compile(f, backend=backend), change)
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-6)
    assert compiled.replays >= replays


def test_a_count_in_an_attribute_is_refused() -> None:
    class Slower(Settings):
        def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
            self.decay /= 2
            super().update(p, g, group, state)

    with pytest.raises(UsageError, match="TG-P001.*decay"):
        losses(Slower, tg.compile, lambda optimizer, k: None)


def test_a_count_of_adam_that_the_step_reads_is_not_frozen(backend: str) -> None:
    def make() -> Any:
        w = tg.ones(3, requires_grad=True)
        optimizer = tg.optim.Adam([w], lr=0.1)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = (x * w).sum()
            loss.backward()
            optimizer.step()
            return loss * 2 if optimizer.state[w]["step"] > 5 else loss

        return step, [w]

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(
            AssertionError, match="reads a number in the state of an optimizer"
        ):  # no replay, but the same results
            assert_same_run(make, batches(8, (3,)), backend)
    assert len(said) == 1
