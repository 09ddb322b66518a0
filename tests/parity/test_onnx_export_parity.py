"""Exported files in onnxruntime: every layer with several settings, every function, and twelve architectures.

Every operator on many more of its own drawn cases: pytest tests/parity/test_onnx_export_parity.py -k an_operator --examples 100
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.core.operator import OPERATORS, Operator
from tinygrad_ja.errors import TinygradError
from tinygrad_ja.io import export_onnx
from tinygrad_ja.io.onnx.export import tensors_in, with_tensors
from tinygrad_ja.testing.case import draw_case
from tinygrad_ja.testing.fuzz import operators_of_the_package
from tinygrad_ja.testing.pick import NumpyChoices, Pick

pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

from parity.onnx_layers import cases  # noqa: E402
from parity.onnx_models import MODELS  # noqa: E402
from test_strict_functions import CALLS, INPUTS  # noqa: E402


def session(path: Path) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(path: Path, inputs: Sequence[tg.Tensor]) -> list[np.ndarray]:
    opened = session(path)
    return opened.run(None, {given.name: x.numpy() for given, x in zip(opened.get_inputs(), inputs)})


def expected(model: Callable[..., Any], args: Any) -> list[np.ndarray]:
    with tg.no_grad():
        return [y.numpy() for y in tensors_in(model(*args))]


def compare(made: Sequence[np.ndarray], wanted: Sequence[np.ndarray], tolerance: float = 1e-5) -> None:
    assert len(made) == len(wanted) > 0
    for y, e in zip(made, wanted):
        assert y.shape == e.shape and y.dtype == e.dtype
        np.testing.assert_allclose(y, e, rtol=tolerance, atol=tolerance)


LAYERS = cases()


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_the_same_in_onnxruntime(name: str, tmp_path: Path) -> None:
    layer, args = LAYERS[name]
    if isinstance(layer, nn.Module):
        layer.eval()
    export_onnx(layer, args, tmp_path / "layer.onnx")
    compare(run(tmp_path / "layer.onnx", list(tensors_in(args))), expected(layer, args))


@pytest.mark.parametrize("name", MODELS)
def test_an_architecture_gives_the_same_in_onnxruntime(name: str, tmp_path: Path) -> None:
    tg.manual_seed(0)
    model, args = MODELS[name]()
    model.eval()
    export_onnx(model, args, tmp_path / "model.onnx")
    compare(run(tmp_path / "model.onnx", list(tensors_in(args))), expected(model, args))


@pytest.mark.parametrize("name", MODELS)
def test_an_architecture_takes_batches_of_any_size(name: str, tmp_path: Path) -> None:
    tg.manual_seed(0)
    model, args = MODELS[name]()
    model.eval()
    inputs = list(tensors_in(args))
    names = [f"input_{number}" for number in range(len(inputs))]
    axes = [1 if name.startswith("LSTM") and number else 0 for number in range(len(inputs))]  # a state is (layers, N, H)
    dynamic = {key: {axis: "batch"} for key, axis in zip(names, axes)}
    export_onnx(model, args, tmp_path / "model.onnx", input_names=names, dynamic_axes=dynamic)
    rng = np.random.default_rng(0)
    for size in (1, 2, 5):
        given = []
        for x, axis in zip(inputs, axes):
            rows = np.take(x.numpy(), np.arange(size) % x.shape[axis], axis)
            noise = rng.normal(0, 0.1, rows.shape) if rows.dtype.kind == "f" else 0
            given.append(tg.from_numpy((rows + noise).astype(rows.dtype)))
        compare(run(tmp_path / "model.onnx", given), expected(model, with_tensors(args, iter(given))))


def test_every_layer_that_can_be_exported_is_here() -> None:
    listed = {name.split()[0] for name in LAYERS}
    containers = {
        "Module",
        "ModuleDict",
        "ModuleList",
        "ParameterDict",
        "ParameterList",
        "Sequential",
        "RNNBase",
        "RNNCellBase",
    }
    own = {name for name, kind in vars(nn).items() if isinstance(kind, type) and issubclass(kind, nn.Module)}
    assert own - containers - listed == set(NOT_HERE)


NOT_HERE = {
    "HierarchicalSoftmax": "looks up the way to a word in NumPy",
    "NegativeSampling": "draws random numbers",
}
"""Layers that cannot be exported, and why."""


# ---- functions and operators ---------------------------------------------------------------------

NO_FILE = frozenset(
    """allclose equal bincount histc unique unique_consecutive nonzero masked_select multinomial embedding matrix_exp nms batched_nms
    roi_align roi_pool index_reduce scatter_reduce ctc_loss
    bernoulli normal rand rand_like randint randint_like randn randn_like randperm alpha_dropout feature_alpha_dropout dropout dropout1d
    dropout2d dropout3d rrelu gradient_penalty
    polygamma nanmedian mode cholesky inverse pinverse matrix_power
    linalg.matrix_norm linalg.cholesky linalg.solve linalg.solve_triangular linalg.eigh linalg.eigvalsh linalg.qr linalg.svd linalg.svdvals
    linalg.matrix_rank linalg.pinv""".split()
)
"""Functions that cannot be exported: they read values, draw random numbers, or have no operator in ONNX (decompositions)."""


@pytest.mark.parametrize("name", CALLS)
def test_a_function_gives_the_same_in_onnxruntime(name: str, tmp_path: Path) -> None:
    inputs = tuple([tg.tensor(a, dtype=a.dtype) for a in INPUTS.values()])

    def call(*given: tg.Tensor) -> Any:
        return CALLS[name](SimpleNamespace(device="cpu", **dict(zip(INPUTS, given))))

    path = tmp_path / "function.onnx"
    if name in NO_FILE:
        with pytest.raises(TinygradError):
            export_onnx(call, inputs, path, opset_version=18)
        return
    with np.errstate(all="ignore"):
        export_onnx(call, inputs, path, opset_version=18)
        if name not in ("empty", "empty_like"):
            compare(run(path, inputs), expected(call, inputs), 1e-4)


NO_NODES = frozenset(
    """add_strided apply_mask argwhere at_taps bessel_i boundary cholesky cofactor complement conv_weight derivative_of_sinc dft
    dft_transpose digamma eigh eigvalsh erfinv from_taps from_triangle i0 inv lgamma minors mode_position pinv polygamma qr
    reduce_precision sample_spread sample_weights solve solve_triangular svd svdvals""".split()
)
"""Operators without nodes: derivatives of others, decompositions, special functions, and what depends on values or chance."""

ONLY_SOME = {
    "add_slices": "not with a padding row",
    "cumprod": "not with starts",
    "first_largest": "bags of one length",
    "median_position": "no NaN",
    "middle": "no NaN",
    "scatter_extreme": "with include_self",
    "unfold": "windows that touch the input",
    "window_max": "taps are positions in ONNX",
}
"""Operators with nodes for some of their cases."""


def usable_cases(operator: Operator, count: int) -> Iterator[tuple[list[Any], dict[str, Any]]]:
    """Inputs and constants of ``count`` drawn cases in which there are arrays and none is empty; onnxruntime lacks float64."""
    rest = count
    for seed in range(100 * count):
        case = draw_case(operator, Pick(NumpyChoices(np.random.default_rng(seed))))
        inputs, constants = case.convert(lambda a: a.astype(np.float32) if a.dtype == np.float64 else a)
        sizes = [x.size for x in inputs if isinstance(x, np.ndarray)]
        if sizes and all(sizes):
            yield inputs, constants
            rest -= 1
        if not rest:
            return
    raise AssertionError(f"{operator.name}: {count - rest} of {count} cases")


@pytest.mark.parametrize("name", sorted({operator.name for operator in operators_of_the_package()} - NO_NODES - set(ONLY_SOME)))
def test_an_operator_gives_the_same_in_onnxruntime(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    operator = OPERATORS[name]
    for inputs, constants in usable_cases(operator, 1 + request.config.getoption("--examples") // 7):
        places = [i for i, x in enumerate(inputs) if isinstance(x, np.ndarray)]

        def call(*given: tg.Tensor, inputs: Any = inputs, constants: Any = constants, places: Any = places) -> Any:
            whole = list(inputs)
            for place, x in zip(places, given):
                whole[place] = x
            return operator.call(operator.public, whole, constants)

        given = tuple([tg.Tensor(inputs[i]) for i in places])
        with np.errstate(all="ignore"):
            export_onnx(call, given, tmp_path / "operator.onnx", opset_version=18)
            compare(run(tmp_path / "operator.onnx", given), expected(call, given), 1e-4)
