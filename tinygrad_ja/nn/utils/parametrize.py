"""Parametrizations: a parameter computed from others whenever it is read (``torch.nn.utils.parametrize``).

The parameter moves to ``module.parametrizations.<name>.original``, and the module's class becomes a subclass whose attribute ``<name>`` is
what the parametrizations make of it. Keys of ``state_dict`` are PyTorch's.

>>> import tinygrad_ja as tg
>>> class Symmetric(tg.nn.Module):
...     def forward(self, x):
...         return x.triu() + x.triu(1).T
>>> layer = register_parametrization(tg.nn.Linear(3, 3), "weight", Symmetric())
>>> bool((layer.weight == layer.weight.T).all())
True
>>> list(layer.state_dict())
['bias', 'parametrizations.weight.original']
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from ...core.modes import no_grad
from ...core.tensor import Tensor, is_parameter
from ...errors import Phrase, error
from ..container import ModuleDict, ModuleList
from ..module import BUFFERS, PARAMETERS, Module
from ..parameter import Parameter

__all__ = [
    "ParametrizationList",
    "cached",
    "is_parametrized",
    "register_parametrization",
    "remove_parametrizations",
    "type_before_parametrizations",
]

_cache: dict[tuple[int, str], Tensor] = {}
_cache_users = 0


@contextmanager
def cached() -> Iterator[None]:
    """Within this block each parametrized tensor is computed once, at its first use: for recurrent and shared weights."""
    global _cache_users
    _cache_users += 1
    try:
        yield
    finally:
        _cache_users -= 1
        if not _cache_users:
            _cache.clear()


def _refuse(reason: Phrase, fix: Phrase) -> Exception:
    return error("TG-A003", op="parametrize", reason=reason, fix=fix)


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, first to last, and the tensors they start from: ``original``, or ``original0``, ``original1``, ...
    where the first one's ``right_inverse`` returns several. Calling it gives the tensor."""

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        super().__init__(modules)
        self.unsafe = unsafe
        with no_grad():
            new = self._inverted(original, strict=False)
            self.is_tensor = type(new) is Tensor
            self.ntensors = 1 if self.is_tensor else len(new)
            if not unsafe:
                self._check(original, self._made_of([new] if self.is_tensor else new))
        role = PARAMETERS if is_parameter(original) else BUFFERS
        if self.is_tensor:
            _replace_value(original, new)  # the same object, which an optimizer may hold
            self._register(role, "original", original)
        else:
            for index, part in enumerate(new):
                part = Parameter(part.detach(), original.requires_grad) if role is PARAMETERS else part
                self._register(role, f"original{index}", part)

    def _check(self, original: Tensor, made: Tensor) -> None:
        old, new = [f"{tuple(x.shape)} {x.dtype}" for x in (original, made)]
        if old != new:
            reason = (f"the parametrization makes {new} of {old}", f"パラメータ化で {old} が {new} に変わります")
            raise _refuse(reason, ("pass unsafe=True to allow that.", "それでよければ unsafe=True を渡してください。"))

    def _originals(self) -> list[Tensor]:
        names = ["original"] if self.is_tensor else [f"original{index}" for index in range(self.ntensors)]
        return [getattr(self, name) for name in names]

    def _inverted(self, value: Any, strict: bool) -> Any:
        """``value`` through the inverses, last to first; those that have none are left out, unless ``strict``."""
        for module in reversed(list(self)):
            if hasattr(module, "right_inverse"):
                try:
                    value = module.right_inverse(value)
                except NotImplementedError:
                    if strict:
                        raise
            elif strict:
                name = type(module).__name__
                reason = (
                    f"{name} has no right_inverse, so no value can be assigned",
                    f"{name} に right_inverse がないので、値を代入できません",
                )
                fix = ("define right_inverse(self, value).", "right_inverse(self, value) を定義してください。")
                raise _refuse(reason, fix)
        if type(value) is not Tensor and not (isinstance(value, (tuple, list)) and all(type(part) is Tensor for part in value)):
            raise error("TG-T002", op="parametrize", argument="right_inverse(...)", type=type(value).__name__)
        return value

    def right_inverse(self, value: Tensor) -> None:
        """Choose the originals so that the tensor becomes ``value``, as far as the parametrizations allow."""
        with no_grad():
            made = self._inverted(value, strict=True)
            parts = [made] if type(made) is Tensor else list(made)
            if len(parts) != self.ntensors:
                reason = (
                    f"right_inverse returned {len(parts)} tensors instead of {self.ntensors}",
                    f"right_inverse が返したテンソルは {len(parts)} 個ですが、{self.ntensors} 個のはずです",
                )
                raise _refuse(reason, ("return as many as before.", "前と同じ個数を返してください。"))
            for original, part in zip(self._originals(), parts):
                _replace_value(original, part)

    def forward(self) -> Tensor:
        """The parametrized tensor."""
        return self._made_of(self._originals())

    def _made_of(self, originals: Sequence[Tensor]) -> Tensor:
        first, *others = list(self)
        made = first(*originals)
        for module in others:
            made = module(made)
        return made


def _replace_value(tensor: Tensor, value: Tensor) -> None:
    """Another value, perhaps of another shape, for the same object."""
    if value.dtype != tensor.dtype:
        raise error("TG-T006", actual=value.dtype, expected=tensor.dtype)
    if value is not tensor:
        tensor.array = value.array.copy()
        tensor._note_change()


