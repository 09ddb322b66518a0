"""Conversion: other dtypes, other devices, copies."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend.arrays import as_array
from ..backend.devices import Device, device_of, move
from ..core.operator import Array, Point, linear
from ..core.tensor import Tensor
from .methods import attach

__all__ = ["clone", "reduce_precision"]


def _any_array(pick: Any) -> Any:
    return (pick.array(pick.shape()),), {}


@linear(
    lambda g, source: _cast(g, source),
    aux=("source",),
    saves_no_array=True,
    cases=lambda pick: ((pick.array(pick.shape()), np.dtype(np.float64)), {}),
    points=[Point(([0.5, -3.0], np.dtype(name)), (1.0,)) for name in ("float64", "float32", "float16")],
)
def _cast(xp: Any, input: Array, dtype: np.dtype) -> Array:
    """Elements converted to ``dtype``; the transpose converts the cotangent back to the input's dtype."""
    return input.astype(dtype), input.dtype


@linear(
    lambda g: g,
    cases=lambda pick: ((pick.array(pick.shape()), 23), {}),
    points=[Point(([1.0 + 2**-9, -3.0], 7), (1.0,))],
)
def reduce_precision(xp: Any, input: Array, mantissa_bits: int) -> Array:
    """float32 numbers rounded to ``mantissa_bits`` (at most 23) bits after the point, to even at a tie; other dtypes as they are.

    With 7 bits these are the numbers of bfloat16, for which NumPy has no dtype. By convention the derivative is the identity, as for a
    conversion.
    """
    dropped = 23 - mantissa_bits
    if input.dtype != np.float32 or dropped <= 0:
        return input.copy()
    bits = xp.ascontiguousarray(input).view(np.uint32)
    rest = np.uint32((1 << (dropped - 1)) - 1)
    made = bits + (rest + ((bits >> np.uint32(dropped)) & np.uint32(1)))
    made &= np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)
    return xp.where(xp.isnan(input), input, made.view(np.float32).reshape(input.shape))


@linear(
    lambda g, source: _to_device(g, source),
    aux=("source",),
    saves_no_array=True,
    cases=lambda pick: ((pick.array(pick.shape()), Device("cpu")), {}),
)
def _to_device(xp: Any, input: Array, device: Device) -> Array:
    """The same value on another device; the transpose moves the cotangent back."""
    array = as_array(input)
    return move(array, device), device_of(array)


@linear(lambda g: g, cases=_any_array)
def clone(xp: Any, input: Array) -> Array:
    """A copy with memory of its own; its derivative is the identity.

    >>> import tinygrad_ja as tg
    >>> x = tg.tensor([1.0, 2.0])
    >>> x.clone()
    tensor([1., 2.])
    """
    return input.copy()


def contiguous(input: Tensor) -> Tensor:
    """The tensor itself when its elements lie in row-major order, else a copy that does."""
    return input if input.is_contiguous() else clone(input)


def cast(input: Tensor, dtype: Any) -> Tensor:
    """Elements converted to ``dtype``; the tensor itself when it has that dtype. A gradient goes through floating dtypes only."""
    target = np.dtype(dtype)
    if input.array.dtype is target:
        return input
    if target.kind != "f" and input.node is not None:
        return Tensor(input.array.astype(target))
    return _cast(input, target)


def _to_place(input: Tensor, place: Device) -> Tensor:
    return input if device_of(input.array) == place else _to_device(input, place)


_DTYPE_NAMES = frozenset(np.dtype(kind).name for kind in "?bhilqBHILQefd")


def to(
    input: Tensor,
    *args: Any,
    dtype: Any = None,
    device: Any = None,
    other: Tensor | None = None,
    non_blocking: bool = False,
    copy: bool = False,
) -> Tensor:
    """Convert dtype, device or both: ``x.to(tg.float64)`` or ``x.to("float64")``, ``x.to("cuda")``, ``x.to("cuda", tg.float16)``,
    ``x.to(other)``.

    Returns the tensor itself when nothing changes, unless ``copy=True``. The derivative converts the gradient back; a dtype that is
    not floating has no gradient. ``non_blocking`` is accepted and has no effect. Raises DeviceError when the device cannot be used.

    >>> import tinygrad_ja as tg
    >>> tg.tensor([1.7, -1.7]).to(tg.int64)
    tensor([ 1, -1])
    """
    for argument in args:
        if type(argument) is Tensor:
            other = argument
        elif isinstance(argument, str) and argument in _DTYPE_NAMES:  # the name of a dtype, such as "float64"
            dtype = np.dtype(argument)
        elif isinstance(argument, (str, Device)):
            device = argument
        elif isinstance(argument, bool):  # x.to(dtype, non_blocking), by position
            continue
        elif argument is not None:
            dtype = argument
    if other is not None:
        device, dtype = other.device, other.dtype
    made = input
    if dtype is not None:
        made = cast(made, dtype)
    if device is not None:
        made = _to_place(made, Device(device))
    return clone(made) if copy and made is input else made


def type_as(input: Tensor, other: Tensor) -> Tensor:
    """Converted to the dtype and the device of ``other``."""
    return to(input, other)


def cpu(input: Tensor) -> Tensor:
    """The value on the CPU; itself when it is there."""
    return _to_place(input, Device("cpu"))


def cuda(input: Tensor, device: Any = None) -> Tensor:
    """The value on a GPU, ``cuda`` unless another is named (by its number or ``"cuda:1"``). Raises DeviceError without one."""
    return _to_place(input, Device("cuda", device) if isinstance(device, int) else Device(device or "cuda"))


def _converter(name: str, dtype: Any) -> Any:
    def convert(input: Tensor) -> Tensor:
        return cast(input, dtype)

    convert.__name__ = convert.__qualname__ = name
    convert.__doc__ = f"Converted to {np.dtype(dtype)}; the same as ``x.to(tg.{np.dtype(dtype)})``."
    return convert


attach(to, type_as, cpu, cuda, clone, contiguous)
attach(
    float=_converter("float", np.float32),
    double=_converter("double", np.float64),
    half=_converter("half", np.float16),
    int=_converter("int", np.int32),
    long=_converter("long", np.int64),
    short=_converter("short", np.int16),
    char=_converter("char", np.int8),
    byte=_converter("byte", np.uint8),
    bool=_converter("bool", np.bool_),
)
