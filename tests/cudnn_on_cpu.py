"""A stand-in for cuDNN's Python package that runs graphs of one node by NumPy, from addresses of host memory.

It is strict where the library is: calls in order, every tensor of the graph in the pack, output sizes that the node would infer, arrays that
begin at a multiple of 16 bytes, as do the rows of attention, NaN for a row of attention without a finite score.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from tinygrad_ja.testing import strict

WORKSPACE = 48


class GraphNotSupportedError(RuntimeError):
    """No plan."""


class Gpu:
    """What the accelerator asks of CuPy, answered for the strict arrays."""

    def __init__(self) -> None:
        self.stream_now, self.tf32, self.captures = 11, False, False
        self.empty = strict.xp.empty

    def device_of(self, array: Any) -> int:
        return 0

    def stream(self) -> int:
        return self.stream_now

    def capturing(self) -> bool:
        return self.captures

    def allows_tf32(self) -> bool:
        return self.tf32


class Tensor:
    def __init__(self, dim: list[int], stride: list[int], data_type: Any, is_pass_by_value: bool = False) -> None:
        assert all(step > 0 for step in stride)
        self.dim, self.stride, self.data_type, self.by_value, self.output = dim, stride, data_type, is_pass_by_value, False

    def set_output(self, value: bool) -> Tensor:
        self.output = value
        return self

    def set_dim(self, dim: list[int]) -> Tensor:
        assert list(dim) == list(self.dim), f"the node makes {self.dim}, not {dim}"
        return self

    def set_stride(self, stride: list[int]) -> Tensor:
        self.stride = stride
        return self

    def set_data_type(self, data_type: Any) -> Tensor:
        self.data_type = data_type
        return self

    def at(self, address: int) -> np.ndarray:
        """The memory at an address as an array of this tensor's form."""
        itemsize = np.dtype(self.data_type).itemsize
        reach = 1 + sum((n - 1) * s for n, s in zip(self.dim, self.stride))
        memory = (ctypes.c_char * (reach * itemsize)).from_address(address)
        flat = np.frombuffer(memory, self.data_type)
        return np.lib.stride_tricks.as_strided(flat, self.dim, [s * itemsize for s in self.stride])


class Unset(Tensor):
    """A result whose sizes the node cannot know: they are set."""

    def set_dim(self, dim: list[int]) -> Tensor:
        self.dim = dim
        return self


