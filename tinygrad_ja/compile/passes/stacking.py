"""Stacks: one array in which given arrays of one shape lie one behind the other, found where it exists and made where it does not.

To run T instructions as one, each operand of the T is needed as one array (T, ...). Often it is there already: the time steps of a sequence are
slices of it, the results of an earlier batch are slices of one result. Otherwise the arrays are joined; if each is made by one instruction, the
planner lets it write straight into its place of the join, so nothing is copied. In what follows ``at`` of an array is the array that it is a
part of, and the position of its first element there.

Where the pieces lie scattered (the children of the nodes of many trees), they are gathered by ``take``: the arrays that hold them are joined
into a growing chain ``join(join(a, b), c)``, of which each link is the beginning of the next, so that all of them share one memory.
"""

from __future__ import annotations

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


class Stacks:
    """Stacks of the arrays that a writer has written. ``gathers``: whether ``take`` may collect scattered pieces."""

    def __init__(self, writer: Writer, gathers: bool) -> None:
        self.writer = writer
        self.gathers = gathers
        self.gathered = 0
        self.used: set[Array] = set()  # arrays of which stacks were parts, or pieces; whoever makes stacks clears it
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
            if root.size == piece.size and root is not joined:
                self._home[root] = (joined, start)
            start += piece.size

    # -- plans

    def plan(self, arrays: Sequence[Array]) -> Plan:
        """The cheapest way to get the stack of arrays of one shape and dtype."""
        if tuple(arrays) in self._known:
            return Plan("known", 0, self._known[tuple(arrays)])
        size = arrays[0].size
        places = [self.at(a) for a in arrays]
        roots = {root for root, _ in places}
        if len(roots) == 1 and all([b == a + size for (_, a), (_, b) in pairwise(places)]):
            return Plan("block", 0, places[0])
        best = self._plan_of_views(arrays)
        if best is not None and not best.cost:
            return best
        plans = [self._plan_of_join(arrays, places)]
        if best is not None:
            plans.insert(0, best)
        if self.gathers and len(arrays) > 3 and all([o % size == 0 and r.size % size == 0 for r, o in places]):
            new = [r for r in roots if r not in self._chain(size, arrays[0].dtype)[1]] if len(roots) > 1 else []
            cost = arrays[0].nbytes * len(arrays) + 4 * RUN + sum([r.nbytes for r in new if r not in self.writer.made])
            plans.append(Plan("take", cost, places))
        return min(plans, key=lambda plan: plan.cost)

    def _plan_of_views(self, arrays: Sequence[Array]) -> Plan | None:
        makers = [self.writer.maker(a, "view") for a in arrays]
        first = makers[0]
        if first is None or any([m is None or m.function != first.function for m in makers]):
            return None
        sources = [m.inputs[0] for m in makers if m is not None]
        options = [m.options for m in makers if m is not None]
        if first.function == "slice" and all([x is sources[0] for x in sources]):
            return self._plan_of_cuts(arrays, sources[0], [o["key"] for o in options])
        if any([x.shape != sources[0].shape for x in sources]) or any([o != options[0] for o in options]):
            return None
        if first.function == "slice" and not is_plain(options[0]["key"], sources[0].ndim):
            return None
        inner = self.plan(sources)
        return Plan("view", inner.cost, (first, inner))

    def _plan_of_cuts(self, arrays: Sequence[Array], x: Array, keys: Sequence[Any]) -> Plan | None:
        """Neighbouring parts of one array along one axis."""
        if not all([is_plain(key, x.ndim) for key in keys]):
            return None
        moving = [a for a in range(x.ndim) if any([key[a] != keys[0][a] for key in keys])]
        if len(moving) != 1 or keys[0][moving[0]].step != 1:
            return None
        (axis,) = moving
        if any([one[axis].stop != two[axis].start for one, two in pairwise(keys)]):
            return None
        return Plan("cut", sum([a.nbytes for a in arrays]), (x, axis, keys[0], keys[-1]))

    def _plan_of_join(self, arrays: Sequence[Array], places: Sequence[tuple[Array, int]]) -> Plan:
        runs: list[tuple[Array, int, int]] = []  # where it starts, and how many arrays it has
        size, cost = arrays[0].size, 0
        for array, (root, offset) in zip(arrays, places):
            if runs and runs[-1][0] is root and runs[-1][1] + runs[-1][2] * size == offset:
                runs[-1] = (root, runs[-1][1], runs[-1][2] + 1)
                cost += array.nbytes
            else:
                own = root.size == size and root in self.writer.made and root.dtype == array.dtype
                own = own and self.writer.made[root].kind != "view"
                cost += 0 if own else array.nbytes + RUN
                runs.append((root, offset, 1))
        return Plan("join", cost, (arrays, runs))

    # -- making them

    def make(self, plan: Plan, arrays: Sequence[Array]) -> Array:
        """The stack (len(arrays), ...) of a plan."""
        made = self._make(plan, arrays[0].shape, len(arrays))
        self._known[tuple(arrays)] = made
        return made

    def _make(self, plan: Plan, shape: tuple[int, ...], count: int) -> Array:
        writer = self.writer
        if plan.how == "known":
            self.used.add(self.at(plan.detail)[0])
            return plan.detail
        if plan.how == "block":
            root, offset = plan.detail
            self.used.add(root)
            return self.block(root, offset, count, shape)
        if plan.how == "view":
            view, inner = plan.detail
            return self._stacked_view(view, self._make(inner, view.inputs[0].shape, count), shape, count)
        if plan.how == "cut":
            x, axis, first, last = plan.detail
            key = (*first[:axis], slice(first[axis].start, last[axis].stop, 1), *first[axis + 1 :])
            whole = writer.slice(x, key)
            length = whole.shape[axis] // count
            split = writer.reshape(whole, (*whole.shape[:axis], count, length, *whole.shape[axis + 1 :]))
            return writer.transpose(split, (axis, *[a for a in range(split.ndim) if a != axis]))
        if plan.how == "take":
            return self._gathered(plan.detail, shape)
        arrays, runs = plan.detail
        return self._joined(arrays, runs, shape)

    def block(self, root: Array, offset: int, count: int, shape: tuple[int, ...]) -> Array:
        """``count`` arrays of a shape that lie one behind the other in ``root``, as one."""
        writer, size = self.writer, size_of(shape)
        if offset % size == 0 and root.size % size == 0:
            rows = writer.reshape(root, (root.size // size, *shape))
            return writer.rows(rows, offset // size, offset // size + count)
        flat = writer.rows(writer.reshape(root, (root.size,)), offset, offset + count * size)
        return writer.reshape(flat, (count, *shape))

    def _stacked_view(self, view: Any, x: Array, shape: tuple[int, ...], count: int) -> Array:
        writer = self.writer
        if view.function == "reshape":
            return writer.reshape(x, (count, *shape))
        if view.function == "transpose":
            return writer.transpose(x, (0, *[a + 1 for a in view.options["axes"]]))
        if view.function == "slice":
            return writer.slice(x, (slice(0, count, 1), *view.options["key"]))
        return writer.broadcast(writer.reshape(x, (count, *(1,) * (len(shape) + 1 - x.ndim), *x.shape[1:])), (count, *shape))

    def _joined(self, arrays: Sequence[Array], runs: Sequence[tuple[Array, int, int]], shape: tuple[int, ...]) -> Array:
        writer, size = self.writer, size_of(shape)
        flat = shape if shape else (1,)
        pieces = []
        for root, offset, length in runs:
            whole = self.block(root, offset, length, shape)
            pieces.append(writer.reshape(whole, (length * flat[0], *flat[1:])))
            if length > 1:
                self.used.add(root)
        made = writer.join(pieces)
        self.note_join(made, arrays, 0)
        return writer.reshape(made, (len(arrays), *shape))

    def _chain(self, size: int, dtype: np.dtype) -> tuple[Array | None, dict[Array, int]]:
        return self._chains.get((size, dtype), (None, {}))

    def _gathered(self, places: Sequence[tuple[Array, int]], shape: tuple[int, ...]) -> Array:
        writer, size = self.writer, size_of(shape)
        roots = list(dict.fromkeys([root for root, _ in places]))
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
        indices = writer.constant([starts[root] + offset // size for root, offset in places], np.int64)
        taken = writer.add("take", "take", (chain, indices), (len(places), size), chain.dtype, axis=0)
        return writer.reshape(taken, (len(places), *shape))


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
