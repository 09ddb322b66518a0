"""Element-wise instructions and reductions as loops: one function for a ``map``, a ``reduce`` or a whole ``group``.

A space of iteration has axes that are walked from the outside in: *outer* axes, whose indices are shared out to chunks; *middle* axes, over
which column reductions sum; and *inner* axes, the last of them in vectors. What does not vary along the inner axes is computed once for each
index of the others. Row reductions cut the walk along the inner axes into *stages*: a stage ends where a reduction must be complete, and the
next one computes cheap values anew, reads them again where they were stored, or from a buffer that holds one row.

Sizes and strides are words of a table that the function gets, so that equal loops over different arrays are compiled once; those of small
arrays are written into the text, where they save time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..planning import contiguous, same_strides
from ..program import Array, Instruction
from . import expressions
from .code import BOOL, Code, Value
from .launches import Launch, Unsupported
from .reductions import REDUCTIONS, added_up, combine, identity, kind_of, total_kind
from .spaces import BLOCK, Axis, ColumnReduction, Find, Space
from .target import named, processor
from .team import MOST

SMALL = 2048
"""Elements up to which a space's sizes and strides are written into the text."""
SMALL_AXIS = 1024
"""Elements up to which the size of the innermost axis is."""
CHUNK = 2_000
"""Work of a chunk, about in nanoseconds."""
WORTH = 6_000
"""Work from which on it is divided: handing a chunk over takes some hundred nanoseconds."""
PARTIALS = 8
"""The most chunks of a loop whose chunks have sums of their own."""


def loops(
    body: Sequence[Instruction], space: tuple[int, ...], inner: int, outputs: Sequence[Array], find: Find
) -> list[Launch]:
    """The launches that run ``body`` over ``space``. Raises Unsupported.

    inner: how many trailing axes make a row, for row reductions. find: where arrays outside of the body lie.
    """
    for instruction in body:
        if instruction.kind == "map":
            if not expressions.supported(instruction):
                dtypes = ", ".join([str(a.dtype) for a in (*instruction.inputs, *instruction.outputs)])
                raise Unsupported(f"no vector instructions for {instruction.function} of {dtypes}")
        elif instruction.function not in REDUCTIONS:
            raise Unsupported(f"no loop for {instruction.function}")
        elif not all([expressions.supported_dtype(a.dtype) for a in (*instruction.inputs, *instruction.outputs)]):
            raise Unsupported(f"no loop for {instruction.function} of {instruction.inputs[0].dtype}")
    if 0 in space:
        raise Unsupported("an axis without elements")
    return _Writer(Space(body, space, inner, outputs, find)).launches()


