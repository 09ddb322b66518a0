"""Notes every call of an operator while it is open: kernels, backwards and optimizers' updates are replaced by functions that do the same
and look at the clock. What calls what is known from a stack, so that the time of a call can be told from that of the calls in it.

The line of a forward is that of the innermost frame outside of this package. A node that is made meanwhile remembers it; the walk back
asks a node for what it saved just before its backward runs, and so says whose line the backward belongs to.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..backend.arrays import BACKENDS, BY_TYPE, Backend
from ..core.modes import modes
from ..core.operator import OPERATORS, Operator
from ..core.tape import Node
from ..core.tensor import Tensor
from ..optim.optimizer import Optimizer
from .lines import Line, innermost_line
from .operator_cost import arrays, backward_cost, forward_cost, update_cost
from .watching import watching_kernels

clock = time.perf_counter_ns


class Call:
    """One call of an operator.

    title: the operator, ``linear`` or ``linear.backward``, or the optimizer. part: "forward", "backward" or "update",
    or "compiled" for a compiled step that runs as one. line: of the program,
    None where it is not known. shapes: of the arrays that went in. thread: its identity. device: "cpu" or "cuda". start: nanoseconds after
    the profile began. nanoseconds: how long it took. parent: the call that made it, None for one that the program made. flops, nbytes: by
    ``operator_cost``; calls within calls count none, since those of the outer call contain them. allocated: bytes that it left allocated,
    where memory is watched.
    """

    __slots__ = (
        "title",
        "part",
        "line",
        "shapes",
        "thread",
        "device",
        "start",
        "nanoseconds",
        "inner",
        "parent",
        "flops",
        "nbytes",
        "allocated",
        "marks",
    )

    def __init__(self, title: str, part: str, line: Line | None, parent: Call | None, device: str) -> None:
        self.title, self.part, self.line, self.parent, self.device = title, part, line, parent, device
        self.shapes: tuple[tuple[int, ...], ...] = ()
        self.thread = threading.get_ident()
        self.start = self.nanoseconds = self.inner = self.flops = self.nbytes = self.allocated = 0
        self.marks: Any = None

    @property
    def own(self) -> int:
        """Nanoseconds without those of the calls in it."""
        return self.nanoseconds - self.inner

    def __repr__(self) -> str:
        return f"<{self.title} {self.shapes} {self.nanoseconds / 1e3:.1f} µs>"


class _Place(threading.local):
    """Where a thread is: the call that runs, the line that it belongs to, and the node that the walk back passes."""

    call: Call | None = None
    line: Line | None = None
    passing: tuple[Line | None, Any] | None = None


_place = _Place()


class _LinedNode(Node):
    """A node that remembers the line that made it, and tells it when it is asked for what it saved."""

    __slots__ = ("line", "_saved")

    def __init__(self, operator: Any, parents: tuple[Node | None, ...], saved: tuple[Any, ...] | None, y: Any) -> None:
        self.line = _place.line
        super().__init__(operator, parents, saved, y)

    @property
    def saved(self) -> tuple[Any, ...] | None:
        _place.passing = (self.line, self.operator)
        return self._saved

    @saved.setter
    def saved(self, value: tuple[Any, ...] | None) -> None:
        self._saved = value


class Recorder:
    """Records between ``open`` and ``close``. calls: what was recorded, in the order in which it ended. memory: what is asked for the bytes
    that are allocated now, None where nobody wants to know."""

    def __init__(self, memory: Callable[[], int] | None = None) -> None:
        self.calls: list[Call] = []
        self.memory = memory
        self.is_open = False
        self.origin = 0
        self._gpu: Any = None
        self._known: dict[int, tuple[Any, Any]] = {}
        self._stack = contextlib.ExitStack()

    def open(self) -> None:
        """Begin to record."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(watching_kernels(self._kernel))
            stack.enter_context(self._backwards())
            stack.enter_context(self._updates())
            stack.callback(modes.update, node=modes.node, profiler=modes.profiler)
            modes.update(node=_LinedNode, profiler=self)
            self._stack = stack.pop_all()
        self._gpu = Marks.started()
        self.origin = clock()
        self.is_open = True

    def close(self) -> int:
        """End; returns the nanoseconds since ``open``."""
        if self._gpu is not None:
            self._gpu.finish(self.calls)
        nanoseconds = clock() - self.origin
        self.is_open = False
        self._stack.close()
        _place.call = _place.line = _place.passing = None
        for call in self.calls:
            if call.parent is not None:
                call.parent.inner += call.nanoseconds
        return nanoseconds

    # -- one call

    def run(self, call: Call, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """``function(*args, **kwargs)``, whose time goes to ``call``."""
        outer, _place.call = _place.call, call
        before = self.memory() if self.memory is not None and outer is None else None
        begin = self._gpu.mark() if call.device != "cpu" and self._gpu is not None else None
        start = clock()
        try:
            return function(*args, **kwargs)
        finally:
            call.nanoseconds = clock() - start
            call.start = start - self.origin
            if begin is not None:
                call.marks = (begin, self._gpu.mark())
            if before is not None:
                call.allocated = self.memory() - before  # type: ignore[misc]
            _place.call = outer
            self.calls.append(call)

    def here(self) -> tuple[Line | None, str]:
        """The line and the part of the step that a call from outside of every recorded one belongs to."""
        line, in_walk = innermost_line(sys._getframe(2))
        if in_walk:  # what the walk itself does between two backwards
            return _place.line, "backward"
        _place.line = line
        return line, "forward"

    def known(self, thing: Any, compute: Callable[[], Any]) -> Any:
        """``compute()``, which is called once for each thing."""
        entry = self._known.get(id(thing))
        if entry is None:
            entry = self._known[id(thing)] = (thing, compute())
        return entry[1]

    @staticmethod
    def _device(value: Any) -> str | None:
        """The device of an array or a Tensor; None where it is an array of a recording, whose operators are seen by themselves."""
        kind = type(value.array if type(value) is Tensor else value)
        backend = BY_TYPE.get(kind)
        return backend.name if backend is not None and BACKENDS[backend.name].array_type is kind else None

    # -- what is replaced

    def _kernel(self, operator: Operator, backend: Backend, kernel: Callable[..., Any]) -> Callable[..., Any]:
        name, device = operator.name, backend.name

        def watched(*args: Any, **kwargs: Any) -> Any:
            if not self.is_open:  # somebody kept this function
                return kernel(*args, **kwargs)
            outer = _place.call
            line, part = self.here() if outer is None else (outer.line, outer.part)
            call = Call(name, part, line, outer, device)
            y = self.run(call, kernel, *args, **kwargs)
            call.shapes = tuple([x.shape for x in arrays(args)])
            if outer is None:
                call.flops, call.nbytes = forward_cost(name, y, args, kwargs)
            return y

        return watched

    @contextlib.contextmanager
    def _backwards(self) -> Iterator[None]:
        """Replace the backward of every operator, which is written when it is first asked for."""
        operators = [operator for operator in OPERATORS.values() if operator.derivatives]
        before = [(operator, operator.__dict__.get("backward")) for operator in operators]
        try:
            for operator, backward in before:
                operator.__dict__["backward"] = self._backward(operator, backward)
            yield
        finally:
            for operator, backward in before:
                if backward is None:
                    operator.__dict__.pop("backward", None)
                else:
                    operator.__dict__["backward"] = backward

    def _backward(self, operator: Operator, backward: Callable[..., Any] | None) -> Callable[..., Any]:
        name = f"{operator.name}.backward"

        def watched(saved: tuple[Any, ...], parents: Sequence[Any], g: Any) -> Any:
            nonlocal backward
            if backward is None:
                backward = Operator.__dict__["backward"].func(operator)
                assert backward is not None
            if not self.is_open:
                return backward(saved, parents, g)
            passing, _place.passing = _place.passing, None
            outer = _place.call
            if outer is None:
                _place.line = passing[0] if passing is not None and passing[1] is operator else None
            device = self._device(g[0] if type(g) is tuple else g)
            if device is None:
                return backward(saved, parents, g)
            call = Call(name, "backward", _place.line, outer, device)
            gradients = self.run(call, backward, saved, parents, g)
            call.shapes = tuple([x.shape for x in arrays(g)])
            if outer is None:
                call.flops, call.nbytes = backward_cost(operator, saved, parents, g, gradients)
            return gradients

        return watched

    @contextlib.contextmanager
    def _updates(self) -> Iterator[None]:
        """Replace the update of every class of optimizer."""
        before = [(kind, kind.__dict__["update"]) for kind in _subclasses(Optimizer) if "update" in kind.__dict__]
        try:
            for kind, update in before:
                kind.update = self._update(update)
            yield
        finally:
            for kind, update in before:
                kind.update = update

    def _update(self, update: Callable[..., Any]) -> Callable[..., Any]:
        def watched(optimizer: Any, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> Any:
            device = self._device(p)
            if not self.is_open or _place.call is not None or device is None:  # the second: a subclass that asks its base
                return update(optimizer, p, g, group, state)
            call = Call(type(optimizer).__name__, "update", self.here()[0], None, device)
            call.shapes = (p.shape,)
            made = self.run(call, update, optimizer, p, g, group, state)
            call.flops, call.nbytes = update_cost(call.title, p, g, state)
            return made

        return watched


def _subclasses(kind: type) -> Iterator[Any]:
    below: type
    for below in kind.__subclasses__():
        yield below
        yield from _subclasses(below)


class Marks:
    """Moments in the queue of a GPU, which runs behind the program: the time of a call is what lies between its two marks."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._origin = self.mark()

    @staticmethod
    def started() -> Marks | None:
        """Marks for the GPU, None where no program has used one."""
        backend = next(
            (backend for backend in BY_TYPE.values() if backend.name == "cuda" and hasattr(backend.xp, "cuda")), None
        )
        return None if backend is None else Marks(backend.xp)

    def mark(self) -> Any:
        """This moment, of the current stream."""
        event = self._cupy.cuda.Event()
        event.record()
        return event

    def finish(self, calls: Sequence[Call]) -> None:
        """Wait for the GPU, and give the calls the times that they took there."""
        self._cupy.cuda.Device().synchronize()
        between = self._cupy.cuda.get_elapsed_time
        for call in calls:
            if call.marks is not None:
                begin, end = call.marks
                call.start, call.nanoseconds = int(between(self._origin, begin) * 1e6), int(between(begin, end) * 1e6)
                call.marks = None
