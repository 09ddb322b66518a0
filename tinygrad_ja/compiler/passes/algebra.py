"""Algebra: simpler expressions with the same value.

Rules that change no bit, whatever the elements (infinities and NaN among them):

    x * 1, x / 1, x ** 1, x - 0, x + (-0)      ->  x
    -(-x), cast to the same dtype, max(x, x)   ->  x               where(c, x, x)  ->  x
    x + (-y)  ->  x - y                        x - (-y)  ->  x + y
    x / 2ⁿ    ->  x * 2⁻ⁿ                      (x * a) * 2ⁿ  ->  x * (a 2ⁿ)
    sum over axes of size 1  ->  a reshape     a slice of a join  ->  its piece
    a join of neighbouring slices  ->  one slice, or the whole
    Σ of pieces, each placed into zeros where the others are not  ->  a join     (the gradient of x[0], x[1], ...)

Rules that change at most the sign of a zero: ``x + 0 -> x`` and ``-(x - y) -> y - x``. They hold only where that sign cannot be seen in
another way, by a division by the result, ``arctan2`` and the like (``_seen_signs`` looks for such readers).

Rules that round once instead of several times: ``x ** 2 -> x * x``, the sum of n equal elements as a product with n, a sum of sums as one.

A rule that adds in another order: the sum of two tables of zeros to which rows were added is one table to which the rows of both are (the
gradient of an embedding that is read twice).

>>> from ..program import Array, Instruction, Program
>>> x, y, z = (Array((2,), "f4", name) for name in "xyz")
>>> steps = [Instruction("map", "negative", [x], [y]), Instruction("map", "negative", [y], [z])]
>>> algebra(Program([x], instructions=steps, results=[z])).results
[x]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from ..program import Array, Instruction, Program
from .dead_code import dead_code
from .rewriting import Writer, cut_axis, is_plain, size_of
from .stacking import Stacks
from .sums import sums_of


def algebra(program: Program) -> Program:
    """The program with simpler expressions."""
    return dead_code(_Algebra(program).run())


class _Algebra:
    def __init__(self, program: Program) -> None:
        self.writer = Writer(program)
        self.signs = _seen_signs(program)
        self.readers: dict[Array, int] = {}
        whole = set(program.wanted)
        for instruction in program.instructions:
            for array in instruction.inputs:
                self.readers[array] = self.readers.get(array, 0) + 1
            if instruction.function != "slice":
                whole.update(instruction.inputs)
        for array in program.wanted:
            self.readers[array] = self.readers.get(array, 0) + 2
        self.sliced = {a for a in self.readers if a not in whole}  # read in slices only
        sums = sums_of(program).values()
        self.sums = {found.output: found.terms for found in sums}
        self.partial = {add.output for found in sums for add in found.adds} - set(self.sums)

    def run(self) -> Program:
        writer = self.writer
        for instruction in writer:
            rule = _RULES.get(instruction.function if instruction.kind == "map" else instruction.kind)
            made = rule(self, instruction) if rule and instruction.output.size else None
            if made is None or made.shape != instruction.output.shape or made.dtype != instruction.output.dtype:
                writer.keep(instruction)
            else:
                writer.replace(instruction.output, made)
        return writer.finished()

    # -- what rules ask and make

    def is_value(self, array: Array, value: float) -> bool:
        """Whether all elements of an array are known to be that number, with its sign."""
        known = self.writer.uniform(array)
        return known is not None and known == value and (value != 0 or bool(np.signbit(known)) == (math.copysign(1, value) < 0))

    def map(self, function: str, like: Array, *inputs: Array) -> Array:
        """An element-wise function with a result like ``like``."""
        return self.writer.add("map", function, inputs, like.shape, like.dtype)

    def scalar(self, value: Any, dtype: Any) -> Array:
        """A 0-d constant."""
        return self.writer.constant(value, dtype)

    def negated(self, array: Array) -> Array | None:
        """x, where ``array`` is -x."""
        maker = self.writer.maker(array, "map", "negative")
        return maker.inputs[0] if maker is not None else None

    def hidden(self, array: Array) -> bool:
        """Whether the sign of a zero in ``array`` makes no difference."""
        return array not in self.signs


# ---- who sees the sign of a zero -----------------------------------------------------------------

_HIDES = set(
    "equal not_equal less less_equal greater greater_equal isfinite isnan isinf logical_and logical_or logical_not logical_xor "
    "exp exp2 cos cosh absolute abs fabs square argmax argmin any all".split()
)
_SEES = set("reciprocal arctan2 copysign signbit power float_power remainder fmod nextafter".split())


def _seen_signs(program: Program) -> set[Array]:
    """The arrays in which the sign of a zero may be told by a reader, from the last instruction to the first."""
    seen: set[Array] = set()
    constants = program.constants
    for instruction in reversed(program.instructions):
        function, inputs = instruction.function, instruction.inputs
        if instruction.kind in ("call", "group") or function in _SEES:
            seen.update(inputs)
        elif function in ("divide", "true_divide", "floor_divide"):
            seen.add(inputs[1])
            if instruction.output in seen:
                seen.add(inputs[0])
        elif function in _HIDES or (function == "multiply" and inputs[0] is inputs[1]):
            continue
        elif function in ("add", "subtract") and any([a in constants and bool(np.all(constants[a] != 0)) for a in inputs]):
            continue  # zero of either sign plus another number is that number
        elif any([output in seen for output in instruction.outputs]):
            seen.update(inputs)
    return seen


# ---- element-wise functions ----------------------------------------------------------------------


def _add(self: _Algebra, i: Instruction) -> Array | None:
    for x, y in (i.inputs, i.inputs[::-1]):
        if self.is_value(y, -0.0) or (self.is_value(y, 0.0) and (x.dtype.kind in "iu" or self.hidden(i.output))):
            return x
    for x, y in (i.inputs, i.inputs[::-1]):
        positive = self.negated(y)
        if positive is not None and i.output.dtype.kind == "f":
            return self.map("subtract", i.output, x, positive)
    inner = i.output in self.partial
    return _add_rows(self, i) or (None if inner else _add_places(self, i))


def _add_rows(self: _Algebra, i: Instruction) -> Array | None:
    """The sum of two tables of zeros to which rows were added, as one table to which the rows of both are, unless the rows are many."""
    tables = [self.writer.maker(a, "add_at", "take") for a in i.inputs]
    if None in tables or any([self.readers.get(a, 0) > 1 for a in i.inputs]) or i.inputs[0] is i.inputs[1]:
        return None
    (x, at_x), (y, at_y) = [table.inputs for table in tables if table is not None]
    first = [table.options["axis"] == 0 and table.output.shape == i.output.shape for table in tables if table is not None]
    if not all(first) or at_x.dtype != at_y.dtype or x.dtype != y.dtype or 2 * (x.nbytes + y.nbytes) > 3 * i.output.nbytes:
        return None
    writer, row = self.writer, i.output.shape[1:]
    rows = [writer.reshape(a, (at.size, *row)) for a, at in ((x, at_x), (y, at_y))]
    indices = [writer.reshape(at, (at.size,)) for at in (at_x, at_y)]
    return writer.add("add_at", "take", (writer.join(rows), writer.join(indices)), i.output.shape, i.output.dtype, axis=0)


def _subtract(self: _Algebra, i: Instruction) -> Array | None:
    x, y = i.inputs
    if self.is_value(y, 0.0):
        return x
    positive = self.negated(y)
    return self.map("add", i.output, x, positive) if positive is not None and i.output.dtype.kind == "f" else None


def _multiply(self: _Algebra, i: Instruction) -> Array | None:
    for x, y in (i.inputs, i.inputs[::-1]):
        if self.is_value(y, 1):
            return x
        if self.is_value(y, -1) and x.shape == i.output.shape:
            return self.map("negative", i.output, x)
        scale = self.writer.uniform(y)
        inner = self.writer.maker(x, "map", "multiply")
        if scale is None or inner is None or x.dtype != i.output.dtype or x.dtype.kind != "f" or y.ndim:
            continue
        for source, factor in (inner.inputs, inner.inputs[::-1]):
            other = self.writer.uniform(factor)
            if other is not None and not factor.ndim and (_is_power_of_two(scale) or _is_power_of_two(other)):
                both = float(scale) * float(other)
                if both == both.__class__(x.dtype.type(both)) and source.shape == i.output.shape:
                    return self.map("multiply", i.output, source, self.scalar(both, x.dtype))
    return None


def _is_power_of_two(value: Any) -> bool:
    return math.isfinite(value) and abs(math.frexp(value)[0]) == 0.5 and 2.0**-20 <= abs(value) <= 2.0**20


def _divide(self: _Algebra, i: Instruction) -> Array | None:
    x, y = i.inputs
    if self.is_value(y, 1):
        return x
    divisor = self.writer.uniform(y)
    if divisor is not None and i.output.dtype.kind == "f" and x.dtype == i.output.dtype and _is_power_of_two(divisor):
        return self.map("multiply", i.output, x, self.scalar(1 / float(divisor), x.dtype))
    return None


def _power(self: _Algebra, i: Instruction) -> Array | None:
    x, y = i.inputs
    if self.is_value(y, 1):
        return x
    return self.map("multiply", i.output, x, x) if self.is_value(y, 2) and x.dtype == i.output.dtype else None


def _negative(self: _Algebra, i: Instruction) -> Array | None:
    (x,) = i.inputs
    inner = self.writer.maker(x, "map", "subtract")
    if inner is not None and i.output.dtype.kind == "f" and self.hidden(i.output) and self.readers.get(x, 0) < 2:
        return self.map("subtract", i.output, inner.inputs[1], inner.inputs[0])
    return self.negated(x)


def _cast(self: _Algebra, i: Instruction) -> Array | None:
    (x,) = i.inputs
    if x.dtype == i.output.dtype:
        return x
    inner = self.writer.maker(x, "map", "cast")
    if inner is None:
        return None
    (source,) = inner.inputs
    if source.dtype.kind == x.dtype.kind == i.output.dtype.kind and source.dtype.itemsize <= x.dtype.itemsize:
        return source if source.dtype == i.output.dtype else self.map("cast", i.output, source)
    return None


def _where(self: _Algebra, i: Instruction) -> Array | None:
    condition, x, y = i.inputs
    known = self.writer.uniform(condition)
    return x if x is y or (known is not None and known) else y if known is not None else None


def _same(self: _Algebra, i: Instruction) -> Array | None:
    x, y = i.inputs
    return x if x is y else None


# ---- reductions ----------------------------------------------------------------------------------


def _reduce(self: _Algebra, i: Instruction) -> Array | None:
    (x,), writer = i.inputs, self.writer
    axes = [a % x.ndim for a in i.options["axes"]]
    plain = i.function in ("sum", "max", "min", "prod") and 0 not in x.shape
    if plain and x.dtype == i.output.dtype and all([x.shape[a] == 1 for a in axes]):
        return writer.reshape(x, i.output.shape)
    spread = writer.maker(x, "view", "broadcast")
    if spread is not None and plain and i.function != "prod" and x.dtype == i.output.dtype:
        source = writer.reshape(spread.inputs[0], (1,) * (x.ndim - spread.inputs[0].ndim) + spread.inputs[0].shape)
        repeated = [a for a in axes if source.shape[a] == 1 and x.shape[a] > 1]
        if repeated:
            return _sum_of_equals(self, i, source, axes, math.prod([x.shape[a] for a in repeated]))
    inner = writer.maker(x, "reduce", i.function)
    if inner is None or not plain or self.readers.get(x, 0) > 1 or inner.inputs[0].dtype != i.output.dtype:
        return None
    (source,) = inner.inputs
    first = [a % source.ndim for a in inner.options["axes"]]
    left = list(range(source.ndim)) if inner.options.get("keepdims") else [a for a in range(source.ndim) if a not in first]
    both = sorted({*first, *[left[a] for a in axes]})
    shape = [n for a, n in enumerate(source.shape) if a not in both]
    total = writer.add("reduce", i.function, (source,), shape, i.output.dtype, axes=tuple(both), keepdims=False)
    return writer.reshape(total, i.output.shape)


def _sum_of_equals(self: _Algebra, i: Instruction, source: Array, axes: list[int], count: int) -> Array:
    """A sum over axes along which ``count`` elements are equal: the elements once, times their number."""
    writer = self.writer
    left = [a for a in axes if source.shape[a] > 1]
    shape = [1 if a in axes else n for a, n in enumerate(source.shape)]
    made = source
    if left:
        made = writer.add("reduce", i.function, (source,), shape, source.dtype, axes=tuple(left), keepdims=True)
    if i.function == "sum":
        made = self.map("multiply", made, made, self.scalar(count, made.dtype))
    lengths = [1 if a in axes else n for a, n in enumerate(i.inputs[0].shape)]
    return writer.reshape(writer.broadcast(made, lengths), i.output.shape)


# ---- slices, joins and places --------------------------------------------------------------------


def _view(self: _Algebra, i: Instruction) -> Array | None:
    (x,), key = i.inputs, i.options.get("key")
    maker = self.writer.made.get(x)
    if i.function != "slice" or maker is None or not is_plain(key, x.ndim):
        return None
    if maker.kind == "join":
        return _slice_of_join(self, i, maker, key) or _slices_of_pieces(self, i, maker, key)
    if maker.kind == "place" and maker.inputs[0].shape == i.output.shape and maker.options["key"] == key:
        return maker.inputs[0]
    return None


def _slice_of_join(self: _Algebra, i: Instruction, join: Instruction, key: Any) -> Array | None:
    axis = join.options["axis"] % i.output.ndim
    part = key[axis]
    if part.step != 1:
        return None
    start, pieces = 0, []
    for piece in join.inputs:
        stop = start + piece.shape[axis]
        if start < part.stop and stop > part.start:
            pieces.append((piece, start))
        start = stop
    first, offset = pieces[0]
    if len(pieces) == 1:
        inside = (*key[:axis], slice(part.start - offset, part.stop - offset, 1), *key[axis + 1 :])
        return self.writer.slice(first, inside)
    return None


def _slices_of_pieces(self: _Algebra, i: Instruction, join: Instruction, key: Any) -> Array | None:
    """A slice across all pieces, as the join of slices, if nobody reads the whole join."""
    axis = join.options["axis"] % i.output.ndim
    whole = (key[axis].start, key[axis].stop) == (0, join.output.shape[axis])
    if not whole or join.output not in self.sliced or any([p.shape[axis] == 0 for p in join.inputs]):
        return None
    pieces = [self.writer.slice(p, (*key[:axis], slice(0, p.shape[axis], 1), *key[axis + 1 :])) for p in join.inputs]
    return self.writer.join(pieces, axis)


def _join(self: _Algebra, i: Instruction) -> Array | None:
    """Neighbouring slices of one array, one behind the other, are one slice."""
    axis, writer = i.options["axis"] % i.output.ndim, self.writer
    pieces: list[Array] = []
    for piece in i.inputs:
        maker = writer.maker(piece, "join")
        nested = maker is not None and maker.options["axis"] % piece.ndim == axis and self.readers.get(piece, 0) < 2
        pieces.extend(maker.inputs if nested and maker is not None else (piece,))
    if size_of(i.output.shape[:axis]) == 1 and i.output.size:
        block = Stacks(writer, gathers=False).block(pieces)
        if block is not None:
            return writer.reshape(block, i.output.shape)
    runs: list[Array] = []
    for piece in pieces:
        if piece.shape[axis]:
            both = _as_one(writer, runs[-1], piece, axis) if runs else None
            runs[-1:] = [both] if both is not None else [*runs[-1:], piece]
    if len(runs) == len(i.inputs):
        return None
    return writer.join(runs, axis)


def _as_one(writer: Writer, a: Array, b: Array, axis: int) -> Array | None:
    """The slice that two neighbouring slices of one array are together."""
    first, second = writer.maker(a, "view", "slice"), writer.maker(b, "view", "slice")
    if first is None or second is None or first.inputs[0] is not second.inputs[0]:
        return None
    (x,), one, two = first.inputs, first.options["key"], second.options["key"]
    if not is_plain(one, x.ndim) or not is_plain(two, x.ndim) or one[axis].step != 1 or two[axis].step != 1:
        return None
    if one[axis].stop != two[axis].start or one[:axis] != two[:axis] or one[axis + 1 :] != two[axis + 1 :]:
        return None
    return writer.slice(x, (*one[:axis], slice(one[axis].start, two[axis].stop, 1), *one[axis + 1 :]))


def _add_places(self: _Algebra, i: Instruction) -> Array | None:
    """Σ of places. Those that do not overlap along an axis are one join, with zeros in the gaps."""
    writer = self.writer
    terms = [writer.now(a) for a in self.sums.get(i.output, i.inputs)]
    places: dict[int, list[Instruction]] = {}
    others = []
    for term in terms:
        place = writer.maker(term, "place")
        axis = _placed_axis(place) if place is not None else None
        if place is None or axis is None or any([a.shape != i.output.shape or a.dtype != i.output.dtype for a in i.inputs]):
            others.append(term)
        else:
            places.setdefault(axis, []).append(place)
    made = [_joined_places(self, i.output, axis, found) for axis, found in places.items() if _fit(i.output, axis, found)]
    if not made:
        return None
    others += [p.output for axis, found in places.items() if not _fit(i.output, axis, found) for p in found]
    total, *rest = [*others, *made]
    for term in rest:
        total = self.map("add", i.output, total, term)
    return total


def _fit(output: Array, axis: int, places: list[Instruction]) -> bool:
    """Whether several places do not overlap, and fill at least half of the axis."""
    parts = sorted([p.options["key"][axis] for p in places], key=lambda part: part.start)
    apart = all([one.stop <= two.start for one, two in pairwise(parts)])
    return len(parts) > 1 and apart and 2 * sum([part.stop - part.start for part in parts]) >= output.shape[axis]


def _placed_axis(place: Instruction) -> int | None:
    key = place.options["key"]
    if not is_plain(key, place.output.ndim):
        return None
    lengths = tuple([len(range(s.start, s.stop, s.step)) for s in key])
    return cut_axis(key, place.output.shape) if lengths == place.inputs[0].shape else None


def _joined_places(self: _Algebra, output: Array, axis: int, places: list[Instruction]) -> Array:
    """Places that do not overlap as a join, with zeros in the gaps."""
    pieces, end = [], 0

    def gap(length: int) -> None:
        if length:
            shape = (*output.shape[:axis], length, *output.shape[axis + 1 :])
            pieces.append(self.writer.broadcast(self.scalar(0, output.dtype), shape))

    for place in sorted(places, key=lambda p: p.options["key"][axis].start):
        part = place.options["key"][axis]
        gap(part.start - end)
        pieces.append(place.inputs[0])
        end = part.stop
    gap(output.shape[axis] - end)
    return self.writer.join(pieces, axis)


_RULES: dict[str, Callable[[_Algebra, Instruction], Array | None]] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "divide": _divide,
    "true_divide": _divide,
    "power": _power,
    "negative": _negative,
    "cast": _cast,
    "where": _where,
    "maximum": _same,
    "minimum": _same,
    "reduce": _reduce,
    "view": _view,
    "join": _join,
}
