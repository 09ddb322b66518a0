"""Symbols: arrays without elements that the texts of operators can compute with. What NumPy would compute becomes instructions.

``operator.forward(xp, ...)`` and derivatives are texts over array modules; with symbols for arrays and ``symbolic_numpy.XP`` for ``xp`` the
same text writes the instructions of a ``Program``. Two things differ from elements:

- Instructions make arrays that never change, but texts change theirs (``y *= w``, ``made[key] = x``). A symbol therefore is a name for the
  latest value: a change gives it a new one, and views of it read that. What comes from outside of a text may not be changed.
- Broadcasting is put off: a symbol knows its shape, and holds an array that broadcasts to it. Only what needs the whole array
  (``full``) writes the broadcast as an instruction.

What cannot be said raises ``Unsupported``; ``Emitter.undo`` then takes back all that was written since a mark.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .marks import Number
from .program import NOWHERE, Array, Instruction, Source


class Unsupported(Exception):
    """A text asked for something that no instruction says."""


broadcast = functools.lru_cache(4096)(np.broadcast_shapes)
"""The shape to which shapes broadcast."""


@functools.lru_cache(4096)
def reshaped(shape: tuple[int, ...], wanted: Any) -> tuple[int, ...]:
    """The sizes of ``array.reshape(wanted)``, in which one may be -1."""
    return np.broadcast_to(np.False_, shape).reshape(wanted).shape


class Emitter:
    """Instructions in the order in which texts ask for them.

    instructions, constants (Array -> elements) and numbers (pairs of a ``Number`` and its 0-d Array) are what has been written; ``source`` is
    given to every new instruction.
    """

    def __init__(self) -> None:
        self.instructions: list[Instruction] = []
        self.constants: dict[Array, np.ndarray] = {}
        self.numbers: list[tuple[Number, Array]] = []
        self.source: Source = NOWHERE
        self._given: dict[Any, Array] = {}
        self._views: dict[Any, Array] = {}
        self._held: list[Symbol] = []
        self._keys: list[Any] = []

    # -- writing

    def emit(
        self, kind: str, function: str, inputs: Sequence[Array], shape: Sequence[int], dtype: Any, **options: Any
    ) -> Array:
        """Write an instruction with one output."""
        output = Array(shape, dtype)
        self.instructions.append(Instruction(kind, function, inputs, [output], options, self.source))
        return output

    def view(self, function: str, array: Array, shape: Sequence[int], **options: Any) -> Array:
        """Write a view, or find the one that was written before. A view of a view of the same kind is one view."""
        before = array.maker
        if function in ("reshape", "transpose") and before is not None and (before.kind, before.function) == ("view", function):
            array = before.inputs[0]
            if function == "transpose":
                options = {"axes": tuple([before.options["axes"][axis] for axis in options["axes"]])}
        if array.shape == tuple(shape) and (function == "reshape" or options.get("axes") == tuple(range(array.ndim))):
            return array
        key = (function, array, tuple(shape), repr(options))
        found = self._views.get(key)
        if found is None:
            found = self._views[key] = self.emit("view", function, [array], shape, array.dtype, **options)
            self._keys.append(key)
        return found

    def constant(self, elements: Any, dtype: Any = None) -> Array:
        """An array of the program's constants; equal small ones are one."""
        value = np.asarray(elements, dtype=dtype)

        def make() -> Array:
            array = Array(value.shape, value.dtype)
            self.constants[array] = value
            return array

        return make() if value.size > 256 else self._once((value.shape, value.dtype.str, value.tobytes()), make)

    def scalar(self, value: float, dtype: Any) -> Array:
        """A 0-d constant from a number of Python."""
        return self._once((type(value), repr(value), dtype), lambda: self.constant(value, dtype))

    def number(self, number: Number, dtype: np.dtype) -> Array:
        """The 0-d array that holds a number of Python at each call."""

        def make() -> Array:
            array = Array((), dtype)
            self.numbers.append((number, array))
            return array

        return self._once((number.source, dtype.str), make)

    def _once(self, key: Any, make: Callable[[], Array]) -> Array:
        found = self._given.get(key)
        if found is None:
            found = self._given[key] = make()
        return found

    def hold(self, symbol: Symbol) -> None:
        """Note that a symbol has found its array, which ``undo`` may take from it again."""
        self._held.append(symbol)

    # -- trying

    def mark(self) -> tuple[int, ...]:
        """A moment to which ``undo`` can go back."""
        return len(self.instructions), len(self._held), len(self._keys)

    def undo(self, mark: tuple[int, ...]) -> None:
        """Take back all instructions that were written since ``mark``. Constants and numbers that nobody reads then are left out at the end."""
        instructions, held, keys = mark
        for symbol in self._held[held:]:
            symbol.forget()
        for key in self._keys[keys:]:
            del self._views[key]
        del self.instructions[instructions:], self._held[held:], self._keys[keys:]


