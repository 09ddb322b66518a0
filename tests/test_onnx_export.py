"""Export to ONNX: what the file looks like, and what is refused. Equality with onnxruntime is in tests/parity."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.errors import ArgumentError, UsageError
from tinygrad_ja.io import export_onnx

onnx = pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def operators(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


def dims(value: Any) -> list[Any]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


class Layered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
        self.head = nn.Linear(6, 2)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.head(self.encoder(x)).softmax(-1)


# ---- the file ------------------------------------------------------------------------------------


def test_nodes_initializers_and_names_are_those_of_the_model(path: Path) -> None:
    made = export_onnx(Layered(), tg.ones(3, 4), path, input_names=["x"], output_names=["p"])
    assert operators(made) == ["Gemm", "Relu", "Gemm", "Softmax"]
    assert [node.name for node in made.graph.node] == ["/encoder/0/Gemm", "/encoder/1/Relu", "/head/Gemm", "/Softmax"]
    weights = {tensor.name: list(tensor.dims) for tensor in made.graph.initializer}
    assert weights == {"encoder.0.weight": [6, 4], "encoder.0.bias": [6], "head.weight": [2, 6], "head.bias": [2]}
    assert [(value.name, dims(value)) for value in (*made.graph.input, *made.graph.output)] == [("x", [3, 4]), ("p", [3, 2])]
    assert made.producer_name == "tinygrad_ja" and made.opset_import[0].version == 17
    assert onnx.load(path) == made


def test_weights_are_written_bit_by_bit(path: Path) -> None:
    model = Layered()
    made = export_onnx(model, tg.ones(3, 4), path)
    for tensor in made.graph.initializer:
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), model.state_dict()[tensor.name].numpy())


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Conv2d(2, 3, 3), (1, 2, 5, 5), ["Conv"]),
        (nn.ConvTranspose2d(2, 3, 3), (1, 2, 5, 5), ["ConvTranspose"]),
        (nn.BatchNorm2d(2), (1, 2, 5, 5), ["BatchNormalization"]),
        (nn.InstanceNorm2d(2), (1, 2, 5, 5), ["InstanceNormalization"]),
        (nn.LayerNorm(5), (2, 5), ["LayerNormalization"]),
        (nn.MaxPool2d(5, 1, 2), (1, 2, 7, 7), ["MaxPool"]),
        (nn.AvgPool2d(2), (1, 2, 4, 4), ["AveragePool"]),
        (nn.Upsample(scale_factor=2, mode="bilinear"), (1, 2, 4, 4), ["Resize"]),
        (nn.ZeroPad2d(1), (1, 2, 4, 4), ["Pad"]),
        (nn.LSTM(3, 4), (5, 2, 3), ["LSTM", "Reshape"]),
        (nn.Dropout(0.5), (2, 3), ["Identity"]),
        (nn.Flatten(), (2, 3, 4), ["Reshape"]),
        (nn.Hardswish(), (2,), ["HardSwish"]),
    ],
)
def test_a_layer_is_the_operator_of_its_name(layer: nn.Module, shape: tuple[int, ...], expected: list[str], path: Path) -> None:
    assert operators(export_onnx(layer, tg.ones(*shape), path)) == expected


def test_tensors_in_nested_arguments_and_results_are_inputs_and_outputs(path: Path) -> None:
    def program(pair: tuple[tg.Tensor, tg.Tensor], options: dict[str, Any], twice: bool) -> dict[str, Any]:
        total = pair[0] + pair[1] * options["scale"]
        return {"sum": total * 2 if twice else total, "parts": [pair[0], total]}

    made = export_onnx(program, ((tg.ones(2), tg.ones(2)), {"scale": tg.ones(1)}, True), path)
    assert [value.name for value in made.graph.input] == ["input", "input_1", "input_2"]
    assert [value.name for value in made.graph.output] == ["output", "output_1", "output_2"]
    assert operators(made) == ["Mul", "Add", "Mul", "Identity"]


def test_one_result_may_be_an_output_twice(path: Path) -> None:
    made = export_onnx(lambda x: (y := x.exp(), y, x), tg.ones(2), path)
    assert operators(made) == ["Exp", "Identity", "Identity"]


def test_what_no_output_needs_is_left_out(path: Path) -> None:
    unused = nn.Parameter(tg.ones(100))

    def program(x: tg.Tensor) -> tg.Tensor:
        (x[:1] * unused).sum()
        return x + 1

    made = export_onnx(program, tg.ones(2), path)
    assert operators(made) == ["Add"] and [list(t.dims) for t in made.graph.initializer] == [[]]


def test_equal_constants_are_written_once(path: Path) -> None:
    made = export_onnx(lambda x: (x + 1) * (x - 1), tg.ones(2), path)
    assert len(made.graph.initializer) == 1


@pytest.mark.parametrize("version", [17, 18, 20, 21, 23])
def test_newer_opsets_are_valid_too(version: int, path: Path) -> None:
    if version > onnx.defs.onnx_opset_version():
        pytest.skip(f"the installed onnx ends before opset {version}")
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.GELU(), nn.GroupNorm(2, 4), nn.RMSNorm(6), nn.AdaptiveAvgPool1d(1))
    made = export_onnx(model, tg.ones(1, 2, 8), path, opset_version=version)
    assert made.opset_import[0].version == version
    assert ("Gelu" in operators(made)) == (version >= 20) and ("RMSNormalization" in operators(made)) == (version >= 23)


# ---- the model is as before ----------------------------------------------------------------------


def test_flags_of_training_come_back_one_by_one(path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.BatchNorm1d(2))
    model.train()
    model[1].eval()
    before = model.state_dict()["2.running_mean"].tolist()
    assert "Dropout" not in operators(export_onnx(model, tg.randn(3, 2), path))
    assert [module.training for module in model] == [True, False, True] and model.training
    assert model.state_dict()["2.running_mean"].tolist() == before
    with pytest.raises(UsageError):
        export_onnx(Reading(), tg.ones(2), path)


class Reading(nn.Module):
    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return x * 2 if x.sum() > 0 else x


def test_a_failure_restores_the_model_and_leaves_the_old_file(path: Path) -> None:
    path.write_bytes(b"old")
    model = nn.Sequential(nn.Linear(2, 2), Reading())
    with pytest.raises(UsageError, match="TG-U016.*if x:"):
        export_onnx(model, tg.ones(1, 2), path)
    assert model.training and model[1].training and type(model[0].weight.array) is np.ndarray
    assert path.read_bytes() == b"old" and [p.name for p in path.parent.iterdir()] == ["model.onnx"]


class Counting(nn.Module):
    """Keeps a state between calls."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.register_buffer("state", tg.zeros(2))
        self.in_place = in_place

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        if self.in_place:
            self.state += x
        else:
            self.state = self.state * 0.5 + x
        return self.state * 1


