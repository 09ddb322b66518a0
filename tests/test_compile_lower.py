"""Lowering: every operator's steps, forward and backward, as instructions that give what its kernels give."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest

from tinygrad_ja.backend.random import Generator
from tinygrad_ja.compiler import lower as lowering
from tinygrad_ja.compiler.lower import lower
from tinygrad_ja.compiler.marks import BackwardOf, Draw, Numbers
from tinygrad_ja.compiler.program import Array, Program, Source, interpret
from tinygrad_ja.compiler.symbolic import Emitter, Symbol, Unsupported, writing_to
from tinygrad_ja.compiler.symbolic_numpy import XP, contents
from tinygrad_ja.compiler.texts import EXPAND, OPAQUE, TEXTS
from tinygrad_ja.core.nested import mapped
from tinygrad_ja.core.operator import OPERATORS
from tinygrad_ja.core.tape import Output
from tinygrad_ja.core.tensor import Tensor
from tinygrad_ja.core.trace import Step, Trace, Value
from tinygrad_ja.core.traced import Traced
from tinygrad_ja.testing.case import Case, draw_case
from tinygrad_ja.testing.pick import NumpyChoices, Pick

NAMES = list(OPERATORS)  # before other tests register more of them


class Recording:
    """A call of an operator and its backward as steps, and what they gave."""

    def __init__(self, case: Case, inputs: list[Any], cotangents: np.random.Generator | None) -> None:
        operator = case.operator
        self.given: list[np.ndarray] = []
        self.expected: list[np.ndarray] = []
        with np.errstate(all="ignore"), Trace() as trace:
            moving = set(case.differentiable)
            tensors = [self._input(trace, x, i, i in moving) if isinstance(x, np.ndarray) else x for i, x in enumerate(inputs)]
            ys = case.outputs(tensors)
            self.steps, self.inputs = trace.steps, trace.inputs
            self.outputs = [trace.output(y) for y in ys]
            self.expected += [y.array._elements for y in ys]
            nodes = {n.number: n for n in [y.node.parents[0] if isinstance(y.node, Output) else y.node for y in ys if y.node]}
            if cotangents is not None and len(nodes) == 1 and operator.derivatives:
                self._backward(operator, nodes.popitem()[1], ys, cotangents)
            self.captured = trace.constants
        self.writes: list[Any] = []

    def _input(self, trace: Trace, x: np.ndarray, place: int, moves: bool) -> Tensor:
        self.given.append(x)
        tensor = Tensor(x)
        return trace.input(tensor.requires_grad_() if moves else tensor, f"x{place}")

    def _cotangent(self, y: Tensor, rng: np.random.Generator) -> Value:
        elements = rng.uniform(-1, 1, y.shape).astype(y.array.dtype)
        elements = np.where(np.isfinite(y.array._elements), elements, 0).astype(y.array.dtype)
        self.given.append(elements)
        self.inputs.append(Value(f"g{len(self.inputs)}", elements))
        return self.inputs[-1]

    def _backward(self, operator: Any, node: Any, ys: list[Tensor], rng: np.random.Generator) -> None:
        first = len(self.given)
        values = tuple([self._cotangent(y, rng) for y in ys])
        elements = tuple(self.given[first:])
        needs = tuple([p is not None for p in node.parents])
        shapes = tuple([None if p is None else p.shape for p in node.parents])
        saved = mapped(node.saved, lambda x: type(x) is Traced, lambda x: x._elements)
        mark = BackwardOf(operator)
        made = mark.run(saved, elements if operator.several else elements[0], needs, shapes)
        gradients = [
            None if g is None or not needed else g if g.shape == shape else operator.fit(g, shape, index)
            for index, (g, needed, shape) in enumerate(zip(made, needs, shapes))
        ]
        arguments = {
            "saved": mapped(node.saved, lambda x: type(x) is Traced, lambda x: x.entry),
            "g": values if operator.several else values[0],
            "needs": needs,
            "shapes": shapes,
        }
        step = Step(mark, arguments, Source(operator.name, "backward"))
        step.result = [None if g is None else Value(f"d{i}", np.asarray(g), step) for i, g in enumerate(gradients)]
        self.steps.append(step)
        self.outputs += [value for value in step.result if value is not None]
        self.expected += [np.asarray(g) for g in gradients if g is not None]


def cases(name: str, seeds: range, dtype: str) -> list[Case]:
    made = []
    for seed in seeds:
        case = draw_case(OPERATORS[name], Pick(NumpyChoices(np.random.default_rng(seed))))
        if any(isinstance(c, (np.dtype, type)) for c in case.constants.values()) and dtype != "float64":
            continue
        inputs, constants = case.convert(lambda a: a.astype(dtype) if a.dtype == np.float64 else a)
        case.inputs, case.constants = inputs, constants
        made.append(case)
    return made


def shuffled(x: Any, rng: np.random.Generator) -> Any:
    return rng.permutation(x.reshape(-1)).reshape(x.shape) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


@functools.cache
def failures(name: str) -> list[tuple[str, str]]:
    """Steps of an operator that became calls, and why."""
    found: list[tuple[str, str]] = []
    listener = lowering.step_failed
    lowering.step_failed = lambda step, failure: found.append((step.operator.name, str(failure)))  # type: ignore[assignment]
    try:
        for case in cases(name, range(3), "float64"):
            lower(Recording(case, case.inputs, np.random.default_rng(0)))
    finally:
        lowering.step_failed = listener
    return found


def table() -> str:
    """Which operators are lowered without a call, and why the others are not: ``print(table())``."""
    lines = [f"{name:20} {'; '.join(dict.fromkeys(why for _, why in failures(name))) or 'lowered'}" for name in OPERATORS]
    return "\n".join([*lines, f"{sum(not failures(name) for name in OPERATORS)} of {len(OPERATORS)} operators are lowered"])


def close(actual: np.ndarray, expected: np.ndarray, dtype: str) -> bool:
    tolerance = {"float64": 1e-11, "float32": 2e-5, "float16": 4e-3}[
        str(expected.dtype) if expected.dtype.kind == "f" else dtype
    ]
    if expected.dtype.kind != "f":
        return bool((actual == expected).all())
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0, where=np.isfinite(expected))))
    return np.allclose(actual, expected, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


def check(case: Case, dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    recording = Recording(case, case.inputs, np.random.default_rng(seed))
    program, numbers = lower(recording)
    program.check()
    assert not numbers
    inputs = case.inputs if case.operator.name in OPAQUE else [shuffled(x, rng) for x in case.inputs]
    other = Recording(case, inputs, np.random.default_rng(seed + 1))
    for run in (recording, other):
        if [v.shape for v in run.outputs] != [v.shape for v in recording.outputs]:
            continue
        with np.errstate(all="ignore"):
            results = interpret(program, run.given)
        for place, (result, expected, value) in enumerate(zip(results, run.expected, recording.outputs)):
            assert result.shape == value.shape and result.dtype == value.dtype, (case, place, result.shape, result.dtype)
            assert close(result, expected, dtype), f"{case}, result {place}:\n{result}\nfor\n{expected}\n{program}"
    if case.operator.name not in TEXTS and all(
        [i.kind in ("map", "view", "join", "place", "take") for i in program.instructions]
    ):
        with np.errstate(all="ignore"):
            made = case.call(functools.partial(case.operator.forward, np), case.inputs)
        made = made[0] if case.operator.aux else made
        for result, exact in zip(interpret(program, recording.given), made if case.operator.several else [made]):
            assert np.array_equal(result, exact, equal_nan=exact.dtype.kind == "f"), case


@pytest.mark.parametrize("name", NAMES)
def test_operator(name: str) -> None:
    for dtype, seeds in (("float64", range(4)), ("float32", range(4, 8)), ("float16", range(8, 9))):
        if dtype in OPERATORS[name].unsupported:
            continue
        for seed, case in zip(seeds, cases(name, seeds, dtype)):
            check(case, dtype, seed)


WANTED = """
    add sub mul div neg square sqrt pow exp log tanh sigmoid relu leaky_relu gelu silu softplus elu hardtanh clamp_between maximum where
    keep masked_fill sum mean var std prod amax max_along logsumexp softmax log_softmax cross_entropy mse_loss l1_loss huber bce bce_logits
    matmul linear einsum matmul_nt matmul_tn reshape transpose permute expand sum_to_size cat split stack unbind pad_constant index_select
    add_slices gather scatter_zeros apply_mask layer_norm rms_norm group_norm batch_norm scale_shift rnn_step rnn_cell lstm_step lstm_cell
    gru_step gru_cell cumsum erf norm flip roll tril triu diagonal alias clone cast
