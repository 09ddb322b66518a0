"""Small ONNX models: a network, a loop with a body, a function, data in the fields of each type."""

from __future__ import annotations

from typing import Any

import numpy as np


def onnx() -> list[bytes]:
    """Models as the package ``onnx`` writes them."""
    return [model.SerializeToString() for model in (_network(), _recurrence(), _with_function(), _shapes(), _large())]


def _made(nodes: list[Any], inputs: list[Any], constants: dict[str, Any], **options: Any) -> Any:
    from onnx import helper, numpy_helper

    initializers = [numpy_helper.from_array(np.asarray(data), name) for name, data in constants.items()]
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], 1, None)]
    domains = [helper.make_opsetid("", 17), *[helper.make_opsetid("my", 1) for _ in options.get("functions", [])]]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=domains, ir_version=8, **options)


def _value(name: str, shape: list[Any] | None, dtype: int = 1) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, dtype, shape)


def _network() -> Any:
    """A convolution, batch norm, pooling and a linear layer."""
    from onnx import helper

    node = helper.make_node
    nodes = [
        node("Conv", ["x", "k", "b"], ["c"], pads=[1, 1, 1, 1], strides=[1, 1], name="first"),
        node("BatchNormalization", ["c", "b", "b", "b", "one"], ["n"], epsilon=1e-5),
        node("Relu", ["n"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], ["f"], axis=1),
        node("Gemm", ["f", "w"], ["g"], alpha=0.5, transB=1),
        node("Softmax", ["g"], ["y"], axis=-1),
    ]
    weights = {"k": (2, 1, 3, 3), "b": (2,), "one": (2,), "w": (3, 8)}
    constants = {name: np.full(shape, 0.5, np.float32) for name, shape in weights.items()}
    return _made(nodes, [_value("x", ["N", 1, 4, 4])], constants)


def _recurrence() -> Any:
    """An LSTM, a Loop round a product, and an If."""
    from onnx import helper

    node = helper.make_node
    body = helper.make_graph(
        [node("MatMul", ["v", "m"], ["u"]), node("Identity", ["c"], ["d"])],
        "body",
        [_value("i", [], 7), _value("c", [], 9), _value("v", [2, 2])],
        [_value("d", [], 9), _value("u", [2, 2])],
    )
    branches = [
        helper.make_graph([node(name, ["l"], [f"z{name}"])], name, [], [_value(f"z{name}", None)]) for name in ("Neg", "Exp")
    ]
    nodes = [
        node("LSTM", ["x", "wx", "wh"], ["h"], hidden_size=2),
        node("Squeeze", ["h", "axes"], ["s"]),
        node("Loop", ["n", "", "s"], ["l"], body=body),
        node("If", ["yes"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    constants = {
        "wx": np.full((1, 8, 3), 0.1, np.float32),
        "wh": np.full((1, 8, 2), 0.1, np.float32),
        "m": np.eye(2, dtype=np.float32),
        "axes": np.array([1, 2]),
        "n": np.array(3),
        "yes": np.array(True),
    }
    return _made(nodes, [_value("x", [2, 1, 3])], constants)


def _with_function() -> Any:
    """A function of the file, called twice, and attributes of each type."""
    from onnx import helper

    node = helper.make_node
    inside = node("LeakyRelu", ["a"], ["b"])
    inside.attribute.add(name="alpha", ref_attr_name="slope", type=1)
    function = helper.make_function("my", "f", ["a"], ["b"], [inside], [helper.make_opsetid("", 17)], ["slope"])
    half = helper.make_tensor("t", 10, [2], np.array([1, 2], np.float16).view(np.uint16).tolist())
    nodes = [
        node("Constant", [], ["half"], value=half),
        node("Cast", ["half"], ["t"], to=1),
        node("f", ["x"], ["p"], domain="my", slope=0.2),
        node("f", ["p"], ["q"], domain="my"),
        node("Mul", ["q", "t"], ["e"]),
        node("Einsum", ["e", "e"], ["y"], equation="ij,ij->i"),
    ]
    return _made(nodes, [_value("x", [3, 2])], {}, functions=[function])


def _shapes() -> Any:
    """Operators whose result depends on the values of their inputs."""
    from onnx import helper

    node = helper.make_node
    nodes = [
        node("Reshape", ["x", "s"], ["r"]),
        node("Expand", ["r", "e"], ["a"]),
        node("Tile", ["a", "e"], ["b"]),
        node("Pad", ["b", "p"], ["c"], mode="reflect"),
        node("Slice", ["c", "one", "many", "one"], ["d"]),
        node("Gather", ["d", "one"], ["i"], axis=0),
        node("ConstantOfShape", ["e"], ["z"]),
        node("Range", ["zero", "many0", "zero1"], ["k"]),
        node("Concat", ["z", "z"], ["zz"], axis=1),
        node("TopK", ["c", "one"], ["top", "where"], axis=-1),
        node("Resize", ["r4", "", "scale"], ["big"], mode="linear"),
        node("ReduceSum", ["i"], ["y"], keepdims=0),
    ]
    nodes.insert(1, node("Unsqueeze", ["r", "axes"], ["r4"]))
    constants = {
        "s": [2, 3],
        "e": [2, 3],
        "p": [0, 1, 0, 1],
        "one": [1],
        "many": [3],
        "zero": 0,
        "many0": 5,
        "zero1": 1,
        "axes": [0, 1],
    }
    arrays = {name: np.array(values, np.int64) for name, values in constants.items()}
    return _made(nodes, [_value("x", [6])], {**arrays, "scale": np.array([1, 1, 2, 1.5], np.float32)})


def _large() -> Any:
    """A constant that is much larger than all else."""
    from onnx import helper

    nodes = [helper.make_node("Gather", ["w", "x"], ["y"], axis=0)]
    return _made(nodes, [_value("x", ["N"], 7)], {"w": np.zeros((1000, 200), np.float32)})
