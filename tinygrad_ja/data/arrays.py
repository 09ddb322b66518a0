"""Arrays and Tensors alike: what functions of data need so that one text takes both, on any device."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend.arrays import BY_TYPE, is_array
from ..backend.devices import Device
from ..backend.random import Generator, generator_for
from ..core.tensor import Tensor
from ..errors import error
from ..ops.conversion import cast

_CPU = Device("cpu")


def cpu_stream(generator: Generator | None) -> Generator:
    """The generator from which data is varied: the given one, which must be the CPU's, or the default one of the CPU. So a seed gives the
    same on every device. Raises DeviceError for another device's."""
    return generator_for(_CPU, generator)


def array_of(op: str, value: Any, argument: str = "input") -> Any:
    """The array in a Tensor, or the array itself. Raises DtypeError for anything else."""
    array = value.array if type(value) is Tensor else value
    if not is_array(array):
        raise error("TG-T002", op=op, argument=argument, type=type(value).__name__)
    return array


def need_float(op: str, value: Any, argument: str = "input") -> Any:
    """The array of a floating-point array or Tensor. Raises DtypeError for others."""
    array = array_of(op, value, argument)
    if array.dtype.kind != "f":
        raise error("TG-T004", op=op, dtype=array.dtype, allowed="float", fix="tg.float32")
    return array


def converted(value: Any, dtype: Any) -> Any:
    """An array or a Tensor in another dtype; itself when it has that dtype already."""
    return cast(value, dtype) if type(value) is Tensor else value.astype(dtype, copy=False)


def placed(host: np.ndarray, like: Any) -> Any:
    """A host array as what ``like`` is: a Tensor or an array, on its device.

    >>> import tinygrad_ja as tg
    >>> placed(np.ones(2), tg.zeros(1))
    tensor([1., 1.], dtype=float64)
    """
    array = array_of("placed", like, "like")
    backend = BY_TYPE[type(array)]
    moved = backend.from_host(host, backend.index_of(array))
    return Tensor(moved) if type(like) is Tensor else moved
