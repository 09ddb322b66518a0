"""Machine code outside of compiled programs: for single operators that an eager program calls again and again with large arrays.

What a call needs (texts compiled, words, records) depends on shapes, layouts and arguments, and is made once for each of those; a later call
writes the addresses of its arrays into a copy. So several threads may run the same one. Making it takes some 0.1 s, so there is a limit
(``KEPT``) to how often that is done: a network that meets another size at each call soon goes NumPy's way with new ones.

``convolution`` and ``gradient_of_weight`` fill an array that is there. ``forward`` and ``backward`` run the text of an operator, or of its
derivative, as a program of one step: element-wise parts and reductions over rows become one pass.
"""

from __future__ import annotations

import ctypes
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
from .code import F32
from .conv_weight import weight_gradient
from .convolution import correlation
from .executor import NativeExecutor
from .launches import Launch, Unsupported, tabulated
from .target import processor
from .team import team

KEPT = 256
"""Calls that are made ready in a process, at most."""

SEEN = 2
"""How often an operator goes NumPy's way first: what is computed once need not be compiled."""

PATIENCE = 1000
"""How often a thread looks for more work before it sleeps: what comes next is NumPy's and wants the processors for threads of its own."""

BETWEEN = 1 << 25
"""Bytes that the values between the parts of an operator may need in any case; more only if its arrays need as much."""

TAPS, OUTPUTS = 128, 1024
"""The largest kernel and the longest side of an image: texts of larger ones take long to write."""

_NO_PROBLEM = np.zeros(1, np.int64)


class _Way:
    """Launches that can be run with other arrays than those for which they were written.

    memory: arrays of the launches' own, for what is in between; each run has new ones.
    """

    def __init__(self, launches: Sequence[Launch], arrays: Sequence[np.ndarray], memory: Sequence[np.ndarray] = ()) -> None:
        self._words, self._records, rebased = tabulated(launches)
        self._records[:, 1] *= self._words.itemsize
        self._shared = any([launch.chunks > 1 for launch in launches])
        places, which = list(rebased), [len(arrays)] * len(rebased)
        self._room = max([launch.scratch for launch in launches])
        for array in memory:  # behind the launches' scratch memory
            self._room += -self._room % 64
            within = self._within(array)
            self._words[within] += self._room
            places, which = places + within, which + [len(arrays)] * len(within)
            self._room += array.nbytes
        for k, array in enumerate(arrays):
            within = self._within(array)
            places, which = places + within, which + [k] * len(within)
        self._places, self._which = np.array(places, np.intp), np.array(which, np.intp)

    def _within(self, array: np.ndarray) -> list[int]:
        """Words that are addresses within an array, which become distances from its first element."""
        low, high = _bounds(array)
        within: list[int] = np.flatnonzero((low <= self._words) & (self._words < high)).tolist()
        self._words[within] -= _address(array)
        return within

    def run(self, arrays: Sequence[np.ndarray]) -> bool:
        """Whether all went well; not so where an index does not exist."""
        words, records = self._words.copy(), self._records.copy()
        addresses = [*map(_address, arrays)]
        if self._room:
            room = np.empty(self._room + 64, np.uint8)
            addresses.append(_address(room) + 63 & ~63)
        words[self._places] += np.array(addresses)[self._which]
        records[:, 1] += _address(words)
        own = team()
        ready = own.ready(PATIENCE) if self._shared else 1
        return not own.run(_address(records), len(records), own.address, ready, _address(_NO_PROBLEM))


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


# ---- convolutions --------------------------------------------------------------------------------


def worth_it(x: np.ndarray, w: np.ndarray, y: np.ndarray) -> bool:
    """Whether there may be machine code for a convolution: images in single precision, all of a moderate size."""
    sides = (*x.shape[2:], *y.shape[2:])
    return x.ndim == 4 and x.dtype == y.dtype == w.dtype == F32 and max(sides) <= OUTPUTS and math.prod(w.shape[2:]) <= TAPS


def convolution(
    transposed: bool, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, y: np.ndarray, *geometry: tuple[int, ...]
) -> bool:
    """Fill ``y`` with a convolution or its transpose. False where there is no machine code for it, or where it is slow: vectors hold
    channels of ``y``."""
    if y.shape[1] < processor().vector // 4 or not worth_it(x, w, y):
        return False
    arrays = [x, w, y] if bias is None else [x, w, y, bias]
    return _fill((transposed, *geometry), arrays, lambda: correlation(transposed, x, w, bias, y, *geometry))


def gradient_of_weight(x: np.ndarray, g: np.ndarray, w: np.ndarray, *geometry: tuple[int, ...]) -> bool:
    """Fill ``w`` with the gradient of a weight. False where there is no machine code for it."""
    return worth_it(x, w, g) and _fill(("weight", *geometry), [x, g, w], lambda: weight_gradient(x, g, w, *geometry))


