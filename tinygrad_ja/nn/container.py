"""Containers: modules and parameters in order, or by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..core.tensor import Tensor
from ..errors import error
from .module import MODULES, PARAMETERS, Module
from .parameter import Parameter


class _Sequence(Module):
    """What the ordered containers share: their items are registered under the names "0", "1", ..."""

    _kind = MODULES

    def _items(self) -> list[Any]:
        return [value for _, value in self._own(self._kind)]

    def _rename(self, items: Iterable[Any]) -> None:
        for name, _ in self._own(self._kind):
            delattr(self, name)
        for index, item in enumerate(items):
            self._add(str(index), item)

    def _add(self, name: str, item: Any) -> None:
        self.add_module(name, item)

    def __len__(self) -> int:
        return len(self._own(self._kind))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items())

    def _name_at(self, index: int) -> str:
        names = [name for name, _ in self._own(self._kind)]
        try:
            return names[index]
        except IndexError:
            size = len(names)
            raise error(
                "TG-I002", op=type(self).__name__, index=index, size=size, shape=(size,), first=-size, last=size - 1
            ) from None

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(*self._items()[index])
        return self.__dict__[self._name_at(index)]

    def __setitem__(self, index: int, item: Any) -> None:
        self._add(self._name_at(index), item)

    def __delitem__(self, index: Any) -> None:
        items = self._items()
        del items[index]
        self._rename(items)

    def append(self, item: Any) -> Any:
        """Add an item at the end. Returns itself."""
        self._add(str(len(self)), item)
        return self

    def extend(self, items: Iterable[Any]) -> Any:
        """Add items at the end. Returns itself."""
        for item in list(items):
            self.append(item)
        return self

    def insert(self, index: int, item: Any) -> Any:
        """Put an item before the one at ``index``. Returns itself."""
        items = self._items()
        items.insert(index, item)
        self._rename(items)
        return self

    def pop(self, index: int = -1) -> Any:
        """Take the item at ``index`` out and return it."""
        item = self[index]
        del self[index]
        return item


class Sequential(_Sequence):
    """Modules one after another: the output of each is the input of the next.

    Made from modules, or from a dict of names to modules.

    >>> import tinygrad_ja as tg
    >>> model = tg.nn.Sequential(tg.nn.Linear(2, 3), tg.nn.Tanh(), tg.nn.Linear(3, 1))
    >>> model(tg.zeros(4, 2)).shape
    (4, 1)
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.add_module(name, module)
        else:
            self.extend(modules)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(dict(self._own(MODULES)[index]))
        return super().__getitem__(index)

    def __add__(self, other: Sequential) -> Sequential:
        return Sequential(*self, *other)

    def forward(self, input: Any) -> Any:
        """input: what the first module takes."""
        for module in self._items():
            input = module(input)
        return input


class ModuleList(_Sequence):
    """Modules in a list: indexed, sliced and iterated like one, and registered. It has no forward of its own."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def __getitem__(self, index: Any) -> Any:
        return type(self)(self._items()[index]) if isinstance(index, slice) else super().__getitem__(index)

    def __iadd__(self, modules: Iterable[Module]) -> Any:
        return self.extend(modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __repr__(self) -> str:
        """Runs of equal modules as one line: ``(0-3): 4 x Linear(...)``."""
        texts = [repr(module) for module in self]
        lines, start = [], 0
        for index in range(1, len(texts) + 1):
            if index < len(texts) and texts[index] == texts[start]:
                continue
            count = index - start
            label = f"({start}): " if count == 1 else f"({start}-{index - 1}): {count} x "
            lines.append("\n  " + (label + texts[start]).replace("\n", "\n  "))
            start = index
        return f"{type(self).__name__}({''.join(lines)}\n)" if lines else f"{type(self).__name__}()"


class ModuleDict(Module):
    """Modules by name: used like a dict, and registered. It has no forward of its own.

    >>> import tinygrad_ja as tg
    >>> heads = tg.nn.ModuleDict({"mean": tg.nn.Linear(2, 1), "scale": tg.nn.Linear(2, 1)})
    >>> list(heads), "mean" in heads
    (['mean', 'scale'], True)
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._modules.keys()

    def values(self) -> Iterable[Any]:
        """The modules."""
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        """``(name, module)`` pairs."""
        return self._modules.items()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add modules, or put others in the place of those of the same name."""
        for name, module in modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules:
            self.add_module(name, module)

    def pop(self, key: str) -> Any:
        """Take a module out and return it."""
        module = self._modules[key]
        delattr(self, key)
        return module

    def clear(self) -> None:
        """Take all modules out."""
        for name in list(self):
            delattr(self, name)


class ParameterList(_Sequence):
    """Parameters in a list; a Tensor that is put in becomes a Parameter."""

    _kind = PARAMETERS

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.extend(values or ())

    def _add(self, name: str, item: Any) -> None:
        if type(item) is Tensor and not isinstance(item, Parameter):
            item = Parameter(item)
        self.register_parameter(name, item)

    def __getitem__(self, index: Any) -> Any:
        return type(self)(self._items()[index]) if isinstance(index, slice) else super().__getitem__(index)

    def __iadd__(self, values: Iterable[Any]) -> Any:
        return self.extend(values)

    def extra_repr(self) -> str:
        lines = [
            f"({index}): Parameter containing: [{p.dtype} of size {'x'.join(map(str, p.shape))}]"
            for index, p in enumerate(self)
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        body = "".join(f"\n    {line}" for line in self.extra_repr().split("\n") if line)
        return f"{type(self).__name__}({body}\n)" if body else f"{type(self).__name__}()"


class ParameterDict(Module):
    """Parameters by name; a Tensor that is put in becomes a Parameter."""

    def __init__(self, parameters: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        for name, value in (parameters or {}).items():
            self[name] = value

    def __getitem__(self, key: str) -> Any:
        return self._parameters[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if type(value) is Tensor and not isinstance(value, Parameter):
            value = Parameter(value)
        self.register_parameter(key, value)

    def __delitem__(self, key: str) -> None:
        if key not in self._parameters:
            raise KeyError(key)
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __contains__(self, key: object) -> bool:
        return key in self._parameters

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._parameters.keys()

    def values(self) -> Iterable[Any]:
        """The parameters."""
        return self._parameters.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        """``(name, parameter)`` pairs."""
        return self._parameters.items()