""".split()


@pytest.mark.parametrize("name", WANTED)
def test_operator_is_lowered(name: str) -> None:
    assert failures(name) == []


def test_most_operators_are_lowered() -> None:
    assert sum(not failures(name) for name in NAMES) >= 190


# ---- recordings by hand --------------------------------------------------------------------------


class Hand:
    """A recording that a test writes step by step."""

    def __init__(self) -> None:
        self.inputs: list[Value] = []
        self.captured: list[Value] = []
        self.steps: list[Any] = []
        self.outputs: list[Value] = []
        self.writes: list[tuple[Value, Value]] = []

    def input(self, *shape: int) -> Value:
        self.inputs.append(Value("x", np.empty(shape, np.float32)))
        return self.inputs[-1]

    def capture(self, array: np.ndarray, live: bool) -> Value:
        value = Value("c", array, array=array)
        value.live = live
        self.captured.append(value)
        return value

    def step(self, name: str, shape: tuple[int, ...], *args: Any, dtype: Any = np.float32) -> Value:
        operator = OPERATORS[name]
        defaults = {p.name: p.default for p in operator.parameters if p.default is not p.empty}
        arguments = {**defaults, **dict(zip([p.name for p in operator.parameters], args))}
        step = Step(operator, {p.name: arguments[p.name] for p in operator.parameters}, None)
        step.result = Value("v", np.empty(shape, dtype), step)
        self.steps.append(step)
        return step.result


def test_numbers_are_read_at_each_call() -> None:
    now = {"rate": 0.5}
    numbers = Numbers()
    rate = numbers.read("rate", lambda: now["rate"])
    hand = Hand()
    x = hand.input(3)
    hand.outputs = [hand.step("mul", (3,), x, rate), hand.step("add", (3,), x, 1 - rate), hand.step("mul", (3,), x, rate)]
    program, found = lower(hand)
    assert [a.dtype for a in program.numbers] == [np.float32, np.float32] and len(program.instructions) == len(found) == 2
    given = np.array([1.0, 2.0, 3.0], np.float32)
    for value in (0.5, 0.25):
        now["rate"] = value
        made = interpret(program, [given], [number.compute() for number in found])
        assert np.array_equal(made[0], given * np.float32(value)) and np.array_equal(made[1], given + np.float32(1 - value))
    assert not numbers.checks


def test_numbers_that_a_text_compares_are_checks() -> None:
    numbers = Numbers()
    power = numbers.read("power", lambda: 0.5)
    hand = Hand()
    hand.outputs = [hand.step("pow", (3,), hand.input(3), power)]
    program, found = lower(hand)
    assert [i.function for i in program.instructions] == ["sqrt"] and not found
    assert numbers.checks[f"{power.source} == 0.5"] is True and numbers.checks[f"{power.source} == 2"] is False


def _refuse(*args: Any, **kwargs: Any) -> Any:
    XP.tanh(args[0] * 2.0)
    raise Unsupported("after it has written something")


def test_numbers_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"limit": 2.0}
    limit = Numbers().read("limit", lambda: now["limit"])
    hand = Hand()
    hand.outputs = [hand.step("threshold", (2, 2), hand.input(2, 2), limit, 0.0)]
    monkeypatch.setitem(OPERATORS["threshold"].kernels, Symbol, _refuse)
    program, found = lower(hand)
    assert [i.kind for i in program.instructions] == ["call"]
    given = np.array([[1.0, 3.0], [5.0, 0.0]], np.float32)
    for value in (2.0, 4.0):
        now["limit"] = value
        (made,) = interpret(program, [given], [number.compute() for number in found])
        assert np.array_equal(made, np.where(given > value, given, 0))


def test_nothing_remains_of_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPERATORS["exp"].kernels, Symbol, _refuse)
    hand = Hand()
    x = hand.input(2)
    hand.outputs = [hand.step("exp", (2,), x), hand.step("tanh", (2,), hand.step("mul", (2,), x, 2.0))]
    program, _ = lower(hand)
    assert [(i.kind, i.function) for i in program.instructions] == [("call", "exp"), ("map", "multiply"), ("map", "tanh")]
    program.check()
    given = np.array([0.5, -1.0], np.float32)
    made = interpret(program, [given])
    assert np.array_equal(made[0], np.exp(given)) and np.array_equal(made[1], np.tanh(given * np.float32(2)))
    assert not np.shares_memory(made[0], given)


def test_views_survive_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    hand = Hand()
    x = hand.input(2, 3)
    turned = hand.step("transpose", (3, 2), x, 0, 1)  # a view, which is written when it is first needed
    hand.outputs = [hand.step("exp", (3, 2), turned), hand.step("tanh", (3, 2), turned)]
    monkeypatch.setitem(OPERATORS["exp"].kernels, Symbol, _refuse)
    program, _ = lower(hand)
    program.check()
    given = np.arange(6, dtype=np.float32).reshape(2, 3)
    made = interpret(program, [given])
    assert np.array_equal(made[0], np.exp(given.T)) and np.array_equal(made[1], np.tanh(given.T))


def test_state_is_read_and_written_constants_are_folded_into_their_users() -> None:
    hand = Hand()
    weight, mask = np.ones(3, np.float32), np.full((2, 3), 0.5, np.float32)
    x, w, c = hand.input(2, 3), hand.capture(weight, True), hand.capture(mask, False)
    y = hand.step("mul", (2, 3), hand.step("mul", (2, 3), x, w), c)
    new = hand.step("add", (3,), w, hand.step("sum", (3,), y, 0))
    hand.outputs, hand.writes = [y], [(w, new)]
    program, _ = lower(hand)
    assert next(iter(program.state.values())) is weight
    assert [value.shape for value in program.constants.values()] == [()]  # 0.5 once
    given = np.arange(6, dtype=np.float32).reshape(2, 3)
    for _ in range(2):
        before = weight.copy()
        (made,) = interpret(program, [given])
        assert np.array_equal(made, given * before * 0.5)
        assert np.allclose(weight, before + (given * before * 0.5).sum(0))


def test_a_raw_array_that_is_captured_is_not_a_constant() -> None:
    hand = Hand()
    weight = np.ones(3, np.float32)
    hand.capture(weight, True)
    hand.outputs = [hand.step("mul", (3,), hand.input(3), weight)]
    program, _ = lower(hand)
    weight[:] = 4
    assert np.array_equal(interpret(program, [np.ones(3, np.float32)])[0], np.full(3, 4, np.float32))


def test_random_numbers_are_drawn_at_each_run() -> None:
    generator = Generator().manual_seed(1)
    hand = Hand()
    draw = Step(Draw(generator, "uniform"), {"method": "uniform", "args": ((4,), np.float32)}, None)
    draw.result = Value("r", np.empty(4, np.float32), draw)
    hand.steps.append(draw)
    again = Step(draw.operator, draw.arguments, None)
    again.result = Value("r", np.empty(4, np.float32), again)
    hand.steps.append(again)
    hand.outputs = [hand.step("mul", (4,), draw.result, 2.0), again.result]
    program, _ = lower(hand)
    first, second = interpret(program)
    other = Generator().manual_seed(1)
    assert np.array_equal(first, other.uniform((4,), np.float32) * 2)
    assert np.array_equal(second, other.uniform((4,), np.float32))


def test_the_same_step_is_written_once() -> None:
    hand = Hand()
    x = hand.input(3)
    hand.outputs = [
        hand.step("exp", (3,), hand.step("mul", (3,), x, 2.0)),
        hand.step("exp", (3,), hand.step("mul", (3,), x, 2.0)),
    ]
    hand.outputs.append(hand.step("mul", (3,), x, 3.0))
    program, _ = lower(hand)
    assert [i.function for i in program.instructions] == ["multiply", "exp", "multiply"]
    assert program.results[0] is program.results[1]


def test_layers_are_lowered_as_their_steps() -> None:
    """The reference of a recurrent layer, forward and backward by the tape, needs no call."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((9, 3), (3, 4), (3, 4), (16, 3), (16, 4), (16,))]
    with Trace(expand=lambda operator, arguments: operator.name in EXPAND) as trace:
        tensors = [trace.input(Tensor(a), f"x{i}") for i, a in enumerate(arrays)]
        made = OPERATORS["lstm_layer"].public(*tensors, batch_sizes=(3, 3, 2, 1))
        trace.outputs = [trace.output(y) for y in made]
    recording = Hand()
    recording.inputs, recording.steps, recording.outputs, recording.captured = (
        trace.inputs,
        trace.steps,
        trace.outputs,
        trace.constants,
    )
    program, _ = lower(recording)
    assert not [i for i in program.instructions if i.kind == "call"]
    expected = OPERATORS["lstm_layer"].public(*map(Tensor, arrays), batch_sizes=(3, 3, 2, 1))
    for result, y in zip(interpret(program, arrays), expected):
        assert np.allclose(result, y.array, atol=1e-6)


