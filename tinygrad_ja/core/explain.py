"""What follows a failure inside a kernel: an error that states the rule; or, where a recorder's array met a plain one, the operator again with
both recorded. Runs only after the failure, so success costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend.arrays import BY_TYPE
from ..errors import TinygradError, error, joined

if TYPE_CHECKING:
    from .operator import Operator


def explain(operator: Operator, failure: Exception, operands: Sequence[Any], constants: dict[str, Any]) -> Any:
    """Raise the error of the catalogue that fits ``failure``; the original stays as its cause. Where operands that a backend adopts
    were the reason, the result of the operator with them."""
    for backend in list(BY_TYPE.values()):
        adopted = backend.adopt and backend.adopt(operator, operands, constants)
        if adopted:
            return operator.run(*adopted)
    if getattr(failure, "code", "") == "TG-U016" and not any(_is_traced(x) for x in operands):
        return operator.run(operands, constants)  # another thread's recording held an operand, and has ended since
    if isinstance(failure, (TinygradError, MemoryError)):
        raise failure
    arrays = [a for a in (getattr(x, "array", x) for x in operands) if type(a) in BY_TYPE]
    raise _diagnose(operator, failure, arrays, constants) from failure


def _is_traced(x: Any) -> bool:
    backend = BY_TYPE.get(type(getattr(x, "array", x)))
    return backend is not None and backend.adopt is not None


def _diagnose(operator: Operator, failure: Exception, arrays: Sequence[Any], constants: dict[str, Any]) -> Exception:
    from .promotion import mixed_devices

    if len({type(a) for a in arrays}) > 1:
        return mixed_devices(operator, arrays)
    shapes = joined([tuple(a.shape) for a in arrays])
    if operator.broadcasts and not operator.signature and not _broadcast(arrays):
        return error("TG-S001", op=operator.name, shapes=shapes)
    if isinstance(failure, np.exceptions.AxisError):
        dim = next((constants[name] for name in ("dim", "dims", "axes") if name in constants), "?")
        ndim = arrays[0].ndim
        return error("TG-I001", op=operator.name, dim=dim, shape=tuple(arrays[0].shape), ndim=max(ndim, 1))
    if isinstance(failure, ValueError) and operator.signature:
        return error(
            "TG-S002",
            op=operator.name,
            rule=operator.signature,
            shapes=shapes,
            fix=("transpose or reshape one of them.", "どれかを転置するか reshape してください。"),
        )
    described = ", ".join(f"{tuple(a.shape)} {a.dtype}" for a in arrays)
    described += "".join(f", {name}={value!r}" for name, value in constants.items() if not hasattr(value, "dtype"))
    return error("TG-T005", op=operator.name, inputs=described, reason=f"{type(failure).__name__}: {failure}")


def _broadcast(arrays: Sequence[Any]) -> bool:
    try:
        np.broadcast_shapes(*[a.shape for a in arrays])
    except ValueError:
        return False
    return True
