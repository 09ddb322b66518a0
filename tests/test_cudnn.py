"""cuDNN behind the operators. Without a GPU: the switch, the way of a call to the library and back (``cudnn_on_cpu`` runs the graphs), what is
refused, and the graphs themselves by the real package's own checks where it is installed. With one: the same values as without cuDNN."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from cudnn_on_cpu import Gpu, Library

import tinygrad_ja as tg
from tinygrad_ja import backends
from tinygrad_ja.core.operator import OPERATORS
from tinygrad_ja.kernels import cudnn as plans
from tinygrad_ja.kernels import cupy_cudnn
from tinygrad_ja.kernels.cudnn import Engine, Graph
from tinygrad_ja.nn import functional as F
from tinygrad_ja.ops.conv import causal_conv1d
from tinygrad_ja.testing import strict

TOUCHED = [function.operator for function, _ in [*cupy_cudnn.FORWARD, *cupy_cudnn.BACKWARD]]


class Accelerated:
    """The accelerator before the kernels of the strict arrays."""

    def __init__(self) -> None:
        self.library, self.gpu, self.switch = Library(), Gpu(), backends.CuDNN()
        self.engine = Engine(self.library, self.gpu)
        self.switch._attach(self.engine, strict.ndarray)
        self.switch.enabled = True

    @property
    def ran(self) -> list[str]:
        return [name for name, _ in self.library.ran]


@pytest.fixture
def on() -> Iterator[Accelerated]:
    kept = [(op, op.kernels[strict.ndarray], op.backward_kernels.get(strict.ndarray)) for op in TOUCHED]
    yield Accelerated()
    for operator, forward, backward in kept:
        operator.kernels[strict.ndarray] = forward
        operator.backward_kernels.pop(strict.ndarray, None)
        assert backward is None
        operator.__dict__.pop("backward", None)


# ---- cases -----------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A call of Tensors, the shapes of its inputs, and the nodes that it and its gradients are."""

    call: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    nodes: tuple[str, ...]
    dtypes: tuple[str, ...] = ("float32", "float16")