# ---- symbols -------------------------------------------------------------------------------------


def run_symbolic(function: Any, *arrays: np.ndarray) -> Any:
    """What a text gives on symbols, interpreted; and its instructions."""
    with writing_to(Emitter()) as emitter:
        given = [Array(a.shape, a.dtype) for a in arrays]
        made = function(XP, *[contents(a) for a in given]).full
        program = Program(given, [], {}, emitter.constants, emitter.instructions, [made])
    program.check()
    return interpret(program, arrays)[0], [i.function for i in program.instructions]


X = np.arange(12, dtype=np.float32).reshape(3, 4) - 5


def in_place(xp: Any, x: Any) -> Any:
    y = x.copy()
    head = y[:2]
    head *= 2.0
    y[1:, 1:3] += 1.0
    y.T[0] -= 3.0
    y[0, 0] = 9.0
    return y + head.sum()


def in_buffers(xp: Any, x: Any) -> Any:
    made = xp.empty((4, 3, 4), dtype=x.dtype)
    made[:2] = x
    made[:1:-1] = x[None] * 2
    first, _, _, last = made
    xp.tanh(last, out=last)
    made[1] *= first
    flat = made[1].reshape(-1)
    return made + flat.reshape(3, 4)


def with_weak_numbers(xp: Any, x: Any) -> Any:
    half = xp.full((4,), 1.5, dtype=x.dtype)
    return (x**2 * 0.5 + 1) ** -1 + xp.sqrt(abs(x)) ** 2 - half + (x > 0) * 1 + xp.maximum(x, 0) // 2 + x**0.5 * (x < 0)


