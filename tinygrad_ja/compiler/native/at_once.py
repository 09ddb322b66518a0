"""Machine code outside of compiled programs: for single operators that an eager program calls again and again with large arrays.

What a call needs (texts compiled, words, records) depends on shapes, layouts and arguments, and is made once for each of those; a later call
writes the addresses of its arrays into a copy. So several threads may run the same one. Making it takes some 0.1 s, so there is a limit
(``KEPT``) to how often that is done: a network that meets another size at each call soon goes NumPy's way with new ones.

``convolution`` and ``gradient_of_weight`` fill an array that is there. ``forward`` and ``backward`` run the text of an operator, or of its
derivative, as a program of one step: element-wise parts and reductions over rows become one pass.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...core.nested import found, mapped
from ...core.trace import Step, Value
from ..lower import lower
from ..marks import BackwardOf
from ..passes import optimised
from ..symbolic import Symbol
from ..symbolic_numpy import XP
from .code import F32
from .conv_weight import weight_gradient
from .convolution import correlation
from .executor import NativeExecutor
from .launches import Launch, Unsupported, tabulated
from .target import processor
from .team import team

KEPT = 256
"""Kinds of calls that are made ready in a process, at most; of kinds for which that cannot be done, eight times as many are known."""

SEEN = 2
"""How often an operator goes NumPy's way first: what is computed once need not be compiled."""

SHARED = 1 << 15
"""Elements from which on a text that works in place is shared out among threads: waking them takes as long as some thousand."""

PATIENCE = 1000
"""How often a thread looks for more work before it sleeps: what comes next is NumPy's and wants the processors for threads of its own."""

BETWEEN = 1 << 25
"""Bytes that the values between the parts of an operator may need in any case; more only if its arrays need as much."""

TAPS, OUTPUTS = 128, 1024
"""The largest kernel and the longest side of an image: texts of larger ones take long to write."""

_NO_PROBLEM = np.zeros(1, np.int64)


class _Way:
    """Launches that can be run with other arrays than those for which they were written.

    memory: arrays of the launches' own, for what is in between; each run has new ones. fixed: those that they read, which are kept.
    problem: where the launches leave what went wrong.
    """

    def __init__(
        self,
        launches: Sequence[Launch],
        arrays: Sequence[np.ndarray],
        memory: Sequence[np.ndarray] = (),
        fixed: Sequence[np.ndarray] = (),
        problem: np.ndarray = _NO_PROBLEM,
    ) -> None:
        words, records, rebased = tabulated(launches)
        self._fixed, self._count = fixed, len(records)
        self._shared = any([launch.chunks > 1 for launch in launches])
        self._table = np.concatenate([records.reshape(-1), words])
        """Records, then words."""
        self._added = np.zeros(len(self._table), np.intp)
        """What has to be added to each of them: nothing, an array's address, that of the room, of the table or of the problem."""
        first = records.size
        self._table[1:first:3] = (self._table[1:first:3] + first) * words.itemsize
        room = len(arrays) + 1
        self._added[1:first:3] = room + 1
        self._added[[first + place for place in rebased]] = room
        self._room = max([launch.scratch for launch in launches])
        for array in memory:  # behind the launches' scratch memory, and as far from the begin of a cache line as it was
            self._room += (_address(array) - self._room) % 64
            self._move(array, first, room, self._room)
            self._room += array.nbytes
        for k, array in enumerate(arrays):
            self._move(array, first, k + 1)
        self._asks = self._move(problem, first, room + 2)

    def _move(self, array: np.ndarray, first: int, added: int, offset: int = 0) -> bool:
        """Make words that are addresses within an array distances from something else; whether there are any."""
        (low, high), words = _bounds(array), self._table[first:]
        within = np.flatnonzero((low <= words) & (words < high))
        words[within] += offset - _address(array)
        self._added[first:][within] = added
        return bool(within.size)

    def run_alone(self, arrays: Sequence[np.ndarray]) -> bool:
        """``run`` in the caller's thread."""
        return self.run(arrays, alone=True)

    def run(self, arrays: Sequence[np.ndarray], alone: bool = False) -> bool:
        """Whether all went well; not so where an index does not exist."""
        room, table = np.empty(self._room + 64, np.uint8), np.empty(len(self._table), np.int64)
        problem = np.zeros(2, np.int64) if self._asks else _NO_PROBLEM
        addresses = [0, *map(_address, arrays), _address(room) + 63 & ~63, _address(table), _address(problem)]
        np.add(self._table, np.array(addresses).take(self._added), table)
        own = team()
        ready = own.ready(PATIENCE) if self._shared and not alone else 1
        return not own.run(_address(table), self._count, own.address, ready, addresses[-1])


