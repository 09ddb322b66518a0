"""``summary``: shapes, parameters and multiplications are those of the formulas, and the model stays as it was."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.errors import ArgumentError, DtypeError
from tinygrad_ja.profiling.watching import MULTIPLICATIONS, watching_products
from tinygrad_ja.testing import strict

F = nn.functional


def counted(function, *args, **kwargs):
    """Multiplications of a call."""
    counts = []
    with watching_products(counts.append):
        function(*args, **kwargs)
    return sum(counts)


def row_of(made, name):
    (row,) = [row for row in made.rows if row.name == name]
    return row


# ---- multiplications against formulas by hand ----------------------------------------------------


@pytest.mark.parametrize("height, width, k, c, m", [(14, 14, 3, 32, 64), (7, 9, 5, 3, 8)])
def test_mobilenet_separates_a_convolution(height, width, k, c, m):
    """Howard et al. 2017: H·W·C·(K² + M) in place of H·W·K²·C·M."""
    whole = nn.Conv2d(c, m, k, padding=k // 2)
    separated = nn.Sequential(nn.Conv2d(c, c, k, padding=k // 2, groups=c), nn.Conv2d(c, m, 1))
    size = (1, c, height, width)
    assert tg.summary(whole, input_size=size).multiplications == height * width * k**2 * c * m
    assert tg.summary(separated, input_size=size).multiplications == height * width * c * (k**2 + m)


def lenet():
    return nn.Sequential(
        *[nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)],
        *[nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)],
    )


def test_lenet():
    """LeCun et al. 1998: five layers with weights."""
    made = tg.summary(lenet(), input_size=(3, 1, 28, 28))
    each = [28 * 28 * 6 * 25, 10 * 10 * 16 * 6 * 25, 400 * 120, 120 * 84, 84 * 10]
    assert [row.multiplications for row in made.rows if row.multiplications] == [3 * n for n in each]
    parameters = [(25 + 1) * 6, (6 * 25 + 1) * 16, 401 * 120, 121 * 84, 85 * 10]
    assert [row.parameters for row in made.rows if row.parameters] == parameters
    assert (made.parameters, made.trainable) == (61_706, 61_706)
    assert row_of(made, "3").outputs == [(3, 16, 10, 10)]


@pytest.mark.parametrize("kind, gates", [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
@pytest.mark.parametrize("directions", [1, 2])
def test_recurrent_layers(kind, gates, directions):
    """Every step multiplies each gate by its input and by the state: T·N·gates·H·(D + H) for a layer and a direction."""
    steps, batch, inputs, hidden = 6, 3, 5, 7
    layer = kind(inputs, hidden, num_layers=2, bidirectional=directions == 2)
    made = tg.summary(layer, input_size=(steps, batch, inputs))
    first, second = (inputs + hidden), (directions * hidden + hidden)
    assert made.multiplications == steps * batch * directions * gates * hidden * (first + second)


@pytest.mark.parametrize("kind, gates", [(nn.RNNCell, 1), (nn.GRUCell, 3), (nn.LSTMCell, 4)])
def test_recurrent_cells(kind, gates):
    assert tg.summary(kind(5, 7), input_size=(3, 5)).multiplications == 3 * gates * 7 * (5 + 7)


def test_a_layer_counts_as_its_loop_over_time_steps():
    x, w_ih, w_hh = tg.randn(12, 5), tg.randn(28, 5), tg.randn(28, 7)
    state = tg.zeros(3, 7), tg.zeros(3, 7)
    from tinygrad_ja.ops.recurrent_layer import lstm_layer, lstm_steps

    given = {"batch_sizes": [3, 3, 3, 3]}
    assert counted(lstm_layer, x, *state, w_ih, w_hh, **given) == counted(lstm_steps, x, *state, w_ih, w_hh, **given)


def test_a_transformer_layer():
    """Vaswani et al. 2017: four projections d·d a position, scores and means of L·d a position, and the two layers of the feed-forward."""
    length, batch, d, heads, wide = 10, 2, 16, 4, 32
    made = tg.summary(nn.TransformerEncoderLayer(d, heads, wide), input_size=(length, batch, d))
    per_position = 4 * d * d + 2 * length * d + 2 * d * wide
    assert made.multiplications == batch * length * per_position
    assert row_of(made, "linear1").multiplications == batch * length * d * wide
    assert row_of(made, "self_attn").multiplications == batch * length * (4 * d * d + 2 * length * d)


@pytest.mark.parametrize("stride, groups", [(1, 1), (2, 1), (3, 2)])
def test_transposed_convolution_multiplies_each_input_by_its_kernel(stride, groups):
    layer = nn.ConvTranspose2d(4, 6, 3, stride=stride, groups=groups)
    assert tg.summary(layer, input_size=(2, 4, 5, 7)).multiplications == 2 * 4 * 5 * 7 * (6 // groups) * 9


def test_strided_dilated_convolutions_of_every_rank():
    assert tg.summary(nn.Conv1d(3, 4, 5, stride=2), input_size=(2, 3, 21)).multiplications == 2 * 9 * 4 * 3 * 5
    assert tg.summary(nn.Conv3d(2, 3, 2, dilation=2), input_size=(1, 2, 5, 5, 5)).multiplications == 3**3 * 3 * 2 * 8


@pytest.mark.parametrize(
    "function, shapes, expected",
    [
        (tg.matmul, [(2, 3), (3, 5)], 2 * 3 * 5),
        (tg.matmul, [(4, 1, 2, 3), (7, 3, 5)], 4 * 7 * 2 * 3 * 5),
        (tg.matmul, [(3,), (3,)], 3),
        (tg.mv, [(2, 3), (3,)], 6),
        (tg.bmm, [(4, 2, 3), (4, 3, 5)], 4 * 2 * 3 * 5),
        (F.linear, [(4, 2, 3), (5, 3)], 4 * 2 * 3 * 5),
        (lambda a, b: tg.einsum("bij,bjk->bik", a, b), [(4, 2, 3), (4, 3, 5)], 4 * 2 * 3 * 5),
        (lambda a, b: tg.einsum("ij,kj->k", a, b), [(2, 3), (5, 3)], 3 * 5),
        (lambda a, b, c: tg.einsum("ij,jk,kl->il", a, b, c), [(2, 3), (3, 4), (4, 5)], 2 * 3 * 4 + 2 * 4 * 5),
        (lambda a: tg.einsum("ij->ji", a), [(2, 3)], 0),
        (F.scaled_dot_product_attention, [(2, 4, 5, 8), (2, 4, 6, 8), (2, 4, 6, 3)], 2 * 4 * 5 * 6 * (8 + 3)),
        (tg.tanh, [(5,)], 0),
        (tg.mul, [(5,), (5,)], 0),
    ],
)
def test_products(function, shapes, expected):
    tensors = [tg.randn(*shape) for shape in shapes]
    assert counted(function, *tensors) == expected
    assert counted(function, *[x.array for x in tensors]) == expected
    assert counted(function, *[x.clone().requires_grad_() for x in tensors]) == expected
    with tg.no_grad():
        assert counted(function, *tensors) == expected


def test_arrays_of_every_type_are_counted():
    a = strict.array(np.ones((2, 3)))
    assert counted(tg.matmul, a, strict.array(np.ones((3, 5)))) == 30


def test_backward_costs_twice_the_forward():
    x, w = tg.randn(4, 3, requires_grad=True), tg.randn(3, 5, requires_grad=True)
    assert counted(lambda: (x @ w).sum().backward()) == 3 * 4 * 3 * 5


def test_only_this_thread_is_counted_and_kernels_come_back():
    from tinygrad_ja.core.operator import OPERATORS

    a = tg.ones(2, 2)
    a @ a
    before = {name: dict(OPERATORS[name].kernels) for name in MULTIPLICATIONS}
    counts = []
    with pytest.raises(ZeroDivisionError), watching_products(counts.append):
        other = threading.Thread(target=lambda: a @ a)
        other.start()
        other.join()
        raise ZeroDivisionError
    assert counts == []
    for name, kernels in before.items():
        assert kernels.items() <= OPERATORS[name].kernels.items()


# ---- rows ----------------------------------------------------------------------------------------


class Tied(nn.Module):
    """An encoder and a decoder with one weight, a layer used three times, one not used, one frozen."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        self.layer = nn.Linear(4, 4)
        self.again = self.layer
        self.unused = nn.Linear(4, 2)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.output = nn.Linear(4, 11, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, ids):
        x = self.embedding(ids)
        for layer in (self.layer, self.again, self.layer):
            x = layer(x)
        return {"logits": self.output(self.frozen(x)), "hidden": (x, None)}


