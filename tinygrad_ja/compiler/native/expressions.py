"""NumPy's element-wise functions as vector instructions: ``write`` appends one ``map`` instruction of a program to a text. Dtypes follow
NumPy's rules (``ufunc.resolve_dtypes``): operands are converted as it would, then the result to the dtype of the output."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from ..program import Instruction
from . import vector_math
from .code import BOOL, F32, F64, Code, Value

Writer = Callable[..., Value]


def supported_dtype(dtype: np.dtype) -> bool:
    """True for what registers hold here: bool, integers, float32 and float64, in the byte order of the machine."""
    return dtype.isnative and (dtype.kind in "biu" or dtype in (F32, F64))


@functools.cache
def resolved(function: str, dtypes: tuple[np.dtype, ...]) -> tuple[np.dtype, ...] | None:
    """The dtypes in which NumPy computes a ufunc, the output's last; None when it would not."""
    try:
        found: tuple[np.dtype, ...] = getattr(np, function).resolve_dtypes((*dtypes, *[None] * getattr(np, function).nout))
    except (TypeError, AttributeError):
        return None
    return found


def supported(instruction: Instruction) -> bool:
    """True when ``write`` can write this ``map``."""
    function = instruction.function
    dtypes = tuple([a.dtype for a in instruction.inputs])
    if not all([supported_dtype(d) for d in (*dtypes, instruction.outputs[0].dtype)]):
        return False
    if function in ("cast", "copy", "where"):
        return True
    found = resolved(function, dtypes)
    if found is None or not all([supported_dtype(d) for d in found]):
        return False
    kinds = _FUNCTIONS.get(function, {})
    return found[0].kind in kinds


def write(code: Code, instruction: Instruction, values: Sequence[Value]) -> Value:
    """Append the instruction for these inputs."""
    function, output = instruction.function, instruction.outputs[0].dtype
    if function in ("cast", "copy"):
        return code.convert(values[0], output)
    if function == "where":
        return code.select(code.convert(values[0], BOOL), code.convert(values[1], output), code.convert(values[2], output))
    found = resolved(function, tuple([v.dtype for v in values]))
    assert found is not None
    made = _FUNCTIONS[function][found[0].kind](code, *[code.convert(v, d) for v, d in zip(values, found)])
    return code.convert(made, output)


def applied(code: Code, function: str, a: Value, b: Value) -> Value:
    """A function of two values of one dtype."""
    return _FUNCTIONS[function][a.dtype.kind](code, a, b)


HEAVY = frozenset("exp exp2 expm1 log log2 log10 log1p tanh power float_power sin cos tan sinh cosh arctan2 cbrt".split())
"""Functions that cost as much as ten additions or more."""


# ---- the table: function -> kind of the operands -> writer ------------------------------------------


def _single_or_libm(single: Callable[[Code, Value], Value], name: str) -> Writer:
    """A function of ``vector_math`` for float32; LLVM's, which calls the system's for each element, for float64."""
    return lambda code, x: single(code, x) if x.dtype == F32 else code.intrinsic(name, x)


def _scaled_log(name: str, factor: float) -> Writer:
    def writer(code: Code, x: Value) -> Value:
        if x.dtype != F32:
            return code.intrinsic(name, x)
        return code.mul(vector_math.log(code, x), code.constant(F32, factor))

    return writer


def _called(name: str) -> Writer:
    """A function of the system's mathematical library, element by element."""

    def writer(code: Code, *values: Value) -> Value:
        dtype = values[0].dtype
        scalar, full = ("float", name + "f") if dtype == F32 else ("double", name)
        code.declare(f"{scalar} @{full}({', '.join([scalar] * len(values))})")
        made = "poison"
        for lane in range(code.lanes):
            elements = [code.plain(f"extractelement {code.type(dtype)} {v.text}, i64 {lane}") for v in values]
            one = code.plain(f"call {scalar} @{full}({', '.join([f'{scalar} {e}' for e in elements])})")
            made = code.plain(f"insertelement {code.type(dtype)} {made}, {scalar} {one}, i64 {lane}")
        return Value(made, dtype)

    return writer


