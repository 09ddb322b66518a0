"""``Module``: a part of a model. It knows its parameters, buffers and submodules by the attributes they are assigned to."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..backend.arrays import ARRAY_MODULES, is_array
from ..backend.devices import Device, device_of, move, usable
from ..core.tape import RemovableHandle
from ..core.tensor import Tensor, is_parameter
from ..errors import Phrase, error
from .hooks import Hooks
from .uninitialized import is_lazy

PARAMETERS, BUFFERS, MODULES = "parameter", "buffer", "module"


class IncompatibleKeys(NamedTuple):
    """What ``load_state_dict`` did not use: keys the model lacks values for, and keys it does not know."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class Module:
    """Base of every layer and model (``torch.nn.Module``). Subclasses call ``super().__init__()`` and define ``forward``.

    Everything is kept as an ordinary attribute; ``_roles`` says which of them are parameters, buffers and submodules, in the
    order of their registration.

    >>> import tinygrad_ja as tg
    >>> class Affine(tg.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.scale = tg.nn.Parameter(tg.ones(2))
    ...     def forward(self, x):
    ...         return x * self.scale
    >>> model = Affine()
    >>> [name for name, _ in model.named_parameters()]
    ['scale']
    >>> model(tg.tensor([3.0, 4.0])).tolist()
    [3.0, 4.0]
    """

    training: bool = True
    _roles: dict[str, str]
    _transient: set[str]
    _hooks: Hooks | None = None

    def __init__(self) -> None:
        self.__dict__.update(training=True, _roles={}, _transient=set())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._hooks is None:
            return self.forward(*args, **kwargs)
        return self._hooks.call(self, args, kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation of this module; every subclass defines it."""
        raise error("TG-U013", model=type(self).__name__)

    # -- registration

    def __setattr__(self, name: str, value: Any) -> None:
        roles = self.__dict__.get("_roles")
        role = _role_of(value)
        if roles is None:
            if role is not None:
                raise error("TG-U011", model=type(self).__name__, name=name)
        elif role is not None:
            self._register(role, name, value)
            return
        elif name in roles:
            self._check_replacement(roles[name], name, value)
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        # runs only when the ordinary look-up has failed
        kind = type(self).__name__
        if "_roles" not in self.__dict__ and name in ("_roles", "_transient"):
            raise error("TG-U011", model=kind, name=name)
        known = [key for key in self.__dict__ if not key.startswith("_")] if not name.startswith("__") else []
        close = difflib.get_close_matches(name, known, 1)
        hint = close[0] if close else ", ".join(known) or "-"
        raise error("TG-U010", model=kind, name=name, hint=hint)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self.__dict__.get("_roles", {}).pop(name, None)
        self.__dict__.get("_transient", set()).discard(name)

    def _register(self, role: str, name: str, value: Any) -> None:
        if self._roles.get(name) != role:
            self._roles.pop(name, None)
            self._transient.discard(name)
            self._roles[name] = role
        self.__dict__[name] = value

    def _check_replacement(self, role: str, name: str, value: Any) -> None:
        """A registered name takes its own kind or None; a buffer takes any Tensor."""
        if value is None or (role == BUFFERS and isinstance(value, Tensor)):
            return
        by_role: dict[str, tuple[Phrase, Phrase]] = {
            PARAMETERS: (
                ("a Parameter or None", "Parameter か None"),
                (
                    f"self.{name} = nn.Parameter(value); to change the values: with tg.no_grad(): self.{name}.copy_(value)",
                    f"self.{name} = nn.Parameter(value)。値だけを変えるなら with tg.no_grad(): self.{name}.copy_(value)",
                ),
            ),
            BUFFERS: (("a Tensor or None", "Tensor か None"), f"self.{name} = tg.tensor(value)"),
            MODULES: (
                ("a Module or None", "Module か None"),
                (f"del self.{name} first", f"先に del self.{name} を実行してください。"),
            ),
        }
        needed, fix = by_role[role]
        raise error(
            "TG-U012", model=type(self).__name__, name=name, role=role, type=type(value).__name__, needed=needed, fix=fix
        )

    def _check_name(self, operation: str, role: str, name: str) -> None:
        if "_roles" not in self.__dict__:
            raise error("TG-U011", model=type(self).__name__, name=name)
        rule: Phrase = ""
        if not isinstance(name, str) or not name or "." in name:
            rule = ("a name is a non-empty string without a dot", "名前は空でなく、ドットを含まない文字列です")
        elif (name in self.__dict__ or hasattr(type(self), name)) and self._roles.get(name) != role:
            rule = ("no other attribute has this name", "同じ名前の属性がほかにないこと")
        if rule:
            raise error(
                "TG-A001",
                op=operation,
                argument="name",
                value=repr(name),
                rule=rule,
                fix=("choose another name.", "別の名前を選んでください。"),
            )

    def register_parameter(self, name: str, param: Tensor | None) -> None:
        """Register a Parameter, or None for one that this module does without."""
        self._check_name("register_parameter", PARAMETERS, name)
        if param is not None and not is_parameter(param):
            raise error("TG-T002", op="register_parameter", argument="param", type=f"{type(param).__name__}, no Parameter")
        self._register(PARAMETERS, name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register a Tensor that is state but no parameter, such as a running mean. One that is not ``persistent`` stays out of
        ``state_dict``."""
        self._check_name("register_buffer", BUFFERS, name)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise error("TG-T002", op="register_buffer", argument="tensor", type=type(tensor).__name__)
        self._register(BUFFERS, name, tensor)
        (self._transient.discard if persistent else self._transient.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Register a submodule under ``name``."""
        self._check_name("add_module", MODULES, name)
        if module is not None and not isinstance(module, Module):
            raise error("TG-T007", op=type(self).__name__, type=type(module).__name__)
        self._register(MODULES, name, module)

    register_module = add_module

    # -- looking at it

    def _own(self, role: str) -> list[tuple[str, Any]]:
        return [(name, self.__dict__[name]) for name, kind in self._roles.items() if kind == role]

    @property
    def _parameters(self) -> dict[str, Tensor | None]:
        return dict(self._own(PARAMETERS))

    @property
    def _buffers(self) -> dict[str, Tensor | None]:
        return dict(self._own(BUFFERS))

    @property
    def _modules(self) -> dict[str, Module | None]:
        return dict(self._own(MODULES))

    def named_modules(
        self, memo: set[int] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """``(name, module)`` of this module and all below it; the own name is ``prefix``, a shared one comes once."""
        memo = set() if memo is None else memo
        if id(self) in memo:
            return
        if remove_duplicate:
            memo.add(id(self))
        yield prefix, self
        for name, module in self._own(MODULES):
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """``(name, module)`` of the direct submodules."""
        memo: set[int] = set()
        for name, module in self._own(MODULES):
            if module is not None and id(module) not in memo:
                memo.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct submodules."""
        return (module for _, module in self.named_children())

    def _named(self, role: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[tuple[str, Tensor]]:
        memo: set[int] = set()
        modules = self.named_modules(None, prefix, remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, value in module._own(role):
                if value is None or id(value) in memo:
                    continue
                if remove_duplicate:
                    memo.add(id(value))
                yield f"{path}.{name}" if path else name, value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """``(name, parameter)`` of this module and all below it; a shared one comes once."""
        return self._named(PARAMETERS, prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Tensor]:
        """The parameters of this module and all below it."""
        return (value for _, value in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """``(name, buffer)`` of this module and all below it."""
        return self._named(BUFFERS, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers of this module and all below it."""
        return (value for _, value in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The submodule of that dotted name; ``""`` is this module."""
        module: Any = self
        for name in target.split(".") if target else ():
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise error("TG-U014", target=target, role=MODULES, name=name)
        return module

    def get_parameter(self, target: str) -> Tensor:
        """The parameter of that dotted name."""
        return self._get(PARAMETERS, target)

    def get_buffer(self, target: str) -> Tensor:
        """The buffer of that dotted name."""
        return self._get(BUFFERS, target)

    def _get(self, role: str, target: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        value = getattr(module, name)
        if module._roles.get(name) != role:
            raise error("TG-U014", target=target, role=role, name=name)
        return value

    def extra_repr(self) -> str:
        """What ``repr`` shows between the brackets: the settings of this module."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): {_indent(repr(module))}" for name, module in self._own(MODULES)]
        if len(lines) == 1 and not children:
            return f"{type(self).__name__}({extra})"
        body = "".join(f"\n  {line}" for line in lines + children)
        return f"{type(self).__name__}({body}\n)" if body else f"{type(self).__name__}()"

    # -- changing all of it

    def apply(self, fn: Callable[[Module], Any]) -> Any:
        """Call ``fn`` with every submodule, children first, and with this module. Returns itself."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Any:
        """Switch this module and all below it to training (or, with False, to evaluation). Returns itself."""
        for module in self.modules():
            module.__dict__["training"] = bool(mode)
        return self

    def eval(self) -> Any:
        """``train(False)``. Returns itself."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Make all parameters want gradients, or freeze them. Returns itself."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or fill them with zeros."""
        for p in self.parameters():
            if set_to_none or p.grad is None:
                p.grad = None
            else:
                p.grad = Tensor(ARRAY_MODULES[type(p.array)].zeros_like(p.array))

    def to(self, *args: Any, device: Any = None, dtype: Any = None, non_blocking: bool = False) -> Any:
        """Move parameters, buffers and gradients to a device and cast the floating ones to a dtype; ``to(device)``, ``to(dtype)``,
        ``to(device, dtype)`` or ``to(other_tensor)``. The Parameter objects stay the same. Returns itself.

        Raises DtypeError for a dtype that is not floating, DeviceError for a device that cannot be used.
        """
        for value in args:
            if type(value) is Tensor:
                device, dtype = value.device, value.dtype
            elif isinstance(value, (str, Device)) and not _names_dtype(value):
                device = value
            elif value is not None and not isinstance(value, bool):
                dtype = value
        place = None if device is None else usable(Device(device))
        if dtype is not None:
            dtype = np.dtype(dtype)
            if dtype.kind != "f":
                raise error(
                    "TG-T004", op="Module.to", dtype=dtype, allowed=("a floating dtype", "浮動小数点の dtype"), fix="tg.float32"
                )
        return self._apply(lambda array: _converted(array, place, dtype))

    def _apply(self, convert: Callable[[Any], Any]) -> Any:
        """Give every parameter, gradient and buffer the array that ``convert`` makes of it."""
        for value in [*self.parameters(), *self.buffers()]:
            value.array = convert(value.array)
            value._note_change()
            if value.grad is not None:
                value.grad = Tensor(convert(value.grad.array))
        return self

    def float(self) -> Any:
        """``to(float32)``."""
        return self.to(dtype=np.float32)

    def double(self) -> Any:
        """``to(float64)``."""
        return self.to(dtype=np.float64)

    def half(self) -> Any:
        """``to(float16)``."""
        return self.to(dtype=np.float16)

    def cpu(self) -> Any:
        """``to("cpu")``."""
        return self.to(device="cpu")

    def cuda(self, device: int | str | Device | None = None) -> Any:
        """``to("cuda")``, or the GPU of that number."""
        return self.to(device=f"cuda:{device}" if isinstance(device, int) else device or "cuda")

    # -- state

    def state_dict(self, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """Parameters and persistent buffers by their dotted names, detached. They share memory with the model: copy what is to
        stay as it is (``copy.deepcopy``)."""
        made: dict[str, Tensor] = {} if destination is None else destination
        for name, value in self._entries(prefix):
            made[name] = value if keep_vars else value.detach()
        return made

    def _entries(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Names and values of what ``state_dict`` holds, a shared value under each of its names."""
        for role in (PARAMETERS, BUFFERS):
            for name, value in self._own(role):
                if value is not None and name not in self._transient:
                    yield prefix + name, value
        for name, module in self._own(MODULES):
            if module is not None:
                yield from module._entries(f"{prefix}{name}.")

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy values into the parameters and buffers of this model, cast and moved as these need.

        state_dict: what ``state_dict()`` of such a model gave; the values are Tensors or arrays of the same shapes.
        strict: every key must be there and no other; otherwise those that fit are loaded. Shapes must agree in any case.
        Raises StateError that lists every missing and unexpected key and every shape that differs; then nothing has changed.
        """
        own = dict(self._entries())
        missing = [key for key in own if key not in state_dict]
        unexpected = [key for key in state_dict if key not in own]
        shared = [key for key in own if key in state_dict and not (is_lazy(own[key]) and is_lazy(state_dict[key]))]
        found = {key: _array_of(state_dict[key]) for key in shared}
        differing = [
            f"{key}: {_shape(state_dict[key], value)} in the state_dict, {own[key].array.shape} in the model"
            for key, value in found.items()
            if value is None or not (is_lazy(own[key]) or value.shape == own[key].array.shape)
        ]
        if differing or (strict and (missing or unexpected)):
            raise error(
                "TG-F001",
                model=type(self).__name__,
                missing=", ".join(missing) or "-",
                unexpected=", ".join(unexpected) or "-",
                shapes="; ".join(differing) or "-",
            )
        for key, value in found.items():
            if is_lazy(own[key]):
                own[key].materialize(value.shape)  # type: ignore[attr-defined]
            _copy_into(own[key], value)
        return IncompatibleKeys(missing, unexpected)

    # -- hooks

    def _own_hooks(self) -> Hooks:
        if self._hooks is None:
            self.__dict__["_hooks"] = Hooks()
        return self.__dict__["_hooks"]

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """``hook(module, args)`` runs before ``forward``; what it returns, unless None, replaces the arguments. With ``with_kwargs``:
        ``hook(module, args, kwargs)``, returning ``(args, kwargs)``."""
        return self._own_hooks().add("before", hook, prepend, with_kwargs)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """``hook(module, args, output)`` runs after ``forward``; what it returns, unless None, replaces the output. With
        ``with_kwargs``: ``hook(module, args, kwargs, output)``."""
        return self._own_hooks().add("after", hook, prepend, with_kwargs)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """``hook(module, grad_input, grad_output)`` runs when the gradients of the module's inputs are known; what it returns, unless
        None, replaces ``grad_input``. Both are tuples, None where an argument takes no gradient."""
        return self._own_hooks().add("backward", hook, prepend, False)


def _role_of(value: Any) -> str | None:
    """What assigning ``value`` to an attribute registers it as."""
    if isinstance(value, Module):
        return MODULES
    return PARAMETERS if is_parameter(value) else None


def _indent(text: str) -> str:
    return text.replace("\n", "\n  ")


def _names_dtype(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("float", "double", "half"))


def _converted(array: Any, place: Device | None, dtype: np.dtype | None) -> Any:
    if dtype is not None and array.dtype.kind == "f" and array.dtype != dtype:
        array = array.astype(dtype)
    return array if place is None else move(array, place)


def _array_of(value: Any) -> Any:
    array = value.array if type(value) is Tensor else value
    return array if is_array(array) else None


def _shape(value: Any, array: Any) -> str:
    return f"a {type(value).__name__}" if array is None else str(tuple(array.shape))


def _copy_into(target: Tensor, value: Any) -> None:
    array = move(value, device_of(target.array))
    if is_parameter(target):
        target.array[...] = array
        target._note_change()
    else:  # a buffer may be saved on a tape as a constant, so it gets an array of its own
        target.array = array.astype(target.array.dtype, copy=True)
