"""Operators as machine code outside of compiled programs: they return what their NumPy kernels return, in the same layout, and what is
done for one call never depends on the elements of another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.compiler.native import available
from tinygrad_ja.core.operator import OPERATORS
from tinygrad_ja.kernels import machine_code
from tinygrad_ja.optim import optimizer as optimizer_module

if not available()[0]:
    pytest.skip(available()[1], allow_module_level=True)

from tinygrad_ja.compiler.native import at_once

F = tg.nn.functional


@pytest.fixture(autouse=True)
def ways(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[Any, Any]]:
    """Every array is large, the second call is machine code already, and nothing is known at the beginning."""
    monkeypatch.setattr(machine_code, "LARGE", 1)
    monkeypatch.setattr(at_once, "SEEN", 0)
    monkeypatch.setattr(at_once, "_ways", {})
    monkeypatch.setattr(at_once, "_seen", {})
    yield at_once._ways


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def both_ways(function: Callable[..., Any], *arrays: np.ndarray, calls: int = 2) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The value and the gradients by NumPy, and by the last of some calls as machine code."""

    def run() -> list[np.ndarray]:
        tensors = [tg.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
        y = function(*tensors)
        y.backward(tg.tensor(normal(*y.shape, seed=9)))
        return [y.detach().numpy(), *[t.grad.numpy() for t in tensors if t.grad is not None]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine_code, "LARGE", math.inf)
        usual = run()
    for _ in range(calls):
        made = run()
    return usual, made


def check(function: Callable[..., Any], *arrays: np.ndarray, tolerance: float = 1e-5) -> None:
    for usual, made in zip(*both_ways(function, *arrays), strict=True):
        assert usual.shape == made.shape and usual.dtype == made.dtype and usual.strides == made.strides
        np.testing.assert_allclose(made, usual, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(usual).max())))


SHAPES = [(5, 7), (3, 4, 33), (2, 3, 4, 8), (1, 1)]

CASES: dict[str, Callable[[Any], Any]] = {
    "gelu": F.gelu,
    "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "elu": lambda x: F.elu(x, 0.7),
    "tanh": tg.tanh,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "softplus": F.softplus,
    "logsigmoid": F.logsigmoid,
    "sigmoid": tg.sigmoid,
    "erf": tg.erf,
    "erfc": tg.erfc,
    "expm1": tg.expm1,
    "log1p": lambda x: tg.log1p(x * x),
    "exp2": tg.exp2,
    "softmax": lambda x: F.softmax(x, -1),
    "softmax of columns": lambda x: F.softmax(x, 0),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "log_softmax of columns": lambda x: F.log_softmax(x, 0),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[-1:]),
    "rms_norm": lambda x: F.rms_norm(x, x.shape[-1:]),
    "batch_norm": lambda x: F.batch_norm(x, None, None, training=True) if x.numel() > x.shape[1] else x * 1.0,
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients(name: str, shape: tuple[int, ...]) -> None:
    check(CASES[name], normal(*shape) * 2)


@pytest.mark.parametrize("name", CASES)
def test_there_is_machine_code_for_it(name: str, ways: dict[Any, Any]) -> None:
    both_ways(CASES[name], normal(3, 4, 33))
    assert ways and None not in ways.values()


@pytest.mark.parametrize("name", CASES)
def test_an_array_whose_axes_lie_in_another_order(name: str) -> None:
    check(lambda x: CASES[name](x.permute(2, 0, 1)), normal(4, 33, 3))


EDGES = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    math.inf,
    -math.inf,
    math.nan,
    1e-30,
    -1e-30,
    1e30,
    -1e30,
    88.8,
    -104.0,
    6.0,
    -6.0,
    3.0,
    -3.0,
    20.0,
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "function",
    [
        F.hardswish,
        F.hardsigmoid,
        F.softplus,
        F.logsigmoid,
        F.silu,
        F.elu,
        F.mish,
        tg.sigmoid,
        tg.erf,
        tg.erfc,
        tg.expm1,
        tg.log1p,
        tg.exp2,
    ],
    ids=lambda f: f.__name__,
)
def test_edges_of_element_wise_operators(function: Any, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x = tg.tensor(np.array(EDGES, dtype))
    with np.errstate(all="ignore"):
        function(x)
        made = function(x).numpy()
        monkeypatch.setattr(machine_code, "LARGE", math.inf)
        np.testing.assert_allclose(
            made, function(x).numpy(), rtol=32 * np.finfo(dtype).eps, atol=0
        )  # NumPy is off by 4 ulp itself on some processors


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0, 1.5, -0.5])
def test_gradients_of_leaky_relu_are_those_of_numpy_to_the_last_bit(slope: float) -> None:
    x, g = tg.tensor([2.0, -2.0, 0.0, 3.0], requires_grad=True), [math.inf, 2.0, -1.0, 1 / 3]
    for _ in range(4):
        x.grad = None
        F.leaky_relu(x, slope).backward(tg.tensor(g))
        np.testing.assert_array_equal(x.grad.numpy(), np.array([math.inf, 2 * slope, -slope, 1 / 3], np.float32))


