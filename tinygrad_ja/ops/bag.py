"""Embeddings: rows of a table by number, one by one or added up in bags."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES
from ..backend.extremes import extreme_at
from ..core.modes import modes, no_grad
from ..core.operator import Array, Constant, Point, primitive
from ..core.tensor import Tensor
from ..errors import Phrase, error
from .comparison import keep
from .selection import _add_slices, _gather, _index_of, _index_select
from .shape import _reshape, unsqueeze

__all__ = ["embedding", "embedding_bag"]


def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    """Rows of ``weight`` (V, D) by number: the result has shape ``input.shape + (D,)`` (``nn.functional.embedding``).

    input: integer tensor of any shape, 0 <= n < V. The derivative adds the cotangents of a row that was used several times; the row
    ``padding_idx`` receives none. max_norm: rows that are used and whose norm (of order ``norm_type``) is larger are first scaled down to it,
    in place. scale_grad_by_freq: the gradient of a row is divided by the number of times it is used. ``sparse`` is accepted, gradients are
    dense. Raises AxisError for a number out of range (on the CPU).

    >>> import tinygrad_ja as tg
    >>> embedding(tg.tensor([1, 1]), tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[3., 4.],
            [3., 4.]])
    """
    rows = weight.shape[0]
    index = _index_of("embedding", weight, input, rows, 0)
    _need_padding("embedding", padding_idx, weight)
    if max_norm is not None:
        _shorten(weight, index, max_norm, norm_type)
    made = _index_select(weight, 0, index, padding_idx)
    return _scale_gradient(made, _rarity(index, rows, made.dtype)) if scale_grad_by_freq else made


def _need_padding(op: str, padding_idx: int | None, weight: Any) -> None:
    rows = weight.shape[0]
    if padding_idx is not None and not -rows <= padding_idx < rows:
        raise error("TG-I002", op=op, index=padding_idx, size=rows, shape=tuple(weight.shape), first=-rows, last=rows - 1)


def _shorten(weight: Any, index: Any, max_norm: float, norm_type: float) -> None:
    """Scale the rows that are used and longer than ``max_norm`` down to it, in place and unseen by the tape."""
    array = getattr(weight, "array", weight)
    xp = ARRAY_MODULES[type(array)]
    used = xp.unique(index)
    rows = array.take(used, 0)
    norm = xp.linalg.norm(rows, norm_type, 1, True)
    rows = xp.where(norm > max_norm, rows * (max_norm / (norm + 1e-7)), rows).astype(array.dtype)
    with no_grad():
        weight[used] = Tensor(rows) if type(weight) is Tensor else rows


@primitive(
    lambda g, factor: g * factor,
    cases=lambda pick: ((pick.array(shape := pick.shape()), np.ones(shape)), {}),
    points=[Point(([1.0, 2.0], np.array([0.5, 3.0])), ([0.5, 3.0],))],
)
def _scale_gradient(xp: Any, input: Array, factor: Constant) -> Array:
    """The input itself, but its cotangent is multiplied by ``factor``; not a derivative, a convention."""
    return input


def _rarity(index: Any, rows: int, dtype: Any) -> Any:
    """1 / (how often the number occurs) for each number of ``index``, with an axis of size 1 behind."""
    xp = ARRAY_MODULES[type(index)]
    flat = index.reshape(-1)
    count = _add_slices(xp.ones(flat.shape, dtype=dtype), (rows,), 0, flat)
    return 1 / count.take(flat, 0).reshape((*index.shape, 1))


# ---- bags ----------------------------------------------------------------------------------------


def _bag_case(pick: Any) -> Any:
    count, rows, width = pick.integer(1, 4), pick.integer(0, 7), pick.integer(1, 3)
    values = np.asarray(pick.indices((rows, width), 4))
    return (values, pick.indices((rows,), count + 1), count), {}


@primitive(cases=_bag_case)
def _first_largest(xp: Any, input: Array, bag: Constant, count: int) -> Array:
    """For each of ``count`` bags and each column the first row of the bag (``bag[row]`` names it) where the column is largest; the number
    of rows for an empty bag. Rows of the bag ``count`` are left out."""
    rows, width = input.shape
    wide = np.float64 if input.dtype.kind != "f" or input.dtype.itemsize == 8 else np.float32
    values = input.astype(wide)
    top = xp.full((count + 1, width), -np.inf, dtype=wide)
    extreme_at(xp, top, bag, values, smallest=False)
    place = xp.where(values == top[bag], xp.arange(rows).reshape(rows, 1), rows)
    first = xp.full((count + 1, width), rows, dtype=np.int64)
    xp.minimum.at(first, bag, place)
    return first[:count]


def embedding_bag(
    input: Any,
    weight: Any,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """The sum, mean or largest (mode = "sum", "mean", "max") of the rows of ``weight`` (V, D) in each bag of numbers, (bags, D)
    (``nn.functional.embedding_bag``).

    input: (B, N) numbers for B bags of N each, or (N,) with ``offsets`` (bags,), where each bag begins; with ``include_last_offset`` the last
    offset is where the last bag ends. per_sample_weights: factors of the rows in the shape of ``input``, for "sum" only. Numbers that equal
    ``padding_idx`` are left out. An empty bag is zeros. The gradient of a largest element goes to the first of equal ones. The other
    arguments are those of ``embedding``. Raises ArgumentError for what does not go together.

    >>> import tinygrad_ja as tg
    >>> table = tg.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> embedding_bag(tg.tensor([0, 1, 2]), table, tg.tensor([0, 2]), mode="sum")
    tensor([[4., 6.],
            [5., 6.]])
    """
    if mode not in ("sum", "mean", "max"):
        raise _not_allowed("mode", repr(mode), ("'sum', 'mean' or 'max'", "'sum'、'mean'、'max' のどれか"), "mode='sum'.")
    if mode == "max" and (scale_grad_by_freq or sparse):
        name = "scale_grad_by_freq" if scale_grad_by_freq else "sparse"
        raise _not_allowed(name, True, ("not with mode='max'", "mode='max' では使えない"), "mode='sum'.")
    if per_sample_weights is not None and mode != "sum":
        rule = ("only with mode='sum'", "mode='sum' のときだけ使える")
        raise _not_allowed("per_sample_weights", "...", rule, "mode='sum'.")
    _need_padding("embedding_bag", padding_idx, weight)
    index = _index_of("embedding_bag", weight, input, weight.shape[0], 0)
    if per_sample_weights is not None and tuple(per_sample_weights.shape) != tuple(index.shape):
        rule = ("per_sample_weights has the shape of input", "per_sample_weights の形状は input と同じ")
        raise _misfit(rule, f"input {tuple(index.shape)}, per_sample_weights {tuple(per_sample_weights.shape)}")
    bag, count = _bags(index, offsets, include_last_offset)
    flat = index.reshape(-1)
    if padding_idx is not None:
        bag = ARRAY_MODULES[type(flat)].where(flat == padding_idx % weight.shape[0], count, bag)
    made = embedding(flat, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq)
    if mode == "max":
        return _largest(made, bag, count)
    if per_sample_weights is not None:
        made = made * unsqueeze(_reshape(per_sample_weights, (-1,)), -1)
    total = _add_slices(made, (count + 1, weight.shape[1]), 0, bag)[:count]
    return total if mode == "sum" else total / _lengths(bag, count, total.dtype)


def _not_allowed(argument: str, value: Any, rule: Phrase, fix: str) -> Exception:
    return error("TG-A001", op="embedding_bag", argument=argument, value=value, rule=rule, fix=fix)


def _misfit(rule: Phrase, shapes: str) -> Exception:
    fix = (
        "give input (B, N), or input (N) with offsets (B).",
        "input (B, N)、または input (N) と offsets (B) を渡してください。",
    )
    return error("TG-S002", op="embedding_bag", rule=rule, shapes=shapes, fix=fix)


def _bags(index: Any, offsets: Any, include_last: bool) -> tuple[Any, int]:
    """``(bag of each number, number of bags)``; numbers behind the last offset get a bag more."""
    xp = ARRAY_MODULES[type(index)]
    if index.ndim == 2 and offsets is None:
        count, length = index.shape
        return xp.arange(count).repeat(length), count
    starts = getattr(offsets, "array", offsets)
    if index.ndim != 1 or starts is None or starts.ndim != 1:
        given = "None" if starts is None else tuple(starts.shape)
        rule = (
            "input (B, N) without offsets, or input (N) with offsets (B)",
            "input (B, N) で offsets なし、または input (N) と offsets (B)",
        )
        raise _misfit(rule, f"input {tuple(index.shape)}, offsets {given}")
    if starts.dtype.kind not in "iu":
        allowed = ("an integer dtype", "整数の dtype")
        raise error("TG-T004", op="embedding_bag", dtype=starts.dtype, allowed=allowed, fix="tg.int64")
    count = len(starts) - (1 if include_last else 0)
    if type(starts) is np.ndarray and (count < 0 or (len(starts) and not _are_offsets(starts, len(index)))):
        rule = (
            f"they begin with 0, never fall, and end at most at {len(index)}, the length of input",
            f"0 から始まり、減ることがなく、最後は input の長さ {len(index)} 以下",
        )
        raise _not_allowed("offsets", starts.tolist(), rule, "offsets = cumsum(lengths) - lengths.")
    places = xp.arange(len(index))
    if modes.recording is not None:  # which can follow a sum, not a search
        return (starts[None, :] <= places[:, None]).sum(1) - 1, max(count, 0)
    return xp.searchsorted(starts, places, "right") - 1, max(count, 0)


def _are_offsets(starts: np.ndarray, length: int) -> bool:
    return bool(starts[0] == 0 and starts[-1] <= length and (starts[1:] >= starts[:-1]).all())


def _lengths(bag: Any, count: int, dtype: Any) -> Any:
    """How many rows each bag has, at least 1, as (count, 1)."""
    xp = ARRAY_MODULES[type(bag)]
    found = _add_slices(xp.ones(bag.shape, dtype=dtype), (count + 1,), 0, bag)[:count]
    return xp.maximum(found, 1).reshape(count, 1)


def _largest(rows: Any, bag: Any, count: int) -> Any:
    """The largest element of each bag and column; 0 for an empty bag."""
    held = getattr(rows, "array", rows)
    xp = ARRAY_MODULES[type(held)]
    if not len(held):
        return _add_slices(rows, (count, *held.shape[1:]), 0, bag)
    place = _first_largest(held, bag, count)
    return keep(_gather(rows, 0, xp.minimum(place, len(held) - 1)), place < len(held))
