"""Trees: the nodes of one height run together, whatever the shapes of the trees.

A network over syntax trees computes v = f(W [v_left; v_right] + b) for each inner node. Nodes of one height do not need each other, so the
batching of ``batching.py`` makes one product of them; but their children lie anywhere: a leaf here, a node of some lower height there. So here
operands may be gathered: the vectors of all heights so far lie in one growing buffer, and ``take`` collects the rows of the children. A batch
of trees costs a few instructions for each height, instead of a few for each node; backward the same, from the roots down.

Programs in which nothing has to be gathered are left to ``batching``. Here the nodes (0, 3), (2, 1), (4, 0), (3, 3) over five words:

>>> from ..program import Array, Instruction, Program
>>> words, w = Array((5, 3), "f4"), Array((6, 3), "f4")
>>> steps, nodes = [], []
>>> for pair in ((0, 3), (2, 1), (4, 0), (3, 3)):
...     pieces = [Array((1, 3), "f4") for _ in pair]
...     keys = [(slice(k, k + 1, 1), slice(0, 3, 1)) for k in pair]
...     steps += [Instruction("view", "slice", [words], [piece], {"key": key}) for piece, key in zip(pieces, keys)]
...     both, node = Array((1, 6), "f4"), Array((1, 3), "f4")
...     steps += [Instruction("join", "concatenate", pieces, [both], {"axis": 1}), Instruction("matmul", "matmul", [both, w], [node])]
...     nodes.append(node)
>>> made = trees(Program([words], state={w: None}, instructions=steps, results=nodes))
>>> [(i.function, i.output.shape) for i in made.instructions if i.kind != "view"]
[('take', (8, 3)), ('matmul', (4, 3))]
"""

from __future__ import annotations

from ..program import Program
from .batches import batched


def trees(program: Program) -> Program:
    """The program with instructions of one kind and height as one, their operands gathered from where they lie."""
    made, gathers = batched(program, gathers=True)
    return made if gathers else program
