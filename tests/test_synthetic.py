"""Sets without a file: right by their formula, and the same ones for the same seed."""

from __future__ import annotations

import datetime
import math

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.data import DataLoader
from tinygrad_ja.data.datasets import synthetic
from tinygrad_ja.errors import ArgumentError


def seeded(seed: int = 0) -> tg.Generator:
    return tg.Generator().manual_seed(seed)


def plain(value: object) -> object:
    """An example with its Tensors as lists, for comparison."""
    if isinstance(value, tg.Tensor):
        return value.tolist()
    if isinstance(value, (tuple, list)):
        return [plain(part) for part in value]
    return {key: plain(part) for key, part in value.items()} if isinstance(value, dict) else value


RANDOM = [
    "BinaryAddition",
    "Copy",
    "Adding",
    "Spiral",
    "Sine",
    "Shapes",
    "Additions",
    "DateStrings",
    "GrammarText",
    "TinyEnJa",
    "TableTalk",
]


@pytest.mark.parametrize("name", RANDOM)
def test_the_seed_decides_the_set(name):
    kind = getattr(synthetic, name)
    first, same, other = (kind(20, generator=seeded(seed)) for seed in (1, 1, 2))
    examples = [plain(first[i]) for i in range(len(first))]
    assert examples == [plain(same[i]) for i in range(len(same))]
    assert examples != [plain(other[i]) for i in range(len(other))]
    tg.manual_seed(3)
    by_default = plain(kind(20)[0])
    tg.manual_seed(3)
    assert plain(kind(20)[0]) == by_default


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("size", [0, -1, 2.5, "3"])
def test_a_size_that_is_none_is_refused(name, size):
    with pytest.raises(ArgumentError, match="TG-A001.*size"):
        getattr(synthetic, name)(size)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: synthetic.BinaryAddition(3, bits=63), "bits"),
        (lambda: synthetic.Copy(3, delay=0), "delay"),
        (lambda: synthetic.Adding(3, length=1), "length"),
        (lambda: synthetic.Shapes(3, side=8), "side"),
        (lambda: synthetic.BarsAndStripes(0), "side"),
        (lambda: synthetic.BarsAndStripes(40), "side"),
        (lambda: synthetic.Additions(3, digits=0), "digits"),
    ],
)
def test_other_arguments_are_checked_too(make, argument):
    with pytest.raises(ArgumentError, match=f"TG-A001.*{argument}"):
        make()


@pytest.mark.parametrize("bits", [1, 8, 62])
def test_bits_of_pairs_and_of_their_sum_fit(bits):
    data = synthetic.BinaryAddition(50, bits=bits, generator=seeded())
    x, d = (tensor.numpy().astype(int).astype(object) for tensor in data.tensors)
    weights = np.array([2**t for t in range(bits)], object)
    numbers = (x * weights[None, :, None]).sum(1)
    assert x.shape == (50, bits, 2) and d.shape == (50, bits, 1)
    assert (numbers.sum(1) == (d[:, :, 0] * weights).sum(1)).all()
    assert numbers.max() < max(2 ** (bits - 1), 1)


def test_the_pairs_are_those_of_the_binary_addition_program():
    from models.binary_addition import make_batch

    x, d = synthetic.BinaryAddition(10, generator=seeded())[3]
    numbers = [int((x[:, k].numpy() * 2 ** np.arange(8)).sum()) for k in (0, 1)]
    expected_x, expected_d = make_batch(tg.tensor([numbers[0]]), tg.tensor([numbers[1]]))
    assert (expected_x[:, 0].numpy() == x.numpy()).all() and (expected_d[:, 0].numpy() == d.numpy()).all()


def test_what_was_said_has_to_be_said_again():
    x, d = (tensor.numpy() for tensor in synthetic.Copy(30, length=5, delay=7, symbols=4, generator=seeded()).tensors)
    assert x.shape == d.shape == (30, 17)
    assert (d[:, -5:] == x[:, :5]).all() and (d[:, :-5] == 0).all()
    assert (x[:, 11] == 5).all() and (np.delete(x[:, 5:], 6, axis=1) == 0).all()
    assert set(np.unique(x[:, :5])) == {1, 2, 3, 4}


def test_the_sum_is_that_of_the_marked_numbers():
    x, y = (tensor.numpy() for tensor in synthetic.Adding(300, length=9, generator=seeded()).tensors)
    numbers, marks = x[..., 0], x[..., 1]
    assert x.shape == (300, 9, 2) and y.shape == (300, 1)
    assert (marks[:, :4].sum(1) == 1).all() and (marks[:, 4:].sum(1) == 1).all() and (marks.sum(0) > 0).all()
    assert (numbers >= 0).all() and (numbers < 1).all()
    assert np.allclose(y[:, 0], [row[mark == 1].sum() for row, mark in zip(numbers, marks)])


def test_spiral_arms_have_their_radius_and_angle():
    points, labels = (tensor.numpy() for tensor in synthetic.Spiral(50, noise=0.0).tensors)
    for arm in range(3):
        own = points[labels == arm]
        radius = np.arange(50) / 50
        assert np.allclose(np.hypot(own[:, 0], own[:, 1]), radius, atol=1e-6)
        assert np.allclose(own[:, 0], radius * np.sin(4 * arm + 4 * radius), atol=1e-6)


