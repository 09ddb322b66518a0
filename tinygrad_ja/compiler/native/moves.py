"""Copies by index: ``take`` and ``add_at`` of rows or elements, and transposed copies.

Indices are checked: one that does not exist is written to a word of the executor, which raises after the step, and nothing is read or written
with it. Negative ones count from the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..program import Instruction
from . import expressions
from .code import Code, memory_type
from .launches import Launch, Unsupported
from .target import named, processor

CHUNK = 16_384
"""Bytes of a chunk."""


class Problem(NamedTuple):
    """Where a wrong index is written to, and the number that is written before it."""

    address: int
    number: int


def indexed(instruction: Instruction, x: np.ndarray, indices: np.ndarray, out: np.ndarray, problem: Problem) -> list[Launch]:
    """The launches of a ``take`` or ``add_at``. Raises Unsupported."""
    adding = instruction.kind == "add_at"
    if not all([expressions.supported_dtype(a.dtype) and a.flags.aligned for a in (x, indices, out)]):
        raise Unsupported(f"no machine code for {instruction.kind} of {x.dtype}")
    if indices.dtype.kind not in "iu" or x.dtype != out.dtype or (adding and x.dtype.kind == "b"):
        raise Unsupported(f"no machine code for {instruction.kind} of {x.dtype} at {indices.dtype}")
    wide, narrow = (
        (out, x) if adding else (x, out)
    )  # the array with the axis that is indexed, and the one with the indices' axes
    axis = instruction.options["axis"]
    if axis is None:
        raise Unsupported("an index into the flattened array")
    axis %= wide.ndim
    size = wide.shape[axis]
    if not size or not indices.size or not narrow.size:
        raise Unsupported("an axis without elements")
    if instruction.function == "take":
        rows = _Axes(wide, narrow, axis, indices)
        return [rows.launch(adding, problem)]
    if indices.shape != narrow.shape:
        raise Unsupported("indices that broadcast")
    return [_along(wide, narrow, indices, axis, adding, problem)]


def _checked(code: Code, indices: np.ndarray, pointer: str, size: str, problem: str, number: str) -> tuple[str, str]:
    """An index from memory, counted from the begin, and whether it exists; one that does not is noted."""
    kind = memory_type(indices.dtype)
    raw = code.plain(f"load {kind}, ptr {pointer}")
    if indices.dtype.itemsize < 8:
        raw = code.plain(f"{'sext' if indices.dtype.kind == 'i' else 'zext'} {kind} {raw} to i64")
    below = code.plain(f"icmp slt i64 {raw}, 0")
    index = code.plain(f"select i1 {below}, i64 {code.whole('add', raw, size)}, i64 {raw}")
    exists = code.plain(f"icmp ult i64 {index}, {size}")
    missing = code.plain(f"xor i1 {exists}, true")
    with code.when(missing):
        code.line(f"store i64 {number}, ptr {problem}")
        code.line(f"store i64 {raw}, ptr {code.moved(problem, 8)}")
    return index, exists


def _zero(code: Code, dtype: np.dtype, pointer: str, elements: str) -> None:
    """Set elements that lie side by side to 0."""
    code.declare("void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
    code.line(
        f"call void @llvm.memset.p0.i64(ptr {pointer}, i8 0, i64 {code.whole('mul', elements, dtype.itemsize)}, i1 false)"
    )


class _Axes:
    """Rows at indices: (outer, size, inner) and (outer, indices, inner), the inner axes side by side in both."""

    def __init__(self, wide: np.ndarray, narrow: np.ndarray, axis: int, indices: np.ndarray) -> None:
        count = indices.ndim
        self.outer = math.prod(wide.shape[:axis])
        self.size, self.inner = wide.shape[axis], math.prod(wide.shape[axis + 1 :])
        self.indices = run_of_axes(indices.shape, indices.strides)
        self.index_array, self.wide, self.narrow = indices, wide, narrow
        self.wide_outer = run_of_axes(wide.shape[:axis], wide.strides[:axis])[1]
        self.narrow_outer = run_of_axes(narrow.shape[:axis], narrow.strides[:axis])[1]
        self.wide_step = wide.strides[axis]
        self.count, self.narrow_step = run_of_axes(narrow.shape[axis : axis + count], narrow.strides[axis : axis + count])
        for array, first in ((wide, axis + 1), (narrow, axis + count)):
            inner, step = run_of_axes(array.shape[first:], array.strides[first:])
            if inner > 1 and step != array.itemsize:
                raise Unsupported("rows whose elements do not lie side by side")

    def launch(self, adding: bool, problem: Problem) -> Launch:
        """``take``: a chunk is some of the indices. ``add_at``: some of the columns, since an index may come twice."""
        dtype, itemsize = self.wide.dtype, self.wide.itemsize
        lanes = processor().vector // itemsize
        code = Code(lanes)
        names = (
            "wide narrow indices problem number outer size count inner wide_outer narrow_outer wide_step narrow_step".split()
        )
        names += ["index_step", "each"]
        word = {name: code.word("%words", k, "ptr" if k < 4 else "i64") for k, name in enumerate(names)}
        low = code.whole("mul", "%chunk", word["each"])
        high = code.whole("add", low, word["each"])
        limit = word["inner"] if adding else word["count"]
        high = code.plain(f"select i1 {code.plain(f'icmp slt i64 {high}, {limit}')}, i64 {high}, i64 {limit}")
        first, last, left, right = ("0", word["count"], low, high) if adding else (low, high, "0", word["inner"])
        with code.loop(0, word["outer"]) as o:
            wide = code.moved(word["wide"], code.whole("mul", o, word["wide_outer"]))
            narrow = code.moved(word["narrow"], code.whole("mul", o, word["narrow_outer"]))
            if adding:
                with code.loop(0, word["size"]) as r:
                    row = code.moved(wide, code.whole("mul", r, word["wide_step"]))
                    _zero(code, dtype, code.moved(row, code.whole("mul", left, itemsize)), code.whole("sub", right, left))
            with code.loop(first, last) as k:
                place = code.moved(word["indices"], code.whole("mul", k, word["index_step"]))
                index, exists = _checked(code, self.index_array, place, word["size"], word["problem"], word["number"])
                with code.when(exists):
                    there = code.moved(wide, code.whole("mul", index, word["wide_step"]))
                    here = code.moved(narrow, code.whole("mul", k, word["narrow_step"]))

                    def move(i: str, mask: str | None, there: str = there, here: str = here) -> None:
                        offset = code.whole("mul", i, itemsize)
                        a, b = code.moved(there, offset), code.moved(here, offset)
                        if adding:
                            total = code.add(code.load(a, dtype, itemsize, mask), code.load(b, dtype, itemsize, mask))
                            code.store(total, a, itemsize, mask)
                        else:
                            code.store(code.load(a, dtype, itemsize, mask), b, itemsize, mask)

                    code.vectors(left, right, move)
        code.line("ret void")
        name, text = named(code.definition("void @NAME(ptr noalias %words, i64 %chunk, i64 %worker)"), "rows")
        bytes_all = self.outer * self.count * self.inner * itemsize
        if adding:
            each = max(64, -(-self.inner // 8 + 63) & ~63) if bytes_all > 4 * CHUNK else self.inner
            chunks = -(-self.inner // each)
        else:
            each = max(1, min(self.count, CHUNK * self.count // max(bytes_all, 1)))
            chunks = -(-self.count // each)
            if chunks > 64:
                each = -(-self.count // 64)
                chunks = -(-self.count // each)
        words = [
            _address(self.wide), _address(self.narrow), _address(self.index_array), *problem, self.outer, self.size, self.count,
            self.inner, self.wide_outer, self.narrow_outer, self.wide_step, self.narrow_step, self.indices[1], each,
        ]  # fmt: skip
        return Launch(name, text, tuple(code.declared), words, chunks)


def _along(wide: np.ndarray, narrow: np.ndarray, indices: np.ndarray, axis: int, adding: bool, problem: Problem) -> Launch:
    """Elements at indices along an axis: for each element of ``indices`` the one of ``wide`` whose other indices are the same."""
    dtype = wide.dtype
    code = Code(1)
    table = ["wide", "narrow", "indices", "problem"]
    word = {name: code.word("%words", k, "ptr") for k, name in enumerate(table)}
    ordinal, size = code.word("%words", 4), code.word("%words", 5)
    words = [_address(wide), _address(narrow), _address(indices), *problem, wide.shape[axis]]

    def number(value: int) -> str:
        words.append(value)
        return code.word("%words", len(words) - 1)

    if adding:
        if wide.strides != np.empty_like(wide, order="C").strides or not wide.flags.c_contiguous:
            raise Unsupported("elements added to an array that does not lie in order")
        _zero(code, dtype, word["wide"], number(wide.size))
    step = number(wide.strides[axis])
    pointers = [word["wide"], word["narrow"], word["indices"]]
    kind = memory_type(dtype)

    def walk(axes: Sequence[int], pointers: list[str]) -> None:
        if axes:
            with code.loop(0, number(indices.shape[axes[0]])) as i:
                moved = []
                for pointer, array in zip(pointers, (wide, narrow, indices)):
                    stride = 0 if array is wide and axes[0] == axis else array.strides[axes[0]]
                    moved.append(code.moved(pointer, code.whole("mul", i, number(stride))) if stride else pointer)
                walk(axes[1:], moved)
            return
        index, exists = _checked(code, indices, pointers[2], size, word["problem"], ordinal)
        with code.when(exists):
            place = code.moved(pointers[0], code.whole("mul", index, step))
            element = code.plain(f"load {kind}, ptr {place if not adding else pointers[1]}")
            if adding:
                before = code.plain(f"load {kind}, ptr {place}")
                operation = "fadd" if dtype.kind == "f" else "add"
                element = code.plain(f"{operation} {kind} {before}, {element}")
            code.line(f"store {kind} {element}, ptr {place if adding else pointers[1]}")

    walk([k for k in range(indices.ndim) if indices.shape[k] != 1], pointers)
    code.line("ret void")
    name, text = named(code.definition("void @NAME(ptr noalias %words, i64 %chunk, i64 %worker)"), "along")
    return Launch(name, text, tuple(code.declared), words, 1)


def run_of_axes(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """Axes as one: its size and stride. Raises Unsupported where they do not lie one behind the other."""
    size, step = 1, 0
    for n, stride in zip(reversed(shape), reversed(strides)):
        if n == 1:
            continue
        if size == 1:
            step = stride
        elif stride != size * step:
            raise Unsupported("axes that do not lie one behind the other")
        size *= n
    return size, step


def _address(array: np.ndarray) -> int:
    found: int = array.__array_interface__["data"][0]
    return found
