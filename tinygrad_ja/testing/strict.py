"""A stand-in for CuPy that needs no GPU: NumPy arrays behind a wrapper that refuses what CuPy 14 refuses.

Importing this file registers the backend ``strict``: ``tg.tensor([1.0], device="strict")`` lives on it, and every operator runs
there as it would on CuPy. Host arrays mixed in, implicit conversions, functions and keywords that CuPy lacks and writes to one
place twice raise ``LeakError``; what works on a GPU but makes it wait, or copies behind the user's back, is noted in ``EVENTS``.

It cannot show numerics of the GPU, order of atomic additions, strides of outputs, races or speed.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from ..backend.arrays import Backend, register_backend
from ..errors import text

# ---- what CuPy 14.2 lacks, and where it differs --------------------------------------------------

ABSENT: dict[str, frozenset[str]] = {
    "": frozenset(
        """False_ ScalarType True_ asmatrix block bmat busday_count busday_offset busdaycalendar bytes_ char character
        clongdouble complex256 core ctypeslib datetime64 datetime_as_string datetime_data dtypes einsum_path emath
        errstate f2py flexible float128 frompyfunc fromregex geomspace get_include getbufsize geterr geterrcall
        histogram_bin_edges info insert is_busday isnat little_endian longdouble ma matrix matvec memmap
        nanpercentile nanquantile ndenumerate nditer nested_iters object_ polyder polydiv polyint rec recarray
        record sctypeDict setbufsize seterr seterrcall show_runtime spacing str_ strings test timedelta64 typecodes
        unstack vecdot vecmat void""".split()
    ),
    "linalg": frozenset("diagonal matrix_norm multi_dot outer svdvals tensordot test trace vecdot vector_norm".split()),
}
"""Names of NumPy that CuPy does not have, by submodule."""

NO_KW: dict[str, frozenset[str]] = {
    name: frozenset(keywords.split())
    for names, keywords in {
        "sum prod max min amax amin nansum nanprod nanmax nanmin": "where initial",
        "mean any all nanmean": "where",
        "var std nanvar nanstd": "where mean correction",
        "arange": "device like start_or_stop",
        "zeros ones empty full eye": "device like",
        "zeros_like ones_like empty_like full_like linspace astype": "device",
        "array asarray asanyarray": "device like ndmax object",
        "sort argsort": "order stable",
        "partition argpartition": "order kind",
        "broadcast_arrays broadcast_to copy": "subok",
        "clip": "min max",
        "concatenate concat stack": "arrays",
        "count_nonzero": "keepdims",
        "einsum": "out order casting",
        "flip fliplr flipud rot90": "m",
        "isin": "kind",
        "lexsort": "axis",
        "percentile quantile": "weights",
        "reshape unravel_index": "shape",
        "take": "mode",
        "take_along_axis": "arr",
        "unique": "sorted",
        "linalg.cholesky": "upper",
        "linalg.matrix_power": "a",
        "linalg.pinv linalg.matrix_rank": "hermitian rtol",
        "linalg.svd": "hermitian",
    }.items()
    for name in names.split()
}
"""Keywords of NumPy's functions and methods that CuPy's do not take."""

METHODS = frozenset(
    """T all any argmax argmin argpartition argsort astype choose clip conj conjugate copy cumprod cumsum diagonal dot
    dtype fill flags flatten imag itemsize mT max mean min nbytes ndim nonzero partition prod ptp put ravel real
    repeat reshape round searchsorted shape size sort squeeze std strides sum swapaxes take trace transpose var view""".split()
)
"""Attributes of ``numpy.ndarray`` that ``cupy.ndarray`` has too."""

AT_DTYPES: dict[str, str] = {
    "add": "ilqefdILQ",
    "subtract": "iI",
    "maximum": "ilqfdILQ",
    "minimum": "ilqfdILQ",
    "bitwise_and": "ilqILQ",
    "bitwise_or": "ilqILQ",
    "bitwise_xor": "ilqILQ",
}
"""``ufunc.at``: which functions, for which dtypes (characters of NumPy)."""

REDUCE: dict[str, tuple[str, ...]] = {
    "reduce": ("add", "multiply"),
    "accumulate": ("add", "multiply"),
    "reduceat": ("add",),
}
"""Which ufuncs have these methods."""

FROM_HOST = frozenset("array asarray asanyarray ascontiguousarray asfortranarray".split())
"""Functions that may take host arrays: they copy them to the device."""

WAITING = frozenset(
    """argwhere bincount compress extract flatnonzero histogram histogram2d histogramdd intersect1d nanmedian nonzero
    piecewise place setdiff1d setxor1d trim_zeros union1d unique unique_all unique_counts unique_inverse
    unique_values""".split()
)
"""Functions that make the host wait, because the shape of their result depends on values."""

ON_HOST = frozenset(
    """result_type promote_types can_cast issubdtype isdtype finfo iinfo dtype ndim shape size broadcast_shapes isscalar
    iscomplexobj isrealobj may_share_memory shares_memory min_scalar_type iterable""".split()
)
"""Functions whose result is no array."""


class Event(NamedTuple):
    """A wait or a copy that the user does not see: ``kind`` is ``"d2h"`` (the host waits for the device) or ``"h2d"``."""

    kind: str
    what: str


EVENTS: list[Event] = []
"""Every such event since the start, or since it was last cleared. After a hot loop it should be empty."""


@contextlib.contextmanager
def watch() -> Iterator[list[Event]]:
    """Collect the events of a block.

    >>> with watch() as events:
    ...     _ = float(array(np.ones(2)).sum())
    >>> events
    [Event(kind='d2h', what='float()')]
    """
    start, found = len(EVENTS), list[Event]()
    try:
        yield found
    finally:
        found.extend(EVENTS[start:])


class LeakError(TypeError, ValueError):
    """Code for the GPU did what CuPy refuses. No TinygradError: the framework sees what it would see of CuPy."""


class AbsentError(LeakError, AttributeError):
    """CuPy has no such name."""


def _refusal(what: str, rule: str, kind: type[LeakError] = LeakError) -> LeakError:
    return kind(f"[TG-V003] {text('TG-V003', what=what, rule=rule)}")


# ---- in and out of the wrapper -------------------------------------------------------------------


_owners: weakref.WeakValueDictionary[int, ndarray] = weakref.WeakValueDictionary()
"""By the id of a host array that has memory of its own: its wrapper."""


def array(host: Any) -> ndarray:
    """A copy of a host array on the stand-in device. No event: this is the explicit way."""
    return ndarray(np.array(host))


def peek(device: Any) -> np.ndarray:
    """The values, for a test to look at: no event."""
    return device._host if type(device) is ndarray else np.asarray(device)


def _unwrap(value: Any, where: str, host_arrays: bool = False) -> Any:
    """NumPy's arguments for the wrapper's; refuses host arrays unless ``host_arrays``, which notes the copy."""
    if type(value) is ndarray:
        return value._host
    if isinstance(value, np.ndarray):
        if not host_arrays:
            raise _refusal(f"{where}: a NumPy array of shape {value.shape}", "host and device arrays do not mix")
        EVENTS.append(Event("h2d", where))
        return value
    if type(value) in (list, tuple):
        return type(value)([_unwrap(part, where, host_arrays) for part in value])
    if hasattr(value, "__array_ufunc__") and not isinstance(value, np.generic):
        raise _refusal(f"{where} of {type(value).__name__}", "unsupported type")
    return value


def _wrap(value: Any, given: tuple[Any, ...] = ()) -> Any:
    """The wrapper's result for NumPy's. A function that returns its argument itself does so here, too."""
    if isinstance(value, (np.ndarray, np.generic)):
        for argument in given:
            if type(argument) is ndarray and argument._host is value:
                return argument
        return ndarray(np.asarray(value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[_wrap(part, given) for part in value])
    if type(value) in (list, tuple):
        return type(value)([_wrap(part, given) for part in value])
    return value


def _refuse_bfloat16_product(name: str, operands: tuple[Any, ...]) -> None:
    for a in operands:
        if isinstance(a, np.ndarray) and a.dtype.name == "bfloat16" and (a.ndim > 2 or name == "einsum"):
            raise _refusal(f"{name} of bfloat16 arrays with {a.ndim} axes", "only products of two matrices take bfloat16")


def _refuse_duplicates(host: np.ndarray, key: Any) -> None:
    places = np.arange(host.size).reshape(host.shape)[key]
    if np.unique(places).size != places.size:
        raise _refusal("x[indices] = values with an index given twice", "which of the values stays is undefined")


# ---- functions -----------------------------------------------------------------------------------


def _function(name: str, function: Callable[..., Any], owner: Any = None) -> Callable[..., Any]:
    """A function of the module, or (with ``owner``) a method of an array."""
    short = name.rpartition(".")[2]
    refused = NO_KW.get(name, frozenset()) if owner is None or name != "clip" else frozenset()
    host_arrays = name in FROM_HOST

    def call(*args: Any, **kwargs: Any) -> Any:
        bad = sorted(refused & set(kwargs))
        if bad:
            raise _refusal(f"xp.{name}(..., {bad[0]}=)", "there is no such keyword; pass it by position or do without")
        if host_arrays and args and not isinstance(args[0], (ndarray, np.ndarray)):
            EVENTS.append(Event("h2d", f"xp.{name} of a Python value"))
        if short in WAITING:
            EVENTS.append(Event("d2h", f"xp.{name}"))
        if short == "where" and len(args) == 1:
            EVENTS.append(Event("d2h", "xp.where of one argument"))
        plain = _unwrap(args, f"xp.{name}", host_arrays)
        named = {key: _unwrap(value, f"xp.{name}", host_arrays) for key, value in kwargs.items()}
        if short in ("matmul", "einsum"):
            _refuse_bfloat16_product(short, plain)
        if short == "put_along_axis":
            _check_put_along_axis(*plain, **named)
        result = function(*plain, **named)
        return result if short in ON_HOST else _wrap(result, args if owner is None else (owner,))

    call.__name__ = short
    return call


def _check_put_along_axis(host: np.ndarray, indices: np.ndarray, values: Any, axis: int | None) -> None:
    if axis is not None and np.ndim(values):
        ordered = np.sort(np.where(indices < 0, indices + host.shape[axis], indices), axis=axis)
        if not np.all(np.diff(ordered, axis=axis)):
            raise _refusal("put_along_axis with an index given twice", "which of the values stays is undefined")


class Ufunc:
    """A ufunc as CuPy has it: ``out``, ``dtype`` and ``casting`` only, operands on the device."""

    def __init__(self, ufunc: np.ufunc) -> None:
        self._ufunc = ufunc
        self.__name__, self.nin, self.nout = ufunc.__name__, ufunc.nin, ufunc.nout

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        bad = sorted(set(kwargs) - {"out", "dtype", "casting"})
        if bad:
            raise _refusal(f"xp.{self.__name__}(..., {bad[0]}=)", "a ufunc takes only out, dtype and casting")
        if any(isinstance(a, (list, tuple)) for a in args):
            raise _refusal(f"xp.{self.__name__} of a list", "operands are device arrays or numbers")
        where = f"xp.{self.__name__}"
        return _wrap(self._ufunc(*_unwrap(args, where), **{k: _unwrap(v, where) for k, v in kwargs.items()}), _out(kwargs))

    def _method(self, method: str, *args: Any, **kwargs: Any) -> Any:
        where = f"xp.{self.__name__}.{method}"
        if self.__name__ not in REDUCE[method]:
            raise _refusal(where, f"only {', '.join(REDUCE[method])} have it; xp.max, xp.min, xp.all and xp.any exist")
        bad = sorted(set(kwargs) - {"axis", "dtype", "out", "keepdims", "indices"})
        if bad or len(args) > 5:
            raise _refusal(f"{where}(..., {bad[0] if bad else 'initial'}=)", "it takes only axis, dtype, out and keepdims")
        plain = {key: _unwrap(value, where) for key, value in kwargs.items()}
        return _wrap(getattr(self._ufunc, method)(*_unwrap(args, where), **plain), _out(kwargs))

    reduce = functools.partialmethod(_method, "reduce")
    accumulate = functools.partialmethod(_method, "accumulate")
    reduceat = functools.partialmethod(_method, "reduceat")

    def outer(self, a: Any, b: Any) -> Any:
        return _wrap(self._ufunc.outer(_unwrap(a, "outer"), _unwrap(b, "outer")))

    def at(self, a: ndarray, indices: Any, b: Any) -> None:
        where = f"xp.{self.__name__}.at"
        if a.dtype.char not in AT_DTYPES.get(self.__name__, ""):
            raise _refusal(f"{where} of {a.dtype}", f"dtypes per function: {AT_DTYPES}")
        self._ufunc.at(a._host, _unwrap(indices, where, True), _unwrap(b, where, True))


def _out(kwargs: dict[str, Any]) -> tuple[Any, ...]:
    out = kwargs.get("out")
    return out if type(out) is tuple else (out,)


# ---- arrays --------------------------------------------------------------------------------------


class Pointer(NamedTuple):
    """The part of ``cupy.cuda.MemoryPointer`` that tells where memory lies."""

    ptr: int


FLAGS = ("c_contiguous", "f_contiguous", "owndata")
"""What ``cupy.ndarray.flags`` tell. Whether an array can be written is not among it: all can."""


class ndarray:
    """The stand-in for ``cupy.ndarray``."""

    __slots__ = ("_host", "base", "__weakref__")
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, host: np.ndarray) -> None:
        self._host = host
        self.base = None if host.base is None else _owners.get(id(host.base), host.base)
        """None unless this array is a view; then the array whose memory it is."""
        if host.base is None:
            _owners[id(host)] = self

    @property
    def data(self) -> Pointer:
        """Where the first element lies."""
        return Pointer(int(self._host.__array_interface__["data"][0]))

    def __getattr__(self, name: str) -> Any:
        if name not in METHODS:
            raise _refusal(f"array.{name}", "cupy.ndarray has no such attribute", AbsentError)
        value = getattr(self._host, name)
        if isinstance(value, np.ndarray):
            return _wrap(value, (self,))
        if name == "flags":
            return SimpleNamespace(**{name: getattr(value, name) for name in FLAGS})
        return _function(name, value, self) if callable(value) and name != "dtype" else value

    # leaving the device

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise _refusal("np.asarray of a device array", "conversion is never implicit; use x.get() or x.cpu()")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "__call__" and isinstance(inputs[0], np.generic):  # np.float32(2) * x works on CuPy
            return getattr(xp, ufunc.__name__)(*inputs, **kwargs)
        raise _refusal(f"np.{ufunc.__name__} of a device array", f"use xp.{ufunc.__name__}")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise _refusal(f"np.{function.__name__} of a device array", f"use xp.{function.__name__}")

    def _leave(self, what: str) -> np.ndarray:
        EVENTS.append(Event("d2h", what))
        return self._host

    def get(self) -> np.ndarray:
        return self._leave("get()").copy()

    def item(self) -> Any:
        return self._leave("item()").item()

    def tolist(self) -> Any:
        return self._leave("tolist()").tolist()

    def __float__(self) -> float:
        return float(self._leave("float()").item())

    def __int__(self) -> int:
        return int(self._leave("int()").item())

    def __bool__(self) -> bool:
        return bool(self._leave("bool()"))

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator[ndarray]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"strict.{self._host!r}"

    # indexing

    def _key(self, key: Any, reading: bool) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        masks = 0
        for part in parts:
            if isinstance(part, (np.ndarray, list)):
                EVENTS.append(Event("h2d", "a host array or a list as index"))
            if getattr(part, "dtype", None) == np.dtype(bool):
                masks += 1
                if reading:
                    EVENTS.append(Event("d2h", "x[mask]: the shape depends on values"))
        if masks > 1:
            raise _refusal("more than one bool mask in an index", "use one mask, or indices")
        plain = _unwrap(key, "x[...]", True)
        return np.asarray(plain) if isinstance(key, list) else plain

    def __getitem__(self, key: Any) -> ndarray:
        plain = self._key(key, reading=True)
        found = self._host[plain]
        if isinstance(found, np.ndarray):
            return ndarray(found)
        whole: tuple[Any, ...] = (*(plain if isinstance(plain, tuple) else (plain,)), ...)
        return ndarray(self._host[whole])  # a 0-d view, no scalar

    def __setitem__(self, key: Any, value: Any) -> None:
        number = isinstance(value, (bool, int, float, complex, np.generic))
        plain = self._key(key, reading=False)
        arrays = [p for p in (plain if isinstance(plain, tuple) else (plain,)) if isinstance(p, np.ndarray)]
        if isinstance(value, np.ndarray) and value.ndim and not arrays:
            raise _refusal("x[...] = NumPy array", "move the value to the device first")
        if any(a.dtype == bool for a in arrays) and not number and np.ndim(peek(value)):
            EVENTS.append(Event("d2h", "x[mask] = array"))
        if arrays and not number:
            _refuse_duplicates(self._host, plain)
        self._host[plain] = _unwrap(value, "x[...] = value", bool(arrays))


def _binary(ufunc: np.ufunc, name: str, kind: str) -> Callable[[ndarray, Any], Any]:
    """One of ``x + y`` (kind ""), ``y + x`` ("r") and ``x += y`` ("i")."""

    def method(self: ndarray, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            raise _refusal(f"x {name} NumPy array", "host and device arrays do not mix")
        if not isinstance(other, (ndarray, bool, int, float, complex, np.generic)):
            if getattr(other, "__array_ufunc__", None) is not None:  # CuPy does not leave it to the other side
                raise _refusal(f"x {name} {type(other).__name__}", "unsupported type")
            return NotImplemented
        a, b = self._host, other._host if type(other) is ndarray else other
        if kind == "i":
            ufunc(a, b, out=a)
            return self
        if ufunc is np.matmul:
            _refuse_bfloat16_product("matmul", (a, b))
        return _wrap(ufunc(b, a) if kind == "r" else ufunc(a, b))

    return method


_BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "matmul": "matmul",
    "lshift": "left_shift",
    "rshift": "right_shift",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
}
_COMPARISONS = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}

for _name, _ufunc in _BINARY.items():
    for _kind in ("", "r") if _name == "matmul" else ("", "r", "i"):  # cupy.ndarray has no __imatmul__
        setattr(ndarray, f"__{_kind}{_name}__", _binary(getattr(np, _ufunc), _name, _kind))
for _name, _ufunc in _COMPARISONS.items():
    setattr(ndarray, f"__{_name}__", _binary(getattr(np, _ufunc), _name, ""))
for _name, _ufunc in {"neg": "negative", "abs": "absolute", "invert": "invert", "pos": "positive"}.items():
    setattr(ndarray, f"__{_name}__", functools.partialmethod(lambda self, ufunc: _wrap(ufunc(self._host)), getattr(np, _ufunc)))


# ---- the module ----------------------------------------------------------------------------------


class _Namespace(ModuleType):
    """``numpy``, or a submodule of it, as CuPy has it. Names are made at first use."""

    def __init__(self, real: Any, path: str) -> None:
        super().__init__(f"strict.{path}" if path else "strict")
        self._real, self._path = real, path

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ABSENT.get(self._path, ()):
            raise _refusal(f"xp.{self._path + '.' if self._path else ''}{name}", "CuPy has no such name", AbsentError)
        made = self._made(name, getattr(self._real, name))
        setattr(self, name, made)
        return made

    def _made(self, name: str, value: Any) -> Any:
        path = f"{self._path}.{name}" if self._path else name
        if isinstance(value, ModuleType):
            return _Namespace(value, path)
        if isinstance(value, np.ufunc) and name != "matmul":
            return Ufunc(value)
        return value if isinstance(value, type) or not callable(value) else _function(path, value)


xp: Any = _Namespace(np, "")
"""The module: ``xp.tanh(x)``."""
xp.ndarray = ndarray
xp.asnumpy = lambda a: a.get() if isinstance(a, ndarray) else np.asarray(a)


class _Random:
    """The part of ``cupy.random.Generator`` that exists, on the stand-in."""

    NAMES = frozenset(
        """random uniform integers standard_normal standard_exponential exponential gamma standard_gamma beta binomial
        chisquare dirichlet f geometric hypergeometric logseries poisson power""".split()
    )

    def __init__(self, seed: int, index: int) -> None:
        self._stream = np.random.Generator(np.random.Philox(seed))

    @property
    def bit_generator(self) -> _Random:
        """Itself: what holds the state, as of NumPy's generators."""
        return self

    @property
    def state(self) -> dict[str, Any]:
        """The state as plain numbers; assigning it continues from there."""
        return dict(_plain(self._stream.bit_generator.state))

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._stream.bit_generator.state = state

    def __getattr__(self, name: str) -> Any:
        if name not in self.NAMES:
            raise _refusal(f"Generator.{name}", "cupy.random.Generator has no such method", AbsentError)
        return _function(f"random.{name}", getattr(self._stream, name))


def _plain(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: _plain(part) for name, part in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state


STRICT = Backend(
    name="strict",
    array_type=ndarray,
    xp=xp,
    from_host=lambda host, index: array(host),
    to_host=lambda device: device.get(),
    index_of=lambda device: 0,
    random=_Random,
)
register_backend(STRICT)
