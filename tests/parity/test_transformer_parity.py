"""The Transformer's layers against PyTorch's, with PyTorch's weights: outputs, gradients, names, masks, in training and evaluation.

In evaluation without gradients PyTorch may leave padded positions out and return 0 there (nested tensors); only what is not padded is
compared in that mode.
"""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from parity.beside_torch import random

import tinygrad_ja as tg

S, T, N, E = 5, 4, 3, 6
SIZES = {"d_model": E, "nhead": 2, "dim_feedforward": 7, "dropout": 0.0}
CAUSAL = np.where(np.tri(T, T, dtype=bool), 0.0, -np.inf)
PADDED_SRC = np.arange(S) >= np.array([[S], [3], [4]])
PADDED_TGT = np.arange(T) >= np.array([[2], [T], [3]])


def pair(build, training=True):
    """The same module from both libraries in float64, with PyTorch's weights moved away from their start."""
    torch.manual_seed(0)
    mine, theirs = build(tg.nn).double().train(training), build(torch.nn).double().train(training)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in mine.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [n for n, _ in mine.named_modules()] == [n for n, _ in theirs.named_modules()]
    assert repr(mine) == repr(theirs).replace("NonDynamicallyQuantizableLinear", "Linear")
    for p in theirs.parameters():
        p.data += 0.1 * torch.randn_like(p)
    mine.load_state_dict({name: value.detach().numpy() for name, value in theirs.state_dict().items()})
    return mine, theirs


def run(lib, module, inputs, masks):
    """Output and gradients of inputs and parameters."""
    tensors = [lib.tensor(a).requires_grad_() for a in inputs]
    y = module(*tensors, **{k: lib.tensor(v) if isinstance(v, np.ndarray) else v for k, v in masks.items()})
    (y * lib.tensor(random(*y.shape, seed=9))).sum().backward()
    return [y.detach().numpy(), *[t.grad.numpy() for t in (*tensors, *module.parameters())]]


def compare(build, inputs, masks, training=True):
    mine, theirs = pair(build, training)
    for a, b in zip(run(tg, mine, inputs, masks), run(torch, theirs, inputs, masks)):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


def batch(length, batch_first=False, seed=0):
    return random(*((N, length, E) if batch_first else (length, N, E)), seed=seed)


KINDS = {
    "plain": {},
    "norm first": {"norm_first": True},
    "batch first": {"batch_first": True},
    "gelu": {"activation": "gelu"},
    "no bias": {"bias": False, "norm_first": True},
    "another eps": {"layer_norm_eps": 0.1},
}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
modes = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])

ENCODER_MASKS = {
    "none": {},
    "mask": {"src_mask": np.triu(np.ones((S, S), bool), 2)},
    "mask of each head": {"src_mask": random(N * 2, S, S, seed=5)},
    "padding": {"src_key_padding_mask": PADDED_SRC},
    "both": {"src_mask": np.triu(np.ones((S, S), bool), 1), "src_key_padding_mask": PADDED_SRC},
    "causal": {"src_mask": np.triu(np.ones((S, S), bool), 1), "is_causal": True},
}


@kinds
@modes
@pytest.mark.parametrize("masks", ENCODER_MASKS.values(), ids=ENCODER_MASKS)
def test_encoder_layer(kind, training, masks):
    x = batch(S, kind.get("batch_first", False))
    compare(lambda nn: nn.TransformerEncoderLayer(**SIZES, **kind), [x], masks, training)


DECODER_MASKS = {
    "none": {},
    "masks": {"tgt_mask": CAUSAL, "memory_mask": np.triu(np.ones((T, S), bool), 3)},
    "paddings": {"tgt_key_padding_mask": PADDED_TGT, "memory_key_padding_mask": PADDED_SRC},
    "all": {"tgt_mask": CAUSAL != 0, "tgt_key_padding_mask": PADDED_TGT, "memory_key_padding_mask": PADDED_SRC},
    "causal": {"tgt_mask": CAUSAL, "tgt_is_causal": True},
}


@kinds
@modes
@pytest.mark.parametrize("masks", DECODER_MASKS.values(), ids=DECODER_MASKS)
def test_decoder_layer(kind, training, masks):
    first = kind.get("batch_first", False)
    compare(lambda nn: nn.TransformerDecoderLayer(**SIZES, **kind), [batch(T, first), batch(S, first, 1)], masks, training)


def test_layers_without_a_batch():
    x, memory = random(T, E), random(S, E, seed=1)
    masks = {"src_key_padding_mask": np.arange(T) > 2}
    compare(lambda nn: nn.TransformerEncoderLayer(**SIZES, batch_first=True), [x], masks)
    masks = {"tgt_mask": CAUSAL, "memory_key_padding_mask": np.arange(S) > 3}
    compare(lambda nn: nn.TransformerDecoderLayer(**SIZES), [x, memory], masks)


