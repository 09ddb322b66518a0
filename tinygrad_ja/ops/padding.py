"""Padding: a border of a constant, of reflected, repeated or wrapped elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..backend.arrays import ARRAY_MODULES
from ..core.operator import Array, primitive
from ..errors import error
from .indexing import _add_at_zeros, _getitem
from .selection import _index_select

__all__ = ["constant_pad_nd"]


def _pad_case(pick: Any) -> Any:
    shape = pick.shape(min_dims=1)
    before = [pick.integer(0, 2) for _ in shape]
    size = tuple([a + n + pick.integer(0, 2) for a, n in zip(before, shape)])
    index = tuple([slice(a, a + n) for a, n in zip(before, shape)])
    return (pick.array(shape), size, index, 0.5), {}


@primitive(lambda g, index: _getitem(g, index), cases=_pad_case)
def _pad_constant(xp: Any, input: Array, size: tuple[int, ...], index: tuple[slice, ...], value: float) -> Array:
    """``value`` everywhere, and the input at ``index``; the cotangent of the border is lost."""
    made = xp.full(size, value, dtype=input.dtype)
    made[index] = input
    return made


def _pairs(op: str, input: Any, pad: Sequence[int]) -> list[tuple[int, int]]:
    """``(before, after)`` of each axis; PyTorch lists the last axis first and leaves out leading axes."""
    shape = tuple(input.shape)
    if len(pad) % 2 or len(pad) // 2 > len(shape):
        rule = (
            f"two numbers for each of at most {len(shape)} axes (shape {shape}), the last axis first",
            f"最後の次元から順に、次元ごとに 2 つの数。次元は {len(shape)} 個まで (形状 {shape})",
        )
        raise error(
            "TG-A001",
            op=op,
            argument="pad",
            value=tuple(pad),
            rule=rule,
            fix=("pad=(left, right, top, bottom, ...).", "pad=(left, right, top, bottom, ...) のように渡してください。"),
        )
    pairs = [(0, 0)] * (len(shape) - len(pad) // 2)
    return pairs + [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -2, -2)]


def constant_pad_nd(input: Any, pad: Sequence[int], value: float = 0) -> Any:
    """A border of ``value``: ``pad`` has (before, after) of the last axis, then of the one before, and so on; negative numbers cut.

    >>> import tinygrad_ja as tg
    >>> tg.constant_pad_nd(tg.tensor([1.0, 2.0]), (1, 2), 9.0)
    tensor([9., 1., 2., 9., 9.])
    """
    pairs = _pairs("pad", input, tuple(pad))
    shape = tuple(input.shape)
    for axis, (n, (before, after)) in enumerate(zip(shape, pairs)):
        if n + before + after < 0:
            rule = (
                f"axis {axis} of shape {shape} keeps 0 or more elements",
                f"形状 {shape} の次元 {axis} に 0 個以上の要素が残ること",
            )
            raise error(
                "TG-A001",
                op="pad",
                argument="pad",
                value=tuple(pad),
                rule=rule,
                fix=("cut less.", "削る数を減らしてください。"),
            )
    if any([before < 0 or after < 0 for before, after in pairs]):
        input = _getitem(input, tuple([slice(max(0, -a), max(0, n + min(b, 0))) for n, (a, b) in zip(shape, pairs)]))
        shape, pairs = tuple(input.shape), [(max(a, 0), max(b, 0)) for a, b in pairs]
    size = tuple([a + n + b for n, (a, b) in zip(shape, pairs)])
    index = tuple([slice(a, a + n) for n, (a, _) in zip(shape, pairs)])
    return _add_at_zeros(input, size, index) if value == 0 else _pad_constant(input, size, index, value)


def _source_positions(xp: Any, mode: str, n: int, before: int, after: int) -> Any:
    """For each element of a padded axis, which of the ``n`` elements stands there. What is cut goes before "circular" repeats the rest."""
    if mode == "circular":
        left = n + min(before, 0) + min(after, 0)
        return xp.arange(-max(before, 0), left + max(after, 0)) % left - min(before, 0)
    places = xp.arange(-before, n + after)
    if mode == "replicate":
        return xp.minimum(xp.maximum(places, 0), n - 1)
    return n - 1 - xp.abs(n - 1 - xp.abs(places))


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """A border round the last axes (``nn.functional.pad``).

    pad: (before, after) of the last axis, then of the one before, and so on; negative numbers cut. mode: ``"constant"`` (with
    ``value``), ``"reflect"`` (the edge itself is not repeated), ``"replicate"`` (the edge element) or ``"circular"``. The derivative
    adds each border element's cotangent where the element came from.

    >>> import tinygrad_ja as tg
    >>> x = tg.tensor([1.0, 2.0, 3.0])
    >>> pad(x, (2, 1), mode="reflect")
    tensor([3., 2., 1., 2., 3., 2.])
    """
    if mode == "constant":
        return constant_pad_nd(input, pad, 0 if value is None else value)
    limits = {"reflect": -1, "replicate": None, "circular": 0}
    if mode not in limits:
        rule = (
            "one of 'constant', 'reflect', 'replicate', 'circular'",
            "'constant'、'reflect'、'replicate'、'circular' のどれか",
        )
        raise error(
            "TG-A001",
            op="pad",
            argument="mode",
            value=mode,
            rule=rule,
            fix=("mode='constant'.", "mode='constant' などとしてください。"),
        )
    xp = ARRAY_MODULES[type(getattr(input, "array", input))]
    limit = limits[mode]
    for axis, (before, after) in enumerate(_pairs("pad", input, tuple(pad))):
        if before == after == 0:
            continue
        n = input.shape[axis]
        most = n + (limit or 0) + (min(before, 0) + min(after, 0) if mode == "circular" else 0)
        if n == 0 or n + before + after < 0 or (limit is not None and max(before, after) > most):
            rule = (
                f"at most {most} for axis {axis} of size {n} in mode '{mode}'",
                f"mode='{mode}' では、大きさ {n} の次元 {axis} に対して {most} 以下",
            )
            raise error(
                "TG-A001",
                op="pad",
                argument="pad",
                value=(before, after),
                rule=rule,
                fix=("pad less, or mode='constant'.", "パディングを減らすか、mode='constant' としてください。"),
            )
        input = _index_select(input, axis, _source_positions(xp, mode, n, before, after))
    return input
