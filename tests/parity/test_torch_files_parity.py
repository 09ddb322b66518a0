"""Weights cross between PyTorch and tinygrad_ja in files, both ways, and the models compute the same."""

from __future__ import annotations

from collections import Counter, OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch

import tinygrad_ja as tg
from tinygrad_ja.errors import StateError


def floats(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def integers(high, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, high, size=shape)


def mlp(nn):
    return nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 3))


def cnn(nn):
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, groups=2, stride=2),
        nn.GroupNorm(2, 6),
        nn.ConvTranspose2d(6, 3, 2, stride=2),
        nn.PReLU(3),
        nn.Flatten(),
        nn.Linear(3 * 2 * 2, 5),
    )


def text(nn):
    return nn.Sequential(nn.Embedding(11, 8, padding_idx=0), nn.Conv1d(5, 4, 3), nn.Tanh(), nn.Linear(6, 2))


def normed(nn):
    utils = nn.utils
    return nn.Sequential(
        utils.parametrizations.weight_norm(nn.Linear(5, 6)),
        utils.parametrizations.spectral_norm(nn.Linear(6, 6)),
        utils.parametrizations.orthogonal(nn.Linear(6, 4)),
        utils.spectral_norm(nn.Linear(4, 4)),
    )


# name: model, inputs
BANK = {
    "MLP with layer norm": (mlp, [floats(4, 6)]),
    "CNN with batch norm": (cnn, [floats(3, 2, 8, 8)]),
    "embedding and 1-d convolution": (text, [integers(11, 3, 5)]),
    "RNN": (lambda nn: nn.RNN(3, 5, nonlinearity="relu"), [floats(7, 2, 3)]),
    "LSTM": (lambda nn: nn.LSTM(3, 5), [floats(7, 2, 3)]),
    "LSTM of 2 layers both ways": (
        lambda nn: nn.LSTM(3, 5, num_layers=2, bidirectional=True, batch_first=True),
        [floats(2, 7, 3), (floats(4, 2, 5, seed=1), floats(4, 2, 5, seed=2))],
    ),
    "LSTM with projections": (lambda nn: nn.LSTM(3, 6, proj_size=4, num_layers=2), [floats(7, 2, 3)]),
    "GRU": (lambda nn: nn.GRU(3, 5), [floats(7, 2, 3), floats(1, 2, 5, seed=1)]),
    "GRU of 2 layers both ways without biases": (
        lambda nn: nn.GRU(3, 5, num_layers=2, bidirectional=True, bias=False),
        [floats(7, 2, 3)],
    ),
    "LSTM cell": (lambda nn: nn.LSTMCell(3, 5), [floats(2, 3), (floats(2, 5, seed=1), floats(2, 5, seed=2))]),
    "GRU cell": (lambda nn: nn.GRUCell(3, 5), [floats(2, 3), floats(2, 5, seed=1)]),
    "attention": (lambda nn: nn.MultiheadAttention(8, 2), [floats(5, 2, 8, seed=s) for s in range(3)]),
    "attention with other key and value sizes": (
        lambda nn: nn.MultiheadAttention(8, 2, kdim=3, vdim=4, batch_first=True, add_bias_kv=True),
        [floats(2, 5, 8), floats(2, 6, 3, seed=1), floats(2, 6, 4, seed=2)],
    ),
    "Transformer encoder": (
        lambda nn: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False),
        [floats(2, 5, 8)],
    ),
    "Transformer decoder, norm first": (
        lambda nn: nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, norm_first=True), 2, norm=nn.LayerNorm(8)),
        [floats(4, 2, 8), floats(5, 2, 8, seed=1)],
    ),
    "Transformer": (
        lambda nn: nn.Transformer(8, 2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=16),
        [floats(5, 2, 8), floats(4, 2, 8, seed=1)],
    ),
    "bilinear": (lambda nn: nn.Bilinear(3, 4, 5), [floats(2, 3), floats(2, 4, seed=1)]),
    "embedding bag": (lambda nn: nn.EmbeddingBag(9, 4, mode="mean"), [integers(9, 3, 5)]),
    "instance norm with statistics": (
        lambda nn: nn.InstanceNorm1d(3, affine=True, track_running_stats=True),
        [floats(2, 3, 6)],
    ),
    "parametrized weights": (normed, [floats(3, 5)]),
}


