"""Traced arrays: the array type whose operators a ``Trace`` records (``core/trace.py``).

Kernels of operators (``core/traced_calls.py``) see the elements, which are NumPy's; nobody else does. Code between operators that works on
raw arrays gets those functions of NumPy that are operators themselves (``FUNCTIONS``, ``METHODS``), shape and dtype, and an error for the rest.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES, BY_TYPE
from ..errors import Phrase, error
from .modes import modes
from .nested import found, mapped
from .operator import OPERATORS
from .tape import is_ours, user_line
from .tensor import NAME_OF_UFUNC

if TYPE_CHECKING:
    from .trace import Trace, Value

_OPERATORS = os.path.join(os.path.dirname(os.path.dirname(__file__)), "ops")


class Traced:
    """An array of a running trace: its elements, for operators alone, and the trace's name for it."""

    __slots__ = ("_elements", "recording", "entry", "part_of", "__weakref__")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, elements: np.ndarray, trace: Trace, entry: Value) -> None:
        self._elements = elements
        self.recording = trace
        self.entry = entry
        self.part_of: Any = None
        """What it is a view of, and how, if it is one."""

    def forget(self) -> None:
        """Let the elements go: shape and dtype stay."""
        self._elements = np.broadcast_to(np.empty((), self._elements.dtype), self._elements.shape)

    @property
    def base(self) -> Traced | None:
        """The array whose memory it is a part of, as NumPy's arrays say it."""
        return None if self.part_of is None else self.part_of.whole

    # -- metadata: constants of the program

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._elements.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._elements.ndim

    @property
    def dtype(self) -> np.dtype:
        """The element type."""
        return self._elements.dtype

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._elements.size

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self._elements.nbytes

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self._elements.itemsize

    @property
    def flags(self) -> Any:
        """Flags of the memory."""
        return self._elements.flags

    @property
    def T(self) -> Any:
        """The axes in the other order."""
        return OPERATORS["permute"].kernels[Traced](self, tuple(range(self.ndim))[::-1])

    def view(self, dtype: Any = None) -> Traced:
        """The same array, perhaps with another object for its dtype. For any other dtype raises UsageError."""
        if dtype is None:
            return OPERATORS["alias"].kernels[Traced](self)
        if self.dtype != dtype:
            raise _reads("x.array.view")
        return Traced(self._elements.view(dtype), self.recording, self.entry)

    def __len__(self) -> int:
        return len(self._elements)

    # -- everything else asks for elements

    def __getattr__(self, name: str) -> Any:
        if not self.recording.is_mine():
            return getattr(self._elements, name)
        if name in METHODS:
            return functools.partial(METHODS[name], self)
        if name.startswith("__") or not hasattr(np.ndarray, name):
            raise AttributeError(name)
        fix = (f"use the operator of that name: tg.{name}(x).", f"同じ名前の演算 tg.{name}(x) を使ってください。")
        raise _reads(f"x.array.{name}", fix if name in OPERATORS else None)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        if not self.recording.is_mine():
            return np.asarray(self._elements, *args, **kwargs)
        raise _reads("np.asarray(x)")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Functions of NumPy that are operators, as in ``numpy_array + traced`` and ``np.sqrt(traced)``; others are refused."""
        if not self.recording.is_mine():
            return getattr(ufunc, method)(*untraced(inputs), **untraced(kwargs))
        name = NAME_OF_UFUNC.get(ufunc.__name__, ufunc.__name__)
        out, *more = kwargs.pop("out", (None,))
        known = name in OPERATORS and ufunc is getattr(np, ufunc.__name__, None)
        if known and method == "__call__" and not kwargs and not more and type(out) in (Traced, type(None)):
            made = on_arrays(name)(*inputs)
            if made.dtype == _dtype_of(ufunc, inputs):
                return _into(out, made)
        raise _reads(f"np.{ufunc.__name__}(x)")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if not self.recording.is_mine():
            return function(*untraced(args), **untraced(kwargs))
        if function.__name__ in FUNCTIONS and function is getattr(np, function.__name__):
            out = kwargs.pop("out", None)
            if type(out) in (Traced, type(None)):
                return _into(out, FUNCTIONS[function.__name__](*args, **kwargs))
        raise _reads(f"np.{function.__name__}(x)")

    def __bool__(self) -> bool:
        if not self.recording.is_mine():
            return bool(self._elements)
        raise _reads(
            "if x:",
            (
                "tg.where(condition, a, b) chooses by value; decide by shapes or by plain Python values otherwise.",
                "値で選ぶには tg.where(condition, a, b) を使ってください。それ以外の分岐は形状か Python の値で決めてください。",
            ),
        )

    def __iter__(self) -> Iterator[Any]:
        return iter(OPERATORS["unbind"].public(self, 0))

    def __getitem__(self, key: Any) -> Any:
        return OPERATORS["getitem"].public(self, key if type(key) is tuple else (key,))

    def __setitem__(self, key: Any, value: Any) -> None:
        if not self.recording.mutable:
            raise _reads(
                "x.array[...] = value", ("write x[...] = value with Tensors.", "Tensor で x[...] = value と書いてください。")
            )
        if key is Ellipsis or (type(key) is slice and key == slice(None)):
            new = _copy(on_arrays("expand")(self._operand(value), self.shape))  # what is expanded could not be written
        else:
            new = on_arrays("index_put")(self, self._operand(value), key if type(key) is tuple else (key,))
        self.become(new)

    def _operand(self, value: Any) -> Any:
        """A number or an array as a traced array of the same dtype."""
        if type(value) not in BY_TYPE:
            value = ARRAY_MODULES[type(self._elements)].asarray(value, self.dtype)
        return _as_dtype(self.recording.traced(value), self.dtype)

    def become(self, new: Any) -> Any:
        """Become another array of the same shape and dtype: the end of what NumPy does in place. Returns itself."""
        if new.shape != self.shape:
            raise ValueError(f"an array of shape {self.shape} cannot become one of shape {new.shape} in place")
        _check_cast(new.dtype, self.dtype)
        self.recording.write(self, _as_dtype(new, self.dtype))
        return self

    def __neg__(self) -> Any:
        return OPERATORS["neg"].public(self)

    def __abs__(self) -> Any:
        return OPERATORS["abs"].public(self)

    def __invert__(self) -> Any:
        return OPERATORS["bitwise_not"].public(self)

    def __repr__(self) -> str:
        return f"Traced({self.entry.name}, {self._elements!r})"


def _refusing(what: str, name: str) -> Callable[[Traced], Any]:
    def method(self: Traced) -> Any:
        if not self.recording.is_mine():
            return getattr(self._elements, name)()
        raise _reads(what)

    return method


for _name in ("float", "int", "index", "complex"):
    setattr(Traced, f"__{_name}__", _refusing(f"{_name}(x)" if _name != "index" else "x as an index of Python", f"__{_name}__"))


def _binary(name: str, reflected: bool) -> Callable[[Traced, Any], Any]:
    def method(self: Traced, other: Any) -> Any:
        pair = (other, self) if reflected else (self, other)
        return OPERATORS[name].kernels[Traced](*pair) if self.recording.is_mine() else OPERATORS[name].public(*untraced(pair))

    return method


def _in_place(name: str) -> Callable[[Traced, Any], Traced]:
    def method(self: Traced, other: Any) -> Traced:
        return self.become(OPERATORS[name].kernels[Traced](self, other))

    return method


for _python, _name in {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "truediv": "div",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "pow",
    "matmul": "matmul",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
}.items():
    setattr(Traced, f"__{_python}__", _binary(_name, False))
    setattr(Traced, f"__r{_python}__", _binary(_name, True))
    setattr(Traced, f"__i{_python}__", _in_place(_name))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Traced, f"__{_name}__", _binary(_name, False))


def _reads(what: Phrase, fix: Phrase | None = None) -> Exception:
    name = _reading_operator()
    if name:
        what = f"tg.{name}"
        fix = (
            "call it outside of what is recorded, and pass on what it returns.",
            "記録する関数の外で呼び、その結果を渡してください。",
        )
    usual = (
        "compute with operators of tinygrad_ja, or read the value before the model is called.",
        "tinygrad_ja の演算で計算するか、モデルを呼ぶ前に値を取り出してください。",
    )
    failure = error("TG-U016", what=what, line=user_line(), fix=fix or usual)
    failure.operator = name  # type: ignore[attr-defined]
    return failure


def _reading_operator() -> str:
    """The operator of ours that asks for elements, since what it does depends on them; "" where code of the user asks."""
    name = ""
    frame: Any = sys._getframe(2)
    while frame is not None and is_ours(frame.f_code.co_filename):
        if os.path.dirname(frame.f_code.co_filename) == _OPERATORS:
            name = frame.f_code.co_name
        frame = frame.f_back
    return name


def _into(out: Traced | None, made: Any) -> Any:
    """What a function of NumPy returns that has made this and was given ``out``."""
    if out is None:
        return made
    _check_cast(made.dtype, out.dtype)
    out[...] = made
    return out


def _check_cast(made: np.dtype, kept: np.dtype) -> None:
    """What NumPy's functions write in place stays of its kind."""
    if not np.can_cast(made, kept, "same_kind"):
        raise TypeError(f"Cannot cast output from {made!r} to {kept!r} with casting rule 'same_kind'")


