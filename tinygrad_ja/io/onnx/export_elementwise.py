"""Element-wise operators as ONNX nodes: arithmetic, comparison, logic, rounding, exponentials."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...core.trace import Value
from .export_graph import Graph
from .export_table import FROM_18, Refusal, exports

_ONE_INPUT = {
    "abs": "Abs",
    "acos": "Acos",
    "acosh": "Acosh",
    "asin": "Asin",
    "asinh": "Asinh",
    "atan": "Atan",
    "atanh": "Atanh",
    "ceil": "Ceil",
    "cos": "Cos",
    "cosh": "Cosh",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "isnan": "IsNaN",
    "log": "Log",
    "neg": "Neg",
    "reciprocal": "Reciprocal",
    "sigmoid": "Sigmoid",
    "sign": "Sign",
    "sin": "Sin",
    "sinh": "Sinh",
    "sqrt": "Sqrt",
    "tan": "Tan",
    "tanh": "Tanh",
}
_TWO_INPUTS = {
    "add": "Add",
    "div": "Div",
    "eq": "Equal",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "lt": "Less",
    "maximum": "Max",
    "minimum": "Min",
    "mul": "Mul",
    "pow": "Pow",
    "sub": "Sub",
}


def _one(op: str) -> Any:
    return lambda graph, input: graph.add(op, input)


def pair(graph: Graph, input: Any, other: Any) -> tuple[str, str]:
    """Both operands of an element-wise operator in one dtype; a Python number takes that of the other one."""
    dtypes = [x.dtype for x in (input, other) if isinstance(x, Value)]
    common = np.result_type(*dtypes)
    made = [graph.operand(x, common) for x in (input, other)]
    for place, x in enumerate((input, other)):
        if isinstance(x, Value) and x.dtype != common:
            made[place] = graph.cast(x, common)
    return made[0], made[1]


def _two(op: str) -> Any:
    return lambda graph, input, other: graph.add(op, *pair(graph, input, other))


for _ours, _theirs in _ONE_INPUT.items():
    exports(_ours)(_one(_theirs))
for _ours, _theirs in _TWO_INPUTS.items():
    exports(_ours)(_two(_theirs))

# ---- arithmetic ----------------------------------------------------------------------------------


@exports("ne")
def _ne(graph: Graph, input: Any, other: Any) -> str:
    return graph.add("Not", graph.add("Equal", *pair(graph, input, other)))


@exports("rsub")
def _rsub(graph: Graph, input: Any, other: Any) -> str:
    return graph.add("Sub", *pair(graph, other, input))


@exports("rdiv")
def _rdiv(graph: Graph, input: Any, other: Any) -> str:
    return graph.add("Div", *pair(graph, other, input))


@exports("square")
def _square(graph: Graph, input: Value) -> str:
    return graph.add("Mul", input, input)


@exports("rsqrt")
def _rsqrt(graph: Graph, input: Value) -> str:
    return graph.add("Reciprocal", graph.add("Sqrt", input))


@exports("rpow")
def _rpow(graph: Graph, input: Value, base: float) -> str:
    return graph.add("Pow", graph.number(base, input), input)


@exports("raised")
def _raised(graph: Graph, input: Value, low: float) -> str:
    return graph.add("Max", input, graph.number(low, input))


@exports("floor_divide")
def _floor_divide(graph: Graph, input: Any, other: Any, y: Value) -> str:
    a, b = pair(graph, input, other)
    if y.dtype.kind == "f":
        return graph.add("Floor", graph.add("Div", a, b))
    return graph.add("Div", graph.add("Sub", a, graph.add("Mod", a, b)), b)  # ONNX's Div of integers rounds towards 0


@exports("trunc_divide")
def _trunc_divide(graph: Graph, input: Any, other: Any, y: Value) -> str:
    quotient = graph.add("Div", *pair(graph, input, other))
    return _truncated(graph, quotient) if y.dtype.kind == "f" else quotient


@exports("remainder")
def _remainder(graph: Graph, input: Any, other: Any, y: Value) -> str:
    a, b = pair(graph, input, other)
    if y.dtype.kind != "f":
        return graph.add("Mod", a, b)
    return graph.add("Sub", a, graph.add("Mul", b, graph.add("Floor", graph.add("Div", a, b))))


@exports("fmod")
def _fmod(graph: Graph, input: Any, other: Any) -> str:
    return graph.add("Mod", *pair(graph, input, other), fmod=1)


@exports("addcmul")
def _addcmul(graph: Graph, input: Value, tensor1: Any, tensor2: Any, value: float) -> str:
    product = graph.add("Mul", *pair(graph, tensor1, tensor2))
    return graph.add("Add", input, _scaled(graph, product, value, input))


@exports("addcdiv")
def _addcdiv(graph: Graph, input: Value, tensor1: Any, tensor2: Any, value: float) -> str:
    quotient = graph.add("Div", *pair(graph, tensor1, tensor2))
    return graph.add("Add", input, _scaled(graph, quotient, value, input))


def _scaled(graph: Graph, x: str, factor: float, like: Value) -> str:
    return x if factor == 1 else graph.add("Mul", x, graph.number(factor, like))


@exports("lerp")
def _lerp(graph: Graph, input: Any, end: Any, weight: Any, y: Value) -> str:
    start, end, weight = (graph.operand(x, y) for x in (input, end, weight))
    return graph.add("Add", start, graph.add("Mul", weight, graph.add("Sub", end, start)))


@exports("hypot")
def _hypot(graph: Graph, input: Any, other: Any) -> str:
    squares = [graph.add("Mul", x, x) for x in pair(graph, input, other)]
    return graph.add("Sqrt", graph.add("Add", *squares))


# ---- bounds and rounding -------------------------------------------------------------------------


@exports("clamp")
def _clamp(graph: Graph, input: Value, min: Any, max: Any) -> str:
    bounds = [None if bound is None else graph.number(bound, input) for bound in (min, max)]
    return graph.add("Clip", input, *bounds)


@exports("clamp_between")
def _clamp_between(graph: Graph, input: Value, min: Any, max: Any) -> str:
    made: Any = input
    if min is not None:
        made = graph.add("Max", made, graph.operand(min, input))
    return made if max is None else graph.add("Min", made, graph.operand(max, input))


@exports("clipped")
def _clipped(graph: Graph, input: Value, high: float) -> str:
    zero = graph.number(0, input)
    return graph.add("Clip", graph.add("Where", graph.add("IsNaN", input), zero, input), zero, graph.number(high, input))


@exports("folded")
def _folded(graph: Graph, input: Value, low: float, high: float) -> str:
    period, bound = graph.number(2 * (high - low), input), graph.number(low, input)
    away = graph.add("Mod", graph.add("Abs", graph.add("Sub", input, bound)), period, fmod=1)
    return graph.add("Add", graph.add("Min", away, graph.add("Sub", period, away)), bound)


def _ignoring_nan(op: str) -> Any:
    def write(graph: Graph, input: Any, other: Any, y: Value) -> str:
        a, b = pair(graph, input, other)
        made = graph.add(op, a, b)
        if y.dtype.kind != "f":
            return made
        rest = graph.add("Where", graph.add("IsNaN", b), a, made)
        return graph.add("Where", graph.add("IsNaN", a), b, rest)

    return write


exports("fmax")(_ignoring_nan("Max"))
exports("fmin")(_ignoring_nan("Min"))


def _truncated(graph: Graph, x: Any) -> str:
    return graph.add("Mul", graph.add("Sign", x), graph.add("Floor", graph.add("Abs", x)))


@exports("trunc")
def _trunc(graph: Graph, input: Value) -> str:
    return _truncated(graph, input)


@exports("frac")
def _frac(graph: Graph, input: Value) -> str:
    return graph.add("Sub", input, _truncated(graph, input))


@exports("round")
def _round(graph: Graph, input: Value, decimals: int) -> Any:
    if input.dtype.kind != "f":
        return graph.name(input)
    if decimals == 0:
        return graph.add("Round", input)
    factor = graph.number(10.0**decimals, input)
    return graph.add("Div", graph.add("Round", graph.add("Mul", input, factor)), factor)


@exports("copysign")
def _copysign(graph: Graph, input: Any, other: Any, y: Value) -> str:
    a, b = pair(graph, input, other)
    size = graph.add("Abs", a)
    return graph.add("Where", graph.add("Less", b, graph.number(0, y)), graph.add("Neg", size), size)


@exports("heaviside")
def _heaviside(graph: Graph, input: Any, values: Any, y: Value) -> str:
    x, at_zero = pair(graph, input, values)
    zero = graph.number(0, y)
    step = graph.cast(graph.add("Greater", x, zero), y.dtype)
    return graph.add("Where", graph.add("Equal", x, zero), at_zero, step)


@exports("nan_to_num")
def _nan_to_num(graph: Graph, input: Value, nan: Any, posinf: Any, neginf: Any) -> Any:
    if input.dtype.kind != "f":
        return graph.name(input)
    limits = np.finfo(input.dtype)
    made: Any = graph.add("Where", graph.add("IsNaN", input), graph.number(nan or 0.0, input), input)
    for value, usual, sign in ((posinf, limits.max, "positive"), (neginf, limits.min, "negative")):
        there = graph.add("IsInf", input, detect_positive=int(sign == "positive"), detect_negative=int(sign == "negative"))
        made = graph.add("Where", there, graph.number(usual if value is None else value, input), made)
    return made


# ---- exponentials and trigonometry ---------------------------------------------------------------


@exports("exp2")
def _exp2(graph: Graph, input: Value) -> str:
    return graph.add("Pow", graph.number(2, input), input)


@exports("expm1")
def _expm1(graph: Graph, input: Value) -> str:
    """2 sinh(x / 2) e^(x / 2), which keeps its digits near 0."""
    half = graph.add("Mul", input, graph.number(0.5, input))
    return graph.add("Mul", graph.add("Mul", graph.add("Sinh", half), graph.number(2, input)), graph.add("Exp", half))


@exports("log1p")
def _log1p(graph: Graph, input: Value) -> str:
    return graph.add("Log", graph.add("Add", input, graph.number(1, input)))


def _times(op: str, factor: float) -> Any:
    return lambda graph, input: graph.add("Mul", graph.add(op, input) if op else input, graph.number(factor, input))


exports("log2")(_times("Log", 1 / math.log(2)))
exports("log10")(_times("Log", 1 / math.log(10)))
exports("deg2rad")(_times("", math.pi / 180))
exports("rad2deg")(_times("", 180 / math.pi))


@exports("erfc")
def _erfc(graph: Graph, input: Value) -> str:
    return graph.add("Sub", graph.number(1, input), graph.add("Erf", input))


def _log_sum(factor: float) -> Any:
    """max(a, b) + log(1 + e^(-|a - b|)), with a and b in another base."""

    def write(graph: Graph, input: Any, other: Any, y: Value) -> str:
        a, b = pair(graph, input, other)
        away = graph.add("Neg", graph.add("Abs", graph.add("Sub", a, b)))
        if factor != 1:
            away = graph.add("Mul", away, graph.number(factor, y))
        rest = graph.add("Softplus", away)
        if factor != 1:
            rest = graph.add("Mul", rest, graph.number(1 / factor, y))
        return graph.add("Add", graph.add("Max", a, b), rest)

    return write


exports("logaddexp")(_log_sum(1))
exports("logaddexp2")(_log_sum(math.log(2)))


@exports("logit")
def _logit(graph: Graph, input: Value, eps: float | None) -> str:
    x: Any = input
    if eps is not None:
        x = graph.add("Clip", x, graph.number(eps, input), graph.number(1 - eps, input))
    return graph.add("Log", graph.add("Div", x, graph.add("Sub", graph.number(1, input), x)))


@exports("xlogy")
def _xlogy(graph: Graph, input: Any, other: Any, y: Value) -> str:
    x, z = pair(graph, input, other)
    zero = graph.number(0, y)
    none = graph.add("And", graph.add("Equal", x, zero), graph.add("Not", graph.add("IsNaN", z)))
    return graph.add("Where", none, zero, graph.add("Mul", x, graph.add("Log", z)))


@exports("atan2")
def _atan2(graph: Graph, input: Any, other: Any, y: Value) -> str:
    up, right = pair(graph, input, other)
    zero, pi = graph.number(0, y), graph.number(math.pi, y)
    behind = graph.add("Less", right, zero)
    turn = graph.add("Where", graph.add("Less", up, zero), graph.add("Neg", pi), pi)
    near = graph.add("Add", graph.add("Atan", graph.add("Div", up, right)), graph.add("Where", behind, turn, zero))
    origin = graph.add("And", graph.add("Equal", up, zero), graph.add("Equal", right, zero))
    return graph.add("Where", origin, zero, near)


@exports("sinc")
def _sinc(graph: Graph, input: Value) -> str:
    zero = graph.add("Equal", input, graph.number(0, input))
    turned = graph.add("Mul", input, graph.number(math.pi, input))
    return graph.add("Where", zero, graph.number(1, input), graph.add("Div", graph.add("Sin", turned), turned))


# ---- comparison and logic ------------------------------------------------------------------------


@exports("isinf")
def _isinf(graph: Graph, input: Value) -> str:
    return graph.add("IsInf", input)


@exports("isposinf")
def _isposinf(graph: Graph, input: Value) -> str:
    return graph.add("IsInf", input, detect_negative=0)


@exports("isneginf")
def _isneginf(graph: Graph, input: Value) -> str:
    return graph.add("IsInf", input, detect_positive=0)


@exports("isfinite")
def _isfinite(graph: Graph, input: Value) -> str:
    return graph.add("Not", graph.add("Or", graph.add("IsNaN", input), graph.add("IsInf", input)))


@exports("signbit")
def _signbit(graph: Graph, input: Value) -> str:
    return graph.add("Less", input, graph.number(0, input))


def truth(graph: Graph, x: Any) -> str:
    """An operand as bool."""
    if isinstance(x, (bool, int, float)):
        return graph.constant(np.array(bool(x)))
    return graph.name(x) if x.dtype.kind == "b" else graph.cast(x, bool)


def _logical(op: str) -> Any:
    return lambda graph, input, other: graph.add(op, truth(graph, input), truth(graph, other))


for _ours, _theirs in {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor"}.items():
    exports(_ours)(_logical(_theirs))


@exports("logical_not")
def _logical_not(graph: Graph, input: Value) -> str:
    return graph.add("Not", truth(graph, input))


def _bits(graph: Graph, op: str, x: Value) -> str:
    """The operator on truth values, or the one on the bits of integers."""
    if x.dtype.kind == "b":
        return op
    if graph.opset < 18:
        raise Refusal(*FROM_18)
    return f"Bitwise{op}"


def _bitwise(op: str) -> Any:
    def write(graph: Graph, input: Any, other: Any, y: Value) -> str:
        return graph.add(_bits(graph, op, y), *pair(graph, input, other))

    return write


for _name in ("and", "or", "xor"):
    exports(f"bitwise_{_name}")(_bitwise(_name.capitalize()))


@exports("bitwise_not")
def _bitwise_not(graph: Graph, input: Value) -> str:
    return graph.add(_bits(graph, "Not", input), input)


@exports("isclose")
def _isclose(graph: Graph, input: Any, other: Any, rtol: float, atol: float, equal_nan: bool) -> str:
    like = input if isinstance(input, Value) else other
    a, b = pair(graph, input, other)
    allowed = graph.add("Add", graph.add("Mul", graph.add("Abs", b), graph.number(rtol, like)), graph.number(atol, like))
    near = graph.add("LessOrEqual", graph.add("Abs", graph.add("Sub", a, b)), allowed)
    made = graph.add("Or", near, graph.add("Equal", a, b))
    if not equal_nan:
        return made
    return graph.add("Or", made, graph.add("And", graph.add("IsNaN", a), graph.add("IsNaN", b)))


@exports("where")
def _where(graph: Graph, condition: Value, input: Any, other: Any, y: Value) -> str:
    return graph.add("Where", condition, graph.operand(input, y), graph.operand(other, y))


@exports("keep")
def _keep(graph: Graph, input: Value, mask: Value) -> str:
    return graph.add("Where", mask, input, graph.number(0, input))


@exports("masked_fill")
def _masked_fill(graph: Graph, input: Value, mask: Value, value: Any) -> str:
    return graph.add("Where", mask, graph.operand(value, input), input)


@exports("isin")
def _isin(graph: Graph, elements: Value, test_elements: Value, invert: bool) -> str:
    column = graph.add("Unsqueeze", elements, graph.ints([-1]))
    equal = graph.add("Equal", column, graph.reshape(test_elements, (-1,), test_elements.shape))
    found = graph.cast(graph.reduce("ReduceMax", graph.cast(equal, np.int32), [elements.ndim], False), bool)
    return graph.add("Not", found) if invert else found
