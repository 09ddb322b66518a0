"""Programs that together use every kind of kernel, with data: run on a GPU, on the stand-in that needs none, and by the interpreter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from cuda_maker import Case, Maker

from tinygrad_ja.compiler.lower import Call, Shape, Slot
from tinygrad_ja.compiler.program import Array, Instruction
from tinygrad_ja.core.operator import OPERATORS
from tinygrad_ja.ops.window import Window

CASES: dict[str, Callable[[], Case]] = {}


def case(make: Callable[[Maker], Any]) -> Callable[[Maker], Any]:
    """Register a function that fills a maker and returns (results, ...)."""
    name = make.__name__

    def build() -> Case:
        m = Maker()
        made = make(m)
        results, extra = (made[0], made[1]) if isinstance(made, tuple) and isinstance(made[1], dict) else (made, {})
        return m.case(name, *results, **extra)

    CASES[name] = build
    return make


FLOATS = """negative positive absolute sqrt exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh
arccosh arctanh floor ceil trunc rint cbrt square reciprocal sign isnan isinf isfinite signbit logical_not deg2rad rad2deg fabs""".split()
PAIRS = """add subtract multiply divide floor_divide remainder power maximum minimum fmax fmin arctan2 hypot copysign logaddexp logaddexp2 fmod
heaviside less less_equal greater greater_equal equal not_equal logical_and logical_or logical_xor nextafter""".split()
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, np.nan, np.inf, -np.inf, 7.25, -0.3]


def _floats(dtype: str) -> Callable[[Maker], Any]:
    def make(m: Maker) -> Any:
        x = m.argument((12,), dtype, SPECIAL)
        a = m.argument((12, 1), dtype, SPECIAL)
        b = m.argument((12,), dtype, SPECIAL)
        tame = m.argument((6,), dtype, [0.1, 0.5, 1.5, 2.5, -0.7, 3.0])
        special = [m.map(f, x) for f in FLOATS]
        special.append(m.add("map", "clip", [x, m.constant(-1, dtype), m.constant(2, dtype)], x.shape, dtype))
        m.group(0, (12,), 1, special)
        usual = [m.map(f, tame) for f in FLOATS] + ([m.add("map", "sinc", [tame], tame.shape, dtype)] if dtype != "f2" else [])
        m.group(1, (6,), 1, usual)
        pairs = [m.map(f, a, b) for f in PAIRS if not (f == "nextafter" and dtype == "f2")]
        pairs.append(m.map("where", m.map("less", a, b), a, b))
        m.group(2, (12, 12), 1, pairs)
        return [*special, *usual, *pairs], {"rtol": 2e-3 if dtype == "f2" else 2e-5}

    make.__name__ = f"functions_of_{dtype}"
    return make


for _dtype in ("f4", "f8", "f2"):
    case(_floats(_dtype))


def _integers(dtype: str) -> Callable[[Maker], Any]:
    def make(m: Maker) -> Any:
        values = [0, 1, 2, 3, 7, 9, 100, 127] + ([-1, -2, -7, -128] if dtype.startswith("i") else [5, 6, 8, 4])
        a, b = m.argument((12, 1), dtype, values), m.argument((12,), dtype, values)
        names = "add subtract multiply floor_divide remainder maximum minimum bitwise_and bitwise_or bitwise_xor less equal not_equal".split()
        made = [m.map(f, a, b) for f in [*names, "logical_and", "divide", "fmod"]]
        small = m.argument((12,), dtype, [0, 1, 2, 3, 4] * 2 + [1, 2])
        made += [m.map("power", a, small), m.map("left_shift", a, small), m.map("right_shift", a, small)]
        m.group(0, (12, 12), 1, [y for y in made if y.shape == (12, 12)])
        made = list(m.instructions[0].outputs)
        a = m.argument((12,), dtype, values)
        start, made_of_one = (
            len(m.instructions),
            [m.map(f, a) for f in "negative absolute sign invert square logical_not".split()],
        )
        made_of_one += [m.add("map", "cast", [a], a.shape, d) for d in ("i1", "i2", "i4", "i8", "u1", "f2", "f4", "f8", "?")]
        m.group(start, (12,), 1, made_of_one)
        return [*made, *made_of_one]

    make.__name__ = f"functions_of_{dtype}"
    return make


for _dtype in ("i1", "u1", "i4", "i8"):
    case(_integers(_dtype))


@case
def booleans(m: Maker) -> Any:
    a, b = m.argument((7, 1), "?"), m.argument((1, 5), "?")
    names = (
        "add multiply logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor maximum minimum equal less".split()
    )
    x = m.argument((7, 5))
    casts = [m.add("map", "cast", [x], x.shape, d) for d in ("?", "f2", "f8")]
    return [m.map(f, a, b) for f in names] + [m.map("invert", a), m.map("where", a, x, m.constant(-1.0)), *casts]


@case
def maps_of_many_layouts(m: Maker) -> Any:
    x = m.argument((4, 6, 8))
    y = m.map("add", m.transpose(x, 2, 0, 1), m.argument((6,)))
    z = m.map("multiply", m.slice(x, (slice(None, None, -1), slice(1, 5, 2))), m.argument((4, 1, 1)))
    w = m.map("exp", m.broadcast(m.argument((1, 8)), 3, 8))
    wide = m.map("subtract", m.argument((32, 64)), m.argument((64,)))
    scalar = m.map("sqrt", m.argument((), "f4", 2.0))
    half = m.map("add", m.argument((16, 8), "f2"), m.argument((8,), "f2"))
    empty = m.map("add", m.argument((0, 3)), m.argument((3,)))
    copies = m.reshape(m.transpose(x, 1, 0, 2), 24, 8)
    return [y, z, w, wide, scalar, half, empty, copies, m.map("tanh", copies)]


def _reductions(shape: tuple[int, ...], axes: tuple[int, ...]) -> Callable[[Maker], Any]:
    def make(m: Maker) -> Any:
        x = m.argument(shape)
        made = [m.reduce(f, x, axes) for f in ("sum", "max", "min")] + [m.reduce("sum", x, axes, keepdims=True)]
        if len(axes) == 1:
            made += [m.reduce("argmax", x, axes), m.reduce("argmin", x, axes)]
        made.append(m.reduce("any", m.map("greater", x, m.constant(2.5)), axes))
        made.append(m.reduce("all", m.map("greater", x, m.constant(-2.5)), axes))
        made.append(m.reduce("sum", m.map("greater", x, m.constant(0.0)), axes, dtype="i8"))
        return made, {"rtol": 2e-4}

    make.__name__ = f"reduce_{'x'.join(map(str, shape))}_over_{'_'.join(map(str, axes))}"
    return make


for _shape, _axes in [
    ((5,), (0,)),
    ((3, 4, 5), (1,)),
    ((3, 4, 5), (0, 2)),
    ((3, 4, 5), (0, 1, 2)),
    ((6, 300), (1,)),
    ((2, 5000), (1,)),
    ((300, 10), (0,)),
    ((4000, 3), (0,)),
    ((30000,), (0,)),
    ((1100, 8), (1,)),
    ((8, 3, 50, 7), (0, 2, 3)),
    ((40, 2500), (0,)),
]:
    case(_reductions(_shape, _axes))


@case
def reductions_of_dtypes(m: Maker) -> Any:
    made = []
    for dtype in ("f2", "f8", "i4", "i8", "u1", "?"):
        x = m.argument((9, 40), dtype)
        made += [m.reduce(f, x, (1,)) for f in ("max", "min", "argmax", "any", "all")]
        if dtype != "?":
            made.append(m.reduce("prod", m.slice(x, (slice(None), slice(3))), (1,)))
        made.append(m.reduce("sum", x, (0,)))
    with_nan = m.argument((3, 40), "f4", np.where(np.arange(120) == 50, np.nan, np.arange(120) % 37))
    made += [m.reduce(f, with_nan, (1,)) for f in ("max", "min", "argmax", "argmin", "sum")]
    return made, {"rtol": 2e-3}


@case
def scans(m: Maker) -> Any:
    x, i = m.argument((5, 6, 7)), m.argument((4, 9), "i8")
    made = [m.add("scan", f, [x], x.shape, "f4", axis=d) for f in ("cumsum", "cumprod") for d in range(3)]
    return [*made, m.add("scan", "cumsum", [i], i.shape, "i8", axis=1)], {"rtol": 1e-4}


@case
def places(m: Maker) -> Any:
    x = m.argument((3, 4))
    keys = [
        ((5, 6), (slice(1, 4), slice(0, 4))),
        ((6, 9), (slice(0, 6, 2), slice(8, 0, -2))),
        ((2, 3, 4), (1,)),
        ((3, 4, 2), (Ellipsis, 0)),
        ((3, 4), (slice(None), slice(None))),
    ]
    return [m.add("place", "place", [x], shape, "f4", key=key) for shape, key in keys]


@case
def takes(m: Maker) -> Any:
    x = m.argument((6, 5, 4))
    i = m.argument((2, 3), "i8", [[0, -1, 4], [2, 2, -5]])
    j = m.argument((3,), "i4", [1, 0, 3])
    along = m.argument((6, 2, 4), "i8", m.random.integers(-5, 5, (6, 2, 4)))
    made = [m.add("take", "take", [x, i], (6, 2, 3, 4), "f4", axis=1), m.add("take", "take", [x, j], (3, 5, 4), "f4", axis=0)]
    return [*made, m.add("take", "take_along_axis", [x, along], (6, 2, 4), "f4", axis=1)]


@case
def additions_at_indices(m: Maker) -> Any:
    made = []
    for dtype in ("f4", "f8", "i8", "i4", "f2"):
        x = m.argument((2, 3, 4), dtype)
        i = m.argument((2, 3), "i8", [[0, -1, 4], [2, 2, 0]])
        made.append(m.add("add_at", "take", [x, i], (5, 4), dtype, axis=0))
        along = m.argument((2, 3, 4), "i8", m.random.integers(0, 6, (2, 3, 4)))
        made.append(m.add("add_at", "take_along_axis", [x, along], (2, 6, 4), dtype, axis=1))
    x = m.argument((2, 3, 4))
    made.append(m.add("add_at", "take", [x, m.argument((3,), "i4", [1, 1, 3])], (2, 5, 4), "f4", axis=1))
    return made, {"rtol": 2e-3}


@case
def products(m: Maker) -> Any:
    made = []
    for dtype in ("f4", "f8", "f2", "i8"):
        a, b = m.argument((5, 7), dtype), m.argument((7, 6), dtype)
        made += [m.matmul(a, b), m.matmul(m.transpose(b, 1, 0), m.transpose(a, 1, 0))]
        t, w = m.argument((3, 5, 7), dtype), m.argument((7, 4), dtype)
        made += [
            m.matmul(t, w),
            m.matmul(w_t := m.transpose(w, 1, 0), m.transpose(t, 0, 2, 1)),
            m.matmul(m.argument((3, 2, 5), dtype), t),
        ]
        made.append(m.matmul(m.argument((5, 4), dtype), w_t))
    return made, {"rtol": 2e-3}


@case
def products_of_odd_layouts(m: Maker) -> Any:
    q = m.argument((2, 5, 3, 4))  # (batch, time, heads, features)
    k = m.argument((2, 5, 3, 4))
    scores = m.matmul(m.transpose(q, 0, 2, 1, 3), m.transpose(k, 0, 2, 3, 1))
    out = m.transpose(m.matmul(scores, m.transpose(k, 0, 2, 1, 3)), 0, 2, 1, 3)
    rows = m.argument((6, 8))
    strided = m.matmul(m.slice(rows, (slice(None, None, 2), slice(None, None, 2))), m.argument((4, 3)))
    row, column = m.matmul(m.argument((1, 8)), m.argument((8, 5))), m.matmul(m.argument((5, 8)), m.argument((8, 1)))
    outer = m.matmul(m.argument((5, 1)), m.argument((1, 6)))
    steps = m.argument((4, 3, 6))
    step = m.matmul(m.slice(steps, (slice(None), 1)), m.argument((6, 5)))
    broad = m.matmul(m.argument((2, 1, 3, 4)), m.argument((1, 5, 4, 2)))
    spread = m.matmul(m.broadcast(m.argument((1, 4)), 3, 4), m.argument((4, 2)))
    vectors = m.matmul(m.argument((6, 1, 4)), m.argument((4, 3)))
    none = m.matmul(m.argument((3, 0)), m.argument((0, 2)))
    joined = m.join(1, m.matmul(m.argument((3, 4)), m.argument((4, 2))), m.matmul(m.argument((3, 4)), m.argument((4, 5))))
    return [scores, out, strided, row, column, outer, step, broad, spread, vectors, none, joined], {"rtol": 1e-4}


@case
def products_with_what_follows(m: Maker) -> Any:
    """Steps of a recurrent network, and small products of several depths; one whose operand is overwritten before its reader runs."""
    h, x = m.argument((5, 24)), m.argument((4, 5, 70))
    u, w, b = m.parameter((24, 24)), m.argument((70, 24)), m.argument((24,))
    made = []
    for t in range(4):
        y = m.map("add", m.matmul(h, u), b)
        h = m.map("tanh", m.map("add", m.matmul(m.slice(x, (t,)), w), y))
        made.append(h)
    long, deep = m.argument((3, 300)), m.argument((300, 9))
    start = len(m.instructions)
    product = m.matmul(long, deep)
    g = m.map("exp", m.map("multiply", product, m.constant(0.01)))
    m.group(start + 1, (3, 9), 1, [g])
    half = m.map("negative", m.matmul(m.argument((20, 40), "f2"), m.argument((40, 33), "f2")))
    batch = m.map("add", m.matmul(m.argument((2, 3, 17, 5), "f8"), m.argument((3, 5, 18), "f8")), m.argument((18,), "f8"))
    m.writes.append((u, m.map("multiply", u, m.constant(0.5))))
    return [*made, g, half, batch, m.matmul(h, m.transpose(u, 1, 0))], {"rtol": 5e-3}


@case
def joins(m: Maker) -> Any:
    a, b, c = m.argument((3, 4)), m.argument((2, 4)), m.argument((3, 5))
    first = m.join(0, m.map("exp", a), b)
    second = m.join(1, m.map("tanh", a), c, m.map("negative", c))
    return [first, second, m.reduce("sum", second, (0,)), m.join(0, a, a)]


def _softmax(m: Maker, x: Array) -> Array:
    top = m.reduce("max", x, (x.ndim - 1,), keepdims=True)
    e = m.map("exp", m.map("subtract", x, top))
    return m.map("divide", e, m.reduce("sum", e, (x.ndim - 1,), keepdims=True))


def _softmax_groups(rows: int, length: int) -> Callable[[Maker], Any]:
    def make(m: Maker) -> Any:
        x = m.argument((rows, length))
        y = _softmax(m, x)
        m.group(0, (rows, length), 1, [y])
        return [y]

    make.__name__ = f"softmax_{rows}x{length}"
    return make


for _rows, _length in [(7, 5), (5, 32), (3, 128), (2, 1000), (3, 4096), (1, 20000), (2050, 130)]:
    case(_softmax_groups(_rows, _length))


def _layer_norm(rows: tuple[int, ...], length: tuple[int, ...], dtype: str) -> Callable[[Maker], Any]:
    def make(m: Maker) -> Any:
        """A layer norm whose affine part, gradient of the bias and loss are in the group."""
        space = (*rows, *length)
        axes = tuple(range(len(rows), len(space)))
        x, w, b = m.argument(space, dtype), m.argument(length, dtype), m.argument(length, dtype)
        count = m.constant(1 / np.prod(length), dtype)
        start = len(m.instructions)
        mean = m.map("multiply", m.reduce("sum", x, axes, keepdims=True, dtype=dtype), count)
        centred = m.map("subtract", x, mean)
        spread = m.map("multiply", m.reduce("sum", m.map("square", centred), axes, keepdims=True, dtype=dtype), count)
        inverse = m.map("reciprocal", m.map("sqrt", m.map("add", spread, m.constant(1e-3, dtype))))
        normal = m.map("multiply", centred, inverse)
        y = m.map("add", m.map("multiply", normal, w), b)
        leading = tuple(range(len(rows)))
        gradient = m.reduce("sum", y, leading, dtype=dtype)
        other = m.reduce("sum", m.map("multiply", normal, y), leading, keepdims=True, dtype=dtype)
        loss = m.reduce("sum", m.map("square", y), tuple(range(len(space))), dtype=dtype)
        largest = m.reduce("max", mean, tuple(range(len(space))))
        m.group(start, space, len(length), [y, inverse, gradient, other, loss, largest])
        return [y, inverse, gradient, other, loss, largest], {"rtol": 2e-2 if dtype == "f2" else 2e-4}

    make.__name__ = f"layer_norm_{'x'.join(map(str, rows))}_{'x'.join(map(str, length))}_{dtype}"
    return make


case(_layer_norm((6,), (5,), "f4"))
case(_layer_norm((4, 3), (128,), "f4"))
case(_layer_norm((3,), (4, 6), "f4"))
case(_layer_norm((2,), (3000,), "f8"))
case(_layer_norm((70,), (64,), "f2"))


@case
def group_without_rows(m: Maker) -> Any:
    """A chain, its column sums over two sets of axes, and outputs of several shapes."""
    x, b, g = m.argument((6, 40, 8)), m.argument((8,)), m.argument((6, 40, 8))
    start = len(m.instructions)
    small = m.map("exp", b)
    y = m.map("tanh", m.map("add", x, small))
    d = m.map("multiply", g, m.map("subtract", m.constant(1.0), m.map("square", y)))
    bias = m.reduce("sum", d, (0, 1))
    step = m.reduce("sum", d, (0,))
    total = m.reduce("sum", y, (0, 1, 2))
    top = m.reduce("max", y, (0, 1), keepdims=True)
    m.group(start, (6, 40, 8), 1, [y, d, small, bias, step, total, top])
    return [y, d, small, bias, step, total, top], {"rtol": 1e-4}


@case
def reductions_into_gaps(m: Maker) -> Any:
    """Results of reductions that are computed in their places in a join."""
    x, y = m.argument((5, 3, 64)), m.argument((5, 700, 64))
    first = m.join(1, m.reduce("sum", x, (1,)), m.reduce("max", y, (1,)))
    rows = m.argument((4, 6, 300))
    second = m.join(1, m.reduce("sum", rows, (2,)), m.reduce("min", rows, (2,)))
    return [first, second, m.join(2, m.reduce("sum", rows, (2,), keepdims=True), m.reduce("max", rows, (2,), keepdims=True))], {
        "rtol": 1e-4
    }


@case
def group_of_maps(m: Maker) -> Any:
    x, y = m.argument((33, 7)), m.argument((7,))
    start = len(m.instructions)
    a = m.map("add", x, y)
    c = m.map("where", m.map("greater", a, m.constant(0.0)), a, m.map("multiply", a, m.constant(0.1)))
    m.group(start, (33, 7), 1, [a, c])
    return [a, c]


@case
def group_with_odd_reduction(m: Maker) -> Any:
    """A reduction that no kernel of a group holds: the group runs one by one."""
    x = m.argument((5, 6, 7))
    start = len(m.instructions)
    s = m.reduce("sum", x, (1,), keepdims=True)
    y = m.map("subtract", x, s)
    m.group(start, (5, 6, 7), 1, [y])
    return [y], {"rtol": 1e-4}


@case
def state_and_numbers(m: Maker) -> Any:
    """Adam, with the learning rate and a correction as numbers; two arrays of the state change places."""
    w, mean, square = [m.parameter((6, 9)) for _ in range(3)]
    m.state[square] = np.abs(m.state[square])
    g, rate, correction = m.argument((6, 9)), m.number(), m.number("f8")
    new_mean = m.map("add", m.map("multiply", mean, m.constant(0.9)), m.map("multiply", g, m.constant(0.1)))
    new_square = m.map(
        "add", m.map("multiply", square, m.constant(0.999)), m.map("multiply", m.map("square", g), m.constant(0.001))
    )
    scaled = m.add("map", "multiply", [new_mean, correction], (6, 9), "f4")
    step = m.map("divide", scaled, m.map("add", m.map("sqrt", new_square), m.constant(1e-8)))
    new = m.map("subtract", w, m.map("multiply", step, rate))
    left, right = m.parameter((4,)), m.parameter((4,))
    m.writes += [(w, new), (mean, new_mean), (square, new_square), (left, right), (right, left)]
    return [m.reduce("sum", new, (0, 1)), w], {"numbers": [0.01, 1.5], "rtol": 1e-4}


@case
def unusual_dtypes(m: Maker) -> Any:
    """Complex numbers have no kernels: they run as eager CuPy, in the graph."""
    x = m.argument((3, 4))
    z = m.add("map", "multiply", [x, m.constant(1 + 2j, "c8")], (3, 4), "c8")
    return [m.add("map", "absolute", [z], (3, 4), "f4"), m.map("add", x, x)]


def _called(m: Maker, operator: str, given: dict[str, Any], shapes: Sequence[tuple[Sequence[int], Any]]) -> list[Array]:
    """An operator as it is, by the name under which it is registered."""
    inputs = [a for a in given.values() if isinstance(a, Array)]
    arguments = {name: Slot(inputs.index(a), False) if isinstance(a, Array) else a for name, a in given.items()}
    outputs = [Array(shape, dtype) for shape, dtype in shapes]
    results: Any = [Shape(a.shape) for a in outputs]
    if OPERATORS[operator].aux:
        results = [results[:-1], results[-1]]
    run = Call(OPERATORS[operator], arguments, results if len(outputs) > 1 else results[0])
    m.instructions.append(Instruction("call", operator, inputs, outputs, {"run": run}))
    return outputs


def _convolutions(dtype: str) -> Callable[[Maker], Any]:
    def make(m: Maker) -> Any:
        made = []
        for shape, kernel, stride, before, dilation, groups in [
            ((7, 6), (3, 3), (1, 1), (1, 1), (1, 1), 1),
            ((8, 9), (3, 2), (2, 3), (1, 0), (1, 2), 2),
            ((5, 5), (1, 1), (1, 1), (0, 0), (1, 1), 1),
            ((11,), (4,), (2,), (3,), (1,), 1),
            ((4, 5, 3), (2, 2, 2), (1, 2, 1), (0, 1, 0), (1, 1, 1), 1),
        ]:
            size = [(n + 2 * b - d * (k - 1) - 1) // s + 1 for n, k, s, b, d in zip(shape, kernel, stride, before, dilation)]
            n, c, o = 3, 2 * groups, 4
            x, w, g = (
                m.argument((n, c, *shape), dtype),
                m.argument((o, c // groups, *kernel), dtype),
                m.argument((n, o, *size), dtype),
            )
            geometry = {"stride": stride, "before": before, "dilation": dilation, "groups": groups}
            bias = m.argument((o,), dtype) if groups == 1 else None
            made += _called(
                m,
                "convolution",
                {"input": x, "weight": w, "bias": bias, "size": tuple(size), **geometry},
                [((n, o, *size), dtype)],
            )
            back = m.argument((c,), dtype) if groups == 1 else None
            made += _called(
                m,
                "conv_transpose",
                {"input": g, "weight": w, "bias": back, "size": tuple(shape), **geometry},
                [(x.shape, dtype)],
            )
            made += _called(m, "conv_weight", {"input": x, "other": g, "kernel": kernel, **geometry}, [(w.shape, dtype)])
        turned = m.transpose(x, 0, 1, 4, 3, 2)
        geometry = {"stride": (1,) * 3, "before": (0,) * 3, "dilation": (1,) * 3, "groups": 1}
        given = {"input": turned, "weight": w, "bias": None, "size": (2, 4, 3), **geometry}
        (y,) = _called(m, "convolution", given, [((3, 4, 2, 4, 3), dtype)])
        return [*made, m.map("negative", y)], {"rtol": 5e-3 if dtype == "f2" else 1e-4}

    make.__name__ = f"convolutions_of_{dtype}"
    return make


for _dtype in ("f4", "f2", "f8"):
    case(_convolutions(_dtype))


@case
def pooling(m: Maker) -> Any:
    made = []
    ties = m.argument((2, 3, 8, 9), "f4", m.random.integers(0, 4, (2, 3, 8, 9)))
    for x, windows in [
        (m.argument((2, 3, 8, 9)), (Window(4, 2, 2), Window(4, 2, 2))),
        (ties, (Window(8, 3, 1, 1, 1), Window(4, 3, 2, 2, 1))),
        (m.argument((4, 11), "f8"), (Window(5, 3, 2, 1, 0),)),
        (m.argument((4, 9), "f2"), (Window(3, 3, 3),)),
    ]:
        lead = x.ndim - len(windows)
        shape = (*x.shape[:lead], *[w.count for w in windows])
        values, taps, _ = _called(
            m, "window_max", {"input": x, "windows": windows}, [(shape, x.dtype), (shape, "u1"), (shape, "u1")]
        )
        g = m.map("multiply", values, values)
        given = {"input": g, "taps": taps, "size": x.shape, "windows": windows}
        made += [values, taps, *_called(m, "from_taps", given, [(x.shape, x.dtype)])]
    return made, {"rtol": 2e-3}


@case
def calls(m: Maker) -> Any:
    """Eager operators: one that a graph can hold, and one that it cannot."""
    x = m.argument((4, 4))
    y = m.map("add", x, m.constant(1.0))
    (safe,) = _called(m, "tanh", {"input": y}, [((4, 4), "f4")])
    (bad,) = _called(m, "inv", {"input": safe, "strict": False}, [((4, 4), "f4")])
    return [m.map("multiply", bad, safe), y], {"rtol": 1e-2}


def random_case(seed: int) -> Case:
    """A program of some twenty instructions picked at random."""
    m = Maker(seed)
    pick = m.random
    known = [m.argument((4, 6)), m.argument((6,)), m.parameter((4, 6)), m.argument((3, 4, 6)), m.constant(0.5)]
    for _ in range(int(pick.integers(8, 24))):
        x = known[int(pick.integers(len(known)))]
        choice = pick.integers(10)
        if choice <= 2:
            known.append(m.map(str(pick.choice(["tanh", "square", "negative", "exp2", "sin"])), m.map("tanh", x)))
        elif choice <= 4:
            y = known[int(pick.integers(len(known)))]
            try:
                np.broadcast_shapes(x.shape, y.shape)
            except ValueError:
                continue
            known.append(m.map(str(pick.choice(["add", "multiply", "subtract", "maximum", "minimum"])), x, y))
        elif choice == 5 and x.ndim:
            axes = sorted(pick.choice(x.ndim, int(pick.integers(1, x.ndim + 1)), replace=False).tolist())
            known.append(m.reduce(str(pick.choice(["sum", "max", "min"])), x, axes, bool(pick.integers(2))))
        elif choice == 6 and x.ndim >= 2:
            known.append(m.transpose(x, *pick.permutation(x.ndim).tolist()))
        elif choice == 7 and x.ndim >= 2:
            w = m.argument((x.shape[-1], int(pick.integers(1, 7))))
            known.append(m.matmul(x, w))
        elif choice == 8 and x.ndim:
            n = x.shape[0]
            a, b = m.slice(x, (slice(0, (n + 1) // 2),)), m.slice(x, (slice(n - 1, None, -1),) if n else (slice(None),))
            known.append(m.join(0, m.map("tanh", a), b))
        elif choice == 9 and x.ndim:
            known.append(m.reshape(x, x.size))
    state = next(iter(m.state))
    same = [a for a in known if a.shape == state.shape and a is not state]
    if same:
        m.writes.append((state, same[-1]))
    count = min(4, len(known))
    results = [known[int(k)] for k in pick.choice(len(known), count, replace=False)]
    return m.case(f"random_{seed}", *results, rtol=1e-3)


def all_cases(random: int) -> Iterator[Case]:
    """Every case, and as many random ones."""
    for build in CASES.values():
        yield build()
    for seed in range(random):
        yield random_case(seed)