def _dtype_of(ufunc: np.ufunc, inputs: Any) -> np.dtype:
    """What an element-wise function of NumPy makes of these."""
    kinds = [type(x) if type(x) in (int, float, complex) else getattr(x, "dtype", None) or np.asarray(x).dtype for x in inputs]
    return ufunc.resolve_dtypes((*kinds, None))[-1]


def untraced(value: Any) -> Any:
    """Arguments with elements in place of traced arrays, for a thread that is not traced."""
    return mapped(value, lambda x: type(x) is Traced, lambda x: x._elements)


class Elsewhere(Exception):
    """A traced array met an operator in a thread that is not traced: it has to run on the elements, and to save those for its backward."""


# ---- the array module of code outside of operators -----------------------------------------------


def on_arrays(name: str) -> Callable[..., Any]:
    """An operator on raw arrays, of which any may be traced."""

    def call(*args: Any, **kwargs: Any) -> Any:
        operator = OPERATORS[name]
        kind = Traced if next(found([args, kwargs], Traced), None) is not None else np.ndarray
        made = operator.kernels[kind](*args, **kwargs)
        return made[0] if operator.aux else made

    return call


def _take(array: Any, indices: Any, axis: int | None = None) -> Any:
    if axis is None:
        array, axis = on_arrays("reshape")(array, (array.size,)), 0
    return on_arrays("index_select")(array, axis % array.ndim, indices)