CONV, TRANSPOSED = ("fprop", "dgrad", "wgrad"), ("dgrad", "fprop", "wgrad")
CASES = {
    "conv2d": Case(F.conv2d, ((2, 3, 6, 5), (4, 3, 3, 2)), CONV),
    "bias": Case(F.conv2d, ((2, 3, 6, 5), (4, 3, 3, 2), (4,)), CONV),
    "padding": Case(lambda x, w: F.conv2d(x, w, padding=(2, 1)), ((2, 2, 5, 5), (3, 2, 3, 3)), CONV),
    "stride, part of the input unread": Case(lambda x, w: F.conv2d(x, w, stride=(2, 3)), ((2, 2, 8, 9), (3, 2, 3, 2)), CONV),
    "dilation": Case(lambda x, w: F.conv2d(x, w, padding=1, dilation=(2, 1)), ((2, 2, 8, 7), (3, 2, 3, 3)), CONV),
    "groups": Case(lambda x, w: F.conv2d(x, w, groups=2, stride=2, padding=1), ((2, 4, 7, 6), (6, 2, 3, 3)), CONV),
    "depthwise": Case(lambda x, w: F.conv2d(x, w, groups=3), ((2, 3, 5, 5), (3, 1, 2, 2)), CONV),
    "same, even kernel": Case(lambda x, w: F.conv2d(x, w, padding="same"), ((2, 2, 5, 6), (3, 2, 2, 4)), CONV),
    "conv1d": Case(lambda x, w, b: F.conv1d(x, w, b, stride=2, padding=1), ((2, 3, 9), (4, 3, 3), (4,)), CONV),
    "without N": Case(lambda x, w: F.conv1d(x, w), ((3, 9), (4, 3, 3)), CONV),
    "causal": Case(lambda x, w: causal_conv1d(x, w, dilation=2), ((2, 3, 9), (4, 3, 3)), CONV),
    "causal, stride": Case(lambda x, w: causal_conv1d(x, w, stride=3), ((2, 3, 9), (4, 3, 3)), CONV),
    "conv3d": Case(lambda x, w: F.conv3d(x, w, padding=1, stride=(1, 2, 1)), ((1, 2, 4, 5, 3), (3, 2, 2, 3, 3)), CONV),
    "transposed": Case(
        lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2, padding=1), ((2, 3, 4, 3), (3, 2, 3, 3), (2,)), TRANSPOSED
    ),
    "output_padding": Case(
        lambda x, w: F.conv_transpose2d(x, w, stride=(3, 2), output_padding=(2, 1), groups=2),
        ((2, 4, 3, 3), (4, 2, 2, 3)),
        TRANSPOSED,
    ),
    "transposed, rows": Case(lambda x, w: F.conv_transpose1d(x, w, stride=2, dilation=2), ((2, 3, 4), (3, 2, 3)), TRANSPOSED),
    "channels last": Case(
        lambda x, w: F.conv2d(x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1)), ((2, 6, 5, 3), (3, 2, 3, 4)), CONV
    ),
    "a slice": Case(lambda x, w: F.conv2d(x[:, 1:3, ::2], w, padding=1), ((2, 4, 8, 5), (4, 2, 3, 3)), CONV),
    "a part that begins anywhere": Case(
        lambda x, w: F.conv2d(x[1:26].reshape(1, 1, 5, 5), w[3:].reshape(2, 1, 3, 3)), ((30,), (21,)), CONV
    ),
    "batch norm": Case(
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        ((3, 4, 2, 5), (4,), (4,)),
        ("batchnorm", "batchnorm_backward"),
    ),
    "batch norm of rows, no parameters": Case(
        lambda x: F.batch_norm(x, None, None, training=True, eps=0.1), ((8, 4),), ("batchnorm", "batchnorm_backward")
    ),
    "batch norm of volumes, turned": Case(
        lambda x, w: F.batch_norm(x.transpose(0, 1), None, None, w, training=True),
        ((4, 3, 2, 2, 3), (4,)),
        ("batchnorm", "batchnorm_backward"),
    ),
}
ATTENTION = ("sdpa", "sdpa_backward")
HALF = ("float16",)
sdpa = F.scaled_dot_product_attention
CASES |= {
    "attention": Case(sdpa, ((2, 3, 5, 8), (2, 3, 4, 8), (2, 3, 4, 16)), ATTENTION, HALF),
    "attention, causal": Case(lambda q, k, v: sdpa(q, k, v, is_causal=True), ((2, 3, 5, 8),) * 3, ATTENTION, HALF),
    "attention, heads split without a copy": Case(
        lambda x: sdpa(*[p.reshape(2, 5, 3, 8).transpose(1, 2) for p in x.split(24, 2)]), ((2, 5, 72),), ATTENTION, HALF
    ),
    "attention of rows": Case(lambda q, k, v: sdpa(q, k, v, scale=0.5), ((5, 8), (4, 8), (4, 8)), ATTENTION, HALF),
    "attention, parts of rows": Case(
        lambda q, k, v: sdpa(q[..., :8], k[..., 4:], v[..., 1:9]),
        ((2, 3, 5, 12), (2, 3, 4, 12), (2, 3, 4, 12)),
        ATTENTION,
        HALF,
    ),
    "attention, one head of a batch": Case(
        lambda x: sdpa(*[p.reshape(2, 5, 1, 8).transpose(1, 2)[:, 0] for p in x.split(8, 2)]), ((2, 5, 24),), ATTENTION, HALF
    ),
    "attention, shared queries": Case(
        lambda q, k, v: sdpa(q.expand(3, 5, 8), k, v), ((1, 5, 8), (3, 4, 8), (3, 4, 8)), ATTENTION, HALF
    ),
}
EACH = [(name, dtype) for name, case in CASES.items() for dtype in case.dtypes]


def arrays_of(case: Case, dtype: str) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.standard_normal(shape).astype(dtype) for shape in case.shapes]


def values_of(call: Callable[..., Any], arrays: list[np.ndarray], device: str) -> list[np.ndarray]:
    """The result and the gradients of a weighted sum of it."""
    inputs = [tg.tensor(a, device=device, requires_grad=True) for a in arrays]
    y = call(*inputs)
    weights = tg.tensor(np.cos(np.arange(y.numel())).reshape(tuple(y.shape)).astype(arrays[0].dtype), device=device)
    gradients = tg.grad([y], inputs, [weights])
    return [x.detach().cpu().numpy() for x in (y, *gradients)]


