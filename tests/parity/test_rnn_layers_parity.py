"""Recurrent layers beside PyTorch's: packed sequences, projections, edges, dtypes, second order; and ``nn.utils.rnn``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.utils.rnn as their_rnn
from parity.test_nn_parity import array, compare, load, pair

import tinygrad_ja as tg
import tinygrad_ja.nn.utils.rnn as our_rnn

SIDES = [(tg, our_rnn), (torch, their_rnn)]
KINDS = ["RNN", "LSTM", "GRU"]
LENGTHS = {"sorted": [5, 4, 4, 1], "equal": [3, 3, 3], "unsorted": [2, 5, 1, 5], "one": [4]}


def listed(value):
    """Tensors, packed sequences and tuples of them as arrays."""
    if value is None or isinstance(value, (tuple, list)):
        return [a for part in value or () for a in listed(part)]
    return [value.detach().numpy()]


def gradients(library, y, wanted, seed=1):
    """Gradients of a random weighting of y's floating parts."""
    rng = np.random.default_rng(seed)
    total = 0
    for part in y:
        total = total + (part * library.tensor(rng.normal(size=tuple(part.shape)))).sum()
    return library.autograd.grad(total, wanted)


# ---- layers


@pytest.mark.parametrize("state", [False, True], ids=["zeros", "given"])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(
    "options",
    [{}, {"num_layers": 2, "bidirectional": True}, {"num_layers": 2, "bias": False, "batch_first": True}],
    ids=["plain", "stacked both ways", "without bias"],
)
@pytest.mark.parametrize("kind", [*KINDS, "LSTM with a projection"])
def test_packed_sequences(kind, options, lengths, state):
    name, size = kind.split()[0], {"proj_size": 3} if " " in kind else {}
    layers = pair(lambda nn: getattr(nn, name)(2, 4, **options, **size))
    n, steps = len(LENGTHS[lengths]), max(LENGTHS[lengths])
    count = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    x = array(steps, n, 2)
    states = [array(count, n, 3 if size else 4, seed=2), array(count, n, 4, seed=3)]
    found = []
    for (library, utils), layer in zip(SIDES, layers):
        given = library.tensor(x, requires_grad=True)
        packed = utils.pack_padded_sequence(given, LENGTHS[lengths], enforce_sorted=lengths != "unsorted")
        hx = [library.tensor(s, requires_grad=True) for s in states]
        held = (tuple(hx) if name == "LSTM" else hx[0],) if state else ()
        output, last = layer(packed, *held)
        assert type(output) is utils.PackedSequence
        parts = [output.data, *(last if name == "LSTM" else [last])]
        wanted = [given, *layer.parameters(), *((hx if name == "LSTM" else hx[:1]) if state else [])]
        found.append([*listed([output, last]), *listed(gradients(library, parts, wanted))])
    for mine, theirs in zip(*found, strict=True):
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-12)


PROJECTED = [{}, {"num_layers": 2, "bidirectional": True}, {"num_layers": 2, "bias": False, "batch_first": True}]


@pytest.mark.parametrize("options", PROJECTED, ids=str)
@pytest.mark.parametrize("state", [False, True], ids=["zeros", "given"])
def test_lstm_with_a_projection(options, state):
    count = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    hx = [[array(count, 3, 2, seed=2), array(count, 3, 4, seed=3)]] if state else []
    x = array(3, 5, 2) if options.get("batch_first") else array(5, 3, 2)
    compare(lambda nn: nn.LSTM(2, 4, proj_size=2, **options), x, *hx)


@pytest.mark.parametrize("batch_first", [False, True])
def test_lstm_with_a_projection_without_batch(batch_first):
    held = [array(2, 2, seed=2), array(2, 4, seed=3)]
    compare(lambda nn: nn.LSTM(2, 4, proj_size=2, num_layers=2, batch_first=batch_first), array(5, 2), held)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 3, 2), (5, 1, 2), (3, 0, 2)], ids=str)
def test_one_step_one_sequence_and_no_sequence(kind, shape):
    compare(lambda nn: getattr(nn, kind)(2, 3, bidirectional=True), array(*shape))


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_sequence(kind):
    compare(lambda nn: getattr(nn, kind)(3, 5, num_layers=2), array(300, 2, 3), tolerance=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float16", 5e-3)])
def test_smaller_dtypes(kind, dtype, tolerance):
    mine, theirs = getattr(tg.nn, kind)(3, 5, bidirectional=True), getattr(torch.nn, kind)(3, 5, bidirectional=True)
    load(mine, theirs)
    mine, theirs = mine.to(getattr(tg, dtype)), theirs.to(getattr(torch, dtype))
    x = array(6, 4, 3).astype(dtype)
    found = []
    for library, layer in ((tg, mine), (torch, theirs)):
        given = library.tensor(x, requires_grad=True)
        output, last = layer(given)
        output.sum().backward()
        found.append([*listed([output, last]), *listed([given.grad, *[p.grad for p in layer.parameters()]])])
    for a, b in zip(*found, strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, float(abs(b).max())))


