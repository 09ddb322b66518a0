"""tg.io.load_onnx: graphs run as the standard says, and train, move and save like any other Module."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_files import constant, node, value, written

import tinygrad_ja as tg
from tinygrad_ja import nn, optim
from tinygrad_ja.errors import ArgumentError, DtypeError, ShapeError, StateError
from tinygrad_ja.testing import strict  # noqa: F401 - registers the device
from tinygrad_ja.testing.onnx_nodes import RANDOM, node_tests

PACKAGE_DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
F32 = np.float32


# ---- the tests that the onnx package ships -------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", pytest.param("strict", marks=pytest.mark.slow)])
def test_every_node_test_of_the_imported_operators_passes(device, tmp_path):
    """`python -m tinygrad_ja.testing.onnx_nodes` lists them, with --excluded those that are left out.

    "strict" is the stand-in for CuPy, which refuses what a GPU would refuse.
    """
    failed = {}
    count = 0
    with np.errstate(all="ignore"):
        for test in node_tests():
            if test.excluded:
                continue
            count += 1
            try:
                test.check(tmp_path, device)
            except Exception as failure:
                failed[test.name] = str(failure)
    assert not failed
    assert count > 1000


NOT_IMPORTED = frozenset(
    """Adagrad Adam ArrayFeatureExtractor Binarizer Gradient ImageDecoder LabelEncoder Momentum RegexFullMatch StringConcat StringNormalizer
    StringSplit TfIdfVectorizer TreeEnsemble""".split()
)
"""Operators of strings, of pictures in compressed form, and of the training and ml domains."""

NO_TYPE = ("bfloat16", "float8", "float4", "uint4", "int4", "uint2", "int2", "string")
"""How the names of the element types begin that NumPy does not have."""


def test_what_is_left_out_of_the_node_tests_is_left_out_for_a_reason():
    """A type or operator that is listed here, random numbers, or an opset before 6; so an operator that is lost is noticed."""
    for test in node_tests():
        kind, _, name = (test.excluded or "").partition(" ")
        if kind == "operator":
            assert name in NOT_IMPORTED, test.name
        elif kind == "type":
            assert name.startswith(NO_TYPE), test.name
        elif kind == "random":
            assert test.operators & {("", "Bernoulli"), ("", "Dropout"), ("", "RandomUniformLike")}, test.name
        elif kind:
            assert kind == "opset" and int(name) < 6, test.name
    assert set(RANDOM) <= {test.name for test in node_tests()}


def read(path: Path, described: onnx.TypeProto):
    if described.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes()))
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def tensors(data):
    return [tensors(item) for item in data] if isinstance(data, list) else tg.from_numpy(np.array(data))


def arrays(made):
    return [arrays(item) for item in made] if isinstance(made, list | tuple) else made.detach().numpy()


@pytest.mark.parametrize("kind, least", [("simple", 15), ("pytorch-operator", 35), ("pytorch-converted", 82)])
def test_the_models_in_the_onnx_package_give_their_outputs(kind, least):
    """Opsets 6 to 16; those of strings and of the training domain cannot be imported."""
    passed = 0
    for folder in sorted((PACKAGE_DATA / kind).iterdir()):
        if "strnorm" in folder.name or "gradient" in folder.name:
            continue
        graph = onnx.load(folder / "model.onnx").graph
        model = tg.io.load_onnx(folder / "model.onnx")
        for data in folder.glob("test_data_set_*"):
            inputs = [read(data / f"input_{i}.pb", graph.input[i].type) for i in range(len(list(data.glob("input_*"))))]
            got = model(*[tensors(item) for item in inputs])
            for i, actual in enumerate(got if isinstance(got, tuple) else (got,)):
                wanted = read(data / f"output_{i}.pb", graph.output[i].type)
                np.testing.assert_allclose(arrays(actual), wanted, rtol=1e-3, atol=1e-6, err_msg=folder.name)
        passed += 1
    assert passed >= least


NETWORKS = ["squeezenet", "shufflenet", "inception_v1", "densenet121"]
LARGE_NETWORKS = ["bvlc_alexnet", "inception_v2", "resnet50", "vgg19", "zfnet512"]


SCORES = {
    "squeezenet": 9.475692e9,
    "shufflenet": 3.4928007,
    "inception_v1": 1.1904746e21,
    "bvlc_alexnet": 3.641289e12,
    "inception_v2": 0.46919575,
    "resnet50": 1.2840582e19,
    "vgg19": 3.719611e31,
    "zfnet512": 4.1075747e12,
}
"""What comes into the softmax, for each class the same, by ``onnx.reference.ReferenceEvaluator``; where that departs from the standard, with
``LRN`` at every channel and ``BatchNormalization`` by the statistics that are given."""


@pytest.mark.parametrize("name", [*NETWORKS, *[pytest.param(name, marks=pytest.mark.slow) for name in LARGE_NETWORKS]])
def test_a_whole_network_of_the_onnx_package_gives_its_output(name, tmp_path):
    """Networks for ImageNet as Caffe2 exported them (opset 9), with weights that are computed in the graph.

    Constant weights make the scores of all classes equal but for rounding. Where they are large their softmax is left to chance, as a unit in
    the last place is far more than 1.
    """
    network = onnx.load(PACKAGE_DATA / "light" / f"light_{name}.onnx")
    if name in SCORES:
        network.graph.output.append(value(network.graph.node[-1].input[0]))
    onnx.save(network, tmp_path / "network.onnx")
    model = tg.io.load_onnx(tmp_path / "network.onnx")
    picture = (np.arange(150528).reshape(1, 3, 224, 224) / 150528).astype(F32)
    expected = numpy_helper.to_array(
        onnx.TensorProto.FromString((PACKAGE_DATA / "light" / f"light_{name}_output_0.pb").read_bytes())
    )
    with tg.no_grad():
        got = arrays(model(tg.from_numpy(picture)))
    if name in SCORES:
        got, scores = got
        np.testing.assert_allclose(scores, SCORES[name], rtol=1e-4)
        np.testing.assert_allclose(got.sum(), 1, rtol=1e-4)
    if SCORES.get(name, 0) < 100:
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-6)


# ---- a Module ------------------------------------------------------------------------------------


def mlp(path: Path, layers: nn.Sequential) -> Path:
    """Linear, Tanh, Linear with the weights of ``layers``."""
    first, second = layers[0], layers[2]
    parameters = [
        constant(name, tensor.detach().numpy())
        for name, tensor in (
            ("0.weight", first.weight),
            ("0.bias", first.bias),
            ("2.weight", second.weight),
            ("2.bias", second.bias),
        )
    ]
    nodes = [
        node("Gemm", ["x", "0.weight", "0.bias"], ["h"], transB=1),
        node("Tanh", ["h"], ["a"]),
        node("Gemm", ["a", "2.weight", "2.bias"], ["y"], transB=1),
    ]
    return written(path, nodes, [value("x", ("N", 4))], [value("y", ("N", 3))], parameters)


def cnn(path: Path, layers: nn.Sequential) -> Path:
    """Conv, BatchNorm, ReLU, MaxPool, Flatten, Linear with the weights of ``layers``."""
    conv, norm, linear = layers[0], layers[1], layers[5]
    parameters = [constant(f"0.{name}", tensor.detach().numpy()) for name, tensor in conv.named_parameters()]
    parameters += [constant(f"1.{name}", tensor.detach().numpy()) for name, tensor in norm.state_dict().items() if tensor.ndim]
    parameters += [constant(f"5.{name}", tensor.detach().numpy()) for name, tensor in linear.named_parameters()]
    nodes = [
        node("Conv", ["x", "0.weight", "0.bias"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", "1.weight", "1.bias", "1.running_mean", "1.running_var"], ["n"]),
        node("Relu", ["n"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "5.weight", "5.bias"], ["y"], transB=1),
    ]
    return written(path, nodes, [value("x", ("N", 2, 8, 8))], ["y"], parameters)


def networks(kind: str, path: Path):
    """A network of layers, the same one imported, and a batch for it."""
    tg.manual_seed(1)
    if kind == "mlp":
        layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        return layers, tg.io.load_onnx(mlp(path, layers)), tg.randn(5, 4)
    layers = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3)
    )
    with tg.no_grad():
        layers[1].running_mean.copy_(tg.randn(4))
        layers[1].running_var.copy_(tg.rand(4) + 0.5)
    return layers, tg.io.load_onnx(cnn(path, layers)), tg.randn(5, 2, 8, 8)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_training_an_imported_network_changes_it_as_the_original(kind, training, tmp_path):
    layers, model, x = networks(kind, tmp_path / "a.onnx")
    target = tg.tensor([0, 1, 2, 1, 0])
    losses = []
    for network in (layers.train(training), model.train(training)):
        optimizer = optim.Adam(network.parameters(), lr=0.1)
        for _ in range(3):
            loss = nn.functional.cross_entropy(network(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    wanted = dict(layers.named_parameters())
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(parameter.detach().numpy(), wanted[name].detach().numpy(), rtol=1e-3, atol=1e-4)
    if training and kind == "cnn":  # PyTorch's running variance counts n - 1, ONNX's counts n
        mean = layers[1].running_mean.numpy()
        np.testing.assert_allclose(model.get_buffer("1.running_mean").numpy(), mean, rtol=1e-3, atol=1e-4)


def test_names_of_the_file_are_keys_of_the_state(tmp_path):
    layers, model, x = networks("cnn", tmp_path / "a.onnx")
    assert set(model.state_dict()) == {name for name, tensor in layers.state_dict().items() if tensor.ndim}
    assert [name for name, _ in model.named_buffers()] == ["1.running_mean", "1.running_var"]
    assert model.input_names == ["x"] and model.output_names == ["y"] and not model.training
    other = nn.Sequential(
        *[type(layer)(*arguments) for layer, arguments in zip(layers, ((2, 4, 3, 1, 1), (4,), (), (2,), (), (64, 3)))]
    )
    other.load_state_dict(model.state_dict(), strict=False)
    np.testing.assert_allclose(other.eval()(x).detach().numpy(), model(x).detach().numpy(), atol=1e-6)


def test_state_is_saved_and_loaded(tmp_path):
    _, model, x = networks("mlp", tmp_path / "a.onnx")
    with tg.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    tg.save(model.state_dict(), tmp_path / "state.npz")
    again = tg.io.load_onnx(tmp_path / "a.onnx")
    assert again(x).tolist() != model(x).tolist()
    again.load_state_dict(tg.load(tmp_path / "state.npz"))
    assert again(x).tolist() == model(x).tolist()


def test_which_parameters_are_trained_is_the_callers_choice(tmp_path):
    networks("mlp", tmp_path / "a.onnx")
    frozen = tg.io.load_onnx(tmp_path / "a.onnx", requires_grad=False)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    head = tg.io.load_onnx(tmp_path / "a.onnx", requires_grad=lambda name: name.startswith("2."))
    assert [name for name, parameter in head.named_parameters() if parameter.requires_grad] == ["2.weight", "2.bias"]


def test_a_model_can_be_moved_to_another_precision(tmp_path):
    _, model, x = networks("mlp", tmp_path / "a.onnx")
    expected = model(x).detach().numpy()
    double = model.double()(x.double())
    assert double.dtype == tg.float64
    np.testing.assert_allclose(double.detach().numpy(), expected, atol=1e-6)


def test_constants_that_set_an_operator_up_are_not_parameters(tmp_path):
    path = written(
        tmp_path / "a.onnx",
        [
            node("Clip", ["x", "low", "high"], ["c"]),
            node("Mul", ["c", "factor"], ["m"]),
            node("Constant", [], ["one"], value=constant("", 1.0, F32)),
            node("Add", ["m", "one"], ["y"]),
        ],
        ["x"],
        ["y"],
        [constant("low", -1.0, F32), constant("high", 1.0, F32), constant("factor", [2.0], F32)],
    )
    model = tg.io.load_onnx(path)
    assert [name for name, _ in model.named_parameters()] == ["factor"]
    assert set(model.state_dict()) == {"low", "high", "factor"}
    assert model(tg.tensor([-3.0, 0.5])).tolist() == [-1.0, 2.0]


def test_dropout_drops_in_train_mode_only(tmp_path):
    model = tg.io.load_onnx(
        written(tmp_path / "a.onnx", [node("Dropout", ["x", "r"], ["y"])], ["x"], ["y"], [constant("r", 0.25, F32)])
    )
    x = tg.ones(4000)
    assert model(x).tolist() == x.tolist()
    dropped = model.train()(x)
    assert 0.2 < (dropped == 0).float().mean().item() < 0.3
    assert dropped.unique().tolist() == pytest.approx([0.0, 4 / 3])


def test_printing_a_model_shows_its_graph(tmp_path):
    _, model, _ = networks("mlp", tmp_path / "a.onnx")
    assert repr(model) == (
        "OnnxModule('a.onnx')\n"
        "  input   x float32 (N, 4)\n"
        "  Gemm    x, 0.weight, 0.bias -> h\n"
        "  Tanh    h -> a\n"
        "  Gemm    a, 2.weight, 2.bias -> y\n"
        "  output  y"
    )


def test_names_that_python_cannot_have_get_similar_ones(tmp_path):
    names = ["__class__", "forward", "a.b", "a", ".", "x" * 50 + ".y" * 50]
    nodes = [node("Sum", ["x", *names], ["y"])]
    model = tg.io.load_onnx(written(tmp_path / "a.onnx", nodes, ["x"], ["y"], [constant(name, [1.0], F32) for name in names]))
    assert model(tg.zeros(1)).tolist() == [6.0]
    assert len(model.state_dict()) == 6 and model.get_parameter("a.b").item() == 1.0
    model.forward_2 = nn.Parameter(tg.tensor([5.0]))
    assert model(tg.zeros(1)).tolist() == [10.0]


# ---- inputs --------------------------------------------------------------------------------------


def test_inputs_come_in_order_or_by_name(tmp_path):
    model = tg.io.load_onnx(written(tmp_path / "a.onnx", [node("Sub", ["a", "b"], ["y"])], ["a", "b"]))
    a, b = tg.tensor([3.0]), np.array([1.0], F32)
    assert model(a, b).item() == model(b=b, a=a).item() == model(a, b=b).item() == 2.0
    for arguments, named in (((a,), {}), ((a, b, a), {}), ((a, b), {"a": a}), ((a,), {"c": b})):
        with pytest.raises(ArgumentError, match="one for each of a, b"):
            model(*arguments, **named)


def test_inputs_other_than_the_declared_ones_are_refused(tmp_path):
    model = tg.io.load_onnx(written(tmp_path / "a.onnx", [node("Relu", ["x"], ["y"])], [value("x", (2, "N"))]))
    assert model(tg.ones(2, 5)).shape == (2, 5)
    with pytest.raises(ShapeError, match=r"x float32 \(2, N\)"):
        model(tg.ones(3, 5))
    with pytest.raises(ShapeError):
        model(tg.ones(2))
    with pytest.raises(DtypeError, match="input 'x'"):
        model(tg.ones(2, 5, dtype=tg.int64))


def test_an_initializer_that_is_also_an_input_is_a_constant(tmp_path):
    """Before version 4 of the format every initializer had to be an input too."""
    path = written(tmp_path / "a.onnx", [node("Add", ["x", "w"], ["y"])], ["x", "w"], ["y"], [constant("w", [1.0], F32)])
    model = tg.io.load_onnx(path)
    assert model.input_names == ["x"] and model(tg.tensor([1.0])).item() == 2.0


# ---- control flow and functions ------------------------------------------------------------------


def test_a_branch_sees_the_values_round_it_and_gradients_flow_through_it(tmp_path):
    then = helper.make_graph([node("Mul", ["x", "w"], ["a"])], "then", [], [value("a")])
    other = helper.make_graph([node("Neg", ["x"], ["b"])], "other", [], [value("b")])
    nodes = [node("If", ["condition"], ["y"], then_branch=then, else_branch=other)]
    inputs = [value("condition", (), onnx.TensorProto.BOOL), value("x", (2,))]
    model = tg.io.load_onnx(written(tmp_path / "a.onnx", nodes, inputs, ["y"], [constant("w", [3.0, 4.0], F32)]))
    x = tg.tensor([1.0, 2.0])
    assert model(tg.tensor(False), x).tolist() == [-1.0, -2.0]
    model(tg.tensor(True), x).sum().backward()
    assert model.w.grad.tolist() == [1.0, 2.0]
    assert "    Mul" in repr(model)


def test_a_loop_multiplies_and_its_gradient_is_that_of_the_power(tmp_path):
    body = helper.make_graph(
        [node("Mul", ["v", "w"], ["v2"]), node("Identity", ["c"], ["c2"])],
        "body",
        [value("i", (), 7), value("c", (), 9), value("v")],
        [value("c2", (), 9), value("v2")],
    )
    nodes = [node("Loop", ["count", "", "x"], ["y"], body=body)]
    model = tg.io.load_onnx(written(tmp_path / "a.onnx", nodes, ["x"], ["y"], [constant("count", 5), constant("w", 2.0, F32)]))
    y = model(tg.tensor(1.0))
    y.backward()
    assert y.item() == 32.0 and model.w.grad.item() == 5 * 2.0**4


def test_functions_of_the_file_run_with_the_attributes_of_their_call(tmp_path):
    scaled = helper.make_function(
        "my", "Scaled", ["a"], ["b"], [node("Elu", ["a"], ["b"])], [helper.make_opsetid("", 17)], ["alpha"]
    )
    scaled.node[0].attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="alpha", type=onnx.AttributeProto.FLOAT))
    nodes = [node("Scaled", ["x"], ["h"], domain="my", alpha=3.0), node("Scaled", ["h"], ["y"], domain="my")]
    path = written(tmp_path / "a.onnx", nodes, ["x"], functions=[scaled], domains=[("my", 1)])
    x = -0.5
    inner = 3 * np.expm1(x)  # the second call leaves alpha out, so that Elu's own default holds
    assert tg.io.load_onnx(path)(tg.tensor([x])).item() == pytest.approx(np.expm1(inner), rel=1e-6)


def test_a_copy_has_parameters_of_its_own(tmp_path):
    function = helper.make_function("my", "F", ["a"], ["b"], [node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 17)])
    nodes = [node("F", ["x"], ["h"], domain="my"), node("Mul", ["h", "w"], ["y"])]
    path = written(
        tmp_path / "a.onnx", nodes, ["x"], ["y"], [constant("w", [2.0], F32)], functions=[function], domains=[("my", 1)]
    )
    model = tg.io.load_onnx(path)
    twin = copy.deepcopy(model)
    with tg.no_grad():
        twin.w.fill_(5.0)
    assert model(tg.ones(1)).item() == 2.0 and twin(tg.ones(1)).item() == 5.0


def test_sequences_are_lists(tmp_path):
    nodes = [
        node("SequenceConstruct", ["x", "x2"], ["s"]),
        node("SequenceErase", ["s", "zero"], ["t"]),
        node("SequenceInsert", ["t", "x"], ["u"]),
        node("SequenceAt", ["u", "zero"], ["first"]),
        node("ConcatFromSequence", ["u"], ["y"], axis=0, new_axis=1),
        node("Neg", ["x"], ["x2"]),
    ]
    nodes.insert(0, nodes.pop())
    path = written(tmp_path / "a.onnx", nodes, ["x"], ["u", "first", "y"], [constant("zero", 0)])
    listed, first, stacked = tg.io.load_onnx(path)(tg.tensor([1.0]))
    assert [item.tolist() for item in listed] == [[-1.0], [1.0]]
    assert first.tolist() == [-1.0] and stacked.tolist() == [[-1.0], [1.0]]


# ---- random numbers ------------------------------------------------------------------------------


def test_random_numbers_have_their_moments_and_follow_manual_seed(tmp_path):
    nodes = [
        node("RandomNormal", [], ["n"], shape=[100, 100], mean=2.0, scale=0.5),
        node("RandomUniformLike", ["n"], ["u"], low=-1.0, high=3.0),
        node("Multinomial", ["logits"], ["m"], sample_size=5000),
        node("Bernoulli", ["p"], ["b"], dtype=onnx.TensorProto.INT32),
    ]
    fixed = [constant("logits", np.log([[0.2, 0.8]]), F32), constant("p", np.full(5000, 0.3), F32)]
    model = tg.io.load_onnx(written(tmp_path / "a.onnx", nodes, [], ["n", "u", "m", "b"], fixed))
    tg.manual_seed(0)
    normal, uniform, chosen, drawn = model()
    assert abs(normal.mean().item() - 2) < 0.03 and abs(normal.std().item() - 0.5) < 0.03
    assert uniform.min().item() >= -1 and uniform.max().item() <= 3 and abs(uniform.mean().item() - 1) < 0.05
    assert abs(chosen.float().mean().item() - 0.8) < 0.03 and chosen.dtype == tg.int32
    assert abs(drawn.float().mean().item() - 0.3) < 0.03 and drawn.dtype == tg.int32
    tg.manual_seed(0)
    assert model()[0].tolist() == normal.tolist()


# ---- what stands round it ------------------------------------------------------------------------


def test_without_the_onnx_package_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    path = written(tmp_path / "a.onnx", [node("Relu", ["x"], ["y"])], ["x"])
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ArgumentError, match="TG-A002.*onnx>=1.17"):
        tg.io.load_onnx(path)


def test_errors_are_japanese_where_that_is_the_language(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    path = written(tmp_path / "a.onnx", [node("Relu", ["z"], ["y"])], ["x"])
    with pytest.raises(StateError, match="それより前で作られていません"):
        tg.io.load_onnx(path)


def test_the_whole_path_from_made_to_loaded_keeps_float16_and_integers(tmp_path):
    half = constant("h", [1.5, -2.0], np.float16)
    spelled = helper.make_tensor("s", onnx.TensorProto.FLOAT16, [2], [1.5, -2.0])
    small = helper.make_tensor("i", onnx.TensorProto.INT8, [2], [-128, 127])
    nodes = [node("Add", ["h", "s"], ["y"]), node("Identity", ["i"], ["z"])]
    y, z = tg.io.load_onnx(written(tmp_path / "a.onnx", nodes, [], ["y", "z"], [half, spelled, small]))()
    assert y.dtype == tg.float16 and y.tolist() == [3.0, -4.0]
    assert z.dtype == tg.int8 and z.tolist() == [-128, 127]
