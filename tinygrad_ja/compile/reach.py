"""What a function can reach: the Tensors and the values of Python that it may read without being handed them.

From a function these are its closure, its defaults and the global names that its code uses; from there attributes, items of lists, dicts and
tuples, and what functions and methods of the user that are found on the way can reach in turn. A recording holds as long as all of it is as it
was: ``Reach.guard`` writes one function of Python that compares every link (``d["scale"] is v3 and ...``, some 30 ns each). Code of the
framework, of Python's library and of installed packages is not looked into, but for the functions that a decorator of theirs holds; what such
code keeps to itself stays unseen.
"""

from __future__ import annotations

import functools
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..amp.grad_scaler import GradScaler
from ..backend.random import Generator
from ..core.tape import is_ours
from ..core.tensor import Tensor
from ..optim.lr_scheduler.base import LRScheduler
from ..optim.optimizer import Optimizer
from .updates import LIVE

MOST = 50_000
"""Links that are looked at; what is behind them is not guarded."""

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), slice, range, np.dtype, np.generic)
_OPAQUE = (Generator, GradScaler, LRScheduler, np.ndarray, types.BuiltinFunctionType, types.TracebackType, types.FrameType)
_EXCLUDED = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class Link:
    """One step from a container to what it holds. ``container`` is a dict, a list or a cell."""

    __slots__ = ("container", "key", "value", "path")

    def __init__(self, container: Any, key: Any, value: Any, path: str) -> None:
        self.container = container
        self.key = key
        self.value = value
        self.path = path

    def now(self) -> Any:
        """What the container holds there now; ``MISSING`` when that is gone."""
        try:
            return self.container.cell_contents if type(self.container) is types.CellType else self.container[self.key]
        except (KeyError, IndexError, ValueError):
            return MISSING


MISSING: Any = type("Missing", (), {"__repr__": lambda self: "(nothing)"})()


