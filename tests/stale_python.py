"""What a compiled function may read of Python, and how it changes between two calls: names, functions, objects, containers."""

from __future__ import annotations

import collections
import contextvars
import dataclasses
import enum
import functools
import os
import sys
import threading
import types
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_ja as tg
from tinygrad_ja import nn

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
        return [value.detach().cpu().numpy().copy()]
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


def assert_never_stale(make: Callable[[], Any], backend: str = "numpy") -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected, _ = results(make, lambda f: f)
        made, compiled = results(make, functools.partial(tg.compile, backend=backend))
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
def relative_imports() -> Any:
    """In a package whose modules are made by hand."""
    package, module = types.ModuleType("package_by_hand"), types.ModuleType("package_by_hand.settings")
    package.settings, module.S = module, 2.0  # type: ignore[attr-defined]
    sys.modules.update({made.__name__: made for made in (package, module)})
    space: dict[str, Any] = {"__package__": "package_by_hand", "__name__": "package_by_hand.work"}
    text = """
def step(x):
    from .settings import S
    from . import settings
    return x * S + settings.S + importlib.import_module("package_by_hand.settings").S
import importlib
"""
    exec(compile(text, __file__, "exec"), space)
    return space["step"], lambda k: vars(module).update(S=2.0 + k)


@case
def names_among_the_arguments() -> Any:
    module = types.ModuleType("made_by_hand")
    module.S = 2.0  # type: ignore[attr-defined]
    return lambda x, name: x * getattr(module, name), lambda k: vars(module).update(S=2.0 + k), lambda k: (three(), "S")


@case
def names_that_are_put_together() -> Any:
    def change(k: int) -> None:
        globals()["G1"] = 2.0 + k

    change(0)
    return lambda x, i: x * globals()[f"G{i}"] + eval("G1 * 2"), change, lambda k: (three(), 1)


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
def keys_that_are_tensors() -> Any:
    table = {three(): 1.0, three() * 2: 2.0}

    def change(k: int) -> None:
        first = next(iter(table))
        table[first if k % 2 else three() * k] = table.pop(first) + k

    return lambda x: sum([x * key * value for key, value in table.items()]) + next(iter(table)), change


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
