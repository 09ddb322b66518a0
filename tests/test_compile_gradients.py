"""``tg.compile``: what a program took for granted of gradients that were there, or not, before the call."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compiled_runs import assert_same_run, batches

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.compiler.compiled import Compiled


def both(backend: str, make: Callable[[], tuple[Callable[..., Any], Callable[[int, Any], Any]]], calls: int = 9) -> Any:
    """What ``call(i, step)`` gives for each i, plainly and compiled; they have to agree. Returns the compiled step."""
    found, step = [], None
    for wrap in (lambda f: f, lambda f: tg.compile(f, backend=backend)):
        function, call = make()
        step = wrap(function)
        found.append([call(i, step) for i in range(calls)])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    return step


def test_a_frozen_parameter_that_thaws(backend: str) -> None:
    def make() -> Any:
        parameters = [tg.ones(1, requires_grad=True) for _ in range(2)]
        optimizer = tg.optim.SGD(parameters, lr=0.1)

        def call(i: int, update: Any) -> float:
            for p in parameters:
                p.grad = tg.ones(1) if p is parameters[0] or i >= 3 else None
            update()
            return parameters[1].item()

        return (lambda: optimizer.step()), call

    assert both(backend, make).replays > 0


def test_a_norm_of_more_gradients_than_before(backend: str) -> None:
    def make() -> Any:
        parameters = [tg.ones(1, requires_grad=True) for _ in range(2)]

        def call(i: int, clip: Any) -> float:
            for p in parameters:
                p.grad = tg.ones(1) * 2 if p is parameters[0] or i >= 4 else None
            return float(clip().item())

        return (lambda: nn.utils.clip_grad_norm_(parameters, 1e9)), call

    assert both(backend, make).replays > 0


def test_whether_there_is_a_gradient(backend: str) -> None:
    def make() -> Any:
        w = tg.ones(1, requires_grad=True)

        def function(x: Any) -> Any:
            return x * 2 if w.grad is not None else x

        def call(i: int, step: Any) -> float:
            w.grad = tg.ones(1) if 4 <= i < 9 else None
            return float(step(tg.ones(1)).item())

        return function, call

    step = both(backend, make, calls=14)
    assert step.replays > 0 and step.recordings <= 4  # of both kinds; the first fits again at the end


def test_a_gradient_from_outside_of_a_whole_step(backend: str) -> None:
    def make() -> Any:
        tg.manual_seed(0)
        layer, other = nn.Linear(2, 1), nn.Linear(2, 1)
        optimizer = tg.optim.SGD([*layer.parameters(), *other.parameters()], lr=0.1)
        x = tg.ones(3, 2)

        def function(x: Any) -> Any:
            loss = layer(x).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        def call(i: int, step: Any) -> float:
            optimizer.zero_grad()
            if i >= 5:
                other(x).sum().backward()
            return float(step(x).item()) + float(other.weight.detach().sum().item())

        return function, call

    assert both(backend, make).replays > 0


def test_no_more_recordings_where_gradients_come_and_go_within_the_step(backend: str) -> None:
    def make() -> Any:
        tg.manual_seed(0)
        layer = nn.Linear(2, 1)
        optimizer = tg.optim.Adam(layer.parameters())

        def function(x: Any) -> Any:
            optimizer.zero_grad()
            loss = layer(x).square().mean()
            loss.backward()
            nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
            optimizer.step()
            return loss

        return function, lambda i, step: float(step(tg.ones(3, 2)).item())

    assert both(backend, make).recordings <= 3


def test_another_thread_learns_while_one_is_recorded(backend: str) -> None:
    """The same parameters in both; the other thread's backward runs during the recording, or its forward does and its backward later."""
    tg.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3))
    x = tg.ones(5, 4)

    def gradients() -> list[Any]:
        return [p.grad.cpu().numpy().copy() for p in model.parameters()]

    model(x).square().sum().backward()
    expected, found, losses = gradients(), [], []
    model.zero_grad()

    def elsewhere(work: Callable[[], Any]) -> None:
        failures: list[BaseException] = []

        def run() -> None:
            try:
                work()
            except BaseException as failure:
                failures.append(failure)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert not failures, failures[0]

    def whole() -> None:
        loss = model(x).square().sum()
        loss.backward()
        found.append(gradients())
        model.zero_grad()
        losses.append(model(x).square().sum())

    def function(x: Any) -> Any:
        y = model(x).sum()
        elsewhere(whole)
        return y

    tg.compile(tg.no_grad(function), backend=backend)(tg.ones(5, 4))
    elsewhere(losses[0].backward)
    for made in (found[0], gradients()):
        for a, b in zip(expected, made):
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("change", ["in place", "another", "of another parameter", "none"])
@pytest.mark.parametrize("inside", [False, True])
def test_gradients_go_where_a_captured_tensor_comes_from(change: str, inside: bool, backend: str) -> None:
    def run(compiled: bool) -> list[Any]:
        p, q, held = tg.ones(2, requires_grad=True), tg.ones(2, requires_grad=True), {"w": tg.zeros(2)}

        def step(x: Any) -> Any:
            y = (held["w"] * x).sum()
            if inside:
                y.backward()
            return y

        call = tg.compile(step, backend=backend) if compiled else step
        made = []
        for k in range(9):
            p.grad = q.grad = None
            factor = 1.0 if k < 4 else 5.0
            if change == "in place":
                held["w"].detach_().add_(p * factor)
            elif change == "another":
                held["w"] = held["w"].detach() + p * factor
            elif change == "of another parameter":
                held["w"] = held["w"].detach() + (p if k < 4 else q)
            else:
                held["w"] = p * 2.0 if k < 4 else held["w"].detach().requires_grad_()
            y = call(tg.ones(2) * 2.0)
            if not inside:
                y.backward()
            made.append((y.item(), *[None if x.grad is None else x.grad.tolist() for x in (p, q)]))
        return made

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert run(True) == run(False)