class _Now(threading.local):
    emitter: Emitter | None = None


_now = _Now()


class writing_to:
    """In the block, and in this thread, symbols write to ``emitter``."""

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter

    def __enter__(self) -> Emitter:
        self._before, _now.emitter = _now.emitter, self._emitter
        return self._emitter

    def __exit__(self, *failure: object) -> None:
        _now.emitter = self._before


def emitter() -> Emitter:
    """The emitter of the block in which this thread is."""
    if _now.emitter is None:
        raise Unsupported("a symbol outside of its program")
    return _now.emitter


class Symbol:
    """An array without elements.

    A root has its array, or ``make`` (called when first needed); a view has a ``base`` and makes its array of that. ``write`` says how a view
    hands a changed value on to its base, None where nobody can tell whether NumPy would have made a copy. fill: the number that all
    elements are, if known. parts: the symbols that lie side by side along the first axis, if known. kept: what a forward keeps for its
    backward beside the recorded values.
    """

    __slots__ = (
        "shape",
        "dtype",
        "base",
        "make",
        "write",
        "frozen",
        "parts",
        "kept",
        "key",
        "_array",
        "_fill",
        "_version",
        "_seen",
        "_born",
    )
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        shape: Sequence[int],
        dtype: Any,
        array: Array | None = None,
        *,
        make: Callable[[], Array] | None = None,
        base: Symbol | None = None,
        write: Callable[[Symbol], None] | None = None,
        fill: Any = None,
        parts: list[Symbol] | None = None,
    ) -> None:
        self.shape = tuple([int(n) for n in shape])
        self.dtype = np.dtype(dtype)
        self._array = array
        self.make, self.base, self.write = make, base, write
        self._fill, self.parts = fill, parts
        self.key: Any = None
        self.kept: dict[str, Any] = {}
        self.frozen = False
        self._version = 0
        self._seen = self._born = self.root._version if base is not None else 0

    # -- the array that it stands for

    @property
    def root(self) -> Symbol:
        """Whose elements these are."""
        found = self
        while found.base is not None:
            found = found.base
        return found

    @property
    def fill(self) -> Any:
        """The number that all elements are; None where that is not known."""
        return self._fill if self.base is None else self.base.fill

    @property
    def small(self) -> Array:
        """An array that broadcasts to the shape."""
        version = self.root._version if self.base is not None else self._seen
        if self._array is None or version != self._seen:
            if self.base is not None and self.write is None and version != self._born:
                raise Unsupported("a view of an array that changed, which may be a copy")
            assert self.make is not None
            self._array, self._seen = self.make(), version
            emitter().hold(self)
        return self._array

    @property
    def full(self) -> Array:
        """The array in its shape."""
        array = self.small
        return array if array.shape == self.shape else emitter().view("broadcast", array, self.shape)

    def forget(self) -> None:
        """Make the array anew when it is next needed."""
        if self.make is not None:
            self._array = None

    def freeze(self) -> Symbol:
        """From now on nobody may change the elements."""
        self.root.frozen = True
        return self

    def assign(self, value: Any) -> Symbol:
        """Give the elements new values, which broadcast."""
        from .symbolic_operands import as_symbol, cast

        if self.root.frozen:
            raise Unsupported("a change of an array from outside")
        new = cast(as_symbol(value, self.dtype), self.dtype)
        if new.ndim > self.ndim or broadcast(new.shape, self.shape) != self.shape:
            raise Unsupported("an assignment that does not broadcast")
        if self.base is not None:
            if self.write is None:
                raise Unsupported("a change through a view that may be a copy")
            self.write(new if new.shape == self.shape else new.seen_as(self.shape))
            return self
        self._array, self.make, self._fill, self.parts = new.small, None, new.fill, None
        self._version += 1
        return self

    def seen_as(self, shape: Sequence[int]) -> Symbol:
        """Broadcast to a shape, still without an instruction."""
        if self.shape == tuple(shape):
            return self
        if broadcast(self.shape, tuple(shape)) != tuple(shape):
            raise ValueError(f"{self.shape} does not broadcast to {tuple(shape)}")
        return Symbol(shape, self.dtype, base=self, make=lambda: self.small)

    # -- shape and dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        total = 1
        for n in self.shape:
            total *= n
        return total

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.dtype.itemsize

    @property
    def flags(self) -> Any:
        """As those of a new array."""
        return _FLAGS

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[Symbol]:
        return iter([self[i] for i in range(len(self))])

    def __repr__(self) -> str:
        return f"Symbol({self.shape}, {self.dtype})"

    # -- views

    def reshape(self, *shape: Any, order: str = "C") -> Symbol:
        """The same elements in another shape."""
        wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        sizes = reshaped(self.shape, tuple(wanted))
        if order != "C":
            raise Unsupported("another order of elements")
        if sizes == self.shape:
            return self

        def make() -> Array:
            small = self.small  # a single element, or further axes of size 1 in front, broadcast by themselves
            if small.size == 1:
                return emitter().view("reshape", small, (1,) * len(sizes)) if len(sizes) < small.ndim else small
            if small.shape == self.shape and (1,) * (len(sizes) - small.ndim) + small.shape == sizes:
                return small
            return emitter().view("reshape", self.full, sizes)

        def write(new: Symbol) -> None:
            self.assign(new.reshape(self.shape))

        return Symbol(sizes, self.dtype, base=self, make=make, write=write if self.base is None else None)

    def transpose(self, *axes: Any) -> Symbol:
        """Axes in another order."""
        given = axes[0] if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))) else (axes or None)
        order = tuple(range(self.ndim))[::-1] if given is None else tuple([int(a) % self.ndim for a in given])
        if sorted(order) != list(range(self.ndim)):
            raise ValueError("axes don't match array")
        if order == tuple(range(self.ndim)):
            return self
        shape = tuple([self.shape[a] for a in order])
        inverse = tuple([order.index(a) for a in range(self.ndim)])

        def make() -> Array:
            small = self.small
            if small.size == 1:
                return small
            array = small if small.ndim == self.ndim else self.full
            if all([n == 1 for n in array.shape]):
                return array
            return emitter().view("transpose", array, [array.shape[a] for a in order], axes=order)

        def write(new: Symbol) -> None:
            self.assign(new.transpose(inverse))

        return Symbol(shape, self.dtype, base=self, make=make, write=write)

    def __getitem__(self, key: Any) -> Any:
        from . import symbolic_index

        return symbolic_index.get(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        from . import symbolic_index

        symbolic_index.put(self, key, value)

    # -- what only elements could answer

    def __getattr__(self, name: str) -> Any:
        from .symbolic_numpy import METHODS

        if name in METHODS:
            return functools.partial(METHODS[name], self)
        if name.startswith("__") or not hasattr(np.ndarray, name):
            raise AttributeError(name)
        raise Unsupported(f"array.{name}")

    @property
    def T(self) -> Symbol:
        """All axes in reverse order."""
        return self.transpose()

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from .symbolic_numpy import XP

        if method != "__call__":
            raise Unsupported(f"numpy.{ufunc.__name__}.{method}")
        return getattr(XP, ufunc.__name__)(*inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from .symbolic_numpy import XP

        return getattr(XP, function.__name__)(*args, **kwargs)


class _Flags:
    c_contiguous = contiguous = owndata = writeable = True
    f_contiguous = False


_FLAGS = _Flags()


def _refusing(name: str) -> Callable[..., Any]:
    def method(self: Symbol, *args: Any) -> Any:
        raise Unsupported(f"{name} of an array")

    return method


for _name in ("bool", "float", "int", "index", "complex", "array", "contains"):
    setattr(Symbol, f"__{_name}__", _refusing(_name))


def _operator(name: str, kind: str) -> Callable[..., Any]:
    def method(self: Symbol, *others: Any) -> Any:
        from .symbolic_numpy import XP

        given = (*others, self) if kind == "reflected" else (self, *others)
        made = getattr(XP, name)(*given)
        return self.assign(made) if kind == "in place" else made

    return method


for _python, _name in {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "raised",
    "matmul": "matmul",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
}.items():
    setattr(Symbol, f"__{_python}__", _operator(_name, ""))
    setattr(Symbol, f"__r{_python}__", _operator(_name, "reflected"))
    setattr(Symbol, f"__i{_python}__", _operator(_name, "in place"))
for _python, _name in {
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "eq": "equal",
    "ne": "not_equal",
    "neg": "negative",
    "pos": "positive",
    "abs": "absolute",
    "invert": "invert",
}.items():
    setattr(Symbol, f"__{_python}__", _operator(_name, ""))