def _as_dtype(array: Any, dtype: Any = None, copy: bool = True) -> Any:
    wanted = array.dtype if dtype is None else np.dtype(dtype)
    return array if array.dtype == wanted else on_arrays("cast")(array, wanted)


def _copy(array: Traced) -> Traced:
    return Traced(array._elements.copy(), array.recording, array.entry)


def _astype(array: Traced, dtype: Any, copy: bool = True) -> Traced:
    made = _as_dtype(array, dtype)
    return _copy(made) if copy and made is array else made


def _reshape(array: Any, *size: Any) -> Any:
    wanted = size[0] if isinstance(size[0], (tuple, list)) else size
    return on_arrays("reshape")(array, np.empty(array.shape, bool).reshape(wanted).shape)


def _moveaxis(array: Any, source: int, destination: int) -> Any:
    order = [axis for axis in range(array.ndim) if axis != source % array.ndim]
    order.insert(destination % array.ndim, source % array.ndim)
    return on_arrays("permute")(array, tuple(order))


def _expand_dims(array: Any, axis: int) -> Any:
    return on_arrays("reshape")(array, np.expand_dims(np.empty(array.shape, bool), axis).shape)


def _sum(array: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False) -> Any:
    return _as_dtype(on_arrays("sum")(array, axis, keepdims), dtype)


def _full_like(array: Any, value: Any, dtype: Any = None) -> Any:
    return _copy(on_arrays("expand")(_as_dtype(value, dtype or array.dtype), array.shape))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "asarray": _as_dtype,
    "broadcast_to": on_arrays("expand"),
    "concatenate": lambda arrays, axis=0: on_arrays("cat")(*arrays, dim=axis),
    "cumsum": lambda array, axis, dtype=None: _as_dtype(on_arrays("cumsum")(array, axis), dtype),
    "expand_dims": _expand_dims,
    "floor": on_arrays("floor"),
    "maximum": on_arrays("maximum"),
    "minimum": on_arrays("minimum"),
    "moveaxis": _moveaxis,
    "full_like": _full_like,
    "rint": on_arrays("round"),
    "stack": lambda arrays, axis=0: on_arrays("stack")(*arrays, dim=axis),
    "sum": _sum,
    "take": _take,
    "take_along_axis": lambda array, indices, axis: on_arrays("gather")(array, axis % array.ndim, indices),
    "tril": lambda array, k=0: on_arrays("tril")(array, k),
    "triu": lambda array, k=0: on_arrays("triu")(array, k),
    "trunc": on_arrays("trunc"),
    "where": on_arrays("where"),
}
"""Functions of NumPy that are operators: what the framework's functions do with raw arrays between operators is recorded, too."""