def test_kinds_that_come_once_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_once, "KEPT", 4)
    monkeypatch.setattr(at_once, "SEEN", 2)
    for width in range(1, 100):
        a = normal(2, width)
        assert at_once.in_place(_both_changed, [a, a.copy()], [a, a.copy(), a.copy()]) is None
    assert len(at_once._seen) <= 8 * 4 + 1


def test_gelu_of_large_numbers_in_double_precision() -> None:
    """The distribution function is exactly 0 or 1 there: what is left over would be multiplied by the number."""
    x = tg.tensor([-1e30, 1e30], dtype=tg.float64)
    F.gelu(x)
    assert F.gelu(x).tolist() == [0, 1e30]


def test_weights_of_norms() -> None:
    x, w, b = normal(6, 5, 12), normal(12, seed=1), normal(12, seed=2)
    check(lambda x, w, b: F.layer_norm(x, (12,), w, b), x, w, b)
    check(lambda x, w: F.rms_norm(x, (12,), w), x, w)
    x, w, b = normal(6, 4, 5, 5), normal(4, seed=1), normal(4, seed=2)
    check(lambda x, w, b: F.batch_norm(x, None, None, w, b, True), x, w, b)
    check(lambda x, w, b: F.group_norm(x, 2, w, b), x, w, b)


@pytest.mark.parametrize(("size", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (2, 1, 0)])
def test_max_pooling(size: int, stride: int, padding: int) -> None:
    check(lambda x: F.max_pool2d(x, size, stride, padding), normal(2, 3, 9, 9))


@pytest.mark.parametrize("causal", [False, True])
def test_attention_of_heads_that_were_computed_together(causal: bool, ways: dict[Any, Any]) -> None:
    """Queries, keys and values lie in one array, and the heads of the result lie as those of the queries."""

    def attend(x: Any) -> Any:
        q, k, v = [part.reshape(3, 10, 2, 8).permute(0, 2, 1, 3) for part in tg.split(x, 16, -1)]
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal).permute(0, 2, 1, 3).reshape(3, 10, 16)

    check(attend, normal(3, 10, 48))
    made = [way for key, way in ways.items() if key[0] == "attention"]
    assert len(made) == 2 and None not in made


def test_attention_goes_in_blocks_where_its_scores_are_many(monkeypatch: pytest.MonkeyPatch, ways: dict[Any, Any]) -> None:
    monkeypatch.setattr(at_once, "BETWEEN", 1000)
    q, k, v = normal(2, 64, 4), normal(2, 64, 4, seed=1), normal(2, 64, 4, seed=2)
    check(F.scaled_dot_product_attention, q, k, v)
    assert next(way for key, way in ways.items() if key[0] == "attention") is None


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(reduction: str, smoothing: float, weighted: bool) -> None:
    weight = tg.tensor(np.linspace(0.5, 1.5, 9, dtype=np.float32)) if weighted else None
    targets = np.arange(20) * 7 % 9
    check(lambda x, t: F.cross_entropy(x, t, weight, label_smoothing=smoothing, reduction=reduction), normal(20, 9), targets)
    targets[3:6] = -100
    check(lambda x, t: F.cross_entropy(x, t, weight, label_smoothing=smoothing, reduction=reduction), normal(20, 9), targets)


def test_what_is_ignored_differs_from_call_to_call() -> None:
    """NumPy's kernel keeps no weights of rows where nothing is ignored; the program always does."""
    x, all_count, some_count = normal(20, 9), np.arange(20) % 9, np.arange(20) % 9
    some_count[::2] = -100
    for targets in (all_count, some_count, all_count):
        check(F.cross_entropy, x, targets)


