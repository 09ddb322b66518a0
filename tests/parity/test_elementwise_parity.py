"""Element-wise operators give PyTorch's values, gradients, second derivatives and dtypes, at usual and at special values."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.ops import activation

torch = pytest.importorskip("torch")

WIDE, UNIT, POSITIVE, ABOVE_ONE = (-3.0, 3.0), (-0.95, 0.95), (0.2, 4.0), (1.1, 4.0)


class Entry(NamedTuple):
    """A function, the range of each Tensor argument, the arguments beside them, and what is compared: special values or not, and how
    closely in float64 (PyTorch keeps some constants in float32)."""

    name: str
    ranges: tuple[tuple[float, float], ...] = (WIDE,)
    after: tuple[Any, ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012
    before: tuple[Any, ...] = ()
    special: bool = True
    close: float = 1e-11


def _unary(names: str, low_high: tuple[float, float], **how: Any) -> list[Entry]:
    return [Entry(name, (low_high,), **how) for name in names.split()]


DIFFERENTIABLE = [
    *_unary("neg positive abs sgn square sin cos sinh cosh tanh exp exp2 expm1 atan asinh deg2rad rad2deg sigmoid", WIDE),
    *_unary("erf erfc sinc i0 ceil floor round trunc frac nan_to_num sign", WIDE),
    *_unary("sqrt rsqrt reciprocal log log2 log10 lgamma", POSITIVE),
    *_unary("digamma", POSITIVE, special=False, close=1e-7),
    *_unary("asin acos atanh erfinv log1p tan", UNIT),
    *_unary("acosh", ABOVE_ONE),
    *_unary("relu relu6 leaky_relu elu selu celu mish softplus softsign softshrink hardshrink", (-5.0, 5.0)),
    *_unary("tanhshrink hardtanh hardswish logsigmoid", (-5.0, 5.0)),
    *_unary("gelu silu", (-5.0, 5.0), special=False),
    *_unary("hardsigmoid", (-5.0, 5.0), special=False, close=1e-7),
    Entry("round", options={"decimals": 2}),
    Entry("nan_to_num", options={"nan": 1.0, "posinf": 2.0, "neginf": -3.0}),
    Entry("logit", ((0.05, 0.95),)),
    Entry("logit", ((0.05, 0.95),), options={"eps": 0.2}),
    Entry("polygamma", (POSITIVE,), before=(1,), special=False, close=1e-7),
    Entry("polygamma", (POSITIVE,), before=(2,), special=False, close=1e-8),
    Entry("pow", after=(2,)),
    Entry("pow", after=(3,)),
    Entry("pow", after=(1,)),
    Entry("pow", after=(0,)),
    Entry("pow", (POSITIVE,), after=(2.5,)),
    Entry("pow", (POSITIVE,), after=(0.5,), special=False),
    Entry("pow", (POSITIVE,), after=(-0.5,), special=False),
    Entry("pow", (POSITIVE,), after=(-1,)),
    Entry("pow", before=(2,)),
    Entry("float_power", (POSITIVE,), after=(1.5,)),
    Entry("clamp", after=(-1, 1)),
    Entry("clamp", options={"min": 0.5}),
    Entry("clamp", options={"max": 0.5}),
    Entry("clamp_min", after=(0,)),
    Entry("clamp_max", after=(0,)),
    Entry("remainder", after=(1.5,)),
    Entry("fmod", after=(1.5,)),
    Entry("rsub", after=(2,)),
    Entry("leaky_relu", after=(0.3,)),
    Entry("leaky_relu", after=(1.5,)),
    Entry("elu", after=(0.7,)),
    Entry("celu", after=(0.7,), special=False, close=1e-6),
    Entry("gelu", options={"approximate": "tanh"}),
    Entry("softplus", after=(2.0, 3.0), special=False),
    Entry("softshrink", after=(0.9,)),
    Entry("hardshrink", after=(0.9,)),
    Entry("hardtanh", after=(-0.5, 2.0)),
    Entry("threshold", after=(0.5, -1.0)),
    Entry("add", (WIDE, WIDE)),
    Entry("add", (WIDE, WIDE), options={"alpha": 2}),
    Entry("sub", (WIDE, WIDE)),
    Entry("sub", (WIDE, WIDE), options={"alpha": 0.5}),
    Entry("rsub", (WIDE, WIDE), options={"alpha": 2}),
    Entry("mul", (WIDE, WIDE)),
    Entry("div", (WIDE, POSITIVE)),
    Entry("true_divide", (WIDE, POSITIVE)),
    Entry("div", (WIDE, POSITIVE), options={"rounding_mode": "floor"}),
    Entry("div", (WIDE, POSITIVE), options={"rounding_mode": "trunc"}),
    Entry("remainder", (WIDE, POSITIVE)),
    Entry("fmod", (WIDE, POSITIVE)),
    Entry("pow", (POSITIVE, WIDE)),
    Entry("float_power", (POSITIVE, WIDE)),
    Entry("maximum", (WIDE, WIDE)),
    Entry("minimum", (WIDE, WIDE)),
    Entry("fmax", (WIDE, WIDE)),
    Entry("fmin", (WIDE, WIDE)),
    Entry("hypot", (POSITIVE, POSITIVE)),
    Entry("atan2", (POSITIVE, WIDE)),
    Entry("copysign", (WIDE, WIDE)),
    Entry("copysign", after=(-1.0,)),
    Entry("logaddexp", (WIDE, WIDE)),
    Entry("logaddexp2", (WIDE, WIDE)),
    Entry("xlogy", (WIDE, POSITIVE)),
    Entry("xlogy", after=(2.0,)),
    Entry("ldexp", (WIDE, WIDE)),
    Entry("lerp", (WIDE, WIDE), after=(0.3,)),
    Entry("lerp", (WIDE, WIDE), after=(0.7,)),
    Entry("lerp", (WIDE, WIDE, (0.0, 1.0))),
    Entry("addcmul", (WIDE, WIDE, WIDE), options={"value": 0.5}),
    Entry("addcdiv", (WIDE, WIDE, POSITIVE), options={"value": 2}),
    Entry("clamp", (WIDE, (-2.0, 0.0), (0.0, 2.0))),
]


def ours_of(name: str) -> Any:
    return getattr(activation if name in activation.__all__ else tg, name)


def theirs_of(name: str) -> Any:
    return getattr(torch.nn.functional, name) if name in activation.__all__ else getattr(torch, name)


def _id(entry: Entry) -> str:
    extra = [*map(str, entry.before), *map(str, entry.after), *(f"{k}={v}" for k, v in entry.options.items())]
    return f"{entry.name}{len(entry.ranges)}({','.join(extra)})"


def _arrays(entry: Entry, dtype: str) -> list[np.ndarray]:
    rng = np.random.default_rng(len(entry.name))
    shapes = (
        [(3, 4), (4,), (2, 1, 4)] if entry.name != "clamp" else [(3, 4)] * 3
    )  # PyTorch cannot broadcast the bounds' gradients
    return [rng.uniform(low, high, shape).astype(dtype) for (low, high), shape in zip(entry.ranges, shapes)]


def _both(entry: Entry, arrays: list[np.ndarray]) -> tuple[Any, list[Any], Any, list[Any]]:
    mine = [tg.tensor(a, requires_grad=True) for a in arrays]
    other = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = ours_of(entry.name)(*entry.before, *mine, *entry.after, **entry.options)
    z = theirs_of(entry.name)(*entry.before, *other, *entry.after, **entry.options)
    return y, mine, z, other


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("entry", DIFFERENTIABLE, ids=_id)
def test_value_gradient_and_second_derivative(entry: Entry, dtype: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # no warning anywhere inside of the domain
        y, mine, z, other = _both(entry, _arrays(entry, dtype))
        assert _dtype(y) == _dtype(z)
        tolerance = {"rtol": 3e-5, "atol": 3e-6} if dtype == "float32" else {"rtol": entry.close, "atol": entry.close}
        np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), **tolerance)

        weight = np.linspace(0.5, 1.5, y.numel()).reshape(y.shape).astype(y.dtype)
        gs = tg.grad(y, mine, tg.tensor(weight), create_graph=True)
        hs = torch.autograd.grad(z, other, torch.tensor(weight), create_graph=True, materialize_grads=True)
        first = tg.grad(y, mine, tg.tensor(weight), retain_graph=True)  # on arrays, without a graph
        for g, f, h, x in zip(gs, first, hs, mine):
            assert g.dtype == f.dtype == x.dtype
            np.testing.assert_allclose(f.numpy(), h.numpy(force=True), **tolerance)
            np.testing.assert_allclose(g.detach().numpy(), h.detach().numpy(force=True), **tolerance)

        if dtype == "float32" or entry.name == "hardsigmoid" or not any(h.requires_grad for h in hs):
            return
        total, sum_of = sum((g * g).sum() for g in gs), sum((h * h).sum() for h in hs if h.requires_grad)
        if not total.requires_grad:
            assert all(float(s.abs().sum()) == 0 for s in _second(sum_of, other))
            return
        for s, t in zip(tg.grad(total, mine, allow_unused=True), _second(sum_of, other)):
            s = np.zeros(t.shape) if s is None else s.numpy()
            np.testing.assert_allclose(s, t.numpy(force=True), rtol=100 * entry.close, atol=100 * entry.close)


def _second(total: Any, inputs: list[Any]) -> list[Any]:
    return torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True)


# Here a gradient at NaN or at an infinity is left open: PyTorch's is NaN or not by the accident of its formula.
ONLY_FINITE = {*activation.__all__, "abs", "sgn", "sign", "copysign", "logit"}
SPECIAL = np.array([-math.inf, -3.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 3.0, 6.0, math.inf, math.nan])


@pytest.mark.parametrize("entry", [e for e in DIFFERENTIABLE if e.special and len(e.ranges) < 3], ids=_id)
def test_special_values_and_their_gradients(entry: Entry) -> None:
    arrays = [SPECIAL] if len(entry.ranges) == 1 else [np.repeat(SPECIAL, SPECIAL.size), np.tile(SPECIAL, SPECIAL.size)]
    with np.errstate(all="ignore"):
        y, mine, z, other = _both(entry, arrays)
        usual = slice(None) if entry.name not in ("sign", "sgn") else slice(-1)  # NaN stays NaN in NumPy
        np.testing.assert_allclose(y.detach().numpy()[usual], z.detach().numpy()[usual], rtol=1e-11, atol=1e-12)
        gs = tg.grad(y, mine, tg.ones_like(y))
        hs = torch.autograd.grad(z, other, torch.ones_like(z), materialize_grads=True)
    kept = np.ones(y.shape, bool)
    if entry.name in ONLY_FINITE:
        kept = np.isfinite([*arrays, y.detach().numpy()]).all(0)
    for g, h in zip(gs, hs):
        np.testing.assert_allclose(g.numpy()[kept], h.numpy(force=True)[kept], rtol=1e-10, atol=1e-12)


# ---- dtypes --------------------------------------------------------------------------------------

DTYPES = ["bool", "uint8", "int8", "int32", "int64", "float16", "float32", "float64"]
OF_ANY_DTYPE = """abs square sqrt rsqrt reciprocal exp exp2 expm1 log1p sin cos tan atan sinh cosh tanh asinh sigmoid erf erfc sinc i0
ceil floor round trunc nan_to_num deg2rad rad2deg sign neg positive digamma lgamma isnan isinf isfinite isposinf isneginf signbit
logical_not bitwise_not""".split()
OF_TWO = """add sub mul div true_divide floor_divide remainder fmod pow float_power maximum minimum fmax fmin hypot atan2 copysign
logaddexp xlogy eq ne lt le gt ge logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor clamp_min clamp_max rsub
ldexp""".split()
WITH_NUMBER = """add sub mul div true_divide floor_divide remainder fmod pow float_power eq ne lt le gt ge rsub clamp clamp_min
clamp_max xlogy copysign""".split()


def _example(dtype: str) -> np.ndarray:
    return np.array([True, False, True]) if dtype == "bool" else np.array([3, 1, 2]).astype(dtype)


# PyTorch computes the powers of bools in other dtypes than NumPy, and differently for each way to write them.
LEFT_OUT = ("square of bool", "pow of bool and True")


def _compare(ours: Any, theirs: Any, what: str) -> None:
    """The same dtype and values wherever PyTorch takes the arguments at all."""
    if what in LEFT_OUT:
        return
    try:
        expected = theirs()
    except (RuntimeError, TypeError):
        return
    with np.errstate(all="ignore"):
        actual = ours()
    assert _dtype(actual) == _dtype(expected), what
    tolerance = {"float16": 2e-3, "float32": 1e-5}.get(_dtype(actual), 1e-11)
    np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=tolerance, atol=tolerance, err_msg=what)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_of_one_operand(dtype: str) -> None:
    a = _example(dtype)
    for name in OF_ANY_DTYPE:
        _compare(lambda: getattr(tg, name)(tg.tensor(a)), lambda: getattr(torch, name)(torch.tensor(a)), f"{name} of {dtype}")  # noqa: B023


@pytest.mark.parametrize("second", DTYPES)
@pytest.mark.parametrize("first", DTYPES)
def test_dtypes_of_two_operands(first: str, second: str) -> None:
    a, b = _example(first), np.array([2, 1, 3]).astype(second)
    for name in OF_TWO:
        f, h = getattr(tg, name), getattr(torch, name)
        what = f"{name} of {first} and {second}"
        _compare(lambda: f(tg.tensor(a), tg.tensor(b)), lambda: h(torch.tensor(a), torch.tensor(b)), what)  # noqa: B023
        c = b[0]  # a 0-d tensor counts less than one with dimensions
        _compare(lambda: f(tg.tensor(a), tg.tensor(c)), lambda: h(torch.tensor(a), torch.tensor(c)), what + " 0-d")  # noqa: B023


@pytest.mark.parametrize("number", [2, 2.5, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_beside_a_number(dtype: str, number: Any) -> None:
    a = _example(dtype)
    for name in WITH_NUMBER:
        f, h = getattr(tg, name), getattr(torch, name)
        _compare(lambda: f(tg.tensor(a), number), lambda: h(torch.tensor(a), number), f"{name} of {dtype} and {number}")  # noqa: B023


@pytest.mark.parametrize("number", [2, 2.5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_python_operators(dtype: str, number: Any) -> None:
    a = _example(dtype)
    texts = "x + n, n + x, x - n, n - x, x * n, n * x, x / n, n / x, x // n, n // x, x % n, n % x, x ** n, n ** x, -x, +x, abs(x), ~x"
    texts += (
        ", x == n, x != n, x < n, x <= n, x > n, x >= n, n < x, n >= x, x & n, n & x, x | n, x ^ n, x & x, x | x, x ^ x, x ** x"
    )
    for text in texts.split(", "):
        _compare(
            lambda: eval(text, {"x": tg.tensor(a), "n": number}),  # noqa: B023
            lambda: eval(text, {"x": torch.tensor(a), "n": number}),  # noqa: B023
            f"{text} for {dtype}, n = {number}",
        )


# ---- what does not fit the tables ----------------------------------------------------------------


def test_division_of_integers_rounds_as_pytorch_does() -> None:
    a, b = np.repeat([-7, -6, 0, 6, 7], 4), np.tile([-3, -2, 2, 3], 5)
    for name in ("floor_divide", "remainder", "fmod"):
        expected = getattr(torch, name)(torch.tensor(a), torch.tensor(b)).numpy()
        np.testing.assert_array_equal(getattr(tg, name)(tg.tensor(a), tg.tensor(b)).numpy(), expected)
    for mode in ("trunc", "floor"):
        expected = torch.div(torch.tensor(a), torch.tensor(b), rounding_mode=mode).numpy()
        np.testing.assert_array_equal(tg.div(tg.tensor(a), tg.tensor(b), rounding_mode=mode).numpy(), expected)


@pytest.mark.parametrize("pair", [(1.0, 2.5), (1, 2), (1, 2.5), (True, False)])
def test_where_of_two_numbers(pair: tuple[Any, Any]) -> None:
    mask = np.array([True, False])
    _compare(lambda: tg.where(tg.tensor(mask), *pair), lambda: torch.where(torch.tensor(mask), *pair), str(pair))


def test_where_promotes_and_sends_the_gradient_to_the_chosen() -> None:
    mask, a, b = np.array([[True], [False]]), np.array([1.0, 2.0, 3.0], "f4"), np.array([[4.0], [5.0]])
    for case in (lambda t, w: w(mask_of(t), t.tensor(a), t.tensor(b)), lambda t, w: w(mask_of(t), t.tensor(a), 7)):

        def mask_of(t: Any) -> Any:
            return t.tensor(mask)

        _compare(lambda: case(tg, tg.where), lambda: case(torch, torch.where), "where")  # noqa: B023
    x, y = tg.tensor(a, requires_grad=True), tg.tensor(b.astype("f4"), requires_grad=True)
    tg.where(tg.tensor(mask), x, y).sum().backward()
    s, t = torch.tensor(a, requires_grad=True), torch.tensor(b.astype("f4"), requires_grad=True)
    torch.where(torch.tensor(mask), s, t).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), s.grad.numpy())
    np.testing.assert_array_equal(y.grad.numpy(), t.grad.numpy())


def test_isin_isclose_heaviside() -> None:
    a, b = np.array([1.0, 2.0, math.nan, math.inf, 0.0]), np.array([1.0 + 1e-9, 2.1, math.nan, math.inf, 0.0])
    for equal_nan in (False, True):
        _compare(
            lambda: tg.isclose(tg.tensor(a), tg.tensor(b), equal_nan=equal_nan),  # noqa: B023
            lambda: torch.isclose(torch.tensor(a), torch.tensor(b), equal_nan=equal_nan),  # noqa: B023
            "isclose",
        )
    for invert in (False, True):
        _compare(
            lambda: tg.isin(tg.tensor(a), tg.tensor(b), invert=invert),  # noqa: B023
            lambda: torch.isin(torch.tensor(a), torch.tensor(b), invert=invert),  # noqa: B023
            "isin",
        )
    _compare(lambda: tg.isin(tg.tensor([1, 2]), 2), lambda: torch.isin(torch.tensor([1, 2]), 2), "isin of a number")
    _compare(
        lambda: tg.heaviside(tg.tensor(a), tg.tensor(b)), lambda: torch.heaviside(torch.tensor(a), torch.tensor(b)), "heaviside"
    )


@pytest.mark.parametrize("shapes", [((5,), (1,)), ((2, 3), (3,)), ((2, 3), (1,)), ((2, 3, 4, 2), (3,)), ((), (1,))])
def test_prelu(shapes: tuple[Any, Any]) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) for shape in shapes]
    y, mine, z, other = _both(Entry("prelu"), arrays)
    y.sum().backward()
    z.sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy())
    for a, b in zip(mine, other):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy())


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_glu(dim: int) -> None:
    y, (x,), z, (t,) = _both(Entry("glu", after=(dim,)), [np.random.default_rng(0).normal(size=(4, 6))])
    y.sum().backward()
    z.sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy())
    np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy())
