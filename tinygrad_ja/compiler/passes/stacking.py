"""Stacks: one array in which given arrays of one shape lie one behind the other, found where it exists and made where it does not.

To run T instructions as one, each operand of the T is needed as one array (T, ...). Often it is there already: the time steps of a sequence are
slices of it, the results of an earlier batch are slices of one result. Otherwise the arrays are joined; if each is made by one instruction, the
planner lets it write straight into its place of the join, so nothing is copied. In what follows ``at`` of an array is the array that it is a
part of, and the position of its first element there.

Where the pieces lie scattered (the children of the nodes of many trees), they are gathered by ``take``: the arrays that hold them are joined
into a growing chain ``join(join(a, b), c)``, of which each link is the beginning of the next, so that all of them share one memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..program import Array
from .rewriting import Writer, is_plain, size_of

RUN = 2048
"""Bytes whose copying takes about as long as starting another copy."""


class Plan(NamedTuple):
    """How a stack is got. ``cost``: bytes that are copied for it."""

    how: str
    cost: int
    detail: Any

    @property
    def makes_join(self) -> bool:
        """Whether arrays have to be joined for it."""
        return self.how == "join" or (self.how == "view" and self.detail[1].makes_join)


class Stacks:
    """Stacks of the arrays that a writer has written. ``gathers``: whether ``take`` may collect scattered pieces."""

    def __init__(self, writer: Writer, gathers: bool) -> None:
        self.writer = writer
        self.gathers = gathers
        self.gathered = 0
        self.used: set[Array] = set()  # arrays of which stacks were parts, or pieces; whoever makes stacks clears it
        self._costs: dict[Array, int] = {}
        self._home: dict[Array, tuple[Array, int]] = {}
        self._known: dict[tuple[Array, ...], Array] = {}
        self._chains: dict[tuple[int, np.dtype], tuple[Array, dict[Array, int]]] = {}

    # -- where arrays lie

    def at(self, array: Array) -> tuple[Array, int]:
        """The array of which this one is a contiguous part, and where it starts there, in elements."""
        offset = 0
        while True:
            home = self._home.get(array)
            if home is not None:
                array, offset = home[0], offset + home[1]
                continue
            maker = self.writer.maker(array, "view")
            if maker is None:
                return array, offset
            (x,) = maker.inputs
            if maker.function == "slice":
                start = _start(maker.options["key"], x.shape)
                if start is None:
                    return array, offset
                offset += start
            elif maker.function != "reshape":
                return array, offset
            array = x

    def note_join(self, joined: Array, pieces: Sequence[Array], axis: int) -> None:
        """Note that the pieces of a join can be found in it."""
        if size_of(joined.shape[:axis]) != 1:
            return
        start = 0
        for piece in pieces:
            root, _ = self.at(piece)
            if root.size == piece.size and root is not joined and root not in self._home:
                self._home[root] = (joined, start)
            start += piece.size

    # -- plans

    def plan(self, arrays: Sequence[Array]) -> Plan:
        """The cheapest way to get the stack (len(arrays), ...) of arrays of one shape and dtype."""
        known = self._known.get(tuple(arrays))
        if known is not None:
            return Plan("known", 0, known)
        plans = [self._plan_of_parts(arrays, arrays[0].size)]
        if plans[0].cost or plans[0].how != "block":
            plans += self._plan_of_views(arrays)
            plans += self._plan_of_pieces(arrays, arrays[0].size)
        return min(plans, key=lambda plan: plan.cost)

    def plan_rows(self, arrays: Sequence[Array]) -> Plan:
        """The same for arrays that agree but for their first axis, along which they are joined."""
        if all([a.shape == arrays[0].shape for a in arrays]):
            return self.plan(arrays)
        known = self._known.get(tuple(arrays))
        if known is not None:
            return Plan("known", 0, known)
        row = size_of(arrays[0].shape[1:])
        return min([self._plan_of_parts(arrays, row), *self._plan_of_pieces(arrays, row)], key=lambda plan: plan.cost)

    def _plan_of_parts(self, arrays: Sequence[Array], size: int) -> Plan:
        """A plan that knows no more than where the arrays lie, each of them as parts of one size."""
        runs: list[list[Any]] = []  # root, where it starts, how many parts
        for array in arrays:
            root, offset = self.at(array)
            if runs and runs[-1][0] is root and runs[-1][1] + runs[-1][2] * size == offset:
                runs[-1][2] += array.size // size
            else:
                runs.append([root, offset, array.size // size])
        if len(runs) == 1:
            return Plan("block", 0, (runs[0], size))
        item = arrays[0].dtype.itemsize
        cost = sum([self._copied(root) if root.size == n * size else n * size * item + RUN for root, _, n in runs])
        if not self.gathers:
            return Plan("join", cost, (runs, size))
        roots = dict.fromkeys([root for root, _, _ in runs])
        count = sum([n for _, _, n in runs])
        scattered = 1 < 2 * len(roots) <= count  # parts of a few arrays
        if scattered and all([o % size == 0 and r.size % size == 0 for r, o, _ in runs]):
            new = [r for r in roots if r not in self._chain(size, arrays[0].dtype)[1]] if len(roots) > 1 else []
            gather = count * size * item + 3 * RUN + sum([self._copied(r) for r in new])
            if gather < cost:
                parts = [(root, offset + k * size) for root, offset, n in runs for k in range(n)]
                return Plan("take", gather, (parts, size))
        return Plan("join", cost, (runs, size))

    def block(self, arrays: Sequence[Array]) -> Array | None:
        """The part of one array in which these lie one behind the other, if they do."""
        if any([not a.size for a in arrays]):
            return None
        plan = self._plan_of_parts(arrays, math.gcd(*[a.size for a in arrays]))
        return self._make(plan, (sum([a.size for a in arrays]),)) if plan.how == "block" else None

    def _copied(self, root: Array) -> int:
        """What it costs to have an array as a piece of a join: nothing where the instruction that makes it may write into its place."""
        cost = self._costs.get(root)
        if cost is None:
            maker = self.writer.made.get(root)
            if maker is None or maker.kind == "view":
                cost = root.nbytes + RUN
            elif maker.kind == "join":
                cost = sum([self._copied(self._whole(a)) for a in maker.inputs])
            else:
                cost = 0
            self._costs[root] = cost
        return cost

    def _whole(self, array: Array) -> Array:
        """What an array is a reshape of."""
        while (maker := self.writer.maker(array, "view", "reshape")) is not None:
            (array,) = maker.inputs
        return array

    def _plan_of_pieces(self, arrays: Sequence[Array], size: int) -> list[Plan]:
        """A plan with the pieces of arrays that are joins themselves."""
        pieces: list[Array] = []
        for array in arrays:
            pieces += self._pieces(array)
        if len(pieces) == len(arrays) or any([p.size == 0 for p in pieces]):
            return []
        return [self._plan_of_parts(pieces, math.gcd(*[p.size for p in pieces]))]

    def _pieces(self, array: Array) -> list[Array]:
        root, _ = self.at(array)
        join = self.writer.maker(root, "join")
        if join is None or root.size != array.size or size_of(root.shape[: join.options["axis"] % root.ndim]) != 1:
            return [array]
        return [piece for a in join.inputs for piece in self._pieces(a)]

    def _plan_of_views(self, arrays: Sequence[Array]) -> list[Plan]:
        """A plan that makes the same view of the stack of what the arrays are views of."""
        makers = [self.writer.maker(a, "view") for a in arrays]
        first = makers[0]
        if first is None or any([m is None or m.function != first.function for m in makers]):
            return []
        sources = [m.inputs[0] for m in makers if m is not None]
        options = [m.options for m in makers if m is not None]
        if first.function == "slice" and all([x is sources[0] for x in sources]):
            return self._plan_of_cuts(arrays, sources[0], [o["key"] for o in options])
        if any([x.shape != sources[0].shape for x in sources]) or any([o != options[0] for o in options]):
            return []
        if first.function == "slice" and not is_plain(options[0]["key"], sources[0].ndim):
            return []
        inner = self.plan(sources)
        return [Plan("view", inner.cost, (first, inner))]

    def _plan_of_cuts(self, arrays: Sequence[Array], x: Array, keys: Sequence[Any]) -> list[Plan]:
        """Neighbouring parts of one array along one axis."""
        if not all([is_plain(key, x.ndim) for key in keys]):
            return []
        moving = [a for a in range(x.ndim) if any([key[a] != keys[0][a] for key in keys])]
        if len(moving) != 1 or keys[0][moving[0]].step != 1:
            return []
        (axis,) = moving
        if any([one[axis].stop != two[axis].start for one, two in pairwise(keys)]):
            return []
        return [Plan("cut", sum([a.nbytes for a in arrays]), (x, axis, keys[0], keys[-1]))]

    # -- making them

    def make(self, plan: Plan, arrays: Sequence[Array]) -> Array:
        """The stack (len(arrays), ...) of a plan."""
        return self._noted(self._make(plan, (len(arrays), *arrays[0].shape)), plan, arrays)

    def make_rows(self, plan: Plan, arrays: Sequence[Array]) -> Array:
        """The arrays of a plan joined along their first axis."""
        rows = sum([a.shape[0] for a in arrays])
        if all([a.shape == arrays[0].shape for a in arrays]):
            return self.writer.reshape(self.make(plan, arrays), (rows, *arrays[0].shape[1:]))
        return self._noted(self._make(plan, (rows, *arrays[0].shape[1:])), plan, arrays)

    def _noted(self, made: Array, plan: Plan, arrays: Sequence[Array]) -> Array:
        self._known[tuple(arrays)] = made
        if plan.how in ("take", "join"):
            self.note_join(self.at(made)[0], arrays, 0)
        return made

    def _make(self, plan: Plan, shape: tuple[int, ...]) -> Array:
        writer = self.writer
        if plan.how == "known":
            self.used.add(self.at(plan.detail)[0])
            return plan.detail
        if plan.how == "view":
            view, inner = plan.detail
            return self._stacked_view(view, self._make(inner, (shape[0], *view.inputs[0].shape)), shape)
        if plan.how == "cut":
            x, axis, first, last = plan.detail
            key = (*first[:axis], slice(first[axis].start, last[axis].stop, 1), *first[axis + 1 :])
            whole = writer.slice(x, key)
            length = whole.shape[axis] // shape[0]
            split = writer.reshape(whole, (*whole.shape[:axis], shape[0], length, *whole.shape[axis + 1 :]))
            return writer.transpose(split, (axis, *[a for a in range(split.ndim) if a != axis]))
        if plan.how == "block":
            (root, offset, count), size = plan.detail
            self.used.add(root)
            return self._block(root, offset, count, size, shape)
        parts, size = plan.detail
        made = self._gathered(parts, size) if plan.how == "take" else self._joined(parts, size, shape)
        return writer.reshape(made, shape)

    def _block(self, root: Array, offset: int, count: int, size: int, shape: tuple[int, ...]) -> Array:
        """``count`` parts of ``root`` as one array."""
        writer, row = self.writer, size_of(shape[1:])
        if offset % row == 0 and root.size % row == 0:
            rows = writer.reshape(root, (root.size // row, *shape[1:]))
            return writer.rows(rows, offset // row, offset // row + shape[0])
        return writer.reshape(writer.rows(writer.reshape(root, (root.size,)), offset, offset + count * size), shape)

    def _stacked_view(self, view: Any, x: Array, shape: tuple[int, ...]) -> Array:
        writer = self.writer
        if view.function == "reshape":
            return writer.reshape(x, shape)
        if view.function == "transpose":
            return writer.transpose(x, (0, *[a + 1 for a in view.options["axes"]]))
        if view.function == "slice":
            return writer.slice(x, (slice(0, shape[0], 1), *view.options["key"]))
        return writer.broadcast(writer.reshape(x, (shape[0], *(1,) * (len(shape) - x.ndim), *x.shape[1:])), shape)

    def _joined(self, runs: Sequence[Any], size: int, shape: tuple[int, ...]) -> Array:
        row = shape[1:] if size % size_of(shape[1:]) == 0 else ()
        if len(shape) > 2 and size % size_of(shape[2:]) == 0:
            row = shape[2:]  # of a stack (t, n, ...) of matrices: their rows
        pieces = []
        for root, offset, count in runs:
            pieces.append(self._block(root, offset, count, size, (count * size // size_of(row), *row)))
            if root.size > count * size:
                self.used.add(root)
        made = self.writer.join(pieces)
        self.note_join(made, [root if root.size == count * size else piece for (root, _, count), piece in zip(runs, pieces)], 0)
        return made

    def _chain(self, size: int, dtype: np.dtype) -> tuple[Array | None, dict[Array, int]]:
        return self._chains.get((size, dtype), (None, {}))

    def _gathered(self, parts: Sequence[tuple[Array, int]], size: int) -> Array:
        writer = self.writer
        roots = list(dict.fromkeys([root for root, _ in parts]))
        self.used.update([root for root in roots if root.size > size])
        self.gathered += 1
        if len(roots) == 1:
            chain, starts = writer.reshape(roots[0], (roots[0].size // size, size)), {roots[0]: 0}
        else:
            dtype = roots[0].dtype
            before, starts = self._chain(size, dtype)
            pieces = [] if before is None else [before]
            end = 0 if before is None else before.shape[0]
            starts = dict(starts)
            for root in roots:
                if root not in starts:
                    starts[root] = end
                    end += root.size // size
                    pieces.append(writer.reshape(root, (root.size // size, size)))
            chain = writer.join(pieces)
            self._chains[(size, dtype)] = (chain, starts)
        indices = writer.constant([starts[root] + offset // size for root, offset in parts], np.int64)
        return writer.add("take", "take", (chain, indices), (len(parts), size), chain.dtype, axis=0)


def _start(key: Any, shape: tuple[int, ...]) -> int | None:
    """Where a slice starts in its array, if its elements lie one behind the other there.

    >>> _start((slice(1, 2, 1), slice(0, 5, 1)), (3, 5))
    5
    """
    if not is_plain(key, len(shape)):
        return None
    stride, start, partial = 1, 0, False
    for part, n in zip(key[::-1], shape[::-1]):
        length = part.stop - part.start
        if (partial and length != 1) or (part.step != 1 and length > 1):
            return None
        start += part.start * stride
        stride *= n
        partial = partial or length != n
    return start
