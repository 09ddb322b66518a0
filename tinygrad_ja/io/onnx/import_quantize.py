"""Imported quantized arithmetic: real numbers as a scale times small integers, x = scale · (q - zero point)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops.creation import zeros
from ...ops.extremum import amax, amin
from ...ops.linalg import matmul
from ...ops.piecewise import clamp, maximum, minimum, round
from .import_conv import conv
from .import_elementwise import asked_dtype
from .import_table import Call, Refusal, imports


def _aligned(call: Call, setting: Any, x: Any) -> Any:
    """A scale or zero point as it stands beside x: one number, one for each place along ``axis``, or one for each block of it."""
    if setting.numel() == 1 and setting.ndim <= 1:
        return setting.reshape(())
    axis = call.get("axis", 1) % x.ndim
    block = call.get("block_size", 0)
    if block:
        call.allow([n * block if i == axis else n for i, n in enumerate(setting.shape)])
        return _fitting(setting.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis]), x)
    return _along(setting, x, axis)


def _along(setting: Any, x: Any, axis: int) -> Any:
    """A vector that stands along an axis of x."""
    return _fitting(setting.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]), x)


def _fitting(setting: Any, x: Any) -> Any:
    if np.broadcast_shapes(setting.shape, x.shape) != x.shape:
        reason = (
            f"a scale or zero point {setting.shape} for {x.shape}",
            f"{x.shape} に対する scale か zero point の形状が {setting.shape} です",
        )
        raise Refusal(reason)
    return setting


def _saturated(x: Any, dtype: np.dtype) -> Any:
    if dtype.kind not in "iu":
        raise Refusal((f"quantization to {dtype}", f"{dtype} への量子化には対応していません"))
    limits = np.iinfo(dtype)
    return clamp(x, limits.min, limits.max).to(dtype)


@imports("QuantizeLinear", control=(1, 2))
def _quantize_linear(call: Call, x: Any, scale: Any, zero: Any = None) -> Any:
    dtype = zero.dtype if zero is not None else asked_dtype(call.get("output_dtype", 0) or 2)
    work = asked_dtype(call.get("precision")) if call.get("precision") else np.promote_types(x.dtype, scale.dtype)
    work = work if work.kind == "f" else np.dtype(np.float32)
    made = round(x.to(work) / _aligned(call, scale, x).to(work)).to(np.float64)
    return _saturated(made if zero is None else made + _aligned(call, zero, x), dtype)


@imports("DequantizeLinear", control=(1, 2))
def _dequantize_linear(call: Call, x: Any, scale: Any, zero: Any = None) -> Any:
    dtype = asked_dtype(call.get("output_dtype", 0)) if call.get("output_dtype", 0) else scale.dtype
    wide = x.to(np.int64)
    centred = wide if zero is None else wide - _aligned(call, zero, x).to(np.int64)
    return (centred.to(scale.dtype) * _aligned(call, scale, x)).to(dtype)


@imports("DynamicQuantizeLinear")
def _dynamic_quantize_linear(call: Call, x: Any) -> Any:
    """uint8 with the scale and zero point that fit the values; zero is always among them."""
    nothing = zeros((), dtype=x.dtype, device=x.device)
    high, low = maximum(amax(x), nothing), minimum(amin(x), nothing)
    scale = (high - low) / 255
    zero = clamp(round(-low / scale), 0, 255)
    return clamp(round(x / scale) + zero, 0, 255).to(np.uint8), scale, zero.to(np.uint8)


def _centred(x: Any, zero: Any, dtype: Any, axis: int | None = None) -> Any:
    """x minus its zero point, which may be one for each place along an axis."""
    x = x.to(dtype)
    if zero is None:
        return x
    zero = zero.to(dtype)
    if zero.numel() == 1:
        return x - zero.reshape(())
    return x - (_along(zero, x, axis) if zero.ndim == 1 and axis is not None else _fitting(zero, x))


@imports("MatMulInteger", control=(2, 3))
def _matmul_integer(call: Call, a: Any, b: Any, a_zero: Any = None, b_zero: Any = None) -> Any:
    return matmul(_centred(a, a_zero, np.int32, -2), _centred(b, b_zero, np.int32, -1))


@imports("QLinearMatMul", control=(1, 2, 4, 5, 6, 7))
def _qlinear_matmul(
    call: Call, a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, y_scale: Any, y_zero: Any
) -> Any:
    exact = matmul(_centred(a, a_zero, np.int64, -2), _centred(b, b_zero, np.int64, -1))
    left = a_scale.to(np.float64).unsqueeze(-1) if a_scale.ndim == 1 and a_scale.numel() > 1 else a_scale.to(np.float64)
    made = exact.to(np.float64) * left * b_scale.to(np.float64) / y_scale.to(np.float64)
    return _saturated(round(made) + y_zero.to(np.float64), y_zero.dtype)


@imports("ConvInteger", control=(2, 3))
def _conv_integer(call: Call, x: Any, weight: Any, x_zero: Any = None, w_zero: Any = None) -> Any:
    """In float64, in which sums of products of small integers are exact."""
    return round(conv(call, _centred(x, x_zero, np.float64), _centred(weight, w_zero, np.float64, 0))).to(np.int32)


@imports("QLinearConv", control=(1, 2, 4, 5, 6, 7))
def _qlinear_conv(
    call: Call,
    x: Any,
    x_scale: Any,
    x_zero: Any,
    weight: Any,
    w_scale: Any,
    w_zero: Any,
    y_scale: Any,
    y_zero: Any,
    bias: Any = None,
) -> Any:
    exact = conv(
        call,
        _centred(x, x_zero, np.float64),
        _centred(weight, w_zero, np.float64, 0),
        None if bias is None else bias.to(np.float64),
    )
    channels = (-1, *(1,) * (x.ndim - 2)) if w_scale.numel() > 1 else ()
    scale = x_scale.reshape(()).to(np.float64) * w_scale.reshape(channels).to(np.float64) / y_scale.reshape(()).to(np.float64)
    return _saturated(round(exact * scale) + y_zero.reshape(()).to(np.float64), y_zero.dtype)
