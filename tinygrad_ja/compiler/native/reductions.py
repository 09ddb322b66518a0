"""Reductions, piece by piece: what they begin with, how two values are put together, and how the sums of chunks are."""

from __future__ import annotations

import numpy as np

from ..program import Instruction
from . import expressions
from .code import F32, F64, Code, Value
from .launches import Launch
from .target import named

REDUCTIONS = {"sum": "add", "prod": "multiply", "max": "maximum", "min": "minimum", "any": "logical_or", "all": "logical_and"}


def kind_of(instruction: Instruction) -> np.dtype:
    """The dtype in which elements are put together."""
    return instruction.outputs[0].dtype


def total_kind(instruction: Instruction) -> np.dtype:
    """The dtype in which the sums of rows are put together: float32 is added up in float64."""
    kind = kind_of(instruction)
    return F64 if kind == F32 and instruction.function in ("sum", "prod") else kind


def identity(code: Code, instruction: Instruction, kind: np.dtype) -> Value:
    """What changes nothing."""
    function = instruction.function
    if function in ("sum", "prod", "any", "all"):
        return code.constant(kind, {"sum": 0, "any": 0, "prod": 1, "all": 1}[function])
    if kind.kind == "b":
        return code.constant(kind, function == "min")
    if kind.kind == "f":
        return code.constant(kind, -np.inf if function == "max" else np.inf)
    limits = np.iinfo(kind)
    return code.constant(kind, limits.min if function == "max" else limits.max)


def combine(code: Code, instruction: Instruction, a: Value, b: Value) -> Value:
    """Put two values together."""
    return expressions.applied(code, REDUCTIONS[instruction.function], a, b)


def added_up(instruction: Instruction, address: int, scratch: int, size: int, chunks: int, lanes: int) -> Launch:
    """The launch that puts the sums of chunks together, in their order."""
    code, y = Code(lanes), instruction.outputs[0]
    base, target = code.word("%words", 0, "ptr"), code.word("%words", 1, "ptr")
    count, step, elements = [code.word("%words", k) for k in (2, 3, 4)]
    kind, itemsize = code.type(y.dtype), y.dtype.itemsize
    slot = code.stack(kind)

    def add(i: str, mask: str | None) -> None:
        offset = code.whole("mul", i, itemsize)
        code.line(f"store {kind} {code.load(code.moved(base, offset), y.dtype, itemsize, mask).text}, ptr {slot}, align 64")
        with code.loop(1, count) as k:
            place = code.moved(code.moved(base, offset), code.whole("mul", k, step))
            before = code.value(y.dtype, f"load {kind}, ptr {slot}, align 64")
            after = combine(code, instruction, before, code.load(place, y.dtype, itemsize, mask))
            code.line(f"store {kind} {after.text}, ptr {slot}, align 64")
        code.store(code.value(y.dtype, f"load {kind}, ptr {slot}, align 64"), code.moved(target, offset), itemsize, mask)

    code.vectors(0, elements, add)
    code.line("ret void")
    name, text = named(code.definition("void @NAME(ptr noalias %words, i64 %chunk, i64 %worker)"), "sums")
    return Launch(name, text, tuple(code.declared), [scratch, address, chunks, size, y.size], 1, (0,))
