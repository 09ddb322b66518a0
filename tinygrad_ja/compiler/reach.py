"""What a function can reach: the Tensors and the values of Python that it may read without being handed them.

From a function these are its closure, its defaults, its attributes and the global names that its code uses; from there attributes
(``__dict__``, ``__slots__``, and those of classes), items of lists, dicts, tuples and sets, and what functions and methods of the user that
are found on the way can reach in turn. Of a module those names count that code which was found uses. A recording holds as long as all of it
is as it was (``links.guard_of``).

Code of the framework, of Python's library and of installed packages is not looked into, but for the functions that a decorator of theirs
holds; what such code keeps to itself stays unseen.
"""

from __future__ import annotations

import array
import collections
import contextvars
import functools
import gc
import operator
import os
import random
import sys
import types
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import numpy as np

from ..amp.grad_scaler import GradScaler
from ..backend.arrays import BY_TYPE, is_array
from ..backend.random import Generator
from ..backend.threads import get_num_threads
from ..core.operator import Operator
from ..core.tape import is_ours
from ..core.tensor import Tensor
from ..optim.lr_scheduler.base import LRScheduler
from ..optim.optimizer import Optimizer
from .code_names import MAKERS, is_users, names_of, only_made_tensors
from .links import MISSING, PLAIN, Attributes, ClassAttributes, Link, State, TupleItems, same
from .schedules import Counted, counted
from .updates import live_names

MOST = 100_000
"""Links that are looked at; a function that reaches more is not compiled."""

SMALL, COMPARED = 1 << 12, 1 << 18
"""Bytes of a NumPy array up to which all of its elements are compared before a replay (some 0.3 µs), and bytes of larger ones together of
which that is so, too (some 20 µs)."""
SAMPLED = 256
"""Elements of a larger one that are compared."""

SETTINGS: dict[str, Callable[[], Any]] = {"get_num_threads": get_num_threads}
"""Functions of the framework that give a setting which no mode of a call shows."""

_OPAQUE = (Generator, GradScaler, LRScheduler, types.TracebackType, types.FrameType, types.CodeType)
_CODE = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, type, types.ModuleType, np.ufunc)
_RANDOM = (random.Random, np.random.Generator, np.random.RandomState)
_BYTES = (bytearray, memoryview, array.array)


