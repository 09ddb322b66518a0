"""Batches of dialogues."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.data import BucketBatchSampler, DataLoader, DialogueBatch, DialogueCollate
from tinygrad_ja.errors import ArgumentError


def made_up(count: int) -> list[list[list[int]]]:
    draw = np.random.default_rng(0)
    return [[draw.integers(1, 50, draw.integers(1, 12)).tolist() for _ in range(draw.integers(1, 9))] for _ in range(count)]


def test_every_token_is_at_its_place_and_all_else_is_padding():
    dialogues = made_up(5)
    batch = DialogueCollate(padding_value=-1)(dialogues)
    words = batch.words.numpy()
    for n, dialogue in enumerate(dialogues):
        for d in range(words.shape[1]):
            utterance = dialogue[d] if d < len(dialogue) else []
            assert words[: len(utterance), d, n].tolist() == utterance and (words[len(utterance) :, d, n] == -1).all()


def test_places_are_those_of_the_tokens_and_then_of_padding():
    batch = DialogueCollate()(made_up(5))
    flat, places = batch.words.flatten().numpy(), batch.places.numpy()
    count = np.count_nonzero(flat)
    assert (flat[places[:count]] != 0).all() and (flat[places[count:]] == 0).all()
    assert (
        len(set(places.tolist())) == len(places)
        and len(places) % (flat.size // 4) == 0
        and len(places) - count < flat.size // 4
    )


def test_few_shapes_occur_and_the_sampler_finds_them():
    dialogues = made_up(200)
    collate = DialogueCollate(turns=4, words=6)
    shapes = [collate.shape(dialogue) for dialogue in dialogues]
    assert set(shapes) <= {(d, t) for d in (4, 8) for t in (6, 12)}
    keys = [turns * 100 + words for turns, words in shapes]
    loader = DataLoader(dialogues, batch_sampler=BucketBatchSampler(keys, 10), collate_fn=collate)
    tg.manual_seed(0)
    batches = list(loader)
    assert all(isinstance(batch, DialogueBatch) for batch in batches)
    assert sum(int((batch.words != 0).sum()) for batch in batches) == sum(len(u) for dialogue in dialogues for u in dialogue)
    assert len({(batch.words.shape, batch.places.shape) for batch in batches}) <= 12


def test_a_dialogue_without_words_and_wrong_steps():
    assert DialogueCollate(turns=1, words=2)([[[]]]).words.tolist() == [[[0]], [[0]]]
    for arguments in ({"turns": 0}, {"words": 1.5}):
        with pytest.raises(ArgumentError, match="TG-A001"):
            DialogueCollate(**arguments)
