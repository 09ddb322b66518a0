"""Whatever a compiled function reads from Python may change between calls: the next call sees it, or refuses; it never goes on with the old."""

from __future__ import annotations

import collections
import contextvars
import dataclasses
import enum
import functools
import itertools
import os
import random
import sys
import threading
import time
import types
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.errors import UsageError

PHASES, EACH = 5, 4
CASES: dict[str, Callable[[], Any]] = {}
"""Each gives a step, a function that changes something before phase k, and perhaps one that makes the arguments of a call."""
G: Any = 2.0


def case(make: Callable[[], Any]) -> Callable[[], Any]:
    CASES[make.__name__] = make
    return make


def three() -> Any:
    return tg.tensor([1.0, 2.0, 3.0])


def arrays_of(value: Any) -> list[Any]:
    if isinstance(value, tg.Tensor):
        return [value.detach().numpy().copy()]
    if dataclasses.is_dataclass(value):
        return arrays_of([getattr(value, field.name) for field in dataclasses.fields(value)])
    return [a for part in value for a in arrays_of(part)] if isinstance(value, (list, tuple)) else [value]


def results(make: Callable[[], Any], wrap: Callable[[Any], Any]) -> tuple[list[Any], Any]:
    tg.manual_seed(0)
    np.random.seed(0)
    step, change, *more = make()
    args = more[0] if more else lambda k: (three(),)
    step, made = wrap(step), []
    for k in range(PHASES * EACH):
        if k and k % EACH == 0:
            change(k // EACH)
        made.append(arrays_of(step(*args(k))))
    return made, step


def assert_never_stale(make: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected, _ = results(make, lambda f: f)
        made, compiled = results(make, functools.partial(tg.compile, backend="numpy"))
    for a, b in zip(expected, made):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            np.testing.assert_allclose(y, x, rtol=1e-5, atol=1e-6)
    return compiled


# ---- names, closures, functions ------------------------------------------------------------------


@case
def global_name() -> Any:
    global G
    G = 2.0

    def change(k: int) -> None:
        global G
        G = 2.0 + k

    return lambda x: x * G, change


@case
def closure() -> Any:
    g = 2.0

    def change(k: int) -> None:
        nonlocal g
        g = 2.0 + k

    return lambda x: x * g, change


@case
def empty_cell() -> Any:
    def step(x: Any) -> Any:
        try:
            return x * later
        except NameError:
            return x

    def change(k: int) -> None:
        nonlocal later
        later = 2.0 + k

    later: Any = None
    del later
    return step, change


@case
def name_that_comes_later() -> Any:
    globals().pop("LATER", None)

    def change(k: int) -> None:
        globals()["LATER"] = 2.0 + k

    return lambda x: x * globals()["LATER"] if "LATER" in globals() else x, change


@case
def builtin_that_is_hidden() -> Any:
    globals().pop("abs", None)

    def change(k: int) -> None:
        globals()["abs"] = (lambda value: k) if k < PHASES - 1 else globals().pop("abs") and abs
        if k == PHASES - 1:
            del globals()["abs"]

    return lambda x: x * abs(-2), change


@case
def defaults() -> Any:
    def inner(x: Any, s: float = 2.0, *, t: float = 1.0) -> Any:
        return x * s * t

    def change(k: int) -> None:
        inner.__defaults__ = (2.0 + k,)
        inner.__kwdefaults__["t"] = 1.0 + k

    return lambda x: inner(x), change


@case
def code_of_a_function() -> Any:
    def inner(x: Any) -> Any:
        return x * 2

    def change(k: int) -> None:
        inner.__code__ = (lambda x: x * 5).__code__ if k % 2 else (lambda x: x * 7).__code__

    return lambda x: inner(x), change


@case
def attribute_of_a_function() -> Any:
    def step(x: Any) -> Any:
        return x * step.scale  # type: ignore[attr-defined]

    step.scale = 2.0  # type: ignore[attr-defined]
    return step, lambda k: setattr(step, "scale", 2.0 + k)


@case
def partial() -> Any:
    held = {"p": functools.partial(lambda x, s: x * s, s=2.0)}

    def change(k: int) -> None:
        if k % 2:
            held["p"].keywords["s"] = 2.0 + k
        else:
            held["p"].__setstate__((held["p"].func, (), {"s": 3.0 * k}, {}))

    return lambda x: held["p"](x), change


@case
def decorated() -> Any:
    scale = [2.0]

    class Scaled:
        def __init__(self, function: Any) -> None:
            functools.update_wrapper(self, function)
            self.function, self.shift = function, 0.0

        def __call__(self, x: Any) -> Any:
            return self.function(x) * scale[0] + self.shift

    step = Scaled(lambda x: x + 1)

    def change(k: int) -> None:
        scale[0] += 1
        step.shift += k

    return step, change


@case
def string_of_getattr() -> Any:
    module = types.ModuleType("made_by_hand")
    module.S = 2.0  # type: ignore[attr-defined]
    name = "S"
    return lambda x: x * getattr(module, name) + getattr(module, "Q", 0.0), lambda k: vars(module).update(S=2.0 + k, Q=k * 1.0)


@case
def import_inside() -> Any:
    module = sys.modules["made_by_hand"] = types.ModuleType("made_by_hand")
    module.S = 2.0  # type: ignore[attr-defined]

    def step(x: Any) -> Any:
        import made_by_hand  # type: ignore[import-not-found]

        return x * made_by_hand.S

    return step, lambda k: vars(module).update(S=2.0 + k)


@case
def environment() -> Any:
    os.environ["TEST_SCALE"] = "2"
    return lambda x: x * float(os.environ["TEST_SCALE"]), lambda k: os.environ.update(TEST_SCALE=str(2 + k))


@case
def environment_by_getenv() -> Any:
    os.environ["TEST_SCALE"] = "2"
    return lambda x: x * float(os.getenv("TEST_SCALE", "0")), lambda k: os.environ.update(TEST_SCALE=str(2 + k))


# ---- objects and classes -------------------------------------------------------------------------


@case
def class_attributes() -> Any:
    class A:
        s: Any = 2.0

    class B(A):
        pass

    b = B()

    def change(k: int) -> None:
        if k == 1:
            A.s = 3.0
        elif k == 2:
            B.s = 9.0
        elif k == 3:
            b.s = 7.0
        else:
            del b.s

    return lambda x: x * b.s, change


@case
def methods() -> Any:
    class A:
        def scale(self) -> float:
            return 2.0

        @staticmethod
        def shift() -> float:
            return 1.0

        @property
        def power(self) -> float:
            return 1.0

    a = A()

    def change(k: int) -> None:
        if k == 1:
            A.scale = lambda self: 5.0  # type: ignore[method-assign]
        elif k == 2:
            A.shift = staticmethod(lambda: 4.0)  # type: ignore[method-assign, assignment]
        elif k == 3:
            A.power = property(lambda self: 2.0)  # type: ignore[method-assign, assignment]
        else:
            a.scale = lambda: 11.0  # type: ignore[method-assign]

    return lambda x: (x * a.scale() + a.shift()) ** a.power, change


@case
def class_of_an_object() -> Any:
    class A:
        scale = 2.0

    class B:
        scale = 3.0

    a: Any = A()
    return lambda x: x * a.scale, lambda k: setattr(a, "__class__", B if k % 2 else A)


@case
def metaclass() -> Any:
    class Meta(type):
        scale = 2.0

    class A(metaclass=Meta):
        pass

    return lambda x: x * A.scale, lambda k: setattr(Meta, "scale", 2.0 + k)


@case
def slots() -> Any:
    class Base:
        __slots__ = ("s", "t")

    class A(Base):
        pass

    a: Any = A()
    a.s, a.t = 2.0, three()

    def change(k: int) -> None:
        a.s, a.t = 2.0 + k, three() * k

    return lambda x: x * a.s + a.t, change


@case
def dataclass_with_slots_as_argument() -> Any:
    @dataclasses.dataclass(slots=True)
    class Config:
        s: float = 2.0

    config = Config()
    return lambda x, c: x * c.s, lambda k: setattr(config, "s", 2.0 + k), lambda k: (three(), config)


@case
def enum_as_argument() -> Any:
    class Kind(enum.Enum):
        A, B = 1, 2

    held = [Kind.A]

    def change(k: int) -> None:
        held[0] = Kind.B if k % 2 else Kind.A

    return lambda x, kind: x * (2 if kind is Kind.A else 3), change, lambda k: (three(), held[0])


@case
def cached_property() -> Any:
    class A:
        base = 2.0

        @functools.cached_property
        def s(self) -> float:
            return self.base

    a = A()

    def change(k: int) -> None:
        a.base = 2.0 + k
        vars(a).pop("s", None)

    return lambda x: x * a.s, change


@case
def getattr_of_an_object() -> Any:
    store = {"s": 2.0}

    class A:
        def __getattr__(self, name: str) -> float:
            return store[name]

    a = A()
    return lambda x: x * a.s, lambda k: store.update(s=2.0 + k)


@case
def weak_references() -> Any:
    class A:
        s = 2.0

    a = A()
    by_key: Any = weakref.WeakKeyDictionary({a: 1.0})
    to_a = weakref.ref(a)

    def change(k: int) -> None:
        a.s = 2.0 + k
        by_key[a] = 1.0 * k

    return lambda x: x * to_a().s + by_key[a], change  # type: ignore[union-attr]


@case
def context_variable_and_thread_local() -> Any:
    variable, local = contextvars.ContextVar("variable", default=2.0), threading.local()
    local.s = 1.0

    def change(k: int) -> None:
        variable.set(2.0 + k)
        local.s = 1.0 + k * k

    return lambda x: x * variable.get() + local.s, change


# ---- containers ----------------------------------------------------------------------------------


@case
def containers() -> Any:
    held: Any = {
        "deque": collections.deque([2.0]),
        "set": {1},
        "bytes": bytearray([2]),
        "default": collections.defaultdict(float, a=2.0),
        "tuple": ([2.0],),
        "chain": collections.ChainMap({}, {"a": 2.0}),
        "space": types.SimpleNamespace(a=2.0),
    }
    proxy, view = types.MappingProxyType(held["default"]), held["default"].values()

    def step(x: Any) -> Any:
        total = (
            held["deque"][0]
            + held["bytes"][0]
            + held["default"]["a"]
            + held["tuple"][0][0]
            + held["chain"]["a"]
            + held["space"].a
        )
        return x * total + (5 if 2 in held["set"] else 3) + proxy["a"] * 0.5 + sum(view)

    def change(k: int) -> None:
        held["deque"][0] = 2.0 + k
        held["set"] ^= {2}
        held["bytes"][0] += 1
        held["default"]["a"] += k
        held["tuple"][0][0] += k
        held["chain"].maps[1]["a"] += k
        held["space"].a += k

    return step, change


@case
def attributes_of_subclasses() -> Any:
    class L(list):
        pass

    class N(int):
        pass

    items, number = L([2.0]), N(2)
    items.s, number.s = 2.0, 3.0  # type: ignore[attr-defined]

    def change(k: int) -> None:
        items.s, number.s = 2.0 + k, 3.0 * k  # type: ignore[attr-defined]

    return lambda x: x * items.s + number.s, change  # type: ignore[attr-defined]


@case
def keys_and_order() -> Any:
    table = {"a": 1.0, "b": 2.0}

    def change(k: int) -> None:
        table["a" if k % 2 else "b"] = table.pop("a" if k % 2 else "b")  # to the end
        if k == 3:
            table["extra"] = 10.0

    return lambda x: x * next(iter(table.values())) + table.get("extra", 0.0), change


@case
def layers_in_another_order() -> Any:
    layers = [nn.Linear(3, 3), nn.Linear(3, 3)]

    def step(x: Any) -> Any:
        for layer in layers:
            x = layer(x)
        return x

    return step, lambda k: layers.reverse()


@case
def equal_numbers_that_are_new_objects() -> Any:
    class A:
        s: Any = 2.5
        t: Any = (1, 2)

    def args(k: int) -> Any:
        A.s, A.t = float(str(2.5)), tuple(map(int, "12"))
        return (three(),)

    return lambda x: x * A.s + A.t[1], lambda k: None, args


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


@case
def shapes_that_depend_on_values() -> Any:
    return lambda x: x[x > 1.5].sum(), lambda k: None, lambda k: (tg.tensor([float(k % 3), 1.0, 2.0]),)


@case
def sources_of_random_numbers() -> Any:
    first, second = random.Random(0), np.random.default_rng(0)
    return lambda x: x * (2.0 if first.random() < 0.8 and second.random() < 0.8 else 3.0), lambda k: None


@pytest.mark.parametrize("name", CASES)
def test_nothing_goes_stale(name: str) -> None:
    assert_never_stale(CASES[name])


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
