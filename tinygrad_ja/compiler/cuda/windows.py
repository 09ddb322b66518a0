"""Convolutions and pooling in kernels and products, so that a step with them is one graph.

A convolution writes the windows of the input as columns and multiplies them by the weight, picture by picture, so that the result lies as it
should. Its derivative with respect to the input is a product that makes columns, and a kernel in which each element of the input collects
what belongs to it; that with respect to the weight is one product over all pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..program import Array, Instruction
from ..strides import reshaped
from .elements import accumulated_type, cast, loaded, storable, value_type
from .kernel import THREADS, Kernel, Launch, Memory, Unsupported, check_dtypes
from .maps import copy_kernel, map_kernel
from .products import Product, product_launches
from .space import contiguous, offset, split

Step = Launch | Product
Sizes = tuple[int, ...]


def call_kernels(memory: Memory, instruction: Instruction) -> list[Step]:
    """The steps of a call of an operator with windows. Raises Unsupported for other calls."""
    call = instruction.options["run"]
    mark, arguments = getattr(call, "mark", None), getattr(call, "arguments", None)
    make = _OPERATORS.get(getattr(mark, "name", ""))
    if make is None or arguments is None:
        raise Unsupported("runs as the eager operator")
    given = {name: _argument(instruction, value) for name, value in arguments.items()}
    outputs = list(instruction.outputs)
    check_dtypes([a for a in (*given.values(), *outputs) if isinstance(a, Array)])
    if any([0 in a.shape for a in (*instruction.inputs, *outputs)]):
        raise Unsupported("no elements")
    return make(memory, outputs, **given)


def _argument(instruction: Instruction, value: Any) -> Any:
    place = getattr(value, "place", None)
    if place is None or not hasattr(value, "is_number"):
        return value
    if value.is_number:
        raise Unsupported("a number among the arguments of the operator")
    return instruction.inputs[place]


# ---- views -------------------------------------------------------------------------------------------


def _seen(memory: Memory, x: Array, shape: Sequence[int], steps: list[Step]) -> Array:
    """``x`` in another shape: as it lies if that is possible, else copied to scratch memory by one more step."""
    strides = reshaped(x.shape, memory.places[x].strides, tuple(shape), x.dtype.itemsize)
    if strides is None:
        made = memory.new(x.shape, x.dtype)
        steps += copy_kernel(memory, x, made)
        return _seen(memory, made, shape, steps)
    seen = Array(shape, x.dtype)
    memory.places[seen] = memory.places[x]._replace(strides=strides)
    return seen


def _transposed(memory: Memory, x: Array, axes: Sequence[int]) -> Array:
    place = memory.places[x]
    seen = Array([x.shape[axis] for axis in axes], x.dtype)
    memory.places[seen] = place._replace(strides=tuple([place.strides[axis] for axis in axes]))
    return seen


def _product(memory: Memory, a: Array, b: Array, y: Array) -> list[Step]:
    return product_launches(memory, Instruction("matmul", "matmul", [a, b], [y]))


def _floating(*arrays: Array) -> None:
    if any([a.dtype != arrays[0].dtype or a.dtype.kind != "f" for a in arrays]):
        raise Unsupported("windows of numbers that are no floats of one dtype")


# ---- kernels -----------------------------------------------------------------------------------------


def _declared(letters: Sequence[tuple[str, Sequence[int]]]) -> tuple[list[str], int]:
    """Lines that find the coordinates of element ``i`` of an array whose axes are these, and how many elements there are."""
    shape = [n for _, sizes in letters for n in sizes]
    names = [f"{letter}{axis}" for letter, sizes in letters for axis in range(len(sizes))]
    total = math.prod(shape)
    wide = total >= 2**31
    kind = "unsigned long long" if wide else "unsigned int"
    lines = [f"const {kind} i = ({kind})block * {THREADS} + thread;", f"if (i >= {total}) return;"]
    lines += [f"{line};" for line in split("i", shape, "z", wide)]
    return [*lines, *[f"const int {name} = (int)z{axis};" for axis, name in enumerate(names)]], total


def _columns(
    memory: Memory, x: Array, kernel: Sizes, size: Sizes, geometry: Sequence[Sizes], by_channel: bool
) -> tuple[Array, list[Step]]:
    """The windows of x (N, C, *shape): (N, C·|kernel|, |size|), or with ``by_channel`` (C·|kernel|, N·|size|)."""
    batch, channels, *shape = x.shape
    rows, columns = channels * math.prod(kernel), math.prod(size)
    made = memory.new((rows, batch * columns) if by_channel else (batch, rows, columns), x.dtype)
    stride, before, dilation = geometry
    k = Kernel(memory)
    inner = [("c", [channels]), ("k", kernel)]
    order = [*inner, ("n", [batch])] if by_channel else [("n", [batch]), *inner]
    lines, total = _declared([*order, ("o", size)])
    inside = []
    for d, n in enumerate(shape):
        lines.append(f"const int q{d} = o{d} * {stride[d]} + k{d} * {dilation[d]} - {before[d]};")
        inside.append(f"q{d} >= 0 && q{d} < {n}")
    where = offset(["n0", "c0", *[f"q{d}" for d in range(len(shape))]], memory.strides(x, x.shape), True)
    kind = value_type(x.dtype)
    lines.append(f"{kind} v = 0;")
    lines.append(f"if ({' && '.join(inside)}) v = {loaded(f'{k.pointer(x)}[{where}]', x.dtype)};")
    lines.append(f"{k.pointer(made, True)}[i] = {storable('v', x.dtype)};")
    return made, [k.launch(lines, -(-total // THREADS))]


def _collected(
    memory: Memory, columns: Array, y: Array, bias: Array | None, kernel: Sizes, size: Sizes, geometry: Sequence[Sizes]
) -> list[Step]:
    """y (N, C, *shape) from columns (N, C·|kernel|, |size|): each element adds up those that are copies of it."""
    stride, before, dilation = geometry
    k = Kernel(memory)
    lines, total = _declared([("n", [y.shape[0]]), ("c", [y.shape[1]]), ("q", y.shape[2:])])
    kind = accumulated_type(y.dtype)
    source = k.pointer(columns)
    start = "0"
    if bias is not None:
        place = offset(["c0"], memory.strides(bias, bias.shape))
        start = loaded(f"{k.pointer(bias)}[{place}]", y.dtype)
    lines.append(f"{kind} a = {start};")
    for d in range(len(size)):
        lines.append(f"for (int k{d} = 0; k{d} < {kernel[d]}; ++k{d}) {{")
        lines.append(f"  const int t{d} = q{d} + {before[d]} - k{d} * {dilation[d]}, o{d} = t{d} / {stride[d]};")
        lines.append(f"  if (t{d} < 0 || t{d} % {stride[d]} != 0 || o{d} >= {size[d]}) continue;")
    steps = contiguous((*y.shape[:2], *kernel, *size))
    names = ["n0", "c0", *[f"k{d}" for d in range(len(size))], *[f"o{d}" for d in range(len(size))]]
    lines.append(f"a += {loaded(f'{source}[{offset(names, steps, True)}]', y.dtype)};")
    lines += ["}"] * len(size)
    where = offset(["n0", "c0", *[f"q{d}" for d in range(len(size))]], memory.strides(y, y.shape), True)
    lines.append(f"{k.pointer(y, True)}[{where}] = {storable(f'({value_type(y.dtype)})a', y.dtype)};")
    return [k.launch(lines, -(-total // THREADS))]


# ---- convolutions ------------------------------------------------------------------------------------


def _by_group(memory: Memory, x: Array, groups: int, rows: int, axis: int, steps: list[Step]) -> Array:
    """The axis of channels (or rows of columns) as (groups, rows); without groups as it is."""
    if groups == 1:
        return x
    return _seen(memory, x, (*x.shape[:axis], groups, rows, *x.shape[axis + 1 :]), steps)


def _convolution(
    memory: Memory,
    outputs: Sequence[Array],
    input: Array,
    weight: Array,
    bias: Array | None,
    size: Sizes,
    stride: Sizes,
    before: Sizes,
    dilation: Sizes,
    groups: int,
) -> list[Step]:
    (y,) = outputs
    _floating(input, weight, y)
    steps: list[Step] = []
    batch, made, kernel, positions = input.shape[0], weight.shape[0], weight.shape[2:], math.prod(size)
    plain = math.prod(kernel) == 1 and set(stride) == {1} and not any(before)
    if plain and tuple(size) == input.shape[2:]:
        columns = _seen(memory, input, (batch, input.shape[1], positions), steps)
    else:
        columns, more = _columns(memory, input, kernel, size, (stride, before, dilation), False)
        steps += more
    flat = _seen(memory, weight, (made, math.prod(weight.shape[1:])), steps)
    target = Array((batch, made, positions), y.dtype)
    strides = reshaped(y.shape, memory.places[y].strides, target.shape, y.dtype.itemsize)
    apart = strides is None
    if strides is None:
        target = memory.new(target.shape, y.dtype)
    else:
        memory.places[target] = memory.places[y]._replace(strides=strides)
    steps += _product(
        memory,
        _by_group(memory, flat, groups, made // groups, 0, steps),
        _by_group(memory, columns, groups, columns.shape[1] // groups, 1, steps),
        _by_group(memory, target, groups, made // groups, 1, steps),
    )
    if bias is not None:
        sum_ = Array(target.shape, y.dtype)
        memory.places[sum_] = memory.places[target]
        steps += map_kernel(
            memory, [Instruction("map", "add", [target, _seen(memory, bias, (made, 1), steps)], [sum_])], [sum_]
        )
    if apart:
        steps += copy_kernel(memory, _seen(memory, target, y.shape, steps), y)
    return steps


def _conv_transpose(
    memory: Memory,
    outputs: Sequence[Array],
    input: Array,
    weight: Array,
    bias: Array | None,
    size: Sizes,
    stride: Sizes,
    before: Sizes,
    dilation: Sizes,
    groups: int,
) -> list[Step]:
    (y,) = outputs
    _floating(input, weight, y)
    steps: list[Step] = []
    batch, channels, kernel, shape = input.shape[0], input.shape[1], weight.shape[2:], input.shape[2:]
    positions, rows = math.prod(shape), math.prod(weight.shape[1:])
    flat = _by_group(memory, _seen(memory, weight, (channels, rows), steps), groups, channels // groups, 0, steps)
    turned = _transposed(memory, flat, (*range(flat.ndim - 2), flat.ndim - 1, flat.ndim - 2))
    given = _by_group(memory, _seen(memory, input, (batch, channels, positions), steps), groups, channels // groups, 1, steps)
    columns = memory.new((batch, groups * rows, positions), y.dtype)
    steps += _product(memory, turned, given, _by_group(memory, columns, groups, rows, 1, steps))
    return [*steps, *_collected(memory, columns, y, bias, kernel, shape, (stride, before, dilation))]


def _conv_weight(
    memory: Memory,
    outputs: Sequence[Array],
    input: Array,
    other: Array,
    kernel: Sizes,
    stride: Sizes,
    before: Sizes,
    dilation: Sizes,
    groups: int,
) -> list[Step]:
    (y,) = outputs
    _floating(input, other, y)
    steps: list[Step] = []
    made, size = other.shape[1], other.shape[2:]
    columns, more = _columns(memory, input, kernel, size, (stride, before, dilation), True)
    steps += more
    turned = _transposed(memory, other, (1, 0, *range(2, other.ndim)))
    rows = _seen(memory, turned, (made, columns.shape[1]), steps)
    turned_columns = _by_group(memory, columns, groups, columns.shape[0] // groups, 0, steps)
    right = _transposed(
        memory, turned_columns, (*range(turned_columns.ndim - 2), turned_columns.ndim - 1, turned_columns.ndim - 2)
    )
    target = memory.new((made, columns.shape[0] // groups), y.dtype)
    left = _by_group(memory, rows, groups, made // groups, 0, steps)
    steps += _product(memory, left, right, _by_group(memory, target, groups, made // groups, 0, steps))
    return [*steps, *copy_kernel(memory, _seen(memory, target, y.shape, steps), y)]


# ---- pooling -----------------------------------------------------------------------------------------


def _window_max(memory: Memory, outputs: Sequence[Array], input: Array, windows: Sequence[Any]) -> list[Step]:
    values, *taps = outputs
    lead = input.ndim - len(windows)
    k = Kernel(memory)
    lines, total = _declared([("n", input.shape[:lead]), ("o", [w.count for w in windows])])
    kind = value_type(input.dtype)
    lowest = f"-({kind})INFINITY" if input.dtype.kind == "f" else f"({kind}){np.iinfo(input.dtype).min}"
    lines += [f"{kind} best = {lowest};", "int tap = 0;"]
    source, number = k.pointer(input), ""
    for d, (w, n) in enumerate(zip(windows, input.shape[lead:])):
        lines.append(f"for (int k{d} = {w.taps - 1}; k{d} >= 0; --k{d}) {{")
        lines.append(f"  const int q{d} = o{d} * {w.stride} + k{d} * {w.dilation} - {w.padding};")
        lines.append(f"  if (q{d} < 0 || q{d} >= {n}) continue;")
        number = f"({number} * {w.taps} + k{d})" if number else f"k{d}"
    names = [*[f"n{d}" for d in range(lead)], *[f"q{d}" for d in range(len(windows))]]
    where = offset(names, memory.strides(input, input.shape), True)
    lines.append(f"const {kind} v = {loaded(f'{source}[{where}]', input.dtype)};")
    lines.append(f"if (v >= best || v != v) {{ best = v; tap = {number}; }}")
    lines += ["}"] * len(windows)
    out = [*[f"n{d}" for d in range(lead)], *[f"o{d}" for d in range(len(windows))]]
    for a, code in ((values, "best"), *[(a, "tap") for a in taps]):
        where = offset(out, memory.strides(a, a.shape), True)
        made = storable("best", a.dtype) if code == "best" else f"({value_type(a.dtype)})tap"
        lines.append(f"{k.pointer(a, True)}[{where}] = {made};")
    return [k.launch(lines, -(-total // THREADS))]


def _from_taps(
    memory: Memory, outputs: Sequence[Array], input: Array, taps: Array, size: Sizes, windows: Sequence[Any]
) -> list[Step]:
    (y,) = outputs
    lead = y.ndim - len(windows)
    k = Kernel(memory)
    lines, total = _declared([("n", y.shape[:lead]), ("q", y.shape[lead:])])
    kind = accumulated_type(y.dtype)
    source, at, number = k.pointer(input), k.pointer(taps), ""
    lines.append(f"{kind} a = 0;")
    for d, w in enumerate(windows):
        lines.append(f"for (int k{d} = 0; k{d} < {w.taps}; ++k{d}) {{")
        lines.append(f"  const int t{d} = q{d} + {w.padding} - k{d} * {w.dilation}, o{d} = t{d} / {w.stride};")
        lines.append(f"  if (t{d} < 0 || t{d} % {w.stride} != 0 || o{d} >= {w.count}) continue;")
        number = f"({number} * {w.taps} + k{d})" if number else f"k{d}"
    names = [*[f"n{d}" for d in range(lead)], *[f"o{d}" for d in range(len(windows))]]
    where, there = [offset(names, memory.strides(x, x.shape), True) for x in (input, taps)]
    value = cast(loaded(f"{source}[{where}]", input.dtype), input.dtype, y.dtype)
    lines.append(f"if ((int){at}[{there}] == {number}) a += {value};")
    lines += ["}"] * len(windows)
    out = offset([*[f"n{d}" for d in range(lead)], *[f"q{d}" for d in range(len(windows))]], memory.strides(y, y.shape), True)
    lines.append(f"{k.pointer(y, True)}[{out}] = {storable(f'({value_type(y.dtype)})a', y.dtype)};")
    return [k.launch(lines, -(-total // THREADS))]


_OPERATORS: dict[str, Callable[..., list[Step]]] = {
    "convolution": _convolution,
    "conv_transpose": _conv_transpose,
    "conv_weight": _conv_weight,
    "window_max": _window_max,
    "from_taps": _from_taps,
}
