"""Writes the Python source of each operator's public function and backward, once, when it is first needed.

This is what ``dataclasses`` does: the code that runs has exactly the branches its operator needs, and the names of a derivative's
parameters become plain local variables. ``source_of(tg.tanh)`` shows what was written.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

from ..backend.arrays import ARRAY_MODULES, BY_TYPE, as_array
from .modes import modes
from .names import names_of
from .tape import Output, Outputs
from .tensor import Tensor

if TYPE_CHECKING:
    from .operator import Operator


def source_of(function: Any) -> str:
    """The source that was written for an operator's public function.

    >>> import tinygrad_ja as tg
    >>> print(source_of(tg.tanh).splitlines()[0])
    def tanh(input):
    """
    return function.build().source


def build_front(operator: Operator) -> Any:
    """The public function of an operator."""
    from . import promotion
    from .explain import explain

    space: dict[str, Any] = {
        "Tensor": Tensor,
        "_modes": modes,
        "_op": operator,
        "_kernels": operator.kernels,
        "_explain": explain,
        "_as_array": as_array,
        "_promote": promotion.promote,
        "_operand": promotion.operand,
        "_coerce": promotion.coerce,
        "_autocast": promotion.autocast,
        "_mixed": promotion.mixed_dtypes,
        "_outputs": record_outputs,
    }
    for parameter in operator.parameters:
        if parameter.default is not parameter.empty:
            space[f"_default_{parameter.name}"] = parameter.default

    def build() -> Any:
        """Write the source, and give the function its real code in place of the stub's."""
        source = _variadic_source(operator) if operator.variadic else _source(operator)
        made: dict[str, Any] = {}
        exec(compile(source, f"<operator {operator.name}>", "exec"), space, made)
        real = made[operator.name]
        front.__code__, front.__defaults__, front.__kwdefaults__ = real.__code__, real.__defaults__, real.__kwdefaults__
        front.source = source
        return front

    space["_build"] = build
    front: Any = FunctionType(_first_call.__code__, space, operator.name)
    front.__doc__ = operator.forward.__doc__
    front.__module__ = operator.forward.__module__
    front.__qualname__ = operator.name
    front.__signature__ = inspect.Signature(operator.parameters)
    front.operator = operator
    front.build = build
    return front


def _first_call(*args: Any, **kwargs: Any) -> Any:
    """Code of every operator until its first call: most programs use few of them, and ``import`` stays fast."""
    return _build()(*args, **kwargs)  # type: ignore[name-defined]  # noqa: F821


def build_backward(operator: Operator, derivatives: Sequence[Any], joint: bool) -> Any:
    """``backward(saved, parents, g)``: the gradients of all inputs by ``derivatives``, one of each input or (``joint``) one of all. Works on
    arrays and, for a recorded derivative, on Tensors."""
    if not derivatives or (joint and derivatives[0] is None):
        return None
    space: dict[str, Any] = {"_modules": ARRAY_MODULES}
    lines = ["def backward(saved, parents, g):"]
    saved = ", ".join(f"_{name}" for name in operator.saves)
    if saved:
        lines.append(f"    {saved}{',' if len(operator.saves) == 1 else ''} = saved")

    def call(index: int, derivative: Any) -> str:
        space[f"_vjp{index}"] = derivative
        special = {
            "g": "g",
            "shape": f"parents[{index}].shape",
            "needs": "tuple([p is not None for p in parents])",
            "xp": "_modules[type(g[0] if type(g) is tuple else g)]",
        }
        return f"_vjp{index}({', '.join(special.get(name, '_' + name) for name in names_of(derivative))})"

    if joint:
        lines.append(f"    return {call(0, derivatives[0])}")
    elif len(derivatives) == 1:
        lines.append(f"    return ({call(0, derivatives[0])},)")
    else:
        parts = [
            "None" if derivative is None else f"None if parents[{i}] is None else {call(i, derivative)}"
            for i, derivative in enumerate(derivatives)
        ]
        lines.append(f"    return ({', '.join(parts)})")
    made: dict[str, Any] = {}
    exec(compile("\n".join(lines), f"<backward of {operator.name}>", "exec"), space, made)
    return made["backward"]