@pytest.mark.parametrize("in_place", [True, False])
def test_a_buffer_that_the_call_changes_is_refused_and_restored(in_place: bool, path: Path) -> None:
    model = Counting(in_place)
    with pytest.raises(ArgumentError, match="TG-A003.*changes 'state'"):
        export_onnx(model, tg.ones(2), path)
    assert type(model.state.array) is np.ndarray and model.state.tolist() == [0.0, 0.0]
    assert list(model.state_dict()) == ["state"]


def test_a_traced_tensor_in_an_attribute_is_refused_and_removed(path: Path) -> None:
    class Remembering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = None

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            self.last = x * 2
            return self.last

    model = nn.Sequential(Remembering())
    with pytest.raises(ArgumentError, match="TG-A003.*changes '0.last'"):
        export_onnx(model, tg.ones(2), path)
    assert model[0].last is None and model(tg.ones(2)).tolist() == [2.0, 2.0]


def test_a_model_in_a_function_is_as_before_too(path: Path) -> None:
    model = nn.BatchNorm1d(2)
    export_onnx(lambda x: model(x), tg.randn(3, 2), path)  # in training mode: it normalizes by the batch
    assert model.running_mean.tolist() == [0.0, 0.0] and model(tg.randn(3, 2)).shape == (3, 2)


def test_lazy_layers_are_made_first(path: Path) -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())
    made = export_onnx(model, tg.ones(2, 4), path)
    assert {"0.weight", "0.bias"} <= {tensor.name for tensor in made.graph.initializer} and model[0].in_features == 4


# ---- sizes that may vary -------------------------------------------------------------------------


def test_a_symbolic_batch_goes_through_to_the_outputs(path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    made = export_onnx(model, tg.ones(1, 1, 4, 4), path, dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}})
    assert dims(made.graph.input[0]) == ["batch", 1, 4, 4] and dims(made.graph.output[0]) == ["batch", 3]


def test_shapes_and_states_grow_with_the_batch(path: Path) -> None:
    made = export_onnx(nn.LSTM(3, 4, batch_first=True), tg.ones(2, 5, 3), path, dynamic_axes={"input": {0: "n"}})
    assert [dims(value) for value in made.graph.output] == [["n", 5, 4], [1, "n", 4], [1, "n", 4]]


def test_sizes_in_arithmetic_grow_too(path: Path) -> None:
    from onnx.reference import ReferenceEvaluator

    def program(x: tg.Tensor) -> tg.Tensor:
        return x.sum(0) / len(x) + tg.arange(len(x)).sum() * 0 + tg.zeros(len(x), 1)

    made = export_onnx(program, tg.ones(2, 3), path, dynamic_axes={"input": {0: "n"}})
    evaluator = ReferenceEvaluator(made)
    for n in (1, 2, 5):
        x = np.arange(3.0 * n, dtype=np.float32).reshape(n, 3)
        np.testing.assert_allclose(evaluator.run(None, {"input": x})[0], np.tile(x.mean(0), (n, 1)), rtol=1e-6)


