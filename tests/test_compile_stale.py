"""Whatever a compiled function reads from Python may change between calls: the next call sees it, or refuses; it never goes on with the old."""

from __future__ import annotations

import collections
import dataclasses
import enum
import itertools
import os
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from stale_python import CASES, PHASES, assert_never_stale, case, three

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.compiler.passes import PASSES
from tinygrad_ja.core.operator import Array, elementwise, fused
from tinygrad_ja.errors import UsageError
from tinygrad_ja.testing import strict

# ---- arrays of NumPy -----------------------------------------------------------------------------


@case
def arrays_that_python_reads() -> Any:
    small, large = np.arange(3.0), np.zeros((1000, 1000), np.float32)

    def change(k: int) -> None:
        small[...] += k
        large[...] = k

    return lambda x: x * float(small[1]) + float(large[3, 4]), change


@case
def arrays_that_become_tensors() -> Any:
    a, b, c = (np.arange(6, dtype=kind).reshape(2, 3) for kind in ("f4", "f8", "f4"))

    def step(x: Any) -> Any:
        return x * tg.tensor(a[1]) + tg.tensor(b[0], dtype=tg.float32) + tg.from_numpy(c[1]) * c[0]

    def change(k: int) -> None:
        for array in (a, b, c):
            array += k

    return step, change


# ---- tensors, modules, optimizers ----------------------------------------------------------------


@case
def state_that_is_reset() -> Any:
    held: Any = {"h": None}

    def step(x: Any) -> Any:
        h = tg.zeros(3) if held["h"] is None else held["h"]
        held["h"] = (h + x).tanh()
        return held["h"]

    return step, lambda k: held.update(h=None)


@case
def stored_but_not_read() -> Any:
    held: Any = {"y": None}

    def step(x: Any) -> Any:
        y = x * 2 if held["y"] is None else x * 3
        held["y"] = x + 1
        return y

    return step, lambda k: held.update(y=None)


@case
def two_names_of_one_tensor() -> Any:
    class A:
        u: Any
        v: Any

    def args(k: int) -> Any:
        A.u = three() * k
        A.v = A.u if k < 10 else three() * 7
        return ()

    return lambda: A.u + A.v * 2, lambda k: None, args


@case
def tensors_that_are_returned_as_they_are() -> Any:
    class A:
        last: Any = tg.zeros(3)

    def step(x: Any) -> Any:
        before, A.last = A.last, x * 1
        return before

    return step, lambda k: None, lambda k: (three() * k,)


@case
def slots_and_deques_that_carry_state() -> Any:
    class A:
        __slots__ = ("h",)

    a, queue = A(), collections.deque([tg.zeros(3)])
    a.h = tg.zeros(3)

    def step(x: Any) -> Any:
        a.h = (a.h + x).tanh()
        queue[0] = queue[0] + a.h
        return a.h, queue[0]

    return step, lambda k: None


@case
def results_in_a_dataclass() -> Any:
    @dataclasses.dataclass
    class Out:
        y: Any
        more: Any

    return lambda x: Out(x * 2, [x + 1]), lambda k: None


@case
def zero_and_minus_zero() -> Any:
    return (
        lambda x, a: x * 0 + tg.atan2(tg.full((), a), tg.tensor(-1.0)),
        lambda k: None,
        lambda k: (three(), -0.0 if k % 8 > 3 else 0.0),
    )


@case
def learning_rate_that_the_step_reads() -> Any:
    layer = nn.Linear(3, 3)
    optimizer = tg.optim.SGD(layer.parameters(), lr=0.1)

    def step(x: Any) -> Any:
        layer.zero_grad()
        loss = layer(x).square().sum()
        loss.backward()
        with tg.no_grad():
            for p in layer.parameters():
                p -= optimizer.param_groups[0]["lr"] * p.grad
        return loss.detach(), layer.weight.detach()

    return step, lambda k: optimizer.param_groups[0].update(lr=0.1 / (k + 1))


