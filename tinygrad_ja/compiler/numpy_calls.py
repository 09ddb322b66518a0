"""One instruction as calls of NumPy that are bound to their arrays: what is left to do in a step is ``for call in calls: call()``.

Each call is the fastest form that NumPy has for it (measured for 16 elements, where the call is all that counts):

| call | ns |
| --- | --- |
| ``np.add(a, b, out)`` | 300; with ``out=`` 450, with a Python number instead of a 0-d array 580 |
| ``a.dot(b, out)`` | 340; ``np.dot`` 460, ``np.matmul`` 770 |
| ``ones.dot(x, out)`` instead of ``np.add.reduce`` | 320 instead of 900; of 2048 x 128 in 16 µs instead of 72 |
| ``x.argmax(1)`` and ``take`` instead of ``np.maximum.reduce`` | of 2048 x 128 in 96 µs instead of 285 |
| ``y[...] = x`` as a bound ``__setitem__`` | 180; ``np.copyto`` 320 |
| ``where`` of large arrays as a product of integers | of 65,536 elements in 19 to 38 µs instead of 315 |

``maximum`` and ``minimum`` take ``out`` by name only: NumPy 2.4 warns, slowly, of the other form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .numpy_indices import bind_add_at, bind_take
from .program import Instruction, run_instruction

Call = Callable[[], Any]

_LONGEST = 4096
"""Up to here the products' own order of summation is as accurate as NumPy's pairwise one (see ``kernels/numpy_reduce.py``)."""
_SMALL = 512
"""Up to so many elements ``where`` is cheaper by ``putmask``, and a product by ``dot`` of a copy than by ``matmul``."""
_CHUNK = 1 << 20


class Room:
    """Scratch memory of a thread: arrays that live until ``reset``, after which the same memory is given out again."""

    def __init__(self) -> None:
        self._chunks: list[np.ndarray] = []
        self.reset()

    def reset(self) -> None:
        """Take all arrays back."""
        self._chunk = self._used = 0

    @property
    def nbytes(self) -> int:
        """Bytes in all."""
        return sum([chunk.nbytes for chunk in self._chunks])

    def mark(self) -> tuple[int, int]:
        """How far memory is given out, for ``release``."""
        return self._chunk, self._used

    def release(self, mark: tuple[int, int]) -> None:
        """Take back what was given out since the mark."""
        self._chunk, self._used = mark

    def array(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """A C-contiguous array."""
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        while True:
            if self._chunk == len(self._chunks):
                self._chunks.append(np.empty(max(size, _CHUNK if self._chunks else size) + 64, np.uint8))
            chunk = self._chunks[self._chunk]
            begin = self._used + -(chunk.ctypes.data + self._used) % 64
            if begin + size <= chunk.nbytes:
                self._used = begin + size
                return np.ndarray(shape, dtype, chunk.data, begin)
            self._chunk, self._used = self._chunk + 1, 0


class Binding:
    """What calls are bound with beside their arrays. room: scratch memory. notes: what fell back to a slower way. free_sums: whether sums
    may be taken in another order than the eager operators take them."""

    def __init__(self, room: Room, notes: list[str], free_sums: bool = False) -> None:
        self.room = room
        self.notes = notes
        self.free_sums = free_sums

    def note(self, text: str) -> None:
        """Remember once why something fell back."""
        if text not in self.notes:
            self.notes.append(text)


def bind(instruction: Instruction, xs: Sequence[np.ndarray], y: np.ndarray, binding: Binding) -> list[Call]:
    """The calls that compute an instruction with one output ``y`` of the inputs ``xs``."""
    return _KINDS[instruction.kind](instruction, xs, y, binding)


def plainly(instruction: Instruction, xs: Sequence[np.ndarray], y: np.ndarray, binding: Binding, why: str = "") -> list[Call]:
    """The instruction as ``program.run_instruction`` runs it, which allocates."""
    binding.note(f"{instruction.function}{why}: allocates its result at each call")

    def call() -> None:
        y[...] = run_instruction(instruction, xs)[0]

    return [call]


def copy(x: np.ndarray, y: np.ndarray) -> Call:
    """``y[...] = x``, casting like ``astype``."""
    return partial(y.__setitem__, Ellipsis, x)


def overlap(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays may share memory."""
    return np.may_share_memory(a, b)


