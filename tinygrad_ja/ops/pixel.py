"""Channels into pixels and back, and channels among each other: rearrangements, whose derivatives are the rearrangements back."""

from __future__ import annotations

from typing import Any

from ..errors import Phrase, error
from .shape import _reshape, permute


def _refuse(op: str, rule: Phrase, shape: Any, fix: Phrase) -> Exception:
    return error("TG-S002", op=op, rule=rule, shapes=tuple(shape), fix=fix)


def _factor(op: str, argument: str, value: int) -> int:
    if value < 1:
        fix = (f"{argument}=2.", f"{argument}=2 などとしてください。")
        raise error("TG-A001", op=op, argument=argument, value=value, rule=("an int >= 1", "1 以上の整数"), fix=fix)
    return value


def pixel_shuffle(input: Any, upscale_factor: int) -> Any:
    """(..., C r², H, W) to (..., C, H r, W r), r = ``upscale_factor``: each pixel becomes r rows of r pixels, which its channels held
    (Shi et al. 2016).

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.pixel_shuffle(tg.tensor([[[1.0]], [[2.0]], [[3.0]], [[4.0]]]), 2)
    tensor([[[1., 2.],
             [3., 4.]]])
    """
    shape, r = tuple(input.shape), _factor("pixel_shuffle", "upscale_factor", upscale_factor)
    if len(shape) < 3 or shape[-3] % (r * r):
        rule = (f"(..., C, H, W) with C a multiple of {r * r}", f"(..., C, H, W)。C は {r * r} の倍数")
        raise _refuse("pixel_shuffle", rule, shape, ("use another factor.", "ほかの倍率を使ってください。"))
    *lead, channels, height, width = shape
    n = len(lead)
    parts = _reshape(input, (*lead, channels // (r * r), r, r, height, width))
    return _reshape(
        permute(parts, (*range(n), n, n + 3, n + 1, n + 4, n + 2)), (*lead, channels // (r * r), height * r, width * r)
    )


def pixel_unshuffle(input: Any, downscale_factor: int) -> Any:
    """(..., C, H r, W r) to (..., C r², H, W), r = ``downscale_factor``: the inverse of ``pixel_shuffle``.

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.pixel_unshuffle(tg.tensor([[[1.0, 2.0], [3.0, 4.0]]]), 2).flatten()
    tensor([1., 2., 3., 4.])
    """
    shape, r = tuple(input.shape), _factor("pixel_unshuffle", "downscale_factor", downscale_factor)
    if len(shape) < 3 or shape[-2] % r or shape[-1] % r:
        rule = (f"(..., C, H, W) with H and W multiples of {r}", f"(..., C, H, W)。H と W は {r} の倍数")
        raise _refuse("pixel_unshuffle", rule, shape, ("use another factor.", "ほかの倍率を使ってください。"))
    *lead, channels, height, width = shape
    n = len(lead)
    parts = _reshape(input, (*lead, channels, height // r, r, width // r, r))
    return _reshape(
        permute(parts, (*range(n), n, n + 2, n + 4, n + 1, n + 3)), (*lead, channels * r * r, height // r, width // r)
    )


def channel_shuffle(input: Any, groups: int) -> Any:
    """The channels of (N, C, ...) as ``groups`` rows, read column by column: one of each group in turn (Zhang et al. 2018).

    >>> import tinygrad_ja as tg
    >>> tg.nn.functional.channel_shuffle(tg.arange(4).reshape(1, 4, 1), 2).flatten()
    tensor([0, 2, 1, 3])
    """
    shape, count = tuple(input.shape), _factor("channel_shuffle", "groups", groups)
    if len(shape) < 3 or shape[1] % count:
        rule = (f"(N, C, ...) of 3 or more axes, C a multiple of {count}", f"3 次元以上の (N, C, ...)。C は {count} の倍数")
        raise _refuse("channel_shuffle", rule, shape, ("use another number of groups.", "groups を変えてください。"))
    parts = _reshape(input, (shape[0], count, shape[1] // count, *shape[2:]))
    return _reshape(permute(parts, (0, 2, 1, *range(3, len(shape) + 1))), shape)
