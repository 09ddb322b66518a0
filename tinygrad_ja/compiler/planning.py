"""Where each array of a program lies: one arena for all that instructions make, whose memory is used again once its last reader has run.

- A view lies in the buffer of what it is a view of, and keeps that alive. Only a reshape of elements that do not lie in order copies.
- What is joined is computed straight into its part of the join's buffer, so stacking costs no copy; of two joins of the same arrays one is a
  view of the other, and so is a join of slices that lie side by side already.
- A new value of the state is computed straight in the state's own buffer, where nobody reads the old value any more.
- The output of an element-wise instruction may take the place of an input that nobody reads afterwards.
- Everything else gets a place in the arena where nothing else lives at the time (``arena.py``).

>>> from tinygrad_ja.compiler.program import Array, Instruction, Program
>>> x, y, z = [Array((4, 4), "f4", name) for name in "xyz"]
>>> add = Instruction("map", "add", [x, x], [y])
>>> layout = plan_buffers(Program([x], instructions=[add, Instruction("map", "exp", [y], [z])], results=[z]))
>>> layout.arena[y], layout.arena[z], layout.nbytes
(0, 0, 64)

What the layout leaves to executors:

- Given arrays are not in the arena. An argument's place is its own C-contiguous buffer: an executor copies what a call brings into one, or
  reads it where it lies if it is contiguous (and overlaps no array of the state). Constants are C-contiguous too, and places in state
  arrays have their real strides.
- Arrays inside of a group have no places.
- Results are copied out after the last instruction, before the writes that are not among ``done_writes``. Those take effect together: what
  is written may lie in an array of the state that is written itself.
- An output of a group may lie where an input lies only if the group has no row reductions, both fill its space, and no instruction of the
  body after the output's reads the input.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .arena import Block, most_alive, packed
from .program import Array, Instruction, Program
from .strides import bounds_of, contiguous, run_of, same_strides, source_strides, view_of

SHORT_RUN = 256
"""Bytes: what others read too is not scattered in shorter pieces than this over a join."""


class Place(NamedTuple):
    """Where an array lies: in whose buffer, how many bytes behind its first element, and the bytes from one element to the next along each
    axis. Offsets in a state array count from the address of its first element."""

    root: Array
    offset: int
    strides: tuple[int, ...]


class Layout(NamedTuple):
    """The places of a program's arrays.

    places: of every array outside of groups. arena: the offset of every buffer in the arena. nbytes: of the arena. peak: the most bytes that
    live at one time. copies: view instructions that have to copy. done_writes: entries of ``program.writes`` that need no copy.
    """

    places: dict[Array, Place]
    arena: dict[Array, int]
    nbytes: int
    peak: int
    copies: list[Instruction]
    done_writes: list[tuple[Array, Array]]

    def unjoined(self, join: Instruction) -> list[tuple[Array, Place]]:
        """The inputs of a join that still have to be copied, and where to."""
        parts = zip(join.inputs, _parts(join, self.places[join.output]))
        return [(part, place) for part, place in parts if part.size and not self._lies_at(part, place)]

    def _lies_at(self, array: Array, place: Place) -> bool:
        own = self.places[array]
        return own[:2] == place[:2] and same_strides(array.shape, own.strides, place.strides)


def plan_buffers(program: Program, *, reuse: bool = True) -> Layout:
    """Lay out a program's arrays. reuse: False gives each buffer memory of its own, to compare with."""
    planner = _Planner(program)
    planner.place_given()
    planner.place_writes()
    planner.place_joins()
    planner.place_made()
    return planner.allocate(reuse)


# ---- joins ----


def _parts(join: Instruction, place: Place) -> Iterator[Place]:
    """Where each input of a join belongs."""
    axis = join.options["axis"] % join.output.ndim
    start = 0
    for part in join.inputs:
        yield Place(place.root, place.offset + start * place.strides[axis], place.strides)
        start += part.shape[axis]


# ---- which input an instruction may overwrite ----------------------------------------------------------