@case
def learning_rate_that_is_returned() -> Any:
    layer = nn.Linear(3, 3)
    optimizer = tg.optim.SGD(layer.parameters(), lr=0.1)
    schedule = tg.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = layer(x).square().sum()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss.detach(), schedule.get_last_lr()[0], optimizer.param_groups[0]["lr"]

    return step, lambda k: None


@case
def momentum_that_cycles() -> Any:
    layer = nn.Linear(3, 3)
    optimizers = [tg.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9), tg.optim.AdamW(layer.parameters(), lr=0.01)]
    schedules = [tg.optim.lr_scheduler.OneCycleLR(o, 0.02, total_steps=40) for o in optimizers]

    def step(x: Any) -> Any:
        for optimizer, schedule in zip(optimizers, schedules):
            optimizer.zero_grad()
            layer(x).square().sum().backward()
            optimizer.step()
            schedule.step()
        return layer.weight.detach()

    return step, lambda k: None


@case
def scale_of_a_scaler() -> Any:
    scaler = tg.amp.GradScaler("cpu", init_scale=4.0)
    return lambda x: x * scaler.get_scale(), lambda k: scaler.update(4.0 * (k + 1))


@case
def gradients_that_are_changed_outside() -> Any:
    layer = nn.Linear(3, 3)
    optimizer = tg.optim.SGD(layer.parameters(), lr=0.01)

    def step(x: Any) -> Any:
        loss = layer(x).square().sum()
        loss.backward()
        optimizer.step()
        return loss.detach(), layer.weight.detach()

    return step, lambda k: layer.zero_grad() if k % 2 else layer.weight.grad.mul_(2)  # type: ignore[union-attr]


@case
def parameters_that_are_frozen_tied_and_replaced() -> Any:
    a, b = nn.Linear(3, 3), nn.Linear(3, 3)

    def step(x: Any) -> Any:
        a.zero_grad()
        b.zero_grad()
        loss = b(a(x)).square().sum()
        loss.backward()
        return loss.detach(), [tg.zeros(1) if p.grad is None else p.grad for p in (a.weight, b.weight)]

    def change(k: int) -> None:
        if k == 1:
            a.weight.requires_grad_(False)
        elif k == 2:
            b.weight = a.weight
        elif k == 3:
            a.weight.requires_grad_()
            b.weight = nn.Parameter(tg.ones(3, 3))
        else:
            a.weight.data = a.weight.data * 2

    return step, change