@pytest.mark.parametrize(
    "program",
    [
        lambda x: x * len(x) ** 2,
        lambda x: x + tg.from_numpy(np.random.default_rng(len(x)).random((len(x), 1), np.float32)),
        lambda x: tg.stack([row * 2 for row in x]),
        lambda x: x * 2 if len(x) % 2 else x + 2,
    ],
    ids=["square", "table", "loop", "branch"],
)
def test_what_does_more_than_grow_is_refused(program: Any, path: Path) -> None:
    with pytest.raises(ArgumentError, match="TG-A003.*dynamic_axes"):
        export_onnx(program, tg.ones(2, 3), path, dynamic_axes={"input": {0: "n"}})
    assert not path.exists()


@pytest.mark.parametrize(
    "axes",
    [
        {"other": {0: "n"}},
        {"input": {7: "n"}},
        {"input": {-1: "n"}},
        {"input": {0: "n", 1: "m"}},
        {"input": {0: "n", 1: "n"}},
        {"input": {0: 3}},
        {"input": {}},
        {"input": {0: "n"}, "output": {1: "n"}},
    ],
)
def test_wrong_dynamic_axes_are_refused(axes: Any, path: Path) -> None:
    with pytest.raises(ArgumentError, match="TG-A001.*dynamic_axes"):
        export_onnx(lambda x: x + 1, tg.ones(2, 3), path, dynamic_axes=axes)


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [16, 0, 999, "17", None, 17.0])
def test_an_opset_outside_of_the_range_is_refused(version: Any, path: Path) -> None:
    with pytest.raises(ArgumentError, match="TG-A001.*opset_version"):
        export_onnx(nn.ReLU(), tg.ones(2), path, opset_version=version)


@pytest.mark.parametrize("given", [["a", "b"], [], ["a", "a"], [""], [3]])
def test_wrong_names_are_refused(given: Any, path: Path) -> None:
    with pytest.raises(ArgumentError, match="TG-A001.*input_names"):
        export_onnx(nn.ReLU(), tg.ones(2), path, input_names=given)
    with pytest.raises(ArgumentError, match="TG-A001.*output_names"):
        export_onnx(nn.ReLU(), tg.ones(2), path, output_names=given)


def test_a_call_without_tensors_is_refused(path: Path) -> None:
    with pytest.raises(ArgumentError, match="holds no Tensor"):
        export_onnx(lambda n: tg.ones(n), (3,), path)
    with pytest.raises(ArgumentError, match="result holds no Tensor"):
        export_onnx(lambda x: x.shape, tg.ones(3), path)
    with pytest.raises(ArgumentError, match=r"array of shape \(3,\)"):
        export_onnx(nn.ReLU(), np.ones(3, np.float32), path)


def test_random_numbers_are_refused(path: Path) -> None:
    for program in (lambda x: x + tg.randn_like(x), lambda x: nn.functional.dropout(x, 0.5), lambda x: x.bernoulli(0.5)):
        with pytest.raises(ArgumentError, match="random numbers"):
            export_onnx(program, tg.ones(3), path)


def test_an_operator_without_nodes_names_itself_the_layer_and_the_line(path: Path) -> None:
    class Inverting(nn.Module):
        def forward(self, x: tg.Tensor) -> tg.Tensor:
            return tg.linalg.inv(x)

    model = nn.Sequential(nn.Identity(), nn.Sequential(Inverting()))
    with pytest.raises(ArgumentError, match=r"TG-A003.*'inv' in layer '1.0' on \(2, 2\) float32.*test_onnx_export.py:\d+"):
        export_onnx(model, tg.eye(2), path)


def test_the_message_is_japanese_where_that_is_chosen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    with pytest.raises(ArgumentError, match="演算 'inv'.*対応する ONNX のノードがありません"):
        export_onnx(tg.linalg.inv, tg.eye(2), path)


def test_sizes_that_depend_on_values_are_refused(path: Path) -> None:
    for program in (lambda x: x[x > 0], lambda x: (x > 0).nonzero(), lambda x: tg.masked_select(x, x > 0)):
        with pytest.raises(ArgumentError, match="depends on values"):
            export_onnx(program, tg.ones(3), path)


def test_a_missing_package_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ArgumentError, match="TG-A002.*'onnx'"):
        export_onnx(nn.ReLU(), tg.ones(2), path)


def test_an_export_warns_of_nothing(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_onnx(Layered(), tg.ones(3, 4), path)
