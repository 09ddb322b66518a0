"""The three twins of each layer that learners study: the textbook's class, the composition of plain operators, the framework's operator. All
three give the same values and the same gradients of every input and parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import textbook
from tinygrad_ja.nn import functional as F
from tinygrad_ja.textbook import composite

rng = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape)


class Twins(NamedTuple):
    """One layer. ``inputs`` and ``params`` are float64 arrays (integers have no gradient); ``book(params)`` makes the textbook's class, the
    two others are functions of the inputs and then the parameters."""

    inputs: list[np.ndarray]
    params: dict[str, np.ndarray]
    book: Callable[..., textbook.Layer]
    composed: Callable[..., tg.Tensor]
    fused: Callable[..., tg.Tensor]


def recurrent(gates: int) -> dict[str, np.ndarray]:
    return {
        "weight_ih": normal(gates * 4, 3),
        "weight_hh": normal(gates * 4, 4) * 0.5,
        "bias_ih": normal(gates * 4),
        "bias_hh": normal(gates * 4),
    }


def layer_of(kind: Any, *settings: Any, **options: Any) -> Callable[..., tg.Tensor]:
    """The framework's recurrent layer with these parameters, as a function; states without the axis of layers."""

    def run(x: tg.Tensor, *rest: tg.Tensor) -> tg.Tensor:
        count = 2 if kind is tg.nn.LSTM else 1
        states, params = [s.unsqueeze(0) for s in rest[:count]], rest[count:]
        layer = kind(3, 4, dtype=tg.float64)
        names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
        return tg.func.functional_call(layer, dict(zip(names, params)), (x, states[0] if count == 1 else tuple(states)))[0]

    return run


def additive(q: tg.Tensor, k: tg.Tensor, query_weight: tg.Tensor, key_weight: tg.Tensor, v: tg.Tensor) -> tg.Tensor:
    layer = tg.nn.AdditiveAttention(3, 5, hidden_dim=4, dtype=tg.float64)
    params = {"query_proj.weight": query_weight, "key_proj.weight": key_weight, "weight": v}
    return tg.func.functional_call(layer, params, (q, k))[0]


def multi_head(x: tg.Tensor, *params: tg.Tensor) -> tg.Tensor:
    layer = tg.nn.MultiheadAttention(6, 2, batch_first=True, dtype=tg.float64)
    names = ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]
    return tg.func.functional_call(layer, dict(zip(names, params)), (x, x, x))[0]


TWINS = {
    "affine": Twins(
        [normal(5, 3)],
        {"weight": normal(4, 3), "bias": normal(4)},
        textbook.Affine,
        composite.affine,
        F.linear,
    ),
    "softmax cross entropy": Twins(
        [normal(5, 4), rng.integers(0, 4, 5)],
        {},
        textbook.SoftmaxCrossEntropy,
        composite.softmax_cross_entropy,
        F.cross_entropy,
    ),
    "batch norm": Twins(
        [normal(6, 3)],
        {"weight": normal(3), "bias": normal(3)},
        textbook.BatchNorm,
        composite.batch_norm,
        lambda x, weight, bias: F.batch_norm(x, None, None, weight, bias, training=True),
    ),
    "layer norm": Twins(
        [normal(2, 5, 3)],
        {"weight": normal(3), "bias": normal(3)},
        textbook.LayerNorm,
        composite.layer_norm,
        lambda x, weight, bias: F.layer_norm(x, (3,), weight, bias),
    ),
    "conv2d": Twins(
        [normal(2, 3, 7, 6)],
        {"weight": normal(4, 3, 3, 2), "bias": normal(4)},
        lambda **params: textbook.Convolution(**params, stride=2, pad=1),
        lambda x, w, b: composite.convolution(x, w, b, 2, 1),
        lambda x, w, b: F.conv2d(x, w, b, 2, 1),
    ),
    "max pool": Twins(
        [normal(2, 3, 7, 6)],
        {},
        lambda: textbook.MaxPooling(3, 2),
        lambda x: composite.max_pooling(x, 3, 2),
        lambda x: F.max_pool2d(x, 3, 2),
    ),
    "embedding": Twins(
        [rng.integers(0, 5, (4, 3))],
        {"weight": normal(5, 2)},
        textbook.Embedding,
        composite.embedding,
        F.embedding,
    ),
    "negative sampling": Twins(
        [normal(4, 3), rng.integers(0, 6, 4), rng.integers(0, 6, (4, 5))],
        {"weight": normal(6, 3)},
        textbook.NegativeSampling,
        lambda h, target, negatives, weight: composite.negative_sampling(h, weight, target, negatives),
        lambda h, target, negatives, weight: F.negative_sampling_loss(h, target, negatives, weight),
    ),
    "RNN": Twins([normal(5, 2, 3), normal(2, 4)], recurrent(1), textbook.RNN, composite.rnn, layer_of(tg.nn.RNN)),
    "LSTM": Twins(
        [normal(5, 2, 3), normal(2, 4), normal(2, 4)], recurrent(4), textbook.LSTM, composite.lstm, layer_of(tg.nn.LSTM)
    ),
    "GRU": Twins([normal(5, 2, 3), normal(2, 4)], recurrent(3), textbook.GRU, composite.gru, layer_of(tg.nn.GRU)),
    "additive attention": Twins(
        [normal(3, 3), normal(3, 6, 5)],
        {"query_weight": normal(4, 3), "key_weight": normal(4, 5), "v": normal(4)},
        textbook.AdditiveAttention,
        composite.additive_attention,
        additive,
    ),
    "dot attention": Twins(
        [normal(2, 4, 3), normal(2, 5, 3), normal(2, 5, 6)],
        {},
        textbook.DotAttention,
        composite.dot_attention,
        F.scaled_dot_product_attention,
    ),
    "multi-head attention": Twins(
        [normal(2, 5, 6)],
        {
            "in_proj_weight": normal(18, 6) * 0.5,
            "in_proj_bias": normal(18),
            "out_weight": normal(6, 6) * 0.5,
            "out_bias": normal(6),
        },
        lambda **params: textbook.MultiHeadAttention(2, **params),
        lambda x, *params: composite.multi_head_attention(x, 2, *params),
        multi_head,
    ),
}


