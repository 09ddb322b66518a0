"""Views: no copies, chains of views as one, and element-wise functions on whole contiguous arrays.

Reshaping, transposing, slicing and broadcasting move no element, but they stand between instructions that would fit together, and a function
of a transposed array walks through memory in long steps. So views go as far down the program as they can:

    exp(x.T)                        ->  exp(x).T
    (x @ w).reshape(n, t, d) + b    ->  ((x @ w) + b).reshape(n, t, d)
    sum(y.reshape(n, t, d), axis 2) ->  sum(y, axis 1).reshape(n, t)
    x * broadcast(g)                ->  x * g           where x alone has the whole shape
    exp(broadcast(g))               ->  broadcast(exp(g))

Views of views become one; keys with ints, None and ... become plain slices and a reshape; copies go, since no array ever changes.

>>> from ..program import Array, Instruction, Program
>>> x, t, y = Array((2, 3), "f4", "x"), Array((3, 2), "f4", "t"), Array((3, 2), "f4", "y")
>>> steps = [Instruction("view", "transpose", [x], [t], {"axes": (1, 0)}), Instruction("map", "exp", [t], [y])]
>>> [i.function for i in views(Program([x], instructions=steps, results=[y])).instructions]
['exp', 'transpose']
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..program import Array, Instruction, Program
from .dead_code import dead_code
from .rewriting import Writer, canonical, is_plain, size_of


def views(program: Program) -> Program:
    """The program with views merged and moved behind element-wise functions and reductions."""
    writer = _ViewWriter(program)
    for instruction in writer:
        rule = _RULES.get(instruction.function if instruction.kind == "view" else instruction.kind)
        made = rule(writer, instruction) if rule else None
        if made is None:
            writer.keep(instruction)
        else:
            writer.replace(instruction.output, made)
    return dead_code(writer.finished())


class _ViewWriter(Writer):
    """``whole``: arrays that somebody reads in another way than by a reshape."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.whole = set(program.wanted)
        for instruction in program.instructions:
            if instruction.function != "reshape":
                self.whole.update(instruction.inputs)


def is_contiguous(writer: Writer, array: Array) -> bool:
    """Whether the elements surely lie one behind the other, so that any reshape is a view."""
    maker = writer.made.get(array)
    while maker is not None and maker.kind == "view":
        (x,) = maker.inputs
        if maker.function == "slice":
            key = maker.options["key"]
            if not x.ndim or not is_plain(key, x.ndim) or key[0].step != 1:
                return False
            if not all([(s.start, s.stop) == (0, n) for s, n in zip(key[1:], x.shape[1:])]):
                return False
        elif maker.function != "reshape":
            return False
        maker = writer.made.get(x)
    return True


# ---- views of views ------------------------------------------------------------------------------


def _reshape(writer: Writer, instruction: Instruction) -> Array | None:
    (x,), shape = instruction.inputs, instruction.output.shape
    spread = writer.maker(x, "view", "broadcast")
    if spread is not None and spread.inputs[0].size == 1:
        return writer.broadcast(writer.reshape(spread.inputs[0], ()), shape)
    return writer.reshape(x, shape)


def _transpose(writer: Writer, instruction: Instruction) -> Array | None:
    (x,) = instruction.inputs
    axes = tuple([a % x.ndim for a in instruction.options["axes"]])
    inner = writer.maker(x, "view")
    if inner is not None and inner.function == "transpose":
        (x,), axes = inner.inputs, tuple([inner.options["axes"][a] for a in axes])
    elif inner is not None and inner.function == "broadcast":
        source = _padded(writer, inner.inputs[0], x.ndim)
        return writer.broadcast(transposed(writer, source, axes), instruction.output.shape)
    return transposed(writer, x, axes)


def transposed(writer: Writer, x: Array, axes: Sequence[int]) -> Array:
    """``x`` transposed; as a reshape where only axes of size 1 move."""
    moving = [a for a in axes if x.shape[a] != 1]
    if moving == sorted(moving):
        return writer.reshape(x, [x.shape[a] for a in axes])
    return writer.transpose(x, axes)


def _padded(writer: Writer, x: Array, ndim: int) -> Array:
    """``x`` with axes of size 1 in front."""
    return writer.reshape(x, (1,) * (ndim - x.ndim) + x.shape)


