"""Parameters and buffers that have no shape yet, for layers that learn it from their first input (see ``lazy.py``)."""

from __future__ import annotations

from typing import Any

from ..core.tensor import PARAMETER, Tensor
from ..errors import error
from ..ops import creation

_KNOWN = {
    "array",
    "detach",
    "device",
    "dtype",
    "grad",
    "is_cuda",
    "is_floating_point",
    "is_leaf",
    "materialize",
    "node",
    "requires_grad",
    "requires_grad_",
}
"""What can be asked of a tensor whose shape is not known yet; names that begin with an underscore too."""


class _Uninitialized(Tensor):
    __slots__ = ()

    def __init__(self, requires_grad: bool, device: Any, dtype: Any) -> None:
        super().__init__(creation.empty(0, device=device, dtype=dtype).array)
        self.requires_grad_(requires_grad)

    def __getattribute__(self, name: str) -> Any:
        if name in _KNOWN or (name.startswith("_") and name not in ("_assign", "_writable")):
            return super().__getattribute__(name)
        raise error("TG-U015", kind=type(self).__name__, name=name)

    def materialize(self, shape: tuple[int, ...], device: Any = None, dtype: Any = None) -> None:
        """Become an ordinary Tensor of that shape, with arbitrary values; device and dtype stay as they are unless they are given."""
        self.array = creation.empty(*shape, device=device or self.device, dtype=dtype or self.dtype).array
        self._note_change()
        self.__class__ = Tensor  # type: ignore[assignment]

    def detach(self) -> Tensor:
        """Itself: there is no value to share."""
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        made = memo[id(self)] = type(self)(self.requires_grad, self.device, self.dtype)
        return made

    def __reduce__(self) -> Any:
        return type(self), (self.requires_grad, str(self.device), self.dtype)


class UninitializedParameter(_Uninitialized):
    """A Parameter whose shape is not known yet; ``materialize(shape)`` makes it an ordinary one.

    >>> import tinygrad_ja as tg
    >>> weight = tg.nn.UninitializedParameter()
    >>> weight, isinstance(weight, tg.nn.Parameter)
    (<UninitializedParameter>, True)
    >>> weight.materialize((2, 3)); weight.shape
    (2, 3)
    """

    __slots__ = ()

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(requires_grad, device, dtype)
        self._role = PARAMETER


class UninitializedBuffer(_Uninitialized):
    """A buffer of a Module whose shape is not known yet; ``materialize(shape)`` makes it an ordinary Tensor."""

    __slots__ = ()

    def __init__(self, requires_grad: bool = False, device: Any = None, dtype: Any = None) -> None:
        super().__init__(requires_grad, device, dtype)


def is_lazy(value: object) -> bool:
    """True for a parameter or a buffer whose shape is not known yet."""
    return isinstance(value, _Uninitialized)