@pytest.mark.parametrize("inside", [False, True])
def test_a_parameter_that_takes_the_place_of_one_with_other_elements_at_each_call(inside: bool, backend: str) -> None:
    def run(compiled: bool) -> list[Any]:
        layer = nn.Linear(2, 1, bias=False)

        def step(x: Any) -> Any:
            layer.weight.grad = None
            y = layer(x).sum()
            if inside:
                y.backward()
            return y

        call = tg.compile(step, backend=backend) if compiled else step
        made = []
        for k in range(9):
            layer.weight.data = tg.ones(1, 2) * (k + 1.0)
            if k == 4:
                layer.weight = nn.Parameter(tg.ones(1, 2) * 50.0)
            y = call(tg.ones(3, 2))
            if not inside:
                y.backward()
            made.append((y.item(), layer.weight.grad.tolist()))
        return made

    assert run(True) == run(False)


@pytest.mark.parametrize("given", [False, True])
def test_a_hook_of_a_parameter_runs_once_where_the_backward_is_outside(given: bool, backend: str) -> None:
    w = nn.Parameter(tg.ones(2))
    w.register_hook(lambda g: g * 0.5 + 1.0)

    def function(x: Any, w: Any = w) -> Any:
        return (w * x).sum()

    forward = tg.compile(function, backend=backend)
    for _ in range(5):
        w.grad = None
        y = forward(tg.ones(2) * 2.0, w) if given else forward(tg.ones(2) * 2.0)
        (y + (w * 3.0).sum()).backward()
        assert w.grad is not None and w.grad.tolist() == [3.5, 3.5]  # of the sum of both, 5
    assert forward.replays == 3


@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_a_parameter_that_was_frozen_while_it_had_a_gradient(name: str, backend: str) -> None:
    def make() -> Any:
        parameters = [tg.ones(1, requires_grad=True) for _ in range(2)]
        optimizer = getattr(tg.optim, name)(parameters, lr=0.1)

        def step() -> None:
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()

        def call(i: int, step: Any) -> float:
            parameters[0].grad = tg.ones(1) * (i + 1.0)
            if i == 2:
                parameters[1].grad = tg.ones(1) * 2.0
                parameters[1].requires_grad_(False)
            if i == 6:
                parameters[1].requires_grad_()
                parameters[1].grad = tg.ones(1) * 3.0
            step()
            return parameters[0].item() + 100.0 * parameters[1].item()

        return step, call

    assert both(backend, make).replays > 0


def test_gradients_that_another_compiled_function_makes_are_clipped_where_they_are_now(backend: str) -> None:
    def make() -> Any:
        layer = nn.Linear(4, 4)
        with tg.no_grad():
            layer.weight.fill_(0.25)
            layer.bias.fill_(0.5)

        def derive(x: Any) -> None:
            layer.zero_grad()
            layer(x).square().sum().backward()

        made: list[Any] = []  # plain for the plain run, compiled for the other

        def call(i: int, clip: Any) -> list[float]:
            if not made:
                made.append(tg.compile(derive, backend=backend) if isinstance(clip, Compiled) else derive)
            if i % 2:
                made[0](tg.ones(2, 4) * (i + 1.0))
            norm = clip()
            return [norm.item(), *[0.0 if p.grad is None else p.grad.sum().item() for p in layer.parameters()]]

        return (lambda: nn.utils.clip_grad_norm_(layer.parameters(), 1.0)), lambda i, clip: np.array(call(i, clip))

    assert both(backend, make, 14).replays >= 4


