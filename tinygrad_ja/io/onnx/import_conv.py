"""Imported convolutions: padding on each side by itself, any of the automatic paddings, transposed, deformable, causal, unfolded."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from ...nn import functional as F
from ...ops.comparison import where
from ...ops.creation import arange, from_numpy, zeros
from ...ops.join import stack
from ...ops.linalg import einsum
from ...ops.piecewise import floor
from ...ops.selection import scatter_add
from .import_table import Call, Refusal, imports, integers

Pairs = list[tuple[int, int]]
_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def window(call: Call, sizes: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[list[int], list[int], Pairs]:
    """``(strides, dilations, pads)`` of windows over axes of these sizes; a pad is (before, after)."""
    count = len(sizes)
    strides = call.get("strides") or [1] * count
    dilations = call.get("dilations") or [1] * count
    pads = call.get("pads") or [0] * (2 * count)
    if not len(kernel) == len(strides) == len(dilations) == len(pads) / 2 == count or min(strides + dilations, default=1) < 1:
        shown = f"strides {strides}, dilations {dilations}, pads {pads}"
        raise Refusal((f"{shown} for {count} axes", f"{shown} は {count} 次元に合いません"))
    dilations = [d if k > 1 else 1 for d, k in zip(dilations, kernel)]
    reaches = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    pairs = _pads(call.get("auto_pad", "NOTSET"), pads, sizes, strides, reaches)
    most = [max(n + before + after, 1) for n, (before, after) in zip(sizes, pairs)]
    return [min(s, n) for s, n in zip(strides, most)], dilations, pairs  # a larger step leaves one window too


def _pads(automatic: str, pads: list[int], sizes: tuple[int, ...], strides: list[int], reaches: list[int]) -> Pairs:
    """(before, after) of each axis, as given or as the automatic padding makes it."""
    if automatic == "NOTSET":
        return list(zip(pads[: len(sizes)], pads[len(sizes) :]))
    if automatic == "VALID":
        return [(0, 0)] * len(sizes)
    if automatic not in ("SAME_UPPER", "SAME_LOWER"):
        raise Refusal((f"auto_pad {automatic!r}", f"auto_pad {automatic!r} には対応していません"))
    totals = [max((-(-n // s) - 1) * s + reach - n, 0) for n, s, reach in zip(sizes, strides, reaches)]
    return [halves(total, automatic == "SAME_UPPER") for total in totals]


def halves(total: int, more_behind: bool) -> tuple[int, int]:
    """A total padding as (before, after); an odd one goes behind or before."""
    small = total // 2
    return (small, total - small) if more_behind else (total - small, small)


def padded(call: Call, x: Any, pads: Pairs, value: Any = 0) -> Any:
    """x with a border round the axes behind the second; negative numbers cut."""
    if not any([any(pair) for pair in pads]):
        return x
    call.allow([*x.shape[:2], *[n + before + after for n, (before, after) in zip(x.shape[2:], pads)]])
    return F.pad(x, [n for pair in reversed(pads) for n in pair], "constant", value)


def _of_rank(table: dict[int, Any], x: Any) -> Any:
    if x.ndim - 2 not in table:
        raise Refusal(
            (f"{x.ndim - 2} spatial axes; 1 to 3 are supported", f"空間の次元が {x.ndim - 2} 個です (1 から 3 まで対応)")
        )
    return table[x.ndim - 2]


def _misfit(x: Any, weight: Any, group: int) -> Refusal:
    given = f"weight {weight.shape}, group {group}, input {x.shape}"
    return Refusal((f"{given} do not fit", f"{given} が合いません"))


@imports("Conv")
def conv(call: Call, x: Any, weight: Any, bias: Any = None) -> Any:
    """The convolution of a node; quantized ones use it too."""
    function = _of_rank(_CONV, x)
    group = call.get("group", 1)
    if x.shape[1] != weight.shape[1] * group:
        raise _misfit(x, weight, group)
    strides, dilations, pads = window(call, x.shape[2:], weight.shape[2:])
    sizes = [
        (n + sum(pair) - (k - 1) * d - 1) // s + 1
        for n, pair, k, d, s in zip(x.shape[2:], pads, weight.shape[2:], dilations, strides)
    ]
    call.allow([x.shape[0], weight.shape[0], *[max(n, 0) for n in sizes]])
    call.allow([*x.shape[:2], *[max(n + before + after, 0) for n, (before, after) in zip(x.shape[2:], pads)]])
    if all([before == after >= 0 for before, after in pads]):
        padding = tuple([before for before, _ in pads])
    else:
        x, padding = padded(call, x, pads), (0,) * len(pads)
    return function(x, weight, bias, tuple(strides), padding, tuple(dilations), group)


@imports("ConvTranspose")
def _conv_transpose(call: Call, x: Any, weight: Any, bias: Any = None) -> Any:
    """The whole result without padding, then cut at its ends by the pads and made longer by ``output_padding``."""
    function = _of_rank(_TRANSPOSED, x)
    sizes, kernel = x.shape[2:], weight.shape[2:]
    count = len(sizes)
    strides = call.get("strides") or [1] * count
    dilations = call.get("dilations") or [1] * count
    extra = call.get("output_padding") or [0] * count
    group = call.get("group", 1)
    if group < 1 or x.shape[1] % group or x.shape[1] != weight.shape[0]:
        raise _misfit(x, weight, group)
    whole = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(sizes, strides, kernel, dilations)]
    call.allow([x.shape[0], weight.shape[1] * group, *whole])
    made = function(x, weight, None, tuple(strides), 0, 0, group, tuple(dilations))
    automatic = call.get("auto_pad", "NOTSET")
    wanted = call.get("output_shape")
    if wanted is None and automatic.startswith("SAME"):
        wanted = [n * s for n, s in zip(sizes, strides)]
    if wanted is None:
        pads = call.get("pads") if automatic == "NOTSET" and call.get("pads") else [0] * (2 * count)
        pairs = list(zip(pads[:count], pads[count:]))
    else:
        totals = [n + e - w for n, e, w in zip(whole, extra, wanted[-count:])]
        pairs = [halves(total, automatic == "SAME_UPPER") for total in totals]
    made = padded(call, made, [(-before, e - after) for (before, after), e in zip(pairs, extra)])
    return made if bias is None else made + bias.reshape(-1, *(1,) * count)


@imports("DeformConv")
def _deform_conv(call: Call, x: Any, weight: Any, offset: Any, bias: Any = None, mask: Any = None) -> Any:
    """Each element of the kernel looks at a place of its own, offset from its usual one; between elements values are bilinear."""
    if x.ndim != 4:
        raise Refusal(("only two spatial axes are supported", "空間の次元が 2 個の場合だけに対応しています"))
    kernel = weight.shape[2:]
    strides, dilations, pads = window(call, x.shape[2:], kernel)
    batch, groups = x.shape[0], call.get("offset_group", 1)
    height, width = offset.shape[2:]
    offset = offset.reshape(batch * groups, math.prod(kernel), 2, height, width)
    image = x.reshape(batch * groups, -1, *x.shape[2:])
    taps = []
    for tap in range(math.prod(kernel)):
        place = divmod(tap, kernel[1])
        axes = []
        for axis, count in enumerate((height, width)):
            usual = arange(count, device=x.device) * strides[axis] + place[axis] * dilations[axis] - pads[axis][0]
            position = offset[:, tap, axis] + (usual.reshape(-1, 1) if axis == 0 else usual).to(x.dtype)
            axes.append(position)
        seen = _bilinear(image, *axes)
        if mask is not None:
            seen = seen * mask.reshape(batch * groups, math.prod(kernel), 1, height, width)[:, tap]
        taps.append(seen.reshape(batch, -1, height, width))
    parts = call.get("group", 1)
    columns = stack(taps, 2).reshape(batch, parts, -1, math.prod(kernel), height, width)
    weights = weight.reshape(parts, -1, *weight.shape[1:2], math.prod(kernel))
    made = einsum("bgckhw,gock->bgohw", columns, weights).reshape(batch, -1, height, width)
    return made if bias is None else made + bias.reshape(-1, 1, 1)


def _bilinear(x: Any, rows: Any, columns: Any) -> Any:
    """Values (N, C, h, w) of pictures (N, C, H, W) at places (N, h, w), between four elements each; outside of the picture are zeros."""
    flat = x.reshape(*x.shape[:2], -1)
    top, left = floor(rows.detach()), floor(columns.detach())
    total: Any = 0
    for down, right in itertools.product((0, 1), repeat=2):
        row, column = top + down, left + right
        inside = (row >= 0) & (row < x.shape[2]) & (column >= 0) & (column < x.shape[3])
        index = where(inside, row * x.shape[3] + column, row * 0).to(np.int64)
        seen = flat.gather(2, index.reshape(index.shape[0], 1, -1).expand(*x.shape[:2], -1)).reshape(
            *x.shape[:2], *index.shape[1:]
        )
        weight = (1 - (rows - row).abs()) * (1 - (columns - column).abs()) * inside.to(x.dtype)
        total = total + seen * weight.unsqueeze(1)
    return total


@imports("Col2Im")
def _col2im(call: Call, x: Any, image: Any, block: Any) -> Any:
    """Each column is a window; where windows lie on each other they are added."""
    sizes, kernel = tuple(integers(image)), tuple(integers(block))
    strides, dilations, pads = window(call, sizes, kernel)
    whole = [n + before + after for n, (before, after) in zip(sizes, pads)]
    counts = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(whole, kernel, dilations, strides)]
    channels = x.shape[1] // math.prod(kernel)
    call.allow([x.shape[0], channels, *whole])
    call.allow([*kernel, *[max(count, 0) for count in counts]])
    places = np.zeros((), dtype=np.int64)
    for n, k, d, s, count in zip(whole, kernel, dilations, strides, counts):
        axis = np.arange(k)[:, None] * d + np.arange(count) * s  # (tap, window)
        places = places[..., None, None] * n + axis
    order = [*range(0, 2 * len(sizes), 2), *range(1, 2 * len(sizes), 2)]
    flat = from_numpy(np.ascontiguousarray(places.transpose(order)).reshape(-1)).to(x.device)
    values = x.reshape(x.shape[0], channels, -1)
    canvas = zeros(x.shape[0], channels, math.prod(whole), dtype=x.dtype, device=x.device)
    made = scatter_add(canvas, 2, flat.reshape(1, 1, -1).expand(values.shape), values)
    return padded(call, made.reshape(x.shape[0], channels, *whole), [(-before, -after) for before, after in pads])
