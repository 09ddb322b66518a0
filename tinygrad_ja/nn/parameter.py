"""``Parameter``: a leaf that a Module registers. Its objects are Tensors with a role, so operators treat them as any Tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..backend.arrays import is_array
from ..core.tensor import PARAMETER, Tensor, is_parameter
from ..errors import error


class _ParameterType(type):
    def __instancecheck__(cls, value: object) -> bool:
        return is_parameter(value)

    def __call__(cls, data: Any, requires_grad: bool = True) -> Any:
        made = Tensor(_array_for(data))
        made._role = PARAMETER
        return made.requires_grad_() if requires_grad else made


def _array_for(data: Any) -> Any:
    """The memory of ``data``; a copy where changing that in place would also change something else."""
    array = data.array if type(data) is Tensor else data
    if not is_array(array):
        raise error("TG-T002", op="Parameter", argument="data", type=type(data).__name__)
    on_tape = type(data) is Tensor and not data.is_leaf
    repeated = any(stride == 0 and n > 1 for stride, n in zip(array.strides, array.shape))
    return array.copy() if on_tape or repeated else array


if TYPE_CHECKING:

    class Parameter(Tensor):
        """To a type checker a Parameter is a Tensor."""

        def __init__(self, data: Any, requires_grad: bool = True) -> None: ...

else:

    class Parameter(metaclass=_ParameterType):
        """``Parameter(data, requires_grad=True)``: a Tensor that a Module registers when it is assigned to an attribute.

        data: Tensor or array of a floating dtype (any dtype with ``requires_grad=False``); its memory is shared,
            unless an operator made it or it is an expanded view.

        >>> import tinygrad_ja as tg
        >>> w = tg.nn.Parameter(tg.zeros(2))
        >>> isinstance(w, tg.nn.Parameter), isinstance(w, tg.Tensor), w.requires_grad
        (True, True, True)
        """
