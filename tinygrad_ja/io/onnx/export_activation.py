"""Activations, softmax and the dropout that evaluation leaves out, as ONNX nodes."""

from __future__ import annotations

import math
from typing import Any

from ...core.trace import Value
from .export_elementwise import pair
from .export_graph import Graph
from .export_table import Refusal, exports


@exports("relu")
def _relu(graph: Graph, input: Value) -> str:
    return graph.add("Relu", input)


@exports("leaky_relu")
def _leaky_relu(graph: Graph, input: Value, negative_slope: float) -> str:
    return graph.add("LeakyRelu", input, alpha=float(negative_slope))


@exports("prelu")
def _prelu(graph: Graph, input: Value, weight: Value, y: Value) -> str:
    if weight.ndim and y.shape == input.shape:
        return graph.add("PRelu", input, weight)
    return graph.add("Where", graph.add("Greater", input, graph.number(0, input)), input, graph.add("Mul", input, weight))


@exports("elu")
def _elu(graph: Graph, input: Value, alpha: float, scale: float, input_scale: float) -> str:
    if input_scale == scale == 1.0:
        return graph.add("Elu", input, alpha=float(alpha))
    if input_scale == 1.0:
        return graph.add("Selu", input, alpha=float(alpha), gamma=float(scale))
    if scale == 1.0 and math.isclose(alpha * input_scale, 1.0):
        return graph.add("Celu", input, alpha=float(alpha))
    below = graph.add(
        "Exp", graph.add("Mul", graph.add("Min", input, graph.number(0, input)), graph.number(input_scale, input))
    )
    below = graph.add("Mul", graph.add("Sub", below, graph.number(1, input)), graph.number(alpha, input))
    made = graph.add("Where", graph.add("Greater", input, graph.number(0, input)), input, below)
    return made if scale == 1.0 else graph.add("Mul", made, graph.number(scale, input))


@exports("gelu")
def _gelu(graph: Graph, input: Value, approximate: str) -> str:
    if graph.opset >= 20:
        return graph.add("Gelu", input, approximate=approximate)
    half, one = graph.number(0.5, input), graph.number(1, input)
    if approximate == "tanh":
        cube = graph.add("Mul", graph.add("Mul", input, graph.add("Mul", input, input)), graph.number(0.044715, input))
        inner = graph.add("Mul", graph.add("Add", input, cube), graph.number(math.sqrt(2 / math.pi), input))
        share = graph.add("Add", graph.add("Tanh", inner), one)
    else:
        share = graph.add("Add", graph.add("Erf", graph.add("Div", input, graph.number(math.sqrt(2), input))), one)
    return graph.add("Mul", graph.add("Mul", input, share), half)


@exports("silu")
def _silu(graph: Graph, input: Value) -> str:
    return graph.add("Mul", input, graph.add("Sigmoid", input))


@exports("mish")
def _mish(graph: Graph, input: Value) -> str:
    return graph.add("Mul", input, graph.add("Tanh", graph.add("Softplus", input)))


@exports("hardsigmoid")
def _hardsigmoid(graph: Graph, input: Value) -> str:
    return graph.add("HardSigmoid", input, alpha=1 / 6, beta=0.5)


@exports("hardswish")
def _hardswish(graph: Graph, input: Value) -> str:
    return graph.add("HardSwish", input)


@exports("hardtanh")
def _hardtanh(graph: Graph, input: Value, min_val: float, max_val: float) -> str:
    return graph.add("Clip", input, graph.number(min_val, input), graph.number(max_val, input))


@exports("hardshrink")
def _hardshrink(graph: Graph, input: Value, lambd: float) -> str:
    return graph.add("Shrink", input, lambd=float(lambd), bias=0.0)


@exports("softshrink")
def _softshrink(graph: Graph, input: Value, lambd: float) -> str:
    return graph.add("Shrink", input, lambd=float(lambd), bias=float(lambd))


