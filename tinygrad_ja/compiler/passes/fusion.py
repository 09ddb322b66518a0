"""Fusion: element-wise functions and reductions over one space run together, block by block.

Each function of NumPy reads its inputs from memory and writes its result there. A chain of ten over a large array moves it through memory
twenty times; run together over blocks of rows that fit the cache, or as one loop of machine code, the chain reads and writes once. A group has

    space  the shape S over which it runs; every array inside has S, or broadcasts to it
    inner  how many axes at the end make one row. Reductions over exactly these axes (softmax, layer norm) may be used further inside
    body   its instructions; reductions over the other axes, or all, come out of it and are not used inside

Instructions are taken in order. One joins the group of those it reads, or a group that reads the same, if their spaces agree and nothing
outside would have to run both before and after the group. Groups that one instruction reads are merged. In the end, what is cheap and made
for another group only, of arrays that this one reads anyway, is made there: y(1 - y) of a gate is not kept beside y until the backward.

>>> from ..program import Array, Instruction, Program
>>> x, y, z = (Array((4, 5), "f4", name) for name in "xyz")
>>> steps = [Instruction("map", "exp", [x], [y]), Instruction("map", "negative", [y], [z])]
>>> fusion(Program([x], instructions=steps, results=[z])).instructions[0].options["space"]
(4, 5)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Any

from ..program import Array, Instruction, Program
from .common_subexpressions import common_subexpressions
from .picks import picks_as_sums
from .rewriting import Writer, with_instructions
from .slices import slices_first
from .views import views

LARGEST_BODY = 96
"""Instructions of a group, at most."""

SMALL = 256
"""Elements below which reading the same array is no reason to run together: it saves nothing, and makes one wait for the other."""

CHEAP = frozenset("add subtract multiply negative square maximum minimum less less_equal greater greater_equal".split())
"""Functions that cost less than to write their result and to read it again later."""

MOST_LATE = 4
"""Instructions that are moved together, at most."""

_REDUCTIONS = ("sum", "prod", "max", "min", "any", "all")


class _Unit:
    """A group that grows, or an instruction alone. ``ids``: its numbers as bits; ``before``: those of all that must run earlier."""

    __slots__ = ("members", "space", "inner", "outer", "ids", "before", "readers")

    def __init__(self, number: int, space: tuple[int, ...] | None) -> None:
        self.members: list[tuple[int, Instruction]] = []
        self.space = space
        self.inner = 0  # axes of its row reductions
        self.outer: set[Array] = set()  # results that are not for use inside
        self.ids = 1 << number
        self.before = 0
        self.readers: set[_Unit] = set()

    @property
    def row(self) -> int:
        """How many axes make a row; where no reduction says it, one, so that a block is some rows of a matrix. None where a sum that comes out
        is over the last axis and one before it, as in batch normalization."""
        if self.inner or self.space is None or len(self.space) < 2:
            return self.inner
        return int(all([_is_outer(m, 1) for _, m in self.members if m.outputs[0] in self.outer]))


def fusion(program: Program, *, row_reductions: bool = True, largest: int = LARGEST_BODY) -> Program:
    """The program with groups. ``row_reductions``: whether a group may use sums over its rows. ``largest``: instructions of a group."""
    if row_reductions:
        program = common_subexpressions(picks_as_sums(program))
    program = slices_first(common_subexpressions(_with_kept_axes(program)))
    return _Fusion(program, row_reductions, largest).run()


def _with_kept_axes(program: Program) -> Program:
    """Reductions over the last axes keep them with size 1, so that their results broadcast against what was reduced."""
    writer = Writer(program)
    for i in writer:
        if i.kind == "reduce" and i.function in _REDUCTIONS and _row_axes(i) and not i.options.get("keepdims"):
            (x,), count = i.inputs, len(i.options["axes"])
            shape = (*x.shape[: x.ndim - count], *(1,) * count)
            axes = tuple(range(x.ndim - count, x.ndim))
            kept = writer.add("reduce", i.function, (x,), shape, i.output.dtype, axes=axes, keepdims=True)
            writer.replace(i.output, writer.reshape(kept, i.output.shape))
        else:
            writer.keep(i)
    return views(writer.finished())


def _row_axes(i: Instruction) -> int:
    """How many axes at the end a reduction reduces; 0 where it reduces others, or all."""
    ndim = i.inputs[0].ndim
    axes = sorted([a % ndim for a in i.options["axes"]])
    return len(axes) if axes == list(range(ndim - len(axes), ndim)) and len(axes) < ndim else 0


class _Fusion:
    def __init__(self, program: Program, row_reductions: bool, largest: int) -> None:
        self.program = program
        self.row_reductions = row_reductions
        self.largest = largest
        self.unit_of: dict[Array, _Unit] = {}
        self.units: list[_Unit] = []
        self.reading: dict[Array, list[_Unit]] = {}  # groups that read an array

    def run(self) -> Program:
        for position, instruction in enumerate(self.program.instructions):
            unit = self.home_of(instruction)
            if unit is None:
                unit = _Unit(position, self.space(instruction))
                self.units.append(unit)
            self.put(unit, position, instruction)
            if unit.space is not None:
                self.take_rows(unit, instruction)
        self.make_late()
        units = [unit for unit in self.units if unit.members]
        return with_instructions(self.program, [self.written(unit) for unit in _in_order(units, self.unit_of)])

    def space(self, i: Instruction) -> tuple[int, ...] | None:
        """The space over which an instruction runs, if it can be in a group."""
        if i.kind == "map" and i.output.size:
            return i.output.shape
        if i.kind == "reduce" and i.function in _REDUCTIONS and i.inputs[0].size:
            return i.inputs[0].shape if self.row_reductions or not _row_axes(i) else None
        return None

    # -- which group an instruction joins

    def home_of(self, i: Instruction) -> _Unit | None:
        """The group that an instruction joins, after merging those that it makes one; None for none."""
        if self.space(i) is None:
            return None
        candidates = list(self.candidates(i))
        home = next((unit for unit in candidates if self.fits(unit, i) and self.may_join(unit, i)), None)
        for unit in candidates if home is not None else ():
            assert home is not None
            if unit is not home and self.fits(unit, i) and self.may_merge(home, unit):
                home = self.merged(home, unit)
        return home

    def take_rows(self, unit: _Unit, i: Instruction) -> None:
        """Merge into the group of an instruction those that make one value for each row for it."""
        for a in i.inputs:
            rows = self.unit_of.get(a)
            if rows is not None and rows is not unit and _is_of_rows(rows, unit) and self.may_merge(unit, rows):
                self.merged(unit, rows)

    def candidates(self, i: Instruction) -> Iterator[_Unit]:
        """Groups that make an input of the instruction, then those that read one of the whole shape."""
        seen: set[_Unit] = set()
        makers = [self.unit_of[a] for a in i.inputs if a in self.unit_of]
        space = self.space(i)
        beside = [u for a in i.inputs if a.shape == space and a.size >= SMALL for u in self.reading.get(a, ())[-4:]]
        for unit in (*makers[::-1], *beside):
            if unit not in seen and unit.members and unit.space is not None:
                seen.add(unit)
                yield unit

    def fits(self, unit: _Unit, i: Instruction) -> bool:
        """Whether the instruction runs over the space of the group, and uses nothing that only comes out of it."""
        space = unit.space
        if space is None or len(unit.members) >= self.largest or any([a in unit.outer for a in i.inputs]):
            return False
        if i.kind == "map":
            rows = (*space[: len(space) - unit.inner], *(1,) * unit.inner)
            if i.output.shape == space:
                return True
            return bool(unit.inner) and i.output.shape == rows and any([self.unit_of.get(a) is unit for a in i.inputs])
        if i.inputs[0].shape != space:
            return False
        count = _row_axes(i)
        if count:
            outer = [m for _, m in unit.members if m.outputs[0] in unit.outer]
            return unit.inner in (0, count) and all([_is_outer(m, count) for m in outer])
        return _is_outer(i, unit.inner)

    def may_join(self, unit: _Unit, i: Instruction) -> bool:
        """Whether no other unit that the instruction waits for waits for the group."""
        return not any([u is not unit and u.before & unit.ids for a in i.inputs if (u := self.unit_of.get(a)) is not None])

    def may_merge(self, a: _Unit, b: _Unit) -> bool:
        """Whether two groups can be one: of one space, no longer than allowed, and with no way from one to the other through a third."""
        of_rows = a.space != b.space
        if len(a.members) + len(b.members) >= self.largest or (of_rows and not _is_of_rows(b, a)):
            return False
        if a.inner and b.inner and a.inner != b.inner:
            return False
        inner = len(a.space or ()) - _rows_of(b) if of_rows else max(a.inner, b.inner)
        if any([m.outputs[0] in unit.outer and not _is_outer(m, inner) for unit in (a, b) for _, m in unit.members]):
            return False
        for one, other in ((a, b), (b, a)):
            between = {self.unit_of[x] for _, m in one.members for x in m.inputs if x in self.unit_of}
            if any([u is not one and u is not other and u.before & other.ids for u in between]):
                return False
            if any([x in other.outer for _, m in one.members for x in m.inputs]):
                return False
        return True

    # -- what is made for another group only

    def make_late(self) -> None:
        """Move cheap instructions to the one group that reads them, where that reads all that they are made of."""
        readers: dict[Array, set[_Unit | None]] = {a: {None} for a in self.program.wanted}
        for unit in self.units:
            for _, member in unit.members:
                for a in member.inputs:
                    readers.setdefault(a, set()).add(unit)
        for unit in self.units:
            if unit.space is None:
                continue
            for _, member in unit.members[::-1]:
                there = readers.get(member.outputs[0], set())
                if len(there) == 1 and unit not in there and self.unit_of[member.outputs[0]] is unit:
                    self._move(member, unit, next(iter(there)), readers)

    def _move(self, last: Instruction, unit: _Unit, to: _Unit | None, readers: dict[Array, set[_Unit | None]]) -> None:
        if to is None or to.space != unit.space:
            return
        chain: dict[int, tuple[int, Instruction]] = {}
        inside = {m.outputs[0]: (position, m) for position, m in unit.members}
        users = {a: [m for _, m in unit.members if a in m.inputs] for a in inside}
        waiting = [inside[last.outputs[0]]]
        while waiting:
            position, member = waiting.pop()
            if member.kind != "map" or member.function not in CHEAP or not self.fits(to, member) or len(chain) == MOST_LATE:
                return
            chain[position] = position, member
            moved = [m for _, m in chain.values()]
            for a in member.inputs:
                if a in inside and all([user in moved for user in users[a]]) and readers[a] == {unit}:
                    waiting.append(inside[a])
                elif a.ndim and to not in readers[a]:
                    return
        if len(to.members) + len(chain) > self.largest:
            return
        unit.members = [entry for entry in unit.members if entry[0] not in chain]
        to.members = sorted([*to.members, *chain.values()], key=lambda entry: entry[0])
        for _, member in chain.values():
            self.unit_of[member.outputs[0]] = to
            for a in member.inputs:
                readers[a].add(to)
                if not any([a in m.inputs for _, m in unit.members]):
                    readers[a].discard(unit)

    # -- keeping account

    def put(self, unit: _Unit, position: int, i: Instruction) -> None:
        """Make an instruction a member of a unit."""
        unit.members.append((position, i))
        before = unit.before
        for a in i.inputs:
            maker = self.unit_of.get(a)
            if maker is not None and maker is not unit:
                before |= maker.before | maker.ids
                maker.readers.add(unit)
            if unit.space is not None:
                known = self.reading.setdefault(a, [])
                if not known or known[-1] is not unit:
                    known.append(unit)
        for output in i.outputs:
            self.unit_of[output] = unit
        if i.kind == "reduce" and unit.space is not None:
            count = _row_axes(i)
            if count:
                unit.inner = count
            else:
                unit.outer.update(i.outputs)
        self.spread(unit, before)

    def spread(self, unit: _Unit, before: int) -> None:
        """A unit waits for more than it did; so do those behind it."""
        waiting = [(unit, before)]
        while waiting:
            unit, before = waiting.pop()
            if before | unit.before != unit.before:
                unit.before |= before
                waiting.extend([(reader, unit.before | unit.ids) for reader in unit.readers])

    def merged(self, a: _Unit, b: _Unit) -> _Unit:
        """Two groups as one."""
        if a.space != b.space:
            a.inner = len(a.space or ()) - _rows_of(b)
        elif len(a.members) < len(b.members):
            a, b = b, a
        a.members = sorted([*a.members, *b.members], key=lambda entry: entry[0])
        a.inner = max(a.inner, b.inner)
        a.outer |= b.outer
        for _, member in b.members:
            for output in member.outputs:
                self.unit_of[output] = a
            for x in member.inputs:
                self.reading[x] = [a if u is b else u for u in self.reading[x]]
                if x in self.unit_of and self.unit_of[x] is not a:
                    self.unit_of[x].readers.discard(b)
                    self.unit_of[x].readers.add(a)
        a.ids |= b.ids
        a.readers = (a.readers | b.readers) - {a, b}
        before = (a.before | b.before) & ~a.ids
        a.before = 0
        b.members = []
        self.spread(a, before)
        for reader in a.readers:
            self.spread(reader, a.before | a.ids)
        return a

    def written(self, unit: _Unit) -> Instruction:
        """The instruction that a unit becomes."""
        body = [i for _, i in unit.members]
        if len(body) == 1:
            return body[0]
        made = {a for i in body for a in i.outputs}
        inputs = list(dict.fromkeys([a for i in body for a in i.inputs if a not in made]))
        outside = {u for a in made for u in self.outside_readers(a, unit)}
        outputs = [a for i in body for a in i.outputs if a in outside]
        space = unit.space or ()
        options: dict[str, Any] = {"body": body, "space": space, "inner": unit.row}
        return Instruction("group", "group", inputs, outputs, options, body[-1].source)

    def outside_readers(self, array: Array, unit: _Unit) -> Iterable[Array]:
        """The array itself if it is read outside of its group."""
        if not hasattr(self, "_read_by"):
            self._read_by: dict[Array, set[_Unit | None]] = {}
            for other in self.units:
                for _, member in other.members:
                    for a in member.inputs:
                        self._read_by.setdefault(a, set()).add(other)
            for a in self.program.wanted:
                self._read_by.setdefault(a, set()).add(None)
        return [array] if self._read_by.get(array, set()) - {unit} else []


def _rows_of(unit: _Unit) -> int:
    """How many axes at the front an array of row values has before its axes of size 1."""
    space = unit.space or ()
    return len(space) - next((k for k, n in enumerate(space[::-1]) if n != 1), len(space))


def _is_of_rows(unit: _Unit, whole: _Unit) -> bool:
    """Whether a group computes one value for each row of another one, and nothing else."""
    space, of = unit.space or (), whole.space or ()
    rows = _rows_of(unit)
    if not 0 < rows < len(space) == len(of) or space[:rows] != of[:rows] or whole.inner not in (0, len(of) - rows):
        return False
    return all([m.kind == "map" for _, m in unit.members])


def _is_outer(i: Instruction, inner: int) -> bool:
    """Whether a reduction reduces axes of the rows only, or all axes."""
    ndim = i.inputs[0].ndim
    axes = [a % ndim for a in i.options["axes"]]
    return len(axes) == ndim or max(axes, default=0) < ndim - inner


def _in_order(units: list[_Unit], unit_of: dict[Array, _Unit]) -> list[_Unit]:
    """Units in an order in which they can run, as near to the order of their first instructions as may be."""
    number = {unit: k for k, unit in enumerate(units)}
    waits: list[set[int]] = [set() for _ in units]
    frees: list[list[int]] = [[] for _ in units]
    for k, unit in enumerate(units):
        for _, member in unit.members:
            waits[k].update([number[unit_of[a]] for a in member.inputs if a in unit_of])
        waits[k].discard(k)
        for j in waits[k]:
            frees[j].append(k)
    missing = [len(w) for w in waits]
    ready = [(unit.members[-1][0], k) for k, unit in enumerate(units) if not missing[k]]
    heapify(ready)
    order = []
    while ready:
        _, k = heappop(ready)
        order.append(units[k])
        for j in frees[k]:
            missing[j] -= 1
            if not missing[j]:
                heappush(ready, (units[j].members[-1][0], j))
    assert len(order) == len(units), "groups wait for each other"
    return order
