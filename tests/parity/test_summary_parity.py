"""Numbers of parameters are those of PyTorch's modules, and multiplications half of its counted floating-point operations."""

from __future__ import annotations

import pytest

import tinygrad_ja as tg

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor")

MODELS = {
    "mlp": (lambda nn: nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.LayerNorm(32), nn.Linear(32, 4, bias=False)), (5, 8)),
    "cnn": (
        lambda nn: nn.Sequential(
            *[nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.ConvTranspose2d(8, 4, 4, 2)],
            *[nn.Flatten(), nn.LazyLinear(5)],
        ),
        (2, 3, 17, 15),
    ),
    "rnn": (lambda nn: nn.RNN(5, 6, 2, bidirectional=True), (7, 3, 5)),
    "gru": (lambda nn: nn.GRU(5, 6, 2), (7, 3, 5)),
    "lstm": (lambda nn: nn.LSTM(5, 6, 2, bidirectional=True), (7, 3, 5)),
    "transformer": (lambda nn: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32), 3), (7, 2, 16)),
}


def both(name):
    make, shape = MODELS[name]
    ours, theirs = make(tg.nn), make(torch.nn)
    ours(tg.ones(*shape))  # lazy layers get their shapes
    theirs(torch.ones(*shape))
    return tg.summary(ours, input_size=shape), theirs, shape


@pytest.mark.parametrize("name", MODELS)
def test_numbers_of_parameters(name):
    made, theirs, _ = both(name)
    assert made.parameters == sum(p.numel() for p in theirs.parameters())
    by_module = {path: sum(p.numel() for p in module.parameters(recurse=False)) for path, module in theirs.named_modules()}
    assert {row.name: row.parameters for row in made.rows} == by_module


@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer"])
def test_multiplications(name):
    from torch.utils.flop_counter import FlopCounterMode

    made, theirs, shape = both(name)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        theirs.train()(torch.ones(*shape))
    assert 2 * made.multiplications == counter.get_total_flops()