def test_a_gradient_that_others_made_is_set_to_none(backend: str) -> None:
    def make() -> Any:
        p, q = nn.Parameter(tg.ones(1)), nn.Parameter(tg.ones(1))
        sgd = tg.optim.SGD([p, q], lr=0.1)

        def step(x: Any) -> None:
            sgd.zero_grad()
            (p * x).sum().backward()
            sgd.step()

        def call(i: int, step: Any) -> float:
            if i >= 2:
                (q * 2.0).sum().backward()
            step(tg.ones(1))
            return q.item() + (0.0 if q.grad is None else 100.0)

        return step, call

    assert both(backend, make).replays > 0


@pytest.mark.parametrize("start", [tg.zeros, lambda n: tg.full((n,), 0.5), lambda n: tg.zeros(1).expand(n)])
def test_a_backward_adds_to_a_gradient_that_the_function_has_set(start: Any, backend: str) -> None:
    def make() -> Any:
        w = tg.ones(3, requires_grad=True)

        def step(x: Any) -> Any:
            w.grad = first = start(3)
            (w * w * x).sum().backward()
            with tg.no_grad():
                w.sub_(w.grad, alpha=0.1)
            return first * 1, w.grad * 1

        return step, [w]

    assert assert_same_run(make, batches(6, (3,)), backend).replays == 4


def test_a_function_that_asks_whether_there_is_a_gradient(backend: str) -> None:
    def make() -> Any:
        weights = [tg.ones(3, requires_grad=True), tg.ones(3, requires_grad=True)]

        def step() -> None:
            for w in weights:
                w.grad = w.detach() * 0.25 if w.grad is None else w.grad * 0.5

        def call(i: int, step: Any) -> Any:
            if i in (1, 4, 5, 9):
                weights[i % 2].grad = None
            step()
            return np.array([w.grad.tolist() for w in weights])

        return step, call

    assert both(backend, make, 20).replays >= 10


def of_a_layer(layer: Any, held: dict[str, Any]) -> Callable[[Any], Any]:
    layer.register_full_backward_hook(lambda module, inner, outer: held.update(g=outer[0]))
    return lambda x: layer(x)


def of_a_tensor(layer: Any, held: dict[str, Any]) -> Callable[[Any], Any]:
    def forward(x: Any) -> Any:
        y = layer(x)
        y.register_hook(lambda g: held.update(g=g * 2))
        return y * 3

    return forward


@pytest.mark.parametrize("make", [of_a_layer, of_a_tensor])
@pytest.mark.parametrize("held", [{}, {"g": tg.zeros(4, 2)}])
def test_a_backward_after_the_function_that_stores_what_it_meets(make: Any, held: dict[str, Any], backend: str) -> None:
    found = []
    for wrap in (lambda f: f, lambda f: tg.compile(f, backend=backend)):
        tg.manual_seed(0)
        layer, kept = nn.Linear(3, 2), dict(held)
        forward = wrap(make(layer, kept))
        for i in range(5):
            layer.zero_grad()
            with pytest.warns(UserWarning, match="its backward changes") if found and i == 0 else warnings.catch_warnings():
                y = forward(tg.full((4, 3), 0.5 * i))
            before = kept.get("g")
            if i != 3:
                y.square().sum().backward()
            found.append([None if g is None else g.tolist() for g in (before, kept.get("g"), layer.weight.grad)])
        assert len(found) < 10 or found[:5] == found[5:]


def test_a_checkpoint_with_running_means_and_a_backward_after_the_function(backend: str) -> None:
    found = []
    for wrap in (lambda f: f, lambda f: tg.compile(f, backend=backend)):
        tg.manual_seed(0)
        layers = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Tanh())
        forward = wrap(lambda x, layers=layers: tg.checkpoint(layers, x))
        for batch in batches(5, (4, 3)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                forward(*batch).sum().backward()
        found.append([x.tolist() for x in layers.buffers()])
    assert found[1] == [pytest.approx(x, rel=1e-5) for x in found[0]]
