"""The tape of one call, with what a search for faults needs: every value, the line of the program that made it, and which time step it is.

A *role* is a place in the program (one call of an operator, told apart by the lines that led there); in a loop it occurs once per step. So
"the tanh of step t" is an occurrence of a role, whatever the loop looks like.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

import numpy as np

from ..core.below import nodes_below
from ..core.modes import recording
from ..core.operator import OPERATORS
from ..core.tape import LEAF, OUTPUT, Node, Outputs
from ..core.tensor import Tensor

Edit = Callable[["Step", Any, Any], Any]
"""``edit(step, g, gx)``: another gradient in place of ``gx``, which ``step`` would send to one of its inputs for the cotangent ``g``."""

WHOLE = frozenset({"softmax_backward", "log_softmax_backward", "gelu", "silu", "mish", "prod"})
"""Fused operators that stay one step: learners derive them as one formula."""


class SitedNode(Node):
    """A node that remembers its value and the chain of calls that made it."""

    __slots__ = ("value", "site", "line")

    def __init__(self, operator: Any, parents: tuple[Node | None, ...], saved: tuple[Any, ...] | None, y: Any) -> None:
        super().__init__(operator, parents, saved, y)
        self.value = tuple(y.arrays) if isinstance(y, Outputs) else y
        self.site, self.line = _site(sys._getframe(1))


_OWN = ("tinygrad_ja/core/", "tinygrad_ja/diagnosis/")
_PLUMBING = ("tinygrad_ja/ops/", "nn/module.py", "nn/functional.py", "nn/functional_call.py")


def _site(frame: FrameType | None) -> tuple[tuple[Any, ...], str]:
    """The calls between ``_run`` and here as (code, position), and the lines to show: the innermost two that a reader would look at, or
    else the outermost (of an operator's reference)."""
    site: list[Any] = []
    lines: list[str] = []
    outermost = ""
    while frame is not None and frame.f_code is not _run.__code__:
        filename = frame.f_code.co_filename.replace("\\", "/")
        if not filename.startswith("<operator ") and not any(part in filename for part in _OWN):
            site.append((frame.f_code, frame.f_lasti))
            outermost = _shown(frame)
            if not any(part in filename for part in _PLUMBING):
                lines.append(outermost)
        frame = frame.f_back
    return tuple(site), " <- ".join(lines[:2]) or outermost


def _shown(frame: FrameType) -> str:
    text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    filename = frame.f_code.co_filename.replace("\\", "/").rpartition("tinygrad_ja/")
    file = (
        f"{filename[2]}, " if filename[1] and not filename[2].startswith("textbook/") else ""
    )  # a reader need not know our own files
    return f"`{text or '?'}` ({frame.f_code.co_name}, {file}line {frame.f_lineno})"


def _run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call ``function`` while the tape records sited nodes. Its frame marks where a program begins."""
    with recording(SitedNode):
        return function(*args, **kwargs)


class Step:
    """One operator of the graph, or an input of it.

    index: its place in the order of the forward. parents: the steps of its inputs, None for constants. value: its output (a tuple of
    several). role, occurrence: see above. name: of an input of the graph, else "". line: of the program.
    """

    def __init__(self, node: Node, parents: list[Step | None], value: Any, role: Any, line: str, name: str = "") -> None:
        self.node, self.parents, self.value, self.line, self.name = node, parents, value, line, name
        self.key, self.role, self.occurrence, self.index = role, -1, 0, -1
        self.reaches: frozenset[str] = frozenset()

    @property
    def operator(self) -> str:
        """Name of the operator."""
        return self.node.operator.name

    @property
    def title(self) -> str:
        """The operator, and which input of the graph it combines with another value: ``matmul with weight_hh``."""
        names = [name for name in map(_plain_name, self.parents) if name]
        return f"{self.operator} with {names[-1]}" if len(self.parents) > 1 and names else self.operator

    def input_value(self, index: int) -> Any:
        """Value of one input, also of a constant that the tape has saved; None when it is not known."""
        parent = self.parents[index]
        if parent is not None:
            return parent.value
        operator = self.node.operator
        name = operator.inputs[index] if not operator.variadic else ""
        return self.node.saved[operator.saves.index(name)] if name in operator.saves else None  # type: ignore[index]

    def argument(self, name: str) -> Any:
        """A plain argument of the operator, where its derivative asks for it; else None."""
        operator = self.node.operator
        return self.node.saved[operator.saves.index(name)] if name in operator.saves else None  # type: ignore[index]

    def __repr__(self) -> str:
        return f"<{self.name or self.operator} #{self.index}, role {self.role}, occurrence {self.occurrence}>"


def _plain_name(step: Step | None) -> str:
    """Name of the input that a step is, but for its shape."""
    while (
        step is not None and not step.name and step.operator in ("transpose", "permute", "reshape", "unsqueeze", "squeeze", "t")
    ):
        step = step.parents[0]
    return "" if step is None else step.name


class Graph:
    """What one call of ``function(**inputs)`` recorded, fused operators opened up into their references.

    inputs: name -> array or number; floating arrays are differentiated. output: which result of several is differentiated.
    """

    def __init__(self, function: Callable[..., Any], inputs: Mapping[str, Any], output: int | None) -> None:
        tensors = {name: _as_input(value) for name, value in inputs.items()}
        y = _run(function, **tensors)
        if isinstance(y, (tuple, list)):
            y = y[output or 0]
        self.output: np.ndarray = y.array
        self.steps: list[Step] = []
        self._memo: dict[int, Any] = {}
        self._users: dict[int, list[Step]] = {}
        for name, x in tensors.items():
            if type(x) is Tensor and x.node is not None:
                self._memo[x.node.number] = self._add(Step(x.node, [], x.array, ("input", name), "", name))
        self.names = [step.name for step in self.steps]
        self.root = self._open(y.node, ()) if y.node is not None else None
        self._number_roles()

    # -- building

    def _add(self, step: Step) -> Step:
        step.index = len(self.steps)
        step.reaches = frozenset({step.name}) if step.name else frozenset().union(*[p.reaches for p in step.parents if p])
        self.steps.append(step)
        return step

    def _open(self, root: Node, prefix: tuple[Any, ...]) -> Step | None:
        """Steps for everything below ``root``; returns the root's."""
        below = nodes_below([root])
        for number in sorted(below):
            if number not in self._memo:
                self._memo[number] = self._step_of(below[number], prefix)
        return self._memo[root.number]

    def _step_of(self, node: Node, prefix: tuple[Any, ...]) -> Any:
        if node.operator is OUTPUT:
            body = self._memo[node.parents[0].number]  # type: ignore[union-attr]
            if isinstance(body, list):  # of a fused operator that was opened
                return body[node.index]  # type: ignore[attr-defined]
            several = body.operator == "unbind"  # one output per time step
            role = (body.key, "output") if several else (body.key, "output", node.index)  # type: ignore[attr-defined]
            return self._add(Step(node, [body], body.value[node.index], role, body.line))  # type: ignore[attr-defined]
        parents = [None if p is None else self._memo[p.number] for p in node.parents]
        if not isinstance(node, SitedNode):  # a leaf that the function made itself
            return self._add(Step(node, parents, None, (prefix, "leaf"), ""))
        key = (prefix, node.site, node.operator.name)
        if node.operator.kind == "fused" and node.operator.name not in WHOLE and not node.operator.variadic:
            return self._open_fused(node, parents, key)
        return self._add(Step(node, parents, node.value, key, node.line))

    def _open_fused(self, node: SitedNode, parents: Sequence[Step | None], key: tuple[Any, ...]) -> Any:
        """Run the reference of a fused operator on fresh leaves that stand for its inputs."""
        operator = node.operator
        values = dict(zip(operator.saves, node.saved or ()))
        given: list[Any] = []
        for name, parent in zip(operator.inputs, parents):
            value = values[name]
            if parent is not None:
                value = Tensor(value).requires_grad_()
                self._memo[value.node.number] = parent  # type: ignore[union-attr]
            elif isinstance(value, np.ndarray):
                value = Tensor(value)
            given.append(value)
        made = _run(operator.call, operator.reference, given, values)
        outputs = made if operator.several else (made,)
        steps = [None if y.node is None else self._open(y.node, key) for y in outputs]
        return steps if operator.several else steps[0]

    def _number_roles(self) -> None:
        numbers: dict[Any, int] = {}
        counts: dict[int, int] = {}
        self.roles: dict[int, list[Step]] = {}
        for step in self.steps:
            step.role = numbers.setdefault(step.key, len(numbers))
            step.occurrence = counts.get(step.role, 0)
            counts[step.role] = step.occurrence + 1
            self.roles.setdefault(step.role, []).append(step)

    def users(self, step: Step) -> list[Step]:
        """The steps that take the output of ``step``, in order."""
        if not self._users:
            for user in self.steps:
                for parent in dict.fromkeys(user.parents):
                    if parent is not None:
                        self._users.setdefault(parent.index, []).append(user)
        return self._users.get(step.index, [])

    # -- the walk back

    def gradients(self, cotangent: np.ndarray, edits: Mapping[tuple[int, int], Edit] | None = None) -> dict[str, np.ndarray]:
        """Gradients of the inputs by the rules of the operators, changed by ``edits``: (index of a step, index of its input) -> edit."""
        edits = edits or {}
        found: dict[str, np.ndarray] = {}
        waiting: dict[int, Any] = {}
        if self.root is not None:
            waiting[self.root.index] = cotangent
        for step in reversed(self.steps):
            g = waiting.pop(step.index, None)
            if g is None:
                continue
            if step.name:
                found[step.name] = g
                continue
            if step.node.operator is LEAF:
                continue
            for k, gx in enumerate(_backward(step, g)):
                parent = step.parents[k] if k < len(step.parents) else None
                if parent is None or gx is None:
                    continue
                if (step.index, k) in edits:
                    gx = edits[step.index, k](step, g, gx)
                _send(waiting, step, parent, gx)
        return {name: found[name] if name in found else np.zeros_like(self.steps[i].value) for i, name in enumerate(self.names)}


def _send(waiting: dict[int, Any], step: Step, parent: Step, gx: Any) -> None:
    if step.node.operator is OUTPUT:
        parts = waiting.setdefault(parent.index, [np.zeros(shape) for shape in parent.node.shape])
        parts[step.node.index] = parts[step.node.index] + gx  # type: ignore[attr-defined]
        return
    gx = fit(gx, parent.node.shape)
    waiting[parent.index] = waiting[parent.index] + gx if parent.index in waiting else gx


def _backward(step: Step, g: Any) -> Sequence[Any]:
    if step.node.operator is OUTPUT:
        return (g,)
    return step.node.operator.backward(step.node.saved, step.node.parents, tuple(g) if isinstance(g, list) else g)


def fit(gradient: Any, shape: tuple[int, ...]) -> Any:
    """Sum a gradient to the shape of a broadcast input; repeat one that is too small."""
    if np.shape(gradient) == shape:
        return gradient
    if np.ndim(gradient) < len(shape) or np.size(gradient) < np.prod(shape, dtype=int):
        return np.broadcast_to(gradient, shape)
    return OPERATORS["sum_to_size"].public(gradient, shape)


def _as_input(value: Any) -> Any:
    """Floating arrays as float64 leaves, integer arrays as Tensors, the rest as it is."""
    array = value.array if type(value) is Tensor else value
    if not isinstance(array, np.ndarray):
        return value
    if array.dtype.kind != "f":
        return Tensor(array)
    return Tensor(array.astype(np.float64)).requires_grad_()