def same_index(instruction: Instruction, x: Array, y: Array) -> bool:
    """Whether each element of the output y is made after the last look at the input x, but for the element of x at the same index."""
    if x.shape != y.shape:
        return False
    if instruction.kind == "map":
        return True
    if instruction.kind != "group":
        return False
    body, space = instruction.options["body"], tuple(instruction.options["space"])
    used = {a for inner in body for a in inner.inputs}
    if y.shape != space or any([inner.kind == "reduce" and inner.output in used for inner in body]):
        return False
    made = next(k for k, inner in enumerate(body) if y in inner.outputs)
    return body[made].kind == "map" and not any([x in inner.inputs for inner in body[made + 1 :]])


# ---- the plan ----------------------------------------------------------------------------------------


class _Planner:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.end = len(program.instructions)
        self.places: dict[Array, Place] = {}
        self.copies: list[Instruction] = []
        self.done: list[tuple[Array, Array]] = []
        self.users = program.users()
        self.at = {id(instruction): i for i, instruction in enumerate(program.instructions)}
        self.maker = {a: instruction for instruction in program.instructions for a in instruction.outputs}
        self.last = dict.fromkeys(program.wanted, self.end)
        for instruction in reversed(program.instructions):
            for a in instruction.inputs:
                self.last.setdefault(a, self.at[id(instruction)])

    def is_view(self, array: Array) -> bool:
        """Whether a view instruction made it."""
        return array in self.maker and self.maker[array].kind == "view"

    def base(self, array: Array) -> Array:
        """What a view of a view is a view of."""
        while self.is_view(array):
            (array,) = self.maker[array].inputs
        return array

    # -- given arrays

    def place_given(self) -> None:
        """Each in its own buffer."""
        for a in self.program.given:
            real = self.program.state.get(a)
            strides = contiguous(a.shape, a.dtype.itemsize) if real is None else tuple(real.strides)
            self.places[a] = Place(a, 0, strides)

    # -- new values of the state

    def place_writes(self) -> None:
        """Compute new values in the state's buffers where no later reader wants the old ones."""
        bounds = {a: bounds_of(real) for a, real in self.program.state.items()}
        self.near = {a: {b for b in bounds if _meet(bounds[a], bounds[b])} for a in bounds}
        self.readers: dict[Array, list[tuple[int, Array]]] = {a: [] for a in bounds}
        for i, instruction in enumerate(self.program.instructions):
            for x in instruction.inputs:
                if self.base(x) in bounds:
                    self.readers[self.base(x)].append((i, x))
        for x in self.program.wanted:
            if self.base(x) in bounds:
                self.readers[self.base(x)].append((self.end, x))
        for old, new in self.program.writes:
            twice = [other for other, _ in self.program.writes if other in self.near[old]]
            scattered = [n > 1 and step == 0 for n, step in zip(old.shape, self.places[old].strides)]
            same = old.shape == new.shape and old.dtype == new.dtype
            if len(twice) == 1 and same and not any(scattered) and self.put(new, self.places[old]):
                self.done.append((old, new))

    def _wanted_by(self, state: Array, made: Array, place: Place) -> bool:
        """Whether somebody reads the memory of a state array when ``made``, or what comes later, overwrites it."""
        i = self.at[id(self.maker[made])]
        for other in self.near[state]:
            for j, x in self.readers[other]:
                if j > i:
                    return True
                if j == i and not (
                    same_index(self.maker[made], x, made) and self._forward(x) == place and self._is_only(i, other, x)
                ):
                    return True
        return False

    def _is_only(self, i: int, state: Array, x: Array) -> bool:
        return all([a is x for a in self.program.instructions[i].inputs if self.base(a) is state])

    def _forward(self, view: Array) -> Place | None:
        """The place of an array, or of a view of one, that has its place already; None where there is none."""
        if not self.is_view(view):
            return self.places.get(view)
        instruction = self.maker[view]
        source = self._forward(instruction.inputs[0])
        seen = None if source is None else view_of(instruction, source.strides)
        return None if source is None or seen is None else Place(source.root, source.offset + seen[0], seen[1])

    # -- joins

    def place_joins(self) -> None:
        """Compute what is joined in its place: in the outermost join, and in the longest of those that join the same."""
        self.joins = [instruction for instruction in self.program.instructions if instruction.kind == "join"]
        self.containing: dict[Array, list[Instruction]] = {}
        for join in self.joins:
            for part in dict.fromkeys(join.inputs):
                self.containing.setdefault(part, []).append(join)
        self.seen: set[int] = set()
        for join in reversed(self.joins):
            self._place_join(join)

    def _place_join(self, join: Instruction) -> None:
        if id(join) in self.seen:
            return
        self.seen.add(id(join))
        for part in join.inputs:
            for other in self.containing[part]:
                if other.output.size > join.output.size:
                    self._place_join(other)
        for outer in self._joins_of(join.output):
            self._place_join(outer)
        out = join.output
        if out not in self.places:
            self.places[out] = self._lies_already(join) or Place(out, 0, contiguous(out.shape, out.dtype.itemsize))
        for part, there in zip(join.inputs, _parts(join, self.places[out])):
            if part.dtype == out.dtype:
                self.put(part, there)
        for part in join.inputs:  # when all parts are in place: another join of the same parts would take the rest of them
            inner = self.maker.get(self.base(part))
            if inner is not None and inner.kind == "join":
                self._place_join(inner)

    def _joins_of(self, array: Array) -> Iterator[Instruction]:
        """The joins that take it, or a view of it."""
        for user in self.users.get(array, []):
            if user.kind == "join":
                yield user
            elif user.kind == "view":
                yield from self._joins_of(user.output)

    def _lies_already(self, join: Instruction) -> Place | None:
        """Where the parts of a join lie side by side because another one has them too, or because they are slices of one array."""
        axis = join.options["axis"] % join.output.ndim
        first, second = self._forward(join.inputs[0]), self._forward(join.inputs[min(1, len(join.inputs) - 1)])
        if first is None or second is None or first.root in self.program.state:
            return None
        step = (second.offset - first.offset) // max(join.inputs[0].shape[axis], 1)
        if step < 0 or any([part.dtype != join.output.dtype for part in join.inputs]):
            return None
        place = Place(
            first.root, first.offset, (*first.strides[:axis], step or first.strides[axis], *first.strides[axis + 1 :])
        )
        for part, there in zip(join.inputs, _parts(join, place)):
            own = self._forward(part)
            if own is None or own[:2] != there[:2] or not same_strides(part.shape, own.strides, there.strides):
                return None
        return place

    def put(self, array: Array, place: Place) -> bool:
        """Let ``array`` be computed at ``place``, if it can; whether it is there."""
        strides = place.strides
        while self.is_view(array):
            instruction = self.maker[array]
            wanted = source_strides(instruction, strides)
            if wanted is None:
                return False
            strides, (array,) = wanted, instruction.inputs
        if array not in self.maker or array in self.places or array.size == 0:
            return False
        there = Place(place.root, place.offset, strides)
        if place.root in self.program.state:
            if self._wanted_by(place.root, array, there):
                return False
        elif not self._may_be_scattered(array, strides):
            return False
        if not self._views_stay(array, strides, contiguous(array.shape, array.dtype.itemsize)):
            return False
        self.places[array] = there
        return True

    def _may_be_scattered(self, array: Array, strides: tuple[int, ...]) -> bool:
        """Whether pieces of it that lie together are long enough for those that make and read it."""
        itemsize = array.dtype.itemsize
        run = run_of(array.shape, strides, itemsize)
        if run == array.nbytes:
            return True
        in_order = not array.shape or array.shape[-1] == 1 or strides[-1] == itemsize
        readers = [user for user in self.users.get(array, []) if user.kind not in ("view", "join")]
        return in_order and (run >= SHORT_RUN or not readers)

    def _views_stay(self, array: Array, strides: tuple[int, ...], usual: tuple[int, ...]) -> bool:
        """Whether no view of it has to copy only because it lies elsewhere than usual."""
        for user in self.users.get(array, []):
            if user.kind == "view":
                seen, without = view_of(user, strides), view_of(user, usual)
                if without is not None and (seen is None or not self._views_stay(user.output, seen[1], without[1])):
                    return False
        return True

    # -- everything else

    def place_made(self) -> None:
        """Views in what they show, all else in buffers of their own."""
        for instruction in self.program.instructions:
            for a in instruction.outputs:
                seen = None
                if instruction.kind == "view":
                    source = self.places[instruction.inputs[0]]
                    seen = view_of(instruction, source.strides)
                    if seen is None:
                        self.copies.append(instruction)
                    else:
                        self.places[a] = Place(source.root, source.offset + seen[0], seen[1])
                if seen is None and a not in self.places:
                    self.places[a] = Place(a, 0, contiguous(a.shape, a.dtype.itemsize))

    def allocate(self, reuse: bool) -> Layout:
        """Give every buffer its offset in the arena, in the order in which they are first written to."""
        births: list[list[Array]] = [[] for _ in range(self.end)]
        death: dict[Array, int] = {}
        seen: set[Array] = set(self.program.given)
        for i, instruction in enumerate(self.program.instructions):
            for a in instruction.outputs:
                root = self.places[a].root
                if root not in seen:
                    seen.add(root)
                    births[i].append(root)
                death[root] = max(death.get(root, i), self.last.get(a, i))
        blocks: list[Block] = []
        block_of: dict[Array, int] = {}
        live: set[Array] = set()
        for i, roots in enumerate(births):
            for root in roots:
                before = self._heir(i, root, live, death) if reuse else None
                if before is None:
                    block_of[root] = len(blocks)
                    blocks.append(Block(i, death[root] if reuse else self.end, root.nbytes))
                else:
                    number = block_of[root] = block_of[before]
                    blocks[number] = blocks[number]._replace(death=death[root])
                    live.discard(before)
                live.add(root)
            live -= {root for root in live if death[root] == i}
        offsets, nbytes = packed(blocks)
        arena = {root: offsets[number] for root, number in block_of.items()}
        return Layout(self.places, arena, nbytes, most_alive(blocks), self.copies, self.done)

    def _heir(self, i: int, root: Array, live: set[Array], death: dict[Array, int]) -> Array | None:
        """The buffer that ``root`` takes over from an input of the instruction that makes it."""
        instruction = self.program.instructions[i]
        if root not in instruction.outputs or not root.size:
            return None
        own = self.places[root]
        for x in instruction.inputs:
            place = self.places[x]
            block = place.root
            if block not in live or death[block] != i or block.nbytes != root.nbytes or place.offset:
                continue
            beside = [a for a in instruction.inputs if self.places[a].root is block]
            if all(
                [
                    same_index(instruction, a, root)
                    and a.dtype.itemsize == root.dtype.itemsize
                    and self.places[a].offset == 0
                    and same_strides(root.shape, self.places[a].strides, own.strides)
                    for a in beside
                ]
            ):
                return block
        return None


class Pool:
    """Memory that several programs use, one at a time: nothing in an arena or in scratch memory is needed after the run. Where a program
    needs more than there is, the next piece is at least twice as large, so that all pieces together are less than twice the last one.

    >>> pool = Pool()
    >>> first, smaller, larger = pool.take("arena", 1000), pool.take("arena", 500), pool.take("arena", 1200)
    >>> smaller is first, larger is first, larger.nbytes
    (True, False, 2000)
    """

    def __init__(self) -> None:
        self._pieces: dict[str, np.ndarray] = {}

    def take(self, purpose: str, nbytes: int) -> np.ndarray:
        """So many bytes or more; a program may take one piece for each purpose."""
        piece = self._pieces.get(purpose)
        if piece is None or nbytes > piece.nbytes:
            piece = self._pieces[purpose] = np.empty(max(nbytes, 2 * piece.nbytes if piece is not None else 0), np.uint8)
        return piece


# ---- memory of the state -----------------------------------------------------------------------------


def _meet(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] < b[1] and b[0] < a[1]
