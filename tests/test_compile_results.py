"""``tg.compile``: what a function returns and stores, whose elements it may not have computed, and what it refuses from the beginning."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

import pytest
from compiled_runs import BACKENDS

import tinygrad_ja as tg
from tinygrad_ja.errors import ArgumentError, CompileError


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "native":
        pytest.importorskip("llvmlite")
    return request.param


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