@case
def functions_of_layers() -> Any:
    class Scaled(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2

    layer = nn.Sequential(nn.Linear(3, 3), Scaled())
    plain = Scaled.forward

    def change(k: int) -> None:
        if k == 1:
            Scaled.forward = lambda self, x: x * 5  # type: ignore[method-assign]
        elif k == 2:
            layer[0].register_forward_hook(lambda module, given, made: made + 1)
        elif k == 3:
            layer[0], layer[1] = layer[1], layer[0]
        else:
            Scaled.forward = plain  # type: ignore[method-assign]

    return lambda x: layer(x).detach(), change


class Kind(enum.Enum):
    A = "a"
    B = [1.0]  # noqa: RUF012

    def scale(self) -> float:
        return SCALE + self.value[0] if self is Kind.B else SCALE


SCALE = 1.0


@case
def enums_with_methods_and_lists() -> Any:
    class Held:
        kind = Kind.A

    def change(k: int) -> None:
        global SCALE
        SCALE = 1.0 + k
        Kind.B.value[0] = 1.0 + k * k

    change(0)
    return lambda x, kind: x * Held.kind.scale() + kind.scale(), change, lambda k: (three(), Kind.B)


class Level(int):
    """A number with an attribute."""

    factor = 1.0


@case
def numbers_with_attributes() -> Any:
    class Held:
        level = Level(2)

    def change(k: int) -> None:
        if k != 3:
            Held.level = Level(2)
        Held.level.factor = k + 2.0

    return lambda x: (x * Held.level.factor * Held.level).float(), change


@case
def shapes_that_depend_on_values() -> Any:
    return lambda x: x[x > 1.5].sum(), lambda k: None, lambda k: (tg.tensor([float(k % 3), 1.0, 2.0]),)


@case
def sources_of_random_numbers() -> Any:
    first, second = random.Random(0), np.random.default_rng(0)
    return lambda x: x * (2.0 if first.random() < 0.8 and second.random() < 0.8 else 3.0), lambda k: None


@pytest.mark.parametrize("name", sorted(set(CASES) - {"arrays_that_become_tensors"}))
def test_nothing_goes_stale(name: str, backend: str) -> None:
    assert_never_stale(CASES[name], backend)


def test_arrays_that_become_tensors_do_not_go_stale(cpu_backend: str) -> None:
    assert_never_stale(CASES["arrays_that_become_tensors"], cpu_backend)


@pytest.mark.parametrize(
    "name",
    ["closure", "containers", "methods", "slots", "arrays_that_become_tensors", "momentum_that_cycles", "state_that_is_reset"],
)
def test_and_most_is_replayed(name: str) -> None:
    assert assert_never_stale(CASES[name]).replays >= PHASES


# ---- what is refused -----------------------------------------------------------------------------


def counting(kind: str) -> Callable[[Any], Any]:
    if kind == "iterator":
        values = iter([2.0] * 6 + [3.0] * 9)
        return lambda x: x * next(values)
    if kind == "generator":
        generator = (2.0 if k < 8 else 3.0 for k in itertools.count())
        return lambda x: x * next(generator)
    if kind == "array":
        counts = np.zeros(1)

        def of_array(x: Any) -> Any:
            counts[0] += 1
            return x * (2 if counts[0] < 10 else 3)

        return of_array
    if kind == "set":
        seen: set[int] = set()

        def of_set(x: Any) -> Any:
            seen.add(len(seen))
            return x * (2 if len(seen) < 10 else 3)

        return of_set
    if kind == "attribute":

        def of_function(x: Any) -> Any:
            of_function.calls += 1  # type: ignore[attr-defined]
            return x * 2

        of_function.calls = 0  # type: ignore[attr-defined]
        return of_function
    layer = nn.Linear(3, 3)
    optimizer = tg.optim.SGD(layer.parameters(), lr=0.1)

    def of_rate(x: Any) -> Any:
        optimizer.zero_grad()
        layer(x).sum().backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] *= 0.9
        return x

    return of_rate


@pytest.mark.parametrize(
    "kind, named",
    [
        ("iterator", "values"),
        ("generator", "generator"),
        ("array", "counts"),
        ("set", "seen"),
        ("attribute", "calls"),
        ("rate", "lr"),
    ],
)
def test_what_a_step_moves_on_is_refused_and_named(kind: str, named: str) -> None:
    step = tg.compile(counting(kind))
    with pytest.raises(UsageError, match=f"TG-P001.*{named}"):
        for _ in range(6):
            step(three())


def test_an_array_on_a_gpu_that_a_step_changes_is_refused_and_one_that_others_change_is_read() -> None:
    table = strict.array(np.ones(3, np.float32))

    def reads(x: Any) -> Any:
        return x * tg.as_tensor(table)

    def changes(x: Any) -> Any:
        table[...] = table + 1
        return reads(x)

    x = tg.ones(3, device="strict")
    step = tg.compile(reads, backend="plain")
    for k in range(6):
        table[...] = float(k)
        assert step(x).tolist() == [k] * 3
    assert step.replays >= 3
    with pytest.raises(UsageError, match="TG-P001.*table"):
        step = tg.compile(changes, backend="plain")
        for _ in range(3):
            step(x)


def test_a_loop_over_a_loader_is_refused() -> None:
    loader = tg.data.DataLoader(tg.data.TensorDataset(tg.ones(4, 3)), batch_size=2)

    @tg.compile
    def step(x: Any) -> Any:
        for (batch,) in loader:
            x = x + batch.sum(0)
        return x

    with pytest.raises(UsageError, match="DataLoader"):
        step(three())


@pytest.mark.parametrize("read", [lambda x: x * time.time(), lambda x: x * open(os.devnull).fileno()])
def test_clocks_and_files_are_not_frozen(read: Any) -> None:
    step = tg.compile(read)
    with pytest.warns(UserWarning, match=r"it calls (time|open)"):
        for _ in range(4):
            step(three())
    assert step.replays == 0


