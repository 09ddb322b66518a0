"""Steps that can reach Tensors of two devices: the CPU, and the stand-in for a GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the device
from tinygrad_ja import nn
from tinygrad_ja.errors import UsageError

OPTIMIZERS = (
    "ASGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
)


class State:
    """Something on the stand-in (g, gs, far) and something on the CPU (c, cs, near), which a step can reach."""

    def __init__(self) -> None:
        tg.manual_seed(0)
        self.g, self.c = nn.Parameter(tg.tensor([1.0, 2.0], device="strict")), nn.Parameter(tg.tensor([3.0, 4.0]))
        self.gs, self.cs = tg.arange(3.0, device="strict"), tg.arange(3.0)
        self.far, self.near = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)) for _ in range(2))
        self.far.to("strict")
        self.kept: dict[str, tg.Tensor] = {}
        self.scaler = tg.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
        self.mean = tg.optim.swa_utils.AveragedModel(self.far, device="cpu")
        self.of_both = {name: getattr(tg.optim, name)([self.g, self.c], lr=0.1) for name in OPTIMIZERS}
        self.of_far = tg.optim.SGD(self.far.parameters(), lr=0.05)

    def seen(self) -> Any:
        tensors = [self.g, self.c, self.g.grad, self.c.grad, self.gs, self.cs, *self.kept.values()]
        tensors += [x for model in (self.far, self.near, self.mean) for x in model.state_dict().values()]
        states = [state for optimizer in self.of_both.values() for state in optimizer.state_dict()["state"].values()]
        return [
            self.scaler.state_dict(),
            *map(shown, tensors),
            [{name: shown(x) for name, x in state.items()} for state in states],
        ]


def shown(x: Any) -> Any:
    if isinstance(x, (tuple, list)):
        return [shown(part) for part in x]
    return (str(x.device), x.dtype, x.tolist()) if isinstance(x, tg.Tensor) else x


def beside(
    function: Callable[[State, Any], Any], calls: int = 5, between: Callable[[State, int], Any] = lambda s, k: None
) -> Any:
    """What plain and compiled calls show is the same. Returns the compiled function."""
    found = []
    for compiled in (False, True):
        s = State()

        def step(x: Any, s: State = s) -> Any:
            return function(s, x)

        call = tg.compile(step, backend="plain") if compiled else step
        found.append([])
        for k in range(calls):
            between(s, k)
            result = call(tg.tensor([0.5, 1.0 + k]))
            found[-1].append((shown(result), s.seen()))
    for k, (expected, actual) in enumerate(zip(*found)):
        assert actual == expected, f"call {k}"
    return call


def batch(x: Any) -> Any:
    return x + tg.arange(8.0).reshape(4, 2) * tg.tensor([1.0, -0.5])


def clipped(s: State, x: Any) -> Any:
    s.g.grad = s.c.grad = None
    ((s.c * x).cpu() * s.g.cpu()).sum().backward()
    return nn.utils.clip_grad_norm_([s.g, s.c], 0.3), nn.utils.clip_grad_value_([s.c, s.g], 0.1)


def averaged(s: State, x: Any) -> Any:
    s.of_far.zero_grad()
    loss = (s.far(batch(x).to("strict")) ** 2).mean()
    loss.backward()
    s.of_far.step()
    s.mean.update_parameters(s.far)
    return loss


def scaled(s: State, x: Any) -> Any:
    adam = s.of_both["AdamW"]
    adam.zero_grad()
    loss = ((s.g * x.to("strict")).sum().cpu() + (s.c * x).sum()) ** 2
    s.scaler.scale(loss).backward()
    s.scaler.step(adam)
    s.scaler.update()
    return loss


def two_models(s: State, x: Any) -> Any:
    loss = nn.functional.mse_loss(s.far(batch(x).to("strict")).cpu(), s.near(batch(x)))
    loss.backward()
    return loss


def twice(s: State, x: Any) -> Any:
    by_c, by_g = tg.grad((s.c**2 * s.g.cpu() ** 3 * x).sum(), [s.c, s.g], create_graph=True)
    (by_c.sum() + by_g.cpu().sum()).backward()
    return by_c


def parts(s: State, x: Any) -> Any:
    s.cs[0] = 7.0
    s.cs[1:] += x
    s.cs.array[1] = 5.0
    return s.gs * 2


def kept(s: State, x: Any) -> Any:
    s.kept["sum"] = s.kept.get("sum", s.cs) + s.gs.cpu()
    return s.gs * 2


def with_both(name: str) -> Callable[[State, Any], Any]:
    def step(s: State, x: Any) -> Any:
        optimizer = s.of_both[name]
        optimizer.zero_grad()
        ((s.g * x.to("strict")) ** 2).sum().backward()
        ((s.c * x - 1) ** 2).sum().backward()
        optimizer.step()

    return step


CHANGES: dict[str, Callable[[State, Any], Any]] = {
    "norm of gradients": clipped,
    "mean of weights": averaged,
    "scaler": scaled,
    "models": two_models,
    "second order": twice,
    "parts": parts,
    "in place": lambda s, x: s.cs.mul_(0.5).add_(1.0) + s.gs.add_(1.0).cpu(),
    "rebound": lambda s, x: setattr(s, "cs", s.gs.cpu() * 2),
    "kept": kept,
    "returned": lambda s, x: (s.c * x, s.g * x.to("strict")),
    "array": lambda s, x: s.cs.array.__iadd__(1.0) is None or s.gs * 2,
    **{name: with_both(name) for name in OPTIMIZERS},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_step_that_changes_something_on_both_is_called_as_it_is(name: str) -> None:
    with pytest.warns(UserWarning, match="two devices"):
        compiled = beside(CHANGES[name])
    assert compiled.replays == 0
    with pytest.raises(UsageError, match=r"TG-P011[^!]*two devices"):
        compiled.plan()


@pytest.mark.parametrize(
    "function, dtypes",
    [
        (lambda s, x: s.gs * s.cs.to("strict"), ("float32", "float64")),
        (lambda s, x: s.gs[s.cs], ("int64", "int32")),
        (lambda s, x: setattr(s, "gs", s.gs * 0.5 + s.cs.to("strict")), ("float32", "int64")),
    ],
    ids=["moved", "an index", "stored"],
)
def test_a_tensor_that_a_step_takes_to_its_device_is_read_at_each_call(function: Any, dtypes: tuple[str, str]) -> None:
    first, second = dtypes

    def between(s: State, k: int) -> None:
        if k == 0:
            s.cs = tg.tensor([0, 2, 1], dtype=first)
        if k == 3:
            s.cs.fill_(1)
        if k == 4:
            s.cs.array = np.array([2, 2, 0], first)
        if k == 5:
            s.cs = tg.tensor([1, 2, 2], dtype=first)
        if k == 7:
            s.cs.array = s.cs.array.astype(second)

    assert beside(function, 10, between).replays == 6


def test_the_value_of_a_tensor_of_the_other_device_cannot_be_read() -> None:
    s = State()
    with pytest.raises(UsageError, match="TG-U016"):
        tg.compile(lambda: s.gs * s.cs[1].item())()
    assert s.cs.tolist() == [0.0, 1.0, 2.0]


def test_what_a_step_only_can_reach_on_the_other_device_is_no_matter() -> None:
    def between(s: State, k: int) -> None:
        s.cs.add_(1.0)
        s.near[0].weight.array = s.near[0].weight.array * 2
        if k == 3:
            s.near.double()

    assert beside(lambda s, x: s.far.eval()(x.to("strict").unsqueeze(0)).detach(), 6, between).replays == 4


def test_a_failure_leaves_both_devices_as_they_were() -> None:
    s = State()

    @tg.compile
    def step(x: Any) -> None:
        s.kept["a"] = s.cs * 2 + s.gs.cpu()
        s.cs.add_(1.0)
        (s.g.cpu() * s.c).sum().backward()
        raise ValueError

    for k in range(2):
        with pytest.raises(ValueError):
            step(tg.ones(2))
        assert s.cs.tolist() == [1.0 + k, 2.0 + k, 3.0 + k]
        assert s.kept["a"].tolist() == [3.0 * i + 2 * k for i in range(3)]
        assert s.c.grad is not None and s.c.grad.tolist() == [1.0 + k, 2.0 + 2 * k]


def test_another_thread_reads_on_the_other_device_while_one_is_recorded() -> None:
    s, found = State(), []

    def elsewhere() -> None:
        found.append([(s.cs * 2).tolist(), s.cs.numpy().tolist(), (s.gs + 1).tolist(), s.near(tg.ones(2, 2)).shape])

    @tg.compile
    def step(x: Any) -> Any:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return s.gs * x.to("strict").sum()

    step(tg.ones(2))
    assert found == [[[0.0, 2.0, 4.0], [0.0, 1.0, 2.0], [1.0, 2.0, 3.0], (2, 1)]]
