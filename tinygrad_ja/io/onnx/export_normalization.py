"""Normalization and attention as ONNX nodes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...core.trace import Value
from .export_graph import Graph
from .export_linear import swapped
from .export_table import exports


@exports("scale_shift")
def _scale_shift(graph: Graph, input: Value, scale: Value, shift: Value) -> str:
    """Batch normalization in evaluation, its statistics already in scale and shift."""
    ones, zeros = np.ones(scale.shape, scale.dtype), np.zeros(scale.shape, scale.dtype)
    return graph.add("BatchNormalization", input, scale, shift, zeros, ones, epsilon=0.0)


@exports("layer_norm")
def _layer_norm(graph: Graph, input: Value, weight: Value | None, bias: Value | None, ndim: int, eps: float) -> str:
    scale = np.ones(input.shape[-ndim:], input.dtype) if weight is None else weight
    return graph.add("LayerNormalization", input, scale, bias, axis=-ndim, epsilon=float(eps))


@exports("rms_norm")
def _rms_norm(graph: Graph, input: Value, weight: Value | None, ndim: int, eps: float) -> str:
    if graph.opset >= 23:
        scale = np.ones(input.shape[-ndim:], input.dtype) if weight is None else weight
        return graph.add("RMSNormalization", input, scale, axis=-ndim, epsilon=float(eps))
    axes = [axis + input.ndim for axis in range(-ndim, 0)]
    square = graph.reduce("ReduceMean", graph.add("Mul", input, input), axes, True)
    made = graph.add("Div", input, graph.add("Sqrt", graph.add("Add", square, graph.number(eps, input))))
    return made if weight is None else graph.add("Mul", made, weight)


@exports("group_norm")
def _group_norm(graph: Graph, input: Value, weight: Value | None, bias: Value | None, groups: int, eps: float) -> str:
    """InstanceNormalization of the groups, each one a channel; with one channel a group it is that itself."""
    channels, dtype = input.shape[1], input.dtype
    if groups == channels and input.ndim > 2:
        scale = np.ones(channels, dtype) if weight is None else weight
        shift = np.zeros(channels, dtype) if bias is None else bias
        return graph.add("InstanceNormalization", input, scale, shift, epsilon=float(eps))
    grouped = graph.reshape(input, (input.shape[0], groups, -1))
    made = graph.add("InstanceNormalization", grouped, np.ones(groups, dtype), np.zeros(groups, dtype), epsilon=float(eps))
    made = graph.reshape(made, input.shape)
    for op, parameter in (("Mul", weight), ("Add", bias)):
        if parameter is not None:
            made = graph.add(op, made, graph.reshape(parameter, (channels, *[1] * (input.ndim - 2)), parameter.shape))
    return made


@exports("window_sum")
def _window_sum(graph: Graph, input: Value, before: int, after: int) -> str:
    """Each channel with its neighbours: shifted copies of the padded channels, added up."""
    pads = [0] * (2 * input.ndim)
    pads[1], pads[1 + input.ndim] = before, after
    padded = graph.add("Pad", input, graph.ints(pads))
    channels = input.shape[1]
    parts = [graph.slice(padded, 1, start, start + channels) for start in range(before + after + 1)]
    return parts[0] if len(parts) == 1 else graph.add("Sum", *parts)


def _always_sees_something(arguments: dict[str, Any]) -> bool:
    """Whether every query may look at some key; only then a plain softmax is right."""
    bias, columns = arguments["bias"], arguments["key"].shape[-2]
    if not columns:
        return False
    return bias is None or (bias.array is not None and bool(np.all(np.max(bias.array, -1) > -math.inf)))


@exports("attention", when=_always_sees_something)
def _attention(graph: Graph, query: Value, key: Value, value: Value, bias: Value | None, scale: float) -> str:
    """softmax(scale q kᵀ + bias) v."""
    scaled = graph.add("Mul", query, graph.number(scale, query))
    scores = graph.add("MatMul", scaled, swapped(graph, key))
    if bias is not None:
        scores = graph.add("Add", scores, bias)
    return graph.add("MatMul", graph.add("Softmax", scores, axis=-1), value)