def _slice(writer: Writer, instruction: Instruction) -> Array | None:
    (x,) = instruction.inputs
    key, final = instruction.options["key"], instruction.output.shape
    if not x.size or not instruction.output.size:
        return None
    inner = writer.maker(x, "view")
    if is_plain(key, x.ndim):
        if (inner is None or inner.function == "reshape") and x.shape != final:
            return None
    else:
        key, final = canonical(key, x.shape)
        if not is_plain(key, x.ndim):
            return None
    if inner is not None and inner.function == "slice" and is_plain(inner.options["key"], x.ndim):
        whole = []
        for outer, first in zip(key, inner.options["key"]):
            start = first.start + outer.start * first.step
            last = first.start + (outer.stop - 1) * first.step
            whole.append(slice(start, last + 1, first.step * outer.step))
        cut = writer.slice(inner.inputs[0], tuple(whole))
    elif inner is not None and inner.function == "transpose":
        axes = inner.options["axes"]
        back: list[slice] = [slice(0, 0)] * x.ndim
        for axis, part in zip(axes, key):
            back[axis] = part
        cut = writer.transpose(writer.slice(inner.inputs[0], tuple(back)), axes)
    elif inner is not None and inner.function == "broadcast":
        source = _padded(writer, inner.inputs[0], x.ndim)
        narrow = tuple([slice(0, 1, 1) if n == 1 else part for part, n in zip(key, source.shape)])
        shape = [len(range(*part.indices(n))) for part, n in zip(key, x.shape)]
        cut = writer.broadcast(writer.slice(source, narrow), shape)
    else:
        cut = writer.slice(x, key)
    return writer.reshape(cut, final)


def _broadcast(writer: Writer, instruction: Instruction) -> Array | None:
    (x,) = instruction.inputs
    inner = writer.maker(x, "view")
    if inner is not None and inner.function == "broadcast":
        (x,) = inner.inputs
    elif inner is not None and inner.function == "reshape":
        (source,) = inner.inputs
        if (1,) * (x.ndim - source.ndim) + source.shape == x.shape:
            x = source
    if x.size == instruction.output.size:
        return writer.reshape(x, instruction.output.shape)
    return writer.broadcast(x, instruction.output.shape)


def _place(writer: Writer, instruction: Instruction) -> Array | None:
    (x,), output = instruction.inputs, instruction.output
    key, _ = canonical(instruction.options["key"], output.shape)
    if key == instruction.options["key"] or not x.size or not is_plain(key, output.ndim):
        return None
    lengths = [len(range(s.start, s.stop, s.step)) for s in key]
    if size_of(lengths) != x.size:
        return None
    return writer.add("place", "place", (writer.reshape(x, lengths),), output.shape, output.dtype, key=key)


# ---- element-wise functions ----------------------------------------------------------------------


def _map(writer: _ViewWriter, instruction: Instruction) -> Array | None:
    output = instruction.output
    if instruction.function == "copy":
        (x,) = instruction.inputs
        return x if x.dtype == output.dtype else None
    functions = {maker.function for a in instruction.inputs if (maker := writer.maker(a, "view"))}
    if not functions or not output.size:
        return None
    inputs = list(instruction.inputs)
    if "broadcast" in functions:
        sources = [_source(writer, a, "broadcast") or a for a in inputs]
        shape = np.broadcast_shapes(*[a.shape for a in sources])
        if size_of(shape) < output.size:
            small = _same_function(writer, instruction, sources, shape)
            return writer.broadcast(small, output.shape)
        if shape == output.shape:
            inputs = sources
    made = None
    if "transpose" in functions:
        made = _transpose_behind(writer, instruction, inputs)
    if made is None and "reshape" in functions:
        made = _reshape_behind(writer, instruction, inputs)
    if made is not None:
        return made
    if inputs != list(instruction.inputs):
        return _same_function(writer, instruction, inputs, output.shape)
    return None


def _same_function(writer: Writer, instruction: Instruction, inputs: Sequence[Array], shape: Sequence[int]) -> Array:
    return writer.add(instruction.kind, instruction.function, inputs, shape, instruction.output.dtype, **instruction.options)


def _source(writer: Writer, array: Array, function: str) -> Array | None:
    """What ``array`` is a view of by that function."""
    maker = writer.maker(array, "view", function)
    return maker.inputs[0] if maker is not None else None


def _transpose_behind(writer: _ViewWriter, instruction: Instruction, inputs: Sequence[Array]) -> Array | None:
    output = instruction.output
    axes = next(
        (
            m.options["axes"]
            for a in inputs
            if (m := writer.maker(a, "view", "transpose")) and a.size == output.size and a.ndim == output.ndim
        ),
        None,
    )
    if axes is None:
        return None
    back = sorted(range(len(axes)), key=axes.__getitem__)
    moved = []
    for a in inputs:
        maker = writer.maker(a, "view", "transpose")
        if maker is not None and maker.options["axes"] == axes:
            moved.append(maker.inputs[0])
        elif a.size == 1:
            moved.append(writer.reshape(a, ()))
        elif a.size < output.size:
            moved.append(transposed(writer, _padded(writer, a, output.ndim), back))
        else:
            return None
    shape = [output.shape[a] for a in back]
    new = Instruction(instruction.kind, instruction.function, moved, (Array(shape, output.dtype),), instruction.options)
    made = _reshape_behind(writer, new, moved) or _same_function(writer, instruction, moved, shape)
    return writer.transpose(made, axes)


