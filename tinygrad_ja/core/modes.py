"""Modes of a thread: does the tape record, and how. One attribute decides: the class of the nodes that are recorded.

``modes.autocast`` is looked at by operators with a rule for lower precision only (``core/promotion.py``).

``modes.record`` is ``Node`` normally, ``None`` under ``no_grad``, and a class that remembers the user's line under ``detect_anomaly``;
so the three cases cost one look-up per operator together. ``recording`` lets a tool record a class of its own.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from .tape import AnomalyNode, Node


class Modes(threading.local):
    """Thread-local modes."""

    record: Any = Node
    node: Any = Node
    grad = True
    inference = False
    anomaly = False
    autocast: Any = None
    recording: Any = None
    """The recording of ``tg.compile`` that runs in this thread."""
    products = False
    """Whether a gradient may be ``Products`` of ``core/waiting_products.py``: in a walk back that knows them."""
    profiler: Any = None
    """The recorder of ``tg.profile`` that looks at this thread; compiled functions tell it what they run."""

    def update(self, **changes: Any) -> None:
        """Change modes and choose the node class that they mean."""
        for name, value in changes.items():
            setattr(self, name, value)
        recording = self.grad and not self.inference
        self.record = (AnomalyNode if self.anomaly else self.node) if recording else None


modes = Modes()


class _Mode:
    """A change of modes: a context manager and a decorator."""

    def __init__(self, **changes: Any) -> None:
        self._changes = changes
        self._before: list[dict[str, Any]] = []

    def __enter__(self) -> None:
        self._before.append({name: getattr(modes, name) for name in self._changes})
        modes.update(**self._changes)

    def __exit__(self, kind: type | None, failure: BaseException | None, trace: TracebackType | None) -> None:
        modes.update(**self._before.pop())

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with _Mode(**self._changes):
                return function(*args, **kwargs)

        return call


def _usable_bare(mode: _Mode, function: Callable[..., Any] | None) -> Any:
    return mode if function is None else mode(function)


def no_grad(function: Callable[..., Any] | None = None) -> Any:
    """Context manager and decorator (with or without parentheses): the tape does not record.

    >>> import tinygrad_ja as tg
    >>> x = tg.tensor([1.0], requires_grad=True)
    >>> with tg.no_grad():
    ...     (x * 2).requires_grad
    False
    """
    return _usable_bare(_Mode(grad=False), function)


def enable_grad(function: Callable[..., Any] | None = None) -> Any:
    """Context manager and decorator: the tape records again inside ``no_grad`` (but not inside ``inference_mode``)."""
    return _usable_bare(_Mode(grad=True), function)


def set_grad_enabled(enabled: bool) -> Any:
    """Context manager and decorator: ``enable_grad`` or ``no_grad``, by a flag."""
    return _Mode(grad=bool(enabled))


def inference_mode(function: Callable[..., Any] | bool | None = None) -> Any:
    """Like ``no_grad``, and stricter: inside, ``enable_grad`` has no effect and ``requires_grad_`` is an error."""
    if isinstance(function, bool):
        return _Mode(inference=function)
    return _usable_bare(_Mode(inference=True), function)


def detect_anomaly(check: bool = True) -> Any:
    """Context manager: the first operator whose result or gradient is NaN or infinite raises an error that names the operator, the
    line that called it, and the input. Slow; for finding a fault."""
    return _Mode(anomaly=check)


def recording(node: type[Node]) -> Any:
    """Context manager for tools: the tape records nodes of this class, which is called as ``Node`` is."""
    return _Mode(node=node, grad=True)


def replayed(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of methods that change numbers of Python only, such as a schedule's step: ``tg.compile`` calls them again at each replay."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        recording = modes.recording
        return method(*args, **kwargs) if recording is None else recording.act(method, args, kwargs)

    return call


def is_grad_enabled() -> bool:
    """True when the tape records in this thread."""
    return modes.record is not None


def is_inference_mode_enabled() -> bool:
    """True inside ``inference_mode``."""
    return modes.inference