def test_a_new_number_at_every_call_warns_once_and_is_no_longer_recorded() -> None:
    step = tg.compile(lambda x, n: x * n)
    with pytest.warns(UserWarning, match="argument 1") as seen:
        for n in range(100):
            assert step(tg.ones(1), n).item() == n
    assert len(seen) == 1 and step.recordings < 40
    for _ in range(6):
        assert step(tg.ones(1), -1).item() == -1
    assert step.replays > 0


def test_a_list_that_is_replaced_at_every_call_warns() -> None:
    held = {"s": [1.0]}
    step = tg.compile(lambda x: x * held["s"][0])
    with pytest.warns(UserWarning, match="held.*changes"):
        for _ in range(12):
            held["s"] = [1.0]
            assert step(tg.ones(1)).item() == 1
    assert step.recordings < 10


# ---- code of the user that runs within a backward ------------------------------------------------

SCALE = 2.0


def _scaled(x: Any) -> Any:
    return x * SCALE


def _by_hook(y: Any) -> Any:
    y.register_hook(_scaled)
    return (y * y).sum()


def _by_second_order(y: Any) -> Any:
    (g,) = tg.grad((y * y * y).sum(), (y,), create_graph=True)
    return _scaled(g).sum()


@pytest.mark.parametrize(
    "loss_of",
    [_by_hook, lambda y: tg.checkpoint(_scaled, y).square().sum(), _by_second_order],
    ids=["hook", "checkpoint", "twice"],
)
def test_globals_of_hooks_and_of_checkpoints_are_watched(
    loss_of: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    w = tg.tensor([1.0, 2.0], requires_grad=True)

    def step(x: Any) -> Any:
        w.grad = None
        loss = loss_of(w * x)
        loss.backward()
        return loss.detach()

    compiled = tg.compile(step)
    for scale in (2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0, 5.0):
        monkeypatch.setitem(globals(), "SCALE", scale)
        expected = step(tg.ones(2)).tolist(), w.grad.tolist()
        assert (compiled(tg.ones(2)).tolist(), w.grad.tolist()) == expected
    assert compiled.replays > 0


@elementwise(lambda g, input: g * SCALE)
def _doubled_for_now(xp: Any, input: Array) -> Array:
    return input * SCALE


@fused(None, lambda input: _scaled(input.tanh()))
def _scaled_tanh(xp: Any, input: Array) -> Array:
    return xp.tanh(input) * SCALE


@pytest.mark.parametrize("operator", [_doubled_for_now, _scaled_tanh], ids=["elementwise", "fused"])
def test_globals_of_operators_of_the_user_are_watched(operator: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    w = tg.tensor([1.0, 2.0], requires_grad=True)

    def step(x: Any) -> Any:
        w.grad = None
        loss = operator(w * x).sum()
        loss.backward()
        return loss.detach()

    compiled = tg.compile(step)
    for scale in (2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0, 5.0):
        monkeypatch.setitem(globals(), "SCALE", scale)
        expected = step(tg.ones(2)), w.grad.tolist()
        made = compiled(tg.ones(2)), w.grad.tolist()
        np.testing.assert_allclose(made[0].item(), expected[0].item(), rtol=1e-6)
        np.testing.assert_allclose(made[1], expected[1], rtol=1e-6)
    assert compiled.replays > 0


def test_a_step_after_a_hook_of_an_operator_is_of_its_line() -> None:
    w = tg.tensor([1.0, 2.0], requires_grad=True)

    def step(x: Any) -> Any:
        w.grad = None
        y = x + w
        y.node.register_hook(lambda inputs, output: tuple([None if g is None else g * 2.0 for g in inputs]))
        y.sum().backward()
        return y.detach()

    compiled = tg.compile(step, disable=PASSES)
    for _ in range(3):
        compiled(tg.ones(3, 2))
    sources = {i.source.operator: i.source.line for i in compiled.plan().program.instructions}
    assert sources["add.backward"] and "hook" not in sources