def check(ours: list[np.ndarray], expected: list[np.ndarray], dtype: str) -> None:
    assert len(ours) == len(expected)
    rtol, atol = (5e-3, 2e-2) if dtype == "float16" else (1e-4, 1e-5)
    for a, b in zip(ours, expected):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


# ---- the way there and back ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dtype"), EACH)
def test_values_and_gradients_are_those_of_the_usual_kernels(name: str, dtype: str, on: Accelerated) -> None:
    case = CASES[name]
    arrays = arrays_of(case, dtype)
    with on.switch.flags(enabled=False):
        expected = values_of(case.call, arrays, "strict")
    assert on.ran == []
    with strict.watch() as events:
        ours = values_of(case.call, arrays, "strict")
    check(ours, expected, dtype)
    assert on.switch.refused() == []
    assert sorted(on.ran) == sorted(case.nodes)
    assert [event.what for event in events] == ["get()"] * len(ours)  # the results themselves; nothing else waits


def test_running_statistics_follow_the_batch(on: Accelerated) -> None:
    def trained() -> tuple[Any, Any]:
        layer = tg.nn.BatchNorm2d(3).to("strict")
        layer(tg.tensor(np.random.default_rng(0).normal(5.0, 2.0, (4, 3, 2, 5)).astype(np.float32), device="strict"))
        return layer.running_mean.cpu().numpy(), layer.running_var.cpu().numpy()

    with on.switch.flags(False):
        expected = trained()
    np.testing.assert_allclose(trained(), expected, rtol=1e-5)
    assert on.ran == ["batchnorm"]


def test_gradients_by_way_of_mean_and_variance_count_too(on: Accelerated) -> None:
    operator = OPERATORS["batch_norm"].public

    def call(x: Any) -> Any:
        y, middle, spread = operator(x, None, None, 1e-3)
        return y.sum(0).sum((1, 2)) + middle * 2 + spread * 3

    arrays = arrays_of(CASES["batch norm"], "float32")[:1]
    with on.switch.flags(False):
        expected = values_of(call, arrays, "strict")
    check(values_of(call, arrays, "strict"), expected, "float32")
    assert on.ran == ["batchnorm", "batchnorm_backward"]


def check_empty_rows(shape: tuple[int, ...], device: str, flags: Callable[[bool], Any]) -> None:
    arrays = arrays_of(CASES["attention"], "float16")
    mask = np.random.default_rng(1).random(shape) < 0.5
    mask[..., 0, :] = False
    tensor = tg.tensor(mask, device=device)

    def call(q: Any, k: Any, v: Any) -> Any:
        return sdpa(q, k, v, tensor)

    with flags(False):
        expected = values_of(call, arrays, device)
    with flags(True):
        ours = values_of(call, arrays, device)
    check(ours, expected, "float16")
    assert not ours[0][..., 0, :].any() and not ours[1][..., 0, :].any() and np.isfinite(ours[0]).all()


MASKS = [(5, 4), (1, 4), (2, 1, 5, 4), (2, 3, 1, 4)]


@pytest.mark.parametrize("shape", MASKS)
def test_a_query_that_may_look_at_nothing_gives_0_and_passes_nothing_on(shape: tuple[int, ...], on: Accelerated) -> None:
    check_empty_rows(shape, "strict", on.switch.flags)
    assert on.ran == ["sdpa", "sdpa_backward"]


def test_second_derivatives_are_those_of_the_usual_kernels(on: Accelerated) -> None:
    def second(call: Callable[..., Any], arrays: list[np.ndarray]) -> list[np.ndarray]:
        inputs = [tg.tensor(a, device="strict", requires_grad=True) for a in arrays]
        first = tg.grad((call(*inputs) ** 3).sum(), inputs, create_graph=True)
        return [g.cpu().numpy() for g in tg.grad(sum((g**2).sum() for g in first), inputs)]

    for name in ("bias", "batch norm"):
        arrays = arrays_of(CASES[name], "float32")
        with on.switch.flags(False):
            expected = second(CASES[name].call, arrays)
        check(second(CASES[name].call, arrays), expected, "float32")
    assert on.ran.count("fprop") > 1 and on.ran.count("batchnorm") == 1


