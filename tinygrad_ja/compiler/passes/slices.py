"""Slices before element-wise functions, so that these can be fused with what reads the slices.

The gates of an LSTM are four slices of one sum z = x W + h U + b. While the sum is computed as a whole and the gates from its slices, they are
two loops over different spaces. Computed slice by slice, the additions belong to the loop of the gates:

    i, f, g, o = slices of (z + b);  σ(i), ...     ->     σ(slice of z + slice of b), ...

No element is computed twice: this is done only where nobody reads the whole, and where the slices do not overlap.
"""

from __future__ import annotations

from typing import Any

from ..program import Array, Instruction, Program
from .rewriting import Key, Writer, frozen, is_plain, size_of

MOST = 8
"""Slices of one array, at most."""


def slices_first(program: Program) -> Program:
    """The program with slices of functions as functions of slices, where that computes nothing twice."""
    cut = _only_sliced(program)
    if not cut:
        return program
    writer = Writer(program)
    known: dict[Any, Array] = {}

    def sliced(x: Array, key: Key) -> Array:
        place = (x, frozen(key))
        if place not in known:
            maker = cut.get(x)
            if maker is None:
                known[place] = writer.slice(writer.now(x), key)
            else:
                inputs = [sliced(a, _fitted(key, a.shape)) for a in maker.inputs]
                shape = [part.stop - part.start for part in key]
                writer.source = maker.source
                known[place] = writer.add("map", maker.function, inputs, shape, maker.output.dtype, **maker.options)
        return known[place]

    for old, instruction in zip(program.instructions, writer):
        if old.outputs[0] in cut:
            continue
        if old.kind == "view" and old.inputs[0] in cut:
            writer.replace(old.output, sliced(old.inputs[0], old.options["key"]))
        else:
            writer.keep(instruction)
    return writer.finished()


def _only_sliced(program: Program) -> dict[Array, Instruction]:
    """Arrays made by element-wise functions that are read slice by slice only, by element-wise functions in the end, and what makes them."""
    readers = program.users()
    wanted = set(program.wanted)
    cut: dict[Array, Instruction] = {}
    keys: dict[Array, dict[Any, Key]] = {}
    for i in reversed(program.instructions):
        if i.kind != "map" or i.output in wanted or not i.output.ndim:
            continue
        found: dict[Any, Key] = {}
        for reader in readers.get(i.output, ()):
            if reader.kind == "map" and reader.output in cut and reader.output.shape == i.output.shape:
                found.update(keys[reader.output])
            elif _is_cut(reader) and all([r.kind == "map" for r in readers.get(reader.output, ())]):
                found[frozen(reader.options["key"])] = reader.options["key"]
            else:
                break
        else:
            parts = [size_of([part.stop - part.start for part in key]) for key in found.values()]
            if 1 < len(parts) <= MOST and sum(parts) <= i.output.size:
                cut[i.output], keys[i.output] = i, found
    return cut


def _is_cut(i: Instruction) -> bool:
    return (
        i.function == "slice" and is_plain(i.options["key"], i.inputs[0].ndim) and all([s.step == 1 for s in i.options["key"]])
    )


def _fitted(key: Key, shape: tuple[int, ...]) -> Key:
    """A key for an array that broadcasts to what the key is for."""
    return tuple([slice(0, 1, 1) if n == 1 else part for part, n in zip(key[len(key) - len(shape) :], shape)])
