"""Elements of a picture at places between its pixels: weighted sums of some elements for each place, and grids of places.

Three operators, of which each is linear in both of its inputs, are each other's derivatives: with elements x (N, C, L), weights w and numbers
of elements i (N, K, P), ``_sample`` makes y_cp = Σ_k w_kp x_c,i(k,p). With a cotangent g of y, ``_sample_spread`` adds w_kp g_cp to element
i(k,p), which is dx, and ``_sample_weights`` makes Σ_c g_cp x_c,i(k,p), which is dw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from ..backend.arrays import ARRAY_MODULES
from ..core.operator import Array, Constant, Point, elementwise, primitive
from ..core.promotion import autocasts
from ..core.tensor import Tensor
from ..errors import error
from .comparison import _where, keep
from .conversion import _cast
from .indexing import _getitem
from .join import stack
from .linalg import matmul
from .piecewise import floor
from .shape import _reshape, transpose

# ---- weighted sums of elements -------------------------------------------------------------------


def _shapes(pick: Any) -> tuple[Any, Any, Any, Any]:
    n, c, size, taps, places = (pick.integer(1, high) for high in (2, 3, 5, 3, 4))
    index = pick.indices((n, taps, places), size + 1) - 1
    return pick.array((n, c, size)), pick.array((n, taps, places)), pick.array((n, c, places)), index


def _sample_case(pick: Any) -> Any:
    x, weight, _, index = _shapes(pick)
    return (x, weight, index), {}


def _spread_case(pick: Any) -> Any:
    x, weight, g, index = _shapes(pick)
    return (g, weight, index, x.shape[2]), {}


def _weights_case(pick: Any) -> Any:
    x, _, g, index = _shapes(pick)
    return (g, x, index), {}


def _numbers(xp: Any, shape: Sequence[int], index: Any) -> tuple[Any, Any, Any]:
    """An index of elements (N, C, P) whose numbers along the last axis are ``index`` (N, P)."""
    return xp.arange(shape[0])[:, None, None], xp.arange(shape[1])[:, None], xp.maximum(index, 0)[:, None]


def _at(xp: Any, input: Any, index: Any) -> Any:
    """Elements (N, C, P) by number; 0 where there is none."""
    return xp.where((index >= 0)[:, None], input[_numbers(xp, input.shape, index)], 0)


@primitive(
    lambda g, weight, index, shape: _sample_spread(g, weight, index, shape[2]),
    lambda g, input, index: _sample_weights(g, input, index),
    cases=_sample_case,
)
def _sample(xp: Any, input: Array, weight: Array, index: Constant) -> Array:
    """For each place the sum of K weighted elements of each channel; the number -1 means none."""
    made = xp.zeros((*input.shape[:2], index.shape[2]), dtype=input.dtype)
    for k in range(index.shape[1]):
        made += _at(xp, input, index[:, k]) * weight[:, k, None]
    return made


@primitive(
    lambda g, weight, index: _sample(g, weight, index),
    lambda g, input, index: _sample_weights(input, g, index),
    cases=_spread_case,
)
def _sample_spread(xp: Any, input: Array, weight: Array, index: Constant, size: int) -> Array:
    """Zeros to which the weighted value of each place is added at each of its K elements."""
    made = xp.zeros((*input.shape[:2], size), dtype=input.dtype)
    for k in range(index.shape[1]):
        part = xp.where((index[:, k] >= 0)[:, None], input * weight[:, k, None], 0)
        xp.add.at(made, _numbers(xp, made.shape, index[:, k]), part)
    return made


@primitive(
    lambda g, other, index: _sample(other, g, index),
    lambda g, input, index, shape: _sample_spread(input, g, index, shape[2]),
    cases=_weights_case,
)
def _sample_weights(xp: Any, input: Array, other: Array, index: Constant) -> Array:
    """For each place and each of its K elements the scalar product over the channels of the place's values and the element's."""
    made = [xp.sum(input * _at(xp, other, index[:, k]), 1) for k in range(index.shape[1])]
    return xp.stack(made, 1)


# ---- places --------------------------------------------------------------------------------------


def _folded_slope(g: Any, input: Any, low: float, high: float) -> Any:
    period = 2 * (high - low)
    away = abs(input - low)
    turned = away - floor(away / period) * period >= high - low
    rising = _where(input >= low, g, -g)
    return _where(turned, -rising, rising)


@elementwise(
    _folded_slope,
    cases=lambda pick: ((pick.array(pick.shape(), -7.0, 9.0), *pick.choice([(-0.5, 2.5), (0.0, 3.0), (-0.5, 0.5)])), {}),
    points=[Point(([0.0, 3.0, 6.0, -3.0], 0.0, 3.0), ([1.0, -1.0, 1.0, 1.0],))],
)
def _folded(xp: Any, input: Array, low: float, high: float) -> Array:
    """The numbers reflected at both bounds until they are inside; low < high."""
    period = 2 * (high - low)
    away = xp.abs(input - low) % period
    return xp.minimum(away, period - away) + low


@elementwise(
    lambda g, input, high: keep(g, (input > 0) & (input < high)),
    cases=lambda pick: ((pick.array(pick.shape()), pick.choice([0.0, 1.0])), {}),
    points=[Point(([0.0, 1.0, 0.5], 1.0), ([0.0, 0.0, 1.0],))],
)
def _clipped(xp: Any, input: Array, high: float) -> Array:
    """The numbers, but for those below 0 and above ``high``, which become 0 and ``high``, and NaN, which becomes 0. The bounds count as
    outside, where nothing moves."""
    return xp.minimum(xp.fmax(input, 0), high)


def _inside(places: Any, size: int, padding_mode: str, align_corners: bool) -> Any:
    """Places beyond the edges brought back to the edge, or reflected at it."""
    if padding_mode == "zeros":
        return places
    if padding_mode == "reflection":
        if align_corners and size == 1:
            places = keep(places, ARRAY_MODULES[type(_array(places))].zeros(places.shape, dtype=bool))
        else:
            places = _folded(places, *((0.0, size - 1.0) if align_corners else (-0.5, size - 0.5)))
    return _clipped(places, size - 1.0)


def _array(value: Any) -> Any:
    return value.array if type(value) is Tensor else value


def _like(array: Any, value: Any) -> Any:
    return Tensor(array) if type(value) is Tensor else array


def _element_numbers(xp: Any, places: Any, size: int) -> Any:
    """Whole places as int64; -1 for those that are not inside of the picture, NaN among them."""
    inside = (places >= 0) & (places <= size - 1)
    return xp.where(inside, places, -1).astype(np.int64)


def _linear_taps(places: Any, size: int) -> list[tuple[Any, Any]]:
    """``(weights, numbers)`` of the elements to the left and to the right of each place."""
    xp = ARRAY_MODULES[type(_array(places))]
    low = xp.floor(_array(places))
    part = places - _like(low, places)
    return [(1 - part, _element_numbers(xp, low, size)), (part, _element_numbers(xp, low + 1, size))]


def _nearest_taps(places: Any, size: int) -> list[tuple[Any, Any]]:
    """The nearest element; of two the one with the even number. Its weight is 1 and never changes."""
    xp = ARRAY_MODULES[type(_array(places))]
    nothing = xp.zeros(places.shape, dtype=bool)
    return [(keep(places, nothing) + 1, _element_numbers(xp, xp.rint(_array(places)), size))]


def _cubic_taps(places: Any, size: int, padding_mode: str, align_corners: bool) -> list[tuple[Any, Any]]:
    """Four elements round each place with the weights of Keys' kernel, a = -0.75. The elements are looked for inside one by one."""
    xp, a = ARRAY_MODULES[type(_array(places))], -0.75
    low = xp.floor(_array(places))
    part = places - _like(low, places)
    made = []
    for step in range(-1, 3):
        x = part - step if step <= 0 else step - part
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        weight = ((a + 2) * x - (a + 3)) * x * x + 1 if step in (0, 1) else far
        number = _inside(low + step, size, padding_mode, align_corners)
        made.append((weight, _element_numbers(xp, xp.trunc(number), size)))
    return made


