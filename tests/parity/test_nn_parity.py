"""Layers against PyTorch: names, shapes, text, values and gradients, with the weights of PyTorch loaded."""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict

import numpy as np
import pytest
import torch

import tinygrad_ja as tg


def load(mine, theirs):
    mine.load_state_dict({name: value.detach().numpy() for name, value in theirs.state_dict().items()})


def pair(build):
    """The same module from both libraries in float64, with PyTorch's weights; keys, order, shapes and text are the same."""
    torch.manual_seed(0)
    mine, theirs = build(tg.nn).double(), build(torch.nn).double()
    assert [(n, tuple(v.shape)) for n, v in mine.state_dict().items()] == [
        (n, tuple(v.shape)) for n, v in theirs.state_dict().items()
    ]
    assert [n for n, _ in mine.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [n for n, _ in mine.named_modules()] == [n for n, _ in theirs.named_modules()]
    assert repr(mine) == repr(theirs)
    load(mine, theirs)
    return mine, theirs


def flat(outputs):
    if isinstance(outputs, (tuple, list)):
        return [t for part in outputs for t in flat(part)]
    return [outputs]


def to(library, value):
    if isinstance(value, (tuple, list)):
        return tuple(to(library, part) for part in value)
    if not isinstance(value, np.ndarray):
        return value
    made = library.tensor(value)
    return made.requires_grad_() if value.dtype == np.float64 else made


def compare(build, *values, tolerance=1e-9):
    """Outputs, and gradients of parameters and inputs for random cotangents."""
    mine, theirs = pair(build)
    given, expected_given = to(tg, values), to(torch, values)
    outputs, expected = flat(mine(*given)), flat(theirs(*expected_given))
    assert len(outputs) == len(expected)
    rng = np.random.default_rng(1)
    loss, expected_loss = 0, 0
    for y, d in zip(outputs, expected):
        assert tuple(y.shape) == tuple(d.shape)
        np.testing.assert_allclose(y.detach().numpy(), d.detach().numpy(), rtol=1e-10, atol=1e-12)
        cotangent = rng.normal(size=tuple(y.shape))
        loss = loss + (y * tg.tensor(cotangent)).sum()
        expected_loss = expected_loss + (d * torch.tensor(cotangent)).sum()
    loss.backward()
    expected_loss.backward()
    pairs = [*zip(mine.parameters(), theirs.parameters()), *zip(flat(given), flat(expected_given))]
    for p, q in pairs:
        if torch.is_tensor(q) and q.grad is not None:
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=tolerance, atol=1e-11)


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