class Reach:
    """Everything that was found.

    tensors: id -> Tensor. links: all that leads somewhere. sizes: containers whose entries all count, and how many they have. orders: dicts
    and their keys. sets: and what is in them. absent: names that a function uses and that nobody has defined. states: what changes without
    another object taking its place. unguarded: the same, of iterators and of arrays on a GPU, which only recordings look at. random: of
    sources of random numbers, which matter only to a function that moves them. rates: links to learning rates and scales, which a recording
    reads anew at each call. counts: links to numbers in the states of optimizers. counted: schedules and scalers. arrays: paths that lead to
    arrays of NumPy, by their ids. functions: those of the user; names: that their code uses, and texts that may be some. complete: False
    where there was too much.
    """

    def __init__(self, function: Any, *more: Any) -> None:
        self.tensors: dict[int, Tensor] = {}
        self.links: list[Link] = []
        self.sizes: list[tuple[Any, int, str]] = []
        self.orders: list[tuple[dict[Any, Any], tuple[Any, ...], str]] = []
        self.sets: list[tuple[set[Any], frozenset[Any], str]] = []
        self.absent: dict[int, tuple[dict[str, Any], set[str]]] = {}
        self.states: list[State] = []
        self.unguarded: list[State] = []
        self.random: list[State] = []
        self.rates: list[Link] = []
        self.counts: list[Link] = []
        self.counted: list[Counted] = []
        self.arrays: dict[int, set[str]] = {}
        self.functions: list[types.FunctionType] = []
        self.names: set[str] = set()
        self._seen: dict[int, Any] = {}
        self._modules: dict[int, tuple[types.ModuleType, str]] = {}
        self._texts: set[str] = set()
        self._taken: set[tuple[int, str]] = set()
        self._settings: set[str] = set()
        self._compared = COMPARED
        self._waiting: list[tuple[Any, str]] = [(function, getattr(function, "__name__", "step"))]
        self._waiting += [(value, f"argument {i}") for i, value in enumerate(more)]
        self.names |= {value for value in more if type(value) is str}
        while (self._waiting or self._look_into_modules()) and len(self.links) < MOST:
            self._visit(*self._waiting.pop())
        self.complete = not self._waiting

    # -- walking

    def _link(self, container: Any, key: Any, value: Any, path: str) -> None:
        if type(value) is tuple and value and all([isinstance(item, Tensor) for item in value]):  # a state (h, c), say
            items = TupleItems(Link(container, key, value, path))
            self.states.append(State(items, items.length, path))
            for index, item in enumerate(value):
                self._link(items, index, item, f"{path}[{index}]")
            return
        self.links.append(Link(container, key, value, path))
        self._waiting.append((value, path))
        if type(value) is str:  # perhaps for getattr
            self.names.add(value)

    @property
    def known(self) -> dict[int, Any]:
        """id -> object: all that was looked into."""
        return self._seen

    def _visit(self, value: Any, path: str) -> None:
        kind = type(value)
        if kind is np.ndarray:
            self.arrays.setdefault(id(value), set()).add(path)
        if kind in _EXACT or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, Tensor):
            self.tensors[id(value)] = value
            if value.node is not None:  # its hooks, which a backward will call
                self._link(Attributes(value.node), "hooks", value.node.hooks, f"{path}.hooks")
        elif isinstance(value, _OPAQUE) or value is MISSING:
            self._visit_opaque(value, path)
        elif isinstance(value, types.FunctionType):
            self._visit_function(value, path)
        elif isinstance(value, types.MethodType):
            self._waiting += [(value.__self__, path.rpartition(".")[0] or "self"), (value.__func__, path)]
        elif isinstance(value, functools.partial):
            for name in ("func", "args", "keywords"):
                self._link(Attributes(value), name, getattr(value, name), f"{path}.{name}")
        elif isinstance(value, (staticmethod, classmethod)):
            self._waiting.append((value.__func__, path))
        elif isinstance(value, property):
            self._waiting += [(f, path) for f in (value.fget, value.fset) if f is not None]
        elif isinstance(value, type):
            self._visit_class(value, path)
        elif isinstance(value, Optimizer):
            self._visit_optimizer(value, path)
        elif isinstance(value, types.ModuleType):
            self._modules[id(value)] = value, path
        elif isinstance(value, Replayable):
            self._waiting.append((value.__wrapped__, path))
        else:
            self._visit_contents(value, path)
            self._visit_object(value, path)

    def _visit_opaque(self, value: Any, path: str) -> None:
        if isinstance(value, LRScheduler):
            self.counted.append(counted(value, path))
            self._waiting.append((value.optimizer, f"{path}.optimizer"))
            self._waiting += [(part, f"{path}._schedulers[{i}]") for i, part in enumerate(vars(value).get("_schedulers", ()))]
        elif isinstance(value, GradScaler):
            self.counted.append(counted(value, path))
            self.links.append(Link(vars(value), "_enabled", vars(value)["_enabled"], f"{path}.is_enabled()"))
            self.rates.append(Link(vars(value), "_scale", vars(value)["_scale"], f"{path}.get_scale()"))

    def _visit_contents(self, value: Any, path: str) -> None:
        if isinstance(value, (tuple, frozenset)):
            self._waiting += [(item, f"{path}[{i}]") for i, item in enumerate(value)]
        elif isinstance(value, dict):
            self._visit_items(value, value.items(), path)
        elif isinstance(value, (list, collections.deque)):
            self._visit_items(value, enumerate(value), path)
        elif isinstance(value, set):
            self.sets.append((value, frozenset(value), path))
            self._waiting += [(item, path) for item in value]
        elif isinstance(value, np.ndarray):
            self._visit_array(value, path)
        elif type(value) in BY_TYPE and BY_TYPE[type(value)].kernel_of is None:
            self.unguarded.append(State(value, functools.partial(_elements_on_device, value), path))
        elif isinstance(value, _BYTES):
            self.states.append(State(value, value.tobytes if hasattr(value, "tobytes") else lambda: bytes(value), path))
        elif isinstance(value, contextvars.ContextVar):
            self._link(value, None, value.get(MISSING), path)
        elif isinstance(value, weakref.ref):
            self._link(value, None, value(), path)
        elif isinstance(value, _RANDOM):
            self.random.append(State(value, functools.partial(_random_state, value), path))
        elif hasattr(type(value), "__next__"):
            self.unguarded.append(State(value, functools.partial(_position_of, value), path))
            self._waiting += [(held, path) for held in _held_by(value)]
        elif isinstance(value, _VIEWS):
            self._waiting += [(held, path) for held in gc.get_referents(value)]

    def _visit_array(self, array: np.ndarray, path: str) -> None:
        whole = array.nbytes <= SMALL or array.nbytes <= self._compared
        if array.nbytes > SMALL and whole:
            self._compared -= array.nbytes
        self.states.append(State(array, functools.partial(_elements_of, array, whole), path))

    def _visit_items(self, container: Any, items: Any, path: str) -> None:
        items = list(items)
        ordered = isinstance(container, dict) and len(items) > 1 and not path.endswith("._roles")
        if ordered and not any([isinstance(key, Tensor) for key in container]):
            self.orders.append((container, tuple(container), path))
        else:
            self.sizes.append((container, len(items), path))
            self.states += [State(container, lambda: list(map(id, container)), path)] if ordered else []
        for key, value in items:
            self._link(container, key, value, f"{path}[{key!r}]")
            if not isinstance(key, PLAIN):
                self._waiting.append((key, path))

    def _visit_object(self, value: Any, path: str) -> None:
        if isinstance(value, _RANDOM) or type(value) in BY_TYPE:
            return
        attributes = getattr(value, "__dict__", None)
        if type(attributes) is dict:
            self.sizes.append((attributes, len(attributes), path))
            for name, held in list(attributes.items()):
                self._link(attributes, name, held, f"{path}.{name}")
        self.links += [Link(Attributes(value), "__class__", type(value), f"{path}.__class__")] if _is_open(type(value)) else []
        for kind in type(value).__mro__:
            for name in slots_of(kind):
                self._link(Attributes(value), name, getattr(value, name, MISSING), f"{path}.{name}")
            if kind is not object:
                self._waiting.append((kind, kind.__name__))

    def _visit_class(self, kind: type, path: str) -> None:
        if type(kind) is not type:
            self._waiting.append((type(kind), type(kind).__name__))
        names = vars(kind)
        if not is_of_user(kind):
            if "forward" in names:
                self.links.append(Link(ClassAttributes(kind), "forward", names["forward"], f"{path}.forward"))
            return
        self.sizes.append((ClassAttributes(kind), len(names), path))
        for name, value in list(names.items()):
            if isinstance(value, (types.FunctionType, staticmethod, classmethod, property)) or not name.startswith("__"):
                if not isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType)):
                    self._link(ClassAttributes(kind), name, value, f"{path}.{name}")

    def _visit_optimizer(self, optimizer: Optimizer, path: str) -> None:
        groups = optimizer.param_groups
        self.links.append(Link(vars(optimizer), "param_groups", groups, f"{path}.param_groups"))
        self.sizes.append((groups, len(groups), f"{path}.param_groups"))
        for index, group in enumerate(groups):
            here = f"{path}.param_groups[{index}]"
            self.links.append(Link(groups, index, group, here))
            for name, value in group.items():
                if name in live_names(group):
                    self.rates.append(Link(group, name, value, f"{here}[{name!r}]"))
                elif name != "initial_lr":
                    self._link(group, name, value, f"{here}[{name!r}]")
        held = vars(optimizer)
        self.sizes.append((held, len(held), path))
        for name in held.keys() - _OF_STEPS:
            self._link(held, name, held[name], f"{path}.{name}")
        self.links.append(Link(held, "state", optimizer.state, f"{path}.state"))
        self._visit_state(optimizer, f"{path}.state")
        self._waiting += [(kind, kind.__name__) for kind in type(optimizer).__mro__[:-1]]

    def _visit_state(self, optimizer: Optimizer, path: str) -> None:
        """What an optimizer keeps for its parameters, but for arrays and numbers, which are the business of ``record_update``."""
        by_user = is_of_user(next(kind for kind in type(optimizer).__mro__ if "step" in vars(kind)))
        groups = enumerate(optimizer.param_groups)
        places = {id(p): f"{path}[param_groups[{i}]['params'][{k}]]" for i, g in groups for k, p in enumerate(g["params"])}
        if by_user:
            self.sizes.append((optimizer.state, len(optimizer.state), path))
        for p, entries in optimizer.state.items():
            here = places.get(id(p), path)
            if by_user:
                self.links.append(Link(optimizer.state, p, entries, here))
                self.sizes.append((entries, len(entries), here))
            for name, value in entries.items():
                if isinstance(value, (int, float)):
                    self.counts.append(Link(entries, name, value, f"{here}[{name!r}]"))
                elif not is_array(value):
                    self._link(entries, name, value, f"{here}[{name!r}]")

    def _visit_function(self, function: types.FunctionType, path: str) -> None:
        if is_ours(function.__code__.co_filename):  # an operator, or a decorator such as no_grad
            if hasattr(function, "__wrapped__"):
                self._waiting.append((function.__wrapped__, path))
            written = getattr(function, "operator", None)
            if isinstance(written, Operator):  # the user may have written it
                parts = (written.forward, *written.derivatives, written.reference)
                self._waiting += [(part, path) for part in parts if part is not None]
            return
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            self._link(cell, None, Link(cell, None, None, name).now(), name)
        users = is_users(function.__code__.co_filename)
        for name in ("__defaults__", "__kwdefaults__"):
            held = getattr(function, name)
            if users and (held is not None or name == "__defaults__"):
                self._link(Attributes(function), name, held, f"{path}.{name}")
            elif held is not None:
                self._waiting.append((held, path))
        if users or vars(function):
            self._visit_items(vars(function), vars(function).items(), path)
        if not users:
            return
        self.links.append(Link(Attributes(function), "__code__", function.__code__, f"{path}.__code__"))
        self.functions.append(function)
        used = names_of(function.__code__)
        self.names |= used.names
        if not used.globals.isdisjoint(("getattr", "hasattr", "vars")):
            self._texts |= used.texts
        space, wanted = function.__globals__, used.globals
        if not wanted.isdisjoint(("eval", "exec", "globals")):
            wanted |= used.texts | {name for name in space if not name.startswith("__")}
        for name in wanted & space.keys():
            self._link_once(space, name, name)
        if missing := wanted - space.keys():
            self._note_absent(space, missing)
            builtins = vars(sys.modules["builtins"])
            for name in missing & builtins.keys():
                if isinstance(builtins[name], types.FunctionType) or not callable(builtins[name]):
                    self._link_once(builtins, name, name)
        imported = {_absolute(name, space.get("__package__") or "") for name in used.imports}
        self._waiting += [(sys.modules[name], name) for name in imported & sys.modules.keys()]
        for name in used.names & SETTINGS.keys() - self._settings:
            self._settings.add(name)
            self.states.append(State(SETTINGS[name], SETTINGS[name], f"{name}()"))
        if "getenv" in used.names:
            self._waiting.append((os.environ, "os.environ"))

    def _link_once(self, space: dict[str, Any], name: str, path: str) -> None:
        if (id(space), name) not in self._taken:
            self._taken.add((id(space), name))
            self._link(space, name, space[name], path)

    def _look_into_modules(self) -> bool:
        """Link the names of modules that code uses; whether there was a new one."""
        for module, path in list(self._modules.values()):
            space, users = vars(module), _is_module_of_user(module)
            for name in (self.names & space.keys()) - {"__builtins__"}:
                value = space[name]
                if (id(space), name) in self._taken:
                    continue
                if users or not isinstance(value, _CODE):
                    self._link_once(space, name, f"{path}.{name}")
                elif isinstance(value, types.ModuleType) and id(value) not in self._seen:
                    self._waiting.append((value, f"{path}.{name}"))
            if users:
                self._note_absent(space, self._texts - space.keys())
                if "__getattr__" in space:  # asked for all other names
                    self._link_once(space, "__getattr__", f"{path}.__getattr__")
        return bool(self._waiting)

    def _note_absent(self, space: dict[str, Any], names: Collection[str]) -> None:
        if names:
            self.absent.setdefault(id(space), (space, set()))[1].update(names)

    # -- afterwards

    def changed(self) -> Iterator[Link]:
        """Links that lead elsewhere now (compared by identity; numbers and texts by value)."""
        for link in self.links:
            now = link.now()
            if now is not link.value and not same(now, link.value):
                yield link

    def resized(self) -> Iterator[tuple[Any, str]]:
        """Containers that have other entries now, and paths to them."""
        for container, size, path in self.sizes:
            if len(container) != size:
                yield container, path
        for container, keys, path in self.orders:
            if tuple(container) != keys:
                yield container, path
        for container, items, path in self.sets:
            if container != items:
                yield container, path

    def read_by_python(self) -> list[np.ndarray]:
        """Arrays of NumPy that were found."""
        return [state.owner for state in self.states if type(state.owner) is np.ndarray]

    def only_made_tensors(self, array: np.ndarray, codes: Iterable[types.CodeType]) -> bool:
        """Whether pieces of code do nothing with an array but to make Tensors of it: then a program reads it where it lies."""
        makers = MAKERS - {function.__name__ for function in self.functions}
        names = [path.rpartition(".")[2] for path in self.arrays[id(array)]]
        if any([name.endswith("]") for name in names]):
            return False
        return all([only_made_tensors(name, code, makers) for name in names for code in codes])

    def moved(self) -> Iterator[State]:
        """Arrays, iterators and the like that are not as they were."""
        for state in (*self.states, *self.unguarded):
            if not state.holds():
                yield state


