"""Layers that put a border round the last axes."""

from __future__ import annotations

from typing import Any, ClassVar

from ..core.tensor import Tensor
from ..errors import error
from ..ops.padding import pad
from .module import Module


class _Pad(Module):
    """A border round the last ``dims`` axes."""

    dims: ClassVar[int]

    def __init__(self, padding: Any) -> None:
        super().__init__()
        sides = 2 * self.dims
        self.padding: tuple[int, ...] = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * sides
        if len(self.padding) != sides:
            rule = (f"an int or {sides} of them", f"整数 1 個、または {sides} 個")
            fix = (
                "give two numbers for each axis, the last axis first.",
                "最後の次元から順に、次元ごとに 2 つの数を渡してください。",
            )
            raise error("TG-A001", op=type(self).__name__, argument="padding", value=padding, rule=rule, fix=fix)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Any:
        """input: at least as many axes as the class names."""
        return pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class _ZeroPad(_ConstantPad):
    def __init__(self, padding: Any) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _PadFromInput(_Pad):
    mode: ClassVar[str]

    def forward(self, input: Tensor) -> Any:
        """input: of the shape that the class names."""
        if input.ndim - self.dims not in (1, 2):
            names = {1: "L", 2: "H, W", 3: "D, H, W"}[self.dims]
            rule = (f"(N, C, {names}) or (C, {names})", f"(N, C, {names}) または (C, {names})")
            fix = (
                "reshape the input, or use the layer for its number of axes.",
                "reshape するか、次元数に合う層を使ってください。",
            )
            raise error("TG-S002", op=type(self).__name__, rule=rule, shapes=tuple(input.shape), fix=fix)
        return pad(input, self.padding, self.mode)


class ConstantPad1d(_ConstantPad):
    """A border of ``value`` at both ends of the last axis. padding: an int, or (left, right); negative numbers cut.

    >>> import tinygrad_ja as tg
    >>> tg.nn.ConstantPad1d((1, 0), 9.0)(tg.tensor([[1.0, 2.0]]))
    tensor([[9., 1., 2.]])
    """

    dims = 1


class ConstantPad2d(_ConstantPad):
    """A border of ``value`` round the last two axes. padding: an int, or (left, right, top, bottom)."""

    dims = 2


class ConstantPad3d(_ConstantPad):
    """A border of ``value`` round the last three axes. padding: an int, or (left, right, top, bottom, front, back)."""

    dims = 3


class ZeroPad1d(_ZeroPad):
    """A border of zeros at both ends of the last axis. padding: an int, or (left, right)."""

    dims = 1


class ZeroPad2d(_ZeroPad):
    """A border of zeros round the last two axes. padding: an int, or (left, right, top, bottom).

    >>> import tinygrad_ja as tg
    >>> tg.nn.ZeroPad2d(1)(tg.ones(1, 1, 1))
    tensor([[[0., 0., 0.],
             [0., 1., 0.],
             [0., 0., 0.]]])
    """

    dims = 2


class ZeroPad3d(_ZeroPad):
    """A border of zeros round the last three axes. padding: an int, or (left, right, top, bottom, front, back)."""

    dims = 3


class ReflectionPad1d(_PadFromInput):
    """(N, C, L) or (C, L) reflected at its first and its last element. padding: an int, or (left, right).

    >>> import tinygrad_ja as tg
    >>> tg.nn.ReflectionPad1d(2)(tg.tensor([[1.0, 2.0, 3.0]]))
    tensor([[3., 2., 1., 2., 3., 2., 1.]])
    """

    dims, mode = 1, "reflect"


class ReflectionPad2d(_PadFromInput):
    """(N, C, H, W) or (C, H, W) reflected at the elements of its edges. padding: an int, or (left, right, top, bottom)."""

    dims, mode = 2, "reflect"


class ReflectionPad3d(_PadFromInput):
    """(N, C, D, H, W) or (C, D, H, W) reflected at the elements of its sides."""

    dims, mode = 3, "reflect"


class ReplicationPad1d(_PadFromInput):
    """(N, C, L) or (C, L) with its first and its last element repeated. padding: an int, or (left, right).

    >>> import tinygrad_ja as tg
    >>> tg.nn.ReplicationPad1d(2)(tg.tensor([[1.0, 2.0]]))
    tensor([[1., 1., 1., 2., 2., 2.]])
    """

    dims, mode = 1, "replicate"


class ReplicationPad2d(_PadFromInput):
    """(N, C, H, W) or (C, H, W) with the elements of its edges repeated. padding: an int, or (left, right, top, bottom)."""

    dims, mode = 2, "replicate"


class ReplicationPad3d(_PadFromInput):
    """(N, C, D, H, W) or (C, D, H, W) with the elements of its sides repeated."""

    dims, mode = 3, "replicate"


class CircularPad1d(_PadFromInput):
    """(N, C, L) or (C, L) as if it went on from its end to its start. padding: an int, or (left, right).

    >>> import tinygrad_ja as tg
    >>> tg.nn.CircularPad1d(1)(tg.tensor([[1.0, 2.0, 3.0]]))
    tensor([[3., 1., 2., 3., 1.]])
    """

    dims, mode = 1, "circular"


class CircularPad2d(_PadFromInput):
    """(N, C, H, W) or (C, H, W) as if copies of it lay on all sides. padding: an int, or (left, right, top, bottom)."""

    dims, mode = 2, "circular"


class CircularPad3d(_PadFromInput):
    """(N, C, D, H, W) or (C, D, H, W) as if copies of it lay on all sides."""

    dims, mode = 3, "circular"
