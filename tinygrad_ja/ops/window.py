"""Windows along the axes of a picture: which elements each of them has, how many there are, and the arguments that say so."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from ..errors import Phrase, error


@dataclass(frozen=True)
class Window:
    """The windows along one axis: window o has those of the elements ``o · stride + k · dilation - padding``, k < taps, that exist."""

    count: int
    taps: int
    stride: int = 1
    dilation: int = 1
    padding: int = 0

    def reach(self, tap: int, size: int) -> tuple[slice, slice]:
        """``(windows, elements)``: the windows whose element number ``tap`` is one of an axis of that size, and those elements."""
        shift = tap * self.dilation - self.padding
        first = max(0, -(shift // self.stride))
        stop = max(first, min(self.count, (size - 1 - shift) // self.stride + 1))
        start = first * self.stride + shift
        return slice(first, stop), slice(start, start + max(0, (stop - first - 1) * self.stride + 1), self.stride)

    def tiles(self, size: int) -> bool:
        """Whether no two windows share an element, none reaches over the edge, and no element lies between two of one window."""
        apart = self.stride == self.taps or self.count == 1
        return apart and not self.padding and (self.dilation == 1 or self.taps == 1) and self.count * self.taps <= size


def reaches(windows: Sequence[Window], sizes: Sequence[int]) -> Iterator[tuple[int, Any, Any]]:
    """``(number, windows, elements)`` for each tap of windows along the last axes, in row-major order: indices of the windows that have
    this tap, and of the elements it is."""
    along = [[window.reach(tap, size) for tap in range(window.taps)] for window, size in zip(windows, sizes)]
    for number, parts in enumerate(product(*along)):
        yield number, (..., *[part[0] for part in parts]), (..., *[part[1] for part in parts])


# ---- arguments -----------------------------------------------------------------------------------


def per_axis(op: str, argument: str, value: Any, count: int, least: int) -> tuple[int, ...]:
    """One int for each of ``count`` axes from an int, or from a sequence of one or of ``count`` ints. Raises ArgumentError for others, and
    for ints below ``least``."""
    given = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    try:
        sizes = tuple([operator.index(n) for n in given])
    except TypeError:
        sizes = ()
    if len(sizes) not in (1, count) or min(sizes) < least:
        rule = (f"an int, or {count} of them, each >= {least}", f"{least} 以上の整数 1 個、または {count} 個")
        fix = (f"{argument}={max(least, 1)}.", f"{argument}={max(least, 1)} などとしてください。")
        raise error("TG-A001", op=op, argument=argument, value=value, rule=rule, fix=fix)
    return sizes * count if len(sizes) == 1 else sizes


_NAMES = {1: "L", 2: "H, W", 3: "D, H, W"}


def spatial_sizes(op: str, input: Any, dims: int, batched: bool = False) -> tuple[int, ...]:
    """The last ``dims`` sizes of (N, C, ...) or, unless ``batched``, (C, ...). Raises ShapeError for other shapes, and for an empty axis
    among them."""
    shape = tuple(input.shape)
    if not (dims + 1 + batched <= len(shape) <= dims + 2) or 0 in shape[-dims:]:
        names = _NAMES[dims]
        either: Phrase = (f"(N, C, {names})", f"(N, C, {names})")
        if not batched:
            either = (f"(N, C, {names}) or (C, {names})", f"(N, C, {names}) または (C, {names})")
        rule = (f"{either[0]}, with {names} above 0", f"{either[1]}。{names} は 1 以上")
        fix = (
            "reshape the input, or use the function for its number of axes.",
            "入力を reshape するか、次元数に合う関数を使ってください。",
        )
        raise error("TG-S002", op=op, rule=rule, shapes=shape, fix=fix)
    return shape[-dims:]


def windows_of(
    op: str, sizes: Sequence[int], kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[Window, ...]:
    """The windows that the arguments of a pooling function describe. ``stride`` None or () is the kernel's size. With ``ceil_mode`` a last
    window may reach over the right edge, as long as it does not start there. Raises ArgumentError when there would be no window."""
    dims = len(sizes)
    kernel = per_axis(op, "kernel_size", kernel_size, dims, 1)
    steps = kernel if stride is None or stride in ((), []) else per_axis(op, "stride", stride, dims, 1)
    pads, spread = per_axis(op, "padding", padding, dims, 0), per_axis(op, "dilation", dilation, dims, 1)
    found = []
    for size, k, step, pad, apart in zip(sizes, kernel, steps, pads, spread):
        if pad > k // 2:
            rule = (f"at most half of kernel_size {kernel}", f"kernel_size {kernel} の半分以下")
            fix = (
                "pad less, or pad the input with nn.functional.pad.",
                "padding を減らすか、先に nn.functional.pad を使ってください。",
            )
            raise error("TG-A001", op=op, argument="padding", value=padding, rule=rule, fix=fix)
        room = size + 2 * pad - apart * (k - 1) - 1
        count = (room + (step - 1 if ceil_mode else 0)) // step + 1
        if ceil_mode and (count - 1) * step >= size + pad:
            count -= 1
        if count < 1:
            span = apart * (k - 1) + 1
            rule = (
                f"a window of {span} fits into an axis of {size} with padding {pad}",
                f"大きさ {span} の窓が、padding {pad} を含む大きさ {size} の次元に収まること",
            )
            fix = ("use a smaller kernel.", "kernel_size を小さくしてください。")
            raise error("TG-A001", op=op, argument="kernel_size", value=kernel_size, rule=rule, fix=fix)
        found.append(Window(count, k, step, apart, pad))
    return tuple(found)
