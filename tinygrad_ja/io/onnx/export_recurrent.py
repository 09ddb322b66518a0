"""Recurrent layers as ONNX's RNN, LSTM and GRU. Batches of different lengths, and cells, are written step by step by their references."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.trace import Value
from .export_graph import Graph
from .export_table import exports

_LSTM_ORDER = (0, 3, 1, 2)
"""ONNX's gates i, o, f, c among ours, i, f, g, o."""
_GRU_ORDER = (1, 0, 2)
"""ONNX's gates z, r, h among ours, r, z, n."""
_ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid"}


def _fits(arguments: dict[str, Any]) -> bool:
    """Whether ONNX's layer does the same: sequences of one length, constant weights."""
    sizes = arguments["batch_sizes"]
    weights = [arguments[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh")]
    return len(set(sizes)) == 1 and all(w is None or w.array is not None for w in weights)


def _reordered(weight: Any, order: tuple[int, ...]) -> np.ndarray:
    parts = np.split(weight.array, len(order))
    return np.concatenate([parts[number] for number in order])[None]


def _layer(
    graph: Graph,
    op: str,
    order: tuple[int, ...],
    input: Value,
    states: list[Value],
    weights: tuple[Any, Any, Any, Any],
    batch_sizes: Any,
    reverse: bool,
    **options: Any,
) -> tuple[str, ...]:
    """The rows of all outputs, and the last states."""
    w_ih, w_hh, b_ih, b_hh = weights
    steps, batch, width = len(batch_sizes), batch_sizes[0], states[0].shape[1]
    biases = [np.zeros((1, w_ih.shape[0]), w_ih.dtype) if b is None else _reordered(b, order) for b in (b_ih, b_hh)]
    bias = None if b_ih is None and b_hh is None else np.concatenate(biases, 1)
    zeros = all(state.array is not None and not state.array.any() for state in states)
    begin = [None if zeros else graph.reshape(state, (1, batch, width), state.shape) for state in states]
    made = graph.add(
        op,
        graph.reshape(input, (steps, batch, input.shape[1]), input.shape),
        graph.constant(_reordered(w_ih, order), f"{w_ih.name}.{op}"),
        graph.constant(_reordered(w_hh, order), f"{w_hh.name}.{op}"),
        None if bias is None else graph.constant(bias, f"{(b_ih or b_hh).name}.{op}"),
        None,
        *begin,
        outputs=1 + len(states),
        hidden_size=width,
        direction="reverse" if reverse else "forward",
        **options,
    )
    rows = graph.reshape(made[0], (steps * batch, width), (steps, 1, batch, width))
    return (rows, *[graph.reshape(state, (batch, width), (1, batch, width)) for state in made[1:]])


@exports("lstm_layer", when=_fits)
def _lstm_layer(
    graph: Graph,
    input: Value,
    hx: Value,
    cx: Value,
    w_ih: Value,
    w_hh: Value,
    b_ih: Value | None,
    b_hh: Value | None,
    batch_sizes: Any,
    reverse: bool,
) -> tuple[str, ...]:
    return _layer(graph, "LSTM", _LSTM_ORDER, input, [hx, cx], (w_ih, w_hh, b_ih, b_hh), batch_sizes, reverse)


@exports("gru_layer", when=_fits)
def _gru_layer(
    graph: Graph,
    input: Value,
    hx: Value,
    w_ih: Value,
    w_hh: Value,
    b_ih: Value | None,
    b_hh: Value | None,
    batch_sizes: Any,
    reverse: bool,
) -> tuple[str, ...]:
    """linear_before_reset: the reset gate after the product with W_hh, as in Cho's later form and PyTorch."""
    weights = (w_ih, w_hh, b_ih, b_hh)
    return _layer(graph, "GRU", _GRU_ORDER, input, [hx], weights, batch_sizes, reverse, linear_before_reset=1)


@exports("rnn_layer", when=_fits)
def _rnn_layer(
    graph: Graph,
    input: Value,
    hx: Value,
    w_ih: Value,
    w_hh: Value,
    b_ih: Value | None,
    b_hh: Value | None,
    batch_sizes: Any,
    reverse: bool,
    nonlinearity: str,
) -> tuple[str, ...]:
    options = {"activations": [_ACTIVATIONS[nonlinearity]]}
    return _layer(graph, "RNN", (0,), input, [hx], (w_ih, w_hh, b_ih, b_hh), batch_sizes, reverse, **options)
