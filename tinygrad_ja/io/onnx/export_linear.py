"""Products and convolutions as ONNX nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...core.trace import Value
from .export_graph import Graph
from .export_table import exports


@exports("matmul")
def _matmul(graph: Graph, input: Value, other: Value) -> str:
    return graph.add("MatMul", input, other)


def swapped(graph: Graph, x: Value) -> str:
    """``x`` with its last two axes exchanged; at once where it is a constant."""
    if x.array is not None and x.ndim >= 2:
        return graph.constant(np.swapaxes(x.array, -1, -2), f"{x.name}.T")
    return graph.transpose(x, x.ndim - 2, x.ndim - 1, x.ndim)


@exports("matmul_nt")
def _matmul_nt(graph: Graph, input: Value, other: Value) -> str:
    return graph.add("MatMul", input, swapped(graph, other))


@exports("matmul_tn")
def _matmul_tn(graph: Graph, input: Value, other: Value) -> str:
    return graph.add("MatMul", swapped(graph, input), other)


@exports("linear")
def _linear(graph: Graph, input: Value, weight: Value, bias: Value | None) -> str:
    """As PyTorch's exporter writes it: Gemm of a matrix, MatMul and Add of more axes."""
    if input.ndim == 2 and weight.ndim == 2 and bias is not None:
        return graph.add("Gemm", input, weight, bias, transB=1)
    made = graph.add("MatMul", input, swapped(graph, weight) if weight.ndim > 1 else weight)
    return made if bias is None else graph.add("Add", made, bias)


@exports("einsum")
def _einsum(graph: Graph, operands: tuple[Value, ...], equation: str) -> str:
    return graph.add("Einsum", *operands, equation=equation)


@exports("cross")
def _cross(graph: Graph, input: Value, other: Value, dim: int) -> str:
    def turned(x: Value, order: list[int]) -> str:
        axis = dim if dim < 0 else dim - max(input.ndim, other.ndim)
        return graph.add("Gather", x, np.array(order, np.int64), axis=axis)

    first = graph.add("Mul", turned(input, [1, 2, 0]), turned(other, [2, 0, 1]))
    return graph.add("Sub", first, graph.add("Mul", turned(input, [2, 0, 1]), turned(other, [1, 2, 0])))


@exports("det")
def _det(graph: Graph, input: Value) -> str:
    return graph.add("Det", input)


@exports("slogdet")
def _slogdet(graph: Graph, input: Value) -> tuple[str, str]:
    made = graph.add("Det", input)
    return graph.add("Sign", made), graph.add("Log", graph.add("Abs", made))


@exports("cdist")
def _cdist(graph: Graph, x1: Value, x2: Value, p: float) -> str:
    difference = graph.add("Sub", graph.add("Unsqueeze", x1, graph.ints([-2])), graph.add("Unsqueeze", x2, graph.ints([-3])))
    last = [max(x1.ndim, x2.ndim)]
    if p in (1, 2):
        return graph.reduce(f"ReduceL{int(p)}", difference, last, False)
    size = graph.add("Abs", difference)
    if math.isinf(p):
        return graph.reduce("ReduceMax", size, last, False)
    if p == 0:
        return graph.reduce("ReduceSum", graph.cast(graph.cast(size, bool), x1.dtype), last, False)
    total = graph.reduce("ReduceSum", graph.add("Pow", size, graph.number(p, x1)), last, False)
    return graph.add("Pow", total, graph.number(1 / p, x1))


# ---- convolutions --------------------------------------------------------------------------------


class Windows(NamedTuple):
    """The geometry of a convolution, a number for each axis."""

    kernel: Sequence[int]
    size: Sequence[int]
    stride: Sequence[int]
    before: Sequence[int]
    dilation: Sequence[int]

    @property
    def spans(self) -> list[int]:
        """From the first element of the first window to the last one of the last."""
        return [(m - 1) * s + d * (k - 1) + 1 for k, m, s, d in zip(self.kernel, self.size, self.stride, self.dilation)]

    def attributes(self, pads: Sequence[int]) -> dict[str, Any]:
        """The attributes of ONNX's Conv."""
        return {
            "kernel_shape": list(self.kernel),
            "strides": list(self.stride),
            "pads": list(pads),
            "dilations": list(self.dilation),
        }


