"""Sliding windows over images: ``unfold`` lays them out as columns (im2col), ``fold`` adds columns up to images (col2im).

Window p along an axis holds, for each tap k of the kernel, the element ``p·stride + k·dilation - before``; outside of the image stand
zeros. Everything here, and convolution too, is said in these terms, for any number of axes.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

from ..core.operator import Array, linear
from ..errors import Phrase, error, joined
from .shape import squeeze, unsqueeze

__all__: list[str] = []

Sizes = tuple[int, ...]
"""One number for each axis of the image."""


# ---- on raw arrays, for any number of axes ---------------------------------------------------------


def extent(kernel: Sizes, size: Sizes, stride: Sizes, dilation: Sizes) -> Sizes:
    """How many elements ``size`` windows span along each axis."""
    return tuple([(n - 1) * s + (k - 1) * d + 1 for k, n, s, d in zip(kernel, size, stride, dilation)])


def moved(xp: Any, input: Any, size: Sizes, before: Sizes) -> Any:
    """(N, C, *shape) -> (N, C, *size): element i stands at ``before + i``; what does not fit is cut off, what is missing is 0."""
    shape = input.shape[2:]
    if size == shape and not any(before):
        return input
    made = xp.zeros((*input.shape[:2], *size), input.dtype)
    target = (..., *[slice(max(b, 0), max(b + n, 0)) for n, b in zip(shape, before)])
    source = (..., *[slice(max(-b, 0), max(m - b, 0)) for m, b in zip(size, before)])
    made[target] = input[source]
    return made


def windows(xp: Any, input: Any, kernel: Sizes, size: Sizes, stride: Sizes, before: Sizes, dilation: Sizes) -> Any:
    """(N, C, *shape) -> (N, C, *kernel, *size): all windows, perhaps a view in which elements are repeated."""
    if 0 in size:
        return xp.zeros((*input.shape[:2], *kernel, *size), input.dtype)
    image = moved(xp, input, extent(kernel, size, stride, dilation), before)
    along = image.strides[2:]
    strides = [*image.strides[:2], *[d * a for d, a in zip(dilation, along)], *[s * a for s, a in zip(stride, along)]]
    return xp.lib.stride_tricks.as_strided(image, (*image.shape[:2], *kernel, *size), tuple(strides))


def add_windows(xp: Any, input: Any, shape: Sizes, stride: Sizes, before: Sizes, dilation: Sizes) -> Any:
    """(N, C, *kernel, *size) -> (N, C, *shape): the transpose of ``windows``, which adds each element where it came from."""
    rank = len(shape)
    kernel, size = input.shape[2 : 2 + rank], input.shape[2 + rank :]
    if 0 in size:
        return xp.zeros((*input.shape[:2], *shape), input.dtype)
    dtype = xp.float32 if input.dtype == xp.float16 else input.dtype
    image = xp.zeros((*input.shape[:2], *extent(kernel, size, stride, dilation)), dtype)
    for tap in itertools.product(*[range(k) for k in kernel]):
        start = [k * d for k, d in zip(tap, dilation)]
        there = (..., *[slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(start, size, stride)])
        here = (slice(None), slice(None), *tap)
        part = image[there]
        part += input[here]
    return moved(xp, image, shape, tuple([-b for b in before])).astype(input.dtype, copy=False)


# ---- the two operators -----------------------------------------------------------------------------


def window_case(pick: Any) -> tuple[Sizes, Sizes, Sizes, tuple[Sizes, Sizes, Sizes]]:
    """``shape, kernel, size, (stride, before, dilation)`` of an image of one to three axes, windows anywhere in and around it."""
    rank = pick.choice((1, 2, 1, 3))

    def each(low: int, high: int) -> Sizes:
        return tuple([pick.integer(low, high) for _ in range(rank)])

    return each(1, 4 if rank < 3 else 2), each(1, 3 if rank < 3 else 2), each(1, 3), (each(1, 2), each(0, 2), each(1, 2))


def _unfold_case(pick: Any) -> Any:
    shape, *window, geometry = window_case(pick)
    return (pick.array((pick.integer(0, 2), pick.integer(1, 2), *shape)), *window, *geometry), {}


def _fold_case(pick: Any) -> Any:
    shape, kernel, size, geometry = window_case(pick)
    rows, columns = pick.integer(1, 2) * math.prod(kernel), math.prod(size)
    return (pick.array((pick.integer(0, 2), rows, columns)), shape, kernel, size, *geometry), {}


@linear(
    lambda g, shape, kernel, size, stride, before, dilation: _fold(g, shape[2:], kernel, size, stride, before, dilation),
    cases=_unfold_case,
)
def _unfold(xp: Any, input: Array, kernel: Sizes, size: Sizes, stride: Sizes, before: Sizes, dilation: Sizes) -> Array:
    """(N, C, *shape) -> (N, C·|kernel|, |size|): each window a column."""
    made = windows(xp, input, kernel, size, stride, before, dilation).copy()
    return made.reshape(input.shape[0], input.shape[1] * math.prod(kernel), math.prod(size))


@linear(
    lambda g, kernel, size, stride, before, dilation: _unfold(g, kernel, size, stride, before, dilation),
    cases=_fold_case,
)
def _fold(
    xp: Any, input: Array, shape: Sizes, kernel: Sizes, size: Sizes, stride: Sizes, before: Sizes, dilation: Sizes
) -> Array:
    """(N, C·|kernel|, |size|) -> (N, C, *shape): each element is added where its window has it."""
    channels = input.shape[1] // math.prod(kernel)
    return add_windows(xp, input.reshape(input.shape[0], channels, *kernel, *size), shape, stride, before, dilation)


# ---- the public functions --------------------------------------------------------------------------


def sizes(op: str, argument: str, value: Any, rank: int, least: int) -> Sizes:
    """An argument that is one number, or one for each axis, as a tuple; none may be below ``least``."""
    made = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(made) == 1:
        made = made * rank
    if len(made) != rank or not all([isinstance(n, int) and n >= least for n in made]):
        rule = (f"an int >= {least}, or {rank} of them", f"{least} 以上の整数、またはそれを {rank} 個並べたもの")
        fix = (f"{argument}={max(least, 1)}.", f"{argument}={max(least, 1)} などとしてください。")
        raise error("TG-A001", op=op, argument=argument, value=value, rule=rule, fix=fix)
    return made


def misfit(op: str, rule: Phrase, shapes: Any, fix: Phrase) -> Exception:
    """The error of shapes that do not fit."""
    return error("TG-S002", op=op, rule=rule, shapes=shapes, fix=fix)


def windows_that_fit(
    op: str, shape: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, *shown: Sizes
) -> Sizes:
    """How many windows there are along each axis with ``padding`` on both sides; at least one must fit, or else the error shows these
    shapes."""
    made = []
    for n, k, s, p, d in zip(shape, kernel, stride, padding, dilation):
        room = n + 2 * p - (d * (k - 1) + 1)
        if room < 0:
            rule = (
                f"the window {d * (k - 1) + 1} is no longer than the padded input {n + 2 * p}",
                f"窓の長さ {d * (k - 1) + 1} がパディング後の入力 {n + 2 * p} 以下",
            )
            fix = ("use a smaller kernel, or more padding.", "カーネルを小さくするか、padding を増やしてください。")
            raise misfit(op, rule, joined(shown), fix)
        made.append(room // s + 1)
    return tuple(made)


def _geometry(op: str, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> tuple[Sizes, Sizes, Sizes, Sizes]:
    return (
        _pair(op, "kernel_size", kernel_size, 1),
        _pair(op, "stride", stride, 1),
        _pair(op, "padding", padding, 0),
        _pair(op, "dilation", dilation, 1),
    )


def _pair(op: str, argument: str, value: Any, least: int) -> Sizes:
    return sizes(op, argument, value, 2, least)


def unfold(input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """The windows of images as columns (``torch.nn.functional.unfold``, im2col): (N, C, H, W) -> (N, C·kh·kw, L), or without N.

    Integers, or pairs (height, width): kernel_size, dilation between its elements, padding with zeros on all sides, stride of the windows.
    The derivative adds each element's cotangents up (``fold``). Raises ShapeError when no window fits.

    >>> import tinygrad_ja as tg
    >>> x = tg.tensor([[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]])
    >>> unfold(x, (2, 2))
    tensor([[0., 1.],
            [1., 2.],
            [3., 4.],
            [4., 5.]])
    """
    shape = tuple(input.shape)
    if len(shape) not in (3, 4) or 0 in shape[-3:]:
        rule = ("(C, H, W) or (N, C, H, W), of which only N may be 0", "(C, H, W) か (N, C, H, W)。0 にできるのは N だけ")
        raise misfit("unfold", rule, shape, ("reshape the input.", "reshape で形状を直してください。"))
    kernel, stride, padding, dilation = _geometry("unfold", kernel_size, dilation, padding, stride)
    size = windows_that_fit("unfold", shape[-2:], kernel, stride, padding, dilation, shape)
    if len(shape) == 3:
        return squeeze(_unfold(unsqueeze(input, 0), kernel, size, stride, padding, dilation), 0)
    return _unfold(input, kernel, size, stride, padding, dilation)


def fold(input: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """Images of size ``output_size`` to which each column is added where ``unfold`` would take it from (``torch.nn.functional.fold``,
    col2im): (N, C·kh·kw, L) -> (N, C, H, W), or without N.

    The derivative is ``unfold``. Raises ShapeError when the number of columns is not that of the windows, or the rows are no multiple of
    kh·kw.

    >>> import tinygrad_ja as tg
    >>> fold(tg.ones(4, 2), (2, 3), (2, 2))
    tensor([[[1., 2., 1.],
             [1., 2., 1.]]])
    """
    shape = tuple(input.shape)
    output = _pair("fold", "output_size", output_size, 1)
    kernel, stride, padding, dilation = _geometry("fold", kernel_size, dilation, padding, stride)
    size = windows_that_fit("fold", output, kernel, stride, padding, dilation, output)
    rows, columns = math.prod(kernel), math.prod(size)
    if len(shape) not in (2, 3) or shape[-1] != columns or not shape[-2] or shape[-2] % rows:
        rule = f"({rows}·c,{columns}), (n,{rows}·c,{columns})"
        fix = ("give the settings of the unfold that made the columns.", "列を作った unfold と同じ設定を渡してください。")
        raise misfit("fold", rule, shape, fix)
    if len(shape) == 2:
        return squeeze(_fold(unsqueeze(input, 0), output, kernel, size, stride, padding, dilation), 0)
    return _fold(input, output, kernel, size, stride, padding, dilation)
