"""Readers of arrays, sound, images and archives: right values, and a fault named for every file that is not what it should be."""

from __future__ import annotations

import copy
import gzip
import io
import pickle
import random
import struct
import sys
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from format_files import header, idx, pcm, png, refused, riff, tar_member, tarred, voc, written, zipped

from tinygrad_ja.data import formats
from tinygrad_ja.errors import ArgumentError, StateError

# ---- IDX and gzip


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("shape", [(5,), (2, 3), (3, 2, 2), (0, 4)])
@pytest.mark.parametrize("change", [bytes, gzip.compress])
def test_idx_gives_back_every_dtype_and_shape(tmp_path, dtype, shape, change):
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    found = formats.read_idx(written(tmp_path, "a", change(idx(array))))
    assert found.dtype == np.dtype(dtype) and found.dtype.isnative
    assert found.shape == shape and (found == array).all()
    found[...] = 0  # it can be written to


def test_an_idx_file_that_promises_what_it_does_not_hold_is_refused_before_anything_is_allocated(tmp_path):
    promise = b"\0\0\x08\x03" + struct.pack(">3I", 60_000, 1 << 12, 1 << 12)
    refused(formats.read_idx, written(tmp_path, "a.idx", promise), "header tells of")
    refused(formats.read_idx, written(tmp_path, "b.idx", gzip.compress(promise)), "header tells of")
    overflow = b"\0\0\x0e\x08" + struct.pack(">8I", *[0xFFFFFFFF] * 8)
    refused(formats.read_idx, written(tmp_path, "c.idx", overflow), "header tells of")
    nothing = b"\0\0\x08\x04" + struct.pack(">4I", 0, *[0xFFFFFFFF] * 3)
    refused(formats.read_idx, written(tmp_path, "d.idx", nothing), "TG-F005.*no array has the shape")


@pytest.mark.parametrize(
    "data",
    [b"", b"\0\0", b"\1\0\x08\x01\0\0\0\0", b"\0\0\x07\x01\0\0\0\0", b"\0\0\x08\x00", b"\0\0\x08\xff" + bytes(2000)],
    ids=["empty", "short", "start", "dtype", "no axis", "axes"],
)
def test_an_idx_header_that_is_none_is_refused(tmp_path, data):
    refused(formats.read_idx, written(tmp_path, "a.idx", data), "TG-F005.*first four bytes")


def test_idx_cut_off_or_with_something_behind_it_is_refused(tmp_path):
    whole = idx(np.arange(20, dtype=np.uint8))
    for data in (whole[:-1], whole + b"\0", whole[:7]):
        refused(formats.read_idx, written(tmp_path, "a.idx", data), "header tells of")


def gzip_with(data: bytes, declared: int) -> bytes:
    return gzip.compress(data)[:-4] + struct.pack("<I", declared)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (gzip.compress(b"x" * 1000)[:-9], "cannot hold|early|damaged|not as long"),
        (gzip_with(b"x" * 1000, 999), "left over|not as long|damaged"),
        (gzip_with(b"x" * 1000, 1001), "early|damaged"),
        (gzip_with(b"x" * 1000, 1 << 31), "cannot hold"),
        (gzip.compress(b"a" * 100) + gzip.compress(b"b" * 100), "not as long"),
        (gzip.compress(b"a" * 100) + b"\0\0\0\x64\0\0\0", "cannot hold|not as long"),
        (gzip.compress(b"a" * 100)[:20] + b"\xff" * 9 + b"\x64\0\0\0", "damaged|early"),
        (b"\x1f\x8b", "cannot hold"),
    ],
    ids=["cut", "less", "more", "bomb", "two", "tail", "damaged", "two bytes"],
)
def test_damaged_gzip_is_refused(tmp_path, data, match):
    refused(formats.read_content, written(tmp_path, "a.gz", data), match)


def test_a_gzip_checksum_that_is_wrong_is_found(tmp_path):
    data = bytearray(gzip.compress(b"text of some length"))
    data[-6] ^= 1
    refused(formats.read_content, written(tmp_path, "a.gz", bytes(data)), "damaged")


