"""Which axes a loop walks along, and in what order: *outer*, *middle* and *inner* ones (``loops.py`` says what for)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..planning import contiguous
from ..program import Array, Instruction
from . import expressions
from .launches import Unsupported

BLOCK = 2048
"""Elements of a block of a space with one axis."""

Axis = tuple[int, ...]
"""Axes of a body that are walked as one, from the outside in."""


class Operand(NamedTuple):
    """Where an array lies: address, bytes from element to element along its own axes."""

    address: int
    strides: tuple[int, ...]


Find = Callable[[Array], Operand]


class ColumnReduction(NamedTuple):
    """A reduction whose result no instruction of the body reads."""

    instruction: Instruction
    source: Array
    output: Array


class Space:
    """The space of a body of instructions.

    external: arrays that the body reads and does not make. row_reductions: those whose results the body reads, by result. columns: the others.
    outer, middle, inside: axes to be walked, each a run of axes of the body that is walked as one. blocked: whether there is one long axis,
    which is walked in blocks.
    """

    def __init__(
        self, body: Sequence[Instruction], space: tuple[int, ...], inner: int, outputs: Sequence[Array], find: Find
    ) -> None:
        self.body, self.space, self.outputs = list(body), space, list(outputs)
        self.maker = {i.outputs[0]: i for i in body}
        used = {a for i in body for a in i.inputs}
        self.external = [a for a in dict.fromkeys(a for i in body for a in i.inputs) if a not in self.maker]
        rows = set(range(len(space) - inner, len(space))) if inner else set()
        self.row_reductions: dict[Array, Instruction] = {}
        self.columns: list[ColumnReduction] = []
        for i in body:
            if i.kind == "reduce":
                x, y = i.inputs[0], i.outputs[0]
                axes = {a % x.ndim + len(space) - x.ndim for a in i.options["axes"]}
                if y in used or (inner and y.ndim == x.ndim and axes == rows and self._has_others(inner)):
                    self.row_reductions[y] = i
                else:
                    self.columns.append(ColumnReduction(i, x, y))
        self.find = find
        self.inner_count = inner if self.row_reductions else 0
        self.strides: dict[Array, tuple[int, ...]] = {}
        self.addresses: dict[Array, int] = {}
        for a in [*self.external, *self.outputs]:
            self._locate(a)
        for y in self.maker:
            if y not in self.strides:
                self.strides[y] = self._padded(y.shape, contiguous(y.shape, y.dtype.itemsize))
        self._order()

    def _has_others(self, inner: int) -> bool:
        """Whether a row reduction that nobody reads inside is better made like those that are: where there are some, or many short rows."""
        if any([i.kind == "reduce" and any([i.outputs[0] in j.inputs for j in self.body]) for i in self.body]):
            return True
        cut = len(self.space) - inner
        return math.prod(self.space[:cut]) >= 16 and math.prod(self.space[cut:]) <= 4096

    # ---- axes ------------------------------------------------------------------------------------

    def _padded(self, shape: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
        """Strides along the axes of the space: none where an array has one element."""
        missing = len(self.space) - len(shape)
        return (*[0] * missing, *[0 if n == 1 else s for n, s in zip(shape, strides)])

    def _locate(self, a: Array) -> None:
        operand = self.find(a)
        self.addresses[a] = operand.address
        reduction = next((r for r in self.columns if r.output is a), None)
        if reduction is None:
            self.strides[a] = self._padded(a.shape, operand.strides)
            return
        x = reduction.source
        axes = {axis % x.ndim for axis in reduction.instruction.options["axes"]}
        strides = list(operand.strides)
        if a.ndim != x.ndim:  # the axes that are summed over are gone
            kept = iter(strides)
            strides = [0 if axis in axes else next(kept) for axis in range(x.ndim)]
        made = [0 if n == 1 or axis in axes else s for axis, (n, s) in enumerate(zip(x.shape, strides))]
        self.strides[a] = (*[0] * (len(self.space) - x.ndim), *made)

    def _order(self) -> None:
        """Sort the axes into outer, middle and inner ones, and merge neighbours that lie one behind the other in every array."""
        count = len(self.space)
        arrays = [*self.external, *self.maker]
        axes = [k for k in range(count) if self.space[k] != 1]
        full = [a for a in [*self.outputs, *self.external] if all([self.strides[a][k] for k in axes])]
        guide = self.strides[full[0]] if full else self.strides[max(arrays, key=lambda a: a.size)]
        axes.sort(key=lambda k: -abs(guide[k]))
        walked = self._merged([k for k in axes if k < count - self.inner_count], arrays)
        self.inside = self._merged([k for k in axes if k >= count - self.inner_count], arrays)
        if walked and not self.inner_count:
            self.inside = [walked.pop()]
        self.outer: list[Axis] = walked
        self.middle: list[Axis] = []
        if self.columns:
            reduced = self._reduced_axes()
            same = all([axes == reduced[0] for axes in reduced])
            self.outer = [axis for axis in walked if same and axis[0] not in reduced[0]]
            if self.steps(self.outer) < 4:
                self.outer = []
            self.middle = [axis for axis in walked if axis not in self.outer]
        for r in self.columns:
            shape = (1,) * (len(self.space) - r.source.ndim) + r.source.shape
            wide = any([shape[k] != 1 for axis in self.inside for k in axis])
            needed = [*walked, *(self.inside if wide else [])]
            if not all([self.stride(r.source, axis) for axis in needed]):
                raise Unsupported("a sum of what is the same in several rows")
        varying = any([self.stride(r.output, axis) for r in self.columns for axis in self.inside])
        self.blocked = not walked and len(self.inside) == 1 and not self.row_reductions and not varying
        self.blocked = self.blocked and self.length(self.inside[0]) > BLOCK

    def _reduced_axes(self) -> list[set[int]]:
        """For each column reduction the axes of the space that it sums over, as far as they have more than one element."""
        found = []
        for r in self.columns:
            missing = len(self.space) - r.source.ndim
            axes = {k % r.source.ndim + missing for k in r.instruction.options["axes"]} | set(range(missing))
            found.append({k for k in axes if self.space[k] != 1})
        return found

    def _merged(self, axes: list[int], arrays: list[Array]) -> list[Axis]:
        """Runs of axes that can be walked as one."""
        made: list[Axis] = []
        for k in axes:
            if made and all([self.strides[a][made[-1][-1]] == self.strides[a][k] * self.space[k] for a in arrays]):
                made[-1] = (*made[-1], k)
            else:
                made.append((k,))
        return made

    def length(self, axis: Axis) -> int:
        return int(np.prod([self.space[k] for k in axis]))

    def steps(self, axes: list[Axis]) -> int:
        return int(np.prod([self.length(axis) for axis in axes], dtype=np.int64))

    def stride(self, a: Array, axis: Axis) -> int:
        """Bytes from element to element along an axis."""
        return self.strides[a][axis[-1]]

    def is_full(self, a: Array) -> bool:
        """Whether an array varies along the inner axes."""
        return any([self.stride(a, axis) for axis in self.inside])

    def cost(self) -> float:
        """Work of 16 elements, about in nanoseconds: 64 bytes from a far cache are one, a simple operation is a half."""
        work = 1.0 * (len(self.external) + len(self.outputs))
        for i in self.body:
            work += 8.0 if i.function in expressions.HEAVY else 0.5
        return work * max([a.dtype.itemsize for a in self.strides]) / 4
