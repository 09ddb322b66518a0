"""Kernels that make each element by itself: chains of element-wise functions, copies, ``place``, ``take``, ``add_at``, scans, and
products of integers, which cuBLAS lacks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..planning import Place
from ..program import Array, Instruction
from .elements import HALF, accumulated_type, cast, loaded, storable, stored_type, value_type
from .kernel import THREADS, Access, Kernel, Launch, Memory, Unsupported, check_dtypes, externals, needed, section
from .space import contiguous, is_wide, merged, offset, split, vector_width


def _index(total: int, wide: bool) -> list[str]:
    kind = "unsigned long long" if wide else "unsigned int"
    return [
        f"const {kind} i = ({kind})block * {THREADS} + thread;",
        f"if (i >= {total}{'ull' if wide else 'u'}) return;",
    ]


def _blocks(total: int) -> int:
    return max(1, -(-total // THREADS))


def map_kernel(memory: Memory, body: Sequence[Instruction], stored: Sequence[Array]) -> list[Launch]:
    """Maps whose stored outputs all have one shape: one thread for each few neighbours of the space."""
    space = stored[0].shape
    if 0 in space:
        return []
    maps = needed(body, stored)
    kernel = Kernel(memory)
    read = externals(maps)
    check_dtypes([*read, *stored])
    constants = {a: text for a in read if (text := memory.literal(a)) is not None}
    read = [a for a in read if a not in constants]
    kernel.names.update(constants)
    arrays = [*read, *stored]
    shape, steps = merged(space, [memory.strides(a, space) for a in arrays])
    addresses = [memory.address(a) for a in arrays]
    operands = [(s, a.dtype.itemsize, memory.alignment(where)) for a, s, where in zip(arrays, steps, addresses)]
    width = vector_width(shape, operands) if all([s[-1] == 1 for s in steps[len(read) :]]) else 1
    wide = is_wide(shape, steps)
    total = math.prod(shape) // width
    coordinates = [f"d{axis}" for axis in range(len(shape))]
    lines = [*_index(total, wide), *[f"{line};" for line in split("i", (*shape[:-1], shape[-1] // width), "d", wide)]]
    if width > 1:
        coordinates[-1] = f"({coordinates[-1]} * {width})"
    access = {
        a: Access(kernel.pointer(a, a in stored), offset(coordinates, s, wide), s[-1] == 1) for a, s in zip(arrays, steps)
    }
    lines += section(kernel, {a: access[a] for a in read}, maps, {a: access[a] for a in stored}, width)
    return [kernel.launch(lines, _blocks(total))]


def copy_kernel(memory: Memory, source: Array, target: Array) -> list[Launch]:
    """The elements of ``source``, broadcast and cast, to the place of ``target``, which keeps its name in the program."""
    stand_in = Array(target.shape, target.dtype)
    memory.places[stand_in] = memory.places[target]
    return map_kernel(memory, [Instruction("map", "cast", [source], [stand_in])], [stand_in])


def reshape_copy(memory: Memory, source: Array, target: Array) -> list[Launch]:
    """A reshape that moves elements: the target's memory, seen in the source's shape where that is possible."""
    seen = Array(source.shape, target.dtype)
    place = memory.places[target]
    steps = contiguous(target.shape)
    real = memory.strides(target, target.shape)
    if any([n > 1 and a != b for n, a, b in zip(target.shape, steps, real)]):
        raise Unsupported("a reshape into memory with gaps")
    itemsize = target.dtype.itemsize
    memory.places[seen] = Place(place.root, place.offset, tuple([step * itemsize for step in contiguous(source.shape)]))
    return copy_kernel(memory, source, seen)


def place_kernel(memory: Memory, instruction: Instruction) -> list[Launch]:
    """Zeros with the input at a key of slices and integers."""
    (x,), y = instruction.inputs, instruction.output
    if 0 in y.shape:
        return []
    check_dtypes([x, y])
    key = instruction.options["key"]
    parts = list(key) if isinstance(key, tuple) else [key]
    if any([isinstance(part, (np.ndarray, list, type(None), bool, np.bool_)) for part in parts]):
        raise Unsupported("zeros with values at indices")
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (y.ndim - len(parts) + 1)
    parts += [slice(None)] * (y.ndim - len(parts))
    kernel = Kernel(memory)
    to, source = memory.strides(y, y.shape), None
    inner_shape = tuple([len(range(*part.indices(n))) for part, n in zip(parts, y.shape) if isinstance(part, slice)])
    source = memory.strides(x, inner_shape)
    wide = is_wide(y.shape, [to])
    lines = [*_index(y.size, wide), *[f"{line};" for line in split("i", y.shape, "d", wide)]]
    inside, coordinates, axis = ["true"], [], 0
    for d, (part, n) in enumerate(zip(parts, y.shape)):
        if not isinstance(part, slice):
            inside.append(f"d{d} == {int(part) % n}")
            continue
        begin, stop, step = part.indices(n)
        count = len(range(begin, stop, step))
        low, high = (begin, begin + (count - 1) * step)[:: 1 if step > 0 else -1]
        if (low, high, abs(step)) != (0, n - 1, 1):
            inside.append(f"(int)d{d} >= {low} && (int)d{d} <= {high}" if count else "false")
        if abs(step) > 1:
            inside.append(f"(d{d} - {low}) % {abs(step)} == 0")
        coordinates.append(f"(((int)d{d} - {begin}) / {step})" if (begin, step) != (0, 1) else f"d{d}")
        axis += 1
    value = loaded(f"{kernel.pointer(x)}[{offset(coordinates, source, wide)}]", x.dtype)
    kind = value_type(y.dtype)
    lines.append(f"{kind} v = 0;")
    lines.append(f"if ({' && '.join(inside)}) v = {cast(value, x.dtype, y.dtype)};")
    lines.append(f"{kernel.pointer(y, True)}[{offset([f'd{d}' for d in range(y.ndim)], to, wide)}] = {storable('v', y.dtype)};")
    return [kernel.launch(lines, _blocks(y.size))]


def _row_index(indices: Array, code: str, n: int) -> list[str]:
    """Lines that make ``row`` an index within 0 .. n-1: counted from the end if negative, wrapped as CuPy does if out of range."""
    return [
        f"long long row = (long long){code};",
        f"row = (row % {n} + {n}) % {n};" if indices.dtype.kind == "i" else f"row = row % {n};",
    ]


def take_kernel(memory: Memory, instruction: Instruction) -> list[Launch]:
    """Rows, or elements, at indices along an axis."""
    (x, indices), y = instruction.inputs, instruction.output
    if 0 in y.shape:
        return []
    check_dtypes([x, y])
    if indices.dtype.kind not in "iu":
        raise Unsupported("indices that are no integers")
    kernel = Kernel(memory)
    axis = instruction.options["axis"] % x.ndim
    rows, to = memory.strides(x, x.shape), memory.strides(y, y.shape)
    coordinates = [f"d{d}" for d in range(y.ndim)]
    if instruction.function == "take":
        at = offset(coordinates[axis : axis + indices.ndim], memory.strides(indices, indices.shape), True)
        source = [*coordinates[:axis], "row", *coordinates[axis + indices.ndim :]]
        steps = rows
    else:
        at = offset(coordinates, memory.strides(indices, y.shape), True)
        source = [*coordinates[:axis], "row", *coordinates[axis + 1 :]]
        steps = tuple([0 if n == 1 and d != axis else step for d, (n, step) in enumerate(zip(x.shape, rows))])
    wide = is_wide(y.shape, [to])
    lines = [*_index(y.size, wide), *[f"{line};" for line in split("i", y.shape, "d", wide)]]
    lines += _row_index(indices, f"{kernel.pointer(indices)}[{at}]", x.shape[axis])
    value = loaded(f"{kernel.pointer(x)}[{offset(source, steps, True)}]", x.dtype)
    made = storable(cast(value, x.dtype, y.dtype), y.dtype)
    lines.append(f"{kernel.pointer(y, True)}[{offset(coordinates, to, wide)}] = {made};")
    return [kernel.launch(lines, _blocks(y.size))]


_ATOMIC = {"f": "float", "d": "double", "e": "__half", "i": "int", "I": "unsigned int"}


def add_at_kernel(memory: Memory, instruction: Instruction) -> list[Launch]:
    """Zeros to which rows, or elements, are added at indices along an axis: the additions run in any order."""
    (x, indices), y = instruction.inputs, instruction.output
    if 0 in y.shape:
        return []
    check_dtypes([x, y])
    if indices.dtype.kind not in "iu":
        raise Unsupported("indices that are no integers")
    kind = _ATOMIC.get(y.dtype.char) or ("unsigned long long" if y.dtype.char in "lLqQ" else None)
    if kind is None:
        raise Unsupported(f"atomic additions of {y.dtype}")
    zeros = fill_kernel(memory, y)
    if 0 in x.shape:
        return zeros
    kernel = Kernel(memory)
    axis = instruction.options["axis"] % y.ndim
    source, to = memory.strides(x, x.shape), memory.strides(y, y.shape)
    coordinates = [f"d{d}" for d in range(x.ndim)]
    if instruction.function == "take":
        at = offset(coordinates[axis : axis + indices.ndim], memory.strides(indices, indices.shape), True)
        target = [*coordinates[:axis], "row", *coordinates[axis + indices.ndim :]]
    else:
        at = offset(coordinates, memory.strides(indices, x.shape), True)
        target = [*coordinates[:axis], "row", *coordinates[axis + 1 :]]
    wide = is_wide(x.shape, [source])
    lines = [*_index(x.size, wide), *[f"{line};" for line in split("i", x.shape, "d", wide)]]
    lines += _row_index(indices, f"{kernel.pointer(indices)}[{at}]", y.shape[axis])
    value = cast(loaded(f"{kernel.pointer(x)}[{offset(coordinates, source, wide)}]", x.dtype), x.dtype, y.dtype)
    value = storable(value, y.dtype) if y.dtype == HALF else f"({kind})({value})"
    lines.append(f"atomicAdd({kernel.pointer(y, True, kind)} + ({offset(target, to, True)}), {value});")
    return [*zeros, kernel.launch(lines, _blocks(x.size))]


def fill_kernel(memory: Memory, y: Array) -> list[Launch]:
    """Zeros."""
    kernel = Kernel(memory)
    shape, (steps,) = merged(y.shape, [memory.strides(y, y.shape)])
    wide = is_wide(shape, [steps])
    lines = [*_index(y.size, wide), *[f"{line};" for line in split("i", shape, "d", wide)]]
    where = offset([f"d{d}" for d in range(len(shape))], steps, wide)
    lines.append(f"{kernel.pointer(y, True)}[{where}] = {storable('0', y.dtype)};")
    return [kernel.launch(lines, _blocks(y.size))]


def scan_kernel(memory: Memory, instruction: Instruction) -> list[Launch]:
    """Running sums or products along an axis: one thread for each line of elements."""
    (x,), y = instruction.inputs, instruction.output
    if 0 in y.shape:
        return []
    check_dtypes([x, y])
    kernel = Kernel(memory)
    axis = instruction.options["axis"] % y.ndim
    others = tuple([n for d, n in enumerate(y.shape) if d != axis])
    source, to = memory.strides(x, x.shape), memory.strides(y, y.shape)
    wide = is_wide(y.shape, [source, to])
    total = math.prod(others)
    lines = [*_index(total, wide), *[f"{line};" for line in split("i", others or (1,), "d", wide)]]
    coordinates = [f"d{d}" for d in range(len(others))]
    coordinates[axis:axis] = ["k"]
    kind = accumulated_type(y.dtype)
    value = cast(loaded(f"{kernel.pointer(x)}[{offset(coordinates, source, wide)}]", x.dtype), x.dtype, y.dtype)
    sign = "+" if instruction.function == "cumsum" else "*"
    target = f"{kernel.pointer(y, True)}[{offset(coordinates, to, wide)}]"
    lines.append(f"{kind} a = {0 if sign == '+' else 1};")
    lines.append(f"for (int k = 0; k < {y.shape[axis]}; ++k) {{ a = a {sign} {value}; {target} = {storable('a', y.dtype)}; }}")
    return [kernel.launch(lines, _blocks(total))]


def integer_product(memory: Memory, a: Array, b: Array, y: Array) -> list[Launch]:
    """A product of matrices of integers: one thread for each element."""
    if 0 in y.shape:
        return []
    check_dtypes([a, b, y])
    kernel = Kernel(memory)
    depth = a.shape[-1]
    batch = y.shape[:-2]
    left, right = memory.strides(a, (*batch, *a.shape[-2:])), memory.strides(b, (*batch, *b.shape[-2:]))
    to = memory.strides(y, y.shape)
    d = [f"d{axis}" for axis in range(y.ndim)]
    lines = [*_index(y.size, True), *[f"{line};" for line in split("i", y.shape, "d", True)]]
    x0 = cast(loaded(f"{kernel.pointer(a)}[{offset([*d[:-1], 'k'], left, True)}]", a.dtype), a.dtype, y.dtype)
    x1 = cast(loaded(f"{kernel.pointer(b)}[{offset([*d[:-2], 'k', d[-1]], right, True)}]", b.dtype), b.dtype, y.dtype)
    kind = accumulated_type(y.dtype)
    sum_up = f"s = s || ({x0} && {x1});" if y.dtype.kind == "b" else f"s += ({kind}){x0} * {x1};"
    lines += [f"{kind} s = 0;", f"for (int k = 0; k < {depth}; ++k) {sum_up}"]
    made = storable(f"({value_type(y.dtype)})s", y.dtype)
    lines.append(f"{kernel.pointer(y, True)}[{offset(d, to, True)}] = {made};")
    return [kernel.launch(lines, _blocks(y.size))]


__all__ = [
    "add_at_kernel",
    "copy_kernel",
    "map_kernel",
    "place_kernel",
    "reshape_copy",
    "scan_kernel",
    "stored_type",
    "take_kernel",
]
