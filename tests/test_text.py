"""Vocabularies and their files, pairs for word2vec, hidden words for masked language models."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_ja as tg
from tinygrad_ja import nn
from tinygrad_ja.data.text import (
    Vocabulary,
    cbow_windows,
    keep_probabilities,
    mask_tokens,
    skipgram_pairs,
    subsample,
)
from tinygrad_ja.errors import ArgumentError, DtypeError, ShapeError, StateError
from tinygrad_ja.testing import strict

SENTENCES = [["b", "a", "c", "a"], ["a", "b", "d", "<unk>"], ["ほ", "ほ"]]


def seeded(seed: int = 0) -> tg.Generator:
    return tg.Generator().manual_seed(seed)


# ---- numbers


def test_special_tokens_come_first_then_the_most_frequent():
    vocabulary = Vocabulary(SENTENCES)
    assert vocabulary.tokens == ("<pad>", "<unk>", "<bos>", "<eos>", "a", "b", "ほ", "c", "d")
    assert vocabulary.counts == [0, 1, 0, 0, 3, 2, 2, 1, 1]
    assert (vocabulary.pad, vocabulary.unk, vocabulary.bos, vocabulary.eos) == (0, 1, 2, 3)


def test_rare_tokens_are_unknown_and_counted():
    vocabulary = Vocabulary(SENTENCES, min_count=2)
    assert vocabulary.tokens[4:] == ("a", "b", "ほ") and vocabulary.counts == [0, 3, 0, 0, 3, 2, 2]
    small = Vocabulary(SENTENCES, max_size=5)
    assert small.tokens[4:] == ("a",) and len(small) == 5 and sum(small.counts) == 10
    assert small["zebra"] == small.unk and "zebra" not in small and "a" in small


def test_counts_make_the_vocabulary_that_their_texts_make() -> None:
    texts = [["a", "b", "a", "c"], ["c", "a", "<eos>"]]
    counts = {"c": 2, "<eos>": 1, "b": 1, "a": 3}
    for options in ({}, {"min_count": 2}, {"max_size": 6}):
        made, expected = Vocabulary.from_counts(counts, **options), Vocabulary(texts, **options)
        assert made.tokens == expected.tokens and list(made.counts) == list(expected.counts)
    with pytest.raises(ArgumentError):
        Vocabulary.from_counts({"a": 1}, max_size=2)


def test_special_tokens_have_names_of_ones_own():
    vocabulary = Vocabulary(SENTENCES, specials={"eos": "</s>", "mask": "[M]", "unk": "?"})
    assert vocabulary.tokens[:3] == ("</s>", "[M]", "?") and vocabulary.special("mask") == 1
    assert vocabulary.encode(["a", "x"], eos=True) == [vocabulary["a"], 2, 0]
    for call in (lambda: vocabulary.pad, lambda: vocabulary.encode([], bos=True), lambda: vocabulary.encode_batch([["a"]])):
        with pytest.raises(ArgumentError, match="no special token"):
            call()
    plain = Vocabulary(SENTENCES, specials={})
    assert plain.encode(["a", "b"]) == [0, 1] and plain.decode([1, 0]) == ["b", "a"]
    with pytest.raises(ArgumentError, match="'zebra' is not in the vocabulary"):
        plain.encode(["zebra"])


def test_a_sentence_ends_at_its_end():
    vocabulary = Vocabulary(SENTENCES)
    a, b = vocabulary["a"], vocabulary["b"]
    assert vocabulary.decode([2, a, 1, 0, b, 3, a, 0]) == ["a", "<unk>", "b"]
    assert vocabulary.decode([2, a, 3, 0], keep_specials=True) == ["<bos>", "a", "<eos>", "<pad>"]
    for numbers in (np.array([a, b]), tg.tensor([a, b]), tg.tensor([a, b], device="strict"), (a, b)):
        assert vocabulary.decode(numbers) == ["a", "b"]
    assert vocabulary.decode([]) == []


@given(st.lists(st.lists(st.text(max_size=4).filter(lambda t: not t.startswith("<")), max_size=6), max_size=6))
def test_known_words_come_back_and_the_order_of_texts_does_not_matter(sentences):
    vocabulary = Vocabulary(sentences)
    for sentence in sentences:
        assert vocabulary.decode(vocabulary.encode(sentence, bos=True, eos=True)) == sentence
    assert Vocabulary(reversed(sentences)) == vocabulary
    assert vocabulary.counts[4:] == sorted(vocabulary.counts[4:], reverse=True)


def test_a_batch_is_what_packing_takes():
    vocabulary = Vocabulary(SENTENCES)
    numbers, lengths = vocabulary.encode_batch(SENTENCES, bos=True, eos=True)
    assert numbers.shape == (6, 3) and numbers.dtype == tg.int64 and lengths.tolist() == [6, 6, 4]
    rows = [vocabulary.encode(sentence, True, True) for sentence in SENTENCES]
    expected = nn.utils.rnn.pad_sequence([tg.tensor(row) for row in rows], padding_value=vocabulary.pad)
    assert (numbers == expected).all()
    packed = nn.utils.rnn.pack_padded_sequence(numbers, lengths, enforce_sorted=False)
    assert len(packed.data) == 16
    back, _ = nn.utils.rnn.pad_packed_sequence(packed)
    assert (back == numbers).all()
    short, lengths = vocabulary.encode_batch(SENTENCES, eos=True, max_length=3, batch_first=True)
    assert short.tolist() == [[vocabulary[token] for token in row[:2]] + [3] for row in SENTENCES]
    assert lengths.tolist() == [3, 3, 3]
    empty, none = vocabulary.encode_batch([])
    assert empty.shape == (0, 0) and none.shape == (0,)
    assert vocabulary.encode_batch([["a"]], device="strict")[0].device.type == "strict"


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: Vocabulary(["a sentence"]), ArgumentError),
        (lambda: Vocabulary([[1, 2]]), ArgumentError),
        (lambda: Vocabulary([1, 2]), ArgumentError),
        (lambda: Vocabulary(SENTENCES, specials=["<pad>"]), ArgumentError),
        (lambda: Vocabulary([["\ud800"]]), ArgumentError),
        (lambda: Vocabulary(SENTENCES, max_size=3), ArgumentError),
        (lambda: Vocabulary(SENTENCES, specials={"pad": "x", "unk": "x"}), ArgumentError),
        (lambda: Vocabulary(SENTENCES, specials={"pad": ""}), ArgumentError),
        (lambda: Vocabulary(SENTENCES).encode("abc"), ArgumentError),
        (lambda: Vocabulary(SENTENCES).encode_batch(["abc"]), ArgumentError),
        (lambda: Vocabulary(SENTENCES).encode_batch([["a"]], bos=True, eos=True, max_length=1), ArgumentError),
        (lambda: Vocabulary(SENTENCES).decode([99]), ArgumentError),
        (lambda: Vocabulary(SENTENCES).decode([-1]), ArgumentError),
        (lambda: Vocabulary(SENTENCES).decode([[1]]), ShapeError),
        (lambda: Vocabulary(SENTENCES).decode([0.5]), ShapeError),
        (lambda: Vocabulary(SENTENCES).special("mask"), ArgumentError),
    ],
)
def test_wrong_use_explains_itself(call, kind):
    with pytest.raises(kind, match="Fix:"):
        call()


# ---- files


def test_a_vocabulary_comes_back_as_it_was(tmp_path):
    vocabulary = Vocabulary([*SENTENCES, ['"', "\\", "\u2028", "", "猫"]], specials={"unk": "?", "mask": "[M]"})
    vocabulary.save(tmp_path / "words.json")
    assert Vocabulary.load(tmp_path / "words.json") == vocabulary
    assert [path.name for path in tmp_path.iterdir()] == ["words.json"]
    assert "猫" in (tmp_path / "words.json").read_text(encoding="utf-8")  # a reader can read it


GOOD = {
    "format": "tinygrad_ja vocabulary 1",
    "specials": {"pad": "<pad>", "unk": "<unk>"},
    "tokens": ["a", "b"],
    "counts": [0, 1, 3, 2],
}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"format": "tinygrad_ja vocabulary 2"}, "format"),
        ({"specials": []}, "specials"),
        ({"specials": {"pad": 3}}, "specials"),
        ({"specials": {"pad": "", "unk": "u"}}, "special"),
        ({"specials": {"pad": "x", "unk": "x"}}, "twice"),
        ({"specials": {"pad": "a", "unk": "u"}}, "among the others"),
        ({"tokens": "ab"}, "tokens"),
        ({"tokens": ["a", 1]}, "tokens"),
        ({"tokens": ["a", "a"]}, "twice"),
        ({"tokens": ["a", "\ud800"]}, "half a character"),
        ({"counts": [0, 1, 2]}, "count"),
        ({"counts": [0, 1, 2, -1]}, "count"),
        ({"counts": [0, 1, 2, 1.5]}, "count"),
        ({"counts": [0, 1, 2, True]}, "count"),
        ({"counts": [0, 1, 2, 2**63]}, "count"),
        ({"counts": None}, "count"),
    ],
)
def test_a_wrong_value_is_named(tmp_path, change, fault):
    (tmp_path / "words.json").write_text(json.dumps({**GOOD, **change}), encoding="utf-8")
    with pytest.raises(StateError, match=rf"TG-F005.*words\.json.*{fault}"):
        Vocabulary.load(tmp_path / "words.json")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"format": "tinygrad_ja vocabulary 1"',
        b"[" * 200_000,
        b'{"a": ' * 100_000,
        b'{"format": "tinygrad_ja vocabulary 1", "format": "x"}',
        json.dumps(GOOD).replace("3", "NaN").encode(),
        json.dumps(GOOD).replace("3", "1" * 10_000).encode(),
        json.dumps(GOOD).encode("utf-16"),
    ],
    ids=range(11),
)
def test_what_is_no_vocabulary_is_refused(tmp_path, content):
    (tmp_path / "words.json").write_bytes(content)
    with pytest.raises(StateError, match=r"TG-F005.*words\.json"):
        Vocabulary.load(tmp_path / "words.json")


def test_files_that_are_cut_or_changed_load_right_or_not_at_all(tmp_path):
    path = tmp_path / "words.json"
    vocabulary = Vocabulary(SENTENCES)
    vocabulary.save(path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(1500):
        damaged = bytearray(whole[: rng.integers(0, len(whole) + 1)] if rng.random() < 0.3 else whole)
        for place in rng.integers(0, max(len(damaged), 1), rng.integers(0, 4)):
            if damaged:
                damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            loaded = Vocabulary.load(path)
        except StateError as failure:
            assert "words.json" in str(failure)
        else:
            assert len(loaded.tokens) == len(set(loaded.tokens)) == len(loaded.counts)


def test_a_file_above_the_limit_is_not_read(tmp_path):
    Vocabulary(SENTENCES).save(tmp_path / "words.json")
    with pytest.raises(StateError, match="TG-F008"):
        Vocabulary.load(tmp_path / "words.json", max_bytes=10)
    with pytest.raises(FileNotFoundError):
        Vocabulary.load(tmp_path / "none.json")
    with pytest.raises(StateError, match="TG-F005"):
        Vocabulary.load(tmp_path)


# ---- word2vec


@given(st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=4), st.integers(1, 4))
def test_pairs_and_windows_are_those_of_the_loops(sentences, window):
    pairs, windows, filled = [], [], []
    for sentence in sentences:
        for i, centre in enumerate(sentence):
            around = [i + k for k in range(-window, window + 1) if k]
            pairs += [(centre, sentence[j]) for j in around if 0 <= j < len(sentence)]
            row = [sentence[j] if 0 <= j < len(sentence) else -7 for j in around]
            filled.append((row, centre))
            if -7 not in row:
                windows.append((row, centre))
    centres, contexts = skipgram_pairs(sentences, window)
    assert list(zip(centres.tolist(), contexts.tolist())) == pairs
    contexts, centres = cbow_windows(sentences, window)
    assert list(zip(contexts.tolist(), centres.tolist())) == windows
    contexts, centres = cbow_windows(sentences, window, pad=-7)
    assert list(zip(contexts.tolist(), centres.tolist())) == filled
    assert contexts.dtype == centres.dtype == tg.int64


def test_smaller_windows_make_near_words_count_more():
    words = np.arange(3000)
    centres, contexts = skipgram_pairs(words, 4, dynamic=True, generator=seeded())
    away = np.abs(centres.numpy() - contexts.numpy())
    share = np.bincount(away, minlength=5)[1:] / 6000
    np.testing.assert_allclose(share, [1.0, 0.75, 0.5, 0.25], atol=0.03)
    again = skipgram_pairs(tg.tensor(words), 4, dynamic=True, generator=seeded())
    assert (again[0] == centres).all() and (again[1] == contexts).all()


def test_frequent_words_are_thinned_out():
    counts = np.array([90_000, 9_000, 1_000])
    share = keep_probabilities(counts, 0.04)
    np.testing.assert_allclose(share, [math.sqrt(0.04 / 0.9), math.sqrt(0.04 / 0.09), 1.0])
    words = np.repeat(np.arange(3), counts)
    kept = subsample(words, counts, 0.04, generator=seeded())
    np.testing.assert_allclose(np.bincount(kept.numpy()) / counts, share, atol=0.01)
    assert keep_probabilities([0, 5], 1e-5)[0] == 1.0


def test_a_vocabulary_feeds_negative_sampling():
    vocabulary = Vocabulary(SENTENCES)
    layer = nn.NegativeSampling(4, vocabulary.counts, num_negatives=3)
    drawn = set(layer.sample((500,)).tolist())
    assert drawn == {number for number, count in enumerate(vocabulary.counts) if count}


# ---- masking


def masked_vocabulary() -> Vocabulary:
    words = [[f"w{i}" for i in range(100)]]
    return Vocabulary(words, specials={"pad": "<pad>", "unk": "<unk>", "mask": "<mask>"})


def test_chosen_words_are_hidden_in_the_three_ways():
    vocabulary = masked_vocabulary()
    x = np.random.default_rng(0).integers(0, len(vocabulary), (300, 200))
    masked, labels = mask_tokens(x, vocabulary, generator=seeded())
    ordinary, chosen = x >= 3, labels != -100
    assert not (chosen & ~ordinary).any() and (labels[chosen] == x[chosen]).all() and (masked[~chosen] == x[~chosen]).all()
    assert abs(chosen.sum() / ordinary.sum() - 0.15) < 0.01
    hidden = masked[chosen] == vocabulary.special("mask")
    same = masked[chosen] == x[chosen]
    assert abs(hidden.mean() - 0.8) < 0.02
    assert abs(same.mean() - (0.1 + 0.1 / 100)) < 0.01  # one random word in a hundred is the word itself
    other = masked[chosen][~hidden & ~same]
    assert other.min() >= 3 and len(set(other.tolist())) == 100


def test_masking_is_the_same_on_every_device():
    vocabulary = masked_vocabulary()
    x = np.arange(60).reshape(6, 10)
    on_host = mask_tokens(x, vocabulary, 0.5, generator=seeded())
    with strict.watch() as events:
        on_device = mask_tokens(tg.tensor(x, device="strict"), vocabulary, 0.5, generator=seeded())
    assert not [event for event in events if event.kind == "d2h"]
    for host, device in zip(on_host, on_device):
        assert (strict.peek(device.array) == host).all() and device.dtype == host.dtype == np.int64


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: mask_tokens(np.zeros(3), masked_vocabulary()), DtypeError),
        (lambda: mask_tokens(np.arange(3), Vocabulary(SENTENCES)), ArgumentError),
        (lambda: mask_tokens(np.arange(3), masked_vocabulary(), 1.5), ArgumentError),
        (lambda: mask_tokens(np.arange(3), Vocabulary([], specials={"mask": "m"})), ArgumentError),
        (lambda: skipgram_pairs([1, 2], 0), ArgumentError),
        (lambda: skipgram_pairs([0.5], 1), ArgumentError),
        (lambda: cbow_windows(["ab"], 1), ArgumentError),
        (lambda: keep_probabilities([0, 0]), ArgumentError),
        (lambda: subsample([5], [1, 2]), ArgumentError),
    ],
)
def test_wrong_use_of_the_helpers_of_models_explains_itself(call, kind):
    with pytest.raises(kind, match="Fix:"):
        call()


def test_thinned_sentences_stay_sentences_and_their_windows_can_be_drawn() -> None:
    sentences = [[0, 1, 1, 0], [], [1, 1], [0]]
    seeded = [tg.Generator().manual_seed(3) for _ in range(2)]
    thinned = subsample(sentences, [3, 997], threshold=0.3, generator=seeded[0])
    flat = subsample([0, 1, 1, 0, 1, 1, 0], [3, 997], threshold=0.3, generator=seeded[1])
    assert [word for part in thinned for word in part.tolist()] == flat.tolist()
    assert [part.tolist().count(0) for part in thinned] == [2, 0, 0, 1]

    whole, _ = cbow_windows([list(range(9))], 3, pad=-1)
    drawn, centres = cbow_windows([list(range(9))], 3, pad=-1, dynamic=True, generator=tg.Generator().manual_seed(0))
    reach = (drawn[:, 3:].numpy() >= 0).sum(1)
    assert centres.tolist() == list(range(9)) and set(reach[:6].tolist()) > {1}
    for row, full, near in zip(drawn.tolist(), whole.tolist(), reach.tolist()):
        inner = slice(3 - near, 3 + near)
        assert row[3:] == [*full[3 : 3 + near], *[-1] * (3 - near)] if near else True
        assert row[inner] == full[inner]
    with pytest.raises(ArgumentError, match="dynamic"):
        cbow_windows([1, 2, 3], 1, dynamic=True)
