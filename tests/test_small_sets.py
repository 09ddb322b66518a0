"""The loaders of the data sets on tiny files of the same layout, whole and damaged: needs no data from outside."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from format_files import idx, pcm, png, tar_member, tarred, voc, zipped

import tinygrad_ja as tg
from tinygrad_ja.data import DataLoader, datasets
from tinygrad_ja.errors import StateError

pytest.importorskip("PIL")

IMAGES = np.arange(3 * 28 * 28, dtype=np.uint16).reshape(3, 28, 28).astype(np.uint8)
SOUND = pcm(np.arange(-20, 20)[:, np.newaxis], 16)
TAKES = [f"recordings/{digit}_ann_{number}.wav" for digit in (0, 7) for number in (0, 5)]
CELLS = voc((1, 2, 5, 6), (3, 3, 3, 3), name="WBC")
LABELS = np.zeros((8, 8), np.uint16)
LABELS[2:4, 2:5] = 300
DIALOGUE = {"id": "1_0", "services": ["Hotels_1"], "turns": [["U", "hello"], ["S", "hi"]]}
SERIES = b"rownames,time,value\n1,1949,112\n2,1949.5,118\n"

FILES: dict[str, bytes] = {
    "mnist/train-images-idx3-ubyte.gz": gzip.compress(idx(IMAGES)),
    "mnist/train-labels-idx1-ubyte.gz": gzip.compress(idx(np.array([5, 0, 4], np.uint8))),
    "fsdd/recordings.tar.gz": tarred(*(tar_member(name, len(SOUND)) for name in TAKES), content=SOUND),
    "bccd/Annotations/Blood_1.xml": CELLS,
    "bccd/ImageSets/Main/train.txt": b"Blood_1\n",
    "bccd/JPEGImages/Blood_1.jpg": png(np.zeros((10, 20, 3), np.uint8), kind="JPEG"),
    **{f"nuclei_dsb2018/images/{n}.png": png(np.full((8, 8), n, np.uint8)) for n in range(5)},
    **{f"nuclei_dsb2018/labels/{n}.png": png(LABELS) for n in range(5)},
    "small_parallel_enja/train.en": b"a dog .\na cat .\n",
    "small_parallel_enja/train.ja": "犬 。\n猫 。\n".encode(),
    "dlfs2_seq/addition.txt": b"16+75  _91  \n999+999_1998\n",
    "dlfs2_seq/date.txt": b"2/10/93                      _1993-02-10\n",
    "tinyshakespeare/input.txt": b"First Citizen:\nWe are accounted poor citizens.\n",
    "text_corpora/gutenberg/moby_dick.txt.gz": gzip.compress(b"MOBY DICK\n\nCall me Ishmael.\n"),
    "text_corpora/wikitext-2/valid.txt.gz": gzip.compress(b" \n = Title = \n"),
    "word_eval/questions-words.txt": b": capitals\nAthens Greece Oslo Norway\n: family\nboy girl king queen\nking queen boy girl\n",
    "word_eval/wordsim353/combined.csv": b"Word 1,Word 2,Human (mean)\ntiger,cat,7.35\n",
    "sst_trees/train.txt": b"(3 (2 a) (4 (2 good) (2 film)))\n",
    "dialogue/sgd/train.jsonl.gz": gzip.compress(json.dumps(DIALOGUE).encode() + b"\n"),
    "timeseries/AirPassengers.csv": SERIES,
    "timeseries/sunspot.month.csv": SERIES,
    "go_sgf/fox_pro_even_19x19.zip": zipped({f"sgf/{n}.sgf": b"(;SZ[19];B[dq];W[dd])" for n in range(3)}),
}

KINDS = {
    "mnist": datasets.MNIST,
    "fsdd": datasets.FSDD,
    "bccd": datasets.BCCD,
    "nuclei": datasets.Nuclei,
    "small_parallel_enja": datasets.SmallParallelEnJa,
    "addition": datasets.Addition,
    "dates": datasets.Dates,
    "tinyshakespeare": lambda root: datasets.TinyShakespeare(root, split="all"),
    "novels": lambda root: datasets.Novels("moby_dick", root),
    "wikitext2": datasets.WikiText2,
    "analogies": datasets.Analogies,
    "wordsim353": datasets.WordSim353,
    "sst": datasets.SentimentTrees,
    "sgd": datasets.SchemaGuidedDialogues,
    "airpassengers": datasets.AirPassengers,
    "sunspots": datasets.Sunspots,
    "go": datasets.GoGames,
}


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch, tmp_path):
    """Only ``root`` has files, and nothing is fetched."""
    monkeypatch.delenv("TINYGRAD_JA_DATA", raising=False)
    monkeypatch.setenv("TINYGRAD_JA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tinygrad_ja.data.datasets.download.SCHEMES", ())


@pytest.fixture
def root(tmp_path) -> Path:
    for name, content in FILES.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "root"


def test_every_set_has_a_tiny_one():
    assert list(KINDS) == list(datasets.DATASETS)


def test_digits(root):
    data = datasets.MNIST(root)
    image, label = data[2]
    assert len(data) == 3 and label == 4 and (image[0].numpy() == IMAGES[2]).all()
    images, labels = next(iter(DataLoader(data, batch_size=3)))
    assert (images[:, 0].numpy() == IMAGES).all() and labels.tolist() == [5, 0, 4]
    train, test = datasets.FSDD(root), datasets.FSDD(root, split="test")
    assert train.targets == test.targets == [0, 7] and train.speakers == ["ann", "ann"]
    assert np.allclose(train[1][0].numpy() * 32768, [np.arange(-20, 20)])


def test_cells(root):
    (image, target), *others = list(datasets.BCCD(root))
    assert image.shape == (3, 10, 20) and not others
    assert target["boxes"].tolist() == [[1, 2, 5, 6]] and target["labels"].tolist() == [2]
    train, test = datasets.Nuclei(root), datasets.Nuclei(root, split="test")
    assert (train.names, test.names) == (["0.png", "1.png", "2.png", "3.png"], ["4.png"])
    image, labels = test[0]
    assert image.dtype == tg.uint8 and labels.dtype == tg.int64 and sorted(set(labels.flatten().tolist())) == [0, 300]


def test_text_and_pairs(root):
    assert list(datasets.SmallParallelEnJa(root)) == [("a dog .", "犬 。"), ("a cat .", "猫 。")]
    assert list(datasets.Addition(root)) == [("16+75", "91"), ("999+999", "1998")]
    assert list(datasets.Dates(root)) == [("2/10/93", "1993-02-10")]
    assert list(datasets.TinyShakespeare(root, split="all")) == ["First Citizen:", "We are accounted poor citizens."]
    assert list(datasets.Novels("moby_dick", root)) == ["MOBY DICK", "", "Call me Ishmael."]
    assert datasets.WikiText2(root).text == " \n = Title = \n"


def test_language(root):
    questions = datasets.Analogies(root)
    assert questions[0] == ("Athens", "Greece", "Oslo", "Norway")
    assert questions.sections == {"capitals": range(1), "family": range(1, 3)}
    assert list(datasets.WordSim353(root)) == [("tiger", "cat", 7.35)]
    assert datasets.SentimentTrees(root)[0].words == ["a", "good", "film"]
    assert datasets.SchemaGuidedDialogues(root)[0] == ("1_0", ["Hotels_1"], [("U", "hello"), ("S", "hi")])


def test_sequences(root):
    assert list(datasets.AirPassengers(root)) == list(datasets.Sunspots(root)) == [(1949.0, 112.0), (1949.5, 118.0)]
    data = datasets.GoGames(root)
    assert len(data) == 3 and data[0].moves == [("B", (3, 16)), ("W", (3, 3))]


TURNS = [["A", "x"]]
DAMAGE = {
    "mnist: another file": ("mnist", "mnist/train-images-idx3-ubyte.gz", gzip.compress(idx(IMAGES[:2]))),
    "mnist: a label above 9": ("mnist", "mnist/train-labels-idx1-ubyte.gz", gzip.compress(idx(np.array([5, 0, 10], np.uint8)))),
    "mnist: floats": ("mnist", "mnist/train-images-idx3-ubyte.gz", gzip.compress(idx(IMAGES.astype("f4")))),
    "fsdd: another name": ("fsdd", "fsdd/recordings.tar.gz", tarred(tar_member("recordings/a.wav"))),
    "fsdd: no archive": ("fsdd", "fsdd/recordings.tar.gz", b"hello"),
    "fsdd: no sound": ("fsdd", "fsdd/recordings.tar.gz", tarred(*map(tar_member, TAKES))),
    "fsdd: another rate": (
        "fsdd",
        "fsdd/recordings.tar.gz",
        tarred(tar_member(TAKES[1], 46), content=pcm(np.zeros((1, 1)), 16, rate=44100)),
    ),
    "bccd: another class": ("bccd", "bccd/Annotations/Blood_1.xml", voc((1, 2, 5, 6), name="cat")),
    "bccd: a name that leads away": ("bccd", "bccd/ImageSets/Main/train.txt", b"../../secret\n"),
    "bccd: no image": ("bccd", "bccd/JPEGImages/Blood_1.jpg", b"hello"),
    "nuclei: another size": ("nuclei", "nuclei_dsb2018/labels/0.png", png(LABELS[:4])),
    "enja: a line is missing": ("small_parallel_enja", "small_parallel_enja/train.ja", "犬 。\n".encode()),
    "addition: a short line": ("addition", "dlfs2_seq/addition.txt", b"16+75_91\n"),
    "dates: no mark": ("dates", "dlfs2_seq/date.txt", b"2/10/93                       1993-02-10\n"),
    "shakespeare: not UTF-8": ("tinyshakespeare", "tinyshakespeare/input.txt", b"\xff"),
    "shakespeare: nothing": ("tinyshakespeare", "tinyshakespeare/input.txt", b""),
    "novels: blanks": ("novels", "text_corpora/gutenberg/moby_dick.txt.gz", gzip.compress(b"\n \n")),
    "wikitext2: nothing": ("wikitext2", "text_corpora/wikitext-2/valid.txt.gz", gzip.compress(b"")),
    "addition: nothing": ("addition", "dlfs2_seq/addition.txt", b""),
    "analogies: nothing": ("analogies", "word_eval/questions-words.txt", b""),
    "analogies: three words": ("analogies", "word_eval/questions-words.txt", b": a\none two three\n"),
    "analogies: no section": ("analogies", "word_eval/questions-words.txt", b"one two three four\n"),
    "similarity: no number": ("wordsim353", "word_eval/wordsim353/combined.csv", b"a,b,c\ntiger,cat,x\n"),
    "similarity: above 10": ("wordsim353", "word_eval/wordsim353/combined.csv", b"a,b,c\ntiger,cat,11\n"),
    "similarity: two columns": ("wordsim353", "word_eval/wordsim353/combined.csv", b"a,b\ntiger,cat\n"),
    "similarity: names alone": ("wordsim353", "word_eval/wordsim353/combined.csv", b"a,b,c\n"),
    "similarity: empty": ("wordsim353", "word_eval/wordsim353/combined.csv", b""),
    "trees: a bracket": ("sst", "sst_trees/train.txt", b"(3 (2 a)\n"),
    "trees: nothing": ("sst", "sst_trees/train.txt", b"\n"),
    "dialogues: nothing": ("sgd", "dialogue/sgd/train.jsonl.gz", gzip.compress(b"")),
    "dialogues: a number": ("sgd", "dialogue/sgd/train.jsonl.gz", b"3\n"),
    "dialogues: no turns": ("sgd", "dialogue/sgd/train.jsonl.gz", b'{"id": "1", "services": []}\n'),
    "dialogues: another speaker": ("sgd", "dialogue/sgd/train.jsonl.gz", json.dumps({**DIALOGUE, "turns": TURNS}).encode()),
    "dialogues: a text that is none": (
        "sgd",
        "dialogue/sgd/train.jsonl.gz",
        json.dumps({**DIALOGUE, "turns": [["U", 1]]}).encode(),
    ),
    "series: names alone": ("sunspots", "timeseries/sunspot.month.csv", b"time,value\n"),
    "series: no value": ("airpassengers", "timeseries/AirPassengers.csv", b"time\n1949\n"),
    "go: another name": ("go", "go_sgf/fox_pro_even_19x19.zip", zipped({"a.txt": b""})),
    "go: no game": ("go", "go_sgf/fox_pro_even_19x19.zip", zipped({"a.sgf": b"hello"})),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_set_is_refused_and_the_file_named(root, what):
    name, file, content = DAMAGE[what]
    (root / file).write_bytes(content)
    with pytest.raises(StateError, match="TG-F005") as caught:
        data = KINDS[name](root)
        data[0]
    assert file.rpartition("/")[2] in str(caught.value)


def test_two_files_without_a_line_are_no_pairs(root):
    for language in ("en", "ja"):
        (root / f"small_parallel_enja/train.{language}").write_bytes(b"")
    with pytest.raises(StateError, match="TG-F005.*train.en .*no example"):
        datasets.SmallParallelEnJa(root)


def test_the_test_part_of_too_few_lines_has_no_example(root):
    with pytest.raises(StateError, match="TG-F005.*addition.txt .*no example"):
        datasets.Addition(root, split="test")


@pytest.mark.parametrize("name", KINDS)
def test_a_set_that_is_nowhere_says_so(tmp_path, name):
    with pytest.raises(StateError, match="TG-F006"):
        KINDS[name](tmp_path / "elsewhere")