def _source(operator: Operator) -> str:
    inputs = operator.inputs
    lines = [f"def {operator.name}({_signature(operator)}):"]
    lines += [f"    if type({name}) is Tensor: {name} = {name}.array" for name in operator.array_constants]
    raw = _call(operator, {})
    raw += "[0]" if operator.aux else ""
    lines += _under_autocast(operator, f"({_tuple(inputs)})")
    if operator.kind == "elementwise" and len(inputs) == 2 and not operator.optional:
        lines += _unwrap_pair(operator, raw)
    elif len(inputs) == 1:
        lines += _unwrap_one(operator, raw)
    else:
        lines += _unwrap_many(operator, raw)
    arrays = {name: f"_a_{name}" for name in inputs}
    target = "_ys" if operator.several else "_y"
    target = ", ".join([target, *(f"_aux_{name}" for name in operator.aux)])
    lines += [
        "    try:",
        f"        {target} = {_call(operator, arrays)}",
        "    except Exception as _failure:",
        f"        return _explain(_op, _failure, ({_tuple(inputs)}), {_constants(operator)})",
    ]
    differentiable = bool(operator.derivatives)
    if operator.promotes and differentiable and not operator.several:
        lines.append(f"    if _y.dtype is not _t.dtype: return _promote(_op, ({_tuple(inputs)}), {_constants(operator)}, _y)")
    nodes = _tuple([f"_n_{name}" for name in inputs])
    if operator.several:
        lines.append(f"    return _outputs(_op, _ys, ({nodes}), ({_tuple(_saved(operator))}))")
        return "\n".join(lines)
    lines.append("    if type(_y) is not type(_t): _y = _as_array(_y)")
    if not differentiable:
        lines.append("    return Tensor(_y)")
        return "\n".join(lines)
    lines += [
        f"    if {' and '.join(f'_n_{name} is None' for name in inputs)}: return Tensor(_y)",
        "    _record = _modes.record",
        "    if _record is None: return Tensor(_y)",
        f"    return Tensor(_y, _record(_op, ({nodes}), ({_tuple(_saved(operator))}), _y))",
    ]
    return "\n".join(lines)


def _under_autocast(operator: Operator, inputs: str) -> list[str]:
    if not operator.autocast:
        return []
    return [f"    if _modes.autocast is not None: return _autocast(_op, {inputs}, {_constants(operator)})"]


def _unwrap_one(operator: Operator, raw: str) -> list[str]:
    (name,) = operator.inputs
    return [
        f"    if type({name}) is not Tensor: return {raw}",
        f"    _n_{name} = {name}.node",
        f"    _a_{name} = _t = {name}.array",
    ]


def _unwrap_pair(operator: Operator, raw: str) -> list[str]:
    a, b = operator.inputs
    scalar = "{0} if type({0}) is float or type({0}) is int else _operand(_op, {0}, '{0}', _t)"
    return [
        f"    if type({a}) is Tensor:",
        f"        _n_{a} = {a}.node",
        f"        _a_{a} = _t = {a}.array",
        f"        if type({b}) is Tensor:",
        f"            _n_{b} = {b}.node",
        f"            _a_{b} = {b}.array",
        f"            if _t.dtype is not _a_{b}.dtype: return _promote(_op, ({a}, {b}), {_constants(operator)})",
        "        else:",
        f"            _n_{b} = None",
        f"            _a_{b} = {scalar.format(b)}",
        f"    elif type({b}) is Tensor:",
        f"        _n_{a} = None",
        f"        _n_{b} = {b}.node",
        f"        _a_{b} = _t = {b}.array",
        f"        _a_{a} = {scalar.format(a)}",
        "    else:",
        f"        return {raw}",
    ]


def _unwrap_many(operator: Operator, raw: str) -> list[str]:
    inputs = operator.inputs
    lines = ["    _raw = True"]
    for name in inputs:
        lines += [
            f"    if type({name}) is Tensor: _n_{name} = {name}.node; _a_{name} = {name}.array; _raw = False",
            f"    else: _n_{name} = None; _a_{name} = {name}",
        ]
    lines.append(f"    if _raw: return {raw}")
    first = inputs[0]
    if operator.kind == "elementwise":
        lines += [
            f"    _t, _same = _mixed(_op, ({_tuple([f'_a_{name}' for name in inputs])}))",
            f"    if not _same: return _promote(_op, ({_tuple(inputs)}), {_constants(operator)})",
        ]
        return lines
    lines.append(f"    _t = _a_{first}")
    for name in inputs[1:]:
        guard = f"_a_{name} is not None and " if name in operator.optional else ""
        lines += [
            f"    if {guard}type(_a_{name}) is not type(_t): _a_{name} = _coerce(_op, _a_{name}, '{name}', _t)",
            f"    if {guard}_a_{name}.dtype is not _t.dtype: return _promote(_op, ({_tuple(inputs)}), {_constants(operator)})",
        ]
    return lines


