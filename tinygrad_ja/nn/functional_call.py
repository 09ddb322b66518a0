"""``functional_call``: a module as a function of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.tensor import Tensor
from ..errors import Phrase, error
from .module import Module

_DICTS = "parameter_and_buffer_dicts"


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: Mapping[str, Tensor] | tuple[Mapping[str, Tensor], ...],
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Call ``module`` with other tensors in place of its parameters and buffers; afterwards it has its own again (``torch.func``).

    parameter_and_buffer_dicts: name -> Tensor, with names as in ``named_parameters()``; or several such dicts. args: the module's arguments, a
    tuple, or one argument.
    tie_weights: a parameter that has several names is replaced under all of them. strict: every parameter and buffer must be given.
    Raises ArgumentError for a name that the module does not have, for one that is given twice, with ``strict`` also for one that is missing.

    >>> import tinygrad_ja as tg
    >>> layer = tg.nn.Linear(2, 1, bias=False)
    >>> loss = lambda w: tg.func.functional_call(layer, {"weight": w}, (tg.tensor([[1.0, 2.0]]),)).sum()
    >>> tg.func.jacrev(loss)(tg.tensor([[5.0, 5.0]]))
    tensor([[1., 2.]])
    """
    if not isinstance(module, Module):
        raise _refusal("module", type(module).__name__, ("a Module", "Module であること"))
    own = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    given = _one_dict(parameter_and_buffer_dicts)
    unknown = sorted(set(given) - set(own))
    if unknown:
        rule = ("the names of named_parameters() and named_buffers()", "named_parameters() と named_buffers() にある名前")
        raise _refusal(_DICTS, ", ".join(unknown), rule)
    if tie_weights:
        by_tensor: dict[int, Any] = {}
        for name, value in given.items():
            if by_tensor.setdefault(id(own[name]), value) is not value:
                rule = ("one tensor for the names of one parameter", "同じパラメータの名前には同じテンソル")
                raise _refusal(_DICTS, f"'{name}'", rule)
        given = {name: by_tensor[id(value)] for name, value in own.items() if id(value) in by_tensor}
    missing = sorted(set(own) - set(given))
    if strict and missing:
        rule = ("with strict every parameter and buffer is given", "strict ではすべてのパラメータとバッファを渡す")
        raise _refusal(_DICTS, (f"without {', '.join(missing)}", f"{', '.join(missing)} なし"), rule)
    places = []
    for name, value in given.items():
        path, _, attribute = name.rpartition(".")
        places.append((module.get_submodule(path).__dict__, attribute, value))
    before = [attributes[attribute] for attributes, attribute, _ in places]
    try:
        for attributes, attribute, value in places:
            attributes[attribute] = value
        return module(*(args if isinstance(args, tuple) else () if args is None else (args,)), **(kwargs or {}))
    finally:
        for (attributes, attribute, _), value in zip(places, before):
            attributes[attribute] = value


def _one_dict(dicts: Any) -> dict[str, Any]:
    """One dict or several as one."""
    parts = (dicts,) if isinstance(dicts, Mapping) else dicts
    if not isinstance(parts, (tuple, list)) or not all(isinstance(part, Mapping) for part in parts):
        rule = ("a dict of names and Tensors, or several", "名前と Tensor の dict、またはその並び")
        raise _refusal(_DICTS, type(dicts).__name__, rule)
    made: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            if name in made:
                raise _refusal(_DICTS, f"'{name}'", ("each name once", "同じ名前は 1 度だけ"))
            if not (value is None or isinstance(value, Tensor)):
                raise error("TG-T002", op="functional_call", argument=name, type=type(value).__name__)
            made[name] = value
    return made


def _refusal(argument: str, value: Any, rule: Phrase) -> Exception:
    fix = ("look at dict(module.named_parameters()).", "dict(module.named_parameters()) で名前を確かめてください。")
    return error("TG-A001", op="functional_call", argument=argument, value=value, rule=rule, fix=fix)