def _reshape_behind(writer: _ViewWriter, instruction: Instruction, inputs: Sequence[Array]) -> Array | None:
    output = instruction.output
    full = [a for a in inputs if a.size == output.size]
    sources = [s for a in full if (s := _source(writer, a, "reshape")) is not None and s in writer.made]
    shapes = {s.shape for s in sources} - {output.shape}
    agree = len(shapes) == 1 and len(sources) == len(full)
    # where they do not agree, only if nobody wants the present shape: or two views would be moved to and fro
    free = output not in writer.whole
    shape = next((shape for shape in sorted(shapes) if agree or (free and len(shape) < output.ndim)), None)
    if shape is None:
        return None
    moved = []
    for a in inputs:
        new = shape if a.size == output.size else _fitted(a.shape, output.shape, shape)
        if new is None or (a.size == output.size and not is_contiguous(writer, a)):
            return None
        moved.append((a, new))
    made = _same_function(writer, instruction, [writer.reshape(a, new) for a, new in moved], shape)
    return writer.reshape(made, output.shape)


def common_ends(old: Sequence[int], new: Sequence[int]) -> int:
    """How many axes at the end two shapes have in common.

    >>> common_ends((4, 5, 6), (20, 6))
    1
    """
    count = 0
    while count < min(len(old), len(new)) and old[-1 - count] == new[-1 - count]:
        count += 1
    return count


def _fitted(small: tuple[int, ...], old: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape in which an array that broadcasts to ``old`` broadcasts to its reshape ``new``, or None."""
    if size_of(small) == 1:
        return ()
    ends = common_ends(old, new)
    small = (1,) * (len(old) - len(small)) + small
    front, back = small[: len(old) - ends], small[len(old) - ends :]
    if size_of(front) == 1:
        return back
    return new[: len(new) - ends] + back if front == old[: len(old) - ends] else None


# ---- reductions ----------------------------------------------------------------------------------


def _reduce(writer: Writer, instruction: Instruction) -> Array | None:
    (x,) = instruction.inputs
    maker = writer.maker(x, "view")
    if maker is None or maker.inputs[0] not in writer.made or not x.size:
        return None
    (source,) = maker.inputs
    axes = [a % x.ndim for a in instruction.options["axes"]]
    if maker.function == "transpose":
        order = maker.options["axes"]
        return _reduced(
            writer, instruction, source, [order[a] for a in axes], [a for i, a in enumerate(order) if i not in axes]
        )
    if maker.function != "reshape":
        return None
    ends = common_ends(x.shape, source.shape)
    front = x.ndim - ends
    lost = [a for a in axes if a < front and x.shape[a] > 1]
    shift = source.ndim - x.ndim
    kept = [a + shift for a in axes if a >= front]
    if not lost:
        return _reduced(writer, instruction, source, kept) if kept else None
    if len(lost) == len([n for n in x.shape[:front] if n > 1]) and not instruction.function.startswith("arg"):
        return _reduced(writer, instruction, source, [*range(source.ndim - ends), *kept])
    return None


def _reduced(
    writer: Writer, instruction: Instruction, x: Array, axes: Sequence[int], order: Sequence[int] | None = None
) -> Array:
    """The same reduction of ``x`` over ``axes``, brought into the shape of the instruction's output. ``order``: the order of the axes
    that are left, where it is not that of ``x``."""
    left = [a for a in range(x.ndim) if a not in axes]
    keep = bool(instruction.options.get("keepdims"))
    made = writer.add(
        "reduce",
        instruction.function,
        (x,),
        [1 if a in axes else n for a, n in enumerate(x.shape) if keep or a not in axes],
        instruction.output.dtype,
        axes=tuple(sorted(axes)),
        keepdims=keep,
    )
    if order is not None and list(order) != left:
        made = writer.reshape(made, [x.shape[a] for a in left])
        made = transposed(writer, made, [left.index(a) for a in order])
    return writer.reshape(made, instruction.output.shape)


_RULES: dict[str, Callable[[_ViewWriter, Instruction], Array | None]] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "broadcast": _broadcast,
    "map": _map,
    "reduce": _reduce,
    "place": _place,
}