# ---- map ---------------------------------------------------------------------------------------------


def _map(instruction: Instruction, xs: Sequence[np.ndarray], y: np.ndarray, binding: Binding) -> list[Call]:
    function = instruction.function
    xs, y = _simpler(xs, y)
    if function in ("cast", "copy"):
        return [copy(xs[0], y)]
    if function == "where":
        return _where(instruction, xs, y, binding)
    if function == "clip" and len(xs) == 3 and all([x.dtype == y.dtype for x in xs]) and xs[0].shape == y.shape:
        return [partial(xs[0].clip, xs[1], xs[2], y)]
    ufunc = getattr(np, function, None)
    if not isinstance(ufunc, np.ufunc) or ufunc.nout != 1 or ufunc.nin != len(xs):
        return plainly(instruction, xs, y, binding)
    *wanted, natural = ufunc.resolve_dtypes((*[x.dtype for x in xs], None))
    calls: list[Call] = []
    xs = [x if x.dtype == dtype else _cast(x, dtype, binding.room, calls) for x, dtype in zip(xs, wanted)]
    if natural == y.dtype:
        return [*calls, _call_of(ufunc, xs, y)]
    made = binding.room.array(y.shape, natural)
    return [*calls, _call_of(ufunc, xs, made), copy(made, y)]


def _cast(x: np.ndarray, dtype: np.dtype, room: Room, calls: list[Call]) -> np.ndarray:
    """What a function would cast piece by piece, cast at once; a constant here and now."""
    if not x.flags.writeable:
        made = x.astype(dtype)
        made.setflags(write=False)
        return made
    calls.append(copy(x, made := room.array(x.shape, dtype)))
    return made


def _simpler(xs: Sequence[np.ndarray], y: np.ndarray) -> tuple[Sequence[np.ndarray], np.ndarray]:
    """The same elements with one axis, if those that are more than one lie in order everywhere: broadcasting costs as much as the work."""
    if y.ndim < 2 or not y.flags.c_contiguous or not y.size:
        return xs, y
    if not all([x.size == 1 or (x.size == y.size and x.flags.c_contiguous) for x in xs]):
        return xs, y
    return [x.reshape(()) if x.size == 1 < y.size else x.reshape(-1) for x in xs], y.reshape(-1)


def _call_of(ufunc: np.ufunc, xs: Sequence[np.ndarray], y: np.ndarray) -> Call:
    if ufunc in (np.maximum, np.minimum):
        return partial(ufunc, *xs, out=y)
    return partial(ufunc, *xs, y)


def _where(instruction: Instruction, xs: Sequence[np.ndarray], y: np.ndarray, binding: Binding) -> list[Call]:
    mask, a, b = xs
    room = binding.room
    calls: list[Call] = []
    if mask.dtype != np.bool_:
        mask, given = room.array(mask.shape, np.bool_), mask
        calls.append(copy(given, mask))
    common = np.result_type(a.dtype, b.dtype)
    made = y if common == y.dtype else room.array(y.shape, common)
    if a.dtype == b.dtype and common.kind != "b" and common.itemsize in (4, 8) and y.size > _SMALL:
        calls += _where_by_product(mask, a, b, made, room)
    else:
        calls += _where_by_copies(mask, a, b, made, room)
    return calls if made is y else [*calls, copy(made, y)]