def test_classes_out_of_range_are_refused_in_every_call() -> None:
    x, good, bad = tg.tensor(normal(20, 9)), tg.tensor(np.arange(20) % 9), tg.tensor(np.arange(20))
    for _ in range(3):
        F.cross_entropy(x, good)
        with pytest.raises(IndexError, match="TG-I002"):
            F.cross_entropy(x, bad)


def test_classes_all_ignored_give_nan_and_no_gradient() -> None:
    for _ in range(3):
        x = tg.tensor(normal(20, 9), requires_grad=True)
        loss = F.cross_entropy(x, tg.full((20,), -100))
        loss.backward()
        assert math.isnan(loss.item()) and not x.grad.any()


def test_gradients_that_are_not_wanted() -> None:
    x, w, b = normal(6, 5, 12), normal(12, seed=1), normal(12, seed=2)
    check(lambda x: F.layer_norm(x, (12,), tg.tensor(w), tg.tensor(b)), x)
    check(lambda w: F.layer_norm(tg.tensor(x), (12,), w, tg.tensor(b)), w)
    check(lambda b: F.layer_norm(tg.tensor(x), (12,), tg.tensor(w), b), b)


def test_one_array_for_two_arguments_and_then_two() -> None:
    operator = OPERATORS["softmax_backward"]
    g, y = normal(4, 6), normal(4, 6, seed=1)
    same = [operator.kernels[np.ndarray](g, g, -1) for _ in range(3)][-1]
    np.testing.assert_allclose(same, operator.forward(np, g, g, -1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(operator.kernels[np.ndarray](g, y, -1), operator.forward(np, g, y, -1), rtol=1e-5, atol=1e-6)


def test_the_first_calls_are_numpys(monkeypatch: pytest.MonkeyPatch, ways: dict[Any, Any]) -> None:
    monkeypatch.setattr(at_once, "SEEN", 2)
    x = tg.tensor(normal(40, 10))
    for number in range(1, 5):
        F.softmax(x, -1)
        assert len(ways) == (number > 2)


def test_what_never_comes_again_takes_no_room(monkeypatch: pytest.MonkeyPatch, ways: dict[Any, Any]) -> None:
    monkeypatch.setattr(at_once, "SEEN", 2)
    monkeypatch.setattr(at_once, "KEPT", 4)
    for n in range(2, 100):
        F.softmax(tg.tensor(normal(3, n)), -1)
        assert len(at_once._seen) <= 8 * 4 + 1
    for n in range(2, 10):
        for _ in range(4):
            F.softmax(tg.tensor(normal(3, n)), -1)
    assert len(ways) == 4


def test_no_array_of_a_call_is_kept(ways: dict[Any, Any]) -> None:
    import gc
    import weakref

    array = normal(50, 20)
    alive = weakref.ref(array)
    for _ in range(3):
        OPERATORS["softmax"].kernels[np.ndarray](array, -1)
    assert len(ways) == 1
    del array
    gc.collect()
    assert alive() is None


def test_higher_orders_and_other_dtypes() -> None:
    x = normal(4, 6)
    for _ in range(3):
        t = tg.tensor(x, requires_grad=True)
        (first,) = tg.autograd.grad(F.gelu(t).sum(), t, create_graph=True)
        (second,) = tg.autograd.grad(first.sum(), t)
        density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
        np.testing.assert_allclose(second.numpy(), density * (2 - x**2), rtol=1e-4, atol=1e-5)
    wide = x.astype(np.float64)
    exact = np.exp(wide) / np.exp(wide).sum(-1, keepdims=True)
    for _ in range(3):
        np.testing.assert_allclose(F.softmax(tg.tensor(wide), -1).numpy(), exact, rtol=1e-12)
        assert F.softmax(tg.tensor(x.astype(np.float16)), -1).dtype == np.float16


def test_without_llvmlite_all_is_numpys(monkeypatch: pytest.MonkeyPatch, ways: dict[Any, Any]) -> None:
    monkeypatch.setattr(machine_code, "load_machine_code", lambda: None)
    for _ in range(3):
        F.gelu(tg.tensor(normal(4, 6)))
    assert not ways


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("reduced", ["sum", "mean"])
def test_cotangents_that_are_one_number(name: str, reduced: str) -> None:
    """All elements lie in one place: a sum over them counts each."""
    check(lambda x: getattr(CASES[name](x), reduced)() * 2.0, normal(6, 9))
    check(lambda x: (getattr(CASES[name](x), reduced)(-1) * tg.arange(6.0)).sum(), normal(6, 9))


@pytest.mark.parametrize("name", CASES)
def test_inputs_whose_elements_lie_in_one_place(name: str) -> None:
    # rows of equal numbers are normalized to their rounding, by up to 1 / sqrt(eps) = 316
    tolerance = 1e-3 if "norm" in name else 1e-5
    check(lambda x: CASES[name](x.expand(6, 9)), normal(6, 1), tolerance=tolerance)
    check(lambda x: CASES[name](x.expand(6, 9)), normal(1, 9), tolerance=tolerance)


@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (False, False, True), (True, False, True)])
def test_attention_of_which_not_all_is_differentiated(wanted: tuple[bool, ...], ways: dict[Any, Any]) -> None:
    arrays = [normal(2, 3, 8, 4, seed=seed) for seed in range(3)]

    def attend(*moving: Any) -> Any:
        given = iter(moving)
        return F.scaled_dot_product_attention(*[next(given) if w else tg.tensor(a) for w, a in zip(wanted, arrays)])

    check(attend, *[a for w, a in zip(wanted, arrays) if w])
    assert None not in ways.values()


