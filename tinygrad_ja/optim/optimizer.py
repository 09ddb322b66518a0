"""``Optimizer``: parameter groups, state, and saving it. Subclasses say how one parameter changes."""

from __future__ import annotations

import copy
import functools
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES, BY_TYPE, is_array
from ..backend.devices import device_of, move
from ..backend.in_place import run_in_place
from ..core.modes import enable_grad, modes
from ..core.tensor import Tensor
from ..errors import Phrase, error, refusal

Params = Iterable[Any]
"""What an optimizer is made from: Tensors, pairs of name and Tensor, or dicts (groups)."""

ONE_PASS = 1 << 17
"""Elements of a parameter and its state from which on one pass of machine code is sought: finding and calling it costs some 20 µs."""


class Optimizer:
    """Base of the optimizers (``torch.optim.Optimizer``).

    params: an iterable of leaf Tensors, of ``(name, Tensor)`` pairs, or of dicts ``{"params": ..., "lr": ...}`` whose other entries
    replace ``defaults`` for that group.
    ``param_groups`` is the list of these dicts, complete; ``state`` holds what a parameter's rule remembers, by parameter.

    A subclass defines ``update(p, g, group, state)``, which changes the raw array ``p`` in place by the gradient ``g``. It must not
    change ``g``; ``self.scratch(p)`` lends an array of p's shape, and ``self.penalized`` sees to ``maximize`` and ``weight_decay``.
    Keywords by which PyTorch chooses between implementations (``foreach``, ``fused``, ``capturable``) are taken and change nothing.
    Raises ArgumentError for no parameters, for a Tensor that is no leaf, and for one that is in two places.
    """

    numbers: dict[str, Any] = {"step": int}  # noqa: RUF012 - never changed
    """Entries of the state that are numbers here and 0-d tensors in PyTorch's files."""

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.state: dict[Tensor, dict[str, Any]] = {}
        self.param_groups: list[dict[str, Any]] = []
        self.stepped = False  # schedules look whether they come after the first step
        self._scratch: dict[tuple[Any, ...], Any] = {}
        if isinstance(params, (Tensor, str, dict, set)) or not isinstance(params, Iterable):
            raise self._refusal(
                type(params).__name__,
                ("a list or iterator of Tensors or dicts", "Tensor または dict のリストかイテレータ"),
                ("pass model.parameters(), or [w].", "model.parameters() か [w] を渡してください。"),
            )
        groups = list(params)
        if not groups:
            raise self._refusal(
                ("empty", "(空)"),
                ("at least one parameter", "パラメータが 1 つ以上あること"),
                (
                    "call it after the layers are made; an iterator is used up once.",
                    "層を作った後に呼んでください (イテレータは 1 度しか使えません)。",
                ),
            )
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _refusal(self, value: Any, rule: Phrase, fix: Phrase) -> Exception:
        return refusal(type(self).__name__, "params", value, rule, fix)

    def _require(self, argument: str, value: Any, allowed: bool, rule: Phrase) -> None:
        """Refuse a hyper-parameter; subclasses call this in ``__init__``."""
        if not allowed:
            raise refusal(type(self).__name__, argument, value, rule)

    def _require_in_range(self, **settings: Any) -> None:
        """Refuse settings that are no numbers or negative, and betas outside of [0, 1)."""
        for argument, value in settings.items():
            if argument == "betas":
                pair = isinstance(value, (tuple, list)) and len(value) == 2
                allowed = pair and all(_is_number(beta) and 0 <= beta < 1 for beta in value)
                self._require(argument, value, allowed, ("two numbers, 0 <= beta < 1", "2 つの数、0 <= beta < 1"))
            else:
                allowed = _is_number(value) and bool(value >= 0)
                shown = repr(value) if isinstance(value, str) else value
                self._require(argument, shown, allowed, (f"a number, {argument} >= 0", f"数、{argument} >= 0"))

    def _take_implementation(self, choices: dict[str, Any]) -> None:
        """Check the keywords by which PyTorch chooses between implementations of one rule."""
        known = ("foreach", "fused", "capturable", "differentiable")
        for name, value in choices.items():
            self._require(name, value, name in known, ", ".join(known))
            self._require(name, value, not (name == "differentiable" and value), "differentiable=False")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take on more parameters, with settings of their own; what is not set comes from the defaults."""
        params = param_group.get("params") if isinstance(param_group, dict) else None
        if isinstance(params, (str, dict, set)) or not isinstance(params, Iterable):
            raise self._refusal(
                type(param_group if params is None else params).__name__,
                ("a group is a dict with a list of Tensors as 'params'", "グループは 'params' に Tensor のリストを持つ dict"),
                ('{"params": [w], "lr": 0.1}.', '{"params": [w], "lr": 0.1} の形で渡してください。'),
            )
        given = [params] if isinstance(params, Tensor) else list(params)
        names = [p[0] for p in given if isinstance(p, tuple)]
        if len(names) not in (0, len(given)):
            raise self._refusal(
                (f"{len(names)} names, {len(given)} parameters", f"名前 {len(names)} 個、パラメータ {len(given)} 個"),
                ("names for all or for none", "名前は全部につけるか、1 つもつけない"),
                ("pass model.named_parameters().", "model.named_parameters() を渡してください。"),
            )
        tensors = [p[1] if isinstance(p, tuple) else p for p in given]
        known = {id(p) for group in self.param_groups for p in group["params"]}
        for index, p in enumerate(tensors):
            if isinstance(p, Tensor) and type(p) is not Tensor:
                raise error("TG-U015", kind=type(self).__name__, name=f"params[{index}] ({p!r})")
            if type(p) is not Tensor:
                raise self._refusal(
                    (f"[{index}] is a {type(p).__name__}", f"[{index}] ({type(p).__name__})"),
                    ("Tensors", "Tensor であること"),
                    ("pass model.parameters().", "model.parameters() を渡してください。"),
                )
            if not p.is_leaf:
                made_by = p.node.name  # type: ignore[union-attr]
                raise self._refusal(
                    (f"[{index}] is a result of '{made_by}'", f"[{index}] ('{made_by}' の結果)"),
                    ("leaves", "葉のテンソルであること"),
                    ("pass the tensor it was made from.", "元のテンソルを渡してください。"),
                )
            if id(p) in known:
                raise self._refusal(
                    (f"[{index}] {tuple(p.shape)} twice", f"[{index}] {tuple(p.shape)} (2 回目)"),
                    ("each parameter once", "同じパラメータは 1 度だけ"),
                    ("leave the second one out.", "2 つ目を除いてください。"),
                )
            known.add(id(p))
        group = {**param_group, "params": tensors}
        if names:
            group["param_names"] = names
        for name, value in self.defaults.items():
            group.setdefault(name, value)
        self.param_groups.append(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or fill them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none or p.grad is None:
                    p.grad = None
                else:
                    p.grad = Tensor(ARRAY_MODULES[type(p.array)].zeros_like(p.array))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change every parameter that has a gradient, once.

        closure: computes the loss anew, with its gradients; its value is returned.
        """
        self.stepped = True
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        if modes.recording is not None:
            modes.recording.update(self)
            return loss
        for group in self.param_groups:
            for p in group["params"]:
                gradient = p.grad
                if gradient is None:
                    continue
                state = self.state.get(p)
                if state is None:
                    state = self.state[p] = {}
                elif state:
                    follow(p.array, state)
                self.update(p.array, gradient.array, group, state)
                p._note_change()
        return loss

    def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
        """Change the array ``p`` in place by its gradient ``g``."""
        raise NotImplementedError

    def in_one_pass(self, text: Callable[..., Any], g: Any, arrays: Sequence[Any], *numbers: float, decay: float = 0.0) -> bool:
        """Let large ``arrays``, the parameter and its state, be what ``text(xp, g + decay·p, *arrays, *numbers)`` returns, if there is machine
        code for it. The numbers differ from step to step, so they are given as arrays."""
        p = arrays[0]
        if type(p) is not np.ndarray or p.size * len(arrays) < ONE_PASS or g.dtype != p.dtype:
            return False
        if any([np.may_share_memory(g, array) for array in arrays]):
            return False
        if decay:
            text, numbers = _with_decay(text), (*numbers, decay)
        return run_in_place(text, [g, *arrays, *[np.array(number, p.dtype) for number in numbers]], arrays)

    def penalized(self, p: Any, g: Any, group: dict[str, Any], decay: float | None = None) -> Any:
        """The gradient to descend along: -g under ``maximize``, plus ``weight_decay``·p. Either ``g`` itself or the second scratch."""
        decay = group["weight_decay"] if decay is None else decay
        if not decay and not group["maximize"]:
            return g
        xp, made = ARRAY_MODULES[type(p)], self.scratch(p, 1)
        if not decay:
            return xp.negative(g, out=made)
        xp.multiply(p, decay, out=made)
        made += -g if group["maximize"] else g
        return made

    def scratch(self, p: Any, number: int = 0) -> Any:
        """An array like ``p`` to compute in, lent until the next parameter's turn; its values are arbitrary."""
        kind = type(p)
        if modes.recording is not None:
            return ARRAY_MODULES[kind].empty_like(p)
        key = (number, kind, BY_TYPE[kind].index_of(p), p.dtype.char, p.shape)
        buffer = self._scratch.get(key)
        if buffer is None:
            buffer = self._scratch[key] = ARRAY_MODULES[kind].empty_like(p)
        return buffer

    # -- saving

    def _numbers(self) -> dict[int, int]:
        """id of a parameter -> its index over all groups."""
        params = [p for group in self.param_groups for p in group["params"]]
        return {id(p): index for index, p in enumerate(params)}

    def state_dict(self) -> dict[str, Any]:
        """``{"state": {index: {...}}, "param_groups": [{..., "params": [indices]}]}``. Its Tensors share memory with the state."""
        number = self._numbers()
        groups = [{**group, "params": [number[id(p)] for p in group["params"]]} for group in self.param_groups]
        state = {number[id(p)]: _as_tensors(entries) for p, entries in self.state.items() if id(p) in number and entries}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over settings and state that ``state_dict`` gave; arrays are copied, cast and moved as the parameters need.

        Raises StateError when groups, numbers of parameters or shapes differ; then nothing has changed.
        """
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= set(state_dict):
            raise self._misfit(("it has no 'state' and 'param_groups'", "'state' と 'param_groups' がありません"))
        saved_groups, saved_state = state_dict["param_groups"], state_dict["state"]
        if not isinstance(saved_state, Mapping) or not all("params" in group for group in saved_groups):
            reason = (
                "'state' is no dict, or a group has no 'params'",
                "'state' が dict でないか、'params' のないグループがあります",
            )
            raise self._misfit(reason)
        sizes = [len(group["params"]) for group in self.param_groups]
        saved_sizes = [len(group["params"]) for group in saved_groups]
        if sizes != saved_sizes:
            raise self._misfit(
                (
                    f"parameters per group: {saved_sizes} in the state_dict, {sizes} in the optimizer",
                    f"グループごとのパラメータの数が state_dict では {saved_sizes}、optimizer では {sizes} です",
                )
            )
        params = [p for group in self.param_groups for p in group["params"]]
        owner = dict(zip([index for group in saved_groups for index in group["params"]], params))
        loaded = {}
        for index, entries in saved_state.items():
            if index not in owner:
                raise self._misfit(
                    (
                        f"there is state for index {index!r}, which is in no group",
                        f"どのグループにもない番号 {index!r} の状態があります",
                    )
                )
            loaded[owner[index]] = self._converted(index, owner[index], entries)
        for group, saved in zip(self.param_groups, saved_groups):
            group.update(copy.deepcopy({name: value for name, value in saved.items() if name != "params"}))
        self.state = loaded

    def _converted(self, index: Any, p: Tensor, entries: Mapping[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, value in entries.items():
            array = value.array if type(value) is Tensor else value
            if is_array(array) and array.ndim == 0 and name in self.numbers:
                made[name] = self.numbers[name](array)
            elif hasattr(array, "__dlpack__") and not is_array(array):
                kind = f"{type(array).__module__}.{type(array).__name__}"
                raise self._misfit(
                    (f"'{name}' of parameter {index} is a {kind}", f"パラメータ {index} の '{name}' が {kind} です"),
                    ("convert it with tg.tensor", "tg.tensor で変換してください。"),
                )
            elif not is_array(array):
                made[name] = array
            elif array.shape != self.state_shape(name, p.array.shape):
                shapes = f"{tuple(array.shape)} in the state_dict, {tuple(p.shape)} in the parameter"
                raise self._misfit(
                    (
                        f"the shape of '{name}' of parameter {index}: {shapes}",
                        f"パラメータ {index} の '{name}' の形状: {shapes}",
                    )
                )
            else:
                made[name] = move(array, device_of(p.array)).astype(p.dtype, copy=True)
        return made

    def state_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of an array of the state for a parameter of that shape: the same, unless a subclass knows better."""
        return shape

    def _misfit(self, reason: Phrase, fix: Phrase | None = None) -> Exception:
        fix = fix or (
            "build the optimizer over the same parameters, in the same groups, as when it was saved",
            "保存したときと同じパラメータを同じグループ分けで渡して optimizer を作ってください。",
        )
        return error("TG-F003", what=type(self).__name__, reason=reason, fix=fix)

    def __repr__(self) -> str:
        lines = []
        for index, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {index}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return f"{type(self).__name__} (\n" + "\n".join(lines) + "\n)"


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real)


def _as_tensors(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {name: Tensor(value) if is_array(value) else value for name, value in entries.items()}


def follow(p: Any, state: dict[str, Any]) -> None:
    """Bring the state to where the parameter is, after ``model.to(...)`` moved or cast that."""
    for name, value in state.items():
        if not is_array(value) or (type(value) is type(p) and value.dtype is p.dtype):
            continue
        state[name] = move(value, device_of(p)).astype(p.dtype, copy=False)


@functools.cache
def _with_decay(text: Callable[..., Any]) -> Callable[..., Any]:
    """The text for a gradient to which the parameter times the last number is added."""
    return lambda xp, g, p, *others: text(xp, p * others[-1] + g, p, *others[:-1])
