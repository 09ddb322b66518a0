"""Libraries that operators may use (``torch.backends``): ``tg.backends.cudnn``, NVIDIA's kernels on a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from .backend.devices import gpu_problem, load_cuda
from .kernels.cudnn import Engine, Gpu, checked_library, library
from .kernels.cupy_cudnn import stand_before

__all__ = ["cudnn"]


class CuDNN:
    """cuDNN, with the names of ``torch.backends.cudnn``. Off until it is turned on, then on in all threads.

    While it is on, these operators run by it on a GPU, with their first-order gradients: convolutions and transposed convolutions in float16
    and float32, ``batch_norm`` in training, and ``scaled_dot_product_attention`` in float16 without dropout. Where cuDNN has no kernel for
    the shapes, and for everything else, the usual kernels run. ``tg.compile`` keeps its own.

    >>> import tinygrad_ja as tg
    >>> tg.backends.cudnn.enabled
    False
    """

    __slots__ = ("_enabled", "_engine")  # so that a misspelt setting is an error

    def __init__(self) -> None:
        self._enabled = False
        self._engine: Engine | None = None

    @property
    def enabled(self) -> bool:
        """Whether cuDNN is used. Setting it True raises DeviceError without a GPU, and ArgumentError (TG-A002) without cuDNN."""
        return self._enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        if value and self._engine is None:
            array_type = load_cuda().array_type
            self._attach(Engine(checked_library(), Gpu()), array_type)
        self._enabled = bool(value)

    @contextlib.contextmanager
    def flags(self, enabled: bool) -> Iterator[None]:
        """In the block cuDNN is on, or off; then as before."""
        before = self._enabled
        self.enabled = enabled
        try:
            yield
        finally:
            self.enabled = before

    def is_available(self) -> bool:
        """True when a GPU can be used and cuDNN is installed."""
        return gpu_problem() is None and self.version() is not None

    def version(self) -> int | None:
        """cuDNN's version, such as 91300 for 9.13.0; None where it is not installed."""
        try:
            return int(library().backend_version())
        except Exception:  # the package, or the library that it loads
            return None

    def refused(self) -> list[str]:
        """What operators have offered to cuDNN in vain, with the library's reason; those calls took the usual way."""
        found = [] if self._engine is None else self._engine.refusals()
        return [
            f"{node.__name__} of {', '.join([f'{x.shape} {np.dtype(x.dtype)}' for x in inputs])}: {reason}"
            for node, inputs, reason in found
        ]

    def _attach(self, engine: Engine, array_type: type) -> None:
        """Put cuDNN before the kernels of arrays of that type."""
        self._engine = engine
        stand_before(engine, array_type, lambda: self._enabled)


cudnn = CuDNN()