def test_shared_parameters_count_once_and_calls_add_up():
    made = tg.summary(Tied(), input_size=(2, 3), dtype=tg.int64)
    assert made.parameters == 11 * 4 + 20 + 10 + 20 and made.trainable == made.parameters - 20
    layer, again, unused, output = (row_of(made, name) for name in ("layer", "again", "unused", "output"))
    assert (layer.calls, layer.multiplications, layer.activation_bytes) == (3, 3 * 6 * 16, 3 * 6 * 4 * 4)
    assert (again.parameters, again.shared, again.multiplications) == (0, True, 0)
    assert (unused.calls, unused.outputs, unused.parameters) == (0, [], 10)
    assert (output.parameters, output.shared, output.multiplications) == (0, True, 6 * 44)
    assert made.rows[0].outputs == [(2, 3, 11), (2, 3, 4)]
    assert made.parameter_bytes == 4 * made.parameters


def test_columns_add_up_to_totals_at_any_depth():
    made = tg.summary(nn.Transformer(16, 2, 1, 2, 32), tg.ones(5, 2, 16), tg.ones(4, 2, 16))
    assert sum(row.parameters for row in made.rows) == made.parameters
    whole = made.table(depth=0).splitlines()
    assert len(whole) == 4 + 6 and f"{made.parameters:,}" in whole[2] and f"{made.multiplications:,}" in whole[2]
    level = made.table(depth=1).splitlines()
    assert level[3].startswith("  encoder (TransformerEncoder)") and level[4].startswith("  decoder (TransformerDecoder)")