class _Parametrized(Module):
    """What the subclass of a parametrized module adds to its class."""

    _plain: type[Module]

    def __getattr__(self, name: str) -> Any:
        parametrizations = self.__dict__.get("parametrizations")
        if parametrizations is None or name not in parametrizations:
            return super().__getattr__(name)
        if not _cache_users:
            return parametrizations[name]()
        key = id(self), name
        if key not in _cache:
            _cache[key] = parametrizations[name]()
        return _cache[key]

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__.get("parametrizations", ()):
            self.parametrizations[name].right_inverse(value)
        else:
            super().__setattr__(name, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _rebuild, (self._plain,), self.__dict__


def _rebuild(plain: type[Module]) -> Any:
    """A module without its state, for ``copy`` and ``pickle``."""
    kind = _subclass(plain)  # type: ignore[arg-type]
    return kind.__new__(kind)


@functools.cache
def _subclass(plain: Any) -> type[Module]:
    return type(f"Parametrized{plain.__name__}", (_Parametrized, plain), {"_plain": plain, "__doc__": plain.__doc__})


def register_parametrization(module: Any, tensor_name: str, parametrization: Module, *, unsafe: bool = False) -> Any:
    """Compute the parameter or buffer ``tensor_name`` of ``module`` by ``parametrization`` from now on; one that is parametrized already
    goes through this one, too. Returns the module.

    parametrization: a Module of one tensor (or of as many as its ``right_inverse`` returns). With ``right_inverse`` the tensor keeps the
        value it has, as nearly as it can, and values can be assigned to it.
    unsafe: allow that shape or dtype change.
    Raises ArgumentError when the module has no such tensor, or shape or dtype would change; then nothing has changed.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        _append(module.parametrizations[tensor_name], parametrization, unsafe)
    elif module._roles.get(tensor_name) in (PARAMETERS, BUFFERS) and getattr(module, tensor_name) is not None:
        made = ParametrizationList([parametrization], getattr(module, tensor_name), unsafe)
        delattr(module, tensor_name)
        if not is_parametrized(module):
            module.__class__ = _subclass(type(module))  # type: ignore[arg-type]
            module.parametrizations = ModuleDict()
        module.parametrizations[tensor_name] = made
    else:
        reason = (
            f"{type(module).__name__} has no parameter or buffer '{tensor_name}'",
            f"{type(module).__name__} にパラメータ・バッファ '{tensor_name}' はありません",
        )
        raise _refuse(reason, ("name one that it has.", "あるものの名前を渡してください。"))
    return module


def _append(made: ParametrizationList, parametrization: Module, unsafe: bool) -> None:
    """One more parametrization at the end; the originals stay as they are."""
    if not unsafe:
        with no_grad():
            value = made()
            again = [parametrization(value)]
            if hasattr(parametrization, "right_inverse"):
                with suppress(NotImplementedError):
                    again.append(parametrization.right_inverse(again[0]))
        for x in again:
            if type(x) is not Tensor or tuple(x.shape) != tuple(value.shape) or x.dtype != value.dtype:
                reason = (
                    "a further parametrization takes one tensor, and keeps shape and dtype",
                    "追加のパラメータ化はテンソル 1 つを受け取り、形状と dtype を保つものでなければなりません",
                )
                fix = ("pass unsafe=True for another shape.", "形状が変わってよければ unsafe=True を渡してください。")
                raise _refuse(reason, fix)
    made.append(parametrization)
    made.unsafe = made.unsafe or unsafe


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """True when the tensor of that name (or, without one, any tensor) of the module itself is parametrized."""
    found = module.__dict__.get("parametrizations")
    if not isinstance(found, ModuleDict):
        return False
    return len(found) > 0 if tensor_name is None else tensor_name in found


def type_before_parametrizations(module: Module) -> type[Module]:
    """The class that the module had before the first parametrization."""
    return module._plain if isinstance(module, _Parametrized) else type(module)


def remove_parametrizations(module: Any, tensor_name: str, leave_parametrized: bool = True) -> Any:
    """Make the tensor an ordinary one again: with its present value, or with that of ``original``. Returns the module.

    With a single original its object becomes the parameter, so an optimizer that holds it goes on; with several a new Parameter is made.
    """
    if not is_parametrized(module, tensor_name):
        reason = (
            f"{type(module).__name__} has no parametrization of '{tensor_name}'",
            f"{type(module).__name__} の '{tensor_name}' はパラメータ化されていません",
        )
        raise _refuse(reason, ("name one that is parametrized.", "パラメータ化されたものの名前を渡してください。"))
    made = module.parametrizations[tensor_name]
    if not made.is_tensor and not leave_parametrized:
        reason = (
            f"'{tensor_name}' is made of several originals, none of which could take its place",
            f"'{tensor_name}' は複数の original から作られており、どれも代わりになりません",
        )
        raise _refuse(reason, ("leave_parametrized=True.", "leave_parametrized=True としてください。"))
    value, first = made(), made._originals()[0]
    role = made._roles["original" if made.is_tensor else "original0"]
    if not made.is_tensor:
        first = Parameter(value.detach(), value.requires_grad) if value.requires_grad or role == PARAMETERS else value
    elif leave_parametrized:
        _replace_value(first, value.detach())
    del module.parametrizations[tensor_name]
    if not len(module.parametrizations):
        del module.parametrizations
        module.__class__ = module._plain
    module._register(role, tensor_name, first)
    return module