def _where_by_copies(mask: np.ndarray, a: np.ndarray, b: np.ndarray, y: np.ndarray, room: Room) -> list[Call]:
    """``b`` everywhere, then ``a`` where the mask is; the other way round where ``y`` lies on ``a``."""
    calls: list[Call] = []
    if overlap(y, mask):
        mask, given = room.array(mask.shape, np.bool_), mask
        calls.append(copy(given, mask))
    if overlap(y, a):
        if overlap(y, b):
            b, given = room.array(b.shape, b.dtype), b
            calls.append(copy(given, b))
        other = room.array(mask.shape, np.bool_)
        calls.append(partial(np.logical_not, mask, other))
        mask, a, b = other, b, a
    if not (overlap(y, b) and y.shape == b.shape and y.strides == b.strides):
        calls.append(copy(b, y))
    if y.shape == a.shape == mask.shape and y.dtype == a.dtype:
        return [*calls, partial(np.putmask, y, mask, a)]
    return [*calls, partial(np.copyto, y, a, where=mask)]


def _where_by_product(mask: np.ndarray, a: np.ndarray, b: np.ndarray, y: np.ndarray, room: Room) -> list[Call]:
    """((a ^ b) * m) ^ b for the bits of the elements and m = 0 or 1."""
    integer = np.dtype(f"i{y.dtype.itemsize}")
    factor = room.array(mask.shape, integer)
    calls = [copy(mask.view(np.int8), factor)]
    a, b, y = a.view(integer), b.view(integer), y.view(integer)
    if overlap(y, b):
        if overlap(y, a):
            a, given = room.array(a.shape, integer), a
            calls.append(copy(given, a))
        calls.append(partial(np.bitwise_xor, factor, np.array(1, integer), factor))
        a, b = b, a
    if b.ndim == 0 and not b.flags.writeable and b == 0:
        return [*calls, partial(np.multiply, a, factor, y)]
    return [*calls, partial(np.bitwise_xor, a, b, y), partial(np.multiply, y, factor, y), partial(np.bitwise_xor, y, b, y)]


# ---- reduce and scan ---------------------------------------------------------------------------------

REDUCTIONS: dict[str, np.ufunc] = {
    "sum": np.add,
    "prod": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "any": np.logical_or,
    "all": np.logical_and,
}


def _reduce(instruction: Instruction, xs: Sequence[np.ndarray], y: np.ndarray, binding: Binding) -> list[Call]:
    axes = tuple(sorted([axis % max(xs[0].ndim, 1) for axis in instruction.options["axes"]]))
    return bind_reduction(instruction.function, axes, xs[0], y, binding)


def bind_reduction(function: str, axes: tuple[int, ...], x: np.ndarray, y: np.ndarray, binding: Binding) -> list[Call]:
    """The calls that reduce sorted axes, which ``y`` keeps or does not."""
    room, position = binding.room, function in ("argmax", "argmin")
    if x.ndim == 0 or not axes:
        return [partial(y.fill, 0) if position else copy(x, y)]
    kept = tuple([n for axis, n in enumerate(x.shape) if axis not in axes])
    made = y.reshape(kept)
    if not overlap(made, y) and y.size:
        made = room.array(kept, y.dtype)
        return [*bind_reduction(function, axes, x, made, binding), copy(made.reshape(y.shape), y)]
    if position:
        return _position(getattr(x, function), axes[0], made, room)
    if function in ("max", "min") and (calls := _extreme(x, function, axes, made, room)):
        return calls
    if function == "sum" and (call := _sum_by_product(x, axes, made, y.ndim > len(kept), binding.free_sums)):
        return [call]
    ufunc = REDUCTIONS[function]
    natural = np.dtype(np.bool_) if function in ("any", "all") else x.dtype if function in ("max", "min") else y.dtype
    if natural != y.dtype:
        part = room.array(kept, natural)
        return [partial(ufunc.reduce, x, axes, None, part), copy(part, made)]
    dtype = None if x.dtype == natural or natural.kind == "b" else natural
    if function in ("sum", "prod") and x.dtype.kind == "f" and not x.flags.c_contiguous and made.ndim > 1:
        return _reduce_in_usual_order(ufunc, x, axes, dtype, made, room)
    return [partial(ufunc.reduce, x, axes, dtype, made)]