def test_a_gzip_bomb_stops_at_the_limit(tmp_path):
    bomb = gzip.compress(bytes(50_000_000))
    path = written(tmp_path, "a.gz", bomb)
    with pytest.raises(StateError, match="TG-F008.*50000000.*limit of 1000000"):
        formats.read_content(path, limit=1_000_000)
    liar = written(tmp_path, "b.gz", bomb[:-4] + struct.pack("<I", 1000))
    refused(formats.read_content, liar, "not as long")


def test_text_is_utf_8_and_lines_end_at_line_feeds_alone(tmp_path):
    path = written(tmp_path, "a.txt", "一\u2028二\r\n三\n".encode())
    assert formats.read_lines(path) == ["一\u2028二\r", "三"]
    refused(formats.read_text, written(tmp_path, "b.txt", b"ab\xff"), "byte 2 is not UTF-8")


# ---- WAV


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_wav_integers_are_what_pythons_library_wrote(tmp_path, bits, channels):
    top = 2 ** (bits - 1)
    samples = np.random.default_rng(0).integers(-top, top, (50, channels))
    samples[0], samples[1] = -top, top - 1
    sound = formats.read_wav(written(tmp_path, "a.wav", pcm(samples, bits)))
    assert (sound.rate, sound.bits, sound.samples.dtype) == (8000, bits, np.float32)
    assert (sound.samples == (samples.T / top).astype(np.float32)).all()


GUID = bytes.fromhex("000000001000800000aa00389b71")


@pytest.mark.parametrize("bits", [32, 64])
def test_wav_floats_are_read_plain_and_extensible_between_other_chunks(tmp_path, bits):
    samples = np.array([[0.5, -1.0], [0.25, 2.0]], f"<f{bits // 8}")
    data = samples.tobytes()
    plain = riff((b"LIST", b"odd"), (b"fmt ", header(3, 2, bits)), (b"fact", b"1234"), (b"data", data), (b"id3 ", b"x"))
    extension = struct.pack("<HHIH", 22, bits, 3, 3) + GUID
    extensible = riff((b"fmt ", header(0xFFFE, 2, bits) + extension), (b"data", data))
    for made in (plain, extensible):
        sound = formats.read_wav(written(tmp_path, "a.wav", made))
        assert sound.rate == 16000 and sound.samples.tolist() == samples.T.tolist()


FORMAT = (b"fmt ", header(1, 1, 16))
WRONG_SOUNDS = {
    "empty": b"",
    "other": b"RIFX" + pcm(np.zeros((2, 1)), 16)[4:],
    "cut": pcm(np.zeros((9, 1)), 16)[:-3],
    "longer": pcm(np.zeros((9, 1)), 16) + b"\0\0",
    "no data": riff(FORMAT),
    "no format": riff((b"data", b"\0\0")),
    "twice": riff(FORMAT, FORMAT, (b"data", b"\0\0")),
    "half a frame": riff(FORMAT, (b"data", b"\0\0\0")),
    "compressed": riff((b"fmt ", header(2, 1, 16)), (b"data", b"\0\0")),
    "12 bits": riff((b"fmt ", header(1, 1, 12)), (b"data", b"\0\0")),
    "no channel": riff((b"fmt ", header(1, 0, 16)), (b"data", b"\0\0")),
    "no rate": riff((b"fmt ", header(1, 1, 16, rate=0)), (b"data", b"\0\0")),
    "short header": riff((b"fmt ", b"\1\0"), (b"data", b"\0\0")),
    "chunk too long": riff(FORMAT, (b"data", b"\0\0"))[:-6] + b"\xff\xff\xff\x7f\0\0",
    "a million chunks": riff(*[(b"JUNK", b"")] * 100_000, FORMAT, (b"data", b"")),
    "not a number": riff((b"fmt ", header(3, 1, 32)), (b"data", struct.pack("<f", float("nan")))),
    "too large a number": riff((b"fmt ", header(3, 1, 64)), (b"data", struct.pack("<d", 1e300))),
}


@pytest.mark.parametrize("name", WRONG_SOUNDS)
def test_a_wrong_wav_file_is_refused(tmp_path, name):
    refused(formats.read_wav, written(tmp_path, "a.wav", WRONG_SOUNDS[name]), "TG-F005.*WAV")


# ---- images


pytest.importorskip("PIL")


RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (5, 7), np.uint8)
COLOUR = RNG.integers(0, 256, (5, 7, 3), np.uint8)


