"""The way back from max pooling: elements at the positions that it found, zeros elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.tensor import Tensor
from ..errors import error
from .extremum import place
from .shape import _reshape
from .window import per_axis, spatial_sizes


def _output_size(
    op: str, sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], given: Any
) -> tuple[int, ...]:
    """The size that pooling would have made ``sizes`` of: the smallest one, or ``given`` where it is less than a stride away."""
    usual = [(n - 1) * s + k - 2 * p for n, k, s, p in zip(sizes, kernel, stride, padding)]
    dims = len(usual)
    if given is None:
        return tuple(usual)
    wanted = tuple(given)[-dims:]
    fits = len(given) in (dims, dims + 2) and all([n - s < m < n + s for n, s, m in zip(usual, stride, wanted)])
    if not fits:
        low, high = tuple([n - s + 1 for n, s in zip(usual, stride)]), tuple([n + s - 1 for n, s in zip(usual, stride)])
        rule = (f"{dims} sizes from {low} to {high}", f"{low} から {high} までの {dims} 個の大きさ")
        fix = ("pass the size of what was pooled.", "プーリングする前の大きさを渡してください。")
        raise error("TG-A001", op=op, argument="output_size", value=given, rule=rule, fix=fix)
    return wanted


def _max_unpool(
    op: str, dims: int, input: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> Any:
    sizes = spatial_sizes(op, input, dims)
    kernel = per_axis(op, "kernel_size", kernel_size, dims, 1)
    steps = kernel if stride is None or stride in ((), []) else per_axis(op, "stride", stride, dims, 1)
    wanted = _output_size(op, sizes, kernel, steps, per_axis(op, "padding", padding, dims, 0), output_size)
    index = indices.array if type(indices) is Tensor else indices
    if index.dtype != np.int64:
        raise error("TG-T004", op=op, dtype=index.dtype, allowed="int64", fix="tg.int64")
    lead, total = tuple(input.shape[: input.ndim - dims]), math.prod(wanted)
    if tuple(index.shape) != tuple(input.shape):
        shapes = f"input {tuple(input.shape)}, indices {tuple(index.shape)}"
        fix = ("pass the indices that max pooling returned.", "最大値プーリングが返した indices を渡してください。")
        raise error("TG-S002", op=op, rule=("indices like input", "indices は input と同じ形状"), shapes=shapes, fix=fix)
    if type(index) is np.ndarray and index.size and not 0 <= index.min() <= index.max() < total:
        worst = int(index.min() if index.min() < 0 else index.max())
        raise error("TG-I002", op=op, index=worst, size=total, shape=wanted, first=0, last=total - 1)
    pictures, elements = math.prod(lead), math.prod(sizes)
    made = place(_reshape(input, (pictures, elements)), index.reshape(pictures, elements), 1, total)
    return _reshape(made, (*lead, *wanted))


def max_unpool1d(
    input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Sequence[int] | None = None
) -> Any:
    """What ``max_pool1d`` took from (N, C, L) or (C, L), put back to where it was among zeros.

    input, indices: what ``max_pool1d`` with ``return_indices`` returned; kernel_size, stride, padding: what it was given; output_size: the
    length before, where other lengths would have given the same number of windows. The derivative picks the gradients at the indices.

    >>> import tinygrad_ja as tg
    >>> pooled, indices = tg.nn.functional.max_pool1d(tg.tensor([[1.0, 3.0, 2.0, 0.0]]), 2, return_indices=True)
    >>> tg.nn.functional.max_unpool1d(pooled, indices, 2)
    tensor([[0., 3., 2., 0.]])
    """
    return _max_unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Sequence[int] | None = None
) -> Any:
    """The same for ``max_pool2d``, (N, C, H, W) or (C, H, W); see ``max_unpool1d``."""
    return _max_unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Sequence[int] | None = None
) -> Any:
    """The same for ``max_pool3d``, (N, C, D, H, W) or (C, D, H, W); see ``max_unpool1d``."""
    return _max_unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)