def _reduce_in_usual_order(
    ufunc: np.ufunc, x: np.ndarray, axes: tuple[int, ...], dtype: Any, y: np.ndarray, room: Room
) -> list[Call]:
    """The order of a sum follows from the strides of its result too: give NumPy those that it would choose."""
    with np.errstate(all="ignore"):
        usual = ufunc.reduce(x, axes, dtype)
    if usual.strides == y.strides:
        return [partial(ufunc.reduce, x, axes, dtype, y)]
    order = sorted(range(y.ndim), key=lambda axis: -usual.strides[axis])
    made = room.array([y.shape[axis] for axis in order], y.dtype).transpose(np.argsort(order))
    return [partial(ufunc.reduce, x, axes, dtype, made), copy(made, y)]


def _sum_by_product(x: np.ndarray, axes: tuple[int, ...], y: np.ndarray, keeps: bool, free: bool) -> Call | None:
    """A sum as a product with ones, where the eager operator takes it so, or where sums are free; else None."""
    if x.dtype.char not in "fd" or x.dtype != y.dtype or not (x.flags.c_contiguous and y.flags.c_contiguous) or not x.size:
        return None
    if not free and (keeps or (x.ndim != 2 and len(axes) < x.ndim)):
        return None
    count = math.prod([x.shape[axis] for axis in axes])
    if count > _LONGEST:
        return None
    ones, rest = _ones(count, x.dtype), x.size // count
    if len(axes) == x.ndim:
        return partial(x.reshape(-1).dot, ones, y.reshape(()))
    if axes == tuple(range(len(axes))):
        return partial(ones.dot, x.reshape(count, rest), y.reshape(-1))
    if axes == tuple(range(x.ndim - len(axes), x.ndim)):
        return partial(x.reshape(rest, count).dot, ones, y.reshape(-1))
    return None


_made_ones: dict[tuple[int, np.dtype], np.ndarray] = {}


def _ones(n: int, dtype: np.dtype) -> np.ndarray:
    return _made_ones.setdefault((n, dtype), np.ones(n, dtype))


def _extreme(x: np.ndarray, function: str, axes: tuple[int, ...], y: np.ndarray, room: Room) -> list[Call] | None:
    """The largest elements of rows, by their positions. (Of 0.0 and -0.0 the first one counts as the largest.)"""
    rows, row = y.size, x.size // max(y.size, 1)
    last = axes == tuple(range(x.ndim - len(axes), x.ndim))
    if x.dtype.kind not in "fiu" or x.dtype.char == "e" or not (last and rows > 1 and row > 1):
        return None
    if not (x.flags.c_contiguous and y.flags.c_contiguous and x.dtype == y.dtype):
        return None
    at, first = room.array((rows,), np.intp), np.arange(rows) * row
    find = getattr(x.reshape(rows, row), "arg" + function)
    return [
        partial(find, 1, at),
        partial(np.add, at, first, at),
        partial(x.reshape(-1).take, at, None, y.reshape(-1), "wrap"),
    ]


def _position(method: Any, axis: int, y: np.ndarray, room: Room) -> list[Call]:
    if y.dtype == np.intp and y.flags.c_contiguous:
        return [partial(method, axis, y)]
    made = room.array(y.shape, np.intp)
    return [partial(method, axis, made), copy(made, y)]


def _scan(instruction: Instruction, xs: Sequence[np.ndarray], y: np.ndarray, binding: Binding) -> list[Call]:
    ufunc = {"cumsum": np.add, "cumprod": np.multiply}[instruction.function]
    return [partial(ufunc.accumulate, xs[0], instruction.options["axis"], y.dtype, y)]


# ---- products ----------------------------------------------------------------------------------------