def _variadic_source(operator: Operator) -> str:
    """Any number of inputs: ``*tensors``. The inputs are one tuple everywhere."""
    name = operator.variadic
    target = ", ".join(["_ys" if operator.several else "_y", *(f"_aux_{extra}" for extra in operator.aux)])
    arrays = _call(operator, {})
    raw = arrays + ("[0]" if operator.aux else "")
    lines = [
        f"def {operator.name}({_signature(operator)}):",
        f"    if Tensor not in [type(_x) for _x in {name}]: return {raw}",
        *_under_autocast(operator, str(name)),
        f"    _given = {name}",
        f"    _nodes = tuple([_x.node if type(_x) is Tensor else None for _x in {name}])",
        f"    _a_{name} = {name} = tuple([_x.array if type(_x) is Tensor else _x for _x in {name}])",
        f"    _t, _same = _mixed(_op, {name})",
        f"    if not _same: return _promote(_op, _given, {_constants(operator)})",
        "    try:",
        f"        {target} = {arrays}",
        "    except Exception as _failure:",
        f"        return _explain(_op, _failure, _given, {_constants(operator)})",
    ]
    saved = f"({_tuple(_saved(operator))})"
    if operator.several:
        lines.append(f"    return _outputs(_op, _ys, _nodes, {saved})")
    else:
        lines += [
            "    if type(_y) is not type(_t): _y = _as_array(_y)",
            "    _record = _modes.record",
            "    if _record is None or not any([_n is not None for _n in _nodes]): return Tensor(_y)",
            f"    return Tensor(_y, _record(_op, _nodes, {saved}, _y))",
        ]
    return "\n".join(lines)


def _signature(operator: Operator) -> str:
    parts, star = [], False
    for p in operator.parameters:
        if p.kind is p.VAR_POSITIONAL:
            parts.append("*" + p.name)
            star = True
            continue
        if p.kind is p.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        parts.append(p.name if p.default is p.empty else f"{p.name}=_default_{p.name}")
    return ", ".join(parts)


def _call(operator: Operator, rename: dict[str, str]) -> str:
    parts = []
    for p in operator.parameters:
        value = rename.get(p.name, p.name)
        if p.kind is p.VAR_POSITIONAL:
            parts.append("*" + value)
        else:
            parts.append(f"{p.name}={value}" if p.kind is p.KEYWORD_ONLY else value)
    first = operator.inputs[0]
    kind = f"type({rename.get(first, first)}{'[0]' if operator.variadic else ''})"
    return f"_kernels[{kind}]({', '.join(parts)})"


def _constants(operator: Operator) -> str:
    return "{" + ", ".join(f"'{name}': {name}" for name in operator.constants) + "}"


def _tuple(names: list[str]) -> str:
    return ", ".join(names) + ("," if len(names) == 1 else "")


def _saved(operator: Operator) -> list[str]:
    """Expression of each saved value: an array only while some input whose derivative asks for it needs a gradient."""
    made = []
    for name in operator.saves:
        variable = "_y" if name == "y" else f"_aux_{name}" if name in operator.aux else f"_a_{name}"
        if name in operator.constants:
            made.append(name)
        elif operator.joint or len(operator.inputs) == 1:
            made.append(variable)
        else:
            users = [x for x, d in zip(operator.inputs, operator.derivatives) if name in names_of(d)]
            needed = " or ".join(f"_n_{user} is not None" for user in users)
            made.append(variable if len(users) == len(operator.inputs) else f"({variable} if {needed} else None)")
    return made


def record_outputs(operator: Operator, ys: Any, parents: tuple[Any, ...], saved: tuple[Any, ...]) -> tuple[Any, ...]:
    """Tensors for the outputs of an operator that has several; integer outputs have no gradient."""
    ys = [y if type(y) in BY_TYPE else as_array(y) for y in ys]
    record = modes.record
    for parent in parents:
        if parent is not None:
            break
    else:
        record = None
    if record is None:
        return tuple([Tensor(y) for y in ys])
    node = record(operator, parents, saved, Outputs(ys))
    return tuple([Tensor(y, Output(node, i, y)) if y.dtype.kind == "f" else Tensor(y) for i, y in enumerate(ys)])