class Reach:
    """Everything that was found: ``tensors`` (id -> Tensor, with a path to it in ``paths``), ``links``, and ``sizes`` of dicts and lists whose
    entries all count."""

    def __init__(self, function: Any, *more: Any) -> None:
        self.tensors: dict[int, Tensor] = {}
        self.paths: dict[int, str] = {}
        self.links: list[Link] = []
        self.sizes: list[tuple[Any, int, str]] = []
        self._seen: dict[int, Any] = {}
        self._waiting: list[tuple[Any, str]] = [(function, getattr(function, "__name__", "step"))]
        self._waiting += [(value, f"argument {i}") for i, value in enumerate(more)]
        while self._waiting and len(self.links) < MOST:
            value, path = self._waiting.pop()
            self._visit(value, path)

    # -- walking

    def _link(self, container: Any, key: Any, value: Any, path: str) -> None:
        self.links.append(Link(container, key, value, path))
        self._waiting.append((value, path))

    def _visit(self, value: Any, path: str) -> None:
        if isinstance(value, _PLAIN) or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, Tensor):
            self.tensors[id(value)] = value
            self.paths[id(value)] = path
        elif isinstance(value, _OPAQUE):
            return
        elif isinstance(value, types.FunctionType):
            self._visit_function(value, path)
        elif isinstance(value, types.MethodType):
            self._waiting += [(value.__self__, path.rpartition(".")[0] or path), (value.__func__, path)]
        elif isinstance(value, functools.partial):
            self._waiting += [(value.func, path), (value.args, f"{path}.args"), (value.keywords, f"{path}.keywords")]
        elif isinstance(value, (staticmethod, classmethod)):
            self._waiting.append((value.__func__, path))
        elif isinstance(value, property):
            self._waiting += [(f, path) for f in (value.fget, value.fset) if f is not None]
        elif isinstance(value, (tuple, frozenset)):
            self._waiting += [(item, f"{path}[{i}]") for i, item in enumerate(value)]
        elif isinstance(value, dict):
            self._visit_items(value, value.items(), path)
        elif isinstance(value, list):
            self._visit_items(value, enumerate(value), path)
        elif isinstance(value, type):
            self._visit_class(value, path)
        elif isinstance(value, Optimizer):
            self._visit_optimizer(value, path)
        elif isinstance(value, types.ModuleType):
            return  # its names are followed where code uses them
        elif isinstance(value, Replayable) or (callable(value) and hasattr(value, "__wrapped__")):
            self._waiting.append((value.__wrapped__, path))
        else:
            self._visit_object(value, path)

    def _visit_items(self, container: Any, items: Any, path: str) -> None:
        items = list(items)
        self.sizes.append((container, len(items), path))
        for key, value in items:
            self._link(container, key, value, f"{path}[{key!r}]")

    def _visit_object(self, value: Any, path: str) -> None:
        attributes = getattr(value, "__dict__", None)
        if type(attributes) is dict:
            self.sizes.append((attributes, len(attributes), path))
            for name, held in list(attributes.items()):
                self._link(attributes, name, held, f"{path}.{name}")
        for kind in type(value).__mro__:
            if kind is not object:
                self._waiting.append((kind, kind.__name__))

    def _visit_class(self, kind: type, path: str) -> None:
        module = sys.modules.get(kind.__module__)
        if kind.__module__ != "__main__" and not _is_users(getattr(module, "__file__", None)):
            return
        for name, value in list(vars(kind).items()):
            if isinstance(value, (types.FunctionType, staticmethod, classmethod, property)):
                self._waiting.append((value, f"{path}.{name}"))
            elif not name.startswith("__"):
                self.links.append(Link(_Attributes(kind), name, value, f"{path}.{name}"))
                self._waiting.append((value, f"{path}.{name}"))

    def _visit_optimizer(self, optimizer: Optimizer, path: str) -> None:
        groups = optimizer.param_groups
        self.links.append(Link(vars(optimizer), "param_groups", groups, f"{path}.param_groups"))
        self.sizes.append((groups, len(groups), f"{path}.param_groups"))
        for index, group in enumerate(groups):
            here = f"{path}.param_groups[{index}]"
            self.links.append(Link(groups, index, group, here))
            for name, value in group.items():
                if name not in LIVE and name != "initial_lr":
                    self._link(group, name, value, f"{here}[{name!r}]")

    def _visit_function(self, function: types.FunctionType, path: str) -> None:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            try:
                self._link(cell, None, cell.cell_contents, name)
            except ValueError:
                continue  # a name that has no value yet
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._waiting.append((value, f"{path}.default"))
        if not _is_users(function.__code__.co_filename):
            return
        names = frozenset(_names(function.__code__))
        space = function.__globals__
        for name in names & space.keys():
            self._link(space, name, space[name], name)
            self._visit_module(space[name], names, name)

    def _visit_module(self, module: Any, names: frozenset[str], path: str) -> None:
        if not isinstance(module, types.ModuleType) or not _is_users(getattr(module, "__file__", None)):
            return
        space = vars(module)
        for name in names & space.keys():
            self._link(space, name, space[name], f"{path}.{name}")

    # -- the guard

    def guard(
        self,
        links: Sequence[Link] | None = None,
        identities: Sequence[tuple[Any, Any, Any]] = (),
        attributes: Sequence[tuple[Any, str, Any]] = (),
    ) -> Callable[[], bool]:
        """A function that is True as long as every link leads where it did.

        links: those that count, by default all. identities: more of them, (container, key, value). attributes: (object, name, value), with an
        object that has slots.
        """
        space: dict[str, Any] = {}
        names: dict[int, str] = {}

        def name_of(value: Any) -> str:
            known = names.get(id(value))
            if known is None:
                known = names[id(value)] = f"v{len(names)}"
                space[known] = value
            return known

        def item(container: Any, key: Any, value: Any) -> str:
            if type(container) is types.CellType:
                return f"{name_of(container)}.cell_contents is {name_of(value)}"
            at = repr(key) if type(key) in (str, int) else name_of(key)
            return f"{name_of(container)}[{at}] is {name_of(value)}"

        terms = [f"len({name_of(container)}) == {size}" for container, size, _ in self.sizes]
        terms += [item(link.container, link.key, link.value) for link in (self.links if links is None else links)]
        terms += [item(*identity) for identity in identities]
        terms += [f"{name_of(owner)}.{name} is {name_of(value)}" for owner, name, value in attributes]
        body = "".join(f"        if not ({' and '.join(terms[i : i + 40])}): return False\n" for i in range(0, len(terms), 40))
        source = f"def guard():\n    try:\n{body}        return True\n    except (LookupError, ValueError): return False\n"
        exec(compile(source, "<guard>", "exec"), space)
        return space["guard"]

    def changed(self) -> Iterator[Link]:
        """Links that lead elsewhere now (compared by identity; numbers and texts by value)."""
        for link in self.links:
            now = link.now()
            if now is not link.value and not same(now, link.value):
                yield link

    def resized(self) -> Iterator[tuple[Any, int, str]]:
        """Containers that have another number of entries now."""
        for container, size, path in self.sizes:
            if len(container) != size:
                yield container, size, path


def same(a: Any, b: Any) -> bool:
    """Whether two plain values are equal and of one type."""
    return type(a) is type(b) and isinstance(a, _PLAIN) and (a == b or (a != a and b != b))


class _Attributes:
    """The attributes of a class, by name."""

    __slots__ = ("kind",)

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def __getitem__(self, name: str) -> Any:
        return vars(self.kind)[name]


class Replayable:
    """Base of compiled functions: what is behind them is their function."""

    __wrapped__: Any


def _names(code: types.CodeType) -> Iterator[str]:
    """Names that a piece of code, and the functions that it defines, may look up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


@functools.cache
def _is_users(filename: str | None) -> bool:
    """True for code of the user: neither the framework's, nor Python's library, nor an installed package's."""
    if filename is None:
        return False
    return not is_ours(filename) and not filename.startswith(_EXCLUDED)
