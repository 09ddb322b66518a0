"""Writing LLVM's language: a function as a growing text, with values that are whole vectors of ``lanes`` elements.

    code = Code(16)
    y = code.multiply_add(x, x, code.constant(F32, 1.0))   # appends "%v7 = call <16 x float> @llvm.fmuladd..." and names the result

Every instruction makes a new name; where control flow joins, values go through stack slots (``slot``), which LLVM turns into registers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
I32, I64 = np.dtype(np.int32), np.dtype(np.int64)
BOOL = np.dtype(np.bool_)


class Value(NamedTuple):
    """A vector in a register: its name in the text (or a literal), and the dtype of its elements."""

    text: str
    dtype: np.dtype


def scalar_type(dtype: np.dtype) -> str:
    """LLVM's type of one element in a register.

    >>> scalar_type(F32), scalar_type(BOOL), scalar_type(np.dtype("uint8"))
    ('float', 'i1', 'i8')
    """
    if dtype.kind == "b":
        return "i1"
    if dtype.kind in "iu":
        return f"i{8 * dtype.itemsize}"
    return {2: "half", 4: "float", 8: "double"}[dtype.itemsize]


def memory_type(dtype: np.dtype) -> str:
    """LLVM's type of one element in memory: a bool takes a byte."""
    return "i8" if dtype.kind == "b" else scalar_type(dtype)


def literal(dtype: np.dtype, number: Any) -> str:
    """One number as LLVM writes it.

    >>> literal(F32, 0.5), literal(I64, -3)
    ('0x3FE0000000000000', '-3')
    """
    if dtype.kind in "biu":
        return str(int(number))
    if dtype.itemsize == 4:
        with np.errstate(over="ignore"):
            number = np.float32(number)
    return f"0x{struct.pack('>d', float(number)).hex().upper()}"