def by_hand(twins: Twins, dtype: Any) -> tuple[np.ndarray, list[np.ndarray]]:
    """Value and gradients of the textbook's class; the cotangent is cos(y)."""
    inputs, params = converted(twins, dtype)
    layer = twins.book(**params)
    y = layer.forward(*inputs)
    made = layer.backward(np.cos(y))
    made = made if isinstance(made, tuple) else (made,)
    return y, [*(g for g in made if g is not None), *(layer.grads[name] for name in params)]


def by_tape(function: Callable[..., tg.Tensor], twins: Twins, dtype: Any) -> tuple[np.ndarray, list[np.ndarray]]:
    inputs, params = converted(twins, dtype)
    tensors = [tg.tensor(array, requires_grad=array.dtype.kind == "f") for array in [*inputs, *params.values()]]
    y = function(*tensors)
    gradients = tg.grad(y, [t for t in tensors if t.requires_grad], tg.cos(y.detach()))
    return y.detach().numpy(), [g.numpy() for g in gradients]


def converted(twins: Twins, dtype: Any) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    inputs = [x.astype(dtype) if x.dtype.kind == "f" else x for x in twins.inputs]
    return inputs, {name: value.astype(dtype) for name, value in twins.params.items()}


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("other", ["composed", "fused"])
def test_values_and_gradients_are_the_textbooks(name: str, other: str) -> None:
    twins = TWINS[name]
    y, gradients = by_hand(twins, np.float64)
    made, found = by_tape(getattr(twins, other), twins, np.float64)
    np.testing.assert_allclose(made, y, rtol=1e-10, atol=1e-12)
    assert len(found) == len(gradients) > 0
    for mine, expected in zip(found, gradients):
        np.testing.assert_allclose(mine, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", TWINS)
def test_the_textbook_keeps_float32(name: str) -> None:
    y, gradients = by_hand(TWINS[name], np.float32)
    assert {y.dtype, *(g.dtype for g in gradients)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", ["softmax cross entropy", "negative sampling"])
@pytest.mark.parametrize("other", ["composed", "fused"])
def test_losses_of_large_scores_are_the_textbooks_too(name: str, other: str) -> None:
    twins = TWINS[name]
    large = twins._replace(inputs=[twins.inputs[0] * 1000, *twins.inputs[1:]])
    y, gradients = by_hand(large, np.float64)
    made, found = by_tape(getattr(large, other), large, np.float64)
    assert np.isfinite(y)
    for mine, expected in zip([made, *found], [y, *gradients]):
        np.testing.assert_allclose(mine, expected, rtol=1e-9, atol=1e-11)


def test_batch_norm_in_use_is_that_of_its_running_statistics() -> None:
    x, weight, bias = normal(8, 3), normal(3), normal(3)
    book, layer = textbook.BatchNorm(weight, bias), tg.nn.BatchNorm1d(3, dtype=tg.float64)
    layer.load_state_dict({**layer.state_dict(), "weight": tg.tensor(weight), "bias": tg.tensor(bias)})
    for step in range(3):
        book.forward(x * step)
        layer(tg.tensor(x * step))
    book.training = False
    layer.eval()
    t = tg.tensor(x, requires_grad=True)
    y = layer(t)
    np.testing.assert_allclose(y.detach().numpy(), book.forward(x), rtol=1e-12)
    y.backward(tg.cos(y.detach()))
    np.testing.assert_allclose(t.grad.numpy(), book.backward(np.cos(y.detach().numpy())), rtol=1e-12)


def test_a_textbook_network_learns_as_the_frameworks_does() -> None:
    """Two affine layers and a tanh, ten steps of gradient descent by hand and by tape."""
    x, target = normal(6, 3), rng.integers(0, 2, 6)
    w1, b1, w2, b2 = normal(4, 3), normal(4), normal(2, 4), normal(2)
    first, second, loss = (
        textbook.Affine(w1.copy(), b1.copy()),
        textbook.Affine(w2.copy(), b2.copy()),
        textbook.SoftmaxCrossEntropy(),
    )
    model = tg.nn.Sequential(tg.nn.Linear(3, 4), tg.nn.Tanh(), tg.nn.Linear(4, 2)).to(tg.float64)
    model.load_state_dict({k: tg.tensor(v) for k, v in {"0.weight": w1, "0.bias": b1, "2.weight": w2, "2.bias": b2}.items()})
    optimizer = tg.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(10):
        h = np.tanh(first.forward(x))
        by_hand = loss.forward(second.forward(h), target)
        first.backward(second.backward(loss.backward(np.ones(()))) * (1 - h * h))
        for layer in (first, second):
            for name in layer.params:
                layer.params[name] -= 0.5 * layer.grads[name]
        optimizer.zero_grad()
        value = F.cross_entropy(model(tg.tensor(x)), tg.tensor(target))
        value.backward()
        optimizer.step()
        assert value.item() == pytest.approx(float(by_hand), rel=1e-12)
