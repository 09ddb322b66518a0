"""What a compiled function reads less plainly than by a name or an attribute: hooks, schedules, arrays of NumPy, files and clocks, settings."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from stale_python import PHASES, assert_never_stale, three

import tinygrad_ja as tg
from tinygrad_ja.errors import UsageError

Case = Callable[[], Any]

# ---- hooks of Tensors that were there before -----------------------------------------------------


def gradient_of(w: Any) -> Callable[[Any], Any]:
    def step(x: Any) -> Any:
        w.grad = None
        (w * x).sum().backward()
        return w.grad * 1

    return step


def closure_of_a_hook() -> Any:
    w, factor = tg.ones(3, requires_grad=True), [2.0]
    w.register_hook(lambda g: g * factor[0])
    return gradient_of(w), lambda k: factor.__setitem__(0, 2.0 + k)


def object_that_is_a_hook() -> Any:
    class Scaled:
        factor = 2.0

        def __call__(self, g: Any) -> Any:
            return g * self.factor

    w, scaled = tg.ones(3, requires_grad=True), Scaled()
    w.register_hook(scaled)
    return gradient_of(w), lambda k: setattr(scaled, "factor", 2.0 + k)


def hooks_that_come_and_go() -> Any:
    w, handles = tg.ones(3, requires_grad=True), []

    def change(k: int) -> None:
        if k % 2:
            handles.append(w.register_hook(lambda g: g * (5.0 + k)))
        else:
            handles.pop().remove()

    return gradient_of(w), change


def hook_of_an_argument() -> Any:
    w, factor = tg.ones(3, requires_grad=True), [2.0]
    w.register_hook(lambda g: g * factor[0])

    def step(w: Any, x: Any) -> Any:
        w.grad = None
        (w * x).sum().backward()
        return w.grad * 1

    return step, lambda k: factor.__setitem__(0, 2.0 + k), lambda k: (w, three())


@pytest.mark.parametrize("make", [closure_of_a_hook, object_that_is_a_hook, hooks_that_come_and_go, hook_of_an_argument])
def test_hooks_of_leaves_are_watched(make: Case) -> None:
    assert assert_never_stale(make).replays >= PHASES


def test_a_hook_of_a_leaf_that_counts_is_refused() -> None:
    w, calls = tg.ones(3, requires_grad=True), [0]

    def hook(g: Any) -> None:
        calls[0] += 1

    w.register_hook(hook)
    step = tg.compile(gradient_of(w))
    with pytest.raises(UsageError, match="TG-P001.*calls"):
        for _ in range(4):
            step(three())


def test_a_hook_that_a_step_puts_on_and_takes_off_is_replayed() -> None:
    w = tg.ones(3, requires_grad=True)
    plain = gradient_of(w)

    def step(x: Any) -> Any:
        handle = w.register_hook(lambda g: g * 2)
        made = plain(x)
        handle.remove()
        return made

    compiled = tg.compile(step)
    for _ in range(8):
        assert compiled(three()).tolist() == [2.0, 4.0, 6.0]
    assert compiled.replays >= 4


# ---- settings, keys, modules ---------------------------------------------------------------------


@pytest.fixture
def threads() -> Iterator[None]:
    before = tg.get_num_threads()
    yield
    tg.set_num_threads(before)


def number_of_threads() -> Any:
    tg.set_num_threads(1)
    return lambda x: x * tg.get_num_threads(), lambda k: tg.set_num_threads(1 + k % 3)


def attributes_of_keys() -> Any:
    class Key:
        scale = 2.0

    key = Key()
    table = {key: 1.0}

    def step(x: Any) -> Any:
        for held, weight in table.items():
            x = x * held.scale * weight
        return x

    return step, lambda k: setattr(key, "scale", 2.0 + k)


def module_that_answers_for_names(**names: Any) -> Case:
    def make() -> Any:
        values = {"S": 2.0}
        module = types.ModuleType("made_by_hand")
        vars(module).update(names, __getattr__=lambda name: values["S"])
        return lambda x: x * module.S, lambda k: values.update(S=2.0 + k)

    return make


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    "make",
    [number_of_threads, attributes_of_keys, module_that_answers_for_names(), module_that_answers_for_names(__file__=1.0)],
    ids=["threads", "keys", "module", "file"],
)
def test_settings_keys_and_functions_of_modules_are_watched(make: Case) -> None:
    assert assert_never_stale(make).replays >= PHASES