def test_a_number_of_numpy_stays_one() -> None:
    kernel = OPERATORS["cross_entropy"].kernels[np.ndarray]
    kinds = {type(kernel(normal(20, 9), np.arange(20) % 9)[0]) for _ in range(4)}
    assert kinds == {np.float32}


# ---- texts in place ------------------------------------------------------------------------------


def _both_changed(xp: Any, a: Any, b: Any) -> tuple[Any, ...]:
    return a + b, a - b, a * b


def test_a_text_may_overwrite_what_it_reads() -> None:
    product = np.empty((4, 6), np.float32)
    for seed in range(4):
        a, b = normal(4, 6, seed=seed), normal(4, 6, seed=seed + 10)
        expected = a + b, a - b, a * b
        run = at_once.in_place(_both_changed, [a, b], [a, b, product])
        assert run is not None and run([a, b, a, b, product])
        for made, wanted in zip((a, b, product), expected):
            np.testing.assert_allclose(made, wanted, rtol=1e-6)


def _kept_and_changed(xp: Any, a: Any) -> tuple[Any, ...]:
    return a.reshape(-1), a * 2.0


def test_a_text_that_would_read_what_is_gone_is_left_to_numpy(ways: dict[Any, Any]) -> None:
    a, kept = normal(4, 6), np.empty(24, np.float32)
    assert at_once.in_place(_kept_and_changed, [a], [kept, a]) is None
    assert list(ways.values()) == [None]


