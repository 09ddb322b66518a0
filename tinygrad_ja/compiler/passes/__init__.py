"""The passes, in the order in which they run, and ``optimised``, which runs them.

A pass is a function from a program to a program with the same results. Each stands in a file of its own with the idea, an example and what it
may change in the last bit. ``PASSES`` lists them by the names by which ``tg.compile(step, disable=("batching",))`` leaves them out.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection

from ..program import Program
from .algebra import algebra
from .batching import batching
from .common_subexpressions import common_subexpressions
from .constant_folding import constant_folding
from .dead_code import dead_code
from .fusion import fusion
from .products import products
from .trees import trees
from .views import views

__all__ = ["MEMORY", "PASSES", "optimised"]

PASSES: dict[str, Callable[[Program], Program]] = {
    "dead_code": dead_code,
    "constant_folding": constant_folding,
    "common_subexpressions": common_subexpressions,
    "views": views,
    "algebra": algebra,
    "products": products,
    "trees": trees,
    "batching": batching,
    "fusion": fusion,
}
"""Name -> pass, in order."""

MEMORY = "memory"
"""Stands among names of passes for the planning of buffers, in which executors use memory again (``planning.py``)."""

_CLEANING = ("constant_folding", "common_subexpressions", "views", "algebra")
_SHAPING = ("products", "trees", "batching", "products")
_ROUNDS = 3


Note = Callable[[str, int, int], object]


def optimised(program: Program, disable: Collection[str] = (), note: Note = lambda name, before, after: None) -> Program:
    """The program after all passes but those whose names are in ``disable``. The passes that clean up run as long as
    the program gets shorter, before and after those that reshape it. note: called after each run of a pass, with the numbers of
    instructions before and after it."""
    unknown = set(disable) - set(PASSES)
    if unknown:
        raise ValueError(f"no such pass: {', '.join(sorted(unknown))}; there are {', '.join(PASSES)}")
    collects = gc.isenabled()
    gc.disable()  # many small objects live long here, and looking through them again and again takes a third of the time
    try:
        program = _cleaned(_run(program, "dead_code", disable, note), disable, note)
        shaped = program
        for name in _SHAPING:
            shaped = _run(shaped, name, disable, note)
        if shaped is not program:
            shaped = _cleaned(shaped, disable, note)
        return _run(shaped, "fusion", disable, note)
    finally:
        if collects:
            gc.enable()


def _run(program: Program, name: str, disable: Collection[str], note: Note) -> Program:
    if name in disable:
        return program
    made = PASSES[name](program)
    note(name, len(program.instructions), len(made.instructions))
    return made


def _cleaned(program: Program, disable: Collection[str], note: Note) -> Program:
    for _ in range(_ROUNDS):
        before = len(program.instructions)
        for name in _CLEANING:
            program = _run(program, name, disable, note)
        if len(program.instructions) > 0.98 * before:
            break
    return program