def test_images_come_as_channels_rows_columns(tmp_path):
    gray = formats.read_image(written(tmp_path, "a.png", png(GRAY)))
    assert gray.shape == (1, 5, 7) and (gray[0] == GRAY).all() and gray.dtype == np.uint8
    colour = formats.read_image(written(tmp_path, "b.png", png(COLOUR)))
    assert (colour == COLOUR.transpose(2, 0, 1)).all()
    deep = formats.read_image(written(tmp_path, "c.png", png(GRAY.astype(np.uint16) * 257)))
    assert deep.dtype == np.uint16 and (deep[0] == GRAY * np.uint16(257)).all()
    assert formats.read_image(written(tmp_path, "d.png", png(COLOUR, "P"))).shape == (3, 5, 7)
    assert set(np.unique(formats.read_image(written(tmp_path, "e.png", png(GRAY, "1"))))) <= {0, 255}
    assert formats.read_image(written(tmp_path, "f.png", png(COLOUR)), "L").shape == (1, 5, 7)
    assert formats.read_image(written(tmp_path, "g.jpg", png(COLOUR, kind="JPEG"))).shape == (3, 5, 7)


def with_size(data: bytes, width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]


JPEG = png(COLOUR, kind="JPEG")
WRONG_IMAGES = {
    "empty": b"",
    "text": b"hello",
    "cut": png(GRAY)[:-30],
    "jpeg cut": png(np.tile(COLOUR, (20, 20, 1)), kind="JPEG")[:900],
    "gif": png(GRAY, kind="GIF"),
    "too wide": with_size(png(GRAY), 5000, 6000),
    "scans": JPEG[:-2] + b"\xff\xda\0\x0c" * 200 + JPEG[-2:],
    "checksum": png(GRAY)[:40] + b"\xff\xff" + png(GRAY)[42:],
}


@pytest.mark.parametrize("name", WRONG_IMAGES)
def test_a_wrong_image_is_refused(tmp_path, name):
    refused(formats.read_image, written(tmp_path, "a.png", WRONG_IMAGES[name]), "TG-F005")


@pytest.mark.parametrize(("name", "why"), [("scans", "more than 100 scans"), ("too wide", "cannot hold 5000 x 6000 pixels")])
def test_an_image_that_would_take_long_to_decode_is_not_decoded(tmp_path, name, why):
    refused(formats.read_image, written(tmp_path, "a.png", WRONG_IMAGES[name]), why)


def test_an_image_with_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    refused(formats.read_image, written(tmp_path, "a.png", with_size(png(GRAY), 8_000, 8_000)), "TG-F008.*pixels")
    refused(formats.read_image, written(tmp_path, "b.png", with_size(png(GRAY), 60_000, 60_000)), "pixels")


def test_without_pillow_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = written(tmp_path, "a.png", png(GRAY))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ArgumentError, match="TG-A002.*Pillow"):
        formats.read_image(path)


# ---- archives


MEMBERS = {"a/b.txt": b"text" * 1000, "c": b"", "名前": bytes(range(256))}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_members_of_a_zip_are_read_in_memory(tmp_path, method):
    archive = formats.read_archive(written(tmp_path, "a.zip", zipped({**MEMBERS, "folder/": b""}, method)))
    assert dict(archive) == MEMBERS and len(archive) == 3
    assert dict(pickle.loads(pickle.dumps(archive))) == MEMBERS
    with pytest.raises(KeyError):
        archive["missing"]


def test_the_members_of_a_tar_gz_are_read_in_memory(tmp_path):
    folder = tar_member("x", kind=tarfile.DIRTYPE)
    archive = formats.read_archive(written(tmp_path, "a.tar.gz", tarred(folder, tar_member("x/y", 4), content=b"text")))
    assert dict(archive) == {"x/y": b"text"}


def with_two_names_for_one_member() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a", bytes(1000))
        file.filelist.append(copy.copy(file.getinfo("a")))
        file.filelist[1].filename = "b"
    return buffer.getvalue()