def _matmul(instruction: Instruction, xs: Sequence[np.ndarray], y: np.ndarray, binding: Binding) -> list[Call]:
    a, b = xs
    if a.dtype.char == "e" and b.dtype.char == "e":
        return _matmul_of_halves(instruction, a, b, y, binding)
    room = binding.room
    common = np.result_type(a.dtype, b.dtype)
    if common != y.dtype:
        made = room.array(y.shape, common)
        return [*_matmul(instruction, xs, made, binding), copy(made, y)]
    if common.char not in "fd" or a.dtype != b.dtype or not (y.size and a.size):
        return [partial(np.matmul, a, b, y)]
    calls: list[Call] = []
    flat = b.ndim == 2 and y.flags.c_contiguous
    if not (_in_order(a, 0) if flat and a.ndim == 2 and a.size <= _SMALL else _for_blas(a)):
        a = _contiguous(a, room, calls)
    if not (_in_order(b, 1) if flat and b.size <= _SMALL else _for_blas(b)):
        b = _contiguous(b, room, calls)
    rows = a.reshape(-1, a.shape[-1])
    if flat and overlap(rows, a) and _in_order(rows, 0) and _in_order(b, 1):
        return [*calls, partial(rows.dot, b, y.reshape(-1, y.shape[-1]))]
    return [*calls, partial(np.matmul, a, b, y)]


def _contiguous(x: np.ndarray, room: Room, calls: list[Call]) -> np.ndarray:
    """The same elements in order; of a constant once for all."""
    if not x.flags.writeable:
        return np.ascontiguousarray(x)
    calls.append(copy(x, made := room.array(x.shape, x.dtype)))
    return made


def _in_order(x: np.ndarray, axis: int) -> bool:
    """Whether ``dot`` takes a matrix as it lies. A vector along the other axis than ``axis`` may have any stride."""
    return x.flags.c_contiguous or x.flags.f_contiguous or (x.shape[axis] == 1 and x.strides[1 - axis] > 0)


def _for_blas(x: np.ndarray) -> bool:
    """Whether ``matmul`` takes matrices as they lie: their rows or their columns in order. It would multiply others without BLAS."""
    (m, n), (row, column), itemsize = x.shape[-2:], x.strides[-2:], x.itemsize
    rows = (column == itemsize or n == 1) and (row >= n * itemsize or m == 1)
    return rows or ((row == itemsize or m == 1) and (column >= m * itemsize or n == 1))


def _matmul_of_halves(instruction: Instruction, a: np.ndarray, b: np.ndarray, y: np.ndarray, binding: Binding) -> list[Call]:
    """In single precision, as the eager product."""
    wide = [binding.room.array(x.shape, np.float32) for x in (a, b, y)]
    return [copy(a, wide[0]), copy(b, wide[1]), *_matmul(instruction, wide[:2], wide[2], binding), copy(wide[2], y)]


# ---- moving elements ---------------------------------------------------------------------------------


def _copied_view(instruction: Instruction, xs: Sequence[np.ndarray], y: np.ndarray, binding: Binding) -> list[Call]:
    """A reshape that has to copy."""
    made = y.reshape(xs[0].shape)
    return [copy(xs[0], made)] if overlap(made, y) else plainly(instruction, xs, y, binding)


def _place(instruction: Instruction, xs: Sequence[np.ndarray], y: np.ndarray, binding: Binding) -> list[Call]:
    key = instruction.options["key"]
    key = key if isinstance(key, tuple) else (key,)
    part = y[key if Ellipsis in key else (*key, ...)]
    return [partial(y.fill, 0), copy(xs[0], part)]


_KINDS: dict[str, Callable[[Instruction, Sequence[np.ndarray], np.ndarray, Binding], list[Call]]] = {
    "map": _map,
    "reduce": _reduce,
    "scan": _scan,
    "matmul": _matmul,
    "view": _copied_view,
    "place": _place,
    "take": bind_take,
    "add_at": bind_add_at,
}
