"""``x[key]`` and ``x[key] = value`` of symbols.

Keys of ints, slices, None and ... are views; assigning to one makes the array anew, of its parts. Keys with integer arrays are ``take``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .program import Array
from .symbolic import Symbol, Unsupported, emitter
from .symbolic_operands import as_symbol, broadcast_arrays, cast

_ALL = slice(None)


def get(symbol: Symbol, key: Any) -> Symbol:
    """``symbol[key]``."""
    items = key if type(key) is tuple else (key,)
    if any([isinstance(item, (Symbol, np.ndarray, list)) for item in items]):
        return _advanced(symbol, items)
    entries, shape = _basic(symbol.shape, items)
    if symbol.parts is not None and (part := _part(symbol, entries)) is not None and None not in items:
        return part
    if _is_all(entries, symbol.shape):
        return symbol.reshape(shape)  # None adds axes of size 1
    cut = tuple([_length(entry, n) for entry, n in zip(entries, symbol.shape) if type(entry) is slice])

    def make() -> Array:
        small = symbol.small
        if small.size == 1 and 0 not in shape:
            return emitter().view("reshape", small, (1,) * len(shape)) if len(shape) < small.ndim else small
        made = emitter().view("slice", symbol.full, cut, key=entries)
        return made if shape == cut else emitter().view("reshape", made, shape)

    def write(new: Symbol) -> None:
        symbol.assign(updated(symbol, entries, new.reshape(cut)))

    made = Symbol(shape, symbol.dtype, base=symbol, make=make, write=write)
    made.key = entries
    return made


def put(symbol: Symbol, key: Any, value: Any) -> None:
    """``symbol[key] = value``."""
    items = key if type(key) is tuple else (key,)
    if any([isinstance(item, (Symbol, np.ndarray, list)) for item in items]):
        raise Unsupported("an assignment to elements at indices")
    entries, shape = _basic(symbol.shape, items)
    if isinstance(value, Symbol) and value.base is symbol and value.key == entries:
        return  # x[key] += y changed that view, and with it x
    if symbol.root.frozen:
        raise Unsupported("a change of an array from outside")
    new = cast(as_symbol(value, symbol.dtype), symbol.dtype)
    while new.ndim > len(shape) and new.shape[0] == 1:
        new = new.reshape(new.shape[1:])
    new = new.seen_as(shape)
    cut = tuple([_length(entry, n) for entry, n in zip(entries, symbol.shape) if type(entry) is slice])
    symbol.assign(updated(symbol, entries, new.reshape(cut)))


def updated(symbol: Symbol, entries: tuple[Any, ...], value: Symbol) -> Symbol:
    """``symbol`` with ``value`` at a key as ``_basic`` makes it."""
    from .symbolic_shapes import concatenate, flip

    if _is_all(entries, symbol.shape):
        return value
    if 0 in value.shape:
        return symbol
    if symbol.fill is not None and symbol.fill == 0:
        array = emitter().emit("place", "place", [value.full], symbol.shape, symbol.dtype, key=entries)
        return Symbol(symbol.shape, symbol.dtype, array)
    axis = next(a for a, (entry, n) in enumerate(zip(entries, symbol.shape)) if not _is_all((entry,), (n,)))
    entry = entries[axis]
    if type(entry) is slice and entry.step == -1:
        low = 0 if entry.stop is None else entry.stop + 1
        turned = (*entries[:axis], slice(low, entry.start + 1, 1), *entries[axis + 1 :])
        return updated(symbol, turned, flip(value, axis))
    if type(entry) is slice and entry.step != 1:
        raise Unsupported("an assignment to every second element")
    start, stop = (entry.start, entry.stop) if type(entry) is slice else (entry, entry + 1)
    front = (_ALL,) * axis
    before, middle, behind = [get(symbol, front + (part,)) for part in (slice(0, start), slice(start, stop), slice(stop, None))]
    rest = (*[slice(0, n, 1) for n in symbol.shape[:axis]], slice(0, stop - start, 1), *entries[axis + 1 :])
    if type(entry) is int:
        value = value.reshape(*value.shape[:axis], 1, *value.shape[axis:])
    middle = updated(Symbol(middle.shape, middle.dtype, middle.small, fill=middle.fill), rest, value)
    return concatenate([part for part in (before, middle, behind) if part.shape[axis]], axis)


# ---- keys ----------------------------------------------------------------------------------------


def _basic(shape: tuple[int, ...], items: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """An int or a slice with start, stop and step for each axis; and the shape of what is there."""
    return _read(shape, tuple([(i.start, i.stop, i.step) if type(i) is slice else i for i in items]))


@functools.lru_cache(4096)
def _read(shape: tuple[int, ...], key: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    items = [slice(*item) if type(item) is tuple else item for item in key]
    made = np.broadcast_to(np.False_, shape)[tuple(items)].shape
    used = sum([item is not None and item is not Ellipsis for item in items])
    full: list[Any] = []
    for item in items:
        if item is Ellipsis:
            full += [_ALL] * (len(shape) - used)
        elif item is not None:
            full.append(item)
    full += [_ALL] * (len(shape) - len(full))
    return tuple([_entry(item, n) for item, n in zip(full, shape)]), made


def _entry(item: Any, n: int) -> Any:
    if type(item) is not slice:
        return int(item) % n
    start, stop, step = item.indices(n)
    if step < 0:
        return slice(start, None if stop < 0 else stop, step)
    return slice(start, max(start, stop), step)


def _length(entry: slice, n: int) -> int:
    return len(range(*entry.indices(n)))


def _is_all(entries: Sequence[Any], shape: Sequence[int]) -> bool:
    return all([type(e) is slice and (e.start, e.stop, e.step) == (0, n, 1) for e, n in zip(entries, shape)])


def _part(symbol: Symbol, entries: tuple[Any, ...]) -> Symbol | None:
    assert symbol.parts is not None
    if type(entries[0]) is int and _is_all(entries[1:], symbol.shape[1:]):
        return symbol.parts[entries[0]]
    return None


# ---- integer arrays ------------------------------------------------------------------------------


def _advanced(symbol: Symbol, items: tuple[Any, ...]) -> Symbol:
    """One array, or several side by side, where all else is taken as a whole or cut by slices."""
    from .symbolic_numpy import XP

    items = tuple([np.asarray(item) if type(item) is list else item for item in items])
    arrays = [item for item in items if isinstance(item, (Symbol, np.ndarray))]
    if any([a.dtype.kind not in "iu" for a in arrays]) or any([item is None or type(item) is int for item in items]):
        raise Unsupported("a key of arrays and others")
    used = len([item for item in items if item is not Ellipsis])
    full: list[Any] = []
    for item in items:
        full += [_ALL] * (symbol.ndim - used) if item is Ellipsis else [item]
    full += [_ALL] * (symbol.ndim - len(full))
    places = [i for i, item in enumerate(full) if type(item) is not slice]
    if places != list(range(places[0], places[0] + len(places))):
        raise Unsupported("arrays of a key that are apart")
    symbol = symbol[tuple([item if type(item) is slice else _ALL for item in full])]
    axis, sizes = places[0], [symbol.shape[i] for i in places]
    if len(arrays) == 1:
        return take(symbol, as_symbol(arrays[0]), axis)
    whole = symbol.reshape(*symbol.shape[:axis], math.prod(sizes), *symbol.shape[axis + len(sizes) :])
    return take(whole, flat_index(broadcast_arrays([as_symbol(a) for a in arrays]), sizes, XP), axis)


def flat_index(indices: Sequence[Any], sizes: Sequence[int], xp: Any) -> Symbol:
    """One index into axes that were made one, from an index for each of them."""
    total: Any = None
    for index, size in zip(indices, sizes):
        if index.dtype.kind == "i":
            index = xp.where(index < 0, index + size, index)
        total = index if total is None else total * size + index
    return total


def take(symbol: Symbol, index: Symbol, axis: int) -> Symbol:
    """Slices along an axis, whose place the axes of the index take."""
    shape = (*symbol.shape[:axis], *index.shape, *symbol.shape[axis + 1 :])
    inputs = [symbol.full, index.full]
    return Symbol(shape, symbol.dtype, emitter().emit("take", "take", inputs, shape, symbol.dtype, axis=axis))