def _convolved(graph: Graph, x: Any, shape: Sequence[int], windows: Windows, *operands: Any, group: int = 1) -> str:
    """Conv with the padding behind that gives the wanted size: that before it if this does, else just what is needed. What lies behind
    the last window is cut off."""
    behind = []
    for axis, (n, span, before, m, stride) in enumerate(
        zip(shape, windows.spans, windows.before, windows.size, windows.stride)
    ):
        symmetric = m - 1 == (n + 2 * before - (span - (m - 1) * stride)) // stride
        needed = span - before - n
        behind.append(before if symmetric else max(0, needed))
        if not symmetric and needed < 0:
            x = graph.slice(x, axis + 2, 0, n + needed)
    return graph.add("Conv", x, *operands, **windows.attributes([*windows.before, *behind]), group=group)


@exports("convolution")
def _convolution(
    graph: Graph,
    input: Value,
    weight: Value,
    bias: Value | None,
    size: Sequence[int],
    stride: Sequence[int],
    before: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> str:
    windows = Windows(weight.shape[2:], size, stride, before, dilation)
    return _convolved(graph, input, input.shape[2:], windows, weight, bias, group=groups)


def _spread(
    graph: Graph, x: Any, windows: Windows, shape: Sequence[int], weight: Any, bias: Value | None = None, group: int = 1
) -> str:
    """ConvTranspose to ``shape``. What is missing goes to ``output_padding``, which has to be less than the stride, or is cut from the
    padding behind; where neither fits, Pad adds and cuts."""
    behind, extra = [], []
    for span, n, before, stride in zip(windows.spans, shape, windows.before, windows.stride):
        missing = n - (span - 2 * before)
        fits = 0 <= missing < stride
        extra.append(missing if fits else 0)
        behind.append(before if fits else before - missing)
    if min(behind, default=0) >= 0:
        options = windows.attributes([*windows.before, *behind])
        return graph.add("ConvTranspose", x, weight, bias, **options, group=group, output_padding=extra if any(extra) else None)
    made = graph.add("ConvTranspose", x, weight, **windows.attributes([0] * 2 * len(shape)), group=group)
    ends = [n + before - span for n, before, span in zip(shape, windows.before, windows.spans)]
    made = graph.add("Pad", made, graph.ints([0, 0, *[-before for before in windows.before], 0, 0, *ends]))
    if bias is None:
        return made
    return graph.add("Add", made, graph.reshape(bias, (-1, *[1] * len(shape)), bias.shape))


@exports("conv_transpose")
def _conv_transpose(
    graph: Graph,
    input: Value,
    weight: Value,
    bias: Value | None,
    size: Sequence[int],
    stride: Sequence[int],
    before: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> str:
    windows = Windows(weight.shape[2:], input.shape[2:], stride, before, dilation)
    return _spread(graph, input, windows, size, weight, bias, group=groups)


def _one_hot(kernel: Sequence[int], dtype: Any) -> np.ndarray:
    """For each element of a window the kernel that picks it."""
    taps = math.prod(kernel)
    return np.eye(taps, dtype=dtype).reshape(taps, 1, *kernel)


@exports("unfold")
def _unfold(
    graph: Graph,
    input: Value,
    kernel: Sequence[int],
    size: Sequence[int],
    stride: Sequence[int],
    before: Sequence[int],
    dilation: Sequence[int],
    y: Value,
) -> str:
    """Windows as columns: a convolution of each channel with the kernels that pick one element."""
    shape = input.shape[2:]
    single = graph.reshape(input, (-1, 1, *shape), input.shape)
    windows = Windows(kernel, size, stride, before, dilation)
    return graph.reshape(_convolved(graph, single, shape, windows, _one_hot(kernel, input.dtype)), y.shape)


@exports("fold")
def _fold(
    graph: Graph,
    input: Value,
    shape: Sequence[int],
    kernel: Sequence[int],
    size: Sequence[int],
    stride: Sequence[int],
    before: Sequence[int],
    dilation: Sequence[int],
    y: Value,
) -> str:
    """The transposed convolution with the same kernels."""
    columns = graph.reshape(input, (-1, math.prod(kernel), *size), input.shape)
    windows = Windows(kernel, size, stride, before, dilation)
    return graph.reshape(_spread(graph, columns, windows, shape, _one_hot(kernel, input.dtype)), y.shape)
