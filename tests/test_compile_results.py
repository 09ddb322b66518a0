"""``tg.compile``: what a function returns and stores, whose elements it may not have computed, and what it refuses from the beginning."""

from __future__ import annotations

import gc
from collections import deque
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, CompileError


def test_a_constant_among_the_results(backend: str) -> None:
    step = tg.compile(lambda x: (x * 2, tg.zeros(3)), backend=backend)
    kept = []
    for _ in range(5):
        made, zeros = step(tg.ones(2))
        assert made.tolist() == [2.0, 2.0] and zeros.tolist() == [0.0, 0.0, 0.0]
        zeros.add_(1.0)
        kept.append(zeros)
    assert step.replays == 3
    assert all(zeros.tolist() == [1.0, 1.0, 1.0] for zeros in kept)


@pytest.mark.filterwarnings("ignore:compile")
def test_results_that_come_from_elsewhere() -> None:
    kept: list[Any] = []

    def function(x: Any) -> Any:
        kept_now = len(gc.get_objects())  # a number of Python's own, which nobody watches
        return x * 2, tg.tensor([kept_now])

    step = tg.compile(function)
    found = set()
    for _ in range(9):
        found.add(step(tg.ones(2))[1].item())
        kept.append([[] for _ in range(100)])
    assert len(found) == 9 and "did not compute" in step.notes[0]


def runs(make: Any, backend: str, calls: int = 8) -> list[Any]:
    found = []
    for wrap in (lambda f: f, lambda f: tg.compile(f, backend=backend)):
        state = SimpleNamespace(a=tg.zeros(1), b=tg.ones(1), flag=False)
        step = wrap(make(state))
        found.append([step(tg.full((1,), float(i))).item() for i in range(calls)])
    assert found[0] == found[1]
    return [step, state]


def test_two_stored_tensors_change_places(backend: str) -> None:
    def make(state: Any) -> Any:
        def step(x: Any) -> Any:
            state.a, state.b = state.b, state.a
            return state.a + x

        return step

    step, state = runs(make, backend)
    assert step.replays > 0
    assert {state.a.item(), state.b.item()} == {0.0, 1.0}


@pytest.mark.parametrize("first", ["places", "elements"])
def test_stored_tensors_that_change_in_place_and_change_places(first: str, backend: str) -> None:
    def run(compiled: bool) -> list[Any]:
        state = SimpleNamespace(a=tg.zeros(2), b=tg.ones(2))
        held = state.a

        def step(x: Any) -> None:
            if first == "places":
                state.a, state.b = state.b, state.a
            state.a.mul_(2.0)
            state.b[1] = x[0]
            if first == "elements":
                state.a, state.b = state.b, state.a

        call = tg.compile(step, backend=backend) if compiled else step
        made = []
        for k in range(8):
            if k == 4:
                state.b = state.b * 10.0
            call(tg.ones(2) * k)
            made.append((state.a.tolist(), state.b.tolist(), held.tolist()))
        assert not compiled or call.replays >= 3
        return made

    assert run(True) == run(False)


def test_a_delay_line(backend: str) -> None:
    def make(state: Any) -> Any:
        def step(x: Any) -> Any:
            state.b = state.a
            state.a = x * 2
            return state.b + x

        return step

    step, state = runs(make, backend)
    assert step.replays > 0
    assert (state.a.item(), state.b.item()) == (14.0, 12.0)


@pytest.mark.filterwarnings("ignore:compile")
def test_what_is_stored_changes_though_the_operators_do_not(backend: str) -> None:
    def make(state: Any) -> Any:
        turns = iter([True, False] * 50)

        def step(x: Any) -> Any:
            y, z = x + 1, x + 2
            state.a = y if next(turns) else z
            return state.a

        return step

    with pytest.raises(CompileError, match="turns"):
        runs(make, backend)


def test_generators_and_async_functions_are_refused() -> None:
    def generator(x: Any) -> Any:
        yield x

    async def later(x: Any) -> Any:
        return x

    for function in (generator, later):
        with pytest.raises(CompileError, match=rf"{function.__name__} is a generator or async function"):
            tg.compile(function)