class Code:
    """The text of one function. ``lanes``: elements of a vector."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.lines: list[str] = []
        self.entry: list[str] = []
        self.declared: dict[str, None] = {}
        self._number = 0

    # ---- text ----------------------------------------------------------------------------------

    def fresh(self, prefix: str = "v") -> str:
        """A name that was not used before."""
        self._number += 1
        return f"{prefix}{self._number}"

    def line(self, text: str) -> None:
        """Append an instruction without result."""
        self.lines.append(f"  {text}")

    def plain(self, text: str) -> str:
        """Append an instruction; returns the name of its result."""
        name = f"%{self.fresh()}"
        self.lines.append(f"  {name} = {text}")
        return name

    def label(self, name: str) -> None:
        """Start a block."""
        self.lines.append(f"{name}:")

    def jump(self, name: str) -> None:
        """Go to a block."""
        self.line(f"br label %{name}")

    def branch(self, condition: str, yes: str, no: str) -> None:
        """Go to one of two blocks."""
        self.line(f"br i1 {condition}, label %{yes}, label %{no}")

    def declare(self, text: str) -> None:
        """A function of LLVM or of the system that the text calls."""
        self.declared[f"declare {text}"] = None

    def stack(self, kind: str) -> str:
        """A place on the stack of the function."""
        name = f"%{self.fresh('s')}"
        self.entry.append(f"  {name} = alloca {kind}, align {64 if kind.startswith(('<', '[')) else 8}")
        return name

    def definition(self, head: str) -> str:
        """The whole function. ``head``: everything between ``define`` and the opening brace."""
        return "\n".join([f"define {head} {{", "entry:", *self.entry, *self.lines, "}"])

    # ---- addresses and integers ----------------------------------------------------------------

    def word(self, table: str, index: int, kind: str = "i64") -> str:
        """The ``index``-th word of a table of 8-byte words, read when the function begins."""
        place, name = f"%{self.fresh('p')}", f"%{self.fresh('w')}"
        self.entry.append(f"  {place} = getelementptr i64, ptr {table}, i64 {index}")
        self.entry.append(f"  {name} = load {kind}, ptr {place}")
        return name

    def whole(self, operation: str, a: str | int, b: str | int) -> str:
        """Arithmetic of 64-bit integers; what is known now is done now."""
        if isinstance(a, int) and isinstance(b, int):
            return str(_WHOLE[operation](a, b))
        if operation == "mul" and "1" in (str(a), str(b)):
            return str(b) if str(a) == "1" else str(a)
        if operation == "mul" and "0" in (str(a), str(b)):
            return "0"
        if operation == "add" and "0" in (str(a), str(b)):
            return str(b) if str(a) == "0" else str(a)
        return self.plain(f"{operation} i64 {a}, {b}")

    def moved(self, pointer: str, offset: str | int) -> str:
        """A pointer, some bytes further."""
        return pointer if str(offset) == "0" else self.plain(f"getelementptr i8, ptr {pointer}, i64 {offset}")

    @contextmanager
    def loop(self, start: str | int, stop: str | int, step: int = 1) -> Iterator[str]:
        """Repeat what is written inside for an index from ``start`` below ``stop``."""
        head, body, after = self.fresh("head"), self.fresh("body"), self.fresh("after")
        slot = self.stack("i64")
        self.line(f"store i64 {start}, ptr {slot}")
        self.jump(head)
        self.label(head)
        index = self.plain(f"load i64, ptr {slot}")
        self.branch(self.plain(f"icmp slt i64 {index}, {stop}"), body, after)
        self.label(body)
        yield index
        self.line(f"store i64 {self.plain(f'add nsw i64 {index}, {step}')}, ptr {slot}")
        self.jump(head)
        self.label(after)

    def vectors(self, low: str | int, high: str | int, body: Callable[[str, str | None], None], once: bool = False) -> None:
        """``body(i, mask)`` for the elements from ``low`` below ``high``, a vector at a time; of the last one ``mask`` says which lanes exist.
        once: write the body once, with a mask for all, which a long one pays for with time to run only."""
        if once:
            with self.loop(low, high, self.lanes) as i:
                body(i, self.mask_below(self.whole("sub", high, i)))
            return
        rest = self.plain(f"srem i64 {self.whole('sub', high, low)}, {self.lanes}")
        whole = self.whole("sub", high, rest)
        with self.loop(low, whole, self.lanes) as i:
            body(i, None)
        with self.when(self.plain(f"icmp sgt i64 {rest}, 0")):
            body(whole, self.mask_below(rest))

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """Do what is written inside if the condition, an ``i1``, holds."""
        yes, after = self.fresh("yes"), self.fresh("after")
        self.branch(condition, yes, after)
        self.label(yes)
        yield
        self.jump(after)
        self.label(after)

    # ---- vectors -------------------------------------------------------------------------------

    def type(self, dtype: np.dtype) -> str:
        """LLVM's type of a vector."""
        return f"<{self.lanes} x {scalar_type(dtype)}>"

    def suffix(self, dtype: np.dtype) -> str:
        """How LLVM's functions spell that type in their names."""
        kind = scalar_type(dtype)
        return f"v{self.lanes}{ {'half': 'f16', 'float': 'f32', 'double': 'f64'}.get(kind, kind) }"

    def constant(self, dtype: np.dtype, number: Any) -> Value:
        """A vector of equal numbers."""
        element = f"{scalar_type(dtype)} {literal(dtype, number)}"
        return Value(f"<{', '.join([element] * self.lanes)}>", dtype)

    def bits(self, pattern: int) -> Value:
        """A float32 vector with the bits ``pattern``."""
        return Value(self.constant(F32, np.uint32(pattern).view(np.float32)).text, F32)

    def lane_numbers(self) -> str:
        """0, 1, 2, ... as a vector of 64-bit integers."""
        return f"<{', '.join([f'i64 {i}' for i in range(self.lanes)])}>"

    def spread(self, text: str, kind: str) -> str:
        """A vector whose elements are all the scalar ``text``."""
        one = self.plain(f"insertelement <{self.lanes} x {kind}> poison, {kind} {text}, i64 0")
        return self.plain(
            f"shufflevector <{self.lanes} x {kind}> {one}, <{self.lanes} x {kind}> poison, <{self.lanes} x i32> zeroinitializer"
        )

    def value(self, dtype: np.dtype, text: str) -> Value:
        """Append an instruction whose result is a vector of ``dtype``."""
        return Value(self.plain(text), dtype)

    def binary(self, operation: str, a: Value, b: Value) -> Value:
        """``fadd``, ``mul``, ``and`` ... of two vectors of one dtype."""
        return self.value(a.dtype, f"{operation} {self.type(a.dtype)} {a.text}, {b.text}")

    def add(self, a: Value, b: Value) -> Value:
        """Sum."""
        return self.binary("fadd contract" if a.dtype.kind == "f" else "add", a, b)

    def sub(self, a: Value, b: Value) -> Value:
        """Difference."""
        return self.binary("fsub contract" if a.dtype.kind == "f" else "sub", a, b)

    def mul(self, a: Value, b: Value) -> Value:
        """Product."""
        return self.binary("fmul contract" if a.dtype.kind == "f" else "mul", a, b)

    def compare(self, condition: str, a: Value, b: Value) -> Value:
        """``fcmp`` or ``icmp`` with LLVM's name of the condition."""
        operation = "fcmp" if a.dtype.kind == "f" else "icmp"
        return self.value(BOOL, f"{operation} {condition} {self.type(a.dtype)} {a.text}, {b.text}")

    def select(self, condition: Value, yes: Value, no: Value) -> Value:
        """Element by element one or the other."""
        kind = self.type(yes.dtype)
        return self.value(yes.dtype, f"select {self.type(BOOL)} {condition.text}, {kind} {yes.text}, {kind} {no.text}")

    def intrinsic(self, name: str, *values: Value) -> Value:
        """A function of LLVM whose arguments and result have one type."""
        kind, dtype = self.type(values[0].dtype), values[0].dtype
        full = f"@llvm.{name}.{self.suffix(dtype)}"
        self.declare(f"{kind} {full}({', '.join([kind] * len(values))})")
        return self.value(
            dtype,
            f"call contract {kind} {full}({', '.join([f'{kind} {v.text}' for v in values])})"
            if dtype.kind == "f"
            else f"call {kind} {full}({', '.join([f'{kind} {v.text}' for v in values])})",
        )

    def multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        """a b + c, rounded once where the processor can."""
        return self.intrinsic("fmuladd", a, b, c)

    def bitcast(self, a: Value, dtype: np.dtype) -> Value:
        """The same bits as another dtype."""
        return self.value(dtype, f"bitcast {self.type(a.dtype)} {a.text} to {self.type(dtype)}")

    def convert(self, a: Value, dtype: np.dtype) -> Value:
        """The elements as another dtype, as ``astype`` does."""
        old, new = a.dtype, dtype
        if old == new:
            return a
        if new.kind == "b":
            zero = self.constant(old, 0)
            return self.compare("une" if old.kind == "f" else "ne", a, zero)
        if old.kind == "f" and new.kind == "f":
            operation = "fpext" if new.itemsize > old.itemsize else "fptrunc"
        elif old.kind == "f":
            return self._to_integer(a, new)
        elif new.kind == "f":
            operation = "sitofp" if old.kind == "i" else "uitofp"
        elif old.kind == "b" or new.itemsize > old.itemsize:
            operation = "sext" if old.kind == "i" else "zext"
        elif new.itemsize == old.itemsize:
            return Value(a.text, new)
        else:
            operation = "trunc"
        return self.value(new, f"{operation} {self.type(old)} {a.text} to {self.type(new)}")

    def _to_integer(self, a: Value, dtype: np.dtype) -> Value:
        kind, name = (
            self.type(dtype),
            f"@llvm.fpto{'si' if dtype.kind == 'i' else 'ui'}.sat.{self.suffix(dtype)}.{self.suffix(a.dtype)}",
        )
        self.declare(f"{kind} {name}({self.type(a.dtype)})")
        return self.value(dtype, f"call {kind} {name}({self.type(a.dtype)} {a.text})")

    # ---- memory --------------------------------------------------------------------------------

    def load(self, pointer: str, dtype: np.dtype, stride: str | int, mask: str | None = None) -> Value:
        """A vector from memory. ``stride``: bytes from element to element; ``mask``: which elements exist (None: all)."""
        kind = memory_type(dtype)
        vector = f"<{self.lanes} x {kind}>"
        if str(stride) == "0":
            text = self.spread(self.plain(f"load {kind}, ptr {pointer}, align {dtype.itemsize}"), kind)
        elif str(stride) == str(dtype.itemsize):
            if mask is None:
                text = self.plain(f"load {vector}, ptr {pointer}, align {dtype.itemsize}")
            else:
                name = f"@llvm.masked.load.{self._memory_suffix(dtype)}.p0"
                self.declare(f"{vector} {name}(ptr, i32, <{self.lanes} x i1>, {vector})")
                text = self.plain(
                    f"call {vector} {name}(ptr {pointer}, i32 {dtype.itemsize}, <{self.lanes} x i1> {mask}, {vector} zeroinitializer)"
                )
        else:
            name = f"@llvm.masked.gather.{self._memory_suffix(dtype)}.v{self.lanes}p0"
            self.declare(f"{vector} {name}(<{self.lanes} x ptr>, i32, <{self.lanes} x i1>, {vector})")
            existing = mask or self.constant(BOOL, 1).text
            text = self.plain(
                f"call {vector} {name}(<{self.lanes} x ptr> {self._pointers(pointer, stride)}, i32 {dtype.itemsize}, "
                f"<{self.lanes} x i1> {existing}, {vector} zeroinitializer)"
            )
        if dtype.kind == "b":
            text = self.plain(f"icmp ne {vector} {text}, zeroinitializer")
        return Value(text, dtype)

    def store(self, value: Value, pointer: str, stride: str | int, mask: str | None = None) -> None:
        """A vector into memory, as ``load``; with ``stride`` 0 its first element."""
        dtype = value.dtype
        kind, text = memory_type(dtype), value.text
        vector = f"<{self.lanes} x {kind}>"
        if dtype.kind == "b":
            text = self.plain(f"zext {self.type(dtype)} {text} to {vector}")
        if str(stride) == "0":
            first = self.plain(f"extractelement {vector} {text}, i64 0")
            self.line(f"store {kind} {first}, ptr {pointer}, align {dtype.itemsize}")
        elif str(stride) == str(dtype.itemsize):
            if mask is None:
                self.line(f"store {vector} {text}, ptr {pointer}, align {dtype.itemsize}")
                return
            name = f"@llvm.masked.store.{self._memory_suffix(dtype)}.p0"
            self.declare(f"void {name}({vector}, ptr, i32, <{self.lanes} x i1>)")
            self.line(f"call void {name}({vector} {text}, ptr {pointer}, i32 {dtype.itemsize}, <{self.lanes} x i1> {mask})")
        else:
            name = f"@llvm.masked.scatter.{self._memory_suffix(dtype)}.v{self.lanes}p0"
            self.declare(f"void {name}({vector}, <{self.lanes} x ptr>, i32, <{self.lanes} x i1>)")
            existing = mask or self.constant(BOOL, 1).text
            self.line(
                f"call void {name}({vector} {text}, <{self.lanes} x ptr> {self._pointers(pointer, stride)}, i32 {dtype.itemsize}, "
                f"<{self.lanes} x i1> {existing})"
            )

    def _memory_suffix(self, dtype: np.dtype) -> str:
        return f"v{self.lanes}i8" if dtype.kind == "b" else self.suffix(dtype)

    def _pointers(self, pointer: str, stride: str | int) -> str:
        kind = f"<{self.lanes} x i64>"
        offsets = self.plain(f"mul {kind} {self.lane_numbers()}, {self.spread(str(stride), 'i64')}")
        return self.plain(f"getelementptr i8, ptr {pointer}, {kind} {offsets}")

    def mask_below(self, count: str) -> str:
        """Which lanes are below ``count``, an ``i64``."""
        return self.plain(f"icmp ult <{self.lanes} x i64> {self.lane_numbers()}, {self.spread(count, 'i64')}")


_WHOLE: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "sdiv": lambda a, b: a // b,
    "udiv": lambda a, b: a // b,
    "urem": lambda a, b: a % b,
}