def test_sine_is_one_step_ahead():
    wave = synthetic.Sine(99, period=20.0, noise=0.0)
    x, following = wave[7]
    assert x.item() == pytest.approx(math.sin(2 * math.pi * 7 / 20), abs=1e-6)
    assert following.item() == pytest.approx(math.sin(2 * math.pi * 8 / 20), abs=1e-6)
    noisy = synthetic.Sine(5000, noise=0.1, generator=seeded()).values.numpy()
    assert np.std(noisy - np.sin(2 * np.pi * np.arange(5001) / 25)) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("side", [1, 2, 4, 5])
def test_bars_and_stripes_are_all_there_once(side):
    pictures, labels = (tensor.numpy() for tensor in synthetic.BarsAndStripes(side).tensors)
    assert len(pictures) == 2 * 2**side - 2
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    for picture, label in zip(pictures[:, 0], labels):
        assert (picture == picture[:1]).all() if label == 0 else (picture == picture[:, :1]).all()


def test_boxes_hold_their_masks_and_masks_do_not_overlap():
    data = synthetic.Shapes(60, side=48, objects=4, generator=seeded())
    seen = set()
    for image, target in (data[i] for i in range(len(data))):
        masks, boxes = target["masks"].numpy(), target["boxes"].numpy()
        assert image.shape == (3, 48, 48) and image.dtype == tg.uint8 and masks.sum(0).max() == 1
        assert 1 <= len(boxes) == len(masks) == len(target["labels"]) <= 4
        for mask, (left, top, right, bottom), label in zip(masks, boxes.astype(int), target["labels"].tolist()):
            rows, columns = np.nonzero(mask)
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (left, top, right, bottom)
            share = mask.sum() / ((right - left) * (bottom - top))
            assert share == pytest.approx({1: math.pi / 4, 2: 1.0, 3: 0.5}[label], abs=0.09)
            assert image.numpy()[:, mask].min() >= 100 and image.numpy()[:, ~masks.any(0)].max() < 50
            seen.add(label)
    assert seen == {1, 2, 3}


def test_shapes_take_transforms_and_a_change_to_an_example_stays_there():
    data = synthetic.Shapes(
        2, transform=lambda image: image / 255, transforms=lambda i, t: (i, t["labels"]), generator=seeded()
    )
    image, labels = data[0]
    assert image.dtype == tg.float32 and labels.dtype == tg.int64
    plain_data = synthetic.Shapes(1, generator=seeded())
    plain_data[0][0].numpy()[...] = 0
    assert plain_data[0][0].numpy().max() > 0


def test_sums_are_right():
    data = synthetic.Additions(200, digits=3, generator=seeded())
    for question, answer in data:
        first, second = question.split("+")
        assert int(first) + int(second) == int(answer)
        assert len(question) <= data.widths[0] and len(answer) <= data.widths[1]


def test_dates_are_read_back_by_pythons_library():
    data = synthetic.DateStrings(400, generator=seeded())
    forms = set()
    for question, answer in data:
        day = datetime.date.fromisoformat(answer)
        for form in ("%m/%d/%y", "%b %d, %Y", "%B %d, %Y", "%A, %B %d, %Y"):
            try:
                read = datetime.datetime.strptime(question, form).date()
            except ValueError:
                continue
            assert (read.month, read.day, read.year % 100) == (day.month, day.day, day.year % 100)
            forms.add(form)
            break
        else:
            raise AssertionError(question)
        assert len(question) <= data.widths[0] and 1970 <= day.year <= 2017
    assert len(forms) == 4


def test_every_sentence_has_its_translation_once():
    pairs = list(synthetic.TinyEnJa(generator=seeded()))
    assert len(pairs) == len(set(pairs)) == len({english for english, _ in pairs}) == 960
    for english, japanese in pairs:
        assert ("n't" in english) == japanese.endswith(("せ ん 。", "あ り ま せ ん 。"))
        assert ("dog" in english) == ("犬" in japanese) and ("red" in english) == ("赤 い" in japanese)


def test_the_grammar_derives_sentences_with_one_end():
    data = synthetic.GrammarText(300, generator=seeded())
    assert data.text == "".join(line + "\n" for line in data)
    assert all(line.endswith(" .") and line.count(" .") == 1 for line in data)
    assert 25 < len(set(data.text.split())) < 40


def test_sets_go_into_a_loader():
    x, d = next(iter(DataLoader(synthetic.BinaryAddition(64, generator=seeded()), batch_size=32, shuffle=True)))
    assert x.shape == (32, 8, 2) and d.shape == (32, 8, 1)
    questions, _ = next(iter(DataLoader(synthetic.Additions(8, generator=seeded()), batch_size=4)))
    assert len(questions) == 4


def test_a_conversation_about_a_table_repeats_what_the_user_wants():
    for dialogue in synthetic.TableTalk(30, generator=seeded()):
        texts = [turn.text for turn in dialogue.turns]
        assert len(texts) in (4, 6) and [turn.speaker for turn in dialogue.turns] == list("USUSUS")[: len(texts)]
        (food,) = [word for word in ("Thai", "French", "Chinese", "Korean") if word in texts[0]]
        assert food in texts[3] and any(city in texts[0] and city in texts[3] for city in ("Osaka", "Kyoto", "Nara", "Kobe"))
