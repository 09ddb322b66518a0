"""Imported operators that work element by element: arithmetic, comparison, logic, bits, casts, activations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np

from ...core.tensor import Tensor
from ...nn import functional as F
from ...ops import arithmetic, comparison, exponential, piecewise, special
from ...ops.arithmetic import add, div, floor_divide, fmod, mul, remainder, sub
from ...ops.comparison import where
from ...ops.creation import full_like
from ...ops.join import cat
from ...ops.piecewise import clamp, maximum, minimum
from ...ops.power import pow
from .import_table import Call, Refusal, imports, number, plain
from .import_tensor import NoSuchType, dtype_of

# ---- one input -----------------------------------------------------------------------------------

plain(
    {
        "Abs": piecewise.abs,
        "Acos": exponential.acos,
        "Acosh": exponential.acosh,
        "Asin": exponential.asin,
        "Asinh": exponential.asinh,
        "Atan": exponential.atan,
        "Atanh": exponential.atanh,
        "BitwiseNot": comparison.bitwise_not,
        "Ceil": piecewise.ceil,
        "Cos": exponential.cos,
        "Cosh": exponential.cosh,
        "Erf": special.erf,
        "Exp": exponential.exp,
        "Floor": piecewise.floor,
        "HardSwish": F.hardswish,
        "Identity": lambda x: x,
        "IsNaN": comparison.isnan,
        "Log": exponential.log,
        "Mish": F.mish,
        "Neg": arithmetic.neg,
        "Not": comparison.logical_not,
        "Reciprocal": arithmetic.reciprocal,
        "Relu": F.relu,
        "Round": piecewise.round,
        "Sigmoid": F.sigmoid,
        "Sign": piecewise.sign,
        "Sin": exponential.sin,
        "Sinh": exponential.sinh,
        "Softsign": F.softsign,
        "Sqrt": arithmetic.sqrt,
        "Tan": exponential.tan,
        "Tanh": F.tanh,
    }
)


@imports("Celu")
def _celu(call: Call, x: Any) -> Any:
    return F.celu(x, call.get("alpha", 1.0))


@imports("Elu")
def _elu(call: Call, x: Any) -> Any:
    return F.elu(x, call.get("alpha", 1.0))


@imports("Gelu")
def _gelu(call: Call, x: Any) -> Any:
    return F.gelu(x, approximate=call.get("approximate", "none"))


@imports("HardSigmoid")
def _hard_sigmoid(call: Call, x: Any) -> Any:
    return clamp(x * call.get("alpha", 0.2) + call.get("beta", 0.5), 0.0, 1.0)


@imports("LeakyRelu")
def _leaky_relu(call: Call, x: Any) -> Any:
    return F.leaky_relu(x, call.get("alpha", 0.01))


@imports("PRelu")
def _prelu(call: Call, x: Any, slope: Any) -> Any:
    if call.opset < 7:  # a slope for each channel, or one
        slope = slope.reshape(1, -1, *(1,) * (x.ndim - 2))
    return where(x > 0, x, binary(call, mul, x, slope))


@imports("Selu")
def _selu(call: Call, x: Any) -> Any:
    return F.elu(x, call.get("alpha", 1.67326319217681884765625)) * call.get("gamma", 1.05070102214813232421875)


@imports("Shrink")
def _shrink(call: Call, x: Any) -> Any:
    lambd, bias = call.get("lambd", 0.5), call.get("bias", 0.0)
    return where(x < -lambd, x + bias, where(x > lambd, x - bias, x * 0)).to(x.dtype)


@imports("Softplus")
def _softplus(call: Call, x: Any) -> Any:
    return exponential.logaddexp(x, x * 0)


@imports("Swish")
def _swish(call: Call, x: Any) -> Any:
    return x * F.sigmoid(x * call.get("alpha", 1.0))


@imports("ThresholdedRelu")
def _thresholded_relu(call: Call, x: Any) -> Any:
    return where(x > call.get("alpha", 1.0), x, x * 0)


@imports("IsInf")
def _is_inf(call: Call, x: Any) -> Any:
    positive = comparison.isposinf(x) if call.get("detect_positive", 1) else full_like(x, False, dtype=np.bool_)
    return comparison.logical_or(positive, comparison.isneginf(x)) if call.get("detect_negative", 1) else positive


@imports("Clip", control=(1, 2))
def _clip(call: Call, x: Any, low: Any = None, high: Any = None) -> Any:
    if call.opset < 11:
        low, high = call.get("min"), call.get("max")
    else:
        low, high = number(low), number(high)
    return x if low is None and high is None else clamp(x, low, high).to(x.dtype)


# ---- two inputs and more -------------------------------------------------------------------------


def binary(call: Call, function: Callable[..., Any], a: Any, b: Any) -> Any:
    """``function(a, b)`` for shapes that broadcast to one within the limit."""
    if a.shape != b.shape:
        if call.opset < 7 and a.ndim != b.ndim:
            b = _aligned(call, a, b)
        call.allow(np.broadcast_shapes(a.shape, b.shape))
    return function(a, b)


def _aligned(call: Call, a: Any, b: Any) -> Any:
    """Before opset 7 the second operand's axes stand where the attribute ``axis`` says, and only if it asks for it."""
    if not call.get("broadcast"):
        raise Refusal((f"shapes {a.shape} and {b.shape} differ", f"形状 {a.shape} と {b.shape} が違います"))
    axis = call.get("axis", a.ndim - b.ndim)
    return b.reshape(*b.shape, *(1,) * (a.ndim - axis - b.ndim))