@exports("softplus")
def _softplus(graph: Graph, input: Value, beta: float, threshold: float) -> str:
    """Beyond a threshold of 17 or more, log(1 + e^x) is x in float32 anyway."""
    factor = graph.number(beta, input)
    scaled = graph.name(input) if beta == 1 else graph.add("Mul", input, factor)
    made = graph.add("Softplus", scaled)
    made = made if beta == 1 else graph.add("Div", made, factor)
    if threshold >= 17:
        return made
    return graph.add("Where", graph.add("Greater", scaled, graph.number(threshold, input)), input, made)


@exports("softsign")
def _softsign(graph: Graph, input: Value) -> str:
    return graph.add("Softsign", input)


@exports("logsigmoid")
def _logsigmoid(graph: Graph, input: Value) -> str:
    return graph.add("Neg", graph.add("Softplus", graph.add("Neg", input)))


@exports("tanhshrink")
def _tanhshrink(graph: Graph, input: Value) -> str:
    return graph.add("Sub", input, graph.add("Tanh", input))


@exports("threshold")
def _threshold(graph: Graph, input: Value, threshold: float, value: float) -> str:
    return graph.add("Where", graph.add("Greater", input, graph.number(threshold, input)), input, graph.number(value, input))


def _normalized(op: str) -> Any:
    def write(graph: Graph, input: Value, dim: int) -> str:
        if input.ndim:
            return graph.add(op, input, axis=dim)
        return graph.reshape(graph.add(op, graph.reshape(input, (1,)), axis=0), ())

    return write


exports("softmax")(_normalized("Softmax"))
exports("log_softmax")(_normalized("LogSoftmax"))


@exports("apply_mask")
def _apply_mask(graph: Graph) -> str:
    raise Refusal(
        (
            "dropout was asked for in evaluation mode, and its mask would stay the same for ever",
            "評価モードで dropout が使われました。マスクが固定されてしまいます",
        ),
        ("pass training=self.training, or leave it out.", "training=self.training を渡すか、使わないでください。"),
    )


# ---- losses of pairs -----------------------------------------------------------------------------


def _difference(graph: Graph, input: Any, target: Any) -> str:
    return graph.add("Sub", *pair(graph, input, target))


@exports("huber")
def _huber(graph: Graph, input: Any, target: Any, delta: float, y: Value) -> str:
    size = graph.add("Abs", _difference(graph, input, target))
    return _quadratic_below(graph, size, delta, y, scale=1.0)


@exports("smooth_l1")
def _smooth_l1(graph: Graph, input: Any, target: Any, beta: float, y: Value) -> str:
    size = graph.add("Abs", _difference(graph, input, target))
    return _quadratic_below(graph, size, beta, y, scale=1.0 / beta) if beta else size


def _quadratic_below(graph: Graph, size: str, bound: float, like: Value, scale: float) -> str:
    """d²/2 below the bound, bound (d - bound/2) above it, all times ``scale``."""
    near = graph.add("Mul", graph.add("Mul", size, size), graph.number(0.5 * scale, like))
    far = graph.add("Mul", graph.add("Sub", size, graph.number(bound / 2, like)), graph.number(bound * scale, like))
    return graph.add("Where", graph.add("Less", size, graph.number(bound, like)), near, far)


@exports("bce_logits")
def _bce_logits(graph: Graph, input: Value, target: Value) -> str:
    """softplus(x) - x t, which is -t log σ(x) - (1 - t) log(1 - σ(x))."""
    return graph.add("Sub", graph.add("Softplus", input), graph.add("Mul", input, target))


@exports("bce")
def _bce(graph: Graph, input: Value, target: Value) -> str:
    """-t log x - (1 - t) log(1 - x), the logarithms not below -100."""
    one, lowest = graph.number(1, input), graph.number(-100, input)
    hit = graph.add("Max", graph.add("Log", input), lowest)
    miss = graph.add("Max", graph.add("Log", graph.add("Sub", one, input)), lowest)
    total = graph.add("Add", graph.add("Mul", target, hit), graph.add("Mul", graph.add("Sub", one, target), miss))
    return graph.add("Neg", total)