def _extreme(better: str) -> Writer:
    """The larger or smaller of two; NaN if either is."""

    def writer(code: Code, a: Value, b: Value) -> Value:
        if a.dtype.kind == "f":
            chosen = code.select(code.compare("o" + better, a, b), a, b)  # b where unordered
            return code.select(code.compare("uno", a, a), a, chosen)
        sign = "s" if a.dtype.kind == "i" else "u"
        return code.select(code.compare(sign + better, a, b), a, b)

    return writer


def _compared(floating: str, whole: str) -> dict[str, Writer]:
    signed = whole if whole in ("eq", "ne") else "s" + whole
    unsigned = whole if whole in ("eq", "ne") else "u" + whole
    return {
        "f": lambda code, a, b: code.compare(floating, a, b),
        "i": lambda code, a, b: code.compare(signed, a, b),
        "u": lambda code, a, b: code.compare(unsigned, a, b),
        "b": lambda code, a, b: code.compare(unsigned, a, b),
    }


def _logical(operation: str) -> dict[str, Writer]:
    def writer(code: Code, a: Value, b: Value) -> Value:
        return code.binary(operation, code.convert(a, BOOL), code.convert(b, BOOL))

    return dict.fromkeys("fiub", writer)


def _not(code: Code, a: Value) -> Value:
    return code.binary("xor", code.convert(a, BOOL), code.constant(BOOL, 1))


def _sign(code: Code, x: Value) -> Value:
    zero, one = code.constant(x.dtype, 0), code.constant(x.dtype, 1)
    if x.dtype.kind == "u":
        return code.select(code.compare("ne", x, zero), one, zero)
    greater, less = ("ogt", "olt") if x.dtype.kind == "f" else ("sgt", "slt")
    made = code.select(code.compare(greater, x, zero), one, zero)
    made = code.select(code.compare(less, x, zero), code.constant(x.dtype, -1), made)
    return code.select(code.compare("uno", x, x), x, made) if x.dtype.kind == "f" else made


def _absolute_whole(code: Code, x: Value) -> Value:
    return code.select(code.compare("slt", x, code.constant(x.dtype, 0)), _negative_whole(code, x), x)


def _negative_whole(code: Code, x: Value) -> Value:
    return code.sub(code.constant(x.dtype, 0), x)


def _size_is(condition: str) -> Writer:
    return lambda code, x: code.compare(condition, code.intrinsic("fabs", x), code.constant(x.dtype, float("inf")))


def _signbit(code: Code, x: Value) -> Value:
    whole = np.dtype(f"i{x.dtype.itemsize}")
    return code.compare("slt", code.bitcast(x, whole), code.constant(whole, 0))


def _everywhere(writer: Writer, kinds: str) -> dict[str, Writer]:
    return dict.fromkeys(kinds, writer)


def _binary(floating: str, whole: str) -> dict[str, Writer]:
    return {
        "f": lambda code, a, b: code.binary(floating, a, b),
        "i": lambda code, a, b: code.binary(whole, a, b),
        "u": lambda code, a, b: code.binary(whole, a, b),
    }


def _function(writer: Writer) -> dict[str, Writer]:
    return {"f": writer}


