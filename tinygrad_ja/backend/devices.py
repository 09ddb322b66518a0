"""Devices: ``cpu``, ``cuda``, ``cuda:1``; the default device; loading CuPy only when a GPU is asked for."""

from __future__ import annotations

import functools
import os
import threading
from types import TracebackType
from typing import Any

import numpy as np

from ..errors import error
from .arrays import BACKENDS, BY_TYPE, Backend, place_of, register_backend
from .philox import PhiloxStream


class Device:
    """A place where arrays live. Also a context manager that makes it the default device of the thread.

    >>> device = Device("cpu")
    >>> device.type, device.index, str(device)
    ('cpu', 0, 'cpu')
    """

    __slots__ = ("type", "index", "_before")

    def __init__(self, name: str | Device, index: int | None = None) -> None:
        if isinstance(name, Device):
            self.type: str = name.type
            self.index: int = name.index
            return
        kind, colon, number = str(name).partition(":")
        known = kind in BACKENDS or kind == "cuda"
        if not known or (colon and not number.isdigit()):
            raise error("TG-D005", device=name)
        self.type = kind
        self.index = int(number) if number else (index or 0)

    def __str__(self) -> str:
        return self.type if self.type != "cuda" else f"cuda:{self.index}"

    def __repr__(self) -> str:
        return f"device('{self}')"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            try:
                other = Device(other)
            except Exception:
                return False
        return isinstance(other, Device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __enter__(self) -> Device:
        self._before = _default.device
        set_default_device(self)
        return self

    def __exit__(self, kind: type | None, failure: BaseException | None, trace: TracebackType | None) -> None:
        _default.device = self._before


def device(name: str | Device, index: int | None = None) -> Device:
    """``tg.device("cuda")``: the device of that name; ``with tg.device("cuda"):`` makes it the default."""
    return Device(name, index)


class _Default(threading.local):
    device: Device | None = None
    dtype: np.dtype = np.dtype(np.float32)


_default = _Default()


def get_default_device() -> Device:
    """The device on which new tensors are made: ``set_default_device``, else ``TINYGRAD_JA_DEVICE``, else the CPU."""
    if _default.device is None:
        _default.device = usable(Device(os.environ.get("TINYGRAD_JA_DEVICE", "cpu")))
    return _default.device


def set_default_device(name: str | Device) -> None:
    """Make ``name`` the default device of this thread. Raises DeviceError when it cannot be used."""
    _default.device = usable(Device(name))


def get_default_dtype() -> np.dtype:
    """The dtype of new floating-point tensors: float32 unless set."""
    return _default.dtype


def set_default_dtype(dtype: Any) -> None:
    """Set the dtype of new floating-point tensors of this thread: float16, float32 or float64."""
    chosen = np.dtype(dtype)
    if chosen.kind != "f":
        raise error("TG-T004", op="set_default_dtype", dtype=chosen, allowed="float16, float32, float64", fix="tg.float32")
    _default.dtype = chosen


@functools.cache
def gpu_problem() -> tuple[str, str] | None:
    """Why no GPU can be used, as ``(code of the message, reason)``; None when one can. Never raises."""
    try:
        import cupy  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return "TG-D002", "CuPy is not installed"
    try:
        if not cupy.cuda.is_available():
            try:
                cupy.cuda.runtime.getDeviceCount()
            except Exception as failure:
                return ("TG-D004", "") if "NoDevice" in str(failure) else ("TG-D003", str(failure))
            return "TG-D004", ""
        square = cupy.arange(4, dtype="f4").reshape(2, 2)  # NVRTC, headers and cuBLAS really load and run
        if float((square @ (square * 2)).sum()) != 44.0:
            return "TG-D003", "a 2x2 product gave a wrong result"
    except Exception as failure:
        reason = str(failure).splitlines()[0] if str(failure) else ""
        return "TG-D003", f"{type(failure).__name__}: {reason}"
    return None


def cuda_is_available() -> bool:
    """True when CuPy is installed, a GPU is there and a small product on it is right."""
    return gpu_problem() is None


def load_cuda() -> Backend:
    """Import CuPy and register its arrays. Raises DeviceError that says which of CuPy, driver and GPU is missing."""
    if "cuda" in BACKENDS:
        return BACKENDS["cuda"]
    problem = gpu_problem()
    if problem is not None:
        code, reason = problem
        raise error(code, device="cuda", reason=reason)
    import cupy

    def from_host(array: np.ndarray, index: int) -> Any:
        with cupy.cuda.Device(index):
            return cupy.asarray(array)

    register_backend(
        Backend(
            name="cuda",
            array_type=cupy.ndarray,
            xp=cupy,
            from_host=from_host,
            to_host=cupy.asnumpy,
            index_of=lambda array: array.device.id,
            random=PhiloxStream,
        )
    )
    return BACKENDS["cuda"]


def usable(place: Device) -> Device:
    """``place`` itself once its backend is loaded; DeviceError when it cannot be used."""
    if place.type == "cuda":
        load_cuda()
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
        if place.index >= count:
            raise error(
                "TG-D004",
                device=place,
                reason=(f" {place.index} ({count} found)", f" ({place.index} 番。見つかったのは {count} 個)"),
            )
    return place


def device_of(array: Any) -> Device:
    """The device on which ``array`` lives."""
    return Device(*place_of(array))


def move(array: Any, place: Device) -> Any:
    """``array`` on ``place``: itself when it is there already, else a copy."""
    if place_of(array) == (place.type, place.index):
        return array
    usable(place)
    here = BY_TYPE[type(array)]
    if here.moved is not None:
        return here.moved(array, place)
    return BACKENDS[place.type].from_host(here.to_host(array), place.index)