def _asked(array: np.ndarray) -> int:
    at: int = array.__array_interface__["data"][0]
    return at


def _read(array: np.ndarray) -> int:
    """The same in a tenth of the time: an array is an object whose first field is the address of its elements."""
    return ctypes.c_size_t.from_address(id(array) + object.__basicsize__).value


_address = _read if sys.implementation.name == "cpython" and _read(_NO_PROBLEM) == _asked(_NO_PROBLEM) else _asked


_bounds = np.lib.array_utils.byte_bounds


_ways: dict[Any, Any] = {}
"""What a call is known by -> how to do it, or None where there is no machine code for it."""


def _is_room() -> bool:
    return len(_ways) < KEPT or (len(_ways) < 8 * KEPT and sum([way is not None for way in _ways.values()]) < KEPT)


# ---- convolutions --------------------------------------------------------------------------------


def worth_it(x: np.ndarray, w: np.ndarray, y: np.ndarray) -> bool:
    """Whether there may be machine code for a convolution: images in single precision, all of a moderate size."""
    sides = (*x.shape[2:], *y.shape[2:])
    return x.ndim == 4 and x.dtype == y.dtype == w.dtype == F32 and max(sides) <= OUTPUTS and math.prod(w.shape[2:]) <= TAPS


def convolution(
    transposed: bool,
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray | None,
    y: np.ndarray,
    *geometry: tuple[int, ...],
    later: bool = False,
) -> bool:
    """Fill ``y`` with a convolution or its transpose. False where there is no machine code for it, or where it is slow: vectors hold
    channels of ``y``; and, if ``later``, for the first ``SEEN`` calls of a kind."""
    if y.shape[1] < processor().vector // 4 or not worth_it(x, w, y):
        return False
    arrays = [x, w, y] if bias is None else [x, w, y, bias]
    return _fill((transposed, *geometry), arrays, lambda: correlation(transposed, x, w, bias, y, *geometry), later)


def gradient_of_weight(x: np.ndarray, g: np.ndarray, w: np.ndarray, *geometry: tuple[int, ...], later: bool = False) -> bool:
    """Fill ``w`` with the gradient of a weight. False where there is no machine code for it, and, if ``later``, for the first
    ``SEEN`` calls of a kind."""
    return worth_it(x, w, g) and _fill(("weight", *geometry), [x, g, w], lambda: weight_gradient(x, g, w, *geometry), later)


def _fill(kind: tuple[Any, ...], arrays: list[np.ndarray], launches: Callable[[], list[Launch]], later: bool) -> bool:
    key = (kind, *map(_layout, arrays))
    if key not in _ways:
        if not _is_due(key, later) or _overlap(arrays):
            return False
        try:
            _ways[key] = _Way(launches(), arrays)
        except Unsupported:
            _ways[key] = None
    way = _ways[key]
    return way is not None and way.run(arrays)


def _layout(array: np.ndarray) -> tuple[Any, ...]:
    return array.shape, array.strides, array.dtype, array.flags.aligned


def _overlap(arrays: Sequence[np.ndarray]) -> bool:
    bounds = sorted(map(_bounds, arrays))
    return any([high > low for (_, high), (low, _) in itertools.pairwise(bounds)])


# ---- operators -----------------------------------------------------------------------------------


class _Program:
    """A step as a way, with what it gives: ``results`` as the operator's kernel returned them, with a ``_Result`` in place of each array."""

    def __init__(self, way: _Way, results: Any) -> None:
        self.way, self.results = way, results
        self._made = list(found(results, _Result))

    def run(self, arrays: list[np.ndarray]) -> Any:
        made = [result.empty() for result in self._made]
        if not self.way.run([*arrays, *made]):
            return None
        each = iter(made)
        return mapped(
            self.results, lambda part: type(part) is _Result, lambda part: next(each)[()] if part.scalar else next(each)
        )