LAYERS = {
    "linear": (lambda nn: nn.Linear(3, 4), array(5, 3)),
    "linear without bias": (lambda nn: nn.Linear(3, 4, bias=False), array(2, 5, 3)),
    "identity": (lambda nn: nn.Identity(), array(2, 3)),
    "flatten": (lambda nn: nn.Flatten(), array(2, 3, 4)),
    "unflatten": (lambda nn: nn.Unflatten(1, (2, 3)), array(2, 6)),
    "embedding": (lambda nn: nn.Embedding(5, 3), np.array([[1, 4], [1, 0]])),
    "embedding with padding": (lambda nn: nn.Embedding(5, 3, padding_idx=-4), np.array([1, 4, 1, 0])),
    "dropout in evaluation": (lambda nn: nn.Dropout(0.3).eval(), array(2, 3)),
    "sequential": (
        lambda nn: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 2), nn.Tanh())),
        array(5, 3),
    ),
    "sequential by name": (lambda nn: nn.Sequential(OrderedDict(a=nn.Linear(3, 4), b=nn.Sigmoid())), array(5, 3)),
    "prelu": (lambda nn: nn.PReLU(3), array(5, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    build, *values = LAYERS[name]
    compare(build, *values)


ACTIVATIONS = {
    **dict.fromkeys("ReLU ReLU6 LeakyReLU ELU SELU CELU GELU SiLU Mish Softplus Softsign Softshrink Hardshrink".split(), ()),
    **dict.fromkeys("Tanhshrink Hardtanh Hardsigmoid Hardswish LogSigmoid GLU Sigmoid Tanh".split(), ()),
    "Threshold": (0.1, 20.0),
    "Softmax": (-1,),
    "LogSoftmax": (1,),
    "Softmin": (0,),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name):
    # PyTorch's derivative of hardsigmoid has 1/6 in single precision
    tolerance = 1e-7 if name == "Hardsigmoid" else 1e-9
    compare(lambda nn: getattr(nn, name)(*ACTIVATIONS[name]), 2 * array(3, 4), tolerance=tolerance)


def test_settings_of_activations_show():
    for build in (
        lambda nn: nn.LeakyReLU(0.2, True),
        lambda nn: nn.GELU("tanh"),
        lambda nn: nn.ELU(inplace=True),
        lambda nn: nn.Softshrink(0.3),
        lambda nn: nn.Hardtanh(-2.0, 2.0),
    ):
        assert repr(build(tg.nn)) == repr(build(torch.nn))


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
def test_softmax_without_dim(ndim):
    compare(lambda nn: nn.Softmax(), array(2, 3, 2, 3)[(0,) * (4 - ndim)])


CLASSES = np.array([0, 3, 1, 3, 2])
LOSSES = {
    "MSELoss": ({}, array(5, 4), array(5, 4, seed=1)),
    "L1Loss": ({}, array(5, 4), array(5, 4, seed=1)),
    "CrossEntropyLoss": ({}, array(5, 4), CLASSES),
    "NLLLoss": ({}, array(5, 4), CLASSES),
    "BCELoss": ({}, np.abs(np.tanh(array(5, 4))), np.abs(np.tanh(array(5, 4, seed=1)))),
    "BCEWithLogitsLoss": ({}, array(5, 4), np.abs(np.tanh(array(5, 4, seed=1)))),
    "CrossEntropyLoss smoothed": ({"label_smoothing": 0.1, "ignore_index": 3}, array(5, 4), CLASSES),
    "CrossEntropyLoss weighted": ({"weight": np.array([0.5, 1.0, 2.0, 3.0])}, array(5, 4), CLASSES),
    "NLLLoss weighted": ({"weight": np.array([0.5, 1.0, 2.0, 3.0]), "ignore_index": 1}, array(5, 4), CLASSES),
    "BCELoss weighted": ({"weight": np.array([0.5, 1.0, 2.0, 3.0])}, *(np.abs(np.tanh(array(5, 4, seed=s))) for s in (0, 1))),
    "BCEWithLogitsLoss weighted": (
        {"weight": np.array([0.5, 1.0, 2.0, 3.0]), "pos_weight": np.array([1.5, 1.0, 2.0, 3.0])},
        array(5, 4),
        np.abs(np.tanh(array(5, 4, seed=1))),
    ),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_loss(name, reduction):
    options, input, target = LOSSES[name]

    def build(nn):
        library = tg if nn is tg.nn else torch
        settings = {k: library.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        return getattr(nn, name.split()[0])(reduction=reduction, **settings)

    mine, theirs = pair(build)
    x, q = tg.tensor(input, requires_grad=True), torch.tensor(input, requires_grad=True)
    y, d = mine(x, tg.tensor(target)), theirs(q, torch.tensor(target))
    np.testing.assert_allclose(y.detach().numpy(), d.detach().numpy(), rtol=1e-10)
    y.sum().backward()
    d.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), q.grad.numpy(), rtol=1e-9, atol=1e-12)


RECURRENT = [
    (kind, {**shape, **options})
    for kind, options in [
        ("RNN", {}),
        ("RNN", {"nonlinearity": "relu"}),
        ("LSTM", {}),
        ("GRU", {}),
    ]
    for shape in [
        {},
        {"num_layers": 2, "bidirectional": True},
        {"batch_first": True, "bias": False},
        {"num_layers": 3, "batch_first": True, "bidirectional": True},
    ]
]


@pytest.mark.parametrize("state", [False, True], ids=["zeros", "given"])
@pytest.mark.parametrize("kind, options", RECURRENT, ids=str)
def test_recurrent_layer(kind, options, state):
    t, n, d, width = 5, 3, 2, 4
    x = array(n, t, d) if options.get("batch_first") else array(t, n, d)
    count = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    held = [array(count, n, width, seed=s) for s in (2, 3)]
    hx = [held if kind == "LSTM" else held[0]] if state else []
    compare(lambda nn: getattr(nn, kind)(d, width, **options), x, *hx)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_recurrent_layer_without_batch(kind, batch_first):
    held = [array(4, 3, seed=s) for s in (2, 3)]
    hx = held if kind == "LSTM" else held[0]
    build = lambda nn: getattr(nn, kind)(2, 3, num_layers=2, bidirectional=True, batch_first=batch_first)  # noqa: E731
    compare(build, array(5, 2), hx)
    compare(build, array(5, 2))


def test_text_of_recurrent_layers():
    for build in (
        lambda nn: nn.LSTM(2, 3, 2, bias=False, batch_first=True, dropout=0.5, bidirectional=True),
        lambda nn: nn.RNNCell(2, 3, bias=False, nonlinearity="relu"),
    ):
        assert repr(build(tg.nn)) == repr(build(torch.nn))


@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_cell(kind, bias, batch):
    held = [array(*batch, 4, seed=s) for s in (2, 3)]
    build = lambda nn: getattr(nn, kind)(2, 4, bias=bias)  # noqa: E731
    compare(build, array(*batch, 2), tuple(held) if kind == "LSTMCell" else held[0])
    compare(build, array(*batch, 2))


class Named:
    """One model for both libraries, with every kind of registration."""

    @staticmethod
    def build(nn):
        library = tg if nn is tg.nn else torch

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)] + [nn.Tanh(), nn.Linear(2, 1)])
                self.heads = nn.ModuleDict({"mean": nn.Linear(2, 1), "scale": nn.Sequential(nn.Linear(2, 1), nn.Softplus())})
                self.scale = nn.Parameter(library.ones(2))
                self.register_parameter("nothing", None)
                self.register_buffer("mean", library.zeros(2))
                self.register_buffer("scratch", library.zeros(3), persistent=False)
                self.layers[1].weight = self.layers[0].weight  # shared
                self.again = self.heads["mean"]
                self.empty = nn.ModuleList()

            def forward(self, x):
                x = x * self.scale + self.mean
                for layer in self.layers[:-1]:
                    x = layer(x)
                return self.layers[-1](x) + self.again(x) * self.heads["scale"](x)

        return Model()