def test_only_wanted_gradients_are_computed(on: Accelerated) -> None:
    x = tg.tensor(np.ones((1, 1, 4, 4), np.float32), device="strict")
    w = tg.tensor(np.ones((1, 1, 2, 2), np.float32), device="strict", requires_grad=True)
    F.conv2d(x, w).sum().backward()
    assert on.ran == ["fprop", "wgrad"]


def test_an_axis_of_size_1_has_the_stride_of_a_contiguous_array() -> None:
    x = strict.array(np.zeros((4, 1, 3, 6), np.float16))
    assert plans.form_of(x[None, :, :, :, :4]) == plans.Form((1, 4, 1, 3, 4), (72, 18, 18, 6, 1), "e")
    assert plans.form_of(x[..., None]) == plans.Form((4, 1, 3, 6, 1), (18, 18, 6, 1, 1), "e")


# ---- padding ---------------------------------------------------------------------------------------------


def test_zeros_behind_are_those_with_which_as_many_outputs_fit() -> None:
    found = 0
    for n, k, size, stride, before, dilation in itertools.product((1, 4, 7), (1, 3), (1, 2, 4), (1, 2, 3), (0, 1, 3), (1, 2)):
        right = [a for a in range(30) if (n + before + a - dilation * (k - 1) - 1) // stride + 1 == size]
        made = cupy_cudnn._padding_behind(n, k, size, stride, before, dilation)
        assert made in right if right else made is None
        assert made == before or before not in right
        found += made is not None
    assert found > 50


def test_outputs_that_end_before_the_input_are_left_to_the_usual_kernel(on: Accelerated) -> None:
    x, w = (strict.array(np.ones(shape, np.float32)) for shape in ((1, 1, 6), (1, 1, 1)))
    y = OPERATORS["convolution"].public(x, w, None, (2,), (1,), (0,), (1,), 1)
    assert strict.peek(y).tolist() == [[[1.0, 1.0]]] and on.library.asked == []


# ---- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["unsupported", "failing"])
@pytest.mark.parametrize("name", ["bias", "output_padding", "batch norm", "attention"])
def test_what_cudnn_cannot_do_runs_as_before_and_is_not_asked_again(name: str, kind: str, on: Accelerated) -> None:
    case, dtype = CASES[name], CASES[name].dtypes[0]
    getattr(on.library, kind).update(case.nodes)
    arrays = arrays_of(case, dtype)
    with on.switch.flags(False):
        expected = values_of(case.call, arrays, "strict")
    for _ in range(2):
        check(values_of(case.call, arrays, "strict"), expected, dtype)
    assert on.ran == [] and sorted(on.library.asked) == sorted(case.nodes)
    refused = on.switch.refused()
    assert [line.partition(" of ")[0] for line in refused] == on.library.asked
    reason = "GraphNotSupportedError: no engine" if kind == "unsupported" else "RuntimeError: execution failed"
    assert all(reason in line and dtype in line for line in refused)


def test_a_backward_that_cudnn_cannot_do_follows_a_forward_that_it_did(on: Accelerated) -> None:
    on.library.unsupported |= {"sdpa_backward", "batchnorm_backward"}
    for name in ("attention", "attention, causal", "batch norm"):
        case, dtype = CASES[name], CASES[name].dtypes[-1]
        arrays = arrays_of(case, dtype)
        with on.switch.flags(False):
            expected = values_of(case.call, arrays, "strict")
        check(values_of(case.call, arrays, "strict"), expected, dtype)
    assert on.ran == ["sdpa", "sdpa", "batchnorm"]


UNOFFERED: dict[str, tuple[str, str, tuple[tuple[int, ...], ...] | None]] = {
    "convolution in double precision": ("bias", "float64", None),
    "convolution of integers": ("conv2d", "int64", None),
    "no samples": ("conv2d", "float32", ((0, 3, 6, 5), (4, 3, 3, 2))),
    "normalization in double precision": ("batch norm", "float64", None),
    "attention in single precision": ("attention", "float32", None),
    "attention without keys": ("attention", "float16", ((2, 3, 5, 8), (2, 3, 0, 8), (2, 3, 0, 8))),
    "attention that broadcasts": ("attention", "float16", ((2, 3, 5, 8), (3, 4, 8), (1, 3, 4, 8))),
    "attention of five axes": ("attention", "float16", ((1, 2, 3, 5, 8),) * 3),
}


@pytest.mark.parametrize("name", UNOFFERED)
def test_what_is_not_offered_runs_as_before(name: str, on: Accelerated) -> None:
    kind, dtype, shapes = UNOFFERED[name]
    case = CASES[kind]._replace(shapes=shapes or CASES[kind].shapes)
    arrays = [strict.array(a) for a in arrays_of(case, dtype)]
    with on.switch.flags(False):
        expected = case.call(*arrays)
    np.testing.assert_array_equal(strict.peek(case.call(*arrays)), strict.peek(expected))
    assert on.library.asked == []


def test_the_gradient_of_a_bias_of_attention_is_left_to_the_usual_kernel(on: Accelerated) -> None:
    case = CASES["attention"]._replace(shapes=(*CASES["attention"].shapes, (5, 4)))
    arrays = arrays_of(case, "float16")
    with on.switch.flags(False):
        expected = values_of(case.call, arrays, "strict")
    check(values_of(case.call, arrays, "strict"), expected, "float16")
    assert on.ran == ["sdpa"]


def test_a_stream_that_records_a_graph_gets_the_usual_kernels(on: Accelerated) -> None:
    on.gpu.captures = True
    values_of(CASES["bias"].call, arrays_of(CASES["bias"], "float32"), "strict")
    assert on.library.asked == []


def test_memory_that_does_not_suffice_today_is_asked_for_again(on: Accelerated, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*args: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(on.gpu, "empty", exhausted)
        convolve(4)
    assert on.ran == [] and on.switch.refused() == []
    convolve(4)
    assert on.ran == ["fprop"] and on.library.asked == ["fprop"]


# ---- plans -----------------------------------------------------------------------------------------------


def convolve(size: int) -> None:
    x, w = (strict.array(np.ones(shape, np.float32)) for shape in ((1, 1, size, size), (1, 1, 2, 2)))
    F.conv2d(x, w)


def test_a_plan_is_looked_for_once_and_runs_on_the_stream_of_the_call(on: Accelerated) -> None:
    convolve(4)
    on.gpu.stream_now = 12
    convolve(4)
    convolve(5)
    assert on.library.asked == ["fprop"] * 2
    assert on.library.ran == [("fprop", 11), ("fprop", 12), ("fprop", 12)]


def test_the_plan_that_was_not_used_for_longest_goes_first(on: Accelerated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "PLANS", 2)
    for size in (4, 5, 4, 6, 4):
        convolve(size)
    assert len(on.engine.plans) == 2 and len(on.library.asked) == 3
    convolve(5)
    assert len(on.engine.plans) == 2 and len(on.library.asked) == 4


def test_single_precision_is_not_taken_in_tf32_unless_cupy_was_asked_to(on: Accelerated) -> None:
    usual = {"DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION"}
    convolve(4)
    on.gpu.tf32 = True
    convolve(4)
    values_of(CASES["conv2d"].call, arrays_of(CASES["conv2d"], "float16"), "strict")
    single, with_tf32, *half = [set(graph.notes) for graph in on.library.graphs]
    assert single == usual | {"TENSOR_CORE"} and with_tf32 == usual
    assert half == [usual] * 3


# ---- the switch ------------------------------------------------------------------------------------------


def test_it_is_off_until_turned_on_and_a_misspelt_setting_is_an_error() -> None:
    assert tg.backends.cudnn.enabled is False and tg.backends.cudnn.refused() == []
    with pytest.raises(AttributeError):
        tg.backends.cudnn.enable = True


def test_flags_hold_for_their_block(on: Accelerated) -> None:
    with pytest.raises(ZeroDivisionError), on.switch.flags(enabled=False):
        assert not on.switch.enabled
        raise ZeroDivisionError
    assert on.switch.enabled


@pytest.mark.skipif(tg.cuda.is_available(), reason="says what happens where no GPU can be used")
def test_without_a_gpu_it_cannot_be_turned_on() -> None:
    with pytest.raises(tg.errors.DeviceError, match=r"TG-D00[234]"):
        tg.backends.cudnn.enabled = True
    with pytest.raises(tg.errors.DeviceError), tg.backends.cudnn.flags(True):
        pass
    assert not tg.backends.cudnn.enabled and not tg.backends.cudnn.is_available()


# ---- the real package's own checks -----------------------------------------------------------------------


class Validating(Engine):
    """Has every graph checked by the library, and leaves the work to the usual kernels."""

    def __init__(self, library: Any, gpu: Any) -> None:
        super().__init__(library, gpu)
        self.saw: set[str] = set()

    def run(self, node: Any, inputs: Any, outputs: Any, **settings: Any) -> bool:
        given, made = (tuple(map(plans.form_of, arrays)) for arrays in (inputs, outputs))
        self.saw.add(node.__name__)
        attention = node.__name__ in ATTENTION  # of which the library checks nothing without a GPU
        graph = Graph(self.library, node, given, made, settings)
        if not attention:
            graph.native.validate()
        assert [(tuple(y.get_dim()), tuple(y.get_stride())) for y in graph.outputs] == [(y.shape, y.strides) for y in made]
        if node.__name__ in ("dgrad", "wgrad"):  # whose sizes cannot be inferred
            return False
        graph = Graph(self.library, node, given, (), settings)
        if not attention:
            for y in graph.outputs:
                y.set_output(True)
            graph.native.validate()
        for tensor, y in zip(graph.outputs, made):
            sizes = tuple(tensor.get_dim())
            assert sizes == y.shape or (attention and not sizes)  # up to 1.24 only on a GPU
        return False


def checking() -> Any:
    """NVIDIA's own package with cuDNN itself, which needs no GPU to check a graph."""
    if tg.backends.cudnn.version() is None:
        pytest.skip("cuDNN is not installed: pip install -e '.[cudnn]'")
    return plans.library()


@pytest.mark.parametrize(("name", "dtype"), EACH)
def test_the_library_takes_the_graphs_and_infers_the_sizes_of_the_operators(name: str, dtype: str, on: Accelerated) -> None:
    library = checking()
    engine = Validating(library, on.gpu)
    on.switch._attach(engine, strict.ndarray)
    values_of(CASES[name].call, arrays_of(CASES[name], dtype), "strict")
    assert engine.saw == set(CASES[name].nodes)


def test_the_library_has_the_names_that_plans_ask_for() -> None:
    library = checking()
    for names, owner in [
        ("A FALLBACK", library.heur_mode),
        ("TENSOR_CORE DOWN_CONVERT_INPUTS REDUCED_PRECISION_REDUCTION", library.numerical_note),
        ("HALF FLOAT", library.data_type),
        ("create_handle set_stream backend_version", library),
        ("create_execution_plans deselect_numeric_notes check_support build_plans get_workspace_size execute", library.pygraph),
    ]:
        assert [name for name in names.split() if not hasattr(owner, name)] == []


# ---- on a GPU --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dtype"), EACH)
@pytest.mark.gpu
@pytest.mark.skipif(not tg.backends.cudnn.is_available(), reason="needs a GPU, CuPy and cuDNN")
def test_on_a_gpu_values_and_gradients_are_those_of_the_usual_kernels(name: str, dtype: str) -> None:
    case = CASES[name]
    arrays = arrays_of(case, dtype)
    expected = values_of(case.call, arrays, "cuda")
    before = tg.backends.cudnn.refused()
    with tg.backends.cudnn.flags(True):
        for _ in range(2):
            check(values_of(case.call, arrays, "cuda"), expected, dtype)
    assert tg.backends.cudnn.refused() == before


@pytest.mark.parametrize("shape", MASKS)
@pytest.mark.gpu
@pytest.mark.skipif(not tg.backends.cudnn.is_available(), reason="needs a GPU, CuPy and cuDNN")
def test_on_a_gpu_a_query_that_may_look_at_nothing_gives_0(shape: tuple[int, ...]) -> None:
    check_empty_rows(shape, "cuda", tg.backends.cudnn.flags)