@pytest.mark.parametrize("size", [0, -1, None, "a", 1.5, True])
def test_sizes_of_the_cache(size: Any) -> None:
    with pytest.raises(ArgumentError, match="at least 1"):
        tg.compile(lambda x: x, cache_size=size)


@pytest.mark.filterwarnings("ignore:compile")
def test_signatures_that_come_once_only_are_noted() -> None:
    step = tg.compile(lambda x: (x * x).sum())
    for _ in range(40):
        step(tg.ones(2, requires_grad=True))
    assert "argument 0 is another one at each call" in step.notes[0]
    step.reset()
    assert not step.notes


class Out:
    """An object of the user's."""

    def __init__(self, loss: Any, more: Any = None) -> None:
        self.loss, self.more = loss, more


RESULTS: dict[str, Any] = {
    "object": (lambda x: Out(x * 2, "more"), lambda made: (made.loss.item(), made.more)),
    "objects in objects": (
        lambda x: (1, {"a": Out([x * 2, Out(x * 3)])}),
        lambda made: (made[1]["a"].loss[0].item(), made[1]["a"].loss[1].loss.item()),
    ),
    "set": (lambda x: {x * 2}, lambda made: next(iter(made)).item()),
    "deque": (lambda x: deque([x * 2, x * 3], maxlen=2), lambda made: ([y.item() for y in made], made.maxlen)),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_within_other_objects(name: str, backend: str) -> None:
    function, shown = RESULTS[name]
    step = tg.compile(function, backend=backend)
    for i in range(6):
        x = tg.full((1,), float(i))
        assert shown(step(x)) == shown(function(x))
    assert step.replays == 4


def test_a_loss_within_an_object_has_its_history(backend: str) -> None:
    weight = tg.ones(1, requires_grad=True)
    step = tg.compile(lambda x: Out((x * weight).sum()), backend=backend)
    for i in range(6):
        weight.grad = None
        step(tg.full((1,), float(i))).loss.backward()
        assert weight.grad.tolist() == [i]
    assert step.replays > 0


@pytest.mark.filterwarnings("ignore:compile")
def test_no_traced_tensor_stays_behind_in_sets_and_objects() -> None:
    def add(given: set[Any], x: Any) -> Any:
        given.add(x * 2)
        return x * 3

    given: set[Any] = set()
    step = tg.compile(add)
    for i in range(5):
        step(given, tg.full((1,), float(i)))
    assert sorted(x.item() for x in given) == [0.0, 2.0, 4.0, 6.0, 8.0]

    captured: set[Any] = set()
    held = SimpleNamespace(out=None)

    def store(x: Any) -> Any:
        captured.add(x * 2)
        held.out = Out(x * 5)
        return x

    refused = tg.compile(store)
    refused(tg.zeros(1))
    with pytest.raises(CompileError):
        refused(tg.ones(1))
    assert sorted(x.item() for x in captured) == [0.0, 2.0]
    assert held.out.loss.tolist() == [5.0]


class Slotted:
    __slots__ = ("loss",)

    def __init__(self, loss: Any) -> None:
        self.loss = loss


def tree(loss: Any) -> Any:
    """A node whose child knows it."""
    top = Out(loss, [])
    top.more.append(Out(loss * 3, top))
    return top


@pytest.mark.parametrize("kind, reason", [(tree, "back to itself"), (Slotted, "__slots__")])
def test_an_object_that_no_program_makes_is_made_by_the_function(kind: Any, reason: str, backend: str) -> None:
    weight = tg.ones(1, requires_grad=True)
    step = tg.compile(lambda x: [kind((x * weight).sum())], backend=backend)
    for i in range(4):
        weight.grad = None
        with pytest.warns(UserWarning, match=reason) if i == 0 else nullcontext():
            made = step(tg.full((1,), float(i)))[0]
        total = made.loss
        if kind is tree:
            assert made.more[0].more is made
            total = total + made.more[0].loss
        total.backward()
        assert weight.grad.tolist() == [i * (4.0 if kind is tree else 1.0)]