def _check(input: Any, grid: Any, mode: str, padding_mode: str) -> None:
    options = {
        "mode": (mode, ("bilinear", "nearest", "bicubic")),
        "padding_mode": (padding_mode, ("zeros", "border", "reflection")),
    }
    for argument, (value, allowed) in options.items():
        if value not in allowed:
            rule = (f"one of {', '.join(allowed)}", f"{'、'.join(allowed)} のどれか")
            fix = (f"{argument}='{allowed[0]}'.", f"{argument}='{allowed[0]}' などとしてください。")
            raise error("TG-A001", op="grid_sample", argument=argument, value=repr(value), rule=rule, fix=fix)
    shape, places = tuple(input.shape), tuple(grid.shape)
    dims = len(shape) - 2
    fits = dims in (2, 3) and 0 not in shape[2:] and len(places) == len(shape)
    if not fits or places[-1] != dims or places[0] != shape[0] or (mode == "bicubic" and dims == 3):
        rule = (
            "input (N, C, H, W) with grid (N, h, w, 2), or, but for bicubic, (N, C, D, H, W) with (N, d, h, w, 3); the picture is not empty",
            "input (N, C, H, W) と grid (N, h, w, 2)、または bicubic 以外で (N, C, D, H, W) と (N, d, h, w, 3)。画像は空でないこと",
        )
        fix = ("check the grid's batch and last axis.", "grid のバッチと最後の次元を確かめてください。")
        raise error("TG-S002", op="grid_sample", rule=rule, shapes=f"input {shape}, grid {places}", fix=fix)
    if input.dtype.kind != "f" or input.dtype != grid.dtype:
        raise error(
            "TG-T004", op="grid_sample", dtype=f"{input.dtype}, {grid.dtype}", allowed="one float dtype", fix="grid.dtype"
        )