def _clip(array: Any, low: Any, high: Any) -> Any:
    return on_arrays("clamp")(array, low, high)


def _dot(a: Any, b: Any) -> Any:
    return on_arrays("matmul")(a, b)


def _extreme(name: str) -> Callable[..., Any]:
    def extreme(array: Any, axis: Any = None, keepdims: bool = False) -> Any:
        axes = tuple(range(array.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        return on_arrays(name)(array, axes, keepdims)

    return extreme


def _mean(array: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False) -> Any:
    return _as_dtype(on_arrays("mean")(array, axis, keepdims), dtype)


FUNCTIONS |= {"clip": _clip, "dot": _dot, "mean": _mean, "max": _extreme("amax"), "min": _extreme("amin")}

METHODS: dict[str, Callable[..., Any]] = {
    "all": on_arrays("all"),
    "any": on_arrays("any"),
    "astype": _astype,
    "copy": _copy,
    "max": _extreme("amax"),
    "min": _extreme("amin"),
    "ravel": lambda array: _reshape(array, -1),
    "reshape": _reshape,
    "sum": _sum,
    "take": _take,
    "swapaxes": lambda array, a, b: on_arrays("transpose")(array, a, b),
}
"""The same for methods of arrays."""

_NEW = frozenset(("zeros", "ones", "empty", "full"))
_LIKE = frozenset(("zeros_like", "ones_like", "empty_like", "full_like"))
_METADATA = frozenset("result_type promote_types can_cast issubdtype finfo iinfo ndim shape size broadcast_shapes".split())


class _Guarded:
    """A function or a namespace of NumPy. Traced arrays pass where it is an operator, or asks for shape and dtype only."""

    def __init__(self, real: Any, path: str) -> None:
        self._real, self._path = real, path

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        plain = isinstance(real, type) or not (isinstance(real, ModuleType) or callable(real))
        return real if plain else _Guarded(real, f"{self._path}.{name}")

    def _of(self, xp: Any) -> Callable[..., Any]:
        """The same function of another array module."""
        return functools.reduce(getattr, self._path.split(".")[1:], xp)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self._real.__name__
        traced = len(list(found([args, kwargs], Traced)))
        if not traced:
            if modes.recording is None:
                return self._real(*args, **kwargs)
            made = modes.recording.note_anywhere(self._of(modes.recording.xp)(*args, **kwargs))
            return modes.recording.blank(made) if name in _NEW else made
        if name in _METADATA or (name in _LIKE and traced == 1 and type(args[0]) is Traced):
            first = next(found([args, kwargs], Traced))
            args, kwargs = untraced((args, kwargs))
            made = self._of(ARRAY_MODULES[type(first._elements)])(*args, **kwargs)
            return first.recording.blank(made) if first.recording.mutable and name in _LIKE else made
        if name in FUNCTIONS and self._path == f"xp.{name}" and "out" not in kwargs:
            return FUNCTIONS[name](*args, **kwargs)
        operator = OPERATORS.get(NAME_OF_UFUNC.get(name, name))
        out, dtype = kwargs.get("out"), kwargs.get("dtype")
        written = FUNCTIONS.get(name) if self._path == f"xp.{name}" and "out" in kwargs else None
        if (out is None or type(out) is Traced) and set(kwargs) <= {"out", "dtype"}:
            if isinstance(self._real, np.ufunc) and operator is not None:
                given = args if dtype is None else [_as_dtype(a, dtype) if type(a) is Traced else a for a in args]
                made = operator.kernels[Traced](*given)
                return made if out is None else out.become(made)
            if written is not None and out is not None:
                return out.become(written(*args))
        raise _reads(f"{self._path}(x)")


ARRAY_MODULE = _Guarded(np, "xp")
"""What stands where NumPy stands for arrays that are traced."""


def to_host(array: Traced) -> np.ndarray:
    if not array.recording.is_mine():
        return BY_TYPE[type(array._elements)].to_host(array._elements)
    raise _reads(("x.numpy(), or showing x,", "x.numpy() や x の表示"))
