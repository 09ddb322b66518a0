"""``tg.compile``: lists and dicts among the arguments are the caller's own, and change as in plain calls."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from compiled_cases import Case, ones, run

import tinygrad_ja as tg
from tinygrad_ja import nn

# ---- containers among the arguments -----------------------------------------------------------------


def a_state_in_a_dict() -> Any:
    state = {"h": tg.zeros(1)}

    def step(x: Any, state: Any) -> Any:
        state["h"] = state["h"] * 2 + x
        return state["h"]

    return step, lambda f, k: (f(ones(), state), state)


def a_dict_of_its_own_for_each_call() -> Any:
    states = [{"h": ones(k)} for k in range(3)]
    function, _ = a_state_in_a_dict()
    return function, lambda f, k: (f(ones(), states[k % 3]), states)


def a_state_of_two_tensors() -> Any:
    state = {"hc": (tg.zeros(2), tg.zeros(2))}

    def step(x: Any, state: Any) -> Any:
        h, c = state["hc"]
        h = (h + x).tanh()
        state["hc"] = h, c + h
        return h.sum()

    return step, lambda f, k: (f(ones(k, 2), state=state), state)


def truncated_bptt() -> Any:
    tg.manual_seed(0)
    cell = nn.LSTMCell(2, 3)
    optimizer = tg.optim.SGD(cell.parameters(), lr=0.1)
    state = {"hc": (tg.zeros(1, 3), tg.zeros(1, 3))}

    def step(x: Any, state: Any) -> Any:
        h, c = cell(x, state["hc"])
        optimizer.zero_grad()
        h.square().sum().backward()
        optimizer.step()
        state["hc"] = h.detach(), c.detach()
        return (h > 2).sum()

    return step, lambda f, k: (f(tg.full((1, 2), k / 8), state), (state["hc"][0] * 1000).round())


def deep_inside() -> Any:
    def step(x: Any, held: Any, **more: Any) -> Any:
        held[1]["list"][0] = x * 2
        more["pair"][1]["y"] = x
        return held[1]["list"][0] + 1

    def call(f: Any, k: int) -> Any:
        x, inner, last = ones(k), {"list": [None, 3]}, {"y": ones(9)}
        y = f(x, (ones(), inner), pair=(1, last))
        return y, inner, last, last["y"] is x

    return step, call


def tensors_that_change_places() -> Any:
    def step(held: Any) -> Any:
        held[0], held[1] = held[1], held[0]
        held[2].add_(1)
        return held[0] * 2

    def call(f: Any, k: int) -> Any:
        held = [ones(k), ones(2), ones(3)]
        a, b, c = held
        return f(held), held, held[0] is b, held[1] is a, held[2] is c

    return step, call


def a_captured_tensor_in_a_dict() -> Any:
    w = tg.ones(1)

    def step(x: Any, held: Any) -> Any:
        held["w"] = w
        return x * w

    def call(f: Any, k: int) -> Any:
        held = {"w": ones(k)}
        return f(ones(k), held), held["w"] is w

    return step, call


def gradients_of_what_is_put_into_a_dict() -> Any:
    w = tg.ones(1, requires_grad=True)

    def step(x: Any, held: Any) -> Any:
        held["y"] = x * w
        return x + 1

    def call(f: Any, k: int) -> Any:
        w.grad, held = None, {"y": None}
        y = f(ones(k), held)
        held["y"].sum().backward()
        return y, w.grad

    return step, call


@pytest.mark.parametrize(
    "case",
    [
        a_state_in_a_dict,
        a_dict_of_its_own_for_each_call,
        a_state_of_two_tensors,
        truncated_bptt,
        deep_inside,
        tensors_that_change_places,
        a_captured_tensor_in_a_dict,
        gradients_of_what_is_put_into_a_dict,
    ],
)
def test_tensors_in_place_of_others_are_replayed(case: Case, backend: str) -> None:
    assert run(case, backend).replays >= 3


def a_cache_that_grows() -> Any:
    cache: list[Any] = []

    def step(x: Any, cache: Any) -> Any:
        cache.append((x * 2, x))
        return sum(a.sum() + b for a, b in cache)

    def call(f: Any, k: int) -> Any:
        x = ones(k)
        return f(x, cache), cache, cache[-1][1] is x

    return step, call


def a_list_for_results() -> Any:
    w = tg.ones(1, requires_grad=True)

    def step(x: Any, out: Any) -> Any:
        out.append({"y": [x * w]})
        return x + 1

    def call(f: Any, k: int) -> Any:
        w.grad, out = None, []
        y = f(ones(k), out=out)
        out[0]["y"][0].sum().backward()
        return y, w.grad, len(out)

    return step, call


def metrics() -> Any:
    held = {"n": 0, "loss": tg.zeros(1)}

    def step(x: Any, held: Any) -> Any:
        held["n"] += 1
        held["loss"] = held["loss"] + x
        return x * 2

    return step, lambda f, k: (f(ones(k), held), held)


def a_list_that_shrinks() -> Any:
    def call(f: Any, k: int) -> Any:
        held = [ones(k), ones(2)]
        return f(held), held

    return lambda held: held.pop() * 2, call


def an_order() -> Any:
    def step(held: Any) -> Any:
        held.move_to_end("a")
        return next(iter(held.values())) * 2

    def call(f: Any, k: int) -> Any:
        held = collections.OrderedDict(a=ones(k), b=ones(2))
        return f(held), held

    return step, call


def a_deque() -> Any:
    held = collections.deque([ones()], maxlen=3)

    def step(x: Any, held: Any) -> Any:
        held.append(x * 2)
        return sum(held)

    return step, lambda f, k: (f(ones(k), held), held)


def a_set() -> Any:
    held: set[str] = set()

    def step(x: Any, held: Any) -> Any:
        held.add("seen")
        return x * len(held)

    return step, lambda f, k: (f(ones(k), held), sorted(held))


KINDS = {
    a_cache_that_grows: "list",
    a_list_for_results: "list",
    metrics: "dict",
    a_list_that_shrinks: "list",
    an_order: "dict",
    a_deque: "deque",
    a_set: "set",
}


@pytest.mark.parametrize("case", KINDS)
def test_other_changes_of_containers_are_not_lost(case: Case, backend: str) -> None:
    with pytest.warns(UserWarning, match=f"changes a {KINDS[case]} that it was given") as warned:
        step = run(case, backend)
    assert step.replays == 0 and step.recordings <= 3
    assert len([w for w in warned if "compile:" in str(w.message)]) == len(step.notes) == 1


def test_the_reason_in_japanese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    with pytest.warns(UserWarning, match="引数として渡された list を変更しています"):
        assert run(a_cache_that_grows, "numpy").replays == 0


def test_an_exception_leaves_in_containers_what_a_plain_call_leaves(backend: str) -> None:
    def case() -> Any:
        state: dict[str, Any] = {"h": tg.zeros(1), "rest": [ones(3)]}

        def step(x: Any, state: Any) -> Any:
            state["h"] = state["h"] + x
            state["rest"][0].add_(1)
            state["new"] = [state["h"] * 2, x]
            raise KeyError("no")

        def call(f: Any, k: int) -> Any:
            with pytest.raises(KeyError, match="no"):
                f(ones(), state)
            return state

        return step, call

    run(case, backend)


# ---- classes of containers --------------------------------------------------------------------------


class Batch(dict):
    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Plain(dict):
    pass


class Namespace(dict):
    def __init__(self, **items: Any) -> None:
        super().__init__(**items)
        self.__dict__ = self


class Listed(list):
    k = 3

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError

    def __setitem__(self, key: Any, value: Any) -> None:
        raise AssertionError


class Pair(NamedTuple):
    x: Any
    y: Any = 2


class Named(Pair):
    k = 1


def test_attributes_that_a_function_sets() -> None:
    def case() -> Any:
        def step(held: Any) -> Any:
            held.double = held["x"] * 2
            return held["x"] + 1

        def call(f: Any, k: int) -> Any:
            held = Plain(x=ones(k))
            return f(held), held.double

        return step, call

    with pytest.warns(UserWarning, match="changes a dict that it was given"):
        assert run(case, "numpy").replays == 0


def listed(k: int) -> Any:
    made = Listed([ones(k)])
    made.k = 5 + (k > 4)
    made.more = ones(k)
    return made


def named(k: int) -> Any:
    made = Named(ones(k), {"z": 3})
    made.k = ones(k)
    return made


@pytest.mark.parametrize(
    ("function", "make"),
    [
        (lambda b: b.x * 2, lambda k: Batch(x=ones(k))),
        (lambda b: b.x * b["y"], lambda k: Namespace(x=ones(k), y=3)),
        (lambda b: b["x"][0] * len(b), lambda k: collections.defaultdict(list, x=[ones(k)])),
        (lambda b: b["x"] * len(b), lambda k: collections.OrderedDict(x=ones(k), y=1)),
        (lambda b: b[0] * b.k + b.more, listed),
        (lambda b: b.x * b.y, lambda k: Pair(ones(k))),
        (lambda b: b.x * b.k * b.y["z"], named),
    ],
)
def test_a_container_keeps_its_class_and_its_attributes(function: Any, make: Any, backend: str) -> None:
    step = run(lambda: (function, lambda f, k: f(make(k))), backend)
    assert step.replays >= 2


def test_an_attribute_of_a_class_of_containers_is_watched() -> None:
    class Scaled(list):
        k = 1

    step = tg.compile(lambda held: held[0] * held.k)
    for k in (1, 1, 1, 1, 5, 5, 5, 5):
        Scaled.k = k
        assert step(Scaled([ones(2)])).item() == 2 * k
    assert step.replays > 0


def test_a_missing_key_that_a_default_fills() -> None:
    def case() -> Any:
        def call(f: Any, k: int) -> Any:
            held = collections.defaultdict(list, x=[ones(k)])
            return f(ones(k), held), held

        return lambda x, held: x * 2 + len(held["z"]), call

    with pytest.warns(UserWarning, match="changes a dict that it was given"):
        assert run(case, "numpy").replays == 0