WHOLE_ZIP = zipped({"a": b"x" * 100})
WRONG_ARCHIVES = {
    "empty": b"",
    "no archive": b"hello" * 300,
    "cut": WHOLE_ZIP[:-5],
    "up": zipped({"../a": b""}),
    "up in windows": zipped({"x\\..\\..\\a": b""}),
    "absolute": zipped({"/etc/a": b""}),
    "drive": zipped({"C:/a": b""}),
    "tar up": tarred(tar_member("x/../../a")),
    "link": tarred(tar_member("a", kind=tarfile.SYMTYPE)),
    "hard link": tarred(tar_member("a", kind=tarfile.LNKTYPE)),
    "device": tarred(tar_member("a", kind=tarfile.CHRTYPE)),
    "twice": tarred(tar_member("a"), tar_member("a")),
    "rare": zipped({"a": b"x" * 100}, zipfile.ZIP_BZIP2),
    "encrypted": WHOLE_ZIP.replace(b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0"),
    "overlap": with_two_names_for_one_member(),
    "declares more": WHOLE_ZIP.replace(struct.pack("<I", 100), struct.pack("<I", 100_000_000)),
}


@pytest.mark.parametrize("name", WRONG_ARCHIVES)
def test_a_wrong_archive_is_refused(tmp_path, name):
    refused(formats.read_archive, written(tmp_path, "a", WRONG_ARCHIVES[name]), "TG-F005")


def test_a_damaged_member_is_found_when_it_is_read(tmp_path):
    data = bytearray(zipped({"a": b"some text that is long enough"}, zipfile.ZIP_STORED))
    data[40] ^= 1
    archive = formats.read_archive(written(tmp_path, "a.zip", bytes(data)))
    with pytest.raises(StateError, match="a.zip.*member 'a' is damaged"):
        archive["a"]
    less = WHOLE_ZIP.replace(struct.pack("<I", 100), struct.pack("<I", 99))
    with pytest.raises(StateError, match="member 'a' is damaged"):
        formats.read_archive(written(tmp_path, "b.zip", less))["a"]


def test_a_zip_bomb_is_refused(tmp_path):
    bomb = written(tmp_path, "a.zip", zipped({f"{n}": bytes(10_000_000) for n in range(3)}))
    with pytest.raises(StateError, match="TG-F008.*above the limit of 20000000"):
        formats.read_archive(bomb, limit=20_000_000)


# ---- all of them: mutations


SEEDS = {
    "idx": (formats.read_idx, idx(np.arange(60, dtype=np.int16).reshape(3, 4, 5))),
    "idx.gz": (formats.read_idx, gzip.compress(idx(np.arange(60, dtype=np.uint8)))),
    "wav": (formats.read_wav, pcm(np.arange(-50, 50).reshape(50, 2), 16)),
    "voc": (formats.read_voc, voc((1, 2, 5, 6), (0, 0, 20, 10))),
    "trees": (formats.read_trees, b"(3 (2 a) (4 (2 good) (2 film)))\n(2 b)\n"),
    "sgf": (formats.read_sgf, b"(;GM[1]SZ[9]AB[aa:bb]C[a\\]b];B[ee];W[cc](;B[])(;B[aa];W[dd]))"),
    "jsonl": (lambda path: list(formats.read_json_lines(path)), b'{"a": [1, 2.5, "x"]}\n[null, true]\n'),
    "csv": (formats.read_series, b'time,value\n1,2.5\n2,"3"\n'),
    "png": (formats.read_image, png(COLOUR)),
    "jpg": (formats.read_image, png(np.tile(COLOUR, (4, 4, 1)), kind="JPEG")),
    "zip": (lambda path: dict(formats.read_archive(path)), zipped(MEMBERS)),
    "tar.gz": (
        lambda path: dict(formats.read_archive(path)),
        tarred(tar_member("a", 4), tar_member("b/c", 4), content=b"text"),
    ),
}


def mutated(data: bytes, draw: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 8])):
        at = draw.randrange(len(made) + 1)
        made[at : at + draw.choice([0, 1, 1, 1, 4, 20])] = draw.randbytes(draw.choice([0, 1, 1, 1, 4, 20]))
    return bytes(made[: draw.randrange(len(made) + 1)]) if draw.random() < 0.1 else bytes(made)


@pytest.mark.parametrize("name", SEEDS)
def test_a_mutated_file_is_read_or_refused_by_name(tmp_path, name):
    read, seed = SEEDS[name]
    draw = random.Random(0)
    read(written(tmp_path, "whole", seed))
    for number in range(150):
        path = written(tmp_path, f"file{number}", mutated(seed, draw))
        try:
            read(path)
        except StateError as failure:
            assert str(path) in str(failure), failure
