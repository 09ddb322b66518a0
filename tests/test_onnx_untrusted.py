"""tg.io.load_onnx on files that are damaged, foreign or made to do harm: an error that names the file and the fault, and little memory."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_files import constant, made, node, value, written

import tinygrad_ja as tg
from tinygrad_ja.errors import StateError

F32 = np.float32


def refused(path: Path, match: str, *inputs: Any, **limits: Any) -> StateError:
    """Loading, or running with ``inputs``, is refused with a message that names the file and matches."""
    with pytest.raises(StateError, match=match) as caught:
        tg.io.load_onnx(path, **limits)(*inputs)
    assert path.name in str(caught.value)
    return caught.value


# ---- files that are not what they should be ------------------------------------------------------


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "a.onnx"
    for content, match in (
        (b"", "no graph"),
        (b"\x08\x08", "no graph"),
        (np.random.default_rng(0).bytes(999), "TG-F005"),
        (b"\x3a\xff\xff", "parsed"),
    ):
        path.write_bytes(content)
        refused(path, match)
    with pytest.raises(FileNotFoundError):
        tg.io.load_onnx(tmp_path / "none.onnx")


def test_what_another_program_wrote_is_recognised(tmp_path):
    path = tmp_path / "weights.onnx"
    tg.io.save_torch({"w": tg.ones(2)}, path)
    refused(path, "looks like a zip archive.*load_torch")


def test_a_folder_or_a_pipe_is_refused_and_not_waited_for(tmp_path):
    refused(tmp_path, "a folder or a device")
    os.mkfifo(tmp_path / "pipe.onnx")
    refused(tmp_path / "pipe.onnx", "a folder or a device")


def test_a_file_above_the_limit_is_not_even_read(tmp_path):
    path = written(tmp_path / "a.onnx", [node("Relu", ["w"], ["y"])], [], ["y"], [constant("w", np.zeros(1000), F32)])
    assert refused(path, "TG-F008", max_bytes=3000).code == "TG-F008"
    assert refused(path, "max_nodes|number of its nodes", max_nodes=0).code == "TG-F008"


FAULTS = {
    "undefined input": ([node("Relu", ["z"], ["y"])], "'z', which nothing before it makes"),
    "cycle": ([node("Relu", ["b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["a"], ["y"])], "'b', which nothing"),
    "output made twice": (
        [node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"])],
        r"node 1 \(Neg\): two values are called 'y'",
    ),
    "input made again": ([node("Relu", ["x"], ["x"])], "two values are called 'x'"),
    "output not made": ([node("Relu", ["x"], ["z"])], "graph 'graph': uses the value 'y'"),
    "too many inputs": ([node("Relu", ["x", "x"], ["y"])], "2 inputs, but the operator has 1 to 1"),
    "too few outputs": ([node("Relu", ["x"], [])], "0 outputs, but"),
    "unknown attribute": ([node("Relu", ["x"], ["y"], alpha=1.0)], "no attribute 'alpha' of this type"),
    "attribute of another type": ([node("Elu", ["x"], ["y"], alpha=1)], "no attribute 'alpha' of this type"),
    "attribute missing": ([node("Cast", ["x"], ["y"])], "the attribute 'to' is missing"),
    "domain without a version": ([node("Relu", ["x"], ["y"], domain="my")], "no version of the domain 'my'"),
}


@pytest.mark.parametrize("nodes, match", FAULTS.values(), ids=FAULTS)
def test_a_graph_that_is_none_is_refused_with_its_node(nodes, match, tmp_path):
    assert refused(written(tmp_path / "a.onnx", nodes, ["x"]), match).code == "TG-F005"


def test_operators_and_types_that_cannot_be_imported_are_listed_all_at_once(tmp_path):
    nodes = [
        node("Foo", ["x"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("Bar", ["b"], ["c"], domain="my"),
        node("Cast", ["c"], ["y"], to=TensorProto.BFLOAT16),
    ]
    path = written(tmp_path / "a.onnx", nodes, ["x"], domains=[("my", 3)])
    failure = refused(path, r"Bar \(my 3\), Foo \(ai.onnx 17\), elements of type bfloat16\. Nothing")
    assert failure.code == "TG-F011"


def test_names_that_are_no_text_are_refused(tmp_path):
    path = written(tmp_path / "a.onnx", [node("Relu", ["x"], ["wwww"]), node("Relu", ["x"], ["y"])], ["x"])
    path.write_bytes(path.read_bytes().replace(b"wwww", b"ww\xff\xfe"))
    refused(path, r"node 0 \(Relu\): a name that is not UTF-8 text")


@pytest.mark.parametrize("opset", [5, onnx.defs.onnx_opset_version() + 1])
def test_versions_that_are_not_known_are_refused(opset, tmp_path):
    refused(written(tmp_path / "a.onnx", [node("Relu", ["x"], ["y"])], ["x"], opset=opset), f"its opset {opset}")


# ---- tensors -------------------------------------------------------------------------------------


def tensor(shape: list[int], data: bytes = b"", dtype: int = TensorProto.FLOAT, **fields: Any) -> TensorProto:
    return TensorProto(name="w", dims=shape, data_type=dtype, raw_data=data, **fields)


TENSORS = {
    "bytes missing": (tensor([1000, 1000], b"1234"), "1000000 elements of float32 needs 4000000 bytes, and 4 are there"),
    "bytes left over": (tensor([1], b"12345678"), "needs 4 bytes, and 8"),
    "negative size": (tensor([-1, 4], b"1234"), r"impossible shape \[-1, 4\]"),
    "more than can be": (tensor([2**31 - 1] * 3), "TG-F005|TG-F008"),
    "empty but more than can be": (tensor([0, 2**30, 2**30, 2**30]), "impossible shape"),
    "above the limit": (tensor([2**20, 2**20]), "TG-F008.*bytes of its constants"),
    "values missing": (TensorProto(name="w", dims=[3], data_type=1, float_data=[1.0]), "3 elements with 1 values"),
    "values out of range": (TensorProto(name="w", dims=[1], data_type=2, int32_data=[300]), "uint8 with values outside"),
    "strings": (TensorProto(name="w", dims=[1], data_type=8, string_data=[b"a"]), "elements of type string"),
    "no type": (TensorProto(name="w", dims=[1], data_type=0), "elements of type undefined"),
    "an unknown type": (TensorProto(name="w", dims=[1], data_type=99), "elements of type 99"),
}


@pytest.mark.parametrize("initializer, match", TENSORS.values(), ids=TENSORS)
def test_a_tensor_whose_data_does_not_fit_is_refused_before_memory_is_taken(initializer, match, tmp_path):
    path = written(tmp_path / "a.onnx", [node("Identity", ["w"], ["y"])], [], ["y"], [initializer])
    tracemalloc.start()
    refused(path, match)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def outside(location: str, **entries: int) -> TensorProto:
    made = TensorProto(name="w", dims=[2], data_type=1, data_location=TensorProto.EXTERNAL)
    for key, entry in {"location": location, **entries}.items():
        made.external_data.add(key=key, value=str(entry))
    return made


def test_data_beside_the_model_is_read(tmp_path):
    (tmp_path / "w.bin").write_bytes(b"1234" + np.array([1, -2], "<f4").tobytes())
    path = written(tmp_path / "a.onnx", [node("Relu", ["w"], ["y"])], [], ["y"], [outside("w.bin", offset=4, length=8)])
    assert tg.io.load_onnx(path)().tolist() == [1.0, 0.0]


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "sub/../../w.bin", "", ".", "none.bin", "w.bin\0", "link.bin"])
def test_data_elsewhere_is_not_read(location, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(8))
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    path = written(folder / "a.onnx", [node("Relu", ["w"], ["y"])], [], ["y"], [outside(location)])
    refused(path, "not a file in the folder of the model")


@pytest.mark.parametrize("entries", [{"offset": 100}, {"offset": -4}, {"length": 100}, {"length": -1}, {"offset": 2**70}])
def test_data_beyond_the_end_of_its_file_is_not_read(entries, tmp_path):
    (tmp_path / "w.bin").write_bytes(bytes(8))
    path = written(tmp_path / "a.onnx", [node("Relu", ["w"], ["y"])], [], ["y"], [outside("w.bin", **entries)])
    refused(path, "beyond its end")


# ---- small files that ask for much ---------------------------------------------------------------


def fixed(name: str, data: Any) -> Any:
    return constant(name, data, F32 if np.asarray(data).dtype.kind == "f" else np.int64)


HUGE = 2**40
MANY = [f"v{i}" for i in range(9)]
BOMBS = {
    "ConstantOfShape": ([node("ConstantOfShape", ["s"], ["y"])], {"s": [2**31, 2**31]}),
    "Expand": ([node("Expand", ["x", "s"], ["y"])], {"s": [HUGE, 1, 1, 1, 1]}),
    "Tile": ([node("Tile", ["x", "s"], ["y"])], {"s": [1, 1, HUGE, 1]}),
    "Range": ([node("Range", ["a", "b", "c"], ["y"])], {"a": 0, "b": 2**62, "c": 1}),
    "Range of floats": ([node("Range", ["a", "b", "c"], ["y"])], {"a": 0.0, "b": 1e38, "c": 1e-38}),
    "Resize": ([node("Resize", ["x", "", "s"], ["y"])], {"s": [1.0, 1.0, 1e9, 1e9]}),
    "Upsample": ([node("Resize", ["x", "", "", "s"], ["y"])], {"s": [1, 1, HUGE, 4]}),
    "Pad": ([node("Pad", ["x", "s"], ["y"])], {"s": [0, 0, HUGE, 0, 0, 0, 0, 0]}),
    "OneHot": ([node("OneHot", ["i", "d", "v"], ["y"])], {"i": [1], "d": HUGE, "v": [0.0, 1.0]}),
    "EyeLike": ([node("Squeeze", ["x", "zero"], ["q"]), node("EyeLike", ["q"], ["y"], k=HUGE)], {"zero": [0, 1]}),
    "ConvTranspose": ([node("ConvTranspose", ["x", "w"], ["y"], strides=[2**30, 2**30])], {"w": np.ones((1, 1, 2, 2))}),
    "AveragePool, pads": ([node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], pads=[HUGE, 0, 0, 0])], {}),
    "AveragePool, kernel": ([node("AveragePool", ["x"], ["y"], kernel_shape=[2**20] * 2, pads=[2**19] * 4)], {}),
    "MaxPool, kernel": ([node("MaxPool", ["x"], ["y"], kernel_shape=[2**20] * 2, pads=[2**19] * 4)], {}),
    "LRN": ([node("LRN", ["x"], ["y"], size=HUGE)], {}),
    "DFT": ([node("DFT", ["x", "n"], ["y"], axis=2)], {"n": HUGE}),
    "HannWindow": ([node("HannWindow", ["n"], ["y"])], {"n": HUGE}),
    "RandomNormal": ([node("RandomNormal", [], ["y"], shape=[HUGE])], {}),
    "Concat": ([node("Concat", [f"x{i}"] * 2, [f"x{i + 1}"], axis=0) for i in range(60)], {"x0": [1.0]}),
    "MatMul": ([node("MatMul", ["a", "b"], ["y"])], {"a": np.ones((40000, 1)), "b": np.ones((1, 40000))}),
    "Add": ([node("Add", ["a", "b"], ["y"])], {"a": np.ones((40000, 1)), "b": np.ones((1, 40000))}),
    "Gather": ([node("Gather", ["a", "i"], ["y"], axis=1)], {"a": np.ones((40000, 1)), "i": np.zeros(40000, int)}),
    "Conv": ([node("Conv", ["x", "w"], ["y"], pads=[HUGE, 0, 0, 0], strides=[HUGE, 1])], {"w": np.ones((1, 1, 2, 2))}),
    "empty axis": (
        [node("Reshape", ["e", "s"], ["r"], allowzero=1), node("ReduceSum", ["r"], ["y"])],
        {"e": [], "s": [0, HUGE]},
    ),
    "many values": ([*[node("ConstantOfShape", ["s"], [f"v{i}"]) for i in range(9)], node("Sum", MANY, ["y"])], {"s": [2**20]}),
}


@pytest.mark.parametrize("nodes, constants", BOMBS.values(), ids=BOMBS)
def test_a_small_file_cannot_ask_for_much_memory(nodes, constants, tmp_path):
    initializers = [fixed(name, data) for name, data in constants.items()]
    path = written(tmp_path / "a.onnx", nodes, ["x"], [nodes[-1].output[0]], initializers)
    model = tg.io.load_onnx(path, max_elements=2**20)
    tracemalloc.start()
    with pytest.raises(StateError, match=r"TG-F008.*a.onnx.*node.*limit of 1048576|TG-F008.*limit of 4194304"):
        model(tg.ones(1, 1, 4, 4))
    assert tracemalloc.get_traced_memory()[1] < 4 * 8 * 2**20
    tracemalloc.stop()


def test_a_step_larger_than_the_picture_leaves_one_window(tmp_path):
    nodes = [node("Conv", ["x", "w"], ["y"], strides=[2**62, 1])]
    path = written(tmp_path / "a.onnx", nodes, ["x"], ["y"], [constant("w", np.ones((1, 1, 2, 2)), F32)])
    assert tg.io.load_onnx(path)(tg.ones(1, 1, 4, 4)).tolist() == [[[[4.0, 4.0, 4.0]]]]


@pytest.mark.parametrize("nodes", [["Identity"], []])
def test_a_loop_ends(nodes, tmp_path):
    inner = [node("Identity", ["v"], ["w"])] if nodes else []
    body = helper.make_graph(
        inner, "body", [value("i", (), 7), value("c", (), 9), value("v")], [value("c", (), 9), value("w" if nodes else "v")]
    )
    path = written(tmp_path / "a.onnx", [node("Loop", ["n", "", "x"], ["y"], body=body)], ["x"], ["y"], [constant("n", 2**62)])
    refused(path, r"TG-F008.*\(max_runs\)", tg.ones(1), max_runs=1000)


def chain(count: int, attribute: bool) -> list[Any]:
    """Functions of which each calls the next one twice."""
    extra = {"k": 1} if attribute else {}
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    calls = [
        [node(f"f{i + 1}", ["a"], ["b"], domain="my", **extra), node(f"f{i + 1}", ["b"], ["c"], domain="my", **extra)]
        for i in range(count - 1)
    ]
    return [
        helper.make_function("my", f"f{i}", ["a"], ["c"], body, opsets)
        for i, body in enumerate([*calls, [node("Relu", ["a"], ["c"])]])
    ]


@pytest.mark.parametrize("attribute", [False, True])
def test_functions_that_double_each_other_are_stopped(attribute, tmp_path):
    path = written(
        tmp_path / "a.onnx", [node("f0", ["x"], ["y"], domain="my")], ["x"], functions=chain(25, attribute), domains=[("my", 1)]
    )
    refused(path, "TG-F008", tg.ones(1), max_nodes=5000, max_runs=5000)


def test_a_function_that_calls_itself_is_refused(tmp_path):
    itself = helper.make_function(
        "my", "f", ["a"], ["b"], [node("f", ["a"], ["b"], domain="my")], [helper.make_opsetid("my", 1)]
    )
    path = written(tmp_path / "a.onnx", [node("f", ["x"], ["y"], domain="my")], ["x"], functions=[itself], domains=[("my", 1)])
    refused(path, "deep in each other")


@pytest.mark.parametrize(
    "wrong",
    [
        node("Conv", ["x", "w"], ["y"], strides=[0, 0]),
        node("Conv", ["x", "w"], ["y"], group=2**40),
        node("Conv", ["x", "w"], ["y"], auto_pad="?"),
        node("AveragePool", ["x"], ["y"], kernel_shape=[-2, 2]),
        node("Transpose", ["x"], ["y"], perm=[0, 1, 2, 9]),
        node("Concat", ["x", "w"], ["y"], axis=77),
        node("Softmax", ["x"], ["y"], axis=9),
        node("Gemm", ["x", "w"], ["y"]),
        node("Einsum", ["x", "w"], ["y"], equation="ab,->->"),
        node("LSTM", ["x", "w", "w"], ["y"], hidden_size=3),
        node("RoiAlign", ["x", "w", "w"], ["y"], mode="?"),
        node("Resize", ["x"], ["y"], mode="?"),
        node("BitShift", ["x", "w"], ["y"], direction="UP"),
    ],
    ids=lambda wrong: wrong.op_type,
)
def test_a_node_that_cannot_run_is_named(wrong, tmp_path):
    path = written(tmp_path / "a.onnx", [wrong], ["x"], ["y"], [constant("w", np.ones((1, 1, 2, 2)), F32)])
    assert refused(path, rf"TG-F012.*node 0 \({wrong.op_type}\) failed", tg.ones(1, 1, 4, 4)).code == "TG-F012"


# ---- damage at random ----------------------------------------------------------------------------


def whole() -> bytes:
    """A model with most of what a file can hold."""
    body = helper.make_graph(
        [node("MatMul", ["v", "w"], ["u"]), node("Identity", ["c"], ["d"])],
        "body",
        [value("i", (), 7), value("c", (), 9), value("v", (2, 4))],
        [value("d", (), 9), value("u", (2, 4))],
    )
    nodes = [
        node("Gemm", ["x", "w", "b"], ["h"], name="first", transB=1),
        node("Loop", ["n", "", "h"], ["l"], body=body),
        node("Reshape", ["l", "s"], ["r"]),
        node("Conv", ["r", "k"], ["c"], pads=[1, 1, 1, 1]),
        node("Resize", ["c", "", "z"], ["y"], mode="linear"),
    ]
    constants = {"w": np.eye(4), "b": np.ones(4), "k": np.ones((1, 1, 3, 3)), "z": np.array([1, 1, 2, 2.0])}
    initializers = [constant(name, data, F32) for name, data in constants.items()]
    initializers += [constant("n", 2), constant("s", [1, 1, 2, 4])]
    return made(nodes, [value("x", (2, 4))], [value("y", (1, 1, 4, 8))], initializers).SerializeToString()


def damaged(original: bytes, draw: np.random.Generator) -> bytes:
    """Cut, or with a byte changed (which leaves the lengths in the file right), or a few bytes inserted or removed."""
    content = bytearray(original)
    place = int(draw.integers(len(content)))
    kind = draw.integers(10)
    if kind == 0:
        return original[:place]
    if kind < 7:
        content[place] = draw.integers(256)
    else:
        content[place : place + int(draw.integers(3))] = draw.bytes(int(draw.integers(3)))
    return bytes(content)


def test_a_damaged_file_is_refused_or_runs(tmp_path):
    """Cut, with bytes changed, inserted and removed: nothing but a StateError that names the file, or a model that runs or says why not."""
    path = tmp_path / "a.onnx"
    original = whole()
    path.write_bytes(original)
    x = tg.ones(2, 4)
    expected = tg.io.load_onnx(path)(x).tolist()
    assert len(expected[0][0]) == 4
    draw = np.random.default_rng(0)
    kinds = {"refused": 0, "failed": 0, "ran": 0}
    for _ in range(600):
        path.write_bytes(damaged(original, draw))
        kinds[outcome(path, x)] += 1
    assert min(kinds.values()) > 10, kinds


def outcome(path: Path, x: Any) -> str:
    try:
        model = tg.io.load_onnx(path, max_elements=2**20, max_runs=1000)
    except StateError as failure:
        assert path.name in str(failure)
        return "refused"
    try:
        with np.errstate(all="ignore"):
            model(x)
    except tg.errors.TinygradError as failure:
        assert path.name in str(failure) or "OnnxModule" in str(failure)
        return "failed"
    return "ran"