def _folded(function: Callable[..., Any], call: Call, *inputs: Any) -> Any:
    """``function`` of two inputs, or of more from left to right."""
    return reduce(partial(binary, call, function), inputs)


def _quotient(a: Any, b: Any) -> Any:
    """Towards zero for integers."""
    return div(a, b) if a.dtype.kind == "f" else div(a, b, rounding_mode="trunc")


_BROADCASTING: dict[str, Callable[..., Any]] = {
    "Add": add,
    "And": comparison.logical_and,
    "BitwiseAnd": comparison.bitwise_and,
    "BitwiseOr": comparison.bitwise_or,
    "BitwiseXor": comparison.bitwise_xor,
    "Div": _quotient,
    "Equal": comparison.eq,
    "Greater": comparison.gt,
    "GreaterOrEqual": comparison.ge,
    "Less": comparison.lt,
    "LessOrEqual": comparison.le,
    "Max": maximum,
    "Min": minimum,
    "Mul": mul,
    "Or": comparison.logical_or,
    "Pow": lambda x, y: pow(x, y).to(x.dtype),
    "Sub": sub,
    "Sum": add,
    "Xor": comparison.logical_xor,
}
for _name in _BROADCASTING:
    imports(_name)(partial(_folded, _BROADCASTING[_name]))


@imports("Mean")
def _mean(call: Call, *inputs: Any) -> Any:
    return _folded(add, call, *inputs) / len(inputs)


@imports("Mod")
def _mod(call: Call, a: Any, b: Any) -> Any:
    return binary(call, fmod if call.get("fmod", 0) else remainder, a, b)


@imports("BitShift")
def _bit_shift(call: Call, x: Any, places: Any) -> Any:
    """As a product with, or quotient by, a power of two; shifts by the width or more leave nothing but the sign."""
    left, width = call.get("direction") == "LEFT", 8 * x.dtype.itemsize
    inside = comparison.logical_and(places >= 0, places < width)
    steps = where(inside, places, full_like(places, 0))
    half = floor_divide(steps, 2)  # in two parts, since 2 ** (width - 1) has the wrong sign
    shift = mul if left else floor_divide
    made = binary(call, shift, binary(call, shift, x, pow(full_like(half, 2), half)), pow(full_like(half, 2), steps - half))
    gone = x * 0 if left else where(x < 0, full_like(x, -1 if x.dtype.kind == "i" else 0), x * 0)
    return where(inside, made, gone)


@imports("Where")
def _where(call: Call, condition: Any, x: Any, y: Any) -> Any:
    call.allow(np.broadcast_shapes(condition.shape, x.shape, y.shape))
    return where(condition, x, y)


# ---- dtypes --------------------------------------------------------------------------------------


def asked_dtype(code: int) -> np.dtype:
    """The dtype with ONNX's number, or a refusal."""
    try:
        return dtype_of(code)
    except NoSuchType as missing:
        raise Refusal(str(missing)) from None


@imports("Cast")
def _cast(call: Call, x: Any) -> Any:
    return x.to(asked_dtype(call.get("to")))


@imports("CastLike")
def _cast_like(call: Call, x: Any, target: Any) -> Any:
    return x.to(target.dtype)


@imports("BitCast")
def _bit_cast(call: Call, x: Any) -> Any:
    return Tensor(x.array.view(asked_dtype(call.get("to"))))


# ---- along an axis, shape kept -------------------------------------------------------------------


def _as_rows(function: Callable[[Any, int], Any], call: Call, x: Any) -> Any:
    """``function(x, axis)``; before opset 13 the axes from ``axis`` on count as one."""
    if call.opset >= 13:
        return function(x, call.get("axis", -1))
    axis = call.get("axis", 1) % max(x.ndim, 1)
    rows = x.reshape(int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:])))
    return function(rows, -1).reshape(x.shape)


def _hardmax(x: Any, axis: int) -> Any:
    first = x.argmax(axis, keepdim=True)
    return full_like(x, 0).scatter(axis, first, value=1)


imports("Hardmax")(partial(_as_rows, _hardmax))
imports("LogSoftmax")(partial(_as_rows, F.log_softmax))
imports("Softmax")(partial(_as_rows, F.softmax))


def _scan(call: Call, x: Any, axis: int, neutral: int, accumulate: Callable[[Any, int], Any]) -> Any:
    """Accumulate forwards or backwards; ``exclusive`` leaves each element itself out."""
    if call.get("reverse", 0):
        x = x.flip(axis)
    if call.get("exclusive", 0):
        first = full_like(x.narrow(axis, 0, 1), neutral)
        x = cat([first, x.narrow(axis, 0, x.shape[axis] - 1)], axis)
    made = accumulate(x, axis).to(x.dtype)
    return made.flip(axis) if call.get("reverse", 0) else made


@imports("CumSum")
def _cum_sum(call: Call, x: Any, axis: Any) -> Any:
    return _scan(call, x, number(axis), 0, lambda x, axis: x.cumsum(axis))


@imports("CumProd")
def _cum_prod(call: Call, x: Any, axis: Any) -> Any:
    return _scan(call, x, number(axis), 1, lambda x, axis: x.cumprod(axis))
