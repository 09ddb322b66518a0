"""Imported ONNX graphs compute what onnxruntime computes, in old and new versions of the operators, and random graphs of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_files import constant, made, node, value

import tinygrad_ja as tg

onnxruntime = pytest.importorskip("onnxruntime")

TYPES = {np.dtype(np.float32): 1, np.dtype(np.int64): 7, np.dtype(np.int32): 6, np.dtype(np.bool_): 9}


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def agree(model: Any, inputs: dict[str, np.ndarray], folder: Any, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Both give the same outputs."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    expected = session.run(None, inputs)
    got = tg.io.load_onnx(path)(**{name: tg.from_numpy(array) for name, array in inputs.items()})
    got = got if isinstance(got, tuple) else (got,)
    assert len(got) == len(expected)
    for actual, wanted in zip(got, expected):
        assert actual.shape == wanted.shape and actual.dtype == wanted.dtype
        np.testing.assert_allclose(actual.detach().numpy(), wanted, rtol=rtol, atol=atol)


def one(name: str, arrays: list[np.ndarray], opset: int, outputs: int = 1, constants: Any = (), **attributes: Any) -> Any:
    """A model of one node, and its inputs; ``constants`` follow the inputs, None for one that is left out."""
    inputs = {f"x{i}": array for i, array in enumerate(arrays)}
    fixed = {f"c{i}": array for i, array in enumerate(constants) if array is not None}
    names = [*inputs, *[f"c{i}" if array is not None else "" for i, array in enumerate(constants)]]
    results = [f"y{i}" for i in range(outputs)]
    declared = [value(name, array.shape, TYPES[array.dtype]) for name, array in inputs.items()]
    bare = [onnx.ValueInfoProto(name=result) for result in results]  # onnxruntime infers their types
    model = made([node(name, names, results, **attributes)], declared, bare, [constant(k, v) for k, v in fixed.items()], opset)
    return model, inputs


F32 = np.float32
X = normal(2, 3, 4)
IMAGE = normal(2, 4, 7, 6)
CASES = [
    # versions of which the node tests show the newest only
    one("ReduceMean", [X], 11, axes=[1], keepdims=0),
    one("ReduceSum", [X], 11, axes=[-1, 0]),
    one("ReduceMax", [X], 17, axes=[2]),
    one("ReduceL2", [X], 13, axes=[0, 1]),
    one("Squeeze", [normal(1, 3, 1)], 11, axes=[0]),
    one("Unsqueeze", [X], 11, axes=[0, -1]),
    one("Split", [X], 11, outputs=2, axis=2, split=[1, 3]),
    one("Split", [X], 13, outputs=2, axis=2),
    one("Slice", [X], 9, starts=[0, -3], ends=[2, 100], axes=[1, 2]),
    one("Slice", [X], 13, constants=[np.array([3, 2]), np.array([-100, 0]), np.array([2, 1]), np.array([-2, -1])]),
    one("Clip", [X], 8, min=-0.5, max=0.5),
    one("Clip", [X], 13, constants=[None, F32(0.25)]),
    one("Dropout", [X], 7, ratio=0.9),
    one("TopK", [X], 9, outputs=2, k=2, axis=1),
    one("TopK", [X], 11, outputs=2, constants=[np.array([2])], largest=0, axis=-1),
    one("Pad", [X], 10, pads=[0, 1, 2, 0, 1, 0], value=2.5),
    one("Pad", [X], 10, pads=[0, 1, 2, 0, 1, 0], mode="reflect"),
    one("Pad", [X], 18, constants=[np.array([1, 2]), F32(3), np.array([1])]),
    one("Pad", [X], 19, constants=[np.array([0, 1, 2, 0, 1, 3])], mode="wrap"),
    one("Upsample", [IMAGE], 7, scales=[1.0, 1.0, 2.0, 3.0], mode="nearest"),
    one("Upsample", [IMAGE], 9, constants=[np.array([1, 1, 2, 2], F32)], mode="linear"),
    one("Resize", [IMAGE], 10, constants=[np.array([1, 1, 2, 0.5], F32)], mode="nearest"),
    one(
        "Resize",
        [IMAGE],
        13,
        constants=[None, np.array([1, 1, 1.7, 0.6], F32)],
        mode="linear",
        coordinate_transformation_mode="pytorch_half_pixel",
    ),
    one(
        "Resize",
        [IMAGE],
        13,
        constants=[None, None, np.array([2, 4, 5, 9])],
        mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    one("Resize", [IMAGE], 13, constants=[None, None, np.array([2, 4, 5, 9])], mode="cubic", cubic_coeff_a=-0.5),
    one("Resize", [IMAGE], 13, constants=[None, None, np.array([2, 4, 5, 9])], mode="cubic", exclude_outside=1),
    one("Resize", [IMAGE], 18, constants=[None, None, np.array([3, 4])], mode="linear", antialias=1, axes=[2, 3]),
    one("Softmax", [X], 9, axis=1),
    one("LogSoftmax", [X], 11, axis=-1),
    one("Hardmax", [X], 11, axis=1),
    one("BatchNormalization", [IMAGE, *[np.abs(normal(4)) for _ in range(4)]], 9, epsilon=1e-3),
    one("BatchNormalization", [IMAGE, *[np.abs(normal(4)) for _ in range(4)]], 7),
    one("GlobalLpPool", [IMAGE], 13, p=3),
    one("LpPool", [IMAGE], 17, kernel_shape=[2, 3], pads=[1, 0, 0, 1], p=3),
    one("MaxRoiPool", [IMAGE, np.array([[0, 1, 1, 4, 5], [1, 0, 2, 5, 6]], F32)], 13, pooled_shape=[2, 2], spatial_scale=1.0),
    one("MaxPool", [IMAGE], 12, outputs=2, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1], dilations=[2, 1]),
    one("MaxPool", [IMAGE], 12, outputs=2, kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1, storage_order=1),
    one("MaxPool", [IMAGE], 12, kernel_shape=[3, 2], strides=[2, 1], auto_pad="SAME_LOWER"),
    one("AveragePool", [IMAGE], 11, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1], count_include_pad=1),
    one("AveragePool", [IMAGE], 11, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 0, 1]),
    one("AveragePool", [normal(1, 2, 4, 5, 6)], 19, kernel_shape=[2, 2, 2], dilations=[2, 1, 2], auto_pad="VALID"),
    one("Conv", [IMAGE, normal(6, 2, 3, 2), normal(6)], 11, group=2, strides=[2, 1], pads=[1, 0, 2, 1], dilations=[1, 2]),
    one("Conv", [IMAGE, normal(6, 4, 3, 3)], 11, auto_pad="SAME_UPPER", strides=[2, 2]),
    one(
        "ConvTranspose",
        [IMAGE, normal(4, 3, 3, 2), normal(6)],
        11,
        group=2,
        strides=[2, 3],
        pads=[1, 0, 0, 1],
        output_padding=[1, 2],
    ),
    one("ConvTranspose", [IMAGE, normal(4, 3, 3, 3)], 11, strides=[2, 2], auto_pad="SAME_LOWER"),
    one("ConvTranspose", [IMAGE, normal(4, 3, 3, 3)], 11, strides=[2, 2], output_shape=[16, 12]),
    one("LRN", [IMAGE], 13, size=3, alpha=0.3, beta=0.5, bias=2.0),
    one("InstanceNormalization", [IMAGE, normal(4), normal(4)], 11),
    one("LayerNormalization", [X, normal(4), normal(4)], 17, outputs=3, axis=-1),
    one("Gemm", [normal(3, 2), normal(4, 3), normal(2, 1)], 13, transA=1, transB=1, alpha=0.5, beta=2.0),
    one("Einsum", [normal(2, 3, 4), normal(2, 4, 5)], 13, equation="...ij,...jk->...ki"),
    one("GatherND", [X, np.array([[0, 1], [1, -1]])], 13),
    one("GatherElements", [X, np.array([[[0, -1, 2, 1]]])], 13, axis=1),
    one("ScatterElements", [X, np.array([[[0, -1, 2, 1]]]), normal(1, 1, 4)], 16, axis=1, reduction="add"),
    one("ScatterND", [X, np.array([[0, 1], [0, 1]]), normal(2, 4)], 16, reduction="mul"),
    one("GridSample", [IMAGE, np.tanh(normal(2, 3, 5, 2)) * F32(1.3)], 16, mode="bicubic", padding_mode="border"),
    one(
        "GridSample",
        [IMAGE, np.tanh(normal(2, 3, 5, 2)) * F32(1.3)],
        16,
        mode="nearest",
        padding_mode="reflection",
        align_corners=1,
    ),
    one(
        "RoiAlign",
        [IMAGE, np.array([[0, 1, 4, 5], [1, 0, 5, 6]], F32), np.array([1, 0])],
        16,
        output_height=3,
        output_width=2,
        sampling_ratio=2,
    ),
    one(
        "RoiAlign", [IMAGE, np.array([[0, 1, 4, 5], [1, 0, 5, 6]], F32), np.array([1, 0])], 10, output_height=2, output_width=2
    ),
    one("CumSum", [X], 14, constants=[np.array(1)], reverse=1, exclusive=1),
    one("Unique", [np.array([2, 1, 1, 3, 4, 3], F32)], 11, outputs=4, sorted=0),
    one("Mod", [np.array([-4, 7, 5]), np.array([3, -3, 8])], 13),
    one("Div", [np.array([-7, 7]), np.array([2, -2])], 13),
    one("STFT", [normal(1, 32, 1)], 17, constants=[np.array(8), np.hanning(16).astype(F32)]),
    one("Trilu", [normal(4, 5)], 14, constants=[np.array(-1)], upper=0),
    one("DepthToSpace", [normal(1, 8, 2, 3)], 13, blocksize=2, mode="CRD"),
    one(
        "NonMaxSuppression",
        [np.array([[[0, 0, 1, 1], [0.1, 0, 1, 1.1], [2, 2, 3, 3]]], F32), np.array([[[0.5, 0.9, 0.3]]], F32)],
        11,
        constants=[np.array([2]), F32([0.5])],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].graph.node[0].op_type}-{case[0].opset_import[0].version}")
def test_an_operator_in_a_version_computes_what_onnxruntime_computes(case, tmp_path):
    agree(*case, tmp_path)


# ---- recurrent layers ----------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_a_recurrent_layer_with_everything_it_can_have(name, direction, tmp_path):
    """Lengths of their own, biases, first states, clipping, peepholes."""
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[name]
    turns = 2 if direction == "bidirectional" else 1
    shapes = [(5, 3, 2), (turns, gates * 4, 2), (turns, gates * 4, 4), (turns, gates * 8)]
    arrays = {f"x{i}": normal(*shape) for i, shape in enumerate(shapes)}
    arrays["lengths"] = np.array([5, 2, 4], np.int32)
    arrays["h"] = normal(turns, 3, 4)
    if name == "LSTM":
        arrays |= {"c": normal(turns, 3, 4), "p": normal(turns, 12)}
    outputs = ["y", "y_h", "y_c"][: 3 if name == "LSTM" else 2]
    options = {"clip": 0.8} if name != "RNN" else {"activations": ["Relu"] * turns}
    layer = node(name, list(arrays), outputs, hidden_size=4, direction=direction, **options)
    declared = [value(key, array.shape, TYPES[array.dtype]) for key, array in arrays.items()]
    agree(made([layer], declared, outputs), arrays, tmp_path)


@pytest.mark.parametrize(
    "name, options", [("GRU", {"linear_before_reset": 1}), ("LSTM", {"activations": ["HardSigmoid", "Softsign", "Elu"]})]
)
def test_options_of_a_recurrent_layer(name, options, tmp_path):
    gates = 3 if name == "GRU" else 4
    arrays = {"x": normal(4, 2, 3), "w": normal(1, gates * 5, 3), "r": normal(1, gates * 5, 5), "b": normal(1, gates * 10)}
    layer = node(name, list(arrays), ["y"], hidden_size=5, **options)
    agree(made([layer], [value(key, array.shape) for key, array in arrays.items()]), arrays, tmp_path)


# ---- graphs --------------------------------------------------------------------------------------


def test_a_loop_that_carries_values_and_collects_them(tmp_path):
    body = helper.make_graph(
        [node("Mul", ["v", "factor"], ["w"]), node("ReduceSum", ["w"], ["s"], keepdims=0), node("Less", ["s", "most"], ["go"])],
        "body",
        [value("i", (), 7), value("c", (), 9), value("v", (2,))],
        [value("go", (), 9), value("w", (2,)), value("w2", (2,))],
    )
    body.node.append(node("Identity", ["w"], ["w2"]))
    loop = node("Loop", ["count", "", "x"], ["last", "all"], body=body)
    fixed = [constant("count", 10), constant("factor", 1.5, F32), constant("most", 20.0, F32)]
    outputs = [value("last", (2,)), value("all", (None, 2))]
    agree(made([loop], [value("x", (2,))], outputs, fixed), {"x": np.array([1, 2], F32)}, tmp_path)


def random_graph(seed: int) -> tuple[Any, dict[str, np.ndarray]]:
    """Twelve operators, each on values that some earlier ones have made."""
    draw = np.random.default_rng(seed)
    nodes, names, fixed = [], ["x"], []
    unary = ["Relu", "Tanh", "Sigmoid", "Abs", "Neg", "Erf", "Softplus", "HardSwish", "Elu", "Selu", "Softmax", "Identity"]
    binary = ["Add", "Sub", "Mul", "Max", "Min"]
    for i in range(12):
        made_name, kind = f"v{i}", draw.integers(5)
        first = names[draw.integers(len(names))]
        if kind < 2:
            nodes.append(node(str(draw.choice(unary)), [first], [made_name]))
        elif kind == 2:
            nodes.append(node(str(draw.choice(binary)), [first, names[draw.integers(len(names))]], [made_name]))
        elif kind == 3:
            fixed.append(constant(f"w{i}", draw.standard_normal((6, 6)) / 3, F32))
            nodes.append(node("MatMul", [first, f"w{i}"], [made_name]))
        else:
            fixed += [constant(f"s{i}", draw.standard_normal(6), F32), constant(f"b{i}", draw.standard_normal(6), F32)]
            nodes.append(node("LayerNormalization", [first, f"s{i}", f"b{i}"], [made_name]))
        names.append(made_name)
    outputs = [value(name, (4, 6)) for name in names[-3:]]
    return made(nodes, [value("x", (4, 6))], outputs, fixed), {"x": draw.standard_normal((4, 6)).astype(F32)}


@pytest.mark.parametrize("seed", range(25))
def test_a_random_graph_computes_what_onnxruntime_computes(seed, tmp_path):
    agree(*random_graph(seed), tmp_path, rtol=1e-3, atol=1e-4)