def test_nested_model():
    compare(Named.build, array(4, 2))
    mine, theirs = pair(Named.build)
    for listing in ("named_buffers", "named_children", "named_modules", "named_parameters"):
        assert [n for n, _ in getattr(mine, listing)()] == [n for n, _ in getattr(theirs, listing)()]
    for options in ({"recurse": False}, {"prefix": "model"}, {"remove_duplicate": False}):
        assert [n for n, _ in mine.named_parameters(**options)] == [n for n, _ in theirs.named_parameters(**options)]
    assert list(mine.state_dict(prefix="m.")) == list(theirs.state_dict(prefix="m."))
    keys = {"scale": 1, "extra": 2}
    mine_keys = mine.load_state_dict({"scale": np.ones(2), "extra": np.ones(2)}, strict=False)
    other_keys = theirs.load_state_dict({k: torch.ones(2) for k in keys}, strict=False)
    assert mine_keys == tuple(other_keys)
    assert repr(mine.load_state_dict(mine.state_dict())) == repr(theirs.load_state_dict(theirs.state_dict()))


def test_changed_containers_have_the_same_names_and_text():
    def build(nn):
        chain = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 3), nn.Tanh())
        del chain[1]
        chain.append(nn.Linear(3, 1))
        chain.insert(1, nn.Sigmoid())
        items = nn.ModuleList([nn.Linear(1, 1)]).extend([nn.ReLU(), nn.ReLU()]) + [nn.Linear(1, 2)]
        items[1] = nn.Linear(1, 3)
        items.insert(0, nn.Tanh())
        items.pop(2)
        values = nn.ParameterList([nn.Parameter((tg if nn is tg.nn else torch).ones(2)) for _ in range(2)])
        named = nn.ParameterDict({"a": nn.Parameter((tg if nn is tg.nn else torch).ones(2))})
        model = nn.Module()
        model.chain, model.part, model.items, model.values, model.named = chain, chain[1:3], items, values, named
        return model

    mine, theirs = build(tg.nn), build(torch.nn)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    assert repr(mine.chain) == repr(theirs.chain) and repr(mine.part) == repr(theirs.part)
    assert repr(mine.items) == repr(theirs.items)


