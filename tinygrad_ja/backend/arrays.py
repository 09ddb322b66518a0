"""Which array types exist, and the array module (``xp``) of each. Knows no Tensor.

NumPy is always here; CuPy joins when a GPU is first asked for; a test may register a stand-in. Everything else in the framework asks
this table, so no operator ever tests for a device.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np


class Backend(NamedTuple):
    """One kind of array: its type, its module and how arrays get there and back."""

    name: str
    array_type: type
    xp: Any
    from_host: Callable[[np.ndarray, int], Any]
    to_host: Callable[[Any], np.ndarray]
    index_of: Callable[[Any], int]
    random: Callable[[int, int], Any]
    kernel_of: Callable[[Any], Callable[..., Any]] | None = None
    """How an operator runs on these arrays where that is not its own text: operator -> kernel."""
    adopt: Callable[[Any, Any, dict[str, Any]], tuple[list[Any], dict[str, Any]] | None] | None = None
    """Makes arrays of another backend its own where both met in one call: (operator, operands, constants) -> both, or None."""
    place_of: Callable[[Any], tuple[str, int]] | None = None
    """Name and index of the device of one array, where not all of them are on the device ``name``."""
    moved: Callable[[Any, Any], Any] | None = None
    """How an array of those gets to another device: (array, device) -> array."""
    backward_of: Callable[[Any, Any], Callable[..., Any]] | None = None
    """How the backward of a fused operator runs on these arrays: (operator, the usual backward) -> backward."""


def _numpy_random(seed: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


NUMPY = Backend(
    name="cpu",
    array_type=np.ndarray,
    xp=np,
    from_host=lambda array, index: array,
    to_host=lambda array: array,
    index_of=lambda array: 0,
    random=_numpy_random,
)

BACKENDS: dict[str, Backend] = {"cpu": NUMPY}
BY_TYPE: dict[type, Backend] = {np.ndarray: NUMPY}

_NUMPY_SCALARS = tuple(np.dtype(code).type for code in "?bBhHiIlLqQefd")


class _Modules(dict):
    """type of an array -> its module; a CuPy array that comes from outside loads that backend at first sight."""

    def __missing__(self, kind: type) -> Any:
        if kind.__module__.partition(".")[0] == "cupy":
            from .devices import load_cuda

            load_cuda()
            return dict.__getitem__(self, kind)
        raise KeyError(kind)


ARRAY_MODULES: dict[type, Any] = _Modules({np.ndarray: np})
ARRAY_MODULES.update(dict.fromkeys(_NUMPY_SCALARS, np))


def register_backend(backend: Backend) -> None:
    """Make one more device known, and its array type. All operators run on it from then on."""
    BACKENDS[backend.name] = backend
    register_array_type(backend)


def register_array_type(backend: Backend) -> None:
    """Make one more array type known, of a device that is known by itself."""
    BY_TYPE[backend.array_type] = backend
    ARRAY_MODULES[backend.array_type] = backend.xp


def array_module(array: Any) -> ModuleType:
    """The module (``numpy`` or ``cupy``) whose functions take ``array``.

    >>> array_module(np.zeros(2)).__name__
    'numpy'
    """
    return ARRAY_MODULES[type(array)]


def is_array(value: Any) -> bool:
    """True for an array of a known backend (NumPy scalars do not count)."""
    kind = type(value)
    if kind in BY_TYPE:
        return True
    if kind.__module__.partition(".")[0] != "cupy":
        return False
    return kind in BY_TYPE or (ARRAY_MODULES.get(kind) or ARRAY_MODULES[kind]) is not None


def meet(a: Any, b: Any) -> bool:
    """True for two arrays that may stand in one call: of one type, or of a type that adopts the other's arrays."""
    kinds = {type(a), type(b)}
    return len(kinds) == 1 or any(BY_TYPE[kind].adopt is not None for kind in kinds)


def place_of(array: Any) -> tuple[str, int]:
    """Name and index of the device on which ``array`` lives."""
    backend = BY_TYPE[type(array)]
    return backend.place_of(array) if backend.place_of is not None else (backend.name, backend.index_of(array))


def as_array(value: Any) -> Any:
    """NumPy turns 0-d results into scalars; this turns them back. Other arrays pass through."""
    return np.asarray(value) if isinstance(value, np.generic) else value


def usual_dtype(dtype: np.dtype) -> np.dtype:
    """The one dtype object of this kind and size in native byte order. Unpickled arrays, files of the other byte order and C's
    ``long long`` bring others, and the operators compare dtypes by identity.

    >>> usual_dtype(np.dtype(">f4")) is np.dtype(np.float32)
    True
    """
    return np.dtype(dtype.str[1:])


class _Holder:
    __slots__ = ("array",)


def _references(holder: Any) -> int:
    return sys.getrefcount(holder.array)


def _references_of_one() -> int:
    holder = _Holder()
    holder.array = np.zeros(1)  # type: ignore[attr-defined, unused-ignore]
    return _references(holder)


_ONE = _references_of_one()  # measured, not assumed: it differs between versions of Python


def is_sole_owner(holder: Any) -> bool:
    """True when ``holder.array`` is known to nobody but ``holder``: then it may be written in place, and no saved value, other
    tensor, view or user can see it.

    >>> class Box: pass
    >>> box = Box(); box.array = np.zeros(3)
    >>> is_sole_owner(box)
    True
    >>> other = box.array
    >>> is_sole_owner(box)
    False
    """
    return _references(holder) == _ONE and getattr(holder.array, "base", holder) is None
