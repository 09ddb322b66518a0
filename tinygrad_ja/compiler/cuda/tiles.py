"""Small products of matrices in a kernel of their own, with the element-wise instructions that follow: a step of a recurrent network is then
one launch. Such products are over before a library's kernel is well under way, and they may share a launch with others.

A block makes a tile of the result. Its threads bring pieces of both operands to shared memory and multiply from there; for a small result of
long rows, parts of the block take parts of the sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ..program import Array, Instruction
from .elements import loaded, value_type
from .kernel import THREADS, Access, Kernel, Launch, Memory, Reach, Unsupported, check_dtypes, externals, section
from .space import offset, split

MOST_WORK = 8 << 20
"""Multiplications up to which these kernels are used."""
MOST_DEPTH = 1024
FEW_TILES = 64
"""With fewer tiles than this, smaller ones are used, so that more of the GPU has work."""
PIECE = 128
"""How many columns of a row are in shared memory at one time."""


class _Shape(NamedTuple):
    """Rows and columns of a tile, and into how many parts its sums are cut."""

    rows: int
    columns: int
    parts: int


def is_small(product: Instruction) -> bool:
    """Whether a product is made by these kernels."""
    (a, b), y = product.inputs, product.output
    floats = a.dtype == b.dtype == y.dtype and y.dtype.kind == "f" and y.dtype.char in "efd"
    depth = a.shape[-1]
    return floats and 0 < depth <= MOST_DEPTH and 0 < y.size and y.size * depth <= MOST_WORK


def _tile(batch: int, m: int, n: int, k: int) -> _Shape:
    tiles = batch * -(-m // 16) * -(-n // 16)
    return _Shape(8, 8, 4) if tiles < FEW_TILES and k >= 64 else _Shape(16, 16, 1)


def tile_kernel(memory: Memory, product: Instruction, maps: Sequence[Instruction], stored: Sequence[Array]) -> Launch:
    """A product and maps of its elements. stored: what is written, each with the shape of the product. Raises Unsupported."""
    (a, b), y = product.inputs, product.output
    read = [x for x in externals(maps) if x is not y]
    check_dtypes([a, b, y, *read, *stored])
    if any([x.shape != y.shape for x in stored]):
        raise Unsupported("an output of another shape than the product")
    batch, (m, n), k = y.shape[:-2], y.shape[-2:], a.shape[-1]
    shape = _tile(math.prod(batch), m, n, k)
    kernel = Kernel(memory)
    kernel.names.update({x: text for x in read if (text := memory.literal(x)) is not None})
    read = [x for x in read if x not in kernel.names]
    across, down = -(-n // shape.columns), -(-m // shape.rows)
    part = -(-k // shape.parts)
    piece = min(PIECE // shape.parts * (2 if shape.parts > 1 else 1), -(-part // 4) * 4)
    kind = "double" if y.dtype.char == "d" else "float"
    lines = [
        f"__shared__ {kind} left[{shape.parts}][{shape.rows}][{piece + 1}], right[{shape.parts}][{piece}][{shape.columns + 1}];",
        f"const int tile = block % {across * down}u;",
        f"const int first_row = tile / {across} * {shape.rows}, first_column = tile % {across} * {shape.columns};",
        f"const int part = thread / {shape.rows * shape.columns}u, inner = thread % {shape.rows * shape.columns}u;",
        f"const int x = inner % {shape.columns}, z = inner / {shape.columns}, row = first_row + z, column = first_column + x;",
    ]
    coordinates = [f"n{axis}" for axis in range(len(batch))]
    if batch:
        lines += [f"{line};" for line in split(f"(block / {across * down}u)", batch, "n")]
    lines.append(f"{kind} sum = 0;")
    lines.append(f"for (int begin = 0; begin < {part}; begin += {piece}) {{")
    lines += _piece(kernel, memory, a, batch, "left", shape, piece, part, k)
    lines += _piece(kernel, memory, b, batch, "right", shape, piece, part, k)
    lines += ["  __syncthreads();", "  #pragma unroll 16"]
    lines.append(f"  for (int c = 0; c < {piece}; ++c) sum += left[part][z][c] * right[part][c][x];")
    lines += ["  __syncthreads();", "}"]
    if shape.parts > 1:
        lines += [
            f"__shared__ {kind} sums[{shape.parts}][{shape.rows * shape.columns}];",
            "sums[part][inner] = sum;",
            "__syncthreads();",
        ]
        lines.append(f"for (int w = 1; w < {shape.parts}; ++w) sum += sums[w][inner];")
    lines.append(f"if ({'part == 0 && ' if shape.parts > 1 else ''}row < {m} && column < {n}) {{")
    spots = [*coordinates, "row", "column"]

    def access(x: Array) -> Access:
        return Access(kernel.pointer(x, x in stored), offset(spots, memory.strides(x, y.shape), True), False)

    name = kernel.name(y)
    rounded = "sum" if y.dtype.char != "e" else "round_half(sum)"
    lines.append(f"  const {value_type(y.dtype)} {name} = {rounded};")
    lines += [f"  {line}" for line in section(kernel, {x: access(x) for x in read}, maps, {x: access(x) for x in stored}, 1)]
    lines.append("}")
    size = 8 if kind == "double" else 4
    shared = size * shape.parts * (shape.rows * (piece + 1) + piece * (shape.columns + 1) + shape.rows * shape.columns)
    return kernel.launch(lines, math.prod(batch) * across * down, THREADS, shared)


def _piece(
    kernel: Kernel, memory: Memory, x: Array, batch: Sequence[int], target: str, shape: _Shape, piece: int, part: int, k: int
) -> list[str]:
    """Lines that bring a piece of an operand to shared memory: neighbours in memory by neighbouring threads."""
    steps = memory.strides(x, (*batch, *x.shape[-2:]))
    is_left = target == "left"
    height = shape.rows if is_left else shape.columns
    along_depth = steps[-1 if is_left else -2] == 1 or steps[-2 if is_left else -1] != 1
    spread = shape.rows * shape.columns
    if along_depth:
        at = f"const int r = e / {piece}, c = e % {piece};"
    else:
        at = f"const int r = e % {height}, c = e / {height};"
    first, limit = ("first_row", x.shape[-2]) if is_left else ("first_column", x.shape[-1])
    names = ["other", "depth"] if is_left else ["depth", "other"]
    where = offset([*[f"n{axis}" for axis in range(len(batch))], *names], steps, True)
    value = loaded(f"{kernel.pointer(x)}[{where}]", x.dtype)
    place = "[part][r][c]" if is_left else "[part][c][r]"
    return [
        "  #pragma unroll 4",
        f"  for (int e = inner; e < {height * piece}; e += {spread}) {{",
        f"    {at}",
        f"    const int other = {first} + r, depth = part * {part} + begin + c;",
        f"    const bool inside = other < {limit} && begin + c < {part} && depth < {k};",
        f"    {target}{place} = inside ? {value} : 0;",
        "  }",
    ]


def fused_products(instructions: Sequence[Instruction], wanted: Sequence[Array], memory: Memory) -> dict[int, Instruction]:
    """id of an element-wise instruction -> the small product that it can be made with: its only reader, before anything overwrites what the
    product reads."""
    users: dict[Array, list[int]] = {}
    for place, instruction in enumerate(instructions):
        for x in dict.fromkeys(instruction.inputs):
            users.setdefault(x, []).append(place)
    kept = set(wanted)
    found: dict[int, Instruction] = {}
    for place, product in enumerate(instructions):
        if product.kind != "matmul" or not is_small(product):
            continue
        y = product.output
        readers = users.get(y, [])
        if y in kept or len(readers) != 1:
            continue
        reader = instructions[readers[0]]
        if id(reader) in found or not _is_elementwise(reader, y):
            continue
        given = [memory.reach(x, False) for x in product.inputs]
        between = [
            memory.reach(x, True) for i in instructions[place + 1 : readers[0] + 1] for x in i.outputs if i.kind != "view"
        ]
        if not any([_meet(one, other) for one in given for other in between]):
            found[id(reader)] = product
    return found


def _is_elementwise(instruction: Instruction, y: Array) -> bool:
    if instruction.kind == "map":
        return instruction.outputs[0].shape == y.shape
    if instruction.kind != "group":
        return False
    body = instruction.options["body"]
    return all([i.kind == "map" for i in body]) and all([x.shape == y.shape for x in instruction.outputs])


def _meet(a: Reach, b: Reach) -> bool:
    return a.buffer == b.buffer and a.low < b.high and b.low < a.high