def test_what_runs_outside_of_layers_belongs_to_the_model_itself():
    class Product(nn.Module):
        def forward(self, x):
            return x @ x

    assert row_of(tg.summary(Product(), tg.ones(3, 3)), "").multiplications == 27


def test_the_table_in_english():
    text = str(tg.summary(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), input_size=(5, 3)))
    assert text == (
        "layer         output  parameters  multiplications\n"
        "-------------------------------------------------\n"
        "Sequential    (5, 2)           -                -\n"
        "  0 (Linear)  (5, 4)          16               60\n"
        "  1 (ReLU)    (5, 4)           -                -\n"
        "  2 (Linear)  (5, 2)          10               40\n"
        "-------------------------------------------------\n"
        "parameters          26\n"
        "  trainable         26\n"
        "  not trainable      0\n"
        "multiplications    100\n"
        "parameters, MB   0.000\n"
        "activations, MB  0.000"
    )


def test_the_table_in_japanese(monkeypatch):
    monkeypatch.setenv("TINYGRAD_JA_LANG", "ja")
    lines = str(tg.summary(Tied(), tg.zeros(2, 3, dtype=tg.int64))).splitlines()
    assert lines[0].split() == ["層", "出力", "パラメータ", "乗算回数"]
    assert any(line.startswith("  again (Linear)") and "共有" in line for line in lines)
    assert any(line.startswith("  学習しない") and line.endswith(" 20") for line in lines)


# ---- the model stays as it was -------------------------------------------------------------------


class Restless(nn.Module):
    """Changes whatever a forward can change."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("count", tg.zeros(1))

    def forward(self, x):
        self.count += 1
        self.norm.running_mean.array[...] = 7.0
        self.norm.train()
        return self.norm(x) + tg.randn(3, device=x.device)


@pytest.mark.parametrize("device", ["cpu", "strict"])
def test_a_model_is_left_as_it_was(device: str) -> None:
    tg.manual_seed(0)
    model = Restless().to(device)
    model.drop.eval()
    count, expected = model.count, tg.randn(4, device=device).tolist()
    tg.manual_seed(0)
    before = {name: value.tolist() for name, value in model.state_dict().items()}
    tg.summary(model, input_size=(4, 3))
    assert {name: value.tolist() for name, value in model.state_dict().items()} == before
    assert [module.training for module in model.modules()] == [True, True, False]
    assert model.count is count and tg.randn(4, device=device).tolist() == expected
    assert all(module._hooks is None for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_a_model_is_left_as_it_was_after_a_failure():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(4, 4))
    kept = []
    model[0].register_forward_hook(lambda module, args, output: kept.append(1))
    with pytest.raises(ValueError):
        tg.summary(model, input_size=(2, 3))
    assert model.training and model[1]._hooks is None and len(model[0]._hooks.after) == 1 and not model[0]._hooks.before
    assert counted(F.linear, tg.ones(1, 2), tg.ones(3, 2)) == 6


def test_a_model_in_half_precision_gets_inputs_in_half_precision():
    made = tg.summary(nn.Linear(3, 4).half(), input_size=(2, 3))
    assert made.parameter_bytes == 32 and made.activation_bytes == 2 * 4 * 2


# ---- what is refused -----------------------------------------------------------------------------


def test_bad_arguments_are_refused():
    model = nn.Linear(3, 4)
    for args, kwargs in [((), {}), ((tg.ones(2, 3),), {"input_size": (2, 3)})]:
        with pytest.raises(ArgumentError, match="summary: input_size"):
            tg.summary(model, *args, **kwargs)
    with pytest.raises(ArgumentError, match="summary: dtype.*or 1"):
        tg.summary(model, input_size=(2, 3), dtype=[tg.float32, tg.float32])
    for size in (5, "23", (2, -3), (2, 3.0), [(2, 3), 4]):
        with pytest.raises(ArgumentError, match="summary: input_size.*a list of shapes"):
            tg.summary(model, input_size=size)
    with pytest.raises(DtypeError, match="TG-T007"):
        tg.summary(lambda x: x, input_size=(2, 3))
    with pytest.raises(ArgumentError, match="summary: model = weight, bias.*once"):
        tg.summary(nn.LazyLinear(4), input_size=(2, 3))


def test_several_inputs_and_keywords():
    class Two(nn.Module):
        def forward(self, ids, x, scale=1.0):
            return x[ids] * scale

    made = tg.summary(Two(), input_size=[(5,), (4, 3)], dtype=[tg.int64, tg.float64], scale=2.0)
    assert made.rows[0].outputs == [(5, 3)] and made.rows[0].activation_bytes == 5 * 3 * 8
    assert math.prod(tg.summary(Two(), ids=tg.zeros(2, dtype=tg.int64), x=tg.ones(4, 3)).rows[0].outputs[0]) == 6