@pytest.mark.parametrize("lengths", ["equal", "unsorted"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_gradients(kind, lengths):
    layers = pair(lambda nn: getattr(nn, kind)(2, 3, bidirectional=True))
    x = array(max(LENGTHS[lengths]), len(LENGTHS[lengths]), 2)
    found = []
    for (library, utils), layer in zip(SIDES, layers):
        given = library.tensor(x, requires_grad=True)
        parameters = list(layer.parameters())
        output, _ = layer(utils.pack_padded_sequence(given, LENGTHS[lengths], enforce_sorted=False))
        first = library.autograd.grad((output.data**2).sum(), [given, *parameters], create_graph=True)
        found.append(listed(gradients(library, first, [given, *parameters])))
    for mine, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-10)


def test_text_and_parameters():
    for build in (
        lambda nn: nn.LSTM(2, 4, 2, proj_size=3, bias=False, batch_first=True, dropout=0.5, bidirectional=True),
        lambda nn: nn.LSTM(2, 4, proj_size=3, bidirectional=True),
        lambda nn: nn.RNN(2, 4, 1, "relu"),
        lambda nn: nn.LSTM(2, 4, 1, True, True, 0.0, True, 2, "cpu"),
        lambda nn: nn.GRU(2, 4, 2, False, True, 0.0, True, device="cpu"),
    ):
        pair(build)


@pytest.mark.parametrize(
    "call",
    [
        lambda nn, t: nn.LSTM(3, 4, proj_size=4),
        lambda nn, t: nn.LSTM(3, 4, proj_size=-1),
        lambda nn, t: nn.LSTM(0, 4),
        lambda nn, t: nn.GRU(3, 0),
        lambda nn, t: nn.RNN(3, 4, dropout=True),
        lambda nn, t: nn.RNN(3, 4, nonlinearity="gelu"),
        lambda nn, t: nn.GRU(3, 4)(t.zeros(0, 2, 3)),
        lambda nn, t: nn.RNN(3, 4)(t.zeros(3)),
        lambda nn, t: nn.LSTM(3, 4)(t.zeros(2, 2, 4)),
        lambda nn, t: nn.GRU(3, 4)(t.zeros(2, 2, 3), t.zeros(1, 4)),
        lambda nn, t: nn.GRU(3, 4)(t.zeros(2, 3), t.zeros(1, 1, 4)),
        lambda nn, t: nn.LSTM(3, 4, proj_size=2)(t.zeros(2, 1, 3), (t.zeros(1, 1, 4), t.zeros(1, 1, 4))),
        lambda nn, t: nn.GRU(3, 4)(nn.utils.rnn.pack_sequence([t.zeros(2, 2)])),
        lambda nn, t: nn.GRU(3, 4)(nn.utils.rnn.pack_sequence([t.zeros(2, 3)]), t.zeros(1, 2, 4)),
        lambda nn, t: nn.LSTMCell(3, 4)(t.zeros(3), (t.zeros(1, 4), t.zeros(1, 4))),
        lambda nn, t: nn.LSTMCell(3, 4)(t.zeros(2, 3), (t.zeros(4), t.zeros(4))),
        lambda nn, t: nn.GRUCell(3, 4)(t.zeros(2, 3), t.zeros(4)),
        lambda nn, t: nn.RNNCell(3, 4)(t.zeros(2, 2, 3)),
        lambda nn, t: nn.GRUCell(3, 4)(t.zeros(2, 4)),
    ],
)
def test_both_refuse(call):
    errors = (ValueError, RuntimeError)
    with pytest.raises(errors):
        call(tg.nn, tg)
    with pytest.raises(errors):
        call(torch.nn, torch)


@pytest.mark.parametrize("kind", KINDS)
def test_a_dtype_that_is_not_the_layers_is_refused_by_both(kind):
    for library in (tg, torch):
        with pytest.raises((ValueError, TypeError)):
            getattr(library.nn, kind)(3, 4)(library.zeros(2, 1, 3, dtype=library.float64))


# ---- packing and padding


@pytest.mark.parametrize("trailing", [(), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_packing_and_padding_again(lengths, batch_first, trailing):
    given = LENGTHS[lengths]
    steps, n = max(given) + 1, len(given)
    x = array(*((n, steps) if batch_first else (steps, n)), *trailing)
    found = []
    for library, utils in SIDES:
        t = library.tensor(x, requires_grad=True)
        packed = utils.pack_padded_sequence(t, library.tensor(given), batch_first, enforce_sorted=lengths != "unsorted")
        padded = utils.pad_packed_sequence(packed, batch_first, padding_value=-1.5, total_length=steps + 1)
        (g,) = gradients(library, padded[:1], [t])
        found.append([*listed(packed), *listed(padded), *listed([g])])
        assert all(p is None or p.dtype == library.int64 for p in packed[1:])
    for mine, theirs in zip(*found, strict=True):
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["int64", "int32", "bool", "float16"])
def test_packing_and_padding_keep_the_dtype(dtype):
    found = []
    for library, utils in SIDES:
        parts = [library.tensor(np.arange(k) % 2).to(getattr(library, dtype)) for k in (1, 3, 2)]
        packed = utils.pack_sequence(parts, enforce_sorted=False)
        padded, lengths = utils.pad_packed_sequence(packed, padding_value=1)
        found.append([*listed(packed), *listed([padded, lengths]), *listed(utils.unpack_sequence(packed))])
    for mine, theirs in zip(*found, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("trailing", [(), (2,), (2, 1)], ids=str)
def test_padding_a_list(side, batch_first, trailing):
    parts = [array(k, *trailing, seed=k) for k in (2, 4, 0, 1)]
    found = []
    for library, utils in SIDES:
        tensors = [library.tensor(p, requires_grad=True) for p in parts]
        y = utils.pad_sequence(tensors, batch_first, 2.5, side)
        back = utils.unpad_sequence(y.detach().clone(), library.tensor([2, 4, 0, 1]), batch_first)
        found.append([*listed([y]), *listed(back), *listed(gradients(library, [y], tensors))])
    for mine, theirs in zip(*found, strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_array_equal(mine, theirs)


def test_padding_the_rows_of_a_tensor():
    np.testing.assert_array_equal(
        our_rnn.pad_sequence(tg.tensor(array(2, 3))).numpy(), their_rnn.pad_sequence(torch.tensor(array(2, 3))).numpy()
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda u, t: u.pack_padded_sequence(t.zeros(4, 3), [4, 2]),
        lambda u, t: u.pack_padded_sequence(t.zeros(4, 3), [4, 2, 0]),
        lambda u, t: u.pack_padded_sequence(t.zeros(4, 3), [2, 4, 1]),
        lambda u, t: u.pack_padded_sequence(t.zeros(4, 3), t.tensor([[4, 2, 1]])),
        lambda u, t: u.pack_padded_sequence(t.zeros(4, 0), []),
        lambda u, t: u.pack_sequence([]),
        lambda u, t: u.pack_sequence([t.zeros(2), t.zeros(3)]),
        lambda u, t: u.pack_sequence([t.zeros(2), t.zeros(0)]),
        lambda u, t: u.pad_packed_sequence(u.pack_sequence([t.zeros(4)]), total_length=3),
        lambda u, t: u.pad_sequence([]),
        lambda u, t: u.pad_sequence(3),
        lambda u, t: u.pad_sequence([t.zeros(2, 3), t.zeros(3, 2)]),
        lambda u, t: u.pad_sequence([t.zeros(())]),
        lambda u, t: u.pad_sequence([t.zeros(2)], padding_side="up"),
        lambda u, t: u.unpad_sequence(t.zeros(4, 3), t.tensor([4, 2])),
    ],
)
def test_both_refuse_to_pack(call):
    errors = (ValueError, RuntimeError)
    for library, utils in SIDES:
        with pytest.raises(errors):
            call(utils, library)


def test_conversions_of_packed_sequences():
    found = []
    for library, utils in SIDES:
        packed = utils.pack_sequence([library.ones(1), library.ones(3)], enforce_sorted=False)
        assert packed.to("cpu") is packed and packed.cpu() is packed and packed.float() is packed and not packed.is_cuda
        made = [getattr(packed, name)() for name in "double half long int short char byte".split()]
        made += [packed.to(library.float64), utils.PackedSequence((packed.data, packed.batch_sizes))]
        found.append([[str(p.dtype).removeprefix("torch.") for p in m if p is not None] for m in made])
    assert found[0] == found[1]