def _fill(kind: tuple[Any, ...], arrays: list[np.ndarray], launches: Callable[[], list[Launch]]) -> bool:
    key = (kind, *map(_layout, arrays))
    if key not in _ways:
        if len(_ways) >= KEPT or _overlap(arrays):
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
    """A step as a way, with what it gives.

    results: as the operator's kernel returned them, with a ``_Result`` in place of each array. fixed: arrays that the step reads.
    """

    def __init__(self, way: _Way, results: Any, fixed: list[np.ndarray]) -> None:
        self.way, self.results, self.fixed = way, results, fixed
        self._made = list(found(results, _Result))

    def run(self, arrays: list[np.ndarray]) -> Any:
        made = [result.empty() for result in self._made]
        if not self.way.run([*arrays, *made]):
            return None
        each = iter(made)
        return mapped(self.results, lambda part: type(part) is _Result, lambda part: next(each))


class _Result(NamedTuple):
    """An array of some shape whose axes lie in memory in the order ``axes``; None: in their own."""

    shape: tuple[int, ...]
    dtype: np.dtype
    axes: tuple[int, ...] | None

    @classmethod
    def like(cls, array: np.ndarray) -> _Result:
        axes = tuple(sorted(range(array.ndim), key=lambda axis: (-array.strides[axis], axis)))
        dense = array.transpose(axes).flags.c_contiguous and not array.flags.c_contiguous
        return cls(array.shape, array.dtype, axes if dense else None)

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
        return made if _is_steady(made) else mapped(operator.kernel_for(np)(*args, **kwargs), _is_scalar, np.asarray)

    return _run(key, [*args, *kwargs.values()], lambda: usual(*args, **kwargs), operator, arguments, template)


def backward(operator: Any, usual: Callable[..., Any], saved: tuple[Any, ...], parents: Sequence[Any], g: Any) -> Any:
    """What ``usual(saved, parents, g)`` returns, which is the first-order backward of an operator."""
    needs = tuple([parent is not None for parent in parents])
    key = (operator.name, needs, _known(g), *map(_known, saved))

    def arguments() -> dict[str, Any]:
        return {"saved": saved, "g": g, "needs": needs, "shapes": tuple([p and p.shape for p in parents])}

    return _run(key, [*saved, g], lambda: usual(saved, parents, g), BackwardOf(operator), arguments, list)


def _known(value: Any) -> Any:
    """What has to be the same for a call to be done in the same way."""
    if type(value) is np.ndarray:
        return value.shape, value.strides, value.dtype, value.flags.aligned
    if type(value) is tuple:
        return tuple([_known(part) for part in value])
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
    times = _seen[key] = _seen.get(key, 0) + 1
    if times > SEEN and len(_ways) < KEPT:
        del _seen[key]
        _ways[key] = _program(mark, arguments(), template(made))
    elif len(_seen) > 8 * KEPT:
        _seen.clear()
    return made


def _program(mark: Any, arguments: dict[str, Any], made: Any) -> _Program | None:
    """The program of one step that returns arrays like ``made``; None where it has no machine code, or needs much memory in between."""
    results = mapped(made, lambda part: type(part) is np.ndarray, _Result.like)
    outputs = [result.empty() for result in found(results, _Result)]
    arrays: list[np.ndarray] = []

    def stand_in(array: np.ndarray) -> np.ndarray:
        # those of a call may lie in one another, as queries and keys do that were computed together
        arrays.append(_like(array))
        return arrays[-1]

    step = Step(mark, mapped(arguments, lambda part: type(part) is np.ndarray, stand_in), None)
    step.result = mapped(results, lambda part: type(part) is _Result, lambda part: Value("y", part.empty()))
    values = [_live(array) for array in (*arrays, *outputs)]
    try:
        program, _ = lower(_Recording(values, step, list(zip(values[len(arrays) :], found(step.result, Value)))))
        executor = NativeExecutor(optimised(program))
        launches, (memory, fixed) = executor.launches, executor.memory
        if not launches or executor.layout.nbytes > max(BETWEEN, sum([a.nbytes for a in (*arrays, *outputs)])):
            return None
        return _Program(_Way(launches, [*arrays, *outputs], memory), results, fixed)
    except Unsupported:
        return None


def _is_steady(part: Any) -> bool:
    """Whether results are arrays, and a function may be among them: nothing that might be something else for other elements."""
    return type(part) is np.ndarray or callable(part) or (type(part) is tuple and all(map(_is_steady, part)))


def _is_scalar(part: Any) -> bool:
    return isinstance(part, np.generic)


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
