"""Rearranging operators: elements in another order, or several times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES
from ..core.operator import Array, linear
from ..core.tensor import Tensor
from ..errors import error
from .methods import attach
from .shape import _dims, _expand, _reshape, _sizes, _transpose, dimension

__all__ = ["flip", "fliplr", "flipud", "repeat_interleave", "roll", "rot90", "tile"]


def _flip_case(pick: Any) -> Any:
    shape = pick.shape(min_dims=1)
    return (pick.array(shape), tuple(sorted({dim % len(shape) for dim in pick.axes(len(shape))}))), {}


def _roll_case(pick: Any) -> Any:
    shape = pick.shape(min_dims=1)
    dims = pick.axes(len(shape))
    return (pick.array(shape), tuple([pick.integer(-5, 5) for _ in dims]), dims), {}


@linear(lambda g, dims: _flip(g, dims), cases=_flip_case)
def _flip(xp: Any, input: Array, dims: tuple[int, ...]) -> Array:
    """The axes ``dims`` backwards; its own transpose."""
    return input[tuple([slice(None, None, -1 if dim in dims else None) for dim in range(input.ndim)])]


@linear(lambda g, shifts, dims: _roll(g, tuple([-shift for shift in shifts]), dims), cases=_roll_case)
def _roll(xp: Any, input: Array, shifts: tuple[int, ...], dims: tuple[int, ...]) -> Array:
    """Elements moved along ``dims`` by ``shifts``, round the end; the transpose moves back."""
    return xp.roll(input, shifts, dims)


def flip(input: Any, *dims: Any) -> Any:
    """The axes ``dims`` (ints or one tuple) backwards.

    >>> import tinygrad_ja as tg
    >>> tg.flip(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), (1,))
    tensor([[2., 1.],
            [4., 3.]])
    """
    return _flip(input, _dims("flip", _sizes(dims), input.shape))


def _need_axes(op: str, input: Any, count: int) -> None:
    if input.ndim < count:
        fix = ("reshape it first.", "先に reshape してください。")
        raise error(
            "TG-S002", op=op, rule=(f"at least {count} axes", f"{count} 次元以上"), shapes=str(tuple(input.shape)), fix=fix
        )


def fliplr(input: Any) -> Any:
    """Columns backwards: ``flip(input, 1)``."""
    _need_axes("fliplr", input, 2)
    return _flip(input, (1,))


def flipud(input: Any) -> Any:
    """Rows backwards: ``flip(input, 0)``."""
    _need_axes("flipud", input, 1)
    return _flip(input, (0,))


def roll(input: Any, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Any:
    """Elements moved by ``shifts`` along ``dims``; those that leave at the end come in at the beginning. Without ``dims`` the flattened
    tensor rolls and gets its shape back.

    >>> import tinygrad_ja as tg
    >>> tg.roll(tg.tensor([1.0, 2.0, 3.0]), 1)
    tensor([3., 1., 2.])
    """
    shape = input.shape
    moves = tuple(shifts) if isinstance(shifts, (tuple, list)) else (shifts,)
    if dims is None:
        return _reshape(_roll(_reshape(input, (-1,)), (sum(moves),), (0,)), shape)
    axes = dims if isinstance(dims, (tuple, list)) else (dims,)
    axes = tuple([dimension("roll", dim, shape) for dim in axes])
    if len(axes) != len(moves):
        raise error(
            "TG-A001",
            op="roll",
            argument="shifts",
            value=shifts,
            rule=("one shift per dim", "次元ごとに 1 つ"),
            fix=("give as many shifts as dims.", "dims と同じ個数の shifts を渡してください。"),
        )
    return _roll(input, moves, axes) if shape else input


def rot90(input: Any, k: int = 1, dims: Sequence[int] = (0, 1)) -> Any:
    """Rotate by ``k`` quarter turns in the plane of ``dims``, from the first towards the second axis."""
    _need_axes("rot90", input, 2)
    first, second = _dims("rot90", tuple(dims), input.shape)
    turns = k % 4
    if turns == 0:
        return input
    if turns == 2:
        return _flip(input, (first, second))
    if turns == 1:
        return _transpose(_flip(input, (second,)), first, second)
    return _flip(_transpose(input, first, second), (second,))


# ---- several times -------------------------------------------------------------------------------


def repeat(input: Any, *repeats: Any) -> Any:
    """The whole tensor ``repeats[i]`` times along axis i; more numbers than axes add axes in front (``Tensor.repeat``).

    >>> import tinygrad_ja as tg
    >>> tg.tensor([1.0, 2.0]).repeat(2, 2)
    tensor([[1., 2., 1., 2.],
            [1., 2., 1., 2.]])
    """
    times = _sizes(repeats)
    shape = tuple(input.shape)
    if len(times) < len(shape) or any([n < 0 for n in times]):
        rule = (
            f"one number, 0 or more, for each of the {len(shape)} axes",
            f"{len(shape)} 個の次元のそれぞれに 0 以上の数を 1 つ",
        )
        raise error(
            "TG-A001",
            op="repeat",
            argument="repeats",
            value=times,
            rule=rule,
            fix=("put 1 for axes that stay as they are.", "変えない次元には 1 を入れてください。"),
        )
    shape = (1,) * (len(times) - len(shape)) + shape
    apart = [part for n in shape for part in (1, n)]
    wide = [part for count, n in zip(times, shape) for part in (count, n)]
    made = _expand(_reshape(input, tuple(apart)), tuple(wide))
    return _reshape(made, tuple([count * n for count, n in zip(times, shape)]))


def tile(input: Any, *dims: Any) -> Any:
    """``repeat``, but missing numbers in front count as 1.

    >>> import tinygrad_ja as tg
    >>> tg.tile(tg.tensor([1.0, 2.0]), (2,))
    tensor([1., 2., 1., 2.])
    """
    times = _sizes(dims)
    return repeat(input, (1,) * (input.ndim - len(times)) + tuple(times))


def repeat_interleave(input: Any, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None) -> Any:
    """Each element (or each slice along ``dim``) several times in a row.

    repeats: an int, or a tensor of ints, one per slice. Without ``dim`` the tensor is flattened. With ``repeats`` alone, a tensor of
    counts, the result is the indices 0, 1, ... each so many times. ``output_size`` is accepted and not needed.

    >>> import tinygrad_ja as tg
    >>> tg.tensor([1.0, 2.0]).repeat_interleave(2)
    tensor([1., 1., 2., 2.])
    """
    from .selection import _index_select

    if repeats is None:
        return Tensor(_index_of_repeats(input.array, input.array.shape[0], input.array))
    if dim is None:
        input, dim = _reshape(input, (-1,)), 0
    shape = tuple(input.shape)
    dim = dimension("repeat_interleave", dim, shape)
    if not shape:
        input, shape = _reshape(input, (1,)), (1,)
    counts = getattr(repeats, "array", repeats)
    if np.ndim(counts) and len(counts) not in (1, shape[dim]):
        rule = (
            f"one number for each of the {shape[dim]} slices, or one for all",
            f"{shape[dim]} 個のスライスのそれぞれに数を 1 つ、または全体で 1 つ",
        )
        raise error(
            "TG-A001",
            op="repeat_interleave",
            argument="repeats",
            value=repeats,
            rule=rule,
            fix=("correct its length.", "長さを直してください。"),
        )
    if np.ndim(counts) == 0 or len(counts) == 1:
        count = int(counts if np.ndim(counts) == 0 else counts[0])
        apart = (*shape[: dim + 1], 1, *shape[dim + 1 :])
        wide = (*shape[: dim + 1], count, *shape[dim + 1 :])
        made = _expand(_reshape(input, apart), wide)
        return _reshape(made, (*shape[:dim], shape[dim] * count, *shape[dim + 1 :]))
    return _index_select(input, dim, _index_of_repeats(counts, shape[dim], getattr(input, "array", input)))


def _index_of_repeats(counts: Any, size: int, like: Any) -> Any:
    xp = ARRAY_MODULES[type(like)]
    return xp.repeat(xp.arange(size), counts if xp is np else list(counts.tolist()))


attach(flip, fliplr, flipud, roll, rot90, repeat, tile, repeat_interleave)
