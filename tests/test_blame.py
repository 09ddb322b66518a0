"""tg.blame: a backward written by hand is compared with the tape, and the term that is wrong is named.

The wrong ones here are the textbook's layers with one place of their source changed. ``test_blame_bank.py`` holds functions that were written
wrong from the start.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import textbook
from tinygrad_ja.diagnosis import KINDS
from tinygrad_ja.errors import ArgumentError
from tinygrad_ja.textbook import composite

rng = np.random.default_rng(0)
RECURRENT = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]


def normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape)


def recurrent(gates: int, *states: str) -> dict[str, np.ndarray]:
    return {
        "x": normal(3, 2, 3),
        **{name: normal(2, 4) for name in states},
        "weight_ih": normal(gates * 4, 3),
        "weight_hh": normal(gates * 4, 4) * 0.5,
        "bias_ih": normal(gates * 4),
        "bias_hh": normal(gates * 4),
    }


class Subject(NamedTuple):
    inputs: dict[str, np.ndarray]
    params: list[str]
    layer: Any


def names(*shapes: Any) -> dict[str, np.ndarray]:
    return {name: normal(*shape) for name, shape in shapes}


BOOK = {
    textbook.Affine: Subject(names(("x", (2, 3)), ("weight", (4, 3)), ("bias", (4,))), ["weight", "bias"], composite.affine),
    textbook.SoftmaxCrossEntropy: Subject(
        {"x": normal(5, 3), "target": np.array([0, 1, 2, 0, 1])}, [], composite.softmax_cross_entropy
    ),
    textbook.BatchNorm: Subject(
        names(("x", (6, 3)), ("weight", (3,)), ("bias", (3,))), ["weight", "bias"], composite.batch_norm
    ),
    textbook.LayerNorm: Subject(
        names(("x", (6, 3)), ("weight", (3,)), ("bias", (3,))), ["weight", "bias"], composite.layer_norm
    ),
    textbook.RNN: Subject(recurrent(1, "h"), RECURRENT, composite.rnn),
    textbook.LSTM: Subject(recurrent(4, "h", "c"), RECURRENT, composite.lstm),
    textbook.GRU: Subject(recurrent(3, "h"), RECURRENT, composite.gru),
    textbook.DotAttention: Subject(names(("q", (2, 3, 7)), ("k", (2, 5, 7)), ("v", (2, 5, 6))), [], composite.dot_attention),
    textbook.AdditiveAttention: Subject(
        names(("q", (2, 3)), ("k", (2, 5, 4)), ("query_weight", (6, 3)), ("key_weight", (6, 4)), ("v", (6,))),
        ["query_weight", "key_weight", "v"],
        composite.additive_attention,
    ),
    textbook.NegativeSampling: Subject(
        {
            "weight": normal(9, 4),
            "h": normal(3, 4),
            "target": np.array([0, 3, 3]),
            "negatives": np.array([[1, 2], [5, 1], [3, 8]]),
        },
        ["weight"],
        composite.negative_sampling,
    ),
}

WRONG = [
    (textbook.Affine, "dy.sum(axis=0)", "dy.mean(axis=0)", "scale"),
    (textbook.Affine, "dy.sum(axis=0)", "dy", "shape"),
    (textbook.Affine, "dy.T @ self.x", "self.x.T @ dy", "transpose"),
    (textbook.Affine, "dy.T @ self.x", "-dy.T @ self.x", "sign"),
    (textbook.SoftmaxCrossEntropy, "dy * dx / len(self.target)", "dy * dx", "scale"),
    (textbook.SoftmaxCrossEntropy, "-= 1", "-= 0", "term"),
    (textbook.SoftmaxCrossEntropy, "-= 1", "+= 1", "sign"),
    (textbook.BatchNorm, "d = d - d.mean(axis=0) - self", "d = d - self", "term"),
    (textbook.BatchNorm, " - self.normalized * (d * self.normalized).mean(axis=0)", "", "term"),
    (textbook.BatchNorm, "return d * self.scale", "return d", "factor"),
    (textbook.BatchNorm, "(dy * self.normalized).sum(axis=0)", "dy.sum(axis=0)", "factor"),
    (textbook.BatchNorm, "(d * self.normalized).mean(axis=0)", "(d * self.normalized).sum(axis=0)", "scale"),
    (textbook.LayerNorm, 'd = dy * self.params["weight"]', "d = dy", "factor"),
    (textbook.RNN, "(dy[t] + dh)", "dy[t]", "time"),
    (textbook.RNN, " * (1 - self.states[t + 1] ** 2)", "", "activation"),
    (textbook.RNN, "(1 - self.states[t + 1] ** 2)", "(1 - self.states[t] ** 2)", "state"),
    (textbook.RNN, "delta.T @ self.states[t]", "delta.T @ self.states[t + 1]", "state"),
    (textbook.RNN, 'dh = delta @ p["weight_hh"]', 'dh = delta @ p["weight_hh"].T', "transpose"),
    (textbook.RNN, 'self.grads["weight_hh"] += delta', 'self.grads["weight_hh"] = delta', "time"),
    (textbook.LSTM, "dc = dc * f", "dc = 0 * dc", "time"),
    (textbook.LSTM, "dc = dc + dh * o", "dc = dh * o", "time"),
    (textbook.LSTM, "dc * self.cs[t] * f", "dc * self.cs[t + 1] * f", "state"),
    (textbook.LSTM, " * (1 - squashed**2)", "", "activation"),
    (textbook.LSTM, "dc * g * i * (1 - i)", "dc * g * (1 - i**2)", "activation"),
    (textbook.LSTM, "dh * squashed * o", "dh * self.cs[t + 1] * o", "factor"),
    (textbook.GRU, "dh = dh * z + of_h", "dh = of_h", "time"),
    (textbook.GRU, "(self.states[t] - n)", "(n - self.states[t])", "sign"),
    (textbook.GRU, "[dr, dz, dn * r]", "[dr, dz, dn]", "factor"),
    (textbook.GRU, "dh * (1 - z) * (1 - n**2)", "dh * z * (1 - n**2)", "factor"),
    (textbook.GRU, "[dr, dz, dn], axis", "[dz, dr, dn], axis", "swap"),
    (textbook.DotAttention, "ds = ds / np.sqrt(self.q.shape[-1]).astype(dy.dtype)", "", "scale"),
    (textbook.DotAttention, "softmax_backward(self.weights, dy @", "(lambda a, d: a * d)(self.weights, dy @", "term"),
    (textbook.DotAttention, "softmax_backward(self.weights, dy @", "(lambda a, d: a * (1 - a) * d)(self.weights, dy @", "term"),
    (textbook.AdditiveAttention, "self.weights[:, :, None] * dy[:, None, :] + delta", "delta", "term"),
    (textbook.AdditiveAttention, " * (1 - self.hidden**2)", "", "activation"),
    (textbook.NegativeSampling, " / len(self.h)", "", "scale"),
]


def changed(cls: type, old: str, new: str) -> type:
    """The class with one place of its source changed."""
    source = inspect.getsource(cls)
    assert old in source
    space = dict(vars(sys.modules[cls.__module__]))
    exec(source.replace(old, new), space)
    return space[cls.__name__]


def diagnose(cls: type, subject: Subject) -> Any:
    book = cls(**{name: subject.inputs[name].copy() for name in subject.params})
    inputs = {name: value for name, value in subject.inputs.items() if name not in subject.params}
    return tg.blame(book, subject.layer, {**inputs, **{name: subject.inputs[name] for name in subject.params}})


@pytest.mark.parametrize("cls", BOOK, ids=lambda cls: cls.__name__)
def test_a_right_backward_is_never_blamed(cls: type) -> None:
    diagnosis = diagnose(cls, BOOK[cls])
    assert diagnosis.right and bool(diagnosis) and diagnosis.faults == [] and diagnosis.wrong == ()


@pytest.mark.parametrize(("cls", "old", "new", "kind"), WRONG, ids=lambda value: getattr(value, "__name__", str(value)[:30]))
def test_one_wrong_place_is_named_first(cls: type, old: str, new: str, kind: str) -> None:
    diagnosis = diagnose(changed(cls, old, new), BOOK[cls])
    assert diagnosis.certain and not diagnosis.right
    assert diagnosis.faults[0].kind == kind
    assert set(diagnosis.faults[0].explains) == set(diagnosis.wrong)


def test_the_fault_is_found_in_a_layer_that_is_one_operator() -> None:
    """A fused operator is opened up into its reference."""
    layer = tg.nn.LSTM(3, 4, dtype=tg.float64)

    def run(x: Any, h: Any, c: Any, **params: Any) -> Any:
        return tg.func.functional_call(layer, {f"{name}_l0": p for name, p in params.items()}, (x, (h[None], c[None])))[0]

    subject = BOOK[textbook.LSTM]._replace(layer=run)
    assert diagnose(textbook.LSTM, subject).right
    fault = diagnose(changed(textbook.LSTM, " * (1 - squashed**2)", ""), subject).faults[0]
    assert fault.kind == "activation" and fault.operator == "tanh" and "tanh(c)" in fault.line


def test_a_module_brings_its_parameters() -> None:
    linear = tg.nn.Linear(3, 4)

    def mine(g: Any, x: Any, weight: Any, bias: Any) -> Any:
        return g @ weight, (x.T @ g).T, g.mean(0)

    diagnosis = tg.blame(mine, linear, [normal(2, 3)])
    assert diagnosis.wrong == ("bias",)
    assert diagnosis.faults[0].kind == "scale" and "1/2" in diagnosis.faults[0].text
    assert linear.weight.grad is None


def test_two_faults_in_different_gradients_are_both_named() -> None:
    def layer(x: Any, w: Any, b: Any) -> Any:
        return tg.sigmoid(x @ w + b)

    def mine(g: Any, x: Any, w: Any, b: Any) -> Any:
        delta = g * (lambda y: y * (1 - y))(1 / (1 + np.exp(-(x @ w + b))))
        return -delta @ w.T, x.T @ delta, delta.mean(0)

    diagnosis = tg.blame(mine, layer, [normal(2, 3), normal(3, 4), normal(4)])
    assert diagnosis.certain
    assert sorted(fault.kind for fault in diagnosis.faults[:2]) == ["scale", "sign"]
    assert diagnosis.faults[0].together == 2


def test_a_fault_that_no_rule_makes_is_only_guessed_at() -> None:
    def mine(g: Any, x: Any) -> Any:
        return np.cos(7 * x) * g**3

    diagnosis = tg.blame(mine, lambda x: tg.tanh(x), [normal(4, 5)])
    assert not diagnosis.right and not diagnosis.certain
    assert "no single fault" in str(diagnosis)


def test_a_zero_gradient_that_comes_out_as_rounding_errors_is_right() -> None:
    """A shift before softmax changes nothing; its gradient is 0 on paper and 1e-17 on a computer."""

    def layer(x: Any, shift: Any) -> Any:
        return tg.softmax(x + shift.unsqueeze(1), 1)

    def mine(g: Any, x: Any, shift: Any) -> Any:
        e = np.exp(x + shift[:, None])
        y = e / e.sum(1, keepdims=True)
        dx = y * (g - (g * y).sum(1, keepdims=True))
        return dx, dx[:, ::-1].sum(1)

    assert tg.blame(mine, layer, [normal(3, 4), normal(3)]).right


def test_float32_and_other_shapes_of_one_row_are_right() -> None:
    def layer(x: Any, b: Any) -> Any:
        return x * 2 + b

    def mine(g: Any, x: Any, b: Any) -> Any:
        return (g * 2).astype(np.float32), g.sum(0, keepdims=True)

    assert tg.blame(mine, layer, [normal(3, 4), normal(4)]).right


def test_a_wrong_forward_is_said_before_any_gradient() -> None:
    diagnosis = diagnose(changed(textbook.Affine, '+ self.params["bias"]', ""), BOOK[textbook.Affine])
    assert not diagnosis.right and "forward" in str(diagnosis) and diagnosis.faults == []


def test_lists_of_params_and_grads_as_in_books_for_beginners() -> None:
    class Affine:
        def __init__(self, w: Any, b: Any) -> None:
            self.params, self.grads = [w, b], [np.zeros_like(w), np.zeros_like(b)]

        def forward(self, x: Any) -> Any:
            self.x = x
            return x @ self.params[0] + self.params[1]

        def backward(self, dout: Any) -> Any:
            self.grads[0][...] = self.x.T @ dout
            self.grads[1][...] = dout.sum(axis=0)
            return dout @ self.params[0]  # not transposed

    w, b = normal(3, 3), normal(3)
    diagnosis = tg.blame(Affine(w.copy(), b.copy()), lambda x, w, b: x @ w + b, [normal(2, 3), w, b])
    assert diagnosis.wrong == ("x",) and diagnosis.faults[0].kind == "transpose"


def test_inputs_and_the_users_arrays_stay_as_they_are() -> None:
    x = normal(2, 3)
    before = x.copy()

    def mine(g: Any, x: Any) -> Any:
        x *= 0
        g *= 0
        return g

    tg.blame(mine, lambda x: x * 3, [x])
    assert np.array_equal(x, before)


def test_gradients_that_do_not_fit_the_inputs_are_refused() -> None:
    with pytest.raises(ArgumentError, match="my_backward"):
        tg.blame(lambda g, x: {"y": g}, lambda x: x * 2, {"x": normal(2)})
    with pytest.raises(ArgumentError, match="3 values"):
        tg.blame(lambda g, x: (g, g, g), lambda x: x * 2, {"x": normal(2)})
    with pytest.raises(ArgumentError, match="inputs"):
        tg.blame(lambda g, x: g, lambda x: x * 2, [normal(2), normal(2)])
    with pytest.raises(ArgumentError, match="inputs = z.*\\(x\\)"):
        tg.blame(lambda g, z: g, lambda x: x * 2, {"z": normal(2)})


def convolution_backward(g: np.ndarray, input: np.ndarray, weight: np.ndarray, turned: str) -> dict[str, np.ndarray]:
    """Of a 3 x 3 convolution with padding 1. turned: the gradient in which the kernel is the wrong way round."""
    height, width = input.shape[2:]
    padded = np.pad(input, ((0, 0), (0, 0), (1, 1), (1, 1)))
    dx, dw = np.zeros_like(padded), np.zeros_like(weight)
    for i, j in np.ndindex(3, 3):
        window = np.s_[:, :, i : i + height, j : j + width]
        a, b = (2 - i, 2 - j) if turned == "input" else (i, j)
        dx[window] += np.einsum("nohw,oc->nchw", g, weight[:, :, a, b])
        a, b = (2 - i, 2 - j) if turned == "weight" else (i, j)
        dw[:, :, a, b] = np.einsum("nohw,nchw->oc", g, padded[window])
    return {"input": dx[:, :, 1:-1, 1:-1], "weight": dw}


@pytest.mark.parametrize("turned", ["", "input", "weight"])
def test_a_kernel_that_is_the_wrong_way_round_is_named(turned: str) -> None:
    layer = tg.nn.Conv2d(2, 3, 3, padding=1)
    found = tg.blame(lambda g, x, w, bias: convolution_backward(g, x, w, turned), layer, normal(2, 2, 5, 4))
    assert found.wrong == ((turned,) if turned else ())
    if turned:
        assert found.certain and found.faults[0].kind == "transpose" and "180" in found.faults[0].text
        assert "self.weight" in found.faults[0].line and "functional_call" not in found.faults[0].line


@pytest.mark.parametrize("layer", [tg.nn.Embedding(7, 3), lambda input, weight: weight[input]])
def test_gradients_lost_where_an_index_repeats_are_named(layer: Any) -> None:
    index = np.array([[1, 2, 1], [4, 2, 0]])
    inputs = {"input": index} if isinstance(layer, tg.nn.Module) else {"input": index, "weight": normal(7, 3)}

    def right(g: np.ndarray, input: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        made = np.zeros_like(weight)
        np.add.at(made, input, g)
        return {"weight": made}

    def last_only(g: np.ndarray, input: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        made = np.zeros_like(weight)
        made[input] += g
        return {"weight": made}

    assert tg.blame(right, layer, inputs)
    found = tg.blame(last_only, layer, inputs)
    assert found.certain and found.faults[0].kind == "term" and "np.add.at" in found.faults[0].text


def test_numbers_far_from_every_known_fault_are_not_guessed_at() -> None:
    found = tg.blame(lambda g, x: np.sin(50 * x), lambda x: tg.tanh(x), normal(40, 3))
    assert not found and not found.certain and not found.faults
    assert repr(found) == "<Diagnosis: unknown>" and "no fault that is known" in str(found)


def test_a_backward_that_returns_nothing_is_not_called_right() -> None:
    with pytest.raises(ArgumentError, match="TG-A001.*no gradient"):
        tg.blame(lambda g, x: None, lambda x: tg.tanh(x), {"x": np.ones(2)})


def test_a_doubled_gradient_is_no_forgotten_mean_where_there_is_none() -> None:
    fault = tg.blame(lambda g, x: 6 * g, lambda x: x * 3, {"x": normal(2, 5)}).faults[0]
    assert fault.kind == "twice" and "mean" not in fault.text


def test_the_report_speaks_japanese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    report = str(diagnose(changed(textbook.RNN, "(dy[t] + dh)", "dy[t]"), BOOK[textbook.RNN]))
    assert "時間方向の項の欠落" in report and "誤り" in report and "WRONG" not in report
    assert all(japanese and english for english, japanese in KINDS.values())
