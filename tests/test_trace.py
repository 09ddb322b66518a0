"""Traces: what is recorded, what is a constant, and what is refused rather than recorded wrongly."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from test_strict_functions import CALLS, INPUTS, tensors

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the device
from tinygrad_ja import nn
from tinygrad_ja.core.operator import OPERATORS, Array, primitive
from tinygrad_ja.core.trace import Trace
from tinygrad_ja.core.traced import Traced
from tinygrad_ja.errors import DeviceError, UsageError
from tinygrad_ja.nn import functional as F


def names(trace: Trace) -> list[str]:
    return [step.operator.name for step in trace.steps]


def values(x: tg.Tensor) -> np.ndarray:
    """The elements of a result, traced or constant, for a test to look at."""
    return x.array._elements if type(x.array) is Traced else x.array


# ---- what is recorded ----------------------------------------------------------------------------


def test_operators_are_recorded_in_order_with_arguments_by_name() -> None:
    with Trace() as trace:
        x = trace.input(tg.ones(2, 3), "x")
        y = trace.output(tg.softmax(x * 2, 1).sum(0))
    assert names(trace) == ["mul", "softmax", "sum"]
    mul, softmax, _ = trace.steps
    assert mul.arguments == {"input": trace.inputs[0], "other": 2}
    assert softmax.arguments == {"input": mul.outputs[0], "dim": 1}
    assert y.shape == (3,) and y.dtype == tg.float32 and trace.outputs == [y]


def test_the_values_are_those_of_an_ordinary_run() -> None:
    x = tg.randn(4, 3)
    model = nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.LayerNorm(5)).eval()
    with tg.no_grad(), Trace() as trace:
        made = model(trace.input(x, "x"))
    with tg.no_grad():
        np.testing.assert_array_equal(values(made), model(x).numpy())


def test_shape_dtype_and_length_are_constants_of_the_program() -> None:
    with Trace() as trace:
        x = trace.input(tg.ones(2, 3), "x")
        y = x.reshape(x.shape[1], -1) / len(x) if x.dtype == tg.float32 and x.device == "cpu" else x
    assert y.shape == (3, 2) and names(trace) == ["reshape", "div"]


def test_an_array_that_meets_a_traced_one_is_one_constant_with_its_name() -> None:
    weight, mask = tg.ones(3), tg.tensor([True, False, True])
    with Trace({"w": weight}) as trace:
        x = trace.input(tg.ones(2, 3), "x")
        trace.output(tg.where(mask, weight * x, x) + weight)  # the weight once first and once second
    assert [(value.name, value.shape) for value in trace.constants] == [("w", (3,)), ("c1", (3,))]
    assert trace.constants[0].array is weight.array
    assert names(trace) == ["mul", "where", "add"]


def test_what_depends_on_no_input_is_computed_and_becomes_a_constant() -> None:
    weight = tg.tensor([[1.0, 2.0]])
    with Trace() as trace:
        x = trace.input(tg.ones(1, 2), "x")
        trace.output(x @ (weight.exp() * 2).T)
        trace.output(weight * 3)
    assert names(trace) == ["matmul"]
    assert trace.outputs[1].array.tolist() == [[3.0, 6.0]]


def test_dtypes_are_promoted_by_recorded_casts() -> None:
    with Trace() as trace:
        x = trace.input(tg.tensor([1, 2]), "x")
        y = x / 2 + tg.ones(2, dtype=tg.float64)
    assert y.dtype == tg.float64 and names(trace).count("cast") == 2


def test_in_place_operators_and_assignments_are_values_in_the_trace() -> None:
    with tg.no_grad(), Trace() as trace:
        x = trace.input(tg.zeros(3), "x")
        y = x + 0
        before = y
        y += 1
        y[1] = 7.0
        y[2:] = x[:1]
    assert values(y).tolist() == [1.0, 7.0, 0.0] and before is y
    assert names(trace) == ["add", "add", "index_put", "getitem", "index_put"]


def test_an_untraced_tensor_takes_a_traced_value() -> None:
    state = tg.zeros(3)
    with tg.no_grad(), Trace() as trace:
        x = trace.input(tg.ones(2), "x")
        state[:2] = x * 5
        state += 1
        trace.output(state)
        assert values(state).tolist() == [6.0, 6.0, 1.0]
    assert names(trace) == ["mul", "index_put", "add"]
    assert state.tolist() == [0.0, 0.0, 0.0]  # afterwards it is as before


def test_derivatives_are_recorded_like_everything_else() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    x = tg.randn(5, 3)
    with Trace(dict(model.named_parameters())) as trace:
        loss = (model(trace.input(x, "x")) ** 2).mean()
        gradients = tg.grad(loss, list(model.parameters()))
    expected = tg.grad((model(x) ** 2).mean(), list(model.parameters()))
    for g, e in zip(gradients, expected):
        np.testing.assert_allclose(values(g), e.numpy(), rtol=1e-6)
    assert {"0.weight", "0.bias", "2.weight"} <= {value.name for value in trace.constants}
    assert "matmul_tn" in names(trace)


def test_a_fused_operator_is_recorded_as_its_reference_where_asked() -> None:
    x = tg.randn(2, 6)
    with tg.no_grad(), Trace(expand=lambda operator, arguments: operator.name == "layer_norm") as trace:
        y = F.layer_norm(trace.input(x, "x"), 6)
    assert "layer_norm" not in names(trace) and "mean" in names(trace)
    np.testing.assert_allclose(values(y), F.layer_norm(x, 6).numpy(), rtol=1e-5, atol=1e-6)


def test_notes_say_where_a_step_was_recorded() -> None:
    here = iter(range(9))
    with Trace(note=lambda operator: next(here)) as trace:
        x = trace.input(tg.ones(1), "x")
        trace.output(x.exp() + 1)
    assert [step.note for step in trace.steps] == [0, 1]


def test_an_operator_of_ones_own_is_recorded() -> None:
    @primitive(None, domain=(-1, 1))
    def _traced_twice(xp, input: Array):
        return input + input

    try:
        with Trace() as trace:
            assert values(_traced_twice(trace.input(tg.ones(2), "x"))).tolist() == [2.0, 2.0]
        assert names(trace) == ["traced_twice"]
    finally:
        del OPERATORS["traced_twice"]


REFUSED = {
    "allclose": "its result is a Python bool",
    "equal": "its result is a Python bool",
    "bincount": "the largest element is the size of the result",
    "histc": "the counts are those of bincount",
    "unique": "the number of values is the size of the result",
    "unique_consecutive": "the number of runs is the size of the result",
    "multinomial": "weights that allow no draw are refused",
    "index_reduce": "products are sorted by place",
    "scatter_reduce": "products are sorted by place",
    "embedding": "max_norm changes the table",
    "matrix_exp": "the number of squarings depends on the norm",
    "nms": "each box depends on those that stay",
    "batched_nms": "each box depends on those that stay",
    "roi_align": "the places are computed on the host",
    "roi_pool": "the places are computed on the host",
}
"""Functions that look at values, and why."""


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"empty", "empty_like"}))
def test_every_function_is_traced_or_refused(name: str) -> None:
    given = {key: tg.tensor(a, dtype=a.dtype) for key, a in INPUTS.items()}
    with np.errstate(all="ignore"), tg.no_grad():
        tg.manual_seed(0)
        expected = [] if name in REFUSED else tensors(CALLS[name](SimpleNamespace(device="cpu", **given)))
        tg.manual_seed(0)
        with Trace() as trace:
            traced = {key: trace.input(x, key) for key, x in given.items()}
            if name in REFUSED:
                with pytest.raises((UsageError, tg.errors.GradientError)):
                    CALLS[name](SimpleNamespace(device="cpu", **traced))
                return
            made = tensors(CALLS[name](SimpleNamespace(device="cpu", **traced)))
    assert len(made) == len(expected)
    for y, e in zip(made, expected):
        assert y.dtype == e.dtype
        np.testing.assert_allclose(values(y), e.numpy(), rtol=1e-6)


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "shown"),
    [
        (lambda x: float(x.sum()), "float"),
        (lambda x: int(x.sum()), "int"),
        (lambda x: x.sum().item(), "item"),
        (lambda x: x.tolist(), "tolist"),
        (lambda x: x.numpy(), "numpy"),
        (lambda x: np.asarray(x), "numpy"),
        (lambda x: bool((x > 0).all()), "if x:"),
        (lambda x: 1 if (x > 0).all() else 0, "if x:"),
        (lambda x: 3.0 in x, "if x:"),
        (lambda x: np.linalg.norm(x.array), "np.norm"),
        (lambda x: np.cbrt(x.array), "np.cbrt"),
        (lambda x: tg.array_module(x.array).linalg.norm(x.array), "xp.linalg.norm"),
        (lambda x: x.array.argpartition(0), "x.array.argpartition"),
        (lambda x: [10, 20][x.sum().long()], "index"),
        (lambda x: f"{x.sum():.2f}", "item"),
        (lambda x: x.array.__setitem__(0, 1.0), "x.array"),
    ],
)
def test_reading_a_value_shows_the_line_and_the_fix(read, shown: str) -> None:
    with Trace() as trace, pytest.raises(UsageError, match="TG-U016") as failure:
        read(trace.input(tg.ones(2), "x"))
    message = str(failure.value)
    assert shown in message and "test_trace.py" in message and "Fix:" in message


def test_a_list_of_values_cannot_slip_in() -> None:
    with Trace() as trace, pytest.raises(UsageError, match="TG-U016"):
        tg.tensor(list(trace.input(tg.ones(2), "x")))


def test_a_constant_that_changes_in_place_is_refused() -> None:
    weight = nn.Parameter(tg.ones(2))
    with pytest.raises(UsageError, match="TG-U017.*changed in place"), tg.no_grad(), Trace({"w": weight}) as trace:
        x = trace.input(tg.ones(2), "x")
        y = x * weight
        weight += 1
        trace.output(y)
    with pytest.raises(UsageError, match="TG-U017.*changed in place"), tg.no_grad(), Trace({"w": weight}) as trace:
        x = trace.input(tg.ones(2), "x")
        y = x * weight
        weight += 1
        y = y * weight


def test_a_parameter_does_not_take_a_traced_value() -> None:
    weight = nn.Parameter(tg.ones(2))
    with tg.no_grad(), Trace() as trace, pytest.raises(UsageError, match="TG-U016"):
        weight += trace.input(tg.ones(2), "x")
    assert type(weight.array) is np.ndarray and weight.tolist() == [1.0, 1.0]


def test_a_kept_tensor_is_refused_after_its_trace() -> None:
    with Trace() as trace:
        kept = trace.input(tg.ones(2), "x") * 2
    with pytest.raises(UsageError, match="TG-U017.*ended"):
        kept + 1


@pytest.mark.parametrize("layer", [nn.Linear(2, 3), nn.LayerNorm(2), nn.LSTM(2, 3), nn.Conv1d(1, 1, 2)])
def test_a_model_on_a_gpu_is_refused_with_both_devices(layer: nn.Module) -> None:
    layer.to("strict")
    with Trace() as trace, pytest.raises(DeviceError, match="TG-D001.*cpu.*strict"):
        layer(trace.input(tg.ones(1, 1, 2), "x"))


def test_traces_do_not_mix_and_do_not_nest_on_one_value() -> None:
    with Trace() as outer:
        x = outer.input(tg.ones(2), "x")
        with Trace() as inner, pytest.raises(UsageError, match="TG-U017"):
            inner.input(x, "again")
        with Trace() as inner:
            y = inner.input(tg.ones(2), "y")
            with pytest.raises(UsageError, match="TG-U017.*two traces"):
                x + y
            inner.output(y * 2)
        outer.output(x + 1)
    assert names(outer) == ["add"] and names(inner) == ["mul"]


def test_an_exception_leaves_nothing_behind() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(ZeroDivisionError), Trace(dict(model.named_parameters())) as trace:
        model(trace.input(tg.ones(1, 2), "x"))
        raise ZeroDivisionError
    assert not trace.open
    assert type(model.weight.array) is np.ndarray
    assert type(model(tg.ones(1, 2)).array) is np.ndarray
    assert tg.is_grad_enabled()


def test_threads_trace_side_by_side() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    traces: list[list[str]] = []

    def record(width: int) -> None:
        for _ in range(20):
            with Trace() as trace:
                trace.output(model(trace.input(tg.ones(width, 3), "x")))
            traces.append([str(trace), str(width)])

    threads = [threading.Thread(target=record, args=(n,)) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(traces) == 60
    assert len({(text, width) for text, width in traces}) == 3


def test_an_error_of_an_operator_is_the_usual_one() -> None:
    with Trace() as trace, pytest.raises(tg.errors.ShapeError, match="TG-S001"):
        trace.input(tg.ones(2), "x") + trace.input(tg.ones(3), "y")


def test_ordinary_calls_do_not_know_of_traces() -> None:
    source = tg.tanh.operator.public
    assert "trace" not in tg.core.front.source_of(source).lower()
