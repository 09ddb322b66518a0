"""BPTTLoader: streams side by side whose pieces follow each other, targets one step ahead, and resuming between any two pieces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.data import BPTTLoader
from tinygrad_ja.errors import ArgumentError, DtypeError, ShapeError, StateError
from tinygrad_ja.testing import strict


@given(
    length=st.integers(2, 60),
    batch_size=st.integers(1, 6),
    bptt=st.integers(1, 9),
    batch_first=st.booleans(),
    drop_last=st.booleans(),
)
def test_each_row_reads_its_part_of_the_stream_and_predicts_the_next_element(length, batch_size, bptt, batch_first, drop_last):
    steps = (length - 1) // batch_size
    if steps < 1:
        with pytest.raises(ArgumentError, match=f"at least {batch_size + 1} elements"):
            BPTTLoader(np.arange(length), batch_size, bptt)
        return
    loader = BPTTLoader(np.arange(length), batch_size, bptt, batch_first=batch_first, drop_last=drop_last)
    pieces = list(loader)
    assert len(pieces) == len(loader) == (steps // bptt if drop_last else -(-steps // bptt))
    t = 0
    for x, y in pieces:
        x, y = (x, y) if batch_first else (x.T, y.T)
        here = min(bptt, steps - t)
        assert x.tolist() == [[n * steps + t + i for i in range(here)] for n in range(batch_size)]
        assert y.tolist() == (x + 1).tolist()
        t += here
    assert list(map(str, loader)) == list(map(str, pieces))  # the next pass is the same


def test_vectors_keep_their_axes():
    x, y = next(iter(BPTTLoader(tg.arange(40.0).reshape(20, 2), 3, 4)))
    assert x.shape == y.shape == (4, 3, 2) and (y - x).tolist() == np.full((4, 3, 2), 2.0).tolist()
    assert x.dtype == tg.float32


def model():
    tg.manual_seed(0)
    return nn.Embedding(7, 4), nn.RNN(4, 5), nn.Linear(5, 7)


def loss_of(layers, x, y, state):
    embedding, rnn, read = layers
    z, state = rnn(embedding(x), state)
    return nn.functional.cross_entropy(read(z).reshape(-1, 7), y.reshape(-1)), state


def trained(layers, pieces, state=None):
    optimizer = tg.optim.SGD([p for layer in layers for p in layer.parameters()], lr=0.1)
    losses = []
    for x, y in pieces:
        loss, state = loss_of(layers, x, y, nn.detach_state(state))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, state


STREAM = np.random.default_rng(0).integers(0, 7, 100)


def test_carrying_the_state_over_the_pieces_is_truncated_bptt_of_the_whole():
    loader = BPTTLoader(STREAM, 4, 5)
    losses, last = trained(model(), loader)
    layers = model()
    optimizer = tg.optim.SGD([p for layer in layers for p in layer.parameters()], lr=0.1)
    same = []
    for loss, _ in nn.truncated_bptt(lambda x, y, state: loss_of(layers, x, y, state), loader.sequence, loader.bptt):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        same.append(loss.item())
    assert losses == same and len(losses) == len(loader) and last.shape == (1, 4, 5)


def test_forward_values_do_not_depend_on_the_length_of_the_pieces():
    layers = model()
    with tg.no_grad():
        for bptt in (1, 3, 24):
            total, state = 0.0, None
            for x, y in BPTTLoader(STREAM, 4, bptt):
                loss, state = loss_of(layers, x, y, state)
                total += loss.item() * len(x)
            assert total / 24 == pytest.approx(loss_of(layers, *BPTTLoader(STREAM, 4, 24).sequence, None)[0].item(), rel=1e-5)


def test_a_pass_resumes_between_any_two_pieces(tmp_path):
    whole = [x.tolist() for x, _ in BPTTLoader(STREAM, 4, 5)]
    for stop in range(len(whole) + 1):
        first = BPTTLoader(STREAM, 4, 5)
        iterator = iter(first)
        for _ in range(stop):
            next(iterator)
        tg.save(first.state_dict(), tmp_path / "state")
        second = BPTTLoader(STREAM, 4, 5)
        second.load_state_dict(tg.load(tmp_path / "state"))
        assert second.state_dict() == first.state_dict()
        assert [x.tolist() for x, _ in second] == whole[stop:]
        assert [x.tolist() for x, _ in second] == whole


@pytest.mark.parametrize(
    "state", [None, {}, {"batches": 7, "length": 5}, {"batches": 0, "length": 6}, {"batches": "1", "length": 5}]
)
def test_states_that_do_not_fit_are_refused(state):
    with pytest.raises(StateError, match="BPTTLoader"):
        BPTTLoader(STREAM, 4, 5).load_state_dict(state)


def test_pieces_are_moved_to_a_device():
    x, y = next(iter(BPTTLoader(STREAM, 4, 5, device=strict.STRICT.name)))
    assert x.device == y.device == strict.STRICT.name


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (["a", "b"], DtypeError),
        ([[1], [2, 3]], DtypeError),
        (None, DtypeError),
        (np.array(1), ShapeError),
        ([], ArgumentError),
        ([1], ArgumentError),
    ],
)
def test_what_is_no_stream_is_refused(stream, kind):
    with pytest.raises(kind, match="BPTTLoader"):
        BPTTLoader(stream, 1, 1)


@pytest.mark.parametrize(("batch_size", "bptt"), [(0, 1), (1, 0), (1.0, 1), (1, True)])
def test_sizes_below_one_are_refused(batch_size, bptt):
    with pytest.raises(ArgumentError, match="an int above 0"):
        BPTTLoader(STREAM, batch_size, bptt)
