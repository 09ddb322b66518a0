"""The data sets by name: counts, shapes and first examples, against their descriptions and independent parsers.

Needs the files: set TINYGRAD_JA_DATA to the folder that has them (laid out as docs/datasets.md says).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import pickle
import re
import shutil
import tarfile
import tracemalloc
import wave
import zipfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import tinygrad_ja as tg
from tinygrad_ja.data import DataLoader, PadCollate, datasets
from tinygrad_ja.data.datasets import checksum
from tinygrad_ja.errors import ArgumentError, StateError

HERE = Path(os.environ.get("TINYGRAD_JA_DATA", "none"))
pytestmark = pytest.mark.skipif(
    "TINYGRAD_JA_DATA" not in os.environ,
    reason="needs the data sets: set TINYGRAD_JA_DATA to the folder that has them",
)


@pytest.fixture(autouse=True)
def no_downloads(monkeypatch, tmp_path):
    """Nothing is fetched, and nothing comes from a cache."""
    monkeypatch.setenv("TINYGRAD_JA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tinygrad_ja.data.datasets.download.receive", None)


# ---- all of them


@pytest.mark.parametrize("name", datasets.DATASETS)
def test_every_file_has_the_size_and_the_checksum_on_its_card(name):
    card = datasets.DATASETS[name].card
    for file in card.files:
        path = HERE / card.folder / file.path
        checksum.check_stored(path, file)
        if path.is_dir():
            size = sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
        elif path.name.endswith((".zip", ".tar.gz")):
            size = file.size
        else:
            size = len(gzip.decompress(path.read_bytes())) if path.suffix == ".gz" else path.stat().st_size
        assert size == file.size


def plain_sets() -> list[str]:
    """Those of which no file is a folder or is stored compressed."""
    suffixes = {name: {Path(file.path).suffix for file in kind.card.files} for name, kind in datasets.DATASETS.items()}
    return [name for name, found in suffixes.items() if not found & {"", ".gz", ".zip"}]


@pytest.mark.parametrize("name", plain_sets())
def test_plain_checksums_are_those_of_the_description(name):
    """SOURCE.txt beside the files lists their SHA-256."""
    card = datasets.DATASETS[name].card
    listed = dict(re.findall(r"([0-9a-f]{64}) (\S+)", (HERE / card.folder / "SOURCE.txt").read_text(encoding="utf-8")))
    plain = {path: digest for digest, path in listed.items()}
    assert all(file.sha256 == plain[file.path] for file in card.files)


@pytest.mark.parametrize("name", datasets.DATASETS)
def test_every_set_says_what_it_is_and_can_be_indexed_from_both_ends(name):
    kind = datasets.DATASETS[name]
    data = kind()
    assert len(data) > 0 and kind.__doc__ and "icence" in kind.__doc__
    assert all(kind.card.about) and all(kind.card.licence) and kind.card.source.startswith("https://")
    assert str(len(data)) in repr(data)
    data[0], data[-1]
    with pytest.raises(IndexError):
        data[len(data)]


@pytest.mark.parametrize("name", ["mnist", "fsdd", "bccd", "go", "dates", "novels"])
def test_a_set_can_be_sent_to_another_process(name):
    data = datasets.DATASETS[name]()
    copy = pickle.loads(pickle.dumps(data))
    assert len(copy) == len(data) and str(copy[3]) == str(data[3])


@pytest.mark.parametrize("name", [name for name in datasets.DATASETS if name not in ("mnist", "novels", "sst")])
def test_a_transform_sees_what_the_example_would_be(name):
    kind = datasets.DATASETS[name]
    changed = kind(transform=lambda value: ("seen", value))[0]
    assert "seen" in (changed[0], changed[0][0])


@pytest.mark.parametrize(
    "make",
    [
        lambda: datasets.FSDD(split="validation"),
        lambda: datasets.BCCD(split="../train"),
        lambda: datasets.Nuclei(split=3),
        lambda: datasets.Novels("ulysses"),
        lambda: datasets.Addition(split="dev"),
        lambda: datasets.SmallParallelEnJa().vocabulary("fr"),
    ],
)
def test_a_part_that_does_not_exist_is_refused_with_those_that_do(make):
    with pytest.raises(ArgumentError, match="TG-A001.*one of"):
        make()


# ---- one by one


@pytest.mark.parametrize(("train", "count", "first"), [(True, 60_000, [5, 0, 4, 1, 9]), (False, 10_000, [7, 2, 1, 0, 4])])
def test_mnist_is_what_its_bytes_say(train, count, first):
    data = datasets.MNIST(train=train)
    part = "train" if train else "t10k"
    raw = gzip.decompress((HERE / f"mnist/{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((HERE / f"mnist/{part}-labels-idx1-ubyte.gz").read_bytes())
    assert len(data) == count and data.targets[:5].tolist() == first
    assert data.data.numpy().tobytes() == raw[16:] and data.targets.numpy().astype(np.uint8).tobytes() == labels[8:]
    image, label = data[2]
    assert image.shape == (1, 28, 28) and image.dtype == tg.uint8 and label == first[2]
    assert image.numpy().tobytes() == raw[16 + 2 * 784 : 16 + 3 * 784]


def test_mnist_batches_are_taken_at_once_and_equal_the_examples():
    data = datasets.MNIST(train=False)
    images, labels = next(iter(DataLoader(data, batch_size=64)))
    assert images.shape == (64, 1, 28, 28) and images.dtype == tg.uint8 and labels.dtype == tg.int64
    for k in (0, 63):
        assert (images[k].numpy() == data[k][0].numpy()).all() and labels[k].item() == data[k][1]
    scaled = datasets.MNIST(train=False, transform=lambda image: image / 255, target_transform=lambda label: -label)
    images, labels = next(iter(DataLoader(scaled, batch_size=3)))
    assert images.dtype == tg.float32 and labels.tolist() == [-7, -2, -1]


def test_mnist_is_read_into_its_array_without_a_copy():
    tracemalloc.start()
    try:
        data = datasets.MNIST()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.1 * data.data.nbytes


def test_images_and_labels_that_do_not_fit_are_refused(tmp_path):
    shutil.copytree(HERE / "mnist", tmp_path / "mnist")
    shutil.copy(HERE / "mnist/t10k-labels-idx1-ubyte.gz", tmp_path / "mnist/train-labels-idx1-ubyte.gz")
    with pytest.raises(StateError, match="TG-F005.*do not fit together"):
        datasets.MNIST(tmp_path)
    with pytest.raises(StateError, match="TG-F007.*train-labels"):
        datasets.MNIST(tmp_path, verify=True)


def test_spoken_digits_are_what_pythons_library_reads():
    train, test = datasets.FSDD(), datasets.FSDD(split="test")
    assert (len(train), len(test)) == (2700, 300)
    assert Counter(test.targets) == dict.fromkeys(range(10), 30) and len(set(train.speakers)) == 6
    with tarfile.open(HERE / "fsdd/recordings.tar.gz") as file:
        name = f"recordings/{test.targets[0]}_{test.speakers[0]}_0.wav"
        with wave.open(io.BytesIO(file.extractfile(name).read())) as sound:
            expected = np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / 32768
            assert sound.getframerate() == train.rate
    waveform, label = test[0]
    assert label == 0 and waveform.dtype == tg.float32 and (waveform.numpy() == expected[None].astype(np.float32)).all()


def test_cells_have_the_boxes_of_an_independent_parser_and_of_the_table():
    counts = {"train": 205, "val": 87, "trainval": 292, "test": 72}
    sets = {split: datasets.BCCD(split=split) for split in counts}
    assert {split: len(data) for split, data in sets.items()} == counts
    found = Counter(label for split in ("trainval", "test") for _, labels in sets[split]._targets for label in labels.tolist())
    assert sum(found.values()) == 4155 + 372 + 361 - 2  # two boxes have no area
    assert found[2] == 372
    name = sets["test"].names[0]
    image, target = sets["test"][0]
    assert image.shape == (3, 480, 640) and image.dtype == tg.uint8
    root = ElementTree.parse(HERE / f"bccd/Annotations/{name}.xml").getroot()
    boxes = [
        [float(one.find(f"bndbox/{side}").text) for side in ("xmin", "ymin", "xmax", "ymax")] for one in root.iter("object")
    ]
    labels = [datasets.BCCD.classes.index(one.find("name").text) for one in root.iter("object")]
    assert target["boxes"].tolist() == boxes and target["labels"].tolist() == labels
    with open(HERE / "bccd/test.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["filename"] == f"{name}.jpg"]
    table = {(row["cell_type"], *(float(row[side]) for side in ("xmin", "ymin", "xmax", "ymax"))) for row in rows}
    assert {(datasets.BCCD.classes[label], *box) for label, box in zip(labels, boxes)} <= table
    images, target = datasets.BCCD(transforms=lambda image, target: (image / 255, target["labels"]))[0]
    assert images.dtype == tg.float32 and target.dtype == tg.int64


def test_nuclei_have_a_map_of_instances():
    Image = pytest.importorskip("PIL.Image")
    sets = {split: datasets.Nuclei(split=split) for split in ("train", "test", "all")}
    assert {split: len(data) for split, data in sets.items()} == {"train": 268, "test": 66, "all": 334}
    assert sorted(sets["train"].names + sets["test"].names) == sets["all"].names
    image, labels = sets["all"][0]
    assert image.shape == (1, 256, 256) and labels.shape == (256, 256) and labels.dtype == tg.int64
    name = sets["all"].names[0]
    assert (image[0].numpy() == np.array(Image.open(HERE / "nuclei_dsb2018/images" / name))).all()
    assert (labels.numpy() == np.array(Image.open(HERE / "nuclei_dsb2018/labels" / name))).all()


@pytest.mark.slow
def test_there_are_9543_nuclei():
    data = datasets.Nuclei(split="all")
    assert sum(int(labels.max().item()) for _, labels in (data[i] for i in range(len(data)))) == 9543


def test_sentences_come_in_pairs_with_their_vocabulary():
    assert {split: len(datasets.SmallParallelEnJa(split=split)) for split in ("train", "dev", "test")} == {
        "train": 50_000,
        "dev": 500,
        "test": 500,
    }
    data = datasets.SmallParallelEnJa()
    assert data[0] == ("i can 't tell who will arrive first .", "誰 が 一番 に 着 く か 私 に は 分か り ま せ ん 。")
    words = data.vocabulary("en", "all")
    assert words[:3] == ["<unk>", "<s>", "</s>"] and set(words[3:]) == {
        word for english, _ in data for word in english.split(" ")
    }
    assert len(data.vocabulary("ja")) == 4096


def test_sums_are_right_and_dates_are_dates():
    sums = datasets.Addition(split="all")
    assert len(sums) == 50_000 and sums[0] == ("16+75", "91")
    assert all(sum(map(int, question.split("+"))) == int(answer) for question, answer in sums)
    dates = datasets.Dates()
    assert (
        dates[0] == ("september 27, 1994", "1994-09-27") and len(dates) == 45_000 and len(datasets.Dates(split="test")) == 5_000
    )
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", answer) for _, answer in dates)
    lines = (HERE / "dlfs2_seq/date.txt").read_text(encoding="utf-8").splitlines()
    width = datasets.Dates.widths[0]
    assert [line[:width].rstrip() for line in lines[:9]] == [question for question, _ in dates][:9]


def test_texts_are_whole_and_their_parts_make_the_whole():
    whole = (HERE / "tinyshakespeare/input.txt").read_text(encoding="utf-8")
    assert len(whole) == 1_115_394
    parts = [datasets.TinyShakespeare(split=split).text for split in ("train", "valid", "test")]
    assert "".join(parts) == whole == datasets.TinyShakespeare(split="all").text
    assert datasets.TinyShakespeare()[0] == "First Citizen:"
    sizes = {title: len(datasets.Novels(title).text) for title in datasets.Novels.titles}
    assert list(sizes.values()) == [3207384, 1794735, 1215756, 757220, 684768, 562331]
    for split, tokens in (("valid", 217_646), ("test", 245_569)):  # the usual counts, with an end for every line
        assert sum(len(line.split()) + 1 for line in datasets.WikiText2(split=split)) == tokens


def test_words_have_their_analogies_and_similarities():
    questions = datasets.Analogies()
    assert len(questions) == 19_544 and len(questions.sections) == 14
    assert questions[0] == ("Athens", "Greece", "Baghdad", "Iraq")
    assert questions.sections["capital-common-countries"] == range(506)
    assert list(questions.sections.values())[-1].stop == 19_544
    pairs = datasets.WordSim353()
    with open(HERE / "word_eval/wordsim353/combined.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert [list(map(str, pair[:2])) for pair in pairs] == [row[:2] for row in rows] and len(pairs) == 353
    assert [pair[2] for pair in pairs] == [float(row[2]) for row in rows]


def test_sentiment_trees_have_all_their_nodes():
    for split, trees, nodes in (("train", 8544, 318_582), ("dev", 1101, 41_447), ("test", 2210, 82_600)):
        data = datasets.SentimentTrees(split=split)
        assert len(data) == trees and sum(len(tree.labels) for tree in data) == nodes
    text = (HERE / "sst_trees/test.txt").read_text(encoding="utf-8").split("\n")
    assert [tree.words for tree in data] == [re.findall(r" ([^() ]+)\)", line) for line in text if line]
    assert all(int(tree.labels[-1]) == int(line[1]) for tree, line in zip(data, text))
    assert data[0].words[:4] == ["Effective", "but", "too-tepid", "biopic"]


def test_dialogues_are_the_lines_of_their_file():
    assert [len(datasets.SchemaGuidedDialogues(split=split)) for split in ("train", "dev", "test")] == [5000, 500, 500]
    data = datasets.SchemaGuidedDialogues(split="dev")
    with gzip.open(HERE / "dialogue/sgd/dev.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert [one.id for one in data] == [row["id"] for row in rows]
    assert [list(map(list, one.turns)) for one in data] == [row["turns"] for row in rows]
    assert data[0].turns[0].speaker == "U" and data[0].turns[0].text.startswith("I want to make a restaurant reservation")


@pytest.mark.parametrize(
    ("kind", "file", "count"),
    [(datasets.AirPassengers, "AirPassengers.csv", 144), (datasets.Sunspots, "sunspot.month.csv", 3310)],
)
def test_series_are_the_columns_of_their_table(kind, file, count):
    data = kind()
    with open(HERE / "timeseries" / file, newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(data) == len(rows) == count
    assert data.values.tolist() == [np.float32(row["value"]) for row in rows]
    assert data.time.tolist() == [float(row["time"]) for row in rows]
    assert data[1] == (data.time[1].item(), data.values[1].item())


def test_games_have_the_moves_of_a_simple_parser():
    sets = {split: datasets.GoGames(split=split) for split in ("train", "test", "all")}
    assert {split: len(data) for split, data in sets.items()} == {"train": 3276, "test": 363, "all": 3639}
    with zipfile.ZipFile(HERE / "go_sgf/fox_pro_even_19x19.zip") as file:
        texts = {name: file.read(name).decode() for name in file.namelist()}
    assert sum(len(re.findall(r";[BW]\[", text)) for text in texts.values()) == 725_809
    for index in range(0, 3639, 200):
        game = sets["all"][index]
        moves = re.findall(r";([BW])\[([a-s]{2})\]", texts[sets["all"].names[index]])
        expected = [(colour, (ord(point[0]) - 97, ord(point[1]) - 97)) for colour, point in moves]
        assert game.moves == expected and game.size == 19 and game.handicap == 0


def test_sequences_of_several_lengths_go_into_a_loader():
    collate = PadCollate(batch_first=True, dim=-1)
    (waveforms, lengths), labels = next(iter(DataLoader(datasets.FSDD(split="test"), batch_size=4, collate_fn=collate)))
    assert waveforms.shape == (4, 1, max(lengths.tolist())) and labels.shape == (4,)