@pytest.mark.parametrize("name", ["relu", "gelu", "tanh"])
def test_an_activation_may_be_a_function(name):
    sides = {tg.nn: getattr(tg, name, None) or getattr(tg.nn.functional, name), torch.nn: getattr(torch.nn.functional, name)}
    compare(lambda nn: nn.TransformerEncoderLayer(**SIZES, activation=sides[nn]), [batch(S)], {})


@modes
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
def test_encoder(training):
    def build(nn):
        return nn.TransformerEncoder(nn.TransformerEncoderLayer(**SIZES, batch_first=True), 2, norm=nn.LayerNorm(E))

    x, causal = batch(S, True), np.triu(np.full((S, S), -np.inf), 1)
    compare(build, [x], {"mask": causal}, training)
    compare(build, [x], {"mask": causal, "is_causal": True}, training)
    compare(build, [x], {"src_key_padding_mask": PADDED_SRC}, training)


@modes
def test_decoder(training):
    def build(nn):
        return nn.TransformerDecoder(nn.TransformerDecoderLayer(**SIZES), 2)

    masks = {"tgt_mask": CAUSAL, "memory_key_padding_mask": PADDED_SRC}
    compare(build, [batch(T), batch(S, seed=1)], masks, training)
    compare(build, [batch(T), batch(S, seed=1)], {**masks, "tgt_is_causal": True}, training)


@pytest.mark.parametrize("first", [False, True])
@modes
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True", "ignore:Support for mismatched")
def test_the_whole(first, training):
    def build(nn):
        return nn.Transformer(E, 2, 2, 2, 7, 0.0, batch_first=first)

    masks = {
        "src_key_padding_mask": PADDED_SRC,
        "tgt_mask": CAUSAL,
        "tgt_key_padding_mask": PADDED_TGT,
        "memory_key_padding_mask": PADDED_SRC,
    }
    compare(build, [batch(S, first), batch(T, first, 1)], masks, training)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True", "ignore:The PyTorch API of nested")
def test_the_fast_path_of_pytorch_gives_the_same_where_nothing_is_padded():
    def build(nn):
        return nn.TransformerEncoder(nn.TransformerEncoderLayer(**SIZES, batch_first=True), 2)

    mine, theirs = pair(build, training=False)
    x = batch(S, True)
    with tg.no_grad(), torch.no_grad():
        y = mine(tg.tensor(x), src_key_padding_mask=tg.tensor(PADDED_SRC)).numpy()
        z = theirs(torch.tensor(x), src_key_padding_mask=torch.tensor(PADDED_SRC)).numpy()
    valid = ~PADDED_SRC[:, : z.shape[1]]
    np.testing.assert_allclose(y[:, : z.shape[1]][valid], z[valid], rtol=1e-8, atol=1e-10)


def test_custom_parts():
    def build(nn):
        encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**SIZES), 1, enable_nested_tensor=False)
        decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**SIZES), 1)
        return nn.Transformer(E, 2, custom_encoder=encoder, custom_decoder=decoder)

    compare(build, [batch(S), batch(T, seed=1)], {"tgt_mask": CAUSAL})


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
def test_weights_start_with_the_same_distribution():
    sizes = {"d_model": 32, "nhead": 4, "num_encoder_layers": 1, "num_decoder_layers": 1, "dim_feedforward": 64}
    mine, theirs = tg.nn.Transformer(**sizes), torch.nn.Transformer(**sizes)
    for (name, p), (_, q) in zip(mine.named_parameters(), theirs.named_parameters()):
        a, b = p.detach().numpy(), q.detach().numpy()
        if a.size >= 1024:
            assert a.std() == pytest.approx(b.std(), rel=0.1), name
            assert abs(a).max() == pytest.approx(abs(b).max(), rel=0.05), name


def test_the_causal_mask():
    for sz in (1, 4):
        mine = tg.nn.Transformer.generate_square_subsequent_mask(sz)
        theirs = torch.nn.Transformer.generate_square_subsequent_mask(sz)
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
        assert mine.dtype == np.float32


@pytest.mark.parametrize(
    "name",
    "Transformer TransformerEncoder TransformerDecoder TransformerEncoderLayer TransformerDecoderLayer MultiheadAttention".split(),
)
def test_arguments_have_the_same_names_order_and_defaults(name):
    for method in ("__init__", "forward"):
        mine, theirs = (inspect.signature(getattr(getattr(nn, name), method)).parameters for nn in (tg.nn, torch.nn))
        assert list(mine) == list(theirs)
        for a, b in zip(mine.values(), theirs.values()):
            assert callable(b.default) or a.default == b.default
