"""What batches of sentence pairs promise."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
import tinygrad_ja.testing.strict  # registers the stand-in for CuPy
from tinygrad_ja.data.text import Vocabulary, pair_batch, pair_loader
from tinygrad_ja.errors import ArgumentError
from tinygrad_ja.nn.utils.rnn import pad_packed_sequence

PAIRS = [(list("ab"), list("x")), (list("abca"), list("xyz")), (list("c"), list("zzzzz")), (list("bb"), [])]
SOURCE, TARGET = (Vocabulary([pair[side] for pair in PAIRS]) for side in (0, 1))


@pytest.mark.parametrize("device", ["cpu", "strict"])
@pytest.mark.parametrize("multiple", [1, 4])
def test_a_batch_holds_the_pairs(multiple, device):
    batch, order = pair_batch(PAIRS, SOURCE, TARGET, multiple, device)
    assert order == [1, 0, 3, 2]  # the longest first, equal ones as they stood
    padded, lengths = pad_packed_sequence(batch.source)
    assert lengths.tolist() == [4, 2, 2, 1]
    assert [SOURCE.decode(row) for row in padded.cpu().T] == [PAIRS[i][0] for i in order]
    assert batch.given.shape == batch.answer.shape == ((6, 4) if multiple == 1 else (9, 4))
    for column, i in enumerate(order):
        words = TARGET.encode(PAIRS[i][1])
        rest = [TARGET.pad] * (len(batch.given) - len(words) - 1)
        assert batch.answer[:, column].tolist() == [*words, TARGET.eos, *rest]
        given = batch.given[:, column].tolist()
        assert given[: len(words) + 1] == [TARGET.bos, *words]


def many(count=200):
    random = np.random.default_rng(0)
    return [(["a"] * int(s), ["x"] * int(t)) for s, t in zip(random.integers(1, 6, count), random.integers(0, 9, count))]


def test_every_pair_comes_once_an_epoch_and_shapes_are_few():
    pairs = many()
    loader = pair_loader(pairs, SOURCE, TARGET, 10, shuffle=True)
    tg.manual_seed(0)
    epochs = [[(tuple(batch.source.batch_sizes.tolist()), tuple(batch.given.shape)) for batch in loader] for _ in range(3)]
    assert len(epochs[0]) == len(loader) == 20
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])  # cut at the same places
    assert epochs[0] != epochs[1]  # in another order
    words = sum(int((batch.answer != TARGET.pad).sum().item()) for batch in loader)
    assert words == sum(len(y) + 1 for _, y in pairs)
    padded = sum(batch.answer.numel() for batch in pair_loader(pairs, SOURCE, TARGET, 10, multiple=1))
    assert words <= padded < 1.3 * words  # 1.7 in any order


def test_the_seed_decides_what_comes_together():
    def first(seed):
        tg.manual_seed(seed)
        return next(
            iter(pair_loader([(["a"], [letter]) for letter in "xyz" * 9], SOURCE, TARGET, 5, shuffle=True))
        ).given.tolist()

    assert first(1) == first(1) != first(2)


def test_a_senseless_multiple_is_refused():
    with pytest.raises(ArgumentError, match="multiple"):
        pair_batch(PAIRS, SOURCE, TARGET, 0)
