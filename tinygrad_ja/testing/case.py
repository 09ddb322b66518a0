"""One call of an operator as a test sees it: which arrays are differentiated, and how to call it again with others."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..core.operator import Operator
from ..errors import error
from .pick import Pick, Shape


class Case:
    """Arguments of one call of ``operator``.

    ``inputs`` are the values of its inputs in order (None where an optional one is left out, a Python number where one is
    given); ``constants`` the values of all other parameters by name.
    """

    def __init__(self, operator: Operator, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.operator = operator
        bound = inspect.signature(operator.public).bind(*args, **kwargs)
        bound.apply_defaults()
        values = {name: _as_array(value) for name, value in bound.arguments.items()}
        if operator.variadic:
            self.inputs = [_as_array(value) for value in values[operator.variadic]]
        else:
            self.inputs = [values[name] for name in operator.inputs]
        self.constants = {name: _map_arrays(np.array, values[name]) for name in operator.constants}

    def call(self, function: Callable[..., Any], inputs: Sequence[Any], constants: Mapping[str, Any] | None = None) -> Any:
        """``function``, which has the operator's signature, of these inputs."""
        constants = self.constants if constants is None else constants
        return self.operator.call(function, inputs, constants)

    def outputs(self, inputs: Sequence[Any], constants: Mapping[str, Any] | None = None) -> list[Any]:
        """What the operator's public function returns, always as a list."""
        made = self.call(self.operator.public, inputs, constants)
        return list(made) if self.operator.several else [made]

    def convert(self, function: Callable[[np.ndarray], Any]) -> tuple[list[Any], dict[str, Any]]:
        """Inputs and constants with every array in them replaced by ``function`` of it."""
        constants = {name: _map_arrays(function, value) for name, value in self.constants.items()}
        return [_map_arrays(function, x) for x in self.inputs], constants

    @property
    def differentiable(self) -> list[int]:
        """Indices of the inputs that have a derivative here: floating arrays whose derivative is defined."""
        operator = self.operator
        if not any(derivative is not None for derivative in operator.derivatives) and operator.kind != "fused":
            return []
        defined = [operator.joint or operator.variadic or d is not None for d in operator.derivatives]
        floating = [i for i, x in enumerate(self.inputs) if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
        return [i for i in floating if operator.joint or defined[i]]

    def __str__(self) -> str:
        shapes = [f"{self.operator.input_name(i)} {_describe(x)}" for i, x in enumerate(self.inputs)]
        shapes += [f"{name}={_describe(value)}" for name, value in self.constants.items()]
        return f"{self.operator.name}({', '.join(shapes)})"


def draw_case(operator: Operator, pick: Pick) -> Case:
    """A case as the operator's metadata describes it: ``cases=``, else ``signature=``, else (element-wise) ``domain=``.

    Raises RegistrationError when there is nothing to draw from.
    """
    if operator.cases is not None:
        args, kwargs = operator.cases(pick)
        return Case(operator, args, kwargs)
    needed = [p.name for p in operator.parameters if p.name not in operator.inputs and p.default is p.empty]
    if needed:
        raise _not_drawable(operator, f"nothing says how to draw {', '.join(needed)}")
    count = pick.integer(1, 4) if operator.variadic else len(operator.inputs)
    if operator.signature is not None:
        shapes = gufunc_shapes(operator.signature, pick, batched=operator.broadcasts)
    elif operator.kind == "elementwise":
        shapes = pick.broadcastable(count)
    else:
        raise _not_drawable(operator, "nothing says which shapes it takes")
    domains = operator.domain if isinstance(operator.domain, list) else [operator.domain] * len(shapes)
    arrays = [_draw_array(operator, pick, shape, *domain) for shape, domain in zip(shapes, domains)]
    return Case(operator, arrays, {})


def _not_drawable(operator: Operator, reason: str) -> Exception:
    fix = "pass cases=lambda pick: ((arrays and arguments...), {keywords}), or signature= for shapes"
    return error("TG-R002", op=operator.name, reason=f"{reason} for its tests", fix=fix)


def _draw_array(operator: Operator, pick: Pick, shape: Shape, low: float, high: float) -> np.ndarray:
    if operator.integer:
        return np.asarray(pick.rng.integers(int(low), int(high), shape, endpoint=True))
    return pick.array(shape, low, high)


def gufunc_shapes(signature: str, pick: Pick, batched: bool = False) -> list[Shape]:
    """Shapes of inputs for a signature such as ``"(n,k),(k,m)->(n,m)"``; ``k?`` may be missing, digits are fixed sizes. With
    ``batched``, axes that broadcast come before."""
    cores = re.findall(r"\(([^)]*)\)", signature.partition("->")[0])
    sizes: dict[str, int | None] = {}
    for name in re.findall(r"[^\s,()]+", signature.partition("->")[0]):
        if name in sizes:
            continue
        missing = name.endswith("?") and pick.boolean()
        sizes[name] = None if missing else int(name) if name.isdigit() else pick.integer(1, 4)
    shapes = []
    batches = pick.broadcastable(len(cores)) if batched else [()] * len(cores)
    for core, batch in zip(cores, batches):
        found = [sizes[name.strip()] for name in core.split(",") if name.strip()]
        shapes.append(tuple(batch) + tuple([side for side in found if side is not None]))
    return shapes


# ---- memory layouts ------------------------------------------------------------------------------


def fortran(x: np.ndarray) -> np.ndarray:
    """The same values, first axis fastest."""
    return np.array(x, order="F")


def transposed(x: np.ndarray) -> np.ndarray:
    """The same values as the transpose of a C-ordered array, with an offset."""
    base = np.empty((x.size + 1,), x.dtype)
    view = base[1:].reshape(x.shape[::-1]).T
    view[...] = x
    return view


def strided(x: np.ndarray) -> np.ndarray:
    """The same values as every second element of a larger array."""
    base = np.zeros(tuple([2 * side + 1 for side in x.shape]), x.dtype)
    step: tuple[Any, ...] = (..., *[slice(0, 2 * side, 2) for side in x.shape])
    view = base[step]
    view[...] = x
    return view


def reversed_strides(x: np.ndarray) -> np.ndarray:
    """The same values with negative strides."""
    flip: tuple[Any, ...] = (..., *[slice(None, None, -1)] * x.ndim)
    return x[flip].copy()[flip]


def zero_strides(x: np.ndarray) -> np.ndarray:
    """The first row everywhere: a read-only view with stride 0 (``broadcast_to``). The only layout that changes values."""
    return x if x.ndim == 0 or x.size == 0 else np.broadcast_to(x[:1], x.shape)


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": lambda x: np.array(x, order="C"),
    "Fortran": fortran,
    "transposed": transposed,
    "strided": strided,
    "negative strides": reversed_strides,
    "zero strides": zero_strides,
}
"""Ways to lay an array out in memory."""


# ---- arrays inside of arguments ------------------------------------------------------------------


def _as_array(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, np.generic) else value


def _map_arrays(function: Callable[[np.ndarray], Any], value: Any) -> Any:
    """``value`` with every array in it, also inside of tuples and lists, replaced."""
    if isinstance(value, np.ndarray):
        return function(value)
    if type(value) in (tuple, list):
        return type(value)([_map_arrays(function, part) for part in value])
    return value


def arrays_in(value: Any) -> list[np.ndarray]:
    """Every array in an argument."""
    found: list[np.ndarray] = []
    _map_arrays(found.append, value)
    return found


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.shape} {value.dtype}"
    if type(value) in (tuple, list) and arrays_in(value):
        return f"({', '.join(map(_describe, value))})"
    return repr(value)