class _Writer:
    """Writes the text of one loop."""

    def __init__(self, plan: Space) -> None:
        self.plan = plan
        widest = max([a.dtype.itemsize for a in plan.strides if a.dtype.kind == "f"] or [4])
        self.lanes = processor().vector // widest
        self.code = Code(self.lanes)
        self.words: list[int] = []
        self.known: dict[tuple[str, int], str] = {}
        self.small = int(np.prod(plan.space)) <= SMALL
        self.scratch_words: list[int] = []
        self.scratch = 0
        self.stages: dict[Array, int] = {}
        self.rows: dict[Array, Value] = {}
        self.buffered: set[Array] = set()
        self.buffers: dict[Array, str] = {}
        self.wholes: dict[Array, str] = {}
        self.partial = False
        self.partial_places: list[tuple[ColumnReduction, int, int]] = []

    # -- words

    def word(self, value: int, kind: str = "i64") -> str:
        """A new word of the table."""
        self.words.append(value)
        return self.code.word("%words", len(self.words) - 1, kind)

    def number(self, value: int, role: str) -> str:
        """A size or a stride: in the text where that helps, else a word."""
        if self.small or value in (0, 1) or (role == "size" and value <= SMALL_AXIS):
            return str(value)
        key = (role, value) if role != "size" else (f"size{len(self.words)}", value)
        if key not in self.known:
            self.known[key] = self.word(value)
        return self.known[key]

    # -- stages

    def _find_stages(self) -> None:
        """When each value can be computed: full ones in a stage, others after so many stages."""
        plan = self.plan
        for a in plan.external:
            self.stages[a] = 0
        for i in plan.body:
            y = i.outputs[0]
            latest = max([self.stages[x] for x in i.inputs], default=0)
            if y in plan.row_reductions:
                latest += 1 if plan.is_full(i.inputs[0]) else 0
            self.stages[y] = latest
        self.last_stage = max(self.stages.values(), default=0)

    def _targets(self, stage: int) -> list[Array]:
        """Full values that the walk of a stage is for."""
        plan = self.plan
        wanted = [i.inputs[0] for y, i in plan.row_reductions.items() if plan.is_full(i.inputs[0])]
        wanted += [r.source for r in plan.columns if plan.is_full(r.source)]
        wanted += [y for y in plan.outputs if self._is_map(y) and plan.is_full(y)]
        return [a for a in dict.fromkeys(wanted) if self.stages[a] == stage]

    def _is_map(self, y: Array) -> bool:
        return self.plan.maker[y].kind == "map"

    def _find_buffered(self) -> None:
        """Values that are kept for later stages because computing them twice costs more."""
        plan = self.plan
        for stage in range(1, self.last_stage + 1):
            pending = list(self._targets(stage))
            seen: set[Array] = set()
            while pending:
                a = pending.pop()
                if a in seen or a not in plan.maker or not plan.is_full(a):
                    continue
                seen.add(a)
                if self.stages[a] < stage and self._effort(a, self.stages[a]) > 3:
                    self.buffered.add(a)
                    continue
                pending += plan.maker[a].inputs

    def _effort(self, a: Array, stage: int) -> int:
        """Operations that computing a value takes."""
        plan = self.plan
        if a not in plan.maker or not plan.is_full(a):
            return 0
        i = plan.maker[a]
        return (10 if i.function in expressions.HEAVY | {"divide"} else 1) + sum([self._effort(x, stage) for x in i.inputs])

    # -- the text

    def launches(self) -> list[Launch]:
        plan, code = self.plan, self.code
        self._find_stages()
        self._find_buffered()
        outer, middle = plan.steps(plan.outer), plan.steps(plan.middle)
        total = int(np.prod(plan.space))
        if plan.blocked:
            (axis,) = plan.inside
            blocks = -(-plan.length(axis) // BLOCK)
            outer, middle = (1, blocks) if plan.columns else (blocks, 1)
        work = plan.cost() * total / 16
        shared = middle if outer == 1 and plan.columns else outer
        most = PARTIALS if outer == 1 and plan.columns else 64
        chunks = 1 if work < WORTH else max(1, min(int(work // CHUNK), shared, most))
        per_chunk = -(-shared // chunks)
        chunks = -(-shared // per_chunk)
        self.partial = outer == 1 and bool(plan.columns) and chunks > 1
        for a in [*plan.external, *plan.outputs]:
            self.wholes[a] = self.word(plan.addresses[a], "ptr")
        count = self.number(shared, "shared")
        each = self.number(per_chunk, "each")
        low = code.whole("mul", "%chunk", each) if chunks > 1 else "0"
        high = code.whole("add", low, each) if chunks > 1 else count
        if chunks > 1:
            past = code.plain(f"icmp slt i64 {high}, {count}")
            high = code.plain(f"select i1 {past}, i64 {high}, i64 {count}")
        self._prepare_buffers()
        if plan.columns and outer == 1:
            pointers = self._columns_begin(dict(self.wholes), every=True)
            with code.loop(low, high) as m:
                self._row(self._moved(dict(pointers), plan.middle, m), m)
            self._columns_end(pointers)
        elif plan.columns:
            with code.loop(low, high) as o:
                pointers = self._columns_begin(self._moved(dict(self.wholes), plan.outer, o), every=False)
                with code.loop(0, self.number(middle, "middle")) as m:
                    self._row(self._moved(dict(pointers), plan.middle, m), m)
                self._columns_end(pointers)
        else:
            with code.loop(low, high) as o:
                self._row(self._moved(dict(self.wholes), plan.outer, o), o)
        code.line("ret void")
        made = [self._finished(chunks)]
        for r, word, size in self.partial_places:
            made.append(added_up(r.instruction, plan.addresses[r.output], word, size, chunks, self.lanes))
        return made

    def _finished(self, chunks: int) -> Launch:
        name, text = named(self.code.definition("void @NAME(ptr noalias %words, i64 %chunk, i64 %worker)"), "loop")
        return Launch(name, text, tuple(self.code.declared), self.words, chunks, tuple(self.scratch_words), self.scratch)

    def _moved(self, pointers: dict[Array, str], axes: list[Axis], index: str) -> dict[Array, str]:
        """The pointers at a flat index of some axes."""
        plan, code = self.plan, self.code
        if plan.blocked:
            (axis,) = plan.inside
            step = code.whole("mul", index, BLOCK)
            return {a: code.moved(p, code.whole("mul", step, self.number(plan.stride(a, axis), "stride")))
                    if a in plan.strides and plan.stride(a, axis) else p for a, p in pointers.items()}  # fmt: skip
        rest = index
        for place, axis in enumerate(reversed(axes)):
            if place == len(axes) - 1:
                k = rest
            else:
                size = self.number(plan.length(axis), "size")
                k = code.whole("urem", rest, size)
                rest = code.whole("udiv", rest, size)
            for a in pointers:
                stride = plan.stride(a, axis)
                if stride:
                    pointers[a] = code.moved(pointers[a], code.whole("mul", k, self.number(stride, "stride")))
        return pointers

    def _prepare_buffers(self) -> None:
        """Memory for rows that are kept from stage to stage: some for each worker."""
        if not self.buffered:
            return
        length = self.plan.steps(self.plan.inside)
        sizes = {a: (length + self.lanes) * max(a.dtype.itemsize, 1) + 63 & ~63 for a in self.buffered}
        each = sum(sizes.values())
        base = self.word(self.scratch, "ptr")
        self.scratch_words.append(len(self.words) - 1)
        self.scratch += each * MOST
        mine = self.code.moved(base, self.code.whole("mul", "%worker", self.word(each)))
        at = 0
        for a, size in sizes.items():
            self.buffers[a] = self.code.moved(mine, at)
            at += size

    # -- one row: everything for one index of the outer axes

    def _row(self, pointers: dict[Array, str], index: str) -> None:
        plan, code = self.plan, self.code
        self.pointers = pointers
        self.rows = {}
        for a in plan.external:
            if not plan.is_full(a):
                self.rows[a] = code.load(pointers[a], a.dtype, 0)
        done: set[Array] = set()
        for stage in range(self.last_stage + 1):
            self._row_values(stage, done)
            targets = self._targets(stage)
            kept = [a for a in self.buffered if self.stages[a] == stage]
            if targets or kept:
                self._walk(stage, [*targets, *[a for a in kept if a not in targets]], index)
        self._row_values(self.last_stage, done)
        for y in plan.outputs:
            if not plan.is_full(y) and y in self.rows and not any([y is r.output for r in plan.columns]):
                code.store(self.rows[y], pointers[y], 0)
        for r in plan.columns:
            if not plan.is_full(r.source):
                self._accumulate(r, code.convert(self.rows[r.source], r.output.dtype), self.pointers)

    def _row_values(self, stage: int, done: set[Array]) -> None:
        """Compute the values that do not vary along the inner axes, as far as they are known before a stage."""
        plan = self.plan
        for i in plan.body:
            y = i.outputs[0]
            if y in done or plan.is_full(y) or self.stages[y] > stage or any([y is r.output for r in plan.columns]):
                continue
            if y in plan.row_reductions:
                if plan.is_full(i.inputs[0]):
                    continue  # the walk has made it
                if i.function in ("sum", "prod") and math.prod([i.inputs[0].shape[axis] for axis in i.options["axes"]]) != 1:
                    raise Unsupported("a sum of what is the same in several places")
                self.rows[y] = self.code.convert(self.rows[i.inputs[0]], y.dtype)
            else:
                self.rows[y] = expressions.write(self.code, i, [self.rows[x] for x in i.inputs])
            done.add(y)

    def _walk(self, stage: int, targets: list[Array], index: str) -> None:
        """Walk along the inner axes once."""
        plan, code = self.plan, self.code
        sums = [i for y, i in plan.row_reductions.items() if plan.is_full(i.inputs[0]) and self.stages[i.inputs[0]] == stage]
        totals = [r for r in plan.columns if r.source in targets and not any([plan.stride(r.output, k) for k in plan.inside])]
        slots: dict[int, str] = {}
        for i in [*sums, *[r.instruction for r in totals]]:
            kind = kind_of(i)
            slots[id(i)] = code.stack(code.type(kind))
            code.line(f"store {code.type(kind)} {identity(code, i, kind).text}, ptr {slots[id(i)]}, align 64")
        outside, axis = plan.inside[:-1], plan.inside[-1]
        length = plan.length(axis)

        def body(pointers: dict[Array, str], position: str, i: str, mask: str | None) -> None:
            self._vector(stage, targets, [*sums, *[r.instruction for r in totals]], slots, pointers, position, i, mask)

        def along(pointers: dict[Array, str], position: str) -> None:
            if plan.blocked:
                size = self._block_length(index, length)
            else:
                size = self.number(length, "size")
            self._vectors(size, lambda i, mask: body(pointers, position, i, mask))

        if outside:
            inner_length = self.number(length, "size")
            with code.loop(0, self.number(plan.steps(outside), "size")) as k:
                along(self._moved(dict(self.pointers), outside, k), code.whole("mul", k, inner_length))
        else:
            along(self.pointers, "0")
        for i in sums:
            self.rows[i.outputs[0]] = self._across(i, kind_of(i), slots[id(i)])
        for r in totals:
            if r.output in self.slots:
                kind = kind_of(r.instruction)
                self._accumulate_lanes(r, code.value(kind, f"load {code.type(kind)}, ptr {slots[id(r.instruction)]}, align 64"))
            else:
                self._accumulate(
                    r, self._across(r.instruction, kind_of(r.instruction), slots[id(r.instruction)]), self.pointers
                )

    def _block_length(self, index: str, length: int) -> str:
        code = self.code
        start = code.whole("mul", index, BLOCK)
        left = code.whole("sub", self.number(length, "length"), start)
        return code.plain(f"select i1 {code.plain(f'icmp slt i64 {left}, {BLOCK}')}, i64 {left}, i64 {BLOCK}")

    def _vectors(self, size: str, body: Callable[[str, str | None], None]) -> None:
        """``body(i, mask)`` for all vectors of so many elements."""
        code, lanes = self.code, self.lanes
        if size.isdigit():
            n = int(size)
            whole, rest = n - n % lanes, n % lanes
            if whole == lanes:
                body("0", None)
            elif whole:
                with code.loop(0, whole, lanes) as i:
                    body(i, None)
            if rest:
                body(str(whole), code.mask_below(str(rest)))
            return
        heavy = any([i.function in expressions.HEAVY for i in self.plan.body])
        code.vectors(0, size, body, once=heavy and processor().masks)

    def _vector(
        self,
        stage: int,
        targets: list[Array],
        reductions: list[Instruction],
        slots: dict[int, str],
        pointers: dict[Array, str],
        position: str,
        i: str,
        mask: str | None,
    ) -> None:
        """One vector of a walk: load, compute, add to sums, store."""
        plan, code = self.plan, self.code
        axis = plan.inside[-1]
        made: dict[Array, Value] = {}

        def at(a: Array) -> tuple[str, str]:
            stride = plan.stride(a, axis)
            if stride == 0:
                return pointers[a], "0"
            text = str(stride) if stride == a.dtype.itemsize else self.number(stride, "stride")
            return code.moved(pointers[a], code.whole("mul", i, text)), text

        def buffer(a: Array) -> str:
            return code.moved(self.buffers[a], code.whole("mul", code.whole("add", position, i), a.dtype.itemsize))

        def value(a: Array) -> Value:
            if a in self.rows and not plan.is_full(a):
                return self.rows[a]
            if a not in made:
                if a not in plan.maker:
                    made[a] = code.load(at(a)[0], a.dtype, at(a)[1], mask)
                elif a in self.buffered and self.stages[a] < stage:
                    made[a] = code.load(buffer(a), a.dtype, a.dtype.itemsize, mask)
                else:
                    instruction = plan.maker[a]
                    made[a] = expressions.write(code, instruction, [value(x) for x in instruction.inputs])
            return made[a]

        for a in targets:
            value(a)
        for a in self.buffered:
            if self.stages[a] == stage:
                code.store(value(a), buffer(a), a.dtype.itemsize, mask)
        for r in plan.columns:
            if r.instruction not in reductions and r.source in targets:
                place, stride = at(r.output)
                before = code.load(place, r.output.dtype, stride, mask)
                after = combine(code, r.instruction, before, code.convert(value(r.source), r.output.dtype))
                code.store(after, place, stride, mask)
        for instruction in reductions:
            kind = kind_of(instruction)
            added = code.convert(value(instruction.inputs[0]), kind)
            if mask is not None:
                added = code.select(Value(mask, BOOL), added, identity(code, instruction, kind))
            slot = slots[id(instruction)]
            before = code.value(kind, f"load {code.type(kind)}, ptr {slot}, align 64")
            code.line(f"store {code.type(kind)} {combine(code, instruction, before, added).text}, ptr {slot}, align 64")
        for a in targets:
            if a in plan.outputs and self._is_map(a):
                place, stride = at(a)
                code.store(value(a), place, stride, mask)

    def _across(self, instruction: Instruction, kind: np.dtype, slot: str) -> Value:
        """One value from the lanes of an accumulator, in every lane."""
        code = self.code
        value = code.value(kind, f"load {code.type(kind)}, ptr {slot}, align 64")
        lanes, element = code.lanes, code.type(kind).split()[-1].rstrip(">")
        while code.lanes > 1:  # one half and the other; a rotation by one lane of float64 was not always translated well
            half, whole = code.lanes // 2, code.type(kind)
            halves = []
            for start in (0, half):
                order = ", ".join([f"i32 {start + k}" for k in range(half)])
                halves.append(code.value(kind, f"shufflevector {whole} {value.text}, {whole} poison, <{half} x i32> <{order}>"))
            code.lanes = half
            value = combine(code, instruction, *halves)
        total = code.plain(f"extractelement {code.type(kind)} {value.text}, i64 0")
        code.lanes = lanes
        return Value(code.spread(total, element), kind)

    # -- column reductions

    def _columns_begin(self, pointers: dict[Array, str], every: bool) -> dict[Array, str]:
        """Set sums to what they begin with: all of them (``every``), or those of one index of the outer axes. Returns the pointers, those of
        results at the sums of this chunk."""
        plan, code = self.plan, self.code
        self.slots: dict[Array, str] = {}
        for r in plan.columns:
            y = r.output
            if not any([plan.stride(y, axis) for axis in (*plan.middle, *plan.inside)]):
                kind = total_kind(r.instruction)
                self.slots[y] = code.stack(code.type(kind))
                code.line(f"store {code.type(kind)} {identity(code, r.instruction, kind).text}, ptr {self.slots[y]}, align 64")
                if self.partial:
                    pointers[y] = self._partial(r)
                continue
            varying = [axis for axis in plan.inside if plan.stride(y, axis)]
            if every:
                operand = plan.find(y)
                if not same_strides(y.shape, operand.strides, contiguous(y.shape, y.dtype.itemsize)):
                    raise Unsupported("a sum over rows into an array that does not lie in order")
                if self.partial:
                    pointers[y] = self._partial(r)
                elements = y.size
            else:
                if len(varying) != 1 or plan.stride(y, varying[0]) != y.dtype.itemsize:
                    raise Unsupported("a sum over rows into an array that does not lie in order")
                elements = plan.length(varying[0])
            self._fill(pointers[y], identity(code, r.instruction, y.dtype), elements)
        return pointers

    def _fill(self, pointer: str, value: Value, elements: int) -> None:
        code, step = self.code, value.dtype.itemsize
        self._vectors(
            self.number(elements, "size"),
            lambda i, mask: code.store(value, code.moved(pointer, code.whole("mul", i, step)), step, mask),
        )

    def _partial(self, r: ColumnReduction) -> str:
        """Scratch memory for the sums of this chunk."""
        size = r.output.size * r.output.dtype.itemsize + 63 & ~63
        base = self.word(self.scratch, "ptr")
        self.scratch_words.append(len(self.words) - 1)
        self.partial_places.append((r, self.scratch, size))
        self.scratch += size * PARTIALS
        return self.code.moved(base, self.code.whole("mul", "%chunk", self.word(size)))

    def _accumulate(self, r: ColumnReduction, value: Value, pointers: dict[Array, str]) -> None:
        """Add a value that is equal in all lanes to a sum."""
        code = self.code
        if r.output in self.slots:
            lane = Value(f"<{', '.join([f'i1 {int(k == 0)}' for k in range(code.lanes)])}>", BOOL)
            value = code.select(lane, value, identity(code, r.instruction, value.dtype))
            self._accumulate_lanes(r, value)
            return
        before = code.load(pointers[r.output], value.dtype, 0)
        code.store(combine(code, r.instruction, before, value), pointers[r.output], 0)

    def _accumulate_lanes(self, r: ColumnReduction, value: Value) -> None:
        """Add a vector to the lanes of a sum."""
        code, kind, slot = self.code, total_kind(r.instruction), self.slots[r.output]
        before = code.value(kind, f"load {code.type(kind)}, ptr {slot}, align 64")
        after = combine(code, r.instruction, before, code.convert(value, kind))
        code.line(f"store {code.type(kind)} {after.text}, ptr {slot}, align 64")

    def _columns_end(self, pointers: dict[Array, str]) -> None:
        """Store sums that were kept in registers."""
        for r in self.plan.columns:
            if r.output in self.slots:
                total = self._across(r.instruction, total_kind(r.instruction), self.slots[r.output])
                self.code.store(self.code.convert(total, r.output.dtype), pointers[r.output], 0)