@autocasts("widest")
def grid_sample(
    input: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None
) -> Any:
    """A picture looked at where a grid says, (N, C, H, W) with (N, h, w, 2) to (N, C, h, w), or with one axis more.

    grid: places (x, y) or (x, y, z), from -1 at the left, upper or front edge to 1 at the other one. mode: "bilinear" (also of three axes),
    "nearest" or "bicubic". padding_mode: what is beyond the edges, "zeros", "border" (the edge's elements) or "reflection". align_corners: -1
    and 1 are the centres of the elements at the edge, not their outer sides. Differentiable in both (Jaderberg et al. 2015); with
    "nearest" the grid's gradient is 0, as it is beyond a border.

    >>> import tinygrad_ja as tg
    >>> picture = tg.tensor([[[[1.0, 3.0]]]])
    >>> tg.nn.functional.grid_sample(picture, tg.tensor([[[[0.0, 0.0]]]]), align_corners=True)
    tensor([[[[2.]]]])
    """
    _check(input, grid, mode, padding_mode)
    dtype = input.dtype
    if dtype == np.float16:
        wide = np.dtype(np.float32)
        return _cast(grid_sample(_cast(input, wide), _cast(grid, wide), mode, padding_mode, align_corners), dtype)
    align, sizes = bool(align_corners), tuple(input.shape[2:])
    (n, channels), wanted = input.shape[:2], tuple(grid.shape[1:-1])
    along = []
    for axis, size in enumerate(sizes):
        places = _reshape(_getitem(grid, (..., len(sizes) - 1 - axis)), (n, math.prod(wanted)))
        places = ((places + 1) / 2) * (size - 1) if align else ((places + 1) * size - 1) / 2
        if mode == "bicubic":
            along.append(_cubic_taps(places, size, padding_mode, align))
        else:
            taps = _linear_taps if mode == "bilinear" else _nearest_taps
            along.append(taps(_inside(places, size, padding_mode, align), size))
    weight, index = combined(along, sizes)
    made = _sample(_reshape(input, (n, channels, math.prod(sizes))), weight, index)
    return _reshape(made, (n, channels, *wanted))


def combined(along: Sequence[Sequence[tuple[Any, Any]]], sizes: Sequence[int]) -> tuple[Any, Any]:
    """Weights and numbers in the whole picture, (N, K, P), from those along each axis."""
    xp = ARRAY_MODULES[type(along[0][0][1])]
    weights, numbers = [], []
    for taps in product(*along):
        weight, number = taps[0]
        for (other, place), size in zip(taps[1:], sizes[1:]):
            weight = weight * other
            number = xp.where((number >= 0) & (place >= 0), number * size + place, -1)
        weights.append(weight)
        numbers.append(number)
    return stack(weights, 1), xp.stack(numbers, 1)


# ---- grids ---------------------------------------------------------------------------------------


def affine_grid(theta: Any, size: Sequence[int], align_corners: bool | None = None) -> Any:
    """The grid that ``grid_sample`` needs to move, turn or stretch pictures of a size: each place of the result times a matrix.

    theta: (N, 2, 3) for size (N, C, H, W), giving (N, H, W, 2), or (N, 3, 4) for (N, C, D, H, W), giving (N, D, H, W, 3). align_corners: as
    for ``grid_sample``.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.affine_grid(tg.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]]), (1, 1, 1, 2), align_corners=True)
    tensor([[[[-0.5,  0. ],
              [ 1.5,  0. ]]]])
    """
    wanted, shape = tuple(size), tuple(theta.shape)
    dims = len(wanted) - 2
    if dims not in (2, 3) or min(wanted) < 1 or shape != (wanted[0], dims, dims + 1):
        rule = (
            "theta (N, 2, 3) with size (N, C, H, W), or (N, 3, 4) with (N, C, D, H, W), all sizes above 0",
            "theta (N, 2, 3) と size (N, C, H, W)、または (N, 3, 4) と (N, C, D, H, W)。大きさは 1 以上",
        )
        fix = ("pass one matrix for each picture.", "画像ごとに行列を 1 つ渡してください。")
        raise error("TG-S002", op="affine_grid", rule=rule, shapes=f"theta {shape}, size {wanted}", fix=fix)
    if theta.dtype.kind != "f":
        raise error("TG-T004", op="affine_grid", dtype=theta.dtype, allowed="float", fix="tg.float32")
    xp, dtype = ARRAY_MODULES[type(_array(theta))], theta.dtype
    axes = []
    for n in reversed(wanted[2:]):
        places = xp.linspace(-1, 1, n).astype(dtype) if n > 1 else xp.zeros(1, dtype=dtype)
        axes.append(places if align_corners else places * ((n - 1) / n))
    ones = xp.ones(wanted[2:], dtype=dtype)
    spread = [axis.reshape((-1,) + (1,) * i) * ones for i, axis in enumerate(axes)]
    base = xp.stack([*spread, ones], -1).reshape(-1, dims + 1)
    return _reshape(matmul(_like(base, theta), transpose(theta, 1, 2)), (wanted[0], *wanted[2:], dims))