class Graph:
    """One node; ``stage`` counts the calls that have to come in order."""

    def __init__(self, library: Library, handle: Any) -> None:
        self.library, self.handle, self.stage = library, handle, 0
        self.tensors: list[Tensor] = []
        self.notes: list[str] = []

    def tensor(self, name: str, **form: Any) -> Tensor:
        made = Tensor(**form)
        self.tensors.append(made)
        return made

    def _node(self, name: str, run: Callable[..., Any], inputs: list[Tensor | None], results: list[Tensor]) -> list[Tensor]:
        self.name, self.run, self.inputs, self.results = name, run, [x for x in inputs if x is not None], results
        return results

    # -- nodes

    def conv_fprop(self, image: Tensor, weight: Tensor, **geometry: Any) -> Tensor:
        size = fitting(image.dim[2:], weight.dim[2:], **geometry)
        y = Tensor([image.dim[0], weight.dim[0], *size], [], None)

        def run(x: np.ndarray, w: np.ndarray, y: np.ndarray) -> None:
            each_tap(lambda xs, ws, ys: ys.__iadd__(by_weight(xs, ws)), x, w, y, geometry)

        return self._node("fprop", run, [image, weight], [y])[0]

    def conv_dgrad(self, loss: Tensor, filter: Tensor, **geometry: Any) -> Tensor:
        def run(g: np.ndarray, w: np.ndarray, x: np.ndarray) -> None:
            assert fitting(x.shape[2:], w.shape[2:], **geometry) == list(g.shape[2:])
            each_tap(lambda xs, ws, gs: xs.__iadd__(by_weight(gs, ws.swapaxes(1, 2))), x, w, g, geometry)

        return self._node("dgrad", run, [loss, filter], [Unset([], [], None)])[0]

    def conv_wgrad(self, image: Tensor, loss: Tensor, **geometry: Any) -> Tensor:
        def run(x: np.ndarray, g: np.ndarray, w: np.ndarray) -> None:
            assert fitting(x.shape[2:], w.shape[2:], **geometry) == list(g.shape[2:])
            each_tap(lambda xs, ws, gs: ws.__iadd__(over_places(xs, gs)), x, w, g, geometry)

        return self._node("wgrad", run, [image, loss], [Unset([], [], None)])[0]

    def batchnorm(
        self,
        input: Tensor,
        scale: Tensor,
        bias: Tensor,
        in_running_mean: Tensor,
        in_running_var: Tensor,
        epsilon: Tensor,
        momentum: Tensor,
    ) -> list[Tensor]:
        assert epsilon.by_value and momentum.by_value

        def run(x, w, b, mean, variance, eps, m, y, middle, inverse, next_mean, next_variance):  # type: ignore[no-untyped-def]
            axes, count = (0, 2, 3), x.size // x.shape[1]
            middle[...] = x.mean(axes, keepdims=True, dtype=np.float64)
            spread = x.var(axes, keepdims=True, dtype=np.float64)
            inverse[...] = 1 / np.sqrt(spread + eps)
            y[...] = (x - middle) * inverse * w + b
            next_mean[...] = (1 - m) * mean + m * middle
            next_variance[...] = (1 - m) * variance + m * spread * count / max(count - 1, 1)

        given = [input, scale, bias, in_running_mean, in_running_var, epsilon, momentum]
        return self._node("batchnorm", run, given, [Tensor(x.dim, [], None) for x in (input, scale, scale, scale, scale)])

    def batchnorm_backward(
        self, grad: Tensor, input: Tensor, scale: Tensor, mean: Tensor, inv_variance: Tensor
    ) -> list[Tensor]:
        def run(g, x, w, middle, inverse, dx, dw, db):  # type: ignore[no-untyped-def]
            axes, count, normal = (0, 2, 3), x.size // x.shape[1], (x - middle) * inverse
            db[...], dw[...] = g.sum(axes, keepdims=True), (g * normal).sum(axes, keepdims=True)
            dx[...] = w * inverse * (g - db / count - normal * dw / count)

        given = [grad, input, scale, mean, inv_variance]
        return self._node("batchnorm_backward", run, given, [Tensor(x.dim, [], None) for x in (input, scale, scale)])

    def sdpa(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, attn_scale: float, generate_stats: bool
    ) -> list[Tensor]:
        def run(q, k, v, *rest):  # type: ignore[no-untyped-def]
            *bias, y, stats = rest
            scores = scores_of(q, k, bias, attn_scale)
            top = scores.max(-1, keepdims=True)
            with np.errstate(invalid="ignore"):  # -inf - -inf
                weights = np.exp(scores - top)
                sums = weights.sum(-1, keepdims=True)
                y[...], stats[...] = weights / sums @ v, top + np.log(sums)

        assert generate_stats
        assert not any(step % 8 for x in (q, k, v) for step in x.stride[:-1])
        made = [Tensor([*q.dim[:3], v.dim[3]], [], None), Tensor([*q.dim[:3], 1], [], None)]
        return self._node("sdpa", run, [q, k, v, bias], made)

    def sdpa_backward(
        self, q: Tensor, k: Tensor, v: Tensor, o: Tensor, dO: Tensor, stats: Tensor, bias: Tensor | None, attn_scale: float
    ) -> list[Tensor]:
        def run(q, k, v, y, g, stats, *rest):  # type: ignore[no-untyped-def]
            *bias, dq, dk, dv = rest
            q, k, v, y, g = (x.astype(np.float64) for x in (q, k, v, y, g))
            weights = np.exp(scores_of(q, k, bias, attn_scale) - stats)
            d_scores = weights * (g @ v.swapaxes(2, 3) - (g * y).sum(-1, keepdims=True)) * attn_scale
            dq[...], dk[...], dv[...] = d_scores @ k, d_scores.swapaxes(2, 3) @ q, weights.swapaxes(2, 3) @ g

        return self._node("sdpa_backward", run, [q, k, v, o, dO, stats, bias], [Tensor(x.dim, [], None) for x in (q, k, v)])

    # -- building and running

    def _next(self, stage: int) -> None:
        assert self.stage == stage - 1, "out of order"
        self.stage = stage

    def validate(self) -> None:
        self._next(1)
        assert {id(x) for x in self.tensors} == {id(x) for x in self.inputs}
        assert all(y.output and y.data_type is not None and len(y.stride) == len(y.dim) for y in self.results)
        assert all(len(x.dim) in (4, 5) for x in [*self.inputs, *self.results])

    def build_operation_graph(self) -> None:
        self._next(2)

    def create_execution_plans(self, heuristics: list[str]) -> None:
        self._next(3)
        assert heuristics == ["A", "FALLBACK"]

    def deselect_numeric_notes(self, notes: list[str]) -> None:
        assert self.stage == 3  # before there are plans it would be without effect
        self.notes = notes

    def check_support(self) -> None:
        self._next(4)
        self.library.asked.append(self.name)
        if self.name.startswith("sdpa") and self.inputs[0].dim[3] % 8:
            raise GraphNotSupportedError("hidden_dim should be multiple of 8")
        if self.name in self.library.unsupported:
            raise GraphNotSupportedError("no engine proposed a plan")

    def build_plans(self) -> None:
        self._next(5)
        self.library.graphs.append(self)

    def get_workspace_size(self) -> int:
        self._next(6)
        return WORKSPACE

    def execute(self, pack: dict[Tensor, int], workspace: int, handle: Any) -> None:
        assert self.stage == 6
        assert handle is self.handle
        if self.name in self.library.failing:
            raise RuntimeError("execution failed")
        assert set(pack) == {*self.inputs, *self.results}
        assert all(tensor.by_value or address % 16 == 0 for tensor, address in pack.items())
        ctypes.memset(workspace, 255, WORKSPACE)
        for y in self.results:
            y.at(pack[y])[...] = 0
        self.run(*[x.at(pack[x]) for x in [*self.inputs, *self.results]])
        self.library.ran.append((self.name, handle.stream))