def with_advanced_keys(xp: Any, x: Any) -> Any:
    index = xp.argmax(x, 0)
    return x[index, np.arange(4)] + xp.take(x, index, 0)[:, 0] + x[:, [0, -1, 1, 1]][1] + x[..., None, ::-1][0, 0]


def with_joins(xp: Any, x: Any) -> Any:
    made = xp.concatenate([x, xp.zeros((0, 4), x.dtype), x[::2]], 0)
    return xp.stack([made, xp.roll(made, 3, 1), xp.flip(made, 0)], -1).sum((0, 2)) + xp.moveaxis(xp.triu(x), 0, 1).mean(-1)


@pytest.mark.parametrize("text", [in_place, in_buffers, with_weak_numbers, with_advanced_keys, with_joins])
def test_texts_of_symbols_are_those_of_numpy(text: Any) -> None:
    with np.errstate(all="ignore"):
        made, _ = run_symbolic(text, X)
        expected = text(np, X)
    assert made.dtype == expected.dtype
    assert np.allclose(made, expected, equal_nan=True, rtol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        lambda xp, x: x.__imul__(2.0),
        lambda xp, x: x[0].__iadd__(1.0),
        lambda xp, x: x.reshape(-1).__iadd__(1.0),
        lambda xp, x: 1 if x.sum() > 0 else 2,
        lambda xp, x: float(x[0, 0]),
        lambda xp, x: xp.linalg.inv(x),
        lambda xp, x: xp.sort(x),
        lambda xp, x: x[x > 0],
        lambda xp, x: x.tolist(),
    ],
)
def test_what_needs_elements_is_unsupported(text: Any) -> None:
    with writing_to(Emitter()), pytest.raises(Unsupported):
        text(XP, contents(Array((3, 4), np.float32)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (lambda xp, x: x * 1 + 0.0, []),
        (lambda xp, x: x.reshape(12).reshape(2, 6).reshape(3, 4), ["reshape", "reshape"]),
        (lambda xp, x: x.T.T, ["transpose"]),
        (lambda xp, x: x.astype(np.float32, copy=True).copy(), []),
        (lambda xp, x: xp.broadcast_to(x[:1], (3, 4)) * x, ["slice", "multiply"]),
        (lambda xp, x: x.sum(0, keepdims=True).reshape(4) * x, ["sum", "reshape", "multiply"]),
        (lambda xp, x: xp.where(x > 0, x, xp.zeros_like(x)), ["greater", "where"]),
        (lambda xp, x: xp.clip(x, -math.inf, 2.0), ["minimum"]),
    ],
)
def test_instructions_are_few(text: Any, expected: list[str]) -> None:
    made, functions = run_symbolic(text, X)
    assert functions == expected
    assert np.allclose(made, text(np, X))
