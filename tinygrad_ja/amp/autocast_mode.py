"""``autocast``: products in lower precision, sums and exponentials in float32, without a change to the model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np

from ..core.modes import modes
from ..core.promotion import Autocast
from ..errors import error

_MANTISSA_BITS = {"float16": 0, "bfloat16": 7}


class autocast:
    """Context manager and decorator: inside, operators run in the precision that suits them (Micikevicius et al. 2018).

    Products (``matmul``, ``linear``, convolutions, attention, recurrent cells) convert float32 inputs to ``dtype``. What sums or grows
    (``exp``, ``log``, ``pow``, ``sum``, softmax, norms, losses) converts float16 inputs to float32. Everything else takes its inputs as
    they are. A parameter is converted once, not at every use. Backward runs each operator in the dtype of its forward; call it outside.

    device_type: "cuda" or "cpu"; tensors elsewhere are left alone.
    dtype: "float16" or ``tg.float16``, or "bfloat16"; by default float16 on "cuda" and bfloat16 on "cpu", as in PyTorch. Arrays have
    no bfloat16: its numbers are float32 numbers rounded to 8 significant bits, so results are those of bfloat16 but time and memory
    those of float32.
    enabled: False makes float32 islands inside of an outer ``autocast``. cache_enabled: keep converted parameters until the outermost block
    ends.
    Raises ArgumentError for another device type or dtype.

    >>> import tinygrad_ja as tg
    >>> a = tg.ones(2, 2)
    >>> with tg.autocast("cpu", dtype=tg.float16):
    ...     print((a @ a).dtype, (a + a).dtype, tg.exp(a @ a).dtype)
    float16 float32 float32
    """

    def __init__(
        self, device_type: str = "cuda", dtype: Any = None, enabled: bool = True, cache_enabled: bool | None = None
    ) -> None:
        if device_type not in ("cuda", "cpu"):
            raise _refusal("device_type", device_type, "'cuda', 'cpu'", "autocast('cuda')")
        if dtype is None:
            dtype = "float16" if device_type == "cuda" else "bfloat16"
        name = dtype if isinstance(dtype, str) else getattr(dtype, "name", None) or getattr(dtype, "__name__", repr(dtype))
        if name not in _MANTISSA_BITS:
            raise _refusal("dtype", name, "'float16', 'bfloat16'", "autocast(dtype='float16')")
        self.device_type, self.dtype_name, self.enabled = device_type, name, enabled
        self._keeps = cache_enabled is None or cache_enabled
        self._before: list[Autocast | None] = []

    def __enter__(self) -> autocast:
        self._before.append(modes.autocast)
        modes.autocast = None
        if self.enabled:
            bits = _MANTISSA_BITS[self.dtype_name]
            dtype = np.dtype(np.float32 if bits else np.float16)
            modes.autocast = Autocast(self.device_type, dtype, bits, self._keeps)
        return self

    def __exit__(self, kind: type | None, failure: BaseException | None, trace: TracebackType | None) -> None:
        modes.autocast = self._before.pop()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with autocast(self.device_type, self.dtype_name, self.enabled, self._keeps):
                return function(*args, **kwargs)

        return call


def _refusal(argument: str, value: Any, rule: str, fix: str) -> Exception:
    return error(
        "TG-A001", op="autocast", argument=argument, value=repr(value), rule=rule, fix=(f"{fix}.", f"{fix} としてください。")
    )


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """True inside of an ``autocast`` for that kind of device."""
    return modes.autocast is not None and modes.autocast.device_type == device_type