class Replayable:
    """Base of compiled functions: what is behind them is their function."""

    __wrapped__: Any


# ---- single values -------------------------------------------------------------------------------


_OF_STEPS = frozenset(("param_groups", "state", "stepped", "_scratch"))
"""Attributes of an optimizer that its step changes, or that are looked at in another way."""
_EXACT = frozenset(PLAIN) | {types.BuiltinFunctionType, np.ufunc, types.CodeType}
_VIEWS: tuple[type, ...] = (
    types.MappingProxyType,
    type({}.keys()),
    type({}.values()),
    type({}.items()),
    operator.itemgetter,
    operator.attrgetter,
)


def _elements_of(array: np.ndarray, whole: bool) -> Any:
    """What two states of an array are compared by: all elements, or some hundred, spread evenly."""
    if array.dtype.hasobject:
        return array.shape, list(map(id, array.flat))
    return array.shape, (array if whole else _sample(array)).tobytes()


def _elements_on_device(array: Any) -> Any:
    """The same of an array on a GPU, never all of a large one."""
    return array.shape, BY_TYPE[type(array)].to_host(_sample(array)).tobytes()


def _sample(array: Any) -> Any:
    """Some hundred elements, spread evenly."""
    if array.size < SAMPLED:
        return array
    if array.flags.c_contiguous:
        return array.reshape(-1)[:: array.size // SAMPLED]
    return array[tuple([slice(None, None, max(1, n // 8)) for n in array.shape])]


def _random_state(source: Any) -> Any:
    if isinstance(source, random.Random):
        return source.getstate()
    if isinstance(source, np.random.RandomState):
        kind, key, *rest = source.get_state(legacy=True)
        return kind, np.asarray(key).tobytes(), *rest
    return repr(source.bit_generator.state)


def _position_of(iterator: Any) -> Any:
    """How far an iterator has come, as far as that can be seen without moving it."""
    if isinstance(iterator, types.GeneratorType):
        frame = iterator.gi_frame
        return None if frame is None else (frame.f_lasti, [id(value) for value in frame.f_locals.values()])
    name = type(iterator).__name__
    shown = repr(iterator) if type(iterator).__module__ == "itertools" and name in ("count", "repeat") else None
    try:
        left = operator.length_hint(iterator, -1)
    except Exception:
        left = -1
    return shown, left


def _held_by(iterator: Any) -> list[Any]:
    """What an iterator works on."""
    if isinstance(iterator, types.GeneratorType):
        return [] if iterator.gi_frame is None else list(iterator.gi_frame.f_locals.values())
    return [] if isinstance(getattr(iterator, "__dict__", None), dict) else gc.get_referents(iterator)


# ---- of code and classes ---------------------------------------------------------------------------


def _absolute(name: str, package: str) -> str:
    """The name of a module that code of a package imports; dots in front lead up from there."""
    level = len(name) - len(name.lstrip("."))
    return name if not level else ".".join([*package.split(".")[: 1 - level or None], *name[level:].split(".")]).rstrip(".")


def slots_of(kind: type) -> list[str]:
    """Names of the ``__slots__`` of a class of Python."""
    if "__slots__" not in vars(kind):
        return []
    return [name for name, value in vars(kind).items() if isinstance(value, types.MemberDescriptorType)]


def _is_open(kind: type) -> bool:
    """Whether an object of this class may be given another class."""
    return bool(kind.__flags__ & 1 << 9) and not kind.__module__ == "builtins"  # a class that Python code made


def is_of_user(kind: type) -> bool:
    """Whether a class is of the user's code."""
    module = sys.modules.get(kind.__module__)
    return kind.__module__ == "__main__" or (module is not None and _is_module_of_user(module))


def _is_module_of_user(module: types.ModuleType) -> bool:
    name = vars(module).get("__file__")  # not getattr, which asks a function of the module
    if not isinstance(name, str):  # typed in, or made by hand; what is built into Python has a specification
        return vars(module).get("__spec__") is None
    return is_users(name)