class _Result(NamedTuple):
    """An array of some shape whose axes lie in memory in the order ``axes``; None: in their own. scalar: not an array but a number of NumPy."""

    shape: tuple[int, ...]
    dtype: np.dtype
    axes: tuple[int, ...] | None
    scalar: bool

    @classmethod
    def like(cls, made: Any) -> _Result:
        array = np.asarray(made)
        axes = tuple(sorted(range(array.ndim), key=lambda axis: (-array.strides[axis], axis)))
        dense = array.transpose(axes).flags.c_contiguous and not array.flags.c_contiguous
        return cls(array.shape, array.dtype, axes if dense else None, made is not array)

    def empty(self) -> np.ndarray:
        if self.axes is None:
            return np.empty(self.shape, self.dtype)
        made = np.empty([self.shape[axis] for axis in self.axes], self.dtype)
        return made.transpose([self.axes.index(axis) for axis in range(made.ndim)])


_seen: dict[Any, int] = {}
"""How often a call that is not ready yet went NumPy's way."""


def forward(operator: Any, usual: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What ``usual(*args, **kwargs)`` returns, which is the kernel of an operator."""
    key = (operator.name, *map(_known, args), *[(name, _known(value)) for name, value in kwargs.items()])

    def arguments() -> dict[str, Any]:
        named = {**dict(zip(operator.positional, args)), **kwargs}
        return {**named, **{p.name: p.default for p in operator.parameters if p.name not in named}}

    def template(made: Any) -> Any:
        # a faster kernel may leave out what it does not need for these elements
        return made if _is_steady(made) else operator.kernel_for(np)(*args, **kwargs)

    return _run(key, [*args, *kwargs.values()], lambda: usual(*args, **kwargs), operator, arguments, template)


def backward(operator: Any, usual: Callable[..., Any], saved: tuple[Any, ...], parents: Sequence[Any], g: Any) -> Any:
    """What ``usual(saved, parents, g)`` returns, which is the first-order backward of an operator."""
    needs = tuple([parent is not None for parent in parents])
    key = (operator.name, needs, _known(g), *map(_known, saved))

    def arguments() -> dict[str, Any]:
        return {"saved": saved, "g": g, "needs": needs, "shapes": tuple([p and p.shape for p in parents])}

    def template(made: Any) -> Any:
        return [gradient if need else None for gradient, need in zip(made, needs)]

    return _run(key, [*saved, g], lambda: usual(saved, parents, g), BackwardOf(operator), arguments, template)


def _known(value: Any) -> Any:
    """What has to be the same for a call to be done in the same way."""
    if type(value) is np.ndarray:
        return value.shape, value.strides, value.dtype, value.flags.aligned
    if type(value) is tuple:
        return tuple([_known(part) for part in value])
    if isinstance(value, functools.partial):  # what a forward says of its backward, which is another object at each call
        return type(value)
    return type(value), repr(value) if type(value) is float else value


def _run(
    key: Any,
    given: list[Any],
    usual: Callable[[], Any],
    mark: Any,
    arguments: Callable[[], dict[str, Any]],
    template: Callable[[Any], Any],
) -> Any:
    """given: the arguments, in their order. template: makes something like every result of such a call from one of ``usual``."""
    arrays = list(found(given, np.ndarray))
    try:
        program = _ways.get(key, _seen)
    except TypeError:  # something that cannot be a key
        return usual()
    if program is None:
        return usual()
    if program is not _seen:
        made = program.run(arrays)
        return usual() if made is None else made
    made = usual()
    if _is_due(key):
        _ways[key] = _program(mark, arguments(), template(made))
    return made


def _is_due(key: Any, later: bool = True) -> bool:
    """Count a call of a kind that is not known yet; whether it is time to make it ready: at once, or (``later``) when ``SEEN`` came before."""
    _seen[key] = times = _seen.get(key, 0) + 1
    if times > (SEEN if later else 0):
        if _is_room():
            _seen.pop(key, None)
            return True
        _seen[key] = -KEPT  # there will hardly be room for the next one
    if len(_seen) > 8 * KEPT:
        _seen.clear()
    return False


def _program(mark: Any, arguments: dict[str, Any], made: Any) -> _Program | None:
    """The program of one step that returns arrays like ``made``; None where it has no machine code."""
    results = mapped(made, lambda part: isinstance(part, (np.ndarray, np.generic)), _Result.like)
    outputs = [result.empty() for result in found(results, _Result)]
    arrays: list[np.ndarray] = []

    def stand_in(array: np.ndarray) -> np.ndarray:
        # those of a call may lie in one another, as queries and keys do that were computed together
        arrays.append(_like(array))
        return arrays[-1]

    step = Step(mark, mapped(arguments, lambda part: type(part) is np.ndarray, stand_in), None)
    step.result = mapped(results, lambda part: type(part) is _Result, lambda part: Value("y", part.empty()))
    way = _way_of(step, [*arrays, *outputs], outputs)
    return None if way is None else _Program(way, results)


def _way_of(step: Step, arrays: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> _Way | None:
    """How a step computes with these arrays, with its results in ``outputs``; None where it needs more than machine code, or much memory."""
    if any([0 in array.strides and array.size > 1 for array in arrays]):  # reductions would take equal elements for one
        return None
    values = {id(array): _live(array) for array in arrays}
    writes = [(values[id(array)], made) for array, made in zip(outputs, found(step.result, Value))]
    try:
        program, _ = lower(_Recording(list(values.values()), step, writes))
        executor = NativeExecutor(optimised(program))
        launches, (arena, fixed, problem) = executor.launches, executor.memory
        if not launches or executor.layout.nbytes > max(BETWEEN, sum([a.nbytes for a in arrays])):
            return None
        return _Way(launches, arrays, [arena], fixed, problem)
    except Exception:  # whatever a text may do with symbols: NumPy's way is always there
        return None


def _is_steady(part: Any) -> bool:
    """Whether results are arrays, and a function may be among them: nothing that might be something else for other elements."""
    return type(part) is np.ndarray or callable(part) or (type(part) is tuple and all(map(_is_steady, part)))


def _like(array: np.ndarray) -> np.ndarray:
    """Memory of its own, laid out like ``array``."""
    low, high = _bounds(array)
    memory = np.empty(high - low, np.uint8)
    return np.ndarray(array.shape, array.dtype, memory, _address(array) - low, array.strides)


def _live(array: np.ndarray) -> Value:
    value = Value("x", array, None, array)
    value.live = True
    return value


class _Recording:
    """One step whose inputs and outputs lie where they lie, in the form that ``lower`` reads."""

    def __init__(self, captured: list[Value], step: Step, writes: list[tuple[Value, Value]]) -> None:
        self.captured, self.steps, self.writes = captured, [step], writes
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []


# ---- other texts ---------------------------------------------------------------------------------


class _Text:
    """Stands for an operator in a step that runs ``text(xp, *arrays)``."""

    def __init__(self, text: Callable[..., Any]) -> None:
        self.name = text.__name__
        self.kernels = {Symbol: functools.partial(text, XP)}

    def apply(self, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        return function(*arguments["arrays"])


def in_place(
    text: Callable[..., Any], inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]
) -> Callable[..., bool] | None:
    """A function of arrays that are laid out like these, one list with the inputs and then the outputs, which lets the outputs be what
    ``text(xp, *inputs)`` returns. An output may be one of the inputs, and then has to be in later calls; otherwise no output may lie in the
    memory of another array. None where there is none yet: as with operators, the first calls go NumPy's way."""
    given = [*inputs, *outputs]
    places = [(_address(array), array.shape, array.strides) for array in given]
    first = [places.index(place) for place in places]
    key = (text, tuple(first), *map(_layout, given))
    if key not in _ways:
        if not _is_due(key):
            return None
        _ways[key] = None
        with contextlib.suppress(MemoryError):  # an array of its own for each, though nothing is written there
            made = [_like(array) for array in given]
            made = [made[k] for k in first]
            step = Step(_Text(text), {"arrays": tuple(made[: len(inputs)])}, None)  # type: ignore[arg-type]
            step.result = tuple([Value("y", array) for array in outputs])
            _ways[key] = _way_of(step, made, made[len(inputs) :])
    way = _ways[key]
    if way is None:
        return None
    return way.run if max([array.size for array in given]) >= SHARED else way.run_alone
