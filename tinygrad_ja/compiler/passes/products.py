"""Products: as few, as large and as plainly shaped matrix products as possible.

BLAS multiplies two matrices, either of which may be transposed, at full speed; a stack of small ones, or a product with a vector, runs far
below.

    a stack (n, t, d) @ w (d, e)         ->  (n t, d) @ w, reshaped          one product instead of n
    w (e, d) @ column (d, 1)             ->  row (1, d) @ w.T                so that time steps can be stacked as rows
    sum over the stack of aᵢᵀ bᵢ         ->  one product with the stack inside: the weight gradient of a batched input
    (b.T @ a.T).T                        ->  a @ b
    a @ (w * c)                          ->  stays; a transpose beside a product stays a view that BLAS reads as it is

>>> from ..program import Array, Instruction, Program
>>> x, w, y = Array((4, 5, 6), "f4", "x"), Array((6, 2), "f4", "w"), Array((4, 5, 2), "f4", "y")
>>> print(products(Program([x, w], instructions=[Instruction("matmul", "matmul", [x, w], [y])], results=[y])).instructions[1].inputs[0].shape)
(20, 6)
"""

from __future__ import annotations

from ..program import Array, Instruction, Program
from .dead_code import dead_code
from .rewriting import Writer, size_of
from .views import is_contiguous


def products(program: Program) -> Program:
    """The program with matrix products in the shapes that BLAS likes."""
    writer = Writer(program)
    readers: dict[Array, int] = {}
    for instruction in program.instructions:
        for array in instruction.inputs:
            readers[array] = readers.get(array, 0) + 1
    for array in program.wanted:
        readers[array] = readers.get(array, 0) + 1
    for instruction in writer:
        made = None
        if instruction.kind == "matmul" and instruction.output.size and instruction.inputs[0].size:
            made = _matmul(writer, instruction)
        elif instruction.function == "sum":
            made = _sum_of_stack(writer, instruction, readers)
        elif instruction.function == "transpose":
            made = _transposed_product(writer, instruction, readers)
        if made is None:
            writer.keep(instruction)
        else:
            writer.replace(instruction.output, made)
    return dead_code(writer.finished()) if writer.instead else program


def multiply(writer: Writer, a: Array, b: Array) -> Array:
    """The product of two matrices."""
    return writer.add("matmul", "matmul", (a, b), (a.shape[0], b.shape[1]), a.dtype)


def swapped(writer: Writer, x: Array) -> Array:
    """``x`` with its last two axes in the other order; of a transposed view, what it is a view of."""
    axes = (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
    maker = writer.maker(x, "view", "transpose")
    if maker is not None and maker.options["axes"] == axes:
        return maker.inputs[0]
    if 1 in x.shape[-2:]:
        return writer.reshape(x, [x.shape[a] for a in axes])
    return writer.transpose(x, axes)


def _matmul(writer: Writer, instruction: Instruction) -> Array | None:
    (a, b), output = instruction.inputs, instruction.output
    if a.dtype != b.dtype or a.dtype != output.dtype:
        return None
    if size_of(b.shape[:-2]) == 1 and a.ndim > 2 and is_contiguous(writer, a):
        right = writer.reshape(b, b.shape[-2:])
        rows = writer.reshape(a, (size_of(a.shape[:-1]), a.shape[-1]))
        return writer.reshape(multiply(writer, rows, right), output.shape)
    if size_of(a.shape[:-2]) == size_of(b.shape[:-2]) == 1 and (a.ndim > 2 or b.ndim > 2):
        left, right = writer.reshape(a, a.shape[-2:]), writer.reshape(b, b.shape[-2:])
        return writer.reshape(multiply(writer, left, right), output.shape)
    if a.ndim == b.ndim == 2 and b.shape[1] == 1 and a.shape[0] > 1 and _is_weight(writer, a):
        row = writer.reshape(b, (1, b.shape[0]))
        return writer.reshape(multiply(writer, row, swapped(writer, a)), output.shape)
    return None


def _is_weight(writer: Writer, x: Array) -> bool:
    """Whether an array is state, or a view of it."""
    while (maker := writer.maker(x, "view")) is not None:
        (x,) = maker.inputs
    return x in writer.program.state


def _transposed_product(writer: Writer, instruction: Instruction, readers: dict[Array, int]) -> Array | None:
    """(B.T @ A.T).T = A @ B, where that saves a transpose; also through functions of products that nobody else reads."""
    (x,), axes = instruction.inputs, instruction.options["axes"]
    if x.ndim != 2 or tuple(axes) != (1, 0) or not _turns(writer, x, readers):
        return None
    return _turned(writer, x)


def _turns(writer: Writer, x: Array, readers: dict[Array, int], depth: int = 8) -> bool:
    """Whether an array can be made transposed as well: a product of a transposed matrix, or a function of such products."""
    maker = writer.made.get(x)
    if maker is None or readers.get(x, 0) > 1 or not depth:
        return False
    if maker.kind == "matmul":
        return any([writer.maker(a, "view", "transpose") is not None for a in maker.inputs])
    whole = [a for a in maker.inputs if a.ndim]
    return maker.kind == "map" and all([a.shape == x.shape and _turns(writer, a, readers, depth - 1) for a in whole])


def _turned(writer: Writer, x: Array) -> Array:
    """The transpose of such an array."""
    maker = writer.made[x]
    if maker.kind == "matmul":
        b, a = maker.inputs
        return multiply(writer, swapped(writer, a), swapped(writer, b))
    inputs = [_turned(writer, a) if a.ndim else a for a in maker.inputs]
    return writer.add("map", maker.function, inputs, x.shape[::-1], x.dtype, **maker.options)


def _sum_of_stack(writer: Writer, instruction: Instruction, readers: dict[Array, int]) -> Array | None:
    """Σₙ Aₙ Bₙ, a sum over all axes of the stack, as one product."""
    (x,), output = instruction.inputs, instruction.output
    product = writer.maker(x, "matmul")
    if product is None or x.ndim < 3 or readers.get(x, 0) > 1 or output.dtype != x.dtype or not x.size:
        return None
    a, b = product.inputs
    stack = x.ndim - 2
    if sorted(axis % x.ndim for axis in instruction.options["axes"]) != list(range(stack)) or a.shape[:-2] != b.shape[:-2]:
        return None
    left = swapped(writer, a)  # (n, k, m), of which (n k, m) is a view where A is a transposed array
    if not is_contiguous(writer, left) or not is_contiguous(writer, b):
        return None
    k = size_of((*a.shape[:-2], a.shape[-1]))
    columns, rows = writer.reshape(left, (k, a.shape[-2])), writer.reshape(b, (k, b.shape[-1]))
    return writer.reshape(multiply(writer, writer.transpose(columns, (1, 0)), rows), output.shape)