def build(name, seed):
    """Both libraries' models with different weights; the running statistics are not those of the start."""
    make, inputs = BANK[name]
    torch.manual_seed(seed)
    tg.manual_seed(seed)
    mine, theirs = make(tg.nn), make(torch.nn)
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for key, value in theirs.named_buffers():
            if "running" in key:
                value.copy_(torch.tensor(rng.uniform(0.5, 1.5, tuple(value.shape))))
    return mine.eval(), theirs.eval(), inputs


def output(library, model, inputs):
    def given(value):
        return tuple(map(given, value)) if isinstance(value, tuple) else library.tensor(value)

    def listed(value):
        parts = value if isinstance(value, (tuple, list)) else [value]
        return [a for part in parts for a in (listed(part) if isinstance(part, tuple) else [part.detach().numpy()])]

    with library.no_grad():
        return listed(model(*map(given, inputs)))


def check_same(mine, theirs, inputs):
    for a, b in zip(output(tg, mine, inputs), output(torch, theirs, inputs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def save_contiguous(state, path):
    """safetensors for PyTorch refuses layouts that are not row-major."""
    safetensors.torch.save_file({name: value.contiguous() for name, value in state.items()}, path)


FORMATS = {
    "pt": (torch.save, torch.load, tg.io.save_torch, tg.io.load_torch),
    "safetensors": (save_contiguous, safetensors.torch.load_file, tg.io.save_safetensors, tg.io.load_safetensors),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", BANK)
def test_a_model_of_pytorch_computes_the_same_here(tmp_path, name, form):
    save, _, _, load = FORMATS[form]
    mine, theirs, inputs = build(name, seed=1)
    save(theirs.state_dict(), tmp_path / "w")
    assert str(mine.load_state_dict(load(tmp_path / "w"))) == "<All keys matched successfully>"
    check_same(mine, theirs, inputs)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", BANK)
def test_a_model_from_here_computes_the_same_in_pytorch(tmp_path, name, form):
    _, load, save, _ = FORMATS[form]
    mine, theirs, inputs = build(name, seed=2)
    save(mine.state_dict(), tmp_path / "w")
    assert str(theirs.load_state_dict(load(tmp_path / "w"))) == "<All keys matched successfully>"
    check_same(mine, theirs, inputs)


# ---- values

DTYPES = "bool uint8 int8 int16 int32 int64 uint16 uint32 uint64 float16 float32 float64".split()


def test_every_dtype_shape_and_layout_crosses(tmp_path):
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    state = {dtype: torch.tensor([1, 0, 3]).to(getattr(torch, dtype)) for dtype in DTYPES}
    state |= {
        "0-d": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "transposed": base.transpose(0, 2),
        "part": base[1, 1:, ::2],
    }
    state |= {"whole": base, "bfloat16": torch.tensor([1.0, -2.7, 3e38]).bfloat16(), "size 1": torch.ones(1, 1, 4)[:, :, 1:2]}
    torch.save(state, tmp_path / "a.pt")
    found = tg.io.load_torch(tmp_path / "a.pt")
    assert list(found) == list(state)
    for name, value in state.items():
        expected = value.float() if name == "bfloat16" else value
        assert str(found[name].dtype) == str(expected.dtype).removeprefix("torch.") and found[name].shape == tuple(value.shape)
        np.testing.assert_array_equal(found[name].array, expected.numpy())
    assert np.shares_memory(found["whole"].array, found["part"].array)

    tg.io.save_torch(found, tmp_path / "b.pt")
    for mapped in (False, True):
        back = torch.load(tmp_path / "b.pt", weights_only=True, mmap=mapped)
        for name, value in state.items():
            assert torch.equal(back[name], value.float() if name == "bfloat16" else value)


def test_plain_values_cross(tmp_path):
    state = {"i": [1, -1, 255, 256, 65535, 65536, -(2**31), 2**31, -(2**40), 2**70], "f": [1.5, float("inf"), -0.0], 3: None}
    state |= {"t": (True, False, (), ("a",)), "日本語": "\u3042\n", "nested": {"a": [{}, [[]]]}}
    torch.save(state, tmp_path / "a.pt")
    assert tg.io.load_torch(tmp_path / "a.pt") == state
    tg.io.save_torch(state, tmp_path / "b.pt")
    assert torch.load(tmp_path / "b.pt", weights_only=True) == state


def test_containers_and_names_of_pytorch_become_plain(tmp_path):
    parameter = torch.nn.Parameter(torch.ones(2))
    state = {
        "size": torch.Size([2, 3]),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "ordered": OrderedDict(a=1),
        "counter": Counter({3: 2}),
        "parameter": parameter,
        "frozen": torch.nn.Parameter(torch.ones(2), requires_grad=False),
        "wants a gradient": torch.ones(2, requires_grad=True),
    }
    torch.save(state, tmp_path / "a.pt")
    found = tg.io.load_torch(tmp_path / "a.pt")
    assert found["size"] == (2, 3) and found["device"] == "cpu" and found["dtype"] == tg.float16
    assert found["ordered"] == {"a": 1} and found["counter"] == {3: 2}
    assert isinstance(found["parameter"], tg.nn.Parameter) and found["parameter"].requires_grad
    assert isinstance(found["frozen"], tg.nn.Parameter) and not found["frozen"].requires_grad
    assert found["wants a gradient"].requires_grad and found["wants a gradient"].is_leaf


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_of_pickle_is_read(tmp_path, protocol):
    model = torch.nn.Linear(3, 2)
    torch.save(model.state_dict(), tmp_path / "a.pt", pickle_protocol=protocol)
    np.testing.assert_array_equal(tg.io.load_torch(tmp_path / "a.pt")["weight"].array, model.weight.detach().numpy())


def test_tied_weights_stay_tied(tmp_path):
    weight = torch.ones(2, 2)
    torch.save({"a": weight, "b": weight}, tmp_path / "a.pt")
    found = tg.io.load_torch(tmp_path / "a.pt")
    found["a"].array[0, 0] = 7.0
    assert found["b"].array[0, 0] == 7.0
    x = tg.ones(2)
    tg.io.save_torch({"a": x, "b": x.detach()}, tmp_path / "b.pt")
    back = torch.load(tmp_path / "b.pt", weights_only=True)
    assert back["a"].data_ptr() == back["b"].data_ptr()


def test_the_state_of_an_optimizer_crosses(tmp_path):
    """Two steps there and one here are three steps there, and the other way round."""
    start, gradients = floats(3), [floats(3, seed=s) for s in range(1, 4)]

    def step(library, parameter, optimizer, gradient):
        parameter.grad = library.tensor(gradient)
        optimizer.step()

    def make(library):
        parameter = library.tensor(start, requires_grad=True)
        return parameter, library.optim.Adam([parameter], lr=0.1)

    libraries = {"pt": (torch, torch.save, torch.load), "tg": (tg, tg.io.save_torch, tg.io.load_torch)}
    ends = []
    for first, second in [("pt", "tg"), ("tg", "pt"), ("pt", "pt")]:
        library, save, _ = libraries[first]
        parameter, optimizer = make(library)
        for gradient in gradients[:2]:
            step(library, parameter, optimizer, gradient)
        save({"w": parameter.detach(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
        library, _, load = libraries[second]
        state = load(tmp_path / "a.pt")
        parameter, optimizer = make(library)
        with library.no_grad():
            parameter.copy_(state["w"])
        optimizer.load_state_dict(state["optimizer"])
        step(library, parameter, optimizer, gradients[2])
        ends.append(parameter.detach().numpy())
    np.testing.assert_allclose(ends[0], ends[2], rtol=1e-6)
    np.testing.assert_allclose(ends[1], ends[2], rtol=1e-6)


# ---- what is refused


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: torch.save(torch.nn.Linear(1, 1), path), "torch.nn.modules.linear.Linear.*state_dict"),
        (lambda path: torch.save({"a": torch.eye(2).to_sparse()}, path), "_rebuild_sparse_tensor"),
        (lambda path: torch.save({"a": torch.ones(2, dtype=torch.complex64)}, path), "ComplexFloatStorage"),
        (lambda path: torch.save({"a": torch.ones(1).expand(5)}, path), "does not fit into its storage.*contiguous"),
        (lambda path: torch.save({"a": {1, 2}}, path), "builtins.set|__builtin__.set"),
        (lambda path: torch.save({"a": np.float64(2.0)}, path), "numpy"),
        (lambda path: torch.jit.script(torch.nn.Linear(1, 1)).save(path), "TorchScript.*torch.jit.load"),
        (
            lambda path: torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=False),
            "pickle.*PyTorch 1.6 or newer",
        ),
    ],
)
def test_what_is_no_plain_data_is_refused_with_a_way_out(tmp_path, make, words):
    path = tmp_path / "a.pt"
    make(str(path))
    with pytest.raises(StateError, match=rf"TG-F005.*a\.pt.*({words})"):
        tg.io.load_torch(path)
