"""``tg.compile``: what is read after the same function has changed it, by another name or in Python."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import tinygrad_ja as tg
from tinygrad_ja import nn, optim

pytestmark = pytest.mark.filterwarnings("ignore:compile")


def compare(make: Callable[[], tuple[Callable[..., Any], Callable[[Any, int], Any]]], calls: int = 10) -> Any:
    """What the calls give, plainly and compiled. Returns the compiled function."""
    found, step = [], None
    for wrap in (lambda f: f, tg.compile):
        function, call = make()
        step = wrap(function)
        found.append([call(step, i) for i in range(calls)])
    assert found[0] == pytest.approx(found[1])
    return step


def test_a_rate_that_is_read_after_the_schedule_went_on() -> None:
    def make() -> Any:
        weight = tg.ones(1, requires_grad=True)
        optimizer = optim.SGD([weight], lr=1.0)
        schedule = optim.lr_scheduler.StepLR(optimizer, 4, gamma=0.5)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            (weight * x).sum().backward()
            optimizer.step()
            schedule.step()
            return x * 1, schedule.get_last_lr()[0]

        return step, lambda f, i: f(tg.ones(1))[1]

    assert "learning rate" in compare(make).notes[0]


def test_a_scale_that_is_read_after_the_update() -> None:
    def make() -> Any:
        weight = tg.ones(1, requires_grad=True)
        optimizer = optim.SGD([weight], lr=0.1)
        scaler = tg.amp.GradScaler(init_scale=8.0, growth_interval=3)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            scaler.scale((weight * x).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
            return x * 1, scaler.get_scale()

        return step, lambda f, i: f(tg.ones(1))[1]

    assert "a scale" in compare(make).notes[0]


def test_a_rate_that_is_read_where_nothing_moves_it_is_replayed() -> None:
    def make() -> Any:
        weight = tg.ones(1, requires_grad=True)
        optimizer = optim.Adam([weight], lr=0.5)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            (weight * x).sum().backward()
            optimizer.step()
            return x * 1, optimizer.param_groups[0]["lr"]

        return step, lambda f, i: f(tg.ones(1))[1]

    assert compare(make).replays > 0


def test_an_argument_that_is_changed_before_an_operator_that_reads_values() -> None:
    def in_place(x: Any) -> Any:
        x.add_(1.0)
        return tg.unique(x)

    def assigned(x: Any) -> Any:
        x[0] = x[0] + 1
        return tg.multinomial(x, 1)

    def call(f: Any, i: int) -> Any:
        x = tg.ones(3)
        f(x)
        return sum(x.tolist())

    for function, name in ((in_place, "unique"), (assigned, "multinomial")):
        assert name in compare(lambda function=function: (function, call), calls=3).notes[0]


def test_the_captured_tensor_comes_as_the_argument_that_is_changed() -> None:
    def make() -> Any:
        b = tg.zeros(1)
        return (lambda y: (y.add_(1.0), b * 1)[1]), lambda f, i: f(b if i == 4 else tg.ones(1)).item()

    assert compare(make).replays > 0


def test_a_view_of_a_parameter_after_its_update() -> None:
    def make() -> Any:
        layer = nn.Linear(2, 1, bias=False)
        nn.init.constant_(layer.weight, 1.0)
        tied = layer.weight.detach().T
        optimizer = optim.SGD(layer.parameters(), lr=0.1)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            layer(x).square().sum().backward()
            optimizer.step()
            return (x @ tied).sum()

        return step, lambda f, i: f(tg.ones(1, 2)).item()

    assert "part of which" in compare(make).notes[0]


def test_parameters_that_are_parts_of_one_array_are_replayed() -> None:
    def make() -> Any:
        flat = tg.zeros(4)
        parameters = [nn.Parameter(flat[:2]), nn.Parameter(flat[2:])]
        optimizer = optim.SGD(parameters, lr=0.1)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            sum((p * x).sum() for p in parameters).backward()
            optimizer.step()
            return parameters[0].sum() + parameters[1].prod()

        return step, lambda f, i: f(tg.ones(2)).item()

    assert compare(make).replays > 0


def test_another_thread_reads_numbers_while_one_records(backend: str) -> None:
    layer = nn.Linear(2, 2)
    expected, found = layer.weight.detach().tolist(), []

    def read() -> None:
        weight = layer.weight.detach()
        found.extend(
            [weight.tolist(), weight.cpu().numpy().tolist(), repr(weight), float(weight.sum()), bool(weight[0, 0] == 3)]
        )

    def function(x: Any) -> Any:
        y = layer(x).sum()
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        return y

    tg.compile(tg.no_grad(function), backend=backend)(tg.ones(1, 2))
    assert found[:2] == [expected, expected] and len(found) == 5


def test_names_of_clocks_that_are_not_read() -> None:
    def sleeping(x: Any) -> Any:
        time.sleep(0)
        return x * 2

    def reading(x: Any) -> Any:
        return x * 2, time.perf_counter()

    quiet, late = tg.compile(sleeping), tg.compile(reading)
    for _ in range(5):
        quiet(tg.ones(1))
        late(tg.ones(1))
    assert quiet.replays == 3 and not quiet.notes
    assert "time.perf_counter()" in late.notes[0]
