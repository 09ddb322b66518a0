"""Which instructions run together, and how they do: the work behind ``batching`` and ``trees``.

``Batches`` goes through a program as its dependencies allow. Units are instructions, and sums of many terms (``sums.py``) together with the
products and reductions that only they read. Views belong to no unit; they are written when somebody needs them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import heappop, heappush
from typing import Any

from ..program import Array, Instruction, Program
from .batch_sums import STARTING, kind_of_term, sum_of_parts, write_terms
from .batch_writing import StackedInstruction, flat, row_shapes, write_rows
from .dead_code import dead_code
from .products import swapped
from .rewriting import Writer, frozen, is_plain, size_of
from .stacking import Plan, Stacks
from .sums import Sum, sums_of

_ALONE = ("random", "call", "group")
_SMALL_PRODUCT = 256
"""Rows below which a product is worth the copying of its operand."""
_SMALL_STACK = 4096
"""Elements of a product up to which a stack of them is better than one after the other."""
_FEW = 4
_ATTEMPTS = 4
_PARTS = {"forward": 0, "backward": 1, "update": 2}
"""In which order parts of the step run, where there is a choice."""


def batched(program: Program, gathers: bool) -> tuple[Program, int]:
    """The program with batches, and how many gathers it needs. Batches that gained nothing are undone, by starting again without them.
    A program that holds arrays without elements stays as it is."""
    if any([0 in array.shape for i in program.instructions for array in i.outputs]):
        return program, 0
    alone: set[Instruction] = set()
    signatures: dict[Instruction, Any] = {}
    for _ in range(_ATTEMPTS):
        batches = Batches(program, gathers, alone, signatures)
        made = batches.run()
        useless = batches.useless()
        if not useless or (gathers and not batches.stacks.gathered):
            break
        alone |= useless
    return dead_code(made), batches.stacks.gathered


class _Unit:
    """An instruction, or a sum with what it absorbs. ``reads``: the arrays that it needs."""

    __slots__ = ("instruction", "sum", "absorbed", "reads", "position", "time", "missing", "readers", "height")

    def __init__(self, instruction: Instruction, position: int) -> None:
        self.instruction = instruction
        self.sum: Sum | None = None
        self.absorbed: dict[Array, Instruction] = {}
        self.reads: list[Array] = list(instruction.inputs)
        self.position = position
        self.time = position
        self.missing = 0
        self.readers: list[_Unit] = []
        self.height = 0


class _Class:
    """Units of one signature."""

    __slots__ = ("ready", "waiting")

    def __init__(self) -> None:
        self.ready: list[_Unit] = []
        self.waiting = 0


class _Written:
    """A batch of element-wise functions or reductions. ``useful``: whether it stands beside something that is not."""

    def __init__(self, members: list[Instruction]) -> None:
        self.members = members
        self.useful = False
        self._next: _Written | None = None

    def chain(self) -> _Written:
        """The batch that stands for all that are linked with this one."""
        batch = self
        while batch._next is not None:
            batch = batch._next
        return batch

    def link(self, other: _Written) -> None:
        """Let two batches be useful together."""
        one, two = self.chain(), other.chain()
        if one is not two:
            one._next = two


class Batches:
    """Writes a program anew with batches. ``alone``: instructions that may not be batched. ``signatures``: those that are known of others."""

    def __init__(
        self,
        program: Program,
        gathers: bool,
        alone: Collection[Instruction] = (),
        signatures: dict[Instruction, Any] | None = None,
    ) -> None:
        self.signatures = {} if signatures is None else signatures
        self.program = program
        self.alone = set(alone)
        self.writer = Writer(program)
        self.stacks = Stacks(self.writer, gathers)
        self.made = {output: i for i in program.instructions for output in i.outputs}
        self.readers: dict[Array, int] = {}
        for i in program.instructions:
            for a in i.inputs:
                self.readers[a] = self.readers.get(a, 0) + 1
        for a in program.wanted:
            self.readers[a] = self.readers.get(a, 0) + 1
        self.fixed = set(program.state) | set(program.constants) | set(program.numbers)
        self._roots: dict[Array, Array] = {}
        self.lefts: dict[Array, int] = {}
        self.rights: dict[Array, int] = {}
        for i in program.instructions:
            if i.kind == "matmul":
                for counts, operand in ((self.lefts, i.inputs[0]), (self.rights, i.inputs[1])):
                    counts[operand] = counts.get(operand, 0) + 1
        self.batches: dict[Array, _Written] = {}
        self.units = self._units()

    # -- units

    def root(self, array: Array) -> Array:
        """What an array is a view of, however often."""
        found = self._roots.get(array)
        if found is None:
            maker = self.made.get(array)
            found = self._roots[array] = self.root(maker.inputs[0]) if maker is not None and maker.kind == "view" else array
        return found

    def _units(self) -> list[_Unit]:
        units: dict[Instruction, _Unit] = {}
        hidden: set[Instruction] = set()
        sums = sums_of(self.program)
        for last, found in sums.items():
            hidden.update(add for add in found.adds if add is not last)
        for position, i in enumerate(self.program.instructions):
            if i.kind != "view" and i not in hidden:
                units[i] = _Unit(i, position)
        for last, found in sums.items():
            unit = units[last]
            unit.sum = found
            unit.absorbed = self._absorbed(found)
            for leaf in unit.absorbed.values():
                del units[leaf]
            unit.reads = [a for t in found.terms for a in (unit.absorbed[t].inputs if t in unit.absorbed else (t,))]
        makers = {output: unit for i, unit in units.items() for output in i.outputs}
        ordered = sorted(units.values(), key=lambda u: u.position)
        self._times()
        for unit in ordered:
            unit.time = self.time_of[unit.instruction]
            sources = {makers[r] for a in unit.reads if (r := self.root(a)) in makers}
            unit.missing = len(sources)
            for source in sources:
                source.readers.append(unit)
        for unit in reversed(ordered):
            unit.height = 1 + max([r.height for r in unit.readers], default=0)
        return ordered

    def _times(self) -> None:
        """A number for each instruction by which batches are sorted, so that forward and backward stack time steps in one order: where it
        stands in the forward, and for a gradient where the latest forward result stands that it reads, or that the gradients read that it is
        made of, whichever of them came last on the way back."""
        self.time_of: dict[Instruction, int] = {}
        for position, i in enumerate(self.program.instructions):
            time = position
            if i.source.part != "forward":
                makers = [m for a in i.inputs if (m := self.made.get(self.root(a))) is not None]
                saved = [self.time_of[m] for m in makers if m.source.part == "forward"]
                others = [self.time_of[m] for m in makers]
                time = max(saved) if saved else min(others, default=position)
            self.time_of[i] = time

    def _absorbed(self, found: Sum) -> dict[Array, Instruction]:
        """Terms of a sum that can be computed with it: products of matrices that are no weights, sums, and rows added to zeros."""
        kinds: dict[Any, list[tuple[Array, Instruction]]] = {}
        for term in found.terms:
            maker = self.made.get(term)
            if maker is None or self.readers[term] > 1 or found.terms.count(term) > 1:
                continue
            kind = self._kind_of_term(maker)
            if kind is not None:
                kinds.setdefault(kind, []).append((term, maker))
        return {term: maker for group in kinds.values() if len(group) > 1 for term, maker in group}

    def _kind_of_term(self, i: Instruction) -> Any:
        return kind_of_term(i, self.made, lambda array: self.root(array) in self.fixed)

    # -- signatures

    def signature(self, i: Instruction) -> Any:
        """Instructions with equal signatures may run together."""
        if i in self.alone:
            return i
        found = self.signatures.get(i)
        if found is None:
            found = self.signatures[i] = self._signature(i)
        return found

    def _signature(self, i: Instruction) -> Any:
        if i.kind in _ALONE or not i.output.size or any([not a.size for a in i.inputs]):
            return i
        if i.kind == "matmul" and (i.inputs[0].ndim != 2 or i.inputs[1].ndim != 2):
            return i
        if i.kind in ("map", "reduce") and i.source.part == "update":
            return i  # parameters lie apart, and their updates are fused one by one
        if (i.kind == "add_at" and i.function == "take") or (
            i.kind == "place" and not is_plain(i.options["key"], i.output.ndim)
        ):
            return i
        if i.kind == "join" and size_of(i.output.shape[: i.options["axis"] % i.output.ndim]) == 1:
            return i  # its pieces can be stacked as they are
        shared = [self._is_shared(i, k) for k in range(len(i.inputs))]
        rows = row_shapes(i, shared) if i.source.part != "update" else None
        shapes = tuple([a.shape for a in i.inputs]) + (i.output.shape,) if rows is None else (rows, i.output.shape[1:])
        common = (i.function, shapes, tuple([a.dtype for a in i.inputs]), i.output.dtype, frozen(i.options))
        if i.kind == "matmul" and any(shared):
            return (*common, i.inputs[shared.index(True)], shared.index(True))
        if i.function == "take":
            return (*common, i.inputs[0]) if i.options["axis"] == 0 else i
        colours = () if i.kind == "join" else tuple([self._colour(a) for a in i.inputs])
        return (*common, len(set(i.inputs)), colours, i.source.part, i.source.line)

    def _is_shared(self, i: Instruction, k: int) -> bool:
        """Whether an input is, or may be, the same for many instructions: a weight, a table, a number."""
        array = i.inputs[k]
        if i.kind == "matmul":
            right = self.rights[i.inputs[1]] > 1
            return right if k else not right and self.lefts[array] > 1 and self.root(array) in self.fixed
        return (
            (i.kind == "take" and not k) if i.function == "take" else self.root(array) in self.fixed and not self._is_own(array)
        )

    def _is_own(self, array: Array) -> bool:
        """Whether something that was there before the step belongs to one instruction: a target, say, or a mask."""
        root = self.root(array)
        if root in self.program.constants:
            return bool(root.ndim) and self.readers[array] == 1
        return self.readers[array] == 1 and root.nbytes <= STARTING

    def _colour(self, array: Array) -> Any:
        """What sort of array it is: a certain weight or number, or the result of some function."""
        root = self.root(array)
        if root in self.made:
            return self.made[root].function
        if root in self.fixed and not self._is_own(array):
            return array
        return "constant" if root in self.program.constants else "given"

    # -- going through the program

    def run(self) -> Program:
        """The program with batches."""
        self._take_rows_of_state()
        classes: dict[Any, _Class] = {}
        home: dict[_Unit, _Class] = {}
        for unit in self.units:
            key = unit if unit.sum is not None else self.signature(unit.instruction)
            home[unit] = group = classes.setdefault(key, _Class())
            group.waiting += 1
        waiting: list[tuple[int, bool, int, int, _Class]] = []

        def arrive(unit: _Unit) -> None:
            group = home[unit]
            group.ready.append(unit)
            partial = len(group.ready) < group.waiting
            part = 0 if unit.instruction.kind == "random" else _PARTS.get(unit.instruction.source.part, 0)
            order = -unit.height if partial else group.ready[0].position
            heappush(waiting, (part, partial, order, unit.position, group))

        for unit in self.units:
            if not unit.missing:
                arrive(unit)
        while waiting:
            group = heappop(waiting)[-1]
            units, group.ready = group.ready, []
            if not units:  # they ran when the group was met before
                continue
            group.waiting -= len(units)
            units.sort(key=lambda u: (u.time, u.position))
            self._execute(units)
            for unit in units:
                for reader in unit.readers:
                    reader.missing -= 1
                    if not reader.missing:
                        arrive(reader)
        for array in self.program.wanted:
            self.need(array)
        return self.writer.finished()

    def useless(self) -> set[Instruction]:
        """Members of batches that gained nothing. Element-wise functions and reductions are batched where their operands lie side by side
        for another reason, or where their results are needed like that: beside a product, a gather or a sum. Others had better be fused with
        their neighbours."""
        useful = {batch.chain() for batch in self.batches.values() if batch.useful}
        return {i for batch in self.batches.values() if batch.chain() not in useful for i in batch.members}

    def need(self, array: Array) -> Array:
        """What stands for an array now, with the views that lead to it written."""
        chain: list[Instruction] = []
        while (maker := self.made.get(array)) is not None and maker.kind == "view" and array not in self.writer.made:
            if array in self.writer.instead:
                break
            chain.append(maker)
            array = maker.inputs[0]
        for view in reversed(chain):
            self.writer.source = view.source
            self.writer.keep(view.with_inputs([self.writer.now(view.inputs[0])]))
        return self.writer.now(chain[0].output if chain else array)

    def _execute(self, units: list[_Unit]) -> None:
        if units[0].sum is not None:
            self._write_sum(units[0])
            return
        members = [u.instruction for u in units]
        inputs = [[self.need(a) for a in i.inputs] for i in members]
        self.writer.source = members[0].source
        if len(members) == 1 or not self._write_batch(members, inputs):
            for i, arrays in zip(members, inputs):
                self.writer.keep(i.with_inputs(arrays))
                if i.kind == "join":
                    self.stacks.note_join(i.output, arrays, i.options["axis"] % i.output.ndim)

    def _take_rows_of_state(self) -> None:
        """Rows of a table that are cut out one by one, as words of trees are, are taken together."""
        if not self.stacks.gathers:
            return
        rows: dict[Array, list[Instruction]] = {}
        for i in self.program.instructions:
            if i.function == "slice" and i.inputs[0] in self.fixed and i.inputs[0].ndim == 2 and is_plain(i.options["key"], 2):
                if i.output.shape == (1, i.inputs[0].shape[1]):
                    rows.setdefault(i.inputs[0], []).append(i)
        for table, cuts in rows.items():
            if len(cuts) > 3:
                indices = self.writer.constant([i.options["key"][0].start for i in cuts], "i8")
                width = table.shape[1]
                taken = self.writer.add("take", "take", (table, indices), (len(cuts), width), table.dtype, axis=0)
                for k, i in enumerate(cuts):
                    self.writer.replace(i.output, self.writer.rows(taken, k, k + 1))
                self.stacks.gathered += 1

    # -- batches

    def _write_batch(self, members: list[Instruction], inputs: list[list[Array]]) -> bool:
        """Write instructions as one, unless stacking costs more than it saves."""
        first = members[0]
        columns = [list(column) for column in zip(*inputs)]
        same = [all([a is column[0] for a in column]) for column in columns]
        if first.kind == "matmul" and same == [True, False]:
            return self._write_left_shared(members, columns)
        if all(same):
            return False
        ragged = any([i.output.shape != first.output.shape for i in members])
        if ragged and any([not one and column[0].shape == () for one, column in zip(same, columns)]):
            return False
        plan_of = self.stacks.plan_rows if ragged else self.stacks.plan
        plans = [None if one else plan_of(column) for one, column in zip(same, columns)]
        if not self._pays(members, plans):
            return False
        self.stacks.used.clear()
        if ragged:
            made: Array | None = write_rows(self.stacks, members, columns, plans)
        else:
            made = StackedInstruction(self.writer, first, len(members)).write(
                [column[0] if plan is None else self.stacks.make(plan, column) for plan, column in zip(plans, columns)],
                [plan is not None for plan in plans],
            )
        if made is None:
            return False
        self._note_use(_Written(members) if first.kind in ("map", "reduce") else None, made)
        self._hand_out(members, made)
        return True

    def _note_use(self, batch: _Written | None, made: Array | None = None) -> None:
        """Note what the stacks were parts of that were just made for a batch (None: one that is useful anyway)."""
        for root in self.stacks.used:
            source = self.batches.get(root)
            if source is not None and batch is not None:
                batch.link(source)
            elif source is not None:
                source.useful = True
            elif batch is not None and self.writer.maker(root, "join") is None:
                batch.useful = True
        self.stacks.used.clear()
        if batch is not None and made is not None:
            self.batches[made] = batch

    def _write_left_shared(self, members: list[Instruction], columns: list[list[Array]]) -> bool:
        """W x₁, W x₂, ... as the transpose of [x₁ᵀ; x₂ᵀ; ...] Wᵀ."""
        weight = columns[0][0]
        rows = [swapped(self.writer, x) for x in columns[1]]
        plan = self.stacks.plan(rows)
        if not self._pays(members, [plan]):
            return False
        x = flat(self.writer, self.stacks.make(plan, rows))
        self._note_use(None)
        right = swapped(self.writer, weight)
        made = self.writer.add("matmul", "matmul", (x, right), (x.shape[0], right.shape[1]), x.dtype)
        n = rows[0].shape[0]
        for k, i in enumerate(members):
            self.writer.replace(i.output, swapped(self.writer, self.writer.rows(made, k * n, (k + 1) * n)))
        return True

    def _pays(self, members: list[Instruction], plans: Sequence[Plan | None]) -> bool:
        cost = sum([plan.cost for plan in plans if plan is not None])
        if cost and len(members) < _FEW and members[0].kind != "matmul":
            return False  # the gates of one time step rather than a step of each of several
        if members[0].kind == "matmul" and all(plans) and (len(members) < _FEW or members[0].output.size > _SMALL_STACK):
            return False  # products of their own, which a stack makes no faster
        saved = (len(members) - 1) * STARTING
        if members[0].kind in ("map", "reduce"):  # fused with their neighbours these cost next to nothing
            saved //= 8
            new = any([plan is not None and plan.makes_join for plan in plans])
            largest = max([a.nbytes for a in (*members[0].inputs, members[0].output)])
            if new and (len(members) < _FEW or largest > STARTING):
                return False
        if members[0].kind == "matmul":
            rows = min(members[0].output.shape)
            saved *= 8 if rows <= _SMALL_PRODUCT else 1
        return cost <= saved

    def _hand_out(self, members: list[Instruction], made: Array) -> None:
        """Let the parts of a batch's result stand for its members' results."""
        writer, start = self.writer, 0
        for k, i in enumerate(members):
            shape = i.output.shape
            if made.ndim == len(shape):
                part = writer.rows(made, start, start + shape[0])
                start += shape[0]
            else:
                part = writer.reshape(writer.rows(made, k, k + 1), shape)
            writer.replace(i.output, part)

    # -- sums

    def _write_sum(self, unit: _Unit) -> None:
        found, stacks, writer = unit.sum, self.stacks, self.writer
        assert found is not None
        groups: dict[Any, list[Instruction]] = {}
        parts: list[Array] = []
        for term in found.terms:
            leaf = unit.absorbed.get(term)
            if leaf is None:
                parts.append(self.need(term))
            else:
                groups.setdefault(self._kind_of_term(leaf), []).append(leaf)
        writer.source = unit.instruction.source
        parts = sum_of_parts(stacks, parts)
        for leaves in groups.values():
            leaves.sort(key=lambda i: self.time_of[i])
            inputs = [[self.need(a) for a in i.inputs] for i in leaves]
            writer.source = leaves[0].source
            made = write_terms(stacks, leaves, inputs)
            if made is None:
                for i, arrays in zip(leaves, inputs):
                    writer.keep(i.with_inputs(arrays))
                    parts.append(i.output)
            else:
                parts.append(made)
        writer.source = unit.instruction.source
        self._note_use(None)
        total = parts[0]
        for part in parts[1:]:
            total = writer.add("map", "add", (total, part), found.output.shape, found.output.dtype)
        writer.replace(found.output, total)
