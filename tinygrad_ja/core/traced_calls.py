"""How operators run on traced arrays. Importing this file makes that array type known."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..backend.arrays import BY_TYPE, NUMPY, Backend, register_array_type
from ..errors import Phrase, error
from .nested import found
from .operator import Operator
from .tape import user_line
from .tensor import Tensor
from .traced import ARRAY_MODULE, Traced, on_arrays, to_host, untraced

if TYPE_CHECKING:
    from .trace import Trace


def _kernel_of(operator: Operator) -> Callable[..., Any]:
    """How an operator runs on traced arrays: its arguments by name, and the trace of them."""
    names = [p.name for p in operator.parameters]
    defaults = {p.name: p.default for p in operator.parameters if p.default is not p.empty}

    def kernel(*args: Any, **kwargs: Any) -> Any:
        if operator.variadic:
            arguments = {**defaults, operator.variadic: args, **kwargs}
            return _trace_of(arguments).record(operator, {name: arguments[name] for name in names})
        arguments = dict(zip(names, args))
        if len(arguments) + len(kwargs) < len(names):
            arguments = {**defaults, **arguments}
        if kwargs:
            arguments.update(kwargs)
        trace = None
        for value in args:
            if type(value) is Traced:
                trace = value.recording
                break
        if trace is None or not trace.open:
            trace = _trace_of(arguments)
        return trace.record(operator, arguments)

    return kernel


def _trace_of(arguments: Any) -> Trace:
    trace = None
    for array in found(arguments, Traced):
        if trace is not None and array.recording is not trace:
            raise mixed_traces()
        trace = array.recording
    assert trace is not None
    if not trace.open and trace.is_mine():
        raise _escaped(("a traced Tensor was used after its trace had ended", "記録の終わった Tensor が使われました"))
    return trace


def mixed_traces() -> Exception:
    """The error of arrays of different traces in one place."""
    return _escaped(("arrays of two traces met", "2 つの記録の配列が 1 か所に渡されました"))


def _escaped(reason: Phrase) -> Exception:
    fix = (
        "keep no Tensor of a traced call beyond that call (in an attribute or a global, say).",
        "記録中の Tensor を属性や大域変数などに残さないでください。",
    )
    return error("TG-U017", reason=reason, line=user_line(), fix=fix)


def _backward_of(operator: Operator, usual: Callable[..., Any]) -> Callable[..., Any]:
    """The backward of a fused operator: a step of its own where the trace wants that."""

    def backward(saved: tuple[Any, ...], parents: Any, g: Any) -> Any:
        array = next(found([g], Traced))
        return array.recording.record_backward(operator, usual, saved, parents, g)

    return backward


def _place_of(array: Traced) -> tuple[str, int]:
    backend = BY_TYPE[type(array._elements)]
    return backend.name, backend.index_of(array._elements)


def _adopt(operator: Operator, operands: Any, constants: dict[str, Any]) -> tuple[list[Any], dict[str, Any]] | None:
    """Operands and constants of a call in which a plain array came first and a traced one later, all traced, and of a call in another
    thread than the traced one, none traced. None for any other call."""
    arrays = [x.array if type(x) is Tensor else x for x in operands]
    met = next(found([arrays, list(constants.values())], Traced), None)
    if met is None:
        return None
    if not met.recording.is_mine():
        plain = [Tensor(untraced(x.array), x.node) if type(x) is Tensor else untraced(x) for x in operands]
        return plain, untraced(constants)
    if not any(type(a) is not Traced and type(a) in BY_TYPE for a in arrays):
        return None

    def traced(x: Any) -> Any:
        array = x.array if type(x) is Tensor else x
        if type(array) is Traced or type(array) not in BY_TYPE:
            return x
        return Tensor(met.recording.capture(array), x.node if type(x) is Tensor else None)

    return [traced(x) for x in operands], constants


register_array_type(
    Backend(
        name="cpu",
        array_type=Traced,
        xp=ARRAY_MODULE,
        from_host=lambda array, index: array,
        to_host=to_host,
        index_of=lambda array: 0,
        random=NUMPY.random,
        kernel_of=_kernel_of,
        adopt=_adopt,
        place_of=_place_of,
        moved=on_arrays("to_device"),
        backward_of=_backward_of,
    )
)
