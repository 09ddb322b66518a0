"""Batching: instructions of one kind that do not need each other become one instruction over a stack of their operands.

A loop over T time steps records T products with the same weights. Where no step waits for another (the projections of the inputs, the output
layer, the losses, every gradient but the one that flows through time), the T operands are stacked, and one instruction does the work of T:

    x₁ @ w, ..., x_T @ w                   ->  [x₁; ...; x_T] @ w                one large product runs near the machine's peak,
    x₁ᵀ d₁ + ... + x_Tᵀ d_T                ->  [x₁; ...; x_T]ᵀ @ [d₁; ...; d_T]   T small ones far below; a weight's gradient ∂E/∂W = D Z̃
    sum(d₁, 0) + ... + sum(d_T, 0)         ->  sum([d₁; ...; d_T], 0)
    tanh(y₁), ..., tanh(y_T)               ->  tanh([y₁; ...; y_T])              where the stack is there anyway
    e[i₁], ..., e[i_T]                     ->  e[[i₁; ...; i_T]]

Which instructions go together is decided as in on-the-fly batching of dynamic networks (Neubig, Goldberg and Dyer 2017): each has a signature
(function, shapes, shared weights); of all instructions that could run now, those of the signature with the least average depth run next, all
at once. So the recurrence goes ahead step by step, while what hangs on each of its steps waits until it is complete.

Products over a stack may differ in the last bit from separate ones, and sums are added in another order.

>>> from ..program import Array, Instruction, Program
>>> w, xs = Array((3, 4), "f4", "w"), [Array((2, 3), "f4") for _ in range(5)]
>>> products = [Instruction("matmul", "matmul", [x, w], [Array((2, 4), "f4")]) for x in xs]
>>> made = batching(Program(xs, state={w: None}, instructions=products, results=[i.output for i in products]))
>>> [(i.function, i.output.shape) for i in made.instructions if i.kind != "view"]
[('concatenate', (10, 3)), ('matmul', (10, 4))]
"""

from __future__ import annotations

from ..program import Program
from .batches import batched


def batching(program: Program) -> Program:
    """The program with independent instructions of one kind as one, where their operands lie side by side or are cheaply put there."""
    made, _ = batched(program, gathers=False)
    return made