class Library:
    """The package. unsupported: nodes without a plan. failing: nodes whose plan fails when it runs. asked: nodes for which a plan was looked
    for. ran: nodes that were run, with the stream."""

    data_type = SimpleNamespace(HALF=np.float16, FLOAT=np.float32)
    heur_mode = SimpleNamespace(A="A", FALLBACK="FALLBACK")
    numerical_note = SimpleNamespace(
        TENSOR_CORE="TENSOR_CORE",
        DOWN_CONVERT_INPUTS="DOWN_CONVERT_INPUTS",
        REDUCED_PRECISION_REDUCTION="REDUCED_PRECISION_REDUCTION",
    )

    def __init__(self) -> None:
        self.unsupported: set[str] = set()
        self.failing: set[str] = set()
        self.asked: list[str] = []
        self.graphs: list[Graph] = []
        self.ran: list[tuple[str, int]] = []

    def backend_version(self) -> int:
        return 91300

    def create_handle(self) -> Any:
        return SimpleNamespace(stream=None)

    def set_stream(self, handle: Any, stream: int) -> None:
        handle.stream = stream

    def pygraph(self, io_data_type: Any, intermediate_data_type: Any, compute_data_type: Any, handle: Any) -> Graph:
        assert io_data_type == intermediate_data_type == compute_data_type == np.float32
        return Graph(self, handle)


# ---- the mathematics -------------------------------------------------------------------------------------


def fitting(shape: Any, kernel: Any, pre_padding: Any, post_padding: Any, stride: Any, dilation: Any) -> list[int]:
    """How many outputs fit."""
    sides = zip(shape, kernel, pre_padding, post_padding, stride, dilation)
    return [(n + a + b - d * (k - 1) - 1) // s + 1 for n, k, a, b, s, d in sides]


def by_weight(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """(N, G, C, places) and (G, O, C) -> (N, G, O, places)."""
    return np.einsum("ngc...,goc->ngo...", x, w)


def over_places(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    """(N, G, C, places) and (N, G, O, places) -> (G, O, C)."""
    return np.einsum("ngcp,ngop->goc", *[a.reshape(*a.shape[:3], -1) for a in (x, g)])


def each_tap(add: Callable[..., Any], x: np.ndarray, w: np.ndarray, y: np.ndarray, geometry: dict[str, Any]) -> None:
    """``add(xs, ws, ys)`` for each tap of the kernel: what it reads of the padded input, its weights, all outputs; by groups, in double
    precision. One of the three is changed."""
    pre, post, stride, dilation = (geometry[name] for name in ("pre_padding", "post_padding", "stride", "dilation"))
    groups = x.shape[1] // w.shape[1]
    wide = [a.astype(np.float64) for a in (x, w, y)]
    padded = np.pad(wide[0], [(0, 0), (0, 0), *zip(pre, post)])
    xs = padded.reshape(x.shape[0], groups, -1, *padded.shape[2:])
    ws = wide[1].reshape(groups, w.shape[0] // groups, w.shape[1], *w.shape[2:])
    ys = wide[2].reshape(y.shape[0], groups, -1, *y.shape[2:])
    for tap in itertools.product(*map(range, w.shape[2:])):
        window = tuple(slice(k * d, k * d + (p - 1) * s + 1, s) for k, d, p, s in zip(tap, dilation, y.shape[2:], stride))
        add(xs[(..., *window)], ws[(..., *tap)], ys)
    inside = tuple(slice(a, a + n) for a, n in zip(pre, x.shape[2:]))
    for array, made in ((x, padded[(..., *inside)]), (w, ws.reshape(w.shape)), (y, ys.reshape(y.shape))):
        array[...] = made


def scores_of(q: np.ndarray, k: np.ndarray, bias: list[np.ndarray], scale: float) -> np.ndarray:
    made = q.astype(np.float64) @ k.astype(np.float64).swapaxes(2, 3) * scale
    return made + bias[0] if bias else made
