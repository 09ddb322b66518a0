"""Sequences of unequal length: packing, padding, and recurrent layers over them."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the device
from tinygrad_ja import nn
from tinygrad_ja.errors import ArgumentError, ShapeError
from tinygrad_ja.nn.utils.rnn import (
    PackedSequence,
    invert_permutation,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
    unpad_sequence,
)

LAYERS = {
    "RNN": lambda **o: nn.RNN(3, 4, **o),
    "LSTM": lambda **o: nn.LSTM(3, 4, **o),
    "LSTM with a projection": lambda **o: nn.LSTM(3, 4, proj_size=2, **o),
    "peephole LSTM": lambda **o: nn.PeepholeLSTM(3, 4, **o),
    "GRU": lambda **o: nn.GRU(3, 4, **o),
    "textbook GRU": lambda **o: nn.GRU(3, 4, reset_after=False, **o),
}


def sequences(*lengths):
    rng = np.random.default_rng(0)
    return [tg.tensor(rng.normal(size=(k, 3)), requires_grad=True) for k in lengths]


def states(last):
    return list(last) if isinstance(last, tuple) else [last]


# ---- packing and padding


def test_rows_are_ordered_by_time_and_within_a_step_by_length():
    packed = pack_sequence([tg.tensor([1, 2]), tg.tensor([3, 4, 5]), tg.tensor([6])], enforce_sorted=False)
    assert packed.data.tolist() == [3, 1, 6, 4, 2, 5]
    assert packed.batch_sizes.tolist() == [3, 2, 1]
    assert packed.sorted_indices.tolist() == [1, 0, 2]
    assert packed.unsorted_indices.tolist() == [1, 0, 2]


def test_unpacking_gives_back_what_was_packed_in_its_order():
    given = sequences(2, 5, 1, 3)
    back = unpack_sequence(pack_sequence(given, enforce_sorted=False))
    assert [x.tolist() for x in back] == [x.tolist() for x in given]


def test_padding_fills_either_end():
    parts = [tg.tensor([1.0, 2.0]), tg.tensor([3.0])]
    assert pad_sequence(parts, batch_first=True, padding_value=9).tolist() == [[1, 2], [3, 9]]
    assert pad_sequence(parts, batch_first=True, padding_side="left").tolist() == [[1, 2], [0, 3]]
    assert pad_sequence(parts).tolist() == [[1, 3], [2, 0]]


def test_taking_the_padding_away_changes_nothing_in_the_padded_batch():
    padded = tg.tensor([[1, 2], [3, 0]])
    assert [x.tolist() for x in unpad_sequence(padded, [2, 1])] == [[1, 3], [2]]
    assert padded.tolist() == [[1, 2], [3, 0]]


def test_the_gradient_of_padding_is_zero():
    x = tg.ones(3, 2, requires_grad=True)
    packed = pack_padded_sequence(x, [3, 1])
    (packed.data * 5).sum().backward()
    assert x.grad.tolist() == [[5, 5], [5, 0], [5, 0]]


def test_padding_values_reach_no_gradient():
    packed = pack_sequence([tg.ones(3, requires_grad=True), tg.ones(1, requires_grad=True)])
    padded, lengths = pad_packed_sequence(packed, padding_value=float("nan"), total_length=4)
    assert lengths.tolist() == [3, 1]
    (g,) = tg.grad(padded[:1].sum(), packed.data)
    assert g.tolist() == [1, 1, 0, 0]


def test_the_inverse_of_a_permutation():
    p = tg.tensor([2, 0, 3, 1])
    assert p[invert_permutation(p)].tolist() == [0, 1, 2, 3]
    assert invert_permutation(None) is None


def test_a_packed_sequence_is_a_tuple_of_four_and_stays_one_without_history():
    packed = pack_sequence([tg.ones(2, requires_grad=True) * 2])
    data, batch_sizes, order, inverse = packed
    assert data is packed.data and batch_sizes is packed.batch_sizes and order is None and inverse is None
    cut = nn.detach_state(packed)
    assert type(cut) is PackedSequence and not cut.data.requires_grad


def test_packing_on_a_device():
    given = tg.tensor(np.arange(8.0).reshape(4, 2), device="strict")
    packed = pack_padded_sequence(given, tg.tensor([2, 4]), enforce_sorted=False)
    assert {packed.data.device.type, packed.sorted_indices.device.type} == {"strict"}
    assert packed.batch_sizes.device.type == "cpu"
    assert packed.cpu().data.tolist() == [1, 0, 3, 2, 5, 7]
    assert packed.cpu().sorted_indices.device.type == "cpu"
    padded, lengths = pad_packed_sequence(packed)
    assert padded.device.type == "strict" and lengths.tolist() == [2, 4]
    with pytest.raises(ArgumentError, match="batch_sizes"):
        PackedSequence(packed.data, packed.batch_sizes.to("strict"))
    with pytest.raises(ArgumentError, match="lengths"):
        pack_padded_sequence(given, tg.tensor([4, 2], device="strict"))


def test_what_cannot_be_packed_is_explained():
    x = tg.zeros(4, 3)
    for lengths, what in (([4, 2, 0], "1 to T = 4"), ([5, 2, 1], "1 to T = 4"), ([2, 4, 1], "enforce_sorted=False")):
        with pytest.raises(ArgumentError, match=what):
            pack_padded_sequence(x, lengths)
    for given in (x, tg.zeros(3)):
        with pytest.raises(ShapeError, match=r"\(T, N, ...\).*\(N,\)"):
            pack_padded_sequence(given, [3, 2])
    with pytest.raises(ArgumentError, match="at least 3"):
        pad_packed_sequence(pack_sequence([tg.zeros(3)]), total_length=2)
    with pytest.raises(ShapeError, match=r"\(2, 3\) and \(2, 4\)"):
        pad_sequence([tg.zeros(2, 3), tg.zeros(2, 4)])
    for given in ([], 3, [1.0]):
        with pytest.raises(ArgumentError, match="list of Tensors"):
            pad_sequence(given)
    with pytest.raises(ArgumentError, match="'right' or 'left'"):
        pad_sequence([x], padding_side="top")
    with pytest.raises(ShapeError, match="each of the 3 sequences"):
        unpad_sequence(x, [1, 2])


# ---- layers


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=["one", "stacked both ways"])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_batch_of_packed_sequences_is_each_sequence_alone(kind, options):
    layer = LAYERS[kind](**options).double()
    given = sequences(2, 5, 1, 5)
    output, last = layer(pack_sequence(given, enforce_sorted=False))
    outputs = unpack_sequence(output)
    sum((y * y).sum() for y in outputs).backward()
    together = [x.grad.numpy().copy() for x in given]
    for n, x in enumerate(given):
        x.grad = None
        alone, final = layer(x)
        np.testing.assert_allclose(outputs[n].detach().numpy(), alone.detach().numpy(), rtol=1e-12)
        for mine, theirs in zip(states(last), states(final)):
            np.testing.assert_allclose(mine[:, n].detach().numpy(), theirs.detach().numpy(), rtol=1e-12)
        (alone * alone).sum().backward()
        np.testing.assert_allclose(together[n], x.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_states_are_given_and_returned_in_the_order_of_the_batch(kind):
    layer = LAYERS[kind](bidirectional=True).double()
    given = sequences(1, 4, 2)
    rng = np.random.default_rng(1)
    hx = [tg.tensor(rng.normal(size=(2, 3, 4))) for _ in range(layer.states)]
    _, last = layer(pack_sequence(given, enforce_sorted=False), tuple(hx) if kind == "LSTM" else hx[0])
    for n, x in enumerate(given):
        held = [h[:, n] for h in hx]
        _, alone = layer(x, tuple(held) if kind == "LSTM" else held[0])
        for mine, theirs in zip(states(last), states(alone)):
            np.testing.assert_allclose(mine[:, n].detach().numpy(), theirs.detach().numpy(), rtol=1e-12)


def test_packed_sequences_of_equal_length_are_a_batch():
    layer, x = nn.LSTM(3, 4), tg.randn(5, 2, 3)
    output, _ = layer(pack_padded_sequence(x, [5, 5]))
    np.testing.assert_array_equal(pad_packed_sequence(output)[0].detach().numpy(), layer(x)[0].detach().numpy())


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_over_packed_sequences_on_a_device(kind):
    layer = LAYERS[kind](num_layers=2, bidirectional=True)
    given = [x.detach().float() for x in sequences(2, 4)]
    expected = layer(pack_sequence(given, enforce_sorted=False))[0].data.detach().numpy()
    layer.to("strict")
    output, last = layer(pack_sequence([x.to("strict") for x in given], enforce_sorted=False))
    np.testing.assert_allclose(output.data.detach().cpu().numpy(), expected, rtol=1e-5, atol=1e-6)
    (output.data.sum() + states(last)[0].sum()).backward()
    assert {p.grad.device.type for p in layer.parameters()} == {"strict"}
