"""Transposing squares of float32, a vector wide: from elements of a channel side by side to channels of an element side by side, and back.

The loads, shuffles and stores of a square are a long text, so it is a function of its own, compiled once for each way in which rows or columns
are missing, and called by whatever turns arrays.
"""

from __future__ import annotations

import functools

from .code import F32, Code, Value
from .target import compiled, named, processor
from .tiles import transposed


@functools.lru_cache(512)
def _square(rows: int | None, columns: int | None, fill: bool) -> int:
    """The address of ``square(source, source_step, target, target_step, rows, columns)``; None: known only when it is called."""
    lanes = processor().vector // 4
    code = Code(lanes)
    kind = code.type(F32)
    column_mask = _mask(code, columns, "%columns")
    values = []
    if rows is None:
        code.declare("i64 @llvm.smin.i64(i64, i64)")
        last = code.whole("sub", "%rows", 1)
    for r in range(lanes):
        if rows is not None and r >= rows:
            values.append("zeroinitializer" if fill else "poison")
            continue
        number: str | int = r
        if rows is None:  # where there is no such row, another one is read, so that no address is wrong
            number = code.plain(f"call i64 @llvm.smin.i64(i64 {r}, i64 {last})")
        text = code.load(code.moved("%source", code.whole("mul", "%source_step", number)), F32, 4, column_mask).text
        if rows is None:
            exists = code.plain(f"icmp slt i64 {r}, %rows")
            text = code.plain(f"select i1 {exists}, {kind} {text}, {kind} zeroinitializer")
        values.append(text)
    row_mask = None if fill else _mask(code, rows, "%rows")
    for c, text in enumerate(transposed(code, F32, values)[:columns]):
        place = code.moved("%target", code.whole("mul", "%target_step", c))
        if columns is not None:
            code.store(Value(text, F32), place, 4, row_mask)
        else:
            with code.when(code.plain(f"icmp slt i64 {c}, %columns")):
                code.store(Value(text, F32), place, 4, row_mask)
    code.line("ret void")
    head = "void @NAME(ptr noalias %source, i64 %source_step, ptr noalias %target, i64 %target_step, i64 %rows, i64 %columns)"
    name, text = named(code.definition(head), "square")
    return compiled({name: text}, "\n".join(code.declared))[name]


def _mask(code: Code, count: int | None, name: str) -> str | None:
    if count is None:
        return code.mask_below(name)
    return None if count == code.lanes else code.mask_below(str(count))


def turn_square(
    code: Code,
    source: str,
    source_step: str | int,
    target: str,
    target_step: str | int,
    rows: str | int,
    columns: str | int,
    fill: bool = False,
) -> None:
    """Append a call that makes ``columns`` rows of ``rows`` elements out of ``rows`` rows of ``columns``. Steps: bytes from row to row. fill:
    new rows are as long as a vector, with zeros at the end."""
    address = _square(rows if isinstance(rows, int) else None, columns if isinstance(columns, int) else None, fill)
    arguments = f"ptr {source}, i64 {source_step}, ptr {target}, i64 {target_step}, i64 {rows}, i64 {columns}"
    code.line(f"call void inttoptr (i64 {address} to ptr)({arguments})")


def turn(code: Code, source: str, target: str, count: int, vectors: int, channel: int, left: str) -> None:
    """``count`` elements, side by side, of each channel of a block -> the channels of the block, side by side, for each element. channel: bytes
    from channel to channel; left: how many channels there are, "" for all."""
    lanes = code.lanes
    whole, row = count // lanes * lanes, 4 * lanes * vectors

    def piece(low: str | int, width: int) -> None:
        for v in range(vectors):
            here = code.moved(code.moved(source, v * lanes * channel), code.whole("mul", low, 4))
            there = code.moved(code.moved(target, 4 * lanes * v), code.whole("mul", low, row))
            rows: str | int = lanes
            if left:
                rows = code.plain(f"call i64 @llvm.smin.i64(i64 {code.whole('sub', left, v * lanes)}, i64 {lanes})")
                code.declare("i64 @llvm.smin.i64(i64, i64)")
            turn_square(code, here, channel, there, row, rows, width, fill=True)

    if whole:
        with code.loop(0, whole, lanes) as i:
            piece(i, lanes)
    if whole < count:
        piece(whole, count - whole)
