"""Functions of pictures (..., H, W) that move places: flips, crops, borders, other sizes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...backend.arrays import ARRAY_MODULES
from ...errors import error, one_of, refusal
from ...ops.interpolate import interpolate
from ...ops.join import cat
from ...ops.padding import constant_pad_nd
from ...ops.piecewise import clamp
from ...ops.piecewise import round as rounded
from ...ops.rearrange import flip
from ...ops.selection import _index_select
from ...ops.shape import reshape
from ..arrays import array_of, converted

PADDING_MODES = ("constant", "edge", "reflect", "symmetric")
INTERPOLATIONS = ("nearest", "nearest-exact", "bilinear", "bicubic")


def size_of(image: Any) -> tuple[int, int]:
    """Height and width."""
    return image.shape[-2], image.shape[-1]


def pair_of(op: str, size: Any) -> tuple[int, int]:
    """(height, width) from an int or a sequence of one or two."""
    given = tuple(size) if isinstance(size, (tuple, list)) else (size,)
    if len(given) not in (1, 2) or not all([isinstance(n, int) and n >= 1 for n in given]):
        rule = ("an int >= 1, or (height, width)", "1 以上の整数か (高さ, 幅)")
        raise refusal(op, "size", size, rule, ("size=28.", "size=28 などとしてください。"))
    return (given[0], given[-1])


# ---- flips and crops -----------------------------------------------------------------------------


def hflip(image: Any) -> Any:
    """Left and right swapped."""
    return flip(image, -1)


def vflip(image: Any) -> Any:
    """Top and bottom swapped."""
    return flip(image, -2)


def crop(image: Any, top: int, left: int, height: int, width: int, fill: Any = 0) -> Any:
    """The part of a picture that begins at row ``top`` and column ``left``; ``fill`` where it reaches beyond the picture.

    >>> import numpy as np
    >>> crop(np.arange(6).reshape(2, 3), 0, 1, 3, 2)
    array([[1, 2],
           [4, 5],
           [0, 0]])
    """
    rows, columns = size_of(image)
    inside = image[..., max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    around = (
        min(max(-left, 0), width),
        min(max(left + width - columns, 0), width),
        min(max(-top, 0), height),
        min(max(top + height - rows, 0), height),
    )
    return pad(inside, around[0::2] + around[1::2], fill) if any(around) else inside


def center_crop(image: Any, size: Any) -> Any:
    """The middle of a picture; zeros where it is smaller than ``size``, an int or (height, width)."""
    height, width = pair_of("center_crop", size)
    return crop(image, *center_of(image, height, width), height, width)


def center_of(image: Any, height: int, width: int) -> tuple[int, int]:
    """Where the middle of that size begins: row and column. PyTorch's rounding: half to even where the crop fits."""
    rows, columns = size_of(image)
    top, left = rows - height, columns - width
    return (round(top / 2) if top >= 0 else -(-top // 2)), (round(left / 2) if left >= 0 else -(-left // 2))


# ---- borders -------------------------------------------------------------------------------------


def border_of(op: str, padding: Any) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) from an int, (left and right, top and bottom), or all four."""
    given = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,)
    if len(given) not in (1, 2, 4) or not all([isinstance(n, int) and n >= 0 for n in given]):
        rule = (
            "an int >= 0, (x, y) or (left, top, right, bottom)",
            "0 以上の整数、(x, y)、(left, top, right, bottom) のどれか",
        )
        raise refusal(op, "padding", padding, rule, ("padding=4.", "padding=4 などとしてください。"))
    made = (given * 4)[:4]
    return made[0], made[1], made[2], made[3]


def pad(image: Any, padding: Any, fill: Any = 0, padding_mode: str = "constant") -> Any:
    """A border round a picture.

    padding: an int for all sides, (left and right, top and bottom) or (left, top, right, bottom). padding_mode: "constant" (``fill``, a
    number or one for each channel), "edge" (the last element again), "reflect" (mirrored at it), "symmetric" (mirrored with it).

    >>> import numpy as np
    >>> pad(np.array([[1, 2, 3]]), (2, 0), padding_mode="symmetric")
    array([[2, 1, 1, 2, 3, 3, 2]])
    """
    left, top, right, bottom = border_of("pad", padding)
    one_of("pad", "padding_mode", padding_mode, PADDING_MODES)
    if padding_mode == "constant":
        if not isinstance(fill, (tuple, list)):
            return constant_pad_nd(image, (left, right, top, bottom), fill)
        need_channels("pad", image, len(fill))
        channels = [image[..., c : c + 1, :, :] for c in range(len(fill))]
        return cat([constant_pad_nd(one, (left, right, top, bottom), value) for one, value in zip(channels, fill)], -3)
    for dim, before, after in ((-2, top, bottom), (-1, left, right)):
        if before or after:
            image = _index_select(image, image.ndim + dim, _places(image, dim, before, after, padding_mode))
    return image


def need_channels(op: str, image: Any, count: int) -> None:
    """Raise ShapeError unless (..., C, H, W) has so many channels, for each of which there is a number."""
    if image.ndim < 3 or image.shape[-3] != count:
        rule = (f"(..., {count}, H, W): a number for each channel", f"(..., {count}, H, W)。数はチャネルごとに 1 つ")
        fix = ("pass one number, or one for each channel.", "数を 1 つ、またはチャネルの数だけ渡してください。")
        raise error("TG-S002", op=op, rule=rule, shapes=tuple(image.shape), fix=fix)


def _places(image: Any, dim: int, before: int, after: int, mode: str) -> Any:
    """For each element of the longer axis, which of the elements stands there."""
    size = image.shape[dim]
    most = size - 1 if mode == "reflect" else size
    if size == 0 or (mode != "edge" and max(before, after) > most):
        rule = (f"at most {most} for {size} elements, '{mode}'", f"要素 {size} 個、'{mode}' では {most} 以下")
        raise refusal("pad", "padding", max(before, after), rule, ("pad less.", "減らしてください。"))
    xp = ARRAY_MODULES[type(array_of("pad", image))]
    places = xp.arange(-before, size + after)
    if mode == "edge":
        return xp.clip(places, 0, size - 1)
    if mode == "reflect":
        return size - 1 - abs(size - 1 - abs(places))
    places = xp.where(places < 0, -1 - places, places)
    return xp.where(places >= size, 2 * size - 1 - places, places)


# ---- other sizes ---------------------------------------------------------------------------------


def resized_to(image: Any, size: Any, max_size: int | None = None) -> tuple[int, int]:
    """(height, width) that ``resize`` makes: an int is the shorter side, the other keeps the proportion and stays below ``max_size``."""
    rows, columns = size_of(image)
    if isinstance(size, (tuple, list)) and len(size) == 2:
        return pair_of("resize", size)
    short, _ = pair_of("resize", size)
    if min(rows, columns) < 1:
        rule = ("(..., H, W), H and W above 0", "(..., H, W)。H と W は 1 以上")
        fix = ("pass a picture.", "画像を渡してください。")
        raise error("TG-S002", op="resize", rule=rule, shapes=tuple(image.shape), fix=fix)
    if max_size is not None and max_size <= short:
        rule = (f"more than size = {short}", f"size = {short} より大きい数")
        raise refusal("resize", "max_size", max_size, rule, ("use a larger max_size.", "max_size を大きくしてください。"))
    long = int(short * max(rows, columns) / min(rows, columns))
    if max_size is not None and long > max_size:
        short, long = int(max_size * short / long), max_size
    return (short, long) if rows <= columns else (long, short)


def resize(image: Any, size: Any, interpolation: str = "bilinear", max_size: int | None = None, antialias: bool = True) -> Any:
    """A picture in another size.

    size: (height, width), or an int for the shorter side. interpolation: "bilinear", "bicubic", "nearest" or "nearest-exact". antialias:
    where it gets smaller every pixel counts, not only those round each place. Bytes are computed in float32 and rounded.

    >>> import numpy as np
    >>> resize(np.array([[[0, 100, 200, 250]]], np.uint8), (1, 2))
    array([[[ 71, 207]]], dtype=uint8)
    """
    one_of("resize", "interpolation", interpolation, INTERPOLATIONS)
    height, width = resized_to(image, size, max_size)
    shape = tuple(image.shape)
    if shape[-2:] == (height, width):
        return image
    flat = reshape(image, (math.prod(shape[:-3]), *((1,) if len(shape) == 2 else shape[-3:-2]), *shape[-2:]))
    smooth = interpolation.startswith("bi")
    made = as_floats(flat) if smooth else flat
    made = interpolate(made, (height, width), mode=interpolation, antialias=smooth and antialias)
    return reshape(as_before(made, flat) if smooth else made, (*shape[:-2], height, width))


def as_floats(image: Any) -> Any:
    """Pixels to compute with: whole numbers as float32."""
    return image if array_of("as_floats", image).dtype.kind == "f" else converted(image, np.dtype(np.float32))


def as_before(made: Any, image: Any) -> Any:
    """Computed pixels in the dtype that ``image`` has; whole numbers rounded and cut off at the ends of their range."""
    dtype = array_of("as_before", image).dtype
    if dtype.kind == "f":
        return made
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return converted(clamp(rounded(made), low, high), dtype)