@pytest.mark.parametrize("sizes", [(64, 64, 64), (64, 40, 7), (64, 64, 33, 33)])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("name", "gates", "states"), [("lstm_layer", 4, 2), ("gru_layer", 3, 1)])
def test_the_gates_of_a_recurrent_layer(
    name: str,
    gates: int,
    states: int,
    sizes: tuple[int, ...],
    reverse: bool,
    ways: dict[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine_code, "FEW", 100)
    width, features = 24, 5
    arrays = [normal(sum(sizes), features), *[normal(sizes[0], width, seed=1 + k) for k in range(states)]]
    arrays += [normal(gates * width, features, seed=3), normal(gates * width, width, seed=4) * 0.2]
    arrays += [normal(gates * width, seed=5), normal(gates * width, seed=6)]

    def layer(*tensors: Any) -> Any:
        return tg.cat(OPERATORS[name].public(*tensors, batch_sizes=sizes, reverse=reverse))

    def numpys(*tensors: Any) -> Any:
        monkeypatch.setattr(machine_code, "FEW", math.inf if math.inf == machine_code.LARGE else 100)
        return layer(*tensors)

    for usual, made in zip(*both_ways(numpys, *arrays), strict=True):
        np.testing.assert_allclose(made, usual, rtol=1e-4, atol=1e-5 * float(np.abs(usual).max()))
    assert len([key for key in ways if callable(key[0])]) >= 2 and None not in ways.values()


# ---- optimizers ----------------------------------------------------------------------------------

RULES: dict[str, tuple[Any, dict[str, Any]]] = {
    "sgd": (tg.optim.SGD, {"lr": 0.1}),
    "sgd upwards": (tg.optim.SGD, {"lr": 0.1, "maximize": True}),
    "sgd with momentum": (tg.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "sgd with momentum, dampened and upwards": (
        tg.optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "maximize": True},
    ),
    "sgd by nesterov": (tg.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "sgd with decay": (tg.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    "adam": (tg.optim.Adam, {"lr": 0.1}),
    "adam upwards": (tg.optim.Adam, {"lr": 0.1, "maximize": True}),
    "adam with decay": (tg.optim.Adam, {"lr": 0.1, "weight_decay": 0.1}),
    "amsgrad": (tg.optim.Adam, {"lr": 0.1, "amsgrad": True}),
    "adamw": (tg.optim.AdamW, {"lr": 0.1, "weight_decay": 0.1}),
    "adam upwards with decay": (tg.optim.Adam, {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    "plain sgd with decay": (tg.optim.SGD, {"lr": 0.1, "weight_decay": 0.1}),
    "sgd upwards with decay": (tg.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "maximize": True}),
    "adagrad": (tg.optim.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.1}),
    "adagrad upwards with decay": (tg.optim.Adagrad, {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    "rmsprop": (tg.optim.RMSprop, {"lr": 0.1}),
    "rmsprop with decay": (tg.optim.RMSprop, {"lr": 0.1, "weight_decay": 0.1}),
    "rmsprop, centered": (tg.optim.RMSprop, {"lr": 0.1, "centered": True}),
    "rmsprop with momentum": (tg.optim.RMSprop, {"lr": 0.1, "momentum": 0.9}),
}


@pytest.mark.parametrize("name", RULES)
def test_steps_of_optimizers_in_one_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, options = RULES[name]

    def run(few: float) -> tuple[np.ndarray, list[np.ndarray]]:
        monkeypatch.setattr(machine_code, "FEW", few)
        w = tg.tensor(normal(40, 50), requires_grad=True)
        optimizer = rule([w], **options)
        for seed in range(6):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + seed)
            w.grad = tg.tensor(normal(40, 50, seed=seed + 1))
            before = w.grad.numpy().copy()
            optimizer.step()
            np.testing.assert_array_equal(w.grad.numpy(), before)
        return w.detach().numpy(), [v for v in optimizer.state[w].values() if isinstance(v, np.ndarray)]

    monkeypatch.setattr(optimizer_module, "ONE_PASS", 1)
    usual, state = run(math.inf)
    made, own = run(1)
    for one, other in zip([usual, *state], [made, *own], strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


def test_a_gradient_in_the_memory_of_its_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer_module, "ONE_PASS", 1)
    found = []
    for few in (math.inf, 1):
        monkeypatch.setattr(machine_code, "FEW", few)
        w = tg.tensor(normal(30, 30), requires_grad=True)
        optimizer = tg.optim.SGD([w], lr=0.1)
        for _ in range(4):
            w.grad = tg.Tensor(w.array.T)
            optimizer.step()
        found.append(w.detach().numpy())
    np.testing.assert_array_equal(*found)


def test_momentum_that_is_given_up_and_states_of_other_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer_module, "ONE_PASS", 1)

    class Counting(tg.optim.SGD):
        def update(self, p: Any, g: Any, group: dict[str, Any], state: dict[str, Any]) -> None:
            state["count"] = state.get("count", 0) + 1
            super().update(p, g, group, state)

    found = []
    for few in (math.inf, 1):
        monkeypatch.setattr(machine_code, "FEW", few)
        w = tg.tensor(normal(30, 30), requires_grad=True)
        optimizer = Counting([w], lr=0.1, momentum=0.9, dampening=0.5)
        for step in range(6):
            optimizer.param_groups[0]["momentum"] = 0.9 if step < 3 else 0
            w.grad = tg.tensor(normal(30, 30, seed=step))
            optimizer.step()
        found.append((w.detach().numpy(), optimizer.state[w]["momentum_buffer"]))
    for one, other in zip(*found):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


IN_ONE_PASS = [
    "sgd",
    "sgd with momentum",
    "sgd with decay",
    "adam",
    "adam with decay",
    "adamw",
    "adagrad",
    "rmsprop",
    "rmsprop with decay",
]


@pytest.mark.parametrize("name", IN_ONE_PASS)
def test_there_is_one_pass_for_them(name: str, monkeypatch: pytest.MonkeyPatch, ways: dict[Any, Any]) -> None:
    monkeypatch.setattr(optimizer_module, "ONE_PASS", 1)
    rule, options = RULES[name]
    w = tg.tensor(normal(40, 50), requires_grad=True)
    optimizer = rule([w], **options)
    for _ in range(3):
        w.grad = tg.tensor(normal(40, 50, seed=1))
        optimizer.step()
    assert [way is not None for way in ways.values()] == [True]
