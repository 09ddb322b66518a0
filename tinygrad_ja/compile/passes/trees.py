"""Trees: the nodes of one height run together, whatever the shapes of the trees.

A network over syntax trees computes v = f(W [v_left; v_right] + b) for each inner node. Nodes of one height do not need each other, so the
batching of ``batching.py`` makes one product of them; but their children lie anywhere: a leaf here, a node of some lower height there. So here
operands may be gathered: the vectors of all heights so far lie in one growing buffer, and ``take`` collects the rows of the children. A batch
of trees costs a few instructions for each height, instead of a few for each node; backward the same, from the roots down.

Programs in which nothing has to be gathered are left to ``batching``.
"""

from __future__ import annotations

from ..program import Program
from .batches import batched


def trees(program: Program) -> Program:
    """The program with instructions of one kind and height as one, their operands gathered from where they lie."""
    made, gathers = batched(program, gathers=True)
    return made if gathers else program