BASES = {"Module", "RNNBase", "RNNCellBase"}
OURS_ALONE = {"peephole", "reset_after", "merge"}
CLASSES = [
    name for name in tg.nn.__all__ if inspect.isclass(getattr(tg.nn, name)) and inspect.isclass(getattr(torch.nn, name, None))
]


def plain(value):
    """A default value; functions by their names."""
    return value.__name__ if callable(value) else value


@pytest.mark.parametrize(
    "name", [name for name in CLASSES if issubclass(getattr(tg.nn, name), tg.nn.Module) and name not in BASES]
)
@pytest.mark.parametrize("method", ["__init__", "forward"])
def test_signatures_take_what_pytorch_takes(name, method):
    """Every argument of ours is PyTorch's, in the same order and with the same default; ours may lack some and may add keywords."""
    mine, theirs = (inspect.signature(getattr(getattr(lib.nn, name), method)).parameters for lib in (tg, torch))
    if any(p.kind is p.VAR_POSITIONAL for p in theirs.values()):
        return
    shared = [p for p in mine.values() if p.name not in OURS_ALONE and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    expected = [p for p in theirs.values() if p.name in {q.name for q in shared}]
    assert [(p.name, plain(p.default)) for p in shared] == [(p.name, plain(p.default)) for p in expected]


def test_gradients_of_inputs_and_outputs_seen_by_backward_hooks():
    def run(library):
        layer = library.nn.Linear(2, 3).double()
        layer.weight.data = library.tensor(array(3, 2))
        layer.bias.data = library.tensor(array(3))
        seen = []

        def hook(module, grad_input, grad_output):
            seen.extend([grad_input[0].tolist(), grad_output[0].tolist()])
            return (grad_input[0] * 2,)

        handle = layer.register_full_backward_hook(hook)
        x = library.tensor(array(4, 2), requires_grad=True)
        (layer(x) * library.tensor(array(4, 3, seed=5))).sum().backward()
        seen.append(x.grad.tolist())
        handle.remove()
        layer(x).sum().backward()
        return [*seen, x.grad.tolist()]

    for made, expected in zip(run(tg), run(torch)):
        np.testing.assert_allclose(made, expected, rtol=1e-12)


def test_order_of_hooks():
    def run(library):
        layer = library.nn.Sequential(library.nn.Identity())
        order = []
        layer.register_forward_pre_hook(lambda m, args: order.append(("before", 1)))
        layer.register_forward_pre_hook(lambda m, args: order.append(("before", 0)), prepend=True)
        layer.register_forward_pre_hook(lambda m, args, kw: ((args[0] + 1,), kw), with_kwargs=True)
        layer.register_forward_hook(lambda m, args, y: order.append(("after", args[0].item(), y.item())))
        last = layer.register_forward_hook(lambda m, args, kw, y: y * 10, with_kwargs=True)
        order.append(layer(library.tensor(1.0)).item())
        last.remove()
        order.append(layer(library.tensor(1.0)).item())
        return order

    assert run(tg) == run(torch)


def test_deep_copy_keeps_sharing():
    for library in (tg, torch):
        first = library.nn.Linear(2, 2)
        model = library.nn.Sequential(first, first)
        other = copy.deepcopy(model)
        assert other[0] is other[1] and other[0] is not first
        assert other[0].weight is not first.weight and other[0].weight.tolist() == first.weight.tolist()
