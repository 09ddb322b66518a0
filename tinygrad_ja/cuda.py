"""GPUs (``torch.cuda``): is there one, which, and waiting for it.

Every function but ``is_available`` and ``device_count`` raises DeviceError where no GPU can be used, and says why.
"""

from __future__ import annotations

from typing import Any

from .backend.devices import Device, cuda_is_available, load_cuda, usable

__all__ = [
    "device_count",
    "empty_cache",
    "get_device_name",
    "is_available",
    "memory_allocated",
    "memory_reserved",
    "synchronize",
]


def is_available() -> bool:
    """True when CuPy is installed, a GPU is there and a small product on it is right.

    >>> import tinygrad_ja as tg
    >>> device = "cuda" if tg.cuda.is_available() else "cpu"
    """
    return cuda_is_available()


def device_count() -> int:
    """Number of GPUs that can be used; 0 without CuPy or driver."""
    return int(_cupy().cuda.runtime.getDeviceCount()) if cuda_is_available() else 0


def get_device_name(device: Any = None) -> str:
    """The GPU's name, such as "NVIDIA H100 80GB HBM3"."""
    cupy = _cupy()
    return str(cupy.cuda.runtime.getDeviceProperties(_index(device))["name"].decode())


def synchronize(device: Any = None) -> None:
    """Wait until the GPU has done all that it was told."""
    with _cupy().cuda.Device(_index(device)) as place:
        place.synchronize()


def memory_allocated(device: Any = None) -> int:
    """Bytes in use by arrays on the GPU."""
    with _cupy().cuda.Device(_index(device)):
        return int(_cupy().get_default_memory_pool().used_bytes())


def memory_reserved(device: Any = None) -> int:
    """Bytes that the memory pool holds, used or not."""
    with _cupy().cuda.Device(_index(device)):
        return int(_cupy().get_default_memory_pool().total_bytes())


def empty_cache() -> None:
    """Give memory that no array uses back to the GPU."""
    _cupy().get_default_memory_pool().free_all_blocks()


def _cupy() -> Any:
    return load_cuda().xp


def _index(device: Any) -> int:
    place = Device("cuda") if device is None else Device(f"cuda:{device}") if isinstance(device, int) else Device(str(device))
    return usable(place).index
