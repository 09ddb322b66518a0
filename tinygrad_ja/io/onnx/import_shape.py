"""Imported operators that make, join, cut and turn tensors without computing with their elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...nn import functional as F
from ...ops.comparison import where
from ...ops.creation import arange, eye, from_numpy, full, tensor
from ...ops.diagonal import tril, triu
from ...ops.join import cat, split
from ...ops.rearrange import tile
from .import_elementwise import asked_dtype
from .import_table import Call, Refusal, axes_of, imports, integers, number

# ---- made from numbers ---------------------------------------------------------------------------


@imports("Constant")
def _constant(call: Call) -> Any:
    """The other forms of a constant; those with a tensor are read when the file is."""
    for name, dtype in {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }.items():
        value = call.get(name)
        if value is not None:
            return tensor(value, dtype=dtype, device=call.device)
    raise Refusal(("a constant of strings or a sparse one", "文字列または疎な定数には対応していません"))


@imports("ConstantOfShape")
def _constant_of_shape(call: Call, shape: Any) -> Any:
    value = call.get("value", np.zeros(1, dtype=np.float32))
    return full(call.allow(integers(shape)), value.reshape(-1)[0].item(), dtype=value.dtype, device=call.device)


@imports("EyeLike")
def _eye_like(call: Call, x: Any) -> Any:
    rows, columns = x.shape
    dtype = asked_dtype(call.get("dtype")) if call.get("dtype") else x.dtype
    offset = call.get("k", 0)
    size = max(rows, columns) + abs(offset)
    call.allow((size, size))
    whole = eye(size, dtype=dtype, device=call.device)
    return whole[max(offset, 0) :, max(-offset, 0) :][:rows, :columns]


@imports("Range")
def _range(call: Call, start: Any, limit: Any, delta: Any) -> Any:
    first, last, step = number(start), number(limit), number(delta)
    if step == 0 or not np.isfinite([first, last, step]).all():
        raise Refusal((f"start {first}, limit {last}, delta {step}", f"start {first}、limit {last}、delta {step} は使えません"))
    count = max(int(np.ceil((last - first) / step)), 0)
    call.allow((count,))
    return (arange(count, device=call.device) * delta.reshape(()) + start.reshape(())).to(start.dtype)


@imports("Shape")
def _shape(call: Call, x: Any) -> Any:
    wanted = x.shape[slice(call.get("start", 0), call.get("end"))]
    return from_numpy(np.array(wanted, dtype=np.int64)).to(x.device)


@imports("Size")
def _size(call: Call, x: Any) -> Any:
    return tensor(x.numel(), dtype=np.int64, device=x.device)


# ---- another shape -------------------------------------------------------------------------------


@imports("Reshape")
def _reshape(call: Call, x: Any, shape: Any) -> Any:
    wanted = integers(shape)
    if not call.get("allowzero", 0):
        wanted = [x.shape[axis] if n == 0 else n for axis, n in enumerate(wanted)]
    if x.numel() == 0:
        call.allow([abs(n) for n in wanted])
    return x.reshape(wanted)


@imports("Flatten")
def _flatten(call: Call, x: Any) -> Any:
    axis = call.get("axis", 1)
    axis += x.ndim if axis < 0 else 0
    return x.reshape(int(np.prod(x.shape[:axis], dtype=np.int64)), int(np.prod(x.shape[axis:], dtype=np.int64)))


@imports("Squeeze")
def _squeeze(call: Call, x: Any, axes: Any = None) -> Any:
    wanted = axes_of(call, axes)
    if wanted is None:
        return x.squeeze()
    if any([x.shape[axis] != 1 for axis in wanted]):
        raise Refusal(
            (f"an axis of {wanted} of {x.shape} is not 1", f"{x.shape} の次元 {wanted} に大きさ 1 でないものがあります")
        )
    return x.squeeze(tuple(wanted))


@imports("Unsqueeze")
def _unsqueeze(call: Call, x: Any, axes: Any = None) -> Any:
    wanted = axes_of(call, axes)
    ndim = x.ndim + len(wanted)
    for axis in sorted([axis % ndim for axis in wanted]):
        x = x.unsqueeze(axis)
    return x


@imports("Transpose")
def _transpose(call: Call, x: Any) -> Any:
    return x.permute(call.get("perm") or tuple(reversed(range(x.ndim))))


@imports("Expand")
def _expand(call: Call, x: Any, shape: Any) -> Any:
    return x.expand(call.allow(np.broadcast_shapes(x.shape, tuple(integers(shape)))))


@imports("Tile")
def _tile(call: Call, x: Any, repeats: Any) -> Any:
    counts = integers(repeats)
    call.allow([n * count for n, count in zip(x.shape, counts)])
    return tile(x, counts)


# ---- joined and cut ------------------------------------------------------------------------------


@imports("Concat")
def _concat(call: Call, *inputs: Any) -> Any:
    axis = call.get("axis", 1)
    return joined(call, inputs, axis)


def joined(call: Call, inputs: Sequence[Any], axis: int) -> Any:
    """Tensors of one rank one after another along an axis, empty ones too."""
    total = [sum(sizes) if i == axis % inputs[0].ndim else sizes[0] for i, sizes in enumerate(zip(*[x.shape for x in inputs]))]
    call.allow(total)
    return cat(list(inputs), axis)


@imports("Split")
def _split(call: Call, x: Any, sizes: Any = None) -> Any:
    axis = call.get("axis", 0)
    wanted = integers(sizes) if sizes is not None else call.get("split")
    return split(x, wanted or _even_parts(x.shape[axis], call.outputs), axis)


def _even_parts(size: int, count: int) -> list[int]:
    """``count`` parts, the last one smaller where it has to be."""
    most = -(-size // count)
    return [max(min(most, size - i * most), 0) for i in range(count)]


@imports("Slice")
def _slice(call: Call, x: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Any:
    if call.opset < 10:
        first, last, wanted, step = call.get("starts"), call.get("ends"), call.get("axes"), None
    else:
        first, last = integers(starts), integers(ends)
        wanted = None if axes is None else integers(axes)
        step = None if steps is None else integers(steps)
    index = [slice(None)] * x.ndim
    flipped = []
    for a, b, axis, stride in zip(first, last, wanted or range(len(first)), step or [1] * len(first)):
        size = x.shape[axis]
        if stride > 0:
            index[axis] = slice(*slice(a, b, stride).indices(size))
            continue
        start, stop, stride = slice(a, b, stride).indices(size)  # the same elements in the flipped axis
        index[axis] = slice(size - 1 - start, size - 1 - stop, -stride)
        flipped.append(axis)
    if flipped:
        x = x.flip(flipped)
    return x[tuple(index)]


@imports("CenterCropPad")
def _center_crop_pad(call: Call, x: Any, shape: Any) -> Any:
    sizes = integers(shape)
    wanted = dict(zip([axis % x.ndim for axis in call.get("axes", range(x.ndim))], sizes))
    call.allow([wanted.get(axis, n) for axis, n in enumerate(x.shape)])
    index = [slice(None)] * x.ndim
    pads = [(0, 0)] * x.ndim
    for axis, size in wanted.items():
        spare = x.shape[axis] - size
        if spare > 0:
            index[axis] = slice(spare // 2, spare // 2 + size)
        else:
            pads[axis] = (-spare // 2, -spare - -spare // 2)
    return F.pad(x[tuple(index)], [n for pair in reversed(pads) for n in pair])


@imports("Trilu", control=(1,))
def _trilu(call: Call, x: Any, k: Any = None) -> Any:
    return (triu if call.get("upper", 1) else tril)(x, number(k, 0))


# ---- padding -------------------------------------------------------------------------------------

_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@imports("Pad", control=(2,))
def _pad(call: Call, x: Any, pads: Any = None, value: Any = None, axes: Any = None) -> Any:
    amounts = integers(pads) if pads is not None else call.get("pads")
    fill = number(value, call.get("value", 0.0))
    wanted = [axis % x.ndim for axis in integers(axes)] if axes is not None else range(x.ndim)
    pairs = [(0, 0)] * x.ndim
    for i, axis in enumerate(wanted):
        pairs[axis] = (amounts[i], amounts[i + len(wanted)])
    call.allow([n + before + after for n, (before, after) in zip(x.shape, pairs)])
    mode = call.get("mode", "constant")
    flat = [n for pair in reversed(pairs) for n in pair]
    if mode == "constant":
        return F.pad(x, flat, "constant", fill if x.dtype.kind == "f" else x.array.dtype.type(fill).item())
    return F.pad(x, flat, _MODES[mode])


@imports("ReverseSequence")
def _reverse_sequence(call: Call, x: Any, lengths: Any) -> Any:
    time, batch = call.get("time_axis", 0), call.get("batch_axis", 1)
    steps = arange(x.shape[time], device=x.device)
    count = lengths.reshape(-1, 1)
    places = where(steps < count, count - 1 - steps, steps)  # (batch, time)
    index = (places if batch < time else places.permute(1, 0)).reshape(
        [n if axis in (time, batch) else 1 for axis, n in enumerate(x.shape)]
    )
    return x.gather(time, index.expand(x.shape))