_FUNCTIONS: dict[str, dict[str, Writer]] = {
    "add": {**_binary("fadd contract", "add"), "b": lambda code, a, b: code.binary("or", a, b)},
    "subtract": _binary("fsub contract", "sub"),
    "multiply": {**_binary("fmul contract", "mul"), "b": lambda code, a, b: code.binary("and", a, b)},
    "divide": _function(lambda code, a, b: code.binary("fdiv", a, b)),
    "true_divide": _function(lambda code, a, b: code.binary("fdiv", a, b)),
    "negative": {"f": lambda code, x: code.value(x.dtype, f"fneg {code.type(x.dtype)} {x.text}"), "i": _negative_whole},
    "positive": _everywhere(lambda code, x: x, "fiu"),
    "absolute": {
        "f": lambda code, x: code.intrinsic("fabs", x),
        "i": _absolute_whole,
        "u": lambda code, x: x,
        "b": lambda code, x: x,
    },
    "fabs": _function(lambda code, x: code.intrinsic("fabs", x)),
    "square": _everywhere(lambda code, x: code.mul(x, x), "fiu"),
    "reciprocal": _function(lambda code, x: code.binary("fdiv", code.constant(x.dtype, 1), x)),
    "sqrt": _function(lambda code, x: code.intrinsic("sqrt", x)),
    "exp": _function(_single_or_libm(vector_math.exp, "exp")),
    "exp2": _function(_single_or_libm(vector_math.exp2, "exp2")),
    "log": _function(_single_or_libm(vector_math.log, "log")),
    "log2": _function(_scaled_log("log2", 1.44269504088896340736)),
    "log10": _function(_scaled_log("log10", 0.434294481903251827651)),
    "expm1": _function(lambda code, x: vector_math.expm1(code, x) if x.dtype == F32 else _called("expm1")(code, x)),
    "log1p": _function(lambda code, x: vector_math.log1p(code, x) if x.dtype == F32 else _called("log1p")(code, x)),
    "tanh": _function(lambda code, x: vector_math.tanh(code, x) if x.dtype == F32 else _called("tanh")(code, x)),
    "sin": _function(_called("sin")),
    "cos": _function(_called("cos")),
    "tan": _function(_called("tan")),
    "sinh": _function(_called("sinh")),
    "cosh": _function(_called("cosh")),
    "arcsin": _function(_called("asin")),
    "arccos": _function(_called("acos")),
    "arctan": _function(_called("atan")),
    "arctan2": _function(_called("atan2")),
    "cbrt": _function(_called("cbrt")),
    "power": _function(_called("pow")),
    "float_power": _function(_called("pow")),
    "floor": _function(lambda code, x: code.intrinsic("floor", x)),
    "ceil": _function(lambda code, x: code.intrinsic("ceil", x)),
    "trunc": _function(lambda code, x: code.intrinsic("trunc", x)),
    "rint": _function(lambda code, x: code.intrinsic("rint", x)),
    "copysign": _function(lambda code, x, y: code.intrinsic("copysign", x, y)),
    "sign": _everywhere(_sign, "fiu"),
    "signbit": _function(_signbit),
    "maximum": {**_everywhere(_extreme("gt"), "fiu"), "b": lambda code, a, b: code.binary("or", a, b)},
    "minimum": {**_everywhere(_extreme("lt"), "fiu"), "b": lambda code, a, b: code.binary("and", a, b)},
    "equal": _compared("oeq", "eq"),
    "not_equal": _compared("une", "ne"),
    "less": _compared("olt", "lt"),
    "less_equal": _compared("ole", "le"),
    "greater": _compared("ogt", "gt"),
    "greater_equal": _compared("oge", "ge"),
    "logical_and": _logical("and"),
    "logical_or": _logical("or"),
    "logical_xor": _logical("xor"),
    "logical_not": _everywhere(_not, "fiub"),
    "bitwise_and": _everywhere(lambda code, a, b: code.binary("and", a, b), "iub"),
    "bitwise_or": _everywhere(lambda code, a, b: code.binary("or", a, b), "iub"),
    "bitwise_xor": _everywhere(lambda code, a, b: code.binary("xor", a, b), "iub"),
    "isnan": _function(lambda code, x: code.compare("uno", x, x)),
    "isinf": _function(_size_is("oeq")),
    "isfinite": _function(_size_is("one")),
}
