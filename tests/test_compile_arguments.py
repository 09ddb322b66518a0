"""``tg.compile``: what a function does to its arguments and to Tensors that share arrays happens as in plain calls, call by call."""

from __future__ import annotations

import collections
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import nn

CALLS = 7

Case = Callable[[], tuple[Callable[..., Any], Callable[..., Any]]]
"""Makes a function, and another one that calls it, plain or compiled, for the k-th time and says what can be seen afterwards."""


@pytest.fixture(params=["numpy", "native"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "native":
        pytest.importorskip("llvmlite")
    return request.param


def run(case: Case, backend: str) -> Any:
    """What plain and compiled calls show is the same. Returns the compiled function."""
    shown: list[list[Any]] = []
    for wrap in (lambda function: function, functools.partial(tg.compile, backend=backend)):
        function, call = case()
        step = wrap(function)
        shown.append([plain(call(step, k)) for k in range(CALLS)])
    for k, (expected, found) in enumerate(zip(*shown)):
        assert found == expected, f"call {k}"
    return step


def plain(value: Any) -> Any:
    """Tensors as lists of numbers."""
    if isinstance(value, tg.Tensor):
        assert type(value.array) is np.ndarray
        return value.tolist()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return [(name, plain(part)) for name, part in value.items()]
    if isinstance(value, (tuple, list, collections.deque)):
        return [plain(part) for part in value]
    return value


def ones(k: float = 1.0, size: int = 1) -> tg.Tensor:
    return tg.full((size,), float(k))


# ---- in-place operators on Tensors that share arrays -----------------------------------------------


def a_part_of_the_callers_data() -> Any:
    d = tg.arange(4).float()
    return lambda x: x.mul_(10).sum(), lambda f, k: (f(d[:2]), d)


def a_part_that_is_assigned_to() -> Any:
    d = tg.arange(6).float()

    def step(x: Any) -> Any:
        x[0] = 7.0
        return x * 2

    return step, lambda f, k: (f(d.reshape(3, 2)), d)


def an_array_of_numpy() -> Any:
    a = np.arange(4, dtype="f4")
    return lambda x: x.add_(1).sum(), lambda f, k: (f(tg.from_numpy(a)), a)


def an_array_that_is_read_only() -> Any:
    a = np.arange(4, dtype="f4")
    a.flags.writeable = False
    return lambda x: x.mul_(10).sum(), lambda f, k: f(tg.from_numpy(a))


def one_argument_and_its_detached_self() -> Any:
    x = ones(1, 2)
    return lambda a, b: a.add_(1) * b, lambda f, k: (f(x, x.detach()), x)


def transposed_and_expanded() -> Any:
    W = tg.arange(6).float().reshape(2, 3)
    return lambda x, y: x.mul_(2).sum() + y.add_(1).sum(), lambda f, k: (f(W.T, W[:1].expand(4, 3)), W)


def the_argument_goes_on() -> Any:
    x = ones()
    return lambda x: x.add_(1) * x, lambda f, k: (f(x), x)


def an_argument_takes_other_data() -> Any:
    def step(x: Any, y: Any) -> Any:
        x.data = y * 2
        return x + 1

    def call(f: Any, k: int) -> Any:
        x = ones(k, 2)
        return f(x, ones(k, 2)), x

    return step, call


def an_argument_takes_a_constant() -> Any:
    def step(x: Any) -> Any:
        y = x * 2
        x.data = tg.full((3,), 2.0)
        return y

    def call(f: Any, k: int) -> Any:
        x = ones(k, 2)
        return f(x), x

    return step, call


def an_argument_gets_a_history() -> Any:
    w = tg.ones(1, requires_grad=True)

    def step(x: Any) -> Any:
        x.mul_(w)
        return x + 0

    def call(f: Any, k: int) -> Any:
        x = ones(k)
        w.grad = None
        f(x)
        (x * 3).sum().backward()
        return w.grad, x.detach()

    return step, call


def an_argument_that_has_a_history() -> Any:
    w = tg.ones(2, requires_grad=True)

    def step(x: Any) -> Any:
        x.mul_(3)
        return (x * x).sum()

    def call(f: Any, k: int) -> Any:
        w.grad, h = None, w * k
        y = f(h)
        (y + h.sum()).backward()
        return y.detach(), w.grad, h.detach()

    return step, call


def a_part_that_has_a_history() -> Any:
    w = tg.ones(2, requires_grad=True)

    def step(x: Any) -> Any:
        with tg.no_grad():
            x.mul_(3)
        return (x * x).sum()

    def call(f: Any, k: int) -> Any:
        w.grad, h = None, w * k
        part = h[:1]
        y = f(part)
        y.backward()
        return y.detach(), w.grad, h.detach(), part.detach()

    return step, call


def an_argument_that_is_to_want_gradients() -> Any:
    def step(x: Any) -> Any:
        x.requires_grad_()
        (x * x).sum().backward()
        return x.grad

    def call(f: Any, k: int) -> Any:
        x = ones(k)
        y = f(x)
        return y, x.grad, x.requires_grad

    return step, call


def views_that_are_captured() -> Any:
    W = tg.ones(4)
    V, U = W[1:3], W.reshape(2, 2)

    def step(x: Any) -> Any:
        V.add_(x)
        return W.sum() + U.sum() + V.sum()

    return step, lambda f, k: (f(ones(1, 2)), W, V, U)


def a_captured_tensor_that_others_look_into() -> Any:
    W = tg.ones(4)
    V = W[1:3]

    def step(x: Any) -> Any:
        W.add_(x)
        return W.sum() + V.sum()

    return step, lambda f, k: (f(ones()), W, V)


def two_captured_tensors_with_one_array() -> Any:
    x = ones(1, 2)
    y = x.detach()

    def step(z: Any) -> Any:
        x.add_(z)
        return x * y

    return step, lambda f, k: (f(ones(k, 2)), x, y)


def a_captured_array_of_numpy() -> Any:
    a = np.zeros(2, "f4")
    a.flags.writeable = False
    h = tg.from_numpy(a)

    def step(x: Any) -> Any:
        h.add_(x)
        return h * 2

    return step, lambda f, k: (f(ones(k, 2)), h, a)


def a_captured_view_that_is_another_one_each_time() -> Any:
    space, d = types.SimpleNamespace(), tg.arange(4).float()

    def step(x: Any) -> Any:
        space.batch.mul_(x)
        return space.batch.sum()

    def call(f: Any, k: int) -> Any:
        space.batch = d[k % 2 : 2 + k % 2]
        return f(ones(2, 2)), space.batch, d

    return step, call


def what_state_was_before() -> Any:
    W = tg.arange(4).float()

    def step(x: Any) -> Any:
        part, whole = W[:2], W.detach()
        W.add_(x)
        return part + 0, part, whole

    return step, lambda f, k: (f(ones()), W)


def a_state_and_the_one_before() -> Any:
    model = types.SimpleNamespace(h=tg.zeros(1), before=tg.zeros(1))

    def step(x: Any) -> Any:
        model.before = model.h.detach()
        model.h.add_(x)
        return model.before + 0

    return step, lambda f, k: (f(ones()), model.before, model.h)


def two_states_change_places() -> Any:
    a, b = tg.ones(2), tg.zeros(2)

    def step(x: Any) -> Any:
        a.data, b.data = b + x, a
        return a + 0

    return step, lambda f, k: (f(ones(1, 2)), a, b)


@pytest.mark.parametrize(
    "case",
    [
        a_part_of_the_callers_data,
        a_part_that_is_assigned_to,
        an_array_of_numpy,
        an_array_that_is_read_only,
        one_argument_and_its_detached_self,
        transposed_and_expanded,
        the_argument_goes_on,
        an_argument_takes_other_data,
        an_argument_takes_a_constant,
        an_argument_gets_a_history,
        an_argument_that_has_a_history,
        a_part_that_has_a_history,
        an_argument_that_is_to_want_gradients,
        views_that_are_captured,
        a_captured_tensor_that_others_look_into,
        two_captured_tensors_with_one_array,
        a_captured_array_of_numpy,
        a_captured_view_that_is_another_one_each_time,
        what_state_was_before,
        a_state_and_the_one_before,
        two_states_change_places,
    ],
)
def test_in_place_operators_leave_others_alone(case: Case, backend: str) -> None:
    assert run(case, backend).replays >= 3


def test_parameters_and_raw_arrays_change_where_they_lie(backend: str) -> None:
    """As in plain calls: an optimizer writes into the array of a parameter, NumPy into the array that it is given."""

    def case() -> Any:
        w = tg.ones(2, requires_grad=True)
        seen, a = w.detach(), np.zeros(2, "f4")
        optimizer = tg.optim.SGD([w], lr=0.25)

        def step(x: Any, a: Any) -> Any:
            optimizer.zero_grad()
            loss = (w * x).sum()
            loss.backward()
            optimizer.step()
            a += 1
            return loss

        return step, lambda f, k: (f(ones(k, 2), a), w, seen, a)

    assert run(case, backend).replays >= 3


def test_programs_of_several_shapes_share_state(backend: str) -> None:
    """Each of them writes running means, which stay those of the others: none is recorded again and again."""

    def case() -> Any:
        tg.manual_seed(0)
        norm = nn.BatchNorm1d(2)
        data = [tg.randn(n, 2) for n in (3, 5)]
        return lambda x: norm(x).sum().detach() * 0, lambda f, k: (f(data[k % 2]), norm.num_batches_tracked)

    step = run(case, backend)
    _, call = case()
    for k in range(12):
        call(step, k)
    assert step.recordings <= 6


def test_a_backward_that_goes_on_behind_an_argument(backend: str) -> None:
    def case() -> Any:
        w = tg.ones(2, requires_grad=True)

        def step(x: Any) -> Any:
            y = (x * x).sum()
            y.backward()
            return y.detach()

        def call(f: Any, k: int) -> Any:
            w.grad = None
            return f(w * k), w.grad

        return step, call

    with pytest.warns(UserWarning, match="goes on behind an argument"):
        run(case, backend)


# ---- one object as two arguments --------------------------------------------------------------------


def one_tensor_twice() -> Any:
    a = ones()
    return lambda x, y: x.add_(1) * y, lambda f, k: (f(a, a), a)


def one_array_twice() -> Any:
    a = np.ones(2, "f4")

    def step(x: Any, y: Any, z: Any) -> Any:
        x += 1
        return z * x + y

    return step, lambda f, k: (f(a, a, ones(k, 2)), a)


def one_list_twice() -> Any:
    def step(x: Any, y: Any) -> Any:
        x[0] = x[0] + 1
        return y[0] * 2

    def call(f: Any, k: int) -> Any:
        held = [ones(k)]
        return f(held, held), held

    return step, call


def now_one_and_now_two() -> Any:
    def call(f: Any, k: int) -> Any:
        a = ones(k)
        return f(a, a if k % 2 else a.clone()), f(x=a, y=a)

    return lambda x, y: x.add_(1) * y, call


def in_a_list_as_well() -> Any:
    def call(f: Any, k: int) -> Any:
        a = ones(k)
        return f(a, [a, {"a": a}]), a

    return lambda x, held: x.add_(1) * held[0] + held[1]["a"], call


@pytest.mark.parametrize("case", [one_tensor_twice, one_array_twice, one_list_twice, in_a_list_as_well])
def test_what_comes_twice_is_one(case: Case, backend: str) -> None:
    assert run(case, backend).replays >= 3


def test_one_argument_for_two_is_another_signature(backend: str) -> None:
    assert run(now_one_and_now_two, backend).replays >= 3


def test_an_argument_that_the_function_reaches_as_well(backend: str) -> None:
    a, b = ones(), ones()
    step = tg.compile(lambda x: x.add_(1) * a, backend=backend)
    with pytest.warns(UserWarning, match="shares memory"):
        assert [step(a).item() for _ in range(4)] == [(lambda x: x.add_(1) * b)(b).item() for _ in range(4)]


def test_one_result_twice_is_one(backend: str) -> None:
    w = tg.ones(1, requires_grad=True)

    def step(x: Any, held: Any) -> Any:
        y, z = x * 2, x * w
        held["y"] = y
        return y, [y, z], z

    compiled = tg.compile(step, backend=backend)
    for k in range(CALLS):
        held = {"y": None}
        y, (again, z), last = compiled(ones(k), held)
        assert y is again and y is held["y"] and z is last and y.item() == 2 * k
    assert compiled.replays >= 3


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
        run(a_cache_that_grows, "numpy")


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
        run(case, "numpy")


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
        run(case, "numpy")
